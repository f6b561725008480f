/**
 * The committed state of one array: what the master makes durable and every node applies.
 *
 * A commit carries the whole record, not a change to it, so a node that missed ten commits needs only the newest one.
 * The same facts stand on the members: roles, events and resync offset in the v1.2 superblocks, the rest in the mesh area.
 */
import { z } from 'zod';

/** A node of the static list, 1…N. */
export const NodeId = z.int().min(1).max(64);
export type NodeId = z.infer<typeof NodeId>;

/** Canonical lower-case UUID text, 8-4-4-4-12. */
export const Uuid = z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, 'not a UUID in lower case');

/** (term, index): orders the commits of one array. Index grows by one a commit and never restarts; term never shrinks. */
export const Version = z.object({ term: z.int().min(0), index: z.int().min(0) });
export type Version = z.infer<typeof Version>;

export function compareVersions(a: Version, b: Version): number {
  return a.term - b.term || a.index - b.index;
}

export const MemberRecord = z.object({
  /** device_uuid of the member's superblock: the only name a disk has across nodes. */
  uuid: Uuid,
  /** dev_number in the superblock: index into dev_roles, never reused while the member is listed. */
  devNumber: z.int().min(0).max(383),
  /**
   * `spare` waits without a slot; `rebuilding` has one: every node writes to it, none reads it; `faulty` keeps its slot number
   * here for display, but no data is read from it.
   */
  role: z.enum(['active', 'rebuilding', 'spare', 'faulty']),
  slot: z.int().min(0).nullable(),
  dataOffsetSectors: z.int().min(0),
  /** Sectors of this member that may hold data, from dataOffsetSectors on. */
  dataSizeSectors: z.int().min(0),
  /** The member that this one replaces as soon as it is in sync; meanwhile the array has a slot more. */
  replaces: Uuid.optional(),
  /** The former member whose disk it is: what that had is still on it, as long as it has not been rebuilt. */
  was: Uuid.optional(),
  /** It was added although some node does not see it: it takes a slot all the same, and that node ceases to write. */
  allowMissing: z.literal(true).optional(),
});
export type MemberRecord = z.infer<typeof MemberRecord>;

/**
 * Where the nodes' write-intent bitmaps lie: at the same sectors of every member, because md looks for a node's own at one place
 * on all of them. Node n's begins at `firstSector + (n - 1) · sectorsPerNode`; bit 0 of byte 0 stands for the first chunk.
 */
export const BitmapPlace = z.object({
  /** From the start of the member. */
  firstSector: z.int().min(0),
  sectorsPerNode: z.int().min(8),
  /** What one bit stands for, in md's own unit of a resync (see `resync` of the record). */
  chunkSectors: z.int().min(8),
});
export type BitmapPlace = z.infer<typeof BitmapPlace>;

export function bitmapSector(place: BitmapPlace, node: NodeId): number {
  return place.firstSector + (node - 1) * place.sectorsPerNode;
}

/** Characters of the reason that a commit may give (`detail.why`); a longer one is cut. */
export const WHY_MAX = 200;

/**
 * What one node copies for all: `resync` makes the legs equal, `recovery` fills the rebuilding members, `check` counts where
 * copies differ, `repair` also makes them equal.
 */
export const CopyKind = z.enum(['resync', 'recovery', 'check', 'repair']);
export type CopyKind = z.infer<typeof CopyKind>;

/** It compares what is in sync, and writes nothing, or only where that differs. */
export function compares(kind: string | undefined): kind is 'check' | 'repair' {
  return kind === 'check' || kind === 'repair';
}

