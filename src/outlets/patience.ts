/**
 * Whoever opens connections and never ends a request must not keep others out, nor take the descriptors that the agent needs for
 * its disks. A request has some seconds to arrive whole; of the connections on which none has, the newest are kept.
 */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { Socket } from 'node:net';

/** More than honest callers ever have under way: they send what they want at once. */
const UNFINISHED_MAX = 256;
const REQUEST_WITHIN_MS = 10_000;

/**
 * @param answersMax connections on which an answer may be under way, streams included; beyond these nobody is let in
 * @param requestWithinMs head and body; @default 10 s
 */
export function patientServer(
  serve: RequestListener,
  answersMax: number,
  requestWithinMs: number = REQUEST_WITHIN_MS,
): Server {
  const server = createServer(
    {
      headersTimeout: requestWithinMs,
      requestTimeout: requestWithinMs,
      connectionsCheckingInterval: Math.min(1000, requestWithinMs),
    },
    serve,
  );
  server.maxConnections = answersMax + UNFINISHED_MAX;
  /** Oldest first. */
  const unfinished = new Set<Socket>();
  const expect = (socket: Socket) => {
    if (socket.destroyed) return;
    unfinished.add(socket);
    const [oldest] = unfinished;
    if (unfinished.size > UNFINISHED_MAX && oldest !== undefined) {
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
