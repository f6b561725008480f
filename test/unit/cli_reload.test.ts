/** `mdmesh reload`, `mdmesh keygen --next` and `--use-next`, `mdmesh node force-list`: what they ask, leave behind, and refuse. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openStateFiles } from '#src/agent/index.ts';
import { main } from '#src/cli/index.ts';
import { firstList } from '#src/roster/index.ts';
import { generateIdentity, loadIdentity, wishedList } from '#src/wire/index.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';
import { startFakeAgent } from './outlets_fake_agent.ts';

const directory = () => mkdtempSync(join(tmpdir(), 'mdmesh-reload-'));

async function said(
  argv: string[],
  terminal = new FakeTerminal(),
): Promise<{ code: number; out: string; err: string }> {
  const code = await main(argv, terminal);
  return { code, out: terminal.written, err: terminal.complained };
}

test('reload is the agent’s, and its words and exit code are the command’s', async (t) => {
  const agent = await startFakeAgent(t);
  const done = await said(['--socket', agent.socketPath, 'reload']);
  assert.deepEqual(done, { code: 0, out: 'nothing has changed; node list 0 counts\n', err: '' });
  assert.equal(agent.face.reloads, 1);
  agent.face.reloadConfig = async () => ({ ok: false, text: 'x.yaml is not taken up' });
  const refused = await said(['--socket', agent.socketPath, 'reload']);
  assert.equal(refused.code, 1);
  assert.match(refused.err, /x\.yaml is not taken up/);
});

test('the next key lies beside the one in use until it is used; neither is ever lost', async () => {
  const key = join(directory(), 'key');
  assert.match((await said(['keygen', '--next', '--out', key])).err, /keygen --next: ENOENT/);
  assert.equal((await said(['keygen', '--out', key, '--state-dir', directory()])).code, 0);
  const first = await loadIdentity(key);
  assert.match((await said(['keygen', '--use-next', '--out', key])).err, /mdmesh keygen --next makes it/);
  const made = await said(['keygen', '--next', '--out', key]);
  const next = await loadIdentity(`${key}.next`);
  assert.match(made.out, new RegExp(`next_peer_id: ${next.peerId}`));
  assert.equal((await loadIdentity(key)).peerId, first.peerId, 'the one in use stays');
  assert.match((await said(['keygen', '--next', '--out', key])).err, /a key is never overwritten/);
  assert.equal((await said(['keygen', '--use-next', '--out', key])).code, 0);
  assert.equal((await loadIdentity(key)).peerId, next.peerId);
  assert.equal((await loadIdentity(`${key}.old`)).peerId, first.peerId);
  assert.equal(existsSync(`${key}.next`), false);
  await said(['keygen', '--next', '--out', key]);
  assert.match((await said(['keygen', '--use-next', '--out', key])).err, /from a change before; remove it/);
  assert.equal((await loadIdentity(key)).peerId, next.peerId);
});

test('force-list forgets what was agreed on, not the vote; it asks, and not while an agent runs', async (t) => {
  const place = directory();
  const { peerId } = await generateIdentity();
  const config = join(place, 'mdmesh.yaml');
  const socket = join(place, 'agent.sock');
  writeFileSync(
    config,
    [
      'cluster: { name: demo, uuid: 6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001 }',
      `nodes: [{ id: 2, address: 10.0.0.2, peer_id: ${peerId} }]`,
      `state_dir: ${place}`,
      `socket: { path: ${socket} }`,
    ].join('\n'),
  );
  const files = await openStateFiles(place);
  await files.storeVote({ term: 7, candidate: 1, promise: null });
  const agreed = firstList(wishedList([{ id: 1, peerId }], { holderMs: 2000, voterMs: 3000 }));
  await files.storeLists({ agreed, pending: null, previous: null });
  const agent = await startFakeAgent(t);
  const running = await said(['--config', config, '--socket', agent.socketPath, 'node', 'force-list', '--really']);
  assert.match(running.err, /an agent runs here; stop it first/);
  const script = await said(['--config', config, 'node', 'force-list']);
  assert.equal(script.code, 2);
  const wrong = await said(['--config', config, 'node', 'force-list'], new FakeTerminal({ answers: ['yes'] }));
  assert.match(wrong.err, /"yes" is not "2"; nothing was changed/);
  assert.deepEqual((await (await openStateFiles(place)).loadLists())?.agreed.version, agreed.version);
  const done = await said(['--config', config, 'node', 'force-list'], new FakeTerminal({ answers: ['2'] }));
  assert.match(done.out, /nodes 2 are the list from the next start/);
  const after = await openStateFiles(place);
  assert.equal(await after.loadLists(), null);
  assert.equal((await after.loadVote())?.term, 7);
  assert.doesNotMatch(readFileSync(join(place, 'vote.json'), 'utf8'), /lists/);
});
