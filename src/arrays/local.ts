/**
 * The node's side of every array: brings this node's md to the newest record and answers its gates.
 *
 * It is level-triggered: each input is folded in, then `plan` (local_plan.ts) looks at record and observation together and names the
 * first thing that differs. Nothing depends on having seen every step, so a node that restarted, or missed ten commits, gets to
 * the same place. State, inputs and effects are in local_state.ts; whether I/O may pass is judged in may_pass.ts, gates in gates.ts,
 * paths in lost_paths.ts, this node's part in a copy in copy_here.ts.
 *
 * Rules kept here (each has a test that goes red without it):
 * - A gate is answered only when every locally faulty member is faulty in a *released* record: all writers have stopped
 *   reading it by then. Before that, an answered gate would acknowledge writes that another node cannot see. Under a whole
 *   hold nothing is in flight and an answer acknowledges nothing: there the record need not be released.
 * - Nor is one answered while md here copies by marks what it was not told to, as it does when a leg fails in the middle of a resync: what
 *   is told as written without that leg is marked then, and would be copied at once, where others hold nothing.
 * - Writes pass only with a live grant, as a writer of the newest record that was admitted under this boot of the kernel,
 *   once that record is released.
 * - While another node copies, this node's writes are suspended (drained), not only gated, where it copies: a write in flight
 *   beside the copier would leave the legs different. Until the copier has said where that is, what is held stays held.
 * - A committed failure of a member that md here still uses is applied under a drained suspend, and writes pass again only
 *   after the release. A write whose legs are chosen, but which is not yet submitted, would lose the failed leg without a
 *   gate (flush_bio_list ends it with an error that nobody asks about, drivers/md/raid1-10.c) and be called written, while
 *   another node may still read that leg. Where a gate is closed already, it is the gate that holds.
 * - Told that a member failed elsewhere, a node drains its writes while the master still writes that down: the commit then
 *   finds them drained. For a short while, and once for each member and record: a failure that is never committed (the last
 *   copy of data) must not keep its writes waiting.
 * - No suspend range is changed under a closed gate, neither to hold nor to open: each change drains, and what waits at the
 *   gate would never drain. Gates are answered first.
 * - Only the node that the record names copies, only after the release, and only where all others hold (windows.ts).
 * - While a writer is gone and the legs may differ, reads keep to one leg, the same on every node: md chooses between them only
 *   before `resync_start` (read_balance, drivers/md/raid1.c and raid10.c).
 * - Reads pass as long as commits wait for this node: with a grant, as a writer or as the copier. Else they are held, after the writes;
 *   they go on under a released record, once this node has applied it. (At the grant's end the guard holds them.)
 * - That a commit which gives up a member is applied is said when this node's journal has it on disk. After a power loss of all that may
 *   be all that is known of it: the member that was given up bears the record before, and may be the only one that is seen.
 * - A rebuilding member is in md before this node says that the record is applied: a write that misses it would be missed by
 *   the copy too. It becomes in sync here when the record says so, and by no copy of this node's.
 * - One that gets only what is marked comes in under a drained hold: a write whose legs are chosen, but whose mark is not on
 *   disk yet, would be missed by it and by who reads the marks.
 * - This node's bitmap is laid anew, under a drained hold, when the array is whole again: md keeps the marks of what a member
 *   missed until it copies them itself, and they are another node's to copy. Also where the record wants another bitmap, or none.
 * - A lost path (the layer under md keeps its I/O waiting) is told to the master as a faulty member is. A record that calls
 *   the member faulty is then applied as it stands: what waits reads nothing. Only when it is released the member is set
 *   faulty and its path let go, in this order: md tells waiting writes as done then, without asking at a gate. These two go
 *   beside any other operation, which may be waiting for that very I/O.
 * - Under `drop-node` it is reported instead, and tried again every second for as long as the record takes the member for good
 *   (path_loss.ts). A record that does not is not called applied while a try is under way: the member may be read from after it.
 * - No drain (suspend, open, start of a copy) is begun while a path is lost, or was a moment ago: it would wait for it.
 * - Where members are reserved, writes pass only with this node's key on each, as seen since its grant began. A node whose key was taken off holds its arrays. What it
 *   sees fail from then on, it fails itself: it tells nobody, answers no gate for it, and takes part again only with an array that
 *   had nothing in flight, or was stopped since. So a failure is told only after the keys were looked at once more. Nor does it go on
 *   with an array that has writes at a gate then.
 * - A spare that is not reserved yet takes no slot: nodes that were shut out of the other members, and were not booted since, would
 *   write to it beside the copy. It is one that was removed and is back, and their md may know it still.
 * - The path to the last copy is never let go: a write that another leg took, which has failed since, would be told as done.
 *   It is tried again instead, every second, by a writer with a live grant.
 */
