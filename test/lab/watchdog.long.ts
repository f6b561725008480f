/** What is behind the guard's own thread: a node whose agent is gone, or stands still, is reset by its watchdog. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { agentLines, evicted, oneMasterATerm } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { createMirror, LastingWriters, leads, proveWhole } from './lasting_writers.ts';

const available = labAvailable();
const skip = available.ok ? false : `no laboratory: ${available.why}`;

test('the watchdog', { skip }, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'watchdog',
    diskMib: [64, 64],
    fencing: () => '{ methods: [watchdog, manual], watchdog: { device: /dev/watchdog1 } }',
    config: 'timing: { failback_after: 4s }',
  });
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  const WATCHDOG_MS = 5000;
  // Number 0 is User-Mode Linux's own, which needs a program on the host. Debian's kernels forbid to disarm unless told otherwise.
  const up = async (node: number): Promise<void> => {
    await lab.guest(node).must('modprobe softdog soft_noboot=0 nowayout=0');
    await cluster.startAgent(node);
  };
  await Promise.all(cluster.nodes.map(up));
  await cluster.master();
  await createMirror(cluster);
  const writers = new LastingWriters(cluster);

  /** The guest resets itself; it is evicted, and comes back as another boot. */
  async function isReset(victim: number, stop: () => Promise<void>): Promise<void> {
    await leads(cluster, 1);
    await writers.start();
    const { boots } = lab.guest(victim);
    const since = Date.now();
    await stop();
    const fired = (): boolean => /Initiating system reboot/.test(lab.guest(victim).console(400));
    await cluster.until(
      `the watchdog of node ${victim} fires`,
      30_000,
      async () => fired() || lab.guest(victim).boots > boots,
    );
    // User-Mode Linux does not always survive its own restart from a timer's interrupt. The reset line has been pulled all
    // the same: what hangs in it is switched off and on.
    await lab
      .guest(victim)
      .untilUp(10_000, boots)
      .catch(async () => {
        await lab.guest(victim).kill9();
        await lab.guest(victim).boot();
      });
    writers.forget(victim);
    await cluster.until(`node ${victim} evicted`, 30_000, () => evicted(cluster, victim, since));
    const told = cluster.nodes
      .flatMap((node) => agentLines(cluster, node, since))
      .find(({ event, subject }) => event === 'NodeEvicted' && subject === `node/${victim}`);
    assert.ok(
      (told?.timeMs ?? 0) > since + WATCHDOG_MS,
      'it was not counted as stopped before its watchdog could fire',
    );
    await up(victim);
    await cluster.open();
    await writers.start([victim]);
    await proveWhole(cluster, writers);
  }

  await chapter('the agent is killed: its node resets itself, and is evicted after that', () =>
    isReset(3, () => cluster.agent(3).signal('SIGKILL')),
  );

  await chapter("the master's agent stands still, all of its threads: the same", () =>
    isReset(1, () => cluster.agent(1).signal('SIGSTOP')),
  );

  await chapter('an agent that is stopped in order disarms it', async () => {
    const { boots } = lab.guest(3);
    await cluster.stopAgent(3);
    await sleep(WATCHDOG_MS + 2000);
    assert.equal(lab.guest(3).boots, boots);
    await lab.guest(3).must('true');
    await cluster.startAgent(3);
    await cluster.open();
  });

  await chapter('no term had two masters', async () => {
    await oneMasterATerm(cluster);
  });
});
