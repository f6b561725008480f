/**
 * The nodes' keys on the members of the arrays: when they are looked at, which disks that takes, and what it means for this node.
 * fencing/reservations.ts does it to each disk.
 *
 * It reads the states of the cores. In come the turns of a look, elections and commits; out go what a look has shown, what the cluster
 * is told of it, and the answers whether a record may be written.
 */

import type { NodeArrays } from '../arrays/local_state.ts';
import { mayRegister } from '../arrays/may_pass.ts';
import { type ArrayRecord, compareVersions, type NodeId } from '../arrays/record.ts';
import { liesStill } from '../arrays/seen_here.ts';
import { textOf } from '../error_text.ts';
import { type KeyState, type KeysSeen, Reservations, type ReservedMember } from '../fencing/index.ts';
import { bidsForDisks } from '../lease/index.ts';
import type { MdDriver } from '../md/driver.ts';
import { type AgentState, recordsOf, until } from './agent_state.ts';
import type { DiskView } from './disk_view.ts';
import type { AgentParts, Notice } from './parts.ts';

/** A disk that has forgotten its registrations has them back by then, and a node that was shut out knows it. */
const LOOK_EVERY_MS = 2000;
/** While this node's key is missing somewhere, or a member is not reserved yet. */
const LOOK_SOON_MS = 200;

export interface KeysLooked {
  /** null: members are not reserved, because some of them cannot be. */
  keys: NodeArrays['keys'];
  /** This node is on every member, and can take another's keys off. */
  mayShutOut: boolean;
  /** This node leads, and its keys were taken off. */
  wereTaken: boolean;
}

export interface MemberKeysOptions {
  notice: Notice;
  /** What this node wrote to superblocks and mesh areas under an earlier lease has been answered by the disks. */
  formerLanded(): boolean;
  /** Looks at the disks again. */
  rescan(): Promise<void>;
  /** A look has ended; the next begins after it has resolved. */
  looked(looked: KeysLooked): Promise<void>;
}

/** Arrays of mdmesh's that the kernel has here, whoever assembled them. */
export function arraysInKernel(driver: MdDriver): string[] {
  return driver.running().flatMap(({ md, metadata }) => (metadata === 'external:mdmesh' ? [md] : []));
}

/** By the newest look this node may write to every member. */
export function ownsKeys({ keys }: NodeArrays, { members }: ArrayRecord): boolean {
  return keys === null || members.every(({ uuid, role }) => role === 'faulty' || keys.usable.has(uuid));
}

/** What this node writes there is refused, or may be. */
function isLacking(state: KeyState | undefined): boolean {
  return state === 'absent' || state === 'partial';
}

export class MemberKeys {
  readonly #parts: AgentParts;
  readonly #disks: DiskView;
  readonly #state: Readonly<AgentState>;
  readonly #options: MemberKeysOptions;
  readonly #reservations: Reservations;
  #nextLookMs = 0;
  /** When the newest look began that some disk has answered. */
  #seenMs = Number.NEGATIVE_INFINITY;
  #looking = false;
  #shutOut = false;
  /** Kernel names of arrays that ran here before this agent did. */
  readonly #outlived: ReadonlySet<string>;

