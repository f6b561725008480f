/**
 * journal: the append-only, hash-chained record of every event this node made or learned. In come sealed events; out come
 * cursors, replays, and signed checkpoints of the chain that other nodes check and cosign, so that no node can change what it
 * has written without being found out. It serves catch-up to peers and every outlet; it decides nothing. The audit room
 * judges it.
 */
import type { NodeId } from '../arrays/record.ts';
import type { CatchupRequest, Event } from '../wire/messages.ts';
import type { SealedEvent } from './landmarks.ts';
import type { GrowingTree, Hash } from './merkle.ts';

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
  /** The newest commit of each array and the newest checkpoint of each log, also those whose entries have been rotated away. */
  landmarks(): SealedEvent[];
  /** The log that is being written, as a tree; null: it has no entry yet. */
  log(): JournalLog | null;
  /** From a cursor on (exclusive). `tooOld`: the cursor's entry has been rotated away. */
  read(after: Cursor, limit: number): { entries: JournalEntry[]; tooOld: boolean };
  head(): Cursor;
  onAppend(listener: (entry: JournalEntry) => void): () => void;
  close(): Promise<void>;
}

/**
 * A log is one chain from its first entry on, over all segments. A journal whose chain broke goes on as another log: to sign
 * other contents under the old name would look like a rewriting of history, and be one.
 */
export interface JournalLog {
  /** Hash of its first entry: names it. */
  first: string;
  /** Entries since then, also those that are gone. */
  size: number;
  /** The tree of its first `size` entries; null: longer ago than is remembered. */
  treeAt(size: number): GrowingTree | null;
  /** RFC 6962's consistency proof between two sizes; null: longer ago than is remembered. */
  proof(oldSize: number, newSize: number): Hash[] | null;
}

export type { AppendableFile } from './append_file.ts';
export { GENESIS_HASH, hashOf } from './chain.ts';
export {
  JOURNAL_FILE,
  type JournalFinding,
  type JournalOptions,
  type OpenedJournal,
  openJournal,
  type ReadAhead,
  readAhead,
} from './file_journal.ts';
export type { SealedEvent } from './landmarks.ts';
export { memoryJournal } from './memory_journal.ts';
export { Notary, type NotaryOptions } from './notary.ts';
export { segmentsIn } from './segments.ts';
