/**
 * The lease by disks: a holder's word stands in its block on a majority of the quorum set's disks, and nobody else gets one there
 * while it is kept fresh. The protocol, and why no two leases are live together: docs/quorum.md.
 *
 * This is what one node does at its blocks. It reads all of them again and again. It *bids*: writes its own on a majority, then
 * reads the others' there. It holds: writes its own again, each time counting R from before. It lets go: `free`.
 * A disk has one operation at a time; one that is slow counts for nothing until it answers.
 */
import { compareVersions, type NodeId } from '../arrays/record.ts';
import { giveUpCandidacy } from './candidate.ts';
import type { StoredVote } from './index.ts';
import { becomeMaster, extendLease, loseLease } from './master.ts';
import {
  type DiskBlock,
  disksOf,
  isQuorum,
  isWorthChanging,
  QUORUM_DISKS_MAX,
  type QuorumSet,
  quorumSinceMs,
  type ReadBlock,
} from './quorum_set.ts';
import { change, knowTerm, type LeaseState, note, type Turn } from './state.ts';

/** This node's own word, and when it was made up: what it promises is counted from there. */
interface OwnBlock {
  readonly block: DiskBlock;
  readonly madeMs: number;
}

interface Operation {
  readonly id: number;
  /** null: a read. */
  readonly write: OwnBlock | null;
  readonly askedMs: number;
}

export interface DiskSight {
  readonly busy: Operation | null;
  /** Newest own block that is durable here, by this start of the agent. */
  readonly written: OwnBlock | null;
  readonly failedMs: number;
  readonly readTriedMs: number;
  /** When the newest read that succeeded was asked for. */
  readonly readMs: number;
  /** Others' blocks, and since when this node has seen them so: when the read that first showed it had ended. */
  readonly blocks: ReadonlyMap<NodeId, SeenBlock>;
}

export interface SeenBlock {
  readonly block: ReadBlock;
  readonly sinceMs: number;
}

export interface Bid {
  readonly term: number;
  /** The lease is counted from here. */
  readonly sentAtMs: number;
  readonly sequence: number;
  /** Disks where the bid stands, and where nobody in its way was found afterwards. */
  readonly cleared: ReadonlySet<string>;
  /** A quorum is cleared; the certificate is being sealed. */
  readonly won: boolean;
}

export interface DiskState {
  readonly boot: string;
  /** null: none is known. All nodes of the list must agree then, and one that knows a set does not. */
  readonly set: QuorumSet | null;
  /** The first set, on its way to the vote file. Until it is there, no disk may hear of it. */
  readonly storing: QuorumSet | null;
  /** What the set ought to be, by the newest records. */
  readonly wanted: readonly string[];
  /** Of the set, what is to be out of it before it can be reached no more. */
  readonly leaving: readonly string[];
  /** null: it has said nothing since its start. */
  readonly own: OwnBlock | null;
  /** Own sequence that told the disks of the present set: where that one is durable, the set is. */
  readonly setSequence: number;
  readonly bid: Bid | null;
  /** Term of the newest bid that was won: in no other do own blocks hold a lease. */
  readonly wonTerm: number;
  /** Terms that their holders have signed away. */
  readonly released: ReadonlyMap<NodeId, number>;
  readonly sights: ReadonlyMap<string, DiskSight>;
  readonly lastId: number;
}

const UNSEEN: DiskSight = {
  busy: null,
  written: null,
  failedMs: Number.NEGATIVE_INFINITY,
  readTriedMs: Number.NEGATIVE_INFINITY,
  readMs: Number.NEGATIVE_INFINITY,
  blocks: new Map(),
};

export function disksStart(boot: string, set: QuorumSet | null): DiskState {
  return {
    boot,
    set,
    storing: null,
    wanted: [],
    leaving: [],
    own: null,
    setSequence: 0,
    bid: null,
    wonTerm: 0,
    released: new Map(),
    sights: new Map(),
    lastId: 0,
  };
}

function changeDisks(turn: Turn, part: Partial<DiskState>): void {
  const { disks } = turn.state;
  if (disks !== null) change(turn, { disks: { ...disks, ...part } });
}

function changeSight(turn: Turn, disk: string, part: Partial<DiskSight>): void {
  const { disks } = turn.state;
  if (disks === null) return;
  changeDisks(turn, { sights: new Map(disks.sights).set(disk, { ...sightOf(disks, disk), ...part }) });
}

