/** The laboratory's own fault is told from a fault of what it tests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stuckDisks } from '../lab/stuck_disks.ts';

/** Answers with what `inflight` and `stat` of its one disk say at each look. */
function guest(looks: { inFlight: number; completed: number }[]) {
  let look = 0;
  return {
    node: 2,
    running: true,
    readFile: (path: string): Promise<string> => {
      const at = looks[Math.min(Math.floor(look++ / 2), looks.length - 1)] ?? { inFlight: 0, completed: 0 };
      return Promise.resolve(
        path.endsWith('inflight')
          ? `       0        ${at.inFlight}\n`
          : `  5 0 0 0 ${at.completed} 0 0 0 0 0 0 0 0 0 0 3 0\n`,
      );
    },
  };
}

test('a disk with requests in flight that completes none is stuck; one that is idle or works is not', async () => {
  const stuck = { inFlight: 1, completed: 7 };
  const told = await stuckDisks([guest([stuck, stuck])], 1);
  assert.deepEqual(told, ['ubda of n2: 1 requests in flight, none completed in 4 s']);
  assert.deepEqual(await stuckDisks([guest([{ inFlight: 0, completed: 7 }])], 1), []);
  assert.deepEqual(await stuckDisks([guest([stuck, { inFlight: 1, completed: 8 }])], 1), []);
  assert.deepEqual(await stuckDisks([{ ...guest([stuck]), running: false }], 1), []);
});
