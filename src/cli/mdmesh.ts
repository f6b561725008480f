/**
 * The program itself: `node src/cli/mdmesh.ts status`. Bundled, it is also each of its worker threads. Without a top-level await:
 * the one binary holds it as CommonJS.
 */
import { basename } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { calledAs } from '../one_binary.ts';
import { main, processTerminal } from './index.ts';

/** For the build alone. */
export async function rehearse(): Promise<void> {
  const rehearsal = await import('../rehearsal.ts');
  await rehearsal.rehearse();
}

/** The exit code of the program; null in a thread. */
export const ended: Promise<number> | null = isMainThread ? run() : null;
if (!isMainThread) void import('../audit/worker.ts');

async function run(): Promise<number> {
  // `mdmesh watch | head -1`: the reader left, which is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  process.exitCode = await main(process.argv.slice(2), processTerminal(), basename(calledAs(process.env)));
  return process.exitCode;
}
