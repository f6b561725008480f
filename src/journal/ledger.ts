import type { Event } from '../wire/messages.ts';
import { type ChainLink, GENESIS_HASH, makeLink } from './chain.ts';
import type { Cursor, Journal, JournalEntry } from './index.ts';
import { StreamIndex } from './stream_index.ts';

export interface LedgerOptions {
  /** How many entries stay in memory once they are stored elsewhere. */
  recentMax: number;
  /** Finds an entry that has left memory; null: it cannot be read. */
  older: (cursor: Cursor) => JournalEntry | null;
  listenerFailed: (error: unknown) => void;
}

/**
 * What both journals share: the chain, the index, the newest entries. Where entries go for good, and when they are there,
 * is the business of its owner.
 */
export class Ledger implements Omit<Journal, 'append' | 'durable' | 'close'> {
  readonly #options: LedgerOptions;
  readonly #index = new StreamIndex();
  readonly #listeners = new Set<(entry: JournalEntry) => void>();
  readonly #recent = new Map<Cursor, JournalEntry>();
  /** Entries up to this cursor are gone: they stood in a journal before this one. */
  #base: Cursor = 0;
  #head: Cursor = 0;
  #lastHash = GENESIS_HASH;
  /** Entries up to here are stored: they may leave memory. */
  #stored: Cursor = 0;

  constructor(options: LedgerOptions) {
    this.#options = options;
  }

  /** Only while it is empty. */
  beginAfter(cursor: Cursor): void {
    this.#base = cursor;
    this.#head = cursor;
    this.#stored = cursor;
  }

  /** An entry found in a file. `event` null: its envelope says nothing that this version understands. */
  replay(link: ChainLink, event: Event | null): void {
    if (this.#head === 0) this.beginAfter(link.cursor - 1);
    this.#head = link.cursor;
    this.#stored = link.cursor;
    this.#lastHash = link.hash;
    if (event === null) return;
    this.#index.add(event.origin, event.bootNumber, event.sequence, link.cursor);
    this.#recent.set(link.cursor, entryOf(link, event));
    this.#forget();
  }

  /** null: known already. */
  append(event: Event, sealed: string, appendedAt: Date): { link: ChainLink; entry: JournalEntry } | null {
    if (this.#index.has(event.origin, event.bootNumber, event.sequence)) return null;
    const link = makeLink(this.#head + 1, this.#lastHash, appendedAt.toISOString(), sealed);
    const entry = entryOf(link, event);
    this.#head = link.cursor;
    this.#lastHash = link.hash;
    this.#index.add(event.origin, event.bootNumber, event.sequence, link.cursor);
    this.#recent.set(link.cursor, entry);
    return { link, entry };
  }

  /** Apart from append, so that the owner can take the entry in before anybody hears of it. */
  tell(entry: JournalEntry): void {
    for (const listener of this.#listeners) {
      try {
        listener(entry);
      } catch (error) {
        this.#options.listenerFailed(error);
      }
    }
  }

  markStored(cursor: Cursor): void {
    this.#stored = cursor;
    this.#forget();
  }

  has(origin: number, bootNumber: number, sequence: number): boolean {
    return this.#index.has(origin, bootNumber, sequence);
  }

  vector(): ReturnType<Journal['vector']> {
    return this.#index.vector();
  }

  missing(have: Parameters<Journal['missing']>[0], limit: number): { sealed: string[]; more: boolean } {
    const { cursors, more } = this.#index.missing(have, limit);
    return { sealed: cursors.flatMap((cursor) => this.#entry(cursor)?.sealed ?? []), more };
  }

  read(after: Cursor, limit: number): { entries: JournalEntry[]; tooOld: boolean } {
    // A cursor from the future was given out by a journal that has been lost since: its owner must start over, too.
    const tooOld = after < this.#base || after > this.#head;
    const entries: JournalEntry[] = [];
    const from = tooOld ? this.#base : after;
    for (let cursor = from + 1; cursor <= this.#head && entries.length < limit; cursor++) {
      const entry = this.#entry(cursor);
      if (entry !== null) entries.push(entry);
    }
    return { entries, tooOld };
  }

  head(): Cursor {
    return this.#head;
  }

  onAppend(listener: (entry: JournalEntry) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /** How many entries lie in memory. */
  recentCount(): number {
    return this.#recent.size;
  }

  #entry(cursor: Cursor): JournalEntry | null {
    return this.#recent.get(cursor) ?? (cursor <= this.#stored ? this.#options.older(cursor) : null);
  }

  /** A Map keeps the order of insertion, which is the order of cursors. */
  #forget(): void {
    for (const cursor of this.#recent.keys()) {
      if (this.#recent.size <= this.#options.recentMax || cursor > this.#stored) return;
      this.#recent.delete(cursor);
    }
  }
}

export function entryOf(link: ChainLink, event: Event): JournalEntry {
  return { cursor: link.cursor, hash: link.hash, event, sealed: link.sealed, appendedAt: link.appendedAt };
}
