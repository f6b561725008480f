/**
 * `mdmesh manage`: mdadm's fail, remove and add, done in the order in which they were written. A member whose failure is
 * not released yet is still read by some node: its removal waits for that.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { compareVersions, type MemberRecord } from '../arrays/record.ts';
import type { ArrayStatus } from '../outlets/index.ts';
import type { AgentClient } from './agent_client.ts';
import type { Context } from './context.ts';
import { sameDevice } from './devices.ts';
import { Failure, UsageFailure } from './failure.ts';
import { devicePath } from './mdadm_words.ts';
import type { Spoken } from './requests.ts';

export interface Step {
  verb: 'fail' | 'remove' | 'add';
  /** Device path or member UUID; for `remove` also `faulty`: every faulty member. */
  device: string;
}

export interface ManageOptions extends Spoken {
  force?: boolean;
  /** For tests. @default 30000 */
  settleMs?: number;
}

const settleMsDefault = 30_000;
const pollMs = 100;

export async function manage(context: Context, md: string, steps: Step[], options: ManageOptions): Promise<number> {
  if (steps.length === 0) {
    throw new UsageFailure(`manage ${md}: nothing to do; give --fail, --remove or --add with devices`);
  }
  const agent = await context.agent();
  const failed = new Set<string>();
  const outcomes: { verb: string; device: string; ok: boolean; text: string }[] = [];
  for (const { verb, device } of await expanded(agent, md, steps)) {
    if (verb === 'remove' && failed.has(device)) {
      await settled(agent, md, device, options.settleMs ?? settleMsDefault);
    }
    const outcome =
      verb === 'add'
        ? await agent.request({ verb, array: md, device, force: options.force ?? false })
        : await agent.request({ verb, array: md, device });
    outcomes.push({ verb, device, ...outcome });
    if (!options.json && outcome.ok) context.terminal.out(`${outcome.text}\n`);
    if (!outcome.ok) {
      const left = steps.length - outcomes.length;
      if (options.json) break;
      throw new Failure(left > 0 ? `${outcome.text}; ${left} further steps were not done` : outcome.text);
    }
    if (verb === 'fail') failed.add(device);
  }
  if (options.json) context.terminal.out(`${JSON.stringify(outcomes)}\n`);
  return outcomes.every((outcome) => outcome.ok) ? 0 : 1;
}

async function expanded(agent: AgentClient, md: string, steps: Step[]): Promise<Step[]> {
  const all: Step[] = [];
  for (const { verb, device } of steps) {
    if (device !== 'faulty' && device !== 'failed') {
      all.push({ verb, device: devicePath(device) });
    } else if (verb === 'remove') {
      const array = await agent.array(md);
      const faulty = array.record.members.filter((member) => member.role === 'faulty');
      all.push(...faulty.map(({ uuid }) => ({ verb, device: array.paths[uuid] ?? uuid })));
    } else {
      throw new UsageFailure(`manage ${md} --${verb} ${device}: only --remove knows this word; name a device`);
    }
  }
  return all;
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
