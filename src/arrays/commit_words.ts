/** Commits and copies in words: the answer to whoever asked, and what mdadm --monitor would tell. */
import type { CommitKind, CopyProgress } from '../wire/messages.ts';
import { activeMembers, arraySectors, nodeSlotsOf } from './levels.ts';
import type { MasterArray, MasterEffect, MasterState, PendingCommit } from './master_state.ts';
import { lacksOnlyMarked } from './missed.ts';
import type { ArrayRecord, NodeId } from './record.ts';

/** As mdadm --monitor's RebuildNN. */
const PERCENT_STEP = 20;

/** To whoever asked a node that has led until just now, and has begun nothing of it. */
export function leadsNoMore(node: NodeId): { ok: false; text: string; undone: true } {
  const text = `node ${node} is not the master any more; see \`mdmesh status\`, and ask again`;
  return { ok: false, text, undone: true };
}

/** To whoever asked it for something that it had begun. */
export function inTheMiddle(node: NodeId): string {
  return `node ${node} ceased to be the master in the middle of it; see \`mdmesh status\` for what became of it`;
}

export function outcomeText(pending: PendingCommit): string {
  const { record, kind, detail } = pending;
  const doubt = doubtText(record);
  const words: Partial<Record<CommitKind, string>> = {
    create: `${record.md} created (UUID ${record.uuid})`,
    adopt: `${record.md} is a cluster array now${doubt === null ? '' : `; ${doubt}`}`,
    start: `${record.md} started`,
    fail: `member ${detail.member ?? ''} set faulty in ${record.md}`,
    remove: `member ${detail.member ?? ''} removed from ${record.md}`,
    add: `member ${detail.member ?? ''} added to ${record.md} as a spare${fillText(record, detail)}`,
    grow: `${record.md} has ${record.raidDisks} raid devices and ${arraySectors(record)} sectors`,
    bitmap: `${record.md}: room for ${nodeSlotsOf(record)} nodes, ${record.bitmap === null ? 'no bitmaps' : `a bitmap for each, ${record.bitmap.chunkSectors / 2} KiB a bit`}`,
    replace: `${record.md}: member ${detail.member ?? ''} is being replaced`,
    'resync-start': `${record.md}: ${record.resync?.kind ?? 'copy'} started`,
    'resync-done': `${record.md}: ended`,
    'resync-change': copyText(record),
  };
  return words[kind] ?? `${record.md}: done`;
}

/** Of a former member: how it will be filled. */
function fillText(record: ArrayRecord, { member, why }: PendingCommit['detail']): string {
  if (why !== undefined) return `; it is filled as a whole: ${why}`;
  const added = record.members.find(({ uuid }) => uuid === member);
  const marked = added !== undefined && typeof lacksOnlyMarked(record, added, null) !== 'string';
  return marked ? '; it gets what was written since it left' : '';
}

function copyText({ md, resync, syncLimitKib }: ArrayRecord): string {
  const limit = syncLimitKib === null ? 'as configured' : `${syncLimitKib} KiB/s`;
  const copy = resync === null ? 'nothing is being copied' : `${resync.kind} ${resync.halted ? 'halted' : 'goes on'}`;
  return `${md}: ${copy}; limit ${limit}`;
}

/** null: nothing is in doubt. */
export function doubtText({ md, parityInDoubt, writers }: ArrayRecord): string | null {
  if (parityInDoubt !== true) return null;
  const why = `${md}: a node crashed as it wrote to it, and a member was missing before its parity was right again: blocks of that member may read as something that nobody wrote`;
  return writers.length > 0
    ? `${why}; check what is on it (fsck)`
    : `${why}, so nothing is written or read; mdmesh assemble --force ${md} lets it go on as it is, then check what is on it (fsck)`;
}

/** Each step of 20 % is told once. */
export function tellPercent(
  array: MasterArray,
  progress: CopyProgress,
  effects: MasterEffect[],
): MasterArray['toldPercent'] {
  const { since, kind, by, doneSectors, totalSectors } = progress;
  const reached = Math.floor((100 * doneSectors) / Math.max(1, totalSectors) / PERCENT_STEP) * PERCENT_STEP;
  const first = array.toldPercent?.since !== since;
  // A copy that goes on does not tell again what it was at before.
  const begun = (100 * (array.record?.resync?.fromSector ?? 0)) / Math.max(1, totalSectors);
  const before = first ? Math.floor(begun / PERCENT_STEP) * PERCENT_STEP : (array.toldPercent?.percent ?? 0);
  if (reached <= before || reached >= 100) return { since, percent: before };
  const detail = { kind, percent: reached, by };
  effects.push({
    type: 'notice',
    name: `Rebuild${reached}`,
    severity: 'info',
    subject: array.record?.md ?? '',
    detail,
  });
  return { since, percent: reached };
}

/** What mdadm --monitor would say of a commit, or might. */
export function tellCommit(
  state: MasterState,
  array: MasterArray,
  pending: PendingCommit,
  effects: MasterEffect[],
): void {
  const { record, kind, detail } = pending;
  const tell = (
    name: string,
    severity: 'info' | 'warning' | 'critical',
    more: Record<string, string | number>,
  ): void => {
    effects.push({ type: 'notice', name, severity, subject: record.md, detail: more });
  };
  if (kind === 'path-lost' && detail.node !== undefined && detail.member !== undefined) {
    tell('PathLost', 'warning', { node: detail.node, member: detail.member });
  }
  if ((kind === 'evict' || kind === 'fail') && record.parityInDoubt === true) {
    const missing = record.raidDisks - activeMembers(record).length;
    tell('ParityInDoubt', 'critical', { ...(detail.node !== undefined && { node: detail.node }), missing });
  }
  if (pending.callsOff !== null) tell('CopyCalledOff', 'warning', { kind: pending.callsOff, why: kind });
  const copy = record.resync;
  const begins = ['resync-start', 'create', 'evict', 'adopt', 'grow', 'replace'].includes(kind);
  if (begins && copy !== null) tell('RebuildStarted', 'info', { kind: copy.kind, by: copy.by });
  if (kind === 'resync-change' && copy !== null) {
    tell(copy.halted ? 'CopyHalted' : 'CopyContinued', 'info', { kind: copy.kind, by: copy.by });
  }
  if ((kind === 'admit' || kind === 'bitmap-kept') && record.bitmap !== null) {
    for (const { node, bitmap } of record.writerBoots) if (!bitmap) tell('BitmapUnavailable', 'warning', { node });
  }
  if (kind !== 'resync-done') return;
  if (detail.member !== undefined) tell('SpareActive', 'info', { member: detail.member });
  const found = array.mismatchSectors;
  if (found !== null && found > 0) tell('MismatchesFound', 'warning', { mismatchSectors: found });
  tell('RebuildFinished', 'info', { by: state.self, ...(found === null ? {} : { mismatchSectors: found }) });
}
