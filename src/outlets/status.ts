/**
 * What one node sees, as schemas: the types of `status`, and the part of the API's document that tells what is in an answer. Nothing
 * is parsed with them at run time, but by the tests.
 */
import { z } from 'zod';
import { ArrayRecord, NodeId, Uuid, Version } from '../arrays/record.ts';
import type { ArrayObservation, Disk } from '../md/driver.ts';
import type { MemberStatus } from '../members/index.ts';
import { ArrayReport, CopyProgress } from '../wire/messages.ts';

/** A schema that says exactly what a type of another room says: more, or less, does not compile. */
function exactly<T>() {
  return <S extends z.ZodType<T>>(
    schema: S & ([T] extends [z.output<S>] ? unknown : { 'the type has more than the schema': T }),
  ): S => schema;
}

const sectors = z.int().min(0);
const Time = z.iso.datetime();

export const NodeStatus = z.object({
  node: NodeId,
  address: z.string(),
  self: z.boolean(),
  status: exactly<MemberStatus>()(z.enum(['unknown', 'alive', 'suspect', 'dead', 'left'])),
  connected: z.boolean(),
  version: z.string().nullable().describe('Of mdmesh there; null: not heard yet.'),
  refused: z.string().nullable().describe('Why this node does not speak with it: versions too far apart.'),
  eligible: z.boolean().describe('May lead: its driver works, and it sees the members.'),
  granted: z
    .boolean()
    .nullable()
    .describe('May have write-enabled arrays, by the master’s account; null where this node does not know.'),
  clockRate: z
    .number()
    .nullable()
    .describe(
      'Its seconds in one of this node’s, over the last minutes; null: not known, as of a node that this one does not speak with about the lease.',
    ),
});
/** One node as this node sees it. */
export type NodeStatus = z.infer<typeof NodeStatus>;

const SectorRange = z.object({ loSector: sectors, hiSector: sectors.describe('The first one behind it.') });

const MemberObservation = z.object({
  uuid: Uuid.nullable().describe('Its superblock’s device_uuid; null: it could not be read.'),
  device: z.string().describe('Kernel name on this node.'),
  slot: z.int().nullable(),
  inSync: z.boolean(),
  rebuilding: z.boolean().describe('Written, and not read.'),
  faulty: z.boolean(),
  blocked: z.boolean().describe('Failed, and writes wait until that is answered.'),
  path: z
    .enum(['direct', 'up', 'held', 'lost', 'failing'])
    .describe(
      'direct: no layer under md, which hears of every error at once; held: this node may not read, and I/O to it waits; lost: it failed, and I/O to it waits; failing: it ends with an error.',
    ),
});

const Observed = exactly<ArrayObservation>()(
  z.object({
    md: z.string(),
    arrayUuid: Uuid.nullable(),
    arrayState: z.string().describe('As in sysfs: inactive, readonly, clean, active, write-pending, broken, …'),
    writePending: z.boolean().describe('The gate is closed: writes wait for an answer.'),
    held: z.boolean().describe('No write passes.'),
    suspended: SectorRange.nullable().describe('Where writes wait, in sectors of the array.'),
    syncAction: z.string(),
    syncCompleted: z.object({ doneSectors: sectors, totalSectors: sectors }).nullable(),
    copyUnended: z.boolean().describe('A copy is under way, or was interrupted before its end.'),
    resyncStartSector: sectors.nullable().describe('null: in sync.'),
    mismatchSectors: sectors,
    degraded: z.int(),
    raidDisks: z.int(),
    sizeSectors: sectors.describe('Of /dev/mdX.'),
    bitmap: z.object({ sector: z.int(), chunkSectors: z.number() }).nullable(),
    members: z.array(MemberObservation),
  }),
);

export const ArrayStatus = z.object({
  record: ArrayRecord.describe('The newest committed record known here.'),
  applied: Version.nullable().describe('Of the newest record that was applied here.'),
  released: Version.nullable().describe('Of the newest record up to which gates may be answered.'),
  local: Observed.nullable().describe('This node’s md; null: not assembled here.'),
  paths: z.record(z.string(), z.string()).describe('This node’s device path of each member, by UUID.'),
  reports: z
    .array(z.object({ node: NodeId, report: ArrayReport }))
    .describe('What each node reports: on the master; elsewhere only this node’s own.'),
  sync: CopyProgress.nullable().describe(
    'The copy under way as its copier tells, the same on every node; null: none, or nothing was heard of it yet.',
  ),
  mismatchSectors: sectors
    .nullable()
    .describe(
      'Where a check or repair under way has found differences so far, or the newest one did; null: none did, or it was called off.',
    ),
  trouble: z.string().nullable().describe('Why it cannot be brought to its record here, for people.'),
});
/** One array as this node sees it. */
export type ArrayStatus = z.infer<typeof ArrayStatus>;

export const QuorumStatus = z.object({
  set: z
    .object({ version: Version, disks: z.array(Uuid), former: z.array(Uuid).nullable() })
    .nullable()
    .describe(
      'Disks that decide, and, while they are being replaced, the former ones; null: none yet, all nodes have to agree.',
    ),
  quorate: z.boolean().describe('Enough of them answer this node.'),
  disks: z.array(
    z.object({
      disk: Uuid,
      path: z.string().describe('This node’s.'),
      decides: z.boolean(),
      answers: z.boolean(),
      holder: z
        .object({ node: NodeId, term: z.int() })
        .nullable()
        .describe('What another node’s block there says, whether it still holds or not.'),
      torn: z
        .array(NodeId)
        .describe('Nodes whose block there is not whole: the disk does not count until they have written again.'),
    }),
  ),
});
/** Where disks decide: how they stand, as this node sees them. */
export type QuorumStatus = z.infer<typeof QuorumStatus>;

