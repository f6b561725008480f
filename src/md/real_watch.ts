/**
 * Notices that an array may look different: by POLLPRI where md notifies, by a slow look where it does not.
 *
 * A member's I/O error and the end of a copy do not notify array_state (drivers/md/md.c), so every file that may tell is
 * watched, and any wake means: look at the whole array again. The listener is called often without need, never too seldom.
 */
import type { MemberPath } from './driver.ts';
import type { NativeAddon, NativeWatcher } from './native.ts';
import { DM_CONTROL } from './real_paths.ts';
import {
  arrayDirectory,
  type FileReader,
  METADATA_VERSION,
  mdNames,
  memberDirectory,
  readArray,
  type SysfsArray,
  type SysfsMember,
} from './sysfs_array.ts';

const MDSTAT = '/proc/mdstat';
/** For what md does without a word; each look is some thirty system calls. */
const SLOW_LOOK_MS = 3000;
/** One change is told in several pieces, and an operation's own are told back: what comes this soon after a look waits. */
const LOOK_AGAIN_MS = 15;
/**
 * md tells of a copy's progress at half of the way to sync_max, half of the rest, and so on, and when it stands there
 * (md_do_sync, drivers/md/md.c). Whoever moves sync_max wants to know soon, and at once when it stands.
 */
const PROGRESS_AGAIN_MS = 4;
const PROGRESS = '/sync_completed';

export class ArrayWatch {
  readonly #readFiles: FileReader;
  readonly #pathOf: (member: SysfsMember) => MemberPath;
  readonly #now: () => number;
  readonly #listeners = new Set<(md: string) => void>();
  readonly #watcher: NativeWatcher;
  readonly #timer: NodeJS.Timeout;
  #closed = false;
  /** Watched path → array; only arrays of ours. */
  readonly #paths = new Map<string, string>();
  /** What the last look saw, as text. */
  readonly #seen = new Map<string, string>();
  readonly #lookedAtMs = new Map<string, number>();
  /** Looks put off: array → whether it is told of even if it looks the same. */
  readonly #putOff = new Map<string, boolean>();
  /** Read in this turn of the event loop. */
  readonly #fresh = new Map<string, SysfsArray | null>();

  /** @param pathOf what has become of the path to a member */
  constructor(
    native: Pick<NativeAddon, 'watch' | 'bootTimeMs'>,
    readFiles: FileReader,
    pathOf: (member: SysfsMember) => MemberPath,
  ) {
    this.#readFiles = readFiles;
    this.#pathOf = pathOf;
    this.#now = () => native.bootTimeMs();
    this.#watcher = native.watch([MDSTAT, DM_CONTROL], (paths) => this.#changed(paths));
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

  /** What was read of it in this turn is old. */
  forget(md: string): void {
    this.#fresh.delete(md);
  }

  tell(md: string): void {
    for (const listener of this.#listeners) listener(md);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#watcher.close();
    this.#listeners.clear();
  }

  #all(): Set<string> {
    return new Set([...mdNames(), ...this.#seen.keys()]);
  }

  #readNow(md: string): SysfsArray | null {
    const array = readArray(md, this.#readFiles);
    // No longer than this turn of the loop, and each operation's end reads anew: a reading from before an operation must not
    // be taken for what it did.
    if (this.#fresh.size === 0) setImmediate(() => this.#fresh.clear());
    this.#fresh.set(md, array);
    return array;
  }

  /** Always reads: whoever calls has just been told of a change, or made one. */
  #differs(md: string): boolean {
    this.#lookedAtMs.set(md, this.#now());
    const array = this.#readNow(md);
    if (array === null || array.metadata !== METADATA_VERSION) {
      this.#watch(md, []);
      this.#lookedAtMs.delete(md);
      return this.#seen.delete(md);
    }
    this.#watch(md, watchedPaths(array));
    // Loaded with the first array that has the layer; to watch what is watched already does nothing.
    if (array.members.some((member) => member.mapUuid !== null)) this.#watcher.add([DM_CONTROL]);
    const members = array.members.map((member) => [
      member.device,
      member.slot,
      [...member.states].join(),
      this.#pathOf(member),
    ]);
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
    const copying = new Set<string>();
    for (const path of paths) {
      const md = this.#paths.get(path);
      if (md === undefined) continue;
      arrays.add(md);
      if (path.endsWith(PROGRESS)) copying.add(md);
    }
    for (const md of arrays) {
      if (!copying.has(md)) this.#woken(md, true);
      else this.#woken(md, true, this.#copyStands(md) ? 0 : PROGRESS_AGAIN_MS);
    }
    // mdstat: an array came or went, or one of them changed its members. A map's event: a path may have failed.
    if (paths.includes(MDSTAT) || paths.includes(DM_CONTROL))
      for (const md of this.#all()) if (!arrays.has(md)) this.#woken(md, false);
  }

  /** At sync_max, or at its end. */
  #copyStands(md: string): boolean {
    const directory = arrayDirectory(md);
    const [completed, max] = this.#readFiles([`${directory}${PROGRESS}`, `${directory}/sync_max`]);
    return completed?.split(' ')[0] === max || completed === 'none';
  }

  #woken(md: string, certainly: boolean, pauseMs = LOOK_AGAIN_MS): void {
    const againInMs = (this.#lookedAtMs.get(md) ?? Number.NEGATIVE_INFINITY) + pauseMs - this.#now();
    const putOff = this.#putOff.get(md);
    if (putOff !== undefined && againInMs > 0) {
      this.#putOff.set(md, putOff || certainly);
      return;
    }
    if (againInMs <= 0) {
      if (this.#differs(md) || certainly) this.tell(md);
      return;
    }
    this.#putOff.set(md, certainly);
    setTimeout(() => {
      const told = this.#putOff.get(md) === true;
      this.#putOff.delete(md);
      if (!this.#closed && (this.#differs(md) || told)) this.tell(md);
    }, againInMs).unref();
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
