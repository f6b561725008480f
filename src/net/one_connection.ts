/**
 * Which of two connections between the same two nodes stays. Both ends must come to the same answer without talking.
 */
import type { NodeId } from '../arrays/record.ts';

export interface Opening {
  /** The node that dialled it. */
  opener: NodeId;
  /** On this node's clock. */
  openedAtMs: number;
}

/** Two dials at once open within a round trip or two of each other, even over a slow line. */
export const simultaneousMs = 3000;

/**
 * Within `simultaneousMs`, the one that the lower ID opened stays. Later, the newcomer does: its opener would not have
 * dialled with the old one alive, so the old one is half open, a rival from before a partition. The same holds for two
 * of one opener.
 */
export function newcomerStays(existing: Opening, newcomer: Opening, lower: NodeId): boolean {
  if (newcomer.openedAtMs - existing.openedAtMs > simultaneousMs) return true;
  if (existing.opener === newcomer.opener) return true;
  return newcomer.opener === lower;
}
