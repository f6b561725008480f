/** The node's side: when gates are answered, when writes pass, who copies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { LocalEffect, LocalInput, LocalOp } from '../../src/arrays/local_state.ts';
import { heldForFailure } from '../../src/arrays/may_pass.ts';
import { reportOf } from '../../src/arrays/report.ts';
import type { ArrayObservation } from '../../src/md/driver.ts';
import {
  ARRAY,
  BITMAPS,
  bootOf,
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
  unread,
  withFaulty,
} from './arrays_fixture.ts';

class Node extends FedNode {
  ops(effects: LocalEffect[]): string[] {
    return effects.flatMap((effect) =>
      effect.type === 'perform' ? [effect.op.op] : effect.type === 'answer-gates' ? ['answer-gates'] : [],
    );
  }
  /** Node 2, a writer of the mirror with a live grant, its array open under a released record. */
  static writing(record = mirror(), seen = md()): Node {
    const node = new Node();
    node.feed(
      { type: 'paths', paths: PATHS },
      { type: 'master', term: 1, node: 1 },
      { type: 'grant', untilMs: 10_000 },
      { type: 'commit', record, forgotten: false },
      { type: 'observed', array: ARRAY, observation: seen },
      { type: 'released', array: ARRAY, version: record.version },
    );
    return node;
  }
}

const START: LocalOp = {
  op: 'start-copy',
  copy: { kind: 'resync', fromSector: 0, toSector: null },
  since: 5,
  foundBefore: 0,
};

function windowsIn(effects: LocalEffect[]) {
  return effects.filter((effect) => effect.type === 'send-window');
}

/** LEG_B has failed, and its gates are answered. */
function withoutGates(fields: Partial<ArrayObservation>): ArrayObservation {
  const seen = md({ ...fields, arrayState: 'active', writePending: false }, LEG_B);
  return { ...seen, members: seen.members.map((member) => ({ ...member, blocked: false })) };
}

test('a leg fails here: it is told to the master, and the gates stay closed until the failure is released', () => {
  const record = mirror();
  const node = Node.writing(record);
  const seen = node.feed({ type: 'observed', array: ARRAY, observation: md({}, LEG_B) });
  assert.deepEqual(
    seen.filter((effect) => effect.type === 'submit').map((effect) => effect.observation),
    [{ what: 'member-faulty', array: ARRAY, member: LEG_B }],
  );
  assert.deepEqual(node.ops(seen), []);

  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  const committed = node.feed({ type: 'commit', record: failed, forgotten: false });
  assert.ok(committed.some((effect) => effect.type === 'applied' && effect.version.index === 6));
  assert.deepEqual(node.ops(committed), [], 'committed, but another node may still read the stale leg');

  const released = node.feed({ type: 'released', array: ARRAY, version: failed.version });
  assert.deepEqual(node.ops(released), ['answer-gates']);
});

test('left out, with a closed gate and no leg that still is one: nobody answers that gate any more, and the node says so', () => {
  const record = mirror();
  const node = Node.writing(record);
  node.feed({ type: 'observed', array: ARRAY, observation: md({}, LEG_B) });
  const [leg] = record.members;
  assert.ok(leg !== undefined);
  const others = newer(record, { writers: [1, 3], members: [{ ...leg, uuid: SPARE }] });
  const said = node.feed({ type: 'commit', record: others, forgotten: false });
  assert.deepEqual(node.ops(said), []);
  assert.match(said.flatMap((effect) => (effect.type === 'trouble' ? [effect.text] : [])).join(), /or reboot the node/);
});

test('a release of an older record opens nothing', () => {
  const record = mirror();
  const node = Node.writing(record);
  node.feed({ type: 'observed', array: ARRAY, observation: md({}, LEG_B) });
  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  node.feed({ type: 'commit', record: failed, forgotten: false });
  const again = node.feed({ type: 'released', array: ARRAY, version: record.version });
  assert.deepEqual(node.ops(again), []);
});

test('without a live grant no gate is answered, and an open array is held', () => {
  const node = Node.writing();
  node.now = 10_001;
  const gate = node.feed({
    type: 'observed',
    array: ARRAY,
    observation: md({ writePending: true, arrayState: 'write-pending' }),
  });
  assert.deepEqual(node.ops(gate), []);
  const open = node.feed({ type: 'observed', array: ARRAY, observation: md() });
  assert.deepEqual(node.ops(open), ['hold']);
});

test('the failure of another node reaches this md drained, and is acknowledged only once md shows it', () => {
  const record = mirror();
  const node = Node.writing(record);
  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  const committed = node.feed({ type: 'commit', record: failed, forgotten: false });
  assert.deepEqual(node.ops(committed), ['hold'], 'a write between the choice of its legs and their submission');
  assert.ok(!committed.some((effect) => effect.type === 'applied'));
  const held = node.feed(
    { type: 'observed', array: ARRAY, observation: md({ held: true }) },
    { type: 'done', array: ARRAY, op: { op: 'hold' }, error: null },
  );
  assert.deepEqual(node.ops(held), ['set-faulty']);
  assert.ok(!held.some((effect) => effect.type === 'applied'));
  const done = node.feed(
    { type: 'observed', array: ARRAY, observation: md({ held: true }, LEG_B) },
    { type: 'done', array: ARRAY, op: { op: 'set-faulty', member: LEG_B }, error: null },
  );
  assert.ok(done.some((effect) => effect.type === 'applied' && effect.version.index === 6));
  assert.deepEqual(node.ops(done), ['answer-gates'], 'nothing is in flight: no write waits for the answer');
  const released = node.feed({ type: 'released', array: ARRAY, version: failed.version });
  assert.deepEqual(node.ops(released), [], 'opening drains: not under a closed gate');
  const answered = node.feed(
    { type: 'observed', array: ARRAY, observation: withoutGates({ held: true }) },
    { type: 'gates-done', array: ARRAY, error: null },
  );
  assert.deepEqual(node.ops(answered), ['open']);
});

test('gates that were answered under a hold let no write through before the release', () => {
  const record = mirror();
  const node = Node.writing(record);
  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  node.feed(
    { type: 'commit', record: failed, forgotten: false },
    { type: 'observed', array: ARRAY, observation: md({ held: true }) },
    { type: 'done', array: ARRAY, op: { op: 'hold' }, error: null },
    { type: 'observed', array: ARRAY, observation: md({ held: true }, LEG_B) },
    { type: 'done', array: ARRAY, op: { op: 'set-faulty', member: LEG_B }, error: null },
  );
  const answered = node.feed(
    { type: 'observed', array: ARRAY, observation: withoutGates({ held: true }) },
    { type: 'gates-done', array: ARRAY, error: null },
  );
  assert.deepEqual(node.ops(answered), []);
  assert.deepEqual(node.ops(node.feed({ type: 'released', array: ARRAY, version: failed.version })), ['open']);
});

