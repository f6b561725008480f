/**
 * What the lease rests on, looked at whenever it changes on any node: promises, votes, vote files and guards of all, in the
 * cluster's own time. A lease that nobody else happens to take is still one too many if nothing binds its voters.
 */
import type { NodeId } from '#src/arrays/record.ts';
import { grantMayLastUntilMs, type LeaseState } from '#src/lease/index.ts';
import type { Event } from '#src/wire/messages.ts';
import { isShutOut } from './checkers.ts';
import type { SimCluster } from './cluster.ts';
import { leaseStandsOnDisks } from './disk_leases.ts';

/** Clocks are read by division. */
const ROUNDING_MS = 0.01;

type Judge = (checker: { name: string }, text: string | null) => void;

/**
 * The induction under `atMostOneMaster`: for as long as a lease lives, by its holder's clock, a majority of the list is bound to
 * that holder, each by its own clock; or the disks have shut it out. A voter that is down is bound: it abstains when it starts, or goes by its file.
 */
export function leaseIsPromised(cluster: SimCluster, holder: NodeId): string | null {
  if (isShutOut(cluster, holder)) return null;
  const untilMs = cluster.clusterMs(holder, cluster.driver(holder).guard.state().leaseUntilMs);
  const bound = cluster.nodes.filter((voter) => boundUntilMs(cluster, voter, holder) >= untilMs - ROUNDING_MS);
  if (bound.length > cluster.nodes.length / 2) return null;
  const leftMs = (untilMs - cluster.time.clock()).toFixed(1);
  return `node ${holder} has a lease for ${leftMs} ms more, to which nodes ${bound.join(' ') || 'none'} are bound for as long`;
}

/** In the cluster's time; -Infinity: it is not, as far as it knows. */
function boundUntilMs(cluster: SimCluster, voter: NodeId, holder: NodeId): number {
  const agent = cluster.agent(voter);
  if (agent !== null) {
    const { promise, abstention } = agent.lease;
    if (abstention !== null) return cluster.clusterMs(voter, abstention.untilMs);
    return promise?.holder === holder ? cluster.clusterMs(voter, promise.untilMs) : Number.NEGATIVE_INFINITY;
  }
  const proof = cluster.storedVote(voter)?.promise ?? null;
  // That nothing was promised is so on any boot; until when something was, only on the boot by whose clock it was. It abstains else.
  const isThisBoot = cluster.isUp(voter) && proof?.kernelBoot === cluster.driver(voter).kernelBoot();
  if (proof === null || (proof.holder !== null && !isThisBoot)) return Number.POSITIVE_INFINITY;
  return proof.holder === holder ? cluster.clusterMs(voter, proof.untilMs) : Number.NEGATIVE_INFINITY;
}

/** The guard lets no metadata pass for a node whose core does not lead, nor for longer than that core knows of. */
export function leaseOnlyWhileLeading(cluster: SimCluster, node: NodeId, { role }: LeaseState): string | null {
  const { guard } = cluster.driver(node);
  if (!guard.leaseLive) return null;
  if (role.kind !== 'master') return `node ${node} leads no more, and its guard would let it write metadata`;
  const { leaseUntilMs } = guard.state();
  if (leaseUntilMs <= role.leaseUntilMs + ROUNDING_MS) return null;
  return `the guard of node ${node} counts on a lease until ${leaseUntilMs.toFixed(1)}, its core until ${role.leaseUntilMs.toFixed(1)}`;
}

/** A grant at a guard ends no later than whoever leads counts with: else it would be evicted while it writes. */
export function grantEndsAsCounted(cluster: SimCluster, node: NodeId): string | null {
  const { guard } = cluster.driver(node);
  if (!guard.grantLive) return null;
  const untilMs = cluster.clusterMs(node, guard.state().grantUntilMs);
  for (const leader of cluster.up()) {
    // Whoever is shut out evicts nobody.
    const leads = cluster.driver(leader).guard.leaseLive && !isShutOut(cluster, leader);
    const lease = leads ? cluster.agent(leader)?.lease : undefined;
    const countedMs = lease === undefined ? null : grantMayLastUntilMs(lease, node);
    if (countedMs === null) continue;
    const counted = cluster.clusterMs(leader, countedMs);
    if (untilMs <= counted + ROUNDING_MS) continue;
    return `the grant of node ${node} lives ${(untilMs - counted).toFixed(1)} ms longer than the master, node ${leader}, counts with`;
  }
  return null;
}

