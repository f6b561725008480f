/** What becomes of a request when the master changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Requests } from '../../src/agent/requests.ts';
import { VirtualTime } from '../../src/md/simulated_time.ts';

test('the former master’s answer is waited for a moment; who asked the one that leads now waits on', async () => {
  const time = new VirtualTime();
  const requests = new Requests({ after: (delayMs, run) => time.schedule(time.clock() + delayMs, run) });
  const [late, never, other] = [
    requests.answerFrom(1, 'late'),
    requests.answerFrom(1, 'never'),
    requests.answerFrom(2, 'other'),
  ];
  requests.masterIs(null);
  requests.masterIs(2);
  await time.pass(500);
  const undone = { ok: false, text: 'node 1 is not the master any more', undone: true as const };
  requests.answered('late', undone);
  assert.deepEqual(await late, undone);
  await time.pass(600);
  assert.match((await never).text, /the master changed meanwhile/);
  requests.answered('other', { ok: true, text: 'done' });
  assert.deepEqual(await other, { ok: true, text: 'done' }, 'it leads again');
  assert.equal(await time.step(), false, 'nothing keeps the process from ending');
});
