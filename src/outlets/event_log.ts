/**
 * Events in the agent's log, with who decided what, in which term: one line for each that the journal takes in. Notices of this node
 * are not among them: the agent logs those in the moment in which it makes them.
 */
import type { Journal, JournalEntry } from '../journal/index.ts';
import type { ApiLog } from './api.ts';
import { type Names, tellings } from './catalogue.ts';
import { printable } from './cloud_event.ts';
import type { Severity } from './event_filter.ts';

export interface EventLogOptions {
  journal: Journal;
  self: number;
  names: Names;
  now: () => Date;
  log: ApiLog & { debug(fields: object, text: string): void };
}

/** What a node that was away catches up with is history: it stands in the journal. */
const LATE_MS = 300_000;

const LEVELS: Record<Severity, 'info' | 'warn' | 'error'> = {
  info: 'info',
  notice: 'info',
  warning: 'warn',
  critical: 'error',
};

/** Returns the way to stop it. */
export function logEvents({ journal, self, names, now, log }: EventLogOptions): () => void {
  return journal.onAppend((entry) => {
    const { event } = entry;
    if (event.body.type === 'notice' && event.origin === self) return;
    for (const { level, fields, text } of eventLogLines(entry, names)) {
      const isLate = now().getTime() - Date.parse(event.time) > LATE_MS;
      log[isLate ? 'debug' : level](fields, text);
    }
  });
}

/** Far more than our own words ever are; another node's may be as long as an event. */
const TEXT_MOST = 1000;

interface EventLogLine {
  level: 'debug' | 'info' | 'warn' | 'error';
  fields: Record<string, unknown>;
  text: string;
}

/** `origin` is who decided, or saw. `term` and `index` are the commit's; of anything else the term is what its node knew. */
export function eventLogLines({ cursor, event }: JournalEntry, names: Names): EventLogLine[] {
  const { body, origin } = event;
  const version = body.type === 'commit' ? body.record.version : null;
  return tellings(event, names).map((telling) => {
    const { name, subject, severity, text, member } = telling;
    const fields = {
      event: name,
      subject,
      origin,
      term: version?.term ?? event.term,
      index: version?.index ?? null,
      array: body.type === 'commit' ? body.record.md : /^md[0-9]+$/.test(subject) ? subject : null,
      member,
      cursor,
    };
    // Every two seconds while something is copied.
    const isRoutine = body.type === 'commit' && body.kind === 'resync-checkpoint';
    return {
      level: isRoutine ? 'debug' : LEVELS[severity],
      fields,
      text: printable(`${name} ${subject} by node ${origin}${text === '' ? '' : `: ${text}`}`).slice(0, TEXT_MOST),
    };
  });
}
