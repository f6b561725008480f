/**
 * One array as the kernel of one simulated node runs it: gates, suspend range, legs, copies over real bytes.
 *
 * A write passes, in this order and as in md's own code (md_handle_request, md_write_start, wait_blocked_rdev): the suspend;
 * gate A, which the first write to a clean array closes; gate B; the resync's barrier. Only then it goes to the legs. A
 * write of which a leg failed is told to its application only after gate A was answered (raid1's bio_end_io_list); but at
 * once, as written, where that leg was faulty before (raid1_end_write_request).
 *
 * Under each leg lies the layer of real_paths.ts: an I/O error makes its path lost, and I/O to it waits, so that md hears
 * nothing. Reads wait for that, or for the path of a leg that is held, and for nothing else. raid0 and linear have no gates: their members never become faulty, errors go to the application.
 *
 * A member in a slot that is not in sync is rebuilding: it gets every write and is read only before its recovery offset. An
 * array that is not frozen copies by itself as md does: the rebuilding of a spare first, then what resync_start marks.
 */
import { arraySectors, isRedundant, survives } from '../arrays/levels.ts';
import { type ArrayRecord, type CopyKind, compares, type MemberRecord } from '../arrays/record.ts';
import { copySectors, rangeOnArray } from '../arrays/windows.ts';
import {
  activeAlready,
  covers,
  demandAttachable,
  demandCopy,
  demandFrozen,
  demandHeld,
  demandMovable,
  demandOpenGates,
  demandReads,
  demandStop,
  NO_LIMIT_SECTOR,
  overlap,
} from './copy_rules.ts';
import { type ArrayObservation, type CopyOrder, MdError, type MemberPath, type SectorRange } from './driver.ts';
import type { SimulatedBitmap } from './simulated_bitmap.ts';
import type { SimulatedKernel } from './simulated_kernel.ts';
import { type Piece, piecesOf } from './simulated_layout.ts';

export interface AttachedMember {
  uuid: string;
  disk: string;
  slot: number | null;
  dataOffsetSectors: number;
  inSync: boolean;
  /** Of a rebuilding member: what lies before this sector of the component is in sync. */
  recoverySector: number;
  faulty: boolean;
  blocked: boolean;
  path: MemberPath;
}

/** This node's bitmap, and where it lies on each member. */
export interface KeptBitmap {
  bitmap: SimulatedBitmap;
  sector: number;
}

interface Leg {
  member: AttachedMember;
  sector: number;
}

interface Copy {
  kind: CopyKind;
  position: number;
  /** As sync_completed shows it: now and then, not at each step. */
  completed: number;
  /** Stands at sync_max. */
  waiting: boolean;
  /** A member failed while it stood there: it ends when it is let go on. */
  over: boolean;
}

/** md's own unit of resync I/O (RESYNC_BLOCK_SIZE, drivers/md/raid1-10.c). */
const COPY_STEP_SECTORS = 128;
const COPY_STEP_MS = 1;
const SUSPEND_PATIENCE_MS = 5000;
/** As the real driver, of a copy that waits for reads. */
const FREEZE_PATIENCE_MS = 1000;
/** `time_base` of the bitmap. */
const BITMAP_ROUND_MS = 5000;
const ACTIONS = { resync: 'resync', recovery: 'recover', check: 'check', repair: 'repair' } as const;

function xor(into: Uint8Array, from: Uint8Array): Uint8Array {
  for (let at = 0; at < into.length; at++) into[at] = (into[at] ?? 0) ^ (from[at] ?? 0);
  return into;
}

function isRebuilding(member: AttachedMember): boolean {
  return member.slot !== null && !member.inSync && !member.faulty;
}

export class SimulatedArray {
  #record: ArrayRecord;
  readonly members: AttachedMember[];
  readonly #kernel: SimulatedKernel;
  readonly #random: () => number;
  readonly #changed: () => void;
  /** Nothing was written since the last clean point: the next write asks at gate A. */
  #clean = true;
  #writePending = false;
  #sizeSectors: number;
  /** Writes in it wait. */
  #suspended: SectorRange | null;
  /** A suspend is on its way: no write is let in at all, and those in flight are waited for (mddev_suspend). */
  #draining: { whole: boolean } | null = null;
  #frozen = true;
  #broken = false;
  #resyncStartSector: number | null;
  #copy: Copy | null = null;
  #syncMaxSector = Number.POSITIVE_INFINITY;
  #mismatchSectors = 0;
  /** Of applications; as the block device's `stat` counts them. */
  writesEnded = 0;
  /** Writes whose legs are chosen, and which have gone to none of them. */
  waitForBits = 0;
  /** A piece is being copied, be it of a copy that was stopped meanwhile. */
  #stepping = false;
  /** Interrupted: while a piece of it is under way it is not over. */
  #ending: Copy | null = null;
  /** Of the array. null: nothing is read or written for a copy in this moment. */
  piece: SectorRange | null = null;
  /** Told of each stretch in which a check or repair has compared the copies, in its unit. */
  onCompared: ((range: SectorRange) => void) | null = null;
  #barrier = false;
  /** Under md, by `holdPaths`. */
  #readsHeld: boolean;
  /** Its bitmap is on the members: before that nothing can be read of it. */
  #born = false;
  #reading = 0;
  /** Writes that have passed the suspend; those of them that are on their way to the legs. */
  #admitted = 0;
  #submitted = 0;
  #openers = 0;
  #parityTail: Promise<void> = Promise.resolve();
  #kept: KeptBitmap | null;
  /** A member came in that lacks more than is marked (conf->fullsync): a recovery copies everything. */
  #fillsAll: boolean;
  /** Bits go to the members one time after the other: none overtakes a newer one. */
  #bitmapTail: Promise<void> = Promise.resolve();
  #bitmapQueued: Promise<void> | null = null;
  #stopped = false;
  #waiting: { ready: () => boolean; act: () => void; resolve: () => void }[] = [];

