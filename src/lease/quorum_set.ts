/**
 * Which disks decide, and when enough of them have spoken. The set is fixed: it is known to all who decide by it, and changed
 * only by a holder that has a majority of the old set and of the new one behind it (docs/quorum.md, "Another set").
 */
import type { NodeId, Version } from '../arrays/record.ts';

export interface QuorumSet {
  /** Term of the lease under which it was written, and how many came before it in that term. The newest one counts. */
  version: Version;
  /** Their names on every node: device UUIDs of members, the witness's own. Each once. */
  disks: readonly string[];
  /** Not null: a change is under way. A majority of these is needed as well. */
  former: readonly string[] | null;
}

/**
 * One node's word on one disk; nobody else writes it. What is not `free` stands for a lease of R from before it was written, and
 * keeps others waiting for L since they first saw it.
 */
export interface DiskBlock {
  node: NodeId;
  /** UUID of this start of the agent: with the sequence, no two blocks of a node are alike. */
  boot: string;
  term: number;
  phase: 'free' | 'standing' | 'holding';
  sequence: number;
  /** The newest that its writer knows. */
  set: QuorumSet;
}

/** As it was read. `torn`: something stands there that is no whole block, so nobody knows what it said. */
export type ReadBlock = DiskBlock | 'torn';

/** Each disk's sector of a block has room for so many names, of both sets. */
export const QUORUM_DISKS_MAX = 9;

function lists(set: QuorumSet): (readonly string[])[] {
  return set.former === null ? [set.disks] : [set.disks, set.former];
}

/** All that have a voice. */
export function disksOf(set: QuorumSet): string[] {
  return [...new Set(lists(set).flat())];
}

/** A majority of each list that counts. */
export function isQuorum(set: QuorumSet, has: (disk: string) => boolean): boolean {
  return lists(set).every((disks) => disks.filter(has).length > disks.length / 2);
}

/** The latest moment since which a quorum has been reached, given the one of each disk; null: there is none. */
export function quorumSinceMs(set: QuorumSet, atMs: (disk: string) => number | null): number | null {
  const each = lists(set).map((disks) => {
    const newestFirst = disks.map((disk) => atMs(disk) ?? Number.NEGATIVE_INFINITY).sort((a, b) => b - a);
    return newestFirst[Math.floor(disks.length / 2)] ?? Number.NEGATIVE_INFINITY;
  });
  const sinceMs = Math.min(...each);
  return sinceMs === Number.NEGATIVE_INFINITY ? null : sinceMs;
}

/** A smaller set is better only if it needs fewer of its disks for a majority than it loses by being small. */
export function isWorthChanging(set: QuorumSet, wanted: readonly string[]): boolean {
  if (wanted.length === 0 || wanted.length > QUORUM_DISKS_MAX) return false;
  if (wanted.length === set.disks.length && wanted.every((disk) => set.disks.includes(disk))) return false;
  return wanted.length >= set.disks.length || wanted.length % 2 === 1;
}
