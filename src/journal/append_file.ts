/**
 * A file that only grows: lines are queued in memory, written in batches, and each batch is fsynced before it counts as
 * stored; one batch is in flight while the next one gathers, for a moment at least. When the disk is full or broken, lines
 * wait (up to a bound) and are tried again: the caller never blocks and never crashes, but learns of it from `durable`.
 */
import { constants, open, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';

/** The few calls that are made of a file: in tests one that fails on purpose. */
export interface AppendableFile {
  /** Once it resolves, the bytes are on the disk, as after an fsync. */
  write(bytes: Uint8Array, offsetBytes: number): Promise<void>;
  close(): Promise<void>;
}

export interface AppendFileOptions {
  path: string;
  /** Bytes that are there and good. */
  sizeBytes: number;
  /**
   * Events come in bursts, and writers of a whole cluster may wait for what a burst is about: its one fsync comes so long after
   * its first line. Who needs a line on disk now asks `durable`.
   */
  gatherMs: number;
  retryMs: number;
  pendingBytesMax: number;
  openFile: (path: string) => Promise<AppendableFile>;
  /** Called in order, once a line is on disk. `cursor` null: a line that is no entry. */
  onStored: (cursor: number | null, offsetBytes: number, lengthBytes: number) => void;
  /** Once at the start of an outage and once (null) at its end. */
  onOutage: (error: Error | null) => void;
}

interface PendingLine {
  cursor: number | null;
  bytes: Buffer;
}

/** An fsync takes as long for one line as for many; beyond this the write itself would hold it up. */
const BATCH_BYTES = 4 * 1024 * 1024;

export class AppendFile {
  readonly #options: AppendFileOptions;
  #file: AppendableFile | null = null;
  #sizeBytes: number;
  #pending: PendingLine[] = [];
  #pendingBytes = 0;
  #lastAdded = 0;
  #stored = 0;
  #waiting: { cursor: number; resolve: () => void; reject: (error: Error) => void }[] = [];
  #outage: Error | null = null;
  #running: Promise<void> | null = null;
  #retry: NodeJS.Timeout | null = null;
  #gathering: NodeJS.Timeout | null = null;
  #closing = false;

  constructor(options: AppendFileOptions) {
    this.#options = options;
    this.#sizeBytes = options.sizeBytes;
  }

  /** False: so much waits already for a disk that takes nothing that no more may be added. */
  hasRoom(): boolean {
    return this.#pendingBytes < this.#options.pendingBytesMax;
  }

  /** True: all that was added is stored. */
  isIdle(): boolean {
    return this.#pending.length === 0;
  }

  sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** @param cursor null: no entry, and an entry follows it at once */
  add(cursor: number | null, line: string): void {
    const bytes = Buffer.from(line, 'utf8');
    this.#pending.push({ cursor, bytes });
    this.#pendingBytes += bytes.byteLength;
    if (cursor !== null) this.#lastAdded = cursor;
    this.#startSoon();
  }

  /** Resolves when all that was added so far is on disk; rejects at once while the disk takes nothing. */
  durable(): Promise<void> {
    if (this.#outage !== null) return Promise.reject(this.#outage);
    if (this.#stored >= this.#lastAdded) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ cursor: this.#lastAdded, resolve, reject });
      void this.#start();
    });
  }

  /** Writes what it can. @returns how many lines could not be stored. */
  async close(): Promise<number> {
    this.#closing = true;
    await this.#running;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = null;
    await this.#start();
    if (this.#retry !== null) clearTimeout(this.#retry);
    await this.#file?.close().catch(() => undefined);
    this.#file = null;
    return this.#entriesPending();
  }

  #entriesPending(): number {
    return this.#pending.filter(({ cursor }) => cursor !== null).length;
  }

  #startSoon(): void {
    if (this.#retry !== null || this.#running !== null) return;
    this.#gathering ??= setTimeout(() => void this.#start(), this.#options.gatherMs);
  }

  #start(): Promise<void> {
    if (this.#gathering !== null) clearTimeout(this.#gathering);
    this.#gathering = null;
    this.#running ??= this.#drain().finally(() => {
      this.#running = null;
      // Added between the last look at the queue and here, or while a batch was written that nobody waited for.
      if (this.#pending.length === 0 || this.#retry !== null) return;
      if (this.#waiting.length > 0) void this.#start();
      else this.#startSoon();
    });
    return this.#running;
  }

  async #drain(): Promise<void> {
    // All that is added in this turn of the loop becomes one batch.
    await Promise.resolve();
    const more = (): boolean => this.#pending.length > 0 && (this.#closing || this.#waiting.length > 0);
    for (let go = this.#pending.length > 0; go; go = more()) {
      const batch = this.#nextBatch();
      try {
        await this.#store(batch);
      } catch (error) {
        await this.#fail(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      this.#pending.splice(0, batch.length);
      for (const { cursor, bytes } of batch) {
        this.#options.onStored(cursor, this.#sizeBytes, bytes.byteLength);
        this.#sizeBytes += bytes.byteLength;
        this.#pendingBytes -= bytes.byteLength;
        if (cursor !== null) this.#stored = cursor;
      }
      if (this.#outage !== null) {
        this.#outage = null;
        this.#options.onOutage(null);
      }
      const ready = this.#waiting.filter(({ cursor }) => cursor <= this.#stored);
      this.#waiting = this.#waiting.filter(({ cursor }) => cursor > this.#stored);
      for (const { resolve } of ready) resolve();
    }
  }

  #nextBatch(): PendingLine[] {
    let bytes = 0;
    const end = this.#pending.findIndex((line) => {
      bytes += line.bytes.byteLength;
      return bytes > BATCH_BYTES;
    });
    return this.#pending.slice(0, end < 0 ? this.#pending.length : Math.max(1, end));
  }

  async #store(batch: readonly PendingLine[]): Promise<void> {
    this.#file ??= await this.#options.openFile(this.#options.path);
    // What a failed attempt left behind begins with the same bytes at the same place: it is written over.
    await this.#file.write(Buffer.concat(batch.map(({ bytes }) => bytes)), this.#sizeBytes);
  }

  async #fail(cause: Error): Promise<void> {
    const { path, retryMs } = this.#options;
    const text = `journal ${path}: ${this.#entriesPending()} entries are not on disk: ${cause.message}; free space or repair its disk, it is tried again each ${retryMs} ms`;
    const first = this.#outage === null;
    this.#outage = new Error(text, { cause });
    if (first) this.#options.onOutage(this.#outage);
    for (const { reject } of this.#waiting.splice(0)) reject(this.#outage);
    // After a failed fsync the kernel may have dropped the pages and call the next fsync good: write them all again.
    await this.#file?.close().catch(() => undefined);
    this.#file = null;
    this.#retry = setTimeout(() => {
      this.#retry = null;
      void this.#start();
    }, retryMs);
    this.#retry.unref();
  }
}

