import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Config, type ConfigProblem, formatProblems, LAN, parseConfig, WAN } from '#src/config/index.ts';
import { formatSizeKib, parseSizeKib } from '#src/config/sizes.ts';

const PEERS = [
  '12D3KooWFQJwC8sqPNqD8kWvxnuLuuBfFGLA2G7cAJuk8YwbtVPZ',
  '12D3KooWEtSZtoR5xR3cZZkbByQrdLcWNbnVccUk3GUc6rrvmroX',
  '12D3KooWMPHbQaszzuBpefQsbVwLMpMyePNxS6B98zw8upkrNS2A',
  '12D3KooWJdgdJnmNGXC8Fdn3A661thAYb4sAbhVCwRDUaSJUgRWu',
] as const;
const CLUSTER = 'cluster: { name: demo, uuid: 5c9e6c1f-6f0d-4f0b-9a55-0d9b1a3c7e42 }';
const node = (id: number, address = `10.77.0.${id}`, peer: string = PEERS[id - 1] ?? '') =>
  `  - { id: ${id}, address: "${address}", peer_id: ${peer} }`;
const BASE = [CLUSTER, 'nodes:', node(1), node(2), node(3)].join('\n');

function good(text: string, options: Parameters<typeof parseConfig>[2] = { selfPeerId: PEERS[1] }): Config {
  const result = parseConfig(text, 'test.yaml', options);
  if ('problems' in result) assert.fail(formatProblems(result.problems));
  return result.config;
}

function notices(text: string): ConfigProblem[] {
  const result = parseConfig(text, 'test.yaml', { selfPeerId: PEERS[1] });
  if ('problems' in result) assert.fail(formatProblems(result.problems));
  return result.notices;
}

function bad(text: string, options: Parameters<typeof parseConfig>[2] = { selfPeerId: PEERS[1] }): ConfigProblem[] {
  const result = parseConfig(text, 'test.yaml', options);
  if ('config' in result) assert.fail('was accepted');
  return result.problems;
}

/** Exactly one problem, whose one-line form matches. */
function oneProblem(text: string, expected: RegExp, options?: Parameters<typeof parseConfig>[2]): void {
  const said = formatProblems(bad(text, options));
  assert.match(said, expected);
  assert.equal(said.split('\n').length, 1, said);
}

test('a cluster and its nodes are enough; the key says which node this is', () => {
  const config = good(BASE);
  assert.equal(config.self, 2);
  assert.deepEqual(config.timing, LAN);
  assert.equal(config.nodes[0]?.port, 7946);
  assert.deepEqual(config.fencing, { methods: ['manual'], command: null, watchdog: null, acceptDataLoss: false });
  assert.equal(config.socket.modeOctal, 0o600);
});

test('the value is frozen through and through', () => {
  const config = good(BASE);
  assert.throws(() => Object.assign(config.timing, { holderMs: 1 }), TypeError);
  assert.throws(() => Object.assign(config.nodes[0] ?? {}, { id: 9 }), TypeError);
});

test('a profile is taken as a whole, and single times override it', () => {
  const config = good(`${BASE}\nprofile: wan\ntiming: { failback_after: 2m, probe_timeout: 0.5s }\n`);
  assert.deepEqual(config.timing, { ...WAN, failbackAfterMs: 120_000, probeTimeoutMs: 500 });
});

