/**
 * What must never be seen, whatever befalls a cluster: each rule a function that looks at the truth (the bytes on the disks, every
 * kernel, every guard, in one instant), which no node has. Each says in words what is wrong; null: nothing.
 */

import { arraySectors, isWritten, survivesWithout } from '#src/arrays/levels.ts';
import { type ArrayRecord, type CopyKind, compareVersions, type NodeId, type Version } from '#src/arrays/record.ts';
import { asksToBegin, readsPass } from '#src/arrays/seen_here.ts';
import { copySectors, rangeOnArray } from '#src/arrays/windows.ts';
import type { MetadataWrite, SectorRange } from '#src/md/driver.ts';
import { decodeMeshHeaders, MESH_HEADER_BYTES } from '#src/md/mesh_area.ts';
import { piecesOf } from '#src/md/simulated_layout.ts';
import type { DiskWrite } from '#src/md/simulated_storage.ts';
import type { Event } from '#src/wire/messages.ts';
import { type Application, BLOCK_BYTES, SECTORS_PER_BLOCK, sequencesIn } from './application.ts';
import type { SimCluster } from './cluster.ts';

const COPIES = ['resync', 'recover', 'check', 'repair'];
const SECTOR_BYTES = 512;

/** For moments in which no other agent runs: nobody gives a member up, or takes one in. */
const lastMemberDisks = new WeakMap<SimCluster, Map<NodeId, Set<string>>>();

/**
 * Disks of members in a slot that have not failed, by the newest records that anybody but this node has; of an array that nobody else has
 * been told of, as after a power loss of all, by what the others have read on the disks.
 */
function memberDisks(cluster: SimCluster, but: NodeId): Set<string> {
  const { storage } = cluster;
  const last = lastMemberDisks.get(cluster) ?? new Map<NodeId, Set<string>>();
  lastMemberDisks.set(cluster, last);
  const others = cluster.up().filter((node) => node !== but && cluster.agent(node) !== null);
  if (others.length === 0) return last.get(but) ?? new Set();
  const told = new Map<string, ArrayRecord>();
  const read = new Map<string, ArrayRecord>();
  const disks = new Map<string, string>();
  const keep = (newest: Map<string, ArrayRecord>, record: ArrayRecord): void => {
    const known = newest.get(record.uuid);
    if (known === undefined || compareVersions(record.version, known.version) > 0) newest.set(record.uuid, record);
  };
  for (const asked of cluster.up()) {
    const agent = cluster.agent(asked);
    for (const [uuid, path] of agent?.disks.paths ?? []) {
      // Hidden from it since.
      const disk = storage.find(asked, path);
      if (disk !== null) disks.set(uuid, disk);
    }
    if (agent === null || asked === but) continue;
    for (const record of agent.records()) keep(told, record);
    for (const { record } of agent.disks.arrays()) keep(read, record);
  }
  const members = [...new Map([...read, ...told]).values()].flatMap(({ members }) => members.filter(isWritten));
  const found = new Set(members.flatMap(({ uuid }) => disks.get(uuid) ?? []));
  last.set(but, found);
  return found;
}

/**
 * No member in a slot takes anything of it; there is one. A spare gets its slot when it is reserved. Of members that it alone knows
 * nobody can shut it out: what it has committed there others find when they read the disks, and shut it out of those before they write
 * anything.
 */
export function isShutOut(cluster: SimCluster, node: NodeId): boolean {
  if (!cluster.storage.refuses(node)) return false;
  const disks = [...memberDisks(cluster, node)];
  return disks.length > 0 && disks.every((disk) => !cluster.storage.mayWrite(node, disk));
}

function liveLeases(cluster: SimCluster): NodeId[] {
  return cluster.up().filter((node) => cluster.driver(node).guard.leaseLive);
}

