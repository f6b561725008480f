/** An agent makes way for its successor on the same node, in simulated clusters that write: what stays open, what is held, what others see. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/arrays/record.ts';
import { assertReadersSeeAll, assertWhole, recordOn, stopAll, watched, watchedPass, writing } from './afternoon.ts';
import type { SimCluster } from './cluster.ts';

/** More of them: MDMESH_SIM_SEEDS=3,4,5 */
const seeds = (process.env.MDMESH_SIM_SEEDS ?? '1,2').split(',').map(Number);

/** Names of notices about a node, in the order in which another one learned of them. */
function told(cluster: SimCluster, by: NodeId, about: NodeId): string[] {
  const { entries } = cluster.journal(by).read(0, 100_000);
  return entries.flatMap(({ event: { body } }) =>
    body.type === 'notice' && body.subject === `node/${about}` ? [body.name] : [],
  );
}

const isHeld = (cluster: SimCluster, node: NodeId): boolean => cluster.driver(node).observe('md0')?.held !== false;

for (const seed of seeds) {
  for (const node of [3, 1]) {
    const who = node === 1 ? 'the master' : 'a node that follows';
    test(`seed ${seed}: ${who} hands over; its writes are never held, and nobody takes it for gone`, async () => {
      const { cluster, applications } = await writing({ seed, legs: 2 });
      assert.equal(await cluster.master(), 1);
      const { writers } = recordOn(cluster, 2).record;
      const before = cluster.agent(node);
      const done = { is: false };
      void cluster.handOver(node, 300).then(() => {
        done.is = true;
      });
      await watched(cluster, 'the successor runs', () => {
        assert.equal(isHeld(cluster, node), false, 'its writes are held');
        assert.deepEqual(recordOn(cluster, 2).record.writers, writers);
        return done.is;
      });
      assert.ok(cluster.agent(node) !== null && cluster.agent(node) !== before);
      assert.equal(await cluster.master(), node === 1 ? 2 : 1);
      const acknowledged = applications.map((application) => application.acknowledged);
      await watched(cluster, 'it has its grant', () => {
        assert.equal(isHeld(cluster, node), false, 'its writes are held');
        return (cluster.status(node)?.lease.grantLeftMs ?? 0) > 0 && recordOn(cluster, node).applied !== null;
      });
      await watchedPass(cluster, 5000);
      for (const [index, application] of applications.entries())
        assert.ok(application.acknowledged > (acknowledged[index] ?? 0), `node ${application.node} writes no more`);
      assert.deepEqual(
        told(cluster, 2, node).filter((name) => name === 'NodeDead' || name === 'NodeLeft'),
        [],
      );
      assert.deepEqual(cluster.fenced, []);
      await stopAll(applications);
      assertWhole(cluster, applications, 2, 2);
      cluster.close();
    });
  }

  test(`seed ${seed}: a successor that comes after the deadline finds the writes held, and lets them go on`, async () => {
    const { cluster, applications } = await writing({ seed, legs: 2, fencing: ['manual'] });
    const done = { is: false };
    let wasHeld = false;
    void cluster.handOver(3, 2500).then(() => {
      done.is = true;
    });
    await watched(cluster, 'the successor runs', () => {
      wasHeld ||= cluster.agent(3) === null && isHeld(cluster, 3);
      return done.is;
    });
    assert.equal(wasHeld, true, 'nobody held its writes at the end of its grant');
    await cluster.open();
    await stopAll(applications);
    assertWhole(cluster, applications, 1, 2);
    cluster.close();
  });

  test(`seed ${seed}: a leg fails elsewhere in between; its commit waits for the successor, and no old leg is read`, async () => {
    const { cluster, applications } = await writing({ seed, legs: 2 });
    void cluster.handOver(3, 400);
    await watched(cluster, 'the agent has made way', () => cluster.agent(3) === null);
    cluster.storage.fault({ node: 2, disk: 'sdb', kind: 'all' });
    await watched(cluster, 'one leg less on every node', () => {
      assertReadersSeeAll(cluster, applications, 'sdb');
      return cluster.nodes.every((node) => {
        const members = cluster.driver(node).observe('md0')?.members ?? [];
        return members.every(({ device, inSync }) => device !== 'sdb' || !inSync);
      });
    });
    await watchedPass(cluster, 1000);
    await stopAll(applications);
    assertWhole(cluster, applications, 1, 1);
    cluster.close();
  });

  test(`seed ${seed}: in the middle of a first copy, the copier hands over; the copy ends, and the legs are one`, async () => {
    const { cluster, applications } = await writing({ seed, legs: 2, mib: 16, whole: false });
    const done = { is: false };
    void cluster
      .handOver(1, 300)
      .then(() => cluster.handOver(3, 300))
      .then(() => {
        done.is = true;
      });
    await watched(cluster, 'both have handed over', () => done.is);
    await cluster.open();
    await stopAll(applications);
    assertWhole(cluster, applications, 2, 2);
    cluster.close();
  });
}

