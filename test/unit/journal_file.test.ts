import assert from 'node:assert/strict';
import { constants, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { demandRoom, openAppendable, roomFor } from '#src/journal/append_file.ts';
import { lineOf, makeLink, parseLine } from '#src/journal/chain.ts';
import { scanChain } from '#src/journal/chain_scan.ts';
import { type AppendableFile, type JournalOptions, type OpenedJournal, openJournal } from '#src/journal/index.ts';
import { clock, decode, event, seal } from './journal_sample.ts';

let dir = '';
let log: string[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'mdmesh-journal-'));
  log = [];
});
afterEach(() => rmSync(dir, { recursive: true }));

const path = () => join(dir, 'journal.jsonl');
const lines = () => readFileSync(path(), 'utf8').split('\n').slice(0, -1);

async function verifyChain(file: string) {
  const { entries, fault } = await scanChain(file, { link: () => {} });
  return { entries, ok: fault === null, firstBad: fault?.line ?? null, why: fault?.why ?? null };
}

function open(options: Partial<JournalOptions> = {}): Promise<OpenedJournal> {
  return openJournal({
    dir,
    now: clock(),
    decode,
    log: (level, text) => log.push(`${level}: ${text}`),
    retryMs: 5,
    ...options,
  });
}

function append(journal: OpenedJournal, ...sequences: number[]): void {
  for (const sequence of sequences) journal.append(event(1, 1, sequence), seal(event(1, 1, sequence)));
}

async function written(...sequences: number[]): Promise<void> {
  const journal = await open();
  append(journal, ...sequences);
  await journal.close();
}

test('what was durable is there after a restart, and the chain goes on', async () => {
  await written(1, 2, 3);
  const journal = await open();
  assert.deepEqual(journal.found, []);
  assert.equal(journal.head(), 3);
  assert.ok(journal.has(1, 1, 3));
  append(journal, 3, 4);
  await journal.close();
  assert.deepEqual(await verifyChain(path()), { entries: 4, ok: true, firstBad: null, why: null });
});

test('durable resolves only when the entry can be read back from the file', async () => {
  const journal = await open();
  append(journal, 1, 2);
  await journal.durable();
  assert.deepEqual(
    lines().map((line) => parseLine(line)?.cursor),
    [1, 2],
  );
  append(journal, 3);
  await journal.durable();
  assert.equal(lines().length, 3);
  await journal.close();
});

test('a write to the file is on disk when it returns: it is opened so', async () => {
  for (const fsync of [true, false]) {
    const journal = await open({ fsync });
    append(journal, fsync ? 1 : 2);
    await journal.durable();
    const flags = readdirSync('/proc/self/fd').flatMap((fd) => {
      const info = linkOf(fd) === path() ? readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8') : '';
      const [, octal] = /^flags:\s+([0-7]+)$/m.exec(info) ?? [];
      return octal === undefined ? [] : [Number.parseInt(octal, 8)];
    });
    const written = flags.filter((each) => (each & constants.O_RDWR) !== 0);
    assert.deepEqual(
      written.map((each) => (each & constants.O_DSYNC) !== 0),
      [fsync],
    );
    await journal.close();
  }
});

/** Where a descriptor of this process leads; null: it is closed by now. */
function linkOf(fd: string): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return null;
  }
}

test('a burst has one fsync, a moment after it; who asks for durable does not wait for that moment', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let syncs = 0;
  const counting = async (file: string): Promise<AppendableFile> => {
    const real = await openAppendable(file);
    return {
      ...real,
      write: async (bytes, offsetBytes) => {
        syncs += 1;
        await real.write(bytes, offsetBytes);
      },
    };
  };
  const journal = await open({ openFile: counting });
  for (const sequence of [1, 2, 3]) {
    append(journal, sequence);
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(syncs, 0, 'whoever waits for what the burst is about goes first');
  await journal.durable();
  assert.equal(syncs, 1);
  assert.equal(lines().length, 3);
  append(journal, 4);
  t.mock.timers.tick(1000);
  await journal.durable();
  assert.equal(syncs, 2);
  append(journal, 5);
  await journal.close();
  assert.equal(lines().length, 5, 'an end does not lose what was gathering');
});

