/**
 * The mesh area: the gap between superblock (or bad-block log) and data, where a cluster array keeps what the v1.2
 * superblock has no place for. Found from the superblock alone; the header's two copies come first, so that they are at
 * hand before the number of node slots (which stands in the header) is known.
 *
 * ```
 * start      header copy 0, 16 KiB        sequence even
 *            header copy 1, 16 KiB        sequence odd
 *            node blocks, 4 KiB a node    lease and heartbeat
 *            bitmaps, equal, 4 KiB multiples, at most 512 KiB a node
 * data_offset
 * ```
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { ArrayRecord, type BitmapPlace, compareVersions, Uuid } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import { keep } from '../kept.ts';
import type { MeshGeometry, MeshHeader, Superblock } from './driver.ts';

export const MESH_HEADER_BYTES = 16 * 1024;
export const NODE_BLOCK_BYTES = 4096;
const HEADER_SECTORS = MESH_HEADER_BYTES / 512;
/** 4 KiB: also 4K-native disks write it whole. */
const BLOCK_SECTORS = 8;
/** Superblock in [8, 16); [16, 32) is where mdadm keeps the smallest bitmap and the bad-block log. */
const EARLIEST_SECTOR = 32;
const BITMAP_SECTORS_MAX = 1024;
const SECTOR_BITS = 512 * 8;
/** 64 KiB: md copies in pieces of that. */
const CHUNK_SECTORS_MIN = 128;
/** 64 MiB, as mdadm's internal bitmaps have at least. */
const CHUNK_SECTORS_USUAL_MAX = 131_072;

const MAGIC = Uint8Array.from([0x4d, 0x44, 0x4d, 0x45, 0x53, 0x48, 0x00, 0x01]);
const FORMAT_VERSION = 1;
/** magic 0 · format version 8 · payload length 12 · sequence 16 · SHA-256 24 · payload 56. */
const OFFSET_VERSION = 8;
const OFFSET_LENGTH = 12;
const OFFSET_SEQUENCE = 16;
const OFFSET_DIGEST = 24;
const OFFSET_PAYLOAD = 56;

const MeshHeaderSchema = z.object({
  clusterUuid: Uuid,
  clusterName: z.string().max(200),
  record: ArrayRecord,
  nodeSlots: z.int().min(1).max(64),
});

/** What the place of the mesh area hangs on; a whole superblock will do. */
export type MeshPlacement = Pick<
  Superblock,
  'superOffsetSectors' | 'bblogOffsetSectors' | 'bblogSizeSectors' | 'dataOffsetSectors'
>;

const upToBlock = (sectors: number) => Math.ceil(sectors / BLOCK_SECTORS) * BLOCK_SECTORS;
const downToBlock = (sectors: number) => Math.floor(sectors / BLOCK_SECTORS) * BLOCK_SECTORS;

function startSector(placement: MeshPlacement): number {
  const hasLog = placement.bblogSizeSectors > 0 && placement.bblogOffsetSectors > 0;
  const logEnd = hasLog ? placement.superOffsetSectors + placement.bblogOffsetSectors + placement.bblogSizeSectors : 0;
  return Math.max(EARLIEST_SECTOR, upToBlock(logEnd));
}

/** First sectors of the two header copies, or null where the gap has no room for them: then there is no mesh area. */
export function meshHeaderSectors(placement: MeshPlacement): [number, number] | null {
  const start = startSector(placement);
  if (start + 2 * HEADER_SECTORS > placement.dataOffsetSectors) return null;
  return [start, start + HEADER_SECTORS];
}

