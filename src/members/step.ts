/** One input in, the next state and effects out. */
import type { NodeId } from '../arrays/record.ts';
import type { SwimMessage } from '../wire/messages.ts';
import { membersDueMs } from './due.ts';
import { announce, call, hear, updatesFor } from './gossip.ts';
import type { MemberStatus, MembersConfig, MembersEffect, MembersInput } from './index.ts';
import {
  buryTheSilent,
  callIfAbsent,
  callTheAbsent,
  followUpProbes,
  hearFrom,
  nackErrands,
  onAck,
  onNack,
  probe,
  probeInTurn,
  runErrand,
} from './probe.ts';
import { change, changeMember, feel, isThere, type Member, type MembersState, send, type Turn } from './state.ts';

export function membersStart(config: MembersConfig): MembersState {
  if (config.probeTimeoutMs >= config.probeIntervalMs) {
    throw new Error(
      `members: probeTimeoutMs ${config.probeTimeoutMs} ≥ probeIntervalMs ${config.probeIntervalMs}; leave time for indirect probes`,
    );
  }
  const peers = config.nodes.filter((node) => node !== config.self);
  return {
    config,
    lastTickMs: null,
    startedMs: 0,
    incarnation: 0,
    eligible: false,
    left: false,
    members: new Map(peers.map((node) => [node, ABSENT])),
    probes: [],
    errands: [],
    gossip: [],
    unhealth: 0,
    sequence: 0,
    seed: Math.imul(config.self, 2654435761) >>> 0,
  };
}

const ABSENT = {
  status: 'unknown',
  incarnation: 0,
  eligible: false,
  suspicion: null,
  calledMs: Number.NEGATIVE_INFINITY,
  heardMs: Number.NEGATIVE_INFINITY,
  conversedMs: Number.NEGATIVE_INFINITY,
  watchesUntilMs: Number.NEGATIVE_INFINITY,
  probeMs: Number.NEGATIVE_INFINITY,
} as const;

/** `now`: BOOTTIME in ms. A tick is due at `membersDueMs(state)`; more of them do no harm. */
export function membersStep(
  state: MembersState,
  input: MembersInput,
  now: number,
): { state: MembersState; effects: MembersEffect[] } {
  const turn: Turn = { state, effects: [], now };
  const { config } = state;
  switch (input.type) {
    case 'tick':
      tick(turn);
      break;
    case 'message':
      takeMessage(turn, input.from, input.message);
      break;
    case 'heard':
      if (input.hearsAll === true && input.againWithinMs !== null) {
        changeMember(turn, input.node, { watchesUntilMs: turn.now + input.againWithinMs + config.probeIntervalMs });
      }
      hearFrom(turn, input.node, input.againWithinMs);
      break;
    case 'connected':
      callIfAbsent(turn, input.node);
      break;
    case 'disconnected': {
      const member = turn.state.members.get(input.node);
      if (member !== undefined && isThere(member)) probe(turn, input.node);
      break;
    }
    case 'eligible':
      if (turn.state.eligible !== input.eligible) {
        change(turn, { eligible: input.eligible });
        announce(turn, turn.state.config.self);
        // The lease's own view of this node, too: one that all others take for the lowest that can lead must know that it is.
        turn.effects.push({ type: 'eligible', node: turn.state.config.self, eligible: input.eligible });
      }
      break;
    case 'config':
      reconfigure(turn, input.config);
      break;
    case 'leave':
      change(turn, { left: true, eligible: false });
      for (const node of turn.state.members.keys()) call(turn, node);
      break;
  }
  return { state: turn.state, effects: turn.effects };
}

function reconfigure(turn: Turn, config: MembersConfig): void {
  const { members, probes, errands, gossip } = turn.state;
  const peers = config.nodes.filter((node) => node !== config.self);
  const known = (node: NodeId): boolean => config.nodes.includes(node);
  change(turn, {
    config,
    members: new Map(peers.map((node) => [node, members.get(node) ?? ABSENT])),
    probes: probes.filter(({ target }) => known(target)),
    errands: errands.filter(({ target, client }) => known(target) && known(client)),
    gossip: gossip.filter(({ update }) => known(update.node)),
  });
}

