/**
 * The node's side of every array: brings this node's md to the newest record and answers its gates.
 *
 * It is level-triggered: each input is folded in, then `plan` looks at record and observation together and names the first
 * thing that differs. Nothing depends on having seen every step, so a node that restarted, or missed ten commits, gets to
 * the same place.
 *
 * Rules kept here (each has a test that goes red without it):
 * - A gate is answered only when every locally faulty member is faulty in a *released* record: all writers have stopped
 *   reading it by then. Before that, an answered gate would acknowledge writes that another node cannot see.
 * - Writes pass only with a live grant, as a writer of the newest record that was admitted under this boot of the kernel,
 *   once that record is released.
 * - While another node copies, this node's writes are suspended (drained), not only gated: a write in flight beside the
 *   copier would leave the legs different.
 * - Only the node that the record names copies, and only after the release: by then all others hold.
 * - A lost path (the layer under md keeps its I/O waiting) is told to the master as a faulty member is. A record that calls
 *   the member faulty is then applied as it stands: what waits reads nothing. Only when it is released the member is set
 *   faulty and its path let go, in this order: md tells waiting writes as done then, without asking at a gate. These two go
 *   beside any other operation, which may be waiting for that very I/O.
 * - No drain (suspend, open, start of a copy) is begun while a path is lost: it would wait for it.
 * - The path to the last copy is never let go: a write that another leg took, which has failed since, would be told as done.
 *   It is tried again instead, every second, by a writer with a live grant.
 */
import type { ArrayObservation } from '../md/driver.ts';
import type { ArrayReport, LocalState, Observation } from '../wire/messages.ts';
import { activeMembers, canDiffer, isRedundant, survivesWithout } from './levels.ts';
import { type ArrayRecord, compareVersions, type NodeId, type Version } from './record.ts';

export type LocalOp =
  | { op: 'assemble'; record: ArrayRecord }
  | { op: 'stop' }
  | { op: 'hold' }
  | { op: 'open' }
  | { op: 'set-faulty'; member: string }
  | { op: 'release-path'; member: string }
  | { op: 'restore-path'; member: string }
  | { op: 'remove'; member: string }
  | { op: 'add-spare'; member: string; record: ArrayRecord }
  | { op: 'resync-start'; sector: number | null }
  | { op: 'start-resync'; fromSector: number; since: number }
  | { op: 'freeze' };

export interface LocalArray {
  /** Newest record known here. */
  record: ArrayRecord;
  applied: Version | null;
  /** Newest record of which the master said that every writer has applied it. */
  released: ArrayRecord | null;
  /** undefined: not looked at yet. */
  observation: ArrayObservation | null | undefined;
  /** The operation under way; one at a time. */
  busy: LocalOp | null;
  /** Of a lost path; beside `busy`. */
  pathBusy: LocalOp | null;
  /** No lost path is tried again before. */
  restoreAtMs: number;
  gateBusy: boolean;
  retryAtMs: number;
  trouble: string | null;
  /** `since` of the resync that this node's md was started on; null: none. */
  copying: number | null;
  /** Observations told to the master: key → when. Told again after a second, or to a new master. */
  told: ReadonlyMap<string, number>;
  reportedAtMs: number;
  reportedState: LocalState | null;
}

export interface NodeArrays {
  self: NodeId;
  /** boot_id of this node's kernel. */
  kernelBoot: string;
  grantUntilMs: number;
  term: number;
  master: NodeId | null;
  /** Member uuid → path on this node. */
  paths: ReadonlyMap<string, string>;
  arrays: ReadonlyMap<string, LocalArray>;
  /** No write is let through any more: the agent is ending. */
  leaving: boolean;
}

export type LocalInput =
  | { type: 'tick' }
  /** A commit whose signature and certificate have been checked. */
  | { type: 'commit'; record: ArrayRecord; forgotten: boolean }
  | { type: 'released'; array: string; version: Version }
  | { type: 'observed'; array: string; observation: ArrayObservation | null }
  | { type: 'grant'; untilMs: number }
  | { type: 'master'; term: number; node: NodeId | null }
  | { type: 'paths'; paths: ReadonlyMap<string, string> }
  | { type: 'done'; array: string; op: LocalOp; error: { code: string; text: string } | null }
  | { type: 'gates-done'; array: string; error: { code: string; text: string } | null }
  | { type: 'leave' };

export type LocalEffect =
  | { type: 'perform'; array: string; md: string; op: LocalOp }
  /** `settled`: members whose failure is released; no other failure may be answered with them. */
  | { type: 'answer-gates'; array: string; md: string; settled: readonly string[] }
  | { type: 'applied'; array: string; version: Version; report: ArrayReport }
  | { type: 'report' }
  | { type: 'submit'; observation: Observation }
  /** A member of a record has no path here: look at the disks again. */
  | { type: 'rescan' }
  | { type: 'trouble'; array: string; md: string; text: string | null };

