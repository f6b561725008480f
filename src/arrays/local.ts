/**
 * The node's side of every array: brings this node's md to the newest record and answers its gates.
 *
 * It is level-triggered: each input is folded in, then `plan` looks at record and observation together and names the first
 * thing that differs. Nothing depends on having seen every step, so a node that restarted, or missed ten commits, gets to
 * the same place.
 *
 * Rules kept here (each has a test that goes red without it):
 * - A gate is answered only when every locally faulty member is faulty in a *released* record: all writers have stopped
 *   reading it by then. Before that, an answered gate would acknowledge writes that another node cannot see. Under a whole
 *   hold nothing is in flight and an answer acknowledges nothing: there the record need not be released.
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
 *   had nothing in flight, or was stopped since. So a failure is told only after the keys were looked at once more.
 * - A spare that is not reserved yet takes no slot: nodes that were shut out of the other members, and were not booted since, would
 *   write to it beside the copy. It is one that was removed and is back, and their md may know it still.
 * - The path to the last copy is never let go: a write that another leg took, which has failed since, would be told as done.
 *   It is tried again instead, every second, by a writer with a live grant.
 */
import type { ArrayObservation, CopyOrder, MemberObservation, SectorRange } from '../md/driver.ts';
import type { MemberStatus } from '../members/index.ts';
import type { ArrayReport, CopyProgress, LocalState, Observation } from '../wire/messages.ts';
import { admittedUnder, type EndedArray } from './ended.ts';
import {
  activeMembers,
  canDiffer,
  givesUp,
  isRedundant,
  isWritten,
  rebuildingMembers,
  survivesWithout,
  touches,
} from './levels.ts';
import { fillsByMarks, isWhole } from './missed.ts';
import type { PathLossPolicy } from './path_loss.ts';
import {
  type ArrayRecord,
  bitmapSector,
  type Copy,
  compareVersions,
  type MemberRecord,
  type NodeId,
  type Version,
} from './record.ts';
import { shapingDue } from './shape.ts';
import {
  type CopyOptions,
  marksInCopy,
  rangeOnArray,
  type Windows,
  windowsAgain,
  windowsHeld,
  windowsStart,
  windowsStep,
} from './windows.ts';

export type LocalOp =
  | { op: 'assemble'; record: ArrayRecord }
  | { op: 'stop' }
  | { op: 'hold' }
  | { op: 'hold-reads' }
  | { op: 'let-read' }
  | { op: 'open' }
  | { op: 'hold-range'; range: SectorRange }
  | { op: 'set-faulty'; member: string }
  | { op: 'release-path'; member: string }
  | { op: 'restore-path'; member: string }
  | { op: 'remove'; member: string }
  | { op: 'add-spare'; member: string; record: ArrayRecord }
  | { op: 'resync-start'; sector: number | null }
  | { op: 'attach-rebuilding'; member: string; record: ArrayRecord; fromSector: number; since: number }
  | { op: 'activate'; member: string; record: ArrayRecord }
  | { op: 'detach-rebuilding'; member: string }
  /** `nodes`: whose marks say what may differ; null: anything may, from `fromSector` on. */
  | { op: 'mark'; record: ArrayRecord; nodes: readonly NodeId[] | null; fromSector: number; since: number }
  | { op: 'start-copy'; copy: CopyOrder; since: number }
  /** With none of the marks that it has; `none`: to let the array grow. */
  | { op: 'set-bitmap'; record: ArrayRecord; none: boolean }
  | { op: 'set-slots'; record: ArrayRecord }
  | { op: 'set-size'; record: ArrayRecord }
  | { op: 'freeze' };

