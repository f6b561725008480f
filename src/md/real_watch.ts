/**
 * Notices that an array may look different: by POLLPRI where md notifies, by a slow look where it does not.
 *
 * A member's I/O error and the end of a copy do not notify array_state (drivers/md/md.c), so every file that may tell is
 * watched, and any wake means: look at the whole array again. The listener is called often without need, never too seldom.
 */
import type { NativeAddon, NativeWatcher } from './native.ts';
import {
  arrayDirectory,
  type FileReader,
  METADATA_VERSION,
  mdNames,
  memberDirectory,
  readArray,
  type SysfsArray,
} from './sysfs_array.ts';

const MDSTAT = '/proc/mdstat';
const SLOW_LOOK_MS = 1000;

export class ArrayWatch {
  readonly #readFiles: FileReader;
  readonly #listeners = new Set<(md: string) => void>();
  readonly #watcher: NativeWatcher;
  readonly #timer: NodeJS.Timeout;
  /** Watched path → array; only arrays of ours. */
  readonly #paths = new Map<string, string>();
  /** What the last look saw, as text. */
  readonly #seen = new Map<string, string>();
  /** Read in this callback of the event loop. */
  readonly #fresh = new Map<string, SysfsArray | null>();

  constructor(native: Pick<NativeAddon, 'watch'>, readFiles: FileReader) {
    this.#readFiles = readFiles;
    this.#watcher = native.watch([MDSTAT], (paths) => this.#changed(paths));
    this.#timer = setInterval(() => this.refresh(), SLOW_LOOK_MS);
    this.#timer.unref();
    this.refresh();
  }

  listen(listener: (md: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Look at all arrays now; tell of those that differ from the last look. */
  refresh(): void {
    for (const md of this.#all()) this.look(md);
  }

  /** Look at this array now; tell if it differs from the last look. */
  look(md: string): void {
    if (this.#differs(md)) this.tell(md);
  }

  /** The array as this callback has seen it: one change has many who want to know, and a look is dear. */
  read(md: string): SysfsArray | null {
    const fresh = this.#fresh.get(md);
    return fresh === undefined ? this.#readNow(md) : fresh;
  }

  tell(md: string): void {
    for (const listener of this.#listeners) listener(md);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#watcher.close();
    this.#listeners.clear();
  }

  #all(): Set<string> {
    return new Set([...mdNames(), ...this.#seen.keys()]);
  }

  #readNow(md: string): SysfsArray | null {
    const array = readArray(md, this.#readFiles);
    // No longer than this one callback: a reading from before an operation must not be taken for what it did.
    if (this.#fresh.size === 0) queueMicrotask(() => this.#fresh.clear());
    this.#fresh.set(md, array);
    return array;
  }

  /** Always reads: whoever calls has just been told of a change, or made one. */
  #differs(md: string): boolean {
    const array = this.#readNow(md);
    if (array === null || array.metadata !== METADATA_VERSION) {
      this.#watch(md, []);
      return this.#seen.delete(md);
    }
    this.#watch(md, watchedPaths(array));
    const members = array.members.map((member) => [member.device, member.slot, [...member.states].join()]);
    const text = JSON.stringify({ ...array, members });
    if (this.#seen.get(md) === text) return false;
    this.#seen.set(md, text);
    return true;
  }

  #watch(md: string, wanted: readonly string[]): void {
    const added = wanted.filter((path) => !this.#paths.has(path));
    const dropped = [...this.#paths].filter(([path, of]) => of === md && !wanted.includes(path)).map(([path]) => path);
    for (const path of dropped) this.#paths.delete(path);
    for (const path of added) this.#paths.set(path, md);
    if (dropped.length > 0) this.#watcher.remove(dropped);
    if (added.length > 0) this.#watcher.add(added);
  }

  #changed(paths: readonly string[]): void {
    // A member that left and came back under its name has a new file; the old one was forgotten with this call.
    this.#watcher.add(paths.filter((path) => this.#paths.has(path)));
    const arrays = new Set<string>();
    for (const path of paths) {
      const md = this.#paths.get(path);
      if (md !== undefined) arrays.add(md);
    }
    // mdstat: an array came or went, or one of them changed its members.
    for (const md of paths.includes(MDSTAT) ? new Set([...this.#all(), ...arrays]) : arrays) {
      if (this.#differs(md) || arrays.has(md)) this.tell(md);
    }
  }
}

/** Every file through which md may tell of a change and that this array has. */
function watchedPaths({ md, syncAction, members }: SysfsArray): string[] {
  // A level that copies nothing has none of the others either (md_redundancy_attrs, drivers/md/md.c).
  const files = syncAction === null ? ['array_state'] : ['array_state', 'sync_action', 'sync_completed', 'degraded'];
  return [
    ...files.map((name) => `${arrayDirectory(md)}/${name}`),
    ...members.map((member) => `${memberDirectory(md, member.device)}/state`),
  ];
}
