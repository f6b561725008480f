/** `mdmesh top`: the cluster as this node sees it, live on the whole screen; once and plain where there is none. */
import { setTimeout as sleep } from 'node:timers/promises';
import { loadScreen } from '../one_binary.ts';
import { eventLine } from '../outlets/cloud_event.ts';
import type { AgentClient } from './agent_client.ts';
import type { Context } from './context.ts';
import { textOf } from './failure.ts';
import { statusText } from './status.ts';
import { painter } from './table.ts';
import { wantsColour } from './terminal.ts';
import type { TopInput } from './top/model.ts';
import { parsed } from './watch.ts';

export interface TopOptions {
  json?: boolean;
  once?: boolean;
}

const HISTORY = 200;
const SHOWN_ONCE = 10;
const AGAIN_MS = 1000;

export async function top({ terminal, agent: openAgent }: Context, options: TopOptions): Promise<number> {
  const agent = await openAgent();
  // Before the screen is taken: who has mistyped the socket is to read why.
  const status = await agent.status();
  if (options.json === true || options.once === true || !terminal.tty || !terminal.interactive) {
    const { events } = await agent.newestEvents(HISTORY);
    if (options.json === true) terminal.out(`${JSON.stringify({ status, events })}\n`);
    else {
      const lines = events.slice(-SHOWN_ONCE).map((event) => `${eventLine(event)}\n`);
      terminal.out(`${statusText(status, painter(wantsColour(terminal)))}\n${lines.join('')}`);
    }
    return 0;
  }
  const { showTop } = await loadScreen();
  await showTop((tell) => {
    const end = new AbortController();
    follow(agent, tell, end.signal);
    return () => end.abort();
  });
  return 0;
}

/** Two streams, each over restarts of the agent, until the signal says so. */
function follow(agent: AgentClient, tell: (input: TopInput) => void, signal: AbortSignal): void {
  const again = async (stream: () => Promise<void>, lost: (why: string) => void): Promise<void> => {
    while (!signal.aborted) {
      const why = await stream().then(() => 'it ended', textOf);
      if (signal.aborted) return;
      lost(why);
      await sleep(AGAIN_MS, undefined, { signal }).catch(() => undefined);
    }
  };
  let cursor: number | null = null;
  const events = async (): Promise<void> => {
    if (cursor === null) {
      const newest = await agent.newestEvents(HISTORY);
      tell({ type: 'events', events: newest.events });
      cursor = newest.cursor;
    }
    for await (const line of agent.events(cursor, signal)) {
      const told = parsed(line, agent);
      // A snapshot's cursor counts once the snapshot is whole.
      if (told.type !== 'snapshot' && told.type !== 'cursor-too-old') cursor = told.cursor ?? cursor;
      if ('specversion' in told) tell({ type: 'events', events: [told] });
    }
  };
  const statuses = async (): Promise<void> => {
    for await (const status of agent.statuses(signal)) tell({ type: 'status', status });
  };
  void again(events, () => undefined);
  void again(statuses, (why) => tell({ type: 'lost', why: `no word from the agent: ${why}` }));
}
