/**
 * The HTTP API, `/v1`: on the agent's unix socket whole (who may open it may do everything: its mode is the access rule), and on a
 * TCP port, if the configuration has one, what changes nothing.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import Negotiator from 'negotiator';
import type { z } from 'zod';
import { textOf } from '../error_text.ts';
import type { Journal } from '../journal/index.ts';
import { isOfPage, servePage } from '../page/index.ts';
import { Request } from '../wire/messages.ts';
import { type Access, refusal } from './access.ts';
import {
  BATCH,
  Cursor,
  EventsQuery,
  JSON_TYPE,
  LINES,
  NoQuery,
  OPENMETRICS,
  OPERATIONS,
  type Operation,
  type OperationName,
  PLAIN,
  SSE,
  StatusQuery,
} from './contract.ts';
import type { EventFilter } from './event_filter.ts';
import { EventStreams } from './event_streams.ts';
import type { AgentFace } from './index.ts';
import { journalState } from './journal_state.ts';
import { type Patience, patientServer } from './patience.ts';
import { listenOnPort, listenOnSocket } from './socket.ts';
import { streamStatus } from './status_stream.ts';

/** What this room needs of a logger; pino fits. */
export interface ApiLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

export interface ApiOptions extends Patience {
  face: AgentFace;
  journal: Journal;
  socketPath: string;
  modeOctal: number;
  /** Name or number of the group that gets the socket. @default the directory's rule */
  group?: string | null;
  /** The second listener. @default none */
  tcp?: { address: string; port: number; access: Access } | null;
  log: ApiLog;
  /** How many events a live subscriber may fall behind before it is moved on. @default 10000 */
  backlogMax?: number;
  /** How many may follow events or the status at once. @default 4096 */
  followersMax?: number;
}

const BODY_BYTES_MAX = 256 * 1024;
const BACKLOG_MAX = 10_000;
const FOLLOWERS_MAX = 4096;
const BATCH_ENTRIES = 100;
const STATUS_EVERY_MS = 1000;

/**
 * Serves until closed. Throws as `listenOnSocket` does: another agent runs, something else stands at the path, … A port that
 * cannot be had is logged, and no reason to leave the arrays alone. `close` cuts streams off and removes the socket file.
 */
export async function serveApi(options: ApiOptions): Promise<{ port: number | null; close(): Promise<void> }> {
  const { face, journal, log, tcp = null, backlogMax = BACKLOG_MAX } = options;
  const streams = new EventStreams({ journal, status: () => face.status(), names: face.names, backlogMax });
  const crowd = { followers: 0 };
  const opened: { server: Server; app: FastifyInstance }[] = [];
  const serve = async (access: Access | null, listen: (server: Server) => Promise<void>) => {
    const app = appFor({ ...options, streams, crowd, access });
    await app.ready();
    const server = patientServer(app.routing, options.followersMax ?? FOLLOWERS_MAX, options);
    await listen(server);
    opened.push({ server, app });
    return server;
  };
  await serve(null, (server) => listenOnSocket(server, options.socketPath, options.modeOctal, options.group ?? null));
  log.info({ socket: options.socketPath }, 'API listens');
  let port: number | null = null;
  if (tcp !== null) {
    try {
      const server = await serve(tcp.access, (server) => listenOnPort(server, tcp.address, tcp.port));
      const bound = server.address();
      port = typeof bound === 'object' ? (bound?.port ?? null) : null;
      log.info({ address: tcp.address, port }, 'API listens, read-only');
    } catch (error) {
      log.error({ address: tcp.address, port: tcp.port }, textOf(error));
    }
  }
  return {
    port,
    async close() {
      for (const { server, app } of opened) {
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        server.closeAllConnections();
        await closed;
        await app.close();
      }
    },
  };
}

interface AppOptions extends ApiOptions {
  streams: EventStreams;
  /** Of both listeners together. */
  crowd: { followers: number };
  /** null: the unix socket. */
  access: Access | null;
}

