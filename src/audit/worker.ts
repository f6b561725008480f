/** One of the threads that check lines. */
import { parentPort, workerData } from 'node:worker_threads';
import { z } from 'zod';
import { EndedKey, ListedNode } from '../roster/list.ts';
import { type CheckedLine, Checker } from './checker.ts';
import { fastEd25519 } from './ed25519.ts';

const Setting = z.object({
  uuid: z.string(),
  peerIds: z.map(z.number(), z.string()),
  nextPeerIds: z.map(z.number(), z.string()),
  former: z.array(z.object({ nodes: z.array(ListedNode) })),
  ended: z.array(EndedKey),
  byDisks: z.boolean().optional(),
});
const Asked = z.object({ id: z.number(), bytes: z.instanceof(Uint8Array) });

export interface Answer {
  id: number;
  /** CheckedLine[] as JSON: it goes from thread to thread in half the time. */
  lines: string;
}

const port = parentPort;
if (port === null) throw new Error('audit: the worker runs in a thread of its own');
const checker = new Checker(Setting.parse(workerData), fastEd25519().verifies);
port.on('message', (message: unknown) => {
  const { id, bytes } = Asked.parse(message);
  const lines: CheckedLine[] = checker.check(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  port.postMessage({ id, lines: JSON.stringify(lines) } satisfies Answer);
});
