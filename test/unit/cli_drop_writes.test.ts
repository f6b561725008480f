import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { dropAll } from '#src/cli/drop_writes.ts';
import { main } from '#src/cli/index.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';

/** A directory that looks like /sys/block to a reader: attribute files below each array. */
function sysBlock(t: TestContext): {
  root: string;
  array(md: string, attributes?: Record<string, string>): void;
  read(path: string): string;
} {
  const root = mkdtempSync(join(tmpdir(), 'mdmesh-sys-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  return {
    root,
    array(md, attributes = {}) {
      const usual = {
        size: '522240',
        'md/metadata_version': 'external:mdmesh',
        'md/array_state': 'active',
        'md/suspend_lo': '0',
        'md/suspend_hi': '0',
        'md/dev-ubda/state': 'in_sync',
        'md/dev-ubdb/state': 'in_sync',
      };
      for (const [name, value] of Object.entries({ ...usual, ...attributes })) {
        const path = join(root, md, name);
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, `${value}\n`);
      }
    },
    read: (path) => readFileSync(join(root, path), 'utf8').trim(),
  };
}

const untold = (map: string, message: string): Promise<void> => Promise.reject(new Error(`${map} is told ${message}`));

test('what is read is held after the writes, by the layer under each member that has one and has not failed', async (t) => {
  const sys = sysBlock(t);
  const layer = (name: string, uuid: string) => ({
    [`md/dev-${name}/state`]: name === 'dm-2' ? 'faulty' : 'in_sync',
    [`md/dev-${name}/block/dm/uuid`]: uuid,
    [`md/dev-${name}/block/slaves/sda/dev`]: '8:0',
  });
  sys.array('md0', {
    ...layer('dm-1', 'MDMESH-b'),
    ...layer('dm-2', 'MDMESH-c'),
    ...layer('dm-3', 'LVM-x'),
    'md/sync_action': 'resync',
  });
  const told: string[] = [];
  const drops = await dropAll(sys.root, 5000, async (map, message) => {
    told.push(`${map}: ${message}`, sys.read('md0/md/suspend_hi'), sys.read('md0/md/sync_action'));
  });
  assert.deepEqual(drops, [{ md: 'md0', held: true, text: 'writes are held' }]);
  const held = ['522240', 'frozen'];
  assert.deepEqual(told, [
    ...['mdmesh-b: queue_if_no_path', ...held],
    ...['mdmesh-b: disable_group 1', ...held],
    ...['mdmesh-b: fail_path 8:0', ...held],
  ]);

  sys.array('md1', layer('dm-4', 'MDMESH-d'));
  const refused = await dropAll(sys.root, 5000, untold);
  const text = refused.find(({ md }) => md === 'md1')?.text ?? '';
  assert.match(text, /^writes are held; reads are not held: mdmesh-d is told queue_if_no_path; fence this node$/);
  assert.ok(refused.every(({ held: isHeld }) => !isHeld));
});

test('an open array is suspended over its whole size, from a resync’s window too', async (t) => {
  const sys = sysBlock(t);
  sys.array('md0');
  sys.array('md1', { 'md/suspend_lo': '1000', 'md/suspend_hi': '2000', size: '4096' });
  const drops = await dropAll(sys.root, 5000, untold);
  assert.deepEqual(
    drops.map(({ md, held }) => [md, held]),
    [
      ['md0', true],
      ['md1', true],
    ],
  );
  assert.deepEqual([sys.read('md0/md/suspend_lo'), sys.read('md0/md/suspend_hi')], ['0', '522240']);
  assert.deepEqual([sys.read('md1/md/suspend_lo'), sys.read('md1/md/suspend_hi')], ['0', '4096']);
});

test('a closed gate holds the writes already: a suspend under it would never return, so none is tried', async (t) => {
  const sys = sysBlock(t);
  sys.array('md0', { 'md/array_state': 'write-pending' });
  sys.array('md1', { 'md/dev-ubdb/state': 'faulty,blocked' });
  const drops = await dropAll(sys.root, 5000, untold);
  assert.ok(drops.every(({ held, text }) => held && text.includes('gate')));
  assert.equal(drops.length, 2);
  assert.equal(sys.read('md0/md/suspend_hi'), '0');
  assert.equal(sys.read('md1/md/suspend_hi'), '0');
});

test('arrays of others, arrays that are not started and other devices are left alone', async (t) => {
  const sys = sysBlock(t);
  sys.array('md0', { 'md/metadata_version': '1.2' });
  sys.array('md1', { 'md/metadata_version': 'external:imsm' });
  sys.array('md2', { 'md/array_state': 'inactive' });
  mkdirSync(join(sys.root, 'sda'));
  assert.deepEqual(await dropAll(sys.root, 5000, untold), []);
  assert.equal(sys.read('md0/md/suspend_hi'), '0');
});

test('a store that hangs in the kernel is given up in time, said, and does not keep the other arrays', async (t) => {
  const sys = sysBlock(t);
  sys.array('md0', { 'md/suspend_lo': '1000' });
  sys.array('md1');
  // Nobody reads this pipe: opening it for writing waits, as a drain without an end does.
  const hanging = join(sys.root, 'md0/md/suspend_hi');
  rmSync(hanging);
  execFileSync('mkfifo', [hanging]);
  const drops = await dropAll(sys.root, 500, untold);
  // Lets the process that waits there go on to its end.
  closeSync(openSync(hanging, constants.O_RDWR | constants.O_NONBLOCK));
  assert.match(
    drops.find(({ md }) => md === 'md0')?.text ?? '',
    /suspend_hi = 522240: did not return within .* fence this node/,
  );
  assert.equal(drops.find(({ md }) => md === 'md0')?.held, false);
  assert.equal(sys.read('md1/md/suspend_hi'), '522240');
});

test('the command says what it did, and is 1 when an array could not be held', async (t) => {
  const sys = sysBlock(t);
  sys.array('md0');
  sys.array('md1', { size: '0' });
  const terminal = new FakeTerminal();
  assert.equal(await main(['drop-writes', '--sys-block', sys.root], terminal), 1);
  assert.equal(terminal.written, 'md0: writes are held\n');
  assert.match(terminal.complained, /^mdmesh: drop-writes: md1: size 0 is no number of sectors/);
});
