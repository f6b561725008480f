/** The program itself: `node src/cli/mdmesh.ts status`. Bundled, it is also each of its worker threads. */
import { basename } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { main, processTerminal } from './index.ts';

if (isMainThread) {
  // `mdmesh watch | head -1`: the reader left, which is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  // The script that starts the program is a shell's: only that knows under which name it was called.
  const calledAs = basename(process.env.MDMESH_CALLED_AS ?? process.argv[1] ?? '');
  process.exitCode = await main(process.argv.slice(2), processTerminal(), calledAs);
} else await import('../audit/worker.ts');