export interface LocalArray {
  /** Newest record known here. */
  record: ArrayRecord;
  applied: Version | null;
  /** Newest record known here that gives up a member, or may, for all that is known, and is not in this node's journal yet. */
  unstored: Version | null;
  /** Newest record of which the master said that every writer has applied it. */
  released: ArrayRecord | null;
  /** undefined: not looked at yet. */
  observation: ArrayObservation | null | undefined;
  /** The operation under way; one at a time. */
  busy: LocalOp | null;
  /** Of paths, lost or held; beside `busy`. */
  pathBusy: LocalOp | null;
  /** No lost path is tried again before. */
  restoreAtMs: number;
  /** Members whose path was lost a moment ago, and is not known to be back for good: when that was last seen. */
  lostAtMs: ReadonlyMap<string, number>;
  /** Members read because the master asked: when. */
  fineAtMs: ReadonlyMap<string, number>;
  gateBusy: boolean;
  retryAtMs: number;
  trouble: string | null;
  /** When nothing was in flight under a whole hold, nor failed, as far as is known; or md had nothing of it. */
  cleanAtMs: number;
  /** Since when members are seen failed that the record takes for good, other than by their path; null: none is. */
  partedAtMs: number | null;
  /** A member here was seen failed when this node was shut out: its own writes were refused. Until the array is stopped. */
  refused: boolean;
  /** Why md here cannot take the slots or the size of the record of this version: not tried again before something has changed. */
  unfit: { version: Version; text: string; isSmall: boolean } | null;
  /** The record's size, of this version, has room here, and waits for reads to pass. */
  roomFor: Version | null;
  /** Members that another node told of as failed under this record, until when its commit is waited for. */
  expected: ReadonlyMap<string, number>;
  /** `since` of the copy that this node's md was started on; null: none. */
  copying: number | null;
  /** What this node's md was told to resync, for which copy; null: md has no bitmap, or was not told yet. */
  marked: { since: number; ranges: readonly SectorRange[] } | null;
  /** md's bitmap here may have marks of writes that missed a member. */
  marksLeft: boolean;
  /** The bitmap that md here was last told to keep, for a kernel that keeps none. undefined: it was not. */
  bitmapSet: ArrayRecord['bitmap'] | undefined;
  /** Of this node's own copy. */
  windows: Windows | null;
  /** How far md was told to copy. */
  extendedTo: number;
  /** Where another node that copies wants writes held; null: it has not said so in this agent's life. */
  window: (SectorRange & { since: number; sequence: number }) | null;
  /** The newest request of the copier that was answered. */
  heldSequence: number;
  heldToldAtMs: number;
  /** Rebuilding members that this agent has attached: for which copy, and in sync up to where. */
  attached: ReadonlyMap<string, { since: number; fromSector: number }>;
  /** How the copy under way stands, by its copier's word. */
  progress: CopyProgress | null;
  progressAtMs: number;
  /** Found by the newest check or repair of which something was heard. */
  mismatchSectors: number | null;
  /** The next tick that this array has asked for. */
  wakeAtMs: number;
  /** Observations told to the master: key → when. Told again after a second, or to a new master. */
  told: ReadonlyMap<string, number>;
  reportedAtMs: number;
  /** What it said, in short; a change is told at once. */
  reported: string | null;
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
  /** Nodes that are dead or have left, by this node's own view. */
  gone: ReadonlySet<NodeId>;
  /** No write is let through any more: the agent is ending. */
  leaving: boolean;
  copyOptions: CopyOptions;
  pathLoss: PathLossPolicy;
  /** null: members are not reserved. */
  keys: KeysHere | null;
  /** When the newest grant came that no other one was alive before, or this node was last found shut out. */
  lapsedAtMs: number;
  /** Arrays of the agent in whose place this one runs, until their records are known here. */
  inherited: ReadonlyMap<string, InheritedArray>;
}

/** This node's reservation keys, as they were last seen. */
export interface KeysHere {
  /** Members that this node may write to: its key is on them, or they have no reservations. */
  usable: ReadonlySet<string>;
  /** Of these the ones that take anybody's writes still: they are not reserved yet. */
  unreserved: ReadonlySet<string>;
  /** Another node has taken this one's key off a member. */
  shutOut: boolean;
  /** When they were last asked for and some disk answered. */
  atMs: number;
}

export type LocalInput =
  | { type: 'tick' }
  /** A commit whose signature and certificate have been checked. */
  | { type: 'commit'; record: ArrayRecord; forgotten: boolean }
  | { type: 'released'; array: string; version: Version }
  /** The journal has this commit on disk, and those before it. */
  | { type: 'stored'; array: string; version: Version }
  /** Another node tells, signed, that its md has failed this member. */
  | { type: 'failure-told'; array: string; member: string }
  | { type: 'observed'; array: string; observation: ArrayObservation | null }
  | { type: 'grant'; untilMs: number }
  | { type: 'master'; term: number; node: NodeId | null }
  | { type: 'config'; config: LocalConfig }
  | { type: 'paths'; paths: ReadonlyMap<string, string> }
  | { type: 'status'; node: NodeId; status: MemberStatus }
  /** `marks`: what a `mark` has marked. */
  | {
      type: 'done';
      array: string;
      op: LocalOp;
      error: { code: string; text: string } | null;
      marks?: readonly SectorRange[];
    }
  | { type: 'gates-done'; array: string; error: { code: string; text: string } | null }
  /** The copier's request to hold a range of the array. */
  | { type: 'window'; from: NodeId; array: string; since: number; sequence: number; range: SectorRange }
  /** Another node's answer to this node's request. */
  | { type: 'window-held'; from: NodeId; array: string; since: number; sequence: number; writes: number | null }
  | { type: 'progress'; from: NodeId; array: string; progress: CopyProgress }
  | { type: 'extend-failed'; array: string }
  /** A read from the member that the master asked for has ended. */
  | { type: 'probed'; array: string; member: string; fine: boolean }
  | { type: 'keys'; keys: KeysHere | null }
  | { type: 'leave' };

export type LocalEffect =
  | { type: 'perform'; array: string; md: string; op: LocalOp }
  /** `settled`: members whose failure is released; no other failure may be answered with them. */
  | { type: 'answer-gates'; array: string; md: string; settled: readonly string[] }
  | { type: 'applied'; array: string; version: Version; report: ArrayReport }
  | { type: 'report' }
  /** Others rely on this commit as soon as this node has applied it: see that the journal has it on disk, and say so. */
  | { type: 'store'; array: string; md: string; version: Version }
  | { type: 'submit'; observation: Observation }
  | { type: 'send-window'; to: readonly NodeId[]; array: string; since: number; sequence: number; range: SectorRange }
  | { type: 'window-held'; to: NodeId; array: string; md: string; since: number; sequence: number }
  | { type: 'extend'; array: string; md: string; toSector: number | null }
  | { type: 'progress'; array: string; progress: CopyProgress }
  /** A tick is wanted after so long. */
  | { type: 'wake'; afterMs: number }
  /** A member of a record has no path here: look at the disks again. */
  | { type: 'rescan' }
  /** Look whether this node's keys are still on the members. */
  | { type: 'check-keys' }
  /** Writes of this node were refused, and end neither way: others must not wait for it. */
  | { type: 'refused-writes'; array: string; md: string }
  | { type: 'trouble'; array: string; md: string; text: string | null };

