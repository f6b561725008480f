/**
 * What was refused is counted, and told of at once; while it goes on, ever more rarely: a flood must fill neither log nor journal, nor hide
 * another node's.
 */
import type { NodeId } from '../arrays/record.ts';

/** The pause after the first one; it doubles, until there was none for a while. */
const FIRST_MS = 1000;
const MOST_MS = 600_000;
const QUIET_MS = 60_000;

export class RefusalCount {
  #total = 0;
  readonly #told = new Map<NodeId | null, { lastMs: number; nextAtMs: number; pauseMs: number }>();

  get total(): number {
    return this.#total;
  }

  /** @param from null: nobody of the list. @returns whether it is to be told of */
  count(from: NodeId | null, now: number): boolean {
    this.#total += 1;
    const told = this.#told.get(from) ?? { lastMs: Number.NEGATIVE_INFINITY, nextAtMs: now, pauseMs: 0 };
    this.#told.set(from, told);
    const isNew = now - told.lastMs > QUIET_MS;
    told.lastMs = now;
    if (!isNew && now < told.nextAtMs) return false;
    told.pauseMs = isNew ? FIRST_MS : Math.min(2 * told.pauseMs, MOST_MS);
    told.nextAtMs = now + told.pauseMs;
    return true;
  }
}
