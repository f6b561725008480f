/**
 * What operators ask the master for, as far as disks must be found and checked before the arrays core can commit it.
 *
 * A disk is named differently on each node, and a new one has no superblock to know it by. So the asking node sends size
 * and content digest; the master finds the disk with the same content among its own, writes the superblocks, and every
 * node is asked whether it sees them — the asking node at the very paths that were typed. If not, the disks get
 * back what they carried and the request is refused with the name of the node that does not see the disk.
 */
import { doubtText, inTheMiddle, leadsNoMore } from '../arrays/commit_words.ts';
import { activeMembers, isRedundant, isWritten, mayTouch, nodeSlotsOf } from '../arrays/levels.ts';
import { lacksOnlyMarked } from '../arrays/missed.ts';
import {
  type ArrayRecord,
  type BitmapPlace,
  compareVersions,
  isNew,
  type MemberRecord,
  type NodeId,
  wholeCopy,
} from '../arrays/record.ts';
import { copySectors } from '../arrays/windows.ts';
import { textOf } from '../error_text.ts';
import type { Disk, MeshGeometry, MetadataWrite, Superblock } from '../md/driver.ts';
import { bitmapFits, bitmapPlace, bitmapPlaceOf, meshGeometry } from '../md/mesh_area.ts';
import {
  componentSectorsFor,
  dataOffsetSectorsFor,
  defaultChunkSectors,
  defaultLayout,
  recordBeforeCommit,
  recordFromSuperblocks,
  superblocksFor,
  withoutSuperblock,
  writesFor,
} from '../md/metadata.ts';
import { adoptable, FEATURE_MESH_OWNED, SUPERBLOCK_BYTES, SUPERBLOCK_SECTOR } from '../md/superblock.ts';
import type { ArrayMessage, Request, ResolvedDevice } from '../wire/messages.ts';
import type { Agent } from './agent.ts';
import { findArray } from './resolve_devices.ts';

const ANSWER_MS = 5000;
/** Reads past the page cache come in these. */
const BLOCK_BYTES = 4096;

type Look = Extract<ArrayMessage, { kind: 'sees-query' }>;
type Looked = Extract<ArrayMessage, { kind: 'sees-answer' }>;

export interface Procedures {
  handle(from: NodeId, requestId: string, request: Request, devices: readonly ResolvedDevice[]): void;
  look(from: NodeId, query: Look): void;
  looked(from: NodeId, answer: Looked): void;
  /** An array that stands on the disks, and may be taken off them again by this master, in this term: nothing to be taken over as yet. */
  isBeingMade(array: string): boolean;
}

/** For a new master to take over what it finds: a scan of the disks and a commit, and reports to come where members are missing. */
const TAKE_OVER_MS = 5000;
/** Two writes to a majority of the quorum disks. */
const LEAVE_QUORUM_MS = 5000;

/**
 * A request, and the term in which this master took it up. It takes seconds, in which the lease can end and come back, and another master
 * can have made something else of the same disks: what is left to do of it is nothing then.
 */
interface Work {
  asker: NodeId;
  requestId: string;
  term: number;
}

/** Ends a procedure with words for the one who asked. */
class Refusal extends Error {}

/** Nothing was begun yet. */
class TooEarly extends Refusal {}

const leastDisks: Record<ArrayRecord['level'], number> = {
  linear: 1,
  raid0: 1,
  raid1: 1,
  raid10: 2,
  raid4: 3,
  raid5: 3,
  raid6: 4,
};

/**
 * A disk that was removed while the cluster owned the array keeps the superblock of that day. Beside members that mdadm has
 * gone on with, it is no member any more.
 */
function withoutLeftovers(disks: readonly Disk[]): Disk[] {
  const plain = disks.filter((disk) => ((disk.superblock?.featureMap ?? 0) & FEATURE_MESH_OWNED) === 0);
  const newest = Math.max(...plain.map((disk) => disk.superblock?.events ?? 0));
  return disks.filter((disk) => plain.includes(disk) || (disk.superblock?.events ?? 0) >= newest);
}

/** Of every member that is in use or may be. @throws Refusal when one has no room for a mesh area */
function geometriesOf(
  record: ArrayRecord,
  existing: ReadonlyMap<string, Superblock> = new Map(),
  paths: ReadonlyMap<string, string> = new Map(),
): MeshGeometry[] {
  const faulty = record.members.filter(({ role }) => role === 'faulty').map(({ uuid }) => uuid);
  const superblocks = [...superblocksFor(record, true, existing)].filter(([uuid]) => !faulty.includes(uuid));
  return superblocks.map(([memberUuid, sb]) => {
    const geometry = meshGeometry(sb, nodeSlotsOf(record));
    if ('error' in geometry) throw new Refusal(`${paths.get(memberUuid) ?? memberUuid}: ${geometry.error}`);
    return geometry;
  });
}

/** Where the nodes of a new array keep their bitmaps. null: there is nothing to resync, or no room. */
function bitmapFor(record: ArrayRecord): ArrayRecord['bitmap'] {
  return isRedundant(record.level) ? bitmapPlace(geometriesOf(record), copySectors(record, 'resync')) : null;
}

