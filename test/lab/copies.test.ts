/**
 * Resync, recovery and check on real kernels, with three nodes writing all over the array. A leg is lost and given back again
 * and again; each time something happens in the middle of the recovery. Whatever it is: no write fails, nothing that was
 * acknowledged is lost, and the legs end equal.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import test from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { evicted } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, legsOf, proveWhole, requestMirror } from './lasting_writers.ts';
import { slowSwitch } from './slow_switch.ts';

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

test('copies with all nodes writing', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.start({
    name: 'copies',
    diskMib: [DISK_MIB, DISK_MIB, DISK_MIB],
    config: 'timing: { failback_after: 4s }',
  });
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  slowSwitch(cluster);
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  const others = (victim: number) => cluster.nodes.filter((node) => node !== victim);

  async function ask(node: NodeId, words: object): Promise<void> {
    const { ok, text } = await cluster.request(node, words);
    assert.ok(ok, text);
  }

  async function copyUnderWay(node: NodeId, percent: number): Promise<void> {
    await cluster.until(`a copy at ${percent} %`, 30_000, async () => {
      const sync = (await cluster.array(node))?.sync;
      return sync != null && sync.doneSectors >= (sync.totalSectors * percent) / 100;
    });
  }

  /** A leg goes and comes back: it is rebuilt from nothing. */
  async function rebuildOf(node: NodeId): Promise<void> {
    const [leg = 0] = (await legsOf(cluster, node)).slice(-1);
    const device = `/dev/ubd${'abcdefgh'[leg]}`;
    await ask(node, { verb: 'fail', array: 'md0', device });
    await ask(node, { verb: 'remove', array: 'md0', device });
    await ask(node, { verb: 'add', array: 'md0', device });
    await cluster.until(
      'its recovery',
      30_000,
      async () => (await cluster.array(node))?.record.resync?.kind === 'recovery',
    );
  }

  await chapter('a new mirror is made equal while all write; each node shows how far it is', async () => {
    await requestMirror(cluster);
    await ask(2, { verb: 'sync-limit', array: 'md0', limitKib: LIMIT_KIB / 8 });
    await writers.start();
    await copyUnderWay(3, 5);
    for (const node of cluster.nodes) {
      const array = await cluster.array(node);
      assert.equal(array?.sync?.by, 1, `node ${node}`);
      const mdstat = await cluster.must(node, 'mdstat');
      assert.match(mdstat, /resync = +\d+\.\d% \(\d+\/\d+\) finish=\d+\.\dmin speed=\d+K\/sec/, `node ${node}`);
      const own = await lab.guest(node).readFile('/proc/mdstat');
      assert.match(own, node === 1 ? /resync = / : /resync=PENDING/, `node ${node}: ${own}`);
    }
    await ask(3, { verb: 'sync-limit', array: 'md0', limitKib: null });
    await proveWhole(cluster, writers);
  });

  await chapter('halted, it stands still and holds nobody; it goes on from there', async () => {
    await ask(1, { verb: 'sync-limit', array: 'md0', limitKib: LIMIT_KIB });
    await writers.start();
    await rebuildOf(2);
    await copyUnderWay(2, 20);
    await ask(3, { verb: 'action', array: 'md0', action: 'frozen' });
    await writers.goOn(cluster.nodes);
    const halted = (await cluster.array(2))?.record.resync;
    assert.ok(halted?.halted === true && halted.fromSector > 0);
    for (const node of cluster.nodes) assert.equal((await cluster.array(node))?.local?.suspended, null);
    await ask(2, { verb: 'action', array: 'md0', action: 'idle' });
    await proveWhole(cluster, writers);
  });

  const befallen: [string, (master: NodeId) => Promise<void>][] = [
    [
      'the agent of another node is killed and started again',
      async (master) => {
        const [victim = 2] = others(master);
        await cluster.agent(victim).signal('SIGKILL');
        await cluster.startAgent(victim);
      },
    ],
    [
      'the agent of the copier is killed and started again',
      async (master) => {
        await cluster.agent(master).signal('SIGKILL');
        await cluster.startAgent(master);
      },
    ],
    [
      'another node stands still for three seconds',
      async (master) => {
        const victim = others(master)[1] ?? 3;
        await lab.guest(victim).freeze();
        await new Promise((resolve) => setTimeout(resolve, 3000));
        await lab.guest(victim).thaw();
      },
    ],
    ['another node loses its power', (master) => dies(others(master)[1] ?? 3)],
    ['the copier loses its power', (master) => dies(master)],
  ];

  async function dies(victim: NodeId): Promise<void> {
    const since = Date.now();
    await lab.guest(victim).kill9();
    writers.forget(victim);
    await cluster.until(`node ${victim} evicted`, 40_000, () => evicted(cluster, victim, since));
    await writers.goOn(others(victim));
  }

  /** On a crowded machine an agent may be away for so long that its node is switched off after all. */
  async function allBack(): Promise<void> {
    await cluster.until('every agent answers', 90_000, async () => {
      for (const node of cluster.nodes.filter((each) => !lab.guest(each).running)) {
        writers.forget(node);
        await lab.guest(node).boot();
        await cluster.startAgent(node);
      }
      return Promise.all(cluster.nodes.map((node) => cluster.status(node)));
    });
  }

  for (const [what, befall] of befallen) {
    await chapter(`${what} in the middle of a recovery`, async () => {
      await leads(cluster, 1);
      await ask(1, { verb: 'sync-limit', array: 'md0', limitKib: LIMIT_KIB });
      await writers.start();
      await rebuildOf(2);
      await copyUnderWay(2, 20);
      await befall(1);
      await allBack();
      await ask(2, { verb: 'sync-limit', array: 'md0', limitKib: null });
      await cluster.open(cluster.nodes, 'md0', 120_000);
      const gone = cluster.nodes.filter((node) => !writers.runs(node));
      if (gone.length > 0) await writers.start(gone);
      await proveWhole(cluster, writers);
    });
  }

  await chapter('a check finds a planted difference on every node’s word, and a repair mends it', async () => {
    const [, second = 1] = await legsOf(cluster, 1);
    flipBytes(lab.diskImage(second), 100 * 1024 * 1024, 4096);
    const over = () =>
      cluster.until('its end', 60_000, async () => {
        const arrays = await Promise.all(cluster.nodes.map((node) => cluster.array(node)));
        return arrays.every((array) => array?.record.resync === null);
      });
    for (const [action, least, most] of [
      ['check', 8, 128],
      ['repair', 8, 128],
      ['check', 0, 0],
    ] as const) {
      await cluster.must(3, `action md0 ${action}`);
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
