/** The journal of a real node: `journal.jsonl` in the state directory, and the segments before it. */
import { renameSync, unlinkSync } from 'node:fs';
import { mkdir, open, readdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf, textOf } from '../error_text.ts';
import type { Event } from '../wire/messages.ts';
import { type AppendableFile, AppendFile, openAppendable, syncDirectory } from './append_file.ts';
import { GENESIS_HASH, lineOf, makeHead } from './chain.ts';
import { type ChainEnd, scanChain } from './chain_scan.ts';
import { EntryReader } from './entry_reader.ts';
import type { Journal } from './index.ts';
import type { SealedEvent } from './landmarks.ts';
import { Ledger, readsOf } from './ledger.ts';
import { JOURNAL_FILE, segmentName, segmentsIn } from './segments.ts';

export { JOURNAL_FILE } from './segments.ts';

export interface JournalOptions {
  /** Made if it is not there. */
  dir: string;
  now: () => Date;
  /** The event in an envelope that this node has verified when it took it in. Throws when it understands it no more. */
  decode: (sealed: string) => Event;
  /** False only in tests: an entry counts as durable before it is. @default true */
  fsync?: boolean;
  /** How long what is appended may gather before it is written and fsynced as one. @default 50 */
  gatherMs?: number;
  /** A new file is begun once this one holds so much, or its first entry is so old. @default never */
  rotateBytes?: number;
  rotateMs?: number;
  /** How many files before the one that is written stay; older ones are deleted. @default all */
  keepSegments?: number | null;
  log: (level: 'info' | 'warn' | 'error', text: string) => void;
  /** Entries kept in memory; older ones are read from the file. @default 10000 */
  recentMax?: number;
  /** What may wait for a disk that takes nothing, in bytes. Beyond it, append refuses (null) until there is room. @default 64 MiB */
  pendingBytesMax?: number;
  /** @default 1000 */
  retryMs?: number;
  openFile?: (path: string) => Promise<AppendableFile>;
}

/** Something was wrong with the files at the start. The agent goes on; it should tell people and put it into the journal. */
export interface JournalFinding {
  what: 'torn' | 'broken' | 'not-understood';
  text: string;
}

export interface OpenedJournal extends Journal {
  readonly found: readonly JournalFinding[];
}

/** What `readAhead` has come to. */
export interface ReadAhead {
  readonly segments: readonly string[];
  readonly store: Store;
  readonly end: ChainEnd;
  readonly found: readonly JournalFinding[];
}

/**
 * Reads a journal that another process still writes, and touches nothing: who opens it later has only the rest to read, and writes
 * wait for that. null: nothing is spared, all is to be read then.
 */
export async function readAhead(options: JournalOptions): Promise<ReadAhead | null> {
  const path = join(options.dir, JOURNAL_FILE);
  const segments = await segmentsIn(options.dir);
  const store = emptyStore(options);
  const found: JournalFinding[] = [];
  let end: ChainEnd | null = null;
  for (const segment of segments) {
    end = await replay(segment, store, options.decode, (what, text) => found.push({ what, text }));
    // Of the last one a line may be on its way.
    if (end.fault !== null && !(end.fault.torn && segment === path)) return null;
  }
  return end === null || segments.at(-1) !== path ? null : { segments, store, end, found };
}

/** A rotation that failed is tried again this much later. */
const ROTATE_AGAIN_MS = 60_000;

/**
 * Replays the files and goes on behind them. A last line cut off by a crash is moved aside. Where the chain is broken further
 * up in the file that is written, that file is moved aside as a whole, and another log begins whose cursors go on; a broken
 * file before it stays, and what stands before the damage is still served. All is told in `found`.
 *
 * @param ahead of the same files: only what came since is read
 * @throws when the directory cannot be made or written at all.
 */
