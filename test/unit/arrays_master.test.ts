/** The master's side: what it commits, what it waits for, what it refuses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDue } from '../../src/arrays/check_schedule.ts';
import { masterStep } from '../../src/arrays/master.ts';
import {
  type Change,
  type MasterEffect,
  type MasterInput,
  type MasterState,
  masterStart,
} from '../../src/arrays/master_state.ts';
import { type ArrayRecord, type NodeId, type Version, wholeCopy } from '../../src/arrays/record.ts';
import { type ArrayReport, EventBody } from '../../src/wire/messages.ts';
import {
  ARRAY,
  bootOf,
  copy,
  LEG_A,
  LEG_B,
  MASTER_CONFIG,
  mirror,
  newer,
  onDisks,
  report,
  SPARE,
  withFaulty,
} from './arrays_fixture.ts';

class Master {
  state: MasterState = masterStart(1, MASTER_CONFIG);
  now = 1000;
  readonly told: MasterEffect[] = [];

  feed(...inputs: MasterInput[]): MasterEffect[] {
    const effects = inputs.flatMap((input) => {
      const { state, effects } = masterStep(this.state, input, this.now);
      this.state = state;
      return effects;
    });
    this.told.push(...effects);
    return effects;
  }
  get record(): ArrayRecord | null {
    return this.state.arrays.get(ARRAY)?.record ?? null;
  }
  get pending(): ArrayRecord | null {
    return this.state.arrays.get(ARRAY)?.pending?.record ?? null;
  }
  /** The commit that is being persisted reaches the disks. */
  durable(failed: string[] = []): MasterEffect[] {
    const version = this.pending?.version ?? { term: 0, index: 0 };
    return this.feed({ type: 'persisted', array: ARRAY, version, written: true, failed, text: '' });
  }
  applied(...nodes: NodeId[]): MasterEffect[] {
    const record = this.pending ?? this.record ?? mirror();
    return nodes.flatMap((from) =>
      this.feed({ type: 'applied', from, array: ARRAY, version: record.version, report: report(record) }),
    );
  }
  alive(...nodes: NodeId[]): void {
    for (const node of nodes) this.feed({ type: 'status', node, status: 'alive' });
  }
  reports(record: ArrayRecord, ...nodes: NodeId[]): MasterEffect[] {
    return nodes.flatMap((from) =>
      this.feed({ type: 'report', from, kernelBoot: bootOf(from), agentStart: 1, reports: [report(record)] }),
    );
  }
  /** Term 2 of node 1, the mirror taken over from the disks, all three nodes writing. */
  static leading(found = mirror()): Master {
    const master = new Master();
    master.alive(1, 2, 3);
    master.feed({ type: 'elected', term: 2 });
    master.reports(found, 1, 2, 3);
    master.feed(onDisks(found));
    master.durable();
    master.applied(1, 2, 3);
    master.now += 5000;
    return master;
  }
}

function kinds(effects: MasterEffect[]): string[] {
  return effects.map((effect) =>
    effect.type === 'persist' || effect.type === 'commit' ? `${effect.type} ${effect.kind}` : effect.type,
  );
}

test('a new master re-commits what stands on the disks under its own term before anything else', () => {
  const master = new Master();
  master.alive(1, 2, 3);
  assert.deepEqual(kinds(master.feed({ type: 'elected', term: 2 })), ['scan']);
  const early = master.feed({
    type: 'observation',
    from: 2,
    observation: { what: 'member-faulty', array: ARRAY, member: LEG_B },
  });
  assert.deepEqual(early, [], 'nothing is decided before the disks were read');
  master.reports(mirror(), 1, 2, 3);
  const scanned = master.feed(onDisks(mirror()));
  assert.deepEqual(kinds(scanned), ['persist new-term', 'grantable']);
  assert.deepEqual(master.pending?.version, { term: 2, index: 6 });
  assert.deepEqual(kinds(master.durable()), ['commit new-term']);
  assert.deepEqual(kinds(master.applied(1, 2)), []);
  assert.deepEqual(kinds(master.applied(3)), ['released']);
});

test('a report that was on its way as a commit was sent is no reason to send it again; a later one is', () => {
  const master = Master.leading();
  const before = master.record ?? mirror();
  master.feed({ type: 'observation', from: 2, observation: { what: 'member-faulty', array: ARRAY, member: LEG_B } });
  assert.deepEqual(kinds(master.durable()), ['commit fail']);
  assert.deepEqual(kinds(master.reports(before, 3)), [], 'it has just been sent');
  const knowsNothing = { type: 'report', from: 3, kernelBoot: bootOf(3), agentStart: 1, reports: [] } as const;
  assert.deepEqual(kinds(master.feed(knowsNothing)), ['send-commit'], 'it says so but once');
  master.now += 250;
  assert.deepEqual(kinds(master.reports(before, 3)), ['send-commit']);
});

test('who says that it knows a release is not told of it again', () => {
  const master = Master.leading();
  const record = master.record ?? mirror();
  const says = (released: Version | null) =>
    kinds(
      master.feed({
        type: 'report',
        from: 3,
        kernelBoot: bootOf(3),
        agentStart: 1,
        reports: [report(record, { released })],
      }),
    );
  assert.deepEqual(says(null), ['released']);
  assert.deepEqual(says({ term: 1, index: 1 }), ['released']);
  assert.deepEqual(says(record.version), []);
  // An older agent does not say it.
  assert.deepEqual(kinds(master.reports(record, 3)), ['released']);
});

test('a master that found no disk looks again as long as a node tells of an array that was not found', () => {
  const master = new Master();
  master.alive(1, 2, 3);
  master.feed({ type: 'elected', term: 2 }, { type: 'disks', found: [] });
  master.now += 600;
  assert.deepEqual(kinds(master.feed({ type: 'tick' })), [], 'nobody knows of any');
  const found = mirror();
  master.reports(found, 2);
  master.now += 600;
  assert.deepEqual(kinds(master.feed({ type: 'tick' })), ['scan']);
  master.reports(found, 1, 3);
  const effects = master.feed(onDisks(found));
  assert.deepEqual(kinds(effects), ['persist new-term']);
  master.durable();
  master.now += 600;
  assert.equal(kinds(master.feed({ type: 'tick' })).includes('scan'), false, 'it is found');
});

