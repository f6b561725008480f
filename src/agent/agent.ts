/**
 * The one loop that owns all state of a node. Inputs (frames, gossip, md, clock, requests) are folded into the pure cores
 * one at a time; the effects that come out are performed here. Nothing else in mdmesh holds state that matters.
 */
import type { PublicKey } from '@libp2p/interface';
import type { EndedArray } from '../arrays/ended.ts';
import { isWritten, mayTouch } from '../arrays/levels.ts';
import {
  endedBefore,
  endedNow,
  heldForFailure,
  type Inheritance,
  type LocalArray,
  type LocalEffect,
  type LocalInput,
  type LocalOp,
  liesStill,
  localEstate,
  localInherit,
  localStart,
  localStep,
  mayRegister,
  type NodeArrays,
  reportOf,
} from '../arrays/local.ts';
import {
  type MasterEffect,
  type MasterInput,
  type MasterState,
  masterStart,
  masterStep,
  notTakenOver,
} from '../arrays/master.ts';
import { type ArrayRecord, compareVersions, type NodeId, type Version } from '../arrays/record.ts';
import type { Config } from '../config/index.ts';
import { takenUp, usesReservations, whyNotReloaded } from '../config/index.ts';
import { textOf } from '../error_text.ts';
import { type KeysSeen, Reservations, type ReservedMember } from '../fencing/index.ts';
import type { JournalEntry } from '../journal/index.ts';
import {
  CLOCK_CRITICAL,
  CLOCK_WARNING,
  clockHeard,
  clockRate,
  disksOf,
  grantMayLastUntilMs,
  type LeaseEffect,
  type LeaseInput,
  type LeaseState,
  leaseDueMs,
  leaseStart,
  leaseStep,
  leaseSummary,
  type PeerClock,
  storedVoteForStop,
  type VerifiedRelease,
} from '../lease/index.ts';
import { type Disk, MdError, type SectorRange } from '../md/driver.ts';
import { releaseWrites, writesFor } from '../md/metadata.ts';
import {
  type MembersEffect,
  type MembersInput,
  type MembersState,
  membersDueMs,
  membersStart,
  membersStep,
  statuses,
  view,
} from '../members/index.ts';
import type { PeerEntry } from '../net/index.ts';
import { TokenBuckets } from '../net/token_bucket.ts';
import type { AgentFace, NodeReport, Status } from '../outlets/index.ts';
import {
  idsOf,
  mayStand,
  quorumOf,
  type RosterEffect,
  type RosterInput,
  type RosterState,
  rosterStart,
  rosterStep,
  waitsFor,
  whyNotAfter,
  whyNotByDisks,
} from '../roster/index.ts';
import type { Identity } from '../wire/identity.ts';
import {
  type AcceptanceState,
  accept,
  cursorsOf,
  initialAcceptance,
  isAccepted,
  isSound,
  newestOf,
  seal,
  staleTerm,
  WireRefusal,
  wishedList,
} from '../wire/index.ts';
import type {
  ArrayMessage,
  ArrayReport,
  CommitKind,
  Event,
  EventBody,
  Frame,
  LeaseMessage,
  Observation,
  Request,
} from '../wire/messages.ts';
import { Certificates } from './certificates.ts';
import { leaseConfig, listsOf, masterConfig, membersConfig, peersOf } from './core_configs.ts';
import { DiskView } from './disk_view.ts';
import { Doctors } from './doctors.ts';
import { Envelopes } from './envelopes.ts';
import { MdOperations } from './md_operations.ts';
import type { AgentParts, Alarm, Notice, Timers } from './parts.ts';
import { type Procedures, procedures } from './procedures.ts';
import { QuorumDisks, wireSet } from './quorum_disks.ts';
import { RefusalCount } from './refusal_count.ts';
import { resolveDevices } from './resolve_devices.ts';
import { statusOf } from './status.ts';

/** While anything is under way. */
const TICK_MS = 50;
/** Else ticks come when a core asks for one; the arrays, which do not ask, are looked at as often as this. */
const REST_TICK_MS = 500;
/** Longer than any core waits before it repeats something. */
const STIR_MS = 1500;
/** Inputs and effects of every second, in which nothing happens. */
const ROUTINE = new Set(['tick', 'wall', 'grant', 'report', 'released', 'observed', 'progress']);
const CATCHUP_EVERY_MS = 5000;
/** Until its name is known. */
const WITNESS_EVERY_MS = 1000;
/** Hours of the day are what it is for. */
const WALL_EVERY_MS = 60_000;
/** In a cluster in which nothing is said, every so many turns: what gossip lost is found by then at the latest. */
const CATCHUP_RARELY_TURNS = 4;
const REQUEST_TIMEOUT_MS = 60_000;
/** Where all files agree, a list is agreed on well within this. */
const LIST_PATIENCE_MS = 2000;
const STORE_AGAIN_MS = 1000;
/** For the arrays that an earlier agent has left. */
const START_HOLD_MS = 15_000;
/** A disk that has forgotten its registrations has them back by then, and a node that was shut out knows it. */
const KEYS_EVERY_MS = 2000;
/** While this node's key is missing somewhere, or a member is not reserved yet. */
const KEYS_SOON_MS = 200;
const KEYS_WAIT_MS = 1000;
/** Between two tries of a journal whose disk takes nothing. */
const JOURNAL_AGAIN_MS = 200;
const GOSSIP_AFTER_FRAMES_MS = 50;
/** Of nodes that are shut down at once. Nobody waits meanwhile: the lease of a master that leaves lives on. */
const OTHERS_LEAVE_MS = 300;
/** A commit, an election, and a renewal after it take far less. */
const HAND_OVER_MS = 3000;
/** So much of a grant is left just after a renewal. */
const FRESH_GRANT = 0.75;
/** In larger clusters events go by gossip alone: its neighbours pass them on. */
const TELL_ALL_NODES_MAX = 16;
/** What a node that is not the master may add to the others' journals: far more than one that is well ever says. */
const TOLD_BYTES_PER_SECOND = 32 * 1024;
const TOLD_BYTES_BURST = 1024 * 1024;
/** Of what a node that was away asks for, after a first great deal: a journal is as long as whoever answers says it is. */
const CATCHUP_BYTES_PER_SECOND = 256 * 1024;
const CATCHUP_BYTES_BURST = 64 * 1024 * 1024;

export interface SealedEvent {
  event: Event;
  sealed: string;
}

export class Agent implements AgentFace {
  readonly parts: AgentParts;
  readonly disks: DiskView;
  readonly #certificates: Certificates;
  readonly #doctors: Doctors;
  readonly #envelopes: Envelopes;
  readonly #operations: MdOperations;
  readonly #procedures: Procedures;
  /** null: fencing does not ask for them. */
  readonly #reservations: Reservations | null;
  /** null: nodes decide. */
  readonly #quorum: QuorumDisks | null;
  #members: MembersState;
  #lease: LeaseState;
  #roster: RosterState;
  #local: NodeArrays;
  #master: MasterState;
  #acceptance: AcceptanceState;
  #sequence = 0;
  #sealing: Promise<unknown> = Promise.resolve();
  #inbox: Promise<unknown> = Promise.resolve();
  readonly #queue: (() => void)[] = [];
  #draining = false;
  readonly #stops: (() => void)[] = [];
  #stopped = false;
  /** Own newest commit of each array, sealed, to send again. */
  readonly #commits = new Map<string, string>();
  /** Newest version of each array that the journal knows from before this start. */
  readonly #remembered = new Map<string, Version>();
  readonly #waiting = new Map<string, (outcome: { ok: boolean; text: string }) => void>();
  readonly #askers = new Map<string, NodeId>();
  #persisting = 0;
  #certificate: string[] = [];
  readonly #opened = new Map<string, boolean>();
  readonly #counters = { duplicates: 0, staleTerms: 0, commits: 0, catchups: 0 };
  readonly #refusals = new RefusalCount();
  readonly #startedAt: string;
  #catchingUp = new Set<NodeId>();
  #reportQueued = false;

  /** What the agent before said of its arrays when it ended in order. */
  readonly #ended: readonly EndedArray[];