test('told of a failure elsewhere, a node drains its writes before the commit; once, and not for long', () => {
  const record = mirror();
  const node = Node.writing(record);
  assert.deepEqual(node.ops(node.feed({ type: 'failure-told', array: ARRAY, member: LEG_B })), ['hold']);
  const held = node.feed(
    { type: 'observed', array: ARRAY, observation: md({ held: true }) },
    { type: 'done', array: ARRAY, op: { op: 'hold' }, error: null },
  );
  assert.deepEqual(node.ops(held), [], 'nothing is failed that is not committed');
  assert.ok(!held.some(({ type }) => type === 'report'), 'the master hears it with what is applied');
  const array = node.state.arrays.get(ARRAY);
  assert.ok(array !== undefined && heldForFailure(node.state, array, node.now));
  node.now += 1000;
  assert.deepEqual(node.ops(node.feed({ type: 'tick' })), ['open'], 'a commit that never comes');
  node.feed(
    { type: 'observed', array: ARRAY, observation: md() },
    { type: 'done', array: ARRAY, op: { op: 'open' }, error: null },
  );
  assert.deepEqual(node.ops(node.feed({ type: 'failure-told', array: ARRAY, member: LEG_B })), [], 'told again');
});

test('told of a failure elsewhere and then of its commit, a node fails the leg at once', () => {
  const record = mirror();
  const node = Node.writing(record);
  node.feed({ type: 'failure-told', array: ARRAY, member: LEG_B });
  node.feed(
    { type: 'observed', array: ARRAY, observation: md({ held: true }) },
    { type: 'done', array: ARRAY, op: { op: 'hold' }, error: null },
  );
  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  assert.deepEqual(node.ops(node.feed({ type: 'commit', record: failed, forgotten: false })), ['set-faulty']);
});

test('a removed member that md still uses is failed drained, too', () => {
  const record = mirror();
  const node = Node.writing(record);
  const without = newer(record, { members: record.members.filter((member) => member.uuid !== LEG_B) });
  assert.deepEqual(node.ops(node.feed({ type: 'commit', record: without, forgotten: false })), ['hold']);
});

test('under a closed gate a committed failure is applied at once: the gate holds, and a suspend would never drain', () => {
  const record = mirror();
  const node = Node.writing(record);
  node.feed({ type: 'observed', array: ARRAY, observation: md({ writePending: true, arrayState: 'write-pending' }) });
  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  assert.deepEqual(node.ops(node.feed({ type: 'commit', record: failed, forgotten: false })), ['set-faulty']);
});

test('an array is opened only as a writer of a released record', () => {
  const record = mirror({ writers: [1] });
  const node = Node.writing(record, unread(md({ held: true })));
  const admitted = newer(record, mirror({ writers: [1, 2], version: { term: 1, index: 6 } }));
  const committed = node.feed({ type: 'commit', record: admitted, forgotten: false });
  assert.deepEqual(node.ops(committed), [], 'admitted, not released');
  const released = node.feed({ type: 'released', array: ARRAY, version: admitted.version });
  assert.deepEqual(
    node.ops(released),
    ['let-read'],
    'to open it drains, and what waits to be read would be waited for',
  );
  const read = node.feed(observed(md({ held: true })), done({ op: 'let-read' }));
  assert.deepEqual(node.ops(read), ['open']);
});

test("left out before the drain of its grant's end was over, which waits for reads that are held: the array is had anew", () => {
  const record = mirror({ writers: [1, 3] });
  const outside = (seen: ArrayObservation): string[] => {
    const node = Node.writing(record, unread(md({ held: true })));
    return node.ops(node.feed(observed(seen)));
  };
  assert.deepEqual(outside(unread(md())), ['stop']);
  assert.deepEqual(outside(md()), ['hold'], 'what is on its way ends by itself');
  assert.deepEqual(outside(unread(md({ held: true }))), [], 'it has ended');
  const copying = { held: true, syncCompleted: { doneSectors: 0, totalSectors: 100 } };
  assert.deepEqual(
    outside(unread(md(copying))),
    ['stop'],
    'writes have, and a copy of its own waits for the same reads',
  );
  assert.deepEqual(outside(md(copying)), ['hold-reads'], 'that one ends by itself');
  const stale = unread(md());
  const [old, filled] = stale.members;
  assert.ok(old !== undefined && filled !== undefined);
  const last = {
    ...stale,
    members: [
      { ...old, uuid: SPARE },
      { ...filled, inSync: false, rebuilding: true },
    ],
  };
  assert.deepEqual(outside(last), ['stop'], 'md would not let go of the last that it has in sync');
  const within = Node.writing(mirror(), unread(md()));
  assert.ok(!within.ops(within.feed({ type: 'tick' })).includes('stop'), 'a writer reads again first');
});

test('a copy that has been told to end and waits for reads that are held: without a grant nobody waits for it', () => {
  const node = Node.writing(mirror({ writers: [1, 3] }), unread(md({ held: true })));
  node.now += 60_000;
  const copying = md({ held: true, syncCompleted: { doneSectors: 0, totalSectors: 100 } });
  assert.deepEqual(node.ops(node.feed(observed(unread(copying)))), []);
  assert.deepEqual(node.ops(node.feed(observed(unread({ ...copying, syncAction: 'check' })))), ['freeze']);
});

test('a gate whose answer the driver has refused is answered again a moment later, not at once', () => {
  const node = Node.writing(withFaulty(mirror(), LEG_B), md({}, LEG_B));
  const refused = {
    type: 'gates-done',
    array: ARRAY,
    error: { code: 'EAGAIN', text: 'sda has failed meanwhile' },
  } as const;
  assert.deepEqual(node.ops(node.feed(refused)), []);
  node.now += 20;
  assert.deepEqual(node.ops(node.feed({ type: 'tick' })), ['answer-gates']);
});

test('a disk of which this core knows was missed by a look that somebody else took at the disks: it is looked for again', () => {
  const node = Node.writing();
  const op: LocalOp = { op: 'attach-rebuilding', member: LEG_B, record: mirror(), fromSector: 0, since: 5 };
  const error = { code: 'ENOENT', text: 'no disk here with member' };
  const effects = node.feed({ type: 'done', array: ARRAY, op, error });
  assert.ok(effects.some(({ type }) => type === 'rescan'));
});

test('what may be read is not let go, for a copy waits that must not go on: after a while the node says that it is stuck', () => {
  const node = Node.writing(mirror(), unread(md({ held: true })));
  const refusal = { code: 'EBUSY', text: 'a copy waits, and must not go on' };
  const after = (ms: number): boolean => {
    node.now += ms;
    return node
      .feed(
        { type: 'grant', untilMs: node.now + 5000 },
        { type: 'done', array: ARRAY, op: { op: 'let-read' }, error: refusal },
      )
      .some(({ type }) => type === 'stuck');
  };
  assert.deepEqual([after(0), after(14_000), after(2000)], [false, false, true]);
});

