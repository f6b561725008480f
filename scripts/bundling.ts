/** How src and its packages become one file: for the tree (an ES module beside the addon) and for the one binary (CommonJS). */
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

/** Returns which files went in. Paths in it are relative to the project, where this has to run. */
export async function bundle(
  outfile: string,
  rest: Pick<BuildOptions, 'format' | 'banner' | 'legalComments' | 'define'>,
): Promise<Metafile> {
  const page = await pageFiles();
  const { metafile } = await build({
    ...rest,
    entryPoints: ['src/cli/mdmesh.ts'],
    outfile,
    bundle: true,
    metafile: true,
    platform: 'node',
    target: 'node24',
    // Names stay, for the stacks in logs; what is only for the eye goes, because a start reads the whole file.
    minifyWhitespace: true,
    minifySyntax: true,
    plugins: [builtinsAsTheyAre, onlyEnglish, pageInside(page.files)],
    logLevel: 'warning',
  });
  return { ...metafile, inputs: { ...page.metafile.inputs, ...metafile.inputs } };
}
