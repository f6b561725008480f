/**
 * The simulated driver: md's gates, suspends and resync over shared real bytes, in the time that it is given. It keeps the
 * contract in driver.ts; the compliance suite runs against it and against the real one.
 *
 * Beyond the contract a `SimulatedNode` is the rest of a machine: applications that read and write /dev/mdX, an operator
 * who types `mdadm --fail`, a crash, a freeze. What it does not model: raid6 and the layouts named in simulated_layout.ts.
 * `resync` of raid4/5 computes parity anew, chunk by chunk; it needs all members and otherwise ends at
 * once, as does a mirror's with one leg.
 */
import { createHash } from 'node:crypto';
import { isRedundant, survives } from '../arrays/levels.ts';
import { fillsByMarks, isWhole } from '../arrays/missed.ts';
import { type ArrayRecord, type BitmapPlace, bitmapSector } from '../arrays/record.ts';
import { copySectors } from '../arrays/windows.ts';
import { textOf } from '../error_text.ts';
import {
  demandBitmapFree,
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
  type MdDriver,
  MdError,
  type MetadataResult,
  type MetadataWrite,
  NAME_TAKEN,
  type SectorRange,
} from './driver.ts';
import { bitmapBytes } from './marks.ts';
import { decodeMeshHeaders, MESH_HEADER_BYTES, meshHeaderSectors } from './mesh_area.ts';
import { recoveryStartOf } from './metadata.ts';
import { type AttachedMember, type KeptBitmap, SimulatedArray } from './simulated_array.ts';
import { SimulatedBitmap } from './simulated_bitmap.ts';
import { SimulatedGuard } from './simulated_guard.ts';
import { SimulatedKernel } from './simulated_kernel.ts';
import { unknownLayout } from './simulated_layout.ts';
import type { SimulatedStorage } from './simulated_storage.ts';
import { type Schedule, seededRandom } from './simulated_time.ts';
import { decodeSuperblockIfAny, SUPERBLOCK_BYTES, SUPERBLOCK_SECTOR } from './superblock.ts';

export { SimulatedStorage } from './simulated_storage.ts';
export { realTime, seededRandom, VirtualTime } from './simulated_time.ts';

export interface SimulatedOptions {
  storage: SimulatedStorage;
  /** Node id. */
  node: number;
  clock: () => number;
  schedule: Schedule;
  /** 0 ≤ x < 1. @default seeded by the node id */
  random?: () => number;
}

/** Less than of real disks: they are small, and everything that is looked for stands at their ends. */
const FINGERPRINT_BYTES = 64 * 1024;
const BLOCK_BYTES = 4096;

function isBlank(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, new Uint8Array(bytes.length)) === 0;
}

export class SimulatedNode implements MdDriver {
  readonly kind = 'simulated';
  readonly node: number;
  readonly #storage: SimulatedStorage;
  readonly #kernel: SimulatedKernel;
  readonly #random: () => number;
  readonly #arrays = new Map<string, SimulatedArray>();
  readonly #listeners = new Set<(md: string) => void>();
  #guard: SimulatedGuard;
  #watchdogMs: number | null = null;
  /** Told of each stretch in which a check or repair here has compared the copies, in its unit. */
  onCompared: ((md: string, range: SectorRange) => void) | null = null;

  constructor(options: SimulatedOptions) {
    this.node = options.node;
    this.#storage = options.storage;
    this.#random = options.random ?? seededRandom(options.node);
    this.#kernel = new SimulatedKernel(options.storage, options.node, options, this.#random);
    this.#guard = this.#newGuard();
  }

