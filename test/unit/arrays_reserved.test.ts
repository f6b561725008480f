/** The node's side where members are reserved: what a node without its keys does not do, and when it may have them back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type KeysHere, type LocalEffect, localStart } from '../../src/arrays/local_state.ts';
import { mayRegister } from '../../src/arrays/may_pass.ts';
import type { ArrayRecord } from '../../src/arrays/record.ts';
import { reportOf } from '../../src/arrays/report.ts';
import {
  ARRAY,
  bootOf,
  COPY_OPTIONS,
  copy,
  FedNode,
  LEG_A,
  LEG_B,
  lost,
  md,
  mirror,
  newer,
  PATHS,
  SPARE,
  SPARE_MEMBER,
  withFaulty,
} from './arrays_fixture.ts';

const ALL = new Set([LEG_A, LEG_B]);

class Node extends FedNode {
  constructor() {
    super(localStart(2, bootOf(2), COPY_OPTIONS, 'fail-member', true));
  }

  keys(change: Partial<KeysHere> = {}): LocalEffect[] {
    return this.feed({
      type: 'keys',
      keys: { usable: ALL, unreserved: new Set(), absent: new Set(), shutOut: false, atMs: this.now, ...change },
    });
  }

  tick(ms = 2000): LocalEffect[] {
    this.now += ms;
    return this.feed({ type: 'tick' });
  }

  see(seen: Parameters<typeof md>[0]): LocalEffect[] {
    return this.feed({ type: 'observed', array: ARRAY, observation: md(seen) });
  }

  /** A writer with a live grant that holds its array, under a released record. */
  static holding(): Node {
    const node = new Node();
    const record = mirror();
    node.feed(
      { type: 'paths', paths: PATHS },
      { type: 'master', term: 1, node: 1 },
      { type: 'grant', untilMs: 1_000_000 },
      { type: 'commit', record, forgotten: false },
      { type: 'observed', array: ARRAY, observation: md({ held: true }) },
      { type: 'released', array: ARRAY, version: record.version },
    );
    return node;
  }

  /** As `holding`, with its keys, and its array open. */
  static writing(): Node {
    const node = Node.holding();
    assert.deepEqual(ops(node.keys()), ['open']);
    node.feed(
      { type: 'observed', array: ARRAY, observation: md({ held: false }) },
      { type: 'done', array: ARRAY, op: { op: 'open' }, error: null },
    );
    return node;
  }

  array() {
    const array = this.state.arrays.get(ARRAY);
    assert.ok(array !== undefined);
    return array;
  }
}

const ops = (effects: LocalEffect[]): string[] =>
  effects.flatMap((effect) =>
    effect.type === 'perform' ? [effect.op.op] : effect.type === 'answer-gates' ? ['answer-gates'] : [],
  );
const faultsTold = (effects: LocalEffect[]): string[] =>
  effects.flatMap((effect) =>
    effect.type === 'submit' && effect.observation.what === 'member-faulty' ? [effect.observation.member] : [],
  );

/** A write to the leg was refused, or failed, and waits at the gate. */
const blockedLeg = (uuid = LEG_A) => ({
  held: false,
  writePending: true,
  members: md().members.map((member) => ({ ...member, blocked: member.uuid === uuid })),
});

test('writes pass only with this node’s key on every member', () => {
  const node = Node.holding();
  assert.deepEqual(ops(node.tick()), [], 'nobody has looked yet');
  assert.deepEqual(reportOf(node.state, node.array(), node.now).visible, [], 'and it is no writer before');
  node.keys({ usable: new Set([LEG_A]) });
  assert.deepEqual(ops(node.tick()), []);
  assert.deepEqual(reportOf(node.state, node.array(), node.now).visible, [LEG_A]);
  assert.deepEqual(ops(node.keys()), ['open']);
});

