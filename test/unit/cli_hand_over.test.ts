/** `mdmesh hand-over`: whose words and which exit code. What an agent does then is told in succession_channel.test.ts and test/lab. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { main } from '#src/cli/index.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';
import { startFakeAgent } from './outlets_fake_agent.ts';

test('it is done when another agent answers, and says which', async (t) => {
  const agent = await startFakeAgent(t);
  const { now } = agent.face;
  agent.face.handOver = async () => {
    agent.face.now = { ...now, startedAt: '2026-01-01T00:00:01.000Z', version: '9.9.9' };
    return { ok: true, text: 'process 4711 takes over' };
  };
  const terminal = new FakeTerminal();
  assert.equal(await main(['--socket', agent.socketPath, 'hand-over'], terminal), 0, terminal.complained);
  assert.equal(terminal.written, `node ${now.self}: process 4711 takes over: mdmesh 9.9.9, after ${now.version}\n`);
});

test('refused, the reason is told, and nothing is waited for', async (t) => {
  const agent = await startFakeAgent(t);
  agent.face.handOver = async () => ({ ok: false, text: 'the new agent refuses: no such key' });
  const terminal = new FakeTerminal();
  assert.equal(await main(['--socket', agent.socketPath, 'hand-over'], terminal), 1);
  assert.match(terminal.complained, /the new agent refuses: no such key/);
});
