/** How states look and what they are called: a shape and a word for each, so that colour is never all there is. */
import { conditionOf, stateWords } from '../../cli/array_condition.ts';
import type { ArrayStatus, NodeStatus, Status } from '../../outlets/status.ts';
import type { CloudEvent } from '../../outlets/told.ts';

export type Tone = 'good' | 'warn' | 'bad' | 'quiet' | 'busy';

export const SHAPES: Readonly<Record<Tone, string>> = { good: '●', warn: '▲', bad: '✖', quiet: '○', busy: '◆' };

export function nodeTone({ status }: NodeStatus): Tone {
  return ({ alive: 'good', suspect: 'warn', dead: 'bad', left: 'quiet', unknown: 'quiet' } as const)[status];
}

export function arrayTone(array: ArrayStatus): Tone {
  const { record, trouble, local } = array;
  if (record.run === 'stopped') return 'quiet';
  const condition = conditionOf(record);
  if (condition === 'failed') return 'bad';
  if (condition === 'degraded' || trouble !== null || local === null || local.writePending || local.held) return 'warn';
  return record.resync === null ? 'good' : 'busy';
}

export function memberTone(role: ArrayStatus['record']['members'][number]['role']): Tone {
  return ({ active: 'good', rebuilding: 'busy', spare: 'quiet', faulty: 'bad' } as const)[role];
}

export function pathTone(path: string): Tone {
  return path === 'up' ? 'good' : path === 'direct' ? 'quiet' : 'bad';
}

export function severityTone(severity: CloudEvent['severity']): Tone {
  return ({ info: 'quiet', notice: 'good', warning: 'warn', critical: 'bad' } as const)[severity];
}

/** One line on all of it, the worst first. */
export function verdict({ nodes, arrays, lease }: Status): { tone: Tone; text: string } {
  const found: { tone: Tone; text: string }[] = [];
  for (const array of arrays) {
    const tone = arrayTone(array);
    if (tone !== 'good' && tone !== 'quiet') found.push({ tone, text: `${array.record.md} ${stateWords(array)}` });
  }
  if (lease.master === null) found.push({ tone: 'bad', text: 'no master' });
  for (const node of nodes) {
    const tone = nodeTone(node);
    if (tone === 'bad' || tone === 'warn') found.push({ tone, text: `node ${node.node} ${node.status}` });
  }
  const order: Tone[] = ['bad', 'warn', 'busy'];
  found.sort((a, b) => order.indexOf(a.tone) - order.indexOf(b.tone));
  const worst = found[0];
  if (worst === undefined) return { tone: 'good', text: 'All is well' };
  return { tone: worst.tone, text: found.map(({ text }) => text).join('; ') };
}

/** Sectors of 512 bytes, for people: `238.4 GiB`. */
export function sizeText(sectors: number): string {
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let size = sectors / 2;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size >= 100 || unit === 0 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** `1 234 567`, with spaces that do not break. */
export function countText(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, '\u202f');
}

export function secondsText(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** `2026-11-28 20:56:36.123` */
export function timeText(time: string): string {
  return time.slice(0, 23).replace('T', ' ').replace('Z', '');
}
