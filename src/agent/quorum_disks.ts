/**
 * The quorum disks as this node reaches them: names in, blocks out. A disk is one of ours as long as a record lists it, or it is the
 * witness: what was removed may be somebody else's by now, and is neither read nor written.
 */
import { nodeSlotsOf } from '../arrays/levels.ts';
import type { ArrayRecord, NodeId } from '../arrays/record.ts';
import { type DiskBlock, QUORUM_DISKS_MAX, type QuorumSet, type ReadBlock } from '../lease/index.ts';
import type { MdDriver } from '../md/driver.ts';
import { meshGeometry, NODE_BLOCK_BYTES } from '../md/mesh_area.ts';
import { decodeNodeBlock, decodeWitness, encodeNodeBlock, encodeWitness } from '../md/node_block.ts';
import type { EventBody } from '../wire/messages.ts';
import type { DiskView } from './disk_view.ts';

const SECTOR_BYTES = 512;
/** Header, and a block for each node that there can be. */
const WITNESS_BYTES = 65 * NODE_BLOCK_BYTES;

export interface QuorumDisksOptions {
  driver: MdDriver;
  disks: DiskView;
  cluster: string;
  /** Whose blocks are read. */
  nodes: () => readonly NodeId[];
  /** This node's path of it. */
  witness: string | null;
  /** Newest records known. */
  records: () => readonly ArrayRecord[];
  /** The cluster has this array no more, as far as is known here. */
  hasEnded: (array: string) => boolean;
}

export interface WitnessClaim {
  uuid: string;
  /** Asked once the witness was read: whoever lost the lease meanwhile, and has it again, would name it over its successor. */
  holds(): boolean;
}

export class QuorumDisks {
  readonly #options: QuorumDisksOptions;
  #witness: string | null = null;

  constructor(options: QuorumDisksOptions) {
    this.#options = options;
  }

  /** Of an array that nobody has told of yet what stands on the disks counts: a master that needs them to lead is to tell of it. */
  #records(): readonly ArrayRecord[] {
    const { records, disks, hasEnded } = this.#options;
    const told = records();
    const isTold = (array: string): boolean => told.some(({ uuid }) => uuid === array);
    const found = disks.arrays().map(({ record }) => record);
    return [...told, ...found.filter(({ uuid, givenBack }) => !isTold(uuid) && givenBack !== true && !hasEnded(uuid))];
  }

  /** What the quorum set ought to be: active members of all arrays, the same on every node, and the witness. */
  wanted(): string[] {
    const { witness } = this.#options;
    const members = this.#records().flatMap((record) => record.members.filter(({ role }) => role === 'active'));
    const room = QUORUM_DISKS_MAX - (witness === null ? 0 : 1);
    const uuids = [...new Set(members.map(({ uuid }) => uuid))].sort().slice(0, room);
    // A witness alone decides nothing that the arrays could rest on.
    if (uuids.length === 0 || (witness !== null && this.#witness === null)) return [];
    return this.#witness === null ? uuids : [...uuids, this.#witness];
  }

  /** There is none to know, or its name has been read. */
  get knowsWitness(): boolean {
    return this.#options.witness === null || this.#witness !== null;
  }

  /** Finds out what the witness is called, once. @throws MdError */
  async lookForWitness(): Promise<void> {
    const { driver, cluster, witness } = this.#options;
    if (witness === null || this.#witness !== null) return;
    this.#witness = decodeWitness(cluster, await driver.readMetadata(witness, 0, NODE_BLOCK_BYTES));
  }

  /**
   * The master gives a blank witness its name; only a lease lets it.
   * @throws Error when something else stands there
   */
  async claimWitness({ uuid, holds }: WitnessClaim): Promise<void> {
    const { driver, cluster, witness } = this.#options;
    await this.lookForWitness();
    if (witness === null || this.#witness !== null) return;
    const found = await driver.readMetadata(witness, 0, WITNESS_BYTES);
    if (found.some((byte) => byte !== 0)) {
      throw new Error(
        `quorum_witness ${witness}: its first ${WITNESS_BYTES / 1024} KiB are not blank, and no witness of this cluster; name another device, or clear it`,
      );
    }
    if (!holds()) return;
    const [result] = await driver.writeMetadata([
      { path: witness, offsetBytes: 0, bytes: encodeWitness(cluster, uuid) },
    ]);
    if (result?.error != null) throw new Error(`quorum_witness ${witness}: ${result.error.text}`);
    await this.lookForWitness();
  }

  /** Where node 1's block is. @throws Error when this node does not reach that disk */
  #place(disk: string): { path: string; blocksBytes: number } {
    const { witness, disks } = this.#options;
    if (witness !== null && disk === this.#witness) return { path: witness, blocksBytes: NODE_BLOCK_BYTES };
    const listed = this.#records().some((record) => record.members.some(({ uuid }) => uuid === disk));
    const path = disks.paths.get(disk);
    const seen = disks.disks.find((each) => each.path === path);
    if (!listed || path === undefined || seen == null || seen.superblock === null) {
      throw new Error(`quorum disk ${disk}: ${listed ? 'not seen on this node' : 'no member of an array any more'}`);
    }
    const geometry = meshGeometry(seen.superblock, seen.mesh?.nodeSlots ?? nodeSlotsOf({}));
    if ('error' in geometry) throw new Error(`quorum disk ${path}: ${geometry.error}`);
    return { path, blocksBytes: geometry.nodeBlocksSector * SECTOR_BYTES };
  }

  /** @throws Error */
  async read(disk: string): Promise<ReadonlyMap<NodeId, ReadBlock>> {
    const { driver, cluster } = this.#options;
    const nodes = this.#options.nodes();
    const { path, blocksBytes } = this.#place(disk);
    const bytes = await driver.readMetadata(path, blocksBytes, Math.max(...nodes) * NODE_BLOCK_BYTES);
    const blocks = new Map<NodeId, ReadBlock>();
    for (const node of nodes) {
      const block = decodeNodeBlock(
        cluster,
        node,
        bytes.subarray((node - 1) * NODE_BLOCK_BYTES, node * NODE_BLOCK_BYTES),
      );
      if (block !== null) blocks.set(node, block);
    }
    return blocks;
  }

  /** This node's own. @throws MdError */
  async write(disk: string, block: DiskBlock): Promise<void> {
    const { driver, cluster } = this.#options;
    const { path, blocksBytes } = this.#place(disk);
    await driver.writeNodeBlock(
      path,
      blocksBytes + (block.node - 1) * NODE_BLOCK_BYTES,
      encodeNodeBlock(cluster, block),
    );
  }

  /** For people: this node's path, or the name. */
  pathOf(disk: string): string {
    const { witness, disks } = this.#options;
    return (disk === this.#witness ? witness : disks.paths.get(disk)) ?? disk;
  }
}

/** As events tell it. */
export function wireSet({ version, disks, former }: QuorumSet): Extract<EventBody, { type: 'disk-lease' }>['set'] {
  return { version, disks: [...disks], former: former === null ? null : [...former] };
}
