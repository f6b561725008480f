/** A copy that moves through the array in windows: what is asked, what md may do, what is let go. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { NodeId } from '../../src/arrays/record.ts';
import {
  type CopyOptions,
  copiedAgain,
  rangeOnArray,
  type WindowStep,
  type Windows,
  windowsHeld,
  windowsStart,
  windowsStep,
} from '../../src/arrays/windows.ts';
import { COPY_OPTIONS, copy, mirror } from './arrays_fixture.ts';

const TOTAL = 2_000_000;
const RECORD = mirror({ componentSectors: TOTAL });

/** A copier, and others that answer when they are told to. */
class Copier {
  windows: Windows = windowsStart(RECORD, copy(1, 6), 1000);
  others: readonly NodeId[] = [2, 3];
  options: CopyOptions = COPY_OPTIONS;
  againSectors: number | null = null;
  now = 1000;
  asked: WindowStep['ask'] = null;
  /** Of each node, as it would tell; null: it cannot. */
  writes: number | null = null;
  /** What each node holds by the newest request that it has seen. */
  readonly holds = new Map<NodeId, { from: number; to: number }>();

  step(doneSector: number | null = null): WindowStep {
    const step = windowsStep(
      this.windows,
      { others: this.others, doneSector, againSectors: this.againSectors },
      this.options,
      this.now,
    );
    this.windows = step.windows;
    this.asked = step.ask ?? this.asked;
    return step;
  }
  answer(...nodes: NodeId[]): WindowStep {
    const { asked } = this;
    assert.ok(asked !== null);
    for (const node of nodes) {
      this.holds.set(node, { from: asked.fromSector, to: asked.toSector });
      this.hears(node, asked.sequence);
    }
    return this.step();
  }
  hears(node: NodeId, sequence: number): void {
    this.windows = windowsHeld(this.windows, { node, sequence, writes: this.writes }, this.now);
  }
}

test('md goes on only when all others hold the window, in answer to the newest request', () => {
  const copier = new Copier();
  const first = copier.step();
  assert.deepEqual(first.ask?.to, [2, 3]);
  assert.equal(first.ask?.fromSector, 0);
  assert.equal(copier.answer(2).allowed, false);
  assert.equal(copier.windows.allowedSector, 0);
  assert.equal(copier.answer(3).allowed, true);
  assert.equal(copier.windows.allowedSector, first.ask?.toSector);

  const older = copier.windows.sequence;
  copier.now += 10;
  const second = copier.step(copier.windows.allowedSector);
  assert.ok(second.ask !== null && second.ask.sequence > older);
  copier.hears(2, older);
  copier.hears(3, older);
  assert.equal(copier.step().allowed, false, 'an answer to the request before');
});

test('the next window is asked for when half of one is left to md, and what is done is let go with it', () => {
  const copier = new Copier();
  const window = 100 * COPY_OPTIONS.windowMs;
  const end = 100_000 + 3 * window;
  copier.windows = { ...copier.windows, sectorsPerMs: 100, doneSector: 100_000, allowedSector: end, askedSector: end };
  copier.now += window / 100;
  assert.equal(copier.step(100_000 + window).ask, null, 'two are left');
  copier.now += (window / 100) * 1.6;
  const next = copier.step(100_000 + 2.6 * window);
  assert.equal(next.ask?.fromSector, 100_000 + 2.6 * window);
  assert.ok((next.ask?.toSector ?? 0) > end);
  assert.equal(copier.windows.allowedSector, end, 'asked is not held');
});

const BIG = 400_000_000;
const ANSWER_MS = 5;
const STEP_MS = 0.5;

interface Asked {
  atMs: number;
  /** By how much further, and how much is held with it: as time of copying. */
  lengthMs: number;
  heldMs: number;
}

