/** doctor: a healthy node gives no finding; each finding is provoked by the one fact that should bring it. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { main } from '#src/cli/index.ts';
import {
  compare,
  type Facts,
  type Finding,
  findings,
  gather,
  type Machine,
  machine,
  reportsOfOthers,
} from '#src/doctor/index.ts';
import type { Disk } from '#src/md/driver.ts';
import { VERSION } from '#src/version.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';
import { clusterStatus, memberA, memberB, startFakeAgent } from './outlets_fake_agent.ts';

const peer = (id: number) => `12D3KooW${id}`;
const arrayUuid = 'aaaaaaaa-0000-4000-8000-00000000000a';

function healthy(self = 1): Facts {
  return {
    form: 1,
    at: '2026-01-01T12:00:00.000Z',
    version: VERSION,
    hostname: `n${self}`,
    kernel: {
      release: '6.1.0',
      modules: Object.fromEntries(
        ['md_mod', 'raid0', 'raid1', 'raid10', 'raid456', 'dm_mod', 'dm_multipath', 'dm_round_robin'].map((name) => [
          name,
          'loaded' as const,
        ]),
      ),
      mdTrouble: null,
      clocksource: 'tsc',
    },
    config: {
      file: '/etc/mdmesh/mdmesh.yaml',
      problems: [],
      digest: 'same',
      cluster: { name: 'demo', uuid: arrayUuid },
      self,
      nodes: [1, 2, 3].map((id) => ({ id, address: `10.0.0.${id}`, port: 7946, peerId: peer(id) })),
      probeTimeoutMs: 200,
      candidacyTimeoutMs: 1000,
      watchdogSeconds: 5,
      methods: ['command', 'manual'],
      quorum: 'nodes',
      watchdogDevice: null,
    },
    key: { file: '/etc/mdmesh/key', peerId: peer(self), modeOctal: '600' },
    autostart: { mdadmRule: true, ownRule: true, mdadmInitramfs: true, ownInitramfs: true, arrayLines: [] },
    agent: {
      trouble: null,
      version: VERSION,
      master: 1,
      mayWrite: true,
      nodes: [1, 2, 3].map((node) => ({
        node,
        status: 'alive',
        connected: true,
        clockRate: node === self ? null : 1.0002,
      })),
      quorumDisks: [],
      privileges: {
        effective: ['CAP_SYS_ADMIN'],
        permitted: ['CAP_SYS_ADMIN'],
        noNewPrivileges: true,
        ioFlusher: true,
      },
    },
    arrays: [
      {
        uuid: arrayUuid,
        md: 'md0',
        members: [memberA, memberB].map((uuid, index) => ({ uuid, role: 'active', path: `/dev/sd${'bc'[index]}` })),
        direct: [],
        trouble: null,
      },
    ],
    reservations: null,
    disks: [memberA, memberB].map((uuid, index) => ({
      path: `/dev/sd${'bc'[index]}`,
      uuid,
      arrayUuid,
      writeCache: 'write back',
      fua: '1',
      multipath: null,
    })),
    watchdog: { identity: null, timeoutSeconds: null, state: null },
    peers: [2, 3].map((node) => ({ node, address: `10.0.0.${node}`, port: 7946, roundTripMs: 0.3, trouble: null })),
    swaps: [{ path: '/swapfile', onArray: null }],
    journal: {
      directory: '/var/lib/mdmesh',
      fileSystem: 'ext4',
      freeMib: 9000,
      syncMs: 2,
      onArray: null,
      trouble: null,
    },
  };
}

type Change = (facts: Facts) => void;
const noModule =
  (name: string): Change =>
  ({ kernel }) => {
    kernel.modules[name] = 'missing';
  };
const peerOf = (facts: Facts) => facts.peers[0] ?? assert.fail();
const dead =
  (...ids: number[]): Change =>
  ({ agent }) => {
    for (const node of agent.nodes) if (ids.includes(node.node)) node.status = 'dead';
  };

const unreserved =
  (methods: string[]): Change =>
  (facts) => {
    facts.config.methods = methods;
    facts.reservations = { used: true, shutOut: false, members: { [memberA]: 'registered', [memberB]: 'unsupported' } };
  };

/** A member with several ways, fenced by reservations, of which multipathd says this. */
const overWays =
  (said: Partial<NonNullable<Facts['disks'][number]['multipath']>>): Change =>
  (facts) => {
    facts.reservations = { used: true, shutOut: false, members: { [memberA]: 'registered', [memberB]: 'registered' } };
    const multipath = { map: 'luna', answers: true, queues: false, key: '0x6d64000000010001', ...said };
    Object.assign(facts.disks[0] ?? {}, { multipath });
  };

