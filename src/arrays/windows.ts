/**
 * How the node that copies moves through an array while all others write: a window at a time.
 *
 * The copier asks every other writer to hold its writes in the next stretch, and lets its own md go on to the end of that
 * stretch (`sync_max`) only when all have said that they do and that nothing is in flight there. The next stretch is asked for
 * when half of the present one is done, or sooner where answers are slow, so the copy need not wait for them. Behind the copy the
 * range is let go.
 *
 * A stretch is as long as `windowMs` of copying, not so many bytes: what a writer waits for is time. Where two answers take
 * longer than that it is as long as they do, within bounds: a shorter one would make the copy slow and the waiting no shorter.
 * With a limit the pauses between the stretches grow, not the stretches; between them nothing is held.
 *
 * Each stretch makes md empty its queue once or twice, to tell how far it is (md_do_sync), so short ones cost a share of the disks'
 * rate. Where nobody has written for a while stretches are longer: an answer says how many writes there were, and the first that
 * comes in makes them short again.
 *
 * Where md has a bitmap a resync copies what is marked there, and skips the rest in no time. A window then reaches over as much of
 * what is not marked as there is between so much that is: others hold all of it, though for no longer, and the number of windows
 * is that of the marked stretches. The marks that are known here only measure: should md find another one, it is copied
 * within the window all the same, and takes its time.
 *
 * A leg that fails makes md end a resync, and begin it again by itself before anybody can tell it not to: what is marked then, it copies
 * again. That is the chunk of the bitmap in which it was, or, with a slot free, all that it has copied (md_bitmap_start_sync keeps the
 * marks there). So where md has more than one leg left after a failure, the others hold from there on. Not while md stands at the end of
 * what it may copy: there it does not see that it is to end until it is let go on (md_do_sync). So where that is all, it stands for as
 * long after each window as others have held for it, and they write meanwhile.
 *
 * Sectors are in the unit of the copy (see `resync` of the record); `rangeOnArray` says what they are for writers.
 *
 * Rules kept here (each has a test that goes red without it):
 * - md is never allowed past what every other writer has said that it holds, in answer to the newest request.
 * - What is held is let go only when md has told that it is copied, and would not copy it again if a leg failed.
 */

import type { SectorRange } from '../md/driver.ts';
import { arrayOnComponent, arraySectors, componentOnArray, freeSlots, isWritten } from './levels.ts';
import { type ArrayRecord, type Copy, type CopyKind, compares, type NodeId } from './record.ts';

export interface CopyOptions {
  /** How long the copy of one window should take. */
  windowMs: number;
  windowMaxSectors: number;
  /** null: as fast as it goes. */
  limitKib: number | null;
}

export interface Windows {
  /** Of the record's `resync`: whose copy this is. */
  since: number;
  totalSectors: number;
  /** Windows begin and end at multiples of it. */
  unitSectors: number;
  /** What md has to copy, in order; null: everything. */
  marks: readonly SectorRange[] | null;
  /** Everything before it is copied. */
  doneSector: number;
  /** md may copy up to here. */
  allowedSector: number;
  /** Since when md has had work of which it has not told. */
  busyFromMs: number;
  /** Then it was let go on after it had stood; else it told of progress then, or a while before. */
  fromRest: boolean;
  /** The others are asked to hold from `askedFrom` up to here. */
  askedFrom: number;
  askedSector: number;
  askedAtMs: number;
  /** Of the newest request. */
  sequence: number;
  /** Who has answered which request. */
  held: ReadonlyMap<NodeId, number>;
  /** How many writes each had ended when it answered last. */
  writes: ReadonlyMap<NodeId, number>;
  /** When a node last said that it had written, or could not say that it had not. */
  writtenAtMs: number;
  /** Of md while it was not waiting for us; null: not known yet. */
  sectorsPerMs: number | null;
  /** From a request to the answer of the last of those that were asked. */
  answerMs: number;
  /** Not before this time is the next stretch asked for. */
  nextAtMs: number;
}

/** Grows with md's own pace from here. */
const FIRST_SECTORS = 2048;
const LEAST_SECTORS = 1024;
/** raid1 copies in 64 KiB pieces; a window that cuts one makes two of it. */
const PIECE_SECTORS = 128;
/** With nobody to hold anything, a request costs nothing but the wakeup. */
const ALONE_WINDOW_MS = 250;
const ASK_AGAIN_MS = 300;
/** Nobody has written for so long: then windows are longer. */
const QUIET_AFTER_MS = 1000;
const QUIET_WINDOW_MS = 100;
/** A pause worth letting go for. */
const LET_GO_MS = 5;
const PACE_WEIGHT = 0.3;
/** Of a pace that is known to be too low, for md stood still for a part of the time. */
const LOW_PACE_WEIGHT = 0.02;
const ANSWER_WEIGHT = 0.3;
/** On slow ways a window takes as long as this many answers, or the copy would mostly wait for the next one… */
const ANSWERS_A_WINDOW = 2;
/** … but no more than this many times what was asked for: writers wait for it. */
const LONGER_MOST = 4;
/** So much of md's work is left when the next stretch is asked for: an answer that takes twice its usual time is in time. */
const LEAD_ANSWERS = 2;
const LATE_MS = 2;

