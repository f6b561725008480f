/**
 * What the rest of mdmesh asks of md and of the member disks. Two drivers keep this contract: the real one (sysfs, ioctls
 * and O_DIRECT through the native addon) and the simulated one (the same gates, suspends and bytes in memory). One
 * compliance suite runs against both.
 *
 * Every array here is `external:mdmesh`: the kernel writes no metadata, it holds writes at a *gate* until it is answered.
 */
import type { ArrayRecord, CopyKind } from '../arrays/record.ts';

/** A v1.2 superblock as it stands on one member. Sizes in 512-byte sectors; field names as in the kernel's md_p.h. */
export interface Superblock {
  featureMap: number;
  setUuid: string;
  setName: string;
  ctimeSeconds: number;
  /** Kernel level number: -1 linear, 0, 1, 4, 5, 6, 10. */
  level: number;
  layout: number;
  sizeSectors: number;
  chunkSectors: number;
  raidDisks: number;
  /** Sectors from the superblock, signed; 0 = none. */
  bitmapOffsetSectors: number;
  dataOffsetSectors: number;
  dataSizeSectors: number;
  superOffsetSectors: number;
  recoveryOffsetSectors: number;
  devNumber: number;
  deviceUuid: string;
  devFlags: number;
  bblogShift: number;
  bblogSizeSectors: number;
  bblogOffsetSectors: number;
  utimeSeconds: number;
  events: number;
  /** null = clean (all ones on disk). */
  resyncOffsetSectors: number | null;
  /** Indexed by dev_number: slot, 0xffff spare, 0xfffe faulty. */
  roles: number[];
  maxDev: number;
  checksum: number;
}

/** The mesh area's header: what the superblock has no place for. One copy is always whole: two are written in turn. */
export interface MeshHeader {
  clusterUuid: string;
  clusterName: string;
  /** Everything in the record: with the superblocks' roles and events it is checked against them on read. */
  record: ArrayRecord;
  nodeSlots: number;
}

/** Where the mesh area lies on a member, in sectors from the member's start. */
export interface MeshGeometry {
  startSector: number;
  lengthSectors: number;
  headerSectors: [number, number];
  /** First sector of the 4 KiB block of node 1; node n is at + 8·(n-1). */
  nodeBlocksSector: number;
  /** First sector of node 1's bitmap; each `bitmapSectorsPerNode` long. */
  bitmapsSector: number;
  bitmapSectorsPerNode: number;
  nodeSlots: number;
}

/** One block device that this node sees. `superblock`/`mesh` null: none there. `problem`: there, but not sound (words for people). */
export interface Disk {
  path: string;
  /** major:minor */
  devno: string;
  sizeSectors: number;
  logicalBlockBytes: number;
  superblock: Superblock | null;
  mesh: MeshHeader | null;
  problem: string | null;
  /** Names of holders (e.g. an md or dm device on top), from /sys/class/block/X/holders. */
  holders: string[];
}

/** From `loSector` up to, not with, `hiSector`. */
export interface SectorRange {
  loSector: number;
  hiSector: number;
}

/** A copy by this node's md; sectors in the unit of the copy. */
export interface CopyOrder {
  kind: CopyKind;
  fromSector: number;
  /** It stops here until it is told to go on; null: to the end. A multiple of the chunk. */
  toSector: number | null;
}
/**
 * The way from this node to a member, as the layer under md sees it: `direct`, there is no such layer, and md hears of every
 * error at once; `up`; `held`: this node keeps I/O to the member waiting, so that nothing is read (`holdReads`); `lost`: it failed, and I/O
 * to the member waits; `failing`: it failed, and I/O to it ends with an error.
 */
export type MemberPath = 'direct' | 'up' | 'held' | 'lost' | 'failing';

