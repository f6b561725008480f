/**
 * Resync, recovery and check on real kernels, with three nodes writing all over the array. A leg is lost and given back again
 * and again; each time something happens in the middle of the recovery. Whatever it is: no write fails, nothing that was
 * acknowledged is lost, and the legs end equal.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import test from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, legsOf, proveWhole, requestMirror } from './lasting_writers.ts';
import { slowSwitch } from './slow_switch.ts';
import { agentKilled, allBack, copyUnderWay, dies, granted, rebuildOf, standsStill } from './upsets.ts';

const available = labAvailable();

/** Behind everybody's back: a disk that lies. */
function flipBytes(image: string, offsetBytes: number, lengthBytes: number): void {
  const file = openSync(image, 'r+');
  try {
    const bytes = Buffer.alloc(lengthBytes);
    readSync(file, bytes, 0, lengthBytes, offsetBytes);
    writeSync(
      file,
      bytes.map((byte) => byte ^ 0xff),
      0,
      lengthBytes,
      offsetBytes,
    );
  } finally {
    closeSync(file);
  }
}

const DISK_MIB = 192;
/** Of 4 KiB; three regions of them cover the array. */
const REGION_BLOCKS = 16_000;
/** A recovery takes long enough for something to happen in the middle of it. */
const LIMIT_KIB = 24 * 1024;
/** Of a copy that nobody has given another one; else that of a new array may be over before it can be. */
const FIRST_LIMIT = '3MiB';
/** Beyond what the disks can do. */
const NO_LIMIT_KIB = 64 * 1024 * 1024;

test('copies with all nodes writing', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.start({
    name: 'copies',
    diskMib: [DISK_MIB, DISK_MIB, DISK_MIB],
    config: 'timing: { failback_after: 4s }',
    copy: `{ limit: ${FIRST_LIMIT} }`,
  });
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  slowSwitch(cluster);
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  const others = (victim: number) => cluster.nodes.filter((node) => node !== victim);

  await chapter('a new mirror is made equal while all write; each node shows how far it is', async () => {
    await requestMirror(cluster);
    await cluster.until('the array on every node', 30_000, async () => {
      const arrays = await Promise.all(cluster.nodes.map((node) => cluster.array(node)));
      return arrays.every((array) => array?.local != null);
    });
    await writers.start();
    await copyUnderWay(cluster, 3, 5);
    for (const node of cluster.nodes) {
      const array = await cluster.array(node);
      assert.equal(array?.sync?.by, 1, `node ${node}`);
      const mdstat = await cluster.must(node, 'mdstat');
      assert.match(mdstat, /resync = +\d+\.\d% \(\d+\/\d+\) finish=\d+\.\dmin speed=\d+K\/sec/, `node ${node}`);
      const own = await lab.guest(node).readFile('/proc/mdstat');
      assert.match(own, node === 1 ? /resync = / : /resync=PENDING/, `node ${node}: ${own}`);
    }
    await granted(cluster, 3, { verb: 'sync-limit', array: 'md0', limitKib: NO_LIMIT_KIB });
    await proveWhole(cluster, writers);
  });

  await chapter('halted, it stands still and holds nobody; it goes on from there', async () => {
    await granted(cluster, 1, { verb: 'sync-limit', array: 'md0', limitKib: LIMIT_KIB });
    await writers.start();
    await rebuildOf(cluster, 2);
    await copyUnderWay(cluster, 2, 20);
    await granted(cluster, 3, { verb: 'action', array: 'md0', action: 'frozen' });
    await writers.goOn(cluster.nodes);
    const halted = (await cluster.array(2))?.record.resync;
    assert.ok(halted?.halted === true && halted.fromSector > 0);
    for (const node of cluster.nodes) assert.equal((await cluster.array(node))?.local?.suspended, null);
    await granted(cluster, 2, { verb: 'action', array: 'md0', action: 'idle' });
    await proveWhole(cluster, writers);
  });

  // Everything else that may happen then, at any moment, is the soak's.
  const befallen: [string, (master: NodeId) => Promise<void>][] = [
    ['the agent of the copier is killed and started again', (master) => agentKilled(cluster, master)],
    ['another node stands still for three seconds', (master) => standsStill(cluster, others(master)[1] ?? 3, 3000)],
    ['the copier loses its power', (master) => dies(cluster, writers, master)],
  ];

  for (const [what, befall] of befallen) {
    await chapter(`${what} in the middle of a recovery`, async () => {
      await leads(cluster, 1);
      await granted(cluster, 1, { verb: 'sync-limit', array: 'md0', limitKib: LIMIT_KIB });
      await writers.start();
      await rebuildOf(cluster, 2);
      await copyUnderWay(cluster, 2, 20);
      await befall(1);
      await allBack(cluster, writers);
      await granted(cluster, 2, { verb: 'sync-limit', array: 'md0', limitKib: NO_LIMIT_KIB });
      await cluster.open(cluster.nodes, 'md0', 120_000);
      const gone = cluster.nodes.filter((node) => !writers.runs(node));
      if (gone.length > 0) await writers.start(gone);
      await proveWhole(cluster, writers);
    });
  }

  await chapter('a check finds a planted difference on every node’s word, and a repair mends it', async () => {
    // Whoever is handed the lead in the middle of a request leaves it unanswered.
    await leads(cluster, 1);
    const [, second = 1] = await legsOf(cluster, 1);
    flipBytes(lab.diskImage(second), 100 * 1024 * 1024, 4096);
    const over = () =>
      cluster.until('its end', 60_000, async () => {
        const arrays = await Promise.all(cluster.nodes.map((node) => cluster.array(node)));
        return arrays.every((array) => array?.record.resync === null);
      });
    for (const [action, least, most] of [
      // Where the difference lies may be looked at before and after.
      ['check', 8, 256],
      ['repair', 8, 128],
      ['check', 0, 0],
    ] as const) {
      await granted(cluster, 3, { verb: 'sync-limit', array: 'md0', limitKib: most > 128 ? LIMIT_KIB : NO_LIMIT_KIB });
      await cluster.must(3, `action md0 ${action}`);
      if (most > 128) {
        // What it has found by then is not forgotten.
        await copyUnderWay(cluster, 2, 65);
        await agentKilled(cluster, 1);
        await allBack(cluster, writers);
        await leads(cluster, 1);
      }
      await over();
      for (const node of cluster.nodes) {
        const found = (await cluster.array(node))?.mismatchSectors ?? -1;
        assert.ok(found >= least && found <= most, `node ${node} says ${found} after ${action}`);
      }
    }
    await writers.start();
    await proveWhole(cluster, writers);
  });
});
