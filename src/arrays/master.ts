/**
 * The master's side of every array: turns observations, reports and requests into commits, one at a time for each array.
 *
 * A commit goes persist → broadcast → applied by every node that may touch the array → released. It waits for a silent node
 * until fencing says that the node surely stopped; nothing else shortens the wait.
 *
 * Like the node's side it is level-triggered: when an array has no commit under way, `nextChange` (next_change.ts) looks at the record,
 * the reports and what is asked for, and names the most urgent difference. Here a commit goes its way; state, inputs and effects are in
 * master_state.ts.
 *
 * Rules kept here (each has a test that goes red without it):
 * - A new master commits nothing before it has read the members and re-committed what stands there under its own term.
 * - It refuses to go on from disks that may be older than what a writer has seen.
 * - A node leaves `writers` only after it said that its writes are held, or that the array is gone from its kernel, or after
 *   fencing vouched for it; in the last two cases the legs may differ and a resync is committed with it.
 * - One that is back under another boot of its kernel has crashed, unless it can say of the boot before that it ended in order
 *   (ended.ts): then no write of its stands on one leg only.
 * - The last members that hold the data are never committed as faulty.
 * - Storage may vouch for a node that goes on reading until its grant ends. A commit that gives up a member is not released before.
 * - A node is granted writes only when it has said that it knows what a new master found on the disks, or the record that left it
 *   out. One that was cut off, held its writes in time and was counted as stopped was never reset: it still has a released
 *   record by which it is a writer, and would write, and read a leg that has failed since, until it hears of a newer one. Where the disks
 *   do not tell what is newest, it must know the most of all nodes.
 * - A path that is lost on one node only is judged in path_loss.ts, by what all nodes report.
 */
import type { ArrayReport, CommitKind } from '../wire/messages.ts';
import { inTheMiddle, leadsNoMore, outcomeText, tellCommit, tellPercent } from './commit_words.ts';
import { calledOff, copierFor } from './copies.ts';
import { allowed, failMember } from './failures.ts';
import { activeMembers, givesUp, isWritten, mayTouch, mayTouchYet, survivesWithout } from './levels.ts';
import {
  BLANK,
  type Change,
  emptyArray,
  type FoundRecord,
  type MasterArray,
  type MasterEffect,
  type MasterInput,
  type MasterNode,
  type MasterState,
  type PendingCommit,
} from './master_state.ts';
import { withMissed } from './missed.ts';
import { goneFrom, nextChange, without } from './next_change.ts';
import { judgePaths, NO_PATHS } from './path_loss.ts';
import {
  type ArrayRecord,
  compareVersions,
  copyAnew,
  isEnd,
  isNew,
  type NodeId,
  type Version,
  WHY_MAX,
} from './record.ts';

const RETRY_MS = 250;
/** Longer than the redial's slowest pace, with a probe after it. */
const RECONNECT_MS = 3000;
const RESCAN_MS = 500;
/** After the end of a grant: the guard holds what is read, once what is written is drained (native-addon/gated_array.h). */
const READS_MARGIN_MS = 500;

