/**
 * What comes from other nodes, callers, md's sysfs, programs and a journal's files, changed as in decoders_fuzz.test.ts. Here more is
 * asked than that nobody falls over: a changed envelope is never another event, a changed journal never another story.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { RecordEnvelope } from '@libp2p/peer-record';
import fc from 'fast-check';
import { findJournals, verifyJournals } from '#src/audit/index.ts';
import { LAN } from '#src/config/index.ts';
import { createFencing, runCommand } from '#src/fencing/index.ts';
import { openJournal } from '#src/journal/index.ts';
import { lineForPeople } from '#src/log.ts';
import { type FileReader, readArray } from '#src/md/sysfs_array.ts';
import { decodePage, decodeRequest, encodePage, encodeRequest } from '#src/net/catchup.ts';
import { encodeFrame, FrameIntake } from '#src/net/frame_intake.ts';
import { TokenBucket } from '#src/net/token_bucket.ts';
import { eventLine } from '#src/outlets/cloud_event.ts';
import {
  decodeUnverified,
  envelopeDomain,
  envelopePayloadType,
  generateIdentity,
  open,
  publicKeyOfPeerId,
  seal,
  WireRefusal,
} from '#src/wire/index.ts';
import { type EventBody, Frame } from '#src/wire/messages.ts';
import { changed, changes, fuzz, numRuns, setting } from './fuzz_changes.ts';
import { CLUSTER, commit, event } from './journal_sample.ts';
import { call } from './outlets_client.ts';
import { startFakeAgent } from './outlets_fake_agent.ts';

const identity = await generateIdentity();
const other = await generateIdentity();
const keys = new Map([
  [1, publicKeyOfPeerId(identity.peerId)],
  [2, publicKeyOfPeerId(other.peerId)],
]);
const keyOf = (node: number) => [keys.get(node) ?? []].flat();
/** Where one run takes a file system or a socket. */
const slowly = { ...setting, numRuns: Math.ceil(Math.min(numRuns, 1e9) / 8) };
const bytesOf = (value: unknown) => Uint8Array.from(Buffer.from(JSON.stringify(value)));
const folder = mkdtempSync(join(tmpdir(), 'mdmesh-fuzz-'));
after(() => rmSync(folder, { recursive: true, force: true }));

test('sealed events: a changed envelope is refused, or it is the same event', async () => {
  const samples = [event(1, 1, 1), commit(1, 1, 2)];
  const wholes = await Promise.all(samples.map((each) => seal(identity, each)));
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: samples.length - 1 }), changes, async (at, all) => {
      const bytes = changed(wholes[at] ?? new Uint8Array(), all);
      try {
        assert.deepEqual(await open(bytes, keyOf, CLUSTER), samples[at]);
      } catch (error) {
        assert.ok(error instanceof WireRefusal, String(error));
      }
    }),
    setting,
  );
});

test('sealed events, truly signed: what does not fit its schema is refused by name', async () => {
  const wholes = [bytesOf(event(1, 1, 1)), bytesOf(commit(1, 1, 2))];
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...wholes), changes, async (whole, all) => {
      const payload = changed(whole, all);
      try {
        const opened = await open(await signedAnyhow(payload), keyOf, CLUSTER);
        // What was understood has words for people, without anything that steers their terminal.
        assert.doesNotMatch(eventLine(opened), controls);
      } catch (error) {
        assert.ok(error instanceof WireRefusal, String(error));
      }
    }),
    setting,
  );
});

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is searched for
const controls = /[\u0000-\u001f\u007f-\u009f]/;

/** An envelope as `seal` makes it around bytes that `seal` would not take. */
async function signedAnyhow(payload: Uint8Array): Promise<Uint8Array> {
  const record = {
    domain: envelopeDomain,
    codec: Buffer.from(envelopePayloadType),
    marshal: () => payload,
    equals: () => false,
  };
  return (await RecordEnvelope.seal(record, identity.privateKey)).marshal();
}

const boot = '00000000-0000-4000-8000-000000000001';
const frames: Frame[] = [
  { room: 'hello', message: { protocol: 1, cluster: CLUSTER, node: 2, boot, bootNumber: 1, version: 'x' } },
  { room: 'members', message: { kind: 'ping', sequence: 1, eligible: true, updates: [] } },
  {
    room: 'members',
    message: {
      kind: 'ping-request',
      sequence: 2,
      target: 3,
      updates: [{ node: 3, status: 'suspect', incarnation: 7 }],
    },
  },
  {
    room: 'lease',
    message: {
      kind: 'renew',
      term: 3,
      sentAtMs: 5.5,
      echoAckSentAtMs: null,
      grant: true,
      certificate: ['AAAA'],
      holderMs: 2000,
      voterMs: 3000,
    },
  },
  { room: 'arrays', message: { kind: 'report', term: 3, kernelBoot: boot, agentStart: 1, reports: [], ended: [] } },
  { room: 'arrays', message: { kind: 'window', array: boot, since: 1, sequence: 2, loSector: 0, hiSector: 8 } },
  { room: 'duplicate-id', message: { boots: [boot] } },
];