function sightOf(disks: DiskState, disk: string): DiskSight {
  return disks.sights.get(disk) ?? UNSEEN;
}

/** Disks that are looked at: those of the set, and those that may get into one. */
export function watchedDisks(disks: DiskState): string[] {
  return [...new Set([...(disks.set === null ? [] : disksOf(disks.set)), ...disks.wanted])];
}

/** Whether votes no longer count here: a set is known, or about to be. */
export function disksDecide(state: LeaseState): boolean {
  return state.disks !== null && (state.disks.set !== null || state.disks.storing !== null);
}

/** It stands for the disks: nobody else's word is in the way there, as far as it has seen. */
export function bidsForDisks({ role, disks }: LeaseState): boolean {
  return role.kind === 'candidate' && disks !== null && disks.set !== null && disks.bid !== null;
}

// --- what others say --------------------------------------------------------------------------------------------------

/**
 * Whether a block is in nobody's way any more at `byMs`. Its writer has let go; or it was first seen L before: it was written
 * earlier still, and R after that the lease that it stood for had ended. A torn one may hide anything.
 */
function isSpent(state: LeaseState, node: NodeId, { block, sinceMs }: SeenBlock, byMs: number): boolean {
  if (block === 'torn') return false;
  if (block.phase === 'free' || block.term <= (state.disks?.released.get(node) ?? 0)) return true;
  return sinceMs + state.config.voterMs <= byMs;
}

function inTheWay(state: LeaseState, disk: string, byMs: number): ReadBlock[] {
  const blocks = state.disks?.sights.get(disk)?.blocks ?? new Map<NodeId, SeenBlock>();
  return [...blocks].filter(([node, seen]) => !isSpent(state, node, seen, byMs)).map(([, seen]) => seen.block);
}

/** What stands there has been read lately. */
export function answers(state: LeaseState, disk: string): boolean {
  const readMs = state.disks?.sights.get(disk)?.readMs ?? Number.NEGATIVE_INFINITY;
  return state.lastNowMs - readMs < state.config.holderMs;
}

/** Enough disks answer for this node to hold a lease. Without a set nothing is asked of them. */
export function seesQuorum(state: LeaseState): boolean {
  const set = state.disks?.set ?? null;
  return set === null || isQuorum(set, (disk) => answers(state, disk));
}

/** A bid might be won, as far as has been seen. It only spares the disks bids that cannot be. */
export function wayIsClear(state: LeaseState): boolean {
  const set = state.disks?.set ?? null;
  const clear = (disk: string) => answers(state, disk) && inTheWay(state, disk, state.lastNowMs).length === 0;
  return set !== null && isQuorum(set, clear);
}

// --- what this node says ----------------------------------------------------------------------------------------------

function say(turn: Turn, term: number, phase: DiskBlock['phase']): void {
  const { disks, config } = turn.state;
  if (disks === null || disks.set === null) return;
  const sequence = (disks.own?.block.sequence ?? 0) + 1;
  const block: DiskBlock = { node: config.self, boot: disks.boot, term, phase, sequence, set: disks.set };
  changeDisks(turn, { own: { block, madeMs: turn.now } });
}

export function makeBid(turn: Turn, term: number): void {
  say(turn, term, 'standing');
  const sequence = turn.state.disks?.own?.block.sequence ?? 0;
  changeDisks(turn, { bid: { term, sentAtMs: turn.now, sequence, cleared: new Set(), won: false } });
  operate(turn);
}

/** After the lease, or the hope for one, has ended. Never before. */
export function letGo(turn: Turn): void {
  changeDisks(turn, { bid: null });
  const own = turn.state.disks?.own ?? null;
  if (own === null || own.block.phase === 'free') return;
  say(turn, own.block.term, 'free');
  operate(turn);
}

/** A renewal. */
export function holdOn(turn: Turn): void {
  const { role, disks } = turn.state;
  if (role.kind !== 'master' || disks?.wonTerm !== role.term) return;
  say(turn, role.term, 'holding');
  operate(turn);
}

