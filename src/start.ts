/**
 * What runs first in a built program, bundled alone: it runs the bundle from the code that V8 made of it while it was built, also of
 * the functions that an agent's start calls (src/rehearsal.ts). Compiling those anew took a fifth of the start. Where V8 does not take
 * that code, it compiles as ever.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { bundleSource, isOneBinary } from './one_binary.ts';

const CODE = 'program.code';

function compiled(): Uint8Array {
  if (isOneBinary()) return new Uint8Array(process.getBuiltinModule('node:sea').getRawAsset(CODE));
  return readFileSync(join(import.meta.dirname, CODE));
}

new Script(bundleSource(), { filename: 'mdmesh', cachedData: compiled() }).runInThisContext()(
  exports,
  require,
  module,
  import.meta.filename,
  import.meta.dirname,
);