/** These decide, of which some answer. */
const disks =
  (...answers: boolean[]): Change =>
  ({ agent, config }) => {
    config.quorum = 'disks';
    agent.quorumDisks = answers.map((each, index) => ({ path: `/dev/sd${index}`, answers: each }));
  };

const mayAlso =
  (more: Partial<NonNullable<Facts['agent']['privileges']>>): Change =>
  ({ agent }) =>
    void Object.assign(agent.privileges ?? {}, more);

/** check, severity, and what brings it. */
const provocations: readonly [string, Finding['severity'], Change][] = [
  ['kernel.md', 'critical', noModule('md_mod')],
  ['kernel.external', 'critical', ({ kernel }) => Object.assign(kernel, { mdTrouble: 'new_array: EINVAL' })],
  ['kernel.level', 'warning', noModule('raid1')],
  ['kernel.level', 'info', noModule('raid456')],
  ['kernel.multipath', 'warning', noModule('dm_round_robin')],
  ['clock.source', 'warning', ({ kernel }) => Object.assign(kernel, { clocksource: 'jiffies' })],
  ['config', 'critical', ({ config }) => void config.problems.push('line 3: nodes: is missing')],
  ['key.mode', 'critical', ({ key }) => Object.assign(key, { modeOctal: '640' })],
  ['quorum.size', 'warning', ({ config }) => void config.nodes.pop()],
  ['quorum.size', 'warning', ({ config }) => void config.nodes.splice(1)],
  ['quorum.now', 'critical', dead(2, 3)],
  ['quorum.now', 'warning', dead(3)],
  ['quorum.disks', 'warning', disks(true, true)],
  ['quorum.now', 'critical', disks(true, false, false)],
  ['quorum.now', 'warning', disks(true, true, false)],
  ['agent', 'critical', ({ agent }) => Object.assign(agent, { trouble: 'ENOENT', nodes: [] })],
  ['agent.version', 'warning', ({ agent }) => Object.assign(agent, { version: '0.0.9' })],
  ['agent.grant', 'warning', ({ agent }) => Object.assign(agent, { mayWrite: false })],
  ['agent.privileges', 'info', mayAlso({ permitted: ['CAP_SYS_ADMIN', 'CAP_DAC_OVERRIDE'] })],
  ['agent.privileges', 'info', mayAlso({ noNewPrivileges: false })],
  ['agent.privileges', 'warning', mayAlso({ effective: ['CAP_SYS_PTRACE'], permitted: ['CAP_SYS_PTRACE'] })],
  ['agent.memory', 'warning', mayAlso({ ioFlusher: false })],
  ['network.port', 'critical', (facts) => Object.assign(peerOf(facts), { trouble: 'ECONNREFUSED', roundTripMs: null })],
  ['network.round-trip', 'warning', (facts) => Object.assign(peerOf(facts), { roundTripMs: 60 })],
  ['network.round-trip', 'critical', (facts) => Object.assign(peerOf(facts), { roundTripMs: 300 })],
  ['autostart.udev', 'warning', ({ autostart }) => Object.assign(autostart, { ownRule: false })],
  ['autostart.initramfs', 'warning', ({ autostart }) => Object.assign(autostart, { ownInitramfs: false })],
  [
    'autostart.mdadm-conf',
    'warning',
    ({ autostart }) => void autostart.arrayLines.push({ file: '/etc/mdadm/mdadm.conf', line: 7, uuid: arrayUuid }),
  ],
  ['members.seen', 'critical', ({ arrays }) => Object.assign(arrays[0]?.members[1] ?? {}, { path: null })],
  ['members.layer', 'warning', ({ arrays }) => void arrays[0]?.direct.push('sdb')],
  ['members.trouble', 'critical', ({ arrays }) => Object.assign(arrays[0] ?? {}, { trouble: 'EBUSY' })],
  ['disk.fua', 'info', ({ disks }) => Object.assign(disks[0] ?? {}, { fua: '0' })],
  ['multipath.queues', 'warning', overWays({ queues: true })],
  ['multipath.keys', 'warning', overWays({ key: null })],
  ['multipath.keys', 'warning', overWays({ answers: false, key: null })],
  ['fencing.people', 'warning', ({ config }) => Object.assign(config, { methods: ['manual'] })],
  [
    'fencing.people',
    'warning',
    (facts) => {
      facts.config.methods = ['auto'];
      facts.reservations = { used: false, shutOut: false, members: {} };
    },
  ],
  ['fencing.unreserved', 'warning', unreserved(['reservation', 'manual'])],
  ['fencing.unreserved', 'critical', unreserved(['reservation'])],
  [
    'fencing.shut-out',
    'critical',
    (facts) => {
      facts.config.methods = ['auto'];
      facts.reservations = { used: true, shutOut: true, members: { [memberA]: 'absent' } };
    },
  ],
  ['watchdog.device', 'critical', ({ config }) => Object.assign(config, { methods: ['watchdog'] })],
  [
    'watchdog.software',
    'warning',
    (facts) => {
      facts.config.methods = ['watchdog'];
      facts.watchdog.identity = 'Software Watchdog';
    },
  ],
  ['swap.on-array', 'critical', ({ swaps }) => void swaps.push({ path: '/dev/dm-3', onArray: 'md0' })],
  ['journal.directory', 'critical', ({ journal }) => Object.assign(journal, { trouble: 'ENOENT' })],
  ['journal.on-array', 'critical', ({ journal }) => Object.assign(journal, { onArray: 'md0' })],
  ['journal.volatile', 'critical', ({ journal }) => Object.assign(journal, { fileSystem: 'tmpfs' })],
  ['journal.remote', 'warning', ({ journal }) => Object.assign(journal, { fileSystem: 'nfs4' })],
  ['journal.full', 'warning', ({ journal }) => Object.assign(journal, { freeMib: 20 })],
  ['journal.full', 'critical', ({ journal }) => Object.assign(journal, { freeMib: 1 })],
  ['journal.slow', 'warning', ({ journal }) => Object.assign(journal, { syncMs: 400 })],
];

