/**
 * What stories about bitmaps read off the lab's disks: who has marked how much, and a *scar*, a block that differs between the legs
 * without anybody having written it. A copy by marks leaves it alone, any other heals it.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { type ArrayRecord, bitmapSector, type NodeId } from '../../src/arrays/record.ts';
import { markedRanges } from '../../src/md/marks.ts';
import type { Cluster } from './cluster.ts';
import { mustExamine, noticesNamed } from './writers.ts';

const CLEARED_MS = 60_000;
const SCAR = 0x5c;

export class BitmapsOnDisk {
  readonly #cluster: Cluster;
  readonly #scarAt: number;

  /** @param scarSector of the array, on the second disk: where nobody writes */
  constructor(cluster: Cluster, scarSector: number) {
    this.#cluster = cluster;
    this.#scarAt = mustExamine(cluster, 1).dataOffsetBytes + scarSector * 512;
  }

  #onDisk<T>(disk: number, use: (fd: number) => T): T {
    const fd = openSync(this.#cluster.lab.diskImage(disk), 'r+');
    try {
      return use(fd);
    } finally {
      closeSync(fd);
    }
  }

  #fillScar(value: number): void {
    this.#onDisk(1, (fd) => writeSync(fd, new Uint8Array(4096).fill(value), 0, 4096, this.#scarAt));
  }

  scar(): void {
    this.#fillScar(SCAR);
  }

  /** As it was, and as the other leg has it. */
  heal(): void {
    this.#fillScar(0);
  }

  get scarIsThere(): boolean {
    return this.#onDisk(1, (fd) => {
      const bytes = new Uint8Array(1);
      readSync(fd, bytes, 0, 1, this.#scarAt);
      return bytes[0] === SCAR;
    });
  }

  /** Sectors that a node has marked on a disk. */
  marked({ bitmap, componentSectors }: ArrayRecord, disk: number, node: NodeId): number {
    assert.ok(bitmap !== null);
    const bits = new Uint8Array(Math.ceil(componentSectors / bitmap.chunkSectors / 8));
    this.#onDisk(disk, (fd) => readSync(fd, bits, 0, bits.length, bitmapSector(bitmap, node) * 512));
    const ranges = markedRanges(bits, bitmap.chunkSectors, componentSectors);
    return ranges.reduce((sum, { loSector, hiSector }) => sum + hiSector - loSector, 0);
  }

  /** Of all nodes, on both disks, when nobody writes. */
  async allCleared(record: ArrayRecord): Promise<void> {
    const left = () => this.#cluster.nodes.flatMap((node) => [0, 1].map((disk) => this.marked(record, disk, node)));
    await this.#cluster.until('every bitmap is empty', CLEARED_MS, async () =>
      left().every((sectors) => sectors === 0),
    );
  }

  /** What the newest copy on this node was told to go by: whose bitmaps, and how much was marked there. */
  async copied(node: NodeId): Promise<{ nodes: unknown; sectors: number }> {
    const read = (await noticesNamed(this.#cluster, node, 'BitmapsRead')).at(-1);
    assert.ok(read !== undefined, 'bitmaps were read');
    return { nodes: read.nodes, sectors: Number(read.sectors) };
  }
}
