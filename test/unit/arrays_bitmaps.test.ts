/** Bitmaps in the cores: whose marks a resync goes by, who waits with its assembly, what the copier does before its first window. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LocalEffect } from '../../src/arrays/local_state.ts';
import { masterStep } from '../../src/arrays/master.ts';
import { type MasterEffect, type MasterInput, masterStart } from '../../src/arrays/master_state.ts';
import type { ArrayRecord, Copy, NodeId } from '../../src/arrays/record.ts';
import { windowsAgain, windowsHeld, windowsStart, windowsStep } from '../../src/arrays/windows.ts';
import type { ArrayObservation } from '../../src/md/driver.ts';
import {
  ARRAY,
  bootOf,
  COPY_OPTIONS,
  copy,
  KEPT,
  LEG_B,
  LocalNode,
  MASTER_CONFIG,
  marking,
  md,
  mdRebuilding,
  mirror,
  newer,
  onDisks,
  report,
  SPARE,
  withFaulty,
} from './arrays_fixture.ts';

function marked(by: NodeId, since: number, markedBy: NodeId[] | null, fields: Partial<Copy> = {}): Copy {
  return copy(by, since, 'resync', { markedBy, ...fields });
}

// --- the master -------------------------------------------------------------------------------------------------------

class Master {
  state = masterStart(1, MASTER_CONFIG);
  now = 1000;

  feed(...inputs: MasterInput[]): MasterEffect[] {
    return inputs.flatMap((input) => {
      const { state, effects } = masterStep(this.state, input, this.now);
      this.state = state;
      return effects;
    });
  }
  get pending(): ArrayRecord | null {
    return this.state.arrays.get(ARRAY)?.pending?.record ?? null;
  }
  get kind(): string | undefined {
    return this.state.arrays.get(ARRAY)?.pending?.kind;
  }
  /** What is being persisted reaches the disks and all nodes. */
  settle(...nodes: NodeId[]): MasterEffect[] {
    const record = this.pending ?? mirror();
    const { version } = record;
    return this.feed(
      { type: 'persisted', array: ARRAY, version, written: true, failed: [], text: '' },
      ...nodes.map((from) => ({ type: 'applied' as const, from, array: ARRAY, version, report: report(record) })),
    );
  }
  static leading(found: ArrayRecord): Master {
    const master = new Master();
    for (const node of [1, 2, 3]) master.feed({ type: 'status', node, status: 'alive' });
    master.feed({ type: 'elected', term: 2 });
    for (const from of [1, 2, 3])
      master.feed({ type: 'report', from, kernelBoot: bootOf(from), agentStart: 1, reports: [report(found)] });
    master.feed(onDisks(found));
    master.settle(1, 2, 3);
    master.now += 5000;
    return master;
  }
  dies(node: NodeId): void {
    this.feed({ type: 'status', node, status: 'dead' }, { type: 'fenced', node, stopped: true, text: 'power off' });
  }
  /** The eviction's resync. */
  evicts(node: NodeId): Copy | null | undefined {
    this.dies(node);
    assert.equal(this.kind, 'evict');
    return this.pending?.resync;
  }
  observes(from: NodeId, since: number, kept: boolean): void {
    this.feed({ type: 'observation', from, observation: { what: 'marks-taken', array: ARRAY, since, kept } });
  }
}

test('after a death the resync goes by what the dead node had marked', () => {
  assert.deepEqual(Master.leading(marking()).evicts(3)?.markedBy, [3]);
});

test('it copies everything where the dead node kept no bitmap, the array has none, or the legs were in doubt before', () => {
  assert.equal(Master.leading(marking({}, [3])).evicts(3)?.markedBy, null);
  assert.equal(Master.leading(marking({ bitmap: null })).evicts(3)?.markedBy, null);
  assert.equal(Master.leading(marking({ resync: marked(1, 5, null) })).evicts(3)?.markedBy, null);
});

test('a second death adds its marks to those that are being copied', () => {
  assert.deepEqual(Master.leading(marking({ resync: marked(1, 5, [1]) })).evicts(3)?.markedBy, [1, 3]);
});

test('what a repair wrote when its copier died is marked nowhere', () => {
  const record = marking({ access: 'exclusive', owner: 2, writers: [2], resync: copy(2, 5, 'repair') });
  assert.equal(Master.leading(record).evicts(2)?.markedBy, null);
  assert.deepEqual(Master.leading({ ...record, resync: copy(2, 5, 'check') }).evicts(2)?.markedBy, [2]);
});

