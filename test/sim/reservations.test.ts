/** Fencing by the disks alone: whoever falls silent is shut out, nothing of it lands from then on, and it comes back by itself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/arrays/record.ts';
import { nodeOfKey } from '#src/fencing/index.ts';
import {
  assertWhole,
  recordOn,
  startedOn,
  stopAll,
  untilWhole,
  watched,
  watchedPass,
  writersGoOn,
  writing,
} from './afternoon.ts';
import type { Application } from './application.ts';
import { CLUSTER_UUID, type SimCluster } from './cluster.ts';

const seeds = (process.env.MDMESH_SIM_SEEDS ?? '1,2').split(',').map(Number);
const BLOCKS = 80;
const FROZEN_MS = 6000;

function reserved(seed: number) {
  return writing({ seed, legs: 2, fencing: ['reservation'], bitmap: false, everyMs: 10 });
}

function nodesOn(cluster: SimCluster, disk: string): (NodeId | null)[] {
  return cluster.storage
    .readReservations(1, disk)
    .keys.map((key) => nodeOfKey(CLUSTER_UUID, key))
    .sort();
}

/** What a node's application has on a leg. */
function regionOf(cluster: SimCluster, node: NodeId, disk: string): Buffer {
  const [member] = recordOn(cluster, 1).record.members;
  const at = (member?.dataOffsetSectors ?? 0) * 512 + (node - 1) * BLOCKS * 4096;
  return Buffer.from(cluster.storage.peek(disk, at, BLOCKS * 4096));
}

const isOut = (cluster: SimCluster, asked: NodeId, node: NodeId) => () =>
  !recordOn(cluster, asked).record.writers.includes(node);

async function shutOut(cluster: SimCluster, asked: NodeId, node: NodeId): Promise<void> {
  await watched(cluster, `node ${node} is out`, isOut(cluster, asked, node));
  for (const disk of ['sda', 'sdb'])
    assert.ok(!nodesOn(cluster, disk).includes(node), `key of node ${node} on ${disk}`);
  assert.equal(cluster.isUp(node), true, 'nobody switched it off');
}

function told(cluster: SimCluster, node: NodeId): string[] {
  const { entries } = cluster.journal(node).read(0, 100_000);
  return entries.flatMap(({ event: { body } }) => {
    if (body.type === 'commit' && body.kind === 'fail') return ['fail'];
    return body.type === 'notice' ? [`${body.name} ${body.detail.node ?? ''}`] : [];
  });
}

/** Whom the newest election of a node passed over. */
function passedOver(cluster: SimCluster, node: NodeId): unknown {
  const { entries } = cluster.journal(node).read(0, 100_000);
  const bodies = entries.flatMap(({ event: { body } }) => (body.type === 'notice' ? [body] : []));
  return bodies.findLast(({ name, detail }) => name === 'MasterElected' && detail.node === node)?.detail.shutOut;
}

/** All of them write again, the node that was away too. */
async function allGoOn(cluster: SimCluster, applications: readonly Application[]): Promise<void> {
  await untilWhole(cluster, 2);
  await watched(cluster, 'all are writers', () => recordOn(cluster, 1).record.writers.length === 3);
  await watchedPass(cluster, 500);
  await writersGoOn(cluster, applications);
}

