/** What others may read of the state. */
import type { NodeId } from '../arrays/record.ts';
import { answers, seesQuorum, watchedDisks } from './disks.ts';
import type { QuorumSet, ReadBlock } from './quorum_set.ts';
import type { LeaseState, VoterPromise } from './state.ts';

export interface LeaseSummary {
  role: 'follower' | 'candidate' | 'master';
  /** Term held, stood in, or followed; without any of these the highest known. */
  term: number;
  master: NodeId | null;
  /** Null unless master. */
  leaseUntilMs: number | null;
  /** End of this node's newest grant, which may be past. Null: it never had one since the start. */
  grantUntilMs: number | null;
  /** As a voter; may be past. */
  promise: VoterPromise | null;
  /** Not null: this voter abstains, at least until then and for as long as `answersMissing` others have not told their terms. */
  abstains: { untilMs: number; answersMissing: number } | null;
  /** null: nodes decide. */
  disks: DiskSummary | null;
}

export interface DiskSummary {
  /** null: none is known yet, and all nodes have to agree. */
  set: QuorumSet | null;
  /** Enough of the set's disks answer. */
  quorate: boolean;
  /** Each disk that is looked at; `blocks`: others', as they were last read. */
  disks: { disk: string; answers: boolean; blocks: ReadonlyMap<NodeId, ReadBlock> }[];
}

export function leaseSummary(state: LeaseState): LeaseSummary {
  const { role, master, abstention } = state;
  return {
    role: role.kind,
    term: role.kind === 'follower' ? (master?.term ?? state.knownTerm) : role.term,
    master: master?.node ?? null,
    leaseUntilMs: role.kind === 'master' ? role.leaseUntilMs : null,
    grantUntilMs: state.grantUntilMs,
    promise: state.promise === null ? null : { ...state.promise },
    abstains:
      abstention === null
        ? null
        : {
            untilMs: abstention.untilMs,
            answersMissing: Math.max(0, abstention.answersNeeded - abstention.answered.length),
          },
    disks: diskSummary(state),
  };
}

function diskSummary(state: LeaseState): DiskSummary | null {
  const { disks } = state;
  if (disks === null) return null;
  const blocksOn = (disk: string): ReadonlyMap<NodeId, ReadBlock> =>
    new Map([...(disks.sights.get(disk)?.blocks ?? [])].map(([node, { block }]) => [node, block]));
  return {
    set: disks.set,
    quorate: seesQuorum(state),
    disks: watchedDisks(disks).map((disk) => ({ disk, answers: answers(state, disk), blocks: blocksOn(disk) })),
  };
}

/** The majority's sealed votes for the term this node holds; null if it holds none. */
export function certificate(state: LeaseState): string[] | null {
  return state.role.kind === 'master' ? [...state.role.certificate] : null;
}

/**
 * On the master: this node's BOOTTIME ms after which no grant given to `node`, by it or by a master before it, can be
 * live. Null if this node is not the master: it cannot know.
 *
 * A grant ends R after the node *sent* the ack it answers, on the node's clock; that is before L after the master received
 * it, on the master's. Acks to earlier masters were sent before this one was elected; but where the votes passed over promises, such
 * a holder may have taken acks for L more, until its node has answered this master. It has granted to itself no longer than its lease,
 * which ends with those promises.
 */
export function grantMayLastUntilMs(state: LeaseState, node: NodeId): number | null {
  const { role, config } = state;
  if (role.kind !== 'master') return null;
  const isHolder = role.shutOut.length === 0 || (role.shutOut.length === 1 && role.shutOut[0] === node);
  const followsMs = node === config.self || isHolder ? role.electedMs : role.acks.get(node)?.receivedMs;
  const formerMs = Math.min(followsMs ?? Number.POSITIVE_INFINITY, role.electedMs + config.voterMs);
  const counted = Math.max(role.electedMs, formerMs, role.grantedAckMs.get(node) ?? role.electedMs) + config.voterMs;
  return node === config.self ? Math.max(counted, role.leaseUntilMs) : counted;
}
