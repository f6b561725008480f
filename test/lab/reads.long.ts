/**
 * A node that nobody waits for reads nothing: the others give up a leg without it, write on, and whatever it reads afterwards is
 * new. Its md is made to read from the leg that is given up, so that a single read that passed meanwhile would show it. What vouches
 * for the node leaves it running.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../src/arrays/record.ts';
import { evicted } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { mdMembers } from './md_members.ts';
import { PATIENT, startInOrder, Writers } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, what a node reads that nobody waits for: ${available.why}`);

/** The node in question; its readers check what nodes 1 and 2 write. */
const APART: NodeId = 3;
const OTHERS: NodeId[] = [1, 2];
const LEGS = ['/dev/ubda', '/dev/ubdb', '/dev/ubdc', '/dev/ubdd'] as const;
/** Longer than its grant: it holds what it reads by then. */
const HELD_MS = 4000;

test('a node that no commit waits for', {
  skip: available.ok ? false : available.why,
  timeout: 1_200_000,
}, async (t) => {
  await using cluster = await Cluster.prepare({ name: 'reads', diskMib: LEGS.map(() => 40), config: PATIENT });
  await startInOrder(cluster);
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  lab.onFence = async () => {
    await sleep(HELD_MS);
    return true;
  };
  await cluster.must(1, `create md0 --level 1 --raid-devices ${LEGS.length} --force ${LEGS.join(' ')}`);
  await cluster.open();

  /** What its md thinks of the ways to its members; null: it has no array. */
  const pathsThere = async (): Promise<string[] | null> =>
    (await cluster.array(APART))?.local?.members.filter(({ faulty }) => !faulty).map(({ path }) => path) ?? null;

  /** It reads from this leg alone, as long as it believes in it. */
  async function reads(leg: string): Promise<void> {
    const guest = lab.guest(APART);
    for (const [disk, { name }] of await mdMembers(guest, 'md0')) {
      const word = leg === `/dev/${disk}` ? '-writemostly' : 'writemostly';
      await guest.writeFile(`/sys/block/md0/md/dev-${name}/state`, word);
    }
  }

  /** The others give up the leg that it reads, and write on. */
  async function givenUp(leg: string, writers: Writers, sinceMs: number): Promise<void> {
    await cluster.until(`node ${APART} evicted`, 60_000, () => evicted(cluster, APART, sinceMs));
    await cluster.open(OTHERS);
    await cluster.must(1, `manage md0 --fail ${leg}`);
    await writers.goOn(300);
  }

  async function writing(name: string): Promise<Writers> {
    return Writers.start(cluster, { name, nodes: OTHERS, readers: [APART], blocksANode: 64, ratePerSecond: 100 });
  }

  await chapter('cut off the network: its reads wait, and go on with what was written meanwhile', async () => {
    await reads(LEGS[3]);
    const writers = await writing('cut');
    await writers.goOn(100);
    const cutMs = Date.now();
    await lab.cut(APART);
    await givenUp(LEGS[3], writers, cutMs);
    assert.deepEqual(new Set(await pathsThere()), new Set(['held']));
    await lab.heal(APART);
    await cluster.open();
    assert.deepEqual(new Set(await pathsThere()), new Set(['up']));
    await writers.goOn(100);
    await writers.stop();
  });

  await chapter('its agent killed, and mdmesh drop-writes as systemd would call it: the same', async () => {
    await reads(LEGS[2]);
    const writers = await writing('killed');
    await writers.goOn(100);
    const killedMs = Date.now();
    await cluster.agent(APART).signal('SIGKILL');
    const drop = await cluster.mdmesh(APART, 'drop-writes');
    assert.equal(drop.rc, 0, drop.err);
    await givenUp(LEGS[2], writers, killedMs);
    await cluster.startAgent(APART);
    await cluster.open();
    await writers.goOn(100);
    await writers.stop();
  });

  await chapter('booted again where it reaches nobody: it reads nothing before it is admitted', async () => {
    const downMs = Date.now();
    await lab.cut(APART);
    await lab.guest(APART).kill9();
    await cluster.until(`node ${APART} evicted`, 60_000, () => evicted(cluster, APART, downMs));
    await cluster.must(1, `manage md0 --fail ${LEGS[1]}`);
    await lab.guest(APART).boot();
    await lab.cut(APART);
    await cluster.startAgent(APART);
    await sleep(HELD_MS);
    const { there } = await cluster.until('its word', 30_000, async () => ({ there: await pathsThere() }));
    if (there !== null) assert.deepEqual(new Set(there), new Set(['held']));
    await lab.heal(APART);
    await cluster.open();
    const writers = await writing('booted');
    await writers.goOn(100);
    await writers.stop();
  });
});
