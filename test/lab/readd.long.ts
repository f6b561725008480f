/**
 * A disk leaves a mirror with bitmaps, all write on without it, and it comes back: it gets what was written meanwhile on any node, and
 * no more than that. Then the legs are compared, and what each node reads. The sequence that md-cluster corrupts in silence
 * (150 blocks from two nodes, `--remove`, `--re-add` or `--add`) is the first chapter.
 *
 * Behind that: bitmaps that are taken away, laid anew, and grow, while all write.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import type { ArrayRecord, NodeId } from '../../src/arrays/record.ts';
import { BitmapsOnDisk } from './bitmaps_on_disk.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, oneMaster, proveWhole, requestMirror } from './lasting_writers.ts';
import { slowSwitch } from './slow_switch.ts';
import { agentKilled, allBack, copyUnderWay, dies, granted } from './upsets.ts';
import { startInOrder } from './writers.ts';

const available = labAvailable();

const DISK_MIB = 256;
const LARGE_SECTORS = DISK_MIB * 2048;
const SMALL_SECTORS = LARGE_SECTORS - 64 * 2048;
const REGION_BLOCKS = 1024;
/** Beyond what all three write. */
const SCAR_SECTOR = 200_000;
const LEGS = ['a', 'b'] as const;
const path = (letter: string): string => `/dev/mapper/leg${letter}`;

