/**
 * Copies as records have them: when a resync, a recovery or a check begins, by whom, by whose marks, how far it is, and what the record is
 * after it.
 */
import { checkDue } from './check_schedule.ts';
import {
  afterCrash,
  canDiffer,
  freeSlots,
  isDegradedParity,
  isRedundant,
  mayTouch,
  rebuildingMembers,
} from './levels.ts';
import type { MasterArray, MasterState, NextChange } from './master_state.ts';
import { lacksOnlyMarked } from './missed.ts';
import {
  type ArrayRecord,
  type Copy,
  type CopyKind,
  compares,
  type MemberRecord,
  type NodeId,
  wholeCopy,
  withFound,
} from './record.ts';
import { replacementIn } from './shape.ts';

/** 1 GiB: a fast copy is not done again for as long as `checkpointMs` would have it. */
const CHECKPOINT_SECTORS = 2 * 1024 * 1024;

export function copyOf(record: ArrayRecord, kind: CopyKind, by: NodeId): Copy {
  return wholeCopy(kind, by, record.version.index + 1);
}

/**
 * A crash has left what is written in doubt, everywhere: legs may differ, and a member that is being rebuilt misses it. Legs
 * first: md resyncs nothing while a member is being rebuilt (md_check_recovery, drivers/md/md.c), so that one is a spare again.
 * @param markedBy see the record's `resync`
 */
export function withResync(record: ArrayRecord, by: NodeId, markedBy: readonly NodeId[] | null): ArrayRecord {
  if (!canDiffer(record)) {
    if (rebuildingMembers(record).length === 0) return { ...record, resync: null };
    const { resync: before } = record;
    const known = before?.kind === 'recovery' ? before.markedBy : null;
    const marks = known === null || markedBy === null ? null : union(known, markedBy);
    return { ...record, resync: { ...copyOf(record, 'recovery', by), markedBy: marks } };
  }
  const marks = markedBy === null ? null : [...markedBy];
  const resync = { ...copyOf(record, 'resync', by), markedBy: marks, ...afterCrash(record) };
  return { ...record, members: spareAgain(record.members), resync };
}

/**
 * What a writer was writing as it crashed may not fit its parity. Nothing can be compared with it, and whatever is filled from it would look
 * like the others: that waits for an operator's word as well.
 */
export function withDoubt(record: ArrayRecord): ArrayRecord {
  return { ...record, members: spareAgain(record.members), resync: null, parityInDoubt: true };
}

function spareAgain(members: readonly MemberRecord[]): MemberRecord[] {
  return members.map((member) =>
    member.role === 'rebuilding' ? { ...member, role: 'spare' as const, slot: null } : member,
  );
}

/**
 * Whose bitmaps tell all that these nodes, and those before them, may have left different; null: that is not known. A node that
 * copied without being a writer has changed nothing beyond what its resync was told to copy.
 */
export function marksAfter(record: ArrayRecord, dirty: readonly NodeId[]): NodeId[] | null {
  const { resync } = record;
  if (record.bitmap === null) return null;
  const before = resync?.kind === 'resync' ? resync.markedBy : [];
  // What a repair writes is marked nowhere.
  if (before === null || (resync?.kind === 'repair' && dirty.includes(resync.by))) return null;
  const crashed = record.writerBoots.filter(({ node }) => dirty.includes(node));
  const writers = dirty.filter((node) => record.writers.includes(node));
  if (crashed.length < writers.length || crashed.some(({ bitmap }) => !bitmap)) return null;
  return union(before, writers);
}

function union(a: readonly NodeId[], b: readonly NodeId[]): NodeId[] {
  return [...new Set([...a, ...b])].sort((x, y) => x - y);
}

/** The record after its copy has ended. */
export function withoutCopy(record: ArrayRecord, copy: Copy): ArrayRecord {
  const members =
    copy.kind === 'recovery'
      ? record.members.map(({ was, ...member }) => {
          if (member.role === 'rebuilding') return { ...member, role: 'active' as const };
          return was === undefined ? member : { ...member, was };
        })
      : record.members;
  const copied = { ...record, members, resync: null, events: record.events + 1 };
  if (isDegradedParity(copied)) return copied;
  // What was in doubt is, if wrong, the same on all from here on.
  const { parityInDoubt: _, ...whole } = copied;
  return whole;
}

/** The copy of which nothing is left in the record after. */
export function calledOff({ resync: before }: ArrayRecord, { resync: after }: ArrayRecord): CopyKind | null {
  return before !== null && before.kind !== after?.kind ? before.kind : null;
}

/** A check or repair has ended: the next one is counted from now. */
export function checked(
  state: MasterState,
  record: ArrayRecord,
  copy: Copy,
  mismatchSectors: number | null,
): ArrayRecord {
  if (!compares(copy.kind)) return record;
  return { ...record, lastCheck: { atSeconds: state.wall?.seconds ?? record.utimeSeconds, mismatchSectors } };
}

export function isBlind(record: ArrayRecord, id: NodeId): boolean {
  return record.blind?.includes(id) === true;
}

export function copierFor(state: MasterState, record: ArrayRecord): NodeId {
  return record.access === 'exclusive' && record.owner !== null ? record.owner : state.self;
}

/** Nodes that are to cease to write, so that a spare which they do not see can take a slot. */
function blindStart(state: MasterState, record: ArrayRecord): NextChange | null {
  for (const { uuid, role, allowMissing, dataSizeSectors } of record.members) {
    if (role !== 'spare' || allowMissing !== true || dataSizeSectors < record.componentSectors) continue;
    const blind = mayTouch(record).filter((id) => {
      const report = state.nodes.get(id)?.reports.get(record.uuid);
      return report !== undefined && !report.visible.includes(uuid);
    });
    const [node] = blind;
    const asked = blind.every((id) => isBlind(record, id));
    if (node === undefined || asked || blind.includes(copierFor(state, record))) continue;
    const changed = { ...record, blind: [...new Set([...(record.blind ?? []), ...blind])] };
    return { kind: 'blind', record: changed, detail: { member: uuid, node }, fields: {} };
  }
  return null;
}

