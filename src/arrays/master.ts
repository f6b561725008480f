/**
 * The master's side of every array: turns observations, reports and requests into commits, one at a time for each array.
 *
 * A commit goes persist → broadcast → applied by every node that may touch the array → released. It waits for a silent node
 * until fencing says that the node surely stopped; nothing else shortens the wait.
 *
 * Like the node's side it is level-triggered: when an array has no commit under way, `nextChange` looks at the record, the
 * reports and what is asked for, and names the most urgent difference.
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
 *   record by which it is a writer, and would write, and read a leg that has failed since, until it hears of a newer one.
 * - A path that is lost on one node only is judged in path_loss.ts, by what all nodes report.
 */
import type { MemberStatus } from '../members/index.ts';
import type { ArrayReport, CommitKind, CopyProgress, Observation } from '../wire/messages.ts';
import { type CheckSchedule, checkDue, type WallTime } from './check_schedule.ts';
import { admittedUnder, type EndedArray, hasEnded } from './ended.ts';
import {
  activeMembers,
  arraySectors,
  canDiffer,
  freeSlots,
  givesUp,
  isRedundant,
  isWritten,
  mayTouch,
  nodeSlotsOf,
  rebuildingMembers,
  survivesWithout,
  touches,
} from './levels.ts';
import { lacksOnlyMarked, withMissed } from './missed.ts';
import { judgePaths, NO_PATHS, type PathLossOptions, type PathMemory } from './path_loss.ts';
import {
  type ArrayRecord,
  type BitmapPlace,
  type Copy,
  type CopyKind,
  compareVersions,
  type MemberRecord,
  type NodeId,
  type Version,
  wholeCopy,
} from './record.ts';
import {
  changeBitmap,
  changeSize,
  changeSlots,
  type Growth,
  replacementIn,
  replacementOver,
  startReplacement,
  withoutReplacement,
} from './shape.ts';

/** A change asked for by an operator, checked and resolved by the agent as far as disks are concerned. */
export type Change =
  | { what: 'introduce'; kind: 'create' | 'adopt'; record: ArrayRecord }
  | { what: 'start' }
  | { what: 'stop' }
  | { what: 'forget' }
  | { what: 'fail'; member: string }
  | { what: 'remove'; member: string }
  /** `why`: in words, why a former member is filled as a whole. */
  | { what: 'add'; member: MemberRecord; why?: string }
  /** As mdadm's --action. */
  | { what: 'action'; action: 'check' | 'repair' | 'idle' | 'frozen' }
  | { what: 'sync-limit'; limitKib: number | null }
  | { what: 'slots'; raidDisks: number; force: boolean }
  | ({ what: 'size' } & Growth)
  | { what: 'bitmap'; bitmap: BitmapPlace | null; nodeSlots?: number }
  /** `by`: a spare; null: any. */
  | { what: 'replace'; member: string; by: string | null }
  /** Nodes that do not see each member of an array which is created without them. */
  | { what: 'blind'; nodes: readonly NodeId[] };

export interface PendingCommit {
  record: ArrayRecord;
  before: Version | null;
  kind: CommitKind;
  detail: { member?: string; node?: number; requestId?: string; why?: string };
  stage: 'persisting' | 'applying';
  /** Persisting again only after this time. */
  retryAtMs: number;
  /** A member that has what is written now will miss what is written next. */
  givesUp: boolean;
  /** Whose `applied` is still missing. */
  waiting: readonly NodeId[];
}

interface AskedChange {
  change: Change;
  requestId: string | null;
}

export interface MasterArray {
  /** Newest durable record; null while it is being introduced. */
  record: ArrayRecord | null;
  pending: PendingCommit | null;
  /** Members that a node's md, or a failed metadata write, calls faulty. */
  faults: readonly string[];
  paths: PathMemory;
  /** A loss that the cluster lives with, to be committed. */
  keep: { node: NodeId; member: string } | null;
  /** Nodes whose lost path keeps others waiting, and will. */
  stuck: readonly NodeId[];
  copied: boolean;
  /** The copier's word on whose marks its resync goes by: its own, or none (it copies everything). */
  marksTaken: { since: number; kept: boolean } | null;
  /** What the check or repair that has ended found. */
  mismatchSectors: number | null;
  /** The copier's newest word. */
  progress: CopyProgress | null;
  checkpointAtMs: number;
  /** Of the copy with this `since`: the last percentage that was told. */
  toldPercent: { since: number; percent: number } | null;
  asked: readonly AskedChange[];
  /** A `stop` waits for everybody to be gone before its request is answered. */
  stopRequest: string | null;
  trouble: string | null;
  /** What a node has to know before it is granted writes: what was found on the disks, or the record that left it out. */
  mustKnow: ReadonlyMap<NodeId, Version>;
  /** Found on disk, not committed under this term yet. */
  found: { record: ArrayRecord; complete: boolean; problem: string | null } | null;
}

export interface MasterNode {
  status: MemberStatus;
  reports: ReadonlyMap<string, ArrayReport>;
  /** From its newest report in this term; null: none has come yet. */
  kernelBoot: string | null;
  /** Its word on former boots, from the same report. */
  ended: readonly EndedArray[];
  fencing: 'no' | 'asked' | 'stopped';
  /** Of one that was counted as stopped in this term: it may read until then, for all that was vouched for. */
  readsUntilMs: number;
  /** Of its agent's starts the newest that was heard of. */
  agentStart: number;
  /** That one has said goodbye. */
  leaving: boolean;
}

/** What a reload may change. */
export interface MasterConfig {
  nodes: readonly NodeId[];
  /** Those of them that may become writers: not one that is about to be taken off the list, nor one that is not on it yet. */
  admits: readonly NodeId[];
  graceMs: number;
  checkpointMs: number;
  autoAssemble: boolean;
  pathLoss: PathLossOptions;
  checks: CheckSchedule;
}

