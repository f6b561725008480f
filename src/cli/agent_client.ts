/** The agent's API from the caller's side. Uses node:http alone: a command has to start fast on small machines. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { Disk } from '../md/driver.ts';
import type { ArrayStatus, CloudEvent, NodeReport, NodeStatus, Status } from '../outlets/index.ts';
import type { Request } from '../wire/messages.ts';
import { codeOf, Failure, textOf } from './failure.ts';

/** Reading answers from memory; anything slower means that the agent hangs. */
const readTimeoutMs = 10_000;
/** Scanning reads every disk of the node. */
const scanTimeoutMs = 60_000;
/** A request waits for the master, for fencing of a silent node, and for every writer. */
const requestTimeoutMs = 300_000;

/** Thrown when nobody listens on the socket. */
export class AgentAbsent extends Failure {
  override name = 'AgentAbsent';
}

export interface Outcome {
  ok: boolean;
  text: string;
}

export class AgentClient {
  readonly socketPath: string;

  constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  async status(): Promise<Status> {
    return checked(await this.#get('/v1/status', readTimeoutMs), isStatus, 'status');
  }

  async nodes(): Promise<NodeStatus[]> {
    return checked(await this.#get('/v1/nodes', readTimeoutMs), isListOf<NodeStatus>('node'), 'nodes');
  }

  async array(md: string): Promise<ArrayStatus> {
    return checked(await this.#get(`/v1/arrays/${encodeURIComponent(md)}`, readTimeoutMs), isArrayStatus, 'array');
  }

  async disks(): Promise<Disk[]> {
    return checked(await this.#get('/v1/disks', scanTimeoutMs), isListOf<Disk>('path'), 'disks');
  }

  async reports(): Promise<NodeReport[]> {
    return checked(await this.#get('/v1/reports', scanTimeoutMs), isListOf<NodeReport>('node'), 'reports');
  }

  async request(request: Request): Promise<Outcome> {
    const body = JSON.stringify(request);
    const response = await this.#open('POST', '/v1/requests', { timeoutMs: requestTimeoutMs, body });
    return checked(await json(response), isOutcome, 'outcome');
  }

  async reload(): Promise<Outcome> {
    const response = await this.#open('POST', '/v1/reload', { timeoutMs: requestTimeoutMs });
    return checked(await json(response), isOutcome, 'outcome');
  }

  /** ok: it is about to end, and another process to answer. */
  async handOver(): Promise<Outcome> {
    const response = await this.#open('POST', '/v1/hand-over', { timeoutMs: requestTimeoutMs });
    return checked(await json(response), isOutcome, 'outcome');
  }

  /** Lines of the event stream, until it ends or the signal says so. */
  async *events(after: number | null, signal: AbortSignal): AsyncGenerator<string> {
    yield* this.#lines(`/v1/events?follow=true${after === null ? '' : `&after=${after}`}`, signal);
  }

  /** The status, each second again, until the signal says so or the agent ends. */
  async *statuses(signal: AbortSignal): AsyncGenerator<Status> {
    for await (const line of this.#lines('/v1/status?follow=true', signal)) {
      yield checked(JSON.parse(line), isStatus, 'status');
    }
  }

  /** What the newest `limit` entries of the journal tell, and the cursor behind them. */
  async newestEvents(limit: number): Promise<{ events: CloudEvent[]; cursor: number }> {
    const response = await this.#open('GET', `/v1/events?limit=${limit}`, {
      timeoutMs: readTimeoutMs,
      headers: { accept: 'application/cloudevents-batch+json' },
    });
    const cursor = Number(response.headers['mdmesh-cursor']);
    return { events: checked(await json(response), isListOf<CloudEvent>('specversion'), 'events'), cursor };
  }

  async *#lines(path: string, signal: AbortSignal): AsyncGenerator<string> {
    const response = await this.#open('GET', path, {
      timeoutMs: null,
      signal,
      headers: { accept: 'application/x-ndjson' },
    });
    response.setEncoding('utf8');
    let rest = '';
    try {
      for await (const chunk of response) {
        const lines = (rest + String(chunk)).split('\n');
        rest = lines.pop() ?? '';
        yield* lines;
      }
    } catch (error) {
      // The agent ended, or the reader did: both end the stream.
      if (codeOf(error) !== 'ECONNRESET' && codeOf(error) !== 'ABORT_ERR') throw error;
    }
  }

  async #get(path: string, timeoutMs: number): Promise<unknown> {
    return json(await this.#open('GET', path, { timeoutMs }));
  }

  /** Resolves with a response of status 2xx; throws Failure with the agent's words for any other. */
  async #open(
    method: string,
    path: string,
    options: { timeoutMs: number | null; body?: string; signal?: AbortSignal; headers?: Record<string, string> },
  ): Promise<IncomingMessage> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const call = httpRequest(
        {
          socketPath: this.socketPath,
          method,
          path,
          agent: false,
          headers: {
            ...options.headers,
            ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          ...(options.signal === undefined ? {} : { signal: options.signal }),
        },
        resolve,
      );
      call.once('error', (error) => reject(this.#explained(error)));
      if (options.timeoutMs !== null) {
        call.setTimeout(options.timeoutMs, () => {
          const text = `agent at ${this.socketPath}: no answer to ${method} ${path} within ${options.timeoutMs} ms; see its log (journalctl -u mdmesh)`;
          call.destroy(new Failure(text));
        });
      }
      call.end(options.body);
    });
    if (response.statusCode !== undefined && response.statusCode < 300) return response;
    const answer = await json(response);
    throw new Failure(isOutcome(answer) ? answer.text : `agent answered ${response.statusCode} to ${method} ${path}`);
  }

  #explained(error: unknown): Error {
    if (error instanceof Failure) return error;
    const code = codeOf(error);
    switch (code) {
      case 'ENOENT':
      case 'ECONNREFUSED':
        return new AgentAbsent(
          `no agent answers on ${this.socketPath} (${code}); start it with \`systemctl start mdmesh\` or \`mdmesh agent\`, or name its socket with --socket`,
        );
      case 'EACCES':
      case 'EPERM':
        return new Failure(`socket ${this.socketPath}: ${code}; run as root, or as a user whom socket.mode lets in`);
      case 'ENOTSOCK':
        return new Failure(`socket ${this.socketPath}: is no socket; name the agent's with --socket`);
      default:
        return new Failure(`agent at ${this.socketPath}: ${textOf(error)}; is it being stopped? see its log`);
    }
  }
}

async function json(response: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk)));
  const text = Buffer.concat(chunks).toString('utf8');
  try {
    return JSON.parse(text);
  } catch {
    throw new Failure(`the agent's answer is no JSON: ${text.slice(0, 80)}; is something else listening there?`);
  }
}

function checked<T>(value: unknown, is: (value: unknown) => value is T, what: string): T {
  if (is(value)) return value;
  throw new Failure(`the agent's answer has not the shape of ${what}; are agent and command of one version?`);
}

function has(value: unknown, ...keys: string[]): boolean {
  return typeof value === 'object' && value !== null && keys.every((key) => Object.hasOwn(value, key));
}

function isStatus(value: unknown): value is Status {
  return has(value, 'cluster', 'self', 'lease', 'nodes', 'arrays', 'journal');
}

function isArrayStatus(value: unknown): value is ArrayStatus {
  return has(value, 'record', 'paths', 'reports');
}

function isOutcome(value: unknown): value is Outcome {
  return has(value, 'ok', 'text');
}

function isListOf<T>(key: string): (value: unknown) => value is T[] {
  return (value: unknown): value is T[] => Array.isArray(value) && value.every((each) => has(each, key));
}
