/**
 * Another campaign: arrays come and go on the same disks (created, stopped, assembled, given back to mdadm, adopted) among faults of
 * network, machines and agents. What was granted must be so, data must outlast everything but a release, no member's superblock is
 * written over while the array is in use, and in the end the disks can be used again, whatever was begun and not ended.
 */
import type { NodeId } from '#src/arrays/record.ts';
import type { ArrayObservation } from '#src/md/driver.ts';
import { dataOffsetSectorsFor } from '#src/md/metadata.ts';
import type { DiskWrite } from '#src/md/simulated_storage.ts';
import { seededRandom, VirtualTime } from '#src/md/simulated_time.ts';
import { decodeSuperblockIfAny, SUPERBLOCK_BYTES, SUPERBLOCK_SECTOR } from '#src/md/superblock.ts';
import type { Event, Request } from '#src/wire/messages.ts';
import { AIMED } from './aimed.ts';
import { Application } from './application.ts';
import { BY_NAME } from './by_name.ts';
import type { CampaignOptions, Outcome } from './campaign.ts';
import { atMostOneMaster, legsAgree, noWriteFails, noWriteLost, writesNeedAGrant } from './checkers.ts';
import { mirrorOf, SimCluster } from './cluster.ts';
import { DRAWN, type Fault } from './faults.ts';
import type { Violation } from './ground.ts';
import { faultsNamed, Misfortunes } from './misfortunes.ts';
import { Moments, tellOfEvent, tellOfGuard } from './moments.ts';
import { Stage, type StageOptions } from './stage.ts';
import { Transcript } from './transcript.ts';

/** With whole disks: what a lost path or disk does to an array is the other campaign's. */
const FAULTS: readonly Fault[] = [...DRAWN, ...AIMED].filter(
  ({ name }) => !/path|disk|leg|failure|journal|member|copy|copier|writer|bits|all end/.test(name),
);
const MD = 'md0';
const DISK_MIB = 3;
const BLOCKS = 8;
/** Each array that comes is written where those before it were not. */
const REGIONS = 6;
const SUPERBLOCK_AT = SUPERBLOCK_SECTOR * 512;
/** All disks are of one size. */
const DATA_AT = dataOffsetSectorsFor(DISK_MIB * 2048) * 512;
const HOUR_MS = 3_600_000;
const LOOK_EVERY_MS = 100;
const CALM_WITHIN_MS = 240_000;
/** An agent that is granted writes looks for what is left over once a minute. */
const LEFT_OVER_WITHIN_MS = 75_000;

/** What the operator has been told: a request that was refused, or never answered, may have been carried out all the same. */
type Belief = { array: 'none' } | { array: 'there'; uuid: string } | { array: 'unknown' };

/** What was granted is so. */
function grantedIsSo(): void {}
/** A superblock of a member in use is its own. */
function membersKeepTheirNames(): void {}
/** A version names one commit. */
function commitsHaveOneName(): void {}
/** What md has left of an array that is no more is stopped, with no need of a person or a boot. */
function nothingIsLeftOver(): void {}
/** Once faults stop each of these within a bounded time. */
function disksCanBeUsedAgain(): void {}

class Comings extends Stage {
  violation: Violation | null = null;
  readonly applications: Application[];
  /** Of each array that came. */
  readonly #writers = new Map<string, Application[]>();
  /** Which event has each name. */
  readonly #commits = new Map<string, string>();
  #belief: Belief = { array: 'none' };
  #released: string | null = null;
  #over = false;
  /** By node: what its md has and its agent does not know, and since when. */
  readonly #leftOver = new Map<NodeId, { uuid: string; sinceMs: number }>();

  constructor(options: StageOptions & { applications: Application[] }) {
    super(options);
    const { cluster, moments } = options;
    this.applications = options.applications;
    cluster.storage.onWrite = (write) => {
      if (write.stage === 'begins' && write.offsetBytes >= DATA_AT)
        this.judge(writesNeedAGrant, writesNeedAGrant(cluster, write.node));
      if (!coversSuperblock(write)) return;
      if (write.stage === 'begins') moments.tell('writes metadata', write.node);
      else this.#named(write);
    };
    cluster.onAgent = (node) =>
      tellOfGuard(cluster, moments, node, () => this.judge(atMostOneMaster, atMostOneMaster(cluster)));
    for (const node of cluster.nodes)
      cluster.journal(node).onAppend(({ event }) => {
        if (event.origin !== node) return;
        tellOfEvent(moments, event);
        this.#committed(event);
      });
  }

