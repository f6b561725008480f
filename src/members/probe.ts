/** SWIM's probes: directly, then through others; and who has been silent too long. */
import type { NodeId } from '../arrays/record.ts';
import { accuse, announce, call, setStatus, updatesFor } from './gossip.ts';
import {
  change,
  changeMember,
  feel,
  type Member,
  type MembersState,
  nextSequence,
  type Probe,
  scaled,
  send,
  shuffled,
  type Turn,
} from './state.ts';

/** Frames on kept streams are cheap: up to this many nodes are all probed in each interval, larger clusters in turn. */
const PROBES_EACH_INTERVAL = 8;
/** The list is static, so the dead are called on for ever, but rarely. */
const CALL_DEAD_EVERY_INTERVALS = 4;

export function probe(turn: Turn, target: NodeId): void {
  const { config, probes } = turn.state;
  if (probes.some((each) => each.target === target)) return;
  const sequence = nextSequence(turn);
  const started: Probe = {
    target,
    sequence,
    askOthersMs: turn.now + scaled(turn.state, config.probeTimeoutMs),
    failsMs: turn.now + scaled(turn.state, config.probeIntervalMs),
    helpers: 0,
    nacksMissing: new Set(),
  };
  change(turn, { probes: [...turn.state.probes, started] });
  send(turn, target, { kind: 'ping', sequence, eligible: turn.state.eligible, updates: updatesFor(turn, target) });
}

export function probeInTurn(turn: Turn): void {
  const { config } = turn.state;
  const perInterval = Math.max(1, Math.min(PROBES_EACH_INTERVAL, config.nodes.length - 1));
  const spacingMs = scaled(turn.state, config.probeIntervalMs) / perInterval;
  for (let count = 0; count < perInterval && turn.state.nextProbeMs <= turn.now; count++) {
    const target = nextOfRound(turn);
    if (target !== null) probe(turn, target);
    change(turn, { nextProbeMs: Math.max(turn.state.nextProbeMs + spacingMs, turn.now - spacingMs) });
  }
}

function nextOfRound(turn: Turn): NodeId | null {
  const isDue = (node: NodeId) => {
    const status = turn.state.members.get(node)?.status;
    return status === 'alive' || status === 'suspect';
  };
  let round = turn.state.round.filter(isDue);
  if (round.length === 0) round = shuffled(turn, [...turn.state.members.keys()].filter(isDue));
  change(turn, { round: round.slice(1) });
  return round[0] ?? null;
}

/** Nodes never seen are called each interval, so that a cluster started at once is complete at once; the dead rarely. */
export function callTheAbsent(turn: Turn): void {
  const { config, startedMs } = turn.state;
  const rarelyMs = CALL_DEAD_EVERY_INTERVALS * config.probeIntervalMs;
  const stillStarting = turn.now < startedMs + config.suspicionMaxIntervals * config.probeIntervalMs;
  for (const [node, { status, calledMs }] of turn.state.members) {
    if (status === 'alive' || status === 'suspect') continue;
    const everyMs = status === 'unknown' && stillStarting ? config.probeIntervalMs : rarelyMs;
    if (turn.now < calledMs + everyMs) continue;
    changeMember(turn, node, { calledMs: turn.now });
    call(turn, node);
  }
}

export function followUpProbes(turn: Turn): void {
  for (const each of turn.state.probes) {
    if (turn.now >= each.failsMs) fail(turn, each);
    else if (each.askOthersMs !== null && turn.now >= each.askOthersMs) askOthers(turn, each);
  }
}

function askOthers(turn: Turn, { target, sequence }: Probe): void {
  const { config, members } = turn.state;
  const alive = [...members].filter(([node, { status }]) => node !== target && status === 'alive');
  const asked = shuffled(
    turn,
    alive.map(([node]) => node),
  ).slice(0, config.indirectProbes);
  for (const node of asked) {
    send(turn, node, { kind: 'ping-request', sequence, target, updates: updatesFor(turn, node) });
  }
  replaceProbe(turn, sequence, (each) => ({
    ...each,
    askOthersMs: null,
    // Helpers get their share of the interval also when a late tick asked them late.
    failsMs: Math.max(each.failsMs, turn.now + scaled(turn.state, config.probeIntervalMs - config.probeTimeoutMs)),
    helpers: asked.length,
    nacksMissing: new Set(asked),
  }));
}

