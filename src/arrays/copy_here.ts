/** This node's part in a copy: its own windows as the copier, its answers to another's, and how far it is (windows.ts). */
import type { ArrayObservation, SectorRange } from '../md/driver.ts';
import type { CopyProgress } from '../wire/messages.ts';
import { admittedUnder } from './ended.ts';
import { rebuildingMembers } from './levels.ts';
import { isMarked } from './local_plan.ts';
import { type LocalArray, type LocalEffect, type NodeArrays, REPEAT_MS } from './local_state.ts';
import type { ArrayRecord, Copy } from './record.ts';
import { byBitmap, copyRuns, ended, foundSoFar, isInSlot, isReleased } from './seen_here.ts';
import {
  beginning,
  copiedAgain,
  marksInCopy,
  rangeOnArray,
  type Windows,
  windowsAgain,
  windowsStart,
  windowsStep,
} from './windows.ts';

const PROGRESS_MS = 1000;

/** No write of this node is in this range of the array, nor comes there. */
function holdsRange(observation: ArrayObservation | null, { loSector, hiSector }: SectorRange): boolean {
  if (observation === null || observation.held || loSector >= hiSector) return true;
  const { suspended } = observation;
  return suspended !== null && suspended.loSector <= loSector && suspended.hiSector >= hiSector;
}

/** The record names other nodes' bitmaps, or none, where this one's own says by now what is left to be copied; null: it does not. */
export function marksTaken(state: NodeArrays, array: LocalArray): { since: number; kept: boolean } | null {
  const { record, observation } = array;
  const copy = record.resync;
  if (record.bitmap === null || copy?.by !== state.self || copy.kind !== 'resync' || observation == null) return null;
  if (!isReleased(array)) return null;
  const { since, markedBy } = copy;
  if (observation.bitmap === null) return markedBy === null ? null : { since, kept: false };
  const own = markedBy?.length === 1 && markedBy[0] === state.self;
  return own || !isMarked(array, copy) ? null : { since, kept: true };
}

/** Whoever wrote under the one writes under the other, in the same boot: nothing has been left in doubt between them. */
function noneCrashed(before: ArrayRecord, after: ArrayRecord): boolean {
  return before.writers.every(
    (node) => after.writers.includes(node) && admittedUnder(after, node) === admittedUnder(before, node),
  );
}

/**
 * A copy that goes on under another name, as by a new master, fills what it filled: what md here knows of it holds. Else its members
 * would be moved back, under a hold that may wait for the reads which this record is to let go on.
 */
export function attachedUnder(known: LocalArray, record: ArrayRecord): LocalArray['attached'] {
  const [before, copy] = [known.record.resync, record.resync];
  if (before === null || copy === null || before.since === copy.since) return known.attached;
  if (before.kind !== copy.kind || copy.fromSector < before.fromSector || !noneCrashed(known.record, record))
    return known.attached;
  return new Map(
    [...known.attached].map(([uuid, { since, fromSector }]) => {
      if (since !== before.since) return [uuid, { since, fromSector }];
      // This node's own copy may have come further than anybody knows.
      return [uuid, { since: copy.since, fromSector: known.copying === since ? Number.POSITIVE_INFINITY : fromSector }];
    }),
  );
}

/** This node's part in the copy under way: its own windows, or its answer to the copier's. */
export function copyOn(state: NodeArrays, array: LocalArray, now: number, effects: LocalEffect[]): Partial<LocalArray> {
  const { record } = array;
  const copy = record.resync;
  if (copy === null) return { windows: null, window: null, progress: null };
  if (copy.halted) return { windows: null, window: null };
  return copy.by === state.self ? copyHere(state, array, now, effects) : answerWindow(array, copy, now, effects);
}

function answerWindow(array: LocalArray, copy: Copy, now: number, effects: LocalEffect[]): Partial<LocalArray> {
  const { window, record, observation } = array;
  const known = window?.since === copy.since ? window : null;
  const answer = (sequence: number): Partial<LocalArray> => {
    effects.push({ type: 'window-held', to: copy.by, array: record.uuid, md: record.md, since: copy.since, sequence });
    return { heldSequence: sequence, heldToldAtMs: now };
  };
  if (known === null) {
    // The copier may think that it was answered by this agent's former life.
    const due = isReleased(array) && now - array.heldToldAtMs >= REPEAT_MS;
    return due ? answer(0) : {};
  }
  // What is seen while an operation is under way may be over when it ends.
  const isIn = rebuildingMembers(record).every(({ uuid }) => observation == null || isInSlot(observation, uuid));
  const settled = array.busy === null && observation !== undefined && isIn && holdsRange(observation, known);
  return settled && array.heldSequence !== known.sequence ? answer(known.sequence) : {};
}

/**
 * A member has failed in md itself, which begins a resync by marks again at once: that is to be stopped, and begun under windows of its own.
 * Its gate is closed at least until then (gates.ts).
 */