test('what an operator puts back counts if nobody knows more, for members that are good enough for it', () => {
  const onDisk = mirror();
  const known = newer(withFaulty(onDisk, LEG_B), {});
  const putBack = (by: ArrayRecord, stale: string[]) => {
    const master = new Master();
    master.alive(1, 2, 3);
    master.feed({ type: 'elected', term: 2 });
    master.reports(known, 1, 2);
    master.reports(by, 3);
    const { found } = onDisks(onDisk);
    master.feed({
      type: 'disks',
      found: found.map((each) => ({ ...each, stale: new Map(stale.map((uuid) => [uuid, `${uuid} is old`])) })),
    });
    const held = master.pending;
    assert.equal(held, null);
    const effects = kinds(master.feed({ type: 'put-back', record: known }));
    return { effects, pending: master.pending };
  };
  const { effects, pending } = putBack(known, []);
  assert.ok(effects.includes('persist new-term'));
  assert.deepEqual(pending?.version, { term: 2, index: known.version.index + 1 });
  assert.deepEqual(
    pending?.members.map(({ role }) => role),
    ['active', 'faulty'],
  );
  assert.ok(putBack(known, [LEG_B]).effects.includes('persist new-term'), 'given up anyway');
  assert.ok(!putBack(newer(known, {}), []).effects.includes('persist new-term'), 'node 3 knows more');
  assert.ok(!putBack(known, [LEG_A]).effects.includes('persist new-term'), 'it is the last one');
});

test('a leg fails: survivors first, then everybody, then the release', () => {
  const master = Master.leading();
  const seen = master.feed({
    type: 'observation',
    from: 3,
    observation: { what: 'member-faulty', array: ARRAY, member: LEG_B },
  });
  assert.deepEqual(kinds(seen), ['persist fail']);
  assert.equal(master.pending?.events, 12, 'two more: stock mdadm forgives a lag of one');
  assert.deepEqual(kinds(master.durable()), ['commit fail']);
  assert.deepEqual(kinds(master.applied(1, 3)), [], 'node 2 may still read the stale leg');
  assert.deepEqual(kinds(master.applied(2)), ['released']);
});

test('a silent node keeps a commit waiting until fencing vouches for it; then it is evicted and the legs are resynced', () => {
  const master = Master.leading();
  master.feed({ type: 'observation', from: 3, observation: { what: 'member-faulty', array: ARRAY, member: LEG_B } });
  master.durable();
  master.applied(1, 3);
  assert.deepEqual(kinds(master.feed({ type: 'status', node: 2, status: 'suspect' })), []);
  assert.deepEqual(kinds(master.feed({ type: 'status', node: 2, status: 'dead' })), ['fence', 'grantable']);
  master.now += 60_000;
  assert.deepEqual(kinds(master.feed({ type: 'tick' })), [], 'time alone says nothing');
  assert.deepEqual(
    kinds(master.feed({ type: 'fenced', node: 2, stopped: false, text: 'agent unreachable' })),
    ['fence'],
    'and it is tried again',
  );
  const fenced = master.feed({ type: 'fenced', node: 2, stopped: true, text: 'power off' });
  assert.deepEqual(kinds(fenced), ['notice', 'released', 'persist evict']);
  assert.deepEqual(master.pending?.writers, [1, 3]);
  assert.equal(master.pending?.resync, null, 'one leg is left: nothing to compare it with');
});

test('a node that the disks shut out before its grant has ended may read until then: no commit that gives up a member is released before', () => {
  const failed = { what: 'member-faulty', array: ARRAY, member: LEG_B } as const;
  const master = Master.leading();
  master.feed({ type: 'status', node: 2, status: 'dead' });
  const fenced = { type: 'fenced', node: 2, stopped: true, text: 'reservation' } as const;
  master.feed({ ...fenced, grantUntilMs: master.now + 2000 });
  master.durable();
  const evicted = master.applied(1, 3);
  assert.ok(kinds(evicted).includes('released'), 'the eviction itself gives up nothing');
  master.feed({ type: 'observation', from: 3, observation: failed });
  master.durable();
  assert.ok(!kinds(master.applied(1, 3)).includes('released'));
  master.now += 2499;
  assert.ok(!kinds(master.feed({ type: 'tick' })).includes('released'), 'its guard may still hold what it reads');
  master.now += 1;
  assert.ok(kinds(master.feed({ type: 'tick' })).includes('released'));

  const off = Master.leading();
  off.feed({ type: 'status', node: 2, status: 'dead' }, fenced);
  off.durable();
  off.applied(1, 3);
  off.feed({ type: 'observation', from: 3, observation: failed });
  off.durable();
  assert.ok(kinds(off.applied(1, 3)).includes('released'), 'nothing of it runs');
});

test('a member that a commit did not reach is failed before anything else is committed, an eviction too', () => {
  const master = Master.leading();
  master.feed({ type: 'ask', array: ARRAY, change: { what: 'sync-limit', limitKib: 5 }, requestId: null });
  master.durable([LEG_B]);
  master.feed({ type: 'status', node: 2, status: 'dead' });
  master.feed({ type: 'fenced', node: 2, stopped: true, text: 'power off' });
  const applied = master.applied(1, 3);
  // Two commits later nobody could go on from it any more, should all lose power: its data might be old.
  assert.equal(kinds(applied).at(-1), 'persist fail');
  assert.equal(kinds(master.durable()).at(-1), 'commit fail');
  assert.equal(kinds(master.applied(1, 3)).at(-1), 'persist evict');
});

