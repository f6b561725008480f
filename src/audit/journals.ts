/** Finds the files of journals from what an auditor names. */
import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { NodeId } from '../arrays/record.ts';
import { segmentsIn } from '../journal/index.ts';

export interface NamedJournal {
  /** For people: its directory, or the file. */
  name: string;
  /** As it was named; null: its checkpoints may tell. */
  node: NodeId | null;
  /** In any order. */
  files: string[];
}

/**
 * Each word is a directory with a journal in it, or a file of one; files of one directory are one journal. `3=/path` says
 * whose it is. @throws Error with words
 */
export async function findJournals(words: readonly string[]): Promise<NamedJournal[]> {
  const journals = new Map<string, NamedJournal>();
  for (const word of words) {
    const [, id, named] = /^([1-9][0-9]?)=(.+)$/.exec(word) ?? [];
    const path = resolve(named ?? word);
    const node = id === undefined ? null : Number(id);
    const found = await stat(path).catch(() => null);
    if (found === null)
      throw new Error(`${path}: there is no such file or directory; name a journal, or its directory`);
    const isFolder = found.isDirectory();
    const files = isFolder ? await segmentsIn(path) : [path];
    if (files.length === 0)
      throw new Error(`${path}: there is no journal.jsonl in it; name the agent's state directory`);
    const name = isFolder ? path : dirname(path);
    const key = `${node} ${name}`;
    const known = journals.get(key);
    if (known === undefined) journals.set(key, { name, node, files });
    else known.files.push(...files.filter((file) => !known.files.includes(file)));
  }
  return [...journals.values()];
}
