/**
 * Two nodes, two LUNs and a witness on a SAN, disks that decide, and reservations alone for fencing: no node is ever switched off by the
 * other. Who is shut out of the members leads all the same when the other is gone.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { elections, evicted, oneMasterATerm } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, proveWhole, requestMirror } from './lasting_writers.ts';
import { rawWrite, registeredOn } from './storage_guest.ts';
import { notices } from './writers.ts';

const available = labAvailable();
const skip = available.ok ? false : `no laboratory: ${available.why}`;
const REGION_BLOCKS = 800;
const LUNS = ['/dev/sda', '/dev/sdb'];

test('two nodes, their disks decide and shut out', { skip, timeout: 900_000 }, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'two-nodes-san',
    guests: 2,
    diskMib: [24, 24, 4],
    luns: ['a', 'b', 'c'].map((letter) => ({ device: `/dev/ubd${letter}` })),
    fencing: () => '{ methods: [reservation] }',
    config: 'timing: { failback_after: 4s }\nquorum: disks\nquorum_witness: /dev/sdc',
  });
  const chapter = chapters(t, cluster);
  const { lab, san } = cluster;
  const writers = new LastingWriters(cluster, REGION_BLOCKS);

  async function comesBack(node: NodeId): Promise<void> {
    await lab.guest(node).boot();
    await san.connect(lab.guest(node));
    await cluster.startAgent(node);
    await cluster.open();
    await writers.start([node]);
  }

  async function goesOnWithout(victim: NodeId, sinceMs: number): Promise<void> {
    const other = victim === 1 ? 2 : 1;
    await cluster.until(`node ${victim} evicted`, 60_000, () => evicted(cluster, victim, sinceMs));
    await writers.goOn([other]);
    assert.deepEqual((await cluster.open([other])).writers, [other]);
    for (const device of LUNS) assert.deepEqual(await registeredOn(lab.guest(other), device), [other]);
  }

  await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
  await cluster.master();

  await chapter('the first array makes the quorum set: both LUNs and the witness', async () => {
    await requestMirror(cluster, { prefix: '/dev/sd', assumeClean: true });
    await cluster.open();
    await cluster.until('three quorum disks, by both nodes', 20_000, async () => {
      const seen = await Promise.all(cluster.nodes.map((node) => cluster.status(node)));
      return seen.every(({ quorum }) => quorum?.quorate === true && quorum.set?.disks.length === 3);
    });
    for (const device of LUNS) assert.deepEqual(await registeredOn(lab.guest(1), device), [1, 2]);
  });

  await chapter('the network between them is cut: the other is shut out, and takes part again by itself', async () => {
    await leads(cluster, 1);
    await writers.start();
    const since = Date.now();
    await lab.cut(2);
    await goesOnWithout(2, since);
    assert.match(await rawWrite(lab.guest(2), '/dev/sda'), /Invalid exchange/);
    assert.deepEqual(await elections(cluster, since), []);
    await lab.heal(2);
    await cluster.open();
    // The very writer whose writes were held all the time.
    await writers.goOn([2]);
    await proveWhole(cluster, writers);
  });

  await chapter('who has the other out dies: that one puts its keys back, and leads', async () => {
    await leads(cluster, 1);
    await writers.start();
    const cutAt = Date.now();
    await lab.cut(2);
    await goesOnWithout(2, cutAt);
    const since = Date.now();
    const { lease } = await cluster.status(1);
    await lab.guest(1).kill9();
    await cluster.until('node 2 leads', 60_000, async () =>
      (await elections(cluster, since)).some(({ node }) => node === 2),
    );
    const [election] = await elections(cluster, since);
    assert.ok(
      election !== undefined && election.timeMs >= since + lease.leaseLeftMs,
      'not before the lease had surely ended',
    );
    await goesOnWithout(1, since);
    writers.forget(1);
    const told = await notices(cluster, 2);
    assert.ok(told.includes('NodeShutOut') && told.includes('NodeTakenBack'), told.join());
    await lab.heal(2);
    await comesBack(1);
    await leads(cluster, 1);
    await proveWhole(cluster, writers);
  });

  await chapter('both lose their power, and only one comes back', async () => {
    await writers.start();
    const since = Date.now();
    for (const node of cluster.nodes) await lab.guest(node).kill9();
    for (const node of cluster.nodes) writers.forget(node);
    await lab.guest(2).boot();
    await san.connect(lab.guest(2));
    await cluster.startAgent(2);
    await cluster.until('node 1 evicted', 60_000, () => evicted(cluster, 1, since));
    assert.deepEqual((await cluster.open([2])).writers, [2]);
    await writers.start([2]);
    await comesBack(1);
    await proveWhole(cluster, writers);
  });

  await chapter('no term had two masters', async () => {
    const count = await oneMasterATerm(cluster);
    assert.ok(count >= 3, `only ${count} elections were seen`);
  });
});