test('a node that died while writing leaves legs that may differ', () => {
  const master = Master.leading();
  master.feed(
    { type: 'status', node: 2, status: 'dead' },
    { type: 'fenced', node: 2, stopped: true, text: 'power off' },
  );
  assert.deepEqual(master.pending?.resync, copy(1, 7));
  master.durable();
  master.applied(1, 3);
  const stale = master.feed({
    type: 'observation',
    from: 1,
    observation: { what: 'resync-done', array: ARRAY, since: 3, mismatchSectors: null },
  });
  assert.deepEqual(kinds(stale), [], 'the end of an older copy');
  const other = master.feed({
    type: 'observation',
    from: 3,
    observation: { what: 'resync-done', array: ARRAY, since: 7, mismatchSectors: null },
  });
  assert.deepEqual(kinds(other), [], 'not the node that copies');
  const done = master.feed({
    type: 'observation',
    from: 1,
    observation: { what: 'resync-done', array: ARRAY, since: 7, mismatchSectors: null },
  });
  assert.deepEqual(kinds(done), ['persist resync-done']);
});

test('a writer whose kernel has booted anew has crashed, whatever its array looks like', () => {
  const master = Master.leading();
  const record = master.record ?? mirror();
  const effects = master.feed({
    type: 'report',
    from: 2,
    kernelBoot: bootOf(2, 2),
    agentStart: 1,
    reports: [report(record, { state: 'held' })],
  });
  assert.deepEqual(kinds(effects), ['persist evict']);
  assert.deepEqual(master.pending?.resync, copy(1, 7));
});

test('a node that says goodbye leaves the writers without a resync, but only once its writes are held', () => {
  const master = Master.leading();
  const record = master.record ?? mirror();
  assert.deepEqual(kinds(master.feed({ type: 'leaving', node: 2, agentStart: 1 })), []);
  const held = master.feed({
    type: 'report',
    from: 2,
    kernelBoot: bootOf(2),
    agentStart: 1,
    reports: [report(record, { state: 'held' })],
  });
  assert.deepEqual(kinds(held), ['persist leave']);
  assert.deepEqual(master.pending?.writers, [1, 3]);
  assert.equal(master.pending?.resync, null);
});

test('an agent that is back before anybody has seen it gone is admitted, and its goodbye counts no more', () => {
  const master = Master.leading(mirror({ writers: [1, 3] }));
  const record = master.record ?? mirror();
  const back = (agentStart: number): MasterEffect[] => {
    const reports = [report(record, { state: 'held' })];
    return master.feed({ type: 'report', from: 2, kernelBoot: bootOf(2), agentStart, reports });
  };
  master.feed({ type: 'leaving', node: 2, agentStart: 4 });
  assert.ok(!kinds(back(4)).includes('persist admit'), 'it is leaving');
  assert.ok(kinds(back(5)).includes('persist admit'));
  master.feed({ type: 'leaving', node: 2, agentStart: 4 });
  assert.equal(master.state.nodes.get(2)?.leaving, false, 'a goodbye that came late');
});

test('only a held, caught-up node that sees every member is admitted', () => {
  const found = mirror({ writers: [] });
  for (const [why, fields] of [
    ['open without being a writer', { state: 'open' }],
    ['behind', { applied: { term: 1, index: 4 } }],
    ['blind for one leg', { visible: [LEG_A] }],
    ['in trouble', { trouble: 'no' }],
  ] as [string, Partial<ArrayReport>][]) {
    const master = Master.leading(found);
    const record = master.record ?? found;
    const effects = master.feed({
      type: 'report',
      from: 2,
      kernelBoot: bootOf(2),
      agentStart: 1,
      reports: [report(record, { state: 'held', ...fields })],
    });
    assert.ok(!kinds(effects).includes('persist admit'), why);
  }
  const master = Master.leading(found);
  const record = master.record ?? found;
  const effects = master.feed({
    type: 'report',
    from: 2,
    kernelBoot: bootOf(2),
    agentStart: 1,
    reports: [report(record, { state: 'held' })],
  });
  assert.ok(kinds(effects).includes('persist admit'));
  assert.deepEqual(master.pending?.writers, [2]);
});

test('the last copy is never committed as faulty', () => {
  const master = Master.leading(withFaulty(mirror(), LEG_B));
  const seen = master.feed({
    type: 'observation',
    from: 2,
    observation: { what: 'member-faulty', array: ARRAY, member: LEG_A },
  });
  assert.deepEqual(kinds(seen), ['notice']);
  const asked = master.feed({ type: 'ask', array: ARRAY, change: { what: 'fail', member: LEG_A }, requestId: 'r' });
  assert.ok(asked.some((effect) => effect.type === 'answer' && !effect.ok));
  assert.equal(master.pending, null);
});

test('disks that are older than what a node knows are not believed', () => {
  const master = new Master();
  master.alive(1, 2, 3);
  master.feed({ type: 'elected', term: 2 });
  master.reports(mirror({ version: { term: 1, index: 9 } }), 2);
  const scanned = master.feed(onDisks(mirror()));
  assert.deepEqual(kinds(scanned), ['notice']);
  assert.equal(master.pending, null);
});

test('where the disks do not tell what is newest, who writes must know the most of all, and all must have spoken', () => {
  const newest = mirror({ version: { term: 1, index: 9 }, writers: [1, 3] });
  const granted = (master: Master): readonly number[] => master.state.grantable;
  for (const found of [onDisks(mirror()).found, []]) {
    const master = new Master();
    master.alive(1, 2, 3);
    master.feed({ type: 'elected', term: 2 });
    master.feed({ type: 'disks', found });
    master.reports(mirror({ version: { term: 1, index: 8 } }), 2);
    assert.ok(!granted(master).includes(2), 'another node may know of the record that left it out');
    master.reports(newest, 1);
    assert.ok(!granted(master).includes(1));
    master.reports(newest, 3);
    assert.deepEqual(granted(master), [1, 3]);
  }
});

test('with a leg out of sight the record is believed only if every writer knows nothing newer', () => {
  const master = new Master();
  master.alive(1, 2, 3);
  master.feed({ type: 'elected', term: 2 });
  const found = onDisks(mirror()).found.map((each) => ({ ...each, unseen: [LEG_B] }));
  master.reports(mirror(), 1, 2);
  assert.deepEqual(kinds(master.feed({ type: 'disks', found })), ['notice']);
  master.reports(mirror(), 3);
  assert.equal(master.pending?.version.term, 2);
});

