/** Slots, size and replacements: what the master commits and refuses, and how a node gets there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LocalEffect } from '../../src/arrays/local_state.ts';
import { masterStep } from '../../src/arrays/master.ts';
import { type Change, type MasterEffect, type MasterInput, masterStart } from '../../src/arrays/master_state.ts';
import type { ArrayRecord, BitmapPlace, MemberRecord, NodeId } from '../../src/arrays/record.ts';
import { withSlots } from '../../src/arrays/shape.ts';
import type { ArrayObservation } from '../../src/md/driver.ts';
import {
  ARRAY,
  BITMAPS,
  bootOf,
  copy,
  LEG_A,
  LEG_B,
  LocalNode,
  MASTER_CONFIG,
  marking,
  md,
  mirror,
  newer,
  onDisks,
  PATHS,
  report,
  SPARE,
  unread,
  withFaulty,
} from './arrays_fixture.ts';

const OTHER = '00000000-0000-4000-8000-00000000000d';

function third(fields: Partial<MemberRecord> = {}): MemberRecord {
  return {
    uuid: SPARE,
    devNumber: 2,
    role: 'spare',
    slot: null,
    dataOffsetSectors: 2048,
    dataSizeSectors: 1000,
    ...fields,
  };
}

function with3(fields: Partial<MemberRecord> = {}, more: Partial<ArrayRecord> = {}): ArrayRecord {
  const record = mirror();
  return { ...record, members: [...record.members, third(fields)], ...more };
}

function slots(record: ArrayRecord | null | undefined): [string, string, number | null][] {
  const names = new Map([LEG_A, LEG_B, SPARE, OTHER].map((uuid, index) => [uuid, 'ABCD'[index] ?? '']));
  return (record?.members ?? []).map(({ uuid, role, slot }) => [names.get(uuid) ?? uuid, role, slot]);
}

// --- the master -----------------------------------------------------------------------------------------------------------

class Master {
  state = masterStart(1, MASTER_CONFIG);
  now = 1000;
  visible = [LEG_A, LEG_B, SPARE, OTHER];
  constructor(found: ArrayRecord) {
    for (const node of [1, 2, 3]) this.feed({ type: 'status', node, status: 'alive' });
    this.feed({ type: 'elected', term: 2 });
    this.reports(found);
    this.feed(onDisks(found));
    this.done();
    this.now += 5000;
  }
  reports(record: ArrayRecord, unseen: { node: NodeId; member: string } | null = null): void {
    for (const from of [1, 2, 3]) {
      const visible = this.visible.filter((uuid) => unseen?.node !== from || unseen.member !== uuid);
      this.feed({
        type: 'report',
        from,
        kernelBoot: bootOf(from),
        agentStart: 1,
        reports: [report(record, { visible })],
      });
    }
  }
  feed(input: MasterInput): MasterEffect[] {
    const { state, effects } = masterStep(this.state, input, this.now);
    this.state = state;
    return effects;
  }
  get record(): ArrayRecord {
    const record = this.state.arrays.get(ARRAY)?.record;
    assert.ok(record != null);
    return record;
  }
  get pending() {
    return this.state.arrays.get(ARRAY)?.pending ?? null;
  }
  get kind(): string | null {
    return this.pending?.kind ?? null;
  }
  /** What is pending is durable and applied by all. */
  done(): MasterEffect[] {
    const { pending } = this;
    assert.ok(pending !== null, 'nothing is committed');
    const { version } = pending.record;
    const effects = this.feed({ type: 'persisted', array: ARRAY, version, written: true, failed: [], text: '' });
    for (const from of [1, 2, 3]) {
      const about = report(pending.record, { visible: this.visible });
      effects.push(...this.feed({ type: 'applied', from, array: ARRAY, version, report: about }));
    }
    return effects;
  }
  ask(change: Change): string {
    const effects = this.feed({ type: 'ask', array: ARRAY, change, requestId: bootOf(9) });
    const answer = effects.find((effect) => effect.type === 'answer');
    return answer?.type === 'answer' ? `${answer.ok}: ${answer.text}` : (this.pending?.kind ?? 'nothing');
  }
}

const devices = (raidDisks: number, force = false): Change => ({ what: 'slots', raidDisks, force });
const larger = (componentSectors: number, assumeClean = false): Change => ({
  what: 'size',
  componentSectors,
  roomSectors: new Map([LEG_A, LEG_B, SPARE].map((uuid) => [uuid, 5000])),
  bitmap: null,
  assumeClean,
});

