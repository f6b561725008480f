/** What a key signed counts up to its end, as history; nothing after it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generateIdentity, type Identity, openEnded, seal } from '#src/wire/index.ts';

const CLUSTER = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001';
const [first, second, stranger] = [await generateIdentity(), await generateIdentity(), await generateIdentity()];
const ended = [
  { node: 3, peerId: first.peerId, bootNumber: 5, sequence: 20 },
  { node: 3, peerId: second.peerId, bootNumber: 9, sequence: 4 },
];

function signed(identity: Identity, bootNumber: number, sequence: number, origin = 3): Promise<Uint8Array> {
  return seal(identity, {
    cluster: CLUSTER,
    origin,
    boot: CLUSTER,
    bootNumber,
    sequence,
    time: '2024-01-01T00:00:00.000Z',
    term: 1,
    body: { type: 'leave', reason: 'it was time' },
  });
}

for (const [what, bytes, counts] of [
  ['the last event before the end', signed(first, 5, 20), true],
  ['an earlier boot, however many events it had', signed(first, 4, 999), true],
  ['the first event after the end', signed(first, 5, 21), false],
  ['a later boot', signed(first, 6, 1), false],
  ['the next key, up to its own end', signed(second, 9, 4), true],
  ['the next key, after its own end', signed(second, 9, 5), false],
  ['the first key under the end of the next', signed(first, 7, 1), false],
  ['another node in whose name it signs', signed(first, 1, 1, 2), false],
  ['a key that never counted', signed(stranger, 1, 1), false],
] as const) {
  test(`${what}: ${counts ? 'counts' : 'does not count'}`, async () => {
    assert.equal(openEnded(await bytes, ended, CLUSTER) !== null, counts);
    assert.equal(openEnded(await bytes, ended, '00000000-0000-4000-8000-000000000000'), null, 'elsewhere');
  });
}
