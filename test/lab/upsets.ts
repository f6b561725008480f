/** What befalls a cluster in the middle of a copy, and how a leg gets there: told by the stories about copies and by the soak. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../src/arrays/record.ts';
import { evicted } from './agent_log.ts';
import type { Cluster } from './cluster.ts';
import { type LastingWriters, legsOf } from './lasting_writers.ts';

/** A request that must be granted; it waits for a master if there is none, for then nothing has been done of it. */
export async function granted(cluster: Cluster, node: NodeId, words: object): Promise<void> {
  const { ok, text } = await cluster.until(`a master that takes ${JSON.stringify(words)}`, 30_000, async () => {
    const outcome = await cluster.request(node, words);
    return outcome.ok || !outcome.text.startsWith('the cluster has no master now') ? outcome : null;
  });
  assert.ok(ok, text);
}

export async function copyUnderWay(cluster: Cluster, node: NodeId, percent: number): Promise<void> {
  await cluster.until(`a copy at ${percent} %`, 30_000, async () => {
    const sync = (await cluster.array(node))?.sync;
    return sync != null && sync.doneSectors >= (sync.totalSectors * percent) / 100;
  });
}

/** A leg goes and comes back: it is rebuilt from nothing. */
export async function rebuildOf(cluster: Cluster, node: NodeId): Promise<void> {
  const [leg = 0] = (await legsOf(cluster, node)).slice(-1);
  const device = `/dev/ubd${'abcdefgh'[leg]}`;
  await granted(cluster, node, { verb: 'fail', array: 'md0', device });
  await granted(cluster, node, { verb: 'remove', array: 'md0', device });
  await granted(cluster, node, { verb: 'add', array: 'md0', device });
  await cluster.until(
    'its recovery',
    30_000,
    async () => (await cluster.array(node))?.record.resync?.kind === 'recovery',
  );
}

export async function standsStill(cluster: Cluster, victim: NodeId, lengthMs: number): Promise<void> {
  const guest = cluster.lab.guest(victim);
  await guest.freeze();
  await sleep(lengthMs);
  // It may have been switched off meanwhile.
  if (guest.running) await guest.thaw();
}

export async function agentKilled(cluster: Cluster, victim: NodeId, awayMs = 0): Promise<void> {
  await cluster.agent(victim).signal('SIGKILL');
  await sleep(awayMs);
  if (cluster.lab.guest(victim).running) await cluster.startAgent(victim);
}

/** A node's power goes; the others go on without it. */
export async function dies(cluster: Cluster, writers: LastingWriters, victim: NodeId): Promise<void> {
  const since = Date.now();
  await cluster.lab.guest(victim).kill9();
  writers.forget(victim);
  await cluster.until(`node ${victim} evicted`, 40_000, () => evicted(cluster, victim, since));
  await writers.goOn(cluster.nodes.filter((node) => node !== victim));
}

/**
 * Boots whoever is down until every agent answers. On a crowded machine one may be away for so long that its node is switched
 * off after all.
 * @param beforeAgent what a guest has to have before its agent starts
 */
export async function allBack(
  cluster: Cluster,
  writers: Pick<LastingWriters, 'forget'>,
  beforeAgent: (node: NodeId) => Promise<void> = async () => {},
): Promise<void> {
  await cluster.until('every agent answers', 90_000, async () => {
    for (const node of cluster.nodes.filter((each) => !cluster.lab.guest(each).running)) {
      writers.forget(node);
      const guest = cluster.lab.guest(node);
      await guest.boot();
      try {
        await beforeAgent(node);
        await cluster.startAgent(node);
      } catch (error) {
        // Half prepared it would stay without an agent: nobody looks at it again as long as it runs.
        if (guest.running) await guest.kill9();
        throw error;
      }
    }
    return Promise.all(cluster.nodes.map((node) => cluster.status(node)));
  });
}
