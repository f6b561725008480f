/**
 * What can be done to one running array through sysfs. Each call is one operation of the contract in driver.ts, without
 * lanes and without the guard: those are the driver's.
 */
import { readFileSync } from 'node:fs';
import type { MemberRecord } from '../arrays/record.ts';
import { MdError } from './driver.ts';
import type { NativeAddon } from './native.ts';
import { attach, clearArray } from './real_assembly.ts';
import { type BlockDevice, errorCode, errorText } from './real_disks.ts';
import { type MemberPaths, memberUuidOf } from './real_paths.ts';
import {
  arrayDirectory,
  copying,
  type FileReader,
  memberDirectory,
  namesIn,
  readArray,
  type SysfsArray,
  type SysfsMember,
} from './sysfs_array.ts';
import { comesTrue, type SysfsStore } from './sysfs_store.ts';

/** md's thread needs a moment after `-blocked` before it lets a member go. */
const REMOVE_PATIENCE_MS = 2000;
const FREEZE_PATIENCE_MS = 5000;
const SYNC_START_PATIENCE_MS = 1000;

/** raid0 and linear know neither failed members, nor spares, nor resync: sysfs has no such files for them. */
function copies(array: SysfsArray): boolean {
  return array.syncAction !== null;
}

/** What all arrays of a node are read and told through. */
export interface ArrayFaces {
  readFiles: FileReader;
  store: SysfsStore;
  paths: MemberPaths;
  setDiskFaulty: NativeAddon['setDiskFaulty'];
}

export class RealArray {
  readonly md: string;
  readonly #readFiles: FileReader;
  readonly #store: SysfsStore;
  readonly #paths: MemberPaths;
  readonly #setDiskFaulty: ArrayFaces['setDiskFaulty'];

  constructor(md: string, { readFiles, store, paths, setDiskFaulty }: ArrayFaces) {
    this.md = md;
    this.#readFiles = readFiles;
    this.#store = store;
    this.#paths = paths;
    this.#setDiskFaulty = setDiskFaulty;
  }