type ManyChange = (reports: Facts[]) => void;
const at = (reports: Facts[], node: number) => reports[node - 1] ?? assert.fail();

const betweenNodes: readonly [string, Finding['severity'], ManyChange][] = [
  ['compare.absent', 'info', (reports) => void reports.pop()],
  ['config.drift', 'critical', (reports) => Object.assign(at(reports, 3).config, { digest: 'another' })],
  ['version.drift', 'warning', (reports) => Object.assign(at(reports, 3), { version: '0.0.9' })],
  [
    'key.shared',
    'critical',
    (reports) => {
      at(reports, 3).config.self = 2;
      at(reports, 3).key.peerId = peer(2);
      at(reports, 3).config.self = null;
    },
  ],
  ['key.drift', 'critical', (reports) => Object.assign(at(reports, 3).key, { peerId: peer(9) })],
  ['members.everywhere', 'critical', (reports) => void at(reports, 2).disks.pop()],
  [
    'disk.cache',
    'critical',
    (reports) => Object.assign(at(reports, 2).disks[0] ?? {}, { writeCache: 'write through' }),
  ],
  ['clock.rates', 'warning', (reports) => Object.assign(at(reports, 1).agent.nodes[1] ?? {}, { clockRate: 1.03 })],
  ['clock.rates', 'critical', (reports) => Object.assign(at(reports, 1).agent.nodes[1] ?? {}, { clockRate: 0.7 })],
];

