/**
 * The shared disks of a simulated cluster: real bytes, in memory or in files, seen by every node, with faults on the way
 * from one node to one disk.
 */
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { type DiskReservations, MdError, REGISTRANTS_ONLY } from './driver.ts';

interface Bytes {
  readonly sizeBytes: number;
  read(offset: number, length: number): Uint8Array;
  /** As they are now; not to be kept. */
  view(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
}

function inMemory(sizeBytes: number): Bytes {
  const bytes = new Uint8Array(sizeBytes);
  return {
    sizeBytes,
    read: (offset, length) => bytes.slice(offset, offset + length),
    view: (offset, length) => bytes.subarray(offset, offset + length),
    write: (offset, from) => bytes.set(from, offset),
  };
}

function inFile(path: string): Bytes & { close(): void } {
  const fd = openSync(path, 'r+');
  const read = (offset: number, length: number): Uint8Array => {
    const bytes = new Uint8Array(length);
    readSync(fd, bytes, 0, length, offset);
    return bytes;
  };
  return {
    sizeBytes: fstatSync(fd).size,
    read,
    view: read,
    write: (offset, from) => {
      writeSync(fd, from, 0, from.length, offset);
    },
    close: () => closeSync(fd),
  };
}

export interface PathFault {
  /** Node id, or null for every node: the disk itself. */
  node: number | null;
  disk: string;
  kind: 'read' | 'write' | 'all' | 'slow';
  /** Of a slow path: added to each I/O. */
  delayMs?: number;
}

/** A write on its way from a node to a disk: handed over, or landed whole or in part (a crash may make it land later, or never). */
export interface DiskWrite {
  node: number;
  disk: string;
  offsetBytes: number;
  lengthBytes: number;
  /** As handed over; not to be kept. */
  bytes: Uint8Array;
  stage: 'begins' | 'lands';
}

interface StoredDisk {
  name: string;
  number: number;
  bytes: Bytes;
  /** null: it knows no reservations. */
  reservations: Registrations | null;
}

interface Ways {
  names: string[];
  /** The newest of them was never registered; what takes it is refused. */
  bare: boolean;
  /** I/O takes them by turns. */
  turn: number;
}

interface Registrations {
  generation: number;
  /** By node. */
  keys: Map<number, string>;
  holder: number | null;
}

export class SimulatedStorage {
  readonly #disks = new Map<string, StoredDisk>();
  readonly #faults = new Set<PathFault>();
  /** `node:disk` → path; disks have other names on other nodes, as on a real SAN. */
  readonly #paths = new Map<string, string>();
  /** `node:disk` */
  readonly #hidden = new Set<string>();
  /** `node:disk` → sectors, where a node has not noticed that the disk has grown. */
  readonly #seen = new Map<string, number>();
  /** `node:disk` → ways of a node that has several to a disk. */
  readonly #ways = new Map<string, Ways>();
  readonly #open: { close(): void }[] = [];
  /** Told of each write; for those who judge a simulation. */
  onWrite: ((write: DiskWrite) => void) | null = null;

  addDisk(name: string, sizeSectors: number): void {
    this.#add(name, inMemory(sizeSectors * 512));
  }

  /** A disk kept in a file of this size: other processes may share it. */
  addFile(name: string, path: string): void {
    const file = inFile(path);
    this.#open.push(file);
    this.#add(name, file);
  }

  #add(name: string, bytes: Bytes): void {
    if (this.#disks.has(name))
      throw new MdError('EEXIST', `simulated disk ${name} is there already; choose another name`);
    const reservations = { generation: 0, keys: new Map<number, string>(), holder: null };
    this.#disks.set(name, { name, number: this.#disks.size, bytes, reservations });
  }