export interface MasterState {
  self: NodeId;
  nodes: ReadonlyMap<NodeId, MasterNode>;
  admits: readonly NodeId[];
  term: number;
  electedAtMs: number;
  leading: boolean;
  scanned: boolean;
  scanAtMs: number;
  /** Released in this term: what nodes told of them before is no news. */
  givenBack: ReadonlySet<string>;
  arrays: ReadonlyMap<string, MasterArray>;
  /**
   * Since when this node sees a majority; null: it does not. Who was cut off itself must not shoot those who are on their way
   * back as it is.
   */
  majoritySinceMs: number | null;
  /** Disks decide: who holds the lease is not cut off from what decides, however few nodes it sees. */
  byDisks: boolean;
  /** A node that was never seen in this term is fenced only after this long: it may be booting. */
  graceMs: number;
  /** False: arrays that no node runs any more stay stopped under a new master until somebody asks for them. */
  autoAssemble: boolean;
  grantable: readonly NodeId[];
  /** A copy's progress is committed at least so often. */
  checkpointMs: number;
  pathLoss: PathLossOptions;
  checks: CheckSchedule;
  /** As it was last told; null: not yet. */
  wall: WallTime | null;
}

export type MasterInput =
  | { type: 'tick' }
  | { type: 'wall'; wall: WallTime }
  | { type: 'config'; config: MasterConfig }
  | { type: 'elected'; term: number }
  | { type: 'lost' }
  | { type: 'disks'; found: { record: ArrayRecord; complete: boolean; problem: string | null }[] }
  | { type: 'status'; node: NodeId; status: MemberStatus }
  | {
      type: 'report';
      from: NodeId;
      kernelBoot: string;
      agentStart: number;
      reports: readonly ArrayReport[];
      ended?: readonly EndedArray[];
    }
  | { type: 'applied'; from: NodeId; array: string; version: Version; report: ArrayReport }
  | { type: 'observation'; from: NodeId; observation: Observation }
  | { type: 'progress'; from: NodeId; array: string; progress: CopyProgress }
  | { type: 'leaving'; node: NodeId; agentStart: number }
  /** `grantUntilMs`: the node may run, and read until its last grant has ended, by every clock. Left out: nothing of it runs. */
  | { type: 'fenced'; node: NodeId; stopped: boolean; grantUntilMs?: number; text: string }
  | { type: 'ask'; array: string; change: Change; requestId: string | null }
  /** `written`: at least one member is durable with the new record. */
  | { type: 'persisted'; array: string; version: Version; written: boolean; failed: readonly string[]; text: string };

export type MasterEffect =
  | { type: 'scan' }
  | { type: 'persist'; record: ArrayRecord; kind: CommitKind }
  | { type: 'commit'; record: ArrayRecord; before: Version | null; kind: CommitKind; detail: PendingCommit['detail'] }
  | { type: 'send-commit'; to: NodeId; array: string }
  | { type: 'probe'; to: readonly NodeId[]; array: string; member: string }
  | { type: 'released'; to: readonly NodeId[]; array: string; version: Version }
  | { type: 'fence'; node: NodeId }
  | { type: 'cancel-fence'; node: NodeId }
  | { type: 'grantable'; nodes: readonly NodeId[] }
  | { type: 'answer'; requestId: string; ok: boolean; text: string }
  | {
      type: 'notice';
      name: string;
      severity: 'info' | 'warning' | 'critical';
      subject: string;
      detail: Record<string, string | number>;
    };

export function masterStart(self: NodeId, { nodes, ...config }: MasterConfig, byDisks = false): MasterState {
  return {
    ...config,
    self,
    nodes: new Map(nodes.map((node) => [node, BLANK])),
    term: 0,
    electedAtMs: 0,
    leading: false,
    scanned: false,
    scanAtMs: 0,
    givenBack: new Set(),
    arrays: new Map(),
    byDisks,
    majoritySinceMs: nodes.length === 1 || byDisks ? Number.NEGATIVE_INFINITY : null,
    grantable: [],
    wall: null,
  };
}

const BLANK: MasterNode = {
  status: 'unknown',
  reports: new Map(),
  kernelBoot: null,
  ended: [],
  fencing: 'no',
  readsUntilMs: 0,
  agentStart: 0,
  leaving: false,
};

/** 1 GiB: a fast copy is not done again for as long as `checkpointMs` would have it. */
const CHECKPOINT_SECTORS = 2 * 1024 * 1024;
/** As mdadm --monitor's RebuildNN. */
const PERCENT_STEP = 20;
const RETRY_MS = 250;
/** Longer than the redial's slowest pace, with a probe after it. */
const RECONNECT_MS = 3000;
const RESCAN_MS = 500;
/** After the end of a grant: the guard holds what is read, once what is written is drained (native-addon/gated_array.h). */
const READS_MARGIN_MS = 500;

const emptyArray: MasterArray = {
  record: null,
  pending: null,
  faults: [],
  paths: NO_PATHS,
  keep: null,
  stuck: [],
  copied: false,
  marksTaken: null,
  mismatchSectors: null,
  progress: null,
  checkpointAtMs: Number.NEGATIVE_INFINITY,
  toldPercent: null,
  asked: [],
  stopRequest: null,
  trouble: null,
  mustKnow: new Map(),
  found: null,
};

interface NextChange {
  kind: CommitKind;
  record: ArrayRecord;
  detail: PendingCommit['detail'];
  fields: Partial<MasterArray>;
}

function without(nodes: readonly NodeId[], gone: readonly NodeId[]): NodeId[] {
  return nodes.filter((node) => !gone.includes(node));
}

function copyOf(record: ArrayRecord, kind: CopyKind, by: NodeId): Copy {
  return wholeCopy(kind, by, record.version.index + 1);
}

/**
 * A crash has left what is written in doubt, everywhere: legs may differ, and a member that is being rebuilt misses it. Legs
 * first: md resyncs nothing while a member is being rebuilt (md_check_recovery, drivers/md/md.c), so that one is a spare again.
 * @param markedBy see the record's `resync`
 */
function withResync(record: ArrayRecord, by: NodeId, markedBy: readonly NodeId[] | null): ArrayRecord {
  if (!canDiffer(record)) {
    if (rebuildingMembers(record).length === 0) return { ...record, resync: null };
    const { resync: before } = record;
    const known = before?.kind === 'recovery' ? before.markedBy : null;
    const marks = known === null || markedBy === null ? null : union(known, markedBy);
    return { ...record, resync: { ...copyOf(record, 'recovery', by), markedBy: marks } };
  }
  const members = record.members.map((member) =>
    member.role === 'rebuilding' ? { ...member, role: 'spare' as const, slot: null } : member,
  );
  const resync = { ...copyOf(record, 'resync', by), markedBy: markedBy === null ? null : [...markedBy] };
  return { ...record, members, resync };
}

