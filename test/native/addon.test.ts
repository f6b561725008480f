/**
 * The addon from JavaScript's side: what the guard does while the event loop is blocked, and what it refuses afterwards.
 * Directories laid out like md's sysfs and regular files stand for arrays and disks.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadNative, type NativeGuard, type NativeGuardEvent } from '../../src/md/native.ts';

const addon = loadNative();
const SIZE_SECTORS = 4096;
const FAR_MS = 500_000;

let scratch = '';
before(() => {
  scratch = mkdtempSync(join(tmpdir(), 'mdmesh-addon-'));
});
after(() => rmSync(scratch, { recursive: true, force: true }));

/** An array as md shows it: running, nothing suspended, two members in sync. */
function fakeMd(name: string): string {
  const directory = join(scratch, name);
  for (const member of ['dev-sda', 'dev-sdb']) {
    mkdirSync(join(directory, member), { recursive: true });
    writeFileSync(join(directory, member, 'state'), 'in_sync\n');
  }
  writeFileSync(join(directory, 'suspend_lo'), '0\n');
  writeFileSync(join(directory, 'suspend_hi'), '0\n');
  writeFileSync(join(directory, 'array_state'), 'active\n');
  return directory;
}

const firstLine = (path: string) => readFileSync(path, 'utf8').split('\n')[0];
const suspended = (directory: string) =>
  firstLine(join(directory, 'suspend_lo')) === '0' && firstLine(join(directory, 'suspend_hi')) === `${SIZE_SECTORS}`;
const withCode = (code: string) => (error: unknown) =>
  error instanceof Error && 'code' in error && error.code === code && error.message.length > 0;

function blockLoop(forMs: number): void {
  const until = addon.bootTimeMs() + forMs;
  while (addon.bootTimeMs() < until);
}

