/**
 * How fast another node's clock runs by this one's. Lease and grant are safe while all run within a half of each other, so a clock that
 * goes wrong is to be told of long before. What a message says of its sender's clock is as old as the message was long under way: of
 * each stretch of time the one counts that was there soonest.
 */

/** One moment on both clocks, ms. */
export interface ClockSample {
  theirMs: number;
  ourMs: number;
}

export interface PeerClock {
  /** Of finished stretches, oldest first. */
  stretches: readonly ClockSample[];
  stretchFromMs: number;
  /** Of the present stretch. */
  soonest: ClockSample;
}

/** Parts by which a rate may be off 1: a hundredth is far more than a sound clock is. */
export const CLOCK_WARNING = 0.01;
export const CLOCK_CRITICAL = 0.2;

const STRETCH_MS = 30_000;
/** A rate is that of the last ten minutes: a clock may go wrong late. */
const STRETCHES_KEPT = 21;
/** Over less, a message that was long under way would look like a slow clock. */
const LEAST_MS = 60_000;

/** @param before undefined: it was not heard before */
export function clockHeard(before: PeerClock | undefined, sample: ClockSample): PeerClock {
  const { theirMs, ourMs } = sample;
  const start = { stretches: [], stretchFromMs: ourMs, soonest: sample };
  if (before === undefined) return start;
  const { stretches, stretchFromMs, soonest } = before;
  // CLOCK_BOOTTIME begins anew with the kernel. A message that was overtaken says nothing.
  if (theirMs < soonest.theirMs) return theirMs < soonest.theirMs - STRETCH_MS ? start : before;
  if (ourMs - stretchFromMs >= STRETCH_MS) {
    return { stretches: [...stretches, soonest].slice(-STRETCHES_KEPT), stretchFromMs: ourMs, soonest: sample };
  }
  return ourMs - theirMs <= soonest.ourMs - soonest.theirMs ? { ...before, soonest: sample } : before;
}

/** Their seconds in one of ours, over the last minutes; null: it was not heard for long enough. */
export function clockRate({ stretches }: PeerClock): number | null {
  const [first, last] = [stretches[0], stretches.at(-1)];
  if (first === undefined || last === undefined || last.ourMs - first.ourMs < LEAST_MS) return null;
  return (last.theirMs - first.theirMs) / (last.ourMs - first.ourMs);
}
