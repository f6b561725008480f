/**
 * `mdmesh manage`: mdadm's fail, remove and add, done in the order in which they were written. A member whose failure is
 * not released yet is still read by some node: its removal waits for that.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { compareVersions, type MemberRecord } from '../arrays/record.ts';
import type { ArrayStatus } from '../outlets/index.ts';
import type { AgentClient } from './agent_client.ts';
import type { Context } from './context.ts';
import { sameDevice } from './devices.ts';
import { codeOf, Failure, UsageFailure } from './failure.ts';
import { devicePath } from './mdadm_words.ts';
import type { Spoken } from './requests.ts';

export interface Step {
  verb: 'fail' | 'remove' | 'add';
  /** Device path or member UUID; for `remove` also `faulty`: every faulty member, and `detached`: those whose disk is gone. */
  device: string;
}

export interface StepOptions {
  force?: boolean;
  /** For tests. @default 30000 */
  settleMs?: number;
}

export interface ManageOptions extends Spoken, StepOptions {}

export interface StepOutcome {
  verb: Step['verb'];
  device: string;
  ok: boolean;
  text: string;
}

const settleMsDefault = 30_000;
const pollMs = 100;

export async function manage(context: Context, md: string, steps: Step[], options: ManageOptions): Promise<number> {
  if (steps.length === 0) {
    throw new UsageFailure(`manage ${md}: nothing to do; give --fail, --remove or --add with devices`);
  }
  const outcomes: StepOutcome[] = [];
  await doSteps(await context.agent(), md, steps, options, (outcome) => {
    outcomes.push(outcome);
    if (options.json) return;
    if (!outcome.ok) throw new Failure(outcome.text);
    context.terminal.out(`${outcome.text}\n`);
  });
  if (options.json) context.terminal.out(`${JSON.stringify(outcomes)}\n`);
  return outcomes.every((outcome) => outcome.ok) ? 0 : 1;
}

/** One after the other, up to the first that is refused; its text tells how many were left. */
export async function doSteps(
  agent: AgentClient,
  md: string,
  steps: readonly Step[],
  options: StepOptions,
  tell: (outcome: StepOutcome) => void,
): Promise<void> {
  for (const { verb, device } of steps) {
    if (verb === 'remove' || !memberWords.has(device)) continue;
    throw new UsageFailure(`${md}: --${verb} ${device}: only --remove knows this word; name a device`);
  }
  const failed: string[] = [];
  for (const [index, step] of steps.entries()) {
    const { verb } = step;
    // Only now: a member that the step before failed is one of the faulty ones.
    const meant = memberWords.has(step.device) ? await membersMeant(agent, md, step.device) : null;
    for (const device of meant ?? [devicePath(step.device)]) {
      if (verb === 'remove' && (meant !== null || failed.some((each) => sameDevice(each, device)))) {
        await settled(agent, md, device, options.settleMs ?? settleMsDefault);
      }
      const { ok, text } =
        verb === 'add'
          ? await agent.request({ verb, array: md, device, force: options.force ?? false })
          : await agent.request({ verb, array: md, device });
      const left = steps.length - index - 1;
      tell({ verb, device, ok, text: ok || left === 0 ? text : `${text}; ${leftText(left)}` });
      if (!ok) return;
      if (verb === 'fail') failed.push(device);
    }
  }
}

function leftText(count: number): string {
  return count === 1 ? '1 further step was not done' : `${count} further steps were not done`;
}

/** mdadm's words for members that need not be named. */
const memberWords = new Set(['faulty', 'failed', 'detached']);

async function membersMeant(agent: AgentClient, md: string, word: string): Promise<string[]> {
  const { record, paths } = await agent.array(md);
  return record.members
    .filter(({ role, uuid }) => role === 'faulty' && (word !== 'detached' || isDetached(paths[uuid])))
    .map(({ uuid }) => paths[uuid] ?? uuid);
}

/** mdadm's test: opening the device says that there is none behind it. */
function isDetached(path: string | undefined): boolean {
  if (path === undefined) return true;
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
    return false;
  } catch (error) {
    return ['ENXIO', 'ENODEV', 'ENOENT'].includes(codeOf(error) ?? '');
  }
}

/** Until the failure is committed, released everywhere and answered here. */
async function settled(agent: AgentClient, md: string, device: string, withinMs: number): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += pollMs) {
    const array = await agent.array(md);
    const member = memberAt(array, device);
    // Unknown by this path: the master tells more about it than this node can.
    if (member === undefined || isSettled(array, member)) return;
    if (waitedMs >= withinMs) {
      throw new Failure(
        `${md}: the failure of ${device} has not settled within ${withinMs} ms, so it was not removed; see mdmesh status, then mdmesh manage ${md} --remove ${device}`,
      );
    }
    await sleep(pollMs);
  }
}

function memberAt(array: ArrayStatus, device: string): MemberRecord | undefined {
  return array.record.members.find(({ uuid }) => {
    const path = array.paths[uuid];
    return uuid === device || (path !== undefined && sameDevice(path, device));
  });
}

function isSettled(array: ArrayStatus, member: MemberRecord): boolean {
  if (member.role !== 'faulty') return false;
  if (array.released === null || compareVersions(array.released, array.record.version) < 0) return false;
  const local = array.local?.members.find(({ uuid }) => uuid === member.uuid);
  return local === undefined || !local.blocked;
}
