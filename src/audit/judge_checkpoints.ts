/** Checkpoints against the journals that they are about, against each other, and their cosignatures. */
import type { NodeId } from '../arrays/record.ts';
import { isConsistent, leafOf } from '../journal/merkle.ts';
import type { Finding, JournalSummary } from './index.ts';
import { numberOf } from './judge_agreement.ts';
import type { AuditedEntry, AuditedJournal, AuditedLog } from './read.ts';

interface Signed {
  node: NodeId;
  log: string;
  origin: string;
  size: number;
  root: string;
  previous: number;
  proof: string[];
  entry: AuditedEntry;
  journal: AuditedJournal;
}

interface Cosigned {
  by: NodeId;
  origin: string;
  size: number;
  root: string;
  entry: AuditedEntry;
  journal: AuditedJournal;
}

/** Says of each journal whose it is, where only its checkpoints tell. */
export function nameJournals(journals: readonly AuditedJournal[]): void {
  const owners = new Map(allSigned(journals).map(({ log, node }) => [log, node]));
  for (const journal of journals) {
    if (journal.node !== null) continue;
    const node = journal.logs.map(({ log }) => owners.get(log ?? '')).find((owner) => owner !== undefined);
    if (node === undefined) continue;
    journal.node = node;
    const name = `node ${node}`;
    for (const finding of journal.findings) finding.journal = name;
    journal.name = name;
  }
}

function allSigned(journals: readonly AuditedJournal[]): Signed[] {
  return journals.flatMap((journal) =>
    journal.entries.flatMap((entry): Signed[] => {
      const { body, origin: node } = entry.event;
      return body.type === 'checkpoint' ? [{ ...body, node, entry, journal }] : [];
    }),
  );
}

export function judgeCheckpoints(
  journals: readonly AuditedJournal[],
  strict: { peers: boolean; nodes: readonly NodeId[] },
): { findings: Finding[]; summaries: JournalSummary[] } {
  const findings: Finding[] = [];
  const signed = onceEach(allSigned(journals));
  const cosigned = journals.flatMap((journal) =>
    journal.entries.flatMap((entry): Cosigned[] => {
      const { body, origin: by } = entry.event;
      if (body.type !== 'cosignature') return [];
      return [{ by, origin: body.origin, size: body.size, root: body.root, entry, journal }];
    }),
  );
  for (const of of Map.groupBy(signed, ({ origin }) => origin).values()) findings.push(...judgeSeries(of));
  const roots = new Map(signed.map((each) => [`${each.origin} ${each.size}`, each.root]));
  for (const each of cosigned) {
    const root = roots.get(`${each.origin} ${each.size}`);
    if (root === undefined || root === each.root) continue;
    findings.push(
      at(
        each,
        'broken',
        'cosignature',
        `node ${each.by} cosigned another root of ${each.origin} at ${each.size} entries`,
      ),
    );
  }
  const summaries: JournalSummary[] = [];
  for (const journal of journals) {
    const own = signed.filter(({ node }) => node === journal.node);
    for (const log of journal.logs) findings.push(...judgeLog(journal, log, own));
    findings.push(...judgeAbsent(journal, own));
    const log = journal.logs.at(-1);
    const ofLog = own.filter((each) => each.log === log?.log && each.size <= (log?.size ?? 0));
    const newest = cosigned.filter((each) =>
      ofLog.some(({ origin, size }) => each.origin === origin && each.size === size),
    );
    const most = Math.max(0, ...newest.map(({ size }) => size));
    const summary: JournalSummary = {
      journal: journal.name,
      node: journal.node,
      files: journal.files,
      entries: journal.entries.length,
      signed: Math.max(0, ...ofLog.map(({ size }) => size)),
      cosigned: most,
      cosigners: [...new Set(newest.filter(({ size }) => size === most).map(({ by }) => by))].sort((a, b) => a - b),
    };
    summaries.push(summary);
    if (!strict.peers || log === undefined) continue;
    if (journal.node === null)
      findings.push(open(journal, 'whose journal this is is not known: say it, as in 3=/path'));
    // Checkpoints and cosignatures come behind what they are about.
    const uncovered = journal.entries.filter(
      ({ cursor, event }) =>
        cursor > log.end - (log.size - most) && event.body.type !== 'checkpoint' && event.body.type !== 'cosignature',
    ).length;
    if (uncovered > 0) {
      findings.push(open(journal, `its last ${uncovered} events are under no checkpoint that another node cosigned`));
    }
  }
  if (strict.peers) {
    const absent = strict.nodes.filter((node) => !journals.some((journal) => journal.node === node));
    for (const node of absent) {
      const text = `the journal of node ${node} is not among these files`;
      findings.push({ severity: 'open', rule: 'coverage', journal: null, file: null, line: null, cursor: null, text });
    }
  }
  return { findings, summaries };
}

