/**
 * The chain's links and their text form: one JSON line an entry. An entry's hash covers the previous hash, its cursor, its
 * time and its envelope, so that whoever keeps the last hash can tell whether anything before it was changed.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { Sealed } from '../wire/messages.ts';

/** Stands before a journal's first entry. */
export const GENESIS_HASH = '0'.repeat(64);

const Hash = z.string().regex(/^[0-9a-f]{64}$/);

export const ChainLink = z.strictObject({
  cursor: z.int().min(1),
  prev: Hash,
  hash: Hash,
  appendedAt: z.iso.datetime(),
  sealed: Sealed,
});
export type ChainLink = z.infer<typeof ChainLink>;

/** None of the hashed parts can hold a newline, so no two entries hash the same bytes. */
export function hashOf(link: Omit<ChainLink, 'hash'>): string {
  return createHash('sha256').update(`${link.prev}\n${link.cursor}\n${link.appendedAt}\n${link.sealed}`).digest('hex');
}

export function makeLink(cursor: number, prev: string, appendedAt: string, sealed: string): ChainLink {
  return { cursor, prev, hash: hashOf({ cursor, prev, appendedAt, sealed }), appendedAt, sealed };
}

export function lineOf(link: ChainLink): string {
  return `${JSON.stringify(link)}\n`;
}

/** The link that a line holds; null if it is none. Says nothing about its place in the chain. */
export function parseLine(line: string): ChainLink | null {
  try {
    const parsed = ChainLink.safeParse(JSON.parse(line));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

/** Why this link cannot follow `previous` (null: it is the first of its file); null if it can. */
export function faultOf(link: ChainLink, previous: ChainLink | null): string | null {
  if (previous !== null && link.cursor !== previous.cursor + 1) {
    return `cursor ${link.cursor} follows cursor ${previous.cursor}: entries are missing or out of order`;
  }
  const prev = previous?.hash ?? GENESIS_HASH;
  if (link.prev !== prev)
    return `it names ${link.prev.slice(0, 12)}… as the entry before, which is ${prev.slice(0, 12)}…`;
  const hash = hashOf(link);
  return hash === link.hash ? null : `its bytes hash to ${hash.slice(0, 12)}…, it states ${link.hash.slice(0, 12)}…`;
}
