/**
 * The marks that nodes have left in their write-intent bitmaps, read off the members.
 *
 * md sets a bit on every leg, and waits for that, before it writes to a chunk; it clears it a while after the write is on all
 * legs. So what a crash has left different is marked on every leg that was in use. One of them may have had its bits from
 * before the other came, so all are read, and a bit counts wherever it is found.
 */
import { type ArrayRecord, type BitmapPlace, bitmapSector, type NodeId } from '../arrays/record.ts';
import { copySectors } from '../arrays/windows.ts';
import type { MdDriver, SectorRange } from './driver.ts';

const BLOCK_BYTES = 4096;
/** Small enough that the event loop, and leases with it, does not stand still for it. */
const PIECE_BYTES = 64 * 1024;

/** Of one node's bits, in bytes. */
export function bitmapBytes(record: ArrayRecord, place: BitmapPlace): number {
  return Math.ceil(copySectors(record, 'resync') / place.chunkSectors / 8);
}

/** The stretches whose bits are set; neighbours are one. In the unit of a resync. */
export function markedRanges(bits: Uint8Array, chunkSectors: number, totalSectors: number): SectorRange[] {
  const ranges: SectorRange[] = [];
  for (let chunk = 0; chunk * chunkSectors < totalSectors; chunk += 1) {
    if (((bits[chunk >> 3] ?? 0) & (1 << (chunk & 7))) === 0) continue;
    const loSector = chunk * chunkSectors;
    const hiSector = Math.min(loSector + chunkSectors, totalSectors);
    const last = ranges.at(-1);
    if (last?.hiSector === loSector) last.hiSector = hiSector;
    else ranges.push({ loSector, hiSector });
  }
  return ranges;
}

/**
 * What these nodes have marked.
 * @param paths member uuid → path
 * @throws Error when the array has no bitmaps, or those of a member in sync cannot be read: then anything may be marked
 */
export async function readMarks(
  driver: Pick<MdDriver, 'readMetadata'>,
  record: ArrayRecord,
  nodes: readonly NodeId[],
  paths: ReadonlyMap<string, string>,
): Promise<SectorRange[]> {
  const place = record.bitmap;
  if (place === null) throw new Error(`${record.md} has no bitmaps`);
  const bits = new Uint8Array(bitmapBytes(record, place));
  const length = Math.ceil(bits.length / BLOCK_BYTES) * BLOCK_BYTES;
  for (const member of record.members.filter(({ role }) => role === 'active')) {
    const path = paths.get(member.uuid);
    if (path === undefined)
      throw new Error(`${record.md}: no disk here with member ${member.uuid}, whose bitmaps count`);
    for (const node of nodes) {
      const offset = bitmapSector(place, node) * 512;
      for (let piece = 0; piece < length; piece += PIECE_BYTES) {
        const found = await driver.readMetadata(path, offset + piece, Math.min(PIECE_BYTES, length - piece));
        for (let at = 0; at < found.length; at += 1) {
          if (piece + at < bits.length) bits[piece + at] = (bits[piece + at] ?? 0) | (found[at] ?? 0);
        }
      }
    }
  }
  return markedRanges(bits, place.chunkSectors, copySectors(record, 'resync'));
}