test('all mistakes are told at once, each with its line and a remedy, in the order of the file', () => {
  const text = [
    'cluster: { name: "no spaces please", uuid: 5c9e6c1f-6f0d-4f0b-9a55-0d9b1a3c7e42 }', // 1
    'nodes:', // 2
    node(1, 'storage-1.example'), // 3
    '  - { id: 2, address: 10.77.0.2 }', // 4
    '  - { id: 3, adress: 10.77.0.3, address: 10.77.0.3, peer_id: nonsense }', // 5
    'timming: { holder: 2s }', // 6
    'timing:', // 7
    '  holder: 2', // 8
    '  renew: fast', // 9
    '  watchdog: 1500ms', // 10
    'arrays: { auto_assemble: maybe }', // 11
    'fencing: { methods: [] }', // 12
    'socket: { mode: 0600 }', // 13
  ].join('\n');
  const problems = bad(text);
  assert.deepEqual(
    problems.map((p) => [p.line, p.key]),
    [
      [1, 'cluster.name'],
      [3, 'nodes[0].address'],
      [4, 'nodes[1].peer_id'],
      [5, 'nodes[2].adress'],
      [6, 'timming'],
      [8, 'timing.holder'],
      [9, 'timing.renew'],
      [11, 'arrays.auto_assemble'],
      [12, 'fencing.methods'],
      [13, 'socket.mode'],
    ].toSorted((a, b) => Number(a[0]) - Number(b[0])),
  );
  for (const problem of problems) assert.notEqual(problem.remedy, '', formatProblems([problem]));
  const said = formatProblems(problems);
  assert.match(said, /^test\.yaml:4: nodes\[1\]\.peer_id: is missing; run `mdmesh key` on that node/m);
  assert.match(
    said,
    /^test\.yaml:5: nodes\[2\]\.adress = 10\.77\.0\.3: is no key that mdmesh knows; did you mean address\?/m,
  );
  assert.match(said, /^test\.yaml:6: timming = .*did you mean timing\?/m);
  assert.match(said, /^test\.yaml:8: timing\.holder = 2: is not a time with its unit; write a number and ms/m);
  assert.match(said, /^test\.yaml:13: socket\.mode = 600: .*quote it/m);
});

test('an unknown key with no near one lists the keys known at its place', () => {
  oneProblem(`${BASE}\nlog: { colour: red }`, /log\.colour = red: .*; the keys known here are: level$/);
});

test('broken YAML is told with its line', () => {
  const problems = bad(`${BASE}\nlog: { level: [ }\n`);
  assert.equal(problems[0]?.line, 6);
  assert.match(formatProblems(problems), /is not valid YAML/);
  assert.match(formatProblems(bad(`${BASE}\nprofile: lan\nprofile: wan`)), /test\.yaml:7: .*unique/i);
});

test('an empty file says what belongs in it', () => {
  assert.match(formatProblems(bad('# nothing yet\n')), /holds no settings; write at least cluster and nodes/);
});