async function eventually(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** A disk of 64 KiB where O_DIRECT works; null: nowhere. */
async function findDisk(): Promise<string | null> {
  const build = join(dirname(fileURLToPath(import.meta.url)), '../../native-addon/build');
  for (const base of [scratch, build]) {
    const path = join(mkdtempSync(join(base, 'disk-')), 'disk');
    writeFileSync(path, '');
    truncateSync(path, 65536);
    try {
      await addon.readDirect(path, 0, 4096);
      after(() => rmSync(dirname(path), { recursive: true, force: true }));
      return path;
    } catch (error) {
      rmSync(dirname(path), { recursive: true, force: true });
      if (!withCode('EINVAL')(error)) throw error;
    }
  }
  return null;
}

function startGuard(): { guard: NativeGuard; events: NativeGuardEvent[] } {
  const events: NativeGuardEvent[] = [];
  return { guard: addon.startGuard((event) => events.push(event), { lockMemory: false }), events };
}

function block(text: string): Buffer {
  const bytes = Buffer.alloc(4096);
  bytes.write(text);
  return bytes;
}

describe('while the event loop is blocked', () => {
  test('the guard holds the array, refuses late metadata, and stays held until asked to open', async (t) => {
    const directory = fakeMd('md1');
    const disk = await findDisk();
    const { guard, events } = startGuard();
    t.after(() => guard.close());

    guard.extendLease(addon.bootTimeMs() + 500);
    guard.extendGrant(addon.bootTimeMs() + 500);
    guard.registerArray('md1', SIZE_SECTORS, directory);
    guard.registerMember('md1', 'sda');
    await guard.open('md1');
    assert.equal(firstLine(join(directory, 'suspend_hi')), '0');
    const deadlineMs = guard.state().grantUntilMs;

    blockLoop(3000);
    const unblockedMs = addon.bootTimeMs();

    // Nothing of JavaScript has run since; the event is still on its way.
    assert.equal(events.length, 0);
    assert.ok(suspended(directory), 'the suspend was made meanwhile');
    assert.deepEqual(guard.state().arrays, [{ md: 'md1', standing: 'held' }]);
    assert.equal(guard.state().dropping, false);

    await assert.rejects(guard.open('md1'), withCode('EGRANT'));
    await assert.rejects(guard.answerGates('md1', ['sda']), withCode('EGRANT'));
    assert.equal(firstLine(join(directory, 'dev-sda', 'state')), 'in_sync');
    if (disk === null)
      t.diagnostic('NO O_DIRECT on any directory of this test: late metadata writes were not tried on a disk');
    const late = await guard.writeMetadata([{ path: disk ?? '/nowhere', offsetBytes: 0, bytes: block('late') }]);
    if (disk !== null) assert.equal(late[0]?.error?.code, 'ELEASE');

    await eventually(() => events.length === 3);
    assert.deepEqual(events.map((event) => event.type).sort(), ['drop-completed', 'grant-expired', 'lease-expired']);
    for (const event of events) {
      assert.ok(
        event.atMs >= deadlineMs - 5 && event.atMs < unblockedMs,
        `${event.type} happened while the loop was blocked`,
      );
    }

    guard.extendGrant(addon.bootTimeMs() + FAR_MS);
    assert.ok(suspended(directory), 'a new grant alone opens nothing');
    await guard.open('md1');
    assert.equal(firstLine(join(directory, 'suspend_hi')), '0');
    await guard.drop();
    assert.ok(suspended(directory));
  });
});

describe('the guard', () => {
  test('drop resolves once per call, also with nothing to hold', async (t) => {
    const { guard, events } = startGuard();
    t.after(() => guard.close());
    await guard.drop();
    await Promise.all([guard.drop(), guard.drop()]);
    assert.ok(events.every((event) => event.type === 'drop-completed'));
  });

  test('is one a process, and refuses deadlines of another clock', (t) => {
    const { guard } = startGuard();
    t.after(() => guard.close());
    assert.throws(() => startGuard(), withCode('EEXIST'));
    assert.throws(() => guard.extendGrant(Date.now()), RangeError);
    assert.throws(() => guard.extendLease(Number.NaN), RangeError);
    const untilMs = addon.bootTimeMs() + FAR_MS;
    guard.extendGrant(untilMs);
    guard.extendGrant(untilMs - 1000);
    assert.ok(Math.abs(guard.state().grantUntilMs - untilMs) < 0.001);
  });

  test('after close everything is refused', () => {
    const { guard } = startGuard();
    guard.close();
    guard.close();
    assert.throws(() => guard.state(), withCode('ESHUTDOWN'));
  });

  test("writes a node's own block without any guard, durably, and whole blocks only", async (t) => {
    const disk = await findDisk();
    if (disk === null) return t.skip('LOUD SKIP: no directory with O_DIRECT; nothing about disk writes was tested');
    await addon.writeDirect(disk, 4096, block('own'));
    assert.deepEqual(await addon.readDirect(disk, 4096, 4096), Buffer.from(block('own')));
    await assert.rejects(addon.writeDirect(disk, 7, block('crooked')), withCode('EINVAL'));
    await assert.rejects(addon.writeDirect('/nowhere/disk', 0, block('x')), withCode('ENOENT'));
  });

  test('writes metadata in order while the lease lives, and reads it back past the page cache', async (t) => {
    const disk = await findDisk();
    if (disk === null) return t.skip('LOUD SKIP: no directory with O_DIRECT; nothing about disk writes was tested');
    const { guard } = startGuard();
    t.after(() => guard.close());
    guard.extendLease(addon.bootTimeMs() + FAR_MS);
    const results = await guard.writeMetadata([
      { path: disk, offsetBytes: 0, bytes: block('one') },
      { path: '/nowhere/disk', offsetBytes: 0, bytes: block('x') },
      { path: disk, offsetBytes: 0, bytes: block('two') },
      { path: '/nowhere/disk', offsetBytes: 4096, bytes: block('y') },
      { path: disk, offsetBytes: 7, bytes: block('crooked') },
    ]);
    assert.deepEqual(
      results.map((result) => result.error?.code ?? null),
      [null, 'ENOENT', null, 'ECANCELED', 'EINVAL'],
    );
    const seen = await addon.readDirect(disk, 0, 8192);
    assert.equal(seen.length, 8192);
    assert.deepEqual(seen.subarray(0, 4096), block('two'));
    assert.deepEqual(addon.deviceSize(disk), { sizeSectors: 128, logicalBlockBytes: 512 });
    await guard.releaseDevice(disk);
    guard.endLease();
    const late = await guard.writeMetadata([{ path: disk, offsetBytes: 0, bytes: block('late') }]);
    assert.equal(late[0]?.error?.code, 'ELEASE');
    assert.deepEqual(await addon.readDirect(disk, 0, 4096), block('two'));
  });

  test('what was asked for under one lease is not written under the next', async (t) => {
    const disk = await findDisk();
    if (disk === null) return t.skip('LOUD SKIP: no directory with O_DIRECT; nothing about disk writes was tested');
    const { guard } = startGuard();
    t.after(() => guard.close());
    guard.extendLease(addon.bootTimeMs() + FAR_MS);
    const asked = guard.writeMetadata(
      Array.from({ length: 16 }, (_, index) => ({
        path: disk,
        offsetBytes: index * 4096,
        bytes: block('under the first'),
      })),
    );
    guard.endLease();
    guard.extendLease(addon.bootTimeMs() + FAR_MS);
    assert.equal((await asked).at(-1)?.error?.code, 'ELEASE');
    const [next] = await guard.writeMetadata([{ path: disk, offsetBytes: 61440, bytes: block('under the second') }]);
    assert.equal(next?.error, null);
    assert.deepEqual(await addon.readDirect(disk, 61440, 4096), block('under the second'));
  });
});

describe('files', () => {
  test('reads many at once, null for what is missing', () => {
    const directory = fakeMd('md2');
    assert.deepEqual(addon.readFiles([join(directory, 'array_state'), join(directory, 'nope'), directory]), [
      'active',
      null,
      null,
    ]);
  });

  test('a store that fails names path, value and cause', async () => {
    await assert.rejects(addon.writeFile(join(scratch, 'nope'), 'frozen'), (error) => {
      assert.ok(withCode('ENOENT')(error));
      assert.match(String(error), /nope.*"frozen".*ENOENT/);
      return true;
    });
  });

  test('the watcher hears events of a real kernel file and can be closed twice', async (t) => {
    // /proc/self/mounts answers POLLPRI as /proc/mdstat does, but changes only with a mount: add, remove, close are tried here.
    const heard: string[] = [];
    const watcher = addon.watch(['/proc/self/mounts', '/nope'], (paths) => heard.push(...paths));
    t.after(() => watcher.close());
    assert.deepEqual(watcher.add(['/nope', '/proc/self/mounts']), ['/nope']);
    watcher.remove(['/proc/self/mounts']);
    watcher.close();
    assert.deepEqual(heard, []);
  });
});

describe('the process', () => {
  test('ends by itself with a guard and a watcher still running, and says why an addon cannot be loaded', () => {
    const program = join(scratch, 'ends.ts');
    const native = new URL('../../src/md/native.ts', import.meta.url).href;
    writeFileSync(program, `import { loadNative } from ${JSON.stringify(native)};\n`);
    appendFileSync(program, `const addon = loadNative();\nconst guard = addon.startGuard(() => {});\n`);
    appendFileSync(
      program,
      `guard.extendGrant(addon.bootTimeMs() + 300000);\naddon.watch(['/proc/self/mounts'], () => {});\n`,
    );
    const ended = spawnSync(process.execPath, [program], { encoding: 'utf8', timeout: 30_000 });
    assert.equal(ended.status, 0, ended.stderr);

    const broken = join(scratch, 'broken.node');
    writeFileSync(broken, 'not an object file');
    for (const path of [broken, join(scratch, 'missing.node')]) {
      const failed = spawnSync(process.execPath, [program], {
        encoding: 'utf8',
        env: { ...process.env, MDMESH_ADDON: path },
      });
      assert.equal(failed.status, 1);
      assert.ok(failed.stderr.includes(path) && failed.stderr.includes('make addon'), failed.stderr);
    }
  });
});

test('reservations: keys are 16 hexadecimal digits and never 0, and a file has none', async () => {
  const path = join(scratch, 'no-disk');
  writeFileSync(path, '');
  for (const key of ['', '0000000000000000', '6d64', '6D64000000010001', '0x00000000000001', '6d640000000100011']) {
    assert.throws(() => addon.registerKey(path, key), /16 hexadecimal digits/);
    assert.throws(() => addon.preemptAndAbort(path, '6d64000000010001', key), /16 hexadecimal digits/);
  }
  await assert.rejects(addon.readReservations(path), withCode('EOPNOTSUPP'));
  await assert.rejects(addon.registerKey(path, '6d64000000010001'), withCode('EOPNOTSUPP'));
  await assert.rejects(addon.confirmKey(path, '6d64000000010001'), withCode('EOPNOTSUPP'));
  await assert.rejects(addon.reserve(path, '6d64000000010001'), withCode('EOPNOTSUPP'));
  await assert.rejects(addon.preemptAndAbort(path, '6d64000000010001', '6d64000000020001'), withCode('EOPNOTSUPP'));
  await assert.rejects(addon.clearReservations(join(scratch, 'none'), '6d64000000010001'), withCode('ENOENT'));
});