export function masterStep(
  previous: MasterState,
  input: MasterInput,
  now: number,
): { state: MasterState; effects: MasterEffect[] } {
  const effects: MasterEffect[] = [];
  const nodes = new Map(previous.nodes);
  const arrays = new Map(previous.arrays);
  const state: MasterState = { ...previous, nodes, arrays };
  const changeNode = (id: NodeId, fields: Partial<MasterNode>): void => {
    const node = nodes.get(id);
    if (node !== undefined) nodes.set(id, { ...node, ...fields });
  };
  const changeArray = (uuid: string, fields: Partial<MasterArray>): void => {
    arrays.set(uuid, { ...(arrays.get(uuid) ?? emptyArray), ...fields });
  };
  const takeUp = (found: FoundRecord): void => {
    const { uuid, version } = found.record;
    // Also the writers: one that was counted as stopped, before its eviction was written down, may have missed a commit.
    const mustKnow = new Map([...nodes.keys()].map((id) => [id, version] as const));
    changeArray(uuid, { found, mustKnow, unreached: unreachedBy(found) });
  };
  /** A takeover that is not being written now, and rests on an older commit than the disks have shown since, is begun anew. */
  const dropOverruled = (uuid: string): void => {
    const { pending, found } = arrays.get(uuid) ?? emptyArray;
    if (pending?.before == null || found === null || pending.retryAtMs === Number.POSITIVE_INFINITY) return;
    const { version } = found.record;
    if (version.term < state.term && compareVersions(version, pending.before) > 0) changeArray(uuid, { pending: null });
  };
  const keepReport = (from: NodeId, report: ArrayReport): void => {
    changeNode(from, { reports: new Map(nodes.get(from)?.reports).set(report.array, report) });
  };

  switch (input.type) {
    case 'tick':
      break;
    case 'wall':
      state.wall = input.wall;
      break;
    case 'config': {
      const { nodes: listed, ...options } = input.config;
      for (const id of nodes.keys()) if (!listed.includes(id)) nodes.delete(id);
      for (const id of listed) if (!nodes.has(id)) nodes.set(id, BLANK);
      Object.assign(state, options);
      state.majoritySinceMs = seesMajority(state) ? (previous.majoritySinceMs ?? now) : null;
      break;
    }
    case 'elected':
      for (const array of arrays.values()) giveUpAll(state, array, effects);
      arrays.clear();
      for (const id of nodes.keys())
        changeNode(id, { reports: new Map(), kernelBoot: null, ended: [], fencing: 'no', readsUntilMs: 0 });
      Object.assign(state, {
        term: input.term,
        electedAtMs: now,
        leading: true,
        scanned: false,
        scanAtMs: now,
        givenBack: new Map(),
        grantable: [],
      });
      effects.push({ type: 'scan' });
      break;
    case 'lost':
      if (state.leading) {
        for (const array of arrays.values()) giveUpAll(state, array, effects);
        for (const [id, node] of nodes) if (node.fencing === 'asked') effects.push({ type: 'cancel-fence', node: id });
      }
      arrays.clear();
      Object.assign(state, { leading: false, scanned: false, grantable: [] });
      break;
    case 'status': {
      const node = nodes.get(input.node);
      changeNode(input.node, { status: input.status });
      state.majoritySinceMs = seesMajority(state) ? (previous.majoritySinceMs ?? now) : null;
      if (input.status === 'alive' && node?.fencing === 'asked') {
        changeNode(input.node, { fencing: 'no' });
        effects.push({ type: 'cancel-fence', node: input.node });
      }
      if (input.status !== 'alive' && input.status !== 'suspect') {
        changeNode(input.node, { kernelBoot: null, ended: [], reports: new Map() });
      }
      if (input.status === 'alive' && node?.status === 'left') changeNode(input.node, { leaving: false });
      break;
    }
    case 'leaving':
      // A goodbye that was late is no word of the agent that has started since.
      if (input.agentStart >= (nodes.get(input.node)?.agentStart ?? 0))
        changeNode(input.node, { agentStart: input.agentStart, leaving: true });
      break;
    case 'put-back': {
      const { record } = input;
      const array = arrays.get(record.uuid) ?? emptyArray;
      if (array.record !== null || array.pending !== null || array.found === null) break;
      if (compareVersions(record.version, array.found.record.version) <= 0) break;
      takeUp(knownInstead(array.found, record));
      break;
    }
    case 'disks':
      state.scanned = true;
      for (const [uuid, array] of arrays)
        if (isUnmade(array) && !input.found.some(({ record }) => record.uuid === uuid)) arrays.delete(uuid);
      for (const found of input.found) {
        const known = arrays.get(found.record.uuid);
        if (known !== undefined && (known.record !== null || isBeingIntroduced(known))) continue;
        takeUp(found);
        dropOverruled(found.record.uuid);
      }
      break;
    case 'report': {
      changeNode(input.from, {
        reports: new Map(input.reports.map((report) => [report.array, report])),
        kernelBoot: input.kernelBoot,
        ended: input.ended ?? [],
      });
      // It may be back before anybody has seen it gone.
      if (input.agentStart > (nodes.get(input.from)?.agentStart ?? 0))
        changeNode(input.from, { agentStart: input.agentStart, leaving: false });
      // An `applied` that was lost on the way is made up for by the next report.
      for (const { array: uuid, applied } of input.reports) {
        const pending = arrays.get(uuid)?.pending;
        if (pending?.stage !== 'applying' || applied === null) continue;
        if (compareVersions(applied, pending.record.version) !== 0) continue;
        changeArray(uuid, { pending: { ...pending, waiting: without(pending.waiting, [input.from]) } });
      }
      break;
    }
    case 'applied': {
      keepReport(input.from, input.report);
      const array = arrays.get(input.array);
      const pending = array?.pending;
      if (pending?.stage === 'applying' && compareVersions(input.version, pending.record.version) === 0) {
        changeArray(input.array, { pending: { ...pending, waiting: without(pending.waiting, [input.from]) } });
      } else if (
        array?.record != null &&
        compareVersions(input.version, array.record.version) === 0 &&
        pending == null
      ) {
        effects.push({ type: 'released', to: [input.from], array: input.array, version: input.version });
      }
      break;
    }
    case 'observation': {
      const { observation } = input;
      const array = arrays.get(observation.array);
      if (array === undefined) break;
      if (observation.what === 'member-faulty') {
        const base = array.pending?.record ?? array.record;
        if (base === null || array.faults.includes(observation.member)) break;
        // What is left must survive all that is to be failed yet.
        if (allowed(base, observation.member, array.faults)) {
          changeArray(observation.array, { faults: [...array.faults, observation.member] });
        } else {
          effects.push({
            type: 'notice',
            name: 'LastMemberFaulty',
            severity: 'critical',
            subject: base.md,
            detail: { member: observation.member, node: input.from },
          });
        }
      } else if (observation.what === 'resync-done') {
        const resync = (array.pending?.record ?? array.record)?.resync;
        if (resync?.by === input.from && resync.since === observation.since) {
          changeArray(observation.array, { copied: true, mismatchSectors: observation.mismatchSectors });
        }
      } else {
        const { since, kept } = observation;
        const resync = (array.pending?.record ?? array.record)?.resync;
        const known = JSON.stringify(resync?.markedBy) === JSON.stringify(kept ? [input.from] : null);
        if (resync?.by === input.from && resync.since === since && !known) {
          changeArray(observation.array, { marksTaken: { since, kept } });
        }
      }
      break;
    }
    case 'progress': {
      const array = arrays.get(input.array);
      const resync = array?.record?.resync;
      if (array === undefined || resync?.by !== input.from || resync.since !== input.progress.since) break;
      changeArray(input.array, { progress: input.progress, toldPercent: tellPercent(array, input.progress, effects) });
      break;
    }
    case 'fenced':
      if (nodes.get(input.node)?.fencing === 'asked') {
        changeNode(input.node, { fencing: input.stopped ? 'stopped' : 'no' });
      } else if (input.stopped && nodes.get(input.node)?.status !== 'alive') {
        changeNode(input.node, { fencing: 'stopped' });
      }
      if (input.stopped) {
        if (input.grantUntilMs !== undefined)
          changeNode(input.node, { readsUntilMs: input.grantUntilMs + READS_MARGIN_MS });
        effects.push({
          type: 'notice',
          name: 'NodeEvicted',
          severity: 'warning',
          subject: `node/${input.node}`,
          detail: { node: input.node, why: input.text },
        });
      }
      break;
    case 'ask': {
      const array = arrays.get(input.array);
      if (!state.leading) {
        if (input.requestId !== null) {
          effects.push({ type: 'answer', requestId: input.requestId, ...leadIsOver(state.self, input.change) });
        }
      } else if (array === undefined && input.change.what !== 'introduce') {
        if (input.requestId !== null) {
          effects.push({ type: 'answer', requestId: input.requestId, ok: false, text: `no array ${input.array} here` });
        }
      } else {
        changeArray(input.array, {
          asked: [...(array?.asked ?? []), { change: input.change, requestId: input.requestId }],
        });
      }
      break;
    }
    case 'given-back': {
      const array = arrays.get(input.array);
      if (array?.record?.givenBack !== true) break;
      const { record, releaseRequest } = array;
      if (input.error !== null) {
        changeArray(input.array, {
          givingBackAtMs: now + RETRY_MS,
          trouble: `${record.md}: its members were not given back: ${input.error}`,
        });
        break;
      }
      if (releaseRequest !== null)
        effects.push({
          type: 'answer',
          requestId: releaseRequest,
          ok: true,
          text: `${record.md} is a plain md array again`,
        });
      arrays.delete(input.array);
      state.givenBack = new Map(state.givenBack).set(input.array, record.version);
      break;
    }
    case 'persisted': {
      const array = arrays.get(input.array);
      const pending = array?.pending;
      if (array === undefined || pending?.stage !== 'persisting') break;
      if (compareVersions(input.version, pending.record.version) !== 0) break;
      const faults = [...new Set([...array.faults, ...input.failed])];
      if (!input.written) {
        const trouble = `${pending.record.md}: the commit reached no member: ${input.text}`;
        changeArray(input.array, { pending: { ...pending, retryAtMs: now + RETRY_MS }, trouble });
        // It is tried again and again; what all journals keep is that it began, and why.
        if (trouble !== array.trouble) {
          effects.push({
            type: 'notice',
            name: 'CommitNotDurable',
            severity: 'critical',
            subject: pending.record.md,
            detail: { why: input.text },
          });
        }
        dropOverruled(input.array);
        break;
      }
      const touching = [
        ...mayTouchYet(pending.record),
        ...(array.record === null ? [] : mayTouch(array.record)),
        ...(array.found === null ? [] : mayTouchYet(array.found.record)),
      ];
      // Whatever its part in the array, this node's journal has it before anybody relies on it. What is given back nobody applies.
      const all = isEnd(pending.kind, pending.record) ? touching : [...touching, state.self];
      const waiting = [...new Set(all)].filter((id) => nodes.get(id)?.fencing !== 'stopped');
      changeArray(input.array, {
        record: pending.record,
        found: null,
        faults,
        unreached: unreachedAfter(array.unreached, pending.record, input.failed),
        trouble: null,
        mustKnow: leftOut(array, pending),
        pending: { ...pending, stage: 'applying', waiting, retryAtMs: now + RETRY_MS },
      });
      effects.push({
        type: 'commit',
        record: pending.record,
        before: pending.before,
        kind: pending.kind,
        detail: pending.detail,
      });
      break;
    }
  }

  if (state.leading) {
    for (const uuid of arrays.keys()) advance(state, arrays, uuid, now, effects);
    if (input.type === 'report') {
      resend(state, input.from, now, effects);
      resendEnds(state, input.from, effects);
    }
    watchNodes(state, nodes, now, effects);
    const unresolved = [...arrays.values()].some((array) => array.found !== null && array.record === null);
    if (state.scanned && now - state.scanAtMs >= RESCAN_MS && (unresolved || overlooked(state).length > 0)) {
      state.scanAtMs = now;
      effects.push({ type: 'scan' });
    }
  }
  return { state, effects };
}

