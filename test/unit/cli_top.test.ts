/** `mdmesh top`: what keys and news make of its state, how that is drawn, and one run on a terminal of its own. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { renderToString } from 'ink';
import { createElement } from 'react';
import { main } from '#src/cli/index.ts';
import { emptyTop, fittingEvents, stepTop, type Top, type TopInput } from '#src/cli/top/model.ts';
import { TopView } from '#src/cli/top/screen.ts';
import { cloudEvents } from '#src/outlets/index.ts';
import type { Event } from '#src/wire/messages.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';
import {
  arrayStatus,
  clusterStatus,
  copying,
  failCommit,
  memberB,
  notice,
  raid1,
  startFakeAgent,
  withRole,
} from './outlets_fake_agent.ts';

const status = clusterStatus([
  copying(withRole(raid1(), memberB, 'rebuilding')),
  arrayStatus({ ...raid1(), md: 'md1', uuid: 'aaaaaaaa-0000-4000-8000-00000000000b' }),
]);
let cursor = 0;
const told = (event: Event) => {
  cursor += 1;
  return cloudEvents(event, undefined, { cursor, appendedAt: event.time });
};
const after = (...inputs: TopInput[]): Top => inputs.reduce(stepTop, emptyTop);
const key = (name: Extract<TopInput, { type: 'key' }>['key']): TopInput => ({ type: 'key', key: name });
const drawn = (top: Top, columns = 100, rows = 30) =>
  renderToString(createElement(TopView, { top, columns, rows }), { columns });

test('it shows who leads, the nodes, copies with their bar, and the newest events on top', () => {
  const events = [...told(notice('NodeSuspect')), ...told(failCommit())];
  const text = drawn(after({ type: 'status', status }, { type: 'events', events }));
  assert.match(text, /^demo {2}term 3, node 1 leads; this is node 2, it may write, grant 1\.8 s left/);
  assert.match(text, /3 {5}✖ dead +no +no +\? +10\.0\.0\.3/);
  assert.match(text, /md0 +raid1 +\[U_\] +degraded, recovering\n +recovery \[==>\.+\] 12\.6 %, 32\.7 MiB\/s/);
  assert.match(text, /DegradedArray[\s\S]*Fail [\s\S]*NodeSuspect/);
  assert.match(text, /q quit/);
});

test('it fits: no line wider than the terminal, and not more of them', () => {
  const events = Array.from({ length: 60 }, () => told(failCommit())).flat();
  const top = after({ type: 'status', status }, { type: 'events', events });
  for (const [columns, rows] of [
    [100, 30],
    [40, 20],
    [200, 50],
  ] as const) {
    const lines = drawn(top, columns, rows).split('\n');
    assert.equal(lines.length, rows - 1);
    assert.ok(lines.every((line) => line.length <= columns));
    assert.match(lines.at(-1) ?? '', /q quit/);
  }
});

test('keys choose array and severity, and go through the events; who has gone back stays where he is', () => {
  const events = [...told(failCommit()), ...told(notice('NodeSuspect')), ...told(notice('NodeSuspect'))];
  const begun: TopInput[] = [
    { type: 'status', status },
    { type: 'events', events },
  ];
  assert.equal(after(...begun, key('right')).array, 'md0');
  assert.equal(after(...begun, key('right'), key('right'), key('right')).array, null);
  assert.equal(after(...begun, key('left')).array, 'md1');
  const ofMd0 = after(...begun, key('right'));
  assert.deepEqual(
    fittingEvents(ofMd0).map(({ data }) => data.name),
    ['Fail', 'DegradedArray'],
  );
  assert.doesNotMatch(drawn(ofMd0), /md1/);
  const critical = after(...begun, key('severity'), key('severity'), key('severity'));
  assert.deepEqual([critical.severity, fittingEvents(critical).length], ['critical', 2]);
  const back = after(...begun, key('up'), { type: 'events', events: told(notice('NodeDead')) });
  assert.equal(back.back, 2);
  assert.doesNotMatch(drawn(back), /NodeDead/);
  assert.match(drawn(stepTop(stepTop(back, key('down')), key('down'))), /NodeDead/);
  assert.equal(after(...begun, ...Array.from({ length: 9 }, () => key('up'))).back, 3, 'the oldest is the end');
  assert.equal(after(...begun, ...begun).events.length, 4, 'what comes twice is shown once');
});

test('an array that is gone is not chosen any more; an agent that is silent is told', () => {
  const gone = after({ type: 'status', status }, key('left'), { type: 'status', status: clusterStatus([]) });
  assert.equal(gone.array, null);
  assert.match(drawn(after({ type: 'status', status }, { type: 'lost', why: 'no word' })), /✖ no word/);
  assert.doesNotMatch(drawn(after({ type: 'lost', why: 'no word' }, { type: 'status', status })), /no word/);
});

test('without a terminal it prints once; --json gives status and events', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  journal.append(failCommit(), 'x');
  const plain = new FakeTerminal();
  assert.equal(await main(['--socket', socketPath, 'top'], plain), 0);
  assert.match(plain.written, /^Cluster demo[\s\S]*md0[\s\S]*\n12:01:02\.345 {2}n2 +Fail /);
  const json = new FakeTerminal({ tty: true, answers: [] });
  assert.equal(await main(['--socket', socketPath, 'top', '--json'], json), 0);
  const { status: seen, events } = JSON.parse(json.written);
  assert.deepEqual([seen.cluster.name, events.length], ['demo', 2]);
});

test('on a real terminal: live, at its size, and it leaves the terminal as it was', async (t) => {
  const agent = await startFakeAgent(t);
  const program = new URL('../../src/cli/mdmesh.ts', import.meta.url).pathname;
  const command = `stty rows 24 cols 90; tty; exec ${process.execPath} --no-warnings ${program} --socket ${agent.socketPath} top`;
  const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, TERM: 'xterm-256color', CI: 'false' },
  });
  t.after(() => child.kill('SIGKILL'));
  let screen = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    screen += text;
  });
  const until = async (what: RegExp): Promise<void> => {
    while (!what.test(screen)) await once(child.stdout, 'data');
  };
  await until(/node 1 leads/);
  assert.ok(screen.includes('\u001b[?1049h'), 'on the other screen');
  agent.journal.append(notice('NodeEvicted'), 'x');
  await until(/NodeEvicted/);
  const [terminal = ''] = /\/dev\/pts\/\d+/.exec(screen) ?? [];
  assert.ok(widest(screen) <= 90);
  screen = '';
  execFileSync('stty', ['-F', terminal, 'rows', '24', 'cols', '50']);
  // At its new size the line of keys does not fit any more.
  await until(/PgDn events {3}s [a-z]+…/);
  child.stdin.write('q');
  const [code] = await once(child, 'exit');
  assert.equal(code, 0);
  assert.ok(screen.includes('\u001b[?1049l'), 'and back');
  assert.ok(screen.includes('\u001b[?25h'), 'with its cursor');
});

function widest(screen: string): number {
  return Math.max(
    ...stripVTControlCharacters(screen)
      .split('\n')
      .map((line) => line.trimEnd().length),
  );
}
