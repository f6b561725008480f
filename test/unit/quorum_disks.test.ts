/** Which disks a node reads and writes as quorum disks, and which it leaves alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskView } from '#src/agent/disk_view.ts';
import { QuorumDisks } from '#src/agent/quorum_disks.ts';
import type { ArrayRecord } from '#src/arrays/record.ts';
import type { DiskBlock } from '#src/lease/index.ts';
import { writesFor } from '#src/md/metadata.ts';
import { simulatedDriver } from '#src/md/simulated.ts';
import { SimulatedStorage } from '#src/md/simulated_storage.ts';
import { VirtualTime } from '#src/md/simulated_time.ts';
import { mirror } from './arrays_fixture.ts';

const CLUSTER = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001';
const WITNESS = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9002';

/** A node that sees a mirror on sda and sdb, and a blank sdc. */
async function scene(witness: string | null) {
  const time = new VirtualTime();
  const storage = new SimulatedStorage();
  for (const name of ['sda', 'sdb', 'sdc']) storage.addDisk(name, 8 * 2048);
  const driver = simulatedDriver({ storage, node: 2, clock: time.clock, schedule: time.schedule, random: () => 0.5 });
  async function done<T>(promise: Promise<T>): Promise<T> {
    const state = { settled: false };
    const noted = promise.finally(() => {
      state.settled = true;
    });
    noted.catch(() => undefined);
    while (!state.settled) if (!(await time.step(time.clock() + 100))) await time.pass(1);
    return noted;
  }
  const record = mirror();
  const devices = new Map(record.members.map(({ uuid }, index) => [uuid, ['/dev/sda', '/dev/sdb'][index] ?? '']));
  driver.guard.extendLease(driver.now() + 60_000);
  const writes = writesFor({
    record,
    clusterUuid: CLUSTER,
    clusterName: 'demo',
    devices,
    meshSequence: 1,
    fresh: new Set(devices.keys()),
  });
  for (const { error } of await done(driver.writeMetadata(writes))) assert.equal(error, null);
  const disks = new DiskView(driver, CLUSTER);
  await done(disks.refresh());
  const records: ArrayRecord[] = [record];
  const ended = new Set<string>();
  const quorum = new QuorumDisks({
    driver,
    disks,
    cluster: CLUSTER,
    nodes: () => [1, 2],
    witness,
    records: () => records,
    hasEnded: (array) => ended.has(array),
  });
  return { driver, storage, quorum, record, records, ended, done };
}

function block(node: number, disks: string[]): DiskBlock {
  const set = { version: { term: 1, index: 0 }, disks, former: null };
  return { node, boot: CLUSTER, term: node, phase: 'holding', sequence: 7, set };
}

test('each node has its own block on every member; the rest of the disk stays as it is', async () => {
  const { driver, storage, quorum, record, done } = await scene(null);
  const names = record.members.map(({ uuid }) => uuid).sort();
  assert.deepEqual(quorum.wanted(), names);
  driver.guard.endLease();
  const [name = ''] = names;
  const before = Buffer.from(storage.peek('sda', 0, 8 * 1024 * 1024));
  await done(quorum.write(name, block(2, names)));
  assert.deepEqual(await done(quorum.read(name)), new Map([[2, block(2, names)]]));
  const after = Buffer.from(storage.peek('sda', 0, 8 * 1024 * 1024));
  const changed = Array.from({ length: after.length / 4096 }, (_, index) => index * 4096).filter(
    (at) => before.compare(after, at, at + 4096, at, at + 4096) !== 0,
  );
  assert.equal(changed.length, 1, 'one block');
});

test('the disks of an array that nobody has told of yet count beside those of another one, until it has ended', async () => {
  const { quorum, record, records, ended, done } = await scene(null);
  const names = record.members.map(({ uuid }) => uuid).sort();
  const other = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9003';
  records.splice(0, 1, { ...record, uuid: other, members: [] });
  assert.deepEqual(quorum.wanted(), names);
  const [name = ''] = names;
  await done(quorum.write(name, block(2, names)));
  assert.deepEqual(await done(quorum.read(name)), new Map([[2, block(2, names)]]));
  ended.add(record.uuid);
  assert.deepEqual(quorum.wanted(), []);
  await assert.rejects(done(quorum.read(name)), /no member of an array any more/);
});

test('a disk that no record lists any more is somebody else’s: neither read nor written', async () => {
  const { quorum, record, records, done } = await scene(null);
  const [gone, kept] = record.members;
  assert.ok(gone !== undefined && kept !== undefined);
  records[0] = { ...record, members: [kept] };
  assert.deepEqual(quorum.wanted(), [kept.uuid]);
  await assert.rejects(done(quorum.write(gone.uuid, block(2, [gone.uuid]))), /no member of an array any more/);
  await assert.rejects(done(quorum.read(gone.uuid)), /no member of an array any more/);
});

test('a witness gets its name once, where it is blank, by a lease alone; until then nothing is wanted', async () => {
  const { driver, quorum, done, record } = await scene('/dev/sdc');
  assert.deepEqual(quorum.wanted(), []);
  driver.guard.endLease();
  await assert.rejects(done(quorum.claimWitness({ uuid: WITNESS, holds: () => true })), /lease has ended/);
  driver.guard.extendLease(driver.now() + 60_000);
  // It leads again, in another term than the one in which it began to look.
  await done(quorum.claimWitness({ uuid: WITNESS, holds: () => false }));
  assert.ok(!quorum.knowsWitness);
  await done(quorum.claimWitness({ uuid: WITNESS, holds: () => true }));
  const names = [...record.members.map(({ uuid }) => uuid).sort(), WITNESS];
  assert.deepEqual(quorum.wanted(), names);
  await done(quorum.write(WITNESS, block(2, names)));
  assert.deepEqual(await done(quorum.read(WITNESS)), new Map([[2, block(2, names)]]));
  const other = await scene('/dev/sda');
  await assert.rejects(
    other.done(other.quorum.claimWitness({ uuid: WITNESS, holds: () => true })),
    /\/dev\/sda: its first 260 KiB are not blank/,
  );
});
