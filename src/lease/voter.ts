/** The voter in each node: votes, follows renewals, and keeps what it promised (invariants 1, 2 and 4). */
import type { NodeId } from '../arrays/record.ts';
import { compareLists, sameList } from '../roster/list.ts';
import type { LeaseMessage } from '../wire/messages.ts';
import { elect, giveUpCandidacy } from './candidate.ts';
import { disksDecide, onDiskRelease, withSet } from './disks.ts';
import { inTheWay, passedFor, shutOutIfSilent, wouldShutOut } from './early.ts';
import { loseLease } from './master.ts';
import {
  change,
  knowTerm,
  type LeaseState,
  listOf,
  makePromise,
  note,
  type RenewMessage,
  send,
  setMaster,
  type Turn,
  type VoteRequest,
  type VoterPromise,
} from './state.ts';

type Refusal = Extract<LeaseMessage, { kind: 'vote-refused' }>['reason'];

export function onVoteRequest(turn: Turn, from: NodeId, request: VoteRequest): void {
  knowTerm(turn, request.term);
  const refusal = isListRefused(turn, request) ? 'list' : whyRefuse(turn, from, request);
  if (refusal !== null) {
    const { knownTerm } = turn.state;
    const silent = refusal === 'promised' ? wouldShutOut(turn, from) : [];
    const willing = silent.length > 0 ? { silent } : {};
    send(turn, from, { kind: 'vote-refused', term: request.term, reason: refusal, knownTerm, ...willing });
    if (refusal === 'promised') shutOutIfSilent(turn, from, request);
    note(turn, 'VoteRefused', `no vote for node ${from} in term ${request.term}: ${refusal}`);
    return;
  }
  const { pendingVote, vote } = turn.state;
  if (pendingVote !== null) return; // The same vote is being stored already: whyRefuse let it pass for that.
  if (turn.state.role.kind === 'candidate') {
    giveUpCandidacy(turn, `node ${from} stands too, and goes before`);
  }
  if (vote.term === request.term && vote.candidate === from && vote.sealed !== null) {
    promiseAndVote(turn, from, request.term, request.sentAtMs, vote.sealed);
    return;
  }
  storeVote(turn, request.term, from, request.sentAtMs);
}

function whyRefuse(turn: Turn, candidate: NodeId, { term, shutOut = [] }: VoteRequest): Refusal | null {
  const { abstention, floorTerm, releasedTerm, vote, pendingVote, view } = turn.state;
  // Who knows a quorum set votes no more: so nobody holds a lease by votes beside one by disks.
  if (abstention !== null || disksDecide(turn.state)) return 'abstaining';
  const again = term === vote.term && candidate === vote.candidate;
  if (term === vote.term && !again) return 'voted';
  if (term < vote.term || term < floorTerm || (term === floorTerm && !again)) return 'stale-term';
  // Its holder was elected by others, and has released it since: this vote would bind to nobody's lease.
  if (term <= releasedTerm) return 'stale-term';
  if (inTheWay(turn, candidate, shutOut).length > 0) return 'promised';
  if (pendingVote !== null && (pendingVote.term !== term || pendingVote.candidate !== candidate)) {
    return pendingVote.term === term ? 'voted' : 'promised';
  }
  if (view.alive.some((each) => each.eligible && each.node < candidate)) return 'lower-alive';
  return null;
}

/** Invariant 6. */
function isListRefused(turn: Turn, { list, voterMs }: VoteRequest): boolean {
  const { config } = turn.state;
  const { version } = listOf(config);
  const order = compareLists(list, version);
  return order < 0 || (order === 0 && !sameList(list, version)) || voterMs > config.voterMs;
}

export function storeVote(turn: Turn, term: number, candidate: NodeId, theirSentAtMs: number | null): void {
  store(turn, { term, candidate, theirSentAtMs, shutOut: passedFor(turn, candidate), renew: null }, true);
}

function store(turn: Turn, pendingVote: NonNullable<LeaseState['pendingVote']>, seals: boolean): void {
  const { term, candidate, shutOut } = pendingVote;
  change(turn, { pendingVote });
  const stored = withSet(turn.state, { term, candidate, promise: null });
  turn.effects.push({ type: 'store-vote', vote: stored, shutOut: seals ? shutOut : null });
}

/** Invariant 1: only here, with the vote on disk, may it leave. Nothing else was promised while the disk was writing. */
export function onVoteStored(turn: Turn, term: number, candidate: NodeId, sealed: string | null): void {
  const pending = turn.state.pendingVote;
  if (pending === null || pending.term !== term || pending.candidate !== candidate) return;
  change(turn, { pendingVote: null, proofOnDisk: false, vote: { term, candidate, sealed, shutOut: pending.shutOut } });
  knowTerm(turn, term);
  if (sealed === null) {
    // Its file alone was to lose the proof: the vote was given before.
  } else if (candidate === turn.state.config.self) {
    elect(turn, term, sealed, pending.shutOut);
  } else if (pending.theirSentAtMs !== null && term > turn.state.releasedTerm) {
    promiseAndVote(turn, candidate, term, pending.theirSentAtMs, sealed);
  }
  if (pending.renew !== null) onRenew(turn, pending.renew.from, pending.renew.message);
}

/**
 * It is not given, and this node is free again to follow, to vote and to stand. The renewal that came meanwhile is not looked at: it
 * might ask for the same disk at once, and the next one comes soon.
 */