test('a spare that this node has not seen is looked for again, now and then', () => {
  const node = Node.writing(
    mirror({ members: [...mirror().members, { ...SPARE_MEMBER, uuid: '00000000-0000-4000-8000-00000000000d' }] }),
  );
  const looks = (ms: number): boolean => {
    node.now += ms;
    return node.feed({ type: 'tick' }).some(({ type }) => type === 'rescan');
  };
  assert.deepEqual([looks(1000), looks(4000), looks(1000)], [false, true, false]);
});

test('a member whose path was lost as the disks were looked at is looked for again when its path is back', () => {
  const node = Node.writing();
  const looks = (): boolean =>
    node.feed(done({ op: 'restore-path', member: LEG_B })).some(({ type }) => type === 'rescan');
  const { paths } = node.state;
  assert.equal(looks(), false);
  node.feed({ type: 'paths', paths: new Map([...paths].filter(([uuid]) => uuid !== LEG_B)) });
  assert.equal(looks(), true);
});

test('what was ordered of md does not end, and others wait for this node: after a while they must not', () => {
  const record = mirror();
  const node = Node.writing(record);
  node.feed({ type: 'commit', record: newer(withFaulty(record, LEG_B), {}), forgotten: false });
  assert.equal(node.state.arrays.get(ARRAY)?.busy?.op, 'hold');
  const after = (ms: number): boolean => {
    node.now += ms;
    return node.feed({ type: 'grant', untilMs: node.now + 5000 }).some(({ type }) => type === 'stuck');
  };
  assert.deepEqual([after(0), after(14_000), after(2000)], [false, false, true]);
  node.feed(observed(md({ held: true })), { type: 'done', array: ARRAY, op: { op: 'hold' }, error: null });
  assert.equal(after(14_000), false, 'it has ended: the next may take as long');
});

test('a writer that has failed, by its own path, what all others write has the array anew, or says after a while that it is stuck', () => {
  const record = withFaulty(mirror(), LEG_B);
  const node = Node.writing(record, md({ held: true }, LEG_A));
  const first = node.ops(node.feed({ type: 'tick' }));
  assert.deepEqual([...first, node.state.arrays.get(ARRAY)?.busy?.op], ['stop']);
  const busy = { code: 'EBUSY', text: 'md0 is in use' };
  const isStuck = (): boolean =>
    node
      .feed(
        { type: 'grant', untilMs: node.now + 5000 },
        { type: 'done', array: ARRAY, op: { op: 'stop' }, error: busy },
      )
      .some(({ type }) => type === 'stuck');
  assert.equal(isStuck(), false);
  node.now += 20_000;
  assert.equal(isStuck(), true);
});

test('a gate keeps a writer from applying what its answer waits for: after a while others must not wait for it', () => {
  const slot = { ...SPARE_MEMBER, role: 'rebuilding' as const, slot: 1 };
  const filled = withFaulty(mirror(), LEG_B);
  const record = { ...filled, members: [...filled.members, slot], resync: copy(1, 6, 'recovery') };
  const [good, other] = md().members;
  assert.ok(good !== undefined && other !== undefined);
  const ahead = { ...other, uuid: SPARE, device: 'sdc', inSync: true };
  const node = Node.writing(mirror());
  const seen = md({ writePending: true, degraded: 1, members: [good, ahead] });
  node.feed(observed(seen), { type: 'commit', record: newer(record, {}), forgotten: false });
  const after = (ms: number): boolean => {
    node.now += ms;
    return node.feed({ type: 'grant', untilMs: node.now + 5000 }).some(({ type }) => type === 'stuck');
  };
  assert.deepEqual([after(0), after(14_000), after(2000)], [false, false, true]);
});

test('a failed spare that is not agreed on keeps no member that is filled out of a slot that the grown array has not here yet', () => {
  const record = mirror({ members: [...mirror().members, SPARE_MEMBER] });
  const [leg] = md().members;
  assert.ok(leg !== undefined);
  const spare = { ...leg, uuid: SPARE, device: 'sdc', slot: null, inSync: false };
  const node = Node.writing(record, md({ members: [...md().members, spare] }));
  const more = '00000000-0000-4000-8000-00000000000d';
  const members = [
    ...record.members,
    { ...SPARE_MEMBER, uuid: more, devNumber: 3, role: 'rebuilding' as const, slot: 2 },
  ];
  const grown = newer(record, { raidDisks: 3, members, resync: copy(1, 6, 'recovery') });
  const seen = md({ writePending: true, members: [...md().members, { ...spare, faulty: true, blocked: true }] });
  node.feed({ type: 'paths', paths: new Map([...PATHS, [more, '/dev/sdd']]) }, observed(seen));
  const told = node.feed({ type: 'commit', record: grown, forgotten: false });
  assert.deepEqual(node.ops(told), []);
  assert.ok(
    told.some(({ type }) => type === 'applied'),
    'the next commit is of that failure',
  );
});

test('what alone is in sync here has failed for all while reads were held: nothing can end that, and others must not wait', () => {
  const filled = withFaulty(mirror(), LEG_A);
  const seen = unread(md());
  const members = seen.members.map((member) =>
    member.uuid === LEG_B ? { ...member, inSync: false, rebuilding: true } : member,
  );
  const node = Node.writing(mirror(), { ...seen, members });
  node.feed({ type: 'commit', record: newer(filled, {}), forgotten: false });
  const refuses = { code: 'EBUSY', text: 'sda is needed' };
  const after = (ms: number): boolean => {
    node.now += ms;
    const { busy } = node.state.arrays.get(ARRAY) ?? {};
    const ended: LocalInput[] = busy == null ? [] : [{ type: 'done', array: ARRAY, op: busy, error: refuses }];
    return node.feed(...ended, { type: 'grant', untilMs: node.now + 5000 }).some(({ type }) => type === 'stuck');
  };
  assert.deepEqual([after(0), after(14_000), after(2000)], [false, false, true]);
});

test('that a commit which gives up a member is applied is said when the journal has it on disk, and not before', () => {
  const record = mirror();
  const node = Node.writing(record);
  node.stores = false;
  const applies = (effects: LocalEffect[]) => effects.some(({ type }) => type === 'applied');
  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  const committed = node.feed({ type: 'commit', record: failed, forgotten: false });
  assert.ok(
    committed.some((effect) => effect.type === 'store' && effect.version.index === failed.version.index),
    'the sync is begun at once',
  );
  node.feed(observed(md({ held: true })), done({ op: 'hold' }));
  const shown = node.feed(observed(withoutGates({ held: true })), done({ op: 'set-faulty', member: LEG_B }));
  assert.ok(!applies(shown), 'all is done but for the journal');
  const array = node.state.arrays.get(ARRAY);
  assert.ok(array !== undefined);
  assert.deepEqual(reportOf(node.state, array, node.now).applied, record.version, 'a report does not say it either');
  assert.ok(!applies(node.feed({ type: 'stored', array: ARRAY, version: record.version })), 'an older one');
  // What follows before that is as good as it.
  const next = newer(failed, { events: 13 });
  assert.ok(!applies(node.feed({ type: 'commit', record: next, forgotten: false })));
  assert.ok(!applies(node.feed({ type: 'stored', array: ARRAY, version: failed.version })));
  assert.ok(applies(node.feed({ type: 'stored', array: ARRAY, version: next.version })));

  const checkpoint = newer(next, { events: 14 });
  assert.ok(applies(node.feed({ type: 'commit', record: checkpoint, forgotten: false })), 'nothing is given up by it');
});

