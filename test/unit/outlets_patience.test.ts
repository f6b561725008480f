/** Callers that never end what they began: others are served all the same. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { call, lineReader, open, post } from './outlets_client.ts';
import { startFakeAgent } from './outlets_fake_agent.ts';

const address = '127.0.0.1';
const access = { token: 'd0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0' };
const authorization = `Bearer ${access.token}`;

async function begun(t: TestContext, at: string | number, text: string): Promise<Socket> {
  const socket = typeof at === 'string' ? connect(at) : connect(at, address);
  t.after(() => socket.destroy());
  // Being cut off is what is waited for.
  socket.on('error', () => {}).resume();
  await once(socket, 'connect');
  socket.write(text);
  return socket;
}

/** `once` would take the error of a connection that is cut off for a failure of its own. */
const closed = (socket: Socket) =>
  new Promise<void>((resolve) => (socket.closed ? resolve() : socket.once('close', () => resolve())));

for (const what of ['on the socket', 'on the port'] as const) {
  test(`${what}: hundreds of connections that say nothing, or half of it, keep nobody out`, async (t) => {
    const agent = await startFakeAgent(t, { tcp: { address, port: 0, access }, unfinishedMax: 256 });
    const at = what === 'on the socket' ? agent.socketPath : agent.port();
    const follower = await open(at, '/v1/events?follow=true', { headers: { authorization } });
    const line = lineReader(follower);
    assert.equal((await line.next()).type, 'snapshot');
    const silent: Socket[] = [];
    for (const text of ['', 'GET /v1/status HTTP/1.1\r\n', 'GET /v1/status HTTP/1.1\r\nhost: x\r\nx-slow: ']) {
      for (let count = 0; count < 150; count += 1) silent.push(await begun(t, at, text));
      const { code } = await call(at, '/v1/status', { headers: { authorization } });
      assert.equal(code, 200);
    }
    // The oldest have made room, and the descriptors are back.
    await Promise.all(silent.slice(0, 190).map(closed));
    assert.ok(silent.filter((socket) => !socket.closed).length <= 300);
    assert.equal(follower.closed, false, 'a stream that is being read is no such connection');
    assert.equal((await line.next()).type, 'snapshot-end');
  });

  test(`${what}: a head or a body that never ends is cut off`, async (t) => {
    const agent = await startFakeAgent(t, { tcp: { address, port: 0, access }, requestWithinMs: 300 });
    const at = what === 'on the socket' ? agent.socketPath : agent.port();
    const head = `POST /v1/requests HTTP/1.1\r\nhost: localhost\r\nauthorization: ${authorization}\r\n`;
    const slow = await begun(t, at, 'GET /v1/status HTTP/1.1\r\nx: ');
    const body = await begun(t, at, `${head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{"verb"`);
    const dribble = setInterval(() => void (slow.writable && slow.write('y')), 20);
    t.after(() => clearInterval(dribble));
    await Promise.all([closed(slow), closed(body)]);
    assert.deepEqual(agent.face.asked, [], 'half a request asks for nothing');
  });
}

test('a thousand subscribers who come back in one moment, all before any of them has asked, are all served', async (t) => {
  const agent = await startFakeAgent(t);
  const line = 'GET /v1/events?follow=true HTTP/1.1\r\nhost: x\r\naccept: application/x-ndjson\r\n\r\n';
  const sockets: Socket[] = [];
  for (let count = 0; count < 1000; count += 1) sockets.push(await begun(t, agent.socketPath, ''));
  // It has come behind all of these.
  assert.equal((await call(agent.socketPath, '/v1/status')).code, 200);
  const answers = sockets.map((socket) => once(socket, 'data'));
  for (const socket of sockets) socket.write(line);
  for (const [answer] of await Promise.all(answers)) assert.match(String(answer), /^HTTP\/1\.1 200 /);
});

test('a request that is whole may take its time, and its connection another request', async (t) => {
  const agent = await startFakeAgent(t, { requestWithinMs: 200 });
  const { promise, resolve } = Promise.withResolvers<{ ok: boolean; text: string }>();
  agent.face.request = () => promise;
  const asked = call(agent.socketPath, '/v1/requests', post({ verb: 'confirm-dead', node: 3 }));
  const others = await Promise.all(Array.from({ length: 8 }, () => begun(t, agent.socketPath, 'GET /v1')));
  await Promise.all(others.map(closed));
  resolve({ ok: true, text: 'done' });
  assert.deepEqual((await asked).answer, { ok: true, text: 'done' });
});
