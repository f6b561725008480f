/** Walks a journal file and says how far its chain is whole. */
import { createReadStream } from 'node:fs';
import { type ChainLink, faultOf, parseLine } from './chain.ts';

/** A line of the largest envelope is far below this: more without a newline is no journal. */
const LINE_BYTES_MAX = 1024 * 1024;

export interface ScannedLink {
  link: ChainLink;
  offsetBytes: number;
  /** With its newline. */
  lengthBytes: number;
}

export interface ChainEnd {
  /** Good entries before the end or the first fault. */
  entries: number;
  /** Bytes that they take. */
  goodBytes: number;
  /** null: the chain is whole to the last byte. `torn`: nothing but a cut-off write follows the good entries. */
  fault: { line: number; cursor: number | null; why: string; torn: boolean } | null;
  /** As if every line from the fault on were an entry: a new journal must not hand out one of their cursors again. */
  lastCursor: number;
}

/** Calls `onLink` for each good entry. Throws only for errors of the file system. */
export async function scanChain(path: string, onLink: (scanned: ScannedLink) => void): Promise<ChainEnd> {
  const end: ChainEnd = { entries: 0, goodBytes: 0, fault: null, lastCursor: 0 };
  let previous: ChainLink | null = null;
  let line = 0;
  for await (const { bytes, whole } of lines(path)) {
    line++;
    const link = whole ? parseLine(bytes.toString('utf8')) : null;
    end.lastCursor++;
    if (end.fault !== null) {
      // Entries behind the fault: this was no write cut off by a crash.
      if (link !== null) end.fault.torn = false;
      continue;
    }
    const why = link === null ? (whole ? 'it is no journal entry' : 'it is cut off') : faultOf(link, previous);
    if (link === null || why !== null) {
      end.fault = { line, cursor: link?.cursor ?? null, why: why ?? '', torn: link === null };
      continue;
    }
    onLink({ link, offsetBytes: end.goodBytes, lengthBytes: bytes.byteLength + 1 });
    previous = link;
    end.lastCursor = link.cursor;
    end.entries++;
    end.goodBytes += bytes.byteLength + 1;
  }
  return end;
}

/** Lines without their newline; `whole` false for a last one that has none, and for what is too long to be a line. */
async function* lines(path: string): AsyncGenerator<{ bytes: Buffer; whole: boolean }> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    if (!Buffer.isBuffer(chunk)) continue;
    rest = rest.byteLength === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let at = rest.indexOf(10, start); at >= 0; at = rest.indexOf(10, start)) {
      yield { bytes: rest.subarray(start, at), whole: true };
      start = at + 1;
    }
    rest = rest.subarray(start);
    if (rest.byteLength > LINE_BYTES_MAX) {
      yield { bytes: rest, whole: false };
      rest = Buffer.alloc(0);
    }
  }
  if (rest.byteLength > 0) yield { bytes: rest, whole: false };
}

export interface ChainVerdict {
  /** Good entries, up to the first bad one. */
  entries: number;
  ok: boolean;
  /** Line of the first bad entry in the file. */
  firstBad: number | null;
  why: string | null;
}

/** For an auditor: recomputes every hash of a journal file. Throws if it cannot be read. */
export async function verifyChain(path: string): Promise<ChainVerdict> {
  const { entries, fault } = await scanChain(path, () => {});
  return { entries, ok: fault === null, firstBad: fault?.line ?? null, why: fault?.why ?? null };
}