/** What a reload may change. */
export type LocalConfig = Pick<NodeArrays, 'copyOptions' | 'pathLoss'>;

export function localStart(
  self: NodeId,
  kernelBoot: string,
  copyOptions: CopyOptions,
  pathLoss: PathLossPolicy = 'fail-member',
  reserved = false,
): NodeArrays {
  return {
    self,
    kernelBoot,
    grantUntilMs: 0,
    term: 0,
    master: null,
    paths: new Map(),
    arrays: new Map(),
    gone: new Set(),
    leaving: false,
    copyOptions,
    pathLoss,
    keys: reserved
      ? { usable: new Set(), unreserved: new Set(), shutOut: false, atMs: Number.NEGATIVE_INFINITY }
      : null,
    lapsedAtMs: 0,
    inherited: new Map(),
  };
}

export interface InheritedArray {
  /** md has gone by this record: what still comes of older ones would take it back. */
  version: Version;
  /** As of `LocalArray`: a bitmap that is laid anew holds the writes. */
  marksLeft: boolean;
}

/** What an agent that makes way leaves to its successor: until when writes pass, and what the kernel does not show. Records come from the master. */
export interface Inheritance {
  grantUntilMs: number;
  keys: KeysHere | null;
  arrays: ReadonlyMap<string, InheritedArray>;
}

export function localEstate({ keys, arrays }: NodeArrays, grantUntilMs: number): Inheritance {
  const known = [...arrays].map(([uuid, { record, marksLeft }]) => {
    return [uuid, { version: record.version, marksLeft }] as const;
  });
  return { grantUntilMs, keys, arrays: new Map(known) };
}

/** Of former boots, those words that a record may still turn on. An array that nobody has told of was not opened in this life of the agent. */
export function endedBefore({ self, kernelBoot, arrays }: NodeArrays, words: readonly EndedArray[]): EndedArray[] {
  return words.filter((word) => {
    const record = arrays.get(word.array)?.record;
    if (record === undefined) return true;
    return word.kernelBoot !== kernelBoot && word.kernelBoot === admittedUnder(record, self);
  });
}

/**
 * What an agent that ends in order leaves to the next one, be it in another boot: on which arrays nothing of this node is in flight, and
 * nothing passes any more. @param words what it found itself
 */
export function endedNow(state: NodeArrays, words: readonly EndedArray[]): EndedArray[] {
  const { self, kernelBoot, leaving } = state;
  const now = [...state.arrays.values()].flatMap((array) => {
    const { record } = array;
    const isOwn = (admittedUnder(record, self) ?? kernelBoot) === kernelBoot;
    if (!leaving || !isOwn || array.refused || !isClean(array)) return [];
    return [{ array: record.uuid, kernelBoot, version: record.version }];
  });
  return [...endedBefore(state, words), ...now];
}

/**
 * Takes up where the agent before left off: while its grant lives what is open stays open, though no record is known here yet. What
 * is held stays held too, as nothing counts as released.
 */
export function localInherit(state: NodeArrays, { grantUntilMs, keys, arrays }: Inheritance): NodeArrays {
  return {
    ...state,
    grantUntilMs,
    keys: state.keys === null ? null : (keys ?? state.keys),
    inherited: arrays,
  };
}

const RETRY_MS = 200;
/** Whoever uses an array whose writes were refused will not end soon. */
const RETRY_REFUSED_MS = 5000;
const REPEAT_MS = 1000;
const PROGRESS_MS = 1000;
/** Longer than a lost path rests between two tries: one that works only until its next I/O is not back. */
const STEADY_MS = 1500;
/** A few times as often as the master asks. */
const FINE_MS = 4000;
const NOTHING: SectorRange = { loSector: 0, hiSector: 0 };
/** Many times what a commit takes. */
const EXPECT_MS = 300;
/** What a driver answers when the moment was wrong. */
const PASSING = ['EGRANT', 'EAGAIN', 'EBUSY', 'ETIMEDOUT'];
/** Reports of an array in which nothing is under way: each wakes two nodes. */
const REPORT_AT_REST_MS = 4000;

export function gateClosed(observation: ArrayObservation): boolean {
  return observation.writePending || observation.members.some((member) => member.blocked);
}

/** What the master goes by at once. */
function toldOf(keys: KeysHere | null): string {
  return keys === null ? '' : `${keys.shutOut} ${[...keys.unreserved].sort().join()}`;
}

