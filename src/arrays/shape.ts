/**
 * Slots and size of an array that runs, and the member that is replaced by another.
 *
 * **Slots** are raid1's alone: any other level would be reshaped, by each kernel for itself. When their number changes md packs
 * them: members keep their order and take the lowest (raid1_reshape, drivers/md/raid1.c). So a record's members are packed
 * with it, and a node that comes back to another order of slots is brought to the record's by what packs as the record says.
 *
 * **A replacement** is one slot more for as long as it takes: the spare is rebuilt in it as in any free slot, from all that are
 * in sync; then one commit fails the old member and takes the slot away. Until that commit no copy is given up. md's own
 * way (`want_replacement`) is for one kernel: it chooses and copies when it is not frozen, a member is made a replacement
 * only before its array runs (state_store, drivers/md/md.c), and nothing but a copy of its own makes it in sync, which on
 * every other node would be a second copier.
 */
import type { ArrayObservation } from '../md/driver.ts';
import { doubtText } from './commit_words.ts';
import { arraySectors, canDiffer, isWritten, nodeSlotsOf } from './levels.ts';
import { isWhole } from './missed.ts';
import { type ArrayRecord, type BitmapPlace, type MemberRecord, type NodeId, wholeCopy } from './record.ts';

/** With so many slots, packed as md packs them. A faulty member's number would soon be another's. */
export function withSlots(record: ArrayRecord, raidDisks: number): ArrayRecord {
  const order = record.members.filter(isWritten).sort((a, b) => (a.slot ?? 0) - (b.slot ?? 0));
  const members = record.members.map((member) => {
    if (member.role === 'faulty') return { ...member, slot: null };
    return isWritten(member) ? { ...member, slot: order.indexOf(member) } : member;
  });
  return { ...record, raidDisks, members, events: record.events + 1 };
}

/** Who is to take another's place, as far as it has got. */
export function replacementIn(record: ArrayRecord): MemberRecord | undefined {
  return record.members.find(({ replaces }) => replaces !== undefined);
}

/** What keeps slots and size as they are; null: nothing. */
function busyWith(record: ArrayRecord): string | null {
  const { md, resync } = record;
  if (record.run !== 'started') return `${md} is stopped; assemble it first`;
  if (resync !== null) return `${md}: a ${resync.kind} is under way; wait for it (mdmesh wait ${md})`;
  if (replacementIn(record) !== undefined) return `${md}: a member is being replaced; wait for it (mdmesh wait ${md})`;
  return doubtText(record);
}

/** The record with other slots; or why not. */
export function changeSlots(record: ArrayRecord, raidDisks: number, force: boolean): ArrayRecord | string {
  const { md, level } = record;
  if (level !== 'raid1')
    return `${md}: ${level} would have to be reshaped, which mdmesh does not do; only raid1 gets other slots`;
  const busy = busyWith(record);
  if (busy !== null) return busy;
  if (raidDisks === record.raidDisks) return `${md} has ${raidDisks} raid devices already`;
  const used = record.members.filter(isWritten).length;
  if (used > raidDisks) {
    return (
      `${md}: ${used} members are in use, with ${raidDisks} raid devices there is room for ${raidDisks}; ` +
      `fail and remove ${used - raidDisks} first (mdmesh manage ${md} --fail DISK --remove DISK)`
    );
  }
  const spares = record.members.filter(({ role }) => role === 'spare').length;
  // As mdadm --grow.
  if (raidDisks > record.raidDisks && used + spares < raidDisks && !force) {
    const need = raidDisks - used;
    return (
      `${md}: it needs ${need} spare${need === 1 ? '' : 's'} to avoid being degraded, and has ${spares}; ` +
      `add disks first (mdmesh manage ${md} --add DISK), or use --force`
    );
  }
  return withSlots(record, raidDisks);
}

export interface Growth {
  componentSectors: number;
  /** Member uuid → sectors for data, on the node that sees the fewest. */
  roomSectors: ReadonlyMap<string, number>;
  /** As it is to be with that size; null: there is none. */
  bitmap: BitmapPlace | null;
  assumeClean: boolean;
}

