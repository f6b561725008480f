/**
 * audit: judges journals. In come the files of one or more nodes and the node list's public keys, and nothing else: no agent, no
 * network, no secret. Out comes what they prove, what they leave open, and the first entry of each that breaks a rule, with
 * the reason. docs/audit.md says what that is worth.
 *
 * Each entry by itself (its bytes, signatures, certificate) is checked on all cores: `checker`, in worker threads, or where cores are
 * few in this one, with the addon's threads for the signatures. What entries say together is judged by pure rules (`judge_chain`, `judge_agreement`, `judge_terms`, `judge_checkpoints`).
 */
import type { NodeId } from '../arrays/record.ts';
import type { EndedKey, ListedNode } from '../roster/index.ts';

/** What an auditor needs to know of a cluster. */
export interface AuditedCluster {
  uuid: string;
  /** Node ID → peer ID, which is its public key. */
  peerIds: ReadonlyMap<NodeId, string>;
  /** Of nodes that change from one key to another. */
  nextPeerIds?: ReadonlyMap<NodeId, string>;
  /** Lists of before, newest first, and where keys ended: `withFormerLists` finds them. */
  former?: readonly { nodes: readonly ListedNode[] }[];
  ended?: readonly EndedKey[];
  /** Disks decide: a holder's own word may stand in the place of votes. */
  byDisks?: boolean | undefined;
}

export interface Finding {
  /**
   * `broken`: a rule is broken; nothing honest leaves that behind. `open`: nothing is proved wrong, but something cannot be
   * proved: a file cut off, an event in nobody's journal. `note`: worth knowing.
   */
  severity: 'broken' | 'open' | 'note';
  rule:
    | 'chain'
    | 'signature'
    | 'certificate'
    | 'vote'
    | 'term'
    | 'commit'
    | 'superblock-events'
    | 'checkpoint'
    | 'cosignature'
    | 'agreement'
    | 'coverage';
  /** Whose journal, and the place in it; null where it is about several. */
  journal: string | null;
  file: string | null;
  line: number | null;
  cursor: number | null;
  text: string;
}

export interface JournalSummary {
  journal: string;
  node: NodeId | null;
  files: string[];
  entries: number;
  /** Entries of its log under the newest checkpoint of it that was found anywhere, and that another node cosigned. */
  signed: number;
  cosigned: number;
  cosigners: NodeId[];
}

export interface Verdict {
  /** The worst of the findings. */
  outcome: 'proved' | 'open' | 'broken';
  journals: JournalSummary[];
  entries: number;
  commits: number;
  /** Terms in which commits were made, and by whom. */
  terms: { term: number; master: NodeId; commits: number }[];
  findings: Finding[];
}

export { eventsIn, type FoundEvent } from './events.ts';
export { withFormerLists } from './former_lists.ts';
export { findJournals, type NamedJournal } from './journals.ts';
export { type AuditOptions, verifyJournals } from './verify.ts';