test('one fsync is in flight; what comes meanwhile shares the next one, and stays readable from memory', async () => {
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let syncs = 0;
  const slow = async (file: string): Promise<AppendableFile> => {
    const inner = await openAppendable(file);
    return {
      ...inner,
      write: async (bytes, offsetBytes) => {
        await gates[syncs++]?.promise;
        await inner.write(bytes, offsetBytes);
      },
    };
  };
  const journal = await open({ openFile: slow, recentMax: 1 });
  append(journal, 1);
  const first = journal.durable();
  while (syncs === 0) await new Promise((resolve) => setImmediate(resolve));
  append(journal, 2, 3, 4, 5);
  const second = journal.durable();
  gates[0]?.resolve();
  await first;
  assert.equal(journal.read(0, 10).entries.length, 5);
  gates[1]?.resolve();
  await second;
  assert.equal(syncs, 2);
  await journal.close();
});

test('a last line cut off by a crash is moved aside and told; nothing else is lost', async () => {
  await written(1, 2, 3);
  const whole = readFileSync(path(), 'utf8');
  writeFileSync(path(), whole.slice(0, -40));
  const journal = await open();
  assert.deepEqual(
    journal.found.map(({ what }) => what),
    ['torn'],
  );
  assert.match(
    journal.found[0]?.text ?? '',
    /journal\.jsonl: line 3 was cut off by a crash; moved to \S+torn-1\.jsonl/,
  );
  assert.equal(journal.head(), 2);
  append(journal, 3, 4);
  await journal.close();
  assert.equal((await verifyChain(path())).entries, 4);
  assert.equal(readFileSync(join(dir, 'journal.torn-1.jsonl'), 'utf8'), whole.split('\n')[2]?.slice(0, -39));
});

test('zeros behind the last entry, as a file system may leave them after a crash, are a torn tail too', async () => {
  await written(1, 2);
  writeFileSync(path(), Buffer.concat([readFileSync(path()), Buffer.alloc(5000)]));
  const journal = await open();
  assert.deepEqual(
    journal.found.map(({ what }) => what),
    ['torn'],
  );
  assert.equal(journal.head(), 2);
  await journal.close();
});

test('a changed entry breaks the chain; the agent goes on with a new journal whose cursors go on', async () => {
  await written(1, 2, 3, 4);
  const link = parseLine(lines()[1] ?? '');
  assert.ok(link);
  const changed = lines();
  changed[1] = lineOf({ ...link, sealed: seal(event(1, 1, 9)) }).trimEnd();
  writeFileSync(path(), `${changed.join('\n')}\n`);
  assert.deepEqual({ ...(await verifyChain(path())), why: '' }, { entries: 1, ok: false, firstBad: 2, why: '' });

  const journal = await open();
  assert.match(
    journal.found[0]?.text ?? '',
    /the chain is broken at line 2 \(cursor 2\): its bytes hash to .*; moved to \S+broken-1\.jsonl, a new journal goes on after cursor 4; keep that file/,
  );
  assert.equal(journal.head(), 4);
  assert.equal(journal.read(0, 10).tooOld, true);
  append(journal, 1);
  assert.deepEqual(
    journal.read(4, 10).entries.map((entry) => entry.cursor),
    [5],
  );
  await journal.close();

  const again = await open();
  assert.deepEqual(again.found, []);
  assert.equal(again.head(), 5);
  assert.equal(again.read(0, 10).tooOld, true);
  await again.close();
  assert.deepEqual(readdirSync(dir).toSorted(), ['journal.broken-1.jsonl', 'journal.jsonl']);
});

test('a line that is no entry, with entries behind it, is no torn tail', async () => {
  await written(1, 2, 3);
  writeFileSync(path(), `${lines().with(1, 'scribble').join('\n')}\n`);
  const journal = await open();
  assert.deepEqual(
    journal.found.map(({ what }) => what),
    ['broken'],
  );
  assert.equal(journal.head(), 3);
  await journal.close();
});

