/** The events in journals, to be shown or exported: as they stand there. Whether they are true, `verifyJournals` says. */
import type { NodeId } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import { parseLine } from '../journal/chain.ts';
import { linesOf } from '../journal/chain_scan.ts';
import type { Names } from '../outlets/catalogue.ts';
import { cloudEvents } from '../outlets/cloud_event.ts';
import type { CloudEvent } from '../outlets/told.ts';
import { decodeUnverified } from '../wire/index.ts';
import type { Event } from '../wire/messages.ts';
import type { NamedJournal } from './journals.ts';

export interface EventFilter {
  since?: Date;
  until?: Date;
  /** Kernel name or UUID. */
  array?: string;
  node?: NodeId;
  /** Name in the catalogue (`Fail`), CloudEvents type, or what the event is in itself (`commit`). In any case of letters. */
  type?: string;
}

export interface FoundEvent {
  event: Event;
  /** All tellings that pass the filter. */
  told: CloudEvent[];
  file: string;
  cursor: number;
  hash: string;
  appendedAt: string;
  /** base64 of the envelope. */
  sealed: string;
}

/** Each event once, in the order of the files. @param complain what is no entry, or not understood */
export async function* eventsIn(
  journals: readonly NamedJournal[],
  cluster: string,
  filter: EventFilter,
  complain: (text: string) => void,
): AsyncGenerator<FoundEvent> {
  const seen = new Set<string>();
  const arrays = new Map<string, string>();
  const arrayNamed = (md: string) => [...arrays].findLast(([, name]) => name === md)?.[0] ?? null;
  const names: Names = { cluster, array: (uuid) => arrays.get(uuid) ?? null, arrayNamed, member: () => null };
  for (const file of journals.flatMap(({ files }) => files)) {
    let line = 0;
    for await (const { bytes } of linesOf(file)) {
      line += 1;
      const link = parseLine(bytes.toString('utf8'));
      if (link === null) {
        // The first line may be the head of a file.
        if (line > 1) complain(`${file}: line ${line} is no journal entry; see \`mdmesh audit verify\``);
        continue;
      }
      let event: Event;
      try {
        event = decodeUnverified(link.sealed);
      } catch (error) {
        complain(`${file}: line ${line}: ${textOf(error)}`);
        continue;
      }
      if (event.body.type === 'commit') arrays.set(event.body.record.uuid, event.body.record.md);
      const key = `${event.origin}/${event.bootNumber}/${event.sequence}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const told = cloudEvents(event, names, link).filter((each) => passes(each, event, filter, arrays));
      const { cursor, hash, appendedAt, sealed } = link;
      if (told.length > 0) yield { event, told, file, cursor, hash, appendedAt, sealed };
    }
  }
}

function passes(
  told: CloudEvent,
  event: Event,
  { since, until, array, node, type }: EventFilter,
  arrays: ReadonlyMap<string, string>,
): boolean {
  const atMs = Date.parse(event.time);
  if (since !== undefined && atMs < since.getTime()) return false;
  if (until !== undefined && atMs >= until.getTime()) return false;
  if (node !== undefined && event.origin !== node && told.subject !== `node/${node}`) return false;
  if (array !== undefined && told.subject !== array && told.subject !== (arrays.get(array) ?? null)) return false;
  if (type === undefined) return true;
  return [told.data.name, told.type, event.body.type].some((word) => word.toLowerCase() === type.toLowerCase());
}