test('nothing is assembled before its bitmap can be written: a member that refuses it would fail for all', () => {
  const node = new Node();
  const record = mirror();
  node.feed({ type: 'paths', paths: PATHS }, { type: 'master', term: 1, node: 1 });
  const told = node.feed(
    { type: 'grant', untilMs: 1_000_000 },
    { type: 'commit', record, forgotten: false },
    { type: 'observed', array: ARRAY, observation: null },
  );
  assert.deepEqual(ops(told), []);
  assert.ok(
    told.some(({ type }) => type === 'applied'),
    'others do not wait for what runs nothing',
  );
  const refused = node.keys({ usable: new Set([LEG_B]), absent: new Set([LEG_A]) });
  assert.deepEqual(ops(refused), []);
  assert.ok(refused.some((effect) => effect.type === 'trouble' && effect.text?.includes(`not on member ${LEG_A}`)));
  assert.deepEqual(ops(node.keys({ shutOut: true })), []);
  assert.ok(mayRegister(node.state, node.now));
  assert.deepEqual(ops(node.keys()), ['assemble']);
  assert.ok(
    !mayRegister(node.state, node.now),
    'a key that is taken off meanwhile must not be back before it is known what was refused',
  );
});

test('a node that is shut out holds at once, and says so', () => {
  const node = Node.writing();
  const effects = node.keys({ shutOut: true, usable: new Set() });
  assert.deepEqual(ops(effects), ['hold']);
  assert.ok(effects.some(({ type }) => type === 'report'));
});

test('a failure is told only after the keys were looked at once more', () => {
  const node = Node.writing();
  node.now += 1;
  const effects = node.see(blockedLeg());
  assert.ok(effects.some(({ type }) => type === 'check-keys'));
  assert.deepEqual(faultsTold(effects), []);
  assert.deepEqual(faultsTold(node.tick(1)), [], 'what was known before says nothing');
  assert.deepEqual(faultsTold(node.keys()), [LEG_A]);
});

test('what a node that is shut out sees fail, it fails itself: it tells nobody, answers nothing, and keeps to that', () => {
  const node = Node.writing();
  node.see(blockedLeg());
  const effects = [...node.keys({ shutOut: true, usable: new Set() }), ...node.tick()];
  assert.deepEqual(faultsTold(effects), []);
  assert.ok(!ops(effects).includes('answer-gates'));
  assert.ok(
    effects.some(({ type }) => type === 'stuck'),
    'others wait for it in vain',
  );
  // Its keys are back, as after a fencing that was called off.
  const later = [...node.keys(), ...node.tick(), ...node.tick()];
  assert.deepEqual(faultsTold(later), []);
  assert.ok(!ops(later).includes('answer-gates'));
  assert.match(node.array().trouble ?? '', /have refused writes of this node/);
  // Stopped: nothing of it is left.
  node.feed({ type: 'observed', array: ARRAY, observation: null });
  assert.equal(node.array().refused, false);
});

test('a member that md has blocked is answered for only when its failure is agreed on', () => {
  const node = Node.writing();
  const effects = [...node.see(blockedLeg()), ...node.keys(), ...node.tick()];
  assert.ok(!ops(effects).includes('answer-gates'));
});

test('a lost path is told without delay: no disk has refused anything', () => {
  const node = Node.writing();
  assert.deepEqual(faultsTold(node.feed({ type: 'observed', array: ARRAY, observation: lost(md(), LEG_B) })), [LEG_B]);
});

test('keys are put back only with a live grant, and with nothing on its way from before it had none', () => {
  const node = Node.writing();
  assert.equal(mayRegister(node.state, node.now), true, 'its grant never ended: a disk may have forgotten');
  node.now = 2_000_000;
  assert.equal(mayRegister(node.state, node.now), false, 'no grant');
  node.feed({ type: 'grant', untilMs: 3_000_000 });
  assert.equal(mayRegister(node.state, node.now), false, 'open over the gap: what was on its way may be so still');
  node.see({ ...blockedLeg(), held: true });
  assert.equal(mayRegister(node.state, node.now), false, 'a write waits at a gate');
  node.see({ held: true });
  assert.equal(mayRegister(node.state, node.now), true, 'drained');
  node.feed({ type: 'leave' });
  assert.equal(mayRegister(node.state, node.now), false);
});