/** Where everything lies for this many nodes, or why it does not fit. */
export function meshGeometry(placement: MeshPlacement, nodeSlots: number): MeshGeometry | { error: string } {
  if (!Number.isInteger(nodeSlots) || nodeSlots < 1 || nodeSlots > 64)
    return { error: `${nodeSlots} node slots; 1 to 64 are possible` };
  const start = startSector(placement);
  const end = downToBlock(placement.dataOffsetSectors);
  const nodeBlocksSector = start + 2 * HEADER_SECTORS;
  const bitmapsSector = nodeBlocksSector + nodeSlots * BLOCK_SECTORS;
  const room = downToBlock(Math.floor((end - bitmapsSector) / nodeSlots));
  if (room < BLOCK_SECTORS) {
    const needed = bitmapsSector + nodeSlots * BLOCK_SECTORS - start;
    return {
      error:
        `the mesh area for ${nodeSlots} nodes needs ${needed} sectors, but data begins at sector ` +
        `${placement.dataOffsetSectors} and the gap from sector ${start} has ${Math.max(0, end - start)}; ` +
        'make the array with a greater data offset (mdadm --create --data-offset=8M) or configure fewer nodes',
    };
  }
  const bitmapSectorsPerNode = Math.min(room, BITMAP_SECTORS_MAX);
  return {
    startSector: start,
    lengthSectors: bitmapsSector + bitmapSectorsPerNode * nodeSlots - start,
    headerSectors: [start, start + HEADER_SECTORS],
    nodeBlocksSector,
    bitmapsSector,
    bitmapSectorsPerNode,
    nodeSlots,
  };
}

/**
 * A place that is free on all of these members, with the finest chunk that suits: so fine that few sectors are copied after a
 * crash, so coarse that a write seldom has to wait for its bit. One block of bits up to 2 TiB; above that 64 MiB a chunk.
 * @param members not empty @param sectors how much the bits stand for
 */
export function bitmapPlace(members: readonly MeshGeometry[], sectors: number): BitmapPlace | null {
  const room = bitmapRoom(members);
  if (room === null || sectors <= 0) return null;
  let chunkSectors = CHUNK_SECTORS_MIN;
  const bits = (): number => Math.ceil(sectors / chunkSectors);
  while (chunkSectors < CHUNK_SECTORS_USUAL_MAX && bits() > NODE_BLOCK_BYTES * 8) chunkSectors *= 2;
  while (bits() > room.sectorsPerNode * SECTOR_BITS) chunkSectors *= 2;
  return { ...room, chunkSectors };
}

/** As `bitmapPlace`, with this chunk; or why it cannot be, in words. */
export function bitmapPlaceOf(
  members: readonly MeshGeometry[],
  sectors: number,
  chunkKib: number,
): BitmapPlace | string {
  const chunkSectors = chunkKib * 2;
  const finest = bitmapPlace(members, sectors);
  if (finest === null) return 'no member has room for bitmaps';
  if (chunkSectors < CHUNK_SECTORS_MIN || !Number.isInteger(Math.log2(chunkSectors)))
    return `a bit cannot stand for ${chunkKib} KiB; give a power of two from ${CHUNK_SECTORS_MIN / 2} KiB on`;
  const bits = finest.sectorsPerNode * SECTOR_BITS;
  if (Math.ceil(sectors / chunkSectors) > bits)
    return `with ${chunkKib} KiB a bit there are more than the ${bits} bits that a node has room for; give a larger chunk`;
  return { ...finest, chunkSectors };
}

function bitmapRoom(members: readonly MeshGeometry[]): Omit<BitmapPlace, 'chunkSectors'> | null {
  const firstSector = Math.max(...members.map(({ bitmapsSector }) => bitmapsSector));
  const nodeSlots = Math.max(...members.map((member) => member.nodeSlots));
  const ends = members.map((member) => member.startSector + member.lengthSectors);
  const sectorsPerNode = downToBlock(Math.floor((Math.min(...ends) - firstSector) / nodeSlots));
  return sectorsPerNode < BLOCK_SECTORS ? null : { firstSector, sectorsPerNode };
}

/** Whether a member's mesh area has its bitmaps where the others have them. */
export function bitmapFits(place: BitmapPlace, member: MeshGeometry): boolean {
  const end = place.firstSector + place.sectorsPerNode * member.nodeSlots;
  return place.firstSector >= member.bitmapsSector && end <= member.startSector + member.lengthSectors;
}

/** The copy that a header of this sequence is written to; the other one stays whole meanwhile. */
export function meshHeaderCopy(sequence: number): 0 | 1 {
  return sequence % 2 === 0 ? 0 : 1;
}

function digestOf(bytes: Uint8Array): Buffer {
  return createHash('sha256')
    .update(bytes.subarray(0, OFFSET_DIGEST))
    .update(bytes.subarray(OFFSET_PAYLOAD, MESH_HEADER_BYTES))
    .digest();
}

