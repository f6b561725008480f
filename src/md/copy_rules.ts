/**
 * What md would do silently, or wrongly, is refused in words before it is asked: the order rules of suspends, copies and
 * rebuilding members (md_check_recovery, md_do_sync and max_sync_store in drivers/md/md.c), told once for both drivers.
 */
import { arraySectors } from '../arrays/levels.ts';
import { type ArrayRecord, compares, type MemberRecord } from '../arrays/record.ts';
import { gateClosed } from '../arrays/seen_here.ts';
import { type ArrayObservation, type CopyOrder, MdError, type MemberObservation, type SectorRange } from './driver.ts';

/** min_sync_store rounds down to this, and so would begin outside of the range that is held for the copy. */
const SYNC_MIN_SECTORS = 8;

/** The part of both; null: none. */
export function overlap(a: SectorRange | null, b: SectorRange | null): SectorRange | null {
  if (a === null || b === null) return null;
  const range = { loSector: Math.max(a.loSector, b.loSector), hiSector: Math.min(a.hiSector, b.hiSector) };
  return range.loSector < range.hiSector ? range : null;
}

export function covers(range: SectorRange | null, sizeSectors: number): boolean {
  return range !== null && range.loSector === 0 && range.hiSector >= sizeSectors;
}

/** @throws MdError EAGAIN: a suspend drains, and a write that waits at a gate never ends by itself */
export function demandOpenGates(seen: ArrayObservation, doing: string): void {
  if (!gateClosed(seen)) return;
  throw new MdError('EAGAIN', `${seen.md}: ${doing}: a gate is closed; answer it first, then try again`);
}

/** @throws MdError EINVAL */
export function demandRange(md: string, range: SectorRange): void {
  const { loSector, hiSector } = range;
  if (Number.isSafeInteger(loSector) && Number.isSafeInteger(hiSector) && loSector >= 0 && loSector <= hiSector) return;
  throw new MdError('EINVAL', `${md}: ${loSector}..${hiSector} is no range of sectors`);
}

/** @throws MdError EBUSY: a node that may copy by itself does so as soon as it sees a member that is not in sync */
export function demandFrozen(seen: ArrayObservation, doing: string): void {
  if (seen.syncAction === 'frozen' && seen.syncCompleted === null) return;
  throw new MdError('EBUSY', `${seen.md}: ${doing}: sync_action is ${seen.syncAction}; freeze the array first`);
}

/** @throws MdError EBUSY: while a member is out of its slot this node's writes would miss it */
export function demandHeld(seen: ArrayObservation, doing: string): void {
  if (seen.held) return;
  throw new MdError('EBUSY', `${seen.md}: ${doing}: its writes are not held as a whole; hold the array first`);
}

/** Members may leave their slots and come back: nothing is in flight, and nothing copies. @throws MdError EBUSY, EAGAIN */
export function demandMovable(seen: ArrayObservation, doing: string): void {
  demandFrozen(seen, doing);
  demandHeld(seen, doing);
  demandOpenGates(seen, doing);
}

/**
 * Where a copy may go that nobody limits: beyond every array, and whole chunks of any size. `max` is what md itself puts into sync_max when
 * a copy has come to its end (md_do_sync, drivers/md/md.c), the one thing by which an end differs from an interruption.
 */
export const NO_LIMIT_SECTOR = 2 ** 52;

/** @throws MdError EINVAL. `toSector`: null is the end */
export function demandStop(md: string, toSector: number | null, chunkSectors: number): void {
  if (toSector === null) return;
  if (Number.isSafeInteger(toSector) && toSector >= 0 && (chunkSectors === 0 || toSector % chunkSectors === 0)) return;
  throw new MdError('EINVAL', `${md}: sync_max ${toSector} is not whole chunks of ${chunkSectors} sectors`);
}

/** What a copy, or md's bitmap, reads and writes would wait. @throws MdError EAGAIN */
export function demandReads({ md, members }: ArrayObservation, doing: string): void {
  if (members.some(({ path }) => path === 'held'))
    throw new MdError('EAGAIN', `${md}: ${doing}: reads are held here; they are let go first`);
}

