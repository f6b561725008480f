/** Two nodes, a mirror and a witness, and disks that decide: whatever befalls one node, the other goes on once it is switched off. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../src/arrays/record.ts';
import { elections, evicted, oneMasterATerm } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, proveWhole, requestMirror } from './lasting_writers.ts';

const available = labAvailable();

test('two nodes whose disks decide', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'two-nodes',
    guests: 2,
    diskMib: [64, 64, 4],
    devices: ['/dev/mapper/leg*'],
    config: 'timing: { failback_after: 4s }\nquorum: disks\nquorum_witness: /dev/ubdc',
  });
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  const switchedOff: NodeId[] = [];
  lab.onFence = async (node) => {
    switchedOff.push(node);
    await lab.guest(node).kill9();
    return true;
  };

  async function wrap(node: NodeId): Promise<void> {
    for (const letter of 'ab') await lab.guest(node).wrapDisk(`/dev/ubd${letter}`);
  }

  async function comesBack(node: NodeId): Promise<void> {
    await lab.guest(node).boot();
    await wrap(node);
    await cluster.startAgent(node);
    await cluster.open();
    await writers.start([node]);
  }

  async function goesOnWithout(victim: NodeId, sinceMs: number): Promise<void> {
    const other = victim === 1 ? 2 : 1;
    await cluster.until(`node ${victim} evicted`, 40_000, () => evicted(cluster, victim, sinceMs));
    writers.forget(victim);
    await writers.goOn([other]);
    assert.deepEqual((await cluster.open([other])).writers, [other]);
    assert.deepEqual(switchedOff.splice(0), [victim]);
  }

  async function formed(): Promise<void> {
    await cluster.until('three quorum disks, by both nodes', 20_000, async () => {
      const seen = await Promise.all(cluster.nodes.map((node) => cluster.status(node)));
      return seen.every(({ quorum }) => quorum?.quorate === true && quorum.set?.disks.length === 3);
    });
  }

  await Promise.all(cluster.nodes.map(wrap));
  await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
  await cluster.master();
  const writers = new LastingWriters(cluster);

  await chapter('the first array makes the first quorum set: both legs and the witness', async () => {
    await requestMirror(cluster, { prefix: '/dev/mapper/leg' });
    await cluster.open();
    await formed();
    assert.match(await cluster.must(2, 'status'), /Disks decide: a majority of them answers/);
  });

  await chapter(
    'the network between them is cut: the master goes on, the other is switched off, and comes back',
    async () => {
      await leads(cluster, 1);
      await writers.start();
      const since = Date.now();
      await lab.cut(2);
      await goesOnWithout(2, since);
      assert.deepEqual(await elections(cluster, since), []);
      await lab.heal(2);
      await comesBack(2);
      await proveWhole(cluster, writers);
    },
  );

  await chapter('the master loses its power: the other leads, and hands over when it is back', async () => {
    await leads(cluster, 1);
    await writers.start();
    const since = Date.now();
    const { lease } = await cluster.status(1);
    await lab.guest(1).kill9();
    await goesOnWithout(1, since);
    const [election] = await elections(cluster, since);
    assert.equal(election?.node, 2);
    assert.ok(election.timeMs >= since + lease.leaseLeftMs, 'not before the lease had surely ended');
    await comesBack(1);
    await leads(cluster, 1);
    await proveWhole(cluster, writers);
  });

  await chapter('both lose their power, and only one comes back', async () => {
    await writers.start();
    const since = Date.now();
    await lab.powerCut();
    for (const node of cluster.nodes) writers.forget(node);
    await lab.guest(2).boot();
    await wrap(2);
    await cluster.startAgent(2);
    await cluster.until('node 1 evicted', 60_000, () => evicted(cluster, 1, since));
    assert.deepEqual((await cluster.open([2])).writers, [2]);
    switchedOff.length = 0;
    await writers.start([2]);
    await comesBack(1);
    await proveWhole(cluster, writers);
  });

  await chapter('a leg is lost, then a node: one leg and the witness are enough', async () => {
    await leads(cluster, 1);
    await writers.start();
    await Promise.all(cluster.nodes.map((node) => lab.guest(node).failDisk('legb')));
    await cluster.until('the leg is given up', 30_000, async () => {
      const array = await cluster.array(1);
      return array?.record.members.some(({ role }) => role === 'faulty') === true && array.local?.held === false;
    });
    await writers.goOn([1, 2]);
    const since = Date.now();
    await lab.guest(1).kill9();
    await goesOnWithout(1, since);
    await sleep(1000);
    await writers.goOn([2]);
    const summaries = await writers.stop();
    for (const [node, { failed, hanging }] of summaries) assert.deepEqual([failed, hanging], [0, 0], `node ${node}`);
  });

  await chapter('no term had two masters', async () => {
    const count = await oneMasterATerm(cluster);
    assert.ok(count >= 4, `only ${count} elections were seen`);
  });
});
