/**
 * What can be done to one running array through sysfs. Each call is one operation of the contract in driver.ts, without
 * lanes and without the guard: those are the driver's.
 */
import { readFileSync } from 'node:fs';
import { type ArrayRecord, type BitmapPlace, compares, type MemberRecord, type NodeId } from '../arrays/record.ts';
import { copySectors } from '../arrays/windows.ts';
import { textOf } from '../error_text.ts';
import { demandStop, NO_LIMIT_SECTOR } from './copy_rules.ts';
import { type CopyOrder, MdError, type SectorRange } from './driver.ts';
import { memberUuidOf } from './layer.ts';
import type { NativeAddon } from './native.ts';
import { attach, clearArray, enterSlot, LOCATION_PATIENCE_MS, layBitmap, type Place } from './real_assembly.ts';
import { type BlockDevice, errorCode } from './real_disks.ts';
import type { MemberPaths } from './real_paths.ts';
import {
  arrayDirectory,
  copying,
  type FileReader,
  isRebuilding,
  memberDirectory,
  namesIn,
  readArray,
  readChunkSectors,
  readRecoveryStarts,
  type SysfsArray,
  type SysfsMember,
} from './sysfs_array.ts';
import { comesTrue, type SysfsStore } from './sysfs_store.ts';

/** md's thread needs a moment after `-blocked` before it lets a member go. */
const REMOVE_PATIENCE_MS = 2000;
const FREEZE_PATIENCE_MS = 1000;
const FREEZE_TRIES = 5;
const SYNC_START_PATIENCE_MS = 1000;
/** md's thread may just look whether there is something to copy, for which it calls the array busy. */
const SLOTS_PATIENCE_MS = 2000;
/** Where all nodes' writes wait for the answer. */
const SOON_MS = 1;
/** sync_speed_min at this height switches off both the limit and the waiting for others' I/O (md_do_sync). */
const UNLIMITED_KIB_PER_SECOND = '1000000000';
const ACTIONS = { resync: 'resync', recovery: 'recover', check: 'check', repair: 'repair' } as const;

/** md keeps bits in pages, and writes each as a whole. */
const BITS_A_BLOCK = 4096 * 8;
/** sysfs takes a page in one write. */
const WORDS_MAX = 3000;

/** `FIRST-LAST FIRST-LAST`, chunk numbers, as bitmap_store reads them (drivers/md/md.c). */
function wordsOf(ranges: readonly SectorRange[], chunkSectors: number): string[] {
  const writes: string[] = [];
  let words = '';
  for (const { loSector, hiSector } of ranges) {
    if (loSector >= hiSector) continue;
    words += ` ${Math.floor(loSector / chunkSectors)}-${Math.ceil(hiSector / chunkSectors) - 1}`;
    if (words.length < WORDS_MAX) continue;
    writes.push(words.trim());
    words = '';
  }
  return words === '' ? writes : [...writes, words.trim()];
}

function syncMax(toSector: number | null): string {
  return String(toSector ?? NO_LIMIT_SECTOR);
}

/** raid0 and linear know neither failed members, nor spares, nor resync: sysfs has no such files for them. */
function copies(array: SysfsArray): boolean {
  return array.syncAction !== null;
}

/** What all arrays of a node are read and told through. */
export interface ArrayFaces {
  readFiles: FileReader;
  store: SysfsStore;
  paths: MemberPaths;
  setDiskFaulty: NativeAddon['setDiskFaulty'];
}

export class RealArray {
  readonly md: string;
  readonly #readFiles: FileReader;
  readonly #store: SysfsStore;
  readonly #paths: MemberPaths;
  readonly #setDiskFaulty: ArrayFaces['setDiskFaulty'];

  constructor(md: string, { readFiles, store, paths, setDiskFaulty }: ArrayFaces) {
    this.md = md;
    this.#readFiles = readFiles;
    this.#store = store;
    this.#paths = paths;
    this.#setDiskFaulty = setDiskFaulty;
  }

