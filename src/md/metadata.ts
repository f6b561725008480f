/**
 * Between an array's record and the bytes on its members, as pure functions: which superblocks a record means, which
 * record the disks of a cluster hold, and which writes make a commit durable.
 *
 * **Order on each member: mesh header, then superblock.** A crash may leave every member at any of three points: old
 * header and old superblock, new header and old superblock, both new. So no superblock is ever newer than the newest
 * header, and the newest header found says everything: the next master takes it and commits it again under its own
 * term, which brings the members that lag up to it. Nobody has acted on a commit that is not on all of them (gates open
 * only after it), so it does no harm whether the next master sees the unfinished one or the one before. The header's two
 * copies are written in turn, so a torn header leaves the one before whole. A superblock *newer* than every header was
 * therefore written by somebody else (mdadm on a host that cleared the bit), and is told, never believed.
 */
import { afterCrash, isDegradedParity, isRedundant, nodeSlotsOf } from '../arrays/levels.ts';
import { type ArrayRecord, compareVersions, type MemberRecord, type NodeId, wholeCopy } from '../arrays/record.ts';
import type { Disk, MeshHeader, MetadataWrite, Superblock } from './driver.ts';
import {
  encodeMeshHeader,
  MESH_HEADER_BYTES,
  type MeshPlacement,
  meshGeometry,
  meshHeaderCopy,
  meshHeaderSectors,
} from './mesh_area.ts';
import {
  encodeSuperblock,
  FEATURE_MESH_OWNED,
  FEATURE_RAID0_LAYOUT,
  FEATURE_RECOVERY_OFFSET,
  levelName,
  levelNumber,
  ownRole,
  ROLE_FAULTY,
  ROLE_SLOT_MAX,
  ROLE_SPARE,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_SECTOR,
} from './superblock.ts';

const SECTOR_BYTES = 512;
/** Zeroes go out in pieces, so that a driver with fixed buffers needs no big one. */
const ZERO_PIECE_BYTES = 128 * 1024;

type Level = ArrayRecord['level'];

export const DEFAULT_CHUNK_SECTORS = 1024;
/** left-symmetric */
export const PARITY_LAYOUT_DEFAULT = 2;
/** near=2 */
export const RAID10_LAYOUT_DEFAULT = 0x102;

/** mdadm's default layout of a level; 0 where the level has none. */
export function defaultLayout(level: Level): number {
  if (level === 'raid5' || level === 'raid6') return PARITY_LAYOUT_DEFAULT;
  return level === 'raid10' ? RAID10_LAYOUT_DEFAULT : 0;
}

/** 0 for raid1 and linear, whose superblocks carry none. */
export function defaultChunkSectors(level: Level): number {
  return level === 'raid1' || level === 'linear' ? 0 : DEFAULT_CHUNK_SECTORS;
}

/** Where data begins on a new member: room for a mesh area of any size on disks that can spare it. */
export function dataOffsetSectorsFor(deviceSectors: number): number {
  return deviceSectors < 2 * 1024 * 1024 ? 2048 : 16384;
}

/**
 * Sectors of each member in use, from the smallest member's room for data: whole KiB, then whole chunks where the level
 * has chunks, as `mdadm --create` rounds. 0 for raid0 and linear, which use each member to its own end.
 */
export function componentSectorsFor(level: Level, chunkSectors: number, smallestDataSectors: number): number {
  const wholeKib = smallestDataSectors - (smallestDataSectors % 2);
  if (!isRedundant(level)) return 0;
  if (level === 'raid1' || chunkSectors === 0) return wholeKib;
  return wholeKib - (wholeKib % chunkSectors);
}

function roleOf(member: MemberRecord): number {
  if (member.role === 'spare') return ROLE_SPARE;
  if (member.role !== 'faulty' && member.slot !== null) return member.slot;
  return ROLE_FAULTY;
}

/** As mdadm sizes dev_roles: the superblock in whole 512-byte sectors. 128 roles for up to 128 devices. */
function maxDevFor(devices: number): number {
  return (Math.ceil((256 + 2 * devices) / 512) * 512 - 256) / 2;
}

/**
 * Null: clean. With writers at large any part may differ, and what they left in doubt still does; with a resync alone, what lies before it is
 * in sync. The other copies leave the members in sync alike.
 */
