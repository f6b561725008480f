/** Paths that one node alone loses, under `drop-node`: who gives way, for how long, and what is whole at the end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/arrays/record.ts';
import { seededRandom } from '#src/md/simulated_time.ts';
import { assertWhole, recordOn, startedOn, stopAll, watched, watchedPass, writing } from './afternoon.ts';
import type { Application } from './application.ts';
import type { SimCluster } from './cluster.ts';

const WAIT_MS = 3000;
const BLOCKS = 250;
const UPSETS = ['it dies', 'master dies', 'it freezes', 'master freezes', 'it is cut off', 'power cut', 'writes only'];
const seeds = (process.env.MDMESH_SIM_SEEDS ?? '1,2').split(',').map(Number);

function dropNode(seed: number) {
  return writing({ seed, legs: 2, mib: 8, blocks: BLOCKS, pathLoss: { policy: 'drop-node', waitMs: WAIT_MS } });
}

/** Names of events that a node's journal holds, each with the node it is about. */
function told(cluster: SimCluster, node: NodeId): string[] {
  const { entries } = cluster.journal(node).read(0, 100_000);
  return entries.flatMap(({ event: { body } }) => {
    if (body.type === 'commit' && body.kind === 'fail') return ['fail'];
    return body.type === 'notice' ? [`${body.name} ${body.detail.node ?? ''}`] : [];
  });
}

function activeLegs(cluster: SimCluster, node: NodeId): number {
  return recordOn(cluster, node).record.members.filter(({ role }) => role === 'active').length;
}

async function goOn(cluster: SimCluster, applications: readonly Application[]): Promise<void> {
  const before = applications.map(({ acknowledged }) => acknowledged);
  await watched(cluster, 'every writer goes on', () =>
    applications.every(({ acknowledged }, index) => acknowledged > (before[index] ?? 0) + 20),
  );
}

const isLost = (cluster: SimCluster, node: NodeId) => () => told(cluster, 1).includes(`PathLost ${node}`);

