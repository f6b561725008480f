/** A cluster's afternoon, under virtual time and from a seed: agents, gossip and lease are the real ones, md is simulated. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/arrays/record.ts';
import { VirtualTime } from '#src/md/simulated_time.ts';
import { Application } from './application.ts';
import { SimCluster } from './cluster.ts';

const BLOCKS = 80;

/** A started cluster with a mirror over all disks, and an application on every node. */
async function writing(seed: number, legs: number): Promise<{ cluster: SimCluster; applications: Application[] }> {
  const cluster = await SimCluster.start({ time: new VirtualTime(), seed, diskMib: Array(legs).fill(4) });
  const devices = cluster.storage.names().map((name) => `/dev/${name}`);
  const created = await cluster.request(2, {
    verb: 'create',
    md: 'md0',
    level: 'raid1',
    raidDisks: legs,
    access: 'shared',
    devices,
    spares: 0,
    assumeClean: false,
    force: false,
  });
  assert.equal(created.ok, true, created.text);
  await cluster.open();
  return { cluster, applications: await startedOn(cluster, cluster.nodes) };
}

async function startedOn(cluster: SimCluster, nodes: readonly NodeId[], region = 0): Promise<Application[]> {
  const applications = nodes.map(
    (node) =>
      new Application(cluster, { node, firstBlock: (region * 3 + node - 1) * BLOCKS, blocks: BLOCKS, everyMs: 1 }),
  );
  for (const application of applications) application.start();
  await watchedPass(cluster, 500);
  return applications;
}

/** As time passes, at no instant two nodes hold a live lease. */
async function watched<T>(cluster: SimCluster, what: string, look: () => T | null | false): Promise<T> {
  return cluster.until(what, () => {
    const masters = cluster.masters();
    assert.ok(masters.length <= 1, `masters ${masters.join(' and ')} at once`);
    return look();
  });
}

async function watchedPass(cluster: SimCluster, ms: number): Promise<void> {
  const endMs = cluster.time.clock() + ms;
  await watched(cluster, 'time', () => cluster.time.clock() >= endMs);
}

function recordOn(cluster: SimCluster, node: NodeId) {
  const array = cluster.status(node)?.arrays[0];
  assert.ok(array !== undefined, `node ${node} knows no array`);
  return array;
}

/** Every leg in sync has every acknowledged write, and all of them are one to the last byte. */
function assertWhole(cluster: SimCluster, applications: readonly Application[], node: NodeId, legs: number): void {
  const { record, paths } = recordOn(cluster, node);
  const inSync = record.members.filter((member) => member.role === 'active');
  assert.equal(inSync.length, legs);
  assert.equal(record.resync, null);
  const areas = inSync.map((member) => {
    const disk = cluster.storage.at(node, paths[member.uuid] ?? '');
    for (const application of applications) {
      assert.ok(application.acknowledged > 0, `node ${application.node} never wrote`);
      const { sectors, example } = application.lost(disk, member.dataOffsetSectors * 512);
      assert.equal(sectors, 0, `${sectors} sectors lost: ${example}`);
    }
    return Buffer.from(cluster.storage.peek(disk, member.dataOffsetSectors * 512, record.componentSectors * 512));
  });
  for (const area of areas.slice(1)) assert.equal(areas[0]?.compare(area), 0, 'legs differ');
}

/** While any node would still read from the disk, it must hold everything that any node was told is written. */
function assertReadersSeeAll(cluster: SimCluster, applications: readonly Application[], disk: string): void {
  const readers = cluster.nodes.filter((node) =>
    cluster
      .driver(node)
      .observe('md0')
      ?.members.some(({ device, inSync }) => device === disk && inSync),
  );
  if (readers.length === 0) return;
  const [member] = recordOn(cluster, 1).record.members;
  for (const application of applications) {
    const { sectors, example } = application.lost(disk, (member?.dataOffsetSectors ?? 0) * 512);
    assert.equal(sectors, 0, `nodes ${readers.join(', ')} could read a stale block: ${example}`);
  }
}