test('two nodes never share an ID, an address with port, or a key', () => {
  const three = (last: string) => [CLUSTER, 'nodes:', node(1), node(2), last].join('\n');
  oneProblem(three(node(2, '10.77.0.9', PEERS[2])), /ID 2 of node 2 is node 2's already; .*must not run/);
  oneProblem(three(node(3, '10.77.0.1')), /address 10\.77\.0\.1 port 7946 of node 3 is node 1's already/);
  oneProblem(
    three(node(3, '10.77.0.3', PEERS[0])),
    /peer ID 12D3\S+ of node 3 is node 1's already; keys are never copied/,
  );
  const sixes = [CLUSTER, 'nodes:', node(1, 'fd00::1'), node(2, 'fd00:0:0::1')].join('\n');
  oneProblem(sixes, /address \[fd00::1\] port 7946 of node 2 is node 1's already/);
});

test('one address may serve two nodes on two ports', () => {
  const shared = (id: number, port: number) =>
    `  - { id: ${id}, address: 127.0.0.1, port: ${port}, peer_id: ${PEERS[id - 1]} }`;
  assert.equal(good([CLUSTER, 'nodes:', shared(1, 7001), shared(2, 7002)].join('\n')).nodes.length, 2);
});

test('names, zones and addresses of many hosts are refused', () => {
  for (const address of ['db1', '10.0.0.256', '0.0.0.0', '224.0.0.1', '::', 'ff02::1', 'fe80::1%eth0']) {
    oneProblem(
      [CLUSTER, 'nodes:', node(1, address), node(2)].join('\n'),
      /address .* of node 1 .*must not depend on DNS/,
    );
  }
});

test('a peer ID of another kind of key is refused', () => {
  const rsa = 'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N';
  oneProblem([CLUSTER, 'nodes:', node(1, '10.77.0.1', rsa), node(2)].join('\n'), /is not an Ed25519 key's/);
});

test('the times that safety rests on are held to their relations', () => {
  const timing = (body: string) => `${BASE}\ntiming: { ${body} }`;
  oneProblem(
    timing('holder: 3s'),
    /holder \(R, 3s\) is not below voter \(L, 3s\): two masters could write at once; raise voter to 4500ms/,
  );
  oneProblem(timing('renew: 1s'), /renew \(1s\) is not below half of holder \(R, 2s\)/);
  oneProblem(timing('probe_timeout: 300ms'), /probe_timeout \(300ms\) is not below probe_interval \(300ms\)/);
  oneProblem(timing('watchdog: 500ms'), /watchdog \(W, 500ms\) is not a whole number of seconds.*; write 1s/);
});

test('a thin margin between R and L is advised against, not refused', () => {
  assert.match(formatProblems(notices(`${BASE}\ntiming: { voter: 2500ms }`)), /only 1\.25 times holder.*within 25 %/);
  assert.deepEqual(notices(BASE), []);
});

test('no fencing at all is refused unless the loss is accepted in words', () => {
  for (const methods of ['[]', 'none']) {
    oneProblem(`${BASE}\nfencing: { methods: ${methods} }`, /nothing vouches that a silent node has stopped/);
    assert.match(
      formatProblems(notices(`${BASE}\nfencing: { methods: ${methods}, accept_data_loss: true }`)),
      /can be lost/,
    );
  }
});

test('fencing methods and their settings belong together', () => {
  oneProblem(`${BASE}\nfencing: { methods: [command] }`, /lists command, but fencing\.command is missing/);
  oneProblem(`${BASE}\nfencing: { command: { argv: [/bin/true] } }`, /methods does not list command/);
  oneProblem(`${BASE}\nfencing: { watchdog: { device: /dev/watchdog1 } }`, /methods lists neither watchdog nor auto/);
  oneProblem(
    `${BASE}\nfencing: { methods: [command], command: { argv: [fence-node] } }`,
    /argv\[0\] = fence-node: is not an absolute path/,
  );
  oneProblem(`${BASE}\nfencing: { methods: [manual, manual] }`, /manual is listed twice/);
  oneProblem(`${BASE}\nfencing: { methods: [prayer] }`, /methods\[0\]|is not a list of fencing methods/);
  assert.deepEqual(good(`${BASE}\nfencing: { methods: [watchdog] }`).fencing.watchdog, { device: '/dev/watchdog' });
  oneProblem(`${BASE}\nfencing: { methods: [auto, manual] }`, /auto chooses the methods itself/);
  for (const methods of ['auto', '[auto]']) {
    const { fencing } = good(`${BASE}\nfencing: { methods: ${methods} }`);
    assert.deepEqual([fencing.methods, fencing.watchdog], [['auto'], null]);
  }
  assert.deepEqual(good(`${BASE}\nfencing: { methods: [reservation, manual] }`).fencing.methods, [
    'reservation',
    'manual',
  ]);
  assert.deepEqual(good(`${BASE}\nfencing: { methods: auto, watchdog: {} }`).fencing.watchdog, {
    device: '/dev/watchdog',
  });
});

test('options for a fence agent are lines of its input, and no more than that', () => {
  const command = (rest: string) =>
    `${BASE}\nfencing: { methods: [command], command: { argv: [/usr/sbin/fence_ipmilan], ${rest} } }`;
  const agent = good(command('options: { ip: 10.0.0.9, lanplus: true }, node_options: { 3: { plug: 7 } }')).fencing;
  assert.deepEqual(agent.command?.options, { ip: '10.0.0.9', lanplus: 'true' });
  assert.deepEqual(agent.command?.nodeOptions, { 3: { plug: '7' } });
  oneProblem(command('options: { ip: "1\\raction=on" }'), /holds a line break/);
  oneProblem(command('options: { "Plug=1": x }'), /Plug=1 = x: Invalid key/);
  oneProblem(command('node_options: { three: { plug: 7 } }'), /Invalid key/);
});

test('a stated self must agree with the key: two nodes under one ID must not run', () => {
  assert.equal(good(`${BASE}\nself: 2`).self, 2);
  oneProblem(
    `${BASE}\nself: 3`,
    /self = 3: does not agree with the key \/etc\/mdmesh\/key, which is node 2's: two nodes configured with one ID must not run/,
  );
  oneProblem(`${BASE}\nself: 7`, /self = 7: is no node of the list \(1, 2, 3\)/, {});
  oneProblem(BASE, /self: is not stated, and the key \/etc\/mdmesh\/key was not read/, {});
  assert.equal(good(`${BASE}\nself: 3`, {}).self, 3);
});

test('a key that no node is pinned to is refused', () => {
  oneProblem(BASE, /no node has the peer ID of this node's key .*WJdgd/, { selfPeerId: PEERS[3] });
});

test('a bare list file may stand for the nodes; IDs count its address lines', () => {
  const list = `# storage network\n10.77.0.1 ${PEERS[0]}\n\n10.77.0.2   # pinned in the YAML\n10.77.0.3 ${PEERS[2]}\n`;
  const readNodeFile = (path: string) => {
    assert.equal(path, '/etc/clusterips');
    return list;
  };
  const text = `${CLUSTER}\nnodes: /etc/clusterips\npeer_ids: { 2: ${PEERS[1]} }\n`;
  const config = good(text, { selfPeerId: PEERS[1], readNodeFile });
  assert.deepEqual(
    config.nodes.map((n) => [n.id, n.address, n.peerId]),
    [1, 2, 3].map((id) => [id, `10.77.0.${id}`, PEERS[id - 1]]),
  );
  assert.equal(config.self, 2);
  const unpinned = formatProblems(bad(`${CLUSTER}\nnodes: /etc/clusterips\n`, { selfPeerId: PEERS[0], readNodeFile }));
  assert.match(
    unpinned,
    /^\/etc\/clusterips:4: 10\.77\.0\.2: node 2 has no peer ID.*; run `mdmesh key` on that node.*peer_ids\.2/,
  );
  const beyond = text.replace(`2: ${PEERS[1]} }`, `2: ${PEERS[1]}, 4: ${PEERS[3]} }`);
  assert.match(
    formatProblems(bad(beyond, { selfPeerId: PEERS[0], readNodeFile })),
    /peer_ids\.4 .*pins a node that \/etc\/clusterips does not have/,
  );
  const gone = () => {
    throw new Error('ENOENT: no such file');
  };
  oneProblem(`${CLUSTER}\nnodes: /etc/clusterips\nself: 1`, /nodes = \/etc\/clusterips: cannot be read: ENOENT/, {
    readNodeFile: gone,
  });
});

test('mistakes in a list file are told at its own lines', () => {
  const list = `10.77.0.1 ${PEERS[0]}\n10.77.0.1 ${PEERS[1]}\n10.77.0.3 ${PEERS[1]} spare\n10.77.0.400 ${PEERS[3]}\n`;
  const said = formatProblems(bad(list, { selfPeerId: PEERS[0] }));
  assert.match(said, /^test\.yaml:2: .*is node 1's already/m);
  assert.match(said, /^test\.yaml:3: .*peer ID .* of node 3 is node 2's already/m);
  assert.match(said, /^test\.yaml:3: spare: is more than an address and a peer ID/m);
  assert.match(said, /^test\.yaml:4: .*10\.77\.0\.400 of node 4 is no IP address/m);
});

test('a file that is nothing but such a list is a whole configuration, once its nodes are pinned', () => {
  const list = [1, 2, 3].map((id) => `10.77.0.${id} ${PEERS[id - 1]}`).join('\n');
  const config = good(`# my cluster\n${list}\n`);
  assert.equal(config.cluster.name, 'mdmesh');
  assert.match(config.cluster.uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(
    good(`${list}\n10.77.0.4 ${PEERS[3]}\n`).cluster.uuid,
    config.cluster.uuid,
    'a node added at the end changes nothing',
  );
  const unpinned = bad('10.77.0.1\n10.77.0.2\n10.77.0.3\n');
  assert.equal(unpinned.filter((p) => /has no peer ID/.test(p.text)).length, 3);
  assert.match(formatProblems(unpinned), /run `mdmesh key` on that node/);
});

test('copies are made in short windows, without a limit, unless the file says otherwise', () => {
  const usual = { limitKib: null, windowMs: 15, windowMaxSectors: 131_072, checkpointMs: 2000 };
  assert.deepEqual(good(BASE).arrays.copy, usual);
  const copy = (body: string) => good(`${BASE}\narrays: { copy: { ${body} } }`).arrays.copy;
  assert.deepEqual(copy('limit: 50MiB, checkpoint: 10m'), { ...usual, limitKib: 51_200, checkpointMs: 600_000 });
  assert.deepEqual(copy('limit: none, window: 1s, window_max: 1G'), {
    ...usual,
    windowMs: 1000,
    windowMaxSectors: 2_097_152,
  });
});

test('a copy’s settings are held to their bounds, and a size has to carry its unit', () => {
  const copy = (body: string) => `${BASE}\narrays:\n  copy:\n    ${body}`;
  oneProblem(
    copy('window: 1ms'),
    /^test\.yaml:8: arrays\.copy\.window = 1ms: is not between 2ms and 1s: .*; write a time/,
  );
  oneProblem(copy('window: 1001ms'), /is not between 2ms and 1s/);
  oneProblem(copy('checkpoint: 499ms'), /arrays\.copy\.checkpoint = 499ms: is not between 500ms and 10m/);
  oneProblem(copy('checkpoint: 601s'), /is not between 500ms and 10m/);
  oneProblem(copy('window_max: 1023KiB'), /window_max = 1023KiB: is not between 1MiB and 1GiB; write a size/);
  oneProblem(copy('window_max: 1025MiB'), /is not between 1MiB and 1GiB/);
  oneProblem(copy('window_max: 65536'), /window_max = 65536: is not a size with its unit; write a number and KiB, MiB/);
  oneProblem(copy('limit: 50'), /limit = 50: is no limit for copies; write what they may take in a second/);
  oneProblem(copy('limit: 0M'), /limit = 0M: is no limit for copies/);
  oneProblem(copy('limit: fast'), /limit = fast: is no limit for copies/);
  oneProblem(copy('windw: 15ms'), /arrays\.copy\.windw = 15ms: .*did you mean window\?/);
});

test('sizes are read with mdadm’s letters, and written so that they are read again', () => {
  const read = (text: string) => parseSizeKib(text);
  assert.deepEqual(['1K', '64KiB', '1.5m', '2 G', '1TiB'].map(read), [1, 64, 1536, 2_097_152, 1_073_741_824]);
  for (const text of ['', '64', 'M', '64MB', '-1M', '0.1K', '1e3K', '64 M iB', '9999999999999G']) {
    assert.equal(read(text), null, text);
  }
  assert.deepEqual([1, 1500, 65_536, 1_048_576].map(formatSizeKib), ['1KiB', '1500KiB', '64MiB', '1GiB']);
});

test('who gives way to a lost path, and when checks begin, unless the file says otherwise', () => {
  const { pathLoss, check } = good(BASE).arrays;
  assert.deepEqual(pathLoss, { policy: 'fail-member', waitMs: 3000 });
  assert.deepEqual(check, { everySeconds: 30 * 86_400, fromMinute: 60, toMinute: 300 });
  const arrays = (body: string) => good(`${BASE}\narrays: { ${body} }`).arrays;
  assert.deepEqual(arrays('path_loss: drop-node, path_wait: 8s').pathLoss, { policy: 'drop-node', waitMs: 8000 });
  assert.deepEqual(arrays('check: { every: never }').check.everySeconds, null);
  const nightly = arrays('check: { every: 1d, at: "22:30-04:00" }').check;
  assert.deepEqual(nightly, { everySeconds: 86_400, fromMinute: 1350, toMinute: 240 });
  const wrong = (body: string) => `${BASE}\narrays: { ${body} }`;
  oneProblem(wrong('path_loss: wait'), /arrays\.path_loss = wait/);
  oneProblem(wrong('path_wait: 9s'), /arrays\.path_wait = 9s: is not between 500ms and 8s/);
  for (const every of ['30', '0d', '367d', 'monthly']) {
    oneProblem(
      wrong(`check: { every: ${every} }`),
      /arrays\.check\.every = .*: is not 1d to 366d, nor never; write how many/,
    );
  }
  for (const at of ['"1:00-5:00"', '"01:00-24:00"', '"01:60-02:00"', 'night']) {
    oneProblem(wrong(`check: { at: ${at} }`), /arrays\.check\.at = .*: is no stretch of a day; write from and to/);
  }
});

test('the journal: its defaults, and what may not stand there', () => {
  assert.deepEqual(good(BASE).journal, {
    fsyncAfterMs: 50,
    rotateBytes: 64 * 1024 * 1024,
    rotateMs: 30 * 86_400_000,
    keepSegments: null,
    checkpointEntries: 256,
    checkpointAfterMs: 600_000,
  });
  const stated =
    'journal: { fsync_after: 1s, rotate_size: 1GiB, rotate_days: 7, keep: 12, checkpoint_entries: 64, checkpoint_after: 1m }';
  assert.deepEqual(good(`${BASE}\n${stated}`).journal, {
    fsyncAfterMs: 1000,
    rotateBytes: 1024 ** 3,
    rotateMs: 7 * 86_400_000,
    keepSegments: 12,
    checkpointEntries: 64,
    checkpointAfterMs: 60_000,
  });
  oneProblem(`${BASE}\njournal: { fsync_after: 1m }`, /journal\.fsync_after = 1m: is not between 1ms and 10s: below/);
  oneProblem(
    `${BASE}\njournal: { rotate_size: 1KiB }`,
    /journal\.rotate_size = 1KiB: is not between 64KiB and 16GiB; write a size/,
  );
  oneProblem(`${BASE}\njournal: { rotate_days: 0 }`, /journal\.rotate_days = 0: is below one day/);
  oneProblem(
    `${BASE}\njournal: { keep: some }`,
    /journal\.keep = some: is no number of old files; write how many to keep, or all/,
  );
  oneProblem(`${BASE}\njournal: { checkpoint_entries: 9999 }`, /journal\.checkpoint_entries = 9999: is above 4096/);
  oneProblem(`${BASE}\njournal: { checkpoint_after: 1ms }`, /journal\.checkpoint_after = 1ms: is not between 1s and/);
});

test('nodes decide, unless the file says that disks do', () => {
  assert.deepEqual(good(BASE).quorum, { by: 'nodes', witness: null });
  const witness = '/dev/disk/by-id/wwn-0x5000c500a0b1c2d3';
  assert.deepEqual(good(`${BASE}\nquorum: disks\nquorum_witness: ${witness}\n`).quorum, { by: 'disks', witness });
  assert.match(formatProblems(notices(`${BASE}\nquorum: disks\n`)), /without a witness.*quorum_witness/);
  oneProblem(`${BASE}\nquorum: votes\n`, /quorum.*write nodes or disks/);
  oneProblem(`${BASE}\nquorum_witness: ${witness}\n`, /quorum_witness.*quorum is nodes.*set quorum: disks/);
  oneProblem(`${BASE}\nquorum: disks\nquorum_witness: /tmp/file\n`, /quorum_witness.*not below \/dev/);
  const high = [CLUSTER, 'nodes:', node(1), node(17, '10.77.0.17', PEERS[1])].join('\n');
  oneProblem(`${high}\nquorum: disks\nquorum_witness: ${witness}\n`, /no block for node 17.*from 1 to 16/);
});

test('the API over TCP is loopback’s alone, unless readers are asked for a token', () => {
  assert.equal(good(BASE).api, null);
  const loopback = good(`${BASE}\napi: { listen: "127.0.0.1:7947" }\n`);
  assert.deepEqual(loopback.api, { address: '127.0.0.1', port: 7947, tokenFile: null });
  assert.equal(good(`${BASE}\napi: { listen: "[::1]:7947" }\n`).api?.address, '::1');
  for (const address of ['0.0.0.0', '[::]', '10.77.0.1', '[::ffff:127.0.0.1]']) {
    const open = `${BASE}\napi: { listen: "${address}:7947" }\n`;
    oneProblem(open, /api\.listen = .*nobody would be asked who he is; add api\.token_file, or listen on 127\.0\.0\.1/);
    const [notice] = notices(open.replace(':7947"', ':7947", token_file: /etc/mdmesh/api-token'));
    assert.match(notice?.text ?? '', /plain HTTP/);
  }
  for (const wrong of [
    '7947',
    '127.0.0.1',
    'localhost:7947',
    '127.0.0.1:0',
    '127.0.0.1:99999',
    '::1:7947',
    '[127.0.0.1]:1',
  ]) {
    oneProblem(`${BASE}\napi: { listen: "${wrong}" }\n`, /api\.listen = .*is not an address with its port/);
  }
  oneProblem(`${BASE}\napi: { token_file: /etc/mdmesh/api-token }\n`, /api\.listen is missing/);
});

test('hooks and mail: names are unique, programs full paths, types known words, and addresses no options', () => {
  const config = good(
    `${BASE}\nhooks: [{ name: a, program: [/x, -v], types: [Fail], timeout: 5s }]\nmail: { to: root }\n`,
  );
  assert.deepEqual(config.hooks, [
    {
      name: 'a',
      program: ['/x', '-v'],
      concurrency: 1,
      filter: { types: ['Fail'], arrays: undefined, nodes: undefined, severity: undefined },
      where: 'every-node',
      timeoutMs: 5000,
      maxAgeMs: 86_400_000,
    },
  ]);
  assert.deepEqual([config.mail?.to, config.mail?.where, config.mail?.filter.severity], ['root', 'origin', 'critical']);
  assert.equal(good(BASE).mail, null);
  const hook = (more: string) => `${BASE}\nhooks: [{ name: a, program: [/x]${more} }]\n`;
  oneProblem(
    `${BASE}\nhooks: [{ name: a, program: [/x] }, { name: a, program: [/y] }]\n`,
    /hooks\[1\]\.name = a: .*already/,
  );
  oneProblem(`${BASE}\nhooks: [{ name: mail, program: [/x] }]\n`, /mail is another's name already/);
  oneProblem(`${BASE}\nhooks: [{ name: ../a, program: [/x] }]\n`, /is not a name for a hook/);
  oneProblem(
    `${BASE}\nhooks: [{ name: a, program: [page] }]\n`,
    /hooks\[0\]\.program\[0\] = page: is not an absolute path/,
  );
  oneProblem(hook(', types: [fail]'), /neither the name of an event nor a type/);
  oneProblem(hook(', typ: [Fail]'), /typ/);
  for (const to of ['-OQ=/tmp', 'a@b, c@d', 'a b@c']) {
    oneProblem(`${BASE}\nmail: { to: ${to} }\n`.replace('a@b, c@d', '"a@b, c@d"'), /is not a mail address/);
  }
  oneProblem(
    `${BASE}\nmail: { to: root, command: [sendmail] }\n`,
    /mail\.command\[0\] = sendmail: is not an absolute path/,
  );
});