/**
 * Whose bitmaps tell all that these nodes, and those before them, may have left different; null: that is not known. A node that
 * copied without being a writer has changed nothing beyond what its resync was told to copy.
 */
function marksAfter(record: ArrayRecord, dirty: readonly NodeId[]): NodeId[] | null {
  const { resync } = record;
  if (record.bitmap === null) return null;
  const before = resync?.kind === 'resync' ? resync.markedBy : [];
  // What a repair writes is marked nowhere.
  if (before === null || (resync?.kind === 'repair' && dirty.includes(resync.by))) return null;
  const crashed = record.writerBoots.filter(({ node }) => dirty.includes(node));
  const writers = dirty.filter((node) => record.writers.includes(node));
  if (crashed.length < writers.length || crashed.some(({ bitmap }) => !bitmap)) return null;
  return union(before, writers);
}

function union(a: readonly NodeId[], b: readonly NodeId[]): NodeId[] {
  return [...new Set([...a, ...b])].sort((x, y) => x - y);
}

/** The record after its copy has ended. */
function withoutCopy(record: ArrayRecord, copy: Copy): ArrayRecord {
  const members =
    copy.kind === 'recovery'
      ? record.members.map(({ was, ...member }) => {
          if (member.role === 'rebuilding') return { ...member, role: 'active' as const };
          return was === undefined ? member : { ...member, was };
        })
      : record.members;
  return { ...record, members, resync: null, events: record.events + 1 };
}

/** A check or repair has ended: the next one is counted from now. */
function checked(state: MasterState, record: ArrayRecord, copy: Copy, mismatchSectors: number | null): ArrayRecord {
  if (copy.kind !== 'check' && copy.kind !== 'repair') return record;
  return { ...record, lastCheck: { atSeconds: state.wall?.seconds ?? record.utimeSeconds, mismatchSectors } };
}

function withWriters(record: ArrayRecord, writers: readonly NodeId[]): ArrayRecord {
  return {
    ...record,
    writers: [...writers],
    writerBoots: record.writerBoots.filter((boot) => writers.includes(boot.node)),
  };
}

/**
 * The nodes of `touching` that may be counted as not touching the array any more, and whether the legs may differ. `over`: those whose
 * boot under which they did is over; nobody waits for these.
 */
function goneFrom(
  state: MasterState,
  record: ArrayRecord,
  touching: readonly NodeId[],
): { clean: NodeId[]; dirty: NodeId[]; over: NodeId[] } {
  const clean: NodeId[] = [];
  const dirty: NodeId[] = [];
  const over: NodeId[] = [];
  for (const id of touching) {
    const node = state.nodes.get(id);
    if (node === undefined || node.fencing === 'stopped') {
      dirty.push(id);
      over.push(id);
      continue;
    }
    if (node.kernelBoot === null) continue;
    if (record.writers.includes(id) && node.kernelBoot !== admittedUnder(record, id)) {
      (hasEnded(node.ended, record, id) ? clean : dirty).push(id);
      over.push(id);
      continue;
    }
    const report = node.reports.get(record.uuid);
    if (report === undefined || report.applied === null) continue;
    const current = compareVersions(report.applied, record.version) === 0;
    if (current && report.state === 'absent' && record.run === 'stopped') clean.push(id);
    else if (report.state === 'held' && (node.leaving || (current && isBlind(record, id)))) clean.push(id);
  }
  return { clean, dirty, over };
}

function isBlind(record: ArrayRecord, id: NodeId): boolean {
  return record.blind?.includes(id) === true;
}

function copierFor(state: MasterState, record: ArrayRecord): NodeId {
  return record.access === 'exclusive' && record.owner !== null ? record.owner : state.self;
}

/** Exclusive arrays follow a living owner; the master takes over from one that is gone. */
function ownerAfter(state: MasterState, record: ArrayRecord, gone: readonly NodeId[]): NodeId | null {
  if (record.access === 'shared') return null;
  return record.owner === null || gone.includes(record.owner) ? state.self : record.owner;
}

/** The owner left without ever having been a writer of this record: nothing of it can be in flight. */
function ownerIsGone(state: MasterState, record: ArrayRecord, now: number): boolean {
  const { owner } = record;
  if (record.access === 'shared' || owner === null || touches(record, owner)) return false;
  const status = state.nodes.get(owner)?.status ?? 'dead';
  if (owner === state.self) return false;
  return status === 'dead' || status === 'left' || (status === 'unknown' && now - state.electedAtMs >= state.graceMs);
}

function failMember(record: ArrayRecord, uuid: string): ArrayRecord {
  const failed: ArrayRecord = {
    ...record,
    // Two, because assembly by stock mdadm tolerates a lag of one: the failed leg must look older than that.
    events: record.events + 2,
    members: record.members.map((member) => {
      if (member.uuid !== uuid) return member;
      // One that was never in sync gives its slot back: mdadm calls that the failure of a spare.
      const slot = member.role === 'rebuilding' ? null : member.slot;
      return { ...member, role: 'faulty' as const, slot };
    }),
  };
  const copy = failed.resync;
  if (copy === null) return failed;
  switch (copy.kind) {
    case 'resync':
      return canDiffer(failed) ? failed : { ...failed, resync: null };
    case 'recovery':
      return rebuildingMembers(failed).length > 0 ? failed : { ...failed, resync: null };
    default:
      // What it would go on to compare with is gone; it is asked for again when the array is whole.
      return { ...failed, resync: null };
  }
}

/** These nodes see everything again. */
function seeing({ blind = [], ...record }: ArrayRecord, nodes: readonly NodeId[]): ArrayRecord {
  const left = without(blind, nodes);
  return left.length === 0 ? record : { ...record, blind: left };
}

