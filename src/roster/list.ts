/** The node list as the cluster agrees on it, and what may follow it. */
import { z } from 'zod';
import { NodeId } from '../arrays/record.ts';

/** Orders lists: of two the one of the later term, and in one term of the later generation, is the newer. */
export const ListVersion = z.object({
  /** Of the master that proposed it; 0: the list that the cluster began with. */
  term: z.int().min(0),
  generation: z.int().min(0),
  /** SHA-256 (hex, shortened) of what is agreed on: IDs, keys, R and L. Two lists of one (term, generation) differ in it. */
  digest: z.string().max(64),
});
export type ListVersion = z.infer<typeof ListVersion>;

export const ListedNode = z.object({
  id: NodeId,
  peerId: z.string().max(100),
  nextPeerId: z.string().max(100).optional(),
});
export type ListedNode = z.infer<typeof ListedNode>;

/** A key that counts no more, and the last event under it that does. */
export const EndedKey = z.object({
  node: NodeId,
  peerId: z.string().max(100),
  bootNumber: z.int().min(0),
  sequence: z.int().min(0),
});
export type EndedKey = z.infer<typeof EndedKey>;

export const NodeList = z.object({
  version: ListVersion,
  nodes: z.array(ListedNode).min(1).max(64),
  /** R and L: a majority's promise is only worth something if all who count it agree on how long it lasts. */
  holderMs: z.number().positive(),
  voterMs: z.number().positive(),
  /** Not under the digest: known only when the list is agreed on. */
  ended: z.array(EndedKey).max(256),
});
export type NodeList = z.infer<typeof NodeList>;

/** What a configuration asks for; its digest says whether two ask for the same. */
export type WishedList = Pick<NodeList, 'nodes' | 'holderMs' | 'voterMs'> & { digest: string };

export const NO_LIST: ListVersion = { term: 0, generation: 0, digest: '' };

export function idsOf(list: { nodes: readonly { id: NodeId }[] }): NodeId[] {
  return list.nodes.map(({ id }) => id);
}

/** Below 0: `a` is older. */
export function compareLists(a: ListVersion, b: ListVersion): number {
  return a.term - b.term || a.generation - b.generation;
}

export function sameList(a: ListVersion, b: ListVersion): boolean {
  return compareLists(a, b) === 0 && a.digest === b.digest;
}

export function firstList({ digest, nodes, holderMs, voterMs }: WishedList): NodeList {
  return { version: { ...NO_LIST, digest }, nodes: [...nodes], holderMs, voterMs, ended: [] };
}

/** Whether these are more than half of each of the sets. */
export function isMajorityOfEach(sets: readonly (readonly NodeId[])[], nodes: Iterable<NodeId>): boolean {
  const there = new Set(nodes);
  return sets.every((set) => set.filter((node) => there.has(node)).length > set.length / 2);
}

function keysOf({ peerId, nextPeerId }: ListedNode): string[] {
  return nextPeerId === undefined ? [peerId] : [peerId, nextPeerId];
}

/** Why a list must not follow another one, whatever the cluster's state; null: it may. The words are for people. */
export function whyNotAfter(before: Pick<NodeList, 'nodes'>, after: Pick<NodeList, 'nodes'>): string | null {
  const had = new Set(idsOf(before));
  const has = new Set(idsOf(after));
  const added = [...has].filter((id) => !had.has(id));
  const removed = [...had].filter((id) => !has.has(id));
  if (added.length + removed.length > 1) {
    const words = [
      ...(added.length > 0 ? [`adds node ${added.join(', ')}`] : []),
      ...(removed.length > 0 ? [`removes node ${removed.join(', ')}`] : []),
    ];
    return `the new list ${words.join(' and ')}: change one node at a time, and wait until that is agreed on`;
  }
  for (const node of after.nodes) {
    const old = before.nodes.find(({ id }) => id === node.id);
    if (old !== undefined && !keysOf(old).includes(node.peerId)) {
      return `node ${node.id}'s peer_id changes from ${old.peerId} to ${node.peerId} at once, and nobody would know it meanwhile: write the new one as next_peer_id first, and move it to peer_id when node ${node.id} uses it`;
    }
  }
  return null;
}

/** Why a list does not follow another one where disks decide; null: it is the same. */
export function whyNotByDisks(before: NodeList, after: WishedList): string | null {
  if (before.version.digest === after.digest) return null;
  const words = ({ nodes, holderMs, voterMs }: Omit<WishedList, 'digest'>): string =>
    `${nodes.map((node) => `${node.id} ${keysOf(node).join(' or ')}`).join(', ')}, holder ${holderMs} ms, voter ${voterMs} ms`;
  return `the list (${words(before)}) cannot become another one (${words(after)}) while disks decide (quorum: disks): stop the agents of all nodes, put the same file on each, run mdmesh node force-list on each, and start them`;
}

/** The keys that the newer list has no more. */
export function keysGone(
  before: Pick<NodeList, 'nodes'>,
  after: Pick<NodeList, 'nodes'>,
): { node: NodeId; peerId: string }[] {
  const kept = new Set(after.nodes.flatMap((node) => keysOf(node).map((peerId) => `${node.id} ${peerId}`)));
  return before.nodes
    .flatMap((node) => keysOf(node).map((peerId) => ({ node: node.id, peerId })))
    .filter(({ node, peerId }) => !kept.has(`${node} ${peerId}`));
}