test('the copier has the marks in its own bitmap: its bitmap is named from then on, and the copy goes on', () => {
  const master = Master.leading(marking());
  const since = master.evicts(3)?.since ?? 0;
  master.settle(1, 2);
  master.observes(2, since, true);
  assert.deepEqual([master.pending], [null], 'the word of another node');
  master.observes(1, since - 1, true);
  assert.deepEqual([master.pending], [null], 'about an older copy');
  master.observes(1, since, true);
  assert.equal(master.kind, 'resync-marks');
  assert.deepEqual(master.pending?.resync, marked(1, since, [1]));
  master.settle(1, 2);
  master.observes(1, since, true);
  assert.deepEqual([master.pending], [null], 'told again');
});

test('a copier without a bitmap copies everything, so nobody’s marks are needed', () => {
  const master = Master.leading(marking({}, [1]));
  const since = master.evicts(3)?.since ?? 0;
  master.settle(1, 2);
  master.observes(1, since, false);
  assert.deepEqual([master.kind, master.pending?.resync?.markedBy], ['resync-marks', null]);
});

test('who is admitted says whether it keeps a bitmap; one that does not is told of', () => {
  const master = Master.leading(marking({ writers: [1, 2] }));
  const { record } = master.state.arrays.get(ARRAY) ?? {};
  assert.ok(record != null);
  const held = (bitmap: boolean) => report(record, { state: 'held', bitmap });
  master.feed({ type: 'report', from: 3, kernelBoot: bootOf(3), agentStart: 1, reports: [held(false)] });
  assert.equal(master.kind, 'admit');
  assert.deepEqual(master.pending?.writerBoots.at(-1), { node: 3, kernelBoot: bootOf(3), bitmap: false });
  const told = master.settle(1, 2, 3).filter((effect) => effect.type === 'notice');
  assert.deepEqual(
    told.map(({ name, detail }) => [name, detail.node]),
    [['BitmapUnavailable', 3]],
  );
});

// --- a node -----------------------------------------------------------------------------------------------------------

class Node extends LocalNode {
  did(seen: ArrayObservation, marks: { loSector: number; hiSector: number }[] = []): LocalEffect[] {
    return this.ended(seen, { marks });
  }
  held(...nodes: NodeId[]): LocalEffect[] {
    const windows = this.state.arrays.get(ARRAY)?.windows;
    assert.ok(windows != null);
    const { since, sequence } = windows;
    return nodes.flatMap((from) =>
      this.feed({ type: 'window-held', from, array: ARRAY, since, sequence, writes: null }),
    );
  }
}

const applied = (effects: LocalEffect[]): boolean => effects.some((effect) => effect.type === 'applied');
const asked = (effects: LocalEffect[]) => effects.find((effect) => effect.type === 'send-window');

test('a node that crashed since it was admitted assembles nothing: md would drop its marks', () => {
  const writerBoots = [1, 2, 3].map((node) => ({ node, kernelBoot: bootOf(node, node === 2 ? 7 : 1), bitmap: true }));
  const node = new Node({ ...marking(), writerBoots }, null);
  assert.deepEqual([node.busy, applied(node.effects)], [null, false]);
});

test('a node whose marks are still to be taken over waits with its assembly, and keeps nobody waiting', () => {
  const record = marking({ writers: [1, 3], resync: marked(1, 5, [2]) });
  const node = new Node(record, null);
  assert.deepEqual([node.busy, applied(node.effects)], [null, true]);
  node.feed({ type: 'commit', record: newer(record, { resync: marked(1, 5, [1]) }), forgotten: false });
  assert.equal(node.busy?.op, 'assemble');
});

test('the node that is to resync by its own marks assembles: the driver keeps them', () => {
  const node = new Node(marking({ writers: [], resync: marked(2, 5, [1, 2, 3]) }), null);
  assert.equal(node.busy?.op, 'assemble');
});

/** Node 2 is to resync by the marks of node 3, and the record is released. */
function copier(
  fields: Partial<ArrayObservation> = {},
  resync = marked(2, 5, [3]),
): { node: Node; record: ArrayRecord } {
  const record = marking({ writers: [1, 2], resync });
  const node = new Node(record, md({ bitmap: KEPT, resyncStartSector: resync.fromSector, ...fields }));
  node.release(record);
  return { node, record };
}

