/** A node's block, byte by byte: what it may say, and what must not be taken for a word. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { DiskBlock } from '#src/lease/index.ts';
import { decodeNodeBlock, decodeWitness, encodeNodeBlock, encodeWitness } from '#src/md/node_block.ts';

const CLUSTER = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001';
const OTHER = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9002';
const uuid = fc.uuid();
const disks = fc.uniqueArray(uuid, { minLength: 1, maxLength: 9 });
const whole = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const plain = { noNullPrototype: true };
const anyBlock: fc.Arbitrary<DiskBlock> = fc.record(
  {
    node: fc.integer({ min: 1, max: 64 }),
    boot: uuid,
    term: whole,
    phase: fc.constantFrom('free', 'standing', 'holding'),
    sequence: whole,
    set: fc.record(
      { version: fc.record({ term: whole, index: fc.nat() }, plain), disks, former: fc.option(disks) },
      plain,
    ),
  },
  plain,
);

test('what is written is read, and all of it stands in the first 512 bytes', () => {
  fc.assert(
    fc.property(anyBlock, (block) => {
      const bytes = encodeNodeBlock(CLUSTER, block);
      assert.equal(bytes.length, 4096);
      assert.deepEqual(decodeNodeBlock(CLUSTER, block.node, bytes), block);
      assert.deepEqual(decodeNodeBlock(CLUSTER, block.node, bytes.subarray(0, 512)), block);
      assert.ok(bytes.subarray(512).every((byte) => byte === 0));
    }),
  );
});

test('a byte that was changed makes it torn, never another word', () => {
  fc.assert(
    fc.property(anyBlock, fc.integer({ min: 8, max: 511 }), fc.integer({ min: 1, max: 255 }), (block, at, flip) => {
      const bytes = encodeNodeBlock(CLUSTER, block);
      bytes[at] = (bytes[at] ?? 0) ^ flip;
      assert.equal(decodeNodeBlock(CLUSTER, block.node, bytes), 'torn');
    }),
  );
});

test("nothing, another cluster's and another node's block are nobody's word here", () => {
  const set = { version: { term: 1, index: 0 }, disks: [CLUSTER], former: null };
  const block: DiskBlock = { node: 2, boot: OTHER, term: 2, phase: 'holding', sequence: 1, set };
  assert.equal(decodeNodeBlock(CLUSTER, 2, new Uint8Array(4096)), null);
  assert.equal(decodeNodeBlock(OTHER, 2, encodeNodeBlock(CLUSTER, block)), null);
  assert.equal(decodeNodeBlock(CLUSTER, 1, encodeNodeBlock(CLUSTER, block)), null);
  const many = Array.from({ length: 10 }, () => CLUSTER);
  assert.throws(() => encodeNodeBlock(CLUSTER, { ...block, set: { ...set, disks: many } }), /at most 9/);
});

test('a witness is known by what its first block says, and to its own cluster alone', () => {
  const bytes = encodeWitness(CLUSTER, OTHER);
  assert.equal(decodeWitness(CLUSTER, bytes), OTHER);
  assert.equal(decodeWitness(OTHER, bytes), null);
  bytes[40] = (bytes[40] ?? 0) ^ 1;
  assert.equal(decodeWitness(CLUSTER, bytes), null);
  assert.equal(decodeWitness(CLUSTER, new Uint8Array(4096)), null);
});
