/**
 * fencing: makes sure that a silent node has stopped. In comes a node to fence; out comes `stopped` with the method that
 * vouches for it, or why none could. Nobody counts a silent node as stopped before. Where disks have reservations, it keeps this
 * node's key on them, and takes a silent node's off.
 */
import type { NodeId } from '../arrays/record.ts';
import type { Config } from '../config/index.ts';

/** `auto`: reservation where every member has them, else the watchdog if one is configured, and the operator's word. */
export type FencingMethod = 'auto' | 'reservation' | 'command' | 'watchdog' | 'manual';

export interface FencingVerdict {
  node: NodeId;
  stopped: boolean;
  method: FencingMethod | null;
  text: string;
}

export interface FenceRequest {
  node: NodeId;
  address: string;
  /** This node's BOOTTIME ms of the last moment at which the silent node may have had a live grant by the master's count. */
  lastGrantMs: number;
  /** Takes the node's key off every member. Rejects with what is in the way. Absent: some member has no reservations. */
  shutOut?: () => Promise<void>;
}

export type FencingConfig = Pick<Config, 'fencing' | 'timing' | 'cluster'>;

export interface Fencing {
  /** Tries the configured methods side by side. Resolves with the first that vouches; stopped=false: none is left, or it was called off. */
  fence(request: FenceRequest): Promise<FencingVerdict>;
  /**
   * The operator's word (`mdmesh node confirm-dead N`), twice asked for by the CLI. null: it counts; else why it does not:
   * kept for later, it would vouch for a node that lives now and dies another day.
   */
  confirm(node: NodeId): string | null;
  /** From the next attempt on: other methods, another command, other times. */
  configure(config: FencingConfig): void;
  /** The node came back by itself (it answers): forget what is under way. */
  cancel(node: NodeId): void;
}

export { type CommandOutcome, type RunCommand, runCommand } from './command.ts';
export { createFencing, type FencingNote, type FencingOptions } from './fencing.ts';
export { keyOf, nodeOfKey } from './keys.ts';
export { type KeyState, type KeysSeen, Reservations, type ReservedMember } from './reservations.ts';
