/**
 * The node lists of before. A journal of years holds entries of nodes that have left, and under keys that were changed; each change
 * stands in it as an event that has both lists. From the list that the auditor was given, which alone is trusted, they are followed
 * back: an event counts only if it leads to a list that is trusted, and was signed by a node of that.
 */
import { parseLine } from '../journal/chain.ts';
import { linesOf } from '../journal/chain_scan.ts';
import type { ListedNode, NodeList } from '../roster/index.ts';
import { decodeUnverified, open, publicKeyOfPeerId } from '../wire/index.ts';
import type { AuditedCluster } from './index.ts';
import type { NamedJournal } from './journals.ts';

export async function withFormerLists(
  cluster: AuditedCluster,
  journals: readonly NamedJournal[],
): Promise<AuditedCluster> {
  const changes = await changesIn(journals.flatMap(({ files }) => files));
  const former: { nodes: readonly ListedNode[] }[] = [];
  let ended: AuditedCluster['ended'] = [];
  let trusted: readonly ListedNode[] = [...cluster.peerIds].map(([id, peerId]) => {
    const nextPeerId = cluster.nextPeerIds?.get(id);
    return { id, peerId, ...(nextPeerId === undefined ? {} : { nextPeerId }) };
  });
  const seen = new Set<string>();
  for (;;) {
    const text = textOf(trusted);
    const leading = seen.has(text) ? undefined : await firstTrue(changes.get(text) ?? [], trusted, cluster.uuid);
    if (leading === undefined) return { ...cluster, former, ended };
    seen.add(text);
    if (former.length === 0) ended = leading.list.ended;
    trusted = leading.before.nodes;
    former.push({ nodes: trusted });
  }
}

interface Change {
  sealed: string;
  list: NodeList;
  before: NodeList;
}

/** By the list that each leads to. */
async function changesIn(files: readonly string[]): Promise<Map<string, Change[]>> {
  const found = new Map<string, Change[]>();
  for (const file of files) {
    for await (const { bytes } of linesOf(file)) {
      const sealed = parseLine(bytes.toString('utf8'))?.sealed;
      // Few entries are worth decoding.
      if (sealed === undefined || !Buffer.from(sealed, 'base64').includes('"type":"node-list"')) continue;
      try {
        const { body } = decodeUnverified(sealed);
        if (body.type !== 'node-list') continue;
        const text = textOf(body.list.nodes);
        found.set(text, [...(found.get(text) ?? []), { sealed, list: body.list, before: body.before }]);
      } catch {
        // The audit itself says what is wrong with that entry.
      }
    }
  }
  return found;
}

async function firstTrue(
  changes: readonly Change[],
  trusted: readonly ListedNode[],
  uuid: string,
): Promise<Change | undefined> {
  for (const change of changes) {
    const isSigned = await open(Buffer.from(change.sealed, 'base64'), (node) => keysIn(trusted, node), uuid).then(
      () => true,
      () => false,
    );
    if (isSigned) return change;
  }
  return undefined;
}

export function keysIn(nodes: readonly ListedNode[], id: number): ReturnType<typeof publicKeyOfPeerId>[] {
  return nodes
    .filter((node) => node.id === id)
    .flatMap(({ peerId, nextPeerId }) => (nextPeerId === undefined ? [peerId] : [peerId, nextPeerId]))
    .map(publicKeyOfPeerId);
}

function textOf(nodes: readonly ListedNode[]): string {
  const sorted = [...nodes].sort((a, b) => a.id - b.id);
  return JSON.stringify(sorted.map(({ id, peerId, nextPeerId }) => [id, peerId, nextPeerId ?? null]));
}
