/**
 * Stands behind a simulated cluster and sees everything: each write to each disk, each lease, each copy, each journal. It asks the
 * checkers at the moments at which their rules can be broken, and keeps the first answer that is not good.
 */
import { givesUp } from '#src/arrays/levels.ts';
import {
  type ArrayRecord,
  type CopyKind,
  compares,
  compareVersions,
  type NodeId,
  type Version,
} from '#src/arrays/record.ts';
import { copySectors } from '#src/arrays/windows.ts';
import type { SectorRange } from '#src/md/driver.ts';
import { dataOffsetSectorsFor } from '#src/md/metadata.ts';
import type { DiskWrite } from '#src/md/simulated_storage.ts';
import type { Event } from '#src/wire/messages.ts';
import { Application, BLOCK_BYTES, SECTORS_PER_BLOCK, sequencesIn } from './application.ts';
import * as checkers from './checkers.ts';
import type { SimCluster } from './cluster.ts';
import { isOwnBlock } from './disk_leases.ts';
import { Moments, tellOfEvent, tellOfGuard } from './moments.ts';
import { LeaseWatch } from './promises.ts';

export interface Violation {
  /** Name of the checker. */
  checker: string;
  text: string;
  atMs: number;
}

/** What was read of a block that a crash left in doubt. */
interface Story {
  acknowledged: number;
  begun: number;
  sequences: (number | null)[];
}

export class Ground {
  violation: Violation | null = null;
  readonly applications: Application[] = [];
  reads = 0;
  commits = 0;
  /** A writer has crashed while a member of a parity array was missing: of what stands there nothing is claimed any more. */
  parityInDoubt = false;
  readonly moments = new Moments();
  readonly #leases: LeaseWatch;
  readonly #cluster: SimCluster;
  readonly #say: (who: string, text: string) => void;
  readonly #lines = new Map<string, checkers.CommitLine>();
  /** What nodes have sealed of their own. */
  readonly #made = new Set<string>();
  readonly #journaled = new Map<NodeId, Set<string>>();
  readonly #applied = new Map<NodeId, Map<string, Version>>();
  readonly #writers = new Map<string, readonly NodeId[]>();
  readonly #reading = new Set<NodeId>();
  readonly #stories = new Map<string, Story>();
  /** Of each array the newest commit that gave up a leg before a resync had made it one with the others: what was read of it is in doubt again. */
  readonly #inDoubtSince = new Map<string, Version>();
  /** Writes under way that their disk would have refused as they were handed to it. */
  readonly #refused = new Set<string>();
  /** What each node's md was last told to copy, by array. */
  readonly #copies = new Map<NodeId, Map<string, CopyKind>>();
  /** By array: where the copies were compared since the newest check or repair was begun. */
  readonly #compared = new Map<string, SectorRange[]>();
  /** The newest record that anybody committed, by the array's name. */
  readonly #newest = new Map<string, ArrayRecord>();

