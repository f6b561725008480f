/**
 * roster: which node list counts, as a pure core. In come what this node's configuration asks for, the words of the others and
 * who leads; out go lists to store, words, and the list (or the two lists) that a majority is counted over.
 *
 * The list is the basis of every majority, so a change of it must never let two majorities act that do not share a voter. It goes
 * as Raft's joint consensus does (Ongaro, "Consensus: Bridging Theory and Practice", 4.3), with the lease in the place of the log:
 *
 * 1. A list has a version: the term of the master that proposed it, and a generation. Nobody votes for a candidate whose list
 *    is older than its own, or another one of the same version (lease/voter.ts).
 * 2. The master proposes, and stores it first. A node stores what its master proposes if its own file asks for the same, and
 *    says so. From then on it is *pending* there: as a candidate that node needs a majority of the old list **and** of the new.
 * 3. When a majority of both, each of them following this master in this term, has stored it, the master gives up its lease;
 *    only then it says that the list is *agreed*, and from then on a majority of the new list alone is enough. It is voted for
 *    anew, so that the certificate of the term is one of the new list.
 * 4. What is pending is dropped only for the word of a later term's master, which was elected without it.
 *
 * Why that is safe. Let A be the old list, P the new one. A holder counts its lease over A, over both, or over P.
 * Over A and over both, and over both and over P: two such majorities share a voter, which has one promise at a time. Over
 * A and over P: P alone counts only after a master M, in its term T, had it stored by a majority of A (3). A holder of a term before
 * T ended when M was elected; M itself has given up its lease. A holder of a later term over A alone would need a majority of A: one of
 * them stored P for M. If it did so after it had voted in the later term, it did not follow M in T any more, and was not counted; if
 * before, its list was the newer, and it did not vote (1). So there is none. Dropping (4) keeps that: a later term's master over A
 * alone shows that P was not stored by a majority of A in T, and never will be.
 *
 * R and L are part of the list. While two are known the shorter R and the longer L count, so that no holder counts on a promise that
 * a voter has not made; the longer L goes on for a while after the change, for promises and grants of before.
 *
 * Where disks decide (docs/quorum.md) the list does not change: rules 2 and 3 count voters, and there are none. It still says who
 * gives the votes of the time before the first set, whose keys count, and what R and L are.
 */
import type { NodeId } from '../arrays/record.ts';
import type { EndedKey, ListVersion, NodeList, WishedList } from './list.ts';
import type { RosterWord } from './word.ts';

/** What must survive a crash, together with the vote. */
export interface StoredLists {
  agreed: NodeList;
  pending: NodeList | null;
  /** The list before `agreed`, for as long as promises of its time may last. */
  previous: NodeList | null;
}

export interface RosterState extends StoredLists {
  self: NodeId;
  /** `quorum: disks`. */
  byDisks: boolean;
  wish: WishedList;
  /** Newest word of each other node. */
  words: ReadonlyMap<NodeId, RosterWord>;
  alive: readonly NodeId[];
  /** Whom this node follows, itself included. */
  master: { node: NodeId; term: number } | null;
  /** Nodes that may have writes in flight: none of them can be taken off the list. */
  writers: readonly NodeId[];
  /** The newest event that is known of each node: the last one, when a key of its ends. */
  ends: ReadonlyMap<NodeId, EventCursor>;
  /** On its way to the disk. Nothing is said or counted before it is there. */
  storing: StoredLists | null;
  /** The list that this master has found agreed on; its lease of this term is being given up. */
  concluding: { term: number; lists: StoredLists; leaseOver: boolean } | null;
  previousUntilMs: number;
  saidAtMs: number;
  said: string;
  /** What was told last about why this node's list does not become the cluster's. */
  told: string | null;
}

export type RosterInput =
  | { type: 'tick' }
  | { type: 'wish'; wish: WishedList }
  | { type: 'word'; from: NodeId; word: RosterWord }
  | { type: 'connected'; node: NodeId }
  | { type: 'alive'; nodes: readonly NodeId[] }
  | { type: 'master'; node: NodeId | null; term: number }
  | { type: 'facts'; writers: readonly NodeId[]; ends: ReadonlyMap<NodeId, EventCursor> }
  | { type: 'stored' }
  /** The lease of this term is over, as asked for or otherwise. */
  | { type: 'lease-over'; term: number };

export type RosterEffect =
  /** Store durably, then answer with `stored`. */
  | { type: 'store'; lists: StoredLists }
  | { type: 'send'; to: NodeId; word: RosterWord }
  /** What counts has changed: see `quorumOf` and `knownNodes`. */
  | { type: 'use' }
  /** Give up the lease of this term, in favour of this node, and answer with `lease-over`. */
  | { type: 'hand-over'; term: number }
  /** `first`: this node's mastership brought it about. */
  | { type: 'agreed'; list: NodeList; before: NodeList; first: boolean }
  | { type: 'notice'; name: string; severity: 'info' | 'warning'; detail: Record<string, string | number> };

export type EventCursor = Pick<EndedKey, 'bootNumber' | 'sequence'>;

export {
  compareLists,
  type EndedKey,
  firstList,
  idsOf,
  isMajorityOfEach,
  type ListedNode,
  NO_LIST,
  sameList,
  whyNotAfter,
  whyNotByDisks,
} from './list.ts';
export { mayStand, type Quorum, quorumOf, rosterStart, rosterStep, waitsFor } from './step.ts';
export type { RosterWord } from './word.ts';
export type { ListVersion, NodeList, WishedList };
