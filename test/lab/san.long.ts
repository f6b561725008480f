/**
 * A SAN's bad days, with `methods: [reservation]` alone: nobody switches a node off, nobody confirms anything. Nodes die, stand still and
 * are cut off; the way to the storage is lost; the storage restarts and forgets who was registered; a LUN is reset, slow, full. All the
 * time every node writes, and at the end of each chapter all that was acknowledged is on both legs.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../src/arrays/record.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, legsOf, proveWhole, requestMirror } from './lasting_writers.ts';
import { keysOn, rawWrite, registeredOn } from './storage_guest.ts';
import { checkLegs, commits, notices, PATIENT, startInOrder } from './writers.ts';

const available = labAvailable();
const skip = available.ok ? false : `no laboratory: ${available.why}`;
const REGION_BLOCKS = 800;
const LUNS = ['/dev/sda', '/dev/sdb'];
/** Longer than everything that the others do meanwhile. */
const FROZEN_MS = 20_000;

const registered = (cluster: Cluster, asked: NodeId, device: string) => registeredOn(cluster.lab.guest(asked), device);

/** All keys are on all LUNs, and they are reserved. */
async function reserved(cluster: Cluster): Promise<void> {
  for (const device of LUNS) {
    await cluster.until(`every node's key on ${device}`, 60_000, async () => {
      const { type } = await keysOn(cluster.lab.guest(1), device);
      return type === 5 && (await registered(cluster, 1, device)).join() === '1,2,3';
    });
  }
}

async function fails(cluster: Cluster): Promise<number> {
  return (await commits(cluster, 2)).filter(({ kind }) => kind === 'fail').length;
}

async function comesBack(cluster: Cluster, node: NodeId): Promise<void> {
  await cluster.lab.guest(node).kill9();
  await cluster.lab.heal(node);
  await cluster.lab.guest(node).boot();
  await cluster.san.connect(cluster.lab.guest(node));
  await cluster.startAgent(node);
  await cluster.open();
}

