/** What a node that ends in order says of its writes, and what the next master makes of it. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openStateFiles } from '../../src/agent/state_files.ts';
import type { EndedArray } from '../../src/arrays/ended.ts';
import { endedBefore, endedNow } from '../../src/arrays/estate.ts';
import { masterStep } from '../../src/arrays/master.ts';
import { type MasterEffect, type MasterInput, masterStart } from '../../src/arrays/master_state.ts';
import type { ArrayRecord, NodeId, Version } from '../../src/arrays/record.ts';
import type { ArrayObservation } from '../../src/md/driver.ts';
import { ArrayMessage } from '../../src/wire/messages.ts';
import {
  ARRAY,
  bootOf,
  copy,
  LEG_B,
  LocalNode,
  lost,
  MASTER_CONFIG,
  marking,
  md,
  mirror,
  onDisks,
  report,
  unread,
  withFaulty,
} from './arrays_fixture.ts';

const OTHER = '00000000-0000-4000-8000-000000000002';

function wordOf(node: NodeId, version: Version, fields: Partial<EndedArray> = {}): EndedArray {
  return { array: ARRAY, kernelBoot: bootOf(node), version, ...fields };
}

// --- the node ---------------------------------------------------------------------------------------------------------

/** Node 2 under this record, told to end, as it sees md then. */
function ending(seen: ArrayObservation | null, record = mirror()): LocalNode {
  const node = new LocalNode(record, md());
  node.feed({ type: 'released', array: ARRAY, version: record.version }, { type: 'leave' });
  node.feed({ type: 'observed', array: ARRAY, observation: seen });
  return node;
}

test('a node that ends vouches for what is held and drained, and for an array that md has nothing of', () => {
  const { version } = mirror();
  for (const seen of [md({ held: true }), unread(md({ held: true })), null]) {
    assert.deepEqual(endedNow(ending(seen).state, []), [wordOf(2, version)]);
  }
  const failed = withFaulty(mirror(), LEG_B);
  const without = md({ held: true, arrayState: 'active', writePending: false }, LEG_B);
  const answered = { ...without, members: without.members.map((member) => ({ ...member, blocked: false })) };
  assert.deepEqual(endedNow(ending(answered, failed).state, []), [wordOf(2, version)], 'all have given up that leg');
});

test('it vouches for nothing that may be in flight, or may pass', () => {
  const held = md({ held: true });
  const cases: [string, ArrayObservation][] = [
    ['open', md()],
    ['a window is held', md({ suspended: { loSector: 0, hiSector: 500 } })],
    ['a gate is closed', md({ held: true }, LEG_B)],
    ['what waits for a path', lost(held, LEG_B)],
    [
      'a leg has failed here alone',
      { ...held, members: held.members.map((member) => ({ ...member, faulty: member.uuid === LEG_B })) },
    ],
  ];
  for (const [why, seen] of cases) assert.deepEqual(endedNow(ending(seen).state, []), [], why);

  const stays = new LocalNode(mirror(), held);
  assert.deepEqual(endedNow(stays.state, []), [], 'it does not end, and may open');

  const opening = new LocalNode(mirror(), held);
  const opened = opening.feed({ type: 'released', array: ARRAY, version: mirror().version });
  assert.ok(opened.some((effect) => effect.type === 'perform' && effect.op.op === 'open'));
  opening.feed({ type: 'leave' });
  assert.deepEqual(endedNow(opening.state, []), [], 'an operation that opens it is under way');

  const unseen = new LocalNode(mirror(), held);
  unseen.feed({ type: 'leave' });
  unseen.state.arrays = new Map(
    [...unseen.state.arrays].map(([uuid, array]) => [uuid, { ...array, observation: undefined }] as const),
  );
  assert.deepEqual(endedNow(unseen.state, []), [], 'it was not looked at');
});

test('of a boot that crashed it says nothing; what that boot itself had said is passed on', () => {
  const former = bootOf(2, 9);
  const { version } = mirror();
  const crashed = mirror({ writerBoots: [1, 2, 3].map((node) => ({ node, kernelBoot: former, bitmap: false })) });
  const node = ending(md({ held: true }), crashed);
  assert.deepEqual(endedNow(node.state, []), []);
  const word = wordOf(2, version, { kernelBoot: former });
  assert.deepEqual(endedNow(node.state, [word]), [word]);
  assert.deepEqual(endedNow(node.state, [wordOf(2, version, { kernelBoot: bootOf(2, 8) })]), [], 'of yet another boot');
});

test('a word is over when the array was seen under this boot, and waits for a record of an array that is not known yet', () => {
  const { version } = mirror();
  const known = new LocalNode(mirror(), md());
  assert.deepEqual(endedBefore(known.state, [wordOf(2, version)]), [], 'it may have been opened since');
  const elsewhere = wordOf(2, version, { array: OTHER });
  assert.deepEqual(endedBefore(known.state, [elsewhere]), [elsewhere]);
  known.feed({ type: 'leave' });
  assert.deepEqual(endedNow(known.state, [wordOf(2, version), elsewhere]), [elsewhere], 'held or not is seen anew');
});

