/** What the soak draws. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEEDS, drawer, LONG, UPSETS } from '../lab/soak_rounds.ts';

test('a dozen rounds have every deed and every upset, and the default number of them every pair', () => {
  for (const seed of [1, 2, 12, 777]) {
    const draw = drawer(seed, LONG);
    const rounds = Array.from({ length: DEEDS.length * UPSETS.length }, draw);
    const dozen = rounds.slice(0, 12);
    assert.equal(new Set(dozen.map(({ deed }) => deed)).size, DEEDS.length);
    assert.equal(new Set(dozen.map(({ upset }) => upset)).size, UPSETS.length);
    assert.equal(new Set(rounds.map(({ deed, upset }) => `${deed} ${upset}`)).size, rounds.length);
    const again = drawer(seed, LONG);
    assert.deepEqual(rounds[0], again(), 'one seed, one run');
  }
  assert.notDeepEqual(drawer(1, LONG)(), drawer(2, LONG)());
});