/**
 * The record with the nodes' bitmaps there. Until a node has said that it has laid its own anew, nothing is known of what it had
 * marked when it dies: it may have died before.
 */
export function withBitmap(record: ArrayRecord, bitmap: BitmapPlace | null): ArrayRecord {
  if (JSON.stringify(record.bitmap) === JSON.stringify(bitmap)) return record;
  const writerBoots = record.writerBoots.map((boot) => ({ ...boot, bitmap: false }));
  return { ...record, bitmap, writerBoots };
}

/** Other bitmaps, or none, and perhaps room for more nodes; or why not. */
export function changeBitmap(
  record: ArrayRecord,
  bitmap: BitmapPlace | null,
  nodeSlots = nodeSlotsOf(record),
): ArrayRecord | string {
  const { md } = record;
  const busy = busyWith(record);
  if (busy !== null) return busy;
  const changed = withBitmap(record, bitmap);
  // What a member missed while it was away is marked, and nowhere else.
  if (changed !== record && !isWhole(record))
    return `${md} is degraded: its bitmaps say what the missing member lacks; add a disk, and wait for it, first (mdmesh manage ${md} --add DISK)`;
  const slots = nodeSlots === nodeSlotsOf(record) ? {} : { nodeSlots };
  return { ...changed, ...slots, events: record.events + 1 };
}

/** The larger record: what is new counts as in sync when it is copied; or why not. */
export function changeSize(record: ArrayRecord, growth: Growth, by: NodeId): ArrayRecord | string {
  const { md } = record;
  const busy = busyWith(record);
  if (busy !== null) return busy;
  const { componentSectors, bitmap } = growth;
  // Each node lays its own anew, without marks.
  if ((record.bitmap !== null || bitmap !== null) && !isWhole(record))
    return `${md} is degraded, and its bitmaps say what the missing member lacks; add a disk, and wait for it, first`;
  if (componentSectors <= record.componentSectors) return `${md} is as large already`;
  const members = record.members.map((member) => ({
    ...member,
    dataSizeSectors: Math.max(member.dataSizeSectors, growth.roomSectors.get(member.uuid) ?? 0),
  }));
  const small = members.find(({ role, dataSizeSectors }) => role !== 'faulty' && dataSizeSectors < componentSectors);
  if (small !== undefined) return `${md}: member ${small.uuid} came in meanwhile and is too small; ask again`;
  const grown: ArrayRecord = { ...withBitmap(record, bitmap), members, componentSectors, events: record.events + 1 };
  // In the unit of a resync: see `resync` of the record.
  const fromSector = record.level === 'raid10' ? arraySectors(record) : record.componentSectors;
  const copies = !growth.assumeClean && canDiffer(record);
  return copies ? { ...grown, resync: { ...wholeCopy('resync', by, record.version.index + 1), fromSector } } : grown;
}