test('whoever is waited for by no commit reads nothing: a node that is left out, has no grant, or leaves', () => {
  const record = mirror();
  const left: [string, (node: Node) => LocalEffect[]][] = [
    ['left out', (node) => node.feed({ type: 'commit', record: newer(record, { writers: [1, 3] }), forgotten: false })],
    ['blind', (node) => node.feed({ type: 'commit', record: newer(record, { blind: [2] }), forgotten: false })],
    ['leaving', (node) => node.feed({ type: 'leave' })],
  ];
  for (const [why, leave] of left) {
    const node = Node.writing(record);
    assert.deepEqual(node.ops(leave(node)), ['hold'], why);
    const held = node.feed(observed(md({ held: true })), done({ op: 'hold' }));
    assert.deepEqual(node.ops(held), ['hold-reads'], `${why}: drained first`);
    const array = node.state.arrays.get(ARRAY);
    assert.ok(array !== undefined);
    assert.equal(reportOf(node.state, array, node.now).state, 'open', `${why}: the master must not count it as gone`);
    const unseen = node.feed(observed(unread(md({ held: true }))), done({ op: 'hold-reads' }));
    assert.deepEqual(node.ops(unseen), [], why);
    const after = node.state.arrays.get(ARRAY);
    assert.ok(after !== undefined);
    assert.equal(reportOf(node.state, after, node.now).state, 'held', why);
  }
});

test('reads go on only with a grant, under the released record, once what that gave up has failed here', () => {
  const record = mirror();
  const node = Node.writing(record);
  node.now = 10_001;
  node.feed(observed(unread(md({ held: true }))));
  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  node.feed({ type: 'commit', record: failed, forgotten: false });
  assert.deepEqual(node.state.arrays.get(ARRAY)?.busy, { op: 'set-faulty', member: LEG_B });
  node.feed({ type: 'released', array: ARRAY, version: failed.version });
  assert.deepEqual(
    node.ops(node.feed({ type: 'grant', untilMs: 20_000 })),
    [],
    'the leg that was given up is still read',
  );
  const seen = withoutGates({ held: true });
  const applied = node.feed(observed(unread(seen)), done({ op: 'set-faulty', member: LEG_B }));
  assert.deepEqual(node.ops(applied), ['release-path'], 'what waits there is read from the other leg');
  const [kept, gone] = unread(seen).members;
  assert.ok(kept !== undefined && gone !== undefined);
  const released = { ...seen, members: [kept, { ...gone, path: 'failing' as const }] };
  assert.deepEqual(node.ops(node.feed(observed(released), done({ op: 'release-path', member: LEG_B }))), ['let-read']);
});

test('a copier that is no writer reads, for commits wait for it; one whose copy waits is not let go on', () => {
  const record = mirror({ writers: [1, 3], resync: copy(2, 5) });
  const node = Node.writing(record, unread(md({ held: true, resyncStartSector: 0 })));
  node.feed({ type: 'tick' });
  assert.deepEqual(node.state.arrays.get(ARRAY)?.pathBusy, { op: 'let-read' });

  const stuck = Node.writing(mirror(), unread(md({ held: true, syncAction: 'resync', resyncStartSector: 0 })));
  stuck.feed({ type: 'tick' });
  assert.equal(stuck.state.arrays.get(ARRAY)?.pathBusy, null);
});

test('another node will copy: reads keep to one leg before the record counts as applied, and what is held stays held', () => {
  const record = mirror();
  const node = Node.writing(record);
  const copying = newer(record, { resync: copy(1, 6) });
  const committed = node.feed({ type: 'commit', record: copying, forgotten: false });
  assert.deepEqual(node.ops(committed), ['resync-start'], 'reads past the mark must come from one leg');
  assert.ok(!committed.some((effect) => effect.type === 'applied'));
  const marked = node.feed(
    { type: 'observed', array: ARRAY, observation: md({ resyncStartSector: 0 }) },
    { type: 'done', array: ARRAY, op: { op: 'resync-start', sector: 0 }, error: null },
  );
  assert.ok(marked.some((effect) => effect.type === 'applied'));

  const held = Node.writing(copying, md({ held: true, resyncStartSector: 0 }));
  assert.deepEqual(held.ops(held.feed({ type: 'tick' })), [], 'where it copies is not known');
  const done = newer(copying, { resync: null });
  held.feed({ type: 'commit', record: done, forgotten: false });
  const cleared = held.feed(
    { type: 'observed', array: ARRAY, observation: md({ held: true }) },
    { type: 'done', array: ARRAY, op: { op: 'resync-start', sector: null }, error: null },
  );
  assert.deepEqual(held.ops(cleared), [], 'held until the end of the copy is released');
  assert.deepEqual(held.ops(held.feed({ type: 'released', array: ARRAY, version: done.version })), ['open']);
});

test('a suspend is never asked for under a closed gate: the gate is answered first', () => {
  const record = mirror();
  const node = Node.writing(record);
  const pending = md({ writePending: true, arrayState: 'write-pending' });
  const gate = node.feed({ type: 'observed', array: ARRAY, observation: pending });
  assert.deepEqual(node.ops(gate), ['answer-gates']);
  const out = newer(record, { writers: [1, 3] });
  const committed = node.feed({ type: 'commit', record: out, forgotten: false });
  assert.deepEqual(node.ops(committed), []);
  const answered = node.feed(
    { type: 'observed', array: ARRAY, observation: md() },
    { type: 'gates-done', array: ARRAY, error: null },
  );
  assert.deepEqual(node.ops(answered), ['hold']);
});

