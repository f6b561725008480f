/**
 * `make sim` and `make sim-night`: campaigns over seeds, and what came of them.
 * SEED: one, a list or a range (7, 3,5, 1-100); NODES; HOURS of each; FAULTS: words of their names, the others stay away; EVERY: ms between
 * two of them, about; FENCING; QUORUM=disks; ACCESS=exclusive; LEVEL=raid10 or raid5; ARRAYS=2; COMINGS=1: arrays come and go (comings.ts); WORKERS; FIRST=1: ends at the first violation.
 */
import { availableParallelism } from 'node:os';
import { campaigns, type Job, type Result } from './workers.ts';

const HOUR_MS = 3_600_000;
const TELL_EVERY_MS = 10_000;

/** @throws on what is no number, list or range */
export function seedsIn(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [, from, to] = /^(\d+)(?:-(\d+))?$/.exec(part.trim()) ?? [];
    if (from === undefined) throw new Error(`SEED=${text}: ${part} is neither a seed nor a range; use 7, 3,5 or 1-100`);
    const first = Number(from);
    return Array.from({ length: Number(to ?? from) - first + 1 }, (_, index) => first + index);
  });
}

function numberIn(name: string): number | undefined {
  const text = process.env[name];
  if (text === undefined || text === '') return undefined;
  const value = Number(text);
  if (!(value > 0)) throw new Error(`${name}=${text}: a number greater than 0 is wanted`);
  return value;
}

/** @throws on any other word */
function wordIn<Word extends string>(name: string, known: readonly Word[]): Word | undefined {
  const asked = process.env[name];
  const word = known.find((each) => each === asked);
  if (asked && word === undefined) throw new Error(`${name}=${asked}: choose from ${known.join(', ')}`);
  return word;
}

function tellViolation({ seed, outcome, file }: Result, job: Omit<Job, 'seed' | 'transcript'>): void {
  const { violation } = outcome;
  if (violation === null) return;
  const more = [
    `SEED=${seed}`,
    ...(job.nodes ? [`NODES=${job.nodes}`] : []),
    ...(job.hours ? [`HOURS=${job.hours}`] : []),
    ...(job.faults ? [`FAULTS='${job.faults.join()}'`] : []),
    ...(job.faultsEveryMs ? [`EVERY=${job.faultsEveryMs}`] : []),
    ...(job.setting?.fencing ? [`FENCING=${job.setting.fencing}`] : []),
    ...(job.setting?.quorum ? [`QUORUM=${job.setting.quorum}`] : []),
    ...(job.setting?.access ? [`ACCESS=${job.setting.access}`] : []),
    ...(job.setting?.level ? [`LEVEL=${job.setting.level}`] : []),
    ...(job.setting?.arrays ? [`ARRAYS=${job.setting.arrays}`] : []),
    ...(job.comings ? ['COMINGS=1'] : []),
  ];
  process.stdout.write(
    `\nseed ${seed}: ${violation.checker}, ${(violation.atMs / 1000).toFixed(3)} s after its begin:\n  ${violation.text.split('\n').join('\n  ')}\n` +
      `  again: make sim ${more.join(' ')}\n${file === null ? '' : `  transcript: ${file}\n`}\n`,
  );
}

async function main(): Promise<number> {
  const seeds = seedsIn(process.env.SEED || '1');
  const [nodes, hours] = [numberIn('NODES'), numberIn('HOURS')];
  const faults = process.env.FAULTS ? process.env.FAULTS.split(',') : undefined;
  const everyMs = numberIn('EVERY');
  const fencing = wordIn('FENCING', ['command', 'watchdog', 'reservation']);
  const quorum = wordIn('QUORUM', ['nodes', 'disks']);
  const access = wordIn('ACCESS', ['shared', 'exclusive']);
  const level = wordIn('LEVEL', ['raid1', 'raid10', 'raid5']);
  const arrays = wordIn('ARRAYS', ['2']);
  const setting = {
    ...(arrays && { arrays: 2 as const }),
    ...(fencing && { fencing }),
    ...(quorum && { quorum }),
    ...(access && { access }),
    ...(level && { level }),
  };
  const job = {
    ...(nodes && { nodes }),
    ...(hours && { hours }),
    ...(faults && { faults }),
    ...(everyMs && { faultsEveryMs: everyMs }),
    setting,
    ...(process.env.COMINGS && { comings: true }),
  };
  const workers = Math.min(numberIn('WORKERS') ?? availableParallelism(), seeds.length);
  const begunMs = performance.now();
  const sum = { seeds: 0, simulatedMs: 0, acknowledged: 0, reads: 0, commits: 0, faults: 0, violations: 0 };
  const now = new Map<number, number>();
  let toldMs = begunMs;
  const rate = (): string => {
    const underway = [...now.values()].reduce((all, ms) => all + ms, 0);
    return (((sum.simulatedMs + underway) / (performance.now() - begunMs)) | 0).toString();
  };
  const tell = (): void => {
    if (performance.now() - toldMs < TELL_EVERY_MS) return;
    toldMs = performance.now();
    const each = [...now].map(([seed, ms]) => `seed ${seed} at ${(ms / HOUR_MS).toFixed(3)} h`).join(', ');
    process.stdout.write(
      `${sum.seeds} of ${seeds.length} seeds, ${sum.violations} violations, ${rate()} cluster-hours an hour; ${each}\n`,
    );
  };
  const jobs = seeds.map((seed) => ({ ...job, seed, transcript: true }));
  const onProgress = (seed: number, simulatedMs: number): void => {
    now.set(seed, simulatedMs);
    tell();
  };
  for await (const result of campaigns(jobs, {
    workers,
    onProgress,
    seedWithinMs: Math.max(300_000, (hours ?? 0) * HOUR_MS),
  })) {
    const { outcome } = result;
    now.delete(result.seed);
    sum.seeds += 1;
    for (const what of ['simulatedMs', 'acknowledged', 'reads', 'commits', 'faults'] as const)
      sum[what] += outcome[what];
    if (outcome.violation !== null) sum.violations += 1;
    tellViolation(result, job);
    tell();
    if (outcome.violation !== null && process.env.FIRST) break;
  }
  const wallMs = performance.now() - begunMs;
  process.stdout.write(
    [
      `seeds                ${sum.seeds}`,
      `violations           ${sum.violations}`,
      `cluster-hours        ${(sum.simulatedMs / HOUR_MS).toFixed(2)}`,
      `wall time            ${(wallMs / 60_000).toFixed(1)} min on ${workers} core${workers > 1 ? 's' : ''}`,
      `cluster-hours/hour   ${(sum.simulatedMs / wallMs).toFixed(0)}`,
      `faults               ${sum.faults}`,
      `commits              ${sum.commits}`,
      `writes acknowledged  ${sum.acknowledged}`,
      `reads checked        ${sum.reads}`,
      '',
    ].join('\n'),
  );
  return sum.violations === 0 ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main();