test('until its resync begins, which may take long, the copier reads from the first leg as all others do', () => {
  const record = marking({ writers: [1, 2], resync: marked(2, 5, [3]) });
  const node = new Node(record, md({ bitmap: KEPT }));
  assert.deepEqual(node.busy, { op: 'resync-start', sector: 0 }, 'before the record is released');
  const effects = node.did(md({ bitmap: KEPT, resyncStartSector: 0 }));
  assert.deepEqual([node.busy, applied(effects)], [null, true]);
  node.release(record);
  assert.equal(node.busy?.op, 'mark');
});

test('a mark of an earlier resync, which a crash has made begin anew, is put back before the record counts as applied', () => {
  const record = marking({ writers: [1, 2], resync: marked(2, 5, null) });
  const node = new Node(record, md({ bitmap: KEPT, resyncStartSector: 4096 }));
  assert.deepEqual(node.busy, { op: 'resync-start', sector: 0 }, 'else what lies before it is read from any leg');
  const effects = node.did(md({ bitmap: KEPT, resyncStartSector: 0 }));
  assert.deepEqual([node.busy, applied(effects)], [null, true]);
});

test('before its first window the copier marks what may differ; others hold from sector 0 on, where md begins', () => {
  const { node, record } = copier({}, marked(2, 5, [3], { fromSector: 4096 }));
  assert.deepEqual(node.busy, { op: 'mark', record, nodes: [3], fromSector: 4096, since: 5 });
  const marks = [{ loSector: 800_000, hiSector: 800_128 }];
  const effects = node.did(md({ bitmap: KEPT, resyncStartSector: 800_000 }), marks);
  assert.deepEqual(asked(effects)?.range, { loSector: 0, hiSector: 1_000_000 }, 'one window for one mark');
  assert.ok(
    effects.some(
      (effect) => effect.type === 'submit' && effect.observation.what === 'marks-taken' && effect.observation.kept,
    ),
  );
  assert.deepEqual([node.busy], [null], 'md copies nothing before all hold');
  node.held(1);
  assert.deepEqual(node.busy, {
    op: 'start-copy',
    copy: { kind: 'resync', fromSector: 0, toSector: null },
    since: 5,
    foundBefore: 0,
  });
});

test('a resync that goes on behind a checkpoint begins at 0 where md has a bitmap, however far its first window reaches', () => {
  const { node } = copier({}, marked(2, 5, null, { fromSector: 400_000 }));
  node.did(md({ bitmap: KEPT, resyncStartSector: 400_000 }), [{ loSector: 0, hiSector: 1_000_000 }]);
  node.held(1);
  const start = node.busy;
  assert.ok(start?.op === 'start-copy' && start.copy.toSector !== null);
  assert.ok(start.copy.fromSector === 0 && start.copy.toSector < 400_000, JSON.stringify(start.copy));
});

test('a full resync marks everything behind the checkpoint', () => {
  const { node, record } = copier({}, marked(2, 5, null, { fromSector: 4096 }));
  assert.deepEqual(node.busy, { op: 'mark', record, nodes: null, fromSector: 4096, since: 5 });
});

test('nothing is marked while a path is lost: the store would wait for it, with md’s lock', () => {
  const gone = {
    uuid: SPARE,
    devNumber: 2,
    role: 'faulty' as const,
    slot: 2,
    dataOffsetSectors: 2048,
    dataSizeSectors: 1000,
  };
  const mirrored = marking({ writers: [1, 2], raidDisks: 3, resync: marked(2, 5, [3]) });
  const record = { ...mirrored, members: [...mirrored.members, gone] };
  const seen = (path: 'lost' | 'failing') => {
    const third = {
      uuid: SPARE,
      device: 'sdc',
      slot: 2,
      inSync: false,
      rebuilding: false,
      faulty: true,
      blocked: false,
      path,
    };
    return md({
      bitmap: KEPT,
      raidDisks: 3,
      degraded: 1,
      resyncStartSector: 0,
      members: [...md().members, third],
    });
  };
  const node = new Node(record, seen('lost'));
  node.release(record);
  assert.deepEqual([node.busy], [null]);
  node.now += 5000;
  node.feed({ type: 'observed', array: ARRAY, observation: seen('failing') });
  assert.equal(node.busy?.op, 'mark');
});

