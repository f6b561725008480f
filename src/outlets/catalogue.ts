/**
 * The names under which events are told: md's vocabulary from `mdadm --monitor` where it has a word, the cluster's own where
 * it has none. One event of the wire gives one telling, or two where mdadm's users listen for a second word (a failed
 * member also makes a degraded array).
 */
import { nodeSlotsOf } from '../arrays/levels.ts';
import type { ArrayRecord } from '../arrays/record.ts';
import { formatSizeKib } from '../config/sizes.ts';
import type { CommitKind, Event, EventBody } from '../wire/messages.ts';
import type { Severity } from './event_filter.ts';

/** One event as people and tools are told of it. */
export interface Telling {
  /** Catalogue name, e.g. `Fail`. */
  name: string;
  /** CloudEvents type, e.g. `io.mdmesh.array.fail`. */
  type: string;
  severity: Severity;
  /** `md0`, `node/3` or the cluster's name. */
  subject: string;
  /** The rest of the line for people; may be empty. */
  text: string;
  /** Device UUID of the member it is about. */
  member: string | null;
}

/**
 * What this node calls things that an event names by UUID only, in the moment in which it is asked: for every event, so it costs nothing
 * to have. null: not known here.
 */
export interface Names {
  readonly cluster: string;
  array(uuid: string): string | null;
  /** UUID of the array of that md name. */
  arrayNamed(md: string): string | null;
  /** This node's device path of a member. */
  member(uuid: string): string | null;
}

export const noNames: Names = { cluster: 'cluster', array: () => null, arrayNamed: () => null, member: () => null };

interface Entry {
  type: string;
  severity: Severity;
}

/**
 * Every name that mdmesh itself gives, and how bad it is; event_descriptions.ts says when. A notice with another name (of a newer
 * version) is told under a type made from its subject and name, as severe as it says itself.
 */