test('the named node copies after the release, tells its end once md is in sync, and freezes md again', () => {
  const record = mirror({ resync: copy(2, 5) });
  const node = new Node();
  const before = node.feed(
    { type: 'paths', paths: PATHS },
    { type: 'master', term: 1, node: 2 },
    { type: 'grant', untilMs: 10_000 },
    { type: 'commit', record, forgotten: false },
    { type: 'observed', array: ARRAY, observation: md({ resyncStartSector: 0 }) },
  );
  assert.deepEqual(node.ops(before), []);
  const released = node.feed({ type: 'released', array: ARRAY, version: record.version });
  assert.deepEqual(node.ops(released), [], 'nobody has said yet that it holds the window');
  const [ask] = windowsIn(released);
  assert.deepEqual([ask?.to, ask?.range], [[1, 3], { loSector: 0, hiSector: 1000 }]);
  const sequence = ask?.sequence ?? -1;
  const one = node.feed({ type: 'window-held', from: 1, array: ARRAY, since: 5, sequence, writes: null });
  assert.deepEqual(node.ops(one), [], 'node 3 still writes there');
  const all = node.feed({ type: 'window-held', from: 3, array: ARRAY, since: 5, sequence, writes: null });
  assert.deepEqual(node.ops(all), ['start-copy']);
  const running = node.feed(
    { type: 'observed', array: ARRAY, observation: md({ syncAction: 'resync', resyncStartSector: 0 }) },
    { type: 'done', array: ARRAY, op: START, error: null },
  );
  assert.deepEqual(node.ops(running), []);
  const ended = node.feed({ type: 'observed', array: ARRAY, observation: md({ syncAction: 'idle' }) });
  assert.deepEqual(node.ops(ended), ['freeze']);
  const frozen = node.feed(
    { type: 'observed', array: ARRAY, observation: md() },
    { type: 'done', array: ARRAY, op: { op: 'freeze' }, error: null },
  );
  assert.deepEqual(
    frozen.filter((effect) => effect.type === 'submit').map((effect) => effect.observation),
    [{ what: 'resync-done', array: ARRAY, since: 5, mismatchSectors: null }],
  );
});

test('a node that copies although the record names another is frozen first', () => {
  const record = mirror({ resync: copy(1, 5) });
  const node = Node.writing(record, md({ held: true, resyncStartSector: 0 }));
  const seen = node.feed({
    type: 'observed',
    array: ARRAY,
    observation: md({ held: true, syncAction: 'resync', resyncStartSector: 100 }),
  });
  assert.deepEqual(node.ops(seen), ['freeze']);
});

test('an array with a member that this node does not see is not assembled, and the node says which', () => {
  const node = new Node();
  const effects = node.feed(
    { type: 'paths', paths: new Map([[SPARE, '/dev/sdc']]) },
    { type: 'master', term: 1, node: 1 },
    { type: 'commit', record: mirror(), forgotten: false },
    { type: 'observed', array: ARRAY, observation: null },
  );
  assert.deepEqual(node.ops(effects), []);
  const trouble = effects.find((effect) => effect.type === 'trouble');
  assert.ok(trouble?.type === 'trouble' && trouble.text?.includes(LEG_B));
});

test('an older commit changes nothing', () => {
  const record = mirror();
  const node = Node.writing(record);
  const older = withFaulty(mirror({ version: { term: 1, index: 4 } }), LEG_B);
  assert.deepEqual(node.ops(node.feed({ type: 'commit', record: older, forgotten: false })), []);
  assert.equal(node.state.arrays.get(ARRAY)?.record.version.index, 5);
});

test('stop: writes are drained before the array is taken apart', () => {
  const record = mirror();
  const node = Node.writing(record);
  const stopped = newer(record, { run: 'stopped' });
  assert.deepEqual(node.ops(node.feed({ type: 'commit', record: stopped, forgotten: false })), ['hold']);
  const held = node.feed(
    { type: 'observed', array: ARRAY, observation: md({ held: true }) },
    { type: 'done', array: ARRAY, op: { op: 'hold' }, error: null },
  );
  assert.deepEqual(node.ops(held), ['stop']);
  const gone = node.feed(
    { type: 'observed', array: ARRAY, observation: null },
    { type: 'done', array: ARRAY, op: { op: 'stop' }, error: null },
  );
  const applied = gone.find((effect) => effect.type === 'applied');
  assert.ok(applied?.type === 'applied' && applied.report.state === 'absent');
});

test('a leg that was taken out of md behind our back is told as failed, and no gate is answered meanwhile', () => {
  const node = Node.writing();
  const seen = md({ writePending: true, arrayState: 'write-pending' });
  const without = { ...seen, members: seen.members.filter((member) => member.uuid !== LEG_B) };
  const effects = node.feed({ type: 'observed', array: ARRAY, observation: without });
  assert.deepEqual(
    effects.filter((effect) => effect.type === 'submit').map((effect) => effect.observation),
    [{ what: 'member-faulty', array: ARRAY, member: LEG_B }],
  );
  assert.deepEqual(node.ops(effects), []);
});

test('md that was thawed behind our back is frozen again', () => {
  const node = Node.writing();
  assert.deepEqual(node.ops(node.feed({ type: 'observed', array: ARRAY, observation: md({ syncAction: 'idle' }) })), [
    'freeze',
  ]);
});

test('after a drop, writes pass under a new term that says nothing new, although a silent writer has not applied it', () => {
  const record = mirror();
  const node = Node.writing(record);
  node.now = 10_001;
  node.feed({ type: 'observed', array: ARRAY, observation: md() });
  node.feed(observed(unread(md({ held: true }))));
  node.feed({ type: 'done', array: ARRAY, op: { op: 'hold' }, error: null });
  const again = { ...record, utimeSeconds: 2, version: { term: 2, index: 6 } };
  node.feed({ type: 'commit', record: again, forgotten: false });
  assert.deepEqual(node.ops(node.feed({ type: 'grant', untilMs: 20_000 })), ['let-read']);
  assert.deepEqual(node.ops(node.feed(observed(md({ held: true })), done({ op: 'let-read' }))), ['open']);
});

test('what waits to be read holds a stop up, and is read under it, of what all go on with', () => {
  const record = mirror();
  const stop = newer(record, { run: 'stopped' as const });
  const stopping = (next: typeof record, seen: ArrayObservation): Node => {
    const node = Node.writing(record);
    node.now = 10_001;
    node.feed(observed(seen), { type: 'commit', record: next, forgotten: false });
    node.feed({ type: 'grant', untilMs: 20_000 });
    return node;
  };
  const held = unread(md({ held: true }));
  assert.deepEqual(stopping(stop, held).state.arrays.get(ARRAY)?.pathBusy, { op: 'let-read' });
  const failed = withFaulty(stop, LEG_B);
  assert.equal(stopping(failed, held).state.arrays.get(ARRAY)?.pathBusy, null, 'md here would read what has failed');
  const evicted = { ...stop, resync: copy(1, 6) };
  assert.equal(stopping(evicted, held).state.arrays.get(ARRAY)?.pathBusy, null, 'legs may differ');
  const out = { ...stop, writers: [1, 3] };
  assert.equal(stopping(out, held).state.arrays.get(ARRAY)?.pathBusy, null, 'nobody waits for this node');
});