/** The first node that has to write to this member and does not see it. */
export function unseenBy(state: MasterState, record: ArrayRecord, uuid: string): NodeId | null {
  const sees = (id: NodeId) => state.nodes.get(id)?.reports.get(record.uuid)?.visible.includes(uuid) === true;
  return mayTouch(record).find((id) => !sees(id)) ?? null;
}

/** A spare that takes over a free slot, if every node that has to write to it sees it. */
export function recoveryStart(state: MasterState, record: ArrayRecord): NextChange | null {
  if (record.run !== 'started' || record.resync !== null || record.writers.length === 0) return null;
  if (!isRedundant(record.level)) return null;
  const [first, ...more] = freeSlots(record);
  if (first === undefined) return null;
  const ready = record.members.filter(({ role, uuid }) => role === 'spare' && unseenBy(state, record, uuid) === null);
  // One of the slots is there for the member that is to replace another, and is taken away when it has.
  const waits = replacementIn(record)?.role === 'spare';
  const other = waits && more.length === 0 ? undefined : ready.find(({ replaces }) => replaces === undefined);
  const spare = ready.find(({ replaces }) => replaces !== undefined) ?? other;
  if (spare === undefined) return blindStart(state, record);
  if (spare.dataSizeSectors < record.componentSectors) return null;
  const { slot, markedBy } = placeOf(record, spare, [first, ...more]);
  const members = record.members.map((member) =>
    member === spare ? { ...member, role: 'rebuilding' as const, slot } : member,
  );
  return {
    kind: 'resync-start',
    record: {
      ...record,
      members,
      resync: { ...copyOf(record, 'recovery', copierFor(state, record)), markedBy },
      events: record.events + 1,
    },
    detail: { member: spare.uuid },
    fields: { copied: false, progress: null },
  };
}

/** A free slot for this spare, and in whose bitmaps all that it lacks there is marked. */
function placeOf(
  record: ArrayRecord,
  spare: MemberRecord,
  [first, ...more]: readonly [number, ...number[]],
): { slot: number; markedBy: NodeId[] | null } {
  for (const slot of [first, ...more]) {
    const markedBy = lacksOnlyMarked(record, spare, slot);
    if (typeof markedBy !== 'string') return { slot, markedBy };
  }
  return { slot: first, markedBy: null };
}

/** One array at a time: arrays may lie on the same disks. */
export function scheduledCheck(state: MasterState, array: MasterArray, record: ArrayRecord): NextChange | null {
  if (!checkDue(record, state.checks, state.wall) || array.paths.lostSince.size > 0) return null;
  const busy = [...state.arrays.values()].some((other) => (other.pending?.record ?? other.record)?.resync != null);
  if (busy) return null;
  return {
    kind: 'resync-start',
    record: { ...record, resync: copyOf(record, 'check', copierFor(state, record)) },
    detail: {},
    fields: { copied: false, progress: null, mismatchSectors: null },
  };
}

/**
 * A copy as far as its copier has told of it; the same one: no further than the record says. Never at its end: whoever had to go on from
 * there would find nothing to begin, and so nothing whose end it could tell.
 */
export function furthered({ progress }: MasterArray, copy: Copy): Copy {
  if (progress === null || progress.since !== copy.since) return copy;
  const { doneSectors: fromSector, totalSectors, mismatchSectors } = progress;
  if (fromSector <= copy.fromSector || fromSector >= totalSectors) return copy;
  const foundSectors = (mismatchSectors ?? 0) - (copy.foundBefore ?? 0);
  return { ...copy, fromSector, ...(foundSectors > 0 && { foundSectors }) };
}

/** What those had mended who were at this repair before, by their own word: each is counted once. */
export function mendedBefore(state: MasterState, { mended }: MasterArray, record: ArrayRecord): NextChange | null {
  const copy = record.resync;
  if (copy?.kind !== 'repair') return null;
  const counted = mended?.since === copy.since ? mended.by : [];
  const told = [...state.nodes].flatMap(([node, { reports }]) => {
    const word = reports.get(record.uuid)?.mended;
    return word?.since === copy.since && !counted.includes(node) ? [{ node, sectors: word.sectors }] : [];
  });
  if (told.length === 0) return null;
  const sectors = told.reduce((sum, word) => sum + word.sectors, 0);
  const by = [...counted, ...told.map(({ node }) => node)];
  return {
    kind: 'resync-checkpoint',
    record: { ...record, resync: withFound(copy, sectors), events: record.events + 1 },
    detail: {},
    // The copier's words so far are without it.
    fields: { mended: { since: copy.since, by }, copied: false, progress: null },
  };
}

export function checkpoint(
  state: MasterState,
  array: MasterArray,
  record: ArrayRecord,
  now: number,
): NextChange | null {
  const copy = record.resync;
  if (copy === null || copy.halted) return null;
  const resync = furthered(array, copy);
  if (resync === copy) return null;
  const far = resync.fromSector - copy.fromSector >= CHECKPOINT_SECTORS;
  const due = now - array.checkpointAtMs >= state.checkpointMs || far;
  if (!due) return null;
  return {
    kind: 'resync-checkpoint',
    // Of the same events, a superblock that a crash left behind would contradict its header.
    record: { ...record, resync, events: record.events + 1 },
    detail: {},
    fields: { checkpointAtMs: now },
  };
}
