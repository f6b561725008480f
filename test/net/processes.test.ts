/** What only real processes and sockets do: die without a word, freeze, and send rubbish. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { identify } from '@libp2p/identify';
import { multiaddr } from '@multiformats/multiaddr';
import * as lp from 'it-length-prefixed';
import { createLibp2p } from 'libp2p';
import { createNet, type Net, type NetEvent } from '#src/net/index.ts';
import { barePeer } from './bare_peer.ts';
import { AgentProcess, boot, cluster, plan } from './processes.ts';
import { standingConnections } from './sockets.ts';

type Plan = Awaited<ReturnType<typeof plan>>;

async function until(condition: () => boolean, words: string): Promise<void> {
  for (let waited = 0; !condition(); waited += 1) {
    assert(waited < 4000, `never: ${words}`);
    await sleep(5);
  }
}

async function ownNet(one: Plan, node: number, events: NetEvent[]): Promise<Net> {
  const identity = one.identities[node - 1];
  assert(identity);
  const net = await createNet({
    identity,
    cluster,
    self: node,
    nodes: one.nodes,
    hello: { boot: boot(node), bootNumber: 1, version: 'test' },
    now: () => performance.now(),
  });
  net.on((event) => events.push(event));
  return net;
}

function agent(one: Plan, node: number, bootNumber: number): AgentProcess {
  const identity = one.identities[node - 1];
  assert(identity);
  return new AgentProcess(node, bootNumber, one.nodes, identity);
}

test('a node that is killed and started again at once, again and again, is no duplicate of itself', {
  timeout: 90_000,
}, async () => {
  const one = await plan(2);
  for (const here of [1, 2]) {
    const there = 3 - here;
    const events: NetEvent[] = [];
    const net = await ownNet(one, here, events);
    await net.start();
    const agents: AgentProcess[] = [];
    try {
      for (let round = 1; round <= 3; round += 1) {
        const next = agent(one, there, round);
        agents.push(next);
        await until(() => next.tells('connected') && net.connected().includes(there), `round ${round} connects`);
        await next.kill();
      }
      await until(() => net.connected().length === 0, 'the last death is noticed');
      assert.deepEqual(
        events.filter((event) => event.type === 'refused' || event.type === 'duplicate-id'),
        [],
      );
      assert(!agents.some((each) => each.tells('duplicate-id') || each.tells('refused')));
      assert.equal(events.filter((event) => event.type === 'connected').length, 3);
    } finally {
      await Promise.all(agents.map((each) => each.kill()));
      await net.stop();
    }
  }
});

test('a frozen node that was cut off is connected again when it thaws, with one connection', {
  timeout: 60_000,
}, async () => {
  const one = await plan(2);
  const events: NetEvent[] = [];
  const net = await ownNet(one, 1, events);
  const other = agent(one, 2, 1);
  try {
    await net.start();
    await until(() => net.connected().includes(2), 'both connect');
    other.freeze();
    net.reset(2);
    assert.deepEqual(net.connected(), []);
    await sleep(500);
    assert.deepEqual(net.connected(), [], 'a kernel that accepts for a frozen agent is not a connected peer');
    other.thaw();
    await until(() => net.connected().includes(2), 'it is back');
    await until(() => standingConnections(one.nodes.map((entry) => entry.port)) === 1, 'one connection stays');
    assert(!other.tells('duplicate-id') && !events.some((event) => event.type === 'duplicate-id'));
  } finally {
    other.thaw();
    await other.kill();
    await net.stop();
  }
});

test('rubbish on the port disturbs nobody', { timeout: 60_000 }, async () => {
  const one = await plan(2);
  const [net, peer] = [await ownNet(one, 1, []), await ownNet(one, 2, [])];
  try {
    await Promise.all([net.start(), peer.start()]);
    await until(() => net.connected().includes(2), 'both connect');
    const port = one.nodes[0]?.port ?? 0;
    const starts = [
      Buffer.alloc(0),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      Buffer.alloc(100_000, 0xff),
      Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n\x00\x00'),
      Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n\xff\xffrubbish', 'latin1'),
    ];
    for (let round = 0; round < 8; round += 1) {
      for (const bytes of starts) {
        const socket = connect(port, '127.0.0.1').on('error', () => undefined);
        socket.write(bytes);
        if (round % 2 === 0) socket.end();
        else setTimeout(() => socket.destroy(), 20);
      }
    }
    await sleep(300);
    assert(net.connected().includes(2));
    net.send(2, { room: 'members', message: { kind: 'ping', sequence: 1, eligible: true, updates: [] } });
    await until(() => peer.counters().framesIn === 1, 'frames pass as before');
  } finally {
    await Promise.all([net.stop(), peer.stop()]);
  }
});

/** A member's key in the hands of something that speaks only as far as this file makes it. */
async function member(one: Plan, node: number) {
  const privateKey = one.identities[node - 1]?.privateKey;
  assert(privateKey);
  const libp2p = await createLibp2p({
    ...barePeer({ privateKey }),
    services: { identify: identify() },
  });
  await libp2p.handle('/mdmesh/frames/1', async (stream) => {
    for await (const _ of stream);
  });
  const connection = await libp2p.dial(multiaddr(`/ip4/127.0.0.1/tcp/${one.nodes[0]?.port}`));
  const stream = await connection.newStream('/mdmesh/frames/1');
  const hello = { protocol: 1, cluster, node, boot: boot(node), bootNumber: 1, version: 'raw' };
  stream.send(lp.encode.single(Buffer.from(JSON.stringify({ room: 'hello', message: hello }))));
  return { libp2p, connection, stream };
}

