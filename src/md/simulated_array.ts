/**
 * One array as the kernel of one simulated node runs it: gates, suspend, legs, resync over real bytes.
 *
 * A write passes, in this order and as in md's own code (md_handle_request, md_write_start, wait_blocked_rdev): the suspend;
 * gate A, which the first write to a clean array closes; gate B; the resync's barrier. Only then it goes to the legs. A
 * write of which a leg failed is told to its application only after gate A was answered (raid1's bio_end_io_list); but at
 * once, as written, where that leg was faulty before (raid1_end_write_request).
 *
 * Under each leg lies the layer of real_paths.ts: an I/O error makes its path lost, and I/O to it waits, so that md hears
 * nothing. Reads wait for nothing else. raid0 and linear have no gates: their members never become faulty, errors go to the application.
 */
import { isRedundant, survives } from '../arrays/levels.ts';
import type { ArrayRecord } from '../arrays/record.ts';
import { type ArrayObservation, MdError, type MemberPath } from './driver.ts';
import { arraySectors } from './metadata.ts';
import type { SimulatedKernel } from './simulated_kernel.ts';
import { arrayRange, type Piece, piecesOf } from './simulated_layout.ts';

export interface AttachedMember {
  uuid: string;
  disk: string;
  slot: number | null;
  dataOffsetSectors: number;
  inSync: boolean;
  faulty: boolean;
  blocked: boolean;
  path: MemberPath;
}

const COPY_STEP_SECTORS = 256;
const SUSPEND_PATIENCE_MS = 5000;

function xor(into: Uint8Array, from: Uint8Array): Uint8Array {
  for (let at = 0; at < into.length; at++) into[at] = (into[at] ?? 0) ^ (from[at] ?? 0);
  return into;
}

export class SimulatedArray {
  readonly record: ArrayRecord;
  readonly members: AttachedMember[];
  readonly #kernel: SimulatedKernel;
  readonly #random: () => number;
  readonly #changed: () => void;
  /** Nothing was written since the last clean point: the next write asks at gate A. */
  #clean = true;
  #writePending = false;
  #suspended = true;
  #draining = false;
  #frozen = true;
  #broken = false;
  #resyncStartSector: number | null;
  #copy: { position: number } | null = null;
  /** A piece is being copied, be it of a copy that was stopped meanwhile. */
  #stepping = false;
  #barrier = false;
  /** Writes that have passed the suspend; those of them that are on their way to the legs. */
  #admitted = 0;
  #submitted = 0;
  #openers = 0;
  #parityTail: Promise<void> = Promise.resolve();
  #waiting: { ready: () => boolean; act: () => void; resolve: () => void }[] = [];

  constructor(
    kernel: SimulatedKernel,
    record: ArrayRecord,
    members: AttachedMember[],
    random: () => number,
    changed: () => void,
  ) {
    this.#kernel = kernel;
    this.record = record;
    this.members = members;
    this.#random = random;
    this.#changed = changed;
    this.#resyncStartSector = record.resync?.fromSector ?? null;
  }

  // --- what user space sees -------------------------------------------------------------------------------------------

  get gateClosed(): boolean {
    return this.#writePending || this.members.some((member) => member.blocked);
  }

  get held(): boolean {
    return this.#suspended && !this.#draining;
  }

  get busy(): boolean {
    return this.#openers > 0 || this.#admitted > 0;
  }

