/** One input in, the next state and effects out. */
import type { NodeId } from '../arrays/record.ts';
import type { RosterEffect, RosterInput, RosterState, StoredLists } from './index.ts';
import {
  compareLists,
  type EndedKey,
  firstList,
  idsOf,
  isMajorityOfEach,
  keysGone,
  type ListVersion,
  type NodeList,
  sameList,
  type WishedList,
  whyNotAfter,
  whyNotByDisks,
} from './list.ts';
import type { RosterWord } from './word.ts';

/** While something is under way; a word that was lost is said again. */
const REPEAT_MS = 1000;
/** Keys that ended longest ago are forgotten first: their events are in the journals already. */
const ENDED_KEPT = 256;

interface Turn {
  state: RosterState;
  readonly effects: RosterEffect[];
  readonly now: number;
}

/** What a majority is counted over. */
export interface Quorum {
  version: ListVersion;
  sets: readonly (readonly NodeId[])[];
  holderMs: number;
  voterMs: number;
}

/**
 * @param stored null: this node has never run, or forgot everything it had promised
 * @throws where disks decide and a change of the list is under way: nobody would ever end it
 */
export function rosterStart(
  self: NodeId,
  wish: WishedList,
  stored: StoredLists | null,
  now: number,
  byDisks = false,
): RosterState {
  if (byDisks && stored !== null && stored.pending !== null) {
    const [before, after] = [idsOf(stored.agreed).join(' '), idsOf(stored.pending).join(' ')];
    throw new Error(
      `quorum: disks: a change of the node list, from ${before} to ${after}, is being agreed on: start all nodes with quorum: nodes until it is, or stop all agents and run mdmesh node force-list on each`,
    );
  }
  const lists = stored ?? { agreed: firstList(wish), pending: null, previous: null };
  return {
    ...lists,
    self,
    byDisks,
    wish,
    words: new Map(),
    alive: [self],
    master: null,
    writers: [],
    ends: new Map(),
    storing: null,
    concluding: null,
    previousUntilMs: now + 2 * (lists.previous?.voterMs ?? 0),
    saidAtMs: Number.NEGATIVE_INFINITY,
    said: '',
    told: null,
  };
}

export function rosterStep(
  state: RosterState,
  input: RosterInput,
  now: number,
): { state: RosterState; effects: RosterEffect[] } {
  const turn: Turn = { state, effects: [], now };
  take(turn, input);
  adopt(turn);
  lead(turn);
  forgetPrevious(turn);
  tellDifference(turn);
  say(turn, input.type === 'connected' ? input.node : null);
  return { state: turn.state, effects: turn.effects };
}

/** Rules 2 and 3: over the old list and the new one while one is pending; the shorter R and the longer L of all that may count. */
export function quorumOf({ agreed, pending, previous }: StoredLists): Quorum {
  const newest = pending ?? agreed;
  const lists = pending === null ? [agreed] : [agreed, pending];
  return {
    version: newest.version,
    sets: lists.map(idsOf),
    holderMs: Math.min(...lists.map(({ holderMs }) => holderMs)),
    voterMs: Math.max(...[...lists, ...(previous === null ? [] : [previous])].map(({ voterMs }) => voterMs)),
  };
}

/** A node whose list is behind is refused by the others: it must not keep them from standing by being the lowest. */
export function mayStand(state: RosterState): boolean {
  const { self, agreed, pending, words } = state;
  const newest = (pending ?? agreed).version;
  const known = quorumOf(state).sets;
  if (!known.every((set) => set.includes(self))) return false;
  const others = [...words].filter(([node]) => known.some((set) => set.includes(node)) && state.alive.includes(node));
  const versions = others.map(([, word]) => (word.pending ?? word.agreed).version);
  if (versions.some((version) => compareLists(version, newest) > 0)) return false;
  const strange = versions.filter((version) => compareLists(version, newest) === 0 && version.digest !== newest.digest);
  return strange.length * 2 <= others.length;
}

