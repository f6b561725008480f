/** What the checkpoints in one node's journal give away of another node, whose own journal nobody has. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { findJournals, type Verdict, verifyJournals } from '#src/audit/index.ts';
import { type Checkpoint, cosign, nameOfNode, originOf, signCheckpoint } from '#src/journal/checkpoint.ts';
import { openJournal } from '#src/journal/index.ts';
import { LeafTail, leafOf } from '#src/journal/merkle.ts';
import { decodeUnverified, generateIdentity, seal } from '#src/wire/index.ts';
import type { Event, EventBody } from '#src/wire/messages.ts';
import { CLUSTER } from './journal_sample.ts';

const folder = mkdtempSync(join(tmpdir(), 'mdmesh-audit-checkpoints-'));
after(() => rmSync(folder, { recursive: true }));
const identities = await Promise.all([1, 2].map(() => generateIdentity()));
const cluster = { uuid: CLUSTER, peerIds: new Map(identities.map(({ peerId }, index) => [index + 1, peerId])) };
const origin = originOf(CLUSTER, 1, '0123456789abcdef');
const keyOf = (node: number) => identities[node - 1]?.privateKey ?? assert.fail();

/** The log of node 1, as it is, and as it would be with another first entry. */
function treeOf(first: string): LeafTail {
  const tail = new LeafTail();
  for (let index = 0; index < 40; index++) tail.append(leafOf(index === 0 ? first : String(index).padStart(64, '0')));
  return tail;
}
const honest = treeOf('aa'.repeat(32));
const forged = treeOf('bb'.repeat(32));

function at(tail: LeafTail, size: number, name = origin): Checkpoint {
  return { origin: name, size, root: tail.treeAt(size)?.root() ?? assert.fail() };
}

function signed(checkpoint: Checkpoint, previous = 0, tail = honest, by = 1): EventBody {
  const proof = previous === 0 ? [] : (tail.proof(previous, checkpoint.size) ?? []);
  const note = signCheckpoint(checkpoint, keyOf(by));
  return { type: 'checkpoint', note, previous, proof: proof.map((hash) => hash.toString('base64')) };
}

function cosigned(checkpoint: Checkpoint, line = cosign(checkpoint, nameOfNode(CLUSTER, 2), keyOf(2), 7)): EventBody {
  const { size, root } = checkpoint;
  return { type: 'cosignature', of: { origin: checkpoint.origin, size, root: root.toString('base64') }, line };
}

let made = 0;
/** @param told origin, body, and the sequence where it is not the next one */
async function judged(...told: [number, EventBody, number?][]): Promise<Verdict> {
  const dir = join(folder, String(++made));
  const journal = await openJournal({ dir, now: () => new Date(), decode: decodeUnverified, log: () => undefined });
  const sequences = new Map<number, number>();
  for (const [node, body, stated] of told) {
    const sequence = stated ?? (sequences.get(node) ?? 0) + 1;
    sequences.set(node, sequence);
    const boot = `00000000-0000-4000-8000-00000000000${node}`;
    const time = '2026-01-01T00:00:00.000Z';
    const event: Event = { cluster: CLUSTER, origin: node, boot, bootNumber: 1, sequence, time, term: 1, body };
    const sealed = await seal(identities[node - 1] ?? assert.fail(), event);
    journal.append(event, Buffer.from(sealed).toString('base64'));
  }
  await journal.close();
  return verifyJournals({ cluster, journals: await findJournals([`2=${dir}`]) });
}

function broken({ outcome, findings }: Verdict, rule: string, cursor: number, why: RegExp): void {
  assert.equal(outcome, 'broken');
  const [first] = findings;
  assert.deepEqual([first?.rule, first?.cursor], [rule, cursor]);
  assert.match(first?.text ?? '', why);
}

test('checkpoints that follow from each other, and their cosignatures, are well', async () => {
  const verdict = await judged(
    [1, signed(at(honest, 8))],
    [2, cosigned(at(honest, 8))],
    [1, signed(at(honest, 21), 8)],
    [1, signed(at(honest, 40), 21)],
    [2, cosigned(at(honest, 40))],
  );
  assert.deepEqual([verdict.outcome, verdict.findings], ['proved', []]);
});

test('one that does not begin with what was signed before is a changed history', async () => {
  const verdict = await judged([1, signed(at(honest, 8))], [1, signed(at(forged, 21), 8, forged)]);
  broken(
    verdict,
    'checkpoint',
    2,
    /node 1 signed 21 entries that do not begin with the 8 it signed before \(1\/1\/1\)/,
  );
});

test('two of one size with two roots are a changed history', async () => {
  const verdict = await judged([1, signed(at(honest, 8))], [1, signed(at(forged, 8))]);
  broken(verdict, 'checkpoint', 2, /history was changed/);
});

test('one of fewer entries after one of more is a history that was taken away', async () => {
  const verdict = await judged([1, signed(at(honest, 21))], [1, signed(at(honest, 8))]);
  broken(verdict, 'checkpoint', 2, /signed a journal of 8 entries after one of 21: history was taken away/);
});

test('a checkpoint of another node’s log, or by another’s key, is none', async () => {
  const stolen = await judged([2, signed(at(honest, 8), 0, honest, 2)]);
  broken(stolen, 'checkpoint', 1, /node 2 signed a checkpoint of \S+, which is not its journal/);
  const foreign = await judged([1, signed(at(honest, 8), 0, honest, 2)]);
  broken(foreign, 'checkpoint', 1, /not signed by the key of its node/);
});

test('a cosignature that does not fit, or is of another root, is named', async () => {
  const spoilt = await judged(
    [1, signed(at(honest, 8))],
    [2, cosigned(at(honest, 8), cosign(at(honest, 9), nameOfNode(CLUSTER, 2), keyOf(2), 7))],
  );
  broken(spoilt, 'cosignature', 2, /node 2's cosignature does not fit the checkpoint of \S+ at 8 entries/);
  const other = await judged([1, signed(at(honest, 8))], [2, cosigned(at(forged, 8))]);
  broken(other, 'cosignature', 2, /node 2 cosigned another root of \S+ at 8 entries/);
});

test('an event that is nowhere, although later ones of the same start are known, is told', async () => {
  const say = (reason: string): EventBody => ({ type: 'leave', reason });
  const verdict = await judged([1, say('one')], [1, say('two')], [1, say('four'), 4], [2, say('hello')]);
  assert.equal(verdict.outcome, 'open');
  assert.match(verdict.findings[0]?.text ?? '', /1 events of node 1's start 1 are in no journal, the first is 1\/1\/3/);
});