test('where disks decide a node that bids puts them back without a grant, with nothing on its way from before that ended', () => {
  const node = Node.writing();
  node.now = 2_000_000;
  assert.equal(mayRegister(node.state, node.now, true), false, 'open as the grant ended');
  node.see({ ...blockedLeg(), held: true });
  assert.equal(mayRegister(node.state, node.now, true), false, 'a write waits at a gate');
  node.see({ held: true });
  assert.equal(mayRegister(node.state, node.now, true), true);
  assert.equal(mayRegister(node.state, node.now), false, 'it does not bid');
  node.feed({ type: 'leave' });
  assert.equal(mayRegister(node.state, node.now, true), false);
});

test('a spare that takes anybody’s writes still is not ready, whoever has its key there', () => {
  const node = Node.writing();
  const record = newer(node.array().record, { members: [...node.array().record.members, SPARE_MEMBER] });
  node.feed({ type: 'commit', record, forgotten: false });
  const usable = new Set([...ALL, SPARE]);
  const visible = (): readonly string[] => reportOf(node.state, node.array(), node.now).visible;
  const effects = node.keys({ usable, unreserved: new Set([SPARE, LEG_A]) });
  assert.deepEqual(visible(), [LEG_A, LEG_B], 'a leg that has forgotten all is written to');
  assert.ok(effects.some(({ type }) => type === 'report'));
  node.keys({ usable });
  assert.deepEqual(visible(), [LEG_A, LEG_B, SPARE]);
});

test('a gate that a commit has closed is answered under a whole hold, though this node is shut out: else it never has its keys back', () => {
  const node = Node.writing();
  node.keys({ shutOut: true, usable: new Set() });
  node.see({ held: true });
  const record = withFaulty(newer(node.array().record, {}), LEG_A);
  node.feed({ type: 'commit', record, forgotten: false });
  assert.deepEqual(ops(node.see(md({ held: false }, LEG_A))), [], 'what waits may have been refused');
  assert.deepEqual(ops(node.see(md({ held: true }, LEG_A))), ['answer-gates']);
});

test('shut out with writes at a gate that a commit has closed, it can neither answer nor drain: others must not wait for it', () => {
  const node = Node.writing();
  const record = withFaulty(newer(node.array().record, {}), LEG_A);
  const asks = (effects: LocalEffect[]): boolean => effects.some(({ type }) => type === 'stuck');
  assert.ok(!asks([...node.see(md({ held: false }, LEG_A)), ...node.keys({ usable: new Set([LEG_B]) })]));
  node.feed({ type: 'commit', record, forgotten: false });
  const effects = [...node.keys({ shutOut: true, usable: new Set() }), ...node.tick()];
  assert.ok(asks(effects));
  assert.ok(!ops(effects).includes('answer-gates'));
  assert.match(node.array().trouble ?? '', /have refused writes of this node/);
});

test('shut out as the first write to a clean array waits at its gate, it may have its keys back: nothing was sent to any disk', () => {
  const asks = md({ writePending: true, arrayState: 'write-pending' });
  const back = (seen: Parameters<typeof md>[0]): Node => {
    const node = Node.writing();
    node.now = 2_000_000;
    node.see(seen);
    const granted = node.feed({ type: 'grant', untilMs: 3_000_000 });
    assert.ok(!ops(granted).includes('answer-gates'), 'it has not looked for its keys yet');
    return node;
  };
  const node = back(asks);
  const effects = [...node.keys({ shutOut: true, usable: new Set() }), ...node.tick()];
  assert.ok(!effects.some(({ type }) => type === 'stuck'));
  assert.ok(!ops(effects).includes('answer-gates'));
  assert.equal(mayRegister(node.state, node.now), true);
  assert.deepEqual(ops(node.keys()), ['answer-gates']);
  const other = back({ ...asks, degraded: 1 });
  other.keys({ shutOut: true, usable: new Set() });
  assert.equal(mayRegister(other.state, other.now), false, 'a member is missing: writes may wait for its failure');
});