/**
 * The array is frozen, and its idle spares have left.
 * @param rebuildingFrom where the rebuilding member that is furthest behind stands; null: there is none
 * @throws MdError EINVAL, EBUSY
 */
export function demandCopy(
  seen: ArrayObservation,
  copy: CopyOrder,
  chunkSectors: number,
  rebuildingFrom: number | null,
): void {
  const { md } = seen;
  const { kind, fromSector, toSector } = copy;
  if (!Number.isSafeInteger(fromSector) || fromSector < 0 || (toSector !== null && toSector < fromSector))
    throw new MdError('EINVAL', `${md}: ${kind} from sector ${fromSector} to ${toSector ?? 'the end'} is no range`);
  demandStop(md, toSector, chunkSectors);
  const unit = chunkSectors === 0 ? SYNC_MIN_SECTORS : chunkSectors;
  if (compares(kind) && fromSector % unit !== 0)
    throw new MdError('EINVAL', `${md}: ${kind} from sector ${fromSector}: sync_min is rounded to ${unit} sectors`);
  if (kind !== 'recovery' && rebuildingFrom !== null)
    throw new MdError('EBUSY', `${md}: a member is rebuilding; md would go on with that instead of a ${kind}`);
  if (kind !== 'resync' && seen.resyncStartSector !== null)
    // At the end of anything else md begins it by itself, whatever other nodes write meanwhile.
    throw new MdError('EBUSY', `${md}: resync_start is ${seen.resyncStartSector}: resync before a ${kind}`);
  if (kind !== 'recovery') return;
  if (rebuildingFrom === null)
    throw new MdError('EINVAL', `${md}: no member is rebuilding here; attach one as rebuilding first`);
  if (rebuildingFrom < fromSector)
    throw new MdError(
      'EBUSY',
      `${md}: a member is rebuilding from sector ${rebuildingFrom}, and so would md: not from ${fromSector}; attach it from there first`,
    );
}

/** The member of the record, which has its slot there. @throws MdError EINVAL */
export function rebuildingMember(record: ArrayRecord, uuid: string): MemberRecord & { slot: number } {
  const member = record.members.find((candidate) => candidate.uuid === uuid);
  if (member === undefined) throw new MdError('EINVAL', `${record.md}: its record knows no member ${uuid}`);
  const { slot } = member;
  if (slot === null || slot >= record.raidDisks)
    throw new MdError('EINVAL', `${record.md}: member ${uuid} has no slot in the record to be rebuilt in`);
  return { ...member, slot };
}

/**
 * Before a member gets its slot.
 * @throws MdError EINVAL: `none` would have it read; EBUSY: somebody else's slot, or not a member to be rebuilt
 */
export function demandAttachable(
  seen: ArrayObservation,
  record: ArrayRecord,
  member: MemberRecord & { slot: number },
  fromSector: number,
): void {
  const { md } = seen;
  const present = seen.members.find((other) => other.uuid === member.uuid);
  // Filled by a copy that counts no more.
  const again = present?.inSync === true && present.slot === member.slot;
  if (seen.degraded === 0 && !again)
    throw new MdError('EBUSY', `${md}: every slot has a member in sync; there is nothing to rebuild`);
  if (!Number.isSafeInteger(fromSector) || fromSector < 0 || fromSector > record.componentSectors)
    throw new MdError(
      'EINVAL',
      `${md}: recovery_start ${fromSector} is not within the ${record.componentSectors} sectors of a component`,
    );
  const inSlot = seen.members.find((other) => other.slot === member.slot && other.uuid !== member.uuid);
  if (inSlot !== undefined)
    throw new MdError('EBUSY', `${md}: slot ${member.slot} is taken by ${inSlot.device}; remove that first`);
  if (present === undefined || again) return;
  if (present.faulty || present.inSync || (present.slot ?? member.slot) !== member.slot)
    throw new MdError('EBUSY', `${md}: ${present.device} is ${wordFor(present)} here; fail and remove it first`);
}

