/** Checkpoints as C2SP writes them: tlog-checkpoint, signed-note, tlog-cosignature. */
import assert from 'node:assert/strict';
import { createHash, createPublicKey, verify } from 'node:crypto';
import { test } from 'node:test';
import {
  type Checkpoint,
  cosign,
  isCosigned,
  logOf,
  nameOfNode,
  openCheckpoint,
  originOf,
  placeOf,
  readCheckpoint,
  signCheckpoint,
} from '#src/journal/checkpoint.ts';
import { generateIdentity } from '#src/wire/index.ts';

const CLUSTER = '5c9e6c1f-6f0d-4f0b-9a55-0d9b1a3c7e42';
const [one, two] = await Promise.all([generateIdentity(), generateIdentity()]);
const origin = originOf(CLUSTER, 1, logOf('ab'.repeat(32)));
const checkpoint: Checkpoint = { origin, size: 20_852, root: createHash('sha256').update('root').digest() };
const note = signCheckpoint(checkpoint, one.privateKey);

test('a note is, byte by byte, what the specifications say', () => {
  const [text = '', below = ''] = note.split('\n\n');
  assert.equal(text, `mdmesh/${CLUSTER}/node/1/abababababababab\n20852\n${checkpoint.root.toString('base64')}`);
  const [, name = '', base64 = ''] = /^— (\S+) (\S+)\n$/.exec(below) ?? [];
  assert.equal(name, origin);
  const blob = Buffer.from(base64, 'base64');
  const id = createHash('sha256')
    .update(`${origin}\n\x01`)
    .update(one.privateKey.publicKey.raw)
    .digest()
    .subarray(0, 4);
  assert.deepEqual(blob.subarray(0, 4), id);
  const x = Buffer.from(one.privateKey.publicKey.raw).toString('base64url');
  const key = createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x } });
  assert.ok(verify(null, Buffer.from(`${text}\n`), key, blob.subarray(4)));
});

test('a note opens with its node’s key and no other, and not when a byte of it is changed', () => {
  assert.deepEqual(openCheckpoint(note, one.privateKey.publicKey), checkpoint);
  assert.deepEqual(readCheckpoint(note), checkpoint);
  assert.throws(() => openCheckpoint(note, two.privateKey.publicKey), /not signed by the key of its node/);
  const bytes = Buffer.from(note, 'utf8');
  for (let at = 0; at < bytes.byteLength - 1; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assert.throws(() => openCheckpoint(changed.toString('utf8'), one.privateKey.publicKey), `byte ${at}`);
  }
});

test('what is no checkpoint is told so', () => {
  for (const wrong of [
    '',
    'a\n',
    `${origin}\n01\n${checkpoint.root.toString('base64')}\n\n— a AAAAAAA=\n`,
    note.split('\n\n')[0] ?? '',
  ]) {
    assert.throws(() => readCheckpoint(wrong), /checkpoint/, wrong);
  }
  assert.throws(() => readCheckpoint(`${note}what\n`), /no signature/);
});

test('a cosignature stands for one checkpoint, one name and one key', () => {
  const name = nameOfNode(CLUSTER, 2);
  const line = cosign(checkpoint, name, two.privateKey, 1_790_000_000);
  assert.match(line, /^— mdmesh\/\S+\/node\/2 \S+\n$/);
  const key = two.privateKey.publicKey;
  assert.equal(isCosigned(checkpoint, line, name, key), true);
  assert.deepEqual(openCheckpoint(note + line, one.privateKey.publicKey), checkpoint, 'it may stand below the note');
  assert.equal(isCosigned({ ...checkpoint, size: 20_853 }, line, name, key), false);
  assert.equal(isCosigned(checkpoint, line, nameOfNode(CLUSTER, 3), key), false);
  assert.equal(isCosigned(checkpoint, line, name, one.privateKey.publicKey), false);
  const blob = Buffer.from(line.split(' ')[2] ?? '', 'base64');
  for (let at = 0; at < blob.byteLength; at++) {
    const changed = Buffer.from(blob);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assert.equal(isCosigned(checkpoint, `— ${name} ${changed.toString('base64')}\n`, name, key), false, `byte ${at}`);
  }
});

test('an origin says whose journal it is', () => {
  assert.deepEqual(placeOf(origin), { cluster: CLUSTER, node: 1, log: 'abababababababab' });
  assert.equal(placeOf('example.com/log'), null);
  assert.equal(placeOf(nameOfNode(CLUSTER, 1)), null);
});
