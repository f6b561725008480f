/** Copies across the cluster: windows on the node that does not copy, members that are rebuilt, what the master commits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LocalEffect } from '../../src/arrays/local_state.ts';
import { masterStep } from '../../src/arrays/master.ts';
import { type MasterEffect, type MasterInput, type MasterState, masterStart } from '../../src/arrays/master_state.ts';
import type { ArrayRecord, NodeId } from '../../src/arrays/record.ts';
import type { ArrayObservation } from '../../src/md/driver.ts';
import type { CopyProgress } from '../../src/wire/messages.ts';
import {
  ARRAY,
  bootOf,
  copy,
  LEG_A,
  LEG_B,
  LocalNode,
  MASTER_CONFIG,
  md,
  mdRebuilding,
  mirror,
  newer,
  onDisks,
  PATHS,
  rebuilding,
  report,
  SPARE,
  SPARE_MEMBER,
  unread,
  withFaulty,
} from './arrays_fixture.ts';

const RANGE = { loSector: 100, hiSector: 400 };

class Node extends LocalNode {
  commit(record: ArrayRecord): LocalEffect[] {
    return this.feed({ type: 'commit', record, forgotten: false });
  }
  did(seen: ArrayObservation): LocalEffect[] {
    return this.ended(seen);
  }
  window(sequence: number, range = RANGE, from = 1): LocalEffect[] {
    const { since } = this.state.arrays.get(ARRAY)?.record.resync ?? { since: 0 };
    return this.feed({ type: 'window', from, array: ARRAY, since, sequence, range });
  }
}

function ops(effects: LocalEffect[]): string[] {
  return effects.flatMap((effect) => (effect.type === 'perform' ? [effect.op.op] : []));
}

function heldIn(effects: LocalEffect[]): number[] {
  return effects.flatMap((effect) => (effect.type === 'window-held' ? [effect.sequence] : []));
}

function isApplied(effects: LocalEffect[]): boolean {
  return effects.some((effect) => effect.type === 'applied');
}

/** Node 2 holds everything for a resync by node 1 that is released. */
function heldForCopy(): { node: Node; record: ArrayRecord } {
  const record = mirror({ resync: copy(1, 5) });
  const node = new Node(record, md({ held: true, resyncStartSector: 0 }));
  node.release(record);
  return { node, record };
}

test('until the copier has said where it copies, everything is held; then only that', () => {
  const { node } = heldForCopy();
  assert.equal(node.busy, null, 'no window is known');
  const asked = node.window(7);
  assert.deepEqual(heldIn(asked), [7], 'all is held, so the window is');
  assert.deepEqual(ops(asked), ['hold-range']);
  assert.deepEqual(node.busy, { op: 'hold-range', range: RANGE });
});

test('a window is answered only when md has drained it, and not from what was seen before an operation ended', () => {
  const { node } = heldForCopy();
  node.window(7);
  const next = { loSector: 300, hiSector: 700 };
  assert.deepEqual(heldIn(node.window(8, next)), [], 'the first is on its way: what it leaves held is not known');
  const first = node.did(md({ suspended: RANGE, resyncStartSector: 0 }));
  assert.deepEqual(heldIn(first), []);
  const grown = { loSector: RANGE.loSector, hiSector: next.hiSector };
  assert.deepEqual(node.busy, { op: 'hold-range', range: grown }, 'its end first');
  assert.deepEqual(heldIn(node.did(md({ suspended: grown, resyncStartSector: 0 }))), [8], 'no need to wait for more');
  assert.deepEqual(node.busy, { op: 'hold-range', range: next });
  assert.deepEqual(heldIn(node.did(md({ suspended: next, resyncStartSector: 0 }))), [], 'said already');
  assert.equal(node.busy, null);
});

test('an older window, another node’s, or one of another copy changes nothing', () => {
  const { node } = heldForCopy();
  node.window(7);
  node.did(md({ suspended: RANGE, resyncStartSector: 0 }));
  const other = { loSector: 500, hiSector: 600 };
  node.window(6, other);
  node.window(9, other, 3);
  node.feed({ type: 'window', from: 1, array: ARRAY, since: 4, sequence: 99, range: other });
  assert.equal(node.busy, null);
  assert.equal(node.state.arrays.get(ARRAY)?.window?.sequence, 7);
});

test('an empty window opens the array; under a closed gate no range is changed', () => {
  const { node } = heldForCopy();
  node.window(7, { loSector: 100, hiSector: 100 });
  assert.deepEqual(node.busy, { op: 'open' });

  const gated = heldForCopy().node;
  const closed = md({ held: true, resyncStartSector: 0, writePending: true, arrayState: 'write-pending' });
  gated.feed({ type: 'observed', array: ARRAY, observation: closed });
  assert.deepEqual(ops(gated.window(7)), []);
});

test('a checkpoint does not stop the windows; a failure does', () => {
  const { node, record } = heldForCopy();
  node.window(7);
  node.did(md({ suspended: RANGE, resyncStartSector: 0 }));
  const checkpoint = newer(record, { resync: copy(1, 5, 'resync', { fromSector: 300 }) });
  node.commit(checkpoint);
  assert.deepEqual(node.busy, { op: 'resync-start', sector: 300 });
  node.did(md({ suspended: RANGE, resyncStartSector: 300 }));
  assert.deepEqual(ops(node.window(8, { loSector: 300, hiSector: 700 })), ['hold-range'], 'not released yet');
  node.did(md({ suspended: { loSector: 300, hiSector: 700 }, resyncStartSector: 300 }));

  const failed = newer(checkpoint, withFaulty(checkpoint, LEG_A));
  const mirrored: ArrayRecord = { ...failed, version: { term: 1, index: 7 } };
  node.commit(mirrored);
  assert.deepEqual(node.busy, { op: 'hold' }, 'drained first');
});