function resyncOffsetOf(record: ArrayRecord): number | null {
  if (!isRedundant(record.level)) return null;
  if (record.writers.length > 0 || record.parityInDoubt === true) return 0;
  return record.resync?.kind === 'resync' ? record.resync.fromSector : null;
}

/** Of the component: what lies before it is in sync on the members that are being rebuilt. */
export function recoveryStartOf(record: ArrayRecord): number {
  return record.resync?.kind === 'recovery' ? record.resync.fromSector : 0;
}

/**
 * The superblock that each member should carry (member uuid → superblock), faulty members' included: who writes leaves
 * them out.
 * @param clusterOwned sets the bit that stock kernels refuse; false writes what mdadm may assemble (release)
 * @param existing superblocks as read from the members: their bad-block log, flags, dev_roles size and raid0 layout bit
 *   are kept. Without one a member gets no bad-block log.
 */
export function superblocksFor(
  record: ArrayRecord,
  clusterOwned: boolean,
  existing: ReadonlyMap<string, Superblock> = new Map(),
): Map<string, Superblock> {
  let devices = record.raidDisks;
  for (const member of record.members) devices = Math.max(devices, member.devNumber + 1);
  let maxDev = maxDevFor(devices);
  for (const sb of existing.values()) maxDev = Math.max(maxDev, sb.maxDev);
  const roles = new Array<number>(maxDev).fill(ROLE_SPARE);
  for (const member of record.members) roles[member.devNumber] = roleOf(member);

  const result = new Map<string, Superblock>();
  for (const member of record.members) {
    const kept = existing.get(member.uuid);
    const rebuilding = member.role === 'rebuilding';
    const owned = clusterOwned ? FEATURE_MESH_OWNED : 0;
    const recovery = rebuilding ? FEATURE_RECOVERY_OFFSET : 0;
    result.set(member.uuid, {
      featureMap: (owned | recovery | ((kept?.featureMap ?? 0) & FEATURE_RAID0_LAYOUT)) >>> 0,
      setUuid: record.uuid,
      setName: record.name,
      ctimeSeconds: record.ctimeSeconds,
      level: levelNumber(record.level),
      layout: record.layout,
      sizeSectors: isRedundant(record.level) ? record.componentSectors : 0,
      chunkSectors: record.chunkSectors,
      raidDisks: record.raidDisks,
      // An internal bitmap knows nothing of other nodes' writes: adopted or not, it is not to be believed again.
      bitmapOffsetSectors: 0,
      dataOffsetSectors: member.dataOffsetSectors,
      dataSizeSectors: member.dataSizeSectors,
      superOffsetSectors: SUPERBLOCK_SECTOR,
      recoveryOffsetSectors: rebuilding ? recoveryStartOf(record) : 0,
      devNumber: member.devNumber,
      deviceUuid: member.uuid,
      devFlags: kept?.devFlags ?? 0,
      bblogShift: kept?.bblogShift ?? 0,
      bblogSizeSectors: kept?.bblogSizeSectors ?? 0,
      bblogOffsetSectors: kept?.bblogOffsetSectors ?? 0,
      utimeSeconds: record.utimeSeconds,
      events: record.events,
      resyncOffsetSectors: resyncOffsetOf(record),
      roles: [...roles],
      maxDev,
      checksum: 0,
    });
  }
  return result;
}

export interface FoundArray {
  record: ArrayRecord;
  header: MeshHeader;
  /** member uuid → path of the disk that carries it here. */
  members: Map<string, string>;
  /**
   * Members whose header or superblock is older than the record by the one commit that a crash may tear; or newer, by an attempt
   * that reached no active member.
   */
  unfinished: string[];
  /** Active members with an older header, and the index of that. */
  behind: Map<string, number>;
  /** On an active member that is seen. Otherwise it may be an attempt that nobody was told of: what is not seen tells. */
  stands: boolean;
  /**
   * Members whose header is older by more than that although the record calls them good, and why: their data may be old, as after a
   * restore from a snapshot, or several masters in turn did not reach them. To be failed before anything is written there.
   */
  stale: Map<string, string>;
  /** Words for people. Any of them: do not go on without an operator's word or a look at more disks. */
  problems: string[];
}

