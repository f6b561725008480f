import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ArrayWatch } from '#src/md/real_watch.ts';

const MD = 'md_watched';
const STATE = `/sys/block/${MD}/md/array_state`;
const COMPLETED = `/sys/block/${MD}/md/sync_completed`;

/** An array whose files are these few words, and a kernel that tells of changes when the test says so. */
function watched() {
  const files = new Map([
    ['metadata_version', 'external:mdmesh'],
    ['level', 'raid1'],
    ['array_state', 'active'],
  ]);
  let readings = 0;
  let changed: (paths: string[]) => void = () => undefined;
  const watch = new ArrayWatch(
    {
      bootTimeMs: () => 1000,
      watch: (_paths, heard) => {
        changed = heard;
        return { add: () => [], remove: () => undefined, close: () => undefined };
      },
    },
    (paths) => {
      readings += 1;
      return paths.map((path) => files.get(path.split('/').at(-1) ?? '') ?? null);
    },
    () => 'direct',
  );
  const told: (string | undefined)[] = [];
  watch.listen((md) => told.push(watch.read(md)?.arrayState));
  return { watch, told, files, wake: (path = STATE) => changed([path]), readings: () => readings };
}

test('one turn of the loop reads an array once, however many ask; the next turn reads anew', async () => {
  const { watch, readings } = watched();
  watch.look(MD);
  const before = readings();
  watch.read(MD);
  await Promise.resolve();
  watch.read(MD);
  assert.equal(readings(), before, 'who asks after the look gets what it saw');
  await nextTurn();
  watch.read(MD);
  assert.equal(readings(), before + 1);
  watch.close();
});

test('the end of an operation never finds what was read before it', async () => {
  const { watch, files } = watched();
  watch.look(MD);
  files.set('array_state', 'write-pending');
  watch.look(MD);
  assert.equal(watch.read(MD)?.arrayState, 'write-pending');
  watch.close();
});

test('what the kernel tells right after a look is looked at later, once, and never lost', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { watch, told, files, wake } = watched();
  watch.look(MD);
  assert.deepEqual(told, ['active']);
  await nextTurn();
  files.set('array_state', 'write-pending');
  wake();
  wake();
  assert.deepEqual(told, ['active'], 'put off');
  t.mock.timers.tick(1000);
  assert.deepEqual(told, ['active', 'write-pending']);
  watch.close();
});

test('a copy that stands where it is to stop is told of at once, its way there soon', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { watch, told, files, wake } = watched();
  files.set('sync_action', 'recover').set('sync_max', '1024').set('sync_completed', '0 / 2048');
  watch.look(MD);
  await nextTurn();
  files.set('sync_completed', '512 / 2048');
  wake(COMPLETED);
  assert.equal(told.length, 1, 'put off');
  files.set('sync_completed', '1024 / 2048');
  wake(COMPLETED);
  assert.equal(told.length, 2, 'it stands');
  t.mock.timers.tick(1000);
  assert.equal(told.length, 3, 'what was put off is not lost either');
  files.set('sync_completed', 'none');
  wake(COMPLETED);
  assert.equal(told.length, 4, 'it is over');
  watch.close();
});
