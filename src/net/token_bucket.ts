/**
 * A rate limit that forgives bursts, refilled evenly. The clock is read only when what is there does not suffice: it is asked for each
 * packet, and a clock is a system call on some machines. So after a rest it may give two bursts at once.
 */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #now: () => number;
  readonly #burst: number;
  #tokens: number;
  #filledAtMs: number;

  /** @param burst what it holds; @default a second's worth */
  constructor(perSecond: number, now: () => number, burst: number = perSecond) {
    this.#perSecond = perSecond;
    this.#now = now;
    this.#burst = burst;
    this.#tokens = burst;
    this.#filledAtMs = now();
  }

  /** False: there are not so many, and none is taken. */
  take(tokens = 1): boolean {
    if (this.#tokens < tokens) this.#refill();
    if (this.#tokens < tokens) return false;
    this.#tokens -= tokens;
    return true;
  }

  /** For what has come already. @returns how long to wait until it is paid for, in ms; 0: it is */
  spend(tokens: number): number {
    this.#tokens -= tokens;
    if (this.#tokens < 0) this.#refill();
    return Math.max(0, (-this.#tokens * 1000) / this.#perSecond);
  }

  #refill(): void {
    const nowMs = this.#now();
    const refilled = ((nowMs - this.#filledAtMs) * this.#perSecond) / 1000;
    this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, refilled));
    this.#filledAtMs = nowMs;
  }
}

/** One for each of many, all alike. */
export class TokenBuckets<Key> {
  readonly #make: () => TokenBucket;
  readonly #buckets = new Map<Key, TokenBucket>();

  constructor(...of: ConstructorParameters<typeof TokenBucket>) {
    this.#make = () => new TokenBucket(...of);
  }

  of(key: Key): TokenBucket {
    const bucket = this.#buckets.get(key) ?? this.#make();
    this.#buckets.set(key, bucket);
    return bucket;
  }
}