/** Members that may stand in for another, the named one alone if one is named. `unseenBy`: a node that has to write to it and cannot. */
export function startReplacement(
  record: ArrayRecord,
  uuid: string,
  named: string | null,
  by: NodeId,
  unseenBy: (uuid: string) => NodeId | null,
): { record: ArrayRecord; member: string } | string {
  const { md, level } = record;
  if (level !== 'raid1') {
    return `${md}: only a member of a raid1 can be replaced while it is in use; of ${level}: add a spare, then fail the member (mdmesh manage ${md} --fail DISK)`;
  }
  const busy = busyWith(record);
  if (busy !== null) return busy;
  const old = record.members.find((member) => member.uuid === uuid);
  if (old?.role !== 'active')
    return `${md}: member ${uuid} is ${old?.role ?? 'none of it'}, not in use; there is nothing to replace`;
  if (named !== null && record.members.find((member) => member.uuid === named)?.role !== 'spare') {
    return `${md}: member ${named} is no spare; add the disk first (mdmesh manage ${md} --add DISK)`;
  }
  const spares = record.members.filter(({ role, ...each }) => role === 'spare' && (named ?? each.uuid) === each.uuid);
  if (spares.length === 0)
    return `${md} has no spare to replace it with; add a disk first (mdmesh manage ${md} --add DISK)`;
  const fitting = spares.find(
    (each) => unseenBy(each.uuid) === null && each.dataSizeSectors >= record.componentSectors,
  );
  if (fitting === undefined) {
    const [first] = spares;
    const node = first === undefined ? null : unseenBy(first.uuid);
    const why = node === null ? 'it is too small' : `node ${node} does not see it; check its path to the storage`;
    return `${md}: spare ${first?.uuid ?? ''}: ${why}`;
  }
  const wider = withSlots(record, record.raidDisks + 1);
  const members = wider.members.map((member) =>
    member.uuid === fitting.uuid
      ? { ...member, role: 'rebuilding' as const, slot: wider.members.filter(isWritten).length, replaces: uuid }
      : member,
  );
  const resync = wholeCopy('recovery', by, record.version.index + 1);
  return { record: { ...wider, members, resync }, member: fitting.uuid };
}

/**
 * The record at the end of a replacement: the old member has failed, or, where the new one has, it stays; the slot is gone.
 * null: it is not over.
 */
export function replacementOver(record: ArrayRecord): { record: ArrayRecord; member: string } | null {
  const fresh = replacementIn(record);
  if (fresh === undefined || record.resync !== null) return null;
  if (fresh.role !== 'active' && fresh.role !== 'faulty') return null;
  const done = fresh.role === 'active';
  const old = record.members.find(({ uuid }) => uuid === fresh.replaces);
  const members = record.members.map((member) =>
    done && member === old ? { ...member, role: 'faulty' as const, slot: null } : member,
  );
  const ended = withoutReplacement({ ...record, members });
  // As any failure: stock mdadm forgives a lag of one.
  return { record: { ...ended, events: record.events + 2 }, member: done ? (old?.uuid ?? fresh.uuid) : fresh.uuid };
}

/** Called off, or over: one slot less, unless other spares have filled them all meanwhile. */
export function withoutReplacement(record: ArrayRecord): ArrayRecord {
  if (replacementIn(record) === undefined) return record;
  const members = record.members.map(({ replaces: _, ...member }) => member);
  const used = members.filter(isWritten).length;
  return withSlots({ ...record, members }, Math.max(1, record.raidDisks - 1, used));
}

export type Shaping =
  /** md's packing gives each member the record's slot. */
  | 'slots'
  | 'size'
  /** A member that is missing here comes in first. */
  | 'fill'
  /** Nothing that md does leads there: the array is assembled anew. */
  | 'anew';

/** How md here gets to the record's slots and size; null: it has them. */
export function shapingDue(record: ArrayRecord, seen: ArrayObservation): Shaping | null {
  if (record.level === 'raid1') {
    const slotOf = (uuid: string | null) => record.members.find((member) => member.uuid === uuid)?.slot;
    const inSlots = seen.members
      .filter(({ slot, faulty }) => slot !== null && !faulty)
      .sort((a, b) => (a.slot ?? 0) - (b.slot ?? 0));
    if (seen.raidDisks !== record.raidDisks || inSlots.some(({ uuid, slot }) => slotOf(uuid) !== slot)) {
      if (inSlots.length <= record.raidDisks && inSlots.every(({ uuid }, index) => slotOf(uuid) === index))
        return 'slots';
      const present = new Set(inSlots.map(({ uuid }) => uuid));
      const taken = new Set(inSlots.map(({ slot }) => slot));
      const free = (slot: number | null) => slot !== null && slot < seen.raidDisks && !taken.has(slot);
      const missing = record.members.some((each) => isWritten(each) && !present.has(each.uuid) && free(each.slot));
      return missing ? 'fill' : 'anew';
    }
  } else if (record.level !== 'raid10' || record.layout >> 8 !== 1) return null;
  return seen.sizeSectors < arraySectors(record) ? 'size' : null;
}
