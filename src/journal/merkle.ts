/**
 * The Merkle tree over a journal's entries, as RFC 6962 (section 2.1) makes it: a leaf is an entry's hash in the chain. Its
 * root says in 32 bytes what all entries are, and a short proof shows that one root only adds entries to another.
 *
 * Nobody needs the whole tree: the roots of the perfect subtrees on its right edge are enough to go on (the frontier).
 */
import { hash as sha } from 'node:crypto';

export type Hash = Buffer;

export const EMPTY_ROOT: Hash = sha('sha256', '', 'buffer');

/** @param entryHash hex, as it stands in the chain */
export function leafOf(entryHash: string): Hash {
  return sha('sha256', Buffer.from(`00${entryHash}`, 'hex'), 'buffer');
}

const INNER = Buffer.of(1);

function nodeOf(left: Hash, right: Hash): Hash {
  return sha('sha256', Buffer.concat([INNER, left, right]), 'buffer');
}

/** A tree that only grows; knows its size and its frontier, largest subtree first: one for each bit of the size. */
export class GrowingTree {
  #size: number;
  #frontier: Hash[];

  /** @throws when the frontier is not one of a tree of that size */
  constructor(size = 0, frontier: readonly Hash[] = []) {
    const bits = size.toString(2).replaceAll('0', '').length;
    if (frontier.length !== bits || frontier.some((hash) => hash.byteLength !== 32)) {
      throw new Error(`a tree of ${size} leaves has a frontier of ${bits} hashes of 32 bytes, not ${frontier.length}`);
    }
    this.#size = size;
    this.#frontier = [...frontier];
  }

  size(): number {
    return this.#size;
  }

  frontier(): readonly Hash[] {
    return this.#frontier;
  }

  append(leaf: Hash): void {
    let node = leaf;
    for (let rest = this.#size; rest % 2 === 1; rest = Math.floor(rest / 2)) {
      const left = this.#frontier.pop();
      if (left !== undefined) node = nodeOf(left, node);
    }
    this.#frontier.push(node);
    this.#size += 1;
  }

  root(): Hash {
    return bagged(this.#frontier);
  }

  clone(): GrowingTree {
    return new GrowingTree(this.#size, this.#frontier);
  }
}

function bagged(frontier: readonly Hash[]): Hash {
  return frontier.length === 0 ? EMPTY_ROOT : frontier.reduceRight((right, left) => nodeOf(left, right));
}

/**
 * The consistency proof of RFC 6962, section 2.1.2: that the tree of `old` and these leaves begins with the tree of `old`.
 * Empty when one of them is empty or they are equal.
 */
export function consistencyProof(old: GrowingTree, added: readonly Hash[]): Hash[] {
  const oldSize = old.size();
  const newSize = oldSize + added.length;
  if (oldSize === 0 || added.length === 0) return [];
  // Perfect subtrees of the old tree by where they begin; all else that the proof names lies behind it or astride its end.
  const begins = new Map<number, { hash: Hash; size: number }>();
  let at = 0;
  for (const hash of old.frontier()) {
    const size = largestPower(oldSize - at);
    begins.set(at, { hash, size });
    at += size;
  }
  const hashOf = (from: number, to: number): Hash => {
    const whole = begins.get(from);
    if (whole?.size === to - from) return whole.hash;
    if (from >= oldSize && to - from === 1) return added[from - oldSize] ?? EMPTY_ROOT;
    const middle = from + splitOf(to - from);
    return nodeOf(hashOf(from, middle), hashOf(middle, to));
  };
  const proof = (from: number, to: number, isWhole: boolean): Hash[] => {
    if (to === oldSize) return isWhole ? [] : [hashOf(from, to)];
    const middle = from + splitOf(to - from);
    if (oldSize <= middle) return [...proof(from, middle, isWhole), hashOf(middle, to)];
    return [...proof(middle, to, false), hashOf(from, middle)];
  };
  return proof(0, newSize, true);
}

/** Whether the proof shows that the tree of `newSize` and `newRoot` begins with that of `oldSize` and `oldRoot` (RFC 9162, 2.1.4.2). */
export function isConsistent(
  older: { size: number; root: Hash },
  newer: { size: number; root: Hash },
  proof: readonly Hash[],
): boolean {
  if (older.size > newer.size) return false;
  if (older.size === newer.size) return proof.length === 0 && older.root.equals(newer.root);
  if (older.size === 0) return proof.length === 0 && older.root.equals(EMPTY_ROOT);
  const path = [...proof];
  // An old tree that is perfect is its own first node, and is left out of the proof.
  if (isPower(older.size)) path.unshift(older.root);
  let fn = older.size - 1;
  let sn = newer.size - 1;
  while (fn % 2 === 1) {
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  const first = path.shift();
  if (first === undefined) return false;
  let oldRoot = first;
  let newRoot = first;
  for (const hash of path) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      oldRoot = nodeOf(hash, oldRoot);
      newRoot = nodeOf(hash, newRoot);
      while (fn % 2 === 0 && fn !== 0) {
        fn = Math.floor(fn / 2);
        sn = Math.floor(sn / 2);
      }
    } else newRoot = nodeOf(newRoot, hash);
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  return sn === 0 && oldRoot.equals(older.root) && newRoot.equals(newer.root);
}

function isPower(size: number): boolean {
  return largestPower(size) === size;
}

/** The largest power of two that is not above it. */
function largestPower(size: number): number {
  return 2 ** Math.floor(Math.log2(size));
}

/** RFC 6962's k: the largest power of two below `size`. */
function splitOf(size: number): number {
  return largestPower(size - 1);
}

/** Beyond it the oldest half of the leaves is folded away: 256 KiB at most. */
const TAIL_LEAVES = 8192;

/** A growing tree that remembers its newest leaves, so that it can be told as it was a while ago, and proved from there. */
export class LeafTail {
  #before: GrowingTree;
  #leaves: Hash[] = [];
  /** The two newest that were asked for: each checkpoint is of a tree that goes on from the one before, and proves that. */
  #told: readonly GrowingTree[] = [];

  constructor(tree = new GrowingTree()) {
    this.#before = tree.clone();
  }

  append(leaf: Hash): void {
    this.#leaves.push(leaf);
    if (this.#leaves.length > TAIL_LEAVES) {
      for (const old of this.#leaves.splice(0, TAIL_LEAVES / 2)) this.#before.append(old);
    }
  }

  size(): number {
    return this.#before.size() + this.#leaves.length;
  }

  /** null: longer ago than is remembered, or not reached yet. */
  treeAt(size: number): GrowingTree | null {
    if (size < this.#before.size() || size > this.size()) return null;
    const nearest = this.#told.findLast((tree) => tree.size() <= size && tree.size() >= this.#before.size());
    const tree = (nearest ?? this.#before).clone();
    const base = this.#before.size();
    for (const leaf of this.#leaves.slice(tree.size() - base, size - base)) tree.append(leaf);
    const newest = this.#told.at(-1)?.size() ?? 0;
    if (size > newest) this.#told = [...this.#told.slice(-1), tree.clone()];
    return tree;
  }

  /** That the tree of `newSize` begins with that of `oldSize`; null: longer ago than is remembered. */
  proof(oldSize: number, newSize: number): Hash[] | null {
    const old = this.treeAt(oldSize);
    if (old === null || newSize < oldSize || newSize > this.size()) return null;
    const from = oldSize - this.#before.size();
    return consistencyProof(old, this.#leaves.slice(from, from + newSize - oldSize));
  }
}
