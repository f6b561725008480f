/** Starting and stopping: what the vote file proves, and what a voter must wait for when it proves nothing (invariant 5). */
import { disksStart, withSet } from './disks.ts';
import type { LeaseConfig, LeaseStart, StoredVote } from './index.ts';
import {
  type Abstention,
  change,
  type LeaseState,
  listOf,
  majority,
  note,
  others,
  send,
  type Turn,
  type VoterPromise,
} from './state.ts';

const TERM_QUERY_EVERY_MS = 1000;

/**
 * Throws on timings that cannot be safe.
 *
 * The file of an orderly stop says what was promised then: nothing, which holds on any boot of the kernel, or something until
 * a time of that boot, which is taken up again as it stood. Any other start abstains for L: whatever was promised has run
 * out then.
 */
export function leaseStart(config: LeaseConfig, start: LeaseStart, now: number): LeaseState {
  if (config.holderMs >= config.voterMs) {
    throw new Error(
      `lease: holderMs ${config.holderMs} ≥ voterMs ${config.voterMs}; a voter must wait longer than a holder holds`,
    );
  }
  if (!config.nodes.includes(config.self) || new Set(config.nodes).size !== config.nodes.length) {
    throw new Error(
      `lease: node ${config.self} with node list ${config.nodes.join(', ')}; list each node once, self included`,
    );
  }
  const { vote } = start;
  const proof = proves(vote?.promise ?? null, start.kernelBoot) ? (vote?.promise ?? null) : null;
  const term = vote?.term ?? 0;
  return {
    config,
    startedMs: now,
    lastNowMs: now,
    view: { alive: [] },
    knownTerm: Math.max(term, start.termFloor ?? 0, vote?.set?.version.term ?? 0),
    floorTerm: 0,
    vote: { term, candidate: vote?.candidate ?? null, sealed: null, shutOut: [] },
    pendingVote: null,
    proofOnDisk: proof !== null,
    promise: takenUp(proof, term, now),
    passed: [],
    mayShutOut: false,
    shutOuts: new Map(),
    lastShutOutId: 0,
    keptRequest: null,
    releasedTerm: 0,
    listBehind: false,
    abstention: proof !== null ? null : abstention(config, vote, now),
    role: { kind: 'follower' },
    master: null,
    standNotBeforeMs: now,
    standAtOnce: false,
    leaving: false,
    lastHeldTerm: 0,
    grantable: [],
    grantUntilMs: null,
    acksSentMs: [],
    disks: config.disks === undefined ? null : disksStart(config.disks.boot, vote?.set ?? null),
  };
}

/** That nothing was promised holds on any boot; until when something was, only on the boot whose clock it was read from. */
function proves(promise: StoredVote['promise'], kernelBoot: string): boolean {
  return promise !== null && (promise.holder === null || promise.kernelBoot === kernelBoot);
}

function takenUp(proof: StoredVote['promise'], term: number, now: number): VoterPromise | null {
  return proof !== null && proof.holder !== null && proof.untilMs > now
    ? { holder: proof.holder, term, untilMs: proof.untilMs }
    : null;
}

/**
 * A lost file forgot in which terms this node voted. A master of such a term was elected by this node and majority − 1
 * others. Of the N − 1 others at most N − majority did not vote for it, so one more than that, asked, must include a node
 * that knows the term. They are asked only after L: until then an old vote of this node may still be completing a
 * majority whose other voters know nothing of the term yet.
 */
function abstention(config: LeaseConfig, vote: StoredVote | null, now: number): Abstention {
  const untilMs = now + config.voterMs;
  const needed = listOf(config).sets.map((set) => Math.min(set.length - 1, set.length - majority(config, set) + 1));
  const answersNeeded = vote !== null ? 0 : Math.max(...needed);
  return { untilMs, answersNeeded, answered: [], nextQueryMs: untilMs };
}

export function abstain(turn: Turn): void {
  const { abstention, config } = turn.state;
  if (abstention === null || turn.now < abstention.untilMs) return;
  // A list that was lost with the votes may be one of those that count: until it is here again, there is no vote.
  if (abstention.answersNeeded > 0 && turn.state.listBehind) return;
  if (abstention.answered.length >= abstention.answersNeeded) {
    const { vote, knownTerm } = turn.state;
    const forgotten = abstention.answersNeeded > 0 && vote.term < knownTerm;
    change(turn, {
      abstention: null,
      vote: forgotten ? { term: knownTerm, candidate: null, sealed: null, shutOut: [] } : vote,
    });
    note(turn, 'VoterReady', `abstained since the start; votes again in terms after ${turn.state.vote.term}`);
    return;
  }
  if (turn.now < abstention.nextQueryMs) return;
  change(turn, { abstention: { ...abstention, nextQueryMs: turn.now + TERM_QUERY_EVERY_MS } });
  for (const node of others(config)) send(turn, node, { kind: 'term-query' });
}

export function onTermAnswer(turn: Turn, from: number): void {
  const { abstention } = turn.state;
  if (abstention === null || turn.now < abstention.untilMs || abstention.nextQueryMs === abstention.untilMs) return;
  if (abstention.answered.includes(from)) return;
  change(turn, { abstention: { ...abstention, answered: [...abstention.answered, from] } });
  abstain(turn);
}

/**
 * What an orderly stop writes to the vote file, as its last act: no step may follow. Null: leave the file as it is (it was
 * lost, and this node has not learned enough to vouch for a new one).
 */
export function storedVoteForStop(state: LeaseState, kernelBoot: string, now: number): StoredVote | null {
  const { vote, pendingVote, floorTerm, promise, abstention } = state;
  if (abstention !== null) {
    if (abstention.answersNeeded > 0) return null;
    return withSet(state, { term: vote.term, candidate: vote.candidate, promise: null });
  }
  const live = promise !== null && promise.untilMs > now ? promise : null;
  const untilMs = live?.untilMs ?? now;
  // The file tells of one promise: with more of them it proves nothing, and the next start abstains.
  const isWhole = state.passed.every((each) => each.untilMs <= now);
  const written = { promise: isWhole ? { holder: live?.holder ?? null, untilMs, kernelBoot } : null };
  // A pending vote may be on the disk already: the file never goes back.
  const last = pendingVote !== null && pendingVote.term >= vote.term ? pendingVote : vote;
  if (floorTerm > last.term) return withSet(state, { term: floorTerm, candidate: null, ...written });
  return withSet(state, { term: last.term, candidate: last.candidate, ...written });
}