/** Of a large file system; of a small one a fiftieth. */
const KEPT_FREE_BYTES = 16 * 1024 * 1024;
/** So much is written, for so long, by what was seen last. */
const UNCHECKED_BYTES = 64 * 1024;
const UNCHECKED_MS = 1000;

/**
 * Votes are stored beside the journal, and a node that cannot store one cannot follow a master: however much others have to tell, the
 * journal does not take the last of the space.
 * @throws Error when it would
 */
export function demandRoom(
  { bavail, blocks, bsize }: { bavail: number; blocks: number; bsize: number },
  sizeBytes: number,
): void {
  const keptBytes = Math.min(KEPT_FREE_BYTES, (blocks * bsize) / 50);
  if (bavail * bsize - sizeBytes >= keptBytes) return;
  const [left, kept] = [bavail * bsize, keptBytes].map((bytes) => (bytes / 1024 / 1024).toFixed(1));
  throw new Error(`${left} MiB are left on its file system, and ${kept} of them are for votes`);
}

/**
 * Each look is a turn of a thread, for which the writers of a whole cluster may be waiting: one allows for what comes shortly after.
 * @returns rejects as demandRoom does
 */
export function roomFor(
  look: () => Promise<Parameters<typeof demandRoom>[0]>,
  now = () => performance.now(),
): (sizeBytes: number) => Promise<void> {
  let seenAtMs = Number.NEGATIVE_INFINITY;
  let uncheckedBytes = 0;
  return async (sizeBytes) => {
    uncheckedBytes += sizeBytes;
    if (uncheckedBytes <= UNCHECKED_BYTES && now() - seenAtMs < UNCHECKED_MS) return;
    demandRoom(await look(), sizeBytes + UNCHECKED_BYTES);
    seenAtMs = now();
    uncheckedBytes = 0;
  };
}

/**
 * The real thing. O_DSYNC: writing and fsyncing are one call, and one turn of a thread instead of two. A new file's name is made
 * durable too: fsync of a file alone does not keep its directory entry. @param fsync false: a write counts before it is on disk
 */
export async function openAppendable(path: string, fsync = true): Promise<AppendableFile> {
  const { O_RDWR, O_CREAT, O_DSYNC } = constants;
  const handle = await open(path, O_RDWR | O_CREAT | (fsync ? O_DSYNC : 0), 0o600);
  await syncDirectory(dirname(path));
  const hasRoom = roomFor(() => statfs(dirname(path)));
  return {
    write: async (bytes, offsetBytes) => {
      await hasRoom(bytes.byteLength);
      let written = 0;
      while (written < bytes.byteLength) {
        written += (await handle.write(bytes, written, bytes.byteLength - written, offsetBytes + written)).bytesWritten;
      }
    },
    close: () => handle.close(),
  };
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