test('… but not under one that says that a leg failed', () => {
  const record = mirror();
  const node = Node.writing(record, md({}, LEG_B));
  const failed = { ...newer(withFaulty(record, LEG_B), { events: 12 }), version: { term: 2, index: 6 } };
  node.now = 10_001;
  node.feed(observed(unread(md({ held: true }, LEG_B))));
  node.feed({ type: 'commit', record: failed, forgotten: false });
  assert.deepEqual(node.ops(node.feed({ type: 'grant', untilMs: 20_000 })), ['answer-gates']);
  const answered = node.feed(
    { type: 'observed', array: ARRAY, observation: withoutGates({ held: true }) },
    { type: 'gates-done', array: ARRAY, error: null },
  );
  assert.deepEqual(node.ops(answered), []);
  assert.deepEqual(node.ops(node.feed({ type: 'released', array: ARRAY, version: failed.version })), ['open']);
});

test('a node that crashed since it was admitted lets no write pass, and reads one leg, until it is admitted anew', () => {
  const record = mirror({
    writerBoots: [1, 2, 3].map((node) => ({ node, kernelBoot: bootOf(node, node === 2 ? 7 : 1), bitmap: false })),
  });
  const node = Node.writing(record, unread(md({ held: true })));
  assert.deepEqual(node.ops(node.feed({ type: 'tick' })), []);
  const { busy } = node.state.arrays.get(ARRAY) ?? {};
  assert.deepEqual(busy, { op: 'resync-start', sector: 0 });
  node.feed(observed(unread(md({ held: true, resyncStartSector: 0 }))));
  const settled = node.feed({ type: 'done', array: ARRAY, op: { op: 'resync-start', sector: 0 }, error: null });
  assert.deepEqual(node.ops(settled), []);
  assert.ok(settled.some((effect) => effect.type === 'applied'));

  const evicted = newer(record, { writers: [1, 3], resync: copy(1, 6) });
  const copied = newer({ ...evicted, writers: [1, 2, 3], writerBoots: mirror().writerBoots }, { resync: null });
  node.feed({ type: 'commit', record: evicted, forgotten: false });
  node.feed({ type: 'commit', record: copied, forgotten: false });
  node.feed(observed(unread(md({ held: true }))));
  node.feed({ type: 'done', array: ARRAY, op: { op: 'resync-start', sector: null }, error: null });
  assert.deepEqual(node.ops(node.feed({ type: 'released', array: ARRAY, version: copied.version })), ['let-read']);
  assert.deepEqual(node.ops(node.feed(observed(md({ held: true })), done({ op: 'let-read' }))), ['open']);
});

test('an answer names the failures that it may cover: those of the released record', () => {
  const record = mirror();
  const node = Node.writing(record);
  node.feed({ type: 'observed', array: ARRAY, observation: md({}, LEG_B) });
  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  node.feed({ type: 'commit', record: failed, forgotten: false });
  const [answer] = node.feed({ type: 'released', array: ARRAY, version: failed.version });
  assert.ok(answer?.type === 'answer-gates');
  assert.deepEqual(answer.settled, [LEG_B]);
});

const observed = (observation: ReturnType<typeof md>): LocalInput => ({ type: 'observed', array: ARRAY, observation });
const done = (op: LocalOp): LocalInput => ({ type: 'done', array: ARRAY, op, error: null });

test('a lost path is told as a failed leg; what waits is let go only after the release, the leg faulty first', () => {
  const record = mirror();
  const node = Node.writing(record);
  const seen = node.feed(observed(lost(md(), LEG_B)));
  assert.deepEqual(
    seen.filter((effect) => effect.type === 'submit').map((effect) => effect.observation),
    [{ what: 'member-faulty', array: ARRAY, member: LEG_B }],
  );
  assert.deepEqual(node.ops(seen), []);

  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  const committed = node.feed({ type: 'commit', record: failed, forgotten: false });
  assert.deepEqual(node.ops(committed), [], 'let go now, its writes would be told as done while others read that leg');
  assert.ok(
    committed.some((effect) => effect.type === 'applied' && effect.version.index === 6),
    'what waits reads nothing',
  );

  const released = node.feed({ type: 'released', array: ARRAY, version: failed.version });
  assert.deepEqual(node.ops(released), ['set-faulty']);
  const faulty = node.feed(observed(lost(md({}, LEG_B), LEG_B)), done({ op: 'set-faulty', member: LEG_B }));
  assert.deepEqual(node.ops(faulty).sort(), ['answer-gates', 'release-path']);
  assert.deepEqual(node.ops(node.feed(observed(md({}, LEG_B)), done({ op: 'release-path', member: LEG_B }))), []);
});

test('a release that was lost on the way is made up for by the next commit of the same master, and of no other', () => {
  for (const [term, ops] of [
    [mirror().version.term, ['set-faulty']],
    [mirror().version.term + 1, []],
  ] as const) {
    const node = Node.writing(mirror());
    node.feed(observed(lost(md(), LEG_B)));
    const failed = newer(withFaulty(mirror(), LEG_B), { events: 12 });
    node.feed({ type: 'commit', record: failed, forgotten: false });
    const next = { ...failed, syncLimitKib: 5, version: { term, index: failed.version.index + 1 } };
    assert.deepEqual(node.ops(node.feed({ type: 'commit', record: next, forgotten: false })), ops, `term ${term}`);
  }
});

test('a gate is not answered while a good leg has lost its path', () => {
  const node = Node.writing();
  const pending = md({ writePending: true, arrayState: 'write-pending' });
  assert.deepEqual(node.ops(node.feed(observed(lost(pending, LEG_B)))), []);
  assert.deepEqual(node.ops(node.feed(observed(pending))), ['answer-gates']);
});

test('no drain is begun while a path is lost', () => {
  const record = mirror();
  const out = newer(record, { writers: [1, 3] });
  for (const [path, wanted] of [
    ['lost', []],
    ['up', ['hold']],
  ] as const) {
    const node = Node.writing(record);
    if (path === 'lost') node.feed(observed(lost(md(), LEG_B)));
    const committed = node.feed({ type: 'commit', record: out, forgotten: false });
    assert.deepEqual(node.ops(committed), wanted, `no writer any more, the path is ${path}`);
    assert.ok(!committed.some((effect) => effect.type === 'applied'), 'writes in flight are not drained');
  }

  const held = Node.writing(mirror({ writers: [1] }), md({ held: true }));
  const admitted = newer(mirror({ writers: [1, 2] }), {});
  held.feed({ type: 'commit', record: admitted, forgotten: false }, observed(lost(md({ held: true }), LEG_B)));
  const release: LocalInput = { type: 'released', array: ARRAY, version: admitted.version };
  assert.deepEqual(held.ops(held.feed(release)), [], 'to open an array drains it too');

  const copier = Node.writing(record);
  copier.feed(observed(lost(md(), LEG_B)));
  const own = newer(record, { resync: copy(2, 6) });
  copier.feed({ type: 'commit', record: own, forgotten: false });
  assert.deepEqual(copier.ops(copier.feed({ type: 'released', array: ARRAY, version: own.version })), []);

  const stopping = Node.writing(record);
  stopping.feed(observed(lost(md(), LEG_B)));
  const stopped = newer(record, { run: 'stopped' });
  const told = stopping.feed({ type: 'commit', record: stopped, forgotten: false });
  assert.deepEqual(stopping.ops(told), ['stop'], 'the driver refuses it while a write waits');
});

