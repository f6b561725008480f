/** Reads the files of a journal, checks their lines, and joins them to one chain: the rules about the order of lines. */
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import type { NodeId } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import { GENESIS_HASH, parseHead, parseLine } from '../journal/chain.ts';
import { linesOf } from '../journal/chain_scan.ts';
import { logOf } from '../journal/checkpoint.ts';
import { JOURNAL_FILE } from '../journal/index.ts';
import { GrowingTree, leafOf } from '../journal/merkle.ts';
import type { CheckedEvent, CheckedLine } from './checker.ts';
import type { Finding } from './index.ts';
import type { NamedJournal } from './journals.ts';
import type { LineChecker } from './threads.ts';

export interface AuditedEntry {
  journal: AuditedJournal;
  file: string;
  line: number;
  cursor: number;
  event: CheckedEvent;
}

/** One chain from its first entry on; a journal that broke goes on as another one. */
export interface AuditedLog {
  /** Name of the log; null: its first entry is not here, and no head says it. */
  log: string | null;
  /** Entries of it before the first that is here. */
  before: number;
  size: number;
  /** Cursor of its last entry. */
  end: number;
  /** The tree at `before`, and the hashes of the entries from there on. */
  tree: GrowingTree;
  hashes: string[];
}

export interface AuditedJournal {
  name: string;
  node: NodeId | null;
  files: string[];
  entries: AuditedEntry[];
  logs: AuditedLog[];
  findings: Finding[];
  /** The cursor before its first entry: what was before is not here. */
  from: number;
}

/** Pieces are as large as to keep a thread busy for some 10 ms. */
const PIECE_BYTES = 256 * 1024;
const AHEAD_MAX = 8;
/** Of one journal: the first ones tell. */
const FAULTS_MAX = 20;

export async function readJournal(named: NamedJournal, checker: LineChecker): Promise<AuditedJournal> {
  const files = await inOrder(named.files);
  const journal: AuditedJournal = {
    name: named.node === null ? named.name : `node ${named.node}`,
    node: named.node,
    files,
    entries: [],
    logs: [],
    findings: [],
    from: 0,
  };
  const chain = new ChainReader(journal);
  let pieces = 0;
  for (const file of files) {
    chain.begin(file);
    for await (const { lines, rest } of checkedPieces(file, (bytes) => checker.check(bytes, pieces++))) {
      for (const line of lines) chain.take(line);
      if (rest > 0) chain.cutOff(rest);
      if (chain.broken) break;
    }
    if (chain.broken) break;
  }
  return journal;
}

/** Pieces are read ahead, so that no thread waits for the file, nor for the rules. */
async function* checkedPieces(
  file: string,
  check: (bytes: Buffer) => Promise<CheckedLine[]>,
): AsyncGenerator<{ lines: CheckedLine[]; rest: number }> {
  const ahead: Promise<CheckedLine[]>[] = [];
  const handle = await open(file);
  let kept = 0;
  try {
    let buffer = Buffer.allocUnsafeSlow(2 * PIECE_BYTES);
    while (true) {
      if (buffer.byteLength - kept < PIECE_BYTES) buffer = Buffer.concat([buffer], 2 * buffer.byteLength);
      const { bytesRead } = await handle.read(buffer, kept, PIECE_BYTES);
      if (bytesRead === 0) break;
      const bytes = buffer.subarray(0, kept + bytesRead);
      const end = bytes.lastIndexOf(10) + 1;
      if (end > 0) {
        const asked = check(bytes.subarray(0, end));
        // Awaited below, in its turn.
        asked.catch(() => undefined);
        ahead.push(asked);
      }
      buffer.copyWithin(0, end, bytes.byteLength);
      kept = bytes.byteLength - end;
      if (ahead.length > AHEAD_MAX) yield { lines: (await ahead.shift()) ?? [], rest: 0 };
    }
  } finally {
    await handle.close();
  }
  for (const lines of ahead) yield { lines: await lines, rest: 0 };
  if (kept > 0) yield { lines: [], rest: kept };
}

/** As the agent named them; under other names, by the cursor that each begins with. */
async function inOrder(files: readonly string[]): Promise<string[]> {
  const placed = await Promise.all(files.map(async (file) => ({ file, cursor: await beginning(file) })));
  return placed.sort((a, b) => a.cursor - b.cursor || a.file.localeCompare(b.file)).map(({ file }) => file);
}

async function beginning(file: string): Promise<number> {
  const [, named] = /^journal-(\d{12})\.jsonl$/.exec(basename(file)) ?? [];
  if (named !== undefined) return Number(named);
  if (basename(file) === JOURNAL_FILE) return Number.MAX_SAFE_INTEGER;
  for await (const { bytes } of linesOf(file)) {
    const text = bytes.toString('utf8');
    const head = parseHead(text);
    return head === null ? (parseLine(text)?.cursor ?? Number.MAX_SAFE_INTEGER) : head.cursor + 1;
  }
  return Number.MAX_SAFE_INTEGER;
}

class ChainReader {
  /** The order of the lines is broken: what follows proves nothing. */
  broken = false;
  readonly #journal: AuditedJournal;
  #file = '';
  #line = 0;
  #place: { cursor: number; hash: string } | null = null;
  #faults = 0;
  /** Name, growing tree and hashes of the log that is being read. */
  #log: AuditedLog | null = null;
  #tree = new GrowingTree();

