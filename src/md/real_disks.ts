/**
 * The block devices of this node: which there are, and what stands on them. Reads are O_DIRECT, so that another node's
 * write is seen; the page cache of this node is never asked.
 *
 * Everything but the superblocks themselves comes from sysfs by device number, so that /dev/disk/by-id links, partitions
 * and /dev/mapper names all lead to the same disk.
 */
import { createHash } from 'node:crypto';
import { existsSync, globSync, readlinkSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { textOf } from '../error_text.ts';
import { type Disk, MdError, type MeshHeader, type Superblock } from './driver.ts';
import { MAP_UUID_PREFIX } from './layer.ts';
import { decodeMeshHeaders, MESH_HEADER_BYTES, meshHeaderSectors } from './mesh_area.ts';
import { decodeSuperblockIfAny, SUPERBLOCK_BYTES, SUPERBLOCK_SECTOR } from './superblock.ts';
import { type FileReader, namesIn } from './sysfs_array.ts';

/** O_DIRECT read; offset and length are multiples of 4096. Rejects with an errno in `code`. */
export type DirectReader = (path: string, offsetBytes: number, lengthBytes: number) => Promise<Uint8Array>;

export interface BlockDevice {
  path: string;
  /** major:minor */
  devno: string;
  /** Kernel name, `!` for `/`. */
  name: string;
  /** `/sys/devices/…/block/NAME` */
  sysPath: string;
}

export interface Identity {
  member: string;
  array: string;
}

/** Of the maps of multipathd's; ours is another one. */
export const MULTIPATH_UUID = 'mpath-';

const SECTOR_BYTES = 512;
const BLOCK_BYTES = 4096;
const SUPERBLOCK_OFFSET = SUPERBLOCK_SECTOR * SECTOR_BYTES;
/** From the superblock to the end of both header copies where the mesh area lies first possible: one read finds all. */
const HEAD_BYTES = 60 * 1024;
const FINGERPRINT_HEAD_BYTES = 4 * 1024 * 1024;
const FINGERPRINT_TAIL_BYTES = 1024 * 1024;
/** Small enough that the event loop, and leases with it, does not stand still for it. */
const FINGERPRINT_PIECE_BYTES = 64 * 1024;

export class Disks {
  readonly #globs: readonly string[];
  readonly #readFiles: FileReader;
  readonly #readDirect: DirectReader;
  /** What was last read on each device number. Never taken for an answer about a disk's content: only for names in observations. */
  readonly #identities = new Map<string, Identity>();

  constructor(globs: readonly string[], readFiles: FileReader, readDirect: DirectReader) {
    this.#globs = globs;
    this.#readFiles = readFiles;
    this.#readDirect = readDirect;
  }

  /** Member and array that were last read on this device number; null if none was. */
  identity(devno: string): Identity | null {
    return this.#identities.get(devno) ?? null;
  }

  async scan(): Promise<Disk[]> {
    const seen = new Map<string, BlockDevice>();
    for (const path of this.#globs.flatMap((pattern) => globSync(pattern)).sort()) {
      const device = tryResolve(path);
      if (
        device !== null &&
        !seen.has(device.devno) &&
        couldBeMember(device) &&
        !this.#isOurMap(device.sysPath) &&
        this.#multipathOver(device.sysPath) === null
      )
        seen.set(device.devno, device);
    }
    const disks = await Promise.all(
      [...seen.values()].map((device) =>
        this.#look(device).catch((error: unknown) => ({ ...this.#bare(device), problem: textOf(error) })),
      ),
    );
    return disks.filter((disk) => disk.sizeSectors > 0);
  }

  /** @throws MdError ENOENT, ENOTBLK, EIO… An unsound superblock is no error: it stands in `problem`. */
  async examine(path: string): Promise<Disk> {
    const device = resolveDevice(path);
    const disk = await this.#look(device);
    const map = this.#multipathOver(device.sysPath);
    if (map !== null) disk.problem = `it is one of the paths of /dev/mapper/${map}; name that`;
    return disk;
  }

  /** Reads the superblocks behind these device numbers, so that observations can name their members. Never rejects. */
  async identify(devnos: readonly string[]): Promise<void> {
    await Promise.all(
      devnos.map(async (devno) => {
        const device = deviceByNumber(devno);
        if (device !== null) await this.#look(device).catch(() => undefined);
      }),
    );
  }

  async fingerprint(path: string): Promise<{ sizeSectors: number; digest: string; blank: boolean }> {
    const device = resolveDevice(path);
    const sizeSectors = this.#facts(device).sizeSectors;
    const whole = Math.floor((sizeSectors * SECTOR_BYTES) / BLOCK_BYTES) * BLOCK_BYTES;
    const head = Math.min(whole, FINGERPRINT_HEAD_BYTES);
    const tail = Math.min(whole, FINGERPRINT_TAIL_BYTES);
    if (whole === 0) throw new MdError('ENXIO', `disk ${path} has ${sizeSectors} sectors; insert a medium`);
    const hash = createHash('sha256');
    let blank = true;
    for (const [from, to] of [
      [0, head],
      [whole - tail, whole],
    ] as const) {
      for (let at = from; at < to; at += FINGERPRINT_PIECE_BYTES) {
        const piece = await this.#read(device.path, at, Math.min(FINGERPRINT_PIECE_BYTES, to - at));
        hash.update(piece);
        blank &&= isZero(piece);
      }
    }
    return { sizeSectors, digest: hash.digest('hex'), blank };
  }

  /** As the contract's readMetadata. @throws MdError */
  readMetadata(path: string, offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    if (offsetBytes % BLOCK_BYTES !== 0 || lengthBytes % BLOCK_BYTES !== 0) {
      const text = `disk ${path}: ${lengthBytes} bytes at ${offsetBytes}: O_DIRECT wants multiples of ${BLOCK_BYTES}`;
      return Promise.reject(new MdError('EINVAL', text));
    }
    return this.#read(path, offsetBytes, lengthBytes);
  }

  async #read(path: string, offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    try {
      return await this.#readDirect(path, offsetBytes, lengthBytes);
    } catch (error) {
      throw readError(path, error);
    }
  }

  #facts(device: BlockDevice): { sizeSectors: number; logicalBlockBytes: number } {
    const isPartition = this.#readFiles([`${device.sysPath}/partition`])[0] !== null;
    const queue = `${isPartition ? dirname(device.sysPath) : device.sysPath}/queue/logical_block_size`;
    const [size, block] = this.#readFiles([`${device.sysPath}/size`, queue]);
    return { sizeSectors: Number(size ?? 0), logicalBlockBytes: Number(block ?? SECTOR_BYTES) };
  }

  #bare(device: BlockDevice): Disk {
    return {
      path: device.path,
      devno: device.devno,
      ...this.#facts(device),
      superblock: null,
      mesh: null,
      problem: null,
      holders: this.#holders(device),
    };
  }

  /** A map of ours is no holder: whoever holds the map is. */
  #holders(device: BlockDevice): string[] {
    return namesIn(`${device.sysPath}/holders`).flatMap((holder) => {
      const sysPath = `/sys/class/block/${holder}`;
      return this.#isOurMap(sysPath) ? namesIn(`${sysPath}/holders`) : [holder];
    });
  }

  #isOurMap(sysPath: string): boolean {
    return this.#readFiles([`${sysPath}/dm/uuid`])[0]?.startsWith(MAP_UUID_PREFIX) === true;
  }

  /** Of one path of several to a disk: the map over them, which is what is to be used. */
  #multipathOver(sysPath: string): string | null {
    for (const holder of namesIn(`${sysPath}/holders`)) {
      const [uuid, map] = this.#readFiles([
        `${sysPath}/holders/${holder}/dm/uuid`,
        `${sysPath}/holders/${holder}/dm/name`,
      ]);
      if (uuid?.startsWith(MULTIPATH_UUID) === true && map != null) return map;
    }
    return null;
  }

  async #look(device: BlockDevice): Promise<Disk> {
    const disk = this.#bare(device);
    if (disk.sizeSectors === 0) return disk;
    // An unreadable disk keeps the identity it had: a failing member is still called by its name.
    const head = await this.#head(device.path, disk.sizeSectors);
    try {
      disk.superblock = decodeSuperblockIfAny(head.subarray(0, SUPERBLOCK_BYTES), device.path);
      if (disk.superblock !== null) disk.mesh = await this.#mesh(device.path, disk.superblock, head);
    } catch (error) {
      if (error instanceof MdError) throw error;
      disk.problem = textOf(error);
    }
    if (disk.superblock !== null) {
      this.#identities.set(device.devno, { member: disk.superblock.deviceUuid, array: disk.superblock.setUuid });
    } else if (disk.problem === null) {
      this.#identities.delete(device.devno);
      disk.problem = partitionsProblem(device);
    }
    return disk;
  }

  /** The bytes from the superblock on. */
  #head(path: string, sizeSectors: number): Promise<Uint8Array> {
    const room = Math.floor((sizeSectors * SECTOR_BYTES - SUPERBLOCK_OFFSET) / BLOCK_BYTES) * BLOCK_BYTES;
    if (room < SUPERBLOCK_BYTES) return Promise.resolve(new Uint8Array(SUPERBLOCK_BYTES));
    return this.#read(path, SUPERBLOCK_OFFSET, Math.min(room, HEAD_BYTES));
  }

  async #mesh(path: string, superblock: Superblock, head: Uint8Array): Promise<MeshHeader | null> {
    const sectors = meshHeaderSectors(superblock);
    if (sectors === null) return null;
    const copies = await Promise.all(
      sectors.map((sector) => {
        const from = sector * SECTOR_BYTES - SUPERBLOCK_OFFSET;
        if (from >= 0 && from + MESH_HEADER_BYTES <= head.length) return head.subarray(from, from + MESH_HEADER_BYTES);
        return this.#read(path, sector * SECTOR_BYTES, MESH_HEADER_BYTES);
      }),
    );
    const [zero, one] = copies;
    if (zero === undefined || one === undefined) return null;
    return decodeMeshHeaders(zero, one, path)?.header ?? null;
  }
}

