/** Finds and loads the native addon. Its contract is native-addon/index.d.ts. */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { NativeAddon } from '../../native-addon/index.d.ts';

export type {
  NativeAddon,
  NativeArrayInfo,
  NativeGuard,
  NativeGuardEvent,
  NativeGuardOptions,
  NativeReservations,
  NativeStanding,
  NativeWatcher,
} from '../../native-addon/index.d.ts';

import { textOf } from '../error_text.ts';

const FILE_NAME = 'mdmesh.node';
const API_VERSION = 1;
const FUNCTIONS = [
  'bootTimeMs',
  'alarm',
  'readFiles',
  'writeFile',
  'watch',
  'readDirect',
  'writeDirect',
  'deviceSize',
  'arrayInfo',
  'stopArray',
  'setDiskFaulty',
  'dmCreate',
  'dmLoad',
  'dmResume',
  'dmRemove',
  'dmMessage',
  'dmStatus',
  'dmTable',
  'readReservations',
  'registerKey',
  'confirmKey',
  'reserve',
  'preemptAndAbort',
  'clearReservations',
  'privileges',
  'restrictPrivileges',
  'becomeIoFlusher',
  'sdNotify',
  'sdNotifyBarrier',
  'verifyEd25519',
  'verifyEd25519Each',
  'startGuard',
] as const satisfies readonly (keyof NativeAddon)[];

let loaded: NativeAddon | null = null;

/**
 * The addon, loaded once a process. Looks at `path` if given, else at $MDMESH_ADDON, else in the source tree and beside the
 * bundled file and the executable. Throws an Error that names the path tried, the loader's words and the remedy.
 */
export function loadNative(path?: string): NativeAddon {
  if (loaded !== null) return loaded;
  const named = path ?? process.env.MDMESH_ADDON;
  const candidates = named === undefined ? usualPlaces() : [resolve(named)];
  const found = candidates.find((candidate) => existsSync(candidate));
  if (found === undefined) {
    throw new Error(
      `native addon: not found at ${candidates.join(', ')}; run make addon, or set MDMESH_ADDON to its path`,
    );
  }
  const module: { exports: unknown } = { exports: {} };
  try {
    process.dlopen(module, found);
  } catch (error) {
    const words = textOf(error);
    throw new Error(`native addon: ${found} cannot be loaded: ${words}; run make addon`, { cause: error });
  }
  if (!isAddon(module.exports)) {
    throw new Error(`native addon: ${found} is of another version than this program; run make addon`);
  }
  loaded = module.exports;
  return loaded;
}

function usualPlaces(): string[] {
  const places: string[] = [];
  // Undefined in a CommonJS bundle, which is found by the script's or the executable's own place.
  const here: string | undefined = import.meta.dirname;
  if (here !== undefined) places.push(join(here, '../../native-addon/build/Release', FILE_NAME), join(here, FILE_NAME));
  const script = process.argv[1];
  if (script !== undefined) places.push(join(dirname(resolve(script)), FILE_NAME));
  places.push(join(dirname(process.execPath), FILE_NAME));
  return [...new Set(places)];
}

function isAddon(exports: unknown): exports is NativeAddon {
  if (typeof exports !== 'object' || exports === null) return false;
  const named = (name: string): unknown => Reflect.get(exports, name);
  return named('apiVersion') === API_VERSION && FUNCTIONS.every((name) => typeof named(name) === 'function');
}
