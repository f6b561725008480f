/**
 * Slots, size and members of a mirror change while all nodes write to it, under virtual time and from a seed. At the end every
 * leg in sync has every acknowledged write, and all legs are one.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/arrays/record.ts';
import { seededRandom, VirtualTime } from '#src/md/simulated_time.ts';
import type { Request } from '#src/wire/messages.ts';
import {
  assertReadersSeeAll,
  assertWhole,
  recordOn,
  startedOn,
  stopAll,
  watched,
  watchedPass,
  writing,
} from './afternoon.ts';
import type { Application } from './application.ts';
import { mirrorOf, SimCluster } from './cluster.ts';

const seeds = (process.env.MDMESH_SIM_SEEDS ?? '1,2').split(',').map(Number);
const MIB = 8;
const SECTORS_PER_MIB = 2048;
const BLOCKS = 250;

async function granted(cluster: SimCluster, node: NodeId, request: Request): Promise<string> {
  const { ok, text } = await cluster.request(node, request);
  assert.equal(ok, true, text);
  return text;
}

async function refused(cluster: SimCluster, node: NodeId, request: Request): Promise<string> {
  const { ok, text } = await cluster.request(node, request);
  assert.equal(ok, false, `not refused: ${text}`);
  return text;
}

const devices = (raidDisks: number, force = false): Request => ({
  verb: 'grow-devices',
  array: 'md0',
  raidDisks,
  force,
});
const size = (sizeKib: number | null, assumeClean = false): Request => ({
  verb: 'grow-size',
  array: 'md0',
  sizeKib,
  assumeClean,
});

/** Record and md on every node: so many slots, all filled and in sync, and writes pass. */
async function untilShape(cluster: SimCluster, raidDisks: number): Promise<void> {
  await watched(cluster, `${raidDisks} legs in sync on every node`, () =>
    cluster.up().every((node) => {
      const array = cluster.status(node)?.arrays[0];
      if (array === undefined) return false;
      const { record, local, trouble } = array;
      const inSync = local?.members.filter((member) => member.slot !== null && member.inSync) ?? [];
      const slots = inSync.map(({ uuid, slot }) => record.members.find((each) => each.uuid === uuid)?.slot === slot);
      const done = record.resync === null && record.raidDisks === raidDisks && local?.raidDisks === raidDisks;
      return done && local.held === false && inSync.length === raidDisks && !slots.includes(false) && trouble === null;
    }),
  );
}

async function writersGoOn(cluster: SimCluster, applications: readonly Application[]): Promise<void> {
  const before = applications.map(({ acknowledged }) => acknowledged);
  await watchedPass(cluster, 1000);
  for (const [index, application] of applications.entries())
    assert.ok(application.acknowledged > (before[index] ?? 0), `node ${application.node} writes no more`);
}

