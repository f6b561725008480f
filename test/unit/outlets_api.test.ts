import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { serveApi } from '#src/outlets/index.ts';
import { call, lineReader, open, post, text, typeOf } from './outlets_client.ts';
import {
  arrayUuid,
  boot,
  event,
  FakeFace,
  FakeJournal,
  failCommit,
  memberB,
  notice,
  silentLog,
  startFakeAgent,
} from './outlets_fake_agent.ts';

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
  const { socketPath, journal } = await startFakeAgent(t, { backlogMax });
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
  const { socketPath, journal } = await startFakeAgent(t, { backlogMax: 10 });
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

test('filters: by name, type or its beginning, by array, by node, by severity; all of them have to fit', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  journal.append(failCommit(), 'x');
  journal.append(notice('NodeDead'), 'x');
  journal.append(event({ type: 'vote', term: 4, candidate: 1 }, 1), 'x');
  journal.append(notice('RebuildStarted', 'md0'), 'x');
  const names = async (query: string) =>
    (await text(await open(socketPath, `/v1/events?after=0&${query}`)))
      .split('\n')
      .flatMap((line) => (line === '' ? [] : [JSON.parse(line).data.name]));
  assert.deepEqual(await names('type=Fail'), ['Fail']);
  assert.deepEqual(await names('type=Fail,NodeDead'), ['Fail', 'NodeDead']);
  assert.deepEqual(await names('type=io.mdmesh.array.degraded&type=Voted'), ['DegradedArray', 'Voted']);
  assert.deepEqual(await names('type=io.mdmesh.array.*'), ['Fail', 'DegradedArray', 'RebuildStarted']);
  assert.deepEqual(await names('array=md0'), ['Fail', 'DegradedArray', 'RebuildStarted']);
  assert.deepEqual(await names(`array=${arrayUuid}&severity=notice`), ['Fail', 'DegradedArray', 'RebuildStarted']);
  assert.deepEqual(await names('array=md1'), []);
  assert.deepEqual(await names('node=1'), ['Voted']);
  assert.deepEqual(await names('node=3,1'), ['NodeDead', 'Voted']);
  assert.deepEqual(await names('severity=critical'), ['Fail', 'DegradedArray', 'NodeDead']);
  assert.deepEqual(await names('severity=warning&node=3'), ['NodeDead']);
  for (const typo of ['type=fail', 'type=io.mdmesh.*.fail', 'node=0', 'severity=bad', 'array=', 'since=now']) {
    assert.equal((await call(socketPath, `/v1/events?${typo}`)).code, 400, typo);
  }
  assert.equal((await call(socketPath, '/v1/status?bogus=1')).code, 400);
});

test('a batch is a page of CloudEvents, with the cursor of the next; without one the newest; too old is said', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  for (let count = 0; count < 10; count += 1) journal.append(notice(`Number${count}`), 'x');
  const batch = async (query: string) => {
    const response = await open(socketPath, `/v1/events?${query}`, {
      headers: { accept: 'application/cloudevents-batch+json' },
    });
    const names: string[] = JSON.parse(await text(response)).map((each: { data: { name: string } }) => each.data.name);
    return { type: typeOf(response), cursor: response.headers['mdmesh-cursor'], names };
  };
  const type = 'application/cloudevents-batch+json';
  assert.deepEqual(await batch('after=0&limit=2'), { type, cursor: '2', names: ['Number0', 'Number1'] });
  assert.deepEqual(await batch('after=2&limit=2'), { type, cursor: '4', names: ['Number2', 'Number3'] });
  assert.deepEqual(await batch('after=9'), { type, cursor: '10', names: ['Number9'] });
  assert.deepEqual(await batch('after=10'), { type, cursor: '10', names: [] });
  assert.deepEqual(await batch('limit=1'), { type, cursor: '10', names: ['Number9'] });
  assert.deepEqual(await batch('after=0&type=Number7'), { type, cursor: '10', names: ['Number7'] });
  journal.rotatedTo = 5;
  const old = await call(socketPath, '/v1/events?after=0', { headers: { accept: type } });
  assert.equal(old.code, 410);
  assert.match(JSON.stringify(old.answer), /cursor 0: not in the journal any more/);
});

test('what a caller cannot read is 406, and what it likes best is what it gets', async (t) => {
  const { socketPath } = await startFakeAgent(t);
  const got = async (accept: string) => {
    const response = await open(socketPath, '/v1/events?follow=false', { headers: { accept } });
    response.resume();
    return `${response.statusCode} ${typeOf(response)}`;
  };
  assert.equal(await got('*/*'), '200 application/x-ndjson');
  assert.equal(await got('application/json'), '200 application/x-ndjson');
  assert.equal(await got('text/event-stream, */*;q=0.1'), '200 text/event-stream');
  assert.equal(
    await got('application/x-ndjson;q=0.5, application/cloudevents-batch+json'),
    `200 ${'application/cloudevents-batch+json'}`,
  );
  assert.match(await got('image/png'), /^406 application\/json$/);
});

test('the status is sent again and again to whoever follows it', async (t) => {
  const { socketPath, face } = await startFakeAgent(t);
  const response = await open(socketPath, '/v1/status?follow=true&every_ms=100');
  t.after(() => response.destroy());
  const lines = lineReader(response);
  assert.deepEqual(await lines.next(), JSON.parse(JSON.stringify(face.now)));
  face.now = { ...face.now, lease: { ...face.now.lease, term: 9 } };
  let term: unknown = 3;
  while (term !== 9) term = JSON.parse(JSON.stringify((await lines.next()).lease)).term;
  const sse = await open(socketPath, '/v1/status?follow=false', { headers: { accept: 'text/event-stream' } });
  assert.match(await text(sse), /^event: status\ndata: \{.*\}\n\n$/);
});

test('a thousand subscribers hear each event once and in order, and an append waits for none of them', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  const events = 3;
  const readers = await Promise.all(
    Array.from({ length: 1000 }, async () => {
      const response = await open(socketPath, '/v1/events?follow=true');
      t.after(() => response.destroy());
      const lines = lineReader(response);
      await lines.next();
      await lines.next();
      return lines;
    }),
  );
  assert.equal(journal.listenerCount(), 1, 'one ear for all of them');
  for (let count = 1; count <= events; count += 1) journal.append(notice(`Number${count}`), 'x');
  await Promise.all(
    readers.map(async (lines) => {
      for (let cursor = 1; cursor <= events; cursor += 1) assert.equal((await lines.next()).cursor, cursor);
    }),
  );
});

test('more followers than there may be are told so, and make room when they go', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t, { followersMax: 1 });
  const first = await open(socketPath, '/v1/events?follow=true');
  assert.equal((await call(socketPath, '/v1/events')).code, 503);
  assert.equal((await call(socketPath, '/v1/status')).code, 200, 'who does not follow is served');
  const gone = once(first, 'close');
  first.destroy();
  await gone;
  while (journal.listenerCount() > 0) await new Promise((resolve) => setImmediate(resolve));
  assert.equal((await open(socketPath, '/v1/events')).statusCode, 200);
});

test('the socket is given to its group; one that is not there is named, and nothing is left behind', async (t) => {
  const own = String(process.getgid?.() ?? 0);
  const { socketPath } = await startFakeAgent(t, { group: own, modeOctal: 0o660 });
  assert.equal(String(statSync(socketPath).gid), own);
  await assert.rejects(startFakeAgent(t, { group: 'no-such-group' }), /socket.group no-such-group: this system has no/);
});