test('a healthy node, and healthy nodes beside each other, bring no finding', () => {
  assert.deepEqual(findings(healthy()), []);
  assert.deepEqual(compare([1, 2, 3].map(healthy)), []);
});

for (const [check, severity, change] of provocations) {
  test(`${check}, ${severity}`, () => {
    const facts = healthy();
    change(facts);
    const found = findings(facts).filter((each) => each.check === check);
    assert.equal(found.length, 1, JSON.stringify(findings(facts)));
    worded(found[0], severity);
  });
}

for (const [check, severity, change] of betweenNodes) {
  test(`between nodes: ${check}, ${severity}`, () => {
    const reports = [1, 2, 3].map(healthy);
    change(reports);
    const found = compare(reports).filter((each) => each.check === check);
    assert.ok(found.length > 0, JSON.stringify(compare(reports)));
    for (const each of found) worded(each, severity);
  });
}

function worded(finding: Finding | undefined, severity: Finding['severity']): void {
  assert.equal(finding?.severity, severity);
  for (const words of [finding?.text, finding?.reason, finding?.remedy]) assert.ok((words ?? '').length > 5);
}

test('every finding that there is, is provoked here', () => {
  const sources = ['findings', 'compare'].map((name) =>
    readFileSync(new URL(`../../src/doctor/${name}.ts`, import.meta.url), 'utf8'),
  );
  const written = [...sources.join('').matchAll(/(?:check: |drift\(nodes, )'([a-z.-]+)'/g)].map(([, name]) => name);
  const provoked = [...provocations, ...betweenNodes].map(([check]) => check);
  assert.deepEqual([...new Set(written)].sort(), [...new Set(provoked)].sort());
});

test('the worst comes first', () => {
  const facts = healthy();
  noModule('raid456')(facts);
  noModule('dm_mod')(facts);
  noModule('md_mod')(facts);
  assert.deepEqual(
    findings(facts).map(({ severity }) => severity),
    ['critical', 'warning', 'info'],
  );
});

// --- what is asked of the machine --------------------------------------------------------------------------------------

/** A machine of files, on which md answers the probe. */
function fakeMachine(
  t: TestContext,
  files: Record<string, string>,
): { machine: Machine; root: string; writes: string[] } {
  const root = mkdtempSync(join(tmpdir(), 'mdmesh-doctor-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  for (const [path, text] of Object.entries({ '/var/lib/mdmesh/vote.json': '{}', ...files })) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  const writes: string[] = [];
  const real = machine(root);
  return {
    root,
    writes,
    machine: {
      ...real,
      write(path, value) {
        writes.push(`${path} = ${value}`);
        return real.write(path, value);
      },
      loadable: async (name) => name === 'raid1',
      hostname: () => 'n1',
    },
  };
}

function blankDisk(path: string, devno: string): Disk {
  const content = { superblock: null, mesh: null, problem: null, holders: [] };
  return { path, devno, sizeSectors: 1, logicalBlockBytes: 512, ...content };
}

const probeArray = '/sys/block/md_mdmesh_probe/md';
const md: Record<string, string> = Object.fromEntries([
  ['/sys/module/md_mod/parameters/new_array', ''],
  ...['metadata_version', 'array_state', 'new_dev', 'resync_start', 'safe_mode_delay', 'consistency_policy'].map(
    (name) => [`${probeArray}/${name}`, ''],
  ),
]);
const absent = {
  status: async () => Promise.reject(new Error('ENOENT')),
  disks: async () => [],
};
const noKey = async () => Promise.reject(new Error('no key'));

test('md is asked by making an array of nothing, which is taken away again', async (t) => {
  const { machine, writes } = fakeMachine(t, md);
  const facts = await gather('/none.yaml', machine, absent, noKey);
  assert.equal(facts.kernel.mdTrouble, null);
  assert.deepEqual(writes, [
    '/sys/module/md_mod/parameters/new_array = md_mdmesh_probe',
    `${probeArray}/metadata_version = external:probe`,
    `${probeArray}/array_state = clear`,
  ]);
  assert.deepEqual(facts.kernel.modules.md_mod, 'loaded');
  assert.deepEqual(facts.kernel.modules.raid1, 'loadable');
  assert.deepEqual(facts.kernel.modules.dm_mod, 'missing');
  assert.equal(facts.agent.trouble, 'ENOENT');
  assert.ok(facts.config.problems.length > 0);
});

test('a kernel whose md lacks something is told by what it lacks', async (t) => {
  const { [`${probeArray}/consistency_policy`]: _, ...older } = md;
  const { machine } = fakeMachine(t, older);
  assert.match((await gather('/none.yaml', machine, absent, noKey)).kernel.mdTrouble ?? '', /consistency_policy/);
  const refusing = { ...machine, write: (path: string) => (path.endsWith('new_array') ? 'EPERM' : null) };
  assert.match((await gather('/none.yaml', refusing, absent, noKey)).kernel.mdTrouble ?? '', /new_array: EPERM/);
});

test('autostart: rules, hooks and ARRAY lines are found where Debian has them', async (t) => {
  const { machine } = fakeMachine(t, {
    '/lib/udev/rules.d/64-md-raid-assembly.rules': '',
    '/usr/share/initramfs-tools/hooks/mdadm': '',
    '/usr/sbin/update-initramfs': '',
    '/etc/mdadm/mdadm.conf':
      '# ARRAY /dev/md9 UUID=0\nARRAY /dev/md0 metadata=1.2 UUID=aaaaaaaa:00004000:80000000:0000000a\n',
  });
  const { autostart } = await gather('/none.yaml', machine, absent, noKey);
  assert.deepEqual(autostart, {
    mdadmRule: true,
    ownRule: false,
    mdadmInitramfs: true,
    ownInitramfs: false,
    arrayLines: [{ file: '/etc/mdadm/mdadm.conf', line: 2, uuid: 'aaaaaaaa-0000-4000-8000-00000000000a' }],
  });
});

test('agent, disks, key and network: what they say becomes facts', async (t) => {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(() => server.close());
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const directory = mkdtempSync(join(tmpdir(), 'mdmesh-doctor-config-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const identities = await import('#src/wire/identity.ts');
  const keyFile = join(directory, 'key');
  const own = await identities.generateIdentity();
  await identities.saveIdentity(keyFile, own);
  const other = await identities.generateIdentity();
  const configFile = join(directory, 'mdmesh.yaml');
  writeFileSync(
    configFile,
    `cluster: { name: demo, uuid: c1c1c1c1-0000-4000-8000-000000000001 }\nkey_file: ${keyFile}\nstate_dir: ${directory}\n` +
      `nodes:\n  - { id: 1, address: 127.0.0.2, peer_id: ${own.peerId} }\n` +
      `  - { id: 2, address: 127.0.0.1, port: ${port}, peer_id: ${other.peerId} }\n`,
  );
  const status = clusterStatus();
  for (const array of status.arrays) array.paths = { [memberA]: '/dev/ubda' };
  const fake = fakeMachine(t, {
    '/sys/dev/block/98:0/queue/write_cache': 'write back\n',
    '/sys/dev/block/98:0/queue/fua': '0\n',
  });
  const real = machine();
  const mixed: Machine = {
    ...fake.machine,
    read: (path) => fake.machine.read(path) ?? real.read(path),
    modeOf: real.modeOf,
    sync: real.sync,
    freeMib: real.freeMib,
    mountOf: real.mountOf,
  };
  const agent = { status: async () => status, disks: async () => [blankDisk('/dev/ubda', '98:0')] };
  const facts = await gather(configFile, mixed, agent, async (file) => (await identities.loadIdentity(file)).peerId);
  assert.equal(facts.config.self, 1);
  assert.notEqual(facts.config.digest, null);
  assert.equal(facts.key.modeOctal, '600');
  assert.equal(facts.peers[0]?.trouble, null);
  assert.ok((facts.peers[0]?.roundTripMs ?? 0) > 0);
  assert.deepEqual(
    facts.arrays[0]?.members.map(({ path }) => path),
    ['/dev/ubda', null],
  );
  assert.deepEqual(facts.disks, [
    { path: '/dev/ubda', uuid: null, arrayUuid: null, writeCache: 'write back', fua: '0', multipath: null },
  ]);
  assert.equal(facts.journal.trouble, null);
  assert.ok((facts.journal.syncMs ?? 0) > 0);
  assert.deepEqual(readdirSync(directory).sort(), ['key', 'mdmesh.yaml'], 'the probe left nothing');
  chmodSync(keyFile, 0o644);
  const loose = await gather(configFile, mixed, agent, async (file) => (await identities.loadIdentity(file)).peerId);
  const checks = new Set([...findings(facts), ...findings(loose)].map(({ check }) => check));
  for (const check of ['key.mode', 'quorum.size', 'members.seen']) assert.ok(checks.has(check), check);
});

test('of a disk with several ways multipathd is asked, by the map that a partition lies on', async (t) => {
  const { machine: fake } = fakeMachine(t, {
    '/sys/dev/block/253:0/dm/uuid': 'mpath-3600140\n',
    '/sys/dev/block/253:0/dm/name': 'luna\n',
    '/sys/dev/block/253:1/dm/uuid': 'part1-mpath-3600140\n',
    '/sys/dev/block/253:1/dm/name': 'luna-part1\n',
    '/sys/dev/block/253:1/slaves/dm-0/dm/name': 'luna\n',
    '/sys/dev/block/253:2/dm/uuid': 'LVM-abc\n',
  });
  const maps = [0, 1, 2].map((number) => blankDisk(`/dev/dm-${number}`, `253:${number}`));
  const agent = { status: async () => clusterStatus(), disks: async () => maps };
  const seen = async (multipathd: Machine['multipathd']) =>
    (await gather('/none.yaml', { ...fake, multipathd }, agent, noKey)).disks.map(({ multipath }) => multipath);
  const asked: string[] = [];
  const queueing = async (...words: string[]): Promise<string> => {
    asked.push(words.join(' '));
    return words[0] === 'show' ? '{ "map": { "name": "luna", "queueing" : "on" } }' : '0x6d64000000010001\n';
  };
  const found = { map: 'luna', answers: true, queues: true, key: '0x6d64000000010001' };
  assert.deepEqual(await seen(queueing), [found, found, null]);
  assert.deepEqual([...new Set(asked)], ['show map luna json', 'getprkey map luna']);
  const keyless = async (...words: string[]): Promise<string> =>
    words[0] === 'show' ? '{ "map": { "queueing" : "off" } }' : 'none\n';
  assert.deepEqual((await seen(keyless))[0], { map: 'luna', answers: true, queues: false, key: null });
  const silent = await seen(async () => Promise.reject(new Error('ENOENT')));
  assert.deepEqual(silent[0], { map: 'luna', answers: false, queues: false, key: null });
});

test('swap and state directory are followed down to an array, through a file system, a volume and a partition', async (t) => {
  const { machine: fake } = fakeMachine(t, {
    '/proc/swaps': [
      'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority',
      '/dev/dm-4                               partition\t1048572\t\t0\t\t-2',
      '/srv/a\\040swap\\134file                    file\t\t1048572\t\t0\t\t-3',
      '/dev/vda2                               partition\t1048572\t\t0\t\t-4',
    ].join('\n'),
    '/sys/block/md0/dev': '9:0\n',
    '/sys/class/block/dm-4/dev': '254:4\n',
    '/sys/dev/block/254:4/slaves/md0p1/dev': '259:0\n',
    '/sys/dev/block/259:0/partition': '1\n',
    '/sys/dev/block/259:0/../dev': '9:0\n',
    '/sys/class/block/vda2/dev': '253:2\n',
  });
  const status = clusterStatus();
  const mountOf: Machine['mountOf'] = (directory) => ({
    device: directory === '/srv' ? '254:4' : '253:2',
    type: 'xfs',
  });
  const agent = { status: async () => status, disks: async () => [] };
  const { swaps, journal } = await gather('/none.yaml', { ...fake, mountOf }, agent, noKey);
  assert.deepEqual(swaps, [
    { path: '/dev/dm-4', onArray: 'md0' },
    { path: '/srv/a swap\\file', onArray: 'md0' },
    { path: '/dev/vda2', onArray: null },
  ]);
  assert.equal(journal.onArray, null);
  const below = await gather(
    '/none.yaml',
    { ...fake, mountOf: () => ({ device: '254:4', type: 'xfs' }) },
    agent,
    noKey,
  );
  assert.equal(below.journal.onArray, 'md0');
  assert.equal(below.journal.syncMs, null, 'nothing is written there');
});

test('a port where nobody listens is told as such', async () => {
  await assert.rejects(machine().connect('127.0.0.1', 1), /ECONNREFUSED/);
});

test('the command: words or JSON, exit code, and a comparison of what --json printed', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'mdmesh-doctor-reports-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const run = async (...argv: string[]): Promise<[number, string, string]> => {
    const terminal = new FakeTerminal({ env: { MDMESH_SOCKET: join(directory, 'none.sock') } });
    const code = await main(['--config', join(directory, 'none.yaml'), 'doctor', ...argv], terminal);
    return [code, terminal.written, terminal.complained];
  };
  const [code, said] = await run();
  assert.equal(code, 1);
  assert.match(said, /^critical .*\[agent\]$/m);
  assert.match(said, /^ {2}why: {2}\S/m);
  assert.match(said, /^ {2}then: \S/m);
  const [, json] = await run('--json');
  const report: { findings: Finding[]; facts: Facts } = JSON.parse(json);
  assert.equal(report.facts.form, 1);
  const paths = [1, 2, 3].map((node) => join(directory, `n${node}.json`));
  for (const [index, path] of paths.entries()) writeFileSync(path, JSON.stringify({ facts: healthy(index + 1) }));
  assert.deepEqual(await run('--compare', ...paths), [0, 'Nothing is wrong.\n', '']);
  writeFileSync(paths[2] ?? '', JSON.stringify({ facts: { ...healthy(3), version: '0.0.9' } }));
  const [differing, words] = await run('--compare', ...paths);
  assert.equal(differing, 1);
  assert.match(words, /^warning versions differ: .*\[version\.drift\]/);
  writeFileSync(paths[2] ?? '', '{}');
  const [, , complaint] = await run('--compare', ...paths);
  assert.match(
    complaint,
    /^mdmesh: report .*n3\.json: is no report \(facts: .*\); make it with mdmesh doctor --json > .*n3\.json\n$/,
  );
});

test('the command asks the other nodes through the agent; a report that does not parse, or is of another node, is told as missing', async (t) => {
  const { face, socketPath, directory } = await startFakeAgent(t);
  const report = (facts: object): string => JSON.stringify({ findings: [], facts });
  const drifted = healthy(1);
  drifted.kernel.modules.dm_multipath = 'missing';
  face.others = [
    { node: 1, report: report({ ...drifted, version: '0.0.9' }), trouble: null },
    { node: 3, report: report(healthy(2)), trouble: null },
  ];
  const run = async (...words: string[]): Promise<Finding[]> => {
    const terminal = new FakeTerminal({ env: { MDMESH_SOCKET: socketPath } });
    await main(['--config', join(directory, 'none.yaml'), 'doctor', '--json', ...words], terminal);
    return JSON.parse(terminal.written).findings;
  };
  const found = await run();
  const texts = (check: string): string[] => found.filter((each) => each.check === check).map(({ text }) => text);
  assert.equal(texts('version.drift').length, 1);
  assert.ok(found.some(({ check, text }) => check.startsWith('kernel.') && text.startsWith('node 1: ')));
  assert.match(texts('compare.absent').join(), /no report of node 3: its report is that of node 2/);
  face.others = [
    { node: 1, report: '{"facts": {"form": 1}}', trouble: null },
    { node: 3, report: null, trouble: 'no answer within 30 s' },
  ];
  assert.equal(reportsOfOthers(face.others).facts.length, 0);
  assert.match([...reportsOfOthers(face.others).absent.values()].join(), /^facts\.\S+: .*,no answer within 30 s$/);
  const alone = await run('--local');
  assert.deepEqual(
    alone.filter(({ check }) => check.startsWith('compare.') || check.endsWith('.drift')),
    [],
  );
});