  close(): void {
    for (const file of this.#open) file.close();
    this.#open.length = 0;
  }

  names(): string[] {
    return [...this.#disks.keys()];
  }

  /** `/dev/NAME` unless renamed for this node. */
  pathOn(node: number, disk: string): string {
    const renamed = this.#paths.size === 0 ? undefined : this.#paths.get(`${node}:${disk}`);
    return renamed ?? `/dev/${disk}`;
  }

  rename(node: number, disk: string, path: string): void {
    this.#paths.set(`${node}:${disk}`, path);
  }

  /** A node has no path to the disk, until `show`. */
  hide(node: number, disk: string): void {
    this.#hidden.add(`${node}:${disk}`);
  }

  show(node: number, disk: string): void {
    this.#hidden.delete(`${node}:${disk}`);
  }

  namesOn(node: number): string[] {
    if (this.#hidden.size === 0) return this.names();
    return this.names().filter((name) => !this.#hidden.has(`${node}:${name}`));
  }

  /** null: no such disk on this node. */
  find(node: number, path: string): string | null {
    const plain = path.slice(5);
    if (this.#paths.size === 0 && this.#hidden.size === 0 && path.startsWith('/dev/') && this.#disks.has(plain))
      return plain;
    return this.namesOn(node).find((name) => this.pathOn(node, name) === path) ?? null;
  }

  /** @throws MdError ENOENT */
  at(node: number, path: string): string {
    const found = this.find(node, path);
    if (found !== null) return found;
    throw new MdError(
      'ENOENT',
      `${path}: no such disk on node ${node}; there are ${this.namesOn(node)
        .map((name) => this.pathOn(node, name))
        .join(', ')}`,
    );
  }

  /** Returns the way to heal it. */
  fault(fault: PathFault): () => void {
    this.#disk(fault.disk);
    this.#faults.add(fault);
    return () => this.#faults.delete(fault);
  }

  delayMs(node: number, disk: string): number {
    let delay = 0;
    for (const fault of this.#faults)
      if (fault.kind === 'slow' && fault.disk === disk && (fault.node === null || fault.node === node))
        delay += fault.delayMs ?? 0;
    return delay;
  }

  broken(node: number, disk: string, direction: 'read' | 'write'): boolean {
    for (const fault of this.#faults) {
      if (fault.disk !== disk || (fault.node !== null && fault.node !== node)) continue;
      if (fault.kind === 'all' || fault.kind === direction) return true;
    }
    return false;
  }

  /** As this node sees it; without a node: as it is. */
  sizeSectors(disk: string, node?: number): number {
    const seen = node === undefined ? undefined : this.#seen.get(`${node}:${disk}`);
    return seen ?? Math.floor(this.#disk(disk).bytes.sizeBytes / 512);
  }

  /** The volume is made larger. These nodes go on seeing the size that it had, until `rescanned`. */
  grow(disk: string, sizeSectors: number, unseenBy: readonly number[] = []): void {
    const stored = this.#disk(disk);
    for (const node of unseenBy) this.#seen.set(`${node}:${disk}`, this.sizeSectors(disk, node));
    const before = stored.bytes;
    stored.bytes = inMemory(sizeSectors * 512);
    stored.bytes.write(0, before.read(0, before.sizeBytes));
  }

  rescanned(node: number, disk: string): void {
    this.#seen.delete(`${node}:${disk}`);
  }

  devno(disk: string): string {
    return `259:${this.#disk(disk).number}`;
  }

  /** The bytes themselves, past every fault. */
  peek(disk: string, offsetBytes: number, lengthBytes: number): Uint8Array {
    return this.#disk(disk).bytes.read(offsetBytes, lengthBytes);
  }

  /** Likewise, for a look that is over when the caller returns: nothing is copied. */
  glance(disk: string, offsetBytes: number, lengthBytes: number): Uint8Array {
    return this.#disk(disk).bytes.view(offsetBytes, lengthBytes);
  }

  poke(disk: string, offsetBytes: number, bytes: Uint8Array): void {
    const { bytes: target } = this.#disk(disk);
    if (offsetBytes < 0 || offsetBytes + bytes.length > target.sizeBytes)
      throw new MdError(
        'ENOSPC',
        `disk ${disk}: ${bytes.length} bytes at ${offsetBytes} are beyond its ${target.sizeBytes}`,
      );
    target.write(offsetBytes, bytes);
  }

  // --- reservations ---------------------------------------------------------------------------------------------------

  /** A disk that has none, as many local ones. */
  withoutReservations(disk: string): void {
    this.#disk(disk).reservations = null;
  }

  /** Reset, or without power for a moment, and it keeps nothing. */
  forgetReservations(disk: string): void {
    if (this.#disk(disk).reservations !== null)
      this.#disk(disk).reservations = { generation: 0, keys: new Map(), holder: null };
  }

  /** False: reserved, and this node is no registrant. */
  mayWrite(node: number, disk: string): boolean {
    const { reservations } = this.#disk(disk);
    return reservations === null || reservations.holder === null || reservations.keys.has(node);
  }

  /** A node sees a disk on one way more, as when a session is logged in anew: its writes take it at once. */
  addWay(node: number, disk: string): void {
    const { names } = this.#ways.get(`${node}:${disk}`) ?? { names: ['way-1'] };
    const bare = this.#disk(disk).reservations?.keys.has(node) === true;
    this.#ways.set(`${node}:${disk}`, { names: [...names, `way-${names.length + 1}`], bare, turn: 0 });
  }

  /** As mayWrite, of a write that takes one of several ways. */
  takesWrite(node: number, disk: string): boolean {
    if (!this.mayWrite(node, disk)) return false;
    const ways = this.#ways.get(`${node}:${disk}`);
    if (ways?.bare !== true || !this.isReserved(disk)) return true;
    ways.turn += 1;
    return ways.turn % ways.names.length !== 0;
  }

  /** Some disk takes no write of this node. */
  refuses(node: number): boolean {
    for (const disk of this.#disks.keys()) if (!this.mayWrite(node, disk)) return true;
    return false;
  }

  isReserved(disk: string): boolean {
    return this.#disk(disk).reservations?.holder != null;
  }

  #registrations(disk: string): Registrations {
    const { reservations } = this.#disk(disk);
    if (reservations === null) throw new MdError('EOPNOTSUPP', `disk ${disk} has no reservations`);
    return reservations;
  }

  readReservations(node: number, disk: string): DiskReservations {
    const { generation, keys, holder } = this.#registrations(disk);
    const held = holder === null ? null : (keys.get(holder) ?? null);
    return {
      generation,
      keys: [...keys.values()],
      holder: held,
      type: held === null ? 0 : REGISTRANTS_ONLY,
      persists: true,
      ways: this.#ways.get(`${node}:${disk}`)?.names ?? [],
    };
  }

  registerKey(node: number, disk: string, key: string): string[] {
    const registrations = this.#registrations(disk);
    registrations.keys.set(node, key);
    registrations.generation += 1;
    const ways = this.#ways.get(`${node}:${disk}`);
    if (ways !== undefined) ways.bare = false;
    return ways?.names ?? [];
  }

  confirmKey(node: number, disk: string, key: string): string[] | null {
    const ways = this.#ways.get(`${node}:${disk}`);
    return this.#registrations(disk).keys.get(node) === key && ways?.bare !== true ? (ways?.names ?? []) : null;
  }

  #demandKey(node: number, disk: string, key: string): Registrations {
    const registrations = this.#registrations(disk);
    if (registrations.keys.get(node) === key) return registrations;
    throw new MdError('EBADE', `disk ${disk}: node ${node} is not registered with key ${key}`);
  }

  reserve(node: number, disk: string, key: string): void {
    const registrations = this.#demandKey(node, disk, key);
    registrations.holder ??= node;
  }

  preemptKey(node: number, disk: string, key: string, victim: string): void {
    const registrations = this.#demandKey(node, disk, key);
    const victims = [...registrations.keys].filter(([, other]) => other === victim).map(([other]) => other);
    if (victims.length === 0) throw new MdError('EBADE', `disk ${disk}: nobody is registered with key ${victim}`);
    for (const other of victims) {
      registrations.keys.delete(other);
      if (registrations.holder === other) registrations.holder = node;
    }
    registrations.generation += 1;
  }

  clearReservations(node: number, disk: string, key: string): void {
    const registrations = this.#demandKey(node, disk, key);
    registrations.keys.clear();
    registrations.holder = null;
    registrations.generation += 1;
  }

  #disk(name: string): StoredDisk {
    const disk = this.#disks.get(name);
    if (disk === undefined)
      throw new MdError('ENOENT', `no simulated disk ${name}; there are ${this.names().join(', ')}`);
    return disk;
  }
}