test('a member appears that knows of a later commit, before the takeover is written: the array is taken over from that one', () => {
  const master = new Master();
  master.alive(1, 2, 3);
  master.feed({ type: 'elected', term: 2 });
  const found = mirror();
  master.reports(found, 1, 2, 3);
  master.feed({ type: 'disks', found: onDisks(found).found.map((each) => ({ ...each, unseen: [LEG_B] })) });
  assert.deepEqual(master.pending?.version, { term: 2, index: 6 });
  const later = withFaulty(newer(found, { events: 12 }), LEG_B);
  assert.deepEqual(kinds(master.feed(onDisks(later))), ['grantable'], 'the first may be on its way to the disks');
  const version = { term: 2, index: 6 };
  const effects = master.feed({ type: 'persisted', array: ARRAY, version, written: false, failed: [], text: 'EIO' });
  assert.deepEqual(kinds(effects), ['notice', 'persist new-term']);
  assert.deepEqual(master.pending?.version, { term: 2, index: 7 });
  assert.deepEqual(
    master.pending?.members.map(({ role }) => role),
    ['active', 'faulty'],
  );
  master.feed({
    type: 'persisted',
    array: ARRAY,
    version: { term: 2, index: 7 },
    written: false,
    failed: [],
    text: 'EIO',
  });
  const own = { ...later, version: { term: 2, index: 7 } };
  assert.deepEqual(kinds(master.feed(onDisks(own))), [], 'its own, on some member: tried again');
  assert.deepEqual(master.pending?.version, { term: 2, index: 7 });
});

test('a commit that reaches no member is tried again and again, and told of once for each cause', () => {
  const master = new Master();
  master.alive(1, 2, 3);
  master.feed({ type: 'elected', term: 2 });
  master.reports(mirror(), 1, 2, 3);
  master.feed(onDisks(mirror()));
  const version = { term: 2, index: 6 };
  const fails = (text: string) =>
    kinds(master.feed({ type: 'persisted', array: ARRAY, version, written: false, failed: [], text }));
  const again = () => {
    master.now += 1000;
    assert.ok(kinds(master.feed({ type: 'tick' })).includes('persist new-term'));
  };
  assert.deepEqual(fails('EIO'), ['notice']);
  again();
  assert.deepEqual(fails('EIO'), []);
  again();
  assert.deepEqual(fails('no such disk'), ['notice']);
});

/** A new master that all nodes know no more to than what it finds, with a leg that has missed two commits. */
function facing(
  found: ArrayRecord,
  why = 'member /dev/sdb of md0: it missed 2 commits',
): { master: Master; effects: MasterEffect[] } {
  const master = new Master();
  master.alive(1, 2, 3);
  master.feed({ type: 'elected', term: 2 });
  master.reports(found, 1, 2, 3);
  const stale = new Map([[LEG_B, why]]);
  const seen = onDisks(found).found.map((each) => ({ ...each, stale }));
  return { master, effects: master.feed({ type: 'disks', found: seen }) };
}

test('what has missed several commits is failed by the commit with which a new master takes over, before anything is written to it', () => {
  const found = { ...mirror(), missed: { since: 3, nodes: [], on: [LEG_A], left: [] } };
  const { master, effects } = facing(found);
  assert.deepEqual(kinds(effects), ['persist new-term', 'grantable']);
  assert.deepEqual(
    master.pending?.members.map(({ role }) => role),
    ['active', 'faulty'],
  );
  assert.equal(master.pending?.events, found.events + 2);
  assert.equal(master.pending?.missed, undefined, 'nothing says what it lacks');
  const [commit] = master.durable();
  assert.ok(commit?.type === 'commit');
  assert.deepEqual(commit.detail, { member: LEG_B, why: 'member /dev/sdb of md0: it missed 2 commits' });
});

test('a reason that is longer than a commit may carry is cut: what cannot be told would stand on the disks alone', () => {
  const { master } = facing(mirror(), `member /dev/sdb of md0: it missed ${'1, '.repeat(90)}commits`);
  const [commit] = master.durable();
  assert.ok(commit?.type === 'commit');
  const { record, kind, before, detail } = commit;
  assert.match(detail.why ?? '', /^member .*…$/);
  EventBody.parse({ type: 'commit', kind, record, before, detail, certificate: [] });
});

test('what has missed several commits and cannot be done without keeps the array held', () => {
  const { effects } = facing(withFaulty(mirror(), LEG_A));
  assert.deepEqual(kinds(effects), ['notice', 'grantable']);
  assert.match(JSON.stringify(effects), /it missed 2 commits, and without it nothing would be left; examine it/);
});

test('a stop that one node cannot carry out is taken back, and the answer says why', () => {
  const master = Master.leading();
  master.feed({ type: 'ask', array: ARRAY, change: { what: 'stop' }, requestId: 'r' });
  master.durable();
  const record = master.record ?? mirror();
  const busy = master.feed({
    type: 'report',
    from: 2,
    kernelBoot: bootOf(2),
    agentStart: 1,
    reports: [report(record, { applied: null, trouble: 'md0: stop: in use' })],
  });
  const answer = busy.find((effect) => effect.type === 'answer');
  assert.ok(answer?.type === 'answer' && !answer.ok && answer.text.includes('node 2'));
  assert.equal(master.pending?.run, 'started');
});

