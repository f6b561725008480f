/** The holder of the lease: renews it, hands out grants, gives it away or loses it (invariants 3 and 4). */
import type { NodeId } from '../arrays/record.ts';
import type { LeaseMessage } from '../wire/messages.ts';
import { disksDecide, heldSinceMs, holdOn, letGo } from './disks.ts';
import {
  type Candidate,
  change,
  lowestEligible,
  type Master,
  majority,
  makePromise,
  note,
  others,
  send,
  setMaster,
  type Turn,
} from './state.ts';
import { extendGrant } from './voter.ts';

export function becomeMaster(
  turn: Turn,
  candidate: Candidate,
  certificate: readonly string[],
  { shutOut = [], lapsed = [] }: { shutOut?: readonly NodeId[]; lapsed?: readonly NodeId[] } = {},
): void {
  const { now } = turn;
  const { config } = turn.state;
  const { term, sets, sentAtMs } = candidate;
  const leaseUntilMs = sentAtMs + config.holderMs;
  makePromise(turn, config.self, term);
  change(turn, {
    floorTerm: term,
    lastHeldTerm: term,
    grantable: [],
    role: {
      kind: 'master',
      term,
      sets,
      certificate,
      shutOut,
      electedMs: now,
      requestSentAtMs: sentAtMs,
      leaseSinceMs: sentAtMs,
      leaseUntilMs,
      lastRenewMs: now,
      answeredSentAtMs: new Map([...candidate.votes.keys()].map((node) => [node, sentAtMs])),
      acks: new Map(),
      grantedAckMs: new Map(),
      lowerSinceMs: new Map(),
      handOverAskedMs: null,
      releasing: false,
    },
  });
  turn.effects.push({ type: 'elected', term, certificate: [...certificate], untilMs: leaseUntilMs, shutOut, lapsed });
  setMaster(turn, { node: config.self, term, heardMs: now });
  watchLowerNodes(turn);
  renewAll(turn);
}

export function renewIfDue(turn: Turn): void {
  const { role, config } = turn.state;
  if (role.kind === 'master' && turn.now - role.lastRenewMs >= config.renewMs) renewAll(turn);
}

function renewAll(turn: Turn): void {
  const { role, config } = turn.state;
  if (role.kind !== 'master') return;
  change(turn, { role: { ...role, lastRenewMs: turn.now } });
  for (const node of others(config)) renew(turn, node);
  holdOn(turn);
  extendLease(turn);
}

/** Who appears learns at once whom to follow. */
export function renewWhoAppeared(turn: Turn, appeared: readonly NodeId[]): void {
  for (const node of appeared) renew(turn, node);
}

function renew(turn: Turn, node: NodeId): void {
  const { role, grantable, config } = turn.state;
  if (role.kind !== 'master') return;
  const ack = role.acks.get(node);
  const grant = grantable.includes(node);
  if (grant && ack !== undefined) {
    change(turn, { role: { ...role, grantedAckMs: new Map(role.grantedAckMs).set(node, ack.receivedMs) } });
  }
  send(turn, node, {
    kind: 'renew',
    term: role.term,
    sentAtMs: turn.now,
    echoAckSentAtMs: ack?.theirSentAtMs ?? null,
    grant,
    certificate: [...role.certificate],
    holderMs: config.holderMs,
    voterMs: config.voterMs,
  });
}

export function onRenewAck(turn: Turn, from: NodeId, ack: Extract<LeaseMessage, { kind: 'renew-ack' }>): void {
  const { role } = turn.state;
  if (role.kind !== 'master' || role.term !== ack.term) return;
  if (ack.echoSentAtMs > turn.now || ack.echoSentAtMs < role.requestSentAtMs) return;
  const newest = Math.max(ack.echoSentAtMs, role.answeredSentAtMs.get(from) ?? ack.echoSentAtMs);
  change(turn, { role: { ...role, answeredSentAtMs: new Map(role.answeredSentAtMs).set(from, newest) } });
  extendLease(turn);
  grantOnAck(turn, from, ack.sentAtMs);
}

function grantOnAck(turn: Turn, from: NodeId, theirSentAtMs: number): void {
  const { role, config, grantable } = turn.state;
  if (role.kind !== 'master') return;
  const grantedAckMs = role.grantedAckMs.get(from);
  const lacksGrant = grantedAckMs === undefined || turn.now - grantedAckMs > config.holderMs;
  // As one whose agent has handed over to another just now: the grant that it still has may be about to end.
  const heardMs = role.acks.get(from)?.receivedMs ?? Number.NEGATIVE_INFINITY;
  const wasQuiet = turn.now - heardMs > 2 * config.renewMs;
  change(turn, {
    role: { ...role, acks: new Map(role.acks).set(from, { theirSentAtMs, receivedMs: turn.now }) },
  });
  // A grant thus takes two round trips, not a renewal interval.
  if (grantable.includes(from) && (lacksGrant || wasQuiet)) renew(turn, from);
}

/** Its grant counts from there as from any ack. Its voice does not: it may have promised another, and not know (invariant 5). */
export function onFollow(turn: Turn, from: NodeId, follow: Extract<LeaseMessage, { kind: 'follow' }>): void {
  const { role } = turn.state;
  if (role.kind !== 'master' || role.term !== follow.term) return;
  grantOnAck(turn, from, follow.sentAtMs);
}

