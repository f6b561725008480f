/** Runs spin: a model becomes a program in C, which is compiled and searches all states, or reads a run of the real core. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const HERE = import.meta.dirname;
const OUT = join(HERE, '../../out/model');

/** null: it is here. */
export function whyNoChecker(): string | null {
  for (const program of ['spin', 'gcc']) {
    if (spawnSync(program, ['--version']).error !== undefined)
      return `${program} is not installed; make packages does that`;
  }
  return null;
}

export interface Verdict {
  /** null: nothing is wrong. */
  violation: string | null;
  /** Every state of the scope was seen, unless there is a violation. */
  complete: boolean;
  states: number;
  seconds: number;
  output: string;
}

/** @param flags `-D…` of the model @param optimize for long searches: the compiler then takes longer than a short one */
export async function check(
  model: string,
  flags: readonly string[],
  options: { optimize?: boolean; timeoutMs?: number } = {},
): Promise<Verdict> {
  mkdirSync(OUT, { recursive: true });
  const dir = mkdtempSync(join(OUT, 'check-'));
  try {
    await execute('spin', [...flags, '-a', join(HERE, model)], { cwd: dir });
    const compile = [
      '-DSAFETY',
      '-DNOREDUCE',
      '-DCOLLAPSE',
      '-DVECTORSZ=4096',
      '-DMEMLIM=6000',
      '-w',
      '-o',
      'pan',
      'pan.c',
    ];
    await execute('gcc', [options.optimize === true ? '-O2' : '-O0', ...compile], { cwd: dir });
    // Where the time of the scope ends is no deadlock.
    const { stdout } = await execute(join(dir, 'pan'), ['-m5000000', '-w20', '-E'], {
      cwd: dir,
      maxBuffer: 64 * 1024 * 1024,
      timeout: options.timeoutMs ?? 0,
    });
    return verdictOf(stdout);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** For runs of clusters of so many nodes: compiled once, it reads one after the other. */
export async function replayer(nodes: number): Promise<(file: string) => Promise<string>> {
  const dir = join(OUT, `replay-${nodes}`);
  mkdirSync(dir, { recursive: true });
  await execute('spin', ['-DREPLAY', '-DEARLY', `-DNODES=${nodes}`, '-a', join(HERE, 'lease.pml')], { cwd: dir });
  const compile = ['-O0', '-DSAFETY', '-DNOREDUCE', '-DVECTORSZ=8192', '-w', '-o', 'pan', 'pan.c'];
  await execute('gcc', compile, { cwd: dir });
  return async (file) => {
    const env = { ...process.env, MODEL_RUN: file };
    const { stdout } = await execute(join(dir, 'pan'), ['-m9000000', '-w20'], { cwd: dir, env });
    const lines = /^model: (\d+) lines replayed$/m.exec(stdout)?.[1];
    return stdout.includes('model: the run is allowed') && stdout.includes('errors: 0')
      ? 'allowed'
      : `stands still in line ${lines}`;
  };
}

function verdictOf(output: string): Verdict {
  const number = (pattern: RegExp) => Number(pattern.exec(output)?.[1] ?? Number.NaN);
  const errors = number(/errors: (\d+)/);
  const violation = /^pan:\d+: (.*)$/m.exec(output)?.[1] ?? (errors === 0 ? null : 'the search did not end');
  return {
    violation,
    complete: errors === 0 && !/max search depth too small|out of memory/.test(output),
    states: number(/(\d+) states, stored/),
    seconds: number(/elapsed time ([\d.]+)/),
    output,
  };
}
