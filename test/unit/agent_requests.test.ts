/** What becomes of a request when the master changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Requests } from '../../src/agent/requests.ts';

/** Time passes when it is told to. */
function timers() {
  const due: { atMs: number; run: () => void }[] = [];
  let nowMs = 0;
  return {
    after(ms: number, run: () => void) {
      const entry = { atMs: nowMs + ms, run };
      due.push(entry);
      return () => {
        due.splice(due.indexOf(entry), 1);
      };
    },
    pass(ms: number): void {
      nowMs += ms;
      for (const entry of due.filter(({ atMs }) => atMs <= nowMs)) {
        due.splice(due.indexOf(entry), 1);
        entry.run();
      }
    },
    get left(): number {
      return due.length;
    },
  };
}

test('the former master’s answer is waited for a moment; who asked the one that leads now waits on', async () => {
  const time = timers();
  const requests = new Requests(time);
  const [late, never, other] = [
    requests.answerFrom(1, 'late'),
    requests.answerFrom(1, 'never'),
    requests.answerFrom(2, 'other'),
  ];
  requests.masterIs(null);
  requests.masterIs(2);
  time.pass(500);
  const undone = { ok: false, text: 'node 1 is not the master any more', undone: true as const };
  requests.answered('late', undone);
  assert.deepEqual(await late, undone);
  time.pass(600);
  assert.match((await never).text, /the master changed meanwhile/);
  requests.answered('other', { ok: true, text: 'done' });
  assert.deepEqual(await other, { ok: true, text: 'done' }, 'it leads again');
  assert.equal(time.left, 0, 'nothing keeps the process from ending');
});
