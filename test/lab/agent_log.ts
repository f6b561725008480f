/** What an agent wrote to its log, as values. */
import type { NodeId } from '../../src/arrays/record.ts';
import type { Cluster } from './cluster.ts';

export interface LogLine {
  /** Wall clock, ms. Guests share the host's. */
  timeMs: number;
  msg: string;
  event?: string;
  subject?: string;
  term?: number;
  node?: NodeId;
  guard?: { type: string; atMs: number; md?: string; code?: string };
}

/** Lines of a node's agent, of all its starts, oldest first. `sinceMs`: not the older ones. */
export function agentLines(cluster: Cluster, node: NodeId, sinceMs = 0): LogLine[] {
  const lines: LogLine[] = [];
  for (const text of cluster.agentLog(node).split('\n')) {
    if (!text.startsWith('{')) continue;
    try {
      const line = JSON.parse(text);
      lines.push({ ...line, timeMs: Date.parse(line.time) });
    } catch {
      // The last line of an agent that was killed while it wrote.
    }
  }
  return lines.filter((line) => line.timeMs >= sinceMs);
}

export interface Election {
  node: NodeId;
  term: number;
  timeMs: number;
}

/** Every mastership of every node, oldest first. */
export function elections(cluster: Cluster, sinceMs = 0): Election[] {
  const found: Election[] = [];
  for (const node of cluster.nodes) {
    for (const { event, term, timeMs } of agentLines(cluster, node, sinceMs)) {
      if (event === 'MasterElected' && term !== undefined) found.push({ node, term, timeMs });
    }
  }
  return found.sort((a, b) => a.timeMs - b.timeMs || a.term - b.term);
}

/** Whether any agent told that this node was evicted. */
export function evicted(cluster: Cluster, node: NodeId, sinceMs = 0): boolean {
  return cluster.nodes.some((each) =>
    agentLines(cluster, each, sinceMs).some((line) => line.event === 'NodeEvicted' && line.subject === `node/${node}`),
  );
}

/** When the guard of a node did this, on the wall clock, oldest first. */
export async function guardTimes(cluster: Cluster, node: NodeId, type: string, sinceMs = 0): Promise<number[]> {
  const { bootMs, wallMs } = await cluster.lab.guest(node).now();
  const times = agentLines(cluster, node, sinceMs).flatMap(({ guard }) => (guard?.type === type ? [guard.atMs] : []));
  return times.map((atMs) => atMs - bootMs + wallMs);
}
