/**
 * Resync, recovery and check with all nodes writing, under virtual time and from a seed. Whenever md is let go on with a
 * copy, what it may copy must be held by every other node that has the array: that is looked at in each such instant.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/arrays/record.ts';
import { seededRandom } from '#src/md/simulated_time.ts';
import {
  assertReadersSeeAll,
  assertWhole,
  recordOn,
  startedOn,
  stopAll,
  untilWhole,
  watchCopies,
  watched,
  watchedPass,
  whole,
  writersGoOn,
  writing,
} from './afternoon.ts';

/** Spread over the whole array: a window catches writers wherever it is. */
const MIB = 16;
const BLOCKS = 600;
const seeds = (process.env.MDMESH_SIM_SEEDS ?? '1,2').split(',').map(Number);

for (const seed of seeds) {
  test(`seed ${seed}: a new mirror is made equal while all nodes write to it`, async () => {
    const { cluster, applications } = await writing({ seed, legs: 2, mib: MIB, blocks: BLOCKS, whole: false });
    const acknowledged = applications.map((application) => application.acknowledged);
    assert.ok(
      acknowledged.every((count) => count > 0),
      'writers wait for the whole copy',
    );
    await untilWhole(cluster, 2);
    await writersGoOn(cluster, applications);
    await stopAll(applications);
    assertWhole(cluster, applications, 1, 2);
    cluster.close();
  });

  test(`seed ${seed}: a leg fails; the spare takes over by itself and is filled while all nodes write`, async () => {
    const { cluster, applications } = await writing({ seed, legs: 2, spares: 1, mib: MIB, blocks: BLOCKS });
    const watch = watchCopies(cluster);
    cluster.storage.fault({ node: 3, disk: 'sdb', kind: 'all' });
    await watched(cluster, 'the spare is being rebuilt', () => {
      assertReadersSeeAll(cluster, applications, 'sdb');
      return recordOn(cluster, 1).record.members.some(({ role }) => role === 'rebuilding');
    });
    const master = await cluster.master();
    await watched(cluster, 'the spare is active everywhere', () => {
      for (const node of cluster.nodes) {
        const { record, local } = recordOn(cluster, node);
        const reads = local?.members.some(({ device, inSync }) => device === 'sdc' && inSync) ?? false;
        // On the copier md calls it in sync at the end of the copy; elsewhere only the commit does.
        if (reads && node !== master) {
          assert.ok(
            record.members.every(({ role }) => role !== 'rebuilding'),
            `node ${node} reads what is being filled`,
          );
        }
      }
      return cluster.nodes.every((node) => whole(cluster, node, 2));
    });
    assert.ok(watch.steps > 5, 'in windows');
    assert.deepEqual([...new Set(watch.copiers.map(({ node }) => node))], [master], 'one node copies');
    await writersGoOn(cluster, applications);
    await stopAll(applications);
    assertWhole(cluster, applications, 1, 2);
    cluster.close();
  });

  test(`seed ${seed}: something happens in the middle of a recovery, whatever it is: the legs end equal, nothing is lost`, async () => {
    const random = seededRandom(seed * 7919);
    const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
    for (let round = 0; round < 4; round += 1) {
      const { cluster, applications } = await writing({
        seed: seed * 10 + round,
        legs: 2,
        spares: 1,
        mib: MIB,
        blocks: BLOCKS,
      });
      watchCopies(cluster);
      const master = await cluster.master();
      const failed = await cluster.request(pick(cluster.nodes), { verb: 'fail', array: 'md0', device: '/dev/sdb' });
      assert.equal(failed.ok, true, failed.text);
      await watched(cluster, 'a recovery', () => recordOn(cluster, master).record.resync?.kind === 'recovery');
      await watchedPass(cluster, Math.floor(random() * 60));
      const what = pick([
        'master dies',
        'other dies',
        'master frozen',
        'other frozen',
        'other cut',
        'power cut',
      ] as const);
      const other = pick(cluster.nodes.filter((node) => node !== master));
      const [victim, how] = what.startsWith('master') ? [master, what.slice(7)] : [other, what.slice(6)];
      const gone: NodeId[] = [];
      if (what === 'power cut') {
        cluster.powerCut();
        gone.push(...cluster.nodes);
      } else if (how === 'dies') {
        cluster.crash(victim);
        gone.push(victim);
      } else if (how === 'frozen') {
        cluster.driver(victim).pause();
        await watchedPass(cluster, 300);
        cluster.driver(victim).resume();
      } else {
        for (const node of cluster.nodes) if (node !== victim) cluster.hub.cut(victim, node);
        await watched(cluster, `node ${victim} is fenced`, () => !cluster.isUp(victim));
        gone.push(victim);
      }
      for (const application of applications) if (gone.includes(application.node)) application.abandon();
      await watchedPass(cluster, 500);
      const back = cluster.nodes.filter((node) => !cluster.isUp(node));
      for (const application of applications) if (back.includes(application.node)) application.abandon();
      await cluster.boot(...back);
      await cluster.master();
      await untilWhole(cluster, 2).catch((error: unknown) => {
        throw new Error(
          `seed ${seed}, round ${round}: ${what} (node ${victim}): ${error instanceof Error ? error.message : error}`,
        );
      });
      const alive = applications.filter(({ node }) => !back.includes(node));
      const later = await startedOn(cluster, back, 1, BLOCKS).then(async (started) => {
        await writersGoOn(cluster, [...alive, ...started]);
        return started;
      });
      await stopAll([...alive, ...later]);
      assertWhole(cluster, [...applications, ...later], await cluster.master(), 2);
      cluster.close();
    }
  });
}