  judge(checker: { name: string }, text: string | null): void {
    if (text === null || this.violation !== null) return;
    this.violation = { checker: checker.name, text, atMs: this.time.clock() };
    this.transcript.say('checker', `${checker.name}: ${text}`);
  }

  async run({ hours = 0.05, onProgress = () => undefined }: CampaignOptions, misfortunes: Misfortunes): Promise<void> {
    await this.cluster.boot(...this.cluster.nodes);
    await this.#until('a first master', () => this.oneMaster());
    this.#applicationsGoOn();
    misfortunes.begin();
    void this.#operate();
    const endMs = this.time.clock() + hours * HOUR_MS;
    while (endMs - this.time.clock() > 1e-3 && this.violation === null) {
      await this.pass(Math.min(endMs - this.time.clock(), 10_000));
      onProgress(this.time.clock());
    }
    if (this.violation === null) await this.#calm(misfortunes);
  }

  step(): void {
    this.judge(atMostOneMaster, atMostOneMaster(this.cluster));
  }

  async #until(what: string, look: () => boolean): Promise<void> {
    await this.until(disksCanBeUsedAgain, what, CALM_WITHIN_MS, look);
  }

  // --- what is seen ---------------------------------------------------------------------------------------------------

  /** Also told again, by a node that has lost its journal's end and had it back from another. */
  #committed({ body, origin, bootNumber, sequence }: Event): void {
    if (body.type !== 'commit') return;
    const { uuid, version, run, writers } = body.record;
    const name = `${uuid} ${version.term}.${version.index}`;
    this.transcript.say(`node ${origin}`, `commits ${body.kind} ${name}: ${run}, writers ${writers.join(' ')}`);
    const id = `${origin}/${bootNumber}/${sequence}`;
    const known = this.#commits.get(name) ?? id;
    this.#commits.set(name, known);
    if (known !== id)
      this.judge(commitsHaveOneName, `node ${origin} commits ${body.kind} as ${name}, which is another (${known})`);
  }

  #named({ disk, node }: DiskWrite): void {
    const { storage } = this.cluster;
    const name = nameOn(storage.glance(disk, SUPERBLOCK_AT, SUPERBLOCK_BYTES));
    for (const user of this.cluster.up()) {
      const member = this.#open(user)?.members.find(({ device }) => device === disk);
      if (member === undefined || member.faulty || member.uuid === name) continue;
      this.judge(
        membersKeepTheirNames,
        `node ${node} makes ${name ?? 'nothing'} of ${disk}, which node ${user} writes as member ${member.uuid}`,
      );
    }
  }

  /** As its md has the array, while writes pass: of one that was shut out what it had on its way waits for good, and is not held. */
  #open(node: NodeId): ArrayObservation | null {
    const array = this.cluster.driver(node).observe(MD);
    const known = this.cluster.agent(node)?.records() ?? [];
    const writes = known.some(({ uuid, writers }) => uuid === array?.arrayUuid && writers.includes(node));
    return array === null || array.held || !writes ? null : array;
  }

  #applicationsGoOn(): void {
    const { cluster } = this;
    const running = new Map<NodeId, { application: Application; uuid: string; boots: number }>();
    const tick = (): void => {
      for (const node of cluster.nodes) {
        const driver = cluster.driver(node);
        const uuid = cluster.isUp(node) ? (driver.observe(MD)?.arrayUuid ?? null) : null;
        const now = running.get(node);
        if (now?.uuid === uuid && now?.boots === driver.boots && !now.application.stopped) continue;
        now?.application.abandon();
        running.delete(node);
        if (uuid === null || this.#over) continue;
        const application = this.#writersOf(uuid)[node - 1];
        if (application === undefined) continue;
        application.start();
        running.set(node, { application, uuid, boots: driver.boots });
      }
      for (const application of this.applications) this.judge(noWriteFails, noWriteFails(application));
      for (const node of cluster.nodes) this.#leftBehind(node);
      this.later(LOOK_EVERY_MS, tick);
    };
    tick();
  }

  /** While its agent runs and may write. Writes at a gate may keep md from letting go for good. */
  #leftBehind(node: NodeId): void {
    const { cluster } = this;
    const driver = cluster.driver(node);
    const seen = cluster.isUp(node) ? driver.observe(MD) : null;
    const uuid = seen?.arrayUuid ?? null;
    const isLeft = seen?.held === true && !seen.writePending && !seen.members.some(({ blocked }) => blocked);
    const agent = cluster.isRunning(node) && driver.guard.grantLive ? cluster.agent(node) : null;
    if (!isLeft || uuid === null || agent === null || agent.arrays.has(uuid)) {
      this.#leftOver.delete(node);
      return;
    }
    const known = this.#leftOver.get(node);
    const since = known?.uuid === uuid ? known : { uuid, sinceMs: this.time.clock() };
    this.#leftOver.set(node, since);
    if (this.time.clock() - since.sinceMs > LEFT_OVER_WITHIN_MS)
      this.judge(
        nothingIsLeftOver,
        `node ${node} has ${MD} of an array that is no more (${uuid}), and has not stopped it`,
      );
  }

  #writersOf(uuid: string): Application[] {
    const known = this.#writers.get(uuid);
    if (known !== undefined) return known;
    const region = (this.#writers.size % REGIONS) * this.cluster.nodes.length;
    const everyMs = this.between(60, 400);
    const writers = this.cluster.nodes.map((node, index) => {
      const place = { firstBlock: (region + index) * BLOCKS, blocks: BLOCKS };
      return new Application(this.cluster, { node, md: MD, ...place, everyMs });
    });
    this.#writers.set(uuid, writers);
    this.applications.push(...writers);
    return writers;
  }

  // --- the operator ---------------------------------------------------------------------------------------------------

  async #operate(): Promise<void> {
    while (!this.#over) {
      await this.#after(this.between(200, 15_000));
      const node = this.pick(this.cluster.up());
      if (node === undefined || this.#over) continue;
      await this.#does(node, this.#wish(node));
    }
  }

  #after(ms: number): Promise<void> {
    return new Promise((resolve) => this.later(ms, resolve));
  }

  #wish(node: NodeId): Request {
    const known = this.cluster.status(node)?.arrays.find(({ record }) => record.md === MD)?.record;
    if (known === undefined) {
      const back = this.#released;
      if (back !== null && this.random() < 0.3) return { verb: 'adopt', md: MD, uuid: back, access: 'shared' };
      return this.#creation();
    }
    if (known.run === 'started') return { verb: 'stop', array: MD };
    return this.random() < 0.5 ? { verb: 'release', array: MD } : { verb: 'assemble', array: MD };
  }

  #creation(): Request {
    const devices = this.cluster.storage.names().map((name) => `/dev/${name}`);
    const bitmap = this.random() < 0.5;
    // What stood on the disks may differ: it has to be made one, or nothing could be said of legs that do.
    return mirrorOf(devices, { force: true, ...(bitmap && { bitmap: 'internal' }) });
  }

  /** One thing after the other: what one has come to is known, or not, before the next is asked for. */
  async #does(node: NodeId, request: Request): Promise<void> {
    const { verb } = request;
    const before = this.#belief;
    if (verb !== 'stop' && verb !== 'assemble') this.#belief = { array: 'unknown' };
    const { ok, text } = await this.asks(node, request);
    if (!ok) return;
    if (before.array === 'there' && (verb === 'create' || verb === 'adopt'))
      this.judge(grantedIsSo, `${verb} was granted while ${MD} (${before.uuid}) is there: ${text}`);
    const created = /UUID ([0-9a-f-]{36})/.exec(text)?.[1];
    const uuid = verb === 'adopt' ? request.uuid : created;
    if ((verb === 'create' || verb === 'adopt') && uuid !== undefined) this.#belief = { array: 'there', uuid };
    if (verb === 'release') {
      this.#belief = { array: 'none' };
      this.#released = before.array === 'there' ? before.uuid : null;
    }
  }

  // --- the end --------------------------------------------------------------------------------------------------------

  async #calm(misfortunes: Misfortunes): Promise<void> {
    this.#over = true;
    misfortunes.end();
    await this.#until('one master that all follow', () => this.oneMaster());
    // Whatever is under way is answered, or taken over, by then.
    await this.pass(20_000);
    await this.#until('one master that all follow', () => this.oneMaster());
    const there = this.#record();
    const belief = this.#belief;
    if (belief.array === 'none' && there !== undefined)
      this.judge(grantedIsSo, `${MD} was given back, and is there as ${there.uuid}`);
    if (belief.array === 'there' && there?.uuid !== belief.uuid)
      this.judge(grantedIsSo, `${MD} was granted as ${belief.uuid}, and there is ${there?.uuid ?? 'none'}`);
    if (there !== undefined) await this.#judged(there.uuid);
    await this.#granted(
      'the array can be stopped',
      { verb: 'stop', array: MD },
      () => this.#record()?.run !== 'started',
    );
    await this.#granted('the array can be given back', { verb: 'release', array: MD }, () => !this.#record());
    await this.#granted('an array can be made of the same disks', this.#creation(), () => this.#isOpen());
  }

  #record() {
    return this.cluster.status(1)?.arrays.find(({ record }) => record.md === MD)?.record;
  }

  /** Asked for again and again, until it is so. */
  async #granted(what: string, request: Request, isSo: () => boolean): Promise<void> {
    const ask = this.patientAsker();
    await this.#until(what, () => this.oneMaster() && (isSo() || ask(request)));
  }

  #isOpen(): boolean {
    const record = this.#record();
    return record?.resync === null && this.isOpenOnAll(record);
  }

  /** Open again, with all that was acknowledged. */
  async #judged(uuid: string): Promise<void> {
    await this.#granted('the array is open on every node', { verb: 'assemble', array: MD }, () => this.#isOpen());
    // Nothing is written while the disks are compared.
    for (const application of this.applications) application.abandon();
    await this.pass(1000);
    const record = this.#record();
    if (record === undefined || this.violation !== null) return;
    this.judge(noWriteLost, noWriteLost(this.cluster, record, this.#writers.get(uuid) ?? []));
    this.judge(legsAgree, legsAgree(this.cluster, record));
  }
}