/**
 * A copier need not be a writer, and what ends its copy leaves nothing in the record that another master would wait for.
 *
 * @param taken the record before was found on the disks, and nobody knows whether its commit was released
 */
function withFormerCopiers(state: MasterState, before: ArrayRecord, after: ArrayRecord, taken: boolean): ArrayRecord {
  const { formerCopiers: _, ...rest } = after;
  const copied = [
    ...(before.resync === null ? [] : [before.resync.by]),
    ...(taken ? (before.formerCopiers ?? []) : []),
  ];
  const yet = without(copied, mayTouch(after)).filter((id) => state.nodes.get(id)?.fencing !== 'stopped');
  return yet.length === 0 ? rest : { ...rest, formerCopiers: [...new Set(yet)] };
}

/** A member that is not seen may have missed one commit already that nobody could say so in. */
function unreachedBy({ record, unseen, behind }: FoundRecord): MasterArray['unreached'] {
  const said = (record.unreached ?? []).map(({ uuid, since }) => [uuid, since] as const);
  return new Map([...unseen.map((uuid) => [uuid, record.version.index - 1] as const), ...behind, ...said]);
}

/** The record goes on although something older stands on its members, as far as those are good enough for that. */
function knownInstead(found: FoundRecord, record: ArrayRecord): FoundRecord {
  const active = activeMembers(record).map(({ uuid }) => uuid);
  const behind = active.map((uuid) => [uuid, found.behind.get(uuid) ?? found.record.version.index] as const);
  const stale = [...found.stale].filter(([uuid]) => active.includes(uuid));
  return { ...found, record, unseen: [], behind: new Map(behind), stale: new Map(stale) };
}