test('an interrupted resync begins at 0 again, so the others are asked to hold from there before it does', () => {
  const { node } = copier();
  const marks = [
    { loSector: 0, hiSector: 128 },
    { loSector: 800_000, hiSector: 1_000_000 },
  ];
  const idle = { bitmap: KEPT, resyncStartSector: 0 };
  node.did(md(idle), marks);
  node.held(1);
  const runs = { ...idle, syncAction: 'resync', syncCompleted: { doneSectors: 0, totalSectors: 1_000_000 } };
  node.did(md(runs));
  node.now += 50;
  node.feed({
    type: 'observed',
    array: ARRAY,
    observation: md({ ...runs, syncCompleted: { doneSectors: 800_128, totalSectors: 1_000_000 } }),
  });
  const again = node.feed({ type: 'observed', array: ARRAY, observation: md({ ...idle, resyncStartSector: 800_128 }) });
  assert.equal(asked(again)?.range.loSector, 0);
  assert.deepEqual([node.busy], [null], 'not before they have answered');
  node.held(1);
  assert.equal(node.busy?.op, 'start-copy');
});

/** A mirror of three that node 2 resyncs by marks, half-way through its first window; node 1 holds that. */
function halfWay(): { node: Node; record: ArrayRecord; seen: ArrayObservation } {
  const two = marking({ writers: [1, 2], resync: marked(2, 5, [3]) });
  const [leg] = two.members;
  const [seenLeg] = md().members;
  assert.ok(leg !== undefined && seenLeg !== undefined);
  const record = { ...two, raidDisks: 3, members: [...two.members, { ...leg, uuid: SPARE, devNumber: 2, slot: 2 }] };
  const members = [...md().members, { ...seenLeg, uuid: SPARE, device: 'sdc', slot: 2 }];
  const idle = md({ bitmap: KEPT, raidDisks: 3, resyncStartSector: 0, members });
  const node = new Node(record, idle);
  node.release(record);
  node.did(idle, [{ loSector: 0, hiSector: 1_000_000 }]);
  node.held(1);
  assert.equal(node.busy?.op, 'start-copy');
  const syncCompleted = { doneSectors: 0, totalSectors: 1_000_000 };
  return { node, record, seen: { ...idle, syncAction: 'resync', syncCompleted } };
}

/** By its own I/O, or by hand: md begins its resync again. */
function legFails(seen: ArrayObservation): ArrayObservation {
  const members = seen.members.map((each) =>
    each.uuid === SPARE ? { ...each, faulty: true, blocked: true, inSync: false } : each,
  );
  return { ...seen, members, degraded: 1, writePending: true, arrayState: 'write-pending' };
}

for (const when of ['under way', 'being started'] as const) {
  test(`a leg fails in md while its resync by marks is ${when}: it is stopped, no gate is answered before, and it begins under new windows`, () => {
    const { node, record, seen } = halfWay();
    if (when === 'under way') node.did(seen);
    const told = node.feed({ type: 'observed', array: ARRAY, observation: legFails(seen) });
    if (when === 'being started') node.did(legFails(seen));
    assert.equal(node.busy?.op, 'freeze');
    assert.ok(told.some((effect) => effect.type === 'submit' && effect.observation.what === 'member-faulty'));
    // The others hold what md may copy until it has ended.
    assert.equal(asked(told), undefined);
    const failed = newer(withFaulty(record, SPARE), { events: 12 });
    const released = [
      ...node.feed({ type: 'commit', record: failed, forgotten: false }),
      ...node.release(failed),
      ...node.held(1),
    ];
    assert.deepEqual(
      released.filter(({ type }) => ['answer-gates', 'send-window', 'extend'].includes(type)),
      [],
    );
    const ends = node.feed({
      type: 'observed',
      array: ARRAY,
      observation: { ...legFails(seen), syncAction: 'frozen' },
    });
    assert.ok(
      ends.some(({ type }) => type === 'answer-gates'),
      'as soon as it is to end: its I/O may wait for that',
    );
    assert.equal(asked(ends), undefined);
    const stands = node.did({ ...legFails(seen), syncAction: 'frozen', syncCompleted: null });
    assert.equal(asked(stands)?.range.loSector, 0);
  });
}

test('a copier without a bitmap copies from the checkpoint on, and says that it needs no marks', () => {
  const { node } = copier({ bitmap: null, held: true }, marked(2, 5, [3], { fromSector: 4096 }));
  const effects = node.did(md({ held: true, resyncStartSector: 4096 }));
  const { windows } = node.state.arrays.get(ARRAY) ?? {};
  assert.equal(windows?.doneSector, 4096);
  node.now += 2000;
  const told = [...effects, ...node.feed({ type: 'tick' })];
  assert.ok(
    told.some(
      (effect) => effect.type === 'submit' && effect.observation.what === 'marks-taken' && !effect.observation.kept,
    ),
  );
});

