/**
 * What the master makes of a path that is lost: one node's I/O to a member waits (see MemberPath), and others may still read
 * and write it. The layer under md holds that node's writes whatever is decided; what is decided is who gives way.
 *
 * - `fail-member`: the cluster gives the member up. The node writes on; redundancy is gone on all.
 * - `drop-node`: the array keeps the member, and the node's writes wait until its path is back; it tries each second.
 *
 * Rules kept here (each has a test that goes red without it):
 * - A member is kept only while the master and at least half of all writers can use it, by their own word: what most have lost is
 *   the disk. Without these words within `waitMs` it is given up.
 * - It is given up too where nobody else writes: the redundancy would be kept for nobody.
 * - A node with a lost path cannot drain (local.ts). What waits for it is bounded: after `waitMs` of a commit or a copy waiting
 *   for that node its members are given up, whatever the policy.
 * - Where that cannot free it (the last copy is among them, or a commit waits already), the node is fenced, and nothing is given
 *   up for it.
 */
import { survivesWithout } from './levels.ts';
import type { ArrayRecord, NodeId } from './record.ts';

export type PathLossPolicy = 'fail-member' | 'drop-node';

export interface PathLossOptions {
  policy: PathLossPolicy;
  /** How long other nodes may wait for one whose path is lost, and words on a member may be missing. */
  waitMs: number;
}

export const PATH_LOSS: PathLossOptions = { policy: 'fail-member', waitMs: 3000 };

/** A node's account of its paths to an array's members, by their UUIDs. */
export interface PathWord {
  /** Its I/O to these waits, or did until a moment ago. */
  lost: readonly string[];
  /** Asked by the master, it has read these lately. */
  fine: readonly string[];
}

/** What is remembered between two looks; times by the master's clock. */
export interface PathMemory {
  /** Member → since when some node's path to it is lost. */
  lostSince: ReadonlyMap<string, number>;
  /** Node with a lost path → since when others wait for it. */
  waitedForSince: ReadonlyMap<NodeId, number>;
  /** Losses that the cluster has agreed to live with. */
  kept: readonly { node: NodeId; member: string }[];
  askedAtMs: number;
}

export const NO_PATHS: PathMemory = {
  lostSince: new Map(),
  waitedForSince: new Map(),
  kept: [],
  askedAtMs: Number.NEGATIVE_INFINITY,
};

export interface PathFacts {
  self: NodeId;
  record: ArrayRecord;
  /** Of nodes that are there. */
  words: ReadonlyMap<NodeId, PathWord>;
  /** What waits for this node: a copy for its writes to be held, a commit for being applied there. */
  waitsFor: (node: NodeId) => 'nothing' | 'copy' | 'commit';
}

export interface PathVerdict {
  memory: PathMemory;
  /** Members to be given up. */
  fail: string[];
  /** To be kept; not committed yet. */
  keep: { node: NodeId; member: string } | null;
  /** Members of which words are missing: ask these nodes. */
  ask: { member: string; to: NodeId[] }[];
  /** Only their end would end the others' waiting. */
  fence: NodeId[];
  /** Their paths are back. */
  restored: { node: NodeId; member: string }[];
}

const ASK_AGAIN_MS = 1000;

/** Who has to speak for a member: the master, and all who write to it. */
function judgesOf({ self, record }: PathFacts): NodeId[] {
  return [...new Set([self, ...record.writers])];
}

function silentOn(facts: PathFacts, member: string, lostBy: readonly NodeId[]): NodeId[] {
  const spoke = (node: NodeId) => lostBy.includes(node) || facts.words.get(node)?.fine.includes(member) === true;
  return judgesOf(facts).filter((node) => !spoke(node));
}

/** The disk itself, or a path that nobody else needs. */
function isFailure(facts: PathFacts, lostBy: readonly NodeId[]): boolean {
  const { self, record } = facts;
  if (lostBy.includes(self) || 2 * lostBy.length > judgesOf(facts).length) return true;
  return record.writers.every((node) => lostBy.includes(node));
}

/** Looks at all paths at once. */
export function judgePaths(before: PathMemory, facts: PathFacts, options: PathLossOptions, now: number): PathVerdict {
  const { record, words, self } = facts;
  const good = record.members.filter(({ role }) => role !== 'faulty').map(({ uuid }) => uuid);
  const lost = [...words].flatMap(([node, word]) =>
    word.lost.filter((member) => good.includes(member)).map((member) => ({ node, member })),
  );
  const lostSince = new Map(lost.map(({ member }) => [member, before.lostSince.get(member) ?? now]));
  const waited = [...new Set(lost.map(({ node }) => node))].filter(
    (node) => node !== self && facts.waitsFor(node) !== 'nothing',
  );
  const waitedForSince = new Map(waited.map((node) => [node, before.waitedForSince.get(node) ?? now]));
  const same = (a: { node: NodeId; member: string }) => (b: { node: NodeId; member: string }) =>
    a.node === b.node && a.member === b.member;
  const gone = before.kept.filter((kept) => !lost.some(same(kept)));
  const verdict: PathVerdict = {
    memory: { ...before, lostSince, waitedForSince, kept: before.kept.filter((kept) => lost.some(same(kept))) },
    fail: [],
    keep: null,
    ask: [],
    fence: [],
    restored: gone.filter(({ node, member }) => words.has(node) && good.includes(member)),
  };
  const ask = (member: string, to: NodeId[]): void => {
    if (to.length === 0 || now - before.askedAtMs < ASK_AGAIN_MS) return;
    verdict.ask.push({ member, to });
    verdict.memory = { ...verdict.memory, askedAtMs: now };
  };
  for (const [node, since] of waitedForSince) {
    const members = lost.filter((one) => one.node === node).map(({ member }) => member);
    // No failure is committed before the commit that waits.
    const frees = facts.waitsFor(node) === 'copy' && survivesWithout(record, ...members);
    // Only of a disk that the master can use: another node's end would mend no disk.
    const fine = members.filter((member) => words.get(self)?.fine.includes(member) === true);
    if (!frees) for (const member of members) ask(member, fine.includes(member) ? [] : [self]);
    if (now - since < options.waitMs) continue;
    if (frees) verdict.fail.push(...members);
    else if (fine.length === members.length) verdict.fence.push(node);
  }
  for (const [member, since] of lostSince) {
    if (!survivesWithout(record, member)) continue;
    const lostBy = lost.filter((one) => one.member === member).map(({ node }) => node);
    const silent = silentOn(facts, member, lostBy);
    const node = lostBy.find((by) => !before.kept.some(same({ node: by, member })));
    if (options.policy === 'fail-member' || isFailure(facts, lostBy)) verdict.fail.push(member);
    else if (node === undefined) continue;
    else if (silent.length === 0) verdict.keep ??= { node, member };
    else if (now - since >= options.waitMs) verdict.fail.push(member);
    else ask(member, silent);
  }
  return verdict;
}
