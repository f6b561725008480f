/** Histories of registers, made by hand: what the judge of `make history` calls right and what wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Bytes,
  type History,
  judge,
  type Read,
  timeline,
  type Verdict,
  type Write,
} from '../lab/register_history.ts';

/** `write(3, 10, 20)`: the third write of the one writer, node 1, from 10 to 20. */
const write = (count: number, start: number, end: number | null, other: Partial<Write> = {}): Write => ({
  register: 0,
  value: `1.1.0.${count}`,
  start,
  end,
  failed: false,
  ...other,
});

const read = (count: number | Bytes, start: number, end: number, other: Partial<Read> = {}): Read => ({
  register: 0,
  reader: '2.1.5',
  start,
  end,
  found: typeof count === 'string' ? count : { value: `1.1.0.${count}`, writtenAt: count * 10 },
  ...other,
});

const history = (writes: Write[], reads: Read[], other: Partial<History> = {}): History => ({
  writes,
  reads,
  settledAt: [],
  cutShort: new Set(),
  ...other,
});

const kinds = ({ violations }: Verdict): string[] => violations.map(({ kind }) => kind);
const one = write(1, 10, 20);
const two = write(2, 30, 40);

test('the last write that was done is read, or one that is under way', () => {
  const reads = [
    read('blank', 0, 5),
    read('blank', 12, 14),
    read(1, 15, 16),
    read(1, 21, 22),
    read(1, 31, 39),
    read(2, 32, 50),
  ];
  const verdict = judge(history([one, two], reads));
  assert.deepEqual(verdict, {
    violations: [],
    registers: 1,
    writes: 2,
    reads: 6,
    untold: 0,
    untoldSeen: 0,
    wentBack: 0,
  });
});

test('a reading that began when a newer write was done must not show the older one', () => {
  const { violations } = judge(history([one, two], [read(2, 41, 42), read(1, 41, 45)]));
  assert.deepEqual(
    violations.map(({ kind, read: { end }, expected }) => [kind, end, expected?.value]),
    [['stale', 45, '1.1.0.2']],
  );
  assert.deepEqual(kinds(judge(history([one, two], [read(1, 39, 45)]))), [], 'it began while that was under way');
  assert.deepEqual(
    kinds(judge(history([one, two], [read(1, 40, 45)]))),
    ['stale'],
    'the end of the one is before the begin of the other',
  );
});

test('a blank register after a write that was done is a lost write', () => {
  assert.deepEqual(kinds(judge(history([one], [read('blank', 21, 22)]))), ['lost']);
});

test('bytes that are no value are always wrong, also while a write is under way', () => {
  for (const bytes of ['torn', 'foreign', 'misplaced'] as const) {
    assert.deepEqual(kinds(judge(history([one], [read(bytes, 11, 19)]))), [bytes]);
  }
});

test('a value that nobody wrote is foreign; of a process that was killed it is one that it had no time to tell of', () => {
  assert.deepEqual(kinds(judge(history([one], [read(3, 50, 51)]))), ['foreign']);
  const killed = judge(history([one], [read(3, 50, 51)], { cutShort: new Set(['1.1']) }));
  assert.deepEqual(killed, {
    violations: [],
    registers: 1,
    writes: 2,
    reads: 1,
    untold: 1,
    untoldSeen: 0,
    wentBack: 0,
  });
  assert.deepEqual(kinds(judge(history([one], [read(3, 50, 51)], { cutShort: new Set(['1.10']) }))), ['foreign']);
});

test('a value of another register is foreign here, also one of a killed process', () => {
  const cut = { cutShort: new Set(['1.1']) };
  assert.deepEqual(kinds(judge(history([one], [read(1, 50, 51, { register: 7 })], cut))), ['foreign']);
  assert.deepEqual(kinds(judge(history([one], [read(1, 50, 51, { register: 7 })]))), ['foreign']);
});

test('a value from before its write began tells that the clocks are no clock', () => {
  assert.deepEqual(kinds(judge(history([one], [read(1, 2, 9)]))), ['from the future']);
});

test('while a write is under way a mirror may answer either way: counted, and right', () => {
  const verdict = judge(
    history([one, write(2, 30, 60)], [read(2, 31, 33), read(1, 34, 36), read(2, 37, 38), read(1, 39, 70)]),
  );
  assert.deepEqual([kinds(verdict), verdict.wentBack], [[], 2]);
});

test('a write of a killed process may have happened or not, and may come late, until all is settled', () => {
  const cut = { cutShort: new Set(['1.1']), settledAt: [100, 200] };
  const open = write(2, 30, null);
  const before = [read(1, 35, 36), read(2, 50, 51), read(1, 60, 61), read(1, 99, 120)];
  assert.deepEqual(kinds(judge(history([one, open], before, cut))), []);
  assert.deepEqual(
    kinds(judge(history([one, open], [...before, read(2, 110, 111), read(2, 210, 211)], cut))),
    [],
    'it has',
  );
  assert.deepEqual(
    kinds(judge(history([one, open], [...before, read(1, 110, 111), read(1, 210, 211)], cut))),
    [],
    'it has not',
  );
});

test('once settled it cannot be both', () => {
  const cut = { cutShort: new Set(['1.1']), settledAt: [100, 200] };
  const open = write(2, 30, null);
  for (const reads of [
    [read(1, 110, 111), read(2, 120, 121)],
    [read(2, 110, 111), read(1, 120, 121)],
    [read(2, 110, 120), read(1, 110, 120)],
  ]) {
    const verdict = judge(history([one, open], reads, cut));
    assert.deepEqual([kinds(verdict), verdict.untoldSeen], [['stale'], 1]);
  }
});

