/**
 * Nodes lose their power while all three write, one at a time and all at once, and once after their agents have ended in order. The
 * fence command vouches that they are off.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import { agentLines, elections, evicted, oneMasterATerm } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { createMirror, LastingWriters, leads, proveWhole } from './lasting_writers.ts';
import { checkLegs, commits } from './writers.ts';

const available = labAvailable();

test('nodes lose their power', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.start({
    name: 'power',
    diskMib: [64, 64],
    config: 'timing: { failback_after: 4s }',
  });
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  const { componentSectors } = await createMirror(cluster);
  const writers = new LastingWriters(cluster);

  async function comesBack(node: number): Promise<void> {
    await lab.guest(node).boot();
    await cluster.startAgent(node);
    await cluster.open();
    await writers.start([node]);
  }

  async function resyncs(node: number): Promise<number> {
    return (await commits(cluster, node)).filter(({ kind }) => kind === 'resync-done').length;
  }

  await chapter('a node that is not master: evicted, resynced, back after a boot', async () => {
    await leads(cluster, 1);
    await writers.start();
    const before = await resyncs(1);
    const since = Date.now();
    await lab.guest(3).kill9();
    writers.forget(3);
    await cluster.until('node 3 evicted', 30_000, () => evicted(cluster, 3, since));
    await writers.goOn([1, 2]);
    assert.deepEqual((await cluster.open([1, 2])).writers, [1, 2]);
    assert.equal(await resyncs(1), before + 1, 'the legs were resynced');
    await comesBack(3);
    await proveWhole(cluster, writers);
  });

  await chapter(
    'the master: no other leads before its lease has surely ended; it comes back and is handed the lead',
    async () => {
      await leads(cluster, 1);
      await writers.start();
      const since = Date.now();
      const { lease } = await cluster.status(1);
      await lab.guest(1).kill9();
      writers.forget(1);
      await cluster.until('node 1 evicted', 30_000, () => evicted(cluster, 1, since));
      const [election] = await elections(cluster, since);
      assert.equal(election?.node, 2);
      assert.ok(
        election.timeMs >= since + lease.leaseLeftMs,
        `node 2 led ${election.timeMs - since} ms after node 1 had a lease for ${lease.leaseLeftMs} ms`,
      );
      await writers.goOn([2, 3]);
      assert.deepEqual((await cluster.open([2, 3])).writers, [2, 3]);

      await comesBack(1);
      const whole = Date.now();
      await leads(cluster, 1);
      await writers.goOn([1, 2, 3]);
      const dropped = cluster.nodes
        .flatMap((node) => agentLines(cluster, node, whole))
        .filter(({ event, guard }) => event === 'WritesDisabled' || guard?.type === 'grant-expired');
      assert.deepEqual(dropped, [], 'nobody held its writes while the lead was handed over');
      const summaries = await proveWhole(cluster, writers);
      const longest = [...summaries].map(([node, { pauses }]) => {
        const lengths = pauses.list.filter(({ wallMs }) => wallMs >= whole).map(({ lengthMs }) => lengthMs);
        return `node ${node}: ${Math.round(Math.max(0, ...lengths))} ms`;
      });
      t.diagnostic(`longest pause of a write from the hand-over on: ${longest.join(', ')}`);
    },
  );

  await chapter('all at once: one master, resynced, nothing lost', async () => {
    await writers.start();
    const before = await resyncs(1);
    await lab.powerCut();
    for (const node of cluster.nodes) writers.forget(node);
    await lab.bootAll();
    await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
    await cluster.open();
    assert.ok((await resyncs(1)) > before, 'the legs were resynced');
    await writers.start();
    await proveWhole(cluster, writers);
  });

  await chapter(
    'all agents are ended at once, then the power: nobody has crashed, and nothing is resynced',
    async () => {
      await writers.start();
      const before = await commits(cluster, 1);
      await Promise.all(cluster.nodes.map((node) => cluster.stopAgent(node)));
      await lab.powerCut();
      for (const node of cluster.nodes) writers.forget(node);
      checkLegs(cluster, [0, 1], writers.logs, componentSectors);
      await lab.bootAll();
      await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
      await cluster.open();
      const since = (await commits(cluster, 1)).slice(before.length).map(({ kind }) => kind);
      assert.ok(since.includes('admit'), since.join());
      assert.deepEqual(
        since.filter((kind) => ['evict', 'resync-start', 'resync-done'].includes(kind)),
        [],
        since.join(),
      );
      await writers.start();
      await proveWhole(cluster, writers);
    },
  );

  await chapter('all at once, and node 1 does not return: switched off, the others go on', async () => {
    const absent = 1;
    await writers.start();
    const since = Date.now();
    const others = cluster.nodes.filter((node) => node !== absent);
    await lab.powerCut();
    for (const node of cluster.nodes) writers.forget(node);
    await Promise.all(others.map((node) => lab.guest(node).boot()));
    await Promise.all(others.map((node) => cluster.startAgent(node)));
    const record = await cluster.open(others);
    assert.deepEqual(record.writers, others);
    assert.ok(await evicted(cluster, absent, since));
    await writers.start(others);
    await proveWhole(cluster, writers, others);
    await lab.guest(absent).boot();
    await cluster.startAgent(absent);
    await cluster.open();
  });

  await chapter('no term had two masters', async () => {
    const count = await oneMasterATerm(cluster);
    assert.ok(count >= 4, `only ${count} elections were seen`);
  });
});
