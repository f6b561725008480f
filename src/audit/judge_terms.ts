/**
 * Terms and commits: one master a term, nobody votes twice, no master goes on after it has let its term go, each array's
 * commits rest on one another, and the superblocks' event counters follow them.
 */
import type { NodeId, Version } from '../arrays/record.ts';
import { compareVersions } from '../arrays/record.ts';
import type { CommitKind } from '../wire/messages.ts';
import type { CheckedEvent, Vote } from './checker.ts';
import type { AuditedCluster, Finding, Verdict } from './index.ts';
import { numberOf } from './judge_agreement.ts';
import type { AuditedEntry, AuditedJournal } from './read.ts';

type CommitBody = Extract<CheckedEvent['body'], { type: 'commit' }>;

interface Commit {
  event: CheckedEvent;
  entry: AuditedEntry;
  body: CommitBody;
}

/**
 * How far the superblocks' event counter goes on. A failed member must look older than assembly tolerates: two
 * (drivers/md/md.c, super_1_validate, takes one behind). So must one that was replaced. All else: one where superblocks are
 * written, none where only the mesh area is.
 */
function eventsStep(kind: CommitKind): readonly number[] {
  return kind === 'fail' ? [2] : [0, 1, 2];
}

/** @param entries each event once, in the order of the journals */
export function judgeTerms(
  entries: readonly AuditedEntry[],
  journals: readonly AuditedJournal[],
  cluster: AuditedCluster,
): { findings: Finding[]; terms: Verdict['terms'] } {
  const findings: Finding[] = [];
  findings.push(...judgeVotes(entries));
  const commits: Commit[] = [];
  for (const entry of entries) {
    const { event } = entry;
    if (event.body.type === 'commit') commits.push({ event, entry, body: event.body });
  }
  const terms = new Map<number, { term: number; master: NodeId; commits: number }>();
  for (const commit of commits) {
    const { term } = commit.body.version;
    const { origin } = commit.event;
    const known = terms.get(term);
    if (known === undefined) terms.set(term, { term, master: origin, commits: 1 });
    else if (known.master === origin) known.commits += 1;
    else
      findings.push(
        broken(commit.entry, 'term', `node ${origin} committed in term ${term}, which node ${known.master} held`),
      );
  }
  findings.push(...judgePassed(entries, terms));
  findings.push(...judgeHolders(entries));
  if (cluster.byDisks === true) findings.push(...judgeElections(entries, commits, cluster.peerIds.size));
  for (const of of Map.groupBy(commits, ({ body }) => body.array).values()) findings.push(...judgeArray(of, journals));
  return { findings, terms: [...terms.values()].sort((a, b) => a.term - b.term) };
}

/** Those of a term's certificate are one array, which each commit of the term has, where one thread has checked the lines. */
function votesIn({ body }: CheckedEvent): readonly Vote[] {
  return body.type === 'vote' ? [body.vote] : body.type === 'commit' ? body.votes : NO_VOTES;
}

const NO_VOTES: readonly Vote[] = [];

/** One vote a term a voter, whether it was found by itself or in a certificate. */
function judgeVotes(entries: readonly AuditedEntry[]): Finding[] {
  const findings: Finding[] = [];
  const given = new Map<string, Vote>();
  let fine = NO_VOTES;
  for (const each of entries) {
    const votes = votesIn(each.event);
    if (votes === fine) continue;
    const found = findings.length;
    for (const vote of votes) {
      const key = `${vote.term}/${vote.voter}`;
      const known = given.get(key);
      if (known === undefined) given.set(key, vote);
      else if (known.candidate !== vote.candidate) {
        const text = `node ${vote.voter} voted twice in term ${vote.term}: for node ${known.candidate} and for node ${vote.candidate}`;
        findings.push(broken(each, 'vote', text));
      }
    }
    if (votes.length > 0 && findings.length === found) fine = votes;
  }
  return findings;
}

/**
 * A vote may pass over a promise only to who can have had it: a holder of an earlier term, or whom the voter voted for in it. Never to
 * the voter or the candidate. When the promise would have ended stands nowhere, and need not: without such a vote it was waited for.
 */