test('a stop is answered when every writer is gone, and then the record is clean', () => {
  const master = Master.leading();
  master.feed({ type: 'ask', array: ARRAY, change: { what: 'stop' }, requestId: 'r' });
  master.durable();
  const stopped = master.pending ?? mirror();
  for (const from of [1, 2, 3]) {
    master.feed({
      type: 'applied',
      from,
      array: ARRAY,
      version: stopped.version,
      report: report(stopped, { state: 'absent' }),
    });
  }
  assert.deepEqual(master.pending?.writers, []);
  assert.ok(!master.told.some((effect) => effect.type === 'answer'));
  master.durable();
  master.applied(1, 2, 3);
  assert.ok(master.told.some((effect) => effect.type === 'answer' && effect.ok));

  // What is given back is forgotten, whatever nodes told of it last: a scan would find what is being made of its disks.
  master.feed({ type: 'ask', array: ARRAY, change: { what: 'forget' }, requestId: 'f' });
  const late = master.pending ?? mirror();
  assert.equal(late.givenBack, true);
  master.durable();
  assert.ok(!master.told.some((effect) => effect.type === 'answer' && effect.requestId === 'f'));
  assert.deepEqual(kinds(master.told.slice(-1)), ['give-back'], 'nobody applies it: all have forgotten it');
  // A disk that does not take it: tried again.
  master.feed({ type: 'given-back', array: ARRAY, error: 'EIO' });
  master.now += 1000;
  assert.ok(kinds(master.feed({ type: 'tick' })).includes('give-back'));
  master.feed({ type: 'given-back', array: ARRAY, error: null });
  const answers = master.told.filter((effect) => effect.type === 'answer');
  assert.ok(answers.some(({ requestId, ok }) => requestId === 'f' && ok));
  assert.equal(master.record, null);
  master.reports(late, 1, 2);
  master.now += 600;
  assert.deepEqual(kinds(master.feed({ type: 'tick' })), []);
  // Who was away, and tells of an older commit, is told that it has ended.
  assert.deepEqual(kinds(master.reports(stopped, 3)), ['send-commit']);

  // Adopted again in this term: no version names two commits, and what is being introduced is not taken over from the disks.
  const back = mirror({ writers: [], version: { term: 2, index: 0 } });
  const change = { what: 'introduce', kind: 'adopt', record: back } as const;
  master.feed({ type: 'ask', array: ARRAY, change, requestId: 'a' });
  const version = { term: 2, index: late.version.index + 1 };
  assert.deepEqual(master.pending?.version, version);
  assert.deepEqual(kinds(master.feed(onDisks(back))), []);
  assert.deepEqual(master.pending?.version, version);
  master.durable();
  assert.deepEqual(master.state.arrays.get(ARRAY)?.record?.version, version);
});

test('what was being made when its master died is said to be that, and goes when its disks are used for something else', () => {
  const master = new Master();
  master.alive(1, 2, 3);
  master.feed({ type: 'elected', term: 2 });
  const half = mirror({ writers: [], version: { term: 1, index: 0 } });
  master.reports(half, 1, 2, 3);
  master.feed({ type: 'disks', found: onDisks(half).found.map((each) => ({ ...each, unseen: [LEG_B] })) });
  assert.equal(master.pending, null);
  assert.match(master.state.arrays.get(ARRAY)?.trouble ?? '', /was being created or adopted, .* ask for that again/);
  master.feed({ type: 'disks', found: [] });
  assert.equal(master.state.arrays.has(ARRAY), false);
});

test('an exclusive array moves to the master when its owner is gone', () => {
  const found = mirror({ access: 'exclusive', owner: 2, writers: [2], level: 'raid1' });
  const master = Master.leading(found);
  master.feed({ type: 'status', node: 2, status: 'dead' }, { type: 'fenced', node: 2, stopped: true, text: 'off' });
  assert.equal(master.pending?.owner, 1);
  assert.deepEqual(master.pending?.resync, copy(1, 7));
});

test('a metadata write that fails on one leg makes that leg faulty', () => {
  const master = Master.leading();
  master.feed({
    type: 'ask',
    array: ARRAY,
    change: {
      what: 'add',
      member: { uuid: SPARE, devNumber: 2, role: 'spare', slot: null, dataOffsetSectors: 2048, dataSizeSectors: 1000 },
    },
    requestId: null,
  });
  master.durable([LEG_B]);
  const next = master.applied(1, 2, 3);
  assert.ok(kinds(next).includes('persist fail'));
});

test('an acknowledgement that was lost on the way is made up for by the next report', () => {
  const master = Master.leading();
  master.feed({ type: 'observation', from: 3, observation: { what: 'member-faulty', array: ARRAY, member: LEG_B } });
  master.durable();
  master.applied(1, 3);
  const record = master.record ?? mirror();
  const effects = master.feed({
    type: 'report',
    from: 2,
    kernelBoot: bootOf(2),
    agentStart: 1,
    reports: [report(record)],
  });
  assert.equal(kinds(effects)[0], 'released');
});

test('a restarted agent that remembers the version from its journal is sent the record all the same', () => {
  const master = Master.leading();
  const record = master.record ?? mirror();
  const reports = [report(record, { applied: null, state: 'absent' })];
  const effects = master.feed({ type: 'report', from: 3, kernelBoot: bootOf(3), agentStart: 1, reports });
  assert.deepEqual(
    effects.filter((effect) => effect.type === 'send-commit').map((effect) => effect.to),
    [3],
  );
});

test('an array that is stopped in the middle of a copy comes to rest: who copies leaves once', () => {
  const master = Master.leading(mirror({ resync: copy(1, 3) }));
  master.feed({ type: 'ask', array: ARRAY, change: { what: 'stop' }, requestId: 'r' });
  master.durable();
  const gone = (): MasterEffect[] => {
    const version = master.pending?.version;
    if (version === undefined) return [];
    const stopped = master.pending ?? mirror();
    return [1, 2, 3].flatMap((from) =>
      master.feed({ type: 'applied', from, array: ARRAY, version, report: report(stopped, { state: 'absent' }) }),
    );
  };
  gone();
  assert.deepEqual(master.pending?.writers, []);
  master.durable();
  gone();
  assert.deepEqual([master.pending, master.record?.resync?.by], [null, 1]);
});

test('a stopped record is not called clean while a writer may still have the array', () => {
  const master = Master.leading();
  master.feed({ type: 'ask', array: ARRAY, change: { what: 'stop' }, requestId: 'r' });
  master.durable();
  const stopped = master.pending ?? mirror();
  for (const from of [1, 3]) {
    master.feed({
      type: 'applied',
      from,
      array: ARRAY,
      version: stopped.version,
      report: report(stopped, { state: 'absent' }),
    });
  }
  assert.deepEqual(master.record?.writers, [1, 2, 3], 'node 2 has not said that it is gone');
  assert.equal(master.pending?.version.index, stopped.version.index);
});

