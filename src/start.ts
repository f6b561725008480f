/**
 * What runs first in a built program, bundled alone: it runs the bundle from the code that V8 made of it while it was built, also of
 * the functions that an agent's start calls (src/rehearsal.ts). Compiling those anew took a fifth of the start. Where V8 does not take
 * that code, it compiles as ever.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { bundleSource, isOneBinary } from './one_binary.ts';

/** In the tree, beside this file. */
const BUNDLE = 'program.cjs';
const CODE = 'program.code';

/** Both through the same memory: most of what a start costs are pages that are touched for the first time. */
function parts(): { source: string; cachedData: Uint8Array } {
  if (isOneBinary()) {
    const code = process.getBuiltinModule('node:sea').getRawAsset(CODE);
    return { source: bundleSource(), cachedData: new Uint8Array(code) };
  }
  const [bundle, code] = [join(import.meta.dirname, BUNDLE), join(import.meta.dirname, CODE)];
  const memory = Buffer.allocUnsafeSlow(Math.max(statSync(bundle).size, statSync(code).size));
  return { source: readInto(memory, bundle).toString('latin1'), cachedData: readInto(memory, code) };
}

function readInto(memory: Buffer, path: string): Buffer {
  const file = openSync(path, 'r');
  try {
    let size = 0;
    for (;;) {
      const read = readSync(file, memory, size, memory.length - size, null);
      if (read === 0) return memory.subarray(0, size);
      size += read;
    }
  } finally {
    closeSync(file);
  }
}

const { source, cachedData } = parts();
new Script(source, { filename: 'mdmesh', cachedData }).runInThisContext()(
  exports,
  require,
  module,
  import.meta.filename,
  import.meta.dirname,
);