export function localStart(self: NodeId, kernelBoot: string): NodeArrays {
  return {
    self,
    kernelBoot,
    grantUntilMs: 0,
    term: 0,
    master: null,
    paths: new Map(),
    arrays: new Map(),
    leaving: false,
  };
}

const RETRY_MS = 200;
const REPEAT_MS = 1000;

export function gateClosed(observation: ArrayObservation): boolean {
  return observation.writePending || observation.members.some((member) => member.blocked);
}

/** A drain would end: nothing in flight waits for an answer or for a path. */
function mayDrain(observation: ArrayObservation): boolean {
  return !gateClosed(observation) && !pathLost(observation);
}

/** I/O of this node waits for the path to a member. */
function pathLost(observation: ArrayObservation): boolean {
  return observation.members.some(({ path }) => path === 'lost');
}

/** The kernel is moving data between members. */
export function copyRuns(observation: ArrayObservation): boolean {
  return !['idle', 'frozen', ''].includes(observation.syncAction);
}

function wantedHere(record: ArrayRecord, self: NodeId): boolean {
  return record.run === 'started' && (record.access === 'shared' || record.owner === self);
}

function isReleased(array: LocalArray): boolean {
  return array.released !== null && compareVersions(array.released.version, array.record.version) >= 0;
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

/** Everything a record says, but for when it was said. */
function statementOf(record: ArrayRecord): string {
  return JSON.stringify({ ...record, version: null, utimeSeconds: null });
}

/**
 * Members that md here does not write to and the record takes for good: faulty, behind a lost path, or taken out behind our
 * back (the kernel lets go of a blocked member when it is hot-removed, so a gate that opens by itself must not pass for an
 * answered one).
 */
function diverged(observation: ArrayObservation, record: ArrayRecord): string[] {
  return record.members
    .filter((recorded) => {
      if (recorded.role === 'faulty') return false;
      const seen = observation.members.find((member) => member.uuid === recorded.uuid);
      return seen === undefined ? recorded.role === 'active' : seen.faulty || seen.path === 'lost';
    })
    .map((recorded) => recorded.uuid);
}

/** The record's writer of this number was another boot of this node: its last writes may stand on one leg only. */
function crashedSince(state: NodeArrays, record: ArrayRecord): boolean {
  if (!record.writers.includes(state.self)) return false;
  return !record.writerBoots.some((boot) => boot.node === state.self && boot.kernelBoot === state.kernelBoot);
}

function mustHold(state: NodeArrays, array: LocalArray, now: number): boolean {
  const { record } = array;
  if (crashedSince(state, record)) return true;
  if (state.leaving || now >= state.grantUntilMs || !record.writers.includes(state.self)) return true;
  return record.resync !== null && record.resync.by !== state.self;
}

interface Plan {
  op: LocalOp | null;
  /** The record is applied: what the other writers wait for is done here. */
  settled: boolean;
  rescan?: boolean;
  trouble?: string;
  copyDone?: boolean;
}

/** The first thing that differs between record and observation, in the order in which differences are dangerous. */
export function plan(state: NodeArrays, array: LocalArray, now: number): Plan {
  const { record, observation } = array;
  if (observation === undefined) return { op: null, settled: false };
  if (!wantedHere(record, state.self)) {
    if (observation === null) return { op: null, settled: true };
    // Drained before it is stopped: `stop` must not cut a write in two. The driver refuses while one waits for a path.
    if (!observation.held && mayDrain(observation)) return { op: { op: 'hold' }, settled: false };
    return { op: { op: 'stop' }, settled: false };
  }
  if (observation === null) {
    const missing = record.members.filter((member) => member.role === 'active' && !state.paths.has(member.uuid));
    if (missing.length > 0) {
      const names = missing.map((member) => member.uuid).join(', ');
      return {
        op: null,
        settled: false,
        rescan: true,
        trouble: `${record.md}: this node sees no disk with member ${names}; check its path to the storage`,
      };
    }
    return { op: state.leaving ? null : { op: 'assemble', record }, settled: false };
  }
  for (const member of observation.members) {
    if (member.uuid === null || member.path === 'lost') continue;
    const recorded = record.members.find((candidate) => candidate.uuid === member.uuid);
    if (recorded?.role === 'faulty' && !member.faulty && member.slot !== null) {
      return { op: { op: 'set-faulty', member: member.uuid }, settled: false };
    }
    if (recorded === undefined) {
      if (!member.faulty && member.slot !== null) {
        return { op: { op: 'set-faulty', member: member.uuid }, settled: false };
      }
      if (!member.blocked) return { op: { op: 'remove', member: member.uuid }, settled: false };
    }
  }
  const copierHere = record.resync !== null && record.resync.by === state.self;
  const runs = copyRuns(observation);
  // Frozen md starts nothing by itself. Whatever thawed it, two nodes copying at once would corrupt data.
  const thawed = isRedundant(record.level) && observation.syncAction === 'idle';
  // A copy that waits for a lost path cannot be ended before that is let go; without a second copy it changes nothing.
  const stuck = runs && pathLost(observation) && !canDiffer(record);
  if (!copierHere && (runs || thawed) && !stuck) return { op: { op: 'freeze' }, settled: false };
  const hold = mustHold(state, array, now);
  if (hold && !observation.held) {
    // A closed gate holds new writes but drains none; the gate is answered first (released faults only), then suspended.
    return { op: mayDrain(observation) ? { op: 'hold' } : null, settled: false };
  }
  if (!copierHere) {
    // Until the resync of a crash is committed, reads keep to the first leg: two readings must not tell two stories.
    const unsure = crashedSince(state, record) && canDiffer(record) ? 0 : null;
    const start = record.resync?.fromSector ?? unsure;
    if (observation.resyncStartSector !== start) return { op: { op: 'resync-start', sector: start }, settled: false };
  }
  const released = isReleased(array);
  const parted = diverged(observation, record).length > 0;
  if (copierHere && released && !runs && record.resync !== null) {
    const started = array.copying === record.resync.since;
    if (started && observation.resyncStartSector === null) {
      if (observation.syncAction !== 'frozen') return { op: { op: 'freeze' }, settled: true };
      return { op: null, settled: true, copyDone: true };
    }
    // An interrupted copy goes on from the kernel's own checkpoint.
    const from = started ? (observation.resyncStartSector ?? record.resync.fromSector) : record.resync.fromSector;
    if (!parted && mayDrain(observation) && now < state.grantUntilMs)
      return { op: { op: 'start-resync', fromSector: from, since: record.resync.since }, settled: true };
  }
  if (!hold && observation.held && released && !parted && !pathLost(observation))
    return { op: { op: 'open' }, settled: true };
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

function goodIn(record: ArrayRecord | null): Set<string> {
  return new Set(record?.members.filter(({ role }) => role !== 'faulty').map((member) => member.uuid));
}

/** Members seen here that the released record does not take for good: their failure is everybody's knowledge. */
function settledMembers({ observation, released }: LocalArray): string[] {
  const good = goodIn(released);
  return (observation?.members ?? []).flatMap(({ uuid }) => (uuid === null || good.has(uuid) ? [] : [uuid]));
}

/** What is due for a lost path; null: nothing yet. */
function pathOp({ record, released, observation }: LocalArray): LocalOp | null {
  const good = goodIn(record);
  const goodForOthers = goodIn(released);
  for (const { uuid, path, faulty } of observation?.members ?? []) {
    if (uuid === null || path !== 'lost') continue;
    if (lastCopy(record, uuid)) return { op: 'restore-path', member: uuid };
    if (released === null || good.has(uuid) || goodForOthers.has(uuid)) continue;
    return { op: faulty ? 'release-path' : 'set-faulty', member: uuid };
  }
  return null;
}

/** The master will not commit it as faulty. */
function lastCopy(record: ArrayRecord, uuid: string): boolean {
  return activeMembers(record).some((member) => member.uuid === uuid) && !survivesWithout(record, uuid);
}

function mayRestore(state: NodeArrays, { record, released }: LocalArray, now: number): boolean {
  const writer = released?.writers.includes(state.self) === true && record.writers.includes(state.self);
  return writer && !state.leaving && now < state.grantUntilMs && !crashedSince(state, record);
}

/** Whether the gates of this array may be answered now. */
export function gatesAnswerable(state: NodeArrays, array: LocalArray, now: number): boolean {
  const { observation, released, record } = array;
  if (observation == null || released === null || !gateClosed(observation)) return false;
  if (state.leaving || now >= state.grantUntilMs) return false;
  if (!released.writers.includes(state.self) && !observation.held) return false;
  return diverged(observation, released).length === 0 && diverged(observation, record).length === 0;
}

export function localState(array: LocalArray): LocalState {
  if (array.observation == null) return 'absent';
  return array.observation.held ? 'held' : 'open';
}

export function reportOf(state: NodeArrays, array: LocalArray): ArrayReport {
  const visible = array.record.members.map((member) => member.uuid).filter((uuid) => state.paths.has(uuid));
  return {
    array: array.record.uuid,
    applied: array.applied,
    known: array.record.version,
    state: localState(array),
    visible,
    trouble: array.trouble,
  };
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
    case 'grant':
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
      break;
    case 'leave':
      state.leaving = true;
      break;
    case 'commit': {
      const { record } = input;
      const known = arrays.get(record.uuid);
      if (known !== undefined && compareVersions(record.version, known.record.version) <= 0) break;
      if (known === undefined) {
        arrays.set(record.uuid, {
          record,
          applied: null,
          released: null,
          observation: undefined,
          busy: null,
          pathBusy: null,
          restoreAtMs: 0,
          gateBusy: false,
          retryAtMs: 0,
          trouble: null,
          copying: null,
          told: new Map(),
          reportedAtMs: Number.NEGATIVE_INFINITY,
          reportedState: null,
        });
      } else {
        const released = repeatsReleased(known, record) ? record : known.released;
        change(record.uuid, { record, released, retryAtMs: 0, trouble: null });
      }
      if (input.forgotten) arrays.delete(record.uuid);
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
    case 'observed':
      change(input.array, { observation: input.observation });
      break;
    case 'done': {
      const array = arrays.get(input.array);
      if (array === undefined) break;
      const failed = input.error !== null;
      const ofPath = JSON.stringify(input.op) === JSON.stringify(array.pathBusy);
      change(input.array, {
        ...(ofPath ? { pathBusy: null } : { busy: null }),
        retryAtMs: failed ? now + RETRY_MS : 0,
        copying: !failed && input.op.op === 'start-resync' ? input.op.since : array.copying,
      });
      if (input.error !== null) {
        const text = `${array.record.md}: ${input.op.op}: ${input.error.text}`;
        if (array.trouble !== text) effects.push({ type: 'trouble', array: input.array, md: array.record.md, text });
        change(input.array, { trouble: text });
        if (input.op.op === 'assemble') effects.push({ type: 'rescan' });
        effects.push({ type: 'report' });
      } else if (array.trouble !== null) {
        change(input.array, { trouble: null });
        effects.push({ type: 'trouble', array: input.array, md: array.record.md, text: null });
      }
      break;
    }
    case 'gates-done':
      change(input.array, { gateBusy: false, retryAtMs: input.error === null ? 0 : now + RETRY_MS });
      break;
  }
  for (const uuid of arrays.keys()) advance(state, arrays, uuid, now, effects);
  return { state, effects };
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
    const next = { ...(array as LocalArray), ...fields };
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
  if (array.observation !== null) {
    for (const member of diverged(array.observation, array.record)) {
      // Told once: it changes nothing, but an operator should hear of it.
      if (array.told.has(`faulty ${member}`) && lastCopy(array.record, member)) continue;
      tell(`faulty ${member}`, { what: 'member-faulty', array: uuid, member });
    }
  }
  if (!array.gateBusy && gatesAnswerable(state, array, now)) {
    array = replace({ gateBusy: true });
    effects.push({ type: 'answer-gates', array: uuid, md, settled: settledMembers(array) });
  }
  const path = array.pathBusy === null && now >= array.retryAtMs ? pathOp(array) : null;
  if (path !== null && (path.op !== 'restore-path' || (mayRestore(state, array, now) && now >= array.restoreAtMs))) {
    array = replace({ pathBusy: path, ...(path.op === 'restore-path' ? { restoreAtMs: now + REPEAT_MS } : {}) });
    effects.push({ type: 'perform', array: uuid, md, op: path });
  }
  const next = plan(state, array, now);
  if (next.trouble !== undefined && array.trouble !== next.trouble) {
    array = replace({ trouble: next.trouble });
    effects.push({ type: 'trouble', array: uuid, md, text: next.trouble }, { type: 'report' });
  }
  if (next.rescan === true && now >= array.retryAtMs) {
    array = replace({ retryAtMs: now + REPEAT_MS });
    effects.push({ type: 'rescan' });
  }
  // A suspend that waits for a lost path returns only after the release, which waits for this word.
  const waits = array.busy?.op === 'hold' && array.observation != null && pathLost(array.observation);
  if (next.settled && (array.busy === null || waits)) {
    if (array.applied === null || compareVersions(array.applied, array.record.version) !== 0) {
      array = replace({
        applied: array.record.version,
        reportedAtMs: now,
        reportedState: localState(array),
        trouble: null,
      });
      effects.push({ type: 'applied', array: uuid, version: array.record.version, report: reportOf(state, array) });
    }
    if (next.copyDone === true && array.copying !== null) {
      tell(`copied ${array.copying}`, { what: 'resync-done', array: uuid, since: array.copying });
    }
  }
  if (next.op !== null && array.busy === null && now >= array.retryAtMs) {
    array = replace({ busy: next.op });
    effects.push({ type: 'perform', array: uuid, md, op: next.op });
  }
  const stands = localState(array);
  if (state.master !== null && (stands !== array.reportedState || now - array.reportedAtMs >= REPEAT_MS)) {
    array = replace({ reportedAtMs: now, reportedState: stands });
    effects.push({ type: 'report' });
  }
}
