/**
 * What `mdadm --detail` (4.2) prints of a running v1.2 array: same fields, order and alignment. The record says what the
 * array is, the observation how it stands on this node.
 */
import { arraySectors, isRedundant, survives } from '../arrays/levels.ts';
import type { ArrayRecord, CopyKind, MemberRecord } from '../arrays/record.ts';
import type { ArrayObservation, MemberObservation } from './driver.ts';
import { ctimeText, humanSize, layoutText, mdadmUuid } from './examine_text.ts';
import { levelNumber } from './superblock.ts';

export interface DetailInput {
  record: ArrayRecord;
  /** null: the array is not running on this node. */
  observation: ArrayObservation | null;
  /** member uuid → its device on this node; `devno` is major:minor. */
  devices: ReadonlyMap<string, { path: string; devno: string }>;
  /** As the array has a write-intent bitmap on this node: `External`, `Internal`. */
  intentBitmap?: string;
  /** The copy under way, whoever makes it; `percent` null: it is halted, or has not begun. */
  copy?: { kind: CopyKind; percent: number | null } | null;
}

/** `missing` stands in the record, but no device of it is in this node's array. */
export type MemberState = 'in-sync' | 'rebuilding' | 'spare' | 'faulty' | 'missing';

/** How one member stands here: the node's md first, the record where md does not run. */
export function memberState(member: MemberRecord, observation: ArrayObservation | null): MemberState {
  if (member.role === 'faulty') return 'faulty';
  const seen: MemberObservation | undefined = observation?.members.find((candidate) => candidate.uuid === member.uuid);
  if (observation === null) return member.role === 'active' ? 'in-sync' : member.role;
  if (seen === undefined) return 'missing';
  if (seen.faulty) return 'faulty';
  if (seen.slot === null) return 'spare';
  return seen.inSync ? 'in-sync' : 'rebuilding';
}

/** mdadm's words for a copy in the line of states, and in the line of its progress. To mdadm, as to /proc/mdstat, a repair is a resync. */
const copyWords: Readonly<Record<CopyKind, readonly [state: string, progress: string]>> = {
  recovery: ['recovering', 'Rebuild'],
  resync: ['resyncing', 'Resync'],
  repair: ['resyncing', 'Resync'],
  check: ['checking', 'Check'],
};

function copyText(copy: DetailInput['copy']): { state: string; progress: string | null } {
  if (copy === undefined || copy === null) return { state: '', progress: null };
  const [state, progress] = copyWords[copy.kind];
  if (copy.percent === null) return { state: `, ${state} (PENDING)`, progress: null };
  return { state: `, ${state}`, progress: `    ${progress.padStart(7)} Status : ${copy.percent}% complete` };
}

/** raid10 near arrays whose copies fall into sets show which set a member is of. */
function setText(record: ArrayRecord, slot: number): string {
  if (record.level !== 'raid10' || (record.layout & ~0x1ffff) !== 0) return '';
  const copies = (record.layout & 0xff) * ((record.layout >> 8) & 0xff);
  if (((record.layout >> 8) & 0xff) !== 1 || record.raidDisks % copies !== 0 || copies > 26) return '';
  return ` set-${String.fromCharCode(65 + (slot % copies))}`;
}

function deviceRow(number: string, devno: string, slot: number | null, state: string, path: string | null): string {
  const [major = '0', minor = '0'] = devno.split(':');
  const raidDevice = slot === null ? '-     ' : `${slot}     `;
  const columns = `   ${number.padStart(5)}   ${major.padStart(5)}    ${minor.padStart(5)}    ${raidDevice.padStart(10)}`;
  return `${columns} ${state}${path === null ? '' : `   ${path}`}`;
}