/** No promise binds for longer than L. */
export function promisesEnd(cluster: SimCluster, node: NodeId, { promise, config }: LeaseState): string | null {
  const leftMs = (promise?.untilMs ?? 0) - cluster.driver(node).now();
  if (leftMs <= config.voterMs + ROUNDING_MS) return null;
  return `node ${node} is bound to node ${promise?.holder} for ${leftMs.toFixed(0)} ms more; L is ${config.voterMs} ms`;
}

/** In one life of an agent promises never go back to an older term. */
export function termsOnlyGrow(node: NodeId, { promise }: LeaseState, newest: number): string | null {
  if (promise === null || promise.term >= newest) return null;
  return `node ${node} promises in term ${promise.term} of node ${promise.holder}, after term ${newest}`;
}

/** Nobody is bound to a lease of which it knows that its holder has released it. */
export function releasedBindsNobody(
  cluster: SimCluster,
  node: NodeId,
  { promise, releasedTerm }: LeaseState,
  releases: ReadonlyMap<number, NodeId>,
): string | null {
  if (promise === null || promise.term !== releasedTerm || releases.get(releasedTerm) !== promise.holder) return null;
  if (promise.untilMs <= cluster.driver(node).now()) return null;
  return `node ${node} is bound to node ${promise.holder} in term ${promise.term}, which that node has released`;
}

/** What the vote file proves to the next start is no less than what is promised now. */
export function fileProvesNoLess(cluster: SimCluster, node: NodeId, { promise, disks }: LeaseState): string | null {
  // Votes nobody asks it for any more: its word stands on the disks.
  if (disks?.set != null) return null;
  const proof = cluster.storedVote(node)?.promise ?? null;
  const driver = cluster.driver(node);
  if (promise === null || proof === null || promise.untilMs <= driver.now()) return null;
  if (proof.holder !== null && proof.kernelBoot !== driver.kernelBoot()) return null;
  if (proof.holder === promise.holder && proof.untilMs >= promise.untilMs - ROUNDING_MS) return null;
  const proven = proof.holder === null ? 'nothing' : `node ${proof.holder} until ${proof.untilMs.toFixed(1)}`;
  return `node ${node} is bound to node ${promise.holder} until ${promise.untilMs.toFixed(1)}, and its vote file proves that it promised ${proven}`;
}

/** A term has one holder. */
export function oneHolderATerm(node: NodeId, { role }: LeaseState, holders: Map<number, NodeId>): string | null {
  if (role.kind !== 'master') return null;
  const before = holders.get(role.term);
  holders.set(role.term, node);
  return before === undefined || before === node
    ? null
    : `node ${node} leads in term ${role.term}, as node ${before} did`;
}

/** A voter gives one vote a term. @param given what it gave before */
export function oneVoteATerm(event: Event, given: Map<number, NodeId>): string | null {
  const { body, origin } = event;
  if (body.type !== 'vote') return null;
  const before = given.get(body.term);
  given.set(body.term, body.candidate);
  return before === undefined || before === body.candidate
    ? null
    : `node ${origin} votes for node ${body.candidate} in term ${body.term}, in which it voted for node ${before}`;
}

/** A vote leaves the node only when it is on its disk. */
export function votesAreStored(cluster: SimCluster, { body, origin }: Event): string | null {
  if (body.type !== 'vote') return null;
  const stored = cluster.storedVote(origin);
  if (stored?.term === body.term && stored.candidate === body.candidate) return null;
  return `node ${origin} votes for node ${body.candidate} in term ${body.term}; on its disk stands ${stored === null ? 'no vote' : `term ${stored.term}`}`;
}

/** No vote for one while a promise to another runs, unless it says that it passes over that, and the disks have shut that one out. */
export function votesKeepPromises(cluster: SimCluster, { body, origin }: Event): string | null {
  const promise = cluster.agent(origin)?.lease.promise ?? null;
  if (body.type !== 'vote' || promise === null || promise.holder === body.candidate) return null;
  const leftMs = promise.untilMs - cluster.driver(origin).now();
  const isPassed =
    body.shutOut?.some(({ holder, term }) => holder === promise.holder && term === promise.term) === true;
  return leftMs <= 0 || (isPassed && isShutOut(cluster, promise.holder))
    ? null
    : `node ${origin} votes for node ${body.candidate} in term ${body.term}, bound to node ${promise.holder} for ${leftMs.toFixed(0)} ms more`;
}

