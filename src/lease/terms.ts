/**
 * Terms where disks decide. Disks give no receipts, so that a term must show by itself whose it is: each node has every 64th
 * number, and no two can ever stand in the same term.
 */
import type { NodeId } from '../arrays/record.ts';

/** As many as there can be nodes. */
const STRIDE = 64;

/** This node's lowest term above `term`. */
export function ownTermAfter(node: NodeId, term: number): number {
  return term + STRIDE - ((((term - node) % STRIDE) + STRIDE) % STRIDE);
}

/** Whose term it is. */
export function ownerOfTerm(term: number): NodeId {
  return ((term - 1) % STRIDE) + 1;
}
