/**
 * A whole cluster of members and lease cores in one thread, driven by true time that none of its nodes can read: each has
 * a clock of its own rate. It delays, drops and cuts messages, crashes and restarts agents, loses vote files, and checks
 * with every step what must never happen. What the shell around the cores does (seal, verify, fsync, guard) is played here.
 */
import { makeBid } from '../../src/lease/disks.ts';
import {
  grantMayLastUntilMs,
  type LeaseConfig,
  type LeaseEffect,
  type LeaseInput,
  type LeaseState,
  leaseStart,
  leaseStep,
  leaseSummary,
  type StoredVote,
  storedVoteForStop,
  type VerifiedRelease,
} from '../../src/lease/index.ts';
import { listOf, type Turn } from '../../src/lease/state.ts';
import { ownTermAfter } from '../../src/lease/terms.ts';
import { type MembersInput, type MembersState, membersStart, membersStep, view } from '../../src/members/index.ts';
import type { LeaseMessage, SwimMessage } from '../../src/wire/messages.ts';
import { Queue } from './queue.ts';
import { type DiskTimes, SharedDisks } from './shared_disks.ts';

const TICK_MS = 50;
/** True time is a float: instants that are equal by the design (R/0.8 = L/1.2) may differ in the last bits. */
const EPSILON_MS = 1e-6;

export const LAN = {
  holderMs: 2000,
  voterMs: 3000,
  renewMs: 400,
  failbackAfterMs: 10_000,
  settleMs: 2000,
  candidacyTimeoutMs: 600,
} as const;

export interface ClusterOptions {
  nodes: number;
  seed: number;
  /** Rate of each node's clock against true time; 1 where not given. */
  rates?: Readonly<Record<number, number>>;
  delayMs?: { min: number; max: number };
  dropShare?: number;
  fsyncMs?: { min: number; max: number };
  /** Views of the lease cores: what the members cores see, or lies drawn at random. */
  views?: 'members' | 'lies';
  /** Frames of one pair may overtake each other; a stream's never do. */
  unordered?: boolean;
  tickMs?: number;
  /** Fixed delay of single directions, as `2>1`, instead of the drawn one. */
  linksMs?: Readonly<Record<string, number>>;
  narrate?: 'lease' | 'members' | 'none';
  /** An agent that never answers `hand-over`. */
  neverReleases?: boolean;
  /** Disks decide: these. */
  disks?: readonly string[];
  diskMs?: DiskTimes;
  /** The disks have reservations, and shutting a node out, or putting one's own key back, takes so long. */
  reservedMs?: { min: number; max: number };
  /** Hears of everything that the lease cores are given, and of what they make of it. */
  onFact?: (fact: ClusterFact) => void;
}

export type ClusterFact = { node: number; trueMs: number } & (
  | { what: 'start' | 'crash' | 'reboot' | 'lose-file' | 'stop'; of?: number }
  /** What was being written when the agent was killed (or stopped) is on the disk after all. */
  | { what: 'late-write'; of?: number }
  /** The key of `of` was put on the disks, or taken off. */
  | { what: 'key-put' | 'key-taken'; of: number }
  /** It has shut out again, as the master, whom its votes pass over. */
  | { what: 'swept'; of?: number }
  | {
      what: 'step';
      input: LeaseInput;
      before: LeaseState;
      after: LeaseState;
      effects: readonly LeaseEffect[];
      /** True time of a reading of this node's clock. */
      trueOf: (readsMs: number) => number;
    }
);

interface Clock {
  trueMs: number;
  readsMs: number;
  rate: number;
}

interface Node {
  id: number;
  up: boolean;
  frozen: boolean;
  start: number;
  kernelBoot: number;
  clock: Clock;
  members: MembersState;
  lease: LeaseState;
  shownView: string;
  quorate: boolean;
  voteFile: StoredVote | null;
  /** What the native guard was told; it outlives a crash of the agent. */
  guard: { term: number; untilMs: number } | null;
  grant: { term: number; untilMs: number } | null;
  inbox: (() => void)[];
  /** On the disks since then, by its own clock. */
  keyPutMs: number | null;
  registering: boolean;
  /** The term in which it has shut out again whom its votes pass over. */
  sweptTerm: number;
}

type Payload = { room: 'members'; message: SwimMessage } | { room: 'lease'; message: LeaseMessage };

export class Violation extends Error {}

