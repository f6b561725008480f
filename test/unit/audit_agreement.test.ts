/** Each event once, for the rules about terms: nothing counts twice, and of two events with one number none is hidden by the other. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CheckedEvent } from '#src/audit/checker.ts';
import { judgeAgreement } from '#src/audit/judge_agreement.ts';
import type { AuditedJournal } from '#src/audit/read.ts';

const event = (sequence: number, digest: string): CheckedEvent => ({
  origin: 1,
  boot: 'boot',
  bootNumber: 1,
  sequence,
  digest,
  body: { type: 'other' },
});

function journal(name: string, events: readonly CheckedEvent[]): AuditedJournal {
  const made: AuditedJournal = { name, node: null, files: [], entries: [], logs: [], findings: [], from: 0 };
  made.entries = events.map((each, at) => ({ journal: made, file: 'f', line: at + 1, cursor: at + 1, event: each }));
  return made;
}

function judged(...journals: AuditedJournal[]): { events: string[]; broken: string[] } {
  const { events, findings } = judgeAgreement(journals);
  return {
    events: events.map((entry) => `${entry.event.digest} of ${entry.journal.name}`),
    broken: findings.filter(({ severity }) => severity === 'broken').map(({ text }) => text),
  };
}

test('an event of several journals is found in the first', () => {
  const { events, broken } = judged(
    journal('a', [event(1, 'x')]),
    journal('b', [event(1, 'x'), event(2, 'y')]),
    journal('c', [event(2, 'y')]),
  );
  assert.deepEqual(events, ['x of a', 'y of b']);
  assert.deepEqual(broken, []);
});

test('one that stands twice in a journal counts once', () => {
  const { events, broken } = judged(journal('a', [event(1, 'x'), event(1, 'x')]));
  assert.deepEqual(events, ['x of a']);
  assert.deepEqual(broken, ['event 1/1/1 stands at cursor 1 already']);
});

test('two with one number are both judged, also where one journal has both', () => {
  const one = judged(journal('a', [event(1, 'x'), event(1, 'z'), event(1, 'z')]));
  assert.deepEqual(one.events, ['x of a', 'z of a']);
  assert.equal(one.broken.length, 2);
  const two = judged(journal('a', [event(1, 'x')]), journal('b', [event(1, 'z')]));
  assert.deepEqual(two.events, ['x of a', 'z of b']);
  assert.deepEqual(two.broken, ['event 1/1/1 is another one in the journal of a at cursor 1: node 1 signed both']);
});