/** A lease whose holder is shut out is one that others may have elected past: it can commit nothing. */
function leaseHolders(cluster: SimCluster): NodeId[] {
  return liveLeases(cluster).filter((node) => !isShutOut(cluster, node));
}

/** Two leases never live in one instant, each by its own node's clock: whoever holds one can commit. */
export function atMostOneMaster(cluster: SimCluster): string | null {
  const holders = leaseHolders(cluster);
  return holders.length <= 1 ? null : `nodes ${holders.join(' and ')} hold a live lease at once`;
}

/** Superblocks and mesh areas are written by the one master, while its lease lives. */
export function metadataInsideLease(cluster: SimCluster, write: DiskWrite): string | null {
  const { node, disk, offsetBytes, lengthBytes } = write;
  const sector = offsetBytes / SECTOR_BYTES;
  // Of what is in no slot a holder may not be shut out: whoever was elected past its lease writes there when that is over, and not before,
  // unless this disk refuses that holder as well, as a spare does that is reserved.
  const isMember = memberDisks(cluster, node).has(disk);
  const mayWrite = (holder: NodeId): boolean => holder === node || cluster.storage.mayWrite(holder, disk);
  const writing = liveLeases(cluster).filter(mayWrite);
  const [first, ...others] = isMember ? leaseHolders(cluster) : byTerm(cluster, writing);
  if (first === node && (!isMember || others.length === 0) && cluster.agent(node)?.leading === true) return null;
  const who = first === undefined ? 'nobody' : `node ${[first, ...others].join(' and ')}`;
  return `node ${node} writes ${lengthBytes} bytes of metadata at sector ${sector} of ${disk}; ${who} holds the lease`;
}

/** Where a member of the simulation has the two copies of its mesh header. */
const HEADERS_AT = [MESH_HEADER_BYTES, 2 * MESH_HEADER_BYTES];

/** A record of an earlier term is not written over that of a later one, be it by the node that led in both. */
export function termsGoOnOnDisk(cluster: SimCluster, node: NodeId, write: MetadataWrite): string | null {
  if (!cluster.driver(node).guard.leaseLive) return null;
  return putsBack(cluster, node, { ...write, disk: cluster.storage.at(node, write.path) });
}

/** Nor does one land there that was on its way for long, where the next master can have it called back. */
export function nothingOldLands(cluster: SimCluster, write: DiskWrite): string | null {
  return write.stage === 'lands' && cluster.callsBack ? putsBack(cluster, write.node, write) : null;
}

function putsBack(
  cluster: SimCluster,
  node: NodeId,
  write: Pick<DiskWrite, 'disk' | 'offsetBytes' | 'bytes'>,
): string | null {
  if (!HEADERS_AT.includes(write.offsetBytes) || write.bytes.length !== MESH_HEADER_BYTES) return null;
  const { disk } = write;
  if (!cluster.storage.mayWrite(node, disk)) return null;
  // What an addition that is refused has overwritten is put back.
  if (!memberDisks(cluster, node).has(disk)) return null;
  const [zero, one] = HEADERS_AT.map((offset) => cluster.storage.glance(disk, offset, MESH_HEADER_BYTES));
  const written = decodeMeshHeaders(write.bytes, write.bytes)?.header.record;
  const standing = zero === undefined || one === undefined ? null : decodeMeshHeaders(zero, one)?.header.record;
  if (written === undefined || standing == null || written.uuid !== standing.uuid) return null;
  if (written.version.term >= standing.version.term) return null;
  const words = ({ version: { term, index } }: ArrayRecord): string => `${term}.${index}`;
  return `node ${node} writes record ${words(written)} of ${written.md} to ${disk}, which has ${words(standing)}`;
}

function byTerm(cluster: SimCluster, holders: readonly NodeId[]): NodeId[] {
  const termOf = (node: NodeId): number => {
    const role = cluster.agent(node)?.lease.role;
    return role?.kind === 'master' ? role.term : Number.POSITIVE_INFINITY;
  };
  return [...holders].sort((a, b) => termOf(a) - termOf(b));
}