import type { ArrayObservation, SectorRange } from '../md/driver.ts';
import type { Observation } from '../wire/messages.ts';
import { attachedUnder, copyOn, marksTaken, unlessBegunAgain } from './copy_here.ts';
import { gatesAnswerable, settledMembers } from './gates.ts';
import { givesUp, rebuildingMembers } from './levels.ts';
import { isUnfit, onlyFailing, onlyStale, type Plan, plan, refusedText } from './local_plan.ts';
import {
  type KeysHere,
  type LocalArray,
  type LocalEffect,
  type LocalInput,
  type LocalOp,
  type NodeArrays,
  REPEAT_MS,
} from './local_state.ts';
import { lastCopy, mayRestore, pathOp } from './lost_paths.ts';
import { awaitsFailure, mayRead } from './may_pass.ts';
import { fillsByMarks, isWhole } from './missed.ts';
import { type ArrayRecord, compareVersions } from './record.ts';
import { inShort, reportOf } from './report.ts';
import {
  asksToBegin,
  countedWhole,
  diverged,
  failedHere,
  foundSoFar,
  gateClosed,
  isApplied,
  isClean,
  isReleased,
  lostHere,
  lostLately,
  pathLost,
  readsHeld,
  takenOverBy,
} from './seen_here.ts';
import { windowsHeld } from './windows.ts';

const RETRY_MS = 200;
/** It may never come; until it is seen it is not filled. */
const LOOK_FOR_SPARES_MS = 5000;
/** Writes wait there. */
const GATE_RETRY_MS = 10;
/** Whoever uses an array whose writes were refused will not end soon. */
const RETRY_REFUSED_MS = 5000;

/** A few times as often as the master asks. */
const FINE_MS = 4000;

/** Far longer than anything that ends by itself. */
const STUCK_MS = 15_000;

/** Many times what a commit takes. */
const EXPECT_MS = 300;
/** What a driver answers when the moment was wrong. */
const PASSING = ['EGRANT', 'EAGAIN', 'EBUSY', 'ETIMEDOUT'];
/** Reports of an array in which nothing is under way: each wakes two nodes. */
const REPORT_AT_REST_MS = 4000;

/** What the master goes by at once. */
/** What md may not end before every path works. */
const WAIT_FOR_PATHS: readonly LocalOp['op'][] = ['hold', 'hold-range', 'open', 'mark', 'set-bitmap'];

function toldOf(keys: KeysHere | null): string {
  return keys === null ? '' : `${keys.shutOut} ${[...keys.unreserved].sort().join()}`;
}

/**
 * A new master commits what it found under its own term. Where that is the very next commit and says nothing new, what all
 * writers knew already is what they go on with: else a master that went silent would hold the others' writes until it is
 * fenced.
 */
function repeatsReleased(array: LocalArray, next: ArrayRecord): boolean {
  const { record } = array;
  const adjacent = next.version.index === record.version.index + 1;
  return adjacent && isReleased(array) && statementOf(record) === statementOf(next);
}

/**
 * A master commits nothing before the release of its last commit: whose word was lost on the way, the next commit tells of it. What
 * that one asks for may have to wait for the release, as a spare for a slot whose member still waits behind a lost path.
 */
function releasedBefore({ record, released }: LocalArray, next: ArrayRecord): ArrayRecord | null {
  return record.version.term === next.version.term ? record : released;
}

/** Everything a record says, but for when it was said. */
function statementOf(record: ArrayRecord): string {
  return JSON.stringify({ ...record, version: null, utimeSeconds: null });
}

