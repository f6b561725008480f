/** What an agent knows now. Its loop alone changes it; the other modules of this room are given it to read. */
import type { NodeArrays } from '../arrays/local_state.ts';
import type { MasterState } from '../arrays/master_state.ts';
import type { ArrayRecord, NodeId } from '../arrays/record.ts';
import { type LeaseState, leaseSummary } from '../lease/index.ts';
import type { MembersState } from '../members/index.ts';
import type { PeerEntry } from '../net/index.ts';
import type { RosterState } from '../roster/index.ts';
import type { AgentParts } from './parts.ts';

export interface AgentState {
  members: MembersState;
  lease: LeaseState;
  roster: RosterState;
  local: NodeArrays;
  master: MasterState;
  /** Everybody that this node speaks with, itself among them. */
  peers: readonly PeerEntry[];
  /** Nothing is taken in any more, and nothing decided. */
  stopped: boolean;
}

/** The newest committed record of each array, as known here. */
export function recordsOf({ local }: Readonly<AgentState>): ArrayRecord[] {
  return [...local.arrays.values()].map(({ record }) => record);
}

export function termOf({ lease }: Readonly<AgentState>): number {
  return leaseSummary(lease).term;
}

/** The node that leads, as far as this one knows. */
export function masterOf({ lease }: Readonly<AgentState>): NodeId | null {
  return leaseSummary(lease).master;
}

/** Looks again and again; resolves once it is done, or patience has ended. */
export async function until(
  { driver, timers }: Pick<AgentParts, 'driver' | 'timers'>,
  done: () => boolean,
  patienceMs: number,
): Promise<void> {
  const endMs = driver.now() + patienceMs;
  while (!done() && driver.now() < endMs) {
    await new Promise<void>((resolve) => {
      timers.after(10, resolve);
    });
  }
}