/** A writer, under the boot that it has: one that has just booted is waited for by no commit before it is admitted anew. */
function isAdmitted(cluster: SimCluster, record: ArrayRecord, node: NodeId): boolean {
  const boot = record.writerBoots.find((admitted) => admitted.node === node)?.kernelBoot;
  return record.writers.includes(node) && boot === cluster.driver(node).kernelBoot();
}

/**
 * Its agent stands still with its guard, or did a moment ago, and the disks alone keep it out: they refuse what it writes, and not what it
 * reads. A limit of reservations without a watchdog (README, "What is not there yet").
 */
export function readsUnguarded(cluster: SimCluster, node: NodeId): boolean {
  return cluster.driver(node).guard.stands && isShutOut(cluster, node);
}

/** Of an array whose parity is in doubt nobody who knows that begins to read or write anything, until an operator says so. */
export function heldInDoubt(
  cluster: SimCluster,
  { uuid, md, version, parityInDoubt, writers }: ArrayRecord,
): string | null {
  if (parityInDoubt !== true) return null;
  for (const node of cluster.up().filter((up) => !writers.includes(up))) {
    const applied = cluster.agent(node)?.arrays.get(uuid)?.applied ?? null;
    const seen = cluster.driver(node).observe(md);
    if (applied === null || compareVersions(applied, version) !== 0 || seen === null || seen.arrayUuid !== uuid)
      continue;
    if (!seen.held) return `node ${node} lets writes through to ${md}, whose parity is in doubt`;
    if (readsPass(seen)) return `node ${node} lets reads through to ${md}, whose parity is in doubt`;
  }
  return null;
}

/** Nor is anybody let in. */
export function nobodyLetInInDoubt(
  before: ArrayRecord | null,
  { md, version, writers, parityInDoubt }: ArrayRecord,
): string | null {
  if (before?.parityInDoubt !== true || parityInDoubt !== true) return null;
  const added = writers.filter((node) => !before.writers.includes(node));
  return added.length === 0
    ? null
    : `commit ${version.term}.${version.index} of ${md}, whose parity is in doubt, lets node ${added.join(' ')} write`;
}

/** A write that was told as done is on every leg that any node would read it from. A machine that stands still reads nothing. */
export function noReaderMissesAWrite(
  cluster: SimCluster,
  record: ArrayRecord,
  application: Application,
  block: number,
): string | null {
  // Nodes read the same legs.
  const good = new Set<string>();
  for (const node of cluster.up()) {
    const reads = !cluster.driver(node).paused && !readsUnguarded(cluster, node);
    const seen = reads ? cluster.driver(node).observe(record.md) : null;
    if (seen === null || seen.arrayUuid !== record.uuid) continue;
    const mark = seen.resyncStartSector;
    const past = mark !== null && (block + 1) * SECTORS_PER_BLOCK > mark;
    // A read that waits for a path reads nothing, and one whose path has failed ends with an error.
    const readable = copiesOf(record, block).flatMap(({ slot, sector }) => {
      const leg = seen.members.find((member) => member.slot === slot && member.inSync && !member.faulty);
      return leg === undefined ? [] : [{ ...leg, sector }];
    });
    for (const { uuid, device, path, sector } of past ? readable.slice(0, 1) : readable) {
      const member = record.members.find((candidate) => candidate.uuid === uuid);
      if (path === 'lost' || path === 'held' || path === 'failing' || member === undefined || good.has(device))
        continue;
      const [lost] = application.lostAt(block, device, (member.dataOffsetSectors + sector) * SECTOR_BYTES);
      if (lost !== undefined) return `node ${node} would read ${lost}`;
      good.add(device);
    }
  }
  return null;
}

