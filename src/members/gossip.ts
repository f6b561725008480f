/** What rides on every message: news of members, and how it is believed. */
import type { NodeId } from '../arrays/record.ts';
import type { MemberUpdate } from '../wire/messages.ts';
import type { MemberStatus } from './index.ts';
import { change, changeMember, feel, nextSequence, send, shuffled, type Turn } from './state.ts';

/** Nodes told of news at once. The rest hear it with the next probes. */
const ANNOUNCE_TO = 8;
const UPDATES_MAX = 64;

/** The sender itself, what the receiver must refute, then news; each piece of news a limited number of times. */
export function updatesFor(turn: Turn, to: NodeId): MemberUpdate[] {
  const { config, incarnation, left, members, gossip } = turn.state;
  const updates: MemberUpdate[] = [{ node: config.self, status: left ? 'left' : 'alive', incarnation }];
  const told = members.get(to);
  if (told !== undefined && told.status !== 'alive' && told.status !== 'unknown') {
    updates.push({ node: to, status: told.status, incarnation: told.incarnation });
  }
  const news = gossip.filter(({ update }) => update.node !== to).slice(0, UPDATES_MAX - updates.length);
  updates.push(...news.map(({ update }) => update));
  const rest = gossip.filter((each) => !news.includes(each));
  const again = news.filter((each) => each.sendsLeft > 1).map((each) => ({ ...each, sendsLeft: each.sendsLeft - 1 }));
  change(turn, { gossip: [...rest, ...again] });
  return updates;
}

/** A ping whose answer nobody waits for. */
export function call(turn: Turn, to: NodeId): void {
  const sequence = nextSequence(turn);
  send(turn, to, { kind: 'ping', sequence, eligible: turn.state.eligible, updates: updatesFor(turn, to) });
}

/** `about` is not itself told: it hears of it when it is next spoken to. */
export function announce(turn: Turn, about: NodeId): void {
  const peers = [...turn.state.members].filter(
    ([node, { status }]) => node !== about && status !== 'dead' && status !== 'left',
  );
  const chosen = shuffled(
    turn,
    peers.map(([node]) => node),
  ).slice(0, ANNOUNCE_TO);
  for (const node of chosen) call(turn, node);
}

function passOn(turn: Turn, update: MemberUpdate): void {
  const { config, gossip } = turn.state;
  // SWIM: λ·log n sendings reach everybody with high probability.
  const sendsLeft = 4 + 4 * Math.ceil(Math.log2(config.nodes.length));
  change(turn, { gossip: [{ update, sendsLeft }, ...gossip.filter((each) => each.update.node !== update.node)] });
}

export function setStatus(
  turn: Turn,
  node: NodeId,
  status: Exclude<MemberStatus, 'unknown'>,
  incarnation: number,
): void {
  const member = turn.state.members.get(node);
  if (member === undefined) return;
  changeMember(turn, node, { status, incarnation, suspicion: status === 'suspect' ? member.suspicion : null });
  // Others' suspicions are not passed on: accusers are counted by sender.
  if (status === 'suspect') {
    change(turn, { gossip: turn.state.gossip.filter((each) => each.update.node !== node) });
  } else {
    passOn(turn, { node, status, incarnation });
  }
  if (member.status !== status) turn.effects.push({ type: 'status', node, status, was: member.status, incarnation });
}

/** This node's own probe of it failed. */
export function accuse(turn: Turn, node: NodeId): void {
  const { self } = turn.state.config;
  const member = turn.state.members.get(node);
  if (member === undefined || (member.status !== 'alive' && member.status !== 'suspect')) return;
  if (member.suspicion?.accusers.has(self)) return;
  suspect(turn, node, self, member.incarnation);
  passOn(turn, { node, status: 'suspect', incarnation: member.incarnation });
  announce(turn, node);
}

function suspect(turn: Turn, node: NodeId, accuser: NodeId, incarnation: number): void {
  const member = turn.state.members.get(node);
  if (member === undefined) return;
  const suspicion =
    member.status === 'suspect' && member.suspicion !== null && member.incarnation === incarnation
      ? { ...member.suspicion, accusers: new Set(member.suspicion.accusers).add(accuser) }
      : { sinceMs: turn.now, accusers: new Set([accuser]) };
  changeMember(turn, node, { suspicion });
  if (member.status !== 'suspect' || member.incarnation !== incarnation) setStatus(turn, node, 'suspect', incarnation);
}

/** Returns the node to probe at once, if the news is a suspicion that this node may confirm or clear. */
export function hear(turn: Turn, from: NodeId, update: MemberUpdate): NodeId | null {
  const { node, status, incarnation } = update;
  if (node === turn.state.config.self) {
    hearOfItself(turn, from, update);
    return null;
  }
  const member = turn.state.members.get(node);
  if (member === undefined) return null;
  const newer = incarnation > member.incarnation || member.status === 'unknown';
  const gone = member.status === 'dead' || member.status === 'left';
  // After a partition the other side's dead are brought along. Here that is one more accusation, to be probed.
  const accusation = status === 'suspect' || (status === 'dead' && member.status === 'alive');
  if (status === 'alive') {
    if (newer) setStatus(turn, node, 'alive', incarnation);
  } else if (accusation) {
    const same = incarnation === member.incarnation && !gone;
    const confirms = same && member.suspicion?.accusers.has(from) !== true;
    if (!newer && !confirms) return null;
    suspect(turn, node, from, incarnation);
    return turn.state.members.get(node)?.suspicion?.accusers.has(turn.state.config.self) ? null : node;
  } else if (
    newer ||
    (incarnation === member.incarnation && (!gone || (status === 'left' && member.status === 'dead')))
  ) {
    setStatus(turn, node, status, incarnation);
  }
  return null;
}

/** Others' doubt is answered with a higher incarnation, at once to who brought it. */
function hearOfItself(turn: Turn, from: NodeId, { status, incarnation }: MemberUpdate): void {
  const mine = turn.state.incarnation;
  if (status === 'alive' || turn.state.left) {
    // A restarted node takes up the incarnation under which it is known.
    if (incarnation > mine) change(turn, { incarnation });
    return;
  }
  if (incarnation < mine) return;
  change(turn, { incarnation: incarnation + 1 });
  passOn(turn, { node: turn.state.config.self, status: 'alive', incarnation: incarnation + 1 });
  if (status === 'suspect') feel(turn, 1);
  call(turn, from);
}
