/**
 * Where md puts data, for the levels that the simulated driver knows.
 *
 * Exact: raid1, raid10 near (setup_geo and __raid10_find_phys in drivers/md/raid10.c), raid0 and linear of equal members,
 * raid4, raid5 left-symmetric (raid5_compute_sector in drivers/md/raid5.c). Not known, and refused at assembly: raid6,
 * raid10 far and offset, other raid5 layouts, raid0 and linear of unequal members.
 */
import type { ArrayRecord } from '../arrays/record.ts';

/** A run of sectors that stands together: the same `copies` hold it, `parity` guards it. */
export interface Piece {
  /** Sectors from the beginning of the request. */
  at: number;
  sectors: number;
  /** Where each copy lies: slot, and sector of the component. */
  copies: { slot: number; sector: number }[];
  /** Slot of the parity of this stripe, at the same component sector; null where there is none. */
  parity: number | null;
}

/** Why the level cannot be simulated; null if it can. */
export function unknownLayout(record: ArrayRecord): string | null {
  const { level, layout, chunkSectors } = record;
  if (level === 'raid6') return 'raid6';
  if (level === 'raid5' && layout !== 2) return `raid5 layout ${layout}`;
  if (level === 'raid10' && (layout & ~0xff) !== 0x100) return `raid10 layout 0x${layout.toString(16)}`;
  if (level !== 'raid1' && level !== 'linear' && chunkSectors === 0) return `${level} without a chunk size`;
  if (level === 'raid0' || level === 'linear') {
    const sizes = new Set(
      record.members.filter((member) => member.role === 'active').map((member) => member.dataSizeSectors),
    );
    if (sizes.size > 1) return `${level} of members of different size`;
  }
  return null;
}

function locate(record: ArrayRecord, sector: number): Omit<Piece, 'at'> {
  const { level, chunkSectors, raidDisks } = record;
  if (level === 'raid1') {
    const copies = Array.from({ length: raidDisks }, (_, slot) => ({ slot, sector }));
    return { sectors: record.componentSectors - sector, copies, parity: null };
  }
  if (level === 'linear') {
    const size = record.members.find((member) => member.role === 'active')?.dataSizeSectors ?? 1;
    const within = sector % size;
    return { sectors: size - within, copies: [{ slot: Math.floor(sector / size), sector: within }], parity: null };
  }
  const chunk = Math.floor(sector / chunkSectors);
  const within = sector % chunkSectors;
  const sectors = chunkSectors - within;
  if (level === 'raid0') {
    const row = Math.floor(chunk / raidDisks);
    return { sectors, copies: [{ slot: chunk % raidDisks, sector: row * chunkSectors + within }], parity: null };
  }
  if (level === 'raid10') {
    const near = record.layout & 0xff;
    const copies = Array.from({ length: near }, (_, copy) => {
      const place = chunk * near + copy;
      return { slot: place % raidDisks, sector: Math.floor(place / raidDisks) * chunkSectors + within };
    });
    return { sectors, copies, parity: null };
  }
  const dataDisks = raidDisks - 1;
  const stripe = Math.floor(chunk / dataDisks);
  const index = chunk % dataDisks;
  const parity = level === 'raid4' ? dataDisks : dataDisks - (stripe % raidDisks);
  const slot = level === 'raid4' ? index : (parity + 1 + index) % raidDisks;
  return { sectors, copies: [{ slot, sector: stripe * chunkSectors + within }], parity };
}

/** The pieces of a request of `sectors` sectors at array sector `sector`. */
export function piecesOf(record: ArrayRecord, sector: number, sectors: number): Piece[] {
  const pieces: Piece[] = [];
  for (let at = 0; at < sectors; ) {
    const piece = locate(record, sector + at);
    const length = Math.min(piece.sectors, sectors - at);
    pieces.push({ ...piece, at, sectors: length });
    at += length;
  }
  return pieces;
}
