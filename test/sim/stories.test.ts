/** A cluster's afternoon, under virtual time and from a seed: agents, gossip and lease are the real ones, md is simulated. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/arrays/record.ts';
import type { JournalEntry } from '#src/journal/index.ts';
import {
  assertReadersSeeAll,
  assertWhole,
  recordOn,
  startedOn,
  stopAll,
  watched,
  watchedPass,
  writersGoOn,
  writing,
} from './afternoon.ts';
import { mirrorOf, type SimCluster } from './cluster.ts';

/** More of them: MDMESH_SIM_SEEDS=3,4,5 */
const seeds = (process.env.MDMESH_SIM_SEEDS ?? '1,2').split(',').map(Number);

for (const seed of seeds) {
  test(`seed ${seed}: a leg fails on one node; all nodes drop it before a write is acknowledged without it`, async () => {
    const { cluster, applications } = await writing({ seed, legs: 2 });
    cluster.storage.fault({ node: 3, disk: 'sdb', kind: 'all' });
    await watched(cluster, 'one leg less on every node', () => {
      assertReadersSeeAll(cluster, applications, 'sdb');
      return cluster.nodes.every((node) => {
        const { record, local } = recordOn(cluster, node);
        const dropped = local?.members.every(({ device, inSync }) => device !== 'sdb' || !inSync) ?? false;
        return dropped && record.members.some(({ role }) => role === 'faulty');
      });
    });
    const before = applications.map(({ acknowledged }) => acknowledged);
    await watchedPass(cluster, 1000);
    for (const [index, application] of applications.entries()) {
      assert.ok(application.acknowledged > (before[index] ?? 0), `node ${application.node} writes no more`);
    }
    await stopAll(applications);
    assertWhole(cluster, applications, 1, 1);
    cluster.close();
  });

  for (const [what, befall] of [
    ['dies', (cluster: SimCluster) => cluster.crash(1)],
    [
      'is cut off from the others',
      (cluster: SimCluster) => {
        cluster.hub.cut(1, 2);
        cluster.hub.cut(1, 3);
      },
    ],
  ] as const) {
    test(`seed ${seed}: the master ${what} under load; the next one fences it, copies the legs, and the others write on`, async () => {
      const { cluster, applications } = await writing({ seed, legs: 2 });
      const [first, ...survivors] = applications;
      assert.equal(await cluster.master(), 1);
      befall(cluster);
      await watched(cluster, 'node 2 is master', () => cluster.masters().includes(2));
      await watched(cluster, 'node 1 is out and the legs are copied', () => {
        const { record, local } = recordOn(cluster, 2);
        // Evicted means that its writes do not count any more: before that it must have no way to make any.
        if (!record.writers.includes(1)) assert.equal(cluster.isUp(1), false, 'node 1 is evicted and runs');
        return !record.writers.includes(1) && record.resync === null && local?.held === false;
      });
      first?.abandon();
      assert.deepEqual(
        cluster.fenced.map(({ by, node }) => [by, node]),
        [[2, 1]],
      );
      const before = survivors.map(({ acknowledged }) => acknowledged);
      await watchedPass(cluster, 1000);
      for (const [index, application] of survivors.entries()) {
        assert.ok(application.acknowledged > (before[index] ?? 0), `node ${application.node} writes no more`);
      }
      await stopAll(survivors);
      assertWhole(cluster, applications, 2, 2);
      cluster.close();
    });
  }

  test(`seed ${seed}: all machines lose power in one instant; nothing acknowledged is lost, and the legs become one again`, async () => {
    const { cluster, applications } = await writing({ seed, legs: 2 });
    cluster.powerCut();
    for (const application of applications) application.abandon();
    await cluster.pass(300);
    await cluster.boot(...cluster.nodes);
    await watched(cluster, 'a master again', () => cluster.masters().length === 1);
    await cluster.open();
    const later = await startedOn(cluster, cluster.nodes, 1);
    await stopAll(later);
    assertWhole(cluster, [...applications, ...later], 1, 2);
    cluster.close();
  });

  test(`seed ${seed}: all lose power in the moment in which a write was told as done without a leg, and see only that leg afterwards`, async () => {
    const { cluster, applications } = await writing({ seed, legs: 2 });
    const { storage } = cluster;
    const mend = storage.fault({ node: null, disk: 'sdb', kind: 'all' });
    const acknowledged = () => applications.reduce((sum, each) => sum + each.acknowledged, 0);
    let before: number | null = null;
    await watched(cluster, 'a write is told as done without the leg', () => {
      const released = cluster.nodes.some((node) => {
        const { record, released } = recordOn(cluster, node);
        return released?.index === record.version.index && record.members.some(({ role }) => role === 'faulty');
      });
      if (released) before ??= acknowledged();
      return before !== null && acknowledged() > before;
    });
    cluster.powerCut();
    mend();
    for (const application of applications) application.abandon();
    for (const node of cluster.nodes) storage.hide(node, 'sda');
    await cluster.boot(...cluster.nodes);
    await watched(cluster, 'a master again', () => cluster.masters().length === 1);
    await cluster.pass(5000);
    for (const node of cluster.nodes) {
      const seen = cluster.driver(node).observe('md0');
      assert.ok(seen === null || seen.held, `node ${node} goes on from the leg that was given up`);
    }
    for (const node of cluster.nodes) storage.show(node, 'sda');
    await cluster.open();
    const later = await startedOn(cluster, cluster.nodes, 1);
    await stopAll(later);
    assertWhole(cluster, [...applications, ...later], 1, 1);
    cluster.close();
  });
}

