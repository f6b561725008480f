/**
 * What was written while a member was missing: who has marked it, and which members lack nothing else.
 *
 * md keeps the bit of a write that missed a member until a recovery has copied its stretch (bitmap_endwrite and
 * md_bitmap_daemon_work, drivers/md/md-bitmap.c), on each node in that node's own bitmap. So from the commit by which an array
 * ceases to be whole, all that a member lacks which was in sync until then is marked, in the bitmaps of the nodes that have written
 * since, on every member that has been in sync since; when it comes back, only that has to be copied. The record tells of it as long as
 * it is surely so, and ceases to, for good, when it is not:
 * - a node writes without a bitmap, or the bitmaps are laid anew;
 * - the last member that has been in sync since then leaves: one that came later may lack marks from before it came;
 * - the legs may differ elsewhere: a resync that copies everything, or a repair, whose writes are marked nowhere;
 * - a recovery has begun that fills every slot: what it has copied loses its marks (md_bitmap_start_sync), though another
 *   member than the one that is filled may lack it. With a slot left free md keeps them;
 * - the array is whole again: every node drops its marks then.
 */
import { activeMembers, freeSlots, isWritten } from './levels.ts';
import type { ArrayRecord, Copy, MemberRecord, NodeId } from './record.ts';

type Missed = NonNullable<ArrayRecord['missed']>;

export function isWhole(record: ArrayRecord): boolean {
  return activeMembers(record).length === record.raidDisks;
}

/** The members that are rebuilt lack nothing but what is marked. */
export function fillsByMarks(copy: Copy | null): boolean {
  return copy?.kind === 'recovery' && copy.markedBy !== null;
}

/** Every writer's md keeps a bitmap. */
function allMark({ bitmap, writers, writerBoots }: ArrayRecord): boolean {
  return bitmap !== null && writers.every((node) => writerBoots.some((boot) => boot.node === node && boot.bitmap));
}

/** Nodes that write, or in whose bitmaps stands what a resync is to copy. null: that is marked nowhere. */
function markers({ writers, resync }: ArrayRecord): NodeId[] | null {
  if (resync === null || resync.kind === 'check' || resync.kind === 'recovery') return [...writers];
  if (resync.kind === 'repair' || resync.markedBy === null) return null;
  return [...writers, resync.by, ...resync.markedBy];
}

/** The record as it is to be committed after `before`, with what it says of missed writes. */
export function withMissed(before: ArrayRecord | null, after: ArrayRecord): ArrayRecord {
  const { missed: _, ...rest } = after;
  const missed = before === null ? null : missedAfter(before, after);
  return missed === null ? rest : { ...rest, missed };
}

function missedAfter(before: ArrayRecord, after: ArrayRecord): Missed | null {
  if (isWhole(after) || after.raidDisks !== before.raidDisks) return null;
  if (JSON.stringify(before.bitmap) !== JSON.stringify(after.bitmap)) return null;
  if (!allMark(before) || !allMark(after)) return null;
  if (after.resync?.kind === 'recovery' && freeSlots(after).length === 0) return null;
  const inSync = activeMembers(after).map(({ uuid }) => uuid);
  const begins = { since: after.version.index, nodes: [], on: inSync, left: [] };
  const known = before.missed ?? (isWhole(before) ? begins : null);
  const [earlier, now] = [markers(before), markers(after)];
  if (known === null || earlier === null || now === null) return null;
  const on = known.on.filter((uuid) => inSync.includes(uuid));
  if (on.length === 0) return null;
  const inUse = new Set(after.members.filter(isWritten).flatMap(({ uuid, was }) => [uuid, was]));
  const leaving = activeMembers(before).flatMap(({ uuid, slot }) => (slot === null ? [] : [{ uuid, slot }]));
  return {
    since: known.since,
    nodes: [...new Set([...known.nodes, ...earlier, ...now])].sort((a, b) => a - b),
    on,
    left: [...known.left, ...leaving].filter(({ uuid }) => !inUse.has(uuid)),
  };
}

/**
 * In whose bitmaps is marked all that this member lacks, if it takes this slot; or why it has to be filled as a whole, in words.
 * @param slot null: any
 */
export function lacksOnlyMarked(
  record: ArrayRecord,
  { uuid, was = uuid }: Pick<MemberRecord, 'uuid' | 'was'>,
  slot: number | null,
): NodeId[] | string {
  const { missed, level } = record;
  if (record.bitmap === null) return 'the array keeps no bitmaps';
  // Parity arrays have one writer, and a slot of their own for each member: not tried.
  if (level !== 'raid1' && level !== 'raid10') return `${level} is always filled as a whole`;
  if (missed === undefined) return 'what was written since it left is not marked as a whole';
  const left = missed.left.find((each) => each.uuid === was);
  if (left === undefined) return 'it left before the array was last whole, or was not in sync when it did';
  if (!allMark(record)) return 'a node writes without a bitmap';
  if (level === 'raid10' && slot !== null && slot !== left.slot) return `its slot ${left.slot} is taken`;
  return missed.nodes;
}
