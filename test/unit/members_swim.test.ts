/** Who seems alive: one node's core, fed by hand. Whole clusters of them run in test/transcripts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type MembersEffect,
  type MembersInput,
  membersDueMs,
  membersStart,
  membersStep,
  statuses,
  view,
} from '../../src/members/index.ts';
import type { MemberUpdate, SwimMessage } from '../../src/wire/messages.ts';

class Lone {
  state;
  now = 0;
  log: MembersEffect[] = [];

  constructor(self: number, nodes: number) {
    this.state = membersStart({
      self,
      nodes: Array.from({ length: nodes }, (_, index) => index + 1),
      probeIntervalMs: 300,
      probeTimeoutMs: 200,
      indirectProbes: 3,
      suspicionMinIntervals: 3,
      suspicionMaxIntervals: 6,
      awarenessMax: 8,
    });
    this.do({ type: 'tick' });
    for (const node of statuses(this.state).keys()) {
      if (node !== self) this.news(node, { node, status: 'alive', incarnation: 0 });
    }
  }

  do(input: MembersInput): MembersEffect[] {
    const { state, effects } = membersStep(this.state, input, this.now);
    this.state = state;
    this.log.push(...effects);
    return effects;
  }

  news(from: number, ...updates: MemberUpdate[]): MembersEffect[] {
    return this.hear(from, { kind: 'ping', sequence: 1, eligible: true, updates });
  }

  hear(from: number, message: SwimMessage): MembersEffect[] {
    return this.do({ type: 'message', from, message });
  }

  /** Ticks of 50 ms; `answers` says what comes back for each message sent. */
  pass(ms: number, answers: (to: number, message: SwimMessage) => SwimMessage | null): MembersEffect[] {
    const before = this.log.length;
    for (const endMs = this.now + ms; this.now < endMs; ) {
      this.now += 50;
      for (const effect of this.do({ type: 'tick' })) {
        const answer = effect.type === 'send' ? answers(effect.to, effect.message) : null;
        if (effect.type === 'send' && answer !== null) this.hear(effect.to, answer);
      }
    }
    return this.log.slice(before);
  }

  status(node: number): string | undefined {
    return statuses(this.state).get(node)?.status;
  }
}

const ack = (message: SwimMessage): SwimMessage => {
  return { kind: 'ack', sequence: message.sequence, eligible: true, updates: [] };
};
/** Everyone answers but these, and who is asked to try for another says that it failed. */
const silent =
  (...nodes: number[]) =>
  (to: number, message: SwimMessage): SwimMessage | null => {
    if (nodes.includes(to)) return null;
    if (message.kind === 'ping-request') return { kind: 'nack', sequence: message.sequence, updates: [] } as const;
    return message.kind === 'ping' ? ack(message) : null;
  };
const changes = (effects: readonly MembersEffect[]) =>
  effects.flatMap((effect) => (effect.type === 'status' ? [`${effect.node} ${effect.status}`] : []));

test('a node that answers nobody is suspected, and dead only after the suspicion time', () => {
  const one = new Lone(1, 3);
  assert.deepEqual(changes(one.pass(900, silent(2))), ['2 suspect']);
  assert.deepEqual(changes(one.pass(2400, silent(2))), ['2 dead']);
  assert.deepEqual(
    view(one.state).alive.map(({ node }) => node),
    [1, 3],
  );
});

test('who was only told of is in the view from its first word: until then nobody knows whether it may lead', () => {
  const { state } = new Lone(2, 3);
  const unheard = {
    ...(state.members.get(1) ?? assert.fail()),
    conversedMs: Number.NEGATIVE_INFINITY,
    eligible: false,
  };
  const two = new Lone(2, 3);
  two.state = { ...state, members: new Map(state.members).set(1, unheard) };
  const one = () => view(two.state).alive.find(({ node }) => node === 1);
  assert.equal(two.status(1), 'alive');
  assert.equal(one(), undefined);
  const effects = two.hear(1, { kind: 'ping', sequence: 1, eligible: false, updates: [] });
  assert.ok(
    effects.some(({ type }) => type === 'eligible'),
    'the view is looked at again',
  );
  assert.deepEqual(one(), { node: 1, eligible: false });
});

