/** The node list of a configuration, in the form in which a cluster agrees on it. */
import { createHash } from 'node:crypto';
import type { NodeId } from '../arrays/record.ts';
import type { NodeList, WishedList } from '../roster/index.ts';

/** Enough that nobody finds two lists with one digest. */
const DIGEST_LETTERS = 32;

interface Listed {
  id: NodeId;
  peerId: string;
  nextPeerId?: string | undefined;
}

export function wishedList(nodes: readonly Listed[], timing: { holderMs: number; voterMs: number }): WishedList {
  const { holderMs, voterMs } = timing;
  const listed = nodes
    .map(({ id, peerId, nextPeerId }) => ({ id, peerId, ...(nextPeerId === undefined ? {} : { nextPeerId }) }))
    .sort((a, b) => a.id - b.id);
  return { nodes: listed, holderMs, voterMs, digest: digestOf({ nodes: listed, holderMs, voterMs }) };
}

/** Whether the list is the one that its version names: a digest is compared where lists are, so it must not be believed. */
export function isSound(list: NodeList): boolean {
  const ids = new Set(list.nodes.map(({ id }) => id));
  return ids.size === list.nodes.length && wishedList(list.nodes, list).digest === list.version.digest;
}

function digestOf(list: { nodes: readonly Listed[]; holderMs: number; voterMs: number }): string {
  const text = JSON.stringify([
    list.nodes.map(({ id, peerId, nextPeerId }) => [id, peerId, nextPeerId ?? null]),
    list.holderMs,
    list.voterMs,
  ]);
  return createHash('sha256').update(text).digest('hex').slice(0, DIGEST_LETTERS);
}
