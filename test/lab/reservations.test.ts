/**
 * Fencing by the storage alone, on a real SAN: LUNs over iSCSI with SCSI-3 persistent reservations. A node that is cut off the others,
 * but not off its disks, is shut out by them, holds its writes, and goes on by itself when it is taken back.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { evicted } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, proveWhole, requestMirror } from './lasting_writers.ts';
import { keysOn, rawWrite, registeredOn } from './storage_guest.ts';
import { notices, startInOrder } from './writers.ts';

const available = labAvailable();
const REGION_BLOCKS = 800;

test('the disks shut a node out', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'reservations',
    diskMib: [24, 24],
    luns: [{ device: '/dev/ubda' }, { device: '/dev/ubdb' }],
    fencing: () => '{ methods: [reservation] }',
  });
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  await startInOrder(cluster);
  await requestMirror(cluster, { prefix: '/dev/sd', assumeClean: true });
  await cluster.open();

  const registered = (asked: NodeId, device: string) => registeredOn(lab.guest(asked), device);

  await chapter('every writer has its key on every member, and who has none does not write', async () => {
    for (const device of ['/dev/sda', '/dev/sdb']) {
      assert.deepEqual(await registered(1, device), [1, 2, 3]);
      const { type, holder } = await keysOn(lab.guest(2), device);
      assert.equal(type, 5, 'write exclusive, registrants only');
      assert.ok(holder !== null);
    }
  });

  await chapter('cut off the others, not off its disks', async () => {
    await leads(cluster, 1);
    await writers.start();
    const since = Date.now();
    await lab.cut(3);
    await cluster.until('node 3 evicted', 30_000, () => evicted(cluster, 3, since));
    assert.deepEqual(await registered(1, '/dev/sda'), [1, 2]);
    assert.deepEqual(await registered(1, '/dev/sdb'), [1, 2]);
    // Past its agent, its guard and its md: the disk itself refuses.
    assert.match(await rawWrite(lab.guest(3), '/dev/sda'), /Invalid exchange/);
    assert.equal(await rawWrite(lab.guest(2), '/dev/sda'), '');
    await writers.goOn([1, 2]);
    await cluster.until('node 3 says that it is shut out', 20_000, async () => {
      const { reservations, arrays } = await cluster.status(3);
      return reservations?.shutOut === true && /shut out/.test(arrays[0]?.trouble ?? '');
    });
    assert.ok((await cluster.array(3))?.local?.held, 'its array is held');

    await lab.heal(3);
    await cluster.until('node 3 taken back', 40_000, async () => (await cluster.open()).writers.includes(3));
    // The very writer whose writes were held all the time.
    await writers.goOn([3]);
    await cluster.until('both are told', 20_000, async () => {
      const told = await notices(cluster, 1);
      return told.includes('NodeShutOut') && told.includes('NodeTakenBack');
    });
    assert.deepEqual(await registered(1, '/dev/sdb'), [1, 2, 3]);
    await proveWhole(cluster, writers);
  });
});
