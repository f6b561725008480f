/** Long-lived programs inside guests whose answers are read when they have ended, and what agents say in their logs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cluster } from '../test/lab/cluster.ts';
import type { Guest } from '../test/lab/guest/guest.ts';
import type { Clocks } from './clocks.ts';

let started = 0;

export interface Running {
  /** What it has said so far. */
  output(): string;
  /** Its whole output, once it has ended by itself. */
  ended(): Promise<string>;
  /** Ends it by SIGTERM; its whole output. */
  end(): Promise<string>;
}

/** `mdio VERB …` on a node. */
export function mdio(cluster: Cluster, node: number, words: readonly string[]): Promise<Running> {
  return startOn(cluster, node, [cluster.lab.mdio, ...words]);
}

/** A program on a node. */
async function startOn(cluster: Cluster, node: number, argv: readonly string[]): Promise<Running> {
  const guest = cluster.lab.guest(node);
  const logFile = join(guest.dir, `program-${started++}.log`);
  const process = await guest.spawn([...argv], { logFile });
  const output = (): string => {
    try {
      return readFileSync(logFile, 'utf8');
    } catch {
      return '';
    }
  };
  const ended = async (): Promise<string> => {
    await process.exited;
    // What a guest appends reaches the host a moment later, a long line in pieces.
    for (let patience = 100; !output().endsWith('\n') && patience > 0; patience--) await pause(10);
    return output();
  };
  return {
    output,
    ended,
    end: async () => {
      await process.signal('SIGTERM').catch(() => undefined);
      return ended();
    },
  };
}

/** Writes of 4 KiB to random places of the whole array. `pauseMs`: each that takes as long is told of. */
export function allOver(
  cluster: Cluster,
  node: number,
  { rate, pauseMs }: { rate: number; pauseMs: number },
): Promise<Running> {
  const words = ['--device', '/dev/md0', '--node', String(node), '--random', '--rate', String(rate)];
  return mdio(cluster, node, ['write', ...words, '--pause-ms', String(pauseMs)]);
}

/** Lines of JSON; a last one that is still being written is left out. */
export function jsonLines<T>(text: string): T[] {
  const lines: T[] = [];
  for (const line of text.split('\n')) {
    if (!line.startsWith('{')) continue;
    try {
      lines.push(JSON.parse(line));
    } catch {
      // Cut off.
    }
  }
  return lines;
}

export interface WritePause {
  wallMs: number;
  lengthMs: number;
}

export interface WriteSummary {
  acknowledged: number;
  failed: number;
  hanging: number;
  latency: { p50Ms: number; p99Ms: number; maxMs: number };
  pauses: { list: WritePause[] };
}

export function writeSummary(text: string, node: number): WriteSummary {
  const [summary] = jsonLines<WriteSummary>(text);
  if (summary === undefined) throw new Error(`the writer of node ${node} gave no summary: ${text.slice(0, 300)}`);
  if (summary.failed > 0 || summary.hanging > 0) {
    throw new Error(`the writer of node ${node}: ${summary.failed} writes failed, ${summary.hanging} hang`);
  }
  return summary;
}

/** The longest write of any node that was under way in the span, by the host's clock; null: none was as long as the writers note. */
export function longestPauseMs(
  summaries: ReadonlyMap<number, WriteSummary>,
  clocks: Clocks,
  fromMs: number,
  untilMs: number,
): number | null {
  let longest: number | null = null;
  for (const [node, { pauses }] of summaries) {
    for (const { wallMs, lengthMs } of pauses.list) {
      const begun = clocks.hostMs(node, wallMs);
      if (begun + lengthMs < fromMs || begun > untilMs) continue;
      if (longest === null || lengthMs > longest) longest = lengthMs;
    }
  }
  return longest;
}

interface LogLine {
  time: string;
  event?: string;
  subject?: string;
  [field: string]: unknown;
}

/** When, by the host's clock, an agent first told of this event after a moment; waits for it. */
export async function toldAtMs(
  cluster: Cluster,
  clocks: Clocks,
  node: number,
  event: string,
  afterMs: number,
  timeoutMs = 60_000,
): Promise<number> {
  return cluster.until(`${event} in the log of node ${node}`, timeoutMs, async () => {
    for (const line of jsonLines<LogLine>(cluster.agentLog(node))) {
      // What another node decided or saw stands there, too.
      if (line.event !== event || (line.origin ?? node) !== node) continue;
      const atMs = clocks.hostMs(node, Date.parse(line.time));
      if (atMs >= afterMs) return atMs;
    }
    return null;
  });
}

/** A guest's kernel now and then hangs before its first process: that is the laboratory's, not what is measured. */
export async function bootAgain(guest: Guest): Promise<void> {
  await guest.boot().catch(async () => {
    await guest.kill9();
    await guest.boot();
  });
}

/** Each round another node, never the master. */
export function victimOf(cluster: Cluster, master: number, round: number): number {
  return cluster.nodes.filter((node) => node !== master)[round % (cluster.nodes.length - 1)] ?? 0;
}

/** Until a killed node is out of the writers, its last writes are on all legs, and the others write. */
export async function untilEvicted(cluster: Cluster, master: number, victim: number): Promise<void> {
  await cluster.until('the dead node evicted', 60_000, async () => {
    const array = await cluster.array(master);
    return array !== undefined && !array.record.writers.includes(victim) && array.record.resync === null;
  });
  await cluster.open(cluster.nodes.filter((node) => node !== victim));
}

export const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));
