/**
 * Runs inside a guest: the real driver with its guard, in a process whose event loop stops for ten seconds while another process writes to
 * the array. Each line of its output is one JSON value with the guest's wall clock; the test that started it judges them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { SUPERBLOCK_BYTES, SUPERBLOCK_SECTOR } from '#src/md/superblock.ts';
import { Bench, codeOf, MD, testDisks } from '../driver_bench.ts';

const HOLDER_MS = 2000;
const STALL_MS = 10_000;

function say(what: string, more: object = {}): void {
  process.stdout.write(`${JSON.stringify({ what, wallMs: Date.now(), ...more })}\n`);
}

/** Nothing of JavaScript runs meanwhile: no timer, no promise, no callback. */
function stall(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STALL_MS);
}

const disks = testDisks();
const [disk = ''] = disks;
const bench = await Bench.start(disks);
const { driver } = bench;
const { guard } = driver;
guard.onEvent((event) => say('guard', { event, bootMs: driver.now() }));
await bench.assembled({ level: 'raid1', disks });
await bench.writable();
// Ends the long grant and lease of the preparations; from here on they are short, as an agent's are.
await guard.drop();
const renew = (): void => {
  guard.extendLease(driver.now() + HOLDER_MS);
  guard.extendGrant(driver.now() + HOLDER_MS);
};
renew();
const renewing = setInterval(renew, 400);
await driver.letRead(MD);
await driver.open(MD);
say('open');
await sleep(3000);

/** The superblock as it stands, written again: a commit, as far as the guard can tell. */
const superblock = await driver.readMetadata(disk, SUPERBLOCK_SECTOR * 512, SUPERBLOCK_BYTES);
async function commit(): Promise<string> {
  const writes = [{ path: disk, offsetBytes: SUPERBLOCK_SECTOR * 512, bytes: superblock }];
  const [result] = await driver.writeMetadata(writes);
  return result?.error?.code ?? 'written';
}
say('commit', { outcome: await commit() });

say('stalls');
stall();
// In the same turn of the loop: nothing has been renewed, as for an agent that goes on with what it was about to do.
const late = [commit(), codeOf(driver.open(MD))] as const;
say('goes on');
const [outcome, opening] = await Promise.all(late);
say('commit', { outcome });
say('opening', { outcome: opening });

renew();
await bench.until('the array opens again', () => !guard.state().dropping);
await driver.letRead(MD);
await driver.open(MD);
say('open');
say('commit', { outcome: await commit() });
await sleep(3000);
clearInterval(renewing);
say('end');
process.once('SIGTERM', () => process.exit(0));
setInterval(renew, 400);
