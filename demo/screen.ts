/**
 * What a person sees: on a terminal a table that is redrawn in place, with the story and the events beneath; anywhere else
 * plain lines. The frame is made by a function of what is known and the size of the terminal, so that a test can look at it.
 */

import type { NodeId } from '../src/arrays/record.ts';
import { slotPicture } from '../src/cli/array_condition.ts';
import { printable } from '../src/outlets/cloud_event.ts';
import type { ArrayStatus, Status } from '../src/outlets/index.ts';
import type { Writer } from './stage.ts';

export interface Scene {
  title: string;
  elapsedMs: number;
  nodes: readonly NodeId[];
  seen: ReadonlyMap<NodeId, Status | null>;
  writers: readonly Writer[];
  /** What is happening, in one sentence. */
  step: string;
  /** Newest last: events, and the steps before. */
  lines: readonly string[];
}

type Paint = (code: number, text: string) => string;
const plain: Paint = (_, text) => text;
const coloured: Paint = (code, text) => `\u001b[${code}m${text}\u001b[0m`;
const RED = 31;
const GREEN = 32;
const YELLOW = 33;
const BOLD = 1;

/** A cell's text and, if it should stand out, its colour: widths are counted without the escapes. */
type Cell = string | { text: string; code: number };

function columns(rows: readonly (readonly Cell[])[], paint: Paint): string[] {
  const textOf = (cell: Cell) => (typeof cell === 'string' ? cell : cell.text);
  const widths: number[] = [];
  for (const row of rows) {
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, textOf(cell).length);
  }
  return rows.map((row) =>
    row
      .map((cell, index) => {
        const padded = textOf(cell).padEnd(index === row.length - 1 ? 0 : (widths[index] ?? 0));
        return typeof cell === 'string' ? padded : paint(cell.code, padded);
      })
      .join('  '),
  );
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** How the other nodes call this one: the master's word counts, then anybody's. */
function statusWord(node: NodeId, seen: ReadonlyMap<NodeId, Status | null>): string {
  const voices = [...seen.values()].filter((status) => status !== null);
  const master = voices.find((status) => status.lease.role === 'master' && status.self !== node);
  const speaker = master ?? voices.find((status) => status.self !== node) ?? voices[0];
  return speaker?.nodes.find((entry) => entry.node === node)?.status ?? 'unknown';
}

function nodeRow(node: NodeId, scene: Scene): Cell[] {
  const status = scene.seen.get(node) ?? null;
  const word = statusWord(node, scene.seen);
  const writer = scene.writers.find((entry) => entry.node === node);
  const application: Cell =
    writer === undefined
      ? '-'
      : writer.lost
        ? { text: `${writer.acknowledged} acknowledged, then its power went`, code: RED }
        : writer.waitsMs > WAIT_SHOWN_MS
          ? { text: `${writer.acknowledged} acknowledged, waits for ${seconds(writer.waitsMs)}`, code: YELLOW }
          : `${writer.acknowledged} acknowledged`;
  const name: Cell = { text: word, code: word === 'alive' ? GREEN : word === 'dead' ? RED : YELLOW };
  if (status === null) return [`node ${node}`, name, 'no answer', '-', '-', '-', application];
  const { role, term, leaseLeftMs, grantLeftMs } = status.lease;
  return [
    `node ${node}`,
    name,
    role === 'master' ? { text: role, code: BOLD } : role,
    String(term),
    role === 'master' ? seconds(leaseLeftMs) : '-',
    grantLeftMs > 0 ? seconds(grantLeftMs) : { text: 'none', code: YELLOW },
    application,
  ];
}

/** As /proc/mdstat would draw it on that node. */
export function localPicture({ record, local }: ArrayStatus): string {
  if (local === null) return '-';
  const working = new Set(local.members.filter(({ inSync, faulty }) => inSync && !faulty).map(({ slot }) => slot));
  return `[${Array.from({ length: record.raidDisks }, (_, slot) => (working.has(slot) ? 'U' : '_')).join('')}]`;
}

function copyWords({ record, sync }: ArrayStatus): Cell {
  if (record.resync === null) return '-';
  const percent =
    sync === null || sync.totalSectors === 0 ? '' : ` ${((100 * sync.doneSectors) / sync.totalSectors).toFixed(0)} %`;
  return { text: `node ${record.resync.by} copies${percent}`, code: YELLOW };
}

function arrayRows(scene: Scene): Cell[][] {
  const rows: Cell[][] = [];
  for (const node of scene.nodes) {
    for (const array of scene.seen.get(node)?.arrays ?? []) {
      const { record, local } = array;
      const writes: Cell =
        local === null
          ? { text: 'not assembled', code: YELLOW }
          : local.writePending || local.members.some(({ blocked }) => blocked)
            ? { text: 'gate closed', code: YELLOW }
            : local.held
              ? { text: 'held', code: YELLOW }
              : { text: 'open', code: GREEN };
      const committed = slotPicture(record);
      const whole = !committed.includes('_');
      rows.push([
        `${record.md} on node ${node}`,
        record.level,
        local?.arrayState ?? '-',
        writes,
        { text: localPicture(array), code: localPicture(array).includes('_') ? YELLOW : GREEN },
        { text: committed, code: whole ? GREEN : YELLOW },
        `${record.version.term}.${record.version.index}`,
        record.writers.join(',') || '-',
        copyWords(array),
      ]);
    }
  }
  return rows;
}

