/**
 * One md array as sysfs shows it on this node: where its files are, and what they say in one reading. Nothing here writes.
 *
 * None of these reads takes the array's mutex (md_attr_show and rdev_attr_show, drivers/md/md.c), so they answer even
 * while a suspend drains or a gate is closed.
 */
import { readdirSync } from 'node:fs';

export interface SysfsMember {
  /** Kernel name as in `dev-NAME`, `!` for `/`. */
  device: string;
  /** major:minor; empty when the device vanished from under the array. */
  devno: string;
  /** Of the device-mapper map that it is; null: it is none. */
  mapUuid: string | null;
  slot: number | null;
  states: ReadonlySet<string>;
}

export interface SysfsArray {
  md: string;
  metadata: string;
  /** As sysfs names it: `raid1`, `linear`… Empty: not set yet. */
  level: string;
  arrayState: string;
  sizeSectors: number;
  /** null: this level has no suspend range (raid0, linear). */
  suspend: { loSector: number; hiSector: number } | null;
  /** null: this level copies nothing (raid0, linear). */
  syncAction: string | null;
  syncCompleted: { doneSectors: number; totalSectors: number } | null;
  /** A copy is under way, or was interrupted: md sets sync_max to `max` when one has come to its end. */
  copyUnended: boolean;
  resyncStartSector: number | null;
  mismatchSectors: number;
  degraded: number;
  raidDisks: number;
  /** md's write-intent bitmap, from this sector of the members on; null: it keeps none. */
  bitmap: { sector: number; chunkSectors: number } | null;
  members: SysfsMember[];
}

/** Reads all files at once; null for each that is not there. */
export type FileReader = (paths: readonly string[]) => (string | null)[];

/** The value that metadata_version has on every array of ours: the kernel holds writes instead of writing superblocks. */
export const METADATA_VERSION = 'external:mdmesh';

export function arrayDirectory(md: string): string {
  return `/sys/block/${md}/md`;
}

export function memberDirectory(md: string, device: string): string {
  return `${arrayDirectory(md)}/dev-${device}`;
}

/** Names of all md devices that this node's kernel has. */
export function mdNames(): string[] {
  return namesIn('/sys/block').filter((name) => /^md(_|\d)/.test(name));
}

export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

const ARRAY_FILES = [
  'metadata_version',
  'level',
  'array_state',
  'suspend_lo',
  'suspend_hi',
  'sync_action',
  'sync_completed',
  'sync_max',
  'resync_start',
  'mismatch_cnt',
  'degraded',
  'raid_disks',
  'bitmap/location',
  'bitmap/chunksize',
  '../size',
] as const;

const MEMBER_FILES = ['state', 'slot', 'block/dev', 'block/dm/uuid'] as const;

/** null: no such md device. An array that vanishes meanwhile reads as null or as far as it was still there. */
export function readArray(md: string, readFiles: FileReader): SysfsArray | null {
  const directory = arrayDirectory(md);
  const devices = namesIn(directory)
    .filter((name) => name.startsWith('dev-'))
    .map((name) => name.slice('dev-'.length));
  const paths = [
    ...ARRAY_FILES.map((name) => `${directory}/${name}`),
    ...devices.flatMap((device) => MEMBER_FILES.map((name) => `${directory}/dev-${device}/${name}`)),
  ];
  const texts = readFiles(paths).map((text) => text?.trim() ?? null);
  const read = (name: (typeof ARRAY_FILES)[number]): string | null => texts[ARRAY_FILES.indexOf(name)] ?? null;
  const arrayState = read('array_state');
  if (arrayState === null) return null;
  const lo = numberOrNull(read('suspend_lo'));
  const hi = numberOrNull(read('suspend_hi'));
  const members: SysfsMember[] = [];
  devices.forEach((device, index) => {
    const first = ARRAY_FILES.length + index * MEMBER_FILES.length;
    const state = texts[first] ?? null;
    // The member left between the listing and the reading.
    if (state === null) return;
    members.push({
      device,
      devno: texts[first + 2] ?? '',
      mapUuid: texts[first + 3] ?? null,
      slot: numberOrNull(texts[first + 1] ?? null),
      states: new Set(state.split(',').filter((word) => word !== '')),
    });
  });
  return {
    md,
    metadata: read('metadata_version') ?? '',
    level: read('level') ?? '',
    arrayState,
    sizeSectors: numberOrNull(read('../size')) ?? 0,
    suspend: lo === null || hi === null ? null : { loSector: lo, hiSector: hi },
    syncAction: read('sync_action'),
    syncCompleted: parseCompleted(read('sync_completed')),
    copyUnended: numberOrNull(read('sync_max')) !== null,
    resyncStartSector: numberOrNull(read('resync_start')),
    mismatchSectors: numberOrNull(read('mismatch_cnt')) ?? 0,
    degraded: numberOrNull(read('degraded')) ?? 0,
    raidDisks: numberOrNull(read('raid_disks')) ?? 0,
    bitmap: parseBitmap(read('bitmap/location'), read('bitmap/chunksize')),
    members,
  };
}

