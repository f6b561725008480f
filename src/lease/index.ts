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
 * 11. Where this voter has itself shut a holder out of every member, it may promise another although the promise to that one runs
 *    (early.ts). What it promised next is void for the holder's later renewals, and what it promised before binds on.
 * 6. Nobody votes for a candidate whose node list is older than its own, or another of the same version, nor promises less than the
 *    candidate or holder counts on. A mastership keeps to the list (or the two lists) that it was elected over.
 *
 * With `quorum: disks` a majority of the quorum set's disks takes the voters' place (disks.ts): what a voter promises, a holder
 * itself has written there, and all others keep. The rest stays: grants, hand-over, releases, who stands first. The node list
 * does not change then (roster/index.ts).
 * 7. A bid is won where it was written before the others' blocks were read, and nothing was found in its way.
 * 8. What another node's block says counts for L after it was first seen there.
 * 9. A holder's lease ends R after it made up the block that a majority of the disks has.
 * 10. Another set decides once a majority of the old one and of the new one have it.
 */
import type { NodeId } from '../arrays/record.ts';
import type { ListVersion } from '../roster/list.ts';
import type { LeaseMessage } from '../wire/messages.ts';
import type { DiskBlock, QuorumSet, ReadBlock } from './quorum_set.ts';

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
  /** Disks decide. `boot`: UUID of this start of the agent. Left out: nodes do. */
  disks?: { boot: string };
}

/** The vote file: fsynced before a vote leaves the node. */
export interface StoredVote {
  term: number;
  candidate: NodeId | null;
  /** Written by an orderly stop: what was still promised then, on which boot of the kernel, in its BOOTTIME. null: not known. */
  promise: { holder: NodeId | null; untilMs: number; kernelBoot: string } | null;
  /** Where disks decide: the newest set known. */
  set?: QuorumSet | undefined;
}

export type LeaseStart =
  /** `vote` null: file lost or corrupt. `fresh`: the key was made with it and it has never voted. */
  {
    vote: StoredVote | null;
    kernelBoot: string;
    /** Highest term found anywhere durable (journal, mesh areas). Optional help after a lost vote file, N = 1 above all. */
    termFloor?: number;
  };

/** Whom a voter had promised more time, in which term, when it voted for another. */
export interface PassedHolder {
  holder: NodeId;
  term: number;
}

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
  /** The vote asked for by a `store-vote` effect is on disk, and sealed if it was to be. */
  | { type: 'vote-stored'; term: number; candidate: NodeId; sealed: string | null }
  /** The disk did not take it. */
  | { type: 'vote-not-stored'; term: number; candidate: NodeId }
  /** Whether this node could shut another one out now: reservations are in force on every member, and its own key is on each. */
  | { type: 'may-shut-out'; may: boolean }
  /** Answer to `shut-out`. `done`: read again after that was asked for, no member has a key of the holder, and each is reserved. */
  | { type: 'shut-out'; holder: NodeId; id: number; done: boolean }
  /** Which nodes may be granted writes now (caught up, not evicted): decided by arrays on the master. */
  | { type: 'grantable'; nodes: readonly NodeId[] }
  /** The agent's answer to `hand-over`: commits are finished, write-enable is dropped, and the release of this term is sealed now. */
  | { type: 'releasing'; term: number }
  /** It is sealed. */
  | { type: 'released'; term: number; sealed: string }
  /**
   * Another list counts, or is to be counted as well; or timings have changed. Who is master goes on by the list that elected it,
   * but with the new R and L at once: `holderMs` and `voterMs` are the shorter and the longer of all that may count.
   */
  | { type: 'config'; config: LeaseConfig }
  /** Orderly end of the agent: release if holder. */
  | { type: 'leave' }
  /** The lease is of no use (metadata cannot be written, the driver broke): give it up now. */
  | { type: 'step-down'; reason: string }
  /**
   * What the quorum set ought to be, by the newest records: names of disks, the same on every node. `leaving`: soon no record lists them,
   * and nobody will reach them any more.
   */
  | { type: 'quorum-disks'; disks: readonly string[]; leaving?: readonly string[] }
  /** Answer to `disk-read`: every node's block; absent: nothing was ever written there. null: it could not be read. */
  | { type: 'disk-read'; disk: string; id: number; blocks: ReadonlyMap<NodeId, ReadBlock> | null }
  /** Answer to `disk-write`. `done`: it would survive a power cut of the disk. */
  | { type: 'disk-written'; disk: string; id: number; done: boolean }
  /** The vote file of a `store-set` effect is on disk. */
  | { type: 'set-stored' }
  /** Answer to `seal-disk-lease`. */
  | { type: 'disk-lease-sealed'; term: number; sealed: string };

export type LeaseEffect =
  | { type: 'send'; to: NodeId; message: LeaseMessage }
  /** Store with fsync, seal the vote event, then answer with `vote-stored`. `shutOut` null: it was given before, and is not sealed again. */
  | { type: 'store-vote'; vote: StoredVote; shutOut: readonly PassedHolder[] | null }
  /** Take every key of the holder off every member of every array, and answer with `shut-out`. */
  | { type: 'shut-out'; holder: NodeId; id: number }
  /**
   * `shutOut`: their leases may live for L more, and the disks alone keep them from writing. `lapsed`: they have held the disks, or may
   * have, and have not let go: their leases are over, but what they wrote last may be on its way still.
   */
  | {
      type: 'elected';
      term: number;
      certificate: string[];
      untilMs: number;
      shutOut: readonly NodeId[];
      lapsed: readonly NodeId[];
    }
  | { type: 'lease-extended'; term: number; untilMs: number }
  /** This node's own permission to write data (also on the master itself). */
  | { type: 'grant'; term: number; untilMs: number }
  /** Mastership over, by expiry, release or a newer term. */
  | { type: 'lost'; term: number; reason: string }
  /** Finish commits, stop writing metadata, seal a lease-release and answer with `released`. */
  | { type: 'hand-over'; term: number; to: NodeId | null }
  /** The master this node follows has changed (null: none known). */
  | { type: 'master'; term: number; node: NodeId | null }
  /**
   * Read all blocks of this disk, past every cache: what was written before this was asked for must be seen. One operation a disk at
   * a time; it may take as long as it takes.
   */
  | { type: 'disk-read'; disk: string; id: number }
  /** Write this node's own block. */
  | { type: 'disk-write'; disk: string; id: number; block: DiskBlock }
  /** Store with fsync, then answer with `set-stored`. */
  | { type: 'store-set'; vote: StoredVote }
  /** Seal what was won: it is the certificate of this term. */
  | { type: 'seal-disk-lease'; term: number; set: QuorumSet }
  /** This holder has set another quorum set, or begun to: to be journaled. */
  | { type: 'quorum-set'; term: number; set: QuorumSet }
  /** Word for journal and log: a refused vote, an abstention, a stale term. */
  | { type: 'note'; name: string; text: string };

export { CLOCK_CRITICAL, CLOCK_WARNING, clockHeard, clockRate, type PeerClock } from './clock_rates.ts';
export { bidsForDisks } from './disks.ts';
export { leaseDueMs } from './due.ts';
export { type DiskBlock, disksOf, isQuorum, QUORUM_DISKS_MAX, type QuorumSet, type ReadBlock } from './quorum_set.ts';
export { leaseStart, storedVoteForStop } from './start.ts';
export { type LeaseState, type VoterPromise, votesLacking } from './state.ts';
export { leaseStep } from './step.ts';
export { certificate, type DiskSummary, grantMayLastUntilMs, type LeaseSummary, leaseSummary } from './summary.ts';
export { ownerOfTerm } from './terms.ts';
