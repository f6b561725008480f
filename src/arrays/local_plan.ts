/** The first thing in which md on this node differs from the record, in the order in which differences are dangerous. */
import type { ArrayObservation, CopyOrder, SectorRange } from '../md/driver.ts';
import { activeMembers, canDiffer, isRedundant, isWritten, rebuildingMembers } from './levels.ts';
import type { LocalArray, LocalOp, NodeArrays } from './local_state.ts';
import {
  awaitsFailure,
  crashedSince,
  mayOpen,
  mustHold,
  mustHoldReads,
  unsure,
  wantedHere,
  wouldRefuse,
} from './may_pass.ts';
import { fillsByMarks, isWhole } from './missed.ts';
import { type ArrayRecord, type Copy, compares, compareVersions, type MemberRecord } from './record.ts';
import {
  byBitmap,
  copyRuns,
  diverged,
  ended,
  foundHere,
  gateClosed,
  goodIn,
  inSlot,
  isHeldAtGate,
  isReadTooFar,
  isReleased,
  keepsBitmap,
  mayDrain,
  nothingWaits,
  pathLost,
  readsHeld,
  readsPass,
  shaky,
} from './seen_here.ts';
import { shapingDue } from './shape.ts';

const NOTHING: SectorRange = { loSector: 0, hiSector: 0 };

/**
 * What this node's bitmap says of its earlier boot has not been taken over yet, and md would drop it with the first assembly.
 * The node that is to resync by it keeps it.
 */
function marksAreNeeded({ self }: NodeArrays, { resync }: ArrayRecord): boolean {
  // Those that a recovery goes by are kept: the array is not whole (see the driver's `assemble`).
  return resync?.kind === 'resync' && resync.markedBy?.includes(self) === true && resync.by !== self;
}

/** To the record's bitmap; null: md has it, or cannot. */
function bitmapOp(state: NodeArrays, array: LocalArray, observation: ArrayObservation): LocalOp | null {
  const { record, bitmapSet } = array;
  if (!isRedundant(record.level) || crashedSince(state, record)) return null;
  if (!keepsBitmap(record, observation, state.self)) {
    const tried = bitmapSet !== undefined && JSON.stringify(bitmapSet) === JSON.stringify(record.bitmap);
    return tried ? null : { op: 'set-bitmap', record, none: false };
  }
  return null;
}

/** The array is whole for all, and md's bitmap may have marks of the time when it was not. */
function marksAreOver(state: NodeArrays, array: LocalArray, observation: ArrayObservation, now: number): boolean {
  const { record, marksLeft } = array;
  if (!marksLeft || observation.bitmap === null || !isReleased(array) || isUnfit(array)) return false;
  if (!isWhole(record) || record.resync !== null || unsure(state, record) || crashedSince(state, record)) return false;
  const stands = observation.syncAction === 'frozen' && observation.syncCompleted === null;
  return stands && now < state.grantUntilMs && observation.degraded === 0 && observation.resyncStartSector === null;
}

function copiedElsewhere(state: NodeArrays, { resync }: ArrayRecord): boolean {
  return resync !== null && resync.by !== state.self && !resync.halted;
}

/** A range that moves on: its end first, for the copier waits for that alone, and each end is a drain. */
function nextRange({ suspended, held }: ArrayObservation, { loSector, hiSector }: SectorRange): SectorRange {
  const movesOn = !held && suspended !== null && suspended.loSector < loSector && suspended.hiSector >= loSector;
  return movesOn && suspended.hiSector < hiSector ? { loSector: suspended.loSector, hiSector } : { loSector, hiSector };
}

function sameRange(a: SectorRange | null, b: SectorRange): boolean {
  if (b.loSector >= b.hiSector) return a === null;
  return a !== null && a.loSector === b.loSector && a.hiSector === b.hiSector;
}

function attachFor(
  state: NodeArrays,
  record: ArrayRecord,
  { uuid }: MemberRecord,
): Extract<LocalOp, { op: 'attach-rebuilding' }> {
  const copy = record.resync;
  const fromSector = copy?.kind === 'recovery' && copy.by === state.self ? copy.fromSector : 0;
  return { op: 'attach-rebuilding', member: uuid, record, fromSector, since: copy?.since ?? record.version.index };
}

