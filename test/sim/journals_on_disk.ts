/** Journals of a simulated cluster as files, as its nodes would have them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeId } from '#src/arrays/record.ts';
import { type ChainLink, lineOf } from '#src/journal/chain.ts';
import { GENESIS_HASH } from '#src/journal/index.ts';
import type { SimCluster } from './cluster.ts';

export function linksOf(cluster: SimCluster, node: NodeId): ChainLink[] {
  let prev = GENESIS_HASH;
  return cluster
    .journal(node)
    .read(0, Number.MAX_SAFE_INTEGER)
    .entries.map(({ cursor, hash, appendedAt, sealed }) => {
      const link = { cursor, prev, hash, appendedAt, sealed };
      prev = hash;
      return link;
    });
}

/** One directory a node: `node1/journal.jsonl`, … @returns the directories */
export function writeJournals(cluster: SimCluster, folder: string): Map<NodeId, string> {
  return new Map(
    cluster.nodes.map((node) => {
      const path = join(folder, `node${node}`);
      mkdirSync(path, { recursive: true });
      writeFileSync(join(path, 'journal.jsonl'), linksOf(cluster, node).map(lineOf).join(''));
      return [node, path];
    }),
  );
}
