/**
 * What the API answers: its operations, each with what it takes and gives. The served document is made of this, and the routes are
 * bound to it: none can be there that it does not name.
 */
import { z } from 'zod';
import { Request } from '../wire/messages.ts';
import { isTypeWord } from './event_filter.ts';
import { ArrayStatus, DiskFound, JournalState, NodeReport, NodeStatus, Status } from './status.ts';
import { CloudEvent, Severity } from './told.ts';

export const Cursor = z
  .string()
  .regex(/^[0-9]{1,15}$/, 'not a cursor: a whole number from 0 on, as `cursor` of an event');

/** Once, several times, or with commas between them. */
const listOf = (what: z.ZodString) =>
  z
    .union([z.string(), z.array(z.string())])
    .transform((given) => [given].flat().flatMap((text) => text.split(',')))
    .pipe(z.array(what));

const YesNo = z.enum(['true', 'false']);

export const EventsQuery = z.strictObject({
  after: Cursor.optional().describe('Begin behind this cursor, without a snapshot. It goes before `Last-Event-ID`.'),
  follow: YesNo.optional().describe(
    'Stay, and send what happens. Default: false for JSON lines, true for server-sent events.',
  ),
  type: listOf(
    z
      .string()
      .refine(
        isTypeWord,
        'not a type: a name (Fail), a type (io.mdmesh.array.fail) or its beginning (io.mdmesh.array.*)',
      ),
  )
    .optional()
    .describe('Names, CloudEvents types, or the beginning of types (`io.mdmesh.array.*`).'),
  array: listOf(z.string().min(1)).optional().describe('md names or UUIDs.'),
  node: listOf(z.string().regex(/^[1-9][0-9]?$/, 'not a node ID: 1 to 64'))
    .optional()
    .describe('IDs of nodes that events are about or come from.'),
  severity: Severity.optional().describe('At least so severe.'),
  limit: z
    .string()
    .regex(/^[1-9][0-9]{0,3}$/, 'not a number from 1 to 9999')
    .optional()
    .describe('Of a batch: how many journal entries are looked at. Default 100.'),
});

export const StatusQuery = z.strictObject({
  follow: YesNo.optional().describe(
    'Stay, and send the status again when it has changed. Default true for server-sent events.',
  ),
  every_ms: z
    .string()
    .regex(/^[1-9][0-9]{2,4}$/, 'not a number from 100 to 99999')
    .optional()
    .describe('How often it is looked at. Default 1000.'),
});

/** Of an operation that takes none: a typo must not be dropped silently. */
export const NoQuery = z.strictObject({});

export const Problem = z.object({
  ok: z.literal(false),
  text: z.string().describe('What is wrong, with which value, and what to do.'),
  problems: z.array(z.string()).optional().describe('Each of them, where there are several.'),
});

export const Outcome = z.object({
  ok: z.boolean().describe('false: refused or failed; nothing is half done.'),
  text: z.string(),
});

/** A body's media types, each with its schema, or with what a reader is told of a body that no JSON schema describes. */
type Content = Record<string, z.ZodType | string>;

export interface Operation {
  method: 'GET' | 'POST';
  /** With parameters as `{md}`. */
  path: string;
  summary: string;
  about?: string;
  /** It changes something, or costs so much that strangers should not ask for it: on the unix socket alone. */
  local?: true;
  params?: Record<string, string>;
  query?: z.ZodObject;
  body?: z.ZodType;
  answers: Record<number, { about: string; content: Content; headers?: Record<string, string> }>;
}

export const LINES = 'application/x-ndjson';
export const SSE = 'text/event-stream';
export const BATCH = 'application/cloudevents-batch+json';
export const JSON_TYPE = 'application/json';
export const OPENMETRICS = 'application/openmetrics-text';
/** Prometheus' older form. */
export const PLAIN = 'text/plain';

const json = (about: string, schema: z.ZodType) => ({ about, content: { [JSON_TYPE]: schema } });
const bad = json('Something in the query is wrong; nothing was done.', Problem);
const unknownFormat = json('None of the formats in `Accept` is one of these.', Problem);

