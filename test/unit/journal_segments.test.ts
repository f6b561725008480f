/** One journal in several files: rotation, what is kept, what breaks. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { openAppendable } from '#src/journal/append_file.ts';
import { parseHead, parseLine } from '#src/journal/chain.ts';
import { type JournalOptions, type OpenedJournal, openJournal, segmentsIn } from '#src/journal/index.ts';
import { GrowingTree, leafOf } from '#src/journal/merkle.ts';
import { clock, commit, decode, event, seal } from './journal_sample.ts';

let dir = '';
let log: string[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'mdmesh-segments-'));
  log = [];
});
afterEach(() => rmSync(dir, { recursive: true }));

const live = () => join(dir, 'journal.jsonl');
const names = () => readdirSync(dir).sort();

function open(options: Partial<JournalOptions> = {}): Promise<OpenedJournal> {
  return openJournal({
    dir,
    now: clock(),
    decode,
    log: (level, text) => log.push(`${level}: ${text}`),
    rotateBytes: 1400,
    retryMs: 5,
    ...options,
  });
}

async function append(journal: OpenedJournal, ...sequences: number[]): Promise<void> {
  for (const sequence of sequences) {
    journal.append(event(1, 1, sequence), seal(event(1, 1, sequence)));
    await journal.durable();
  }
}

async function written(count: number, options: Partial<JournalOptions> = {}): Promise<void> {
  const journal = await open(options);
  await append(journal, ...Array.from({ length: count }, (_, index) => index + 1));
  await journal.close();
}

/** Hash, root and size of the whole log, from the files alone. */
async function chainOf(): Promise<{ root: string; size: number; cursors: number[] }> {
  const tree = new GrowingTree();
  const cursors: number[] = [];
  let prev = '0'.repeat(64);
  for (const path of await segmentsIn(dir)) {
    for (const line of readFileSync(path, 'utf8').trimEnd().split('\n')) {
      const head = parseHead(line);
      if (head !== null) {
        assert.equal(head.hash, prev, `${path} goes on where the one before ended`);
        assert.deepEqual(
          head.tree,
          tree.frontier().map((hash) => hash.toString('hex')),
        );
        continue;
      }
      const link = parseLine(line);
      assert.equal(link?.prev, prev);
      prev = link?.hash ?? '';
      tree.append(leafOf(prev));
      cursors.push(link?.cursor ?? 0);
    }
  }
  return { root: tree.root().toString('hex'), size: tree.size(), cursors };
}