test('fencing by reservations alone', { skip, timeout: 900_000 }, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'san',
    diskMib: [24, 24],
    luns: [{ device: '/dev/ubda' }, { device: '/dev/ubdb' }],
    fencing: () => '{ methods: [reservation] }',
    arrays: 'path_loss: drop-node',
    config: PATIENT,
  });
  const chapter = chapters(t, cluster);
  const { lab, san } = cluster;
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  await startInOrder(cluster);
  await requestMirror(cluster, { prefix: '/dev/sd', assumeClean: true });
  await cluster.open();

  for (const victim of [3, 1]) {
    await chapter(`node ${victim} dies`, async () => {
      await leads(cluster, 1);
      await writers.start();
      const since = Date.now();
      await lab.guest(victim).kill9();
      await writers.outlive(victim, since);
      writers.forget(victim);
      await comesBack(cluster, victim);
      await writers.start([victim]);
      await reserved(cluster);
      await proveWhole(cluster, writers);
    });

    await chapter(`node ${victim} stands still for ${FROZEN_MS / 1000} s: nothing late of it lands`, async () => {
      await leads(cluster, 1);
      await writers.start();
      const failsBefore = await fails(cluster);
      const asked = victim === 1 ? 2 : 1;
      const since = Date.now();
      await lab.guest(victim).freeze();
      await writers.outlive(victim, since);
      await sleep(Math.max(0, since + FROZEN_MS - Date.now()));
      await lab.guest(victim).thaw();
      // What it does now, it does by itself.
      await cluster.until(`node ${victim} knows, or is back`, 60_000, async () => {
        const status = await cluster.status(victim).catch(() => null);
        const array = status?.arrays[0];
        return (
          status?.reservations?.shutOut === true || array?.trouble != null || array?.record.writers.includes(victim)
        );
      });
      const isBack = await cluster
        .until(`node ${victim} is back`, 20_000, async () =>
          (await cluster.array(asked))?.record.writers.includes(victim),
        )
        .catch(() => false);
      t.diagnostic(`node ${victim}, thawed: ${isBack ? 'back by itself' : 'out, for it had writes on their way'}`);
      if (!isBack) {
        assert.match(await rawWrite(lab.guest(victim), '/dev/sda'), /Invalid exchange/);
        writers.forget(victim);
        await comesBack(cluster, victim);
        await writers.start([victim]);
      }
      assert.equal(await fails(cluster), failsBefore, 'no leg was given up for what it saw');
      await reserved(cluster);
      await proveWhole(cluster, writers);
    });
  }

  await chapter('the master, cut off the others but not off its disks', async () => {
    await leads(cluster, 1);
    await writers.start();
    const since = Date.now();
    await lab.cut(1);
    await writers.outlive(1, since);
    assert.match(await rawWrite(lab.guest(1), '/dev/sdb'), /Invalid exchange/);
    await lab.heal(1);
    await cluster.open();
    await writers.goOn([1]);
    await reserved(cluster);
    await proveWhole(cluster, writers);
  });

  await chapter('a node loses its way to the storage for a while', async () => {
    await leads(cluster, 1);
    await writers.start();
    await san.cutPath(lab.guest(3));
    await cluster.until('its paths are lost', 60_000, async () => {
      const members = (await cluster.array(3))?.local?.members ?? [];
      return members.some(({ path }) => path === 'lost');
    });
    await writers.goOn([1, 2]);
    await san.healPath(lab.guest(3));
    await cluster.open(cluster.nodes, 'md0', 120_000);
    await writers.goOn([3], 60_000);
    await reserved(cluster);
    await proveWhole(cluster, writers);
  });

  await chapter('the storage loses its power, and all that was registered with it', async () => {
    await leads(cluster, 1);
    await writers.start();
    await san.restart();
    await writers.goOn(cluster.nodes, 120_000);
    // All lost both legs for a while: they may have given one up, and the last copy waited.
    const legs = await legsOf(cluster, 1);
    const missing = LUNS.filter((_, leg) => !legs.includes(leg));
    for (const device of missing) {
      await cluster.must(1, `manage md0 --remove ${device} --add ${device}`);
    }
    await cluster.open(cluster.nodes, 'md0', 120_000);
    await reserved(cluster);
    assert.ok((await notices(cluster, 1)).includes('ReservationsRenewed'));
    await proveWhole(cluster, writers);
  });

  await chapter('a LUN is slow: all wait for it, and none is taken for dead', async () => {
    await leads(cluster, 1);
    await writers.start();
    await san.slow(0, 200);
    await writers.goOn(cluster.nodes, 60_000);
    await san.slow(0, 0);
    await proveWhole(cluster, writers);
    assert.equal((await legsOf(cluster, 1)).length, 2);
  });

  await chapter('a LUN is reset under the writers', async () => {
    await leads(cluster, 1);
    await writers.start();
    await san.reset(lab.guest(2), '/dev/sda');
    await writers.goOn(cluster.nodes, 60_000);
    await reserved(cluster);
    await proveWhole(cluster, writers);
  });
});

test('a thin LUN is full: it is given up, and no write is lost', { skip, timeout: 1_200_000 }, async () => {
  const bytes = 24 * 1024 * 1024;
  await using cluster = await Cluster.prepare({
    name: 'san-full',
    diskMib: [24],
    luns: [{ device: '/dev/ubda' }, { file: { path: '/full/lun1', bytes } }],
    storageMounts: 'mkdir -p /full && mount -t tmpfs -o size=8m tmpfs /full',
    fencing: () => '{ methods: [reservation] }',
    config: PATIENT,
  });
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  await startInOrder(cluster);
  await requestMirror(cluster, { prefix: '/dev/sd', assumeClean: true });
  await cluster.open();
  await writers.start();
  await cluster.until('the full LUN is given up', 120_000, async () => (await fails(cluster)) > 0);
  await writers.goOn(cluster.nodes, 60_000);
  const record = await cluster.open();
  assert.deepEqual(await legsOf(cluster, 1), [0]);
  for (const [node, { failed, hanging, errors }] of await writers.stop()) {
    assert.deepEqual(
      { failed, hanging },
      { failed: 0, hanging: 0 },
      `node ${node}: ${JSON.stringify(errors.slice(0, 3))}`,
    );
  }
  checkLegs(cluster, [0], writers.logs, record.componentSectors);
});
