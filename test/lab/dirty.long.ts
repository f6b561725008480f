/**
 * All nodes lose their power in the same instant, in the middle of writes. Whoever leads first copies one leg over the
 * others, in windows, while all write on; afterwards the legs are equal and nothing that was acknowledged is missing.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, writeSync } from 'node:fs';
import { after, before, suite, test } from 'node:test';
import type { ArrayRecord } from '../../src/arrays/record.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { acknowledgedIn, checkLegs, mustExamine, PATIENT, startInOrder, Writers } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, dirty arrays on real kernels: ${available.why}`);

/** Without bitmaps (bitmaps.long.ts is about them): all is copied, also what was written behind everybody's back. */
const bitmap = 'none';
const mirror = { md: 'md0', level: 'raid1', raidDisks: 2, devices: ['/dev/ubda', '/dev/ubdb'], bitmap };
const striped = {
  md: 'md1',
  level: 'raid10',
  raidDisks: 4,
  devices: ['/dev/ubdc', '/dev/ubdd', '/dev/ubde', '/dev/ubdf'],
  bitmap,
};

suite('arrays left dirty', { skip: available.ok ? false : available.why, timeout: 1_200_000 }, () => {
  let cluster: Cluster;
  const writers: Writers[] = [];
  const records = new Map<string, ArrayRecord>();
  const passed = new Set<string>();

  before(async () => {
    cluster = await Cluster.prepare({
      name: 'dirty',
      diskMib: [40, 40, 24, 24, 24, 24],
      config: PATIENT,
      copy: '{ limit: 4MiB }',
    });
    await startInOrder(cluster);
    for (const array of [mirror, striped]) {
      const { ok, text } = await cluster.request(2, { verb: 'create', access: 'shared', ...array });
      assert.ok(ok, text);
      records.set(array.md, await cluster.open(cluster.nodes, array.md));
    }
  });
  after(async () => {
    await cluster?.close();
  });

  test('all nodes lose their power while they write', async () => {
    for (const { md } of [mirror, striped]) writers.push(await Writers.start(cluster, { name: `${md}-first`, md }));
    for (const writer of writers) await writer.goOn(100);
    await cluster.lab.powerCut();
    for (const index of [0, 1, 2, 3, 4, 5]) assert.equal(mustExamine(cluster, index).clean, false, `disk ${index}`);
    // As a write that was under way leaves it, where no writer comes: far behind, on one leg only.
    for (const index of [1, 3]) {
      const image = openSync(cluster.lab.diskImage(index), 'r+');
      writeSync(image, 'half a write', 20 * 1024 * 1024);
      closeSync(image);
    }
    assert.throws(() => checkLegs(cluster, [0, 1], [], records.get('md0')?.componentSectors ?? 0), /differ at byte/);
  });

  test('the master copies in windows, and the others write on meanwhile', async () => {
    await cluster.lab.bootAll();
    await startInOrder(cluster);
    await Promise.all([mirror, striped].map(({ md }) => copiedUnderWriters(md)));
  });

  /** Looks at one array from before its copy to after it. */
  async function copiedUnderWriters(md: string): Promise<void> {
    const by = await cluster.until(`${md} is being copied, by the word of nodes 2 and 3`, 60_000, async () => {
      const seen = await Promise.all([2, 3].map((node) => cluster.array(node, md)));
      return seen.every((array) => array?.record.resync != null) ? seen[0]?.record.resync?.by : null;
    });
    const node = by === 2 ? 3 : 2;
    const guest = cluster.lab.guest(node);
    const log = `${guest.dir}/${md}-early.acks`;
    const argv = `${cluster.lab.mdio} write --device /dev/${md} --log ${log} --node ${node} --start-block 3000 --blocks 16 --count 40`;
    await cluster.until(
      `${md} is assembled on node ${node}`,
      30_000,
      async () => (await cluster.array(node, md))?.local,
    );
    const early = await guest.spawn(argv.split(' '), { logFile: `${guest.dir}/${md}-early.out` });
    const wrong: string[] = [];
    await cluster.until(`${md} is copied`, 90_000, async () => {
      const acknowledged = acknowledgedIn(log);
      const array = await cluster.array(node, md);
      if (array?.record.resync == null) return true;
      if (acknowledged > 0) passed.add(md);
      // What is not known to be in sync is read from one leg, the same on every node.
      if (acknowledged > 0 && array.local?.resyncStartSector == null) wrong.push(`${md} has no mark on node ${node}`);
      return false;
    });
    assert.deepEqual(wrong, []);
    assert.ok(passed.has(md), `no write of node ${node} passed beside the copy of ${md}`);
    await cluster.open(cluster.nodes, md);
    assert.equal((await early.exited).code, 0, 'every write was acknowledged in the end');
  }

  test('afterwards the legs are equal, nothing acknowledged is missing, and all write on', async () => {
    const logs: string[][] = writers.map((writer) => writer.logs);
    for (const [index, { md }] of [mirror, striped].entries()) {
      const { mdio } = cluster.lab;
      const claims = (logs[index] ?? []).map((log) => `--log ${log}`).join(' ');
      for (const guest of cluster.lab.guests) {
        const { rc, out } = await guest.sh(`${mdio} verify --device /dev/${md} ${claims}`);
        assert.equal(rc, 0, `${md} on node ${guest.node}: ${out}`);
      }
      const more = await Writers.start(cluster, { name: `${md}-again`, md });
      await more.goOn(50);
      await more.stop();
    }
    const sectorsOf = (md: string): number => records.get(md)?.componentSectors ?? 0;
    checkLegs(cluster, [0, 1], logs[0] ?? [], sectorsOf('md0'));
    // Near layout: the copies of a chunk lie on neighbours, at the same offset.
    checkLegs(cluster, [2, 3], [], sectorsOf('md1'));
    checkLegs(cluster, [4, 5], [], sectorsOf('md1'));
  });
});
