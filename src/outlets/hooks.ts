/**
 * Programs and mails that events set off. Each hook has a place in the journal of its own, which is stored once a run has ended:
 * after a restart, or a crash, it goes on there, so that every event is told at least once. How it is told: alert.ts.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { NodeId } from '../arrays/record.ts';
import type { CommandOutcome } from '../fencing/command.ts';
import type { Cursor, Journal } from '../journal/index.ts';
import type { Alert } from './alert.ts';
import type { ApiLog } from './api.ts';
import type { Names } from './catalogue.ts';
import { cloudEvents } from './cloud_event.ts';
import { type EventFilter, passes } from './event_filter.ts';
import type { CloudEvent } from './told.ts';

export interface Hook {
  /** Names its place in the state directory. */
  name: string;
  filter: EventFilter;
  /** `origin`: on the node alone that the event comes from. */
  where: 'every-node' | 'origin';
  /** How many events of it may be under way at once. */
  concurrency: number;
  /** What happened longer ago (a node that was away hears of it when it is back) is left out. */
  maxAgeMs: number;
  alert: Alert;
}

export interface HooksOptions {
  hooks: readonly Hook[];
  journal: Journal;
  names: Names;
  self: NodeId;
  /** Below which their places are stored. */
  stateDir: string;
  /** Where hooks without a place begin: of an agent that starts they hear from its first word on. @default the journal's end */
  begin?: Cursor;
  now: () => Date;
  log: ApiLog;
}

/** sendmail's and sysexits.h's word for: not now, try again. */
const EX_TEMPFAIL = 75;
const AGAIN_FIRST_MS = 1000;
const AGAIN_MOST_MS = 300_000;
const PAGE_ENTRIES = 64;

/** Begins where each hook was left, a new one at `begin`. */
export async function startHooks(options: HooksOptions): Promise<{ close(): Promise<void> }> {
  const dir = join(options.stateDir, 'hooks');
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const queues = await Promise.all(options.hooks.map((hook) => HookQueue.open(hook, join(dir, hook.name), options)));
  return {
    async close() {
      await Promise.all(queues.map((queue) => queue.close()));
    },
  };
}

/** One journal entry that a hook wants; its tellings are told one after the other. */
interface Job {
  cursor: Cursor;
  events: CloudEvent[];
}

class HookQueue {
  readonly #hook: Hook;
  readonly #path: string;
  readonly #options: HooksOptions;
  /** Read up to here. */
  #read: Cursor;
  /** null: nothing yet, or of another journal. */
  #stored: Cursor | null;
  #storing: Promise<void> = Promise.resolve();
  readonly #ahead: Job[] = [];
  readonly #running = new Map<Cursor, Promise<void>>();
  readonly #abort = new AbortController();
  readonly #stopListening: () => void;
  #isPumping = false;
  #left = 0;

  static async open(hook: Hook, path: string, options: HooksOptions): Promise<HookQueue> {
    const head = options.journal.head();
    const stored = await storedCursor(path);
    if (stored !== null && stored > head) {
      options.log.warn(
        { hook: hook.name, cursor: stored },
        `hook ${hook.name}: the journal is another one; goes on at its end`,
      );
    }
    const known = stored === null || stored > head ? null : stored;
    const queue = new HookQueue(hook, path, options, known);
    await queue.#store(queue.#done());
    queue.#pumpSoon();
    return queue;
  }

  private constructor(hook: Hook, path: string, options: HooksOptions, stored: Cursor | null) {
    this.#hook = hook;
    this.#path = path;
    this.#options = options;
    this.#read = stored ?? options.begin ?? options.journal.head();
    this.#stored = stored;
    this.#stopListening = options.journal.onAppend(() => this.#pumpSoon());
  }

  /** What is under way is ended, and told again after the next start. */
  async close(): Promise<void> {
    this.#stopListening();
    this.#abort.abort();
    await Promise.all(this.#running.values());
    await this.#store(this.#done());
  }

  /** Never in the turn in which an entry is appended. */
  #pumpSoon(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    setImmediate(() => {
      this.#isPumping = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (!this.#abort.signal.aborted && this.#running.size < this.#hook.concurrency) {
      const job = this.#ahead.shift();
      if (job !== undefined) this.#start(job);
      else {
        // A long way behind: everything else has its turn.
        if (this.#readPage()) this.#pumpSoon();
        return;
      }
    }
  }

