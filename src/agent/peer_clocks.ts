/** How fast the other nodes' clocks run beside this one's: from the times that stand in their messages of the lease. */
import type { NodeId } from '../arrays/record.ts';
import { CLOCK_CRITICAL, CLOCK_WARNING, clockHeard, clockRate, type PeerClock } from '../lease/index.ts';

type Severity = 'warning' | 'critical';

export class PeerClocks {
  readonly #clocks = new Map<NodeId, PeerClock>();
  readonly #told = new Map<NodeId, Severity | null>();

  get clocks(): ReadonlyMap<NodeId, PeerClock> {
    return this.#clocks;
  }

  /** What is to be told now, when its rate has become another matter; else null. Severity null: it is well again. */
  heard(node: NodeId, theirMs: number, ourMs: number): { percent: number; severity: Severity | null } | null {
    const before = this.#clocks.get(node);
    const clock = clockHeard(before, { theirMs, ourMs });
    this.#clocks.set(node, clock);
    if (before?.stretches === clock.stretches) return null;
    const rate = clockRate(clock) ?? 1;
    const apart = Math.abs(rate - 1);
    const severity = apart < CLOCK_WARNING ? null : apart < CLOCK_CRITICAL ? 'warning' : 'critical';
    if (severity === (this.#told.get(node) ?? null)) return null;
    this.#told.set(node, severity);
    return { percent: Math.round((rate - 1) * 1000) / 10, severity };
  }
}