/**
 * md counts a resync, check or repair of raid10 in sectors of the array (`resync_max_sectors`, md_do_sync, drivers/md/md.c),
 * all else in sectors of the component.
 */
function countsArray(record: ArrayRecord, kind: CopyKind): boolean {
  return record.level === 'raid10' && kind !== 'recovery';
}

/** How long a copy of this kind is, in its own unit. */
export function copySectors(record: ArrayRecord, kind: CopyKind): number {
  return countsArray(record, kind) ? arraySectors(record) : record.componentSectors;
}

/**
 * What md copies again of a resync by marks if a leg fails: from the last multiple of so many sectors on; 0: from the start. null: nothing,
 * as the leg that is left has none to be copied to.
 */
export function copiedAgain(record: ArrayRecord): number | null {
  if (record.bitmap === null || record.members.filter(isWritten).length <= 2) return null;
  return freeSlots(record).length > 0 ? 0 : record.bitmap.chunkSectors;
}

/** The sectors of the array that this stretch of a copy can touch. */
export function rangeOnArray(
  record: ArrayRecord,
  kind: CopyKind,
  fromSector: number,
  toSector: number,
): { loSector: number; hiSector: number } {
  if (fromSector >= toSector) return { loSector: 0, hiSector: 0 };
  return countsArray(record, kind)
    ? { loSector: fromSector, hiSector: toSector }
    : componentOnArray(record, fromSector, toSector);
}

/** What is marked (in the unit of a resync), in the unit of this copy; a little more at either end. Neighbours are one. */
export function marksInCopy(record: ArrayRecord, kind: CopyKind, marks: readonly SectorRange[]): SectorRange[] {
  if (kind !== 'recovery' || record.level !== 'raid10') return [...marks];
  const ranges: SectorRange[] = [];
  for (const { loSector, hiSector } of marks) {
    const range = arrayOnComponent(record, loSector, hiSector);
    const last = ranges.at(-1);
    if (last !== undefined && last.hiSector >= range.loSector) last.hiSector = Math.max(last.hiSector, range.hiSector);
    else ranges.push(range);
  }
  return ranges;
}

/** Where md can begin this copy, at or before this sector: a check or repair begins with a whole chunk (sync_min). */
export function beginning(record: ArrayRecord, kind: CopyKind, sector: number): number {
  if (!compares(kind)) return sector;
  return sector - (sector % (record.chunkSectors || PIECE_SECTORS));
}

/**
 * Before the first window of a copy.
 * @param sector where md begins, or a little before: the checkpoint, or 0 of a resync with a bitmap
 * @param marks in the unit of the copy
 */
export function windowsStart(
  record: ArrayRecord,
  copy: Copy,
  now: number,
  sector = copy.fromSector,
  marks: readonly SectorRange[] | null = null,
): Windows {
  const fromSector = beginning(record, copy.kind, sector);
  return {
    since: copy.since,
    marks,
    totalSectors: copySectors(record, copy.kind),
    // Chunks are powers of two.
    unitSectors: Math.max(record.chunkSectors, PIECE_SECTORS),
    doneSector: fromSector,
    allowedSector: fromSector,
    busyFromMs: now,
    fromRest: true,
    askedFrom: fromSector,
    askedSector: fromSector,
    askedAtMs: now,
    // An agent that was started anew must not begin below what its former life has sent: this clock outlives it.
    sequence: Math.floor(now),
    held: new Map(),
    writes: new Map(),
    writtenAtMs: now,
    sectorsPerMs: null,
    answerMs: 0,
    nextAtMs: now,
  };
}

/** md begins anew there; what the others were asked to hold until now counts no more. */
export function windowsAgain(windows: Windows, sector: number, now: number): Windows {
  const start = { doneSector: sector, allowedSector: sector, askedFrom: sector, askedSector: sector };
  return { ...windows, ...start, busyFromMs: now, fromRest: true, nextAtMs: now };
}

export interface WindowFacts {
  /** Who writes besides the copier. */
  others: readonly NodeId[];
  /** As md tells; null: nothing new. */
  doneSector: number | null;
  /** See `copiedAgain`. */
  againSectors: number | null;
}

export interface WindowStep {
  windows: Windows;
  /** To be sent (again) to these nodes. */
  ask: { to: NodeId[]; sequence: number; fromSector: number; toSector: number } | null;
  /** md may go on; see `Windows.allowedSector`. */
  allowed: boolean;
  /** Look again after so long; null: only when something happens. */
  wakeMs: number | null;
}

