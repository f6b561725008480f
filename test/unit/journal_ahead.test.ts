/** A journal that is read while another process still writes it, and opened when that has ended: a hand-over. */
import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { scanChain } from '#src/journal/chain_scan.ts';
import { type JournalOptions, type OpenedJournal, openJournal, readAhead } from '#src/journal/index.ts';
import { clock, decode, event, seal } from './journal_sample.ts';

let dir = '';
let decoded = 0;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'mdmesh-ahead-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const path = () => join(dir, 'journal.jsonl');

function options(more: Partial<JournalOptions> = {}): JournalOptions {
  const counted = (sealed: string) => {
    decoded += 1;
    return decode(sealed);
  };
  return { dir, now: clock(), decode: counted, log: () => undefined, retryMs: 5, ...more };
}

async function append(journal: OpenedJournal, ...sequences: number[]): Promise<void> {
  for (const sequence of sequences) {
    journal.append(event(1, 1, sequence), seal(event(1, 1, sequence)));
    await journal.durable();
  }
}

/** All of these are there, once, in one chain, and it goes on. @returns how many entries were read for that */
async function opensWith(ahead: Awaited<ReturnType<typeof readAhead>>, entries: number): Promise<number> {
  decoded = 0;
  const journal = await openJournal(options(), ahead);
  const read = decoded;
  assert.deepEqual(journal.found, []);
  assert.equal(journal.head(), entries);
  for (let sequence = 1; sequence <= entries; sequence++) assert.ok(journal.has(1, 1, sequence));
  assert.deepEqual(
    journal.read(0, 100).entries.map(({ cursor }) => cursor),
    Array.from({ length: entries }, (_, index) => index + 1),
  );
  await append(journal, entries + 1);
  await journal.close();
  const whole = await scanChain(path(), { link: () => undefined });
  assert.equal(whole.fault, null);
  return read;
}

test('only what was written since is read when it is opened', async () => {
  const writer = await openJournal(options());
  await append(writer, 1, 2, 3);
  const ahead = await readAhead(options());
  await append(writer, 4, 5);
  await writer.close();
  assert.equal(await opensWith(ahead, 5), 2);
});

test('a line that was on its way is read when it is whole', async () => {
  const writer = await openJournal(options());
  await append(writer, 1, 2, 3);
  await writer.close();
  const bytes = readFileSync(path());
  truncateSync(path(), bytes.byteLength - 20);
  const ahead = await readAhead(options());
  assert.ok(ahead !== null);
  appendFileSync(path(), bytes.subarray(-20));
  assert.equal(await opensWith(ahead, 3), 1);
});

test('a journal that has gone on in another file, or is not there, is read as ever', async () => {
  assert.equal(await readAhead(options()), null);
  const writer = await openJournal(options({ rotateBytes: 1400 }));
  await append(writer, 1);
  const ahead = await readAhead(options());
  await append(writer, 2, 3, 4, 5, 6);
  await writer.close();
  const journal = await openJournal(options(), ahead);
  assert.equal(journal.head(), 6);
  for (const sequence of [1, 2, 3, 4, 5, 6]) assert.ok(journal.has(1, 1, sequence));
  await journal.close();
});

test('what is broken is put right as if nothing had been read before', async () => {
  const writer = await openJournal(options());
  await append(writer, 1, 2);
  const ahead = await readAhead(options());
  await append(writer, 3, 4);
  await writer.close();
  const lines = readFileSync(path(), 'utf8').split('\n');
  writeFileSync(path(), [...lines.slice(0, 2), 'nothing', ...lines.slice(3)].join('\n'));
  const journal = await openJournal(options(), ahead);
  assert.deepEqual(
    journal.found.map(({ what }) => what),
    ['broken'],
  );
  await journal.close();
});
