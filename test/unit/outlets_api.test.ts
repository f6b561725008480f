import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { serveApi } from '#src/outlets/index.ts';
import {
  arrayUuid,
  boot,
  FakeFace,
  FakeJournal,
  failCommit,
  memberB,
  notice,
  silentLog,
  startFakeAgent,
} from './outlets_fake_agent.ts';

interface Sent {
  method?: string;
  body?: string;
  headers?: Record<string, string>;
}

async function open(socketPath: string, path: string, sent: Sent = {}): Promise<IncomingMessage> {
  const call = request({ socketPath, path, method: sent.method ?? 'GET', agent: false, headers: sent.headers ?? {} });
  call.end(sent.body);
  const [response]: IncomingMessage[] = await once(call, 'response');
  assert.ok(response);
  return response;
}

async function text(response: IncomingMessage): Promise<string> {
  let all = '';
  response.setEncoding('utf8');
  for await (const chunk of response) all += String(chunk);
  return all;
}

async function call(socketPath: string, path: string, sent: Sent = {}): Promise<{ code: number; answer: unknown }> {
  const response = await open(socketPath, path, sent);
  return { code: response.statusCode ?? 0, answer: JSON.parse(await text(response)) };
}

function post(body: unknown): Sent {
  return { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
}

/** Reads a stream line by line; `next` waits for one. */
function lineReader(response: IncomingMessage): { next(): Promise<Record<string, unknown>> } {
  const lines = (async function* () {
    let rest = '';
    response.setEncoding('utf8');
    for await (const chunk of response) {
      const parts = (rest + String(chunk)).split('\n');
      rest = parts.pop() ?? '';
      yield* parts;
    }
  })();
  return {
    async next() {
      const { value } = await lines.next();
      assert.equal(typeof value, 'string', 'the stream ended');
      return JSON.parse(String(value));
    },
  };
}

test('status, nodes, arrays, one array and disks are answered as JSON', async (t) => {
  const { socketPath, face } = await startFakeAgent(t);
  assert.deepEqual(await call(socketPath, '/v1/status'), { code: 200, answer: JSON.parse(JSON.stringify(face.now)) });
  assert.deepEqual((await call(socketPath, '/v1/nodes')).answer, face.now.nodes);
  assert.deepEqual((await call(socketPath, '/v1/arrays')).answer, face.now.arrays);
  assert.deepEqual((await call(socketPath, '/v1/arrays/md0')).answer, face.now.arrays[0]);
  assert.deepEqual((await call(socketPath, `/v1/arrays/${arrayUuid}`)).answer, face.now.arrays[0]);
  assert.deepEqual((await call(socketPath, '/v1/disks')).answer, []);
});

test('an array nobody knows is 404, and the known ones are named', async (t) => {
  const { socketPath } = await startFakeAgent(t);
  const { code, answer } = await call(socketPath, '/v1/arrays/md7');
  assert.equal(code, 404);
  assert.deepEqual(answer, { ok: false, text: 'array md7: not known here; known: md0' });
  assert.equal((await call(socketPath, '/v2/anything')).code, 404);
});

test('a request reaches the agent with its defaults filled in, and its outcome comes back, refused or not', async (t) => {
  const { socketPath, face } = await startFakeAgent(t);
  const asked = { verb: 'add', array: 'md0', device: '/dev/sdd' };
  assert.deepEqual(await call(socketPath, '/v1/requests', post(asked)), {
    code: 200,
    answer: { ok: true, text: 'add done' },
  });
  assert.deepEqual(face.asked, [{ ...asked, force: false }]);
  face.answer = () => ({ ok: false, text: 'no master' });
  assert.deepEqual(await call(socketPath, '/v1/requests', post(asked)), {
    code: 200,
    answer: { ok: false, text: 'no master' },
  });
});

test('every problem of a bad body is named, and nothing is asked', async (t) => {
  const { socketPath, face } = await startFakeAgent(t);
  const bad = { verb: 'create', md: 'md0', level: 'raid7', raidDisks: 'two', access: 'shared', devices: [], chunk: 64 };
  const { code, answer } = await call(socketPath, '/v1/requests', post(bad));
  assert.equal(code, 400);
  const words = JSON.stringify(answer);
  assert.match(words, /level: /);
  assert.match(words, /raidDisks: /);
  assert.match(words, /chunk: not a key of create/);
  assert.equal((await call(socketPath, '/v1/requests', post({ verb: 'format' }))).code, 400);
  assert.equal((await call(socketPath, '/v1/requests', post(null))).code, 400);
  const torn = { method: 'POST', body: '{"verb":', headers: { 'content-type': 'application/json' } };
  assert.equal((await call(socketPath, '/v1/requests', torn)).code, 400);
  assert.deepEqual(face.asked, []);
});

test('a scan that fails is 500 with its words', async (t) => {
  const { socketPath, face } = await startFakeAgent(t);
  face.scan = async () => {
    throw new Error('disk /dev/sdb: EIO');
  };
  const { code, answer } = await call(socketPath, '/v1/disks');
  assert.equal(code, 500);
  assert.match(JSON.stringify(answer), /disk \/dev\/sdb: EIO/);
});

test('the socket has its mode by the umask alone, and the umask is put back', async (t) => {
  const before = process.umask(0o027);
  t.after(() => process.umask(before));
  const { socketPath } = await startFakeAgent(t);
  assert.equal(statSync(socketPath).mode & 0o777, 0o600);
  assert.equal(process.umask(), 0o027);
});

test('the socket of a live agent is left alone; a dead one’s is taken over; a plain file is not removed', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'mdmesh-outlets-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const socketPath = join(directory, 'a.sock');
  const options = { face: new FakeFace(), journal: new FakeJournal(), socketPath, modeOctal: 0o660, log: silentLog };

  const live = createServer(() => {});
  live.listen(socketPath);
  await once(live, 'listening');
  await assert.rejects(serveApi(options), /another agent runs/);
  assert.ok(existsSync(socketPath), 'the live agent keeps its socket');
  live.close();
  await once(live, 'close');

  // What kill -9 leaves behind: a socket file without a listener. Renamed first, it is not removed by the end of its server.
  const dead = createServer(() => {});
  dead.listen(join(directory, 'b.sock'));
  await once(dead, 'listening');
  const { renameSync } = await import('node:fs');
  renameSync(join(directory, 'b.sock'), socketPath);
  dead.close();
  await once(dead, 'close');
  assert.ok(statSync(socketPath).isSocket());
  const served = await serveApi(options);
  assert.equal((await call(socketPath, '/v1/nodes')).code, 200);
  await served.close();
  assert.ok(!existsSync(socketPath), 'an orderly end removes it');

  writeFileSync(socketPath, 'precious');
  await assert.rejects(serveApi(options), /no socket stands there/);
  assert.ok(existsSync(socketPath));
});