/** Folds in what is known by now, and says what is to be done next. */
export function windowsStep(before: Windows, facts: WindowFacts, options: CopyOptions, now: number): WindowStep {
  // Who left and comes back has forgotten what it held.
  const held = new Map([...before.held].filter(([node]) => facts.others.includes(node)));
  let windows: Windows = { ...before, held };
  if (facts.doneSector !== null && facts.doneSector > windows.doneSector)
    windows = told(windows, facts.doneSector, now);
  const silent = facts.others.filter((node) => windows.held.get(node) !== windows.sequence);
  let allowed = false;
  if (silent.length === 0 && windows.allowedSector < windows.askedSector) {
    windows = goOn(answered(windows, now), now);
    allowed = true;
  }
  const sectors = stretch(windows, facts, options, now);
  const left = windows.allowedSector - windows.doneSector;
  const rests = facts.againSectors === 0 && facts.others.length > 0;
  const dueMs = rests && left > 0 ? Number.POSITIVE_INFINITY : Math.max(windows.nextAtMs, nearEndMs(windows, sectors));
  if (windows.allowedSector === windows.askedSector && windows.askedSector < windows.totalSectors) {
    const isHeld = windows.askedFrom < windows.askedSector;
    if (left <= 0 && isHeld && (rests || windows.nextAtMs - now > LET_GO_MS)) {
      const restMs = rests ? now - windows.askedAtMs : 0;
      windows = { ...windows, nextAtMs: Math.max(windows.nextAtMs, now + restMs) };
      return asked(windows, facts.others, windows.doneSector, now, allowed);
    }
    if (now >= dueMs) {
      const toSector = reach(windows, sectors);
      const work = workIn(windows, windows.askedSector, toSector);
      const paceMs = options.limitKib === null ? 0 : (work / 2 / options.limitKib) * 1000;
      windows = { ...windows, askedSector: toSector, nextAtMs: Math.max(windows.nextAtMs, now - paceMs) + paceMs };
      return asked(windows, facts.others, heldFrom(windows, facts), now, allowed);
    }
  }
  if (silent.length > 0 && now - windows.askedAtMs >= ASK_AGAIN_MS) {
    windows = { ...windows, askedAtMs: now };
    return { ...request(windows, silent), allowed };
  }
  const waits = windows.allowedSector === windows.askedSector && windows.askedSector < windows.totalSectors;
  const wakeMs = silent.length > 0 ? ASK_AGAIN_MS : waits && Number.isFinite(dueMs) ? dueMs - now : null;
  return { windows, ask: null, allowed, wakeMs };
}

export interface WindowAnswer {
  node: NodeId;
  /** Of the request that it has done last; 0: it knows of none, and waits for one. */
  sequence: number;
  /** How many writes it has ended so far; null: it cannot tell. */
  writes: number | null;
}

export function windowsHeld(before: Windows, { node, sequence, writes }: WindowAnswer, now: number): Windows {
  const windows = { ...before, held: new Map(before.held).set(node, sequence) };
  if (writes === null) return { ...windows, writtenAtMs: now };
  if (before.writes.get(node) === writes) return windows;
  return { ...windows, writes: new Map(before.writes).set(node, writes), writtenAtMs: now };
}

/** The others hold from here on as long as md may be copying. */
function heldFrom({ doneSector }: Windows, { againSectors }: WindowFacts): number {
  if (againSectors === null) return doneSector;
  return againSectors === 0 ? 0 : doneSector - (doneSector % againSectors);
}

function asked(
  before: Windows,
  others: readonly NodeId[],
  fromSector: number,
  now: number,
  allowed: boolean,
): WindowStep {
  const windows: Windows = {
    ...before,
    askedFrom: fromSector,
    askedAtMs: now,
    sequence: before.sequence + 1,
  };
  if (others.length > 0) return { ...request(windows, others), allowed };
  // Nobody to wait for.
  return { windows: goOn(windows, now), ask: null, allowed: true, wakeMs: null };
}

function goOn(windows: Windows, now: number): Windows {
  const waited = windows.doneSector >= windows.allowedSector;
  const busy = waited ? { busyFromMs: now, fromRest: true } : {};
  return { ...windows, allowedSector: windows.askedSector, ...busy };
}

function request(windows: Windows, to: readonly NodeId[]): Omit<WindowStep, 'allowed'> {
  const { sequence, askedFrom: fromSector, askedSector: toSector } = windows;
  return { windows, ask: { to: [...to], sequence, fromSector, toSector }, wakeMs: ASK_AGAIN_MS };
}