test('members are packed as md packs them; who is faulty gives its number up', () => {
  const record = withFaulty(with3({ role: 'active', slot: 2 }, { raidDisks: 3 }), LEG_A);
  const packed = withSlots(record, 4);
  assert.deepEqual(slots(packed), [
    ['A', 'faulty', null],
    ['B', 'active', 0],
    ['C', 'active', 1],
  ]);
  assert.deepEqual([packed.raidDisks, packed.events], [4, record.events + 1]);
});

test('more slots: with a spare for each, or by force; the spare then takes the new one', () => {
  const master = new Master(with3());
  assert.match(master.ask(devices(4)), /^false: .*needs 2 spares to avoid being degraded, and has 1/);
  assert.match(master.ask(devices(2)), /^false: md0 has 2 raid devices already/);
  assert.equal(master.ask(devices(3)), 'grow');
  assert.equal(master.pending?.record.raidDisks, 3);
  master.done();
  assert.equal(master.pending?.kind, 'resync-start');
  assert.deepEqual(slots(master.pending?.record)[2], ['C', 'rebuilding', 2]);
  assert.match(master.ask(devices(4, true)), /nothing|resync-start/);
  const refusal = master.done().find((effect) => effect.type === 'answer');
  assert.match(refusal?.type === 'answer' ? refusal.text : '', /a recovery is under way; wait for it/);
  const bare = new Master(mirror());
  assert.equal(bare.ask(devices(4, true)), 'grow');
});

test('fewer slots: only when those to go are free', () => {
  const whole = new Master(with3({ role: 'active', slot: 2 }, { raidDisks: 3 }));
  assert.match(whole.ask(devices(2)), /^false: .*3 members are in use.*room for 2; fail and remove 1 first/);
  const failed = new Master(withFaulty(with3({ role: 'active', slot: 2 }, { raidDisks: 3 }), LEG_A));
  assert.equal(failed.ask(devices(2)), 'grow');
  assert.deepEqual(slots(failed.pending?.record), [
    ['A', 'faulty', null],
    ['B', 'active', 0],
    ['C', 'active', 1],
  ]);
});

test('slots and replacements are raid1’s; a stopped array keeps its shape', () => {
  const striped = new Master({ ...mirror(), level: 'raid10', layout: 0x102, chunkSectors: 8 });
  assert.match(striped.ask(devices(3)), /^false: md0: raid10 would have to be reshaped/);
  assert.match(striped.ask({ what: 'replace', member: LEG_A, by: null }), /^false: md0: only a member of a raid1/);
});

test('a larger size is one to be copied from where the old one ended, unless it is said to be equal', () => {
  const master = new Master(mirror());
  assert.match(master.ask(larger(1000)), /^false: md0 is as large already/);
  assert.equal(master.ask(larger(4000)), 'grow');
  const record = master.pending?.record;
  assert.deepEqual(
    [record?.componentSectors, record?.resync?.kind, record?.resync?.fromSector],
    [4000, 'resync', 1000],
  );
  assert.deepEqual(
    record?.members.map(({ dataSizeSectors }) => dataSizeSectors),
    [5000, 5000],
  );
  const clean = new Master(mirror());
  clean.ask(larger(4000, true));
  assert.equal(clean.pending?.record.resync, null);
  const striped = new Master({ ...mirror(), level: 'raid10', layout: 0x102, chunkSectors: 8, componentSectors: 800 });
  striped.ask(larger(4000));
  assert.equal(striped.pending?.record.resync?.fromSector, 800, 'in sectors of the array');
  const late = new Master(with3({ uuid: OTHER }));
  assert.match(late.ask(larger(4000)), /^false: .*came in meanwhile and is too small/);
});

test('a replacement: one slot more until the new member is in sync, then the old one has failed', () => {
  const master = new Master(with3());
  assert.match(master.ask({ what: 'replace', member: SPARE, by: null }), /is spare, not in use/);
  assert.match(master.ask({ what: 'replace', member: LEG_A, by: LEG_B }), /is no spare; add the disk first/);
  assert.equal(master.ask({ what: 'replace', member: LEG_A, by: SPARE }), 'replace');
  assert.deepEqual(slots(master.pending?.record), [
    ['A', 'active', 0],
    ['B', 'active', 1],
    ['C', 'rebuilding', 2],
  ]);
  assert.equal(master.pending?.record.raidDisks, 3);
  master.done();
  const { since } = master.record.resync ?? { since: -1 };
  master.feed({
    type: 'observation',
    from: 1,
    observation: { what: 'resync-done', array: ARRAY, since, mismatchSectors: null },
  });
  assert.equal(master.pending?.kind, 'resync-done');
  const { events } = master.pending?.record ?? { events: 0 };
  master.done();
  assert.equal(master.pending?.kind, 'replaced');
  assert.deepEqual(slots(master.pending?.record), [
    ['A', 'faulty', null],
    ['B', 'active', 0],
    ['C', 'active', 1],
  ]);
  assert.deepEqual([master.pending?.record.raidDisks, master.pending?.record.events], [2, events + 2]);
  assert.ok(master.pending?.record.members.every(({ replaces }) => replaces === undefined));
});