for (const seed of seeds) {
  test(`seed ${seed}: cut off the others, not off its disks: it holds, and what it held goes through when it is taken back`, async () => {
    const { cluster, applications } = await reserved(seed);
    for (const disk of ['sda', 'sdb']) assert.deepEqual(nodesOn(cluster, disk), [1, 2, 3]);
    for (const other of [1, 2]) cluster.hub.cut(3, other);
    await shutOut(cluster, 1, 3);
    const stands = regionOf(cluster, 3, 'sda');
    await writersGoOn(cluster, applications.slice(0, 2));
    await watched(cluster, 'it knows', () => cluster.status(3)?.reservations?.shutOut === true);
    assert.match(cluster.status(3)?.arrays[0]?.trouble ?? '', /this node was shut out/);
    assert.deepEqual(regionOf(cluster, 3, 'sda'), stands, 'nothing of it has landed');
    for (const other of [1, 2]) cluster.hub.heal(3, other);
    await allGoOn(cluster, applications);
    await stopAll(applications);
    assertWhole(cluster, applications, 1, 2);
    const heard = told(cluster, 1);
    assert.ok(heard.includes('NodeShutOut 3') && heard.includes('NodeTakenBack 3'), heard.join());
    assert.ok(!heard.includes('fail'), 'no leg was given up');
    cluster.close();
  });

  for (const victim of [3, 1]) {
    test(`seed ${seed}: node ${victim} stands still for ${FROZEN_MS / 1000} s: nothing late of it lands, and no leg is given up for it`, async () => {
      const { cluster, applications } = await reserved(seed);
      const asked = victim === 1 ? 2 : 1;
      const others = applications.filter(({ node }) => node !== victim);
      for (const { node } of others) cluster.hub.cut(victim, node);
      cluster.driver(victim).pause();
      await shutOut(cluster, asked, victim);
      await writersGoOn(cluster, others);
      if (victim === 1) assert.equal(passedOver(cluster, asked), '1', 'elected before the promises to it had ended');
      const stands = regionOf(cluster, victim, 'sda');
      await watchedPass(cluster, FROZEN_MS);
      cluster.driver(victim).resume();
      for (const { node } of others) cluster.hub.heal(victim, node);
      await watchedPass(cluster, 20);
      if (!recordOn(cluster, asked).record.writers.includes(victim))
        assert.deepEqual(regionOf(cluster, victim, 'sda'), stands, 'nothing late has landed');
      await watchedPass(cluster, 5000);
      assert.ok(!told(cluster, asked).includes('fail'), `no leg was given up: ${told(cluster, asked).join(', ')}`);
      // With writes that were refused it stays out until it is booted; else it is back.
      const isBack = recordOn(cluster, asked).record.writers.includes(victim);
      const alive = isBack ? [...applications] : others;
      if (!isBack) {
        cluster.crash(victim);
        await cluster.boot(victim);
        await untilWhole(cluster, 2);
        alive.push(...(await startedOn(cluster, [victim], 1)));
      }
      await writersGoOn(cluster, alive);
      await stopAll(alive);
      await untilWhole(cluster, 2);
      assertWhole(cluster, applications, asked, 2);
      cluster.close();
    });
  }

  test(`seed ${seed}: a disk forgets all keys: they are put back under the writers, and nobody notices`, async () => {
    const { cluster, applications } = await reserved(seed);
    cluster.storage.forgetReservations('sdb');
    await watched(cluster, 'all keys are back', () => nodesOn(cluster, 'sdb').length === 3);
    await watched(cluster, 'and it is reserved', () => !cluster.storage.mayWrite(9, 'sdb'));
    await writersGoOn(cluster, applications);
    await stopAll(applications);
    assertWhole(cluster, applications, 1, 2);
    assert.ok(!told(cluster, 1).includes('fail'));
    cluster.close();
  });
}

test('all agents end, and the disks forget all keys: whoever leads knows of no record, and may put its key back', async () => {
  const { cluster, applications } = await reserved(2);
  for (const node of cluster.nodes) cluster.killAgent(node);
  for (const disk of ['sda', 'sdb']) cluster.storage.forgetReservations(disk);
  for (const node of cluster.nodes) void cluster.startAgent(node);
  await watched(cluster, 'all agents run', () => cluster.nodes.every((node) => cluster.agent(node) !== null));
  await allGoOn(cluster, applications);
  await stopAll(applications);
  assertWhole(cluster, applications, 1, 2);
  cluster.close();
});

test('one that was shut out leads when all others were without power: it knows an older record than the disks', async () => {
  const { cluster, applications } = await reserved(2);
  for (const other of [2, 3]) cluster.hub.cut(1, other);
  await shutOut(cluster, 2, 1);
  for (const application of applications) if (application.node !== 1) application.abandon();
  for (const other of [2, 3]) cluster.crash(other);
  for (const other of [2, 3]) cluster.hub.heal(1, other);
  await cluster.boot(2, 3);
  await untilWhole(cluster, 2);
  await watched(cluster, 'all are writers', () => recordOn(cluster, 1).record.writers.length === 3);
  await writersGoOn(cluster, applications.slice(0, 1));
  await stopAll(applications.slice(0, 1));
  assertWhole(cluster, applications, 1, 2);
  cluster.close();
});

