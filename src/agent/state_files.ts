/**
 * The few bytes that a node must not forget: its vote and the node lists it goes by, in one file, how often its agent has started, and
 * what it said of its arrays when it last ended in order.
 */
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { EndedArray } from '../arrays/ended.ts';
import type { StoredVote } from '../lease/index.ts';
import type { StoredLists } from '../roster/index.ts';
import { NodeList } from '../roster/list.ts';

const VoteFile = z.object({
  term: z.int().min(0),
  candidate: z.int().nullable(),
  promise: z.object({ holder: z.int().nullable(), untilMs: z.number(), kernelBoot: z.string() }).nullable(),
  set: z
    .object({
      version: z.object({ term: z.int(), index: z.int() }),
      disks: z.array(z.string()),
      former: z.array(z.string()).nullable(),
    })
    .optional(),
});

/** Beside the vote, because who forgets one must not remember the other: a vote is given by a list. */
const ListsFile = z.object({
  lists: z.object({ agreed: NodeList, pending: NodeList.nullable(), previous: NodeList.nullable() }).optional(),
});

const BootFile = z.object({ bootNumber: z.int().min(0) });

const EndedFile = z.object({ bootNumber: z.int().min(0), arrays: z.array(EndedArray) });
/** `bootNumber`: which life of the agent says it. */
export type StoredEnd = z.infer<typeof EndedFile>;

export interface StateFiles {
  /** null: lost, or not readable as what was written: the node then cannot know what it promised. */
  loadVote(): Promise<StoredVote | null>;
  /** Resolves when it would survive a power cut. */
  storeVote(vote: StoredVote): Promise<void>;
  /** null: none was stored yet, or it is lost. */
  loadLists(): Promise<StoredLists | null>;
  /** As `storeVote`. */
  storeLists(lists: StoredLists): Promise<void>;
  /** No list was ever stored: the file's counts at the next start. The vote stays. */
  forgetLists(): Promise<void>;
  /** null: it never ended in order, or that is lost. */
  loadEnd(): Promise<StoredEnd | null>;
  /** As `storeVote`. */
  storeEnd(end: StoredEnd): Promise<void>;
  /** One more than at any start before. */
  nextBootNumber(atLeast: number): Promise<number>;
}

/** Written beside the old file, synced, renamed over it, and the folder synced: a crash leaves the old or the new one. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.datasync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function readAs<T>(path: string, schema: z.ZodType<T>): Promise<T | null> {
  try {
    const parsed = schema.safeParse(JSON.parse(await readFile(path, 'utf8')));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

export async function openStateFiles(directory: string): Promise<StateFiles> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const votePath = join(directory, 'vote.json');
  const bootPath = join(directory, 'boot.json');
  const endPath = join(directory, 'ended.json');
  let vote: StoredVote | null = await readAs(votePath, VoteFile);
  let lists = (await readAs(votePath, ListsFile))?.lists ?? null;
  let writing: Promise<unknown> = Promise.resolve();
  // One after the other: each writes the newest of both.
  const write = (): Promise<void> => {
    const written = writing.then(() =>
      writeDurably(votePath, `${JSON.stringify({ ...vote, ...(lists === null ? {} : { lists }) })}\n`),
    );
    writing = written.catch(() => undefined);
    return written;
  };
  return {
    loadVote: async () => vote,
    storeVote: (next) => {
      vote = next;
      return write();
    },
    loadLists: async () => lists,
    storeLists: (next) => {
      lists = next;
      return write();
    },
    forgetLists: () => {
      lists = null;
      return write();
    },
    loadEnd: () => readAs(endPath, EndedFile),
    storeEnd: (end) => writeDurably(endPath, `${JSON.stringify(end)}\n`),
    async nextBootNumber(atLeast) {
      const before = (await readAs(bootPath, BootFile))?.bootNumber ?? 0;
      const bootNumber = Math.max(before + 1, atLeast);
      await writeDurably(bootPath, `${JSON.stringify({ bootNumber })}\n`);
      return bootNumber;
    },
  };
}
