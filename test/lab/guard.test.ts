/** What holds although JavaScript stands still or is gone: the guard's own thread, and behind it the watchdog. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { agentLines, elections, evicted } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { Lab, labAvailable } from './lab.ts';
import { createMirror, LastingWriters, leads, proveWhole } from './lasting_writers.ts';

const available = labAvailable();
const skip = available.ok ? false : `no laboratory: ${available.why}`;

interface Said {
  what: string;
  wallMs: number;
  bootMs?: number;
  outcome?: string;
  event?: { type: string; atMs: number };
}

test('an event loop that stalls: writes stop in time, commits are refused, and all goes on after it', {
  skip,
}, async (t) => {
  await using lab = await Lab.start({ name: 'stall', guests: 1, diskMib: [64, 64] });
  const guest = lab.guest(1);
  const logFile = join(guest.dir, 'stalled_loop');
  const program = join(import.meta.dirname, 'guest_programs', 'stalled_loop.ts');
  const env = { MDMESH_TEST_DISKS: '/dev/ubda,/dev/ubdb' };
  const process_ = await guest.spawn([process.execPath, '--no-warnings', program], { logFile, env });
  const said = (): Said[] =>
    readFileSync(logFile, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line));
  const until = async (what: string): Promise<void> => {
    for (const endMs = Date.now() + 60_000; !said().some((line) => line.what === what); await sleep(100)) {
      assert.ok(Date.now() < endMs, `the program never said "${what}": ${readFileSync(logFile, 'utf8')}`);
    }
  };
  await until('open');
  const acks = join(guest.dir, 'acks');
  const output = join(guest.dir, 'writer');
  const argv = ['write', '--device', '/dev/md0', '--log', acks, '--blocks', '2000', '--rate', '100', '--random'];
  const writer = await guest.spawn([lab.mdio, ...argv], { logFile: output });
  await until('end');
  await writer.signal('SIGTERM');
  assert.equal((await writer.exited).code, 0, 'the writer saw a pause, not an error');
  await process_.signal('SIGTERM');
  await process_.exited;

  const lines = said();
  const at = (what: string): number => lines.find((line) => line.what === what)?.wallMs ?? Number.NaN;
  assert.deepEqual(
    lines.filter(({ what }) => what === 'commit').map(({ outcome }) => outcome),
    ['written', 'ELEASE', 'written'],
  );
  assert.equal(lines.find(({ what }) => what === 'opening')?.outcome, 'EGRANT');
  const dropped = lines.filter(({ event, wallMs }) => event?.type === 'drop-completed' && wallMs >= at('stalls'))[0];
  assert.ok(dropped?.event !== undefined && dropped.bootMs !== undefined, 'the guard dropped the writes');
  const droppedMs = dropped.event.atMs - dropped.bootMs + dropped.wallMs;
  assert.ok(droppedMs < at('goes on'), 'the guard did not wait for the loop');
  const opened = lines.findLast(({ what }) => what === 'open')?.wallMs ?? Number.NaN;
  const times = readFileSync(acks, 'latin1')
    .split('\n')
    .filter((line) => line.startsWith('A '))
    .map((line) => Number(line.split(' ')[4]) / 1e6);
  // An acknowledgement is noted a little after its write came back.
  const passed = times.filter((time) => time > droppedMs + 500 && time < at('goes on'));
  assert.deepEqual(passed, [], 'writes passed while the loop stood still');
  assert.ok(
    times.some((time) => time < at('stalls')) && times.some((time) => time > opened),
    'it wrote before and after',
  );
  t.diagnostic(`held ${Math.round(droppedMs - at('stalls'))} ms into a stall of ten seconds`);
});

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
    const terms = (await elections(cluster)).map(({ term }) => term);
    assert.deepEqual(
      terms,
      [...new Set(terms)].sort((a, b) => a - b),
    );
  });
});
