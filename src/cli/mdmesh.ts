/**
 * The program itself: `node src/cli/mdmesh.ts status`. Bundled, it is also each of its worker threads. Without a top-level await:
 * the one binary holds it as CommonJS.
 */
import { basename } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { calledAs } from '../one_binary.ts';
import { main, processTerminal } from './index.ts';

if (isMainThread) {
  // `mdmesh watch | head -1`: the reader left, which is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  void main(process.argv.slice(2), processTerminal(), basename(calledAs(process.env))).then((exitCode) => {
    process.exitCode = exitCode;
  });
} else void import('../audit/worker.ts');
