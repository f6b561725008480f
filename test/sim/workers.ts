/** Campaigns on several cores: each worker is a process of its own, and takes the next seed when it is done with one. */
import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Outcome, Setting } from './campaign.ts';

const WORKER = join(import.meta.dirname, 'worker.ts');
const MUTATE = join(import.meta.dirname, 'mutate.ts');

const LOOK_EVERY_MS = 1000;
/** What is judged when a seed goes round for ever. */
export const GOES_ON = 'simulationGoesOn';

export interface Job {
  seed: number;
  nodes?: number;
  hours?: number;
  faults?: readonly string[];
  faultsEveryMs?: number;
  calm?: boolean;
  setting?: Setting;
  /** Arrays come and go: comings.ts. */
  comings?: boolean;
  /** On a violation a transcript is written. */
  transcript: boolean;
}

export type Told =
  | { type: 'progress'; seed: number; simulatedMs: number }
  | { type: 'done'; outcome: Omit<Outcome, 'transcript'>; file: string | null }
  | { type: 'broke'; seed: number; text: string };

export interface Result {
  seed: number;
  outcome: Omit<Outcome, 'transcript'>;
  /** The transcript of a violation. */
  file: string | null;
}

export interface Options {
  workers: number;
  /** A rule to be switched off: see mutations.ts. */
  mutation?: string;
  /** A seed that takes more of a processor's time goes round for ever: a violation like any other. */
  seedWithinMs?: number;
  onProgress?: (seed: number, simulatedMs: number) => void;
}

/** A violation of no checker: the agent, or the simulation, has thrown, or goes round for ever. */
function broken(seed: number, checker: string, text: string): Result {
  const nothing = { nodes: 0, simulatedMs: 0, acknowledged: 0, reads: 0, commits: 0, faults: 0 };
  return { seed, file: null, outcome: { seed, ...nothing, violation: { checker, text, atMs: 0 } } };
}

/** Of the processor, since the process began: the machine may have other work. 100 ticks a second, as Linux tells them to everybody. */
function processorMs({ pid }: ChildProcess): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [user, system] = stat.slice(stat.lastIndexOf(')')).split(' ').slice(12, 14);
    return (Number(user) + Number(system)) * 10;
  } catch {
    // It has ended; who waits for it is told so.
    return 0;
  }
}

/** Results in the order in which they come. Ends early when whoever reads them does. */
export async function* campaigns(jobs: Iterable<Job>, options: Options): AsyncGenerator<Result> {
  const next = jobs[Symbol.iterator]();
  const children = new Set<ChildProcess>();
  const underway = new Map<number, Promise<{ slot: number; result: Result | null }>>();
  const slots: (ChildProcess | null)[] = Array(options.workers).fill(null);
  const takeUp = (slot: number): void => {
    const { value: job, done } = next.next();
    if (done === true) return void underway.delete(slot);
    let child = slots[slot] ?? null;
    if (child?.connected !== true) {
      child = started(options.mutation);
      children.add(child);
      slots[slot] = child;
    }
    underway.set(
      slot,
      run(child, job, options).then((result) => ({ slot, result })),
    );
  };
  try {
    for (let slot = 0; slot < options.workers; slot++) takeUp(slot);
    while (underway.size > 0) {
      const { slot, result } = await Promise.race(underway.values());
      takeUp(slot);
      if (result !== null) yield result;
    }
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}

/** What one process has compiled the next one need not: a mutation's first seed would be half compiling. */
const COMPILED = join(import.meta.dirname, '../../out/sim/compiled');

/** A step leaves much behind that is garbage by the next one. */
const FLAGS = ['--no-warnings', '--max-semi-space-size=64'];

function started(mutation: string | undefined): ChildProcess {
  const execArgv = mutation === undefined ? [...FLAGS] : [...FLAGS, '--import', MUTATE];
  const env = {
    ...process.env,
    NODE_COMPILE_CACHE: COMPILED,
    ...(mutation !== undefined && { MDMESH_MUTATION: mutation }),
  };
  return fork(WORKER, { execArgv, env, stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
}

function run(child: ChildProcess, job: Job, { seedWithinMs = 300_000, onProgress }: Options): Promise<Result> {
  return new Promise((resolve) => {
    let said = '';
    const onError = (chunk: Buffer): void => {
      said = `${said}${chunk.toString()}`.slice(-2000);
    };
    const end = (result: Result): void => {
      clearInterval(timer);
      child.off('message', onMessage).off('exit', onExit);
      child.stderr?.off('data', onError);
      resolve(result);
    };
    const begunMs = processorMs(child);
    const timer = setInterval(() => {
      if (processorMs(child) - begunMs < seedWithinMs) return;
      child.kill('SIGKILL');
      end(broken(job.seed, GOES_ON, `seed ${job.seed} is not over after ${seedWithinMs / 1000} s`));
    }, LOOK_EVERY_MS);
    const onMessage = (told: Told): void => {
      if (told.type === 'progress') onProgress?.(told.seed, told.simulatedMs);
      else if (told.type === 'broke') end(broken(job.seed, 'nothingThrows', told.text));
      else end({ seed: job.seed, outcome: told.outcome, file: told.file });
    };
    const onExit = (): void => end(broken(job.seed, 'nothingThrows', said === '' ? 'the process has ended' : said));
    child.on('message', onMessage).on('exit', onExit);
    child.stderr?.on('data', onError);
    child.send(job);
  });
}