  constructor(parts: AgentParts, disks: DiskView, state: Readonly<AgentState>, options: MemberKeysOptions) {
    this.#parts = parts;
    this.#disks = disks;
    this.#state = state;
    this.#options = options;
    const { config, driver, timers } = parts;
    this.#outlived = new Set(arraysInKernel(driver));
    this.#reservations = new Reservations({
      disks: driver,
      cluster: config.cluster.uuid,
      self: config.self,
      kernelBoot: driver.kernelBoot(),
      mayRegister: () => this.#mayRegister(),
      leads: () => state.master.leading,
      ledSinceMs: () => (state.lease.role.kind === 'master' ? state.lease.role.electedMs : null),
      now: () => driver.now(),
      after: (delayMs, run) => timers.after(delayMs, run),
    });
  }

  /** Of each member, as last seen. */
  get states(): ReadonlyMap<string, KeyState> {
    return this.#reservations.states;
  }

  // --- looks ----------------------------------------------------------------------------------------------------------

  get nextLookMs(): number {
    return this.#nextLookMs;
  }

  get looking(): boolean {
    return this.#looking;
  }

  /** What this node knows of its keys is older than its grant, or does not reach for all arrays. */
  get looksDated(): boolean {
    const { local } = this.#state;
    const lapsed = (local.keys?.atMs ?? local.lapsedAtMs) < local.lapsedAtMs;
    return lapsed || !recordsOf(this.#state).every((record) => ownsKeys(local, record));
  }

  /** It has a grant, lacks keys, and may put none back for what it has on its way: it could commit nothing, however long it led. */
  get keepsFromCommits(): boolean {
    const { keys, grantUntilMs } = this.#state.local;
    if (keys === null || this.#now() >= grantUntilMs) return false;
    return [...this.states.values()].some(isLacking) && !this.#mayRegister();
  }

  /** One look at a time. Never rejects. */
  async look(): Promise<void> {
    if (this.#state.stopped) {
      this.#nextLookMs = Number.POSITIVE_INFINITY;
      return;
    }
    if (this.#looking) return;
    this.#looking = true;
    const atMs = this.#now();
    try {
      const members = this.#members();
      const seen = await this.#reservations.look(members);
      if (this.#state.stopped) return;
      const used = this.#areReserved(members);
      const { lapsedAtMs } = this.#state.local;
      const shutOut = used && this.#reservations.isShutOut;
      this.#tell(seen, shutOut, lapsedAtMs > this.#seenMs);
      // Where no disk answers nothing was learned. One that has refused this node's writes does answer.
      const answered = [...seen.states.values()].some((state) => state !== 'unknown');
      if (answered) this.#seenMs = atMs;
      const { usable, unreserved } = this.#concluded(members, seen);
      const states = members.map(({ member }) => seen.states.get(member));
      const absent = new Set(members.map(({ member }) => member).filter((uuid) => isLacking(seen.states.get(uuid))));
      await this.#options.looked({
        keys: used ? { usable, unreserved, absent, shutOut, atMs: this.#seenMs } : null,
        mayShutOut: used && states.length > 0 && states.every((state) => state === 'registered'),
        wereTaken: seen.taken.length > 0,
      });
      const isOver = usable.size === members.length && unreserved.size === 0;
      this.#nextLookMs = this.#now() + (used && !isOver ? LOOK_SOON_MS : LOOK_EVERY_MS);
    } finally {
      this.#looking = false;
    }
    this.#letGo();
  }

  /** One that does not answer now has not refused anything, unless this node was without a grant meanwhile. */
  #concluded(members: readonly ReservedMember[], seen: KeysSeen): { usable: Set<string>; unreserved: Set<string> } {
    const { keys, lapsedAtMs } = this.#state.local;
    const before = keys !== null && keys.atMs >= lapsedAtMs ? keys : null;
    const unanswered = (uuid: string): boolean => seen.states.get(uuid) === 'unknown';
    const isUsable = (uuid: string): boolean =>
      (unanswered(uuid) && before?.usable.has(uuid) === true) || this.#reservations.isUsable(uuid);
    return {
      usable: new Set(members.map(({ member }) => member).filter(isUsable)),
      unreserved: new Set([...seen.unreserved, ...[...(before?.unreserved ?? [])].filter(unanswered)]),
    };
  }

  /** @param lapsed it was without a grant since it last looked */
  #tell({ missed, renewed }: KeysSeen, shutOut: boolean, lapsed: boolean): void {
    const node = this.#parts.config.self;
    const { notice } = this.#options;
    if (renewed.length > 0 && !this.#shutOut) {
      // Shut out and taken back before it looked; or a disk had forgotten all.
      if (lapsed) notice('NodeTakenBack', 'notice', `node/${node}`, { node });
      else notice('ReservationsRenewed', 'warning', `node/${node}`, { node, members: renewed.join(' ') });
    }
    if (shutOut === this.#shutOut) return;
    this.#shutOut = shutOut;
    if (shutOut) {
      const why = 'its reservation keys were taken off these members; it holds its arrays';
      notice('NodeShutOut', 'critical', `node/${node}`, { node, members: missed.join(' '), why });
    } else notice('NodeTakenBack', 'notice', `node/${node}`, { node });
  }

  #now(): number {
    return this.#parts.driver.now();
  }

  /** Members of the cluster's arrays. */
  #members(): ReservedMember[] {
    const records = new Map<string, ArrayRecord>();
    // What the disks say and no commit has told yet: a new master writes there first of all.
    for (const { record } of this.#disks.arrays()) records.set(record.uuid, record);
    for (const record of recordsOf(this.#state)) records.set(record.uuid, record);
    return [...records.values()].flatMap(({ md, members, writers }) =>
      members
        .filter(({ role }) => role !== 'faulty')
        .map(({ uuid, role }) => ({
          member: uuid,
          path: this.#disks.paths.get(uuid) ?? null,
          written: role !== 'spare',
          writers,
          outlived: role === 'active' && this.#outlived.has(md),
        })),
    );
  }

  #mayRegister(): boolean {
    if (!this.#options.formerLanded()) return false;
    const { driver } = this.#parts;
    const running = arraysInKernel(driver);
    // Who leads and runs no array has nothing on its way, granted or not: who has missed a commit has no grant before it is written anew.
    if (running.length === 0 && this.#leaseLives()) return !this.#state.stopped && !this.#state.local.leaving;
    const known = new Set(recordsOf(this.#state).map(({ md }) => md));
    // An array that nobody has told of may have anything in flight, unless it is held.
    const stirs = running.some((md) => {
      if (known.has(md)) return false;
      const observation = driver.observe(md);
      return observation === null || !liesStill(observation);
    });
    const { local, lease, stopped } = this.#state;
    return !stirs && !stopped && mayRegister(local, this.#now(), bidsForDisks(lease));
  }

  #leaseLives(): boolean {
    return this.#state.master.leading && this.#now() < this.#parts.driver.guard.state().leaseUntilMs;
  }

  /** By the list of methods, or because all of them can be. */
  #areReserved(members: readonly ReservedMember[]): boolean {
    if (this.#parts.config.fencing.methods.includes('reservation')) return true;
    return members.every(({ member }) => this.states.get(member) !== 'unsupported');
  }

  // --- shutting a node out --------------------------------------------------------------------------------------------

  #haveReservations(): boolean {
    return this.#members().every(({ member }) => this.states.get(member) !== 'unsupported');
  }

  /** What fencing does to shut this node out of every member. undefined: some member has no reservations. */
  shutterOut(node: NodeId): (() => Promise<void>) | undefined {
    if (!this.#haveReservations()) return undefined;
    return () => this.#reservations.shutOut(node, this.#members(), () => this.#state.master.leading);
  }

  /** @param may by now: asked before each key is taken off @returns whether it is shut out of all of them. Never rejects */
  async shutOutOfAll(holder: NodeId, may: () => boolean): Promise<boolean> {
    try {
      await this.#reservations.shutOut(holder, this.#members(), may);
      return true;
    } catch (error) {
      this.#parts.log.warn({ holder, why: textOf(error) }, `node ${holder} is not shut out of every member`);
      return false;
    }
  }

  // --- a master that came before a former one was done: past a promise (lease/early.ts), or after a lease that ran out --

  /**
   * While former holders may change what the disks say: who, until when that is counted with, and which members these are shut out of
   * since the election.
   */
  #early: { holders: readonly NodeId[]; untilMs: number; swept: Set<string> } | null = null;

  /** @param shutOut whose promises the votes passed over @param lapsed whose leases have run out without their word */
  elected(shutOut: readonly NodeId[], lapsed: readonly NodeId[]): void {
    const untilMs = this.#now() + this.#state.lease.config.voterMs;
    // Where a member knows no keys nothing calls back what was on its way.
    const holders = [...new Set([...shutOut, ...(this.#haveReservations() ? lapsed : [])])];
    this.#early = holders.length === 0 ? null : { holders, untilMs, swept: new Set() };
  }

  /**
   * What the disks say counts when none of those holders can change it any more: they are shut out of all that is found there, or the
   * time is over that they may have.
   */
  async sweep(): Promise<void> {
    const early = this.#early;
    const isOn = (): boolean =>
      early !== null && this.#early === early && this.#state.master.leading && !this.#state.stopped;
    while (early !== null && isOn() && this.#now() < early.untilMs) {
      const members = this.#members();
      const done = await Promise.all(early.holders.map((holder) => this.shutOutOfAll(holder, isOn)));
      if (done.every((each) => each)) for (const { member } of members) early.swept.add(member);
      await this.#options.rescan();
      if (this.#members().every(({ member }) => early.swept.has(member))) return;
      if (!done.every((each) => each)) await until(this.#parts, () => !isOn(), LOOK_SOON_MS);
    }
    if (early !== null) await this.#options.rescan();
  }

  /**
   * Before anything is written to disks that are no members yet: nobody is shut out of those by their being reserved, and whoever was
   * to let one go that was a member may not have reached it.
   */
  async formerLeasesOver(paths: Iterable<string>): Promise<void> {
    const early = this.#early;
    if (early !== null) await until(this.#parts, () => this.#early !== early, early.untilMs - this.#now());
    await this.#reservations.letGo([...paths]);
  }

  /** None but this master can write there. */
  isAlone({ members }: ArrayRecord): boolean {
    const { role } = this.#state.lease;
    if (role.kind !== 'master') return true;
    const written = members.filter((member) => member.role !== 'faulty').map(({ uuid }) => uuid);
    if (role.leaseSinceMs <= this.#reservations.putMs(written)) return false;
    const early = this.#early;
    return early === null || this.#now() >= early.untilMs || written.every((uuid) => early.swept.has(uuid));
  }

  // --- disks that leave -----------------------------------------------------------------------------------------------

  /** Disks that have left, each with the record by which it did. */
  readonly #toLetGo = new Map<string, ArrayRecord>();

  /** This node, as the master, has committed that these are members no more. */
  left(members: ArrayRecord['members'], record: ArrayRecord): void {
    for (const path of this.#pathsOf(members)) this.#toLetGo.set(path, record);
  }

  /** The members of an array that the cluster has no more. */
  ended(members: ArrayRecord['members']): void {
    void this.#reservations.letGo(this.#pathsOf(members));
  }

  #pathsOf(members: ArrayRecord['members']): string[] {
    return members.flatMap(({ uuid }) => this.#disks.paths.get(uuid) ?? []);
  }

  /**
   * A node that was shut out, and stands still, does not know that a disk has left: what it writes there must be refused, for whoever uses
   * that disk next. So it is let go when all have applied that it left, and else stays reserved until it is added again.
   */
  #letGo(): void {
    const { master, peers } = this.#state;
    if (!master.leading) this.#toLetGo.clear();
    if (this.#toLetGo.size === 0) return;
    for (const { path } of this.#members()) if (path !== null) this.#toLetGo.delete(path);
    for (const [path, { uuid, version }] of this.#toLetGo) {
      const hasApplied = (node: NodeId): boolean => {
        const applied = master.nodes.get(node)?.reports.get(uuid)?.applied ?? null;
        return applied !== null && compareVersions(applied, version) >= 0;
      };
      if (!peers.every(({ id }) => id === this.#parts.config.self || hasApplied(id))) continue;
      this.#toLetGo.delete(path);
      void this.#reservations.letGo([path]);
    }
  }
}