test('a disk that is taken out while a node stands still, shut out, stays reserved until that one knows of it', async () => {
  const { cluster, applications } = await reserved(3);
  for (const other of [1, 2]) cluster.hub.cut(3, other);
  cluster.driver(3).pause();
  await shutOut(cluster, 1, 3);
  for (const verb of ['fail', 'remove'] as const) {
    const { ok, text } = await cluster.request(1, { verb, array: 'md0', device: '/dev/sdb' });
    assert.equal(ok, true, text);
  }
  await watchedPass(cluster, 5000);
  assert.equal(cluster.storage.mayWrite(3, 'sdb'), false, 'whoever uses it next is safe from it');
  cluster.driver(3).resume();
  for (const other of [1, 2]) cluster.hub.heal(3, other);
  await watched(cluster, 'it is let go', () => !cluster.storage.isReserved('sdb'));
  await stopAll(applications);
  assertWhole(cluster, applications, 1, 1);
  cluster.close();
});

test('an agent that starts over a copy which cannot be ended says so; once its node is reset all go on', async () => {
  const { cluster, applications } = await reserved(4);
  const master = await cluster.master();
  const others = applications.filter(({ node }) => node !== master);
  for (const verb of ['fail', 'remove', 'add'] as const) {
    const asked = { array: 'md0', device: '/dev/sdb' };
    const { ok, text } = await cluster.request(
      master,
      verb === 'add' ? { verb, ...asked, force: true } : { verb, ...asked },
    );
    assert.equal(ok, true, text);
  }
  await watched(cluster, 'a copy', () => cluster.driver(master).observe('md0')?.syncAction === 'recover');
  const mend = cluster.storage.fault({ node: master, disk: 'sda', kind: 'slow', delayMs: 120_000 });
  await watchedPass(cluster, 50);
  const lastWords: string[] = [];
  cluster.onAgent = (_, agent) => {
    const { onFatal } = agent;
    agent.onFatal = (why) => {
      lastWords.push(why);
      onFatal?.(why);
    };
  };
  cluster.killAgent(master);
  void cluster.startAgent(master);
  await watched(cluster, 'it says so', () => told(cluster, master).includes(`SuspendStuck ${master}`));
  assert.match(lastWords.join(), /^md0: what an earlier agent has begun .*; this node must be fenced or reset$/);
  mend();
  for (const application of applications) if (application.node === master) application.abandon();
  await watched(cluster, 'it is reset', () => !cluster.isUp(master));
  await watched(cluster, 'it is on again', () => cluster.isUp(master));
  await allGoOn(cluster, others);
  await stopAll(others);
  assertWhole(cluster, applications, 1, 2);
  cluster.close();
});

test('the lowest node lacks its key and may put none back: whoever has theirs lead', async () => {
  const { cluster } = await reserved(1);
  const heal = cluster.storage.fault({ node: 1, disk: 'sda', kind: 'write' });
  cluster.killAgent(1);
  await shutOut(cluster, 2, 1);
  void cluster.startAgent(1);
  await watchedPass(cluster, 8000);
  for (const node of [2, 3]) cluster.killAgent(node);
  for (const node of [2, 3]) void cluster.startAgent(node);
  await watched(cluster, 'a master that stays', () => cluster.masters().some((node) => node !== 1));
  heal();
  cluster.close();
});

test('a way that comes without a key refuses a write before anybody has looked: no leg is given up for it, and its node says what it needs', async () => {
  const { cluster, applications } = await reserved(1);
  cluster.storage.addWay(3, 'sda');
  await watched(cluster, 'it says so', () => /reboot the node/.test(cluster.status(3)?.arrays[0]?.trouble ?? ''));
  await writersGoOn(cluster, applications.slice(0, 2));
  assert.ok(!told(cluster, 1).includes('fail'), told(cluster, 1).join());
  cluster.crash(3);
  await cluster.boot(3);
  await untilWhole(cluster, 2);
  const alive = [...applications.slice(0, 2), ...(await startedOn(cluster, [3], 1))];
  await allGoOn(cluster, alive);
  await stopAll(alive);
  await untilWhole(cluster, 2);
  assertWhole(cluster, applications, 1, 2);
  cluster.close();
});

test('a way that comes while nobody writes is registered before anything takes it', async () => {
  const { cluster, applications } = await reserved(2);
  await stopAll(applications);
  for (const node of cluster.nodes) cluster.storage.addWay(node, 'sda');
  await watchedPass(cluster, 3000);
  const again = await startedOn(cluster, [1, 2, 3], 1);
  await allGoOn(cluster, again);
  for (const node of cluster.nodes) assert.equal(cluster.status(node)?.arrays[0]?.trouble, null);
  assert.ok(!told(cluster, 1).includes('fail'), told(cluster, 1).join());
  await stopAll(again);
  assertWhole(cluster, applications, 1, 2);
  cluster.close();
});