export function unlessBegunAgain(
  { record, windows, observation }: LocalArray,
  copying: number | null,
  now: number,
): Pick<LocalArray, 'copying' | 'windows'> {
  const copy = record.resync;
  const mayBegin =
    copy?.kind === 'resync' && copy.since === copying && observation != null && byBitmap(observation, copy);
  if (!mayBegin || windows === null || !observation.members.some(({ faulty, blocked }) => faulty && blocked))
    return { copying, windows };
  return { copying: null, windows: windowsAgain(windows, 0, now) };
}

function copyHere(state: NodeArrays, array: LocalArray, now: number, effects: LocalEffect[]): Partial<LocalArray> {
  const { record, observation } = array;
  const copy = record.resync;
  if (copy === null || observation == null) return {};
  const runs = copyRuns(observation);
  const running = runs && array.copying === copy.since;
  let { windows } = array;
  // Whatever runs was not begun under these windows: what it may copy stays held until it has ended.
  if (runs && !running && array.busy?.op !== 'start-copy') return {};
  if (windows?.since !== copy.since) {
    if (runs || !isReleased(array) || now >= state.grantUntilMs) return {};
    if (byBitmap(observation, copy)) {
      if (!isMarked(array, copy)) return {};
      const marks = marksInCopy(record, copy.kind, array.marked?.ranges ?? []);
      windows = windowsStart(record, copy, now, copy.kind === 'resync' ? 0 : copy.fromSector, marks);
    } else windows = windowsStart(record, copy, now);
  }
  const interrupted = array.copying === copy.since && !runs && array.busy === null && !ended(array, observation);
  // What was copied may be marked again by now, outside of what the others hold.
  const again = interrupted && copy.kind === 'resync' && byBitmap(observation, copy);
  const begins = again ? 0 : beginning(record, copy.kind, windows.doneSector);
  if (again || (interrupted && begins < windows.doneSector)) windows = windowsAgain(windows, begins, now);
  const begunAgain: Partial<LocalArray> = again ? { copying: null } : {};
  const doneSector = running ? (observation.syncCompleted?.doneSectors ?? null) : null;
  const others = record.writers.filter((node) => node !== state.self);
  const options = { ...state.copyOptions, limitKib: record.syncLimitKib ?? state.copyOptions.limitKib };
  // Once the lease to write is over nothing is allowed any more; the guard holds what is open.
  if (now >= state.grantUntilMs) return { windows, ...begunAgain };
  const againSectors = copy.kind === 'resync' && byBitmap(observation, copy) ? copiedAgain(record) : null;
  const step = windowsStep(windows, { others, doneSector, againSectors }, options, now);
  windows = step.windows;
  const fields: Partial<LocalArray> = { windows, ...begunAgain };
  const { uuid, md } = record;
  if (step.ask !== null) {
    const { to, sequence, fromSector, toSector } = step.ask;
    const range = rangeOnArray(record, copy.kind, fromSector, toSector);
    effects.push({ type: 'send-window', to, array: uuid, since: copy.since, sequence, range });
  }
  if (
    !again &&
    array.copying === copy.since &&
    array.busy?.op !== 'start-copy' &&
    now >= array.extendAgainMs &&
    windows.allowedSector > array.extendedTo
  ) {
    const toSector = windows.allowedSector >= windows.totalSectors ? null : windows.allowedSector;
    effects.push({ type: 'extend', array: uuid, md, toSector });
    fields.extendedTo = toSector ?? Number.POSITIVE_INFINITY;
  }
  if (step.wakeMs !== null && (array.wakeAtMs <= now || array.wakeAtMs > now + step.wakeMs)) {
    fields.wakeAtMs = now + step.wakeMs;
    effects.push({ type: 'wake', afterMs: step.wakeMs });
  }
  return { ...fields, ...progressHere(state, array, observation, copy, windows, now, effects) };
}

function progressHere(
  state: NodeArrays,
  array: LocalArray,
  observation: ArrayObservation,
  copy: Copy,
  windows: Windows,
  now: number,
  effects: LocalEffect[],
): Partial<LocalArray> {
  // md has begun to count anew, and what it had counted is not added yet.
  if (array.busy?.op === 'start-copy') return {};
  const before = array.progress?.since === copy.since ? array.progress : null;
  const elapsedMs = now - array.progressAtMs;
  const over = array.copying === copy.since && !copyRuns(observation) && ended(array, observation);
  const doneSectors = over ? windows.totalSectors : windows.doneSector;
  const last = over && before?.doneSectors !== doneSectors;
  if (before !== null && elapsedMs < PROGRESS_MS && !last) return {};
  const progress: CopyProgress = {
    since: copy.since,
    sequence: (before?.sequence ?? 0) + 1,
    kind: copy.kind,
    by: state.self,
    doneSectors,
    totalSectors: windows.totalSectors,
    kibPerSecond:
      before === null ? null : Math.round((500 * (doneSectors - before.doneSectors)) / Math.max(1, elapsedMs)),
    mismatchSectors: foundSoFar(array),
  };
  effects.push({ type: 'progress', array: array.record.uuid, progress });
  return { progress, progressAtMs: now };
}
