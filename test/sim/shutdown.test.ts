/** Whole clusters that end in order, all nodes at once or one after the other, under load; and what only looks like it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/arrays/record.ts';
import { assertWhole, recordOn, startedOn, stopAll, watched, writing } from './afternoon.ts';
import type { Application } from './application.ts';
import type { SimCluster } from './cluster.ts';

const seeds = (process.env.MDMESH_SIM_SEEDS ?? '1,2').split(',').map(Number);

/** Kinds of the commits that are made from now on. */
function commitsOf(cluster: SimCluster): Set<string> {
  const kinds = new Set<string>();
  for (const node of cluster.nodes) {
    cluster.journal(node).onAppend(({ event: { body } }) => {
      if (body.type === 'commit') kinds.add(body.kind);
    });
  }
  return kinds;
}

/** `SIGTERM` on each of them, so long after the one before. */
async function endInOrder(cluster: SimCluster, nodes: readonly NodeId[], apartMs: number): Promise<void> {
  const ends: Promise<void>[] = [];
  for (const node of nodes) {
    ends.push(cluster.stopAgent(node));
    await cluster.pass(apartMs);
  }
  await cluster.driven('all agents ended', Promise.all(ends));
}

/** Power goes and comes; then they write on, and it is looked at whether all is there. */
async function switchedOff(cluster: SimCluster, applications: readonly Application[]): Promise<Set<string>> {
  cluster.powerCut();
  for (const application of applications) application.abandon();
  await cluster.pass(300);
  const kinds = commitsOf(cluster);
  await cluster.boot(...cluster.nodes);
  await watched(cluster, 'a master again', () => cluster.masters().length === 1);
  await cluster.open();
  const seen = new Set(kinds);
  const later = await startedOn(cluster, cluster.nodes, 1);
  await stopAll(later);
  assertWhole(cluster, [...applications, ...later], 1, 2);
  return seen;
}

for (const seed of seeds) {
  for (const bitmap of [false, true]) {
    const kept = bitmap ? 'with bitmaps' : 'without bitmaps';
    for (const apartMs of [0, 30, 4000]) {
      test(`seed ${seed}: all agents end in order, ${apartMs} ms apart, under load: nobody has crashed, ${kept}`, async () => {
        const { cluster, applications } = await writing({ seed, legs: 2, bitmap });
        await endInOrder(cluster, cluster.nodes, apartMs);
        const kinds = await switchedOff(cluster, applications);
        assert.deepEqual(
          ['evict', 'resync-start', 'resync-done'].filter((kind) => kinds.has(kind)),
          [],
        );
        assert.ok(kinds.has('admit'), 'each is a writer as a new boot');
        cluster.close();
      });
    }

    test(`seed ${seed}: two agents end in order, one is killed: that one has crashed, ${kept}`, async () => {
      const { cluster, applications } = await writing({ seed, legs: 2, bitmap });
      cluster.killAgent(3);
      await endInOrder(cluster, [1, 2], 0);
      assert.ok((await switchedOff(cluster, applications)).has('evict'));
      cluster.close();
    });

    test(`seed ${seed}: all ended in order, were started again and lost their power: what was said before is not said of that, ${kept}`, async () => {
      const { cluster, applications } = await writing({ seed, legs: 2, bitmap });
      await endInOrder(cluster, cluster.nodes, 0);
      await cluster.driven('agents again', Promise.all(cluster.nodes.map((node) => cluster.startAgent(node))));
      await cluster.open();
      const before = applications.map(({ acknowledged }) => acknowledged);
      await cluster.pass(1000);
      for (const [index, { acknowledged }] of applications.entries()) {
        assert.ok(acknowledged > (before[index] ?? 0), `node ${index + 1} did not write on`);
      }
      assert.ok((await switchedOff(cluster, applications)).has('evict'));
      cluster.close();
    });
  }

  test(`seed ${seed}: ended in order, booted without a majority, ended again: the word is passed on`, async () => {
    const { cluster, applications } = await writing({ seed, legs: 2 });
    await endInOrder(cluster, cluster.nodes, 0);
    cluster.powerCut();
    await cluster.pass(300);
    await cluster.boot(3);
    await cluster.pass(3000);
    assert.equal(cluster.status(3)?.lease.master, null);
    await endInOrder(cluster, [3], 0);
    const kinds = await switchedOff(cluster, applications);
    assert.equal(kinds.has('evict'), false);
    assert.deepEqual(recordOn(cluster, 1).record.writers, [1, 2, 3]);
    cluster.close();
  });
}
