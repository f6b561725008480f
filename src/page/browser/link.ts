/** The way to the agent: history once, then two streams, over restarts of it. The token, where one is needed, lives here alone. */
import { createEventSource, type EventSourceClient, type FetchLike } from 'eventsource-client';
import type { JournalState, Status } from '../../outlets/status.ts';
import type { CloudEvent, StreamMark } from '../../outlets/told.ts';
import type { Action, Filter } from './model.ts';

/** Journal entries that are looked through: at the beginning, and when a filter is set. */
const HISTORY = 500;
const HISTORY_FILTERED = 9999;
const AGAIN_MS = 2000;
/** The status comes each second: after so long without, nobody is there, whatever TCP still hopes for. */
const SILENCE_MS = 6000;
const BATCH = 'application/cloudevents-batch+json';

export interface AgentLink {
  unlock(token: string): void;
  /** Fetches what a filter may find further back. */
  look(filter: Filter): void;
}

export function openLink(send: (action: Action) => void): AgentLink {
  let token: string | null = null;
  /** Until somebody has typed the token nothing is asked. */
  let locked = false;
  let streams: EventSourceClient[] = [];
  let silence: ReturnType<typeof setTimeout> | undefined;

  const withToken = (headers: Record<string, string>): Record<string, string> =>
    token === null ? headers : { ...headers, authorization: `Bearer ${token}` };

  /** @throws Error with words for people */
  const get = async (path: string, accept: string): Promise<Response> => {
    const response = await fetch(path, { headers: withToken({ accept }), cache: 'no-store', credentials: 'omit' });
    if (response.ok) return response;
    if (response.status === 401) lock();
    throw new Error(`the agent answers ${response.status}`);
  };

  const lock = (): void => {
    end();
    locked = true;
    send({ type: 'link', link: 'locked', ...(token === null ? {} : { why: 'That is not the token of this agent.' }) });
    token = null;
  };

  const end = (): void => {
    for (const stream of streams) stream.close();
    streams = [];
    clearTimeout(silence);
  };

  const lost = (why?: string): void => {
    if (!locked) send({ type: 'link', link: 'lost', ...(why === undefined ? {} : { why }) });
  };

  const follow = (path: string, after: string | null, take: (kind: string, text: string) => void): void => {
    const fetching: FetchLike = async (url, init) => {
      const response = await fetch(url, { ...init, headers: withToken(init?.headers ?? {}) });
      if (response.status === 401) lock();
      if (!response.ok) throw new Error(`the agent answers ${response.status}`);
      return response;
    };
    streams.push(
      createEventSource({
        url: path,
        fetch: fetching,
        credentials: 'omit',
        ...(after === null ? {} : { initialLastEventId: after }),
        onMessage: ({ event = '', data }) => take(event, data),
        onScheduleReconnect: () => lost(),
      }),
    );
  };

  const journal = async (): Promise<void> => {
    const seen: JournalState = await (await get('/v1/journal', 'application/json')).json();
    send({ type: 'journal', journal: seen });
  };

  const heardOf = (): void => {
    clearTimeout(silence);
    silence = setTimeout(() => lost('The agent has said nothing for some seconds.'), SILENCE_MS);
  };

  const begin = async (): Promise<void> => {
    end();
    try {
      const response = await get(`/v1/events?limit=${HISTORY}`, BATCH);
      const events: CloudEvent[] = await response.json();
      send({ type: 'history', events });
      await journal();
      follow('/v1/status', null, (_, text) => {
        const status: Status = JSON.parse(text);
        heardOf();
        send({ type: 'status', status, atSeconds: Date.now() / 1000 });
      });
      follow('/v1/events', response.headers.get('mdmesh-cursor'), (_, text) => {
        const told: CloudEvent | StreamMark = JSON.parse(text);
        if ('specversion' in told) {
          send({ type: 'event', event: told });
          if (told.data.body.type === 'checkpoint' || told.data.body.type === 'cosignature') {
            void journal().catch(() => undefined);
          }
        } else if (told.type === 'missed') send({ type: 'missed', count: told.count });
        else if (told.type === 'cursor-too-old') {
          // Its journal is another one, or has gone far on: begin again with what there is.
          send({ type: 'begun-anew' });
          void begin();
        }
      });
    } catch (error) {
      end();
      if (locked) return;
      lost(error instanceof Error ? error.message : String(error));
      setTimeout(() => void begin(), AGAIN_MS);
    }
  };

  void begin();
  return {
    unlock(given) {
      token = given;
      locked = false;
      void begin();
    },
    look({ severity, type, array, node }) {
      const query = new URLSearchParams({ limit: String(HISTORY_FILTERED) });
      for (const [name, value] of Object.entries({ severity, type, array, node })) {
        if (value !== '') query.set(name, value);
      }
      if (query.size === 1) return;
      void get(`/v1/events?${query}`, BATCH)
        .then(async (response) => {
          const events: CloudEvent[] = await response.json();
          send({ type: 'history', events });
        })
        .catch(() => undefined);
    },
  };
}
