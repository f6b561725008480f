/**
 * What one node knows of terms, promises and leases. Every reading of time is of this node's own BOOTTIME, except the ones
 * named `their…`, which belong to the node they came from and are only ever given back to it.
 */
import type { NodeId } from '../arrays/record.ts';
import { NO_LIST } from '../roster/list.ts';
import type { LeaseMessage } from '../wire/messages.ts';
import type { DiskState } from './disks.ts';
import type { LeaseConfig, LeaseEffect, LeaseView, PassedHolder } from './index.ts';

export type VoteRequest = Extract<LeaseMessage, { kind: 'vote-request' }>;
export type RenewMessage = Extract<LeaseMessage, { kind: 'renew' }>;

/**
 * As a voter: nobody but `holder` gets this node's vote or its renew-ack before `untilMs`. There is one promise at a time,
 * whatever the terms. This alone makes two live leases impossible: each needs a majority of promises, two majorities
 * share a voter, and that voter has made only one of the two.
 */
export interface VoterPromise {
  holder: NodeId;
  term: number;
  untilMs: number;
}

/** The vote on its way to the disk. While it is, nothing else is promised. */
export interface PendingVote {
  term: number;
  candidate: NodeId;
  /** Clock of the candidate in its request; null: no vote is asked for, the file only has to lose its proof. */
  theirSentAtMs: number | null;
  shutOut: readonly PassedHolder[];
  /** Newest renewal that came meanwhile; looked at when the file is written. */
  renew: { from: NodeId; message: RenewMessage } | null;
}

/** Invariant 5: a voter that cannot know what it promised. */
export interface Abstention {
  untilMs: number;
  /** How many other nodes must still say which terms they know; 0 if the vote file told this node its own terms. */
  answersNeeded: number;
  answered: readonly NodeId[];
  nextQueryMs: number;
}

export interface Candidate {
  kind: 'candidate';
  term: number;
  /** A majority of each is needed. */
  sets: Sets;
  /** Of the vote request; the lease is counted from here. */
  sentAtMs: number;
  /** Sealed votes of others. One a node: who sends two is counted once. */
  votes: ReadonlyMap<NodeId, string>;
  /** Whom these votes pass over. */
  shutOut: ReadonlySet<NodeId>;
  /** Refusers that would shut out whom they are bound to. */
  willing: ReadonlyMap<NodeId, readonly NodeId[]>;
  lastAskedMs: number;
}

/** On its way, or done since the newest promise to that node. */
export interface ShutOut {
  id: number;
  askedMs: number;
  state: 'asked' | 'done' | 'failed';
}

export interface Master {
  kind: 'master';
  term: number;
  sets: Sets;
  certificate: readonly string[];
  /** The votes have passed over promises to these. */
  shutOut: readonly NodeId[];
  electedMs: number;
  requestSentAtMs: number;
  /** When it was sent that the lease rests on, which ends R later. */
  leaseSinceMs: number;
  leaseUntilMs: number;
  lastRenewMs: number;
  /** Newest of this node's sendings that each other node has answered. */
  answeredSentAtMs: ReadonlyMap<NodeId, number>;
  /** Newest ack of each other node. */
  acks: ReadonlyMap<NodeId, { theirSentAtMs: number; receivedMs: number }>;
  /** When the ack was received that the newest grant sent to a node answers. */
  grantedAckMs: ReadonlyMap<NodeId, number>;
  /** Since when each lower eligible ID has been alive without a break. */
  lowerSinceMs: ReadonlyMap<NodeId, number>;
  handOverAskedMs: number | null;
  /** Its release is being sealed: the lease has ended in the guard, and nothing brings it back. */
  releasing: boolean;
}

