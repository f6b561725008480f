/** Three nodes' notaries over journals in memory: what is signed when, who cosigns, and how a changed history is found out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCosigned, nameOfNode, openCheckpoint, readCheckpoint } from '#src/journal/checkpoint.ts';
import { type Journal, memoryJournal, Notary } from '#src/journal/index.ts';
import { journalState } from '#src/outlets/journal_state.ts';
import { generateIdentity, type Identity, seal } from '#src/wire/index.ts';
import type { Event, EventBody } from '#src/wire/messages.ts';
import { CLUSTER, clock } from './journal_sample.ts';

type Checkpoint = Extract<EventBody, { type: 'checkpoint' }>;

class Scene {
  readonly ids: readonly number[];
  readonly identities = new Map<number, Identity>();
  readonly journals = new Map<number, Journal>();
  readonly notaries = new Map<number, Notary>();
  /** What each node has told, oldest first. */
  readonly told: Event[] = [];
  /** What a node tells reaches its own journal only, until it is let go. */
  readonly held = new Set<number>();
  readonly logged: string[] = [];
  readonly #timers: { at: number; run: () => void }[] = [];
  readonly #sequences = new Map<number, number>();
  #nowMs = 0;

  constructor(count: number) {
    this.ids = Array.from({ length: count }, (_, index) => index + 1);
  }

  static async of(count: number, entries = 8): Promise<Scene> {
    const scene = new Scene(count);
    for (const id of scene.ids) scene.identities.set(id, await generateIdentity());
    for (const id of scene.ids) {
      scene.journals.set(id, memoryJournal({ now: clock() }));
      scene.begin(id, entries);
    }
    return scene;
  }

  /** Another start of the agent. */
  begin(id: number, entries = 8): void {
    this.notaries.get(id)?.end();
    const notary = new Notary({
      journal: this.journal(id),
      cluster: CLUSTER,
      self: id,
      key: this.identity(id).privateKey,
      keys: new Map(this.ids.map((each) => [each, [this.identity(each).privateKey.publicKey]])),
      entries,
      afterMs: 60_000,
      schedule: (delayMs, run) => {
        const timer = { at: this.#nowMs + delayMs, run };
        this.#timers.push(timer);
        return () => {
          const at = this.#timers.indexOf(timer);
          if (at >= 0) this.#timers.splice(at, 1);
        };
      },
      wall: () => new Date(1_790_000_000_000 + this.#nowMs),
      tell: (body) => void this.say(id, body),
      log: (_, text) => this.logged.push(text),
    });
    this.notaries.set(id, notary);
    notary.start();
  }

  identity(id: number): Identity {
    const identity = this.identities.get(id);
    assert.ok(identity);
    return identity;
  }

  journal(id: number): Journal {
    const journal = this.journals.get(id);
    assert.ok(journal);
    return journal;
  }

  async say(origin: number, body: EventBody, to = this.ids): Promise<Event> {
    const sequence = (this.#sequences.get(origin) ?? 0) + 1;
    this.#sequences.set(origin, sequence);
    const boot = '00000000-0000-4000-8000-000000000001';
    const time = new Date(1_790_000_000_000 + this.#nowMs).toISOString();
    const event = { cluster: CLUSTER, origin, boot, bootNumber: 1, sequence, time, term: 1, body };
    this.told.push(event);
    const reach = this.held.has(origin) ? [origin] : to;
    for (const id of reach) await this.give(id, event);
    return event;
  }

  async give(id: number, event: Event): Promise<void> {
    const sealed = Buffer.from(await seal(this.identity(event.origin), event)).toString('base64');
    this.journal(id).append(event, sealed);
  }

  /** Some entries, in every journal. */
  async live(count: number, origin = 1): Promise<void> {
    for (let i = 0; i < count; i++) await this.say(origin, { type: 'leave', reason: `${i}` });
    await this.pass(0);
  }

  async pass(ms: number): Promise<void> {
    const end = this.#nowMs + ms;
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers.splice(this.#timers.indexOf(next), 1);
      this.#nowMs = Math.max(this.#nowMs, next.at);
      next.run();
    }
    this.#nowMs = end;
  }

  timersSet(): number {
    return this.#timers.length;
  }

  checkpoints(origin: number): Checkpoint[] {
    return this.told.flatMap((each) => (each.origin === origin && each.body.type === 'checkpoint' ? [each.body] : []));
  }

  notices(name: string): Event[] {
    return this.told.filter(({ body }) => body.type === 'notice' && body.name === name);
  }

  cosigners(of: number, size: number): number[] {
    return this.told.flatMap(({ origin, body }) => {
      if (body.type !== 'cosignature' || body.of.size !== size) return [];
      return body.of.origin.startsWith(`${nameOfNode(CLUSTER, of)}/`) ? [origin] : [];
    });
  }
}

test('after so many entries each node signs what its journal holds, and the others cosign it', async () => {
  const scene = await Scene.of(3);
  await scene.live(7);
  assert.equal(scene.checkpoints(1).length, 0);
  await scene.live(1);
  const [checkpoint] = scene.checkpoints(1);
  assert.ok(checkpoint);
  const key = scene.identity(1).privateKey.publicKey;
  const { size, root } = openCheckpoint(checkpoint.note, key);
  assert.equal(size, 8);
  assert.deepEqual(root, scene.journal(1).log()?.treeAt(8)?.root());
  assert.equal(checkpoint.previous, 0);
  await scene.pass(3000);
  assert.deepEqual(scene.cosigners(1, 8), [2, 3]);
  for (const { origin, body } of scene.told) {
    if (body.type !== 'cosignature') continue;
    const of = { origin: body.of.origin, size: body.of.size, root: Buffer.from(body.of.root, 'base64') };
    const name = nameOfNode(CLUSTER, origin);
    assert.ok(isCosigned(of, body.line, name, scene.identity(origin).privateKey.publicKey));
  }
  await scene.live(8);
  assert.equal(scene.checkpoints(1)[1]?.previous, 8, 'the next one says how it follows');
  await scene.pass(3000);
  assert.deepEqual(scene.cosigners(1, readCheckpoint(scene.checkpoints(1)[1]?.note ?? '').size), [2, 3]);
  assert.deepEqual(scene.notices('JournalRewritten'), []);
});

test('what the API says of a journal: its newest checkpoint, and who cosigned that one', async () => {
  const scene = await Scene.of(3);
  const state = () => journalState(scene.journal(1), { cluster: { name: 'demo', uuid: CLUSTER }, self: 1 });
  assert.deepEqual(state(), { head: 0, entries: 0, log: null, checkpoint: null });
  await scene.live(7);
  assert.deepEqual([state().entries, state().checkpoint], [7, null]);
  await scene.live(1);
  assert.deepEqual([state().checkpoint?.entries, state().checkpoint?.cosigners], [8, []]);
  await scene.pass(3000);
  assert.deepEqual(state().checkpoint?.cosigners, [2, 3]);
  assert.match(state().log ?? '', new RegExp(`^${nameOfNode(CLUSTER, 1)}/[0-9a-f]{16}$`));
  await scene.live(8);
  assert.equal(state().checkpoint?.entries, readCheckpoint(scene.checkpoints(1)[1]?.note ?? '').size);
  const late = scene.told.find(({ body }) => body.type === 'cosignature' && body.of.size === 8)?.body;
  assert.ok(late);
  await scene.say(2, late);
  assert.deepEqual(state().checkpoint?.cosigners, [], 'those of the one before do not count');
  assert.equal(state().entries, scene.journal(1).head());
});

test('a few entries are signed after a while; nothing new, nothing signed, and no timer runs', async () => {
  const scene = await Scene.of(3);
  await scene.live(2);
  await scene.pass(59_000);
  assert.equal(scene.checkpoints(1).length, 0);
  await scene.pass(2000);
  assert.equal(scene.checkpoints(1).length, 1);
  await scene.pass(10_000);
  const told = scene.told.length;
  assert.equal(scene.timersSet(), 0, 'checkpoints and cosignatures alone are no reason for another');
  await scene.pass(3_600_000);
  assert.equal(scene.told.length, told);
});

test('in a larger cluster four cosign, the next ones of the list', async () => {
  const scene = await Scene.of(7);
  await scene.live(8, 6);
  await scene.pass(3000);
  const last = (of: number) => readCheckpoint(scene.checkpoints(of).at(-1)?.note ?? '').size;
  assert.deepEqual(scene.cosigners(6, last(6)).sort(), [1, 2, 3, 7]);
  assert.deepEqual(scene.cosigners(1, last(1)).sort(), [2, 3, 4, 5]);
});

test('a node that changes its history is told of by every other, with both notes, and cosigned no more', async () => {
  const scene = await Scene.of(3);
  await scene.live(8);
  await scene.pass(3000);
  // Node 1 is given a journal in which one entry is another: as from a state directory that somebody has worked on.
  const forged = memoryJournal({ now: clock() });
  const { entries } = scene.journal(1).read(0, 100);
  for (const [index, { event, sealed }] of entries.entries()) {
    const other = { ...event, time: '2020-01-01T00:00:00.000Z' };
    if (index === 3) forged.append(other, Buffer.from(await seal(scene.identity(1), other)).toString('base64'));
    else forged.append(event, sealed);
  }
  scene.journals.set(1, forged);
  scene.begin(1);
  await scene.live(8);
  await scene.pass(3000);
  // Its log begins with the same entry, so it is the same log: it cannot say that it is another one.
  const told = scene.notices('JournalRewritten');
  assert.deepEqual(
    told.map(({ origin, body }) => [origin, body.type === 'notice' && body.subject]),
    [
      [2, 'node/1'],
      [3, 'node/1'],
    ],
  );
  const body = told[0]?.body;
  assert.ok(body?.type === 'notice');
  const key = scene.identity(1).privateKey.publicKey;
  const before = openCheckpoint(String(body.detail.before), key);
  const now = openCheckpoint(String(body.detail.now), key);
  assert.equal(before.origin, now.origin);
  assert.deepEqual(scene.cosigners(1, now.size), []);
  assert.match(String(body.detail.why), /its first 8 entries are not what they were/);
  await scene.live(20);
  await scene.pass(3000);
  assert.equal(scene.notices('JournalRewritten').length, 2, 'told once');
});

test('a journal that has become shorter is a changed history', async () => {
  const scene = await Scene.of(3);
  await scene.live(16);
  await scene.pass(3000);
  const short = memoryJournal({ now: clock() });
  for (const { event, sealed } of scene.journal(1).read(0, 2).entries) short.append(event, sealed);
  scene.journals.set(1, short);
  scene.begin(1);
  await scene.live(8);
  await scene.pass(3000);
  assert.deepEqual(
    scene.notices('JournalRewritten').map(({ origin, body }) => [origin, body.type === 'notice' && body.subject]),
    [
      [2, 'node/1'],
      [3, 'node/1'],
    ],
  );
  for (const { body } of scene.notices('JournalRewritten')) {
    assert.match(String(body.type === 'notice' && body.detail.why), /its journal had \d+ entries and has \d+ now/);
  }
});

test('a journal that begins anew is another log: no accusation, but it is told', async () => {
  const scene = await Scene.of(3);
  await scene.live(8);
  await scene.pass(3000);
  scene.journals.set(1, memoryJournal({ now: clock() }));
  scene.begin(1);
  await scene.live(8);
  await scene.pass(3000);
  assert.deepEqual(scene.notices('JournalRewritten'), []);
  assert.deepEqual(
    scene.notices('JournalBegunAnew').map(({ origin }) => origin),
    [2, 3],
  );
});

test('a restart of either side goes on from the checkpoints in the journals', async () => {
  const scene = await Scene.of(3);
  await scene.live(8);
  await scene.pass(3000);
  for (const id of scene.ids) scene.begin(id);
  await scene.live(8);
  await scene.pass(3000);
  assert.equal(scene.checkpoints(1)[1]?.previous, 8);
  assert.deepEqual(scene.notices('JournalRewritten'), []);
  assert.deepEqual(scene.notices('JournalBegunAnew'), []);
  assert.equal(scene.cosigners(1, readCheckpoint(scene.checkpoints(1)[1]?.note ?? '').size).length, 2);
});

test('checkpoints that come in the wrong order are judged in the right one, and old ones late harm nobody', async () => {
  const scene = await Scene.of(2);
  await scene.live(8);
  await scene.pass(3000);
  scene.held.add(1);
  for (let round = 0; round < 3; round++) await scene.live(8);
  await scene.pass(3000);
  scene.held.delete(1);
  const late = scene.told.filter(({ origin, body }) => origin === 1 && body.type === 'checkpoint').slice(1);
  assert.ok(late.length >= 2);
  const cosigned = scene.cosigners(1, readCheckpoint(scene.checkpoints(1).at(-1)?.note ?? '').size).length;
  assert.equal(cosigned, 0);
  for (const event of late.toReversed()) await scene.give(2, event);
  await scene.pass(3000);
  assert.equal(scene.cosigners(1, readCheckpoint(scene.checkpoints(1).at(-1)?.note ?? '').size).length, 1);
  assert.deepEqual(scene.notices('JournalRewritten'), []);
});

test('a checkpoint of another node’s journal, or with another’s key, is refused', async () => {
  const scene = await Scene.of(3);
  await scene.live(8);
  await scene.pass(3000);
  const [stolen] = scene.checkpoints(1);
  assert.ok(stolen);
  await scene.say(2, stolen, [3]);
  await scene.pass(3000);
  assert.match(
    scene.logged.join('\n'),
    /checkpoint of node 2 refused: checkpoint of \S+: not signed by the key of its node/,
  );
  assert.deepEqual(scene.notices('JournalRewritten'), []);
});

test('what a disk does not take is not signed; it is when there is room', async () => {
  const scene = await Scene.of(3);
  let full = true;
  const journal = scene.journal(1);
  const inner = journal.durable;
  journal.durable = () => (full ? Promise.reject(new Error('ENOSPC')) : inner());
  await scene.live(8);
  assert.equal(scene.checkpoints(1).length, 0);
  full = false;
  await scene.live(1);
  await scene.pass(0);
  assert.equal(scene.checkpoints(1).length, 1);
});

test('an orderly end signs what is left', async () => {
  const scene = await Scene.of(3);
  await scene.live(3);
  await scene.notaries.get(1)?.stop();
  await scene.pass(0);
  assert.equal(scene.checkpoints(1).length, 1);
  assert.equal(readCheckpoint(scene.checkpoints(1)[0]?.note ?? '').size, 3);
});
