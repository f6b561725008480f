/**
 * A node's block of 4 KiB, by which disks decide (docs/quorum.md): one on each member, in the mesh area, and one on the witness.
 * All that counts stands in the first 512 bytes, which a disk writes whole or not at all; the rest is zero.
 *
 * ```
 * magic 0 · version 8 · node 12 · cluster 16 · boot 32 · term 48 · sequence 56 · phase 64
 * set: index 68 · term 72 · disks 80 · former 81 (255: none) · UUIDs from 96, 16 each · SHA-256 480
 * ```
 */
import { hash } from 'node:crypto';
import type { NodeId } from '../arrays/record.ts';
import { type DiskBlock, QUORUM_DISKS_MAX, type ReadBlock } from '../lease/index.ts';
import { NODE_BLOCK_BYTES } from './mesh_area.ts';

const MAGIC = Buffer.from('MDMBLK\0\u0001', 'latin1');
const WITNESS_MAGIC = Buffer.from('MDMWIT\0\u0001', 'latin1');
const FORMAT_VERSION = 1;
const SECTOR_BYTES = 512;
const PHASES = ['free', 'standing', 'holding'] as const;
const NO_FORMER = 255;
const UUIDS_AT = 96;
const DIGEST_AT = 480;

function bytesOf(uuid: string): Buffer {
  return Buffer.from(uuid.replaceAll('-', ''), 'hex');
}

function uuidOf(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join('-');
}

function seal(block: Buffer): Buffer {
  hash('sha256', block.subarray(0, DIGEST_AT), 'buffer').copy(block, DIGEST_AT);
  return block;
}

function isWhole(sector: Buffer): boolean {
  const digest = hash('sha256', sector.subarray(0, DIGEST_AT), 'buffer');
  return digest.equals(sector.subarray(DIGEST_AT, SECTOR_BYTES));
}

/** @throws Error when the set has more disks than fit */
export function encodeNodeBlock(cluster: string, block: DiskBlock): Uint8Array {
  const { set } = block;
  const former = set.former ?? [];
  if (set.disks.length > QUORUM_DISKS_MAX || former.length > QUORUM_DISKS_MAX) {
    throw new Error(
      `quorum set of ${set.disks.length} disks (former ${former.length}): at most ${QUORUM_DISKS_MAX} fit`,
    );
  }
  const bytes = Buffer.alloc(NODE_BLOCK_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt32LE(FORMAT_VERSION, 8);
  bytes.writeUInt32LE(block.node, 12);
  bytesOf(cluster).copy(bytes, 16);
  bytesOf(block.boot).copy(bytes, 32);
  bytes.writeBigUInt64LE(BigInt(block.term), 48);
  bytes.writeBigUInt64LE(BigInt(block.sequence), 56);
  bytes.writeUInt32LE(PHASES.indexOf(block.phase), 64);
  bytes.writeUInt32LE(set.version.index, 68);
  bytes.writeBigUInt64LE(BigInt(set.version.term), 72);
  bytes.writeUInt8(set.disks.length, 80);
  bytes.writeUInt8(set.former === null ? NO_FORMER : former.length, 81);
  for (const [at, uuid] of [...set.disks, ...former].entries()) bytesOf(uuid).copy(bytes, UUIDS_AT + 16 * at);
  return seal(bytes);
}

/**
 * null: nothing that a node of this cluster has written as `node`. `torn`: it began to, and what stands there is not whole, or not
 * understood: the disk cannot be counted.
 */
export function decodeNodeBlock(cluster: string, node: NodeId, from: Uint8Array): ReadBlock | null {
  const bytes = Buffer.from(from.buffer, from.byteOffset, from.byteLength).subarray(0, SECTOR_BYTES);
  if (!bytes.subarray(0, 8).equals(MAGIC)) return null;
  if (!isWhole(bytes)) return 'torn';
  if (uuidOf(bytes.subarray(16, 32)) !== cluster || bytes.readUInt32LE(12) !== node) return null;
  const phase = PHASES[bytes.readUInt32LE(64)];
  if (bytes.readUInt32LE(8) !== FORMAT_VERSION || phase === undefined) return 'torn';
  const count = bytes.readUInt8(80);
  const former = bytes.readUInt8(81);
  const uuids = (begin: number, length: number): string[] =>
    Array.from({ length }, (_, at) =>
      uuidOf(bytes.subarray(UUIDS_AT + 16 * (begin + at), UUIDS_AT + 16 * (begin + at + 1))),
    );
  if (count > QUORUM_DISKS_MAX || (former !== NO_FORMER && former > QUORUM_DISKS_MAX)) return 'torn';
  return {
    node,
    boot: uuidOf(bytes.subarray(32, 48)),
    term: Number(bytes.readBigUInt64LE(48)),
    phase,
    sequence: Number(bytes.readBigUInt64LE(56)),
    set: {
      version: { term: Number(bytes.readBigUInt64LE(72)), index: bytes.readUInt32LE(68) },
      disks: uuids(0, count),
      former: former === NO_FORMER ? null : uuids(count, former),
    },
  };
}

/** What the first block of a witness says: whose it is, and the name that it has in quorum sets. Nodes' blocks follow, node 1's first. */
export function encodeWitness(cluster: string, uuid: string): Uint8Array {
  const bytes = Buffer.alloc(NODE_BLOCK_BYTES);
  WITNESS_MAGIC.copy(bytes, 0);
  bytesOf(cluster).copy(bytes, 16);
  bytesOf(uuid).copy(bytes, 32);
  return seal(bytes);
}

/** null: no witness of this cluster. */
export function decodeWitness(cluster: string, from: Uint8Array): string | null {
  const bytes = Buffer.from(from.buffer, from.byteOffset, from.byteLength).subarray(0, SECTOR_BYTES);
  if (!bytes.subarray(0, 8).equals(WITNESS_MAGIC) || !isWhole(bytes)) return null;
  return uuidOf(bytes.subarray(16, 32)) === cluster ? uuidOf(bytes.subarray(32, 48)) : null;
}
