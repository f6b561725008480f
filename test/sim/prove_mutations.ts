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
const HOURS = 0.01;
const FAULTS_EVERY_MS = 1500;

interface Proof {
  mutation: Mutation;
  /** null: no seed of those that were tried. */
  caught: { seeds: number; checker: string; text: string } | null;
  tried: number;
}

/** With all rules in force nothing may be found; a seed that finds something proves nothing. @returns seeds without a violation */
async function soundSeeds(seeds: number, workers: number): Promise<number[]> {
  const sound: number[] = [];
  for await (const { seed, outcome } of campaigns(jobsFor(numbered(seeds)), { workers })) {
    const { violation } = outcome;
    if (violation === null) sound.push(seed);
    else
      process.stdout.write(
        `seed ${seed} is left out: ${violation.checker} with all rules in force: ${violation.text}\n`,
      );
  }
  return sound.sort((a, b) => a - b);
}

function numbered(seeds: number): number[] {
  return Array.from({ length: seeds }, (_, index) => index + 1);
}

function jobsFor(seeds: readonly number[]): Job[] {
  return seeds.map((seed) => ({ seed, hours: HOURS, faultsEveryMs: FAULTS_EVERY_MS, transcript: false }));
}

async function prove(mutation: Mutation, seeds: readonly number[], workers: number): Promise<Proof> {
  let tried = 0;
  for await (const { seed, outcome } of campaigns(jobsFor(seeds), { workers, mutation: mutation.name })) {
    tried += 1;
    const { violation } = outcome;
    if (violation === null) continue;
    return { mutation, tried, caught: { seeds: seed, checker: violation.checker, text: violation.text } };
  }
  return { mutation, tried, caught: null };
}

function row({ rule, removed }: Mutation, proof: Proof | undefined): string {
  if (proof === undefined) return `| ${rule} | ${removed} | not run yet | |`;
  if (proof.caught === null) return `| ${rule} | ${removed} | **NOT CAUGHT** in ${proof.tried} | |`;
  return `| ${rule} | ${removed} | ${proof.caught.seeds} | \`${proof.caught.checker}\` |`;
}

function table(proofs: readonly Proof[]): string {
  const caught = proofs.filter((proof) => proof.caught !== null).length;
  const proofOf = ({ name }: Mutation) => proofs.find(({ mutation }) => mutation.name === name);
  return [
    BEGIN,
    `${caught} of ${MUTATIONS.length} rules are caught when they are switched off; ${proofs.length - caught} were not caught, ${MUTATIONS.length - proofs.length} not run yet.`,
    '',
    '| rule | what was removed | seed that caught it | by the checker |',
    '| --- | --- | --- | --- |',
    ...MUTATIONS.map((mutation) => row(mutation, proofOf(mutation))),
    END,
  ].join('\n');
}

function writeTable(proofs: readonly Proof[]): void {
  const text = readFileSync(DOC, 'utf8');
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${DOC} has no place for the table: put ${BEGIN} and ${END} there`);
  writeFileSync(DOC, text.slice(0, begin) + table(proofs) + text.slice(end + END.length));
}

async function main(): Promise<number> {
  const workers = availableParallelism();
  const only = process.env.ONLY ? process.env.ONLY.split(',') : null;
  const chosen = MUTATIONS.filter(({ name }) => only === null || only.includes(name));
  const seeds = await soundSeeds(Number(process.env.SEEDS || 60), workers);
  process.stdout.write(`${seeds.length} seeds without a violation while all rules are in force\n`);
  const proofs: Proof[] = [];
  for (const mutation of chosen) {
    const proof = await prove(mutation, seeds, workers);
    proofs.push(proof);
    const { caught, tried } = proof;
    const words = caught === null ? `NOT CAUGHT in ${tried} seeds` : `seed ${caught.seeds}: ${caught.checker}`;
    process.stdout.write(
      `${mutation.name.padEnd(28)} ${words}${caught === null ? '' : `: ${caught.text.split('\n')[0]}`}\n`,
    );
    // A run takes its time, and what was found stands if it is ended.
    if (only === null) writeTable(proofs);
  }
  return proofs.every(({ caught }) => caught !== null) ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main();