for (const seed of seeds) {
  test(`seed ${seed}: a mirror gets a third leg, and gives one up again, while all nodes write`, async () => {
    const { cluster, applications } = await writing({ seed, legs: 2, spares: 1, mib: MIB, blocks: BLOCKS });
    assert.match(await refused(cluster, 3, devices(4)), /needs 2 spares .* has 1; add disks first .* or use --force/);
    assert.match(await refused(cluster, 3, devices(2)), /has 2 raid devices already/);
    assert.match(await granted(cluster, 3, devices(3)), /md0 has 3 raid devices/);
    await untilShape(cluster, 3);
    await writersGoOn(cluster, applications);
    const tooMany = await refused(cluster, 2, devices(2));
    assert.match(tooMany, /3 members are in use, with 2 raid devices there is room for 2; fail and remove 1 first/);
    await granted(cluster, 2, { verb: 'fail', array: 'md0', device: '/dev/sda' });
    await granted(cluster, 2, { verb: 'remove', array: 'md0', device: '/dev/sda' });
    await granted(cluster, 1, devices(2));
    await untilShape(cluster, 2);
    await writersGoOn(cluster, applications);

    // More slots than members to fill them, and a node that comes back to them.
    await granted(cluster, 1, devices(4, true));
    const victim = 2;
    cluster.crash(victim);
    for (const application of applications) if (application.node === victim) application.abandon();
    await watched(cluster, 'the legs are made equal', () => {
      const { record } = recordOn(cluster, 1);
      return !record.writers.includes(victim) && record.resync === null;
    });
    await granted(cluster, 1, { verb: 'add', array: 'md0', device: '/dev/sda', force: false });
    await watched(cluster, 'a third leg', () => {
      const { record } = recordOn(cluster, 1);
      return record.resync === null && record.members.filter(({ role }) => role === 'active').length === 3;
    });
    await granted(cluster, 3, devices(3));
    await cluster.boot(victim);
    await untilShape(cluster, 3);
    const later = await startedOn(cluster, [victim], 1, BLOCKS);
    const alive = [...applications.filter(({ node }) => node !== victim), ...later];
    await writersGoOn(cluster, alive);
    await stopAll(alive);
    assertWhole(cluster, [...applications, ...later], 1, 3);
    cluster.close();
  });

  test(`seed ${seed}: a member is replaced; the array has two legs in sync at every moment`, async () => {
    const { cluster, applications } = await writing({ seed, legs: 2, spares: 1, mib: MIB, blocks: BLOCKS });
    const replace = (device: string, stand: string | null): Request => ({
      verb: 'replace',
      array: 'md0',
      device,
      with: stand,
    });
    assert.match(await refused(cluster, 3, replace('/dev/sdc', null)), /is spare, not in use/);
    assert.match(await refused(cluster, 3, replace('/dev/sda', '/dev/sdb')), /is no spare; add the disk first/);
    await granted(cluster, 3, replace('/dev/sda', '/dev/sdc'));
    assert.match(await refused(cluster, 1, devices(3)), /recovery is under way/);
    let looks = 0;
    await watched(cluster, 'its end on every node', () => {
      looks += 1;
      // Dear: each reads a whole disk.
      if (looks % 20 === 0) assertReadersSeeAll(cluster, applications, 'sda');
      for (const node of cluster.nodes) {
        const { record } = recordOn(cluster, node);
        assert.ok(record.members.filter(({ role }) => role === 'active').length >= 2, 'redundancy is given up');
      }
      return cluster.nodes.every((node) => recordOn(cluster, node).record.raidDisks === 2);
    });
    await untilShape(cluster, 2);
    const { record, paths } = recordOn(cluster, 1);
    const roles = record.members.map(({ uuid, role, slot }) => [paths[uuid], role, slot]);
    assert.deepEqual(roles, [
      ['/dev/sda', 'faulty', null],
      ['/dev/sdb', 'active', 0],
      ['/dev/sdc', 'active', 1],
    ]);
    assert.ok(record.members.every(({ replaces }) => replaces === undefined));
    await writersGoOn(cluster, applications);
    await stopAll(applications);
    assertWhole(cluster, applications, 1, 2);
    cluster.close();
  });

  test(`seed ${seed}: something happens in the middle of a replacement, whatever it is: it ends, nothing is lost`, async () => {
    const random = seededRandom(seed * 104_729);
    const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
    const befalls = ['old fails', 'new fails', 'other fails', 'master dies', 'other dies', 'power cut'] as const;
    for (const [round, what] of befalls.entries()) {
      const { cluster, applications } = await writing({
        seed: seed * 10 + round,
        legs: 2,
        spares: 1,
        mib: MIB,
        blocks: BLOCKS,
      });
      const master = await cluster.master();
      await granted(cluster, pick(cluster.nodes), { verb: 'replace', array: 'md0', device: '/dev/sda', with: null });
      await watchedPass(cluster, Math.floor(random() * 60));
      const disk = what === 'old fails' ? 'sda' : what === 'new fails' ? 'sdc' : 'sdb';
      const gone: NodeId[] = [];
      if (what.endsWith('fails')) cluster.storage.fault({ node: pick(cluster.nodes), disk, kind: 'all' });
      else if (what === 'power cut') {
        cluster.powerCut();
        gone.push(...cluster.nodes);
      } else {
        const victim = what === 'master dies' ? master : pick(cluster.nodes.filter((node) => node !== master));
        cluster.crash(victim);
        gone.push(victim);
      }
      for (const application of applications) if (gone.includes(application.node)) application.abandon();
      await watchedPass(cluster, 500);
      await cluster.boot(...gone);
      await cluster.master();
      const legs = what === 'other fails' || what === 'new fails' ? null : 2;
      await watched(cluster, 'the replacement is over', () =>
        cluster.nodes.every((node) => {
          const array = cluster.status(node)?.arrays[0];
          if (array === undefined) return false;
          const { record, local } = array;
          const open = local?.held === false && local.raidDisks === 2 && record.raidDisks === 2;
          return open && record.resync === null && record.members.every(({ replaces }) => replaces === undefined);
        }),
      ).catch((error: unknown) => {
        throw new Error(`seed ${seed}: ${what}: ${error instanceof Error ? error.message : error}`);
      });
      if (legs !== null) await untilShape(cluster, legs);
      const alive = applications.filter(({ node }) => !gone.includes(node));
      const later = await startedOn(cluster, gone, 1, BLOCKS);
      await writersGoOn(cluster, [...alive, ...later]);
      await stopAll([...alive, ...later]);
      const { record } = recordOn(cluster, await cluster.master());
      const active = record.members.filter(({ role }) => role === 'active').length;
      assertWhole(cluster, [...applications, ...later], await cluster.master(), active);
      cluster.close();
    }
  });

  test(`seed ${seed}: the disks grow and the mirror with them, while all nodes write`, async () => {
    const bitmap = seed % 2 === 1;
    const { cluster, applications } = await writing({ seed, legs: 2, mib: MIB, blocks: BLOCKS, bitmap });
    assert.match(
      await refused(cluster, 2, size(null)),
      /md0 uses \d+ KiB of each member, and node 1 sees \/dev\/sda with room for \d+ KiB; enlarge the disk/,
    );
    for (const disk of ['sda', 'sdb']) cluster.storage.grow(disk, 2 * MIB * SECTORS_PER_MIB, disk === 'sdb' ? [3] : []);
    const unseen = await refused(cluster, 2, size((2 * MIB - 1) * 1024));
    assert.match(
      unseen,
      /^node 3 sees \/dev\/sdb with room for \d+ KiB, \d+ KiB are needed; .*let that node see its new size/,
    );
    cluster.storage.rescanned(3, 'sdb');
    const { componentSectors: before } = recordOn(cluster, 1).record;
    assert.match(await refused(cluster, 1, size(before / 2 - 2)), /cannot be made smaller/);
    await granted(cluster, 3, size(null));
    for (const node of cluster.nodes) {
      const { local } = recordOn(cluster, node);
      assert.equal(local?.sizeSectors, before + MIB * SECTORS_PER_MIB, `node ${node}`);
      assert.equal(local.bitmap !== null, bitmap);
    }
    const { record } = recordOn(cluster, 1);
    assert.equal(record.resync?.fromSector, before, 'what is new is copied, and only that');
    // 4 KiB blocks of three writers, in the new part.
    const later = await startedOn(cluster, cluster.nodes, Math.ceil(before / 8 / (3 * BLOCKS)), BLOCKS);
    const all = [...applications, ...later];
    const gone = seed % 2 === 0 ? await cluster.master() : null;
    if (gone !== null) {
      cluster.crash(gone);
      for (const application of all) if (application.node === gone) application.abandon();
      await watchedPass(cluster, 500);
      await cluster.boot(gone);
    }
    await untilShape(cluster, 2);
    const alive = all.filter(({ node }) => node !== gone);
    await writersGoOn(cluster, alive);
    await stopAll(alive);
    assertWhole(cluster, all, await cluster.master(), 2);
    cluster.close();
  });
}

