/**
 * Nodes that fall silent are switched off by the fence command, over a network that is never cut: each comes back as a new boot.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { evicted, oneMasterATerm } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { DiskWatch } from './disk_watch.ts';
import { labAvailable } from './lab.ts';
import { createMirror, LastingWriters, leads, proveWhole } from './lasting_writers.ts';

const available = labAvailable();

test('silent nodes are switched off', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.start({
    name: 'fencing',
    diskMib: [64, 64],
    // A lease that outlasts the others' being declared dead: a master that was cut off has the time to switch them off, and must not.
    config: 'timing: { failback_after: 4s, holder: 4s, voter: 6s, watchdog: 7s }',
  });
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  const watch = new DiskWatch(lab, [0, 1]);
  t.after(() => watch.end());
  const switchedOff: number[] = [];
  const kill = lab.onFence;
  lab.onFence = (node) => {
    switchedOff.push(node);
    return kill(node);
  };
  await createMirror(cluster);
  const writers = new LastingWriters(cluster);

  async function isSwitchedOff(victim: number, silence: () => Promise<unknown>): Promise<void> {
    await leads(cluster, 1);
    await writers.start();
    const since = Date.now();
    const others = cluster.nodes.filter((node) => node !== victim);
    await silence();
    await cluster.until(`node ${victim} evicted`, 30_000, () => evicted(cluster, victim, since));
    writers.forget(victim);
    assert.equal(lab.guest(victim).running, false);
    assert.deepEqual([...new Set(switchedOff.splice(0))], [victim], 'nobody else was switched off');
    assert.deepEqual((await cluster.open(others)).writers, others);
    await writers.goOn(others);

    await lab.heal(victim);
    await lab.guest(victim).boot();
    await cluster.startAgent(victim);
    await cluster.open();
    await writers.start([victim]);
    await proveWhole(cluster, writers);
  }

  await chapter('a frozen node that is not master', () => isSwitchedOff(3, () => lab.guest(3).freeze()));
  await chapter('the frozen master', () => isSwitchedOff(1, () => lab.guest(1).freeze()));
  await chapter('a node that is not master, cut off', () => isSwitchedOff(3, () => lab.cut(3)));
  await chapter('the master, cut off: it may not switch off the majority', () => isSwitchedOff(1, () => lab.cut(1)));

  await chapter('every node from every other: without a majority nobody is switched off', async () => {
    await leads(cluster, 1);
    await writers.start();
    await Promise.all(cluster.nodes.map((node) => lab.cut(node)));
    await sleep(8000);
    assert.deepEqual(switchedOff, []);
    for (const node of cluster.nodes) await lab.heal(node);
    await leads(cluster, 1);
    await proveWhole(cluster, writers);
    assert.deepEqual(switchedOff, []);
  });

  await chapter('no term had two masters, and what stands on the disks never went back', async () => {
    await oneMasterATerm(cluster);
    assert.deepEqual(watch.regressions, []);
    assert.ok(watch.terms.size >= 5, `only terms ${[...watch.terms.keys()]} were seen on the disks`);
  });
});