/** What the list that this node's configuration asks for waits for; null: it is the one that counts. */
export function waitsFor(state: RosterState): string | null {
  const { agreed, pending, wish, master } = state;
  if (pending === null && wish.digest === agreed.version.digest) return null;
  if (master === null) return 'there is no master to propose it';
  if (pending !== null) {
    const late = notStored(state, pending);
    if (late.length > 0)
      return `agreed on by node ${stored(state, pending).join(', ')}; waits for node ${late.join(', ')}`;
    return wish.digest === pending.version.digest ? 'is being agreed on' : 'another change is being agreed on';
  }
  return whyNotYet(state) ?? 'is being agreed on';
}

function change(turn: Turn, part: Partial<RosterState>): void {
  turn.state = { ...turn.state, ...part };
}

function take(turn: Turn, input: RosterInput): void {
  switch (input.type) {
    case 'tick':
    case 'connected':
      return;
    case 'wish':
      change(turn, { wish: input.wish });
      return;
    case 'word':
      change(turn, { words: new Map(turn.state.words).set(input.from, input.word) });
      return;
    case 'alive':
      change(turn, { alive: input.nodes });
      return;
    case 'master':
      change(turn, { master: input.node === null ? null : { node: input.node, term: input.term } });
      return;
    case 'facts':
      change(turn, { writers: input.writers, ends: input.ends });
      return;
    case 'stored': {
      const { storing, concluding } = turn.state;
      if (storing === null) return;
      change(turn, { storing: null });
      if (concluding === null) use(turn, storing);
      else if (concluding.leaseOver) conclude(turn, concluding.lists);
      // What this master has found agreed on counts only when its lease has ended (rule 3).
      else turn.effects.push({ type: 'hand-over', term: concluding.term });
      return;
    }
    case 'lease-over': {
      const { concluding, storing } = turn.state;
      if (concluding === null || concluding.term !== input.term) return;
      if (storing === null) conclude(turn, concluding.lists);
      else change(turn, { concluding: { ...concluding, leaseOver: true } });
      return;
    }
  }
}

function conclude(turn: Turn, lists: StoredLists): void {
  change(turn, { concluding: null });
  use(turn, lists, true);
}

function use(turn: Turn, lists: StoredLists, first = false): void {
  const { agreed: before } = turn.state;
  const { agreed, pending, previous } = lists;
  change(turn, { agreed, pending, previous });
  const isNew = !sameList(before.version, agreed.version);
  if (isNew) change(turn, { previousUntilMs: turn.now + 2 * (previous?.voterMs ?? 0) });
  turn.effects.push({ type: 'use' });
  if (isNew) turn.effects.push({ type: 'agreed', list: agreed, before, first });
}

function store(turn: Turn, lists: StoredLists): void {
  change(turn, { storing: lists });
  turn.effects.push({ type: 'store', lists });
}

/**
 * What others say that goes before what this node has. A newcomer, and a node that slept through a change, learn of the list before
 * together with the proposal; they cannot tell a master of that list by its certificate, and need not: to store more makes a voter
 * only stricter, and the master counts no node of the old list before it follows it.
 */
function adopt(turn: Turn): void {
  const { state } = turn;
  if (state.storing !== null || state.concluding !== null) return;
  for (const [, { agreed }] of state.words) {
    if (compareLists(agreed.version, state.agreed.version) <= 0) continue;
    const isPending = state.pending !== null && sameList(agreed.version, state.pending.version);
    // Agreed is agreed, whoever says so; but what stands in no file here comes from nobody that this node has reason to trust.
    if (!isPending && agreed.version.digest !== state.wish.digest) continue;
    store(turn, { agreed, pending: null, previous: state.agreed });
    return;
  }
  for (const [node, word] of state.words) {
    const { agreed, pending } = word;
    if (word.master !== node || pending?.version.digest !== state.wish.digest) continue;
    const isLate = compareLists(agreed.version, state.agreed.version) > 0;
    if (isLate || isNewcomer(state, word)) takeProposal(turn, agreed, pending, isLate ? state.agreed : null);
  }
  const { master } = state;
  if (turn.state.storing !== null || master === null || master.node === state.self) return;
  const word = state.words.get(master.node);
  if (word === undefined || word.master !== master.node || word.term !== master.term) return;
  const isBase = sameList(word.agreed.version, state.agreed.version);
  if (!isBase && isFirst(state.agreed) && isFirst(word.agreed) && word.agreed.version.digest === state.wish.digest) {
    // The file was wrong when this cluster began, and has been put right.
    store(turn, { agreed: word.agreed, pending: null, previous: null });
  } else if (!isBase) {
    return;
  } else if (word.pending !== null) {
    if (word.pending.version.digest === state.wish.digest)
      takeProposal(turn, word.agreed, word.pending, state.previous);
  } else if (state.pending !== null && word.term > state.pending.version.term) {
    // Rule 4.
    store(turn, { agreed: state.agreed, pending: null, previous: state.previous });
  }
}

