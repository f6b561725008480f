/** What a node knows of its arrays, what it is told, and what it orders of md and says to others. */
import type { ArrayObservation, CopyOrder, SectorRange } from '../md/driver.ts';
import type { MemberStatus } from '../members/index.ts';
import type { ArrayReport, CopyProgress, Observation } from '../wire/messages.ts';
import type { PathLossPolicy } from './path_loss.ts';
import type { ArrayRecord, NodeId, Version } from './record.ts';
import type { CopyOptions, Windows } from './windows.ts';

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
  /** `foundBefore`: see LocalArray. */
  | { op: 'start-copy'; copy: CopyOrder; since: number; foundBefore: number }
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
  /** Not answered before, after an answer that the driver refused. */
  gateAtMs: number;
  retryAtMs: number;
  /** A spare that this node does not see is looked for again then. */
  lookAtMs: number;
  trouble: string | null;
  /** The cluster has it no more; it goes from here when md has nothing of it. */
  givenBack: boolean;
  /** When nothing was in flight under a whole hold, nor failed, as far as is known; or md had nothing of it. */
  cleanAtMs: number;
  /** Since when members are seen failed that the record takes for good, other than by their path; null: none is. */
  partedAtMs: number | null;
  /** A member here was seen failed while this node's key was missing on it: its own writes were refused. Until the array is stopped. */
  refused: boolean;
  /** Since when this writer can by no means apply what it knows; null: it can. */
  stuckSinceMs: number | null;
  /** Why md here cannot take the slots or the size of the record of this version: not tried again before something has changed. */
  unfit: { version: Version; text: string; isSmall: boolean } | null;
  /** The record's size, of this version, has room here, and waits for reads to pass. */
  roomFor: Version | null;
  /** Members that another node told of as failed under this record, until when its commit is waited for. */
  expected: ReadonlyMap<string, number>;
  /** `since` of the copy that this node's md was started on; null: none. */
  copying: number | null;
  /** What that check or repair had found here before md was started on it last, in sectors: md counts from there. */
  foundBefore: number;
  /**
   * A repair of this node's, `from`, was taken from it for the copy with this `since`. `told`: what the record knew of what it had found by
   * then; `sectors`: what it had mended beyond that; null: md may be at it yet.
   */
  takenOver: { from: number; since: number; told: number; sectors: number | null } | null;
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
  /** Not before this time is that tried again which failed. */
  extendAgainMs: number;
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
  /** Members that have answered, and do not have this node's key: they refuse its writes. */
  absent: ReadonlySet<string>;
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
  /** What this node has on its way ends neither way, and others must not wait for it. `why`: for people */
  | { type: 'stuck'; array: string; md: string; why: string }
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
      ? { usable: new Set(), unreserved: new Set(), absent: new Set(), shutOut: false, atMs: Number.NEGATIVE_INFINITY }
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

export const REPEAT_MS = 1000;