test('the word is on disk as it was said; what is no word is none', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'mdmesh-ended-'));
  try {
    const files = await openStateFiles(dir);
    assert.equal(await files.loadEnd(), null);
    const end = { bootNumber: 7, arrays: [wordOf(2, mirror().version)] };
    await files.storeEnd(end);
    assert.deepEqual(await (await openStateFiles(dir)).loadEnd(), end);
    await writeFile(join(dir, 'ended.json'), '{"bootNumber":7,"arrays":[{"array":"md0"}]}');
    assert.equal(await files.loadEnd(), null);
  } finally {
    await rm(dir, { recursive: true });
  }
});

// --- the master -------------------------------------------------------------------------------------------------------

function fed(inputs: readonly MasterInput[], state = masterStart(1, MASTER_CONFIG)) {
  const told: MasterEffect[] = [];
  for (const input of inputs) {
    const step = masterStep(state, input, 10_000);
    state = step.state;
    told.push(...step.effects);
  }
  return { state, told, pending: state.arrays.get(ARRAY)?.pending ?? null };
}

function persisted({ version }: ArrayRecord): MasterInput {
  return { type: 'persisted', array: ARRAY, version, written: true, failed: [], text: '' };
}

function reportFrom(from: NodeId, record: ArrayRecord, boot: number, ended?: EndedArray[]): MasterInput {
  const reports = [report(record, boot === 1 ? {} : { state: 'held', applied: null })];
  return { type: 'report', from, kernelBoot: bootOf(from, boot), agentStart: boot, reports, ...(ended && { ended }) };
}

/** Node 1 has read `found`, nodes 1 and 3 have applied it anew; node 2 comes back under another boot, with these words. */
function backAgain(ended: EndedArray[] | undefined, found = mirror()) {
  const elected = fed([
    ...[1, 2, 3].map((node): MasterInput => ({ type: 'status', node, status: 'alive' })),
    { type: 'elected', term: 2 },
    reportFrom(1, found, 1),
    reportFrom(3, found, 1),
    onDisks(found),
  ]);
  const record = elected.pending?.record ?? assert.fail('nothing is committed');
  const applied = [1, 3].map(
    (from): MasterInput => ({ type: 'applied', from, array: ARRAY, version: record.version, report: report(record) }),
  );
  const waiting = fed([persisted(record), ...applied], elected.state);
  assert.deepEqual(waiting.pending?.waiting, [2]);
  return fed([reportFrom(2, found, 2, ended)], waiting.state);
}

for (const found of [mirror(), marking()]) {
  const kept = found.bitmap === null ? 'without bitmaps' : 'with bitmaps';
  test(`a writer that is back as another boot, and had ended in order, leaves without a resync, ${kept}`, () => {
    const { pending, told } = backAgain([wordOf(2, found.version)], found);
    assert.ok(
      told.some(({ type }) => type === 'released'),
      'nobody waits for a boot that is over',
    );
    assert.equal(pending?.kind, 'leave');
    assert.deepEqual(pending?.record.writers, [1, 3]);
    assert.equal(pending?.record.resync, null);
  });
}

test('it has crashed if what it says is not of this array, of that boot, or of what the disks say', () => {
  const { version } = mirror();
  const cases: [string, EndedArray[] | undefined][] = [
    ['it says nothing', undefined],
    ['of another array', [wordOf(2, version, { array: OTHER })]],
    ['of another boot', [wordOf(2, version, { kernelBoot: bootOf(2, 3) })]],
    ['of another node', [wordOf(3, version)]],
    ['of what came after these disks', [wordOf(2, { term: 2, index: version.index + 7 })]],
  ];
  for (const [why, ended] of cases) {
    const { pending } = backAgain(ended);
    assert.equal(pending?.kind, 'evict', why);
    assert.deepEqual(pending?.record.resync, copy(1, 7), why);
  }
});

test('one that ended in order and one that crashed: the legs are resynced, by the marks of the latter', () => {
  const found = marking();
  const first = backAgain([wordOf(2, found.version)], found);
  const record = first.pending?.record ?? assert.fail();
  const applied = [1, 2].map(
    (from): MasterInput => ({ type: 'applied', from, array: ARRAY, version: record.version, report: report(record) }),
  );
  const { pending } = fed([persisted(record), reportFrom(3, record, 2), ...applied], first.state);
  assert.equal(pending?.kind, 'evict');
  assert.deepEqual(pending?.record.resync?.markedBy, [3]);
});

test('a word counts as long as its node says it: one that is gone has to be fenced', () => {
  const { version } = mirror();
  const back = backAgain([wordOf(2, version)]);
  const { state } = fed([{ type: 'status', node: 2, status: 'dead' }], back.state);
  assert.deepEqual(state.nodes.get(2)?.ended, []);
});

test('an agent that knows nothing of such words says none, and is understood', () => {
  const old = { kind: 'report', term: 1, kernelBoot: bootOf(2), reports: [] };
  assert.deepEqual(ArrayMessage.parse(old), { ...old, agentStart: 0, ended: [] });
});
