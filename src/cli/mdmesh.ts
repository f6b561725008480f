/** The program itself: `node src/cli/mdmesh.ts status`. */
import { basename } from 'node:path';
import { main, processTerminal } from './index.ts';

// `mdmesh watch | head -1`: the reader left, which is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});
// The script that starts the program is a shell's: only that knows under which name it was called.
const calledAs = basename(process.env.MDMESH_CALLED_AS ?? process.argv[1] ?? '');
process.exitCode = await main(process.argv.slice(2), processTerminal(), calledAs);
