/** A few seeds of the campaign that `make sim-night` runs by the thousand, and the proof that it is the seed that decides. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCampaign } from './campaign.ts';
import { mutated } from './mutate.ts';
import { MUTATIONS } from './mutations.ts';
import { DOC } from './prove_mutations.ts';
import { seedsIn } from './run.ts';
import { verifyOnce } from './verified_once.ts';
import { campaigns } from './workers.ts';

verifyOnce();

const seeds = seedsIn(process.env.MDMESH_SIM_SEEDS ?? '1-6');
const HOURS = 0.02;

for (const seed of seeds) {
  test(`seed ${seed}: a cluster among faults breaks no rule, and is whole when they are over`, async () => {
    const { violation, acknowledged, faults } = await runCampaign({ seed, hours: HOURS });
    assert.equal(violation, null, `make sim SEED=${seed} HOURS=${HOURS}`);
    assert.ok(acknowledged > 0 && faults > 0, `${acknowledged} writes, ${faults} faults`);
  });
}

test('a seed is replayed to the last word', async () => {
  const [first, second] = [await runCampaign({ seed: 3, hours: 0.01 }), await runCampaign({ seed: 3, hours: 0.01 })];
  assert.equal(first.transcript, second.transcript);
});

test('a rule that is switched off is caught, with the seed that caught it', async () => {
  const jobs = [1, 2, 3, 4].map((seed) => ({ seed, hours: HOURS, transcript: false }));
  const checkers: string[] = [];
  for await (const { outcome } of campaigns(jobs, { workers: 2, mutation: 'fencing-before-eviction' })) {
    if (outcome.violation !== null) checkers.push(outcome.violation.checker);
  }
  assert.ok(checkers.includes('evictedHasStopped'), checkers.join());
});

test('each mutation finds its fragment in the sources, once, and changes it', () => {
  assert.equal(new Set(MUTATIONS.map(({ name }) => name)).size, MUTATIONS.length);
  for (const mutation of MUTATIONS) {
    const source = readFileSync(join(import.meta.dirname, '../..', mutation.file), 'utf8');
    assert.notEqual(mutated(source, mutation), source, mutation.name);
  }
  assert.throws(() => mutated('something else', MUTATIONS[0] ?? assert.fail()), /stands 0 times/);
});

test('the table in the docs is of the rules that there are', () => {
  const text = readFileSync(DOC, 'utf8');
  for (const { name, rule } of MUTATIONS)
    assert.ok(text.includes(`| ${rule} |`), `make sim-mutations: ${name} is missing`);
});
