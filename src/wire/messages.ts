/**
 * Everything two agents say to each other, as schemas. What does not parse here is refused, counted and journaled.
 *
 * Two kinds travel. *Frames* go over the one kept stream a pair of nodes has in each direction; the stream's peer ID,
 * proved by Noise, says who sent them. *Events* are sealed in signed envelopes (see envelope.ts), because they are passed
 * on by others, kept in journals and checked years later by an auditor who has only the node list's public keys.
 */
import { z } from 'zod';
import { EndedArray } from '../arrays/ended.ts';
import { ArrayRecord, CopyKind, NodeId, Uuid, Version, WHY_MAX } from '../arrays/record.ts';
import { ListVersion, NodeList } from '../roster/list.ts';
import { RosterWord } from '../roster/word.ts';

export const SEALED_CHARACTERS_MAX = 256 * 1024;
/** A frame has room for it, also where each of its characters is three bytes. */
export const DOCTOR_REPORT_MAX = 128 * 1024;

/** base64 of a sealed envelope. */
export const Sealed = z.string().max(SEALED_CHARACTERS_MAX).refine(isBase64, 'Invalid base64');

/**
 * As z.base64() has it, in a third of the time. The decoder passes over characters that are not of the alphabet, so of ASCII as many
 * bytes as there can be come of nothing else; but it also takes the two characters that the alphabet for URLs has instead.
 */
export function isBase64(text: string): boolean {
  if (text.length % 4 !== 0 || Buffer.byteLength(text) !== text.length) return false;
  if (text.includes('-') || text.includes('_')) return false;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const bytes = (text.length / 4) * 3 - padding;
  if (bytes > decoded.byteLength) decoded = Buffer.allocUnsafeSlow(2 * bytes);
  return decoded.write(text, 'base64') === bytes;
}

/** Only how many they are is looked at: a million of them need no memory of their own. */
let decoded = Buffer.allocUnsafeSlow(4096);

// --- events -----------------------------------------------------------------------------------------------------------

/** Disks that decide, by name (docs/quorum.md); the newest version counts. `former`: the set before, while it is being replaced. */
const QuorumSetSchema = z.object({
  version: Version,
  disks: z.array(Uuid).min(1).max(9),
  former: z.array(Uuid).min(1).max(9).nullable(),
});

/** What a node saw on its own md. */
export const Observation = z.discriminatedUnion('what', [
  /** md on this node marked the member faulty: by an I/O error or by `mdadm --fail` typed there. */
  z.object({ what: z.literal('member-faulty'), array: Uuid, member: Uuid }),
  /** The copy that the record asks this node for has ended. `mismatchSectors`: what a check or repair found. */
  z.object({
    what: z.literal('resync-done'),
    array: Uuid,
    since: z.int().min(0),
    mismatchSectors: z.int().min(0).nullable().default(null),
  }),
  /**
   * The node that the record has resync takes the marks of the nodes that the record names for its own. `kept`: they stand in its own
   * bitmap now; else it keeps none, and copies everything.
   */
  z.object({ what: z.literal('marks-taken'), array: Uuid, since: z.int().min(0), kept: z.boolean() }),
]);
export type Observation = z.infer<typeof Observation>;