/** md at this pace, which tells of its progress at half of what is left to it; each request is answered after ANSWER_MS. */
function copied(
  sectorsPerMs: number,
  forMs: number,
  writes: (atMs: number) => number | null = () => null,
): { asked: Asked[]; stoodMs: number; pace: number | null } {
  const options = { ...COPY_OPTIONS, windowMaxSectors: BIG };
  const asked: Asked[] = [];
  let windows = windowsStart(mirror({ componentSectors: BIG }), copy(1, 6), 0);
  let [at, told, wakeAtMs, end, stoodMs] = [0, 0, 0, 0, 0];
  let answer: { atMs: number; sequence: number } | null = null;
  for (let now = 0; now < forMs; now += STEP_MS) {
    let doneSector: number | null = null;
    let due = now >= wakeAtMs;
    if (answer !== null && now >= answer.atMs) {
      windows = windowsHeld(windows, { node: 2, sequence: answer.sequence, writes: writes(now) }, now);
      answer = null;
      due = true;
    }
    if (at > told && (at - told) * 2 >= windows.allowedSector - told) {
      told = at;
      doneSector = at;
      due = true;
    }
    if (due) {
      const step = windowsStep(windows, { others: [2], doneSector, againSectors: null }, options, now);
      windows = step.windows;
      if (step.ask !== null) {
        const { sequence, fromSector, toSector } = step.ask;
        answer = { atMs: now + ANSWER_MS, sequence };
        const heldMs = (toSector - fromSector) / sectorsPerMs;
        asked.push({ atMs: now, lengthMs: (toSector - end) / sectorsPerMs, heldMs });
        end = toSector;
      }
      wakeAtMs = step.wakeMs === null ? Number.POSITIVE_INFINITY : now + step.wakeMs;
    }
    if (at >= windows.allowedSector) stoodMs += STEP_MS;
    at = Math.min(windows.allowedSector, at + sectorsPerMs * STEP_MS);
  }
  return { asked, stoodMs, pace: windows.sectorsPerMs };
}

test('windows are as long as windowMs of copying, whatever md can do, and are asked for in time: md does not stand', () => {
  for (const sectorsPerMs of [200, 1000, 5000]) {
    const { asked, stoodMs, pace } = copied(sectorsPerMs, 2000);
    assert.ok(Math.abs((pace ?? 0) / sectorsPerMs - 1) < 0.05, `pace ${pace}, md makes ${sectorsPerMs}`);
    const settled = asked.filter(({ atMs }) => atMs > 1000);
    assert.ok(settled.length > 40, `${settled.length} windows`);
    for (const { lengthMs, heldMs } of settled) {
      assert.ok(Math.abs(lengthMs / COPY_OPTIONS.windowMs - 1) < 0.2, `${lengthMs} ms`);
      assert.ok(heldMs < 4 * COPY_OPTIONS.windowMs, `${heldMs} ms are held`);
    }
    assert.ok(stoodMs < 200, `md stood for ${stoodMs} ms`);
  }
});

test('where nobody writes windows are longer; a write that comes in makes them short again, as does a node that cannot tell', () => {
  const lengths = (writes: (atMs: number) => number | null) =>
    copied(200, 4000, writes).asked.map(({ atMs, lengthMs }) => ({ atMs, long: lengthMs > 5 * COPY_OPTIONS.windowMs }));
  const quiet = lengths((atMs) => (atMs < 2500 ? 7 : 8));
  assert.ok(quiet.some(({ atMs, long }) => long && atMs > 1000 && atMs < 2500));
  assert.ok(!quiet.some(({ atMs, long }) => long && (atMs < 1000 || (atMs > 2800 && atMs < 3500))), 'somebody writes');
  assert.ok(!lengths(() => null).some(({ long }) => long), 'nobody knows');
});

test('where each word takes longer than a window the windows grow instead of shrinking to nothing', () => {
  const copier = new Copier();
  const slowMs = COPY_OPTIONS.windowMs + 5;
  const sectorsPerMs = 1000;
  copier.step();
  let done = 0;
  for (let round = 0; round < 20 && copier.windows.askedSector < TOTAL; round += 1) {
    copier.now += slowMs;
    copier.answer(2, 3);
    const target = copier.windows.allowedSector;
    copier.now += (target - done) / sectorsPerMs + slowMs;
    done = target;
    copier.step(done);
  }
  const { askedSector, askedFrom } = copier.windows;
  // The next one is asked for while md copies: two of them, each at most four times as long as it should be.
  const lengthMs = (askedSector - askedFrom) / sectorsPerMs;
  assert.ok(lengthMs > COPY_OPTIONS.windowMs / 2 && lengthMs <= 2 * 4 * COPY_OPTIONS.windowMs, `${lengthMs} ms`);
});

