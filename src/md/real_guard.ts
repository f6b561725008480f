/**
 * The native guard as the driver uses it: which arrays it watches over, and what lets their writes pass.
 *
 * raid0 and linear have no suspend range and no gates, so the guard cannot hold them: they are held by `readonly`, from
 * here, and the kernel refuses that (EBUSY) while anybody has the array open. The failed hold is told as `drop-failed`, and
 * the watchdog is petted no more: a mounted raid0 is safe against an expired grant only with a watchdog or a fence command.
 */
import { textOf } from '../error_text.ts';
import { covers, overlap } from './copy_rules.ts';
import type { Guard, GuardEvent, MetadataResult, MetadataWrite, SectorRange } from './driver.ts';
import { MdError } from './driver.ts';
import type { NativeAddon, NativeGuard } from './native.ts';
import { errorCode } from './real_disks.ts';
import { arrayDirectory, type FileReader, gateClosed, isHeld, readArray, type SysfsArray } from './sysfs_array.ts';
import type { SysfsStore } from './sysfs_store.ts';

/** Longer than any drain of sound disks; after it the agent is told, while the suspend goes on trying. */
const HOLD_LIMIT_MS = 10_000;
const LOOP_ALIVE_MS = 100;
/** Of an array of whatever size. */
const WHOLE: SectorRange = { loSector: 0, hiSector: Number.MAX_SAFE_INTEGER };
/** A loop that is silent for this long counts as dead: the watchdog is petted no more. */
const LOOP_LATE_MS = 2000;

export class RealGuard implements Guard {
  readonly #native: NativeGuard;
  readonly #onDrop: () => void;
  readonly #now: () => number;
  readonly #readFiles: FileReader;
  readonly #store: SysfsStore;
  readonly #layerOf: (device: string) => { map: string; path: string } | null;
  /** Array → its members, as registered. */
  readonly #registered = new Map<string, Set<string>>();
  /** Assembled here with the suspend in place before the array took its first write; not opened since. */
  readonly #bornHeld = new Set<string>();
  /** Array → where no write is in flight, because the store that asked for it has returned. */
  readonly #reached = new Map<string, SectorRange>();
  /** Arrays without a suspend range. */
  readonly #plain = new Set<string>();
  /** Of these, the ones that could not be held: told once. */
  readonly #failed = new Set<string>();
  readonly #listeners = new Set<(event: GuardEvent) => void>();
  #alive: NodeJS.Timeout | null = null;

  /**
   * @param layerOf what lies under a member that md calls so, for its reads to be held
   * @param onDrop arrays may have been held by the guard itself: what was read of them before is old
   */
  constructor(
    native: NativeAddon,
    readFiles: FileReader,
    store: SysfsStore,
    layerOf: (device: string) => { map: string; path: string } | null,
    onDrop: () => void,
  ) {
    const heard = (event: GuardEvent): void => {
      if (event.type === 'grant-expired') void this.#holdPlain();
      onDrop();
      this.#tell(event);
    };
    this.#onDrop = onDrop;
    this.#native = native.startGuard(heard);
    this.#now = () => native.bootTimeMs();
    this.#readFiles = readFiles;
    this.#store = store;
    this.#layerOf = layerOf;
  }

  extendLease(untilMs: number): void {
    this.#native.extendLease(untilMs);
  }

  extendGrant(untilMs: number): void {
    this.#native.extendGrant(untilMs);
  }

  endLease(): void {
    this.#native.endLease();
  }

  state(): { leaseUntilMs: number; grantUntilMs: number; dropping: boolean } {
    return this.#native.state();
  }

  onEvent(listener: (event: GuardEvent) => void): void {
    this.#listeners.add(listener);
  }

