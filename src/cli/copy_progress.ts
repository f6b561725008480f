/** A copy under way, in the numbers and words in which people are told of it. Every face of it (mdstat, status, …) takes them here. */
import type { ArrayRecord, CopyKind, NodeId } from '../arrays/record.ts';
import { formatSizeKib } from '../config/sizes.ts';
import type { ArrayStatus } from '../outlets/index.ts';

export interface Copy {
  kind: CopyKind;
  by: NodeId;
  /** `pending`: it is committed that it has to be made, and its copier has not told anything yet. */
  state: 'running' | 'halted' | 'pending';
  /** null: nothing was heard of it yet. Sectors in md's unit of the copy. */
  progress: { doneSectors: number; totalSectors: number; perMille: number } | null;
  /** null: not known yet, or halted. */
  kibPerSecond: number | null;
  /** At that speed; null where there is none. */
  finishSeconds: number | null;
  /** The array's own limit; null: the configuration's. */
  limitKib: number | null;
}

/** null: none is under way, or the array is stopped. */
export function copyOf({ record, sync }: Pick<ArrayStatus, 'record' | 'sync'>): Copy | null {
  const { resync } = record;
  if (resync === null || record.run === 'stopped') return null;
  // Word of an older copy may still be there when the next one has just been committed.
  const told = sync !== null && sync.since === resync.since && sync.totalSectors > 0 ? sync : null;
  const kibPerSecond = resync.halted ? null : (told?.kibPerSecond ?? null);
  const leftKib = told === null ? 0 : Math.max(0, told.totalSectors - told.doneSectors) / 2;
  return {
    kind: resync.kind,
    by: resync.by,
    state: resync.halted ? 'halted' : told === null ? 'pending' : 'running',
    progress:
      told === null
        ? null
        : {
            doneSectors: told.doneSectors,
            totalSectors: told.totalSectors,
            perMille: perMille(told.doneSectors, told.totalSectors),
          },
    kibPerSecond,
    finishSeconds: kibPerSecond === null || kibPerSecond === 0 ? null : Math.floor(leftKib / kibPerSecond),
    limitKib: record.syncLimitKib,
  };
}

/** As the kernel counts it (status_resync in drivers/md/md.c, scale 10): 99.9 % is the most that a copy under way ever reaches. */
function perMille(doneSectors: number, totalSectors: number): number {
  const done = Math.min(doneSectors, totalSectors);
  return Math.floor((Math.floor(done / 1024) * 1000) / (Math.floor(totalSectors / 1024) + 1));
}

/** `12.6` */
export function percentText(ofThousand: number): string {
  return `${Math.floor(ofThousand / 10)}.${ofThousand % 10}`;
}

/** The kernel's bar, 20 characters and the head. */
export function bar(ofThousand: number): string {
  const done = Math.floor(ofThousand / 50);
  return `[${'='.repeat(done)}>${'.'.repeat(20 - done)}]`;
}

/** Minutes with a tenth, as /proc/mdstat has them. */
export function minutesText(seconds: number): string {
  return `${Math.floor(seconds / 60)}.${Math.floor((seconds % 60) / 6)}`;
}

/** A speed for people: `32.7 MiB/s`. */
export function speedText(kibPerSecond: number): string {
  return kibPerSecond < 1024 ? `${kibPerSecond} KiB/s` : `${(kibPerSecond / 1024).toFixed(1)} MiB/s`;
}

/** A cell of a table: `recovery 12.6 %`, `check halted`. */
export function shortCopyText({ kind, state, progress }: Copy): string {
  const percent = progress === null ? '' : ` ${percentText(progress.perMille)} %`;
  return state === 'running' ? `${kind}${percent}` : `${kind} ${state}${percent}`;
}

/** One line: `recovery [==>…] 12.6 %, 32.7 MiB/s, finish in 127.5 min`; short enough to be written over itself on a terminal. */
export function copyLine({ kind, state, progress, kibPerSecond, finishSeconds }: Copy): string {
  const parts = [state === 'running' ? kind : `${kind} ${state}`];
  if (progress !== null) parts[0] += ` ${bar(progress.perMille)} ${percentText(progress.perMille)} %`;
  if (kibPerSecond !== null) parts.push(speedText(kibPerSecond));
  if (finishSeconds !== null) parts.push(`finish in ${minutesText(finishSeconds)} min`);
  return parts.join(', ');
}

/** What stands behind that where there is room: who copies, the array's limit, and what a halted copy waits for. */
export function copyNotes(md: string, { by, state, limitKib }: Copy): string {
  const limit = limitKib === null ? '' : `, limit ${formatSizeKib(limitKib)}/s`;
  const halted = state === 'halted' ? `; \`mdmesh action ${md} idle\` lets it go on` : '';
  return `by node ${by}${limit}${halted}`;
}

/** Differences that the newest check or repair found; null: none, or none was made. */
export function mismatchText({ record, mismatchSectors }: ArrayStatus): string | null {
  if (mismatchSectors === null || mismatchSectors === 0) return null;
  return `the newest check or repair found ${mismatchSectors} sectors in which copies differ; if it was a check, \`mdmesh action ${record.md} repair\` makes them equal`;
}

/** What machines are told: sizes in bytes. `percent` has a tenth. */
export function copyJson(copy: Copy): object {
  const { progress, kibPerSecond, limitKib, ...rest } = copy;
  return {
    ...rest,
    percent: progress === null ? null : progress.perMille / 10,
    doneBytes: progress === null ? null : progress.doneSectors * 512,
    totalBytes: progress === null ? null : progress.totalSectors * 512,
    bytesPerSecond: kibPerSecond === null ? null : kibPerSecond * 1024,
    limitBytesPerSecond: limitKib === null ? null : limitKib * 1024,
  };
}

/** Whether a copy will be committed any moment: a slot is free and a spare is there to take it, or a member waits to be filled. */
export function copyIsDue(record: ArrayRecord): boolean {
  if (record.run === 'stopped' || record.resync !== null) return false;
  const has = (role: ArrayRecord['members'][number]['role']) => record.members.some((member) => member.role === role);
  const taken = record.members.filter(({ role }) => role === 'active' || role === 'rebuilding').length;
  return has('rebuilding') || (has('spare') && taken < record.raidDisks);
}