function unreachedAfter(
  before: MasterArray['unreached'],
  { version }: ArrayRecord,
  failed: readonly string[],
): MasterArray['unreached'] {
  return new Map(failed.map((uuid) => [uuid, before.get(uuid) ?? version.index - 1]));
}

/** What can be done without is given up instead. */
function withUnreached({ unreached: _, ...record }: ArrayRecord, unreached: MasterArray['unreached']): ArrayRecord {
  const lacking = [...unreached].filter(([uuid]) =>
    record.members.some((each) => each.uuid === uuid && isWritten(each)),
  );
  if (lacking.length === 0 || survivesWithout(record, ...lacking.map(([uuid]) => uuid))) return record;
  return { ...record, unreached: lacking.map(([uuid, since]) => ({ uuid, since })) };
}

/** Whoever a commit leaves out has to know it. */
function leftOut(array: MasterArray, { record }: PendingCommit): MasterArray['mustKnow'] {
  const before = array.record ?? array.found?.record;
  const gone = before === undefined ? [] : without(mayTouch(before), mayTouch(record));
  return new Map([...array.mustKnow, ...gone.map((id) => [id, record.version] as const)]);
}

/**
 * Where the disks that are seen do not tell what the newest record is, only nodes can: none of them knows more than this one. Until all have
 * spoken, or are surely stopped, one may know of the record that left it out.
 */
function knowsTheMost({ nodes }: MasterState, uuid: string, node: MasterNode): boolean {
  if (node.kernelBoot === null) return false;
  const known = node.reports.get(uuid)?.known ?? null;
  return [...nodes.values()].every((other) => {
    if (other.kernelBoot === null) return other.fencing === 'stopped';
    const more = other.reports.get(uuid)?.known ?? null;
    return known === null || more === null || compareVersions(more, known) <= 0;
  });
}

