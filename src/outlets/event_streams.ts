/**
 * Streams of events to subscribers: a snapshot and its end mark, then changes; or changes alone from a cursor on. The journal is
 * the buffer: nothing is queued for a subscriber but what its socket holds. One that falls more than `backlogMax` behind what is
 * being appended is moved on and told how many it missed and from where to fetch them.
 *
 * An entry is put into words once for all of them. A thousand subscribers take the loop some milliseconds an event, and a cluster's
 * writes may wait for that loop: so they are served in slices, between which everything else has its turn.
 */
import type { ServerResponse } from 'node:http';
import type { Cursor, Journal, JournalEntry } from '../journal/index.ts';
import type { Names } from './catalogue.ts';
import { cloudEvents } from './cloud_event.ts';
import { type EventFilter, passes } from './event_filter.ts';
import type { Status } from './status.ts';
import type { CloudEvent, StreamMark } from './told.ts';

export type StreamFormat = 'lines' | 'sse';

export interface StreamRequest {
  /** null: begin with a snapshot. */
  after: Cursor | null;
  /** Stay after the journal's end was reached. */
  follow: boolean;
  format: StreamFormat;
  filter: EventFilter;
}

export interface EventStreamsOptions {
  journal: Journal;
  status: () => Status;
  names: Names;
  /** How many entries a subscriber that once was up to date may fall behind. */
  backlogMax: number;
}

const PAGE_ENTRIES = 64;
/** About so much goes to a socket at a time: what a subscriber that does not read costs in memory. */
const WRITE_CHARACTERS = 32 * 1024;
/** Put into words and not thrown away: more than a subscriber that keeps up is ever behind. */
const KEPT_IN_WORDS = 256;
/** Subscribers served in one turn of the loop: a millisecond's work. */
const SLICE = 32;
/** Proxies cut off what says nothing; EventSource's own advice is 15 s. */
const BEAT_MS = 15_000;

interface Words {
  events: CloudEvent[];
  /** By format; empty until somebody wants it. */
  texts: Partial<Record<StreamFormat, string[]>>;
}

interface Subscriber {
  wake(): void;
  /** Waits for an entry, and not for its socket. */
  isWaiting: boolean;
}

export class EventStreams {
  readonly #options: EventStreamsOptions;
  readonly #subscribers = new Set<Subscriber>();
  readonly #words = new Map<Cursor, Words>();
  #stopListening: () => void = () => undefined;
  #isWaking = false;

  constructor(options: EventStreamsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#subscribers.size;
  }