test('frames: taken as one that fits its schema, or refused with words; only bytes that cannot be told apart cut the peer', () => {
  fuzz(
    frames.map((frame) => Uint8Array.from(encodeFrame(frame))),
    (bytes) => {
      const rate = new TokenBucket(10, () => 0);
      const intake = new FrameIntake(2, 1, { version: 'x', protocol: { oldest: 1, newest: 1 } }, CLUSTER, rate);
      assert.equal(intake.take(encodeFrame(frames[0] ?? assert.fail())).type, 'hello');
      const taken = intake.take(bytes);
      if (taken.type === 'frame') assert.deepEqual(Frame.parse(taken.frame), taken.frame);
      else if (taken.type === 'refused') {
        assert.ok(taken.reason.length > 0 && taken.reason.length < 1000);
        assert.equal(taken.cut, taken.reason === 'a second Hello on one stream');
      } else assert.fail('a Hello comes once');
    },
    () => false,
  );
});

test('catch-up: requests and pages are understood, or an error says what is wrong', () => {
  const request = encodeRequest({
    have: [
      { origin: 1, bootNumber: 1, sequence: 5 },
      { origin: 2, bootNumber: 3, sequence: 0 },
    ],
  });
  const page = encodePage({ events: ['AAAA', 'BBBB'], more: true });
  const own = (error: unknown) => error instanceof Error && error.message.startsWith('catch-up ');
  fuzz([Uint8Array.from(request)], (bytes) => decodeRequest(decodedAgain(bytes, decodeRequest, encodeRequest)), own);
  fuzz([Uint8Array.from(page)], (bytes) => decodePage(decodedAgain(bytes, decodePage, encodePage)), own);
});

function decodedAgain<T>(
  bytes: Uint8Array,
  decode: (bytes: Uint8Array) => T,
  encode: (value: T) => Uint8Array,
): Uint8Array {
  const decoded = decode(bytes);
  assert.deepEqual(decode(encode(decoded)), decoded);
  return bytes;
}

test('the API: whatever is sent, the answer is JSON and no fault of the agent’s', async (t) => {
  const agent = await startFakeAgent(t);
  const bodies = [
    { verb: 'fail', array: 'md0', device: '/dev/sdb' },
    { verb: 'create', md: 'md1', level: 'raid1', raidDisks: 2, access: 'shared', devices: ['/dev/sdb', '/dev/sdc'] },
    { verb: 'confirm-dead', node: 3 },
  ].map(bytesOf);
  const word = fc.string({ unit: 'grapheme-ascii', maxLength: 12 }).map(encodeURIComponent);
  const name = fc.constantFrom('after', 'follow', 'type', 'array', 'node', 'severity', 'limit', 'every_ms', 'nothing');
  const value = fc.oneof(
    word,
    fc.constantFrom('true', 'false', '-1', '1e9', 'NaN', '', '99999999999999999999', '%00', '%2e%2e'),
  );
  // Streams that follow do not end: none is asked for.
  const query = fc
    .array(fc.tuple(name, value), { maxLength: 4 })
    .map((pairs) => pairs.map(([key, text]) => `${key}=${key === 'follow' ? 'false' : text}`).join('&'));
  const path = fc.constantFrom(
    '/v1/status',
    '/v1/events',
    '/v1/arrays/md0',
    '/v1/nodes',
    '/v1/journal',
    '/metrics',
    '/v1/disks',
    '/v1/reports',
  );
  const header = fc.record({
    accept: fc.constantFrom('*/*', 'application/json', 'application/x-ndjson', ';;;q=', 'a/b;q=9', ','.repeat(50)),
    'last-event-id': fc.constantFrom('1', '-1', 'x', '9'.repeat(40)),
    'content-type': fc.constantFrom('application/json', 'text/plain', 'application/json; charset=x', 'a'),
  });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...bodies), changes, header, async (body, all, headers) => {
      const sent = Buffer.from(changed(body, all));
      const { code, answer } = await call(agent.socketPath, '/v1/requests', {
        method: 'POST',
        body: sent.toString('utf8'),
        headers,
      });
      assert.ok([200, 400, 413, 415].includes(code), `${code}: ${JSON.stringify(answer)}`);
      assert.equal(typeof Reflect.get(Object(answer), 'ok'), 'boolean');
    }),
    slowly,
  );
  const { open: ask, text } = await import('./outlets_client.ts');
  await fc.assert(
    fc.asyncProperty(path, query, header, async (at, asked, { 'content-type': _, ...headers }) => {
      const response = await ask(agent.socketPath, `${at}?${asked}`, { headers });
      const said = await text(response);
      assert.ok(
        [200, 400, 404, 406, 410].includes(response.statusCode ?? 0),
        `${response.statusCode} ${at}?${asked}: ${said}`,
      );
    }),
    slowly,
  );
});

