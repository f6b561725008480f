/**
 * `mdmesh drop-writes`: holds the writes of every mdmesh array of this machine, and what is read of it, although no agent runs; for
 * ExecStopPost. Nobody waits for this node before it gives up a member: what it read could be old.
 *
 * - An array whose gate is closed (`write-pending`, a `blocked` member) is held already, and must not be suspended: the
 *   store would wait, with the array's mutex, for the very write that the gate holds.
 * - A store drains the array's I/O and may hang in the kernel where no signal reaches it. So each runs in a process of its
 *   own that is waited for only so long; this one never touches the file itself. I/O that waits for a lost path (the layer
 *   under md, src/md/real_paths.ts) makes it hang too: new writes are held from its first moment, but nothing shows that, so
 *   it is not told as held.
 * - Reads are held after that, by the layer under each member, whether the writes are or not: a copy that was left under way is ended
 *   first. A member without the layer goes on being read.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { textOf } from '../error_text.ts';
import { holding, mapName, memberUuidOf } from '../md/layer.ts';
import type { Context } from './context.ts';
import { attribute, isMesh } from './mesh_arrays.ts';

/** A message to a device-mapper map. */
type TellMap = (map: string, message: string) => Promise<void>;

export interface DropOptions {
  /** @default /sys/block */
  sysBlock?: string;
  /** @default 3000 */
  withinMs?: number;
  json?: boolean;
}

export interface Drop {
  md: string;
  held: boolean;
  text: string;
}

export async function dropWrites({ terminal }: Context, options: DropOptions): Promise<number> {
  const drops = await dropAll(options.sysBlock ?? '/sys/block', options.withinMs ?? 3000);
  if (options.json) terminal.out(`${JSON.stringify(drops)}\n`);
  for (const { md, held, text } of options.json ? [] : drops) {
    if (held) terminal.out(`${md}: ${text}\n`);
    else terminal.err(`mdmesh: drop-writes: ${md}: ${text}\n`);
  }
  return drops.every(({ held }) => held) ? 0 : 1;
}

async function byDeviceMapper(map: string, message: string): Promise<void> {
  const { loadNative } = await import('../md/native.ts');
  const { withAddon } = await import('../one_binary.ts');
  await withAddon(loadNative).dmMessage(map, message);
}

/** One entry for each started array of mdmesh. Takes at most `withinMs` and a little. */
export async function dropAll(sysBlock: string, withinMs: number, tell: TellMap = byDeviceMapper): Promise<Drop[]> {
  const names = readdirSync(sysBlock).filter((name) => /^md[0-9]+$/.test(name) && isOurs(sysBlock, name));
  const drops = await Promise.all(names.map((md) => dropOne(join(sysBlock, md), md, withinMs, tell)));
  return drops.filter((drop) => drop !== null);
}

function isOurs(sysBlock: string, md: string): boolean {
  return isMesh(attribute(join(sysBlock, md, 'md/metadata_version')) ?? '');
}

async function dropOne(block: string, md: string, withinMs: number, tell: TellMap): Promise<Drop | null> {
  const startedMs = performance.now();
  const writes = await dropItsWrites(block, md, withinMs);
  if (writes === null) return null;
  const trouble = await holdReads(block, Math.max(withinMs / 4, withinMs - (performance.now() - startedMs)), tell);
  return trouble === null
    ? writes
    : { md, held: false, text: `${writes.text}; reads are not held: ${trouble}; fence this node` };
}

/** null: nothing is read of it that could be held. */
async function holdReads(block: string, withinMs: number, tell: TellMap): Promise<string | null> {
  // What waited of a copy would go on when the array is used again, over what others have written since.
  const action = attribute(join(block, 'md/sync_action')) ?? 'frozen';
  if (!['idle', 'frozen'].includes(action)) {
    const trouble = await store(join(block, 'md/sync_action'), 'frozen', withinMs);
    if (trouble !== null) return `sync_action = frozen: ${trouble}`;
  }
  for (const member of readdirSync(join(block, 'md')).filter((name) => name.startsWith('dev-'))) {
    const device = join(block, 'md', member, 'block');
    const uuid = memberUuidOf({ mapUuid: attribute(join(device, 'dm/uuid')) });
    if (
      uuid === null ||
      attribute(join(block, `md/${member}/state`))
        ?.split(',')
        .includes('faulty') === true
    )
      continue;
    const [disk] = readdirSync(join(device, 'slaves'));
    const devno = attribute(join(device, 'slaves', disk ?? '', 'dev'));
    if (devno === null) return `no disk is known under ${member}`;
    try {
      for (const message of holding(devno)) await tell(mapName(uuid), message);
    } catch (error) {
      return textOf(error);
    }
  }
  return null;
}

async function dropItsWrites(block: string, md: string, withinMs: number): Promise<Drop | null> {
  const state = attribute(join(block, 'md/array_state'));
  if (state === null || state === 'clear' || state === 'inactive') return null;
  if (state === 'readonly') return { md, held: true, text: 'is read-only' };
  if (gateClosed(block, state)) return { md, held: true, text: 'its gate holds the writes' };
  const sizeSectors = Number(attribute(join(block, 'size')) ?? Number.NaN);
  if (!Number.isSafeInteger(sizeSectors) || sizeSectors <= 0) {
    return { md, held: false, text: `size ${attribute(join(block, 'size'))} is no number of sectors; stop it by hand` };
  }
  if (suspendedWhole(block, sizeSectors)) return { md, held: true, text: 'is suspended already' };
  // hi first: a window that a resync holds grows, and never has a hole.
  const stores: [string, number][] = [
    ['md/suspend_hi', sizeSectors],
    ['md/suspend_lo', 0],
  ];
  const startedMs = performance.now();
  for (const [name, value] of stores) {
    const leftMs = Math.max(0, withinMs - (performance.now() - startedMs));
    const trouble = await store(join(block, name), value, leftMs);
    if (trouble !== null) return { md, held: false, text: `${name} = ${value}: ${trouble}; fence this node` };
  }
  return suspendedWhole(block, sizeSectors)
    ? { md, held: true, text: 'writes are held' }
    : { md, held: false, text: 'suspend_lo and suspend_hi do not read as written; fence this node' };
}

function gateClosed(block: string, state: string): boolean {
  if (state === 'write-pending') return true;
  return readdirSync(join(block, 'md'))
    .filter((name) => name.startsWith('dev-'))
    .some((name) => (attribute(join(block, `md/${name}/state`)) ?? '').split(',').includes('blocked'));
}

function suspendedWhole(block: string, sizeSectors: number): boolean {
  if (attribute(join(block, 'md/suspend_lo')) !== '0') return false;
  return Number(attribute(join(block, 'md/suspend_hi')) ?? 0) >= sizeSectors;
}

/** null: the kernel took it. A store that hangs is left to its own process. */
async function store(path: string, value: number | string, withinMs: number): Promise<string | null> {
  const child = spawn('/bin/sh', ['-c', 'printf %s "$1" > "$2"', 'sh', String(value), path], {
    detached: true,
    stdio: 'ignore',
  });
  const ended = new Promise<string | null>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code) => resolve(code === 0 ? null : 'the kernel refused it'));
  });
  const timer = new AbortController();
  const late = sleep(withinMs, `did not return within ${Math.round(withinMs)} ms`, { signal: timer.signal });
  const result = await Promise.race([ended, late.catch(() => null)]);
  timer.abort();
  child.unref();
  return result;
}
