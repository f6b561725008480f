/**
 * `bundle.ts DIRECTORY ADDON`: lays the whole program into a directory: `mdmesh.mjs` (all of src and its packages in one
 * file), the native addon beside it, and `mdmesh`, a script that runs it with the Node runtime found there or in the tree.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { bundle, bundleScreen } from './bundling.ts';

const [directory, addon] = process.argv.slice(2);
if (directory === undefined || addon === undefined) throw new Error('usage: bundle.ts DIRECTORY ADDON');

mkdirSync(directory, { recursive: true });
// Tests of an upgrade build several versions of one tree: `0.2.0 1 2` is version 0.2.0, which speaks protocols 1 to 2.
const [version, oldest, newest] = (process.env.MDMESH_BUILD ?? '').split(' ');
const build = { version, protocol: { oldest: Number(oldest), newest: Number(newest) } };

await bundle(join(directory, 'mdmesh.mjs'), {
  ...(process.env.MDMESH_BUILD === undefined ? {} : { define: { MDMESH_BUILD: JSON.stringify(build) } }),
  format: 'esm',
  legalComments: 'linked',
  // CommonJS packages in the bundle ask for `require`, which an ES module does not have.
  banner: {
    js: [
      "import { createRequire as mdmeshCreateRequire } from 'node:module';",
      'const require = mdmeshCreateRequire(import.meta.url);',
      'const __filename = import.meta.filename;',
      'const __dirname = import.meta.dirname;',
    ].join('\n'),
  },
});

await bundleScreen(join(directory, 'screen.cjs'));

// Renamed into place: a running agent has the old one mapped, and writing into that would crash it.
copyFileSync(addon, join(directory, 'mdmesh.node.new'));
renameSync(join(directory, 'mdmesh.node.new'), join(directory, 'mdmesh.node'));

copyFileSync('scripts/launcher.sh', join(directory, 'mdmesh.new'));
chmodSync(join(directory, 'mdmesh.new'), 0o755);
renameSync(join(directory, 'mdmesh.new'), join(directory, 'mdmesh'));

// One start of the agent, as far as the missing config lets it come, leaves the compiled code of all its modules.
rmSync(join(directory, 'cache'), { recursive: true, force: true });
// By the script, with its flags: V8 takes no code that was compiled under others.
spawnSync(resolve(directory, 'mdmesh'), ['agent', '--config', join(directory, 'none.yaml')], {
  env: { ...process.env, NODE_COMPILE_CACHE: resolve(directory, 'cache') },
});
