/**
 * The layer under each member of an array with copies or parity: a device-mapper map, multipath with one path, which queues
 * I/O when its path fails (queue_if_no_path) instead of telling md.
 *
 * md alone does not hold every write for an answer. A write that fails on a leg which an earlier error has made faulty is
 * ended at once, as written (raid1_end_write_request and raid10's: "no need to handle write error"); so are all that wait
 * behind a bitmap write that fails (flush_bio_list). Tried on 6.1: with two writes in flight the second is acknowledged
 * while no gate was answered, and another node may still read that leg. Behind this layer neither returns before the leg is
 * set faulty in md and the queue let go (`fail_if_no_path`), which the agent does when all nodes have agreed.
 *
 * - Only what blk_path_error (include/linux/blk_types.h) calls an error of the path is queued. A medium error, a reservation
 *   conflict or a target's refusal reaches md as ever.
 * - dm never takes a failed path back by itself, and multipathd leaves maps alone whose UUID is not its own (`mpath-`).
 * - A suspend of the array waits for queued I/O, with the array's mutex, and stops new reads and writes at once: none is begun
 *   meanwhile. Should one wait already, a store to the member's `state` waits with it, but SET_DISK_FAULTY does not; once the
 *   queue is let go the suspend returns by itself (tried on 6.1).
 * - The same layer holds what is read of the array while no commit waits for this node: its path is failed on purpose
 *   (native-addon/read_gate.h says how that is told from one that was lost), before anything can be read of an array that is assembled.
 *   A path that is used again lets go what waits.
 * - dm_multipath's parameter queue_if_no_path_timeout_secs, 0 unless somebody sets it, would let the queue go by itself.
 */
import { existsSync } from 'node:fs';
import { textOf } from '../error_text.ts';
import { MdError, type MemberPath } from './driver.ts';
import { loadKernelModules } from './kernel_modules.ts';
import { holding, mapName, mapUuid, memberUuidOf } from './layer.ts';
import type { NativeAddon } from './native.ts';
import { type BlockDevice, describe, errorCode } from './real_disks.ts';
import { type FileReader, namesIn, type SysfsMember } from './sysfs_array.ts';
import { comesTrue } from './sysfs_store.ts';

/** Tells of the events of all maps. */
export const DM_CONTROL = '/dev/mapper/control';

const MODULES = ['dm_multipath', 'dm_round_robin'] as const;
/** md lets go of a member's device a moment after it has removed it, on a work queue of its own. */
const REMOVE_PATIENCE_MS = 2000;

export type DeviceMapper = Pick<
  NativeAddon,
  'dmCreate' | 'dmLoad' | 'dmResume' | 'dmRemove' | 'dmMessage' | 'dmStatus' | 'dmTable'
>;

/** The disk itself, whatever md calls it. */
export interface MemberDisk {
  /** Kernel name, `!` for `/`. */
  device: string;
  /** major:minor */
  devno: string;
}

export class MemberPaths {
  readonly #dm: DeviceMapper;
  readonly #readFiles: FileReader;
  /** By the map's UUID. */
  readonly #disks = new Map<string, MemberDisk>();
  #loaded = false;

  constructor(dm: DeviceMapper, readFiles: FileReader) {
    this.#dm = dm;
    this.#readFiles = readFiles;
  }

  /** Puts the layer over a member's disk. The disk itself comes back where this kernel has no dm-multipath. @throws MdError EBUSY */
  async attach(memberUuid: string, disk: BlockDevice): Promise<BlockDevice> {
    if (!this.#loaded) return disk;
    const name = mapName(memberUuid);
    try {
      const { major, minor } = await this.#create(memberUuid);
      await this.#lay(name, disk.devno);
      const device = describe(disk.path, `${major}:${minor}`);
      this.#disks.set(mapUuid(memberUuid), { device: disk.name, devno: disk.devno });
      return device;
    } catch (error) {
      await this.detach(memberUuid).catch(() => undefined);
      const code = errorCode(error);
      throw new MdError(code, `attaching member ${memberUuid} (${disk.path}): ${textOf(error)}`);
    }
  }

  /** As large as the disk is now. */
  async #lay(name: string, devno: string): Promise<void> {
    const sizeSectors = Number(this.#readFiles([`/sys/dev/block/${devno}/size`])[0] ?? 0);
    // queue_mode bio: md hands down bios, and a request queue more would cost; one priority group of one path, chosen by turns.
    const table = `3 queue_if_no_path queue_mode bio 0 1 1 round-robin 0 1 1 ${devno} 1`;
    await this.#dm.dmLoad(name, sizeSectors, 'multipath', table);
    await this.#dm.dmResume(name);
  }

  /** The disk has grown. Not while its path is lost: what waits there would be waited for. */
  async grow(memberUuid: string, disk: MemberDisk): Promise<void> {
    try {
      await this.#lay(mapName(memberUuid), disk.devno);
    } catch (error) {
      throw new MdError(errorCode(error), `the layer over member ${memberUuid} (${disk.device}): ${textOf(error)}`);
    }
  }

  /** A map of this name that nobody holds was left by an agent that died half-way. */
  async #create(memberUuid: string): Promise<{ major: number; minor: number }> {
    const create = () => this.#dm.dmCreate(mapName(memberUuid), mapUuid(memberUuid));
    try {
      return await create();
    } catch (error) {
      if (errorCode(error) !== 'EBUSY') throw error;
      await this.detach(memberUuid);
      return create();
    }
  }

