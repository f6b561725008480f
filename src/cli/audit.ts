/** `mdmesh audit`: judges journals, shows and exports what stands in them. Needs no agent: files, and the node list. */
import { stringify } from 'csv-stringify/sync';
import type { AuditedCluster, Finding, JournalSummary, Verdict } from '../audit/index.ts';
import {
  eventsIn,
  type FoundEvent,
  findJournals,
  type NamedJournal,
  verifyJournals,
  withFormerLists,
} from '../audit/index.ts';
import { eventLine, printable } from '../outlets/cloud_event.ts';
import type { Context } from './context.ts';
import { Failure, textOf, UsageFailure } from './failure.ts';
import type { Spoken } from './requests.ts';
import { painter, table } from './table.ts';

export interface EventOptions extends Spoken {
  since?: Date;
  until?: Date;
  array?: string;
  node?: number;
  type?: string;
}

/** mdadm's habit: 0 well, 1 not, 2 asked wrongly; and a code of its own for what is neither. */
const exitCodes: Record<Verdict['outcome'], number> = { proved: 0, broken: 1, open: 3 };

export async function auditVerify(
  context: Context,
  words: string[],
  options: Spoken & { peers?: boolean },
): Promise<number> {
  const { terminal } = context;
  const { cluster, journals } = await given(context, words);
  const verdict = await read(() => verifyJournals({ cluster, journals, peers: options.peers ?? false }));
  terminal.out(options.json ? `${JSON.stringify(verdict)}\n` : verdictText(verdict, terminal.tty));
  return exitCodes[verdict.outcome];
}

export async function auditShow(context: Context, words: string[], options: EventOptions): Promise<number> {
  return tell(context, words, options, (out) => ({
    event: (found) => {
      for (const told of found.told)
        out(options.json ? `${JSON.stringify(told)}\n` : `${dayOf(told.time)} ${eventLine(told)}\n`);
    },
  }));
}

const columns = [
  'time',
  'node',
  'name',
  'type',
  'severity',
  'subject',
  'term',
  'text',
  'member',
  'id',
  'file',
  'cursor',
  'hash',
  'appendedAt',
] as const;

/** One row a telling; with the place and the hash of its entry, and in JSON with the envelope, which is the proof. */
export async function auditExport(
  context: Context,
  words: string[],
  options: EventOptions & { format: 'jsonl' | 'csv' },
): Promise<number> {
  const isCsv = options.format === 'csv' && !options.json;
  return tell(context, words, options, (out) => {
    if (isCsv) out(stringify([columns]));
    return {
      event: ({ told, event, file, cursor, hash, appendedAt, sealed }) => {
        if (!isCsv) {
          for (const each of told) out(`${JSON.stringify({ ...each, file, hash, appendedAt, sealed })}\n`);
          return;
        }
        const rows = told.map(({ id, time, type, severity, subject, data }) => {
          const { name, text, term, member } = data;
          return [
            time,
            event.origin,
            name,
            type,
            severity,
            subject,
            term,
            printable(text),
            member ?? '',
            id,
            file,
            cursor,
            hash,
            appendedAt,
          ];
        });
        // A cell that begins as a formula does must not be one for the reader's spreadsheet.
        out(stringify(rows, { escape_formulas: true }));
      },
    };
  });
}

async function tell(
  context: Context,
  words: string[],
  { since, until, array, node, type }: EventOptions,
  sink: (out: (text: string) => void) => { event(found: FoundEvent): void },
): Promise<number> {
  const { terminal } = context;
  const { cluster, journals } = await given(context, words);
  let complaints = 0;
  const complain = (text: string) => {
    complaints += 1;
    terminal.err(`mdmesh: ${text}\n`);
  };
  const filter = {
    ...(since === undefined ? {} : { since }),
    ...(until === undefined ? {} : { until }),
    ...(array === undefined ? {} : { array }),
    ...(node === undefined ? {} : { node }),
    ...(type === undefined ? {} : { type }),
  };
  const { event } = sink((text) => terminal.out(text));
  await read(async () => {
    for await (const found of eventsIn(journals, cluster.uuid, filter, complain)) event(found);
  });
  return complaints > 0 ? 1 : 0;
}

/** The node list, and the journals that were named, or this node's own. */
async function given(
  context: Context,
  words: string[],
): Promise<{ cluster: AuditedCluster; journals: NamedJournal[] }> {
  const config = await context.settings();
  const listed = {
    uuid: config.cluster.uuid,
    peerIds: new Map(config.nodes.map(({ id, peerId }) => [id, peerId])),
    nextPeerIds: new Map(
      config.nodes.flatMap(({ id, nextPeerId }) => (nextPeerId === undefined ? [] : [[id, nextPeerId]])),
    ),
    byDisks: config.quorum.by === 'disks',
  };
  const journals = await read(() => findJournals(words.length === 0 ? [config.stateDir] : words));
  const cluster = await read(() => withFormerLists(listed, journals));
  const ever = new Set([
    ...listed.peerIds.keys(),
    ...(cluster.former ?? []).flatMap(({ nodes }) => nodes.map(({ id }) => id)),
  ]);
  const stranger = journals.find(({ node }) => node !== null && !ever.has(node));
  if (stranger !== undefined) {
    const known = [...listed.peerIds.keys()].join(', ');
    throw new UsageFailure(`audit: node ${stranger.node} is not in the node list of ${config.file} (${known})`);
  }
  return { cluster, journals };
}

/** What the file system says becomes words of a command. */
async function read<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    throw error instanceof Failure ? error : new Failure(textOf(error));
  }
}

function dayOf(time: string): string {
  return time.slice(0, 10);
}

function verdictText({ outcome, journals, findings, entries, commits, terms }: Verdict, tty: boolean): string {
  const paint = painter(tty);
  const head = ['JOURNAL', 'FILES', 'ENTRIES', 'SIGNED', 'COSIGNED', 'BY'];
  const row = ({ journal, files, entries: count, signed, cosigned, cosigners }: JournalSummary) => [
    journal,
    String(files.length),
    String(count),
    String(signed),
    String(cosigned),
    cosigners.map((node) => `n${node}`).join(' ') || '-',
  ];
  const masters = terms.map(({ term, master, commits: made }) => `${term}: node ${master} (${made})`).join(', ');
  const lines = [
    table(head, journals.map(row), paint),
    `${commits} commits; masters by term: ${masters || 'none'}\n`,
    ...findings.map((finding) => findingText(finding)),
  ];
  const last = {
    proved: paint('green', `proved: all ${entries} entries`),
    open: paint('yellow', 'not all is proved, and nothing is proved wrong'),
    broken: paint('red', 'broken: these journals are not what their nodes wrote, or their nodes broke the rules'),
  };
  return `${lines.join('')}${last[outcome]}\n`;
}

function findingText({ severity, rule, journal, file, line, cursor, text }: Finding): string {
  const place = [
    journal,
    file === null ? null : `${file}${line === null ? '' : `:${line}`}`,
    cursor === null ? null : `cursor ${cursor}`,
  ].filter((part) => part !== null);
  return printable(
    `${severity.toUpperCase()} ${rule}: ${place.join(', ')}${place.length === 0 ? '' : ': '}${text}`,
  ).concat('\n');
}