test('an auditor finds every kind of tampering, and its place', async () => {
  await written(1, 2, 3, 4);
  const original = lines();
  const links = original.map((line) => parseLine(line));
  const second = links[1];
  const third = links[2];
  assert.ok(second && third);
  const forged = makeLink(2, second.prev, second.appendedAt, seal(event(1, 1, 9)));
  const at = (index: number, line: string) => original.with(index, line);
  const kinds: [string, string[], number, RegExp][] = [
    [
      'time changed',
      at(1, lineOf({ ...second, appendedAt: '2020-01-01T00:00:00.000Z' }).trimEnd()),
      2,
      /its bytes hash to/,
    ],
    ['entry forged with a hash of its own', at(1, lineOf(forged).trimEnd()), 3, /names .* as the entry before/],
    ['entry taken out', original.toSpliced(1, 1), 2, /cursor 3 follows cursor 1: entries are missing/],
    [
      'taken out and renumbered',
      original.toSpliced(1, 1, lineOf({ ...third, cursor: 2 }).trimEnd()),
      2,
      /names .* as the entry before/,
    ],
    ['two swapped', original.with(1, original[2] ?? '').with(2, original[1] ?? ''), 2, /out of order/],
    ['beginning taken out', original.slice(1), 1, /names .* as the entry before, which is 000000000000/],
    ['not an entry', at(2, '{"cursor":3}'), 3, /is no journal entry/],
    ['end cut off', at(3, (original[3] ?? '').slice(0, -9)), 4, /no journal entry/],
  ];
  for (const [kind, tampered, firstBad, why] of kinds) {
    writeFileSync(path(), `${tampered.join('\n')}\n`);
    const verdict = await verifyChain(path());
    assert.equal(verdict.ok, false, kind);
    assert.equal(verdict.firstBad, firstBad, kind);
    assert.match(verdict.why ?? '', why, kind);
  }
});

test('two breaks leave two files: nothing moved aside is overwritten', async () => {
  for (const round of [1, 2]) {
    await written(1, 2, 3);
    writeFileSync(path(), lines().toSpliced(1, 1).join('\n').concat('\n'));
    const journal = await open();
    assert.match(journal.found[0]?.text ?? '', new RegExp(`broken-${round}`));
    await journal.close();
  }
});

