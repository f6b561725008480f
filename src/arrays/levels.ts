/** What each RAID level can lose, whether its legs can differ, and how large all is. */
import type { ArrayRecord, MemberRecord } from './record.ts';

export function activeMembers(record: ArrayRecord): MemberRecord[] {
  return record.members.filter((member) => member.role === 'active');
}

export function rebuildingMembers(record: ArrayRecord): MemberRecord[] {
  return record.members.filter((member) => member.role === 'rebuilding');
}

/** Active or rebuilding: writes go to it. */
export function isWritten(member: MemberRecord): boolean {
  return member.role === 'active' || member.role === 'rebuilding';
}

/** Slots that no member fills or is being rebuilt in. */
export function freeSlots(record: ArrayRecord): number[] {
  const taken = record.members.filter(isWritten).map(({ slot }) => slot);
  return Array.from({ length: record.raidDisks }, (_, slot) => slot).filter((slot) => !taken.includes(slot));
}

/** Whether the data is whole with exactly these slots in sync. */
export function survives(record: ArrayRecord, slots: ReadonlySet<number>): boolean {
  const missing = record.raidDisks - slots.size;
  switch (record.level) {
    case 'linear':
    case 'raid0':
      return missing === 0;
    case 'raid1':
      return slots.size >= 1;
    case 'raid4':
    case 'raid5':
      return missing <= 1;
    case 'raid6':
      return missing <= 2;
    case 'raid10': {
      // near layout: copy c of chunk k lies in slot (k * near + c) mod raidDisks (drivers/md/raid10.c, setup_geo).
      const near = record.layout & 0xff;
      for (let first = 0; first < record.raidDisks; first += 1) {
        const start = (first * near) % record.raidDisks;
        let copies = 0;
        for (let copy = 0; copy < near; copy += 1) if (slots.has((start + copy) % record.raidDisks)) copies += 1;
        if (copies === 0) return false;
      }
      return true;
    }
  }
}

/** Without all of these members at once. */
export function survivesWithout(record: ArrayRecord, ...memberUuids: string[]): boolean {
  const slots = new Set<number>();
  for (const member of activeMembers(record)) {
    if (!memberUuids.includes(member.uuid) && member.slot !== null) slots.add(member.slot);
  }
  return survives(record, slots);
}

/** Has copies or parity: legs can differ, a resync means something, and md ever copies between them. */
export function isRedundant(level: ArrayRecord['level']): boolean {
  return level !== 'raid0' && level !== 'linear';
}

/** Whether two copies, or data and parity, can disagree after a crash, so that a resync means something. */
export function canDiffer(record: ArrayRecord): boolean {
  const active = activeMembers(record).length;
  switch (record.level) {
    case 'linear':
    case 'raid0':
      return false;
    case 'raid1':
      return active >= 2;
    default:
      // A degraded parity array has nothing left to compare with; the kernel would refuse the resync.
      return record.level === 'raid10' ? active >= 2 : active === record.raidDisks;
  }
}

function hasParity({ level }: ArrayRecord): boolean {
  return ['raid4', 'raid5', 'raid6'].includes(level);
}

/** What the resync after a crash of its writer says of that; empty where a member that goes leaves nothing in doubt. */
export function afterCrash(record: ArrayRecord): { afterCrash?: true } {
  return hasParity(record) ? { afterCrash: true } : {};
}

/**
 * What was being written as its writer crashed may have left stripes that do not fit their parity, and of a member that is missing the
 * blocks are made from that: they may read as something that nobody wrote, be it to other blocks of the stripe (md's "dirty degraded").
 */
export function isDegradedParity(record: ArrayRecord): boolean {
  return hasParity(record) && activeMembers(record).length < record.raidDisks;
}

/** A member that has what is written now will miss what is written next. */
export function givesUp(before: ArrayRecord, after: ArrayRecord): boolean {
  const kept = new Set(activeMembers(after).map(({ uuid }) => uuid));
  return activeMembers(before).some(({ uuid }) => !kept.has(uuid));
}

