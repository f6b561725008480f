/** `mdmesh examine`: a member's superblock as `mdadm --examine` prints it, and the mesh area below; with or without an agent. */
import { resolve } from 'node:path';
import type { Disk, MeshHeader } from '../md/driver.ts';
import { withAddon } from '../one_binary.ts';
import { AgentAbsent } from './agent_client.ts';
import type { Context } from './context.ts';
import { sameDevice } from './devices.ts';
import { Failure, textOf } from './failure.ts';
import type { Spoken } from './requests.ts';

export async function examine(context: Context, devices: string[], options: Spoken): Promise<number> {
  const { terminal } = context;
  const look = await looker(context);
  const found: Disk[] = [];
  let trouble = 0;
  for (const device of devices) {
    try {
      const disk = await look(device);
      if (disk.problem !== null) {
        terminal.err(`mdmesh: ${device}: ${disk.problem}\n`);
        trouble = 1;
      }
      found.push(disk);
      if (options.json) continue;
      if (disk.superblock === null) {
        throw new Failure(`${device}: no md superblock (v1.2) on it; mdadm --examine ${device} knows other formats`);
      }
      const { examineText } = await import('../md/examine_text.ts');
      terminal.out(examineText({ ...disk, path: device }));
      terminal.out(meshText(disk.mesh));
    } catch (error) {
      terminal.err(`mdmesh: ${textOf(error)}\n`);
      trouble = 1;
    }
  }
  if (options.json) terminal.out(`${JSON.stringify(found)}\n`);
  return trouble;
}

/** The agent's scan where it runs; else the driver itself, which only reads here. */
async function looker(context: Context): Promise<(device: string) => Promise<Disk>> {
  try {
    const disks = await (await context.agent()).disks();
    return async (device) => {
      const disk = disks.find((each) => sameDevice(each.path, device));
      if (disk !== undefined) return disk;
      throw new Failure(`${device}: the agent sees no such disk; is it there, and does arrays.devices cover it?`);
    };
  } catch (error) {
    if (!(error instanceof AgentAbsent)) throw error;
    return lookByItself();
  }
}

/** The driver's way of reading a disk, without a driver: nothing is watched, guarded or written. */
async function lookByItself(): Promise<(device: string) => Promise<Disk>> {
  const { loadNative } = await import('../md/native.ts');
  const { Disks } = await import('../md/real_disks.ts');
  const native = withAddon(loadNative);
  const disks = new Disks(
    [],
    (paths) => native.readFiles(paths),
    (path, offsetBytes, lengthBytes) => native.readDirect(path, offsetBytes, lengthBytes),
  );
  return (device) => disks.examine(resolve(device));
}

export function meshText(mesh: MeshHeader | null): string {
  if (mesh === null) return '\n     Mesh Area : none (not owned by a mesh)\n';
  const { record } = mesh;
  const lines: string[] = [''];
  const field = (name: string, value: string) => lines.push(`${name.padStart(15)} : ${value}`);
  const owner = record.owner === null ? '' : ` (node ${record.owner})`;
  const node = (id: number) => `node ${id}`;
  field('Mesh Area', `${mesh.nodeSlots} node slots`);
  field('Cluster Name', mesh.clusterName);
  field('Cluster UUID', mesh.clusterUuid);
  field('Md Device', record.md);
  field('Access', `${record.access}${owner}`);
  field('Run', record.run);
  field('Commit', `term ${record.version.term}, index ${record.version.index}`);
  field('Writers', record.writers.map(node).join(', ') || 'none');
  field(
    'Resync',
    record.resync === null ? 'none' : `from sector ${record.resync.fromSector} by node ${record.resync.by}`,
  );
  return `${lines.join('\n')}\n`;
}
