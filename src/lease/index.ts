/**
 * lease: who may write, as a pure core. A majority of the node list promises, one fsynced vote a term, to follow the lowest
 * live eligible node; the promise is kept alive by renewals and ends by itself. Grants for every node's writes ride on them.
 *
 * Invariants (each has a transcript that goes red without it):
 * 1. A voter votes once a term, and its vote is stored before it is sent.
 * 2. A voter promised to a holder votes for no other until L after the last renewal it *received*, or the holder's release.
 * 3. The holder's lease ends R after it *sent* the renewal that a majority answered; R < L.
 * 4. A node's grant ends R after it *sent* the ack that the master's grant answers.
 * 5. A voter that cannot know what it promised (lost or foreign vote file) abstains for L, and until it knows every term
 *    it may have voted in. It follows a master and may be granted writes meanwhile, but keeps no lease alive.
 * 6. Nobody votes for a candidate whose node list is older than its own, or another of the same version, nor promises less than the
 *    candidate or holder counts on. A mastership keeps to the list (or the two lists) that it was elected over.
 */
import type { NodeId } from '../arrays/record.ts';
import type { ListVersion } from '../roster/list.ts';
import type { LeaseMessage } from '../wire/messages.ts';

export interface LeaseConfig {
  self: NodeId;
  /** Everybody who may be spoken to. */
  nodes: readonly NodeId[];
  /** Over which nodes a majority is counted, of each of the sets (room roster). @default the first list: all `nodes` */
  list?: { version: ListVersion; sets: readonly (readonly NodeId[])[] };
  /** R: the holder drops by itself after this. */
  holderMs: number;
  /** L: a voter's promise ends after this. */
  voterMs: number;
  renewMs: number;
  failbackAfterMs: number;
  /** How long a starting node waits for lower IDs to show up before it stands. Node 1 waits for none. */
  settleMs: number;
  /** A vote request unanswered by a majority for this long is given up; the next try takes a higher term. */
  candidacyTimeoutMs: number;
}

/** The vote file: fsynced before a vote leaves the node. */
export interface StoredVote {
  term: number;
  candidate: NodeId | null;
  /** Written by an orderly stop: what was still promised then, on which boot of the kernel, in its BOOTTIME. null: not known. */
  promise: { holder: NodeId | null; untilMs: number; kernelBoot: string } | null;
}

export type LeaseStart =
  /** `vote` null: file lost or corrupt. `fresh`: the key was made with it and it has never voted. */
  {
    vote: StoredVote | null;
    kernelBoot: string;
    /** Highest term found anywhere durable (journal, mesh areas). Optional help after a lost vote file, N = 1 above all. */
    termFloor?: number;
  };

/** What a sealed lease-release says, after its signature, its origin and its cluster have been checked. */
export interface VerifiedRelease {
  /** Who sealed it; the frame may have been passed on by another node. */
  holder: NodeId;
  term: number;
  to: NodeId | null;
}

export interface LeaseView {
  /** Alive (not suspect, dead or left) nodes, self included, as members sees them, with eligibility. */
  alive: readonly { node: NodeId; eligible: boolean }[];
}

export type LeaseInput =
  | { type: 'tick' }
  | { type: 'view'; view: LeaseView }
  /**
   * The shell has verified what is sealed in it: a vote is `from`'s own for this node in that term; a renewal's certificate
   * is a majority's votes for (from, term), or empty when that certificate was seen before. `release` goes with a
   * `released` message, which is ignored without it: the core cannot open envelopes.
   */
  | { type: 'message'; from: NodeId; message: LeaseMessage; release?: VerifiedRelease }
  /** The vote asked for by a `store-vote` effect is on disk and sealed. */
  | { type: 'vote-stored'; term: number; candidate: NodeId; sealed: string }
  /** Which nodes may be granted writes now (caught up, not evicted): decided by arrays on the master. */
  | { type: 'grantable'; nodes: readonly NodeId[] }
  /** The agent's answer to `hand-over`: commits are finished, write-enable is dropped, the release is sealed. */
  | { type: 'released'; term: number; sealed: string }
  /**
   * Another list counts, or is to be counted as well; or timings have changed. Who is master goes on by the list that elected it,
   * but with the new R and L at once: `holderMs` and `voterMs` are the shorter and the longer of all that may count.
   */
  | { type: 'config'; config: LeaseConfig }
  /** Orderly end of the agent: release if holder. */
  | { type: 'leave' }
  /** The lease is of no use (metadata cannot be written, the driver broke): give it up now. */
  | { type: 'step-down'; reason: string };

export type LeaseEffect =
  | { type: 'send'; to: NodeId; message: LeaseMessage }
  /** Store with fsync, seal the vote event, then answer with `vote-stored`. */
  | { type: 'store-vote'; vote: StoredVote }
  | { type: 'elected'; term: number; certificate: string[]; untilMs: number }
  | { type: 'lease-extended'; term: number; untilMs: number }
  /** This node's own permission to write data (also on the master itself). */
  | { type: 'grant'; term: number; untilMs: number }
  /** Mastership over, by expiry, release or a newer term. */
  | { type: 'lost'; term: number; reason: string }
  /** Finish commits, stop writing metadata, seal a lease-release and answer with `released`. */
  | { type: 'hand-over'; term: number; to: NodeId | null }
  /** The master this node follows has changed (null: none known). */
  | { type: 'master'; term: number; node: NodeId | null }
  /** Word for journal and log: a refused vote, an abstention, a stale term. */
  | { type: 'note'; name: string; text: string };

export { leaseDueMs } from './due.ts';
export { leaseStart, storedVoteForStop } from './start.ts';
export type { LeaseState, VoterPromise } from './state.ts';
export { leaseStep } from './step.ts';
export { certificate, grantMayLastUntilMs, type LeaseSummary, leaseSummary } from './summary.ts';