/** Whoever releases a lease has it no more. */
export function releasedIsOver(cluster: SimCluster, { body, origin }: Event): string | null {
  if (body.type !== 'lease-release' || !cluster.driver(origin).guard.leaseLive) return null;
  return `node ${origin} says that it has released term ${body.term}, and its lease lives`;
}

/** Of one node, as it was when it was last looked at. */
interface Seen {
  lease: LeaseState | null;
  leaseUntilMs: number;
  grantUntilMs: number;
  /** Newest term in which this life of the agent has promised. */
  term: number;
}

export class LeaseWatch {
  readonly #cluster: SimCluster;
  readonly #judge: Judge;
  readonly #seen = new Map<NodeId, Seen>();
  readonly #given = new Map<NodeId, Map<number, NodeId>>();
  readonly #holders = new Map<number, NodeId>();
  readonly #releases = new Map<number, NodeId>();

  constructor(cluster: SimCluster, judge: Judge) {
    this.#cluster = cluster;
    this.#judge = judge;
  }

  /** A new life. */
  agentStarts(node: NodeId): void {
    this.#seen.delete(node);
  }

  /** A node seals something of its own. */
  sealed(event: Event): void {
    const { origin, body } = event;
    const given = this.#given.get(origin) ?? new Map<number, NodeId>();
    this.#given.set(origin, given);
    if (body.type === 'lease-release') this.#releases.set(body.term, origin);
    this.#judge(oneVoteATerm, oneVoteATerm(event, given));
    // Its journal was full as it was sealed, and others have it: it says nothing of what its origin is bound to by now.
    if (event.bootNumber !== this.#cluster.agent(origin)?.parts.boot.bootNumber) return;
    this.#judge(releasedIsOver, releasedIsOver(this.#cluster, event));
    this.#judge(votesAreStored, votesAreStored(this.#cluster, event));
    this.#judge(votesKeepPromises, votesKeepPromises(this.#cluster, event));
  }

  /** After every step of the simulation; costs something only where something has changed. */
  look(): void {
    let changed = false;
    for (const node of this.#cluster.nodes) if (this.#hasChanged(node)) changed = true;
    if (!changed) return;
    for (const node of this.#cluster.up()) {
      const lease = this.#cluster.agent(node)?.lease;
      if (this.#cluster.driver(node).guard.leaseLive) {
        const ownWord = lease === undefined ? null : leaseStandsOnDisks(this.#cluster, node, lease);
        if (ownWord === null) this.#judge(leaseIsPromised, leaseIsPromised(this.#cluster, node));
        else this.#judge(leaseStandsOnDisks, ownWord.trouble);
      }
      this.#judge(grantEndsAsCounted, grantEndsAsCounted(this.#cluster, node));
    }
  }

  #hasChanged(node: NodeId): boolean {
    const cluster = this.#cluster;
    const lease = cluster.agent(node)?.lease ?? null;
    const { leaseUntilMs, grantUntilMs } = cluster.driver(node).guard;
    const before = this.#seen.get(node);
    if (before?.lease === lease && before.leaseUntilMs === leaseUntilMs && before.grantUntilMs === grantUntilMs)
      return false;
    const term = before?.term ?? 0;
    if (lease !== null) {
      this.#judge(leaseOnlyWhileLeading, leaseOnlyWhileLeading(cluster, node, lease));
      if (lease.promise !== before?.lease?.promise) {
        this.#judge(promisesEnd, promisesEnd(cluster, node, lease));
        this.#judge(termsOnlyGrow, termsOnlyGrow(node, lease, term));
        this.#judge(releasedBindsNobody, releasedBindsNobody(cluster, node, lease, this.#releases));
        this.#judge(fileProvesNoLess, fileProvesNoLess(cluster, node, lease));
      }
      if (lease.role !== before?.lease?.role) this.#judge(oneHolderATerm, oneHolderATerm(node, lease, this.#holders));
    }
    this.#seen.set(node, { lease, leaseUntilMs, grantUntilMs, term: Math.max(term, lease?.promise?.term ?? 0) });
    return true;
  }
}
