/**
 * The chain's links and their text form: one JSON line an entry. An entry's hash covers the previous hash, its cursor, its
 * time and its envelope, so that whoever keeps the last hash can tell whether anything before it was changed.
 *
 * A journal is one chain in several files, its segments. The first line of each but the first is its head, which says where
 * the one before ended: so a segment can be read, and gone on with, when those before it are gone.
 */
import { hash as digest } from 'node:crypto';
import { z } from 'zod';
import { NodeId } from '../arrays/record.ts';
import { isBase64, SEALED_CHARACTERS_MAX, Sealed } from '../wire/messages.ts';

/** Stands before a journal's first entry. */
export const GENESIS_HASH = '0'.repeat(64);

const Hash = z.string().regex(/^[0-9a-f]{64}$/);

const Time = z.iso.datetime();

export const ChainLink = z.strictObject({
  cursor: z.int().min(1),
  prev: Hash,
  hash: Hash,
  appendedAt: Time,
  sealed: Sealed,
});
export type ChainLink = z.infer<typeof ChainLink>;

/** Where an entry stands: what the next one must name. */
export type ChainPlace = Pick<ChainLink, 'cursor' | 'hash'>;

/** `digest` keeps it from rotting unseen; what it says is proved by the entries and the checkpoints behind it. */
export const SegmentHead = z.strictObject({
  segment: z.literal(1),
  /** Of the last entry before it. */
  cursor: z.int().min(1),
  hash: Hash,
  /**
   * Hash of the log's first entry, its place in the cursors less one, and the frontier of the tree of all entries so far. `first`
   * null: another log begins here, because the one before broke.
   */
  first: Hash.nullable(),
  base: z.int().min(0),
  tree: z.array(Hash).max(64),
  /** What was known without a hole of each start of each node. */
  streams: z.array(z.strictObject({ origin: NodeId, bootNumber: z.int().min(1), sequence: z.int().min(0) })),
  /** The newest commit of each array and the newest checkpoint of each log. */
  landmarks: z.array(Sealed),
  digest: Hash,
});
export type SegmentHead = z.infer<typeof SegmentHead>;

/** None of the hashed parts can hold a newline, so no two entries hash the same bytes. */
export function hashOf(link: Omit<ChainLink, 'hash'>): string {
  return digest('sha256', `${link.prev}\n${link.cursor}\n${link.appendedAt}\n${link.sealed}`, 'hex');
}

export function makeLink(cursor: number, prev: string, appendedAt: string, sealed: string): ChainLink {
  return { cursor, prev, hash: hashOf({ cursor, prev, appendedAt, sealed }), appendedAt, sealed };
}

export function makeHead(head: Omit<SegmentHead, 'segment' | 'digest'>): SegmentHead {
  const told = { segment: 1 as const, ...head };
  // Parsed, so that its keys stand in the schema's order: a line is compared with its own text when it is read.
  return SegmentHead.parse({ ...told, digest: digestOf(told) });
}

function digestOf({
  segment,
  cursor,
  hash,
  first,
  base,
  tree,
  streams,
  landmarks,
}: Omit<SegmentHead, 'digest'>): string {
  const text = JSON.stringify([
    segment,
    cursor,
    hash,
    first,
    base,
    tree,
    streams.map((each) => [each.origin, each.bootNumber, each.sequence]),
    landmarks,
  ]);
  return digest('sha256', text, 'hex');
}

export function lineOf(line: ChainLink | SegmentHead): string {
  return `${JSON.stringify(line)}\n`;
}

/** All of an entry's line before its envelope. */
const LINE_START =
  /^\{"cursor":([1-9][0-9]{0,15}),"prev":"([0-9a-f]{64})","hash":"([0-9a-f]{64})","appendedAt":"([^"\\]*)","sealed":"/;

/**
 * The link that a line holds; null if it is none. Says nothing about its place in the chain. There is one text of an entry, `lineOf`'s,
 * so it is read for what it is: JSON's parser and a schema, which tests hold this against, take a journal of millions ten times as long.
 */
export function parseLine(line: string): ChainLink | null {
  const [start, number = '', prev = '', hash = '', appendedAt = ''] = LINE_START.exec(line) ?? [];
  if (start === undefined || !line.endsWith('"}')) return null;
  const sealed = line.slice(start.length, -2);
  const cursor = Number(number);
  const isSealed = sealed.length <= SEALED_CHARACTERS_MAX && isBase64(sealed);
  const isWhole = isSealed && Number.isSafeInteger(cursor) && Time.safeParse(appendedAt).success;
  return isWhole ? { cursor, prev, hash, appendedAt, sealed } : null;
}

/** The head that a line holds, if it is whole; null if it is none. */
export function parseHead(line: string): SegmentHead | null {
  try {
    const { success, data: head } = SegmentHead.safeParse(JSON.parse(line));
    // Another text of the same head is not what was written: a byte of it has changed.
    return success && JSON.stringify(head) === line && digestOf(head) === head.digest ? head : null;
  } catch {
    return null;
  }
}

/** Why this link cannot follow `previous` (null: it is the first of its log); null if it can. */
export function faultOf(link: ChainLink, previous: ChainPlace | null): string | null {
  if (previous !== null && link.cursor !== previous.cursor + 1) {
    return `cursor ${link.cursor} follows cursor ${previous.cursor}: entries are missing or out of order`;
  }
  const prev = previous?.hash ?? GENESIS_HASH;
  if (link.prev !== prev)
    return `it names ${link.prev.slice(0, 12)}… as the entry before, which is ${prev.slice(0, 12)}…`;
  const hash = hashOf(link);
  return hash === link.hash ? null : `its bytes hash to ${hash.slice(0, 12)}…, it states ${link.hash.slice(0, 12)}…`;
}