test('a replacement whose new member fails, or is taken out, is called off: nobody else has failed', () => {
  const start = (): Master => {
    const master = new Master(with3());
    master.ask({ what: 'replace', member: LEG_A, by: SPARE });
    master.done();
    return master;
  };
  const master = start();
  const observation = { what: 'member-faulty', array: ARRAY, member: SPARE } as const;
  master.feed({ type: 'observation', from: 2, observation });
  master.done();
  assert.equal(master.pending?.kind, 'replaced');
  assert.deepEqual(slots(master.pending?.record), [
    ['A', 'active', 0],
    ['B', 'active', 1],
    ['C', 'faulty', null],
  ]);
  assert.equal(master.pending?.record.raidDisks, 2);

  const waiting = new Master(with3({ replaces: LEG_A }, { raidDisks: 3, resync: copy(1, 5) }));
  assert.equal(waiting.ask({ what: 'remove', member: SPARE }), 'remove');
  assert.deepEqual([slots(waiting.pending?.record).length, waiting.pending?.record.raidDisks], [2, 2]);
});

test('the slot of a replacement is kept for it: no other spare takes it, nor is it given before all see the disk', () => {
  const spare = { ...third(), uuid: OTHER, devNumber: 3 };
  const base = with3({ replaces: LEG_A }, { raidDisks: 3 });
  const found = { ...base, members: [...base.members, spare] };
  const unseen = new Master({ ...found, resync: copy(1, 5) });
  unseen.reports(unseen.record, { node: 3, member: SPARE });
  unseen.feed({
    type: 'observation',
    from: 1,
    observation: { what: 'resync-done', array: ARRAY, since: unseen.record.resync?.since ?? 0, mismatchSectors: null },
  });
  unseen.visible = [LEG_A, LEG_B, OTHER];
  unseen.done();
  assert.equal(unseen.kind, null, 'the other spare waits');
  unseen.reports(unseen.record);
  assert.equal(unseen.kind, null);
  unseen.visible = [LEG_A, LEG_B, OTHER, SPARE];
  unseen.reports(unseen.record);
  assert.deepEqual(slots(unseen.pending?.record)[2], ['C', 'rebuilding', 2]);

  const blind = new Master(with3());
  blind.reports(blind.record, { node: 2, member: SPARE });
  assert.match(blind.ask({ what: 'replace', member: LEG_A, by: null }), /^false: .*node 2 does not see it/);
});

// --- a node -----------------------------------------------------------------------------------------------------------------

class Node extends LocalNode {
  constructor(record: ArrayRecord, seen: ArrayObservation, paths = new Map([...PATHS, [OTHER, '/dev/sdd']])) {
    super(record, seen, paths);
  }
  did(seen: ArrayObservation, error: { code: string; text: string } | null = null): LocalEffect[] {
    const effects = this.ended(seen, { error });
    if (error !== null) this.now += 1000;
    return error === null ? effects : [...effects, ...this.feed({ type: 'tick' })];
  }
  get trouble(): string | null {
    return this.state.arrays.get(ARRAY)?.trouble ?? null;
  }
}

function isApplied(effects: LocalEffect[]): boolean {
  return effects.some((effect) => effect.type === 'applied');
}

/** md's members: uuid → slot. */
function mdOf(members: Record<string, number>, fields: Partial<ArrayObservation> = {}, faulty: string[] = []) {
  const [like] = md().members;
  assert.ok(like);
  return md({
    ...fields,
    members: Object.entries(members).map(([uuid, slot]) => {
      const failed = faulty.includes(uuid);
      return { ...like, uuid, slot, inSync: !failed, faulty: failed };
    }),
  });
}

test('slots are set under a whole hold, and the record counts as applied afterwards', () => {
  const node = new Node(mirror(), md());
  const grown = newer(mirror(), { raidDisks: 3 });
  node.feed({ type: 'commit', record: grown, forgotten: false });
  assert.equal(node.busy?.op, 'hold');
  assert.ok(!isApplied(node.did(md({ held: true }))));
  assert.equal(node.busy?.op, 'set-slots');
  assert.ok(isApplied(node.did(md({ held: true, raidDisks: 3 }))));
});