export async function openJournal(options: JournalOptions, ahead: ReadAhead | null = null): Promise<OpenedJournal> {
  const path = join(options.dir, JOURNAL_FILE);
  const found: JournalFinding[] = [];
  const find = (what: JournalFinding['what'], text: string) => {
    found.push({ what, text });
    options.log('warn', text);
  };
  await mkdir(options.dir, { recursive: true, mode: 0o700 });

  const segments = await segmentsIn(options.dir);
  if (ahead !== null && ahead.segments.join() === segments.join()) {
    const rest = await replay(path, ahead.store, options.decode, find, ahead.end);
    // Whatever is wrong is put right below, from the beginning.
    if (rest.fault === null) return fileJournal(path, options, ahead.store, [...ahead.found, ...found]);
  }
  ahead?.store.reader.close();
  found.length = 0;
  const store = emptyStore(options);
  for (const segment of segments) {
    if (segment === path) continue;
    const { fault } = await replay(segment, store, options.decode, find);
    if (fault === null) continue;
    find(
      'broken',
      `journal ${segment}: the chain is broken at ${placeOf(fault)}: ${fault.why}; what stands behind that place is not read, and asked of other nodes again; keep that file, and see \`mdmesh audit verify\``,
    );
  }
  const before = store.ledger.head();
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
  const after = Math.max(before, lastCursor);
  find(
    'broken',
    `journal ${path}: the chain is broken at ${placeOf(fault)}: ${fault.why}; moved to ${aside}, a new journal goes on after cursor ${after}; keep that file, and see \`mdmesh audit verify\``,
  );
  const landmarks = store.ledger.landmarks().map(({ sealed }) => sealed);
  const head = makeHead({
    cursor: after,
    hash: GENESIS_HASH,
    first: null,
    base: after,
    tree: [],
    streams: [],
    landmarks,
  });
  try {
    await writeFile(path, lineOf(head), { flag: 'wx', mode: 0o600, flush: true });
    await syncDirectory(options.dir);
  } catch (error) {
    options.log('error', `journal ${path}: cannot be begun: ${textOf(error)}; free space or repair its disk`);
  }
  // All is read again, without that file: what it held is asked of other nodes.
  store.reader.close();
  const fresh = emptyStore(options);
  for (const segment of await segmentsIn(options.dir)) {
    if (segment !== path) await replay(segment, fresh, options.decode, () => undefined);
  }
  fresh.ledger.beginAfter(after);
  await replay(path, fresh, options.decode, () => undefined);
  return fileJournal(path, options, fresh, found);
}

function placeOf(fault: NonNullable<ChainEnd['fault']>): string {
  return `line ${fault.line}${fault.cursor === null ? '' : ` (cursor ${fault.cursor})`}`;
}

interface Store {
  ledger: Ledger;
  reader: EntryReader;
  /** When the first entry of the newest file was appended. */
  firstAtMs: number | null;
}

function emptyStore(options: JournalOptions): Store {
  const reader = new EntryReader(options.decode, (text) => options.log('error', text));
  const ledger = new Ledger({
    recentMax: options.recentMax ?? 10_000,
    older: (cursor) => reader.entry(cursor),
    listenerFailed: (error) => options.log('error', `journal ${options.dir}: a listener failed: ${textOf(error)}`),
  });
  return { ledger, reader, firstAtMs: null };
}

async function replay(
  path: string,
  store: Store,
  decode: JournalOptions['decode'],
  find: (what: JournalFinding['what'], text: string) => void,
  from: ChainEnd | null = null,
): Promise<ChainEnd> {
  const { ledger, reader } = store;
  const strange: string[] = [];
  if (from === null) {
    reader.begin(path);
    store.firstAtMs = null;
  }
  const scanned = scanChain(
    path,
    {
      head: (head, lengthBytes) => {
        reader.noteHead(lengthBytes);
        ledger.resume(head, understood(head.landmarks, decode));
      },
      link: ({ link, offsetBytes, lengthBytes }) => {
        reader.note(link.cursor, offsetBytes, lengthBytes);
        store.firstAtMs ??= Date.parse(link.appendedAt);
        try {
          ledger.replay(link, decode(link.sealed));
        } catch (error) {
          strange.push(`cursor ${link.cursor}: ${textOf(error)}`);
          ledger.replay(link, null);
        }
      },
    },
    from,
  );
  const end = await scanned.catch((error: unknown): ChainEnd => {
    const nothing = { entries: 0, goodBytes: 0, last: null };
    if (codeOf(error) === 'ENOENT') return { ...nothing, fault: null, lastCursor: 0 };
    // Its disk does not give it back: as good as broken, and no reason not to serve the cluster.
    const fault = { line: 0, cursor: ledger.head(), why: textOf(error), torn: false };
    return { ...nothing, fault, lastCursor: ledger.head() };
  });
  if (strange.length > 0) {
    find(
      'not-understood',
      `journal ${path}: ${strange.length} entries are in the chain but not understood (${strange[0]}); they stay, unread; did a newer version run here?`,
    );
  }
  return end;
}

