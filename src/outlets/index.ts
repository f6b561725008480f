/**
 * outlets: how people and tools see the agent. They read the journal and the status only, and hand requests to the agent;
 * they decide nothing. All of them stand behind one local HTTP API on a unix socket.
 */
import type { ArrayRecord, NodeId } from '../arrays/record.ts';
import type { ArrayObservation } from '../md/driver.ts';
import type { MemberStatus } from '../members/index.ts';
import type { ArrayReport, CopyProgress, Request } from '../wire/messages.ts';

/** One node as this node sees it. */
export interface NodeStatus {
  node: NodeId;
  address: string;
  self: boolean;
  status: MemberStatus;
  connected: boolean;
  /** Of mdmesh there; null: not heard yet. */
  version: string | null;
  /** Why this node does not speak with it: versions too far apart. */
  refused: string | null;
  eligible: boolean;
  /** By the master's account; null where this node does not know. */
  granted: boolean | null;
}

/** One array as this node sees it. */
export interface ArrayStatus {
  /** Newest committed record known here. */
  record: ArrayRecord;
  /** Newest version applied here, and newest released (gates may be answered up to it). */
  applied: ArrayRecord['version'] | null;
  released: ArrayRecord['version'] | null;
  /** This node's md; null: not assembled here. */
  local: ArrayObservation | null;
  /** This node's device paths of the members: uuid → path. */
  paths: Record<string, string>;
  /** What each node reports (on the master; elsewhere only this node's own). */
  reports: { node: NodeId; report: ArrayReport }[];
  /** The copy under way as its copier tells, the same on every node; null: none, or nothing was heard of it yet. */
  sync: CopyProgress | null;
  /** Sectors in which the newest check or repair found differences; null: none was made since this agent began. */
  mismatchSectors: number | null;
  trouble: string | null;
}

export interface Status {
  cluster: { name: string; uuid: string };
  self: NodeId;
  version: string;
  /** What this build speaks, and what all of the list understand (`level`). */
  protocol: { oldest: number; newest: number; level: number };
  startedAt: string;
  driver: 'real' | 'simulated';
  lease: {
    role: 'follower' | 'candidate' | 'master';
    term: number;
    master: NodeId | null;
    /** ms left of this node's own lease (0 if none) and grant. */
    leaseLeftMs: number;
    grantLeftMs: number;
  };
  /** The node list that counts; `pending`: the nodes of one that is being agreed on; `waitsFor`: why the file's does not count yet. */
  list: {
    term: number;
    generation: number;
    digest: string;
    nodes: NodeId[];
    pending: NodeId[] | null;
    waitsFor: string | null;
  };
  nodes: NodeStatus[];
  arrays: ArrayStatus[];
  journal: { head: number };
  counters: Record<string, number>;
}

/** What outlets may ask of the agent. */
export interface AgentFace {
  status(): Status;
  /** Carries a request to the master and waits for its outcome. Never throws; bad input gives ok=false and words. */
  request(request: Request): Promise<{ ok: boolean; text: string }>;
  /** Reads the configuration file again. */
  reloadConfig(): Promise<{ ok: boolean; text: string }>;
  /** This node's own disks, with what stands on them. */
  scan(): Promise<import('../md/driver.ts').Disk[]>;
}

export { type ApiLog, type ApiOptions, serveApi } from './api.ts';
export { catalogue, type Names, namesFrom, type Severity, type Telling, tellings } from './catalogue.ts';
export { type CloudEvent, cloudEvents, eventLine } from './cloud_event.ts';
export type { StreamMark } from './event_stream.ts';
