/**
 * One subscriber's stream of events: a snapshot and its end mark, then changes; or changes alone from a cursor on. The
 * journal is the buffer: nothing is queued for a subscriber but what its socket holds. One that falls more than
 * `backlogMax` behind what is being appended is moved on and told how many it missed and from where to fetch them.
 */
import type { ServerResponse } from 'node:http';
import type { Cursor, Journal, JournalEntry } from '../journal/index.ts';
import { namesFrom } from './catalogue.ts';
import { cloudEvents } from './cloud_event.ts';
import type { Status } from './index.ts';

/** Lines that are no events. Events have `specversion`, these have `type` alone. */
export type StreamMark =
  | { type: 'cursor-too-old'; after: Cursor; cursor: Cursor }
  | { type: 'snapshot'; cursor: Cursor; status: Status }
  | { type: 'snapshot-end'; cursor: Cursor }
  | { type: 'missed'; count: number; after: Cursor; cursor: Cursor };

export type StreamFormat = 'lines' | 'sse';

export interface StreamRequest {
  /** null: begin with a snapshot. */
  after: Cursor | null;
  /** Stay after the journal's end was reached. */
  follow: boolean;
  format: StreamFormat;
  backlogMax: number;
}

const pageEntries = 64;

/** Resolves when the stream has ended: all was sent and `follow` is false, or the subscriber went away. */
export async function streamEvents(
  response: ServerResponse,
  journal: Journal,
  status: () => Status,
  request: StreamRequest,
): Promise<void> {
  let gone = response.destroyed;
  let wake: () => void = () => {};
  const leave = () => {
    gone = true;
    wake();
  };
  response.on('close', leave);
  response.on('error', leave);
  response.on('drain', () => wake());
  const stopListening = journal.onAppend(() => wake());
  const nextWake = () =>
    new Promise<void>((resolve) => {
      wake = resolve;
    });
  const send = async (text: string) => {
    if (gone) return;
    response.write(text);
    while (!gone && response.writableNeedDrain) await nextWake();
  };
  const mark = (mark: StreamMark) => send(framed(request.format, mark.type, mark, mark.cursor));
  const snapshot = async (): Promise<Cursor> => {
    const cursor = journal.head();
    await mark({ type: 'snapshot', cursor, status: status() });
    await mark({ type: 'snapshot-end', cursor });
    return cursor;
  };

  try {
    let cursor: Cursor;
    if (request.after === null) {
      cursor = await snapshot();
    } else if (request.after > journal.head() || journal.read(request.after, 1).tooOld) {
      await mark({ type: 'cursor-too-old', after: request.after, cursor: journal.head() });
      cursor = await snapshot();
    } else {
      cursor = request.after;
    }
    // History is sent at the reader's pace; only one who once was up to date can fall behind.
    let caughtUp = request.after === null;
    while (!gone) {
      const behind = journal.head() - cursor;
      if (caughtUp && behind > request.backlogMax) {
        const to = journal.head();
        await mark({ type: 'missed', count: behind, after: cursor, cursor: to });
        cursor = to;
        continue;
      }
      const page = journal.read(cursor, pageEntries);
      if (page.tooOld) {
        const to = journal.head();
        await mark({ type: 'missed', count: to - cursor, after: cursor, cursor: to });
        cursor = to;
        continue;
      }
      if (page.entries.length === 0) {
        if (!request.follow) break;
        caughtUp = true;
        await nextWake();
        continue;
      }
      const names = namesFrom(status());
      for (const entry of page.entries) {
        await send(entryText(entry, request.format, names));
        cursor = entry.cursor;
        if (gone || (caughtUp && journal.head() - cursor > request.backlogMax)) break;
      }
    }
  } finally {
    stopListening();
    if (!response.destroyed) response.end();
  }
}

/** All tellings of one entry in one write: a subscriber that is cut off has all of them or none. */
function entryText(entry: JournalEntry, format: StreamFormat, names: ReturnType<typeof namesFrom>): string {
  return cloudEvents(entry.event, names, entry.cursor)
    .map((event) => framed(format, event.type, event, entry.cursor))
    .join('');
}

function framed(format: StreamFormat, kind: string, content: object, cursor: Cursor): string {
  const json = JSON.stringify(content);
  // JSON.stringify leaves no raw newline, so one `data:` line is enough.
  return format === 'lines' ? `${json}\n` : `event: ${kind}\nid: ${cursor}\ndata: ${json}\n\n`;
}
