/** Whether writes and reads of this node may pass now: by its grant, its keys, its boot, and what the cluster has said of the record. */
import type { ArrayObservation, MemberObservation } from '../md/driver.ts';
import { admittedUnder } from './ended.ts';
import { activeMembers, canDiffer, isRedundant, isWritten, rebuildingMembers, touches } from './levels.ts';
import type { LocalArray, NodeArrays } from './local_state.ts';
import { type ArrayRecord, compareVersions, type NodeId } from './record.ts';
import { copyRuns, goodIn, isApplied, isReadTooFar, isReleased, readsHeld } from './seen_here.ts';

/** This node may not write to all members that it would write to. */
function lacksKeys({ keys, lapsedAtMs }: NodeArrays, record: ArrayRecord): boolean {
  if (keys === null) return false;
  // Without a grant it may have been shut out, and a node that stood still has not looked since.
  if (keys.shutOut || keys.atMs < lapsedAtMs) return true;
  return record.members.some((member) => isWritten(member) && !keys.usable.has(member.uuid));
}

/** As far as this node knows some member refuses what it writes: also the bitmap that md writes as it assembles the array. */
export function wouldRefuse({ keys }: NodeArrays, record: ArrayRecord): boolean {
  if (keys === null) return false;
  const hasLooked = keys.atMs > Number.NEGATIVE_INFINITY;
  return (
    !hasLooked || keys.shutOut || record.members.some((member) => isWritten(member) && keys.absent.has(member.uuid))
  );
}

/**
 * A key is missing, be it on a spare, and may not be put there before nothing is on its way from before the newest grant began: a
 * hold sees to that.
 */
function owesDrain({ keys, lapsedAtMs, arrays }: NodeArrays, { cleanAtMs }: LocalArray): boolean {
  if (keys === null || cleanAtMs >= lapsedAtMs) return false;
  return [...arrays.values()].some(({ record }) =>
    record.members.some(({ uuid, role }) => role !== 'faulty' && !keys.usable.has(uuid)),
  );
}

/**
 * This node's key may be put on a disk where it is missing: it has a live grant, so that nobody is shutting it out, and nothing of
 * what it began before it last had none is on its way, nor a bitmap that is written as an array is assembled. Where a member has failed
 * here, it must be seen first whether that was for the missing key.
 * @param bids where disks decide: it stands, as nobody's word is fresh there, and could not write its own
 */
export function mayRegister(state: NodeArrays, now: number, bids = false): boolean {
  const granted = now < state.grantUntilMs;
  if (!(granted || bids) || state.leaving) return false;
  const sinceMs = granted ? state.lapsedAtMs : Math.max(state.lapsedAtMs, state.grantUntilMs);
  return [...state.arrays.values()].every(
    ({ observation, cleanAtMs, busy, partedAtMs }) =>
      observation !== undefined && cleanAtMs >= sinceMs && busy?.op !== 'assemble' && partedAtMs === null,
  );
}

export function wantedHere(record: ArrayRecord, self: NodeId): boolean {
  return record.run === 'started' && (record.access === 'shared' || record.owner === self);
}

/** The record's writer of this number was another boot of this node: its last writes may stand on one leg only. */
export function crashedSince(state: NodeArrays, record: ArrayRecord): boolean {
  if (!record.writers.includes(state.self)) return false;
  return admittedUnder(record, state.self) !== state.kernelBoot;
}

/**
 * A writer has crashed, or may have: its last writes may stand on one leg only. Until the resync of that is committed, which may
 * take as long as a person needs to confirm it, reads keep to the first leg: two readings must not tell two stories.
 */
export function unsure(state: NodeArrays, record: ArrayRecord): boolean {
  if (!canDiffer(record)) return false;
  // md would begin what is marked before any other copy of its own.
  if (record.resync?.by === state.self) return crashedSince(state, record);
  return crashedSince(state, record) || record.writers.some((node) => node !== state.self && state.gone.has(node));
}

