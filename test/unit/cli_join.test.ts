/** From nothing to the same configuration on three nodes, and everything that join should not believe. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as pathOf } from 'node:path';
import { type TestContext, test } from 'node:test';
import { main } from '#src/cli/index.ts';
import { readInvitation, wordOf } from '#src/cli/invitation.ts';
import { loadConfig } from '#src/config/index.ts';
import { loadIdentity } from '#src/wire/identity.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';

interface Said {
  code: number;
  out: string;
  err: string;
  /** The word in the command that was printed; '' if none was. */
  word: string;
}

class Node {
  readonly directory: string;
  readonly id: number;

  constructor(t: TestContext, id: number) {
    this.id = id;
    this.directory = mkdtempSync(pathOf(tmpdir(), 'mdmesh-join-'));
    t.after(() => rmSync(this.directory, { recursive: true, force: true }));
  }

  get file(): string {
    return pathOf(this.directory, 'etc/mdmesh.yaml');
  }

  get keyFile(): string {
    return pathOf(this.directory, 'etc/key');
  }

  async run(verb: string, words: string[], self: number | null = this.id, answers?: string[]): Promise<Said> {
    const terminal = new FakeTerminal(answers === undefined ? {} : { answers });
    const places = ['--key', this.keyFile, '--state-dir', pathOf(this.directory, 'state')];
    const which = self === null ? [] : ['--self', `${self}`];
    const code = await main(['--config', this.file, verb, ...words, ...places, ...which], terminal);
    const word = /mdmesh join (\S+)/.exec(terminal.written)?.[1] ?? '';
    return { code, out: terminal.written, err: terminal.complained, word };
  }
}

const ADDRESSES = ['10.0.0.1', '10.0.0.2:7000', '[fd00::3]:7001'];
const INIT = ['--name', 'prod', '--node', ...ADDRESSES];
const three = (t: TestContext) => [1, 2, 3].map((id) => new Node(t, id)) as [Node, Node, Node];

test('init, join, join, and the whole list to the two before: one configuration that each agent takes', async (t) => {
  const [n1, n2, n3] = three(t);
  const first = await n1.run('init', INIT);
  assert.equal(first.code, 0, first.err);
  assert.match(first.out, /Now run on node 2 \(10\.0\.0\.2\):/);
  assert.ok(!existsSync(n1.file), 'a list with holes is no configuration');
  const second = await n2.run('join', [first.word]);
  assert.match(second.out, /Now run on node 3 \(fd00::3\):/);
  const third = await n3.run('join', [second.word]);
  assert.match(third.out, /Run on node 1 \(10\.0\.0\.1\), node 2 \(10\.0\.0\.2\)/);
  for (const node of [n1, n2]) assert.equal((await node.run('join', [third.word])).code, 0);
  for (const node of [n1, n2, n3]) {
    assert.equal(statSync(node.file).mode & 0o777, 0o600);
    const loaded = await loadConfig(node.file, { peerIdOf: async (file) => (await loadIdentity(file)).peerId });
    assert.ok('config' in loaded, JSON.stringify(loaded));
    assert.equal(loaded.config.self, node.id);
    assert.deepEqual(
      loaded.config.nodes.map(({ address, port }) => `${address} ${port}`),
      ['10.0.0.1 7946', '10.0.0.2 7000', 'fd00::3 7001'],
    );
  }
  // Once more changes nothing.
  const before = readFileSync(n1.file, 'utf8');
  assert.equal((await n1.run('join', [third.word])).code, 0);
  assert.equal(readFileSync(n1.file, 'utf8'), before);
});

test('what is not given is asked for; where nobody can be asked, the flag is named', async (t) => {
  const node = new Node(t, 1);
  const said = await node.run('init', [], 1, ['prod', '10.0.0.1', '10.0.0.2', '']);
  assert.equal(said.code, 0, said.err);
  assert.deepEqual(
    readInvitation(said.word).nodes.map(({ address }) => address),
    ['10.0.0.1', '10.0.0.2'],
  );
  const alone = await new Node(t, 1).run('init', []);
  assert.deepEqual([alone.code, alone.err], [2, 'mdmesh: init: nobody can be asked here; give --name\n']);
});

