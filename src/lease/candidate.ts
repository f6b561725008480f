/** Standing for election. The view proposes the candidate; only stored votes of a majority elect it. */
import type { NodeId } from '../arrays/record.ts';
import type { LeaseMessage } from '../wire/messages.ts';
import { disksDecide, letGo, makeBid, wayIsClear } from './disks.ts';
import { areGone, inTheWay, isGone, isShutOut, shutOutIfAgreed, shutOutNow } from './early.ts';
import type { PassedHolder } from './index.ts';
import { becomeMaster } from './master.ts';
import {
  boundToOthers,
  change,
  isMajority,
  knowTerm,
  listOf,
  lowestEligible,
  note,
  others,
  seen,
  send,
  type Turn,
} from './state.ts';
import { ownTermAfter } from './terms.ts';
import { onVoteRequest, storeVote } from './voter.ts';

export function standIfDue(turn: Turn): void {
  const { state, now } = turn;
  const { config, view, master } = state;
  if (state.role.kind !== 'follower' || state.leaving || state.pendingVote !== null) return;
  const byDisks = disksDecide(state);
  // What it may have promised has run out; which terms it voted in is of no interest to disks.
  if (state.abstention !== null && (!byDisks || now < state.abstention.untilMs)) return;
  if (lowestEligible(view) !== config.self || !areGone(turn, boundToOthers(turn, config.self))) return;
  const { sets } = listOf(config);
  // Who is in no list leads nobody. Without a majority in sight it cannot win; trying would only raise terms.
  if (!sets.every((set) => set.includes(config.self))) return;
  const inSight = view.alive.map(({ node }) => node);
  if (byDisks ? !wayIsClear(state) : !isMajority(config, sets, inSight)) return;
  // A live master is never pre-empted, also by a node that may not yet follow it.
  const isHeard = master !== null && master.node !== config.self && now < master.heardMs + config.voterMs;
  if (isHeard && !isGone(turn, master.node, master.heardMs)) return;
  if (!state.standAtOnce) {
    // Only a lower ID that is still on its way is worth waiting for.
    const lower = config.nodes.filter((node) => node < config.self);
    const settled = now >= state.startedMs + config.settleMs || lower.every((node) => seen(view, node));
    if (!settled || now < state.standNotBeforeMs) return;
  }
  const past = Math.max(state.knownTerm, state.floorTerm, state.vote.term);
  const term = config.disks === undefined ? past + 1 : ownTermAfter(config.self, past);
  change(turn, {
    knownTerm: term,
    standAtOnce: false,
    role: {
      kind: 'candidate',
      term,
      sets,
      sentAtMs: now,
      votes: new Map(),
      shutOut: new Set(),
      willing: new Map(),
      lastAskedMs: now,
    },
  });
  if (byDisks) {
    makeBid(turn, term);
    return;
  }
  askForVotes(turn, others(config));
  voteForItselfIfEnough(turn);
}

/** The lease is counted from the first asking, whenever the answers come. Who has voted is not asked again. */
export function askForVotes(turn: Turn, nodes: readonly NodeId[]): void {
  const { role, config } = turn.state;
  if (role.kind !== 'candidate' || disksDecide(turn.state)) return;
  const { term, sentAtMs } = role;
  const { version: list } = listOf(config);
  const done = shutOutNow(turn);
  const shutOut = done.length === 0 ? {} : { shutOut: done };
  for (const node of nodes) {
    if (role.votes.has(node)) continue;
    send(turn, node, { kind: 'vote-request', term, sentAtMs, list, voterMs: config.voterMs, ...shutOut });
  }
}

/** Most refusals pass: a promise runs out, an abstention ends, the voter sees that the lower node is gone. */
export function askAgainIfDue(turn: Turn): void {
  const { role, config, pendingVote } = turn.state;
  if (role.kind !== 'candidate' || pendingVote !== null || turn.now - role.lastAskedMs < config.renewMs / 2) return;
  change(turn, { role: { ...role, lastAskedMs: turn.now } });
  askForVotes(turn, others(config));
  shutOutIfAgreed(turn);
}

/** Answer to the effect of that name; what was asked for before a newer promise to that node counts no more. */
export function onShutOut(turn: Turn, holder: NodeId, id: number, done: boolean): void {
  const asked = turn.state.shutOuts.get(holder);
  if (asked?.id !== id) return;
  const shutOuts = new Map(turn.state.shutOuts).set(holder, { ...asked, state: done ? 'done' : 'failed' });
  change(turn, { shutOuts });
  const { keptRequest } = turn.state;
  if (keptRequest !== null) {
    change(turn, { keptRequest: null });
    if (done) onVoteRequest(turn, keptRequest.from, keptRequest.request);
  }
  const { role, pendingVote } = turn.state;
  if (!done || role.kind !== 'candidate' || pendingVote !== null) return;
  askForVotes(turn, others(turn.state.config));
  voteForItselfIfEnough(turn);
}