test('left out as the first write to a clean array waits at its gate, it is let in by that: no suspend could drain the write', () => {
  const node = Node.writing();
  node.now = 2_000_000;
  node.see({
    writePending: true,
    arrayState: 'write-pending',
    members: md().members.map((member) => ({ ...member, path: 'held' as const })),
  });
  const without = newer(mirror(), { writers: [1, 3] });
  const leftOut = (record: ArrayRecord): LocalEffect[] =>
    node.feed(
      { type: 'commit', record, forgotten: false },
      { type: 'released', array: ARRAY, version: record.version },
      { type: 'grant', untilMs: 3_000_000 },
    );
  const told = [...leftOut(without), ...node.keys()];
  assert.deepEqual(ops(told), []);
  assert.ok(told.some(({ type }) => type === 'applied'));
  assert.equal(reportOf(node.state, node.array(), node.now).state, 'held');
  const copied = newer(without, { resync: copy(1, 7) });
  leftOut(copied);
  assert.equal(reportOf(node.state, node.array(), node.now).state, 'open', 'it could not be kept from what is copied');
  const letIn = newer(copied, { writers: [1, 2, 3], resync: null });
  assert.deepEqual(ops(leftOut(letIn)), ['answer-gates', 'let-read']);
});

test('an array that was open as a grant ended is drained once, when a key is missing somewhere: it may be put there then', () => {
  const node = Node.writing();
  node.see(lost(md(), LEG_B));
  node.now = 2_000_000;
  assert.deepEqual(ops(node.feed({ type: 'grant', untilMs: 3_000_000 })), [], 'a drain would wait for the path');
  assert.deepEqual(ops(node.keys()), []);
  assert.deepEqual(ops(node.see({})), [], 'it has them all');
  const record = newer(node.array().record, { members: [...node.array().record.members, SPARE_MEMBER] });
  assert.deepEqual(ops(node.feed({ type: 'commit', record, forgotten: false })), ['hold']);
  node.see(md({ held: true }));
  node.feed({ type: 'done', array: ARRAY, op: { op: 'hold' }, error: null });
  assert.equal(mayRegister(node.state, node.now), true);
  node.feed({ type: 'released', array: ARRAY, version: record.version });
  assert.equal(node.array().busy?.op, 'add-spare');
  node.feed({ type: 'done', array: ARRAY, op: { op: 'add-spare', member: SPARE, record }, error: null });
  assert.equal(node.array().busy?.op, 'open', 'the spare is not written to');
});

test('a node that finds itself shut out with a live grant puts nothing back before it has drained: what it wrote meanwhile was refused', () => {
  const node = Node.writing();
  node.now += 100;
  node.keys({ shutOut: true, usable: new Set() });
  assert.equal(mayRegister(node.state, node.now), false);
  node.see(md({ held: true }));
  assert.equal(mayRegister(node.state, node.now), true);
});

test('an array of which nothing is known yet may have anything on its way', () => {
  const node = new Node();
  node.feed({ type: 'grant', untilMs: 1_000_000 }, { type: 'commit', record: mirror(), forgotten: false });
  assert.equal(mayRegister(node.state, node.now), false);
  node.feed({ type: 'observed', array: ARRAY, observation: null });
  assert.equal(mayRegister(node.state, node.now), true);
});

test('a node that was without a grant looks for its keys again before it lets a write pass', () => {
  const node = Node.holding();
  node.keys();
  node.see({ held: true });
  node.now = 2_000_000;
  node.feed({ type: 'grant', untilMs: 3_000_000 });
  const record = node.array().record;
  node.feed({ type: 'done', array: ARRAY, op: { op: 'open' }, error: null });
  assert.deepEqual(ops(node.tick(1)), [], 'what it saw before it stood still says nothing');
  assert.ok(record.writers.includes(2));
  assert.deepEqual(ops(node.keys()), ['open']);
});

test('what was refused is answered never, though the leg that refused it has failed for all since: a resync may have undone the other', () => {
  const node = Node.writing();
  node.see(blockedLeg());
  node.keys({ shutOut: true, usable: new Set() });
  node.keys();
  const record = withFaulty(newer(node.array().record, {}), LEG_A);
  const effects = [
    ...node.feed({ type: 'commit', record, forgotten: false }),
    ...node.see({ ...md({ held: false }, LEG_A) }),
    ...node.feed({ type: 'released', array: ARRAY, version: record.version }),
    ...node.tick(),
  ];
  assert.ok(!ops(effects).includes('answer-gates'), ops(effects).join());
});
