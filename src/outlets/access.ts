/** Who may read over TCP: whoever has the token; without one, programs on this machine, but not the pages that a browser shows. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

export interface Access {
  /** null: none is asked for, because the address is loopback. */
  token: string | null;
}

/** What a caller is told, or null: it may read. */
export function refusal({ token }: Access, headers: IncomingHttpHeaders): { code: 401 | 421; text: string } | null {
  if (token === null) {
    // A web page can make its own name point here and read what comes back, but then its name stands in this header.
    if (isLoopbackHost(headers.host ?? '')) return null;
    const text = `host ${headers.host ?? ''}: not a name of the loopback address; use 127.0.0.1, or set api.token_file`;
    return { code: 421, text };
  }
  const [, given = ''] = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '') ?? [];
  if (timingSafeEqual(digest(given), digest(token))) return null;
  return { code: 401, text: 'send the token of api.token_file: Authorization: Bearer …' };
}

function isLoopbackHost(host: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?$/i.test(host);
}

/** Of one length, so that the comparison takes the same time whatever was sent. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
