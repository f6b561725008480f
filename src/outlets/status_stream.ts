/** The status again and again, for a page or a terminal that shows it. Nothing is measured while nobody looks. */
import type { ServerResponse } from 'node:http';
import { framed, type StreamFormat } from './event_streams.ts';
import type { Status } from './status.ts';

/** Resolves when the reader went away, or at once. @param everyMs null: once */
export async function streamStatus(
  response: ServerResponse,
  status: () => Status,
  { format, everyMs }: { format: StreamFormat; everyMs: number | null },
): Promise<void> {
  const send = () => {
    // One that reads too slowly gets fewer of them: each is whole.
    if (!response.destroyed && !response.writableNeedDrain) response.write(framed(format, 'status', status(), null));
  };
  send();
  if (everyMs === null) {
    response.end();
    return;
  }
  const timer = setInterval(send, everyMs);
  await new Promise<void>((resolve) => {
    response.once('close', resolve);
    if (response.destroyed) resolve();
  });
  clearInterval(timer);
}
