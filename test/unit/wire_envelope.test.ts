import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { PublicKey } from '@libp2p/interface';
import { RecordEnvelope } from '@libp2p/peer-record';
import fc from 'fast-check';
import { z } from 'zod';
import {
  type Event,
  envelopeBytesMax,
  envelopeDomain,
  generateIdentity,
  type Identity,
  open,
  type RefusalReason,
  Sealed,
  seal,
  WireRefusal,
} from '#src/wire/index.ts';

const cluster = '11111111-1111-4111-8111-111111111111';
const event = (origin: number, detail: Record<string, string> = {}): Event => ({
  cluster,
  origin,
  boot: '22222222-2222-4222-8222-222222222222',
  bootNumber: 3,
  sequence: 17,
  time: '2026-01-02T03:04:05.678Z',
  term: 4,
  body: { type: 'notice', name: 'NodeDead', severity: 'warning', subject: 'node/3', detail },
});

let one: Identity;
let two: Identity;
let stranger: Identity;
const pinned = (node: number): PublicKey[] =>
  node === 1 ? [one.privateKey.publicKey] : node === 2 ? [two.privateKey.publicKey] : [];
before(async () => {
  [one, two, stranger] = await Promise.all([generateIdentity(), generateIdentity(), generateIdentity()]);
});

const refused = (bytes: Uint8Array, reason: RefusalReason, words = /./) =>
  assert.rejects(open(bytes, pinned, cluster), (error: unknown) => {
    assert(error instanceof WireRefusal, String(error));
    assert.equal(error.reason, reason, error.message);
    assert.match(error.message, words);
    return true;
  });

/** Seals any bytes as libp2p would: what a faulty or hostile owner of a key could send. */
async function sealRaw(by: Identity, payload: string | Uint8Array, type = '/mdmesh/event/1', domain = envelopeDomain) {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
  const record = { domain, codec: Buffer.from(type), marshal: () => bytes, equals: () => false };
  return (await RecordEnvelope.seal(record, by.privateKey)).marshal();
}

test('what node 1 seals, everybody who pins its key can open', async () => {
  assert.deepEqual(await open(await seal(one, event(1)), pinned, cluster), event(1));
  assert.deepEqual(await open(await seal(one, event(1)), pinned), event(1));
});

test('the form is libp2p’s: its RecordEnvelope opens ours, and makes the same bytes', async () => {
  const ours = await seal(one, event(1));
  const theirs = await RecordEnvelope.openAndCertify(ours, envelopeDomain);
  assert.deepEqual(JSON.parse(Buffer.from(theirs.payload).toString()), event(1));
  assert.deepEqual(Buffer.from(await sealRaw(one, theirs.payload)), Buffer.from(ours));
});

test('node 2, though a member, cannot speak in the name of node 1', async () => {
  await refused(await seal(two, event(1)), 'bad-signature', /node list pins/);
});

test('a stranger is refused under any name', async () => {
  await refused(await seal(stranger, event(1)), 'bad-signature');
  await refused(await seal(stranger, event(3)), 'unknown-sender', /node 3/);
});

test('an envelope of a stranger’s signature under a member’s key is refused', async () => {
  const genuine = await seal(one, event(1));
  const forged = await seal(stranger, event(1));
  const mixed = Buffer.concat([genuine.subarray(0, genuine.length - 64), forged.subarray(forged.length - 64)]);
  await refused(mixed, 'bad-signature', /does not fit/);
});

test('a signature made for another domain or payload type is refused', async () => {
  const payload = JSON.stringify(event(1));
  await refused(await sealRaw(one, payload, '/mdmesh/event/1', 'libp2p-peer-record'), 'bad-signature');
  await refused(await sealRaw(one, payload, '/other/event/1'), 'malformed', /payload type/);
});

test('another cluster’s event is refused, though the same key signed it', async () => {
  const other = { ...event(1), cluster: '99999999-1111-4111-8111-111111111111' };
  await refused(await seal(one, other), 'wrong-cluster', /99999999/);
});

test('signed nonsense is refused by its schema, or as malformed', async () => {
  await refused(await sealRaw(one, JSON.stringify({ ...event(1), sequence: 0 })), 'schema', /sequence/);
  await refused(await sealRaw(one, JSON.stringify({ ...event(1), body: { type: 'surprise' } })), 'schema');
  await refused(await sealRaw(one, '{"origin": "1"}'), 'malformed', /origin/);
  await refused(await sealRaw(one, 'null'), 'malformed');
  await refused(await sealRaw(one, '{'), 'malformed');
  await refused(await sealRaw(one, Uint8Array.of(0x22, 0xff, 0x22)), 'malformed');
  await assert.rejects(seal(one, { ...event(1), origin: 0 }), WireRefusal);
});

test('the greatest envelope fits where base64 of it is carried; one byte more is refused', async () => {
  assert(Sealed.safeParse(Buffer.alloc(envelopeBytesMax).toString('base64')).success);
  await refused(new Uint8Array(envelopeBytesMax + 1), 'oversized');
  await assert.rejects(seal(one, event(1, { text: 'x'.repeat(envelopeBytesMax) })), { reason: 'oversized' });
});

test('a sealed event is base64 as the schemas elsewhere have it, whatever stands in its place', () => {
  const piece = fc.oneof(
    fc.constantFrom('', '=', '==', '-', '_', ' ', '\n', '\0', 'Ł', 'é', 'AB==', 'AAB=', '+/', '😀'),
    fc.base64String({ maxLength: 80 }),
    fc.string({ maxLength: 4 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 4 }), (pieces) => {
      const text = pieces.join('');
      assert.equal(Sealed.safeParse(text).success, z.base64().safeParse(text).success, JSON.stringify(text));
    }),
    { numRuns: 20_000 },
  );
});

test('no flipped bit, no cut and no added byte gets in; every refusal is typed', async () => {
  const genuine = await seal(one, event(1));
  await fc.assert(
    fc.asyncProperty(fc.nat(genuine.length - 1), fc.nat(7), async (at, bit) => {
      const hit = Uint8Array.from(genuine);
      hit[at] = (hit[at] ?? 0) ^ (1 << bit);
      await assert.rejects(open(hit, pinned, cluster), WireRefusal);
      await assert.rejects(open(genuine.subarray(0, at), pinned, cluster), WireRefusal);
    }),
    { numRuns: 300 },
  );
  await refused(Buffer.concat([genuine, Uint8Array.of(0x42, 0)]), 'malformed', /too many/);
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), (bytes) => assert.rejects(open(bytes, pinned), WireRefusal)),
    { numRuns: 300 },
  );
});

test('a second envelope of the same signature, its length written longer, is refused', async () => {
  const genuine = await seal(one, event(1));
  // The key's length is 36: one byte. 0xa4 0x00 says the same in two.
  assert.equal(genuine[1], 36);
  await refused(
    Buffer.concat([genuine.subarray(0, 1), Uint8Array.of(0xa4, 0), genuine.subarray(2)]),
    'malformed',
    /padded/,
  );
});
