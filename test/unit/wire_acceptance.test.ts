import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type AcceptanceState,
  accept,
  bootsKept,
  cursorsOf,
  type Event,
  initialAcceptance,
  isAccepted,
  staleTerm,
  type Via,
  windowEvents,
} from '#src/wire/index.ts';

const uuid = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;
const event = (bootNumber: number, sequence: number, origin = 2, boot = uuid(bootNumber)): Event => ({
  cluster: uuid(0),
  origin,
  boot,
  bootNumber,
  sequence,
  time: '2026-01-02T03:04:05.678Z',
  term: 1,
  body: { type: 'leave', reason: 'test' },
});

class Listener {
  state: AcceptanceState;
  constructor(state = initialAcceptance()) {
    this.state = state;
  }
  hears(one: Event, via: Via = 'gossip') {
    const result = accept(this.state, one, via);
    this.state = result.state;
    return result.verdict;
  }
}

test('an afternoon: in order, a repeat, a swap, a hole that catch-up fills', () => {
  const node = new Listener();
  assert.equal(node.hears(event(1, 1)), 'new');
  assert.equal(node.hears(event(1, 2)), 'new');
  assert.equal(node.hears(event(1, 2)), 'duplicate');
  assert.equal(node.hears(event(1, 4)), 'gap');
  assert.equal(node.hears(event(1, 4)), 'duplicate');
  assert.deepEqual(cursorsOf(node.state), [{ origin: 2, bootNumber: 1, sequence: 2 }]);
  assert.equal(node.hears(event(1, 3), 'catchup'), 'new');
  assert.deepEqual(cursorsOf(node.state), [{ origin: 2, bootNumber: 1, sequence: 4 }]);
  assert.equal(node.hears(event(1, 3)), 'duplicate');
  assert.equal(node.hears(event(1, 1, 3)), 'new', 'another origin counts for itself');
  assert.deepEqual(node.state.counters, {
    new: 4,
    gap: 1,
    duplicate: 3,
    'stale-boot': 0,
    'too-far': 0,
    'boot-conflict': 0,
  });
});

test('after a restart, gossip of the older boot is refused; catch-up brings what was missed of it, once', () => {
  const node = new Listener();
  node.hears(event(1, 1));
  assert.equal(node.hears(event(2, 1)), 'new');
  assert.equal(node.hears(event(1, 2)), 'stale-boot');
  assert.equal(node.hears(event(1, 2), 'catchup'), 'new');
  assert.equal(node.hears(event(1, 2), 'catchup'), 'duplicate');
  assert.equal(node.hears(event(1, 1), 'catchup'), 'duplicate');
});

test('two boots under one number: the second is refused whole', () => {
  const node = new Listener();
  node.hears(event(5, 1));
  assert.equal(node.hears(event(5, 2, 2, uuid(99))), 'boot-conflict');
  assert.equal(node.hears(event(5, 2)), 'new');
});

test('a node that restarts remembers by its journal’s cursors', () => {
  const node = new Listener(initialAcceptance([{ origin: 2, bootNumber: 4, sequence: 10 }]));
  assert.equal(node.hears(event(4, 10)), 'duplicate');
  assert.equal(node.hears(event(3, 99)), 'stale-boot');
  assert.equal(node.hears(event(4, 11)), 'new');
  assert.equal(node.hears(event(4, 12, 2, uuid(99))), 'boot-conflict');
});

test('far ahead is refused by gossip; by catch-up it moves the window, and what was passed does not come back', () => {
  const node = new Listener();
  node.hears(event(1, 1));
  assert.equal(node.hears(event(1, 2 + windowEvents)), 'too-far');
  assert.equal(node.hears(event(1, 1 + windowEvents)), 'gap');
  assert.equal(node.hears(event(1, 5 * windowEvents), 'catchup'), 'gap');
  assert.equal(node.hears(event(1, 4 * windowEvents)), 'duplicate');
  assert.equal(node.hears(event(1, 4 * windowEvents + 1)), 'new');
});

test('of an origin that restarts for years only the newest boots are remembered, and no forgotten one comes back', () => {
  const node = new Listener();
  for (let boot = 1; boot <= bootsKept + 10; boot += 1) node.hears(event(boot, 1));
  assert.equal(node.state.origins.get(2)?.length, bootsKept);
  assert.equal(node.hears(event(3, 1), 'catchup'), 'stale-boot');
  assert.equal(node.hears(event(bootsKept, 1), 'catchup'), 'duplicate');
});

test('whatever the order and the repeats, each event acts exactly once', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          origin: fc.integer({ min: 1, max: 3 }),
          boot: fc.integer({ min: 1, max: 3 }),
          sequence: fc.integer({ min: 1, max: 40 }),
          via: fc.constantFrom<Via>('gossip', 'catchup'),
        }),
        { maxLength: 300 },
      ),
      (heard) => {
        const node = new Listener();
        const acted = new Set<string>();
        const newest = new Map<number, number>();
        for (const { origin, boot, sequence, via } of heard) {
          const name = `${origin}/${boot}/${sequence}`;
          const verdict = node.hears(event(boot, sequence, origin), via);
          const stale = via === 'gossip' && boot < (newest.get(origin) ?? 0);
          assert.equal(isAccepted(verdict), !acted.has(name) && !stale, `${name} ${via} ${verdict}`);
          if (isAccepted(verdict)) {
            acted.add(name);
            newest.set(origin, Math.max(boot, newest.get(origin) ?? 0));
          }
        }
      },
    ),
    { numRuns: 200 },
  );
});

test('a lease release or a commit of an older term is stale, of the known one it is not', () => {
  const release = { ...event(1, 1), body: { type: 'lease-release' as const, term: 4, to: null } };
  assert.equal(staleTerm(release, 5), true);
  assert.equal(staleTerm(release, 4), false);
  assert.equal(staleTerm(event(1, 1), 99), false);
});
