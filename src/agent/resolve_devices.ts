/**
 * What a person typed, made into what another node can find: member UUIDs and disk contents instead of this node's paths.
 */
import { activeMembers } from '../arrays/levels.ts';
import type { ArrayRecord } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import type { Disk, MdDriver } from '../md/driver.ts';
import type { Request, ResolvedDevice } from '../wire/messages.ts';
import type { DiskView } from './disk_view.ts';

export function findArray(records: readonly ArrayRecord[], word: string): ArrayRecord | null {
  const md = word.replace(/^\/dev\//, '').replace(/^md\//, '');
  return records.find((record) => record.md === md || record.uuid === word || record.name === word) ?? null;
}

function devicesOf(request: Request): readonly string[] {
  switch (request.verb) {
    case 'create':
      return request.devices;
    case 'fail':
    case 'remove':
    case 'add':
      return [request.device];
    case 'replace':
      return request.with === null ? [request.device] : [request.device, request.with];
    default:
      return [];
  }
}

/** @param md kernel name of the array that it is asked for, if it has one */
function inUseText({ holders, problem }: Disk, md: string | undefined): string {
  // What is wrong with it says what to name instead: of several paths the map over them.
  if (problem !== null && holders.every((holder) => holder.startsWith('dm-'))) return problem;
  if (md === undefined || !holders.includes(md)) return `in use by ${holders.join(', ')}; stop that first`;
  return `${md} has it still, as a member or as one that has failed; take that out first, as with \`mdmesh manage ${md} --remove failed\``;
}

async function resolve(
  driver: MdDriver,
  disks: DiskView,
  path: string,
  content: boolean,
  md: string | undefined,
): Promise<ResolvedDevice> {
  // A member that has failed may not be readable any more: what the last scan saw of it is enough to name it.
  for (const [uuid, known] of disks.paths) {
    if (!content && (known === path || uuid === path)) {
      return { path, memberUuid: uuid, sizeSectors: 0, digest: '', blank: false };
    }
  }
  const disk = await driver.examine(path);
  const memberUuid = disk.superblock?.deviceUuid ?? null;
  if (!content) return { path, memberUuid, sizeSectors: disk.sizeSectors, digest: '', blank: false };
  // As it is now: the last scan may have seen an array on it that has been stopped since.
  if (disk.holders.length > 0) throw new Error(inUseText(disk, md));
  const { sizeSectors, digest, blank } = await driver.fingerprint(path);
  return { path, memberUuid, sizeSectors, digest, blank };
}

export interface ResolvedRequest {
  request: Request;
  devices: ResolvedDevice[];
}

/** The request with each device resolved; or words about the first that cannot be. */
export async function resolveDevices(
  driver: MdDriver,
  disks: DiskView,
  records: readonly ArrayRecord[],
  request: Request,
): Promise<ResolvedRequest | { error: string }> {
  const content = request.verb === 'create' || request.verb === 'add';
  const devices: ResolvedDevice[] = [];
  const array = 'array' in request && request.array !== null ? findArray(records, request.array) : null;
  for (const path of devicesOf(request)) {
    // A disk that is gone can still be named by its UUID.
    if (!content && records.some((record) => record.members.some((member) => member.uuid === path))) {
      devices.push({ path, memberUuid: path, sizeSectors: 0, digest: '', blank: false });
      continue;
    }
    try {
      devices.push(await resolve(driver, disks, path, content, array?.md));
    } catch (error) {
      const members =
        array === null
          ? ''
          : ` (active members: ${activeMembers(array)
              .map((m) => m.uuid)
              .join(', ')})`;
      return { error: `${path}: ${textOf(error)}${members}` };
    }
  }
  return { request, devices };
}