test('a path too long for a socket is named, with its length', async () => {
  const socketPath = `/tmp/${'x'.repeat(120)}`;
  const options = { face: new FakeFace(), journal: new FakeJournal(), socketPath, modeOctal: 0o600, log: silentLog };
  await assert.rejects(serveApi(options), /125 bytes long, at most 107/);
});

test('a subscriber gets a snapshot, its end mark, then what happens', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  journal.append(notice('NodeSuspect'), 'x');
  const response = await open(socketPath, '/v1/events?follow=true');
  t.after(() => response.destroy());
  assert.equal(response.headers['content-type'], 'application/x-ndjson');
  const lines = lineReader(response);
  const snapshot = await lines.next();
  assert.equal(snapshot.type, 'snapshot');
  assert.ok(snapshot.status);
  assert.deepEqual(await lines.next(), { type: 'snapshot-end', cursor: 1 });
  const fail = failCommit();
  journal.append(fail, 'x');
  const told = await lines.next();
  assert.equal(told.specversion, '1.0');
  assert.equal(told.id, `2/${boot}/${fail.sequence}`);
  assert.equal(told.source, '/mdmesh/demo/node/2');
  assert.equal(told.type, 'io.mdmesh.array.fail');
  assert.equal(told.subject, 'md0');
  assert.equal(told.sequence, String(fail.sequence));
  assert.equal(told.cursor, 2);
  const content = JSON.stringify(told.data);
  assert.match(content, new RegExp(`"member":"${memberB}","device":"/dev/ubdb"`));
  assert.doesNotMatch(content, /certificate/);
  const second = await lines.next();
  assert.equal(second.type, 'io.mdmesh.array.degraded');
  assert.notEqual(second.id, told.id, 'CloudEvents of one source have ids of their own');
});

