/**
 * Keeps trying to reach every peer of the node list that is not connected. libp2p's own redial gives up after a few
 * failures and never retries a peer that it never reached; a cluster's list does not change because a node was down.
 */
import type { NodeId } from '../arrays/record.ts';
import type { NetTuning, Schedule } from './options.ts';

/**
 * Calls `done` once, when the dial is over, one way or the other; whether it led to a connection is learnt from
 * `connected`. A callback and no promise: a simulated cluster must not depend on when promises settle.
 */
export type Dial = (node: NodeId, signal: AbortSignal, done: () => void) => void;

interface Target {
  attempts: number;
  connected: boolean;
  cancelTimer: (() => void) | null;
  dialling: AbortController | null;
}

export interface DialerOptions {
  self: NodeId;
  peers: readonly NodeId[];
  tuning: NetTuning;
  schedule: Schedule;
  /** In [0, 1). */
  random(): number;
  dial: Dial;
}

export class Dialer {
  readonly #options: DialerOptions;
  readonly #targets = new Map<NodeId, Target>();
  #running = false;

  constructor(options: DialerOptions) {
    this.#options = options;
    this.setPeers(options.peers);
  }

  setPeers(peers: readonly NodeId[]): void {
    for (const [node, target] of this.#targets) {
      if (peers.includes(node)) continue;
      target.dialling?.abort();
      this.#rest(target);
      this.#targets.delete(node);
    }
    for (const peer of peers) {
      if (this.#targets.has(peer)) continue;
      this.#targets.set(peer, { attempts: 0, connected: false, cancelTimer: null, dialling: null });
      this.#arm(peer);
    }
  }

  start(): void {
    this.#running = true;
    for (const node of this.#targets.keys()) this.#arm(node);
  }

  stop(): void {
    this.#running = false;
    for (const target of this.#targets.values()) {
      target.dialling?.abort();
      this.#rest(target);
      target.connected = false;
    }
  }

  /** @param byUs the connection came of our own dial; else the dial under way is called off: it lost the race */
  connected(node: NodeId, byUs: boolean): void {
    const target = this.#targets.get(node);
    if (target === undefined) return;
    target.connected = true;
    // Never of our own: the signal of a dial stays tied to the socket that it made, and would take it down.
    if (!byUs) target.dialling?.abort();
    this.#rest(target);
  }

  /** @param steady the connection had lived long enough to count as good: begin with the shortest delay again */
  lost(node: NodeId, steady: boolean): void {
    const target = this.#targets.get(node);
    if (target === undefined) return;
    target.connected = false;
    if (steady) target.attempts = 0;
    this.#arm(node);
  }

  #rest(target: Target): void {
    target.cancelTimer?.();
    target.cancelTimer = null;
    target.dialling = null;
  }

  #arm(node: NodeId): void {
    const target = this.#targets.get(node);
    if (!this.#running || target === undefined || target.connected) return;
    if (target.cancelTimer !== null || target.dialling !== null) return;
    target.cancelTimer = this.#options.schedule(this.#delayMs(node, target.attempts), () => {
      target.cancelTimer = null;
      this.#dial(node, target);
    });
  }

  #delayMs(node: NodeId, attempts: number): number {
    const { self, tuning, random } = this.#options;
    const headStartMs = self < node ? 0 : tuning.headStartMs;
    if (attempts === 0) return headStartMs;
    const fullMs = Math.min(tuning.redialMaxMs, tuning.redialMinMs * 2 ** Math.min(attempts - 1, 20));
    return Math.max(headStartMs, fullMs * (1 - random() / 2));
  }

  #dial(node: NodeId, target: Target): void {
    const control = new AbortController();
    target.dialling = control;
    target.attempts += 1;
    this.#options.dial(node, control.signal, () => {
      if (target.dialling !== control) return;
      target.dialling = null;
      this.#arm(node);
    });
  }
}
