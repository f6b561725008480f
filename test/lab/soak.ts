/**
 * `make soak`: rounds of soak_rounds.ts, as many as wanted. The first that fails prints its story and ends the run. SEED and ROUNDS;
 * the same seed makes the same choices, though not the same moments of the kernels.
 */
import { labAvailable } from './lab.ts';
import { DEEDS, LONG, soak, UPSETS } from './soak_rounds.ts';

const seed = Number(process.env.SEED ?? Math.floor(Date.now() / 1000) % 1_000_000);
const rounds = Number(process.env.ROUNDS ?? DEEDS.length * UPSETS.length);

const available = labAvailable();
if (!available.ok) {
  process.stderr.write(`soak: ${available.why}\n`);
  process.exit(2);
}
process.stdout.write(`soak: SEED=${seed} ROUNDS=${rounds}\n`);
try {
  await soak({ seed, rounds, name: 'soak', sizes: LONG }, (line) => process.stdout.write(`${line}\n`));
  process.stdout.write(`soak: ${rounds} rounds of SEED=${seed} passed\n`);
} catch (error) {
  process.stdout.write(`soak: FAILED: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
}
