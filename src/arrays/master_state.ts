/** What a master knows of arrays and nodes, what it is told, and what it orders. */
import type { MemberStatus } from '../members/index.ts';
import type { ArrayReport, CommitKind, CopyProgress, Observation } from '../wire/messages.ts';
import type { CheckSchedule, WallTime } from './check_schedule.ts';
import type { EndedArray } from './ended.ts';
import { NO_PATHS, type PathLossOptions, type PathMemory } from './path_loss.ts';
import type { ArrayRecord, BitmapPlace, CopyKind, MemberRecord, NodeId, Version } from './record.ts';
import type { Growth } from './shape.ts';

/** A change asked for by an operator, checked and resolved by the agent as far as disks are concerned. */
export type Change =
  | { what: 'introduce'; kind: 'create' | 'adopt'; record: ArrayRecord }
  /** `force`: also where parity is in doubt. */
  | { what: 'start'; force?: true }
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
  /** A copy that this ends before it has come to its end, as a check is called off when a leg may differ. */
  callsOff: CopyKind | null;
  stage: 'persisting' | 'applying';
  /** Persisting, or sending to who says that it does not know it, again only after this time. */
  retryAtMs: number;
  /** A member that has what is written now will miss what is written next. */
  givesUp: boolean;
  /** Whose `applied` is still missing. */
  waiting: readonly NodeId[];
}

export interface AskedChange {
  change: Change;
  requestId: string | null;
}

export interface MasterArray {
  /** Newest durable record; null while it is being introduced. */
  record: ArrayRecord | null;
  pending: PendingCommit | null;
  /** Members that a node's md, or a failed metadata write, calls faulty. */
  faults: readonly string[];
  /** Members that did not take the last commit: index of the last one that they may have. */
  unreached: ReadonlyMap<string, number>;
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
  /** Whose word on what it had mended before is in the copy with this `since`. */
  mended: { since: number; by: readonly NodeId[] } | null;
  /** The copier's newest word. */
  progress: CopyProgress | null;
  checkpointAtMs: number;
  /** Of the copy with this `since`: the last percentage that was told. */
  toldPercent: { since: number; percent: number } | null;
  asked: readonly AskedChange[];
  /** A `stop` waits for everybody to be gone before its request is answered. */
  stopRequest: string | null;
  /** Asked for by it, and answered when the members are given back. */
  releaseRequest: string | null;
  /** They are given back then; infinite: it is under way. */
  givingBackAtMs: number;
  trouble: string | null;
  /** What a node has to know before it is granted writes: what was found on the disks, or the record that left it out. */
  mustKnow: ReadonlyMap<NodeId, Version>;
  /** Found on disk, not committed under this term yet. */
  found: FoundRecord | null;
}

export interface FoundRecord {
  record: ArrayRecord;
  /** Active members that are not seen. */
  unseen: readonly string[];
  /** Active members that have not taken it, and the index of the last commit that they have. */
  behind: ReadonlyMap<string, number>;
  /** Members that this record calls good and that have missed too much to be, and why. */
  stale: ReadonlyMap<string, string>;
  /** Whatever else does not fit together. */
  problem: string | null;
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
  givenBack: ReadonlyMap<string, Version>;
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
  | { type: 'disks'; found: FoundRecord[] }
  /** By an operator's word: known here, newer than what stands on the disks, and all members that it calls active are seen. */
  | { type: 'put-back'; record: ArrayRecord }
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
  | { type: 'persisted'; array: string; version: Version; written: boolean; failed: readonly string[]; text: string }
  /** `error` null: nothing of what this node sees is the cluster's any more. */
  | { type: 'given-back'; array: string; error: string | null };

export type MasterEffect =
  | { type: 'scan' }
  /** The members of a record that says so, back to mdadm: ends in `given-back`. */
  | { type: 'give-back'; record: ArrayRecord }
  | { type: 'persist'; record: ArrayRecord; kind: CommitKind }
  | { type: 'commit'; record: ArrayRecord; before: Version | null; kind: CommitKind; detail: PendingCommit['detail'] }
  | { type: 'send-commit'; to: NodeId; array: string }
  | { type: 'probe'; to: readonly NodeId[]; array: string; member: string }
  | { type: 'released'; to: readonly NodeId[]; array: string; version: Version }
  | { type: 'fence'; node: NodeId }
  | { type: 'cancel-fence'; node: NodeId }
  | { type: 'grantable'; nodes: readonly NodeId[] }
  /** `undone`: nothing of it was begun. */
  | { type: 'answer'; requestId: string; ok: boolean; text: string; undone?: true }
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
    givenBack: new Map(),
    arrays: new Map(),
    byDisks,
    majoritySinceMs: nodes.length === 1 || byDisks ? Number.NEGATIVE_INFINITY : null,
    grantable: [],
    wall: null,
  };
}

export const BLANK: MasterNode = {
  status: 'unknown',
  reports: new Map(),
  kernelBoot: null,
  ended: [],
  fencing: 'no',
  readsUntilMs: 0,
  agentStart: 0,
  leaving: false,
};

export const emptyArray: MasterArray = {
  record: null,
  pending: null,
  faults: [],
  unreached: new Map(),
  paths: NO_PATHS,
  keep: null,
  stuck: [],
  copied: false,
  marksTaken: null,
  mismatchSectors: null,
  mended: null,
  progress: null,
  checkpointAtMs: Number.NEGATIVE_INFINITY,
  toldPercent: null,
  asked: [],
  stopRequest: null,
  releaseRequest: null,
  givingBackAtMs: 0,
  trouble: null,
  mustKnow: new Map(),
  found: null,
};

export interface NextChange {
  kind: CommitKind;
  record: ArrayRecord;
  detail: PendingCommit['detail'];
  fields: Partial<MasterArray>;
}