/** `none`, `journal` and an empty file are null. */
function numberOrNull(text: string | null): number | null {
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}

/** `+1024` or `none`; bytes. */
function parseBitmap(location: string | null, chunkBytes: string | null): SysfsArray['bitmap'] {
  if (location === null || !/^[+-]?\d+$/.test(location)) return null;
  return { sector: Number(location), chunkSectors: (numberOrNull(chunkBytes) ?? 0) / 512 };
}

/** `12 / 345`; `none` when idle, `delayed` while another array's copy goes first. */
function parseCompleted(text: string | null): SysfsArray['syncCompleted'] {
  const match = text === null ? null : /^(\d+) \/ (\d+)$/.exec(text);
  return match === null ? null : { doneSectors: Number(match[1]), totalSectors: Number(match[2]) };
}

/**
 * Whether no write passes. raid0 and linear know neither gates nor suspends: there `readonly` is the only hold, and the
 * kernel refuses it (EBUSY) while anybody has the array open.
 */
export function isHeld(array: SysfsArray): boolean {
  if (array.arrayState === 'readonly') return true;
  if (array.suspend === null || array.sizeSectors === 0) return false;
  return array.suspend.loSector === 0 && array.suspend.hiSector >= array.sizeSectors;
}

/** A write waits, or will wait, for user space's answer. No suspend may be asked for then (KERNEL rule: it would drain forever). */
export function gateClosed(array: SysfsArray): boolean {
  return array.arrayState === 'write-pending' || array.members.some((member) => member.states.has('blocked'));
}

/** In a slot, yet not in sync: the kernel writes to it and reads only what lies before its recovery_start. */
export function isRebuilding(member: SysfsMember): boolean {
  return member.slot !== null && !member.states.has('in_sync') && !member.states.has('faulty');
}

/** Where each of these members stands; `recovery_start` is `none` of one that is in sync. */
export function readRecoveryStarts(md: string, members: readonly SysfsMember[], readFiles: FileReader): number[] {
  const paths = members.map((member) => `${memberDirectory(md, member.device)}/recovery_start`);
  return readFiles(paths).map((text) => numberOrNull(text?.trim() ?? null) ?? Number.POSITIVE_INFINITY);
}

/** 0: the level has no chunks. */
export function readChunkSectors(md: string, readFiles: FileReader): number {
  const [text] = readFiles([`${arrayDirectory(md)}/chunk_size`]);
  return (numberOrNull(text?.trim() ?? null) ?? 0) / 512;
}

/** The kernel moves data between members at this moment. `frozen` is shown as soon as it is asked for, so look at both. */
export function copying(array: SysfsArray): boolean {
  return array.syncCompleted !== null || !['idle', 'frozen', null].includes(array.syncAction);
}