function judgePassed(entries: readonly AuditedEntry[], terms: ReadonlyMap<number, { master: NodeId }>): Finding[] {
  if (!entries.some(({ event }) => votesIn(event).some(({ shutOut }) => shutOut !== undefined))) return [];
  const findings: Finding[] = [];
  const votes = entries.flatMap((each) => votesIn(each.event).map((vote) => ({ each, vote })));
  const given = new Map(votes.map(({ vote }) => [`${vote.term}/${vote.voter}`, vote.candidate]));
  const seen = new Set<string>();
  for (const { each, vote } of votes) {
    for (const { holder, term } of vote.shutOut ?? []) {
      const key = `${vote.term}/${vote.voter}/${holder}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const says = `node ${vote.voter}'s vote of term ${vote.term} for node ${vote.candidate} passes over a promise to node ${holder} in term ${term}`;
      const master = terms.get(term)?.master;
      const own = given.get(`${term}/${vote.voter}`);
      if (holder === vote.voter || holder === vote.candidate || term >= vote.term)
        findings.push(broken(each, 'vote', `${says}, which nobody can have shut out for that`));
      else if (master !== undefined && master !== holder && own !== undefined && own !== holder)
        findings.push(
          broken(each, 'vote', `${says}; it had voted for node ${own} then, and node ${master} was the master`),
        );
    }
  }
  return findings;
}

/**
 * Where disks decide, votes make a master before the first set only, and only those of all nodes (docs/quorum.md, "The first set"). A
 * cluster in which nodes decided until its configuration was changed leaves votes of a majority behind, and one that was changed twice
 * leaves later votes: such a term is left open, as nothing in a journal says what was configured. But in a term whose holder has
 * signed that it holds the disks, disks did decide.
 */
function judgeElections(entries: readonly AuditedEntry[], commits: readonly Commit[], nodes: number): Finding[] {
  const held = new Map<number, NodeId>();
  for (const { event } of entries) if (event.body.type === 'disk-lease') held.set(event.body.term, event.origin);
  for (const { event, body } of commits) if (body.byDisks) held.set(body.version.term, event.origin);
  const first = Math.min(...held.keys());
  const findings: Finding[] = [];
  const seen = new Set<number>();
  for (const commit of commits) {
    const { version, votes, byDisks } = commit.body;
    const { term } = version;
    const { origin } = commit.event;
    if (byDisks || seen.has(term)) continue;
    const voters = new Set(
      votes.filter((vote) => vote.term === term && vote.candidate === origin).map((vote) => vote.voter),
    );
    // Less than a majority is a fault of the certificate itself.
    if (voters.size <= nodes / 2) continue;
    seen.add(term);
    const made = `node ${origin}'s mastership of term ${term} rests on ${voters.size} of ${nodes} votes`;
    if (voters.size < nodes && held.get(term) === origin) {
      const text = `${made}, although it held the disks in that term: before the first quorum set all nodes must vote`;
      findings.push(broken(commit.entry, 'certificate', text));
    } else if (term > first && !held.has(term)) {
      const text = `${made}, after disks had decided in term ${first}: ${UNKNOWN_CONFIGURATION}`;
      findings.push(at(commit.entry, 'open', 'certificate', text));
    } else if (voters.size < nodes) {
      findings.push(
        at(commit.entry, 'open', 'certificate', `${made}, where disks decide all are needed: ${UNKNOWN_CONFIGURATION}`),
      );
    }
  }
  return findings;
}

const UNKNOWN_CONFIGURATION =
  'if `quorum: nodes` was configured then, verify the files of that time with the configuration of that time';

/** In a node's own order: once it has voted in a later term, or signed its lease away, its earlier term is over. */
function judgeHolders(entries: readonly AuditedEntry[]): Finding[] {
  const findings: Finding[] = [];
  for (const [origin, of] of Map.groupBy(entries, ({ event }) => event.origin)) {
    let endedTerm = 0;
    let how = '';
    const end = (term: number, why: string): void => {
      if (term <= endedTerm) return;
      endedTerm = term;
      how = why;
    };
    for (const each of of.sort((a, b) => order(a.event, b.event))) {
      const { body } = each.event;
      if (body.type === 'vote') end(body.vote.term - 1, `voted in term ${body.vote.term} (${numberOf(each.event)})`);
      else if (body.type === 'disk-lease') end(body.term - 1, `won term ${body.term} (${numberOf(each.event)})`);
      else if (body.type === 'lease-release') end(body.term, `given term ${body.term} up (${numberOf(each.event)})`);
      else if (body.type === 'commit' && body.version.term <= endedTerm) {
        const text = `node ${origin} committed in term ${body.version.term} after it had ${how}: the terms overlap`;
        findings.push(broken(each, 'term', text));
      }
    }
  }
  return findings;
}

