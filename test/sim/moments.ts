/** Moments at which a fault hurts most. Whoever waits for one is told once, with the node at which it has come. */
import type { NodeId } from '#src/arrays/record.ts';
import type { Event } from '#src/wire/messages.ts';
import type { SimCluster } from './cluster.ts';

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

/** Of a node whose agent starts, until the next one does. @param extended its lease was */
export function tellOfGuard(cluster: SimCluster, moments: Moments, node: NodeId, extended: () => void): void {
  const { guard } = cluster.driver(node);
  const { extendLease, extendGrant } = guard;
  guard.extendLease = (untilMs) => {
    moments.tell(guard.leaseLive ? 'renews its lease' : 'is elected', node);
    extendLease.call(guard, untilMs);
    extended();
  };
  guard.extendGrant = (untilMs) => {
    moments.tell('is granted writes', node);
    extendGrant.call(guard, untilMs);
  };
}

/** Of an event as its own node journals it. */
export function tellOfEvent(moments: Moments, { origin, body }: Event): void {
  if (body.type === 'vote') moments.tell('votes', origin);
  if (body.type === 'lease-release') moments.tell('releases its lease', origin);
  if (body.type !== 'commit') return;
  moments.tell('commits', origin);
  if (body.kind === 'fail') moments.tell('fails a member', origin);
  if (body.kind === 'resync-done') moments.tell('ends a copy', origin);
}