export const catalogue = {
  NewArray: { type: 'io.mdmesh.array.new', severity: 'notice' },
  DegradedArray: { type: 'io.mdmesh.array.degraded', severity: 'critical' },
  DeviceDisappeared: { type: 'io.mdmesh.array.disappeared', severity: 'notice' },
  Fail: { type: 'io.mdmesh.array.fail', severity: 'critical' },
  FailSpare: { type: 'io.mdmesh.array.fail-spare', severity: 'critical' },
  SpareAdded: { type: 'io.mdmesh.array.spare-added', severity: 'notice' },
  SpareActive: { type: 'io.mdmesh.array.spare-active', severity: 'notice' },
  MemberRemoved: { type: 'io.mdmesh.array.member-removed', severity: 'notice' },
  // Of every kind of copy, as mdadm's monitor has it: resync, recovery, check and repair.
  RebuildStarted: { type: 'io.mdmesh.array.rebuild-started', severity: 'notice' },
  Rebuild20: { type: 'io.mdmesh.array.rebuild-progress', severity: 'info' },
  Rebuild40: { type: 'io.mdmesh.array.rebuild-progress', severity: 'info' },
  Rebuild60: { type: 'io.mdmesh.array.rebuild-progress', severity: 'info' },
  Rebuild80: { type: 'io.mdmesh.array.rebuild-progress', severity: 'info' },
  RebuildFinished: { type: 'io.mdmesh.array.rebuild-finished', severity: 'notice' },
  MismatchesFound: { type: 'io.mdmesh.array.mismatches-found', severity: 'warning' },
  ParityInDoubt: { type: 'io.mdmesh.array.parity-in-doubt', severity: 'critical' },
  CopyHalted: { type: 'io.mdmesh.array.copy-halted', severity: 'warning' },
  CopyCalledOff: { type: 'io.mdmesh.array.copy-called-off', severity: 'warning' },
  CopyContinued: { type: 'io.mdmesh.array.copy-continued', severity: 'notice' },
  CopyOrdered: { type: 'io.mdmesh.array.copy-ordered', severity: 'info' },
  CopyChanged: { type: 'io.mdmesh.array.copy-changed', severity: 'info' },
  CopyCheckpoint: { type: 'io.mdmesh.array.copy-checkpoint', severity: 'info' },
  CopyEnded: { type: 'io.mdmesh.array.copy-ended', severity: 'info' },
  BitmapsRead: { type: 'io.mdmesh.array.bitmaps-read', severity: 'info' },
  BitmapsUnreadable: { type: 'io.mdmesh.array.bitmaps-unreadable', severity: 'warning' },
  BitmapsTaken: { type: 'io.mdmesh.array.bitmaps-taken', severity: 'info' },
  BitmapsMerged: { type: 'io.mdmesh.array.bitmaps-merged', severity: 'info' },
  BitmapUnavailable: { type: 'io.mdmesh.array.bitmap-unavailable', severity: 'warning' },
  PathLost: { type: 'io.mdmesh.array.path-lost', severity: 'warning' },
  PathRestored: { type: 'io.mdmesh.array.path-restored', severity: 'notice' },
  PathLossAgreed: { type: 'io.mdmesh.array.path-loss-agreed', severity: 'info' },
  NodeCannotSeeMember: { type: 'io.mdmesh.array.node-cannot-see-member', severity: 'warning' },
  ArrayAdopted: { type: 'io.mdmesh.array.adopted', severity: 'notice' },
  ArrayReleased: { type: 'io.mdmesh.array.released', severity: 'notice' },
  ArrayGrown: { type: 'io.mdmesh.array.grown', severity: 'notice' },
  BitmapChanged: { type: 'io.mdmesh.array.bitmap-changed', severity: 'notice' },
  BitmapKept: { type: 'io.mdmesh.array.bitmap-kept', severity: 'info' },
  ReplacementStarted: { type: 'io.mdmesh.array.replacement-started', severity: 'notice' },
  ReplacementEnded: { type: 'io.mdmesh.array.replacement-ended', severity: 'notice' },
  ArrayMoved: { type: 'io.mdmesh.array.moved', severity: 'notice' },
  TermStarted: { type: 'io.mdmesh.array.term-started', severity: 'info' },
  WriterAdmitted: { type: 'io.mdmesh.array.writer-admitted', severity: 'info' },
  WriterLeft: { type: 'io.mdmesh.array.writer-left', severity: 'info' },
  WriterEvicted: { type: 'io.mdmesh.array.writer-evicted', severity: 'warning' },
  WritesEnabled: { type: 'io.mdmesh.array.writes-enabled', severity: 'notice' },
  WritesDisabled: { type: 'io.mdmesh.array.writes-disabled', severity: 'notice' },
  WritesNotDropped: { type: 'io.mdmesh.array.writes-not-dropped', severity: 'critical' },
  SuspendStuck: { type: 'io.mdmesh.array.suspend-stuck', severity: 'critical' },
  LastMemberFaulty: { type: 'io.mdmesh.array.last-member-faulty', severity: 'critical' },
  CommitNotDurable: { type: 'io.mdmesh.array.commit-not-durable', severity: 'critical' },
  ArrayHeld: { type: 'io.mdmesh.array.held', severity: 'critical' },
  FaultSeen: { type: 'io.mdmesh.array.fault-seen', severity: 'warning' },
  ResyncEndSeen: { type: 'io.mdmesh.array.resync-end-seen', severity: 'info' },
  Requested: { type: 'io.mdmesh.cluster.requested', severity: 'info' },
  Voted: { type: 'io.mdmesh.cluster.voted', severity: 'info' },
  MasterElected: { type: 'io.mdmesh.cluster.master-elected', severity: 'notice' },
  QuorumDiskLost: { type: 'io.mdmesh.node.quorum-disk-lost', severity: 'warning' },
  ClocksApart: { type: 'io.mdmesh.node.clocks-apart', severity: 'warning' },
  QuorumDiskBack: { type: 'io.mdmesh.node.quorum-disk-back', severity: 'notice' },
  QuorumSet: { type: 'io.mdmesh.cluster.quorum-set', severity: 'notice' },
  MasterReleased: { type: 'io.mdmesh.cluster.master-released', severity: 'notice' },
  NodeJoined: { type: 'io.mdmesh.node.joined', severity: 'notice' },
  NodeSuspect: { type: 'io.mdmesh.node.suspect', severity: 'warning' },
  NodeDead: { type: 'io.mdmesh.node.dead', severity: 'critical' },
  NodeEvicted: { type: 'io.mdmesh.node.evicted', severity: 'critical' },
  NodeCleared: { type: 'io.mdmesh.node.cleared', severity: 'notice' },
  NodeFencing: { type: 'io.mdmesh.node.fencing', severity: 'warning' },
  NodeShutOut: { type: 'io.mdmesh.node.shut-out', severity: 'critical' },
  NodeTakenBack: { type: 'io.mdmesh.node.taken-back', severity: 'notice' },
  ReservationsRenewed: { type: 'io.mdmesh.node.reservations-renewed', severity: 'warning' },
  NodeConfirmedDead: { type: 'io.mdmesh.node.confirmed-dead', severity: 'warning' },
  VersionRefused: { type: 'io.mdmesh.node.version-refused', severity: 'warning' },
  NodeListProposed: { type: 'io.mdmesh.cluster.node-list-proposed', severity: 'info' },
  NodeListChanged: { type: 'io.mdmesh.cluster.node-list-changed', severity: 'notice' },
  NodeListDiffers: { type: 'io.mdmesh.cluster.node-list-differs', severity: 'warning' },
  DuplicateId: { type: 'io.mdmesh.node.duplicate-id', severity: 'critical' },
  MessageRefused: { type: 'io.mdmesh.node.message-refused', severity: 'warning' },
  JournalDamaged: { type: 'io.mdmesh.node.journal-damaged', severity: 'warning' },
  NodeLeft: { type: 'io.mdmesh.node.left', severity: 'notice' },
  JournalSigned: { type: 'io.mdmesh.node.journal-signed', severity: 'info' },
  JournalCosigned: { type: 'io.mdmesh.node.journal-cosigned', severity: 'info' },
  JournalBegunAnew: { type: 'io.mdmesh.node.journal-begun-anew', severity: 'warning' },
  JournalUnproved: { type: 'io.mdmesh.node.journal-unproved', severity: 'warning' },
  JournalRewritten: { type: 'io.mdmesh.node.journal-rewritten', severity: 'critical' },
  TestMessage: { type: 'io.mdmesh.cluster.test-message', severity: 'info' },
} as const satisfies Record<string, Entry>;

