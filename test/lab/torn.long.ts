/**
 * Mirrors whose legs differ, as a node that died in the middle of its writes leaves them: until the resync has passed, every node
 * reads what differs from one and the same leg, so that no two readings tell two stories. Many readers at once make md choose
 * between the legs wherever it may.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { after, before, suite, test } from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { granted } from './upsets.ts';
import { checkLegs, mustExamine, PATIENT, startInOrder, Writers } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, torn mirrors on real kernels: ${available.why}`);

const MIB = 1024 * 1024;
/** Of each leg: what differs. The node that dies writes all over it, so that its bitmap says so. */
const FROM_MIB = 8;
const LENGTH_MIB = 4;
const READERS = 6;
/** Names of digests tell which leg was read. */
type Seen = Map<string, number>;

const arrays = [
  { md: 'md0', level: 'raid1', raidDisks: 2, legs: [0, 1] },
  { md: 'md1', level: 'raid10', raidDisks: 4, legs: [2, 3, 4, 5] },
] as const;
type Mirror = (typeof arrays)[number];

suite('legs that differ', { skip: available.ok ? false : available.why, timeout: 1_200_000 }, () => {
  let cluster: Cluster;
  /** Of what the array holds by the word of its first legs. */
  const right = new Map<string, string>();

  before(async () => {
    cluster = await Cluster.prepare({
      name: 'torn',
      diskMib: [24, 24, 24, 24, 24, 24],
      fencing: () => '{ methods: [manual] }',
      config: PATIENT,
      copy: '{ limit: 512KiB }',
    });
    await startInOrder(cluster);
    for (const { md, level, raidDisks, legs } of arrays) {
      const devices = legs.map((leg) => `/dev/ubd${'abcdef'[leg]}`);
      await granted(cluster, 2, { verb: 'create', md, level, raidDisks, access: 'shared', devices, assumeClean: true });
      await cluster.open(cluster.nodes, md);
    }
  });
  after(async () => {
    await cluster?.close();
  });

  /** The second of each pair of legs holds something else from now on, or `heal`: again what the first one holds. */
  function tear({ legs }: Mirror, heal = false): void {
    for (const leg of legs.filter((_, index) => index % 2 === 1)) {
      const { dataOffsetBytes } = mustExamine(cluster, leg);
      const image = openSync(cluster.lab.diskImage(leg), 'r+');
      const bytes = heal ? partOf(leg - 1, LENGTH_MIB) : Buffer.alloc(LENGTH_MIB * MIB, `leg ${leg} `);
      writeSync(image, bytes, 0, bytes.length, dataOffsetBytes + FROM_MIB * MIB);
      closeSync(image);
    }
  }

  function partOf(leg: number, lengthMib: number): Buffer {
    const { dataOffsetBytes } = mustExamine(cluster, leg);
    const image = openSync(cluster.lab.diskImage(leg), 'r');
    const bytes = Buffer.alloc(lengthMib * MIB);
    readSync(image, bytes, 0, bytes.length, dataOffsetBytes + FROM_MIB * MIB);
    closeSync(image);
    return bytes;
  }

  /** Near layout of four: two pairs take turns, chunk by chunk. */
  function rightFor({ level, legs }: Mirror, chunkBytes: number): string {
    const first = partOf(legs[0], LENGTH_MIB);
    if (level === 'raid1') return createHash('md5').update(first).digest('hex');
    const third = partOf(legs[2], LENGTH_MIB);
    const hash = createHash('md5');
    for (let at = 0; at < LENGTH_MIB * MIB; at += chunkBytes) {
      for (const leg of [first, third]) hash.update(leg.subarray(at, at + chunkBytes));
    }
    return hash.digest('hex');
  }

  const lengthOf = ({ level }: Mirror) => LENGTH_MIB * (level === 'raid1' ? 1 : 2);
  const startOf = ({ level }: Mirror) => FROM_MIB * (level === 'raid1' ? 1 : 2);

  /** Digests of what differs, as so many readers at once see it on a node. */
  async function read(node: NodeId, array: Mirror): Promise<Seen> {
    const dd = `dd if=/dev/${array.md} iflag=direct bs=16k skip=$((${startOf(array)}*64)) count=$((${lengthOf(array)}*64)) 2>/dev/null`;
    const readers = Array.from({ length: READERS }, () => `(${dd} | md5sum) &`).join(' ');
    const { out } = await cluster.lab.guest(node).sh(`${readers} wait`, { timeoutMs: 60_000 });
    const seen: Seen = new Map();
    for (const [digest] of out.matchAll(/[0-9a-f]{32}/g)) seen.set(digest, (seen.get(digest) ?? 0) + 1);
    assert.equal(
      [...seen.values()].reduce((sum, count) => sum + count, 0),
      READERS,
    );
    return seen;
  }

  async function assertOneStory(nodes: readonly NodeId[], when: string): Promise<void> {
    for (const array of arrays) {
      const all = await Promise.all(nodes.map((node) => read(node, array)));
      for (const [index, seen] of all.entries()) {
        assert.deepEqual([...seen.keys()], [right.get(array.md)], `${array.md} on node ${nodes[index]}, ${when}`);
      }
    }
  }

  async function learnRight(array: Mirror): Promise<void> {
    const chunkSectors = (await cluster.array(1, array.md))?.record.chunkSectors ?? 0;
    right.set(array.md, rightFor(array, chunkSectors * 512));
  }

  test('without a word about it md reads from either leg: the readers here would see a difference', async () => {
    for (const array of arrays) {
      tear(array);
      await learnRight(array);
      await cluster.until(`two stories of ${array.md}`, 30_000, async () => {
        const digests = await read(1, array);
        return [...digests.keys()].some((digest) => digest !== right.get(array.md));
      });
      tear(array, true);
    }
  });

  test('a writer dies; nobody vouches yet that it has stopped: all read from one leg', async () => {
    const writers = await Promise.all(
      arrays.map((array) => {
        const [startBlock, blocksANode] = [startOf(array) * 256, lengthOf(array) * 256];
        const name = `dies-${array.md}`;
        return Writers.start(cluster, { name, nodes: [3], md: array.md, startBlock, blocksANode, ratePerSecond: 400 });
      }),
    );
    await Promise.all(writers.map((writer) => writer.goOn(1000)));
    await cluster.lab.guest(3).kill9();
    for (const array of arrays) {
      tear(array);
      await learnRight(array);
    }
    await cluster.until('nodes 1 and 2 take it for dead', 60_000, async () => {
      const seen = await Promise.all([1, 2].map((node) => cluster.status(node)));
      return seen.every(({ nodes }) => nodes.find(({ node }) => node === 3)?.status === 'dead');
    });
    await cluster.until('md knows', 10_000, async () => {
      const all = await Promise.all([1, 2].flatMap((node) => arrays.map(({ md }) => cluster.array(node, md))));
      return all.every((array) => array?.local?.resyncStartSector === 0);
    });
    for (let again = 0; again < 3; again++) await assertOneStory([1, 2], 'before it is confirmed dead');
  });

  test('while the legs are made equal, and after: the same', async () => {
    await granted(cluster, 1, { verb: 'confirm-dead', node: 3 });
    const copied = async (): Promise<boolean> => {
      const all = await Promise.all(arrays.map(({ md }) => cluster.array(2, md)));
      return all.every((array) => array?.record.resync === null && !array.record.writers.includes(3));
    };
    let rounds = 0;
    do {
      await assertOneStory([1, 2], 'during the resync');
      rounds += 1;
    } while (!(await copied()));
    assert.ok(rounds > 1, `the resync was over after ${rounds} reading`);
    await assertOneStory([1, 2], 'after the resync');
    for (const { md } of arrays) await cluster.open([1, 2], md);
    const record = (await cluster.array(1))?.record;
    checkLegs(cluster, [0, 1], [], record?.componentSectors ?? 0);
    for (const pair of [
      [2, 3],
      [4, 5],
    ]) {
      checkLegs(cluster, pair, [], (await cluster.array(1, 'md1'))?.record.componentSectors ?? 0);
    }
    const marks = await Promise.all([1, 2].map((node) => cluster.array(node)));
    assert.deepEqual(
      marks.map((array) => array?.local?.resyncStartSector),
      [null, null],
      'and md chooses between them again',
    );
  });
});
