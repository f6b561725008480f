/** What an auditor's thread remembers of envelopes that it has checked, and what it does not take for one of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Checker } from '#src/audit/checker.ts';
import { GENESIS_HASH, lineOf, makeLink } from '#src/journal/chain.ts';
import { generateIdentity, seal, verifies } from '#src/wire/index.ts';
import { CLUSTER, event } from './journal_sample.ts';

const identity = await generateIdentity();
const cluster = { uuid: CLUSTER, peerIds: new Map([[1, identity.peerId]]) };
const envelope = Buffer.from(await seal(identity, event(1, 1, 1)));

/** A journal's line; whoever writes the file can make it fit. */
const line = (cursor: number, bytes: Buffer) =>
  Buffer.from(lineOf(makeLink(cursor, GENESIS_HASH, '2026-01-02T03:04:05.678Z', bytes.toString('base64'))));

test('an envelope is verified once, whatever entries of whatever journals hold it; a changed one is another', () => {
  let verified = 0;
  const checker = new Checker(cluster, (...words) => {
    verified += 1;
    return verifies(...words);
  });
  const faultOf = (cursor: number, bytes: Buffer) => {
    const [checked] = checker.check(line(cursor, bytes));
    assert.ok(checked?.kind === 'entry');
    assert.equal(checked.cursor, cursor);
    assert.equal(checked.event === null, checked.fault !== null);
    return checked.fault;
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
});
