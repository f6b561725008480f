/** What of a file an agent takes up while it runs: each part of it counts from then on, or is refused in words. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Config, parseConfig, takenUp, whyNotReloaded } from '#src/config/index.ts';

const PEER = '12D3KooWFQJwC8sqPNqD8kWvxnuLuuBfFGLA2G7cAJuk8YwbtVPZ';
const text = [
  'cluster: { name: demo, uuid: 5c9e6c1f-6f0d-4f0b-9a55-0d9b1a3c7e42 }',
  `nodes: [{ id: 1, address: 10.77.0.1, peer_id: ${PEER} }]`,
].join('\n');
const read = parseConfig(text, 'mdmesh.yaml', { selfPeerId: PEER });
assert.ok('config' in read, JSON.stringify(read));
const now = read.config;

/** Says nothing: a path for messages, and a name for times that stand beside it. */
const SILENT = ['file', 'profile'];

test('a section that changes is taken up, or refused: none is passed over', () => {
  for (const key of Object.keys(now) as (keyof Config)[]) {
    const next = { ...now, [key]: 'another' } as unknown as Config;
    if (key === 'nodes') Object.assign(next, { nodes: [...now.nodes, { id: 9, address: '::1', port: 1, peerId: '' }] });
    if (key === 'fencing') Object.assign(next, { fencing: { ...now.fencing, acceptDataLoss: true } });
    if (key === 'quorum') Object.assign(next, { quorum: { by: 'disks', witness: null } });
    const told = takenUp(now, next).length + whyNotReloaded(now, next).length;
    assert.equal(told > 0, !SILENT.includes(key), key);
  }
});

for (const [what, change, says] of [
  [
    'who decides',
    { quorum: { by: 'disks', witness: null } },
    /^quorum: .* from nodes to disks .*stop the agents of all/,
  ],
  ['the witness', { quorum: { by: 'nodes', witness: '/dev/sdw' } }, /^quorum_witness: .* to \/dev\/sdw .*restart/],
  ['the page', { api: { address: '::1', port: 80, tokenFile: null } }, /^api: cannot change from .*restart/],
  ['mail', { mail: { to: 'root' } }, /^mail: cannot change from null .*restart/],
  [
    'reservations',
    { fencing: { ...now.fencing, methods: ['reservation'] } },
    /^fencing.methods: reservations: .* from false to true .*restart/,
  ],
  ['the watchdog', { fencing: { ...now.fencing, watchdog: { device: '/dev/wd' } } }, /^fencing.watchdog: .*\/dev\/wd/],
] as const) {
  test(`${what}: refused, with both values and what to do instead`, () => {
    const problems = whyNotReloaded(now, { ...now, ...change } as Config);
    assert.match(problems.join('\n'), says);
    assert.equal(problems.length, 1);
  });
}
