/** Time that passes only when asked to: timers in order of their time, and of asking where that is the same. */
import assert from 'node:assert/strict';
import type { Schedule } from '#src/net/index.ts';

export class VirtualTime {
  #nowMs = 1_000_000;
  #asked = 0;
  readonly #timers = new Map<number, { atMs: number; run: () => void }>();

  readonly now = () => this.#nowMs;

  readonly schedule: Schedule = (delayMs, run) => {
    this.#asked += 1;
    const id = this.#asked;
    this.#timers.set(id, { atMs: this.#nowMs + delayMs, run });
    return () => this.#timers.delete(id);
  };

  /** Runs timers for so long. */
  async pass(durationMs: number): Promise<void> {
    const endMs = this.#nowMs + durationMs;
    while (await this.#next(endMs)) {
      // Each timer is its own turn.
    }
    this.#nowMs = endMs;
  }

  async until(condition: () => boolean, words: string, limitMs = 120_000): Promise<void> {
    const endMs = this.#nowMs + limitMs;
    while (!condition()) assert(await this.#next(endMs), `never: ${words}`);
  }

  async #next(endMs: number): Promise<boolean> {
    // Promises settle between timers, as they do between real ones.
    await new Promise((resolve) => setImmediate(resolve));
    let first: number | null = null;
    let atMs = endMs;
    for (const [id, timer] of this.#timers) {
      if (timer.atMs < atMs || (first === null && timer.atMs === atMs)) {
        first = id;
        atMs = timer.atMs;
      }
    }
    const timer = first === null ? undefined : this.#timers.get(first);
    if (first === null || timer === undefined) return false;
    this.#timers.delete(first);
    this.#nowMs = Math.max(this.#nowMs, timer.atMs);
    timer.run();
    return true;
  }
}