test('without auto_assemble an array that nobody runs stays stopped under a new master', () => {
  for (const [writers, run] of [
    [[], 'stopped'],
    [[2], 'started'],
  ] as [number[], string][]) {
    const master = new Master();
    master.state = masterStart(1, { ...MASTER_CONFIG, autoAssemble: false });
    master.alive(1, 2, 3);
    master.feed({ type: 'elected', term: 2 });
    master.feed(onDisks(mirror({ writers })));
    assert.equal(master.pending?.run, run, `writers ${writers.join()}`);
  }
});

test('a master that has just come back to a majority gives the others time to come back too', () => {
  const master = new Master();
  master.alive(1, 2, 3);
  master.feed({ type: 'status', node: 2, status: 'dead' }, { type: 'status', node: 3, status: 'dead' });
  master.now += 60_000;
  master.alive(3);
  master.feed({ type: 'elected', term: 2 });
  master.reports(mirror(), 1, 3);
  const found = master.feed(onDisks(mirror()));
  assert.ok(!kinds(found).includes('fence'), 'it was cut off itself: node 2 may be on its way back');
  master.now += 2000;
  assert.ok(!kinds(master.feed({ type: 'tick' })).includes('fence'));
  master.now += 2000;
  assert.ok(kinds(master.feed({ type: 'tick' })).includes('fence'));
});

test('a check is due when the last one is old, within its hours, for an array that is whole and at rest', () => {
  const schedule = { everySeconds: 1000, fromMinute: 60, toMinute: 300 };
  const wall = { seconds: 1001, minuteOfDay: 100 };
  const due = (fields = {}, at = {}, by = {}) => checkDue(mirror(fields), { ...schedule, ...by }, { ...wall, ...at });
  assert.equal(due(), true, 'counted from its creation');
  assert.equal(due({}, { seconds: 1000 }), false);
  assert.equal(due({ lastCheck: { atSeconds: 2, mismatchSectors: null } }), false, 'from the last one');
  assert.equal(due({}, {}, { everySeconds: null }), false, 'never');
  for (const [minuteOfDay, night, overMidnight] of [
    [59, false, true],
    [60, true, false],
    [299, true, false],
    [300, false, true],
    [0, false, true],
  ] as const) {
    assert.equal(due({}, { minuteOfDay }), night, `${minuteOfDay}`);
    assert.equal(due({}, { minuteOfDay }, { fromMinute: 300, toMinute: 60 }), overMidnight, `${minuteOfDay}`);
  }
  assert.equal(due({}, {}, { fromMinute: 7, toMinute: 7 }), true, 'at any time');
  assert.equal(due({ resync: copy(1, 5) }), false, 'copied');
  assert.equal(checkDue(withFaulty(mirror(), LEG_B), schedule, wall), false, 'degraded');
  assert.equal(due({ level: 'raid0' }), false, 'no copies');
  assert.equal(due({ run: 'stopped' }), false);
  assert.equal(due({ writers: [] }), false);
  assert.equal(checkDue(mirror(), schedule, null), false, 'no clock');
});

test('the master begins due checks one after the other, and the record keeps what each has found', () => {
  const master = new Master();
  const other = '00000000-0000-4000-8000-000000000002';
  const lead = (found: ArrayRecord[]): void => {
    for (const node of [1, 2, 3]) master.feed({ type: 'status', node, status: 'alive' });
    master.feed({ type: 'elected', term: 2 });
    const reports = found.map((record) => report(record));
    for (const from of [1, 2, 3])
      master.feed({ type: 'report', from, kernelBoot: bootOf(from), agentStart: 1, reports });
    master.feed(onDisks(...found));
  };
  master.state = { ...master.state, checks: { everySeconds: 1000, fromMinute: 0, toMinute: 0 } };
  lead([mirror(), mirror({ uuid: other, md: 'md1' })]);
  const settle = (uuid: string): ArrayRecord => {
    const pending = master.state.arrays.get(uuid)?.pending?.record;
    assert.ok(pending !== undefined);
    const { version } = pending;
    master.feed({ type: 'persisted', array: uuid, version, written: true, failed: [], text: '' });
    for (const from of [1, 2, 3]) {
      master.feed({ type: 'applied', from, array: uuid, version, report: report(pending) });
    }
    return pending;
  };
  settle(ARRAY);
  settle(other);
  const copies = () =>
    [...master.state.arrays.values()].map(({ record, pending }) => (pending?.record ?? record)?.resync?.kind);
  assert.deepEqual(copies(), [undefined, undefined]);
  master.feed({ type: 'wall', wall: { seconds: 5000, minuteOfDay: 0 } });
  assert.deepEqual(copies(), ['check', undefined], 'one array at a time');
  const since = settle(ARRAY).resync?.since ?? 0;
  const observation = { what: 'resync-done', array: ARRAY, since, mismatchSectors: 8 } as const;
  master.feed({ type: 'observation', from: 1, observation });
  assert.deepEqual(settle(ARRAY).lastCheck, { atSeconds: 5000, mismatchSectors: 8 });
  assert.deepEqual(copies(), [undefined, 'check']);
  assert.ok(master.told.some((effect) => effect.type === 'notice' && effect.name === 'MismatchesFound'));
  // Called off: not begun again the minute after.
  settle(other);
  master.feed({ type: 'ask', array: other, change: { what: 'action', action: 'idle' }, requestId: null });
  assert.deepEqual(settle(other).lastCheck, { atSeconds: 5000, mismatchSectors: null });
  master.feed({ type: 'wall', wall: { seconds: 5060, minuteOfDay: 1 } });
  assert.deepEqual(copies(), [undefined, undefined]);
});

test('of two legs that fail while another commit is under way, one is given up, and the other is not remembered as failed', () => {
  const words: MasterInput[][] = [
    [LEG_A, LEG_B].map((member) => ({
      type: 'observation',
      from: 3,
      observation: { what: 'member-faulty', array: ARRAY, member },
    })),
    [
      {
        type: 'report',
        from: 3,
        kernelBoot: bootOf(3),
        agentStart: 1,
        reports: [report(mirror(), { lost: [LEG_A, LEG_B] })],
      },
    ],
  ];
  for (const told of words) {
    const master = Master.leading();
    master.feed({ type: 'ask', array: ARRAY, change: { what: 'sync-limit', limitKib: 9 }, requestId: null });
    master.durable();
    master.feed(...told);
    assert.deepEqual(master.state.arrays.get(ARRAY)?.faults, [LEG_A]);
  }
});

