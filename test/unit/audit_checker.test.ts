/** What an auditor's thread remembers of envelopes that it has checked, and what it does not take for one of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Checker } from '#src/audit/checker.ts';
import { checkHere } from '#src/audit/threads.ts';
import { GENESIS_HASH, lineOf, makeLink } from '#src/journal/chain.ts';
import { generateIdentity, seal, verifies } from '#src/wire/index.ts';
import { CLUSTER, commit, event } from './journal_sample.ts';

const identity = await generateIdentity();
const cluster = { uuid: CLUSTER, peerIds: new Map([[1, identity.peerId]]) };
const envelope = Buffer.from(await seal(identity, event(1, 1, 1)));

/** A journal's line; whoever writes the file can make it fit. */
const line = (cursor: number, bytes: Buffer) =>
  Buffer.from(lineOf(makeLink(cursor, GENESIS_HASH, '2026-01-02T03:04:05.678Z', bytes.toString('base64'))));

test('an envelope is verified once, whatever entries of whatever journals hold it; a changed one is another', () => {
  let verified = 0;
  const counted: typeof verifies = (...words) => {
    verified += 1;
    return verifies(...words);
  };
  const checker = new Checker(cluster, counted);
  const faultOf = (cursor: number, bytes: Buffer) => {
    const [checked] = checker.check(line(cursor, bytes));
    assert.ok(checked?.kind === 'entry');
    assert.equal(checked.cursor, cursor);
    assert.equal(checked.judged.event === null, checked.judged.fault !== null);
    return checked.judged.fault;
  };
  assert.equal(faultOf(1, envelope), null);
  assert.equal(faultOf(7, envelope), null);
  assert.equal(verified, 1);
  for (const at of [envelope.byteLength - 1, envelope.byteLength - 64, envelope.indexOf('leave')]) {
    const changed = Buffer.from(envelope);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assert.equal(faultOf(1, changed)?.rule, 'signature');
    assert.equal(faultOf(2, changed)?.rule, 'signature', 'and it stays so');
  }
  assert.equal(verified, 4);
  const ofOne = new Checker(cluster, counted, false);
  const twice = ofOne.check(Buffer.concat([line(1, envelope), line(2, envelope)]));
  assert.deepEqual(
    twice.map((checked) => checked.kind === 'entry' && checked.judged.event?.origin),
    [1, 1],
  );
  assert.equal(verified, 6, 'of one journal nothing is remembered');
});

/** As the addon does it, by Node's own. */
const eachOf = async (bytes: Uint8Array, ends: Uint32Array): Promise<Uint8Array> =>
  Uint8Array.from(ends, (end, at) => {
    const part = bytes.slice(ends[at - 1] ?? 0, end);
    return Number(verifies({ raw: part.slice(0, 32) }, part.subarray(96), part.subarray(32, 96)));
  });

/** Envelopes that are wrong in one way each, and a good one between any two. */
async function envelopes(): Promise<Buffer[]> {
  const stranger = await generateIdentity();
  const flipped = (at: number) => {
    const changed = Buffer.from(envelope);
    changed[at] = (changed[at] ?? 0) ^ 1;
    return changed;
  };
  const sealed = async (origin: number, uuid: string, by = identity) =>
    Buffer.from(await seal(by, { ...event(origin, 1, 2), cluster: uuid }));
  const other = '99999999-9999-4999-8999-999999999999';
  const good = await Promise.all([3, 4, 5, 6, 7, 8].map((sequence) => seal(identity, event(1, 1, sequence))));
  const elsewhere = await sealed(1, other);
  const elsewhereUnsigned = Buffer.from(elsewhere);
  elsewhereUnsigned[elsewhere.byteLength - 1] = (elsewhere.at(-1) ?? 0) ^ 1;
  return [
    ...[flipped(envelope.byteLength - 1), flipped(envelope.indexOf('leave')), elsewhere, elsewhereUnsigned],
    ...[await sealed(2, CLUSTER), await sealed(1, CLUSTER, stranger), envelope.subarray(0, -1), envelope],
  ].flatMap((bad, at) => [Buffer.from(good[at % good.length] ?? ''), bad]);
}