test('a file that is full is renamed and another goes on: one chain, one tree, over restarts', async () => {
  await written(7);
  assert.deepEqual(names(), ['journal-000000000001.jsonl', 'journal-000000000004.jsonl', 'journal.jsonl']);
  const journal = await open();
  assert.deepEqual(journal.found, []);
  assert.equal(journal.head(), 7);
  await append(journal, 8, 9, 10);
  const own = journal.log();
  await journal.close();
  const { root, size, cursors } = await chainOf();
  assert.deepEqual(cursors, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.equal(size, 10);
  assert.equal(own?.size, 10);
  assert.equal(own?.treeAt(10)?.root().toString('hex'), root);
});

test('entries of every file are read, from memory or from disk', async () => {
  await written(9);
  const journal = await open({ recentMax: 1 });
  assert.deepEqual(
    journal.read(0, 100).entries.map((entry) => [entry.cursor, entry.event.sequence]),
    Array.from({ length: 9 }, (_, index) => [index + 1, index + 1]),
  );
  assert.equal(journal.missing([], 100).sealed.length, 9);
  await append(journal, 10, 11, 12, 13);
  assert.equal(journal.read(8, 100).entries.length, 5, 'also of the file that was renamed meanwhile');
  await journal.close();
});

test('a file whose first entry is old enough is full too', async () => {
  const journal = await open({ rotateBytes: Number.POSITIVE_INFINITY, rotateMs: 4000 });
  await append(journal, 1, 2, 3, 4);
  assert.deepEqual(names(), ['journal.jsonl'], 'the clock moves a second an entry');
  await append(journal, 5);
  assert.deepEqual(names(), ['journal-000000000001.jsonl', 'journal.jsonl']);
  await journal.close();
});

test('a journal of before there were segments is read and gone on with', async () => {
  const journal = await open({ rotateBytes: Number.POSITIVE_INFINITY });
  await append(journal, 1, 2, 3);
  await journal.close();
  assert.equal(parseHead(readFileSync(live(), 'utf8').split('\n')[0] ?? ''), null, 'its first line is an entry');
  const now = await open();
  assert.deepEqual(now.found, []);
  await append(now, 4);
  await now.close();
  assert.deepEqual(names(), ['journal-000000000001.jsonl', 'journal.jsonl']);
  assert.equal((await chainOf()).size, 4);
});

test('of old files so many stay; what was known in the others stays known, and is offered to nobody', async () => {
  const options = { keepSegments: 1, recentMax: 1, rotateBytes: 4000 };
  const journal = await open(options);
  const record = commit(1, 1, 1);
  journal.append(record, seal(record));
  await append(journal, ...Array.from({ length: 19 }, (_, index) => index + 2));
  assert.equal(names().length, 2);
  const first = Number(/[0-9]+/.exec(names()[0] ?? '')?.[0]);
  assert.ok(first > 5, 'the commit has been rotated away');
  const check = (of: OpenedJournal) => {
    assert.equal(of.head(), 20);
    assert.equal(of.read(0, 100).tooOld, true);
    assert.deepEqual(
      of.read(0, 100).entries.map(({ cursor }) => cursor),
      Array.from({ length: 21 - first }, (_, index) => first + index),
    );
    assert.ok(of.has(1, 1, 1) && of.has(1, 1, 20));
    assert.deepEqual(of.vector(), [{ origin: 1, bootNumber: 1, sequence: 20 }]);
    const offered = of.missing([], 2);
    assert.deepEqual(
      offered.sealed.map((sealed) => decode(sealed).sequence),
      [first, first + 1],
    );
    assert.deepEqual(
      of.landmarks().map((landmark) => landmark.event),
      [record],
    );
    assert.equal(of.log()?.size, 20);
  };
  check(journal);
  const root = journal.log()?.treeAt(20)?.root();
  await journal.close();
  const again = await open(options);
  check(again);
  assert.deepEqual(again.log()?.treeAt(20)?.root(), root, 'the tree goes on from its frontier');
  await again.close();
});

test('damage in an old file: it is named and stays, the rest is served, and the log goes on as the same', async () => {
  await written(7);
  const old = join(dir, 'journal-000000000004.jsonl');
  const bytes = readFileSync(old);
  bytes[bytes.byteLength - 200] = (bytes[bytes.byteLength - 200] ?? 0) ^ 1;
  writeFileSync(old, bytes);
  const journal = await open({ recentMax: 1 });
  assert.match(
    journal.found[0]?.text ?? '',
    /journal \S+journal-000000000004\.jsonl: the chain is broken at line 3 \(cursor 5\): .*; keep that file/,
  );
  assert.equal(journal.head(), 7);
  assert.equal(journal.log()?.size, 7);
  assert.deepEqual(
    journal.read(0, 100).entries.map(({ cursor }) => cursor),
    [1, 2, 3, 4, 6, 7],
  );
  assert.equal(journal.has(1, 1, 5), false, 'what is lost is asked of other nodes again');
  journal.append(event(1, 1, 5), seal(event(1, 1, 5)));
  assert.equal(journal.head(), 8);
  await journal.close();
});

test('damage in the file that is written: another log begins, and does so once', async () => {
  await written(7);
  const bytes = readFileSync(live());
  const lines = bytes.toString('utf8').trimEnd().split('\n');
  assert.ok(lines.length >= 2);
  writeFileSync(live(), bytes.toString('utf8').replace('"cursor":7', '"cursor":9'));
  const first = (await open()) as OpenedJournal;
  assert.equal(first.found[0]?.what, 'broken');
  assert.equal(first.log(), null, 'it has no entry yet');
  const head = first.head();
  assert.ok(head >= 7);
  await first.close();
  // A crash before anything was appended must not lead back into the old log: its checkpoints may cover what was moved aside.
  const again = await open();
  assert.deepEqual(again.found, []);
  assert.equal(again.head(), head);
  assert.equal(again.log(), null);
  await append(again, 20);
  assert.equal(again.log()?.size, 1);
  await again.close();
  const third = await open();
  assert.deepEqual(third.found, []);
  assert.equal(third.log()?.size, 1);
  assert.equal(third.head(), head + 1);
  await third.close();
});

test('a crash in the first line of a new file leaves nothing behind', async () => {
  await written(6);
  const head = readFileSync(live(), 'utf8').split('\n')[0] ?? '';
  assert.notEqual(parseHead(head), null);
  for (const left of ['', head.slice(0, 50), `${head}\n`, `${head}\n{"cursor":6,"pre`]) {
    writeFileSync(live(), left);
    const journal = await open();
    assert.ok(
      journal.found.every(({ what }) => what === 'torn'),
      left,
    );
    assert.equal(journal.head(), 5, left);
    await append(journal, 6);
    await journal.close();
    assert.equal((await chainOf()).size, 6, left);
  }
});

test('a new file that cannot be made: entries wait, and all is well once it can', async () => {
  const state = { full: false };
  const journal = await open({
    openFile: async (path) => {
      if (state.full) throw new Error('ENOSPC: no space left on device');
      return openAppendable(path);
    },
  });
  await append(journal, 1, 2, 3);
  state.full = true;
  journal.append(event(1, 1, 4), seal(event(1, 1, 4)));
  await assert.rejects(journal.durable(), /1 entries are not on disk: ENOSPC/);
  assert.equal(journal.read(0, 10).entries.length, 4);
  state.full = false;
  for (let tries = 0; !log.some((line) => line.includes('on disk again')); tries++) {
    assert.ok(tries < 5000, 'never tried again');
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await journal.close();
  assert.equal((await chainOf()).size, 4);
});

test('a head that rots is no head', async () => {
  await written(5);
  const line = readFileSync(live(), 'utf8').split('\n')[0] ?? '';
  for (let at = 0; at < line.length; at++) {
    const changed = Buffer.from(line);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assert.equal(parseHead(changed.toString('utf8')), null, `byte ${at}`);
  }
});