test('a cursor resumes without a snapshot, and without follow the stream ends at the journal’s end', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  for (let count = 0; count < 150; count += 1) journal.append(notice(`Number${count}`), 'x');
  const lines = (await text(await open(socketPath, '/v1/events?after=3'))).trimEnd().split('\n');
  const cursors = lines.map((line) => JSON.parse(line).cursor);
  assert.deepEqual(
    cursors,
    Array.from({ length: 147 }, (_, index) => index + 4),
  );
  assert.equal(journal.listenerCount(), 0, 'nothing is left listening');
});

test('a cursor that was rotated away, or is ahead of the journal, is said to be too old, and a snapshot follows', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  for (let count = 0; count < 5; count += 1) journal.append(notice(`Number${count}`), 'x');
  journal.rotatedTo = 2;
  for (const after of [1, 99]) {
    const lines = (await text(await open(socketPath, `/v1/events?after=${after}`))).trimEnd().split('\n');
    const types = lines.map((line) => JSON.parse(line).type);
    assert.deepEqual(types, ['cursor-too-old', 'snapshot', 'snapshot-end']);
  }
  assert.equal((await call(socketPath, '/v1/events?after=-1')).code, 400);
  assert.equal((await call(socketPath, '/v1/events?afterr=1')).code, 400);
});

test('server-sent events carry the cursor as id, follow by themselves and resume by Last-Event-ID', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  journal.append(notice('NodeDead'), 'x');
  journal.append(notice('NodeJoined'), 'x');
  const response = await open(socketPath, '/v1/events', {
    headers: { accept: 'text/event-stream', 'last-event-id': '1' },
  });
  t.after(() => response.destroy());
  assert.equal(response.headers['content-type'], 'text/event-stream');
  response.setEncoding('utf8');
  const [first] = await once(response, 'data');
  assert.match(String(first), /^event: io\.mdmesh\.node\.joined\nid: 2\ndata: \{.*\}\n\n$/);
  journal.append(notice('NodeSuspect'), 'x');
  const [second] = await once(response, 'data');
  assert.match(String(second), /^event: io\.mdmesh\.node\.suspect\nid: 3\n/);
});

test('a subscriber that does not read is moved on, told how many it missed, and costs no memory meanwhile', async (t) => {
  const backlogMax = 100;
  const { socketPath, journal } = await startFakeAgent(t, backlogMax);
  const response = await open(socketPath, '/v1/events?follow=true');
  t.after(() => response.destroy());
  const lines = lineReader(response);
  await lines.next();
  await lines.next();
  // Nobody reads now: the socket's buffers fill, the stream stops taking entries, the journal goes on.
  const total = 6000;
  for (let count = 0; count < total; count += 1) {
    journal.append(notice(`Number${count}`), 'x');
    // Fewer at a time than it may fall behind: only its own full buffers can make it late.
    if (count % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  let cursor = 0;
  let missed = 0;
  let told = 0;
  while (cursor < total) {
    const line = await lines.next();
    if (line.type === 'missed') {
      assert.equal(line.after, cursor, 'it missed what comes behind its last event');
      missed += Number(line.count);
      cursor = Number(line.cursor);
    } else {
      told += 1;
      assert.equal(line.cursor, cursor + 1, 'no silent hole');
      cursor = Number(line.cursor);
    }
  }
  assert.ok(missed > 0, 'it was too slow');
  assert.equal(told + missed, total);
});

test('one who asks for all of a long journal gets all of it, however slowly he reads', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t, 10);
  for (let count = 0; count < 3000; count += 1) journal.append(notice(`Number${count}`), 'x');
  const lines = (await text(await open(socketPath, '/v1/events?after=0'))).trimEnd().split('\n');
  assert.equal(lines.length, 3000);
});

test('closing cuts streams off and leaves nobody listening to the journal', async (t) => {
  const agent = await startFakeAgent(t);
  const response = await open(agent.socketPath, '/v1/events?follow=true');
  const lines = lineReader(response);
  await lines.next();
  await lines.next();
  assert.equal(agent.journal.listenerCount(), 1);
  const ended = once(response, 'close');
  response.on('error', () => {});
  await agent.stop();
  await ended.catch(() => undefined);
  assert.equal(agent.journal.listenerCount(), 0);
});