function sameRoles(a: readonly number[], b: readonly number[]): boolean {
  const length = Math.max(a.length, b.length);
  for (let device = 0; device < length; device++)
    if ((a[device] ?? ROLE_SPARE) !== (b[device] ?? ROLE_SPARE)) return false;
  return true;
}

function roleText(role: number): string {
  if (role === ROLE_SPARE) return 'spare';
  return role > ROLE_SLOT_MAX ? 'faulty' : `slot ${role}`;
}

function recoveryText(sb: Superblock): string {
  return sb.featureMap & FEATURE_RECOVERY_OFFSET ? String(sb.recoveryOffsetSectors) : 'none';
}

/** Where a member's superblock tells another story than its own header of the same age. */
function contradiction(sb: Superblock, header: MeshHeader): string | null {
  const expected = superblocksFor(header.record, true).get(sb.deviceUuid);
  if (expected === undefined) return null;
  const fields = [
    'level',
    'layout',
    'raidDisks',
    'chunkSectors',
    'sizeSectors',
    'dataOffsetSectors',
    'devNumber',
  ] as const;
  for (const field of fields)
    if (sb[field] !== expected[field]) return `${field} is ${sb[field]}, its mesh header says ${expected[field]}`;
  if (sb.events !== header.record.events) return null;
  if (recoveryText(sb) !== recoveryText(expected))
    return `recovery offset is ${recoveryText(sb)}, its mesh header says ${recoveryText(expected)}`;
  if (sb.resyncOffsetSectors !== expected.resyncOffsetSectors)
    return `resync offset is ${sb.resyncOffsetSectors ?? 'none'}, its mesh header says ${expected.resyncOffsetSectors ?? 'none'}`;
  if (!sameRoles(sb.roles, expected.roles)) {
    for (const member of header.record.members) {
      const seen = sb.roles[member.devNumber] ?? ROLE_SPARE;
      if (seen !== roleOf(member))
        return `member ${member.uuid} is ${roleText(seen)}, its mesh header says ${roleText(roleOf(member))}`;
    }
    return 'roles differ from those in its mesh header';
  }
  return null;
}

/**
 * The cluster's arrays on these disks, each with its newest record by (term, index). Disks that are not this cluster's
 * are passed over. Nothing is chosen silently: whatever does not fit together is told in `problems`.
 */
export function recordFromDisks(disks: readonly Disk[], clusterUuid: string): FoundArray[] {
  const groups = new Map<string, { disk: Disk; sb: Superblock; header: MeshHeader }[]>();
  for (const disk of disks) {
    if (disk.superblock === null || disk.mesh === null || disk.mesh.clusterUuid !== clusterUuid) continue;
    const group = groups.get(disk.mesh.record.uuid) ?? [];
    group.push({ disk, sb: disk.superblock, header: disk.mesh });
    groups.set(disk.mesh.record.uuid, group);
  }

  const found: FoundArray[] = [];
  for (const [uuid, group] of groups) {
    const owned = group.filter(({ sb }) => (sb.featureMap & FEATURE_MESH_OWNED) !== 0);
    // Released, or never wholly adopted: an mdadm array like any other.
    if (owned.length === 0) continue;
    const newest = newestOf(owned);
    if (newest === undefined) continue;
    found.push(
      crossCheck(
        newest,
        group,
        disks.filter((disk) => disk.superblock?.setUuid === uuid),
      ),
    );
  }
  return found.sort((a, b) => a.record.md.localeCompare(b.record.md));
}

/**
 * The newest header that may be of a commit. One that stands on none of the members that it calls active, which are all here, is of an
 * attempt that reached only spares or members that were being filled: nobody was told of it, and the record before goes on.
 */
function newestOf(group: readonly { sb: Superblock; header: MeshHeader }[]): MeshHeader | undefined {
  const headers = new Map(group.map(({ sb, header }) => [sb.deviceUuid, header]));
  const mayStand = ({ record }: MeshHeader): boolean =>
    record.members.some(({ uuid, role }) => {
      if (role !== 'active') return false;
      const there = headers.get(uuid);
      return there === undefined || compareVersions(there.record.version, record.version) >= 0;
    });
  const sorted = group.map(({ header }) => header).sort((a, b) => compareVersions(b.record.version, a.record.version));
  return sorted.find(mayStand) ?? sorted[0];
}