test('a length beyond the limit is not waited for: its sender is cut before the bytes come', {
  timeout: 60_000,
}, async () => {
  const one = await plan(2);
  const events: NetEvent[] = [];
  const net = await ownNet(one, 1, events);
  await net.start();
  const { libp2p, stream } = await member(one, 2);
  try {
    await until(() => events.some((event) => event.type === 'connected'), 'its Hello is good');
    // 600 KiB as a varint.
    stream.send(Uint8Array.of(0x80, 0xe0, 0x25, 0x7b));
    await until(
      () => events.some((event) => event.type === 'refused' && /at most 524288/.test(event.reason)),
      'refused',
    );
    assert(events.some((event) => event.type === 'disconnected'));
  } finally {
    await libp2p.stop();
    await net.stop();
  }
});

test('a peer whose gossip does not stand both ways is cut, to be dialled anew', { timeout: 60_000 }, async () => {
  const one = await plan(2);
  const events: NetEvent[] = [];
  const net = await ownNet(one, 1, events);
  await net.start();
  // Says Hello as it should, and never opens a gossip stream: what a culled connection leaves behind.
  const { libp2p: deaf, connection } = await member(one, 2);
  try {
    await until(() => events.some((event) => event.type === 'connected'), 'its Hello is good');
    await until(() => events.some((event) => event.type === 'disconnected'), 'it is cut');
    await until(() => connection.status !== 'open', 'it sees so');
  } finally {
    await deaf.stop();
    await net.stop();
  }
});

test('after mutual cold starts gossip passes both ways, each time', { timeout: 90_000 }, async () => {
  for (let round = 1; round <= 8; round += 1) {
    const one = await plan(2);
    const heard: NetEvent[][] = [[], []];
    const nets = await Promise.all([1, 2].map((node) => ownNet(one, node, heard[node - 1] ?? [])));
    try {
      await Promise.all(nets.map((net) => net.start()));
      const hears = () => heard.map((events) => events.some((event) => event.type === 'gossip'));
      for (let at = 0; !hears().every(Boolean); at += 1) {
        assert(at < 100, `round ${round}: gossip heard: ${hears()}`);
        for (const net of nets) net.publish(Buffer.from(`${round} ${at} ${Math.random()}`));
        await sleep(50);
      }
    } finally {
      await Promise.all(nets.map((net) => net.stop()));
    }
  }
});
