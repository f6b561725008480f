/**
 * `bundle.ts DIRECTORY ADDON`: lays the whole program into a directory: `program.cjs` (all of src and its packages in one file), what
 * V8 compiled of it, `mdmesh.cjs`, which runs them, the native addon beside it, and `mdmesh`, a script that starts it all with the
 * Node runtime found there or in the tree.
 */
import { chmodSync, copyFileSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundle, bundleScreen, bundleStart, compiled } from './bundling.ts';

const [directory, addon] = process.argv.slice(2);
if (directory === undefined || addon === undefined) throw new Error('usage: bundle.ts DIRECTORY ADDON');

mkdirSync(directory, { recursive: true });
// Tests of an upgrade build several versions of one tree: `0.2.0 1 2` is version 0.2.0, which speaks protocols 1 to 2.
const [version, oldest, newest] = (process.env.MDMESH_BUILD ?? '').split(' ');
const build = { version, protocol: { oldest: Number(oldest), newest: Number(newest) } };

const program = join(directory, 'program.cjs');
await bundle(program, {
  ...(process.env.MDMESH_BUILD === undefined ? {} : { define: { MDMESH_BUILD: JSON.stringify(build) } }),
  legalComments: 'external',
});
writeFileSync(join(directory, 'program.code'), compiled(process.execPath, program));
await bundleStart(join(directory, 'mdmesh.cjs'));
await bundleScreen(join(directory, 'screen.cjs'));

// Renamed into place: a running agent has the old one mapped, and writing into that would crash it.
copyFileSync(addon, join(directory, 'mdmesh.node.new'));
renameSync(join(directory, 'mdmesh.node.new'), join(directory, 'mdmesh.node'));

copyFileSync('scripts/launcher.sh', join(directory, 'mdmesh.new'));
chmodSync(join(directory, 'mdmesh.new'), 0o755);
renameSync(join(directory, 'mdmesh.new'), join(directory, 'mdmesh'));