test('another copier: what the old window holds stays held until the new one says where it copies', () => {
  const { node, record } = heldForCopy();
  node.window(7);
  node.did(md({ suspended: RANGE, resyncStartSector: 0 }));
  const taken = newer(record, { resync: copy(3, 6) });
  assert.deepEqual(ops(node.commit(taken)), []);
  assert.deepEqual(ops(node.release(taken)), [], 'the old copier may be at it until all have applied this');
  const next = { loSector: 0, hiSector: 200 };
  assert.deepEqual(heldIn(node.window(1, next, 3)), []);
  assert.deepEqual(node.busy, { op: 'hold-range', range: next });
});

test('a node that knows no window says so, and goes on saying so', () => {
  const record = mirror({ resync: copy(1, 5) });
  const node = new Node(record, md({ held: true, resyncStartSector: 0 }));
  assert.deepEqual(heldIn(node.release(record)), [0]);
  node.now += 1100;
  assert.deepEqual(heldIn(node.feed({ type: 'tick' })), [0]);
});

test('a halted copy holds nothing on others, and is frozen on the copier before it says that it is', () => {
  const record = mirror({ resync: copy(1, 5, 'resync', { halted: true, fromSector: 300 }) });
  const other = new Node(record, md({ held: true, resyncStartSector: 300 }));
  assert.deepEqual(ops(other.release(record)), ['open']);

  const own = mirror({ resync: copy(2, 5, 'resync', { halted: true, fromSector: 300 }) });
  const copier = new Node(own, md({ syncAction: 'resync', resyncStartSector: 300 }));
  assert.deepEqual(copier.busy, { op: 'freeze' });
  assert.equal(copier.state.arrays.get(ARRAY)?.applied, null);
});

test('a member to be rebuilt is in md before the record counts as applied, on every node', () => {
  const record = rebuilding(1, 6);
  const node = new Node(record, mdRebuilding('absent', { held: true }));
  assert.equal(node.state.arrays.get(ARRAY)?.applied, null);
  assert.equal(node.busy?.op, 'attach-rebuilding');
  assert.ok(isApplied(node.did(mdRebuilding('rebuilding', { held: true }))));
});

test('a node that does not see the disk to be rebuilt holds its writes and says which it is', () => {
  const record = rebuilding(1, 6);
  const node = new Node(mirror(), md());
  node.release(mirror());
  node.feed({ type: 'paths', paths: new Map([...PATHS].filter(([uuid]) => uuid !== SPARE)) });
  const effects = node.feed(
    { type: 'commit', record, forgotten: false },
    { type: 'observed', array: ARRAY, observation: mdRebuilding('absent') },
  );
  assert.equal(node.busy?.op, 'hold');
  assert.ok(effects.some((effect) => effect.type === 'trouble' && effect.text?.includes(SPARE)));
  assert.equal(isApplied(node.did(mdRebuilding('absent', { held: true }))), false);
});

test('a rebuilt member becomes active under a hold, and without a copy of this node’s', () => {
  const record = rebuilding(1, 6);
  const node = new Node(record, mdRebuilding('rebuilding', { held: true }));
  node.release(record);
  node.window(1);
  node.did(mdRebuilding('rebuilding', { suspended: RANGE }));
  const members = record.members.map((m) => (m.uuid === SPARE ? { ...m, role: 'active' as const } : m));
  const whole = newer(record, { members, resync: null });
  assert.deepEqual(ops(node.commit(whole)), ['hold']);
  assert.deepEqual(ops(node.did(mdRebuilding('rebuilding', { held: true }))), ['activate']);
  const done = node.did(mdRebuilding('in-sync', { held: true }));
  assert.ok(isApplied(done));
  assert.deepEqual(ops(node.release(whole)), ['open']);
});

test('a new copier attaches the member anew at the checkpoint, under a hold: md’s own place may be another', () => {
  const record = rebuilding(2, 6, { fromSector: 500 });
  const node = new Node(record, mdRebuilding('rebuilding'));
  node.release(record);
  assert.equal(node.busy?.op, 'hold');
  node.did(mdRebuilding('rebuilding', { held: true }));
  assert.deepEqual(node.busy, { op: 'attach-rebuilding', member: SPARE, record, fromSector: 500, since: 6 });
  node.did(mdRebuilding('rebuilding', { held: true }));
  assert.deepEqual(node.busy, { op: 'open' });
  node.did(mdRebuilding('rebuilding'));
  const asked = node.state.arrays.get(ARRAY)?.windows?.sequence ?? 0;
  for (const from of [1, 3]) {
    node.feed({ type: 'window-held', from, array: ARRAY, since: 6, sequence: asked, writes: null });
  }
  assert.equal(node.busy?.op, 'start-copy');
});

test('a rebuilding that was called off is taken out of its slot, drained, before the record counts as applied', () => {
  const record = rebuilding(1, 6);
  const node = new Node(record, mdRebuilding('rebuilding', { held: true }));
  node.release(record);
  node.window(1);
  node.did(mdRebuilding('rebuilding', { suspended: RANGE }));
  const members = record.members.map((m) => (m.uuid === SPARE ? { ...m, role: 'spare' as const, slot: null } : m));
  const off = newer(record, { members, resync: null });
  assert.deepEqual(ops(node.commit(off)), ['hold']);
  assert.deepEqual(ops(node.did(mdRebuilding('rebuilding', { held: true }))), ['detach-rebuilding']);
  assert.ok(isApplied(node.did(mdRebuilding('spare', { held: true }))));
});

