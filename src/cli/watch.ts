/** `mdmesh watch`: events as they happen, over restarts of the agent, until interrupted. */
import { setTimeout as sleep } from 'node:timers/promises';
import { eventLine } from '../outlets/cloud_event.ts';
import type { CloudEvent, StreamMark } from '../outlets/told.ts';
import { AgentAbsent, type AgentClient } from './agent_client.ts';
import type { Context } from './context.ts';
import { Failure } from './failure.ts';
import type { Terminal } from './terminal.ts';

export interface WatchOptions {
  json?: boolean;
  after?: number;
}

const retryMs = 250;

export async function watch({ terminal, agent: openAgent }: Context, options: WatchOptions): Promise<number> {
  const agent = await openAgent();
  return followEvents(terminal, agent, options.after ?? null, (line, told) => {
    terminal.out(options.json ? `${line}\n` : humanLine(told));
  });
}

/** Gives what the agent tells, over restarts of it, to `take`, which is waited for, until the caller is interrupted. */
export async function followEvents(
  terminal: Terminal,
  agent: AgentClient,
  after: number | null,
  take: (line: string, told: CloudEvent | StreamMark) => void | Promise<void>,
): Promise<number> {
  const end = new AbortController();
  const stopListening = terminal.onInterrupt(() => end.abort());
  try {
    let cursor = after;
    let everConnected = false;
    let lost = false;
    while (!end.signal.aborted) {
      try {
        for await (const line of agent.events(cursor, end.signal)) {
          if (lost) terminal.err(`mdmesh: the agent at ${agent.socketPath} is back\n`);
          lost = false;
          everConnected = true;
          const told = parsed(line, agent);
          await take(line, told);
          // A snapshot's cursor counts once the snapshot is whole.
          if (!('specversion' in told) && (told.type === 'snapshot' || told.type === 'cursor-too-old')) continue;
          cursor = told.cursor ?? cursor;
        }
        everConnected = true;
      } catch (error) {
        if (end.signal.aborted) break;
        if (!everConnected || !(error instanceof Failure)) throw error;
        // A request that was under way while the agent went down is as good as a refused one.
        if (!(error instanceof AgentAbsent) && !lost) terminal.err(`mdmesh: ${error.message}\n`);
      }
      if (end.signal.aborted) break;
      if (!lost) terminal.err(`mdmesh: the agent at ${agent.socketPath} went away; waiting for it\n`);
      lost = true;
      await sleep(retryMs, undefined, { signal: end.signal }).catch(() => undefined);
    }
    return 0;
  } finally {
    stopListening();
  }
}

export function parsed(line: string, agent: AgentClient): CloudEvent | StreamMark {
  let told: unknown;
  try {
    told = JSON.parse(line);
  } catch {
    told = null;
  }
  if (isTold(told)) return told;
  throw new Error(`agent at ${agent.socketPath}: line ${line.slice(0, 80)} is no event; are both of one version?`);
}

function isTold(value: unknown): value is CloudEvent | StreamMark {
  if (typeof value !== 'object' || value === null || !('type' in value)) return false;
  return 'specversion' in value ? 'data' in value && 'time' in value : 'cursor' in value;
}

function humanLine(told: CloudEvent | StreamMark): string {
  if ('specversion' in told) return `${eventLine(told)}\n`;
  switch (told.type) {
    case 'snapshot': {
      const { cluster, lease, nodes, arrays } = told.status;
      const alive = nodes.filter(({ status }) => status === 'alive').length;
      const master = lease.master === null ? 'no master known' : `master node ${lease.master}`;
      return `# ${cluster.name}: term ${lease.term}, ${master}, ${alive} of ${nodes.length} nodes alive, ${arrays.length} arrays\n`;
    }
    case 'snapshot-end':
      return `# events from cursor ${told.cursor} on\n`;
    case 'cursor-too-old':
      return `# cursor ${told.after} is not in the journal any more; from a new snapshot on\n`;
    case 'missed':
      return `# too slow: ${told.count} events missed; mdmesh watch --after ${told.after} has those still in the journal\n`;
  }
}
