/** Builds the web page: what the browser gets, packed once. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build, type Metafile } from 'esbuild';
import type { PageFile } from '../src/page/index.ts';

const project = join(import.meta.dirname, '..');
const source = 'src/page/browser';

const TYPES: Record<string, string> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.html': 'text/html; charset=utf-8',
};

/** @returns the files, and which sources and packages went in */
export async function pageFiles(): Promise<{ files: PageFile[]; metafile: Metafile }> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: project,
    entryPoints: { page: `${source}/main.ts`, style: `${source}/page.css` },
    outdir: 'out/page',
    bundle: true,
    write: false,
    metafile: true,
    minify: true,
    legalComments: 'none',
    // Two years of browsers, and the long-term releases that distributions carry.
    target: ['chrome115', 'firefox115', 'safari17'],
    tsconfig: `${source}/tsconfig.json`,
    logLevel: 'warning',
  });
  const output = (name: string) => {
    const found = outputFiles.find(({ path }) => path.endsWith(name));
    if (found === undefined) throw new Error(`esbuild made no ${name}`);
    return found.contents;
  };
  const plain = (name: string) => readFileSync(join(project, source, name));
  return {
    files: [
      packed('/', '.html', plain('index.html')),
      packed('/page.js', '.js', output('page.js')),
      packed('/page.css', '.css', output('style.css')),
      packed('/icon.svg', '.svg', plain('icon.svg')),
    ],
    metafile,
  };
}

function packed(path: string, extension: string, content: Uint8Array): PageFile {
  return {
    path,
    type: TYPES[extension] ?? '',
    etag: `"${createHash('sha256').update(content).digest('hex').slice(0, 32)}"`,
    gzipped: gzipSync(content, { level: 9 }),
  };
}