test('a rebuilding that is called off while this node copies: the copy is ended first', () => {
  const record = rebuilding(2, 6);
  const members = record.members.map((m) => (m.uuid === SPARE ? { ...m, role: 'spare' as const, slot: null } : m));
  const off = newer(record, { members, resync: copy(2, 7) });
  const node = new Node(off, mdRebuilding('rebuilding', { held: true, syncAction: 'recover' }));
  assert.equal(node.busy?.op, 'freeze');
  node.did(mdRebuilding('rebuilding', { held: true }));
  assert.equal(node.busy?.op, 'detach-rebuilding');
});

test('the copier’s md is told to go on as the windows allow, and a copy that it did not begin is frozen', () => {
  const record = rebuilding(2, 6);
  const big = { ...record, componentSectors: 1_000_000 };
  const node = new Node(big, mdRebuilding('absent'));
  node.did(mdRebuilding('rebuilding', { held: true }));
  const asked = node.release(big).find((effect) => effect.type === 'send-window');
  assert.ok(asked?.type === 'send-window');
  assert.deepEqual([asked.range.loSector, asked.to], [0, [1, 3]]);
  node.did(mdRebuilding('rebuilding'));
  for (const from of [1, 3]) {
    node.feed({ type: 'window-held', from, array: ARRAY, since: 6, sequence: asked.sequence, writes: null });
  }
  const start = node.busy;
  assert.ok(start?.op === 'start-copy');
  assert.deepEqual(start.copy, { kind: 'recovery', fromSector: 0, toSector: asked.range.hiSector });
  const runs = (doneSectors: number) =>
    mdRebuilding('rebuilding', { syncAction: 'recover', syncCompleted: { doneSectors, totalSectors: 1_000_000 } });
  node.did(runs(0));
  node.now += 5;
  const effects = node.feed({ type: 'observed', array: ARRAY, observation: runs(asked.range.hiSector) });
  const next = effects.find((effect) => effect.type === 'send-window');
  assert.ok(next?.type === 'send-window');
  const held = [1, 3].flatMap((from) =>
    node.feed({ type: 'window-held', from, array: ARRAY, since: 6, sequence: next.sequence, writes: null }),
  );
  assert.deepEqual(
    held.flatMap((effect) => (effect.type === 'extend' ? [effect.toSector] : [])),
    [next.range.hiSector],
  );

  const tries = (inMs: number) => {
    node.now += inMs;
    const again = node.feed({ type: 'observed', array: ARRAY, observation: runs(asked.range.hiSector) });
    return again.some((effect) => effect.type === 'extend');
  };
  node.feed({ type: 'extend-failed', array: ARRAY });
  assert.deepEqual(
    [tries(0), tries(300), tries(0)],
    [false, true, false],
    'what fails is tried again, not for ever at once',
  );

  const restarted = new Node(big, runs(2048));
  assert.equal(restarted.busy?.op, 'freeze');
});

test('a check compares from where it was asked to, tells what it found, and moves no mark', () => {
  const record = mirror({ resync: copy(2, 5, 'check'), writers: [2] });
  const node = new Node(record, md());
  node.release(record);
  const start = node.busy;
  assert.ok(start?.op === 'start-copy' && start.copy.kind === 'check' && start.copy.toSector === null);
  node.did(md({ syncAction: 'check', syncCompleted: { doneSectors: 0, totalSectors: 1000 } }));
  node.feed({ type: 'observed', array: ARRAY, observation: md({ syncAction: 'idle', mismatchSectors: 8 }) });
  assert.deepEqual(node.busy, { op: 'freeze' });
  const done = node.did(md({ mismatchSectors: 8 }));
  assert.deepEqual(
    done.flatMap((effect) => (effect.type === 'submit' ? [effect.observation] : [])),
    [{ what: 'resync-done', array: ARRAY, since: 5, mismatchSectors: 8 }],
  );
});

test('a check counts on from what its former copier had found, and from what md had when it was interrupted', () => {
  const found = { fromSector: 128, foundSectors: 24 };
  const record = mirror({ resync: copy(2, 5, 'check', found), writers: [2] });
  const before = md({ mismatchSectors: 640 });
  const node = new Node(record, before);
  const told = (effects: LocalEffect[]) =>
    effects.flatMap((effect) => (effect.type === 'progress' ? [effect.progress.mismatchSectors] : []));
  assert.deepEqual(told(node.release(record)), [24], 'what md has found for somebody else counts nothing');
  const runs = (mismatchSectors: number) =>
    md({ mismatchSectors, syncAction: 'check', syncCompleted: { doneSectors: 256, totalSectors: 1000 } });
  node.did(runs(0));
  node.now += 5000;
  assert.deepEqual(told(node.feed({ type: 'observed', array: ARRAY, observation: runs(8) })), [32]);

  // All of it was allowed; md was kept from it.
  node.feed({ type: 'observed', array: ARRAY, observation: md({ mismatchSectors: 16, copyUnended: true }) });
  const again = node.busy;
  assert.ok(again?.op === 'start-copy');
  assert.deepEqual([again.foundBefore, again.copy.fromSector], [40, 256]);
  node.now += 5000;
  const begun = node.feed({ type: 'observed', array: ARRAY, observation: runs(0) });
  assert.deepEqual(told(begun), [], 'nothing is forgotten while md begins');
  assert.deepEqual(told(node.did(runs(8))), [48]);
});