const isOp = (effect: LocalEffect, op: string): boolean => effect.type === 'perform' && effect.op.op === op;

/** LEG_B is back, as SPARE's slot shows it, and lacks what these nodes have marked. */
function returning(by: NodeId, markedBy: NodeId[] | null): ArrayRecord {
  const record = withFaulty(marking(), LEG_B);
  const spare = { uuid: SPARE, devNumber: 2, slot: 1, dataOffsetSectors: 2048, dataSizeSectors: 1_000_000 };
  return {
    ...record,
    members: [...record.members, { ...spare, role: 'rebuilding' }],
    resync: copy(by, 6, 'recovery', { markedBy }),
    version: { term: 1, index: 6 },
  };
}

test('a member that lacks what is marked comes in under a drained hold; one that is filled as a whole does not', () => {
  const seen = mdRebuilding('absent', { bitmap: KEPT });
  const marks = new Node(returning(1, [1, 2]), seen);
  assert.deepEqual([marks.busy, applied(marks.effects)], [{ op: 'hold' }, false]);
  assert.ok(
    marks
      .ended(mdRebuilding('absent', { bitmap: KEPT, held: true }))
      .some((effect) => isOp(effect, 'attach-rebuilding')),
  );
  const whole = new Node(returning(1, null), seen);
  assert.equal(whole.busy?.op, 'attach-rebuilding');
});

test('its copier marks what all have marked, once all have let it in, takes resync_start back, and copies in windows over that', () => {
  const record = returning(2, [1, 2, 3]);
  const held = { bitmap: KEPT, held: true };
  const node = new Node(record, mdRebuilding('absent', held));
  assert.equal(node.busy?.op, 'attach-rebuilding');
  node.did(mdRebuilding('rebuilding', held));
  assert.deepEqual([node.busy], [null], 'not before all have');
  node.release(record);
  assert.deepEqual(node.busy, { op: 'mark', record, nodes: [1, 2, 3], fromSector: 0, since: 6 });
  const effects = node.did(mdRebuilding('rebuilding', { ...held, resyncStartSector: 800_000 }), [
    { loSector: 800_000, hiSector: 800_128 },
  ]);
  assert.deepEqual(node.busy, { op: 'resync-start', sector: null });
  node.did(mdRebuilding('rebuilding', held));
  assert.deepEqual(node.busy, { op: 'open' });
  node.did(mdRebuilding('rebuilding', { bitmap: KEPT }));
  assert.deepEqual(asked(effects)?.range, { loSector: 0, hiSector: 1_000_000 }, 'one window for one mark');
  node.held(1, 3);
  assert.deepEqual(node.busy, {
    op: 'start-copy',
    copy: { kind: 'recovery', fromSector: 0, toSector: null },
    since: 6,
    foundBefore: 0,
  });
});

test('a node whose marks a recovery goes by assembles: the driver keeps them', () => {
  const record = { ...returning(1, [1, 2]), writers: [1, 3] };
  assert.equal(new Node(record, null).busy?.op, 'assemble');
});

test('when the array is whole again for all, this node’s bitmap is laid anew, under a hold; before that it is not', () => {
  const record = marking();
  const seen = md({ bitmap: KEPT });
  const copied = newer(record, { resync: copy(1, 6, 'recovery') });
  for (const [before, md] of [
    [copied, seen],
    [withFaulty(record, LEG_B), mdRebuilding('absent', { bitmap: KEPT })],
  ] as const) {
    const node = new Node(before, md);
    node.release(before);
    assert.ok(node.busy?.op !== 'hold' && node.busy?.op !== 'set-bitmap');
  }
  const node = new Node(record, seen);
  assert.deepEqual([node.busy, applied(node.effects)], [null, true], 'not before it is released');
  node.release(record);
  assert.deepEqual(node.busy, { op: 'hold' });
  node.did(md({ bitmap: KEPT, held: true }));
  assert.deepEqual(node.busy, { op: 'set-bitmap', record, none: false });
  node.did(md({ bitmap: KEPT, held: true }));
  assert.deepEqual(node.busy, { op: 'open' });
  node.did(seen);
  assert.deepEqual([node.busy], [null], 'once');
});