export const Status = z.object({
  cluster: z.object({ name: z.string(), uuid: Uuid }),
  self: NodeId,
  version: z.string(),
  protocol: z
    .object({ oldest: z.int(), newest: z.int(), level: z.int().describe('What all nodes of the list understand.') })
    .describe('What this build speaks.'),
  startedAt: Time,
  driver: z.enum(['real', 'simulated']),
  lease: z.object({
    role: z.enum(['follower', 'candidate', 'master']),
    term: z.int().min(0),
    master: NodeId.nullable(),
    leaseLeftMs: z.number().min(0).describe('Of this node’s own lease; 0: it has none.'),
    grantLeftMs: z.number().min(0).describe('Of this node’s grant; 0: it has none.'),
  }),
  list: z
    .object({
      term: z.int().min(0),
      generation: z.int().min(0),
      digest: z.string(),
      nodes: z.array(NodeId),
      pending: z.array(NodeId).nullable().describe('Nodes of the list that is being agreed on.'),
      waitsFor: z.string().nullable().describe('Why the list in this node’s file does not count; null: it does.'),
    })
    .describe('The node list that counts.'),
  quorum: QuorumStatus.optional().describe('Left out where nodes decide.'),
  nodes: z.array(NodeStatus),
  reservations: z
    .object({
      used: z.boolean().describe('False: `auto`, and some member has none.'),
      shutOut: z.boolean().describe('This node’s key was taken off some member; its writes are held.'),
      members: z
        .record(z.string(), z.enum(['registered', 'absent', 'partial', 'unsupported', 'unknown']))
        .describe('By UUID.'),
    })
    .nullable()
    .describe('Of the members, as this node sees them; null: fencing does not ask for them.'),
  arrays: z.array(ArrayStatus),
  privileges: z
    .object({
      effective: z.array(z.string()).describe('What the agent may do now, by the names of capabilities(7).'),
      permitted: z.array(z.string()).describe('What it could take up again.'),
      noNewPrivileges: z.boolean().describe('What it starts gets no more than it has itself.'),
      ioFlusher: z.boolean().default(false).describe('Its memory never waits for I/O (PR_SET_IO_FLUSHER).'),
    })
    .optional()
    .describe('Of the agent’s process; left out where it drives no kernel.'),
  journal: z.object({ head: z.int().min(0).describe('Cursor of the newest event.') }),
  counters: z.record(z.string(), z.number()),
});
/** What one node sees: the answer to `mdmesh status`. */
export type Status = z.infer<typeof Status>;

export const JournalState = z.object({
  head: z.int().min(0).describe('Cursor of the newest event.'),
  entries: z.int().min(0).describe('Of the log that is being written, since its first one.'),
  log: z.string().nullable().describe('Its name, as in the checkpoints; null: it has no entry yet.'),
  checkpoint: z
    .object({
      entries: z.int().min(0).describe('How many entries it signs.'),
      time: Time,
      cosigners: z.array(NodeId).describe('Nodes that have seen it follow from the ones before.'),
    })
    .nullable()
    .describe('The newest that this node signed of this log; null: none yet.'),
});
/** How far this node's journal is, and how far it is signed. */
export type JournalState = z.infer<typeof JournalState>;

const Superblock = z.object({
  featureMap: z.int(),
  setUuid: z.string(),
  setName: z.string(),
  ctimeSeconds: z.number(),
  level: z.int().describe('The kernel’s number: -1 linear, 0, 1, 4, 5, 6, 10.'),
  layout: z.int(),
  sizeSectors: z.number(),
  chunkSectors: z.int(),
  raidDisks: z.int(),
  bitmapOffsetSectors: z.int(),
  dataOffsetSectors: z.number(),
  dataSizeSectors: z.number(),
  superOffsetSectors: z.number(),
  recoveryOffsetSectors: z.number(),
  devNumber: z.int(),
  deviceUuid: z.string(),
  devFlags: z.int(),
  bblogShift: z.int(),
  bblogSizeSectors: z.int(),
  bblogOffsetSectors: z.int(),
  utimeSeconds: z.number(),
  events: z.number(),
  resyncOffsetSectors: z.number().nullable().describe('null: clean.'),
  roles: z.array(z.int()).describe('By dev_number: slot, 65535 spare, 65534 faulty.'),
  maxDev: z.int(),
  checksum: z.int(),
});

export const DiskFound = exactly<Disk>()(
  z.object({
    path: z.string(),
    devno: z.string().describe('major:minor'),
    sizeSectors: z.number(),
    logicalBlockBytes: z.int(),
    superblock: Superblock.nullable().describe(
      'The v1.2 superblock as it stands there; names as in the kernel’s md_p.h.',
    ),
    mesh: z
      .object({ clusterUuid: z.string(), clusterName: z.string(), record: ArrayRecord, nodeSlots: z.int() })
      .nullable(),
    problem: z.string().nullable().describe('There, but not sound: words for people.'),
    holders: z.array(z.string()).describe('What stands on it, e.g. an md device.'),
  }),
);

export const NodeReport = z.object({
  node: NodeId,
  report: z.string().nullable().describe('What `mdmesh doctor --json --local` printed there; null: there is none.'),
  trouble: z.string().nullable().describe('Why there is none.'),
});
/** Of another node. */
export type NodeReport = z.infer<typeof NodeReport>;
