/**
 * A cluster is upgraded node after node while it writes, on real kernels: two builds of this tree side by side, the newer with a protocol more.
 * They work at the older one's level; a third, two protocols ahead, is turned away in words.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { createMirror, LastingWriters, leads, proveWhole } from './lasting_writers.ts';
import { ownBuild } from './own_build.ts';
import { notices, PATIENT } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, upgrades on real kernels: ${available.why}`);

const REGION_BLOCKS = 4000;

/** @param name version, oldest and newest protocol */
const built = (name: string): string => join(ownBuild(name.replaceAll(' ', '-'), name), 'mdmesh');

test('two versions, one cluster', { skip: available.ok ? false : available.why, timeout: 1_200_000 }, async (t) => {
  const [old, next, tooNew] = [built('0.1.0 1 1'), built('0.2.0 1 2'), built('0.9.0 2 3')];
  await using cluster = await Cluster.start({ name: 'upgrade', diskMib: [64, 64], config: PATIENT, program: old });
  const chapter = chapters(t, cluster);
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  await createMirror(cluster);
  await writers.start();

  const levels = async () =>
    Promise.all(cluster.nodes.map(async (node) => (await cluster.status(node)).protocol.level));
  const settled = (wanted: readonly number[]) =>
    cluster.until(`levels ${wanted.join(' ')}`, 60_000, async () => (await levels()).join() === wanted.join());

  async function upgrade(node: NodeId, binary: string): Promise<void> {
    await cluster.stopAgent(node);
    cluster.install(node, binary);
    await cluster.startAgent(node);
    await cluster.until(`the agent of node ${node} answers`, 120_000, () => cluster.status(node));
  }

  await chapter('all run the old version', async () => {
    await settled([1, 1, 1]);
    assert.equal((await cluster.status(2)).version, '0.1.0');
  });

  for (const [node, wanted] of [
    [3, [1, 1, 1]],
    [2, [1, 1, 1]],
    [1, [1, 2, 2]],
  ] as const) {
    await chapter(`node ${node} is upgraded while all write`, async () => {
      await upgrade(node, next);
      if (node !== 1) await settled(wanted);
      await cluster.open();
      await writers.goOn(cluster.nodes);
      const seen = await cluster.status(1);
      assert.equal(seen.nodes.find((each) => each.node === node)?.version, '0.2.0');
      assert.deepEqual(
        seen.nodes.map(({ refused }) => refused),
        [null, null, null],
      );
      if (node !== 1)
        assert.match(
          await cluster.must(1, 'status'),
          new RegExp(`node ${node}.* runs mdmesh 0\\.2\\.0.*upgrade is under way`),
        );
    });
  }

  await chapter('all run the new version, and may say what is new in it', async () => {
    await settled([2, 2, 2]);
    await leads(cluster, 1);
    await writers.goOn(cluster.nodes);
  });

  await chapter('the way back is open as well, one node after the other', async () => {
    await upgrade(3, old);
    await settled([1, 1, 1]);
    await cluster.open();
    await writers.goOn(cluster.nodes);
    await proveWhole(cluster, writers);
  });

  await chapter('a version two protocols ahead is turned away in words, by both, and the others go on', async () => {
    await upgrade(2, old);
    await cluster.open();
    await writers.start([2, 3]);
    await cluster.stopAgent(1);
    await cluster.master([2, 3]);
    cluster.install(1, tooNew);
    await cluster.startAgent(1);
    const words =
      /node 1 runs mdmesh 0\.9\.0 \(protocol 2 to 3\), node 2 runs mdmesh 0\.1\.0 \(protocol 1\).*upgrade node 2/;
    await cluster.until('node 2 says so', 90_000, async () => {
      const seen = await cluster.status(2);
      return words.test(seen.nodes.find(({ node }) => node === 1)?.refused ?? '');
    });
    assert.ok((await notices(cluster, 2)).includes('VersionRefused'));
    assert.match(cluster.agentLog(2), words);
    assert.match(await cluster.must(2, 'status'), /upgrade node 2/);
    await cluster.until('node 1 says so', 90_000, async () => {
      const seen = await cluster.status(1);
      return /node 2 runs mdmesh 0\.1\.0 .*upgrade node 2/.test(
        seen.nodes.find(({ node }) => node === 2)?.refused ?? '',
      );
    });
    assert.equal((await cluster.status(1)).lease.grantLeftMs, 0);
    await writers.goOn([2, 3]);
    await proveWhole(cluster, writers, [2, 3]);
  });
});