function order(a: CheckedEvent, b: CheckedEvent): number {
  return a.bootNumber - b.bootNumber || a.sequence - b.sequence;
}

/** The commits of one array: each rests on the one before. */
function judgeArray(commits: readonly Commit[], journals: readonly AuditedJournal[]): Finding[] {
  const findings: Finding[] = [];
  const sorted = [...commits].sort(
    (a, b) => compareVersions(a.body.version, b.body.version) || order(a.event, b.event),
  );
  let previous: Commit | null = null;
  for (const commit of sorted) {
    const finding = previous === null ? judgeFirst(commit, journals) : judgeNext(previous, commit);
    if (finding !== null) findings.push(finding);
    previous = commit;
  }
  return findings;
}

function judgeFirst(commit: Commit, journals: readonly AuditedJournal[]): Finding | null {
  if (commit.body.before === null || journals.some(({ from }) => from > 0)) return null;
  const text = `${nameOf(commit)} rests on commit ${wordOf(commit.body.before)}, which is in no journal`;
  return commit.body.kind === 'new-term' ? noted(commit.entry, text) : left(commit.entry, text);
}

function judgeNext(previous: Commit, commit: Commit): Finding | null {
  const { body } = commit;
  const { before } = body;
  if (compareVersions(previous.body.version, body.version) === 0) {
    return broken(commit.entry, 'commit', `${nameOf(commit)} is two: the other is event ${numberOf(previous.event)}`);
  }
  if (before === null) {
    if (previous.body.ends) return null;
    return left(commit.entry, `${nameOf(commit)} begins the array anew, and its release is in no journal`);
  }
  const gap = compareVersions(before, previous.body.version);
  if (gap < 0) {
    const text = `${nameOf(commit)} rests on ${wordOf(before)}, although ${nameOf(previous)} had been made: what that said was lost, or the terms overlap`;
    return broken(commit.entry, 'term', text);
  }
  const step = body.events - previous.body.events;
  if (gap > 0) {
    const text = `${nameOf(commit)} rests on commit ${wordOf(before)}, which is in no journal`;
    if (step < 0)
      return broken(commit.entry, 'superblock-events', `${text}, and the superblocks' events went back by ${-step}`);
    // Its master wrote the disks and died before it told anybody; the next one found it there.
    if (body.kind === 'new-term') return noted(commit.entry, `${text}: found on the disks by the next master`);
    return left(commit.entry, text);
  }
  if (body.version.index !== before.index + 1) {
    return broken(
      commit.entry,
      'commit',
      `${nameOf(commit)} does not follow ${wordOf(before)}: its index is not the next one`,
    );
  }
  if (!eventsStep(body.kind).includes(step)) {
    const text = `${nameOf(commit)} takes the superblocks' events from ${previous.body.events} to ${body.events}; a ${body.kind} adds ${eventsStep(body.kind).join(' or ')}`;
    return broken(commit.entry, 'superblock-events', text);
  }
  return null;
}

function wordOf({ term, index }: Version): string {
  return `${term}.${index}`;
}

function nameOf({ body, event }: Commit): string {
  return `commit ${wordOf(body.version)} (${body.kind}) of ${body.md} by node ${event.origin}`;
}

function at(
  { journal, file, line, cursor }: AuditedEntry,
  severity: Finding['severity'],
  rule: Finding['rule'],
  text: string,
): Finding {
  return { severity, rule, journal: journal.name, file, line, cursor, text };
}

function broken(entry: AuditedEntry, rule: Finding['rule'], text: string): Finding {
  return at(entry, 'broken', rule, text);
}

function left(entry: AuditedEntry, text: string): Finding {
  return at(entry, 'open', 'commit', text);
}

function noted(entry: AuditedEntry, text: string): Finding {
  return at(entry, 'note', 'commit', text);
}
