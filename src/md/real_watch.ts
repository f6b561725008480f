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
  namesIn,
  readArray,
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
    for (const md of new Set([...mdNames(), ...this.#seen.keys()])) this.#look(md);
  }

  tell(md: string): void {
    for (const listener of this.#listeners) listener(md);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#watcher.close();
    this.#listeners.clear();
  }

  #look(md: string): void {
    const array = readArray(md, this.#readFiles);
    if (array === null || array.metadata !== METADATA_VERSION) {
      this.#watch(md, []);
      if (this.#seen.delete(md)) this.tell(md);
      return;
    }
    this.#watch(
      md,
      watchedPaths(
        md,
        array.members.map((member) => member.device),
      ),
    );
    const members = array.members.map((member) => [member.device, member.slot, [...member.states].join()]);
    const text = JSON.stringify({ ...array, members });
    if (this.#seen.get(md) === text) return;
    this.#seen.set(md, text);
    this.tell(md);
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
    if (paths.includes(MDSTAT)) this.refresh();
    for (const md of arrays) {
      this.#look(md);
      this.tell(md);
    }
  }
}

/** Every file through which md may tell of a change and that this array has. */
function watchedPaths(md: string, devices: readonly string[]): string[] {
  const directory = arrayDirectory(md);
  const present = new Set(namesIn(directory));
  const files = ['array_state', 'sync_action', 'sync_completed', 'degraded'].filter((name) => present.has(name));
  return [
    ...files.map((name) => `${directory}/${name}`),
    ...devices.map((device) => `${memberDirectory(md, device)}/state`),
  ];
}
