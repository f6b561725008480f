/** Puts the parts together: read all journals, judge them, and say it in order. */
import { stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { fastEd25519 } from './ed25519.ts';
import type { AuditedCluster, Finding, Verdict } from './index.ts';
import type { NamedJournal } from './journals.ts';
import { judgeAgreement } from './judge_agreement.ts';
import { judgeCheckpoints, nameJournals } from './judge_checkpoints.ts';
import { judgeTerms } from './judge_terms.ts';
import { type AuditedJournal, readJournal } from './read.ts';
import { checkHere, checkInThreads } from './threads.ts';

export interface AuditOptions {
  cluster: AuditedCluster;
  journals: readonly NamedJournal[];
  /** What only other nodes can vouch for is demanded: every node's journal, and cosignatures up to the end. @default false */
  peers?: boolean;
  /** Of JavaScript, besides this one. @default by what keeps all cores busy, where there is enough to do */
  threads?: number;
}

/** What one thread checks while others start. */
const WORTH_A_THREAD_BYTES = 8 * 1024 * 1024;
/** So many are kept busy by one thread of JavaScript: signatures, which it hands out, are two thirds of the work. */
const CORES_FOR_ONE = 3;

const RANK: Record<Finding['severity'], number> = { broken: 0, open: 1, note: 2 };

/** @throws errors of the file system, and what cannot be read as a peer ID */
export async function verifyJournals(options: AuditOptions): Promise<Verdict> {
  const { cluster } = options;
  const files = options.journals.flatMap((journal) => journal.files);
  const sizes = await Promise.all(files.map((file) => stat(file).then(({ size }) => size)));
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  const cores = availableParallelism();
  const ed25519 = fastEd25519();
  const isMuch = bytes >= WORTH_A_THREAD_BYTES && cores > (ed25519.each === null ? 1 : CORES_FOR_ONE);
  const threads = options.threads ?? (isMuch ? cores : 0);
  const checker =
    threads === 0 ? checkHere(cluster, ed25519, options.journals.length > 1) : checkInThreads(cluster, threads);
  try {
    const journals = await Promise.all(options.journals.map((journal) => readJournal(journal, checker)));
    nameJournals(journals);
    const strict = { peers: options.peers ?? false, nodes: [...cluster.peerIds.keys()] };
    const checkpoints = judgeCheckpoints(journals, strict);
    const { findings: ofAgreement, events } = judgeAgreement(journals);
    const { findings: ofTerms, terms } = judgeTerms(events, journals, cluster);
    const findings = [
      ...journals.flatMap((journal) => [...journal.findings, ...judgeEmpty(journal)]),
      ...checkpoints.findings,
      ...ofTerms,
      ...ofAgreement,
    ].sort(
      (a, b) =>
        RANK[a.severity] - RANK[b.severity] ||
        (a.journal ?? '').localeCompare(b.journal ?? '') ||
        // A broken chain names an entry; a checkpoint that does not fit, a stretch of them.
        Number(b.rule === 'chain') - Number(a.rule === 'chain') ||
        (a.cursor ?? Number.MAX_SAFE_INTEGER) - (b.cursor ?? Number.MAX_SAFE_INTEGER),
    );
    const worst = findings[0]?.severity ?? 'note';
    return {
      outcome: worst === 'note' ? 'proved' : worst,
      journals: checkpoints.summaries,
      entries: journals.reduce((sum, { entries }) => sum + entries.length, 0),
      commits: terms.reduce((sum, { commits }) => sum + commits, 0),
      terms,
      findings,
    };
  } finally {
    await checker.close();
  }
}

/** No agent runs for a moment without an event of its own. */
function judgeEmpty({ name: journal, entries, findings }: AuditedJournal): Finding[] {
  if (entries.length > 0 || findings.some(({ severity }) => severity !== 'note')) return [];
  const text = 'it has no entry: never used, or emptied';
  return [{ severity: 'open', rule: 'coverage', journal, file: null, line: null, cursor: null, text }];
}
