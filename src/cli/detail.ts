/** `mdmesh detail`: one array as `mdadm --detail` prints it, and what only the cluster knows below. */
import { statSync } from 'node:fs';
import { formatSizeKib } from '../config/sizes.ts';
import { type DetailInput, detailText, memberState } from '../md/detail_text.ts';
import { mdadmUuid } from '../md/examine_text.ts';
import { printable } from '../outlets/cloud_event.ts';
import type { ArrayStatus } from '../outlets/index.ts';
import { conditionOf, stateWords } from './array_condition.ts';
import type { Context } from './context.ts';
import { copyLine, copyNotes, copyOf, mismatchText } from './copy_progress.ts';
import type { DetailForm } from './mdadm_line.ts';
import type { Spoken } from './requests.ts';

export interface DetailOptions extends Spoken {
  test?: boolean;
  /** As mdadm's --export and --brief. @default the text for people */
  form?: DetailForm;
}

export async function detail(context: Context, name: string, options: DetailOptions): Promise<number> {
  const array = await (await context.agent()).array(name);
  if (options.json) {
    context.terminal.out(`${JSON.stringify(array)}\n`);
  } else if (options.form === 'export') {
    context.terminal.out(exportText(array));
  } else if (options.form === 'brief') {
    context.terminal.out(briefText(array));
  } else {
    const devices = new Map(Object.entries(array.paths).map(([uuid, path]) => [uuid, { path, devno: devnoOf(path) }]));
    const { record, local: observation } = array;
    context.terminal.out(detailText({ record, observation, devices, copy: copyForMdadm(array) }));
    context.terminal.out(meshPart(array));
  }
  if (!options.test) return 0;
  return { clean: 0, degraded: 1, failed: 2 }[conditionOf(array.record)];
}

/** `mdadm --detail --export`: for shells and udev. */
function exportText({ record, local, paths }: ArrayStatus): string {
  const lines = [
    `MD_LEVEL=${record.level}`,
    `MD_DEVICES=${record.raidDisks}`,
    'MD_METADATA=1.2',
    `MD_UUID=${mdadmUuid(record.uuid)}`,
    `MD_NAME=${record.name}`,
  ];
  for (const member of record.members) {
    const path = paths[member.uuid];
    const state = memberState(member, local);
    if (path === undefined || state === 'missing') continue;
    const name = `dev_${path.replace(/^\/dev\//, '').replaceAll(/[^A-Za-z0-9]/g, '_')}`;
    const role = state === 'in-sync' || state === 'rebuilding' ? member.slot : null;
    lines.push(`MD_DEVICE_${name}_ROLE=${role ?? 'spare'}`, `MD_DEVICE_${name}_DEV=${path}`);
  }
  return `${lines.join('\n')}\n`;
}

/** The ARRAY line of `mdadm --detail --brief`, as it goes into mdadm.conf. */
function briefText({ record, local }: ArrayStatus): string {
  const spares = record.members.filter((member) => ['spare', 'rebuilding'].includes(memberState(member, local))).length;
  const words = [
    `${local === null ? 'INACTIVE-ARRAY' : 'ARRAY'} /dev/${record.md}`,
    'metadata=1.2',
    ...(spares === 0 ? [] : [`spares=${spares}`]),
    `name=${record.name}`,
    `UUID=${mdadmUuid(record.uuid)}`,
  ];
  return `${words.join(' ')}\n`;
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