/** Nodes that may have I/O of their own on the members: those that write, and the one that copies. */
export function mayTouch(record: ArrayRecord): number[] {
  const nodes = new Set(record.writers);
  if (record.resync !== null) nodes.add(record.resync.by);
  return [...nodes].sort((a, b) => a - b);
}

/** Those, and who had a part in what was committed before: until the record's commit is released. */
export function mayTouchYet(record: ArrayRecord): number[] {
  return [...new Set([...mayTouch(record), ...(record.formerCopiers ?? [])])];
}

/** Whether this node is one of those that may touch them, asked after every step. */
export function touches({ writers, resync }: ArrayRecord, node: number): boolean {
  return writers.includes(node) || resync?.by === node;
}

/** Size of /dev/mdX as the kernel computes it: raid0 and linear use each member to its own end, in whole chunks. */
export function arraySectors(record: ArrayRecord): number {
  const { level, componentSectors, raidDisks, chunkSectors } = record;
  switch (level) {
    case 'linear':
    case 'raid0': {
      const unit = Math.max(1, chunkSectors);
      return activeMembers(record).reduce(
        (sum, { dataSizeSectors }) => sum + dataSizeSectors - (dataSizeSectors % unit),
        0,
      );
    }
    case 'raid1':
      return componentSectors;
    case 'raid4':
    case 'raid5':
      return componentSectors * (raidDisks - 1);
    case 'raid6':
      return componentSectors * (raidDisks - 2);
    case 'raid10': {
      // raid10_size(): whole chunks at each step.
      const each = Math.floor(componentSectors / chunkSectors / ((record.layout >> 8) & 0xff));
      return Math.floor((each * raidDisks) / (record.layout & 0xff)) * chunkSectors;
    }
  }
}

/**
 * Sectors of the array of which a copy, or a stripe, lies in sectors [from, to) of some member's component; in whole chunks,
 * so more than that at either end.
 */
export function componentOnArray(
  record: ArrayRecord,
  fromSector: number,
  toSector: number,
): { loSector: number; hiSector: number } {
  const { level, chunkSectors, raidDisks } = record;
  if (level === 'raid1') return { loSector: fromSector, hiSector: toSector };
  const [firstRow, endRow] = [Math.floor(fromSector / chunkSectors), Math.ceil(toSector / chunkSectors)];
  // Chunks of data in a row of chunks. raid10 near: a chunk's copies may begin at the end of one row and end in the next.
  const width = level === 'raid10' ? raidDisks / (record.layout & 0xff) : raidDisks - (level === 'raid6' ? 2 : 1);
  return { loSector: Math.floor(firstRow * width) * chunkSectors, hiSector: Math.ceil(endRow * width) * chunkSectors };
}

/** Sectors of the component, on any member, that hold a copy of these sectors of a raid10-near array; in whole chunks. */
export function arrayOnComponent(
  { chunkSectors, raidDisks, layout }: ArrayRecord,
  fromSector: number,
  toSector: number,
): { loSector: number; hiSector: number } {
  // A chunk's copies lie one behind the other, in rows of as many as there are members.
  const row = (chunk: number): number => (chunk * (layout & 0xff)) / raidDisks;
  const [first, end] = [Math.floor(fromSector / chunkSectors), Math.ceil(toSector / chunkSectors)];
  return { loSector: Math.floor(row(first)) * chunkSectors, hiSector: Math.ceil(row(end)) * chunkSectors };
}

/** Node slots laid out in the mesh area of a new array: bitmaps and blocks for that many nodes. */
const NODE_SLOTS = 16;

export function nodeSlotsOf({ nodeSlots = NODE_SLOTS }: Pick<ArrayRecord, 'nodeSlots'>): number {
  return nodeSlots;
}
