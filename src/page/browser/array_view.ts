/** One array: what is committed, what this node's md says, and what each node reports. */
import { type ComponentChild, h } from 'preact';
import { slotPicture, stateWords } from '../../cli/array_condition.ts';
import { copyNotes, copyOf, minutesText, mismatchText, percentText, speedText } from '../../cli/copy_progress.ts';
import type { ArrayStatus, Status } from '../../outlets/status.ts';
import { facts, mark, progress, table } from './marks.ts';
import { arrayTone, memberTone, pathTone, sizeText, timeText } from './words.ts';

export function arrayView(array: ArrayStatus, status: Status): ComponentChild {
  const { record, trouble, local } = array;
  const id = `array-${record.md}`;
  const mismatches = mismatchText(array);
  return h(
    'article',
    { key: record.uuid, class: `array ${arrayTone(array)}`, 'aria-labelledby': id },
    h(
      'div',
      { class: 'array-head' },
      h('h3', { id }, record.md),
      mark(arrayTone(array), stateWords(array)),
      h('code', { class: 'slots' }, slotPicture(record)),
    ),
    copyView(array),
    trouble === null ? null : h('p', null, mark('bad', trouble)),
    mismatches === null ? null : h('p', null, mark('warn', mismatches)),
    facts([
      ['Level', record.level],
      ['Size', local === null ? `${sizeText(record.componentSectors)} a member` : sizeText(local.sizeSectors)],
      ['Access', record.owner === null ? record.access : `${record.access}, node ${record.owner}`],
      ['Writers', record.writers.length === 0 ? 'none' : record.writers.map((node) => `node ${node}`).join(', ')],
      ['Commit', `term ${record.version.term}, index ${record.version.index}`],
      ['Last check', record.lastCheck === null ? 'never' : checkText(record.lastCheck)],
      [
        'md here',
        local === null
          ? 'not assembled'
          : `${local.arrayState}, ${local.syncAction}${local.writePending ? ', gate closed' : ''}${local.held ? ', writes held' : ''}`,
      ],
      ['UUID', h('code', null, record.uuid)],
    ]),
    h('div', { class: 'pair' }, membersView(array), reportsView(array, status)),
  );
}

function copyView(array: ArrayStatus): ComponentChild | null {
  const copy = copyOf(array);
  if (copy === null) return null;
  const { kind, state, progress: done, kibPerSecond, finishSeconds } = copy;
  const words = [state === 'running' ? kind : `${kind} ${state}`];
  if (done !== null)
    words.push(`${percentText(done.perMille)} %`, `${sizeText(done.doneSectors)} of ${sizeText(done.totalSectors)}`);
  if (kibPerSecond !== null) words.push(speedText(kibPerSecond));
  if (finishSeconds !== null) words.push(`${minutesText(finishSeconds)} min left`);
  words.push(copyNotes(array.record.md, copy));
  return h(
    'div',
    { class: 'copy' },
    done === null ? null : progress(`${kind} of ${array.record.md}`, done.perMille),
    h('p', null, mark('busy', words.join(', '))),
  );
}

function checkText({ atSeconds, mismatchSectors }: { atSeconds: number; mismatchSectors: number | null }): string {
  const when = timeText(new Date(atSeconds * 1000).toISOString()).slice(0, 16);
  return `${when} UTC, ${mismatchSectors === null ? 'called off' : `${mismatchSectors} sectors differed`}`;
}

function membersView({ record, local, paths }: ArrayStatus): ComponentChild {
  const rows = record.members.map((member) => {
    const path = local?.members.find(({ uuid }) => uuid === member.uuid)?.path ?? null;
    return {
      key: member.uuid,
      cells: [
        member.slot ?? '–',
        h('code', { title: member.uuid }, paths[member.uuid] ?? 'not seen here'),
        mark(memberTone(member.role), member.role),
        path === null ? '–' : mark(pathTone(path), path),
        sizeText(member.dataSizeSectors),
      ],
    };
  });
  return table(
    `Members of ${record.md}`,
    [
      { head: 'Slot', figures: true },
      { head: 'Device here' },
      { head: 'Role' },
      { head: 'Path' },
      { head: 'Size', figures: true },
    ],
    rows,
  );
}

/** Each node's own account of the array. All of them come together at the master. */
function reportsView({ record, reports }: ArrayStatus, { lease, self }: Status): ComponentChild {
  const rows = reports.map(({ node, report }) => {
    const isBehind = report.applied === null || report.applied.index < record.version.index;
    const lost = report.lost.length === 0 ? '' : `, ${report.lost.length} lost`;
    return {
      key: String(node),
      cells: [
        node,
        report.state === 'open'
          ? mark('good', 'open')
          : report.state === 'held'
            ? mark('warn', 'writes held')
            : mark('quiet', 'absent'),
        report.applied === null
          ? mark('quiet', 'none')
          : isBehind
            ? mark('warn', `${report.applied.term}.${report.applied.index}`)
            : `${report.applied.term}.${report.applied.index}`,
        report.visible.length < record.members.length || lost !== ''
          ? mark('warn', `${report.visible.length} of ${record.members.length}${lost}`)
          : `${report.visible.length} of ${record.members.length}`,
        report.trouble ?? '–',
      ],
    };
  });
  const elsewhere =
    lease.master === null || lease.master === self
      ? null
      : h('p', { class: 'note' }, `What the other nodes report is on the master’s page, node ${lease.master}.`);
  return h(
    'div',
    null,
    table(
      `What each node reports of ${record.md}`,
      [
        { head: 'Node', figures: true },
        { head: 'Writes' },
        { head: 'Applied', figures: true },
        { head: 'Sees members' },
        { head: 'Trouble' },
      ],
      rows,
    ),
    elsewhere,
  );
}
