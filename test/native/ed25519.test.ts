/** The addon's Ed25519 takes nothing that Node's refuses, and all that an honest signer makes. */
import assert from 'node:assert/strict';
import { sign, verify } from 'node:crypto';
import { before, test } from 'node:test';
import type { PublicKey } from '@libp2p/interface';
import fc from 'fast-check';
import { loadNative } from '../../src/md/native.ts';
import { signingKey, verifyingKey } from '../../src/wire/envelope.ts';
import { generateIdentity, type Identity } from '../../src/wire/index.ts';

const { verifyEd25519, verifyEd25519Each } = loadNative();
/** 2^252 + 27742317777372353535851937790883648493: the order of the group (RFC 8032, 5.1). */
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

let identity: Identity;
before(async () => {
  identity = await generateIdentity();
});

const signed = (message: Uint8Array) => sign(null, message, signingKey(identity.privateKey));
const runtimeTakes = (raw: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean => {
  try {
    // What stands here for a key of libp2p's has all that is read of one.
    const key: Pick<PublicKey, 'raw'> = { raw: raw.slice() };
    return verify(null, message, verifyingKey(key), signature);
  } catch {
    return false;
  }
};
const numberOf = (bytes: Uint8Array) => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
const bytesOf = (number: bigint) => Buffer.from(number.toString(16).padStart(64, '0'), 'hex').reverse();

test('what a node signs is taken, of any length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), (message) =>
      verifyEd25519(identity.privateKey.publicKey.raw, message, signed(message)),
    ),
    { numRuns: 50 },
  );
});

test('a changed bit of key, message or signature is taken by neither', () => {
  const { raw } = identity.privateKey.publicKey;
  const part = fc.constantFrom('key' as const, 'message' as const, 'signature' as const);
  fc.assert(
    fc.property(part, fc.nat(31), fc.nat(7), (what, at, bit) => {
      const parts = {
        key: raw.slice(),
        message: Buffer.from('a message of at least 32 bytes, so'),
        signature: Buffer.of(),
      };
      parts.signature = signed(parts.message);
      parts[what][at] = (parts[what][at] ?? 0) ^ (1 << bit);
      assert.equal(verifyEd25519(parts.key, parts.message, parts.signature), false);
      assert.equal(runtimeTakes(parts.key, parts.message, parts.signature), false);
    }),
    { numRuns: 200 },
  );
});

test('a signature has one form: S with the order added is taken by neither', () => {
  const message = Buffer.from('once');
  const genuine = signed(message);
  const other = Buffer.concat([genuine.subarray(0, 32), bytesOf(numberOf(genuine.subarray(32)) + ORDER)]);
  const { raw } = identity.privateKey.publicKey;
  assert.equal(verifyEd25519(raw, message, genuine), true);
  assert.equal(verifyEd25519(raw, message, other), false);
  assert.equal(runtimeTakes(raw, message, other), false);
});

test('of a key of small order anybody can sign, and neither takes that; nor a key in another form than its own', () => {
  // With S = 0 the equation holds for such a key and some such commitment. The eight points of small order, and what else decodes to one: y = p - 1, p, p + 1 and the sign bit.
  const p = 2n ** 255n - 19n;
  const eighth = Buffer.from('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05', 'hex');
  const ys = [0n, 1n, numberOf(eighth), p - numberOf(eighth), p - 1n, p, p + 1n];
  const small = ys.flatMap((y) => [bytesOf(y), bytesOf(y + 2n ** 255n)]);
  const message = Buffer.from('whatever');
  for (const key of small) {
    for (const commitment of small) {
      const signature = Buffer.concat([commitment, Buffer.alloc(32)]);
      assert.equal(
        verifyEd25519(key, message, signature),
        false,
        `${key.toString('hex')} ${commitment.toString('hex')}`,
      );
      assert.equal(runtimeTakes(key, message, signature), false);
    }
  }
});

test('what is no key or no signature by its length is false', () => {
  const message = Buffer.from('short');
  const { raw } = identity.privateKey.publicKey;
  assert.equal(verifyEd25519(raw.subarray(1), message, signed(message)), false);
  assert.equal(verifyEd25519(raw, message, signed(message).subarray(1)), false);
  assert.equal(verifyEd25519(raw, message, Buffer.alloc(0)), false);
});

test('of many each is judged as it would be alone', async () => {
  const raw = Buffer.from(identity.privateKey.publicKey.raw);
  const entry = fc.record({
    message: fc.uint8Array({ maxLength: 400 }),
    flip: fc.option(fc.record({ part: fc.constantFrom('key', 'signature', 'message'), at: fc.nat(), bit: fc.nat(7) })),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { maxLength: 12 }), async (entries) => {
      const triples = entries.map(({ message, flip }) => {
        const triple = { key: Buffer.from(raw), signature: signed(message), message: Buffer.from(message) };
        const part = flip === null ? Buffer.of() : triple[flip.part];
        const at = (flip?.at ?? 0) % part.byteLength;
        if (flip !== null && part.byteLength > 0) part[at] = (part[at] ?? 0) ^ (1 << flip.bit);
        return triple;
      });
      const parts = triples.map(({ key, signature, message }) => Buffer.concat([key, signature, message]));
      let end = 0;
      const ends = Uint32Array.from(parts, (part) => (end += part.byteLength));
      const alone = triples.map(({ key, signature, message }) => Number(verifyEd25519(key, message, signature)));
      assert.deepEqual([...(await verifyEd25519Each(Buffer.concat(parts), ends))], alone);
    }),
    { numRuns: 30 },
  );
});

test('of many, what does not lie within the bytes is no signature, and the others are', async () => {
  const message = Buffer.from('one of them');
  const one = Buffer.concat([identity.privateKey.publicKey.raw, signed(message), message]);
  const size = one.byteLength;
  const each = async (...ends: number[]) => [
    ...(await verifyEd25519Each(Buffer.concat([one, one]), Uint32Array.from(ends))),
  ];
  assert.deepEqual(await each(size, 2 * size), [1, 1]);
  assert.deepEqual(await each(size, 2 * size + 1), [1, 0]);
  assert.deepEqual(await each(size, size + 95, 2 * size), [1, 0, 0]);
  assert.deepEqual(await each(size, 0, size, 2 ** 32 - 1, 2 * size), [1, 0, 1, 0, 0]);
  assert.deepEqual(await each(), []);
});