test('what a node assembles whole has no marks to be dropped; what it assembles with a member missing has', () => {
  for (const [record, left] of [
    [marking(), false],
    [withFaulty(marking(), LEG_B), true],
  ] as const) {
    const node = new Node(record, null);
    assert.equal(node.busy?.op, 'assemble');
    node.did(md({ bitmap: KEPT, held: true }));
    assert.equal(node.state.arrays.get(ARRAY)?.marksLeft, left);
  }
});

test('another bitmap than the record’s is laid before the record counts as applied, once', () => {
  const coarse = { firstSector: 224, sectorsPerNode: 8, chunkSectors: 256 };
  const record = marking({ bitmap: coarse });
  const node = new Node(record, md({ bitmap: KEPT }));
  assert.deepEqual([node.busy, applied(node.effects)], [{ op: 'hold' }, false]);
  node.did(md({ bitmap: KEPT, held: true }));
  assert.deepEqual(node.busy, { op: 'set-bitmap', record, none: false });
  const done = node.did(md({ bitmap: { sector: 232, chunkSectors: 256 }, held: true }));
  const word = done.find((effect) => effect.type === 'applied');
  assert.equal(word?.report.bitmap, true);

  const unable = new Node(record, md({ held: true }));
  assert.equal(unable.busy?.op, 'set-bitmap');
  const told = unable.did(md({ held: true })).find((effect) => effect.type === 'applied');
  assert.equal(told?.report.bitmap, false, 'a kernel without bitmaps applies it all the same');
});

test('an array with a bitmap grows without it, and gets the record’s afterwards', () => {
  const record = marking({ componentSectors: 2_000_000 });
  const node = new Node(record, md({ bitmap: KEPT, held: true }));
  assert.deepEqual(node.busy, { op: 'set-bitmap', record, none: true });
  node.did(md({ held: true }));
  assert.equal(node.busy?.op, 'set-size');
  node.did(md({ held: true, sizeSectors: 2_000_000 }));
  assert.deepEqual(node.busy, { op: 'set-bitmap', record, none: false });
});

// --- windows ----------------------------------------------------------------------------------------------------------

const TOTAL = 100_000_000;
const RECORD = mirror({ componentSectors: TOTAL });

test('windows reach over what is not marked: their number is that of the marked stretches', () => {
  const marks = [10_000_000, 40_000_000, 99_999_872].map((loSector) => ({ loSector, hiSector: loSector + 128 }));
  for (const [stretches, most] of [
    [[], 1],
    [marks, 3],
  ] as const) {
    let now = 1000;
    let windows = windowsStart(RECORD, copy(1, 6), now, 0, stretches);
    let rounds = 0;
    for (let doneSector = 0; doneSector < TOTAL; ) {
      let step = windowsStep(windows, { others: [2], doneSector, againSectors: null }, COPY_OPTIONS, now);
      assert.ok(step.ask !== null && ++rounds <= most, `${rounds} windows`);
      windows = windowsHeld(step.windows, { node: 2, sequence: step.ask.sequence, writes: null }, now);
      step = windowsStep(windows, { others: [2], doneSector: null, againSectors: null }, COPY_OPTIONS, now);
      windows = step.windows;
      doneSector = windows.allowedSector;
      now += 5;
    }
  }
});

test('a window holds no more marked sectors than one without a bitmap would hold', () => {
  const marks = Array.from({ length: 1000 }, (_, at) => ({ loSector: at * 100_000, hiSector: at * 100_000 + 128 }));
  const { ask } = windowsStep(
    windowsStart(RECORD, copy(1, 6), 0, 0, marks),
    { others: [2], doneSector: null, againSectors: null },
    COPY_OPTIONS,
    0,
  );
  // Of 2048 sectors: sixteen marks, and what lies between them.
  assert.equal(ask?.toSector, 1_600_000);
});

test('after windows have begun again no older answer lets md go on', () => {
  const first = windowsStep(
    windowsStart(RECORD, copy(1, 6), 0),
    { others: [2], doneSector: null, againSectors: null },
    COPY_OPTIONS,
    0,
  );
  const again = windowsHeld(
    windowsAgain(first.windows, 0, 1),
    { node: 2, sequence: first.ask?.sequence ?? 0, writes: null },
    1,
  );
  const step = windowsStep(again, { others: [2], doneSector: null, againSectors: null }, COPY_OPTIONS, 2);
  assert.equal(step.windows.allowedSector, 0);
  assert.equal(step.ask?.fromSector, 0);
});