/** Nodes that are to cease to write, so that a spare which they do not see can take a slot. */
function blindStart(state: MasterState, record: ArrayRecord): NextChange | null {
  for (const { uuid, role, allowMissing, dataSizeSectors } of record.members) {
    if (role !== 'spare' || allowMissing !== true || dataSizeSectors < record.componentSectors) continue;
    const blind = mayTouch(record).filter((id) => {
      const report = state.nodes.get(id)?.reports.get(record.uuid);
      return report !== undefined && !report.visible.includes(uuid);
    });
    const [node] = blind;
    const asked = blind.every((id) => isBlind(record, id));
    if (node === undefined || asked || blind.includes(copierFor(state, record))) continue;
    const changed = { ...record, blind: [...new Set([...(record.blind ?? []), ...blind])] };
    return { kind: 'blind', record: changed, detail: { member: uuid, node }, fields: {} };
  }
  return null;
}

/** The first node that has to write to this member and does not see it. */
function unseenBy(state: MasterState, record: ArrayRecord, uuid: string): NodeId | null {
  const sees = (id: NodeId) => state.nodes.get(id)?.reports.get(record.uuid)?.visible.includes(uuid) === true;
  return mayTouch(record).find((id) => !sees(id)) ?? null;
}

/** A spare that takes over a free slot, if every node that has to write to it sees it. */
function recoveryStart(state: MasterState, record: ArrayRecord): NextChange | null {
  if (record.run !== 'started' || record.resync !== null || record.writers.length === 0) return null;
  if (!isRedundant(record.level)) return null;
  const [first, ...more] = freeSlots(record);
  if (first === undefined) return null;
  const ready = record.members.filter(({ role, uuid }) => role === 'spare' && unseenBy(state, record, uuid) === null);
  // One of the slots is there for the member that is to replace another, and is taken away when it has.
  const waits = replacementIn(record)?.role === 'spare';
  const other = waits && more.length === 0 ? undefined : ready.find(({ replaces }) => replaces === undefined);
  const spare = ready.find(({ replaces }) => replaces !== undefined) ?? other;
  if (spare === undefined) return blindStart(state, record);
  if (spare.dataSizeSectors < record.componentSectors) return null;
  const { slot, markedBy } = placeOf(record, spare, [first, ...more]);
  const members = record.members.map((member) =>
    member === spare ? { ...member, role: 'rebuilding' as const, slot } : member,
  );
  return {
    kind: 'resync-start',
    record: {
      ...record,
      members,
      resync: { ...copyOf(record, 'recovery', copierFor(state, record)), markedBy },
      events: record.events + 1,
    },
    detail: { member: spare.uuid },
    fields: { copied: false, progress: null },
  };
}

/** A free slot for this spare, and in whose bitmaps all that it lacks there is marked. */
function placeOf(
  record: ArrayRecord,
  spare: MemberRecord,
  [first, ...more]: readonly [number, ...number[]],
): { slot: number; markedBy: NodeId[] | null } {
  for (const slot of [first, ...more]) {
    const markedBy = lacksOnlyMarked(record, spare, slot);
    if (typeof markedBy !== 'string') return { slot, markedBy };
  }
  return { slot: first, markedBy: null };
}

/** One array at a time: arrays may lie on the same disks. */
function scheduledCheck(state: MasterState, array: MasterArray, record: ArrayRecord): NextChange | null {
  if (!checkDue(record, state.checks, state.wall) || array.paths.lostSince.size > 0) return null;
  const busy = [...state.arrays.values()].some((other) => (other.pending?.record ?? other.record)?.resync != null);
  if (busy) return null;
  return {
    kind: 'resync-start',
    record: { ...record, resync: copyOf(record, 'check', copierFor(state, record)) },
    detail: {},
    fields: { copied: false, progress: null, mismatchSectors: null },
  };
}

/**
 * How far a copy is by the copier's word; null: no more than the record says. Never at its end: whoever had to go on from there would
 * find nothing to begin, and so nothing whose end it could tell.
 */
function progressBeyond(array: MasterArray, copy: Copy): number | null {
  const { progress } = array;
  if (progress === null || progress.since !== copy.since || progress.doneSectors <= copy.fromSector) return null;
  return progress.doneSectors < progress.totalSectors ? progress.doneSectors : null;
}

function checkpoint(state: MasterState, array: MasterArray, record: ArrayRecord, now: number): NextChange | null {
  const copy = record.resync;
  if (copy === null || copy.halted) return null;
  const doneSectors = progressBeyond(array, copy);
  if (doneSectors === null) return null;
  const due = now - array.checkpointAtMs >= state.checkpointMs || doneSectors - copy.fromSector >= CHECKPOINT_SECTORS;
  if (!due) return null;
  return {
    kind: 'resync-checkpoint',
    // Of the same events, a superblock that a crash left behind would contradict its header.
    record: { ...record, resync: { ...copy, fromSector: doneSectors }, events: record.events + 1 },
    detail: {},
    fields: { checkpointAtMs: now },
  };
}

