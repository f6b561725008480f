/** Agents die while all three nodes write: some are started again at once, others are not and their node is switched off. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { evicted, oneMasterATerm } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { createMirror, LastingWriters, leads, proveWhole } from './lasting_writers.ts';
import { slowSwitch } from './slow_switch.ts';

const available = labAvailable();

test('agents die and come back', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.start({
    name: 'deaths',
    diskMib: [64, 64],
    config: 'timing: { failback_after: 4s }',
  });
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  const switchedOff = slowSwitch(cluster);
  await createMirror(cluster);
  const writers = new LastingWriters(cluster);
  const others = (victim: number) => cluster.nodes.filter((node) => node !== victim);

  async function goesOnWithout(victim: number, sinceMs: number): Promise<void> {
    await cluster.until(`node ${victim} evicted`, 30_000, () => evicted(cluster, victim, sinceMs));
    writers.forget(victim);
    await writers.goOn(others(victim));
    const record = await cluster.open(others(victim));
    assert.deepEqual(record.writers, others(victim));
  }

  async function comesBack(node: number): Promise<void> {
    await lab.guest(node).boot();
    await cluster.startAgent(node);
    await cluster.open();
    await writers.start([node]);
  }

  for (const [victim, who] of [
    [3, 'a node that is not master'],
    [1, 'the master'],
  ] as const) {
    await chapter(`the agent of ${who} is killed and started again at once: no resync`, async () => {
      await leads(cluster, 1);
      await writers.start();
      const since = Date.now();
      const before = await cluster.open();
      await cluster.agent(victim).signal('SIGKILL');
      await cluster.startAgent(victim);
      await cluster.until('the restarted agent answers', 40_000, () => cluster.status(victim));
      await writers.goOn(cluster.nodes);
      const after = await cluster.open();
      assert.equal(await evicted(cluster, victim, since), false);
      assert.deepEqual(switchedOff, []);
      assert.deepEqual(after.writerBoots, before.writerBoots);
      await proveWhole(cluster, writers);
    });

    await chapter(
      `the agent of ${who} is killed for good: switched off, evicted, resynced, back after a boot`,
      async () => {
        await leads(cluster, 1);
        await writers.start();
        const since = Date.now();
        await cluster.agent(victim).signal('SIGKILL');
        await goesOnWithout(victim, since);
        assert.deepEqual(switchedOff.splice(0), [victim]);
        await comesBack(victim);
        await proveWhole(cluster, writers);
      },
    );
  }

  await chapter('no term had two masters', async () => {
    const count = await oneMasterATerm(cluster);
    assert.ok(count > 1, `only ${count} elections were seen`);
  });
});