async function stopAll(applications: readonly Application[]): Promise<void> {
  for (const application of applications) await application.stop();
  for (const { node, trouble } of applications) assert.equal(trouble, null, `a write failed on node ${node}`);
}

/** More of them: MDMESH_SIM_SEEDS=3,4,5 */
const seeds = (process.env.MDMESH_SIM_SEEDS ?? '1,2').split(',').map(Number);

for (const seed of seeds) {
  test(`seed ${seed}: a leg fails on one node; all nodes drop it before a write is acknowledged without it`, async () => {
    const { cluster, applications } = await writing(seed, 2);
    cluster.storage.fault({ node: 3, disk: 'sdb', kind: 'all' });
    await watched(cluster, 'one leg less on every node', () => {
      assertReadersSeeAll(cluster, applications, 'sdb');
      return cluster.nodes.every((node) => {
        const { record, local } = recordOn(cluster, node);
        const dropped = local?.members.every(({ device, inSync }) => device !== 'sdb' || !inSync) ?? false;
        return dropped && record.members.some(({ role }) => role === 'faulty');
      });
    });
    const before = applications.map(({ acknowledged }) => acknowledged);
    await watchedPass(cluster, 1000);
    for (const [index, application] of applications.entries()) {
      assert.ok(application.acknowledged > (before[index] ?? 0), `node ${application.node} writes no more`);
    }
    await stopAll(applications);
    assertWhole(cluster, applications, 1, 1);
    cluster.close();
  });

  for (const [what, befall] of [
    ['dies', (cluster: SimCluster) => cluster.crash(1)],
    [
      'is cut off from the others',
      (cluster: SimCluster) => {
        cluster.hub.cut(1, 2);
        cluster.hub.cut(1, 3);
      },
    ],
  ] as const) {
    test(`seed ${seed}: the master ${what} under load; the next one fences it, copies the legs, and the others write on`, async () => {
      const { cluster, applications } = await writing(seed, 2);
      const [first, ...survivors] = applications;
      assert.equal(await cluster.master(), 1);
      befall(cluster);
      await watched(cluster, 'node 2 is master', () => cluster.masters().includes(2));
      await watched(cluster, 'node 1 is out and the legs are copied', () => {
        const { record, local } = recordOn(cluster, 2);
        // Evicted means that its writes do not count any more: before that it must have no way to make any.
        if (!record.writers.includes(1)) assert.equal(cluster.isUp(1), false, 'node 1 is evicted and runs');
        return !record.writers.includes(1) && record.resync === null && local?.held === false;
      });
      first?.abandon();
      assert.deepEqual(
        cluster.fenced.map(({ by, node }) => [by, node]),
        [[2, 1]],
      );
      const before = survivors.map(({ acknowledged }) => acknowledged);
      await watchedPass(cluster, 1000);
      for (const [index, application] of survivors.entries()) {
        assert.ok(application.acknowledged > (before[index] ?? 0), `node ${application.node} writes no more`);
      }
      await stopAll(survivors);
      assertWhole(cluster, applications, 2, 2);
      cluster.close();
    });
  }

  test(`seed ${seed}: all machines lose power in one instant; nothing acknowledged is lost, and the legs become one again`, async () => {
    const { cluster, applications } = await writing(seed, 2);
    cluster.powerCut();
    for (const application of applications) application.abandon();
    await cluster.pass(300);
    await cluster.boot(...cluster.nodes);
    await watched(cluster, 'a master again', () => cluster.masters().length === 1);
    await cluster.open();
    const later = await startedOn(cluster, cluster.nodes, 1);
    await stopAll(later);
    assertWhole(cluster, [...applications, ...later], 1, 2);
    cluster.close();
  });
}

test('one seed, one run: twice the same story ends in the same journal', async () => {
  const heads: string[] = [];
  for (let run = 0; run < 2; run++) {
    const { cluster, applications } = await writing(7, 2);
    await stopAll(applications);
    const { entries } = cluster.journal(2).read(0, 1000);
    heads.push(entries.map(({ hash }) => hash).join());
    cluster.close();
  }
  assert.equal(heads[0], heads[1]);
});
