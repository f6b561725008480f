/**
 * `mdmesh manage`: mdadm's fail, remove, add, re-add and replace, done in the order in which they were written. A member whose failure is
 * not released yet is still read by some node: its removal waits for that.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ArrayRecord, compareVersions, type MemberRecord } from '../arrays/record.ts';
import type { Superblock } from '../md/driver.ts';
import type { ArrayStatus } from '../outlets/index.ts';
import type { Request } from '../wire/messages.ts';
import type { AgentClient } from './agent_client.ts';
import type { Context } from './context.ts';
import { sameDevice } from './devices.ts';
import { codeOf, Failure, UsageFailure } from './failure.ts';
import { devicePath } from './mdadm_words.ts';
import type { Spoken } from './requests.ts';

export interface Step {
  verb: 'fail' | 'remove' | 'add' | 're-add' | 'replace';
  /** Device path or member UUID, or one of mdadm's words for members that need not be named (`wordsOf`). */
  device: string;
  /** The spare that is to replace it; left out: any. */
  with?: string;
}

export interface StepOptions {
  force?: boolean;
  /** Nodes that do not see an added disk are left out, until they do. */
  allowMissing?: boolean;
  /** For tests. @default 30000 */
  settleMs?: number;
}

export interface ManageOptions extends Spoken, StepOptions {}

export interface StepOutcome {
  /** As the cluster was asked. */
  verb: Asked;
  device: string;
  ok: boolean;
  text: string;
}

const settleMsDefault = 30_000;
const pollMs = 100;

export async function manage(context: Context, md: string, steps: Step[], options: ManageOptions): Promise<number> {
  if (steps.length === 0) {
    throw new UsageFailure(
      `manage ${md}: nothing to do; give --fail, --remove, --add, --re-add or --replace with devices`,
    );
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
    const knowing = verbsOfWord.get(device);
    if (knowing === undefined || knowing.includes(verb)) continue;
    const options = knowing.map((each) => `--${each}`).join(' and ');
    throw new UsageFailure(`${md}: --${verb} ${device}: only ${options} know this word; name a device`);
  }
  const failed: string[] = [];
  for (const [index, step] of steps.entries()) {
    const { verb } = step;
    // Only now: a member that the step before failed is one of the faulty ones.
    const isWord = verbsOfWord.has(step.device);
    const meant = isWord ? await membersMeant(agent, md, step) : [devicePath(step.device)];
    if (verb === 're-add' && !isWord) await checkReAdd(agent, md, meant);
    for (const device of meant) {
      // A faulty member that is to come back has to be out of the array first.
      const asked: Asked[] = isFaultyWord(step) && verb === 're-add' ? ['remove', 'add'] : [asVerb(verb)];
      for (const verbAsked of asked) {
        if (verbAsked === 'remove' && (isWord || failed.some((each) => sameDevice(each, device)))) {
          await settled(agent, md, device, options.settleMs ?? settleMsDefault);
        }
        const { ok, text } = await agent.request(requestFor(md, verbAsked, device, step, options));
        const left = steps.length - index - 1;
        tell({ verb: verbAsked, device, ok, text: ok || left === 0 ? text : `${text}; ${leftText(left)}` });
        if (!ok) return;
        if (verbAsked === 'fail') failed.push(device);
      }
    }
  }
}

type Asked = 'fail' | 'remove' | 'add' | 'replace';

function requestFor(array: string, verb: Asked, device: string, step: Step, options: StepOptions): Request {
  if (verb === 'add') {
    const { force = false, allowMissing = false } = options;
    return { verb, array, device, force, ...(allowMissing ? { allowMissing } : {}) };
  }
  if (verb !== 'replace') return { verb, array, device };
  return { verb, array, device, with: step.with === undefined ? null : devicePath(step.with) };
}

/** To the cluster a disk that comes back is one that is added: the master sees for itself what it lacks. */
function asVerb(verb: Step['verb']): Asked {
  return verb === 're-add' ? 'add' : verb;
}

function leftText(count: number): string {
  return count === 1 ? '1 further step was not done' : `${count} further steps were not done`;
}

/**
 * mdadm's words for members that need not be named, and which steps know them: `faulty` (or `failed`) is every faulty member,
 * `detached` those whose disk this node does not see, `missing` the disks of this array that are seen here and not in it.
 */
const verbsOfWord: ReadonlyMap<string, readonly Step['verb'][]> = new Map([
  ['faulty', ['remove', 're-add']],
  ['failed', ['remove', 're-add']],
  ['detached', ['fail', 'remove']],
  ['missing', ['add', 're-add']],
]);

/** Whether mdadm's users mean members by it, and no device. */
export function isMemberWord(word: string): boolean {
  return verbsOfWord.has(word);
}

function isFaultyWord({ device }: Step): boolean {
  return device === 'faulty' || device === 'failed';
}

async function membersMeant(agent: AgentClient, md: string, step: Step): Promise<string[]> {
  const { record, paths } = await agent.array(md);
  if (step.device === 'missing') {
    const disks = await agent.disks();
    return disks.filter(({ superblock }) => isOutside(record, superblock)).map(({ path }) => path);
  }
  const isMeant = ({ role, uuid }: MemberRecord) => {
    // One that cannot come back is not taken out for it either.
    if (isFaultyWord(step)) return role === 'faulty' && (step.verb === 'remove' || !isDetached(paths[uuid]));
    // What is active is not taken out, it is failed first; what is faulty cannot fail again.
    const fitting = step.verb === 'fail' ? role !== 'faulty' : role === 'faulty' || role === 'spare';
    return fitting && isDetached(paths[uuid]);
  };
  const meant = record.members.filter(isMeant);
  if (step.verb === 'fail' && meant.length > 0 && record.members.every(({ uuid }) => isDetached(paths[uuid]))) {
    throw new Failure(
      `${md}: --fail detached: this node sees no disk of it at all, which is no fault of the disks; ask on a node that sees them`,
    );
  }
  return meant.map(({ uuid }) => paths[uuid] ?? uuid);
}

/** Of this array by its superblock, and no member of it any more. */
function isOutside(record: ArrayRecord, superblock: Superblock | null): boolean {
  return superblock?.setUuid === record.uuid && record.members.every(({ uuid }) => uuid !== superblock.deviceUuid);
}

/** mdadm re-adds only what the metadata on the disk calls a member of the array; anything else is for --add. */
async function checkReAdd(agent: AgentClient, md: string, devices: readonly string[]): Promise<void> {
  const [{ record }, disks] = [await agent.array(md), await agent.disks()];
  for (const device of devices) {
    const disk = disks.find(({ path, superblock }) => superblock?.deviceUuid === device || sameDevice(path, device));
    if (disk?.superblock?.setUuid === record.uuid) continue;
    throw new Failure(
      `${md}: --re-add for ${device} is not possible: ${disk === undefined ? 'this node sees no such disk' : 'its superblock is not one of this array; use --add'}`,
    );
  }
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
