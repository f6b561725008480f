/** What one node believes of the others, and the probes it has under way. */
import type { NodeId } from '../arrays/record.ts';
import type { MemberUpdate, SwimMessage } from '../wire/messages.ts';
import type { MemberStatus, MembersConfig, MembersEffect } from './index.ts';

export interface Suspicion {
  sinceMs: number;
  /** Nodes whose own probes failed, self included: a suspect update always speaks of its sender's own probes. */
  accusers: ReadonlySet<NodeId>;
}

export interface Member {
  readonly status: MemberStatus;
  readonly incarnation: number;
  readonly eligible: boolean;
  readonly suspicion: Suspicion | null;
  /** Last time it was pinged out of turn because it is not known to be alive. */
  readonly calledMs: number;
  /** Last time anything came from it. */
  readonly heardMs: number;
  /** Last time a ping or an ack of it came: what rides on them has been told to it, and by it. */
  readonly conversedMs: number;
  /** It hears all others often, as far as is known until then. */
  readonly watchesUntilMs: number;
  /** Its next probe, while it is thought to be there. */
  readonly probeMs: number;
}

/** It answered not long ago: probed in its turn. The others are called. */
export function isThere({ status }: Pick<Member, 'status'>): boolean {
  return status === 'alive' || status === 'suspect';
}

export interface Probe {
  readonly target: NodeId;
  readonly sequence: number;
  /** Then others are asked to try. Null: they have been. */
  readonly askOthersMs: number | null;
  readonly failsMs: number;
  readonly helpers: number;
  readonly nacksMissing: ReadonlySet<NodeId>;
}

/** A probe made for another node. */
export interface Errand {
  readonly target: NodeId;
  readonly sequence: number;
  readonly client: NodeId;
  readonly clientSequence: number;
  readonly nackMs: number;
}

/** An update that still has to be passed on, and to how many messages more it is added. */
export interface Gossip {
  readonly update: MemberUpdate;
  readonly sendsLeft: number;
}

export interface MembersState {
  readonly config: MembersConfig;
  /** Null until the first tick. */
  readonly lastTickMs: number | null;
  readonly startedMs: number;
  readonly incarnation: number;
  readonly eligible: boolean;
  readonly left: boolean;
  readonly members: ReadonlyMap<NodeId, Member>;
  readonly probes: readonly Probe[];
  readonly errands: readonly Errand[];
  readonly gossip: readonly Gossip[];
  /** Lifeguard's local health: 0 is well; intervals and timeouts are multiplied by 1 + this. */
  readonly unhealth: number;
  readonly sequence: number;
  readonly seed: number;
}

export interface Turn {
  state: MembersState;
  readonly effects: MembersEffect[];
  readonly now: number;
}

export function change(turn: Turn, part: Partial<MembersState>): void {
  turn.state = { ...turn.state, ...part };
}

export function changeMember(turn: Turn, node: NodeId, part: Partial<Member>): void {
  const member = turn.state.members.get(node);
  if (member === undefined) return;
  change(turn, { members: new Map(turn.state.members).set(node, { ...member, ...part }) });
}

export function send(turn: Turn, to: NodeId, message: SwimMessage): void {
  turn.effects.push({ type: 'send', to, message });
}

export function feel(turn: Turn, worseBy: number): void {
  const { unhealth, config } = turn.state;
  change(turn, { unhealth: Math.min(config.awarenessMax - 1, Math.max(0, unhealth + worseBy)) });
}

/** Lifeguard: who is slow itself gives others more time. */
export function scaled(state: MembersState, ms: number): number {
  return ms * (1 + state.unhealth);
}

export function nextSequence(turn: Turn): number {
  change(turn, { sequence: turn.state.sequence + 1 });
  return turn.state.sequence;
}

/** Fisher–Yates over a 32-bit linear congruential generator: cores draw no randomness, so the seed is part of the state. */
export function shuffled(turn: Turn, nodes: readonly NodeId[]): NodeId[] {
  const order: NodeId[] = [];
  let { seed } = turn.state;
  for (const node of nodes) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    order.splice(Math.floor((seed / 2 ** 32) * (order.length + 1)), 0, node);
  }
  change(turn, { seed });
  return order;
}