test('one seed, one run: twice the same story ends in the same journal', async () => {
  const heads: string[] = [];
  for (let run = 0; run < 2; run++) {
    const { cluster, applications } = await writing({ seed: 7, legs: 2 });
    await stopAll(applications);
    const { entries } = cluster.journal(2).read(0, 1000);
    heads.push(entries.map(({ hash }) => hash).join());
    cluster.close();
  }
  assert.equal(heads[0], heads[1]);
});

test('a request that meets a master which knows nothing yet: it is answered by what stands on the disks', async () => {
  const { cluster, applications } = await writing({ seed: 11, legs: 2 });
  for (const application of applications) application.abandon();
  const lost = async () => {
    cluster.powerCut();
    await cluster.pass(300);
    await cluster.boot(...cluster.nodes);
    await watched(cluster, 'a master again', () => cluster.masters().length === 1);
    return cluster.master();
  };
  const asked = await lost();
  const limit = await cluster.request(asked, { verb: 'sync-limit', array: 'md0', limitKib: 5000 });
  assert.equal(limit.ok, true, limit.text);
  const words = [
    ['md0', /^md0 exists in this cluster already$/],
    ['md1', /is a member of md0; remove it there first$/],
  ] as const;
  for (const [md, refusal] of words) {
    const create = mirrorOf(['/dev/sda', '/dev/sdb'], { md, assumeClean: true, force: true });
    const overwritten = await cluster.request(await lost(), create);
    assert.equal(overwritten.ok, false);
    assert.match(overwritten.text, refusal);
  }
  cluster.close();
});

test('a master whose last look at the disks missed them looks again before it commits', async () => {
  const { cluster, applications } = await writing({ seed: 9, legs: 2 });
  const master = await cluster.master();
  const driver = cluster.driver(master);
  const { scan } = driver;
  driver.scan = async () => [];
  const size = { verb: 'grow-size' as const, array: 'md0', sizeKib: null, assumeClean: false };
  assert.equal((await cluster.request(master, size)).ok, false, 'which had it look');
  driver.scan = scan;
  const { ok, text } = await cluster.request(master, { verb: 'sync-limit', array: 'md0', limitKib: 5000 });
  assert.equal(ok, true, text);
  await stopAll(applications);
  assert.equal(
    recordOn(cluster, master).record.members.every(({ role }) => role === 'active'),
    true,
  );
  cluster.close();
});

