/**
 * `make sim-mutations`: each safety rule is switched off in turn, and seeds are run until a checker says so. The table goes into
 * docs/simulation.md, between its marks. SEEDS: how many are tried for each rule; ONLY: names of mutations; the
 * other rows stay.
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

const NOT_CAUGHT = '**NOT CAUGHT**';
const NOT_RUN = 'not run yet';

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

function row({ rule, removed }: Mutation, proof: Proof | undefined, before: string | undefined): string {
  if (proof === undefined) return before ?? `| ${rule} | ${removed} | ${NOT_RUN} | |`;
  if (proof.caught === null) return `| ${rule} | ${removed} | ${NOT_CAUGHT} in ${proof.tried} | |`;
  return `| ${rule} | ${removed} | ${proof.caught.seeds} | \`${proof.caught.checker}\` |`;
}

/** @param before what stands there: rows of rules that were not run now are kept */
function table(proofs: readonly Proof[], before: string): string {
  const rows = MUTATIONS.map((mutation) => {
    const known = before.split('\n').find((line) => line.startsWith(`| ${mutation.rule} | ${mutation.removed} |`));
    return row(
      mutation,
      proofs.find(({ mutation: { name } }) => name === mutation.name),
      known,
    );
  });
  const count = (word: string): number => rows.filter((line) => line.includes(word)).length;
  const [missed, left] = [count(NOT_CAUGHT), count(NOT_RUN)];
  return [
    BEGIN,
    `${rows.length - missed - left} of ${rows.length} rules are caught when they are switched off, ${missed} are not, ${left} were not run.`,
    '',
    '| rule | what was removed | seed that caught it | by the checker |',
    '| --- | --- | --- | --- |',
    ...rows,
    END,
  ].join('\n');
}

function writeTable(proofs: readonly Proof[]): void {
  const text = readFileSync(DOC, 'utf8');
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${DOC} has no place for the table: put ${BEGIN} and ${END} there`);
  writeFileSync(DOC, text.slice(0, begin) + table(proofs, text.slice(begin, end)) + text.slice(end + END.length));
}

async function main(): Promise<number> {
  const workers = availableParallelism();
  const only = process.env.ONLY ? process.env.ONLY.split(',') : null;
  const chosen = only === null ? MUTATIONS : MUTATIONS.filter(({ name }) => only.includes(name));
  const seeds = await soundSeeds(Number(process.env.SEEDS || 60), workers);
  process.stdout.write(`${seeds.length} seeds without a violation while all rules are in force\n`);
  const proofs: Proof[] = [];
  // Rules that have come into the list since.
  writeTable(proofs);
  for (const mutation of chosen) {
    const proof = await prove(mutation, seeds, workers);
    proofs.push(proof);
    const { caught, tried } = proof;
    const words = caught === null ? `NOT CAUGHT in ${tried} seeds` : `seed ${caught.seeds}: ${caught.checker}`;
    process.stdout.write(
      `${mutation.name.padEnd(28)} ${words}${caught === null ? '' : `: ${caught.text.split('\n')[0]}`}\n`,
    );
    // A run takes its time, and what was found stands if it is ended.
    writeTable(proofs);
  }
  return proofs.every(({ caught }) => caught !== null) ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main();
