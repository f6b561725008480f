/** What md on this node shows of an array, held against the record: failed members, lost paths, what waits and what runs. */
import type { ArrayObservation, MemberObservation } from '../md/driver.ts';
import { rebuildingMembers } from './levels.ts';
import type { LocalArray, NodeArrays } from './local_state.ts';
import { fillsByMarks } from './missed.ts';
import {
  type ArrayRecord,
  bitmapSector,
  type Copy,
  compares,
  compareVersions,
  type MemberRecord,
  type NodeId,
} from './record.ts';

/** Longer than a lost path rests between two tries: one that works only until its next I/O is not back. */
const STEADY_MS = 1500;

export function gateClosed(observation: ArrayObservation): boolean {
  return observation.writePending || observation.members.some((member) => member.blocked);
}

/** md here has failed, or been refused, writes to a member that the record takes for good. */
export function failedHere(observation: ArrayObservation, record: ArrayRecord): boolean {
  const failed = observation.members.filter(({ faulty, blocked }) => faulty || blocked);
  if (failed.length === 0) return false;
  const good = goodIn(record);
  return failed.some(({ uuid }) => uuid !== null && good.has(uuid));
}

export function isClean({ observation, busy, record }: LocalArray): boolean {
  if (observation == null) return observation === null && busy?.op !== 'assemble';
  const changes = busy !== null && ['open', 'hold-range'].includes(busy.op);
  if (changes || copyRuns(observation)) return false;
  return observation.held && nothingWaits(observation) && !failedHere(observation, record);
}

/**
 * A whole array that was clean asks before its first write (md_write_start, drivers/md/md.c): until it is answered nothing has been sent to
 * any member. Where one is missing, a failure may be what waits there, and writes with it.
 */
export function asksToBegin({ writePending, degraded, members }: ArrayObservation): boolean {
  return (
    writePending &&
    degraded === 0 &&
    members.every(({ faulty, blocked, path }) => !faulty && !blocked && path !== 'lost')
  );
}

/**
 * The first write to a clean array waits for an answer that only a writer gives, and all others behind it: it is held as well as by a
 * suspend, which could not drain it. Not beside a copy, whose windows it would have to be kept from once it is answered.
 */
export function isHeldAtGate(self: NodeId, { observation, record, gateBusy }: LocalArray): boolean {
  if (observation == null || gateBusy || record.writers.includes(self) || record.resync !== null) return false;
  return asksToBegin(observation);
}

/** Of an array that no record has told of: nothing that was begun on it is on its way, and nothing of it has failed. */
export function liesStill(observation: ArrayObservation): boolean {
  const hasFailed = observation.members.some(({ faulty, blocked }) => faulty || blocked);
  return observation.held && nothingWaits(observation) && !hasFailed;
}

/** No write in flight waits for an answer or for a path. */
export function nothingWaits(observation: ArrayObservation): boolean {
  return !gateClosed(observation) && !pathLost(observation);
}

/** A drain would end: it waits for reads as well. */
export function mayDrain(observation: ArrayObservation): boolean {
  return nothingWaits(observation) && !readsHeld(observation);
}

export function readsHeld({ members }: ArrayObservation): boolean {
  return members.some(({ path }) => path === 'held');
}

/** Something of this array can be read here, and could be held. */
export function readsPass({ members }: ArrayObservation): boolean {
  return members.some(({ path, slot, faulty }) => path === 'up' && slot !== null && !faulty);
}

/** I/O of this node waits for the path to a member. */
export function pathLost(observation: ArrayObservation): boolean {
  return observation.members.some(({ path }) => path === 'lost');
}

/** A path that is up by now, but may be lost again at the next I/O. */
export function shaky({ observation, lostAtMs }: LocalArray): boolean {
  return observation != null && !pathLost(observation) && lostAtMs.size > 0;
}

/** Kept up to date as long as this node's writes wait for its paths. */
export function lostLately(
  state: NodeArrays,
  { observation, lostAtMs, record }: LocalArray,
  now: number,
): LocalArray['lostAtMs'] {
  if (state.pathLoss === 'fail-member' || observation == null) return lostAtMs;
  const good = goodIn(record);
  const next = observation.members.flatMap(({ uuid, path, faulty }) => {
    if (uuid === null || faulty || !good.has(uuid)) return [];
    const atMs = path === 'lost' ? now : path === 'up' ? lostAtMs.get(uuid) : undefined;
    return atMs === undefined || now - atMs >= STEADY_MS ? [] : [[uuid, atMs] as const];
  });
  return next.length === 0 && lostAtMs.size === 0 ? lostAtMs : new Map(next);
}

/** Members to which this node's I/O waits, or did a moment ago. */
export function lostHere({ observation, lostAtMs }: LocalArray): string[] {
  const lost = (observation?.members ?? []).flatMap(({ uuid, path }) =>
    uuid !== null && path === 'lost' ? [uuid] : [],
  );
  return [...new Set([...lost, ...lostAtMs.keys()])].sort();
}

/** The kernel is moving data between members. As soon as it is told not to, md calls itself frozen, whatever is still on its way. */
export function copyRuns({ syncAction, syncCompleted }: ArrayObservation): boolean {
  return syncCompleted !== null || !['idle', 'frozen', ''].includes(syncAction);
}