/** What is read is not older than what was told as written before the reading began, and not of a future nobody has begun. */
export function noStaleRead(
  reader: NodeId,
  application: Application,
  block: number,
  bytes: Uint8Array,
  acknowledgedBefore: number,
): string | null {
  const [stale] = application.olderThan(block, bytes, acknowledgedBefore);
  if (stale !== undefined) return `node ${reader} has read that ${stale}`;
  const { begun } = application.newestIn(block);
  const newest = Math.max(0, ...sequencesIn(bytes, application.node, block).map((found) => found ?? 0));
  return newest <= begun
    ? null
    : `node ${reader} has read write ${newest} of block ${block}, ${begun} was the last begun`;
}

/** Once an eviction is applied, what its crash left in doubt is told as one story, until it is written anew. */
export function oneStory(
  reader: NodeId,
  application: Application,
  block: number,
  before: readonly (number | null)[],
  bytes: Uint8Array,
): string | null {
  const now = sequencesIn(bytes, application.node, block);
  if (before.every((sequence, sector) => sequence === now[sector])) return null;
  return `node ${reader} reads writes ${now.join(' ')} in block ${block} of node ${application.node}, which has not written since ${before.join(' ')} was read`;
}

/** An application is never told that a write has failed: what cannot be done now waits. */
export function noWriteFails(application: Application): string | null {
  return application.trouble === null ? null : `node ${application.node}: a write has failed: ${application.trouble}`;
}

/** Every acknowledged write is on every leg in sync. */
export function noWriteLost(
  cluster: SimCluster,
  record: ArrayRecord,
  applications: readonly Application[],
): string | null {
  const legs = legsBySlot(cluster, record);
  for (const { member, disk } of legs.values()) if (disk === null) return `no node's md has member ${member.uuid}`;
  for (const application of applications) {
    for (const block of application.written) {
      for (const { slot, sector } of copiesOf(record, block)) {
        const leg = legs.get(slot);
        if (leg?.disk == null) continue;
        const [lost] = application.lostAt(block, leg.disk, (leg.member.dataOffsetSectors + sector) * SECTOR_BYTES);
        if (lost !== undefined) return lost;
      }
    }
  }
  return null;
}

/** Where the copies of this block lie: it is within one chunk. */
function copiesOf(record: ArrayRecord, block: number): { slot: number; sector: number }[] {
  return piecesOf(record, block * SECTORS_PER_BLOCK, SECTORS_PER_BLOCK)[0]?.copies ?? [];
}

/** Members in sync, each with the disk that it is, if any node's md has it. */
function legsBySlot(cluster: SimCluster, record: ArrayRecord) {
  const legs = record.members.filter(({ role }) => role === 'active');
  return new Map(legs.map((member) => [member.slot, { member, disk: diskOf(cluster, record, member.uuid) }]));
}

/** Legs in sync are one to the last byte. */
export function legsAgree(cluster: SimCluster, record: ArrayRecord): string | null {
  const legs = record.members.filter(({ role }) => role === 'active');
  const areas = legs.flatMap((member) => {
    const disk = diskOf(cluster, record, member.uuid);
    if (disk === null) return [];
    const begin = member.dataOffsetSectors * SECTOR_BYTES;
    const { buffer, byteOffset, byteLength } = cluster.storage.glance(
      disk,
      begin,
      record.componentSectors * SECTOR_BYTES,
    );
    return Buffer.from(buffer, byteOffset, byteLength);
  });
  const [first, ...others] = areas;
  if (first === undefined) return 'no leg is in sync';
  if (record.level !== 'raid1') return chunksAgree(record, legs, areas);
  if (others.every((area) => area.equals(first))) return null;
  const block = Array.from({ length: first.length / BLOCK_BYTES }, (_, at) => at * BLOCK_BYTES).find((at) =>
    others.some((area) => !area.subarray(at, at + BLOCK_BYTES).equals(first.subarray(at, at + BLOCK_BYTES))),
  );
  return `the legs differ, first in block ${(block ?? 0) / BLOCK_BYTES}`;
}