/**
 * What stands on members that are not active counts for nothing, and the next commit writes it anew: attempts that reached them alone may
 * have left it torn, or with more events than the array has. What disks that the record does not name carry says only whether there is
 * another record of its version.
 */
function crossCheck(
  newest: MeshHeader,
  group: readonly { disk: Disk; sb: Superblock; header: MeshHeader }[],
  sameArray: readonly Disk[],
): FoundArray {
  const { record } = newest;
  const members = new Map<string, string>();
  const unfinished: string[] = [];
  const stale = new Map<string, string>();
  const problems: string[] = [];
  const wanted = new Map(record.members.map((member) => [member.uuid, member]));
  const behind = new Map<string, number>();
  let stands = false;

  for (const { disk, sb, header } of group) {
    const own = `member ${disk.path} of ${record.md}`;
    const order = compareVersions(header.record.version, record.version);
    if (order === 0 && JSON.stringify(header.record) !== JSON.stringify(record))
      problems.push(
        `${own}: another record of the same version ${record.version.term}.${record.version.index}; compare with mdmesh examine`,
      );
    const member = wanted.get(sb.deviceUuid);
    if (member === undefined) continue;
    const twin = members.get(sb.deviceUuid);
    if (twin !== undefined) {
      problems.push(
        `${twin} and ${disk.path} both carry member ${sb.deviceUuid} of ${record.md}: two paths, or a copy; hide one`,
      );
      continue;
    }
    members.set(sb.deviceUuid, disk.path);
    if (sb.setUuid !== record.uuid) {
      problems.push(`${own}: its superblock is of array ${sb.setUuid}, its mesh header of ${record.uuid}`);
      continue;
    }
    if ((sb.featureMap & FEATURE_MESH_OWNED) === 0)
      problems.push(`${own}: released to mdadm while others are still owned; run mdmesh release again to finish it`);
    // An attempt of an earlier term that reached this member alone, and that was taken over without it as nobody knew of it, may have more.
    const events = Math.max(header.record.events, order > 0 ? 0 : record.events);
    if (member.role === 'active' && sb.events > events)
      problems.push(
        `${own}: superblock has events ${sb.events}, newest mesh header only ${record.events}: something else wrote it; compare with mdmesh examine`,
      );
    else if (member.role === 'active' && sb.events >= header.record.events) {
      const text =
        sb.events > header.record.events
          ? `events ${sb.events} > ${header.record.events} in its mesh header`
          : contradiction(sb, header);
      if (text !== null) problems.push(`${own}: superblock disagrees: ${text}; compare with mdmesh examine`);
    }
    if (member.role === 'active' && order === 0) stands = true;
    if (member.role === 'active' && order < 0) behind.set(member.uuid, header.record.version.index);
    if (member.role === 'faulty') continue;
    if (order !== 0 || sb.events < record.events) {
      unfinished.push(member.uuid);
      const lag = record.version.index - header.record.version.index;
      const since = record.unreached?.find(({ uuid }) => uuid === member.uuid)?.since ?? record.version.index - 1;
      if (member.role !== 'spare' && header.record.version.index < since)
        stale.set(
          member.uuid,
          `${own}: it missed ${lag} commits and is still called ${member.role} in ${record.version.term}.${record.version.index}: its data may be old`,
        );
    }
  }

  for (const disk of sameArray) {
    if (disk.mesh !== null && disk.mesh.record.uuid === record.uuid) continue;
    if (wanted.get(disk.superblock?.deviceUuid ?? '')?.role !== 'active') continue;
    problems.push(
      `member ${disk.path} of ${record.md}: no mesh header of this cluster (${disk.problem ?? 'blank or torn'}); examine it`,
    );
  }
  for (const member of record.members)
    if (member.role === 'active' && !members.has(member.uuid))
      problems.push(`member ${member.uuid} (slot ${member.slot}) of ${record.md}: not seen on any disk here`);
  return { record, header: newest, members, unfinished, behind, stands, stale, problems };
}