export function isApplied({ applied, record }: LocalArray): boolean {
  return applied !== null && compareVersions(applied, record.version) === 0;
}

export function isReleased(array: LocalArray): boolean {
  return array.released !== null && compareVersions(array.released.version, array.record.version) >= 0;
}

/**
 * Members that md here does not write to and the record takes for good: faulty, behind a lost path, or taken out behind our
 * back (the kernel lets go of a blocked member when it is hot-removed, so a gate that opens by itself must not pass for an
 * answered one).
 */
export function diverged(observation: ArrayObservation, record: ArrayRecord, self: NodeId): string[] {
  return record.members
    .filter((recorded) => {
      if (recorded.role === 'faulty') return false;
      const seen = observation.members.find((member) => member.uuid === recorded.uuid);
      if (seen !== undefined && (seen.faulty || seen.blocked || seen.path === 'lost')) return true;
      // Whoever does not write has missed no write by it: it takes the member in before it becomes a writer.
      return recorded.role === 'active' && !inSlot(seen) && record.writers.includes(self);
    })
    .map((recorded) => recorded.uuid);
}

export function isInSlot({ members }: ArrayObservation, uuid: string): boolean {
  return inSlot(members.find((member) => member.uuid === uuid));
}

export function inSlot(seen: MemberObservation | undefined): boolean {
  return seen !== undefined && seen.slot !== null;
}

/** This node's copy goes by its bitmap: md copies what is marked there. A resync then begins at sector 0. */
export function byBitmap(observation: ArrayObservation, copy: Copy): boolean {
  return observation.bitmap !== null && (copy.kind === 'resync' || fillsByMarks(copy));
}

/** md here keeps the bitmap that the record says, or none where it says so. */
export function keepsBitmap({ bitmap: place }: ArrayRecord, { bitmap }: ArrayObservation, self: NodeId): boolean {
  if (place === null || bitmap === null) return place === bitmap;
  return bitmap.sector === bitmapSector(place, self) && bitmap.chunkSectors === place.chunkSectors;
}

/**
 * md reads a rebuilding member as far as it knows it to be filled (raid1_read_balance). Of a copy that begins anew, as after a crash, it
 * may know too much: what the crash has left in doubt would be read from both, and be two stories. Or it is in sync here by a copy that
 * counts no more, as its end was never committed.
 */
export function isReadTooFar(
  self: NodeId,
  { record, attached, copying }: LocalArray,
  { uuid, role }: MemberRecord,
  seen: MemberObservation,
): boolean {
  const copy = record.resync;
  if (role === 'rebuilding' && seen.inSync) return copy?.by !== self;
  if (!seen.rebuilding || copy === null || copy.halted) return false;
  const since = attached.get(uuid);
  if (since === undefined || since.since === copy.since) return false;
  return copying === since.since || since.fromSector > copy.fromSector;
}

/**
 * Where the check or repair that is this node's has found copies to differ, in sectors, whoever made it before; null: it is another copy.
 * What lies behind a checkpoint, or was looked at when md was interrupted, may be counted twice; nothing is left out.
 */
export function foundSoFar(array: LocalArray): number | null {
  const copy = array.record.resync;
  return copy === null || !compares(copy.kind) ? null : (copy.foundBefore ?? 0) + foundHere(array, copy);
}

/** Of that, under this `since`. */
export function foundHere(array: LocalArray, copy: Copy): number {
  return array.copying === copy.since ? countedHere(array) : (copy.foundSectors ?? 0);
}

function countedHere({ foundBefore, observation }: LocalArray): number {
  return foundBefore + (observation?.mismatchSectors ?? 0);
}

/**
 * What a repair has mended nobody finds again. So whose copy is taken from it, when the lead goes to another node or an operator halts it,
 * counts to the end what it had not told.
 */
export function takenOverBy(known: LocalArray, { resync }: ArrayRecord): LocalArray['takenOver'] {
  const before = known.record.resync;
  if (before?.kind !== 'repair' || resync?.kind !== 'repair') return null;
  const { since: from, foundBefore: others = 0 } = before;
  if (resync.since === from) return known.takenOver;
  return { from, since: resync.since, told: (resync.foundBefore ?? 0) - others, sectors: null };
}

export function countedWhole(array: LocalArray): LocalArray['takenOver'] {
  const { takenOver, observation, busy } = array;
  if (takenOver?.sectors !== null || observation == null || busy !== null || copyRuns(observation)) return takenOver;
  // md was never started on it.
  if (array.copying !== takenOver.from) return null;
  return { ...takenOver, sectors: Math.max(0, countedHere(array) - takenOver.told) };
}

/** The copy that md was started on has come to its end. */
export function ended(array: LocalArray, observation: ArrayObservation): boolean {
  const { record, windows } = array;
  switch (record.resync?.kind) {
    case 'resync':
      return observation.resyncStartSector === null;
    case 'recovery':
      return rebuildingMembers(record).every(({ uuid }) =>
        observation.members.some((seen) => seen.uuid === uuid && seen.inSync),
      );
    default:
      if (windows === null || windows.allowedSector < windows.totalSectors) return false;
      return !observation.copyUnended || windows.doneSector >= windows.totalSectors;
  }
}

export function goodIn(record: ArrayRecord | null): Set<string> {
  return new Set(record?.members.filter(({ role }) => role !== 'faulty').map((member) => member.uuid));
}
