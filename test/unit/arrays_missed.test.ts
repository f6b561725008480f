/** When all that a missing member lacks is marked, and when nobody may rely on that. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arrayOnComponent } from '../../src/arrays/levels.ts';
import { lacksOnlyMarked, withMissed } from '../../src/arrays/missed.ts';
import type { ArrayRecord, MemberRecord, NodeId } from '../../src/arrays/record.ts';

import { copy, LEG_A, LEG_B, marking, mirror, newer, SPARE, withFaulty } from './arrays_fixture.ts';

function then(before: ArrayRecord, fields: Partial<ArrayRecord>): ArrayRecord {
  return withMissed(before, newer(before, fields));
}

function failed(before: ArrayRecord, leg = LEG_B): ArrayRecord {
  return then(before, { members: withFaulty(before, leg).members });
}

function removed(before: ArrayRecord, leg = LEG_B): ArrayRecord {
  return then(before, { members: before.members.filter(({ uuid }) => uuid !== leg) });
}

function added(
  before: ArrayRecord,
  uuid: string,
  role: MemberRecord['role'] = 'spare',
  slot: number | null = null,
): ArrayRecord {
  const [first] = before.members;
  assert.ok(first);
  const others = before.members.filter((member) => member.uuid !== uuid);
  return then(before, { members: [...others, { ...first, uuid, devNumber: 7, role, slot }] });
}

const why = (record: ArrayRecord, uuid = LEG_B): string => {
  const found = lacksOnlyMarked(record, { uuid }, null);
  assert.equal(typeof found, 'string', 'it is to be filled as a whole');
  return String(found);
};

const three = (): ArrayRecord => {
  const record = marking({ raidDisks: 3 });
  const third = {
    uuid: SPARE,
    devNumber: 2,
    role: 'active' as const,
    slot: 2,
    dataOffsetSectors: 2048,
    dataSizeSectors: 1_000_000,
  };
  return { ...record, members: [...record.members, third] };
};

test('a member that leaves a whole array lacks what its writers mark from then on', () => {
  const record = failed(marking());
  assert.deepEqual(record.missed, { since: 6, nodes: [1, 2, 3], on: [LEG_A], left: [{ uuid: LEG_B, slot: 1 }] });
  const back = added(removed(record), SPARE);
  assert.deepEqual(lacksOnlyMarked(back, { uuid: SPARE, was: LEG_B }, 1), [1, 2, 3]);
  assert.match(why(back, SPARE), /left before the array was last whole/, 'another disk');
  assert.deepEqual(back.missed?.left, [{ uuid: LEG_B, slot: 1 }]);
});

test('who comes to write meanwhile is counted in; who leaves stays: its marks are still there', () => {
  const alone = failed(marking({ writers: [1] }));
  assert.deepEqual(alone.missed?.nodes, [1]);
  const { writers, writerBoots } = marking({ writers: [2] });
  assert.deepEqual(lacksOnlyMarked(then(alone, { writers, writerBoots }), { uuid: LEG_B }, 1), [1, 2]);
});

test('without bitmaps, with other bitmaps, or with a writer that keeps none, nothing is known, for good', () => {
  assert.match(why(failed(mirror())), /keeps no bitmaps/);
  for (const without of [1, 2, 3] as NodeId[])
    assert.match(why(failed(marking({}, [without]))), /not marked as a whole/);
  const record = failed(marking());
  const { writerBoots } = marking({}, [3]);
  const once = then(record, { writerBoots });
  assert.equal(once.missed, undefined);
  assert.equal(then(once, { writerBoots: record.writerBoots }).missed, undefined, 'what it wrote is marked nowhere');
  assert.equal(then(record, { bitmap: { firstSector: 232, sectorsPerNode: 8, chunkSectors: 128 } }).missed, undefined);
});

test('a writer that is admitted without a bitmap in the very commit that fails a member spoils it', () => {
  const before = marking({ writers: [1, 2] });
  const { writers, writerBoots } = marking({}, [3]);
  const after = newer(before, { members: withFaulty(before, LEG_B).members, writers, writerBoots });
  assert.equal(withMissed(before, after).missed, undefined);
});

test('what a writer without a bitmap wrote is marked nowhere, though it is evicted in the commit that fails a member', () => {
  const before = marking({}, [3]);
  const { writers, writerBoots } = marking({ writers: [1, 2] });
  const after = newer(before, { members: withFaulty(before, LEG_B).members, writers, writerBoots });
  assert.equal(withMissed(before, after).missed, undefined);
});

test('when the array is whole again nobody keeps marks: a disk that left before is filled as a whole', () => {
  const whole = added(removed(failed(marking())), SPARE, 'active', 1);
  assert.equal(whole.missed, undefined);
  const again = failed(whole, SPARE);
  assert.match(why(again), /left before the array was last whole/);
  assert.deepEqual(lacksOnlyMarked(again, { uuid: SPARE }, 1), [1, 2, 3]);
});

test('a recovery that fills the last slot takes marks away: whoever else is missing is filled as a whole from then on', () => {
  const record = added(removed(failed(marking())), SPARE);
  const { members } = added(record, SPARE, 'rebuilding', 1);
  const begun = then(record, { members, resync: copy(1, 9, 'recovery') });
  assert.equal(begun.missed, undefined);
  // It is called off half way.
  const off = then(begun, { members: members.filter(({ uuid }) => uuid !== SPARE), resync: null });
  assert.match(why(off), /not marked as a whole/);
});

test('with another slot free md keeps the marks, and so does the record; who is being filled has not left any more', () => {
  const two = failed(failed(three()), LEG_A);
  assert.equal(two.missed?.since, 6);
  const again = '00000000-0000-4000-8000-00000000000d';
  const members = added(removed(two), again, 'rebuilding', 1).members.map((member) =>
    member.uuid === again ? { ...member, was: LEG_B } : member,
  );
  const begun = then(two, { members, resync: copy(1, 9, 'recovery', { markedBy: [1, 2, 3] }) });
  assert.deepEqual(begun.missed?.left, [{ uuid: LEG_A, slot: 0 }]);
  assert.match(
    why(failed(then(begun, { resync: null }), again)),
    /left before/,
    'it was not in sync when it failed again',
  );
});

test('when nobody is left who has been in sync all the time, marks may be missing on those who are', () => {
  const two = failed(three());
  assert.deepEqual(two.missed?.on, [LEG_A, SPARE]);
  const one = failed(two, SPARE);
  assert.deepEqual(one.missed?.on, [LEG_A]);
  const fresh = '00000000-0000-4000-8000-00000000000d';
  const both = added(one, fresh, 'active', 1);
  assert.deepEqual(both.missed?.on, [LEG_A]);
  assert.equal(failed(both, LEG_A).missed, undefined);
});

test('a resync under way when the member leaves: its copier’s marks count, and those it goes by; a full one is marked nowhere', () => {
  const by = (markedBy: NodeId[] | null) =>
    failed(marking({ writers: [2], resync: copy(1, 4, 'resync', { markedBy }) }));
  assert.deepEqual(by([3]).missed?.nodes, [1, 2, 3]);
  assert.equal(by(null).missed, undefined);
  assert.equal(failed(marking({ resync: copy(1, 4, 'repair') })).missed, undefined);
  assert.ok(failed(marking({ resync: copy(1, 4, 'check') })).missed !== undefined);
});

test('a slot more or less ends it', () => {
  assert.equal(then(failed(marking()), { raidDisks: 3 }).missed, undefined);
});

test('raid10: each slot has its own data, so it has to be the one that was left; parity is always filled as a whole', () => {
  const record = failed(marking({ level: 'raid10', layout: 0x102, chunkSectors: 128 }));
  assert.deepEqual(lacksOnlyMarked(record, { uuid: LEG_B }, 1), [1, 2, 3]);
  assert.match(String(lacksOnlyMarked(record, { uuid: LEG_B }, 0)), /its slot 1 is taken/);
  assert.match(why(failed(marking({ level: 'raid5' }))), /raid5 is always filled as a whole/);
});

test('raid10: what is marked in the array lies in these rows of the component', () => {
  const record = marking({ level: 'raid10', layout: 0x102, chunkSectors: 128, raidDisks: 3 });
  // Chunk 1 has its copies in the third column of row 0 and the first of row 1.
  assert.deepEqual(arrayOnComponent(record, 128, 256), { loSector: 0, hiSector: 256 });
  assert.deepEqual(arrayOnComponent(record, 3 * 128, 4 * 128), { loSector: 2 * 128, hiSector: 3 * 128 });
});