test('a check finds what differs and a repair mends it; halted, a copy stands still and holds nobody', async () => {
  const { cluster, applications } = await writing({ seed: 3, legs: 2, mib: MIB, blocks: BLOCKS });
  await stopAll(applications);
  const { record } = recordOn(cluster, 1);
  const [leg] = record.members;
  const at = ((leg?.dataOffsetSectors ?? 0) + 20_000) * 512;
  const bytes = cluster.storage.peek('sdb', at, 4096);
  cluster.storage.poke(
    'sdb',
    at,
    bytes.map((byte) => byte ^ 0xff),
  );
  const ask = async (action: 'check' | 'repair' | 'frozen' | 'idle'): Promise<void> => {
    const { ok, text } = await cluster.request(3, { verb: 'action', array: 'md0', action });
    assert.equal(ok, true, text);
  };
  const over = () =>
    cluster.until('its end', () => cluster.nodes.every((node) => recordOn(cluster, node).record.resync === null));
  await ask('check');
  await over();
  // Also by the word of a node whose agent has heard nothing of it from the copier.
  cluster.killAgent(2);
  await cluster.driven('its agent is started', cluster.startAgent(2));
  await cluster.until('its agent is back', () => cluster.status(2)?.arrays[0]?.local != null);
  for (const node of cluster.nodes) assert.ok((recordOn(cluster, node).mismatchSectors ?? 0) >= 8, `node ${node}`);
  await ask('repair');
  await ask('frozen');
  const writers = await startedOn(cluster, cluster.nodes, 0, BLOCKS);
  await cluster.until('nothing is held', () =>
    cluster.nodes.every((node) => cluster.driver(node).observe('md0')?.suspended === null),
  );
  const halted = recordOn(cluster, 1).record.resync;
  assert.equal(halted?.halted, true);
  await writersGoOn(cluster, writers);
  assert.equal(recordOn(cluster, 1).record.resync?.fromSector, halted?.fromSector);
  await stopAll(writers);
  // `idle` ends a repair, as mdadm's does; asked for anew it runs to its end.
  await ask('idle');
  await ask('repair');
  await over();
  await ask('check');
  await over();
  assert.equal(recordOn(cluster, 2).mismatchSectors, 0);
  assertWhole(cluster, writers, 1, 2);
  cluster.close();
});
