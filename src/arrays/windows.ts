/**
 * How the node that copies moves through an array while all others write: a window at a time.
 *
 * The copier asks every other writer to hold its writes in the next stretch, and lets its own md go on to the end of that
 * stretch (`sync_max`) only when all have said that they do and that nothing is in flight there. The next stretch is asked for
 * when half of the present one is done, so the copy need not wait for the answers. Behind the copy the range is let go.
 *
 * A stretch is as long as `windowMs` of copying, not so many bytes: what a writer waits for is time. With a limit the pauses
 * between the stretches grow, not the stretches; between them nothing is held.
 *
 * Sectors are in the unit of the copy (see `resync` of the record); `rangeOnArray` says what they are for writers.
 *
 * Rules kept here (each has a test that goes red without it):
 * - md is never allowed past what every other writer has said that it holds, in answer to the newest request.
 * - What is held is let go only when md has told that it is copied.
 */
import { arraySectors, componentOnArray } from './levels.ts';
import type { ArrayRecord, Copy, CopyKind, NodeId } from './record.ts';

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
  /** Everything before it is copied. */
  doneSector: number;
  /** md may copy up to here. */
  allowedSector: number;
  /** Since when md has had work of which it has not told. */
  busyFromMs: number;
  /** The others are asked to hold from `askedFrom` up to here. */
  askedFrom: number;
  askedSector: number;
  askedAtMs: number;
  /** Of the newest request. */
  sequence: number;
  /** Who has answered which request. */
  held: ReadonlyMap<NodeId, number>;
  /** Of md while it was not waiting for us; null: not known yet. */
  sectorsPerMs: number | null;
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
/** A pause worth letting go for. */
const LET_GO_MS = 5;
const PACE_WEIGHT = 0.3;

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

/** Before the first window of a copy that begins at its checkpoint. */
export function windowsStart(record: ArrayRecord, copy: Copy, now: number): Windows {
  const { since, fromSector } = copy;
  return {
    since,
    totalSectors: copySectors(record, copy.kind),
    // Chunks are powers of two.
    unitSectors: Math.max(record.chunkSectors, PIECE_SECTORS),
    doneSector: fromSector,
    allowedSector: fromSector,
    busyFromMs: now,
    askedFrom: fromSector,
    askedSector: fromSector,
    askedAtMs: now,
    // An agent that was started anew must not begin below what its former life has sent: this clock outlives it.
    sequence: Math.floor(now),
    held: new Map(),
    sectorsPerMs: null,
    nextAtMs: now,
  };
}

export interface WindowFacts {
  /** Who writes besides the copier. */
  others: readonly NodeId[];
  /** As md tells; null: nothing new. */
  doneSector: number | null;
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
    windows = goOn(windows, now);
    allowed = true;
  }
  const sectors = stretch(windows, facts, options);
  if (windows.allowedSector === windows.askedSector && windows.askedSector < windows.totalSectors) {
    const left = windows.allowedSector - windows.doneSector;
    if (left <= sectors / 2 && now >= windows.nextAtMs) {
      const toSector = Math.min(upTo(windows.askedSector + sectors, windows.unitSectors), windows.totalSectors);
      const paceMs = options.limitKib === null ? 0 : ((toSector - windows.askedSector) / 2 / options.limitKib) * 1000;
      windows = { ...windows, askedSector: toSector, nextAtMs: Math.max(windows.nextAtMs, now - paceMs) + paceMs };
      return asked(windows, facts.others, now, allowed);
    }
    if (left <= 0 && windows.askedFrom < windows.askedSector && windows.nextAtMs - now > LET_GO_MS) {
      return asked(windows, facts.others, now, allowed);
    }
  }
  if (silent.length > 0 && now - windows.askedAtMs >= ASK_AGAIN_MS) {
    windows = { ...windows, askedAtMs: now };
    return { ...request(windows, silent), allowed };
  }
  const waits = windows.allowedSector === windows.askedSector && windows.nextAtMs > now;
  const wakeMs = silent.length > 0 ? ASK_AGAIN_MS : waits ? windows.nextAtMs - now : null;
  return { windows, ask: null, allowed, wakeMs };
}

/** A node says which request it has done last; 0: it knows of none, and waits for one. */
export function windowsHeld(windows: Windows, node: NodeId, sequence: number): Windows {
  return { ...windows, held: new Map(windows.held).set(node, sequence) };
}

function asked(before: Windows, others: readonly NodeId[], now: number, allowed: boolean): WindowStep {
  const windows: Windows = {
    ...before,
    askedFrom: before.doneSector,
    askedAtMs: now,
    sequence: before.sequence + 1,
  };
  if (others.length > 0) return { ...request(windows, others), allowed };
  // Nobody to wait for.
  return { windows: goOn(windows, now), ask: null, allowed: true, wakeMs: null };
}

function goOn(windows: Windows, now: number): Windows {
  const waited = windows.doneSector >= windows.allowedSector;
  return { ...windows, allowedSector: windows.askedSector, busyFromMs: waited ? now : windows.busyFromMs };
}

function request(windows: Windows, to: readonly NodeId[]): Omit<WindowStep, 'allowed'> {
  const { sequence, askedFrom: fromSector, askedSector: toSector } = windows;
  return { windows, ask: { to: [...to], sequence, fromSector, toSector }, wakeMs: ASK_AGAIN_MS };
}

/** md has told of progress: its pace is measured over the time in which it had something to do. */
function told(windows: Windows, doneSector: number, now: number): Windows {
  const busyMs = now - windows.busyFromMs;
  const pace = busyMs > 0 ? (doneSector - windows.doneSector) / busyMs : null;
  const known = windows.sectorsPerMs;
  return {
    ...windows,
    doneSector,
    busyFromMs: now,
    // A copy that goes on may be further on already than its checkpoint says.
    allowedSector: Math.max(windows.allowedSector, doneSector),
    askedSector: Math.max(windows.askedSector, doneSector),
    sectorsPerMs: pace === null || known === null ? (pace ?? known) : known + PACE_WEIGHT * (pace - known),
  };
}

function stretch(windows: Windows, facts: WindowFacts, options: CopyOptions): number {
  if (windows.sectorsPerMs === null) return Math.max(FIRST_SECTORS, windows.unitSectors);
  const windowMs = facts.others.length === 0 ? Math.max(options.windowMs, ALONE_WINDOW_MS) : options.windowMs;
  const sectors = Math.min(windows.sectorsPerMs * windowMs, options.windowMaxSectors);
  return Math.max(sectors, LEAST_SECTORS, windows.unitSectors);
}

function upTo(sector: number, unit: number): number {
  return Math.ceil(sector / unit) * unit;
}
