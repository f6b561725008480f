/**
 * journal: the append-only, hash-chained record of every event this node made or learned. In come sealed events; out come
 * cursors, replays and a verdict on the chain. It serves catch-up to peers and every outlet; it decides nothing.
 */
import type { NodeId } from '../arrays/record.ts';
import type { CatchupRequest, Event } from '../wire/messages.ts';

/** Position in this node's journal: 1 for the first entry. */
export type Cursor = number;

export interface JournalEntry {
  cursor: Cursor;
  /** SHA-256 (hex) over the previous entry's hash and this entry's bytes. */
  hash: string;
  event: Event;
  /** base64 of the envelope. */
  sealed: string;
  /** Wall clock at which it was appended here. */
  appendedAt: string;
}

export interface Journal {
  /**
   * Known (origin, boot, sequence) is ignored: returns null. Resolves once the entry is in the chain (memory); `durable`
   * resolves when it is on disk (batched fsync).
   */
  append(event: Event, sealed: string): JournalEntry | null;
  durable(): Promise<void>;
  has(origin: NodeId, bootNumber: number, sequence: number): boolean;
  /** Highest contiguous sequence known for each (origin, boot). */
  vector(): CatchupRequest['have'];
  /** Events that the asker lacks, oldest first, at most `limit`. */
  missing(have: CatchupRequest['have'], limit: number): { sealed: string[]; more: boolean };
  /** From a cursor on (exclusive). `tooOld`: the cursor's entry has been rotated away. */
  read(after: Cursor, limit: number): { entries: JournalEntry[]; tooOld: boolean };
  head(): Cursor;
  onAppend(listener: (entry: JournalEntry) => void): () => void;
  close(): Promise<void>;
}

export type { AppendableFile } from './append_file.ts';
export { GENESIS_HASH, hashOf } from './chain.ts';
export { type ChainVerdict, verifyChain } from './chain_scan.ts';
export {
  JOURNAL_FILE,
  type JournalFinding,
  type JournalOptions,
  type OpenedJournal,
  openJournal,
} from './file_journal.ts';
export { memoryJournal } from './memory_journal.ts';
