/**
 * Nodes are cut off the network for longer than every promise lasts. Nobody is switched off: the guard of the node that was cut
 * holds its writes, and the majority goes on.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { elections, guardTimes, oneMasterATerm } from './agent_log.ts';
import { labAvailable } from './lab.ts';
import { leads, oneMaster, proveWhole } from './lasting_writers.ts';
import { unfencedMirror } from './unfenced_mirror.ts';

const available = labAvailable();
const CUT_MS = 8000;
/** An acknowledgement is noted a little after the write came back. */
const NOTED_WITHIN_MS = 500;

test('nodes are cut off', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  const { cluster, lab, watch, chapter, writers } = await unfencedMirror(t, 'partitions');

  /** Cuts, waits, heals. `silent`: who must have held its writes meanwhile; the others must have gone on. */
  async function cutOff(silent: readonly number[], cut: () => Promise<unknown>): Promise<number> {
    await leads(cluster, 1);
    await writers.start();
    const cutMs = Date.now();
    await cut();
    await sleep(CUT_MS / 2);
    await writers.goOn(cluster.nodes.filter((node) => !silent.includes(node)));
    await sleep(CUT_MS / 2);
    const healedMs = Date.now();
    for (const node of silent) {
      const droppedMs = await droppedAt(node, cutMs);
      const passed = await writers.acknowledgedBetween(node, droppedMs + NOTED_WITHIN_MS, healedMs);
      assert.equal(passed, 0, `writes of node ${node} passed although its grant had ended`);
      assert.ok((await writers.acknowledgedBetween(node, cutMs - 5000, cutMs)) > 0, 'it wrote before the cut');
    }
    return cutMs;
  }

  async function droppedAt(node: number, sinceMs: number): Promise<number> {
    const [droppedMs] = await guardTimes(cluster, node, 'drop-completed', sinceMs);
    assert.ok(droppedMs !== undefined, `the guard of node ${node} held its writes`);
    return droppedMs;
  }

  async function heal(): Promise<void> {
    for (const node of cluster.nodes) await lab.heal(node);
    await oneMaster(cluster);
    await cluster.open();
    await writers.goOn(cluster.nodes);
    await proveWhole(cluster, writers);
  }

  /** The node that was cut off held its writes before the majority's next master was elected. */
  async function heldBeforeElection(node: number, cutMs: number): Promise<void> {
    const [election] = await elections(cluster, cutMs);
    assert.equal(election?.node, 2, 'the majority has a new master');
    const droppedMs = await droppedAt(node, cutMs);
    const earlyMs = Math.round(election.timeMs - droppedMs);
    assert.ok(earlyMs > 0, `node ${node} held its writes ${-earlyMs} ms after node 2 was elected`);
    t.diagnostic(`node ${node} held its writes ${earlyMs} ms before node 2 was elected`);
  }

  await chapter('a node that is not master: its writes wait, the others go on', async () => {
    const cutMs = await cutOff([3], () => lab.cut(3));
    assert.deepEqual(await elections(cluster, cutMs), []);
    await heal();
  });

  await chapter('the master: it holds its writes before the majority elects another', async () => {
    const cutMs = await cutOff([1], () => lab.cut(1));
    await heldBeforeElection(1, cutMs);
    await heal();
  });

  await chapter('the master is heard no more, but hears: the same', async () => {
    const cutMs = await cutOff([1], () => Promise.all([lab.cutOneWay(1, 2), lab.cutOneWay(1, 3)]));
    await heldBeforeElection(1, cutMs);
    await heal();
  });

  await chapter('the master hears no more, but is heard: the same', async () => {
    const cutMs = await cutOff([1], () => Promise.all([lab.cutOneWay(2, 1), lab.cutOneWay(3, 1)]));
    await heldBeforeElection(1, cutMs);
    await heal();
  });

  await chapter('one node and the master do not hear each other, the third hears both: no second master', async () => {
    const cutMs = await cutOff([2], () => lab.cutPair(1, 2));
    assert.deepEqual(await elections(cluster, cutMs), []);
    await heal();
  });

  await chapter('every node from every other: nobody leads and nobody writes', async () => {
    await cutOff([1, 2, 3], () => Promise.all(cluster.nodes.map((node) => lab.cut(node))));
    for (const node of cluster.nodes) assert.equal((await cluster.status(node)).lease.master, null);
    await heal();
  });

  await chapter('no term had two masters, and what stands on the disks never went back', async () => {
    const count = await oneMasterATerm(cluster);
    assert.ok(count >= 5, `only ${count} elections were seen`);
    assert.deepEqual(watch.regressions, []);
    assert.ok(watch.terms.size >= 5, `only terms ${[...watch.terms.keys()]} were seen on the disks`);
  });
});