type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown;

function appFor(options: AppOptions): FastifyInstance {
  const { access, log } = options;
  const app = Fastify({ logger: false, bodyLimit: BODY_BYTES_MAX, exposeHeadRoutes: false });
  if (access !== null) {
    app.addHook('onRequest', async (request, reply) => {
      const refused = refusal(access, request.headers);
      if (refused === null || (refused.code === 401 && isOfPage(request.url))) return;
      if (refused.code === 401) reply.header('www-authenticate', 'Bearer realm="mdmesh"');
      await reply.code(refused.code).send({ ok: false, text: refused.text });
    });
  }
  const handlers = handlersFor(options);
  for (const name of operationNames()) {
    const operation: Operation = OPERATIONS[name];
    if (operation.local === true && access !== null) continue;
    const url = operation.path.replaceAll(/\{([a-z]+)\}/g, ':$1');
    app.route({
      method: operation.method,
      url,
      handler: (request, reply) => {
        const query = (operation.query ?? NoQuery).safeParse(request.query);
        if (!query.success) return badRequest(reply, query.error.issues.map(problemText));
        return handlers[name](request, reply);
      },
    });
  }
  servePage(app);
  app.setNotFoundHandler((request, reply) => {
    const rest = access === null ? '' : ' here; what changes something is on the unix socket alone';
    const text = `${request.method} ${request.url}: no such route${rest}; see GET ${OPERATIONS.document.path}`;
    return reply.code(404).send({ ok: false, text });
  });
  app.setErrorHandler((error, request, reply) => {
    const code = statusOf(error);
    if (code >= 500) log.error({ route: request.url, error: textOf(error) }, 'API call failed');
    return reply.code(code).send({ ok: false, text: textOf(error), problems: [textOf(error)] });
  });
  return app;
}

function operationNames(): OperationName[] {
  return Object.keys(OPERATIONS).filter((name): name is OperationName => Object.hasOwn(OPERATIONS, name));
}