/** What an operator asks for. Device paths are the asking node's; the master finds the same disks by their content. */
export const Request = z.discriminatedUnion('verb', [
  z.object({
    verb: z.literal('create'),
    md: z.string(),
    name: z.string().optional(),
    level: ArrayRecord.shape.level,
    raidDisks: z.int(),
    chunkKib: z.int().optional(),
    layout: z.int().optional(),
    access: ArrayRecord.shape.access,
    owner: NodeId.optional(),
    devices: z.array(z.string()),
    spares: z.int().default(0),
    assumeClean: z.boolean().default(false),
    /** `internal`: one for each node. @default none */
    bitmap: z.enum(['internal', 'none']).optional(),
    force: z.boolean().default(false),
    /** Nodes that do not see each disk are left out, until they do. */
    allowMissing: z.literal(true).optional(),
  }),
  z.object({
    verb: z.literal('adopt'),
    md: z.string(),
    uuid: Uuid,
    access: ArrayRecord.shape.access,
    owner: NodeId.optional(),
  }),
  z.object({ verb: z.literal('release'), array: z.string() }),
  /** null: all. `force`: also where parity is in doubt, or where the disks bear an older record than is known. */
  z.object({ verb: z.literal('assemble'), array: z.string().nullable(), force: z.literal(true).optional() }),
  z.object({ verb: z.literal('stop'), array: z.string() }),
  z.object({ verb: z.literal('fail'), array: z.string(), device: z.string() }),
  z.object({ verb: z.literal('remove'), array: z.string(), device: z.string() }),
  z.object({
    verb: z.literal('add'),
    array: z.string(),
    device: z.string(),
    force: z.boolean().default(false),
    /** As `create`'s. */
    allowMissing: z.literal(true).optional(),
  }),
  /** As mdadm's --action: `frozen` pauses the copy under way, `idle` lets it go on, or ends a check or repair. */
  z.object({ verb: z.literal('action'), array: z.string(), action: z.enum(['check', 'repair', 'idle', 'frozen']) }),
  /** null: as the configuration says. */
  z.object({ verb: z.literal('sync-limit'), array: z.string(), limitKib: z.int().min(1).nullable() }),
  z.object({
    verb: z.literal('grow-devices'),
    array: z.string(),
    raidDisks: z.int().min(1).max(128),
    force: z.boolean().default(false),
  }),
  /** `sizeKib`: of each member; null: as much as all have room for. */
  z.object({
    verb: z.literal('grow-size'),
    array: z.string(),
    sizeKib: z.int().min(1).nullable(),
    assumeClean: z.boolean().default(false),
  }),
  /** `chunkKib`: what one bit stands for; left out: as suits. */
  z.object({
    verb: z.literal('grow-bitmap'),
    array: z.string(),
    bitmap: z.enum(['internal', 'none']),
    chunkKib: z.int().min(1).optional(),
  }),
  /** Room for so many nodes in the mesh area. */
  z.object({ verb: z.literal('grow-nodes'), array: z.string(), nodes: z.int().min(1) }),
  /** `with`: a spare; null: any. */
  z.object({ verb: z.literal('replace'), array: z.string(), device: z.string(), with: z.string().nullable() }),
  z.object({ verb: z.literal('confirm-dead'), node: NodeId }),
]);
export type Request = z.infer<typeof Request>;

/**
 * The asking node resolves its device paths before it sends: a member by its superblock's UUID, a disk without one by
 * size and content digest. `path` is kept for the words of an error message.
 */
export const ResolvedDevice = z.object({
  path: z.string(),
  memberUuid: Uuid.nullable(),
  sizeSectors: z.int(),
  /** SHA-256 (hex) over the first 4 MiB and the last 1 MiB. */
  digest: z.string(),
  /** All of the bytes under `digest` are zero. */
  blank: z.boolean(),
});
export type ResolvedDevice = z.infer<typeof ResolvedDevice>;

export const CommitKind = z.enum([
  'create',
  'adopt',
  'release',
  'start',
  'stop',
  'fail',
  'remove',
  'add',
  'admit',
  'leave',
  'evict',
  'resync-start',
  'resync-done',
  'resync-checkpoint',
  'resync-change',
  'resync-marks',
  'path-lost',
  'new-term',
  'move',
  'grow',
  'bitmap',
  'bitmap-kept',
  'replace',
  'replaced',
  'blind',
]);
export type CommitKind = z.infer<typeof CommitKind>;