export function mustHold(state: NodeArrays, array: LocalArray, now: number): boolean {
  const { record } = array;
  if (crashedSince(state, record) || record.blind?.includes(state.self) === true) return true;
  if (lacksKeys(state, record) || owesDrain(state, array)) return true;
  return state.leaving || now >= state.grantUntilMs || !record.writers.includes(state.self);
}

/**
 * Nobody who gives up a member would wait for this node's word. So it must not read either: what it reads may miss what was
 * acknowledged since.
 */
export function mustHoldReads(state: NodeArrays, { record }: LocalArray, now: number): boolean {
  if (!isRedundant(record.level)) return false;
  if (state.leaving || now >= state.grantUntilMs || state.keys?.shutOut === true) return true;
  if (record.blind?.includes(state.self) === true || crashedSince(state, record)) return true;
  return !touches(record, state.self);
}

/** This node's writes may be let through where they were not before. */
export function mayOpen(state: NodeArrays, { record, released, observation }: LocalArray): boolean {
  if (released === null) return false;
  if (compareVersions(released.version, record.version) >= 0) return true;
  // A window moves on although a checkpoint is under way: the array is open already, and the legs are the same.
  const sameCopy = released.resync !== null && released.resync.since === record.resync?.since;
  const sameLegs = JSON.stringify(released.members) === JSON.stringify(record.members);
  return sameCopy && sameLegs && observation?.held === false && released.writers.includes(state.self);
}

/** A member that md here uses has failed on another node, and the commit that says so is on its way. */
export function awaitsFailure({ record, observation, expected }: LocalArray, now: number): boolean {
  return [...expected].some(([uuid, untilMs]) => {
    const recorded = record.members.find((member) => member.uuid === uuid);
    const seen = observation?.members.find((member) => member.uuid === uuid);
    return now < untilMs && recorded?.role === 'active' && seen?.faulty === false;
  });
}

/** Held, but for nothing that lasts: a failure is being agreed on, and writes go on when it is. */
export function heldForFailure(state: NodeArrays, array: LocalArray, now: number): boolean {
  const isHeld = array.observation?.held === true;
  return isHeld && wantedHere(array.record, state.self) && !mustHold(state, array, now);
}

/** What is held may be read: commits wait for this node, and nothing here is read that a commit has given up before. */
export function mayRead(state: NodeArrays, array: LocalArray, now: number): boolean {
  const { record, observation, busy } = array;
  if (observation == null || !readsHeld(observation)) return false;
  if (mustHoldReads(state, array, now)) return false;
  if (wantedHere(record, state.self)) {
    // As the record has it: else a member may be in sync here that is not, or has failed.
    if (!isReleased(array) || !isApplied(array)) return false;
    const tooFar = (seen: MemberObservation): boolean =>
      rebuildingMembers(record).some(
        (member) => member.uuid === seen.uuid && isReadTooFar(state.self, array, member, seen),
      );
    if (observation.members.some(tooFar)) return false;
  } else if (!readsAsRecorded(state, record, observation)) return false;
  if (copyRuns(observation) || busy?.op === 'hold-reads') return false;
  const good = goodIn(record);
  // Of a failed one too what waits would be read from it: that is let go with an error first.
  return observation.members.every(
    ({ uuid, slot, faulty, path }) => path !== 'held' || slot === null || (!faulty && uuid !== null && good.has(uuid)),
  );
}

/**
 * A stop waits for what is read, and its release for the stop: what md here reads is in sync by the record, which others may not
 * have applied. They write to that still, and to more.
 */
function readsAsRecorded(state: NodeArrays, record: ArrayRecord, observation: ArrayObservation): boolean {
  const active = new Set(activeMembers(record).map(({ uuid }) => uuid));
  const differs = record.resync?.kind === 'resync' || unsure(state, record);
  if (differs && observation.resyncStartSector !== 0) return false;
  return observation.members.every(
    ({ uuid, slot, inSync, faulty }) => slot === null || faulty || !inSync || (uuid !== null && active.has(uuid)),
  );
}