  constructor(cluster: SimCluster, say: (who: string, text: string) => void) {
    this.#cluster = cluster;
    this.#say = say;
    this.#leases = new LeaseWatch(cluster, (checker, text) => this.judge(checker, text));
    cluster.storage.onWrite = (write) => this.#written(write);
    cluster.onAgent = (node) => this.#agentStarts(node);
    for (const node of cluster.nodes) {
      this.#journaled.set(node, new Set());
      cluster.journal(node).onAppend(({ event }) => this.#appended(node, event));
      this.#watchCopies(node);
      this.#watchRecords(node);
    }
  }

  /** The newest record that anybody committed. */
  recordOf(md: string): ArrayRecord | null {
    return this.#newest.get(md) ?? null;
  }

  /** The array that has this disk for a member, as far as any node's md shows it. */
  #recordAt(disk: string): ArrayRecord | null {
    const records = [...this.#newest.values()];
    if (records.length < 2) return records[0] ?? null;
    const has = (record: ArrayRecord): boolean =>
      record.members.some(({ uuid }) => checkers.diskOf(this.#cluster, record, uuid) === disk);
    return records.find(has) ?? null;
  }

  /** A checker's answer. Only the first counts: what follows a violation follows from it. */
  judge(checker: { name: string }, text: string | null): void {
    if (text === null || this.violation !== null) return;
    this.violation = { checker: checker.name, text, atMs: this.#cluster.time.clock() };
    this.#say('checker', `${checker.name}: ${text}`);
  }

  // --- applications ---------------------------------------------------------------------------------------------------

  addApplication(options: {
    node: NodeId;
    md: string;
    firstBlock: number;
    blocks: number;
    everyMs: number;
  }): Application {
    const application: Application = new Application(this.#cluster, {
      ...options,
      onAcknowledged: (block) => this.#acknowledged(application, block),
    });
    this.applications.push(application);
    return application;
  }

  #applicationsOf({ md }: ArrayRecord): Application[] {
    return this.applications.filter((application) => application.md === md);
  }

  #acknowledged(application: Application, block: number): void {
    const record = this.recordOf(application.md);
    if (record === null) return;
    const line = this.#lines.get(record.uuid);
    // Nothing newer could be relied on.
    if (line !== undefined && (line.relied === null || compareVersions(line.relied, record.version) < 0)) {
      const { released } = this.#cluster.agent(application.node)?.arrays.get(record.uuid) ?? {};
      if (released != null) line.relied = released.version;
    }
    this.judge(checkers.noReaderMissesAWrite, checkers.noReaderMissesAWrite(this.#cluster, record, application, block));
  }

  /** A node reads a block, if it has the array and reads nothing else. */
  async read(reader: NodeId, application: Application, block: number): Promise<void> {
    const driver = this.#cluster.driver(reader);
    if (this.#reading.has(reader) || driver.observe(application.md) === null) return;
    this.#reading.add(reader);
    const before = application.newestIn(block);
    const settled = this.#storyIsTold(reader, application);
    try {
      const bytes = await driver.read(application.md, block * SECTORS_PER_BLOCK, BLOCK_BYTES);
      this.reads += 1;
      if (checkers.readsUnguarded(this.#cluster, reader) || this.parityInDoubt) return;
      this.judge(checkers.noStaleRead, checkers.noStaleRead(reader, application, block, bytes, before.acknowledged));
      if (settled) this.#compare(reader, application, block, before, bytes);
    } catch (error) {
      this.#say(
        `node ${reader}`,
        `read of block ${block} failed: ${error instanceof Error ? error.message : String(error)}`,
      );
    } finally {
      this.#reading.delete(reader);
    }
  }

  /** The block's writer has been evicted, and this node has applied that. */
  #storyIsTold(reader: NodeId, application: Application): boolean {
    if (this.#cluster.isUp(application.node)) return false;
    const arrays = [...(this.#cluster.agent(reader)?.arrays.values() ?? [])];
    const array = arrays.find(({ record }) => record.md === application.md);
    if (array === undefined || array.applied === null || array.record.writers.includes(application.node)) return false;
    const inDoubtSince = this.#inDoubtSince.get(application.md);
    if (inDoubtSince !== undefined && compareVersions(array.applied, inDoubtSince) < 0) return false;
    return compareVersions(array.applied, array.record.version) === 0;
  }

  #compare(
    reader: NodeId,
    application: Application,
    block: number,
    { acknowledged, begun }: { acknowledged: number; begun: number },
    bytes: Uint8Array,
  ): void {
    const key = `${application.md} ${application.node} ${block}`;
    const known = this.#stories.get(key);
    const after = application.newestIn(block);
    // Written anew meanwhile.
    if (after.begun !== begun) return;
    if (known?.acknowledged === acknowledged && known.begun === begun)
      this.judge(checkers.oneStory, checkers.oneStory(reader, application, block, known.sequences, bytes));
    else this.#stories.set(key, { acknowledged, begun, sequences: sequencesIn(bytes, application.node, block) });
  }

  /** After every step. */
  step(): void {
    this.#leases.look();
  }

  /** Now and then: what is no event of its own. */
  look(): void {
    for (const record of this.#newest.values())
      this.judge(checkers.heldInDoubt, checkers.heldInDoubt(this.#cluster, record));
    for (const application of this.applications) this.judge(checkers.noWriteFails, checkers.noWriteFails(application));
    for (const node of this.#cluster.up()) {
      if (!this.#cluster.isRunning(node)) continue;
      const seen = this.#applied.get(node) ?? new Map<string, Version>();
      for (const { record, applied } of this.#cluster.agent(node)?.arrays.values() ?? []) {
        const before = seen.get(record.uuid) ?? null;
        this.judge(checkers.appliedInOrder, checkers.appliedInOrder(node, record.md, before, applied));
        if (applied !== null) seen.set(record.uuid, applied);
      }
      this.#applied.set(node, seen);
    }
  }

  // --- what is seen ---------------------------------------------------------------------------------------------------

  crashed(node: NodeId): void {
    this.#copies.delete(node);
    this.#reading.delete(node);
  }

  #agentStarts(node: NodeId): void {
    this.#applied.delete(node);
    // What was not durable is gone from its journal, and may come again.
    const { entries } = this.#cluster.journal(node).read(0, Number.MAX_SAFE_INTEGER);
    this.#journaled.set(
      node,
      new Set(entries.map(({ event }) => `${event.origin}/${event.bootNumber}/${event.sequence}`)),
    );
    this.#leases.agentStarts(node);
    tellOfGuard(this.#cluster, this.moments, node, () =>
      this.judge(checkers.atMostOneMaster, checkers.atMostOneMaster(this.#cluster)),
    );
  }

  #appended(node: NodeId, event: Event): void {
    const known = this.#journaled.get(node) ?? new Set();
    this.judge(checkers.journaledOnce, checkers.journaledOnce(node, known, event));
    const { body } = event;
    if (event.origin !== node) return;
    const id = `${node}/${event.bootNumber}/${event.sequence}`;
    // Lost with the power, and back from the others' journals.
    if (this.#made.has(id)) return;
    this.#made.add(id);
    this.#leases.sealed(event);
    tellOfEvent(this.moments, event);
    if (body.type !== 'commit') return;
    const { record } = body;
    const before = this.recordOf(record.md);
    this.commits += 1;
    const line = this.#lines.get(record.uuid) ?? { newest: null, relied: null, found: null };
    this.#lines.set(record.uuid, line);
    this.judge(checkers.commitsAreOneLine, checkers.commitsAreOneLine(line, event));
    const writers = this.#writers.get(record.uuid) ?? [];
    this.judge(checkers.evictedHasStopped, checkers.evictedHasStopped(this.#cluster, event, writers));
    this.#writers.set(record.uuid, record.writers);
    if (record.parityInDoubt === true) this.parityInDoubt = true;
    if (body.kind === 'evict')
      for (const application of this.#applicationsOf(record))
        if (writers.includes(application.node) && !record.writers.includes(application.node)) application.settle();
    if (before?.resync?.kind === 'resync' && givesUp(before, record)) {
      this.#inDoubtSince.set(record.md, record.version);
      for (const key of this.#stories.keys()) if (key.startsWith(`${record.md} `)) this.#stories.delete(key);
    }
    this.#newest.set(record.md, record);
    this.judge(checkers.dataHasACopy, checkers.dataHasACopy(record));
    this.judge(checkers.nobodyLetInInDoubt, checkers.nobodyLetInInDoubt(before, record));
    if (body.kind === 'resync-done' && copied(before)) {
      const text = checkers.legsAgreeWhenCopied(this.#cluster, record, this.#applicationsOf(record));
      this.judge(checkers.legsAgreeWhenCopied, text);
    }
    if (body.kind === 'resync-start' && compares(record.resync?.kind)) this.#compared.set(record.md, []);
    if (body.kind === 'resync-done' && before !== null && compares(before.resync?.kind)) {
      const compared = this.#compared.get(record.md) ?? [];
      this.judge(checkers.checkedWhole, checkers.checkedWhole(before, compared, record));
    }
    const { version, resync } = record;
    const copy = resync === null ? '' : `, ${resync.kind} by ${resync.by} from ${resync.fromSector}`;
    const members = record.members.map(({ uuid, role, slot }) => `${uuid.slice(0, 4)} ${role} ${slot ?? '-'}`);
    const which = this.#newest.size > 1 ? ` of ${record.md}` : '';
    const text = `commits ${body.kind}${which} ${version.term}.${version.index}: ${record.run}, writers ${record.writers.join(' ')}${copy}; ${members.join(', ')}`;
    this.#say(`node ${node}`, text);
  }

  /** What the disk would refuse does not get there; unless its node is let in again before it comes to the disk. */
  #isLate(write: DiskWrite): boolean {
    const { node, disk, offsetBytes, stage } = write;
    const id = `${node} ${disk} ${offsetBytes}`;
    const taken = this.#cluster.storage.mayWrite(node, disk);
    if (stage === 'lands') return this.#refused.delete(id) && taken;
    if (taken) this.#refused.delete(id);
    else this.#refused.add(id);
    return false;
  }

  #written(write: DiskWrite): void {
    if (this.violation !== null) return;
    this.judge(checkers.nothingOldLands, checkers.nothingOldLands(this.#cluster, write));
    const isLate = this.#isLate(write);
    const isHandedOver = write.stage === 'begins' && this.#cluster.storage.mayWrite(write.node, write.disk);
    if (!isLate && !isHandedOver) return;
    const sector = write.offsetBytes / 512;
    // On a witness there are no data.
    const isMember = this.#cluster.disks().includes(write.disk);
    const dataSector = isMember
      ? dataOffsetSectorsFor(this.#cluster.storage.sizeSectors(write.disk))
      : Number.POSITIVE_INFINITY;
    const record = this.#recordAt(write.disk);
    if (sector >= dataSector) {
      if (record === null) return;
      const { node } = write;
      // Its own copy is no write of an application.
      if (this.#cluster.driver(node).copying(record.md) !== null) return;
      this.judge(checkers.onlyWritersWrite, checkers.onlyWritersWrite(this.#cluster, record, node, write.disk));
      this.judge(checkers.writesNeedAGrant, checkers.writesNeedAGrant(this.#cluster, node));
      const slot = record.members.find(({ uuid }) => checkers.diskOf(this.#cluster, record, uuid) === write.disk)?.slot;
      if (slot == null || (record.level !== 'raid1' && record.level !== 'raid10')) return;
      const loSector = checkers.arraySectorAt(record, slot, sector - dataSector);
      const written = { loSector, hiSector: loSector + write.lengthBytes / 512 };
      const text = checkers.noWriteBesideTheCopy(this.#cluster, record.md, node, write.disk, written);
      this.judge(checkers.noWriteBesideTheCopy, text);
      return;
    }
    const bitmap = record?.bitmap ?? null;
    if (bitmap !== null && sector >= bitmap.firstSector) return;
    if (isOwnBlock(this.#cluster, write)) return;
    this.judge(checkers.metadataInsideLease, checkers.metadataInsideLease(this.#cluster, write));
    this.moments.tell('writes metadata', write.node);
  }

  #watchRecords(node: NodeId): void {
    const driver = this.#cluster.driver(node);
    const { writeMetadata } = driver;
    driver.writeMetadata = (writes) => {
      for (const write of writes)
        this.judge(checkers.termsGoOnOnDisk, checkers.termsGoOnOnDisk(this.#cluster, node, write));
      return writeMetadata.call(driver, writes);
    };
  }

  #watchCopies(node: NodeId): void {
    const driver = this.#cluster.driver(node);
    const look = (md: string, kind: CopyKind, fromSector: number, toSector: number | null): void => {
      const record = this.recordOf(md);
      if (record === null) return;
      const end = toSector ?? copySectors(record, kind);
      this.judge(checkers.oneCopier, checkers.oneCopier(this.#cluster, node, md));
      const text = checkers.suspendBeforeSync(this.#cluster, node, record, kind, fromSector, end);
      this.judge(checkers.suspendBeforeSync, text);
    };
    driver.onCompared = (md, range) => {
      this.#compared.set(md, [...(this.#compared.get(md) ?? []), range]);
    };
    const { startCopy, extendCopy } = driver;
    driver.startCopy = async (md, copy) => {
      look(md, copy.kind, copy.fromSector, copy.toSector);
      const copies = this.#copies.get(node) ?? new Map<string, CopyKind>();
      this.#copies.set(node, copies.set(md, copy.kind));
      return startCopy.call(driver, md, copy);
    };
    driver.extendCopy = async (md, toSector) => {
      const kind = this.#copies.get(node)?.get(md);
      const fromSector = driver.copiesFrom(md);
      if (kind !== undefined && fromSector !== null) look(md, kind, fromSector, toSector);
      return extendCopy.call(driver, md, toSector);
    };
  }
}

/** A resync or a recovery was under way: what it has left must be one. */
function copied(before: ArrayRecord | null): boolean {
  return before?.resync?.kind === 'resync' || before?.resync?.kind === 'recovery';
}
