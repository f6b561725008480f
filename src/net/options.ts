/** What a net is told at its start, and the limits it keeps. */
import type { NodeId } from '../arrays/record.ts';
import type { Identity } from '../wire/identity.ts';

export interface PeerEntry {
  id: NodeId;
  /** IP address, v4 or v6. */
  address: string;
  port: number;
  peerId: string;
}

export interface NetOptions {
  identity: Identity;
  /** UUID: a Hello of another cluster is refused. */
  cluster: string;
  self: NodeId;
  /** The static list, this node included: it listens on its own entry. */
  nodes: readonly PeerEntry[];
  hello: { boot: string; bootNumber: number; version: string };
  /** Monotonic. */
  now(): number;
  log?(text: string): void;
  tuning?: Partial<NetTuning>;
}

export interface NetTuning {
  /** First delay before a redial; doubles up to `redialMaxMs`, each shortened by up to a half at random. */
  redialMinMs: number;
  redialMaxMs: number;
  /** The higher node ID gives the lower this start, so that two nodes rarely dial each other at once. */
  headStartMs: number;
  /** A dial to a host that does not answer at all ends after this. */
  dialTimeoutMs: number;
  /** A connection on which the Hellos have not passed both ways by then is cut. */
  helloTimeoutMs: number;
  /** A connection that lived this long was a good one: its loss starts the backoff anew. */
  steadyAfterMs: number;
  /** Frames that wait for a slow peer; beyond it `send` drops. */
  sendBufferBytes: number;
  /** Frames a second from one peer, with a burst of as many. */
  framesPerSecond: number;
  /** Sealed events a second from one peer, by gossip and, apart from that, in frames: each costs a signature's check. */
  eventsPerSecond: number;
  eventsBurst: number;
  /** Whatever they carry, on all connections of one peer together, with a burst of a second's worth. */
  bytesPerSecond: number;
  /** A peer opens no more; its connection is cut. */
  streamsPerSecond: number;
  catchupTimeoutMs: number;
  /** `refused` events a second about one peer. */
  refusalsPerSecond: number;
}

export const defaultTuning: NetTuning = {
  redialMinMs: 100,
  redialMaxMs: 2000,
  headStartMs: 150,
  dialTimeoutMs: 2000,
  helloTimeoutMs: 5000,
  steadyAfterMs: 1000,
  sendBufferBytes: 4 * 1024 * 1024,
  framesPerSecond: 2000,
  eventsPerSecond: 300,
  eventsBurst: 1000,
  bytesPerSecond: 4 * 1024 * 1024,
  streamsPerSecond: 100,
  catchupTimeoutMs: 5000,
  refusalsPerSecond: 10,
};

/** Longest JSON of one frame. */
export const frameBytesMax = 512 * 1024;
export const protocolVersion = 1;
export const framesProtocol = '/mdmesh/frames/1';
export const catchupProtocol = '/mdmesh/catchup/1';
export const gossipTopic = (cluster: string) => `mdmesh/${cluster}/events/1`;

/** Runs a function once, later; returns how to call it off. */
export type Schedule = (delayMs: number, run: () => void) => () => void;
