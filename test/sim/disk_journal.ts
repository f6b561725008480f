/**
 * A node's journal as its disk has it: entries are durable a moment after they were appended, and a power cut takes those that
 * were not. While the disk is full or broken none becomes durable, and who asks is told.
 */
import type { ChainLink } from '#src/journal/chain.ts';
import type { Cursor, Journal, JournalEntry, JournalLog, SealedEvent } from '#src/journal/index.ts';
import { Ledger } from '#src/journal/ledger.ts';
import type { CatchupRequest, Event } from '#src/wire/messages.ts';

/** Lines gather for so long before they are written, unless somebody asks for them. */
const GATHER_MS = 50;
const FSYNC_MS = 2;

export interface DiskJournalOptions {
  now: () => Date;
  after: (delayMs: number, run: () => void) => void;
}

export class DiskJournal implements Journal {
  readonly #options: DiskJournalOptions;
  readonly #listeners = new Set<(entry: JournalEntry) => void>();
  #ledger = newLedger();
  #entries: { link: ChainLink; entry: JournalEntry }[] = [];
  #durable = 0;
  #waiting: { head: number; resolve: () => void; reject: (error: Error) => void }[] = [];
  #full = false;

  constructor(options: DiskJournalOptions) {
    this.#options = options;
  }

  // --- the disk -------------------------------------------------------------------------------------------------------

  fill(): void {
    this.#full = true;
    for (const { reject } of this.#waiting) reject(noSpace());
    this.#waiting = [];
  }

  empty(): void {
    this.#full = false;
    this.#syncAfter(GATHER_MS);
  }

  /** Its process has died, or its machine. What was gathered, and not stored, is gone. */
  cut(): void {
    const stored = this.#entries.slice(0, this.#durable);
    this.#ledger = newLedger();
    for (const { link, entry } of stored) this.#ledger.replay(link, entry.event);
    this.#entries = stored;
    this.#waiting = [];
  }

  #syncAfter(delayMs: number): void {
    const entries = this.#entries;
    const head = entries.length;
    this.#options.after(delayMs, () => {
      if (this.#full || this.#entries !== entries) return;
      this.#durable = Math.max(this.#durable, head);
      for (const { head: wanted, resolve } of this.#waiting) if (wanted <= this.#durable) resolve();
      this.#waiting = this.#waiting.filter(({ head: wanted }) => wanted > this.#durable);
    });
  }

  // --- the journal ----------------------------------------------------------------------------------------------------

  append(event: Event, sealed: string): JournalEntry | null {
    const added = this.#ledger.append(event, sealed, this.#options.now());
    if (added === null) return null;
    this.#entries.push(added);
    this.#syncAfter(GATHER_MS);
    for (const listener of this.#listeners) listener(added.entry);
    return added.entry;
  }

  durable(): Promise<void> {
    if (this.#full) return Promise.reject(noSpace());
    const head = this.#entries.length;
    if (head <= this.#durable) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ head, resolve, reject });
      this.#syncAfter(FSYNC_MS);
    });
  }

  has(origin: number, bootNumber: number, sequence: number): boolean {
    return this.#ledger.has(origin, bootNumber, sequence);
  }

  vector(): CatchupRequest['have'] {
    return this.#ledger.vector();
  }

  missing(have: CatchupRequest['have'], limit: number): { sealed: string[]; more: boolean } {
    return this.#ledger.missing(have, limit);
  }

  landmarks(): SealedEvent[] {
    return this.#ledger.landmarks();
  }

  log(): JournalLog | null {
    return this.#ledger.log();
  }

  read(after: Cursor, limit: number): { entries: JournalEntry[]; tooOld: boolean } {
    return this.#ledger.read(after, limit);
  }

  head(): Cursor {
    return this.#ledger.head();
  }

  onAppend(listener: (entry: JournalEntry) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {}
}

function newLedger(): Ledger {
  return new Ledger({
    recentMax: Number.POSITIVE_INFINITY,
    older: () => null,
    listenerFailed: (error) => {
      throw error;
    },
  });
}

function noSpace(): Error {
  return new Error('journal: no space left on device');
}
