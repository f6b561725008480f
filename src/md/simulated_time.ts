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

/** Time that stands still until it is told to pass. Entries of one instant run in the order in which they were made. */
export class VirtualTime implements SimulatedTime {
  #nowMs = 0;
  #made = 0;
  readonly #entries = new Map<number, { atMs: number; run: () => void }>();

  readonly clock = (): number => this.#nowMs;

  readonly schedule: Schedule = (atMs, run) => {
    const id = this.#made++;
    this.#entries.set(id, { atMs, run });
    return () => this.#entries.delete(id);
  };

  /** Lets every promise callback run that is due, then goes on to the next entry and runs it. False: none is planned. */
  async step(untilMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    await settled();
    let next: [number, { atMs: number; run: () => void }] | null = null;
    for (const entry of this.#entries) if (next === null || entry[1].atMs < next[1].atMs) next = entry;
    if (next === null || next[1].atMs > untilMs) return false;
    this.#entries.delete(next[0]);
    this.#nowMs = Math.max(this.#nowMs, next[1].atMs);
    next[1].run();
    return true;
  }

  async pass(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    while (await this.step(untilMs));
    this.#nowMs = untilMs;
  }
}

/** All promise callbacks that are due have run. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
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