test('a check goes on with a whole chunk, which the others hold before: md begins with no other', () => {
  const shape = { level: 'raid10', layout: 0x102, chunkSectors: 1024, componentSectors: 102_400 } as const;
  const record = mirror({ ...shape, resync: copy(2, 5, 'check', { fromSector: 1152 }) });
  const node = new Node(record, md());
  const asked = (effects: LocalEffect[]) => effects.find((effect) => effect.type === 'send-window');
  const begins = () => (node.busy?.op === 'start-copy' ? node.busy.copy.fromSector : null);
  const hold = (effects: LocalEffect[]): void => {
    const { sequence = 0 } = asked(effects) ?? {};
    for (const from of [1, 3]) node.feed({ type: 'window-held', from, array: ARRAY, since: 5, sequence, writes: null });
  };
  const first = node.release(record);
  assert.equal(asked(first)?.range.loSector, 1024);
  hold(first);
  assert.equal(begins(), 1024);
  node.did(md({ syncAction: 'check', syncCompleted: { doneSectors: 2176, totalSectors: 102_400 } }));
  node.now += 5;
  const again = node.feed({ type: 'observed', array: ARRAY, observation: md({ copyUnended: true }) });
  assert.equal(asked(again)?.range.loSector, 2048);
  hold(again);
  assert.equal(begins(), 2048);
});

test('whoever a repair is taken from tells what it had mended beyond what the record knew', () => {
  const record = mirror({ resync: copy(2, 5, 'repair', { fromSector: 128, foundSectors: 24 }), writers: [2] });
  const node = new Node(record, md());
  node.release(record);
  const runs = (mismatchSectors: number) =>
    md({ mismatchSectors, syncAction: 'repair', syncCompleted: { doneSectors: 256, totalSectors: 1000 } });
  node.did(runs(8));
  const wordOf = (effects: LocalEffect[]) =>
    effects.flatMap((effect) => (effect.type === 'applied' ? [effect.report.mended] : []));
  const others = newer(record, { resync: copy(1, 6, 'repair', { fromSector: 128, foundBefore: 24 }) });
  assert.deepEqual(wordOf(node.commit(others)), [], 'md is at it');
  assert.deepEqual(node.busy, { op: 'freeze' });
  assert.deepEqual(wordOf(node.did(md({ mismatchSectors: 40 }))), [{ since: 6, sectors: 40 }]);
  const counted = newer(others, { resync: copy(1, 6, 'repair', { fromSector: 128, foundBefore: 64 }) });
  assert.deepEqual(wordOf(node.commit(counted)), [{ since: 6, sectors: 40 }], 'its word stays as it is');

  // One that md was never started on has mended nothing, whatever md counted before.
  const idle = new Node(record, md({ mismatchSectors: 640 }));
  assert.deepEqual(wordOf(idle.commit(others)), [undefined]);
});

// --- the master's side ------------------------------------------------------------------------------------------------

class Master {
  state: MasterState;
  now = 1000;
  readonly told: MasterEffect[] = [];
  /** @param takesOver what it found on the disks is committed already */
  constructor(record: ArrayRecord, self: NodeId = 1, takesOver = true) {
    this.state = masterStart(self, MASTER_CONFIG);
    for (const node of [1, 2, 3]) this.feed({ type: 'status', node, status: 'alive' });
    this.feed({ type: 'elected', term: 1 });
    for (const from of [1, 2, 3]) {
      this.feed({ type: 'report', from, kernelBoot: bootOf(from), agentStart: 1, reports: [this.report(record)] });
    }
    this.feed(onDisks(record));
    if (takesOver) this.commit();
  }
  report(record: ArrayRecord) {
    return report(record, { visible: record.members.map(({ uuid }) => uuid) });
  }
  feed(...inputs: MasterInput[]): MasterEffect[] {
    const effects = inputs.flatMap((input) => {
      const { state, effects: out } = masterStep(this.state, input, this.now);
      this.state = state;
      return out;
    });
    this.told.push(...effects);
    return effects;
  }
  get array() {
    return this.state.arrays.get(ARRAY);
  }
  get record(): ArrayRecord {
    return this.array?.pending?.record ?? this.array?.record ?? mirror();
  }
  /** What is pending becomes durable, and all say that they have applied it. */
  commit(): ArrayRecord {
    const record = this.array?.pending?.record;
    assert.ok(record !== undefined, 'nothing is pending');
    this.durable();
    this.applied(record, 1, 2, 3);
    return record;
  }
  durable(): void {
    const { version } = this.record;
    this.feed({ type: 'persisted', array: ARRAY, version, written: true, failed: [], text: '' });
  }
  applied(record: ArrayRecord, ...nodes: NodeId[]): void {
    const { version } = record;
    for (const from of nodes) {
      this.feed({ type: 'applied', from, array: ARRAY, version, report: this.report(record) });
    }
  }
  progress(doneSectors: number, totalSectors = 1000, mismatchSectors: number | null = null): MasterEffect[] {
    const { since, kind, by } = this.record.resync ?? copy(1, 0);
    const progress: CopyProgress = {
      since,
      sequence: doneSectors,
      kind,
      by,
      doneSectors,
      totalSectors,
      kibPerSecond: null,
      mismatchSectors,
    };
    return this.feed({ type: 'progress', from: by, array: ARRAY, progress });
  }
  ends(mismatchSectors: number | null = null): void {
    const { since, by } = this.record.resync ?? copy(1, 0);
    const observation = { what: 'resync-done' as const, array: ARRAY, since, mismatchSectors };
    this.feed({ type: 'observation', from: by, observation });
  }
  notices(): string[] {
    return this.told.flatMap((effect) => (effect.type === 'notice' ? [effect.name] : []));
  }
  ask(change: Extract<MasterInput, { type: 'ask' }>['change']): string {
    this.told.length = 0;
    this.feed({ type: 'ask', array: ARRAY, change, requestId: 'r' });
    const answer = this.told.find((effect) => effect.type === 'answer');
    return answer?.type === 'answer' ? answer.text : '';
  }
}

/** A mirror of one leg with a spare beside it. */
function degraded(): ArrayRecord {
  const record = withFaulty(mirror(), LEG_B);
  return { ...record, members: [...record.members, SPARE_MEMBER] };
}

