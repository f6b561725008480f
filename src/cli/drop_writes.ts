/**
 * `mdmesh drop-writes`: holds the writes of every mdmesh array of this machine although no agent runs; for ExecStopPost.
 *
 * - An array whose gate is closed (`write-pending`, a `blocked` member) is held already, and must not be suspended: the
 *   store would wait, with the array's mutex, for the very write that the gate holds.
 * - A store drains the array's I/O and may hang in the kernel where no signal reaches it. So each runs in a process of its
 *   own that is waited for only so long; this one never touches the file itself. I/O that waits for a lost path (the layer
 *   under md, src/md/real_paths.ts) makes it hang too: new writes are held from its first moment, but nothing shows that, so
 *   it is not told as held.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Context } from './context.ts';
import { attribute, isMesh } from './mesh_arrays.ts';

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

/** One entry for each started array of mdmesh. Takes at most `withinMs` and a little. */
export async function dropAll(sysBlock: string, withinMs: number): Promise<Drop[]> {
  const names = readdirSync(sysBlock).filter((name) => /^md[0-9]+$/.test(name) && isOurs(sysBlock, name));
  const drops = await Promise.all(names.map((md) => dropOne(join(sysBlock, md), md, withinMs)));
  return drops.filter((drop) => drop !== null);
}

function isOurs(sysBlock: string, md: string): boolean {
  return isMesh(attribute(join(sysBlock, md, 'md/metadata_version')) ?? '');
}

async function dropOne(block: string, md: string, withinMs: number): Promise<Drop | null> {
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
async function store(path: string, value: number, withinMs: number): Promise<string | null> {
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
