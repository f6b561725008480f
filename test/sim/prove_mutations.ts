/**
 * `make sim-mutations`: each safety rule is switched off in turn, and seeds are run until a checker says so. The table goes into
 * docs/simulation.md, between its marks. SEEDS: how many are tried for each rule; ONLY: names of mutations.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { MUTATIONS, type Mutation } from './mutations.ts';
import { campaigns, type Job } from './workers.ts';

export const DOC = join(import.meta.dirname, '../../docs/simulation.md');
export const BEGIN = '<!-- made by `make sim-mutations`: begin -->';
export const END = '<!-- made by `make sim-mutations`: end -->';

/** Short and hard: what matters is how many faults meet. */
const HOURS = 0.02;
const FAULTS_EVERY_MS = 2500;

interface Proof {
  mutation: Mutation;
  /** null: no seed of those that were tried. */
  caught: { seeds: number; checker: string; text: string } | null;
  tried: number;
}

async function prove(mutation: Mutation, seeds: number, workers: number): Promise<Proof> {
  const each = { hours: HOURS, faultsEveryMs: FAULTS_EVERY_MS, transcript: false };
  const jobs = Array.from({ length: seeds }, (_, index): Job => ({ ...each, seed: index + 1 }));
  let tried = 0;
  for await (const { seed, outcome } of campaigns(jobs, { workers, mutation: mutation.name, seedWithinMs: 60_000 })) {
    tried += 1;
    const { violation } = outcome;
    if (violation === null) continue;
    return { mutation, tried, caught: { seeds: seed, checker: violation.checker, text: violation.text } };
  }
  return { mutation, tried, caught: null };
}

function row({ mutation, caught, tried }: Proof): string {
  const { rule, removed } = mutation;
  if (caught === null) return `| ${rule} | ${removed} | **NOT CAUGHT** in ${tried} | |`;
  return `| ${rule} | ${removed} | ${caught.seeds} | \`${caught.checker}\` |`;
}

function table(proofs: readonly Proof[]): string {
  const caught = proofs.filter((proof) => proof.caught !== null).length;
  return [
    BEGIN,
    `${caught} of ${proofs.length} rules are caught when they are switched off.`,
    '',
    '| rule | what was removed | seed that caught it | by the checker |',
    '| --- | --- | --- | --- |',
    ...proofs.map(row),
    END,
  ].join('\n');
}

async function main(): Promise<number> {
  const seeds = Number(process.env.SEEDS || 60);
  const only = process.env.ONLY ? process.env.ONLY.split(',') : null;
  const chosen = MUTATIONS.filter(({ name }) => only === null || only.includes(name));
  const proofs: Proof[] = [];
  for (const mutation of chosen) {
    const proof = await prove(mutation, seeds, availableParallelism());
    proofs.push(proof);
    const { caught, tried } = proof;
    const words = caught === null ? `NOT CAUGHT in ${tried} seeds` : `seed ${caught.seeds}: ${caught.checker}`;
    process.stdout.write(
      `${mutation.name.padEnd(28)} ${words}${caught === null ? '' : `: ${caught.text.split('\n')[0]}`}\n`,
    );
  }
  if (only === null) {
    const text = readFileSync(DOC, 'utf8');
    const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
    if (begin < 0 || end < begin) throw new Error(`${DOC} has no place for the table: put ${BEGIN} and ${END} there`);
    writeFileSync(DOC, text.slice(0, begin) + table(proofs) + text.slice(end + END.length));
  }
  return proofs.every(({ caught }) => caught !== null) ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main();