  /** @throws MdError ENODEV when it does not run here */
  read(): SysfsArray {
    const array = readArray(this.md, this.#readFiles);
    if (array === null) throw new MdError('ENODEV', `${this.md} does not run on this node; assemble it first`);
    return array;
  }

  async stop(): Promise<void> {
    const array = readArray(this.md, this.#readFiles);
    if (array === null) return;
    await this.#letQueuesGo(array);
    if (copying(array)) await this.freeze();
    try {
      await clearArray(this.md, this.#readFiles, this.#store);
      await this.#paths.detachAll(array.members);
    } catch (error) {
      if (!(error instanceof MdError) || error.code !== 'EBUSY') throw error;
      throw new MdError(
        'EBUSY',
        `${this.md} is in use (${this.#users().join(', ') || 'some process has it open'}); end that first`,
      );
    }
  }

  /** Else the freeze and the stop would wait for I/O that waits for a path. @throws MdError EBUSY while some of it is an application's */
  async #letQueuesGo(array: SysfsArray): Promise<void> {
    const lost = array.members.filter((member) => this.#paths.stateOf(member) === 'lost');
    if (lost.length === 0) return;
    const inFlight = this.#readFiles([`/sys/block/${this.md}/inflight`])[0] ?? '';
    if (inFlight.split(/\s+/).some((count) => Number(count) > 0)) {
      const names = lost.map((member) => this.#nameOf(member)).join(', ');
      throw new MdError('EBUSY', `${this.md} is in use: its I/O waits for the path to ${names}; end that first`);
    }
    for (const member of lost) {
      const uuid = memberUuidOf(member);
      if (uuid !== null) await this.#paths.release(uuid);
    }
  }

  /** @param array as it stands now */
  async setFaulty(array: SysfsArray, member: SysfsMember): Promise<void> {
    if (member.states.has('faulty')) return;
    const device = this.#nameOf(member);
    if (!copies(array)) {
      // The kernel would answer EBUSY and call the array broken, for good.
      throw new MdError('EBUSY', `${this.md}: ${device} cannot fail alone: ${array.level} has no copy of its data`);
    }
    const inSync = array.members.filter((other) => other.states.has('in_sync'));
    if (array.level === 'raid1' && member.states.has('in_sync') && inSync.length === 1) {
      // The kernel would refuse too, but also never again rebuild on this array (raid1_error, recovery_disabled).
      throw new MdError('EBUSY', `${this.md}: ${device} is the last member in sync; nothing would be left`);
    }
    const [major = '', minor = ''] = member.devno.split(':');
    try {
      // Not by its `state` file, which needs the array's mutex: a suspend that drains keeps that, and may wait for this member's I/O.
      await this.#setDiskFaulty(this.md, Number(major), Number(minor));
    } catch (error) {
      throw new MdError(errorCode(error), `${this.md}: failing ${device}: ${errorText(error)}`);
    }
  }

  async remove(member: SysfsMember): Promise<void> {
    const array = this.read();
    const device = this.#nameOf(member);
    if (member.states.has('blocked')) {
      // `remove` would itself clear the block (state_store, drivers/md/md.c): writes held for the failure would go through.
      throw new MdError('EBUSY', `${this.md}: ${device} failed and its gate is closed; it is answered first`);
    }
    if (member.states.has('in_sync') && member.slot !== null) {
      throw new MdError('EBUSY', `${this.md}: ${device} is in sync in slot ${member.slot}; set it faulty first`);
    }
    const path = `${memberDirectory(this.md, member.device)}/state`;
    if (member.slot === null && !member.states.has('faulty') && array.degraded > 0) {
      // `remove` first lets the personality look for a use of the member (remove_and_add_spares): with a slot free, the spare
      // would get it, and stay. A faulty one is not asked. Its block goes with it; gate A closes and is answered as always.
      await this.#store.write(`${this.md}: removing ${device}`, path, 'faulty');
    }
    await this.#store.writePatiently(`${this.md}: removing ${device}`, path, 'remove', REMOVE_PATIENCE_MS);
    const gone = () => !namesIn(arrayDirectory(this.md)).includes(`dev-${member.device}`);
    if (!(await comesTrue(gone, REMOVE_PATIENCE_MS))) {
      throw new MdError('EBUSY', `${this.md}: ${device} was removed, but sysfs still lists it`);
    }
    await this.#paths.detachAll([member]);
  }

  /** Members without a slot that have not failed. */
  idleSpares(): SysfsMember[] {
    return this.read().members.filter((member) => member.slot === null && !member.states.has('faulty'));
  }

  /**
   * Returns the name by which md knows it.
   * @throws MdError EBUSY while something is copied, or the disk has another role here
   */
  async addSpare(record: MemberRecord, disk: BlockDevice): Promise<string> {
    const array = this.read();
    if (!copies(array)) throw new MdError('EINVAL', `${this.md}: ${array.level} has no use for a spare`);
    const present = array.members.find((member) => this.#paths.diskOf(member).devno === disk.devno);
    if (present !== undefined) {
      if (present.slot === null && present.states.has('spare')) return present.device;
      const states = [...present.states].join(',');
      throw new MdError('EBUSY', `${this.md}: ${disk.path} is attached already, as ${states}; remove it first`);
    }
    if (copying(array)) {
      // At its end md would take the spare into an empty slot and start to rebuild it by itself.
      throw new MdError('EBUSY', `${this.md}: ${array.syncAction} is under way; freeze it before a spare is attached`);
    }
    await this.freeze();
    const device = await this.#paths.attach(record.uuid, disk);
    try {
      await attach(this.#store, this.md, { record, device }, null);
      return device.name;
    } catch (error) {
      const path = `${memberDirectory(this.md, device.name)}/state`;
      await this.#store.write('', path, 'remove').catch(() => undefined);
      await this.#paths.detach(record.uuid).catch(() => undefined);
      throw error;
    }
  }

  async setResyncStart(sector: number | null): Promise<void> {
    await this.#set('resync_start', sector === null ? 'none' : String(sector), 'marking what is in sync');
  }

  /** From the frozen state. @throws MdError EBUSY while a member is there that md would rebuild first */
  async startResync(fromSector: number): Promise<void> {
    const array = this.read();
    if (!copies(array)) throw new MdError('EINVAL', `${this.md}: ${array.level} has nothing to resync`);
    for (const member of array.members) {
      if (member.states.has('in_sync') || member.states.has('faulty')) continue;
      const text = `${this.md}: ${this.#nameOf(member)} is not in sync; md would rebuild it instead of the resync`;
      throw new MdError('EBUSY', text);
    }
    await this.setResyncStart(fromSector);
    await this.#set('sync_max', 'max', 'starting the resync');
    await this.#set('sync_min', '0', 'starting the resync');
    await this.#set('sync_action', 'resync', 'starting the resync');
    // md's thread starts it; until then sync_action may still read idle. It may also be over already.
    const started = () => {
      const seen = readArray(this.md, this.#readFiles);
      return seen === null || copying(seen) || seen.resyncStartSector === null;
    };
    await comesTrue(started, SYNC_START_PATIENCE_MS);
  }

  /** raid0 and linear copy nothing: done at once. */
  async freeze(): Promise<void> {
    const array = this.read();
    if (array.syncAction === null || (array.syncAction === 'frozen' && array.syncCompleted === null)) return;
    await this.#set('sync_action', 'frozen', 'freezing');
    const still = () => {
      const seen = readArray(this.md, this.#readFiles);
      return seen === null || (seen.syncAction === 'frozen' && seen.syncCompleted === null);
    };
    if (!(await comesTrue(still, FREEZE_PATIENCE_MS))) {
      const seen = this.read();
      throw new MdError(
        'ETIMEDOUT',
        `${this.md}: told to freeze, but still ${seen.syncAction} after ${FREEZE_PATIENCE_MS} ms`,
      );
    }
  }

  /** What people know it by. */
  #nameOf(member: SysfsMember): string {
    return this.#paths.diskOf(member).device;
  }

  #set(name: string, value: string, step: string): Promise<void> {
    return this.#write(`${arrayDirectory(this.md)}/${name}`, value, step);
  }

  #write(path: string, value: string, step: string): Promise<void> {
    return this.#store.write(`${this.md}: ${step}`, path, value);
  }

  /** Mount points and devices on top. */
  #users(): string[] {
    const devno = this.#readFiles([`/sys/block/${this.md}/dev`])[0]?.trim();
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' '))
      .filter((fields) => fields[2] === devno)
      .map((fields) => `mounted on ${fields[4]}`);
    return [...mounts, ...namesIn(`/sys/block/${this.md}/holders`).map((name) => `held by ${name}`)];
  }
}
