/** The local HTTP API on the agent's unix socket, `/v1`. Who may open the socket may do everything: its mode is the access rule. */
import { createServer } from 'node:http';
import Fastify, { type FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { Journal } from '../journal/index.ts';
import { Request } from '../wire/messages.ts';
import { type StreamFormat, streamEvents } from './event_stream.ts';
import type { AgentFace } from './index.ts';
import { listenOnSocket } from './socket.ts';

/** What this room needs of a logger; pino fits. */
export interface ApiLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

export interface ApiOptions {
  face: AgentFace;
  journal: Journal;
  socketPath: string;
  modeOctal: number;
  log: ApiLog;
  /** How many events a live subscriber may fall behind before it is moved on. @default 10000 */
  backlogMax?: number;
}

const bodyBytesMax = 256 * 1024;
const backlogMaxDefault = 10_000;

/**
 * Serves until closed. Throws as `listenOnSocket` does: another agent runs, something else stands at the path, …
 * `close` cuts event streams off and removes the socket file.
 */
export async function serveApi(options: ApiOptions): Promise<{ close(): Promise<void> }> {
  const app = Fastify({ logger: false, bodyLimit: bodyBytesMax });
  addRoutes(app, options);
  await app.ready();
  const server = createServer(app.routing);
  await listenOnSocket(server, options.socketPath, options.modeOctal);
  options.log.info({ socket: options.socketPath }, 'API listens');
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      await app.close();
    },
  };
}

function addRoutes(app: FastifyInstance, { face, journal, log, backlogMax = backlogMaxDefault }: ApiOptions): void {
  app.get('/v1/status', () => face.status());
  app.get('/v1/nodes', () => face.status().nodes);
  app.get('/v1/arrays', () => face.status().arrays);
  app.get<{ Params: { md: string } }>('/v1/arrays/:md', (request, reply) => {
    const { md } = request.params;
    const arrays = face.status().arrays;
    const array = arrays.find(({ record }) => record.md === md || record.uuid === md);
    if (array !== undefined) return array;
    const known = arrays.map(({ record }) => record.md).join(', ') || 'none';
    return reply.code(404).send({ ok: false, text: `array ${md}: not known here; known: ${known}` });
  });
  app.get('/v1/disks', () => face.scan());

  app.post('/v1/requests', async (request, reply) => {
    const { asked, problems } = parseRequest(request.body);
    if (asked === null) {
      return reply.code(400).send({ ok: false, text: `bad request: ${problems.join('; ')}`, problems });
    }
    return face.request(asked);
  });

  app.post('/v1/reload', () => face.reloadConfig());

  app.get('/v1/events', async (request, reply) => {
    const format: StreamFormat = request.headers.accept?.includes('text/event-stream') ? 'sse' : 'lines';
    const query = EventsQuery.safeParse(request.query);
    if (!query.success) {
      const problems = query.error.issues.map(problemText);
      return reply.code(400).send({ ok: false, text: `bad request: ${problems.join('; ')}`, problems });
    }
    // A browser's EventSource that reconnects gives its cursor in this header, and always wants to follow.
    const lastEventId = Cursor.safeParse(request.headers['last-event-id']);
    const after = query.data.after ?? (lastEventId.success ? lastEventId.data : null);
    const follow = query.data.follow ?? format === 'sse';
    reply.hijack();
    reply.raw.writeHead(200, {
      'content-type': format === 'sse' ? 'text/event-stream' : 'application/x-ndjson',
      'cache-control': 'no-store',
    });
    reply.raw.flushHeaders();
    try {
      await streamEvents(reply.raw, journal, () => face.status(), { after, follow, format, backlogMax });
    } catch (error) {
      // The head is out already: all that is left is to cut the stream, so that the reader comes again with its cursor.
      log.error({ error: textOf(error) }, 'event stream broke');
      reply.raw.destroy();
    }
  });

  app.setNotFoundHandler((request, reply) =>
    reply.code(404).send({ ok: false, text: `${request.method} ${request.url}: no such route; see GET /v1/status` }),
  );
  app.setErrorHandler((error, request, reply) => {
    const code = statusOf(error);
    if (code >= 500) log.error({ route: request.url, error: textOf(error) }, 'API call failed');
    return reply.code(code).send({ ok: false, text: textOf(error), problems: [textOf(error)] });
  });
}

const Cursor = z
  .string()
  .regex(/^[0-9]{1,15}$/, 'not a cursor: a whole number from 0 on, as `cursor` of an event')
  .transform(Number);
const EventsQuery = z.strictObject({
  after: Cursor.optional(),
  follow: z
    .enum(['true', 'false'])
    .transform((word) => word === 'true')
    .optional(),
});

/** Either the request, or every problem in it. A key that the verb does not have is a problem: a typo must not be dropped silently. */
function parseRequest(body: unknown): { asked: Request | null; problems: string[] } {
  const parsed = Request.safeParse(body);
  const problems = parsed.success ? [] : parsed.error.issues.map(problemText);
  problems.push(...unknownKeys(body));
  return { asked: parsed.success && problems.length === 0 ? parsed.data : null, problems };
}

function unknownKeys(body: unknown): string[] {
  if (typeof body !== 'object' || body === null || !('verb' in body)) return [];
  const option = Request.options.find((each) => each.shape.verb.value === body.verb);
  if (option === undefined) return [];
  return Object.keys(body)
    .filter((key) => !Object.hasOwn(option.shape, key))
    .map((key) => `${key}: not a key of ${option.shape.verb.value}`);
}

function problemText(issue: z.core.$ZodIssue): string {
  const path = issue.path.map(String).join('.');
  return path === '' ? issue.message : `${path}: ${issue.message}`;
}

function statusOf(error: unknown): number {
  if (typeof error === 'object' && error !== null && 'statusCode' in error && typeof error.statusCode === 'number') {
    return error.statusCode;
  }
  return 500;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
