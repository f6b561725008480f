/** Events and envelopes for the journal's tests; unsigned, because the journal leaves signatures to wire. */
import { Event } from '#src/wire/messages.ts';
import { record } from '../compliance/records.ts';

export const CLUSTER = '5c9e6c1f-6f0d-4f0b-9a55-0d9b1a3c7e42';

export function event(origin: number, bootNumber: number, sequence: number): Event {
  return {
    cluster: CLUSTER,
    origin,
    boot: `00000000-0000-4000-8000-${String(bootNumber).padStart(12, '0')}`,
    bootNumber,
    sequence,
    time: '2026-01-02T03:04:05.678Z',
    term: 1,
    body: { type: 'leave', reason: `event ${origin}/${bootNumber}/${sequence}` },
  };
}

/** The commit of index `index` of one array. */
export function commit(origin: number, bootNumber: number, sequence: number, index = sequence): Event {
  return Event.parse({
    ...event(origin, bootNumber, sequence),
    body: {
      type: 'commit',
      kind: index === 0 ? 'create' : 'add',
      record: record({ events: index + 1, version: { term: 1, index } }),
      before: index === 0 ? null : { term: 1, index: index - 1 },
      detail: {},
      certificate: [],
    },
  });
}

export function seal(sample: Event): string {
  return Buffer.from(JSON.stringify(sample)).toString('base64');
}

export function decode(sealed: string): Event {
  return Event.parse(JSON.parse(Buffer.from(sealed, 'base64').toString('utf8')));
}

/** A clock that moves on by a second each time it is read. */
export function clock(): () => Date {
  let ms = Date.UTC(2026, 0, 2, 3, 4, 5);
  return () => {
    ms += 1000;
    return new Date(ms);
  };
}