export type EventName = keyof typeof catalogue;

function tell(name: EventName, subject: string, text: string, member: string | null = null): Telling {
  return { name, ...catalogue[name], subject, text, member };
}

/** `NodeGone` about `node/3` → `io.mdmesh.node.gone`; the word that repeats the kind of subject is left out. */
function typeOf(name: string, subject: string): string {
  const kind = subject.startsWith('node/') ? 'node' : /^md[0-9]+$/.test(subject) ? 'array' : 'cluster';
  const words = name
    .replace(/([a-z0-9])([A-Z])/g, '$1-$2')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-');
  const short = words.startsWith(`${kind}-`) ? words.slice(kind.length + 1) : words;
  return `io.mdmesh.${kind}.${short}`;
}

function isCatalogueName(name: string): name is EventName {
  return Object.hasOwn(catalogue, name);
}

/** What one event is told as: the first is its principal name. Never empty. */
export function tellings(event: Event, names: Names = noNames): [Telling, ...Telling[]] {
  const body = event.body;
  switch (body.type) {
    case 'commit':
      return commitTellings(body, names);
    case 'observation':
      return [observationTelling(body.observation, names)];
    case 'request':
      return [requestTelling(body, names)];
    case 'vote':
      return [tell('Voted', names.cluster, `for node ${body.candidate} in term ${body.term}`)];
    case 'disk-lease':
      return [tell('QuorumSet', names.cluster, quorumText(body))];
    case 'lease-release': {
      const heir = body.to === null ? '' : ` to node ${body.to}`;
      return [tell('MasterReleased', names.cluster, `term ${body.term}${heir}`)];
    }
    case 'checkpoint':
      return [tell('JournalSigned', `node/${event.origin}`, `${sizeIn(body.note)} entries`)];
    case 'cosignature':
      return [
        tell('JournalCosigned', body.of.origin.replace(/^.*\/(node\/[0-9]+)\/.*$/, '$1'), `${body.of.size} entries`),
      ];
    case 'node-list': {
      const ids = (nodes: readonly { id: number }[]) => nodes.map(({ id }) => id).join(' ');
      const { list, before } = body;
      return [
        tell(
          'NodeListChanged',
          names.cluster,
          `${list.version.generation}: nodes ${ids(list.nodes)}, before ${ids(before.nodes)}`,
        ),
      ];
    }
    case 'leave':
      return [tell('NodeLeft', `node/${event.origin}`, body.reason)];
    case 'notice':
      return [noticeTelling(body, names)];
  }
}

