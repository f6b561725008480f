/**
 * What all simulated arrays of one node share: its time, its way to the disks, its crash and its freeze.
 *
 * An I/O on its way to a disk is no longer the node's: a frozen node's I/O lands, only nobody hears of it; a crashed
 * node's may land, at once or a moment later, not land, or land in part (whole 512-byte sectors, from its beginning).
 */
import { MdError } from './driver.ts';
import type { SimulatedStorage } from './simulated_storage.ts';
import type { SimulatedTime } from './simulated_time.ts';

const IO_MS = 0.2;
/** What a node had handed over to the storage network when its power went may land so much later. */
const ADRIFT_MS = 40;

interface PendingWrite {
  disk: string;
  offsetBytes: number;
  bytes: Uint8Array;
  cancel: () => void;
}

export class SimulatedKernel {
  readonly storage: SimulatedStorage;
  readonly node: number;
  readonly #time: SimulatedTime;
  readonly #random: () => number;
  readonly #pending = new Set<PendingWrite>();
  #boots = 0;
  #down = false;
  #paused = false;
  readonly #deferred: (() => void)[] = [];

  constructor(storage: SimulatedStorage, node: number, time: SimulatedTime, random: () => number) {
    this.storage = storage;
    this.node = node;
    this.#time = time;
    this.#random = random;
  }

  now(): number {
    return this.#time.clock();
  }

  get boots(): number {
    return this.#boots;
  }

  get down(): boolean {
    return this.#down;
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Runs unless the node has crashed before; while it is frozen, at its thaw. */
  later(delayMs: number, run: () => void): () => void {
    const boot = this.#boots;
    return this.#time.schedule(this.now() + delayMs, () => this.#enter(boot, run));
  }

  #enter(boot: number, run: () => void): void {
    if (this.#down || boot !== this.#boots) return;
    if (this.#paused) this.#deferred.push(() => this.#enter(boot, run));
    else run();
  }

  /** Outside of the node: a frozen or crashed one does not stop it. */
  outside(delayMs: number, run: () => void): () => void {
    return this.#time.schedule(this.now() + delayMs, run);
  }

  /** A moment of the kernel's: so that no call is done in the instant in which it is made. */
  moment(): Promise<void> {
    return new Promise((resolve) => this.later(this.#latencyMs() / 4, resolve));
  }

  #latencyMs(): number {
    return IO_MS * (0.5 + this.#random());
  }

  /** @throws MdError EIO */
  read(disk: string, offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.later(this.#latencyMs() + this.storage.delayMs(this.node, disk), () => {
        if (this.storage.broken(this.node, disk, 'read')) reject(this.#ioError(disk, 'reading'));
        else if (offsetBytes + lengthBytes > this.storage.sizeSectors(disk) * 512)
          reject(new MdError('EINVAL', `disk ${disk}: ${lengthBytes} bytes at ${offsetBytes} are beyond its end`));
        else resolve(this.storage.peek(disk, offsetBytes, lengthBytes));
      });
    });
  }

  /** @throws MdError EIO, ENOSPC, EBADE */
  write(disk: string, offsetBytes: number, bytes: Uint8Array): Promise<void> {
    const boot = this.#boots;
    return new Promise((resolve, reject) => {
      const { onWrite } = this.storage;
      const told = { node: this.node, disk, offsetBytes, lengthBytes: bytes.length, bytes };
      onWrite?.({ ...told, stage: 'begins' });
      const landed = () => {
        this.#pending.delete(write);
        onWrite?.({ ...told, stage: 'lands' });
        let error: unknown = null;
        if (this.storage.broken(this.node, disk, 'write')) error = this.#ioError(disk, 'writing');
        else if (!this.storage.takesWrite(this.node, disk))
          error = new MdError('EBADE', `disk ${this.storage.pathOn(this.node, disk)}: reservation conflict`);
        else
          try {
            this.storage.poke(disk, offsetBytes, bytes);
          } catch (thrown) {
            error = thrown;
          }
        this.#enter(boot, () => (error === null ? resolve() : reject(error)));
      };
      const cancel = this.#time.schedule(
        this.now() + this.#latencyMs() + this.storage.delayMs(this.node, disk),
        landed,
      );
      const write: PendingWrite = { disk, offsetBytes, bytes: Uint8Array.from(bytes), cancel };
      this.#pending.add(write);
    });
  }

  #ioError(disk: string, doing: string): MdError {
    return new MdError(
      'EIO',
      `disk ${this.storage.pathOn(this.node, disk)}: I/O error ${doing}; check the path from node ${this.node}`,
    );
  }

  /** The power is gone: nothing of this boot is ever heard of again. */
  crash(): void {
    if (this.#down) return;
    this.#down = true;
    this.#paused = false;
    this.#deferred.length = 0;
    for (const { disk, offsetBytes, bytes, cancel } of this.#pending) {
      cancel();
      const fate = this.#random();
      const sectors = Math.floor(bytes.length / 512);
      const landed = fate < 1 / 3 ? 0 : fate < 2 / 3 ? sectors : Math.floor(this.#random() * sectors);
      if (landed === 0) continue;
      const land = () => {
        if (this.storage.broken(this.node, disk, 'write') || !this.storage.mayWrite(this.node, disk)) return;
        this.storage.onWrite?.({
          node: this.node,
          disk,
          offsetBytes,
          lengthBytes: landed * 512,
          bytes: bytes.subarray(0, landed * 512),
          stage: 'lands',
        });
        this.storage.poke(disk, offsetBytes, bytes.subarray(0, landed * 512));
      };
      if (this.#random() < 1 / 2) land();
      else this.outside(this.#random() * ADRIFT_MS, land);
    }
    this.#pending.clear();
  }

  boot(): void {
    this.#boots += 1;
    this.#down = false;
  }

  pause(): void {
    if (!this.#down) this.#paused = true;
  }

  /** Everything that fell due meanwhile happens now, in its order: deadlines before answers. */
  resume(): void {
    this.#paused = false;
    for (const run of this.#deferred.splice(0)) run();
  }
}