/** Of the member of which this disk has the data: it may have been added since, and taken out again before it was rebuilt. */
function formerUuid({ superblock, mesh }: Disk): string {
  const uuid = superblock?.deviceUuid ?? '';
  return mesh?.record.members.find((member) => member.uuid === uuid)?.was ?? uuid;
}

/**
 * Why this disk, once a member of the array, has to be filled as a whole, in words; null: it lacks only what is marked.
 * The record says which members left with what they lacked marked. What the disk says of itself guards against one that was
 * set back to an older state since (a snapshot of the storage): a member has all commits but the one by which it left.
 */
function whyWhole(record: ArrayRecord, disk: Disk, clusterUuid: string): string | null {
  const marked = lacksOnlyMarked(record, { uuid: formerUuid(disk) }, null);
  if (typeof marked === 'string') return marked;
  if (disk.mesh === null || disk.mesh.clusterUuid !== clusterUuid || disk.mesh.record.uuid !== record.uuid)
    return 'the record of the array that it carried cannot be read';
  const { index } = disk.mesh.record.version;
  const least = (record.missed?.since ?? 0) - 1;
  if (index < least)
    return `it carries commit ${index}, and would have commit ${least} if it was not older than it should be`;
  return null;
}

/** Levels whose data is right although several nodes write at once: every write goes to whole copies, none to shared parity. */
function mayBeShared(level: ArrayRecord['level'], layout: number): boolean {
  return level === 'raid1' || (level === 'raid10' && layout >> 8 === 1);
}

