import { closeSync, openSync, readSync } from 'node:fs';
import type { Event } from '../wire/messages.ts';
import { parseLine } from './chain.ts';
import type { Cursor, JournalEntry } from './index.ts';
import { entryOf } from './ledger.ts';

/** Reads single entries back from the file. Synchronous, because its callers answer at once; a line is a few kilobytes. */
export class EntryReader {
  readonly #path: string;
  readonly #decode: (sealed: string) => Event;
  readonly #failed: (text: string) => void;
  /** By cursor, from `#first` on. */
  readonly #offsets: number[] = [];
  #endBytes = 0;
  #first: Cursor | null = null;
  #descriptor: number | null = null;

  constructor(path: string, decode: (sealed: string) => Event, failed: (text: string) => void) {
    this.#path = path;
    this.#decode = decode;
    this.#failed = failed;
  }

  /** The next entry lies there. `lengthBytes` with its newline. */
  note(cursor: Cursor, offsetBytes: number, lengthBytes: number): void {
    this.#first ??= cursor;
    this.#offsets.push(offsetBytes);
    this.#endBytes = offsetBytes + lengthBytes;
  }

  endBytes(): number {
    return this.#endBytes;
  }

  /** null: not there, not readable, or nothing that this version understands. */
  entry(cursor: Cursor): JournalEntry | null {
    const at = cursor - (this.#first ?? cursor + 1);
    const start = this.#offsets[at];
    if (start === undefined) return null;
    const bytes = Buffer.alloc((this.#offsets[at + 1] ?? this.#endBytes) - start);
    try {
      this.#descriptor ??= openSync(this.#path, 'r');
      readSync(this.#descriptor, bytes, 0, bytes.byteLength, start);
    } catch (error) {
      this.#failed(`journal ${this.#path}: entry ${cursor} cannot be read: ${String(error)}; check its disk`);
      return null;
    }
    const link = parseLine(bytes.toString('utf8'));
    if (link?.cursor !== cursor) {
      this.#failed(
        `journal ${this.#path}: entry ${cursor} is not where it was written; was the file changed? restart the agent`,
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
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }
}