test('a node that was cut off, held its writes in time and was evicted is granted writes only when it knows that it was', () => {
  const master = Master.leading();
  const before = master.record ?? mirror();
  master.feed({ type: 'status', node: 3, status: 'dead' });
  master.feed({ type: 'fenced', node: 3, stopped: true, text: 'its promise has ended' });
  assert.deepEqual(master.pending?.writers, [1, 2]);
  master.durable();
  master.applied(1, 2);
  assert.deepEqual(master.state.grantable, [1, 2]);
  // It was never reset: by the last record that it knows, released long ago, it is a writer.
  master.alive(3);
  assert.deepEqual(master.state.grantable, [1, 2], 'it has said nothing yet');
  const back = master.feed({
    type: 'report',
    from: 3,
    kernelBoot: bootOf(3),
    agentStart: 1,
    reports: [report(before, { state: 'held' })],
  });
  assert.deepEqual(kinds(back), ['send-commit']);
  assert.deepEqual(master.state.grantable, [1, 2]);
  const evicted = master.record ?? mirror();
  master.feed({
    type: 'report',
    from: 3,
    kernelBoot: bootOf(3),
    agentStart: 1,
    reports: [report(evicted, { state: 'held', applied: before.version })],
  });
  assert.deepEqual(master.state.grantable, [1, 2, 3]);
});

test('a new master grants writes to nobody who may have missed what it found on the disks, be it itself', () => {
  const master = new Master();
  master.alive(1, 2, 3);
  master.feed({ type: 'elected', term: 2 });
  // Node 1 was counted as stopped under the last master, which ended before it could write that down.
  const missed = withFaulty(mirror({ version: { term: 1, index: 6 } }), LEG_B);
  master.reports(mirror(), 1);
  master.reports(missed, 2, 3);
  assert.deepEqual(master.state.grantable, [], 'the disks were not read yet');
  master.feed(onDisks(missed));
  assert.deepEqual(master.state.grantable, [2, 3]);
  master.reports(missed, 1);
  assert.deepEqual(master.state.grantable, [1, 2, 3]);
});

/** Three members, of which the last has failed: none of the others can be done without. */
function degradedParity(fields: Partial<ArrayRecord> = {}): ArrayRecord {
  const [first] = mirror().members;
  assert.ok(first !== undefined);
  const third = { ...first, uuid: SPARE, devNumber: 2, role: 'faulty' as const, slot: 2 };
  return mirror({ level: 'raid5', chunkSectors: 128, raidDisks: 3, members: [...mirror().members, third], ...fields });
}

test('a member that is needed and takes no commit is named in the next ones, with the last that it may have', () => {
  const master = Master.leading(degradedParity({ access: 'exclusive', owner: 1, writers: [1] }));
  const limit = (requestId: string, limitKib: number): ArrayRecord | null => {
    master.feed({ type: 'ask', array: ARRAY, change: { what: 'sync-limit', limitKib }, requestId });
    return master.pending;
  };
  const first = limit('a', 1000);
  assert.equal(first?.unreached, undefined);
  master.durable([LEG_B]);
  master.applied(1);
  const had = (first?.version.index ?? 0) - 1;
  assert.deepEqual(limit('b', 2000)?.unreached, [{ uuid: LEG_B, since: had }]);
  master.durable([LEG_B]);
  master.applied(1);
  assert.deepEqual(limit('c', 3000)?.unreached, [{ uuid: LEG_B, since: had }], 'not one further');
  master.durable();
  master.applied(1);
  assert.equal(limit('d', 4000)?.unreached, undefined, 'it has all again');
});

test('a needed member that has not taken its predecessor’s last commit lacks that still when it takes none of the new master', () => {
  const found = degradedParity({ access: 'exclusive', owner: 1, writers: [1] });
  const master = new Master();
  master.alive(1, 2, 3);
  master.feed({ type: 'elected', term: 2 });
  master.reports(found, 1, 2, 3);
  const since = found.version.index - 1;
  const behind = new Map([[LEG_B, since]]);
  master.feed({ type: 'disks', found: onDisks(found).found.map((each) => ({ ...each, behind })) });
  assert.deepEqual(master.pending?.unreached, [{ uuid: LEG_B, since }]);
  master.durable([LEG_B]);
  master.applied(1);
  master.feed({ type: 'ask', array: ARRAY, change: { what: 'sync-limit', limitKib: 1000 }, requestId: 'a' });
  assert.deepEqual(master.pending?.unreached, [{ uuid: LEG_B, since }], 'not one commit more');
});

test('a new master names a needed member that it does not see, as its predecessor did or one commit back', () => {
  for (const [unreached, since] of [
    [undefined, 4],
    [[{ uuid: LEG_B, since: 2 }], 2],
  ] as const) {
    const found = degradedParity({
      access: 'exclusive',
      owner: 1,
      writers: [1],
      ...(unreached && { unreached: [...unreached] }),
    });
    const master = new Master();
    master.alive(1, 2, 3);
    master.feed({ type: 'elected', term: 2 });
    master.reports(found, 1, 2, 3);
    master.feed({ type: 'disks', found: onDisks(found).found.map((each) => ({ ...each, unseen: [LEG_B] })) });
    assert.deepEqual(master.pending?.unreached, [{ uuid: LEG_B, since }]);
  }
});

/** What it says to a request. */
function answerTo(master: Master, change: Change): string {
  const requestId = `r${master.told.length}`;
  master.feed({ type: 'ask', array: ARRAY, change, requestId });
  const answer = master.told.find((effect) => effect.type === 'answer' && effect.requestId === requestId);
  return answer?.type === 'answer' && !answer.ok ? answer.text : '';
}

