/** Where disks decide: which votes an auditor takes for a mastership, which are left open, and which nothing honest leaves behind. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type Finding, findJournals, verifyJournals } from '#src/audit/index.ts';
import { openJournal } from '#src/journal/index.ts';
import { ownTermAfter } from '#src/lease/terms.ts';
import { decodeUnverified, generateIdentity, seal } from '#src/wire/index.ts';
import type { Event, EventBody } from '#src/wire/messages.ts';
import { memberUuid, record } from '../compliance/records.ts';
import { CLUSTER } from './journal_sample.ts';

const NODES = [1, 2, 3];
const identities = await Promise.all(NODES.map(() => generateIdentity()));
const folder = mkdtempSync(join(tmpdir(), 'mdmesh-audit-elections-'));
after(() => rmSync(folder, { recursive: true }));

/** A term of node 1, and a later one of node 2. */
const FIRST = ownTermAfter(1, 0);
const SECOND = ownTermAfter(2, FIRST + 1);

class History {
  readonly #events: { event: Event; sealed: string }[] = [];
  readonly #said = new Map<number, number>();
  #index = -1;

  async say(origin: number, body: EventBody): Promise<string> {
    const sequence = (this.#said.get(origin) ?? 0) + 1;
    this.#said.set(origin, sequence);
    const boot = `00000000-0000-4000-8000-00000000000${origin}`;
    const time = '2026-01-02T03:04:05.678Z';
    const event: Event = { cluster: CLUSTER, origin, boot, bootNumber: 1, sequence, time, term: 1, body };
    const identity = identities[origin - 1] ?? assert.fail();
    const sealed = Buffer.from(await seal(identity, event)).toString('base64');
    this.#events.push({ event, sealed });
    return sealed;
  }

  votes(term: number, candidate: number, voters: readonly number[]): Promise<string[]> {
    return Promise.all(voters.map((voter) => this.say(voter, { type: 'vote', term, candidate })));
  }

  word(term: number, holder: number): Promise<string> {
    const set = { version: { term, index: 0 }, disks: [memberUuid(0)], former: null };
    return this.say(holder, { type: 'disk-lease', term, set });
  }

  async commit(term: number, holder: number, certificate: string[]): Promise<void> {
    const before = this.#index < 0 ? null : { term: this.#lastTerm, index: this.#index };
    this.#index += 1;
    this.#lastTerm = term;
    await this.say(holder, {
      type: 'commit',
      kind: before === null ? 'create' : 'resync-checkpoint',
      record: record({ version: { term, index: this.#index }, events: 1 }),
      before,
      detail: {},
      certificate,
    });
  }
  #lastTerm = 0;

  /** What an auditor says of elections, of a journal with all of it. */
  async judged(byDisks = true): Promise<Pick<Finding, 'severity' | 'text'>[]> {
    const dir = mkdtempSync(join(folder, 'n'));
    const journal = await openJournal({
      dir,
      now: () => new Date(),
      decode: decodeUnverified,
      log: () => {},
      fsync: false,
    });
    for (const { event, sealed } of this.#events) journal.append(event, sealed);
    await journal.close();
    const peerIds = new Map(identities.map(({ peerId }, at) => [at + 1, peerId]));
    const { findings } = await verifyJournals({
      cluster: { uuid: CLUSTER, peerIds, byDisks },
      journals: await findJournals([`1=${dir}`]),
    });
    return findings
      .filter(({ rule, severity }) => rule !== 'coverage' && severity !== 'note')
      .filter(({ rule }) => rule !== 'checkpoint')
      .map(({ severity, text }) => ({ severity, text }));
  }
}

test('all voted before the first set, and from then on the holder’s word stands: nothing to say', async () => {
  const history = new History();
  const votes = await history.votes(FIRST, 1, NODES);
  await history.commit(FIRST, 1, votes);
  const word = await history.word(FIRST, 1);
  await history.commit(FIRST, 1, [word]);
  await history.commit(SECOND, 2, [await history.word(SECOND, 2)]);
  assert.deepEqual(await history.judged(), []);
});

test('a majority’s votes in a term whose holder held the disks prove that somebody was not asked', async () => {
  const history = new History();
  await history.commit(FIRST, 1, await history.votes(FIRST, 1, [1, 2]));
  await history.word(FIRST, 1);
  const [found, ...more] = await history.judged();
  assert.equal(found?.severity, 'broken');
  assert.match(found?.text ?? '', /term 1 rests on 2 of 3 votes, although it held the disks in that term/);
  assert.deepEqual(more, []);
});

test('a majority’s votes in a term before: what was configured then cannot be known, and is asked for', async () => {
  const history = new History();
  const votes = await history.votes(FIRST, 1, [1, 2]);
  await history.commit(FIRST, 1, votes);
  await history.commit(FIRST, 1, votes);
  await history.commit(SECOND, 2, [await history.word(SECOND, 2)]);
  const [found, ...more] = await history.judged();
  assert.equal(found?.severity, 'open');
  assert.match(
    found?.text ?? '',
    /2 of 3 votes, where disks decide all are needed: if `quorum: nodes` was configured then/,
  );
  assert.deepEqual(more, [], 'once a term');
  // With the configuration of that time it is all that a master needs.
  const then = new History();
  await then.commit(FIRST, 1, await then.votes(FIRST, 1, [1, 2]));
  assert.deepEqual(await then.judged(false), []);
});

test('votes of all after disks had decided: nobody who knows the disks gives one', async () => {
  const history = new History();
  await history.commit(FIRST, 1, [await history.word(FIRST, 1)]);
  await history.commit(SECOND, 2, await history.votes(SECOND, 2, NODES));
  const [found, ...more] = await history.judged();
  assert.equal(found?.severity, 'open');
  assert.match(
    found?.text ?? '',
    /node 2's mastership of term 66 rests on 3 of 3 votes, after disks had decided in term 1/,
  );
  assert.deepEqual(more, []);
});

test('votes that pass over a promise: to whoever had it they may; to nobody else', async () => {
  const history = new History();
  await history.commit(1, 1, await history.votes(1, 1, [1, 2, 3]));
  const past = (voter: number, shutOut: { holder: number; term: number }[]) =>
    history.say(voter, { type: 'vote', term: 2, candidate: 2, shutOut });
  const certificate = [await past(2, [{ holder: 1, term: 1 }]), await past(3, [{ holder: 1, term: 1 }])];
  await history.commit(2, 2, certificate);
  assert.deepEqual(await history.judged(false), []);
});

test('votes that pass over a promise which nobody had made, or to the voter itself: broken', async () => {
  const history = new History();
  await history.commit(1, 1, await history.votes(1, 1, [1, 2, 3]));
  const past = (voter: number, shutOut: { holder: number; term: number }[]) =>
    history.say(voter, { type: 'vote', term: 2, candidate: 2, shutOut });
  const certificate = [
    await past(2, [{ holder: 2, term: 1 }]),
    await past(3, [{ holder: 3, term: 1 }]),
    await past(1, [{ holder: 3, term: 1 }]),
  ];
  await history.commit(2, 2, certificate);
  const texts = (await history.judged(false)).map(({ severity, text }) => `${severity}: ${text}`);
  assert.equal(texts.length, 3, texts.join('\n'));
  assert.match(texts.join('\n'), /broken: node 2's vote .* which nobody can have shut out for that/);
  assert.match(
    texts.join('\n'),
    /broken: node 1's vote of term 2 for node 2 passes over a promise to node 3 in term 1; it had voted for node 1 then, and node 1 was the master/,
  );
});