/** Of each chunk the copies are one, or its stripe fits its parity. @param areas of all members in sync, in the order of `legs` */
function chunksAgree(
  record: ArrayRecord,
  legs: readonly ArrayRecord['members'][number][],
  areas: readonly Buffer[],
): string | null {
  const { level, chunkSectors, componentSectors, raidDisks } = record;
  const bySlot = new Map(legs.map(({ slot }, at) => [slot, areas[at]]));
  if (level === 'raid10') {
    for (const { at, sectors, copies } of piecesOf(record, 0, arraySectors(record))) {
      const [one, ...more] = copies.map(({ slot, sector }) =>
        bySlot.get(slot)?.subarray(sector * SECTOR_BYTES, (sector + sectors) * SECTOR_BYTES),
      );
      if (one === undefined || more.some((other) => other?.equals(one) === false))
        return `the copies of the chunk at sector ${at} differ`;
    }
  } else if ((level === 'raid4' || level === 'raid5') && areas.length === raidDisks) {
    for (let at = 0; at < componentSectors * SECTOR_BYTES; at += 8) {
      const sum = areas.reduce((all, area) => all ^ area.readBigUInt64LE(at), 0n);
      if (sum !== 0n)
        return `the stripe at sector ${at / SECTOR_BYTES}, of chunks of ${chunkSectors}, does not fit its parity`;
    }
  }
  return null;
}

/** The sector of the array that lies there. @param sector of the component; raid1 and raid10 near */
export function arraySectorAt(
  { level, chunkSectors, raidDisks, layout }: ArrayRecord,
  slot: number,
  sector: number,
): number {
  if (level !== 'raid10') return sector;
  const row = Math.floor(sector / chunkSectors);
  return Math.floor((row * raidDisks + slot) / (layout & 0xff)) * chunkSectors + (sector % chunkSectors);
}

/** One node copies, never two. */
export function oneCopier(cluster: SimCluster, node: NodeId, md: string): string | null {
  for (const other of cluster.up()) {
    // What stands still may be shut out in the middle of its copy.
    if (other === node || isShutOut(cluster, other)) continue;
    const action = cluster.driver(other).observe(md)?.syncAction ?? 'idle';
    if (COPIES.includes(action)) return `node ${node} copies, and node ${other} is at its ${action}`;
  }
  return null;
}

/**
 * Where a node's md may copy, every other node's writes are suspended, and none is in flight; or they wait, from the first on, for an
 * answer that a node which is no writer does not give.
 */
export function suspendBeforeSync(
  cluster: SimCluster,
  node: NodeId,
  record: ArrayRecord,
  kind: CopyKind,
  fromSector: number,
  toSector: number,
): string | null {
  const range = rangeOnArray(record, kind, fromSector, toSector);
  if (range.loSector >= range.hiSector) return null;
  for (const other of cluster.up()) {
    const seen = other === node ? null : cluster.driver(other).observe(record.md);
    if (seen === null || seen.held || isShutOut(cluster, other)) continue;
    if (!record.writers.includes(other) && asksToBegin(seen)) continue;
    const held = seen.suspended;
    if (held !== null && held.loSector <= range.loSector && held.hiSector >= range.hiSector) continue;
    const text = held === null ? 'nothing' : `${held.loSector}..${held.hiSector}`;
    return `node ${node} may copy ${range.loSector}..${range.hiSector}, node ${other} holds ${text}`;
  }
  return null;
}

/** No node's write goes to a member where another node is copying at that moment, and they take what it copies. */
export function noWriteBesideTheCopy(
  cluster: SimCluster,
  md: string,
  node: NodeId,
  disk: string,
  written: SectorRange,
): string | null {
  // A node that was shut out is so of members; a disk that has failed before may take what it writes.
  if (cluster.storage.refuses(node) && !memberDisks(cluster, node).has(disk)) return null;
  for (const other of cluster.up()) {
    const piece = other === node || isShutOut(cluster, other) ? null : cluster.driver(other).copying(md);
    if (piece === null || piece.loSector >= written.hiSector || piece.hiSector <= written.loSector) continue;
    return `node ${node} writes ${written.loSector}..${written.hiSector} while node ${other} copies ${piece.loSector}..${piece.hiSector}`;
  }
  return null;
}