test('a node that comes back with a disk of the old size does not write, and does when it sees the new one', async () => {
  const { cluster, applications } = await writing({ seed: 5, legs: 2, mib: MIB, blocks: BLOCKS, bitmap: false });
  cluster.crash(3);
  for (const application of applications) if (application.node === 3) application.abandon();
  await watched(cluster, 'node 3 is no writer', () => {
    const { record } = recordOn(cluster, 1);
    return record.resync === null && !record.writers.includes(3);
  });
  for (const disk of ['sda', 'sdb']) cluster.storage.grow(disk, 2 * MIB * SECTORS_PER_MIB, disk === 'sdb' ? [3] : []);
  await granted(cluster, 1, size(null, true));
  assert.equal(recordOn(cluster, 1).record.resync, null, '--assume-clean');
  await cluster.boot(3);
  await watched(cluster, 'node 3 says why', () =>
    /sdb has \d+ sectors on this node, \d+ are needed/.test(cluster.status(3)?.arrays[0]?.trouble ?? ''),
  );
  assert.ok(!recordOn(cluster, 1).record.writers.includes(3));
  cluster.storage.rescanned(3, 'sdb');
  await watched(cluster, 'node 3 writes', () => recordOn(cluster, 3).record.writers.includes(3));
  await untilShape(cluster, 2);
  const alive = [...applications.filter(({ node }) => node !== 3), ...(await startedOn(cluster, [3], 1, BLOCKS))];
  await writersGoOn(cluster, alive);
  await stopAll(alive);
  cluster.close();
});

