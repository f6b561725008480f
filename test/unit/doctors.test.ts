/** Doctors on other nodes: asked once for all who ask, answered by who was asked, and never for ever. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Doctors } from '#src/agent/doctors.ts';
import { DOCTOR_REPORT_MAX, type DoctorMessage, type Frame } from '#src/wire/messages.ts';

type Sent = { to: number; message: DoctorMessage };

/** Node 1's, whose others are what the test plays. */
function doctors(look: (() => Promise<string>) | null = null) {
  const sent: Sent[] = [];
  const timers: { delayMs: number; run: () => void }[] = [];
  let made = 0;
  const parts = {
    net: {
      send(to: number, frame: Frame) {
        if (to === 3 || frame.room !== 'doctor') return false;
        sent.push({ to, message: frame.message });
        return true;
      },
    },
    timers: {
      after(delayMs: number, run: () => void) {
        const timer = { delayMs, run };
        timers.push(timer);
        return () => timers.splice(timers.indexOf(timer), 1);
      },
    },
    uuid: () => `00000000-0000-4000-8000-${String(++made).padStart(12, '0')}`,
  };
  return { sent, timers, doctors: new Doctors(parts, () => look) };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

test('each node’s answer is its own: another cannot give it', async () => {
  const { sent, doctors: own } = doctors();
  const reports = own.ask([2, 3, 4]);
  const [toTwo, toFour] = sent;
  assert.ok(toTwo?.message.kind === 'query' && toFour?.message.kind === 'query');
  own.receive(4, { kind: 'report', queryId: toTwo.message.queryId, report: 'forged', trouble: null });
  own.receive(2, { kind: 'report', queryId: toTwo.message.queryId, report: 'two', trouble: null });
  own.receive(4, { kind: 'report', queryId: toFour.message.queryId, report: null, trouble: 'no doctor' });
  assert.deepEqual(await reports, [
    { node: 2, report: 'two', trouble: null },
    { node: 3, report: null, trouble: 'not connected' },
    { node: 4, report: null, trouble: 'no doctor' },
  ]);
});

test('a node that does not answer is told as such, and its late answer is dropped', async () => {
  const { sent, timers, doctors: own } = doctors();
  const reports = own.ask([2]);
  assert.equal(timers.length, 1);
  timers[0]?.run();
  assert.match((await reports)[0]?.trouble ?? '', /^no answer within \d+ s$/);
  const [asked] = sent;
  assert.ok(asked?.message.kind === 'query');
  own.receive(2, { kind: 'report', queryId: asked.message.queryId, report: 'late', trouble: null });
});

test('many questions at a time are one process, and its report goes to all of them', async () => {
  let runs = 0;
  let end: (report: string) => void = () => undefined;
  const {
    sent,
    timers,
    doctors: own,
  } = doctors(() => {
    runs += 1;
    return new Promise((resolve) => {
      end = resolve;
    });
  });
  const query = (from: number, queryId: string) => own.receive(from, { kind: 'query', queryId });
  for (let count = 0; count < 50; count++) query(2, `00000000-0000-4000-8000-00000000010${count % 10}`);
  assert.equal(runs, 1);
  end('{}');
  await settle();
  assert.equal(sent.length, 50);
  query(4, '00000000-0000-4000-8000-000000000200');
  await settle();
  assert.deepEqual([runs, sent.length], [1, 51]);
  for (const { run } of timers.splice(0)) run();
  query(4, '00000000-0000-4000-8000-000000000201');
  assert.equal(runs, 2);
});

test('a doctor that fails, or says too much, is answered with words', async () => {
  const failing = doctors(() => Promise.reject(new Error('mdmesh doctor did not end')));
  failing.doctors.receive(2, { kind: 'query', queryId: '00000000-0000-4000-8000-000000000001' });
  const chatty = doctors(() => Promise.resolve('x'.repeat(DOCTOR_REPORT_MAX + 1)));
  chatty.doctors.receive(2, { kind: 'query', queryId: '00000000-0000-4000-8000-000000000001' });
  const none = doctors();
  none.doctors.receive(2, { kind: 'query', queryId: '00000000-0000-4000-8000-000000000001' });
  await settle();
  const troubles = [failing, chatty, none].map(({ sent }) =>
    sent[0]?.message.kind === 'report' ? sent[0].message.trouble : null,
  );
  assert.match(troubles[0] ?? '', /did not end/);
  assert.match(troubles[1] ?? '', /characters, at most/);
  assert.match(troubles[2] ?? '', /no doctor/);
});
