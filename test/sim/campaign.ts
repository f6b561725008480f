/**
 * One seed's whole story: a cluster, its writers and readers, people who type commands, and faults, for as long as was asked for;
 * then the faults end, and the cluster has to come to rest, whole, within a bounded time. Everything follows from the seed.
 */
import { seededRandom, VirtualTime } from '#src/md/simulated_time.ts';
import type { Request } from '#src/wire/messages.ts';
import { AIMED } from './aimed.ts';
import type { Application } from './application.ts';
import { BY_NAME } from './by_name.ts';
import { legsAgree, noWriteLost } from './checkers.ts';
import { diskName, mirrorOf, SimCluster } from './cluster.ts';
import { AT_QUORUM_DISKS } from './disk_quorum_faults.ts';
import { CLOCK_PACES, DRAWN, type Fault } from './faults.ts';
import { Ground, type Violation } from './ground.ts';
import { faultsNamed, Misfortunes } from './misfortunes.ts';
import { operatorWish } from './operators.ts';
import { Stage } from './stage.ts';
import { Transcript } from './transcript.ts';

const FAULTS: readonly Fault[] = [...DRAWN, ...AIMED];
const HOUR_MS = 3_600_000;
const DISK_MIB = 3;
const WITNESS_MIB = 1;
const BLOCKS = 24;
/** Of a mirror as many as are drawn. */
const MEMBERS = { raid1: 0, raid10: 4, raid5: 3 } as const;
const CHUNK_KIB = 16;
const LOOK_EVERY_MS = 250;
/** Elections, fencing, eviction, resync and whatever else is left to do. */
const CALM_WITHIN_MS = 240_000;
const WRITES_WITHIN_MS = 20_000;

/** Instead of what is drawn. */
export interface Setting {
  bitmap?: boolean;
  legs?: number;
  fencing?: 'command' | 'watchdog' | 'reservation';
  policy?: 'fail-member' | 'drop-node';
  /** Disks: with one more that is a witness. @default nodes */
  quorum?: 'nodes' | 'disks';
  /** Exclusive: one node writes, and another takes over when it is gone. @default shared */
  access?: 'shared' | 'exclusive';
  /** raid10 on four members, raid5 on three: of chunks of 16 KiB. @default raid1 */
  level?: 'raid1' | 'raid10' | 'raid5';
  /** 2: a shared mirror on two or three disks more beside it. @default 1 */
  arrays?: 1 | 2;
}

export interface CampaignOptions {
  seed: number;
  /** @default drawn from the seed, 3 most of the time */
  nodes?: number;
  /** Of the cluster's time, until the faults end. @default 0.05 */
  hours?: number;
  /** Only faults whose names contain one of these words. */
  faults?: readonly string[];
  /** Between two faults, in the mean. @default drawn from the seed: 2.5 to 30 s */
  faultsEveryMs?: number;
  setting?: Setting;
  /** What comes after the faults: the cluster comes to rest, and disks are compared. @default true */
  calm?: boolean;
  onProgress?: (simulatedMs: number) => void;
}

export interface Outcome {
  seed: number;
  nodes: number;
  simulatedMs: number;
  violation: Violation | null;
  acknowledged: number;
  reads: number;
  commits: number;
  /** How many befell it. */
  faults: number;
  transcript: string;
}

/** Progress once faults stop: each of these within a bounded time. */
function progressOnceFaultsStop(): void {}

class Campaign extends Stage {
  readonly ground: Ground;
  readonly #seed: number;
  #faultsMeanMs = 5000;
  #wishesMeanMs = 12_000;
  #over = false;
  /** The disks are compared: nothing is written any more. */
  #judging = false;
  readonly #arrays = ['md0'];
  #misfortunes: Misfortunes | null = null;

  private constructor(
    seed: number,
    cluster: SimCluster,
    time: VirtualTime,
    random: () => number,
    transcript: Transcript,
  ) {
    const ground = new Ground(cluster, (who, text) => transcript.say(who, text));
    super({ cluster, time, random, transcript, moments: ground.moments, applications: ground.applications }, (node) =>
      ground.crashed(node),
    );
    this.#seed = seed;
    this.ground = ground;
  }