for (const seed of seeds) {
  test(`seed ${seed}: one node loses its path: it waits, the others write on, and no leg is given up`, async () => {
    const { cluster, applications } = await dropNode(seed);
    const [first, , third] = applications;
    assert.ok(first !== undefined && third !== undefined);
    const heal = cluster.storage.fault({ node: 3, disk: 'sdb', kind: 'all' });
    await watched(cluster, 'PathLost', isLost(cluster, 3));
    const stands = third.acknowledged;
    await goOn(cluster, applications.slice(0, 2));
    await watchedPass(cluster, 4 * WAIT_MS);
    assert.equal(third.acknowledged, stands, 'its writes wait');
    assert.equal(activeLegs(cluster, 1), 2, 'for as long as it takes, for nobody waits for it');
    heal();
    await watched(cluster, 'PathRestored', () => told(cluster, 1).includes('PathRestored 3'));
    await goOn(cluster, applications);
    await stopAll(applications);
    assert.deepEqual(
      told(cluster, 1).filter((name) => /^Path|^fail/.test(name)),
      ['PathLost 3', 'PathRestored 3'],
    );
    assertWhole(cluster, applications, 1, 2);
    cluster.close();
  });

  for (const [who, nodes] of [
    ['the master loses it', [1]],
    ['two of three lose it', [2, 3]],
    ['all lose it', [null]],
  ] as const) {
    test(`seed ${seed}: ${who}: the leg is given up, and all write on`, async () => {
      const { cluster, applications } = await dropNode(seed);
      for (const node of nodes) cluster.storage.fault({ node, disk: 'sdb', kind: 'all' });
      await watched(cluster, 'one leg on all', () => cluster.nodes.every((node) => activeLegs(cluster, node) === 1));
      await goOn(cluster, applications);
      await stopAll(applications);
      assertWhole(cluster, applications, 1, 1);
      cluster.close();
    });
  }

  test(`seed ${seed}: only one node writes, and its writes fail on all: the master's own write tells that it is the disk`, async () => {
    const { cluster, applications } = await dropNode(seed);
    await stopAll(applications.slice(0, 2));
    // Reads work: no node but the third has seen anything wrong.
    cluster.storage.fault({ node: null, disk: 'sdb', kind: 'write' });
    await watched(cluster, 'one leg on all', () => cluster.nodes.every((node) => activeLegs(cluster, node) === 1));
    await goOn(cluster, applications.slice(2));
    await stopAll(applications.slice(2));
    assertWhole(cluster, applications, 1, 1);
    cluster.close();
  });

  test(`seed ${seed}: a copy waits for the node with the lost path, but not for long: then the leg goes`, async () => {
    const { cluster, applications } = await dropNode(seed);
    cluster.storage.fault({ node: 3, disk: 'sdb', kind: 'all' });
    await watched(cluster, 'PathLost', isLost(cluster, 3));
    const startMs = cluster.time.clock();
    const asked = await cluster.request(2, { verb: 'action', array: 'md0', action: 'check' });
    assert.equal(asked.ok, true, asked.text);
    await watched(cluster, 'one leg on all', () => cluster.nodes.every((node) => activeLegs(cluster, node) === 1));
    assert.ok(cluster.time.clock() - startMs >= WAIT_MS, 'the path had its time');
    await goOn(cluster, applications);
    await stopAll(applications);
    for (const { node, pauses } of applications.slice(0, 2)) {
      const longest = Math.max(0, ...pauses.map(({ lengthMs }) => lengthMs));
      assert.ok(longest < WAIT_MS + 2000, `a write of node ${node} took ${longest} ms`);
    }
    assertWhole(cluster, applications, 1, 1);
    cluster.close();
  });

  test(`seed ${seed}: a node loses both legs while a copy waits for it: no leg is given up for it, it is fenced`, async () => {
    const { cluster, applications } = await dropNode(seed);
    // A write that is under way may have reached one of them, and nothing would go to that one any more.
    await watched(cluster, 'between two writes', () => applications[2]?.begunMs === null);
    for (const disk of ['sda', 'sdb']) cluster.storage.fault({ node: 3, disk, kind: 'all' });
    await watched(cluster, 'PathLost', isLost(cluster, 3));
    await watchedPass(cluster, WAIT_MS);
    assert.deepEqual(cluster.fenced, [], 'nobody waits for it yet');
    const asked = await cluster.request(2, { verb: 'action', array: 'md0', action: 'check' });
    assert.equal(asked.ok, true, asked.text);
    await watched(cluster, 'node 3 is out, the legs copied', () => {
      const { record } = recordOn(cluster, 1);
      return !record.writers.includes(3) && record.resync === null;
    });
    applications[2]?.abandon();
    assert.deepEqual(
      cluster.fenced.map(({ node }) => node),
      [3],
    );
    await goOn(cluster, applications.slice(0, 2));
    await stopAll(applications.slice(0, 2));
    assert.ok(!told(cluster, 1).includes('fail'));
    assertWhole(cluster, applications, 1, 2);
    cluster.close();
  });

  test(`seed ${seed}: something happens while a path is lost, whatever it is: nothing is lost, the legs end equal`, async () => {
    const random = seededRandom(seed * 104_729);
    const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
    // A seed has every other of them.
    for (const what of UPSETS.filter((_, index) => (index + seed) % 2 === 0)) {
      const { cluster, applications } = await dropNode(seed * 10 + Math.floor(random() * 10));
      const victim = what.startsWith('master') ? 1 : 3;
      const heal = cluster.storage.fault({
        node: 3,
        disk: pick(['sda', 'sdb']),
        kind: what === 'writes only' ? 'write' : 'all',
      });
      await watchedPass(cluster, Math.floor(random() * 300));
      let gone: NodeId[] = [];
      if (what === 'power cut') {
        cluster.powerCut();
        gone = [...cluster.nodes];
      } else if (what.endsWith('dies')) {
        cluster.crash(victim);
        gone = [victim];
        // A node that is switched on again too soon is switched off once more.
        await watched(cluster, 'it is out', () => !recordOn(cluster, 2).record.writers.includes(victim));
      } else if (what.endsWith('freezes')) {
        cluster.driver(victim).pause();
        await watchedPass(cluster, 1000);
        cluster.driver(victim).resume();
      } else if (what === 'it is cut off') {
        for (const node of [1, 2]) cluster.hub.cut(3, node);
        await watched(cluster, 'it is fenced', () => !cluster.isUp(3));
        gone = [3];
      }
      await watchedPass(cluster, Math.floor(random() * 4000));
      heal();
      const back = cluster.nodes.filter((node) => gone.includes(node) || !cluster.isUp(node));
      for (const application of applications) if (back.includes(application.node)) application.abandon();
      await cluster.boot(...back);
      await cluster.master();
      const legs = await watched(cluster, 'all open, nothing copied', () => {
        const open = cluster.nodes.every((node) => {
          const array = cluster.status(node)?.arrays[0];
          return array?.record.resync === null && array.record.writers.length === 3 && array.local?.held === false;
        });
        return open ? activeLegs(cluster, 1) : null;
      }).catch((error: unknown) => {
        throw new Error(`${what}: ${error instanceof Error ? error.message : error}`);
      });
      const alive = applications.filter(({ node }) => !back.includes(node));
      const later = await startedOn(cluster, back, 1, BLOCKS);
      await goOn(cluster, [...alive, ...later]);
      await stopAll([...alive, ...later]);
      assertWhole(cluster, [...applications.filter(({ acknowledged }) => acknowledged > 0), ...later], 1, legs);
      cluster.close();
    }
  });
}