function isFirst({ version }: NodeList): boolean {
  return version.term === 0 && version.generation === 0;
}

/** A node that never took part, or forgot everything, has only its own file. */
function isNewcomer({ self, agreed, pending }: RosterState, { agreed: base }: RosterWord): boolean {
  const isBase = sameList(base.version, agreed.version);
  return isFirst(agreed) ? !isBase : isBase && pending !== null && !idsOf(base).includes(self);
}

function takeProposal(turn: Turn, base: NodeList, proposed: NodeList, previous: NodeList | null): void {
  const { agreed, pending, storing } = turn.state;
  if (storing !== null || compareLists(proposed.version, (pending ?? agreed).version) <= 0) return;
  store(turn, { agreed: base, pending: proposed, previous });
}

/** The master's part. */
function lead(turn: Turn): void {
  const { self, master, storing, concluding, agreed, pending, wish } = turn.state;
  if (master?.node !== self || storing !== null || concluding !== null) return;
  if (pending === null) {
    if (wish.digest === agreed.version.digest || whyNotYet(turn.state) !== null) return;
    const version = { term: master.term, generation: agreed.version.generation + 1, digest: wish.digest };
    const { nodes, holderMs, voterMs } = wish;
    const proposed = { version, nodes: [...nodes], holderMs, voterMs, ended: [] };
    store(turn, { agreed, pending: proposed, previous: turn.state.previous });
    turn.effects.push({ type: 'notice', name: 'NodeListProposed', severity: 'info', detail: detailOf(proposed) });
    return;
  }
  if (notStored(turn.state, pending).length > 0 || writersGone(turn.state, pending).length > 0) return;
  if (!isMajorityOfEach(quorumOf(turn.state).sets, stored(turn.state, pending))) return;
  const lists = { agreed: { ...pending, ended: endedAfter(turn.state, pending) }, pending: null, previous: agreed };
  change(turn, { concluding: { term: master.term, lists, leaseOver: false } });
  store(turn, lists);
}

function endedAfter({ agreed, ends }: RosterState, after: NodeList): EndedKey[] {
  const gone = keysGone(agreed, after).map((key) => ({
    ...key,
    ...(ends.get(key.node) ?? { bootNumber: 0, sequence: 0 }),
  }));
  // A key that is taken up again ends anew.
  const before = agreed.ended.filter(({ peerId }) => !gone.some((key) => key.peerId === peerId));
  return [...before, ...gone].slice(-ENDED_KEPT);
}

/** Nodes that have stored what is pending and, those of the old list, follow this master, which counts itself. */
function stored({ self, master, words, agreed }: RosterState, pending: NodeList): NodeId[] {
  const follows = (node: NodeId, word: RosterWord): boolean =>
    !idsOf(agreed).includes(node) || (word.master === master?.node && word.term === master?.term);
  const others = [...words].filter(
    ([node, word]) => follows(node, word) && word.pending !== null && sameList(word.pending.version, pending.version),
  );
  return [self, ...others.map(([node]) => node)].sort((a, b) => a - b);
}

/** Living nodes of the new list that have not: who lives is waited for, although a majority would do. */
function notStored(state: RosterState, pending: NodeList): NodeId[] {
  const there = stored(state, pending);
  return idsOf(pending).filter((node) => state.alive.includes(node) && !there.includes(node));
}