  /** Takes the layer away, once md has let go of it. Nothing stays queued. No layer: done. @throws MdError EBUSY */
  async detach(memberUuid: string): Promise<void> {
    const name = mapName(memberUuid);
    const free = () => this.#maps().every(({ uuid, holders }) => uuid !== memberUuid || holders.length === 0);
    // Never under a running array: what waits there would be told as done.
    if (!(await comesTrue(free, REMOVE_PATIENCE_MS)))
      throw new MdError('EBUSY', `the layer over member ${memberUuid} is in use; stop the array that it is in`);
    // A map that never got its table takes no message.
    await this.#dm.dmMessage(name, 'fail_if_no_path').catch(() => undefined);
    let refusal = { code: '', text: '' };
    const removed = () =>
      this.#dm.dmRemove(name).then(
        () => true,
        (error: unknown) => {
          refusal = { code: errorCode(error), text: textOf(error) };
          return refusal.code !== 'EBUSY';
        },
      );
    const done = await comesTrue(removed, REMOVE_PATIENCE_MS);
    if (!done || !['', 'ENXIO', 'ENOENT'].includes(refusal.code)) throw new MdError(refusal.code, refusal.text);
    this.#disks.delete(mapUuid(memberUuid));
  }

  async detachAll(members: readonly Pick<SysfsMember, 'mapUuid'>[]): Promise<void> {
    const uuids = members.map(memberUuidOf).filter((uuid) => uuid !== null);
    await Promise.all(uuids.map((uuid) => this.detach(uuid)));
  }

  /** Removes layers that nothing stands on: their agent died before md had the member, or after. */
  async sweep(): Promise<void> {
    const stale = this.#maps().filter(({ holders }) => holders.length === 0);
    await Promise.all(stale.map(({ uuid }) => this.detach(uuid).catch(() => undefined)));
  }

  /** The layers that there are, by member. */
  #maps(): { uuid: string; holders: string[] }[] {
    const maps = namesIn('/sys/block').filter((name) => name.startsWith('dm-'));
    const uuids = this.#readFiles(maps.map((name) => `/sys/block/${name}/dm/uuid`));
    return maps.flatMap((name, index) => {
      const uuid = memberUuidOf({ mapUuid: uuids[index] ?? null });
      return uuid === null ? [] : [{ uuid, holders: namesIn(`/sys/block/${name}/holders`) }];
    });
  }

  stateOf(member: SysfsMember): MemberPath {
    const uuid = memberUuidOf(member);
    if (uuid === null) return 'direct';
    const name = mapName(uuid);
    // The line ends in `MAJOR:MINOR A|F FAILURES` of the one path (multipath_status, drivers/md/dm-mpath.c).
    const status = this.#dm.dmStatus(name) ?? '';
    if (!/ \d+:\d+ F \d+/.test(status)) return 'up';
    if (/ D /.test(status)) return 'held';
    return /\bqueue_if_no_path\b/.test(this.#dm.dmTable(name) ?? '') ? 'lost' : 'failing';
  }

  /** I/O that waits, and all that comes, ends with an error. */
  async release(memberUuid: string): Promise<void> {
    await this.#tell(memberUuid, 'fail_if_no_path');
    await this.#tell(memberUuid, 'enable_group 1');
  }

  /** I/O that comes waits, although the path is sound. */
  async hold(memberUuid: string, disk: MemberDisk): Promise<void> {
    for (const message of holding(disk.devno)) await this.#tell(memberUuid, message);
  }

  /** What the guard has to know of the layer that md calls so; null: there is none. */
  layerOf(device: string): { map: string; path: string } | null {
    const [uuid, own] = this.#readFiles([`/sys/block/${device}/dm/uuid`, `/sys/block/${device}/dev`]);
    const memberUuid = memberUuidOf({ mapUuid: uuid ?? null });
    if (memberUuid === null || own == null) return null;
    const { devno } = this.diskOf({ device, devno: own, mapUuid: uuid ?? null });
    return { map: mapName(memberUuid), path: devno };
  }

  async #tell(memberUuid: string, message: string): Promise<void> {
    try {
      await this.#dm.dmMessage(mapName(memberUuid), message);
    } catch (error) {
      throw new MdError(errorCode(error), `the path of member ${memberUuid}: ${textOf(error)}`);
    }
  }

  diskOf(member: Pick<SysfsMember, 'device' | 'devno' | 'mapUuid'>): MemberDisk {
    const { device, devno, mapUuid: uuid } = member;
    if (memberUuidOf(member) === null || uuid === null) return { device, devno };
    const known = this.#disks.get(uuid);
    if (known !== undefined) return known;
    const [below] = namesIn(`/sys/dev/block/${devno}/slaves`);
    const number = below === undefined ? null : this.#readFiles([`/sys/class/block/${below}/dev`])[0];
    if (below === undefined || number == null) return { device, devno };
    const disk = { device: below, devno: number };
    this.#disks.set(uuid, disk);
    return disk;
  }

  /** Without the modules every member is attached directly, as long as this agent runs. */
  async load(): Promise<void> {
    this.#loaded = await loadKernelModules(MODULES).then(
      () => existsSync(DM_CONTROL),
      () => false,
    );
  }
}
