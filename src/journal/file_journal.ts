/** The journal of a real node: `journal.jsonl` in the state directory. */
import { mkdir, open, readdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Event } from '../wire/messages.ts';
import { type AppendableFile, AppendFile, openAppendable, syncDirectory } from './append_file.ts';
import { lineOf } from './chain.ts';
import { type ChainEnd, scanChain } from './chain_scan.ts';
import { EntryReader } from './entry_reader.ts';
import type { Journal } from './index.ts';
import { Ledger } from './ledger.ts';

export const JOURNAL_FILE = 'journal.jsonl';

export interface JournalOptions {
  /** Made if it is not there. */
  dir: string;
  now: () => Date;
  /** The event in an envelope that this node has verified when it took it in. Throws when it understands it no more. */
  decode: (sealed: string) => Event;
  /** False only in tests: an entry counts as durable before it is. @default true */
  fsync?: boolean;
  log: (level: 'info' | 'warn' | 'error', text: string) => void;
  /** Entries kept in memory; older ones are read from the file. @default 10000 */
  recentMax?: number;
  /** What may wait for a disk that takes nothing, in bytes. Beyond it, append refuses (null) until there is room. @default 64 MiB */
  pendingBytesMax?: number;
  /** @default 1000 */
  retryMs?: number;
  openFile?: (path: string) => Promise<AppendableFile>;
}

/** Something was wrong with the file at the start. The agent goes on; it should tell people and put it into the journal. */
export interface JournalFinding {
  what: 'torn' | 'broken' | 'not-understood';
  text: string;
}

export interface OpenedJournal extends Journal {
  readonly found: readonly JournalFinding[];
}

/**
 * Replays the file and goes on behind it. A last line cut off by a crash is moved aside; a chain that is broken further up
 * is moved aside as a whole, and a new journal begins whose cursors go on. Both are told in `found`.
 *
 * @throws when the directory cannot be made or written at all.
 */
export async function openJournal(options: JournalOptions): Promise<OpenedJournal> {
  const path = join(options.dir, JOURNAL_FILE);
  const found: JournalFinding[] = [];
  const find = (what: JournalFinding['what'], text: string) => {
    found.push({ what, text });
    options.log('warn', text);
  };
  await mkdir(options.dir, { recursive: true, mode: 0o700 });

  const store = emptyStore(path, options);
  const { fault, goodBytes, lastCursor } = await replay(path, store, options.decode, find);
  if (fault === null) return fileJournal(path, options, store, found);
  if (fault.torn) {
    const aside = await freeName(options.dir, 'torn');
    await moveTail(path, goodBytes, aside);
    find('torn', `journal ${path}: line ${fault.line} was cut off by a crash; moved to ${aside}, nothing to do`);
    return fileJournal(path, options, store, found);
  }
  const aside = await freeName(options.dir, 'broken');
  await rename(path, aside);
  await syncDirectory(options.dir);
  const entry = `line ${fault.line}${fault.cursor === null ? '' : ` (cursor ${fault.cursor})`}`;
  find(
    'broken',
    `journal ${path}: the chain is broken at ${entry}: ${fault.why}; moved to ${aside}, a new journal goes on after cursor ${lastCursor}; keep that file, and compare it with another node's`,
  );
  store.reader.close();
  const fresh = emptyStore(path, options);
  fresh.ledger.beginAfter(lastCursor);
  return fileJournal(path, options, fresh, found);
}

interface Store {
  ledger: Ledger;
  reader: EntryReader;
}

function emptyStore(path: string, options: JournalOptions): Store {
  const reader = new EntryReader(path, options.decode, (text) => options.log('error', text));
  const ledger = new Ledger({
    recentMax: options.recentMax ?? 10_000,
    older: (cursor) => reader.entry(cursor),
    listenerFailed: (error) => options.log('error', `journal ${path}: a listener failed: ${textOf(error)}`),
  });
  return { ledger, reader };
}