function understood(landmarks: readonly string[], decode: JournalOptions['decode']): SealedEvent[] {
  return landmarks.flatMap((sealed) => {
    try {
      return [{ event: decode(sealed), sealed }];
    } catch {
      return []; // of a newer version, told where its entry stands
    }
  });
}

function fileJournal(
  path: string,
  options: JournalOptions,
  store: Store,
  found: readonly JournalFinding[],
): OpenedJournal {
  const { ledger, reader } = store;
  let refused = 0;
  let rotateNotBeforeMs = 0;
  let rotated = reader.files() - 1;
  const begun = (): AppendFile =>
    new AppendFile({
      path,
      sizeBytes: reader.endBytes(),
      gatherMs: options.gatherMs ?? 50,
      retryMs: options.retryMs ?? 1000,
      pendingBytesMax: options.pendingBytesMax ?? 64 * 1024 * 1024,
      openFile: options.openFile ?? ((file) => openAppendable(file, options.fsync)),
      onStored: (cursor, offsetBytes, lengthBytes) => {
        if (cursor === null) return reader.noteHead(lengthBytes);
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
  let file = begun();

  /** Only while nothing is being written: then the file is whole, and its name can be given to the next one. */
  const rotateIfDue = (nowMs: number): void => {
    const { rotateBytes = Number.POSITIVE_INFINITY, rotateMs = Number.POSITIVE_INFINITY } = options;
    if (store.firstAtMs === null || !file.isIdle() || nowMs < rotateNotBeforeMs) return;
    if (file.sizeBytes() < rotateBytes && nowMs - store.firstAtMs < rotateMs) return;
    const first = reader.first();
    if (first === null) return;
    const aside = join(options.dir, segmentName(first));
    try {
      renameSync(path, aside);
    } catch (error) {
      rotateNotBeforeMs = nowMs + ROTATE_AGAIN_MS;
      options.log('warn', `journal ${path}: cannot be renamed to ${aside}: ${textOf(error)}; goes on as one file`);
      return;
    }
    void file.close();
    reader.renamed(aside);
    reader.begin(path);
    store.firstAtMs = null;
    file = begun();
    rotated += 1;
    options.log('info', `journal ${path}: goes on in a new file; the one before is ${aside}`);
    const { keepSegments = null } = options;
    while (keepSegments !== null && rotated > keepSegments) {
      rotated -= 1;
      dropOldest();
    }
  };

  const dropOldest = (): void => {
    const { path: oldest, last } = reader.dropOldest();
    if (last !== null) ledger.rotatedAway(last);
    try {
      unlinkSync(oldest);
    } catch (error) {
      options.log('warn', `journal ${oldest}: cannot be deleted: ${textOf(error)}`);
    }
  };

  return {
    found,
    append: (event, sealed) => {
      if (ledger.has(event.origin, event.bootNumber, event.sequence)) return null;
      if (!file.hasRoom()) {
        refused++;
        return null;
      }
      const now = options.now();
      rotateIfDue(now.getTime());
      // The first line of a file is its head; a log's first entry has none before it.
      const isEmpty = store.firstAtMs === null && reader.endBytes() === 0;
      const head = isEmpty ? ledger.segmentHead() : null;
      const added = ledger.append(event, sealed, now);
      if (added === null) return null;
      store.firstAtMs ??= now.getTime();
      if (head !== null) file.add(null, lineOf(head));
      file.add(added.link.cursor, lineOf(added.link));
      ledger.tell(added.entry);
      return added.entry;
    },
    durable: () => file.durable(),
    ...readsOf(ledger),
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
