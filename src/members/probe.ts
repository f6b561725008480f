/** SWIM's probes: directly, then through others; and who has been silent too long. */
import type { NodeId } from '../arrays/record.ts';
import { accuse, announce, call, setStatus, updatesFor } from './gossip.ts';
import {
  change,
  changeMember,
  feel,
  isThere,
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
/** Of two nodes the lower one probes; the higher, heard by that, does only when it has waited this part of an interval for it. */
const GRACE = 1 / 6;
/** Of a silence that was to be expected, at most this part of an interval counts as time that a probe has had already. */
const COUNTED = 1 / 3;
/**
 * A node heard only through frames of other rooms, or watched by one who would tell of its silence at once, is probed all
 * the same each so many intervals: news ride on probes.
 */
const CONVERSE_EVERY_INTERVALS = 10;
/** The list is static, so the dead are called on for ever, but rarely. */
const CALL_DEAD_EVERY_INTERVALS = 4;

/** `waitedMs`: what its silence before this counts towards the probe's failing. */
export function probe(turn: Turn, target: NodeId, waitedMs = 0): void {
  const { config, probes } = turn.state;
  const isSuspect = turn.state.members.get(target)?.status === 'suspect';
  // However slow this node is: a suspect is to be asked, and told, before its time is over.
  const everyMs = isSuspect ? turnMs(config) : scaled(turn.state, paceMs(turn, target));
  changeMember(turn, target, { probeMs: turn.now + everyMs });
  if (probes.some((each) => each.target === target)) return;
  const sequence = nextSequence(turn);
  const started: Probe = {
    target,
    sequence,
    askOthersMs: turn.now + scaled(turn.state, config.probeTimeoutMs) - waitedMs,
    failsMs: turn.now + scaled(turn.state, config.probeIntervalMs) - waitedMs,
    helpers: 0,
    nacksMissing: new Set(),
  };
  change(turn, { probes: [...turn.state.probes, started] });
  send(turn, target, { kind: 'ping', sequence, eligible: turn.state.eligible, updates: updatesFor(turn, target) });
}

/** How often each of the others is probed, if nothing is heard from it meanwhile. */
function turnMs({ probeIntervalMs, nodes }: MembersState['config']): number {
  return probeIntervalMs * Math.max(1, (nodes.length - 1) / PROBES_EACH_INTERVAL);
}

/** While word comes from one who hears all others often, it is the one that notices a death; its suspicion is looked into at once. */
function paceMs(turn: Turn, node: NodeId): number {
  const isWatched = [...turn.state.members].some(
    ([watcher, { status, watchesUntilMs }]) => watcher !== node && status === 'alive' && turn.now < watchesUntilMs,
  );
  return turnMs(turn.state.config) * (isWatched ? CONVERSE_EVERY_INTERVALS : 1);
}

/** Somebody is in doubt, perhaps the one who watches: everybody looks after everybody again. */
function endWatch(turn: Turn): void {
  for (const [node, { probeMs }] of turn.state.members) {
    changeMember(turn, node, { probeMs: Math.min(probeMs, turn.now + turnMs(turn.state.config)) });
  }
}

export function probeInTurn(turn: Turn): void {
  const { probeIntervalMs } = turn.state.config;
  const there = [...turn.state.members].filter(([, member]) => isThere(member));
  if (!there.some(([, { probeMs }]) => probeMs <= turn.now)) return;
  for (const [node, { probeMs, heardMs }] of there) {
    // Who would be due in a moment is taken along: one waking for all.
    if (probeMs > turn.now + probeIntervalMs * GRACE) continue;
    const overdueMs = turn.now - heardMs - probeIntervalMs;
    probe(turn, node, Math.min(Math.max(0, overdueMs), probeIntervalMs * COUNTED));
  }
}

/**
 * Anything that comes from a node says what the answer to a probe would: its next probe is put off. Not that of a suspect,
 * who must be told so to refute it, and frames of other rooms do not put off news.
 */
export function hearFrom(turn: Turn, node: NodeId, againWithinMs: number | null): void {
  const { members, config, probes } = turn.state;
  const member = members.get(node);
  if (member === undefined) return;
  changeMember(turn, node, { heardMs: turn.now });
  const answered = probes.filter((each) => each.target === node);
  if (answered.length > 0) {
    change(turn, { probes: probes.filter((each) => each.target !== node) });
    feel(turn, -1);
  }
  if (member.status !== 'alive') {
    changeMember(turn, node, { probeMs: Math.min(member.probeMs, turn.now + turnMs(config)) });
    return;
  }
  const isOtherRoom = member.conversedMs !== turn.now;
  if (isOtherRoom && turn.state.gossip.some(({ update }) => update.node !== node)) return;
  const waits = againWithinMs !== null || config.self > node;
  const nextMs =
    turn.now + (againWithinMs ?? scaled(turn.state, paceMs(turn, node))) + (waits ? config.probeIntervalMs * GRACE : 0);
  const latestMs = member.conversedMs + CONVERSE_EVERY_INTERVALS * turnMs(config);
  changeMember(turn, node, { probeMs: isOtherRoom ? Math.max(member.probeMs, Math.min(nextMs, latestMs)) : nextMs });
}

/** Nodes never seen are called each interval, so that a cluster started at once is complete at once; the dead rarely. */
export function callTheAbsent(turn: Turn): void {
  for (const [node, member] of turn.state.members) {
    if (turn.now >= callMs(turn.state, member)) callIfAbsent(turn, node);
  }
}

export function callIfAbsent(turn: Turn, node: NodeId): void {
  const member = turn.state.members.get(node);
  if (member === undefined || isThere(member) || turn.state.left) return;
  changeMember(turn, node, { calledMs: turn.now });
  call(turn, node);
}

/** When a node that is not known to be there is called next. */
export function callMs({ config, startedMs }: MembersState, { status, calledMs }: Member): number {
  const stillStarting = calledMs < startedMs + config.suspicionMaxIntervals * config.probeIntervalMs;
  const intervals = status === 'unknown' && stillStarting ? 1 : CALL_DEAD_EVERY_INTERVALS;
  return calledMs + intervals * config.probeIntervalMs;
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
  endWatch(turn);
  changeMember(turn, target, { probeMs: turn.now });
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
  // Perhaps by way of a helper: not heard from the target itself.
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
    if (turn.now < buryMs(turn.state, member)) continue;
    setStatus(turn, node, 'dead', member.incarnation);
    changeMember(turn, node, { calledMs: turn.now });
    announce(turn, node);
  }
}

/** When a suspect's time is over; never for others. */
export function buryMs(state: MembersState, { status, suspicion }: Member): number {
  if (status !== 'suspect' || suspicion === null) return Number.POSITIVE_INFINITY;
  return suspicion.sinceMs + suspicionMs(state, suspicion.accusers.size);
}
