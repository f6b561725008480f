/**
 * `bundle.ts DIRECTORY ADDON`: lays the whole program into a directory: `mdmesh.mjs` (all of src and its packages in one
 * file), the native addon beside it, and `mdmesh`, a script that runs it with the Node runtime found there or in the tree.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join, resolve } from 'node:path';
import { build, type Plugin } from 'esbuild';

const [directory, addon] = process.argv.slice(2);
if (directory === undefined || addon === undefined) throw new Error('usage: bundle.ts DIRECTORY ADDON');

/**
 * Node's own modules are taken when they are first needed, and as they are. An `import` of one reads all that it exports
 * to make an ES module of it: `node:http` then loads undici for a WebSocket that nobody asked for.
 */
const builtinsAsTheyAre: Plugin = {
  name: 'builtins-as-they-are',
  setup({ onResolve, onLoad }) {
    const names = new Set(builtinModules);
    onResolve({ filter: /^(node:)?[a-z_]+(\/[a-z_]+)?$/ }, ({ path }) => {
      const name = path.replace(/^node:/, '');
      return names.has(name) || path.startsWith('node:') ? { path: name, namespace: 'builtin' } : null;
    });
    onLoad({ filter: /./, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule('node:${path}');`,
    }));
  },
};

/** zod brings its words in fifty languages, and makes them all at every start; ours are English. */
const onlyEnglish: Plugin = {
  name: 'only-english',
  setup({ onLoad }) {
    onLoad({ filter: /\/zod\/v4\/locales\/index\.js$/ }, () => ({
      contents: "export { default as en } from './en.js';",
    }));
  },
};

mkdirSync(directory, { recursive: true });
await build({
  entryPoints: ['src/cli/mdmesh.ts'],
  outfile: join(directory, 'mdmesh.mjs'),
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  legalComments: 'linked',
  // Names stay, for the stacks in logs; what is only for the eye goes, because a start reads the whole file.
  minifyWhitespace: true,
  minifySyntax: true,
  plugins: [builtinsAsTheyAre, onlyEnglish],
  logLevel: 'warning',
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