function nextChange(
  state: MasterState,
  array: MasterArray,
  now: number,
): NextChange | { refuse: AskedChange; text: string } | null {
  const { record } = array;
  if (record === null) {
    const first = array.asked[0];
    if (first === undefined || first.change.what !== 'introduce') return null;
    return {
      kind: first.change.kind,
      record: { ...first.change.record, version: { term: state.term, index: 0 } },
      detail: first.requestId === null ? {} : { requestId: first.requestId },
      fields: { asked: array.asked.slice(1) },
    };
  }
  // First of all: what has missed a commit must not miss another one, or nobody could go on from it after a power cut.
  const faulty = array.faults.find((uuid) => record.members.some((m) => m.uuid === uuid && m.role !== 'faulty'));
  if (faulty !== undefined && allowed(record, faulty)) {
    return {
      kind: 'fail',
      record: failMember(record, faulty),
      detail: { member: faulty },
      fields: { faults: array.faults.filter((uuid) => uuid !== faulty) },
    };
  }
  const gone = goneFrom(state, record, mayTouch(record));
  if (gone.dirty.length > 0) {
    const all = [...gone.dirty, ...gone.clean];
    const left: ArrayRecord = {
      ...withWriters(record, without(record.writers, all)),
      owner: ownerAfter(state, record, gone.dirty),
      events: record.events + 1,
    };
    const node = gone.dirty[0];
    return {
      kind: 'evict',
      record: withResync(left, copierFor(state, left), marksAfter(record, gone.dirty)),
      detail: node === undefined ? {} : { node },
      fields: { copied: false },
    };
  }
  const { keep } = array;
  if (keep !== null) {
    return {
      kind: 'path-lost',
      // Nothing changes, but that the member takes a write of the master's.
      record: { ...record, events: record.events + 1 },
      detail: keep,
      fields: { keep: null, paths: { ...array.paths, kept: [...array.paths.kept, keep] } },
    };
  }
  if (array.copied && record.resync !== null) {
    const member = rebuildingMembers(record)[0]?.uuid;
    return {
      kind: 'resync-done',
      record: checked(state, withoutCopy(record, record.resync), record.resync, array.mismatchSectors),
      detail: member === undefined ? {} : { member },
      fields: { copied: false, progress: null },
    };
  }
  // A copier that is no writer leaves nothing that a commit could change: one would follow the other for ever.
  const [node] = gone.clean.filter((id) => record.writers.includes(id));
  if (node !== undefined) {
    const writers = without(record.writers, gone.clean);
    return {
      kind: 'leave',
      record: { ...withWriters(record, writers), events: record.events + (writers.length === 0 ? 1 : 0) },
      detail: { node },
      fields: {},
    };
  }
  const replaced = replacementOver(record);
  if (replaced !== null) {
    return { kind: 'replaced', record: replaced.record, detail: { member: replaced.member }, fields: {} };
  }
  const taken = array.marksTaken;
  if (taken !== null && record.resync?.since === taken.since) {
    const markedBy = taken.kept ? [record.resync.by] : null;
    return {
      kind: 'resync-marks',
      record: { ...record, resync: { ...record.resync, markedBy }, events: record.events + 1 },
      detail: {},
      fields: { marksTaken: null },
    };
  }
  const asked = array.asked[0];
  if (asked !== undefined) return changeFor(state, array, record, asked);
  if (ownerIsGone(state, record, now)) {
    return {
      kind: 'move',
      record: { ...record, owner: state.self, events: record.events + 1 },
      detail: { node: state.self },
      fields: {},
    };
  }
  if (record.resync !== null && record.resync.by !== copierFor(state, record)) {
    return {
      kind: 'resync-start',
      record: {
        ...record,
        resync: { ...record.resync, by: copierFor(state, record), since: record.version.index + 1 },
      },
      detail: {},
      fields: { copied: false, progress: null },
    };
  }
  if (record.run === 'started') {
    const admitted = [...state.nodes].filter(([id, node]) => mayAdmit(state, record, id, node)).map(([id]) => id);
    if (admitted.length > 0) {
      const writers = [...record.writers, ...admitted].sort((a, b) => a - b);
      const node = admitted[0];
      const writerBoots = [...record.writerBoots];
      for (const id of admitted) {
        const kernelBoot = state.nodes.get(id)?.kernelBoot;
        const bitmap = state.nodes.get(id)?.reports.get(record.uuid)?.bitmap === true;
        if (kernelBoot != null) writerBoots.push({ node: id, kernelBoot, bitmap });
      }
      return {
        kind: 'admit',
        // The first writer makes the superblocks dirty; later ones change the mesh area only.
        record: {
          ...seeing(record, admitted),
          writers,
          writerBoots,
          events: record.events + (record.writers.length === 0 ? 1 : 0),
        },
        detail: node === undefined ? {} : { node },
        fields: {},
      };
    }
  }
  return (
    bitmapsKept(state, record) ??
    recoveryStart(state, record) ??
    checkpoint(state, array, record, now) ??
    scheduledCheck(state, array, record)
  );
}

/** Writers that have laid the record's bitmaps since they were admitted: what they write is marked from then on. */
function bitmapsKept(state: MasterState, record: ArrayRecord): NextChange | null {
  if (record.bitmap === null) return null;
  const writerBoots = record.writerBoots.map((boot) => {
    const { kernelBoot, reports } = state.nodes.get(boot.node) ?? {};
    const report = reports?.get(record.uuid);
    const current = report?.applied != null && compareVersions(report.applied, record.version) === 0;
    const keeps = current && report.bitmap && kernelBoot === boot.kernelBoot;
    return keeps && !boot.bitmap ? { ...boot, bitmap: true } : boot;
  });
  const node = writerBoots.find((boot, index) => boot !== record.writerBoots[index])?.node;
  return node === undefined
    ? null
    : { kind: 'bitmap-kept', record: { ...record, writerBoots }, detail: { node }, fields: {} };
}

function allowed(record: ArrayRecord, uuid: string, besides: readonly string[] = []): boolean {
  const member = record.members.find((candidate) => candidate.uuid === uuid);
  return member !== undefined && (member.role !== 'active' || survivesWithout(record, uuid, ...besides));
}

function mayAdmit(state: MasterState, record: ArrayRecord, id: NodeId, node: MasterNode): boolean {
  if (record.writers.includes(id) || node.fencing !== 'no' || node.leaving || node.kernelBoot === null) return false;
  if (id !== state.self && node.status !== 'alive') return false;
  if (!state.admits.includes(id)) return false;
  if (record.access === 'exclusive' && record.owner !== id) return false;
  const report = node.reports.get(record.uuid);
  if (report === undefined || report.applied === null || report.trouble !== null) return false;
  if (compareVersions(report.applied, record.version) !== 0 || report.state !== 'held') return false;
  const needs = (member: MemberRecord): boolean => {
    // What made it leave may be about to be written.
    const awaited = isBlind(record, id) && member.role === 'spare' && member.allowMissing === true;
    return isWritten(member) || awaited;
  };
  return record.members.every((member) => !needs(member) || report.visible.includes(member.uuid));
}

