/**
 * A node's reservation key: 64 bits, as 16 hexadecimal digits. Cluster and node can be read from it, so that whoever fences finds all
 * keys of the node on a disk, whatever boot they are of and though it never heard of them; another boot of the node has another one.
 *
 *   6d64  cluster: 24 bits of the UUID's hash  node: 8 bits  boot: 16 bits of the kernel boot's hash
 */
import { createHash } from 'node:crypto';
import type { NodeId } from '../arrays/record.ts';

const MARK = '6d64';

function hashed(text: string, digits: number): string {
  return createHash('sha256').update(text).digest('hex').slice(0, digits);
}

function prefixOf(cluster: string): string {
  return `${MARK}${hashed(cluster, 6)}`;
}

export function keyOf(cluster: string, node: NodeId, kernelBoot: string): string {
  return `${prefixOf(cluster)}${node.toString(16).padStart(2, '0')}${hashed(kernelBoot, 4)}`;
}

/** null: a key of somebody else. */
export function nodeOfKey(cluster: string, key: string): NodeId | null {
  if (!key.startsWith(prefixOf(cluster))) return null;
  return Number.parseInt(key.slice(10, 12), 16);
}