test('a spare takes over a free slot by itself, is active when it is filled, and all is told', () => {
  const master = new Master(degraded());
  assert.deepEqual(master.record.members.at(-1), { ...SPARE_MEMBER, role: 'rebuilding', slot: 1 });
  assert.deepEqual(master.record.resync, copy(1, master.record.version.index, 'recovery'));
  master.commit();
  master.ends();
  const done = master.commit();
  assert.equal(done.members.at(-1)?.role, 'active');
  assert.equal(done.resync, null);
  assert.deepEqual(
    master.notices().filter((name) => /Rebuild|Spare/.test(name)),
    ['RebuildStarted', 'SpareActive', 'RebuildFinished'],
  );
});

test('a spare that a writer does not see is not taken', () => {
  const record = degraded();
  const master = new Master(record);
  master.state = masterStart(1, MASTER_CONFIG);
  for (const node of [1, 2, 3]) master.feed({ type: 'status', node, status: 'alive' });
  master.feed({ type: 'elected', term: 1 });
  const blind = (from: number) => (from === 3 ? report(record, { visible: [LEG_A, LEG_B] }) : master.report(record));
  for (const from of [1, 2, 3]) {
    master.feed({ type: 'report', from, kernelBoot: bootOf(from), agentStart: 1, reports: [blind(from)] });
  }
  master.feed(onDisks(record));
  const { version } = master.record;
  master.feed({ type: 'persisted', array: ARRAY, version, written: true, failed: [], text: '' });
  for (const from of [1, 2, 3]) {
    master.feed({ type: 'applied', from, array: ARRAY, version, report: { ...blind(from), applied: version } });
  }
  assert.equal(master.array?.pending, null);
  assert.equal(master.record.members.at(-1)?.role, 'spare');
});

test('what those had mended who were at a repair before is added once, and to what its copier tells', () => {
  const master = new Master(mirror({ resync: copy(2, 5, 'repair', { fromSector: 100, foundSectors: 24 }) }));
  const taken = master.record;
  const { since = 0 } = taken.resync ?? {};
  assert.deepEqual(taken.resync, copy(1, since, 'repair', { fromSector: 100, foundBefore: 24 }));
  const word = { ...master.report(taken), mended: { since, sectors: 40 } };
  master.feed({ type: 'applied', from: 2, array: ARRAY, version: taken.version, report: word });
  assert.equal(master.commit().resync?.foundBefore, 64);
  master.feed({ type: 'applied', from: 2, array: ARRAY, version: master.record.version, report: word });
  assert.equal(master.array?.pending, null, 'it is counted');

  master.now += 2000;
  master.progress(500, 1000, 72);
  const { foundSectors, foundBefore } = master.commit().resync ?? {};
  assert.deepEqual([foundBefore, foundSectors], [64, 8]);
  // One that comes with the end counts before it.
  const late = { ...master.report(master.record), mended: { since, sectors: 1 } };
  master.feed({ type: 'applied', from: 3, array: ARRAY, version: master.record.version, report: late });
  master.commit();
  master.ends(73);
  assert.deepEqual(master.commit().lastCheck?.mismatchSectors, 73);
});

test('progress is committed every two seconds, with new events, and told in steps of 20 percent', () => {
  const master = new Master(mirror({ resync: copy(1, 5) }));
  master.progress(250);
  const first = master.commit();
  assert.equal(first.resync?.fromSector, 250);
  master.progress(450);
  assert.equal(master.array?.pending, null, 'not due');
  master.now += 2000;
  master.progress(460);
  const second = master.commit();
  assert.equal(second.resync?.fromSector, 460);
  assert.ok(second.events > first.events, 'of the same events, a torn checkpoint would look like somebody else’s work');
  assert.equal(second.resync?.since, first.resync?.since, 'it is the same copy');
  assert.deepEqual(
    master.notices().filter((name) => /Rebuild\d/.test(name)),
    ['Rebuild20', 'Rebuild40'],
  );
});

test('the end of a copy is no checkpoint: whoever went on from there would have nothing to begin, nor to end', () => {
  const master = new Master(mirror({ resync: copy(1, 5, 'resync', { fromSector: 600 }) }));
  master.now += 2000;
  master.progress(1000);
  assert.equal(master.array?.pending, null);
  master.ask({ what: 'action', action: 'frozen' });
  assert.equal(master.commit().resync?.fromSector, 600, 'nor is it where a halted copy goes on');
  const other = new Master(mirror({ resync: copy(1, 5, 'resync', { fromSector: 600 }) }));
  other.now += 2000;
  other.progress(999);
  assert.equal(other.commit().resync?.fromSector, 999);
});

test('what a check has found is kept with how far it is, when it is halted as well, and a new master knows it', () => {
  const master = new Master(mirror({ resync: copy(1, 5, 'check') }));
  master.now += 5000;
  master.progress(300, 1000, 8);
  const kept = master.commit();
  assert.deepEqual([kept.resync?.fromSector, kept.resync?.foundSectors], [300, 8]);
  master.progress(500, 1000, 16);
  master.ask({ what: 'action', action: 'frozen' });
  const halted = master.commit();
  assert.deepEqual([halted.resync?.foundBefore, halted.resync?.foundSectors], [16, undefined]);
  const next = new Master(halted, 2, false);
  assert.deepEqual([next.record.resync?.by, next.record.resync?.foundBefore], [2, 16]);
});

test('a new master goes on from the last checkpoint, as a copy of its own', () => {
  const master = new Master(mirror({ resync: copy(3, 4, 'resync', { fromSector: 600 }) }));
  assert.deepEqual(master.record.resync, copy(1, master.record.version.index, 'resync', { fromSector: 600 }));
});

test('an array that is started again begins its copy anew: what was agreed on before it was stopped counts no more', () => {
  const master = new Master(mirror({ writers: [], resync: copy(1, 5, 'resync', { fromSector: 250 }), run: 'stopped' }));
  master.progress(500);
  const { version } = master.commit();
  master.ask({ what: 'start' });
  assert.deepEqual(master.record.resync, copy(1, version.index + 1, 'resync', { fromSector: 500 }));
  assert.equal(master.array?.progress, null);
});