  /** False: there is no more. */
  #readPage(): boolean {
    const { journal, log, names } = this.#options;
    const { name } = this.#hook;
    const { entries, tooOld } = journal.read(this.#read, PAGE_ENTRIES);
    if (tooOld) {
      const text = `hook ${name}: what follows cursor ${this.#read} is not in the journal any more; goes on with what is`;
      log.warn({ hook: name, cursor: this.#read }, text);
    }
    const last = entries.at(-1);
    if (last === undefined) {
      if (tooOld) this.#read = journal.head();
      return false;
    }
    const oldestMs = this.#options.now().getTime() - this.#hook.maxAgeMs;
    for (const entry of entries) {
      const { cursor, event } = entry;
      const told = cloudEvents(event, names, entry).filter((each) => this.#wants(each));
      if (told.length === 0) continue;
      if (Date.parse(event.time) < oldestMs) this.#left += 1;
      else this.#ahead.push({ cursor, events: told });
    }
    this.#read = last.cursor;
    if (this.#left > 0) {
      log.info({ hook: name, count: this.#left }, `hook ${name}: ${this.#left} events are too old to be told`);
      this.#left = 0;
    }
    return true;
  }

  #wants(event: CloudEvent): boolean {
    const { filter, where } = this.#hook;
    return (where === 'every-node' || event.data.origin === this.#options.self) && passes(filter, event);
  }

  #start(job: Job): void {
    const run = this.#tell(job).then(async (isDone) => {
      if (!isDone) return;
      this.#running.delete(job.cursor);
      await this.#store(this.#done());
      this.#pumpSoon();
    });
    this.#running.set(job.cursor, run);
  }

  /** All up to here have been told. */
  #done(): Cursor {
    const open = [...this.#running.keys(), ...this.#ahead.map(({ cursor }) => cursor)];
    return open.length === 0 ? this.#read : Math.min(...open) - 1;
  }

  /** False: called off. */
  async #tell({ events }: Job): Promise<boolean> {
    const { signal } = this.#abort;
    for (const event of events) {
      for (let againMs = AGAIN_FIRST_MS; ; againMs = Math.min(2 * againMs, AGAIN_MOST_MS)) {
        const startedMs = performance.now();
        const outcome = await this.#hook.alert(event, signal);
        if (signal.aborted) return false;
        this.#logOutcome(event, outcome, performance.now() - startedMs);
        if (outcome.exitCode !== EX_TEMPFAIL) break;
        await pause(againMs, signal);
        if (signal.aborted) return false;
      }
    }
    return true;
  }

  #logOutcome(event: CloudEvent, { exitCode, trouble, output }: CommandOutcome, tookMs: number): void {
    const { name } = this.#hook;
    const fields = { hook: name, event: event.data.name, subject: event.subject, id: event.id, exitCode, output };
    const how = trouble ?? `exit ${exitCode}${exitCode === EX_TEMPFAIL ? ', tried again' : ''}`;
    const level = exitCode === 0 ? 'info' : 'warn';
    this.#options.log[level](
      fields,
      `hook ${name}: ${event.data.name} ${event.subject}: ${how} after ${Math.round(tookMs)} ms`,
    );
  }

  /** One write after the other, each of the newest place. Without fsync: what a power loss takes away is told again. */
  #store(cursor: Cursor): Promise<void> {
    this.#storing = this.#storing.then(async () => {
      if (this.#stored !== null && cursor <= this.#stored) return;
      try {
        await writeFile(`${this.#path}.new`, `${cursor}\n`, { mode: 0o600 });
        await rename(`${this.#path}.new`, this.#path);
        this.#stored = cursor;
      } catch (error) {
        const text = `hook ${this.#hook.name}: its place could not be stored in ${this.#path}: ${String(error)}; after a restart events are told again`;
        this.#options.log.error({ hook: this.#hook.name }, text);
      }
    });
    return this.#storing;
  }
}

/** null: never stored, or not readable as a cursor. */
async function storedCursor(path: string): Promise<Cursor | null> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return /^[0-9]{1,15}\n$/.test(text) ? Number(text) : null;
}

function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, delayMs);
    signal.addEventListener('abort', end);
  });
}