/** What the commits of one array were, as they came to be known to anybody. */
export interface CommitLine {
  newest: { version: Version; by: NodeId } | null;
  /** The newest under whose release a write was told as done. */
  relied: Version | null;
  /** What the newest takeover has found on the disks. */
  found: Version | null;
}

/**
 * Each commit follows all that were made before. One that nobody has relied on may get lost, when all lose power before it is
 * released; any other must not.
 */
export function commitsAreOneLine(line: CommitLine, event: Event): string | null {
  const { body, origin } = event;
  if (body.type !== 'commit') return null;
  const { version, md } = body.record;
  const { newest: before, relied, found } = line;
  // Told late, by one that has been shut out since: it stood on the disks already, and goes on in what has taken it over.
  if (found !== null && compareVersions(version, found) === 0) return null;
  line.newest = { version, by: origin };
  if (body.kind === 'new-term') line.found = body.before;
  const words = (of: Version | null): string => (of === null ? 'none' : `${of.term}.${of.index}`);
  if (before === null) return null;
  if (version.term < before.version.term)
    return `${md}: node ${origin} commits ${words(version)} after ${words(before.version)} of node ${before.by}`;
  const named = body.before;
  const follows = named === null ? -1 : named.index;
  // Its own master may have let a write go under it before anybody has journaled it.
  if (relied !== null && follows < relied.index && compareVersions(relied, version) !== 0)
    return `${md}: commit ${words(version)} of node ${origin} follows ${words(named)}, but writes were told as done under ${words(relied)}`;
  // Of an earlier term there may be one more on the disks, which nobody was told of; or one less.
  if (version.term > before.version.term || (named !== null && compareVersions(named, before.version) === 0))
    return null;
  return `${md}: commit ${words(version)} of node ${origin} says that it follows ${words(named)}, not ${words(before.version)} of node ${before.by}`;
}

/** A node applies each commit once, and none after a later one. @param seen what this life of its agent has applied */
export function appliedInOrder(node: NodeId, md: string, seen: Version | null, applied: Version | null): string | null {
  if (seen === null || (applied !== null && compareVersions(applied, seen) >= 0)) return null;
  const to = applied === null ? 'nothing' : `${applied.term}.${applied.index}`;
  return `node ${node} has applied ${seen.term}.${seen.index} of ${md}, and now ${to}`;
}

/** No event stands in a journal twice. */
export function journaledOnce(node: NodeId, known: Set<string>, event: Event): string | null {
  const id = `${event.origin}/${event.bootNumber}/${event.sequence}`;
  if (!known.has(id)) {
    known.add(id);
    return null;
  }
  return `node ${node} journals event ${id} (${event.body.type}) a second time`;
}

/** A node that was taken off the writers without a word of its own has surely stopped, or the disks take nothing of it. */
export function evictedHasStopped(cluster: SimCluster, event: Event, writersBefore: readonly NodeId[]): string | null {
  const { body } = event;
  if (body.type !== 'commit' || body.kind !== 'evict') return null;
  for (const node of writersBefore) {
    if (body.record.writers.includes(node) || !cluster.isUp(node)) continue;
    const seen = cluster.driver(node).observe(body.record.md);
    if (seen !== null && !seen.held && !isShutOut(cluster, node))
      return `node ${node} is evicted from ${body.record.md}, and its writes pass`;
  }
  return null;
}