  static async begin({ seed, nodes, setting = {} }: CampaignOptions): Promise<Campaign> {
    const time = new VirtualTime();
    const random = seededRandom(seed * 7919 + 17);
    const transcript = new Transcript(time.clock);
    const count = nodes ?? [3, 3, 3, 3, 2, 4, 5][Math.floor(random() * 7)] ?? 3;
    const members = MEMBERS[setting.level ?? 'raid1'];
    const disks = Math.max(2 + Math.floor(random() * 3), setting.legs ?? 0, members + (seed % 2));
    // Two legs, and a spare now and then.
    const more = setting.arrays === 2 ? 2 + (seed % 2) : 0;
    const drawn = [random(), random()] as const;
    const fencing = setting.fencing ?? (drawn[0] < 0.45 ? 'command' : drawn[0] < 0.7 ? 'reservation' : 'watchdog');
    const policy = setting.policy ?? (drawn[1] < 0.6 ? 'fail-member' : 'drop-node');
    const check = { everySeconds: random() < 0.3 ? 60 : 86_400 * 30, fromMinute: 0, toMinute: 0 };
    const cluster = await SimCluster.create({
      time,
      seed,
      nodes: count,
      diskMib: [...Array(disks + more).fill(DISK_MIB), ...(setting.quorum === 'disks' ? [WITNESS_MIB] : [])],
      ...(setting.quorum === 'disks' && { quorum: { by: 'disks', witness: `/dev/${diskName(disks + more)}` } }),
      delayMs: 0.2 + random() * 2,
      fencing: [fencing],
      pathLoss: { policy, waitMs: 3000 },
      check,
      log: (node, level, text, fields) => transcript.heard(node, level, text, fields),
    });
    const campaign = new Campaign(seed, cluster, time, random, transcript);
    transcript.say(
      'setting',
      `seed ${seed}: ${count} nodes, ${disks} disks, fencing by ${fencing}, path loss ${policy}, ${setting.quorum ?? 'nodes'} decide`,
    );
    for (const node of cluster.nodes) {
      if (random() < 0.5)
        cluster.paceClock(node, CLOCK_PACES.slowest + (CLOCK_PACES.fastest - CLOCK_PACES.slowest) * random());
    }
    campaign.#faultsMeanMs = campaign.between(2500, 30_000);
    await campaign.#createArray(disks, setting);
    return campaign;
  }

  get faults(): number {
    return this.#misfortunes?.count ?? 0;
  }

  // --- the story ------------------------------------------------------------------------------------------------------

