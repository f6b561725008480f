/** A dozen rounds of `make soak`, of one seed, on small disks: every kind of deed and of upset is among them. */
import { test } from 'node:test';
import { labAvailable } from './lab.ts';
import { type Sizes, soak } from './soak_rounds.ts';

const SHORT: Sizes = { diskMib: 24, regionBlocks: 1700, limitKib: 12 * 1024, afterMs: 800, lengthMs: [500, 1500] };

const available = labAvailable();

test('a dozen rounds of failures', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await soak({ seed: 12, rounds: 12, name: 'soak-dozen', sizes: SHORT }, (line) => t.diagnostic(line));
});