/**
 * One header copy, 16 KiB.
 * @throws Error when the record has so many members that it does not fit
 */
export function encodeMeshHeader(header: MeshHeader, sequence: number): Uint8Array {
  const payload = new TextEncoder().encode(JSON.stringify(MeshHeaderSchema.parse(header)));
  if (payload.length > MESH_HEADER_BYTES - OFFSET_PAYLOAD)
    throw new Error(
      `array ${header.record.md}: its mesh header has ${payload.length} bytes with ${header.record.members.length} members, ` +
        `at most ${MESH_HEADER_BYTES - OFFSET_PAYLOAD} fit; remove faulty members and spares`,
    );
  if (!Number.isSafeInteger(sequence) || sequence < 0)
    throw new Error(`array ${header.record.md}: mesh header sequence ${sequence} is not a whole number`);
  const bytes = new Uint8Array(MESH_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC, 0);
  view.setUint32(OFFSET_VERSION, FORMAT_VERSION, true);
  view.setUint32(OFFSET_LENGTH, payload.length, true);
  view.setBigUint64(OFFSET_SEQUENCE, BigInt(sequence), true);
  bytes.set(payload, OFFSET_PAYLOAD);
  bytes.set(digestOf(bytes), OFFSET_DIGEST);
  return bytes;
}

/** Each look at the disks finds the same few headers again: by the digest over all of a copy's bytes. */
const understood = new Map<string, { header: MeshHeader; sequence: number }>();
const UNDERSTOOD_KEPT = 32;

/** Null: nothing whole here (blank, torn, of another kind). Throws when it is whole and not understood. */
function decodeCopy(bytes: Uint8Array, where: string): { header: MeshHeader; sequence: number } | null {
  if (bytes.length < MESH_HEADER_BYTES) return null;
  if (MAGIC.some((byte, at) => bytes[at] !== byte)) return null;
  const digest = digestOf(bytes);
  if (!digest.equals(bytes.subarray(OFFSET_DIGEST, OFFSET_PAYLOAD))) return null;
  const name = digest.toString('base64');
  const known = understood.get(name);
  if (known !== undefined) return known;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(OFFSET_VERSION, true);
  if (version !== FORMAT_VERSION)
    throw new Error(
      `member ${where}: mesh area has format version ${version}, this mdmesh knows ${FORMAT_VERSION}; run the mdmesh that wrote it`,
    );
  const length = view.getUint32(OFFSET_LENGTH, true);
  const sequence = Number(view.getBigUint64(OFFSET_SEQUENCE, true));
  const problem = (text: string) =>
    new Error(`member ${where}: mesh header ${sequence} ${text}; run mdmesh examine ${where}`);
  if (length > MESH_HEADER_BYTES - OFFSET_PAYLOAD) throw problem(`claims a payload of ${length} bytes`);
  let json: unknown;
  try {
    json = JSON.parse(
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(OFFSET_PAYLOAD, OFFSET_PAYLOAD + length)),
    );
  } catch (error) {
    throw problem(`is whole but not JSON (${textOf(error)})`);
  }
  const parsed = MeshHeaderSchema.safeParse(json);
  if (!parsed.success) throw problem(`is whole but not a header (${z.prettifyError(parsed.error)})`);
  const copy = { header: parsed.data, sequence };
  keep(understood, UNDERSTOOD_KEPT, name, copy);
  return copy;
}

/**
 * The newest whole copy, by the record's (term, index), then by sequence. A torn or blank copy is passed over.
 * @throws Error when a whole copy is of an unknown format version or breaks the schema
 */
export function decodeMeshHeaders(
  copy0: Uint8Array,
  copy1: Uint8Array,
  where = 'mesh area',
): { header: MeshHeader; sequence: number; copy: 0 | 1 } | null {
  const zero = decodeCopy(copy0, where);
  const one = decodeCopy(copy1, where);
  if (zero === null) return one === null ? null : { ...one, copy: 1 };
  if (one === null) return { ...zero, copy: 0 };
  const order = compareVersions(zero.header.record.version, one.header.record.version) || zero.sequence - one.sequence;
  return order >= 0 ? { ...zero, copy: 0 } : { ...one, copy: 1 };
}
