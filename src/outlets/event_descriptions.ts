/**
 * What each event of the catalogue means: when it is told, what of the wire it comes from, and of a notice the fields of its
 * `detail`, with an example. docs/events.md is made of this; the agent itself does not load it.
 */
import { z } from 'zod';
import { CopyKind, NodeId, Uuid } from '../arrays/record.ts';
import type { CommitKind, EventBody, Observation } from '../wire/messages.ts';
import type { EventName } from './catalogue.ts';

type Origin =
  | { commit: CommitKind; also?: CommitKind }
  | { observation: Observation['what'] }
  | { body: Exclude<EventBody['type'], 'commit' | 'observation' | 'notice'> }
  | { notice: z.ZodObject; example: Record<string, string | number | boolean | null> };

export interface Description {
  when: string;
  from: Origin;
  /** Of another kind under the same name. */
  also?: Origin;
}

const member = 'dddddddd-0000-4000-8000-00000000000b';

/** @param example checked by its type */
function notice<S extends z.ZodRawShape>(
  shape: S,
  example: z.input<z.ZodObject<S>> & Record<string, string | number | boolean | null>,
) {
  return { notice: z.strictObject(shape), example };
}

const node = NodeId.describe('Node.');
const why = z.string().describe('Reason, for people.');
const quorumDisk = {
  node,
  disk: Uuid.describe('Its name in the quorum set.'),
  path: z.string().describe('That node’s device.'),
};
const copyShape = { kind: CopyKind.describe('What is copied for.'), by: NodeId.describe('The node that copies.') };
const copyOf = notice(copyShape, { kind: 'recovery', by: 1 });
const rebuilt = (percent: number): Description => ({
  when: `A copy has come to ${percent} %.`,
  from: notice({ ...copyShape, percent: z.int() }, { kind: 'recovery', percent, by: 1 }),
});
const memberStatus = notice({ node, was: z.string().describe('Its status before.') }, { node: 3, was: 'alive' });