test('a failed member leaves its slot first: md would pack it with the others', () => {
  const record = withSlots(withFaulty(with3({ role: 'active', slot: 2 }, { raidDisks: 3 }), LEG_A), 2);
  const members = { [LEG_A]: 0, [LEG_B]: 1, [SPARE]: 2 };
  const node = new Node(record, mdOf(members, { held: true, raidDisks: 3 }, [LEG_A]));
  assert.deepEqual(node.busy, { op: 'remove', member: LEG_A });
  node.did(mdOf({ [LEG_B]: 1, [SPARE]: 2 }, { held: true, raidDisks: 3 }));
  assert.equal(node.busy?.op, 'set-slots');
  assert.ok(isApplied(node.did(mdOf({ [LEG_B]: 0, [SPARE]: 1 }, { held: true, raidDisks: 2 }))));
});

test('slots do not keep a failure from being applied, nor are they changed before it is agreed on', () => {
  const record = mirror({ raidDisks: 3 });
  const failed = new Node(record, md({ raidDisks: 2 }, LEG_B));
  assert.notEqual(failed.busy?.op, 'set-slots');
  const answered = new Node(record, mdOf({ [LEG_A]: 0, [LEG_B]: 1 }, { held: true }, [LEG_B]));
  assert.equal(answered.busy, null, 'the record calls it active: it is not taken out');
  const agreed = newer(withFaulty(record, LEG_B), {});
  const effects = failed.feed({ type: 'commit', record: agreed, forgotten: false });
  assert.ok(isApplied(effects), 'the commit of the failure waits for nothing');
});

test('a node that comes back to another order: a member that is missing comes in first, or the array is assembled anew', () => {
  // While it was away C took A's slot, and the array a third one.
  const filled = with3({ role: 'active', slot: 0 }, { raidDisks: 3, writers: [1, 3] });
  const record = { ...filled, members: filled.members.filter(({ uuid }) => uuid !== LEG_A) };
  const node = new Node(record, unread(mdOf({ [LEG_B]: 1 }, { held: true })));
  assert.equal(node.busy?.op, 'attach-rebuilding', 'packed now, B would take slot 0');
  node.did(unread(mdOf({ [LEG_B]: 1, [SPARE]: 0 }, { held: true })));
  assert.equal(node.busy?.op, 'set-slots');

  // Slots were packed twice: B is where C is by the record.
  const swapped = mirror({ writers: [1, 3] });
  const members = swapped.members.map((member) => ({ ...member, slot: member.uuid === LEG_A ? 1 : 0 }));
  const lost = new Node({ ...swapped, members }, unread(md({ held: true })));
  assert.equal(lost.busy?.op, 'stop');
});

test('a disk that has no room here keeps nobody waiting: the node says why, and tries again when it has looked at the disks', () => {
  const node = new Node(mirror(), md({ sizeSectors: 1000 }));
  const grown = newer(mirror(), { componentSectors: 4000 });
  node.feed({ type: 'commit', record: grown, forgotten: false });
  node.did(md({ held: true, sizeSectors: 1000 }));
  assert.equal(node.busy?.op, 'set-size');
  const effects = node.did(md({ held: true, sizeSectors: 1000 }), { code: 'ENOSPC', text: 'sdb has 3048 sectors' });
  assert.ok(isApplied(effects));
  assert.match(node.trouble ?? '', /set-size: sdb has 3048 sectors/);
  assert.equal(node.busy?.op ?? null, null);
  node.now += 1000;
  assert.ok(
    node.feed({ type: 'tick' }).some(({ type }) => type === 'rescan'),
    'it looks by itself',
  );
  node.now += 1000;
  node.feed({ type: 'paths', paths: PATHS });
  assert.equal(node.busy?.op, 'set-size');
  node.did(md({ held: true, sizeSectors: 4000, resyncStartSector: 1000 }));
  assert.deepEqual(node.busy, { op: 'resync-start', sector: null });
  assert.equal(node.trouble, null);
});

test('a node that has nothing of what is in sync any more stops the array: it could only read what is old', () => {
  const fresh = with3({ role: 'active', slot: 0, uuid: OTHER }, { writers: [1, 3], blind: [2] });
  const gone = withFaulty(withFaulty(fresh, LEG_A), LEG_B);
  assert.equal(
    new Node(gone, unread(md({ held: true }))).busy?.op,
    'stop',
    'md would keep the last old leg, whatever comes in',
  );
  assert.equal(new Node(gone, md(), PATHS).busy?.op, 'hold');
  assert.equal(new Node(gone, unread(md({ held: true })), PATHS).busy?.op, 'stop');
  const half = withFaulty(fresh, LEG_A);
  assert.notEqual(new Node(half, unread(md({ held: true })), PATHS).busy?.op, 'stop', 'what it reads is in sync');
});

