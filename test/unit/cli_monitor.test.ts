/** `mdmesh monitor`, as it is run instead of `mdadm --monitor`. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { main } from '#src/cli/index.ts';
import { readMdadmConf } from '#src/cli/monitor.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';
import {
  arrayStatus,
  clusterStatus,
  type FakeAgent,
  failCommit,
  memberB,
  notice,
  raid1,
  startFakeAgent,
  withFaulty,
} from './outlets_fake_agent.ts';

/** A program that keeps the words it is called with, one call a line. */
function program({ directory }: FakeAgent, name = 'hook'): { path: string; calls(): string[] } {
  const path = join(directory, name);
  writeFileSync(path, '#!/bin/sh\necho "$@" >> "$0.calls"\n');
  chmodSync(path, 0o755);
  const calls = `${path}.calls`;
  return { path, calls: () => (existsSync(calls) ? readFileSync(calls, 'utf8').trimEnd().split('\n') : []) };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

const degraded = () =>
  clusterStatus([arrayStatus(withFaulty(raid1(), memberB)), arrayStatus({ ...raid1(), md: 'md1' })]);

test('--oneshot tells NewArray of each, DegradedArray where it is so, and ends', async (t) => {
  const agent = await startFakeAgent(t);
  agent.face.now = degraded();
  const terminal = new FakeTerminal();
  assert.equal(await main(['--socket', agent.socketPath, 'monitor', '--oneshot'], terminal), 0);
  assert.match(terminal.written, /NewArray +md0 .*\n.*DegradedArray +md0 +raid1 \[U_\]\n.*NewArray +md1 .*\n$/);
  const { path, calls } = program(agent);
  assert.equal(await main(['--socket', agent.socketPath, 'monitor', '-1', '--alert', path, '/dev/md0'], terminal), 0);
  assert.deepEqual(calls(), ['NewArray /dev/md0', 'DegradedArray /dev/md0']);
});

test('--test with --oneshot gives a TestMessage for each array to the program; a failing one is said', async (t) => {
  const agent = await startFakeAgent(t);
  const { path, calls } = program(agent);
  const terminal = new FakeTerminal();
  const words = ['--socket', agent.socketPath, 'monitor', '--test', '--oneshot', '--program', path];
  assert.equal(await main(words, terminal), 0);
  assert.deepEqual(calls(), ['TestMessage /dev/md0', 'NewArray /dev/md0']);
  writeFileSync(path, '#!/bin/sh\nexit 4\n');
  await main(words, terminal);
  assert.match(terminal.complained, /hook: TestMessage md0: exit 4/);
});

test('--test alone tries the hooks and the mail of the configuration', async (t) => {
  const agent = await startFakeAgent(t);
  const [hook, sendmail] = [program(agent), program(agent, 'sendmail')];
  const example = readFileSync(new URL('../../config/mdmesh.example.yaml', import.meta.url), 'utf8');
  const config = join(agent.directory, 'mdmesh.yaml');
  const required = example.slice(example.indexOf('cluster:'), example.indexOf('# Instead of the list above'));
  const alerts = `hooks: [{ name: pager, program: [${hook.path}], types: [Fail] }]\nmail: { to: root, command: [${sendmail.path}, -t] }\n`;
  writeFileSync(config, `${required}\nsocket: { path: ${agent.socketPath} }\n${alerts}`);
  const terminal = new FakeTerminal();
  assert.equal(await main(['--config', config, 'monitor', '--test', '--oneshot'], terminal), 0, terminal.complained);
  assert.deepEqual(hook.calls(), ['TestMessage /dev/md0', 'NewArray /dev/md0']);
  assert.deepEqual(sendmail.calls(), ['-t', '-t']);
});

test('it follows the agent over a restart, tells mdadm’s events of the arrays that it was given, and ends on an interrupt', async (t) => {
  const agent = await startFakeAgent(t);
  const { path, calls } = program(agent);
  const terminal = new FakeTerminal();
  const ended = main(
    ['--socket', agent.socketPath, 'monitor', '--program', path, '--increment', '40', 'md0'],
    terminal,
  );
  await until(() => agent.journal.listenerCount() > 0);
  agent.journal.append(notice('NodeDead'), 'x');
  agent.journal.append(notice('Rebuild20', 'md0'), 'x');
  agent.journal.append(notice('RebuildStarted', 'md1'), 'x');
  agent.journal.append(failCommit(), 'x');
  await until(() => calls().length === 2);
  assert.deepEqual(calls(), ['Fail /dev/md0 /dev/ubdb', 'DegradedArray /dev/md0']);
  await agent.stop();
  await terminal.until('waiting for it');
  agent.journal.append(notice('Rebuild40', 'md0'), 'x');
  await agent.start();
  await until(() => calls().length === 3);
  assert.equal(calls()[2], 'Rebuild40 /dev/md0');
  terminal.interrupt();
  assert.equal(await ended, 0);
});

test('in the background it writes the number of its process where it is told to, and takes that away when it ends', async (t) => {
  const agent = await startFakeAgent(t);
  const { path, calls } = program(agent);
  const pidFile = join(agent.directory, 'monitor.pid');
  const mdmesh = resolve(import.meta.dirname, '../../src/cli/mdmesh.ts');
  const words = ['--socket', agent.socketPath, 'monitor', '--daemonise', '--pid-file', pidFile, '--program', path];
  const parent = spawn(process.execPath, ['--no-warnings', mdmesh, ...words], { stdio: 'inherit' });
  const [code] = await once(parent, 'exit');
  assert.equal(code, 0);
  const pid = Number(readFileSync(pidFile, 'utf8'));
  assert.ok(pid > 1);
  await until(() => agent.journal.listenerCount() > 0);
  agent.journal.append(failCommit(), 'x');
  await until(() => calls().length === 2);
  process.kill(pid, 'SIGTERM');
  await until(() => !existsSync(pidFile));
});

test('what cannot be meant is refused', async (t) => {
  const { socketPath } = await startFakeAgent(t);
  const refused = async (...words: string[]) => {
    const terminal = new FakeTerminal();
    assert.equal(await main(['--socket', socketPath, 'monitor', '--oneshot', ...words], terminal), 2, words.join(' '));
    return terminal.complained;
  };
  assert.match(await refused('--program', 'hook.sh'), /is not an absolute path/);
  assert.match(await refused('--mail', '-OQueueDirectory=/tmp'), /is not one mail address/);
  assert.match(await refused('--mail', 'a@example.org, b@example.org'), /is not one mail address/);
  assert.match(await refused('--daemonise'), /nobody would be told/);
});

test('mdadm.conf’s words for its monitor', () => {
  const text =
    '# MAILADDR no\nDEVICE partitions\nmailaddr root # who\nMAILFROM md@example.org\nPROGRAM /usr/sbin/handle\nMAILADDR second\n';
  assert.deepEqual(readMdadmConf(text), { MAILADDR: 'root', MAILFROM: 'md@example.org', PROGRAM: '/usr/sbin/handle' });
});