test('who copies without being a writer is waited for until the end of its copy is released, by the next masters too', () => {
  const filled = withFaulty(mirror({ writers: [2, 3] }), LEG_B);
  const slot = { ...SPARE_MEMBER, role: 'rebuilding' as const, slot: 1 };
  const master = new Master({ ...filled, members: [...filled.members, slot], resync: copy(1, 5, 'recovery') });
  master.feed({ type: 'observation', from: 2, observation: { what: 'member-faulty', array: ARRAY, member: SPARE } });
  const ended = master.record;
  assert.deepEqual([ended.resync, ended.writers, ended.formerCopiers], [null, [2, 3], [1]]);

  const takeOver = (found: ArrayRecord): NodeId[] => {
    const next = new Master(found, 2, false);
    assert.deepEqual(next.record.formerCopiers, [1], 'whoever takes over from that one has to wait, too');
    next.durable();
    return [...(next.array?.pending?.waiting ?? [])];
  };
  assert.deepEqual(takeOver(ended), [2, 3, 1]);
  assert.deepEqual(takeOver(mirror({ writers: [2, 3], resync: copy(1, 5) })), [2, 3, 1]);

  const next = new Master(ended, 2, false);
  next.durable();
  const { record } = next;
  next.applied(record, 2, 3);
  assert.ok(next.array?.pending !== null, 'it may be reading, and filling, yet');
  next.applied(record, 1);
  assert.equal(next.array?.pending, null);
  next.ask({ what: 'sync-limit', limitKib: 100 });
  assert.deepEqual([next.record.syncLimitKib, next.record.formerCopiers], [100, undefined]);
});

test('a writer dies in a recovery: it begins anew, and legs that may differ are made equal afterwards', () => {
  const master = new Master(degraded());
  master.commit();
  master.progress(500);
  master.commit();
  master.feed({ type: 'status', node: 3, status: 'dead' }, { type: 'fenced', node: 3, stopped: true, text: 'off' });
  assert.equal(master.record.resync?.fromSector, 0);
  assert.equal(master.record.resync?.kind, 'recovery');

  const three = mirror({
    raidDisks: 3,
    members: [...mirror().members, { ...SPARE_MEMBER, role: 'rebuilding', slot: 2 }],
    resync: copy(1, 5, 'recovery'),
  });
  const wide = new Master(three);
  wide.feed({ type: 'status', node: 3, status: 'dead' }, { type: 'fenced', node: 3, stopped: true, text: 'off' });
  const settle = (): void => {
    wide.durable();
    wide.applied(wide.record, 1, 2);
  };
  assert.equal(wide.record.resync?.kind, 'resync', 'md resyncs nothing beside a member that is rebuilt');
  assert.deepEqual([wide.record.members.at(-1)?.role, wide.record.members.at(-1)?.slot], ['spare', null]);
  settle();
  wide.ends();
  settle();
  assert.equal(wide.record.resync?.kind, 'recovery');
  assert.equal(wide.record.members.at(-1)?.role, 'rebuilding');
});

test('the member that is rebuilt fails: the copy ends, and nothing of the data is lost', () => {
  const master = new Master(degraded());
  master.commit();
  master.feed({ type: 'observation', from: 2, observation: { what: 'member-faulty', array: ARRAY, member: SPARE } });
  const failed = master.record.members.at(-1);
  assert.deepEqual([failed?.role, failed?.slot], ['faulty', null], 'as mdadm’s FailSpare');
  assert.equal(master.record.resync, null);
});

test('check, halt, go on, limit: as mdadm’s --action, refused with words where they mean nothing', () => {
  const master = new Master(mirror());
  assert.match(master.ask({ what: 'action', action: 'frozen' }), /nothing is being copied/);
  master.ask({ what: 'action', action: 'check' });
  assert.equal(master.commit().resync?.kind, 'check');
  assert.match(master.ask({ what: 'action', action: 'repair' }), /a check is under way/);
  master.progress(500);
  master.commit();
  master.ask({ what: 'action', action: 'frozen' });
  const halted = master.commit();
  assert.deepEqual([halted.resync?.halted, halted.resync?.fromSector], [true, 500]);
  assert.match(master.ask({ what: 'action', action: 'frozen' }), /halted already/);
  master.ask({ what: 'action', action: 'idle' });
  assert.equal(master.commit().resync, null, 'idle ends a check');
  master.ask({ what: 'sync-limit', limitKib: 512 });
  assert.equal(master.commit().syncLimitKib, 512);

  const resync = new Master(mirror({ resync: copy(1, 5) }));
  resync.ask({ what: 'action', action: 'frozen' });
  const before = resync.commit().resync?.since ?? 0;
  resync.ask({ what: 'action', action: 'idle' });
  const after = resync.commit().resync;
  assert.equal(after?.halted, false);
  assert.ok((after?.since ?? 0) > before, 'windows of before the halt count no more');
});

test('a check ends when a leg fails, and that is told; what it found is told when it ends by itself', () => {
  const master = new Master(mirror({ resync: copy(1, 5, 'check') }));
  master.ends(16);
  master.commit();
  const finished = master.told.find((effect) => effect.type === 'notice' && effect.name === 'RebuildFinished');
  assert.ok(finished?.type === 'notice' && finished.detail.mismatchSectors === 16);
  assert.ok(!master.notices().includes('CopyCalledOff'));

  const failing = new Master(mirror({ resync: copy(1, 5, 'check') }));
  failing.feed({ type: 'observation', from: 2, observation: { what: 'member-faulty', array: ARRAY, member: LEG_B } });
  assert.equal(failing.record.resync, null);
  failing.commit();
  const off = failing.told.find((effect) => effect.type === 'notice' && effect.name === 'CopyCalledOff');
  assert.deepEqual(off?.type === 'notice' && off.detail, { kind: 'check', why: 'fail' });
});

