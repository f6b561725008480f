/** The API's document against a validator, and against what the running server really answers. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { wholeCopy } from '#src/arrays/record.ts';
import type { Disk } from '#src/md/driver.ts';
import { OPERATIONS, type OperationName } from '#src/outlets/contract.ts';
import { openApiDocument } from '#src/outlets/openapi.ts';
import { call, open, post, type Sent, text, typeOf } from './outlets_client.ts';
import {
  arrayStatus,
  clusterStatus,
  copying,
  event,
  failCommit,
  memberB,
  notice,
  raid1,
  startFakeAgent,
} from './outlets_fake_agent.ts';

// biome-ignore lint/suspicious/noExplicitAny: the document is JSON, and read as such
const document: any = openApiDocument(true);
const ajv = new Ajv2020({ strict: true, strictTypes: false, allErrors: true, allowUnionTypes: true });
addFormats.default(ajv);
ajv.addVocabulary(['components']);
// zod's word for what contentEncoding says beside it.
ajv.addFormat('base64', true);
ajv.addSchema({ $id: 'api', components: document.components });

function check(schema: object, value: unknown, what: string): void {
  const text = JSON.stringify(schema).replaceAll('"#/components/', '"api#/components/');
  const isValid = ajv.compile(JSON.parse(text));
  assert.ok(isValid(value), `${what}: ${ajv.errorsText(isValid.errors)}\n${JSON.stringify(value).slice(0, 2000)}`);
}

const seen = new Set<string>();

/** Calls an operation and holds the answer against what the document says of it. */
async function asDocumented(
  at: string,
  name: OperationName,
  path: string,
  code: number,
  sent: Sent = {},
): Promise<void> {
  const operation = OPERATIONS[name];
  const response = await open(at, path, { method: operation.method, ...sent });
  assert.equal(response.statusCode, code, path);
  const type = typeOf(response);
  const { responses } = document.paths[operation.path][operation.method.toLowerCase()];
  const media = responses[code]?.content[type];
  assert.ok(media, `${name}: ${code} ${type} is not in the document`);
  for (const header of Object.keys(responses[code].headers ?? {})) {
    if (type.includes('batch')) assert.ok(response.headers[header], header);
  }
  seen.add(`${name} ${code} ${type}`);
  const body = await text(response);
  if (type === 'application/x-ndjson') {
    assert.match(body, /\n$/);
    for (const line of body.trimEnd().split('\n')) checkLine(name, JSON.parse(line));
  } else if (type === 'text/event-stream') {
    for (const [, data = ''] of body.matchAll(/^data: (.*)$/gm)) checkLine(name, JSON.parse(data));
  } else if (type === 'text/plain' || type === 'application/openmetrics-text') {
    assert.match(body, /^# HELP mdmesh_info /);
  } else check(media.schema, JSON.parse(body), `${name} ${code}`);
}

function checkLine(name: OperationName, line: unknown): void {
  const schema = name === 'status' ? 'Status' : 'StreamLine';
  check({ $ref: `#/components/schemas/${schema}` }, line, name);
}

test('the document is a valid OpenAPI 3.1 document, and what is served', async (t) => {
  for (const local of [true, false]) {
    const result = await new Validator().validate(JSON.parse(JSON.stringify(openApiDocument(local))));
    assert.ok(result.valid, JSON.stringify(result.errors));
  }
  const agent = await startFakeAgent(t, { tcp: { address: '127.0.0.1', port: 0, access: { token: null } } });
  assert.deepEqual((await call(agent.socketPath, '/v1/openapi.json')).answer, document);
  const { answer } = await call(agent.port(), '/v1/openapi.json');
  assert.deepEqual(answer, openApiDocument(false));
  assert.doesNotMatch(JSON.stringify(answer), /"\/v1\/requests"/);
});

test('a document that says less than the server answers is found out', () => {
  const status = { ...clusterStatus(), more: 1 };
  assert.throws(() => check({ $ref: '#/components/schemas/Status' }, status, ''), /additional properties/);
  const { self: _, ...less } = clusterStatus();
  assert.throws(() => check({ $ref: '#/components/schemas/Status' }, less, ''), /required property 'self'/);
});

test('every operation answers as the document says', async (t) => {
  const { socketPath: at, face, journal } = await startFakeAgent(t, { followersMax: 1 });
  const degraded = raid1();
  face.now = clusterStatus([
    { ...arrayStatus(raid1()), trouble: 'member ubdb: EIO', reports: [{ node: 2, report: report() }] },
    { ...copying({ ...degraded, md: 'md1' }), local: null, applied: null, released: null },
    arrayStatus({
      ...raid1(),
      md: 'md2',
      resync: wholeCopy('check', 1, 9),
      bitmap: { firstSector: 8, sectorsPerNode: 8, chunkSectors: 128 },
    }),
  ]);
  face.disks = [disk()];
  journal.append(failCommit(), 'x');
  journal.append(notice('NodeDead'), 'x');
  journal.append(event({ type: 'vote', term: 4, candidate: 1 }), 'x');
  journal.append(
    event({ type: 'observation', observation: { what: 'member-faulty', array: raid1().uuid, member: memberB } }),
    'x',
  );
  journal.append(event({ type: 'leave', reason: 'SIGTERM' }), 'x');

  const accept = (type: string): Sent => ({ headers: { accept: type } });
  const [lines, sse, batch, picture] = [
    'application/x-ndjson',
    'text/event-stream',
    'application/cloudevents-batch+json',
    'image/png',
  ].map(accept);
  await asDocumented(at, 'document', '/v1/openapi.json', 200);
  await asDocumented(at, 'document', '/v1/openapi.json?x=1', 400);
  await asDocumented(at, 'status', '/v1/status', 200);
  await asDocumented(at, 'status', '/v1/status', 200, lines);
  await asDocumented(at, 'status', '/v1/status?follow=false', 200, sse);
  await asDocumented(at, 'status', '/v1/status?every_ms=1', 400);
  await asDocumented(at, 'status', '/v1/status', 406, picture);
  await asDocumented(at, 'nodes', '/v1/nodes', 200);
  await asDocumented(at, 'nodes', '/v1/nodes?x=1', 400);
  await asDocumented(at, 'arrays', '/v1/arrays', 200);
  await asDocumented(at, 'arrays', '/v1/arrays?x=1', 400);
  await asDocumented(at, 'array', '/v1/arrays/md1', 200);
  await asDocumented(at, 'array', '/v1/arrays/md1?x=1', 400);
  await asDocumented(at, 'array', '/v1/arrays/md9', 404);
  await asDocumented(at, 'journal', '/v1/journal', 200);
  await asDocumented(at, 'journal', '/v1/journal?x=1', 400);
  await asDocumented(at, 'disks', '/v1/disks', 200);
  await asDocumented(at, 'disks', '/v1/disks?x=1', 400);
  face.others = [
    { node: 1, report: '{}', trouble: null },
    { node: 3, report: null, trouble: 'not connected' },
  ];
  await asDocumented(at, 'reports', '/v1/reports', 200);
  await asDocumented(at, 'reports', '/v1/reports?x=1', 400);
  face.scan = async () => {
    throw new Error('disk /dev/sdb: EIO');
  };
  await asDocumented(at, 'disks', '/v1/disks', 500);
  await asDocumented(at, 'request', '/v1/requests', 200, post({ verb: 'stop', array: 'md0' }));
  await asDocumented(at, 'reload', '/v1/reload', 200, { method: 'POST' });
  await asDocumented(at, 'reload', '/v1/reload?now=true', 400, { method: 'POST' });
  await asDocumented(at, 'handOver', '/v1/hand-over', 200, { method: 'POST' });
  await asDocumented(at, 'handOver', '/v1/hand-over?now=true', 400, { method: 'POST' });
  await asDocumented(at, 'request', '/v1/requests', 400, post({ verb: 'stop', array: 'md0', force: true }));
  await asDocumented(at, 'events', '/v1/events', 200);
  await asDocumented(at, 'events', '/v1/events?after=99', 200);
  await asDocumented(at, 'events', '/v1/events?after=0&follow=false', 200, sse);
  await asDocumented(at, 'events', '/v1/events', 200, batch);
  await asDocumented(at, 'events', '/v1/events?after=x', 400);
  await asDocumented(at, 'events', '/v1/events', 406, picture);
  journal.rotatedTo = 2;
  await asDocumented(at, 'events', '/v1/events?after=0', 410, batch);
  await asDocumented(at, 'metrics', '/metrics', 200);
  await asDocumented(at, 'metrics', '/metrics', 200, accept('text/plain'));
  await asDocumented(at, 'metrics', '/metrics?x=1', 400);
  await asDocumented(at, 'metrics', '/metrics', 406, picture);
  const follower = await open(at, '/v1/events?follow=true');
  await asDocumented(at, 'events', '/v1/events', 503);
  await asDocumented(at, 'status', '/v1/status?follow=true', 503);
  follower.destroy();

  // A request's schema refuses what the server refuses.
  const body = document.paths['/v1/requests'].post.requestBody.content['application/json'].schema;
  check(body, { verb: 'add', array: 'md0', device: '/dev/sdd' }, 'request');
  assert.throws(() => check(body, { verb: 'add', array: 'md0', device: '/dev/sdd', forced: true }, 'request'));
});

after(() => {
  const all = Object.entries<{ answers: Record<string, { content: object }> }>(OPERATIONS).flatMap(
    ([name, { answers }]) =>
      Object.entries(answers).flatMap(([code, { content }]) =>
        Object.keys(content).map((type) => `${name} ${code} ${type}`),
      ),
  );
  assert.deepEqual([...seen].sort(), all.sort(), 'each answer that the document promises was seen');
});

function report() {
  const { uuid, version, members } = raid1();
  return {
    array: uuid,
    applied: version,
    known: version,
    state: 'open' as const,
    visible: members.map((member) => member.uuid),
    bitmap: false,
    trouble: null,
    lost: [],
    fine: [],
  };
}

function disk(): Disk {
  return {
    path: '/dev/sdb',
    devno: '8:16',
    sizeSectors: 524_288,
    logicalBlockBytes: 512,
    superblock: null,
    mesh: { clusterUuid: clusterStatus().cluster.uuid, clusterName: 'demo', record: raid1(), nodeSlots: 16 },
    problem: null,
    holders: ['md0'],
  };
}
