/** What holds although JavaScript stands still: the guard's own thread (behind it is the watchdog: watchdog.long.ts). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { patient } from './guest/patience.ts';
import { Lab, labAvailable } from './lab.ts';

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
    for (const endMs = Date.now() + patient(60_000); !said().some((line) => line.what === what); await sleep(100)) {
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