test('what cannot be drained now keeps no record from being applied: the failure in the way may be the next one', () => {
  const record = rebuilding(1, 6);
  const members = record.members.map((m) => (m.uuid === SPARE ? { ...m, role: 'active' as const } : m));
  const whole = newer(record, { members, resync: null });
  const seen = mdRebuilding('rebuilding');
  const lost = { ...seen, members: seen.members.map((m) => (m.uuid === LEG_A ? { ...m, path: 'lost' as const } : m)) };
  const node = new Node(record, seen);
  node.release(record);
  node.window(1);
  node.did({ ...lost, suspended: RANGE });
  assert.ok(isApplied(node.commit(whole)), 'it reads the member as soon as it can be drained');
  assert.deepEqual(ops(node.release(whole)), []);
  const back = { ...seen, suspended: RANGE };
  assert.deepEqual(ops(node.feed({ type: 'observed', array: ARRAY, observation: back })), ['hold']);
});

test('a rebuilt member becomes active before the one that it stands in for is failed: md keeps its last in sync', () => {
  const record = rebuilding(1, 6);
  const node = new Node(record, mdRebuilding('rebuilding', { held: true }));
  node.release(record);
  const members = record.members.map((m) => {
    if (m.uuid === SPARE) return { ...m, role: 'active' as const };
    return m.uuid === LEG_A ? { ...m, role: 'faulty' as const } : m;
  });
  node.commit(newer(record, { members, resync: null }));
  assert.equal(node.busy?.op, 'activate');
  node.did(mdRebuilding('in-sync', { held: true }));
  assert.deepEqual(node.busy, { op: 'set-faulty', member: LEG_A });
});

test('a member that was rebuilt while this node was away is taken in, held, before the node can become a writer', () => {
  const record = rebuilding(1, 6);
  const members = record.members.map((m) => (m.uuid === SPARE ? { ...m, role: 'active' as const } : m));
  for (const state of ['absent', 'spare'] as const) {
    const away = newer(record, { members, resync: null, writers: [1, 3] });
    const node = new Node(away, unread(mdRebuilding(state, { held: true })));
    assert.equal(node.busy?.op, 'attach-rebuilding', `md has it as ${state}`);
    assert.equal(node.state.arrays.get(ARRAY)?.applied, null, 'what it wrote would miss the member');
    assert.deepEqual(ops(node.did(unread(mdRebuilding('rebuilding', { held: true })))), ['activate']);
    assert.ok(isApplied(node.did(unread(mdRebuilding('in-sync', { held: true })))));
  }
});

test('an active member without a slot under a writer is a failure: its writes have missed it', () => {
  const record = rebuilding(1, 6);
  const members = record.members.map((m) => (m.uuid === SPARE ? { ...m, role: 'active' as const } : m));
  const whole = newer(record, { members, resync: null });
  const node = new Node(whole, mdRebuilding('in-sync'));
  node.release(whole);
  const effects = node.feed({ type: 'observed', array: ARRAY, observation: mdRebuilding('spare') });
  assert.deepEqual(
    effects.flatMap((effect) => (effect.type === 'submit' ? [effect.observation] : [])),
    [{ what: 'member-faulty', array: ARRAY, member: SPARE }],
  );
});

test('a mark of what is not in sync is taken away for an activation, and set again before the record is applied', () => {
  const record = rebuilding(1, 6);
  const members = record.members.map((m) => (m.uuid === SPARE ? { ...m, role: 'active' as const } : m));
  const unsure = newer(record, { members, resync: copy(1, 7), writers: [1, 3] });
  const node = new Node(unsure, unread(mdRebuilding('rebuilding', { held: true, resyncStartSector: 0 })));
  assert.deepEqual(node.busy, { op: 'resync-start', sector: null });
  node.did(unread(mdRebuilding('rebuilding', { held: true })));
  assert.equal(node.busy?.op, 'activate');
  const active = node.did(unread(mdRebuilding('in-sync', { held: true })));
  assert.deepEqual(node.busy, { op: 'resync-start', sector: 0 });
  assert.equal(isApplied(active), false);
  assert.ok(isApplied(node.did(unread(mdRebuilding('in-sync', { held: true, resyncStartSector: 0 })))));
});

test('a member that a copy of which nobody knows has filled is one to be rebuilt here too, before the record is applied', () => {
  const record = rebuilding(1, 6);
  const node = new Node(record, mdRebuilding('in-sync', { held: true }));
  assert.deepEqual([node.busy?.op, isApplied(node.effects)], ['attach-rebuilding', false]);
  const own = new Node(rebuilding(2, 6), mdRebuilding('in-sync', { held: true }));
  assert.equal(isApplied(own.effects), true, 'the end of this node’s own copy may be on its way');
});

test('a rebuilding member that md here reads further than a copy after a crash has come is moved back before the record is applied', () => {
  const record = { ...rebuilding(1, 5), resync: copy(1, 5, 'recovery', { fromSector: 500 }) };
  const node = new Node(record, null);
  assert.equal(node.busy?.op, 'assemble', 'it is filled up to sector 500, by the record');
  assert.equal(isApplied(node.did(mdRebuilding('rebuilding', { held: true }))), true);
  const again = newer(record, { resync: copy(1, 6, 'recovery') });
  assert.equal(isApplied(node.commit(again)), false);
  assert.deepEqual(node.busy?.op, 'attach-rebuilding');
  assert.equal(isApplied(node.did(mdRebuilding('rebuilding', { held: true }))), true);
  const further = newer(again, { resync: copy(1, 6, 'recovery', { fromSector: 500 }) });
  assert.equal(isApplied(node.commit(further)), true, 'a checkpoint');
});