function writersGone({ writers }: RosterState, after: Pick<NodeList, 'nodes'>): NodeId[] {
  return writers.filter((node) => !idsOf(after).includes(node));
}

/** Why the list of this node's file is not proposed, or would not be. */
function whyNotYet(state: RosterState): string | null {
  const { self, agreed, wish, words, alive, byDisks } = state;
  const never = byDisks ? whyNotByDisks(agreed, wish) : whyNotAfter(agreed, wish);
  if (never !== null) return never;
  const [writer] = writersGone(state, wish);
  if (writer !== undefined) {
    return `node ${writer} may have writes in flight: stop its agent first (systemctl stop mdmesh), or see that it is fenced`;
  }
  const ids = idsOf(wish);
  const newcomers = ids.filter((id) => !idsOf(agreed).includes(id));
  const absent = newcomers.filter((id) => id !== self && (!alive.includes(id) || !words.has(id)));
  if (absent.length > 0) return `node ${absent.join(', ')} is not there: start its agent, with the same file`;
  const willing = ids.filter((id) => id === self || words.get(id)?.wish === wish.digest);
  const late = ids.filter((id) => alive.includes(id) && !willing.includes(id));
  if (late.length > 0)
    return `node ${late.join(', ')} has another list in its file: put the same there, and run mdmesh reload`;
  const there = willing.filter((id) => alive.includes(id));
  if (!isMajorityOfEach([idsOf(agreed), ids], there)) {
    return `of the old list, ${idsOf(agreed).join(' ')}, and of the new, ${ids.join(' ')}, a majority of each must be there and in both: start more of them`;
  }
  return null;
}

function forgetPrevious(turn: Turn): void {
  const { agreed, pending, previous, storing, concluding, previousUntilMs } = turn.state;
  if (previous === null || storing !== null || concluding !== null || turn.now < previousUntilMs) return;
  store(turn, { agreed, pending, previous: null });
}

function detailOf({ version, nodes }: NodeList): Record<string, string | number> {
  return { generation: version.generation, nodes: idsOf({ nodes }).join(' '), digest: version.digest };
}

/** A list that does not become the cluster's is a fault of somebody's file, and told once. */
function tellDifference(turn: Turn): void {
  const { agreed, pending, wish, words, told } = turn.state;
  const newer = [...words].find(
    ([, word]) => compareLists(word.agreed.version, agreed.version) > 0 && word.agreed.version.digest !== wish.digest,
  );
  const isNew = newer !== undefined && (pending === null || !sameList(newer[1].agreed.version, pending.version));
  const why = isNew
    ? `node ${newer[0]} goes by a newer list, of nodes ${idsOf(newer[1].agreed).join(' ')}: put it into the file here, and run mdmesh reload`
    : null;
  if (why === told) return;
  change(turn, { told: why });
  if (why !== null)
    turn.effects.push({ type: 'notice', name: 'NodeListDiffers', severity: 'warning', detail: { why } });
}

function say(turn: Turn, to: NodeId | null): void {
  const { self, agreed, pending, wish, master, words, said, saidAtMs } = turn.state;
  const word: RosterWord = {
    agreed,
    pending,
    wish: wish.digest,
    master: master?.node ?? null,
    term: master?.term ?? 0,
  };
  if (to !== null) turn.effects.push({ type: 'send', to, word });
  const key = JSON.stringify([agreed.version, pending?.version ?? null, word.wish, word.master, word.term]);
  const settled = pending === null && wish.digest === agreed.version.digest;
  if (key === said && (settled || turn.now - saidAtMs < REPEAT_MS)) return;
  change(turn, { said: key, saidAtMs: turn.now });
  const peers = new Set([
    ...idsOf(agreed),
    ...(pending === null ? [] : idsOf(pending)),
    ...idsOf(wish),
    ...words.keys(),
  ]);
  for (const node of peers) if (node !== self && node !== to) turn.effects.push({ type: 'send', to: node, word });
}