export function localStep(
  previous: NodeArrays,
  input: LocalInput,
  now: number,
): { state: NodeArrays; effects: LocalEffect[] } {
  const effects: LocalEffect[] = [];
  const arrays = new Map(previous.arrays);
  const state: NodeArrays = { ...previous, arrays };
  const change = (uuid: string, fields: Partial<LocalArray>): void => {
    const array = arrays.get(uuid);
    if (array !== undefined) arrays.set(uuid, { ...array, ...fields });
  };
  switch (input.type) {
    case 'tick':
      break;
    case 'keys':
      // What it wrote since its keys were taken off was refused: nothing of that may be on its way when they are put back.
      if (input.keys?.shutOut === true && state.keys?.shutOut !== true) state.lapsedAtMs = now;
      if (toldOf(input.keys) !== toldOf(state.keys)) effects.push({ type: 'report' });
      state.keys = input.keys;
      break;
    case 'grant':
      if (now >= state.grantUntilMs) state.lapsedAtMs = now;
      state.grantUntilMs = Math.max(state.grantUntilMs, input.untilMs);
      break;
    case 'master':
      if (input.node !== state.master || input.term !== state.term) {
        for (const uuid of arrays.keys()) change(uuid, { told: new Map(), reportedAtMs: Number.NEGATIVE_INFINITY });
        effects.push({ type: 'report' });
      }
      state.master = input.node;
      state.term = input.term;
      break;
    case 'paths':
      state.paths = input.paths;
      for (const uuid of arrays.keys()) change(uuid, { unfit: null });
      break;
    case 'status': {
      const gone = new Set(previous.gone);
      if (input.status === 'dead' || input.status === 'left') gone.add(input.node);
      else gone.delete(input.node);
      state.gone = gone;
      break;
    }
    case 'config':
      Object.assign(state, input.config);
      break;
    case 'leave':
      state.leaving = true;
      break;
    case 'commit': {
      const { record } = input;
      const known = arrays.get(record.uuid);
      if (known !== undefined && compareVersions(record.version, known.record.version) <= 0) break;
      const inherited = state.inherited.get(record.uuid);
      if (known === undefined) {
        if (inherited !== undefined && compareVersions(record.version, inherited.version) < 0) break;
        state.inherited = new Map([...state.inherited].filter(([uuid]) => uuid !== record.uuid));
        arrays.set(record.uuid, {
          record,
          applied: null,
          unstored: record.version,
          released: null,
          observation: undefined,
          busy: null,
          pathBusy: null,
          restoreAtMs: 0,
          lostAtMs: new Map(),
          fineAtMs: new Map(),
          gateBusy: false,
          gateAtMs: 0,
          retryAtMs: 0,
          trouble: null,
          givenBack: false,
          lookAtMs: 0,
          cleanAtMs: Number.NEGATIVE_INFINITY,
          partedAtMs: null,
          refused: false,
          stuckSinceMs: null,
          unfit: null,
          roomFor: null,
          copying: null,
          foundBefore: 0,
          takenOver: null,
          marked: null,
          marksLeft: inherited?.marksLeft ?? true,
          bitmapSet: undefined,
          expected: new Map(),
          windows: null,
          extendedTo: 0,
          extendAgainMs: 0,
          window: null,
          heldSequence: 0,
          heldToldAtMs: Number.NEGATIVE_INFINITY,
          attached: new Map(),
          progress: null,
          progressAtMs: Number.NEGATIVE_INFINITY,
          wakeAtMs: Number.NEGATIVE_INFINITY,
          told: new Map(),
          reportedAtMs: Number.NEGATIVE_INFINITY,
          reported: null,
        });
      } else {
        const released = repeatsReleased(known, record) ? record : releasedBefore(known, record);
        const unstored = known.unstored !== null || givesUp(known.record, record) ? record.version : null;
        const attached = attachedUnder(known, record);
        const takenOver = takenOverBy(known, record);
        change(record.uuid, {
          record,
          unstored,
          released,
          attached,
          takenOver,
          retryAtMs: 0,
          trouble: null,
          expected: new Map(),
        });
      }
      change(record.uuid, { givenBack: input.forgotten });
      if (!input.forgotten && arrays.get(record.uuid)?.unstored != null) {
        effects.push({ type: 'store', array: record.uuid, md: record.md, version: record.version });
      }
      break;
    }
    case 'released': {
      const array = arrays.get(input.array);
      // Only the record at hand can be called released: an older release says nothing about the newer record.
      if (array !== undefined && compareVersions(input.version, array.record.version) === 0) {
        change(input.array, { released: array.record });
      }
      break;
    }
    case 'stored': {
      const unstored = arrays.get(input.array)?.unstored ?? null;
      if (unstored !== null && compareVersions(input.version, unstored) >= 0) change(input.array, { unstored: null });
      break;
    }
    case 'failure-told': {
      const array = arrays.get(input.array);
      if (array === undefined || array.expected.has(input.member)) break;
      change(input.array, { expected: new Map(array.expected).set(input.member, now + EXPECT_MS) });
      break;
    }
    case 'observed': {
      const array = arrays.get(input.array);
      if (array === undefined) break;
      const seen = { ...array, observation: input.observation };
      arrays.set(input.array, { ...seen, ...unlessBegunAgain(seen, array.copying, now) });
      break;
    }
    case 'window': {
      const array = arrays.get(input.array);
      const resync = array?.record.resync;
      if (array === undefined || resync?.by !== input.from || resync.since !== input.since) break;
      if (array.window?.since === input.since && array.window.sequence > input.sequence) break;
      const { since, sequence, range } = input;
      // Asked again: answered again.
      change(input.array, { window: { since, sequence, ...range }, heldSequence: 0 });
      break;
    }
    case 'window-held': {
      const windows = arrays.get(input.array)?.windows;
      if (windows == null || windows.since !== input.since) break;
      const { from, sequence, writes } = input;
      change(input.array, { windows: windowsHeld(windows, { node: from, sequence, writes }, now) });
      break;
    }
    case 'extend-failed':
      change(input.array, { extendedTo: 0, extendAgainMs: now + RETRY_MS });
      break;
    case 'probed': {
      const array = arrays.get(input.array);
      if (array === undefined) break;
      const fineAtMs = new Map(array.fineAtMs);
      if (input.fine) fineAtMs.set(input.member, now);
      else fineAtMs.delete(input.member);
      change(input.array, { fineAtMs });
      effects.push({ type: 'report' });
      break;
    }
    case 'progress': {
      const resync = arrays.get(input.array)?.record.resync;
      if (resync?.by === input.from && resync.since === input.progress.since) {
        change(input.array, { progress: input.progress });
      }
      break;
    }
    case 'done': {
      const array = arrays.get(input.array);
      if (array === undefined) break;
      const failed = input.error !== null;
      const ofPath = JSON.stringify(input.op) === JSON.stringify(array.pathBusy);
      change(input.array, {
        ...(ofPath ? { pathBusy: null } : { busy: null }),
        retryAtMs: failed ? now + (array.refused ? RETRY_REFUSED_MS : RETRY_MS) : 0,
        ...(failed ? {} : outcomeOf(array, input.op, input.marks ?? [], now)),
      });
      if (input.error !== null) {
        // Why it is not to be had says more than who uses it.
        const text = array.refused
          ? refusedText(array.record)
          : `${array.record.md}: ${input.op.op}: ${input.error.text}`;
        if (array.trouble !== text) effects.push({ type: 'trouble', array: input.array, md: array.record.md, text });
        change(input.array, { trouble: text });
        const shapes = input.op.op === 'set-slots' || input.op.op === 'set-size';
        const { code } = input.error;
        const { observation } = array;
        if (input.op.op === 'set-size' && code === 'EAGAIN' && observation != null && readsHeld(observation)) {
          change(input.array, { roomFor: input.op.record.version, retryAtMs: 0, trouble: null });
        }
        // Writes wait for it, and all that is at stake is how much is copied one day.
        const gaveUp = input.op.op === 'set-bitmap' && code !== 'EGRANT' && code !== 'EAGAIN';
        if (gaveUp || (shapes && !PASSING.includes(code))) {
          change(input.array, { unfit: { version: array.record.version, text, isSmall: code === 'ENOSPC' } });
        }
        // A look at the disks in between has missed one that this core knows of.
        if (input.op.op === 'assemble' || code === 'ENOENT') effects.push({ type: 'rescan' });
        effects.push({ type: 'report' });
      } else if (array.trouble !== null) {
        change(input.array, { trouble: null });
        effects.push({ type: 'trouble', array: input.array, md: array.record.md, text: null });
      }
      // The last look at the disks could not read it.
      if (input.error === null && input.op.op === 'restore-path' && !state.paths.has(input.op.member))
        effects.push({ type: 'rescan' });
      break;
    }
    case 'gates-done':
      change(input.array, {
        gateBusy: false,
        gateAtMs: input.error === null ? 0 : now + GATE_RETRY_MS,
        retryAtMs: input.error === null ? 0 : now + RETRY_MS,
      });
      break;
  }
  for (const uuid of arrays.keys()) advance(state, arrays, uuid, now, effects);
  return { state, effects };
}

