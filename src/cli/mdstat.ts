/**
 * `mdmesh mdstat`: the cluster's arrays as /proc/mdstat shows a machine's own, the same on every node, whoever copies. The
 * layout is that of md_seq_show and status_resync (drivers/md/md.c) and of each level's status function, so that what reads
 * one reads the other.
 */
import { realpathSync } from 'node:fs';
import { basename } from 'node:path';
import { arraySectors } from '../arrays/levels.ts';
import type { ArrayRecord, MemberRecord } from '../arrays/record.ts';
import type { ArrayStatus, Status } from '../outlets/index.ts';
import { slotPicture, slotsInSync } from './array_condition.ts';
import type { Context } from './context.ts';
import { bar, copyJson, copyOf, minutesText, percentText } from './copy_progress.ts';
import type { Spoken } from './requests.ts';

export async function mdstat(context: Context, options: Spoken): Promise<number> {
  const seen = await (await context.agent()).status();
  context.terminal.out(options.json ? `${JSON.stringify(mdstatJson(seen))}\n` : mdstatText(seen));
  return 0;
}

/** Those that are started, by number: a stopped array is no array to the kernel. */
function started({ arrays }: Status): ArrayStatus[] {
  const number = ({ record }: ArrayStatus) => Number(record.md.slice('md'.length));
  return arrays.filter(({ record }) => record.run === 'started').sort((a, b) => number(a) - number(b));
}

/** Whether it runs: here, or on the one other node that owns it. */
function isActive({ record, local }: ArrayStatus, self: number): boolean {
  return local !== null || (record.owner !== null && record.owner !== self);
}

export function mdstatText(seen: Status): string {
  const arrays = started(seen);
  const levels = [...new Set(arrays.map(({ record }) => record.level))];
  return [
    `Personalities : ${levels.map((level) => `[${level}] `).join('')}\n`,
    ...arrays.map((array) => arrayText(array, seen.self)),
    'unused devices: <none>\n',
  ].join('');
}

function arrayText(array: ArrayStatus, self: number): string {
  const { record } = array;
  const members = membersOf(array).map(({ device, number, role }) => ` ${device}[${number}]${marks[role] ?? ''}`);
  const name = `${record.md} : ${stateText(array, self)}${members.join('')}\n`;
  if (!isActive(array, self)) {
    const sectors = record.members
      .filter(({ role }) => role !== 'faulty')
      .reduce((sum, { dataSizeSectors }) => sum + dataSizeSectors, 0);
    return `${name}      ${Math.floor(sectors / 2)} blocks super external:mdmesh\n       \n`;
  }
  const copy = copyText(array);
  return [
    name,
    `      ${Math.floor(arraySectors(record) / 2)} blocks super external:mdmesh${levelText(record)}\n`,
    // md leaves the place for a bitmap's line empty, and every reader expects the line.
    ...(copy === null ? [] : [`      ${copy}\n`]),
    '      \n',
  ].join('');
}

function stateText(array: ArrayStatus, self: number): string {
  if (!isActive(array, self)) return 'inactive';
  const here = array.local?.arrayState;
  const readOnly = here === 'readonly' ? ' (read-only)' : here === 'read-auto' ? ' (auto-read-only)' : '';
  return `${here === 'broken' ? 'broken' : 'active'}${readOnly} ${array.record.level}`;
}

/** Spares and faulty ones alone have one: a member that is being rebuilt has a slot already. */
const marks: Readonly<Partial<Record<MemberRecord['role'], string>>> = { faulty: '(F)', spare: '(S)' };

/** In the order of their numbers: md's own order tells only when each was bound on one node. */
function membersOf(array: ArrayStatus): { device: string; number: number; role: MemberRecord['role'] }[] {
  return array.record.members
    .toSorted((a, b) => a.devNumber - b.devNumber)
    .map(({ uuid, devNumber, role }) => ({ device: kernelName(array, uuid), number: devNumber, role }));
}

/** `sdb`; `missing`, mdadm's word, when this node has no disk for it. */
function kernelName({ local, paths }: ArrayStatus, uuid: string): string {
  const bound = local?.members.find((member) => member.uuid === uuid)?.device;
  if (bound !== undefined) return bound;
  const path = paths[uuid];
  if (path === undefined) return 'missing';
  try {
    return basename(realpathSync(path));
  } catch {
    return basename(path);
  }
}

/** What each level says of itself behind the size: linear_status, raid0_status, raid1_status, raid5_status, raid10_status. */
function levelText(record: ArrayRecord): string {
  const { level, layout, raidDisks } = record;
  const chunkKib = Math.floor(record.chunkSectors / 2);
  const slots = ` [${raidDisks}/${slotsInSync(record).size}] ${slotPicture(record)}`;
  switch (level) {
    case 'linear':
      return ` ${chunkKib}k rounding`;
    case 'raid0':
      return ` ${chunkKib}k chunks`;
    case 'raid1':
      return slots;
    case 'raid4':
    case 'raid5':
    case 'raid6':
      return ` level ${level.slice('raid'.length)}, ${chunkKib}k chunk, algorithm ${layout}${slots}`;
    case 'raid10': {
      const near = layout & 0xff;
      const far = (layout >> 8) & 0xff;
      // Bits 17 and 18: far copies stay within sets of devices (setup_geo).
      const setSize = [raidDisks, Math.floor(raidDisks / far), Math.floor(raidDisks / far) * near][layout >> 17];
      const farText = far > 1 ? ` ${far} ${layout & 0x10000 ? 'offset' : 'far'}-copies` : '';
      const setText = far > 1 && setSize !== undefined && setSize !== raidDisks ? ` ${setSize} devices per set` : '';
      const chunks = near < raidDisks ? ` ${chunkKib}K chunks` : '';
      return `${chunks}${near > 1 ? ` ${near} near-copies` : ''}${farText}${setText}${slots}`;
    }
  }
}

function copyText(array: ArrayStatus): string | null {
  const copy = copyOf(array);
  if (copy === null) return null;
  // md's word for what is to be made and is not being made; it knows none for a recovery or check that somebody halted.
  if (copy.progress === null || copy.state !== 'running') return '\tresync=PENDING';
  const { doneSectors, totalSectors, perMille } = copy.progress;
  const action = copy.kind === 'repair' ? 'resync' : copy.kind;
  const percent = percentText(perMille).padStart(5);
  const blocks = `(${Math.floor(doneSectors / 2)}/${Math.floor(totalSectors / 2)})`;
  // Before the first speed is known the kernel takes 32 sectors a second for its divisor.
  const finish = copy.finishSeconds ?? Math.floor((totalSectors - doneSectors) / 32);
  const pace = `finish=${minutesText(finish)}min speed=${copy.kibPerSecond ?? 0}K/sec`;
  return `${bar(perMille)}  ${action} =${percent}% ${blocks} ${pace}`;
}

/** The same for machines; sizes in bytes. */
function mdstatJson(seen: Status): object {
  return {
    arrays: started(seen).map((array) => {
      const { record, mismatchSectors } = array;
      const copy = copyOf(array);
      return {
        md: record.md,
        uuid: record.uuid,
        active: isActive(array, seen.self),
        level: record.level,
        sizeBytes: arraySectors(record) * 512,
        raidDisks: record.raidDisks,
        inSync: slotsInSync(record).size,
        slots: slotPicture(record),
        members: membersOf(array),
        copy: copy === null ? null : copyJson(copy),
        mismatchSectors,
      };
    }),
  };
}