for (const hidden of [['sdb'], ['sda', 'sdb']])
  test(`the lowest node does not see ${hidden.join(' and ')}, which counts: it leaves the lead to a node that does, and all others write on`, async () => {
    const { cluster, applications } = await writing({ seed: 4, legs: 2, everyMs: 10 });
    const failed = await cluster.request(2, { verb: 'fail', array: 'md0', device: '/dev/sda' });
    assert.equal(failed.ok, true, failed.text);
    cluster.crash(1);
    applications[0]?.abandon();
    for (const disk of hidden) cluster.storage.hide(1, disk);
    await watchedPass(cluster, 5000);
    await cluster.boot(1);
    await watched(cluster, 'node 1 leads', () => cluster.masters().includes(1));
    await watched(
      cluster,
      'node 1 leads no more',
      () => cluster.masters().length === 1 && !cluster.masters().includes(1),
    );
    const writes = () => (applications[1]?.acknowledged ?? 0) + (applications[2]?.acknowledged ?? 0);
    await watchedPass(cluster, 3000);
    const before = writes();
    await watchedPass(cluster, 15_000);
    assert.ok(writes() > before + 100);
    assert.ok(!cluster.masters().includes(1), 'nor does it ask for the lead again');
    for (const disk of hidden) cluster.storage.show(1, disk);
    await watched(cluster, 'node 1 writes again', () => recordOn(cluster, 2).record.writers.includes(1));
    await watched(cluster, 'node 1 leads again', () => cluster.masters().includes(1));
    cluster.close();
  });

test('one disk that two people add at once becomes one member', async () => {
  const { cluster, applications } = await writing({ seed: 5, legs: 2, everyMs: 1 });
  const ask = (node: NodeId, verb: 'fail' | 'remove') =>
    cluster.request(node, { verb, array: 'md0', device: '/dev/sda' });
  for (const verb of ['fail', 'remove'] as const) assert.equal((await ask(1, verb)).ok, true);
  const add = { verb: 'add' as const, array: 'md0', device: '/dev/sda', force: true };
  const answers = await Promise.all([cluster.request(1, add), cluster.request(2, add)]);
  assert.deepEqual(answers.map(({ ok }) => ok).sort(), [false, true]);
  assert.match(answers.find(({ ok }) => !ok)?.text ?? '', /an earlier request is about to make it a member/);
  await watched(cluster, 'it is filled', () =>
    recordOn(cluster, 1).record.members.every(({ role }) => role === 'active'),
  );
  assert.equal(recordOn(cluster, 1).record.members.length, 2);
  await stopAll(applications);
  cluster.close();
});

test('a commit that is tried again is the same record: all lose power between two attempts, and the array goes on', async () => {
  const { cluster, applications } = await writing({ seed: 8, legs: 2, spares: 1, everyMs: 10 });
  await stopAll(applications);
  const driver = cluster.driver(1);
  const on = (disk: string) => cluster.storage.fault({ node: 1, disk, kind: 'write' });
  const legs = ['sda', 'sdb'].map(on);
  const asked = cluster.request(2, { verb: 'sync-limit', array: 'md0', limitKib: 1000 });
  // The spare has it by now; legs take it later, and the spare not any more.
  await watched(cluster, 'seconds later', () => cluster.journal(2).read(0, 100_000).entries.some(commitHasFailed));
  await watchedPass(cluster, 2100);
  for (const mend of legs) mend();
  const spare = on('sdc');
  const { writeMetadata } = driver;
  const written = { is: false };
  driver.writeMetadata = async (writes) => {
    const results = await writeMetadata.call(driver, writes);
    if (results.some(({ error }) => error === null)) {
      cluster.powerCut();
      written.is = true;
    }
    return results;
  };
  await watched(cluster, 'it is written', () => written.is);
  driver.writeMetadata = writeMetadata;
  assert.equal((await cluster.driven('no answer', asked)).ok, false);
  spare();
  await cluster.boot(...cluster.nodes);
  await cluster.open();
  cluster.close();
});