test('with a limit the pauses between windows grow, and nothing is held in them', () => {
  const copier = new Copier();
  copier.options = { ...COPY_OPTIONS, limitKib: 1024 };
  copier.step();
  copier.answer(2, 3);
  const end = copier.windows.allowedSector;
  copier.now += 2;
  const done = copier.step(end);
  assert.equal(done.ask?.fromSector, done.ask?.toSector, 'let go');
  assert.equal(done.ask?.fromSector, end);
  const pauseMs = done.windows.nextAtMs - copier.now;
  assert.ok(Math.abs(pauseMs - (end / 2 / 1024) * 1000) < 5, `${end / 2} KiB at 1024 KiB/s: ${pauseMs} ms`);
  copier.answer(2, 3);
  assert.equal(copier.step().ask, null, 'not yet');
  copier.now = done.windows.nextAtMs;
  assert.ok((copier.step().ask?.toSector ?? 0) > end);
});

test('a writer that comes in is waited for; one that was away is asked again', () => {
  const copier = new Copier();
  copier.others = [2];
  copier.step();
  copier.answer(2);
  copier.others = [2, 3];
  copier.now += 5;
  copier.step(copier.windows.allowedSector);
  assert.deepEqual(copier.asked?.to, [2, 3]);
  assert.equal(copier.answer(2).allowed, false, 'node 3 writes now');
  copier.others = [2];
  copier.step();
  copier.others = [2, 3];
  copier.now += 400;
  const again = copier.step();
  assert.deepEqual(again.ask?.to.includes(3), true);
});

test('a node that knows of no request is asked again', () => {
  const copier = new Copier();
  copier.step();
  copier.answer(2, 3);
  copier.hears(3, 0);
  copier.now += 400;
  assert.deepEqual(copier.step().ask?.to, [3]);
});

test('with nobody else the copy waits for nobody', () => {
  const copier = new Copier();
  copier.others = [];
  const step = copier.step();
  assert.equal(step.ask, null);
  assert.equal(step.allowed, true);
  assert.ok(copier.windows.allowedSector > 0);
});

test('a window of a raid10 recovery covers every row of chunks that it touches', () => {
  const record = mirror({ level: 'raid10', raidDisks: 3, layout: 0x102, chunkSectors: 128 });
  assert.deepEqual(rangeOnArray(record, 'recovery', 0, 128), { loSector: 0, hiSector: 256 });
  assert.deepEqual(rangeOnArray(record, 'recovery', 128, 256), { loSector: 128, hiSector: 384 });
  assert.deepEqual(rangeOnArray(record, 'resync', 128, 256), { loSector: 128, hiSector: 256 });
});

