/**
 * The one loop that owns all state of a node. Inputs (frames, gossip, md, clock, requests) are folded into the pure cores
 * one at a time; the effects that come out are performed here, by the modules beside this one where that is a subject of its own.
 * Nothing else in mdmesh holds state that matters.
 */
import type { PublicKey } from '@libp2p/interface';
import { leadsNoMore } from '../arrays/commit_words.ts';
import type { EndedArray } from '../arrays/ended.ts';
import { endedBefore, endedNow, type Inheritance, localEstate, localInherit } from '../arrays/estate.ts';
import { isWritten, mayTouch } from '../arrays/levels.ts';
import { localStep } from '../arrays/local.ts';
import { type LocalArray, type LocalEffect, type LocalInput, type LocalOp, localStart } from '../arrays/local_state.ts';
import { masterStep, notTakenOver, overlooked } from '../arrays/master.ts';
import { type MasterEffect, type MasterInput, masterStart } from '../arrays/master_state.ts';
import { heldForFailure } from '../arrays/may_pass.ts';
import { type ArrayRecord, compareVersions, isEnd, type NodeId, type Version } from '../arrays/record.ts';
import { gateClosed } from '../arrays/seen_here.ts';
import type { Config } from '../config/index.ts';
import { usesReservations } from '../config/index.ts';
import { textOf } from '../error_text.ts';
import {
  disksOf,
  type LeaseEffect,
  type LeaseInput,
  type LeaseState,
  leaseStart,
  leaseStep,
  leaseSummary,
  storedVoteForStop,
} from '../lease/index.ts';
import { type Disk, MdError, type MetadataResult, type MetadataWrite, type SectorRange } from '../md/driver.ts';
import { type MembersEffect, type MembersInput, membersStart, membersStep, statuses, view } from '../members/index.ts';
import type { AgentFace, Names, NodeReport, Status } from '../outlets/index.ts';
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
} from '../roster/index.ts';
import type { Identity } from '../wire/identity.ts';
import { isSound, staleTerm, wishedList } from '../wire/index.ts';
import type { ArrayMessage, Event, EventBody, Frame, LeaseMessage, Request } from '../wire/messages.ts';
import { type AgentState, masterOf, recordsOf, termOf, until } from './agent_state.ts';
import { Certificates } from './certificates.ts';
import { leaseConfig, listsOf, masterConfig, membersConfig, peersOf } from './core_configs.ts';
import { DiskView } from './disk_view.ts';
import { Doctors } from './doctors.ts';
import { Events, type Via } from './events.ts';
import { fenceSilent } from './fence_silent.ts';
import { verified } from './lease_words.ts';
import { isGoodMoment, underWay } from './making_way.ts';
import { MdOperations } from './md_operations.ts';
import { arraysInKernel, type KeysLooked, MemberKeys, ownsKeys } from './member_keys.ts';
import { ofNewest } from './of_newest.ts';
import { Pace, TICK_MS } from './pace.ts';
import type { AgentParts, Notice } from './parts.ts';
import { PeerClocks } from './peer_clocks.ts';
import { type Procedures, procedures } from './procedures.ts';
import { QuorumDisks, type WitnessClaim, wireSet } from './quorum_disks.ts';
import { QuorumWork } from './quorum_work.ts';
import { refusalOf, saidOfReload, whyNotTakenUp } from './reload.ts';
import { reportsOf } from './reports.ts';
import { type Answer, type MastersAnswer, Requests } from './requests.ts';
import { type ResolvedRequest, resolveDevices } from './resolve_devices.ts';
import { namesOf, statusOf } from './status.ts';
import { StoredCommits } from './stored_commits.ts';
import { giveBack, notWritten, writeRecord } from './write_record.ts';

const CATCHUP_EVERY_MS = 5000;
/** Hours of the day are what it is for. */
const WALL_EVERY_MS = 60_000;
/** Where all files agree, a list is agreed on well within this. */
const LIST_PATIENCE_MS = 2000;
const STORE_AGAIN_MS = 1000;
/** For the arrays that an earlier agent has left. */
const START_HOLD_MS = 15_000;
/** Far more than a drain of sound disks takes. */
const DRAIN_MS = 250;
const KEYS_WAIT_MS = 1000;
/** Then the record is tried again. */
const FORMER_WAIT_MS = 1000;
/** No master looks at the disks for a node that waits for them to decide. */
const LOOK_FOR_QUORUM_MS = 2000;
/** What a new master does not see by then others are to lead by. */
const UNSEEN_MS = 3000;
/** Of nodes that are shut down at once. Nobody waits meanwhile: the lease of a master that leaves lives on. */
const OTHERS_LEAVE_MS = 300;
/** A commit, an election, and a renewal after it take far less. */
const HAND_OVER_MS = 3000;
/** For so long another master is asked, where the one before had not begun. */
const ASK_AGAIN_MS = 20_000;
export class Agent implements AgentFace {
  readonly parts: AgentParts;
  readonly disks: DiskView;
  readonly names: Names;
  readonly #state: AgentState;
  readonly #events: Events;
  readonly #certificates: Certificates;
  readonly #requests: Requests;
  readonly #procedures: Procedures;
  readonly #doctors: Doctors;
  readonly #operations: MdOperations;
  readonly #commits: StoredCommits;
  readonly #clocks = new PeerClocks();
  readonly #pace: Pace;
  /** null: fencing does not ask for them. */
  readonly #keys: MemberKeys | null;
  /** null: nodes decide. */
  readonly #quorum: { disks: QuorumDisks; work: QuorumWork } | null;
  readonly #queue: (() => void)[] = [];
  #draining = false;
  readonly #stops: (() => void)[] = [];
  /** Own newest commit of each array, sealed, to send again. */
  readonly #sealedCommits = new Map<string, string>();
  #persisting = 0;
  /** Writes of metadata that the disks have not answered, each with the term of its lease. */
  readonly #atDisks = new Set<{ term: number | null }>();
  #certificate: string[] = [];
  readonly #opened = new Map<string, boolean>();
  readonly #counters = { staleTerms: 0, commits: 0 };
  readonly #startedAt: string;
  #reportQueued = false;

  /** What the agent before said of its arrays when it ended in order. */
  readonly #ended: readonly EndedArray[];