async function replay(
  path: string,
  { ledger, reader }: Store,
  decode: JournalOptions['decode'],
  find: (what: JournalFinding['what'], text: string) => void,
): Promise<ChainEnd> {
  const strange: string[] = [];
  const end = await scanChain(path, ({ link, offsetBytes, lengthBytes }) => {
    reader.note(link.cursor, offsetBytes, lengthBytes);
    try {
      ledger.replay(link, decode(link.sealed));
    } catch (error) {
      strange.push(`cursor ${link.cursor}: ${textOf(error)}`);
      ledger.replay(link, null);
    }
  }).catch((error: unknown): ChainEnd => {
    if (codeOf(error) === 'ENOENT') return { entries: 0, goodBytes: 0, fault: null, lastCursor: 0 };
    // Its disk does not give it back: as good as broken, and no reason not to serve the cluster.
    const fault = { line: 0, cursor: ledger.head(), why: textOf(error), torn: false };
    return { entries: 0, goodBytes: 0, fault, lastCursor: ledger.head() };
  });
  if (strange.length > 0) {
    find(
      'not-understood',
      `journal ${path}: ${strange.length} entries are in the chain but not understood (${strange[0]}); they stay, unread; did a newer version run here?`,
    );
  }
  return end;
}

function fileJournal(
  path: string,
  options: JournalOptions,
  { ledger, reader }: Store,
  found: readonly JournalFinding[],
): OpenedJournal {
  let refused = 0;
  const file = new AppendFile({
    path,
    sizeBytes: reader.endBytes(),
    fsync: options.fsync ?? true,
    retryMs: options.retryMs ?? 1000,
    pendingBytesMax: options.pendingBytesMax ?? 64 * 1024 * 1024,
    openFile: options.openFile ?? openAppendable,
    onStored: (cursor, offsetBytes, lengthBytes) => {
      reader.note(cursor, offsetBytes, lengthBytes);
      ledger.markStored(cursor);
    },
    onOutage: (error) => {
      if (error !== null) return options.log('error', error.message);
      const lost = refused === 0 ? '' : `, ${refused} events were refused meanwhile and will come back by catch-up`;
      options.log('info', `journal ${path}: on disk again${lost}`);
      refused = 0;
    },
  });
  return {
    found,
    append: (event, sealed) => {
      if (ledger.has(event.origin, event.bootNumber, event.sequence)) return null;
      if (!file.hasRoom()) {
        refused++;
        return null;
      }
      const added = ledger.append(event, sealed, options.now());
      if (added === null) return null;
      file.add(added.link.cursor, lineOf(added.link));
      ledger.tell(added.entry);
      return added.entry;
    },
    durable: () => file.durable(),
    has: (origin, bootNumber, sequence) => ledger.has(origin, bootNumber, sequence),
    vector: () => ledger.vector(),
    missing: (have, limit) => ledger.missing(have, limit),
    read: (after, limit) => ledger.read(after, limit),
    head: () => ledger.head(),
    onAppend: (listener) => ledger.onAppend(listener),
    close: async () => {
      const left = await file.close();
      reader.close();
      if (left > 0) options.log('error', `journal ${path}: closed with ${left} entries that its disk would not take`);
    },
  };
}

/** `journal.torn-1.jsonl`, or the first number that is not there yet: nothing that was moved aside is ever overwritten. */
async function freeName(dir: string, what: 'torn' | 'broken'): Promise<string> {
  const names = new Set(await readdir(dir));
  let number = 1;
  while (names.has(`journal.${what}-${number}.jsonl`)) number++;
  return join(dir, `journal.${what}-${number}.jsonl`);
}

async function moveTail(path: string, fromBytes: number, aside: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const tail = Buffer.alloc((await file.stat()).size - fromBytes);
    await file.read(tail, 0, tail.byteLength, fromBytes);
    await writeFile(aside, tail, { flag: 'wx', mode: 0o600, flush: true });
    await file.truncate(fromBytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : null;
}