test('which node this is follows from its addresses, or has to be said', async (t) => {
  const node = new Node(t, 2);
  const by = await node.run('init', ['--name', 'prod', '--node', '198.51.100.1', '127.0.0.1'], null);
  assert.match(by.out, /This is node 2 of 2/, by.err);
  const none = await new Node(t, 1).run('init', ['--name', 'prod', '--node', '198.51.100.1', '203.0.113.2'], null);
  assert.equal(none.code, 2);
  assert.match(none.err, /which node is this\? none of the list .* say it with --self/);
  const wrong = await new Node(t, 1).run('init', INIT, 4);
  assert.match(wrong.err, /--self 4: there is no such node in the list/);
});

test('a list that the configuration would not take is refused before a key is made', async (t) => {
  for (const [addresses, words] of [
    [['10.0.0.1', '10.0.0.1'], /is node 1's already/],
    [['node1', '10.0.0.2'], /address node1 of node 1 is no IP address/],
    [['10.0.0.1:0', '10.0.0.2'], /is no address; write ADDRESS/],
  ] as const) {
    const node = new Node(t, 1);
    const said = await node.run('init', ['--name', 'prod', '--node', ...addresses]);
    assert.equal(said.code, 2);
    assert.match(said.err, words);
    assert.ok(!existsSync(node.keyFile));
  }
  const named = await new Node(t, 1).run('init', ['--name', 'a b', '--node', ...ADDRESSES]);
  assert.match(named.err, /is not a cluster name/);
});

test('an invitation that is cut or changed is refused', async (t) => {
  const [n1, n2] = three(t);
  const { word } = await n1.run('init', INIT);
  const changed = word.replace(/\.(.)/, (_, letter) => `.${letter === 'f' ? 'e' : 'f'}`);
  for (const [wrong, words] of [
    [word.slice(0, -4), /its checksum is/],
    [changed, /its checksum is/],
    [word.split('.')[0] ?? '', /is no invitation/],
    ['hello', /is no invitation; copy the whole word/],
  ] as const) {
    const said = await n2.run('join', [wrong]);
    assert.equal(said.code, 2, wrong);
    assert.match(said.err, words);
    assert.ok(!existsSync(n2.keyFile));
  }
});

test('nobody joins as a node that another machine is, nor with a key that was copied', async (t) => {
  const [n1, n2, n3] = three(t);
  const first = await n1.run('init', INIT);
  const second = await n2.run('join', [first.word]);
  const twice = await n3.run('join', [second.word], 2);
  assert.equal(twice.code, 1);
  assert.match(twice.err, /node 2 is in the list with peer ID 12D3KooW\w+, but this machine has no key/);
  assert.ok(!existsSync(n3.keyFile));
  const copied = await n2.run('join', [second.word], 3);
  assert.match(
    copied.err,
    /its peer ID 12D3KooW\w+ is in the list as node 2, this is to be node 3; keys are never copied/,
  );
});

test('a configuration that is there is never overwritten', async (t) => {
  const node = new Node(t, 1);
  assert.equal((await node.run('init', ['--name', 'prod', '--node', '10.0.0.1'])).code, 0);
  writeFileSync(node.file, '# mine\n');
  const said = await node.run('join', [wordOf(await single(node))]);
  assert.equal(said.code, 1);
  assert.match(said.err, /is there, and says something else; move it away/);
  assert.equal(readFileSync(node.file, 'utf8'), '# mine\n');
});

async function single(node: Node): Promise<Parameters<typeof wordOf>[0]> {
  const { peerId } = await loadIdentity(node.keyFile);
  const uuid = '5c9e6c1f-6f0d-4f0b-9a55-0d9b1a3c7e42';
  return { name: 'prod', uuid, nodes: [{ id: 1, address: '10.0.0.1', port: 7946, peerId }] };
}