function wordFor(member: MemberObservation): string {
  if (member.faulty) return 'faulty';
  return member.inSync ? `in sync in slot ${member.slot}` : `rebuilding in slot ${member.slot}`;
}

/** @throws MdError EBUSY, ENOENT. True: in sync already */
export function activeAlready(seen: ArrayObservation, uuid: string): boolean {
  const { md } = seen;
  const member = seen.members.find((candidate) => candidate.uuid === uuid);
  if (member === undefined) throw new MdError('ENOENT', `${md} has no member ${uuid} on this node`);
  if (member.inSync && member.slot !== null) return true;
  if (!member.rebuilding)
    // What this node wrote since the member came has not reached it.
    throw new MdError('EBUSY', `${md}: ${member.device} is not rebuilding here; attach it as rebuilding first`);
  demandMovable(seen, `activating ${member.device}`);
  if (seen.resyncStartSector !== null)
    throw new MdError('EBUSY', `${md}: resync_start is ${seen.resyncStartSector}: md would begin that; resync first`);
  return false;
}

/** @throws MdError EINVAL, EBUSY, EAGAIN */
export function demandSlots(seen: ArrayObservation, { level, raidDisks }: ArrayRecord): void {
  const { md, members } = seen;
  // Any other level would be reshaped: data moved, by each kernel for itself.
  if (level !== 'raid1')
    throw new MdError('EINVAL', `${md}: ${level} cannot be given ${raidDisks} slots: only raid1 can`);
  demandMovable(seen, `making it ${raidDisks} slots`);
  const taken = members.filter(({ slot }) => slot !== null);
  const failed = taken.find(({ faulty }) => faulty);
  // It would be packed as the others are, and take a slot that the record gives to another.
  if (failed !== undefined)
    throw new MdError('EBUSY', `${md}: ${failed.device} is faulty in slot ${failed.slot}; remove it first`);
  if (taken.length > raidDisks)
    throw new MdError('EBUSY', `${md}: ${taken.length} members are in slots, ${raidDisks} slots would be left`);
}

/** Its bitmap may be laid anew. @throws MdError EBUSY, EAGAIN */
export function demandBitmapFree(seen: ArrayObservation): void {
  demandMovable(seen, 'laying its bitmap anew');
  // md is not frozen meanwhile, and would rebuild it.
  const rebuilding = seen.members.find((member) => member.rebuilding);
  if (rebuilding !== undefined)
    throw new MdError('EBUSY', `${seen.md}: ${rebuilding.device} is being rebuilt; its bitmap cannot be laid anew now`);
}

/** @throws MdError EINVAL, EBUSY, EAGAIN */
export function demandSize(seen: ArrayObservation, record: ArrayRecord): void {
  const { md, sizeSectors } = seen;
  const wanted = arraySectors(record);
  if (record.level !== 'raid1' && record.level !== 'raid10')
    throw new MdError(
      'EINVAL',
      `${md}: the size of ${record.level} cannot be changed here; only raid1 and raid10 can grow`,
    );
  if (seen.bitmap !== null)
    throw new MdError('EBUSY', `${md}: it keeps a bitmap here, whose chunks md may make larger; take that away first`);
  if (wanted <= sizeSectors)
    throw new MdError('EINVAL', `${md}: it has ${sizeSectors} sectors, ${wanted} are not more; it can only grow`);
  demandMovable(seen, `making it ${wanted} sectors large`);
  const failed = seen.members.find(({ faulty }) => faulty);
  // md asks each member it has, faulty or not, for room (update_size, drivers/md/md.c).
  if (failed !== undefined) throw new MdError('EBUSY', `${md}: ${failed.device} is faulty; remove it first`);
}

/** @throws MdError ENOSPC */
export function demandRoom(record: ArrayRecord, member: MemberRecord, device: string, sizeSectors: number): void {
  const end = member.dataOffsetSectors + Math.max(member.dataSizeSectors, record.componentSectors);
  if (end <= sizeSectors) return;
  throw new MdError(
    'ENOSPC',
    `${record.md}: ${device} has ${sizeSectors} sectors on this node, ${end} are needed; let this node see its new size`,
  );
}