export function procedures(agent: Agent): Procedures {
  const { driver, config, timers, uuid: newUuid } = agent.parts;
  const looks = new Map<string, { from: NodeId; answer: Looked }[]>();

  /** A new master knows of no array before it has read the disks, and has made its own what it found there. */
  async function takenOver(request: Request): Promise<void> {
    if (request.verb === 'confirm-dead') return;
    const rests = (): boolean => {
      const others = agent.notTakenOver();
      if (others === null || !('array' in request)) return others === null;
      const { array } = request;
      return others.some(({ record }) => array === null || findArray([record], array) !== null);
    };
    await agent.until(() => !agent.leading || !rests(), TAKE_OVER_MS);
    if (agent.notTakenOver() === null)
      throw new TooEarly(`node ${agent.self} has only just become the master, and is reading the disks; ask again`);
  }

  /**
   * Of arrays that the cluster has, whether or not they are known well enough to be changed.
   * @param again what was being made, and stands on some of its disks only, is to be made again
   */
  function present(again = false): ArrayRecord[] {
    const found = (agent.notTakenOver() ?? []).filter((each) => !again || each.why === null || !isNew(each.record));
    return [...agent.records(), ...found.map(({ record }) => record)];
  }

  /**
   * An older record may stand on all members of a newer one: a disk that took long over a write has put it there. Where the newer one is
   * known, an operator says that it counts, and not what a backup, say, has brought back.
   * @returns what the array goes on from; null: nothing of the kind is in its way
   */
  async function knownAgain(work: Work, word: string): Promise<ArrayRecord | null> {
    const held = (): ArrayRecord | undefined =>
      agent.notTakenOver()?.find(({ record, why }) => why !== null && findArray([record], word) !== null)?.record;
    const found = held();
    const known = found === undefined ? null : agent.newestKnown(found.uuid);
    if (found === undefined || known === null || known.givenBack === true) return null;
    if (compareVersions(known.version, found.version) <= 0) return null;
    await agent.rescan();
    const unseen = activeMembers(known).find(({ uuid }) => !agent.disks.paths.has(uuid));
    if (unseen !== undefined) {
      const { term, index } = known.version;
      throw new Refusal(
        `${known.md}: member ${unseen.uuid} of commit ${term}.${index} is not seen on the master (node ${agent.self}); bring it back: it may have that commit`,
      );
    }
    mustBeCurrent(work);
    agent.putBack(known);
    await agent.until(() => !agent.leading || held() === undefined, TAKE_OVER_MS);
    return known;
  }

  function arrayOf(word: string): ArrayRecord {
    const found = agent.notTakenOver()?.find((other) => findArray([other.record], word) !== null);
    if (found !== undefined)
      throw new Refusal(found.why ?? `node ${agent.self} has not made ${found.record.md} its own yet; ask again`);
    const record = findArray(agent.records(), word);
    if (record !== null) return record;
    const known = agent.records().map((candidate) => candidate.md);
    throw new Refusal(`no array ${word} in this cluster (it has: ${known.join(', ') || 'none'})`);
  }

  function connectedNodes(): NodeId[] {
    return [agent.self, ...agent.parts.net.connected()];
  }

  /** @throws Refusal when the work's term is over */
  function mustBeCurrent({ term }: Work): void {
    if (agent.leadsInTerm !== term) throw new Refusal(inTheMiddle(agent.self));
  }

  /** What the arrays core commits, and answers the asker by. */
  function ask(work: Work, array: string, change: Parameters<Agent['ask']>[1]): void {
    mustBeCurrent(work);
    agent.ask(array, change, work.requestId);
  }

  async function write(work: Work, writes: MetadataWrite[]): Promise<void> {
    mustBeCurrent(work);
    const results = await agent.writeMetadata(writes);
    for (const { path, error } of results) if (error !== null) throw new Refusal(`${path}: ${error.text}`);
  }

  /** What stands where these writes will go. */
  function underneath(writes: readonly MetadataWrite[]): Promise<MetadataWrite[]> {
    return Promise.all(
      writes.map(async ({ path, offsetBytes, bytes }) => {
        const from = offsetBytes - (offsetBytes % BLOCK_BYTES);
        const to = Math.ceil((offsetBytes + bytes.length) / BLOCK_BYTES) * BLOCK_BYTES;
        return { path, offsetBytes: from, bytes: await driver.readMetadata(path, from, to - from) };
      }),
    );
  }

  /** The same disk here as the one that was resolved on the asking node, by content. */
  async function match(device: ResolvedDevice, taken: ReadonlySet<string>, disks: readonly Disk[]): Promise<Disk> {
    const fitting = disks
      .filter((disk) => disk.sizeSectors === device.sizeSectors && !taken.has(disk.path))
      .sort((a, b) => Number(b.path === device.path) - Number(a.path === device.path));
    const same: Disk[] = [];
    for (const disk of fitting) {
      const { digest } = await driver.fingerprint(disk.path);
      if (digest !== device.digest) continue;
      // Blank disks of one size look alike; the path decides, and every node is asked afterwards what it sees.
      if (disk.path === device.path || !device.blank) return disk;
      same.push(disk);
    }
    const [only] = same;
    if (only !== undefined && same.length === 1) return only;
    const why = same.length === 0 ? 'no disk with that size and content is seen by' : 'several blank disks fit it on';
    throw new Refusal(`${device.path}: ${why} the master (node ${agent.self}); check the paths to the shared storage`);
  }

  /** @param uuid of the superblock on it */
  function isNoMember({ path }: ResolvedDevice, uuid: string | null, again: boolean): void {
    const record = present(again).find(({ members }) => members.some((member) => member.uuid === uuid));
    if (record !== undefined) throw new Refusal(`${path} is a member of ${record.md}; remove it there first`);
  }

  function mayTake(disk: Disk, device: ResolvedDevice, force: boolean): void {
    if (disk.holders.length > 0)
      throw new Refusal(`${disk.path} on node ${agent.self} is in use by ${disk.holders.join(', ')}`);
    isNoMember(device, disk.superblock?.deviceUuid ?? null, force);
    if (force) return;
    if (disk.superblock !== null) {
      throw new Refusal(
        `${device.path} carries a superblock of array ${disk.superblock.setName} (${disk.superblock.setUuid}); use --force to overwrite it`,
      );
    }
    if (!device.blank)
      throw new Refusal(`${device.path} is not blank; wipe it (wipefs -a) or use --force to overwrite it`);
  }

  /** Has every connected node look for these members. `asker`: whose own paths these are; null: nobody's. */
  async function allLook(asker: NodeId | null, members: ReadonlyMap<string, string>): Promise<Map<NodeId, Looked>> {
    const queryId = newUuid();
    const nodes = connectedNodes();
    const answers: { from: NodeId; answer: Looked }[] = [];
    looks.set(queryId, answers);
    for (const node of nodes) {
      const asked = [...members].map(([uuid, path]) => ({ uuid, path: node === asker ? path : null }));
      agent.toNode(node, { kind: 'sees-query', queryId, members: asked });
    }
    const end = agent.now() + ANSWER_MS;
    while (answers.length < nodes.length && agent.now() < end) {
      await new Promise<void>((resolve) => {
        timers.after(10, resolve);
      });
    }
    looks.delete(queryId);
    const looked = new Map<NodeId, Looked>();
    for (const node of nodes) {
      const answer = answers.find((candidate) => candidate.from === node)?.answer;
      if (answer === undefined) throw new Refusal(`node ${node} did not say whether it sees the disks`);
      const [wrong] = answer.wrong;
      if (wrong !== undefined) throw new Refusal(`node ${node}: ${wrong}`);
      looked.set(node, answer);
    }
    return looked;
  }

  /** @throws Refusal that names the node which does not */
  async function allSee(
    asker: NodeId | null,
    members: ReadonlyMap<string, string>,
    allowMissing = false,
  ): Promise<Map<NodeId, Looked>> {
    const looked = await allLook(asker, members);
    for (const [node, { seen }] of looked) {
      const missing = [...members].filter(([uuid]) => seen.every((each) => each.uuid !== uuid)).map(([, path]) => path);
      if (missing.length > 0 && !allowMissing) {
        throw new Refusal(
          `node ${node} does not see the disk that is ${missing.join(', ')} on node ${asker ?? agent.self}; check its path to the storage${asker === null ? '' : ', or leave the node out with --allow-missing'}`,
        );
      }
    }
    return looked;
  }

  function ownerFor(access: ArrayRecord['access'], owner: NodeId | undefined): NodeId | null {
    if (access === 'shared') {
      if (owner !== undefined)
        throw new Refusal('a shared array has no owner; leave --owner out or use --access exclusive');
      return null;
    }
    if (owner !== undefined && !agent.parts.config.nodes.some((node) => node.id === owner))
      throw new Refusal(`no node ${owner} in the list`);
    return owner ?? agent.self;
  }

  function checkAccess(access: ArrayRecord['access'], level: ArrayRecord['level'], layout: number): void {
    if (access === 'exclusive' || mayBeShared(level, layout)) return;
    throw new Refusal(`${level} cannot be written by several nodes at once; use --access exclusive`);
  }

  async function create(
    work: Work,
    request: Extract<Request, { verb: 'create' }>,
    devices: readonly ResolvedDevice[],
  ): Promise<void> {
    const md = request.md.replace(/^\/dev\//, '');
    if (!/^md[0-9]{1,4}$/.test(md))
      throw new Refusal(`${request.md} is not the name of an md device; use md0 … md9999`);
    if (present(request.force).some((record) => record.md === md))
      throw new Refusal(`${md} exists in this cluster already`);
    const { level, raidDisks } = request;
    const layout = request.layout ?? defaultLayout(level);
    checkAccess(request.access, level, layout);
    const owner = ownerFor(request.access, request.owner);
    if (raidDisks < leastDisks[level])
      throw new Refusal(`${level} needs at least ${leastDisks[level]} devices, ${raidDisks} given`);
    if (devices.length !== raidDisks + request.spares) {
      throw new Refusal(
        `${raidDisks} devices and ${request.spares} spares were asked for, but ${devices.length} given`,
      );
    }
    const disks = await agent.rescan();
    const taken = new Set<string>();
    const found: { disk: Disk; device: ResolvedDevice }[] = [];
    for (const device of devices) {
      // A commit may have changed a member's content since the asking node looked at it: it is told by its superblock first.
      isNoMember(device, device.memberUuid, request.force);
      const disk = await match(device, taken, disks);
      mayTake(disk, device, request.force);
      taken.add(disk.path);
      found.push({ disk, device });
    }
    const members: MemberRecord[] = found.map(({ disk }, index) => {
      const dataOffsetSectors = dataOffsetSectorsFor(disk.sizeSectors);
      return {
        uuid: newUuid(),
        devNumber: index,
        role: index < raidDisks ? ('active' as const) : ('spare' as const),
        slot: index < raidDisks ? index : null,
        dataOffsetSectors,
        dataSizeSectors: disk.sizeSectors - dataOffsetSectors,
        ...(request.allowMissing === true && index >= raidDisks ? { allowMissing: true as const } : {}),
      };
    });
    const chunkSectors = request.chunkKib === undefined ? defaultChunkSectors(level) : request.chunkKib * 2;
    const smallest = Math.min(...members.map((member) => member.dataSizeSectors));
    const componentSectors = componentSectorsFor(level, chunkSectors, smallest);
    if (smallest <= 0 || (isRedundant(level) && componentSectors <= 0))
      throw new Refusal(`the smallest disk leaves ${smallest} sectors for data, which is too few`);
    const seconds = Math.floor(timers.wall().getTime() / 1000);
    const record: ArrayRecord = {
      uuid: newUuid(),
      name: request.name ?? `${config.cluster.name}:${md.slice(2)}`,
      md,
      level,
      layout,
      chunkSectors,
      raidDisks,
      componentSectors,
      ctimeSeconds: seconds,
      access: request.access,
      owner,
      run: 'started',
      writers: [],
      writerBoots: [],
      resync: isRedundant(level) && !request.assumeClean ? wholeCopy('resync', owner ?? agent.self, 0) : null,
      syncLimitKib: null,
      bitmap: null,
      lastCheck: null,
      events: 1,
      utimeSeconds: seconds,
      members,
      version: { term: work.term, index: 0 },
    };
    const paths = new Map(found.map(({ disk }, index) => [members[index]?.uuid ?? '', disk.path]));
    const typed = new Map(found.map(({ device }, index) => [members[index]?.uuid ?? '', device.path]));
    const whole: ArrayRecord = { ...record, bitmap: request.bitmap === 'internal' ? bitmapFor(record) : null };
    await making(work, record.uuid, async () => {
      const blind = await layDown(work, whole, paths, typed, request.allowMissing === true);
      ask(work, record.uuid, { what: 'introduce', kind: 'create', record: whole });
      if (blind.length > 0) agent.ask(record.uuid, { what: 'blind', nodes: blind }, null);
    });
  }

  /** Arrays that requests are laying down, until they are introduced, each with the term in which. */
  const beingMade = new Map<string, number>();

  async function making({ term }: Work, array: string, make: () => Promise<void>): Promise<void> {
    beingMade.set(array, term);
    try {
      await make();
    } finally {
      beingMade.delete(array);
    }
  }

  /** Disks that a request is making members: another one must not, nor be undone by what the first puts back. */
  const beingLaid = new Set<string>();

  /** @throws Refusal when another request has one of these disks in hand */
  async function layDown(...[work, record, paths, typed, allowMissing]: Parameters<typeof lay>): Promise<NodeId[]> {
    const taken = [...paths].find(([, path]) => beingLaid.has(path));
    if (taken !== undefined) {
      const name = typed.get(taken[0]) ?? taken[1];
      throw new Refusal(
        `${name}: an earlier request is about to make it a member; see \`mdmesh status\` for what becomes of it`,
      );
    }
    for (const path of paths.values()) beingLaid.add(path);
    try {
      return await lay(work, record, paths, typed, allowMissing);
    } finally {
      for (const path of paths.values()) beingLaid.delete(path);
    }
  }

  /**
   * Writes superblocks and a fresh mesh area, and has every node look. If one does not see them, all is put back as it was, or
   * `allowMissing` and it is returned.
   */
  async function lay(
    work: Work,
    record: ArrayRecord,
    paths: ReadonlyMap<string, string>,
    typed: ReadonlyMap<string, string>,
    allowMissing: boolean,
  ): Promise<NodeId[]> {
    const writes = writesFor({
      record,
      clusterUuid: config.cluster.uuid,
      clusterName: config.cluster.name,
      devices: paths,
      meshSequence: record.version.index,
      fresh: new Set(paths.keys()),
    });
    await agent.formerLeasesOver(paths.values());
    const blank = [...paths.values()].map(withoutSuperblock);
    const before = [...blank, ...(await underneath(writes))];
    try {
      await write(work, [...blank, ...writes]);
      const looked = await allSee(work.asker, typed, allowMissing);
      return [...looked].flatMap(([node, { seen }]) => {
        const missing = [...typed.keys()].find((uuid) => seen.every((each) => each.uuid !== uuid));
        if (missing === undefined) return [];
        agent.notice('NodeCannotSeeMember', 'warning', record.md, { node, member: missing });
        return [node];
      });
    } catch (error) {
      const ours = await stillLaid(paths);
      // A master of a later term has read the disks, and may have made its own what it found there.
      if (agent.leadsInTerm === work.term) await agent.writeMetadata(before.filter(({ path }) => ours.has(path)));
      await agent.rescan();
      throw error;
    }
  }

  /** Of these disks those that nobody has made another member since, as another master may have. */
  async function stillLaid(paths: ReadonlyMap<string, string>): Promise<Set<string>> {
    const laid = await Promise.all(
      [...paths.values()].map(async (path) => {
        const disk = await driver.examine(path).catch(() => null);
        const isOurs = disk !== null && (disk.superblock === null || paths.has(disk.superblock.deviceUuid));
        return isOurs ? [path] : [];
      }),
    );
    return new Set(laid.flat());
  }

  async function adopt(work: Work, request: Extract<Request, { verb: 'adopt' }>): Promise<void> {
    const md = request.md.replace(/^\/dev\//, '');
    if (present(true).some((record) => record.md === md || record.uuid === request.uuid)) {
      throw new Refusal(`${md} (${request.uuid}) is in this cluster already`);
    }
    const disks = withoutLeftovers((await agent.rescan()).filter((disk) => disk.superblock?.setUuid === request.uuid));
    if (disks.length === 0)
      throw new Refusal(`no disk here belongs to an array ${request.uuid}; see mdadm --examine --scan`);
    const existing = new Map<string, NonNullable<Disk['superblock']>>();
    const paths = new Map<string, string>();
    for (const disk of disks) {
      const sb = disk.superblock;
      if (sb === null) continue;
      if (disk.holders.length > 0)
        throw new Refusal(
          `${disk.path} is in use by ${disk.holders.join(', ')} on node ${agent.self}; stop it first (mdadm --stop)`,
        );
      const bytes = await driver.readMetadata(disk.path, SUPERBLOCK_SECTOR * 512, SUPERBLOCK_BYTES);
      const why = adoptable(sb, disk.path, bytes);
      if (why !== null) throw new Refusal(why);
      existing.set(sb.deviceUuid, sb);
      paths.set(sb.deviceUuid, disk.path);
    }
    const owner = ownerFor(request.access, request.owner);
    const base = recordFromSuperblocks([...existing.values()], {
      md,
      access: request.access,
      owner,
      term: work.term,
      resyncBy: owner ?? agent.self,
    });
    checkAccess(request.access, base.level, base.layout);
    const active = base.members.filter((member) => member.role === 'active').length;
    if (active < base.raidDisks)
      throw new Refusal(
        `${md} is degraded (${active} of ${base.raidDisks} members in sync); make it whole with mdadm before it is adopted`,
      );
    geometriesOf(base, existing, paths);
    await allSee(work.asker, paths);
    const resync = base.resync === null ? null : { ...base.resync, fromSector: 0, since: 0 };
    const record: ArrayRecord = { ...base, run: 'started', resync, version: { term: work.term, index: 0 } };
    const writes = writesFor({
      record,
      clusterUuid: config.cluster.uuid,
      clusterName: config.cluster.name,
      devices: paths,
      existing,
      meshSequence: 0,
      fresh: new Set(paths.keys()),
    });
    await agent.formerLeasesOver(paths.values());
    await making(work, record.uuid, async () => {
      await write(work, writes);
      await agent.rescan();
      ask(work, record.uuid, { what: 'introduce', kind: 'adopt', record });
    });
  }

  async function add(work: Work, request: Extract<Request, { verb: 'add' }>, device: ResolvedDevice): Promise<void> {
    const record = arrayOf(request.array);
    if (record.run !== 'started') throw new Refusal(`${record.md} is stopped; assemble it first`);
    const disks = await agent.rescan();
    const disk = await match(device, new Set(), disks);
    // A disk that was a member of this very array carries nothing else that could be lost.
    const former = disk.superblock?.setUuid === record.uuid ? disk.superblock : null;
    mayTake(disk, device, request.force || former !== null);
    const why = former === null ? null : whyWhole(record, disk, config.cluster.uuid);
    const returning = why === null ? former : null;
    const dataOffsetSectors = returning?.dataOffsetSectors ?? dataOffsetSectorsFor(disk.sizeSectors);
    const member: MemberRecord = {
      uuid: newUuid(),
      devNumber: Math.max(...record.members.map((candidate) => candidate.devNumber)) + 1,
      role: 'spare',
      slot: null,
      dataOffsetSectors,
      dataSizeSectors: disk.sizeSectors - dataOffsetSectors,
      ...(returning === null ? {} : { was: formerUuid(disk) }),
      ...(request.allowMissing === true ? { allowMissing: true } : {}),
    };
    if (member.dataSizeSectors < record.componentSectors) {
      throw new Refusal(
        `${device.path} is too small for ${record.md}: ${member.dataSizeSectors} sectors for data, ${record.componentSectors} needed`,
      );
    }
    const next = recordBeforeCommit(record, member);
    const sb = superblocksFor(next, true).get(member.uuid);
    if (record.bitmap !== null && sb !== undefined) {
      const geometry = meshGeometry(sb, nodeSlotsOf(record));
      if ('error' in geometry || !bitmapFits(record.bitmap, geometry))
        throw new Refusal(
          `${device.path} has no room where ${record.md} keeps its nodes' bitmaps (sector ${record.bitmap.firstSector} on): its data would begin at sector ${dataOffsetSectors}; use a disk of the size of the others`,
        );
    }
    const typed = new Map([[member.uuid, device.path]]);
    await layDown(work, next, new Map([[member.uuid, disk.path]]), typed, request.allowMissing === true);
    ask(work, record.uuid, { what: 'add', member, ...(why === null ? {} : { why }) });
  }

  /** All nodes have to see each disk as large as it is to be used. */
  async function growSize(work: Work, request: Extract<Request, { verb: 'grow-size' }>): Promise<void> {
    const record = arrayOf(request.array);
    const { md, level, chunkSectors } = record;
    if (!mayBeShared(level, record.layout))
      throw new Refusal(`${md}: ${level} cannot be grown; only raid1 and raid10 near can`);
    const members = record.members.filter(({ role }) => role !== 'faulty');
    const looked = await allSee(null, namesOf(members));
    const rooms = [...looked].flatMap(([node, { seen }]) =>
      members.flatMap(({ uuid, dataOffsetSectors }) =>
        seen.flatMap((disk) =>
          disk.uuid === uuid ? [{ node, uuid, path: disk.path, sectors: disk.sizeSectors - dataOffsetSectors }] : [],
        ),
      ),
    );
    const least = rooms.reduce((best, room) => (room.sectors < best.sectors ? room : best));
    const wanted = request.sizeKib === null ? least.sectors : request.sizeKib * 2;
    const componentSectors = componentSectorsFor(level, chunkSectors, wanted);
    const kib = (sectors: number): string => `${Math.floor(sectors / 2)} KiB`;
    const sees = ({ node, path, sectors }: typeof least): string =>
      `node ${node} sees ${path} with room for ${kib(sectors)}`;
    const has = `${md} uses ${kib(record.componentSectors)} of each member`;
    if (componentSectors <= record.componentSectors) {
      throw new Refusal(
        request.sizeKib === null
          ? `${has}, and ${sees(least)}; enlarge the disk, and let each node see its new size`
          : `${has} and cannot be made smaller; ask for more than that`,
      );
    }
    const small = rooms.find(({ sectors }) => sectors < componentSectors);
    if (small !== undefined) {
      throw new Refusal(
        `${sees(small)}, ${kib(componentSectors)} are needed; enlarge the disk, or let that node see its new size`,
      );
    }
    const roomSectors = new Map<string, number>();
    for (const { uuid, sectors } of rooms) roomSectors.set(uuid, Math.min(roomSectors.get(uuid) ?? sectors, sectors));
    const larger: ArrayRecord = { ...record, componentSectors };
    const bitmap = record.bitmap === null ? null : placeFor(larger, record.bitmap);
    const { assumeClean } = request;
    ask(work, record.uuid, { what: 'size', componentSectors, roomSectors, bitmap, assumeClean });
  }

  /** Where bitmaps lie with the record's size and node slots: as they are, if that can be. @throws Refusal */
  function placeFor(record: ArrayRecord, before: BitmapPlace | null, chunkKib?: number): BitmapPlace {
    const { md } = record;
    const geometries = geometriesOf(record, agent.disks.superblocks, agent.disks.paths);
    const sectors = copySectors(record, 'resync');
    const kept = before === null ? null : before.chunkSectors / 2;
    const asked = chunkKib ?? kept;
    const place = asked === null ? null : bitmapPlaceOf(geometries, sectors, asked);
    if (place !== null && typeof place !== 'string') return place;
    if (place !== null && chunkKib !== undefined) throw new Refusal(`${md}: ${place}`);
    const suitable = bitmapPlace(geometries, sectors);
    if (suitable === null) throw new Refusal(`${md}: its members have no room for bitmaps before their data`);
    return suitable;
  }

  /** The members in use have room for bitmaps, or for those of more nodes, where each node sees them. */
  function growBitmap(work: Work, request: Extract<Request, { verb: 'grow-bitmap' }>): void {
    const record = arrayOf(request.array);
    const { md, level } = record;
    if (!isRedundant(level)) throw new Refusal(`${md}: ${level} has no copies, so nothing to keep a bitmap for`);
    const { bitmap: kind, chunkKib } = request;
    if (kind === 'none') {
      if (record.bitmap === null) throw new Refusal(`${md} keeps no bitmaps already`);
      if (chunkKib !== undefined) throw new Refusal(`${md}: no bitmap has no chunk; leave --bitmap-chunk out`);
      ask(work, record.uuid, { what: 'bitmap', bitmap: null });
      return;
    }
    const place = placeFor(record, null, chunkKib);
    if (record.bitmap !== null && (chunkKib === undefined || record.bitmap.chunkSectors === place.chunkSectors)) {
      throw new Refusal(
        `${md} keeps a bitmap for each node already, ${record.bitmap.chunkSectors / 2} KiB a bit; give another --bitmap-chunk, or --bitmap none`,
      );
    }
    ask(work, record.uuid, { what: 'bitmap', bitmap: place });
  }

  function growNodes(work: Work, request: Extract<Request, { verb: 'grow-nodes' }>): void {
    const record = arrayOf(request.array);
    const { nodes } = request;
    const has = nodeSlotsOf(record);
    if (nodes <= has)
      throw new Refusal(`${record.md} has room for ${has} nodes, and only ever gets more; ask for more than that`);
    const wider: ArrayRecord = { ...record, nodeSlots: nodes };
    // Without bitmaps the geometry has to fit all the same.
    geometriesOf(wider, agent.disks.superblocks, agent.disks.paths);
    const bitmap = record.bitmap === null ? null : placeFor(wider, record.bitmap);
    ask(work, record.uuid, { what: 'bitmap', bitmap, nodeSlots: nodes });
  }

  /** By their paths here: they have superblocks to know them by, so that paths only make words. */
  function namesOf(members: readonly MemberRecord[]): Map<string, string> {
    return new Map(members.map(({ uuid }) => [uuid, agent.disks.paths.get(uuid) ?? uuid]));
  }

  function memberFor(record: ArrayRecord, device: ResolvedDevice): string {
    const { memberUuid } = device;
    if (memberUuid !== null && record.members.some((member) => member.uuid === memberUuid)) return memberUuid;
    throw new Refusal(`${device.path} is not a member of ${record.md}`);
  }

  async function remove(work: Work, array: string, device: ResolvedDevice): Promise<void> {
    const record = arrayOf(array);
    const member = memberFor(record, device);
    const isUsed = record.members.some((each) => each.uuid === member && isWritten(each));
    if (!isUsed && !(await agent.takeOutOfQuorum(member, LEAVE_QUORUM_MS))) {
      mustBeCurrent(work);
      throw new Refusal(
        `${device.path} is a quorum disk, and too few of the others answer for a set without it; bring them back first (mdmesh doctor)`,
      );
    }
    ask(work, record.uuid, { what: 'remove', member });
  }

  async function perform(work: Work, request: Request, devices: readonly ResolvedDevice[]): Promise<void> {
    await takenOver(request);
    const [device] = devices;
    switch (request.verb) {
      case 'create':
        return create(work, request, devices);
      case 'adopt':
        return adopt(work, request);
      case 'add':
        if (device === undefined) throw new Refusal('no device given');
        return add(work, request, device);
      case 'fail': {
        if (device === undefined) throw new Refusal('no device given');
        const record = arrayOf(request.array);
        ask(work, record.uuid, { what: 'fail', member: memberFor(record, device) });
        return;
      }
      case 'remove':
        if (device === undefined) throw new Refusal('no device given');
        return remove(work, request.array, device);
      case 'grow-devices': {
        const { array, raidDisks, force } = request;
        ask(work, arrayOf(array).uuid, { what: 'slots', raidDisks, force });
        return;
      }
      case 'grow-size':
        return growSize(work, request);
      case 'grow-bitmap':
        return growBitmap(work, request);
      case 'grow-nodes':
        return growNodes(work, request);
      case 'replace': {
        if (device === undefined) throw new Refusal('no device given');
        const record = arrayOf(request.array);
        const [, stand] = devices;
        const by = stand === undefined ? null : memberFor(record, stand);
        ask(work, record.uuid, { what: 'replace', member: memberFor(record, device), by });
        return;
      }
      case 'assemble': {
        if (request.array !== null) {
          const putBack = request.force === true ? await knownAgain(work, request.array) : null;
          const record = arrayOf(request.array);
          if (putBack !== null && record.run === 'started' && record.parityInDoubt !== true) {
            const { term, index } = putBack.version;
            agent.answer(work.requestId, { ok: true, text: `${record.md} goes on from commit ${term}.${index}` });
            return;
          }
          ask(work, record.uuid, { what: 'start', ...(request.force && { force: true }) });
          return;
        }
        const waiting = agent.records().filter(({ parityInDoubt, writers }) => parityInDoubt && writers.length === 0);
        const stopped = agent.records().filter((record) => record.run === 'stopped' && !waiting.includes(record));
        for (const record of stopped) agent.ask(record.uuid, { what: 'start' }, null);
        const names = stopped.map((record) => record.md).join(', ');
        const others = waiting.length > 0 ? 'every other array' : 'every array';
        const begun = names === '' ? `${others} of this cluster is started` : `starting ${names}`;
        const text = [begun, ...waiting.flatMap((record) => doubtText(record) ?? [])].join('; ');
        agent.answer(work.requestId, { ok: waiting.length === 0, text });
        return;
      }
      case 'stop':
        ask(work, arrayOf(request.array).uuid, { what: 'stop' });
        return;
      case 'release': {
        const record = arrayOf(request.array);
        if (record.run === 'started' || mayTouch(record).length > 0) {
          throw new Refusal(`${record.md} is started; stop it first (mdmesh stop ${record.md})`);
        }
        const deciding = record.members.filter(({ uuid }) => agent.quorumDisks().includes(uuid));
        if (deciding.length > 0) {
          throw new Refusal(
            `${deciding.length} members of ${record.md} are quorum disks, and would decide nothing any more; set quorum: nodes in the file of every node first`,
          );
        }
        ask(work, record.uuid, { what: 'forget' });
        return;
      }
      case 'action':
        ask(work, arrayOf(request.array).uuid, { what: 'action', action: request.action });
        return;
      case 'sync-limit':
        ask(work, arrayOf(request.array).uuid, { what: 'sync-limit', limitKib: request.limitKib });
        return;
      case 'confirm-dead': {
        if (request.node === agent.self)
          throw new Refusal(`node ${request.node} is the master that answers here: it lives`);
        if (agent.parts.net.connected().includes(request.node))
          throw new Refusal(`node ${request.node} is connected: it lives`);
        const ignored = agent.parts.fencing.confirm(request.node);
        if (ignored !== null) throw new Refusal(`${ignored}; nothing was confirmed`);
        agent.notice('NodeConfirmedDead', 'warning', `node/${request.node}`, { node: request.node, by: work.asker });
        const text = `node ${request.node} is taken as stopped, on your word`;
        agent.answer(work.requestId, { ok: true, text });
        return;
      }
    }
  }

  async function look(from: NodeId, query: Look): Promise<void> {
    const disks = await agent.rescan();
    const seen: Looked['seen'] = [];
    const wrong: string[] = [];
    for (const { uuid, path } of query.members) {
      const disk = disks.find((candidate) => candidate.superblock?.deviceUuid === uuid);
      if (disk === undefined) continue;
      const foreign = driver
        .running()
        .find(
          (array) => array.metadata !== 'external:mdmesh' && array.devices.includes(disk.path.replace(/^\/dev\//, '')),
        );
      if (foreign !== undefined)
        wrong.push(`${disk.path} is in use by ${foreign.md}; stop it there first (mdadm --stop /dev/${foreign.md})`);
      if (path !== null) {
        const typed = await driver.examine(path).catch(() => null);
        if (typed?.superblock?.deviceUuid !== uuid) {
          wrong.push(
            `${path} is not the disk that the master took for it; give it another size or content, or a path that is the same on all nodes`,
          );
          continue;
        }
      }
      seen.push({ uuid, path: disk.path, sizeSectors: disk.sizeSectors });
    }
    agent.toNode(from, { kind: 'sees-answer', queryId: query.queryId, seen, wrong });
  }

  return {
    handle(asker, requestId, request, devices) {
      const term = agent.leadsInTerm;
      if (term === null) return agent.answer(requestId, leadsNoMore(agent.self));
      perform({ asker, requestId, term }, request, devices).catch((error: unknown) => {
        const text = textOf(error);
        if (!(error instanceof Refusal))
          agent.parts.log.error({ err: error, verb: request.verb }, `${request.verb}: ${text}`);
        if (error instanceof TooEarly) agent.answer(requestId, { ok: false, text, undone: true });
        // What was laid down by then may be an array all the same, in the next term.
        else agent.answer(requestId, { ok: false, text: agent.leadsInTerm === term ? text : inTheMiddle(agent.self) });
      });
    },
    look(from, query) {
      look(from, query).catch((error: unknown) => agent.parts.log.warn({ err: error }, 'disks could not be looked at'));
    },
    looked(from, answer) {
      looks.get(answer.queryId)?.push({ from, answer });
    },
    isBeingMade: (array) => beingMade.get(array) === agent.leadsInTerm,
  };
}
