/** A journal in several files, as an auditor finds it: whole, from an archive, with files missing or made up. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { findJournals, type Verdict, verifyJournals } from '#src/audit/index.ts';
import { lineOf, makeHead, parseHead } from '#src/journal/chain.ts';
import { cosign, logOf, nameOfNode, originOf, readCheckpoint, signCheckpoint } from '#src/journal/checkpoint.ts';
import { openJournal } from '#src/journal/index.ts';
import { decodeUnverified, generateIdentity, seal } from '#src/wire/index.ts';
import { type Event, type EventBody, SEALED_CHARACTERS_MAX } from '#src/wire/messages.ts';
import { CLUSTER } from './journal_sample.ts';

const folder = mkdtempSync(join(tmpdir(), 'mdmesh-audit-files-'));
after(() => rmSync(folder, { recursive: true }));
const [one, two] = await Promise.all([generateIdentity(), generateIdentity()]);
const cluster = {
  uuid: CLUSTER,
  peerIds: new Map([
    [1, one.peerId],
    [2, two.peerId],
  ]),
};

const whole = join(folder, 'whole');
const journal = await openJournal({
  dir: whole,
  now: () => new Date(),
  decode: decodeUnverified,
  log: () => {},
  rotateBytes: 6000,
});
const said = new Map<number, number>();
async function say(origin: 1 | 2, body: EventBody): Promise<void> {
  const sequence = (said.get(origin) ?? 0) + 1;
  said.set(origin, sequence);
  const boot = `00000000-0000-4000-8000-00000000000${origin}`;
  const event: Event = {
    cluster: CLUSTER,
    origin,
    boot,
    bootNumber: 1,
    sequence,
    time: new Date().toISOString(),
    term: 1,
    body,
  };
  journal.append(event, Buffer.from(await seal(origin === 1 ? one : two, event)).toString('base64'));
  await journal.durable();
}
async function sign(): Promise<void> {
  const log = journal.log();
  assert.ok(log);
  const root = log.treeAt(log.size)?.root();
  assert.ok(root);
  const origin = originOf(CLUSTER, 1, logOf(log.first));
  const note = signCheckpoint({ origin, size: log.size, root }, one.privateKey);
  await say(1, { type: 'checkpoint', note, previous: 0, proof: [] });
  const line = cosign(readCheckpoint(note), nameOfNode(CLUSTER, 2), two.privateKey, 1);
  await say(2, { type: 'cosignature', of: { origin, size: log.size, root: root.toString('base64') }, line });
}
for (let i = 0; i < 30; i++) await say(1, { type: 'leave', reason: `${i}` });
await sign();
for (let i = 30; i < 60; i++) await say(1, { type: 'leave', reason: `${i}` });
/** Of the file that is written. */
const headCursor = () =>
  parseHead(readFileSync(join(whole, 'journal.jsonl'), 'utf8').split('\n')[0] ?? '')?.cursor ?? 0;
// Until a checkpoint of what stands in the last file stands in it too.
let signedSize = 0;
do {
  await say(1, { type: 'leave', reason: 'more' });
  await sign();
  signedSize = journal.head() - 2;
} while (headCursor() >= signedSize);
const count = journal.head();
await journal.close();
const names = readdirSync(whole).sort();
assert.ok(names.length >= 5, names.join());

let copies = 0;
function copy(): string {
  const to = join(folder, `copy${++copies}`);
  cpSync(whole, to, { recursive: true });
  return to;
}

async function judged(...words: string[]): Promise<Verdict> {
  return verifyJournals({ cluster, journals: await findJournals(words) });
}

function worst({ findings }: Verdict): string {
  const [first] = findings;
  return first === undefined
    ? ''
    : `${first.severity} ${first.rule} ${first.file?.split('/').at(-1)}:${first.line} ${first.text}`;
}

/** @param change of the lines of one file */
function changed(name: string, change: (lines: string[]) => string[]): string {
  const dir = copy();
  const path = join(dir, name);
  writeFileSync(path, `${change(readFileSync(path, 'utf8').trimEnd().split('\n')).join('\n')}\n`);
  return dir;
}

test('all files are one chain, whatever their order or their names', async () => {
  for (const verdict of [await judged(whole), await judged(...names.map((name) => join(whole, name)).toReversed())]) {
    assert.equal(verdict.outcome, 'proved', worst(verdict));
    assert.equal(verdict.entries, count);
    assert.deepEqual(verdict.findings, []);
    assert.equal(verdict.journals[0]?.cosigned, signedSize);
  }
  const archive = copy();
  for (const [index, name] of names.entries()) renameSync(join(archive, name), join(archive, `${9 - index}.txt`));
  const verdict = await judged(...names.map((_, index) => join(archive, `${9 - index}.txt`)));
  assert.equal(verdict.outcome, 'proved', worst(verdict));
});

test('old files that are not there are noted; what is there is proved by the checkpoints behind it', async () => {
  const dir = copy();
  for (const name of names.slice(0, 2)) rmSync(join(dir, name));
  const verdict = await judged(dir);
  assert.equal(verdict.outcome, 'proved', worst(verdict));
  assert.match(worst(verdict), /^note coverage \S+:1 entries up to cursor \d+ are not among these files/);
});

