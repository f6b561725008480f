/** The page's files as the agent sends them. What they do is for test/browser. */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { cloudEvents } from '#src/outlets/index.ts';
import { ROWS, start, step, travelMs } from '#src/page/browser/model.ts';
import { call, open, type Sent } from './outlets_client.ts';
import { clusterStatus, copying, notice, raid1, startFakeAgent } from './outlets_fake_agent.ts';

const gzip: Sent = { headers: { 'accept-encoding': 'gzip' } };
const paths = ['/', '/page.js', '/page.css', '/icon.svg'];

async function bytes(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return Buffer.concat(chunks);
}

test('each file comes packed or plain, and not again as long as it is the same', async (t) => {
  const { socketPath } = await startFakeAgent(t);
  for (const path of paths) {
    const packed = await open(socketPath, path, gzip);
    assert.deepEqual([packed.statusCode, packed.headers['content-encoding']], [200, 'gzip'], path);
    const plain = await open(socketPath, path);
    assert.deepEqual([plain.statusCode, plain.headers['content-encoding']], [200, undefined], path);
    assert.deepEqual(await bytes(plain), gunzipSync(await bytes(packed)));
    const { etag = '' } = plain.headers;
    assert.match(etag, /^"[0-9a-f]{32}"$/);
    const again = await open(socketPath, path, { headers: { 'if-none-match': etag } });
    assert.deepEqual([again.statusCode, (await bytes(again)).length], [304, 0], path);
    const other = await open(socketPath, path, { headers: { 'if-none-match': '"0"' } });
    assert.equal(other.statusCode, 200);
    other.resume();
  }
});

test('its policy lets in what comes from here, and nothing that stands in the document itself', async (t) => {
  const { socketPath } = await startFakeAgent(t);
  const response = await open(socketPath, '/');
  const policy = String(response.headers['content-security-policy']).split('; ');
  for (const rule of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]) {
    assert.ok(policy.includes(rule), rule);
  }
  assert.doesNotMatch(policy.join(), /unsafe|data:|\*|http/);
  const html = (await bytes(response)).toString();
  assert.doesNotMatch(html, /<style|<script(?![^>]* src=)| on[a-z]+=| style=|https?:/);
  const style = (await bytes(await open(socketPath, '/page.css'))).toString();
  assert.doesNotMatch(style, /url\(|@import/, 'no font, no picture');
});

test('with a token on the port the page may be had without it, and nothing else; not under another’s name', async (t) => {
  const access = { token: 'd0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0' };
  const agent = await startFakeAgent(t, { tcp: { address: '127.0.0.1', port: 0, access } });
  for (const path of [...paths, '/?x=1']) assert.equal((await open(agent.port(), path)).statusCode, 200, path);
  for (const path of ['/v1/status', '/v1/journal', '/v1/events', '/page', '/page.js/x', '//v1/status']) {
    assert.equal((await call(agent.port(), path)).code, 401, path);
  }
  const open2 = await startFakeAgent(t, { tcp: { address: '127.0.0.1', port: 0, access: { token: null } } });
  assert.equal((await call(open2.port(), '/', { headers: { host: 'evil.example' } })).code, 421);
});

test('the page’s state: each event once, in order; what is loud is said; filters begin at the top again', () => {
  const told = (cursor: number, severity: 'NodeDead' | 'NodeJoined') =>
    cloudEvents(notice(severity), undefined, { cursor, appendedAt: '2026-01-01T12:01:02.352Z' });
  const [dead] = told(2, 'NodeDead');
  const [joined] = told(1, 'NodeJoined');
  assert.ok(dead && joined);
  let page = step(start, { type: 'event', event: dead });
  assert.match(page.announced, /^node\/3: NodeDead/);
  page = step(page, { type: 'history', events: [joined, dead] });
  assert.deepEqual(
    page.events.map(({ cursor }) => cursor),
    [1, 2],
  );
  assert.match(step(page, { type: 'event', event: joined }).announced, /NodeDead/, 'a notice is not said aloud');
  page = step(page, { type: 'more' });
  assert.ok(page.rows > ROWS);
  page = step(page, { type: 'filter', filter: { array: 'md0' } });
  assert.deepEqual([page.rows, page.filter.array, page.filter.node], [ROWS, 'md0', '']);
  assert.deepEqual(step(page, { type: 'begun-anew' }).events, []);
  assert.equal(travelMs(dead, 1), 7);
  assert.equal(travelMs(dead, 2), null, 'what happened here has not travelled');
});

test('the page’s figures: a look at the status a second, for ten minutes', () => {
  const array = copying(raid1());
  if (array.local !== null) array.local.suspended = { loSector: 2048, hiSector: 2048 + 20_480 };
  let page = start;
  for (let second = 0; second < 700; second += 1) {
    page = step(page, { type: 'status', status: clusterStatus([array]), atSeconds: second });
  }
  assert.equal(page.samples.length, 600);
  const { copyMibPerSecond, ...rest } = page.samples.at(-1) ?? never();
  assert.deepEqual(rest, { atSeconds: 699, grantLeftMs: 1800, windowMib: 10 });
  assert.equal(copyMibPerSecond?.toFixed(1), '32.7');
  assert.equal(page.link, 'live');
  assert.match(step(page, { type: 'link', link: 'lost' }).announced, /No connection/);
});

function never(): never {
  throw new Error('the fixture has it');
}
