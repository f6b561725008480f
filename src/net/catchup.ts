/** Catch-up's two messages: what has been asked, and one page of an answer, both bounded. */
import { CatchupPage, CatchupRequest } from '../wire/messages.ts';

/** 1,024 cursors of at most 90 bytes. */
export const requestBytesMax = 128 * 1024;
/** A page of 512 events of the longest kind would be 128 MiB: pages end by bytes, too. */
export const pageBytesMax = 4 * 1024 * 1024;
/** Streams at a time from one peer. */
export const inboundStreamsMax = 2;

export function encodeRequest(request: CatchupRequest): Uint8Array {
  return Buffer.from(JSON.stringify(request), 'utf8');
}

/** @throws Error with words */
export function decodeRequest(bytes: Uint8Array): CatchupRequest {
  return decode(CatchupRequest, bytes, 'request');
}

/** Leaves out what does not fit, and says then that there is more; the first event always goes. */
export function encodePage(page: CatchupPage): Uint8Array {
  let bytes = 64;
  const events: string[] = [];
  for (const event of page.events) {
    bytes += event.length + 3;
    if (events.length > 0 && (bytes > pageBytesMax || events.length === 512)) break;
    events.push(event);
  }
  return Buffer.from(JSON.stringify({ events, more: page.more || events.length < page.events.length }), 'utf8');
}

/** @throws Error with words */
export function decodePage(bytes: Uint8Array): CatchupPage {
  return decode(CatchupPage, bytes, 'page');
}

function decode<T>(
  schema: { safeParse(json: unknown): { success: true; data: T } | { success: false; error: { message: string } } },
  bytes: Uint8Array,
  what: string,
): T {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    throw new Error(`catch-up ${what} of ${bytes.byteLength} bytes that is not JSON`);
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success)
    throw new Error(`catch-up ${what} that does not fit its schema: ${parsed.error.message.slice(0, 200)}`);
  return parsed.data;
}