test('an answer through another node counts', () => {
  const one = new Lone(1, 3);
  const through3 = (to: number, message: SwimMessage) => {
    if (to === 2) return null;
    return message.kind === 'ping' || message.kind === 'ping-request' ? ack(message) : null;
  };
  assert.deepEqual(changes(one.pass(3000, through3)), []);
});

test('an independent accuser shortens the suspicion; the same one twice does not', () => {
  const accusation = { node: 2, status: 'suspect', incarnation: 0 } as const;
  const deathMs = (accusers: number[]) => {
    const one = new Lone(1, 5);
    one.pass(600, silent(2));
    for (const accuser of accusers) one.news(accuser, accusation);
    while (one.status(2) !== 'dead') one.pass(50, silent(2));
    return one.now;
  };
  assert.ok(deathMs([3]) < deathMs([]));
  assert.equal(deathMs([3, 3, 3]), deathMs([3]));
  assert.ok(deathMs([3, 4, 5]) < deathMs([3]));
});

test('only its own failed probes make a node accuse: rumours are not passed on', () => {
  const one = new Lone(1, 4);
  one.news(3, { node: 2, status: 'suspect', incarnation: 0 });
  assert.equal(one.status(2), 'suspect');
  const told = one
    .pass(250, silent())
    .flatMap((effect) => (effect.type === 'send' && effect.to === 4 ? effect.message.updates : []));
  assert.deepEqual(
    told.filter(({ node }) => node === 2),
    [],
  );
});

test('a suspect clears itself with a higher incarnation, and only so', () => {
  const one = new Lone(1, 3);
  one.pass(600, silent(2));
  assert.equal(one.status(2), 'suspect');
  one.news(2, { node: 2, status: 'alive', incarnation: 0 });
  assert.equal(one.status(2), 'suspect');
  one.news(2, { node: 2, status: 'alive', incarnation: 1 });
  assert.equal(one.status(2), 'alive');
  one.news(3, { node: 2, status: 'dead', incarnation: 0 });
  assert.equal(one.status(2), 'alive', 'old news');
});

test('told that it is suspect, a node refutes at once to the teller', () => {
  const one = new Lone(1, 3);
  const [reply] = one.news(3, { node: 1, status: 'suspect', incarnation: 4 });
  assert.ok(reply?.type === 'send' && reply.to === 3);
  assert.deepEqual(reply.message.updates[0], { node: 1, status: 'alive', incarnation: 5 });
});

test('the dead are called on for ever and come back with a higher incarnation', () => {
  const one = new Lone(1, 3);
  one.pass(6000, silent(2));
  assert.equal(one.status(2), 'dead');
  const calls = one.pass(3000, silent(2)).filter((effect) => effect.type === 'send' && effect.to === 2);
  assert.ok(calls.length >= 2 && calls.length <= 4, `${calls.length} calls in 3 s`);
  const told = calls[0];
  assert.ok(told?.type === 'send');
  assert.deepEqual(told.message.updates[1], { node: 2, status: 'dead', incarnation: 0 }, 'so that it can refute');
  one.news(2, { node: 2, status: 'alive', incarnation: 0 });
  assert.equal(one.status(2), 'dead');
  one.news(2, { node: 2, status: 'alive', incarnation: 1 });
  assert.equal(one.status(2), 'alive');
});

test('deaths brought along by the other side of a healed partition are accusations, not deaths', () => {
  const one = new Lone(1, 3);
  const effects = one.news(3, { node: 2, status: 'dead', incarnation: 0 });
  assert.deepEqual(changes(effects), ['2 suspect']);
  assert.ok(
    effects.some((effect) => effect.type === 'send' && effect.to === 2),
    'probed at once',
  );
});

test('a lost connection is followed by a probe at once', () => {
  const one = new Lone(1, 3);
  one.pass(300, silent());
  const effects = one.do({ type: 'disconnected', node: 2 });
  assert.ok(effects.some((effect) => effect.type === 'send' && effect.to === 2 && effect.message.kind === 'ping'));
});

test('who was itself asleep accuses nobody', () => {
  const one = new Lone(1, 3);
  one.pass(300, silent());
  one.now += 60_000;
  assert.deepEqual(changes(one.do({ type: 'tick' })), []);
  assert.deepEqual(changes(one.pass(100, silent())), []);
});

