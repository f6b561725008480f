/** A mirror of almost 1 GiB, and nodes that lose their power while all write: of the gigabyte only what was marked is copied. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { evicted } from './agent_log.ts';
import { BitmapsOnDisk } from './bitmaps_on_disk.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, proveWhole, requestMirror } from './lasting_writers.ts';
import { noticesNamed, startInOrder } from './writers.ts';

const available = labAvailable();

/** Less than 1 GiB, so that the mesh area is small, and quickly laid down by crowded guests. */
const DISK_MIB = 1020;
const REGION_BLOCKS = 1024;
const SCAR_SECTOR = 1_500_000;

test('bitmaps on real kernels', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'bitmaps',
    diskMib: [DISK_MIB, DISK_MIB],
    config: 'timing: { failback_after: 4s, probe_interval: 900ms, probe_timeout: 700ms }',
  });
  await startInOrder(cluster);
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  // Blank disks are alike. Kernels in their first seconds may lose a lease, and what was begun under it is not done.
  await cluster.until('a mirror', 120_000, async () => {
    if ((await cluster.array(1)) === undefined)
      await requestMirror(cluster, { assumeClean: true, force: true, bitmap: 'internal' });
    return true;
  });
  const record = await cluster.open();
  const { bitmap, componentSectors } = record;
  assert.ok(bitmap !== null);
  assert.ok(componentSectors > 2_000_000);
  const writers = new LastingWriters(cluster, REGION_BLOCKS);

  const onDisk = new BitmapsOnDisk(cluster, SCAR_SECTOR);

  /** So much could have been marked by these nodes. */
  const most = (nodes: number): number => nodes * (REGION_BLOCKS * 8 + 2 * bitmap.chunkSectors);

  await chapter('every node marks what it writes, on both legs', async () => {
    await leads(cluster, 1);
    const array = await cluster.array(1);
    assert.ok(array?.local?.bitmap != null, 'this kernel has bitmaps');
    onDisk.scar();
    await writers.start();
    for (const node of cluster.nodes) {
      for (const disk of [0, 1]) {
        const sectors = onDisk.marked(record, disk, node);
        assert.ok(sectors > 0 && sectors <= most(1), `node ${node} has marked ${sectors} sectors on disk ${disk}`);
      }
    }
  });

  for (const victim of [3, 1]) {
    const survivor = victim === 1 ? 2 : 1;
    await chapter(`node ${victim} dies: what it had marked is copied, and no more`, async () => {
      await leads(cluster, 1);
      const since = Date.now();
      await lab.guest(victim).kill9();
      writers.forget(victim);
      await cluster.until(`node ${victim} evicted`, 30_000, () => evicted(cluster, victim, since));
      const others = cluster.nodes.filter((node) => node !== victim);
      await writers.goOn(others);
      await cluster.open(others);
      const { nodes, sectors } = await onDisk.copied(survivor);
      assert.equal(nodes, String(victim));
      t.diagnostic(`${sectors} of ${componentSectors} sectors were copied`);
      assert.ok(sectors > 0 && sectors <= most(1), `${sectors} sectors`);
      assert.ok(onDisk.scarIsThere, 'what nobody had marked was left alone');
      await lab.guest(victim).boot();
      await cluster.startAgent(victim);
      await cluster.open();
      await writers.start([victim]);
    });
  }

  await chapter('all die at once: what all had marked is copied, and no more', async () => {
    await lab.powerCut();
    for (const node of cluster.nodes) writers.forget(node);
    await lab.bootAll();
    await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
    await cluster.open();
    const read = await Promise.all(cluster.nodes.map((node) => noticesNamed(cluster, node, 'BitmapsRead')));
    const newest = read.flat().filter(({ nodes }) => String(nodes).includes(' '));
    assert.ok(newest.length > 0, 'the bitmaps of several nodes were read');
    for (const { sectors } of newest) assert.ok(Number(sectors) <= most(3), `${sectors} sectors`);
    assert.ok(onDisk.scarIsThere, 'what nobody had marked was left alone');
  });

  await chapter('the legs are equal, and in the end nothing is marked', async () => {
    onDisk.heal();
    await writers.start();
    await proveWhole(cluster, writers);
    await onDisk.allCleared(await cluster.open());
  });
});