/** From when the newest word of this holder counts that a quorum's disks have; null: they have none. */
export function heldSinceMs(state: LeaseState): number | null {
  const { role, disks } = state;
  if (role.kind !== 'master' || disks === null || disks.set === null || disks.wonTerm !== role.term) return null;
  return quorumSinceMs(disks.set, (disk) => {
    const { written } = sightOf(disks, disk);
    return written !== null && written.block.term === role.term ? written.madeMs : null;
  });
}

export function onDiskRelease(turn: Turn, holder: NodeId, term: number): void {
  const { disks } = turn.state;
  if (disks !== null) changeDisks(turn, { released: new Map(disks.released).set(holder, term) });
}

// --- operations -------------------------------------------------------------------------------------------------------

/** Begins whatever is due at the disks. */
export function operate(turn: Turn): void {
  const { disks } = turn.state;
  for (const disk of disks === null ? [] : watchedDisks(disks)) operateOn(turn, disk);
}

function operateOn(turn: Turn, disk: string): void {
  const { disks, config } = turn.state;
  if (disks === null) return;
  const sight = sightOf(disks, disk);
  if (sight.busy !== null || turn.now < sight.failedMs + config.renewMs / 2) return;
  const { own, bid, set } = disks;
  const decides = set !== null && disksOf(set).includes(disk);
  if (decides && own !== null && own.block.sequence !== sight.written?.block.sequence) {
    begin(turn, disk, own);
    return;
  }
  const clears = decides && bid !== null && !bid.won && !bid.cleared.has(disk);
  // Who waits for another bid to be taken back looks often.
  const everyMs = clears ? config.renewMs / 8 : config.renewMs;
  if (turn.now >= sight.readTriedMs + everyMs) begin(turn, disk, null);
}

function begin(turn: Turn, disk: string, write: OwnBlock | null): void {
  const id = (turn.state.disks?.lastId ?? 0) + 1;
  changeDisks(turn, { lastId: id });
  changeSight(turn, disk, { busy: { id, write, askedMs: turn.now } });
  if (write !== null) {
    turn.effects.push({ type: 'disk-write', disk, id, block: write.block });
    return;
  }
  changeSight(turn, disk, { readTriedMs: turn.now });
  turn.effects.push({ type: 'disk-read', disk, id });
}

export function onDiskWritten(turn: Turn, disk: string, id: number, done: boolean): void {
  const busy = turn.state.disks?.sights.get(disk)?.busy ?? null;
  if (busy === null || busy.id !== id || busy.write === null) return;
  // Not done: it may stand there, or not, or in part. What counts is what was there before, which is older.
  changeSight(turn, disk, done ? { busy: null, written: busy.write } : { busy: null, failedMs: turn.now });
  // A bid is followed by a look at once.
  if (done && turn.state.disks?.bid != null) changeSight(turn, disk, { readTriedMs: Number.NEGATIVE_INFINITY });
  extendLease(turn);
  completeSet(turn);
  operate(turn);
}

export function onDiskRead(turn: Turn, disk: string, id: number, found: ReadonlyMap<NodeId, ReadBlock> | null): void {
  const { disks, config } = turn.state;
  const sight = disks?.sights.get(disk);
  if (disks === null || sight === undefined || sight.busy?.id !== id || sight.busy.write !== null) return;
  if (found === null) {
    changeSight(turn, disk, { busy: null, failedMs: turn.now });
    return;
  }
  const blocks = new Map<NodeId, SeenBlock>();
  for (const [node, block] of found) {
    if (node === config.self) continue;
    const before = sight.blocks.get(node);
    const same = before !== undefined && isSame(before.block, block);
    blocks.set(node, { block, sinceMs: same ? before.sinceMs : turn.now });
  }
  changeSight(turn, disk, { busy: null, readMs: sight.busy.askedMs, blocks });
  for (const block of found.values()) if (block !== 'torn') learn(turn, block);
  clearBid(turn, disk, found.get(config.self) ?? null);
  operate(turn);
}

function isSame(a: ReadBlock, b: ReadBlock): boolean {
  if (a === 'torn' || b === 'torn') return a === b;
  return a.boot === b.boot && a.sequence === b.sequence;
}

function learn(turn: Turn, block: DiskBlock): void {
  knowTerm(turn, Math.max(block.term, block.set.version.term));
  const { role, config } = turn.state;
  if (block.node !== config.self && block.phase === 'holding' && role.kind === 'master' && block.term > role.term) {
    loseLease(turn, `node ${block.node} holds the later term ${block.term}, as the disks say`);
  }
  adopt(turn, block.set);
}