function changeFor(
  state: MasterState,
  array: MasterArray,
  record: ArrayRecord,
  asked: AskedChange,
): NextChange | { refuse: AskedChange; text: string } {
  const { change, requestId } = asked;
  const detail = requestId === null ? {} : { requestId };
  const fields = { asked: array.asked.slice(1) };
  const refuse = (text: string): { refuse: AskedChange; text: string } => ({ refuse: asked, text });
  const next = (kind: CommitKind, fresh: ArrayRecord, more: Partial<MasterArray> = {}, told = {}): NextChange => ({
    kind,
    record: fresh,
    detail: { ...detail, ...told },
    fields: { ...fields, ...more },
  });
  switch (change.what) {
    case 'introduce':
      return refuse(`${record.md}: an array with UUID ${record.uuid} is known already`);
    case 'start':
      if (record.run === 'started') return refuse(`${record.md} is started already`);
      return next('start', { ...record, run: 'started', events: record.events + 1 });
    case 'stop':
      if (record.run === 'stopped') return refuse(`${record.md} is stopped already`);
      return next('stop', { ...record, run: 'stopped' }, { stopRequest: requestId });
    case 'forget':
      if (record.run !== 'stopped' || record.writers.length > 0) return refuse(`${record.md} must be stopped first`);
      return next('release', { ...record, events: record.events + 1 });
    case 'fail': {
      const member = record.members.find((candidate) => candidate.uuid === change.member);
      if (member === undefined) return refuse(`${record.md} has no member ${change.member}`);
      if (member.role === 'faulty') return refuse(`${record.md}: member ${change.member} is faulty already`);
      if (!allowed(record, change.member)) {
        return refuse(`${record.md}: member ${change.member} holds the only copy of some data; it cannot be failed`);
      }
      return next('fail', failMember(record, change.member), {}, { member: change.member });
    }
    case 'remove': {
      const member = record.members.find((candidate) => candidate.uuid === change.member);
      if (member === undefined) return refuse(`${record.md} has no member ${change.member}`);
      if (isWritten(member)) return refuse(`${record.md}: member ${change.member} is in use; fail it first`);
      const left = member.replaces === undefined ? record : withoutReplacement(record);
      const members = left.members.filter((candidate) => candidate.uuid !== change.member);
      return next('remove', { ...left, members, events: record.events + 1 }, {}, { member: change.member });
    }
    case 'add': {
      if (record.members.some((candidate) => candidate.uuid === change.member.uuid)) {
        return refuse(`${record.md} has member ${change.member.uuid} already`);
      }
      // Another disk may have come in since this one's number was chosen.
      const taken = record.members.map((candidate) => candidate.devNumber);
      const devNumber = taken.includes(change.member.devNumber) ? Math.max(...taken) + 1 : change.member.devNumber;
      const members = [...record.members, { ...change.member, devNumber }];
      const told = { member: change.member.uuid, ...(change.why === undefined ? {} : { why: change.why }) };
      return next('add', { ...record, members, events: record.events + 1 }, {}, told);
    }
    case 'action':
      return actionFor(state, array, record, change.action, next, refuse);
    case 'sync-limit':
      return next('resync-change', { ...record, syncLimitKib: change.limitKib }, {});
    case 'slots': {
      const changed = changeSlots(record, change.raidDisks, change.force);
      return typeof changed === 'string' ? refuse(changed) : next('grow', changed);
    }
    case 'size': {
      const changed = changeSize(record, change, copierFor(state, record));
      return typeof changed === 'string' ? refuse(changed) : next('grow', changed, { copied: false, progress: null });
    }
    case 'bitmap': {
      const changed = changeBitmap(record, change.bitmap, change.nodeSlots);
      return typeof changed === 'string' ? refuse(changed) : next('bitmap', changed);
    }
    case 'blind':
      return next('blind', { ...record, blind: [...change.nodes] });
    case 'replace': {
      const unseen = (uuid: string) => unseenBy(state, record, uuid);
      const started = startReplacement(record, change.member, change.by, copierFor(state, record), unseen);
      if (typeof started === 'string') return refuse(started);
      return next('replace', started.record, { copied: false, progress: null }, { member: change.member });
    }
  }
}

