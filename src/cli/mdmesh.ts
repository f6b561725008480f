/** The program itself: `node src/cli/mdmesh.ts status`. */
import { main } from './index.ts';

// `mdmesh watch | head -1`: the reader left, which is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});
process.exitCode = await main(process.argv.slice(2));
