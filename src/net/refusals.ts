/** Refusals as events, at a bounded rate about each peer; what was held back is counted in the next one. */
import { TokenBucket } from './token_bucket.ts';

export class Refusals {
  readonly #perSecond: number;
  readonly #now: () => number;
  readonly #sources = new Map<string, { bucket: TokenBucket; heldBack: number }>();

  constructor(perSecond: number, now: () => number) {
    this.#perSecond = perSecond;
    this.#now = now;
  }

  /** @returns the reason to tell, or null when too many were told about this source of late. */
  admit(source: string, reason: string): string | null {
    const entry = this.#sources.get(source) ?? { bucket: new TokenBucket(this.#perSecond, this.#now), heldBack: 0 };
    this.#sources.set(source, entry);
    if (!entry.bucket.take()) {
      entry.heldBack += 1;
      return null;
    }
    const told = entry.heldBack === 0 ? reason : `${reason} (and ${entry.heldBack} refusals not told before it)`;
    entry.heldBack = 0;
    return told;
  }
}
