/** Arrays that are given back to mdadm, under virtual time and from a seed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VirtualTime } from '#src/md/simulated_time.ts';
import { FEATURE_MESH_OWNED } from '#src/md/superblock.ts';
import { mirrorOf, SimCluster } from './cluster.ts';

for (const [what, taken] of [
  ['that has failed', false],
  ['that was taken out', true],
] as const) {
  test(`a leg ${what} before an array was given back is in nobody’s way: the next master finds nothing, and the disks are free`, async () => {
    const cluster = await SimCluster.start({ time: new VirtualTime(), seed: 1, diskMib: [4, 4] });
    assert.equal(await cluster.master(), 1);
    const granted = async (node: number, request: Parameters<typeof cluster.request>[1]): Promise<void> => {
      const { ok, text } = await cluster.request(node, request);
      assert.ok(ok, `${request.verb}: ${text}`);
    };
    await granted(1, mirrorOf(['/dev/sda', '/dev/sdb']));
    await cluster.open();
    const uuid = cluster.status(1)?.arrays[0]?.record.uuid ?? '';
    await granted(1, { verb: 'fail', array: 'md0', device: '/dev/sdb' });
    if (taken) await granted(1, { verb: 'remove', array: 'md0', device: '/dev/sdb' });
    await granted(1, { verb: 'stop', array: 'md0' });
    await granted(1, { verb: 'release', array: 'md0' });
    cluster.crash(1);
    await cluster.until('node 2 leads', () => cluster.masters().includes(2));
    await cluster.until('it has read the disks', () => cluster.agent(2)?.notTakenOver() != null);
    assert.deepEqual(cluster.agent(2)?.notTakenOver(), []);
    assert.deepEqual(cluster.status(2)?.arrays, []);
    const again = await cluster.request(2, { verb: 'adopt', md: 'md0', uuid, access: 'shared' });
    assert.match(again.text, /md0 is degraded \(1 of 2 members in sync\)/, 'mdadm’s business');
    await granted(2, mirrorOf(['/dev/sda', '/dev/sdb'], { force: true }));
    cluster.close();
  });
}

test('its end is stored before the mark goes from the disks: the one node that knows of it loses its power, and tells the others when it is back', async () => {
  const cluster = await SimCluster.start({ time: new VirtualTime(), seed: 1, diskMib: [4, 4] });
  assert.equal(await cluster.master(), 1);
  const granted = async (request: Parameters<typeof cluster.request>[1]): Promise<void> => {
    const { ok, text } = await cluster.request(1, request);
    assert.ok(ok, `${request.verb}: ${text}`);
  };
  await granted(mirrorOf(['/dev/sda', '/dev/sdb']));
  await cluster.open();
  await granted({ verb: 'stop', array: 'md0' });
  for (const other of [2, 3]) {
    cluster.hub.cut(1, other);
    // What is said to a connection that is no more is lost.
    cluster.agent(other)?.parts.net.reset(1);
  }
  const isMarked = (disk: string): boolean => {
    const featureMap = Buffer.from(cluster.storage.peek(disk, 4096, 12)).readUInt32LE(8);
    return (featureMap & FEATURE_MESH_OWNED) !== 0;
  };
  assert.ok(isMarked('sda') && isMarked('sdb'));
  cluster.storage.onWrite = ({ stage }) => {
    if (stage !== 'lands' || !cluster.isUp(1)) return;
    cluster.time.schedule(cluster.time.clock(), () => {
      if (cluster.isUp(1) && !isMarked('sda') && !isMarked('sdb')) cluster.crash(1);
    });
  };
  void cluster.ask(1, { verb: 'release', array: 'md0' });
  await cluster.until('node 1 has lost its power', () => !cluster.isUp(1));
  cluster.storage.onWrite = null;
  for (const other of [2, 3]) cluster.hub.heal(1, other);
  await cluster.until('another master', () => cluster.masters().length === 1);
  assert.deepEqual(
    [2, 3].map((node) => cluster.status(node)?.arrays.map(({ record }) => record.md)),
    [['md0'], ['md0']],
    'they have heard nothing',
  );
  await cluster.boot(1);
  await cluster.until('all know', () => cluster.nodes.every((node) => cluster.status(node)?.arrays.length === 0));
  await granted(mirrorOf(['/dev/sda', '/dev/sdb'], { force: true }));
  cluster.close();
});