test('a successor that is cut off before it has a grant holds its writes when the one that it took over ends', async () => {
  const { cluster, applications } = await writing({ seed: 3, legs: 2, fencing: ['manual'] });
  const done = { is: false };
  void cluster.handOver(3, 300).then(() => {
    done.is = true;
  });
  await watched(cluster, 'the agent has made way', () => cluster.agent(3) === null);
  const { grantUntilMs } = cluster.driver(3).guard.state();
  for (const other of [1, 2]) cluster.hub.cut(3, other);
  await watched(cluster, 'the successor runs', () => done.is);
  assert.equal(isHeld(cluster, 3), false, 'held although the grant lives');
  await watched(cluster, 'the grant is over', () => cluster.driver(3).now() > grantUntilMs + 100);
  assert.equal(isHeld(cluster, 3), true, 'it writes without a grant');
  for (const other of [1, 2]) cluster.hub.heal(3, other);
  await cluster.open();
  await stopAll(applications);
  assertWhole(cluster, applications, 1, 2);
  cluster.close();
});

test('an agent that cannot make way goes on as before', async () => {
  const { cluster, applications } = await writing({ seed: 5, legs: 2 });
  const driver = cluster.driver(3);
  const { hold } = driver;
  driver.hold = () => new Promise(() => undefined);
  cluster.storage.fault({ node: 2, disk: 'sdb', kind: 'all' });
  await watched(cluster, 'a hold is under way that does not end', () =>
    recordOn(cluster, 1).record.members.some(({ role }) => role === 'faulty'),
  );
  const agent = cluster.agent(3);
  assert.ok(agent !== null);
  await assert.rejects(cluster.driven('the answer', agent.makeWay()), /md0: hold is under way and does not end/);
  driver.hold = hold;
  assert.equal(cluster.agent(3), agent);
  assert.ok((cluster.status(3)?.lease.grantLeftMs ?? 0) > 0, 'it is no agent any more');
  for (const application of applications) application.abandon();
  cluster.close();
});

test('what is asked while the lead goes to another node is done by that one, or it is said that nobody knows', async () => {
  const { cluster, applications } = await writing({ seed: 6, legs: 2, everyMs: 50 });
  const refusals: string[] = [];
  const granted = { 2: 0, 3: 0 };
  const ends = { is: false };
  const operators = ([2, 3] as const).map(async (node) => {
    for (let limitKib = 1000; !ends.is; limitKib += 1) {
      const { ok, text } = await cluster.request(node, { verb: 'sync-limit', array: 'md0', limitKib });
      if (ok) granted[node] += 1;
      else refusals.push(text);
    }
  });
  await cluster.driven('node 1 makes way', cluster.handOver(1, 300));
  await watched(cluster, 'another leads', () => cluster.masters().length === 1);
  const before = { ...granted };
  await watchedPass(cluster, 1000);
  ends.is = true;
  await cluster.driven('they end', Promise.all(operators));
  for (const node of [2, 3] as const) assert.ok(granted[node] > before[node], 'nothing is granted any more');
  // A commit was under way: what is known of it stands in the status.
  for (const text of refusals) assert.match(text, /in the middle of it|the master changed meanwhile/);
  await stopAll(applications);
  cluster.close();
});