function fail(turn: Turn, { target, sequence, helpers, nacksMissing }: Probe): void {
  change(turn, { probes: turn.state.probes.filter((each) => each.sequence !== sequence) });
  // Lifeguard: helpers that say neither yes nor no hint that this node is the slow one; without helpers nobody knows.
  feel(turn, helpers > 0 ? nacksMissing.size : 1);
  accuse(turn, target);
}

function replaceProbe(turn: Turn, sequence: number, by: (probe: Probe) => Probe): void {
  change(turn, { probes: turn.state.probes.map((each) => (each.sequence === sequence ? by(each) : each)) });
}

export function onAck(turn: Turn, from: NodeId, sequence: number): void {
  const errand = turn.state.errands.find((each) => each.sequence === sequence && each.target === from);
  if (errand !== undefined) {
    change(turn, { errands: turn.state.errands.filter((each) => each !== errand) });
    const updates = updatesFor(turn, errand.client);
    send(turn, errand.client, { kind: 'ack', sequence: errand.clientSequence, eligible: turn.state.eligible, updates });
  }
  const answered = turn.state.probes.find((each) => each.sequence === sequence);
  if (answered === undefined) return;
  change(turn, { probes: turn.state.probes.filter((each) => each !== answered) });
  feel(turn, -1);
}

export function onNack(turn: Turn, from: NodeId, sequence: number): void {
  replaceProbe(turn, sequence, (each) => {
    const nacksMissing = new Set(each.nacksMissing);
    nacksMissing.delete(from);
    return { ...each, nacksMissing };
  });
}

/** The nack is due well before the client's interval ends, else it would take its helper for silent. */
export function runErrand(turn: Turn, client: NodeId, clientSequence: number, target: NodeId): void {
  if (!turn.state.members.has(target)) return;
  const { config } = turn.state;
  const sequence = nextSequence(turn);
  const nackMs = turn.now + (config.probeIntervalMs - config.probeTimeoutMs) / 4;
  change(turn, { errands: [...turn.state.errands, { target, sequence, client, clientSequence, nackMs }] });
  send(turn, target, { kind: 'ping', sequence, eligible: turn.state.eligible, updates: updatesFor(turn, target) });
}

export function nackErrands(turn: Turn): void {
  const { config } = turn.state;
  for (const { client, clientSequence, nackMs } of turn.state.errands) {
    if (turn.now < nackMs) continue;
    send(turn, client, { kind: 'nack', sequence: clientSequence, updates: updatesFor(turn, client) });
  }
  // A late ack of the target is still passed on after the nack, within one more interval.
  const errands = turn.state.errands
    .filter(({ nackMs }) => nackMs === Number.POSITIVE_INFINITY || turn.now < nackMs + config.probeIntervalMs)
    .map((each) => (turn.now >= each.nackMs ? { ...each, nackMs: Number.POSITIVE_INFINITY } : each));
  change(turn, { errands: errands.slice(-config.nodes.length * 4) });
}

/** Lifeguard: from max down to min, on a logarithm of the independent accusers beyond the first. */
export function suspicionMs(state: MembersState, accusers: number): number {
  const { config } = state;
  const minMs = config.suspicionMinIntervals * config.probeIntervalMs;
  const maxMs = config.suspicionMaxIntervals * config.probeIntervalMs;
  const expected = Math.min(config.indirectProbes, config.nodes.length - 2);
  if (expected < 1) return minMs;
  const share = Math.log(Math.max(1, accusers)) / Math.log(expected + 1);
  return Math.max(minMs, maxMs - (maxMs - minMs) * share);
}

export function buryTheSilent(turn: Turn): void {
  for (const [node, member] of turn.state.members) {
    if (!isOverdue(turn, member)) continue;
    setStatus(turn, node, 'dead', member.incarnation);
    changeMember(turn, node, { calledMs: turn.now });
    announce(turn, node);
  }
}

function isOverdue(turn: Turn, { status, suspicion }: Member): boolean {
  if (status !== 'suspect' || suspicion === null) return false;
  return turn.now >= suspicion.sinceMs + suspicionMs(turn.state, suspicion.accusers.size);
}
