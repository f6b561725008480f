/** The log: fields for journald, a form for people, no secret, and who decided what in which term. */
import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import { test } from 'node:test';
import { createLog, type LogForm, lineForPeople, logForm, messageId } from '#src/log.ts';
import { logEvents } from '#src/outlets/event_log.ts';
import { call } from './outlets_client.ts';
import {
  clusterStatus,
  event,
  FakeJournal,
  failCommit,
  memberB,
  namesIn,
  notice,
  startFakeAgent,
} from './outlets_fake_agent.ts';

function captured(form: LogForm = 'json', level: 'debug' | 'info' = 'debug') {
  const lines: string[] = [];
  return { lines, log: createLog({ level, node: 2, form, write: (line) => lines.push(line) }) };
}

test('each line has its priority as syslog counts it, and an event the ID of its kind', () => {
  const { lines, log } = captured();
  log.info({ event: 'NodeDead', subject: 'node/3' }, 'NodeDead node/3');
  log.error({}, 'x');
  log.warn({}, 'x');
  const [first, ...rest] = lines.map((line) => JSON.parse(line));
  assert.deepEqual([first.level, first.PRIORITY, first.node, first.msg], ['info', '6', 2, 'NodeDead node/3']);
  assert.equal(first.MESSAGE_ID, messageId('NodeDead'));
  assert.match(first.time, /^\d{4}-.*Z$/);
  assert.deepEqual(
    rest.map((line) => [line.PRIORITY, line.MESSAGE_ID]),
    [
      ['3', undefined],
      ['4', undefined],
    ],
  );
});

test('an ID never changes: people have it in their filters', () => {
  assert.equal(messageId('Fail'), 'feba5d2d392e7b918ea8ce1560e68b34');
  assert.match(messageId('NodeDead'), /^[0-9a-f]{32}$/);
  assert.notEqual(messageId('NodeDead'), messageId('NodeLeft'));
});

test('journald’s mark is there behind journald alone', () => {
  const { lines, log } = captured('journald');
  log.warn({}, 'x');
  assert.match(lines[0] ?? '', /^<4>\{/);
  const { dev, ino } = fstatSync(1);
  assert.equal(logForm({ JOURNAL_STREAM: `${dev}:${ino}` }, false), 'journald');
  assert.equal(logForm({ JOURNAL_STREAM: `${dev}:${ino + 1}` }, false), 'json', 'somebody else’s');
  assert.equal(logForm({}, false), 'json');
  assert.equal(logForm({ JOURNAL_STREAM: `${dev}:${ino}` }, true), 'people');
});

test('people get a line without what they know, and nothing that steers their terminal', () => {
  const { lines, log } = captured('people');
  log.warn({ event: 'X', md: 'md0', why: 'a\u001b[2Jb\nc', nothing: null }, 'guard: held');
  assert.match(lines[0] ?? '', /^\d\d:\d\d:\d\d\.\d{3} warn {2}guard: held {2}md=md0 {2}why=a\?\[2Jb\?c\n$/);
  log.error({ err: new Error('no disk') }, 'x');
  assert.match(lines[1] ?? '', /error x\n {4}Error: no disk\n {4} +at /);
  assert.equal(lineForPeople('no JSON\n'), 'no JSON\n');
});

test('secrets are blanked wherever they stand', () => {
  const { lines, log } = captured();
  log.info(
    { token: 's3cret', request: { authorization: 'Bearer s3cret', headers: { x: 's3cret' } }, key: 's3cret' },
    'x',
  );
  assert.doesNotMatch(lines[0] ?? '', /s3cret/);
  assert.match(lines[0] ?? '', /"token":"\(secret\)"/);
});

test('the API logs no token, whatever goes wrong', async (t) => {
  const token = 'd0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0';
  const { lines, log } = captured();
  const tcp = { address: '127.0.0.1', port: 0, access: { token } };
  const agent = await startFakeAgent(t, { log, tcp });
  agent.face.status = () => {
    throw new Error('broken');
  };
  const headers = { authorization: `Bearer ${token}` };
  assert.equal((await call(agent.port(), '/v1/nodes', { headers })).code, 500);
  assert.equal((await call(agent.port(), '/v1/nodes', { headers: { authorization: `Bearer ${token}x` } })).code, 401);
  assert.ok(lines.some((line) => line.includes('broken')));
  assert.doesNotMatch(lines.join(''), new RegExp(token));
});

test('every line about a decision says who made it, in which term, which index, and of which array', () => {
  const { lines, log } = captured();
  const journal = new FakeJournal();
  const now = () => new Date('2026-01-01T12:02:00Z');
  const stop = logEvents({ journal, self: 2, names: namesIn(clusterStatus), now, log });
  journal.append({ ...failCommit(), origin: 1 }, 'x');
  journal.append(event({ type: 'vote', term: 4, candidate: 1 }, 3), 'x');
  journal.append(notice('NodeDead'), 'x');
  journal.append({ ...notice('NodeDead'), origin: 3 }, 'x');
  journal.append({ ...failCommit(), time: '2026-01-01T11:00:00Z' }, 'x');
  const told = lines.map((line) => JSON.parse(line));
  assert.deepEqual(
    told.map((line) => [
      line.level,
      line.event,
      line.origin,
      line.term,
      line.index,
      line.array,
      line.member,
      line.cursor,
    ]),
    [
      ['error', 'Fail', 1, 3, 8, 'md0', memberB, 1],
      ['error', 'DegradedArray', 1, 3, 8, 'md0', null, 1],
      ['info', 'Voted', 3, 3, null, null, null, 2],
      // The third is this node's own notice: the agent itself has logged it.
      ['error', 'NodeDead', 3, 3, null, null, null, 4],
      // The last is history.
      ['debug', 'Fail', 2, 3, 8, 'md0', memberB, 5],
      ['debug', 'DegradedArray', 2, 3, 8, 'md0', null, 5],
    ],
  );
  for (const line of told) {
    assert.equal(line.node, 2, 'whose log it is');
    assert.equal(line.MESSAGE_ID, messageId(line.event));
  }
  assert.equal(told[0].msg, `Fail md0 by node 1: member ubdb (${memberB})`);
  stop();
  journal.append(failCommit(), 'x');
  assert.equal(lines.length, told.length);
});
