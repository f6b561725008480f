/** Every kind of event: read by the public CloudEvents SDK, and described as it is. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { HTTP, CloudEvent as SdkEvent } from 'cloudevents';
import { catalogue, tellings } from '#src/outlets/catalogue.ts';
import { cloudEvents } from '#src/outlets/cloud_event.ts';
import { DESCRIPTIONS, type Description } from '#src/outlets/event_descriptions.ts';
import { CloudEvent } from '#src/outlets/told.ts';
import { Event } from '#src/wire/messages.ts';
import { everyBody, sampleEvent, sampleNames, samplesOf } from '../../scripts/event_samples.ts';
import { eventNames, eventsDoc, eventsDocPath } from '../../scripts/events_doc.ts';
import { open, text } from './outlets_client.ts';
import { startFakeAgent } from './outlets_fake_agent.ts';

const everyEvent = eventNames().flatMap(samplesOf).concat(everyBody().map(sampleEvent));
const root = resolve(import.meta.dirname, '../..');

test('the public CloudEvents SDK takes every event, and gives its attributes back', () => {
  let count = 0;
  for (const told of everyEvent.flatMap((event) =>
    cloudEvents(event, sampleNames, { cursor: 7, appendedAt: '2026-01-31T12:01:02.350Z' }),
  )) {
    const event = new SdkEvent(JSON.parse(JSON.stringify(told)));
    assert.ok(event.validate());
    const headers = { 'content-type': 'application/cloudevents+json' };
    const received = HTTP.toEvent({ headers, body: JSON.stringify(told) });
    assert.ok(received instanceof SdkEvent);
    assert.deepEqual(JSON.parse(JSON.stringify(received)), JSON.parse(JSON.stringify(told)), told.type);
    // Names of attributes: lower-case letters and digits.
    for (const name of Object.keys(told)) assert.match(name, /^[a-z0-9]{1,20}$/);
    count += 1;
  }
  assert.ok(count >= eventNames().length, `${count}`);
  assert.throws(() => new SdkEvent({ type: 'x', source: '', id: '1' }).validate(), 'the SDK refuses what is none');
});

test('the SDK takes a batch as the API sends it', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  for (const event of everyEvent.slice(0, 20)) journal.append(event, 'x');
  const accept = 'application/cloudevents-batch+json';
  const response = await open(socketPath, '/v1/events?after=0', { headers: { accept } });
  const batch = HTTP.toEvent({ headers: { 'content-type': accept }, body: await text(response) });
  assert.ok(Array.isArray(batch) && batch.length >= 20);
  for (const event of batch) assert.ok(event instanceof SdkEvent && event.validate());
});

test('every event has the shape of its schema', () => {
  for (const event of everyEvent) {
    Event.parse(event);
    for (const told of cloudEvents(event, sampleNames, { cursor: 7, appendedAt: '2026-01-31T12:01:02.350Z' }))
      CloudEvent.parse(JSON.parse(JSON.stringify(told)));
  }
});

test('each name is told of what its description says that it comes from, in its type and severity', () => {
  for (const name of eventNames()) {
    for (const event of samplesOf(name)) {
      const told = tellings(event, sampleNames).find((each) => each.name === name);
      assert.ok(told, `${name}: ${event.body.type} is told as ${tellings(event)[0].name}`);
      assert.deepEqual([told.type, told.severity], [catalogue[name].type, catalogue[name].severity]);
    }
    const { from }: Description = DESCRIPTIONS[name];
    if ('notice' in from) from.notice.parse(from.example);
  }
  for (const body of everyBody()) {
    const [{ name }] = tellings(sampleEvent(body));
    assert.ok(Object.hasOwn(catalogue, name), `${name} is not in the catalogue`);
  }
});

test('each notice that the source tells is in the catalogue, and each one there is told', () => {
  const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.endsWith('.ts') && !path.startsWith('outlets/'),
  );
  const source = files.map((path) => readFileSync(join(root, 'src', path), 'utf8')).join('\n');
  const told = [
    ...source.matchAll(/\b(?:notice|tell)\(\s*(?:[a-z][\w.]* \? )?'([A-Z]\w+)'(?: : '([A-Z]\w+)')?/g),
    ...source.matchAll(/type: 'notice',\s*name: '([A-Z]\w+)'()/g),
  ].flatMap(([, one = '', other = '']) => [one, other].filter((name) => name !== ''));
  for (const name of told) assert.ok(Object.hasOwn(catalogue, name), `${name} is told, and not in the catalogue`);
  for (const must of [
    'NodeFencing',
    'NodeShutOut',
    'BitmapsRead',
    'WritesDisabled',
    'CopyHalted',
    'ArrayHeld',
    'JournalRewritten',
  ]) {
    assert.ok(told.includes(must), `the search finds ${must}`);
  }
  const named = eventNames().filter((name) => 'notice' in DESCRIPTIONS[name].from);
  for (const name of named) {
    // `Rebuild20` and so on are put together.
    const pattern = name.replace(/^Rebuild[0-9]+$/, 'Rebuild${');
    assert.ok(source.includes(`'${pattern}'`) || source.includes(`\`${pattern}`), `${name} is told nowhere`);
  }
});

test('docs/events.md is what the schemas and the catalogue say', () => {
  assert.equal(
    readFileSync(eventsDocPath, 'utf8'),
    eventsDoc(),
    'out of date: run scripts/events_doc.ts with the Node of this tree',
  );
});