test('a degraded parity array has nothing to compare', () => {
  const master = Master.leading(degradedParity({ access: 'exclusive', owner: 2, writers: [2] }));
  const refused = answerTo(master, { what: 'action', action: 'check' });
  assert.match(refused, /2 of 3 members in sync: there is nothing to compare/);
});

/** Node 2 has crashed as it wrote to it, and that is committed. */
function doubtful(fields: Partial<ArrayRecord> = {}): Master {
  const master = Master.leading(degradedParity({ access: 'exclusive', owner: 2, writers: [2], ...fields }));
  master.feed({ type: 'status', node: 2, status: 'dead' }, { type: 'fenced', node: 2, stopped: true, text: 'off' });
  master.durable();
  master.applied(1);
  return master;
}

const holdsAll = (record: ArrayRecord | null) => report(record ?? mirror(), { state: 'held' });

test('the writer of a degraded parity array crashes: nobody is let in before an operator says so, also in the next term', () => {
  const master = doubtful();
  const told = master.told.find((effect) => effect.type === 'notice' && effect.name === 'ParityInDoubt');
  assert.deepEqual(told?.type === 'notice' && [told.severity, told.detail], ['critical', { node: 2, missing: 1 }]);
  for (const term of [2, 3]) {
    if (term === 3) {
      const found = master.record ?? mirror();
      master.feed({ type: 'lost' }, { type: 'elected', term });
      master.reports(found, 1, 3);
      master.feed(onDisks(found));
      master.durable();
      master.applied(1);
    }
    assert.deepEqual([master.record?.owner, master.record?.writers, master.record?.parityInDoubt], [1, [], true]);
    const reports = [holdsAll(master.record)];
    master.feed({ type: 'report', from: 1, kernelBoot: bootOf(1), agentStart: 1, reports });
    assert.equal(master.pending, null, 'nobody is admitted');
    assert.match(answerTo(master, { what: 'start' }), /nobody wrote.*mdmesh assemble --force md0/);
    assert.match(answerTo(master, { what: 'bitmap', bitmap: null }), /mdmesh assemble --force md0/);
  }
  answerTo(master, { what: 'start', force: true });
  assert.equal(master.pending?.parityInDoubt, undefined);
  master.durable();
  master.applied(1);
  const reports = [holdsAll(master.record)];
  master.feed({ type: 'report', from: 1, kernelBoot: bootOf(1), agentStart: 1, reports });
  assert.deepEqual(master.pending?.writers, [1]);
});

test('a member fails before the resync after a crash has ended: its writer goes on, as with md, and nobody else begins', () => {
  const members = degradedParity().members.map((member) => ({ ...member, role: 'active' as const }));
  const at: Partial<ArrayRecord> = { access: 'exclusive', owner: 2, writers: [2], members };
  const failing = (afterCrash: { afterCrash?: true }) => {
    const master = Master.leading(degradedParity({ ...at, resync: { ...wholeCopy('resync', 2, 3), ...afterCrash } }));
    const asked = answerTo(master, { what: 'fail', member: SPARE });
    if (asked === '') return { master, asked };
    master.feed({ type: 'observation', from: 2, observation: { what: 'member-faulty', array: ARRAY, member: SPARE } });
    return { master, asked };
  };
  assert.equal(failing({}).master.pending?.parityInDoubt, undefined, 'of a new array nothing is in doubt');
  const { master, asked } = failing({ afterCrash: true });
  assert.match(asked, /its parity is not right again yet; wait for that \(mdmesh wait md0\)/);
  assert.deepEqual([master.pending?.parityInDoubt, master.pending?.writers, master.pending?.resync], [true, [2], null]);
  master.durable();
  master.applied(1, 2);
  const told = master.told.find((effect) => effect.type === 'notice' && effect.name === 'ParityInDoubt');
  assert.deepEqual(told?.type === 'notice' && told.detail, { missing: 1 });
  const goneBy = (record: ArrayRecord | null) => [record?.writers, record?.parityInDoubt];
  master.feed({ type: 'leaving', node: 2, agentStart: 1 });
  const reports = [holdsAll(master.record)];
  master.feed({ type: 'report', from: 2, kernelBoot: bootOf(2), agentStart: 1, reports });
  assert.deepEqual(goneBy(master.pending), [[], true], 'it has left in order, and the doubt stays');
});

test('what was in doubt is, if wrong, the same on all as soon as the array is filled', () => {
  const [first, second, third] = degradedParity().members;
  assert.ok(first && second && third);
  const members = [first, second, { ...third, role: 'rebuilding' as const }];
  const resync = wholeCopy('recovery', 2, 3);
  const found = degradedParity({ access: 'exclusive', owner: 2, writers: [2], members, resync, parityInDoubt: true });
  const master = Master.leading(found);
  const since = master.record?.resync?.since ?? 0;
  const done = { what: 'resync-done' as const, array: ARRAY, since, mismatchSectors: null };
  master.feed({ type: 'observation', from: 2, observation: done });
  assert.deepEqual([master.pending?.members[2]?.role, master.pending?.parityInDoubt], ['active', undefined]);
});

test('what was being filled waits with it; a writer that leaves in order leaves no doubt, nor does the crash of one of whole parity', () => {
  const [first, second, third] = degradedParity().members;
  assert.ok(first && second && third);
  const filled = { ...third, role: 'rebuilding' as const };
  const resync = wholeCopy('recovery', 2, 3);
  const { record } = doubtful({ members: [first, second, filled], resync });
  assert.deepEqual([record?.resync, record?.members[2]?.role, record?.parityInDoubt], [null, 'spare', true]);
  const whole = doubtful({ members: [first, second, { ...third, role: 'active' }] });
  assert.deepEqual([whole.record?.resync?.afterCrash, whole.record?.parityInDoubt], [true, undefined]);
  const ordered = Master.leading(degradedParity({ access: 'exclusive', owner: 2, writers: [2] }));
  ordered.feed({ type: 'leaving', node: 2, agentStart: 1 });
  const reports = [holdsAll(ordered.record)];
  ordered.feed({ type: 'report', from: 2, kernelBoot: bootOf(2), agentStart: 1, reports });
  assert.deepEqual([ordered.pending?.writers, ordered.pending?.parityInDoubt], [[], undefined]);
});