test('a slow node gives the others more time', () => {
  const one = new Lone(1, 3);
  const nobody = () => null;
  one.pass(600, nobody);
  assert.ok(one.state.unhealth > 0, 'not even nacks came back');
  one.pass(6000, silent());
  assert.equal(one.state.unhealth, 0);
});

test('a helper tries for another, and says so when it cannot reach it', () => {
  const one = new Lone(1, 3);
  const [ping] = one.hear(3, { kind: 'ping-request', sequence: 99, target: 2, updates: [] });
  assert.ok(ping?.type === 'send' && ping.to === 2);
  const passedOn = one.hear(2, ack(ping.message));
  assert.ok(passedOn.some((effect) => effect.type === 'send' && effect.to === 3 && effect.message.sequence === 99));
  one.hear(3, { kind: 'ping-request', sequence: 100, target: 2, updates: [] });
  const nacks = one.pass(100, () => null).filter((effect) => effect.type === 'send' && effect.message.kind === 'nack');
  assert.equal(nacks.length, 1);
});

test('goodbye is told to all, and not refuted', () => {
  const one = new Lone(1, 3);
  const effects = one.do({ type: 'leave' });
  const told = effects.flatMap((effect) => (effect.type === 'send' ? [effect.message.updates[0]?.status] : []));
  assert.deepEqual(told, ['left', 'left']);
  one.news(2, { node: 1, status: 'left', incarnation: 0 });
  assert.equal(one.status(1), 'left');
  const two = new Lone(2, 3);
  assert.deepEqual(changes(two.news(1, { node: 1, status: 'left', incarnation: 0 })), ['1 left']);
});

test('who may lead is told with each ping and ack', () => {
  const one = new Lone(1, 2);
  assert.deepEqual(one.hear(2, { kind: 'ping', sequence: 5, eligible: false, updates: [] })[0], {
    type: 'eligible',
    node: 2,
    eligible: false,
  });
  const own = one.do({ type: 'eligible', eligible: true });
  const [told] = own;
  assert.ok(told?.type === 'send' && told.message.kind === 'ping' && told.message.eligible);
  // Its own lease has to hear of it as the others' do, or nobody stands: they wait for it as the lowest.
  assert.ok(own.some((effect) => effect.type === 'eligible' && effect.node === 1 && effect.eligible));
});

test('each node of a larger cluster has its turn', () => {
  const one = new Lone(1, 30);
  const probed = one.pass(1600, silent()).flatMap((effect) => (effect.type === 'send' ? [effect.to] : []));
  assert.equal(new Set(probed).size, 29);
});

/** Pings of `one` to node 2 while a frame of another room comes from it each 400 ms. */
function pingsBesideRenewals(one: Lone, ms: number): number {
  const before = one.log.length;
  for (const endMs = one.now + ms; one.now < endMs; ) {
    one.do({ type: 'heard', node: 2, againWithinMs: 400 });
    one.pass(400, silent());
  }
  return one.log.slice(before).filter((effect) => effect.type === 'send' && effect.to === 2).length;
}

test('who is heard from anyway is hardly probed, and found silent as soon', () => {
  const one = new Lone(1, 2);
  one.pass(3000, silent());
  assert.ok(pingsBesideRenewals(one, 12_000) <= 5, 'only now and then, for the news');
  one.do({ type: 'heard', node: 2, againWithinMs: 400 });
  const heardMs = one.now;
  while (one.status(2) !== 'suspect') one.pass(50, silent(2));
  assert.ok(one.now - heardMs <= 700, `suspected ${one.now - heardMs} ms after the last word`);
});

test('whom another hears often is probed seldom, and as often as ever once that one falls silent', () => {
  const one = new Lone(1, 3);
  one.pass(3000, silent());
  const pingsTo3 = (ms: number, watcherSpeaks: boolean): number => {
    const before = one.log.length;
    for (const endMs = one.now + ms; one.now < endMs; ) {
      if (watcherSpeaks) one.do({ type: 'heard', node: 2, againWithinMs: 400, hearsAll: true });
      one.pass(400, silent(...(watcherSpeaks ? [] : [2])));
    }
    return one.log.slice(before).filter((effect) => {
      return effect.type === 'send' && effect.to === 3 && effect.message.kind === 'ping';
    }).length;
  };
  const watched = pingsTo3(12_000, true);
  assert.ok(watched >= 3 && watched <= 6, `${watched} pings in 12 s`);
  pingsTo3(1200, false);
  assert.equal(one.status(2), 'suspect');
  const alone = pingsTo3(3000, false);
  assert.ok(alone >= 8, `${alone} pings in 3 s`);
});