/**
 * The device behind a path, links followed.
 * @throws MdError ENOENT, ENOTBLK
 */
export function resolveDevice(path: string): BlockDevice {
  let rdev: bigint;
  try {
    const stat = statSync(path, { bigint: true });
    if (!stat.isBlockDevice())
      throw new MdError('ENOTBLK', `${path} is not a block device; name a disk or a partition`);
    rdev = stat.rdev;
  } catch (error) {
    throw readError(path, error);
  }
  // glibc's gnu_dev_major and gnu_dev_minor.
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return describe(path, `${major}:${minor}`);
}

/** null: no such device number any more. */
export function deviceByNumber(devno: string): BlockDevice | null {
  try {
    const name = basename(readlinkSync(`/sys/dev/block/${devno}`));
    return tryResolve(`/dev/${name.replaceAll('!', '/')}`);
  } catch {
    return null;
  }
}

function tryResolve(path: string): BlockDevice | null {
  try {
    return resolveDevice(path);
  } catch {
    return null;
  }
}

/** @throws MdError ENXIO */
export function describe(path: string, devno: string): BlockDevice {
  let link: string;
  try {
    link = readlinkSync(`/sys/dev/block/${devno}`);
  } catch {
    throw new MdError('ENXIO', `${path}: the kernel knows no block device ${devno}; remove the stale node`);
  }
  return { path, devno, name: basename(link), sysPath: `/sys/dev/block/${link}` };
}

function partitionsProblem(device: BlockDevice): string | null {
  const partitions = namesIn(device.sysPath).filter((name) => existsSync(`${device.sysPath}/${name}/partition`));
  return partitions.length === 0 ? null : `it is partitioned (${partitions.join(', ')}); use a partition or wipe it`;
}

/** Not an md array or a partition of one, and not memory. */
function couldBeMember(device: BlockDevice): boolean {
  return !/\/block\/(md[_\d]|ram\d|zram\d)/.test(device.sysPath);
}

const ZEROS = new Uint8Array(FINGERPRINT_PIECE_BYTES);

/** @param bytes no more than a piece of a fingerprint */
function isZero(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, ZEROS.subarray(0, bytes.byteLength)) === 0;
}

function readError(path: string, error: unknown): MdError {
  if (error instanceof MdError) return error;
  const code = errorCode(error);
  return new MdError(code, `disk ${path}: ${code}: ${textOf(error)}; check the disk and its path to the storage`);
}

/** errno name of what a system call or the addon threw; EIO where it names none. */
export function errorCode(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string')
    return error.code;
  return 'EIO';
}