export const OPERATIONS = {
  document: {
    method: 'GET',
    path: '/v1/openapi.json',
    summary: 'This document',
    answers: { 200: json('An OpenAPI 3.1 document.', z.looseObject({ openapi: z.string() })), 400: bad },
  },
  status: {
    method: 'GET',
    path: '/v1/status',
    summary: 'What this node sees: lease, nodes, arrays',
    about: 'With `Accept: text/event-stream`, or `follow=true`, it is sent again and again.',
    query: StatusQuery,
    answers: {
      200: {
        about: 'The status.',
        content: {
          [JSON_TYPE]: Status,
          [LINES]: 'One `Status` a line.',
          [SSE]: 'Events of the type `status`, each with a `Status` as its data.',
        },
      },
      400: bad,
      406: unknownFormat,
      503: json('Too many readers follow something already.', Problem),
    },
  },
  nodes: {
    method: 'GET',
    path: '/v1/nodes',
    summary: 'The nodes, as this one sees them',
    answers: { 200: json('In the order of the list.', z.array(NodeStatus)), 400: bad },
  },
  arrays: {
    method: 'GET',
    path: '/v1/arrays',
    summary: 'The arrays that are known here',
    answers: { 200: json('All of them.', z.array(ArrayStatus)), 400: bad },
  },
  array: {
    method: 'GET',
    path: '/v1/arrays/{md}',
    summary: 'One array',
    params: { md: 'md name or UUID' },
    answers: { 200: json('That array.', ArrayStatus), 400: bad, 404: json('Not known here.', Problem) },
  },
  journal: {
    method: 'GET',
    path: '/v1/journal',
    summary: 'This node’s journal: how far it is, and how far it is signed',
    answers: { 200: json('As it is now.', JournalState), 400: bad },
  },
  disks: {
    method: 'GET',
    path: '/v1/disks',
    summary: 'This node’s disks, with what stands on them',
    about: 'Reads every one of them.',
    local: true,
    answers: {
      200: json('All that could be members.', z.array(DiskFound)),
      400: bad,
      500: json('They could not be read.', Problem),
    },
  },
  reports: {
    method: 'GET',
    path: '/v1/reports',
    summary: 'What `mdmesh doctor` finds on each other node',
    about:
      'Each agent runs it for that, which takes a second, or half a minute where a disk or a port does not answer.',
    local: true,
    answers: { 200: json('One for each other node of the list.', z.array(NodeReport)), 400: bad },
  },
  request: {
    method: 'POST',
    path: '/v1/requests',
    summary: 'Ask the cluster to do something',
    about:
      'The agent carries it to the master, and the answer comes when it is done or refused: after minutes, if a silent node must be fenced first. Device paths are this node’s.',
    local: true,
    body: Request,
    answers: {
      200: json('Done, or refused with its reason.', Outcome),
      400: json('Not understood; each problem is named.', Problem),
    },
  },
  reload: {
    method: 'POST',
    path: '/v1/reload',
    summary: 'Read the configuration again',
    about:
      'All of the file or nothing. The words tell what was taken up, or why nothing was, and what a node list waits for.',
    local: true,
    answers: { 200: json('What came of it.', Outcome), 400: bad },
  },
  handOver: {
    method: 'POST',
    path: '/v1/hand-over',
    summary: 'Start the program anew in the agent’s place',
    about:
      'For an upgrade: the program is read from where the agent was started from. Writes go on. When it is done the successor is about to take over, and answers on the socket a moment later; else the agent goes on as before, and the words tell why.',
    local: true,
    answers: { 200: json('What came of it.', Outcome), 400: bad },
  },
  events: {
    method: 'GET',
    path: '/v1/events',
    summary: 'Events: a snapshot, its end, then what happens; or what happened since a cursor',
    about: [
      'Without `after` (or `Last-Event-ID`) a stream begins with the marks `snapshot` and `snapshot-end`; with it, behind that cursor.',
      'A cursor that is too old gives the mark `cursor-too-old`, then a snapshot. Who reads too slowly gets `missed` in place of what was left out.',
      'A batch (`Accept: application/cloudevents-batch+json`) is one page: without `after` the newest entries.',
    ].join(' '),
    query: EventsQuery,
    answers: {
      200: {
        about: 'A stream, or a batch.',
        content: {
          [LINES]: 'One `StreamLine` a line: a `CloudEvent` (it has `specversion`) or a `StreamMark`.',
          [SSE]: 'The same lines as data; the event type is the CloudEvents type or the mark’s, the id is the cursor.',
          [BATCH]: z.array(CloudEvent),
        },
        headers: { 'mdmesh-cursor': 'Of a batch: `after` of the next one.' },
      },
      400: bad,
      406: unknownFormat,
      410: json('Of a batch: the cursor is not in the journal any more.', Problem),
      503: json('Too many readers follow something already.', Problem),
    },
  },
  metrics: {
    method: 'GET',
    path: '/metrics',
    summary: 'What this node sees, as numbers',
    answers: {
      200: {
        about: 'OpenMetrics, or the text format of Prometheus.',
        content: { [OPENMETRICS]: 'OpenMetrics 1.0.0.', [PLAIN]: 'Text format 0.0.4.' },
      },
      400: bad,
      406: unknownFormat,
    },
  },
} as const satisfies Record<string, Operation>;

export type OperationName = keyof typeof OPERATIONS;