test('an untold write that the block alone tells of is settled in the same way', () => {
  const cut = { cutShort: new Set(['1.1']), settledAt: [100] };
  assert.deepEqual(kinds(judge(history([one], [read(3, 50, 51), read(1, 60, 61), read(1, 110, 111)], cut))), []);
  assert.deepEqual(kinds(judge(history([one], [read(3, 110, 111), read(1, 120, 121)], cut))), ['stale']);
});

test('the next writer hides what the killed one may have done', () => {
  const cut = { cutShort: new Set(['1.1']), settledAt: [100] };
  const next = write(1, 110, 120, { value: '2.2.0.1' });
  const found = { value: '2.2.0.1', writtenAt: 110 };
  assert.deepEqual(
    kinds(judge(history([one, write(2, 30, null), next], [read(1, 115, 116), read(1, 130, 131, { found })], cut))),
    [],
  );
  assert.deepEqual(kinds(judge(history([one, write(2, 30, null), next], [read(2, 130, 131)], cut))), ['stale']);
});

test('a write that failed is untold too: it may stand there or not', () => {
  const failed = write(2, 30, 40, { failed: true });
  assert.deepEqual(kinds(judge(history([one, failed], [read(1, 50, 51), read(1, 60, 61)]))), []);
  assert.deepEqual(kinds(judge(history([one, failed], [read(2, 50, 51), read(1, 60, 61)]))), ['stale']);
});

test('two writers at once are no workload: the history is refused', () => {
  assert.throws(
    () => judge(history([one, write(1, 19, 25, { value: '2.1.0.1' })], [])),
    /register 0: 2\.1\.0\.1 is written from 19 on, while 1\.1\.0\.1/,
  );
  assert.throws(
    () => judge(history([write(1, 10, null), write(1, 50, 60, { value: '2.1.0.1' })], [], { settledAt: [55] })),
    /under way until 55/,
  );
});

test('registers are judged apart from each other', () => {
  const elsewhere = write(9, 30, 40, { register: 1 });
  const verdict = judge(history([one, elsewhere], [read(1, 50, 51), read(9, 50, 51, { register: 1 })]));
  assert.deepEqual([kinds(verdict), verdict.registers], [[], 2]);
});

test('against the definition itself, word by word, on drawn histories', () => {
  // Slow, and with no thought in it: what must a reading not show?
  const wrong = (all: History): number => {
    const blank: Write = { register: 0, value: 'blank', start: -2, end: -1, failed: false };
    const over = (each: Write): number =>
      each.end ?? all.settledAt.find((at) => at > each.start) ?? Number.POSITIVE_INFINITY;
    const shown = ({ found }: Read): string => (typeof found === 'string' ? found : found.value);
    const happened = (each: Write): boolean =>
      each.end !== null || all.reads.some((other) => shown(other) === each.value && other.start >= over(each));
    return all.reads.filter((reading) => {
      const met = [blank, ...all.writes].find(({ value }) => value === shown(reading)) ?? blank;
      return all.writes.some((newer) => happened(newer) && over(met) <= newer.start && over(newer) <= reading.start);
    }).length;
  };
  let state = 1;
  const below = (count: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % count;
  };
  let violations = 0;
  for (let round = 0; round < 400; round++) {
    const writes: Write[] = [];
    const settledAt: number[] = [];
    let at = 1;
    for (let count = 1; count <= 6; count++) {
      const start = at + below(4);
      const end = start + 1 + below(8);
      const killed = below(4) === 0;
      writes.push(write(count, start, killed ? null : end, { value: `1.${count}.0.1` }));
      if (killed) settledAt.push(end + 3);
      at = killed ? end + 3 : end;
    }
    const reads = Array.from({ length: 8 }, (): Read => {
      const start = 1 + below(at + 5);
      const met = [...writes].reverse().find((each) => each.start <= start + 2);
      const wanted = below(3) === 0 ? writes.findLast((each) => each.start < (met?.start ?? 0)) : met;
      return read('blank', start, start + 3, {
        found: wanted === undefined ? 'blank' : { value: wanted.value, writtenAt: wanted.start },
      });
    });
    const all = history(writes, reads, { settledAt, cutShort: new Set(writes.map(({ value }) => value.slice(0, 3))) });
    const found = judge(all).violations.length;
    assert.equal(found, wrong(all), JSON.stringify({ writes, reads, settledAt }));
    violations += found;
  }
  assert.ok(violations > 100, 'the drawn histories have something wrong in them');
});

test('a violation is told as a story', () => {
  const all = history([one, two], [read(1, 21, 22), read(1, 41, 45)]);
  const [violation] = judge(all).violations;
  assert.ok(violation !== undefined);
  assert.deepEqual(
    timeline(
      violation,
      all,
      [
        { at: 25, text: '*** node 1 is cut off' },
        { at: 90, text: 'later' },
      ],
      (at) => at / 10,
    ),
    [
      'stale: register 0, 2.1.5 reads 1.1.0.1, but 1.1.0.2 was done by 4.0000 s',
      '1.0000 s  write 1.1.0.1 until 2.0000 s',
      '2.1000 s    2.1.5 reads 1.1.0.1 until 2.2000 s',
      '2.5000 s  *** node 1 is cut off',
      '3.0000 s  write 1.1.0.2 until 4.0000 s',
      '4.1000 s  2.1.5 reads 1.1.0.1 until 4.5000 s: stale',
    ],
  );
});