async function onDiskAgain(): Promise<void> {
  for (let tries = 0; !log.some((line) => line.includes('on disk again')); tries++) {
    assert.ok(tries < 5000, 'never tried again');
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** A disk that takes nothing while `full`, and leaves half of a write behind. */
function failingDisk(state: { full: boolean }): (file: string) => Promise<AppendableFile> {
  return async (file) => {
    const inner = await openAppendable(file);
    return {
      ...inner,
      write: async (bytes, offsetBytes) => {
        if (!state.full) return inner.write(bytes, offsetBytes);
        await inner.write(bytes.subarray(0, bytes.byteLength / 2), offsetBytes);
        throw new Error('ENOSPC: no space left on device');
      },
    };
  };
}

test('a full disk: entries wait, durable says why not, and all is well once there is room', async () => {
  const state = { full: true };
  const journal = await open({ openFile: failingDisk(state) });
  append(journal, 1, 2);
  await assert.rejects(journal.durable(), /journal \S+: 2 entries are not on disk: ENOSPC.*; free space/);
  append(journal, 3);
  await assert.rejects(journal.durable(), /ENOSPC/);
  assert.equal(journal.read(0, 10).entries.length, 3, 'they can be read meanwhile');
  state.full = false;
  await onDiskAgain();
  await journal.durable();
  await journal.close();
  assert.deepEqual(await verifyChain(path()), { entries: 3, ok: true, firstBad: null, why: null });
  assert.equal(log.filter((line) => line.startsWith('error')).length, 1, 'an outage is told once');
});

test('what waits for a full disk is bounded: beyond that events are refused, and welcome later', async () => {
  const state = { full: true };
  const journal = await open({ openFile: failingDisk(state), pendingBytesMax: 1000, recentMax: 1 });
  append(journal, 1, 2, 3, 4, 5, 6);
  await assert.rejects(journal.durable(), /ENOSPC/);
  const kept = journal.head();
  assert.ok(kept >= 1 && kept < 6, `${kept} were kept`);
  assert.equal(journal.has(1, 1, 6), false);
  assert.equal(journal.read(0, 10).entries.length, kept, 'none that is not on disk has left memory');
  state.full = false;
  await onDiskAgain();
  append(journal, 1, 2, 3, 4, 5, 6);
  await journal.close();
  assert.ok((await verifyChain(path())).entries >= kept);
});

test('closed while the disk takes nothing: it says how much is lost, and does not hang', async () => {
  const journal = await open({ openFile: failingDisk({ full: true }), retryMs: 3_600_000 });
  append(journal, 1);
  await assert.rejects(journal.durable(), /ENOSPC/);
  await assert.rejects(journal.durable(), /ENOSPC/, 'at once, not at the next try');
  await journal.close();
  assert.match(log.at(-1) ?? '', /closed with 1 entries that its disk would not take/);
  const again = await open();
  assert.equal(again.head(), 0);
  assert.deepEqual(
    again.found.map(({ what }) => what),
    ['torn'],
  );
  await again.close();
});

test('an entry of a newer version stays in the chain, unread', async () => {
  await written(1, 2, 3);
  const older = await open({
    decode: (sealed) => {
      const decoded = decode(sealed);
      if (decoded.sequence === 2) throw new Error('unknown event type');
      return decoded;
    },
  });
  assert.match(
    older.found[0]?.text ?? '',
    /1 entries are in the chain but not understood \(cursor 2: unknown event type\)/,
  );
  assert.deepEqual(
    older.read(0, 10).entries.map((entry) => entry.cursor),
    [1, 3],
  );
  append(older, 4);
  await older.close();
  assert.deepEqual(await verifyChain(path()), { entries: 4, ok: true, firstBad: null, why: null });
});

test('a listener that throws harms neither the journal nor the other listeners', async () => {
  const journal = await open();
  const heard: number[] = [];
  journal.onAppend(() => {
    throw new Error('outlet broke');
  });
  journal.onAppend((entry) => heard.push(entry.cursor));
  append(journal, 1, 2);
  await journal.close();
  assert.deepEqual(heard, [1, 2]);
  assert.match(log[0] ?? '', /a listener failed: outlet broke/);
});

test('the last of the space is for votes: the journal waits before it takes it', () => {
  const mib = 1024 * 1024;
  const disk = (freeMib: number, wholeMib: number) => ({ bavail: freeMib, blocks: wholeMib, bsize: mib });
  demandRoom(disk(20, 100_000), 3 * mib);
  assert.throws(() => demandRoom(disk(20, 100_000), 5 * mib), /20\.0 MiB are left .* 16\.0 of them are for votes/);
  demandRoom(disk(2, 50), mib);
  assert.throws(() => demandRoom(disk(1, 50), 1), /for votes/);
});

test('one look at the space allows for what comes within a second, up to 64 KiB; one that finds none allows nothing', async () => {
  let [looks, nowMs, freeMib] = [0, 0, 1000];
  const look = async () => {
    looks += 1;
    return { bavail: freeMib, blocks: 100_000, bsize: 1024 * 1024 };
  };
  const hasRoom = roomFor(look, () => nowMs);
  for (let entry = 0; entry < 65; entry++) await hasRoom(1024);
  assert.equal(looks, 1);
  await hasRoom(1024);
  assert.equal(looks, 2, 'more than one look allows for');
  nowMs = 1000;
  freeMib = 16;
  await assert.rejects(hasRoom(1), /for votes/);
  await assert.rejects(hasRoom(1), /for votes/);
  freeMib = 1000;
  await hasRoom(1);
  assert.equal(looks, 5);
});