/** What is known after an operation has worked. */
function outcomeOf(array: LocalArray, op: LocalOp, marks: readonly SectorRange[], now: number): Partial<LocalArray> {
  if (op.op === 'mark') return { marked: { since: op.since, ranges: marks } };
  // What an earlier boot left stands there only where the array is not whole.
  if (op.op === 'assemble') {
    const { record } = op;
    // As the driver puts them in; those that get only what is marked come in later.
    const { since, fromSector } = record.resync ?? { since: 0, fromSector: 0 };
    const rebuilding = fillsByMarks(record.resync) ? [] : rebuildingMembers(record);
    const attached = new Map(rebuilding.map(({ uuid }) => [uuid, { since, fromSector }]));
    return { marksLeft: !isWhole(record), bitmapSet: record.bitmap, attached };
  }
  if (op.op === 'set-bitmap') return { marksLeft: false, bitmapSet: op.none ? null : op.record.bitmap };
  if (op.op === 'start-copy') {
    const extendedTo = op.copy.toSector ?? Number.POSITIVE_INFINITY;
    return { ...unlessBegunAgain(array, op.since, now), foundBefore: op.foundBefore, extendedTo };
  }
  if (op.op === 'attach-rebuilding') {
    const { since, fromSector } = op;
    return { attached: new Map(array.attached).set(op.member, { since, fromSector }) };
  }
  return {};
}

