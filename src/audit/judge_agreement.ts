/** What several journals say of the same events; and each of itself: nothing twice, nothing of one start missing. */
import type { CheckedEvent } from './checker.ts';
import type { Finding } from './index.ts';
import type { AuditedEntry, AuditedJournal } from './read.ts';

/** The events of one start of one node's agent, by sequence, as all journals together have them. */
interface Stream {
  origin: number;
  bootNumber: number;
  /** The first that was found. */
  begin: AuditedEntry;
  events: Map<number, AuditedEntry>;
  /** What each journal has of it. */
  held: Map<AuditedJournal, Map<number, AuditedEntry>>;
}

/** @return also each event once, where it was found first; of two with one number both */
export function judgeAgreement(journals: readonly AuditedJournal[]): { findings: Finding[]; events: AuditedEntry[] } {
  const findings: Finding[] = [];
  const events: AuditedEntry[] = [];
  /** By digest: events whose number another one had already. */
  const doubles = new Set<string>();
  const streams = new Map<string, Stream>();
  const streamOf = (begin: AuditedEntry): Stream => {
    const { origin, bootNumber } = begin.event;
    const key = `${origin}/${bootNumber}`;
    const known = streams.get(key);
    if (known !== undefined) return known;
    const stream: Stream = { origin, bootNumber, begin, events: new Map(), held: new Map() };
    streams.set(key, stream);
    return stream;
  };
  for (const journal of journals) {
    let stream: Stream | null = null;
    let own = new Map<number, AuditedEntry>();
    for (const entry of journal.entries) {
      const { event } = entry;
      const { origin, bootNumber, sequence } = event;
      // Most often that of the entry before: a million keys are not made for nothing.
      if (stream?.origin !== origin || stream.bootNumber !== bootNumber) {
        stream = streamOf(entry);
        // What the only journal has is all that there is.
        own = stream.held.get(journal) ?? (journals.length === 1 ? stream.events : new Map<number, AuditedEntry>());
        stream.held.set(journal, own);
      }
      const { begin } = stream;
      const twice = own.get(sequence);
      const other = own === stream.events ? twice : stream.events.get(sequence);
      if (twice === undefined) own.set(sequence, entry);
      else findings.push(broken(entry, `event ${numberOf(event)} stands at cursor ${twice.cursor} already`));
      if (begin.event.boot !== event.boot) {
        const text = `start ${bootNumber} of node ${origin} is ${event.boot} here and ${begin.event.boot} ${placeIn(begin)}: two agents ran with one key`;
        findings.push(broken(entry, text));
      }
      if (other === undefined) {
        if (own !== stream.events) stream.events.set(sequence, entry);
        events.push(entry);
      } else if (other.event.digest !== event.digest) {
        if (!doubles.has(event.digest)) events.push(entry);
        doubles.add(event.digest);
        if (other.journal === journal) continue;
        const text = `event ${numberOf(event)} is another one ${placeIn(other)}: node ${origin} signed both`;
        findings.push(broken(entry, text));
      }
    }
  }
  for (const stream of streams.values()) {
    findings.push(...judgeHoles(stream, journals));
    findings.push(...judgeOwn(stream, journals));
  }
  for (const journal of journals.length === 1 ? [] : journals) {
    const behind = [...streams.values()].reduce((count, stream) => count + lackingIn(journal, stream).length, 0);
    if (behind === 0) continue;
    const text = `it has not (yet) learned ${behind} events of other nodes that the other journals have`;
    findings.push({
      severity: 'note',
      rule: 'agreement',
      journal: journal.name,
      file: null,
      line: null,
      cursor: null,
      text,
    });
  }
  return { findings, events };
}

/** An event of a start whose later events are known must be somewhere. */
function judgeHoles({ origin, bootNumber, events }: Stream, journals: readonly AuditedJournal[]): Finding[] {
  const sequences = [...events.keys()].sort((a, b) => a - b);
  const [first = 1] = sequences;
  const missing: number[] = [];
  // What was rotated away everywhere is not looked for.
  let next = journals.every(({ from }) => from > 0) ? first : 1;
  for (const sequence of sequences) {
    for (; next < sequence && missing.length < 1000; next++) missing.push(next);
    next = sequence + 1;
  }
  if (missing.length === 0) return [];
  const text = `${missing.length} events of node ${origin}'s start ${bootNumber} are in no journal, the first is ${origin}/${bootNumber}/${missing[0]}`;
  return [{ severity: 'open', rule: 'agreement', journal: null, file: null, line: null, cursor: null, text }];
}

/** What a node signed and others have, it has had itself. */
function judgeOwn(stream: Stream, journals: readonly AuditedJournal[]): Finding[] {
  const findings: Finding[] = [];
  for (const journal of journals) {
    if (journal.node !== stream.origin || journal.from > 0) continue;
    const missing = lackingOf(journal, stream);
    const [first] = missing;
    if (first === undefined) continue;
    const last = journal.entries.at(-1);
    const text = `${missing.length} events that node ${stream.origin} signed itself are not in its journal; the first is ${numberOf(first.event)}, ${placeIn(first)}: taken out, or not yet written when it crashed`;
    findings.push({
      severity: 'open',
      rule: 'agreement',
      journal: journal.name,
      file: last?.file ?? null,
      line: last?.line ?? null,
      cursor: last?.cursor ?? null,
      text,
    });
  }
  return findings;
}

function lackingIn(journal: AuditedJournal, stream: Stream): AuditedEntry[] {
  return journal.node === stream.origin || journal.from > 0 ? [] : lackingOf(journal, stream);
}

function lackingOf(journal: AuditedJournal, { events, held }: Stream): AuditedEntry[] {
  const own = held.get(journal);
  if (own?.size === events.size) return [];
  return [...events].flatMap(([sequence, entry]) => (own?.has(sequence) === true ? [] : [entry]));
}

export function numberOf({ origin, bootNumber, sequence }: CheckedEvent): string {
  return `${origin}/${bootNumber}/${sequence}`;
}

function placeIn({ cursor, journal }: AuditedEntry): string {
  return `in the journal of ${journal.name} at cursor ${cursor}`;
}

function broken({ journal, file, line, cursor }: AuditedEntry, text: string): Finding {
  return { severity: 'broken', rule: 'agreement', journal: journal.name, file, line, cursor, text };
}
