/**
 * A cluster of real agents in one process: simulated kernels over shared simulated disks, a net of memory, one clock for
 * all. With a VirtualTime everything follows from the seed; with realTime() people can watch it.
 *
 * What outlives a power cut is kept here, as a disk would keep it: disks, vote, boot number, journal. Everything else of
 * a node ends with its power.
 */
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { Agent, type AgentLog, OpenedEvents, type StateFiles, type StoredEnd, type Timers } from '#src/agent/index.ts';
import { CHECK_SCHEDULE, type CheckSchedule } from '#src/arrays/check_schedule.ts';
import type { Inheritance } from '#src/arrays/estate.ts';
import { PATH_LOSS, type PathLossOptions } from '#src/arrays/path_loss.ts';
import type { NodeId } from '#src/arrays/record.ts';
import { type Config, LAN, type NodeConfig, type Timing } from '#src/config/index.ts';
import { createFencing, type FencingMethod } from '#src/fencing/index.ts';
import { type Journal, Notary } from '#src/journal/index.ts';
import type { StoredVote } from '#src/lease/index.ts';
import type { ArrayObservation } from '#src/md/driver.ts';
import { SimulatedStorage, simulatedDriver } from '#src/md/index.ts';
import type { SimulatedNode } from '#src/md/simulated.ts';
import { type SimulatedTime, seededRandom, VirtualTime } from '#src/md/simulated_time.ts';
import { type MemoryHub, memoryHub, memoryNet } from '#src/net/index.ts';
import { DESCRIPTIONS, type Description } from '#src/outlets/event_descriptions.ts';
import type { Status } from '#src/outlets/index.ts';
import type { NodeList, StoredLists } from '#src/roster/index.ts';
import { type Identity, publicKeyOfPeerId } from '#src/wire/index.ts';
import type { Event, Request } from '#src/wire/messages.ts';
import { DiskJournal } from './disk_journal.ts';
import { NodeClock } from './node_clock.ts';
import { ProcessLife } from './process_life.ts';

export const CLUSTER_UUID = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001';
const SECTORS_PER_MIB = 2048;
/** An fsync of the vote. */
const STORE_MS = 2;
/** Until somebody has heard of it and is there; and until the machine is on again. */
const RESET_MS = 10_000;
/** From the order to switch a node off until the power switch vouches for it. */
const FENCE_MS = 150;
const PET_EVERY_MS = 500;
/** What the unit's ExecStopPost takes to come to hold the arrays of an agent that was killed. */
const DROP_WRITES_MS = 100;

export interface SimOptions {
  time: SimulatedTime;
  /** @default 1 */
  seed?: number;
  /** @default 3 */
  nodes?: number;
  /** Machines beyond the nodes of the list: off, and in nobody's file. @default 0 */
  spareMachines?: number;
  /** One shared disk each: /dev/sda, /dev/sdb, … under the same name on every node. @default three of 8 MiB */
  diskMib?: readonly number[];
  /** One way. @default 0.2 */
  delayMs?: number;
  timing?: Partial<Timing>;
  pathLoss?: PathLossOptions;
  check?: CheckSchedule;
  /** @default a command that switches the node off */
  fencing?: FencingMethod[];
  quorum?: Config['quorum'];
  /** When checkpoints of the journals are signed. @default as the configuration has it */
  checkpoints?: { entries: number; afterMs: number };
  log?: (node: NodeId, level: keyof AgentLog, text: string, fields: object) => void;
}

/** What of a node's configuration file a story may change. */
export interface SimFile {
  nodes: NodeConfig[];
  timing: Timing;
}

/** The disk with a node's vote: `slow` takes a second and more for an fsync, `broken` stores nothing. */
export type StateDisk = 'fine' | 'slow' | 'broken';

/** One machine, whether its power is on or not. */
interface Machine {
  identity: Identity;
  file: SimFile;
  lists: StoredLists | null;
  readonly clock: NodeClock;
  readonly driver: SimulatedNode;
  readonly journal: DiskJournal;
  vote: StoredVote | null;
  /** On its way to the disk; who knows whether it gets there when the power goes. */
  voteAfloat: StoredVote | null;
  stateDisk: StateDisk;
  bootNumber: number;
  end: StoredEnd | null;
  powered: boolean;
  /** In the cluster's time: when its power went. */
  offSinceMs: number;
  /** null: off, booting, or ended. */
  agent: Agent | null;
  life: ProcessLife;
  starting: boolean;
  /** What people's clocks on it are off by. */
  wallOffMs: number;
  /** Ends what of the present agent is no part of it. */
  unplug: () => void;
  /** Calls the reset off that a watchdog is about to make. */
  petted: () => void;
  /** The whole machine stands still: its kernel too. */
  suspended: boolean;
  /** Since when its agent runs, or has gone on after standing still. */
  awakeSinceMs: number;
}

