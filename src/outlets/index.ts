/**
 * outlets: how people and tools see the agent. They read the journal and the status only, and hand requests to the agent;
 * they decide nothing. All of them stand behind one local HTTP API on a unix socket.
 */
import type { Disk } from '../md/driver.ts';
import type { Request } from '../wire/messages.ts';
import type { Names } from './catalogue.ts';
import type { NodeReport, Status } from './status.ts';

/** What outlets may ask of the agent. */
export interface AgentFace {
  status(): Status;
  /** As things stand whenever one of them is asked for. */
  readonly names: Names;
  /** Carries a request to the master and waits for its outcome. Never throws; bad input gives ok=false and words. */
  request(request: Request): Promise<{ ok: boolean; text: string }>;
  /** Reads the configuration file again. */
  reloadConfig(): Promise<{ ok: boolean; text: string }>;
  /** Starts this program anew in the agent's place. ok: the successor is about to take over, and is the one to ask from then on. */
  handOver(): Promise<{ ok: boolean; text: string }>;
  /** This node's own disks, with what stands on them. */
  scan(): Promise<Disk[]>;
  /** What `mdmesh doctor` finds on each other node of the list. */
  reports(): Promise<NodeReport[]>;
}

export { type ApiLog, type ApiOptions, serveApi } from './api.ts';
export { catalogue, type Names, type Telling, tellings } from './catalogue.ts';
export { cloudEvents, eventLine } from './cloud_event.ts';
export { configuredHooks } from './configured_hooks.ts';
export { startHooks } from './hooks.ts';
export type { ArrayStatus, NodeReport, NodeStatus, QuorumStatus, Status } from './status.ts';
export type { CloudEvent, StreamMark } from './told.ts';
