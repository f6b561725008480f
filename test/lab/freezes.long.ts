/**
 * A node's whole kernel stands still for longer than every promise lasts, and then goes on as if nothing had been. Nobody is
 * switched off: fencing is manual, and no operator speaks.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { agentLines, elections, guardTimes, oneMasterATerm } from './agent_log.ts';
import { labAvailable } from './lab.ts';
import { leads, proveWhole } from './lasting_writers.ts';
import { unfencedMirror } from './unfenced_mirror.ts';

const available = labAvailable();
const FREEZE_MS = 30_000;

test('nodes freeze and thaw', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  const { cluster, lab, watch, chapter, writers } = await unfencedMirror(t, 'freezes');

  async function freezes(victim: number): Promise<void> {
    await leads(cluster, 1);
    await writers.start();
    const others = cluster.nodes.filter((node) => node !== victim);
    const frozenMs = Date.now();
    await lab.guest(victim).freeze();
    await sleep(FREEZE_MS / 2);
    await writers.goOn(others);
    await sleep(FREEZE_MS / 2);
    await writers.goOn(others);
    const next = await elections(cluster, frozenMs);
    assert.deepEqual(
      next.map(({ node }) => node),
      victim === 1 ? [2] : [],
    );

    const thawedMs = Date.now();
    await lab.guest(victim).thaw();
    await writers.goOn(cluster.nodes);
    await cluster.open();
    const [expiredMs] = await guardTimes(cluster, victim, 'grant-expired', thawedMs);
    const [droppedMs] = await guardTimes(cluster, victim, 'drop-completed', thawedMs);
    assert.ok(expiredMs !== undefined && droppedMs !== undefined, 'the guard of the thawed node dropped its writes');
    const enabled = agentLines(cluster, victim, thawedMs).find(({ event }) => event === 'WritesEnabled');
    assert.ok(enabled !== undefined && enabled.timeMs >= droppedMs, 'its writes pass again only after that');
    t.diagnostic(
      `node ${victim}: dropped ${Math.round(droppedMs - thawedMs)} ms after the thaw, ` +
        `${await writers.acknowledgedBetween(victim, thawedMs, droppedMs)} writes were acknowledged before`,
    );
    await proveWhole(cluster, writers);
  }

  await chapter('a node that is not master: the others go on, its writes wait and then go on', () => freezes(3));

  await chapter('the master: another leads, and the old one writes nothing any more', async () => {
    await freezes(1);
    await oneMasterATerm(cluster);
    await leads(cluster, 1);
  });

  await chapter('what stands on the disks never went back', async () => {
    assert.deepEqual(watch.regressions, []);
    assert.ok(watch.terms.size >= 2, `only terms ${[...watch.terms.keys()]} were seen on the disks`);
    assert.ok(watch.looks > 500, `the disks were looked at only ${watch.looks} times`);
  });
});