export const DESCRIPTIONS = {
  NewArray: { when: 'An array was created or assembled.', from: { commit: 'create', also: 'start' } },
  DegradedArray: {
    when: 'Behind NewArray or Fail, when fewer members are active than the array has slots.',
    from: { commit: 'fail' },
  },
  DeviceDisappeared: { when: 'An array was stopped on all nodes.', from: { commit: 'stop' } },
  Fail: {
    when: 'A member that held data is faulty, for the whole cluster. As a new master takes the array over: one that had missed several commits; TermStarted says why.',
    from: { commit: 'fail' },
  },
  FailSpare: { when: 'A spare is faulty.', from: { commit: 'fail' } },
  SpareAdded: {
    when: 'A disk was added to an array. Of one that was a member before: why it is filled as a whole, if it is.',
    from: { commit: 'add' },
  },
  SpareActive: {
    when: 'A rebuilt member is whole: it is read from now on.',
    from: notice({ member: Uuid.describe('The member.') }, { member }),
  },
  MemberRemoved: { when: 'A disk was taken out of an array.', from: { commit: 'remove' } },
  RebuildStarted: { when: 'A copy begins: resync, recovery, check or repair.', from: copyOf },
  Rebuild20: rebuilt(20),
  Rebuild40: rebuilt(40),
  Rebuild60: rebuilt(60),
  Rebuild80: rebuilt(80),
  RebuildFinished: {
    when: 'A copy has ended.',
    from: notice(
      {
        by: copyShape.by,
        mismatchSectors: z.int().optional().describe('Of a check or repair: where copies differed.'),
      },
      { by: 1, mismatchSectors: 0 },
    ),
  },
  MismatchesFound: {
    when: 'A check or repair found that copies differ.',
    from: notice({ mismatchSectors: z.int().describe('Where they did.') }, { mismatchSectors: 128 }),
  },
  ParityInDoubt: {
    when: 'A node crashed as it wrote to a parity array that lacked a member, or a member failed before the resync after a crash had ended: blocks of that member may read as something that nobody wrote, as in any degraded raid4, raid5 or raid6 (the "write hole", which md calls dirty degraded). No node begins to read or write it until an operator lets it go on as it is: `mdmesh assemble --force md0` (one that writes already goes on). Then check what is on it (fsck, a database’s own check), or go back to a backup.',
    from: notice(
      {
        node: NodeId.optional().describe('Which crashed; left out: a member failed in the resync after that.'),
        missing: z.int().describe('Members.'),
      },
      { node: 2, missing: 1 },
    ),
  },
  CopyHalted: { when: 'An operator halted a copy (`mdmesh action md0 frozen`).', from: copyOf },
  CopyCalledOff: {
    when: 'A copy ended before its end: what another commit says must be done first, or leaves nothing to copy. Of a check nothing is counted; it begins anew when it is due.',
    from: notice(
      { kind: copyShape.kind, why: z.string().describe('The kind of that commit.') },
      { kind: 'check', why: 'evict' },
    ),
  },
  CopyContinued: { when: 'A halted copy goes on.', from: copyOf },
  CopyOrdered: { when: 'The commit that asks a node to copy.', from: { commit: 'resync-start' } },
  CopyChanged: {
    when: 'The commit that halts a copy, lets it go on, or gives it another speed.',
    from: { commit: 'resync-change' },
  },
  CopyCheckpoint: {
    when: 'The commit that says how far a copy is; another node could go on from there.',
    from: { commit: 'resync-checkpoint' },
  },
  CopyEnded: { when: 'The commit that ends a copy.', from: { commit: 'resync-done' } },
  BitmapsRead: {
    when: 'What dead nodes had marked in their bitmaps was read off the members.',
    from: notice(
      { nodes: z.string().describe('Their IDs.'), sectors: z.int().describe('To be copied.') },
      { nodes: '3', sectors: 2048 },
    ),
  },
  BitmapsUnreadable: {
    when: 'A dead node’s bitmap could not be read: everything is copied.',
    from: notice({ nodes: z.string().describe('Their IDs.'), why }, { nodes: '3', why: 'EIO' }),
  },
  BitmapsTaken: {
    when: 'The node that copies has taken over the marks of dead ones.',
    from: { observation: 'marks-taken' },
  },
  BitmapsMerged: { when: 'The commit behind that.', from: { commit: 'resync-marks' } },
  BitmapUnavailable: {
    when: 'A node’s md keeps no bitmap of an array that has them: its death would mean a full resync.',
    from: notice({ node }, { node: 2 }),
  },
  PathLost: {
    when: 'A node has lost its path to a member; its I/O to it waits.',
    from: notice({ node, member: Uuid.describe('The member.') }, { node: 2, member }),
  },
  PathRestored: {
    when: 'That path is back.',
    from: notice({ node, member: Uuid.describe('The member.') }, { node: 2, member }),
  },
  PathLossAgreed: { when: 'The commit that says so.', from: { commit: 'path-lost' } },
  NodeCannotSeeMember: {
    when: 'A node that does not see a disk was left out with --allow-missing: it neither reads nor writes.',
    from: notice({ node, member: z.string().describe('The disk.') }, { node: 3, member: '/dev/sdd' }),
    also: { commit: 'blind' },
  },
  ArrayAdopted: { when: 'An array of mdadm’s became the cluster’s.', from: { commit: 'adopt' } },
  ArrayReleased: { when: 'An array was given back to mdadm.', from: { commit: 'release' } },
  ArrayGrown: { when: 'An array has other devices or another size.', from: { commit: 'grow' } },
  BitmapChanged: {
    when: 'The nodes’ bitmaps are laid anew, elsewhere or otherwise, or taken away.',
    from: { commit: 'bitmap' },
  },
  BitmapKept: {
    when: 'A writer has laid its own: its death is followed by a resync of what it had marked.',
    from: { commit: 'bitmap-kept' },
  },
  ReplacementStarted: { when: 'A spare is being filled to take a member’s place.', from: { commit: 'replace' } },
  ReplacementEnded: { when: 'It has taken it.', from: { commit: 'replaced' } },
  ArrayMoved: { when: 'An exclusive array has another owner.', from: { commit: 'move' } },
  TermStarted: { when: 'A new master has taken the array over.', from: { commit: 'new-term' } },
  WriterAdmitted: { when: 'The commit that lets a node write.', from: { commit: 'admit' } },
  WriterLeft: { when: 'The commit that says that a node has stopped writing.', from: { commit: 'leave' } },
  WriterEvicted: {
    when: 'The commit that takes a node off the writers after it was fenced.',
    from: { commit: 'evict' },
  },
  WritesEnabled: {
    when: 'Writes pass on a node.',
    from: notice({ node, term: z.int().describe('Of its grant.') }, { node: 2, term: 3 }),
  },
  WritesDisabled: {
    when: 'Writes are held on a node.',
    from: notice({ node, term: z.int().describe('Of its grant.') }, { node: 2, term: 3 }),
  },
  WritesNotDropped: {
    when: 'A node’s grant is over, and md did not let it hold the array: it must be fenced or reset.',
    from: notice({ code: z.string().describe('errno name.') }, { code: 'ETIMEDOUT' }),
  },
  SuspendStuck: {
    when: 'What this node has on its way on an array ends neither way, as when holding its writes did not return, or its disks refuse them: others must not wait for it, so the agent ends, and the node must be fenced or reset.',
    from: notice({ node, why }, { node: 2, why: 'suspend did not return within 5 s' }),
  },
  LastMemberFaulty: {
    when: 'A node’s md has given up its last member: that is not committed, and what is written waits.',
    from: notice({ member: Uuid.describe('The member.'), node }, { member, node: 2 }),
  },
  CommitNotDurable: {
    when: 'The master could not write a commit onto the members; nothing has changed.',
    from: notice({ why }, { why: 'member /dev/sdb: EIO' }),
  },
  ArrayHeld: {
    when: 'A new master cannot prove what the newest record of an array is, and does not let it be written.',
    from: notice({ why }, { why: 'too few members are readable' }),
  },
  FaultSeen: {
    when: 'A node’s md has marked a member faulty; its writes wait for the commit.',
    from: { observation: 'member-faulty' },
  },
  ResyncEndSeen: { when: 'A node’s md has ended its copy.', from: { observation: 'resync-done' } },
  Requested: { when: 'Somebody asked for something, on the node that it comes from.', from: { body: 'request' } },
  Voted: { when: 'A node voted.', from: { body: 'vote' } },
  MasterElected: {
    when: 'A node has the votes of a majority.',
    from: notice(
      {
        node,
        term: z.int().describe('Of its mastership.'),
        shutOut: z
          .string()
          .optional()
          .describe('Nodes whose leases may not be over yet: the disks take no writes of theirs.'),
      },
      { node: 1, term: 4 },
    ),
  },
  QuorumSet: {
    when: 'Disks decide, and a node has won them, or set another set of them.',
    from: { body: 'disk-lease' },
  },
  QuorumDiskLost: {
    when: 'A node cannot read or write its block on a quorum disk.',
    from: notice({ ...quorumDisk, why }, { node: 2, disk: member, path: '/dev/sdb', why: 'EIO' }),
  },
  ClocksApart: {
    when: 'A node’s clock runs at another rate than that of the node that says so, by a hundredth or more; critical from a fifth on, for safety rests on clocks within a half of each other. Told again when the severity changes; at a notice they agree again.',
    from: notice(
      { node, percent: z.number().describe('How much faster its clock runs, in percent; negative: slower.') },
      { node: 3, percent: 1.4 },
    ),
  },
  QuorumDiskBack: {
    when: 'A quorum disk answers a node again.',
    from: notice(quorumDisk, { node: 2, disk: member, path: '/dev/sdb' }),
  },
  MasterReleased: {
    when: 'A node is no longer master: it gave the lease up, or lost it.',
    from: notice({ node, term: z.int().describe('Of its mastership.'), why }, { node: 1, term: 4, why: 'expired' }),
    also: { body: 'lease-release' },
  },
  NodeJoined: { when: 'A node seems alive, to the node that says so.', from: memberStatus },
  NodeSuspect: { when: 'A node does not answer.', from: memberStatus },
  NodeDead: { when: 'A node has not answered for too long.', from: memberStatus },
  NodeEvicted: {
    when: 'A node was fenced: others go on without it.',
    from: notice({ node, why }, { node: 3, why: 'command: exit 0' }),
  },
  NodeCleared: {
    when: 'A suspected node has answered.',
    from: notice({ node, was: z.string() }, { node: 3, was: 'suspect' }),
  },
  NodeFencing: {
    when: 'The master begins to make sure that a silent node has stopped.',
    from: notice({ node, term: z.int().describe('The master’s.') }, { node: 3, term: 4 }),
  },
  NodeShutOut: {
    when: 'A node has found its reservation keys taken off members: it was fenced by its disks. It holds its arrays.',
    from: notice(
      { node, members: z.string().describe('Their UUIDs.'), why },
      { node: 3, members: 'd0000000-0000-4000-8000-000000000001', why: 'its reservation keys were taken off' },
    ),
  },
  NodeTakenBack: {
    when: 'A node that was shut out has its keys on the members again.',
    from: notice({ node }, { node: 3 }),
  },
  ReservationsRenewed: {
    when: 'A disk had forgotten this node’s reservation key, after a loss of power or a reset; it was put back.',
    from: notice(
      { node, members: z.string().describe('Their UUIDs.') },
      { node: 2, members: 'd0000000-0000-4000-8000-000000000001' },
    ),
  },
  NodeConfirmedDead: {
    when: 'An operator confirmed that a node has stopped.',
    from: notice({ node, by: NodeId.describe('Where he said so.') }, { node: 3, by: 1 }),
  },
  VersionRefused: {
    when: 'A node runs a version too far from this one’s: nothing is said to it.',
    from: notice(
      { node, why },
      { node: 3, why: 'node 3 runs mdmesh 0.1.0 (protocol 1), node 1 runs mdmesh 0.3.0 (protocol 2 to 3): …' },
    ),
  },
  NodeListProposed: {
    when: 'The master proposes another node list, which all living nodes ask for.',
    from: notice(
      {
        generation: z.int().describe('Of the list.'),
        nodes: z.string().describe('Its nodes.'),
        digest: z.string().describe('Of its contents.'),
      },
      { generation: 2, nodes: '1 2 3 4', digest: '0f3c' },
    ),
  },
  NodeListChanged: { when: 'Another node list counts from now on.', from: { body: 'node-list' } },
  NodeListDiffers: {
    when: 'The others go by a newer node list, which is not in the file of the node that says so.',
    from: notice({ why }, { why: 'node 1 goes by a newer list, of nodes 1 2 3 4: put it into the file here' }),
  },
  DuplicateId: {
    when: 'Two agents run under one node ID. Both end.',
    from: notice(
      { boots: z.string().describe('Their starts.') },
      { boots: 'b0b0b0b0-0000-4000-8000-000000000002 b0b0b0b0-0000-4000-8000-000000000003' },
    ),
  },
  MessageRefused: {
    when: 'Something that came in was refused: forged, malformed, of a stranger. Told once a second at most, and not passed on.',
    from: notice(
      {
        reason: why,
        peer: z.string().nullable().describe('Peer ID of who sent it.'),
        total: z.int().describe('Since the start.'),
      },
      { reason: 'bad-signature', peer: null, total: 1 },
    ),
  },
  JournalDamaged: {
    when: 'An agent that started found its journal torn, broken or not understood.',
    from: notice(
      { what: z.enum(['torn', 'broken', 'not-understood']), text: why },
      { what: 'torn', text: 'line 7 was cut off by a crash' },
    ),
  },
  NodeLeft: {
    when: 'A node says goodbye, or another says that it has left.',
    from: { body: 'leave' },
    also: memberStatus,
  },
  JournalSigned: { when: 'A node has signed what its journal holds.', from: { body: 'checkpoint' } },
  JournalCosigned: { when: 'Another node has checked that, and signed it too.', from: { body: 'cosignature' } },
  JournalBegunAnew: {
    when: 'A node’s journal is another one than before.',
    from: notice(
      {
        node,
        was: z.string().describe('Log before.'),
        entries: z.int().describe('That it had.'),
        is: z.string().describe('Log now.'),
      },
      { node: 3, was: 'mdmesh/demo/node/3/aa', entries: 512, is: 'mdmesh/demo/node/3/bb' },
    ),
  },
  JournalUnproved: {
    when: 'A node’s checkpoint came without a proof that it follows from the one before.',
    from: notice(
      { node, from: z.int().describe('Entries before.'), to: z.int().describe('Entries now.') },
      { node: 3, from: 256, to: 512 },
    ),
  },
  JournalRewritten: {
    when: 'A node has changed what its journal held. `before` and `now`, both with its signature, prove it.',
    from: notice(
      { node, why, before: z.string().describe('Its note before.'), now: z.string().describe('Its note now.') },
      {
        node: 3,
        why: 'another root for 256 entries',
        before: 'mdmesh/demo/node/3/aa\n256\n…',
        now: 'mdmesh/demo/node/3/aa\n256\n…',
      },
    ),
  },
  TestMessage: {
    when: '`mdmesh monitor --test`: told to its programs and mails alone, one for each array; no node has it in its journal.',
    from: notice({}, {}),
  },
} as const satisfies Record<EventName, Description>;
