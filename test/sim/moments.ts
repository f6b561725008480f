/** Moments at which a fault hurts most. Whoever waits for one is told once, with the node at which it has come. */
import type { NodeId } from '#src/arrays/record.ts';

export const MOMENTS = [
  'is elected',
  'renews its lease',
  'releases its lease',
  'stores a vote',
  'votes',
  'commits',
  'fails a member',
  'writes metadata',
  'is granted writes',
  'answers its gates',
  'holds its writes',
  'opens',
  'begins a copy',
  'goes on with a copy',
  'ends a copy',
] as const;
export type Moment = (typeof MOMENTS)[number];

export class Moments {
  readonly #waiting = new Map<Moment, Set<(node: NodeId) => void>>();

  tell(moment: Moment, node: NodeId): void {
    const waiting = this.#waiting.get(moment);
    if (waiting === undefined) return;
    this.#waiting.delete(moment);
    for (const told of waiting) told(node);
  }

  /** @returns the way to wait no longer */
  next(moment: Moment, told: (node: NodeId) => void): () => void {
    const waiting = this.#waiting.get(moment) ?? new Set();
    this.#waiting.set(moment, waiting.add(told));
    return () => waiting.delete(told);
  }
}