  /** @throws MdError ENODEV when it does not run here */
  read(): SysfsArray {
    const array = readArray(this.md, this.#readFiles);
    if (array === null) throw new MdError('ENODEV', `${this.md} does not run on this node; assemble it first`);
    return array;
  }

  async stop(): Promise<void> {
    const array = readArray(this.md, this.#readFiles);
    if (array === null) return;
    const held = await this.#letQueuesGo(array);
    if (copying(array)) await this.freeze();
    try {
      await clearArray(this.md, this.#readFiles, this.#store);
      await this.#paths.detachAll(array.members);
    } catch (error) {
      for (const member of held)
        await this.#paths.hold(memberUuidOf(member) ?? '', this.#paths.diskOf(member)).catch(() => undefined);
      if (!(error instanceof MdError) || error.code !== 'EBUSY') throw error;
      throw this.#inUse(this.#users());
    }
  }

  /**
   * Else the freeze and the stop would wait for I/O that waits for a path: md's own, of its bitmap or of a copy. Returns those that are to
   * be held again if it does not stop.
   * @throws MdError EBUSY while some of it is an application's
   */
  async #letQueuesGo(array: SysfsArray): Promise<SysfsMember[]> {
    const waiting = array.members.filter((member) => ['lost', 'held'].includes(this.#paths.stateOf(member)));
    if (waiting.length === 0) return [];
    if (this.#inFlight()) {
      const names = waiting.map((member) => this.#nameOf(member)).join(', ');
      throw new MdError('EBUSY', `${this.md} is in use: its I/O waits for the path to ${names}; end that first`);
    }
    // What it read in this moment would end with an error.
    const users = this.#users();
    if (users.length > 0) throw this.#inUse(users);
    const held = waiting.filter((member) => this.#paths.stateOf(member) === 'held');
    const ownWaits = array.bitmap !== null || copying(array);
    for (const member of ownWaits ? waiting : waiting.filter((each) => !held.includes(each))) {
      const uuid = memberUuidOf(member);
      if (uuid !== null) await this.#paths.release(uuid);
    }
    return held;
  }

  /** I/O to a held path would be waited for, with the array's mutex. @throws MdError EBUSY */
  demandNothingWaits(array: SysfsArray): void {
    const held = array.members.some((member) => this.#paths.stateOf(member) === 'held');
    if (held && this.#inFlight())
      throw new MdError('EBUSY', `${this.md}: its reads are held, and one waits; they are let go first`);
  }

  #inFlight(): boolean {
    const inFlight = this.#readFiles([`/sys/block/${this.md}/inflight`])[0] ?? '';
    return inFlight.split(/\s+/).some((count) => Number(count) > 0);
  }

  /**
   * As `startArray` left it there is no sector of it to be read. Now there is, and every read waits.
   * @throws MdError EIO
   */
  async appear(): Promise<void> {
    const set = (name: string, value: string) => this.#set(name, value, 'starting the array');
    for (const member of this.read().members) {
      const uuid = memberUuidOf(member);
      if (uuid !== null) await this.#paths.hold(uuid, this.#paths.diskOf(member));
    }
    await set('array_size', 'default');
    const { sizeSectors } = this.read();
    if (sizeSectors === 0)
      throw new MdError('EIO', `${this.md}: starting the array: it has no size; the kernel log may say why`);
    await set('suspend_hi', String(sizeSectors));
  }

  /**
   * @param array as it stands now
   * @param drained nothing keeps the array's mutex
   */
  async setFaulty(array: SysfsArray, member: SysfsMember, drained: boolean): Promise<void> {
    if (member.states.has('faulty')) return;
    const device = this.#nameOf(member);
    if (!copies(array)) {
      // The kernel would answer EBUSY and call the array broken, for good.
      throw new MdError('EBUSY', `${this.md}: ${device} cannot fail alone: ${array.level} has no copy of its data`);
    }
    const inSync = array.members.filter((other) => other.states.has('in_sync'));
    if (array.level === 'raid1' && member.states.has('in_sync') && inSync.length === 1) {
      // The kernel would refuse too, but also never again rebuild on this array (raid1_error, recovery_disabled).
      throw new MdError('EBUSY', `${this.md}: ${device} is the last member in sync; nothing would be left`);
    }
    if (drained && this.#paths.stateOf(member) === 'held') {
      // Who opens an array for the first time reads its partitions, for which the ioctl below would wait.
      return this.#write(`${memberDirectory(this.md, member.device)}/state`, 'faulty', `failing ${device}`);
    }
    const [major = '', minor = ''] = member.devno.split(':');
    await this.endCopySoon();
    try {
      // Not by its `state` file, which needs the array's mutex: a suspend that drains keeps that, and may wait for this member's I/O.
      await this.#setDiskFaulty(this.md, Number(major), Number(minor));
    } catch (error) {
      throw new MdError(errorCode(error), `${this.md}: failing ${device}: ${textOf(error)}`);
    }
  }

  async remove(member: SysfsMember): Promise<void> {
    const array = this.read();
    const device = this.#nameOf(member);
    if (member.states.has('blocked')) {
      // `remove` would itself clear the block (state_store, drivers/md/md.c): writes held for the failure would go through.
      throw new MdError('EBUSY', `${this.md}: ${device} failed and its gate is closed; it is answered first`);
    }
    if (member.slot !== null && !member.states.has('faulty')) {
      throw new MdError('EBUSY', `${this.md}: ${device} is in use in slot ${member.slot}; set it faulty first`);
    }
    const path = `${memberDirectory(this.md, member.device)}/state`;
    if (member.slot === null && !member.states.has('faulty') && array.degraded > 0) {
      // `remove` first lets the personality look for a use of the member (remove_and_add_spares): with a slot free, the spare
      // would get it, and stay. A faulty one is not asked. Its block goes with it; gate A closes and is answered as always.
      await this.#store.write(`${this.md}: removing ${device}`, path, 'faulty');
    }
    await this.#store.writePatiently(`${this.md}: removing ${device}`, path, 'remove', REMOVE_PATIENCE_MS);
    const gone = () => !namesIn(arrayDirectory(this.md)).includes(`dev-${member.device}`);
    if (!(await comesTrue(gone, REMOVE_PATIENCE_MS))) {
      throw new MdError('EBUSY', `${this.md}: ${device} was removed, but sysfs still lists it`);
    }
    await this.#paths.detachAll([member]);
  }

  /** Members without a slot that have not failed. */
  idleSpares(): SysfsMember[] {
    return this.read().members.filter((member) => member.slot === null && !member.states.has('faulty'));
  }

  /**
   * Returns the name by which md knows it.
   * @throws MdError EBUSY while something is copied, or the disk has another role here
   */
  async addSpare(record: MemberRecord, disk: BlockDevice): Promise<string> {
    const array = this.read();
    if (!copies(array)) throw new MdError('EINVAL', `${this.md}: ${array.level} has no use for a spare`);
    const present = array.members.find((member) => this.#paths.diskOf(member).devno === disk.devno);
    if (present !== undefined) {
      if (present.slot === null && present.states.has('spare')) return present.device;
      const states = [...present.states].join(',');
      throw new MdError('EBUSY', `${this.md}: ${disk.path} is attached already, as ${states}; remove it first`);
    }
    if (copying(array)) {
      // At its end md would take the spare into an empty slot and start to rebuild it by itself.
      throw new MdError('EBUSY', `${this.md}: ${array.syncAction} is under way; freeze it before a spare is attached`);
    }
    await this.freeze();
    return this.#attachWhole(record, disk, async () => {});
  }

  /** Behind its layer and with all that follows, or not at all. Returns the name by which md knows it. */
  async #attachWhole(
    record: MemberRecord,
    disk: BlockDevice,
    then: (device: string) => Promise<void>,
  ): Promise<string> {
    const device = await this.#paths.attach(record.uuid, disk);
    try {
      await attach(this.#store, this.md, { record, device });
      await then(device.name);
      return device.name;
    } catch (error) {
      const path = `${memberDirectory(this.md, device.name)}/state`;
      await this.#store.write('', path, 'remove').catch(() => undefined);
      await this.#paths.detach(record.uuid).catch(() => undefined);
      throw error;
    }
  }

  async setResyncStart(sector: number | null): Promise<void> {
    await this.#set('resync_start', sector === null ? 'none' : String(sector), 'marking what is in sync');
  }

  /** Of the rebuilding member that is furthest behind; null: there is none. */
  rebuildingFrom(array: SysfsArray): number | null {
    const rebuilding = array.members.filter(isRebuilding);
    if (rebuilding.length === 0) return null;
    return Math.min(...readRecoveryStarts(this.md, rebuilding, this.#readFiles));
  }

  get chunkSectors(): number {
    return readChunkSectors(this.md, this.#readFiles);
  }

  /** @throws MdError EINVAL without a bitmap */
  async mark(ranges: readonly SectorRange[]): Promise<void> {
    const { bitmap } = this.read();
    // What has no bitmap takes the bits, and forgets them.
    if (bitmap === null || !(bitmap.chunkSectors > 0))
      throw new MdError('EINVAL', `${this.md}: it has no bitmap on this node to mark anything in`);
    for (const words of wordsOf(ranges, bitmap.chunkSectors))
      await this.#set('bitmap_set_bits', words, 'marking what may differ');
  }

  /** From the frozen state; see demandCopy for what must be so. */
  async startCopy({ kind, fromSector, toSector }: CopyOrder): Promise<void> {
    const set = (name: string, value: string) => this.#set(name, value, `starting the ${kind}`);
    if (kind === 'resync') await set('resync_start', String(fromSector));
    // The last copy may have left a sync_min above the new sync_max, which md would refuse.
    await set('sync_min', '0');
    await set('sync_max', syncMax(toSector));
    if (compares(kind)) await set('sync_min', String(fromSector));
    // Nobody but whoever moves sync_max paces a copy: peers hold their writes for as long as it takes.
    for (const name of ['sync_speed_max', 'sync_speed_min']) await set(name, UNLIMITED_KIB_PER_SECOND);
    await this.#letRun();
    await set('sync_action', ACTIONS[kind]);
    // sync_action shows it at once; only when md's thread has begun does extendCopy find something to go on with.
    const started = () => {
      const seen = readArray(this.md, this.#readFiles);
      return seen === null || seen.syncCompleted !== null || seen.syncAction === 'idle';
    };
    await comesTrue(started, SYNC_START_PATIENCE_MS, SOON_MS);
  }

  /** Takes nothing that may be held for long (max_sync_store takes a spin lock alone), so it need not wait its turn. */
  async extendCopy(toSector: number | null): Promise<void> {
    demandStop(this.md, toSector, this.chunkSectors);
    const underWay = () => {
      const [completed] = this.#readFiles([`${arrayDirectory(this.md)}/sync_completed`]);
      return completed !== null && completed !== undefined && completed !== 'none';
    };
    if (!underWay()) return;
    try {
      await this.#set('sync_max', syncMax(toSector), 'letting the copy go on');
    } catch (error) {
      // md never lets sync_max shrink under a copy: it is further already.
      if (errorCode(error) !== 'EBUSY' || !underWay()) throw error;
    }
  }

  /** md would let a copy wait in the kernel, with its peers' writes held, while another array on the same disks copies. */
  async #letRun(): Promise<void> {
    await this.#set('sync_force_parallel', '1', 'letting copies of several arrays run at once');
  }

  /** New to the array, with a slot from the first moment on. The array is frozen. Returns the name by which md knows it. */
  attachRebuilding(record: MemberRecord, disk: BlockDevice, place: Place): Promise<string> {
    return this.#attachWhole(record, disk, (device) => enterSlot(this.#store, this.md, device, place, true));
  }

  /** A spare gets a slot. */
  async enterSlot(device: string, place: Place): Promise<void> {
    await enterSlot(this.#store, this.md, device, place, true);
  }

  /**
   * Out of its slot, and faulty until enterAgain: nothing takes it into a slot meanwhile. The array is frozen and held.
   * @param answer the gates that this closes
   */
  async leaveSlot(device: string, answer: () => Promise<void>): Promise<void> {
    const directory = memberDirectory(this.md, device);
    const step = `${this.md}: taking ${device} out of its slot`;
    await this.#write(`${directory}/state`, 'faulty', step);
    await answer();
    await this.#store.writePatiently(step, `${directory}/slot`, 'none', REMOVE_PATIENCE_MS);
  }

  /** `re-add` spares what a removal and a new attachment cost; recovery_start is free to be set again then. */
  async enterAgain(device: string, place: Place): Promise<void> {
    await this.becomeSpare(device);
    await this.enterSlot(device, place);
  }

  async becomeSpare(device: string): Promise<void> {
    await this.#write(`${memberDirectory(this.md, device)}/state`, 're-add', `taking ${device} back`);
  }

  /**
   * The member's recovery_start is the end of the component: md's recovery begins there, so finds nothing to copy (md_do_sync),
   * and its end makes the member in sync. Frozen again when this resolves.
   */
  async recoverNothing(device: string): Promise<void> {
    await this.#letRun();
    await this.#set('sync_action', ACTIONS.recovery, `activating ${device}`);
    const path = `${memberDirectory(this.md, device)}/state`;
    const inSync = () => this.#readFiles([path])[0]?.split(',').includes('in_sync') === true;
    const became = await comesTrue(inSync, SYNC_START_PATIENCE_MS, SOON_MS);
    await this.freeze();
    if (!became)
      throw new MdError('ETIMEDOUT', `${this.md}: ${device} did not become in sync; the kernel log may say why`);
  }

  /**
   * md's own way for raid1 (update_raid_disks and raid1_reshape, drivers/md): no data moves, its I/O stands still for a moment.
   * @param answer gate A: a clean array asks before it takes the number, while the store keeps the array's mutex (md_allow_write)
   */
  async setSlots(raidDisks: number, answer: () => Promise<void>): Promise<void> {
    const path = `${arrayDirectory(this.md)}/raid_disks`;
    const step = `${this.md}: making it ${raidDisks} slots`;
    let over = false;
    const stored = this.#store.writePatiently(step, path, String(raidDisks), SLOTS_PATIENCE_MS).finally(() => {
      over = true;
    });
    // Should the answer be refused, the store waits on for the one that the agent gives.
    stored.catch(() => undefined);
    const asks = () => over || this.read().arrayState === 'write-pending';
    for (; !over; await comesTrue(asks, SLOTS_PATIENCE_MS, SOON_MS)) {
      if (this.read().arrayState === 'write-pending') await answer();
    }
    await stored;
  }

  /** What each member may hold from now on; its layer grows with its disk. */
  async growMember({ uuid, dataSizeSectors }: MemberRecord, member: SysfsMember): Promise<void> {
    if (this.#paths.stateOf(member) !== 'direct') await this.#paths.grow(uuid, this.#paths.diskOf(member));
    const kib = String(Math.floor(dataSizeSectors / 2));
    await this.#write(
      `${memberDirectory(this.md, member.device)}/size`,
      kib,
      `letting ${this.#nameOf(member)} hold more`,
    );
  }

  /** Writes to the new part are held before it is there. */
  async setSize(sizeSectors: number, componentSectors: number): Promise<void> {
    await this.#set('suspend_hi', String(sizeSectors), 'holding what it is to grow by');
    await this.#set(
      'component_size',
      String(componentSectors / 2),
      `growing it to ${componentSectors} sectors a member`,
    );
  }

  /**
   * `location` is refused while any recovery flag is set, frozen included, and md drops marks only as it loads a bitmap without a
   * resync_start (location_store and md_bitmap_load, drivers/md/md-bitmap.c). So for a moment md is free to copy: there
   * must be nothing that it could. Frozen again when this resolves.
   */
  async setBitmap(record: ArrayRecord | null, node: NodeId): Promise<void> {
    const { resyncStartSector } = this.read();
    const place = record?.bitmap ?? null;
    await this.#replaceBitmap(place, node);
    if (record !== null && place !== null) {
      // md reads one member, and writes a block of bits only when one of them changes: what stands there may differ between
      // members. A bit that is set in each block brings all of them to all; laid once more, nothing is left of it.
      const blockSectors = BITS_A_BLOCK * place.chunkSectors;
      for (let at = 0; at < copySectors(record, 'resync'); at += blockSectors)
        await this.mark([{ loSector: at, hiSector: at + place.chunkSectors }]);
      await this.#replaceBitmap(place, node);
    }
    if (resyncStartSector !== null) await this.setResyncStart(resyncStartSector);
  }

  async #replaceBitmap(place: BitmapPlace | null, node: NodeId): Promise<void> {
    const { resyncStartSector, bitmap } = this.read();
    if (resyncStartSector !== null) await this.setResyncStart(null);
    try {
      await this.#set('sync_action', 'idle', 'laying its bitmap anew');
      if (bitmap !== null) {
        const path = `${arrayDirectory(this.md)}/bitmap/location`;
        await this.#store.writePatiently(`${this.md}: taking its bitmap away`, path, 'none', LOCATION_PATIENCE_MS);
      }
      if (place !== null) await layBitmap(this.md, place, node, this.#store);
    } finally {
      await this.freeze();
    }
  }

  /**
   * md begins nothing by itself from now on (MD_RECOVERY_FROZEN). What it copies in this moment may wait for a path; the store waits for
   * that, and may keep the array's mutex meanwhile (action_store, drivers/md/md.c).
   */
  async endCopySoon(): Promise<void> {
    const action = () => this.#readFiles([`${arrayDirectory(this.md)}/sync_action`])[0]?.trim() ?? null;
    if (action() === null || action() === 'frozen') return;
    let failure: unknown = null;
    this.#set('sync_action', 'frozen', 'ending its copy').catch((error: unknown) => {
      failure = error;
    });
    const frozen = await comesTrue(() => failure !== null || action() === 'frozen', FREEZE_PATIENCE_MS, SOON_MS);
    if (failure !== null) throw failure;
    if (!frozen)
      throw new MdError('ETIMEDOUT', `${this.md}: told to freeze, but it does not say so; the kernel log may say why`);
  }

  /** raid0 and linear copy nothing: done at once. */
  async freeze(): Promise<void> {
    const array = this.read();
    if (array.syncAction === null || (array.syncAction === 'frozen' && array.syncCompleted === null)) return;
    const still = () => {
      const seen = readArray(this.md, this.#readFiles);
      return seen === null || (seen.syncAction === 'frozen' && seen.syncCompleted === null);
    };
    for (let again = 0; again < FREEZE_TRIES; again += 1) {
      // Each store reaps a copy that has ended; md's own thread may be late with that, or miss its wakeup (md_check_recovery
      // gives up where it does not get the array's mutex at once).
      await this.#tellToFreeze(array);
      if (await comesTrue(still, FREEZE_PATIENCE_MS, SOON_MS)) return;
    }
    const seen = this.read();
    const waitedMs = FREEZE_TRIES * FREEZE_PATIENCE_MS;
    throw new MdError('ETIMEDOUT', `${this.md}: told to freeze, but still ${seen.syncAction} after ${waitedMs} ms`);
  }

  /**
   * The store waits for the copy's I/O, with the array's mutex. Where that waits for reads which the guard has begun to hold meanwhile, only
   * a stop ends it, and nobody may wait here for that.
   * @throws MdError ETIMEDOUT
   */
  async #tellToFreeze({ members }: SysfsArray): Promise<void> {
    const stored = this.#set('sync_action', 'frozen', 'freezing');
    let isOver = false;
    const over = (): void => {
      isOver = true;
    };
    stored.then(over, over);
    const isHeld = (): boolean => members.some((member) => this.#paths.stateOf(member) === 'held');
    const waitsInVain = async (): Promise<void> => {
      await comesTrue(() => isOver || isHeld(), Number.POSITIVE_INFINITY);
      // What is on its way ends, and what waits does not.
      if (await comesTrue(() => isOver, FREEZE_PATIENCE_MS)) return stored;
      throw new MdError('ETIMEDOUT', `${this.md}: told to freeze, but its copy waits for reads, which are held`);
    };
    await Promise.race([stored, waitsInVain()]);
  }

  /** What people know it by. */
  #nameOf(member: SysfsMember): string {
    return this.#paths.diskOf(member).device;
  }

  #set(name: string, value: string, step: string): Promise<void> {
    return this.#write(`${arrayDirectory(this.md)}/${name}`, value, step);
  }

  #write(path: string, value: string, step: string): Promise<void> {
    return this.#store.write(`${this.md}: ${step}`, path, value);
  }

  #inUse(users: readonly string[]): MdError {
    return new MdError(
      'EBUSY',
      `${this.md} is in use (${users.join(', ') || 'some process has it open'}); end that first`,
    );
  }

  /** Mount points and devices on top. */
  #users(): string[] {
    const devno = this.#readFiles([`/sys/block/${this.md}/dev`])[0]?.trim();
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' '))
      .filter((fields) => fields[2] === devno)
      .map((fields) => `mounted on ${fields[4]}`);
    return [...mounts, ...namesIn(`/sys/block/${this.md}/holders`).map((name) => `held by ${name}`)];
  }
}
