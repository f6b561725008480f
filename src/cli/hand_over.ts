/** `mdmesh hand-over`: asks the agent to make way for its program as it is now, and waits until that answers. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Context } from './context.ts';
import { Failure, textOf } from './failure.ts';
import { tell } from './requests.ts';

/** It is the agent as soon as the other has ended; what is left is to read its journal and to reach the others. */
const ANSWERS_MS = 60_000;
const ASK_EVERY_MS = 50;

export async function handOver(context: Context, options: { json?: boolean }): Promise<number> {
  const agent = await context.agent();
  const { startedAt: before, version } = await agent.status();
  const asked = await agent.handOver();
  if (!asked.ok) return tell(context, asked, options);
  const endMs = performance.now() + ANSWERS_MS;
  let trouble = 'the agent that was asked still answers';
  while (performance.now() < endMs) {
    try {
      const now = await agent.status();
      if (now.startedAt !== before) {
        const changed = version === now.version ? `mdmesh ${version} anew` : `mdmesh ${now.version}, after ${version}`;
        return tell(context, { ok: true, text: `node ${now.self}: ${asked.text}: ${changed}` }, options);
      }
    } catch (error) {
      trouble = textOf(error);
    }
    await sleep(ASK_EVERY_MS);
  }
  throw new Failure(`hand-over: ${asked.text}, but does not answer: ${trouble}; see the agent's log, and restart it`);
}