test('a path is let go beside an operation that may be waiting for it', () => {
  const record = mirror();
  const node = Node.writing(record);
  const out = newer(record, { writers: [1, 3] });
  assert.deepEqual(node.ops(node.feed({ type: 'commit', record: out, forgotten: false })), ['hold']);
  const failed = newer(withFaulty(out, LEG_B), {});
  node.feed(observed(lost(md(), LEG_B)), { type: 'commit', record: failed, forgotten: false });
  const released = node.feed({ type: 'released', array: ARRAY, version: failed.version });
  assert.deepEqual(node.ops(released), ['set-faulty']);
  node.feed(observed(lost(md({}, LEG_B), LEG_B)), done({ op: 'set-faulty', member: LEG_B }));
  assert.equal(node.state.arrays.get(ARRAY)?.busy?.op, 'hold', 'the suspend still waits');
});

test('held, and no writer, a node lets go at once of what a commit fails: nothing waits for it but its own bits', () => {
  const record = mirror({ writers: [1], bitmap: BITMAPS });
  const node = Node.writing(record, lost(md({ held: true }), LEG_B));
  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  assert.ok(node.ops(node.feed({ type: 'commit', record: failed, forgotten: false })).includes('set-faulty'));
  const seen = observed(lost(md({ held: true }, LEG_B), LEG_B));
  const after = node.feed(seen, done({ op: 'set-faulty', member: LEG_B }));
  assert.ok(node.ops(after).includes('release-path'));
});

test('a suspend that waits for a lost path keeps no record from being applied', () => {
  const record = mirror();
  const node = Node.writing(record);
  node.now = 10_001;
  assert.deepEqual(node.ops(node.feed({ type: 'tick' })), ['hold'], 'the grant has ended');
  node.feed(observed(lost(md(), LEG_B)), { type: 'grant', untilMs: 20_000 });
  const failed = newer(withFaulty(record, LEG_B), { events: 12 });
  const committed = node.feed({ type: 'commit', record: failed, forgotten: false });
  assert.ok(committed.some((effect) => effect.type === 'applied' && effect.version.index === 6));
});

test('a copy that waits for a lost path is not frozen when it has nothing left to copy to', () => {
  const record = mirror({ resync: copy(2, 5) });
  const node = Node.writing(record, md({ syncAction: 'resync', resyncStartSector: 100 }));
  node.feed(observed(lost(md({ syncAction: 'resync', resyncStartSector: 100 }), LEG_B)));
  const failed = newer(withFaulty(record, LEG_B), { resync: null });
  const committed = node.feed({ type: 'commit', record: failed, forgotten: false });
  assert.ok(!node.ops(committed).includes('freeze'), 'it would wait for the release, and the release for it');
});

test('the path to the last copy is tried again every second, by a writer with a grant, and never let go', () => {
  const failed = withFaulty(mirror(), LEG_B);
  const answered = md({ writePending: false, arrayState: 'active' }, LEG_B);
  const open = {
    ...answered,
    members: answered.members.map((member) => ({ ...member, blocked: false })),
  };
  const node = Node.writing(failed, open);
  const tick = () => node.ops(node.feed({ type: 'tick' }));
  const alone = lost(open, LEG_A);
  const first = node.feed(observed(alone));
  assert.deepEqual(node.ops(first), ['restore-path']);
  assert.equal(first.filter((effect) => effect.type === 'submit').length, 1, 'an operator hears of it');
  node.feed(observed(alone), done({ op: 'restore-path', member: LEG_A }));
  assert.deepEqual(tick(), [], 'lost again: not at once');
  node.now += 1000;
  const again = node.feed({ type: 'tick' });
  assert.deepEqual(node.ops(again), ['restore-path']);
  assert.equal(again.filter((effect) => effect.type === 'submit').length, 0, 'once');
  node.feed(observed(alone), done({ op: 'restore-path', member: LEG_A }));
  node.now = 10_001;
  assert.deepEqual(tick(), [], 'without a grant its writes stay here');

  const outsider = Node.writing(newer(failed, { writers: [1], writerBoots: [] }), open);
  outsider.feed(observed(alone));
  assert.ok(!outsider.ops(outsider.feed({ type: 'tick' })).includes('restore-path'));

  const both = Node.writing();
  const seen = both.feed(observed(lost(lost(md(), LEG_A), LEG_B)));
  assert.deepEqual(both.ops(seen), [], 'with two copies the cluster decides on one first');
});

/** As `Node.writing`, where a lost path is the node's own affair. */
function dropping(record = mirror(), seen = md()): Node {
  const node = Node.writing(record, seen);
  node.state = { ...node.state, pathLoss: 'drop-node' };
  return node;
}

function lostIn(node: Node): readonly string[] | undefined {
  const array = node.state.arrays.get(ARRAY);
  return array && reportOf(node.state, array, node.now).lost;
}

test('drop-node: a lost path is reported at once, told as no failure, and tried again each second', () => {
  const node = dropping();
  const seen = node.feed(observed(lost(md(), LEG_B)));
  assert.deepEqual(node.ops(seen), ['restore-path']);
  assert.ok(seen.some(({ type }) => type === 'report'));
  assert.ok(!seen.some(({ type }) => type === 'submit'));
  assert.deepEqual(lostIn(node), [LEG_B]);
  node.feed(done({ op: 'restore-path', member: LEG_B }));
  assert.deepEqual(node.ops(node.feed({ type: 'tick' })), [], 'not at once');
  node.now += 1000;
  assert.deepEqual(node.ops(node.feed({ type: 'tick' })), ['restore-path']);
  // The last copy: an operator hears of it as ever.
  const alone = dropping(withFaulty(mirror(), LEG_A));
  assert.ok(alone.feed(observed(lost(md(), LEG_B))).some(({ type }) => type === 'submit'));
});

test('drop-node: a path is back when it has stayed up for longer than it rests between two tries', () => {
  const node = dropping(mirror({ resync: copy(1, 6) }), md({ resyncStartSector: 0 }));
  node.feed(observed(lost(md({ resyncStartSector: 0 }), LEG_B)), done({ op: 'restore-path', member: LEG_B }));
  const up = md({ resyncStartSector: 0 });
  const range = { loSector: 0, hiSector: 100 };
  const window: LocalInput = { type: 'window', from: 1, array: ARRAY, since: 6, sequence: 1, range };
  assert.deepEqual(node.ops(node.feed(observed(up), window)), [], 'a drain could wait for its next I/O');
  assert.deepEqual(lostIn(node), [LEG_B]);
  node.now += 1499;
  assert.deepEqual(node.ops(node.feed({ type: 'tick' })), []);
  node.now += 1;
  assert.deepEqual(node.ops(node.feed({ type: 'tick' })), ['hold-range']);
  assert.deepEqual(lostIn(node), []);
});

