/** The commands that ask the cluster for something: one request each, and its outcome in words. */
import type { ArrayRecord } from '../arrays/record.ts';
import type { Disk, Superblock } from '../md/driver.ts';
import { levelName } from '../md/superblock.ts';
import type { Request } from '../wire/messages.ts';
import type { AgentClient } from './agent_client.ts';
import type { Context } from './context.ts';
import { sameDevice } from './devices.ts';
import { Failure, UsageFailure } from './failure.ts';
import { devicePath, layoutOf, mdName, usualAccess, uuidOf, WordError } from './mdadm_words.ts';

export interface Spoken {
  json?: boolean;
}

/** Sends one request and tells its outcome: words on standard output, or on standard error with exit code 1. */
export async function ask(context: Context, request: Request, options: Spoken): Promise<number> {
  return tell(context, await (await context.agent()).request(request), options);
}

export function tell(context: Context, outcome: { ok: boolean; text: string }, options: Spoken): number {
  if (options.json) context.terminal.out(`${JSON.stringify(outcome)}\n`);
  else if (outcome.ok) context.terminal.out(`${outcome.text}\n`);
  if (!outcome.ok && !options.json) throw new Failure(outcome.text);
  return outcome.ok ? 0 : 1;
}

export interface CreateOptions extends Spoken {
  level: ArrayRecord['level'];
  raidDevices: number;
  spareDevices: number;
  chunk?: number;
  layout?: string;
  access?: ArrayRecord['access'];
  owner?: number;
  name?: string;
  assumeClean?: boolean;
  bitmap?: 'internal' | 'none';
  force?: boolean;
  allowMissing?: boolean;
}

export async function create(context: Context, md: string, devices: string[], options: CreateOptions): Promise<number> {
  const wanted = options.raidDevices + options.spareDevices;
  if (devices.length !== wanted) {
    throw new UsageFailure(
      `create ${md}: ${devices.length} of ${wanted} devices given (${options.raidDevices} raid devices and ${options.spareDevices} spares)`,
    );
  }
  if (devices.includes('missing')) {
    throw new UsageFailure(
      `create ${md}: "missing" is not supported; create it with all of its devices, then fail one with mdmesh manage ${md} --fail`,
    );
  }
  const paths = devices.map(devicePath);
  const twice = paths.find((path, index) => paths.indexOf(path) !== index);
  if (twice !== undefined) throw new UsageFailure(`create ${md}: ${twice} is given twice; name each device once`);
  const layout = options.layout === undefined ? undefined : layoutOf(options.layout, options.level);
  const request: Request = {
    verb: 'create',
    md,
    level: options.level,
    raidDisks: options.raidDevices,
    devices: paths,
    spares: options.spareDevices,
    assumeClean: options.assumeClean ?? false,
    force: options.force ?? false,
    ...(options.allowMissing === true ? { allowMissing: true } : {}),
    ...accessOf(options, usualAccess(options.level, layout)),
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.chunk === undefined ? {} : { chunkKib: options.chunk }),
    ...(layout === undefined ? {} : { layout }),
    ...(options.bitmap === undefined ? {} : { bitmap: options.bitmap }),
  };
  return ask(context, request, options);
}

export interface AdoptOptions extends Spoken {
  as?: string;
  access?: ArrayRecord['access'];
  owner?: number;
}

/** What is adopted may be named by array UUID, by any member device, or by the md device that runs it on this node. */
export async function adopt(context: Context, what: string, options: AdoptOptions): Promise<number> {
  const agent = await context.agent();
  const { superblock, holders } = await findSuperblock(agent, what);
  const md =
    options.as ?? mdIfAny(what) ?? holders.map(mdIfAny).find((name) => name !== null) ?? nameInside(superblock);
  if (md === null) {
    throw new UsageFailure(
      `adopt ${what}: its name "${superblock.setName}" says no md number; choose one that is free on every node with --as md0`,
    );
  }
  const level = levelName(superblock.level);
  if (level === null) throw new Failure(`adopt ${what}: level ${superblock.level} is not one mdmesh can run`);
  const request: Request = {
    verb: 'adopt',
    md,
    uuid: superblock.setUuid,
    ...accessOf(options, usualAccess(level, superblock.layout)),
  };
  return tell(context, await agent.request(request), options);
}

async function findSuperblock(
  agent: AgentClient,
  what: string,
): Promise<{ superblock: Superblock; holders: string[] }> {
  const uuid = uuidOf(what);
  const md = mdIfAny(what);
  const disks = await agent.disks();
  const matches = (disk: Disk) => {
    if (uuid !== null) return disk.superblock?.setUuid === uuid;
    if (md !== null) return disk.holders.includes(md);
    return sameDevice(disk.path, what);
  };
  const found = disks.filter(matches);
  for (const { superblock, holders } of found) if (superblock !== null) return { superblock, holders };
  const [first] = found;
  if (first !== undefined) {
    throw new Failure(`adopt ${what}: ${first.path}: ${first.problem ?? 'no md superblock (v1.2) on it'}`);
  }
  throw new Failure(
    `adopt ${what}: no disk of this node belongs to it; name a member device that arrays.devices in the config covers`,
  );
}

function mdIfAny(word: string): string | null {
  try {
    return mdName(word);
  } catch (error) {
    if (error instanceof WordError) return null;
    throw error;
  }
}

/** mdadm names an array `host:0`, `host:md0` or `0`. */
function nameInside(superblock: Superblock): string | null {
  const match = /(?:^|:)(?:md)?([0-9]{1,4})$/.exec(superblock.setName);
  return match?.[1] === undefined ? null : `md${match[1]}`;
}

function accessOf(
  options: { access?: ArrayRecord['access']; owner?: number },
  usual: ArrayRecord['access'],
): { access: ArrayRecord['access']; owner?: number } {
  if (options.owner === undefined) return { access: options.access ?? usual };
  if (options.access === 'shared') {
    throw new UsageFailure('--owner: a shared array has none; leave --owner out, or use --access exclusive');
  }
  return { access: 'exclusive', owner: options.owner };
}
