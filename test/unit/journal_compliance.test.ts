/** What both journals promise to the agent, to peers that catch up, and to outlets. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { GENESIS_HASH, hashOf, type Journal, memoryJournal, openJournal } from '#src/journal/index.ts';
import { clock, decode, event, seal } from './journal_sample.ts';

type Scenario = (journal: Journal) => Promise<void> | void;

const kinds: Record<string, (scenario: Scenario) => Promise<void>> = {
  'memory journal': async (scenario) => {
    await scenario(memoryJournal({ now: clock() }));
  },
  'file journal': (scenario) => inFile(scenario, 10_000),
  'file journal that keeps three entries in memory': (scenario) => inFile(scenario, 3),
};

async function inFile(scenario: Scenario, recentMax: number): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'mdmesh-journal-'));
  const journal = await openJournal({ dir, now: clock(), decode, log: () => {}, recentMax });
  try {
    await scenario(journal);
  } finally {
    await journal.close();
    rmSync(dir, { recursive: true });
  }
}

function add(journal: Journal, origin: number, bootNumber: number, ...sequences: number[]): void {
  for (const sequence of sequences)
    journal.append(event(origin, bootNumber, sequence), seal(event(origin, bootNumber, sequence)));
}

const names = (sealed: string[]) => sealed.map(decode).map((e) => `${e.origin}/${e.bootNumber}/${e.sequence}`);

for (const [kind, within] of Object.entries(kinds)) {
  describe(kind, () => {
    test('an event goes in once: the second time it is known', () =>
      within(async (journal) => {
        const first = journal.append(event(1, 1, 1), seal(event(1, 1, 1)));
        assert.equal(first?.cursor, 1);
        assert.equal(first?.appendedAt, '2026-01-02T03:04:06.000Z');
        assert.equal(journal.append(event(1, 1, 1), seal(event(1, 1, 1))), null);
        await journal.durable();
        assert.equal(journal.append(event(1, 1, 1), seal(event(1, 1, 1))), null);
        assert.equal(journal.head(), 1);
        assert.equal(journal.append(event(1, 2, 1), seal(event(1, 2, 1)))?.cursor, 2, 'a new boot starts anew');
        assert.ok(journal.has(1, 1, 1) && journal.has(1, 2, 1) && !journal.has(2, 1, 1) && !journal.has(1, 1, 2));
      }));

    test('each entry’s hash covers the one before', () =>
      within((journal) => {
        add(journal, 1, 1, 1, 2, 3);
        let prev = GENESIS_HASH;
        for (const { cursor, hash, appendedAt, sealed } of journal.read(0, 10).entries) {
          assert.equal(hash, hashOf({ cursor, prev, appendedAt, sealed }));
          prev = hash;
        }
      }));

    test('reading goes on after a cursor, page by page, from memory or from disk', () =>
      within(async (journal) => {
        add(journal, 1, 1, 1, 2, 3, 4, 5, 6, 7);
        await journal.durable();
        const page = (after: number) =>
          journal.read(after, 3).entries.map((entry) => [entry.cursor, entry.event.sequence]);
        assert.deepEqual(page(0), [
          [1, 1],
          [2, 2],
          [3, 3],
        ]);
        assert.deepEqual(page(3), [
          [4, 4],
          [5, 5],
          [6, 6],
        ]);
        assert.deepEqual(page(6), [[7, 7]]);
        assert.deepEqual(journal.read(7, 3), { entries: [], tooOld: false });
      }));

    test('a cursor that this journal never gave out is told so, and gets everything', () =>
      within((journal) => {
        add(journal, 1, 1, 1, 2);
        const { entries, tooOld } = journal.read(99, 10);
        assert.equal(tooOld, true);
        assert.equal(entries.length, 2);
      }));

    test('the vector names what is known without a hole', () =>
      within((journal) => {
        add(journal, 1, 1, 1, 2, 5, 4);
        add(journal, 2, 7, 2);
        const vector = () => journal.vector().toSorted((a, b) => a.origin - b.origin);
        assert.deepEqual(vector(), [
          { origin: 1, bootNumber: 1, sequence: 2 },
          { origin: 2, bootNumber: 7, sequence: 0 },
        ]);
        add(journal, 1, 1, 3);
        assert.equal(vector()[0]?.sequence, 5);
      }));

    test('a peer that catches up gets what it lacks, oldest first, in pages', () =>
      within(async (journal) => {
        add(journal, 1, 1, 1, 2);
        add(journal, 2, 1, 1);
        add(journal, 1, 1, 3);
        await journal.durable();
        const have = [{ origin: 1, bootNumber: 1, sequence: 1 }];
        const first = journal.missing(have, 2);
        assert.deepEqual(names(first.sealed), ['1/1/2', '2/1/1']);
        assert.equal(first.more, true);
        const rest = journal.missing(
          [
            { origin: 1, bootNumber: 1, sequence: 2 },
            { origin: 2, bootNumber: 1, sequence: 1 },
          ],
          2,
        );
        assert.deepEqual(names(rest.sealed), ['1/1/3']);
        assert.equal(rest.more, false);
      }));

    test('catch-up comes to an end although the events were learnt in the wrong order', () =>
      within(async (journal) => {
        add(journal, 1, 1, 6, 5, 4, 3, 2, 1);
        await journal.durable();
        const asker = memoryJournal({ now: clock() });
        for (let pages = 1; ; pages++) {
          const { sealed, more } = journal.missing(asker.vector(), 2);
          for (const envelope of sealed) asker.append(decode(envelope), envelope);
          if (!more) break;
          assert.ok(pages < 3, 'a page brought nothing new');
        }
        assert.deepEqual(asker.vector(), [{ origin: 1, bootNumber: 1, sequence: 6 }]);
      }));

    test('however often a node was restarted, a vector fits into a request, and old boots are not sent again', () =>
      within((journal) => {
        for (let origin = 1; origin <= 64; origin++) {
          for (let boot = 1; boot <= 20; boot++) add(journal, origin, origin === 64 ? 3 * boot : 100 + boot, 1);
        }
        const vector = journal.vector();
        assert.equal(vector.length, 1024);
        assert.deepEqual(journal.missing(vector, 100), { sealed: [], more: false });
        add(journal, 64, 61, 1);
        assert.deepEqual(names(journal.missing(vector, 100).sealed), ['64/61/1']);
      }));

    test('listeners hear each new entry once, until they stop', () =>
      within((journal) => {
        const heard: number[] = [];
        const stop = journal.onAppend((entry) => heard.push(entry.cursor));
        add(journal, 1, 1, 1, 1, 2);
        stop();
        add(journal, 1, 1, 3);
        assert.deepEqual(heard, [1, 2]);
      }));
  });
}