test('--allow-missing: a node that does not see the new disk ceases to write when that is used, and comes back by itself', async () => {
  const { cluster, applications } = await writing({ seed: 6, legs: 2, spares: 1, mib: MIB, blocks: BLOCKS });
  await granted(cluster, 1, { verb: 'remove', array: 'md0', device: '/dev/sdc' });
  const blind = 2;
  cluster.storage.hide(blind, 'sdc');
  const add: Request = { verb: 'add', array: 'md0', device: '/dev/sdc', force: false };
  assert.match(
    await refused(cluster, 3, add),
    /^node 2 does not see the disk .*leave the node out with --allow-missing/,
  );
  await granted(cluster, 3, { ...add, allowMissing: true });
  await writersGoOn(cluster, applications);
  assert.deepEqual(recordOn(cluster, 1).record.writers, [1, 2, 3], 'a spare is not written');

  await granted(cluster, 3, { verb: 'fail', array: 'md0', device: '/dev/sda' });
  const others = applications.filter(({ node }) => node !== blind);
  await watched(cluster, 'the spare is in sync on those that see it', () => {
    const { record } = recordOn(cluster, 1);
    if (record.members.some(({ role }) => role === 'rebuilding')) {
      assert.ok(!record.writers.includes(blind), 'its writes would miss the member');
      assert.equal(cluster.driver(blind).observe('md0')?.held, true);
    }
    return record.resync === null && record.members.filter(({ role }) => role === 'active').length === 2;
  });
  assert.deepEqual([recordOn(cluster, 3).record.writers, recordOn(cluster, 3).record.blind], [[1, 3], [2]]);
  assert.match(recordOn(cluster, blind).trouble ?? '', /this node sees no disk with member/);
  await writersGoOn(cluster, others);
  // It is the lowest of those left, but the master writes to all members.
  cluster.crash(1);
  for (const application of applications) if (application.node === 1) application.abandon();
  assert.equal(await cluster.master(), 3);
  await watched(cluster, 'node 3 goes on alone', () => recordOn(cluster, 3).record.writers.join() === '3');
  assert.equal(recordOn(cluster, 3).record.members.filter(({ role }) => role === 'active').length, 2);
  await cluster.boot(1);
  cluster.storage.show(blind, 'sdc');
  await watched(cluster, 'node 2 writes again', () => recordOn(cluster, 3).record.writers.includes(blind));
  assert.equal(recordOn(cluster, 3).record.blind, undefined);
  await cluster.open();
  const alive = applications.filter(({ node }) => node !== 1);
  await writersGoOn(cluster, alive);
  await stopAll(alive);
  assertWhole(cluster, applications, 3, 2);
  cluster.close();
});

test('--allow-missing: an array is created without the node that does not see each disk', async () => {
  const cluster = await SimCluster.start({ time: new VirtualTime(), seed: 7, diskMib: [MIB, MIB] });
  cluster.storage.hide(2, 'sdb');
  const create = mirrorOf(['/dev/sda', '/dev/sdb'], { assumeClean: true });
  assert.match(await refused(cluster, 1, create), /^node 2 does not see the disk .*--allow-missing/);
  await granted(cluster, 1, { ...create, allowMissing: true });
  await watched(cluster, 'nodes 1 and 3 write', () => recordOn(cluster, 1).record.writers.join() === '1,3');
  await watchedPass(cluster, 2000);
  assert.deepEqual(recordOn(cluster, 1).record.blind, [2]);
  assert.equal(cluster.driver(2).observe('md0'), null);
  assert.match(recordOn(cluster, 2).trouble ?? '', /this node sees no disk with member/);
  cluster.storage.show(2, 'sdb');
  await cluster.open();
  cluster.close();
});

test("a disk that was a member is added again, and all lose power in the middle: its old superblock is in nobody's way", async () => {
  const time = new VirtualTime();
  const cluster = await SimCluster.start({ time, diskMib: [MIB, MIB, MIB] });
  const create = { verb: 'create', md: 'md0', level: 'raid1', raidDisks: 2, access: 'shared', spares: 0 } as const;
  await granted(cluster, 1, { ...create, devices: ['/dev/sda', '/dev/sdb'], assumeClean: true, force: false });
  const add: Request = { verb: 'add', array: 'md0', device: '/dev/sdc', force: false };
  await granted(cluster, 1, add);
  await granted(cluster, 1, { verb: 'remove', array: 'md0', device: '/dev/sdc' });
  await watchedPass(cluster, 2000);
  cluster.storage.onWrite = ({ disk, offsetBytes, stage }) => {
    if (disk !== 'sdc' || offsetBytes < 65_536 || stage !== 'lands') return;
    cluster.storage.onWrite = null;
    for (const node of cluster.nodes) cluster.crash(node);
  };
  void cluster.ask(1, add);
  await watched(cluster, 'all are without power', () => cluster.up().length === 0);
  await cluster.boot(...cluster.nodes);
  await watched(cluster, 'the array is open on every node', () =>
    cluster.nodes.every((node) => cluster.status(node)?.arrays[0]?.local?.held === false),
  );
  cluster.close();
});
