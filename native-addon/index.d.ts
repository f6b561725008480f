/**
 * The native addon (build/Release/mdmesh.node). Times are CLOCK_BOOTTIME in milliseconds, with a fraction. Whatever may
 * block runs on threads of the addon's own, never on libuv's pool. Rejections and throws are Errors with a `code`: an errno
 * name, or `EGRANT` / `ELEASE` when the guard refused, or `ESHUTDOWN` after `close()`.
 */

export interface NativeAddon {
  readonly apiVersion: 1;
  bootTimeMs(): number;
  /** One timer that is moved again and again: unlike setTimeout, without a wake-up or a reading of the clock for each move. */
  alarm(rings: () => void): NativeAlarm;
  /** For small files (sysfs, procfs), synchronously. Text without the newline at its end; null: missing or unreadable. */
  readFiles(paths: readonly string[]): (string | null)[];
  /** One store in a single write; the file must exist. May take as long as md drains; no other call waits for it. */
  writeFile(path: string, value: string): Promise<void>;
  /**
   * Tells which of the files changed (sysfs_notify; events of /proc/mdstat; of any map for /dev/mapper/control), many at once if they came meanwhile. Files that
   * cannot be opened now are left out; a file that vanishes is told once and forgotten.
   */
  watch(paths: readonly string[], changed: (paths: string[]) => void): NativeWatcher;
  /** O_DIRECT. Offset and length in multiples of the device's logical block. `EIO` when the device ends before. */
  readDirect(path: string, offsetBytes: number, lengthBytes: number): Promise<Buffer>;
  /**
   * O_DIRECT, RWF_DSYNC: durable on return. Asks no guard: for what needs no lease, which is a node's own block. On a thread of the
   * device's own; a device's writes in order. Whole logical blocks only.
   */
  writeDirect(path: string, offsetBytes: number, bytes: Uint8Array): Promise<void>;
  /** Block device or regular file (512-byte blocks). Throws `ENOENT`, `ENOTBLK`, … */
  deviceSize(path: string): { sizeSectors: number; logicalBlockBytes: number };
  /** GET_ARRAY_INFO on /dev/<md>. Throws `ENODEV` when it does not run. */
  arrayInfo(md: string): NativeArrayInfo;
  /** STOP_ARRAY on /dev/<md>. `EBUSY`: in use. Unregister it from the guard first. */
  stopArray(md: string): Promise<void>;
  /** SET_DISK_FAULTY: works while a suspend drains, which a store to dev-X/state does not. */
  setDiskFaulty(md: string, major: number, minor: number): Promise<void>;
  /** An empty device-mapper map, not under /dev/mapper. `EBUSY`: name or UUID are taken; `ENOENT`: the module is not loaded. */
  dmCreate(name: string, uuid: string): Promise<{ major: number; minor: number }>;
  /** A table of one target from sector 0 on; it becomes the live one with `dmResume`. */
  dmLoad(name: string, sizeSectors: number, target: string, parameters: string): Promise<void>;
  dmResume(name: string): Promise<void>;
  /** `EBUSY`: it is open; nothing is deferred. */
  dmRemove(name: string): Promise<void>;
  dmMessage(name: string, message: string): Promise<void>;
  /** What `dmsetup status` shows of the first target, synchronously (it waits for no I/O). null: no such map, or no live table. */
  dmStatus(name: string): string | null;
  /** As `dmsetup table` shows it; as dmStatus otherwise. */
  dmTable(name: string): string | null;
  /** Keys registered on a disk, and what is reserved. `EOPNOTSUPP`: it has no reservations; `ENOLINK`: it cannot be reached. */
  readReservations(path: string): Promise<NativeReservations>;
  /** Keys are 16 hexadecimal digits. Whatever key this node had on the disk before is replaced. Each path of several by itself. */
  registerKey(path: string, key: string): Promise<void>;
  /** `EBADE`: this node is not registered with that key on this path. Adds nothing. */
  confirmKey(path: string, key: string): Promise<void>;
  /** Write exclusive, registrants only. Held by another registrant: done. `EBADE`, here and below: this node is not registered with that key. */
  reserve(path: string, key: string): Promise<void>;
  /** Takes the victim's registration off the disk, and aborts what of it is under way. `EBADE` also when there is no such victim. */
  preemptAndAbort(path: string, key: string, victim: string): Promise<void>;
  /** Takes all registrations away. */
  clearReservations(path: string, key: string): Promise<void>;
  /**
   * Ed25519 by libsodium, which is faster than the runtime's own and takes less: a raw key of 32 bytes and a signature of 64 that it
   * takes, `node:crypto` takes. Anything of another length is false.
   */
  verifyEd25519(key: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
  /**
   * The same of many at once, on threads of their own, one less than there are processors. `bytes`: of each, end to end, key, signature
   * and message; `ends`: where in them each ends. Both are copied before it returns. Of each 1, or 0:
   * what does not lie within the bytes is no signature.
   */
  verifyEd25519Each(bytes: Uint8Array, ends: Uint32Array): Promise<Uint8Array>;
  /** Of the calling thread, by the names of capabilities(7). */
  privileges(): NativePrivileges;
  /**
   * Every thread of the process, now and later, keeps no capability but these; once a process. `forGood`: no way back, also not by
   * starting a program (permitted and bounding set, PR_SET_NO_NEW_PRIVS). Otherwise the effective set alone shrinks, and programs
   * that are started get what they would have got before. Throws `EAGAIN` when some thread did not take part; the others did.
   */
  restrictPrivileges(keep: readonly string[], forGood: boolean): void;
  /**
   * Every thread of the process, now and later, and what it starts, is given memory without waiting for I/O (PR_SET_IO_FLUSHER): a page
   * that the kernel would write first, to an array whose writes this process holds, would wait for itself. Throws `EPERM` without
   * CAP_SYS_RESOURCE, unless it has inherited the state; `EINVAL` before Linux 5.6; `EAGAIN` as restrictPrivileges.
   */
  becomeIoFlusher(): void;
  /** sd_notify(3), e.g. `READY=1`. False: not started by systemd, or not taken. */
  sdNotify(state: string): boolean;
  /** sd_notify_barrier(3): resolves when systemd has acted on all that was said before. Not started by systemd: at once. `ETIMEDOUT` */
  sdNotifyBarrier(timeoutMs: number): Promise<void>;
  /** One a process (`EEXIST`). */
  startGuard(onEvent: (event: NativeGuardEvent) => void, options?: NativeGuardOptions): NativeGuard;
}

export interface NativePrivileges {
  effective: string[];
  permitted: string[];
  noNewPrivileges: boolean;
  /** Of the calling thread, see becomeIoFlusher. */
  ioFlusher: boolean;
}

export interface NativeReservations {
  /** Grows with each change of a registration; starts anew with a disk that has forgotten all. */
  generation: number;
  keys: string[];
  holder: string | null;
  /** As SPC numbers them: 5 is write exclusive, registrants only; 0: nothing is reserved. */
  type: number;
  /** Registrations outlive a loss of the disk's power. */
  persists: boolean;
}

export interface NativeAlarm {
  /** Rings once, that much after the event loop last looked at its clock: a few milliseconds early, if the loop was busy. */
  set(delayMs: number): void;
  stop(): void;
}

export interface NativeArrayInfo {
  level: number;
  raidDisks: number;
  activeDisks: number;
  workingDisks: number;
  failedDisks: number;
  spareDisks: number;
}

export interface NativeWatcher {
  /** Returns the paths that could not be opened. */
  add(paths: readonly string[]): string[];
  remove(paths: readonly string[]): void;
  close(): void;
}

export type NativeGuardEvent =
  | { type: 'grant-expired'; atMs: number }
  | { type: 'lease-expired'; atMs: number }
  | { type: 'drop-completed'; atMs: number }
  | { type: 'drop-failed'; atMs: number; md: string; code: string };

export interface NativeGuardOptions {
  /** Lock the code of the addon and its libraries into memory, as far as RLIMIT_MEMLOCK lets. @default true */
  lockMemory?: boolean;
  /** How long holding the arrays may take before `drop-failed` (`ETIMEDOUT`); the guard goes on trying. @default 1000 */
  dropLimitMs?: number;
}

/**
 * `open`: writes may pass. `held`: suspended. `gate-closed`: md holds the writes at a gate; no suspend was made.
 * `gone`: not running.
 */
export type NativeStanding = 'open' | 'held' | 'gate-closed' | 'gone';

/**
 * The deadlines, kept by a thread of their own. When the grant ends every registered array is held, and then its reads (after the
 * drain, or 250 ms, if that takes longer); while it is dead each is looked at again every 100 ms. A drop that began is carried through even if the grant comes back meanwhile: until
 * `drop-completed` arrays cannot be opened (`EGRANT`), and after it they must be opened again.
 */
export interface NativeGuard {
  /** Earlier times than the present deadline are ignored; throws RangeError more than ten minutes ahead (wrong clock). */
  extendLease(untilMs: number): void;
  extendGrant(untilMs: number): void;
  endLease(): void;
  /** Ends both. Resolves when all arrays are held; rejects when one could not be (the guard goes on trying). */
  drop(): Promise<void>;
  state(): {
    leaseUntilMs: number;
    grantUntilMs: number;
    dropping: boolean;
    /** SCHED_FIFO was permitted. */
    realtime: boolean;
    /** All that the guard runs is locked into memory. */
    locked: boolean;
    arrays: { md: string; standing: NativeStanding }[];
  };
  /**
   * Once the array runs (the kernel takes no suspend before). Without a live grant it is held at once.
   * Throws `ENOENT` for raid0 and linear: md gives them no suspend range. `mdDirectory`: /sys/block/<md>/md by default.
   * `readsHeld`: so are they of each member that is registered.
   */
  registerArray(md: string, sizeSectors: number, mdDirectory?: string, readsHeld?: boolean): void;
  /** Before the array is stopped. */
  unregisterArray(md: string): void;
  /**
   * A member whose `blocked` counts as a closed gate, and whose reads are held with the array's by the device-mapper map under it, a
   * multipath map of one path (major:minor). Without a map they are not. Again after it left and came back.
   */
  registerMember(md: string, device: string, map?: string, path?: string): void;
  unregisterMember(md: string, device: string): void;
  /** Suspends the whole array, unless it is or a gate is closed. */
  hold(md: string): Promise<Exclude<NativeStanding, 'open'>>;
  /** I/O to the array's members waits from now on. */
  holdReads(md: string): Promise<void>;
  /** `EGRANT` without a grant, or while a drop has not held them yet; `EBUSY` while a copy runs, or waits. */
  letReads(md: string): Promise<void>;
  /** Uses the lost path of a member again. `EGRANT` as in `open`; `EAGAIN` while reads are held. */
  restorePath(md: string, device: string): Promise<void>;
  /** `EGRANT` without a grant at the moment of the store; if it ends meanwhile the array is held again. `EAGAIN` under a closed gate, if only a range is suspended. */
  open(md: string): Promise<void>;
  /**
   * Suspends exactly [loSector, hiSector), as `open` does otherwise: at most two stores, each of which drains the array's I/O.
   * Windows must go through here, or a drop could be undone. `EAGAIN` under a closed gate.
   */
  suspendRange(md: string, loSector: number, hiSector: number): Promise<void>;
  /** `active`, then `-blocked` to each device, on a thread that never suspends. `EGRANT` when the grant ended before a store. */
  answerGates(md: string, blockedDevices: readonly string[]): Promise<void>;
  /**
   * Durable on return (O_DIRECT, RWF_DSYNC). Devices in parallel, a device's writes in order. `ELEASE` when the lease that lived
   * at the call had ended before the write, also under a later one; after a failed write the rest of its device is `ECANCELED`.
   * Whole logical blocks only.
   */
  writeMetadata(
    writes: readonly { path: string; offsetBytes: number; bytes: Uint8Array }[],
  ): Promise<{ path: string; error: { code: string; text: string } | null }[]>;
  /** Closes the device's descriptor, which is kept for five idle seconds. */
  releaseDevice(path: string): Promise<void>;
  /** Every 100 ms or so, from the event loop. */
  loopAlive(): void;
  /**
   * Petted only while `loopAlive` came within `loopLateMs` and (the grant lives or every array is held).
   * @param fd a descriptor of it that another process has armed and still holds; taken over, and not disarmed where this fails
   */
  startWatchdog(path: string, timeoutSeconds: number, loopLateMs: number, fd?: number): Promise<void>;
  /** For a process that is to take it over; null: not armed. */
  watchdogFd(): number | null;
  /** Disarms. `EBUSY` while a registered array is not held. */
  stopWatchdog(): Promise<void>;
  /** Ends the guard. Holds nothing and leaves an armed watchdog armed: `drop()` and `stopWatchdog()` come before. */
  close(): void;
}
