/**
 * Whoever opens connections and never ends a request must not keep others out, nor take the descriptors that the agent needs for
 * its disks. A request has some seconds to arrive whole; of the connections on which none has, the newest are kept.
 */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { Socket } from 'node:net';

/** More than honest callers ever have under way. They send what they want at once, but a thousand may come in one turn of the loop. */
const UNFINISHED_MAX = 2048;
const REQUEST_WITHIN_MS = 10_000;

export interface Patience {
  /** Head and body. @default 10 s */
  requestWithinMs?: number | undefined;
  /** Connections on which no request has arrived yet. @default 2048 */
  unfinishedMax?: number | undefined;
}

/** @param answersMax connections on which an answer may be under way, streams included; beyond these nobody is let in */
export function patientServer(
  serve: RequestListener,
  answersMax: number,
  { requestWithinMs = REQUEST_WITHIN_MS, unfinishedMax = UNFINISHED_MAX }: Patience = {},
): Server {
  const server = createServer(
    {
      headersTimeout: requestWithinMs,
      requestTimeout: requestWithinMs,
      connectionsCheckingInterval: Math.min(1000, requestWithinMs),
    },
    serve,
  );
  server.maxConnections = answersMax + unfinishedMax;
  /** Oldest first. */
  const unfinished = new Set<Socket>();
  const expect = (socket: Socket) => {
    if (socket.destroyed) return;
    unfinished.add(socket);
    const [oldest] = unfinished;
    if (unfinished.size > unfinishedMax && oldest !== undefined) {
      unfinished.delete(oldest);
      oldest.destroy();
    }
  };
  server.on('connection', (socket: Socket) => {
    expect(socket);
    socket.once('close', () => unfinished.delete(socket));
  });
  server.on('request', (request, response) => {
    const { socket, headers } = request;
    const hasBody = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
    if (hasBody) request.once('end', () => unfinished.delete(socket));
    else unfinished.delete(socket);
    // A connection that is kept for another request.
    response.once('close', () => expect(socket));
  });
  return server;
}