/** mulberry32. */
export function dice(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Cluster {
  readonly lines: string[] = [];
  readonly elections: { node: number; term: number; trueMs: number; shutOut: readonly number[] }[] = [];
  readonly lapses: { node: number; trueMs: number }[] = [];
  /** Sets in force, as their holders told of them. */
  readonly sets: string[] = [];
  readonly disks: SharedDisks;
  /** What the records would have the quorum set be. */
  wanted: readonly string[];
  trueMs = 0;
  dropShare: number;
  #options: ClusterOptions;
  #queue = new Queue();
  #nodes = new Map<number, Node>();
  #cuts = new Set<string>();
  #votes = new Map<string, number>();
  /** True time until which a node's grants of a term are accounted for by that term's master. */
  #accounts = new Map<string, number>();
  #lastArrival = new Map<string, number>();
  #random: () => number;
  /** Share of what a lying view gets right. */
  #honesty: number;

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#random = dice(options.seed);
    this.dropShare = options.dropShare ?? 0;
    this.#honesty = 0.6 + 0.4 * this.#random();
    this.wanted = options.disks ?? [];
    const diskRandom = dice(options.seed * 31 + 7);
    const diskMs = options.diskMs ?? { min: 4, max: 4 };
    this.disks = new SharedDisks(diskMs, diskRandom, (ms, act) => this.after(ms, act));
    for (let id = 1; id <= options.nodes; id++) {
      const clock = { trueMs: 0, readsMs: 1000 * id, rate: options.rates?.[id] ?? 1 };
      const kernelBoot = id * 100;
      const promise = { holder: null, untilMs: clock.readsMs, kernelBoot: String(kernelBoot) };
      // As `mdmesh key` leaves it: the key is new and has never voted.
      const voteFile = { term: 0, candidate: null, promise };
      const node: Node = {
        id,
        up: false,
        frozen: false,
        start: 0,
        kernelBoot,
        clock,
        members: membersStart(this.#membersConfig(id)),
        lease: leaseStart(this.#leaseConfig(id), { vote: voteFile, kernelBoot: String(kernelBoot) }, clock.readsMs),
        shownView: '',
        quorate: true,
        voteFile,
        guard: null,
        grant: null,
        inbox: [],
        keyPutMs: Number.NEGATIVE_INFINITY,
        registering: false,
        sweptTerm: 0,
      };
      this.#nodes.set(id, node);
    }
  }

  get ids(): number[] {
    return [...this.#nodes.keys()];
  }

  // --- what a story does --------------------------------------------------------------------------------------------

  start(...ids: number[]): void {
    for (const id of ids) {
      const node = this.#node(id);
      if (node.up) continue;
      node.up = true;
      node.frozen = false;
      node.start += 1;
      node.inbox = [];
      node.shownView = '';
      node.members = membersStart(this.#membersConfig(id));
      node.lease = leaseStart(
        this.#leaseConfig(id),
        { vote: node.voteFile, kernelBoot: String(node.kernelBoot), termFloor: this.#termOnDisks() },
        this.#clock(node),
      );
      node.quorate = true;
      this.#tell(node, 'start');
      this.#stepMembers(node, { type: 'eligible', eligible: true });
      if (this.#byDisks) this.#stepLease(node, { type: 'quorum-disks', disks: this.wanted });
      if (this.#options.reservedMs !== undefined) this.#stepLease(node, { type: 'may-shut-out', may: true });
      this.#queue.add(this.trueMs + id, () => this.#tick(node, node.start));
    }
    this.say(`-- ${list(ids)} ${ids.length > 1 ? 'start' : 'starts'}`);
  }

  /** kill -9 of the agent. The guard's deadlines run on. */
  crash(id: number): void {
    this.say(`-- node ${id}: the agent is killed`);
    if (this.#node(id).up) this.#tell(this.#node(id), 'crash');
    this.#node(id).up = false;
    for (const other of this.#nodes.values()) this.#disconnected(other, id);
  }

  /** The whole machine: a new boot of the kernel, whose clock starts again; nothing of it writes any more. */
  reboot(id: number): void {
    this.say(`-- node ${id}: the machine is reset`);
    const node = this.#node(id);
    this.#tell(node, 'reboot');
    node.up = false;
    node.guard = null;
    node.grant = null;
    node.kernelBoot += 1;
    node.clock = { ...node.clock, trueMs: this.trueMs, readsMs: 10 };
  }

  stop(id: number): void {
    const node = this.#node(id);
    if (!node.up || node.frozen) return;
    this.say(`-- node ${id}: orderly stop`);
    this.#stepMembers(node, { type: 'leave' });
    this.#stepLease(node, { type: 'leave' });
    this.after(100, () => {
      if (!node.up) return;
      const stored = storedVoteForStop(node.lease, String(node.kernelBoot), this.#clock(node));
      if (stored !== null) node.voteFile = stored;
      this.#tell(node, 'stop');
      node.up = false;
      node.guard = null;
      node.grant = null;
      const held = stored?.promise?.holder;
      const promised = stored?.promise == null ? 'nothing known' : held == null ? 'nothing' : `node ${held}`;
      this.say(`   node ${id}: stopped; its vote file says term ${stored?.term}, promised to: ${promised}`);
    });
  }

  loseVoteFile(id: number): void {
    this.say(`-- node ${id}: its vote file is lost`);
    this.#node(id).voteFile = null;
    this.#tell(this.#node(id), 'lose-file');
    // A vote that elected nobody can be forgotten for good: nobody else knows its term. Masters' terms stay unique.
    for (const key of this.#votes.keys()) if (key.startsWith(`${id}/`)) this.#votes.delete(key);
  }

  /** A suspend: the clock (BOOTTIME) runs, nothing else does. */
  freeze(id: number): void {
    this.say(`-- node ${id}: suspended`);
    this.#node(id).frozen = true;
  }

  thaw(id: number): void {
    const node = this.#node(id);
    if (!node.frozen) return;
    this.say(`-- node ${id}: wakes up`);
    node.frozen = false;
    const { inbox } = node;
    node.inbox = [];
    if (node.up) for (const open of inbox) open();
  }

  /** Frames of `from` no longer reach `to`; the way back stays. */
  cutOneWay(from: number, to: number): void {
    this.say(`-- node ${to} hears node ${from} no more`);
    this.#cuts.add(`${from}>${to}`);
  }

  cut(side: readonly number[], otherSide: readonly number[]): void {
    this.say(`-- the network between ${list(side)} and ${list(otherSide)} is cut`);
    for (const a of side) for (const b of otherSide) for (const way of [`${a}>${b}`, `${b}>${a}`]) this.#cuts.add(way);
  }

  heal(): void {
    this.say('-- the network is whole again');
    this.#cuts.clear();
  }

  leave(id: number): void {
    this.#stepLease(this.#node(id), { type: 'leave' });
  }

  stepDown(id: number, reason: string): void {
    this.#stepLease(this.#node(id), { type: 'step-down', reason });
  }

  eligible(id: number, eligible: boolean): void {
    this.say(`-- node ${id}: says that it ${eligible ? 'may' : 'cannot'} lead`);
    this.#stepMembers(this.#node(id), { type: 'eligible', eligible });
  }

  /** The records name other disks now. */
  want(...disks: string[]): void {
    this.say(`-- the quorum set is to be ${disks.join(', ')}`);
    this.wanted = disks;
    for (const node of this.#nodes.values()) {
      if (node.up) this.#stepLease(node, { type: 'quorum-disks', disks });
    }
  }

  /** `node` null: the disk itself. */
  loseDisk(node: number | null, disk: string): void {
    this.say(node === null ? `-- disk ${disk} is gone` : `-- node ${node}: loses its path to disk ${disk}`);
    this.disks.lose(node, disk);
  }

  slowDisk(node: number, disk: string, ms: number): void {
    this.say(`-- node ${node}: disk ${disk} takes ${ms} ms for anything`);
    this.disks.slow(node, disk, ms);
  }

  mendDisks(): void {
    this.say('-- all disks answer again');
    this.disks.mend();
  }

  /** The agent seals a release of a term that its node held. */
  release(id: number, term: number): void {
    this.#stepLease(this.#node(id), { type: 'released', term, sealed: `release/${term}/${id}/null` });
  }

  grantable(nodes: number[]): void {
    for (const node of this.#nodes.values()) {
      if (!node.up || leaseSummary(node.lease).role !== 'master') continue;
      this.say(`-- node ${node.id}: may grant to ${list(nodes)}`);
      this.#stepLease(node, { type: 'grantable', nodes });
    }
  }

  /** A frame as from that node, whoever really sent it. */
  inject(to: number, from: number, message: LeaseMessage): void {
    this.#stepLease(this.#node(to), { type: 'message', from, message });
  }

  after(ms: number, act: () => void): void {
    this.#queue.add(this.trueMs + ms, act);
  }

  run(ms: number): void {
    const endMs = this.trueMs + ms;
    for (;;) {
      const next = this.#queue.takeUntil(endMs);
      if (next === null) break;
      this.trueMs = next.atMs;
      next.act();
    }
    this.trueMs = endMs;
  }

  say(line: string): void {
    if (this.#options.narrate !== 'none') this.lines.push(`${(this.trueMs / 1000).toFixed(3).padStart(8)} s ${line}`);
  }

  // --- what a test asks -----------------------------------------------------------------------------------------------

  masters(): number[] {
    return [...this.#nodes.values()].filter((node) => this.#leaseEndsMs(node) > this.trueMs).map((node) => node.id);
  }

  summary(id: number): ReturnType<typeof leaseSummary> {
    return leaseSummary(this.#node(id).lease);
  }

  isUp(id: number): boolean {
    return this.#node(id).up;
  }

  clockOf(id: number): number {
    return this.#clock(this.#node(id));
  }

  writes(id: number): boolean {
    const { grant } = this.#node(id);
    return grant !== null && this.#trueOf(this.#node(id), grant.untilMs) > this.trueMs;
  }

  // --- one node -------------------------------------------------------------------------------------------------------

  #leaseConfig(self: number): LeaseConfig {
    const disks = { boot: `${self}.${this.#nodes.get(self)?.start ?? 0}` };
    return { ...LAN, self, nodes: this.#list(), ...(this.#byDisks ? { disks } : {}) };
  }

  get #byDisks(): boolean {
    return this.#options.disks !== undefined;
  }

  #membersConfig(self: number): MembersState['config'] {
    return {
      self,
      nodes: this.#list(),
      probeIntervalMs: 300,
      probeTimeoutMs: 200,
      indirectProbes: 3,
      suspicionMinIntervals: 3,
      suspicionMaxIntervals: 6,
      awarenessMax: 8,
    };
  }

  #list(): number[] {
    return Array.from({ length: this.#options.nodes }, (_, index) => index + 1);
  }

  #node(id: number): Node {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new Error(`node ${id} is not in this cluster of ${this.#options.nodes}`);
    return node;
  }

  #clock(node: Node): number {
    return node.clock.readsMs + (this.trueMs - node.clock.trueMs) * node.clock.rate;
  }

  #trueOf(node: Node, readsMs: number): number {
    return node.clock.trueMs + (readsMs - node.clock.readsMs) / node.clock.rate;
  }

  #leaseEndsMs(node: Node): number {
    return node.guard === null ? Number.NEGATIVE_INFINITY : this.#trueOf(node, node.guard.untilMs);
  }

  /** A node alone has nobody to ask after its vote file is lost: its disks' mesh areas remember. Others get no such help. */
  #termOnDisks(): number {
    return this.#options.nodes === 1 ? Math.max(0, ...this.elections.map(({ term }) => term)) : 0;
  }

  #tick(node: Node, start: number): void {
    if (node.start !== start) return;
    this.#queue.add(this.trueMs + (this.#options.tickMs ?? TICK_MS), () => this.#tick(node, start));
    if (node.grant !== null && this.#clock(node) >= node.grant.untilMs) {
      this.say(`   node ${node.id}: its grant has run out`);
      this.lapses.push({ node: node.id, trueMs: this.trueMs });
      node.grant = null;
    }
    if (!node.up || node.frozen) return;
    this.#register(node);
    if (this.#options.views === 'lies') {
      if (this.#random() < 0.1) this.#stepLease(node, { type: 'view', view: { alive: this.#lie() } });
    } else {
      this.#stepMembers(node, { type: 'tick' });
    }
    this.#stepLease(node, { type: 'tick' });
    const quorate = leaseSummary(node.lease).disks?.quorate ?? true;
    if (quorate === node.quorate) return;
    node.quorate = quorate;
    this.say(`   node ${node.id}: ${quorate ? 'sees' : 'does not see'} a majority of the quorum disks`);
    this.#stepMembers(node, { type: 'eligible', eligible: quorate });
  }

  #lie(): { node: number; eligible: boolean }[] {
    return this.ids
      .filter(() => this.#random() < this.#honesty)
      .map((node) => ({ node, eligible: this.#random() < this.#honesty }));
  }

  /**
   * All nodes are told that nobody below `candidate` lives, and the candidate forgets the manners that keep elections rare
   * (waiting, settling, hearing a master). What it and the voters have promised they keep: that alone must be enough.
   */
  rumour(candidate: number): void {
    const masters = this.masters();
    const gone = this.#options.reservedMs !== undefined && this.#random() < 0.7 ? masters : [];
    const there = this.ids.filter((id) => !gone.includes(id));
    const alive = there.filter((id) => id >= candidate).map((node) => ({ node, eligible: true }));
    const enough = there.map((node) => ({ node, eligible: node >= candidate }));
    for (const node of this.#nodes.values()) {
      if (!node.up || node.frozen) continue;
      if (node.id === candidate && leaseSummary(node.lease).role === 'follower') {
        node.lease = { ...node.lease, master: null, standNotBeforeMs: 0, startedMs: Number.NEGATIVE_INFINITY };
      }
      this.#stepLease(node, { type: 'view', view: { alive: node.id === candidate ? enough : alive } });
    }
  }

  /** Bids for the disks without a look at them first: what it finds there afterwards must be enough to hold it back. */
  bidBlindly(id: number): void {
    const node = this.#node(id);
    const { lease } = node;
    const now = this.#clock(node);
    const promised = lease.promise !== null && lease.promise.holder !== id && now < lease.promise.untilMs;
    const abstains = lease.abstention !== null && now < lease.abstention.untilMs;
    if (!node.up || node.frozen || lease.role.kind !== 'follower' || lease.disks?.set == null) return;
    if (promised || abstains || lease.pendingVote !== null) return;
    const term = ownTermAfter(id, Math.max(lease.knownTerm, lease.floorTerm, lease.vote.term));
    const { sets } = listOf(lease.config);
    const nobody = { votes: new Map(), shutOut: new Set<number>(), willing: new Map() };
    const role = { kind: 'candidate', term, sets, sentAtMs: now, ...nobody, lastAskedMs: now } as const;
    const turn: Turn = { state: { ...lease, lastNowMs: now, knownTerm: term, role }, effects: [], now };
    makeBid(turn, term);
    node.lease = turn.state;
    for (const effect of turn.effects) this.#perform(node, effect);
  }

  /** From now on everyone is up, everyone hears everyone soon, and views tell the truth. */
  makePeace(): void {
    this.heal();
    this.dropShare = 0;
    const soon = { min: 1, max: 5 };
    this.disks.mend();
    this.disks.times = soon;
    this.#options = { ...this.#options, views: 'members', delayMs: soon, fsyncMs: soon };
    for (const node of this.#nodes.values()) {
      node.shownView = '';
      this.thaw(node.id);
      this.start(node.id);
    }
  }

  #disconnected(node: Node, id: number): void {
    if (node.id === id || !node.up) return;
    this.after(10, () => {
      if (node.up && !node.frozen) this.#stepMembers(node, { type: 'disconnected', node: id });
    });
  }

  #stepMembers(node: Node, input: MembersInput): void {
    const { state, effects } = membersStep(node.members, input, this.#clock(node));
    node.members = state;
    for (const effect of effects) {
      if (effect.type === 'send') this.#send(node, effect.to, { room: 'members', message: effect.message });
      else if (effect.type === 'status' && this.#options.narrate === 'members') {
        this.say(`   node ${node.id}: node ${effect.node} is ${effect.status} (was ${effect.was})`);
      }
    }
    const seen = view(node.members);
    const shown = JSON.stringify(seen);
    if (this.#options.views === 'lies' || shown === node.shownView) return;
    node.shownView = shown;
    this.#stepLease(node, { type: 'view', view: seen });
  }

  #stepLease(node: Node, input: LeaseInput): void {
    const before = node.lease;
    const { state, effects } = leaseStep(before, input, this.#clock(node));
    node.lease = state;
    const { trueMs } = this;
    const trueOf = (readsMs: number) => this.#trueOf(node, readsMs);
    this.#options.onFact?.({ what: 'step', node: node.id, trueMs, input, before, after: state, effects, trueOf });
    for (const effect of effects) this.#perform(node, effect);
    this.#checkPromise(node);
  }

  #tell(node: Node, what: Exclude<ClusterFact['what'], 'step'>, of = node.id): void {
    this.#options.onFact?.({ what, node: node.id, trueMs: this.trueMs, of });
  }

  /** As an agent does: all effects of a step are performed before the next input is taken up. */
  #afterThisStep(node: Node, input: LeaseInput): void {
    const { start } = node;
    this.after(0, () => {
      if (node.up && node.start === start) this.#stepLease(node, input);
    });
  }

  #perform(node: Node, effect: LeaseEffect): void {
    const { id } = node;
    switch (effect.type) {
      case 'send':
        this.#account(node, effect.to, effect.message);
        this.#checkVote(node, effect.to, effect.message);
        this.#send(node, effect.to, { room: 'lease', message: effect.message });
        return;
      case 'store-vote':
        this.#store(node, effect.vote, this.#voteStored(node, effect));
        return;
      case 'elected':
        this.say(`   node ${id}: elected in term ${effect.term} by ${words(effect.certificate)}`);
        this.#checkElected(node, effect.term, effect.certificate, effect.shutOut);
        node.guard = { term: effect.term, untilMs: effect.untilMs };
        if (effect.shutOut.length > 0) this.#sweep(node, effect.term, effect.shutOut);
        this.#checkOverlap(node);
        this.#afterThisStep(node, { type: 'grantable', nodes: this.#list() });
        return;
      case 'shut-out': {
        const { holder, id: asked } = effect;
        this.#takeKey(node, holder, (done) =>
          this.#later(node, () => ({ type: 'shut-out', holder, id: asked, done }))(null),
        );
        return;
      }
      case 'lease-extended':
        if (this.#leaseEndsMs(node) <= this.trueMs) this.#fail(`node ${id} revives a lease that had run out`);
        node.guard = { term: effect.term, untilMs: effect.untilMs };
        this.#checkOverlap(node);
        return;
      case 'grant':
        if (node.grant === null) this.say(`   node ${id}: may write (term ${effect.term})`);
        node.grant = { term: effect.term, untilMs: effect.untilMs };
        this.#checkGrant(node, effect.term);
        return;
      case 'lost':
        this.say(`   node ${id}: master of term ${effect.term} no more: ${effect.reason}`);
        node.guard = null;
        return;
      case 'hand-over': {
        const { start } = node;
        this.say(`   node ${id}: hands over to ${effect.to === null ? 'nobody' : `node ${effect.to}`}`);
        if (this.#options.neverReleases) return;
        this.after(20, () => {
          if (!node.up || node.start !== start) return;
          this.#stepLease(node, {
            type: 'released',
            term: effect.term,
            sealed: `release/${effect.term}/${id}/${effect.to}`,
          });
        });
        return;
      }
      case 'master':
        if (effect.node === id) return;
        if (effect.node === null) this.say(`   node ${id}: knows no master`);
        else this.say(`   node ${id}: the master is node ${effect.node} (term ${effect.term})`);
        return;
      case 'disk-read': {
        const { disk, id: operation } = effect;
        this.disks.read(
          id,
          disk,
          this.#later(node, (blocks) => ({ type: 'disk-read', disk, id: operation, blocks })),
        );
        return;
      }
      case 'disk-write': {
        const { disk, id: operation, block } = effect;
        if (block.node !== id) this.#fail(`node ${id} writes the block of node ${block.node}`);
        this.disks.write(
          disk,
          block,
          this.#later(node, (done) => ({ type: 'disk-written', disk, id: operation, done: done !== null })),
        );
        return;
      }
      case 'store-set':
        this.#store(node, effect.vote, () => ({ type: 'set-stored' }));
        return;
      case 'seal-disk-lease': {
        const { term } = effect;
        const { min, max } = this.#options.fsyncMs ?? { min: 1, max: 1 };
        const sealed = `disks/${term}/${id}`;
        this.after(min + this.#random() * (max - min), () =>
          this.#later(node, () => ({ type: 'disk-lease-sealed', term, sealed }))(null),
        );
        return;
      }
      case 'quorum-set': {
        const { version, disks, former } = effect.set;
        const told = `${version.term}.${version.index}: ${disks.join(', ')}`;
        this.sets.push(told);
        this.say(`   node ${id}: quorum set ${told}${former === null ? '' : `, on the way from ${former.join(', ')}`}`);
        return;
      }
      case 'note':
        this.say(`   node ${id}: ${effect.name}: ${effect.text}`);
        return;
    }
  }

  /** What comes of an operation, for the agent that asked for it, if it is still there. */
  #later<T>(node: Node, input: (result: T) => LeaseInput): (result: T) => void {
    const { start } = node;
    return (result) => {
      if (!node.up || node.start !== start) return;
      const open = () => this.#stepLease(node, input(result));
      if (node.frozen) node.inbox.push(open);
      else open();
    };
  }

  #store(node: Node, vote: StoredVote, stored?: () => LeaseInput): void {
    const { start } = node;
    const { min, max } = this.#options.fsyncMs ?? { min: 5, max: 5 };
    this.after(min + this.#random() * (max - min), () => {
      const alive = node.up && node.start === start;
      // Killed in mid-write: the file has the new vote or the old one. A later start may not be overwritten by it.
      if (!alive && (node.start !== start || node.voteFile === null || this.#random() < 0.5)) return;
      node.voteFile = vote;
      if (!alive) this.#tell(node, 'late-write');
      if (alive && stored !== undefined) this.#later(node, stored)(null);
    });
  }

  #voteStored(
    node: Node,
    { vote, shutOut }: Extract<LeaseEffect, { type: 'store-vote' }>,
  ): (() => LeaseInput) | undefined {
    const { term, candidate } = vote;
    if (candidate === null) return undefined;
    const sealed = shutOut === null ? null : `vote/${term}/${candidate}/${node.id}`;
    return () => ({ type: 'vote-stored', term, candidate, sealed });
  }

  /** Links differ: of some the frames are late by seconds, while others are quick. */
  #slowness(from: number, to: number): number {
    return dice(this.#options.seed * 4096 + from * 64 + to)() ** 4;
  }

  // --- the wire -------------------------------------------------------------------------------------------------------

  #send(node: Node, to: number, payload: Payload): void {
    if (this.#random() < this.dropShare || this.#cuts.has(`${node.id}>${to}`)) return;
    const receiver = this.#node(to);
    const { start } = receiver;
    const { min, max } = this.#options.delayMs ?? { min: 1, max: 1 };
    const drawnMs = min + this.#random() ** 4 * (max - min) * this.#slowness(node.id, to);
    let atMs = this.trueMs + (this.#options.linksMs?.[`${node.id}>${to}`] ?? drawnMs);
    if (!this.#options.unordered) {
      const stream = `${node.id}>${to}`;
      atMs = Math.max(atMs, this.#lastArrival.get(stream) ?? 0);
      this.#lastArrival.set(stream, atMs);
    }
    const from = node.id;
    this.#queue.add(atMs, () => {
      // A restarted receiver has new streams.
      if (!receiver.up || receiver.start !== start || this.#cuts.has(`${from}>${to}`)) return;
      const open = () => this.#deliver(receiver, from, payload);
      if (receiver.frozen) receiver.inbox.push(open);
      else open();
    });
  }

  #deliver(node: Node, from: number, payload: Payload): void {
    if (payload.room === 'members') {
      this.#stepMembers(node, { type: 'message', from, message: payload.message });
      return;
    }
    const { message } = payload;
    if (message.kind === 'released') {
      this.#stepLease(node, { type: 'message', from, message, release: verified(message.event) });
      return;
    }
    if (message.kind === 'renew') this.#checkCertificate(from, message.term, message.certificate);
    this.#stepLease(node, { type: 'message', from, message });
  }

  // --- what must never be ---------------------------------------------------------------------------------------------

  #fail(text: string): never {
    throw new Violation(`${text} (at ${(this.trueMs / 1000).toFixed(3)} s, seed ${this.#options.seed})`);
  }

  /** Invariant 1, at the wire: stored before sent, one a term. */
  #checkVote(node: Node, to: number, message: LeaseMessage): void {
    if (message.kind !== 'vote-granted') return;
    const { term } = message;
    if (node.voteFile?.term !== term || node.voteFile.candidate !== to) {
      this.#fail(`node ${node.id} sends a vote for node ${to} in term ${term} that is not on its disk`);
    }
    this.#checkOneVote(node.id, term, to);
  }

  #checkOneVote(voter: number, term: number, candidate: number): void {
    const key = `${voter}/${term}`;
    const before = this.#votes.get(key) ?? candidate;
    if (before !== candidate) {
      this.#fail(`node ${voter} votes for node ${before} and for node ${candidate} in term ${term}`);
    }
    this.#votes.set(key, candidate);
  }

  #checkCertificate(holder: number, term: number, certificate: readonly string[]): void {
    if (this.#byDisks && certificate.join() === `disks/${term}/${holder}`) return;
    const voters = new Set(certificate.map((sealed) => sealed.split('/')[3]));
    const fits = certificate.every((sealed) => sealed.startsWith(`vote/${term}/${holder}/`));
    if (!fits || voters.size < (this.#byDisks ? this.#options.nodes : Math.floor(this.#options.nodes / 2) + 1)) {
      this.#fail(`node ${holder} leads in term ${term} with the certificate ${certificate.join(', ')}`);
    }
  }

  #checkElected(node: Node, term: number, certificate: readonly string[], shutOut: readonly number[]): void {
    this.#checkCertificate(node.id, term, certificate);
    if (!certificate[0]?.startsWith('disks/')) this.#checkOneVote(node.id, term, node.id);
    const rival = this.elections.find((each) => each.term === term);
    if (rival !== undefined) this.#fail(`nodes ${rival.node} and ${node.id} are both elected in term ${term}`);
    this.elections.push({ node: node.id, term, trueMs: this.trueMs, shutOut });
    for (const other of this.#nodes.values()) {
      const mayLastMs = grantMayLastUntilMs(node.lease, other.id);
      if (other.grant === null || mayLastMs === null) continue;
      const endsMs = this.#trueOf(other, other.grant.untilMs);
      const accountedMs = this.#trueOf(node, mayLastMs);
      if (endsMs > accountedMs + EPSILON_MS) {
        this.#fail(`an older grant of node ${other.id} outlives what the new master, node ${node.id}, allows for`);
      }
    }
  }

  #checkOverlap(node: Node): void {
    for (const other of this.#nodes.values()) {
      if (other === node || this.#leaseEndsMs(other) <= this.trueMs + EPSILON_MS) continue;
      if (this.#leaseEndsMs(node) <= this.trueMs) continue;
      if (!this.#diskTakes(node) || !this.#diskTakes(other)) continue;
      this.#fail(
        `two masters: node ${other.id} (term ${other.guard?.term}) has a live lease while node ${node.id} (term ${node.guard?.term}) gets one`,
      );
    }
  }

  // --- the disks' keys ------------------------------------------------------------------------------------------------

  /** What a holder would write reaches the disks, and it would write it. */
  #diskTakes(node: Node): boolean {
    const { role } = node.lease;
    if (this.#options.reservedMs === undefined || role.kind !== 'master') return true;
    if (node.keyPutMs === null || role.leaseSinceMs <= node.keyPutMs) return false;
    const past = this.#clock(node) >= role.electedMs + LAN.voterMs;
    return role.shutOut.length === 0 || node.sweptTerm === role.term || past;
  }

  #atTheDisks(act: () => void): void {
    const { min, max } = this.#options.reservedMs ?? { min: 0, max: 0 };
    this.after(min + this.#random() ** 2 * (max - min), act);
  }

  /** Other than an agent, with any grant: what it does not use before a majority has answered once more must be enough. */
  #register(node: Node): void {
    if (node.keyPutMs !== null || node.registering || node.grant === null) return;
    node.registering = true;
    const { start } = node;
    this.#atTheDisks(() => {
      node.registering = false;
      if (!node.up || node.start !== start) return;
      node.keyPutMs = this.#clock(node);
      this.#tell(node, 'key-put', node.id);
      this.#checkAllOverlaps();
    });
  }

  #takeKey(node: Node, victim: number, answer: (done: boolean) => void): void {
    this.#atTheDisks(() => {
      if (!node.up || node.keyPutMs === null || this.#random() < 0.1) return answer(false);
      this.#node(victim).keyPutMs = null;
      this.say(`   node ${node.id}: takes the keys of node ${victim} off the members`);
      this.#tell(node, 'key-taken', victim);
      this.#atTheDisks(() => answer(this.#node(victim).keyPutMs === null));
    });
  }

  #sweep(node: Node, term: number, [victim, ...more]: readonly number[]): void {
    const { role } = node.lease;
    if (!node.up || role.kind !== 'master' || role.term !== term) return;
    if (victim === undefined) {
      node.sweptTerm = term;
      this.#tell(node, 'swept');
      this.#checkAllOverlaps();
    } else this.#takeKey(node, victim, (done) => this.#sweep(node, term, done ? more : [victim, ...more]));
  }

  #checkAllOverlaps(): void {
    for (const node of this.#nodes.values()) this.#checkOverlap(node);
  }

  #account(node: Node, to: number, message: LeaseMessage): void {
    if (message.kind !== 'renew' || !message.grant) return;
    const mayLastMs = grantMayLastUntilMs(node.lease, to);
    if (mayLastMs === null) this.#fail(`node ${node.id} grants without being master`);
    this.#accounts.set(`${message.term}/${to}`, this.#trueOf(node, mayLastMs));
  }

  #checkGrant(node: Node, term: number): void {
    const { grant } = node;
    if (grant === null) return;
    const endsMs = this.#trueOf(node, grant.untilMs);
    const accountedMs =
      node.guard?.term === term ? this.#leaseEndsMs(node) : (this.#accounts.get(`${term}/${node.id}`) ?? 0);
    if (endsMs > accountedMs + EPSILON_MS) {
      this.#fail(
        `the grant of node ${node.id} lasts to ${endsMs.toFixed(1)} ms, the master of term ${term} allowed for ${accountedMs.toFixed(1)} ms`,
      );
    }
  }

  /** While it holds a lease it has promised itself to nobody else. */
  #checkPromise(node: Node): void {
    const { role, promise, leaseUntilMs } = leaseSummary(node.lease);
    if (role !== 'master' || leaseUntilMs === null) return;
    if (promise === null || promise.holder !== node.id || promise.untilMs < leaseUntilMs) {
      this.#fail(`node ${node.id} holds a lease that its own promise does not cover`);
    }
  }
}

function verified(sealed: string): VerifiedRelease {
  const [, term, holder, to] = sealed.split('/');
  return { holder: Number(holder), term: Number(term), to: to === 'null' ? null : Number(to) };
}

function words(certificate: readonly string[]): string {
  return certificate[0]?.startsWith('disks/') ? 'the disks' : `${certificate.length} votes`;
}

function list(ids: readonly number[]): string {
  return ids.length === 1 ? `node ${ids[0]}` : `nodes ${ids.join(', ')}`;
}