/** All have answered the newest request. */
function answered(windows: Windows, now: number): Windows {
  const tookMs = Math.min(now - windows.askedAtMs, ASK_AGAIN_MS);
  return { ...windows, answerMs: windows.answerMs + ANSWER_WEIGHT * (tookMs - windows.answerMs) };
}

/**
 * When so little is left of what md may do that the next stretch has to be asked for: half of one, or what it copies until the
 * answers are there. md tells of its progress at half of what is left to it, half of the rest, and so on: too seldom to wait for.
 */
function nearEndMs(windows: Windows, sectors: number): number {
  const { allowedSector, doneSector, sectorsPerMs, answerMs, busyFromMs } = windows;
  const left = workIn(windows, doneSector, allowedSector);
  if (sectorsPerMs === null) return left <= sectors / 2 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  const lead = Math.max(sectors / 2, sectorsPerMs * (LEAD_ANSWERS * answerMs + LATE_MS));
  return left <= lead ? Number.NEGATIVE_INFINITY : busyFromMs + (left - lead) / sectorsPerMs;
}

/** md has told of progress: its pace is measured over the time in which it had something to do. */
function told(windows: Windows, doneSector: number, now: number): Windows {
  const busyMs = now - windows.busyFromMs;
  const work = workIn(windows, windows.doneSector, doneSector);
  // What is skipped tells nothing of the pace.
  const pace = busyMs > 0 && work > 0 ? work / busyMs : null;
  return {
    ...windows,
    doneSector,
    busyFromMs: now,
    fromRest: false,
    // A copy that goes on may be further on already than its checkpoint says.
    allowedSector: Math.max(windows.allowedSector, doneSector),
    askedSector: Math.max(windows.askedSector, doneSector),
    sectorsPerMs: pace === null ? windows.sectorsPerMs : paceOf(windows, pace, doneSector),
  };
}

/**
 * Where md has come to the end of what it may do, it may have stood there for a while; where it began from rest, it was woken a
 * while after: such a pace can only be too low. Taken as it is it would make the windows smaller, which makes that share of the
 * time larger, and so on; and one that is higher than what is known is surely nearer to the truth.
 */
function paceOf({ sectorsPerMs: known, allowedSector, fromRest }: Windows, pace: number, doneSector: number): number {
  if (known === null) return pace;
  const low = fromRest || doneSector >= allowedSector;
  const weight = low && pace < known ? LOW_PACE_WEIGHT : fromRest ? 1 : PACE_WEIGHT;
  return known + weight * (pace - known);
}

function stretch(windows: Windows, facts: WindowFacts, options: CopyOptions, now: number): number {
  if (windows.sectorsPerMs === null) return Math.max(FIRST_SECTORS, windows.unitSectors);
  const answersMs = Math.min(ANSWERS_A_WINDOW * windows.answerMs, LONGER_MOST * options.windowMs);
  const quiet = now - windows.writtenAtMs >= QUIET_AFTER_MS;
  const leastMs = facts.others.length === 0 ? ALONE_WINDOW_MS : quiet ? QUIET_WINDOW_MS : answersMs;
  const windowMs = Math.max(options.windowMs, leastMs);
  const sectors = Math.min(windows.sectorsPerMs * windowMs, options.windowMaxSectors);
  return Math.max(sectors, LEAST_SECTORS, windows.unitSectors);
}

/** So much of this stretch has to be copied. */
function workIn({ marks }: Windows, fromSector: number, toSector: number): number {
  if (marks === null) return toSector - fromSector;
  let sum = 0;
  for (let at = firstPast(marks, fromSector); at < marks.length; at += 1) {
    const { loSector = 0, hiSector = 0 } = marks[at] ?? {};
    if (loSector >= toSector) break;
    sum += Math.min(hiSector, toSector) - Math.max(loSector, fromSector);
  }
  return sum;
}

/** Index of the first stretch that ends beyond this sector. There may be a hundred thousand, and this is asked many times a second. */
function firstPast(marks: readonly SectorRange[], sector: number): number {
  let [from, to] = [0, marks.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((marks[middle]?.hiSector ?? 0) > sector) to = middle;
    else from = middle + 1;
  }
  return from;
}

/** The end of the next stretch: so many sectors of it have to be copied. */
function reach({ marks, askedSector, unitSectors, totalSectors }: Windows, sectors: number): number {
  if (marks === null) return Math.min(upTo(askedSector + sectors, unitSectors), totalSectors);
  let left = sectors;
  for (let at = firstPast(marks, askedSector); at < marks.length; at += 1) {
    const { loSector = 0, hiSector = 0 } = marks[at] ?? {};
    const from = Math.max(loSector, askedSector);
    if (hiSector - from > left) return Math.min(upTo(from + left, unitSectors), totalSectors);
    left -= hiSector - from;
  }
  return totalSectors;
}

function upTo(sector: number, unit: number): number {
  return Math.ceil(sector / unit) * unit;
}
