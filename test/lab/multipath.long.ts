/**
 * A SAN with two ways to each LUN, under multipathd: a way is lost and comes back, its session is logged in anew (a nexus that knows no
 * key), a node's last way goes, a node dies. All the time every node writes; no leg is given up for any of it, nothing that was
 * acknowledged is lost, and whoever is fenced is so on both ways.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { nodeOfKey } from '../../src/fencing/keys.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, legsOf, proveWhole, requestMirror } from './lasting_writers.ts';
import { CLUSTER, keysOn, rawWrite } from './storage_guest.ts';
import { commits, PATIENT, startInOrder } from './writers.ts';

const available = labAvailable();
const skip = available.ok ? false : `no laboratory: ${available.why}`;
const REGION_BLOCKS = 800;
const MAPS = ['/dev/mapper/luna', '/dev/mapper/lunb'];

test('a SAN with two ways to each disk', { skip, timeout: 900_000 }, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'multipath',
    diskMib: [24, 24],
    luns: [{ device: '/dev/ubda' }, { device: '/dev/ubdb' }],
    portals: 2,
    fencing: () => '{ methods: [reservation] }',
    arrays: 'path_loss: drop-node',
    config: PATIENT,
  });
  const chapter = chapters(t, cluster);
  const { lab, san } = cluster;
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  await startInOrder(cluster);
  await requestMirror(cluster, { prefix: san.prefix, assumeClean: true });
  await cluster.open();

  const nothingFailed = async (): Promise<void> => {
    const failed = (await commits(cluster, 2)).filter(({ kind }) => kind === 'fail');
    assert.deepEqual(failed, [], 'no leg was given up');
    assert.equal((await legsOf(cluster, 1)).length, 2);
  };
  const keyOf = async (node: NodeId, device: string): Promise<{ key: string | undefined; count: number }> => {
    const { keys } = await keysOn(lab.guest(1), device);
    const own = keys.filter((key) => nodeOfKey(CLUSTER, key) === node);
    return { key: own[0], count: own.length };
  };
  /** What a node had on a way that is gone may be there still. */
  const registeredOnAllWays = async (): Promise<void> => {
    for (const device of MAPS) {
      await cluster.until(`two keys of each node on ${device}, or more`, 60_000, async () => {
        const counts = await Promise.all(cluster.nodes.map((node) => keyOf(node, device)));
        return (await keysOn(lab.guest(1), device)).type === 5 && counts.every(({ count }) => count >= 2);
      });
    }
  };

  await chapter('the agents use the maps, and each way to a disk has its node’s key', async () => {
    const status = await cluster.status(2);
    const paths = Object.values(status.arrays[0]?.paths ?? {}).sort();
    assert.deepEqual(paths, MAPS);
    const { out, err, rc } = await cluster.mdmesh(2, 'manage md0 --add /dev/sda');
    assert.notEqual(rc, 0);
    assert.match(out + err, /one of the paths of \/dev\/mapper\/luna; name that/);
    await registeredOnAllWays();
    // multipathd has been told, and will register a way that comes before anything takes it.
    const { key } = await keyOf(2, MAPS[0] ?? '');
    assert.match(await lab.guest(2).must('multipathd getprkey map luna'), new RegExp(`0x${key}`));
  });

  await chapter('a way is cut, and is back: the other one carries everything', async () => {
    await leads(cluster, 1);
    await writers.start();
    await san.cutPath(lab.guest(3), 1);
    await san.waysUp(lab.guest(3), 1);
    await writers.goOn(cluster.nodes, 60_000);
    await san.healPath(lab.guest(3), 1);
    await san.waysUp(lab.guest(3), 2);
    await writers.goOn(cluster.nodes, 60_000);
    await nothingFailed();
    await proveWhole(cluster, writers);
  });

  for (const node of [2, 1]) {
    await chapter(
      `a session of node ${node} is logged in anew under its writes: nothing that takes it is refused`,
      async () => {
        await leads(cluster, 1);
        await writers.start();
        for (let round = 0; round < 2; round++) {
          await san.logout(lab.guest(node), round);
          await san.waysUp(lab.guest(node), 1);
          await writers.goOn(cluster.nodes, 60_000);
          await san.login(lab.guest(node), round);
          await san.waysUp(lab.guest(node), 2);
          await writers.goOn(cluster.nodes, 60_000);
        }
        await nothingFailed();
        assert.equal((await cluster.status(node)).arrays[0]?.trouble, null);
        await proveWhole(cluster, writers);
      },
    );
  }

  await chapter('the last way of a node goes: its writes wait, and go on when it is back', async () => {
    await leads(cluster, 1);
    await writers.start();
    await san.cutPath(lab.guest(3), 0);
    await san.cutPath(lab.guest(3), 1);
    await cluster.until('its paths are lost', 60_000, async () => {
      const members = (await cluster.array(3))?.local?.members ?? [];
      return members.some(({ path }) => path === 'lost');
    });
    await writers.goOn([1, 2]);
    await san.healPath(lab.guest(3), 1);
    await cluster.open(cluster.nodes, 'md0', 120_000);
    await writers.goOn([3], 60_000);
    await san.healPath(lab.guest(3), 0);
    await san.waysUp(lab.guest(3), 2);
    await writers.goOn(cluster.nodes, 60_000);
    await nothingFailed();
    await proveWhole(cluster, writers);
  });

  await chapter('the master, cut off the others but not off its disks, is shut out on every way', async () => {
    await leads(cluster, 1);
    await writers.start();
    const since = Date.now();
    await lab.cut(1);
    await writers.outlive(1, since);
    for (const disk of ['sda', 'sdb', 'sdc', 'sdd']) {
      // Past md, mdmesh and multipath.
      assert.match(await rawWrite(lab.guest(1), `/dev/${disk}`), /Invalid exchange/, disk);
    }
    await lab.heal(1);
    await cluster.open();
    await writers.goOn([1]);
    await registeredOnAllWays();
    await nothingFailed();
    await proveWhole(cluster, writers);
  });

  await chapter('a node dies, and comes back with another nexus on each way', async () => {
    await leads(cluster, 1);
    await writers.start();
    const since = Date.now();
    await lab.guest(2).kill9();
    await writers.outlive(2, since);
    writers.forget(2);
    await lab.guest(2).boot();
    await san.connect(lab.guest(2));
    await cluster.startAgent(2);
    await cluster.open();
    await writers.start([2]);
    await registeredOnAllWays();
    await nothingFailed();
    await proveWhole(cluster, writers);
  });
});
