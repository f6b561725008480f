/** A mirror of two legs on three nodes, and md as each node sees it. */
import assert from 'node:assert/strict';
import { CHECK_SCHEDULE } from '../../src/arrays/check_schedule.ts';
import { localStep } from '../../src/arrays/local.ts';
import {
  type LocalEffect,
  type LocalInput,
  type LocalOp,
  localStart,
  type NodeArrays,
} from '../../src/arrays/local_state.ts';
import type { MasterConfig, MasterInput } from '../../src/arrays/master_state.ts';
import { PATH_LOSS } from '../../src/arrays/path_loss.ts';
import {
  type ArrayRecord,
  type BitmapPlace,
  type Copy,
  type CopyKind,
  type NodeId,
  wholeCopy,
} from '../../src/arrays/record.ts';
import type { CopyOptions } from '../../src/arrays/windows.ts';
import type { ArrayObservation } from '../../src/md/driver.ts';
import type { ArrayReport } from '../../src/wire/messages.ts';

export const ARRAY = '00000000-0000-4000-8000-000000000001';
export const LEG_A = '00000000-0000-4000-8000-00000000000a';
export const LEG_B = '00000000-0000-4000-8000-00000000000b';
export const SPARE = '00000000-0000-4000-8000-00000000000c';
export const SPARE_MEMBER = {
  uuid: SPARE,
  devNumber: 2,
  role: 'spare' as const,
  slot: null,
  dataOffsetSectors: 2048,
  dataSizeSectors: 1000,
};
export const PATHS = new Map([
  [LEG_A, '/dev/sda'],
  [LEG_B, '/dev/sdb'],
  [SPARE, '/dev/sdc'],
]);

export const BITMAPS: BitmapPlace = { firstSector: 224, sectorsPerNode: 8, chunkSectors: 128 };
/** That of node 2. */
export const KEPT = { sector: 232, chunkSectors: 128 };

export function bootOf(node: NodeId, boot = 1): string {
  return `00000000-0000-4000-8000-0000000${boot}000${node}`;
}

export function mirror(fields: Partial<ArrayRecord> = {}): ArrayRecord {
  const writers = fields.writers ?? [1, 2, 3];
  return {
    uuid: ARRAY,
    name: 'demo:0',
    md: 'md0',
    level: 'raid1',
    layout: 0,
    chunkSectors: 0,
    raidDisks: 2,
    componentSectors: 1000,
    ctimeSeconds: 1,
    access: 'shared',
    owner: null,
    run: 'started',
    writers,
    writerBoots: writers.map((node) => ({ node, kernelBoot: bootOf(node), bitmap: false })),
    resync: null,
    syncLimitKib: null,
    bitmap: null,
    lastCheck: null,
    events: 10,
    utimeSeconds: 1,
    members: [
      { uuid: LEG_A, devNumber: 0, role: 'active', slot: 0, dataOffsetSectors: 2048, dataSizeSectors: 1000 },
      { uuid: LEG_B, devNumber: 1, role: 'active', slot: 1, dataOffsetSectors: 2048, dataSizeSectors: 1000 },
    ],
    version: { term: 1, index: 5 },
    ...fields,
  };
}

export const COPY_OPTIONS: CopyOptions = { windowMs: 15, windowMaxSectors: 131072, limitKib: null };

export const MASTER_CONFIG: MasterConfig = {
  nodes: [1, 2, 3],
  admits: [1, 2, 3],
  graceMs: 10_000,
  checkpointMs: 2000,
  autoAssemble: true,
  pathLoss: PATH_LOSS,
  checks: CHECK_SCHEDULE,
};

export function copy(by: NodeId, since: number, kind: CopyKind = 'resync', fields: Partial<Copy> = {}): Copy {
  return { ...wholeCopy(kind, by, since), ...fields };
}

export function withFaulty(record: ArrayRecord, leg: string): ArrayRecord {
  return { ...record, members: record.members.map((m) => (m.uuid === leg ? { ...m, role: 'faulty' as const } : m)) };
}

export function newer(record: ArrayRecord, fields: Partial<ArrayRecord>): ArrayRecord {
  return { ...record, ...fields, version: { ...record.version, index: record.version.index + 1 } };
}

/** md that runs the mirror; `faulty`: that leg has just failed, both gates are closed. */
export function md(fields: Partial<ArrayObservation> = {}, faulty: string | null = null): ArrayObservation {
  return {
    md: 'md0',
    arrayUuid: ARRAY,
    arrayState: faulty === null ? 'active' : 'write-pending',
    writePending: faulty !== null,
    held: false,
    suspended: fields.held === true ? { loSector: 0, hiSector: 1000 } : null,
    syncAction: 'frozen',
    syncCompleted: null,
    resyncStartSector: null,
    copyUnended: false,
    mismatchSectors: 0,
    degraded: faulty === null ? 0 : 1,
    raidDisks: 2,
    // More than any record here asks for.
    sizeSectors: 1_000_000,
    bitmap: null,
    members: [LEG_A, LEG_B].map((uuid, slot) => ({
      uuid,
      device: uuid === LEG_A ? 'sda' : 'sdb',
      slot,
      inSync: uuid !== faulty,
      rebuilding: false,
      faulty: uuid === faulty,
      blocked: uuid === faulty,
      path: 'up' as const,
    })),
    ...fields,
  };
}

