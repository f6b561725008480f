/**
 * `readme_figures.ts`: puts the figures of out/bench.json between README.md's bench marks, with the day and the machine.
 * Says of the machine what a reader needs to judge them: kernel and cores, no names and no paths.
 */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { arch, availableParallelism, release } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';

const begin = '<!-- bench -->';
const end = '<!-- /bench -->';

/** As `make bench` writes them (bench/figure.ts). `peer`: what the alternative reaches in the same kind of laboratory. */
export const Figures = z.array(
  z.object({
    name: z.string(),
    unit: z.string(),
    median: z.number().nullable(),
    p99: z.number().nullable(),
    max: z.number().nullable(),
    n: z.int().min(0),
    peer: z.number().optional(),
    ratio: z.number().optional(),
  }),
);
export type Figures = z.infer<typeof Figures>;

export interface Machine {
  /** YYYY-MM-DD */
  day: string;
  kernel: string;
  architecture: string;
  cores: number;
}

export function figuresSection(figures: Figures, { day, kernel, architecture, cores }: Machine): string {
  const number = (value: number | null | undefined) => (value === undefined || value === null ? '' : String(value));
  const cell = (text: string) => text.replaceAll('|', '\\|');
  const rows = figures.map(({ name, unit, median, p99, max, n, peer, ratio }) =>
    [cell(name), cell(unit), number(median), number(p99), number(max), number(n), number(peer), number(ratio)].join(
      ' | ',
    ),
  );
  return [
    `Measured on ${day}: three User-Mode Linux guests on one machine (Linux ${kernel}, ${architecture}, ${cores} cores), profile lan.`,
    'The peer is what the in-kernel md-cluster (with corosync and dlm) or plain md reaches in the same kind of laboratory.',
    '',
    '| figure | unit | median | p99 | max | n | peer | ratio |',
    '| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    ...rows.map((row) => `| ${row} |`),
  ].join('\n');
}

/** @throws when the text has not exactly one place for it */
export function withFigures(readme: string, section: string): string {
  const [before, inside, ...more] = readme.split(begin);
  const [, after, ...tooMany] = inside?.split(end) ?? [];
  if (before === undefined || after === undefined || more.length > 0 || tooMany.length > 0) {
    throw new Error(`README.md: there must be one ${begin} with one ${end} behind it`);
  }
  return `${before}${begin}\n${section}\n${end}${after}`;
}

if (import.meta.main) {
  const project = join(import.meta.dirname, '..');
  const measured = join(project, 'out/bench.json');
  const figures = Figures.parse(JSON.parse(readFileSync(measured, 'utf8')));
  const machine = {
    day: statSync(measured).mtime.toISOString().slice(0, 10),
    kernel: release(),
    architecture: arch(),
    cores: availableParallelism(),
  };
  const readme = join(project, 'README.md');
  writeFileSync(readme, withFigures(readFileSync(readme, 'utf8'), figuresSection(figures, machine)));
}