function attachedFor(array: LocalArray, copy: Copy, { uuid }: MemberRecord): boolean {
  const attached = array.attached.get(uuid);
  return attached?.since === copy.since && attached.fromSector === copy.fromSector;
}

export function isMarked({ marked }: LocalArray, copy: Copy): boolean {
  return marked?.since === copy.since;
}

export interface Plan {
  op: LocalOp | null;
  /** The record is applied: what the other writers wait for is done here. */
  settled: boolean;
  rescan?: boolean;
  trouble?: string;
  copyDone?: boolean;
}

function unseen(record: ArrayRecord, missing: readonly MemberRecord[]): Pick<Plan, 'rescan' | 'trouble'> {
  const names = missing.map((member) => member.uuid).join(', ');
  return {
    rescan: true,
    trouble: `${record.md}: this node sees no disk with member ${names}; check its path to the storage`,
  };
}

function withoutKeys({ keys }: NodeArrays, { md, members }: ArrayRecord): Pick<Plan, 'trouble'> {
  const lacking = members
    .filter((member) => isWritten(member) && keys?.absent.has(member.uuid))
    .map(({ uuid }) => uuid);
  if (lacking.length === 0) return {};
  const which = lacking.join(', ');
  return {
    trouble: `${md}: this node's reservation key is not on member ${which}; it is put there, and ${md} assembled, once the master grants this node writes (mdmesh doctor)`,
  };
}

export function refusedText({ md }: ArrayRecord): string {
  return `${md}: its members have refused writes of this node (it was shut out, or a path came without its key); they are held for good: end what uses ${md}, or reboot the node`;
}