/** By what this node has said in this term it knows all that it could have missed. */
function isCaughtUp(state: MasterState, id: NodeId, node: MasterNode): boolean {
  if (!state.scanned) return false;
  for (const uuid of node.reports.keys())
    if (isOverlooked(state, uuid) && !knowsTheMost(state, uuid, node)) return false;
  return [...state.arrays].every(([uuid, { mustKnow, record, found }]) => {
    const unproven = record === null && found !== null && provenNewest(state, found) !== null;
    if (unproven && !knowsTheMost(state, uuid, node)) return false;
    const wanted = mustKnow.get(id);
    if (wanted === undefined) return true;
    if (node.kernelBoot === null) return false;
    const known = node.reports.get(uuid)?.known ?? null;
    return known === null || compareVersions(known, wanted) >= 0;
  });
}

function refuseAll({ asked, pending, ...array }: MasterArray, effects: MasterEffect[], text: string): void {
  const requests = [...asked.map(({ requestId }) => requestId), pending?.detail.requestId];
  for (const requestId of [...requests, array.stopRequest, array.releaseRequest]) {
    if (requestId != null) effects.push({ type: 'answer', requestId, ok: false, text });
  }
}

/** The lead is over. What was asked for and has not begun, another master may be asked. */
function giveUpAll({ self }: MasterState, array: MasterArray, effects: MasterEffect[]): void {
  for (const { change, requestId } of array.asked)
    if (requestId !== null) effects.push({ type: 'answer', requestId, ...leadIsOver(self, change) });
  refuseAll({ ...array, asked: [] }, effects, inTheMiddle(self));
}

function leadIsOver(self: NodeId, { what }: Change): ReturnType<typeof leadsNoMore> | { ok: false; text: string } {
  return WRITES_FIRST.includes(what) ? { ok: false, text: inTheMiddle(self) } : leadsNoMore(self);
}

/** The members are written to before these are asked for. */
const WRITES_FIRST: readonly Change['what'][] = ['introduce', 'add', 'size', 'bitmap'];

/** Found on some of its disks alone, and was never committed: whoever makes it again, or another, need not wait for it. */
function isUnmade({ record, found, pending, asked }: MasterArray): boolean {
  return record === null && found !== null && isNew(found.record) && pending === null && asked.length === 0;
}

function isBeingIntroduced({ asked, pending }: MasterArray): boolean {
  return pending?.before === null || asked.some(({ change }) => change.what === 'introduce');
}

/** Who does not know the newest commit is sent it again. */
function resend(state: MasterState, to: NodeId, now: number, effects: MasterEffect[]): void {
  const node = state.nodes.get(to);
  for (const [uuid, array] of state.arrays) {
    const { pending } = array;
    if (array.record === null || pending?.stage === 'persisting') continue;
    // Who is told that it has ended says nothing of it any more.
    if (array.record.givenBack === true && !node?.reports.has(uuid)) continue;
    const report = node?.reports.get(uuid);
    const known = report?.known ?? null;
    const applied = report?.applied ?? null;
    // A restarted agent knows the version from its journal, not the record: until it has applied one, it is sent it.
    if (known === null || applied === null) {
      effects.push({ type: 'send-commit', to, array: uuid });
    } else if (compareVersions(known, array.record.version) < 0) {
      // Its report may have been on its way as that was; another one follows. Who has nothing of an array reports but once.
      if (pending === null || now >= pending.retryAtMs) effects.push({ type: 'send-commit', to, array: uuid });
    } else {
      const current = compareVersions(applied, array.record.version) === 0;
      const told = report?.released != null && compareVersions(report.released, array.record.version) === 0;
      if (current && !told && pending === null) {
        effects.push({ type: 'released', to: [to], array: uuid, version: array.record.version });
      }
    }
  }
}

/** Who was away as an array of this term was given back. */
function resendEnds(state: MasterState, to: NodeId, effects: MasterEffect[]): void {
  for (const [uuid, version] of state.givenBack) {
    const known = state.nodes.get(to)?.reports.get(uuid)?.known ?? null;
    if (known !== null && compareVersions(known, version) < 0) effects.push({ type: 'send-commit', to, array: uuid });
  }
}

/** A writer may still run it; or a node says that it does. */
function runsSomewhere(state: MasterState, record: ArrayRecord): boolean {
  if (record.writers.length > 0) return true;
  return [...state.nodes.values()].some((node) => (node.reports.get(record.uuid)?.state ?? 'absent') !== 'absent');
}

