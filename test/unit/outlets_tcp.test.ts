/** The read-only listener: what it has, and whom it lets in. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { call, open, post } from './outlets_client.ts';
import { FakeFace, startFakeAgent } from './outlets_fake_agent.ts';

const token = 'd0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0';
const address = '127.0.0.1';

test('it has what only reads: no request, no scan of the disks', async (t) => {
  const agent = await startFakeAgent(t, { tcp: { address, port: 0, access: { token: null } } });
  for (const path of ['/v1/status', '/v1/nodes', '/v1/arrays/md0', '/v1/openapi.json']) {
    assert.equal((await call(agent.port(), path)).code, 200, path);
  }
  const asked = { verb: 'fail', array: 'md0', device: '/dev/sdb' };
  const { code, answer } = await call(agent.port(), '/v1/requests', post(asked));
  assert.equal(code, 404);
  assert.match(JSON.stringify(answer), /on the unix socket alone/);
  assert.equal((await call(agent.port(), '/v1/disks')).code, 404);
  assert.deepEqual(agent.face.asked, []);
  assert.equal((await call(agent.socketPath, '/v1/requests', post(asked))).code, 200);
});

test('with a token it answers nobody without it', async (t) => {
  const agent = await startFakeAgent(t, { tcp: { address, port: 0, access: { token } } });
  const code = async (authorization?: string) => {
    const headers = authorization === undefined ? {} : { authorization };
    return (await call(agent.port(), '/v1/status', { headers })).code;
  };
  assert.equal(await code(`Bearer ${token}`), 200);
  assert.equal(await code(`bearer ${token}`), 200);
  for (const wrong of [
    undefined,
    '',
    'Bearer',
    `Bearer ${token}x`,
    `Bearer ${token.slice(1)}`,
    `Basic ${token}`,
    token,
  ]) {
    assert.equal(await code(wrong), 401, wrong);
  }
  const refused = await open(agent.port(), '/v1/events?follow=true');
  assert.equal(refused.statusCode, 401);
  assert.match(String(refused.headers['www-authenticate']), /^Bearer /);
  refused.resume();
  assert.equal((await call(agent.port(), '/nowhere')).code, 401, 'not even what there is');
  assert.equal((await call(agent.socketPath, '/v1/status')).code, 200, 'the socket asks for none');
});

test('without a token a web page that gives itself a name here is turned away', async (t) => {
  const agent = await startFakeAgent(t, { tcp: { address, port: 0, access: { token: null } } });
  const code = async (host: string) => (await call(agent.port(), '/v1/status', { headers: { host } })).code;
  for (const good of ['127.0.0.1', 'localhost:7947', '127.0.0.1:7947', '[::1]:7947'])
    assert.equal(await code(good), 200);
  for (const bad of ['evil.example', 'evil.example:7947', 'localhost.evil.example', '127.0.0.1.evil.example']) {
    assert.equal(await code(bad), 421, bad);
  }
});

test('a port that cannot be had is said, and the socket serves all the same', async (t) => {
  const other = createServer();
  other.listen(0, address);
  await once(other, 'listening');
  t.after(() => other.close());
  const bound = other.address();
  const port = typeof bound === 'object' ? (bound?.port ?? 0) : 0;
  const said: string[] = [];
  const log = { info() {}, warn() {}, error: (_fields: object, text: string) => said.push(text) };
  const agent = await startFakeAgent(t, { log, tcp: { address, port, access: { token: null } } });
  assert.match(said.join(), new RegExp(`API port ${port} on 127\\.0\\.0\\.1: .*EADDRINUSE.*; change api\\.listen`));
  assert.deepEqual((await call(agent.socketPath, '/v1/nodes')).answer, new FakeFace().now.nodes);
});
