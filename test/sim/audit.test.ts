/** What an auditor proves from the journals of a cluster that has had an afternoon, and every way in which they may be falsified. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type AuditedCluster, type Finding, findJournals, type Verdict, verifyJournals } from '#src/audit/index.ts';
import { type ChainLink, lineOf, makeLink, parseLine } from '#src/journal/chain.ts';
import { GENESIS_HASH } from '#src/journal/index.ts';
import { VirtualTime } from '#src/md/simulated_time.ts';
import { decodeUnverified, generateIdentity, type Identity, seal } from '#src/wire/index.ts';
import type { Event } from '#src/wire/messages.ts';
import { CLUSTER_UUID, mirrorOf, SimCluster } from './cluster.ts';
import { linksOf, writeJournals } from './journals_on_disk.ts';

const folder = mkdtempSync(join(tmpdir(), 'mdmesh-audit-'));
after(() => rmSync(folder, { recursive: true }));

/** A mirror, a leg that fails, a master that loses its power and comes back. */
async function afternoon(seed: number): Promise<SimCluster> {
  const cluster = await SimCluster.start({
    time: new VirtualTime(),
    seed,
    checkpoints: { entries: 16, afterMs: 5000 },
  });
  const created = await cluster.request(2, mirrorOf(['/dev/sda', '/dev/sdb', '/dev/sdc'], { spares: 1 }));
  assert.equal(created.ok, true, created.text);
  await cluster.open();
  const failed = await cluster.request(3, { verb: 'fail', array: 'md0', device: '/dev/sda' });
  assert.equal(failed.ok, true, failed.text);
  await cluster.open();
  const master = await cluster.master();
  cluster.crash(master);
  await cluster.master();
  await cluster.open();
  await cluster.boot(master);
  await cluster.open();
  await cluster.pass(60_000);
  return cluster;
}

const cluster = await afternoon(7);
const audited: AuditedCluster = { uuid: CLUSTER_UUID, peerIds: cluster.peerIds() };
const whole = new Map(cluster.nodes.map((node) => [node, linksOf(cluster, node)]));

async function judged(where: string[], more: { threads?: number; peers?: boolean } = {}): Promise<Verdict> {
  return verifyJournals({ cluster: audited, journals: await findJournals(where), ...more });
}

/** Written anew; node 2's is `changed`. */
async function falsified(
  changed: readonly ChainLink[] | string | Buffer,
  more: { peers?: boolean } = {},
): Promise<Verdict> {
  const places = writeJournals(cluster, folder);
  const path = join(places.get(2) ?? '', 'journal.jsonl');
  const isText = typeof changed === 'string' || Buffer.isBuffer(changed);
  writeFileSync(path, isText ? changed : changed.map(lineOf).join(''));
  return judged([...places.values()], more);
}

function links(node = 2): ChainLink[] {
  const found = whole.get(node);
  assert.ok(found !== undefined && found.length > 60, `${found?.length} entries`);
  return [...found];
}

/** Cursors, hashes and all that follows from them made anew, as somebody does who knows the format. */
function chained(sealed: readonly { sealed: string; appendedAt: string }[]): ChainLink[] {
  let prev = GENESIS_HASH;
  return sealed.map((each, index) => {
    const link = makeLink(index + 1, prev, each.appendedAt, each.sealed);
    prev = link.hash;
    return link;
  });
}

function firstBroken(verdict: Verdict): Finding {
  assert.equal(verdict.outcome, 'broken', JSON.stringify(verdict.findings, null, 1));
  const [first] = verdict.findings;
  assert.ok(first);
  return first;
}

async function sealed(identity: Identity, event: Event): Promise<string> {
  return Buffer.from(await seal(identity, event)).toString('base64');
}

const places = writeJournals(cluster, join(folder, 'whole'));

test('the journals of an honest cluster prove all, in this thread and in others, alone and together', async () => {
  for (const threads of [0, 2]) {
    const verdict = await judged([...places.values()], { threads });
    assert.deepEqual(
      verdict.findings.filter(({ severity }) => severity !== 'note'),
      [],
    );
    assert.equal(verdict.outcome, 'proved');
    assert.ok(verdict.commits > 10);
    assert.ok(verdict.terms.length >= 2, 'there was a fail-over');
    assert.deepEqual(
      verdict.journals.map(({ journal, node }) => [journal, node]),
      [1, 2, 3].map((node) => [`node ${node}`, node]),
      'checkpoints tell whose they are',
    );
    for (const { cosigned, cosigners } of verdict.journals) assert.ok(cosigned > 0 && cosigners.length > 0);
  }
  for (const place of places.values()) assert.equal((await judged([place])).outcome, 'proved');
});

