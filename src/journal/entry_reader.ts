import { closeSync, openSync, readSync } from 'node:fs';
import type { Event } from '../wire/messages.ts';
import { hashOf, parseLine } from './chain.ts';
import type { Cursor, JournalEntry } from './index.ts';
import { entryOf } from './ledger.ts';

interface Segment {
  path: string;
  /** Of its first entry; null: it has none yet. */
  first: Cursor | null;
  /** By cursor, from `first` on. */
  offsets: number[];
  endBytes: number;
  descriptor: number | null;
}

/** Reads single entries back from the files. Synchronous, because its callers answer at once; a line is a few kilobytes. */
export class EntryReader {
  readonly #decode: (sealed: string) => Event;
  readonly #failed: (text: string) => void;
  /** Oldest first. */
  readonly #segments: Segment[] = [];

  constructor(decode: (sealed: string) => Event, failed: (text: string) => void) {
    this.#decode = decode;
    this.#failed = failed;
  }

  /** What is noted from here on lies in this file. */
  begin(path: string): void {
    this.#segments.push({ path, first: null, offsets: [], endBytes: 0, descriptor: null });
  }

  /** The newest file has another name now. */
  renamed(path: string): void {
    const newest = this.#segments.at(-1);
    if (newest !== undefined) newest.path = path;
  }

  files(): number {
    return this.#segments.length;
  }

  /** The oldest file is not read any more. @returns its path and the cursor of its last entry; null: it had none */
  dropOldest(): { path: string; last: Cursor | null } {
    const oldest = this.#segments.shift();
    if (oldest === undefined) throw new Error('journal: no file to drop');
    closeSegment(oldest);
    return { path: oldest.path, last: oldest.first === null ? null : oldest.first + oldest.offsets.length - 1 };
  }

  /** Cursor of the newest file's first entry. */
  first(): Cursor | null {
    return this.#segments.at(-1)?.first ?? null;
  }

  /** The head of the newest file. `lengthBytes` with its newline. */
  noteHead(lengthBytes: number): void {
    const newest = this.#segments.at(-1);
    if (newest !== undefined) newest.endBytes = lengthBytes;
  }

  /** The next entry lies there, in the newest file. `lengthBytes` with its newline. */
  note(cursor: Cursor, offsetBytes: number, lengthBytes: number): void {
    const newest = this.#segments.at(-1);
    if (newest === undefined) return;
    newest.first ??= cursor;
    newest.offsets.push(offsetBytes);
    newest.endBytes = offsetBytes + lengthBytes;
  }

  /** Of the newest file. */
  endBytes(): number {
    return this.#segments.at(-1)?.endBytes ?? 0;
  }

  /** null: not there, not readable, or nothing that this version understands. */
  entry(cursor: Cursor): JournalEntry | null {
    const segment = this.#segments.findLast(({ first }) => first !== null && first <= cursor);
    const at = cursor - (segment?.first ?? 0);
    const start = segment?.offsets[at];
    if (segment === undefined || start === undefined) return null;
    const bytes = Buffer.alloc((segment.offsets[at + 1] ?? segment.endBytes) - start);
    try {
      segment.descriptor ??= openSync(segment.path, 'r');
      readSync(segment.descriptor, bytes, 0, bytes.byteLength, start);
    } catch (error) {
      this.#failed(`journal ${segment.path}: entry ${cursor} cannot be read: ${String(error)}; check its disk`);
      return null;
    }
    const link = parseLine(bytes.toString('utf8').trimEnd());
    if (link?.cursor !== cursor || hashOf(link) !== link.hash) {
      this.#failed(
        `journal ${segment.path}: entry ${cursor} is not what was written there; was the file changed? check its disk, and restart the agent`,
      );
      return null;
    }
    try {
      return entryOf(link, this.#decode(link.sealed));
    } catch {
      return null; // told once at the start, as not understood
    }
  }

  close(): void {
    for (const segment of this.#segments) closeSegment(segment);
  }
}

function closeSegment(segment: Segment | undefined): void {
  if (segment == null || segment.descriptor === null) return;
  closeSync(segment.descriptor);
  segment.descriptor = null;
}