/** The first thing that differs between record and observation, in the order in which differences are dangerous. */
export function plan(state: NodeArrays, array: LocalArray, now: number): Plan {
  const { record, observation } = array;
  if (observation === undefined) return { op: null, settled: false };
  if (observation !== null && array.refused) {
    // Nobody has it open: then no write waits, and it can be had anew.
    return { op: { op: 'stop' }, settled: false, trouble: refusedText(record) };
  }
  if (!wantedHere(record, state.self)) {
    if (observation === null) return { op: null, settled: true };
    // Drained before it is stopped: `stop` must not cut a write in two. The driver refuses while one waits for a path.
    if (!observation.held && mayDrain(observation)) return { op: { op: 'hold' }, settled: false };
    return { op: { op: 'stop' }, settled: false };
  }
  if (observation === null) {
    const missing = record.members.filter((member) => isWritten(member) && !state.paths.has(member.uuid));
    if (missing.length > 0) return { op: null, settled: false, ...unseen(record, missing) };
    if (crashedSince(state, record) && record.bitmap !== null) return { op: null, settled: false };
    // A bitmap that is refused would be a failure of that member, for all; and what this node marks later would not stand on the others.
    if (wouldRefuse(state, record)) {
      return { op: null, settled: !crashedSince(state, record), ...withoutKeys(state, record) };
    }
    // It runs nothing that could contradict the record, and others may be waiting for its word.
    if (marksAreNeeded(state, record)) return { op: null, settled: true };
    return { op: state.leaving ? null : { op: 'assemble', record }, settled: false };
  }
  const mayWait = mayDrain(observation) && !shaky(array);
  // Drained before: a write that is half done would wait for it. Whether it is or not, at the grant's end the guard holds reads.
  if (observation.held && mustHoldReads(state, array, now) && readsPass(observation)) {
    return { op: { op: 'hold-reads' }, settled: false };
  }
  /** Under a whole hold. A closed gate holds new writes but drains none: it is answered first, then suspended. */
  const held = (op: LocalOp, drains = mayWait): Plan => {
    if (observation.held) return { op, settled: false };
    return { op: drains ? { op: 'hold' } : null, settled: false };
  };
  if (onlyStale(record, observation)) {
    // A closed gate is answered by who writes, and this node will not: it would be told of what it does not have.
    const trouble = gateClosed(observation) && !observation.held ? { trouble: refusedText(record) } : {};
    return { ...held({ op: 'stop' }), ...trouble };
  }
  for (const member of observation.members) {
    const recorded = record.members.find((candidate) => candidate.uuid === member.uuid);
    if (recorded === undefined || member.slot === null || member.faulty || member.path === 'lost') continue;
    // First of all: the record may call others faulty, and md keeps its last member in sync. What cannot be drained now must
    // not keep a record from being applied: the failure that is in the way may be the next one.
    if (!observation.held && !mayWait) continue;
    if (recorded.role === 'active' && member.rebuilding) {
      // md would begin what resync_start marks instead; the mark is set again afterwards, before the record counts as applied.
      const unmarked = observation.resyncStartSector === null;
      return held(unmarked ? { op: 'activate', member: recorded.uuid, record } : { op: 'resync-start', sector: null });
    }
    if (recorded.role !== 'spare') continue;
    // Its rebuilding was called off, perhaps while this node copies; a copy that waits for a lost path cannot be ended.
    if (!copyRuns(observation)) return held({ op: 'detach-rebuilding', member: recorded.uuid });
    if (!pathLost(observation)) return { op: { op: 'freeze' }, settled: false };
  }
  // What is on its way waits for reads to pass, which this node may not have before it is let in, nor that before it holds. Where nobody
  // has it open nothing is, and it can be had anew. Before members are given up: md keeps the last of those that it has in sync.
  if (isStuckOutside(state, array, observation, now)) return { op: { op: 'stop' }, settled: false };
  for (const member of observation.members) {
    if (member.uuid === null) continue;
    const recorded = record.members.find((candidate) => candidate.uuid === member.uuid);
    const good = recorded !== undefined && recorded.role !== 'faulty';
    // A path that is being tried again may be read from when that has ended: nothing of such a member is settled before.
    if (!good && array.pathBusy?.op === 'restore-path' && array.pathBusy.member === member.uuid) {
      return { op: null, settled: false };
    }
    if (member.path === 'lost') continue;
    const used = !member.faulty && member.slot !== null;
    if (used && !good) {
      const fail: LocalOp = { op: 'set-faulty', member: member.uuid };
      // Behind a lost path every write in flight waits anyway: each goes to all legs.
      return mayDrain(observation) ? held(fail, true) : { op: fail, settled: false };
    }
    if (recorded === undefined && !member.blocked) {
      return { op: { op: 'remove', member: member.uuid }, settled: false };
    }
  }
  const copy = record.resync;
  const copierHere = copy !== null && copy.by === state.self;
  const started = copierHere && array.copying === copy.since;
  const runs = copyRuns(observation);
  // Frozen md starts nothing by itself. Whatever thawed it, two nodes copying at once would corrupt data.
  const thawed = isRedundant(record.level) && observation.syncAction === 'idle';
  // A copy that waits for a lost path cannot be ended before that is let go; without a second copy it changes nothing, nor does
  // one that fills only what nobody reads.
  const stuck = runs && pathLost(observation) && (!canDiffer(record) || fillsNobody(record, observation));
  if (!started && (runs || thawed) && !stuck) {
    // It has been told to end, and cannot while reads are held: waiting for that, this node could not have the array anew either.
    const waits = observation.syncAction === 'frozen' && readsHeld(observation);
    return { op: waits ? null : { op: 'freeze' }, settled: false };
  }
  const parted = diverged(observation, record, state.self).length > 0;
  // What cannot be drained now must not keep a record from being applied, as above: slots and size can wait.
  const drains = observation.held ? !pathLost(observation) : mayWait;
  if (!parted && drains && observation.syncAction === 'frozen' && now < state.grantUntilMs && !isUnfit(array)) {
    const shaping = shapingOp(record, observation) ?? bitmapOp(state, array, observation);
    // When reads pass: the one lays the layers anew, but whether the disks have room is asked before; the other drains.
    const asked = array.roomFor !== null && compareVersions(array.roomFor, record.version) === 0;
    const later = shaping?.op === 'set-bitmap' || (shaping?.op === 'set-size' && asked);
    const waits = readsHeld(observation) && later;
    if (shaping !== null && !waits) return gateClosed(observation) ? { op: null, settled: false } : held(shaping);
  }
  for (const member of isRedundant(record.level) ? record.members.filter(isWritten) : []) {
    const seen = observation.members.find((candidate) => candidate.uuid === member.uuid);
    // An active one was rebuilt while this node was away. Of a writer it is a failure, and told as one.
    const tooFar = seen !== undefined && isReadTooFar(state.self, array, member, seen);
    if (inSlot(seen) && !tooFar) continue;
    if (member.role === 'active' && (record.writers.includes(state.self) || seen?.faulty)) continue;
    const noSlot = member.slot !== null && member.slot >= observation.raidDisks;
    // Until it is in, no window is answered here, so nothing that is written without it has been copied. Marks are read earlier.
    const appliesWithout = member.role === 'rebuilding' && !fillsByMarks(copy);
    // Another member's failure is to be agreed on first, which is the next commit, and waits for this one: as below. What is read too far
    // is not read meanwhile.
    if (parted && (noSlot || gateClosed(observation)) && (!tooFar || readsHeld(observation)))
      return { op: null, settled: appliesWithout };
    // md keeps a failed member in its slot for as long as it is frozen.
    const failed = observation.members.find((other) => other.slot === member.slot && other.faulty);
    if (failed !== undefined && failed.uuid !== null) {
      if (!failed.blocked) return { op: { op: 'remove', member: failed.uuid }, settled: false };
      // Another leg may have failed before this one's gate was answered: that is the next commit, and waits for this one.
      return { op: null, settled: appliesWithout && !observation.held };
    }
    // So may reads that are held: slots are moved when this node is drained, and that waits for them.
    const isTaken = observation.members.some(({ uuid, slot }) => slot === member.slot && uuid !== member.uuid);
    if (isTaken) return { op: null, settled: appliesWithout && !observation.held };
    const attach = attachFor(state, record, member);
    if (state.paths.has(member.uuid)) {
      const whole = member.role === 'active' || tooFar || fillsByMarks(copy);
      return whole ? held(attach) : { op: attach, settled: false };
    }
    // Its writes would miss the member: it holds them until it sees the disk.
    return { op: observation.held ? null : held(attach).op, settled: false, ...unseen(record, [member]) };
  }
  const must = mustHold(state, array, now);
  const hold = (must && !isHeldAtGate(state.self, array)) || awaitsFailure(array, now);
  if (hold && !observation.held) return held({ op: 'hold' }, must ? mayDrain(observation) : mayWait);
  // A resync of this node's own moves md's mark itself, from when it has begun; until then it reads as all others do, be the mark there
  // from a copy before that, which a crash has made begin anew.
  const moves = copierHere && copy.kind === 'resync' && !copy.halted;
  if (!runs && !(moves && (started || isMarked(array, copy)))) {
    const mark = copy?.kind === 'resync' ? copy.fromSector : unsure(state, record) ? 0 : null;
    if (observation.resyncStartSector !== mark) return { op: { op: 'resync-start', sector: mark }, settled: false };
  }
  if (copierHere && !copy.halted && isReleased(array) && !runs && !parted) {
    if (started && ended(array, observation)) {
      if (observation.syncAction !== 'frozen') return { op: { op: 'freeze' }, settled: true };
      return { op: null, settled: true, copyDone: true };
    }
    // md would begin where it stands, which may be behind what is to be copied.
    const elsewhere = started
      ? undefined
      : rebuildingMembers(record).find((member) => !attachedFor(array, copy, member));
    if (elsewhere !== undefined) return { ...held(attachFor(state, record, elsewhere)), settled: true };
    if (byBitmap(observation, copy) && !isMarked(array, copy) && mayWait) {
      const { markedBy: nodes, fromSector, since } = copy;
      return { op: { op: 'mark', record, nodes, fromSector, since }, settled: true };
    }
    const { windows } = array;
    if (windows?.since === copy.since && mayWait && now < state.grantUntilMs) {
      // An interrupted resync goes on from md's own checkpoint, which is never behind the window that others hold. With a bitmap
      // it begins at 0, as its windows do: what lies before the checkpoint is not marked.
      const goesOn = started && copy.kind === 'resync' && !byBitmap(observation, copy);
      const fromSector = (goesOn ? observation.resyncStartSector : null) ?? windows.doneSector;
      const toSector = windows.allowedSector >= windows.totalSectors ? null : windows.allowedSector;
      if (windows.allowedSector > windows.doneSector && (!byBitmap(observation, copy) || isMarked(array, copy))) {
        const order: CopyOrder = { kind: copy.kind, fromSector, toSector };
        const foundBefore = compares(copy.kind) ? foundHere(array, copy) : 0;
        return { op: { op: 'start-copy', copy: order, since: copy.since, foundBefore }, settled: true };
      }
    }
  }
  if (!parted && mayWait && marksAreOver(state, array, observation, now)) {
    return { ...held({ op: 'set-bitmap', record, none: false }), settled: true };
  }
  if (!hold && !parted && mayWait && mayOpen(state, array)) {
    // Until the copier has said where it copies, what is held stays held.
    const told = array.window?.since === copy?.since ? array.window : null;
    const wanted = copiedElsewhere(state, record) ? told : NOTHING;
    if (wanted !== null && !sameRange(observation.suspended, wanted)) {
      if (wanted.loSector >= wanted.hiSector) return { op: { op: 'open' }, settled: true };
      return { op: { op: 'hold-range', range: nextRange(observation, wanted) }, settled: true };
    }
  }
  if (!copierHere) {
    const spare = record.members.find(
      (member) =>
        member.role === 'spare' &&
        state.paths.has(member.uuid) &&
        !observation.members.some((seen) => seen.uuid === member.uuid),
    );
    if (spare !== undefined) return { op: { op: 'add-spare', member: spare.uuid, record }, settled: true };
  }
  return { op: null, settled: true };
}

