/** The rules of the net one by one, without a net. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type MessageStream, type MessageStreamEvents, StreamMessageEvent, TypedEventEmitter } from '@libp2p/interface';
import { BootWitness, lateMs, proofHoldsMs } from '#src/net/boot_witness.ts';
import { encodePage } from '#src/net/catchup.ts';
import { Dialer } from '#src/net/dialer.ts';
import { memoryHub, memoryNet, type NetEvent } from '#src/net/index.ts';
import { newcomerStays, simultaneousMs } from '#src/net/one_connection.ts';
import { defaultTuning } from '#src/net/options.ts';
import { Throttle } from '#src/net/throttle.ts';
import { TokenBucket } from '#src/net/token_bucket.ts';
import { VirtualTime } from '../compliance/virtual_time.ts';

const uuid = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;

test('witness: restarts, however many and however fast, are no duplicates', () => {
  const witness = new BootWitness();
  for (let boot = 1; boot <= 20; boot += 1) assert.equal(witness.hello(2, `boot ${boot}`, boot, boot + 1), null);
});

test('witness: one boot that connects again and again is one boot', () => {
  const witness = new BootWitness();
  for (let at = 0; at < 10; at += 1) assert.equal(witness.hello(2, 'a', at * 10, at * 10 + 1), null);
});

test('witness: an old boot’s Hello that was only late, on a connection from before the new boot, proves nothing', () => {
  const witness = new BootWitness();
  witness.hello(2, 'a', 0, 10);
  witness.hello(2, 'b', 100, 110);
  assert.equal(witness.hello(2, 'a', 105, 120), null);
});

test('witness: an old boot’s Hello that comes after the new one’s, of which the line was slow, proves nothing of the new one', () => {
  for (const openedMs of [5, 100, lateMs]) {
    const witness = new BootWitness();
    witness.hello(2, 'new', 0, 10);
    assert.equal(witness.hello(2, 'old', openedMs, lateMs + 20), null);
    assert.equal(witness.hello(2, 'new', lateMs + 200, lateMs + 210), null, `opened at ${openedMs}`);
  }
});

test('witness: an old boot that connects after the new one spoke is alive beside it; both are told, for a while', () => {
  const witness = new BootWitness();
  witness.hello(2, 'a', 0, 10);
  const at = lateMs + 100;
  assert.equal(witness.hello(2, 'b', at, at + 10), null);
  assert.deepEqual(witness.hello(2, 'a', at + 100, at + 110)?.sort(), ['a', 'b']);
  assert.deepEqual(witness.hello(2, 'b', at + 200, at + 210)?.sort(), ['a', 'b']);
  assert.equal(witness.hello(3, 'b', at + 200, at + 210), null, 'another node is another matter');
  assert.equal(witness.hello(2, 'c', at + 300, at + 310), null, 'a third boot is not accused of what the two did');
});

test('witness: when one of the two has been stopped for long, the other is not told any more', () => {
  const witness = new BootWitness();
  witness.hello(2, 'a', 0, 10);
  const at = lateMs + 100;
  witness.hello(2, 'b', at, at + 10);
  assert(witness.hello(2, 'a', at + 100, at + 110));
  assert.equal(witness.hello(2, 'b', at + 110 + proofHoldsMs, at + 111 + 7 * proofHoldsMs), null);
});

test('two connections: both ends of a simultaneous dial keep the same one, in whatever order they see them', () => {
  const byOne = (openedAtMs: number) => ({ opener: 1, openedAtMs });
  const byTwo = (openedAtMs: number) => ({ opener: 2, openedAtMs });
  for (const later of [0, 1, simultaneousMs]) {
    assert.equal(newcomerStays(byOne(0), byTwo(later), 1), false);
    assert.equal(newcomerStays(byTwo(0), byOne(later), 1), true);
  }
});

test('two connections: a late newcomer, or a second one of the same opener, means that the old one is half open', () => {
  assert.equal(newcomerStays({ opener: 1, openedAtMs: 0 }, { opener: 2, openedAtMs: simultaneousMs + 1 }, 1), true);
  assert.equal(newcomerStays({ opener: 2, openedAtMs: 0 }, { opener: 2, openedAtMs: 5 }, 1), true);
});

test('bucket: a burst of a second’s worth passes, then the rate', () => {
  let nowMs = 0;
  const bucket = new TokenBucket(10, () => nowMs);
  const taken = () => Array.from({ length: 100 }, () => bucket.take()).filter(Boolean).length;
  assert.equal(taken(), 10);
  nowMs += 500;
  assert.equal(taken(), 5);
  nowMs += 60_000;
  assert.equal(taken(), 10);
});

test('bucket: what has come already is paid for later', () => {
  let nowMs = 0;
  const bucket = new TokenBucket(1000, () => nowMs, 500);
  assert.equal(bucket.spend(500), 0);
  assert.equal(bucket.spend(250), 250);
  assert.equal(bucket.take(), false);
  nowMs += 250;
  assert.equal(bucket.spend(0), 0);
  nowMs += 60_000;
  assert.equal(bucket.take(501), false, 'no more than the burst is ever there');
  assert.equal(bucket.take(500), true);
});

class RawConnection extends TypedEventEmitter<MessageStreamEvents> {
  status: MessageStream['status'] = 'open';
  paused = 0;
  resumed = 0;
  pause(): void {
    this.paused += 1;
  }
  resume(): void {
    this.resumed += 1;
  }
  comes(bytes: number): void {
    this.dispatchEvent(new StreamMessageEvent(new Uint8Array(bytes)));
  }
}

test('throttle: a peer that sends more than it may is not read from until that is paid for, on a new connection neither', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let nowMs = 0;
  const throttle = new Throttle(1000, () => nowMs);
  const first = new RawConnection();
  throttle.watch(first);
  first.comes(1000);
  assert.equal(first.paused, 0, 'a second’s worth passes');
  first.comes(500);
  first.comes(500);
  assert.equal(first.paused, 1);
  t.mock.timers.tick(500);
  assert.equal(first.resumed, 1);
  const second = new RawConnection();
  throttle.watch(second);
  second.comes(1);
  assert.equal(second.paused, 1, 'its allowance outlives its connection');
  nowMs += 10_000;
  t.mock.timers.tick(10_000);
  second.comes(900);
  assert.equal(second.paused, 1);
  throttle.rest();
  assert.deepEqual([first.paused, second.paused], [2, 2], 'a peer that broke a rate rests on all of its connections');
});

test('dialer: at once, then backing off to two seconds; anew after a good connection; never while connected', async () => {
  const time = new VirtualTime();
  const dialled: number[] = [];
  const start = time.now();
  const dialer = new Dialer({
    self: 1,
    peers: [2],
    tuning: defaultTuning,
    schedule: time.schedule,
    random: () => 0,
    dial: (_node, _signal, done) => {
      dialled.push(time.now() - start);
      done();
    },
  });
  dialer.start();
  await time.pass(6000);
  assert.deepEqual(dialled, [0, 100, 300, 700, 1500, 3100, 5100]);
  dialer.connected(2, true);
  await time.pass(60_000);
  assert.equal(dialled.length, 7);
  dialer.lost(2, true);
  await time.pass(0);
  assert.equal(dialled.length, 8, 'at once after a good connection');
  dialer.stop();
  await time.pass(60_000);
  assert.equal(dialled.length, 8);
});

test('dialer: the dial of the side that lost the race is called off, our own connection’s never', async () => {
  const time = new VirtualTime();
  const signals: AbortSignal[] = [];
  const make = () =>
    new Dialer({
      self: 1,
      peers: [2],
      tuning: defaultTuning,
      schedule: time.schedule,
      random: () => 0,
      dial: (_node, signal) => void signals.push(signal),
    });
  for (const byUs of [true, false]) {
    const dialer = make();
    dialer.start();
    await time.pass(0);
    dialer.connected(2, byUs);
    dialer.stop();
  }
  assert.deepEqual(
    signals.map((signal) => signal.aborted),
    [false, true],
  );
});

test('catch-up: the first event goes even if it alone is longer than a page', () => {
  const page = JSON.parse(Buffer.from(encodePage({ events: ['A'.repeat(5_000_000), 'B'], more: false })).toString());
  assert.equal(page.events.length, 1);
  assert.equal(page.more, true);
});

function smallCluster(random = () => 0.5, tuning = {}) {
  const time = new VirtualTime();
  const hub = memoryHub({ now: time.now, schedule: time.schedule, random, delayMs: 1 });
  const nodes = [1, 2, 3].map((id) => ({ id, address: '10.0.0.1', port: id, peerId: `peer ${id}` }));
  const heard = new Map<number, NetEvent[]>();
  const make = (self: number, bootNumber = 1) => {
    const hello = { boot: uuid(self * 100 + bootNumber), bootNumber, version: 'test' };
    const net = memoryNet(hub, { cluster: uuid(0), self, nodes, hello, tuning });
    const events: NetEvent[] = [];
    heard.set(self, events);
    net.on((event) => events.push(event));
    return net;
  };
  const frames = (node: number) =>
    (heard.get(node) ?? []).flatMap((event) =>
      event.type === 'frame' && event.frame.room === 'members' ? [event.frame.message.sequence] : [],
    );
  const gossip = (node: number) => (heard.get(node) ?? []).filter((event) => event.type === 'gossip').length;
  return { time, hub, make, heard, frames, gossip };
}

const ping = (sequence: number) => ({
  room: 'members' as const,
  message: { kind: 'ping' as const, sequence, eligible: true, updates: [] },
});

test('memory: a cut is silent; what was written waits, in order, and passes when it heals', async () => {
  const c = smallCluster();
  const [one, two] = [c.make(1), c.make(2)];
  await one.start();
  await two.start();
  await c.time.until(() => one.connected().includes(2) && two.connected().includes(1), 'connected');
  c.hub.cut(1, 2);
  for (let at = 1; at <= 3; at += 1) assert.equal(one.send(2, ping(at)), true);
  await c.time.pass(5000);
  assert.deepEqual(c.frames(2), []);
  assert.deepEqual(one.connected(), [2]);
  c.hub.heal(1, 2);
  await c.time.pass(10);
  assert.deepEqual(c.frames(2), [1, 2, 3]);
});

test('memory: two dials that meet on the way leave one connection within a few trips, with no new dial', async () => {
  const c = smallCluster(() => 0.5, { headStartMs: 0 });
  const [one, two] = [c.make(1), c.make(2)];
  await one.start();
  await two.start();
  await c.time.until(() => c.hub.standing(1, 2) === 2, 'the dials meet');
  await c.time.pass(10);
  assert.deepEqual([one.connected(), two.connected(), c.hub.standing(1, 2)], [[2], [1], 1]);
  assert(one.send(2, ping(1)) && two.send(1, ping(2)));
  await c.time.pass(10);
  assert.deepEqual([c.frames(1), c.frames(2)], [[2], [1]]);
});

test('memory: an end that gives up during a cut is connected anew after it, and the old bytes are gone', async () => {
  const c = smallCluster();
  const [one, two] = [c.make(1), c.make(2)];
  await one.start();
  await two.start();
  await c.time.until(() => one.connected().includes(2) && two.connected().includes(1), 'connected');
  c.hub.cut(1, 2);
  two.send(1, ping(1));
  one.reset(2);
  await c.time.pass(10_000);
  assert.deepEqual(one.connected(), []);
  assert.deepEqual(two.connected(), [1], 'half open');
  c.hub.heal(1, 2);
  await c.time.pass(5000);
  assert.deepEqual([one.connected(), two.connected()], [[2], [1]]);
  assert(two.send(1, ping(2)));
  await c.time.pass(10);
  assert.deepEqual(c.frames(1), [2]);
});

test('memory: gossip goes round a cut by way of a third, and once', async () => {
  const c = smallCluster();
  const nets = [c.make(1), c.make(2), c.make(3)];
  for (const net of nets) await net.start();
  await c.time.until(() => nets.every((net) => net.connected().length === 2), 'connected');
  c.hub.cut(1, 2);
  nets[0]?.publish(Buffer.from('news'));
  nets[0]?.publish(Buffer.from('news'));
  await c.time.pass(1000);
  assert.deepEqual([c.gossip(1), c.gossip(2), c.gossip(3)], [0, 1, 1]);
});

test('memory: delay and loss make frames late, not lost; gossip may be lost', async () => {
  const c = smallCluster(() => 0.1);
  const [one, two] = [c.make(1), c.make(2)];
  await one.start();
  await two.start();
  await c.time.until(() => one.connected().includes(2) && two.connected().includes(1), 'connected');
  c.hub.delay(1, 2, 50);
  c.hub.lose(1, 2, 0.5);
  one.send(2, ping(1));
  one.publish(Buffer.from('news'));
  await c.time.pass(49);
  assert.deepEqual(c.frames(2), []);
  await c.time.pass(500);
  assert.deepEqual(c.frames(2), [1]);
  assert.equal(c.gossip(2), 0);
});

test('memory: a node killed behind a cut and started anew is no duplicate when the cut heals', async () => {
  const c = smallCluster();
  const [one, two] = [c.make(1), c.make(2)];
  await one.start();
  await two.start();
  await c.time.until(() => one.connected().includes(2) && two.connected().includes(1), 'connected');
  two.send(1, ping(1));
  c.hub.cut(1, 2);
  await two.stop();
  const again = c.make(2, 2);
  await again.start();
  await c.time.pass(4000);
  c.hub.heal(1, 2);
  await c.time.pass(10_000);
  assert.deepEqual([one.connected(), again.connected()], [[2], [1]]);
  for (const node of [1, 2]) {
    assert(!c.heard.get(node)?.some((event) => event.type === 'duplicate-id' || event.type === 'refused'));
  }
});
