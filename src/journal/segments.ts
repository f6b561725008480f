/** The files of a journal: `journal.jsonl` is written; those before it are named by the cursor that they begin with. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Cursor } from './index.ts';

export const JOURNAL_FILE = 'journal.jsonl';

const SEGMENT = /^journal-(\d{12})\.jsonl$/;

export function segmentName(first: Cursor): string {
  return `journal-${String(first).padStart(12, '0')}.jsonl`;
}

/** Full paths, oldest first, `journal.jsonl` last. @throws when the directory cannot be read */
export async function segmentsIn(dir: string): Promise<string[]> {
  const names = await readdir(dir);
  const rotated = names.filter((name) => SEGMENT.test(name)).sort();
  return [...rotated, ...names.filter((name) => name === JOURNAL_FILE)].map((name) => join(dir, name));
}
