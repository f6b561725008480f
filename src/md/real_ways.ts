/**
 * Disks behind device-mapper multipath. Each path is a nexus of its own to the target and is registered by itself: one that comes later, as
 * when a session is logged in anew, has no key, and what takes it is refused: no error of the path, so that multipath hands it up.
 *
 * - IOC_PR_REGISTER on the map is not used: when one path does not answer it ends with an error, and has taken the key off the others
 *   (dm_pr_register, drivers/md/dm.c; tried on 6.1).
 * - multipathd registers a path that comes before any I/O takes it, if it knows the key: `reservation_key file` in multipath.conf, and
 *   the two commands given here (multipath.conf(5), multipathd(8); tried with 0.9.4). Without that, writes may be refused until the
 *   next look at the disk.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { MdError } from './driver.ts';
import type { NativeAddon } from './native.ts';
import { type BlockDevice, deviceByNumber, errorCode, MULTIPATH_UUID, resolveDevice } from './real_disks.ts';
import { type FileReader, namesIn } from './sysfs_array.ts';

const COMMAND_WITHIN_MS = 5000;

interface Multipath {
  /** Name of the map. */
  map: string;
  ways: readonly Way[];
}

interface Way {
  path: string;
  /** Never that of another one: a name may be had again by the next disk. */
  name: string;
}

export class DiskWays {
  readonly #native: Pick<NativeAddon, 'dmStatus' | 'registerKey' | 'confirmKey'>;
  readonly #readFiles: FileReader;

  constructor(native: Pick<NativeAddon, 'dmStatus' | 'registerKey' | 'confirmKey'>, readFiles: FileReader) {
    this.#native = native;
    this.#readFiles = readFiles;
  }

  /** Names of the paths that multipath would use now. Empty: there is no choice of them. @throws MdError ENOENT, ENOTBLK */
  names(path: string): string[] {
    return this.#find(path)?.ways.map(({ name }) => name) ?? [];
  }

  /** @throws MdError of the first path that has not taken it; others may have */
  async registerKey(path: string, key: string): Promise<string[]> {
    const found = this.#find(path);
    if (found === null) {
      await this.#native.registerKey(path, key);
      return [];
    }
    if (found.ways.length === 0) throw new MdError('ENOLINK', `${path}: no path to it is up`);
    const answers = await Promise.allSettled(found.ways.map((way) => this.#native.registerKey(way.path, key)));
    const failed = answers.find((answer) => answer.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    await tellMultipathd(found.map, key);
    return found.ways.map(({ name }) => name);
  }

  async confirmKey(path: string, key: string): Promise<string[] | null> {
    const found = this.#find(path);
    const paths = found?.ways.map((way) => way.path) ?? [path];
    const answers = paths.map((each) =>
      this.#native.confirmKey(each, key).then(
        () => true,
        (error: unknown) => {
          if (errorCode(error) === 'EBADE') return false;
          throw error;
        },
      ),
    );
    if ((await Promise.all(answers)).includes(false)) return null;
    // It may have been started, or told to keep keys, since they were registered.
    if (found !== null) await tellMultipathd(found.map, key);
    return found?.ways.map(({ name }) => name) ?? [];
  }

  /** The multipath map that this disk is, or that it is a partition of. */
  #find(path: string): Multipath | null {
    let device: BlockDevice | null = resolveDevice(path);
    // Of any other disk sysfs is not asked: its keys are looked at every two seconds.
    while (device?.name.startsWith('dm-') === true) {
      const [uuid, map] = this.#readFiles([`${device.sysPath}/dm/uuid`, `${device.sysPath}/dm/name`]);
      if (uuid?.startsWith(MULTIPATH_UUID) === true && map != null) return { map, ways: this.#ways(map) };
      device = uuid?.includes(`-${MULTIPATH_UUID}`) === true ? this.#below(device) : null;
    }
    return null;
  }

  /** What a partition's map lies on. */
  #below({ sysPath }: BlockDevice): BlockDevice | null {
    const [slave] = namesIn(`${sysPath}/slaves`);
    const [number] = slave === undefined ? [] : this.#readFiles([`${sysPath}/slaves/${slave}/dev`]);
    return number == null ? null : deviceByNumber(number);
  }

  /** Each path in the line is `MAJOR:MINOR A|F FAILURES …` (multipath_status, drivers/md/dm-mpath.c); F: it is not used. */
  #ways(map: string): Way[] {
    const status = this.#native.dmStatus(map) ?? '';
    return [...status.matchAll(/(\d+:\d+) A /g)].flatMap(([, number = '']) => {
      const device = deviceByNumber(number);
      if (device === null) return [];
      const [sequence] = this.#readFiles([`${device.sysPath}/diskseq`]);
      return [{ path: device.path, name: `${device.name} ${sequence ?? number}` }];
    });
  }
}

/** One that does not run, or keeps no keys, is told of by `mdmesh doctor`. */
async function tellMultipathd(map: string, key: string): Promise<void> {
  const run = promisify(execFile);
  for (const words of [
    ['setprkey', 'map', map, 'key', `0x${key}`],
    ['setprstatus', 'map', map],
  ]) {
    await run('multipathd', words, { timeout: COMMAND_WITHIN_MS }).catch(() => undefined);
  }
}