export interface MemberObservation {
  /** device_uuid; null if the device's superblock could not be read. */
  uuid: string | null;
  /** Kernel name on this node, e.g. `sdb`. */
  device: string;
  slot: number | null;
  inSync: boolean;
  /** In a slot and neither in sync nor faulty: this node's writes reach it, nothing is read from it. */
  rebuilding: boolean;
  faulty: boolean;
  /** Gate B: a failure that user space has not answered yet; not faulty: a write to it failed, and waits. */
  blocked: boolean;
  path: MemberPath;
}

export interface ArrayObservation {
  md: string;
  /** From the members' superblocks; null if none could be read. */
  arrayUuid: string | null;
  /** As in sysfs: inactive, readonly, clean, active, write-pending, broken, … */
  arrayState: string;
  /** Gate A closed: writes wait for an answer. */
  writePending: boolean;
  /** suspend_lo/hi cover the whole array: no write passes. */
  held: boolean;
  /** Sectors of the array in which writes wait, and none is in flight; the whole array when `held`. null: none. */
  suspended: SectorRange | null;
  syncAction: string;
  /** In the unit of the copy (see `resync` of the record); null when idle. */
  syncCompleted: { doneSectors: number; totalSectors: number } | null;
  /** The newest copy that was begun by startCopy is under way, or was interrupted before its end. */
  copyUnended: boolean;
  /** In the unit of a resync; null = none (in sync). */
  resyncStartSector: number | null;
  /** Sectors in which the newest check or repair found differences. */
  mismatchSectors: number;
  degraded: number;
  /** Slots, filled or not. */
  raidDisks: number;
  /** Of /dev/mdX. */
  sizeSectors: number;
  /** That md keeps on the members for this node, from their sector `sector` on; null: none. */
  bitmap: { sector: number; chunkSectors: number } | null;
  members: MemberObservation[];
}

export interface MetadataWrite {
  path: string;
  offsetBytes: number;
  bytes: Uint8Array;
}

export interface MetadataResult {
  path: string;
  /** null: durable. `code`: errno name, or `ELEASE` when the guard refused because the lease had ended. */
  error: { code: string; text: string } | null;
}

/** Write exclusive, registrants only, as SPC-4 numbers the types of reservations. */
export const REGISTRANTS_ONLY = 5;

/** Who may write to a disk, by the disk's own word. Keys: 16 hexadecimal digits. */
export interface DiskReservations {
  /** Grows with each change of a registration. */
  generation: number;
  keys: string[];
  /** null: nothing is reserved. */
  holder: string | null;
  /** SPC-4's number; 0: nothing is reserved. */
  type: number;
  /** Registrations outlive a loss of the disk's power. */
  persists: boolean;
  /**
   * The ways to it that this node's I/O may take now, where it has several to choose from: each has to be registered by itself. Names
   * that are never given to another. Empty: there is one, and `keys` says whether it is.
   */
  ways: string[];
}

/** Raised by driver calls. `code`: errno name, `EGRANT`/`ELEASE` (guard refused), `ETIMEDOUT` (a suspend did not return). */
export class MdError extends Error {
  readonly code: string;
  constructor(code: string, text: string) {
    super(text);
    this.name = 'MdError';
    this.code = code;
  }
}

/** What to do where an array's name is another's: writes at a gate for ever, say, keep that from being stopped. */
export const NAME_TAKEN = 'stop it first, or reboot the node where that cannot be';

export type GuardEvent =
  | { type: 'grant-expired'; atMs: number }
  | { type: 'lease-expired'; atMs: number }
  /** All registered arrays are held now. */
  | { type: 'drop-completed'; atMs: number }
  | { type: 'drop-failed'; atMs: number; md: string; code: string };

/**
 * The deadlines that must hold although JavaScript stalls. Times are this node's BOOTTIME in ms, as `now()` gives.
 * At the end of the grant the guard itself holds every open array (suspend; an array whose gate is closed is held already), and
 * then its reads (`holdReads`), which it does not let a drain delay for long; at the end of the lease metadata writes are refused. Only a later call with a later time ends that.
 */