/** Whoever runs an array that was not found on any disk tells of it: the disks are not seen, or were not to be read in that moment. */
export function overlooked(state: MasterState): string[] {
  const told = [...state.nodes.values()].flatMap(({ reports }) => [...reports.keys()]);
  return [...new Set(told)].filter((uuid) => isOverlooked(state, uuid));
}

function isOverlooked({ arrays, givenBack }: MasterState, uuid: string): boolean {
  return !arrays.has(uuid) && !givenBack.has(uuid);
}

/**
 * What stands on the disks and has not been committed under this term yet, or is being given back, each with what is in the way (null:
 * nothing but time). null: the disks have not been read yet. Whoever asks for a change must not be told that these arrays do not exist.
 */
export function notTakenOver({ scanned, arrays }: MasterState): { record: ArrayRecord; why: string | null }[] | null {
  if (!scanned) return null;
  return [...arrays.values()].flatMap(({ record, found, trouble }) => {
    if (record?.givenBack === true) return [{ record, why: trouble }];
    return record === null && found !== null ? [{ record: found.record, why: trouble }] : [];
  });
}

/**
 * What has missed that much is failed as the array is taken over: the first commit would make it look like the others. Nothing says what it
 * lacks, so it is filled as a whole if it comes back.
 */
function withoutStale({ record, stale }: FoundRecord): ArrayRecord {
  if (stale.size === 0) return record;
  const { missed: _, ...failed } = [...stale.keys()].reduce(failMember, record);
  return { ...failed, events: record.events + 2 };
}

function inWords(stale: FoundRecord['stale']): PendingCommit['detail'] {
  const [first] = stale;
  if (first === undefined) return {};
  const why = [...stale.values()].join('; ');
  // What peers would not take is never told, and the disks have it already.
  return { member: first[0], why: why.length <= WHY_MAX ? why : `${why.slice(0, WHY_MAX - 1)}…` };
}

/** A record found on disk may be continued when nothing newer can have been released. */
function provenNewest(state: MasterState, found: NonNullable<MasterArray['found']>): string | null {
  const { record, stale } = found;
  if (found.problem !== null && record.givenBack !== true) return found.problem;
  const [left] = [...stale].filter(([uuid]) => !allowed(record, uuid, [...stale.keys()]));
  if (left !== undefined) return `${left[1]}, and without it nothing would be left; examine it`;
  for (const [id, node] of state.nodes) {
    const known = node.reports.get(record.uuid)?.known ?? null;
    if (known !== null && compareVersions(known, record.version) > 0) {
      return `${record.md}: node ${id} knows commit ${known.term}.${known.index}, the disks seen here only ${record.version.term}.${record.version.index}; bring back the members that have it; where none is missing, mdmesh assemble --force ${record.md} writes again what is known`;
    }
  }
  // What is taken off them one after the other need not stand on all.
  if (found.unseen.length === 0 || record.givenBack === true) return null;
  if (isNew(record))
    return `${record.md}: it was being created or adopted, and not every member has its record; ask for that again (mdmesh adopt; mdmesh create --force makes a new array of them)`;
  // Every writer of this record says that it knows nothing newer: then no write was acknowledged past it.
  const silent = mayTouch(record).filter((id) => state.nodes.get(id)?.reports.get(record.uuid)?.known == null);
  if (silent.length === 0 && record.writers.length > 0) return null;
  return `${record.md}: not every active member is seen here, and node ${silent.join(', ') || 'list'} has not said what it knows; the missing member may be newer`;
}

