import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { main } from '#src/cli/index.ts';
import { loadIdentity } from '#src/wire/identity.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';

function place(t: TestContext): {
  keyFile: string;
  stateDir: string;
  voteFile: string;
  keygen(): Promise<[number, string, string]>;
} {
  const directory = mkdtempSync(join(tmpdir(), 'mdmesh-keygen-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const keyFile = join(directory, 'etc', 'key');
  const stateDir = join(directory, 'state');
  const keygen = async (): Promise<[number, string, string]> => {
    const terminal = new FakeTerminal();
    const code = await main(['keygen', '--out', keyFile, '--state-dir', stateDir], terminal);
    return [code, terminal.written, terminal.complained];
  };
  return { keyFile, stateDir, voteFile: join(stateDir, 'vote.json'), keygen };
}

test('keygen makes a key only its owner reads, a vote file that promised nothing, and the line to paste', async (t) => {
  const { keyFile, voteFile, keygen } = place(t);
  const [code, out] = await keygen();
  assert.equal(code, 0);
  const { peerId } = await loadIdentity(keyFile);
  assert.ok(out.includes(`  - { id: N, address: ADDRESS, peer_id: ${peerId} }\n`), out);
  assert.equal(statSync(keyFile).mode & 0o777, 0o600);
  assert.deepEqual(JSON.parse(readFileSync(voteFile, 'utf8')), {
    term: 0,
    candidate: null,
    promise: { holder: null, untilMs: 0, kernelBoot: '' },
  });
});

test('a key is never overwritten, and an old key gets no fresh vote file: its node may have voted', async (t) => {
  const { keyFile, voteFile, keygen } = place(t);
  await keygen();
  const key = readFileSync(keyFile, 'utf8');
  rmSync(voteFile);
  const [code, , err] = await keygen();
  assert.equal(code, 1);
  assert.match(err, /^mdmesh: key file .* exists; a key is never overwritten/);
  assert.equal(readFileSync(keyFile, 'utf8'), key);
  assert.ok(!existsSync(voteFile));
});

test('a vote file that is there keeps what it remembers', async (t) => {
  const { keyFile, voteFile, keygen } = place(t);
  await keygen();
  rmSync(keyFile);
  writeFileSync(voteFile, '{"term":9,"candidate":1,"promise":null}\n');
  const [code, out] = await keygen();
  assert.equal(code, 0);
  assert.match(out, /was there; left as it is/);
  assert.equal(JSON.parse(readFileSync(voteFile, 'utf8')).term, 9);
});