export function report(record: ArrayRecord, fields: Partial<ArrayReport> = {}): ArrayReport {
  return {
    array: record.uuid,
    applied: record.version,
    known: record.version,
    state: 'open',
    visible: [LEG_A, LEG_B],
    bitmap: false,
    trouble: null,
    lost: [],
    fine: [],
    ...fields,
  };
}

/** All writers keep bitmaps, but for those named. */
export function marking(fields: Partial<ArrayRecord> = {}, without: readonly NodeId[] = []): ArrayRecord {
  const record = mirror({ bitmap: BITMAPS, componentSectors: 1_000_000, ...fields });
  const writerBoots = record.writerBoots.map((boot) => ({ ...boot, bitmap: !without.includes(boot.node) }));
  return { ...record, writerBoots };
}

/** The mirror with a third disk in LEG_B's slot that node `by` rebuilds. */
export function rebuilding(by: NodeId, since: number, fields: Partial<Copy> = {}): ArrayRecord {
  const record = withFaulty(mirror(), LEG_B);
  const spare = { uuid: SPARE, devNumber: 2, slot: 1, dataOffsetSectors: 2048, dataSizeSectors: 1000 };
  return {
    ...record,
    members: [...record.members, { ...spare, role: 'rebuilding' }],
    resync: copy(by, since, 'recovery', fields),
    version: { term: 1, index: since },
  };
}

/** md that runs it; `state` of the third disk: not attached, written only, or in sync. */
export function mdRebuilding(
  state: 'absent' | 'spare' | 'rebuilding' | 'in-sync',
  fields: Partial<ArrayObservation> = {},
): ArrayObservation {
  const seen = md(fields);
  const leg = seen.members.filter(({ uuid }) => uuid === LEG_A);
  if (state === 'absent') return { ...seen, degraded: 1, members: leg };
  const third = {
    uuid: SPARE,
    device: 'sdc',
    slot: state === 'spare' ? null : 1,
    inSync: state === 'in-sync',
    rebuilding: state === 'rebuilding',
    faulty: false,
    blocked: false,
    path: 'up' as const,
  };
  return { ...seen, degraded: state === 'in-sync' ? 0 : 1, members: [...leg, third] };
}

/** The same, but I/O of this node to the leg waits for its path. */
export function lost(seen: ArrayObservation, leg: string): ArrayObservation {
  return { ...seen, members: seen.members.map((m) => (m.uuid === leg ? { ...m, path: 'lost' as const } : m)) };
}

/** The same, but nothing can be read of it here. */
export function unread(seen: ArrayObservation): ArrayObservation {
  return { ...seen, members: seen.members.map((m) => ({ ...m, path: 'held' as const })) };
}

/** A node's core, fed by hand, which knows nothing yet. */
export class FedNode {
  state: NodeArrays;
  now = 1000;
  /** Its journal's disk takes everything at once. */
  stores = true;
  constructor(state = localStart(2, bootOf(2), COPY_OPTIONS)) {
    this.state = state;
  }
  feed(...inputs: LocalInput[]): LocalEffect[] {
    return inputs.flatMap((input) => {
      const { state, effects } = localStep(this.state, input, this.now);
      this.state = state;
      if (!this.stores) return effects;
      const stored = effects.flatMap((effect): LocalInput[] =>
        effect.type === 'store' ? [{ type: 'stored', array: effect.array, version: effect.version }] : [],
      );
      return [...effects.filter(({ type }) => type !== 'store'), ...this.feed(...stored)];
    });
  }
}

/** The core of node 2, fed by hand. It follows node 1 and holds a grant. */
export class LocalNode extends FedNode {
  /** Of the first look at md. */
  readonly effects: LocalEffect[];
  constructor(record: ArrayRecord, seen: ArrayObservation | null, paths = PATHS) {
    super();
    this.feed(
      { type: 'paths', paths },
      { type: 'master', term: 1, node: 1 },
      { type: 'grant', untilMs: 100_000 },
      { type: 'commit', record, forgotten: false },
    );
    this.effects = this.feed({ type: 'observed', array: ARRAY, observation: seen });
  }
  release(record: ArrayRecord): LocalEffect[] {
    return this.feed({ type: 'released', array: ARRAY, version: record.version });
  }
  /** The operation under way ends like that, and md shows this. */
  ended(seen: ArrayObservation, outcome: Partial<Extract<LocalInput, { type: 'done' }>> = {}): LocalEffect[] {
    const op = this.busy;
    assert.ok(op !== null, 'nothing is under way');
    return this.feed(
      { type: 'observed', array: ARRAY, observation: seen },
      { type: 'done', array: ARRAY, op, error: null, ...outcome },
    );
  }
  get busy(): LocalOp | null {
    return this.state.arrays.get(ARRAY)?.busy ?? null;
  }
}

/** A new master finds these, each whole. */
export function onDisks(...records: ArrayRecord[]): Extract<MasterInput, { type: 'disks' }> {
  return {
    type: 'disks',
    found: records.map((record) => ({ record, unseen: [], behind: new Map(), stale: new Map(), problem: null })),
  };
}