test('a journal’s files: what is read again is what was written, in order, from its beginning or not at all', async () => {
  const whole = join(folder, 'whole');
  const options = { now: () => new Date(0), decode: decodeUnverified, log: () => {}, rotateBytes: 3000 };
  const journal = await openJournal({ dir: whole, ...options });
  const written = new Map<string, string>();
  for (let sequence = 1; sequence <= 12; sequence += 1) {
    const each = { ...event(1, 1, sequence), body: { type: 'leave', reason: `no ${sequence}` } satisfies EventBody };
    const sealed = Buffer.from(await seal(identity, each)).toString('base64');
    journal.append(each, sealed);
    await journal.durable();
    written.set(sealed, each.body.reason);
  }
  await journal.close();
  const files = readdirSync(whole);
  assert.ok(files.length > 1, 'several segments');
  const texts = files.map((file) => Uint8Array.from(readFileSync(join(whole, file))));
  const cluster = {
    uuid: CLUSTER,
    peerIds: new Map([
      [1, identity.peerId],
      [2, other.peerId],
    ]),
  };
  let round = 0;
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: files.length - 1 }), changes, async (which, all) => {
      round += 1;
      const dir = join(folder, `r${round}`);
      mkdirSync(dir);
      const same = files.map((file, at) => {
        const before = texts[at] ?? new Uint8Array();
        const bytes = at === which ? changed(before, all) : before;
        writeFileSync(join(dir, file), bytes);
        return Buffer.compare(before, bytes) === 0;
      });
      const { outcome } = await verifyJournals({ cluster, journals: await findJournals([dir]), threads: 0 });
      // To cut a journal off at its end is nothing that it can tell by itself; anything else is found out.
      if (outcome === 'proved') assert.ok(same.every(Boolean) || isCutOff(dir, files, texts));
      const again = await openJournal({ dir, ...options });
      const { entries } = again.read(0, 100);
      await again.close();
      for (const { sealed } of entries) assert.ok(written.has(sealed), 'nothing that nobody wrote');
      const told = entries.map((entry) => entry.event.sequence);
      assert.deepEqual(
        told,
        told.toSorted((a, b) => a - b),
      );
      assert.equal(new Set(told).size, told.length);
      rmSync(dir, { recursive: true });
    }),
    slowly,
  );
});

function isCutOff(dir: string, files: readonly string[], texts: readonly Uint8Array[]): boolean {
  return files.every((file, at) => {
    const now = readFileSync(join(dir, file));
    const before = Buffer.from(texts[at] ?? new Uint8Array());
    return before.subarray(0, now.length).equals(now) || before.equals(now.subarray(0, before.length));
  });
}

test('md’s sysfs: whatever stands in its files, numbers are numbers or null', () => {
  const texts = [
    'external:mdmesh',
    'raid1',
    'active',
    '0',
    '4096',
    'idle',
    '12 / 345',
    'none',
    '0',
    '1',
    '2',
    '+1024',
    '65536',
    '8192',
    'in_sync,blocked',
  ];
  fuzz(
    texts.map((each) => Uint8Array.from(Buffer.from(`${each}\n`))),
    (bytes) => {
      const text = Buffer.from(bytes).toString('latin1');
      const everywhere: FileReader = (paths) => paths.map(() => text);
      const array = readArray('md0', everywhere);
      assert.ok(array !== null);
      for (const number of [array.sizeSectors, array.mismatchSectors, array.degraded, array.raidDisks])
        assert.ok(number >= 0);
      if (array.suspend !== null) assert.ok(array.suspend.loSector >= 0 && array.suspend.hiSector >= 0);
      if (array.bitmap !== null)
        assert.ok(Number.isFinite(array.bitmap.sector) && Number.isFinite(array.bitmap.chunkSectors), text);
    },
    () => false,
  );
});

test('a fence agent’s words: its exit code alone vouches, and they steer neither log nor terminal', async () => {
  const script = join(folder, 'agent');
  const out = join(folder, 'said');
  writeFileSync(script, `#!/bin/sh\ncat "$2"\nexit "$1"\n`, { mode: 0o755 });
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 4000 }), fc.constantFrom(0, 1), async (words, code) => {
      writeFileSync(out, words);
      const notes: string[] = [];
      const command = { argv: [script, String(code), out], timeoutMs: 30_000, options: {}, nodeOptions: {} };
      const fencing = createFencing({
        config: {
          cluster: { name: 'demo', uuid: CLUSTER },
          timing: LAN,
          fencing: { methods: ['command', 'manual'], command, watchdog: null, acceptDataLoss: false },
        },
        run: runCommand,
        clock: () => 0,
        // Where the agent failed, the operator ends it in place of the next try.
        schedule: (delayMs) => {
          if (delayMs < 30_000) queueMicrotask(() => fencing.cancel(3));
          return () => undefined;
        },
        onEvent: ({ text }) => notes.push(text),
      });
      const { stopped, text } = await fencing.fence({ node: 3, address: '10.0.0.3', lastGrantMs: 0 });
      assert.equal(stopped, code === 0);
      for (const each of [...notes, text]) {
        assert.ok(each.length < 2500);
        const line = lineForPeople(JSON.stringify({ time: '', level: 'info', msg: each }));
        assert.doesNotMatch(line.slice(0, -1), controls);
      }
    }),
    { ...slowly, numRuns: Math.ceil(slowly.numRuns / 4) },
  );
});