  async drop(): Promise<void> {
    await Promise.all([translated(this.#native.drop()), this.#holdPlain()]);
    this.#onDrop();
  }

  /**
   * From now on the guard holds this array when the grant has ended; at once if there is none.
   * @param bornHeld it was suspended before it became writable, so that nothing is in flight
   * @param readsHeld so are its reads, and those of each member that comes
   */
  async register(array: SysfsArray, bornHeld: boolean, readsHeld: boolean): Promise<void> {
    const { md } = array;
    this.forget(md);
    if (bornHeld) this.#bornHeld.add(md);
    if (array.suspend === null) {
      this.#plain.add(md);
      if (!this.#grantLives()) await this.#holdPlain();
      return;
    }
    try {
      this.#native.registerArray(md, array.sizeSectors, arrayDirectory(md), readsHeld);
      this.#registered.set(md, new Set());
      for (const member of array.members) this.registerMember(md, member.device);
    } catch (error) {
      this.forget(md);
      throw new MdError(errorCode(error), `${md}: the guard cannot watch over it: ${textOf(error)}`);
    }
  }

  /**
   * As it was left by the agent before, none of whose stores was under way. Its guard may have begun to hold it, and still drain, once
   * the deadline had passed: then nothing is known.
   */
  settled({ md, suspend }: SysfsArray): void {
    if (this.#registered.has(md) && this.#grantLives()) this.#reach(md, suspend);
  }

  registerMember(md: string, device: string): void {
    const members = this.#registered.get(md);
    if (members === undefined) return;
    const layer = this.#layerOf(device);
    if (layer === null) this.#native.registerMember(md, device);
    else this.#native.registerMember(md, device, layer.map, layer.path);
    members.add(device);
  }

  forget(md: string): void {
    this.#plain.delete(md);
    this.#bornHeld.delete(md);
    this.#reached.delete(md);
    if (this.#registered.delete(md)) this.#native.unregisterArray(md);
  }

  forgetMember(md: string, device: string): void {
    if (this.#registered.get(md)?.delete(device) === true) this.#native.unregisterMember(md, device);
  }

  /**
   * Whether no write passes and none is in flight. sysfs shows a suspend range as soon as it is stored, while the store still
   * drains; the guard knows when it has returned.
   */
  holds(array: SysfsArray): boolean {
    if (!isHeld(array)) return false;
    if (!this.#registered.has(array.md) || this.#holdsByItself(array.md)) return true;
    return covers(this.#reached.get(array.md) ?? null, array.sizeSectors);
  }

  #holdsByItself(array: string): boolean {
    if (this.#bornHeld.has(array)) return true;
    return this.#native.state().arrays.some(({ md, standing }) => md === array && standing === 'held');
  }

  /** Where no write passes and none is in flight. */
  suspended(array: SysfsArray): SectorRange | null {
    if (this.holds(array)) return { loSector: 0, hiSector: array.sizeSectors };
    return overlap(array.suspend, this.#reached.get(array.md) ?? null);
  }

  /**
   * Reads nothing by itself, for it is called many times a second: the guard looks at the gates before each store.
   * @throws MdError EINVAL, EGRANT, EAGAIN, ETIMEDOUT
   */
  async holdRange(md: string, range: SectorRange): Promise<void> {
    if (!this.#registered.has(md)) throw new MdError('EINVAL', `${md} has no suspend range`);
    const before = this.#holdsByItself(md) ? WHOLE : (this.#reached.get(md) ?? null);
    this.#bornHeld.delete(md);
    await this.#reaching(
      md,
      before,
      range,
      withinLimit(md, translated(this.#native.suspendRange(md, range.loSector, range.hiSector))),
    );
  }

  /** While the range is on its way, only what lies in both is sure to have nothing in flight. */
  async #reaching(
    md: string,
    before: SectorRange | null,
    range: SectorRange | null,
    call: Promise<void>,
  ): Promise<void> {
    this.#reach(md, overlap(before, range));
    try {
      await call;
      this.#reach(md, range);
    } catch (error) {
      // Refused before the first step or after it: what is left of the range before was held all the time.
      this.#reach(md, overlap(before, readArray(md, this.#readFiles)?.suspend ?? null));
      throw error;
    }
  }

  #reach(md: string, range: SectorRange | null): void {
    if (range === null || range.loSector >= range.hiSector) this.#reached.delete(md);
    else this.#reached.set(md, range);
  }

  async hold(array: SysfsArray): Promise<void> {
    if (this.holds(array) || gateClosed(array)) return;
    if (array.suspend === null) return this.#set(array.md, 'holding a level without suspend', 'readonly');
    await withinLimit(array.md, translated(this.#native.hold(array.md)));
  }

  async holdReads(md: string): Promise<void> {
    if (this.#registered.has(md)) await translated(this.#native.holdReads(md));
  }

  async letRead(md: string): Promise<void> {
    if (this.#registered.has(md)) await translated(this.#native.letReads(md));
    else this.demandGrant(md, 'not read');
  }

  /** @throws MdError EGRANT, EAGAIN */
  async restorePath(md: string, device: string): Promise<void> {
    await translated(this.#native.restorePath(md, device));
  }

  async open(array: SysfsArray): Promise<void> {
    if (array.suspend !== null) {
      const before = this.suspended(array);
      this.#bornHeld.delete(array.md);
      return this.#reaching(array.md, before, null, translated(this.#native.open(array.md)));
    }
    this.demandGrant(array.md, 'not opened');
    await this.#set(array.md, 'opening', 'active');
    if (!this.#grantLives()) {
      await this.#holdPlain();
      this.demandGrant(array.md, 'not opened');
    }
  }

  async answerGates(array: SysfsArray): Promise<void> {
    // A level without gates, or an array that is not to be written at all: `active` would make it writable.
    if (array.suspend === null || array.arrayState === 'readonly') return;
    const blocked = array.members.filter((member) => member.states.has('blocked')).map((member) => member.device);
    await this.answer(array.md, blocked);
  }

  /** Gate A, and gate B of these members alone. */
  async answer(md: string, devices: readonly string[]): Promise<void> {
    await translated(this.#native.answerGates(md, devices));
  }

  writeMetadata(writes: MetadataWrite[]): Promise<MetadataResult[]> {
    return this.#native.writeMetadata(writes);
  }

  async startWatchdog(path: string, timeoutSeconds: number, fd?: number): Promise<void> {
    this.#native.loopAlive();
    this.#alive ??= setInterval(() => void this.#pet(), LOOP_ALIVE_MS).unref();
    await translated(this.#native.startWatchdog(path, timeoutSeconds, LOOP_LATE_MS, fd));
  }

  watchdogFd(): number | null {
    return this.#native.watchdogFd();
  }

  async stopWatchdog(): Promise<void> {
    await translated(this.#native.stopWatchdog());
    if (this.#alive !== null) clearInterval(this.#alive);
    this.#alive = null;
  }

  /** Arrays stay as they are; the watchdog, if armed, is not disarmed by this. */
  close(): void {
    this.#listeners.clear();
    if (this.#alive !== null) clearInterval(this.#alive);
    this.#native.close();
  }

  /**
   * An array without suspend that is in use cannot be held when the grant ends. Then the loop counts as dead, and the
   * watchdog resets the node: that is the one thing that still stops its writes.
   */
  async #pet(): Promise<void> {
    if (this.#plain.size === 0 || this.#grantLives() || (await this.#holdPlain())) this.#native.loopAlive();
  }

  /** True: every array without suspend is held. Each failure is told once. */
  async #holdPlain(): Promise<boolean> {
    const held = await Promise.all(
      [...this.#plain].map(async (md) => {
        const array = readArray(md, this.#readFiles);
        if (array === null || isHeld(array)) {
          this.#failed.delete(md);
          return true;
        }
        try {
          await this.#set(md, 'holding a level without suspend', 'readonly');
          this.#failed.delete(md);
          return true;
        } catch (error) {
          if (!this.#failed.has(md)) this.#tell({ type: 'drop-failed', atMs: this.#now(), md, code: errorCode(error) });
          this.#failed.add(md);
          return false;
        }
      }),
    );
    return held.every((one) => one);
  }

  #tell(event: GuardEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #grantLives(): boolean {
    const { grantUntilMs, dropping } = this.#native.state();
    return !dropping && this.#now() < grantUntilMs;
  }

  /** @throws MdError EGRANT */
  demandGrant(md: string, refusal: string): void {
    if (!this.#grantLives()) throw new MdError('EGRANT', `${md}: ${refusal}: this node's grant has ended`);
  }

  #set(md: string, step: string, state: string): Promise<void> {
    return this.#store.write(`${md}: ${step}`, `${arrayDirectory(md)}/array_state`, state);
  }
}

async function translated<T>(call: Promise<T>): Promise<void> {
  try {
    await call;
  } catch (error) {
    throw new MdError(errorCode(error), textOf(error));
  }
}

async function withinLimit(md: string, call: Promise<void>): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(
      new MdError('ETIMEDOUT', `${md}: its suspend still drains after ${HOLD_LIMIT_MS} ms; a member may hang`),
    );
  }, HOLD_LIMIT_MS);
  try {
    await Promise.race([call, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