  async #createArray(disks: number, setting: Setting): Promise<void> {
    const { cluster, ground, random } = this;
    await cluster.boot(...cluster.nodes);
    await this.#until('a first master', CALM_WITHIN_MS, () => this.oneMaster());
    const { level = 'raid1', access = level === 'raid5' ? 'exclusive' : 'shared' } = setting;
    const drawnLegs = () => (disks > 2 && random() < 0.4 ? 3 : 2);
    const legs = level === 'raid1' ? (setting.legs ?? drawnLegs()) : MEMBERS[level];
    const all = cluster.disks().map((name) => `/dev/${name}`);
    const devices = all.slice(0, disks);
    const drawn = random() < 0.5;
    const bitmap = setting.bitmap ?? drawn;
    const spares = disks - legs;
    const shape = level === 'raid1' ? {} : { level, chunkKib: CHUNK_KIB };
    const created = await cluster.request(
      1,
      mirrorOf(devices, { spares, access, ...shape, ...(bitmap && { bitmap: 'internal' }) }),
    );
    if (!created.ok) throw new Error(`seed ${this.#seed}: the array was not created: ${created.text}`);
    this.transcript.say(
      'setting',
      `md0: ${level}, ${access}, ${legs} legs, ${disks - legs} spares, ${bitmap ? 'bitmaps' : 'no bitmap'}`,
    );
    if (random() < 0.5)
      await this.#until('a first copy', CALM_WITHIN_MS, () => ground.recordOf('md0')?.resync === null);
    const everyMs = this.between(60, 400);
    for (const node of cluster.nodes) {
      const firstBlock = (node - 1) * BLOCKS;
      ground.addApplication({ node, md: 'md0', firstBlock, blocks: BLOCKS, everyMs });
    }
    if (setting.arrays === 2) await this.#createSecond(all.slice(disks), everyMs);
  }

  async #createSecond(devices: readonly string[], everyMs: number): Promise<void> {
    const { cluster, ground, random } = this;
    const bitmap = random() < 0.5;
    const more = { md: 'md1', spares: devices.length - 2, ...(bitmap && { bitmap: 'internal' as const }) };
    const created = await cluster.request(1, mirrorOf([...devices], more));
    if (!created.ok) throw new Error(`seed ${this.#seed}: the second array was not created: ${created.text}`);
    this.#arrays.push('md1');
    this.transcript.say(
      'setting',
      `md1: raid1, shared, 2 legs, ${more.spares} spares, ${bitmap ? 'bitmaps' : 'no bitmap'}`,
    );
    // No block has the number of one in the other array.
    for (const node of cluster.nodes) {
      const firstBlock = (cluster.nodes.length + node - 1) * BLOCKS;
      ground.addApplication({ node, md: 'md1', firstBlock, blocks: BLOCKS, everyMs });
    }
  }

  get violation(): Violation | null {
    return this.ground.violation;
  }

  judge(checker: { name: string }, text: string | null): void {
    this.ground.judge(checker, text);
  }

  step(): void {
    this.ground.step();
  }

  async #until(what: string, withinMs: number, look: () => boolean): Promise<void> {
    await this.until(progressOnceFaultsStop, what, withinMs, look);
  }

  async run({
    hours = 0.05,
    faults,
    faultsEveryMs,
    setting = {},
    calm = true,
    onProgress = () => undefined,
  }: CampaignOptions): Promise<void> {
    const all = setting.quorum === 'disks' ? [...FAULTS, ...AT_QUORUM_DISKS] : FAULTS;
    this.#misfortunes = new Misfortunes(this, faultsNamed(faults, all, BY_NAME), faultsEveryMs ?? this.#faultsMeanMs);
    this.#applicationsGoOn();
    this.#readersGoOn();
    this.#misfortunes.begin();
    this.#operatorsGoOn();
    const endMs = this.time.clock() + hours * HOUR_MS;
    // What is left may be too little to be added to the clock.
    while (endMs - this.time.clock() > 1e-3 && this.ground.violation === null) {
      await this.pass(Math.min(endMs - this.time.clock(), 10_000));
      onProgress(this.time.clock());
    }
    if (calm && this.ground.violation === null) await this.#calm();
  }

  /** Each application runs as long as its machine has power, and begins anew at the next boot. */
  #applicationsGoOn(): void {
    const { cluster, ground } = this;
    const boots = new Map<Application, number>();
    const tick = (): void => {
      for (const application of ground.applications) {
        const { node, md } = application;
        const driver = cluster.driver(node);
        // A file system is there when the array is, and its writes fail when it is taken away; none is begun meanwhile.
        const there = cluster.isUp(node) && driver.observe(md) !== null;
        if (!there || this.#judging) application.abandon();
        else if (boots.get(application) !== driver.boots || application.stopped) {
          boots.set(application, driver.boots);
          application.start();
        }
      }
      ground.look();
      this.later(LOOK_EVERY_MS, tick);
    };
    tick();
  }

  #readersGoOn(): void {
    const { cluster, ground } = this;
    const tick = (): void => {
      const reader = this.pick(cluster.up());
      // What a crash left in doubt is read most: of that there could be two stories.
      const crashed = ground.applications.filter(({ node }) => !cluster.isUp(node));
      const inDoubt = crashed.length > 0;
      const application = this.pick(inDoubt && this.random() < 0.7 ? crashed : ground.applications);
      if (reader !== undefined && application !== undefined) {
        const { firstBlock, blocks } = application.region;
        const doubtful = this.random() < 0.7 ? this.pick(application.inDoubt()) : undefined;
        void ground.read(reader, application, doubtful ?? firstBlock + Math.floor(this.random() * blocks));
      }
      this.later(inDoubt ? this.between(5, 60) : this.between(20, 300), tick);
    };
    tick();
  }

  #operatorsGoOn(): void {
    const next = (): void => {
      if (this.#over) return;
      const node = this.pick(this.cluster.up());
      if (node !== undefined) void this.asks(node, this.#trusts() ?? operatorWish(this, this.#arrays));
      this.later(-Math.log(1 - this.random()) * this.#wishesMeanMs, next);
    };
    this.later(this.random() * this.#wishesMeanMs, next);
  }

  /** Now and then one decides on what is in doubt. */
  #trusts(): Request | null {
    if (this.ground.recordOf('md0')?.parityInDoubt !== true || this.random() < 0.5) return null;
    return { verb: 'assemble', array: 'md0', force: true };
  }

  // --- the end --------------------------------------------------------------------------------------------------------

  async #calm(): Promise<void> {
    const { ground } = this;
    this.#over = true;
    this.#misfortunes?.end();
    await this.#until('one master that all follow', CALM_WITHIN_MS, () => this.oneMaster());
    for (const md of this.#arrays) await this.#madeWhole(md);
    const before = new Map(ground.applications.map((each) => [each, each.acknowledged]));
    const writesHere = ({ node, md }: Application): boolean => {
      const record = ground.recordOf(md);
      return record?.access !== 'exclusive' || record.owner === node;
    };
    await this.#until('every application writes on', WRITES_WITHIN_MS, () =>
      ground.applications.every((each) => !writesHere(each) || each.acknowledged > (before.get(each) ?? 0)),
    );
    if (ground.violation !== null) return;
    this.#judging = true;
    for (const application of ground.applications) application.abandon();
    await this.pass(1000);
    for (const md of this.#arrays) this.#judgeDisks(md);
  }

  /** What an operator does afterwards: starts what was stopped, lets go on what was halted, gives failed disks back. */
  async #madeWhole(md: string): Promise<void> {
    const { cluster } = this;
    const ask = this.patientAsker();
    await this.#until('the array is whole and open on every node', CALM_WITHIN_MS, () => {
      if (!this.oneMaster()) return false;
      const arrays = cluster.status(1)?.arrays ?? [];
      const array = arrays.find(({ record }) => record.md === md);
      if (array === undefined) return false;
      const { record, paths } = array;
      if (record.parityInDoubt === true) return ask({ verb: 'assemble', array: md, force: true });
      if (record.run === 'stopped') return ask({ verb: 'assemble', array: md });
      if (record.resync?.halted === true) return ask({ verb: 'action', array: md, action: 'idle' });
      if (record.syncLimitKib !== null) return ask({ verb: 'sync-limit', array: md, limitKib: null });
      // As --remove failed does: by its UUID where its disk bears no superblock any more.
      const failed = record.members.find(({ role }) => role === 'faulty');
      const device = failed && (paths[failed.uuid] ?? failed.uuid);
      if (device !== undefined) return ask({ verb: 'remove', array: md, device });
      const others = arrays.filter((each) => each !== array).flatMap((each) => Object.values(each.paths));
      const used = new Set([...others, ...Object.values(paths)]);
      const free = cluster
        .disks()
        .map((name) => `/dev/${name}`)
        .find((path) => !used.has(path));
      const legs = record.members.filter(({ role }) => role === 'active').length;
      if (legs < record.raidDisks && free !== undefined && record.resync === null) {
        return ask({ verb: 'add', array: md, device: free, force: true });
      }
      // Grown, by force, to more legs than there are disks.
      if (cluster.disks().length - others.length < record.raidDisks && record.resync === null)
        return ask({ verb: 'grow-devices', array: md, raidDisks: legs, force: false });
      if (
        legs < record.raidDisks ||
        record.resync !== null ||
        record.members.some(({ replaces }) => replaces !== undefined)
      )
        return false;
      return this.isOpenOnAll(record);
    });
  }

  #judgeDisks(md: string): void {
    const { cluster, ground } = this;
    const array = cluster.status(1)?.arrays.find(({ record }) => record.md === md);
    if (array === undefined || ground.violation !== null) return;
    const { record } = array;
    const applications = ground.applications.filter((application) => application.md === md);
    if (!ground.parityInDoubt) ground.judge(noWriteLost, noWriteLost(cluster, record, applications));
    ground.judge(legsAgree, legsAgree(cluster, record));
  }
}

export async function runCampaign(options: CampaignOptions): Promise<Outcome> {
  const { seed } = options;
  const campaign = await Campaign.begin(options);
  const { cluster, ground, transcript } = campaign;
  await campaign.run(options);
  const simulatedMs = cluster.time.clock();
  cluster.close();
  return {
    seed,
    nodes: cluster.nodes.length,
    simulatedMs,
    violation: ground.violation,
    acknowledged: ground.applications.reduce((sum, { acknowledged }) => sum + acknowledged, 0),
    reads: ground.reads,
    commits: ground.commits,
    faults: campaign.faults,
    transcript: transcript.text(),
  };
}
