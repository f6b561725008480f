/** An ordinary two-legged array, for the tests of the room md. */
import type { ArrayRecord, MemberRecord } from '../../src/arrays/record.ts';

export const CLUSTER = 'c0000000-0000-4000-8000-000000000001';

export function memberUuid(index: number): string {
  return `d0000000-0000-4000-8000-00000000000${index}`;
}

export function member(index: number, change: Partial<MemberRecord> = {}): MemberRecord {
  return {
    uuid: memberUuid(index),
    devNumber: index,
    role: 'active',
    slot: index,
    dataOffsetSectors: 2048,
    dataSizeSectors: 2048,
    ...change,
  };
}

export function record(change: Partial<ArrayRecord> = {}): ArrayRecord {
  return {
    uuid: 'a0000000-0000-4000-8000-000000000001',
    name: 'demo:md0',
    md: 'md0',
    level: 'raid1',
    layout: 0,
    chunkSectors: 0,
    raidDisks: 2,
    componentSectors: 2048,
    ctimeSeconds: 1790000000,
    access: 'shared',
    owner: null,
    run: 'started',
    writers: [],
    writerBoots: [],
    resync: null,
    syncLimitKib: null,
    nodeSlots: 3,
    bitmap: null,
    lastCheck: null,
    events: 10,
    utimeSeconds: 1790000100,
    members: [member(0), member(1)],
    version: { term: 3, index: 7 },
    ...change,
  };
}