export function onVoteNotStored(turn: Turn, term: number, candidate: NodeId): void {
  const { pendingVote, config } = turn.state;
  if (pendingVote === null || pendingVote.term !== term || pendingVote.candidate !== candidate) return;
  change(turn, { pendingVote: null });
  if (candidate === config.self) giveUpCandidacy(turn, 'its own vote could not be stored');
}

function promiseAndVote(turn: Turn, candidate: NodeId, term: number, theirSentAtMs: number, sealed: string): void {
  const { master, vote } = turn.state;
  makePromise(turn, candidate, term);
  if (master !== null && master.term < term) setMaster(turn, null);
  const shutOut = vote.shutOut.length === 0 ? {} : { shutOut: vote.shutOut.map(({ holder }) => holder) };
  send(turn, candidate, { kind: 'vote-granted', term, echoSentAtMs: theirSentAtMs, vote: sealed, ...shutOut });
}

export function onRenew(turn: Turn, from: NodeId, renew: RenewMessage): void {
  const { config } = turn.state;
  knowTerm(turn, renew.term);
  const { vote, floorTerm, releasedTerm, pendingVote } = turn.state;
  const votedTerm = vote.candidate === null ? 0 : vote.term;
  if (renew.term < votedTerm || renew.term < floorTerm || renew.term <= releasedTerm) {
    send(turn, from, { kind: 'stale-term', knownTerm: turn.state.knownTerm });
    return;
  }
  if (turn.state.role.kind === 'master') {
    if (renew.term <= turn.state.role.term) return;
    loseLease(turn, `node ${from} holds the later term ${renew.term}`);
  }
  if (pendingVote !== null) {
    change(turn, { pendingVote: { ...pendingVote, renew: { from, message: renew } } });
    return;
  }
  if (turn.state.role.kind === 'candidate') giveUpCandidacy(turn, `node ${from} leads in term ${renew.term}`);
  setMaster(turn, { node: from, term: renew.term, heardMs: turn.now });
  const isBound = inTheWay(turn, from).length > 0;
  if (isBound || turn.state.abstention !== null || renew.voterMs > config.voterMs) {
    // A grant rests on the holder's lease, not on this voter's promise: only the promise has to wait (invariants 2, 5 and 6).
    takeGrant(turn, renew);
    noteAck(turn, renew.term);
    send(turn, from, { kind: 'follow', term: renew.term, sentAtMs: turn.now });
    return;
  }
  if (turn.state.proofOnDisk) {
    const later = { theirSentAtMs: null, renew: { from, message: renew } };
    // To follow the winner of a term is recorded as a vote for it, unless the vote of that term was given to a loser.
    const [term, loser] = [renew.term, vote.term === renew.term && vote.candidate !== from ? vote.candidate : null];
    // Also what it passes over, be it that the vote elects nobody any more.
    if (loser === null) store(turn, { term, candidate: from, shutOut: passedFor(turn, from), ...later }, true);
    else store(turn, { term, candidate: loser, shutOut: vote.shutOut, ...later }, false);
    return;
  }
  takeGrant(turn, renew);
  change(turn, { standAtOnce: false });
  makePromise(turn, from, renew.term);
  noteAck(turn, renew.term);
  send(turn, from, { kind: 'renew-ack', term: renew.term, echoSentAtMs: renew.sentAtMs, sentAtMs: turn.now });
}

function noteAck(turn: Turn, term: number): void {
  const { config, acksSentMs } = turn.state;
  const recent = acksSentMs.filter((sentMs) => turn.now - sentMs < config.holderMs);
  change(turn, { floorTerm: term, acksSentMs: [...recent, turn.now] });
}

/** Invariant 4. An echo of another start of this agent, perhaps on another boot's clock, is none of `acksSentMs`. */
function takeGrant(turn: Turn, renew: RenewMessage): void {
  const { config, acksSentMs } = turn.state;
  if (!renew.grant || renew.echoAckSentAtMs === null || !acksSentMs.includes(renew.echoAckSentAtMs)) return;
  extendGrant(turn, renew.term, renew.echoAckSentAtMs + Math.min(config.holderMs, renew.holderMs));
}

export function extendGrant(turn: Turn, term: number, untilMs: number): void {
  const { grantUntilMs } = turn.state;
  if (untilMs <= turn.now || (grantUntilMs !== null && untilMs <= grantUntilMs)) return;
  change(turn, { grantUntilMs: untilMs });
  turn.effects.push({ type: 'grant', term, untilMs });
}

/** The holder has said, signed, that its lease of this term is over: what was promised for that term, or before, is free. */
export function onRelease(
  turn: Turn,
  release: { holder: NodeId; term: number; to: NodeId | null },
  sealed: string,
): void {
  const { config, promise, passed, master, releasedTerm } = turn.state;
  if (release.holder === config.self || release.term <= releasedTerm) return;
  knowTerm(turn, release.term);
  change(turn, { releasedTerm: release.term });
  onDiskRelease(turn, release.holder, release.term);
  const isFree = ({ holder, term }: VoterPromise): boolean => holder === release.holder && term <= release.term;
  change(turn, { passed: passed.filter((each) => !isFree(each)) });
  if (promise !== null && isFree(promise)) change(turn, { promise: null });
  if (master !== null && master.node === release.holder && master.term <= release.term) setMaster(turn, null);
  if (release.to !== config.self) return;
  change(turn, { standAtOnce: true });
  // On each stream the release then arrives before the vote request that needs it.
  for (const node of config.nodes) {
    if (node !== config.self && node !== release.holder) send(turn, node, { kind: 'released', event: sealed });
  }
}