test('a disk comes back', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'readd',
    diskMib: [DISK_MIB, DISK_MIB],
    devices: ['/dev/mapper/leg*'],
    config: 'timing: { failback_after: 4s, probe_interval: 900ms, probe_timeout: 700ms }',
  });
  const { lab, nodes } = cluster;
  let seenSectors = SMALL_SECTORS;
  const wrapped = async (node: NodeId): Promise<void> => {
    for (const letter of LEGS) {
      await lab.guest(node).wrapDisk(`/dev/ubd${letter}`);
      await lab.guest(node).tableDisk(`leg${letter}`, `0 ${seenSectors} linear /dev/ubd${letter} 0`);
    }
  };
  await Promise.all(nodes.map(wrapped));
  await startInOrder(cluster);
  const chapter = chapters(t, cluster);
  slowSwitch(cluster);
  await cluster.until('a mirror', 120_000, async () => {
    if ((await cluster.array(1)) === undefined)
      await requestMirror(cluster, { prefix: '/dev/mapper/leg', assumeClean: true, force: true, bitmap: 'internal' });
    return true;
  });
  const first = await cluster.open();
  const onDisk = new BitmapsOnDisk(cluster, SCAR_SECTOR);
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  const { chunkSectors = 0 } = first.bitmap ?? {};

  const most = (writing: number): number => writing * (REGION_BLOCKS * 8 + 2 * chunkSectors);
  const leaves = async (): Promise<void> => {
    await cluster.must(2, `manage md0 --fail ${path('b')} --remove ${path('b')}`);
  };
  /** Of the array, as each node's own md reads it, past any cache. */
  const allReadTheSame = async (): Promise<void> => {
    const read = (node: NodeId) =>
      lab.guest(node).must('dd if=/dev/md0 bs=1M iflag=direct 2>/dev/null | sha256sum', { timeoutMs: 120_000 });
    const sums = await Promise.all(nodes.map(read));
    assert.equal(new Set(sums).size, 1, `nodes read different data: ${sums.join(' ')}`);
  };
  /** Whole again, by marks alone; the legs are one, and so is what nodes read; nothing stays marked. */
  const proveFilledByMarks = async (writing: number): Promise<void> => {
    await cluster.open();
    const { nodes: by, sectors } = await onDisk.copied(await oneMaster(cluster));
    t.diagnostic(`${sectors} of ${first.componentSectors} sectors were copied, marked by nodes ${by}`);
    assert.ok(sectors > 0 && sectors <= most(writing), `${sectors} sectors`);
    assert.ok(onDisk.scarIsThere, 'what nobody had marked was left alone');
    onDisk.heal();
    const idle = nodes.filter((node) => !writers.runs(node));
    if (idle.length > 0) await writers.start(idle);
    await proveWhole(cluster, writers);
    await allReadTheSame();
    await onDisk.allCleared(await cluster.open());
  };

  await chapter('150 blocks from two nodes without it, then --remove and --re-add', async () => {
    await leads(cluster, 1);
    await writers.start();
    await writers.stop();
    await leaves();
    const before = writers.acknowledged(2) + writers.acknowledged(3);
    await writers.start([2, 3]);
    await cluster.until(
      '150 writes',
      60_000,
      async () => writers.acknowledged(2) + writers.acknowledged(3) >= before + 150,
    );
    await writers.stop();
    onDisk.scar();
    const said = await cluster.must(3, `manage md0 --re-add ${path('b')}`);
    assert.match(said, /added to md0 as a spare; it gets what was written since it left/);
    await proveFilledByMarks(2);
  });

  await chapter(
    'in mdadm’s words, plain --add, while all write; one has lost its power and come back meanwhile',
    async () => {
      await leads(cluster, 1);
      await writers.start();
      await cluster.must(3, `mdadm /dev/md0 --fail ${path('b')} --remove ${path('b')}`);
      onDisk.scar();
      await writers.goOn(nodes);
      await dies(cluster, writers, 3);
      await allBack(cluster, writers, wrapped);
      await cluster.open();
      await cluster.must(1, `mdadm /dev/md0 --add ${path('b')}`);
      await proveFilledByMarks(3);
    },
  );

  for (const [what, befall] of [
    ['the copier’s agent is killed', () => agentKilled(cluster, 1)],
    ['the copier loses its power', () => dies(cluster, writers, 1)],
    ['another node loses its power', () => dies(cluster, writers, 2)],
  ] as const) {
    await chapter(`${what} in the middle of it`, async () => {
      await leads(cluster, 1);
      await writers.start();
      await leaves();
      onDisk.scar();
      await writers.goOn(nodes);
      await granted(cluster, 1, { verb: 'sync-limit', array: 'md0', limitKib: 1024 });
      await cluster.must(3, `manage md0 --re-add ${path('b')}`);
      await copyUnderWay(cluster, 3, 1);
      await befall();
      await allBack(cluster, writers, wrapped);
      await granted(cluster, 1, { verb: 'sync-limit', array: 'md0', limitKib: null });
      await proveFilledByMarks(3);
    });
  }

  await chapter(
    'bitmaps were laid anew, or it left before the array was last whole: it is filled as a whole, and that is said',
    async () => {
      await leads(cluster, 1);
      await writers.start();
      await leaves();
      const refused = await cluster.mdmesh(2, 'grow md0 --bitmap none');
      assert.match(refused.err, /md0 is degraded: its bitmaps say what the missing member lacks/);
      await granted(cluster, 2, { verb: 'grow-devices', array: 'md0', raidDisks: 1, force: false });
      await cluster.must(2, 'grow md0 --raid-devices 2 --force');
      onDisk.scar();
      const said = await cluster.must(2, `manage md0 --re-add ${path('b')}`);
      assert.match(
        said,
        /added to md0 as a spare; it is filled as a whole: what was written since it left is not marked/,
      );
      await cluster.open();
      assert.equal(onDisk.scarIsThere, false);
      await proveWhole(cluster, writers);
      await allReadTheSame();
    },
  );

  const bitmapOn = async (node: NodeId): Promise<[string, string]> => {
    const file = (name: string) => lab.guest(node).readFile(`/sys/block/md0/md/bitmap/${name}`);
    return [(await file('location')).trim(), (await file('chunksize')).trim()];
  };
  /** All nodes keep the record's, and the master goes by it. */
  const kept = async (): Promise<ArrayRecord> => {
    await cluster.until('every writer keeps its bitmap', 30_000, async () =>
      (await cluster.array(1))?.record.writerBoots.every(({ bitmap }) => bitmap),
    );
    return cluster.open();
  };

  await chapter('grow: bitmaps are taken away, and laid anew with another chunk, while all write', async () => {
    await leads(cluster, 1);
    await writers.start();
    await cluster.must(3, 'grow md0 --bitmap none');
    for (const node of nodes) assert.equal((await bitmapOn(node))[0], 'none');
    await writers.goOn(nodes);
    assert.match((await cluster.mdmesh(1, 'grow md0 --bitmap none')).err, /md0 keeps no bitmaps already/);
    assert.match(
      (await cluster.mdmesh(1, 'grow md0 --bitmap internal --bitmap-chunk 4K')).err,
      /a power of two from 64 KiB on/,
    );
    await cluster.must(2, 'mdadm --grow /dev/md0 --bitmap=internal --bitmap-chunk=1M');
    for (const node of nodes) {
      const [location, chunk] = await bitmapOn(node);
      assert.deepEqual([location !== 'none', chunk], [true, String(1024 * 1024)]);
    }
    const laid = await kept();
    const own = REGION_BLOCKS * 8 + 2 * 2048;
    // What stood there, with another chunk, is a mark like any other until md has cleared it.
    await cluster.until('the marks are node 3’s own', 60_000, async () => onDisk.marked(laid, 0, 3) <= own);
    await writers.goOn(nodes);
    await dies(cluster, writers, 3);
    const { nodes: by, sectors } = await onDisk.copied(await oneMaster(cluster, [1, 2]));
    assert.equal(by, '3');
    assert.ok(sectors > 0 && sectors <= own, `${sectors} sectors`);
    await allBack(cluster, writers, wrapped);
    await cluster.open();
    await writers.start([3]);
    await proveWhole(cluster, writers);
    await onDisk.allCleared(await kept());
  });

  await chapter('grow: more nodes than the members had room for, without a pause that anybody notices', async () => {
    await leads(cluster, 1);
    await writers.start();
    assert.match(
      (await cluster.mdmesh(1, 'grow md0 --nodes 16')).err,
      /has room for 16 nodes, and only ever gets more/,
    );
    await cluster.must(2, 'grow md0 --nodes 40');
    const record = await kept();
    assert.equal(record.nodeSlots, 40);
    for (const node of nodes) assert.notEqual((await bitmapOn(node))[0], 'none');
    assert.match((await cluster.mdmesh(1, 'grow md0 --nodes 100')).err, /100 node slots; 1 to 64 are possible/);
    await proveWhole(cluster, writers);
    await onDisk.allCleared(record);
  });

  await chapter('grow: a larger array, with bitmaps of its size', async () => {
    await leads(cluster, 1);
    await writers.start();
    const { componentSectors: before } = await cluster.open();
    seenSectors = LARGE_SECTORS;
    for (const node of nodes) {
      for (const letter of LEGS)
        await lab.guest(node).tableDisk(`leg${letter}`, `0 ${seenSectors} linear /dev/ubd${letter} 0`);
    }
    await cluster.must(3, 'grow md0 --size max');
    const grown = before + LARGE_SECTORS - SMALL_SECTORS;
    for (const node of nodes) {
      assert.equal(Number(await lab.guest(node).readFile('/sys/block/md0/size')), grown, `node ${node}`);
      assert.notEqual((await bitmapOn(node))[0], 'none');
    }
    await proveWhole(cluster, writers);
    await onDisk.allCleared(await kept());
    await allReadTheSame();
  });
});
