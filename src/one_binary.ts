/**
 * What differs where the whole program is one file, `dist/mdmesh`: Node with the bundle and the native addon inside (a "single
 * executable application"). Everywhere else these functions say what holds for the program in the tree.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileFunction } from 'node:vm';
import { type ResourceLimits, Worker } from 'node:worker_threads';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { DEFAULT_STATE_DIR } from './config/defaults.ts';
import { textOf } from './error_text.ts';

/** Of the addon and the bundle among the binary's assets; scripts/dist.ts puts them there. */
const ADDON_ASSET = 'mdmesh.node';
const BUNDLE_ASSET = 'program.cjs.gz';
/** The screen of `mdmesh top`; in the tree it lies unpacked beside the bundle. */
const SCREEN_ASSET = 'screen.cjs.br';

export function isOneBinary(): boolean {
  return process.getBuiltinModule('node:sea').isSea();
}

/** The path or name that the program was called by: behind a link named mdadm it is mdadm. */
export function calledAs(env: Readonly<Record<string, string | undefined>>): string {
  const typed = process.argv[1] ?? '';
  // The script that starts the program in the tree is a shell's: only that knows the name. One left by it in the environment
  // says nothing about a binary that was started later.
  return isOneBinary() ? typed : (env.MDMESH_CALLED_AS ?? typed);
}

/** How this program is started once more: what goes before its words. */
export function ownCommand(): string[] {
  const { execPath, execArgv, argv } = process;
  return isOneBinary() ? [execPath] : [execPath, ...execArgv, argv[1] ?? ''];
}

/** The bundle in the binary: a function of what Node gives a CommonJS module. It is ASCII, which is the quickest to read. */
export function bundleSource(): string {
  const packed = Buffer.from(process.getBuiltinModule('node:sea').getRawAsset(BUNDLE_ASSET));
  // RFC 1952: the last word is the size of what is packed. In one piece, each page of it is touched once.
  return gunzipSync(packed, { chunkSize: packed.readUInt32LE(packed.length - 4) + 1 }).toString('latin1');
}

/**
 * A thread of the program. Bundled, all is one file, which finds out by itself that it is a thread; from the source each has its own.
 * @param source below src
 * @param resourceLimits what an agent is started with spares memory; a thread that works through millions of objects may have more
 */
export function startThread(source: string, workerData: unknown, resourceLimits: ResourceLimits = {}): Worker {
  if (isOneBinary()) {
    const code = `${bundleSource()}(exports, require, module)`;
    return new Worker(code, { workerData, resourceLimits, eval: true });
  }
  const own = import.meta.filename;
  return new Worker(own.endsWith('.ts') ? new URL(`./${source}`, import.meta.url) : own, {
    workerData,
    resourceLimits,
  });
}

/** The screen of `mdmesh top`: its libraries are a fifth of all code, and no agent is to read them. From the source it is like any other. */
export async function loadScreen(): Promise<typeof import('./cli/top/screen.ts')> {
  if (!isOneBinary() && import.meta.filename.endsWith('.ts')) {
    return import(new URL('./cli/top/screen.ts', import.meta.url).href);
  }
  const code = isOneBinary()
    ? brotliDecompressSync(new Uint8Array(process.getBuiltinModule('node:sea').getRawAsset(SCREEN_ASSET))).toString()
    : readFileSync(join(import.meta.dirname, 'screen.cjs'), 'utf8');
  const module: { exports: { loaded?: Promise<typeof import('./cli/top/screen.ts')> } } = { exports: {} };
  compileFunction(code, ['module', 'exports'])(module, module.exports);
  if (module.exports.loaded === undefined) throw new Error('the screen of mdmesh top is not whole: build mdmesh again');
  return module.exports.loaded;
}

/**
 * Calls `load` with the path of the native addon; `undefined`: the loader knows where to look. A library can be loaded from a
 * file only: the packed one is written into a directory that nobody else can enter, and is gone when this returns. Where
 * nothing may be executed (a file system mounted noexec), the next directory is tried.
 */
export function withAddon<T>(load: (path?: string) => T): T {
  if (!isOneBinary()) return load();
  const bytes = new Uint8Array(process.getBuiltinModule('node:sea').getRawAsset(ADDON_ASSET));
  const failures: string[] = [];
  for (const parent of [tmpdir(), DEFAULT_STATE_DIR, '/var/tmp']) {
    let directory: string | null = null;
    try {
      // 0700, by mkdtemp(3).
      directory = mkdtempSync(join(parent, 'mdmesh-addon-'));
      const path = join(directory, ADDON_ASSET);
      writeFileSync(path, bytes, { mode: 0o500, flag: 'wx' });
      return load(path);
    } catch (error) {
      failures.push(`${parent}: ${textOf(error)}`);
    } finally {
      if (directory !== null) rmSync(directory, { recursive: true, force: true });
    }
  }
  throw new Error(
    `native addon: cannot be loaded from ${failures.join('; ')}; set TMPDIR to a directory that is not mounted noexec`,
  );
}