test('signatures that are verified later, by others, make the same lines', async () => {
  const bytes = Buffer.concat((await envelopes()).map((each, at) => line(at + 1, each)));
  const proved = new Checker(cluster).check(bytes);
  assert.equal(proved.filter((each) => each.kind === 'entry' && each.judged.fault !== null).length, 7);
  const later = checkHere(cluster, { verifies, each: eachOf });
  assert.deepEqual(await later.check(bytes, 0), proved);
  assert.deepEqual(await later.check(bytes, 1), proved, 'and what is remembered of them is that');
  const atOnce = checkHere(cluster, { verifies, each: null });
  assert.deepEqual(await atOnce.check(bytes, 0), proved);
});

test('no line is given out before the signatures of before are verified: another journal may have the same envelope', async () => {
  const changed = Buffer.from(envelope);
  changed[changed.byteLength - 1] = (changed.at(-1) ?? 0) ^ 1;
  const asked: (() => void)[] = [];
  const checker = checkHere(cluster, {
    verifies,
    each: (bytes, ends) => {
      const copied = Uint8Array.from(bytes);
      return new Promise((resolve) => asked.push(() => resolve(eachOf(copied, ends))));
    },
  });
  const told: string[] = [];
  const pieces = [changed, changed, envelope].map(async (each, piece) => {
    const [checked] = await checker.check(line(1, each), piece);
    assert.ok(checked?.kind === 'entry');
    told.push(`${piece}: ${checked.judged.fault?.rule ?? 'proved'}`);
  });
  await new Promise(setImmediate);
  assert.deepEqual(told, []);
  // What the second piece holds is remembered of the first; the third waits for itself.
  assert.equal(asked.length, 2);
  asked[1]?.();
  await new Promise(setImmediate);
  assert.deepEqual(told, []);
  asked[0]?.();
  await Promise.all(pieces);
  assert.deepEqual(told.sort(), ['0: signature', '1: signature', '2: proved']);
});

test('when nobody answers for signatures, there are no lines', async () => {
  const checker = checkHere(cluster, { verifies, each: () => Promise.reject(new Error('no answer')) });
  await assert.rejects(checker.check(line(1, envelope), 0), /no answer/);
});

test('a certificate proves one node in one term, whatever the commit before had', async () => {
  const two = await generateIdentity();
  const identities = [identity, two];
  const both = { uuid: CLUSTER, peerIds: new Map(identities.map(({ peerId }, at) => [at + 1, peerId])) };
  const votes = await Promise.all(
    identities.map(async (voter, at) => {
      const body = { type: 'vote' as const, term: 1, candidate: 1 };
      return Buffer.from(await seal(voter, { ...event(at + 1, 1, 1), body })).toString('base64');
    }),
  );
  const checker = new Checker(both);
  let sequence = 1;
  const faultOf = async (origin: 1 | 2, term: number, certificate: string[]) => {
    sequence += 1;
    const sample = commit(origin, 1, sequence);
    assert.ok(sample.body.type === 'commit');
    const record = { ...sample.body.record, version: { term, index: sequence } };
    const body = { ...sample.body, record, certificate };
    const sealed = await seal(origin === 1 ? identity : two, { ...sample, body });
    const [checked] = checker.check(line(sequence, Buffer.from(sealed)));
    assert.ok(checked?.kind === 'entry');
    return checked.judged.fault?.rule ?? null;
  };
  for (let round = 0; round < 2; round++) {
    assert.equal(await faultOf(1, 1, votes), null);
    assert.equal(await faultOf(2, 1, votes), 'certificate');
    assert.equal(await faultOf(1, 1, votes), null);
    assert.equal(await faultOf(1, 2, votes), 'certificate');
    assert.equal(await faultOf(1, 1, votes), null);
    assert.equal(await faultOf(1, 1, votes.slice(1)), 'certificate');
    assert.equal(await faultOf(1, 1, votes), null);
    assert.equal(await faultOf(1, 1, votes.toReversed().fill(votes[0] ?? '', 0, 1)), 'certificate');
    assert.equal(await faultOf(1, 1, votes), null);
    assert.equal(await faultOf(1, 1, [...votes, votes[0]?.replace('A', 'B') ?? '']), 'certificate');
  }
});