export interface CommitWrites {
  record: ArrayRecord;
  clusterUuid: string;
  clusterName: string;
  /** member uuid → path. Members that are not in it are not written. */
  devices: ReadonlyMap<string, string>;
  /** Superblocks as they stand on the members now; see `superblocksFor`. Needed for adopted arrays: the mesh area's place hangs on them. */
  existing?: ReadonlyMap<string, Superblock>;
  /** Grows by one a commit: the header's copies are written in turn. */
  meshSequence: number;
  /** These members get their first mesh area (create, adopt, add): it is zeroed before. */
  fresh?: ReadonlySet<string>;
}

/**
 * What a new member carries while nodes are asked whether they see it: the record with it, yet older than what the members
 * carry. If the commit never comes, whoever reads the disks passes it over.
 */
export function recordBeforeCommit(record: ArrayRecord, member: MemberRecord): ArrayRecord {
  const { term, index } = record.version;
  return { ...record, members: [...record.members, member], version: { term, index: Math.max(0, index - 1) } };
}

function zeroes(path: string, startSector: number, lengthSectors: number): MetadataWrite[] {
  const writes: MetadataWrite[] = [];
  const endBytes = (startSector + lengthSectors) * SECTOR_BYTES;
  for (let offsetBytes = startSector * SECTOR_BYTES; offsetBytes < endBytes; offsetBytes += ZERO_PIECE_BYTES)
    writes.push({ path, offsetBytes, bytes: new Uint8Array(Math.min(ZERO_PIECE_BYTES, endBytes - offsetBytes)) });
  return writes;
}

function superblockWrite(path: string, sb: Superblock): MetadataWrite {
  return { path, offsetBytes: SUPERBLOCK_SECTOR * SECTOR_BYTES, bytes: encodeSuperblock(sb) };
}

/**
 * First of all where a disk becomes a member: it may have been one before, and a superblock of this array over a mesh area of zeroes, as a
 * crash leaves it, would be taken for a member whose header is lost.
 */
export function withoutSuperblock(path: string): MetadataWrite {
  return { path, offsetBytes: SUPERBLOCK_SECTOR * SECTOR_BYTES, bytes: new Uint8Array(SUPERBLOCK_BYTES) };
}

function headerSectorsOf(placement: MeshPlacement, path: string): [number, number] {
  const sectors = meshHeaderSectors(placement);
  if (sectors === null)
    throw new Error(
      `member ${path}: data begins at sector ${placement.dataOffsetSectors}, which leaves no room for a mesh header; use another disk`,
    );
  return sectors;
}

/**
 * The writes that make a record durable, in order on each member: (zeroes,) mesh header, superblock. See the top of this
 * file for why. A member that the record calls faulty is not written, even if it is in `devices`: it has failed, and its
 * old events are what tells mdadm so.
 *
 * First writes end with the superblock too: a create that was torn leaves a disk without one, an adoption that was torn
 * leaves the array mdadm's.
 * @throws Error when the mesh area does not fit on a member
 */
export function writesFor(commit: CommitWrites): MetadataWrite[] {
  const { record, clusterUuid, clusterName, devices, meshSequence } = commit;
  const nodeSlots = nodeSlotsOf(record);
  const header = encodeMeshHeader({ clusterUuid, clusterName, record, nodeSlots }, meshSequence);
  const superblocks = superblocksFor(record, true, commit.existing);
  const writes: MetadataWrite[] = [];
  for (const member of record.members) {
    const path = devices.get(member.uuid);
    const sb = superblocks.get(member.uuid);
    if (path === undefined || sb === undefined || member.role === 'faulty') continue;
    if (commit.fresh?.has(member.uuid)) {
      const geometry = meshGeometry(sb, nodeSlots);
      if ('error' in geometry) throw new Error(`member ${path}: ${geometry.error}`);
      writes.push(...zeroes(path, geometry.startSector, geometry.lengthSectors));
    }
    const sector = headerSectorsOf(sb, path)[meshHeaderCopy(meshSequence)];
    writes.push({ path, offsetBytes: sector * SECTOR_BYTES, bytes: header }, superblockWrite(path, sb));
  }
  return writes;
}

/**
 * Give the members back to mdadm: superblock without the cluster's bit first, then the mesh headers' magic. Torn halfway
 * it can be run again: a member without the bit but with its header is recognised (`recordFromDisks` tells it).
 */
