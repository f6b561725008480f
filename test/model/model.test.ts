/**
 * The models hold in small scopes; each rule that is taken out of them is missed; and what the real lease core does in its
 * transcripts is what the model allows, step by step. `make model` searches the larger scopes.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { check, replayer, whyNoChecker } from './checker.ts';
import { MUTATIONS, SCOPES } from './scopes.ts';

const why = whyNoChecker();
const skip = why === null ? false : `no model checker: ${why}`;

for (const { name, model, flags, quick } of SCOPES) {
  if (!quick) continue;
  test(`${model}: ${name}`, { skip }, async (t) => {
    const verdict = await check(model, flags, { optimize: true });
    assert.equal(verdict.violation, null, verdict.output);
    assert.ok(verdict.complete, verdict.output);
    t.diagnostic(`${verdict.states} states`);
  });
}

for (const { rule, model, flags, quick } of MUTATIONS) {
  if (!quick) continue;
  test(`${model} without the rule: ${rule}`, { skip }, async () => {
    const { violation } = await check(model, flags);
    assert.match(violation ?? 'nothing was found', /^assertion violated/);
  });
}

/** A vote of a node that is there twice, made up by the story itself. */
const FORGED = '5 two nodes with one ID are one vote';

test('what the real core does in its transcripts, the model allows; and what it did not do, the model refuses', {
  skip,
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'mdmesh-model-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const files = ['stories', 'safety'].map((name) => join(import.meta.dirname, `../transcripts/${name}.test.ts`));
  const env = { ...process.env, MDMESH_MODEL_RUNS: dir, SEEDS: '3', NODE_TEST_CONTEXT: undefined };
  const made = spawnSync(process.execPath, ['--test', ...files], { env, encoding: 'utf8' });
  assert.equal(made.status, 0, made.stdout);
  const runs = readdirSync(dir);
  assert.ok(runs.length > 20, runs.join('\n'));
  const allows = new Map(
    await Promise.all([2, 3, 4, 5].map(async (nodes) => [String(nodes), await replayer(nodes)] as const)),
  );
  for (const run of runs) {
    const verdict = await allows.get(run.slice(0, 1))?.(join(dir, run));
    if (run === FORGED) assert.notEqual(verdict, 'allowed', run);
    else assert.equal(verdict, 'allowed', run);
  }
  // Without any one step of these kinds the rest is impossible, or its end another.
  const falsified = join(dir, 'falsified');
  const steps = { 'the master is killed': 'acdfhis', 'a killed master is shut out': 'x' };
  for (const [run, letter] of Object.entries(steps).flatMap(([name, letters]) => [...letters].map((l) => [name, l]))) {
    const whole = readFileSync(join(dir, `3 ${run}`), 'utf8').split('\n');
    const at = whole.findIndex((line) => line.startsWith(`${letter} `));
    assert.ok(at >= 0, letter);
    writeFileSync(falsified, whole.toSpliced(at, 1).join('\n'));
    assert.notEqual(await allows.get('3')?.(falsified), 'allowed', `without ${whole[at]}`);
  }
});