  private constructor(parts: AgentParts, lease: LeaseState, roster: RosterState, ended: readonly EndedArray[]) {
    const { config } = parts;
    this.#ended = ended;
    const byDisks = config.quorum.by === 'disks';
    this.parts = parts;
    this.disks = parts.disks ?? new DiskView(parts.driver, config.cluster.uuid);
    this.#quorum = !byDisks
      ? null
      : new QuorumDisks({
          driver: parts.driver,
          disks: this.disks,
          cluster: config.cluster.uuid,
          nodes: () => this.#lease.config.nodes,
          witness: config.quorum.witness,
          records: () => this.records(),
        });
    this.#lease = lease;
    this.#roster = roster;
    this.#peers = peersOf(config, roster, []);
    this.#members = membersStart(membersConfig(config, roster));
    this.#master = masterStart(config.self, masterConfig(config, roster), byDisks);
    this.#acceptance = initialAcceptance(parts.journal.vector());
    this.#doctors = new Doctors(parts, () => this.onDoctor);
    this.#envelopes = new Envelopes(config.cluster.uuid, parts.opened);
    this.#certificates = new Certificates(quorumOf(roster).sets, byDisks, (sealed) => this.openSealed(sealed));
    this.#operations = new MdOperations(parts.driver, this.disks, (...notice) => this.notice(...notice));
    this.#procedures = procedures(this);
    const reserved = usesReservations(config);
    const { copy, pathLoss } = config.arrays;
    const local = localStart(config.self, parts.driver.kernelBoot(), copy, pathLoss.policy, reserved);
    this.#local = parts.inherited === undefined ? local : localInherit(local, parts.inherited);
    this.#reservations = reserved
      ? new Reservations({
          disks: parts.driver,
          cluster: config.cluster.uuid,
          self: config.self,
          kernelBoot: parts.driver.kernelBoot(),
          mayRegister: () => this.#mayRegister(),
          leads: () => this.leading,
          ledSinceMs: () => (this.#lease.role.kind === 'master' ? this.#lease.role.electedMs : null),
          now: () => this.now(),
          after: (delayMs, run) => parts.timers.after(delayMs, run),
        })
      : null;
    this.#alarm = alarmOf(parts.timers, () => {
      this.#alarmAtMs = Number.NEGATIVE_INFINITY;
      this.#tick();
    });
    this.#startedAt = parts.timers.wall().toISOString();
  }

  static async create(parts: AgentParts): Promise<Agent> {
    const { config, driver, files } = parts;
    const wish = wishedList(config.nodes, config.timing);
    const [vote, stored, end] = [await files.loadVote(), await files.loadLists(), await files.loadEnd()];
    const roster = rosterStart(config.self, wish, stored, driver.now(), config.quorum.by === 'disks');
    // From here on the file only asks: what counts is what was stored.
    if (stored === null && vote !== null) await files.storeLists(listsOf(roster));
    const lease = leaseStart(
      leaseConfig(config, roster, parts.boot.boot),
      { vote, kernelBoot: driver.kernelBoot() },
      driver.now(),
    );
    // A life between may have written, and told nobody how it ended.
    const ended = end?.bootNumber === parts.boot.bootNumber - 1 ? end.arrays : [];
    return new Agent(parts, lease, roster, ended);
  }

  get self(): NodeId {
    return this.parts.config.self;
  }

  get leading(): boolean {
    return this.#master.leading;
  }

  get term(): number {
    return leaseSummary(this.#lease).term;
  }

  /** As the core has it: for those who judge a simulation. */
  get lease(): LeaseState {
    return this.#lease;
  }

  /** Likewise. */
  get arrays(): ReadonlyMap<string, LocalArray> {
    return this.#local.arrays;
  }

  now(): number {
    return this.parts.driver.now();
  }

  // --- start and stop -------------------------------------------------------------------------------------------------

  async start(): Promise<void> {
    const { driver, net, timers, journal } = this.parts;
    this.#remember();
    this.#goByLists();
    // Before anything else: arrays that outlived an earlier agent have no grant behind them now, unless it left that as well.
    for (const md of this.parts.inherited === undefined ? this.#inKernel() : []) {
      let isHeld = false;
      const hold = async (): Promise<void> => {
        await this.#tryTo(`hold ${md}`, () => driver.hold(md));
        await this.#tryTo(`hold the reads of ${md}`, () => driver.holdReads(md));
        isHeld = true;
      };
      await Promise.race([hold(), this.until(() => isHeld, START_HOLD_MS)]);
      // Nobody else can end it either, and a start that waits for it would say nothing.
      if (!isHeld)
        this.#suspendStuck(
          md,
          `${md}: what an earlier agent has begun there, a copy or a write, waits for a path and cannot be ended`,
        );
    }
    if (this.parts.disks === undefined) await this.#rescan();
    else this.#feedLocal({ type: 'paths', paths: this.disks.paths });
    driver.guard.onEvent((event) => {
      this.parts.log.warn({ guard: event }, `guard: ${event.type}`);
      if (event.type === 'drop-failed') {
        this.notice('WritesNotDropped', 'critical', event.md, { code: event.code });
      }
    });
    this.#stops.push(driver.watch((md) => this.#observeMd(md)));
    net.serveCatchup(async (_from, request) => {
      const { sealed, more } = journal.missing(request.have, 256);
      return { events: sealed, more };
    });
    net.on((event) => {
      switch (event.type) {
        case 'frame':
          this.#receive(event.from, event.frame);
          break;
        case 'gossip':
          this.#receiveSealed(event.sealed, 'gossip');
          break;
        case 'connected':
          this.#feedMembers({ type: 'connected', node: event.node });
          this.#feedRoster({ type: 'connected', node: event.node });
          this.#catchUpWith(event.node);
          // What was on its way to a master on the connection before is lost.
          if (event.node === leaseSummary(this.#lease).master) this.#queueReport();
          break;
        case 'disconnected':
          this.#feedMembers({ type: 'disconnected', node: event.node });
          break;
        case 'refused':
          this.#refused(event.reason, event.from, event.peer);
          break;
        case 'version-refused':
          this.notice('VersionRefused', 'warning', `node/${event.node}`, { node: event.node, why: event.reason });
          break;
        case 'duplicate-id':
          this.#duplicateId(event.boots);
          break;
      }
    });
    await net.start();
    // What has come and gone since the look that was made for it.
    if (this.parts.disks !== undefined) void this.#rescan();
    this.#offer();
    this.#running = true;
    this.#arm();
    this.#stops.push(() => this.#alarm.stop());
    this.#stops.push(timers.every(WALL_EVERY_MS, () => this.#tellWall()));
    let turn = 0;
    let asked = 0;
    let caughtUp = -1;
    this.#stops.push(
      timers.every(CATCHUP_EVERY_MS, () => {
        const peers = net.connected();
        turn += 1;
        const head = journal.head();
        if (head === caughtUp && turn % CATCHUP_RARELY_TURNS !== 0) return;
        caughtUp = head;
        asked += 1;
        const peer = peers[asked % Math.max(1, peers.length)];
        if (peer !== undefined) this.#catchUpWith(peer);
      }),
    );
  }

  /**
   * Resolves once this node has a grant, and all arrays that its disks or records tell of let writes pass; else when patience ends.
   * @param inSightMs patience while a majority of the nodes is seen
   */
  async settled(patienceMs: number, inSightMs: number): Promise<void> {
    const found = this.disks.arrays().map(({ record }) => record.uuid);
    const isOpen = (uuid: string): boolean => this.#local.arrays.get(uuid)?.observation?.held === false;
    const allOpen = (): boolean => [...found, ...this.#local.arrays.keys()].every(isOpen);
    const isSettled = (): boolean => leaseSummary(this.#lease).grantUntilMs !== null && allOpen();
    const endMs = this.now() + patienceMs;
    const inSight = (): boolean => this.#master.majoritySinceMs !== null;
    await this.until(() => isSettled() || (this.now() >= endMs && !inSight()), Math.max(patienceMs, inSightMs));
  }

  /** Says goodbye: writes are held, the master is told, a lease is released, the vote file says what is still promised. */
  async stop(reason: string): Promise<void> {
    const { driver } = this.parts;
    if (this.#stopped) {
      // It has made way, for nobody.
      await this.#tryTo('drop writes', () => driver.guard.drop());
      return;
    }
    this.#callOff?.('this agent is being stopped');
    this.#feedLocal({ type: 'leave' });
    const allHeld = (): boolean => [...this.#local.arrays.values()].every((array) => array.observation?.held !== false);
    await this.until(allHeld, 2000);
    await this.sealEvent({ type: 'leave', reason }).then(({ sealed }) => {
      this.#toAll({ room: 'arrays', message: { kind: 'submit', event: sealed } });
      const agentStart = this.parts.boot.bootNumber;
      if (this.leading) this.#feedMaster({ type: 'leaving', node: this.self, agentStart });
    });
    // A master that leaves with others sees them out: a writer left in the record has to be taken off it at the next start. Those that
    // were told to end together with it say so in a moment.
    const heardMs = this.now() + (this.leading ? OTHERS_LEAVE_MS : 0);
    const leaves = (node: NodeId): boolean =>
      node === this.self || (this.leading && this.#master.nodes.get(node)?.leaving === true);
    const noWriter = (): boolean =>
      [...this.#local.arrays.values()].every((array) => !array.record.writers.some(leaves));
    await this.until(() => this.now() >= heardMs && noWriter(), 1500);
    this.#feedLease({ type: 'leave' });
    await this.until(() => leaseSummary(this.#lease).role !== 'master', 1000);
    // A whole cluster that stops at once: the holder's release is on its way, or comes when it has seen the others out, and a vote file
    // that says «nothing promised» spares this node the abstention at its next start.
    const isBound = (): boolean => (leaseSummary(this.#lease).promise?.untilMs ?? 0) > this.now();
    const stays = (): boolean =>
      this.#master.nodes.get(leaseSummary(this.#lease).promise?.holder ?? 0)?.leaving !== true;
    const endMs = this.now() + 500;
    await this.until(() => !isBound() || (this.now() >= endMs && stays()), 3000);
    this.#feedMembers({ type: 'leave' });
    await this.until(() => false, 50);
    for (const uuid of this.#local.arrays.keys()) this.#observe(uuid);
    this.#halt();
    await this.#tryTo('drop writes', () => driver.guard.drop());
    await this.#vouch();
    await this.#end();
  }

  /** Nothing of this node is in flight, nor passes any more: its last word, for the next start. */
  async #vouch(): Promise<void> {
    const { boot, files } = this.parts;
    // What was given up waiting for may still open an array.
    const late = [...this.#local.arrays.values()].filter(({ record }) => this.#lateHands.has(record.md));
    const arrays = endedNow(this.#local, this.#ended).filter(({ array }) =>
      late.every(({ record }) => record.uuid !== array),
    );
    if (arrays.length === 0) return;
    await this.#tryTo('store how it ended', () => files.storeEnd({ bootNumber: boot.bootNumber, arrays }));
  }

  /** Nothing is taken in any more, and nothing decided. */
  #halt(): void {
    this.#stopped = true;
    for (const stop of this.#stops) stop();
    for (const answer of this.#waiting.values()) answer({ ok: false, text: 'this agent was stopped meanwhile' });
    this.#waiting.clear();
  }

  async #end(): Promise<void> {
    const { driver, files, net } = this.parts;
    const vote = storedVoteForStop(this.#lease, driver.kernelBoot(), this.now());
    if (vote !== null) await this.#tryTo('store the vote', () => files.storeVote(vote));
    await this.#sealing;
    await this.#inbox;
    await net.stop();
  }

  /**
   * Makes way for a successor on this node. Others see an agent that was started anew: no goodbye is said, this node stays a writer,
   * and what is open stays open. A mastership is given away first. Then it halts, at a moment at which nothing that it has begun with
   * md is under way: so what the kernel shows is all that there is to take over. From there on nobody extends the grant; the guard
   * still keeps its deadline.
   * @returns what the successor takes over
   * @throws Error when no such moment came: it goes on as before
   */
  async makeWay(): Promise<Inheritance> {
    if (this.#stopped || this.#makingWay) throw new Error('this agent makes way, or is being stopped, already');
    const { driver } = this.parts;
    const { promise: calledOff, reject: callOff } = Promise.withResolvers<never>();
    calledOff.catch(() => undefined);
    this.#callOff = (why) => callOff(new Error(why));
    this.#makingWay = true;
    this.#offer();
    try {
      await Promise.race([this.#giveUpMastership(), calledOff]);
      await Promise.race([this.#haltWhenQuiet(), calledOff]);
    } catch (error) {
      this.#makingWay = false;
      this.#whenQuiet = null;
      if (!this.#stopped) this.#offer();
      throw error;
    } finally {
      this.#callOff = null;
    }
    driver.guard.endLease();
    await this.#end();
    return localEstate(this.#local, driver.guard.state().grantUntilMs);
  }
  #makingWay = false;
  #callOff: ((why: string) => void) | null = null;

  /** To the next in line, if there is one; with it comes a grant of its own. */
  async #giveUpMastership(): Promise<void> {
    const heir = (): NodeId | undefined =>
      view(this.#members).alive.find(({ node, eligible }) => eligible && node !== this.self)?.node;
    const endMs = this.now() + HAND_OVER_MS;
    while (this.leading && heir() !== undefined && this.now() < endMs) {
      await this.#handOver(this.term, heir() ?? null);
      if (this.leading) await this.until(() => false, TICK_MS);
    }
    if (this.leading && heir() !== undefined) throw new Error('a commit is under way that does not end; try again');
  }

  /** At best just after a renewal, with every record released: then others wait for nothing, and the successor has most time. */
  async #haltWhenQuiet(): Promise<void> {
    const endMs = this.now() + HAND_OVER_MS;
    const { promise: halted, resolve } = Promise.withResolvers<true>();
    this.#whenQuiet = () => {
      if (this.#underWay() !== null || (this.now() < endMs && !this.#isGoodMoment())) return;
      this.#whenQuiet = null;
      this.#halt();
      resolve(true);
    };
    const patience = this.until(() => this.#stopped, 2 * HAND_OVER_MS);
    this.#whenQuiet();
    if ((await Promise.race([halted, patience])) !== true && !this.#stopped) {
      throw new Error(`${this.#underWay()} is under way and does not end; see \`mdmesh status\`, and try again`);
    }
  }
  /** Arrays with an operation that was given up waiting for: it may still be under way in the kernel. */
  readonly #lateHands = new Set<string>();
  /** Called between steps. */
  #whenQuiet: (() => void) | null = null;

  /** What this agent has begun and does not know the end of; null: nothing. */
  #underWay(): string | null {
    for (const { busy, pathBusy, gateBusy, record } of this.#local.arrays.values()) {
      const op = busy?.op ?? pathBusy?.op ?? (gateBusy ? 'answering gates' : null);
      if (op !== null) return `${record.md}: ${op}`;
    }
    const [late] = this.#lateHands;
    if (late !== undefined) return `${late}: what did not end in time`;
    if (this.#persisting > 0) return 'a commit';
    if (this.#atDisks > 0) return 'a look at a quorum disk';
    if (this.#lookingAtKeys) return 'a look at reservations';
    return this.#lease.pendingVote === null && this.#lease.role.kind !== 'candidate' ? null : 'a vote';
  }

  #isGoodMoment(): boolean {
    const { master } = leaseSummary(this.#lease);
    const released = [...this.#local.arrays.values()].every(
      ({ record, released }) => released !== null && compareVersions(released.version, record.version) >= 0,
    );
    const leftMs = this.#local.grantUntilMs - this.now();
    return master !== null && released && leftMs >= FRESH_GRANT * this.#lease.config.holderMs;
  }

  /** Ends where it stands, as a kill would. For simulation. */
  async crash(): Promise<void> {
    this.#stopped = true;
    for (const stop of this.#stops) stop();
    await this.parts.net.stop();
  }

  /** What the journal says about arrays, from before this start: a floor under what a master may take from the disks. */
  #remember(): void {
    for (const { event } of this.parts.journal.landmarks()) {
      if (event.body.type !== 'commit') continue;
      this.#remembered.set(event.body.record.uuid, event.body.record.version);
      this.#appended.set(event.body.record.uuid, event.body.record.version);
    }
    this.#stops.push(this.parts.journal.onAppend((entry) => this.#commitAppended(entry)));
  }

  async until(done: () => boolean, patienceMs: number): Promise<void> {
    const end = this.now() + patienceMs;
    while (!done() && this.now() < end) {
      await new Promise<void>((resolve) => {
        this.parts.timers.after(10, resolve);
      });
    }
  }

  async #tryTo(what: string, act: () => Promise<unknown>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.parts.log.error({ err: error }, `${what}: ${textOf(error)}`);
    }
  }

  // --- the loop -------------------------------------------------------------------------------------------------------

  #run(task: () => void): void {
    this.#queue.push(task);
    if (this.#draining) return;
    this.#draining = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) next();
    } finally {
      this.#draining = false;
      this.#arm();
    }
    this.#whenQuiet?.();
  }

  /** The next tick: no more of them than needed, each is a process that wakes. */
  #arm(): void {
    if (!this.#running || this.#stopped) return;
    const dueMs = this.#dueMs();
    // A millisecond or two do not matter.
    if (Math.abs(dueMs - this.#alarmAtMs) < 2) return;
    this.#alarmAtMs = dueMs;
    // An alarm may be early, and would then find nothing due.
    this.#alarm.set(Math.max(1, Math.ceil(dueMs - this.#nowMs) + 2));
  }
  readonly #alarm: Alarm;
  #alarmAtMs = Number.NEGATIVE_INFINITY;
  #running = false;
  /** When something last happened to the arrays that was no routine. */
  #stirredMs = 0;
  /** The clock as the newest step read it. */
  #nowMs = 0;
  #tickedMs = 0;

  // After every step, most of which change neither.
  readonly #leaseDueMs = ofNewest(leaseDueMs);
  readonly #membersDueMs = ofNewest(membersDueMs);
  readonly #mayStand = ofNewest(mayStand);

  #dueMs(): number {
    const leaseMs = this.#leaseDueMs(this.#lease);
    const often = this.#tickedMs + TICK_MS;
    if (leaseMs === null || this.#nowMs - this.#stirredMs < STIR_MS) return often;
    const { grantUntilMs } = this.#local;
    const endMs = grantUntilMs > this.#tickedMs ? grantUntilMs : Number.POSITIVE_INFINITY;
    return Math.min(this.#tickedMs + REST_TICK_MS, leaseMs, endMs, this.#membersDueMs(this.#members));
  }

  #stir(happened: readonly { type: string }[]): void {
    if (happened.some(({ type }) => !ROUTINE.has(type))) this.#stirredMs = this.#nowMs;
  }

  #read(): number {
    this.#nowMs = this.now();
    return this.#nowMs;
  }

  #tick(): void {
    this.#run(() => {
      this.#tickedMs = this.#read();
      this.#feedMembers({ type: 'tick' });
      this.#feedLease({ type: 'tick' });
      this.#tellQuorumDisks();
      this.#watchLists();
      this.#offer();
      this.#feedLocal({ type: 'tick' });
      if (this.leading) this.#feedMaster({ type: 'tick' });
      if (this.#nowMs >= this.#keysAtMs) this.#checkKeys();
    });
  }

  /** Awake anyway: a tick that would be due before long needs no waking of its own. */
  #tickAlong(): void {
    if (this.#running && this.#nowMs - this.#tickedMs >= REST_TICK_MS / 2) this.#tick();
  }

  #feedMembers(input: MembersInput): void {
    this.#run(() => {
      const { state, effects } = membersStep(this.#members, input, this.#read());
      this.#members = state;
      for (const effect of effects) this.#doMembers(effect);
    });
  }

  #feedLease(input: LeaseInput): void {
    this.#run(() => {
      // What was promised is on its way to the disk: no step may follow.
      if (this.#stopped) return;
      const { state, effects } = leaseStep(this.#lease, input, this.#read());
      this.#lease = state;
      for (const effect of effects) this.#doLease(effect);
    });
  }

  #feedRoster(input: RosterInput): void {
    this.#run(() => {
      const { state, effects } = rosterStep(this.#roster, input, this.#read());
      this.#roster = state;
      for (const effect of effects) this.#doRoster(effect);
    });
  }

  #feedLocal(input: LocalInput): void {
    this.#run(() => {
      if (this.#stopped) return;
      const before = this.#local;
      const { state, effects } = localStep(before, input, this.#read());
      this.#local = state;
      this.#stir([input, ...effects]);
      // A record that was not known yet: what md has of it is looked at before anything is decided about it.
      if (input.type === 'commit' && !before.arrays.has(input.record.uuid)) this.#observe(input.record.uuid);
      for (const effect of effects) this.#doLocal(effect);
      if (
        this.#reservations !== null &&
        (input.type === 'commit' || input.type === 'paths' || input.type === 'grant')
      ) {
        const lapsed = (state.keys?.atMs ?? state.lapsedAtMs) < state.lapsedAtMs;
        if (lapsed || !this.records().every((record) => this.#ownsKeys(record))) this.#checkKeys();
      }
      this.#watchOpen();
    });
  }

  #feedMaster(input: MasterInput): void {
    this.#run(() => {
      const { state, effects } = masterStep(this.#master, input, this.#read());
      this.#master = state;
      this.#stir([input, ...effects]);
      for (const effect of effects) this.#doMaster(effect);
    });
  }

  ask(array: string, change: Extract<MasterInput, { type: 'ask' }>['change'], requestId: string | null): void {
    this.#feedMaster({ type: 'ask', array, change, requestId });
  }

  /** Of a master: see `notTakenOver` (arrays/master.ts). */
  notTakenOver(): ReturnType<typeof notTakenOver> {
    return notTakenOver(this.#master);
  }

  /** The newest committed record of each array, as known here. */
  records(): ArrayRecord[] {
    return [...this.#local.arrays.values()].map((array) => array.record);
  }

  // --- members --------------------------------------------------------------------------------------------------------

  /** Renewals and their answers come by themselves: who sends them need not be probed. */
  #rhythmOf(frame: Frame): number | null {
    if (frame.room !== 'lease') return null;
    const { kind } = frame.message;
    return kind === 'renew' || kind === 'renew-ack' || kind === 'follow' ? this.#lease.config.renewMs : null;
  }

  #doMembers(effect: MembersEffect): void {
    switch (effect.type) {
      case 'send':
        this.parts.net.send(effect.to, { room: 'members', message: effect.message });
        break;
      case 'status': {
        this.#feedMaster({ type: 'status', node: effect.node, status: effect.status });
        this.#feedLocal({ type: 'status', node: effect.node, status: effect.status });
        this.#feedView();
        const names = {
          alive: 'NodeJoined',
          suspect: 'NodeSuspect',
          dead: 'NodeDead',
          left: 'NodeLeft',
          unknown: null,
        };
        const name = effect.status === 'alive' && effect.was === 'suspect' ? 'NodeCleared' : names[effect.status];
        if (name !== null && effect.node !== this.self) {
          this.notice(name, effect.status === 'dead' ? 'warning' : 'info', `node/${effect.node}`, {
            node: effect.node,
            was: effect.was,
          });
        }
        if (effect.status === 'dead') this.parts.net.reset(effect.node);
        break;
      }
      case 'eligible':
        this.#feedView();
        break;
    }
  }

  /** A voter that cannot vote for itself must not keep others from standing by being the lowest. */
  #offer(): void {
    const { abstains, disks } = leaseSummary(this.#lease);
    // The master writes the superblocks: it would give up a member that it does not see.
    const blind = this.records().some((record) => record.blind?.includes(this.self));
    // Disks ask for no votes, but who does not reach them cannot lead.
    const asksVotes = disks === null || disks.set === null;
    const mayLead = asksVotes ? abstains === null || this.now() < abstains.untilMs : disks.quorate;
    const eligible = !blind && !this.#makingWay && !this.#leavesItToOthers() && this.#mayStand(this.#roster) && mayLead;
    if (eligible === this.#eligible) return;
    this.#eligible = eligible;
    this.#feedMembers({ type: 'eligible', eligible });
  }
  #eligible = false;

  /**
   * Whoever lacks keys, and may put none back for what it has on its way, commits nothing, however long it leads; but where that is so of
   * all, one of them has to grant.
   */
  #leavesItToOthers(): boolean {
    const { keys, grantUntilMs } = this.#local;
    if (this.#reservations === null || keys === null || this.now() >= grantUntilMs) return false;
    if (![...this.#reservations.states.values()].includes('absent') || this.#mayRegister()) return false;
    return view(this.#members).alive.some(({ node, eligible }) => node !== this.self && eligible);
  }

  /** What the records, and the witness, would have the quorum set be. */
  #tellQuorumDisks(): void {
    if (this.#quorum === null) return;
    this.#lookForWitness(this.#quorum);
    const wanted = this.#quorum.wanted();
    if (wanted.join() === this.#wanted) return;
    this.#wanted = wanted.join();
    this.#feedLease({ type: 'quorum-disks', disks: wanted });
  }
  #wanted = '';

  /** Its name is on it; a new one gets it from the master, once there is an array. Nobody waits for a witness that hangs. */
  #lookForWitness(quorum: QuorumDisks): void {
    if (quorum.knowsWitness || this.#lookingMs + WITNESS_EVERY_MS > this.#nowMs) return;
    this.#lookingMs = Number.POSITIVE_INFINITY;
    const claims = this.leading && this.records().length > 0;
    (claims ? quorum.claimWitness(this.parts.uuid()) : quorum.lookForWitness())
      .catch((error: unknown) => {
        const trouble = textOf(error);
        if (trouble !== this.#witnessTrouble) this.parts.log.warn({ err: error }, `quorum: ${trouble}`);
        this.#witnessTrouble = trouble;
      })
      .finally(() => {
        this.#lookingMs = this.#nowMs;
      });
  }
  #lookingMs = Number.NEGATIVE_INFINITY;
  #witnessTrouble = '';

  /** Names of the disks that decide; empty where nodes do. */
  quorumDisks(): readonly string[] {
    const set = leaseSummary(this.#lease).disks?.set ?? null;
    return set === null ? [] : disksOf(set);
  }

  #feedView(): void {
    const { alive } = view(this.#members);
    // Who is not on the list yet, or no more, neither leads nor keeps others from it.
    const { sets } = quorumOf(this.#roster);
    const listed = alive.filter(({ node }) => node === this.self || sets.some((set) => set.includes(node)));
    this.#feedLease({ type: 'view', view: { alive: listed } });
    this.#feedRoster({ type: 'alive', nodes: alive.map(({ node }) => node) });
  }

  // --- roster ---------------------------------------------------------------------------------------------------------

  #doRoster(effect: RosterEffect): void {
    const { config, files, log, net, timers } = this.parts;
    switch (effect.type) {
      case 'send':
        net.send(effect.to, { room: 'roster', message: effect.word });
        break;
      case 'store': {
        const store = (): void => {
          files.storeLists(effect.lists).then(
            () => this.#feedRoster({ type: 'stored' }),
            (error: unknown) => {
              log.error({ err: error }, 'the node list could not be stored; it does not count before it is');
              timers.after(STORE_AGAIN_MS, () => !this.#stopped && store());
            },
          );
        };
        store();
        break;
      }
      case 'use':
        this.#goByLists();
        this.#offer();
        this.#feedView();
        break;
      case 'hand-over':
        this.#concludeList(effect.term);
        break;
      case 'agreed': {
        const { list, before, first } = effect;
        log.info(
          { generation: list.version.generation, nodes: idsOf(list) },
          `node list ${list.version.generation} counts from now on: nodes ${idsOf(list).join(', ')}`,
        );
        if (first) this.tell({ type: 'node-list', list, before });
        break;
      }
      case 'notice':
        this.notice(effect.name, effect.severity, config.cluster.name, effect.detail);
        break;
    }
  }

  /** A hand-over that finds a commit under way gives up; this one must come about, or end with the lease. */
  async #concludeList(term: number): Promise<void> {
    const holds = (): boolean => leaseSummary(this.#lease).role === 'master' && this.term === term && !this.#stopped;
    while (holds()) {
      await this.#handOver(term, this.self);
      if (holds()) await this.until(() => false, TICK_MS);
    }
  }

  /** What a change of the list waits for comes by itself; the rest is only looked at while one is under way. */
  #watchLists(): void {
    const { agreed, pending, previous, wish } = this.#roster;
    if (pending === null && previous === null && wish.digest === agreed.version.digest) return;
    const writers = [...new Set(this.records().flatMap((record) => mayTouch(record)))];
    this.#feedRoster({ type: 'facts', writers, ends: newestOf(this.#acceptance) });
  }

  /** The lists or the configuration have changed: every room is told what of it concerns it. */
  #goByLists(): void {
    const { boot, config, fencing, net } = this.parts;
    const quorum = quorumOf(this.#roster);
    const before = new Set(this.#peers.map(({ id }) => id));
    this.#peers = peersOf(config, this.#roster, this.#peers);
    const keys = this.#envelopes.goBy(this.#peers, this.#roster.agreed.ended);
    net.setPeers(this.#peers);
    this.#certificates.goBy(quorum.sets);
    this.#feedMembers({ type: 'config', config: membersConfig(config, this.#roster) });
    this.#feedLease({ type: 'config', config: leaseConfig(config, this.#roster, boot.boot) });
    this.#feedMaster({ type: 'config', config: masterConfig(config, this.#roster) });
    const { copy, pathLoss } = config.arrays;
    this.#feedLocal({ type: 'config', config: { copyOptions: copy, pathLoss: pathLoss.policy } });
    const { holderMs, voterMs } = quorum;
    fencing.configure({ ...config, timing: { ...config.timing, holderMs, voterMs } });
    for (const [node, { status }] of statuses(this.#members)) {
      if (!before.has(node)) this.#feedMaster({ type: 'status', node, status });
    }
    this.onKeys?.(keys);
  }
  #peers: readonly PeerEntry[];
  /** Called with the keys that count of every node, whenever they change. */
  onKeys: ((keys: ReadonlyMap<NodeId, readonly PublicKey[]>) => void) | null = null;

  /** Reads the configuration anew, and takes it up: the composition root knows where it is. */
  onReload: (() => Promise<{ ok: boolean; text: string }>) | null = null;

  /** As `mdmesh reload` and SIGHUP ask for it. */
  async reloadConfig(): Promise<{ ok: boolean; text: string }> {
    return (await this.onReload?.()) ?? { ok: false, text: 'this agent has no configuration file to read again' };
  }

  /** Starts the successor and makes way for it: the composition root knows how. */
  onHandOver: (() => Promise<{ ok: boolean; text: string }>) | null = null;

  /** As `mdmesh hand-over` asks for it. */
  async handOver(): Promise<{ ok: boolean; text: string }> {
    return (
      (await this.onHandOver?.()) ?? {
        ok: false,
        text: 'this agent has no program of which it could start a successor',
      }
    );
  }

  /** Takes up a configuration that was read anew, all of it or nothing. @param identity what its key file holds now */
  async reload(next: Config, identity: Identity = this.parts.identity): Promise<{ ok: boolean; text: string }> {
    const before = this.parts.config;
    const { agreed, pending } = this.#roster;
    const wish = wishedList(next.nodes, next.timing);
    const newest = pending ?? agreed;
    // What others go by already need not be a step of one from what this node slept through.
    const isKnown = [...this.#roster.words.values()].some(
      (word) => word.agreed.version.digest === wish.digest || word.pending?.version.digest === wish.digest,
    );
    const { byDisks } = this.#roster;
    const change = isKnown || wish.digest === newest.version.digest ? null : whyNotAfter(newest, wish);
    const list = byDisks ? whyNotByDisks(agreed, wish) : change;
    const own = newest.nodes.find(({ id }) => id === this.self);
    const isNewKey = identity.peerId !== this.parts.identity.peerId;
    const isKnownKey = !isNewKey || own?.peerId === identity.peerId || own?.nextPeerId === identity.peerId;
    const problems = [
      ...whyNotReloaded(before, next),
      ...(list === null ? [] : [`nodes: ${list}`]),
      ...(isKnownKey
        ? []
        : [
            `key_file: holds the key of ${identity.peerId}, which the other nodes do not take for node ${this.self}'s yet; write it as next_peer_id in every file and reload first`,
          ]),
    ];
    if (problems.length > 0) {
      const text = `${next.file} is not taken up; the agent goes on with what it had:\n${problems.map((line) => `  ${line}`).join('\n')}`;
      this.parts.log.warn({ file: next.file, problems }, `reload refused: ${problems.join('; ')}`);
      return { ok: false, text };
    }
    this.parts.config = next;
    if (isNewKey) {
      this.parts.identity = identity;
      await this.parts.net.changeIdentity(identity);
    }
    this.#feedRoster({ type: 'wish', wish });
    this.#goByLists();
    this.#watchLists();
    await this.until(() => waitsFor(this.#roster) === null, LIST_PATIENCE_MS);
    const changed = [...takenUp(before, next), ...(isNewKey ? [`key ${identity.peerId}`] : [])];
    const waits = waitsFor(this.#roster);
    const said = changed.length === 0 ? 'nothing has changed' : `taken up: ${changed.join(', ')}`;
    this.parts.log.info({ changed, waits }, `reload: ${said}`);
    const { generation } = this.#roster.agreed.version;
    const listed =
      waits === null
        ? `node list ${generation} counts`
        : `node list ${generation} counts until the new one is agreed on: ${waits}`;
    return { ok: true, text: `${said}; ${listed}` };
  }

  // --- lease ----------------------------------------------------------------------------------------------------------

  #doLease(effect: LeaseEffect): void {
    const { driver, net, files } = this.parts;
    switch (effect.type) {
      case 'send':
        net.send(effect.to, { room: 'lease', message: effect.message });
        break;
      case 'store-vote': {
        const { term, candidate } = effect.vote;
        const shutOut = [...effect.shutOut];
        const store = files.storeVote(effect.vote);
        if (candidate === null) {
          this.#tryTo('store the vote', () => store);
          break;
        }
        store
          .then(() => this.sealEvent({ type: 'vote', term, candidate, ...(shutOut.length > 0 ? { shutOut } : {}) }))
          .then(({ sealed }) => this.#feedLease({ type: 'vote-stored', term, candidate, sealed }))
          .catch((error: unknown) => {
            // A vote that is not on disk is not given.
            this.parts.log.error({ err: error, term }, `vote of term ${term} could not be stored; it is not given`);
            this.#feedLease({ type: 'vote-not-stored', term, candidate });
          });
        break;
      }
      case 'elected':
        this.#certificate = effect.certificate;
        driver.guard.extendLease(effect.untilMs);
        this.#early =
          effect.shutOut.length === 0
            ? null
            : { holders: effect.shutOut, untilMs: this.now() + this.#lease.config.voterMs, swept: new Set() };
        this.#tellWall();
        this.#feedMaster({ type: 'elected', term: effect.term });
        for (const [node, { status }] of statuses(this.#members)) this.#feedMaster({ type: 'status', node, status });
        this.notice('MasterElected', 'info', this.parts.config.cluster.name, {
          node: this.self,
          term: effect.term,
          ...(effect.shutOut.length > 0 ? { shutOut: effect.shutOut.join(' ') } : {}),
        });
        break;
      case 'shut-out':
        void this.#shutOutSilent(effect.holder, effect.id);
        break;
      case 'lease-extended':
        driver.guard.extendLease(effect.untilMs);
        break;
      case 'grant':
        driver.guard.extendGrant(effect.untilMs);
        this.#feedLocal({ type: 'grant', untilMs: effect.untilMs });
        break;
      case 'lost':
        driver.guard.endLease();
        this.#certificate = [];
        this.#feedMaster({ type: 'lost' });
        this.#feedRoster({ type: 'lease-over', term: effect.term });
        this.notice('MasterReleased', 'info', this.parts.config.cluster.name, {
          node: this.self,
          term: effect.term,
          why: effect.reason,
        });
        break;
      case 'hand-over':
        this.#handOver(effect.term, effect.to);
        break;
      case 'master':
        this.#feedLocal({ type: 'master', term: effect.term, node: effect.node });
        this.#feedRoster({ type: 'master', term: effect.term, node: effect.node });
        for (const answer of this.#waiting.values()) {
          answer({ ok: false, text: 'the master changed meanwhile; see `mdmesh status` for what became of it' });
        }
        this.#waiting.clear();
        break;
      case 'disk-read': {
        const { disk, id } = effect;
        this.#atDisk(
          disk,
          (quorum) => quorum.read(disk),
          (blocks) => ({ type: 'disk-read', disk, id, blocks }),
        );
        break;
      }
      case 'disk-write': {
        const { disk, id, block } = effect;
        this.#atDisk(
          disk,
          (quorum) => quorum.write(disk, block).then(() => true),
          (done) => ({ type: 'disk-written', disk, id, done: done !== null }),
        );
        break;
      }
      case 'store-set':
        files.storeVote(effect.vote).then(
          () => this.#feedLease({ type: 'set-stored' }),
          (error: unknown) =>
            this.parts.log.error({ err: error }, `quorum set not stored, so not used: ${textOf(error)}`),
        );
        break;
      case 'seal-disk-lease': {
        const { term, set } = effect;
        this.sealEvent({ type: 'disk-lease', term, set: wireSet(set) }).then(
          ({ sealed }) => {
            this.#spread(sealed);
            this.#feedLease({ type: 'disk-lease-sealed', term, sealed });
          },
          (error: unknown) => this.parts.log.error({ err: error, term }, `term ${term} could not be sealed`),
        );
        break;
      }
      case 'quorum-set':
        this.tell({ type: 'disk-lease', term: effect.term, set: wireSet(effect.set) });
        break;
      case 'note':
        this.parts.log.info({ note: effect.name, term: this.term }, `lease: ${effect.text}`);
        break;
    }
  }

  /** One operation at a quorum disk. What fails says so once, until it works again. */
  #atDisk<T>(disk: string, act: (quorum: QuorumDisks) => Promise<T>, input: (result: T | null) => LeaseInput): void {
    if (this.#quorum === null) return;
    const path = this.#quorum.pathOf(disk);
    const told = (result: T | null, trouble: string | null): void => {
      const node = this.self;
      this.#atDisks -= 1;
      if (trouble !== null && !this.#diskTrouble.has(disk))
        this.notice('QuorumDiskLost', 'warning', `node/${node}`, { node, disk, path, why: trouble });
      if (trouble === null && this.#diskTrouble.has(disk))
        this.notice('QuorumDiskBack', 'notice', `node/${node}`, { node, disk, path });
      if (trouble === null) this.#diskTrouble.delete(disk);
      else this.#diskTrouble.add(disk);
      if (!this.#stopped) this.#feedLease(input(result));
    };
    this.#atDisks += 1;
    // Never within the step that asked for it.
    Promise.resolve(this.#quorum)
      .then(act)
      .then(
        (result) => told(result, null),
        (error: unknown) => told(null, textOf(error).slice(0, 200)),
      );
  }
  readonly #diskTrouble = new Set<string>();
  /** Operations at quorum disks that are under way: a block that is written late would be the successor's, with an older one's words. */
  #atDisks = 0;

  async #handOver(term: number, to: NodeId | null): Promise<void> {
    await this.until(() => this.#persisting === 0, 1000);
    if (this.#persisting > 0) return;
    this.parts.driver.guard.endLease();
    const { sealed } = await this.sealEvent({ type: 'lease-release', term, to });
    this.parts.net.publish(Buffer.from(sealed, 'base64'));
    // Nothing is written under this lease any more: a list that waited for that counts before anybody stands.
    this.#feedRoster({ type: 'lease-over', term });
    this.#feedLease({ type: 'released', term, sealed });
  }

  // --- this node's arrays ---------------------------------------------------------------------------------------------

  #doLocal(effect: LocalEffect): void {
    const { driver, log } = this.parts;
    switch (effect.type) {
      case 'perform':
        this.#perform(effect.array, effect.md, effect.op);
        break;
      case 'answer-gates':
        driver.answerGates(effect.md, effect.settled).then(
          () => this.#gatesDone(effect.array, null),
          (error: unknown) => this.#gatesDone(effect.array, errorOf(error)),
        );
        break;
      case 'applied':
        this.#toMaster({ kind: 'applied', array: effect.array, version: effect.version, report: effect.report });
        break;
      case 'report':
        this.#queueReport();
        break;
      case 'store':
        this.#storeCommit(effect.array, effect.md, effect.version);
        break;
      case 'submit':
        this.sealEvent({ type: 'observation', observation: effect.observation }, ({ event, sealed }) => {
          const { master } = leaseSummary(this.#lease);
          if (this.leading) this.#takeSubmitted(event);
          else this.#toMaster({ kind: 'submit', event: sealed });
          // The others get ready for the commit meanwhile.
          this.#toAll({ room: 'arrays', message: { kind: 'event', event: sealed } }, master);
          this.#publishLater(sealed);
        });
        break;
      case 'send-window': {
        const { array, since, sequence, range } = effect;
        for (const to of effect.to) this.toNode(to, { kind: 'window', array, since, sequence, ...range });
        break;
      }
      case 'window-held': {
        const { array, since, sequence } = effect;
        const writes = driver.writesEnded(effect.md);
        this.toNode(effect.to, { kind: 'window-held', array, since, sequence, writes });
        break;
      }
      case 'extend':
        driver.extendCopy(effect.md, effect.toSector).catch((error: unknown) => {
          log.warn({ array: effect.md }, `${effect.md}: the copy was not extended: ${textOf(error)}`);
          this.#feedLocal({ type: 'extend-failed', array: effect.array });
        });
        break;
      case 'progress': {
        const { array, progress } = effect;
        this.#toAll({ room: 'arrays', message: { kind: 'progress', array, progress } });
        if (this.leading) this.#feedMaster({ type: 'progress', from: this.self, array, progress });
        break;
      }
      case 'wake':
        this.parts.timers.after(effect.afterMs, () => this.#feedLocal({ type: 'tick' }));
        break;
      case 'rescan':
        this.#rescan();
        break;
      case 'check-keys':
        this.#checkKeys();
        break;
      case 'refused-writes':
        this.#suspendStuck(effect.md, `${effect.md}: writes were refused by its members, and cannot end`);
        break;
      case 'trouble':
        if (effect.text === null) log.info({ array: effect.md }, `${effect.md}: trouble is over`);
        else log.warn({ array: effect.md }, effect.text);
        break;
    }
  }

  /** The newest commit of each array that was appended to the journal. */
  readonly #appended = new Map<string, Version>();
  /** Of arrays whose newest commit is to be on disk soon, and is not appended yet. */
  readonly #toStore = new Map<string, { md: string; version: Version }>();

  #commitAppended({ event: { body } }: JournalEntry): void {
    if (body.type !== 'commit') return;
    const { uuid, version } = body.record;
    const known = this.#appended.get(uuid);
    if (known === undefined || compareVersions(version, known) > 0) this.#appended.set(uuid, version);
    const due = this.#toStore.get(uuid);
    if (due !== undefined && compareVersions(version, due.version) >= 0) this.#storeCommit(uuid, due.md, due.version);
  }

  /** Begun at the commit's arrival, beside what it does: a sync takes about as long as a drain. */
  async #storeCommit(array: string, md: string, version: Version): Promise<void> {
    const appended = this.#appended.get(array);
    if (appended === undefined || compareVersions(appended, version) < 0) {
      this.#toStore.set(array, { md, version });
      return;
    }
    this.#toStore.delete(array);
    const { journal, log, timers } = this.parts;
    const wanted = (): boolean => !this.#stopped && this.#local.arrays.get(array)?.unstored != null;
    try {
      await journal.durable();
      if (wanted()) this.#feedLocal({ type: 'stored', array, version });
    } catch (error) {
      log.warn({ array: md }, `${md}: others wait for this node's journal to store a failure: ${textOf(error)}`);
      timers.after(JOURNAL_AGAIN_MS, () => {
        if (wanted()) void this.#storeCommit(array, md, version);
      });
    }
  }

  /** Past the layer under md, and past any cache. */
  async #probe(array: string, member: string): Promise<void> {
    const path = this.disks.paths.get(member);
    const read = async () => path !== undefined && (await this.parts.driver.readMetadata(path, 4096, 4096)).length > 0;
    const fine = await read().catch(() => false);
    this.#feedLocal({ type: 'probed', array, member, fine });
  }

  #gatesDone(array: string, error: { code: string; text: string } | null): void {
    if (error !== null) this.parts.log.warn({ array, code: error.code }, `gates not answered: ${error.text}`);
    // Writes rest on the commit from here on: this node's record of it waits no longer.
    else this.parts.journal.durable().catch(() => undefined);
    this.#observe(array);
    this.#feedLocal({ type: 'gates-done', array, error });
  }

  #perform(array: string, md: string, op: LocalOp): void {
    const finish = (error: { code: string; text: string } | null, marks: readonly SectorRange[] = []): void => {
      if (error?.code === 'ETIMEDOUT') this.#lateHands.add(md);
      else if (error === null) this.#lateHands.delete(md);
      this.parts.log.debug({ md, op: op.op, error }, `${md}: ${op.op}`);
      if (op.op === 'hold' && error?.code === 'ETIMEDOUT') this.#suspendStuck(md, error.text);
      this.#observe(array);
      this.#feedLocal({ type: 'done', array, op, error, marks });
    };
    this.#operations.perform(md, op).then(
      (marks) => finish(null, marks),
      (error: unknown) => finish(errorOf(error)),
    );
  }

  /**
   * A member that fails while a suspend drains leaves kernels before 6.7 waiting for ever: the store keeps the lock that the
   * answer to the failure needs. Nothing in user space can end that. A silent node is fenced; one that stays on would keep
   * every commit of the array waiting.
   */
  #suspendStuck(md: string, text: string): void {
    this.notice('SuspendStuck', 'critical', md, { node: this.self, why: text });
    this.onFatal?.(`${md}: ${text}; this node must be fenced or reset`);
  }

  #observeMd(md: string): void {
    for (const [uuid, array] of this.#local.arrays) if (array.record.md === md) this.#observe(uuid);
  }

  #observe(uuid: string): void {
    const array = this.#local.arrays.get(uuid);
    if (array === undefined || this.#stopped) return;
    const seen = this.parts.driver.observe(array.record.md);
    // Another array under the same kernel name is none of ours.
    const ours = seen !== null && (seen.arrayUuid === null || seen.arrayUuid === uuid) ? seen : null;
    this.#feedLocal({ type: 'observed', array: uuid, observation: ours });
  }

  /** WritesEnabled and WritesDisabled, when an array here begins or ceases to let writes pass. */
  #watchOpen(): void {
    for (const [uuid, array] of this.#local.arrays) {
      const isOpen = array.observation != null && !array.observation.held;
      const wasOpen = this.#opened.get(uuid) ?? false;
      if (wasOpen === isOpen || (wasOpen && heldForFailure(this.#local, array, this.#nowMs))) continue;
      this.#opened.set(uuid, isOpen);
      this.notice(isOpen ? 'WritesEnabled' : 'WritesDisabled', 'info', array.record.md, {
        node: this.self,
        term: this.term,
      });
    }
  }

  async #rescan(): Promise<void> {
    await this.#tryTo('look at the disks', () => this.disks.refresh());
    this.#feedLocal({ type: 'paths', paths: this.disks.paths });
  }

  // --- reservations ---------------------------------------------------------------------------------------------------

  #keysAtMs = 0;
  #keysSeenMs = Number.NEGATIVE_INFINITY;
  #lookingAtKeys = false;
  #shutOut = false;

  /** Members of the cluster's arrays. */
  #reservedMembers(): ReservedMember[] {
    const records = new Map<string, ArrayRecord>();
    // What the disks say and no commit has told yet: a new master writes there first of all.
    for (const { record } of this.disks.arrays()) records.set(record.uuid, record);
    for (const record of this.records()) records.set(record.uuid, record);
    return [...records.values()].flatMap(({ members, writers }) =>
      members
        .filter(({ role }) => role !== 'faulty')
        .map(({ uuid, role }) => ({
          member: uuid,
          path: this.disks.paths.get(uuid) ?? null,
          written: role !== 'spare',
          writers,
        })),
    );
  }

  /** Arrays of mdmesh's that the kernel has here, whoever assembled them. */
  #inKernel(): string[] {
    return this.parts.driver.running().flatMap(({ md, metadata }) => (metadata === 'external:mdmesh' ? [md] : []));
  }

  #mayRegister(): boolean {
    const { driver } = this.parts;
    const known = new Set([...this.#local.arrays.values()].map(({ record }) => record.md));
    // An array that nobody has told of may have anything in flight, unless it is held.
    const stirs = this.#inKernel().some((md) => {
      if (known.has(md)) return false;
      const observation = driver.observe(md);
      return observation === null || !liesStill(observation);
    });
    return !stirs && !this.#stopped && mayRegister(this.#local, this.now());
  }

  /** Members are reserved: by the list, or because all of them can be. */
  #reserves(reservations: Reservations, members: readonly ReservedMember[]): boolean {
    if (this.parts.config.fencing.methods.includes('reservation')) return true;
    return members.every(({ member }) => reservations.states.get(member) !== 'unsupported');
  }

  #checkKeys(): void {
    void this.#lookAtKeys();
  }

  async #lookAtKeys(): Promise<void> {
    const reservations = this.#reservations;
    if (reservations === null || this.#stopped) {
      this.#keysAtMs = Number.POSITIVE_INFINITY;
      return;
    }
    if (this.#lookingAtKeys) return;
    this.#lookingAtKeys = true;
    const atMs = this.now();
    try {
      const members = this.#reservedMembers();
      const seen = await reservations.look(members);
      if (this.#stopped) return;
      const used = this.#reserves(reservations, members);
      const { keys, lapsedAtMs } = this.#local;
      // One that does not answer now has not refused anything, unless this node was without a grant meanwhile.
      const before = keys !== null && keys.atMs >= lapsedAtMs ? keys : null;
      const unanswered = (uuid: string): boolean => seen.states.get(uuid) === 'unknown';
      const isUsable = (uuid: string): boolean =>
        (unanswered(uuid) && before?.usable.has(uuid) === true) || reservations.isUsable(uuid);
      const usable = new Set(members.map(({ member }) => member).filter(isUsable));
      const stillOpen = [...(before?.unreserved ?? [])].filter(unanswered);
      const unreserved = new Set([...seen.unreserved, ...stillOpen]);
      const shutOut = used && reservations.isShutOut;
      const states = members.map(({ member }) => seen.states.get(member));
      const may = used && states.length > 0 && states.every((state) => state === 'registered');
      if (may !== this.#lease.mayShutOut) this.#feedLease({ type: 'may-shut-out', may });
      this.#tellKeys(seen, shutOut, lapsedAtMs > this.#keysSeenMs);
      // Where no disk answers nothing was learned. One that has refused this node's writes does answer.
      const answered = [...seen.states.values()].some((state) => state !== 'unknown');
      if (answered) this.#keysSeenMs = atMs;
      this.#feedLocal({ type: 'keys', keys: used ? { usable, unreserved, shutOut, atMs: this.#keysSeenMs } : null });
      if (this.leading && seen.taken.length > 0)
        this.#feedLease({ type: 'step-down', reason: 'its keys were taken off members' });
      // Told to none, they would wait for its lease to end, and for its grant: by then it stands again.
      else if (this.leading && this.#leavesItToOthers())
        await this.#tryTo('leave the lead to a node that has its keys', () => this.#giveUpMastership());
      const isOver = usable.size === members.length && unreserved.size === 0;
      this.#keysAtMs = this.now() + (used && !isOver ? KEYS_SOON_MS : KEYS_EVERY_MS);
    } finally {
      this.#lookingAtKeys = false;
    }
    this.#letGo();
  }

  /** @param lapsed it was without a grant since it last looked */
  #tellKeys({ missed, renewed }: KeysSeen, shutOut: boolean, lapsed: boolean): void {
    const node = this.self;
    if (renewed.length > 0 && !this.#shutOut) {
      // Shut out and taken back before it looked; or a disk had forgotten all.
      if (lapsed) this.notice('NodeTakenBack', 'notice', `node/${node}`, { node });
      else this.notice('ReservationsRenewed', 'warning', `node/${node}`, { node, members: renewed.join(' ') });
    }
    if (shutOut === this.#shutOut) return;
    this.#shutOut = shutOut;
    if (shutOut) {
      const why = 'its reservation keys were taken off these members; it holds its arrays';
      this.notice('NodeShutOut', 'critical', `node/${node}`, { node, members: missed.join(' '), why });
    } else this.notice('NodeTakenBack', 'notice', `node/${node}`, { node });
  }

  /** undefined: some member has no reservations. */
  #shutterOut(node: NodeId): (() => Promise<void>) | undefined {
    const reservations = this.#reservations;
    if (reservations === null) return undefined;
    const members = this.#reservedMembers();
    if (members.some(({ member }) => reservations.states.get(member) === 'unsupported')) return undefined;
    return () => reservations.shutOut(node, this.#reservedMembers(), () => this.leading);
  }

  // --- a master elected past a promise (lease/early.ts) ---------------------------------------------------------------

  /** While leases may live that the votes passed over: whose, until when, and which members these are shut out of since the election. */
  #early: { holders: readonly NodeId[]; untilMs: number; swept: Set<string> } | null = null;

  async #shutOutSilent(holder: NodeId, id: number): Promise<void> {
    const wanted = (): boolean => this.#lease.shutOuts.get(holder)?.id === id && !this.#stopped;
    const done = await this.#shutOutOfAll(holder, wanted);
    if (!this.#stopped) this.#feedLease({ type: 'shut-out', holder, id, done });
  }

  async #shutOutOfAll(holder: NodeId, may: () => boolean): Promise<boolean> {
    try {
      if (this.#reservations === null) return false;
      await this.#reservations.shutOut(holder, this.#reservedMembers(), may);
      return true;
    } catch (error) {
      this.parts.log.warn({ holder, why: textOf(error) }, `node ${holder} is not shut out of every member`);
      return false;
    }
  }

  /**
   * What the disks say counts when none of those holders can change it any more: they are shut out of all that is found there, or their
   * leases are over.
   */
  async #sweep(): Promise<void> {
    const early = this.#early;
    const isOn = (): boolean => early !== null && this.#early === early && this.leading && !this.#stopped;
    while (early !== null && isOn() && this.now() < early.untilMs) {
      const members = this.#reservedMembers();
      const done = await Promise.all(early.holders.map((holder) => this.#shutOutOfAll(holder, isOn)));
      if (done.every((each) => each)) for (const { member } of members) early.swept.add(member);
      await this.#rescan();
      if (this.#reservedMembers().every(({ member }) => early.swept.has(member))) return;
      if (!done.every((each) => each)) await this.until(() => !isOn(), KEYS_SOON_MS);
    }
    if (early !== null) await this.#rescan();
  }

  /**
   * Before anything is written to disks that are no members yet: nobody is shut out of those by their being reserved, and whoever was
   * to let one go that was a member may not have reached it.
   */
  async formerLeasesOver(paths: Iterable<string>): Promise<void> {
    const early = this.#early;
    if (early !== null) await this.until(() => this.#early !== early, early.untilMs - this.now());
    await this.#reservations?.letGo([...paths]);
  }

  /** None but this master can write there. */
  #isAlone({ members }: ArrayRecord): boolean {
    const { role } = this.#lease;
    if (this.#reservations === null || role.kind !== 'master') return true;
    const written = members.filter((member) => member.role !== 'faulty').map(({ uuid }) => uuid);
    if (role.leaseSinceMs <= this.#reservations.putMs(written)) return false;
    const early = this.#early;
    return early === null || this.now() >= early.untilMs || written.every((uuid) => early.swept.has(uuid));
  }

  /** Looks at the disks again and lets the arrays know. */
  async rescan(): Promise<readonly Disk[]> {
    await this.#rescan();
    return this.disks.disks;
  }

  #queueReport(): void {
    if (this.#reportQueued) return;
    this.#reportQueued = true;
    this.#run(() => {
      this.#reportQueued = false;
      const reports: ArrayReport[] = [];
      for (const array of this.#local.arrays.values()) {
        if (array.observation !== undefined) reports.push(reportOf(this.#local, array, this.now()));
      }
      for (const [array, known] of this.#remembered) {
        if (this.#local.arrays.has(array)) continue;
        reports.push({
          array,
          applied: null,
          known,
          state: 'absent',
          visible: [],
          bitmap: false,
          trouble: null,
          lost: [],
          fine: [],
        });
      }
      const { boot, driver } = this.parts;
      const [kernelBoot, agentStart] = [driver.kernelBoot(), boot.bootNumber];
      const ended = endedBefore(this.#local, this.#ended);
      this.#toMaster({ kind: 'report', term: this.term, kernelBoot, agentStart, reports, ended });
    });
  }

  #tellWall(): void {
    const wall = this.parts.timers.wall();
    const minuteOfDay = wall.getHours() * 60 + wall.getMinutes();
    this.#feedMaster({ type: 'wall', wall: { seconds: Math.floor(wall.getTime() / 1000), minuteOfDay } });
  }

  // --- the master's side ----------------------------------------------------------------------------------------------

  #doMaster(effect: MasterEffect): void {
    switch (effect.type) {
      case 'scan':
        this.#scanAsMaster();
        break;
      case 'persist':
        this.#persist(effect.record, effect.kind);
        break;
      case 'commit':
        this.#commit(effect);
        break;
      case 'send-commit': {
        const sealed = this.#commits.get(effect.array);
        if (sealed !== undefined) this.toNode(effect.to, { kind: 'commit', event: sealed });
        break;
      }
      case 'probe':
        for (const to of effect.to) this.toNode(to, { kind: 'probe', array: effect.array, member: effect.member });
        break;
      case 'released':
        for (const to of effect.to) this.toNode(to, { kind: 'released', array: effect.array, version: effect.version });
        break;
      case 'fence':
        this.#fence(effect.node);
        break;
      case 'cancel-fence':
        this.parts.fencing.cancel(effect.node);
        break;
      case 'grantable':
        this.#feedLease({ type: 'grantable', nodes: effect.nodes });
        break;
      case 'answer':
        this.answer(effect.requestId, effect.ok, effect.text);
        break;
      case 'notice':
        this.notice(effect.name, effect.severity, effect.subject, effect.detail);
        break;
    }
  }

  async #scanAsMaster(): Promise<void> {
    await this.#rescan();
    await this.#sweep();
    const found = this.disks.arrays().map(({ record, members, problems }) => {
      const missing = record.members.filter((member) => member.role === 'active' && !members.has(member.uuid));
      // A member that is not seen is judged by `complete`; anything else that does not fit together stops here.
      const others = problems.filter((problem) => !missing.some((member) => problem.includes(member.uuid)));
      return { record, complete: missing.length === 0, problem: others.length === 0 ? null : others.join('; ') };
    });
    // News for this node as well: without it, it is granted nothing, and may put its key on no disk on which it has to commit.
    for (const { record, problem } of found) {
      const known = this.#local.arrays.get(record.uuid)?.record.version;
      if (problem === null && known !== undefined && compareVersions(known, record.version) < 0)
        this.#feedLocal({ type: 'commit', record, forgotten: false });
    }
    this.#feedMaster({ type: 'disks', found });
  }

  async #persist(record: ArrayRecord, kind: CommitKind): Promise<void> {
    this.#persisting += 1;
    const { config, driver } = this.parts;
    const stamped = { ...record, utimeSeconds: Math.floor(this.parts.timers.wall().getTime() / 1000) };
    let written = false;
    /** Some member took nothing of this node: tried again as a whole, and nothing is concluded from it. */
    let refused = false;
    const failed: string[] = [];
    const words: string[] = [];
    try {
      // Where the last look, on a busy machine, missed a disk, nothing but another one brings it back.
      const unseen = stamped.members.some((member) => isWritten(member) && !this.disks.paths.has(member.uuid));
      if (unseen) await this.#rescan();
      // A member that refuses this node's writes has not failed.
      if (!this.#ownsKeys(stamped)) {
        await this.#lookAtKeys();
        // A new master's own grant is on its way.
        await this.until(() => this.#ownsKeys(stamped), KEYS_WAIT_MS);
      }
      await this.until(() => this.#isAlone(stamped), this.#lease.config.holderMs + this.#lease.config.voterMs);
      if (!this.#isAlone(stamped)) throw new Error('no majority has followed since this node’s keys were put there');
      const devices = this.disks.paths;
      const writes =
        kind === 'release'
          ? releaseWrites(stamped, devices, this.disks.superblocks)
          : writesFor({
              record: stamped,
              clusterUuid: config.cluster.uuid,
              clusterName: config.cluster.name,
              devices,
              existing: this.disks.superblocks,
              meshSequence: stamped.version.index,
            });
      const results = await driver.writeMetadata(writes);
      for (const member of stamped.members) {
        if (member.role === 'faulty') continue;
        const path = devices.get(member.uuid);
        const errors = results.filter((result) => result.path === path && result.error !== null);
        const lease = errors.find((result) => result.error?.code === 'ELEASE');
        if (lease !== undefined) {
          words.push('the lease has ended');
          this.#feedLease({ type: 'step-down', reason: 'the guard refused a metadata write: the lease has ended' });
          break;
        }
        if (this.#reservations !== null && errors.some((result) => result.error?.code === 'EBADE')) {
          words.push(`${path}: reserved, and this node's key is not on it`);
          refused = true;
        } else if (path === undefined || errors.length > 0) {
          failed.push(member.uuid);
          words.push(`${path ?? member.uuid}: ${errors[0]?.error?.text ?? 'no such disk on this node'}`);
        } else if (member.role === 'active') written = true;
      }
    } catch (error) {
      words.push(textOf(error));
    } finally {
      this.#persisting -= 1;
    }
    const text = words.join('; ');
    if (refused) {
      written = false;
      failed.length = 0;
    }
    this.#feedMaster({ type: 'persisted', array: record.uuid, version: record.version, written, failed, text });
  }

  #ownsKeys({ members }: ArrayRecord): boolean {
    const { keys } = this.#local;
    return keys === null || members.every(({ uuid, role }) => role === 'faulty' || keys.usable.has(uuid));
  }

  async #commit(effect: Extract<MasterEffect, { type: 'commit' }>): Promise<void> {
    const { record, kind, before, detail } = effect;
    this.#counters.commits += 1;
    const body: EventBody = { type: 'commit', kind, record, before, detail, certificate: this.#certificate };
    await this.sealEvent(body, ({ sealed }) => {
      this.#commits.set(record.uuid, sealed);
      this.#toAll({ room: 'arrays', message: { kind: 'commit', event: sealed } });
      const left = kind === 'release' ? record.members : this.#leavers(record);
      const paths = left.flatMap(({ uuid }) => this.disks.paths.get(uuid) ?? []);
      this.#feedLocal({ type: 'commit', record, forgotten: kind === 'release' });
      if (kind === 'release') void this.#reservations?.letGo(paths);
      else for (const path of paths) this.#toLetGo.set(path, record);
      this.#publishLater(sealed);
    });
  }

  /** Disks that have left, each with the record by which it did. */
  readonly #toLetGo = new Map<string, ArrayRecord>();

  /**
   * A node that was shut out, and stands still, does not know that a disk has left: what it writes there must be refused, for whoever uses
   * that disk next. So it is let go when all have applied that it left, and else stays reserved until it is added again.
   */
  #letGo(): void {
    if (!this.leading) this.#toLetGo.clear();
    if (this.#toLetGo.size === 0) return;
    for (const { path } of this.#reservedMembers()) if (path !== null) this.#toLetGo.delete(path);
    for (const [path, { uuid, version }] of this.#toLetGo) {
      const hasApplied = (node: NodeId): boolean => {
        const applied = this.#master.nodes.get(node)?.reports.get(uuid)?.applied ?? null;
        return applied !== null && compareVersions(applied, version) >= 0;
      };
      if (!this.#peers.every(({ id }) => id === this.self || hasApplied(id))) continue;
      this.#toLetGo.delete(path);
      void this.#reservations?.letGo([path]);
    }
  }

  /** Members that this record has no more. */
  #leavers(record: ArrayRecord): ArrayRecord['members'] {
    const before = this.#local.arrays.get(record.uuid)?.record.members ?? [];
    return before.filter(({ uuid }) => record.members.every((member) => member.uuid !== uuid));
  }

  /**
   * A node that is cut off sees all others fall silent. Only a lease renewed after that was noticed shows that the majority
   * is on this side: before it nobody is switched off.
   */
  async #mayFence(node: NodeId): Promise<boolean> {
    const noticedMs = this.now();
    const asked = (): boolean => this.leading && this.#master.nodes.get(node)?.fencing === 'asked' && !this.#stopped;
    const renewed = (): boolean =>
      (leaseSummary(this.#lease).leaseUntilMs ?? 0) >= noticedMs + this.#lease.config.holderMs;
    await this.until(() => !asked() || renewed(), Number.POSITIVE_INFINITY);
    return asked();
  }

  async #fence(node: NodeId): Promise<void> {
    if (!(await this.#mayFence(node))) return;
    const address = this.#peers.find((entry) => entry.id === node)?.address ?? '';
    this.notice('NodeFencing', 'warning', `node/${node}`, { node, term: this.term });
    try {
      const lastGrantMs = grantMayLastUntilMs(this.#lease, node) ?? this.now();
      const shutOut = this.#shutterOut(node);
      const verdict = await this.parts.fencing.fence({
        node,
        address,
        lastGrantMs,
        ...(shutOut === undefined ? {} : { shutOut }),
      });
      this.#feedMaster({
        type: 'fenced',
        node,
        stopped: verdict.stopped,
        // The disks take no write of it any more, which says nothing about what it reads.
        ...(verdict.method === 'reservation' ? { grantUntilMs: lastGrantMs } : {}),
        text: `${verdict.method ?? 'nobody'}: ${verdict.text}`,
      });
    } catch (error) {
      this.#feedMaster({
        type: 'fenced',
        node,
        stopped: false,
        text: textOf(error),
      });
    }
  }

  answer(requestId: string, ok: boolean, text: string): void {
    const asker = this.#askers.get(requestId);
    this.#askers.delete(requestId);
    if (asker === undefined || asker === this.self) {
      this.#waiting.get(requestId)?.({ ok, text });
      this.#waiting.delete(requestId);
    } else this.toNode(asker, { kind: 'result', requestId, ok, text: text.slice(0, 4000) });
  }

  // --- sending --------------------------------------------------------------------------------------------------------

  toNode(to: NodeId, message: ArrayMessage): void {
    if (to === this.self) this.#run(() => this.#takeArrays(this.self, message));
    else this.parts.net.send(to, { room: 'arrays', message });
  }

  #toMaster(message: ArrayMessage): void {
    const { master } = leaseSummary(this.#lease);
    if (master !== null) this.toNode(master, message);
  }

  #toAll(frame: Frame, but: NodeId | null = null): void {
    for (const { id } of this.#peers) if (id !== this.self && id !== but) this.parts.net.send(id, frame);
  }

  /** To every journal: at once to the nodes at hand, by gossip to whoever else. @param told has it already */
  #spread(sealed: string, told: NodeId | null = null): void {
    if (this.#peers.length > TELL_ALL_NODES_MAX) {
      this.parts.net.publish(Buffer.from(sealed, 'base64'));
      return;
    }
    this.#toAll({ room: 'arrays', message: { kind: 'event', event: sealed } }, told);
    this.#publishLater(sealed);
  }

  /**
   * Gossip of what those who act on it have had by frame already: it waits, because writes are held until all have acted, and
   * each node's gossip would be in the way of that.
   */
  #publishLater(sealed: string): void {
    this.parts.timers.after(GOSSIP_AFTER_FRAMES_MS, () => {
      if (!this.#stopped) this.parts.net.publish(Buffer.from(sealed, 'base64'));
    });
  }

  /**
   * Seals one event after the other, so that sequence numbers leave in order, and journals it.
   * @param act what others wait for: done before the journaling, which is for the record
   */
  sealEvent(body: EventBody, act?: (sealed: SealedEvent) => void): Promise<SealedEvent> {
    const sealing = this.#sealing.then(async () => {
      const { config, identity, boot, timers, journal } = this.parts;
      this.#sequence += 1;
      const event: Event = {
        cluster: config.cluster.uuid,
        origin: this.self,
        boot: boot.boot,
        bootNumber: boot.bootNumber,
        sequence: this.#sequence,
        time: timers.wall().toISOString(),
        term: this.term,
        body,
      };
      const bytes = await seal(identity, event);
      const sealed = Buffer.from(bytes).toString('base64');
      this.#acceptance = accept(this.#acceptance, event).state;
      try {
        act?.({ event, sealed });
      } finally {
        journal.append(event, sealed);
      }
      return { event, sealed };
    });
    this.#sealing = sealing.catch(() => undefined);
    return sealing;
  }

  notice(...[name, severity, subject, detail]: Parameters<Notice>): void {
    const log = severity === 'info' || severity === 'notice' ? 'info' : severity === 'warning' ? 'warn' : 'error';
    const record = [...this.#local.arrays.values()].find((array) => array.record.md === subject)?.record;
    // `node` in a line is this one; which one a notice is about stands in its detail.
    const place = { term: this.term, index: record?.version.index ?? null, array: record?.md ?? null };
    this.parts.log[log]({ event: name, subject, ...place, detail }, `${name} ${subject}`);
    this.tell({ type: 'notice', name, severity, subject, detail });
  }

  /** Seals an event and lets every node have it, for their journals. */
  tell(body: EventBody): void {
    this.sealEvent(body).then(
      ({ sealed }) => this.#spread(sealed),
      (error: unknown) => {
        const what = body.type === 'notice' ? body.name : body.type;
        this.parts.log.error({ err: error }, `event ${what} could not be sealed`);
      },
    );
  }

  // --- receiving ------------------------------------------------------------------------------------------------------

  /** One at a time, in the order of arrival: a release must not overtake the commit that it is about. */
  #enqueue(handle: () => Promise<void>): void {
    this.#inbox = this.#inbox.then(async () => {
      if (this.#stopped) return;
      try {
        await handle();
      } catch (error) {
        const reason = error instanceof WireRefusal ? error.reason : 'error';
        this.#refused(`${reason}: ${textOf(error)}`, null, null);
      }
    });
  }

  #receive(from: NodeId, frame: Frame): void {
    if (frame.room !== 'members') {
      const hearsAll = frame.room === 'lease' && frame.message.kind === 'renew';
      this.#feedMembers({ type: 'heard', node: from, againWithinMs: this.#rhythmOf(frame), hearsAll });
      // By the clock that was just read for that: each reading is a system call on some machines.
      if (frame.room === 'lease' && 'sentAtMs' in frame.message) this.#hearClock(from, frame.message.sentAtMs);
      this.#tickAlong();
    }
    switch (frame.room) {
      case 'members':
        this.#feedMembers({ type: 'message', from, message: frame.message });
        break;
      case 'lease':
        this.#enqueue(() => this.#takeLease(from, frame.message));
        break;
      case 'arrays': {
        const { message } = frame;
        this.#enqueue(async () => {
          if (message.kind === 'commit' || message.kind === 'event') {
            await this.#takeSealed(Buffer.from(message.event, 'base64'), 'frame');
          } else if (message.kind === 'submit') {
            await this.#takeSealed(Buffer.from(message.event, 'base64'), 'frame', (event) => {
              if (event.origin !== from) throw new Error(`node ${from} submitted an event of node ${event.origin}`);
              this.#takeSubmitted(event);
            });
          } else this.#takeArrays(from, message);
        });
        break;
      }
      case 'roster': {
        const { agreed, pending } = frame.message;
        if (isSound(agreed) && (pending === null || isSound(pending))) {
          this.#feedRoster({ type: 'word', from, word: frame.message });
          this.#offer();
        } else this.#refused(`node ${from} told of a node list that is not what its digest says`, from, null);
        break;
      }
      case 'doctor':
        this.#doctors.receive(from, frame.message);
        break;
      case 'hello':
      case 'duplicate-id':
        break;
    }
  }

  /** Safety rests on clocks that run within a half of each other: one that is on its way out of that is told of. */
  #hearClock(node: NodeId, theirMs: number): void {
    const before = this.#clocks.get(node);
    const clock = clockHeard(before, { theirMs, ourMs: this.#nowMs });
    this.#clocks.set(node, clock);
    if (before?.stretches === clock.stretches) return;
    const rate = clockRate(clock) ?? 1;
    const apart = Math.abs(rate - 1);
    const severity = apart < CLOCK_WARNING ? null : apart < CLOCK_CRITICAL ? 'warning' : 'critical';
    if (severity === (this.#clocksTold.get(node) ?? null)) return;
    this.#clocksTold.set(node, severity);
    const percent = Math.round((rate - 1) * 1000) / 10;
    this.notice('ClocksApart', severity ?? 'notice', `node/${node}`, { node, percent });
  }
  readonly #clocks = new Map<NodeId, PeerClock>();
  readonly #clocksTold = new Map<NodeId, 'warning' | 'critical' | null>();

  openSealed(sealed: string): Promise<Event> {
    return this.#envelopes.open(Buffer.from(sealed, 'base64'));
  }

  #receiveSealed(bytes: Uint8Array, via: 'gossip' | 'catchup'): void {
    this.#enqueue(async () => {
      await this.#takeSealed(bytes, via);
    });
  }

  /**
   * Verifies, refuses what was seen, lets commits act, and journals: last, because writes may wait for what it does.
   * @param act what a frame is about beyond its record; also when gossip brought the event first
   */
  async #takeSealed(
    bytes: Uint8Array,
    via: 'gossip' | 'catchup' | 'frame',
    act?: (event: Event) => void,
  ): Promise<void> {
    const event = await (via === 'catchup' ? this.#envelopes.openHistory(bytes) : this.#envelopes.open(bytes));
    const { verdict, state } = accept(this.#acceptance, event, via === 'catchup' ? 'catchup' : 'gossip');
    // What is new alone counts: else a third node could use up another's measure by saying again what that one said.
    if (isAccepted(verdict) && via !== 'catchup' && !this.#mayTell(event, bytes.byteLength)) {
      this.#refused('flood: more events than a node may tell', event.origin, null);
      return;
    }
    this.#acceptance = state;
    if (verdict === 'duplicate') {
      this.#counters.duplicates += 1;
      // A commit sent again by the master acts again if it was only journaled before; records make that harmless.
      if (event.body.type === 'commit') await this.#takeCommit(event, via);
      act?.(event);
      return;
    }
    if (!isAccepted(verdict)) {
      this.#refused(`${verdict}: event ${event.origin}/${event.bootNumber}/${event.sequence}`, event.origin, null);
      return;
    }
    try {
      if (event.body.type === 'commit') await this.#takeCommit(event, via);
      act?.(event);
      if (event.body.type === 'observation' && via !== 'catchup') this.#expect(event.body.observation);
    } finally {
      this.parts.journal.append(event, Buffer.from(bytes).toString('base64'));
      if (verdict === 'gap' && via === 'gossip') this.#catchUpWith(event.origin);
    }
  }

  readonly #toldBy = new TokenBuckets<NodeId>(TOLD_BYTES_PER_SECOND, () => this.now(), TOLD_BYTES_BURST);
  readonly #broughtBy = new TokenBuckets<NodeId>(CATCHUP_BYTES_PER_SECOND, () => this.now(), CATCHUP_BYTES_BURST);

  /** Commits of many arrays are the master's to tell; whoever else has so much to say fills the others' disks. */
  #mayTell({ origin }: Event, sizeBytes: number): boolean {
    if (origin === this.self || origin === leaseSummary(this.#lease).master) return true;
    return this.#toldBy.of(origin).take(sizeBytes);
  }

  #expect(observation: Observation): void {
    if (observation.what !== 'member-faulty') return;
    this.#feedLocal({ type: 'failure-told', array: observation.array, member: observation.member });
  }

  async #takeCommit(event: Event, via: 'gossip' | 'catchup' | 'frame'): Promise<void> {
    const { body } = event;
    if (body.type !== 'commit' || event.origin === this.self) return;
    const { term } = body.record.version;
    if (staleTerm(event, this.term)) {
      // Catch-up brings history, and history is full of old terms. Anywhere else it is somebody who was master once.
      if (via === 'catchup') return;
      this.#counters.staleTerms += 1;
      this.#refused(
        `stale-term: commit of ${body.record.md} in term ${term}; this is term ${this.term}`,
        event.origin,
        null,
      );
      return;
    }
    const refusal = await this.#certificates.refusal(term, event.origin, body.certificate);
    if (refusal !== null) {
      this.#refused(`commit of ${body.record.md} refused: ${refusal}`, event.origin, null);
      return;
    }
    const known = this.#local.arrays.get(body.record.uuid);
    if (known !== undefined && compareVersions(known.record.version, body.record.version) >= 0) return;
    const missing = body.record.members.some((member) => !this.disks.paths.has(member.uuid));
    this.#feedLocal({ type: 'commit', record: body.record, forgotten: body.kind === 'release' });
    if (body.kind === 'release') this.#remembered.delete(body.record.uuid);
    if (missing) this.#rescan();
  }

  async #takeLease(from: NodeId, message: LeaseMessage): Promise<void> {
    let release: VerifiedRelease | null = null;
    switch (message.kind) {
      case 'vote-granted': {
        const event = await this.openSealed(message.vote);
        const { body } = event;
        const sound =
          body.type === 'vote' &&
          event.origin === from &&
          body.term === message.term &&
          body.candidate === this.self &&
          (body.shutOut ?? []).map(({ holder }) => holder).join() === (message.shutOut ?? []).join();
        if (!sound)
          throw new Error(`node ${from} sent a vote of term ${message.term} that is not its own for this node`);
        break;
      }
      case 'renew': {
        const refusal = await this.#certificates.refusal(message.term, from, message.certificate);
        if (refusal !== null) throw new Error(`renewal by node ${from} refused: ${refusal}`);
        break;
      }
      case 'released': {
        // The node named as next may pass it on: what counts is who sealed it.
        const { body, origin } = await this.openSealed(message.event);
        if (body.type !== 'lease-release') throw new Error(`node ${from} sent something else as a lease release`);
        release = { holder: origin, term: body.term, to: body.to };
        break;
      }
      default:
        break;
    }
    this.#feedLease(
      release === null ? { type: 'message', from, message } : { type: 'message', from, message, release },
    );
  }

  #takeSubmitted(event: Event): void {
    const { body, origin } = event;
    if (body.type === 'leave') {
      this.#feedMaster({ type: 'leaving', node: origin, agentStart: event.bootNumber });
    } else if (body.type === 'observation') {
      if (this.leading) this.#feedMaster({ type: 'observation', from: origin, observation: body.observation });
    } else if (body.type === 'request') {
      this.#askers.set(body.requestId, origin);
      if (!this.leading) this.answer(body.requestId, false, `node ${this.self} is not the master; ask again`);
      else this.#procedures.handle(origin, body.requestId, body.request, body.devices);
    }
  }

  #takeArrays(from: NodeId, message: ArrayMessage): void {
    switch (message.kind) {
      case 'report':
        if (this.leading) {
          const { kernelBoot, agentStart, reports, ended } = message;
          this.#feedMaster({ type: 'report', from, kernelBoot, agentStart, reports, ended });
        }
        break;
      case 'applied': {
        const { array, version, report } = message;
        if (this.leading) this.#feedMaster({ type: 'applied', from, array, version, report });
        break;
      }
      case 'released':
        if (from === leaseSummary(this.#lease).master) {
          this.#feedLocal({ type: 'released', array: message.array, version: message.version });
        }
        break;
      case 'probe':
        if (from === leaseSummary(this.#lease).master) this.#probe(message.array, message.member);
        break;
      case 'window': {
        const { array, since, sequence, loSector, hiSector } = message;
        this.#feedLocal({ type: 'window', from, array, since, sequence, range: { loSector, hiSector } });
        break;
      }
      case 'window-held': {
        const { array, since, sequence, writes } = message;
        this.#feedLocal({ type: 'window-held', from, array, since, sequence, writes });
        break;
      }
      case 'progress': {
        const { array, progress } = message;
        this.#feedLocal({ type: 'progress', from, array, progress });
        if (this.leading) this.#feedMaster({ type: 'progress', from, array, progress });
        break;
      }
      case 'commit':
      case 'event':
      case 'submit':
        // Sealed: `#receive` opens them; this node's own never take this way.
        break;
      case 'result':
        this.#waiting.get(message.requestId)?.({ ok: message.ok, text: message.text });
        this.#waiting.delete(message.requestId);
        break;
      case 'sees-query':
        this.#procedures.look(from, message);
        break;
      case 'sees-answer':
        this.#procedures.looked(from, message);
        break;
    }
  }

  #refused(reason: string, from: NodeId | null, peer: string | null): void {
    if (!this.#refusals.count(from, this.now())) return;
    const { total } = this.#refusals;
    this.parts.log.warn({ from, peer, total }, `refused: ${reason}`);
    this.sealEvent({
      type: 'notice',
      name: 'MessageRefused',
      severity: 'warning',
      subject: from === null ? 'network' : `node/${from}`,
      detail: { reason: reason.slice(0, 300), peer, total },
    }).catch(() => undefined);
  }

  #duplicateId(boots: readonly string[]): void {
    const { log, boot } = this.parts;
    log.error(
      { boots },
      `another agent runs as node ${this.self} (boots ${boots.join(', ')}; this one is ${boot.boot}): stopping; give each node its own key`,
    );
    this.notice('DuplicateId', 'critical', `node/${this.self}`, { boots: boots.join(' ') });
    this.stop('another agent runs with this node ID').finally(() =>
      this.onFatal?.(`two agents run as node ${this.self}`),
    );
  }

  /** Has `mdmesh doctor` look at this node, and gives its report. */
  onDoctor: (() => Promise<string>) | null = null;

  /** Called when the agent had to stop by itself. */
  onFatal: ((why: string) => void) | null = null;

  #catchUpWith(node: NodeId): void {
    if (this.#catchingUp.has(node) || !this.parts.net.connected().includes(node)) return;
    this.#catchingUp.add(node);
    const loop = async (): Promise<void> => {
      for (;;) {
        const before = this.parts.journal.head();
        const page = await this.parts.net.catchup(node, { have: cursorsOf(this.#acceptance) });
        this.#counters.catchups += 1;
        for (const sealed of page.events) this.#receiveSealed(Buffer.from(sealed, 'base64'), 'catchup');
        await this.#inbox;
        const waitMs = this.#broughtBy.of(node).spend(page.events.reduce((sum, { length }) => sum + length, 0));
        if (waitMs > 0) await new Promise<void>((resolve) => this.parts.timers.after(waitMs, resolve));
        // A page that brings nothing new would come again for ever: a hole that no journal can fill any more.
        if (!page.more || this.#stopped || this.parts.journal.head() === before) return;
      }
    };
    loop()
      .catch((error: unknown) => this.parts.log.debug({ err: error, node }, `catch-up with node ${node} failed`))
      .finally(() => this.#catchingUp.delete(node));
  }

  // --- what outlets ask -----------------------------------------------------------------------------------------------

  scan(): Promise<Disk[]> {
    return this.parts.driver.scan();
  }

  async request(request: Request): Promise<{ ok: boolean; text: string }> {
    const resolved = await resolveDevices(this.parts.driver, this.disks, this.records(), request);
    if ('error' in resolved) return { ok: false, text: resolved.error };
    await this.until(() => leaseSummary(this.#lease).master !== null, 5000);
    const { master } = leaseSummary(this.#lease);
    if (master === null) {
      const of = this.#quorum === null ? 'nodes' : 'quorum disks';
      return { ok: false, text: `the cluster has no master now (no majority of ${of}?); see \`mdmesh status\`` };
    }
    const requestId = this.parts.uuid();
    const outcome = new Promise<{ ok: boolean; text: string }>((resolve) => {
      const callOff = this.parts.timers.after(REQUEST_TIMEOUT_MS, () => {
        this.#waiting.delete(requestId);
        resolve({
          ok: false,
          text: `no answer from the master (node ${master}) within ${REQUEST_TIMEOUT_MS / 1000} s; see \`mdmesh status\` for what became of it`,
        });
      });
      this.#waiting.set(requestId, (answer) => {
        // Left running, it would keep the process from ending for as long.
        callOff();
        resolve(answer);
      });
    });
    const { event, sealed } = await this.sealEvent({
      type: 'request',
      requestId,
      request: resolved.request,
      devices: resolved.devices,
    });
    if (master === this.self) this.#takeSubmitted(event);
    else if (!this.parts.net.send(master, { room: 'arrays', message: { kind: 'submit', event: sealed } })) {
      this.answer(requestId, false, `the master (node ${master}) cannot be reached from here; try again`);
    }
    this.#spread(sealed, master);
    return outcome;
  }

  status(): Status {
    return statusOf({
      parts: this.parts,
      peers: this.#peers,
      lease: this.#lease,
      members: this.#members,
      roster: this.#roster,
      local: this.#local,
      master: this.#master,
      reservations: this.#reservations,
      quorum: this.#quorum,
      disks: this.disks,
      startedAt: this.#startedAt,
      clocks: this.#clocks,
      counters: { refused: this.#refusals.total, ...this.#counters },
    });
  }

  /** What `mdmesh doctor` finds on each of the other nodes: as the agents there had it made. */
  reports(): Promise<NodeReport[]> {
    return this.#doctors.ask(this.#peers.map(({ id }) => id).filter((id) => id !== this.self));
  }
}

/** What it says of the same state again is not worked out again. */
function ofNewest<State extends object, Said>(say: (state: State) => Said): (state: State) => Said {
  let newest: { state: State; said: Said } | null = null;
  return (state) => {
    if (newest?.state !== state) newest = { state, said: say(state) };
    return newest.said;
  };
}

function alarmOf(timers: Timers, rings: () => void): Alarm {
  if (timers.alarm !== undefined) return timers.alarm(rings);
  let stop = (): void => undefined;
  return {
    set(delayMs) {
      stop();
      stop = timers.after(delayMs, rings);
    },
    stop: () => stop(),
  };
}

function errorOf(error: unknown): { code: string; text: string } {
  if (error instanceof MdError) return { code: error.code, text: error.message };
  return { code: 'EIO', text: textOf(error) };
}