export const ArrayRecord = z.object({
  uuid: Uuid,
  /** Name in the superblock, at most 32 bytes, e.g. `demo:md0`. */
  name: z.string().max(32),
  /** Kernel name on every node, e.g. `md0`. */
  md: z.string().regex(/^md[0-9]{1,4}$/),
  level: z.enum(['linear', 'raid0', 'raid1', 'raid4', 'raid5', 'raid6', 'raid10']),
  layout: z.int(),
  chunkSectors: z.int().min(0),
  raidDisks: z.int().min(1),
  /** Sectors of each member that hold data (mdadm's "Used Dev Size" × 2). */
  componentSectors: z.int().min(0),
  ctimeSeconds: z.int().min(0),
  access: z.enum(['shared', 'exclusive']),
  /** Exclusive arrays: the one node that runs and writes it. Shared arrays: null. */
  owner: NodeId.nullable(),
  /** `stopped`: no node has it assembled. */
  run: z.enum(['started', 'stopped']),
  /**
   * Nodes that may have writes in flight. A node enters by a commit before its first write and leaves by a commit only
   * after it said that its writes are held, or after a fencing method said that it surely stopped. A commit is released
   * when each of them has applied it.
   */
  writers: z.array(NodeId),
  /**
   * The boot of the kernel under which each writer was admitted (boot_id). A writer that reports another one has crashed
   * since, whatever its array looks like now: its last writes may stand on one leg only.
   */
  writerBoots: z.array(
    z.object({
      node: NodeId,
      kernelBoot: Uuid,
      /** Its md keeps a bitmap: what it was writing when it died can be read off the members. */
      bitmap: z.boolean().default(false),
    }),
  ),
  /**
   * Nodes that are to leave the writers because they do not see a member that is to be written (`allowMissing`). They come back
   * when they do.
   */
  blind: z.array(NodeId).optional(),
  /** The cluster has it no more: its members are being given back to mdadm, and no node has it. */
  givenBack: z.literal(true).optional(),
  /**
   * Not null: a copy is under way, and one node (`by`) makes it. What lies before `fromSector` is done: the last checkpoint,
   * in md's own unit of the copy (resync, check and repair of raid10 count sectors of the array, all else sectors of the
   * component). Of a resync or recovery: what lies behind it may differ.
   * `since`: index of the commit that asked for it, so that the end of an older copy is not taken for the end of this one.
   * `halted`: an operator paused it.
   * `markedBy`, of a resync or recovery: what may differ is marked in the bitmaps of these nodes, on every member in sync. null:
   * anything may.
   * `afterCrash`, of a parity array's resync: a writer has crashed, so that what stands may not fit its parity yet. Left out: it was made so.
   * `foundSectors`, of a check or repair: where copies differed up to there, or a little beyond; left out: nowhere. `foundBefore`:
   * the same, by those who were at it before this one (see mendedBefore).
   */
  resync: z
    .object({
      kind: CopyKind.default('resync'),
      fromSector: z.int().min(0),
      by: NodeId,
      since: z.int().min(0),
      halted: z.boolean().default(false),
      markedBy: z.array(NodeId).nullable().default(null),
      afterCrash: z.literal(true).optional(),
      foundSectors: z.int().min(1).optional(),
      foundBefore: z.int().min(1).optional(),
    })
    .nullable(),
  /**
   * Nodes that copied by the record before, or by one whose commit may not have been released, and have no part in this one: until its
   * commit is released they may be reading members yet. Left out: none.
   */
  formerCopiers: z.array(NodeId).optional(),
  /**
   * Members that the data cannot do without, and that took no commit after that of index `since`, as far as its master knew. They lack no
   * acknowledged write: a write that such a member takes part in waits for it. Left out: none.
   */
  unreached: z.array(z.object({ uuid: Uuid, since: z.int().min(0) })).optional(),
  /**
   * A writer has crashed while a member of a parity array was missing, or one went before the resync after a crash had ended (see
   * `isDegradedParity`): nobody begins to write or read until an operator says so, as mdadm does not start such an array without --force.
   */
  parityInDoubt: z.literal(true).optional(),
  /** What a copy may take, in KiB a second; null: as the configuration says. */
  syncLimitKib: z.int().min(1).nullable().default(null),
  /** Nodes for which the mesh area has room. Left out: for 16. */
  nodeSlots: z.int().min(1).max(64).optional(),
  /** null: no node keeps a bitmap, and every resync copies everything. */
  bitmap: BitmapPlace.nullable().default(null),
  /** There: what was written since a member left is marked (see missed.ts). */
  missed: z
    .object({
      /** Index of the commit by which the array ceased to be whole. */
      since: z.int().min(0),
      /** In whose bitmaps. */
      nodes: z.array(NodeId),
      /** The members that have been in sync all the time: on each of them are all of these marks. */
      on: z.array(Uuid),
      /** The members that were in sync until then, or later, and in which slot. */
      left: z.array(z.object({ uuid: Uuid, slot: z.int().min(0) })),
    })
    .optional(),
  /** The newest check or repair that came to its end, or was called off (null): when, and the sectors that differed. */
  lastCheck: z
    .object({ atSeconds: z.int().min(0), mismatchSectors: z.int().min(0).nullable() })
    .nullable()
    .default(null),
  events: z.int().min(0),
  utimeSeconds: z.int().min(0),
  members: z.array(MemberRecord),
  version: Version,
});
export type ArrayRecord = z.infer<typeof ArrayRecord>;

export type Copy = NonNullable<ArrayRecord['resync']>;

/**
 * The copy of this record, as the next commit begins it anew from where it has come to: windows that were agreed on for it, and how far its
 * copier has come, count no more.
 */
export function copyAnew({ resync, version }: ArrayRecord, by?: NodeId): Copy | null {
  if (resync === null) return null;
  const { foundSectors, ...copy } = withFound(resync, resync.foundSectors ?? 0);
  return { ...copy, by: by ?? resync.by, since: version.index + 1 };
}

/** Others have found that much more. */
export function withFound(copy: Copy, sectors: number): Copy {
  return sectors > 0 ? { ...copy, foundBefore: (copy.foundBefore ?? 0) + sectors } : copy;
}

/** A copy of everything. @param since index of the commit that asks for it */
export function wholeCopy(kind: CopyKind, by: NodeId, since: number): Copy {
  return { kind, fromSector: 0, by, since, halted: false, markedBy: null };
}

/** What this commit says of it is its end. */
export function isEnd(kind: string, { givenBack }: ArrayRecord): boolean {
  return kind === 'release' || givenBack === true;
}

/** Created or adopted, or about to be: the cluster has let nobody write to it yet. */
export function isNew({ version, writers }: ArrayRecord): boolean {
  return version.index === 0 && writers.length === 0;
}
