/** How src and its packages become one file: for the tree (an ES module beside the addon) and for the one binary (CommonJS). */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { type BuildOptions, build, type Metafile, type Plugin } from 'esbuild';
import { pageFiles } from './page_files.ts';

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

/** The web page's files, as they are sent, in the place of the module that would build them. */
function pageInside(files: Awaited<ReturnType<typeof pageFiles>>['files']): Plugin {
  const list = files.map(({ gzipped, ...rest }) => ({ ...rest, base64: Buffer.from(gzipped).toString('base64') }));
  return {
    name: 'page-inside',
    setup({ onLoad }) {
      onLoad({ filter: /\/src\/page\/files\.ts$/ }, () => ({
        contents: `
          let files = null;
          export async function builtFiles() {
            files ??= ${JSON.stringify(list)}.map(({ base64, ...rest }) => ({ ...rest, gzipped: Buffer.from(base64, 'base64') }));
            return files;
          }`,
      }));
    },
  };
}

/**
 * ink waits, where it is imported, for its layout's WebAssembly, and for the tools of its developers; CommonJS cannot wait. The first is
 * waited for by whoever loads the screen, the others are left out.
 */
const layoutIsAwaited: Plugin = {
  name: 'layout-is-awaited',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^yoga-layout$/ }, ({ path }) => ({ path, namespace: 'layout' }));
    onLoad({ filter: /./, namespace: 'layout' }, () => ({
      contents: `
        import { loadYoga } from 'yoga-layout/load';
        let layout;
        export { layout as default };
        export const ready = loadYoga().then((loaded) => { layout = loaded; });
        export * from 'yoga-layout/load';`,
      resolveDir: process.cwd(),
    }));
    onLoad({ filter: /\/ink\/build\/reconciler\.js$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replaceAll("process.env['DEV'] === 'true'", 'false'),
    }));
  },
};

/** The screen of `mdmesh top`, which src/one_binary.ts loads. Returns which files went in. */
export async function bundleScreen(outfile: string): Promise<Metafile> {
  const { metafile } = await build({
    stdin: {
      contents: `
        import { ready } from 'yoga-layout';
        export const loaded = ready.then(() => import('./src/cli/top/screen.ts'));`,
      resolveDir: process.cwd(),
    },
    outfile,
    bundle: true,
    metafile: true,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    minify: true,
    legalComments: 'none',
    define: { 'process.env.NODE_ENV': '"production"', 'import.meta': '{}' },
    plugins: [builtinsAsTheyAre, layoutIsAwaited],
    logLevel: 'warning',
  });
  return metafile;
}

/** Where a bundle finds its place: what it is given as a CommonJS module; nothing in the one binary. */
const PLACES = {
  'import.meta.dirname': '__dirname',
  'import.meta.filename': '__filename',
  'import.meta.url': 'undefined',
  'import.meta.main': 'false',
};

/** What runs first, `mdmesh.cjs`: it looks for the bundle and its compiled code where they are (src/start.ts). */
export async function bundleStart(outfile: string): Promise<void> {
  await build({
    entryPoints: ['src/start.ts'],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    minifyWhitespace: true,
    define: PLACES,
    plugins: [builtinsAsTheyAre],
    logLevel: 'warning',
  });
}

/**
 * The whole program as a script whose value is a function of what a CommonJS module gets. Returns which files went in. Paths in it
 * are relative to the project, where this has to run.
 */
export async function bundle(outfile: string, rest: Pick<BuildOptions, 'legalComments' | 'define'>): Promise<Metafile> {
  const page = await pageFiles();
  const { metafile } = await build({
    entryPoints: ['src/cli/mdmesh.ts'],
    outfile,
    bundle: true,
    metafile: true,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    // Names stay, for the stacks in logs; what is only for the eye goes, because a start reads the whole file.
    minifyWhitespace: true,
    minifySyntax: true,
    ...rest,
    define: { ...PLACES, ...rest.define },
    banner: { js: '(function (exports, require, module, __filename, __dirname) {' },
    footer: { js: '})' },
    plugins: [builtinsAsTheyAre, onlyEnglish, pageInside(page.files)],
    logLevel: 'warning',
  });
  return { ...metafile, inputs: { ...page.metafile.inputs, ...metafile.inputs } };
}

/** What every start gives V8, and code that was compiled under other flags is not taken. */
export function startFlags(): string[] {
  const flags = /^flags="([^"]+)"$/m.exec(readFileSync('scripts/launcher.sh', 'utf8'))?.[1]?.split(' ');
  if (flags === undefined) throw new Error('scripts/launcher.sh has no line flags="…"');
  return flags;
}

/**
 * What V8 has made of a bundle once it has run as far as `rehearse` goes. The same bundle gives the same bytes: V8's hashes, which are
 * random unless they are given where to begin, order tables in it; what a collection of garbage leaves in memory would fill gaps; and
 * functions are counted, also those of whatever ran before, so that all is run alike, without a path in it. None of these flags counts
 * when compiled code is compared with a start's flags.
 */
export function compiled(node: string, bundled: string): Uint8Array {
  const noCollection = ['--min-semi-space-size=256', '--max-semi-space-size=256'];
  const words = [...startFlags(), ...noCollection, '--random-seed=1', '--no-warnings', 'scripts/compile.ts'];
  const input = readFileSync(bundled);
  const made = spawnSync(node, words, { env: {}, input, maxBuffer: 64 * 1024 * 1024 });
  if (made.status !== 0) throw new Error(`scripts/compile.ts: ${made.stderr}`);
  return made.stdout;
}
