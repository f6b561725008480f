/**
 * `make history`: rounds of history_rounds.ts, as many as wanted. The first in which a reading was wrong, or the cluster did not come
 * back, prints its story and ends the run. SEED and ROUNDS; the same seed makes the same faults, though not the same moments of the kernels.
 */
import { history } from './history_rounds.ts';
import { labAvailable } from './lab.ts';

const seed = Number(process.env.SEED ?? Math.floor(Date.now() / 1000) % 1_000_000);
const rounds = Number(process.env.ROUNDS ?? 20);

const available = labAvailable();
if (!available.ok) {
  process.stderr.write(`history: ${available.why}\n`);
  process.exit(2);
}
process.stdout.write(`history: SEED=${seed} ROUNDS=${rounds}\n`);
try {
  await history({ seed, rounds, name: 'history' }, (line) => process.stdout.write(`${line}\n`));
  process.stdout.write(`history: ${rounds} rounds of SEED=${seed} passed\n`);
} catch (error) {
  process.stdout.write(`history: FAILED: ${error instanceof Error ? error.message : error}\n`);
  process.stdout.write(`again: make history SEED=${seed} ROUNDS=${rounds}\n`);
  process.exitCode = 1;
}