function actionFor(
  state: MasterState,
  array: MasterArray,
  record: ArrayRecord,
  action: Extract<Change, { what: 'action' }>['action'],
  next: (kind: CommitKind, changed: ArrayRecord, fields: Partial<MasterArray>) => NextChange,
  refuse: (text: string) => { refuse: AskedChange; text: string },
): NextChange | { refuse: AskedChange; text: string } {
  const copy = record.resync;
  const since = record.version.index + 1;
  if (record.run !== 'started') return refuse(`${record.md} is stopped; assemble it first`);
  if (!isRedundant(record.level)) return refuse(`${record.md}: ${record.level} has no copies to compare or to make`);
  if (action === 'check' || action === 'repair') {
    if (copy !== null)
      return refuse(`${record.md}: a ${copy.kind} is under way; wait for it (mdmesh wait ${record.md})`);
    if (activeMembers(record).length < 2)
      return refuse(`${record.md} has one member in sync: nothing to compare it with`);
    const started = { ...record, resync: copyOf(record, action, copierFor(state, record)) };
    return next('resync-start', started, { copied: false, progress: null, mismatchSectors: null });
  }
  if (copy === null) return refuse(`${record.md}: nothing is being copied`);
  const fields = { copied: false, progress: null };
  if (action === 'idle' && (copy.kind === 'check' || copy.kind === 'repair')) {
    return next('resync-done', checked(state, { ...record, resync: null }, copy, null), fields);
  }
  const halted = action === 'frozen';
  if (copy.halted === halted) {
    return refuse(`${record.md}: the ${copy.kind} is ${halted ? 'halted already' : 'under way'}`);
  }
  const fromSector = progressBeyond(array, copy) ?? copy.fromSector;
  const changed = { ...copy, fromSector, halted, since };
  return next('resync-change', { ...record, resync: changed, events: record.events + 1 }, fields);
}

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
      for (const array of arrays.values()) refuseAll(array, effects, 'a new term began; ask again');
      arrays.clear();
      for (const id of nodes.keys())
        changeNode(id, { reports: new Map(), kernelBoot: null, ended: [], fencing: 'no', readsUntilMs: 0 });
      Object.assign(state, {
        term: input.term,
        electedAtMs: now,
        leading: true,
        scanned: false,
        scanAtMs: now,
        givenBack: new Set(),
        grantable: [],
      });
      effects.push({ type: 'scan' });
      break;
    case 'lost':
      if (state.leading) {
        for (const array of arrays.values()) refuseAll(array, effects, 'this node is no longer the master; ask again');
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
    case 'disks':
      state.scanned = true;
      for (const found of input.found) {
        const known = arrays.get(found.record.uuid);
        if (known !== undefined && known.record !== null) continue;
        // Also the writers: one that was counted as stopped, before its eviction was written down, may have missed a commit.
        const mustKnow = new Map([...nodes.keys()].map((id) => [id, found.record.version] as const));
        changeArray(found.record.uuid, { found, mustKnow });
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
          effects.push({ type: 'answer', requestId: input.requestId, ok: false, text: 'this node is not the master' });
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
    case 'persisted': {
      const array = arrays.get(input.array);
      const pending = array?.pending;
      if (array === undefined || pending?.stage !== 'persisting') break;
      if (compareVersions(input.version, pending.record.version) !== 0) break;
      const faults = [...new Set([...array.faults, ...input.failed])];
      if (!input.written) {
        changeArray(input.array, {
          pending: { ...pending, retryAtMs: now + RETRY_MS },
          trouble: `${pending.record.md}: the commit reached no member: ${input.text}`,
        });
        effects.push({
          type: 'notice',
          name: 'CommitNotDurable',
          severity: 'critical',
          subject: pending.record.md,
          detail: { why: input.text },
        });
        break;
      }
      const touching = [
        ...mayTouch(pending.record),
        ...(array.record === null ? [] : mayTouch(array.record)),
        ...(array.found === null ? [] : mayTouch(array.found.record)),
      ];
      // Whatever its part in the array, this node's journal has it before anybody relies on it. What is given back nobody applies.
      const all = pending.kind === 'release' ? touching : [...touching, state.self];
      const waiting = [...new Set(all)].filter((id) => nodes.get(id)?.fencing !== 'stopped');
      changeArray(input.array, {
        record: pending.record,
        found: null,
        faults,
        trouble: null,
        mustKnow: leftOut(array, pending),
        pending: { ...pending, stage: 'applying', waiting },
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
    if (input.type === 'report') resend(state, input.from, effects);
    watchNodes(state, nodes, now, effects);
    const unresolved = [...arrays.values()].some((array) => array.found !== null && array.record === null);
    // Whoever runs an array that was not found on any disk tells of it: the disks were not to be read in that moment.
    const isNews = (uuid: string): boolean => !arrays.has(uuid) && !state.givenBack.has(uuid);
    const overlooked = [...nodes.values()].some(({ reports }) => [...reports.keys()].some(isNews));
    if (state.scanned && (unresolved || overlooked) && now - state.scanAtMs >= RESCAN_MS) {
      state.scanAtMs = now;
      effects.push({ type: 'scan' });
    }
  }
  return { state, effects };
}

/** Whoever a commit leaves out has to know it. */
function leftOut(array: MasterArray, { record }: PendingCommit): MasterArray['mustKnow'] {
  const before = array.record ?? array.found?.record;
  const gone = before === undefined ? [] : without(mayTouch(before), mayTouch(record));
  return new Map([...array.mustKnow, ...gone.map((id) => [id, record.version] as const)]);
}

/** By what this node has said in this term it knows all that it could have missed. */
function isCaughtUp(state: MasterState, id: NodeId, node: MasterNode): boolean {
  if (!state.scanned) return false;
  return [...state.arrays].every(([uuid, { mustKnow }]) => {
    const wanted = mustKnow.get(id);
    if (wanted === undefined) return true;
    if (node.kernelBoot === null) return false;
    const known = node.reports.get(uuid)?.known ?? null;
    return known === null || compareVersions(known, wanted) >= 0;
  });
}

function refuseAll(array: MasterArray, effects: MasterEffect[], text: string): void {
  const requestIds = [
    ...array.asked.map((asked) => asked.requestId),
    array.pending?.detail.requestId,
    array.stopRequest,
  ];
  for (const requestId of requestIds) {
    if (requestId != null) effects.push({ type: 'answer', requestId, ok: false, text });
  }
}

/** Who does not know the newest commit is sent it again. */
function resend(state: MasterState, to: NodeId, effects: MasterEffect[]): void {
  const node = state.nodes.get(to);
  for (const [uuid, array] of state.arrays) {
    if (array.record === null || array.pending?.stage === 'persisting') continue;
    const report = node?.reports.get(uuid);
    const known = report?.known ?? null;
    const applied = report?.applied ?? null;
    // A restarted agent knows the version from its journal, not the record: until it has applied one, it is sent it.
    if (known === null || applied === null || compareVersions(known, array.record.version) < 0) {
      effects.push({ type: 'send-commit', to, array: uuid });
    } else {
      const current = compareVersions(applied, array.record.version) === 0;
      if (current && array.pending === null) {
        effects.push({ type: 'released', to: [to], array: uuid, version: array.record.version });
      }
    }
  }
}

/** A writer may still run it; or a node says that it does. */
function runsSomewhere(state: MasterState, record: ArrayRecord): boolean {
  if (record.writers.length > 0) return true;
  return [...state.nodes.values()].some((node) => (node.reports.get(record.uuid)?.state ?? 'absent') !== 'absent');
}

/**
 * What stands on the disks and has not been committed under this term yet, each with what is in the way (null: nothing but
 * time). null: the disks have not been read yet. Whoever asks for a change must not be told that these arrays do not exist.
 */
export function notTakenOver({ scanned, arrays }: MasterState): { record: ArrayRecord; why: string | null }[] | null {
  if (!scanned) return null;
  return [...arrays.values()].flatMap(({ record, found, trouble }) =>
    record === null && found !== null ? [{ record: found.record, why: trouble }] : [],
  );
}

/** A record found on disk may be continued when nothing newer can have been released. */
function provenNewest(state: MasterState, found: NonNullable<MasterArray['found']>): string | null {
  const { record } = found;
  if (found.problem !== null) return found.problem;
  for (const [id, node] of state.nodes) {
    const known = node.reports.get(record.uuid)?.known ?? null;
    if (known !== null && compareVersions(known, record.version) > 0) {
      return `${record.md}: node ${id} knows commit ${known.term}.${known.index}, the disks seen here only ${record.version.term}.${record.version.index}; members are missing on this node`;
    }
  }
  if (found.complete) return null;
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
    const pending: PendingCommit = {
      record,
      before,
      kind,
      detail,
      stage: 'persisting',
      retryAtMs: Number.POSITIVE_INFINITY,
      givesUp: array?.record != null && givesUp(array.record, record),
      waiting: [],
    };
    array = replace({ pending });
    effects.push({ type: 'persist', record, kind });
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
    const { record } = array.found;
    const run = state.autoAssemble || runsSomewhere(state, record) ? record.run : 'stopped';
    const since = record.version.index + 1;
    const resync = record.resync === null ? null : { ...record.resync, by: copierFor(state, record), since };
    propose(
      'new-term',
      { ...record, run, resync, version: { term: state.term, index: record.version.index + 1 } },
      record.version,
      {},
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
    if (requestId !== undefined && pending.kind !== 'stop') {
      effects.push({ type: 'answer', requestId, ok: true, text: outcomeText(pending) });
    }
    if (pending.kind === 'release') {
      arrays.delete(uuid);
      state.givenBack = new Set(state.givenBack).add(uuid);
      return;
    }
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
    const index = record === null ? 0 : record.version.index + 1;
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
      version: { term: state.term, index: pending.record.version.index + 1 },
    };
    replace({
      stopRequest: null,
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

function outcomeText(pending: PendingCommit): string {
  const { record, kind, detail } = pending;
  const words: Partial<Record<CommitKind, string>> = {
    create: `${record.md} created (UUID ${record.uuid})`,
    adopt: `${record.md} is a cluster array now`,
    release: `${record.md} is a plain md array again`,
    start: `${record.md} started`,
    fail: `member ${detail.member ?? ''} set faulty in ${record.md}`,
    remove: `member ${detail.member ?? ''} removed from ${record.md}`,
    add: `member ${detail.member ?? ''} added to ${record.md} as a spare${fillText(record, detail)}`,
    grow: `${record.md} has ${record.raidDisks} raid devices and ${arraySectors(record)} sectors`,
    bitmap: `${record.md}: room for ${nodeSlotsOf(record)} nodes, ${record.bitmap === null ? 'no bitmaps' : `a bitmap for each, ${record.bitmap.chunkSectors / 2} KiB a bit`}`,
    replace: `${record.md}: member ${detail.member ?? ''} is being replaced`,
    'resync-start': `${record.md}: ${record.resync?.kind ?? 'copy'} started`,
    'resync-done': `${record.md}: ended`,
    'resync-change': copyText(record),
  };
  return words[kind] ?? `${record.md}: done`;
}

/** Of a former member: how it will be filled. */
function fillText(record: ArrayRecord, { member, why }: PendingCommit['detail']): string {
  if (why !== undefined) return `; it is filled as a whole: ${why}`;
  const added = record.members.find(({ uuid }) => uuid === member);
  const marked = added !== undefined && typeof lacksOnlyMarked(record, added, null) !== 'string';
  return marked ? '; it gets what was written since it left' : '';
}

function copyText({ md, resync, syncLimitKib }: ArrayRecord): string {
  const limit = syncLimitKib === null ? 'as configured' : `${syncLimitKib} KiB/s`;
  const copy = resync === null ? 'nothing is being copied' : `${resync.kind} ${resync.halted ? 'halted' : 'goes on'}`;
  return `${md}: ${copy}; limit ${limit}`;
}

/** Each step of 20 % is told once. */
function tellPercent(array: MasterArray, progress: CopyProgress, effects: MasterEffect[]): MasterArray['toldPercent'] {
  const { since, kind, by, doneSectors, totalSectors } = progress;
  const reached = Math.floor((100 * doneSectors) / Math.max(1, totalSectors) / PERCENT_STEP) * PERCENT_STEP;
  const first = array.toldPercent?.since !== since;
  // A copy that goes on does not tell again what it was at before.
  const begun = (100 * (array.record?.resync?.fromSector ?? 0)) / Math.max(1, totalSectors);
  const before = first ? Math.floor(begun / PERCENT_STEP) * PERCENT_STEP : (array.toldPercent?.percent ?? 0);
  if (reached <= before || reached >= 100) return { since, percent: before };
  const detail = { kind, percent: reached, by };
  effects.push({
    type: 'notice',
    name: `Rebuild${reached}`,
    severity: 'info',
    subject: array.record?.md ?? '',
    detail,
  });
  return { since, percent: reached };
}

/** What mdadm --monitor would say of a commit, or might. */
function tellCommit(state: MasterState, array: MasterArray, pending: PendingCommit, effects: MasterEffect[]): void {
  const { record, kind, detail } = pending;
  const tell = (name: string, severity: 'info' | 'warning', more: Record<string, string | number>): void => {
    effects.push({ type: 'notice', name, severity, subject: record.md, detail: more });
  };
  if (kind === 'path-lost' && detail.node !== undefined && detail.member !== undefined) {
    tell('PathLost', 'warning', { node: detail.node, member: detail.member });
  }
  const copy = record.resync;
  const begins = ['resync-start', 'create', 'evict', 'adopt', 'grow', 'replace'].includes(kind);
  if (begins && copy !== null) tell('RebuildStarted', 'info', { kind: copy.kind, by: copy.by });
  if (kind === 'resync-change' && copy !== null) {
    tell(copy.halted ? 'CopyHalted' : 'CopyContinued', 'info', { kind: copy.kind, by: copy.by });
  }
  if ((kind === 'admit' || kind === 'bitmap-kept') && record.bitmap !== null) {
    for (const { node, bitmap } of record.writerBoots) if (!bitmap) tell('BitmapUnavailable', 'warning', { node });
  }
  if (kind !== 'resync-done') return;
  if (detail.member !== undefined) tell('SpareActive', 'info', { member: detail.member });
  const found = array.mismatchSectors;
  if (found !== null && found > 0) tell('MismatchesFound', 'warning', { mismatchSectors: found });
  tell('RebuildFinished', 'info', { by: state.self, ...(found === null ? {} : { mismatchSectors: found }) });
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
    const records = [array.record, array.pending?.record ?? null, array.found?.record ?? null];
    for (const record of records) if (record !== null) for (const id of mayTouch(record)) touching.add(id);
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