/** The two tables. */
export function tables(scene: Scene, colour: boolean): string[] {
  const paint = colour ? coloured : plain;
  const head = (words: string[]): Cell[] => words.map((text) => ({ text, code: BOLD }));
  const nodes = columns(
    [
      head(['NODE', 'STATUS', 'ROLE', 'TERM', 'LEASE LEFT', 'GRANT LEFT', 'APPLICATION']),
      ...scene.nodes.map((node) => nodeRow(node, scene)),
    ],
    paint,
  );
  const rows = arrayRows(scene);
  const arrays =
    rows.length === 0
      ? ['no array yet']
      : columns(
          [
            head(['ARRAY', 'LEVEL', 'STATE', 'WRITES', 'DISKS HERE', 'COMMITTED', 'COMMIT', 'WRITERS', 'RESYNC']),
            ...rows,
          ],
          paint,
        );
  return [...nodes, '', ...arrays];
}

/** Exactly what fits: never more rows than the terminal has. Lines too long are cut by the terminal (wrap is off). */
export function frame(scene: Scene, rows: number): string[] {
  const top = [
    `${coloured(BOLD, scene.title)}  ${seconds(scene.elapsedMs)}`,
    '',
    ...tables(scene, true),
    '',
    coloured(BOLD, `> ${scene.step}`),
    '',
  ].slice(0, rows);
  const room = rows - top.length;
  return [...top, ...(room > 0 ? scene.lines.slice(-room) : [])];
}

const LINES_KEPT = 500;
/** The news of a write is that late by itself, on a busy machine. */
const WAIT_SHOWN_MS = 700;
/** For people to look at what has come of a step. */
const DWELL_MS = 2500;

export class Screen {
  readonly #out: NodeJS.WriteStream;
  readonly #startedMs = performance.now();
  readonly #lines: string[] = [];
  readonly #story: string[] = [];
  readonly #tty: boolean;
  #scene: Scene;
  #timer: NodeJS.Timeout | null = null;

  constructor(out: NodeJS.WriteStream, title: string, nodes: readonly NodeId[]) {
    this.#out = out;
    this.#tty = out.isTTY === true;
    this.#scene = { title, elapsedMs: 0, nodes, seen: new Map(), writers: [], step: '', lines: this.#lines };
    if (this.#tty) {
      // A second screen, without wrapping and cursor: what stood on the terminal comes back at the end.
      out.write('\u001b[?1049h\u001b[?7l\u001b[?25l');
      this.#timer = setInterval(() => this.#draw(), 100);
    } else out.write(`${title}\n`);
  }

  get elapsedMs(): number {
    return performance.now() - this.#startedMs;
  }

  step(sentence: string): void {
    this.#scene.step = sentence;
    this.#say(`${seconds(this.elapsedMs).padStart(7)}  ${sentence}`);
  }

  /** Nobody looks at a file: there it takes no time. */
  async dwell(): Promise<void> {
    if (this.#tty) await new Promise((resolve) => setTimeout(resolve, DWELL_MS));
  }

  /** What came out of a step. */
  outcome(text: string): void {
    this.#say(`${' '.repeat(9)}${text}`);
  }

  #say(line: string): void {
    this.#story.push(line);
    this.#add(line);
    if (this.#tty) this.#draw();
    else this.#out.write(`${line}\n`);
  }

  event(line: string): void {
    const safe = printable(line);
    this.#add(`           ${safe}`);
    if (!this.#tty) this.#out.write(`           ${safe}\n`);
  }

  #add(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > LINES_KEPT) this.#lines.shift();
  }

  show(known: Partial<Pick<Scene, 'seen' | 'writers'>>): void {
    Object.assign(this.#scene, known);
  }

  /** Where nothing can be redrawn: the tables as they stand now. */
  tables(): void {
    if (this.#tty) return;
    this.#out.write(
      `\n${tables(this.#scene, false)
        .map((line) => `    ${line}`.trimEnd())
        .join('\n')}\n\n`,
    );
  }

  #draw(): void {
    this.#scene.elapsedMs = this.elapsedMs;
    const lines = frame(this.#scene, this.#out.rows || 24);
    this.#out.write(`\u001b[H${lines.map((line) => `${line}\u001b[K`).join('\n')}\u001b[J`);
  }

  /** Gives the terminal back, with the story on it; later calls do nothing. */
  close(): void {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#out.write('\u001b[?25h\u001b[?7h\u001b[?1049l');
    this.#out.write(`${this.#scene.title}\n${this.#story.join('\n')}\n`);
  }
}
