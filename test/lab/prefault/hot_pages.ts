/**
 * `node --import hot_pages.ts PROGRAM …` with LAB_HOT_PAGES=FILE: as the process ends it writes there which pages of its program and libraries it
 * had in use, a line for each stretch: from, to (not with it), in pages of the file, and the file's path. For prefault.cc.
 */
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';

const PAGE_BYTES = 4096;
const ENTRY_BYTES = 8;

function inUse(pagemap: number, firstPage: number, count: number): boolean[] {
  const entries = Buffer.alloc(count * ENTRY_BYTES);
  readSync(pagemap, entries, 0, entries.length, firstPage * ENTRY_BYTES);
  // Bit 63: present (Documentation/admin-guide/mm/pagemap.rst).
  return Array.from({ length: count }, (_, page) => ((entries[page * ENTRY_BYTES + 7] ?? 0) & 0x80) !== 0);
}

function hotPages(): string {
  const lines: string[] = [];
  const pagemap = openSync('/proc/self/pagemap', 'r');
  for (const mapping of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
    const found = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p ([0-9a-f]+) \S+ \d+ +(\/.+)$/.exec(mapping);
    if (found === null) continue;
    const [, low = '', high = '', offset = '', path = ''] = found;
    const [lowPage = 0, highPage = 0, first = 0] = [low, high, offset].map(
      (hex) => Number.parseInt(hex, 16) / PAGE_BYTES,
    );
    const used = inUse(pagemap, lowPage, highPage - lowPage);
    for (let from = used.indexOf(true); from >= 0; ) {
      const gap = used.indexOf(false, from);
      const to = gap < 0 ? used.length : gap;
      lines.push(`${first + from} ${first + to} ${path}`);
      from = used.indexOf(true, to);
    }
  }
  closeSync(pagemap);
  return lines.map((line) => `${line}\n`).join('');
}

const file = process.env.LAB_HOT_PAGES;
if (file === undefined) throw new Error('LAB_HOT_PAGES names no file');
process.on('exit', () => writeFileSync(file, hotPages()));
