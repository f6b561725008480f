/**
 * `make sim-mutations`: each safety rule is switched off in turn, and seeds are run until a checker says so. The table goes into
 * docs/simulation.md, between its marks. SEEDS: how many are tried for each rule; ONLY: names of mutations; the
 * other rows stay.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { runCampaign } from './campaign.ts';
import { runComings } from './comings.ts';
import { MUTATIONS, type Mutation } from './mutations.ts';
import { signQuickly } from './quick_signatures.ts';
import { campaigns, GOES_ON, type Job } from './workers.ts';

export const DOC = join(import.meta.dirname, '../../docs/simulation.md');
export const BEGIN = '<!-- made by `make sim-mutations`: begin -->';
export const END = '<!-- made by `make sim-mutations`: end -->';

/** Short and hard: what matters is how many faults meet. */
const HOUR_MS = 3_600_000;
const HOURS = 0.02;
const FAULTS_EVERY_MS = 2000;
/** Of the processor; a seed takes a second or two. */
const SEED_WITHIN_MS = 25_000;

const NOT_CAUGHT = '**NOT CAUGHT**';
const COVERED = 'covered';
const NOT_RUN = 'not run yet';

interface Caught {
  seed: number;
  checker: string;
  text: string;
  /** Of the cluster's time; 0: it was no checker. */
  atMs: number;
}

interface Proof {
  mutation: Mutation;
  /** null: no seed of those that were tried. */
  caught: Caught | null;
  tried: number;
}

/** Most wrongs are seen at once: only some show when all faults are over. */
function jobOf(
  seed: number,
  { aim, calm = false, everyMs, setting = {}, nodes, comings = false }: Mutation,
): Job & { hours: number; calm: boolean } {
  const [hours, faultsEveryMs] = everyMs === undefined ? [HOURS, FAULTS_EVERY_MS] : [2 * HOURS, everyMs];
  const job = {
    seed,
    hours,
    faultsEveryMs,
    // Whether disks can be used again shows in the end alone.
    calm: calm || comings,
    setting,
    transcript: false,
    ...(nodes !== undefined && { nodes }),
    ...(comings && { comings }),
  };
  return aim === undefined ? job : { ...job, faults: aim };
}

/** With all rules in force, as they are in this process, the same seed finds nothing until then; or it proves nothing. */
async function isSound({ seed, atMs }: Caught, mutation: Mutation): Promise<boolean> {
  const job = jobOf(seed, mutation);
  const hours = Math.min(job.hours, atMs === 0 ? job.hours : atMs / HOUR_MS);
  const run = mutation.comings === true ? runComings : runCampaign;
  const { violation } = await run({ ...job, hours, calm: job.calm && hours === job.hours });
  if (violation === null) return true;
  process.stdout.write(
    `seed ${seed} among ${amongOf(mutation)} proves nothing: ${violation.checker} with all rules in force: ${violation.text}\n`,
  );
  return false;
}

/** The first seed from this one on in which a checker says something. */
async function firstCaught(mutation: Mutation, from: number, seeds: number, workers: number): Promise<Caught | null> {
  const jobs = Array.from({ length: seeds - from + 1 }, (_, index) => jobOf(from + index, mutation));
  const options = { workers, mutation: mutation.name, seedWithinMs: SEED_WITHIN_MS };
  for await (const { seed, outcome } of campaigns(jobs, options))
    if (outcome.violation !== null) return { seed, ...outcome.violation };
  return null;
}

async function prove(mutation: Mutation, seeds: number, workers: number): Promise<Proof> {
  let weak: Caught | null = null;
  for (let from = 1; from <= seeds; ) {
    const caught = await firstCaught(mutation, from, seeds, workers);
    if (caught === null) break;
    if (await isSound(caught, mutation)) {
      if (caught.checker !== GOES_ON) return { mutation, tried: caught.seed, caught };
      // That it goes round for ever says little of what the rule is there for.
      weak ??= caught;
    }
    from = caught.seed + 1;
  }
  return { mutation, tried: seeds, caught: weak };
}

function amongOf({ aim, comings }: Mutation): string {
  return aim?.join(', ') ?? (comings === true ? 'all, as arrays come and go' : 'all');
}

function begunBy({ rule, removed }: Mutation): string {
  return `| ${rule} | ${removed} |`;
}

function row(mutation: Mutation, proof: Proof | undefined, before: string | undefined): string {
  const begin = begunBy(mutation);
  if (proof === undefined) return before ?? `${begin} ${NOT_RUN} | | |`;
  const { caught, tried } = proof;
  if (caught !== null) return `${begin} ${caught.seed} | ${amongOf(mutation)} | \`${caught.checker}\` |`;
  if (mutation.covered !== undefined) return `${begin} ${COVERED} | | ${mutation.covered} |`;
  return `${begin} ${NOT_CAUGHT} in ${tried} | ${amongOf(mutation)} | |`;
}

/** @param before what stands there: rows of rules that were not run now are kept */
function table(proofs: readonly Proof[], before: string): string {
  const rows = MUTATIONS.map((mutation) => {
    const known = before.split('\n').find((line) => line.startsWith(begunBy(mutation)));
    return row(
      mutation,
      proofs.find(({ mutation: { name } }) => name === mutation.name),
      known,
    );
  });
  const count = (word: string): number => rows.filter((line) => line.includes(word)).length;
  const [missed, covered, left] = [count(NOT_CAUGHT), count(`| ${COVERED} |`), count(NOT_RUN)];
  const caught = rows.length - missed - covered - left;
  const sum = [
    `${caught} of ${rows.length} rules are caught when they are switched off`,
    `${covered} are covered by others`,
    `${missed} are not caught`,
    ...(left > 0 ? [`${left} were not run`] : []),
  ];
  return [
    BEGIN,
    `${sum.join(', ')}.`,
    '',
    '| rule | what was removed | seed that caught it | among the faults | by the checker |',
    '| --- | --- | --- | --- | --- |',
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
  signQuickly();
  const workers = Number(process.env.WORKERS || availableParallelism());
  const only = process.env.ONLY ? process.env.ONLY.split(',') : null;
  const chosen = only === null ? MUTATIONS : MUTATIONS.filter(({ name }) => only.includes(name));
  const seeds = Number(process.env.SEEDS || 12);
  const proofs: Proof[] = [];
  // Rules that have come into the list since.
  writeTable(proofs);
  for (const mutation of chosen) {
    const proof = await prove(mutation, seeds, workers);
    proofs.push(proof);
    const { caught, tried } = proof;
    const words = caught === null ? `NOT CAUGHT in ${tried} seeds` : `seed ${caught.seed}: ${caught.checker}`;
    process.stdout.write(
      `${mutation.name.padEnd(28)} ${words}${caught === null ? '' : `: ${caught.text.split('\n')[0]}`}\n`,
    );
    // A run takes its time, and what was found stands if it is ended.
    writeTable(proofs);
  }
  return proofs.every(({ caught, mutation }) => caught !== null || mutation.covered !== undefined) ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main();
