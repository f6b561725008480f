/**
 * A master dies, stands still, or is cut off, on a real SAN with reservations: a majority shuts it out and elects past its lease. Nothing of
 * it lands from then on, by the storage's own word, and it comes back by itself where it has only been cut off.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../src/arrays/record.ts';
import { evicted, oneMasterATerm } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, oneMaster, proveWhole, requestMirror } from './lasting_writers.ts';
import { rawWrite, registeredOn } from './storage_guest.ts';
import { notices, startInOrder } from './writers.ts';

const available = labAvailable();
const REGION_BLOCKS = 800;
const FROZEN_MS = 15_000;

test('elected past a lease, by the word of the disks', {
  skip: available.ok ? false : `no laboratory: ${available.why}`,
}, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'fenced',
    diskMib: [24, 24],
    luns: [{ device: '/dev/ubda' }, { device: '/dev/ubdb' }],
    fencing: () => '{ methods: [reservation] }',
    config: 'timing: { failback_after: 4s }',
  });
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  await startInOrder(cluster);
  await requestMirror(cluster, { prefix: '/dev/sd', assumeClean: true });
  await cluster.open();

  const registered = (asked: NodeId, device: string) => registeredOn(lab.guest(asked), device);

  /** Node 2 leads in a later term than this, and has not waited for the end of node 1's. */
  const electedPast = async (term: number): Promise<void> => {
    await cluster.until('node 2 is elected', 30_000, async () => (await cluster.status(2)).lease.role === 'master');
    const lines = cluster.agentLog(2).split('\n');
    const told = lines.flatMap((text) => {
      if (!text.includes('"event":"MasterElected"')) return [];
      const { detail }: { detail?: { node: number; term: number; shutOut?: string } } = JSON.parse(text);
      return detail?.node === 2 && detail.term > term ? [detail] : [];
    });
    assert.equal(told[0]?.shutOut, '1', JSON.stringify(told));
    for (const device of ['/dev/sda', '/dev/sdb']) assert.deepEqual(await registered(2, device), [2, 3]);
  };
  const termNow = async (): Promise<number> => (await cluster.status(1)).lease.term;
  const boot = async (node: NodeId): Promise<void> => {
    await lab.guest(node).boot();
    await cluster.san.connect(lab.guest(node));
    await cluster.startAgent(node);
  };

  await chapter('the master’s guest is killed under writers', async () => {
    await leads(cluster, 1);
    await writers.start();
    const since = Date.now();
    const term = await termNow();
    lab.guest(1).killNow();
    writers.forget(1);
    await electedPast(term);
    await writers.goOn([2, 3]);
    await cluster.until('node 1 evicted', 40_000, () => evicted(cluster, 1, since));
    await boot(1);
    await cluster.open();
    await leads(cluster, 1);
    await writers.start([1]);
    await proveWhole(cluster, writers);
  });

  await chapter('the master is cut off the others, not off its disks', async () => {
    await leads(cluster, 1);
    await writers.start();
    const since = Date.now();
    const term = await termNow();
    await lab.cut(1);
    await electedPast(term);
    // Past its agent, its guard and its md.
    assert.match(await rawWrite(lab.guest(1), '/dev/sda'), /Invalid exchange/);
    await writers.goOn([2, 3]);
    await cluster.until('node 1 evicted', 40_000, () => evicted(cluster, 1, since));
    assert.ok((await cluster.array(1))?.local?.held, 'its array is held');
    await lab.heal(1);
    await cluster.until('node 1 taken back', 60_000, async () => (await cluster.open()).writers.includes(1));
    // The very writer whose writes were held all the time: none of them has met a disk that refused it.
    await writers.goOn([1]);
    await leads(cluster, 1);
    await proveWhole(cluster, writers);
  });

  await chapter('the master stands still, and wakes up', async () => {
    await leads(cluster, 1);
    await writers.start();
    const term = await termNow();
    await lab.guest(1).freeze();
    await electedPast(term);
    await writers.goOn([2, 3]);
    await sleep(FROZEN_MS);
    await lab.guest(1).thaw();
    await oneMaster(cluster, [2, 3]);
    await writers.goOn([2, 3]);
    // With writes that the disks have refused, and an application that has the array open, it stays out until it is booted.
    const isBack = await cluster
      .until('node 1 is taken back', 30_000, async () =>
        (await cluster.open(cluster.nodes, 'md0', 1000)).writers.includes(1),
      )
      .then(
        () => true,
        () => false,
      );
    t.diagnostic(isBack ? 'node 1 came back by itself' : 'writes of node 1 were refused: it is booted');
    if (!isBack) {
      lab.guest(1).killNow();
      writers.forget(1);
      await boot(1);
      await cluster.open();
      await writers.start([1]);
    }
    await leads(cluster, 1);
    await proveWhole(cluster, writers);
    const told = await notices(cluster, 2);
    assert.ok(!told.includes('LastMemberFaulty'), told.join());
    await oneMasterATerm(cluster);
  });
});
