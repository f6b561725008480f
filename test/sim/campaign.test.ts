/** A few seeds of the campaign that `make sim-night` runs by the thousand, and the proof that it is the seed that decides. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCampaign, type Setting } from './campaign.ts';
import { runComings } from './comings.ts';
import { editsOf, mutated } from './mutate.ts';
import { MUTATIONS } from './mutations.ts';
import { DOC } from './prove_mutations.ts';
import { signQuickly } from './quick_signatures.ts';
import { seedsIn } from './run.ts';
import { campaigns } from './workers.ts';

signQuickly();

const seeds = seedsIn(process.env.MDMESH_SIM_SEEDS ?? '1-4');
const HOURS = 0.02;

for (const seed of seeds) {
  test(`seed ${seed}: a cluster among faults breaks no rule, and is whole when they are over`, async () => {
    const { violation, acknowledged, faults } = await runCampaign({ seed, hours: HOURS });
    assert.equal(violation, null, `make sim SEED=${seed} HOURS=${HOURS}`);
    assert.ok(acknowledged > 0 && faults > 0, `${acknowledged} writes, ${faults} faults`);
  });
}

/** A seed of each other campaign; the first three have found something once. */
const OTHERS: [string, number, Setting, number?][] = [
  ['QUORUM=disks NODES=2', 1334, { quorum: 'disks' }, 2],
  ['ARRAYS=2 QUORUM=disks FENCING=reservation NODES=2', 58, { arrays: 2, quorum: 'disks', fencing: 'reservation' }, 2],
  ['LEVEL=raid5', 531, { level: 'raid5' }],
  ['LEVEL=raid10', 401, { level: 'raid10' }],
  ['ACCESS=exclusive', 211, { access: 'exclusive' }],
];

for (const [words, seed, setting, nodes] of OTHERS) {
  test(`${words}, seed ${seed}: a cluster among faults breaks no rule, and is whole when they are over`, async () => {
    const { violation, faults } = await runCampaign({
      seed,
      hours: HOURS,
      faultsEveryMs: 3000,
      setting,
      ...(nodes && { nodes }),
    });
    assert.equal(violation, null, `make sim ${words} SEED=${seed} HOURS=${HOURS} EVERY=3000`);
    assert.ok(faults > 10, `${faults} faults`);
  });
}

/** Stories that come by their names alone. */
const NAMED: [string, number, Setting, number?][] = [
  ['cut off before it is let in', 6, { legs: 3, bitmap: false }],
  ['looks for a disk for longer than it leads', 6, { fencing: 'command' }],
  ['who copies, and is no writer', 18, { fencing: 'command', bitmap: false }, 5],
];

for (const [name, seed, setting, nodes] of NAMED) {
  test(`${name}, seed ${seed}: no rule is broken, and the cluster is whole when it is over`, async () => {
    const { violation, faults } = await runCampaign({
      seed,
      hours: HOURS,
      faultsEveryMs: 20_000,
      faults: [name],
      setting,
      ...(nodes && { nodes }),
    });
    assert.equal(violation, null, `make sim FAULTS='${name}' SEED=${seed} HOURS=${HOURS} EVERY=20000`);
    assert.ok(faults > 0, `${faults} faults`);
  });
}

/** Likewise, where arrays come and go. */
const NAMED_COMINGS = ['away until the array is given back', 'comes as another is made'];

for (const name of NAMED_COMINGS) {
  test(`${name}: nothing is left over, and the disks can be used again`, async () => {
    const { violation, faults } = await runComings({
      seed: 9,
      nodes: 4,
      hours: 2 * HOURS,
      faultsEveryMs: 15_000,
      faults: [name],
      setting: { fencing: 'reservation' },
    });
    assert.equal(violation, null, `make sim COMINGS=1 FAULTS='${name}' SEED=9 NODES=4 HOURS=${2 * HOURS} EVERY=15000`);
    assert.ok(faults > 0, `${faults} faults`);
  });
}

/** A second each. Of these the first five have found something once, each something else. */
const COMINGS = [1, 106, 162, 387, 501, 2, 3, 4, 5, 6, 7, 8];

test('arrays come and go among faults: what was granted is so, nothing is lost, and the disks can be used again', async () => {
  for (const seed of COMINGS) {
    const { violation, faults } = await runComings({ seed, hours: HOURS, faultsEveryMs: 2000 });
    assert.equal(violation, null, `make sim COMINGS=1 SEED=${seed} HOURS=${HOURS} EVERY=2000`);
    assert.ok(faults > 10, `${faults} faults`);
  }
});

test('a seed is replayed to the last word', async () => {
  const [first, second] = [await runCampaign({ seed: 3, hours: 0.005 }), await runCampaign({ seed: 3, hours: 0.005 })];
  assert.equal(first.transcript, second.transcript);
});

test('a rule that is switched off is caught, by the checker whose rule it is', async () => {
  const checkers: string[] = [];
  for await (const { outcome } of campaigns([{ seed: 1, hours: HOURS, transcript: false }], {
    workers: 1,
    mutation: 'window-held-by-all',
  })) {
    checkers.push(outcome.violation?.checker ?? 'none');
  }
  assert.deepEqual(checkers, ['suspendBeforeSync']);
});

test('each mutation finds its fragment in the sources, once, and changes it', () => {
  assert.equal(new Set(MUTATIONS.map(({ name }) => name)).size, MUTATIONS.length);
  for (const mutation of MUTATIONS) {
    for (const edit of editsOf(mutation)) {
      const source = readFileSync(join(import.meta.dirname, '../..', edit.file), 'utf8');
      assert.notEqual(mutated(source, mutation.name, edit), source, mutation.name);
    }
  }
  assert.throws(() => mutated('something else', 'any', MUTATIONS[0] ?? assert.fail()), /stands 0 times/);
});

test('the table in the docs is of the rules that there are', () => {
  const text = readFileSync(DOC, 'utf8');
  for (const { name, rule } of MUTATIONS)
    assert.ok(text.includes(`| ${rule} |`), `make sim-mutations: ${name} is missing`);
});
