/**
 * What an agent does not believe: one real agent, node 1, whose network is the test. It is follower; node 2 and node 3 say
 * true and untrue things to it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Agent, type AgentParts } from '#src/agent/index.ts';
import { CHECK_SCHEDULE } from '#src/arrays/check_schedule.ts';
import { PATH_LOSS } from '#src/arrays/path_loss.ts';
import type { ArrayRecord, NodeId } from '#src/arrays/record.ts';
import { LAN } from '#src/config/index.ts';
import { memoryJournal } from '#src/journal/index.ts';
import { simulatedDriver } from '#src/md/simulated.ts';
import { SimulatedStorage } from '#src/md/simulated_storage.ts';
import { VirtualTime } from '#src/md/simulated_time.ts';
import type { Net, NetEvent } from '#src/net/index.ts';
import { type Event, type EventBody, generateIdentity, type Identity, seal } from '#src/wire/index.ts';
import { ARRAY, mirror } from '../unit/arrays_fixture.ts';

const CLUSTER = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001';

class Scene {
  readonly time = new VirtualTime();
  readonly journal = memoryJournal({ now: () => new Date(0) });
  readonly identities = new Map<NodeId, Identity>();
  readonly #listeners: ((event: NetEvent) => void)[] = [];
  readonly #sequences = new Map<NodeId, number>();
  agent: Agent | null = null;

  static async start(): Promise<Scene> {
    const scene = new Scene();
    for (const node of [1, 2, 3, 4]) scene.identities.set(node, await generateIdentity());
    const storage = new SimulatedStorage();
    const identity = scene.identity(1);
    const net: Net = {
      start: async () => undefined,
      stop: async () => undefined,
      on: (listener) => void scene.#listeners.push(listener),
      send: () => true,
      publish: () => undefined,
      catchup: async () => ({ events: [], more: false }),
      serveCatchup: () => undefined,
      connected: () => [],
      versions: () => new Map(),
      reset: () => undefined,
      setPeers: () => undefined,
      changeIdentity: async () => undefined,
      counters: () => ({ framesIn: 0, framesOut: 0, framesRefused: 0, dialsRefused: 0, gossipIn: 0, gossipOut: 0 }),
    };
    const parts: AgentParts = {
      config: {
        file: 'test',
        cluster: { name: 'demo', uuid: CLUSTER },
        self: 1,
        nodes: [1, 2, 3].map((id) => ({ id, address: `10.0.0.${id}`, port: 1, peerId: scene.identity(id).peerId })),
        keyFile: '',
        stateDir: '',
        socket: { path: '', modeOctal: 0o600, group: null },
        api: null,
        timing: LAN,
        profile: 'lan',
        quorum: { by: 'nodes', witness: null },
        fencing: { methods: ['manual'], command: null, watchdog: null, acceptDataLoss: false },
        arrays: {
          autoAssemble: true,
          devices: [],
          check: CHECK_SCHEDULE,
          pathLoss: PATH_LOSS,
          copy: { limitKib: null, windowMs: 15, windowMaxSectors: 131_072, checkpointMs: 2000 },
        },
        hooks: [],
        mail: null,
        driver: 'simulated',
        log: { level: 'info' },
        journal: {
          fsyncAfterMs: 50,
          rotateBytes: Number.POSITIVE_INFINITY,
          rotateMs: Number.POSITIVE_INFINITY,
          keepSegments: null,
          checkpointEntries: 256,
          checkpointAfterMs: 600_000,
        },
      },
      identity,
      driver: simulatedDriver({ storage, node: 1, clock: scene.time.clock, schedule: scene.time.schedule }),
      net,
      journal: scene.journal,
      fencing: {
        fence: () => new Promise(() => undefined),
        confirm: () => null,
        cancel: () => undefined,
        configure: () => undefined,
      },
      files: {
        loadVote: async () => null,
        storeVote: async () => undefined,
        loadLists: async () => null,
        storeLists: async () => undefined,
        loadEnd: async () => null,
        storeEnd: async () => undefined,
        nextBootNumber: async () => 1,
      },
      boot: { boot: '00000000-0000-4000-8000-0000000000b1', bootNumber: 1 },
      timers: { every: () => () => undefined, after: () => () => undefined, wall: () => new Date(0) },
      uuid: () => '00000000-0000-4000-8000-0000000000ff',
      log: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
      version: 'test',
    };
    scene.agent = await Agent.create(parts);
    await scene.agent.start();
    await scene.settle();
    return scene;
  }

  identity(node: NodeId): Identity {
    const identity = this.identities.get(node);
    assert.ok(identity !== undefined);
    return identity;
  }

  /** Everything that waits for a promise has run. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Sealed by `signer`, in the name of `origin`. */
  async event(origin: NodeId, body: EventBody, fields: Partial<Event> = {}, signer = origin): Promise<string> {
    const sequence = (this.#sequences.get(origin) ?? 0) + 1;
    this.#sequences.set(origin, sequence);
    const event: Event = {
      cluster: CLUSTER,
      origin,
      boot: `00000000-0000-4000-8000-0000000000a${origin}`,
      bootNumber: 1,
      sequence,
      time: '2026-01-01T00:00:00.000Z',
      term: 1,
      body,
      ...fields,
    };
    return Buffer.from(await seal(this.identity(signer), event)).toString('base64');
  }

  vote(voter: NodeId, candidate: NodeId, term: number): Promise<string> {
    return this.event(voter, { type: 'vote', term, candidate });
  }

  async commit(origin: NodeId, record: ArrayRecord, certificate: string[]): Promise<string> {
    return this.event(origin, { type: 'commit', kind: 'fail', record, before: null, detail: {}, certificate });
  }

  async tell(event: NetEvent): Promise<void> {
    for (const listener of this.#listeners) listener(event);
    await this.settle();
  }

  async gossip(from: NodeId, sealed: string): Promise<void> {
    await this.tell({ type: 'gossip', from, sealed: Buffer.from(sealed, 'base64') });
  }

  get known(): ArrayRecord | undefined {
    return this.agent?.records().find((record) => record.uuid === ARRAY);
  }

  counter(name: string): number {
    return this.agent?.status().counters[name] ?? 0;
  }

  refusals(): string[] {
    return this.journal
      .read(0, 1000)
      .entries.flatMap(({ event: { body } }) =>
        body.type === 'notice' && body.name === 'MessageRefused' ? [String(body.detail.reason)] : [],
      );
  }
}

const committed = mirror({ version: { term: 3, index: 9 }, writers: [] });

test('a commit with the votes of a majority is taken', async () => {
  const scene = await Scene.start();
  const votes = [await scene.vote(2, 2, 3), await scene.vote(3, 2, 3)];
  await scene.gossip(3, await scene.commit(2, committed, votes));
  assert.deepEqual(scene.known?.version, { term: 3, index: 9 });
  assert.equal(scene.counter('refused'), 0);
});

for (const [why, certificate] of [
  ['no votes at all', async () => []],
  ['one vote of three', async (scene: Scene) => [await scene.vote(2, 2, 3)]],
  ['one vote twice', async (scene: Scene) => [await scene.vote(2, 2, 3), await scene.vote(2, 2, 3)]],
  ['votes for another', async (scene: Scene) => [await scene.vote(2, 3, 3), await scene.vote(3, 3, 3)]],
  ['votes of another term', async (scene: Scene) => [await scene.vote(2, 2, 2), await scene.vote(3, 2, 2)]],
  [
    "a vote in node 3's name that node 2 signed",
    async (scene: Scene) => [
      await scene.vote(2, 2, 3),
      await scene.event(3, { type: 'vote', term: 3, candidate: 2 }, {}, 2),
    ],
  ],
] as [string, (scene: Scene) => Promise<string[]>][]) {
  test(`a commit with ${why} is refused, counted and journaled`, async () => {
    const scene = await Scene.start();
    await scene.gossip(2, await scene.commit(2, committed, await certificate(scene)));
    assert.equal(scene.known, undefined);
    assert.equal(scene.counter('refused'), 1);
    assert.match(scene.refusals()[0] ?? '', /certificate of term 3/);
  });
}

test('a term has one master: a second certificate for it, even a whole one, is refused', async () => {
  const scene = await Scene.start();
  const votes = [await scene.vote(2, 2, 3), await scene.vote(3, 2, 3)];
  await scene.gossip(2, await scene.commit(2, committed, votes));
  const others = [await scene.vote(1, 3, 3), await scene.vote(3, 3, 3)];
  const later = { ...committed, version: { term: 3, index: 10 } };
  await scene.gossip(3, await scene.commit(3, later, others));
  assert.deepEqual(scene.known?.version, { term: 3, index: 9 });
  assert.match(scene.refusals()[0] ?? '', /term 3 belongs to node 2/);
});

test('an event that another signed, of a stranger, or of another cluster is refused, counted and journaled', async () => {
  for (const [pattern, sealed] of [
    [/bad-signature/, (scene: Scene) => scene.event(2, { type: 'leave', reason: '' }, {}, 3)],
    [/unknown-sender/, (scene: Scene) => scene.event(4, { type: 'leave', reason: '' })],
    [
      /wrong-cluster/,
      (scene: Scene) =>
        scene.event(2, { type: 'leave', reason: '' }, { cluster: '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9002' }),
    ],
  ] as [RegExp, (scene: Scene) => Promise<string>][]) {
    const scene = await Scene.start();
    await scene.gossip(3, await sealed(scene));
    assert.equal(scene.counter('refused'), 1);
    assert.match(scene.refusals()[0] ?? '', pattern);
    assert.ok(!scene.journal.has(2, 1, 1));
  }
});

test('an event that comes again is not journaled again; one of an older boot does not act any more', async () => {
  const scene = await Scene.start();
  const first = await scene.event(2, { type: 'leave', reason: 'first' });
  await scene.gossip(2, first);
  const { length } = scene.journal.read(0, 1000).entries;
  await scene.gossip(3, first);
  assert.equal(scene.journal.read(0, 1000).entries.length, length);
  assert.equal(scene.counter('duplicates'), 1);
  await scene.gossip(2, await scene.event(2, { type: 'leave', reason: 'new boot' }, { bootNumber: 2, sequence: 1 }));
  await scene.gossip(2, await scene.event(2, { type: 'leave', reason: 'recorded' }, { bootNumber: 1, sequence: 7 }));
  assert.match(scene.refusals()[0] ?? '', /stale-boot/);
});

test('a commit of an older term than the one that is followed is refused', async () => {
  const scene = await Scene.start();
  const certificate = [await scene.vote(2, 2, 5), await scene.vote(3, 2, 5)];
  await scene.tell({
    type: 'frame',
    from: 2,
    frame: {
      room: 'lease',
      message: {
        kind: 'renew',
        term: 5,
        sentAtMs: 0,
        echoAckSentAtMs: null,
        grant: false,
        certificate,
        holderMs: 2000,
        voterMs: 3000,
      },
    },
  });
  const votes = [await scene.vote(2, 3, 3), await scene.vote(3, 3, 3)];
  await scene.gossip(3, await scene.commit(3, committed, votes));
  assert.equal(scene.known, undefined);
  assert.equal(scene.counter('staleTerms'), 1);
  assert.match(scene.refusals()[0] ?? '', /stale-term/);
});

test('only the master that is followed can release a commit', async () => {
  const scene = await Scene.start();
  const votes = [await scene.vote(2, 2, 3), await scene.vote(3, 2, 3)];
  await scene.gossip(2, await scene.commit(2, committed, votes));
  await scene.tell({
    type: 'frame',
    from: 3,
    frame: { room: 'arrays', message: { kind: 'released', array: ARRAY, version: committed.version } },
  });
  assert.equal(scene.agent?.status().arrays[0]?.released, null);
});

test('refusals are told at once, and ever more rarely while they go on; none hides those about another node', async () => {
  const scene = await Scene.start();
  const refuse = (from: NodeId) => scene.tell({ type: 'refused', from, peer: null, reason: `of node ${from}` });
  const told = (from: NodeId) => scene.refusals().filter((reason) => reason === `of node ${from}`).length;
  for (let second = 0; second < 600; second += 1) {
    await refuse(2);
    await scene.time.pass(1000);
  }
  assert.equal(scene.counter('refused'), 600);
  assert.ok(told(2) > 5 && told(2) < 12, `${told(2)} of 600`);
  await refuse(3);
  assert.equal(told(3), 1);
  const before = told(2);
  await scene.time.pass(120_000);
  await refuse(2);
  assert.equal(told(2), before + 1, 'after a quiet while it is news again');
});

const longNotice = (text: string): EventBody => ({
  type: 'notice',
  name: 'NodeSuspect',
  severity: 'warning',
  subject: 'node/3',
  detail: { text: text.repeat(150_000) },
});
const kept = (scene: Scene, origin: NodeId) =>
  scene.journal.read(0, 1000).entries.filter(({ event }) => event.origin === origin).length;

test('a member cannot fill the others’ journals, nor use up what another may tell', async () => {
  const scene = await Scene.start();
  const first = await scene.event(3, longNotice('c'));
  for (let times = 0; times < 40; times += 1) await scene.gossip(2, first);
  assert.equal(kept(scene, 3), 1);
  for (let times = 0; times < 30; times += 1) await scene.gossip(2, await scene.event(2, longNotice('b')));
  assert.ok(kept(scene, 2) < 10, `${kept(scene, 2)} of 30`);
  assert.match(scene.refusals().join(), /flood: more events than a node may tell/);
  await scene.gossip(3, await scene.event(3, longNotice('d')));
  assert.equal(kept(scene, 3), 2, 'said again by another, it counted once');
  const before = kept(scene, 2);
  await scene.time.pass(20_000);
  await scene.gossip(2, await scene.event(2, longNotice('e')));
  assert.equal(kept(scene, 2), before + 1, 'later it may tell more');
});

test('the master of the day is not held back: commits of many arrays come at once', async () => {
  const scene = await Scene.start();
  const certificate = [await scene.vote(2, 2, 5), await scene.vote(3, 2, 5)];
  const times = { holderMs: 2000, voterMs: 3000 };
  const renewal = { term: 5, sentAtMs: 0, echoAckSentAtMs: null, grant: false, certificate };
  const message = { kind: 'renew', ...renewal, ...times } as const;
  await scene.tell({ type: 'frame', from: 2, frame: { room: 'lease', message } });
  for (let times = 0; times < 30; times += 1) await scene.gossip(2, await scene.event(2, longNotice('m')));
  assert.equal(kept(scene, 2), 30);
});
