/** Words of a bad node, a bad disk or a program in everything that the command says: they steer no terminal. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { main } from '#src/cli/index.ts';
import { decodeSuperblock, encodeSuperblock } from '#src/md/superblock.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';
import { raid1, startFakeAgent } from './outlets_fake_agent.ts';

/** A title that is set, a screen erased, a line overwritten, text that is hidden, C1's own escape, a bell. */
const hostile = '\u001b]0;owned\u0007\u001b[2J\r\u009b2J\u001b[8m\u0000\u007f';
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is searched for
const controls = /[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f-\u009f]|\u001b(?!\[(?:[012]|3[0-7])m)/;

function said(terminal: FakeTerminal): string {
  return terminal.written + terminal.complained;
}

test('whatever the agent answers, no command passes a control character on', async (t) => {
  const agent = await startFakeAgent(t);
  const now = agent.face.status();
  const [array] = now.arrays;
  assert.ok(array);
  agent.face.now = {
    ...now,
    version: `0.1${hostile}`,
    cluster: { ...now.cluster, name: `c${hostile}` },
    arrays: [{ ...array, record: { ...raid1(), name: hostile.slice(0, 32) }, trouble: `t${hostile}` }],
  };
  agent.face.answer = () => ({ ok: true, text: `done${hostile}` });
  const commands = [
    ['status'],
    ['status', '--json'],
    ['detail', 'md0'],
    ['nodes'],
    ['mdstat'],
    ['stop', 'md0'],
    ['sync-limit', 'md0', '5M'],
    ['grow', 'md0', '--size', 'max'],
    ['manage', 'md0', '--add', '/dev/sdx'],
  ];
  for (const tty of [false, true]) {
    for (const argv of commands) {
      const terminal = new FakeTerminal({ tty });
      await main([...argv, '--socket', agent.socketPath], terminal);
      assert.notEqual(said(terminal), '', argv.join(' '));
      assert.doesNotMatch(said(terminal), controls, argv.join(' '));
      if (argv.includes('--json')) assert.equal(JSON.parse(terminal.written).version, `0.1${hostile}`);
    }
  }
  agent.face.answer = () => ({ ok: false, text: `refused${hostile}` });
  const terminal = new FakeTerminal();
  assert.equal(await main(['stop', 'md0', '--socket', agent.socketPath], terminal), 1);
  assert.match(terminal.complained, /refused\\u001b\]0;owned/);
  assert.doesNotMatch(said(terminal), controls);
});

test('a disk’s name for itself does not steer the terminal of who examines it', async (t) => {
  const agent = await startFakeAgent(t);
  const stock = new Uint8Array(4096);
  const fixture = join(import.meta.dirname, '../fixtures/superblocks/raid1-plain.1.b64');
  stock.set(Buffer.from(readFileSync(fixture, 'latin1'), 'base64'));
  const setName = 'host:\u001b]0;x\u0007\u001b[2J';
  const superblock = decodeSuperblock(
    encodeSuperblock({ ...decodeSuperblock(stock, '/dev/sdx'), setName }),
    '/dev/sdx',
  );
  agent.face.disks = [
    {
      path: '/dev/sdx',
      devno: '8:16',
      sizeSectors: 2048,
      logicalBlockBytes: 512,
      superblock,
      mesh: null,
      problem: `torn${hostile}`,
      holders: [],
    },
  ];
  const terminal = new FakeTerminal();
  await main(['examine', '/dev/sdx', '--socket', agent.socketPath], terminal);
  assert.match(terminal.written, /host:\\u001b\]0;x/);
  assert.doesNotMatch(said(terminal), controls);
});
