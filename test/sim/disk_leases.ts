/** Where disks decide: a lease is what stands on them, in its holder's block (docs/quorum.md). */
import type { NodeId } from '#src/arrays/record.ts';
import type { LeaseState } from '#src/lease/index.ts';
import { MESH_HEADER_BYTES, NODE_BLOCK_BYTES } from '#src/md/mesh_area.ts';
import { decodeNodeBlock } from '#src/md/node_block.ts';
import type { DiskWrite } from '#src/md/simulated_storage.ts';
import { isShutOut } from './checkers.ts';
import { CLUSTER_UUID, type SimCluster } from './cluster.ts';

/** Bytes from the beginning of the disk. */
function blockAt(cluster: SimCluster, disk: string, node: NodeId): number {
  // Behind the header of a witness, or both of a member's.
  const before = cluster.disks().includes(disk) ? 3 * MESH_HEADER_BYTES : NODE_BLOCK_BYTES;
  return before + (node - 1) * NODE_BLOCK_BYTES;
}

/** This node's, which nobody else writes, and it with or without a lease. */
export function isOwnBlock(cluster: SimCluster, { node, disk, offsetBytes, lengthBytes }: DiskWrite): boolean {
  return offsetBytes === blockAt(cluster, disk, node) && lengthBytes === NODE_BLOCK_BYTES;
}

/**
 * As long as a lease by disks lives its holder's word stands on a majority of those of its set; while that is changed, of the one before.
 * null: it is one by votes, as before the first set has been won.
 */
export function leaseStandsOnDisks(
  cluster: SimCluster,
  holder: NodeId,
  { role, disks }: LeaseState,
): { trouble: string | null } | null {
  if (role.kind !== 'master' || disks?.set == null || disks.wonTerm !== role.term) return null;
  if (isShutOut(cluster, holder)) return { trouble: null };
  const { term } = role;
  const standing = cluster.storage.names().filter((disk) => {
    const bytes = cluster.storage.glance(disk, blockAt(cluster, disk, holder), NODE_BLOCK_BYTES);
    const block = decodeNodeBlock(CLUSTER_UUID, holder, bytes);
    return block !== null && block !== 'torn' && block.term === term && block.phase !== 'free';
  });
  // What it has, it had before the change was begun.
  const least = Math.floor((disks.set.former ?? disks.set.disks).length / 2) + 1;
  if (standing.length >= least) return { trouble: null };
  const where = standing.join(' ') || 'no disk';
  return { trouble: `node ${holder} leads in term ${term}, and its word stands on ${where}; ${least} are a majority` };
}