export function differs(array: LocalArray, fields: Partial<LocalArray>): boolean {
  for (const name in fields) {
    const key = name as keyof LocalArray;
    if (array[key] !== fields[key]) return true;
  }
  return false;
}

/** What md is doing, or was told to do, when its array is given back, would leave that array there with nobody to look after it. */
function isGone({ givenBack, observation, busy, pathBusy, gateBusy }: LocalArray): boolean {
  return givenBack && observation === null && busy === null && pathBusy === null && !gateBusy;
}

function advance(
  state: NodeArrays,
  arrays: Map<string, LocalArray>,
  uuid: string,
  now: number,
  effects: LocalEffect[],
): void {
  let array = arrays.get(uuid);
  if (array === undefined) return;
  const { md } = array.record;
  const replace = (fields: Partial<LocalArray>): LocalArray => {
    const before = array as LocalArray;
    if (!differs(before, fields)) return before;
    const next = { ...before, ...fields };
    arrays.set(uuid, next);
    return next;
  };
  const tell = (key: string, observation: Observation): void => {
    const told = array?.told ?? new Map<string, number>();
    if (state.master === null || now - (told.get(key) ?? Number.NEGATIVE_INFINITY) < REPEAT_MS) return;
    effects.push({ type: 'submit', observation });
    array = replace({ told: new Map(told).set(key, now) });
  };
  if (array.observation === undefined) return;
  if (isGone(array)) {
    arrays.delete(uuid);
    return;
  }
  array = replace({ lostAtMs: lostLately(state, array, now) });
  array = replace({ takenOver: countedWhole(array) });
  if (array.fineAtMs.size > 0) {
    array = replace({ fineAtMs: new Map([...array.fineAtMs].filter(([, atMs]) => now - atMs < FINE_MS)) });
  }
  if (isClean(array) || hasNotBegun(array)) array = replace({ cleanAtMs: now });
  array = replace(refusalsSeen(state, array, now, effects));
  const { observation } = array;
  if (observation != null && !array.marksLeft && !isWhole(array.record)) array = replace({ marksLeft: true });
  if (observation != null && mayTell(state, array)) {
    for (const member of diverged(observation, array.record, state.self)) {
      const seen = observation.members.find(({ uuid }) => uuid === member);
      // The master judges it by the reports of all.
      const kept = state.pathLoss === 'drop-node' && seen?.faulty === false && seen.path === 'lost';
      if (kept && !lastCopy(array.record, member)) continue;
      // Told once: it changes nothing, but an operator should hear of it.
      if (array.told.has(`faulty ${member}`) && lastCopy(array.record, member)) continue;
      tell(`faulty ${member}`, { what: 'member-faulty', array: uuid, member });
    }
  }
  if (!array.gateBusy && now >= array.gateAtMs && gatesAnswerable(state, array, now)) {
    array = replace({ gateBusy: true });
    effects.push({ type: 'answer-gates', array: uuid, md, settled: settledMembers(array) });
  }
  const path = array.pathBusy === null && now >= array.retryAtMs ? pathOp(state, array, now) : null;
  if (path !== null && (path.op !== 'restore-path' || (mayRestore(state, array, now) && now >= array.restoreAtMs))) {
    array = replace({ pathBusy: path, ...(path.op === 'restore-path' ? { restoreAtMs: now + REPEAT_MS } : {}) });
    effects.push({ type: 'perform', array: uuid, md, op: path });
  }
  array = replace(copyOn(state, array, now, effects));
  const next = plan(state, array, now);
  if (next.trouble !== undefined && array.trouble !== next.trouble) {
    array = replace({ trouble: next.trouble });
    effects.push({ type: 'trouble', array: uuid, md, text: next.trouble }, { type: 'report' });
  }
  // A disk that was too small may have grown: only a look at it tells.
  if ((next.rescan === true || (isUnfit(array) && array.unfit?.isSmall === true)) && now >= array.retryAtMs) {
    array = replace({ retryAtMs: now + REPEAT_MS });
    effects.push({ type: 'rescan' });
  }
  if (
    now >= array.lookAtMs &&
    array.record.members.some(({ role, uuid }) => role === 'spare' && !state.paths.has(uuid))
  ) {
    array = replace({ lookAtMs: now + LOOK_FOR_SPARES_MS });
    effects.push({ type: 'rescan' });
  }
  const stuck = waitsForItself(state, array, next, now);
  array = replace({ stuckSinceMs: stuck ? (array.stuckSinceMs ?? now) : null });
  if (array.stuckSinceMs !== null && now - array.stuckSinceMs >= STUCK_MS) {
    const why = 'what the cluster has agreed on cannot be applied here: what is on its way waits for ever';
    effects.push({ type: 'stuck', array: uuid, md, why });
  }
  // A store to the suspend range, or bits on their way, that wait for a path return only after the release, which waits for this word.
  const suspends = array.busy !== null && WAIT_FOR_PATHS.includes(array.busy.op);
  const { observation: seen } = array;
  const waits = suspends && seen != null && (pathLost(seen) || readsHeld(seen));
  if (next.settled && array.unstored === null && (array.busy === null || waits)) {
    if (!isApplied(array)) {
      array = replace({
        applied: array.record.version,
        reportedAtMs: now,
        reported: inShort(state, array, now),
        trouble: isUnfit(array) ? array.trouble : null,
      });
      effects.push({
        type: 'applied',
        array: uuid,
        version: array.record.version,
        report: reportOf(state, array, now),
      });
    }
    const taken = marksTaken(state, array);
    if (taken !== null) tell(`marks ${taken.since} ${taken.kept}`, { what: 'marks-taken', array: uuid, ...taken });
    if (next.copyDone === true && array.copying !== null) {
      const mismatchSectors = foundSoFar(array);
      tell(`copied ${array.copying}`, { what: 'resync-done', array: uuid, since: array.copying, mismatchSectors });
    }
  }
  if (next.op !== null && array.busy === null && now >= array.retryAtMs) {
    array = replace({ busy: next.op });
    effects.push({ type: 'perform', array: uuid, md, op: next.op });
  }
  const stands = inShort(state, array, now);
  const rests = array.busy === null && isReleased(array) && next.settled && array.trouble === null;
  const againMs = array.reportedAtMs + (rests ? REPORT_AT_REST_MS : REPEAT_MS);
  if (state.master !== null && ((stands !== array.reported && isUrgent(array, now)) || now >= againMs)) {
    array = replace({ reportedAtMs: now, reported: stands });
    effects.push({ type: 'report' });
  }
}