function handlersFor(options: AppOptions): Record<OperationName, Handler> {
  const { face, journal, streams, log, access, crowd, followersMax = FOLLOWERS_MAX } = options;

  /** Hands the response over to a stream, which ends it. */
  const stream = async (reply: FastifyReply, type: string, run: (response: ServerResponse) => Promise<void>) => {
    if (crowd.followers >= followersMax) {
      const text = `${followersMax} readers follow already; end some of them`;
      return reply.code(503).send({ ok: false, text });
    }
    crowd.followers += 1;
    reply.hijack();
    reply.raw.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' });
    reply.raw.flushHeaders();
    try {
      await run(reply.raw);
    } catch (error) {
      // The head is out already: all that is left is to cut the stream, so that the reader comes again with its cursor.
      log.error({ error: textOf(error) }, 'stream broke');
      reply.raw.destroy();
    } finally {
      crowd.followers -= 1;
    }
    return reply;
  };

  return {
    document: async () => (await import('./openapi.ts')).openApiDocument(access === null),

    status: (request, reply) => {
      const type = accepted(request.raw, [JSON_TYPE, LINES, SSE]);
      if (type === null) return unknownFormat(reply, [JSON_TYPE, LINES, SSE]);
      const { follow, every_ms: everyMs } = StatusQuery.parse(request.query);
      const isFollowed = (follow ?? (type === SSE ? 'true' : 'false')) === 'true';
      if (!isFollowed && type !== SSE)
        return reply.type(type === LINES ? LINES : JSON_TYPE).send(statusText(face, type));
      const format = type === SSE ? 'sse' : 'lines';
      return stream(reply, type === SSE ? SSE : LINES, (response) =>
        streamStatus(response, () => face.status(), {
          format,
          everyMs: isFollowed ? Number(everyMs ?? STATUS_EVERY_MS) : null,
        }),
      );
    },
    nodes: () => face.status().nodes,
    arrays: () => face.status().arrays,
    array: (request, reply) => {
      const md = paramOf(request, 'md');
      const arrays = face.status().arrays;
      const array = arrays.find(({ record }) => record.md === md || record.uuid === md);
      if (array !== undefined) return array;
      const known = arrays.map(({ record }) => record.md).join(', ') || 'none';
      return reply.code(404).send({ ok: false, text: `array ${md}: not known here; known: ${known}` });
    },
    journal: () => journalState(journal, face.status()),

    disks: () => face.scan(),

    reports: () => face.reports(),

    metrics: async (request, reply) => {
      const type = accepted(request.raw, [OPENMETRICS, PLAIN]);
      if (type === null) return unknownFormat(reply, [OPENMETRICS, PLAIN]);
      const { metricsText } = await import('./metrics.ts');
      const metrics = await metricsText({ status: face.status(), followers: crowd.followers }, type === OPENMETRICS);
      return reply.header('content-type', metrics.type).send(metrics.text);
    },

    request: (request, reply) => {
      const { asked, problems } = parseRequest(request.body);
      return asked === null ? badRequest(reply, problems) : face.request(asked);
    },

    reload: () => face.reloadConfig(),

    handOver: () => face.handOver(),

    events: (request, reply) => {
      // The first is for whoever says nothing, or anything goes.
      const type = accepted(request.raw, [LINES, JSON_TYPE, SSE, BATCH]);
      if (type === null) return unknownFormat(reply, [LINES, SSE, BATCH]);
      const query = EventsQuery.parse(request.query);
      const filter: EventFilter = {
        types: query.type,
        arrays: query.array,
        nodes: query.node?.map(Number),
        severity: query.severity,
      };
      if (type === BATCH) {
        const limit = Number(query.limit ?? BATCH_ENTRIES);
        const after = query.after === undefined ? Math.max(0, journal.head() - limit) : Number(query.after);
        const batch = streams.batch(after, limit, filter);
        if (batch === null) {
          const text = `cursor ${after}: not in the journal any more; leave \`after\` out for the newest, or begin with a stream's snapshot`;
          return reply.code(410).send({ ok: false, text });
        }
        reply.header('mdmesh-cursor', String(batch.cursor)).type(BATCH);
        return reply.send(JSON.stringify(batch.events));
      }
      const format = type === SSE ? 'sse' : 'lines';
      // A browser's EventSource that reconnects gives its cursor in this header, and always wants to follow.
      const lastEventId = Cursor.safeParse(request.headers['last-event-id']);
      const after = query.after ?? (lastEventId.success ? lastEventId.data : null);
      const follow = query.follow === undefined ? format === 'sse' : query.follow === 'true';
      return stream(reply, type === SSE ? SSE : LINES, (response) =>
        streams.serve(response, { after: after === null ? null : Number(after), follow, format, filter }),
      );
    },
  };
}

/** Of what the caller can read the one that it likes best; null: it can read none of them. */
function accepted(request: IncomingMessage, types: string[]): string | null {
  return new Negotiator(request).mediaType(types) ?? null;
}

function statusText(face: AgentFace, type: string): string {
  return `${JSON.stringify(face.status())}${type === LINES ? '\n' : ''}`;
}

function paramOf(request: FastifyRequest, name: string): string {
  const { params } = request;
  if (typeof params !== 'object' || params === null) return '';
  return String(Object.entries(params).find(([key]) => key === name)?.[1] ?? '');
}

function badRequest(reply: FastifyReply, problems: string[]): FastifyReply {
  return reply.code(400).send({ ok: false, text: `bad request: ${problems.join('; ')}`, problems });
}

function unknownFormat(reply: FastifyReply, types: string[]): FastifyReply {
  return reply.code(406).send({ ok: false, text: `Accept: none of the formats that there are: ${types.join(', ')}` });
}

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