export const EventBody = z.discriminatedUnion('type', [
  z.object({ type: z.literal('observation'), observation: Observation }),
  z.object({ type: z.literal('request'), requestId: Uuid, request: Request, devices: z.array(ResolvedDevice) }),
  /**
   * A commit, already durable on the members. `certificate`: the majority's sealed votes for `record.version.term`,
   * or the holder's sealed `disk-lease`.
   * `cause`: (origin, boot, sequence) of the event that led here, if one did. `before`: version of the record it replaces.
   */
  z.object({
    type: z.literal('commit'),
    kind: CommitKind,
    record: ArrayRecord,
    before: Version.nullable(),
    detail: z.object({
      member: Uuid.optional(),
      node: NodeId.optional(),
      requestId: Uuid.optional(),
      /** Of a former member that was added: why it is filled as a whole. Of members that were given up at a takeover: why. */
      why: z.string().max(WHY_MAX).optional(),
    }),
    certificate: z.array(Sealed).max(64),
  }),
  /**
   * One a term a voter; stored with fsync before it is sealed. `shutOut`: it had promised these holders more time, each in that term,
   * and has taken their keys off every member instead of waiting.
   */
  z.object({
    type: z.literal('vote'),
    term: z.int().min(1),
    candidate: NodeId,
    shutOut: z
      .array(z.object({ holder: NodeId, term: z.int().min(1) }))
      .min(1)
      .max(64)
      .optional(),
  }),
  /** Where disks decide: its signer holds a majority of them, in a term of its own. Also told when it sets another quorum set. */
  z.object({ type: z.literal('disk-lease'), term: z.int().min(1), set: QuorumSetSchema }),
  /** The holder gives up its lease of `term`; voters' promises to it end at once. `to`: who should be voted in next. */
  z.object({ type: z.literal('lease-release'), term: z.int().min(1), to: NodeId.nullable() }),
  /**
   * What this node's journal holds, in the form of C2SP's tlog-checkpoint: `note` names its log, the number of its entries and
   * the root of their Merkle tree (RFC 6962). `proof` shows that nothing up to `previous`, the size in the checkpoint before, has
   * changed; 0: no checkpoint before it, or one that is too long ago.
   */
  z.object({
    type: z.literal('checkpoint'),
    note: z.string().max(1000),
    previous: z.int().min(0),
    proof: z.array(z.base64().length(44)).max(64),
  }),
  /** This node has seen that checkpoint follow from the ones before. `line`: C2SP's tlog-cosignature, to stand below the note. */
  z.object({
    type: z.literal('cosignature'),
    of: z.object({ origin: z.string().max(200), size: z.int().min(0), root: z.base64().length(44) }),
    line: z.string().max(400),
  }),
  /** The node list that counts from here on, and the one before it: an auditor finds the keys of an earlier time by it. */
  z.object({ type: z.literal('node-list'), list: NodeList, before: NodeList }),
  /** The node says goodbye: its writes are held, or its arrays are stopped. */
  z.object({ type: z.literal('leave'), reason: z.string().max(200) }),
  /**
   * Anything else worth telling and journaling: membership, lease, fencing, refusals. `name` is the event's catalogue
   * name, e.g. `NodeDead`; `subject` an array's md name, `node/3`, or the cluster's name.
   */
  z.object({
    type: z.literal('notice'),
    name: z.string().max(60),
    severity: z.enum(['info', 'notice', 'warning', 'critical']),
    subject: z.string().max(100),
    detail: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
  }),
]);
export type EventBody = z.infer<typeof EventBody>;

/** The signed payload: JSON of this, UTF-8. (origin, boot, sequence) is unique; sequence starts at 1 at each boot of the agent. */
export const Event = z.object({
  cluster: Uuid,
  origin: NodeId,
  /** Random per start of the agent; later starts of one origin have a greater `bootNumber`. */
  boot: Uuid,
  bootNumber: z.int().min(1),
  sequence: z.int().min(1),
  /** Wall clock of the origin, RFC 3339 UTC with milliseconds. For people; never used to decide. */
  time: z.iso.datetime(),
  /** Highest term that the origin knew. */
  term: z.int().min(0),
  body: EventBody,
});
export type Event = z.infer<typeof Event>;

// --- frames -----------------------------------------------------------------------------------------------------------

const MemberUpdate = z.object({
  node: NodeId,
  status: z.enum(['alive', 'suspect', 'dead', 'left']),
  incarnation: z.int().min(0),
});
export type MemberUpdate = z.infer<typeof MemberUpdate>;

/** SWIM with piggybacked updates. `eligible`: the sender's driver works and it sees the members (may lead). */
export const SwimMessage = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('ping'),
    sequence: z.int(),
    eligible: z.boolean(),
    updates: z.array(MemberUpdate).max(64),
  }),
  z.object({
    kind: z.literal('ack'),
    sequence: z.int(),
    eligible: z.boolean(),
    updates: z.array(MemberUpdate).max(64),
  }),
  z.object({
    kind: z.literal('ping-request'),
    sequence: z.int(),
    target: NodeId,
    updates: z.array(MemberUpdate).max(64),
  }),
  z.object({ kind: z.literal('nack'), sequence: z.int(), updates: z.array(MemberUpdate).max(64) }),
]);
export type SwimMessage = z.infer<typeof SwimMessage>;

/**
 * `sentAtMs` and `echo…` are readings of one node's own BOOTTIME, given back to it untouched: no decision compares clocks. That they run
 * at different rates is told of (clock_rates.ts).
 */