async function identityFrom(random: () => number): Promise<Identity> {
  const seed = Uint8Array.from({ length: 32 }, () => Math.floor(random() * 256));
  const privateKey = await generateKeyPairFromSeed('Ed25519', seed);
  return { privateKey, peerId: peerIdFromPrivateKey(privateKey).toString() };
}

/** `sda` is the first. */
export function diskName(index: number): string {
  return `sd${String.fromCharCode(97 + index)}`;
}

/** To be asked of a cluster: md0 as a mirror of these, the last of them spares. @param other what differs */
export function mirrorOf(
  devices: readonly string[],
  other: Partial<Extract<Request, { verb: 'create' }>> = {},
): Extract<Request, { verb: 'create' }> {
  const { spares = 0 } = other;
  return {
    verb: 'create',
    md: 'md0',
    level: 'raid1',
    raidDisks: devices.length - spares,
    access: 'shared',
    devices: [...devices],
    spares,
    assumeClean: false,
    force: false,
    ...other,
  };
}

export class SimCluster {
  /** Of every machine, listed or not. */
  readonly nodes: readonly NodeId[];
  readonly time: SimulatedTime;
  readonly storage = new SimulatedStorage();
  readonly hub: MemoryHub;
  /** Who asked for whose power, in order. */
  readonly fenced: { by: NodeId; node: NodeId; atMs: number }[] = [];
  /** The power switch does what it is told. */
  powerSwitchWorks = true;
  /** Told when a machine loses its power, by whoever's doing. */
  onCrash: ((node: NodeId) => void) | null = null;
  /** Told when a node begins to store a vote. */
  onStore: ((node: NodeId) => void) | null = null;
  /** Told when an agent has been built, before it starts. */
  onAgent: ((node: NodeId, agent: Agent) => void) | null = null;
  readonly #options: SimOptions;
  readonly #random: () => number;
  readonly #machines = new Map<NodeId, Machine>();
  readonly #opened = new OpenedEvents();

  private constructor(options: SimOptions) {
    const seed = options.seed ?? 1;
    this.#options = options;
    this.time = options.time;
    this.#random = seededRandom(seed);
    const machines = (options.nodes ?? 3) + (options.spareMachines ?? 0);
    this.nodes = Array.from({ length: machines }, (_, index) => index + 1);
    this.hub = memoryHub({
      now: () => this.time.clock(),
      schedule: (delayMs, run) => this.time.schedule(this.time.clock() + delayMs, run),
      random: seededRandom(seed + 1000),
      delayMs: options.delayMs ?? 0.2,
    });
  }

  /** Names of those that arrays are made of: without a witness. */
  disks(): string[] {
    const witness = this.#options.quorum?.witness ?? null;
    return this.storage.names().filter((name) => `/dev/${name}` !== witness);
  }

