/**
 * The driver over a real kernel: sysfs for the arrays, O_DIRECT for the disks, the native guard for everything that must
 * hold although JavaScript stalls. See driver.ts for the contract; this file joins the pieces and keeps their order:
 *
 * - one lane an array: its operations never overlap. So a suspend and a member's removal never wait for each other.
 * - gates are answered outside that lane, by the guard's own thread: a lane may be stuck in a drain that only the answer ends.
 *   A copy is let go on outside of it too: peers hold writes for as long as it stands.
 * - so is a lost path let go: what stands in the lane may wait for the I/O that waits for it.
 * - members are named by UUID outwards; the device names behind them are looked up at each call.
 */
import { readFileSync } from 'node:fs';
import { arraySectors, isRedundant } from '../arrays/levels.ts';
import { fillsByMarks, isWhole } from '../arrays/missed.ts';
import type { ArrayRecord, NodeId } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import {
  activeAlready,
  demandAttachable,
  demandBitmapFree,
  demandCopy,
  demandFrozen,
  demandHeld,
  demandMovable,
  demandOpenGates,
  demandRange,
  demandReads,
  demandRoom,
  demandSize,
  demandSlots,
  rebuildingMember,
} from './copy_rules.ts';
import {
  type ArrayObservation,
  type CopyOrder,
  type Disk,
  type DiskReservations,
  type Guard,
  type MdDriver,
  MdError,
  type MetadataResult,
  type MetadataWrite,
  type SectorRange,
} from './driver.ts';
import { memberUuidOf } from './layer.ts';
import { readMarks } from './marks.ts';
import { NODE_BLOCK_BYTES } from './mesh_area.ts';
import type { NativeAddon } from './native.ts';
import { RealArray } from './real_array.ts';
import { hasBitmapFiles, loadModules, planAssembly, startArray } from './real_assembly.ts';
import { type BlockDevice, Disks, errorCode, resolveDevice } from './real_disks.ts';
import { RealGuard } from './real_guard.ts';
import { Lanes } from './real_lanes.ts';
import { MemberPaths } from './real_paths.ts';
import { ArrayWatch } from './real_watch.ts';
import { DiskWays } from './real_ways.ts';
import {
  copying,
  type FileReader,
  isRebuilding,
  METADATA_VERSION,
  mdNames,
  readArray,
  readRecoveryStarts,
  type SysfsArray,
  type SysfsMember,
} from './sysfs_array.ts';
import { SysfsStore } from './sysfs_store.ts';

export interface RealDriverOptions {
  /** What may be a member, e.g. `/dev/sd*`, `/dev/mapper/*`. */
  deviceGlobs: readonly string[];
  /** Whose bitmap it keeps on the members. */
  node: NodeId;
  native: NativeAddon;
  /** The agent before still runs: nothing is touched until `inherit`. @default false */
  inherits?: boolean;
}

/** Also takes over every `external:mdmesh` array that runs already: its agent was restarted. Without a grant it is held then. */
export async function realDriver(options: RealDriverOptions): Promise<MdDriver> {
  const driver = new RealDriver(options);
  await (options.inherits === true ? driver.look() : driver.takeOverAll());
  return driver;
}

class RealDriver implements MdDriver {
  readonly kind = 'real';
  readonly guard: Guard;
  readonly #native: NativeAddon;
  readonly #guard: RealGuard;
  /** Held from their first instant on, although sysfs does not show it before they have their size. */
  readonly #assembling = new Set<string>();
  readonly #readFiles: FileReader;
  readonly #store: SysfsStore;
  readonly #disks: Disks;
  readonly #lanes = new Lanes();
  readonly #paths: MemberPaths;
  readonly #ways: DiskWays;
  readonly #watch: ArrayWatch;
  readonly #boot: string;
  readonly #node: NodeId;
  /** `md/device` of members on their way out: a spare is called faulty for a moment then, which is nobody's failure. */
  readonly #leaving = new Set<string>();
  /**
   * Array → members that leave their slot and come back (device → slot), under a whole hold. What sysfs shows of that, gates
   * included, is this driver's own doing and over when the operation is.
   */
  readonly #moving = new Map<string, ReadonlyMap<string, number>>();
  /** Device numbers whose superblocks are being read, or could not be: not asked again for each observation. */
  readonly #askedFor = new Set<string>();

