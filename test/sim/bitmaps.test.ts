/**
 * Bitmaps across a cluster, under virtual time and from a seed: after a death what the dead had marked is copied, and nothing
 * else. That nothing else is, a *scar* shows: a block that differs between the legs without anybody having written it, which
 * a resync by marks leaves as it is, and a full one heals.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/arrays/record.ts';
import { readMarks } from '#src/md/marks.ts';
import { seededRandom } from '#src/md/simulated_time.ts';
import type { Request } from '#src/wire/messages.ts';
import {
  assertWhole,
  recordOn,
  startedOn,
  stopAll,
  untilWhole,
  watchCopies,
  watched,
  watchedPass,
  writersGoOn,
  writing,
} from './afternoon.ts';
import type { Application } from './application.ts';
import { suspendBeforeSync } from './checkers.ts';
import type { SimCluster } from './cluster.ts';
import { Hands } from './hands.ts';
import { Moments } from './moments.ts';

const MIB = 16;
const BLOCKS = 300;
/** Of rounds whose writes are all looked for in the end. */
const ROUND_BLOCKS = 200;
/** Beyond all writers. */
const SCAR_BLOCK = 3700;
/** md clears a bit within three rounds of 5 s. */
const CLEARED_MS = 20_000;
const seeds = (process.env.MDMESH_SIM_SEEDS ?? '1,2').split(',').map(Number);

class Scar {
  readonly #cluster: SimCluster;
  readonly #at: number;
  readonly #before: Uint8Array;