export const LeaseMessage = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('vote-request'),
    term: z.int().min(1),
    sentAtMs: z.number(),
    /** The newest node list that the candidate has stored. */
    list: ListVersion,
    /** L: for how long the candidate takes the promise to hold. */
    voterMs: z.number().positive(),
    /** The candidate itself has shut these out: no vote that passes over a promise to another is of use to it. */
    shutOut: z.array(NodeId).max(64).optional(),
  }),
  z.object({
    kind: z.literal('vote-granted'),
    term: z.int().min(1),
    echoSentAtMs: z.number(),
    vote: Sealed,
    /** As in the vote. */
    shutOut: z.array(NodeId).max(64).optional(),
  }),
  z.object({
    kind: z.literal('vote-refused'),
    term: z.int().min(1),
    reason: z.enum(['promised', 'voted', 'stale-term', 'lower-alive', 'abstaining', 'list']),
    /** Highest term the refuser knows. */
    knownTerm: z.int().min(0),
    /** `promised`, to these alone: it has not heard of them for R either, and would shut them out. */
    silent: z.array(NodeId).max(64).optional(),
  }),
  /** Holder → all. `echoAckSentAtMs`: the receiver's own clock when it sent the ack that is answered here: its grant runs from then. */
  z.object({
    kind: z.literal('renew'),
    term: z.int().min(1),
    sentAtMs: z.number(),
    echoAckSentAtMs: z.number().nullable(),
    /** False: no grant (the node is evicted, or has not caught up). */
    grant: z.boolean(),
    certificate: z.array(Sealed).max(64),
    /** R and L as the holder counts them: no grant lasts longer than that R, no shorter promise is worth an ack. */
    holderMs: z.number().positive(),
    voterMs: z.number().positive(),
  }),
  z.object({ kind: z.literal('renew-ack'), term: z.int().min(1), echoSentAtMs: z.number(), sentAtMs: z.number() }),
  /** From a voter that abstains: it asks for a grant, and promises nothing. A kind of its own, so that nobody can count it. */
  z.object({ kind: z.literal('follow'), term: z.int().min(1), sentAtMs: z.number() }),
  /** Told to a holder or candidate of an old term. */
  z.object({ kind: z.literal('stale-term'), knownTerm: z.int().min(0) }),
  /** Asked by a voter whose vote file was lost, answered by anyone: highest term seen. */
  z.object({ kind: z.literal('term-query') }),
  z.object({ kind: z.literal('term-answer'), knownTerm: z.int().min(0), list: ListVersion }),
  /** Sealed `lease-release` event. */
  z.object({ kind: z.literal('released'), event: Sealed }),
]);
export type LeaseMessage = z.infer<typeof LeaseMessage>;

/** How an array stands on a node: `absent` not assembled; `held` assembled, no write can pass; `open` writes pass. */
export const LocalState = z.enum(['absent', 'held', 'open']);
export type LocalState = z.infer<typeof LocalState>;

/**
 * The copier's word on its copy, for every node's status. Sectors in the unit of the copy. `sequence` grows with each message
 * of one copy.
 */
export const CopyProgress = z.object({
  since: z.int().min(0),
  sequence: z.int().min(0),
  kind: CopyKind,
  by: NodeId,
  doneSectors: z.int().min(0),
  totalSectors: z.int().min(0),
  /** Of late; null: not known yet, or halted. */
  kibPerSecond: z.int().min(0).nullable(),
  mismatchSectors: z.int().min(0).nullable(),
});
export type CopyProgress = z.infer<typeof CopyProgress>;

/** A node's account of one array. */
export const ArrayReport = z.object({
  array: Uuid,
  /** Newest record that is fully applied here; null if none. */
  applied: Version.nullable(),
  /** Newest record known here, applied or not. */
  known: Version.nullable(),
  state: LocalState,
  /** Members this node can read and write, by device UUID. */
  visible: z.array(Uuid).max(384),
  /** md keeps this node's bitmap on the members. */
  bitmap: z.boolean().default(false),
  /** Set when the array cannot be brought to the record here; words for people. */
  trouble: z.string().max(500).nullable(),
  /** Members to which I/O of this node waits for a lost path, or did until a moment ago. */
  lost: z.array(Uuid).max(384).default([]),
  /** Members that this node has read lately because the master asked. */
  fine: z.array(Uuid).max(384).default([]),
  /** The newest record at hand of which it is known here that all have applied it; left out: that is not said. */
  released: Version.nullable().optional(),
  /** What this node's repair has mended and had not told when another went on with it: `since` of that copy. Left out: nothing. */
  mended: z.object({ since: z.int().min(0), sectors: z.int().min(1) }).optional(),
});
export type ArrayReport = z.infer<typeof ArrayReport>;

