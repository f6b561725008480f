/** `mdmesh status` and `mdmesh nodes`: what this node's agent knows, as tables. */
import { printable } from '../outlets/cloud_event.ts';
import type { ArrayStatus, NodeStatus, QuorumStatus, Status } from '../outlets/index.ts';
import { slotPicture, stateWords } from './array_condition.ts';
import type { Context } from './context.ts';
import { copyLine, copyNotes, copyOf, mismatchText, shortCopyText } from './copy_progress.ts';
import type { Spoken } from './requests.ts';
import { type Paint, painter, table } from './table.ts';
import { wantsColour } from './terminal.ts';

export async function status(context: Context, options: Spoken): Promise<number> {
  const seen = await (await context.agent()).status();
  const paint = painter(wantsColour(context.terminal));
  context.terminal.out(options.json ? `${JSON.stringify(seen)}\n` : statusText(seen, paint));
  return 0;
}

export async function nodes(context: Context, options: Spoken): Promise<number> {
  const agent = await context.agent();
  if (options.json) {
    context.terminal.out(`${JSON.stringify(await agent.nodes())}\n`);
    return 0;
  }
  const seen = await agent.status();
  const paint = painter(wantsColour(context.terminal));
  context.terminal.out(
    nodeTable(seen, paint) + (seen.quorum === undefined ? '' : `\n${quorumText(seen.quorum, paint)}`),
  );
  return 0;
}

export function statusText(seen: Status, paint: Paint): string {
  const { cluster, lease } = seen;
  const master = lease.master === null ? 'no master known' : `master is node ${lease.master}`;
  const writes = lease.grantLeftMs > 0 ? 'may write' : paint('yellow', 'may not write');
  const driver = seen.driver === 'real' ? '' : `, ${paint('yellow', `${seen.driver} driver`)}`;
  const notes = seen.arrays.flatMap((array) => arrayNotes(array, paint));
  return [
    `Cluster ${paint('bold', cluster.name)} (${cluster.uuid}), mdmesh ${seen.version}${driver}\n`,
    `Term ${lease.term}, ${master}; this is node ${seen.self} (${lease.role}), it ${writes}\n\n`,
    nodeTable(seen, paint),
    ...listNote(seen, paint),
    ...versionNotes(seen, paint),
    '\n',
    ...(seen.quorum === undefined ? [] : [quorumText(seen.quorum, paint), '\n']),
    seen.arrays.length === 0 ? 'No arrays.\n' : arrayTable(seen.arrays, paint),
    ...(notes.length === 0 ? [] : ['\n', ...notes]),
  ].join('');
}

/** Silent while the file's list is the one that counts. */
function listNote({ list }: Status, paint: Paint): string[] {
  if (list.waitsFor === null) return [];
  const counted = `Node list ${list.generation} counts (nodes ${list.nodes.join(' ')})`;
  return [`${paint('yellow', 'note:')} ${printable(`${counted}; the one in the file: ${list.waitsFor}`)}\n`];
}

function versionNotes({ nodes: listed, version }: Status, paint: Paint): string[] {
  const apart = listed.flatMap(({ refused }) => (refused === null ? [] : [refused]));
  const others = listed.filter((node) => node.version !== null && node.version !== version && node.refused === null);
  const mixed = others.map((node) => `node ${node.node} runs mdmesh ${node.version}`);
  const notes = [...apart, ...(mixed.length === 0 ? [] : [`${mixed.join(', ')}: an upgrade is under way`])];
  return notes.map((note) => `${paint('yellow', 'note:')} ${printable(note)}\n`);
}

function nodeTable(seen: Status, paint: Paint): string {
  const rows = seen.nodes.map((node) => [
    `${node.node}${node.self ? '*' : ''}`,
    node.address,
    paintedStatus(node, paint),
    node.self ? '-' : yesNo(node.connected),
    yesNo(node.eligible),
    node.granted === null ? '?' : yesNo(node.granted),
    seen.lease.master === node.node ? 'master' : '',
  ]);
  return table(['NODE', 'ADDRESS', 'STATUS', 'CONNECTED', 'ELIGIBLE', 'WRITES', 'ROLE'], rows, paint);
}

/** Which disks decide, and what they say. */
function quorumText({ set, quorate, disks }: QuorumStatus, paint: Paint): string {
  if (set === null)
    return `${paint('yellow', 'No quorum set yet:')} until the first array is there, all nodes have to agree\n`;
  const head = quorate ? 'a majority of them answers' : paint('red', 'no majority of them answers');
  const rows = disks.map(({ path, decides, answers, holder, torn }) => [
    path,
    yesNo(decides),
    answers ? 'yes' : paint('red', 'no'),
    holder === null ? '-' : `node ${holder.node}, term ${holder.term}`,
    torn.length === 0 ? '-' : paint('red', `node ${torn.join(', ')}`),
  ]);
  const change = set.former === null ? '' : ', the set is being changed';
  return `Disks decide: ${head}${change}\n${table(['QUORUM DISK', 'DECIDES', 'ANSWERS', 'HOLDER SEEN', 'TORN'], rows, paint)}`;
}

function paintedStatus({ status: word }: NodeStatus, paint: Paint): string {
  if (word === 'alive') return paint('green', word);
  return paint(word === 'dead' ? 'red' : 'yellow', word);
}

function arrayTable(arrays: ArrayStatus[], paint: Paint): string {
  const rows = arrays.map((array) => {
    const { record } = array;
    const copy = copyOf(array);
    const state = stateWords(array);
    const colour = state.startsWith('failed') ? 'red' : state === 'clean' ? 'green' : 'yellow';
    return [
      record.md,
      record.level,
      paint(colour, state),
      slotPicture(record),
      copy === null ? '-' : shortCopyText(copy),
      record.owner === null ? record.access : `${record.access} (node ${record.owner})`,
      record.writers.join(',') || '-',
      `${record.version.term}.${record.version.index}`,
      record.uuid,
    ];
  });
  return table(['ARRAY', 'LEVEL', 'STATE', 'DISKS', 'COPY', 'ACCESS', 'WRITERS', 'VERSION', 'UUID'], rows, paint);
}

/** What does not fit into the table: a line each. */
function arrayNotes(array: ArrayStatus, paint: Paint): string[] {
  const { record, trouble } = array;
  const { md } = record;
  const copy = copyOf(array);
  const lines: string[] = [];
  if (copy !== null) lines.push(`${paint('yellow', `${md}:`)} ${copyLine(copy)}, ${copyNotes(md, copy)}\n`);
  const mismatches = mismatchText(array);
  if (mismatches !== null) lines.push(`${paint('yellow', `${md}:`)} ${mismatches}\n`);
  if (trouble !== null) lines.push(`${paint('red', `${md}:`)} ${printable(trouble)}\n`);
  return lines;
}

function yesNo(value: boolean): string {
  return value ? 'yes' : 'no';
}
