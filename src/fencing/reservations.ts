/**
 * Reservations on the members: this node's keys, and taking away another node's. Write exclusive, registrants only: a node whose
 * key is not on a disk reads it, and its writes end with EBADE, whatever its agent, its guard or its kernel are doing.
 *
 * Rules kept here (each has a test that goes red without it):
 * - A key that is missing is put there only by a node that may (`mayRegister`: a live grant, or, where disks decide, a bid while nobody
 *   holds them; and nothing left in flight from before it lost a grant): what a fenced node had on its way would land otherwise.
 * - A key that was taken off (the disk is reserved, and had it) is not put back by the look that finds it missing, though the node may
 *   have a live grant: what it wrote meanwhile was refused, and has to be told from what has failed. It counts as shut out first, and
 *   drains.
 * - An agent that finds an array which has outlived another one takes part as that one would have: what is missing there was taken off.
 * - A master whose key was taken off while it led (the disk is reserved, and had it) puts none back under that lease: others have
 *   elected past it (lease/early.ts), or are about to. It gives the lease up.
 * - A key that was put back counts for metadata once a majority has answered a later renewal (`putMs`, agent/member_keys.ts).
 * - A disk that has forgotten all (a reset, power lost) is reserved again only with every writer's key on it, for until then a
 *   living writer would be shut out. Fencing does not wait for that.
 * - A disk with several ways (multipath) has a registration for each. A way that is new is registered as a missing key is, by who may, and
 *   counts as a missing one until then: what takes it is refused.
 * - A node counts as shut out only when every member has been read again, holds no key of it, and is reserved.
 *
 * Between the look at `mayRegister` and the disk's answer a node may stand still and be fenced: its key is back then, without a grant.
 * It is asked for only where a key is missing, so that this takes a disk that has forgotten all, or a way that is new, and a freeze in
 * those milliseconds.
 * Several nodes may shut the same one out at once: what each of them reads afterwards decides.
 */
import type { NodeId } from '../arrays/record.ts';
import { type DiskReservations, type MdDriver, MdError, REGISTRANTS_ONLY } from '../md/driver.ts';
import { keyOf, nodeOfKey } from './keys.ts';

export type KeyState =
  | 'registered'
  /** Not there, and not to be put there now. */
  | 'absent'
  /** There, but not on every way that this node's writes take; what takes another is refused. Not to be put there now. */
  | 'partial'
  | 'unsupported'
  /** The disk did not answer. */
  | 'unknown';

export interface ReservedMember {
  member: string;
  /** null: this node does not see it. */
  path: string | null;
  /** md writes to it; a spare has to be seen by nobody. */
  written: boolean;
  /** Nodes that may write to it. */
  writers: readonly NodeId[];
  /** md here has used it since before this agent: this node had its key there. */
  outlived?: boolean;
}

export interface ReservationsOptions {
  disks: Pick<
    MdDriver,
    'readReservations' | 'registerKey' | 'confirmKey' | 'reserve' | 'preemptKey' | 'clearReservations'
  >;
  cluster: string;
  self: NodeId;
  kernelBoot: string;
  /** By now: asked immediately before a key is put on a disk. */
  mayRegister: () => boolean;
  /** This node is the master: it is the one that reserves. */
  leads: () => boolean;
  /** Since when this node has led, in its present term; null: it does not. */
  ledSinceMs: () => number | null;
  /** BOOTTIME in ms. */
  now: () => number;
  /** As the agent's timers have it. */
  after: (delayMs: number, run: () => void) => () => void;
}

/** A disk that does not answer must not keep what is known of the others back. */
const ANSWER_MS = 2000;

export interface KeysSeen {
  /** By member. */
  states: ReadonlyMap<string, KeyState>;
  /** Members that take anybody's writes still: they are not reserved, and could be. */
  unreserved: readonly string[];
  /** Members on which this node's key was missing although it had put it there. */
  missed: readonly string[];
  /** Of these, where all others' keys were missing too, and this node's is back. */
  renewed: readonly string[];
  /** Of `missed`: this node leads, and the key was taken off. */
  taken: readonly string[];
}

interface Looked {
  state: KeyState;
  wasMissing: boolean;
  wasTaken?: boolean;
  isUnreserved?: boolean;
}