test('a file that is missing in the middle is named', async () => {
  const dir = copy();
  rmSync(join(dir, names[2] ?? ''));
  const verdict = await judged(dir);
  assert.equal(verdict.outcome, 'broken');
  assert.match(
    worst(verdict),
    new RegExp(`^broken chain ${names[3]}:1 it goes on behind cursor \\d+ .*, the file before ends with`),
  );
});

test('a head that was taken out, changed or made up is named', async () => {
  const name = names[2] ?? '';
  assert.match(
    worst(await judged(changed(name, (lines) => lines.slice(1)))),
    /:1 the first line of this file, .* is missing/,
  );
  const spoilt = changed(name, ([head = '', ...lines]) => [head.replace('"base":0', '"base":1'), ...lines]);
  assert.match(worst(await judged(spoilt)), new RegExp(`${name}:1 it is no journal entry`));
  const madeUp = changed(name, ([line = '', ...lines]) => {
    const head = parseHead(line);
    assert.ok(head);
    const { segment: _, digest: __, ...rest } = head;
    return [lineOf(makeHead({ ...rest, tree: rest.tree.map(() => 'ab'.repeat(32)) })).trimEnd(), ...lines];
  });
  assert.match(worst(await judged(madeUp)), new RegExp(`${name}:1 its tree is not that of the entries before it`));
  const doubled = changed(name, ([head = '', ...lines]) => [head, head, ...lines]);
  assert.match(
    worst(await judged(doubled)),
    new RegExp(`${name}:2 the first line of a file stands in the middle of one`),
  );
});

test('where nothing signed shows what stood before the files, their beginning is not proved', async () => {
  const dir = copy();
  for (const name of names) if (name !== names[1]) rmSync(join(dir, name));
  const path = join(dir, names[1] ?? '');
  // The head, and the first entry.
  writeFileSync(path, `${readFileSync(path, 'utf8').split('\n').slice(0, 2).join('\n')}\n`);
  const verdict = await judged(`1=${path}`);
  assert.equal(verdict.outcome, 'open', worst(verdict));
  assert.match(worst(verdict), /^open coverage .* no checkpoint among these files covers its beginning/);
});

test('a made-up beginning is given away by the checkpoints behind it', async () => {
  const dir = copy();
  for (const name of names.slice(0, -1)) rmSync(join(dir, name));
  const path = join(dir, names.at(-1) ?? '');
  const [line = '', ...lines] = readFileSync(path, 'utf8').trimEnd().split('\n');
  const head = parseHead(line);
  assert.ok(head);
  const { segment: _, digest: __, ...rest } = head;
  const other = makeHead({ ...rest, tree: rest.tree.map(() => 'ab'.repeat(32)) });
  writeFileSync(path, [lineOf(other).trimEnd(), ...lines, ''].join('\n'));
  const verdict = await judged(dir);
  assert.equal(verdict.outcome, 'broken');
  assert.match(worst(verdict), /^broken checkpoint .* are not those that node 1 signed/);
});

test('another log behind damage is told', async () => {
  const dir = copy();
  const live = join(dir, 'journal.jsonl');
  writeFileSync(live, readFileSync(live, 'utf8').replace('"prev":"', '"prev":"0'));
  const again = await openJournal({ dir, now: () => new Date(), decode: decodeUnverified, log: () => {} });
  const event: Event = {
    ...decodeUnverified(again.read(0, 1).entries[0]?.sealed ?? again.landmarks()[0]?.sealed ?? ''),
  };
  const next: Event = { ...event, sequence: (said.get(1) ?? 0) + 1, body: { type: 'leave', reason: 'after' } };
  again.append(next, Buffer.from(await seal(one, next)).toString('base64'));
  await again.close();
  const verdict = await judged(dir);
  assert.equal(verdict.outcome, 'open', worst(verdict));
  const texts = verdict.findings.map(({ text }) => text).join('\n');
  assert.match(texts, /another log begins behind cursor \d+: the one before broke/);
});

test('lines as long as they may be are read, and what is behind the last one is cut off, however long', async () => {
  const dir = join(folder, 'long');
  const long = await openJournal({ dir, now: () => new Date(), decode: decodeUnverified, log: () => {} });
  const boot = '00000000-0000-4000-8000-000000000001';
  const told = { cluster: CLUSTER, origin: 1, boot, bootNumber: 1, time: new Date().toISOString(), term: 1 };
  for (let sequence = 1; sequence <= 6; sequence++) {
    const text = `${sequence}`.repeat(sequence % 3 === 0 ? 10 : SEALED_CHARACTERS_MAX * 0.74);
    const body = { type: 'notice' as const, name: 'n', severity: 'info' as const, subject: 'md0', detail: { text } };
    const event: Event = { ...told, sequence, body };
    long.append(event, Buffer.from(await seal(one, event)).toString('base64'));
  }
  await long.close();
  const proved = await judged(dir);
  assert.equal(proved.entries, 6);
  assert.deepEqual(proved.findings, []);
  appendFileSync(join(dir, 'journal.jsonl'), 'y'.repeat(1_000_000));
  const cut = await judged(dir);
  assert.equal(cut.entries, 6);
  assert.match(worst(cut), /^open chain journal\.jsonl:7 the last line is cut off \(1000000 bytes\)/);
});
