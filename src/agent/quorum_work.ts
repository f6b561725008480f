/**
 * The work at the quorum disks: operations that the lease core orders, of which some may hang or fail, and the search for the witness.
 * What fails is told once, until it works again.
 */
import type { NodeId } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import type { LeaseEffect, ReadBlock } from '../lease/index.ts';
import type { AgentLog, Notice } from './parts.ts';
import type { QuorumDisks, WitnessClaim } from './quorum_disks.ts';

/** Until its name is known. */
const WITNESS_EVERY_MS = 1000;

type Read = Extract<LeaseEffect, { type: 'disk-read' }>;
type Write = Extract<LeaseEffect, { type: 'disk-write' }>;

export class QuorumWork {
  readonly #self: NodeId;
  readonly #disks: QuorumDisks;
  readonly #log: AgentLog;
  readonly #notice: Notice;
  readonly #troubled = new Set<string>();
  #underWay = 0;
  #told = '';
  readonly #leaving = new Set<string>();
  #lookedMs = Number.NEGATIVE_INFINITY;
  #witnessTrouble = '';

  constructor(self: NodeId, disks: QuorumDisks, log: AgentLog, notice: Notice) {
    this.#self = self;
    this.#disks = disks;
    this.#log = log;
    this.#notice = notice;
  }

  /** Operations whose end is not known: a block that is written late would be the successor's, with an older one's words. */
  get underWay(): number {
    return this.#underWay;
  }

  /** What the records, and the witness, would have the quorum set be, and what is to be out of it, when that has changed; else null. */
  newlyWanted(): { disks: string[]; leaving: string[] } | null {
    const [disks, leaving] = [this.#disks.wanted(), [...this.#leaving]];
    const told = JSON.stringify([disks, leaving]);
    if (told === this.#told) return null;
    this.#told = told;
    return { disks, leaving };
  }

  /** @param leaves false: it stays after all, or has left */
  letLeave(disk: string, leaves: boolean): void {
    if (leaves) this.#leaving.add(disk);
    else this.#leaving.delete(disk);
  }

  /**
   * Its name is on it; a new one gets it from the master, once there is an array. Nobody waits for a witness that hangs.
   * @param claims a UUID for a new one, where this node may name it
   */
  lookForWitness(now: () => number, claims: () => WitnessClaim | null): void {
    if (this.#disks.knowsWitness || this.#lookedMs + WITNESS_EVERY_MS > now()) return;
    this.#lookedMs = Number.POSITIVE_INFINITY;
    const claim = claims();
    (claim === null ? this.#disks.lookForWitness() : this.#disks.claimWitness(claim))
      .catch((error: unknown) => {
        const trouble = textOf(error);
        if (trouble !== this.#witnessTrouble) this.#log.warn({ err: error }, `quorum: ${trouble}`);
        this.#witnessTrouble = trouble;
      })
      .finally(() => {
        this.#lookedMs = now();
      });
  }

  /** @param done is given the blocks, or null when the disk did not do it */
  read({ disk }: Read, done: (blocks: ReadonlyMap<NodeId, ReadBlock> | null) => void): void {
    this.#operate(disk, () => this.#disks.read(disk), done);
  }

  /** @param mayGo not before @param done is told whether it is written */
  write({ disk, block }: Write, mayGo: Promise<void> | null, done: (written: boolean) => void): void {
    this.#operate(
      disk,
      async () => {
        await mayGo;
        await this.#disks.write(disk, block);
        return true;
      },
      (written) => done(written !== null),
    );
  }

  #operate<T>(disk: string, act: () => Promise<T>, done: (result: T | null) => void): void {
    const path = this.#disks.pathOf(disk);
    const ended = (result: T | null, trouble: string | null): void => {
      this.#underWay -= 1;
      this.#tell(disk, path, trouble);
      done(result);
    };
    this.#underWay += 1;
    // Never within the step that asked for it.
    Promise.resolve()
      .then(act)
      .then(
        (result) => ended(result, null),
        (error: unknown) => ended(null, textOf(error).slice(0, 200)),
      );
  }

  #tell(disk: string, path: string, trouble: string | null): void {
    const node = this.#self;
    const had = this.#troubled.has(disk);
    if (trouble !== null && !had)
      this.#notice('QuorumDiskLost', 'warning', `node/${node}`, { node, disk, path, why: trouble });
    if (trouble === null && had) this.#notice('QuorumDiskBack', 'notice', `node/${node}`, { node, disk, path });
    if (trouble === null) this.#troubled.delete(disk);
    else this.#troubled.add(disk);
  }
}
