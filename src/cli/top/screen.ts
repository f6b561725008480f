/** The full screen of `mdmesh top`, drawn by ink. It is not in the agent's bundle: see one_binary.ts. */
import { Box, type Key, render, Text, useApp, useInput, useWindowSize } from 'ink';
import { createElement as h, type ReactElement, useEffect, useState } from 'react';
import { eventLine } from '../../outlets/cloud_event.ts';
import type { ArrayStatus, NodeStatus, Status } from '../../outlets/index.ts';
import type { CloudEvent } from '../../outlets/told.ts';
import { slotPicture, stateWords } from '../array_condition.ts';
import { copyLine, copyNotes, copyOf, mismatchText } from '../copy_progress.ts';
import { emptyTop, fittingEvents, stepTop, type Top, type TopInput } from './model.ts';

/** Calls with news until it is stopped. @returns the way to stop it */
export type News = (tell: (input: TopInput) => void) => () => void;

type Colour = 'green' | 'yellow' | 'red' | 'cyan';

/** Resolves when the viewer has left. */
export async function showTop(news: News): Promise<void> {
  const { waitUntilExit } = render(h(LiveTop, { news }), { alternateScreen: true, exitOnCtrlC: true, maxFps: 10 });
  await waitUntilExit();
}

function LiveTop({ news }: { news: News }): ReactElement {
  const [top, setTop] = useState(emptyTop);
  const size = useWindowSize();
  const { exit } = useApp();
  useEffect(() => news((input) => setTop((before) => stepTop(before, input))), [news]);
  useInput((typed, key) => {
    if (typed === 'q' || key.escape) exit();
    const named = nameOf(typed, key);
    if (named !== null) setTop((before) => stepTop(before, { type: 'key', key: named }));
  });
  return h(TopView, { top, ...size });
}

function nameOf(typed: string, key: Key): Extract<TopInput, { type: 'key' }>['key'] | null {
  if (key.leftArrow) return 'left';
  if (key.rightArrow) return 'right';
  if (key.upArrow) return 'up';
  if (key.downArrow) return 'down';
  if (key.pageUp) return 'page-up';
  if (key.pageDown) return 'page-down';
  return typed === 's' ? 'severity' : null;
}

/** One picture. Lines that are too wide are cut, and events take what is left of the height. */
export function TopView({ top, columns, rows }: { top: Top; columns: number; rows: number }): ReactElement {
  const { status } = top;
  if (status === null) return h(Text, null, top.lost ?? 'asking the agent …');
  const arrays = status.arrays.filter(({ record }) => top.array === null || record.md === top.array);
  const above = [...headLines(status, top), ...nodeLines(status), ...arrayLines(arrays)];
  // The events' title and the keys.
  const room = Math.max(1, rows - above.length - 3);
  const fitting = fittingEvents(top);
  const shown = fitting
    .slice(0, fitting.length - top.back)
    .slice(-room)
    .reverse();
  return h(
    Box,
    { flexDirection: 'column', width: columns, height: Math.max(1, rows - 1), overflow: 'hidden' },
    ...above,
    title(eventsTitle(top, fitting.length)),
    ...shown.map((event) => line(event.id, eventLine(event), severityColour(event))),
    h(Box, { key: 'fill', flexGrow: 1 }),
    h(Text, { key: 'keys', dimColor: true, wrap: 'truncate' }, 'q quit   ←→ array   ↑↓ PgUp PgDn events   s severity'),
  );
}

function headLines(status: Status, { lost }: Top): ReactElement[] {
  const { cluster, lease, self, version } = status;
  const master = lease.master === null ? 'no master known' : `node ${lease.master} leads`;
  const left =
    lease.role === 'master' ? `lease ${seconds(lease.leaseLeftMs)} left` : `grant ${seconds(lease.grantLeftMs)} left`;
  const writes = lease.grantLeftMs > 0 ? 'may write' : 'MAY NOT WRITE';
  return [
    h(
      Text,
      { key: 'head', wrap: 'truncate' },
      h(Text, { bold: true }, `${cluster.name}`),
      `  term ${lease.term}, ${master}; this is node ${self}, it ${writes}, ${left}; mdmesh ${version}`,
    ),
    lost === null ? h(Text, { key: 'lost' }, ' ') : line('lost', `✖ ${lost}`, 'red'),
  ];
}

function nodeLines({ nodes, lease }: Status): ReactElement[] {
  return [
    title('NODE  STATUS    CONNECTED  LEADS  WRITES  ADDRESS'),
    ...nodes.map((node) => {
      const columns = [
        `${node.node}${node.self ? '*' : ''}`.padEnd(4),
        `${shapes[node.status]} ${node.status}`.padEnd(8),
        (node.self ? '-' : yesNo(node.connected)).padEnd(9),
        (lease.master === node.node ? 'master' : node.eligible ? 'can' : 'no').padEnd(5),
        (node.granted === null ? '?' : yesNo(node.granted)).padEnd(6),
        node.address,
      ];
      return line(`node-${node.node}`, columns.join('  '), nodeColour(node));
    }),
    blank('after-nodes'),
  ];
}

function arrayLines(arrays: ArrayStatus[]): ReactElement[] {
  const lines = arrays.flatMap((array) => {
    const { record, trouble } = array;
    const state = stateWords(array);
    const words = [record.md.padEnd(6), record.level.padEnd(6), slotPicture(record).padEnd(8), state];
    const found = [line(record.uuid, words.join('  '), stateColour(state))];
    const copy = copyOf(array);
    if (copy !== null)
      found.push(line(`${record.uuid} copy`, `        ${copyLine(copy)}, ${copyNotes(record.md, copy)}`, 'cyan'));
    const mismatches = mismatchText(array);
    if (mismatches !== null) found.push(line(`${record.uuid} mismatches`, `        ${mismatches}`, 'yellow'));
    if (trouble !== null) found.push(line(`${record.uuid} trouble`, `        ${trouble}`, 'red'));
    return found;
  });
  return [
    title('ARRAY   LEVEL   DISKS     STATE'),
    ...(lines.length === 0 ? [line('no-arrays', 'none')] : lines),
    blank('after-arrays'),
  ];
}

function eventsTitle({ array, severity, back }: Top, count: number): string {
  const of = [array ?? 'all arrays', severity === 'info' ? 'all severities' : `${severity} and worse`];
  return `EVENTS  ${of.join(', ')}${back === 0 ? '' : `, ${back} newer`} (${count})`;
}

function line(key: string, text: string, color?: Colour): ReactElement {
  return h(Text, { key, wrap: 'truncate', ...(color === undefined ? {} : { color }) }, text);
}

function title(text: string): ReactElement {
  return h(Text, { key: text, bold: true, wrap: 'truncate' }, text);
}

function blank(key: string): ReactElement {
  return h(Text, { key }, ' ');
}

const shapes: Readonly<Record<NodeStatus['status'], string>> = {
  alive: '●',
  suspect: '▲',
  dead: '✖',
  left: '○',
  unknown: '○',
};

function nodeColour({ status }: NodeStatus): Colour {
  return status === 'alive' ? 'green' : status === 'dead' ? 'red' : 'yellow';
}

function stateColour(state: string): Colour {
  return state.startsWith('failed') ? 'red' : state === 'clean' ? 'green' : 'yellow';
}

function severityColour({ severity }: CloudEvent): Colour | undefined {
  return severity === 'critical' ? 'red' : severity === 'warning' ? 'yellow' : undefined;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function yesNo(value: boolean): string {
  return value ? 'yes' : 'no';
}
