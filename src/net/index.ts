/**
 * net: the libp2p shell. It knows the static list and the pinned peer IDs; it keeps exactly one connection and one frame
 * stream a direction with each peer, redials, refuses strangers, bounds what each peer may cost, gossips sealed events and serves
 * catch-up. It decides nothing: verified frames and events go in to the agent, frames and events come out of it.
 */
import type { NodeId } from '../arrays/record.ts';
import type { CatchupPage, CatchupRequest, Frame } from '../wire/messages.ts';

export interface NetCounters {
  framesIn: number;
  framesOut: number;
  framesRefused: number;
  dialsRefused: number;
  gossipIn: number;
  gossipOut: number;
}

export type NetEvent =
  | { type: 'frame'; from: NodeId; frame: Frame }
  /** An envelope as gossip brought it: not verified yet. */
  | { type: 'gossip'; from: NodeId; sealed: Uint8Array }
  /** Frame streams stand in both directions. */
  | { type: 'connected'; node: NodeId }
  | { type: 'disconnected'; node: NodeId }
  /** A frame that did not parse, an oversized one, a stranger: refused already; for the journal. */
  | { type: 'refused'; from: NodeId | null; peer: string | null; reason: string }
  /** A peer has proof that two agents run under this node's ID: `boots` names this one's boot and the other's. */
  | { type: 'duplicate-id'; boots: string[] };

export interface Net {
  start(): Promise<void>;
  stop(): Promise<void>;
  on(listener: (event: NetEvent) => void): void;
  /** Best effort, never blocks: dropped (false) when not connected or the peer's buffer is over its limit. */
  send(to: NodeId, frame: Frame): boolean;
  publish(sealed: Uint8Array): void;
  /** One page of what a peer has and we lack. Throws when not connected or refused. */
  catchup(from: NodeId, request: CatchupRequest): Promise<CatchupPage>;
  /** Who answers catch-up requests of others. */
  serveCatchup(handler: (from: NodeId, request: CatchupRequest) => Promise<CatchupPage>): void;
  connected(): NodeId[];
  /** Cut a peer off (missed probes): close its connection, redial with backoff. */
  reset(node: NodeId): void;
  counters(): NetCounters;
}

export { createNet } from './libp2p_net.ts';
export { type MemoryHub, type MemoryHubOptions, memoryHub, memoryNet } from './memory_net.ts';
export type { NetOptions, NetTuning, PeerEntry, Schedule } from './options.ts';
