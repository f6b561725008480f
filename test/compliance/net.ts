/**
 * What every net must do, whatever carries it. A `Ground` says how nets are made, how time passes and how somebody speaks
 * who keeps none of the rules; the stories are the same for the in-memory net and for TCP.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Net, NetEvent, NetTuning, PeerEntry } from '#src/net/index.ts';
import { PROTOCOL } from '#src/version.ts';
import { type CatchupPage, type Frame, generateIdentity, type Identity } from '#src/wire/index.ts';
import { freePorts } from '../net/free_ports.ts';

export const cluster = '11111111-1111-4111-8111-111111111111';
export const uuid = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;
const frameBytesMax = 512 * 1024;

export interface NetSpec {
  identity: Identity;
  cluster: string;
  self: number;
  nodes: readonly PeerEntry[];
  hello: { boot: string; bootNumber: number; version: string };
  tuning?: Partial<NetTuning>;
}

/** Speaks as the key it was given, but sends what it likes. */
export interface Rogue {
  /** One frame, its length before it. */
  send(bytes: Uint8Array): void;
  /** What came back, as text of each frame. */
  heard(): string[];
  isOpen(): boolean;
  close(): Promise<void>;
}

export interface Ground {
  name: string;
  net(spec: NetSpec): Promise<Net>;
  /** Null: refused before a frame could be sent. */
  rogue(key: Identity, as: number, to: PeerEntry): Promise<Rogue | null>;
  /** Lets time pass until the condition holds; fails, with these words, when it never does. */
  until(condition: () => boolean, words: string): Promise<void>;
  /** Lets some time pass: enough for what must not happen to have happened. */
  aWhile(): Promise<void>;
  /** Connections that really stand between nodes 1 and 2, the only ones, listening on these ports. */
  connections(ports: readonly number[]): number;
}

const frame = (sequence: number): Frame => ({
  room: 'members',
  message: { kind: 'ping', sequence, eligible: true, updates: [] },
});
const encode = (value: unknown) => Buffer.from(JSON.stringify(value));
const hello = (node: number, changes: object = {}) =>
  encode({
    room: 'hello',
    message: { protocol: 1, cluster, node, boot: uuid(700 + node), bootNumber: 1, version: 'rogue', ...changes },
  });

/** Nodes 1…n with keys and free ports, and a way to start each of them. */
class Cluster {
  readonly ground: Ground;
  readonly nodes: PeerEntry[];
  readonly identities: Identity[];
  readonly nets = new Map<number, Net>();
  readonly heard = new Map<number, NetEvent[]>();
  readonly tuning: Partial<NetTuning>;
  #boots = 0;

  constructor(ground: Ground, identities: Identity[], ports: number[], tuning: Partial<NetTuning>) {
    this.ground = ground;
    this.identities = identities;
    this.tuning = tuning;
    this.nodes = identities.map((identity, at) => ({
      id: at + 1,
      address: '127.0.0.1',
      port: ports[at] ?? 0,
      peerId: identity.peerId,
    }));
  }

  entry(node: number): PeerEntry {
    const entry = this.nodes[node - 1];
    assert(entry);
    return entry;
  }

  key(node: number): Identity {
    const identity = this.identities[node - 1];
    assert(identity);
    return identity;
  }

  net(node: number): Net {
    const net = this.nets.get(node);
    assert(net, `node ${node} runs`);
    return net;
  }

