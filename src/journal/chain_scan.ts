/** Walks one file of a journal and says how far its chain is whole. */
import { createReadStream } from 'node:fs';
import { type ChainLink, type ChainPlace, faultOf, parseHead, parseLine, type SegmentHead } from './chain.ts';

/** A line of the largest envelope is far below this, and so is a head: more without a newline is no journal. */
const LINE_BYTES_MAX = 64 * 1024 * 1024;

export interface ScannedLink {
  link: ChainLink;
  offsetBytes: number;
  /** With its newline. */
  lengthBytes: number;
}

export interface ChainEnd {
  /** Good entries before the end or the first fault. */
  entries: number;
  /** Bytes that they take, and the head before them. */
  goodBytes: number;
  /** null: the chain is whole to the last byte. `torn`: nothing but a cut-off write follows the good entries. */
  fault: { line: number; cursor: number | null; why: string; torn: boolean } | null;
  /** As if every line from the fault on were an entry: a new journal must not hand out one of their cursors again. */
  lastCursor: number;
  /** The last good entry, or the head before it; null: neither is there. */
  last: ChainPlace | null;
}

export interface ScanReader {
  /** Before the first entry; what stands before it in the chain is then the head's. */
  head?(head: SegmentHead, lengthBytes: number): void;
  link(scanned: ScannedLink): void;
}

/**
 * Throws only for errors of the file system.
 * @param from what an earlier walk has come to: this one goes on behind its good entries
 */
export async function scanChain(path: string, reader: ScanReader, from: ChainEnd | null = null): Promise<ChainEnd> {
  let previous = from?.last ?? null;
  const end: ChainEnd = {
    entries: from?.entries ?? 0,
    goodBytes: from?.goodBytes ?? 0,
    fault: null,
    lastCursor: previous?.cursor ?? 0,
    last: previous,
  };
  // The head is a line as well.
  let line = end.goodBytes === 0 ? 0 : end.entries + 1;
  for await (const { bytes, whole } of linesOf(path, end.goodBytes)) {
    line++;
    const text = whole ? bytes.toString('utf8') : '';
    const head = line === 1 && whole ? parseHead(text) : null;
    if (head !== null) {
      previous = { cursor: head.cursor, hash: head.hash };
      end.last = previous;
      end.goodBytes = bytes.byteLength + 1;
      end.lastCursor = head.cursor;
      reader.head?.(head, end.goodBytes);
      continue;
    }
    const link = whole ? parseLine(text) : null;
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
    reader.link({ link, offsetBytes: end.goodBytes, lengthBytes: bytes.byteLength + 1 });
    previous = link;
    end.last = { cursor: link.cursor, hash: link.hash };
    end.lastCursor = link.cursor;
    end.entries++;
    end.goodBytes += bytes.byteLength + 1;
  }
  return end;
}

/** Lines without their newline; `whole` false for a last one that has none, and for what is too long to be a line. */
export async function* linesOf(path: string, start = 0): AsyncGenerator<{ bytes: Buffer; whole: boolean }> {
  // Pieces of a long line are joined once, at its end.
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024, start })) {
    if (!Buffer.isBuffer(chunk)) continue;
    let begin = 0;
    for (let at = chunk.indexOf(10, begin); at >= 0; at = chunk.indexOf(10, begin)) {
      const end = chunk.subarray(begin, at);
      yield { bytes: restBytes === 0 ? end : Buffer.concat([...rest, end]), whole: true };
      rest = [];
      restBytes = 0;
      begin = at + 1;
    }
    rest.push(chunk.subarray(begin));
    restBytes += chunk.byteLength - begin;
    if (restBytes > LINE_BYTES_MAX) {
      yield { bytes: Buffer.concat(rest), whole: false };
      rest = [];
      restBytes = 0;
    }
  }
  if (restBytes > 0) yield { bytes: Buffer.concat(rest), whole: false };
}
