/** What `make history` draws. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FAULTS, faultDrawer, setting } from '../lab/history_rounds.ts';

test('fourteen rounds have every fault twice, and one seed makes one run', () => {
  for (const seed of [1, 2, 3, 777]) {
    const draw = faultDrawer(seed);
    const rounds = Array.from({ length: 14 }, draw);
    const kinds = rounds.flat().map(({ kind }) => kind);
    for (const kind of FAULTS) assert.ok(kinds.filter((each) => each === kind).length >= 2, `${kind} of seed ${seed}`);
    for (const faults of rounds) assert.ok(faults.length >= 2 && faults.length <= 4);
    for (const { node, other } of rounds.flat()) {
      assert.ok([1, 2, 3].includes(node) && [1, 2, 3].includes(other) && node !== other);
    }
    const again = faultDrawer(seed);
    assert.deepEqual(rounds, Array.from({ length: 14 }, again));
  }
  assert.notDeepEqual(faultDrawer(1)(), faultDrawer(2)());
});

test('eight seeds in a row run with both policies for a lost path, with and without bitmaps, with patient and quick probes', () => {
  const settings = new Set([4, 5, 6, 7, 8, 9, 10, 11].map((seed) => JSON.stringify(setting(seed))));
  assert.equal(settings.size, 8);
});
