/** The tree against the definitions of RFC 6962 itself, and the proofs against every pair of sizes. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { consistencyProof, EMPTY_ROOT, GrowingTree, isConsistent, leafOf } from '#src/journal/merkle.ts';

const SIZE = 40;
const hashes = Array.from({ length: SIZE }, (_, index) => createHash('sha256').update(`entry ${index}`).digest('hex'));
const leaves = hashes.map(leafOf);

/** MTH of the RFC, word for word. */
function mth(of: readonly Buffer[]): Buffer {
  const [only] = of;
  if (only === undefined) return createHash('sha256').digest();
  if (of.length === 1) return only;
  let k = 1;
  while (k * 2 < of.length) k *= 2;
  return createHash('sha256')
    .update(Buffer.of(1))
    .update(mth(of.slice(0, k)))
    .update(mth(of.slice(k)))
    .digest();
}

/** PROOF of the RFC, word for word. */
function proofOf(m: number, of: readonly Buffer[], whole = true): Buffer[] {
  if (m === of.length) return whole ? [] : [mth(of)];
  let k = 1;
  while (k * 2 < of.length) k *= 2;
  if (m <= k) return [...proofOf(m, of.slice(0, k), whole), mth(of.slice(k))];
  return [...proofOf(m - k, of.slice(k), false), mth(of.slice(0, k))];
}

function treeOf(size: number): GrowingTree {
  const tree = new GrowingTree();
  for (const leaf of leaves.slice(0, size)) tree.append(leaf);
  return tree;
}

test('known answers: the empty tree, and the leaf of nothing', () => {
  assert.equal(EMPTY_ROOT.toString('hex'), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  assert.equal(leafOf('').toString('hex'), '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d');
});

test('the root of every size is that of the RFC’s own definition, and a frontier is enough to go on', () => {
  for (let size = 0; size <= SIZE; size++) {
    const tree = treeOf(size);
    assert.deepEqual(tree.root(), mth(leaves.slice(0, size)), String(size));
    const again = new GrowingTree(size, tree.frontier());
    for (const leaf of leaves.slice(size)) again.append(leaf);
    assert.deepEqual(again.root(), mth(leaves));
  }
  assert.throws(() => new GrowingTree(3, [EMPTY_ROOT]), /3 leaves has a frontier of 2 hashes/);
});

test('the proof between any two sizes is the RFC’s, and shows what it should; nothing else passes', () => {
  for (let old = 0; old <= SIZE; old++) {
    for (let size = old; size <= SIZE; size++) {
      const proof = consistencyProof(treeOf(old), leaves.slice(old, size));
      if (old > 0) assert.deepEqual(proof, proofOf(old, leaves.slice(0, size)), `${old} to ${size}`);
      const older = { size: old, root: mth(leaves.slice(0, old)) };
      const newer = { size, root: mth(leaves.slice(0, size)) };
      assert.equal(isConsistent(older, newer, proof), true, `${old} to ${size}`);
      if (old === 0) continue;
      const other = { ...older, root: leafOf('00') };
      assert.equal(isConsistent(other, newer, proof), false, `${old} to ${size}, another old root`);
      if (old === size) continue;
      assert.equal(isConsistent(older, { ...newer, root: leafOf('00') }, proof), false);
      assert.equal(isConsistent(older, newer, [...proof, leafOf('00')]), false);
      assert.equal(isConsistent(older, newer, proof.slice(1)), false);
      assert.equal(isConsistent(older, newer, proof.with(0, leafOf('00'))), false);
      assert.equal(isConsistent(newer, older, proof), false, 'a journal does not shrink');
    }
  }
});