function tick(turn: Turn): void {
  const { lastTickMs, config } = turn.state;
  if (lastTickMs === null) change(turn, { startedMs: turn.now });
  else if (turn.now - membersDueMs(turn.state) > config.probeTimeoutMs * LATE) {
    forgiveOwnPause(turn, turn.now - lastTickMs);
  }
  change(turn, { lastTickMs: turn.now });
  followUpProbes(turn);
  buryTheSilent(turn);
  nackErrands(turn);
  if (turn.state.left) return;
  probeInTurn(turn);
  callTheAbsent(turn);
}

/** A tick that comes later than this part of a probe timeout: this node was not awake. */
const LATE = 0.75;

/** A stalled loop or a suspend: answers may lie unread. No other node pays for it. */
function forgiveOwnPause(turn: Turn, pauseMs: number): void {
  feel(turn, 1);
  change(turn, {
    probes: turn.state.probes.map((each) => ({
      ...each,
      askOthersMs: each.askOthersMs === null ? null : each.askOthersMs + pauseMs,
      failsMs: each.failsMs + pauseMs,
    })),
  });
  for (const [node, { suspicion, heardMs }] of turn.state.members) {
    changeMember(turn, node, {
      heardMs: heardMs + pauseMs,
      suspicion: suspicion === null ? null : { ...suspicion, sinceMs: suspicion.sinceMs + pauseMs },
    });
  }
}

function takeMessage(turn: Turn, from: NodeId, message: SwimMessage): void {
  if (!turn.state.members.has(from)) return;
  const toProbe = message.updates.map((update) => hear(turn, from, update)).filter((node) => node !== null);
  switch (message.kind) {
    case 'ping':
      heedEligible(turn, from, message.eligible);
      send(turn, from, {
        kind: 'ack',
        sequence: message.sequence,
        eligible: turn.state.eligible,
        updates: updatesFor(turn, from),
      });
      break;
    case 'ack':
      heedEligible(turn, from, message.eligible);
      onAck(turn, from, message.sequence);
      break;
    case 'ping-request':
      runErrand(turn, from, message.sequence, message.target);
      break;
    case 'nack':
      onNack(turn, from, message.sequence);
      break;
  }
  for (const node of toProbe) probe(turn, node);
  hearFrom(turn, from, null);
}

function heedEligible(turn: Turn, from: NodeId, eligible: boolean): void {
  const before = turn.state.members.get(from);
  changeMember(turn, from, { eligible, conversedMs: turn.now });
  if (before !== undefined && hasSpoken(before) && before.eligible === eligible) return;
  turn.effects.push({ type: 'eligible', node: from, eligible });
}

/** Status of every node of the list; this node itself is `alive` until it leaves. */
export function statuses(
  state: MembersState,
): Map<NodeId, { status: MemberStatus; incarnation: number; eligible: boolean }> {
  const all = [...state.members].map(([node, { status, incarnation, eligible }]) => {
    return [node, { status, incarnation, eligible }] as const;
  });
  const { incarnation, eligible } = state;
  const self = [state.config.self, { status: state.left ? 'left' : 'alive', incarnation, eligible }] as const;
  return new Map<NodeId, { status: MemberStatus; incarnation: number; eligible: boolean }>(
    [...all, self].sort(([a], [b]) => a - b),
  );
}

function hasSpoken({ conversedMs }: Member): boolean {
  return conversedMs !== Number.NEGATIVE_INFINITY;
}

/**
 * The alive nodes, self included, as the lease room takes them. Of whom only others have told, it is not known yet whether it may lead:
 * taken for one that may not, it would be stood against in the moment before its first word.
 */
export function view(state: MembersState): { alive: { node: NodeId; eligible: boolean }[] } {
  const alive = [...statuses(state)].filter(([node, { status }]) => {
    const member = state.members.get(node);
    return status === 'alive' && (member === undefined || hasSpoken(member));
  });
  return { alive: alive.map(([node, { eligible }]) => ({ node, eligible })) };
}
