/**
 * An application that writes to an array and remembers what it was told: the simulation's disk writer. Every 512-byte
 * sector says of itself which block it belongs to and by which write it came, so that a leg can be asked afterwards
 * whether it still has every write that was acknowledged.
 */
import type { NodeId } from '#src/arrays/record.ts';
import { MdError } from '#src/md/driver.ts';
import { seededRandom } from '#src/md/simulated_time.ts';
import type { SimCluster } from './cluster.ts';

export const BLOCK_BYTES = 4096;
const SECTOR_BYTES = 512;
export const SECTORS_PER_BLOCK = BLOCK_BYTES / SECTOR_BYTES;
const MARK = 0x6d646d31;

export interface Pause {
  /** Of the cluster's clock. */
  startMs: number;
  lengthMs: number;
}

export interface ApplicationOptions {
  node: NodeId;
  md?: string;
  firstBlock: number;
  blocks: number;
  /** Between the end of one write and the begin of the next. @default 10 */
  everyMs?: number;
  /** Writes shorter than this are no pause. @default 5 */
  pauseMs?: number;
  /** Called in the instant in which a write is told as done. */
  onAcknowledged?: (block: number) => void;
}

export class Application {
  readonly node: NodeId;
  acknowledged = 0;
  failed = 0;
  /** What the first failed write was told. */
  trouble: string | null = null;
  readonly pauses: Pause[] = [];
  /** Of the write under way; null: none. */
  begunMs: number | null = null;
  startedAtMs = Number.POSITIVE_INFINITY;
  /** It begins no write until then, or until it is woken. */
  #rests: Promise<void> | null = null;
  readonly #cluster: SimCluster;
  readonly #options: Required<ApplicationOptions>;
  readonly #newest = new Map<number, number>();
  readonly #begun = new Map<number, number>();
  /** By which start a block's newest write was begun. */
  readonly #begunBy = new Map<number, number>();
  /** What starts until this one left in doubt is for the next copy to make one. */
  #settled = 0;
  #sequence = 0;
  #stop = false;
  /** Each start is another process: what an earlier one waits for on a machine that lost its power never comes. */
  #starts = 0;
  #ended: Promise<void> | null = null;

  constructor(cluster: SimCluster, options: ApplicationOptions) {
    this.#cluster = cluster;
    this.#options = { md: 'md0', everyMs: 10, pauseMs: 5, onAcknowledged: () => undefined, ...options };
    this.node = options.node;
  }

  get stopped(): boolean {
    return this.#stop;
  }

  get md(): string {
    return this.#options.md;
  }

  /** Blocks of its own: first one, and how many. */
  get region(): { firstBlock: number; blocks: number } {
    const { firstBlock, blocks } = this.#options;
    return { firstBlock, blocks };
  }

