/** The forms in which mdadm's users write arrays, levels, layouts and sizes, turned into the words of a request. */
import { resolve } from 'node:path';
import type { ArrayRecord } from '../arrays/record.ts';
import { parseSizeKib } from '../config/sizes.ts';

/** Thrown for a word that cannot be read; the text has no full stop and names the remedy. */
export class WordError extends Error {
  override name = 'WordError';
}

const uuidText = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** As mdadm prints it: 11223344:55667788:99aabbcc:ddeeff00 */
const mdadmUuidText = /^[0-9a-f]{8}(:[0-9a-f]{8}){3}$/;

/** `md0`, `/dev/md0` and `/dev/md/0` → `md0`. */
export function mdName(word: string): string {
  const name = word.replace(/^\/dev\//, '').replace(/^md\/(?=[0-9])/, 'md');
  if (/^md[0-9]{1,4}$/.test(name)) return name;
  throw new WordError(`${word}: not an md device; write it as md0 or /dev/md0`);
}

/** Both spellings of a UUID → the one with dashes; null: no UUID. */
export function uuidOf(word: string): string | null {
  const text = word.toLowerCase();
  if (uuidText.test(text)) return text;
  if (!mdadmUuidText.test(text)) return null;
  return text.replaceAll(':', '').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** An array by its md name or its UUID. */
export function arrayName(word: string): string {
  return uuidOf(word) ?? mdName(word);
}

/** A device path, made absolute for an agent that has another working directory; a member's UUID stays as it is. */
export function devicePath(word: string): string {
  return uuidOf(word) ?? resolve(word);
}

const levels = new Map<string, ArrayRecord['level']>([
  ['linear', 'linear'],
  ['-1', 'linear'],
  ['0', 'raid0'],
  ['raid0', 'raid0'],
  ['stripe', 'raid0'],
  ['1', 'raid1'],
  ['raid1', 'raid1'],
  ['mirror', 'raid1'],
  ['4', 'raid4'],
  ['raid4', 'raid4'],
  ['5', 'raid5'],
  ['raid5', 'raid5'],
  ['6', 'raid6'],
  ['raid6', 'raid6'],
  ['10', 'raid10'],
  ['raid10', 'raid10'],
]);

export function levelOf(word: string): ArrayRecord['level'] {
  const level = levels.get(word.toLowerCase());
  if (level !== undefined) return level;
  throw new WordError(`${word}: not a level; use linear, 0, 1, 4, 5, 6 or 10`);
}

/** mdadm's rule: a bare number counts KiB. */
function sizeKibOf(word: string): number | null {
  return parseSizeKib(/^[0-9]+$/.test(word) ? `${word}K` : word);
}

export function chunkKibOf(word: string): number {
  const kib = sizeKibOf(word);
  // md wants a power of two, and at least a page (Documentation/admin-guide/md.rst, chunk_size).
  if (kib !== null && kib >= 4 && Number.isInteger(Math.log2(kib))) return kib;
  throw new WordError(`${word}: not a chunk size; use a power of two of at least 4 KiB, as 64, 512K or 1M`);
}

/** Values of mdadm's --action that mean something here. */
export const syncActions = ['check', 'repair', 'idle', 'frozen'] as const;
export type SyncAction = (typeof syncActions)[number];

/** What a copy may take in a second; null: `none`. */
export function limitKibOf(word: string): number | null {
  if (word === 'none') return null;
  const kib = sizeKibOf(word);
  if (kib !== null && kib > 0) return kib;
  throw new WordError(`${word}: not a limit; use KiB a second, as 51200 or 50M, or none`);
}

/** KiB of each member. */
export function componentKibOf(word: string): number | 'max' {
  if (word === 'max') return word;
  const kib = sizeKibOf(word);
  if (kib !== null && kib > 0) return kib;
  throw new WordError(`${word}: not a size; use KiB, or K, M or G behind it, as 500G, or max`);
}

/** mdadm's other values, a file and `clustered`, are for one kernel, and for a locking service. */
export function bitmapOf(word: string): 'internal' | 'none' {
  if (word === 'internal' || word === 'none') return word;
  throw new WordError(`${word}: not a bitmap; use internal or none`);
}

export function countOf(word: string, least: number): number {
  const count = /^[0-9]{1,3}$/.test(word) ? Number(word) : Number.NaN;
  if (count >= least) return count;
  throw new WordError(`${word}: not a number from ${least} on`);
}

/** Parity layouts by name (include/uapi/linux/raid/md_p.h and drivers/md/raid5.h number them so). */
const parityLayouts = new Map([
  ['left-asymmetric', 0],
  ['la', 0],
  ['right-asymmetric', 1],
  ['ra', 1],
  ['left-symmetric', 2],
  ['ls', 2],
  ['default', 2],
  ['right-symmetric', 3],
  ['rs', 3],
]);

/** Layout number as the superblock has it. raid10: near | far << 8 | offset << 16. */
export function layoutOf(word: string, level: ArrayRecord['level']): number {
  if (/^0x[0-9a-f]{1,6}$|^[0-9]{1,7}$/i.test(word)) return Number(word);
  if (level === 'raid10') {
    const match = /^(n|near|f|far|o|offset)=?([1-9][0-9]?)$/.exec(word);
    const copies = Number(match?.[2]);
    if (match?.[1]?.startsWith('n')) return 0x100 | copies;
    if (match?.[1]?.startsWith('f')) return 1 | (copies << 8);
    if (match?.[1]?.startsWith('o')) return 0x10001 | (copies << 8);
    throw new WordError(`${word}: not a layout of raid10; use n2, near=2, f2 or o2`);
  }
  const parity = level === 'raid5' || level === 'raid6' ? parityLayouts.get(word) : undefined;
  if (parity !== undefined) return parity;
  throw new WordError(`${word}: not a layout of ${level}; leave --layout out for the usual one`);
}

/** Several writers race in parity's read-modify-write, and stock far and offset copies were never tried with them. */
export function usualAccess(level: ArrayRecord['level'], layout: number | undefined): ArrayRecord['access'] {
  if (level === 'raid4' || level === 'raid5' || level === 'raid6') return 'exclusive';
  if (level === 'raid10' && layout !== undefined && layout >> 8 !== 1) return 'exclusive';
  return 'shared';
}

/** `--with`: the first of the members to be replaced that has no stand-in yet gets this one. False: there is none. */
export function standIn(steps: readonly { verb: string; with?: string }[], device: string): boolean {
  const step = steps.find((each) => each.verb === 'replace' && each.with === undefined);
  if (step !== undefined) step.with = device;
  return step !== undefined;
}