export const ArrayMessage = z.discriminatedUnion('kind', [
  /** Node → master: after each change, and at least each second. `ended`: of former boots of its kernel (arrays/ended.ts). */
  z.object({
    kind: z.literal('report'),
    term: z.int().min(0),
    kernelBoot: Uuid,
    /** Which start of the node's agent it is of: an event's `bootNumber`. 0: not said. */
    agentStart: z.int().min(0).default(0),
    reports: z.array(ArrayReport).max(256),
    ended: z.array(EndedArray).max(256).default([]),
  }),
  /** Master → node: sealed `commit` event. */
  z.object({ kind: z.literal('commit'), event: Sealed }),
  /** Node → master: the record of this version is applied. */
  z.object({ kind: z.literal('applied'), array: Uuid, version: Version, report: ArrayReport }),
  /** Master → node: every writer has applied this version; gates that waited for it may be answered. */
  z.object({ kind: z.literal('released'), array: Uuid, version: Version }),
  /**
   * Master, which copies → every other node: hold writes in this range of the array (sectors), and only there. Of two with the
   * same `since` the one with the greater `sequence` counts.
   */
  z.object({
    kind: z.literal('window'),
    array: Uuid,
    since: z.int().min(0),
    sequence: z.int().min(0),
    loSector: z.int().min(0),
    hiSector: z.int().min(0),
  }),
  /** Node → master: writes are held there (or everywhere), and none is in flight. `writes`: how many md has ended there so far. */
  z.object({
    kind: z.literal('window-held'),
    array: Uuid,
    since: z.int().min(0),
    sequence: z.int().min(0),
    writes: z.int().min(0).nullable().default(null),
  }),
  /** Master → node: read from this member, which others have lost, and report. */
  z.object({ kind: z.literal('probe'), array: Uuid, member: Uuid }),
  /** Master → node: how far its copy is. */
  z.object({ kind: z.literal('progress'), array: Uuid, progress: CopyProgress }),
  /** Node → master: a sealed `observation` or `request` event. */
  z.object({ kind: z.literal('submit'), event: Sealed }),
  /** Node → all that it is connected to: an event of its own, for their journals; gossip follows. */
  z.object({ kind: z.literal('event'), event: Sealed }),
  /** Master → node: outcome of a request. `undone`: nothing of it was begun, and another master may be asked. */
  z.object({
    kind: z.literal('result'),
    requestId: Uuid,
    ok: z.boolean(),
    text: z.string().max(4000),
    undone: z.literal(true).optional(),
  }),
  /** Master → node: read these bytes again: does the disk at your path carry this superblock now? And its answer. */
  z.object({
    kind: z.literal('sees-query'),
    queryId: Uuid,
    members: z.array(z.object({ path: z.string().nullable(), uuid: Uuid })),
  }),
  z.object({
    kind: z.literal('sees-answer'),
    queryId: Uuid,
    seen: z.array(z.object({ uuid: Uuid, path: z.string(), sizeSectors: z.int().min(0) })),
    wrong: z.array(z.string()),
  }),
]);
export type ArrayMessage = z.infer<typeof ArrayMessage>;

/** What `mdmesh doctor` finds there: asked for, and answered with its report, which is JSON, or with why there is none. */
export const DoctorMessage = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('query'), queryId: Uuid }),
  z.object({
    kind: z.literal('report'),
    queryId: Uuid,
    report: z.string().max(DOCTOR_REPORT_MAX).nullable(),
    trouble: z.string().max(4000).nullable(),
  }),
]);
export type DoctorMessage = z.infer<typeof DoctorMessage>;

/** First frame on each stream. Two boots under one node ID at a time: both refuse to go on. */
export const Hello = z.object({
  /** The newest that the sender speaks, and the oldest; without that, it speaks one alone. */
  protocol: z.int().min(1),
  oldest: z.int().min(1).optional(),
  cluster: Uuid,
  node: NodeId,
  boot: Uuid,
  bootNumber: z.int().min(1),
  version: z.string().max(40),
});
export type Hello = z.infer<typeof Hello>;

export const Frame = z.discriminatedUnion('room', [
  z.object({ room: z.literal('hello'), message: Hello }),
  z.object({ room: z.literal('duplicate-id'), message: z.object({ boots: z.array(Uuid).max(8) }) }),
  z.object({ room: z.literal('members'), message: SwimMessage }),
  z.object({ room: z.literal('lease'), message: LeaseMessage }),
  z.object({ room: z.literal('roster'), message: RosterWord }),
  z.object({ room: z.literal('arrays'), message: ArrayMessage }),
  z.object({ room: z.literal('doctor'), message: DoctorMessage }),
]);
export type Frame = z.infer<typeof Frame>;

// --- catch-up -----------------------------------------------------------------------------------------------------------

/** Asked on a stream of its own: everything after these cursors, oldest first, in pages. */
export const CatchupRequest = z.object({
  have: z.array(z.object({ origin: NodeId, bootNumber: z.int(), sequence: z.int() })).max(1024),
});
export type CatchupRequest = z.infer<typeof CatchupRequest>;
export const CatchupPage = z.object({ events: z.array(Sealed).max(512), more: z.boolean() });
export type CatchupPage = z.infer<typeof CatchupPage>;
