/** `mdmesh detail`: one array as `mdadm --detail` prints it, and what only the cluster knows below. */
import { statSync } from 'node:fs';
import { formatSizeKib } from '../config/sizes.ts';
import { type DetailInput, detailText } from '../md/detail_text.ts';
import { printable } from '../outlets/cloud_event.ts';
import type { ArrayStatus } from '../outlets/index.ts';
import { conditionOf, stateWords } from './array_condition.ts';
import type { Context } from './context.ts';
import { copyLine, copyNotes, copyOf, mismatchText } from './copy_progress.ts';
import type { Spoken } from './requests.ts';

export interface DetailOptions extends Spoken {
  test?: boolean;
}

export async function detail(context: Context, name: string, options: DetailOptions): Promise<number> {
  const array = await (await context.agent()).array(name);
  if (options.json) {
    context.terminal.out(`${JSON.stringify(array)}\n`);
  } else {
    const devices = new Map(Object.entries(array.paths).map(([uuid, path]) => [uuid, { path, devno: devnoOf(path) }]));
    const { record, local: observation } = array;
    context.terminal.out(detailText({ record, observation, devices, copy: copyForMdadm(array) }));
    context.terminal.out(meshPart(array));
  }
  if (!options.test) return 0;
  return { clean: 0, degraded: 1, failed: 2 }[conditionOf(array.record)];
}

function meshPart(array: ArrayStatus): string {
  const { record, trouble, reports } = array;
  const lines: string[] = [''];
  const field = (label: string, value: string) => lines.push(`${label.padStart(18)} : ${value}`);
  const owner = record.owner === null ? '' : ` (node ${record.owner})`;
  field('Mesh State', stateWords(array));
  field('Access', `${record.access}${owner}`);
  field('Writers', record.writers.map((node) => `node ${node}`).join(', ') || 'none');
  field('Bitmap', bitmapText(array));
  field('Commit', versionText(record.version));
  field('Applied Here', array.applied === null ? 'nothing yet' : versionText(array.applied));
  const copy = copyOf(array);
  if (copy !== null) field('Copy', `${copyLine(copy)}, ${copyNotes(record.md, copy)}`);
  else if (record.syncLimitKib !== null) field('Copy Limit', `${formatSizeKib(record.syncLimitKib)}/s`);
  const mismatches = mismatchText(array);
  if (mismatches !== null) field('Mismatches', mismatches);
  const { lastCheck } = record;
  if (lastCheck !== null) field('Last Check', lastCheckText(lastCheck));
  for (const { node, report } of reports) {
    const waits = report.lost.map((member) => array.paths[member] ?? member).join(', ');
    const state = waits === '' ? report.state : `${report.state}, its I/O waits for its path to ${waits}`;
    const words = report.trouble === null ? state : `${state}: ${printable(report.trouble)}`;
    field(`Node ${node}`, words);
  }
  if (trouble !== null) field('Trouble', printable(trouble));
  return `${lines.join('\n')}\n`;
}

/** By which a resync after a death copies only what the dead node was writing. */
function bitmapText({ record, local }: ArrayStatus): string {
  if (record.bitmap === null) return 'none';
  const chunk = formatSizeKib(record.bitmap.chunkSectors / 2);
  const missing = local === null || local.bitmap ? '' : '; none on this node: its kernel shows no files for one';
  const full = record.writerBoots.filter(({ bitmap }) => !bitmap).map(({ node }) => node);
  const others = full.length === 0 ? '' : `; a death of node ${full.join(', ')} is followed by a full resync`;
  return `one for each node, ${chunk} a bit${missing}${others}`;
}

function lastCheckText({ atSeconds, mismatchSectors }: NonNullable<ArrayStatus['record']['lastCheck']>): string {
  const found = mismatchSectors === null ? 'called off' : `${mismatchSectors} sectors differed`;
  return `${new Date(atSeconds * 1000).toISOString().slice(0, 19)}Z, ${found}`;
}

/** mdadm takes whole percents of what /proc/mdstat says, and shows none where that says PENDING. */
function copyForMdadm(array: ArrayStatus): NonNullable<DetailInput['copy']> | null {
  const copy = copyOf(array);
  if (copy === null) return null;
  const told = copy.state === 'running' ? copy.progress : null;
  return { kind: copy.kind, percent: told === null ? null : Math.floor(told.perMille / 10) };
}

function versionText({ term, index }: ArrayStatus['record']['version']): string {
  return `term ${term}, index ${index}`;
}

/** major:minor; 0:0, as mdadm prints for what it cannot find, when the device is gone. */
function devnoOf(path: string): string {
  const rdev = statSync(path, { bigint: true, throwIfNoEntry: false })?.rdev ?? 0n;
  // glibc's gnu_dev_major and gnu_dev_minor.
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}
