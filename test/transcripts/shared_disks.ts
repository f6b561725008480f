/**
 * The quorum disks of a cluster in one thread. An operation takes effect at some moment between its start and its end, also when
 * who asked for it has died meanwhile; a write that failed may have taken effect, or not.
 */
import type { DiskBlock, ReadBlock } from '../../src/lease/index.ts';

export interface DiskTimes {
  min: number;
  max: number;
}

export class SharedDisks {
  readonly #random: () => number;
  readonly #after: (ms: number, act: () => void) => void;
  readonly #blocks = new Map<string, Map<number, ReadBlock>>();
  readonly #lost = new Set<string>();
  readonly #slow = new Map<string, number>();
  times: DiskTimes;

  constructor(times: DiskTimes, random: () => number, after: (ms: number, act: () => void) => void) {
    this.times = times;
    this.#random = random;
    this.#after = after;
  }

  /** One node's path to a disk, or, with null, the disk itself. */
  lose(node: number | null, disk: string): void {
    this.#lost.add(`${node}>${disk}`);
  }

  /** Each operation of the node at this disk takes so long, from now on. */
  slow(node: number, disk: string, ms: number): void {
    this.#slow.set(`${node}>${disk}`, ms);
  }

  mend(): void {
    this.#lost.clear();
    this.#slow.clear();
  }

  tear(node: number, disk: string): void {
    this.#of(disk).set(node, 'torn');
  }

  blockOf(node: number, disk: string): ReadBlock | null {
    return this.#of(disk).get(node) ?? null;
  }

  read(node: number, disk: string, done: (blocks: ReadonlyMap<number, ReadBlock> | null) => void): void {
    this.#operate(node, disk, () => new Map(this.#of(disk)), done);
  }

  write(disk: string, block: DiskBlock, done: (result: true | null) => void): void {
    const put = (): true => {
      this.#of(disk).set(block.node, block);
      return true;
    };
    const maybe = this.#random() < 0.5 ? put : () => true;
    this.#operate(block.node, disk, put, done, maybe);
  }

  #operate<T>(node: number, disk: string, act: () => T, done: (result: T | null) => void, orElse?: () => void): void {
    const lasts =
      this.#slow.get(`${node}>${disk}`) ?? this.times.min + this.#random() ** 4 * (this.times.max - this.times.min);
    const until = this.#random() * lasts;
    this.#after(until, () => {
      const lost = this.#lost.has(`${node}>${disk}`) || this.#lost.has(`null>${disk}`);
      if (lost) orElse?.();
      const result = lost ? null : act();
      this.#after(lasts - until, () => done(result));
    });
  }

  #of(disk: string): Map<number, ReadBlock> {
    const blocks = this.#blocks.get(disk);
    if (blocks !== undefined) return blocks;
    const blank = new Map<number, ReadBlock>();
    this.#blocks.set(disk, blank);
    return blank;
  }
}