/** This node may not write to all members that it would write to. */
function lacksKeys({ keys, lapsedAtMs }: NodeArrays, record: ArrayRecord): boolean {
  if (keys === null) return false;
  // Without a grant it may have been shut out, and a node that stood still has not looked since.
  if (keys.shutOut || keys.atMs < lapsedAtMs) return true;
  return record.members.some((member) => isWritten(member) && !keys.usable.has(member.uuid));
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

/** md here has failed, or been refused, writes to a member that the record takes for good. */
function failedHere(observation: ArrayObservation, record: ArrayRecord): boolean {
  const failed = observation.members.filter(({ faulty, blocked }) => faulty || blocked);
  if (failed.length === 0) return false;
  const good = goodIn(record);
  return failed.some(({ uuid }) => uuid !== null && good.has(uuid));
}

/**
 * This node's key may be put on a disk where it is missing: it has a live grant, so that nobody is shutting it out, and nothing of
 * what it began before it last had none is on its way.
 */
export function mayRegister(state: NodeArrays, now: number): boolean {
  if (now >= state.grantUntilMs || state.leaving) return false;
  return [...state.arrays.values()].every(
    (array) => array.observation !== undefined && array.cleanAtMs >= state.lapsedAtMs,
  );
}

function isClean({ observation, busy, record }: LocalArray): boolean {
  if (observation == null) return observation === null && busy?.op !== 'assemble';
  const changes = busy !== null && ['open', 'hold-range'].includes(busy.op);
  return observation.held && !changes && nothingWaits(observation) && !failedHere(observation, record);
}

/** Of an array that no record has told of: nothing that was begun on it is on its way, and nothing of it has failed. */
export function liesStill(observation: ArrayObservation): boolean {
  const hasFailed = observation.members.some(({ faulty, blocked }) => faulty || blocked);
  return observation.held && nothingWaits(observation) && !hasFailed;
}

/** No write in flight waits for an answer or for a path. */
function nothingWaits(observation: ArrayObservation): boolean {
  return !gateClosed(observation) && !pathLost(observation);
}

/** A drain would end: it waits for reads as well. */
function mayDrain(observation: ArrayObservation): boolean {
  return nothingWaits(observation) && !readsHeld(observation);
}

function readsHeld({ members }: ArrayObservation): boolean {
  return members.some(({ path }) => path === 'held');
}

/** Something of this array can be read here, and could be held. */
function readsPass({ members }: ArrayObservation): boolean {
  return members.some(({ path, slot, faulty }) => path === 'up' && slot !== null && !faulty);
}

/** I/O of this node waits for the path to a member. */
function pathLost(observation: ArrayObservation): boolean {
  return observation.members.some(({ path }) => path === 'lost');
}

/** A path that is up by now, but may be lost again at the next I/O. */
function shaky({ observation, lostAtMs }: LocalArray): boolean {
  return observation != null && !pathLost(observation) && lostAtMs.size > 0;
}

/** Kept up to date as long as this node's writes wait for its paths. */
function lostLately(
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
function lostHere({ observation, lostAtMs }: LocalArray): string[] {
  const lost = (observation?.members ?? []).flatMap(({ uuid, path }) =>
    uuid !== null && path === 'lost' ? [uuid] : [],
  );
  return [...new Set([...lost, ...lostAtMs.keys()])].sort();
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

/**
 * Members that md here does not write to and the record takes for good: faulty, behind a lost path, or taken out behind our
 * back (the kernel lets go of a blocked member when it is hot-removed, so a gate that opens by itself must not pass for an
 * answered one).
 */
function diverged(observation: ArrayObservation, record: ArrayRecord, self: NodeId): string[] {
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

function isInSlot({ members }: ArrayObservation, uuid: string): boolean {
  return inSlot(members.find((member) => member.uuid === uuid));
}

function inSlot(seen: MemberObservation | undefined): boolean {
  return seen !== undefined && seen.slot !== null;
}

/** The record's writer of this number was another boot of this node: its last writes may stand on one leg only. */
function crashedSince(state: NodeArrays, record: ArrayRecord): boolean {
  if (!record.writers.includes(state.self)) return false;
  return admittedUnder(record, state.self) !== state.kernelBoot;
}

/**
 * What this node's bitmap says of its earlier boot has not been taken over yet, and md would drop it with the first assembly.
 * The node that is to resync by it keeps it.
 */
function marksAreNeeded({ self }: NodeArrays, { resync }: ArrayRecord): boolean {
  // Those that a recovery goes by are kept: the array is not whole (see the driver's `assemble`).
  return resync?.kind === 'resync' && resync.markedBy?.includes(self) === true && resync.by !== self;
}

/** This node's copy goes by its bitmap: md copies what is marked there. A resync then begins at sector 0. */
function byBitmap(observation: ArrayObservation, copy: Copy): boolean {
  return observation.bitmap !== null && (copy.kind === 'resync' || fillsByMarks(copy));
}

/** md here keeps the bitmap that the record says, or none where it says so. */
function keepsBitmap({ bitmap: place }: ArrayRecord, { bitmap }: ArrayObservation, self: NodeId): boolean {
  if (place === null || bitmap === null) return place === bitmap;
  return bitmap.sector === bitmapSector(place, self) && bitmap.chunkSectors === place.chunkSectors;
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

/**
 * A writer has crashed, or may have: its last writes may stand on one leg only. Until the resync of that is committed, which may
 * take as long as a person needs to confirm it, reads keep to the first leg: two readings must not tell two stories.
 */
function unsure(state: NodeArrays, record: ArrayRecord): boolean {
  if (!canDiffer(record)) return false;
  // md would begin what is marked before any other copy of its own.
  if (record.resync?.by === state.self) return crashedSince(state, record);
  return crashedSince(state, record) || record.writers.some((node) => node !== state.self && state.gone.has(node));
}

function mustHold(state: NodeArrays, array: LocalArray, now: number): boolean {
  const { record } = array;
  if (crashedSince(state, record) || record.blind?.includes(state.self) === true) return true;
  if (lacksKeys(state, record) || owesDrain(state, array)) return true;
  return state.leaving || now >= state.grantUntilMs || !record.writers.includes(state.self);
}

/**
 * Nobody who gives up a member would wait for this node's word. So it must not read either: what it reads may miss what was
 * acknowledged since.
 */
function mustHoldReads(state: NodeArrays, { record }: LocalArray, now: number): boolean {
  if (!isRedundant(record.level)) return false;
  if (state.leaving || now >= state.grantUntilMs || state.keys?.shutOut === true) return true;
  if (record.blind?.includes(state.self) === true || crashedSince(state, record)) return true;
  return !touches(record, state.self);
}

function copiedElsewhere(state: NodeArrays, { resync }: ArrayRecord): boolean {
  return resync !== null && resync.by !== state.self && !resync.halted;
}

/** No write of this node is in this range of the array, nor comes there. */
function holdsRange(observation: ArrayObservation | null, { loSector, hiSector }: SectorRange): boolean {
  if (observation === null || observation.held || loSector >= hiSector) return true;
  const { suspended } = observation;
  return suspended !== null && suspended.loSector <= loSector && suspended.hiSector >= hiSector;
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

/** This node's writes may be let through where they were not before. */
function mayOpen(state: NodeArrays, { record, released, observation }: LocalArray): boolean {
  if (released === null) return false;
  if (compareVersions(released.version, record.version) >= 0) return true;
  // A window moves on although a checkpoint is under way: the array is open already, and the legs are the same.
  const sameCopy = released.resync !== null && released.resync.since === record.resync?.since;
  const sameLegs = JSON.stringify(released.members) === JSON.stringify(record.members);
  return sameCopy && sameLegs && observation?.held === false && released.writers.includes(state.self);
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

/**
 * md reads a rebuilding member as far as it knows it to be filled (raid1_read_balance). Of a copy that begins anew, as after a crash, it
 * may know too much: what the crash has left in doubt would be read from both, and be two stories.
 */
function isAhead(array: LocalArray, copy: Copy, { uuid }: MemberRecord): boolean {
  const attached = array.attached.get(uuid);
  if (attached === undefined || attached.since === copy.since) return false;
  return array.copying === attached.since || attached.fromSector > copy.fromSector;
}

function isMarked({ marked }: LocalArray, copy: Copy): boolean {
  return marked?.since === copy.since;
}

/** The copy that md was started on has come to its end. */
function ended(array: LocalArray, observation: ArrayObservation): boolean {
  const { record, windows } = array;
  switch (record.resync?.kind) {
    case 'resync':
      return observation.resyncStartSector === null;
    case 'recovery':
      return rebuildingMembers(record).every(({ uuid }) =>
        observation.members.some((seen) => seen.uuid === uuid && seen.inSync),
      );
    default:
      return windows !== null && windows.allowedSector >= windows.totalSectors;
  }
}

/** A member that md here uses has failed on another node, and the commit that says so is on its way. */
function awaitsFailure({ record, observation, expected }: LocalArray, now: number): boolean {
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

interface Plan {
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

function refusedText({ md }: ArrayRecord): string {
  return `${md}: this node was shut out while writes were on their way; they are held for good: end what uses ${md}, or reboot the node`;
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
  if (onlyStale(state, record, observation)) {
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
  // What is on its way waits for reads to pass, which this node may not have before it is let in, nor that before it holds. Where nobody
  // has it open nothing is, and it can be had anew.
  if (isStuckOutside(state, array, observation, now)) return { op: { op: 'stop' }, settled: false };
  const copy = record.resync;
  const copierHere = copy !== null && copy.by === state.self;
  const started = copierHere && array.copying === copy.since;
  const runs = copyRuns(observation);
  // Frozen md starts nothing by itself. Whatever thawed it, two nodes copying at once would corrupt data.
  const thawed = isRedundant(record.level) && observation.syncAction === 'idle';
  // A copy that waits for a lost path cannot be ended before that is let go; without a second copy it changes nothing, nor does
  // one that fills only what nobody reads.
  const stuck = runs && pathLost(observation) && (!canDiffer(record) || fillsNobody(record, observation));
  if (!started && (runs || thawed) && !stuck) return { op: { op: 'freeze' }, settled: false };
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
    // In sync here by a copy that counts no more, as its end was never committed.
    const early = member.role === 'rebuilding' && seen?.inSync === true && !copierHere;
    const ahead = seen?.rebuilding === true && copy !== null && !copy.halted && isAhead(array, copy, member);
    if (inSlot(seen) && !early && !ahead) continue;
    if (member.role === 'active' && (record.writers.includes(state.self) || seen?.faulty)) continue;
    // md keeps a failed member in its slot for as long as it is frozen.
    const failed = observation.members.find((other) => other.slot === member.slot && other.faulty);
    if (failed !== undefined && failed.uuid !== null) {
      if (!failed.blocked) return { op: { op: 'remove', member: failed.uuid }, settled: false };
      // Another leg may have failed before this one's gate was answered: that is the next commit, and waits for this one. Until the
      // member is in, no window is answered here, so nothing that is written without it has been copied. Marks are read earlier.
      return { op: null, settled: member.role === 'rebuilding' && !fillsByMarks(copy) && !observation.held };
    }
    const attach = attachFor(state, record, member);
    if (state.paths.has(member.uuid)) {
      return member.role === 'active' || ahead || fillsByMarks(copy) ? held(attach) : { op: attach, settled: false };
    }
    // Its writes would miss the member: it holds them until it sees the disk.
    return { op: observation.held ? null : held(attach).op, settled: false, ...unseen(record, [member]) };
  }
  const must = mustHold(state, array, now);
  const hold = must || awaitsFailure(array, now);
  if (hold && !observation.held) return held({ op: 'hold' }, must ? mayDrain(observation) : mayWait);
  // A resync of this node's own moves md's mark itself, from when it has begun; until then it reads as all others do.
  const moves = copierHere && copy.kind === 'resync' && !copy.halted;
  if (!runs && !(moves && (started || observation.resyncStartSector !== null))) {
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
      // An interrupted copy goes on from md's own checkpoint, which is never behind the window that others hold. With a bitmap
      // a resync begins at 0, as its windows do: what lies before the checkpoint is not marked.
      const reached = copy.kind === 'resync' ? observation.resyncStartSector : windows.doneSector;
      const marks = copy.kind === 'resync' && byBitmap(observation, copy);
      const fromSector = marks ? windows.doneSector : started ? (reached ?? copy.fromSector) : copy.fromSector;
      const toSector = windows.allowedSector >= windows.totalSectors ? null : windows.allowedSector;
      if (windows.allowedSector > windows.doneSector && (!byBitmap(observation, copy) || isMarked(array, copy))) {
        const order: CopyOrder = { kind: copy.kind, fromSector, toSector };
        return { op: { op: 'start-copy', copy: order, since: copy.since }, settled: true };
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
 * Nobody waits for this node, and of all that the record calls in sync it has nothing: it would read what is old, and md would not
 * let go of the last of that. It is assembled anew, as soon as what is in sync is seen.
 */
function onlyStale(state: NodeArrays, record: ArrayRecord, observation: ArrayObservation): boolean {
  if (record.writers.includes(state.self)) return false;
  const has = (uuid: string) => observation.members.some((seen) => seen.uuid === uuid && inSlot(seen) && !seen.faulty);
  return activeMembers(record).every(({ uuid }) => !has(uuid));
}

/** Left out with reads held and writes not: the drain that its grant's end began has not ended, and cannot any more. */
function isStuckOutside(state: NodeArrays, array: LocalArray, observation: ArrayObservation, now: number): boolean {
  if (state.leaving || now >= state.grantUntilMs || array.record.writers.includes(state.self)) return false;
  return !observation.held && nothingWaits(observation) && readsHeld(observation) && mustHoldReads(state, array, now);
}

/** A recovery of members that the record does not take for good. */
function fillsNobody(record: ArrayRecord, { syncAction, members }: ArrayObservation): boolean {
  const good = goodIn(record);
  return (
    syncAction === 'recover' && members.every(({ uuid, rebuilding }) => !rebuilding || uuid === null || !good.has(uuid))
  );
}

function isUnfit({ unfit, record }: LocalArray): boolean {
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

function goodIn(record: ArrayRecord | null): Set<string> {
  return new Set(record?.members.filter(({ role }) => role !== 'faulty').map((member) => member.uuid));
}

/** Members seen here that the record which lets gates be answered does not take for good: their failure is agreed on. */
function settledMembers(array: LocalArray): string[] {
  const { observation } = array;
  const good = goodIn(recordForGates(array));
  return (observation?.members ?? []).flatMap(({ uuid }) => (uuid === null || good.has(uuid) ? [] : [uuid]));
}

/** What is due for a path that is lost or held; null: nothing yet. */
function pathOp(state: NodeArrays, array: LocalArray, now: number): LocalOp | null {
  const { record, released, observation } = array;
  const { pathLoss } = state;
  if (mayRead(state, array, now)) return { op: 'let-read' };
  const waits = observation?.members.some(({ path, faulty }) => path === 'lost' || (path === 'held' && faulty));
  if (waits !== true) return null;
  const good = goodIn(record);
  const goodForOthers = goodIn(released);
  for (const { uuid, path, faulty } of observation?.members ?? []) {
    if (uuid === null) continue;
    // What waits at a member that has failed in md is read from another, which is held as well.
    if (path === 'held' && faulty && released !== null && !good.has(uuid) && !goodForOthers.has(uuid)) {
      return { op: 'release-path', member: uuid };
    }
    if (path !== 'lost') continue;
    if (lastCopy(record, uuid)) return { op: 'restore-path', member: uuid };
    // As long as this node has not said that it gave the member up, no other node has a write that the member misses.
    if (pathLoss === 'drop-node' && !faulty && good.has(uuid)) return { op: 'restore-path', member: uuid };
    if (released === null || good.has(uuid) || goodForOthers.has(uuid)) continue;
    return { op: faulty ? 'release-path' : 'set-faulty', member: uuid };
  }
  return null;
}

/** What is held may be read: commits wait for this node, and nothing here is read that a commit has given up before. */
function mayRead(state: NodeArrays, array: LocalArray, now: number): boolean {
  const { record, observation, busy, applied } = array;
  if (observation == null || !readsHeld(observation)) return false;
  if (mustHoldReads(state, array, now)) return false;
  if (wantedHere(record, state.self)) {
    // As the record has it: else a member may be in sync here that is not, or has failed.
    if (!isReleased(array) || applied === null || compareVersions(applied, record.version) !== 0) return false;
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

/** The master will not commit it as faulty. */
function lastCopy(record: ArrayRecord, uuid: string): boolean {
  return activeMembers(record).some((member) => member.uuid === uuid) && !survivesWithout(record, uuid);
}

function mayRestore(state: NodeArrays, { record, released }: LocalArray, now: number): boolean {
  const writer = released?.writers.includes(state.self) === true && record.writers.includes(state.self);
  return writer && !state.leaving && now < state.grantUntilMs && !crashedSince(state, record);
}

/** Where nothing is in flight no write waits for the answer, so nobody's release. */
function recordForGates({ observation, record, released }: LocalArray): ArrayRecord | null {
  return observation?.held === true ? record : released;
}

/** Whether the gates of this array may be answered now. */
export function gatesAnswerable(state: NodeArrays, array: LocalArray, now: number): boolean {
  const { observation, record } = array;
  const agreed = recordForGates(array);
  if (observation == null || agreed === null || !gateClosed(observation)) return false;
  // A record may fail a member while this node is out: with its gate closed for good it would not be let in again.
  if (array.refused || (state.keys?.shutOut === true && !observation.held)) return false;
  if (state.leaving || now >= state.grantUntilMs) return false;
  if (!agreed.writers.includes(state.self) && !observation.held) return false;
  return (
    diverged(observation, agreed, state.self).length === 0 && diverged(observation, record, state.self).length === 0
  );
}

export function localState(array: LocalArray): LocalState {
  if (array.observation == null) return 'absent';
  return array.observation.held ? 'held' : 'open';
}

/** As the master hears it: who says that it holds what it was not waited for any more reads nothing either. */
function standing(state: NodeArrays, array: LocalArray, now: number): LocalState {
  const reads = array.observation != null && readsPass(array.observation);
  return reads && mustHoldReads(state, array, now) ? 'open' : localState(array);
}

function inShort(state: NodeArrays, array: LocalArray, now: number): string {
  return `${standing(state, array, now)} ${lostHere(array).join()}`;
}

export function reportOf(state: NodeArrays, array: LocalArray, now: number): ArrayReport {
  const usable = (uuid: string): boolean => state.paths.has(uuid) && state.keys?.usable.has(uuid) !== false;
  const isOpen = ({ uuid, role }: MemberRecord): boolean =>
    role === 'spare' && state.keys?.unreserved.has(uuid) === true;
  const ready = array.record.members.filter((member) => !isOpen(member));
  const visible = ready.map((member) => member.uuid).filter(usable);
  return {
    array: array.record.uuid,
    applied: array.applied,
    known: array.record.version,
    state: standing(state, array, now),
    visible,
    bitmap: array.observation?.bitmap != null && keepsBitmap(array.record, array.observation, state.self),
    trouble: array.trouble,
    lost: lostHere(array),
    fine: [...array.fineAtMs.keys()],
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
          retryAtMs: 0,
          trouble: null,
          cleanAtMs: Number.NEGATIVE_INFINITY,
          partedAtMs: null,
          refused: false,
          unfit: null,
          roomFor: null,
          copying: null,
          marked: null,
          marksLeft: inherited?.marksLeft ?? true,
          bitmapSet: undefined,
          expected: new Map(),
          windows: null,
          extendedTo: 0,
          window: null,
          heldSequence: 0,
          heldToldAtMs: Number.NEGATIVE_INFINITY,
          attached: new Map(),
          progress: null,
          progressAtMs: Number.NEGATIVE_INFINITY,
          mismatchSectors: null,
          wakeAtMs: Number.NEGATIVE_INFINITY,
          told: new Map(),
          reportedAtMs: Number.NEGATIVE_INFINITY,
          reported: null,
        });
      } else {
        const released = repeatsReleased(known, record) ? record : releasedBefore(known, record);
        const unstored = known.unstored !== null || givesUp(known.record, record) ? record.version : null;
        change(record.uuid, { record, unstored, released, retryAtMs: 0, trouble: null, expected: new Map() });
      }
      if (input.forgotten) arrays.delete(record.uuid);
      else if (arrays.get(record.uuid)?.unstored != null) {
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
    case 'observed':
      change(input.array, { observation: input.observation });
      break;
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
      change(input.array, { extendedTo: 0 });
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
        change(input.array, withProgress(arrays.get(input.array)?.mismatchSectors ?? null, input.progress));
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
        ...(failed ? {} : outcomeOf(array, input.op, input.marks ?? [])),
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

/** What is known after an operation has worked. */
function outcomeOf(array: LocalArray, op: LocalOp, marks: readonly SectorRange[]): Partial<LocalArray> {
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
    return { copying: op.since, extendedTo: op.copy.toSector ?? Number.POSITIVE_INFINITY };
  }
  if (op.op === 'attach-rebuilding') {
    const { since, fromSector } = op;
    return { attached: new Map(array.attached).set(op.member, { since, fromSector }) };
  }
  return {};
}

function differs(array: LocalArray, fields: Partial<LocalArray>): boolean {
  for (const name in fields) {
    const key = name as keyof LocalArray;
    if (array[key] !== fields[key]) return true;
  }
  return false;
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
  array = replace({ lostAtMs: lostLately(state, array, now) });
  if (array.fineAtMs.size > 0) {
    array = replace({ fineAtMs: new Map([...array.fineAtMs].filter(([, atMs]) => now - atMs < FINE_MS)) });
  }
  if (isClean(array)) array = replace({ cleanAtMs: now });
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
  if (!array.gateBusy && gatesAnswerable(state, array, now)) {
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
  // A store to the suspend range that waits for a path returns only after the release, which waits for this word.
  const suspends = array.busy !== null && ['hold', 'hold-range', 'open'].includes(array.busy.op);
  const { observation: seen } = array;
  const waits = suspends && seen != null && (pathLost(seen) || readsHeld(seen));
  if (next.settled && array.unstored === null && (array.busy === null || waits)) {
    if (array.applied === null || compareVersions(array.applied, array.record.version) !== 0) {
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
      const counted = ['check', 'repair'].includes(array.record.resync?.kind ?? '');
      const mismatchSectors = counted ? (array.observation?.mismatchSectors ?? null) : null;
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
  if (state.master !== null && (stands !== array.reported || now >= againMs)) {
    array = replace({ reportedAtMs: now, reported: stands });
    effects.push({ type: 'report' });
  }
}

/** Whose failure it is that md shows here: a member's, or that of a node which is shut out. */
function refusalsSeen(state: NodeArrays, array: LocalArray, now: number, effects: LocalEffect[]): Partial<LocalArray> {
  const { observation, record, partedAtMs } = array;
  if (observation == null) return { partedAtMs: null, refused: false };
  if (!failedHere(observation, record)) return { partedAtMs: null };
  if (state.keys === null) return { partedAtMs: partedAtMs ?? now };
  if (partedAtMs === null) effects.push({ type: 'check-keys' });
  const refused = array.refused || state.keys.shutOut;
  const waitedFor = record.writers.includes(state.self) && now < state.grantUntilMs;
  if (refused && waitedFor) effects.push({ type: 'refused-writes', array: record.uuid, md: record.md });
  return { partedAtMs: partedAtMs ?? now, refused };
}

/** What is seen failed is a member's failure, as far as this node can know. */
function mayTell(state: NodeArrays, { partedAtMs, refused }: LocalArray): boolean {
  if (state.keys === null || partedAtMs === null) return true;
  return !refused && !state.keys.shutOut && state.keys.atMs > partedAtMs;
}

/** The record names other nodes' bitmaps, or none, where this one's own says by now what is left to be copied; null: it does not. */
function marksTaken(state: NodeArrays, array: LocalArray): { since: number; kept: boolean } | null {
  const { record, observation } = array;
  const copy = record.resync;
  if (record.bitmap === null || copy?.by !== state.self || copy.kind !== 'resync' || observation == null) return null;
  if (!isReleased(array)) return null;
  const { since, markedBy } = copy;
  if (observation.bitmap === null) return markedBy === null ? null : { since, kept: false };
  const own = markedBy?.length === 1 && markedBy[0] === state.self;
  return own || !isMarked(array, copy) ? null : { since, kept: true };
}

/** This node's part in the copy under way: its own windows, or its answer to the copier's. */
function copyOn(state: NodeArrays, array: LocalArray, now: number, effects: LocalEffect[]): Partial<LocalArray> {
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

function copyHere(state: NodeArrays, array: LocalArray, now: number, effects: LocalEffect[]): Partial<LocalArray> {
  const { record, observation } = array;
  const copy = record.resync;
  if (copy === null || observation == null) return {};
  const runs = copyRuns(observation);
  const running = runs && array.copying === copy.since;
  let { windows } = array;
  if (windows?.since !== copy.since) {
    // Whatever runs was not begun under these windows.
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
  if (again) windows = windowsAgain(windows, now);
  const begunAgain: Partial<LocalArray> = again ? { copying: null } : {};
  const doneSector = running ? (observation.syncCompleted?.doneSectors ?? null) : null;
  const others = record.writers.filter((node) => node !== state.self);
  const options = { ...state.copyOptions, limitKib: record.syncLimitKib ?? state.copyOptions.limitKib };
  // Once the lease to write is over nothing is allowed any more; the guard holds what is open.
  if (now >= state.grantUntilMs) return { windows, ...begunAgain };
  const step = windowsStep(windows, { others, doneSector }, options, now);
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
  const before = array.progress?.since === copy.since ? array.progress : null;
  const elapsedMs = now - array.progressAtMs;
  const over = array.copying === copy.since && !copyRuns(observation) && ended(array, observation);
  const doneSectors = over ? windows.totalSectors : windows.doneSector;
  const last = over && before?.doneSectors !== doneSectors;
  if (before !== null && elapsedMs < PROGRESS_MS && !last) return {};
  const counts = copy.kind === 'check' || copy.kind === 'repair';
  const progress: CopyProgress = {
    since: copy.since,
    sequence: (before?.sequence ?? 0) + 1,
    kind: copy.kind,
    by: state.self,
    doneSectors,
    totalSectors: windows.totalSectors,
    kibPerSecond:
      before === null ? null : Math.round((500 * (doneSectors - before.doneSectors)) / Math.max(1, elapsedMs)),
    mismatchSectors: counts ? observation.mismatchSectors : null,
  };
  effects.push({ type: 'progress', array: array.record.uuid, progress });
  return { ...withProgress(array.mismatchSectors, progress), progressAtMs: now };
}

function withProgress(mismatchSectors: number | null, progress: CopyProgress): Partial<LocalArray> {
  return { progress, mismatchSectors: progress.mismatchSectors ?? mismatchSectors };
}
