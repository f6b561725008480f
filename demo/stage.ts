/** Where the story is played: on three real kernels, or on three simulated ones. The story and the screen know only this. */
import type { NodeId } from '../src/arrays/record.ts';
import type { Status } from '../src/outlets/index.ts';
import type { Request } from '../src/wire/messages.ts';

/** One application that writes on one node, as far as is known now. */
export interface Writer {
  node: NodeId;
  acknowledged: number;
  /** The write under way has waited this long, in ms; 0 when none does. */
  waitsMs: number;
  /** Its machine lost power, and it was not started again. */
  lost: boolean;
}

/** A write that took long. Times of the wall clock in ms. */
export interface Pause {
  startMs: number;
  lengthMs: number;
}

export interface WriterResult {
  node: NodeId;
  acknowledged: number;
  failed: number;
  pauses: readonly Pause[];
  /** Of the wall clock. */
  startedAtMs: number;
  /** When its machine lost power; null: it did not. */
  lostAtMs: number | null;
}

export interface Finding {
  ok: boolean;
  text: string;
}

export interface Stage {
  /** What is under it, in a few words. */
  readonly ground: string;
  readonly nodes: readonly NodeId[];
  /** Device paths of the shared disks, as every node names them. */
  readonly disks: readonly string[];
  /** Where to look when something went wrong. null: nothing was kept. */
  readonly logs: string | null;
  /** Each line for people, as it comes; an event that several nodes tell is given once. */
  onEventLine: (line: string) => void;
  /** What the agents of all nodes know now. null: no answer. */
  look(): Promise<ReadonlyMap<NodeId, Status | null>>;
  request(node: NodeId, request: Request): Promise<{ ok: boolean; text: string }>;
  /** Each continues the region of an earlier one on its node. */
  startWriters(md: string, nodes: readonly NodeId[]): Promise<void>;
  writers(): readonly Writer[];
  stopWriters(): Promise<WriterResult[]>;
  /** The node's md finds the disk broken, as after an I/O error there. Returns how it was done, in words. */
  failLeg(node: NodeId, md: string, disk: string): Promise<string>;
  /** In this instant, with everything on it. */
  powerOff(node: NodeId): Promise<void>;
  /** Kernel and agent start; resolves when the agent is being asked again. */
  powerOn(node: NodeId): Promise<void>;
  /** Who was switched off by whose order. */
  fencings(): readonly NodeId[];
  /** Ends arrays and agents in order, so that what follows reads what is on the disks and nothing else. */
  settle(): Promise<void>;
  /** Each leg in sync must hold every acknowledged write, and be the same as the others. */
  verify(legs: readonly { disk: string; dataOffsetBytes: number; dataBytes: number }[]): Promise<Finding[]>;
  close(): Promise<void>;
}