export function onVoteGranted(
  turn: Turn,
  from: NodeId,
  granted: Extract<LeaseMessage, { kind: 'vote-granted' }>,
): void {
  const { role } = turn.state;
  if (role.kind === 'master' && role.term === granted.term && role.requestSentAtMs === granted.echoSentAtMs) {
    if (role.answeredSentAtMs.has(from)) return;
    const answeredSentAtMs = new Map(role.answeredSentAtMs).set(from, granted.echoSentAtMs);
    change(turn, { role: { ...role, answeredSentAtMs } });
    return;
  }
  if (role.kind !== 'candidate' || role.term !== granted.term || role.sentAtMs !== granted.echoSentAtMs) return;
  const passed = granted.shutOut ?? [];
  // What it reads there must be the last word of those: it writes there next.
  if (!passed.every((holder) => isShutOut(turn, holder))) return;
  const votes = new Map(role.votes).set(from, granted.vote);
  change(turn, { role: { ...role, votes, shutOut: new Set([...role.shutOut, ...passed]) } });
  voteForItselfIfEnough(turn);
}

/**
 * The candidate votes last. Refused by the others it has then neither spent its vote nor raised its floor, and can follow
 * a master of an older term at once.
 */
function voteForItselfIfEnough(turn: Turn): void {
  const { role, config, pendingVote } = turn.state;
  if (role.kind !== 'candidate' || disksDecide(turn.state)) return;
  if (pendingVote !== null || !isMajority(config, role.sets, [config.self, ...role.votes.keys()])) return;
  if (inTheWay(turn, config.self).length > 0) return;
  storeVote(turn, role.term, config.self, role.sentAtMs);
}

export function onVoteRefused(
  turn: Turn,
  from: NodeId,
  refused: Extract<LeaseMessage, { kind: 'vote-refused' }>,
): void {
  knowTerm(turn, refused.knownTerm);
  const { role, pendingVote } = turn.state;
  if (role.kind !== 'candidate' || role.term !== refused.term || pendingVote !== null) return;
  if (refused.silent !== undefined) {
    change(turn, { role: { ...role, willing: new Map(role.willing).set(from, refused.silent) } });
    shutOutIfAgreed(turn);
  }
  const termIsSpent = refused.reason === 'stale-term' || refused.reason === 'voted';
  if (!termIsSpent || turn.state.knownTerm < role.term) return;
  giveUpCandidacy(turn, `node ${from} knows term ${refused.knownTerm}`);
  // The next try has a term that this refuser has not seen: no reason to wait.
  if (turn.state.knownTerm >= role.term) change(turn, { standNotBeforeMs: turn.now });
}

export function giveUpCandidacy(turn: Turn, why: string): void {
  const { role, config } = turn.state;
  if (role.kind !== 'candidate') return;
  change(turn, { role: { kind: 'follower' }, standNotBeforeMs: role.sentAtMs + config.candidacyTimeoutMs });
  const support = disksDecide(turn.state) ? 'by disks' : `with ${role.votes.size} votes of others`;
  note(turn, 'CandidacyFailed', `stood in term ${role.term} ${support}: ${why}`);
  letGo(turn);
}

export function timeOutCandidacy(turn: Turn): void {
  const { role, config, pendingVote } = turn.state;
  if (role.kind !== 'candidate' || pendingVote !== null) return;
  if (turn.now >= role.sentAtMs + config.candidacyTimeoutMs) giveUpCandidacy(turn, 'no majority answered in time');
}

/** Its own vote is on disk: the last one missing. */
export function elect(turn: Turn, term: number, sealed: string, passed: readonly PassedHolder[]): void {
  const { role, config } = turn.state;
  if (role.kind !== 'candidate' || role.term !== term) return;
  if (turn.now >= role.sentAtMs + config.holderMs) {
    giveUpCandidacy(turn, 'its own vote came too late');
    return;
  }
  const shutOut = new Set([...role.shutOut, ...passed.map(({ holder }) => holder)]);
  becomeMaster(turn, role, [sealed, ...role.votes.values()], { shutOut: [...shutOut] });
}