/** In the middle of a commit, or before that of a failure, it tells how it stands with its `applied`: the master has enough to do. */
function isUrgent(array: LocalArray, now: number): boolean {
  return (isApplied(array) && !awaitsFailure(array, now)) || lostHere(array).length > 0;
}

/** Commits wait for this node, and nobody fences it. */
function isWaitedFor(state: NodeArrays, record: ArrayRecord, now: number): boolean {
  return record.writers.includes(state.self) && now < state.grantUntilMs;
}

/**
 * A writer that cannot apply what it knows. Its reads are held since its grant last ended, and its writes had not drained by then: they
 * cannot now. Or what waits at a gate keeps it from that, and the answer, which is given when the commit is released, waits for its word.
 * Or something that was ordered of md does not end, as that a copy ends whose reads are held. Or it has failed here, by its own path,
 * whatever is in sync for the others. Or what may be read is not let go, as a copy of an earlier life waits there that must not go on.
 */
function waitsForItself(state: NodeArrays, array: LocalArray, { op, settled, trouble }: Plan, now: number): boolean {
  const { observation, record, busy } = array;
  if (observation == null || !isWaitedFor(state, record, now)) return false;
  if (busy !== null) return !isApplied(array);
  if (mayRead(state, array, now)) return true;
  if (settled) return false;
  if (onlyStale(record, observation) || onlyFailing(record, observation)) return true;
  if (op !== null || trouble !== undefined || observation.held || pathLost(observation)) return false;
  return readsHeld(observation) || gateClosed(observation);
}

