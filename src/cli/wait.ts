/**
 * `mdmesh wait` and mdadm's `--wait`: until no copy is under way in the array. Exit codes as mdadm's: 0 it waited, 1 there was
 * nothing to wait for, 2 there is no such array.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ArrayStatus, Status } from '../outlets/index.ts';
import type { AgentClient } from './agent_client.ts';
import type { Context } from './context.ts';
import { type Copy, copyIsDue, copyLine, copyNotes, copyOf } from './copy_progress.ts';
import { Failure } from './failure.ts';
import type { Spoken } from './requests.ts';
import { eraseLine } from './terminal.ts';

export interface WaitTimes {
  /** @default 500 */
  pollMs?: number;
  /** How long a copy that is due may take to begin. @default 5000 */
  dueMs?: number;
  /** How long the agent may be away, as in a restart. @default 60000 */
  absentMs?: number;
}

export interface WaitOptions extends Spoken, WaitTimes {
  /** As mdadm: nothing is written but the progress, and that on a terminal alone. */
  quiet?: boolean;
}

/** Where no terminal is, a line at each of these steps: those of mdadm's RebuildNN events. */
const plainStepPerMille = 200;

export async function wait(context: Context, name: string, options: WaitOptions): Promise<number> {
  const { terminal } = context;
  const agent = await context.agent();
  const { pollMs = 500, dueMs = 5000, absentMs = 60_000 } = options;
  const draws = terminal.tty && !options.json;
  const says = !options.quiet && !options.json;
  let waited = false;
  let dueSinceMs = 0;
  let saidPlain = '';
  let saidHalted = false;
  for (; ; await sleep(pollMs)) {
    const array = arrayNamed(await statusOrAbsent(agent, absentMs, pollMs, waited), name);
    // An array that went away while it was waited for has no copy under way any more.
    if (array === null && !waited) throw new Failure(`array ${name}: not known here; see \`mdmesh status\``, 2);
    const copy = array === null ? null : copyOf(array);
    if (array === null || copy === null) {
      const isDue = array !== null && copyIsDue(array.record) && dueSinceMs < dueMs;
      if (!isDue) break;
      dueSinceMs += pollMs;
      continue;
    }
    waited = true;
    dueSinceMs = 0;
    const { md } = array.record;
    if (copy.state === 'halted' && !saidHalted) {
      if (draws) terminal.out(eraseLine);
      terminal.err(`mdmesh: ${md}: ${copyLine(copy)}, ${copyNotes(md, copy)}\n`);
    }
    saidHalted = copy.state === 'halted';
    if (draws) terminal.out(`${eraseLine}${md}: ${copyLine(copy)}`);
    else if (says) {
      const step = plainStep(copy);
      if (step !== saidPlain && !saidHalted) terminal.out(`${md}: ${copyLine(copy)}, ${copyNotes(md, copy)}\n`);
      saidPlain = step;
    }
  }
  if (draws && waited) terminal.out(eraseLine);
  if (options.json) terminal.out(`${JSON.stringify({ array: name, waited })}\n`);
  else if (says) terminal.out(`${name}: ${waited ? 'no copy is under way any more' : 'no copy was under way'}\n`);
  return waited ? 0 : 1;
}

function plainStep({ kind, state, progress }: Copy): string {
  return `${kind} ${state} ${progress === null ? '' : Math.floor(progress.perMille / plainStepPerMille)}`;
}

function arrayNamed(status: Status, name: string): ArrayStatus | null {
  return status.arrays.find(({ record }) => record.md === name || record.uuid === name) ?? null;
}

/** A copy outlives the agent that is asked about it. `patient`: it answered before. */
async function statusOrAbsent(agent: AgentClient, absentMs: number, pollMs: number, patient: boolean): Promise<Status> {
  for (let goneMs = 0; ; goneMs += pollMs) {
    try {
      return await agent.status();
    } catch (error) {
      // Not only AgentAbsent: a question that was under way while the agent went down is cut off.
      if (!patient || !(error instanceof Failure) || goneMs >= absentMs) throw error;
    }
    await sleep(pollMs);
  }
}