  /** Its newest write to a block that was acknowledged, and the newest that was begun; 0: none. */
  newestIn(block: number): { acknowledged: number; begun: number } {
    return { acknowledged: this.#newest.get(block) ?? 0, begun: this.#begun.get(block) ?? 0 };
  }

  /** Its node is evicted: legs that differ by what it began until it ended are to be made one. */
  settle(): void {
    this.#settled = this.#stop ? this.#starts : this.#starts - 1;
  }

  /** Legs may differ here, even when a copy has ended. */
  mayDiffer(block: number): boolean {
    return this.#begun.get(block) !== this.#newest.get(block) && (this.#begunBy.get(block) ?? 0) > this.#settled;
  }

  /** Blocks whose newest write was not answered. */
  inDoubt(): number[] {
    return [...this.#begun].flatMap(([block, begun]) => (begun === this.#newest.get(block) ? [] : [block]));
  }

  /** It has nothing to write for a while. @returns the way to let it go on */
  rest(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#rests = promise;
    return resolve;
  }

  /** Writes until stopped, or until its machine loses power: then its write under way is never answered. */
  start(): void {
    this.startedAtMs = this.#cluster.time.clock();
    this.#stop = false;
    this.#starts += 1;
    this.#ended = this.#run(this.#starts);
  }

  async #run(start: number): Promise<void> {
    const { md, firstBlock, blocks, everyMs, pauseMs, onAcknowledged } = this.#options;
    const { time } = this.#cluster;
    const random = seededRandom(start === 1 ? this.node : this.node + 100 * start);
    while (!this.#stop && this.#starts === start) {
      const block = firstBlock + Math.floor(random() * blocks);
      this.#sequence += 1;
      const sequence = this.#sequence;
      const startMs = time.clock();
      this.begunMs = startMs;
      this.#begun.set(block, sequence);
      this.#begunBy.set(block, start);
      try {
        await this.#cluster.driver(this.node).write(md, block * SECTORS_PER_BLOCK, filled(this.node, block, sequence));
        this.#newest.set(block, sequence);
        this.acknowledged += 1;
        onAcknowledged(block);
      } catch (error) {
        // The array was stopped in between: there is nothing to write to, and nothing was lost.
        if (error instanceof MdError && error.code === 'ENODEV') return this.abandon();
        this.failed += 1;
        this.trouble ??= error instanceof Error ? error.message : String(error);
      }
      this.begunMs = null;
      const lengthMs = time.clock() - startMs;
      if (lengthMs >= pauseMs) this.pauses.push({ startMs, lengthMs });
      await new Promise<void>((resolve) => {
        time.schedule(time.clock() + everyMs, resolve);
      });
      await this.#rests;
    }
  }

  /** Resolves when its last write was answered. Not for one whose machine lost power. */
  async stop(): Promise<void> {
    this.#stop = true;
    if (this.#ended !== null) await this.#cluster.driven(`end of the writer on node ${this.node}`, this.#ended);
  }

  /** Its machine has lost power: what it was told until now is all it can claim. */
  abandon(): void {
    this.#stop = true;
  }

  /** Blocks of which a write was acknowledged. */
  get written(): number[] {
    return [...this.#newest.keys()];
  }

  /** Sectors of this leg that lack an acknowledged write. `offsetBytes`: where the array's data begins on the disk. */
  lost(disk: string, offsetBytes: number): { sectors: number; example: string | null } {
    let sectors = 0;
    let example: string | null = null;
    for (const block of this.written) {
      const [first, ...more] = this.lostAt(block, disk, offsetBytes + block * BLOCK_BYTES);
      if (first === undefined) continue;
      sectors += 1 + more.length;
      example ??= first;
    }
    return { sectors, example };
  }

  /** Each sector of this block that lacks an acknowledged write on this disk, where the block begins at this byte; in words. */
  lostAt(block: number, disk: string, offsetBytes: number): string[] {
    const bytes = this.#cluster.storage.glance(disk, offsetBytes, BLOCK_BYTES);
    return this.olderThan(block, bytes, this.newestIn(block).acknowledged).map((text) => `${disk}: ${text}`);
  }

  /** Each sector of a block's bytes that holds something older than this write, in words. */
  olderThan(block: number, bytes: Uint8Array, acknowledged: number): string[] {
    if (acknowledged === 0) return [];
    const older: string[] = [];
    for (let sector = 0; sector < SECTORS_PER_BLOCK; sector++) {
      const found = sequenceIn(bytes, this.node, block, sector);
      // A write that was not answered may have landed in part: a newer sector is no loss.
      if (found !== null && found >= acknowledged) continue;
      older.push(
        `block ${block} sector ${sector} holds write ${found ?? 'of nobody'}, ${acknowledged} was acknowledged to node ${this.node}`,
      );
    }
    return older;
  }
}

/** By which write each sector of a node's block came; null: it is nobody's, or torn. */
export function sequencesIn(bytes: Uint8Array, node: NodeId, block: number): (number | null)[] {
  return Array.from({ length: SECTORS_PER_BLOCK }, (_, sector) => sequenceIn(bytes, node, block, sector));
}

function filled(node: NodeId, block: number, sequence: number): Uint8Array {
  const bytes = Buffer.alloc(BLOCK_BYTES, sequence & 0xff);
  for (let sector = 0; sector < SECTORS_PER_BLOCK; sector++) {
    const at = sector * SECTOR_BYTES;
    for (const [index, value] of [MARK, node, block, sector, sequence].entries()) {
      bytes.writeUInt32LE(value, at + 4 * index);
      // At both ends, so that half a sector is nobody's.
      bytes.writeUInt32LE(value, at + SECTOR_BYTES - 20 + 4 * index);
    }
  }
  return bytes;
}

function sequenceIn(block: Uint8Array, node: NodeId, number: number, sector: number): number | null {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const begin = sector * SECTOR_BYTES;
  for (const at of [begin, begin + SECTOR_BYTES - 20]) {
    const isOurs = view.getUint32(at, true) === MARK && view.getUint32(at + 4, true) === node;
    if (!isOurs || view.getUint32(at + 8, true) !== number || view.getUint32(at + 12, true) !== sector) return null;
  }
  const sequence = view.getUint32(begin + 16, true);
  return view.getUint32(begin + SECTOR_BYTES - 4, true) === sequence ? sequence : null;
}