export interface LeaseState {
  readonly config: LeaseConfig;
  readonly startedMs: number;
  readonly lastNowMs: number;
  readonly view: LeaseView;
  /** Highest term heard of; only numbers the next candidacy. */
  readonly knownTerm: number;
  /** Highest term followed or held since the start: no vote and no ack below it. */
  readonly floorTerm: number;
  /**
   * Last vote on disk. `sealed` is lost in a restart. Candidate null: nobody had this node's vote in that term, or it is
   * forgotten who; no vote in that term or before.
   */
  readonly vote: {
    readonly term: number;
    readonly candidate: NodeId | null;
    readonly sealed: string | null;
    readonly shutOut: readonly PassedHolder[];
  };
  readonly pendingVote: PendingVote | null;
  /**
   * The vote file still says what was promised at the last orderly stop. Before anything new is promised it must lose
   * that proof, else a crash now and a restart would believe it.
   */
  readonly proofOnDisk: boolean;
  readonly promise: VoterPromise | null;
  /** Promises that were passed over (invariant 11). They bind as any other until they end. */
  readonly passed: readonly VoterPromise[];
  readonly mayShutOut: boolean;
  readonly shutOuts: ReadonlyMap<NodeId, ShutOut>;
  readonly lastShutOutId: number;
  /** Looked at again when a shut-out has ended. */
  readonly keptRequest: { from: NodeId; request: VoteRequest } | null;
  readonly releasedTerm: number;
  /** Another node told of a node list that is newer than this one's, or another one as old. A voter that forgot its own must not vote by what its file says. */
  readonly listBehind: boolean;
  readonly abstention: Abstention | null;
  readonly role: { kind: 'follower' } | Candidate | Master;
  /** Who sent the last valid renewal. */
  readonly master: { node: NodeId; term: number; heardMs: number } | null;
  readonly standNotBeforeMs: number;
  /** A holder released its lease in favour of this node. */
  readonly standAtOnce: boolean;
  readonly leaving: boolean;
  readonly lastHeldTerm: number;
  readonly grantable: readonly NodeId[];
  readonly grantUntilMs: number | null;
  /** null: nodes decide. */
  readonly disks: DiskState | null;
  /** When this start of the agent sent its recent acks: a grant that answers none of them is not for it (invariant 4). */
  readonly acksSentMs: readonly number[];
}

/** One step under way: `state` is replaced piece by piece, `effects` grows. */
export interface Turn {
  state: LeaseState;
  readonly effects: LeaseEffect[];
  readonly now: number;
}

export function change(turn: Turn, part: Partial<LeaseState>): void {
  turn.state = { ...turn.state, ...part };
}

export function note(turn: Turn, name: string, text: string): void {
  turn.effects.push({ type: 'note', name, text });
}

export type Sets = readonly (readonly NodeId[])[];

export function listOf(config: LeaseConfig): NonNullable<LeaseConfig['list']> {
  return config.list ?? { version: NO_LIST, sets: [config.nodes] };
}

/** Where disks are to decide, votes do so only until a set of them is known, and then by all nodes: docs/quorum.md, "The first set". */
function votesNeeded(nodes: number, byDisks: boolean): number {
  return byDisks ? nodes : Math.floor(nodes / 2) + 1;
}

/** null: these elect a master, as a majority of any one of the lists. Else how many votes it takes. */
export function votesLacking(lists: Sets, voters: ReadonlySet<NodeId>, byDisks: boolean): number | null {
  const needed = (list: readonly NodeId[]): number => votesNeeded(list.length, byDisks);
  if (lists.some((list) => list.filter((node) => voters.has(node)).length >= needed(list))) return null;
  return needed(lists[0] ?? []);
}

/** Of one list. */
export function majority(config: LeaseConfig, set: readonly NodeId[]): number {
  return votesNeeded(set.length, config.disks !== undefined);
}

/** Of each of the lists. */
export function isMajority(config: LeaseConfig, sets: Sets, nodes: Iterable<NodeId>): boolean {
  const there = new Set(nodes);
  return sets.every((set) => set.filter((node) => there.has(node)).length >= majority(config, set));
}

export function others(config: LeaseConfig): NodeId[] {
  return config.nodes.filter((node) => node !== config.self);
}

export function send(turn: Turn, to: NodeId, message: LeaseMessage): void {
  turn.effects.push({ type: 'send', to, message });
}

export function seen(view: LeaseView, node: NodeId): boolean {
  return view.alive.some((each) => each.node === node);
}

export function lowestEligible(view: LeaseView): NodeId | null {
  return view.alive.reduce<NodeId | null>(
    (lowest, each) => (each.eligible && (lowest === null || each.node < lowest) ? each.node : lowest),
    null,
  );
}

export function knowTerm(turn: Turn, term: number): void {
  if (term > turn.state.knownTerm) change(turn, { knownTerm: term });
}

/** Those that this voter is bound to now, other than `candidate`. */
export function boundToOthers({ state: { promise, passed }, now }: Turn, candidate: NodeId): VoterPromise[] {
  const all = promise === null ? passed : [promise, ...passed];
  return all.filter(({ holder, untilMs }) => holder !== candidate && now < untilMs);
}

/** L from now. Whoever is promised anything is not shut out as far as this node knows: it may have put its key back. */
export function makePromise(turn: Turn, holder: NodeId, term: number): void {
  const shutOuts = new Map(turn.state.shutOuts);
  shutOuts.delete(holder);
  const untilMs = turn.now + turn.state.config.voterMs;
  change(turn, { passed: boundToOthers(turn, holder), promise: { holder, term, untilMs }, shutOuts });
}

export function setMaster(turn: Turn, master: LeaseState['master']): void {
  const was = turn.state.master;
  change(turn, { master });
  if (was?.node !== master?.node || was?.term !== master?.term) {
    turn.effects.push({
      type: 'master',
      term: master?.term ?? turn.state.knownTerm,
      node: master?.node ?? null,
    });
  }
}