test('an attempt that reached the spare alone, found by a master that sees no leg, is nothing that it knows once the legs are back', async () => {
  const { cluster, applications } = await writing({ seed: 9, legs: 2, spares: 1, everyMs: 10 });
  await stopAll(applications);
  const legs = ['sda', 'sdb'];
  const mends = legs.map((disk) => cluster.storage.fault({ node: 1, disk, kind: 'write' }));
  const asked = cluster.request(2, { verb: 'sync-limit', array: 'md0', limitKib: 1000 });
  await watched(cluster, 'the spare has it', () => cluster.journal(2).read(0, 100_000).entries.some(commitHasFailed));
  cluster.powerCut();
  assert.equal((await cluster.driven('no answer', asked)).ok, false);
  for (const mend of mends) mend();
  for (const node of cluster.nodes) for (const disk of legs) cluster.storage.hide(node, disk);
  // Without the word of all writers it takes nothing over.
  await cluster.boot(1, 2);
  await watched(cluster, 'a master again', () => cluster.masters().length === 1);
  await watchedPass(cluster, 3000);
  for (const node of cluster.nodes) for (const disk of legs) cluster.storage.show(node, disk);
  await watched(cluster, 'the array is open', () =>
    [1, 2].every((node) => cluster.driver(node).observe('md0')?.held === false),
  );
  await cluster.boot(3);
  await cluster.open();
  const later = await startedOn(cluster, cluster.nodes, 1);
  await stopAll(later);
  assertWhole(cluster, [...applications, ...later], 1, 2);
  cluster.close();
});

test('every leg bears an older record than the nodes know: the array is held, until an operator says that the newer one counts', async () => {
  const { cluster, applications } = await writing({ seed: 10, legs: 2, bitmap: false, everyMs: 10 });
  await stopAll(applications);
  const metadata = (recordOn(cluster, 2).record.members[0]?.dataOffsetSectors ?? 0) * 512;
  const before = cluster.storage.peek('sda', 0, metadata);
  const failed = await cluster.driven(
    'no answer',
    cluster.request(2, { verb: 'fail', array: 'md0', device: '/dev/sdb' }),
  );
  assert.equal(failed.ok, true, failed.text);
  const later = await startedOn(cluster, [2, 3], 1);
  await writersGoOn(cluster, later);
  await stopAll(later);
  cluster.powerCut();
  // What a former master had on its way for long, or what somebody took from a backup.
  cluster.storage.poke('sda', 0, before);
  await cluster.boot(2, 3);
  const held = (): boolean => cluster.journal(2).read(0, 100_000).entries.some(hasHeld);
  await watched(cluster, 'node 2 holds it', held);
  await watchedPass(cluster, 10_000);
  for (const node of [2, 3]) assert.notEqual(cluster.driver(node).observe('md0')?.held, false, `node ${node}`);
  const assemble = (force: { force?: true }) =>
    cluster.driven('no answer', cluster.request(3, { verb: 'assemble', array: 'md0', ...force }));
  const refused = await assemble({});
  assert.equal(refused.ok, false);
  assert.match(refused.text, /node \d knows commit .* mdmesh assemble --force md0 writes again what is known/);
  cluster.storage.hide(2, 'sda');
  assert.match((await assemble({ force: true })).text, /is not seen on the master \(node 2\); bring it back/);
  cluster.storage.show(2, 'sda');
  const put = await assemble({ force: true });
  assert.deepEqual([put.ok, /^md0 goes on from commit/.test(put.text)], [true, true], put.text);
  await watched(cluster, 'it is open', () =>
    [2, 3].every((node) => cluster.driver(node).observe('md0')?.held === false),
  );
  const { record } = recordOn(cluster, 3);
  assert.deepEqual(
    record.members.map(({ role }) => role),
    ['active', 'faulty'],
  );
  const last = await startedOn(cluster, [2, 3], 2);
  await writersGoOn(cluster, last);
  await stopAll(last);
  assertWhole(cluster, [...applications, ...later, ...last], 2, 1);
  cluster.close();
});

function hasHeld({ event: { body } }: JournalEntry): boolean {
  return body.type === 'notice' && body.name === 'ArrayHeld' && /knows commit/.test(String(body.detail.why));
}

function commitHasFailed({ event: { body } }: JournalEntry): boolean {
  return body.type === 'notice' && body.name === 'CommitNotDurable';
}
