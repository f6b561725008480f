/**
 * Journal entries as CloudEvents 1.0 in JSON, and as a line for people. The `sequence` attribute follows the CloudEvents
 * extension of that name (a string, `sequencetype` Integer), `recordedtime` another; `cursor` is this node's journal position, to
 * resume from.
 */
import type { JournalEntry } from '../journal/index.ts';
import type { Event } from '../wire/messages.ts';
import { type Names, noNames, type Telling, tellings } from './catalogue.ts';
import type { CloudEvent } from './told.ts';

/** All tellings of one event. `entry`: where and when this node's journal took it. */
export function cloudEvents(
  event: Event,
  names: Names = noNames,
  entry?: Pick<JournalEntry, 'cursor' | 'appendedAt'>,
): CloudEvent[] {
  const id = `${event.origin}/${event.boot}/${event.sequence}`;
  const body = withoutCertificate(event);
  return tellings(event, names).map((telling, index) => ({
    specversion: '1.0',
    id: index === 0 ? id : `${id}/${telling.name}`,
    source: `/mdmesh/${encodeURIComponent(names.cluster)}/node/${event.origin}`,
    type: telling.type,
    subject: telling.subject,
    time: event.time,
    datacontenttype: 'application/json',
    sequence: String(event.sequence),
    sequencetype: 'Integer',
    severity: telling.severity,
    ...(entry === undefined ? {} : { recordedtime: entry.appendedAt, cursor: entry.cursor }),
    data: {
      name: telling.name,
      text: telling.text,
      origin: event.origin,
      term: event.term,
      array: uuidOfArray(event) ?? names.arrayNamed(telling.subject),
      member: telling.member,
      device: telling.member === null ? null : names.member(telling.member),
      body,
    },
  }));
}

function uuidOfArray({ body }: Event): string | null {
  if (body.type === 'commit') return body.record.uuid;
  return body.type === 'observation' ? body.observation.array : null;
}

function withoutCertificate(event: Event): CloudEvent['data']['body'] {
  if (event.body.type !== 'commit') return event.body;
  const { certificate: _, ...rest } = event.body;
  return rest;
}

/**
 * One line for people, without a newline: `12:01:02.345  n2  Fail              md0       member ubdb (…)`. Times are UTC, as
 * the origin's clock had them. Takes a wire event (its principal name is used) or what the API sent.
 */
export function eventLine(event: Event | CloudEvent, names: Names = noNames): string {
  if ('specversion' in event) {
    const { name, text, origin } = event.data;
    return line(event.time, origin, { name, subject: event.subject, text });
  }
  return line(event.time, event.origin, tellings(event, names)[0]);
}

function line(time: string, origin: number, telling: Pick<Telling, 'name' | 'subject' | 'text'>): string {
  const columns = [time.slice(11, 23), `n${origin}`.padEnd(3), telling.name.padEnd(17), telling.subject.padEnd(8)];
  // Words that came from a peer must not move the reader's cursor or colour his terminal.
  return printable([...columns, telling.text].join('  ').trimEnd());
}

/** Control characters (ANSI escapes, newlines) become `?`. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is searched for
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}