  constructor(
    kernel: SimulatedKernel,
    record: ArrayRecord,
    members: AttachedMember[],
    kept: KeptBitmap | null,
    random: () => number,
    changed: () => void,
  ) {
    this.#kernel = kernel;
    this.#record = record;
    this.members = members;
    this.#kept = kept;
    this.#random = random;
    this.#changed = changed;
    this.#sizeSectors = arraySectors(record);
    this.#suspended = this.#whole;
    this.#resyncStartSector = record.resync?.kind === 'resync' ? record.resync.fromSector : null;
    this.#fillsAll = members.some(isRebuilding);
    this.#readsHeld = isRedundant(record.level);
    for (const member of members) this.#holdPath(member);
    // To all members alike.
    void this.#flushBitmap().then(() => {
      this.#born = true;
    });
    this.#roundOfBitmap();
  }

  /** As it was assembled, but for what has been changed since: slots and size. */
  get record(): ArrayRecord {
    return this.#record;
  }

  get #whole(): SectorRange {
    return { loSector: 0, hiSector: this.#sizeSectors };
  }

  // --- what user space sees -------------------------------------------------------------------------------------------

  get gateClosed(): boolean {
    return this.#writePending || this.members.some((member) => member.blocked);
  }

  get held(): boolean {
    return covers(this.#suspended, this.#sizeSectors);
  }

  /**
   * From where on the copy under way may copy what it is let go on to: a resync by marks begins again if a leg fails, where one is left to
   * be copied to. null: nothing.
   */
  get copiesFrom(): number | null {
    const copy = this.#copy;
    if (copy === null || !this.#somethingToCopy(copy.kind)) return null;
    if (copy.kind !== 'resync' || this.#kept === null) return copy.position;
    const legs = this.members.filter((member) => member.slot !== null && !member.faulty).length;
    return this.#kept.bitmap.nextNeeded(copy.over || legs > 2 ? 0 : copy.position);
  }

  get busy(): boolean {
    return this.#openers > 0 || this.#admitted > 0 || this.#reading > 0;
  }

  observe(): ArrayObservation {
    const gated = isRedundant(this.record.level);
    let arrayState = this.#clean ? 'clean' : 'active';
    if (!gated) arrayState = this.held ? 'readonly' : 'active';
    else if (this.#writePending) arrayState = 'write-pending';
    else if (this.#broken) arrayState = 'broken';
    const inSync = this.members.filter((member) => member.slot !== null && member.inSync).length;
    const copy = this.#copy ?? (this.#stepping ? this.#ending : null);
    const isFrozen = this.#frozen && gated && this.#copy === null;
    return {
      md: this.record.md,
      arrayUuid: this.record.uuid,
      arrayState,
      writePending: this.#writePending,
      held: this.held,
      suspended: this.#suspended,
      syncAction: isFrozen ? 'frozen' : copy !== null ? ACTIONS[copy.kind] : 'idle',
      syncCompleted:
        copy === null ? null : { doneSectors: copy.completed, totalSectors: copySectors(this.record, copy.kind) },
      resyncStartSector: this.#resyncStartSector,
      copyUnended: Number.isFinite(this.#syncMaxSector),
      mismatchSectors: this.#mismatchSectors,
      degraded: this.record.raidDisks - inSync,
      raidDisks: this.record.raidDisks,
      sizeSectors: this.#sizeSectors,
      bitmap: this.#kept === null ? null : { sector: this.#kept.sector, chunkSectors: this.#kept.bitmap.chunkSectors },
      members: this.members.map((member) => ({
        uuid: member.uuid,
        device: member.disk,
        slot: member.slot,
        inSync: member.inSync,
        rebuilding: isRebuilding(member),
        faulty: member.faulty,
        blocked: member.blocked,
        path: member.path,
      })),
    };
  }

  // --- waiting --------------------------------------------------------------------------------------------------------

  /** `act` runs in the instant in which `ready` is seen true: nothing comes between. */
  #until(ready: () => boolean, act: () => void = () => {}): Promise<void> {
    if (ready()) {
      act();
      return Promise.resolve();
    }
    return new Promise((resolve) => this.#waiting.push({ ready, act, resolve }));
  }

  #wake(): void {
    for (let again = true; again; ) {
      again = false;
      for (const waiter of this.#waiting) {
        if (!waiter.ready()) continue;
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        waiter.act();
        waiter.resolve();
        again = true;
        break;
      }
    }
  }

  #tell(): void {
    this.#wake();
    this.#changed();
  }

  // --- user space's orders --------------------------------------------------------------------------------------------

  /** @throws MdError ETIMEDOUT when writes in flight do not end, e.g. because a gate closed meanwhile and nobody answers */
  hold(): Promise<void> {
    if (this.held || (this.#draining?.whole !== true && this.gateClosed)) return Promise.resolve();
    return this.#suspend(this.#whole);
  }

  /** @throws MdError EINVAL, EAGAIN, ETIMEDOUT */
  async holdRange(range: SectorRange): Promise<void> {
    if (!isRedundant(this.record.level))
      throw new MdError('EINVAL', `${this.record.md}: ${this.record.level} has no suspend range`);
    demandOpenGates(this.observe(), 'suspending a range');
    await this.#suspend(overlap(range, this.#whole));
  }

  /** What a suspend waits for as well (raid1_quiesce, raid5_quiesce); raid10_quiesce does not. */
  get #drainsPiece(): boolean {
    return this.#stepping && this.record.level !== 'raid10';
  }

  /** A later suspend, or the opening, takes the place of one that still drains. */
  #suspend(range: SectorRange | null): Promise<void> {
    const draining = { whole: covers(range, this.#sizeSectors) };
    this.#draining = draining;
    // What is not to be held after is not promised from now on.
    this.#suspended = overlap(this.#suspended, range);
    return new Promise((resolve, reject) => {
      const giveUp = this.#kernel.later(SUSPEND_PATIENCE_MS, () =>
        reject(new MdError('ETIMEDOUT', `${this.record.md}: suspend did not return in ${SUSPEND_PATIENCE_MS} ms`)),
      );
      void this.#until(
        () => (this.#admitted === 0 && !this.#drainsPiece) || this.#draining !== draining,
        () => {
          if (this.#draining !== draining) return;
          this.#draining = null;
          this.#suspended = range;
        },
      ).then(() => {
        giveUp();
        this.#tell();
        resolve();
      });
    });
  }

  /** No read passes, be it under way or new. */
  holdPaths(): void {
    if (!isRedundant(this.record.level)) return;
    this.#readsHeld = true;
    for (const member of this.members) this.#holdPath(member);
    this.#tell();
  }

  #holdPath(member: AttachedMember): void {
    if (this.#readsHeld && (member.path === 'up' || member.path === 'lost')) member.path = 'held';
  }

  /** However long it takes. */
  async endCopy(): Promise<void> {
    if (this.#copy === null && !this.#stepping) return;
    this.endCopySoon();
    await this.#until(() => !this.#stepping);
    this.#tell();
  }

  /** @throws MdError EBUSY */
  letRead(): void {
    if (this.#copy !== null || this.#stepping)
      throw new MdError('EBUSY', `${this.record.md}: a copy waits, and must not go on; reboot this node`);
    this.#readsHeld = false;
    for (const member of this.members) if (member.path === 'held') member.path = 'up';
    this.#tell();
  }

  /** @throws MdError EAGAIN */
  open(): void {
    if (this.#suspended !== null && !this.held) demandOpenGates(this.observe(), 'opening');
    this.#suspended = null;
    this.#draining = null;
    this.#tell();
  }

  /** `active`, then `-blocked` to each. */
  answerGates(): void {
    this.#writePending = false;
    this.#wake();
    for (const member of this.members) member.blocked = false;
    this.#tell();
  }

  member(uuid: string): AttachedMember {
    const found = this.members.find((candidate) => candidate.uuid === uuid);
    if (found === undefined) throw new MdError('ENOENT', `${this.record.md} has no member ${uuid} on this node`);
    return found;
  }

  /** By an operator or by user space. @throws MdError EBUSY for the last leg */
  setFaulty(member: AttachedMember): void {
    if (!this.#fail(member))
      throw new MdError(
        'EBUSY',
        `${this.record.md}: ${member.disk} is needed: without it nothing would be left; add a disk first`,
      );
  }

  remove(uuid: string): void {
    const member = this.member(uuid);
    if (member.blocked)
      throw new MdError('EBUSY', `${this.record.md}: ${member.disk} failed and its gate is closed; answer it first`);
    if (member.slot !== null && !member.faulty)
      throw new MdError(
        'EBUSY',
        `${this.record.md}: ${member.disk} is in use in slot ${member.slot}; set it faulty first`,
      );
    this.members.splice(this.members.indexOf(member), 1);
    this.releasePath(member);
  }

  /** I/O that waits for a lost path ends with an error. */
  releasePath(member: AttachedMember): void {
    if (member.path === 'lost' || member.path === 'held') member.path = 'failing';
    this.#tell();
  }

  /** I/O that waits for a lost path is tried again. */
  restorePath(member: AttachedMember): void {
    if (member.path === 'held')
      throw new MdError('EAGAIN', `${this.record.md}: its reads are held; they are let go first`);
    if (member.path !== 'direct') member.path = 'up';
    this.#tell();
  }

  /** Attached without a slot. @throws MdError EINVAL, EBUSY */
  async addSpare(member: AttachedMember): Promise<void> {
    if (!isRedundant(this.record.level))
      throw new MdError('EINVAL', `${this.record.md}: ${this.record.level} has no use for a spare`);
    const present = this.members.find((other) => other.disk === member.disk);
    if (present?.slot === null && !present.faulty) return;
    if (present !== undefined)
      throw new MdError('EBUSY', `${this.record.md}: ${member.disk} is attached already; remove it first`);
    if (this.#copy !== null)
      throw new MdError('EBUSY', `${this.record.md}: ${this.#copy.kind} is under way; freeze it first`);
    await this.freeze();
    this.members.push(member);
    this.#holdPath(member);
    this.#tell();
  }

  /** True: it has to leave its slot for a moment. @throws MdError EINVAL, EBUSY */
  mustMove(member: MemberRecord & { slot: number }, fromSector: number): boolean {
    const seen = this.observe();
    demandFrozen(seen, `attaching ${member.uuid} as rebuilding`);
    demandAttachable(seen, this.record, member, fromSector);
    const present = this.members.find((other) => other.uuid === member.uuid);
    if (present === undefined || present.slot === null) return false;
    if (!present.inSync && present.recoverySector === fromSector) return false;
    demandHeld(seen, `moving ${present.disk} to sector ${fromSector}`);
    demandOpenGates(seen, `moving ${present.disk} to sector ${fromSector}`);
    return true;
  }

  attachRebuilding(member: AttachedMember, byMarks: boolean): void {
    if (!byMarks) this.#fillsAll = true;
    const present = this.members.find((other) => other.uuid === member.uuid);
    if (present === undefined) {
      this.members.push(member);
      this.#holdPath(member);
    } else Object.assign(present, { slot: member.slot, inSync: false, recoverySector: member.recoverySector });
    this.#tell();
  }

  /** True: it is in sync already. @throws MdError EBUSY, EAGAIN, ENOENT */
  activeAlready(uuid: string): boolean {
    return activeAlready(this.observe(), uuid);
  }

  activate(uuid: string): void {
    const slots = this.members.filter((member) => member.slot !== null).length;
    if (slots < this.record.raidDisks) this.#sparesLeave();
    this.member(uuid).inSync = true;
    this.#fillsAll = false;
    // It has none of the bits yet: the driver has md recover it from its end on, which begins with that (md_bitmap_write_all).
    void this.#flushBitmap();
    this.#tell();
  }

  /** @throws MdError EBUSY, EAGAIN */
  detachRebuilding(uuid: string): void {
    const member = this.member(uuid);
    if (member.slot === null) return;
    demandMovable(this.observe(), `calling off the rebuilding of ${member.disk}`);
    Object.assign(member, { slot: null, inSync: false, recoverySector: 0 });
    this.#tell();
  }

  setSlots(record: ArrayRecord): void {
    const taken = this.members.filter(({ slot }) => slot !== null).sort((a, b) => (a.slot ?? 0) - (b.slot ?? 0));
    for (const [slot, member] of taken.entries()) member.slot = slot;
    this.#record = { ...this.record, raidDisks: record.raidDisks };
    // md_allow_write: what it asks at gate A is answered before this resolves.
    this.#clean = false;
    this.#tell();
  }

  setSize(record: ArrayRecord): void {
    const before = this.#sizeSectors;
    this.#record = { ...this.record, componentSectors: record.componentSectors };
    this.#sizeSectors = arraySectors(this.#record);
    this.#suspended = this.#whole;
    this.#resyncStartSector = Math.min(this.#resyncStartSector ?? before, before);
    this.#tell();
  }

  setResyncStart(sector: number | null): void {
    if (!isRedundant(this.record.level))
      throw new MdError('EINVAL', `${this.record.md}: ${this.record.level} has nothing to resync`);
    demandFrozen(this.observe(), 'marking what is in sync');
    this.#resyncStartSector = sector;
    this.#tell();
  }

  /** Nothing is begun from now on. What is copied in this moment may wait for a path, and ends after. */
  endCopySoon(): void {
    this.#frozen = true;
    this.#interrupt();
  }

  /** @throws MdError ETIMEDOUT */
  async freeze(): Promise<void> {
    if (!isRedundant(this.record.level)) return;
    this.endCopySoon();
    await this.#until(() => !this.#stepping || this.#readsHeld);
    if (this.#stepping) {
      // What is on its way ends, and what waits does not.
      let late = false;
      const callOff = this.#kernel.later(FREEZE_PATIENCE_MS, () => {
        late = true;
        this.#wake();
      });
      await this.#until(() => !this.#stepping || late);
      callOff();
    }
    this.#tell();
    if (this.#stepping)
      throw new MdError('ETIMEDOUT', `${this.record.md}: told to freeze, but its copy waits for reads, which are held`);
  }

  /** `idle` to sync_action: md may copy by itself from now on. */
  thaw(): void {
    this.#frozen = false;
    this.#copyByItself();
  }

  enter(): () => void {
    this.#openers += 1;
    let left = false;
    return () => {
      if (!left) this.#openers -= 1;
      left = true;
    };
  }

  // --- the bitmap -----------------------------------------------------------------------------------------------------

  /** @throws MdError EBUSY, EINVAL */
  async mark(ranges: readonly SectorRange[]): Promise<void> {
    demandReads(this.observe(), 'marking what may differ');
    demandFrozen(this.observe(), 'marking what may differ');
    if (this.#kept === null)
      throw new MdError('EINVAL', `${this.record.md}: it has no bitmap on this node to mark anything in`);
    for (const range of ranges) {
      this.#kept.bitmap.mark(range);
      // md_bitmap_dirty_bits
      this.#resyncStartSector = Math.min(this.#resyncStartSector ?? range.loSector, range.loSector);
    }
    await this.#flushBitmap();
    this.#tell();
  }

  setBitmap(kept: KeptBitmap | null): void {
    if (this.observe().degraded > 0) this.#sparesLeave();
    this.#kept = kept;
    void this.#flushBitmap();
    this.#tell();
  }

  /** Resolves when the bits as they are now are on every member that is written to. */
  #flushBitmap(): Promise<void> {
    if (this.#bitmapQueued !== null) return this.#bitmapQueued;
    const flushed = this.#bitmapTail.then(() => {
      this.#bitmapQueued = null;
      return this.#writeBitmap();
    });
    this.#bitmapQueued = flushed;
    this.#bitmapTail = flushed;
    return flushed;
  }

  async #writeBitmap(): Promise<void> {
    const kept = this.#kept;
    if (kept === null) return;
    const bytes = Uint8Array.from(kept.bitmap.bytes);
    const legs = this.members.filter((member) => member.slot !== null && !member.faulty);
    await Promise.all(
      legs.map(async (member) => {
        try {
          const write = () => this.#kernel.write(member.disk, kept.sector * 512, bytes);
          await (this.#born ? this.#onPath(member, write) : write());
        } catch {
          if (!member.faulty) this.#fail(member);
        }
      }),
    );
  }

  #roundOfBitmap(): void {
    this.#kernel.later(BITMAP_ROUND_MS, () => {
      if (this.#stopped) return;
      if (this.#kept?.bitmap.rest()) void this.#flushBitmap();
      this.#roundOfBitmap();
    });
  }

  /** The end: what has no need to stay is cleared at once (md_bitmap_flush). */
  async end(): Promise<void> {
    await this.endCopy();
    this.#stopped = true;
    this.#wake();
    const { bitmap } = this.#kept ?? {};
    const cleared = [bitmap?.rest(), bitmap?.rest()];
    if (cleared.includes(true)) await this.#flushBitmap();
  }

  /** In the unit of a resync. */
  #marksOf(pieces: readonly Piece[], sector: number): SectorRange[] {
    return pieces.map((piece) => {
      const loSector = piece.parity === null ? sector + piece.at : (piece.copies[0]?.sector ?? 0);
      return { loSector, hiSector: loSector + piece.sectors };
    });
  }

  // --- failure --------------------------------------------------------------------------------------------------------

  /** False: the kernel keeps it, because nothing would be left. */
  #fail(member: AttachedMember): boolean {
    if (member.faulty) return true;
    if (!isRedundant(this.record.level)) return false;
    if (member.slot !== null && member.inSync) {
      const left = new Set<number>();
      for (const other of this.members)
        if (other !== member && other.inSync && other.slot !== null) left.add(other.slot);
      if (!survives(this.record, left)) {
        this.#broken = true;
        this.#tell();
        return false;
      }
    }
    member.faulty = true;
    member.inSync = false;
    member.blocked = true;
    this.#writePending = true;
    // What waits for sync_max does not look whether it is to end (md_do_sync).
    if (this.#copy?.waiting) this.#copy.over = true;
    else this.#interrupt();
    this.#tell();
    this.#copyByItself();
    return true;
  }

  #inSync(slot: number): AttachedMember | undefined {
    return this.members.find((member) => member.slot === slot && member.inSync && !member.faulty);
  }

  #writable(slot: number): AttachedMember | undefined {
    return this.members.find((member) => member.slot === slot && !member.faulty);
  }

  /** In sync in this place. */
  #readable(slot: number, sector: number, sectors: number): AttachedMember | undefined {
    const member = this.#writable(slot);
    return member?.inSync || (member?.recoverySector ?? 0) >= sector + sectors ? member : undefined;
  }

  #readableCopies(piece: Piece): Leg[] {
    return piece.copies.flatMap(({ slot, sector }) => {
      const member = this.#readable(slot, sector, piece.sectors);
      return member === undefined ? [] : [{ member, sector }];
    });
  }

  #readLeg(member: AttachedMember, sector: number, sectors: number): Promise<Uint8Array> {
    return this.#onPath(member, () =>
      this.#kernel.read(member.disk, (member.dataOffsetSectors + sector) * 512, sectors * 512),
    );
  }

  #writeLeg(member: AttachedMember, sector: number, bytes: Uint8Array): Promise<void> {
    return this.#onPath(member, () =>
      this.#kernel.write(member.disk, (member.dataOffsetSectors + sector) * 512, bytes),
    );
  }

  /** What dm-multipath with one path and queue_if_no_path does (multipath_end_io_bio, drivers/md/dm-mpath.c). */
  async #onPath<T>(member: AttachedMember, io: () => Promise<T>): Promise<T> {
    for (;;) {
      await this.#until(() => member.path !== 'lost' && member.path !== 'held');
      if (member.path === 'failing')
        throw new MdError('EIO', `${this.record.md}: the path to ${member.disk} has failed; restore it`);
      try {
        return await io();
      } catch (error) {
        if (error instanceof MdError && error.code === 'EBADE') await this.#refused(member);
        if (member.path === 'direct' || !(error instanceof MdError) || error.code !== 'EIO') throw error;
        if (member.path === 'up') member.path = 'lost';
        this.#tell();
      }
    }
  }

  /** The disk refuses this node's writes: as a real member with a bad block that nobody acknowledges, it holds them until it has failed. */
  async #refused(member: AttachedMember): Promise<void> {
    member.blocked = true;
    this.#writePending = true;
    this.#tell();
    await this.#until(() => member.faulty);
  }

  // --- the application's I/O ------------------------------------------------------------------------------------------

  #checkRange(sector: number, sectors: number): void {
    const end = this.#sizeSectors;
    if (!Number.isInteger(sector) || !Number.isInteger(sectors) || sector < 0 || sector + sectors > end)
      throw new MdError('EINVAL', `${this.record.md}: ${sectors} sectors at ${sector} are beyond its ${end}`);
  }

  /** Resolves when the application would be told that it is written. @throws MdError EIO, EINVAL */
  async write(sector: number, bytes: Uint8Array): Promise<void> {
    this.#checkRange(sector, bytes.length / 512);
    const data = Uint8Array.from(bytes);
    // A write that ends where the range begins waits too (is_suspended, drivers/md/md.c).
    const range = { loSector: sector, hiSector: sector + data.length / 512 + 1 };
    await this.#until(
      () => this.#stopped || (this.#draining === null && overlap(this.#suspended, range) === null),
      () => {
        this.#admitted += 1;
      },
    );
    try {
      if (this.#stopped) throw new MdError('ENODEV', `${this.record.md} was stopped; assemble it first`);
      if (isRedundant(this.record.level)) {
        if (this.#clean) {
          this.#clean = false;
          this.#writePending = true;
          this.#tell();
        }
        await this.#until(() => !this.#writePending);
      }
      await this.#until(
        () => !this.#barrier && this.members.every((member) => !member.blocked),
        () => {
          this.#submitted += 1;
        },
      );
      let legFailed = false;
      let failure: unknown = null;
      const pieces = piecesOf(this.record, sector, data.length / 512);
      const marks = this.#marksOf(pieces, sector);
      const { bitmap } = this.#kept ?? {};
      let whole = false;
      let waitsForBits = false;
      for (const mark of marks) if (bitmap?.beginWrite(mark) === true) waitsForBits = true;
      try {
        // md chooses the legs before the bits are written, and submits to them after (flush_bio_list, drivers/md/raid1-10.c).
        const legs = pieces.map((piece) => this.#legsOf(piece));
        whole = pieces.every((piece) => this.#hasAllLegs(piece));
        this.waitForBits += 1;
        try {
          await (waitsForBits ? this.#flushBitmap() : this.#bitmapTail);
        } finally {
          this.waitForBits -= 1;
        }
        const outcomes = await Promise.allSettled(
          pieces.map((piece, index) => {
            const part = data.subarray(piece.at * 512, (piece.at + piece.sectors) * 512);
            return piece.parity === null
              ? this.#writeCopies(legs[index] ?? [], part)
              : this.#writeStripe(piece, piece.parity, part);
          }),
        );
        for (const outcome of outcomes) {
          if (outcome.status === 'rejected') failure ??= outcome.reason;
          else legFailed ||= outcome.value;
        }
      } finally {
        this.#submitted -= 1;
        this.#wake();
      }
      // Told only after the failure is on record, and what it missed is marked no sooner (bio_end_io_list of raid1d).
      if (legFailed || failure !== null) await this.#until(() => !this.#writePending);
      whole &&= !legFailed && failure === null && pieces.every((piece) => this.#hasAllLegs(piece));
      for (const mark of marks) bitmap?.endWrite(mark, whole);
      if (failure !== null) throw failure;
    } finally {
      this.#admitted -= 1;
      this.writesEnded += 1;
      this.#wake();
    }
  }

  #legsOf(piece: Piece): Leg[] {
    return piece.copies.flatMap(({ slot, sector }) => {
      const member = this.#writable(slot);
      return member === undefined ? [] : [{ member, sector }];
    });
  }

  #hasAllLegs(piece: Piece): boolean {
    const slots = [...piece.copies.map(({ slot }) => slot), ...(piece.parity === null ? [] : [piece.parity])];
    return slots.every((slot) => this.#writable(slot) !== undefined);
  }

  /** True: a leg has failed, the others have the data. Throws when none has, or a leg without it cannot be failed. */
  async #writeCopies(legs: readonly Leg[], data: Uint8Array): Promise<boolean> {
    let legFailed = false;
    let failure: unknown = legs.some(({ member }) => member.inSync)
      ? null
      : new MdError('EIO', `${this.record.md}: no leg in sync is left`);
    await Promise.all(
      legs.map(async ({ member, sector }) => {
        // Failed since it was chosen: no error that anybody handles.
        if (member.faulty) return;
        try {
          await this.#writeLeg(member, sector, data);
        } catch (error) {
          if (member.faulty) return;
          if (this.#fail(member)) legFailed = true;
          else failure ??= error;
        }
      }),
    );
    if (failure !== null) throw failure;
    return legFailed;
  }

  /** Read, modify, write; one stripe at a time, as the stripe cache sees to. */
  #writeStripe(piece: Piece, parity: number, data: Uint8Array): Promise<boolean> {
    const done = this.#parityTail.then(() => this.#modifyStripe(piece, parity, data));
    this.#parityTail = done.then(
      () => undefined,
      () => undefined,
    );
    return done;
  }

  async #modifyStripe(piece: Piece, parity: number, data: Uint8Array): Promise<boolean> {
    const [copy] = piece.copies;
    if (copy === undefined) return false;
    let legFailed = false;
    for (;;) {
      const dataLeg = this.#writable(copy.slot);
      const parityLeg = this.#writable(parity);
      const oldDataLeg = this.#readable(copy.slot, copy.sector, piece.sectors);
      const oldParityLeg = this.#readable(parity, copy.sector, piece.sectors);
      let failed = false;
      const attempt = async <T>(member: AttachedMember, io: Promise<T>): Promise<T | null> => {
        try {
          return await io;
        } catch (error) {
          failed = true;
          if (!this.#fail(member)) throw error;
          legFailed = true;
          return null;
        }
      };
      let newParity: Uint8Array | null = null;
      if (oldParityLeg !== undefined && oldDataLeg !== undefined) {
        const oldData = await attempt(oldDataLeg, this.#readLeg(oldDataLeg, copy.sector, piece.sectors));
        const oldParity = await attempt(oldParityLeg, this.#readLeg(oldParityLeg, copy.sector, piece.sectors));
        if (oldData !== null && oldParity !== null) newParity = xor(xor(oldParity, oldData), data);
      } else if (parityLeg !== undefined) {
        newParity = Uint8Array.from(data);
        for (let slot = 0; slot < this.record.raidDisks; slot++) {
          if (slot === parity || slot === copy.slot) continue;
          const other = this.#readable(slot, copy.sector, piece.sectors);
          if (other === undefined) throw new MdError('EIO', `${this.record.md}: two members of a stripe are gone`);
          const bytes = await attempt(other, this.#readLeg(other, copy.sector, piece.sectors));
          if (bytes !== null) xor(newParity, bytes);
        }
      } else if (dataLeg === undefined) throw new MdError('EIO', `${this.record.md}: two members of a stripe are gone`);
      if (failed) continue;
      await Promise.all([
        dataLeg === undefined ? null : attempt(dataLeg, this.#writeLeg(dataLeg, copy.sector, data)),
        parityLeg === undefined || newParity === null
          ? null
          : attempt(parityLeg, this.#writeLeg(parityLeg, copy.sector, newParity)),
      ]);
      return legFailed;
    }
  }

  /** @throws MdError EIO, EINVAL */
  async read(sector: number, lengthBytes: number): Promise<Uint8Array> {
    this.#checkRange(sector, lengthBytes / 512);
    const result = new Uint8Array(lengthBytes);
    this.#reading += 1;
    try {
      await Promise.all(
        piecesOf(this.record, sector, lengthBytes / 512).map(async (piece) =>
          result.set(await this.#readPiece(piece, sector + piece.at), piece.at * 512),
        ),
      );
    } finally {
      this.#reading -= 1;
    }
    return result;
  }

  async #readPiece(piece: Piece, arraySector: number): Promise<Uint8Array> {
    let failure: unknown = null;
    const tried = new Set<AttachedMember>();
    for (;;) {
      const legs = this.#readableCopies(piece).filter(({ member }) => !tried.has(member));
      // At and past the resync's mark only the first leg is the truth.
      const mark = this.#resyncStartSector;
      const first = this.record.level === 'raid10' ? arraySector : (piece.copies[0]?.sector ?? 0);
      const past = mark !== null && first + piece.sectors > mark;
      const leg = legs[past ? 0 : Math.floor(this.#random() * legs.length)];
      if (leg === undefined) {
        if (piece.parity !== null) return this.#rebuildPiece(piece);
        throw failure ?? new MdError('EIO', `${this.record.md}: no leg in sync is left`);
      }
      tried.add(leg.member);
      try {
        return await this.#readLeg(leg.member, leg.sector, piece.sectors);
      } catch (error) {
        failure = error;
        this.#fail(leg.member);
      }
    }
  }

  async #rebuildPiece(piece: Piece): Promise<Uint8Array> {
    const [copy] = piece.copies;
    const bytes = new Uint8Array(piece.sectors * 512);
    for (let slot = 0; slot < this.record.raidDisks; slot++) {
      if (slot === copy?.slot) continue;
      const member = this.#readable(slot, copy?.sector ?? 0, piece.sectors);
      if (member === undefined) throw new MdError('EIO', `${this.record.md}: two members of a stripe are gone`);
      xor(bytes, await this.#readLeg(member, copy?.sector ?? 0, piece.sectors));
    }
    return bytes;
  }

  // --- copies ---------------------------------------------------------------------------------------------------------

  /** In md's own unit of the copy: see `resync` in record.ts. */
  get #rebuilding(): AttachedMember[] {
    return this.members.filter(isRebuilding);
  }

  get #rebuildingFrom(): number | null {
    const rebuilding = this.#rebuilding;
    return rebuilding.length === 0 ? null : Math.min(...rebuilding.map((member) => member.recoverySector));
  }

  /** @throws MdError EBUSY, EINVAL */
  async startCopy(order: CopyOrder): Promise<void> {
    const { level, chunkSectors } = this.record;
    if (!isRedundant(level)) throw new MdError('EINVAL', `${this.record.md}: ${level} has nothing to copy`);
    demandReads(this.observe(), 'copying');
    await this.freeze();
    demandCopy(this.observe(), order, chunkSectors, this.#rebuildingFrom);
    // md prefers the rebuilding of a spare to any other copy, and takes each it finds into a free slot.
    this.#sparesLeave();
    if (order.kind === 'resync') this.#resyncStartSector = order.fromSector;
    this.#syncMaxSector = order.toSector ?? NO_LIMIT_SECTOR;
    this.#frozen = false;
    this.#begin(order.kind, this.#beginningOf(order.kind, order.fromSector));
  }

  /** With a bitmap a resync begins at 0 (md_do_sync). */
  #beginningOf(kind: CopyKind, fromSector: number): number {
    if (kind === 'recovery') return this.#rebuildingFrom ?? 0;
    return kind === 'resync' && this.#kept !== null ? 0 : fromSector;
  }

  /** @throws MdError EINVAL */
  extendCopy(toSector: number | null): void {
    demandStop(this.record.md, toSector, this.record.chunkSectors);
    const copy = this.#copy;
    if (copy === null) return;
    this.#syncMaxSector = Math.max(this.#syncMaxSector, toSector ?? NO_LIMIT_SECTOR);
    if (!copy.waiting) return;
    copy.waiting = false;
    if (copy.over) {
      this.#interrupt();
      this.#tell();
      this.#copyByItself();
    } else this.#kernel.later(0, () => void this.#copyOn(copy));
  }

  #sparesLeave(): void {
    for (const spare of this.members.filter((member) => member.slot === null && !member.faulty))
      this.members.splice(this.members.indexOf(spare), 1);
  }

  #begin(kind: CopyKind, fromSector: number): void {
    const copy = { kind, position: fromSector, completed: fromSector, waiting: false, over: false };
    this.#copy = copy;
    if (kind !== 'recovery') this.#mismatchSectors = 0;
    // The new member has none of the bits yet (md_bitmap_write_all).
    else void this.#flushBitmap();
    this.#tell();
    this.#kernel.later(COPY_STEP_MS, () => void this.#copyOn(copy));
  }

  /** As md_check_recovery does when nothing runs and nothing is frozen. */
  #copyByItself(): void {
    if (this.#frozen || this.#copy !== null || !isRedundant(this.record.level)) return;
    this.#kernel.later(COPY_STEP_MS, () => {
      if (this.#frozen || this.#copy !== null) return;
      if (this.#stepping) return this.#copyByItself();
      for (const spare of this.members.filter((member) => member.slot === null && !member.faulty)) {
        const slots = Array.from({ length: this.record.raidDisks }, (_, slot) => slot);
        const free = slots.find((slot) => !this.members.some((member) => member.slot === slot));
        if (free !== undefined) Object.assign(spare, { slot: free, recoverySector: 0 });
      }
      if (this.#rebuildingFrom !== null) this.#begin('recovery', this.#rebuildingFrom);
      else if (this.#resyncStartSector !== null)
        this.#begin('resync', this.#beginningOf('resync', this.#resyncStartSector));
    });
  }

  /** Every end of a copy closes gate A, whether it was reached or not. How far it came is kept. */
  #interrupt(): void {
    const copy = this.#copy;
    if (copy === null) return;
    this.#copy = null;
    this.#ending = copy;
    this.#writePending = true;
    if (copy.kind === 'resync') this.#resyncStartSector = Math.max(this.#resyncStartSector ?? 0, copy.position);
    this.#kept?.bitmap.endSync(copy.position, true);
    if (copy.kind !== 'recovery') return;
    for (const member of this.#rebuilding) member.recoverySector = Math.max(member.recoverySector, copy.position);
  }

  #finish(copy: Copy): void {
    this.#copy = null;
    this.#writePending = true;
    this.#syncMaxSector = Number.POSITIVE_INFINITY;
    if (copy.kind === 'resync') this.#resyncStartSector = null;
    this.#kept?.bitmap.endSync(Number.POSITIVE_INFINITY, false);
    if (copy.kind === 'recovery' && !this.#countsAsBitmap && !this.#hasFreeSlot) this.#kept?.bitmap.forgetNeeded();
    if (copy.kind === 'recovery' || copy.kind === 'resync') this.#fillsAll = false;
    if (copy.kind === 'recovery') for (const member of this.#rebuilding) member.inSync = true;
    this.#copyByItself();
  }

  async #copyOn(copy: Copy): Promise<void> {
    if (this.#copy !== copy) return;
    const total = copySectors(this.record, copy.kind);
    const { chunkSectors, level } = this.record;
    const whole =
      level === 'raid4' || level === 'raid5' ? Math.max(COPY_STEP_SECTORS, chunkSectors) : COPY_STEP_SECTORS;
    const something = this.#somethingToCopy(copy.kind);
    const limit = Math.min(total, this.#syncMaxSector);
    // A copy that has nowhere to go ends at once, whatever sync_max says.
    const counts = copy.kind === 'resync' || (copy.kind === 'recovery' && this.#countsAsBitmap);
    const bitmap = counts ? this.#kept?.bitmap : undefined;
    const fillsAll = copy.kind === 'recovery' && this.#fillsAll;
    // Skipped whatever sync_max says: nothing is copied there.
    const next = fillsAll ? copy.position : (bitmap?.nextNeeded(copy.position) ?? copy.position);
    const skips = something && next > copy.position && copy.position < limit;
    const step = Math.min(limit, (Math.floor(copy.position / whole) + 1) * whole);
    const end = skips ? next : something ? step : total;
    if (end <= copy.position && copy.position < total) {
      copy.waiting = true;
      copy.completed = copy.position;
      this.#tell();
      return;
    }
    this.#stepping = true;
    // The barrier: no write of this node is on its way to the legs while a piece is copied.
    this.#barrier = true;
    await this.#until(() => this.#submitted === 0);
    try {
      if (this.#copy === copy && something && !skips) {
        // With a slot free, what was copied may still be missed there (still_degraded).
        if (!this.#hasFreeSlot) bitmap?.beginSync(copy.position);
        this.piece = rangeOnArray(this.record, copy.kind, copy.position, end);
        await this.#copyRange(copy.kind, copy.position, end);
        if (this.#copy === copy && compares(copy.kind)) this.onCompared?.({ loSector: copy.position, hiSector: end });
      }
    } finally {
      this.#stepping = false;
      this.#barrier = false;
      this.piece = null;
    }
    if (this.#copy === copy) {
      copy.position = end;
      bitmap?.endSync(end, false);
      // When md_do_sync says how far it is: at half of the way to sync_max, and each sixteenth of the whole.
      const done = end - copy.completed;
      if (done * 2 >= this.#syncMaxSector - copy.completed || done > total / 16) copy.completed = end;
      if (copy.kind === 'resync') this.#resyncStartSector = Math.max(this.#resyncStartSector ?? 0, copy.completed);
      if (end >= total) this.#finish(copy);
      else this.#kernel.later(COPY_STEP_MS, () => void this.#copyOn(copy));
    }
    this.#tell();
  }

  /** Of raid10 with more members than copies the bitmap counts other sectors than a recovery: that is not modelled. */
  get #countsAsBitmap(): boolean {
    const { level, layout, raidDisks } = this.record;
    return level !== 'raid10' || raidDisks === (layout & 0xff);
  }

  get #hasFreeSlot(): boolean {
    return Array.from({ length: this.record.raidDisks }, (_, slot) => slot).some(
      (slot) => this.#writable(slot) === undefined,
    );
  }

  #somethingToCopy(kind: CopyKind): boolean {
    const inSync = this.members.filter((member) => member.slot !== null && member.inSync).length;
    if (kind === 'recovery') return inSync > 0 && this.#rebuilding.length > 0;
    const parity = this.record.level === 'raid4' || this.record.level === 'raid5';
    return parity ? inSync === this.record.raidDisks : inSync > 1;
  }

  /** A leg that fails is failed, which ends the copy; nothing is thrown. */
  async #copyRange(kind: CopyKind, from: number, to: number): Promise<void> {
    const { loSector: begin, hiSector: end } = rangeOnArray(this.record, kind, from, to);
    const limit = Math.min(end, this.#sizeSectors);
    const stripes = new Set<number>();
    for (const piece of piecesOf(this.record, begin, Math.max(0, limit - begin))) {
      const [first] = piece.copies;
      if (first === undefined) continue;
      if (piece.parity !== null) {
        const sector = Math.max(from, first.sector);
        const sectors = Math.min(to, first.sector + piece.sectors) - sector;
        if (stripes.has(first.sector) || sectors <= 0) continue;
        stripes.add(first.sector);
        if (kind === 'recovery') {
          for (const member of this.#rebuilding) await this.#copyStripe(kind, member, sector, sectors);
        } else await this.#copyStripe(kind, this.#inSync(piece.parity), sector, sectors);
      } else if (kind === 'recovery') await this.#fillPiece(piece, from, to);
      else await this.#comparePiece(kind, piece);
    }
  }

  async #attempt<T>(member: AttachedMember, io: Promise<T>): Promise<T | null> {
    try {
      return await io;
    } catch {
      if (!this.#fail(member)) this.#interrupt();
      return null;
    }
  }

  /** The copies of this piece that lie in [from, to) of members that are being rebuilt. */
  async #fillPiece(piece: Piece, from: number, to: number): Promise<void> {
    const source = piece.copies.find(({ slot }) => this.#inSync(slot) !== undefined);
    const leg = source === undefined ? undefined : this.#inSync(source.slot);
    if (source === undefined || leg === undefined) return;
    for (const { slot, sector } of piece.copies) {
      const target = this.#writable(slot);
      const at = Math.max(from, sector);
      const sectors = Math.min(to, sector + piece.sectors) - at;
      if (target === undefined || target.inSync || sectors <= 0) continue;
      const bytes = await this.#attempt(leg, this.#readLeg(leg, source.sector + at - sector, sectors));
      if (bytes === null) return;
      await this.#attempt(target, this.#writeLeg(target, at, bytes));
    }
  }

  async #comparePiece(kind: CopyKind, piece: Piece): Promise<void> {
    const [source, ...targets] = piece.copies.flatMap(({ slot, sector }) => {
      const member = this.#inSync(slot);
      return member === undefined ? [] : [{ member, sector }];
    });
    if (source === undefined || targets.length === 0) return;
    const bytes = await this.#attempt(source.member, this.#readLeg(source.member, source.sector, piece.sectors));
    if (bytes === null) return;
    const wrong: Leg[] = [];
    for (const target of targets) {
      const { member, sector } = target;
      const copy = kind === 'resync' ? null : await this.#attempt(member, this.#readLeg(member, sector, piece.sectors));
      if (kind === 'resync' || (copy !== null && Buffer.compare(copy, bytes) !== 0)) wrong.push(target);
    }
    if (kind !== 'resync' && wrong.length > 0) this.#mismatchSectors += piece.sectors;
    if (kind === 'check') return;
    await Promise.all(wrong.map(({ member, sector }) => this.#attempt(member, this.#writeLeg(member, sector, bytes))));
  }

  /** What this member has to hold of the stripe, from all others. */
  async #copyStripe(
    kind: CopyKind,
    target: AttachedMember | undefined,
    sector: number,
    sectors: number,
  ): Promise<void> {
    if (target === undefined) return;
    const bytes = new Uint8Array(sectors * 512);
    for (let slot = 0; slot < this.record.raidDisks; slot++) {
      if (slot === target.slot) continue;
      const member = this.#inSync(slot);
      const part = member === undefined ? null : await this.#attempt(member, this.#readLeg(member, sector, sectors));
      if (part === null) return;
      xor(bytes, part);
    }
    if (compares(kind)) {
      const copy = await this.#attempt(target, this.#readLeg(target, sector, sectors));
      if (copy === null || Buffer.compare(copy, bytes) === 0) return;
      this.#mismatchSectors += sectors;
      if (kind === 'check') return;
    }
    await this.#attempt(target, this.#writeLeg(target, sector, bytes));
  }
}