  constructor(options: RealDriverOptions) {
    const { native, node } = options;
    this.#native = native;
    this.#node = node;
    this.#readFiles = (paths) => native.readFiles(paths);
    this.#store = new SysfsStore((path, value) => native.writeFile(path, value));
    this.#disks = new Disks(options.deviceGlobs, this.#readFiles, (path, offset, length) =>
      native.readDirect(path, offset, length),
    );
    this.#paths = new MemberPaths(native, this.#readFiles);
    this.#ways = new DiskWays(native, this.#readFiles);
    const layerOf = (device: string) => this.#paths.layerOf(device);
    this.#guard = new RealGuard(native, this.#readFiles, this.#store, layerOf, () => this.#watch.refresh());
    this.guard = this.#guard;
    this.#boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    this.#watch = new ArrayWatch(native, this.#readFiles, (member) => this.#paths.stateOf(member));
    this.#watch.listen((md) => {
      // Somebody else stopped it.
      if (this.#watch.read(md) === null) this.#guard.forget(md);
    });
  }

  async takeOverAll(): Promise<void> {
    // Here, not with the first array: the fork of a grown process stops its event loop, and leases with it.
    await this.#paths.load();
    await this.#paths.sweep();
    await Promise.all(mdNames().map((md) => this.#inLane(md, () => this.#takeOver(md))));
  }

  /** What takes time, and changes nothing. */
  async look(): Promise<void> {
    await this.#paths.load();
    await Promise.all(mdNames().map((md) => this.#identify(md)));
  }

  async inherit(grantUntilMs: number): Promise<void> {
    this.#guard.extendGrant(grantUntilMs);
    const take = async (md: string): Promise<void> => {
      const array = await this.#identify(md);
      if (array === null) return;
      const readsHeld = array.members.some((member) => this.#paths.stateOf(member) === 'held');
      await this.#guard.register(array, false, readsHeld);
      this.#guard.settled(this.#array(md).read());
    };
    await Promise.all(mdNames().map((md) => this.#inLane(md, () => take(md))));
  }

  /** null: not running, or another's. */
  async #identify(md: string): Promise<SysfsArray | null> {
    const array = this.#ours(md);
    if (array !== null) await this.#disks.identify(array.members.map((member) => this.#paths.diskOf(member).devno));
    return array;
  }

  async #takeOver(md: string): Promise<void> {
    const array = await this.#identify(md);
    if (array === null) return;
    await this.#guard.register(array, false, false);
    // Between copies an array is always frozen; the agent before may have died between the end of one and its freeze.
    if (!copying(array)) await this.#array(md).freeze();
  }

  /**
   * One reading for each callback of the event loop and the promises that it settles: what a message says is dated after
   * its arrival all the same, because it arrives in a callback of its own. Reading the clock may be a system call.
   */
  now(): number {
    if (this.#turnMs === null) {
      this.#turnMs = this.#native.bootTimeMs();
      process.nextTick(this.#endTurn);
    }
    return this.#turnMs;
  }
  #turnMs: number | null = null;
  readonly #endTurn = (): void => {
    this.#turnMs = null;
  };

  kernelBoot(): string {
    return this.#boot;
  }

  scan(): Promise<Disk[]> {
    return this.#disks.scan();
  }

  examine(path: string): Promise<Disk> {
    return this.#disks.examine(path);
  }

  fingerprint(path: string): Promise<{ sizeSectors: number; digest: string; blank: boolean }> {
    return this.#disks.fingerprint(path);
  }

  readMetadata(path: string, offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    return this.#disks.readMetadata(path, offsetBytes, lengthBytes);
  }

  async writeNodeBlock(path: string, offsetBytes: number, bytes: Uint8Array): Promise<void> {
    if (offsetBytes % NODE_BLOCK_BYTES !== 0 || bytes.length !== NODE_BLOCK_BYTES)
      throw new MdError('EINVAL', `disk ${path}: ${bytes.length} bytes at ${offsetBytes} are not a node's block`);
    try {
      await this.#native.writeDirect(path, offsetBytes, bytes);
    } catch (error) {
      throw new MdError(errorCode(error), `disk ${path}: this node's block: ${textOf(error)}`);
    }
  }

  writeMetadata(writes: MetadataWrite[]): Promise<MetadataResult[]> {
    return this.#guard.writeMetadata(writes);
  }

  async readReservations(path: string): Promise<DiskReservations> {
    // As they were before: a way that comes meanwhile is news to the next look.
    const ways = this.#ways.names(path);
    return { ...(await asMdError(this.#native.readReservations(path))), ways };
  }

  registerKey(path: string, key: string): Promise<string[]> {
    return asMdError(this.#ways.registerKey(path, key));
  }

  confirmKey(path: string, key: string): Promise<string[] | null> {
    return asMdError(this.#ways.confirmKey(path, key));
  }

  reserve(path: string, key: string): Promise<void> {
    return asMdError(this.#native.reserve(path, key));
  }

  preemptKey(path: string, key: string, victim: string): Promise<void> {
    return asMdError(this.#native.preemptAndAbort(path, key, victim));
  }

  clearReservations(path: string, key: string): Promise<void> {
    return asMdError(this.#native.clearReservations(path, key));
  }

  running(): { md: string; metadata: string; devices: string[] }[] {
    const found = [];
    for (const md of mdNames()) {
      const array = readArray(md, this.#readFiles);
      if (array === null || array.arrayState === 'clear') continue;
      found.push({
        md,
        metadata: array.metadata,
        devices: array.members.map((member) => this.#paths.diskOf(member).device),
      });
    }
    return found;
  }

  observe(md: string): ArrayObservation | null {
    const array = oursRunning(this.#watch.read(md));
    if (array === null) return null;
    this.#identifyMissing(array);
    return this.#observation(array);
  }

  writesEnded(md: string): number | null {
    const [stat] = this.#readFiles([`/sys/block/${md}/stat`]);
    // Documentation/block/stat.rst: the fifth is "write I/Os processed".
    const ended = stat?.trim().split(/\s+/)[4];
    return ended === undefined || !/^\d+$/.test(ended) ? null : Number(ended);
  }

  #observation(array: SysfsArray): ArrayObservation {
    const { md } = array;
    const moving = this.#moving.get(md);
    let arrayUuid: string | null = null;
    const staying = array.members.filter((member) => !this.#leaving.has(`${md}/${member.device}`));
    const members = staying.map((member) => {
      const disk = this.#paths.diskOf(member);
      arrayUuid ??= this.#disks.identity(disk.devno)?.array ?? null;
      const slot = moving?.get(member.device);
      return {
        uuid: this.#uuidOf(member),
        device: disk.device.replaceAll('!', '/'),
        slot: slot ?? member.slot,
        inSync: slot === undefined && member.states.has('in_sync') && !member.states.has('faulty'),
        rebuilding: slot !== undefined || isRebuilding(member),
        faulty: slot === undefined && member.states.has('faulty'),
        blocked: slot === undefined && member.states.has('blocked'),
        path: this.#paths.stateOf(member),
      };
    });
    const ownGate = moving !== undefined && array.arrayState === 'write-pending';
    return {
      md,
      arrayUuid,
      arrayState: ownGate ? 'active' : array.arrayState,
      writePending: !ownGate && array.arrayState === 'write-pending',
      held: this.#assembling.has(md) || this.#guard.holds(array),
      suspended: this.#guard.suspended(array),
      syncAction: moving === undefined ? (array.syncAction ?? 'idle') : 'frozen',
      syncCompleted: moving === undefined ? array.syncCompleted : null,
      copyUnended: array.copyUnended,
      resyncStartSector: array.resyncStartSector,
      mismatchSectors: array.mismatchSectors,
      degraded: array.degraded,
      raidDisks: array.raidDisks,
      sizeSectors: array.sizeSectors,
      bitmap: array.bitmap,
      members,
    };
  }

  watch(listener: (md: string) => void): () => void {
    return this.#watch.listen(listener);
  }

  assemble(record: ArrayRecord, paths: ReadonlyMap<string, string>): Promise<void> {
    const { md } = record;
    return this.#inLane(md, async () => {
      const devices = new Map<string, BlockDevice>();
      await Promise.all(
        record.members.map(async (member) => {
          const path = paths.get(member.uuid);
          if (path !== undefined && member.role !== 'faulty')
            devices.set(member.uuid, await this.#memberAt(record, member.uuid, path));
        }),
      );
      const members = planAssembly(record, devices);
      await loadModules(record.level);
      const marks = await this.#ownMarks(record, paths);
      this.#assembling.add(md);
      await startArray(record, this.#node, members, this.#readFiles, this.#store, this.#paths);
      const array = this.#array(md);
      try {
        await this.#spreadMarks(array, record, marks);
        if (isRedundant(record.level)) await array.appear();
        await this.#guard.register(array.read(), true, true);
      } catch (error) {
        await array.stop().catch(() => undefined);
        throw error;
      }
    }).finally(() => this.#assembling.delete(md));
  }

  /** Those that are to be kept, off all members: md reads the first alone, which may have come later than they. */
  async #ownMarks(record: ArrayRecord, paths: ReadonlyMap<string, string>): Promise<SectorRange[]> {
    if (record.bitmap === null || isWhole(record)) return [];
    const seen = record.members.filter(({ uuid }) => paths.has(uuid));
    return readMarks(this, { ...record, members: seen }, [this.#node], paths);
  }

  /** The same marks on all members: else one that is left alone later may lack what md believes to be on disk. */
  async #spreadMarks(array: RealArray, record: ArrayRecord, marks: readonly SectorRange[]): Promise<void> {
    const { resyncStartSector, bitmap, degraded } = array.read();
    if (bitmap === null) return;
    if (marks.length > 0) {
      await array.mark(marks);
      await array.setResyncStart(resyncStartSector);
    } else if (isWhole(record) && degraded === 0 && record.resync?.by !== this.#node)
      await array.setBitmap(record, this.#node);
  }

  stop(md: string): Promise<void> {
    return this.#inLane(md, async () => {
      await this.#array(md).stop();
      this.#guard.forget(md);
    });
  }

  hold(md: string): Promise<void> {
    return this.#inLane(md, () => this.#guard.hold(this.#seen(md)));
  }

  holdReads(md: string): Promise<void> {
    return this.#inLane(md, async () => {
      const array = this.#array(md);
      if (copying(array.read())) await array.freeze();
      await this.#guard.holdReads(md);
    });
  }

  /** Outside of the lane: what stands there may wait for a read. */
  letRead(md: string): Promise<void> {
    return this.#looking(md, () => this.#guard.letRead(md));
  }

  open(md: string): Promise<void> {
    return this.#inLane(md, () => this.#guard.open(this.#seen(md)));
  }

  async answerGates(md: string, settled?: readonly string[]): Promise<void> {
    try {
      const array = this.#array(md).read();
      for (const member of array.members) {
        if (!member.states.has('blocked')) continue;
        const uuid = this.#uuidOf(member);
        const agreed = settled === undefined || (uuid !== null && settled.includes(uuid));
        // Not faulty: writes to it have failed, and an answer would tell them as done.
        if (agreed && member.states.has('faulty')) continue;
        throw new MdError(
          'EAGAIN',
          `${md}: ${this.#paths.diskOf(member).device} has failed meanwhile; nothing is answered`,
        );
      }
      await this.#guard.answerGates(array);
    } finally {
      this.#watch.look(md);
    }
  }

  async setFaulty(md: string, memberUuid: string): Promise<void> {
    const fail = async (): Promise<void> => {
      const seen = this.#seen(md);
      await this.#array(md).setFaulty(seen, this.#memberOf(seen, memberUuid), this.#guard.holds(seen));
    };
    const seen = this.#seen(md);
    // What stands in the lane may be a suspend that waits for this very member.
    const path = this.#paths.stateOf(this.#memberOf(seen, memberUuid));
    const waits = path === 'lost' || (path === 'held' && !this.#guard.holds(seen));
    if (waits) await this.#looking(md, fail);
    else await this.#inLane(md, fail);
  }

  releasePath(md: string, memberUuid: string): Promise<void> {
    return this.#looking(md, async () => {
      const array = this.#array(md);
      if (this.#paths.stateOf(this.#memberOf(array.read(), memberUuid)) === 'direct') return;
      await array.endCopySoon();
      await this.#paths.release(memberUuid);
    });
  }

  restorePath(md: string, memberUuid: string): Promise<void> {
    return this.#looking(md, async () => {
      const member = this.#memberOf(this.#array(md).read(), memberUuid);
      this.#guard.demandGrant(md, 'path not restored');
      if (this.#paths.stateOf(member) !== 'direct') await this.#guard.restorePath(md, member.device);
    });
  }

  remove(md: string, memberUuid: string): Promise<void> {
    return this.#inLane(md, async () => {
      const array = this.#array(md);
      await this.#leave(array, this.#memberOf(array.read(), memberUuid));
    });
  }

  addSpare(md: string, memberUuid: string, path: string, record: ArrayRecord): Promise<void> {
    return this.#inLane(md, async () => {
      const member = record.members.find((candidate) => candidate.uuid === memberUuid);
      if (member === undefined) throw new MdError('EINVAL', `${md}: the record lists no member ${memberUuid}`);
      const device = await this.#memberAt(record, memberUuid, path);
      this.#guard.registerMember(md, await this.#array(md).addSpare(member, device));
    });
  }

  setResyncStart(md: string, sector: number | null): Promise<void> {
    return this.#inLane(md, async () => {
      const array = this.#array(md);
      demandFrozen(this.#observation(array.read()), 'marking what is in sync');
      await array.setResyncStart(sector);
    });
  }

  async holdRange(md: string, range: SectorRange): Promise<void> {
    demandRange(md, range);
    try {
      await this.#lanes.run(md, () => this.#guard.holdRange(md, range));
    } finally {
      // Who asked knows what has changed; a look, many times a second, would be too dear.
      this.#watch.forget(md);
    }
  }

  startCopy(md: string, copy: CopyOrder): Promise<void> {
    return this.#inLane(md, async () => {
      const array = this.#array(md);
      demandReads(this.#observation(array.read()), 'copying');
      await array.freeze();
      const seen = array.read();
      if (seen.syncAction === null) throw new MdError('EINVAL', `${md}: ${seen.level} has nothing to copy`);
      demandCopy(this.#observation(seen), copy, array.chunkSectors, array.rebuildingFrom(seen));
      // md prefers the rebuilding of a spare to any other copy, and takes each it finds into a free slot
      // (md_check_recovery and remove_and_add_spares, drivers/md/md.c).
      for (const spare of array.idleSpares()) await this.#leave(array, spare);
      await array.startCopy(copy);
    });
  }

  mark(md: string, ranges: readonly SectorRange[]): Promise<void> {
    return this.#inLane(md, async () => {
      const array = this.#array(md);
      demandReads(this.#observation(array.read()), 'marking what may differ');
      demandFrozen(this.#observation(array.read()), 'marking what may differ');
      await array.mark(ranges);
    });
  }

  async extendCopy(md: string, toSector: number | null): Promise<void> {
    await this.#array(md).extendCopy(toSector);
  }

  attachRebuilding(
    md: string,
    memberUuid: string,
    path: string,
    record: ArrayRecord,
    fromSector: number,
  ): Promise<void> {
    return this.#inLane(md, async () => {
      const member = rebuildingMember(record, memberUuid);
      const device = await this.#memberAt(record, memberUuid, path);
      const array = this.#array(md);
      const state = array.read();
      const seen = this.#observation(state);
      demandFrozen(seen, `attaching ${device.path} as rebuilding`);
      demandAttachable(seen, record, member, fromSector);
      const place = { slot: member.slot, recoverySector: fromSector, byMarks: fillsByMarks(record.resync) };
      const present = state.members.find((candidate) => this.#uuidOf(candidate) === memberUuid);
      if (present === undefined) {
        this.#guard.registerMember(md, await array.attachRebuilding(member, device, place));
      } else if (present.slot === null) await array.enterSlot(present.device, place);
      else if (present.states.has('in_sync') || readRecoveryStarts(md, [present], this.#readFiles)[0] !== fromSector) {
        const moving = `moving ${device.path} to sector ${fromSector}`;
        demandHeld(seen, moving);
        demandOpenGates(seen, moving);
        const moves = async (): Promise<void> => {
          await array.leaveSlot(present.device, () => this.#guard.answer(md, [present.device]));
          await array.enterAgain(present.device, place);
        };
        await this.#move(array, state, moves, present);
      }
    });
  }

  /** The member is attached, so its disk is not read again: all writes wait meanwhile. */
  activate(md: string, memberUuid: string, _path: string, record: ArrayRecord): Promise<void> {
    return this.#inLane(md, async () => {
      const { slot } = rebuildingMember(record, memberUuid);
      const array = this.#array(md);
      const state = array.read();
      if (activeAlready(this.#observation(state), memberUuid)) return;
      const name = this.#memberOf(state, memberUuid).device;
      const rebuilding = state.members.filter(isRebuilding);
      const sectors = readRecoveryStarts(md, rebuilding, this.#readFiles);
      const others = rebuilding.flatMap(({ device, slot: own }, index) =>
        device === name || own === null
          ? []
          : [{ device, slot: own, recoverySector: sectors[index] ?? 0, byMarks: false }],
      );
      await this.#move(array, state, async () => {
        // Whatever else md finds to rebuild, it would rebuild now, by copying.
        const inSlots = state.members.filter((member) => member.slot !== null).length;
        if (inSlots < record.raidDisks) for (const spare of array.idleSpares()) await this.#leave(array, spare);
        for (const device of [name, ...others.map((other) => other.device)])
          await array.leaveSlot(device, () => this.#guard.answer(md, [device]));
        await array.enterAgain(name, { slot, recoverySector: record.componentSectors, byMarks: false });
        await array.recoverNothing(name);
        for (const other of others) await array.enterAgain(other.device, other);
        // The end of a recovery closes gate A.
        await this.#guard.answer(md, []);
      });
    });
  }

  detachRebuilding(md: string, memberUuid: string): Promise<void> {
    return this.#inLane(md, async () => {
      const array = this.#array(md);
      const state = array.read();
      const { device, slot } = this.#memberOf(state, memberUuid);
      if (slot === null) return;
      demandMovable(this.#observation(state), `calling off the rebuilding of ${device}`);
      await this.#move(array, state, async () => {
        await array.leaveSlot(device, () => this.#guard.answer(md, [device]));
        await array.becomeSpare(device);
        await this.#guard.answer(md, []);
      });
    });
  }

  setSlots(md: string, record: ArrayRecord): Promise<void> {
    return this.#inLane(md, async () => {
      const array = this.#array(md);
      const state = array.read();
      demandSlots(this.#observation(state), record);
      array.demandNothingWaits(state);
      await this.#move(array, state, () => array.setSlots(record.raidDisks, () => this.#guard.answer(md, [])));
    });
  }

  setSize(md: string, record: ArrayRecord): Promise<void> {
    return this.#inLane(md, async () => {
      const array = this.#array(md);
      const state = array.read();
      demandSize(this.#observation(state), record);
      this.#guard.demandGrant(md, 'not grown');
      const growing = state.members.flatMap((member) => {
        const recorded = record.members.find(({ uuid }) => uuid === this.#uuidOf(member));
        return recorded === undefined ? [] : [{ member, recorded }];
      });
      for (const { member, recorded } of growing) {
        const disk = this.#paths.diskOf(member);
        const sectors = Number(this.#readFiles([`/sys/dev/block/${disk.devno}/size`])[0] ?? 0);
        demandRoom(record, recorded, disk.device, sectors);
      }
      // A layer that is laid anew has a path that works.
      demandReads(this.#observation(state), 'growing');
      for (const { member, recorded } of growing) await array.growMember(recorded, member);
      const wanted = arraySectors(record);
      await array.setSize(wanted, record.componentSectors);
      // The guard holds an array of the size that it was told.
      await this.#guard.register(array.read(), true, false);
      const { sizeSectors } = array.read();
      if (sizeSectors !== wanted)
        throw new MdError(
          'EIO',
          `${md}: grown to ${sizeSectors} sectors, not to ${wanted}; the kernel log may say why`,
        );
    });
  }

  setBitmap(md: string, record: ArrayRecord | null): Promise<void> {
    return this.#inLane(md, async () => {
      const array = this.#array(md);
      const state = array.read();
      const seen = this.#observation(state);
      demandBitmapFree(seen);
      if (!hasBitmapFiles(md)) return;
      if (seen.degraded > 0) for (const spare of array.idleSpares()) await this.#leave(array, spare);
      await this.#move(array, state, async () => {
        await array.setBitmap(record, this.#node);
        if (array.read().arrayState === 'write-pending') await this.#guard.answer(md, []);
      });
    });
  }

  /** Members leave their slots and come back, without anybody taking it for failures. */
  async #move(array: RealArray, state: SysfsArray, moves: () => Promise<void>, also?: SysfsMember): Promise<void> {
    const { md } = array;
    this.#guard.demandGrant(md, 'no member moved');
    const slots = new Map<string, number>();
    for (const member of state.members)
      if ((isRebuilding(member) || member === also) && member.slot !== null) slots.set(member.device, member.slot);
    this.#moving.set(md, slots);
    try {
      await moves();
    } finally {
      this.#moving.delete(md);
    }
  }

  freeze(md: string): Promise<void> {
    return this.#inLane(md, () => this.#array(md).freeze());
  }

  startWatchdog(path: string, timeoutSeconds: number, fd?: number): Promise<void> {
    return this.#guard.startWatchdog(path, timeoutSeconds, fd);
  }

  watchdogFd(): number | null {
    return this.#guard.watchdogFd();
  }

  stopWatchdog(): Promise<void> {
    return this.#guard.stopWatchdog();
  }

  notify(state: string): void {
    this.#native.sdNotify(state);
  }

  notifyBarrier(timeoutMs: number): Promise<void> {
    return asMdError(this.#native.sdNotifyBarrier(timeoutMs));
  }

  async close(): Promise<void> {
    this.#watch.close();
    await this.#guard.close();
  }

  #ours(md: string): SysfsArray | null {
    return oursRunning(readArray(md, this.#readFiles));
  }

  /** As this turn of the loop has seen it: other nodes' writes wait for a failure to be applied here, and a look is dear. */
  #seen(md: string): SysfsArray {
    return this.#watch.read(md) ?? this.#array(md).read();
  }

  #array(md: string): RealArray {
    return new RealArray(md, {
      readFiles: this.#readFiles,
      store: this.#store,
      paths: this.#paths,
      setDiskFaulty: (...args) => this.#native.setDiskFaulty(...args),
    });
  }

  #inLane<T>(md: string, operation: () => Promise<T>): Promise<T> {
    return this.#looking(md, () => this.#lanes.run(md, operation));
  }

  async #looking<T>(md: string, operation: () => Promise<T>): Promise<T> {
    try {
      return await operation();
    } finally {
      // md does not notify of everything: look at once.
      this.#watch.look(md);
    }
  }

  async #leave(array: RealArray, member: SysfsMember): Promise<void> {
    const name = `${array.md}/${member.device}`;
    const spare = array.idleSpares().some(({ device }) => device === member.device);
    if (spare) this.#leaving.add(name);
    try {
      await array.remove(member);
      this.#guard.forgetMember(array.md, member.device);
    } finally {
      this.#leaving.delete(name);
    }
  }

  /** The device at this path, which must be the member that the caller believes it to be. */
  async #memberAt(record: ArrayRecord, uuid: string, path: string): Promise<BlockDevice> {
    const { md } = record;
    const disk = await this.#disks.examine(path);
    const found = disk.superblock?.deviceUuid;
    if (found !== uuid) {
      const seen = found === undefined ? (disk.problem ?? 'no superblock') : `member ${found}`;
      throw new MdError('EINVAL', `${path} is not member ${uuid}: ${seen}; scan the disks again`);
    }
    const holders = disk.holders.filter((holder) => holder !== md);
    if (holders.length > 0) {
      // The kernel would not refuse: arrays with external metadata share their claim on a disk (lock_rdev, drivers/md/md.c).
      throw new MdError('EBUSY', `${path} is in use by ${holders.join(', ')}; stop that first`);
    }
    const member = record.members.find((candidate) => candidate.uuid === uuid);
    // The kernel would not ask, and what lies beyond would fail the member.
    if (member !== undefined) demandRoom(record, member, path, disk.sizeSectors);
    return resolveDevice(path);
  }

  #memberOf(array: SysfsArray, memberUuid: string): SysfsMember {
    const member = array.members.find((candidate) => this.#uuidOf(candidate) === memberUuid);
    if (member === undefined) throw new MdError('ENOENT', `${array.md} has no member ${memberUuid} on this node`);
    return member;
  }

  /** The layer's UUID tells it without a look at a disk that may answer no more. */
  #uuidOf(member: SysfsMember): string | null {
    return memberUuidOf(member) ?? this.#disks.identity(member.devno)?.member ?? null;
  }

  #identifyMissing(array: SysfsArray): void {
    const unknown = array.members
      .map((member) => this.#paths.diskOf(member).devno)
      .filter((devno) => this.#disks.identity(devno) === null && !this.#askedFor.has(devno));
    if (unknown.length === 0) return;
    for (const devno of unknown) this.#askedFor.add(devno);
    void this.#disks.identify(unknown).then(() => this.#watch.tell(array.md));
  }
}

/** null: not here, another's, or not started. */
function oursRunning(array: SysfsArray | null): SysfsArray | null {
  if (array === null || array.metadata !== METADATA_VERSION) return null;
  return ['clear', 'inactive'].includes(array.arrayState) ? null : array;
}

async function asMdError<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw new MdError(errorCode(error), textOf(error));
  }
}
