/**
 * The v1.2 superblock as bytes: what stock mdadm and the kernel read and write at sector 8 of each member.
 *
 * Layout and checksum are those of the kernel's include/uapi/linux/raid/md_p.h (`struct mdp_superblock_1`) and of
 * `super_1_load` in drivers/md/md.c. Fields that `Superblock` has no place for (reshape state, microseconds, corrected
 * read errors) are not kept by encode; `unmodelledFields` names those that are in use, so that adoption can refuse them.
 */
import type { Superblock } from './driver.ts';

export const SUPERBLOCK_BYTES = 4096;
export const SUPERBLOCK_SECTOR = 8;
export const SUPERBLOCK_MAGIC = 0xa92b4efc;
/** The kernel refuses more: 256 bytes + 2 a device must fit into one 4 KiB page. */
export const MAX_DEVICES = (SUPERBLOCK_BYTES - 256) / 2;

export const FEATURE_BITMAP_OFFSET = 0x1;
export const FEATURE_RECOVERY_OFFSET = 0x2;
export const FEATURE_RESHAPE_ACTIVE = 0x4;
export const FEATURE_BAD_BLOCKS = 0x8;
export const FEATURE_REPLACEMENT = 0x10;
export const FEATURE_RESHAPE_BACKWARDS = 0x20;
export const FEATURE_NEW_OFFSET = 0x40;
export const FEATURE_RECOVERY_BITMAP = 0x80;
export const FEATURE_CLUSTERED = 0x100;
export const FEATURE_JOURNAL = 0x200;
export const FEATURE_PPL = 0x400;
export const FEATURE_MULTIPLE_PPLS = 0x800;
export const FEATURE_RAID0_LAYOUT = 0x1000;
/** No stock kernel knows this bit: each refuses the member with EINVAL, so udev starts nothing by accident. */
export const FEATURE_MESH_OWNED = 0x40000000;

export const ROLE_SPARE = 0xffff;
export const ROLE_FAULTY = 0xfffe;
export const ROLE_JOURNAL = 0xfffd;
export const ROLE_SLOT_MAX = 0xff00;

export const DEVFLAG_WRITE_MOSTLY = 1;
export const DEVFLAG_FAIL_FAST = 2;

const KNOWN_LEVELS = new Map([
  [-1, 'linear'],
  [0, 'raid0'],
  [1, 'raid1'],
  [4, 'raid4'],
  [5, 'raid5'],
  [6, 'raid6'],
  [10, 'raid10'],
] as const);
export type LevelName = typeof KNOWN_LEVELS extends Map<number, infer Name> ? Name : never;

export function levelName(level: number): LevelName | null {
  for (const [number, name] of KNOWN_LEVELS) if (number === level) return name;
  return null;
}

export function levelNumber(name: LevelName): number {
  for (const [number, known] of KNOWN_LEVELS) if (known === name) return number;
  throw new Error(`raid level ${name} is unknown; use one of ${[...KNOWN_LEVELS.values()].join(', ')}`);
}

const UTF8 = new TextDecoder('utf-8');

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Sum of le32 words, a trailing le16 if the device count is odd, in 64 bits; high and low halves added in 32 bits. */
export function superblockChecksum(bytes: Uint8Array, maxDev: number): number {
  const view = viewOf(bytes);
  const length = 256 + 2 * maxDev;
  let sum = 0;
  let offset = 0;
  // At most 1024 words of 32 bits: the sum stays below 2^42, exact in a double.
  for (; length - offset >= 4; offset += 4) if (offset !== 216) sum += view.getUint32(offset, true);
  if (length - offset === 2) sum += view.getUint16(offset, true);
  return ((sum % 2 ** 32) + Math.floor(sum / 2 ** 32)) % 2 ** 32;
}

function uuidText(bytes: Uint8Array, offset: number): string {
  const hex = Buffer.from(bytes.subarray(offset, offset + 16)).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function uuidBytes(text: string, field: string): Uint8Array {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text))
    throw new Error(`superblock field ${field}: ${JSON.stringify(text)} is not a UUID in lower case (8-4-4-4-12)`);
  return Buffer.from(text.replaceAll('-', ''), 'hex');
}

function refuse(where: string, text: string): never {
  throw new Error(`member ${where}: ${text}; run mdmesh examine ${where}`);
}

/** True where `bytes` (the 4 KiB at sector 8, or its beginning) carry the magic of an md superblock. */
export function hasSuperblockMagic(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && viewOf(bytes).getUint32(0, true) === SUPERBLOCK_MAGIC;
}

/**
 * Parse and check the bytes at sector 8 of a member.
 * @param where device path, for the words of an error
 * @throws Error when there is no sound v1.2 superblock; names the device, the value seen and what to do
 */