function advance(
  state: MasterState,
  arrays: Map<string, MasterArray>,
  uuid: string,
  now: number,
  effects: MasterEffect[],
): void {
  let array = arrays.get(uuid);
  if (array === undefined) return;
  const replace = (fields: Partial<MasterArray>): MasterArray => {
    const next = { ...(arrays.get(uuid) ?? emptyArray), ...fields };
    arrays.set(uuid, next);
    return next;
  };
  const propose = (
    kind: CommitKind,
    record: ArrayRecord,
    before: Version | null,
    detail: PendingCommit['detail'],
  ): void => {
    const standing = array?.record ?? array?.found?.record;
    const copied = standing == null ? record : withFormerCopiers(state, standing, record, array?.record == null);
    const stamped = withUnreached(copied, array?.unreached ?? new Map());
    const pending: PendingCommit = {
      record: stamped,
      before,
      kind,
      detail,
      callsOff: kind === 'resync-done' || standing == null ? null : calledOff(standing, record),
      stage: 'persisting',
      retryAtMs: Number.POSITIVE_INFINITY,
      givesUp: standing != null && givesUp(standing, record),
      waiting: [],
    };
    array = replace({ pending });
    effects.push({ type: 'persist', record: stamped, kind });
  };

  if (array.record === null && array.found !== null && array.pending === null) {
    const trouble = provenNewest(state, array.found);
    if (trouble !== null) {
      if (trouble !== array.trouble) {
        replace({ trouble });
        effects.push({
          type: 'notice',
          name: 'ArrayHeld',
          severity: 'critical',
          subject: array.found.record.md,
          detail: { why: trouble },
        });
      }
      return;
    }
    const { stale } = array.found;
    const record = withoutStale(array.found);
    // Given back in this term already, and found on a member that was not seen then: its versions go on from there.
    const ended = state.givenBack.get(uuid);
    const before = ended !== undefined && compareVersions(ended, record.version) > 0 ? ended : record.version;
    const run = state.autoAssemble || runsSomewhere(state, record) ? record.run : 'stopped';
    const resync = copyAnew(record, copierFor(state, record));
    propose(
      'new-term',
      { ...record, run, resync, version: { term: state.term, index: before.index + 1 } },
      before,
      inWords(stale),
    );
    return;
  }
  const { pending } = array;
  if (pending?.stage === 'persisting' && now >= pending.retryAtMs) {
    array = replace({ pending: { ...pending, retryAtMs: Number.POSITIVE_INFINITY } });
    effects.push({ type: 'persist', record: pending.record, kind: pending.kind });
    return;
  }
  if (pending?.stage === 'applying') {
    const { over } = goneFrom(state, pending.record, pending.waiting);
    const waiting = without(pending.waiting, over);
    if (waiting.length > 0) {
      if (waiting.length !== pending.waiting.length) array = replace({ pending: { ...pending, waiting } });
      revertBusyStop(state, array, pending, effects, replace);
      replace(followPaths(state, array, now, effects));
      return;
    }
    if (pending.givesUp && [...state.nodes.values()].some(({ readsUntilMs }) => now < readsUntilMs)) {
      if (pending.waiting.length > 0) replace({ pending: { ...pending, waiting } });
      return;
    }
    array = replace({ pending: null });
    const to = [...state.nodes.keys()];
    effects.push({ type: 'released', to, array: uuid, version: pending.record.version });
    tellCommit(state, array, pending, effects);
    const { requestId } = pending.detail;
    if (requestId !== undefined && pending.kind !== 'stop' && pending.kind !== 'release') {
      effects.push({ type: 'answer', requestId, ok: true, text: outcomeText(pending) });
    }
  }
  // All that are here know that it has ended: from now on its members may be mdadm's, or of another array.
  if (array.record?.givenBack === true && array.pending === null) {
    refuseAll({ ...array, releaseRequest: null }, effects, `${array.record.md} is being given back`);
    const begins = now >= array.givingBackAtMs;
    if (begins) effects.push({ type: 'give-back', record: array.record });
    replace({ asked: [], ...(begins && { givingBackAtMs: Number.POSITIVE_INFINITY }) });
    return;
  }
  array = replace(followPaths(state, array, now, effects));
  if (array.pending !== null) return;
  const { record } = array;
  if (record !== null && record.run === 'stopped' && record.writers.length === 0 && array.stopRequest !== null) {
    effects.push({ type: 'answer', requestId: array.stopRequest, ok: true, text: `${record.md} stopped on all nodes` });
    array = replace({ stopRequest: null });
  }
  for (;;) {
    const next = nextChange(state, array, now);
    if (next === null) return;
    if ('refuse' in next) {
      const { refuse } = next;
      array = replace({ asked: array.asked.filter((asked) => asked !== refuse) });
      if (refuse.requestId !== null) {
        effects.push({ type: 'answer', requestId: refuse.requestId, ok: false, text: next.text });
      }
      continue;
    }
    replace(next.fields);
    // One that was given back in this term, and is adopted, goes on from there: a version names one commit.
    const before = record?.version ?? state.givenBack.get(uuid);
    const index = before === undefined ? 0 : before.index + 1;
    const stamped = withMissed(record, { ...next.record, version: { term: state.term, index } });
    propose(next.kind, stamped, record?.version ?? null, next.detail);
    return;
  }
}