/** Invariant 3: the newest sending that a majority (of each list that counts), this node included, has answered. */
function answeredSinceMs(turn: Turn, role: Master): number | null {
  const { config } = turn.state;
  const each = role.sets.map((set) => {
    const times = set.map((node) => (node === config.self ? turn.now : role.answeredSentAtMs.get(node)));
    const newestFirst = times.filter((time) => time !== undefined).sort((a, b) => b - a);
    return newestFirst[majority(config, set) - 1] ?? Number.NEGATIVE_INFINITY;
  });
  const sinceMs = Math.min(...each);
  return sinceMs === Number.NEGATIVE_INFINITY ? null : sinceMs;
}

/** Others may have elected the next master as soon as they have read the release: until it is out nothing may be written again. */
export function onReleasing(turn: Turn, term: number): void {
  const { role } = turn.state;
  if (role.kind === 'master' && role.term === term) change(turn, { role: { ...role, releasing: true } });
}

/** To R after what its lease rests on: invariant 3 or 9. */
export function extendLease(turn: Turn): void {
  const { role, config } = turn.state;
  if (role.kind !== 'master' || role.releasing) return;
  const sinceMs = disksDecide(turn.state) ? heldSinceMs(turn.state) : answeredSinceMs(turn, role);
  if (sinceMs === null) return;
  const leaseUntilMs = sinceMs + config.holderMs;
  if (leaseUntilMs <= role.leaseUntilMs) return;
  change(turn, { role: { ...role, leaseSinceMs: sinceMs, leaseUntilMs } });
  makePromise(turn, config.self, role.term);
  turn.effects.push({ type: 'lease-extended', term: role.term, untilMs: leaseUntilMs });
  grantItself(turn);
}

function grantItself(turn: Turn): void {
  const { role, config, grantable } = turn.state;
  if (role.kind === 'master' && grantable.includes(config.self)) extendGrant(turn, role.term, role.leaseUntilMs);
}

export function onGrantable(turn: Turn, nodes: readonly NodeId[]): void {
  const before = turn.state.grantable;
  const { role } = turn.state;
  change(turn, { grantable: [...nodes] });
  if (role.kind !== 'master') return;
  grantItself(turn);
  for (const node of others(turn.state.config)) {
    if (nodes.includes(node) !== before.includes(node)) renew(turn, node);
  }
}

export function watchLowerNodes(turn: Turn): void {
  const { role, config, view } = turn.state;
  if (role.kind !== 'master') return;
  const lower = view.alive.filter((each) => each.eligible && each.node < config.self);
  const lowerSinceMs = new Map(lower.map(({ node }) => [node, role.lowerSinceMs.get(node) ?? turn.now]));
  change(turn, { role: { ...role, lowerSinceMs } });
}

export function handOverIfDue(turn: Turn): void {
  const { role, config, view } = turn.state;
  if (role.kind !== 'master') return;
  const to = lowestEligible(view);
  const sinceMs = to === null ? undefined : role.lowerSinceMs.get(to);
  if (to === null || sinceMs === undefined || turn.now - sinceMs < config.failbackAfterMs) return;
  // An agent that could not release is asked again, not hurried.
  if (role.handOverAskedMs !== null && turn.now - role.handOverAskedMs < config.failbackAfterMs) return;
  askHandOver(turn, role, to);
}

function askHandOver(turn: Turn, role: Master, to: NodeId | null): void {
  change(turn, { role: { ...role, handOverAskedMs: turn.now } });
  turn.effects.push({ type: 'hand-over', term: role.term, to });
}

export function handOverOnLeave(turn: Turn): void {
  const { role, config, view } = turn.state;
  if (role.kind !== 'master') return;
  askHandOver(turn, role, lowestEligible({ alive: view.alive.filter((each) => each.node !== config.self) }));
}

/** Also after a step-down: the voters then need not wait for their promises to end. */
export function onReleased(turn: Turn, term: number, sealed: string): void {
  const { role, config, lastHeldTerm, releasedTerm } = turn.state;
  if (term !== lastHeldTerm || term <= releasedTerm) {
    note(turn, 'ReleaseIgnored', `term ${term} is not this node's to release: it last held term ${lastHeldTerm}`);
    return;
  }
  if (role.kind === 'master') loseLease(turn, 'released');
  change(turn, { releasedTerm: term });
  for (const node of others(config)) send(turn, node, { kind: 'released', event: sealed });
}

export function loseLease(turn: Turn, reason: string): void {
  const { role, config, promise } = turn.state;
  if (role.kind !== 'master') return;
  change(turn, { role: { kind: 'follower' } });
  // The promise to itself served this lease only.
  if (promise?.holder === config.self) change(turn, { promise: null });
  turn.effects.push({ type: 'lost', term: role.term, reason });
  letGo(turn);
  setMaster(turn, null);
}

export function loseIfExpired(turn: Turn): void {
  const { role, config } = turn.state;
  if (role.kind !== 'master' || turn.now < role.leaseUntilMs) return;
  const whose = config.disks === undefined || !disksDecide(turn.state) ? 'majority' : 'majority of the disks';
  loseLease(turn, `expired: no ${whose} answered in time`);
}