function quorumText({ term, set }: Extract<EventBody, { type: 'disk-lease' }>): string {
  const former = set.former === null ? '' : `, before that ${set.former.join(', ')}`;
  return `term ${term} is held by disks: ${set.disks.join(', ')}${former}`;
}

/** A note that was verified when its event came in: origin, size, root. */
function sizeIn(note: string): string {
  return note.split('\n')[1] ?? '';
}

function noticeTelling({ name, severity, subject, detail }: NoticeBody, names: Names): Telling {
  const told = isCatalogueName(name)
    ? { name, ...catalogue[name], subject }
    : { name, type: typeOf(name, subject), severity, subject };
  // The one key of a notice that tools look for among the members.
  const member = typeof detail.member === 'string' ? detail.member : null;
  if (isCopyNotice(name)) return { ...told, text: copyText(detail, member, names), member };
  const text = Object.entries(detail)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ');
  return { ...told, text, member };
}

/** What the master tells of a copy has a detail of its own: kind, why, percent, by, mismatchSectors; and member, of SpareActive. */
function isCopyNotice(name: string): boolean {
  return /^Rebuild([0-9]+|Started|Finished)$|^Copy(Halted|Continued|CalledOff)$|^SpareActive$/.test(name);
}

function copyText(detail: NoticeBody['detail'], member: string | null, names: Names): string {
  const { kind, why, percent, by, mismatchSectors } = detail;
  const parts: string[] = [];
  if (typeof kind === 'string') parts.push(kind);
  if (typeof why === 'string') parts.push(`by ${why}`);
  if (typeof percent === 'number') parts.push(`${percent} %`);
  if (typeof by === 'number') parts.push(`by node ${by}`);
  if (typeof mismatchSectors === 'number') parts.push(`${mismatchSectors} sectors differed`);
  if (member !== null) parts.push(`member ${memberName(member, names)}`);
  return parts.join(', ');
}

type NoticeBody = Extract<EventBody, { type: 'notice' }>;
type CommitBody = Extract<EventBody, { type: 'commit' }>;

function commitTellings(body: CommitBody, names: Names): [Telling, ...Telling[]] {
  const { record, detail } = body;
  const md = record.md;
  const uuid = detail.member ?? null;
  const member = uuid === null ? '' : `member ${memberName(uuid, names)}`;
  const node = detail.node === undefined ? '' : `node ${detail.node}`;
  const { why } = detail;
  const kinds: Record<CommitKind, () => [Telling, ...Telling[]]> = {
    create: () => [tell('NewArray', md, arrayText(record)), ...degradedTelling(record)],
    // mdadm's monitor calls an array new whenever it appears, created or assembled.
    start: () => [tell('NewArray', md, arrayText(record)), ...degradedTelling(record)],
    adopt: () => [tell('ArrayAdopted', md, arrayText(record)), ...degradedTelling(record)],
    release: () => [tell('ArrayReleased', md, '')],
    stop: () => [tell('DeviceDisappeared', md, 'stopped')],
    fail: () => {
      // A faulty member keeps its slot in the record; one that had none was a spare.
      const failed = record.members.find((each) => each.uuid === uuid);
      if (failed !== undefined && failed.slot === null) return [tell('FailSpare', md, member, uuid)];
      return [tell('Fail', md, member, uuid), ...degradedTelling(record)];
    },
    remove: () => [tell('MemberRemoved', md, member, uuid)],
    add: () => [
      tell('SpareAdded', md, why === undefined ? member : `${member}; it is filled as a whole: ${why}`, uuid),
    ],
    // A node says WritesEnabled, and the master NodeEvicted, in notices of their own: these are the commits between.
    admit: () => [tell('WriterAdmitted', md, node)],
    leave: () => [tell('WriterLeft', md, node)],
    evict: () => [tell('WriterEvicted', md, node)],
    // The master says RebuildStarted, Rebuild20, …, RebuildFinished and SpareActive in notices of its own.
    'resync-start': () => [tell('CopyOrdered', md, resyncText(record), uuid)],
    'resync-done': () => [tell('CopyEnded', md, member, uuid)],
    'resync-checkpoint': () => [tell('CopyCheckpoint', md, resyncText(record))],
    'resync-marks': () => [tell('BitmapsMerged', md, marksText(record))],
    'resync-change': () => [tell('CopyChanged', md, resyncText(record), uuid)],
    // The master says PathLost and PathRestored in notices of its own.
    'path-lost': () => [tell('PathLossAgreed', md, `${node}, ${member}`, uuid)],
    'new-term': () => {
      const started = tell('TermStarted', md, `term ${record.version.term}${why === undefined ? '' : `; ${why}`}`);
      return uuid === null ? [started] : [started, tell('Fail', md, member, uuid), ...degradedTelling(record)];
    },
    blind: () => [tell('NodeCannotSeeMember', md, `${node}: ${member}`, uuid)],
    grow: () => [tell('ArrayGrown', md, `${record.raidDisks} disks, ${record.componentSectors} sectors of each`)],
    bitmap: () => [tell('BitmapChanged', md, bitmapText(record))],
    'bitmap-kept': () => [tell('BitmapKept', md, node)],
    replace: () => [tell('ReplacementStarted', md, member, uuid)],
    replaced: () => [tell('ReplacementEnded', md, `${member} is faulty`, uuid)],
    move: () => [tell('ArrayMoved', md, node !== '' || record.owner === null ? node : `to node ${record.owner}`)],
  };
  return kinds[body.kind]();
}