/** Blocks go to the disks only from nodes that the newest record names as writers, under the boot that it names. */
export function onlyWritersWrite(cluster: SimCluster, record: ArrayRecord, node: NodeId, disk: string): string | null {
  // A disk that has left may be added again, and is filled anew: it takes a slot when it is reserved.
  if (isAdmitted(cluster, record, node) || !memberDisks(cluster, node).has(disk)) return null;
  const why = record.writers.includes(node) ? 'was admitted under another boot' : 'is no writer';
  return `node ${node} writes to ${record.md}, and ${why} (record ${record.version.term}.${record.version.index})`;
}

/** What a drain may take, of a write that was let in before. */
const DRAIN_MS = 2000;

/** An agent that runs lets no write pass without a grant. Where none runs, or it stands still, others have to wait, or fence. */
export function writesNeedAGrant(cluster: SimCluster, node: NodeId): string | null {
  const { guard } = cluster.driver(node);
  const withoutMs = cluster.driver(node).now() - guard.state().grantUntilMs;
  const ranForMs = cluster.awakeForMs(node);
  if (!cluster.isRunning(node) || withoutMs < DRAIN_MS || ranForMs < DRAIN_MS) return null;
  return `node ${node} writes, and has had no grant for ${Math.min(withoutMs, ranForMs).toFixed(0)} ms`;
}

/** The last copy is never given up. */
export function dataHasACopy(record: ArrayRecord): string | null {
  const { md, version } = record;
  if (survivesWithout(record)) return null;
  return `${md}: commit ${version.term}.${version.index} leaves no member in sync`;
}

/**
 * When the end of a copy is committed the legs are one, but for what is being written: blocks of which a write is under way, or
 * was when its node lost its power, as long as that has not been evicted for it.
 */
export function legsAgreeWhenCopied(
  cluster: SimCluster,
  record: ArrayRecord,
  applications: readonly Application[],
): string | null {
  const legs = legsBySlot(cluster, record);
  for (const application of applications) {
    const { firstBlock, blocks } = application.region;
    for (let block = firstBlock; block < firstBlock + blocks; block++) {
      if (application.mayDiffer(block)) continue;
      const [first, ...others] = copiesOf(record, block).flatMap(({ slot, sector }) => {
        const { member, disk } = legs.get(slot) ?? {};
        return member === undefined || disk == null ? [] : [{ disk, sector: member.dataOffsetSectors + sector }];
      });
      if (first === undefined) continue;
      const at = ({ disk, sector }: typeof first): Uint8Array =>
        cluster.storage.glance(disk, sector * SECTOR_BYTES, BLOCK_BYTES);
      const bytes = Buffer.from(at(first));
      const other = others.find((leg) => !bytes.equals(at(leg)));
      if (other !== undefined)
        return `the copy of ${record.md} has ended, and ${first.disk} and ${other.disk} differ in block ${block} of node ${application.node}`;
    }
  }
  return null;
}

/** A check or repair that is said to have come to its end has looked at everything, whoever made it, and however often it began again. */
export function checkedWhole(before: ArrayRecord, compared: readonly SectorRange[], after: ArrayRecord): string | null {
  const { resync } = before;
  // Called off: of that nothing is claimed.
  if (resync === null || after.lastCheck?.mismatchSectors == null) return null;
  const total = copySectors(before, resync.kind);
  let reached = 0;
  for (const { loSector, hiSector } of compared.toSorted((a, b) => a.loSector - b.loSector)) {
    if (loSector > reached) break;
    reached = Math.max(reached, hiSector);
  }
  if (reached >= total) return null;
  return `the ${resync.kind} of ${before.md} has ended, and nobody has compared sector ${reached} of ${total}`;
}

/** By whoever's md has it. */
export function diskOf(cluster: SimCluster, { md }: ArrayRecord, uuid: string): string | null {
  for (const node of cluster.up()) {
    const seen = cluster
      .driver(node)
      .observe(md)
      ?.members.find((member) => member.uuid === uuid);
    if (seen !== undefined) return seen.device;
  }
  return null;
}