  private constructor(parts: AgentParts, lease: LeaseState, roster: RosterState, ended: readonly EndedArray[]) {
    const { config, driver } = parts;
    this.parts = parts;
    this.#ended = ended;
    this.#startedAt = parts.timers.wall().toISOString();
    this.disks = parts.disks ?? new DiskView(driver, config.cluster.uuid);
    const byDisks = config.quorum.by === 'disks';
    const reserved = usesReservations(config);
    const { copy, pathLoss } = config.arrays;
    const local = localStart(config.self, driver.kernelBoot(), copy, pathLoss.policy, reserved);
    this.#state = {
      members: membersStart(membersConfig(config, roster)),
      lease,
      roster,
      local: parts.inherited === undefined ? local : localInherit(local, parts.inherited),
      master: masterStart(config.self, masterConfig(config, roster), byDisks),
      peers: peersOf(config, roster, []),
      stopped: false,
    };
    this.names = namesOf({ parts, state: this.#state, disks: this.disks });
    const notice: Notice = (...said) => this.notice(...said);
    this.#events = new Events(parts, this.#state, {
      commit: (event, via) => this.#takeCommit(event, via),
      observation: (event) => this.#expect(event),
    });
    this.#certificates = new Certificates(quorumOf(roster).sets, byDisks, (sealed) => this.#events.open(sealed));
    this.#requests = new Requests(parts.timers);
    this.#procedures = procedures(this);
    this.#doctors = new Doctors(parts, () => this.onDoctor);
    this.#operations = new MdOperations(driver, this.disks, notice);
    this.#commits = new StoredCommits(parts, {
      isWanted: (array) => !this.#state.stopped && this.#state.local.arrays.get(array)?.unstored != null,
      stored: (array, version) => this.#feedLocal({ type: 'stored', array, version }),
    });
    this.#pace = new Pace(parts.timers, () => this.#tick());
    this.#keys = reserved
      ? new MemberKeys(parts, this.disks, this.#state, {
          notice,
          formerLanded: () => this.#isFormerLanded,
          rescan: () => this.#rescan(),
          looked: (looked) => this.#keysLooked(looked),
        })
      : null;
    this.#quorum = byDisks ? this.#quorumOf(parts, notice) : null;
  }

  #quorumOf({ config, driver, log }: AgentParts, notice: Notice): { disks: QuorumDisks; work: QuorumWork } {
    const disks = new QuorumDisks({
      driver,
      disks: this.disks,
      cluster: config.cluster.uuid,
      nodes: () => this.#state.lease.config.nodes,
      witness: config.quorum.witness,
      records: () => this.records(),
      hasEnded: (array) => this.#commits.hasEnded(array),
    });
    return { disks, work: new QuorumWork(config.self, disks, log, notice) };
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
    return this.#state.master.leading;
  }

  get term(): number {
    return termOf(this.#state);
  }

  /** The term in which this node is the master; null: in none. */
  get leadsInTerm(): number | null {
    const { role } = this.#state.lease;
    return role.kind === 'master' ? role.term : null;
  }

  /** As the core has it: for those who judge a simulation. */
  get lease(): LeaseState {
    return this.#state.lease;
  }

  /** Likewise. */
  get arrays(): ReadonlyMap<string, LocalArray> {
    return this.#state.local.arrays;
  }

  now(): number {
    return this.parts.driver.now();
  }

  // --- start and stop -------------------------------------------------------------------------------------------------

  async start(): Promise<void> {
    const { driver, net, timers, journal } = this.parts;
    this.#stops.push(this.#commits.start());
    this.#goByLists();
    // Before anything else: arrays that outlived an earlier agent have no grant behind them now, unless it left that as well.
    for (const md of this.parts.inherited === undefined ? arraysInKernel(driver) : []) {
      let isHeld = false;
      const hold = async (): Promise<void> => {
        const endMs = this.now() + START_HOLD_MS;
        while (!isHeld && this.now() < endMs) {
          // What is on its way may keep it from ending.
          isHeld =
            (await this.#tryTo(`hold ${md}`, () => driver.hold(md))) !== 'ETIMEDOUT' &&
            (await this.#tryTo(`hold the reads of ${md}`, () => driver.holdReads(md))) !== 'ETIMEDOUT';
          if (!isHeld) await this.until(() => false, TICK_MS);
        }
      };
      // What it has on its way may wait for a path; what is read must not pass until that is back.
      void this.until(() => isHeld, DRAIN_MS).then(() => (isHeld ? undefined : driver.guard.drop()));
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
          this.#events.receive(event.sealed, 'gossip');
          break;
        case 'connected':
          this.#feedMembers({ type: 'connected', node: event.node });
          this.#feedRoster({ type: 'connected', node: event.node });
          this.#events.catchUpWith(event.node);
          // What was on its way to a master on the connection before is lost.
          if (event.node === masterOf(this.#state)) this.#queueReport();
          break;
        case 'disconnected':
          this.#feedMembers({ type: 'disconnected', node: event.node });
          break;
        case 'refused':
          this.#events.refused(event.reason, event.from, event.peer);
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
    this.#pace.start();
    this.#pace.arm(this.#state, this.#nowMs);
    this.#stops.push(() => this.#pace.stop());
    this.#stops.push(timers.every(WALL_EVERY_MS, () => this.#tellWall()));
    this.#stops.push(timers.every(CATCHUP_EVERY_MS, () => this.#events.catchUpInTurn()));
    this.#stops.push(timers.every(WALL_EVERY_MS, () => void this.#stopLeftovers()));
  }

  /**
   * Resolves once this node has a grant, and all arrays that its disks or records tell of let writes pass; else when patience ends.
   * @param inSightMs patience while a majority of the nodes is seen
   */
  async settled(patienceMs: number, inSightMs: number): Promise<void> {
    const found = this.disks.arrays().map(({ record }) => record.uuid);
    const isOpen = (uuid: string): boolean => this.#state.local.arrays.get(uuid)?.observation?.held === false;
    const allOpen = (): boolean => [...found, ...this.#state.local.arrays.keys()].every(isOpen);
    const isSettled = (): boolean => leaseSummary(this.#state.lease).grantUntilMs !== null && allOpen();
    const endMs = this.now() + patienceMs;
    const inSight = (): boolean => this.#state.master.majoritySinceMs !== null;
    await this.until(() => isSettled() || (this.now() >= endMs && !inSight()), Math.max(patienceMs, inSightMs));
  }

  /** Says goodbye: writes are held, the master is told, a lease is released, the vote file says what is still promised. */
  async stop(reason: string): Promise<void> {
    const { driver } = this.parts;
    if (this.#state.stopped) {
      // It has made way, for nobody.
      await this.#tryTo('drop writes', () => driver.guard.drop());
      return;
    }
    this.#callOff?.('this agent is being stopped');
    this.#feedLocal({ type: 'leave' });
    const allHeld = (): boolean =>
      [...this.#state.local.arrays.values()].every((array) => array.observation?.held !== false);
    await this.until(allHeld, 2000);
    await this.#events.seal({ type: 'leave', reason }).then(({ sealed }) => {
      this.#events.toAll({ room: 'arrays', message: { kind: 'submit', event: sealed } });
      const agentStart = this.parts.boot.bootNumber;
      if (this.leading) this.#feedMaster({ type: 'leaving', node: this.self, agentStart });
    });
    // A master that leaves with others sees them out: a writer left in the record has to be taken off it at the next start. Those that
    // were told to end together with it say so in a moment.
    const heardMs = this.now() + (this.leading ? OTHERS_LEAVE_MS : 0);
    const leaves = (node: NodeId): boolean =>
      node === this.self || (this.leading && this.#state.master.nodes.get(node)?.leaving === true);
    const noWriter = (): boolean =>
      [...this.#state.local.arrays.values()].every((array) => !array.record.writers.some(leaves));
    await this.until(() => this.now() >= heardMs && noWriter(), 1500);
    this.#feedLease({ type: 'leave' });
    await this.until(() => leaseSummary(this.#state.lease).role !== 'master', 1000);
    // A whole cluster that stops at once: the holder's release is on its way, or comes when it has seen the others out, and a vote file
    // that says «nothing promised» spares this node the abstention at its next start.
    const isBound = (): boolean => (leaseSummary(this.#state.lease).promise?.untilMs ?? 0) > this.now();
    const stays = (): boolean =>
      this.#state.master.nodes.get(leaseSummary(this.#state.lease).promise?.holder ?? 0)?.leaving !== true;
    const endMs = this.now() + 500;
    await this.until(() => !isBound() || (this.now() >= endMs && stays()), 3000);
    this.#feedMembers({ type: 'leave' });
    await this.until(() => false, 50);
    for (const uuid of this.#state.local.arrays.keys()) this.#observe(uuid);
    this.#halt();
    await this.#tryTo('drop writes', () => driver.guard.drop());
    await this.#vouch();
    await this.#end();
  }

  /** Nothing of this node is in flight, nor passes any more: its last word, for the next start. */
  async #vouch(): Promise<void> {
    const { boot, files } = this.parts;
    // What was given up waiting for may still open an array.
    const late = [...this.#state.local.arrays.values()].filter(({ record }) => this.#lateHands.has(record.md));
    const arrays = endedNow(this.#state.local, this.#ended).filter(({ array }) =>
      late.every(({ record }) => record.uuid !== array),
    );
    if (arrays.length === 0) return;
    await this.#tryTo('store how it ended', () => files.storeEnd({ bootNumber: boot.bootNumber, arrays }));
  }

  /** Nothing is taken in any more, and nothing decided. */
  #halt(): void {
    this.#state.stopped = true;
    for (const stop of this.#stops) stop();
    this.#requests.giveUp('this agent was stopped meanwhile');
  }

  async #end(): Promise<void> {
    const { driver, files, net } = this.parts;
    const vote = storedVoteForStop(this.#state.lease, driver.kernelBoot(), this.now());
    if (vote !== null) await this.#tryTo('store the vote', () => files.storeVote(vote));
    await this.#events.ended();
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
    if (this.#state.stopped || this.#makingWay) throw new Error('this agent makes way, or is being stopped, already');
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
      if (!this.#state.stopped) this.#offer();
      throw error;
    } finally {
      this.#callOff = null;
    }
    driver.guard.endLease();
    await this.#end();
    return localEstate(this.#state.local, driver.guard.state().grantUntilMs);
  }
  #makingWay = false;
  #callOff: ((why: string) => void) | null = null;

  /** To the next in line, if there is one; with it comes a grant of its own. */
  async #giveUpMastership(): Promise<void> {
    const heir = (): NodeId | undefined =>
      view(this.#state.members).alive.find(({ node, eligible }) => eligible && node !== this.self)?.node;
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
      if (this.#underWay() !== null || (this.now() < endMs && !isGoodMoment(this.#state, this.now()))) return;
      this.#whenQuiet = null;
      this.#halt();
      resolve(true);
    };
    const patience = this.until(() => this.#state.stopped, 2 * HAND_OVER_MS);
    this.#whenQuiet();
    if ((await Promise.race([halted, patience])) !== true && !this.#state.stopped) {
      throw new Error(`${this.#underWay()} is under way and does not end; see \`mdmesh status\`, and try again`);
    }
  }
  /** Arrays with an operation that was given up waiting for: it may still be under way in the kernel. */
  readonly #lateHands = new Set<string>();
  /** Called between steps. */
  #whenQuiet: (() => void) | null = null;

  #underWay(): string | null {
    return underWay(this.#state, {
      late: this.#lateHands,
      commits: this.#persisting,
      atQuorumDisks: this.#quorum?.work.underWay ?? 0,
      looksAtKeys: this.#keys?.looking === true,
    });
  }

  /** Ends where it stands, as a kill would. For simulation. */
  async crash(): Promise<void> {
    this.#state.stopped = true;
    for (const stop of this.#stops) stop();
    await this.parts.net.stop();
  }

  until(done: () => boolean, patienceMs: number): Promise<void> {
    return until(this.parts, done, patienceMs);
  }

  /** @returns the code of what went wrong; null: nothing did */
  async #tryTo(what: string, act: () => Promise<unknown>): Promise<string | null> {
    try {
      await act();
      return null;
    } catch (error) {
      this.parts.log.error({ err: error }, `${what}: ${textOf(error)}`);
      return errorOf(error).code;
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
      this.#pace.arm(this.#state, this.#nowMs);
    }
    this.#whenQuiet?.();
  }

  /** The clock as the newest step read it. */
  #nowMs = 0;
  readonly #mayStand = ofNewest(mayStand);

  #read(): number {
    this.#nowMs = this.now();
    return this.#nowMs;
  }

  #tick(): void {
    this.#run(() => {
      this.#pace.ticked(this.#read());
      this.#feedMembers({ type: 'tick' });
      this.#feedLease({ type: 'tick' });
      this.#tellQuorumDisks();
      this.#watchLists();
      this.#offer();
      this.#feedLocal({ type: 'tick' });
      if (this.leading) this.#feedMaster({ type: 'tick' });
      if (this.#keys !== null && this.#nowMs >= this.#keys.nextLookMs) void this.#keys.look();
    });
  }

  /** Awake anyway: a tick that would be due before long needs no waking of its own. */
  #tickAlong(): void {
    if (this.#pace.isNear(this.#nowMs)) this.#tick();
  }

  #feedMembers(input: MembersInput): void {
    this.#run(() => {
      const { state, effects } = membersStep(this.#state.members, input, this.#read());
      this.#state.members = state;
      for (const effect of effects) this.#doMembers(effect);
    });
  }

  #feedLease(input: LeaseInput): void {
    this.#run(() => {
      // What was promised is on its way to the disk: no step may follow.
      if (this.#state.stopped) return;
      const { state, effects } = leaseStep(this.#state.lease, input, this.#read());
      this.#state.lease = state;
      for (const effect of effects) this.#doLease(effect);
    });
  }

  #feedRoster(input: RosterInput): void {
    this.#run(() => {
      const { state, effects } = rosterStep(this.#state.roster, input, this.#read());
      this.#state.roster = state;
      for (const effect of effects) this.#doRoster(effect);
    });
  }

  #feedLocal(input: LocalInput): void {
    this.#run(() => {
      if (this.#state.stopped) return;
      const before = this.#state.local;
      const { state, effects } = localStep(before, input, this.#read());
      this.#state.local = state;
      this.#pace.stir([input, ...effects], this.#nowMs);
      // A record that was not known yet: what md has of it is looked at before anything is decided about it.
      if (input.type === 'commit' && !before.arrays.has(input.record.uuid)) this.#observe(input.record.uuid);
      for (const effect of effects) this.#doLocal(effect);
      const mayDate = input.type === 'commit' || input.type === 'paths' || input.type === 'grant';
      if (mayDate && this.#keys?.looksDated === true) void this.#keys.look();
      this.#watchOpen();
    });
  }

  #feedMaster(input: MasterInput): void {
    this.#run(() => {
      const { state, effects } = masterStep(this.#state.master, input, this.#read());
      this.#state.master = state;
      this.#pace.stir([input, ...effects], this.#nowMs);
      for (const effect of effects) this.#doMaster(effect);
    });
  }

  ask(array: string, change: Extract<MasterInput, { type: 'ask' }>['change'], requestId: string | null): void {
    this.#feedMaster({ type: 'ask', array, change, requestId });
  }

  /** See the input of that name. */
  putBack(record: ArrayRecord): void {
    this.#feedMaster({ type: 'put-back', record });
  }

  /** Of a master: see `notTakenOver` (arrays/master.ts). */
  notTakenOver(): ReturnType<typeof notTakenOver> {
    return notTakenOver(this.#state.master);
  }

  /** The newest committed record of each array, as known here. */
  records(): ArrayRecord[] {
    return recordsOf(this.#state);
  }

  /** Of this array, here or by this node's journal; null: nothing is known of it. */
  newestKnown(array: string): ArrayRecord | null {
    const known = [...this.records(), ...this.#commits.records()].filter(({ uuid }) => uuid === array);
    return known.sort((a, b) => compareVersions(b.version, a.version))[0] ?? null;
  }

  // --- members --------------------------------------------------------------------------------------------------------

  /** Renewals and their answers come by themselves: who sends them need not be probed. */
  #rhythmOf(frame: Frame): number | null {
    if (frame.room !== 'lease') return null;
    const { kind } = frame.message;
    return kind === 'renew' || kind === 'renew-ack' || kind === 'follow' ? this.#state.lease.config.renewMs : null;
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
    const { abstains, disks } = leaseSummary(this.#state.lease);
    // The master writes the superblocks: it would give up a member that it does not see.
    const blind = this.records().some((record) => record.blind?.includes(this.self));
    // Disks ask for no votes, but who does not reach them cannot lead.
    const asksVotes = disks === null || disks.set === null;
    const mayLead = asksVotes ? abstains === null || this.now() < abstains.untilMs : disks.quorate;
    const eligible =
      !blind && !this.#makingWay && !this.#leavesItToOthers() && this.#mayStand(this.#state.roster) && mayLead;
    if (eligible === this.#eligible) return;
    this.#eligible = eligible;
    this.#feedMembers({ type: 'eligible', eligible });
  }
  #eligible = false;

  #tellQuorumDisks(): void {
    const work = this.#quorum?.work;
    if (work === undefined) return;
    const claims = (): WitnessClaim | null => {
      const term = this.leadsInTerm;
      if (!this.leading || this.records().length === 0) return null;
      return { uuid: this.parts.uuid(), holds: () => this.leadsInTerm === term };
    };
    work.lookForWitness(() => this.#nowMs, claims);
    this.#lookForQuorum();
    const wanted = work.newlyWanted();
    if (wanted !== null) this.#feedLease({ type: 'quorum-disks', ...wanted });
  }

  /** A disk that could not be read when this node started may be one of those that decide. */
  #lookForQuorum(): void {
    const { disks } = leaseSummary(this.#state.lease);
    if (disks?.set == null || disks.quorate || this.now() < this.#lookForQuorumAtMs) return;
    this.#lookForQuorumAtMs = Number.POSITIVE_INFINITY;
    void this.#rescan().finally(() => {
      this.#lookForQuorumAtMs = this.now() + LOOK_FOR_QUORUM_MS;
    });
  }
  #lookForQuorumAtMs = 0;

  /**
   * Before a member is removed, which then cannot be reached any more: it has no part in what decides.
   * @returns whether that came about in time; else it stays in the set
   */
  async takeOutOfQuorum(member: string, patienceMs: number): Promise<boolean> {
    const isIn = (): boolean => this.quorumDisks().includes(member);
    if (!isIn()) return true;
    const work = this.#quorum?.work;
    work?.letLeave(member, true);
    try {
      await this.until(() => !isIn() || !this.leading, patienceMs);
      return !isIn();
    } finally {
      work?.letLeave(member, false);
    }
  }

  /** Names of the disks that decide; empty where nodes do. */
  quorumDisks(): readonly string[] {
    const set = leaseSummary(this.#state.lease).disks?.set ?? null;
    return set === null ? [] : disksOf(set);
  }

  #feedView(): void {
    const { alive } = view(this.#state.members);
    // Who is not on the list yet, or no more, neither leads nor keeps others from it.
    const { sets } = quorumOf(this.#state.roster);
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
              timers.after(STORE_AGAIN_MS, () => !this.#state.stopped && store());
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
    const holds = (): boolean =>
      leaseSummary(this.#state.lease).role === 'master' && this.term === term && !this.#state.stopped;
    while (holds()) {
      await this.#handOver(term, this.self);
      if (holds()) await this.until(() => false, TICK_MS);
    }
  }

  /** What a change of the list waits for comes by itself; the rest is only looked at while one is under way. */
  #watchLists(): void {
    const { agreed, pending, previous, wish } = this.#state.roster;
    if (pending === null && previous === null && wish.digest === agreed.version.digest) return;
    const writers = [...new Set(this.records().flatMap((record) => mayTouch(record)))];
    this.#feedRoster({ type: 'facts', writers, ends: this.#events.newest() });
  }

  /** The lists or the configuration have changed: every room is told what of it concerns it. */
  #goByLists(): void {
    const { boot, config, fencing, net } = this.parts;
    const quorum = quorumOf(this.#state.roster);
    const before = new Set(this.#state.peers.map(({ id }) => id));
    this.#state.peers = peersOf(config, this.#state.roster, this.#state.peers);
    const keys = this.#events.goBy(this.#state.peers, this.#state.roster.agreed.ended);
    net.setPeers(this.#state.peers);
    this.#certificates.goBy(quorum.sets);
    this.#feedMembers({ type: 'config', config: membersConfig(config, this.#state.roster) });
    this.#feedLease({ type: 'config', config: leaseConfig(config, this.#state.roster, boot.boot) });
    this.#feedMaster({ type: 'config', config: masterConfig(config, this.#state.roster) });
    const { copy, pathLoss } = config.arrays;
    this.#feedLocal({ type: 'config', config: { copyOptions: copy, pathLoss: pathLoss.policy } });
    const { holderMs, voterMs } = quorum;
    fencing.configure({ ...config, timing: { ...config.timing, holderMs, voterMs } });
    for (const [node, { status }] of statuses(this.#state.members)) {
      if (!before.has(node)) this.#feedMaster({ type: 'status', node, status });
    }
    this.onKeys?.(keys);
  }
  /** Called with the keys that count of every node, whenever they change. */
  onKeys: ((keys: ReadonlyMap<NodeId, readonly PublicKey[]>) => void) | null = null;

  /** Reads the configuration anew, and takes it up: the composition root knows where it is. */
  onReload: (() => Promise<Answer>) | null = null;

  /** As `mdmesh reload` and SIGHUP ask for it. */
  async reloadConfig(): Promise<Answer> {
    return (await this.onReload?.()) ?? { ok: false, text: 'this agent has no configuration file to read again' };
  }

  /** Starts the successor and makes way for it: the composition root knows how. */
  onHandOver: (() => Promise<Answer>) | null = null;

  /** As `mdmesh hand-over` asks for it. */
  async handOver(): Promise<Answer> {
    return (
      (await this.onHandOver?.()) ?? {
        ok: false,
        text: 'this agent has no program of which it could start a successor',
      }
    );
  }

  /** Takes up a configuration that was read anew, all of it or nothing. @param identity what its key file holds now */
  async reload(next: Config, identity: Identity = this.parts.identity): Promise<Answer> {
    const before = this.parts.config;
    const isNewKey = identity.peerId !== this.parts.identity.peerId;
    const keys = { now: this.parts.identity.peerId, next: identity.peerId };
    const problems = whyNotTakenUp(before, next, this.#state.roster, keys);
    if (problems.length > 0) {
      this.parts.log.warn({ file: next.file, problems }, `reload refused: ${problems.join('; ')}`);
      return { ok: false, text: refusalOf(next, problems) };
    }
    this.parts.config = next;
    if (isNewKey) {
      this.parts.identity = identity;
      await this.parts.net.changeIdentity(identity);
    }
    this.#feedRoster({ type: 'wish', wish: wishedList(next.nodes, next.timing) });
    this.#goByLists();
    this.#watchLists();
    await this.until(() => waitsFor(this.#state.roster) === null, LIST_PATIENCE_MS);
    const newKey = isNewKey ? identity.peerId : null;
    const { changed, waits, said, text } = saidOfReload(before, next, newKey, this.#state.roster);
    this.parts.log.info({ changed, waits }, `reload: ${said}`);
    return { ok: true, text };
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
        const { shutOut } = effect;
        const store = files.storeVote(effect.vote);
        if (candidate === null) {
          this.#tryTo('store the vote', () => store);
          break;
        }
        const seal = async (): Promise<string | null> => {
          if (shutOut === null) return null;
          const passed = shutOut.length > 0 ? { shutOut: [...shutOut] } : {};
          return (await this.#events.seal({ type: 'vote', term, candidate, ...passed })).sealed;
        };
        store
          .then(seal)
          .then((sealed) => this.#feedLease({ type: 'vote-stored', term, candidate, sealed }))
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
        this.#keys?.elected(effect.shutOut, effect.lapsed);
        this.#tellWall();
        this.#feedMaster({ type: 'elected', term: effect.term });
        for (const [node, { status }] of statuses(this.#state.members))
          this.#feedMaster({ type: 'status', node, status });
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
        this.#requests.masterIs(effect.node);
        break;
      case 'disk-read': {
        const { disk, id } = effect;
        this.#quorum?.work.read(effect, (blocks) => {
          if (!this.#state.stopped) this.#feedLease({ type: 'disk-read', disk, id, blocks });
        });
        break;
      }
      case 'disk-write': {
        const { disk, id, block } = effect;
        // Who reads that it has let go counts on nothing of it landing any more.
        const mayGo = block.phase === 'free' ? this.#allLanded() : null;
        this.#quorum?.work.write(effect, mayGo, (done) => {
          if (!this.#state.stopped) this.#feedLease({ type: 'disk-written', disk, id, done });
        });
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
        this.#events.seal({ type: 'disk-lease', term, set: wireSet(set) }).then(
          ({ sealed }) => {
            this.#events.spread(sealed);
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

  async #handOver(term: number, to: NodeId | null): Promise<void> {
    const isDone = (): boolean => this.#persisting === 0 && this.#atDisks.size === 0;
    await this.until(isDone, 1000);
    if (!isDone()) return;
    this.#feedLease({ type: 'releasing', term });
    this.parts.driver.guard.endLease();
    const { sealed } = await this.#events.seal({ type: 'lease-release', term, to });
    this.#events.publish(sealed);
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
        void this.#commits.store(effect.array, effect.md, effect.version);
        break;
      case 'submit':
        this.#events.seal({ type: 'observation', observation: effect.observation }, ({ event, sealed }) => {
          const master = masterOf(this.#state);
          if (this.leading) this.#takeSubmitted(event);
          else this.#toMaster({ kind: 'submit', event: sealed });
          // The others get ready for the commit meanwhile.
          this.#events.toAll({ room: 'arrays', message: { kind: 'event', event: sealed } }, master);
          this.#events.publishLater(sealed);
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
        this.#events.toAll({ room: 'arrays', message: { kind: 'progress', array, progress } });
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
        void this.#keys?.look();
        break;
      case 'stuck':
        this.#suspendStuck(effect.md, `${effect.md}: ${effect.why}`);
        break;
      case 'trouble':
        if (effect.text === null) log.info({ array: effect.md }, `${effect.md}: trouble is over`);
        else log.warn({ array: effect.md }, effect.text);
        break;
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
   * @param text with the array's name, as the driver's errors have it
   */
  #suspendStuck(md: string, text: string): void {
    if (this.#stuck.has(md)) return;
    this.#stuck.add(md);
    this.notice('SuspendStuck', 'critical', md, { node: this.self, why: text });
    this.onFatal?.(`${text}; this node must be fenced or reset`);
  }

  readonly #stuck = new Set<string>();

  #observeMd(md: string): void {
    for (const [uuid, array] of this.#state.local.arrays) if (array.record.md === md) this.#observe(uuid);
  }

  #observe(uuid: string): void {
    const array = this.#state.local.arrays.get(uuid);
    if (array === undefined || this.#state.stopped) return;
    const seen = this.parts.driver.observe(array.record.md);
    // Another array under the same kernel name is none of ours.
    const ours = seen !== null && (seen.arrayUuid === null || seen.arrayUuid === uuid) ? seen : null;
    this.#feedLocal({ type: 'observed', array: uuid, observation: ours });
  }

  /** WritesEnabled and WritesDisabled, when an array here begins or ceases to let writes pass. */
  #watchOpen(): void {
    for (const [uuid, array] of this.#state.local.arrays) {
      const isOpen = array.observation != null && !array.observation.held;
      const wasOpen = this.#opened.get(uuid) ?? false;
      if (wasOpen === isOpen || (wasOpen && heldForFailure(this.#state.local, array, this.#nowMs))) continue;
      this.#opened.set(uuid, isOpen);
      this.notice(isOpen ? 'WritesEnabled' : 'WritesDisabled', 'info', array.record.md, {
        node: this.self,
        term: this.term,
      });
    }
  }

  /** Looks at the disks again and lets the arrays know. */
  async rescan(): Promise<readonly Disk[]> {
    await this.#rescan();
    return this.disks.disks;
  }

  async #rescan(): Promise<void> {
    await this.#tryTo('look at the disks', () => this.disks.refresh());
    this.#feedLocal({ type: 'paths', paths: this.disks.paths });
    await this.#stopLeftovers();
  }

  async #stopLeftovers(): Promise<void> {
    for (const md of this.#leftovers())
      await this.#tryTo(`stop ${md}, which is left over`, () => this.parts.driver.stop(md));
  }

  /**
   * What md has here, and lets nothing through of, since an earlier life of this agent, and the cluster has no more: it would keep its
   * disks and its name for ever. Whoever is granted writes knows of all arrays, but for those whose records it has yet to hear of an agent
   * in whose place it runs.
   */
  #leftovers(): string[] {
    const { driver } = this.parts;
    const { arrays, inherited, grantUntilMs } = this.#state.local;
    if (this.now() >= grantUntilMs || this.#state.stopped) return [];
    return arraysInKernel(driver).filter((md) => {
      const seen = driver.observe(md);
      const uuid = seen?.arrayUuid ?? null;
      if (seen === null || uuid === null || arrays.has(uuid)) return false;
      return (seen.held || gateClosed(seen)) && (!inherited.has(uuid) || this.#commits.hasEnded(uuid));
    });
  }

  #queueReport(): void {
    if (this.#reportQueued) return;
    this.#reportQueued = true;
    this.#run(() => {
      this.#reportQueued = false;
      const reports = reportsOf(this.#state.local, this.#commits.remembered, this.now());
      const { boot, driver } = this.parts;
      const [kernelBoot, agentStart] = [driver.kernelBoot(), boot.bootNumber];
      const ended = endedBefore(this.#state.local, this.#ended);
      this.#toMaster({ kind: 'report', term: this.term, kernelBoot, agentStart, reports, ended });
    });
  }

  #tellWall(): void {
    const wall = this.parts.timers.wall();
    const minuteOfDay = wall.getHours() * 60 + wall.getMinutes();
    this.#feedMaster({ type: 'wall', wall: { seconds: Math.floor(wall.getTime() / 1000), minuteOfDay } });
  }

  // --- reservations ---------------------------------------------------------------------------------------------------

  async #keysLooked({ keys, mayShutOut, wereTaken }: KeysLooked): Promise<void> {
    if (mayShutOut !== this.#state.lease.mayShutOut) this.#feedLease({ type: 'may-shut-out', may: mayShutOut });
    this.#feedLocal({ type: 'keys', keys });
    if (this.leading && wereTaken) this.#feedLease({ type: 'step-down', reason: 'its keys were taken off members' });
    // Told to none, they would wait for its lease to end, and for its grant: by then it stands again.
    else if (this.leading && this.#leavesItToOthers())
      await this.#tryTo('leave the lead to a node that has its keys', () => this.#giveUpMastership());
  }

  /**
   * Whoever lacks keys, and may put none back for what it has on its way, commits nothing, however long it leads; nor does who does not see
   * the members that it would have to take over. But where that is so of all, one of them has to grant.
   */
  #leavesItToOthers(): boolean {
    const unseen = this.#unseenAsMaster.some((uuid) => !this.disks.paths.has(uuid));
    return (unseen || this.#keys?.keepsFromCommits === true) && this.#mayLeadInstead().length > 0;
  }

  #mayLeadInstead(): NodeId[] {
    const { alive } = view(this.#state.members);
    return alive.filter(({ node, eligible }) => node !== this.self && eligible).map(({ node }) => node);
  }

  /** Members, seen by another node that may lead, without which this one could not take over what it found. */
  #unseenAsMaster: readonly string[] = [];

  /** After a while: a disk may be late, and others have to report first. */
  async #leaveWhatIsUnseen(): Promise<void> {
    const { nodes, electedAtMs } = this.#state.master;
    if (!this.leading || this.#leavesLead || this.now() - electedAtMs < UNSEEN_MS) return;
    const waiting = (notTakenOver(this.#state.master) ?? []).filter(({ why }) => why !== null);
    const found = new Map(waiting.map(({ record }) => [record.uuid, record]));
    const arrays = new Set([...found.keys(), ...overlooked(this.#state.master)]);
    this.#unseenAsMaster = [...arrays].flatMap((array) => {
      const record = this.#state.local.arrays.get(array)?.record ?? found.get(array);
      const active = record?.members.filter(({ role }) => role === 'active').map(({ uuid }) => uuid);
      for (const node of this.#mayLeadInstead()) {
        const seenThere = nodes.get(node)?.reports.get(array)?.visible ?? [];
        const unseen = (active ?? seenThere).filter((uuid) => !this.disks.paths.has(uuid));
        if (unseen.length > 0 && unseen.every((uuid) => seenThere.includes(uuid))) return unseen;
      }
      return [];
    });
    if (!this.#leavesItToOthers()) return;
    this.#leavesLead = true;
    await this.#tryTo('leave the lead to a node that sees the members', () => this.#giveUpMastership());
    this.#leavesLead = false;
  }
  #leavesLead = false;

  async #shutOutSilent(holder: NodeId, id: number): Promise<void> {
    const wanted = (): boolean => this.#state.lease.shutOuts.get(holder)?.id === id && !this.#state.stopped;
    const done = (await this.#keys?.shutOutOfAll(holder, wanted)) ?? false;
    if (!this.#state.stopped) this.#feedLease({ type: 'shut-out', holder, id, done });
  }

  /** See `MemberKeys`. */
  async formerLeasesOver(paths: Iterable<string>): Promise<void> {
    await this.#formerLanded();
    await this.#keys?.formerLeasesOver(paths);
  }

  // --- the master's side ----------------------------------------------------------------------------------------------

  #doMaster(effect: MasterEffect): void {
    switch (effect.type) {
      case 'scan':
        this.#scanAsMaster();
        break;
      case 'persist':
        this.#persist(effect.record);
        break;
      case 'give-back':
        void this.#giveBack(effect.record);
        break;
      case 'commit':
        this.#commit(effect);
        break;
      case 'send-commit': {
        const sealed = this.#sealedCommits.get(effect.array);
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
        this.answer(effect.requestId, effect);
        break;
      case 'notice':
        this.notice(effect.name, effect.severity, effect.subject, effect.detail);
        break;
    }
  }

  async #scanAsMaster(): Promise<void> {
    await this.#rescan();
    await this.#keys?.sweep();
    const found = this.disks.found().filter(({ record }) => !this.#procedures.isBeingMade(record.uuid));
    // News for this node as well: without it, it is granted nothing, and may put its key on no disk on which it has to commit.
    const told = this.#state.master.nodes.get(this.self)?.reports;
    for (const { record, stands, problem } of found) {
      // Told of an attempt that no active member has taken, this node would know more than the disks for ever, once they are all seen.
      if (problem !== null || !stands) continue;
      // By its journal alone, where it has restarted since.
      const known = this.#state.local.arrays.get(record.uuid)?.record.version ?? told?.get(record.uuid)?.known ?? null;
      if (known !== null && compareVersions(known, record.version) < 0)
        this.#feedLocal({ type: 'commit', record, forgotten: record.givenBack === true });
    }
    this.#feedMaster({ type: 'disks', found });
    await this.#leaveWhatIsUnseen();
  }

  /** @throws Error when this agent ends before */
  async #allLanded(): Promise<void> {
    await this.until(() => this.#atDisks.size === 0 || this.#state.stopped, Number.POSITIVE_INFINITY);
    if (this.#atDisks.size > 0) throw new Error('this agent ends');
  }

  /**
   * What this node began to write under an earlier lease is over: it would land on what is written now.
   * @throws Error when it does not end
   */
  async #formerLanded(): Promise<void> {
    await this.until(() => this.#isFormerLanded, FORMER_WAIT_MS);
    if (!this.#isFormerLanded)
      throw new Error('what this node wrote in an earlier term is on its way to the disks still');
  }

  get #isFormerLanded(): boolean {
    const term = this.leadsInTerm;
    return [...this.#atDisks].every((write) => write.term === term);
  }

  /** As the driver's: what is under way is counted. */
  async writeMetadata(writes: MetadataWrite[]): Promise<MetadataResult[]> {
    const write = { term: this.leadsInTerm };
    this.#atDisks.add(write);
    try {
      return await this.parts.driver.writeMetadata(writes);
    } finally {
      this.#atDisks.delete(write);
    }
  }

  async #persist(record: ArrayRecord): Promise<void> {
    this.#persisting += 1;
    const { config } = this.parts;
    const stamped = { ...record, utimeSeconds: this.#updatedAt(record) };
    const { leaseOver, ...outcome } = await this.#readyToWrite(stamped)
      .then(() => {
        this.#demandTerm(stamped);
        this.#demandRests(stamped);
        return writeRecord(this, this.disks, config.cluster, stamped, this.#keys !== null);
      })
      .catch(notWritten);
    if (leaseOver)
      this.#feedLease({ type: 'step-down', reason: 'the guard refused a metadata write: the lease has ended' });
    this.#persisting -= 1;
    this.#feedMaster({ type: 'persisted', array: record.uuid, version: record.version, ...outcome });
  }

  /** A version names one record: what is tried again has the time of its first attempt, which may stand on a member. In seconds. */
  #updatedAt({ uuid, version }: ArrayRecord): number {
    const known = this.#updates.get(uuid);
    if (known !== undefined && compareVersions(known.version, version) === 0) return known.seconds;
    const seconds = Math.floor(this.parts.timers.wall().getTime() / 1000);
    this.#updates.set(uuid, { version, seconds });
    return seconds;
  }
  /** Array → its newest version that was to be written here, and when first. */
  readonly #updates = new Map<string, { version: Version; seconds: number }>();

  async #giveBack(record: ArrayRecord): Promise<void> {
    // That it has ended stands on no member from here on: who was away has it from a journal.
    const error = await this.#commits
      .durable(record)
      .then(() => this.#takeMarksOff(record))
      .catch(textOf);
    if (error === null) this.#keys?.ended(record.members);
    this.#feedMaster({ type: 'given-back', array: record.uuid, error });
  }

  /** @returns what went wrong, or null @throws Error when this node leads no more */
  async #takeMarksOff(record: ArrayRecord): Promise<string | null> {
    if (this.#state.stopped) throw new Error('this agent ends');
    this.#persisting += 1;
    try {
      // By a new look: what a master before this one has given back already is mdadm's.
      await this.#rescan();
      await this.#formerLanded();
      this.#demandTerm(record);
      return await giveBack(this, this.disks, record);
    } finally {
      this.#persisting -= 1;
    }
  }

  /** @throws Error when this node has lost the term that it was to be committed in, though it may lead in a later one by now */
  #demandTerm({ version: { term } }: ArrayRecord): void {
    if (this.leadsInTerm !== term) throw new Error(`this node leads no more in term ${term}`);
  }

  /** @throws Error when it was taken over from what was seen, and meanwhile a member has come that knows of more */
  #demandRests({ uuid, version: { term, index } }: ArrayRecord): void {
    const stands = this.disks.arrays().find(({ record }) => record.uuid === uuid)?.record.version;
    if (stands !== undefined && stands.term < term && stands.index >= index)
      throw new Error(`the disks hold commit ${stands.term}.${stands.index}, on which this one does not rest`);
  }

  /** @throws Error when this node may not write it */
  async #readyToWrite(record: ArrayRecord): Promise<void> {
    // Where the last look, on a busy machine, missed a disk, nothing but another one brings it back.
    const unseen = record.members.some((member) => isWritten(member) && !this.disks.paths.has(member.uuid));
    if (unseen) await this.#rescan();
    await this.#formerLanded();
    const keys = this.#keys;
    if (keys === null) return;
    // A member that refuses this node's writes has not failed.
    if (!ownsKeys(this.#state.local, record)) {
      await keys.look();
      // A new master's own grant is on its way.
      await this.until(() => ownsKeys(this.#state.local, record), KEYS_WAIT_MS);
    }
    await this.until(() => keys.isAlone(record), this.#state.lease.config.holderMs + this.#state.lease.config.voterMs);
    if (!keys.isAlone(record)) throw new Error('no majority has followed since this node’s keys were put there');
  }

  async #commit(effect: Extract<MasterEffect, { type: 'commit' }>): Promise<void> {
    const { record, kind, before, detail } = effect;
    this.#counters.commits += 1;
    const body: EventBody = { type: 'commit', kind, record, before, detail, certificate: this.#certificate };
    await this.#events.seal(body, ({ sealed }) => {
      this.#sealedCommits.set(record.uuid, sealed);
      this.#events.toAll({ room: 'arrays', message: { kind: 'commit', event: sealed } });
      const before = this.#state.local.arrays.get(record.uuid)?.record.members ?? [];
      const ends = isEnd(kind, record);
      if (ends) this.#commits.end(record);
      this.#feedLocal({ type: 'commit', record, forgotten: ends });
      const stays = (uuid: string): boolean => record.members.some((member) => member.uuid === uuid);
      // Members that are given back are written to once more.
      const left = before.filter(({ uuid }) => !stays(uuid));
      if (!ends) this.#keys?.left(left, record);
      this.#events.publishLater(sealed);
    });
  }

  async #fence(node: NodeId): Promise<void> {
    const notice: Notice = (...said) => this.notice(...said);
    const fenced = await fenceSilent(node, this.parts, this.#state, this.#keys, notice);
    if (fenced !== null) this.#feedMaster(fenced);
  }

  answer(requestId: string, { ok, text, undone }: MastersAnswer): void {
    const asker = this.#requests.takeAsker(requestId);
    const answer = { ok, text: text.slice(0, 4000), ...(undone && { undone }) };
    if (asker === undefined || asker === this.self) this.#requests.answered(requestId, answer);
    else this.toNode(asker, { kind: 'result', requestId, ...answer });
  }

  // --- sending --------------------------------------------------------------------------------------------------------

  toNode(to: NodeId, message: ArrayMessage): void {
    if (to === this.self) this.#run(() => this.#takeArrays(this.self, message));
    else this.parts.net.send(to, { room: 'arrays', message });
  }

  #toMaster(message: ArrayMessage): void {
    const master = masterOf(this.#state);
    if (master !== null) this.toNode(master, message);
  }

  notice(...[name, severity, subject, detail]: Parameters<Notice>): void {
    const log = severity === 'info' || severity === 'notice' ? 'info' : severity === 'warning' ? 'warn' : 'error';
    const record = [...this.#state.local.arrays.values()].find((array) => array.record.md === subject)?.record;
    // `node` in a line is this one; which one a notice is about stands in its detail.
    const place = { term: this.term, index: record?.version.index ?? null, array: record?.md ?? null };
    this.parts.log[log]({ event: name, subject, ...place, detail }, `${name} ${subject}`);
    this.tell({ type: 'notice', name, severity, subject, detail });
  }

  /** Seals an event and lets every node have it, for their journals. */
  tell(body: EventBody): void {
    this.#events.tell(body);
  }

  // --- receiving ------------------------------------------------------------------------------------------------------

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
        this.#events.inOrder(() => this.#takeLease(from, frame.message));
        break;
      case 'arrays': {
        const { message } = frame;
        this.#events.inOrder(async () => {
          if (message.kind === 'commit' || message.kind === 'event') {
            await this.#events.take(Buffer.from(message.event, 'base64'), 'frame');
          } else if (message.kind === 'submit') {
            await this.#events.take(Buffer.from(message.event, 'base64'), 'frame', (event) => {
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
        } else this.#events.refused(`node ${from} told of a node list that is not what its digest says`, from, null);
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
    const news = this.#clocks.heard(node, theirMs, this.#nowMs);
    if (news === null) return;
    const { percent, severity } = news;
    this.notice('ClocksApart', severity ?? 'notice', `node/${node}`, { node, percent });
  }

  #expect({ body }: Event): void {
    if (body.type !== 'observation' || body.observation.what !== 'member-faulty') return;
    const { array, member } = body.observation;
    this.#feedLocal({ type: 'failure-told', array, member });
  }

  async #takeCommit(event: Event, via: Via): Promise<void> {
    const { body } = event;
    if (body.type !== 'commit' || event.origin === this.self) return;
    const { record, kind } = body;
    const { term } = record.version;
    const ends = isEnd(kind, record);
    // That an array has ended is news whenever it comes, and all that is still news of an earlier term.
    if (staleTerm(event, this.term) && !ends) {
      // Catch-up brings history, and history is full of old terms. Anywhere else it is somebody who was master once.
      if (via === 'catchup') return;
      this.#counters.staleTerms += 1;
      this.#events.refused(
        `stale-term: commit of ${record.md} in term ${term}; this is term ${this.term}`,
        event.origin,
        null,
      );
      return;
    }
    const refusal = await this.#certificates.refusal(term, event.origin, body.certificate);
    if (refusal !== null) {
      this.#events.refused(`commit of ${record.md} refused: ${refusal}`, event.origin, null);
      return;
    }
    if (this.#commits.isOver(record)) return;
    const known = this.#state.local.arrays.get(record.uuid);
    if (known !== undefined && compareVersions(known.record.version, record.version) >= 0) return;
    if (ends) this.#commits.end(record);
    else if (known === undefined && via === 'catchup') this.#commits.heard(record);
    if (known === undefined && (ends || via === 'catchup')) return;
    const missing = record.members.some((member) => !this.disks.paths.has(member.uuid));
    this.#feedLocal({ type: 'commit', record, forgotten: ends });
    if (missing) this.#rescan();
  }

  async #takeLease(from: NodeId, message: LeaseMessage): Promise<void> {
    // What it wrote as the master is to land before its vote makes another one: it is asked again.
    if (message.kind === 'vote-request' && this.#atDisks.size > 0) return;
    const open = (sealed: string): Promise<Event> => this.#events.open(sealed);
    this.#feedLease(await verified(from, message, this.self, open, this.#certificates));
  }

  #takeSubmitted(event: Event): void {
    const { body, origin } = event;
    if (body.type === 'leave') {
      this.#feedMaster({ type: 'leaving', node: origin, agentStart: event.bootNumber });
    } else if (body.type === 'observation') {
      if (this.leading) this.#feedMaster({ type: 'observation', from: origin, observation: body.observation });
    } else if (body.type === 'request') {
      this.#requests.asked(body.requestId, origin);
      if (!this.leading) this.answer(body.requestId, leadsNoMore(this.self));
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
        if (from === masterOf(this.#state)) {
          this.#feedLocal({ type: 'released', array: message.array, version: message.version });
        }
        break;
      case 'probe':
        if (from === masterOf(this.#state)) this.#probe(message.array, message.member);
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
        this.#requests.answered(message.requestId, message);
        break;
      case 'sees-query':
        this.#procedures.look(from, message);
        break;
      case 'sees-answer':
        this.#procedures.looked(from, message);
        break;
    }
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

  // --- what outlets ask -----------------------------------------------------------------------------------------------

  scan(): Promise<Disk[]> {
    return this.parts.driver.scan();
  }

  /** Where the lead goes to another node before anything of it has begun, that one is asked. */
  async request(request: Request): Promise<Answer> {
    const resolved = await resolveDevices(this.parts.driver, this.disks, this.records(), request);
    if ('error' in resolved) return { ok: false, text: resolved.error };
    const endMs = this.now() + ASK_AGAIN_MS;
    for (;;) {
      const { ok, text, undone } = await this.#askMaster(resolved);
      if (undone !== true || this.#state.stopped || this.now() >= endMs) return { ok, text };
      await this.until(() => false, TICK_MS);
    }
  }

  async #askMaster({ request, devices }: ResolvedRequest): Promise<MastersAnswer> {
    await this.until(() => masterOf(this.#state) !== null, 5000);
    const master = masterOf(this.#state);
    if (master === null) {
      const of = this.#quorum === null ? 'nodes' : 'quorum disks';
      return { ok: false, text: `the cluster has no master now (no majority of ${of}?); see \`mdmesh status\`` };
    }
    const requestId = this.parts.uuid();
    const outcome = this.#requests.answerFrom(master, requestId);
    const { event, sealed } = await this.#events.seal({
      type: 'request',
      requestId,
      request,
      devices,
    });
    if (master === this.self) this.#takeSubmitted(event);
    else if (!this.parts.net.send(master, { room: 'arrays', message: { kind: 'submit', event: sealed } })) {
      const text = `the master (node ${master}) cannot be reached from here; try again`;
      this.answer(requestId, { ok: false, text });
    }
    this.#events.spread(sealed, master);
    return outcome;
  }

  status(): Status {
    const { refused, duplicates, catchups } = this.#events.counters;
    const { staleTerms, commits } = this.#counters;
    return statusOf({
      parts: this.parts,
      state: this.#state,
      keys: this.#keys,
      quorum: this.#quorum?.disks ?? null,
      disks: this.disks,
      startedAt: this.#startedAt,
      clocks: this.#clocks.clocks,
      counters: { refused, duplicates, staleTerms, commits, catchups },
    });
  }

  /** What `mdmesh doctor` finds on each of the other nodes: as the agents there had it made. */
  reports(): Promise<NodeReport[]> {
    return this.#doctors.ask(this.#state.peers.map(({ id }) => id).filter((id) => id !== this.self));
  }
}

function errorOf(error: unknown): { code: string; text: string } {
  if (error instanceof MdError) return { code: error.code, text: error.message };
  return { code: 'EIO', text: textOf(error) };
}