  /** Makes a net; `nodes` may differ for one that listens elsewhere. */
  async make(node: number, nodes: readonly PeerEntry[] = this.nodes, into = node): Promise<Net> {
    this.#boots += 1;
    const net = await this.ground.net({
      identity: this.key(node),
      cluster,
      self: node,
      nodes,
      hello: { boot: uuid(this.#boots), bootNumber: this.#boots, version: 'test' },
      tuning: this.tuning,
    });
    const events: NetEvent[] = [];
    this.heard.set(into, events);
    net.on((event) => events.push(event));
    this.nets.set(into, net);
    return net;
  }

  async start(...nodes: number[]): Promise<void> {
    for (const node of nodes) await this.make(node);
    await Promise.all(nodes.map((node) => this.net(node).start()));
  }

  async stop(node: number): Promise<void> {
    await this.net(node).stop();
    this.nets.delete(node);
  }

  events(node: number): NetEvent[] {
    return this.heard.get(node) ?? [];
  }

  frames(node: number): number[] {
    return this.events(node).flatMap((event) =>
      event.type === 'frame' && event.frame.room === 'members' ? [event.frame.message.sequence] : [],
    );
  }

  refusals(node: number): string[] {
    return this.events(node).flatMap((event) => (event.type === 'refused' ? [event.reason] : []));
  }

  sees(node: number, ...others: number[]): boolean {
    return String(this.nets.get(node)?.connected().sort()) === String(others);
  }

  meshed(...nodes: number[]): Promise<void> {
    return this.ground.until(
      () => nodes.every((node) => this.sees(node, ...nodes.filter((other) => other !== node))),
      `nodes ${nodes} are all connected`,
    );
  }
}

export function netCompliance(ground: Ground): void {
  /** Node 2 turned bad, connected to node 1, which takes it for a member. */
  async function greeted(c: Cluster): Promise<Rogue> {
    const rogue = await ground.rogue(c.key(2), 2, c.entry(1));
    assert(rogue);
    rogue.send(hello(2));
    await ground.until(() => c.sees(1, 2), 'the Hellos pass both ways');
    return rogue;
  }

  const story = (
    name: string,
    count: number,
    tell: (cluster: Cluster) => Promise<void>,
    tuning: Partial<NetTuning> = {},
  ) =>
    test(`${ground.name}: ${name}`, { timeout: 60_000 }, async () => {
      const identities = await Promise.all(Array.from({ length: count }, generateIdentity));
      const one = new Cluster(ground, identities, await freePorts(count), tuning);
      try {
        await tell(one);
      } finally {
        await Promise.all([...one.nets.values()].map((net) => net.stop()));
      }
    });

  story('all connect, and tell it once', 3, async (c) => {
    await c.start(1, 2, 3);
    await c.meshed(1, 2, 3);
    for (const node of [1, 2, 3]) {
      const told = c.events(node).filter((event) => event.type === 'connected');
      assert.equal(new Set(told.map((event) => event.node)).size, 2);
      assert.deepEqual(c.refusals(node), []);
    }
  });

  story(
    'two that dial each other at once end with one connection, ten times out of ten, and it carries frames',
    2,
    async (c) => {
      for (let round = 1; round <= 10; round += 1) {
        await c.start(1, 2);
        await c.meshed(1, 2);
        await ground.aWhile();
        await c.meshed(1, 2);
        assert.equal(ground.connections(c.nodes.map((entry) => entry.port)), 1, `round ${round}`);
        for (const node of [1, 2]) {
          const told = c.events(node).filter((event) => event.type !== 'frame');
          assert.deepEqual(told, [{ type: 'connected', node: 3 - node }], `round ${round}, node ${node}`);
        }
        assert(c.net(1).send(2, frame(round)) && c.net(2).send(1, frame(round)));
        await ground.until(() => c.frames(1).includes(round) && c.frames(2).includes(round), 'both frames arrive');
        await Promise.all([c.stop(1), c.stop(2)]);
      }
    },
    // No second chance: a redial or the Hello timeout would put right, and so hide, what the cull did wrong.
    { headStartMs: 0, redialMinMs: 1e6, redialMaxMs: 1e6, helloTimeoutMs: 1e6 },
  );

  story('frames arrive whole, once, and in order', 2, async (c) => {
    await c.start(1, 2);
    await c.meshed(1, 2);
    const sent = Array.from({ length: 1000 }, (_, at) => at);
    for (const at of sent) assert(c.net(1).send(2, frame(at)));
    await ground.until(() => c.frames(2).length >= sent.length, 'all frames arrive');
    assert.deepEqual(c.frames(2), sent);
    assert.equal(c.net(1).counters().framesOut, sent.length);
    assert.equal(c.net(2).counters().framesIn, sent.length);
  });

  story('connected is told before the first frame of a peer', 3, async (c) => {
    for (const node of [1, 2, 3]) {
      const net = await c.make(node);
      net.on((event) => {
        if (event.type === 'connected') net.send(event.node, frame(node));
      });
    }
    await Promise.all([1, 2, 3].map((node) => c.net(node).start()));
    await ground.until(() => [1, 2, 3].every((node) => c.frames(node).length >= 2), 'everybody greets everybody');
    for (const node of [1, 2, 3]) {
      const known = new Set<number>();
      for (const event of c.events(node)) {
        if (event.type === 'connected') known.add(event.node);
        if (event.type === 'frame') assert(known.has(event.from));
      }
    }
  });

  story('a stranger is refused before it can say anything, and journaled by its peer ID', 2, async (c) => {
    await c.start(1, 2);
    await c.meshed(1, 2);
    const stranger = await generateIdentity();
    assert.equal(await ground.rogue(stranger, 2, c.entry(1)), null);
    await ground.until(() => c.refusals(1).length > 0, 'the refusal is told');
    assert(
      c.events(1).some((event) => event.type === 'refused' && event.from === null && event.peer === stranger.peerId),
    );
    assert.equal(c.net(1).counters().dialsRefused, 1);
    assert.equal(c.net(1).counters().framesIn, 0);
    assert(c.sees(1, 2));
  });

  story(
    'a stranger that knocks for ever does not fill the journal',
    1,
    async (c) => {
      await c.start(1);
      for (let knock = 1; knock <= 40; knock += 1) {
        assert.equal(await ground.rogue(await generateIdentity(), 2, c.entry(1)), null);
      }
      await ground.until(() => c.net(1).counters().dialsRefused === 40, 'every refusal is counted');
      assert(c.refusals(1).length < 40, `${c.refusals(1).length} told`);
      assert(c.refusals(1).length >= 2);
    },
    { refusalsPerSecond: 2 },
  );

  story('a frame that does not parse is refused and the peer is kept', 2, async (c) => {
    await c.start(1);
    const rogue = await greeted(c);
    rogue.send(Buffer.from('{not json'));
    rogue.send(Uint8Array.of(0x22, 0xff, 0x22));
    rogue.send(encode({ room: 'members', message: { kind: 'ping', sequence: 'one' } }));
    rogue.send(encode({ room: 'nowhere', message: {} }));
    rogue.send(encode(frame(5)));
    await ground.until(() => c.frames(1).includes(5), 'the good frame after them arrives');
    assert.equal(c.net(1).counters().framesRefused, 4);
    assert.equal(c.refusals(1).length, 4);
    assert.deepEqual(c.frames(1), [5]);
    assert(rogue.isOpen());
    await rogue.close();
  });

  story('the longest frame passes; an oversized one ends the connection', 2, async (c) => {
    await c.start(1);
    const rogue = await greeted(c);
    const longest = encode(frame(7));
    rogue.send(Buffer.concat([longest, Buffer.alloc(frameBytesMax - longest.length, ' ')]));
    await ground.until(() => c.frames(1).includes(7), 'the longest frame arrives');
    rogue.send(Buffer.concat([longest, Buffer.alloc(frameBytesMax - longest.length + 1, ' ')]));
    await ground.until(() => !rogue.isOpen(), 'it is cut off');
    assert.deepEqual(c.frames(1), [7]);
    assert.match(c.refusals(1).join(), /at most 524288/);
    assert(c.events(1).some((event) => event.type === 'disconnected'));
    await rogue.close();
  });

  for (const [what, first] of [
    ['no Hello', encode(frame(1))],
    ['nonsense', Buffer.from('hello')],
    ['a Hello of another cluster', hello(2, { cluster: uuid(5) })],
    ['a Hello in another node’s name', hello(3)],
  ] as const) {
    story(`a member whose first frame is ${what} is cut, and nothing it says is taken`, 3, async (c) => {
      await c.start(1);
      const rogue = await ground.rogue(c.key(2), 2, c.entry(1));
      assert(rogue);
      rogue.send(first);
      rogue.send(encode(frame(2)));
      await ground.until(() => !rogue.isOpen(), 'it is cut off');
      assert.deepEqual(c.frames(1), []);
      assert(!c.events(1).some((event) => event.type === 'connected'));
      assert.equal(c.refusals(1).length, 1);
      await rogue.close();
    });
  }

  story('a member of a version too far off is told so once, and nothing it says is taken', 3, async (c) => {
    await c.start(1);
    const told = () => c.events(1).flatMap((event) => (event.type === 'version-refused' ? [event.reason] : []));
    for (const [protocol, oldest, upgrade] of [
      [PROTOCOL.newest + 1, PROTOCOL.newest + 1, 'upgrade node 1'],
      [PROTOCOL.newest + 1, PROTOCOL.newest + 1, null],
    ] as const) {
      const before = told().length;
      const rogue = await ground.rogue(c.key(2), 2, c.entry(1));
      assert(rogue);
      rogue.send(hello(2, { protocol, oldest, version: '9.9.9' }));
      await ground.until(() => !rogue.isOpen(), 'it is cut off');
      assert.equal(told().length - before, upgrade === null ? 0 : 1);
      if (upgrade !== null)
        assert.match(told().at(-1) ?? '', new RegExp(`node 2 runs mdmesh 9.9.9 .*node 1 runs.*${upgrade}`));
      await rogue.close();
    }
    assert.match(c.net(1).versions().get(2)?.refused ?? '', /too far apart/);
    assert(!c.events(1).some((event) => event.type === 'connected'));
  });

  story('a member of the next version, which speaks this one’s protocol too, is a member', 2, async (c) => {
    await c.start(1);
    const rogue = await ground.rogue(c.key(2), 2, c.entry(1));
    assert(rogue);
    rogue.send(hello(2, { protocol: PROTOCOL.newest + 1, oldest: PROTOCOL.newest, version: '0.2.0' }));
    await ground.until(() => c.sees(1, 2), 'the Hellos pass both ways');
    assert.deepEqual(c.net(1).versions().get(2), {
      version: '0.2.0',
      protocol: { oldest: PROTOCOL.newest, newest: PROTOCOL.newest + 1 },
      refused: null,
    });
    await rogue.close();
  });

  story(
    'more frames than the limit are dropped and counted; the peer is kept',
    2,
    async (c) => {
      await c.start(1);
      const rogue = await greeted(c);
      for (let at = 0; at < 500; at += 1) rogue.send(encode(frame(at)));
      await ground.until(() => c.frames(1).length + c.net(1).counters().framesRefused >= 500, 'all are dealt with');
      assert(c.net(1).counters().framesRefused > 0);
      assert(c.frames(1).length >= 50);
      assert(c.refusals(1).length < 100, 'and the refusals themselves are bounded');
      assert(rogue.isOpen());
      await rogue.close();
    },
    { framesPerSecond: 100, refusalsPerSecond: 10 },
  );

  story(
    'more sealed events than the limit are dropped and counted, in frames and by gossip; other frames pass',
    2,
    async (c) => {
      await c.start(1);
      const rogue = await greeted(c);
      for (let at = 0; at < 60; at += 1)
        rogue.send(encode({ room: 'arrays', message: { kind: 'event', event: 'AAAA' } }));
      rogue.send(encode(frame(7)));
      await ground.until(() => c.frames(1).length === 1, 'what needs no signature is taken');
      const taken = c.events(1).filter((event) => event.type === 'frame' && event.frame.room === 'arrays').length;
      assert(taken >= 20 && taken < 40, `${taken} of 60`);
      assert.equal(c.net(1).counters().framesRefused, 60 - taken);
      assert(rogue.isOpen());
      await rogue.close();
    },
    { eventsPerSecond: 1, eventsBurst: 20 },
  );

  story('gossip reaches all others, once each, and not its publisher', 3, async (c) => {
    await c.start(1, 2, 3);
    await c.meshed(1, 2, 3);
    const gossip = (node: number) =>
      c.events(node).flatMap((event) => (event.type === 'gossip' ? [Buffer.from(event.sealed).toString()] : []));
    // Subscriptions travel after the connections stand: say it until it is heard.
    for (let at = 0; ; at += 1) {
      c.net(1).publish(Buffer.from(`first ${at}`));
      await ground.aWhile();
      if ([2, 3].every((node) => gossip(node).length > 0)) break;
      assert(at < 50, 'the mesh forms');
    }
    for (const node of [1, 2, 3]) c.net(node).publish(Buffer.from(`from ${node}`));
    await ground.until(
      () => [1, 2, 3].every((node) => gossip(node).filter((text) => text.startsWith('from')).length >= 2),
      'all hear the others',
    );
    await ground.aWhile();
    for (const node of [1, 2, 3]) {
      const expected = [1, 2, 3].filter((other) => other !== node).map((other) => `from ${other}`);
      assert.deepEqual(
        gossip(node)
          .filter((text) => text.startsWith('from'))
          .sort(),
        expected,
      );
    }
    assert(c.net(2).counters().gossipIn >= 2 && c.net(2).counters().gossipOut === 1);
  });

  story('catch-up brings pages, and says so when it cannot', 2, async (c) => {
    await c.start(1, 2);
    await c.meshed(1, 2);
    const events = Array.from({ length: 5 }, (_, at) => Buffer.from(`event ${at}`).toString('base64'));
    await assert.rejects(settled(ground, c.net(1).catchup(2, { have: [] })), /catch-up from node 2/);
    c.net(2).serveCatchup(async (from, { have }) => {
      assert.equal(from, 1);
      const after = have[0]?.sequence ?? 0;
      return { events: events.slice(after, after + 2), more: after + 2 < events.length };
    });
    const got: string[] = [];
    for (let page: CatchupPage | null = null; page?.more !== false; ) {
      page = await settled(ground, c.net(1).catchup(2, { have: [{ origin: 2, bootNumber: 1, sequence: got.length }] }));
      got.push(...page.events);
    }
    assert.deepEqual(got, events);
    c.net(2).serveCatchup(async () => {
      throw new Error('journal is busy');
    });
    await assert.rejects(settled(ground, c.net(1).catchup(2, { have: [] })), /catch-up from node 2/);
    assert(c.refusals(2).some((reason) => reason.includes('journal is busy')));
    await c.stop(2);
    await ground.until(() => c.sees(1), 'node 2 is gone');
    await assert.rejects(c.net(1).catchup(2, { have: [] }), /not connected/);
  });

  story('a page that would be too long is cut short, and more is promised', 2, async (c) => {
    await c.start(1, 2);
    await c.meshed(1, 2);
    const large = 'A'.repeat(256 * 1024);
    c.net(2).serveCatchup(async () => ({ events: Array.from({ length: 40 }, () => large), more: false }));
    const page = await settled(ground, c.net(1).catchup(2, { have: [] }));
    assert(page.events.length > 0 && page.events.length < 40);
    assert.equal(page.more, true);
  });

  story(
    'an answer that never comes ends in an error, not in waiting',
    2,
    async (c) => {
      await c.start(1, 2);
      await c.meshed(1, 2);
      c.net(2).serveCatchup(() => new Promise(() => undefined));
      await assert.rejects(settled(ground, c.net(1).catchup(2, { have: [] })), /catch-up from node 2/);
      assert(c.sees(1, 2));
    },
    { catchupTimeoutMs: 300 },
  );

  story('a peer that stops and comes back is connected again, both ways', 3, async (c) => {
    await c.start(1, 2, 3);
    await c.meshed(1, 2, 3);
    for (const node of [2, 1, 3]) {
      const others = [1, 2, 3].filter((other) => other !== node);
      await c.stop(node);
      await ground.until(
        () => others.every((other) => c.sees(other, ...others.filter((o) => o !== other))),
        'it is missed',
      );
      for (const other of others) assert.equal(c.net(other).send(node, frame(1)), false);
      await c.start(node);
      await c.meshed(1, 2, 3);
      for (const other of others) assert(c.net(other).send(node, frame(other)));
      await ground.until(() => c.frames(node).length === 2, 'frames reach it again');
    }
    for (const node of [1, 2, 3]) assert.deepEqual(c.refusals(node), [], 'a restart is no duplicate');
  });

  story('send to a node that never was there is false, and throws nothing', 2, async (c) => {
    await c.start(1);
    assert.equal(c.net(1).send(2, frame(1)), false);
    assert.equal(c.net(1).send(63, frame(1)), false);
    c.net(1).reset(2);
    c.net(1).publish(Buffer.from('to nobody'));
    await ground.aWhile();
    assert.deepEqual(c.net(1).connected(), []);
  });

  story('reset cuts a peer off, and it is dialled again', 2, async (c) => {
    await c.start(1, 2);
    await c.meshed(1, 2);
    for (const by of [1, 2]) {
      const before = c.events(by).length;
      c.net(by).reset(3 - by);
      assert(
        c
          .events(by)
          .slice(before)
          .some((event) => event.type === 'disconnected'),
        'at once',
      );
      assert.deepEqual(c.net(by).connected(), []);
      await ground.until(
        () => c.events(3 - by).some((event) => event.type === 'disconnected'),
        'the other end learns it',
      );
      await c.meshed(1, 2);
    }
  });

  story('a second agent with the key of node 2 is found out, and both are told both boots', 3, async (c) => {
    const [elsewhere = 0] = await freePorts(1);
    await c.start(1, 2, 3);
    await c.meshed(1, 2, 3);
    const moved = c.nodes.map((entry) => (entry.id === 2 ? { ...entry, port: elsewhere } : entry));
    await (await c.make(2, moved, 22)).start();
    const told = (key: number) => c.events(key).find((event) => event.type === 'duplicate-id');
    await ground.until(() => told(2) !== undefined && told(22) !== undefined, 'both are told');
    for (const key of [2, 22]) {
      const event = told(key);
      assert(event?.type === 'duplicate-id');
      assert.deepEqual([...event.boots].sort(), [uuid(2), uuid(4)]);
    }
    assert(
      c
        .refusals(1)
        .concat(c.refusals(3))
        .some((reason) => /two agents run under node ID 2/.test(reason)),
    );
    assert.equal(told(1), undefined);
    assert.equal(told(3), undefined);
  });

  story('a member cannot be talked into being a duplicate by a frame that does not name it', 2, async (c) => {
    await c.start(1);
    const rogue = await greeted(c);
    rogue.send(encode({ room: 'duplicate-id', message: { boots: [uuid(998), uuid(999)] } }));
    rogue.send(encode({ room: 'duplicate-id', message: { boots: [uuid(1)] } }));
    rogue.send(encode(frame(1)));
    await ground.until(() => c.frames(1).length === 1, 'what came after them is taken');
    assert(!c.events(1).some((event) => event.type === 'duplicate-id'));
    assert.equal(c.refusals(1).length, 2);
    await rogue.close();
  });

  story('a listener that throws is not the peer’s fault', 2, async (c) => {
    await c.make(1);
    c.net(1).on(() => {
      throw new Error('broken listener');
    });
    await c.net(1).start();
    await c.start(2);
    await c.meshed(1, 2);
    assert(c.net(2).send(1, frame(1)) && c.net(2).send(1, frame(2)));
    await ground.until(() => c.frames(1).length === 2, 'both frames arrive');
    assert(c.sees(1, 2));
  });

  story('a place that is taken is an error with words at start', 1, async (c) => {
    await c.start(1);
    const first = c.net(1);
    const second = await c.make(1);
    await assert.rejects(second.start(), new RegExp(`cannot listen on 127.0.0.1 port ${c.entry(1).port} for node 1`));
    await first.stop();
  });
}

/** A promise that needs time to pass. */
async function settled<T>(ground: Ground, promise: Promise<T>): Promise<T> {
  let done = false;
  const end = () => {
    done = true;
  };
  promise.then(end, end);
  await ground.until(() => done, 'the answer comes');
  return await promise;
}