export function decodeSuperblock(bytes: Uint8Array, where: string): Superblock {
  if (bytes.length < 256) refuse(where, `superblock of ${bytes.length} bytes, at least 256 are needed`);
  const view = viewOf(bytes);
  const u64 = (offset: number, field: string): number => {
    const value = view.getBigUint64(offset, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      refuse(where, `superblock field ${field} is ${value}, beyond any disk`);
    return Number(value);
  };
  const magic = view.getUint32(0, true);
  if (magic !== SUPERBLOCK_MAGIC) refuse(where, `no md superblock: magic 0x${magic.toString(16)} ≠ 0xa92b4efc`);
  const major = view.getUint32(4, true);
  if (major !== 1) refuse(where, `superblock version ${major}; only 1.2 is understood`);
  const maxDev = view.getUint32(220, true);
  if (maxDev > MAX_DEVICES || 256 + 2 * maxDev > bytes.length)
    refuse(where, `superblock lists ${maxDev} devices in ${bytes.length} bytes; at most ${MAX_DEVICES} are possible`);
  const checksum = view.getUint32(216, true);
  const expected = superblockChecksum(bytes, maxDev);
  if (checksum !== expected)
    refuse(where, `superblock checksum 0x${checksum.toString(16)} ≠ 0x${expected.toString(16)}`);
  const superOffsetSectors = u64(144, 'super_offset');
  if (superOffsetSectors !== SUPERBLOCK_SECTOR)
    refuse(
      where,
      `superblock says it lies at sector ${superOffsetSectors}, not ${SUPERBLOCK_SECTOR}: not metadata 1.2`,
    );
  const level = view.getInt32(72, true);
  if (levelName(level) === null) refuse(where, `raid level ${level} is not one that mdmesh knows`);

  const nameBytes = bytes.subarray(32, 64);
  const nul = nameBytes.indexOf(0);
  const resyncOffset = view.getBigUint64(208, true);
  const roles: number[] = [];
  for (let device = 0; device < maxDev; device++) roles.push(view.getUint16(256 + 2 * device, true));
  return {
    featureMap: view.getUint32(8, true),
    setUuid: uuidText(bytes, 16),
    setName: UTF8.decode(nul < 0 ? nameBytes : nameBytes.subarray(0, nul)),
    // Low 40 bits are seconds, the rest microseconds.
    ctimeSeconds: Number(view.getBigUint64(64, true) & 0xffffffffffn),
    level,
    layout: view.getInt32(76, true),
    sizeSectors: u64(80, 'size'),
    chunkSectors: view.getUint32(88, true),
    raidDisks: view.getUint32(92, true),
    bitmapOffsetSectors: view.getInt32(96, true),
    dataOffsetSectors: u64(128, 'data_offset'),
    dataSizeSectors: u64(136, 'data_size'),
    superOffsetSectors,
    recoveryOffsetSectors: u64(152, 'recovery_offset'),
    devNumber: view.getUint32(160, true),
    deviceUuid: uuidText(bytes, 168),
    devFlags: view.getUint8(184),
    bblogShift: view.getUint8(185),
    bblogSizeSectors: view.getUint16(186, true),
    bblogOffsetSectors: view.getInt32(188, true),
    utimeSeconds: Number(view.getBigUint64(192, true) & 0xffffffffffn),
    events: u64(200, 'events'),
    resyncOffsetSectors: resyncOffset === 0xffffffffffffffffn ? null : u64(208, 'resync_offset'),
    roles,
    maxDev,
    checksum,
  };
}

/** As `decodeSuperblock`, but null where there is no md magic at all (a blank disk, a file system). */
export function decodeSuperblockIfAny(bytes: Uint8Array, where: string): Superblock | null {
  return hasSuperblockMagic(bytes) ? decodeSuperblock(bytes, where) : null;
}

/**
 * 4096 bytes for sector 8, zero padded, checksum computed (`sb.checksum` is not looked at). Roles beyond `sb.roles` up to
 * `maxDev` are written as spare, as mdadm does.
 * @throws Error naming the field that does not fit
 */
export function encodeSuperblock(sb: Superblock): Uint8Array {
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  const view = viewOf(bytes);
  const integer = (value: number, field: string, min: number, max: number): number => {
    if (!Number.isSafeInteger(value) || value < min || value > max)
      throw new Error(`superblock of ${sb.deviceUuid}: ${field} is ${value}, not an integer from ${min} to ${max}`);
    return value;
  };
  const u8 = (offset: number, value: number, field: string) => view.setUint8(offset, integer(value, field, 0, 0xff));
  const u16 = (offset: number, value: number, field: string) =>
    view.setUint16(offset, integer(value, field, 0, 0xffff), true);
  const u32 = (offset: number, value: number, field: string) =>
    view.setUint32(offset, integer(value, field, 0, 0xffffffff), true);
  const i32 = (offset: number, value: number, field: string) =>
    view.setInt32(offset, integer(value, field, -0x80000000, 0x7fffffff), true);
  const u64 = (offset: number, value: number, field: string) =>
    view.setBigUint64(offset, BigInt(integer(value, field, 0, Number.MAX_SAFE_INTEGER)), true);

  const name = new TextEncoder().encode(sb.setName);
  if (name.length > 32)
    throw new Error(`array name ${JSON.stringify(sb.setName)}: ${name.length} bytes; at most 32 fit`);
  if (name.includes(0))
    throw new Error(`array name ${JSON.stringify(sb.setName)}: a NUL ends a name on disk; remove it`);
  if (levelName(sb.level) === null)
    throw new Error(`superblock of ${sb.deviceUuid}: raid level ${sb.level} is unknown`);
  integer(sb.superOffsetSectors, 'super_offset', SUPERBLOCK_SECTOR, SUPERBLOCK_SECTOR);
  integer(sb.maxDev, 'max_dev', sb.roles.length, MAX_DEVICES);

  view.setUint32(0, SUPERBLOCK_MAGIC, true);
  view.setUint32(4, 1, true);
  u32(8, sb.featureMap, 'feature_map');
  bytes.set(uuidBytes(sb.setUuid, 'set_uuid'), 16);
  bytes.set(name, 32);
  u64(64, integer(sb.ctimeSeconds, 'ctime', 0, 2 ** 40 - 1), 'ctime');
  i32(72, sb.level, 'level');
  i32(76, sb.layout, 'layout');
  u64(80, sb.sizeSectors, 'size');
  u32(88, sb.chunkSectors, 'chunksize');
  u32(92, sb.raidDisks, 'raid_disks');
  i32(96, sb.bitmapOffsetSectors, 'bitmap_offset');
  u64(128, sb.dataOffsetSectors, 'data_offset');
  u64(136, sb.dataSizeSectors, 'data_size');
  u64(144, sb.superOffsetSectors, 'super_offset');
  u64(152, sb.recoveryOffsetSectors, 'recovery_offset');
  u32(160, sb.devNumber, 'dev_number');
  bytes.set(uuidBytes(sb.deviceUuid, 'device_uuid'), 168);
  u8(184, sb.devFlags, 'devflags');
  u8(185, sb.bblogShift, 'bblog_shift');
  u16(186, sb.bblogSizeSectors, 'bblog_size');
  i32(188, sb.bblogOffsetSectors, 'bblog_offset');
  u64(192, integer(sb.utimeSeconds, 'utime', 0, 2 ** 40 - 1), 'utime');
  u64(200, sb.events, 'events');
  if (sb.resyncOffsetSectors === null) view.setBigUint64(208, 0xffffffffffffffffn, true);
  else u64(208, sb.resyncOffsetSectors, 'resync_offset');
  u32(220, sb.maxDev, 'max_dev');
  for (let device = 0; device < sb.maxDev; device++)
    u16(256 + 2 * device, sb.roles[device] ?? ROLE_SPARE, `dev_roles[${device}]`);
  view.setUint32(216, superblockChecksum(bytes, sb.maxDev), true);
  return bytes;
}

/** Role of the member that carries this superblock: a slot, ROLE_SPARE, ROLE_FAULTY or ROLE_JOURNAL. */
export function ownRole(sb: Superblock): number {
  return sb.roles[sb.devNumber] ?? ROLE_SPARE;
}

/** Fields in use on disk that `Superblock` cannot hold, and encode would therefore lose. Field name and value. */
export function unmodelledFields(bytes: Uint8Array): string[] {
  const view = viewOf(bytes);
  const found: string[] = [];
  const reshape = [
    ['new_level', 100],
    ['delta_disks', 112],
    ['new_layout', 116],
    ['new_chunk', 120],
    ['new_offset', 124],
    ['logical_block_size', 224],
  ] as const;
  for (const [field, offset] of reshape) {
    const value = view.getUint32(offset, true);
    if (value !== 0) found.push(`${field} = ${value}`);
  }
  const position = view.getBigUint64(104, true);
  if (position !== 0n) found.push(`reshape_position = ${position}`);
  return found;
}

const REFUSED_FEATURES: readonly (readonly [number, string, string])[] = [
  [FEATURE_MESH_OWNED, 'belongs to a cluster already', 'release it there first: mdmesh release'],
  [FEATURE_RESHAPE_ACTIVE, 'a reshape is under way', 'let mdadm finish it first'],
  [FEATURE_RESHAPE_BACKWARDS, 'a backward reshape is under way', 'let mdadm finish it first'],
  [FEATURE_NEW_OFFSET, 'its data is being moved to a new offset', 'let mdadm finish the reshape first'],
  [
    FEATURE_RECOVERY_OFFSET,
    'a member is still being rebuilt',
    'let mdadm finish the recovery, stop the array, try again',
  ],
  [FEATURE_RECOVERY_BITMAP, 'a re-added member is still being rebuilt', 'let mdadm finish the recovery first'],
  [FEATURE_BAD_BLOCKS, 'its bad-block log lists bad blocks', 'replace the member first: mdadm --replace'],
  [FEATURE_REPLACEMENT, 'a member is being replaced', 'let mdadm finish the replacement first'],
  [
    FEATURE_CLUSTERED,
    'it has a clustered bitmap (md-cluster)',
    'stop it on all nodes, then mdadm --grow --bitmap=none',
  ],
  [FEATURE_JOURNAL, 'it has a write journal', 'remove the journal first: mdadm --grow --consistency-policy=resync'],
  [FEATURE_PPL, 'it has a partial parity log', 'remove it first: mdadm --grow --consistency-policy=resync'],
  [FEATURE_MULTIPLE_PPLS, 'it has partial parity logs', 'remove them first: mdadm --grow --consistency-policy=resync'],
];

const ADOPTED_FEATURES = FEATURE_BITMAP_OFFSET | FEATURE_RAID0_LAYOUT;

/** raid5/raid6 layouts of md.h's ALGORITHM_* that mdadm creates by name; the DDF and "raid6 as raid5" ones are left out. */
const PARITY_LAYOUT_MAX = 5;

function layoutProblem(sb: Superblock): string | null {
  if ((sb.level === 5 || sb.level === 6) && (sb.layout < 0 || sb.layout > PARITY_LAYOUT_MAX))
    return `layout ${sb.layout} of a raid${sb.level} is not one that mdmesh knows`;
  if (sb.level === 10) {
    const near = sb.layout & 0xff;
    const far = (sb.layout >> 8) & 0xff;
    if (near < 1 || far < 1 || (sb.layout & ~0x1ffff) !== 0)
      return `layout 0x${(sb.layout >>> 0).toString(16)} of a raid10 is not one that mdmesh knows`;
  }
  return null;
}

/**
 * Why an existing array's member cannot be adopted without losing something, in words with a remedy; null if it can.
 * @param bytes the superblock's own bytes, if at hand: then fields that `Superblock` has no place for are checked too
 */
export function adoptable(sb: Superblock, where: string, bytes?: Uint8Array): string | null {
  for (const [bit, why, remedy] of REFUSED_FEATURES)
    if (sb.featureMap & bit) return `member ${where}: ${why}; ${remedy}`;
  const unknown = (sb.featureMap & ~ADOPTED_FEATURES) >>> 0;
  if (unknown !== 0)
    return `member ${where}: feature bits 0x${unknown.toString(16)} are unknown; adopt it with a newer mdmesh, if at all`;
  const lost = bytes === undefined ? [] : unmodelledFields(bytes);
  if (lost.length > 0) return `member ${where}: superblock has ${lost.join(', ')}, which mdmesh would not keep`;
  const layout = layoutProblem(sb);
  if (layout !== null) return `member ${where}: ${layout}; copy the data to a new array instead`;
  if (sb.setName.includes('\ufffd'))
    return `member ${where}: array name is not UTF-8; rename it first: mdadm --assemble --update=name --name=NAME`;
  if (sb.roles.includes(ROLE_JOURNAL))
    return `member ${where}: its array has a journal device; remove the journal first`;
  if (sb.devNumber > 383)
    return `member ${where}: device number ${sb.devNumber} is above 383; mdmesh has no place for it`;
  if (sb.raidDisks < 1 || sb.raidDisks > 384)
    return `member ${where}: ${sb.raidDisks} raid devices; 1 to 384 are possible`;
  if (sb.featureMap & FEATURE_BITMAP_OFFSET) {
    // The bitmap's length is not in the superblock. mdadm puts the bad-block log behind it: then the mesh area is behind both.
    const behind =
      sb.bblogSizeSectors > 0 && sb.bitmapOffsetSectors > 0 && sb.bblogOffsetSectors > sb.bitmapOffsetSectors;
    if (!behind)
      return `member ${where}: internal bitmap at ${sb.bitmapOffsetSectors} sectors may lie in the mesh area; remove it first: mdadm --grow --bitmap=none`;
  }
  return null;
}
