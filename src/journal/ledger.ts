import type { Event } from '../wire/messages.ts';
import { type ChainLink, GENESIS_HASH, makeHead, makeLink, type SegmentHead } from './chain.ts';
import type { Cursor, Journal, JournalEntry } from './index.ts';
import { Landmarks, type SealedEvent } from './landmarks.ts';
import { GrowingTree, LeafTail, leafOf } from './merkle.ts';
import { StreamIndex } from './stream_index.ts';

export interface LedgerOptions {
  /** How many entries stay in memory once they are stored elsewhere. */
  recentMax: number;
  /** Finds an entry that has left memory; null: it cannot be read. */
  older: (cursor: Cursor) => JournalEntry | null;
  listenerFailed: (error: unknown) => void;
}

/** The log that is being written: it began with the entry of hash `first`, behind cursor `base`. */
interface Log {
  first: string;
  base: Cursor;
  tail: LeafTail;
}

/**
 * What both journals share: the chain, its tree, the index, the newest entries. Where entries go for good, and when they are
 * there, is the business of its owner.
 */
export class Ledger implements Omit<Journal, 'append' | 'durable' | 'close'> {
  readonly #options: LedgerOptions;
  readonly #index = new StreamIndex();
  readonly #landmarks = new Landmarks();
  readonly #listeners = new Set<(entry: JournalEntry) => void>();
  readonly #recent = new Map<Cursor, JournalEntry>();
  /** Entries up to this cursor are gone: they stood in a journal before this one, or were rotated away. */
  #base: Cursor = 0;
  #head: Cursor = 0;
  #lastHash = GENESIS_HASH;
  #log: Log | null = null;
  /** Entries up to here are stored: they may leave memory. */
  #stored: Cursor = 0;

  constructor(options: LedgerOptions) {
    this.#options = options;
  }

  /** The next entry begins a log of its own: the one before, if there was one, cannot be gone on with. */
  beginAfter(cursor: Cursor): void {
    this.#base = cursor;
    this.#head = cursor;
    this.#stored = cursor;
    this.#lastHash = GENESIS_HASH;
    this.#log = null;
  }

  /**
   * The head of a segment whose entries follow. What lies before it may be gone.
   * @param landmarks what its own landmarks say, as far as this version understands them
   */
  resume(head: SegmentHead, landmarks: readonly SealedEvent[]): void {
    if (head.first === null) this.beginAfter(head.cursor);
    else if (this.#head !== head.cursor || this.#lastHash !== head.hash) {
      if (this.#head === 0) this.#base = head.cursor;
      this.#head = head.cursor;
      this.#stored = head.cursor;
      this.#lastHash = head.hash;
      const frontier = head.tree.map((hash) => Buffer.from(hash, 'hex'));
      const tail = new LeafTail(new GrowingTree(head.cursor - head.base, frontier));
      this.#log = { first: head.first, base: head.base, tail };
      // Before the first segment that is there. Behind a damaged one, what is missing is asked for again.
      if (this.#base === head.cursor) {
        for (const { origin, bootNumber, sequence } of head.streams) this.#index.assume(origin, bootNumber, sequence);
      }
    }
    for (const { event, sealed } of landmarks) this.#landmarks.note(event, sealed);
  }

  /** The head of a segment that begins here. null: nothing stands before it. */
  segmentHead(): SegmentHead | null {
    if (this.#log === null) return null;
    const { first, base, tail } = this.#log;
    const frontier = tail.treeAt(tail.size())?.frontier() ?? [];
    return makeHead({
      cursor: this.#head,
      hash: this.#lastHash,
      first,
      base,
      tree: frontier.map((hash) => hash.toString('hex')),
      streams: this.#index.vector(),
      landmarks: this.#landmarks.all().map(({ sealed }) => sealed),
    });
  }

  /** An entry found in a file. `event` null: its envelope says nothing that this version understands. */
  replay(link: ChainLink, event: Event | null): void {
    // One that follows nothing begins a log; so does the first of all.
    if (this.#head === 0 || link.prev === GENESIS_HASH) this.beginAfter(link.cursor - 1);
    this.#chain(link);
    this.#stored = link.cursor;
    if (event === null) return;
    this.#take(link, event);
    this.#forget();
  }

  /** null: known already. */
  append(event: Event, sealed: string, appendedAt: Date): { link: ChainLink; entry: JournalEntry } | null {
    if (this.#index.has(event.origin, event.bootNumber, event.sequence)) return null;
    const link = makeLink(this.#head + 1, this.#lastHash, appendedAt.toISOString(), sealed);
    this.#chain(link);
    return { link, entry: this.#take(link, event) };
  }

  #chain(link: ChainLink): void {
    this.#log ??= { first: link.hash, base: link.cursor - 1, tail: new LeafTail() };
    this.#log.tail.append(leafOf(link.hash));
    this.#head = link.cursor;
    this.#lastHash = link.hash;
  }

  #take(link: ChainLink, event: Event): JournalEntry {
    const entry = entryOf(link, event);
    this.#index.add(event.origin, event.bootNumber, event.sequence, link.cursor);
    this.#landmarks.note(event, link.sealed);
    this.#recent.set(link.cursor, entry);
    return entry;
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

  /** Entries up to this cursor are gone for good. */
  rotatedAway(cursor: Cursor): void {
    this.#base = Math.max(this.#base, cursor);
    this.#index.forget(cursor);
    for (const old of this.#recent.keys()) if (old <= cursor) this.#recent.delete(old);
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

  landmarks(): SealedEvent[] {
    return this.#landmarks.all();
  }

  log(): ReturnType<Journal['log']> {
    if (this.#log === null) return null;
    const { first, tail } = this.#log;
    return { first, size: tail.size(), treeAt: (size) => tail.treeAt(size), proof: (from, to) => tail.proof(from, to) };
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

/** What a journal answers from its ledger alone. */
export function readsOf(ledger: Ledger): Omit<Journal, 'append' | 'durable' | 'close'> {
  return {
    has: (origin, bootNumber, sequence) => ledger.has(origin, bootNumber, sequence),
    vector: () => ledger.vector(),
    missing: (have, limit) => ledger.missing(have, limit),
    landmarks: () => ledger.landmarks(),
    log: () => ledger.log(),
    read: (after, limit) => ledger.read(after, limit),
    head: () => ledger.head(),
    onAppend: (listener) => ledger.onAppend(listener),
  };
}