export interface Guard {
  /** Earlier times than the present deadline are ignored. */
  extendLease(untilMs: number): void;
  extendGrant(untilMs: number): void;
  /** End both at once, and hold the arrays. Resolves when they are held. */
  drop(): Promise<void>;
  /** End the lease alone at once (hand-over): metadata writes are refused from now on. */
  endLease(): void;
  state(): { leaseUntilMs: number; grantUntilMs: number; dropping: boolean };
  onEvent(listener: (event: GuardEvent) => void): void;
}

export interface MdDriver {
  readonly kind: 'real' | 'simulated';
  /** CLOCK_BOOTTIME in ms. */
  now(): number;
  /** Identity of this boot of the kernel. */
  kernelBoot(): string;
  readonly guard: Guard;

  /** All block devices that could be members, with what stands on them. O_DIRECT reads. */
  scan(): Promise<Disk[]>;
  /** One device. Throws MdError (ENOENT, ENOTBLK, EIO …). */
  examine(path: string): Promise<Disk>;
  /** Size and digest over the first 4 MiB and last 1 MiB, to recognise one disk from two nodes before it has a superblock. */
  fingerprint(path: string): Promise<{ sizeSectors: number; digest: string; blank: boolean }>;

  /**
   * Write to members; each device's writes in the order given, devices in parallel; O_DIRECT + DSYNC. Refused without a live lease, and
   * once that which lives at the call has ended: not under a later one either.
   */
  writeMetadata(writes: MetadataWrite[]): Promise<MetadataResult[]>;
  /**
   * This node's own block (4 KiB; docs/quorum.md), durable on return. Needs no lease: it is how one is got. Waits for no metadata write.
   * @throws MdError
   */
  writeNodeBlock(path: string, offsetBytes: number, bytes: Uint8Array): Promise<void>;
  /** O_DIRECT read. Offset and length: multiples of 4096. */
  readMetadata(path: string, offsetBytes: number, lengthBytes: number): Promise<Uint8Array>;

  /**
   * Reservations of a disk. Of all six: EOPNOTSUPP: it has none; EBADE: refused, because this node is not registered with that
   * key; ENOLINK, EIO…: it did not answer.
   */
  readReservations(path: string): Promise<DiskReservations>;
  /**
   * Whatever key this node had on the disk before is replaced, on each of its ways: when one fails, others may have it.
   * @returns those that have it, by name
   */
  registerKey(path: string, key: string): Promise<string[]>;
  /** The ways that are registered with this key of this node, by name; null: some way that could be taken is not. Adds nothing. */
  confirmKey(path: string, key: string): Promise<string[] | null>;
  /** `REGISTRANTS_ONLY`. Held so by another registrant: done. */
  reserve(path: string, key: string): Promise<void>;
  /** Takes the victim's key off the disk and aborts its I/O under way; from then on its writes end with an error. */
  preemptKey(path: string, key: string, victim: string): Promise<void>;
  /** Takes all keys off, the reservation with them. */
  clearReservations(path: string, key: string): Promise<void>;

  /** Names of all md arrays running on this node (any metadata), e.g. to refuse `adopt` of a running one. */
  running(): { md: string; metadata: string; devices: string[] }[];
  /** null: not running here. Never throws for an array that vanishes meanwhile. */
  observe(md: string): ArrayObservation | null;
  /** How many writes of this node md has ended since the array was assembled; null: not running here, or not told. */
  writesEnded(md: string): number | null;
  /** Called (often spuriously) when an observation may have changed. Returns the way to stop it. */
  watch(listener: (md: string) => void): () => void;

