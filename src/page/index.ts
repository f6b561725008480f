/**
 * page: what administrators see of the cluster in a browser. `browser/` runs there: it takes the API's status and events in, keeps
 * them as one state, draws that, and decides nothing. This side gives the agent's HTTP server its few files, which are built into
 * the program: nothing is fetched from elsewhere.
 */
import { gunzipSync } from 'node:zlib';
import type { FastifyInstance } from 'fastify';
import Negotiator from 'negotiator';
import { builtFiles } from './files.ts';

/** One file of the page, as it is sent. */
export interface PageFile {
  path: string;
  type: string;
  /** Quoted, as it stands in the header. */
  etag: string;
  gzipped: Uint8Array;
}

const PATHS: readonly string[] = ['/', '/page.js', '/page.css', '/icon.svg'];

/** Of such headers a browser that was handed something else, or is asked to show the page in another's frame, does neither. */
const HEADERS = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  // It is looked at again each time: the agent may be another version by then.
  'cache-control': 'no-cache',
  vary: 'Accept-Encoding',
};

/** The page holds nothing of the cluster, so it may be had without the token, for which it then asks. */
export function isOfPage(url: string): boolean {
  return PATHS.includes(url.split('?')[0] ?? '');
}

export function servePage(app: FastifyInstance): void {
  for (const path of PATHS) {
    app.get(path, async (request, reply) => {
      const file = (await builtFiles()).find((each) => each.path === path);
      if (file === undefined) return reply.code(404).send({ ok: false, text: `${path}: not in this program` });
      reply.headers({ ...HEADERS, etag: file.etag });
      if (request.headers['if-none-match'] === file.etag) return reply.code(304).send();
      reply.type(file.type);
      const takesGzip = new Negotiator(request.raw).encoding(['gzip', 'identity']) === 'gzip';
      if (takesGzip) reply.header('content-encoding', 'gzip');
      return reply.send(takesGzip ? Buffer.from(file.gzipped) : gunzipSync(file.gzipped));
    });
  }
}
