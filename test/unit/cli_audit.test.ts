/** `mdmesh audit`: words, exit codes and formats, over journals of a small cluster in files. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { main } from '#src/cli/index.ts';
import { openJournal } from '#src/journal/index.ts';
import { decodeUnverified, generateIdentity, seal } from '#src/wire/index.ts';
import type { Event, EventBody } from '#src/wire/messages.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';
import { CLUSTER } from './journal_sample.ts';

const folder = mkdtempSync(join(tmpdir(), 'mdmesh-cli-audit-'));
after(() => rmSync(folder, { recursive: true }));
const identities = await Promise.all([1, 2, 3].map(() => generateIdentity()));
const state = join(folder, 'state');
const config = join(folder, 'mdmesh.yaml');
writeFileSync(
  config,
  [
    `cluster: { name: demo, uuid: ${CLUSTER} }`,
    'nodes:',
    ...identities.map(
      ({ peerId }, index) => `  - { id: ${index + 1}, address: 10.0.0.${index + 1}, peer_id: ${peerId} }`,
    ),
    `state_dir: ${state}`,
    '',
  ].join('\n'),
);

function notice(name: string, subject: string, why = ''): EventBody {
  return { type: 'notice', name, severity: 'warning', subject, detail: { why } };
}

const told: [number, string, EventBody][] = [
  [1, '2026-01-01T10:00:00.000Z', notice('MasterElected', 'demo')],
  [2, '2026-01-02T10:00:00.000Z', notice('Odd', 'md0', '=cmd|"x", \u001b[31mred')],
  [2, '2026-01-03T10:00:00.000Z', { type: 'vote', term: 4, candidate: 1 }],
  [3, '2026-01-04T10:00:00.000Z', notice('NodeDead', 'node/2')],
];
const journal = await openJournal({
  dir: state,
  now: () => new Date(),
  decode: decodeUnverified,
  log: () => undefined,
});
for (const [index, [origin, time, body]] of told.entries()) {
  const boot = `00000000-0000-4000-8000-00000000000${origin}`;
  const sequence = told.slice(0, index + 1).filter(([node]) => node === origin).length;
  const event: Event = { cluster: CLUSTER, origin, boot, bootNumber: 1, sequence, time, term: 4, body };
  const identity = identities[origin - 1];
  assert.ok(identity);
  journal.append(event, Buffer.from(await seal(identity, event)).toString('base64'));
}
await journal.close();

async function audit(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const terminal = new FakeTerminal();
  const code = await main(['--config', config, 'audit', ...words], terminal);
  return { code, out: terminal.written, err: terminal.complained };
}

test('verify: 0 proved, of this node’s own journal unless others are named; the verdict as text and as JSON', async () => {
  const { code, out, err } = await audit('verify');
  assert.deepEqual([code, err], [0, '']);
  assert.match(out, /proved: all 4 entries\n$/);
  const json = await audit('verify', '--json', `1=${state}`);
  assert.equal(json.code, 0);
  const verdict = JSON.parse(json.out);
  assert.equal(verdict.outcome, 'proved');
  assert.deepEqual(
    verdict.journals.map(({ journal: name, entries, signed }: Record<string, unknown>) => [name, entries, signed]),
    [['node 1', 4, 0]],
  );
});

test('verify: 3 where something is not proved, 1 where something is broken, with the place and the reason', async () => {
  const open = await audit('verify', '--peers', `1=${state}`);
  assert.equal(open.code, 3);
  assert.match(
    open.out,
    /OPEN coverage: node 1: its last 4 events are under no checkpoint that another node cosigned\n/,
  );
  assert.match(open.out, /OPEN coverage: the journal of node 3 is not among these files\n/);
  const copy = join(folder, 'copy');
  mkdirSync(copy);
  const file = join(copy, 'journal.jsonl');
  writeFileSync(file, readFileSync(join(state, 'journal.jsonl'), 'utf8').replace('"cursor":3', '"cursor":7'));
  const broken = await audit('verify', copy);
  assert.equal(broken.code, 1);
  assert.match(
    broken.out,
    /BROKEN chain: \S+, \S+journal\.jsonl:3, cursor 7: its bytes hash to .*; nothing behind it is proved\n/,
  );
  assert.match(broken.out, /\nbroken: these journals are not what their nodes wrote/);
});

test('verify: 2 and words for what is no journal of this cluster', async () => {
  assert.match(
    (await audit('verify', join(folder, 'none'))).err,
    /none: there is no such file or directory; name a journal/,
  );
  assert.match(
    (await audit('verify', folder)).err,
    /there is no journal\.jsonl in it; name the agent's state directory/,
  );
  const stranger = await audit('verify', `9=${state}`);
  assert.equal(stranger.code, 2);
  assert.match(stranger.err, /node 9 is not in the node list of \S+ \(1, 2, 3\)/);
});

test('show: the events that were asked for', async () => {
  const names = async (...words: string[]) => {
    const { code, out } = await audit('show', '--json', ...words);
    assert.equal(code, 0);
    return out
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line).data.name);
  };
  assert.deepEqual(await names(), ['MasterElected', 'Odd', 'Voted', 'NodeDead']);
  assert.deepEqual(await names('--since', '2026-01-02'), ['Odd', 'Voted', 'NodeDead']);
  assert.deepEqual(await names('--until', '2026-01-02T10:00:00Z'), ['MasterElected']);
  assert.deepEqual(await names('--since', '2026-01-02T11:00:00+01:00', '--until', '2026-01-03 10:00'), ['Odd']);
  assert.deepEqual(await names('--node', '2'), ['Odd', 'Voted', 'NodeDead'], 'of it, or about it');
  assert.deepEqual(await names('--array', '/dev/md0'), ['Odd']);
  assert.deepEqual(await names('--type', 'nodedead'), ['NodeDead']);
  assert.deepEqual(await names('--type', 'io.mdmesh.cluster.voted'), ['Voted']);
  assert.deepEqual(await names('--type', 'vote'), ['Voted']);
  const text = await audit('show', '--array', 'md0');
  assert.match(text.out, /^2026-01-02 10:00:00\.000 {2}n2 {3}Odd/);
  assert.ok(!text.out.includes('\u001b'), 'words of a peer do not colour the terminal');
  const wrong = await audit('show', '--since', 'yesterday');
  assert.equal(wrong.code, 2);
  assert.match(wrong.err, /yesterday: not a time; write 2026-01-31/);
});

test('export: JSON lines with the envelopes, and CSV that is whole and no formula', async () => {
  const json = await audit('export');
  assert.equal(json.code, 0);
  const rows = json.out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.equal(rows.length, 4);
  assert.equal(decodeUnverified(rows[3].sealed).sequence, 1);
  assert.match(rows[0].hash, /^[0-9a-f]{64}$/);
  const csv = await audit('export', '--format', 'csv', '--type', 'Odd');
  const [head, row, ...rest] = csv.out.trimEnd().split('\n');
  assert.equal(head, 'time,node,name,type,severity,subject,term,text,member,id,file,cursor,hash,appendedAt');
  assert.deepEqual(rest, []);
  assert.match(
    row ?? '',
    /^2026-01-02T10:00:00\.000Z,2,Odd,io\.mdmesh\.array\.odd,warning,md0,4,"why==cmd\|""x"", \?\[31mred",/,
  );
});

test('show: what is no entry is told, and the rest shown', async () => {
  const file = join(folder, 'spoilt.jsonl');
  const lines = readFileSync(join(state, 'journal.jsonl'), 'utf8').split('\n');
  writeFileSync(file, lines.toSpliced(2, 0, 'hello').join('\n'));
  const { code, out, err } = await audit('show', file);
  assert.equal(code, 1);
  assert.equal(out.trimEnd().split('\n').length, 4);
  assert.match(err, /spoilt\.jsonl: line 3 is no journal entry; see `mdmesh audit verify`/);
});
