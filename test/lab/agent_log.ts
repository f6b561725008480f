/**
 * What agents wrote to their logs, as values. Times are the host's: a guest's clocks run evenly, but a few tenths of a second
 * beside the host's and the other guests', another stretch at each boot.
 */
import assert from 'node:assert/strict';
import type { NodeId } from '../../src/arrays/record.ts';
import type { Cluster } from './cluster.ts';

export interface LogLine {
  /** Host's wall clock, ms. */
  timeMs: number;
  msg: string;
  event?: string;
  subject?: string;
  term?: number;
  node?: NodeId;
  guard?: { type: string; atMs: number; md?: string; code?: string };
}

interface Clock {
  boots: number;
  /** What is added to get the host's wall clock. */
  fromWallMs: number;
  fromBootMs: number;
}

const clocks = new WeakMap<Cluster, Map<NodeId, Clock>>();

/** Reads the guests' clocks; again only after a boot. A frozen guest cannot tell: calibrate before. */
export async function calibrate(cluster: Cluster): Promise<ReadonlyMap<NodeId, Clock>> {
  const known = clocks.get(cluster) ?? new Map<NodeId, Clock>();
  clocks.set(cluster, known);
  await Promise.all(
    cluster.nodes.map(async (node) => {
      const guest = cluster.lab.guest(node);
      if (!guest.running || known.get(node)?.boots === guest.boots) return;
      let quickestMs = Number.POSITIVE_INFINITY;
      for (let i = 0; i < 5; i++) {
        const askedMs = Date.now();
        const { bootMs, wallMs } = await guest.now();
        const tookMs = Date.now() - askedMs;
        if (tookMs >= quickestMs) continue;
        quickestMs = tookMs;
        const hostMs = askedMs + tookMs / 2;
        known.set(node, { boots: guest.boots, fromWallMs: hostMs - wallMs, fromBootMs: hostMs - bootMs });
      }
    }),
  );
  return known;
}

/** Lines of a node's agent, of all its starts, oldest first. `sinceMs`: not the older ones. Call `calibrate` before. */
export function agentLines(cluster: Cluster, node: NodeId, sinceMs = 0): LogLine[] {
  const clock = clocks.get(cluster)?.get(node);
  const lines: LogLine[] = [];
  for (const text of cluster.agentLog(node).split('\n')) {
    if (!text.startsWith('{')) continue;
    try {
      const line = JSON.parse(text);
      // What another node decided or saw stands there, too.
      if (line.origin !== undefined && line.origin !== node) continue;
      lines.push({ ...line, timeMs: Date.parse(line.time) + (clock?.fromWallMs ?? 0) });
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
export async function elections(cluster: Cluster, sinceMs = 0): Promise<Election[]> {
  await calibrate(cluster);
  const found: Election[] = [];
  for (const node of cluster.nodes) {
    for (const { event, term, timeMs } of agentLines(cluster, node, sinceMs)) {
      if (event === 'MasterElected' && term !== undefined) found.push({ node, term, timeMs });
    }
  }
  return found.sort((a, b) => a.timeMs - b.timeMs || a.term - b.term);
}

/** No term had two masters, and no later one began before an earlier. Returns how many there were. */
export async function oneMasterATerm(cluster: Cluster): Promise<number> {
  const terms = (await elections(cluster)).map(({ term }) => term);
  assert.deepEqual(
    terms,
    [...new Set(terms)].sort((a, b) => a - b),
  );
  return terms.length;
}

/** Whether any agent told that this node was evicted. */
export async function evicted(cluster: Cluster, node: NodeId, sinceMs = 0): Promise<boolean> {
  await calibrate(cluster);
  return cluster.nodes
    .flatMap((each) => agentLines(cluster, each, sinceMs))
    .some((line) => line.event === 'NodeEvicted' && line.subject === `node/${node}`);
}

/** When the guard of a node did this, oldest first. Of the guest's present boot only. */
export async function guardTimes(cluster: Cluster, node: NodeId, type: string, sinceMs = 0): Promise<number[]> {
  const clock = (await calibrate(cluster)).get(node);
  return agentLines(cluster, node, sinceMs).flatMap(({ guard }) =>
    guard?.type === type ? [guard.atMs + (clock?.fromBootMs ?? 0)] : [],
  );
}