  constructor(journal: AuditedJournal) {
    this.#journal = journal;
  }

  begin(file: string): void {
    this.#file = file;
    this.#line = 0;
  }

  /** What is left behind the last newline. */
  cutOff(bytes: number): void {
    this.#line += 1;
    this.#find(
      'open',
      'chain',
      null,
      `the last line is cut off (${bytes} bytes): a crash, or an end that was taken away`,
    );
    this.broken = true;
  }

  take(line: CheckedLine): void {
    if (this.broken) return;
    this.#line += 1;
    const why =
      line.kind === 'none'
        ? 'it is no journal entry'
        : line.kind === 'head'
          ? this.#head(line.head)
          : this.#entry(line);
    if (why === null) return;
    this.broken = true;
    const cursor = line.kind === 'entry' ? line.cursor : null;
    this.#find('broken', 'chain', cursor, `${why}; nothing behind it is proved`);
  }

  /** Why it cannot stand here; null: it can. */
  #entry({ cursor, prev, hash, judged }: Extract<CheckedLine, { kind: 'entry' }>): string | null {
    const { event, fault } = judged;
    if (fault?.rule === 'chain') return fault.why;
    if (this.#line === 1 && prev === GENESIS_HASH) this.#another(cursor - 1, this.#place !== null);
    else if (this.#line === 1 && this.#place !== null) {
      return 'the first line of this file, which says where the one before ended, is missing';
    }
    const place = this.#place;
    if (place !== null && cursor !== place.cursor + 1) {
      return `cursor ${cursor} follows cursor ${place.cursor}: entries are missing or out of order`;
    }
    const before = place?.hash ?? GENESIS_HASH;
    if (prev !== before) return `it names ${prev.slice(0, 12)}… as the entry before, which is ${before.slice(0, 12)}…`;
    this.#place = { cursor, hash };
    this.#keep(cursor, hash);
    if (fault !== null) {
      this.#faults += 1;
      if (this.#faults <= FAULTS_MAX) this.#find('broken', fault.rule, cursor, fault.why);
    }
    if (event !== null) {
      this.#journal.entries.push({ journal: this.#journal, file: this.#file, line: this.#line, cursor, event });
    }
    return null;
  }

  /** Why it cannot stand here; null: it can. */
  #head(head: Extract<CheckedLine, { kind: 'head' }>['head']): string | null {
    if (this.#line !== 1) return 'the first line of a file stands in the middle of one';
    const place = this.#place;
    if (head.first === null) this.#another(head.cursor, true);
    else if (place === null) {
      try {
        this.#resume(head.cursor - head.base, head.tree, logOf(head.first));
      } catch (error) {
        return textOf(error);
      }
      this.#journal.from = head.cursor;
      this.#find('note', 'coverage', null, `entries up to cursor ${head.cursor} are not among these files`);
    } else if (head.cursor !== place.cursor || head.hash !== place.hash) {
      return `it goes on behind cursor ${head.cursor} (${head.hash.slice(0, 12)}…), the file before ends with ${place.cursor} (${place.hash.slice(0, 12)}…)`;
    } else {
      this.#grow();
      const frontier = this.#tree.frontier().map((hash) => hash.toString('hex'));
      if (frontier.join() !== head.tree.join()) return 'its tree is not that of the entries before it';
    }
    this.#place = { cursor: head.cursor, hash: head.hash };
    return null;
  }

  #resume(before: number, frontier: readonly string[], log: string): void {
    this.#tree = new GrowingTree(
      before,
      frontier.map((hash) => Buffer.from(hash, 'hex')),
    );
    this.#log = { log, before, size: before, end: 0, tree: this.#tree.clone(), hashes: [] };
    this.#journal.logs.push(this.#log);
  }

  #another(before: number, isTold: boolean): void {
    this.#place = before === 0 ? null : { cursor: before, hash: GENESIS_HASH };
    if (before === 0 && !isTold) return;
    if (this.#journal.entries.length === 0) this.#journal.from = before;
    this.#log = null;
    this.#tree = new GrowingTree();
    const text = `another log begins behind cursor ${before}: the one before broke, and was moved aside (journal.broken-*.jsonl)`;
    this.#find('open', 'chain', null, text);
  }

  #keep(cursor: number, hash: string): void {
    if (this.#log === null) {
      this.#log = { log: logOf(hash), before: 0, size: 0, end: 0, tree: new GrowingTree(), hashes: [] };
      this.#journal.logs.push(this.#log);
    }
    this.#log.hashes.push(hash);
    this.#log.size += 1;
    this.#log.end = cursor;
  }

  /** By all entries since: only a head asks for the tree. */
  #grow(): void {
    if (this.#log === null) return;
    const { before, hashes } = this.#log;
    for (const hash of hashes.slice(this.#tree.size() - before)) this.#tree.append(leafOf(hash));
  }

  #find(severity: Finding['severity'], rule: Finding['rule'], cursor: number | null, text: string): void {
    const { name } = this.#journal;
    this.#journal.findings.push({ severity, rule, journal: name, file: this.#file, line: this.#line, cursor, text });
  }
}
