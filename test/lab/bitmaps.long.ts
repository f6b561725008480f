/**
 * A mirror of almost 1 GiB, and nodes that lose their power while all write: of the gigabyte only what was marked is copied. A *scar*, a
 * block that differs between the legs without anybody having written it, shows that the rest was left alone.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import test from 'node:test';
import type { ArrayRecord, BitmapPlace, NodeId } from '../../src/arrays/record.ts';
import { bitmapSector, markedRanges } from '../../src/md/marks.ts';
import { evicted } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, proveWhole, requestMirror } from './lasting_writers.ts';
import { mustExamine, noticesNamed, startInOrder } from './writers.ts';

const available = labAvailable();

/** Less than 1 GiB, so that the mesh area is small, and quickly laid down by crowded guests. */
const DISK_MIB = 1020;
const REGION_BLOCKS = 1024;
const SCAR_SECTOR = 1_500_000;
const CLEARED_MS = 60_000;

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
  const { bitmap, componentSectors } = await cluster.open();
  assert.ok(bitmap !== null);
  assert.ok(componentSectors > 2_000_000);
  const writers = new LastingWriters(cluster, REGION_BLOCKS);

  const onDisk = <T>(disk: number, use: (fd: number) => T): T => {
    const fd = openSync(lab.diskImage(disk), 'r+');
    try {
      return use(fd);
    } finally {
      closeSync(fd);
    }
  };
  const scarAt = mustExamine(cluster, 1).dataOffsetBytes + SCAR_SECTOR * 512;
  const scar = (value: number): void => {
    onDisk(1, (fd) => writeSync(fd, new Uint8Array(4096).fill(value), 0, 4096, scarAt));
  };
  const scarIsThere = (): boolean =>
    onDisk(1, (fd) => {
      const bytes = new Uint8Array(1);
      readSync(fd, bytes, 0, 1, scarAt);
      return bytes[0] === 0x5c;
    });

  function marked(place: BitmapPlace, disk: number, node: NodeId): number {
    const bits = new Uint8Array(Math.ceil(componentSectors / place.chunkSectors / 8));
    onDisk(disk, (fd) => readSync(fd, bits, 0, bits.length, bitmapSector(place, node) * 512));
    const ranges = markedRanges(bits, place.chunkSectors, componentSectors);
    return ranges.reduce((sum, { loSector, hiSector }) => sum + hiSector - loSector, 0);
  }

  async function allCleared(record: ArrayRecord): Promise<void> {
    const place = record.bitmap;
    assert.ok(place !== null);
    const left = () => cluster.nodes.flatMap((node) => [0, 1].map((disk) => marked(place, disk, node)));
    await cluster.until('every bitmap is empty', CLEARED_MS, async () => left().every((sectors) => sectors === 0));
  }

  /** What the newest resync on this node was told to copy: by whose bitmaps, and how much. */
  async function copied(node: NodeId): Promise<{ nodes: unknown; sectors: number }> {
    const read = (await noticesNamed(cluster, node, 'BitmapsRead')).at(-1);
    assert.ok(read !== undefined, 'bitmaps were read');
    return { nodes: read.nodes, sectors: Number(read.sectors) };
  }

  /** So much could have been marked by these nodes. */
  const most = (nodes: number): number => nodes * (REGION_BLOCKS * 8 + 2 * bitmap.chunkSectors);

  await chapter('every node marks what it writes, on both legs', async () => {
    await leads(cluster, 1);
    const array = await cluster.array(1);
    assert.equal(array?.local?.bitmap, true, 'this kernel has bitmaps');
    scar(0x5c);
    await writers.start();
    for (const node of cluster.nodes) {
      for (const disk of [0, 1]) {
        const sectors = marked(bitmap, disk, node);
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
      const { nodes, sectors } = await copied(survivor);
      assert.equal(nodes, String(victim));
      t.diagnostic(`${sectors} of ${componentSectors} sectors were copied`);
      assert.ok(sectors > 0 && sectors <= most(1), `${sectors} sectors`);
      assert.ok(scarIsThere(), 'what nobody had marked was left alone');
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
    assert.ok(scarIsThere(), 'what nobody had marked was left alone');
  });

  await chapter('the legs are equal, and in the end nothing is marked', async () => {
    scar(0);
    await writers.start();
    await proveWhole(cluster, writers);
    await allCleared(await cluster.open());
  });
});