test('with --peers all of an honest cluster that came to rest is vouched for by others', async () => {
  assert.deepEqual(
    (await judged([...places.values()], { peers: true })).findings.filter(({ severity }) => severity !== 'note'),
    [],
  );
});

test('with --peers a journal that is missing, or an end that nobody cosigned, is told', async () => {
  const verdict = await judged([places.get(1) ?? '', places.get(3) ?? ''], { peers: true });
  assert.equal(verdict.outcome, 'open');
  assert.ok(verdict.findings.some(({ text }) => text === 'the journal of node 2 is not among these files'));
  assert.ok(verdict.findings.every(({ severity, rule }) => severity === 'note' || rule === 'coverage'));
  const all = links(1);
  const unsigned = all.findLastIndex(({ sealed: envelope }) => decodeUnverified(envelope).body.type === 'cosignature');
  writeJournals(cluster, folder);
  writeFileSync(
    join(folder, 'node1', 'journal.jsonl'),
    all
      .slice(0, unsigned - 20)
      .map(lineOf)
      .join(''),
  );
  const short = await judged(
    [1, 2, 3].map((node) => join(folder, `node${node}`)),
    { peers: true },
  );
  assert.equal(short.outcome, 'open');
});

test('every byte counts: whichever is changed, its entry is named', async () => {
  const some = links().slice(0, 8);
  const text = some.map(lineOf).join('');
  const offsets = [0];
  for (const line of text.split('\n').slice(0, -1)) offsets.push((offsets.at(-1) ?? 0) + line.length + 1);
  const bytes = Buffer.from(text);
  // Some bytes of every region of a line: cursor, prev, hash, time, and the envelope from its beginning to its end.
  const line = 4;
  const [start = 0, end = 0] = offsets.slice(line);
  const places = [
    ...Array(300).keys(),
    ...Array.from({ length: 60 }, (_, i) => 300 + Math.floor((i * (end - start - 301)) / 60)),
    end - start - 2,
  ];
  let judgedCount = 0;
  const file = writeJournals(cluster, join(folder, 'bytes')).get(2) ?? '';
  for (const at of places) {
    const changed = Buffer.from(bytes);
    changed[start + at] = (changed[start + at] ?? 0) ^ 1;
    writeFileSync(join(file, 'journal.jsonl'), changed);
    const first = firstBroken(await judged([file]));
    assert.equal(first.line, line + 1, `byte ${at}: ${first.text}`);
    assert.match(first.file ?? '', /node2\/journal\.jsonl$/);
    judgedCount += 1;
  }
  assert.ok(judgedCount > 300);
});

test('lines taken out, swapped, doubled, cut, put in: the first that breaks is named', async () => {
  const at = 40;
  const all = links();
  const [a, b] = [all[at], all[at + 1]];
  assert.ok(a && b);
  const kinds: [string, ChainLink[] | string, number, RegExp][] = [
    ['one taken out', all.toSpliced(at, 1), at + 1, /cursor 42 follows cursor 40: entries are missing or out of order/],
    ['ten taken out', all.toSpliced(at, 10), at + 1, /entries are missing/],
    ['two swapped', all.with(at, b).with(at + 1, a), at + 1, /out of order/],
    ['one doubled', all.toSpliced(at, 0, a), at + 2, /cursor 41 follows cursor 41/],
    ['renumbered behind one taken out', all.toSpliced(at, 2, { ...b, cursor: a.cursor }), at + 1, /its bytes hash to/],
    [
      'its hash made anew',
      all.with(at, makeLink(a.cursor, a.prev, '2020-01-01T00:00:00.000Z', a.sealed)),
      at + 2,
      /as the entry before/,
    ],
    ['the beginning taken out', all.slice(5), 1, /as the entry before/],
    [
      'a line of another file',
      `${all.slice(0, at).map(lineOf).join('')}hello\n${all.slice(at).map(lineOf).join('')}`,
      at + 1,
      /it is no journal entry/,
    ],
    ['an entry of another node’s journal', all.with(at, links(1)[at] ?? a), at + 1, /as the entry before/],
  ];
  for (const [kind, changed, line, why] of kinds) {
    const first = firstBroken(await falsified(changed));
    assert.equal(first.line, line, `${kind}: ${first.text}`);
    assert.match(first.text, why, kind);
    assert.match(`${first.journal} ${first.file}`, /node2/, kind);
  }
});