  constructor(cluster: SimCluster, node: NodeId) {
    this.#cluster = cluster;
    const [leg] = recordOn(cluster, node).record.members;
    this.#at = ((leg?.dataOffsetSectors ?? 0) + SCAR_BLOCK * 8) * 512;
    this.#before = cluster.storage.peek('sdb', this.#at, 4096);
    cluster.storage.poke('sdb', this.#at, new Uint8Array(4096).fill(0x5c));
  }

  get isThere(): boolean {
    return this.#cluster.storage.peek('sdb', this.#at, 1)[0] === 0x5c;
  }

  heal(): void {
    this.#cluster.storage.poke('sdb', this.#at, this.#before);
  }
}

/** What stands in the bitmaps of all nodes on the members in sync. */
async function marked(cluster: SimCluster, node: NodeId): Promise<number> {
  const { record, paths } = recordOn(cluster, node);
  const read = readMarks(cluster.driver(node), record, cluster.nodes, new Map(Object.entries(paths)));
  const ranges = await cluster.driven('the bitmaps', read);
  return ranges.reduce((sum, { loSector, hiSector }) => sum + hiSector - loSector, 0);
}

async function quiet(cluster: SimCluster, node: NodeId): Promise<void> {
  await watchedPass(cluster, CLEARED_MS);
  assert.equal(await marked(cluster, node), 0, 'every bitmap is empty when nobody writes');
}

function noticesOf(cluster: SimCluster, node: NodeId, name: string) {
  const { entries } = cluster.journal(node).read(0, 10_000);
  return entries.flatMap(({ event: { body } }) => (body.type === 'notice' && body.name === name ? [body.detail] : []));
}

/** A mirror in sync that nobody has marked anything in. */
async function rested(seed: number, without: readonly NodeId[] = []) {
  const setting = { seed, legs: 2, mib: MIB, blocks: BLOCKS };
  const { cluster, applications } = await writing(setting, (fresh) => {
    for (const node of without) fresh.driver(node).hasBitmaps = false;
  });
  await stopAll(applications);
  await quiet(cluster, 1);
  return { cluster, applications };
}

async function granted(cluster: SimCluster, request: Request): Promise<string> {
  const { ok, text } = await cluster.request(await cluster.master(), request);
  assert.equal(ok, true, text);
  return text;
}

async function takenOut(cluster: SimCluster): Promise<void> {
  for (const verb of ['fail', 'remove'] as const) await granted(cluster, { verb, array: 'md0', device: '/dev/sdb' });
}

for (const seed of seeds) {
  for (const victim of [3, 1]) {
    test(`seed ${seed}: node ${victim} dies under load: what it had marked is copied, in windows, and nothing else`, async () => {
      const { cluster, applications } = await rested(seed);
      const scar = new Scar(cluster, 1);
      const watch = watchCopies(cluster);
      const writers = await startedOn(cluster, cluster.nodes, 1, BLOCKS);
      cluster.crash(victim);
      for (const writer of writers) if (writer.node === victim) writer.abandon();
      const survivor = victim === 1 ? 2 : 1;
      await watched(cluster, `node ${victim} is out`, () => {
        const { record, local } = recordOn(cluster, survivor);
        return !record.writers.includes(victim) && record.resync === null && local?.held === false;
      });
      assert.ok(watch.copiers.length > 0, 'something was copied');
      assert.ok(scar.isThere, 'nobody had marked it');
      const [read] = noticesOf(cluster, survivor, 'BitmapsRead').slice(-1);
      assert.equal(read?.nodes, String(victim));
      scar.heal();
      await cluster.boot(victim);
      await untilWhole(cluster, 2);
      const alive = writers.filter(({ node }) => node !== victim);
      await writersGoOn(cluster, alive);
      const later = await startedOn(cluster, [victim], 2, BLOCKS);
      await stopAll([...alive, ...later]);
      await quiet(cluster, 2);
      assertWhole(cluster, [...applications, ...writers, ...later], 2, 2);
      cluster.close();
    });
  }

  test(`seed ${seed}: all lose power while writing: what all of them had marked is copied, and nothing else`, async () => {
    const { cluster, applications } = await rested(seed);
    const scar = new Scar(cluster, 1);
    const writers = await startedOn(cluster, cluster.nodes, 1, BLOCKS);
    cluster.powerCut();
    for (const application of writers) application.abandon();
    await cluster.pass(300);
    await cluster.boot(...cluster.nodes);
    await cluster.open();
    assert.ok(scar.isThere, 'nobody had marked it');
    scar.heal();
    const later = await startedOn(cluster, cluster.nodes, 2, BLOCKS);
    await stopAll(later);
    await quiet(cluster, 1);
    assertWhole(cluster, [...applications, ...writers, ...later], 1, 2);
    cluster.close();
  });

  test(`seed ${seed}: the dead come back and others die, at any moment of the resync: nothing is lost, nothing more is copied`, async () => {
    const random = seededRandom(seed * 104_729);
    const { cluster } = await rested(seed);
    const all: Application[] = [];
    watchCopies(cluster);
    const scar = new Scar(cluster, 1);
    for (let round = 0; round < 4; round += 1) {
      let writers = await startedOn(cluster, cluster.nodes, 1 + round, ROUND_BLOCKS);
      all.push(...writers);
      const fell = (node: NodeId): void => {
        cluster.crash(node);
        for (const writer of writers) if (writer.node === node) writer.abandon();
        writers = writers.filter((writer) => writer.node !== node);
      };
      const first = 1 + Math.floor(random() * 3);
      fell(first);
      const one = cluster.nodes.find((node) => node !== first) ?? 1;
      await watched(cluster, 'a resync', () => recordOn(cluster, one).record.resync !== null);
      await watchedPass(cluster, Math.floor(random() * 30));
      await cluster.boot(first);
      await watchedPass(cluster, Math.floor(random() * 1500));
      const second = 1 + Math.floor(random() * 3);
      fell(second);
      await watchedPass(cluster, Math.floor(random() * 5000));
      if (!cluster.isUp(second)) await cluster.boot(second);
      await watchedPass(cluster, 100);
      for (const node of cluster.nodes) if (!cluster.isUp(node)) await cluster.boot(node);
      await untilWhole(cluster, 2);
      await cluster.open();
      await stopAll(writers.filter(({ node }) => cluster.isUp(node)));
      assert.ok(scar.isThere, `round ${round}: nobody had marked it`);
    }
    scar.heal();
    await watchedPass(cluster, CLEARED_MS);
    assertWhole(cluster, all, await cluster.master(), 2);
    cluster.close();
  });

  test(`seed ${seed}: a disk that comes back gets what was written meanwhile on any node, in windows, and nothing else`, async () => {
    const { cluster, applications } = await rested(seed);
    watchCopies(cluster);
    await takenOut(cluster);
    const scar = new Scar(cluster, 1);
    const all = [...applications];
    let writers = await startedOn(cluster, [2, 3], 2, ROUND_BLOCKS);
    all.push(...writers);
    // What it had marked is needed when it is back, and whole clusters come and go.
    if (seed % 2 === 0) {
      cluster.crash(3);
      for (const writer of writers) if (writer.node === 3) writer.abandon();
      await watched(cluster, 'node 3 is out', () => !recordOn(cluster, 1).record.writers.includes(3));
      await cluster.boot(3);
      await cluster.open();
      writers = writers.filter(({ node }) => node !== 3);
    } else {
      cluster.powerCut();
      for (const writer of writers) writer.abandon();
      await cluster.pass(300);
      await cluster.boot(...cluster.nodes);
      await cluster.open();
      writers = [];
    }
    await watchedPass(cluster, CLEARED_MS);
    const more = await startedOn(cluster, [1, 3], 3, ROUND_BLOCKS);
    all.push(...more);
    assert.match(
      await granted(cluster, { verb: 'add', array: 'md0', device: '/dev/sdb', force: false }),
      /it gets what was written since it left/,
    );
    await untilWhole(cluster, 2);
    assert.ok(scar.isThere, 'nobody had marked it');
    scar.heal();
    await writersGoOn(cluster, [...writers, ...more]);
    await stopAll([...writers, ...more]);
    await quiet(cluster, 1);
    assertWhole(cluster, all, 1, 2);
    cluster.close();
  });

  test(`seed ${seed}: nodes die at any moment while it comes back: nothing is lost, nothing stays marked`, async () => {
    const random = seededRandom(seed * 7919);
    const { cluster } = await rested(seed);
    watchCopies(cluster);
    const all: Application[] = [];
    for (let round = 0; round < 3; round += 1) {
      await takenOut(cluster);
      let writers = await startedOn(cluster, cluster.nodes, 1 + round, ROUND_BLOCKS);
      all.push(...writers);
      const added = granted(cluster, { verb: 'add', array: 'md0', device: '/dev/sdb', force: false });
      await watchedPass(cluster, Math.floor(random() * 60));
      const victim = 1 + Math.floor(random() * 3);
      await added;
      await watchedPass(cluster, Math.floor(random() * 60));
      cluster.crash(victim);
      for (const writer of writers) if (writer.node === victim) writer.abandon();
      writers = writers.filter(({ node }) => node !== victim);
      await watchedPass(cluster, Math.floor(random() * 5000));
      await cluster.boot(victim);
      // The others may have it switched off yet.
      await watchedPass(cluster, 5000);
      for (const node of cluster.nodes) if (!cluster.isUp(node)) await cluster.boot(node);
      await untilWhole(cluster, 2);
      await cluster.open();
      await stopAll(writers.filter(({ node }) => cluster.isUp(node)));
    }
    await quiet(cluster, await cluster.master());
    assertWhole(cluster, all, await cluster.master(), 2);
    cluster.close();
  });

  test(`seed ${seed}: bitmaps are taken away, and laid anew with another chunk, while all write and one dies`, async () => {
    const { cluster, applications } = await rested(seed);
    const writers = await startedOn(cluster, cluster.nodes, 1, BLOCKS);
    const kept = () => recordOn(cluster, 1).record.writerBoots.map(({ bitmap }) => bitmap);
    await granted(cluster, { verb: 'grow-bitmap', array: 'md0', bitmap: 'none' });
    for (const node of cluster.nodes) assert.equal(recordOn(cluster, node).local?.bitmap, null);
    await granted(cluster, { verb: 'grow-bitmap', array: 'md0', bitmap: 'internal', chunkKib: 256 });
    for (const node of cluster.nodes) assert.equal(recordOn(cluster, node).local?.bitmap?.chunkSectors, 512);
    // Room for more moves them.
    await granted(cluster, { verb: 'grow-nodes', array: 'md0', nodes: 40 });
    if (seed % 2 === 0) await watched(cluster, 'all keep theirs', () => kept().every((each) => each));
    cluster.crash(3);
    for (const writer of writers) if (writer.node === 3) writer.abandon();
    await watched(cluster, 'node 3 is out', () => {
      const { record } = recordOn(cluster, 1);
      return !record.writers.includes(3) && record.resync === null;
    });
    await cluster.boot(3);
    await untilWhole(cluster, 2);
    const alive = writers.filter(({ node }) => node !== 3);
    await writersGoOn(cluster, alive);
    await stopAll(alive);
    await cluster.open();
    await quiet(cluster, 1);
    assert.deepEqual(kept(), [true, true, true]);
    assertWhole(cluster, [...applications, ...writers], 1, 2);
    cluster.close();
  });

  test(`seed ${seed}: a node whose kernel has no bitmaps says so, and its death is followed by a full resync`, async () => {
    const { cluster } = await rested(seed, [3]);
    assert.ok(noticesOf(cluster, 1, 'BitmapUnavailable').some(({ node }) => node === 3));
    const scar = new Scar(cluster, 1);
    const writers = await startedOn(cluster, cluster.nodes, 1, BLOCKS);
    cluster.crash(3);
    for (const writer of writers) if (writer.node === 3) writer.abandon();
    await watched(cluster, 'node 3 is out', () => {
      const { record, local } = recordOn(cluster, 1);
      return !record.writers.includes(3) && record.resync === null && local?.held === false;
    });
    assert.equal(scar.isThere, false, 'everything was copied');
    await stopAll(writers.filter(({ node }) => node !== 3));
    assertWhole(cluster, writers, 1, 2);
    cluster.close();
  });
}

test('a disk that left before the array was last whole, or when a node kept no bitmap, is filled as a whole, and why is said', async () => {
  const { cluster, applications } = await rested(7);
  await takenOut(cluster);
  await granted(cluster, { verb: 'grow-devices', array: 'md0', raidDisks: 1, force: false });
  await granted(cluster, { verb: 'grow-devices', array: 'md0', raidDisks: 2, force: true });
  const add: Request = { verb: 'add', array: 'md0', device: '/dev/sdb', force: false };
  const scar = new Scar(cluster, 1);
  assert.match(await granted(cluster, add), /it is filled as a whole: what was written since it left is not marked/);
  await untilWhole(cluster, 2);
  assert.equal(scar.isThere, false);

  const refusal = await cluster.request(1, { verb: 'grow-nodes', array: 'md0', nodes: 65 });
  assert.match(refusal.text, /65 node slots; 1 to 64 are possible/);
  assertWhole(cluster, applications, 1, 2);
  cluster.close();
});

test('a disk that was set back to an older state since it left is filled as a whole', async () => {
  const { cluster, applications } = await rested(8);
  const { record } = recordOn(cluster, 1);
  const bytes = (record.members[1]?.dataOffsetSectors ?? 0) * 512;
  const snapshot = cluster.storage.peek('sdb', 0, bytes);
  // Later commits, and then it leaves.
  await granted(cluster, { verb: 'sync-limit', array: 'md0', limitKib: 5000 });
  await granted(cluster, { verb: 'sync-limit', array: 'md0', limitKib: null });
  await takenOut(cluster);
  cluster.storage.poke('sdb', 0, snapshot);
  const scar = new Scar(cluster, 1);
  const told = await granted(cluster, { verb: 'add', array: 'md0', device: '/dev/sdb', force: false });
  assert.match(told, /it is filled as a whole: it carries commit \d+, and would have commit \d+/);
  await untilWhole(cluster, 2);
  assert.equal(scar.isThere, false);
  assertWhole(cluster, applications, 1, 2);
  cluster.close();
});

test('a node whose disks know of a newer record than it was told of does not assemble: its marks may be needed', async () => {
  const { cluster } = await rested(5);
  const ask = async (verb: 'stop' | 'assemble') => {
    const { ok, text } = await cluster.request(1, { verb, array: 'md0' });
    assert.equal(ok, true, text);
  };
  await ask('stop');
  const driver = cluster.driver(3);
  const { scan } = driver;
  driver.scan = async () =>
    (await scan.call(driver)).map((disk) => {
      const { mesh } = disk;
      if (mesh === null) return disk;
      const { term, index } = mesh.record.version;
      const record = { ...mesh.record, events: mesh.record.events + 9, version: { term, index: index + 9 } };
      return { ...disk, mesh: { ...mesh, record } };
    });
  const started = ask('assemble');
  await watchedPass(cluster, 3000);
  assert.equal(driver.observe('md0'), null);
  assert.match(recordOn(cluster, 3).trouble ?? '', /the disks hold commit/);
  driver.scan = scan;
  await started;
  await cluster.open();
  cluster.close();
});

/** Other nodes hold their writes where this one copies in this moment. */
function assertOthersHold(cluster: SimCluster, copier: NodeId): void {
  const piece = cluster.driver(copier).copying('md0');
  if (piece === null) return;
  const { record } = recordOn(cluster, copier);
  assert.equal(suspendBeforeSync(cluster, copier, record, 'resync', piece.loSector, piece.hiSector), null);
}

for (const afterMs of [0, 7, 16]) {
  test(`a leg is failed by hand on the node that resyncs by marks, ${afterMs} ms into the last third of a chunk: what md then copies again others hold`, async () => {
    const chunkSectors = 8192;
    const setting = { seed: 11 + afterMs, legs: 3, mib: MIB, blocks: BLOCKS, everyMs: 10 };
    const { cluster, applications } = await writing(setting);
    await granted(cluster, { verb: 'grow-bitmap', array: 'md0', bitmap: 'internal', chunkKib: chunkSectors / 2 });
    await watchedPass(cluster, 500);
    cluster.crash(3);
    const alive = applications.filter(({ node }) => node !== 3);
    for (const writer of applications) if (writer.node === 3) writer.abandon();
    const copier = 1;
    const hands = new Hands(cluster, new Moments());
    await watched(cluster, 'it is in the middle of a chunk', () => {
      assertOthersHold(cluster, copier);
      const piece = cluster.driver(copier).copying('md0');
      return piece !== null && piece.loSector % chunkSectors > (2 * chunkSectors) / 3;
    });
    await watchedPass(cluster, afterMs);
    // md is quicker than this agent, as one that has to wait for a processor, and than its word to the other node.
    hands.late(copier, () => 15);
    cluster.hub.cut(copier, 2);
    cluster.driver(copier).mdadmFail('md0', '/dev/sdc');
    const healAtMs = cluster.time.clock() + 40;
    await watched(cluster, 'the failure and the resync are over', () => {
      assertOthersHold(cluster, copier);
      if (cluster.time.clock() >= healAtMs) cluster.hub.heal(copier, 2);
      const { record } = recordOn(cluster, copier);
      const active = record.members.filter(({ role }) => role === 'active').length;
      return active === 2 && record.resync === null && cluster.time.clock() > healAtMs;
    });
    hands.late(copier, null);
    await writersGoOn(cluster, alive);
    await stopAll(alive);
    await watchedPass(cluster, 500);
    assertWhole(cluster, applications, copier, 2);
    cluster.close();
  });
}