/** Whose failure it is that md shows here: a member's, or that of a node which is shut out. */
function refusalsSeen(state: NodeArrays, array: LocalArray, now: number, effects: LocalEffect[]): Partial<LocalArray> {
  const { observation, record, partedAtMs } = array;
  if (observation == null) return { partedAtMs: null, refused: false };
  const failed = failedHere(observation, record);
  const stuck = isStuckAtGate(state, array, observation);
  if (!failed && !stuck) return { partedAtMs: null };
  if (state.keys === null) return { partedAtMs: partedAtMs ?? now };
  if (failed && partedAtMs === null) effects.push({ type: 'check-keys' });
  const { shutOut, absent, atMs } = state.keys;
  const looked = partedAtMs !== null && atMs >= partedAtMs;
  const lacksKey =
    looked && observation.members.some(({ uuid, faulty, blocked }) => (faulty || blocked) && absent.has(uuid ?? ''));
  const refused = array.refused || shutOut || lacksKey;
  if (refused && isWaitedFor(state, record, now)) {
    const why = 'writes were refused by its members, and cannot end';
    effects.push({ type: 'stuck', array: record.uuid, md: record.md, why });
  }
  return { partedAtMs: failed ? (partedAtMs ?? now) : null, refused };
}

function hasNotBegun({ observation, gateBusy }: LocalArray): boolean {
  return observation != null && !gateBusy && asksToBegin(observation);
}

/**
 * Shut out with writes at a gate: whether they were refused cannot be told, so it is not answered; and as long as they wait there nothing
 * can be drained, so that the keys could be put back.
 */
function isStuckAtGate({ keys }: NodeArrays, { busy }: LocalArray, observation: ArrayObservation): boolean {
  if (keys?.shutOut !== true || observation.held || busy !== null) return false;
  return gateClosed(observation) && !asksToBegin(observation);
}

/** What is seen failed is a member's failure, as far as this node can know. */
function mayTell(state: NodeArrays, { partedAtMs, refused }: LocalArray): boolean {
  if (state.keys === null || partedAtMs === null) return true;
  // It reads after it has begun: one that began in the very instant will do.
  return !refused && !state.keys.shutOut && state.keys.atMs >= partedAtMs;
}
