/** A clock's rate is found from messages that take their time, and not from their delays. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { clockHeard, clockRate, type PeerClock } from '#src/lease/clock_rates.ts';

/** A message each 400 ms for so long, each under way for as long as `delay` says. */
function hear(
  before: PeerClock | undefined,
  { fromMs, forMs, rate, delay }: { fromMs: number; forMs: number; rate: number; delay: (count: number) => number },
): PeerClock | undefined {
  let clock = before;
  for (let count = 0; count * 400 < forMs; count++) {
    const sentMs = fromMs + count * 400;
    clock = clockHeard(clock, { theirMs: 5_000_000 + sentMs * rate, ourMs: sentMs + delay(count) });
  }
  return clock;
}

const rateOf = (clock: PeerClock | undefined): number | null => (clock === undefined ? null : clockRate(clock));

test('a rate is found within a hundredth although most messages are long under way', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0.7, max: 1.4, noNaN: true }),
      fc.array(fc.integer({ min: 0, max: 3000 }), { minLength: 10, maxLength: 50 }),
      (rate, delays) => {
        // One of each ten is quick.
        const delay = (count: number): number => (count % 10 === 0 ? 2 : (delays[count % delays.length] ?? 0));
        const found = rateOf(hear(undefined, { fromMs: 0, forMs: 300_000, rate, delay }));
        assert.ok(found !== null && Math.abs(found - rate) < 0.01, `${found} for ${rate}`);
      },
    ),
  );
});

test('nothing is said before a clock was heard for a minute', () => {
  assert.equal(rateOf(hear(undefined, { fromMs: 0, forMs: 60_000, rate: 1, delay: () => 1 })), null);
  assert.equal(rateOf(hear(undefined, { fromMs: 0, forMs: 200_000, rate: 1, delay: () => 1 })), 1);
});

test('a reboot begins anew; a message that was overtaken changes nothing', () => {
  const clock = hear(undefined, { fromMs: 0, forMs: 200_000, rate: 1, delay: () => 1 });
  assert.ok(clock !== undefined);
  assert.equal(clockHeard(clock, { theirMs: clock.soonest.theirMs - 500, ourMs: 200_500 }), clock);
  assert.equal(clockRate(clockHeard(clock, { theirMs: 12, ourMs: 200_500 })), null);
});

test('a clock that goes wrong late is noticed', () => {
  const right = hear(undefined, { fromMs: 0, forMs: 3_600_000, rate: 1, delay: () => 1 });
  let clock = right;
  for (let sentMs = 0; sentMs < 900_000; sentMs += 400) {
    clock = clockHeard(clock, { theirMs: 5_000_000 + 3_600_000 + sentMs * 1.2, ourMs: 3_600_000 + sentMs });
  }
  assert.ok(Math.abs((rateOf(clock) ?? 0) - 1.2) < 0.01, String(rateOf(clock)));
});
