/** Which capabilities a configuration asks for. What a process then has: test/net/privileges.test.ts. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatProblems, parseConfig } from '#src/config/index.ts';
import { capabilitiesAtStart, capabilitiesKept, type Kept, keptPrivileges } from '#src/privileges.ts';

const project = join(import.meta.dirname, '../..');
const peer = '12D3KooWFQJwC8sqPNqD8kWvxnuLuuBfFGLA2G7cAJuk8YwbtVPZ';
const always = ['CAP_IPC_LOCK', 'CAP_SYS_ADMIN', 'CAP_SYS_MODULE', 'CAP_SYS_NICE', 'CAP_SYS_RAWIO'];

function keptBy(more: string, port = 7946): Kept {
  const text = [
    'cluster: { name: demo, uuid: 5c9e6c1f-6f0d-4f0b-9a55-0d9b1a3c7e42 }',
    `nodes: [{ id: 1, address: 10.0.0.1, port: ${port}, peer_id: ${peer} }]`,
    more,
  ].join('\n');
  const result = parseConfig(text, 'test.yaml', { selfPeerId: peer });
  if ('problems' in result) assert.fail(formatProblems(result.problems));
  return keptPrivileges(result.config);
}

test('what the agent keeps follows from its configuration', () => {
  const kept = (more: string, port?: number) => keptBy(more, port).capabilities.toSorted();
  assert.deepEqual(kept(''), always);
  assert.deepEqual(kept('socket: { mode: "0660", group: disk }'), ['CAP_CHOWN', ...always]);
  assert.deepEqual(kept('', 443), [...always, 'CAP_NET_BIND_SERVICE'].sort());
  assert.deepEqual(kept('api: { listen: "127.0.0.1:80" }'), [...always, 'CAP_NET_BIND_SERVICE'].sort());
});

test('there is a way back to more only where programs of the operator may need it', () => {
  assert.equal(keptBy('').forGood, true);
  for (const more of [
    'hooks: [{ name: pager, program: [/bin/true] }]',
    'mail: { to: root@localhost }',
    'fencing: { methods: [command], command: { argv: [/bin/true] } }',
  ]) {
    assert.equal(keptBy(more).forGood, false, more);
  }
});

test('the packaged unit gives what the agent may keep or needs at its start, and no more', () => {
  const unit = readFileSync(join(project, 'config/mdmesh.service'), 'utf8');
  const given = /^CapabilityBoundingSet=(.*)$/m.exec(unit)?.[1]?.split(' ') ?? [];
  assert.deepEqual(given.sort(), [...capabilitiesKept, ...capabilitiesAtStart].sort());
});
