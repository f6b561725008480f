/**
 * `drop-node` on real kernels: one node loses its path to a leg while all write. It waits, the others go on with both legs, and when
 * the path is back its writes go through. What others wait for is bounded; what the master has lost too is the disk.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, legsOf, proveWhole, requestMirror } from './lasting_writers.ts';
import { dies, granted } from './upsets.ts';
import { commits, notices, PATIENT, startInOrder } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, path loss on real kernels: ${available.why}`);

const DISK_MIB = 48;
const REGION_BLOCKS = 2000;

test('one node loses its path, and waits', {
  skip: available.ok ? false : available.why,
  timeout: 1_200_000,
}, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'path-loss',
    diskMib: [DISK_MIB, DISK_MIB],
    devices: ['/dev/mapper/leg*'],
    arrays: 'path_loss: drop-node',
    config: PATIENT,
  });
  const chapter = chapters(t, cluster);
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  await Promise.all(cluster.nodes.map((node) => wrap(node)));
  await startInOrder(cluster);
  await requestMirror(cluster, { prefix: '/dev/mapper/leg' });
  await cluster.open();

  async function wrap(node: NodeId): Promise<void> {
    for (const letter of 'ab') await cluster.lab.guest(node).wrapDisk(`/dev/ubd${letter}`);
  }

  const count = async (name: string) => (await notices(cluster, 2)).filter((told) => told === name).length;
  /** Once more than before. */
  async function toldAgain(name: string, act: () => Promise<void>): Promise<void> {
    const before = await count(name);
    await act();
    await cluster.until(`${name} in the journal of node 2`, 30_000, async () => (await count(name)) > before);
  }

  for (const what of ['all', 'writes'] as const) {
    await chapter(
      `${what === 'all' ? 'all its I/O' : 'its writes'} to a leg: the others write on with both, then it does too`,
      async () => {
        await writers.start();
        await toldAgain('PathLost', () => cluster.lab.guest(3).failDisk('legb', what));
        await writers.goOn([1, 2]);
        const stands = writers.acknowledged(3);
        await cluster.until('node 3 says so', 30_000, async () => {
          const members = (await cluster.array(3))?.local?.members ?? [];
          return members.some(({ path }) => path === 'lost');
        });
        await writers.goOn([1, 2]);
        assert.ok(writers.acknowledged(3) - stands < 5, 'its writes wait');
        assert.deepEqual(await legsOf(cluster, 1), [0, 1]);
        await toldAgain('PathRestored', () => cluster.lab.guest(3).healDisk('legb'));
        await proveWhole(cluster, writers);
        assert.ok((await commits(cluster, 1)).every(({ kind }) => kind !== 'fail'));
      },
    );
  }

  await chapter('it loses its power with its writes waiting: the legs are made equal', async () => {
    await writers.start();
    await toldAgain('PathLost', () => cluster.lab.guest(3).failDisk('legb'));
    await dies(cluster, writers, 3);
    await cluster.open([1, 2], 'md0', 90_000);
    await cluster.lab.guest(3).boot();
    await wrap(3);
    await cluster.startAgent(3);
    await cluster.open(cluster.nodes, 'md0', 90_000);
    await writers.start([3]);
    await proveWhole(cluster, writers);
  });

  await chapter('a check waits for it, but not for long: then the leg is given up, and all write on', async () => {
    await writers.start();
    await cluster.lab.guest(3).failDisk('legb');
    await cluster.until('it is known', 30_000, async () =>
      ((await cluster.array(1))?.reports ?? []).some(({ node, report }) => node === 3 && report.lost.length > 0),
    );
    await granted(cluster, 2, { verb: 'action', array: 'md0', action: 'check' });
    await cluster.until('one leg left', 30_000, async () => (await legsOf(cluster, 1)).join() === '0');
    await writers.goOn(cluster.nodes);
    for (const { failed, hanging } of (await writers.stop()).values()) assert.deepEqual([failed, hanging], [0, 0]);
    await cluster.lab.guest(3).healDisk('legb');
    await granted(cluster, 1, { verb: 'remove', array: 'md0', device: '/dev/mapper/legb' });
    await granted(cluster, 1, { verb: 'add', array: 'md0', device: '/dev/mapper/legb' });
    await cluster.open(cluster.nodes, 'md0', 90_000);
    await writers.start();
    await proveWhole(cluster, writers);
  });

  await chapter('the master loses it: that is the disk', async () => {
    await writers.start();
    await cluster.lab.guest(await cluster.master()).failDisk('legb');
    await cluster.until('one leg left', 30_000, async () => (await legsOf(cluster, 2)).join() === '0');
    await writers.goOn(cluster.nodes);
    for (const { failed, hanging } of (await writers.stop()).values()) assert.deepEqual([failed, hanging], [0, 0]);
  });
});