/** Lost paths, by the newest reports. */
function followPaths(
  state: MasterState,
  array: MasterArray,
  now: number,
  effects: MasterEffect[],
): Partial<MasterArray> {
  const { pending, faults } = array;
  const record = pending?.record ?? array.record;
  if (record === null) return {};
  const words = new Map(
    [...state.nodes].flatMap(([id, { reports }]) => {
      const report = reports.get(record.uuid);
      return report === undefined ? [] : [[id, report] as const];
    }),
  );
  if (array.paths === NO_PATHS && [...words.values()].every(({ lost }) => lost.length === 0)) return {};
  const copy = record.resync;
  const copies = copy !== null && !copy.halted;
  const verdict = judgePaths(
    array.paths,
    {
      self: state.self,
      record,
      words,
      waitsFor: (node) => {
        if (pending?.stage === 'applying' && pending.waiting.includes(node)) return 'commit';
        return copies && copy.by !== node && record.writers.includes(node) ? 'copy' : 'nothing';
      },
    },
    state.pathLoss,
    now,
  );
  for (const { member, to } of verdict.ask) effects.push({ type: 'probe', to, array: record.uuid, member });
  for (const { node, member } of verdict.restored) {
    effects.push({
      type: 'notice',
      name: 'PathRestored',
      severity: 'info',
      subject: record.md,
      detail: { node, member },
    });
  }
  const failed = new Set(faults);
  for (const member of verdict.fail) if (survivesWithout(record, ...failed, member)) failed.add(member);
  return { paths: verdict.memory, keep: verdict.keep, stuck: verdict.fence, faults: [...failed] };
}

/** A node that cannot stop (the array is mounted there) turns the stop back on all nodes, and its request is answered so. */
function revertBusyStop(
  state: MasterState,
  array: MasterArray,
  pending: PendingCommit,
  effects: MasterEffect[],
  replace: (fields: Partial<MasterArray>) => MasterArray,
): void {
  if (pending.kind !== 'stop') return;
  for (const id of pending.waiting) {
    const report = state.nodes.get(id)?.reports.get(pending.record.uuid);
    if (report?.trouble == null || report.known === null) continue;
    if (compareVersions(report.known, pending.record.version) !== 0) continue;
    if (array.stopRequest !== null) {
      const text = `${pending.record.md} cannot be stopped: node ${id}: ${report.trouble}`;
      effects.push({ type: 'answer', requestId: array.stopRequest, ok: false, text });
    }
    const record: ArrayRecord = {
      ...pending.record,
      run: 'started',
      resync: copyAnew(pending.record),
      version: { term: state.term, index: pending.record.version.index + 1 },
    };
    replace({
      stopRequest: null,
      copied: false,
      progress: null,
      pending: {
        ...pending,
        record,
        before: pending.record.version,
        kind: 'start',
        detail: {},
        stage: 'persisting',
        retryAtMs: Number.POSITIVE_INFINITY,
        waiting: [],
      },
    });
    effects.push({ type: 'persist', record, kind: 'start' });
    return;
  }
}

function seesMajority(state: MasterState): boolean {
  if (state.byDisks) return true;
  let seen = 0;
  for (const [id, { status }] of state.nodes) {
    if (id === state.self || status === 'alive' || status === 'suspect') seen += 1;
  }
  return seen > state.nodes.size / 2;
}

/** Fence who is dead, or keeps the others waiting for a lost path, and may touch an array; grant to who is not and has missed nothing. */
function watchNodes(state: MasterState, nodes: Map<NodeId, MasterNode>, now: number, effects: MasterEffect[]): void {
  const touching = new Set<NodeId>();
  for (const array of state.arrays.values()) {
    if (array.record !== null) for (const id of mayTouch(array.record)) touching.add(id);
    for (const record of [array.pending?.record, array.found?.record])
      if (record !== undefined) for (const id of mayTouchYet(record)) touching.add(id);
  }
  for (const [id, node] of nodes) {
    // Counted as stopped until its eviction is committed everywhere; then it may come back as a new boot.
    if (node.fencing === 'stopped' && !touching.has(id)) nodes.set(id, { ...node, fencing: 'no' });
    const stuck = [...state.arrays.values()].some((array) => array.stuck.includes(id));
    if (node.fencing === 'asked' && node.status === 'alive' && !stuck) {
      nodes.set(id, { ...node, fencing: 'no' });
      effects.push({ type: 'cancel-fence', node: id });
      continue;
    }
    if (id === state.self || node.fencing !== 'no' || !touching.has(id)) continue;
    const silent = node.status === 'dead' || node.status === 'left';
    const absent = node.status === 'unknown' && now - state.electedAtMs >= state.graceMs;
    const steady = state.majoritySinceMs !== null && now - state.majoritySinceMs >= RECONNECT_MS;
    if (steady && (silent || absent || stuck)) {
      nodes.set(id, { ...node, fencing: 'asked' });
      effects.push({ type: 'fence', node: id });
    }
  }
  const grantable = [...nodes]
    .filter(([id, node]) => (id === state.self || node.fencing === 'no') && isCaughtUp(state, id, node))
    .map(([id]) => id);
  if (grantable.join() !== state.grantable.join()) {
    state.grantable = grantable;
    effects.push({ type: 'grantable', nodes: grantable });
  }
}
