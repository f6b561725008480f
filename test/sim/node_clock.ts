/**
 * BOOTTIME of one simulated machine: it begins anew at each boot, counts through a suspend, and runs a little fast or slow. The
 * node's timers go by it, so that a change of its pace reaches those that are set already.
 */
import type { Schedule, SimulatedTime } from '#src/md/simulated_time.ts';

/** A kernel has run for so long when its agent starts. */
const BOOTED_MS = 5000;
/** So that a timer never rings before its time by a rounding. */
const ROUNDING_MS = 1e-6;

interface Entry {
  atMs: number;
  run: () => void;
  cancel: () => void;
}

export class NodeClock {
  readonly #time: SimulatedTime;
  /** What it read when the cluster's clock read `#atMs`. */
  #baseMs: number;
  #atMs: number;
  #rate: number;
  #entries = new Set<Entry>();

  constructor(time: SimulatedTime) {
    this.#time = time;
    this.#baseMs = time.clock();
    this.#atMs = time.clock();
    this.#rate = 1;
  }

  readonly now = (): number => this.#baseMs + (this.#time.clock() - this.#atMs) * this.#rate;

  /** When it will read so much on the cluster's clock, if its pace stays as it is. */
  readonly clusterMs = (atMs: number): number => this.#atMs + (atMs - this.#baseMs) / this.#rate;

  readonly schedule: Schedule = (atMs, run) => {
    const entry: Entry = { atMs, run, cancel: () => undefined };
    this.#set(entry);
    return () => {
      entry.cancel();
      this.#entries.delete(entry);
    };
  };

  #set(entry: Entry): void {
    const entries = this.#entries;
    const exact = this.#rate === 1 && this.#baseMs === this.#atMs;
    const atMs = exact ? entry.atMs : this.#atMs + (entry.atMs - this.#baseMs) / this.#rate + ROUNDING_MS;
    entries.add(entry);
    entry.cancel = this.#time.schedule(atMs, () => {
      entries.delete(entry);
      entry.run();
    });
  }

  /** From now on it runs so many milliseconds in one of the cluster's. */
  pace(rate: number): void {
    this.#baseMs = this.now();
    this.#atMs = this.#time.clock();
    this.#rate = rate;
    const entries = [...this.#entries];
    this.#entries.clear();
    for (const entry of entries) {
      entry.cancel();
      this.#set(entry);
    }
  }

  /** What was set before is none of this boot's: it stays where it is in the cluster's time. */
  reboot(): void {
    this.#entries = new Set();
    this.#baseMs = BOOTED_MS;
    this.#atMs = this.#time.clock();
  }
}
