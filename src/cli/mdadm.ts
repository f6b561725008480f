/**
 * `mdmesh mdadm …`, and the same under the name mdadm through a link: what mdadm's users type for an array of the cluster
 * goes to the agent; everything else, and every other array, goes to the real mdadm as it was typed. Stock mdadm refuses to
 * manage arrays whose metadata it does not know, so nothing that it can do is taken away from it here.
 */
import { closeSync, existsSync, openSync, readdirSync, readSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { nodeSlotsOf } from '../arrays/levels.ts';
import { FEATURE_MESH_OWNED, SUPERBLOCK_MAGIC } from '../md/superblock.ts';
import type { Request } from '../wire/messages.ts';
import { AgentAbsent, type AgentClient } from './agent_client.ts';
import type { Context } from './context.ts';
import { detail } from './detail.ts';
import { Failure, textOf, UsageFailure } from './failure.ts';
import { type Growing, grow } from './grow.ts';
import { doSteps, isMemberWord, type StepOptions } from './manage.ts';
import {
  type CreateLine,
  type GrowLine,
  type ManageLine,
  type MiscLine,
  type MiscVerb,
  readMdadmLine,
} from './mdadm_line.ts';
import { runRealMdadm } from './mdadm_real.ts';
import { bitmapOf, chunkKibOf, componentKibOf, countOf, levelOf, mdName, uuidOf, WordError } from './mdadm_words.ts';
import { metadataHere } from './mesh_arrays.ts';
import { create } from './requests.ts';
import { type WaitTimes, wait } from './wait.ts';

export interface MdadmOptions extends Pick<StepOptions, 'settleMs'> {
  /** For tests. */
  wait?: WaitTimes;
  /** @default /sys/block */
  sysBlock?: string;
  /** Where the real mdadm is looked for behind PATH. @default /usr/sbin and /sbin */
  systemDirs?: readonly string[];
}

/** As mdadm's for a member that is in use. */
const notZeroedExitCode = 2;
const SUPERBLOCK_BYTES = 4096;

/** mdadm --detail --test: nothing could be found out about the array. */
const noDetailExitCode = 4;

export async function mdadm(context: Context, argv: readonly string[], options: MdadmOptions = {}): Promise<number> {
  const line = readMdadmLine(argv);
  switch (line.mode) {
    case 'manage': {
      const md = await meshArray(context, line.array, options);
      if (md !== null) return manageMesh(context, md, line, options);
      break;
    }
    case 'grow': {
      const md = await meshArray(context, line.array, options);
      if (md !== null) return growMesh(context, md, line);
      break;
    }
    case 'create':
      return createMesh(context, line);
    case 'assemble': {
      const md = await meshArray(context, line.array, options);
      if (md === null) break;
      await requested(
        await context.agent(),
        { verb: 'assemble', array: md, ...(line.force && { force: true }) },
        speaker(context, line.quiet),
      );
      return 0;
    }
    case 'misc': {
      if (line.actions.length === 0) return scanDetail(context, argv, line, options);
      const meant = await Promise.all(
        line.actions.map(async (action) => {
          const isMember = action.verb === 'zero-superblock';
          return {
            ...action,
            md: isMember ? ownedMember(action.device) : await meshArray(context, action.device, options),
          };
        }),
      );
      if (meant.some(({ md }) => md !== null)) return eachOf(context, argv, line, meant, options);
      break;
    }
    case 'other':
      break;
  }
  return runRealMdadm(context.terminal.env, argv, options.systemDirs);
}

async function manageMesh(context: Context, md: string, line: ManageLine, options: MdadmOptions): Promise<number> {
  const [unknown] = line.unknown;
  if (unknown !== undefined) {
    throw new UsageFailure(
      `mdadm: ${md} is an array of the cluster, and mdmesh has no ${unknown} for it; nothing was done (it has --add, --re-add, --fail, --remove, --replace and --stop)`,
    );
  }
  const set = line.steps.find(({ device }) => /^set-[A-Z]$/.test(device) && !existsSync(device));
  if (set !== undefined) {
    throw new UsageFailure(`mdadm: ${md}: "${set.device}" is not known here; name each device; nothing was done`);
  }
  const agent = await context.agent();
  const say = speaker(context, line.quiet);
  let changes = 0;
  const steps = line.steps.map((step) => ({
    ...step,
    device: kernelName(step.device),
    ...(step.with === undefined ? {} : { with: kernelName(step.with) }),
  }));
  await doSteps(agent, md, steps, { ...options, force: line.force }, (outcome) => {
    if (!outcome.ok) throw new Failure(outcome.text);
    changes += 1;
    say(outcome.text);
  });
  if (line.stop) {
    await stop(agent, md, say);
    changes += 1;
  }
  return line.test && changes === 0 ? 2 : 0;
}

async function growMesh(context: Context, md: string, line: GrowLine): Promise<number> {
  const [unknown] = line.unknown;
  if (unknown !== undefined) {
    throw new UsageFailure(
      `mdadm: ${md} is an array of the cluster, and mdmesh cannot grow it by ${unknown}; nothing was done (it has --raid-devices, --size, --assume-clean, --bitmap, --bitmap-chunk and --add)`,
    );
  }
  const { assumeClean, force } = line;
  const growing: Growing = { assumeClean, force, add: line.add.map(kernelName) };
  try {
    if (line.raidDevices !== null) growing.raidDevices = countOf(line.raidDevices, 1);
    if (line.size !== null) growing.size = componentKibOf(line.size);
    if (line.bitmap !== null) growing.bitmap = bitmapOf(line.bitmap);
    if (line.bitmapChunk !== null) growing.bitmapChunk = chunkKibOf(line.bitmapChunk);
  } catch (error) {
    if (error instanceof WordError) throw new UsageFailure(`mdadm: ${md}: ${error.message}`);
    throw error;
  }
  await grow(await context.agent(), md, growing, speaker(context, line.quiet));
  return 0;
}

/** `--create … --bitmap=clustered --nodes=N`: as with the in-kernel cluster, N is for how many nodes it has room. */
async function createMesh(context: Context, line: CreateLine): Promise<number> {
  const [unknown] = line.unknown;
  const { values } = line;
  const say = (text: string) => new UsageFailure(`mdadm: ${line.array}: ${text}; nothing was done`);
  if (unknown !== undefined) throw say(`an array of the cluster cannot be created with ${unknown}`);
  const metadata = values.get('metadata') ?? '1.2';
  if (metadata !== '1.2') throw say(`metadata ${metadata}: arrays of the cluster have 1.2`);
  const agent = await context.agent();
  const { nodes } = (await agent.status()).list;
  try {
    const room = countOf(values.get('nodes') ?? String(nodes.length), 1);
    const slots = nodeSlotsOf({});
    if (room < nodes.length || room > slots) {
      throw say(`--nodes=${room}: the cluster has ${nodes.length} nodes, and a new array has room for ${slots}`);
    }
    const [level, layout, chunk, name] = [
      values.get('level'),
      values.get('layout'),
      values.get('chunk'),
      values.get('name'),
    ];
    if (level === undefined) throw say('a RAID level is needed to create an array');
    return await create(context, mdName(line.array), line.devices.map(kernelName), {
      level: levelOf(level),
      raidDevices: countOf(values.get('raid-devices') ?? '', 1),
      spareDevices: countOf(values.get('spare-devices') ?? '0', 0),
      ...(layout === undefined ? {} : { layout }),
      ...(chunk === undefined ? {} : { chunk: chunkKibOf(chunk) }),
      ...(name === undefined ? {} : { name }),
      bitmap: 'internal',
      assumeClean: line.assumeClean,
      force: line.force,
    });
  } catch (error) {
    if (error instanceof WordError) throw say(error.message);
    throw error;
  }
}

/** All arrays of this machine, the cluster's in the agent's words. */
async function scanDetail(
  context: Context,
  argv: readonly string[],
  line: MiscLine,
  options: MdadmOptions,
): Promise<number> {
  const sysBlock = options.sysBlock ?? '/sys/block';
  const running = readdirSync(sysBlock)
    .filter((name) => /^md/.test(name))
    .sort();
  if (!running.some((md) => metadataHere(sysBlock, md) === 'mesh')) {
    return runRealMdadm(context.terminal.env, argv, options.systemDirs);
  }
  try {
    await (await context.agent()).status();
  } catch (error) {
    if (!(error instanceof AgentAbsent)) throw error;
    context.terminal.err(`mdmesh: ${textOf(error)}; what follows is only what this node's kernel knows\n`);
    return runRealMdadm(context.terminal.env, argv, options.systemDirs);
  }
  let exitCode = 0;
  for (const md of running) {
    const whose = metadataHere(sysBlock, md);
    if (whose === 'mesh') exitCode |= await detail(context, md, { test: line.test, form: line.form });
    else if (whose === 'other') {
      const form = line.form === 'export' ? '--export' : '--brief';
      exitCode |= await runRealMdadm(context.terminal.env, ['--detail', form, `/dev/${md}`], options.systemDirs);
    }
  }
  return exitCode;
}

/** The device, when it carries the superblock of an array that a cluster owns: by the bit that stock kernels do not know. */
function ownedMember(device: string): string | null {
  const head = Buffer.alloc(12);
  try {
    const file = openSync(device, 'r');
    try {
      readSync(file, head, 0, head.length, SUPERBLOCK_BYTES);
    } finally {
      closeSync(file);
    }
  } catch {
    return null;
  }
  const isOwned = head.readUInt32LE(0) === SUPERBLOCK_MAGIC && (head.readUInt32LE(8) & FEATURE_MESH_OWNED) !== 0;
  return isOwned ? device : null;
}

/** Each device by itself, as mdadm does: what fails for one does not keep the others from their turn. */
async function eachOf(
  context: Context,
  argv: readonly string[],
  line: MiscLine,
  meant: readonly (MiscLine['actions'][number] & { md: string | null })[],
  options: MdadmOptions,
): Promise<number> {
  let exitCode = 0;
  for (const { md, verb, at } of meant) {
    const others = new Set(meant.map((each) => each.at).filter((each) => each !== at));
    const alone = argv.filter((_, index) => !others.has(index));
    const real = () => runRealMdadm(context.terminal.env, alone, options.systemDirs);
    try {
      if (md === null) exitCode |= await real();
      else exitCode |= await miscMesh(context, md, verb, line, options);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      context.terminal.err(`mdmesh: ${textOf(error)}\n`);
      if (verb === 'detail' && error instanceof AgentAbsent) {
        context.terminal.err(`mdmesh: ${md}: what follows is only what this node's kernel knows\n`);
        exitCode |= await real();
      } else {
        exitCode |= verb === 'detail' && line.test ? noDetailExitCode : error.exitCode;
      }
    }
  }
  return exitCode;
}

async function miscMesh(
  context: Context,
  md: string,
  verb: MiscVerb,
  line: MiscLine,
  options: MdadmOptions,
): Promise<number> {
  switch (verb) {
    case 'detail':
      return detail(context, md, { test: line.test, form: line.form });
    case 'zero-superblock':
      throw new Failure(
        `${md} belongs to an array of a cluster - not zeroing; mdmesh manage takes it out of the array, mdmesh release gives a stopped array back to mdadm`,
        notZeroedExitCode,
      );
    case 'wait':
      return wait(context, md, { ...options.wait, quiet: true });
    case 'stop':
      await stop(await context.agent(), md, speaker(context, line.quiet));
      return 0;
    case 'action':
      if (line.syncAction === null) throw new Error(`mdadm: ${md}: no value of --action was read`);
      await requested(
        await context.agent(),
        { verb, array: md, action: line.syncAction },
        speaker(context, line.quiet),
      );
      return 0;
  }
}

async function stop(agent: AgentClient, md: string, say: (text: string) => void): Promise<void> {
  await requested(agent, { verb: 'stop', array: md }, say);
}

async function requested(agent: AgentClient, request: Request, say: (text: string) => void): Promise<void> {
  const { ok, text } = await agent.request(request);
  if (!ok) throw new Failure(text);
  say(text);
}

/** mdadm speaks on standard error. */
function speaker({ terminal }: Context, quiet: boolean): (text: string) => void {
  return (text) => {
    if (!quiet) terminal.err(`mdmesh: ${text}\n`);
  };
}

/** The md name, when the word means an array of the cluster: by the kernel's word where it runs here, else by the agent's. */
async function meshArray(context: Context, word: string, options: MdadmOptions): Promise<string | null> {
  const md = mdOf(word);
  if (md === null) return null;
  const here = metadataHere(options.sysBlock ?? '/sys/block', md);
  if (here !== null) return here === 'mesh' ? md : null;
  try {
    await (await context.agent()).array(md);
    return md;
  } catch (error) {
    // No agent, no such array, no right to ask: then nothing says that it is the cluster's.
    if (error instanceof Failure) return null;
    throw error;
  }
}

function mdOf(word: string): string | null {
  for (const name of [realPath(word), word]) {
    try {
      return mdName(name);
    } catch (error) {
      if (!(error instanceof WordError)) throw error;
    }
  }
  return null;
}

/** /dev/md/demo is a link to /dev/md0. */
function realPath(word: string): string {
  try {
    return realpathSync(word);
  } catch {
    return resolve(word);
  }
}

/** mdadm takes the kernel's name of a member as well: sdb. */
function kernelName(word: string): string {
  const isName = !word.includes('/') && uuidOf(word) === null && !isMemberWord(word);
  return isName && !existsSync(word) ? `/dev/${word}` : word;
}
