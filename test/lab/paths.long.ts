/**
 * The path from one node to one leg breaks under many writes in flight, some of which fail long after the first has. md alone
 * would tell those as done as soon as the leg is faulty on that node, while another node still reads it. So all other nodes
 * read that leg alone, as long as they believe in it, and one of them is far away and learns late.
 */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { ArrayRecord, NodeId } from '../../src/arrays/record.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { mdMembers } from './md_members.ts';
import { checkLegs, commits, mustExamine, PATIENT, startInOrder, Writers } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, lost paths on real kernels: ${available.why}`);

const DISK_MIB = 40;
const DISK_SECTORS = DISK_MIB * 2048;
const DEPTH = 16;
/** Written over and over: a reader soon meets each block that the lost leg missed. */
const HOT_BLOCKS = 64;
/** In 125 chunks of a bitmap: a write soon meets one that is not marked yet, and is queued behind the write of its bit. */
const SPREAD_BLOCKS = 2000;

suite('a path to a leg is lost under a queue of writes', {
  skip: available.ok ? false : available.why,
  timeout: 1_200_000,
}, () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.prepare({
      name: 'paths',
      diskMib: Array.from({ length: 9 }, () => DISK_MIB),
      devices: ['/dev/mapper/leg*'],
      config: PATIENT,
    });
    await Promise.all(
      cluster.lab.guests.map(async (guest) => {
        for (const letter of 'abcdefgh') await guest.wrapDisk(`/dev/ubd${letter}`);
        await guest.wrapDisk('/dev/ubdi', 'broken');
        await guest.failDisk('broken');
      }),
    );
    await startInOrder(cluster);
  });
  after(async () => {
    await cluster?.close();
  });

  async function mirror(md: string, legs: string): Promise<ArrayRecord> {
    const devices = [...legs].map((letter) => `/dev/mapper/leg${letter}`);
    const words = `create ${md} --level 1 --raid-devices ${devices.length} --bitmap internal --force ${devices.join(' ')}`;
    const { rc, err } = await cluster.mdmesh(1, words);
    // Three kernels with their first array on two busy cores may lose a lease; the array comes all the same.
    if (rc !== 0) assert.match(err, /the master changed meanwhile/);
    return cluster.open(cluster.nodes, md);
  }

  /** Each node reads from this slot alone as long as its md believes in it. */
  async function steerReads(md: string, slot: number): Promise<void> {
    for (const guest of cluster.lab.guests) {
      for (const { name } of (await mdMembers(guest, md)).values()) {
        const state = `/sys/block/${md}/md/dev-${name}`;
        const word = (await guest.readFile(`${state}/slot`)).trim() === String(slot) ? '-writemostly' : 'writemostly';
        await guest.writeFile(`${state}/state`, word);
      }
    }
  }

  /** Writes to the first half of the hot blocks fail at once, to the other half 300 ms later. */
  async function breakPath(node: NodeId, leg: string, dataOffsetBytes: number): Promise<void> {
    const near = dataOffsetBytes / 512 + (HOT_BLOCKS / 2) * 8;
    const table = `0 ${near} error\n${near} ${DISK_SECTORS - near} delay /dev/mapper/broken 0 300`;
    await cluster.lab.guest(node).tableDisk(leg, table);
  }

  for (const { breaking, md, legs, blocks, unmarked } of [
    { breaking: 2, md: 'md0', legs: 'ab', blocks: HOT_BLOCKS, unmarked: false },
    { breaking: 1, md: 'md1', legs: 'cd', blocks: HOT_BLOCKS, unmarked: false },
    { breaking: 2, md: 'md2', legs: 'ef', blocks: SPREAD_BLOCKS, unmarked: true },
    { breaking: 1, md: 'md3', legs: 'gh', blocks: SPREAD_BLOCKS, unmarked: true },
  ]) {
    const where = unmarked ? ' while most of its writes wait for their marks' : '';
    test(`on node ${breaking}${where}: no write fails, and none that was acknowledged is read stale`, async () => {
      const record = await mirror(md, legs);
      await steerReads(md, 1);
      const readers = cluster.nodes.filter((node) => node !== breaking);
      const writers = await Writers.start(cluster, {
        name: `depth${breaking}${unmarked}`,
        nodes: [breaking],
        md,
        blocksANode: blocks,
        ratePerSecond: 800,
        depth: DEPTH,
        readers,
      });
      assert.notEqual((await cluster.array(breaking, md))?.local?.bitmap ?? null, null, 'with a bitmap');
      if (!unmarked) await writers.goOn(200);
      const lost = 'abcdefgh'.indexOf(legs[1] ?? '');
      const { dataOffsetBytes } = mustExamine(cluster, lost);
      await cluster.lab.netem(3, 'delay 150ms');
      await breakPath(breaking, `leg${legs[1]}`, dataOffsetBytes);
      await cluster.until('the failure is in the record of every node', 30_000, async () => {
        const arrays = await Promise.all(cluster.nodes.map((node) => cluster.array(node, md)));
        return arrays.every((array) => array?.record.members.find(({ slot }) => slot === 1)?.role === 'faulty');
      });
      await writers.goOn(200);
      await cluster.lab.netem(3, '');
      await writers.stop();
      checkLegs(cluster, [lost - 1], writers.logs, record.componentSectors);
      const failures = (await commits(cluster, 1, md)).filter(({ kind }) => kind === 'fail');
      assert.equal(failures.length, 1);
      const local = (await cluster.array(breaking, md))?.local;
      assert.deepEqual(
        local?.members.filter(({ faulty }) => faulty).map(({ path }) => path),
        ['failing'],
      );
      await cluster.must(1, `stop ${md}`);
      for (const guest of cluster.lab.guests) {
        assert.doesNotMatch(
          await guest.must('cat /sys/block/dm-*/dm/uuid'),
          /MDMESH/,
          `layers left on node ${guest.node}`,
        );
      }
    });
  }
});