const COARSE = { ...BITMAPS, chunkSectors: 256 };
const bitmaps = (bitmap: BitmapPlace | null, more: { nodeSlots?: number } = {}): Change => ({
  what: 'bitmap',
  bitmap,
  ...more,
});
const kept = (record: ArrayRecord | undefined) => record?.writerBoots.map(({ bitmap }) => bitmap);

test('other bitmaps: until a node says that it has laid its own, its death is followed by a full resync', () => {
  const master = new Master(marking());
  assert.equal(master.ask(bitmaps(COARSE)), 'bitmap');
  assert.deepEqual([master.pending?.record.bitmap, kept(master.pending?.record)], [COARSE, [false, false, false]]);
  const { record } = master.pending ?? {};
  assert.ok(record !== undefined);
  const { version } = record;
  master.feed({ type: 'persisted', array: ARRAY, version, written: true, failed: [], text: '' });
  for (const from of [1, 2, 3]) {
    const about = report(record, { bitmap: from !== 2 });
    master.feed({ type: 'applied', from, array: ARRAY, version, report: about });
  }
  assert.equal(master.kind, 'bitmap-kept');
  assert.deepEqual(kept(master.pending?.record), [true, false, true]);
});

test('bitmaps change only while the array is whole and nothing is copied; a size leaves them where they are if it can', () => {
  const degraded = new Master(withFaulty(marking(), LEG_B));
  assert.match(degraded.ask(bitmaps(null)), /^false: md0 is degraded: its bitmaps say what the missing member lacks/);
  assert.match(
    degraded.ask({ ...larger(2_000_000), bitmap: BITMAPS } as Change),
    /^false: md0 is degraded, and its bitmaps/,
  );
  const busy = new Master(marking({ resync: copy(1, 5, 'check') }));
  assert.match(busy.ask(bitmaps(null)), /^false: md0: a check is under way/);
  const roomSectors = new Map([LEG_A, LEG_B].map((uuid) => [uuid, 2_000_000]));
  const size = { what: 'size' as const, componentSectors: 2_000_000, roomSectors, assumeClean: true };
  const same = new Master(marking());
  assert.equal(same.ask({ ...size, bitmap: BITMAPS }), 'grow');
  assert.deepEqual(kept(same.pending?.record), [true, true, true], 'the bits mean what they meant');
  const other = new Master(marking());
  assert.equal(other.ask({ ...size, bitmap: COARSE }), 'grow');
  assert.deepEqual([other.pending?.record.bitmap, kept(other.pending?.record)], [COARSE, [false, false, false]]);
});

test('room for more nodes moves the bitmaps', () => {
  const master = new Master(marking());
  const moved = { ...BITMAPS, firstSector: 400 };
  assert.equal(master.ask(bitmaps(moved, { nodeSlots: 40 })), 'bitmap');
  assert.deepEqual([master.pending?.record.nodeSlots, kept(master.pending?.record)], [40, [false, false, false]]);
  const without = new Master(withFaulty(mirror(), LEG_B));
  assert.equal(without.ask(bitmaps(null, { nodeSlots: 40 })), 'bitmap', 'no bitmap is in the way');
  assert.equal(without.pending?.record.nodeSlots, 40);
});

test('reads that are held keep slots from being moved, and not the record from being applied: it is what they wait for', () => {
  const [, second] = mirror().members;
  assert.ok(second);
  const filled = third({ role: 'rebuilding', slot: 1 });
  const moved = { raidDisks: 3, members: [{ ...second, slot: 0 }, filled], resync: copy(1, 6, 'recovery') };
  const record = mirror({ ...moved, writers: [1, 2, 3] });
  const seen = (path: 'held' | 'up') => {
    const observed = mdOf({ [LEG_B]: 1 });
    return { ...observed, members: observed.members.map((each) => ({ ...each, path })) };
  };
  const node = new Node(record, seen('held'));
  assert.notEqual(node.busy?.op, 'attach-rebuilding', 'another member has its slot');
  assert.ok(isApplied(node.effects));
  node.release(record);
  node.feed({ type: 'observed', array: ARRAY, observation: seen('up') });
  assert.equal(node.busy?.op, 'hold');
  node.did({ ...seen('up'), held: true });
  assert.equal(node.busy?.op, 'set-slots');
});
