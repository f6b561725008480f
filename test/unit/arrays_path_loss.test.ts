/** Who gives way when a path is lost on one node: every rule of path_loss.ts, by itself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  judgePaths,
  NO_PATHS,
  type PathFacts,
  type PathLossPolicy,
  type PathMemory,
  type PathVerdict,
  type PathWord,
} from '../../src/arrays/path_loss.ts';
import { LEG_A, LEG_B, mirror, withFaulty } from './arrays_fixture.ts';

const LOST: PathWord = { lost: [LEG_B], fine: [] };
const FINE: PathWord = { lost: [], fine: [LEG_B] };
const SILENT: PathWord = { lost: [], fine: [] };

function judge(
  words: Record<number, PathWord>,
  facts: Partial<PathFacts> = {},
  { policy = 'drop-node' as PathLossPolicy, memory = NO_PATHS as PathMemory, now = 0 } = {},
): PathVerdict {
  const all: PathFacts = {
    self: 1,
    record: mirror(),
    words: new Map(Object.entries(words).map(([node, word]) => [Number(node), word])),
    waitsFor: () => 'nothing',
    ...facts,
  };
  return judgePaths(memory, all, { policy, waitMs: 3000 }, now);
}

test('fail-member: a lost path is a failed member, whoever sees it', () => {
  assert.deepEqual(judge({ 1: FINE, 2: FINE, 3: LOST }, {}, { policy: 'fail-member' }).fail, [LEG_B]);
});

test('drop-node keeps a member only by the word of all who still use it, and asks for it', () => {
  assert.deepEqual(judge({ 1: FINE, 2: FINE, 3: LOST }).keep, { node: 3, member: LEG_B });
  const asking = judge({ 1: FINE, 2: SILENT, 3: LOST });
  assert.deepEqual([asking.keep, asking.fail, asking.ask], [null, [], [{ member: LEG_B, to: [2] }]]);
  const again = judge({ 1: FINE, 2: SILENT, 3: LOST }, {}, { memory: asking.memory, now: 500 });
  assert.deepEqual(again.ask, [], 'once a second');
  const late = judge({ 1: FINE, 2: SILENT, 3: LOST }, {}, { memory: asking.memory, now: 3000 });
  assert.deepEqual(late.fail, [LEG_B], 'no word is no word for it');
});

test('what the master, most writers or the only writer have lost is given up', () => {
  assert.deepEqual(judge({ 1: LOST, 2: FINE, 3: FINE }).fail, [LEG_B]);
  assert.deepEqual(judge({ 1: FINE, 2: LOST, 3: LOST }).fail, [LEG_B]);
  assert.deepEqual(judge({ 1: FINE, 3: LOST }, { record: mirror({ writers: [3] }) }).fail, [LEG_B]);
  assert.deepEqual(
    judge({ 1: FINE, 2: LOST }, { record: mirror({ writers: [1, 2] }) }).fail,
    [],
    'one of two is not most',
  );
});

test('a loss that is kept is bounded by what others wait for, not by time', () => {
  const words = { 1: FINE, 2: FINE, 3: LOST };
  const kept: PathMemory = { ...NO_PATHS, kept: [{ node: 3, member: LEG_B }], lostSince: new Map([[LEG_B, 0]]) };
  assert.deepEqual(judge(words, {}, { memory: kept, now: 1e6 }).fail, []);
  const copies = { waitsFor: () => 'copy' as const };
  const waited = judge(words, copies, { memory: kept, now: 1e6 });
  assert.deepEqual(waited.fail, []);
  assert.deepEqual(judge(words, copies, { memory: waited.memory, now: 1e6 + 2999 }).fail, []);
  assert.deepEqual(judge(words, copies, { memory: waited.memory, now: 1e6 + 3000 }).fail, [LEG_B]);
  const passed = judge(words, {}, { memory: waited.memory, now: 1e6 + 2000 });
  assert.deepEqual(judge(words, copies, { memory: passed.memory, now: 1e6 + 3000 }).fail, [], 'counted anew');
});

test('a node that no failure frees is fenced, if the master can use what it has lost', () => {
  const both: PathWord = { lost: [LEG_A, LEG_B], fine: [] };
  const fine: PathWord = { lost: [], fine: [LEG_A, LEG_B] };
  const since: PathMemory = { ...NO_PATHS, waitedForSince: new Map([[3, 0]]) };
  const late = { memory: since, now: 3000 };
  const copies = { waitsFor: (node: number) => (node === 3 ? ('copy' as const) : ('nothing' as const)) };
  const verdict = judge({ 1: fine, 2: fine, 3: both }, copies, late);
  assert.deepEqual([verdict.fence, verdict.fail], [[3], []]);
  assert.deepEqual(judge({ 1: both, 2: fine, 3: both }, copies, late).fence, [], 'its end would mend no disk');
  const unsure = judge({ 1: FINE, 2: fine, 3: both }, copies, late);
  assert.deepEqual([unsure.fence, unsure.ask[0]], [[], { member: LEG_A, to: [1] }]);
  const last = { record: withFaulty(mirror(), LEG_A), ...copies };
  for (const policy of ['fail-member', 'drop-node'] as const) {
    assert.deepEqual(judge({ 1: FINE, 3: LOST }, last, { ...late, policy }).fence, [3], policy);
  }
  const commit = judge({ 1: FINE, 2: FINE, 3: LOST }, { waitsFor: () => 'commit' }, late);
  assert.deepEqual([commit.fence, commit.fail], [[3], []], 'no failure can be committed before the commit that waits');
});

test('a path is told as back once, and only by a node that is there, of a member that is good', () => {
  const memory: PathMemory = { ...NO_PATHS, kept: [{ node: 3, member: LEG_B }] };
  const back = judge({ 1: FINE, 2: FINE, 3: FINE }, {}, { memory });
  assert.deepEqual(back.restored, [{ node: 3, member: LEG_B }]);
  assert.deepEqual(judge({ 1: FINE, 2: FINE, 3: FINE }, {}, { memory: back.memory }).restored, []);
  assert.deepEqual(judge({ 1: FINE, 2: FINE }, {}, { memory }).restored, [], 'gone');
  const record = withFaulty(mirror(), LEG_B);
  assert.deepEqual(judge({ 1: FINE, 2: FINE, 3: FINE }, { record }, { memory }).restored, [], 'given up');
});
