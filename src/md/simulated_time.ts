/** The time that the simulated driver lives in: given from outside, so that a whole cluster runs in one thread from one seed. */

/** Calls `run` once when the clock reads `atMs`. Returns the way to take it back. */
export type Schedule = (atMs: number, run: () => void) => () => void;

export interface SimulatedTime {
  /** ms, never going back. */
  clock: () => number;
  schedule: Schedule;
}

/** This machine's own time, for a demonstration in which people watch. */
export function realTime(): SimulatedTime {
  const clock = () => Number(process.hrtime.bigint() / 1000n) / 1000;
  return {
    clock,
    schedule: (atMs, run) => {
      const timer = setTimeout(run, Math.max(0, atMs - clock()));
      return () => clearTimeout(timer);
    },
  };
}

interface Entry {
  readonly atMs: number;
  /** Counts up: entries of one instant run in the order in which they were made. */
  readonly id: number;
  /** null: taken back. */
  run: (() => void) | null;
}

/** Time that stands still until it is told to pass. Entries of one instant run in the order in which they were made. */
export class VirtualTime implements SimulatedTime {
  #nowMs = 0;
  #made = 0;
  #steps = 0;
  /** A binary heap by time: a simulated hour is millions of steps. */
  readonly #heap: Entry[] = [];

  readonly clock = (): number => this.#nowMs;

  readonly schedule: Schedule = (atMs, run) => {
    const entry: Entry = { atMs, id: this.#made++, run };
    this.#push(entry);
    return () => {
      entry.run = null;
    };
  };

  /** Lets every promise callback run that is due, then goes on to the next entry and runs it. False: none is planned. */
  async step(untilMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    await settled(this.#steps++);
    const next = this.#first();
    if (next === undefined || next.atMs > untilMs) return false;
    this.#pop();
    this.#nowMs = Math.max(this.#nowMs, next.atMs);
    next.run?.();
    return true;
  }

  async pass(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    while (await this.step(untilMs));
    this.#nowMs = untilMs;
  }

  /** The next entry that was not taken back. */
  #first(): Entry | undefined {
    while (this.#heap[0]?.run === null) this.#pop();
    return this.#heap[0];
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.length;
    for (let up = (at - 1) >> 1; at > 0; up = (at - 1) >> 1) {
      const parent = heap[up];
      if (parent === undefined || before(parent, entry)) break;
      heap[at] = parent;
      at = up;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      let least = heap[child];
      const right = heap[child + 1];
      if (least !== undefined && right !== undefined && before(right, least)) {
        least = right;
        child += 1;
      }
      if (least === undefined || before(last, least)) break;
      heap[at] = least;
      at = child;
    }
    heap[at] = last;
  }
}

function before(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.id < b.id);
}

/** So often whatever is outside of the simulation has its turn: a message of another process, a signal. */
const OUTSIDE_EVERY_STEPS = 50;

/** All promise callbacks that are due have run: ticks come after them, and take no turn of the event loop. */
function settled(step: number): Promise<void> {
  return new Promise((resolve) => {
    if (step % OUTSIDE_EVERY_STEPS === 0) setImmediate(resolve);
    else process.nextTick(resolve);
  });
}

/** Small deterministic generator (mulberry32's recurrence), 0 ≤ x < 1. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