  #newGuard(): SimulatedGuard {
    return new SimulatedGuard(this.#kernel, () =>
      [...this.#arrays].map(([md, array]) => ({
        md,
        hold: () => array.hold(),
        endCopy: () => array.endCopy(),
        holdPaths: () => array.holdPaths(),
      })),
    );
  }

  get guard(): SimulatedGuard {
    return this.#guard;
  }

  now(): number {
    return this.#kernel.now();
  }

  /** `kernelBoot` of so many boots: it is asked for often. */
  #bootNamed: { boots: number; uuid: string } | null = null;

  kernelBoot(): string {
    if (this.#bootNamed?.boots !== this.#kernel.boots)
      this.#bootNamed = { boots: this.#kernel.boots, uuid: this.#nameOfBoot() };
    return this.#bootNamed.uuid;
  }

  #nameOfBoot(): string {
    const hex = createHash('sha256').update(`${this.node} ${this.#kernel.boots}`).digest('hex');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
  }

  // --- disks ----------------------------------------------------------------------------------------------------------

  async scan(): Promise<Disk[]> {
    return Promise.all(
      this.#storage
        .namesOn(this.node)
        .map((name) =>
          this.#look(name).catch((error: unknown): Disk => ({ ...this.#bare(name), problem: textOf(error) })),
        ),
    );
  }

  async examine(path: string): Promise<Disk> {
    return this.#look(this.#storage.at(this.node, path));
  }

  #bare(disk: string): Disk {
    const holders = [...this.#arrays].filter(([, array]) => array.members.some((member) => member.disk === disk));
    return {
      path: this.#storage.pathOn(this.node, disk),
      devno: this.#storage.devno(disk),
      sizeSectors: this.#storage.sizeSectors(disk, this.node),
      logicalBlockBytes: 512,
      superblock: null,
      mesh: null,
      problem: null,
      holders: holders.map(([md]) => md),
    };
  }

  async #look(name: string): Promise<Disk> {
    const disk = this.#bare(name);
    const bytes = await this.#kernel.read(name, SUPERBLOCK_SECTOR * 512, SUPERBLOCK_BYTES);
    try {
      disk.superblock = decodeSuperblockIfAny(bytes, disk.path);
      const sectors = disk.superblock === null ? null : meshHeaderSectors(disk.superblock);
      if (sectors !== null) {
        const zero = await this.#kernel.read(name, sectors[0] * 512, MESH_HEADER_BYTES);
        const one = await this.#kernel.read(name, sectors[1] * 512, MESH_HEADER_BYTES);
        disk.mesh = decodeMeshHeaders(zero, one, disk.path)?.header ?? null;
      }
    } catch (error) {
      if (error instanceof MdError) throw error;
      disk.problem = textOf(error);
    }
    return disk;
  }

  async fingerprint(path: string): Promise<{ sizeSectors: number; digest: string; blank: boolean }> {
    const disk = this.#storage.at(this.node, path);
    const sizeSectors = this.#storage.sizeSectors(disk, this.node);
    const whole = Math.floor((sizeSectors * 512) / BLOCK_BYTES) * BLOCK_BYTES;
    const length = Math.min(whole, FINGERPRINT_BYTES);
    const parts = [await this.#kernel.read(disk, 0, length), await this.#kernel.read(disk, whole - length, length)];
    const hash = createHash('sha256');
    for (const part of parts) hash.update(part);
    return { sizeSectors, digest: hash.digest('hex'), blank: parts.every(isBlank) };
  }

  async writeMetadata(writes: MetadataWrite[]): Promise<MetadataResult[]> {
    const byPath = new Map<string, MetadataWrite[]>();
    for (const write of writes) byPath.set(write.path, [...(byPath.get(write.path) ?? []), write]);
    const lease = this.#guard.leaseNumber;
    return Promise.all([...byPath].map(([path, own]) => this.#writeInOrder(path, own, lease)));
  }

  async #writeInOrder(path: string, writes: readonly MetadataWrite[], lease: number): Promise<MetadataResult> {
    try {
      const disk = this.#storage.at(this.node, path);
      for (const { offsetBytes, bytes } of writes) {
        if (offsetBytes % BLOCK_BYTES !== 0 || bytes.length % BLOCK_BYTES !== 0)
          throw new MdError(
            'EINVAL',
            `disk ${path}: ${bytes.length} bytes at ${offsetBytes}: O_DIRECT wants multiples of ${BLOCK_BYTES}`,
          );
        // Immediately before each write, as the guard does.
        if (!this.#guard.leaseLive || this.#guard.leaseNumber !== lease)
          throw new MdError('ELEASE', `disk ${path}: this node's lease has ended; metadata is not its to write`);
        await this.#kernel.write(disk, offsetBytes, bytes);
      }
      return { path, error: null };
    } catch (error) {
      return { path, error: { code: error instanceof MdError ? error.code : 'EIO', text: textOf(error) } };
    }
  }

  async writeNodeBlock(path: string, offsetBytes: number, bytes: Uint8Array): Promise<void> {
    if (offsetBytes % BLOCK_BYTES !== 0 || bytes.length !== BLOCK_BYTES)
      throw new MdError('EINVAL', `disk ${path}: ${bytes.length} bytes at ${offsetBytes} are not a node's block`);
    await this.#kernel.write(this.#storage.at(this.node, path), offsetBytes, bytes);
  }

  async readMetadata(path: string, offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    if (offsetBytes % BLOCK_BYTES !== 0 || lengthBytes % BLOCK_BYTES !== 0)
      throw new MdError(
        'EINVAL',
        `disk ${path}: ${lengthBytes} bytes at ${offsetBytes}: O_DIRECT wants multiples of ${BLOCK_BYTES}`,
      );
    return this.#kernel.read(this.#storage.at(this.node, path), offsetBytes, lengthBytes);
  }

  // --- reservations ---------------------------------------------------------------------------------------------------

  /** On its way, as any other I/O. @throws MdError EIO */
  async #asked<T>(path: string, ask: (disk: string) => T): Promise<T> {
    const disk = this.#storage.at(this.node, path);
    await this.#kernel.moment();
    if (this.#storage.broken(this.node, disk, 'write'))
      throw new MdError('ENOLINK', `disk ${path}: it does not answer node ${this.node}`);
    return ask(disk);
  }

  readReservations(path: string): Promise<DiskReservations> {
    return this.#asked(path, (disk) => this.#storage.readReservations(this.node, disk));
  }

  registerKey(path: string, key: string): Promise<string[]> {
    return this.#asked(path, (disk) => this.#storage.registerKey(this.node, disk, key));
  }

  confirmKey(path: string, key: string): Promise<string[] | null> {
    return this.#asked(path, (disk) => this.#storage.confirmKey(this.node, disk, key));
  }

  reserve(path: string, key: string): Promise<void> {
    return this.#asked(path, (disk) => this.#storage.reserve(this.node, disk, key));
  }

  preemptKey(path: string, key: string, victim: string): Promise<void> {
    return this.#asked(path, (disk) => this.#storage.preemptKey(this.node, disk, key, victim));
  }

  clearReservations(path: string, key: string): Promise<void> {
    return this.#asked(path, (disk) => this.#storage.clearReservations(this.node, disk, key));
  }

  // --- arrays ---------------------------------------------------------------------------------------------------------

  running(): { md: string; metadata: string; devices: string[] }[] {
    return [...this.#arrays].map(([md, array]) => ({
      md,
      metadata: 'external:mdmesh',
      devices: array.members.map((member) => this.#storage.pathOn(this.node, member.disk)),
    }));
  }

  observe(md: string): ArrayObservation | null {
    return this.#arrays.get(md)?.observe() ?? null;
  }

  writesEnded(md: string): number | null {
    return this.#arrays.get(md)?.writesEnded ?? null;
  }

  watch(listener: (md: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #changed(md: string): void {
    this.#kernel.later(0, () => {
      for (const listener of this.#listeners) listener(md);
    });
  }

  #array(md: string): SimulatedArray {
    const array = this.#arrays.get(md);
    if (array === undefined) throw new MdError('ENODEV', `${md} does not run on this node; assemble it first`);
    return array;
  }

  async assemble(record: ArrayRecord, devices: ReadonlyMap<string, string>): Promise<void> {
    await this.#kernel.moment();
    const { md } = record;
    if (this.#arrays.has(md)) throw new MdError('EEXIST', `${md} is there already: ${NAME_TAKEN}`);
    const unknown = unknownLayout(record);
    if (unknown !== null)
      throw new MdError('ENOTSUP', `${md}: ${unknown} is not simulated; use another level or the real driver`);
    const members: AttachedMember[] = [];
    const slots = new Set<number>();
    for (const member of record.members) {
      const path = devices.get(member.uuid);
      if (path === undefined || member.role === 'faulty') continue;
      if (member.role === 'rebuilding' && fillsByMarks(record.resync)) continue;
      members.push(this.#attach(md, member.uuid, path, record, recoveryStartOf(record)));
      if (member.role === 'active' && member.slot !== null) slots.add(member.slot);
    }
    if (!survives(record, slots))
      throw new MdError(
        'EINVAL',
        `${md}: ${slots.size} of ${record.raidDisks} members are too few for ${record.level}; attach more`,
      );
    const kept = await this.#bitmapFor(record, members);
    const array = new SimulatedArray(this.#kernel, record, members, kept, this.#random, () => this.#changed(md));
    array.onCompared = (range) => this.onCompared?.(md, range);
    this.#arrays.set(md, array);
    this.#changed(md);
  }

  async #bitmapFor(record: ArrayRecord, members: readonly AttachedMember[]): Promise<KeptBitmap | null> {
    const place = record.bitmap;
    if (!this.hasBitmaps || place === null || !isRedundant(record.level)) return null;
    const { resync } = record;
    const ownFrom = resync?.kind === 'resync' && resync.by === this.node ? resync.fromSector : null;
    return this.#bitmapAt(record, place, members, isWhole(record) ? ownFrom : 0);
  }

  /** With the bits of all members in sync: one may have had its own from before another came. */
  async #bitmapAt(
    record: ArrayRecord,
    place: BitmapPlace,
    members: readonly AttachedMember[],
    neededFrom: number | null,
  ): Promise<KeptBitmap> {
    const sector = bitmapSector(place, this.node);
    const length = Math.ceil(bitmapBytes(record, place) / BLOCK_BYTES) * BLOCK_BYTES;
    const found = new Uint8Array(length);
    for (const { disk, inSync } of members) {
      if (!inSync) continue;
      const own = await this.#kernel.read(disk, sector * 512, length);
      for (let at = 0; at < length; at++) found[at] = (found[at] ?? 0) | (own[at] ?? 0);
    }
    return { bitmap: new SimulatedBitmap(place, copySectors(record, 'resync'), found, neededFrom), sector };
  }

  /** False: a kernel whose sysfs shows no files of a bitmap. */
  hasBitmaps = true;

  /** As its role in the record says. `recoverySector`: of a rebuilding member */
  #attach(md: string, uuid: string, path: string, record: ArrayRecord, recoverySector: number): AttachedMember {
    const disk = this.#storage.at(this.node, path);
    const member = record.members.find((candidate) => candidate.uuid === uuid);
    if (member === undefined) throw new MdError('EINVAL', `${md}: its record knows no member ${uuid}`);
    for (const [other, array] of this.#arrays)
      if (other !== md && array.members.some((attached) => attached.disk === disk))
        throw new MdError('EBUSY', `${md}: ${path} is in use by ${other}; stop that first`);
    demandRoom(record, member, path, this.#storage.sizeSectors(disk, this.node));
    return {
      uuid,
      disk,
      slot: member.role === 'spare' ? null : member.slot,
      dataOffsetSectors: member.dataOffsetSectors,
      inSync: member.role === 'active',
      recoverySector: member.role === 'rebuilding' ? recoverySector : 0,
      faulty: false,
      blocked: false,
      path: isRedundant(record.level) ? 'up' : 'direct',
    };
  }

  async stop(md: string): Promise<void> {
    await this.#kernel.moment();
    const array = this.#arrays.get(md);
    if (array === undefined) return;
    if (array.busy) throw new MdError('EBUSY', `${md} is in use (some process has it open); end that first`);
    for (const member of array.members) array.releasePath(member);
    await array.end();
    this.#arrays.delete(md);
    this.#changed(md);
  }

  async hold(md: string): Promise<void> {
    await this.#kernel.moment();
    await this.#array(md).hold();
  }

  async holdReads(md: string): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    await array.freeze();
    array.holdPaths();
  }

  async letRead(md: string): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    this.#needGrant(md);
    array.letRead();
  }

  async open(md: string): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    this.#needGrant(md);
    array.open();
  }

  async answerGates(md: string, settled?: readonly string[]): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    this.#needGrant(md);
    const unsettled = array.members.find(
      (member) => member.blocked && (!member.faulty || settled?.includes(member.uuid) === false),
    );
    if (unsettled !== undefined) {
      throw new MdError('EAGAIN', `${md}: ${unsettled.disk} has failed meanwhile; nothing is answered`);
    }
    array.answerGates();
  }

  #needGrant(md: string): void {
    if (!this.#guard.grantLive) throw new MdError('EGRANT', `${md}: this node has no live grant; its writes stay held`);
  }

  async setFaulty(md: string, memberUuid: string): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    array.endCopySoon();
    array.setFaulty(array.member(memberUuid));
  }

  async releasePath(md: string, memberUuid: string): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    array.endCopySoon();
    array.releasePath(array.member(memberUuid));
  }

  async restorePath(md: string, memberUuid: string): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    this.#needGrant(md);
    array.restorePath(array.member(memberUuid));
  }

  async remove(md: string, memberUuid: string): Promise<void> {
    await this.#kernel.moment();
    this.#array(md).remove(memberUuid);
  }

  async addSpare(md: string, memberUuid: string, path: string, record: ArrayRecord): Promise<void> {
    await this.#kernel.moment();
    const spare = this.#attach(md, memberUuid, path, record, 0);
    await this.#array(md).addSpare({ ...spare, slot: null, inSync: false });
  }

  async setResyncStart(md: string, sector: number | null): Promise<void> {
    await this.#kernel.moment();
    this.#array(md).setResyncStart(sector);
  }

  async holdRange(md: string, range: SectorRange): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    demandRange(md, range);
    this.#needGrant(md);
    await array.holdRange(range);
    // It may have ended meanwhile: then the guard holds the whole.
    this.#needGrant(md);
  }

  async startCopy(md: string, copy: CopyOrder): Promise<void> {
    await this.#kernel.moment();
    await this.#array(md).startCopy(copy);
  }

  async mark(md: string, ranges: readonly SectorRange[]): Promise<void> {
    await this.#kernel.moment();
    await this.#array(md).mark(ranges);
  }

  async extendCopy(md: string, toSector: number | null): Promise<void> {
    await this.#kernel.moment();
    this.#array(md).extendCopy(toSector);
  }

  async attachRebuilding(
    md: string,
    memberUuid: string,
    path: string,
    record: ArrayRecord,
    fromSector: number,
  ): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    const member = rebuildingMember(record, memberUuid);
    const attached = this.#attach(md, memberUuid, path, record, fromSector);
    if (array.mustMove(member, fromSector)) this.#needGrant(md);
    const asRebuilding = { ...attached, slot: member.slot, inSync: false, recoverySector: fromSector };
    array.attachRebuilding(asRebuilding, fillsByMarks(record.resync));
  }

  async activate(md: string, memberUuid: string, path: string, record: ArrayRecord): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    rebuildingMember(record, memberUuid);
    this.#storage.at(this.node, path);
    if (array.activeAlready(memberUuid)) return;
    this.#needGrant(md);
    array.activate(memberUuid);
  }

  async detachRebuilding(md: string, memberUuid: string): Promise<void> {
    await this.#kernel.moment();
    this.#needGrant(md);
    this.#array(md).detachRebuilding(memberUuid);
  }

  async setSlots(md: string, record: ArrayRecord): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    demandSlots(array.observe(), record);
    this.#needGrant(md);
    array.setSlots(record);
  }

  async setSize(md: string, record: ArrayRecord): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    demandSize(array.observe(), record);
    this.#needGrant(md);
    for (const { uuid, disk } of array.members) {
      const member = record.members.find((candidate) => candidate.uuid === uuid);
      if (member !== undefined) demandRoom(record, member, disk, this.#storage.sizeSectors(disk, this.node));
    }
    demandReads(array.observe(), 'growing');
    array.setSize(record);
  }

  async setBitmap(md: string, record: ArrayRecord | null): Promise<void> {
    await this.#kernel.moment();
    const array = this.#array(md);
    demandBitmapFree(array.observe());
    this.#needGrant(md);
    if (!this.hasBitmaps) return;
    array.setBitmap(record?.bitmap == null ? null : await this.#bitmapAt(record, record.bitmap, array.members, null));
  }

  async freeze(md: string): Promise<void> {
    await this.#kernel.moment();
    await this.#array(md).freeze();
  }

  /** Resets the node when it is frozen for so long; a guard that cannot drop is not modelled. */
  async startWatchdog(_path: string, timeoutSeconds: number): Promise<void> {
    this.#watchdogMs = timeoutSeconds * 1000;
  }

  watchdogFd(): number | null {
    return null;
  }

  /** Another guard keeps the deadline; the one before is gone with its process. */
  async inherit(grantUntilMs: number): Promise<void> {
    this.agentDied();
    this.#guard.extendGrant(grantUntilMs);
  }

  async stopWatchdog(): Promise<void> {
    this.#watchdogMs = null;
  }

  notify(_state: string): void {}

  async notifyBarrier(): Promise<void> {}

  async close(): Promise<void> {
    this.#listeners.clear();
  }

  // --- the rest of the machine ----------------------------------------------------------------------------------------

  /** An application's O_DIRECT write to /dev/MD; whole sectors. Resolves when it would be told so, waits as md makes it wait. */
  async write(md: string, sector: number, bytes: Uint8Array): Promise<void> {
    await this.#array(md).write(sector, bytes);
  }

  async read(md: string, sector: number, lengthBytes: number): Promise<Uint8Array> {
    return this.#array(md).read(sector, lengthBytes);
  }

  /** Opens /dev/MD as a mount would. Returns the way to close it. */
  use(md: string): () => void {
    return this.#array(md).enter();
  }

  /** What waits now would be told as done without a leg that is failed in md by hand, and no gate would close for it. */
  waitForBits(md: string): number {
    return this.#array(md).waitForBits;
  }

  /** `mdadm --fail`, typed on this node. @throws MdError EBUSY for the last leg */
  mdadmFail(md: string, path: string): void {
    const array = this.#array(md);
    const disk = this.#storage.at(this.node, path);
    const member = array.members.find((candidate) => candidate.disk === disk);
    if (member === undefined) throw new MdError('ENOENT', `${md} has no member ${path} on this node`);
    array.setFaulty(member);
  }

  /** `echo idle > sync_action`, typed on this node: md copies by itself from now on, whatever other nodes do. */
  operatorThaws(md: string): void {
    this.#array(md).thaw();
  }

  /** Boots of its kernel so far. */
  get boots(): number {
    return this.#kernel.boots;
  }

  get down(): boolean {
    return this.#kernel.down;
  }

  /** The whole machine stands still. */
  get paused(): boolean {
    return this.#kernel.paused;
  }

  /** The agent's process is gone (kill -9): its arrays run on, and nobody keeps their deadlines. */
  agentDied(): void {
    this.#guard.end();
    this.#guard = this.#newGuard();
    this.#listeners.clear();
  }

  /** What `mdmesh drop-writes` does after that: holds what is open, if nothing is in the way, and what is read. */
  async dropWrites(): Promise<void> {
    await Promise.all(
      [...this.#arrays.values()].map(async (array) => {
        await array.hold().catch(() => undefined);
        await array.endCopy();
        array.holdPaths();
      }),
    );
  }

  /** The piece of this array that this node's md copies in this moment, in its sectors. null: none. */
  copying(md: string): SectorRange | null {
    return this.#arrays.get(md)?.piece ?? null;
  }

  /** From where on this node's md may copy, in the copy's sectors. null: nothing. */
  copiesFrom(md: string): number | null {
    return this.#arrays.get(md)?.copiesFrom ?? null;
  }

  /** Power off: writes in flight may be torn, no promise of this boot is ever settled. */
  crash(): void {
    this.#kernel.crash();
    this.#arrays.clear();
    this.#listeners.clear();
    this.#watchdogMs = null;
  }

  /** Power on again: a new boot, no array, no grant. */
  boot(): void {
    if (!this.#kernel.down) this.crash();
    this.#kernel.boot();
    this.#guard = this.#newGuard();
  }

  /** The whole machine stands still (SIGSTOP of a guest). Its I/O under way lands; an armed watchdog resets it. */
  pause(): void {
    this.#kernel.pause();
    const boots = this.#kernel.boots;
    if (this.#watchdogMs === null) return;
    this.#cancelReset = this.#kernel.outside(this.#watchdogMs, () => {
      if (this.#kernel.boots === boots) this.crash();
    });
  }

  #cancelReset: () => void = () => {};

  resume(): void {
    this.#cancelReset();
    this.#kernel.resume();
  }
}

/** A node's driver over these disks, in this time. */
export function simulatedDriver(options: SimulatedOptions): SimulatedNode {
  return new SimulatedNode(options);
}