export class Reservations {
  readonly #options: ReservationsOptions;
  readonly key: string;
  #states = new Map<string, KeyState>();
  readonly #looking = new Map<string, Promise<Looked>>();
  /** Members that this agent has put its key on, or found it on; and when the newest look that found it there was begun. */
  readonly #had = new Map<string, number>();
  /** When this agent has put its key there; Infinity: it may be on its way still. */
  readonly #putMs = new Map<string, number>();
  /** Ways to each member that are known to be registered, where there are several. */
  readonly #ways = new Map<string, ReadonlySet<string>>();

  constructor(options: ReservationsOptions) {
    this.#options = options;
    this.key = keyOf(options.cluster, options.self, options.kernelBoot);
  }

  /** As last seen. */
  get states(): ReadonlyMap<string, KeyState> {
    return this.#states;
  }

  /** This node may write to it, by the newest look. */
  isUsable(member: string): boolean {
    return ['registered', 'unsupported'].includes(this.#states.get(member) ?? 'unknown');
  }

  /** Its key was there, and was taken off. */
  get isShutOut(): boolean {
    return [...this.#states].some(([member, state]) => state === 'absent' && this.#had.has(member));
  }

  /** Since when the key has been on all of these, as far as this agent has put it there. */
  putMs(members: readonly string[]): number {
    return Math.max(Number.NEGATIVE_INFINITY, ...members.flatMap((member) => this.#putMs.get(member) ?? []));
  }

  /** Looks at all members, and puts this node's key where it is missing and may be. Never rejects. */
  async look(members: readonly ReservedMember[]): Promise<KeysSeen> {
    const missed: string[] = [];
    const renewed: string[] = [];
    const taken: string[] = [];
    const unreserved: string[] = [];
    const states = new Map<string, KeyState>();
    const beganMs = this.#options.now();
    await Promise.all(
      members.map(async (member) => {
        if (member.outlived === true && !this.#had.has(member.member))
          this.#had.set(member.member, Number.NEGATIVE_INFINITY);
        const before = this.#had.has(member.member);
        const seen = await this.#inTime(member);
        states.set(member.member, seen.state);
        if (seen.isUnreserved === true) unreserved.push(member.member);
        if (seen.state === 'registered')
          this.#had.set(member.member, Math.max(beganMs, this.#had.get(member.member) ?? beganMs));
        if (before && seen.wasMissing) {
          missed.push(member.member);
          if (seen.wasTaken === true) taken.push(member.member);
          if (seen.state === 'registered') renewed.push(member.member);
        }
      }),
    );
    this.#states = states;
    return { states, unreserved, missed, renewed, taken };
  }

  /** A disk that has not answered yet is not asked again: each question may keep a thread waiting in the kernel. */
  #inTime(member: ReservedMember): Promise<Looked> {
    const looking = this.#looking.get(member.member) ?? this.#lookAt(member);
    this.#looking.set(member.member, looking);
    return new Promise((resolve) => {
      const callOff = this.#options.after(ANSWER_MS, () => resolve({ state: 'unknown', wasMissing: false }));
      void looking.then((seen) => {
        callOff();
        this.#looking.delete(member.member);
        resolve(seen);
      });
    });
  }

  async #lookAt({ member, path, writers }: ReservedMember): Promise<Looked> {
    const { disks } = this.#options;
    let wasMissing = false;
    try {
      if (path === null) return { state: 'unknown', wasMissing };
      let seen = await disks.readReservations(path);
      if (!seen.keys.includes(this.key)) {
        wasMissing = true;
        const wasTaken = this.#wasTaken(member, seen);
        if (wasTaken || this.#isNews(member, seen) || !this.#options.mayRegister())
          return { state: 'absent', wasMissing, wasTaken };
        seen = await this.#registered(member, path);
      } else if (!(await this.#isOnAllWays(member, path, seen))) {
        if (!this.#options.mayRegister()) return { state: 'partial', wasMissing };
        seen = await this.#registered(member, path);
      } else if (this.#putMs.get(member) === Number.POSITIVE_INFINITY) this.#putMs.set(member, this.#options.now());
      if (isReserved(seen)) return { state: 'registered', wasMissing };
      const reserves = this.#options.leads() && this.#allThere(seen, writers);
      if (reserves) await disks.reserve(path, this.key);
      return { state: 'registered', wasMissing, isUnreserved: !reserves };
    } catch (error) {
      const unsupported = error instanceof MdError && error.code === 'EOPNOTSUPP';
      return { state: unsupported ? 'unsupported' : 'unknown', wasMissing };
    }
  }

  #wasTaken(member: string, seen: DiskReservations): boolean {
    const ledSinceMs = this.#options.ledSinceMs();
    return ledSinceMs !== null && (this.#had.get(member) ?? Number.NEGATIVE_INFINITY) >= ledSinceMs && isReserved(seen);
  }

  /** The key was taken off since the last look. */
  #isNews(member: string, seen: DiskReservations): boolean {
    return isReserved(seen) && this.#had.has(member) && this.#states.get(member) !== 'absent';
  }

  /** A way that is there since the last look is a nexus of its own to the disk, which knows no key of it. */
  async #isOnAllWays(member: string, path: string, { ways }: DiskReservations): Promise<boolean> {
    const known = this.#ways.get(member);
    if (ways.every((way) => known?.has(way) === true)) return true;
    const confirmed = await this.#options.disks.confirmKey(path, this.key);
    if (confirmed !== null) this.#ways.set(member, new Set(confirmed));
    return confirmed !== null;
  }

  /** @returns the disk as it is then */
  async #registered(member: string, path: string): Promise<DiskReservations> {
    const { disks, now } = this.#options;
    this.#ways.delete(member);
    this.#putMs.set(member, Number.POSITIVE_INFINITY);
    // Those that were up in that instant: one that was not, and had the key before, is asked about when it is back.
    const ways = await disks.registerKey(path, this.key);
    this.#putMs.set(member, now());
    this.#ways.set(member, new Set(ways));
    return disks.readReservations(path);
  }

  #allThere({ keys }: DiskReservations, writers: readonly NodeId[]): boolean {
    const nodes = new Set(keys.map((key) => nodeOfKey(this.#options.cluster, key)));
    return writers.every((node) => nodes.has(node));
  }

  /**
   * Takes every key of the node off these members.
   * @param may by now: asked immediately before a key is taken off
   * @throws MdError what could not be done on which; some members may be done by then
   */
  async shutOut(node: NodeId, members: readonly ReservedMember[], may: () => boolean): Promise<void> {
    if (members.length === 0) throw new MdError('ENODEV', 'no member of any array is known here');
    const seen = members.filter(({ path, written }) => path !== null || written);
    await Promise.all(seen.map(({ member, path }) => this.#shutOutOf(node, member, path, may)));
  }

  async #shutOutOf(node: NodeId, member: string, path: string | null, may: () => boolean): Promise<void> {
    const { disks, cluster } = this.#options;
    if (path === null) throw new MdError('ENOENT', `this node sees no disk with member ${member}`);
    const before = await disks.readReservations(path);
    if (!before.keys.includes(this.key)) {
      if (this.#wasTaken(member, before) || this.#isNews(member, before) || !this.#options.mayRegister())
        throw new MdError('EBADE', `${path}: this node's own key is not on it`);
      await this.#registered(member, path);
    }
    if (!isReserved(before)) await disks.reserve(path, this.key).catch(unlessRefused);
    for (const key of before.keys) {
      if (nodeOfKey(cluster, key) !== node) continue;
      // A node that stood still meanwhile has none to shut out any more.
      if (!may()) throw new MdError('ELEASE', `${path}: node ${node} is no longer this node's to shut out`);
      await disks.preemptKey(path, this.key, key).catch(unlessRefused);
    }
    const after = await disks.readReservations(path);
    const left = after.keys.filter((key) => nodeOfKey(cluster, key) === node);
    if (left.length > 0) throw new MdError('EAGAIN', `${path}: key ${left[0]} of node ${node} is still on it`);
    if (!isReserved(after) || !after.keys.includes(this.key)) {
      throw new MdError('EAGAIN', `${path}: it is not reserved by this cluster`);
    }
  }

  /** Disks that leave the cluster's care are anybody's again. One that is gone, or that is somebody else's, stays as it is. */
  async letGo(paths: readonly string[]): Promise<void> {
    await Promise.all(paths.map((path) => this.#clear(path).catch(() => undefined)));
  }

  async #clear(path: string): Promise<void> {
    const { disks, cluster } = this.#options;
    const { keys } = await disks.readReservations(path);
    if (!keys.includes(this.key)) {
      // Only who is registered may clear it. Of this cluster's keys none counts on a disk that is no member.
      if (keys.length === 0 || keys.some((key) => nodeOfKey(cluster, key) === null)) return;
      await disks.registerKey(path, this.key);
    }
    await disks.clearReservations(path, this.key);
  }
}

/** Another node was faster. */
function unlessRefused(error: unknown): void {
  if (!(error instanceof MdError && error.code === 'EBADE')) throw error;
}

function isReserved({ type, holder }: DiskReservations): boolean {
  return type === REGISTRANTS_ONLY && holder !== null;
}