/** A newer set decides from now on, and nothing that was won by an older one goes on. */
function adopt(turn: Turn, set: QuorumSet): void {
  const { disks, role } = turn.state;
  if (disks === null) return;
  const known = disks.set ?? disks.storing;
  if (known !== null && compareVersions(set.version, known.version) <= 0) return;
  changeDisks(turn, { set, storing: null });
  const news = known === null || disksOf(known).sort().join() !== disksOf(set).sort().join();
  if (news) note(turn, 'QuorumSet', `the disks know another quorum set: ${set.disks.join(', ')}`);
  if (role.kind === 'candidate') giveUpCandidacy(turn, 'the quorum set is a newer one');
  if (role.kind === 'master') loseLease(turn, 'the quorum set is a newer one');
}

// --- bids -------------------------------------------------------------------------------------------------------------

/**
 * After a read of this disk. Writing comes before reading: of two that bid, each finds the other unless it was first; so at most
 * one is alone. When both find each other, the lower ID stays and the higher one takes its bid back.
 * @param own what stands in this node's own block
 */
function clearBid(turn: Turn, disk: string, own: ReadBlock | null): void {
  const { disks, config } = turn.state;
  const bid = disks?.bid ?? null;
  if (disks === null || disks.set === null || bid === null || bid.won) return;
  if (turn.state.knownTerm > bid.term) {
    takeBack(turn, `the disks know the later term ${turn.state.knownTerm}`);
    // With a term above that one it may stand again at once.
    change(turn, { standNotBeforeMs: turn.now });
    return;
  }
  const { written } = sightOf(disks, disk);
  // The read was begun after the bid was durable here, or it shows nothing; and a disk that does not show it lies.
  if (written === null || written.block.sequence < bid.sequence || own === null || !isSame(own, written.block)) return;
  const rivals = inTheWay(turn.state, disk, bid.sentAtMs);
  for (const rival of rivals) {
    if (rival === 'torn') return;
    if (rival.phase === 'holding' || rival.node < config.self) {
      const does = rival.phase === 'holding' ? 'holds the disks' : 'bids too, and goes before,';
      takeBack(turn, `node ${rival.node} ${does} in term ${rival.term}`);
      return;
    }
  }
  if (rivals.length > 0) return;
  const cleared = new Set(bid.cleared).add(disk);
  const won = isQuorum(disks.set, (each) => cleared.has(each));
  changeDisks(turn, { bid: { ...bid, cleared, won } });
  if (won) winBid(turn, bid);
}

function takeBack(turn: Turn, why: string): void {
  if (turn.state.role.kind === 'candidate') giveUpCandidacy(turn, why);
  else letGo(turn);
}

function winBid(turn: Turn, bid: Bid): void {
  const { role, disks } = turn.state;
  if (disks === null || disks.set === null) return;
  if (role.kind === 'candidate') {
    turn.effects.push({ type: 'seal-disk-lease', term: bid.term, set: stamped(disks.set, bid.term) });
    return;
  }
  // The first set: this node is master by the word of all nodes already.
  hold(turn, bid.term);
  holdOn(turn);
  extendLease(turn);
}

/** Under the holder's own term, so that sets which others began and did not complete are older. */
function stamped(set: QuorumSet, term: number): QuorumSet {
  return set.version.term === term ? set : { ...set, version: { term, index: 0 } };
}

function hold(turn: Turn, term: number): void {
  const { disks } = turn.state;
  if (disks === null || disks.set === null) return;
  const set = stamped(disks.set, term);
  changeDisks(turn, { set, setSequence: (disks.own?.block.sequence ?? 0) + 1, wonTerm: term, bid: null });
  turn.effects.push({ type: 'quorum-set', term, set });
}

/** The certificate of a bid that was won. */
export function onDiskLeaseSealed(turn: Turn, term: number, sealed: string): void {
  const { role, config, disks } = turn.state;
  if (role.kind !== 'candidate' || disks?.bid?.won !== true || disks.bid.term !== term) return;
  if (turn.now >= role.sentAtMs + config.holderMs) {
    giveUpCandidacy(turn, 'its certificate came too late');
    return;
  }
  hold(turn, term);
  becomeMaster(turn, role, [sealed], { lapsed: lapsedHolders(turn.state) });
}

