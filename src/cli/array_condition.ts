/** How whole an array is, in mdadm's words. */
import { survives } from '../arrays/levels.ts';
import type { ArrayRecord, CopyKind } from '../arrays/record.ts';
import type { ArrayStatus } from '../outlets/index.ts';

export type Condition = 'clean' | 'degraded' | 'failed';

export function conditionOf(record: ArrayRecord): Condition {
  const slots = slotsInSync(record);
  if (!survives(record, slots)) return 'failed';
  return slots.size < record.raidDisks ? 'degraded' : 'clean';
}

const doing: Readonly<Record<CopyKind, string>> = {
  resync: 'resyncing',
  recovery: 'recovering',
  check: 'checking',
  repair: 'repairing',
};

/** Words for one line: condition, what is copied, and whether writes pass on this node. */
export function stateWords(array: ArrayStatus): string {
  const { record, local } = array;
  const words: string[] = [record.run === 'stopped' ? 'stopped' : conditionOf(record)];
  if (record.run === 'stopped') return words.join();
  if (record.parityInDoubt === true) words.push('parity in doubt');
  if (record.resync !== null) words.push(`${doing[record.resync.kind]}${record.resync.halted ? ' (halted)' : ''}`);
  if (local === null) words.push('not assembled here');
  else if (local.writePending || local.held) words.push('writes held');
  return words.join(', ');
}

/** As /proc/mdstat draws it: [UU_]. */
export function slotPicture(record: ArrayRecord): string {
  const slots = slotsInSync(record);
  return `[${Array.from({ length: record.raidDisks }, (_, slot) => (slots.has(slot) ? 'U' : '_')).join('')}]`;
}

export function slotsInSync(record: ArrayRecord): Set<number> {
  const slots = new Set<number>();
  for (const { role, slot } of record.members) if (role === 'active' && slot !== null) slots.add(slot);
  return slots;
}
