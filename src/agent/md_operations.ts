/** What the core of the arrays orders of md: for each order one operation of the driver, with what that needs of the disks. */
import type { LocalOp } from '../arrays/local_state.ts';
import { type ArrayRecord, compareVersions } from '../arrays/record.ts';
import { copySectors } from '../arrays/windows.ts';
import { textOf } from '../error_text.ts';
import { type MdDriver, MdError, type SectorRange } from '../md/driver.ts';
import { readMarks } from '../md/marks.ts';
import type { DiskView } from './disk_view.ts';
import type { Notice } from './parts.ts';

export class MdOperations {
  readonly #driver: MdDriver;
  readonly #disks: DiskView;
  readonly #notice: Notice;

  constructor(driver: MdDriver, disks: DiskView, notice: Notice) {
    this.#driver = driver;
    this.#disks = disks;
    this.#notice = notice;
  }

  /** Resolves with what `mark` has marked, else with nothing. @throws MdError as the driver does */
  async perform(md: string, op: LocalOp): Promise<readonly SectorRange[]> {
    if (op.op === 'mark') {
      const marks = await this.#marksFor(op);
      await this.#driver.mark(md, marks);
      return marks;
    }
    await this.#act(md, op);
    return [];
  }

  async #act(md: string, op: Exclude<LocalOp, { op: 'mark' }>): Promise<void> {
    const driver = this.#driver;
    const withPath = (member: string, use: (path: string) => Promise<void>): Promise<void> => {
      const path = this.#disks.paths.get(member);
      if (path === undefined) throw new MdError('ENOENT', `no disk here with member ${member}`);
      return use(path);
    };
    switch (op.op) {
      case 'assemble':
        await this.#demandNewest(op.record);
        return driver.assemble(op.record, this.#disks.paths);
      case 'stop':
        return driver.stop(md);
      case 'hold':
        return driver.hold(md);
      case 'hold-reads':
        return driver.holdReads(md);
      case 'let-read':
        return driver.letRead(md);
      case 'open':
        return driver.open(md);
      case 'hold-range':
        return driver.holdRange(md, op.range);
      case 'set-faulty':
        return driver.setFaulty(md, op.member);
      case 'release-path':
        return driver.releasePath(md, op.member);
      case 'restore-path':
        return driver.restorePath(md, op.member);
      case 'remove':
        return driver.remove(md, op.member);
      case 'add-spare':
        return withPath(op.member, (path) => driver.addSpare(md, op.member, path, op.record));
      case 'attach-rebuilding':
        return withPath(op.member, (path) => driver.attachRebuilding(md, op.member, path, op.record, op.fromSector));
      case 'detach-rebuilding':
        return driver.detachRebuilding(md, op.member);
      case 'activate':
        return withPath(op.member, (path) => driver.activate(md, op.member, path, op.record));
      case 'resync-start':
        return driver.setResyncStart(md, op.sector);
      case 'start-copy':
        return driver.startCopy(md, op.copy);
      case 'set-bitmap':
        return driver.setBitmap(md, op.none ? null : op.record);
      case 'set-slots':
        return driver.setSlots(md, op.record);
      case 'set-size':
        return driver.setSize(md, op.record);
      case 'freeze':
        return driver.freeze(md);
    }
  }

  /**
   * md drops what this node's bitmap says when it is assembled by a record that does not ask for it. A record that came by
   * gossip may be of a time before this node wrote and crashed; the newest on the disks knows of that.
   */
  async #demandNewest(record: ArrayRecord): Promise<void> {
    if (record.bitmap === null) return;
    await this.#disks.refresh();
    const found = this.#disks.arrays().find((candidate) => candidate.record.uuid === record.uuid)?.record;
    if (found === undefined || compareVersions(found.version, record.version) <= 0) return;
    const { term, index } = found.version;
    throw new MdError(
      'EAGAIN',
      `the disks hold commit ${term}.${index}, newer than what this node was told; it waits for it`,
    );
  }

  /** What the resync has to copy. Where bitmaps cannot be read that is everything. */
  async #marksFor(op: Extract<LocalOp, { op: 'mark' }>): Promise<readonly SectorRange[]> {
    const { record, nodes, fromSector } = op;
    const everything = [{ loSector: fromSector, hiSector: copySectors(record, 'resync') }];
    if (nodes === null) return everything;
    try {
      const marks = await readMarks(this.#driver, record, nodes, this.#disks.paths);
      const sectors = marks.reduce((sum, { loSector, hiSector }) => sum + hiSector - loSector, 0);
      this.#notice('BitmapsRead', 'info', record.md, { nodes: nodes.join(' '), sectors });
      return marks;
    } catch (error) {
      this.#notice('BitmapsUnreadable', 'warning', record.md, {
        nodes: nodes.join(' '),
        why: textOf(error).slice(0, 200),
      });
      return everything;
    }
  }
}