/** Whose newest word on the disks is not that it has let go. One that stands for nothing but a bid may have won. */
function lapsedHolders({ disks }: LeaseState): NodeId[] {
  const [stands, over] = [new Map<NodeId, number>(), new Map(disks?.released)];
  for (const { blocks } of disks?.sights.values() ?? [])
    for (const [node, { block }] of blocks) {
      if (block === 'torn') continue;
      const terms = block.phase === 'free' ? over : stands;
      terms.set(node, Math.max(block.term, terms.get(node) ?? 0));
    }
  return [...stands].flatMap(([node, term]) => (term > (over.get(node) ?? 0) ? node : []));
}

// --- the set ----------------------------------------------------------------------------------------------------------

export function onWantedDisks(turn: Turn, wanted: readonly string[], leaving: readonly string[]): void {
  changeDisks(turn, { wanted: [...wanted], leaving: [...leaving] });
  operate(turn);
}

/** The master makes the first set, and follows the records with the later ones. */
export function considerSet(turn: Turn): void {
  const { role, disks, pendingVote } = turn.state;
  if (role.kind !== 'master' || disks === null || disks.storing !== null || pendingVote !== null) return;
  const { wanted, set } = disks;
  // A disk that is of no use to it now would only stand in its own way.
  const useful = wanted.length <= QUORUM_DISKS_MAX && wanted.every((disk) => answers(turn.state, disk));
  if (set === null) {
    if (wanted.length === 0 || !useful) return;
    const first: QuorumSet = { version: { term: role.term, index: 0 }, disks: wanted, former: null };
    changeDisks(turn, { storing: first });
    const { term, candidate } = turn.state.vote;
    turn.effects.push({ type: 'store-set', vote: withSet(turn.state, { term, candidate, promise: null }) });
    return;
  }
  if (disks.wonTerm !== role.term || set.former !== null) return;
  const next = useful && isWorthChanging(set, wanted) ? wanted : withoutLeaving(turn.state, set, disks.leaving);
  if (next === null) return;
  tellSet(turn, { version: { term: role.term, index: set.version.index + 1 }, disks: next, former: set.disks });
}

/** A disk that never answers again is of no use in a set, whatever its size: out of it, no more of the others are needed than with it. */
function withoutLeaving(state: LeaseState, set: QuorumSet, leaving: readonly string[]): string[] | null {
  const disks = set.disks.filter((disk) => !leaving.includes(disk));
  if (disks.length === 0 || disks.length === set.disks.length) return null;
  return isQuorum({ ...set, disks, former: null }, (disk) => answers(state, disk)) ? disks : null;
}

function tellSet(turn: Turn, set: QuorumSet): void {
  const { role, disks } = turn.state;
  if (disks === null || role.kind !== 'master') return;
  changeDisks(turn, { set, setSequence: (disks.own?.block.sequence ?? 0) + 1 });
  turn.effects.push({ type: 'quorum-set', term: role.term, set });
  holdOn(turn);
}

/** Both majorities have the change: from now on the new one is enough, for everybody, because whoever asks the old one hears of it. */
function completeSet(turn: Turn): void {
  const { role, disks } = turn.state;
  if (role.kind !== 'master' || disks === null || disks.set === null || disks.wonTerm !== role.term) return;
  const { set, setSequence } = disks;
  if (set.former === null) return;
  const has = (disk: string): boolean => (sightOf(disks, disk).written?.block.sequence ?? 0) >= setSequence;
  if (!isQuorum(set, has)) return;
  tellSet(turn, { version: { term: role.term, index: set.version.index + 1 }, disks: set.disks, former: null });
}

/** The first set is in the vote file: no vote of this node will ever count again, so the disks may hear of it. */
export function onSetStored(turn: Turn): void {
  const { disks, role } = turn.state;
  if (disks === null || disks.storing === null) return;
  changeDisks(turn, { set: disks.storing, storing: null });
  if (role.kind === 'master') makeBid(turn, role.term);
}

/** What the vote file says of the set, too; where nodes decide it says nothing. */
export function withSet(state: LeaseState, vote: StoredVote): StoredVote {
  const set = state.disks?.set ?? state.disks?.storing ?? null;
  return set === null ? vote : { ...vote, set };
}