/**
 * Of all that the record calls in sync this node has nothing: it would read what is old, and md would not let go of the last of that.
 * It is assembled anew, as soon as what is in sync is seen.
 */
export function onlyStale(record: ArrayRecord, observation: ArrayObservation): boolean {
  const has = (uuid: string) => observation.members.some((seen) => seen.uuid === uuid && inSlot(seen) && !seen.faulty);
  return activeMembers(record).every(({ uuid }) => !has(uuid));
}

/**
 * Nor is any of that in sync here, and what is cannot be let go: md keeps its last one, and no drain ends that makes another one it. That
 * member failed for all while the path to it was lost here, before this node could take the newly filled one for in sync.
 */
export function onlyFailing(record: ArrayRecord, observation: ArrayObservation): boolean {
  const good = (uuid: string) => observation.members.some((seen) => seen.uuid === uuid && seen.inSync && !seen.faulty);
  return !observation.held && !mayDrain(observation) && activeMembers(record).every(({ uuid }) => !good(uuid));
}

/**
 * Left out with reads held, and writes not, or a copy of its own under way: the drain that its grant's end began has not ended, and cannot
 * any more.
 */
function isStuckOutside(state: NodeArrays, array: LocalArray, observation: ArrayObservation, now: number): boolean {
  if (state.leaving || now >= state.grantUntilMs || array.record.writers.includes(state.self)) return false;
  const isDrained = observation.held && !copyRuns(observation);
  return !isDrained && nothingWaits(observation) && readsHeld(observation) && mustHoldReads(state, array, now);
}

/** A recovery of members that the record does not take for good. */
function fillsNobody(record: ArrayRecord, { syncAction, members }: ArrayObservation): boolean {
  const good = goodIn(record);
  return (
    syncAction === 'recover' && members.every(({ uuid, rebuilding }) => !rebuilding || uuid === null || !good.has(uuid))
  );
}

export function isUnfit({ unfit, record }: LocalArray): boolean {
  return unfit !== null && compareVersions(unfit.version, record.version) === 0;
}

/** To the record's slots and size; null: they are there, or a member has to come in first. */
function shapingOp(record: ArrayRecord, observation: ArrayObservation): LocalOp | null {
  const due = shapingDue(record, observation);
  if (due === null || due === 'fill') return null;
  // It would be packed with the others, or asked for its room.
  const failed = observation.members.find(({ faulty }) => faulty);
  if (failed !== undefined && failed.uuid !== null) return { op: 'remove', member: failed.uuid };
  if (due === 'anew') return { op: 'stop' };
  // md would make its chunks larger (md_bitmap_resize): every node is to have the record's.
  if (due === 'size' && observation.bitmap !== null) return { op: 'set-bitmap', record, none: true };
  return { op: due === 'slots' ? 'set-slots' : 'set-size', record };
}
