/**
 * One node's write-intent bitmap as md keeps it with `metadata=external` (drivers/md/md-bitmap.c): a bit is on the members
 * before anything is written to its chunk, and is cleared when the chunk has rested for two rounds of the daemon. A
 * chunk whose write missed a leg, or that was marked, is *needed*: its bit stays until a resync has copied it.
 */
import type { BitmapPlace } from '../arrays/record.ts';
import type { SectorRange } from './driver.ts';
import { markedRanges } from './marks.ts';

interface Chunk {
  writes: number;
  needed: boolean;
  /** Being copied by the resync under way. */
  syncing: boolean;
  /** Rounds of the daemon that it has to rest yet. */
  rests: number;
}

const RESTS = 2;

export class SimulatedBitmap {
  readonly chunkSectors: number;
  readonly #totalSectors: number;
  /** As it is to stand on the members. */
  readonly #bits: Uint8Array;
  readonly #chunks = new Map<number, Chunk>();

  /** @param found as an earlier boot has left it @param neededFrom marks at and past this sector count; null: none does */
  constructor(place: BitmapPlace, totalSectors: number, found: Uint8Array, neededFrom: number | null) {
    this.chunkSectors = place.chunkSectors;
    this.#totalSectors = totalSectors;
    const bytes = Math.ceil(Math.ceil(totalSectors / place.chunkSectors) / 8);
    this.#bits = new Uint8Array(Math.ceil(bytes / 4096) * 4096);
    this.#bits.set(found.subarray(0, bytes));
    for (const range of markedRanges(this.#bits, this.chunkSectors, totalSectors))
      for (const index of this.#indexes(range)) {
        const needed = neededFrom !== null && (index + 1) * this.chunkSectors >= neededFrom;
        this.#chunks.set(index, { writes: 0, needed, syncing: false, rests: RESTS });
      }
  }

  /** A whole number of 4 KiB blocks. */
  get bytes(): Uint8Array {
    return this.#bits;
  }

  #indexes({ loSector, hiSector }: SectorRange): number[] {
    const first = Math.floor(loSector / this.chunkSectors);
    const end = Math.ceil(Math.min(hiSector, this.#totalSectors) / this.chunkSectors);
    return Array.from({ length: Math.max(0, end - first) }, (_, at) => first + at);
  }

  #chunk(index: number): { chunk: Chunk; isNew: boolean } {
    const known = this.#chunks.get(index);
    if (known !== undefined) return { chunk: known, isNew: false };
    const chunk = { writes: 0, needed: false, syncing: false, rests: RESTS };
    this.#chunks.set(index, chunk);
    this.#bits[index >> 3] = (this.#bits[index >> 3] ?? 0) | (1 << (index & 7));
    return { chunk, isNew: true };
  }

  /** A write to this stretch is about to begin. True: bits must reach the members before it. */
  beginWrite(range: SectorRange): boolean {
    let isNew = false;
    for (const index of this.#indexes(range)) {
      const found = this.#chunk(index);
      found.chunk.writes += 1;
      isNew ||= found.isNew;
    }
    return isNew;
  }

  /** @param whole on every leg that there should be */
  endWrite(range: SectorRange, whole: boolean): void {
    for (const index of this.#indexes(range)) {
      const { chunk } = this.#chunk(index);
      chunk.writes -= 1;
      chunk.needed ||= !whole;
      chunk.rests = RESTS;
    }
  }

  mark(range: SectorRange): void {
    for (const index of this.#indexes(range)) this.#chunk(index).chunk.needed = true;
  }

  /** Where the resync that has come to this sector goes on: there, or at the next marked chunk. */
  nextNeeded(sector: number): number {
    for (let at = sector; at < this.#totalSectors; ) {
      const index = Math.floor(at / this.chunkSectors);
      const chunk = this.#chunks.get(index);
      if (chunk?.needed || chunk?.syncing) return at;
      at = (index + 1) * this.chunkSectors;
    }
    return this.#totalSectors;
  }

  /** md copies in this chunk, to all that lack it. */
  beginSync(sector: number): void {
    const chunk = this.#chunks.get(Math.floor(sector / this.chunkSectors));
    if (chunk !== undefined) Object.assign(chunk, { needed: false, syncing: true });
  }

  /** The copy has come up to here; what it is in the middle of stays needed if it stops. */
  endSync(uptoSector: number, aborted: boolean): void {
    for (const [index, chunk] of this.#chunks) {
      if (!chunk.syncing) continue;
      const done = Math.min((index + 1) * this.chunkSectors, this.#totalSectors) <= uptoSector;
      if (!done && !aborted) continue;
      Object.assign(chunk, { syncing: false, needed: chunk.needed || !done, rests: RESTS });
    }
  }

  /** All legs are in sync: nothing is needed any more. */
  forgetNeeded(): void {
    for (const chunk of this.#chunks.values()) chunk.needed = false;
  }

  /** One round of the daemon. True: bits were cleared. */
  rest(): boolean {
    let cleared = false;
    for (const [index, chunk] of this.#chunks) {
      if (chunk.writes > 0 || chunk.needed || chunk.syncing) continue;
      chunk.rests -= 1;
      if (chunk.rests > 0) continue;
      this.#chunks.delete(index);
      this.#bits[index >> 3] = (this.#bits[index >> 3] ?? 0) & ~(1 << (index & 7));
      cleared = true;
    }
    return cleared;
  }
}