  observe(): ArrayObservation {
    const gated = isRedundant(this.record.level);
    let arrayState = this.#clean ? 'clean' : 'active';
    if (!gated) arrayState = this.#suspended ? 'readonly' : 'active';
    else if (this.#writePending) arrayState = 'write-pending';
    else if (this.#broken) arrayState = 'broken';
    const inSync = this.members.filter((member) => member.slot !== null && member.inSync).length;
    return {
      md: this.record.md,
      arrayUuid: this.record.uuid,
      arrayState,
      writePending: this.#writePending,
      held: this.held,
      syncAction: this.#copy !== null ? 'resync' : this.#frozen && gated ? 'frozen' : 'idle',
      syncCompleted:
        this.#copy === null ? null : { doneSectors: this.#copy.position, totalSectors: this.record.componentSectors },
      resyncStartSector: this.#resyncStartSector,
      degraded: this.record.raidDisks - inSync,
      members: this.members.map(({ uuid, disk, slot, inSync: sync, faulty, blocked, path }) => ({
        uuid,
        device: disk,
        slot,
        inSync: sync,
        faulty,
        blocked,
        path,
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
    if (this.held || (!this.#suspended && this.gateClosed)) return Promise.resolve();
    this.#suspended = true;
    this.#draining = true;
    return new Promise((resolve, reject) => {
      const giveUp = this.#kernel.later(SUSPEND_PATIENCE_MS, () =>
        reject(new MdError('ETIMEDOUT', `${this.record.md}: suspend did not return in ${SUSPEND_PATIENCE_MS} ms`)),
      );
      void this.#until(
        () => this.#admitted === 0 || !this.#suspended,
        () => {
          this.#draining = false;
        },
      ).then(() => {
        giveUp();
        this.#changed();
        resolve();
      });
    });
  }

  open(): void {
    this.#suspended = false;
    this.#draining = false;
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
    if (member.path === 'lost') member.path = 'failing';
    this.#tell();
  }

  /** I/O that waits for a lost path is tried again. */
  restorePath(member: AttachedMember): void {
    if (member.path !== 'direct') member.path = 'up';
    this.#tell();
  }

  addSpare(member: AttachedMember): void {
    if (!isRedundant(this.record.level))
      throw new MdError('EINVAL', `${this.record.md}: ${this.record.level} has no use for a spare`);
    const present = this.members.find((other) => other.disk === member.disk);
    if (present?.slot === null && !present.faulty) return;
    if (present !== undefined)
      throw new MdError('EBUSY', `${this.record.md}: ${member.disk} is attached already; remove it first`);
    this.members.push(member);
    this.#tell();
  }

  setResyncStart(sector: number | null): void {
    if (!this.#frozen || this.#copy !== null)
      throw new MdError('EBUSY', `${this.record.md}: resync_start can be written only while frozen; freeze it first`);
    if (!isRedundant(this.record.level))
      throw new MdError('EINVAL', `${this.record.md}: ${this.record.level} has nothing to resync`);
    this.#resyncStartSector = sector;
    this.#tell();
  }

  async freeze(): Promise<void> {
    if (!isRedundant(this.record.level)) return;
    this.#frozen = true;
    this.#stopCopy();
    await this.#until(() => !this.#stepping);
    this.#tell();
  }

  enter(): () => void {
    this.#openers += 1;
    let left = false;
    return () => {
      if (!left) this.#openers -= 1;
      left = true;
    };
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
    this.#stopCopy();
    this.#tell();
    return true;
  }

  #inSlot(slot: number): AttachedMember | undefined {
    return this.members.find((member) => member.slot === slot && member.inSync && !member.faulty);
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
      await this.#until(() => member.path !== 'lost');
      if (member.path === 'failing')
        throw new MdError('EIO', `${this.record.md}: the path to ${member.disk} has failed; restore it`);
      try {
        return await io();
      } catch (error) {
        if (member.path === 'direct' || !(error instanceof MdError) || error.code !== 'EIO') throw error;
        if (member.path === 'up') member.path = 'lost';
        this.#tell();
      }
    }
  }

  // --- the application's I/O ------------------------------------------------------------------------------------------

  #checkRange(sector: number, sectors: number): void {
    const end = arraySectors(this.record);
    if (!Number.isInteger(sector) || !Number.isInteger(sectors) || sector < 0 || sector + sectors > end)
      throw new MdError('EINVAL', `${this.record.md}: ${sectors} sectors at ${sector} are beyond its ${end}`);
  }

  /** Resolves when the application would be told that it is written. @throws MdError EIO, EINVAL */
  async write(sector: number, bytes: Uint8Array): Promise<void> {
    this.#checkRange(sector, bytes.length / 512);
    const data = Uint8Array.from(bytes);
    await this.#until(
      () => !this.#suspended,
      () => {
        this.#admitted += 1;
      },
    );
    try {
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
      try {
        const pieces = piecesOf(this.record, sector, data.length / 512);
        const outcomes = await Promise.allSettled(
          pieces.map((piece) => {
            const part = data.subarray(piece.at * 512, (piece.at + piece.sectors) * 512);
            return piece.parity === null
              ? this.#writeCopies(piece, part)
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
      // Told only after the failure is on record.
      if (legFailed || failure !== null) await this.#until(() => !this.#writePending);
      if (failure !== null) throw failure;
    } finally {
      this.#admitted -= 1;
      this.#wake();
    }
  }

  /** True: a leg has failed, the others have the data. Throws when none has, or a leg without it cannot be failed. */
  async #writeCopies(piece: Piece, data: Uint8Array): Promise<boolean> {
    const legs = piece.copies.flatMap(({ slot, sector }) => {
      const member = this.#inSlot(slot);
      return member === undefined ? [] : [{ member, sector }];
    });
    let legFailed = false;
    let failure: unknown = legs.length > 0 ? null : new MdError('EIO', `${this.record.md}: no leg in sync is left`);
    await Promise.all(
      legs.map(async ({ member, sector }) => {
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
      const dataLeg = this.#inSlot(copy.slot);
      const parityLeg = this.#inSlot(parity);
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
      if (parityLeg !== undefined && dataLeg !== undefined) {
        const oldData = await attempt(dataLeg, this.#readLeg(dataLeg, copy.sector, piece.sectors));
        const oldParity = await attempt(parityLeg, this.#readLeg(parityLeg, copy.sector, piece.sectors));
        if (oldData !== null && oldParity !== null) newParity = xor(xor(oldParity, oldData), data);
      } else if (parityLeg !== undefined) {
        newParity = Uint8Array.from(data);
        for (let slot = 0; slot < this.record.raidDisks; slot++) {
          if (slot === parity || slot === copy.slot) continue;
          const other = this.#inSlot(slot);
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
    await Promise.all(
      piecesOf(this.record, sector, lengthBytes / 512).map(async (piece) =>
        result.set(await this.#readPiece(piece), piece.at * 512),
      ),
    );
    return result;
  }

  async #readPiece(piece: Piece): Promise<Uint8Array> {
    let failure: unknown = new MdError('EIO', `${this.record.md}: no leg in sync is left`);
    const tried = new Set<AttachedMember>();
    for (;;) {
      const legs = piece.copies.flatMap(({ slot, sector }) => {
        const member = this.#inSlot(slot);
        return member === undefined || tried.has(member) ? [] : [{ member, sector }];
      });
      // At and past the resync's mark only the first leg is the truth.
      const mark = this.#resyncStartSector;
      const past = mark !== null && piece.copies.some(({ sector }) => sector + piece.sectors > mark);
      const leg = legs[past ? 0 : Math.floor(this.#random() * legs.length)];
      if (leg === undefined) {
        if (piece.parity !== null) return this.#rebuildPiece(piece);
        throw failure;
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
      const member = this.#inSlot(slot);
      if (member === undefined) throw new MdError('EIO', `${this.record.md}: two members of a stripe are gone`);
      xor(bytes, await this.#readLeg(member, copy?.sector ?? 0, piece.sectors));
    }
    return bytes;
  }

  // --- resync ---------------------------------------------------------------------------------------------------------

  /** @throws MdError EBUSY, EINVAL */
  async startResync(fromSector: number): Promise<void> {
    if (!isRedundant(this.record.level))
      throw new MdError('EINVAL', `${this.record.md}: ${this.record.level} has nothing to resync`);
    await this.freeze();
    if (this.gateClosed) throw new MdError('EBUSY', `${this.record.md}: a gate is closed; answer it before the resync`);
    this.#frozen = false;
    this.#resyncStartSector = fromSector;
    const copy = { position: fromSector };
    this.#copy = copy;
    this.#tell();
    this.#kernel.later(1, () => void this.#copyOn(copy));
  }

  /** The checkpoint stays in resync_start. */
  #stopCopy(): void {
    this.#copy = null;
  }

  async #copyOn(copy: { position: number }): Promise<void> {
    if (this.#copy !== copy) return;
    const { componentSectors, chunkSectors } = this.record;
    const whole = Math.max(COPY_STEP_SECTORS, chunkSectors);
    const end = this.#somethingToCopy()
      ? Math.min(componentSectors, (Math.floor(copy.position / whole) + 1) * whole)
      : componentSectors;
    this.#stepping = true;
    // The barrier: no write of this node is on its way to the legs while a piece is copied.
    this.#barrier = true;
    await this.#until(() => this.#submitted === 0);
    try {
      if (this.#copy === copy && this.#somethingToCopy()) await this.#copyRange(copy.position, end);
    } finally {
      this.#stepping = false;
      this.#barrier = false;
    }
    if (this.#copy === copy) {
      copy.position = end;
      this.#resyncStartSector = end;
      if (end >= componentSectors) {
        this.#copy = null;
        this.#resyncStartSector = null;
        // Every end of a resync closes gate A.
        this.#writePending = true;
      } else this.#kernel.later(1, () => void this.#copyOn(copy));
    }
    this.#tell();
  }

  #somethingToCopy(): boolean {
    const inSync = this.members.filter((member) => member.slot !== null && member.inSync).length;
    const parity = this.record.level === 'raid4' || this.record.level === 'raid5';
    return parity ? inSync === this.record.raidDisks : inSync > 1;
  }

  /** A leg that fails is failed, which ends the copy; nothing is thrown. */
  async #copyRange(from: number, to: number): Promise<void> {
    const [begin, end] = arrayRange(this.record, from, to);
    const limit = Math.min(end, arraySectors(this.record));
    const stripes = new Set<number>();
    for (const piece of piecesOf(this.record, begin, Math.max(0, limit - begin))) {
      const [first] = piece.copies;
      if (first === undefined) continue;
      if (piece.parity === null) await this.#copyPiece(piece);
      else if (!stripes.has(first.sector)) {
        stripes.add(first.sector);
        await this.#copyParity(piece.parity, first.sector, piece.sectors);
      }
    }
  }

  async #attempt<T>(member: AttachedMember, io: Promise<T>): Promise<T | null> {
    try {
      return await io;
    } catch {
      if (!this.#fail(member)) this.#stopCopy();
      return null;
    }
  }

  async #copyPiece(piece: Piece): Promise<void> {
    const [source, ...targets] = piece.copies.flatMap(({ slot, sector }) => {
      const member = this.#inSlot(slot);
      return member === undefined ? [] : [{ member, sector }];
    });
    if (source === undefined || targets.length === 0) return;
    const bytes = await this.#attempt(source.member, this.#readLeg(source.member, source.sector, piece.sectors));
    if (bytes === null) return;
    await Promise.all(
      targets.map(({ member, sector }) => this.#attempt(member, this.#writeLeg(member, sector, bytes))),
    );
  }

  async #copyParity(parity: number, sector: number, sectors: number): Promise<void> {
    const target = this.#inSlot(parity);
    if (target === undefined) return;
    const bytes = new Uint8Array(sectors * 512);
    for (let slot = 0; slot < this.record.raidDisks; slot++) {
      if (slot === parity) continue;
      const member = this.#inSlot(slot);
      const part = member === undefined ? null : await this.#attempt(member, this.#readLeg(member, sector, sectors));
      if (part === null) return;
      xor(bytes, part);
    }
    await this.#attempt(target, this.#writeLeg(target, sector, bytes));
  }
}
