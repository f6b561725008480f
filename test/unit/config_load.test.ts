import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkConfig, formatProblems, loadConfig, parseConfig } from '#src/config/index.ts';
import { keysAt } from '#src/config/parse.ts';
import { NodeSection, SECTIONS, TOP_KEYS } from '#src/config/schema.ts';

const directory = mkdtempSync(join(tmpdir(), 'mdmesh-config-'));
after(() => rmSync(directory, { recursive: true }));
const EXAMPLE = new URL('../../config/mdmesh.example.yaml', import.meta.url).pathname;
const example = readFileSync(EXAMPLE, 'utf8');
/** The example's cluster and node list alone. */
const required = example.slice(example.indexOf('cluster:'), example.indexOf('# Instead of the list above'));
const peerId = /12D3KooW\w+/.exec(example)?.[0] ?? '';

function write(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

test('the example parses, and every default it states is the default in the code', () => {
  const options = { selfPeerId: peerId };
  const stated = parseConfig(example, 'x', options);
  const silent = parseConfig(required, 'x', options);
  if ('problems' in stated) assert.fail(formatProblems(stated.problems));
  if ('problems' in silent) assert.fail(formatProblems(silent.problems));
  assert.deepEqual(stated.config, silent.config);
  assert.deepEqual(stated.notices, []);
});

test('the example’s optional settings parse too, with the defaults that their comments state', () => {
  const shown = example
    .replace('methods: [manual]', 'methods: [command, watchdog, manual]')
    .replace(/^( *)# ((?:command|watchdog): \{.*\})$/gm, '$1$2')
    .replace(/^# (self: 1)$/m, '$1');
  const silent = required.concat(
    'fencing: { methods: [command, watchdog, manual], command: { argv: [/usr/local/sbin/fence-node, --verbose] } }',
  );
  const [a, b] = [shown, silent].map((text) => parseConfig(text, 'x', { selfPeerId: peerId }));
  if (a === undefined || b === undefined || 'problems' in a || 'problems' in b) assert.fail(JSON.stringify([a, b]));
  assert.deepEqual(a.config, b.config);
});

test('the example shows every key that the code knows', () => {
  const sections = Object.entries(SECTIONS).flatMap(([key, schema]) => [key, ...keysAt(schema, [])]);
  const nested = [
    ...keysAt(SECTIONS.fencing, ['command']),
    ...keysAt(SECTIONS.fencing, ['watchdog']),
    ...keysAt(SECTIONS.arrays, ['copy']),
    ...keysAt(SECTIONS.hooks, [0]),
  ];
  assert.ok(nested.includes('window_max'), nested.join());
  for (const key of [...TOP_KEYS, ...sections, ...nested, ...keysAt(NodeSection, [])]) {
    assert.match(example, new RegExp(`(^|[\\s{])${key}:`, 'm'), `${key} is not in the example`);
  }
});

test('a file that is not there says so, with what to do', async () => {
  const result = await loadConfig(join(directory, 'none.yaml'));
  assert.ok('problems' in result);
  assert.match(
    formatProblems(result.problems),
    /none\.yaml: cannot be read: ENOENT.*; create it from config\/mdmesh\.example\.yaml/,
  );
});

test('the key file that the configuration names is read to find which node this is', async () => {
  const path = write('keyed.yaml', `${required}\nkey_file: /keys/mine\n`);
  const asked: string[] = [];
  const result = await loadConfig(path, {
    peerIdOf: async (keyFile) => {
      asked.push(keyFile);
      return peerId;
    },
  });
  assert.ok('config' in result);
  assert.equal(result.config.self, 1);
  assert.deepEqual(asked, ['/keys/mine']);
  const broken = await loadConfig(path, { peerIdOf: () => Promise.reject(new Error('is not a key')) });
  assert.ok('problems' in broken);
  assert.match(
    formatProblems(broken.problems),
    /^\S+:\d+: key_file = \/keys\/mine: cannot be used: is not a key; [^\n]*$/,
  );
});

test('a fencing command must be a program that can be run', async () => {
  const fence = write('fence.sh', '#!/bin/sh\nexit 0\n');
  const path = write('command.yaml', `${required}\nfencing: { methods: [command], command: { argv: [${fence}] } }\n`);
  chmodSync(fence, 0o644);
  const refused = await checkConfig(path, { selfPeerId: peerId });
  assert.equal(refused.exitCode, 1);
  assert.match(refused.text, /fencing\.command\.argv\[0\] = \S+fence\.sh: is no program that can be run here/);
  assert.match(refused.text, /1 problem; the agent would not start\n$/);
  chmodSync(fence, 0o755);
  const accepted = await checkConfig(path, { selfPeerId: peerId });
  assert.equal(accepted.exitCode, 0, accepted.text);
  assert.match(accepted.text, /cluster demo .*3 nodes, this one is node 1/);
  const ofDirectory = write(
    'directory.yaml',
    `${required}\nfencing: { methods: [command], command: { argv: [${directory}] } }\n`,
  );
  assert.equal((await checkConfig(ofDirectory, { selfPeerId: peerId })).exitCode, 1);
});

test('a watchdog must be a device, unless nothing real is driven', async () => {
  const settings = `${required}\nfencing: { methods: [watchdog], watchdog: { device: ${directory}/no-dog } }\n`;
  const refused = await checkConfig(write('dog.yaml', settings), { selfPeerId: peerId });
  assert.match(refused.text, /no-dog is no device here: this node could not promise to reset itself/);
  assert.equal(
    (await checkConfig(write('sim.yaml', `${settings}driver: simulated\n`), { selfPeerId: peerId })).exitCode,
    0,
  );
});

test('the token of the API is a secret that others cannot read, and long enough not to be guessed', async () => {
  const token = write('token', `${'5'.repeat(32)}\n`);
  const path = write('api.yaml', `${required}\napi: { listen: "127.0.0.1:7947", token_file: ${token} }\n`);
  const told = async () => (await checkConfig(path, { selfPeerId: peerId })).text;
  chmodSync(token, 0o640);
  assert.match(await told(), /api\.token_file = .*mode 0640: others can read the token; run chmod 0600/);
  chmodSync(token, 0o600);
  assert.doesNotMatch(await told(), /token_file/);
  for (const wrong of ['', '5'.repeat(31), `${'5'.repeat(32)} ${'5'.repeat(32)}`]) {
    writeFileSync(token, wrong);
    assert.match(await told(), /does not hold one token of at least 32 letters and digits; make it with `openssl rand/);
  }
  rmSync(token);
  assert.match(await told(), /api\.token_file = .*ENOENT/);
});