  /**
   * Assemble by the record from these devices (member uuid → path), frozen and held: `array_state` active or clean, no write passes.
   * Members that the record calls faulty are left out; spares are attached without a slot. `resync` set → resync_start there.
   * Degraded is fine; fewer than the level needs is MdError('EINVAL').
   *
   * `bitmap` set → md keeps this node's bitmap there, where it can (see the observation's `bitmap`). Marks that an earlier boot left
   * in it are kept, for the resync, where the record has this node resync, and where the array is not whole, for the member that
   * comes back; else md drops them in a while: they must be of no use to anybody any more. A rebuilding member that lacks only
   * what is marked is left out: `attachRebuilding`.
   *
   * Of an array with copies or parity nothing can be read either, from its first instant on, before `letRead`.
   */
  assemble(record: ArrayRecord, devices: ReadonlyMap<string, string>): Promise<void>;
  /** EBUSY if in use (mounted, held by another device). */
  stop(md: string): Promise<void>;
  /** Let no write pass: suspend all. Done already, or a gate is closed: resolves at once without a suspend (KERNEL: never suspend under a closed gate). */
  hold(md: string): Promise<void>;
  /**
   * Let no read pass either, of an array with copies or parity: I/O to its members waits below md. After `hold`, which would else
   * wait for it. A copy under way is ended first. A member that is attached from now on is held too; one without the layer
   * (`direct`) cannot be.
   */
  holdReads(md: string): Promise<void>;
  /** Let reads pass again. Refused (EGRANT) without a live grant, and (EBUSY) while a copy that was not ended in time waits. */
  letRead(md: string): Promise<void>;
  /** Let writes pass. Refused (EGRANT) without a live grant, and (EAGAIN) under a closed gate if only a range is suspended. */
  open(md: string): Promise<void>;
  /**
   * Answer both gates: `active`, then `-blocked` to every blocked member. Refused (EGRANT) without a live grant.
   * @param settled members whose failure may be answered; another one that is blocked by now refuses the whole (EAGAIN), or
   *   a failure that nobody has agreed on would be answered with the one that all have. Left out: whichever are blocked.
   */
  answerGates(md: string, settled?: readonly string[]): Promise<void>;
  /**
   * Works also while I/O waits for the member's path. A copy under way is ended by it, or as soon as the path is let go, and stays so:
   * md would begin it again by itself, a resync by marks from the start, where others hold nothing any more.
   */
  setFaulty(md: string, memberUuid: string): Promise<void>;
  /**
   * Let I/O that waits for a member's lost path end with an error. md then tells applications that their writes are done
   * without asking at any gate, so: first all nodes agree that the member has failed, then `setFaulty`, then this.
   * No layer, or no path lost: done at once; I/O to a path that is lost later ends with an error too. A copy under way is ended, as by
   * `setFaulty`: the member may have failed by itself.
   */
  releasePath(md: string, memberUuid: string): Promise<void>;
  /**
   * Use a member's path again: I/O that waits goes on. Only while this node has not said that it gave the member up: until then no
   * other node has a write acknowledged that the member misses. Refused (EGRANT) without a live grant: writes are among what waits; and (EAGAIN)
   * while the path is held.
   */
  restorePath(md: string, memberUuid: string): Promise<void>;
  /** Take a faulty or spare member out of the kernel's array. EBUSY while blocked. */
  remove(md: string, memberUuid: string): Promise<void>;
  /** Attach as spare without a slot. */
  addSpare(md: string, memberUuid: string, path: string, record: ArrayRecord): Promise<void>;
  /** While frozen only. null = in sync. */
  setResyncStart(md: string, sector: number | null): Promise<void>;
  /**
   * Let writes pass but in this range of the array, in which none is in flight once this resolves. What was held before and is
   * to be held after is held all the time. Refused without a live grant (EGRANT: it lets writes pass) and under a closed
   * gate (EAGAIN).
   */
  holdRange(md: string, range: SectorRange): Promise<void>;
  /**
   * Begin a copy. The end of a resync shows as resyncStartSector null; that of a recovery as its members being in sync; of all
   * as sync_action idle or frozen and syncCompleted null. md is to copy as fast as it can: who paces it moves `toSector`.
   * Spares without a slot leave the array. EAGAIN while reads are held; EBUSY while rebuilding members are attached that md would rebuild instead, or
   * resync_start marks something that md would copy afterwards. EINVAL: a range that is not whole chunks, or nothing to recover.
   */
  startCopy(md: string, copy: CopyOrder): Promise<void>;
  /**
   * Mark these stretches (in the unit of a resync) in this node's bitmap, on the members too: a resync copies what is marked and
   * nothing else. With a bitmap it begins at sector 0, whatever `fromSector` says. While frozen only (EBUSY). EINVAL: no bitmap.
   */
  mark(md: string, ranges: readonly SectorRange[]): Promise<void>;
  /** Let the copy under way go on up to here (see CopyOrder). Nothing where none is. */
  extendCopy(md: string, toSector: number | null): Promise<void>;
  /**
   * Give a member a slot to be rebuilt in: this node's writes reach it from now on, nothing is read from it. A spare gets the
   * slot. Rebuilding already, from another sector, or in sync: moved there, for which the array must be held (EBUSY) and the grant live
   * (EGRANT). While frozen only (EBUSY). If the record's recovery goes by marks, a copy by this node copies what is marked alone.
   * @param fromSector of the component: what lies before is in sync
   */
  attachRebuilding(
    md: string,
    memberUuid: string,
    path: string,
    record: ArrayRecord,
    fromSector: number,
  ): Promise<void>;
  /**
   * A rebuilding member becomes in sync without a copy: another node has filled it. While frozen, and held as a whole (EBUSY),
   * with no gate closed (EAGAIN) and a live grant (EGRANT). Spares without a slot may leave the array, if another slot is free.
   */
  activate(md: string, memberUuid: string, path: string, record: ArrayRecord): Promise<void>;
  /** A rebuilding member becomes a spare without a slot. As `activate`: frozen, held, no gate closed, a live grant. */
  detachRebuilding(md: string, memberUuid: string): Promise<void>;
  /**
   * As many slots as the record says, of a raid1 alone (EINVAL). md packs: members keep their order and take the lowest slots.
   * Frozen, held as a whole, no gate closed, a live grant, as `activate`; EBUSY too while a faulty member is in a slot, or more
   * members are in slots than there are to be.
   */
  setSlots(md: string, record: ArrayRecord): Promise<void>;
  /**
   * Each member as large as the record says, and with them the array: raid1 and raid10 near (EINVAL), larger only (EINVAL). No write
   * passes into the new part, which resync_start marks as not in sync. As `activate`: frozen, held, no gate closed, a live grant;
   * ENOSPC: a disk here has no room for it; EAGAIN too while reads are held, and all have.
   */
  setSize(md: string, record: ArrayRecord): Promise<void>;
  /**
   * Keep this node's bitmap where the record has it, or none (null too) from now on: one without marks. Nothing where the kernel
   * shows no files for one. As `activate`: frozen, held, no gate closed, a live grant; EBUSY too while a member is rebuilding,
   * which md would go on with.
   */
  setBitmap(md: string, record: ArrayRecord | null): Promise<void>;
  /** Interrupt any copy and let none start. resync_start is its checkpoint. */
  freeze(md: string): Promise<void>;

  /**
   * In the place of the agent before, whose guard still keeps this deadline: this one keeps it too, over every array of mdmesh that
   * runs. What that agent held counts as held: nothing that it had begun was under way any more. With the deadline past all is held.
   * @throws MdError an array that the guard cannot watch over
   */
  inherit(grantUntilMs: number): Promise<void>;

  /**
   * Start petting: the node is reset `timeoutSeconds` after the guard could not drop or the process died.
   * @param fd of the agent before, which has armed it and still holds it
   */
  startWatchdog(path: string, timeoutSeconds: number, fd?: number): Promise<void>;
  /** For a successor's process; null: not armed. */
  watchdogFd(): number | null;
  /** Disarm (magic close) on an orderly end. */
  stopWatchdog(): Promise<void>;
  /** sd_notify: `READY=1`, `WATCHDOG=1`, …; nothing where no service manager listens. */
  notify(state: string): void;
  /** Resolves when the service manager has acted on what was said to it. @throws MdError ETIMEDOUT */
  notifyBarrier(timeoutMs: number): Promise<void>;
  close(): Promise<void>;
}