export function releaseWrites(
  record: ArrayRecord,
  devices: ReadonlyMap<string, string>,
  existing?: ReadonlyMap<string, Superblock>,
): MetadataWrite[] {
  const writes: MetadataWrite[] = [];
  for (const [uuid, sb] of superblocksFor(record, false, existing)) {
    const path = devices.get(uuid);
    if (path === undefined || record.members.some((member) => member.uuid === uuid && member.role === 'faulty'))
      continue;
    writes.push(superblockWrite(path, sb));
    writes.push(...forgettingWrites({ path, superblock: sb }));
  }
  return writes;
}

/** What a disk that is no member any more remembers of the array, and would let a master find it by. Its superblock stays. */
export function forgettingWrites({ path, superblock }: Pick<Disk, 'path' | 'superblock'>): MetadataWrite[] {
  if (superblock === null) return [];
  const sectors = headerSectorsOf(superblock, path);
  return sectors.flatMap((sector) => zeroes(path, sector, MESH_HEADER_BYTES / SECTOR_BYTES));
}

export interface Adoption {
  md: string;
  access: ArrayRecord['access'];
  owner: NodeId | null;
  term: number;
  /** Who copies, if the array was not clean. */
  resyncBy: NodeId;
}

/**
 * The first record of an mdadm array that is taken over as it stands: events are raised by 2, so that a leg left behind is
 * told apart. The caller has asked `adoptable` of each superblock.
 * @param superblocks all that carry the array's uuid
 * @throws Error when they do not describe one array at one time
 */
export function recordFromSuperblocks(superblocks: readonly Superblock[], adoption: Adoption): ArrayRecord {
  const newest = superblocks.reduce<Superblock | null>(
    (best, sb) => (best === null || sb.events > best.events ? sb : best),
    null,
  );
  if (newest === null) throw new Error(`array for ${adoption.md}: no member found`);
  const level = levelName(newest.level);
  if (level === null) throw new Error(`array ${newest.setName}: raid level ${newest.level} is unknown`);
  const members: MemberRecord[] = [];
  for (const sb of superblocks) {
    if (sb.setUuid !== newest.setUuid)
      throw new Error(`member ${sb.deviceUuid}: of array ${sb.setUuid}, not ${newest.setUuid}`);
    const role = newest.roles[sb.devNumber] ?? ROLE_SPARE;
    // Assembly forgives a lag of 1, as super_1_validate does; a leg further behind is not in the array any more.
    const stale =
      newest.events - sb.events > 1 || role === ROLE_FAULTY || (role <= ROLE_SLOT_MAX && ownRole(sb) !== role);
    members.push({
      uuid: sb.deviceUuid,
      devNumber: sb.devNumber,
      role: stale ? 'faulty' : role <= ROLE_SLOT_MAX ? 'active' : 'spare',
      slot: !stale && role <= ROLE_SLOT_MAX ? role : null,
      dataOffsetSectors: sb.dataOffsetSectors,
      dataSizeSectors: sb.dataSizeSectors,
    });
  }
  const record: ArrayRecord = {
    uuid: newest.setUuid,
    name: newest.setName,
    md: adoption.md,
    level,
    layout: newest.layout,
    chunkSectors: newest.chunkSectors,
    raidDisks: newest.raidDisks,
    // 0, as on disk, where each member is used to its own end.
    componentSectors: newest.sizeSectors,
    ctimeSeconds: newest.ctimeSeconds,
    access: adoption.access,
    owner: adoption.owner,
    run: 'stopped',
    writers: [],
    writerBoots: [],
    syncLimitKib: null,
    bitmap: null,
    lastCheck: null,
    resync: null,
    events: newest.events + 2,
    utimeSeconds: newest.utimeSeconds,
    members: members.sort((a, b) => a.devNumber - b.devNumber),
    version: { term: adoption.term, index: 1 },
  };
  if (!isRedundant(level) || newest.resyncOffsetSectors === null) return record;
  if (isDegradedParity(record)) return { ...record, parityInDoubt: true };
  return {
    ...record,
    resync: {
      ...wholeCopy('resync', adoption.resyncBy, 1),
      fromSector: newest.resyncOffsetSectors,
      ...afterCrash(record),
    },
  };
}