test('an end that is cut off is no honest journal either: the other journals know of it', async () => {
  const all = links();
  const half = await falsified(all.slice(0, all.length / 2));
  assert.equal(half.outcome, 'open');
  const texts = half.findings.filter(({ severity, journal }) => severity === 'open' && journal === 'node 2');
  assert.ok(
    texts.some(({ text }) => /its end was taken away, or this copy is older/.test(text)),
    JSON.stringify(half.findings),
  );
  assert.ok(
    texts.some(({ text }) => /events that node 2 signed itself are not in its journal; the first is 2\//.test(text)),
  );
  const text = all.map(lineOf).join('');
  const torn = await falsified(text.slice(0, -30));
  assert.equal(torn.outcome, 'open');
  assert.ok(torn.findings.some(({ text: words }) => /the last line is cut off/.test(words)));
  const empty = await falsified('');
  assert.equal(empty.outcome, 'open', JSON.stringify(empty.findings));
});

test('a chain made anew by somebody without the key is no longer what its node signed', async () => {
  const all = links();
  const own = all.findIndex(({ sealed: envelope }, index) => index > 30 && decodeUnverified(envelope).origin === 2);
  const kinds: [string, ChainLink[]][] = [
    ['one of its own events taken out', chained(all.toSpliced(own, 1))],
    ['two swapped', chained(all.with(own, all[own + 1] ?? all[0] ?? fail()).with(own + 1, all[own] ?? fail()))],
    [
      'times changed',
      chained(all.map((each, index) => (index === own ? { ...each, appendedAt: '2020-01-01T00:00:00.000Z' } : each))),
    ],
  ];
  for (const [kind, changed] of kinds) {
    const first = firstBroken(await falsified(changed));
    assert.equal(first.rule, 'checkpoint', kind);
    assert.match(first.text, /its entries \d+ to \d+ are not those that node 2 signed .*: history was changed/, kind);
    assert.ok((first.cursor ?? 0) <= own + 1, kind);
  }
  const doubled = chained(all.toSpliced(own, 0, all[own] ?? fail()));
  const verdict = await falsified(doubled);
  assert.ok(
    verdict.findings.some(({ rule, text }) => rule === 'agreement' && /stands at cursor \d+ already/.test(text)),
  );
});

test('events signed by a wrong key, or by nobody, are named', async () => {
  const all = links();
  const stranger = await generateIdentity();
  const event = decodeUnverified(all[50]?.sealed ?? '');
  const resigned = chained(all.with(50, { ...(all[50] ?? fail()), sealed: await sealed(stranger, event) }));
  const first = firstBroken(await falsified(resigned));
  assert.equal(first.rule, 'checkpoint', 'the worst of it comes first in the journal');
  const signature = (await falsified(resigned)).findings.find(({ rule }) => rule === 'signature');
  assert.equal(signature?.cursor, 51);
  assert.match(signature?.text ?? '', /sealed by \S+; the node list pins/);
  const bytes = Buffer.from(all[50]?.sealed ?? '', 'base64');
  bytes[bytes.byteLength - 1] = (bytes.at(-1) ?? 0) ^ 1;
  const spoilt = chained(all.with(50, { ...(all[50] ?? fail()), sealed: bytes.toString('base64') }));
  assert.match(
    (await falsified(spoilt)).findings.find(({ rule }) => rule === 'signature')?.text ?? '',
    /signature does not fit/,
  );
});

/** Node `node` itself lies: it has the key, and makes events, chain and all anew. No checkpoints are left to contradict it. */
async function liar(change: (events: Event[]) => Event[]): Promise<Verdict> {
  const all = links();
  const events = all.map(({ sealed: envelope }) => decodeUnverified(envelope));
  const kept = change(events.filter(({ body }) => body.type !== 'checkpoint' && body.type !== 'cosignature'));
  const known = new Map(events.map((event, index) => [event, all[index]?.sealed ?? '']));
  const made = await Promise.all(
    kept.map(async (event) => ({
      sealed: known.get(event) ?? (await sealed(cluster.identity(event.origin), event)),
      appendedAt: event.time,
    })),
  );
  writeJournals(cluster, join(folder, 'liar'));
  const path = join(folder, 'liar', 'node2', 'journal.jsonl');
  writeFileSync(path, chained(made).map(lineOf).join(''));
  return judged([path]);
}

function lastCommit(events: readonly Event[], of: (body: Commit) => boolean = () => true): number {
  return events.findLastIndex(({ body }) => body.type === 'commit' && of(body));
}
type Commit = Extract<Event['body'], { type: 'commit' }>;

const lies: [string, Finding['rule'], RegExp, (events: Event[]) => Event[]][] = [
  [
    'a commit without certificate',
    'certificate',
    /0 votes for it in term \d+, 2 needed/,
    (events) => changedCommit(events, (body) => ({ ...body, certificate: [] })),
  ],
  [
    'a commit with one vote of two',
    'certificate',
    /1 votes for it in term \d+, 2 needed/,
    (events) => changedCommit(events, (body) => ({ ...body, certificate: body.certificate.slice(0, 1) })),
  ],
  [
    'the same vote twice is one vote',
    'certificate',
    /1 votes for it in term \d+, 2 needed/,
    (events) =>
      changedCommit(events, ({ certificate: [vote = ''], ...body }) => ({ ...body, certificate: [vote, vote] })),
  ],
  [
    'the certificate of another term',
    'certificate',
    /vote is for node \d in term \d+/,
    (events) => {
      const terms = events.flatMap(({ body }) => (body.type === 'commit' ? [body] : []));
      const [first] = terms;
      return changedCommit(events, (body) => ({ ...body, certificate: first?.certificate ?? [] }));
    },
  ],
  [
    'events of the superblocks that jump',
    'superblock-events',
    /takes the superblocks' events from \d+ to \d+; a \S+ adds 0 or 1 or 2/,
    (events) =>
      changedCommit(events, (body) => ({ ...body, record: { ...body.record, events: body.record.events + 5 } })),
  ],
  [
    'events of the superblocks that go back',
    'superblock-events',
    /takes the superblocks' events from \d+ to \d+/,
    (events) =>
      changedCommit(events, (body) => ({ ...body, record: { ...body.record, events: body.record.events - 2 } })),
  ],
  [
    'a commit that rests on an older one',
    'term',
    /although commit \d+\.\d+ .* had been made: what that said was lost, or the terms overlap/,
    (events) =>
      changedCommit(events, (body) => ({
        ...body,
        before: body.before === null ? null : { ...body.before, index: body.before.index - 1 },
      })),
  ],
  [
    'two commits of one version',
    'commit',
    /is two: the other is event/,
    (events) => {
      const at = lastCommit(events);
      const event = events[at] ?? fail();
      const beyond = Math.max(
        ...events.filter(({ origin }) => origin === event.origin).map(({ sequence }) => sequence),
      );
      return [...events, { ...event, sequence: beyond + 1 }];
    },
  ],
  [
    'a master that commits after it has given its term up',
    'term',
    /after it had given term \d+ up \(\S+\): the terms overlap/,
    (events) => {
      const at = lastCommit(events);
      const event = events[at] ?? fail();
      const term = event.body.type === 'commit' ? event.body.record.version.term : 0;
      const before = {
        ...event,
        sequence: event.sequence - 1,
        body: { type: 'lease-release' as const, term, to: null },
      };
      return events.map((each) =>
        each.origin === before.origin && each.bootNumber === before.bootNumber && each.sequence === before.sequence
          ? before
          : each,
      );
    },
  ],
  [
    'a vote for another in the same term',
    'vote',
    /node \d voted twice in term \d+: for node \d and for node \d/,
    (events) => {
      const at = events.findIndex(({ body }) => body.type === 'vote');
      const vote = events[at] ?? fail();
      if (vote.body.type !== 'vote') return events;
      const other = cluster.nodes.find((node) => vote.body.type === 'vote' && node !== vote.body.candidate) ?? 0;
      const beyond = Math.max(...events.filter(({ origin }) => origin === vote.origin).map(({ sequence }) => sequence));
      return [...events, { ...vote, sequence: beyond + 1, body: { ...vote.body, candidate: other } }];
    },
  ],
  [
    'another start under the same number',
    'agreement',
    /two agents ran with one key/,
    (events) => {
      const last = events.at(-1) ?? fail();
      return [...events.slice(0, -1), { ...last, boot: '00000000-0000-4000-8000-0000000000ff' }];
    },
  ],
];

function changedCommit(events: readonly Event[], change: (body: Commit) => Commit): Event[] {
  const at = lastCommit(events, ({ kind }) => kind !== 'fail');
  return events.map((event, index) =>
    index === at && event.body.type === 'commit' ? { ...event, body: change(event.body) } : event,
  );
}

for (const [lie, rule, why, change] of lies) {
  test(`a node with its own key that lies: ${lie}`, async () => {
    const verdict = await liar(change);
    assert.equal(verdict.outcome, 'broken');
    const found = verdict.findings.find((finding) => finding.severity === 'broken' && finding.rule === rule);
    assert.ok(found !== undefined, JSON.stringify(verdict.findings, null, 1));
    assert.match(found.text, why);
    assert.ok(found.cursor !== null && found.file !== null && found.line !== null);
  });
}

test('the liar’s journal without a lie is proved but for what its checkpoints would prove', async () => {
  const verdict = await liar((events) => events);
  assert.ok(
    verdict.findings.every(({ severity }) => severity !== 'broken'),
    JSON.stringify(verdict.findings),
  );
});

test('a node that tells two journals two things has signed both', async () => {
  const all = links(3);
  const at = all.findIndex(({ sealed: envelope }, index) => index > 30 && decodeUnverified(envelope).origin === 1);
  const event = decodeUnverified(all[at]?.sealed ?? '');
  const other = await sealed(cluster.identity(1), { ...event, time: '2020-01-01T00:00:00.000Z' });
  const changed = chained(all.with(at, { ...(all[at] ?? fail()), sealed: other }));
  const folders = writeJournals(cluster, folder);
  writeFileSync(join(folders.get(3) ?? '', 'journal.jsonl'), changed.map(lineOf).join(''));
  const verdict = await judged([...folders.values()]);
  const found = verdict.findings.find(({ rule, severity }) => rule === 'agreement' && severity === 'broken');
  assert.match(
    found?.text ?? '',
    /event 1\/\d+\/\d+ is another one in the journal of node 1 at cursor \d+: node 1 signed both/,
  );
});

test('another cluster’s keys prove nothing', async () => {
  const strangers = new Map(
    await Promise.all(cluster.nodes.map(async (node) => [node, (await generateIdentity()).peerId] as const)),
  );
  const verdict = await verifyJournals({
    cluster: { uuid: CLUSTER_UUID, peerIds: strangers },
    journals: await findJournals([places.get(1) ?? '']),
  });
  assert.equal(verdict.outcome, 'broken');
  const other = await verifyJournals({
    cluster: { ...audited, uuid: '00000000-0000-4000-8000-000000000000' },
    journals: await findJournals([places.get(1) ?? '']),
  });
  assert.match(other.findings[0]?.text ?? '', /in cluster/);
});

test('the journals of other afternoons are proved too', async () => {
  for (const seed of [11, 12, 13]) {
    const other = await afternoon(seed);
    const folders = writeJournals(other, join(folder, `seed${seed}`));
    const verdict = await verifyJournals({
      cluster: { uuid: CLUSTER_UUID, peerIds: other.peerIds() },
      journals: await findJournals([...folders.values()]),
    });
    assert.deepEqual(
      verdict.findings.filter(({ severity }) => severity !== 'note'),
      [],
      `seed ${seed}`,
    );
  }
});

test('the tampering is on files that were right before', () => {
  const text = readFileSync(join(places.get(2) ?? '', 'journal.jsonl'), 'utf8');
  assert.equal(parseLine(text.split('\n')[0] ?? '')?.cursor, 1);
});

function fail(): never {
  throw new Error('the afternoon has not what the test needs');
}
