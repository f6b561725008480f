/** An array that the cluster has no more: what its commit does to those who have it, and to what comes after it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ArrayRecord } from '#src/arrays/record.ts';
import { Landmarks } from '#src/journal/landmarks.ts';
import { ARRAY, LocalNode, md, mirror, newer } from './arrays_fixture.ts';
import { commit, seal } from './journal_sample.ts';

const ended = (record: ArrayRecord): ArrayRecord => newer(record, { givenBack: true });

test('what md has, or is about to have, of an array that is given back is stopped before the array is forgotten', () => {
  const record = mirror({ writers: [] });
  const node = new LocalNode(record, null);
  const doing = (): string | undefined => node.busy?.op;
  assert.equal(doing(), 'assemble');
  const stop = newer(record, { run: 'stopped' });
  node.feed({ type: 'commit', record: stop, forgotten: false });
  node.feed({ type: 'commit', record: ended(stop), forgotten: true });
  assert.ok(node.state.arrays.has(ARRAY), 'it is being assembled');
  // One after the other, as for any array that is stopped: held, then stopped.
  for (let looks = 0; doing() !== 'stop'; looks++) {
    assert.ok(looks < 5, `never stopped: ${doing()}`);
    node.ended(md({ held: doing() === 'hold' }));
  }
  assert.ok(node.state.arrays.has(ARRAY));
  node.feed({ type: 'observed', array: ARRAY, observation: null });
  assert.ok(node.state.arrays.has(ARRAY), 'the stop has not returned');
  const { busy: op } = node;
  assert.ok(op !== null);
  node.feed({ type: 'done', array: ARRAY, op, error: null });
  assert.ok(!node.state.arrays.has(ARRAY));
});

test('a journal that hears of the end first, and of what came before it later, does not bring the array back', () => {
  const landmarks = new Landmarks();
  const note = (index: number, kind?: 'release'): void => {
    const event = commit(1, 1, index, index);
    if (kind !== undefined && event.body.type === 'commit') event.body.kind = kind;
    landmarks.note(event, seal(event));
  };
  note(1);
  assert.equal(landmarks.all().length, 1);
  note(3, 'release');
  assert.equal(landmarks.all().length, 0);
  note(2);
  assert.equal(landmarks.all().length, 0);
  note(4);
  assert.equal(landmarks.all().length, 1, 'adopted again');
});