test('whatever the order of answers and progress: what md may still copy is held by every writer', () => {
  const event = fc.oneof(
    fc.record({ what: fc.constant('answer' as const), node: fc.integer({ min: 2, max: 4 }) }),
    fc.record({ what: fc.constant('progress' as const), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
    fc.record({ what: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 400 }) }),
    fc.record({ what: fc.constant('writers' as const), others: fc.subarray([2, 3, 4]) }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 120 }), fc.option(fc.constant(20_000)), (events, limitKib) => {
      const copier = new Copier();
      copier.options = { ...COPY_OPTIONS, limitKib };
      copier.others = [2, 3];
      // The newest request that each node has got: it holds that range, and everything before it has got one.
      const got = new Map<NodeId, NonNullable<WindowStep['ask']>>();
      const check = (step: WindowStep): void => {
        for (const node of step.ask?.to ?? []) if (step.ask !== null) got.set(node, step.ask);
        const { allowedSector, doneSector } = copier.windows;
        for (const node of copier.others) {
          const range = got.get(node);
          if (range === undefined || allowedSector <= doneSector) continue;
          assert.ok(range.fromSector <= doneSector, `node ${node} has let go of what is not copied`);
          assert.ok(range.toSector >= allowedSector, `node ${node} does not hold up to ${allowedSector}`);
        }
      };
      check(copier.step());
      for (const happened of events) {
        if (happened.what === 'answer') {
          const asked = got.get(happened.node);
          if (asked !== undefined) copier.hears(happened.node, asked.sequence);
          check(copier.step());
        } else if (happened.what === 'progress') {
          const { doneSector, allowedSector } = copier.windows;
          copier.now += 1;
          check(copier.step(Math.floor(doneSector + (allowedSector - doneSector) * happened.part)));
        } else if (happened.what === 'time') {
          copier.now += happened.ms;
          check(copier.step());
        } else {
          // Who comes in holds everything until it gets a request.
          for (const node of happened.others) if (!copier.others.includes(node)) got.delete(node);
          copier.others = happened.others;
          check(copier.step());
        }
      }
    }),
  );
});

/** Let go on to the end of a window, of which md has told that it has done so much. */
function inTheMiddle(againSectors: number | null): Copier {
  const copier = new Copier();
  const sectors = 100 * COPY_OPTIONS.windowMs;
  copier.againSectors = againSectors;
  const [done, end] = [100_000, 100_000 + sectors];
  copier.windows = { ...copier.windows, sectorsPerMs: 100, doneSector: done, allowedSector: end, askedSector: end };
  copier.windows = { ...copier.windows, askedFrom: 90_000, busyFromMs: copier.now };
  copier.now += 0.6 * COPY_OPTIONS.windowMs;
  return copier;
}

test('what md would copy again if a leg failed is held with the next window', () => {
  for (const [againSectors, fromSector] of [
    [null, 101_200],
    [65_536, 65_536],
    [1024, 100_352],
  ] as const) {
    const copier = inTheMiddle(againSectors);
    assert.equal(copier.step(101_200).ask?.fromSector, fromSector, `${againSectors}`);
  }
});

test('where md would copy all of it again, it stands after each window for as long as others have held, and they hold nothing then', () => {
  const copier = inTheMiddle(0);
  const { allowedSector } = copier.windows;
  assert.equal(copier.step(allowedSector - 1).ask, null, 'no next window before it stands');
  copier.now += 10;
  const heldMs = copier.now - copier.windows.askedAtMs;
  const letGo = copier.step(allowedSector);
  assert.deepEqual([letGo.ask?.fromSector, letGo.ask?.toSector], [allowedSector, allowedSector]);
  assert.equal(letGo.wakeMs, 300);
  copier.answer(2, 3);
  copier.now += heldMs - 1;
  assert.equal(copier.step().ask, null);
  copier.now += 1;
  const next = copier.step();
  assert.equal(next.ask?.fromSector, 0);
  assert.ok((next.ask?.toSector ?? 0) > allowedSector);
  assert.equal(copier.windows.allowedSector, allowedSector, 'not before all hold');
  copier.answer(2, 3);
  assert.ok(copier.windows.allowedSector > allowedSector);
});

test('md copies nothing again where one leg is left after a failure, nor without a bitmap', () => {
  const bitmap = { firstSector: 224, sectorsPerNode: 8, chunkSectors: 128 };
  const legs = (raidDisks: number, there: number) => {
    const [leg] = RECORD.members;
    assert.ok(leg !== undefined);
    const members = Array.from({ length: there }, (_, slot) => ({ ...leg, uuid: `leg ${slot}`, slot }));
    return { ...RECORD, bitmap, raidDisks, members };
  };
  assert.equal(copiedAgain(legs(2, 2)), null);
  assert.equal(copiedAgain(legs(3, 2)), null);
  assert.equal(copiedAgain(legs(3, 3)), 128);
  assert.equal(copiedAgain(legs(4, 3)), 0, 'with a slot free its marks stay');
  assert.equal(copiedAgain({ ...legs(3, 3), bitmap: null }), null);
});
