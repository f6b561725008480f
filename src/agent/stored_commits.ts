/**
 * Commits as far as this node's journal has them: the newest of each array from before this start, and those that have to be on disk
 * before others may go on. It reads the journal; out goes what is stored.
 */
import { type ArrayRecord, compareVersions, type Version } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import type { JournalEntry } from '../journal/index.ts';
import type { AgentParts } from './parts.ts';

/** Between two tries of a journal whose disk takes nothing. */
const AGAIN_MS = 200;
/** A commit is appended as soon as it is sealed, or its journal has no room for it. */
const APPENDED_WITHIN_MS = 2000;

export interface StoredCommitsOptions {
  /** By now: a commit of this array is to be stored, and nobody has been told yet that one is. */
  isWanted(array: string): boolean;
  stored(array: string, version: Version): void;
}

export class StoredCommits {
  readonly #parts: Pick<AgentParts, 'journal' | 'log' | 'timers'>;
  readonly #options: StoredCommitsOptions;
  /** The newest of each array that was appended to the journal. */
  readonly #appended = new Map<string, Version>();
  /** Who waits for a commit to be appended. */
  readonly #awaited = new Set<{ isAppended(): boolean; resolve(): void }>();
  /** Of arrays whose newest commit is to be on disk soon, and is not appended yet. */
  readonly #due = new Map<string, { md: string; version: Version }>();
  readonly #remembered = new Map<string, Version>();
  /** Arrays that were given back, and by which commit. */
  readonly #ended = new Map<string, Version>();

  constructor(parts: Pick<AgentParts, 'journal' | 'log' | 'timers'>, options: StoredCommitsOptions) {
    this.#parts = parts;
    this.#options = options;
  }

  /** Newest version of each array that is known by its history alone: a floor under what a master may take from the disks. */
  get remembered(): ReadonlyMap<string, Version> {
    return this.#remembered;
  }

  /** By the journal, the newest of each array. */
  records(): ArrayRecord[] {
    return this.#parts.journal
      .landmarks()
      .flatMap(({ event: { body } }) => (body.type === 'commit' ? body.record : []));
  }

  /** @returns what ends it */
  start(): () => void {
    for (const { uuid, version } of this.records()) {
      this.#remembered.set(uuid, version);
      this.#appended.set(uuid, version);
    }
    return this.#parts.journal.onAppend((entry) => this.#onAppend(entry));
  }

  /** A commit of an array that this node does not have, in what others remember. What became of the array the master says. */
  heard({ uuid, version }: ArrayRecord): void {
    const known = this.#remembered.get(uuid);
    if (known === undefined || compareVersions(known, version) < 0) this.#remembered.set(uuid, version);
  }

  /** The cluster has this array no more: what was committed before means nothing now, whenever it comes. */
  end({ uuid, version }: ArrayRecord): void {
    this.#remembered.delete(uuid);
    this.#ended.set(uuid, version);
  }

  hasEnded(array: string): boolean {
    return this.#ended.has(array);
  }

  isOver({ uuid, version }: ArrayRecord): boolean {
    const ended = this.#ended.get(uuid);
    return ended !== undefined && compareVersions(version, ended) <= 0;
  }

  /** Begun at the commit's arrival, beside what it does: a sync takes about as long as a drain. */
  async store(array: string, md: string, version: Version): Promise<void> {
    if (!this.#isAppended(array, version)) {
      this.#due.set(array, { md, version });
      return;
    }
    this.#due.delete(array);
    const { journal, log, timers } = this.#parts;
    const { isWanted, stored } = this.#options;
    try {
      await journal.durable();
      if (isWanted(array)) stored(array, version);
    } catch (error) {
      log.warn({ array: md }, `${md}: others wait for this node's journal to store a failure: ${textOf(error)}`);
      timers.after(AGAIN_MS, () => {
        if (isWanted(array)) void this.store(array, md, version);
      });
    }
  }

  /** Resolves once this commit, or a newer one of its array, is on this node's disk. @throws Error when its journal does not take it */
  async durable({ uuid, version }: ArrayRecord): Promise<void> {
    const isAppended = (): boolean => this.#isAppended(uuid, version);
    if (!isAppended()) {
      await new Promise<void>((resolve, reject) => {
        const awaited = { isAppended, resolve };
        this.#awaited.add(awaited);
        this.#parts.timers.after(APPENDED_WITHIN_MS, () => {
          if (this.#awaited.delete(awaited)) reject(new Error("it is not in this node's journal; make room for that"));
        });
      });
    }
    await this.#parts.journal.durable();
  }

  /** This commit, or a newer one of its array. */
  #isAppended(array: string, version: Version): boolean {
    const appended = this.#appended.get(array);
    return appended !== undefined && compareVersions(appended, version) >= 0;
  }

  #onAppend({ event: { body } }: JournalEntry): void {
    if (body.type !== 'commit') return;
    const { uuid, version } = body.record;
    if (!this.#isAppended(uuid, version)) this.#appended.set(uuid, version);
    for (const awaited of this.#awaited) {
      if (!awaited.isAppended()) continue;
      this.#awaited.delete(awaited);
      awaited.resolve();
    }
    const due = this.#due.get(uuid);
    if (due !== undefined && compareVersions(version, due.version) >= 0) void this.store(uuid, due.md, due.version);
  }
}