  /** Events behind `after`, at most `limit` entries' worth of them; null: too old. `cursor`: where to go on. */
  batch(after: Cursor, limit: number, filter: EventFilter): { events: CloudEvent[]; cursor: Cursor } | null {
    const { journal } = this.#options;
    const { entries, tooOld } = journal.read(after, limit);
    if (tooOld) return null;
    const events = entries.flatMap((entry) => this.#wanted(entry, filter).map(({ event }) => event));
    return { events, cursor: entries.length < limit ? journal.head() : (entries.at(-1)?.cursor ?? after) };
  }

  /** Resolves when the stream has ended: all was sent and `follow` is false, or the subscriber went away. */
  async serve(response: ServerResponse, request: StreamRequest): Promise<void> {
    const { journal, status, backlogMax } = this.#options;
    const { format, filter } = request;
    let gone = response.destroyed;
    let wake: () => void = () => {};
    const subscriber: Subscriber = { wake: () => wake(), isWaiting: false };
    const leave = () => {
      gone = true;
      wake();
    };
    response.on('close', leave);
    response.on('error', leave);
    response.on('drain', () => wake());
    const nextWake = () =>
      new Promise<void>((resolve) => {
        wake = resolve;
      });
    const send = async (text: string) => {
      if (gone || text === '') return;
      response.write(text);
      while (!gone && response.writableNeedDrain) await nextWake();
    };
    const mark = (mark: StreamMark) => send(framed(format, mark.type, mark, mark.cursor));
    const snapshot = async (): Promise<Cursor> => {
      const cursor = journal.head();
      await mark({ type: 'snapshot', cursor, status: status() });
      await mark({ type: 'snapshot-end', cursor });
      return cursor;
    };
    let cursor = 0;
    // A filter may let nothing through for days: a browser that comes again must not be sent all of them.
    const beat =
      format === 'sse' && request.follow
        ? setInterval(() => {
            if (!gone && !response.writableNeedDrain) response.write(`: alive\nid: ${cursor}\n\n`);
          }, BEAT_MS)
        : null;

    this.#enter(subscriber);
    try {
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
        const page = journal.read(cursor, PAGE_ENTRIES);
        if (page.tooOld || (caughtUp && behind > backlogMax)) {
          const to = journal.head();
          await mark({ type: 'missed', count: to - cursor, after: cursor, cursor: to });
          cursor = to;
          continue;
        }
        const last = page.entries.at(-1);
        if (last === undefined) {
          if (!request.follow) break;
          caughtUp = true;
          subscriber.isWaiting = true;
          await nextWake();
          subscriber.isWaiting = false;
          continue;
        }
        // All tellings of one entry in one write: a subscriber that is cut off has all of them or none.
        let text = '';
        for (const entry of page.entries) {
          text += this.#text(entry, format, filter);
          if (text.length < WRITE_CHARACTERS && entry !== last) continue;
          await send(text);
          text = '';
          cursor = entry.cursor;
          if (gone || (caughtUp && journal.head() - cursor > backlogMax)) break;
        }
      }
    } finally {
      if (beat !== null) clearInterval(beat);
      this.#leave(subscriber);
      if (!response.destroyed) response.end();
    }
  }

  #enter(subscriber: Subscriber): void {
    if (this.#subscribers.size === 0) this.#stopListening = this.#options.journal.onAppend(() => this.#wakeAll());
    this.#subscribers.add(subscriber);
  }

  #leave(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber);
    if (this.#subscribers.size > 0) return;
    this.#stopListening();
    this.#words.clear();
  }

  /** Nobody is served in the turn in which an entry is appended: what the agent does with it comes first. */
  #wakeAll(): void {
    if (this.#isWaking) return;
    this.#isWaking = true;
    setImmediate(() => {
      this.#isWaking = false;
      this.#wakeSome([...this.#subscribers].filter(({ isWaiting }) => isWaiting));
    });
  }

  #wakeSome(waiting: Subscriber[]): void {
    for (const subscriber of waiting.splice(0, SLICE)) subscriber.wake();
    if (waiting.length > 0) setImmediate(() => this.#wakeSome(waiting));
  }

  #text(entry: JournalEntry, format: StreamFormat, filter: EventFilter): string {
    return this.#wanted(entry, filter)
      .map(({ words, index, event }) => {
        words.texts[format] ??= [];
        words.texts[format][index] ??= framed(format, event.type, event, entry.cursor);
        return words.texts[format][index];
      })
      .join('');
  }

  #wanted(entry: JournalEntry, filter: EventFilter): { words: Words; index: number; event: CloudEvent }[] {
    const words = this.#inWords(entry);
    return words.events.flatMap((event, index) => (passes(filter, event) ? [{ words, index, event }] : []));
  }

  /** Under the names that this node has for things when it first tells of them. */
  #inWords(entry: JournalEntry): Words {
    const kept = this.#words.get(entry.cursor);
    if (kept !== undefined) return kept;
    const words: Words = { events: cloudEvents(entry.event, this.#options.names, entry), texts: {} };
    if (this.#subscribers.size > 0) {
      this.#words.set(entry.cursor, words);
      const [oldest] = this.#words.keys();
      if (this.#words.size > KEPT_IN_WORDS && oldest !== undefined) this.#words.delete(oldest);
    }
    return words;
  }
}

export function framed(format: StreamFormat, kind: string, content: object, id: number | null): string {
  const json = JSON.stringify(content);
  if (format === 'lines') return `${json}\n`;
  // JSON.stringify leaves no raw newline, so one `data:` line is enough.
  return `event: ${kind}\n${id === null ? '' : `id: ${id}\n`}data: ${json}\n\n`;
}
