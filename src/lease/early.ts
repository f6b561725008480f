/**
 * Elections that do not wait for the end of a promise (invariant 11), where disks have reservations: who is bound to a silent holder has
 * shut it out of every member instead, itself, and has read them again since. R after it was last heard, so that a holder that lives, and
 * is only cut off, has held its arrays by then and meets no disk that refuses it; L would wait for the slowest clock as well.
 *
 * Why no two masters write. A majority answered the holder's newest renewal that counts, and a majority elects: some voter is in both.
 * It had promised the holder, and its vote passes over that promise by a shut-out of its own that began after it: whatever
 * the holder put on the disks before that renewal, its key too, that voter has seen gone. The holder, whose lease may live on, uses a
 * key only once a majority has answered a renewal that was sent after it was put there (agent/member_keys.ts), and none does any more. What it
 * still decides without a disk is nothing: commits stand on the members first, releases tell only of what all writers have said. The new
 * master shuts it out once more when it is elected, of all members that it knows then, reads them after that, and writes nowhere else
 * before L has passed. Grants that the holder gave are counted with for so much longer (`grantMayLastUntilMs`).
 *
 * Nobody shuts anybody out alone: a candidate first hears from a majority that it has not heard the holder either.
 */
import type { NodeId } from '../arrays/record.ts';
import type { PassedHolder } from './index.ts';
import {
  boundToOthers,
  change,
  isMajority,
  note,
  seen,
  type Turn,
  type VoteRequest,
  type VoterPromise,
} from './state.ts';

/** Between two tries: a disk that did not answer, or a key that came back between. */
const AGAIN_MS = 200;

/** Not heard for R, and not seen: this node would shut it out. */
export function isGone(turn: Turn, node: NodeId, heardMs: number): boolean {
  const { state, now } = turn;
  const { config, view, mayShutOut } = state;
  return mayShutOut && state.disks === null && !seen(view, node) && now >= heardMs + config.holderMs;
}

export function areGone(turn: Turn, bonds: readonly VoterPromise[]): boolean {
  const { voterMs } = turn.state.config;
  return bonds.every(({ holder, untilMs }) => isGone(turn, holder, untilMs - voterMs));
}

export function isShutOut(turn: Turn, holder: NodeId): boolean {
  return turn.state.shutOuts.get(holder)?.state === 'done';
}

/** Whom this node has shut out, since it last promised them anything. */
export function shutOutNow(turn: Turn): NodeId[] {
  return [...turn.state.shutOuts.keys()].filter((holder) => isShutOut(turn, holder));
}

/** Promises to others that still bind: their holders were not shut out, by this node or by the candidate. */
export function inTheWay(turn: Turn, candidate: NodeId, byCandidate: readonly NodeId[] | null = null): VoterPromise[] {
  return boundToOthers(turn, candidate).filter(
    ({ holder }) => !isShutOut(turn, holder) || byCandidate?.includes(holder) === false,
  );
}

/** What a vote for the candidate passes over. */
export function passedFor(turn: Turn, candidate: NodeId): PassedHolder[] {
  return boundToOthers(turn, candidate).map(({ holder, term }) => ({ holder, term }));
}

/** All that this voter is bound to, if it would shut each of them out; else nobody. */
export function wouldShutOut(turn: Turn, candidate: NodeId): NodeId[] {
  const bonds = boundToOthers(turn, candidate);
  return areGone(turn, bonds) ? bonds.map(({ holder }) => holder) : [];
}

/** The voter's part: a majority has agreed, for the candidate has shut them out already. */
export function shutOutIfSilent(turn: Turn, candidate: NodeId, request: VoteRequest): void {
  const asked = wouldShutOut(turn, candidate).filter((holder) => request.shutOut?.includes(holder) === true);
  for (const holder of asked) shutOut(turn, holder);
  if (asked.length > 0) change(turn, { keptRequest: { from: candidate, request } });
}

/** The candidate's part. */
export function shutOutIfAgreed(turn: Turn): void {
  const { role, config } = turn.state;
  if (role.kind !== 'candidate' || turn.state.pendingVote !== null) return;
  if (!isMajority(config, role.sets, [config.self, ...role.votes.keys(), ...role.willing.keys()])) return;
  const own = boundToOthers(turn, config.self);
  if (!areGone(turn, own)) return;
  const holders = new Set([...own.map(({ holder }) => holder), ...[...role.willing.values()].flat()]);
  for (const holder of holders) {
    if (holder === config.self || seen(turn.state.view, holder) || !turn.state.mayShutOut) continue;
    shutOut(turn, holder);
  }
}

function shutOut(turn: Turn, holder: NodeId): void {
  const { shutOuts, lastShutOutId } = turn.state;
  const before = shutOuts.get(holder);
  if (before?.state === 'done' || before?.state === 'asked') return;
  if (before !== undefined && turn.now < before.askedMs + AGAIN_MS) return;
  const id = lastShutOutId + 1;
  const asked = { id, askedMs: turn.now, state: 'asked' } as const;
  change(turn, { lastShutOutId: id, shutOuts: new Map(shutOuts).set(holder, asked) });
  turn.effects.push({ type: 'shut-out', holder, id });
  note(
    turn,
    'ShuttingOut',
    `has not heard node ${holder} for ${turn.state.config.holderMs} ms; takes its keys off the members`,
  );
}
