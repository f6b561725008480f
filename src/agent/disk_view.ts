/** What this node sees on its disks: kept from the last scan, so that a commit needs no reading. */
import type { FoundRecord } from '../arrays/master_state.ts';
import type { Disk, MdDriver, Superblock } from '../md/driver.ts';
import { type FoundArray, recordFromDisks } from '../md/metadata.ts';

export class DiskView {
  readonly #driver: MdDriver;
  readonly #cluster: string;
  #disks: Disk[] = [];
  #arrays: readonly FoundArray[] = [];
  #paths: ReadonlyMap<string, string> = new Map();
  #superblocks: ReadonlyMap<string, Superblock> = new Map();
  #running: Promise<void> | null = null;
  #again = false;

  constructor(driver: MdDriver, cluster: string) {
    this.#driver = driver;
    this.#cluster = cluster;
  }

  get disks(): readonly Disk[] {
    return this.#disks;
  }

  /** Member uuid → path. */
  get paths(): ReadonlyMap<string, string> {
    return this.#paths;
  }

  /** Member uuid → superblock as last read. */
  get superblocks(): ReadonlyMap<string, Superblock> {
    return this.#superblocks;
  }

  /** As the last scan showed them. */
  arrays(): readonly FoundArray[] {
    return this.#arrays;
  }

  /** As a new master takes them over. */
  found(): (FoundRecord & Pick<FoundArray, 'stands'>)[] {
    return this.arrays().map(({ record, members, behind, stands, stale, problems }) => {
      const missing = record.members.filter((member) => member.role === 'active' && !members.has(member.uuid));
      // A member that is not seen is judged by `unseen`; anything else that does not fit together stops here.
      const others = problems.filter((problem) => !missing.some((member) => problem.includes(member.uuid)));
      const problem = others.length === 0 ? null : others.join('; ');
      return { record, unseen: missing.map(({ uuid }) => uuid), behind, stands, stale, problem };
    });
  }

  /** One scan at a time; a call during a scan gets a later one, because the one under way may have read too early. */
  async refresh(): Promise<void> {
    if (this.#running !== null) {
      this.#again = true;
      await this.#running;
      if (!this.#again) return this.#running ?? undefined;
      this.#again = false;
    }
    this.#running = this.#scan().finally(() => {
      this.#running = null;
    });
    await this.#running;
  }

  async #scan(): Promise<void> {
    const disks = await this.#driver.scan();
    const paths = new Map<string, string>();
    const superblocks = new Map<string, Superblock>();
    for (const disk of disks) {
      if (disk.superblock === null) continue;
      // A dm device over a disk shows the same superblock twice; the one nobody holds is the one to use.
      if (paths.has(disk.superblock.deviceUuid) && disk.holders.some((holder) => !holder.startsWith('md'))) continue;
      paths.set(disk.superblock.deviceUuid, disk.path);
      superblocks.set(disk.superblock.deviceUuid, disk.superblock);
    }
    this.#disks = disks;
    this.#arrays = recordFromDisks(disks, this.#cluster);
    this.#paths = paths;
    this.#superblocks = superblocks;
  }
}