/** The same event is in several journals. */
function onceEach(signed: readonly Signed[]): Signed[] {
  const seen = new Map<string, Signed>();
  for (const each of signed) {
    const key = `${numberOf(each.entry.event)} ${each.entry.event.digest}`;
    if (!seen.has(key)) seen.set(key, each);
  }
  return [...seen.values()];
}

/** Checkpoints of one log: in the order in which its node signed them, each begins with the one before. */
function judgeSeries(signed: readonly Signed[]): Finding[] {
  const findings: Finding[] = [];
  const sorted = [...signed].sort(
    (a, b) => a.entry.event.bootNumber - b.entry.event.bootNumber || a.entry.event.sequence - b.entry.event.sequence,
  );
  let newest: Signed | null = null;
  for (const each of sorted) {
    if (newest !== null && each.size < newest.size) {
      const text = `node ${each.node} signed a journal of ${each.size} entries after one of ${newest.size}: history was taken away`;
      findings.push(at(each, 'broken', 'checkpoint', text));
      continue;
    }
    const older = sorted.find(({ size }) => size === (each.previous === 0 ? each.size : each.previous));
    if (older !== undefined && older !== each) {
      const proof = older.size === each.size ? [] : each.proof.map((hash) => Buffer.from(hash, 'base64'));
      if (!isConsistent(treeOf(older), treeOf(each), proof)) {
        const text = `node ${each.node} signed ${each.size} entries that do not begin with the ${older.size} it signed before (${numberOf(older.entry.event)}): history was changed`;
        findings.push(at(each, 'broken', 'checkpoint', text));
      }
    }
    newest = each;
  }
  return findings;
}

function treeOf({ size, root }: Signed): { size: number; root: Buffer } {
  return { size, root: Buffer.from(root, 'base64') };
}

/** Does the journal hold what its node signed? */
function judgeLog(journal: AuditedJournal, log: AuditedLog, own: readonly Signed[]): Finding[] {
  const signed = own.filter((each) => each.log === log.log).sort((a, b) => a.size - b.size);
  const tree = log.tree.clone();
  let proved = log.before;
  for (const each of signed) {
    if (each.size < log.before) continue;
    if (each.size > log.size) {
      const text = `node ${each.node} signed ${each.size} entries of it (${numberOf(each.entry.event)}), and ${log.size} are here: its end was taken away, or this copy is older`;
      return [open(journal, text)];
    }
    for (let size = tree.size(); size < each.size; size++) tree.append(leafOf(log.hashes[size - log.before] ?? ''));
    if (tree.root().toString('base64') === each.root) {
      proved = each.size;
      continue;
    }
    const place = journal.entries.find(({ cursor }) => cursor > journal.from + proved);
    return [
      {
        severity: 'broken',
        rule: 'checkpoint',
        journal: journal.name,
        file: place?.file ?? null,
        line: place?.line ?? null,
        cursor: place?.cursor ?? null,
        text: `its entries ${proved + 1} to ${each.size} are not those that node ${each.node} signed (${numberOf(each.entry.event)}, in the journal of ${each.journal.name}): history was changed`,
      },
    ];
  }
  return [];
}

/** Logs of this node of which something was signed, and nothing is here. */
function judgeAbsent(journal: AuditedJournal, own: readonly Signed[]): Finding[] {
  // A chain that is broken ends too early to tell.
  if (journal.findings.some(({ severity, rule }) => severity === 'broken' && rule === 'chain')) return [];
  const here = journal.logs.map(({ log }) => log);
  const absent = [...Map.groupBy(own, ({ log }) => log)].filter(([log]) => !here.includes(log));
  return absent.map(([log, signed]) => {
    const most = Math.max(...signed.map(({ size }) => size));
    return open(journal, `node ${journal.node} signed ${most} entries of a log (${log}) that is not among these files`);
  });
}

function at(
  { entry, journal }: Pick<Signed, 'entry' | 'journal'>,
  severity: Finding['severity'],
  rule: Finding['rule'],
  text: string,
): Finding {
  return { severity, rule, journal: journal.name, file: entry.file, line: entry.line, cursor: entry.cursor, text };
}

function open(journal: AuditedJournal, text: string): Finding {
  return { severity: 'open', rule: 'coverage', journal: journal.name, file: null, line: null, cursor: null, text };
}
