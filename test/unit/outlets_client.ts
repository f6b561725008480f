/** A caller of the API, on a socket or a port. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';

export interface Sent {
  method?: string;
  body?: string;
  headers?: Record<string, string>;
}

/** @param at path of a unix socket, or a port on 127.0.0.1 */
export async function open(at: string | number, path: string, sent: Sent = {}): Promise<IncomingMessage> {
  const where = typeof at === 'string' ? { socketPath: at } : { host: '127.0.0.1', port: at };
  const call = request({ ...where, path, method: sent.method ?? 'GET', agent: false, headers: sent.headers ?? {} });
  call.end(sent.body);
  const [response]: IncomingMessage[] = await once(call, 'response');
  assert.ok(response);
  return response;
}

export async function text(response: IncomingMessage): Promise<string> {
  let all = '';
  response.setEncoding('utf8');
  for await (const chunk of response) all += String(chunk);
  return all;
}

export async function call(
  at: string | number,
  path: string,
  sent: Sent = {},
): Promise<{ code: number; answer: unknown }> {
  const response = await open(at, path, sent);
  return { code: response.statusCode ?? 0, answer: JSON.parse(await text(response)) };
}

export function post(body: unknown): Sent {
  return { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
}

/** Reads a stream line by line; `next` waits for one. */
export function lineReader(response: IncomingMessage): { next(): Promise<Record<string, unknown>> } {
  const lines = (async function* () {
    let rest = '';
    response.setEncoding('utf8');
    for await (const chunk of response) {
      const parts = (rest + String(chunk)).split('\n');
      rest = parts.pop() ?? '';
      yield* parts;
    }
  })();
  return {
    async next() {
      const { value } = await lines.next();
      assert.equal(typeof value, 'string', 'the stream ended');
      return JSON.parse(String(value));
    },
  };
}

/** Without what stands behind the semicolon. */
export function typeOf(response: IncomingMessage): string {
  return (response.headers['content-type'] ?? '').split(';')[0] ?? '';
}