test('a copy that goes on under a new master moves no member back, unless a writer has crashed meanwhile', () => {
  const record = { ...rebuilding(1, 5), resync: copy(1, 5, 'recovery', { fromSector: 500 }) };
  const applied = (next: ArrayRecord): boolean => {
    const node = new Node(record, null);
    assert.equal(isApplied(node.did(mdRebuilding('rebuilding', { held: true }))), true);
    return isApplied(node.commit(next));
  };
  const goesOn = newer(record, { resync: copy(3, 6, 'recovery', { fromSector: 500 }) });
  assert.equal(applied(goesOn), true);
  assert.equal(applied({ ...goesOn, writers: [1, 2] }), true, 'up to there it is filled as the record says');
  const anew = newer(record, { resync: copy(3, 6, 'recovery') });
  assert.equal(applied(anew), false);
});

test('of its own copy a node may know more than the record: it goes on as long as no writer has crashed', () => {
  const record = rebuilding(2, 5);
  const applied = (next: ArrayRecord): boolean => {
    const node = new Node(record, mdRebuilding('rebuilding', { held: true }));
    const array = node.state.arrays.get(ARRAY);
    assert.ok(array !== undefined);
    const attached = new Map([[SPARE, { since: 5, fromSector: 0 }]]);
    node.state = { ...node.state, arrays: new Map([[ARRAY, { ...array, attached, copying: 5, busy: null }]]) };
    return isApplied(node.commit(next));
  };
  const goesOn = newer(record, { resync: copy(1, 6, 'recovery') });
  assert.equal(applied(goesOn), true);
  assert.equal(applied({ ...goesOn, writers: [1, 2] }), false, 'node 3 is gone');
});

test('a member has to be moved back, and the drain for it waits for reads that are held: after a while others must not wait for this node', () => {
  const record = rebuilding(2, 5);
  const standing = unread(mdRebuilding('rebuilding'));
  const node = new Node(record, mdRebuilding('rebuilding', { held: true }));
  const array = node.state.arrays.get(ARRAY);
  assert.ok(array !== undefined);
  const attached = new Map([[SPARE, { since: 5, fromSector: 0 }]]);
  const told = { ...array, attached, copying: 5, busy: null, observation: standing };
  node.state = { ...node.state, arrays: new Map([[ARRAY, told]]) };
  const isStuck = (effects: LocalEffect[]): boolean => effects.some(({ type }) => type === 'stuck');
  const crashed = newer(record, { resync: copy(2, 6, 'recovery'), writers: [1, 2] });
  assert.equal(isStuck(node.commit(crashed)), false);
  const after = (ms: number): boolean => {
    node.now += ms;
    return isStuck(node.feed({ type: 'grant', untilMs: node.now + 5000 }));
  };
  assert.equal(after(14_000), false);
  assert.equal(after(2000), true);
  node.feed({
    type: 'observed',
    array: ARRAY,
    observation: { ...standing, held: true, suspended: { loSector: 0, hiSector: 1000 } },
  });
  assert.equal(after(20_000), false, 'drained after all');
});

test('a leg that failed before the gate of another was answered keeps no recovery from being applied; nothing is copied before its member is in', () => {
  const record = { ...rebuilding(1, 6), raidDisks: 2 };
  const failed = { uuid: LEG_B, device: 'sdb', slot: 1, inSync: false, rebuilding: false, faulty: true, blocked: true };
  const spare = {
    uuid: SPARE,
    device: 'sdc',
    slot: null,
    inSync: false,
    rebuilding: false,
    faulty: false,
    blocked: false,
  };
  const legs = md({ writePending: true }).members.filter(({ uuid }) => uuid === LEG_A);
  const members = [...legs, { ...failed, path: 'up' as const }, { ...spare, path: 'up' as const }];
  const gated = md({ writePending: true, arrayState: 'write-pending', degraded: 1, members });
  const node = new Node(record, gated);
  assert.equal(isApplied(node.effects), true);
  node.release(record);
  assert.deepEqual(heldIn(node.window(1)), []);
  const suspended = { loSector: 0, hiSector: 1000 };
  node.feed({ type: 'observed', array: ARRAY, observation: { ...gated, held: true, suspended } });
  assert.deepEqual(heldIn(node.window(2)), [], 'all is held, and it is not in');
  const marks = { ...record, resync: copy(1, 6, 'recovery', { markedBy: [1, 2] }) };
  assert.equal(
    isApplied(new Node(marks, gated).effects),
    false,
    'what it writes would be marked after the marks were read',
  );
});

test('a recovery of a member that has failed, with its I/O waiting for the path, keeps no record from being applied', () => {
  const three = { ...mirror(), raidDisks: 3 };
  const spare = { uuid: SPARE, devNumber: 2, slot: null, dataOffsetSectors: 2048, dataSizeSectors: 1000 };
  const seen = (path: 'up' | 'lost') => {
    const third = {
      uuid: SPARE,
      device: 'sdc',
      slot: 2,
      inSync: false,
      rebuilding: true,
      faulty: false,
      blocked: false,
      path,
    };
    const copies = { syncAction: 'recover', syncCompleted: { doneSectors: 8, totalSectors: 1000 } };
    return md({ ...copies, raidDisks: 3, degraded: 1, members: [...md().members, third] });
  };
  const record = (role: 'faulty' | 'active') => ({ ...three, members: [...three.members, { ...spare, role }] });
  const node = new Node(record('faulty'), seen('lost'));
  assert.deepEqual([node.busy, isApplied(node.effects)], [null, true]);
  assert.equal(new Node(record('active'), seen('lost')).busy?.op, 'freeze', 'who is in sync is read');
});