function observationTelling(
  observation: Extract<EventBody, { type: 'observation' }>['observation'],
  names: Names,
): Telling {
  const subject = names.array(observation.array) ?? observation.array;
  switch (observation.what) {
    case 'member-faulty':
      return tell('FaultSeen', subject, `member ${memberName(observation.member, names)}`, observation.member);
    case 'resync-done':
      return tell('ResyncEndSeen', subject, '');
    case 'marks-taken':
      return tell('BitmapsTaken', subject, observation.kept ? '' : 'no bitmap on this node: everything is copied');
  }
}

function requestTelling(body: Extract<EventBody, { type: 'request' }>, names: Names): Telling {
  const request = body.request;
  const words: string[] = [request.verb];
  if ('device' in request) words.push(request.device);
  if ('devices' in request) words.push(...request.devices);
  if ('action' in request) words.push(request.action);
  if ('with' in request && request.with !== null) words.push('with', request.with);
  if ('sizeKib' in request) words.push(request.sizeKib === null ? 'max' : formatSizeKib(request.sizeKib));
  if (request.verb === 'grow-bitmap') {
    words.push(request.bitmap, ...(request.chunkKib === undefined ? [] : [formatSizeKib(request.chunkKib)]));
  }
  if (request.verb === 'grow-nodes') words.push(String(request.nodes));
  if (request.verb === 'grow-devices') words.push(String(request.raidDisks));
  if ('limitKib' in request) words.push(request.limitKib === null ? 'none' : formatSizeKib(request.limitKib));
  if ('node' in request) return tell('Requested', `node/${request.node}`, words.join(' '));
  const array = 'md' in request ? request.md : request.array;
  const subject = array === null ? names.cluster : (names.array(array) ?? array);
  return tell('Requested', subject, words.join(' '));
}

function degradedTelling(record: ArrayRecord): Telling[] {
  if (record.level === 'linear' || record.level === 'raid0') return [];
  const active = record.members.filter((member) => member.role === 'active').length;
  if (active >= record.raidDisks) return [];
  return [tell('DegradedArray', record.md, `${active} of ${record.raidDisks} members active`)];
}

function arrayText(record: ArrayRecord): string {
  return `${record.level}, ${record.raidDisks} disks, ${record.access}`;
}

function resyncText(record: ArrayRecord): string {
  if (record.resync === null) return '';
  const { kind, by, fromSector, halted } = record.resync;
  return `${kind}${halted ? ' halted' : ''} by node ${by} from sector ${fromSector}`;
}

function bitmapText(record: ArrayRecord): string {
  const { bitmap } = record;
  const kept = bitmap === null ? 'none' : `${formatSizeKib(bitmap.chunkSectors / 2)} a bit`;
  return `${kept}, room for ${nodeSlotsOf(record)} nodes`;
}

function marksText({ resync }: ArrayRecord): string {
  const by = resync?.markedBy ?? null;
  return by === null ? 'everything is copied' : `what is left to copy is marked by node ${by.join(', ')}`;
}

function memberName(uuid: string, names: Names): string {
  const path = names.member(uuid);
  return path === null ? uuid : `${path.replace(/^\/dev\//, '')} (${uuid})`;
}