test('drop-node: a member that is given up while its path is being tried is not settled before that has ended', () => {
  const node = dropping();
  assert.deepEqual(node.ops(node.feed(observed(lost(md(), LEG_B)))), ['restore-path']);
  const failed = newer(withFaulty(mirror(), LEG_B), { events: 12 });
  const committed = node.feed({ type: 'commit', record: failed, forgotten: false });
  assert.ok(!committed.some(({ type }) => type === 'applied'), 'it may be read from in a moment');
  const up = node.feed(observed(md()), done({ op: 'restore-path', member: LEG_B }));
  assert.ok(!up.some(({ type }) => type === 'applied'));
  assert.deepEqual(node.ops(up), ['hold'], 'as any other failure, under a drain');
  node.feed(observed(md({ held: true })), done({ op: 'hold' }));
  assert.deepEqual(node.state.arrays.get(ARRAY)?.busy?.op, 'set-faulty');

  const still = dropping();
  still.feed(observed(lost(md(), LEG_B)), { type: 'commit', record: failed, forgotten: false });
  const after = still.feed(done({ op: 'restore-path', member: LEG_B }));
  assert.ok(
    after.some(({ type }) => type === 'applied'),
    'what waits reads nothing',
  );
  still.now += 1000;
  assert.deepEqual(still.ops(still.feed({ type: 'tick' })), [], 'and is tried no more');
});

test('a window that drains for a lost path keeps no record from being applied', () => {
  const out = mirror({ resync: copy(1, 5) });
  const node = Node.writing(out, md({ resyncStartSector: 0 }));
  const range = { loSector: 0, hiSector: 100 };
  const window: LocalInput = { type: 'window', from: 1, array: ARRAY, since: 5, sequence: 1, range };
  assert.deepEqual(node.ops(node.feed(window)), ['hold-range']);
  node.feed(observed(lost(md({ resyncStartSector: 0 }), LEG_B)));
  const failed = newer(withFaulty(out, LEG_B), { resync: null });
  const committed = node.feed(observed(lost(md(), LEG_B)), { type: 'commit', record: failed, forgotten: false });
  assert.ok(
    committed.some(({ type }) => type === 'applied'),
    'the suspend returns only after the release',
  );
});

test('what the master asks to be read is reported for a while', () => {
  const node = Node.writing();
  const fine = () => {
    const array = node.state.arrays.get(ARRAY);
    return array && reportOf(node.state, array, node.now).fine;
  };
  assert.ok(
    node.feed({ type: 'probed', array: ARRAY, member: LEG_B, fine: true }).some(({ type }) => type === 'report'),
  );
  assert.deepEqual(fine(), [LEG_B]);
  node.feed({ type: 'probed', array: ARRAY, member: LEG_B, fine: false });
  assert.deepEqual(fine(), []);
  node.feed({ type: 'probed', array: ARRAY, member: LEG_B, fine: true });
  node.now += 4000;
  node.feed({ type: 'tick' });
  assert.deepEqual(fine(), []);
});

test('while a writer is gone, reads keep to the first leg; while it is there, or is none, md may choose', () => {
  const node = Node.writing();
  const marks = (effects: LocalEffect[]) =>
    effects.flatMap((effect) =>
      effect.type === 'perform' && effect.op.op === 'resync-start' ? [effect.op.sector] : [],
    );
  assert.deepEqual(marks(node.feed({ type: 'status', node: 3, status: 'suspect' })), []);
  assert.deepEqual(marks(node.feed({ type: 'status', node: 3, status: 'dead' })), [0]);
  node.feed(observed(md({ resyncStartSector: 0 })), done({ op: 'resync-start', sector: 0 }));
  assert.deepEqual(marks(node.feed({ type: 'status', node: 3, status: 'alive' })), [null]);

  const outsider = Node.writing(mirror({ writers: [1, 2] }));
  assert.deepEqual(marks(outsider.feed({ type: 'status', node: 3, status: 'dead' })), []);
  const alone = Node.writing(withFaulty(mirror(), LEG_B), withoutGates({}));
  assert.deepEqual(marks(alone.feed({ type: 'status', node: 3, status: 'dead' })), [], 'nothing to differ from');
});

test('whatever happens, no suspend is stored under a closed gate: it would drain, and what waits at the gate never ends', () => {
  const leg = fc.constantFrom(LEG_A, LEG_B);
  const records = fc.constantFrom(
    mirror(),
    mirror({ writers: [1, 3] }),
    mirror({ run: 'stopped' }),
    mirror({ resync: copy(1, 4) }),
    mirror({ resync: copy(2, 4, 'check') }),
    withFaulty(mirror(), LEG_B),
    mirror({ access: 'exclusive', owner: 1, writers: [1] }),
  );
  const gates = fc.oneof(
    fc.constant(md({ writePending: true, arrayState: 'write-pending' })),
    leg.map((failed) => md({}, failed)),
    leg.map((failed) => lost(md({ writePending: true, arrayState: 'write-pending' }), failed)),
  );
  const range = { loSector: 0, hiSector: 100 };
  const events: fc.Arbitrary<LocalInput> = fc.oneof(
    fc.constant<LocalInput>({ type: 'tick' }),
    fc.constant<LocalInput>({ type: 'leave' }),
    fc.constant<LocalInput>({ type: 'grant', untilMs: 0 }),
    leg.map((member): LocalInput => ({ type: 'failure-told', array: ARRAY, member })),
    fc.constant<LocalInput>({ type: 'window', from: 1, array: ARRAY, since: 4, sequence: 1, range }),
    fc.constant<LocalInput>({ type: 'status', node: 3, status: 'dead' }),
    records.map((record): LocalInput => ({ type: 'commit', record: newer(record, {}), forgotten: false })),
    fc.constant<LocalInput>({ type: 'released', array: ARRAY, version: { term: 1, index: 6 } }),
  );
  const policies = fc.constantFrom('fail-member' as const, 'drop-node' as const);
  const passed = fc.integer({ min: 0, max: 12_000 });
  const story = fc.property(records, gates, fc.array(events, { maxLength: 6 }), policies, passed, (...drawn) => {
    const [record, closed, inputs, pathLoss, passedMs] = drawn;
    const node = new Node();
    node.state = { ...node.state, pathLoss };
    node.feed(
      { type: 'paths', paths: PATHS },
      { type: 'master', term: 1, node: 1 },
      { type: 'grant', untilMs: 10_000 },
    );
    node.feed({ type: 'commit', record, forgotten: false });
    const ops = node.ops(node.feed(observed(closed), { type: 'released', array: ARRAY, version: record.version }));
    node.now += passedMs;
    for (const input of inputs) ops.push(...node.ops(node.feed(input)));
    for (const op of ops) assert.ok(!['hold', 'hold-range', 'open'].includes(op), `${op} under a closed gate`);
  });
  fc.assert(story, { numRuns: 2000, seed: 1 });
});
