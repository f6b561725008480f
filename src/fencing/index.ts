/**
 * fencing: makes sure that a silent node has stopped. In comes a node to fence; out comes `stopped` with the method that
 * vouches for it, or why none could. Nobody counts a silent node as stopped before.
 */
import type { NodeId } from '../arrays/record.ts';
import type { Config } from '../config/index.ts';

export type FencingMethod = 'command' | 'watchdog' | 'manual';

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