  /** Disks and machines, all switched off. */
  static async create(options: SimOptions): Promise<SimCluster> {
    const cluster = new SimCluster(options);
    for (const [index, mib] of (options.diskMib ?? [8, 8, 8]).entries()) {
      cluster.storage.addDisk(diskName(index), mib * SECTORS_PER_MIB);
    }
    for (const node of cluster.nodes) {
      const clock = new NodeClock(cluster.time);
      const { time } = cluster;
      const journal = new DiskJournal({
        now: () => cluster.#wall(node),
        after: (delayMs, run) => time.schedule(time.clock() + delayMs, run),
      });
      journal.onAppend(({ event }) => assertDescribed(event));
      cluster.#machines.set(node, {
        identity: await identityFrom(cluster.#random),
        file: { nodes: [], timing: { ...LAN, ...options.timing } },
        lists: null,
        clock,
        driver: simulatedDriver({
          storage: cluster.storage,
          node,
          clock: clock.now,
          schedule: clock.schedule,
          random: seededRandom((options.seed ?? 1) * 100 + node),
        }),
        journal,
        // As keygen leaves it on a new node: it has never voted.
        vote: { term: 0, candidate: null, promise: { holder: null, untilMs: 0, kernelBoot: '' } },
        voteAfloat: null,
        stateDisk: 'fine',
        bootNumber: 0,
        end: null,
        powered: false,
        offSinceMs: 0,
        agent: null,
        life: new ProcessLife(),
        starting: false,
        wallOffMs: 0,
        unplug: () => undefined,
        petted: () => undefined,
        suspended: false,
        awakeSinceMs: 0,
      });
    }
    const listed = cluster.nodes.slice(0, options.nodes ?? 3).map((node) => cluster.entry(node));
    for (const node of cluster.nodes) cluster.#machine(node).file.nodes = listed;
    return cluster;
  }

  /** All machines on, and one master that all follow. */
  static async start(options: SimOptions): Promise<SimCluster> {
    const cluster = await SimCluster.create(options);
    await cluster.boot(...cluster.nodes.slice(0, options.nodes ?? 3));
    await cluster.master();
    return cluster;
  }

  // --- machines -------------------------------------------------------------------------------------------------------

  driver(node: NodeId): SimulatedNode {
    return this.#machine(node).driver;
  }

  /** The node list's public halves, as an auditor has them: from node 1's file. */
  peerIds(): Map<NodeId, string> {
    return new Map(this.file(1).nodes.map(({ id, peerId }) => [id, peerId]));
  }

  /** A line of a node list. */
  entry(node: NodeId): NodeConfig {
    return { id: node, address: `10.77.0.${node}`, port: 7946, peerId: this.#machine(node).identity.peerId };
  }

  file(node: NodeId): SimFile {
    return this.#machine(node).file;
  }

  /** As an editor does: the agent knows nothing of it before `reload`, or its next start. */
  write(nodes: readonly NodeId[], change: Partial<SimFile>): void {
    for (const node of nodes) Object.assign(this.#machine(node).file, change);
  }

  /** `mdmesh reload`. */
  async reload(node: NodeId): Promise<{ ok: boolean; text: string }> {
    const { agent, identity } = this.#machine(node);
    if (agent === null) return { ok: false, text: `node ${node} is switched off` };
    return this.driven(`reload of node ${node}`, agent.reload(this.#config(node), identity));
  }

  newKey(): Promise<Identity> {
    return identityFrom(this.#random);
  }

  /** What the agent goes by; null: it is off. */
  config(node: NodeId): Config | null {
    return this.#machine(node).agent?.parts.config ?? null;
  }

  /** The newest list that outlives a power cut there. */
  stored(node: NodeId): NodeList | null {
    const { lists } = this.#machine(node);
    return lists === null ? null : (lists.pending ?? lists.agreed);
  }

  /** As if `node` had passed it on. */
  gossipFrom(node: NodeId, sealed: Uint8Array): void {
    this.#machine(node).agent?.parts.net.publish(sealed);
  }

  /** Puts another key into the key file; the agent has the old one in use until `reload`. */
  useKey(node: NodeId, identity: Identity): void {
    this.#machine(node).identity = identity;
  }

  identity(node: NodeId): Identity {
    return this.#machine(node).identity;
  }

  journal(node: NodeId): Journal & Pick<DiskJournal, 'fill' | 'empty'> {
    return this.#machine(node).journal;
  }

  isUp(node: NodeId): boolean {
    return this.#machine(node).powered;
  }

  /** 0: it is on. */
  offForMs(node: NodeId): number {
    return this.isUp(node) ? 0 : this.time.clock() - this.#machine(node).offSinceMs;
  }

  /** Nodes whose power is on. */
  up(): NodeId[] {
    return this.nodes.filter((node) => this.isUp(node));
  }

  /** Power on, kernel and agent, all in the same instant: the first boot, or one after a power cut. */
  async boot(...nodes: NodeId[]): Promise<void> {
    await this.driven(`agents started on ${nodes.join(', ')}`, Promise.all(nodes.map((node) => this.powerOn(node))));
  }

  /** As `boot`, for those who let time pass themselves. */
  async powerOn(node: NodeId): Promise<void> {
    const machine = this.#machine(node);
    if (machine.powered) throw new Error(`node ${node} is on already`);
    machine.powered = true;
    if (machine.driver.down) {
      machine.driver.boot();
      machine.clock.reboot();
    }
    for (const other of this.up()) if (other !== node) this.hub.heal(node, other);
    await this.startAgent(node);
  }

  /** The agent alone, on a kernel that runs: after `killAgent` or `stopAgent`. Nothing where one runs, or the power is off. */
  async startAgent(node: NodeId): Promise<void> {
    const machine = this.#machine(node);
    if (!machine.powered || machine.agent !== null || machine.starting) return;
    await this.#start(machine, node);
  }

  /**
   * `mdmesh hand-over`. So long after the agent has made way, while the guard of its process keeps the deadline, the successor has its
   * journal and vote file and is the agent; or both have died by then.
   */
  async handOver(node: NodeId, gapMs: number, bothDie = false): Promise<void> {
    const machine = this.#machine(node);
    const { agent, life } = machine;
    if (agent === null || life.stalled) return;
    const inherited = await Promise.race([agent.makeWay().catch(() => null), life.over]);
    if (!inherited || life.ended) return;
    machine.unplug();
    machine.agent = null;
    machine.starting = true;
    await new Promise<void>((resolve) => machine.clock.schedule(machine.clock.now() + gapMs, resolve));
    if (life.ended) return;
    life.end();
    machine.starting = false;
    if (bothDie) this.#processDied(machine, node);
    else {
      await machine.driver.inherit(inherited.grantUntilMs);
      await this.#start(machine, node, inherited);
    }
  }

  async #start(machine: Machine, node: NodeId, inherited?: Inheritance): Promise<void> {
    machine.starting = true;
    machine.petted();
    machine.awakeSinceMs = this.time.clock();
    const life = new ProcessLife();
    machine.life = life;
    const timers = this.#timers(machine, life, node);
    const { config, files, log } = {
      config: this.#config(node),
      files: this.#files(machine, node),
      log: this.#log(node),
    };
    const boot = { boot: this.#uuid(), bootNumber: await files.nextBootNumber(1) };
    const { journal } = machine;
    const agent = await Agent.create({
      config,
      identity: machine.identity,
      driver: life.face(machine.driver),
      net: memoryNet(this.hub, {
        cluster: CLUSTER_UUID,
        self: node,
        nodes: config.nodes,
        hello: { ...boot, version: 'simulated' },
        schedule: (delayMs, run) => timers.after(delayMs, run),
      }),
      journal: life.face(journal),
      fencing: createFencing({
        config,
        clock: () => machine.driver.now(),
        schedule: (delayMs, run) => timers.after(delayMs, run),
        run: (_argv, input) => life.seen(this.#fence(node, Number(/^nodeid=(\d+)$/m.exec(input)?.[1]))),
        onEvent: (note) => log.info(note, note.text),
      }),
      files: life.face(files),
      boot,
      timers,
      uuid: () => this.#uuid(),
      log,
      version: 'simulated',
      opened: this.#opened,
      ...(inherited === undefined ? {} : { inherited }),
    });
    if (life.ended) return;
    machine.starting = false;
    machine.agent = agent;
    const notary = new Notary({
      journal,
      cluster: CLUSTER_UUID,
      self: node,
      key: machine.identity.privateKey,
      keys: new Map(config.nodes.map(({ id, peerId }) => [id, [publicKeyOfPeerId(peerId)]])),
      entries: config.journal.checkpointEntries,
      afterMs: config.journal.checkpointAfterMs,
      schedule: (delayMs, run) => timers.after(delayMs, run),
      wall: () => timers.wall(),
      tell: (body) => agent.tell(body),
      log: (level, text) => log[level]({}, text),
    });
    agent.onKeys = (keys) => notary.goBy(keys, agent.parts.identity.privateKey);
    machine.unplug = () => notary.end();
    if (this.#isWatched) {
      await machine.driver.startWatchdog('/dev/watchdog', Math.ceil(config.timing.watchdogMs / 1000));
      this.#petOn(machine, node, life);
    }
    // Told that it cannot go on, somebody resets the node.
    agent.onFatal = (why) => {
      if (!why.includes('must be fenced or reset')) return;
      machine.clock.schedule(machine.clock.now() + RESET_MS, () => {
        if (machine.life !== life || life.ended) return;
        this.crash(node);
        this.time.schedule(this.time.clock() + RESET_MS, () => {
          if (!machine.powered) void this.powerOn(node);
        });
      });
    };
    this.onAgent?.(node, agent);
    notary.start();
    await life.seen(Promise.race([agent.start(), life.over]));
  }

  /** Power off, at once: writes in flight may be torn, and nobody is told, as nobody would be. */
  crash(node: NodeId): void {
    const machine = this.#machine(node);
    if (!machine.powered) return;
    for (const other of this.nodes) if (other !== node) this.hub.cut(node, other);
    machine.driver.crash();
    this.#endLife(machine);
    this.hub.thaw(node);
    machine.journal.cut();
    machine.petted();
    machine.suspended = false;
    machine.powered = false;
    machine.offSinceMs = this.time.clock();
    this.onCrash?.(node);
  }

  #endLife(machine: Machine): void {
    machine.life.end();
    this.#storesNoMore(machine);
    machine.unplug();
    void machine.agent?.crash();
    machine.agent = null;
    machine.starting = false;
  }

  /**
   * kill -9: the kernel goes on, nobody keeps its deadlines, and a moment later its arrays are held from outside. On a machine that
   * stands still nobody is there to do it.
   */
  killAgent(node: NodeId): void {
    const machine = this.#machine(node);
    if (machine.agent === null || machine.suspended) return;
    this.#endLife(machine);
    machine.journal.cut();
    this.#processDied(machine, node);
  }

  /** What it was storing has taken the old file's place, or never will: whoever starts next finds one of them, and that one stays. */
  #storesNoMore(machine: Machine): void {
    if (machine.voteAfloat !== null && this.#random() < 1 / 2) machine.vote = machine.voteAfloat;
    machine.voteAfloat = null;
  }

  #processDied(machine: Machine, node: NodeId): void {
    const { life } = machine;
    machine.driver.agentDied();
    this.hub.thaw(node);
    machine.clock.schedule(machine.clock.now() + DROP_WRITES_MS, () => {
      if (machine.powered && machine.life === life) void machine.driver.dropWrites();
    });
    this.#watchdog(machine, node);
  }

  /** The agent says goodbye and ends; the machine stays on. */
  async stopAgent(node: NodeId): Promise<void> {
    const machine = this.#machine(node);
    const { agent, life } = machine;
    if (agent === null) return;
    await Promise.race([agent.stop('asked to'), life.over]);
    if (life.ended) return;
    await machine.driver.stopWatchdog();
    this.#endLife(machine);
    machine.driver.agentDied();
  }

  /** Who takes over shuts the former holder out of the members, and with that off what it had on its way. */
  get callsBack(): boolean {
    return this.#options.fencing?.includes('reservation') ?? false;
  }

  get #isWatched(): boolean {
    return this.#options.fencing?.includes('watchdog') ?? false;
  }

  /** As the guard does: while the grant lives, or every array is held (native-addon/guard.h). */
  #petOn(machine: Machine, node: NodeId, life: ProcessLife): void {
    const { clock, driver } = machine;
    const { watchdogMs } = this.#config(node).timing;
    let petMs = clock.now();
    const look = (): void => {
      if (life.ended || machine.life !== life) return;
      // Who stands still, or goes on after it, has a watchdog of its own (`freeze`, `thaw`).
      const seen = driver.running().map(({ md }) => driver.observe(md));
      if (life.stalled || driver.guard.grantLive || seen.every((array) => array === null || isHeld(array)))
        petMs = clock.now();
      else if (clock.now() - petMs >= watchdogMs) this.crash(node);
      clock.schedule(clock.now() + PET_EVERY_MS, look);
    };
    look();
  }

  /** Nobody pets it: it resets the node in W, unless an agent is back, or goes on, before. */
  #watchdog(machine: Machine, node: NodeId): void {
    if (!this.#isWatched) return;
    const { watchdogMs } = this.#config(node).timing;
    machine.petted = machine.clock.schedule(machine.clock.now() + watchdogMs, () => this.crash(node));
  }

  /**
   * `machine`: a suspend, of which its BOOTTIME tells afterwards. `process`: the agent with its guard (SIGSTOP); the kernel goes on
   * writing. `loop`: JavaScript alone (a collection, a call that blocks); the guard keeps its deadlines.
   */
  freeze(node: NodeId, what: 'machine' | 'process' | 'loop'): void {
    const machine = this.#machine(node);
    if (machine.agent === null || machine.life.stalled) return;
    machine.life.stall();
    this.hub.freeze(node);
    if (what === 'machine') {
      machine.suspended = true;
      machine.driver.pause();
    }
    if (what === 'process') machine.driver.guard.stall();
    // The hardware does not suspend with the machine; a guard that runs goes on petting for a while.
    if (what !== 'loop') this.#watchdog(machine, node);
  }

  thaw(node: NodeId): void {
    const machine = this.#machine(node);
    if (!machine.powered || !machine.life.stalled) return;
    machine.petted();
    machine.awakeSinceMs = this.time.clock();
    machine.suspended = false;
    // Deadlines first, as the kernel wakes the threads that wait for them.
    machine.driver.resume();
    machine.driver.guard.goOn();
    this.hub.thaw(node);
    machine.life.goOn();
  }

  /** BOOTTIME of this node runs so fast from now on. */
  paceClock(node: NodeId, rate: number): void {
    this.#machine(node).clock.pace(rate);
  }

  /** The cluster's time at which this node's BOOTTIME will read `atMs`. */
  clusterMs(node: NodeId, atMs: number): number {
    return this.#machine(node).clock.clusterMs(atMs);
  }

  /** The vote file, as it stands on the disk. */
  storedVote(node: NodeId): StoredVote | null {
    return this.#machine(node).vote;
  }

  /** People's clock, which nothing may depend on. */
  setWall(node: NodeId, offMs: number): void {
    this.#machine(node).wallOffMs = offMs;
  }

  stateDisk(node: NodeId, state: StateDisk): void {
    this.#machine(node).stateDisk = state;
  }

  /** The vote file is lost, and the lists in it: the next start finds none. */
  loseVote(node: NodeId): void {
    const machine = this.#machine(node);
    machine.vote = null;
    machine.lists = null;
  }

  /** The agent's process runs, and goes on. */
  isRunning(node: NodeId): boolean {
    const { agent, life } = this.#machine(node);
    return agent !== null && !life.stalled;
  }

  /** How long its agent has run without standing still; it does run. */
  awakeForMs(node: NodeId): number {
    return this.time.clock() - this.#machine(node).awakeSinceMs;
  }

  agent(node: NodeId): Agent | null {
    return this.#machine(node).agent;
  }

  /** All lose power in the same instant. */
  powerCut(): void {
    for (const node of this.nodes) this.crash(node);
  }

  /** Ends what still runs, so that a process under realTime() can end. */
  close(): void {
    this.powerCut();
  }

  // --- what people and tests ask --------------------------------------------------------------------------------------

  /** null: switched off. */
  status(node: NodeId): Status | null {
    return this.#machine(node).agent?.status() ?? null;
  }

  async request(node: NodeId, request: Request): Promise<{ ok: boolean; text: string }> {
    return this.driven(`answer to ${request.verb}`, this.ask(node, request));
  }

  /** As `request`, for those who let time pass themselves. */
  async ask(node: NodeId, request: Request): Promise<{ ok: boolean; text: string }> {
    const { agent, life } = this.#machine(node);
    if (agent === null) return { ok: false, text: `node ${node} is switched off` };
    const gone = life.over.then(() => ({ ok: false, text: `the agent of node ${node} has ended` }));
    return Promise.race([agent.request(request), gone]);
  }

  /** Nodes that hold a live lease in this instant, each by its own clock. */
  masters(): NodeId[] {
    return this.up().filter((node) => {
      const lease = this.status(node)?.lease;
      return lease?.role === 'master' && lease.leaseLeftMs > 0;
    });
  }

  /** The master that every running node follows. */
  master(): Promise<NodeId> {
    return this.until('one master that all follow', () => {
      const seen = new Set(this.up().map((node) => this.status(node)?.lease.master ?? null));
      const [master] = seen;
      return seen.size === 1 && master != null && this.masters().includes(master) ? master : null;
    });
  }

  /** The array is open for writes on every running node, whole in its record, and no copy is under way. */
  async open(md = 'md0'): Promise<void> {
    await this.until(`${md} open on all of ${this.up().join(', ')}`, () =>
      this.up().every((node) => {
        const array = this.status(node)?.arrays.find(({ record }) => record.md === md);
        const local = array?.local;
        if (array === undefined || local == null || local.held || local.writePending) return false;
        return array.record.resync === null && this.up().every((writer) => array.record.writers.includes(writer));
      }),
    );
  }

  /** Lets time pass until `look` gives something. @throws after `limitMs` of the cluster's time */
  async until<T>(what: string, look: () => T | null | undefined | false, limitMs = 120_000): Promise<T> {
    const endMs = this.time.clock() + limitMs;
    for (;;) {
      const seen = look();
      if (seen !== null && seen !== undefined && seen !== false) return seen;
      if (this.time.clock() >= endMs) throw new Error(`after ${limitMs} ms still not: ${what}\n${this.account()}`);
      await this.#moment(endMs);
    }
  }

  /** Lets time pass until a promise that needs it is settled. */
  async driven<T>(what: string, promise: Promise<T>): Promise<T> {
    const state = { settled: false };
    const noted = promise.finally(() => {
      state.settled = true;
    });
    // Whoever awaits it below gets the error; until then nobody does.
    noted.catch(() => undefined);
    await this.until(what, () => state.settled);
    return noted;
  }

  async pass(ms: number): Promise<void> {
    const endMs = this.time.clock() + ms;
    while (this.time.clock() < endMs) await this.#moment(endMs);
  }

  /** How everything stands, for the words of a failure. */
  account(): string {
    const lines = this.nodes.map((node) => {
      const status = this.status(node);
      if (status === null) return `node ${node}: off`;
      const arrays = status.arrays.map(({ record, local, trouble }) => {
        const { run, writers, resync, version } = record;
        return JSON.stringify({ md: record.md, run, writers, resync, version, local, trouble });
      });
      return `node ${node}: ${JSON.stringify(status.lease)} ${JSON.stringify(status.list)} ${arrays.join(' ')}`;
    });
    return lines.join('\n');
  }

  async #moment(untilMs: number): Promise<void> {
    const { time } = this;
    if (!(time instanceof VirtualTime)) {
      await new Promise<void>((resolve) => {
        time.schedule(Math.min(untilMs, time.clock() + 5), resolve);
      });
    } else if (!(await time.step(untilMs))) await time.pass(untilMs - time.clock());
  }

  // --- parts ----------------------------------------------------------------------------------------------------------

  #machine(node: NodeId): Machine {
    const machine = this.#machines.get(node);
    if (machine === undefined)
      throw new Error(`the simulated cluster has nodes 1 to ${this.nodes.length}, not ${node}`);
    return machine;
  }

  async #fence(by: NodeId, node: NodeId): Promise<{ exitCode: number; trouble: null; output: string }> {
    this.fenced.push({ by, node, atMs: this.time.clock() });
    const half = () =>
      new Promise<void>((resolve) => {
        this.time.schedule(this.time.clock() + FENCE_MS / 2, resolve);
      });
    // Neither the order nor the answer takes no time: who acts before the answer acts too early.
    await half();
    const works = this.powerSwitchWorks;
    if (works) this.crash(node);
    await half();
    return works
      ? { exitCode: 0, trouble: null, output: `node ${node} has no power` }
      : { exitCode: 1, trouble: null, output: 'the power switch does not answer' };
  }

  #timers(machine: Machine, life: ProcessLife, node: NodeId): Timers {
    const { clock } = machine;
    const after = (delayMs: number, run: () => void): (() => void) =>
      clock.schedule(clock.now() + delayMs, () => life.when(run));
    const every = (intervalMs: number, run: () => void): (() => void) => {
      let cancel = after(intervalMs, tick);
      function tick(): void {
        cancel = after(intervalMs, tick);
        run();
      }
      return () => cancel();
    };
    return { every, after, wall: () => this.#wall(node) };
  }

  /** Under virtual time a fixed day, so that a run depends on nothing else than its seed. */
  #wall(node: NodeId): Date {
    if (!(this.time instanceof VirtualTime)) return new Date();
    return new Date(Date.UTC(2024, 0, 1) + this.time.clock() + (this.#machines.get(node)?.wallOffMs ?? 0));
  }

  #files(machine: Machine, node: NodeId): Omit<StateFiles, 'forgetLists'> {
    const { life } = machine;
    return {
      loadVote: async () => machine.vote,
      storeVote: (vote) => {
        if (life.ended) return new Promise(() => undefined);
        this.onStore?.(node);
        const { stateDisk } = machine;
        if (stateDisk !== 'broken') machine.voteAfloat = vote;
        const storeMs = stateDisk === 'slow' ? 1000 + 3000 * this.#random() : STORE_MS;
        return new Promise((resolve, reject) => {
          this.time.schedule(this.time.clock() + storeMs, () => {
            if (life.ended) return;
            if (machine.voteAfloat === vote) machine.voteAfloat = null;
            if (stateDisk === 'broken') return reject(new Error('vote.json: no space left on device'));
            machine.vote = vote;
            resolve();
          });
        });
      },
      loadLists: async () => machine.lists,
      storeLists: (lists) =>
        this.#stored(machine, 'vote.json', () => {
          machine.lists = lists;
        }),
      loadEnd: async () => machine.end,
      storeEnd: (end) =>
        this.#stored(machine, 'ended.json', () => {
          machine.end = end;
        }),
      nextBootNumber: async (atLeast) => {
        machine.bootNumber = Math.max(machine.bootNumber + 1, atLeast);
        return machine.bootNumber;
      },
    };
  }

  #stored(machine: Machine, file: string, write: () => void): Promise<void> {
    const { stateDisk, life } = machine;
    return new Promise((resolve, reject) => {
      this.time.schedule(this.time.clock() + STORE_MS, () => {
        if (life.ended) return;
        if (stateDisk === 'broken') return reject(new Error(`${file}: no space left on device`));
        write();
        resolve();
      });
    });
  }

  #uuid(): string {
    const hex = Array.from({ length: 32 }, () => Math.floor(this.#random() * 16).toString(16)).join('');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
  }

  #log(node: NodeId): AgentLog {
    const { log } = this.#options;
    const at = (level: keyof AgentLog) => (fields: object, text: string) => log?.(node, level, text, fields);
    return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  }

  #config(self: NodeId): Config {
    return {
      file: 'simulated',
      cluster: { name: 'demo', uuid: CLUSTER_UUID },
      self,
      nodes: [...this.#machine(self).file.nodes],
      keyFile: '',
      stateDir: '',
      socket: { path: '', modeOctal: 0o600, group: null },
      api: null,
      timing: this.#machine(self).file.timing,
      profile: 'lan',
      quorum: this.#options.quorum ?? { by: 'nodes', witness: null },
      fencing: {
        methods: this.#options.fencing ?? ['command'],
        command: { argv: ['power-off'], timeoutMs: 10_000, options: {}, nodeOptions: {} },
        watchdog: null,
        acceptDataLoss: false,
      },
      arrays: {
        autoAssemble: true,
        devices: ['/dev/sd*'],
        check: this.#options.check ?? CHECK_SCHEDULE,
        pathLoss: this.#options.pathLoss ?? PATH_LOSS,
        copy: { limitKib: null, windowMs: 15, windowMaxSectors: 131_072, checkpointMs: 2000 },
      },
      hooks: [],
      mail: null,
      driver: 'simulated',
      log: { level: 'info' },
      journal: {
        fsyncAfterMs: 50,
        rotateBytes: Number.POSITIVE_INFINITY,
        rotateMs: Number.POSITIVE_INFINITY,
        keepSegments: null,
        checkpointEntries: this.#options.checkpoints?.entries ?? 256,
        checkpointAfterMs: this.#options.checkpoints?.afterMs ?? 600_000,
      },
    };
  }
}

/** No write passes, and no read where it could be held. */
function isHeld({ held, members }: ArrayObservation): boolean {
  return held && members.every(({ path, slot, faulty }) => path !== 'up' || slot === null || faulty);
}

/** What the document of events says of a notice is so in every story that is played. */
function assertDescribed({ body }: Event): void {
  if (body.type !== 'notice') return;
  const [, described] = Object.entries<Description>(DESCRIPTIONS).find(([name]) => name === body.name) ?? [];
  const origins =
    described === undefined ? [] : [described.from, ...(described.also === undefined ? [] : [described.also])];
  if (origins.some((origin) => 'notice' in origin && origin.notice.safeParse(body.detail).success)) return;
  // A journal catches what its listeners throw: this has to end the test.
  queueMicrotask(() => {
    throw new Error(`${body.name} ${JSON.stringify(body.detail)} is not what its description says`);
  });
}
