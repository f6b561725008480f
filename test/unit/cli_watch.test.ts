import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { main } from '#src/cli/index.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';
import { failCommit, memberB, notice, startFakeAgent } from './outlets_fake_agent.ts';

/** A watch under way. */
function startWatch(...argv: string[]): { terminal: FakeTerminal; interrupt(): Promise<number> } {
  const terminal = new FakeTerminal();
  const ended = main(['watch', ...argv], terminal);
  return {
    terminal,
    interrupt() {
      terminal.interrupt();
      return ended;
    },
  };
}

test('watch shows the state, then events as they happen, and ends on an interrupt with 0', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  const watch = startWatch('--socket', socketPath);
  await watch.terminal.until('# events from cursor 0 on\n');
  assert.match(watch.terminal.written, /^# demo: term 3, master node 1, 2 of 3 nodes alive, 1 arrays\n/);
  journal.append(failCommit(), 'x');
  await watch.terminal.until('DegradedArray');
  const lines = watch.terminal.written.split('\n');
  assert.equal(lines[2], `12:01:02.345  n2   Fail               md0       member ubdb (${memberB})`);
  assert.equal(await watch.interrupt(), 0);
  assert.equal(watch.terminal.complained, '');
});

test('watch --json prints the stream’s lines as they are', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  journal.append(notice('NodeSuspect'), 'x');
  journal.append(notice('NodeDead'), 'x');
  const watch = startWatch('--socket', socketPath, '--json', '--after', '1');
  await watch.terminal.until('\n');
  const told = JSON.parse(watch.terminal.written);
  assert.deepEqual([told.type, told.cursor], ['io.mdmesh.node.dead', 2]);
  assert.equal(await watch.interrupt(), 0);
});

test('watch outlives the agent: it waits, and goes on at its cursor without repeating or losing any', async (t) => {
  const agent = await startFakeAgent(t);
  const watch = startWatch('--socket', agent.socketPath);
  await watch.terminal.until('# events from');
  agent.journal.append(notice('NodeSuspect'), 'x');
  await watch.terminal.until('NodeSuspect');
  await agent.stop();
  await watch.terminal.until('went away; waiting for it');
  agent.journal.append(notice('NodeDead'), 'x');
  agent.journal.append(notice('NodeEvicted'), 'x');
  await agent.start();
  await watch.terminal.until('NodeEvicted');
  assert.match(watch.terminal.complained, /is back/);
  const names = watch.terminal.written
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(/ +/)[2]);
  assert.deepEqual(names, ['NodeSuspect', 'NodeDead', 'NodeEvicted']);
  assert.equal(watch.terminal.written.split('# demo:').length, 2, 'one snapshot');
  assert.equal(await watch.interrupt(), 0);
});

test('watch that waits for its agent can be interrupted as well', async (t) => {
  const agent = await startFakeAgent(t);
  const watch = startWatch('--socket', agent.socketPath);
  await watch.terminal.until('# events from');
  await agent.stop();
  await watch.terminal.until('waiting for it');
  assert.equal(await watch.interrupt(), 0);
});

test('a cursor that the journal no longer has is said, and a snapshot comes instead', async (t) => {
  const { socketPath, journal } = await startFakeAgent(t);
  for (const name of ['A', 'B', 'C']) journal.append(notice(name), 'x');
  journal.rotatedTo = 2;
  const watch = startWatch('--socket', socketPath, '--after', '1');
  await watch.terminal.until('# events from cursor 3 on\n');
  assert.match(watch.terminal.written, /^# cursor 1 is not in the journal any more/);
  assert.equal(await watch.interrupt(), 0);
});

test('Ctrl-C on the real program ends it with 0', async (t) => {
  const { socketPath } = await startFakeAgent(t);
  const program = new URL('../../src/cli/mdmesh.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [program, 'watch', '--socket', socketPath], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  child.kill('SIGINT');
  const [code, signal] = await once(child, 'exit');
  assert.deepEqual([code, signal], [0, null]);
});