test('of two nodes the lower one probes, and the higher answers', () => {
  const one = new Lone(1, 2);
  const two = new Lone(2, 2);
  let pings = 0;
  for (let ms = 0; ms < 3000; ms += 50) {
    for (const [from, to] of [[one, two] as const, [two, one] as const]) {
      const fromNode = from === one ? 1 : 2;
      for (const effect of from.pass(50, () => null)) {
        if (effect.type !== 'send') continue;
        if (effect.message.kind === 'ping') pings += fromNode === 2 ? 100 : 1;
        for (const back of to.hear(fromNode, effect.message)) {
          if (back.type === 'send') from.hear(3 - fromNode, back.message);
        }
      }
    }
  }
  assert.ok(pings % 100 >= 9 && pings < 200, `${pings % 100} pings of node 1, ${Math.floor(pings / 100)} of node 2`);
});

test('news is not held back because its receiver is heard from', () => {
  const one = new Lone(1, 4);
  one.pass(3000, silent());
  one.news(4, { node: 4, status: 'suspect', incarnation: 0 }, { node: 4, status: 'alive', incarnation: 1 });
  const told: MemberUpdate[] = [];
  for (let times = 0; times < 4; times++) {
    one.do({ type: 'heard', node: 2, againWithinMs: 400 });
    for (const effect of one.pass(300, silent())) {
      if (effect.type === 'send' && effect.to === 2) told.push(...effect.message.updates);
    }
  }
  assert.ok(told.some(({ node, status, incarnation }) => node === 4 && status === 'alive' && incarnation === 1));
});

test('a suspect is probed although it is heard from, so that it can refute', () => {
  const one = new Lone(1, 3);
  one.news(3, { node: 2, status: 'suspect', incarnation: 0 });
  one.pass(100, silent());
  one.log.length = 0;
  assert.ok(pingsBesideRenewals(one, 1200) >= 3);
});

test('ticks at the times it asks for are enough', () => {
  const often = new Lone(1, 3);
  often.pass(4000, silent(2));
  const seldom = new Lone(1, 3);
  let ticks = 0;
  while (seldom.status(2) !== 'dead') {
    seldom.now = Math.max(seldom.now, membersDueMs(seldom.state));
    ticks += 1;
    for (const effect of seldom.do({ type: 'tick' })) {
      const answer = effect.type === 'send' ? silent(2)(effect.to, effect.message) : null;
      if (effect.type === 'send' && answer !== null) seldom.hear(effect.to, answer);
    }
  }
  assert.equal(often.status(2), 'dead');
  assert.ok(seldom.now <= 3000, `dead after ${seldom.now} ms`);
  assert.ok(ticks <= seldom.now / 60, `${ticks} ticks`);
});

test('a node that the transport has just reached is called at once, not at its turn', () => {
  const lone = new Lone(1, 2);
  lone.pass(5000, silent(2));
  assert.equal(lone.status(2), 'dead');
  const [called, ...rest] = lone.do({ type: 'connected', node: 2 });
  assert.equal(called?.type === 'send' && called.to === 2 && called.message.kind, 'ping');
  assert.deepEqual(rest, []);
  // Both ends are told of a connection, and each may be told of several.
  lone.hear(2, { kind: 'ping', sequence: 1, eligible: true, updates: [{ node: 2, status: 'alive', incarnation: 1 }] });
  assert.equal(lone.status(2), 'alive');
  assert.deepEqual(lone.do({ type: 'connected', node: 2 }), []);
  assert.deepEqual(lone.do({ type: 'connected', node: 9 }), []);
  lone.do({ type: 'leave' });
  assert.deepEqual(lone.do({ type: 'connected', node: 2 }), []);
});
