/** A member that fails: whether the array goes on without it, and what the record is then. */
import { canDiffer, rebuildingMembers, survivesWithout } from './levels.ts';
import type { ArrayRecord } from './record.ts';

export function failMember(record: ArrayRecord, uuid: string): ArrayRecord {
  const failed: ArrayRecord = {
    ...record,
    // Two, because assembly by stock mdadm tolerates a lag of one: the failed leg must look older than that.
    events: record.events + 2,
    members: record.members.map((member) => {
      if (member.uuid !== uuid) return member;
      // One that was never in sync gives its slot back: mdadm calls that the failure of a spare.
      const slot = member.role === 'rebuilding' ? null : member.slot;
      return { ...member, role: 'faulty' as const, slot };
    }),
  };
  const copy = failed.resync;
  if (copy === null) return failed;
  switch (copy.kind) {
    case 'resync': {
      if (canDiffer(failed)) return failed;
      // Its writer goes on, as with md: what is in doubt is so until the array is filled.
      return { ...failed, resync: null, ...(copy.afterCrash && { parityInDoubt: true }) };
    }
    case 'recovery':
      return rebuildingMembers(failed).length > 0 ? failed : { ...failed, resync: null };
    default:
      // What it would go on to compare with is gone; it is asked for again when the array is whole.
      return { ...failed, resync: null };
  }
}

export function allowed(record: ArrayRecord, uuid: string, besides: readonly string[] = []): boolean {
  const member = record.members.find((candidate) => candidate.uuid === uuid);
  return member !== undefined && (member.role !== 'active' || survivesWithout(record, uuid, ...besides));
}