/** The text of `mdadm --detail /dev/mdX`, final newline included. */
export function detailText(input: DetailInput): string {
  const { record, observation, devices } = input;
  const level = levelNumber(record.level);
  const lines: string[] = [`/dev/${record.md}:`];
  const field = (name: string, value: string | number) => lines.push(`${name.padStart(18)} : ${value}`);
  const states = record.members.map((member) => ({ member, state: memberState(member, observation) }));
  const count = (wanted: MemberState) => states.filter(({ state }) => state === wanted).length;
  const active = count('in-sync');
  const failed = count('faulty');
  const spares = count('spare') + count('rebuilding');

  field('Version', '1.2');
  if (record.ctimeSeconds !== 0) field('Creation Time', ctimeText(record.ctimeSeconds));
  field('Raid Level', record.level);
  const sectors = arraySectors(record);
  field('Array Size', `${Math.floor(sectors / 2)}${humanSize(sectors * 512)}`);
  if (level >= 1)
    field('Used Dev Size', `${Math.floor(record.componentSectors / 2)}${humanSize(record.componentSectors * 512)}`);
  field('Raid Devices', record.raidDisks);
  field('Total Devices', active + spares + failed);
  field('Persistence', 'Superblock is persistent');
  lines.push('');
  if (input.intentBitmap !== undefined) {
    field('Intent Bitmap', input.intentBitmap);
    lines.push('');
  }
  if (record.utimeSeconds !== 0) field('Update Time', ctimeText(record.utimeSeconds));

  const present = new Set<number>();
  for (const { member, state } of states) if (state === 'in-sync' && member.slot !== null) present.add(member.slot);
  const copy = copyText(input.copy);
  if (observation === null) field('State', 'inactive');
  else {
    const dirty = observation.arrayState === 'active' || observation.arrayState === 'write-pending';
    const word = isRedundant(record.level) ? (dirty ? 'active' : 'clean') : observation.arrayState;
    let health = '';
    if (present.size < record.raidDisks) health = survives(record, present) ? ', degraded' : ', FAILED';
    // mdadm ends this line with a blank.
    field('State', `${word}${health}${copy.state} `);
  }
  field('Active Devices', active);
  if (active + spares > 0) field('Working Devices', active + spares);
  field('Failed Devices', failed);
  field('Spare Devices', spares);
  lines.push('');
  const layout = level === 0 && record.layout === 0 ? null : layoutText(level, record.layout);
  if (layout !== null) lines.push(`            Layout :${layout}`);
  if (level === -1) {
    field('Rounding', `${Math.floor(record.chunkSectors / 2)}K`);
    lines.push('');
  } else if (level !== 1 && record.chunkSectors > 0) {
    field('Chunk Size', `${Math.floor(record.chunkSectors / 2)}K`);
    lines.push('');
  }
  field(
    'Consistency Policy',
    !isRedundant(record.level) ? 'none' : input.intentBitmap === undefined ? 'resync' : 'bitmap',
  );
  lines.push('');
  if (copy.progress !== null) lines.push(copy.progress, '');
  field('Name', record.name);
  field('UUID', mdadmUuid(record.uuid));
  field('Events', record.events);
  lines.push('', '    Number   Major   Minor   RaidDevice State');

  const others: string[] = [];
  const bySlot = new Map<number, string>();
  for (const { member, state } of states) {
    const device = devices.get(member.uuid);
    const inSlot = state === 'in-sync' || state === 'rebuilding';
    if (state === 'missing') continue;
    if (inSlot) {
      const seen = observation?.members.find((candidate) => candidate.uuid === member.uuid);
      const slot = seen?.slot ?? member.slot;
      if (slot === null) continue;
      const words = state === 'in-sync' ? `active sync${setText(record, slot)}` : 'spare rebuilding';
      bySlot.set(
        slot,
        deviceRow(String(member.devNumber), device?.devno ?? '0:0', slot, words, device?.path ?? 'missing'),
      );
    } else {
      others.push(deviceRow(String(member.devNumber), device?.devno ?? '0:0', null, state, device?.path ?? 'missing'));
    }
  }
  for (let slot = 0; slot < record.raidDisks; slot++)
    lines.push(bySlot.get(slot) ?? deviceRow('-', '0:0', slot, 'removed', null));
  if (others.length > 0) lines.push('', ...others);
  return `${lines.join('\n')}\n`;
}