function coversSuperblock({ offsetBytes, lengthBytes }: DiskWrite): boolean {
  return offsetBytes <= SUPERBLOCK_AT && offsetBytes + lengthBytes >= SUPERBLOCK_AT + SUPERBLOCK_BYTES;
}

/** UUID of the member that a superblock names; null: there is none that can be read. */
function nameOn(superblock: Uint8Array): string | null {
  try {
    return decodeSuperblockIfAny(superblock, 'a disk')?.deviceUuid ?? null;
  } catch {
    return null;
  }
}

/** As runCampaign. Of a setting its fencing alone counts. */
export async function runComings(options: CampaignOptions): Promise<Outcome> {
  const { seed, nodes, faults, faultsEveryMs, setting = {} } = options;
  const time = new VirtualTime();
  const random = seededRandom(seed * 7907 + 11);
  const transcript = new Transcript(time.clock);
  const count = nodes ?? [3, 3, 2, 4][Math.floor(random() * 4)] ?? 3;
  const drawn = random();
  const fencing = setting.fencing ?? (drawn < 0.5 ? 'command' : drawn < 0.75 ? 'reservation' : 'watchdog');
  const cluster = await SimCluster.create({
    time,
    seed,
    nodes: count,
    diskMib: [DISK_MIB, DISK_MIB],
    delayMs: 0.2 + random() * 2,
    fencing: [fencing],
    log: (node, level, text, fields) => transcript.heard(node, level, text, fields),
  });
  transcript.say('setting', `seed ${seed}: arrays come and go on ${count} nodes, fencing by ${fencing}`);
  const comings = new Comings({ cluster, time, random, transcript, moments: new Moments(), applications: [] });
  const meanMs = faultsEveryMs ?? comings.between(2500, 30_000);
  const misfortunes = new Misfortunes(comings, faultsNamed(faults, FAULTS, BY_NAME), meanMs);
  await comings.run(options, misfortunes);
  const simulatedMs = time.clock();
  cluster.close();
  return {
    seed,
    nodes: count,
    simulatedMs,
    violation: comings.violation,
    acknowledged: comings.applications.reduce((sum, { acknowledged }) => sum + acknowledged, 0),
    reads: 0,
    commits: 0,
    faults: misfortunes.count,
    transcript: transcript.text(),
  };
}
