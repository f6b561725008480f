import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { main } from '#src/cli/index.ts';
import type { Disk } from '#src/md/driver.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';
import {
  arrayStatus,
  arrayUuid,
  clusterStatus,
  clusterUuid,
  copying,
  type FakeAgent,
  memberA,
  memberB,
  raid1,
  startFakeAgent,
  withFaulty,
} from './outlets_fake_agent.ts';

interface Ran {
  code: number;
  out: string;
  err: string;
}

type Setting = ConstructorParameters<typeof FakeTerminal>[0];

async function run(argv: string[], setting: Setting = {}): Promise<Ran> {
  const terminal = new FakeTerminal(setting);
  const code = await main(argv, terminal);
  return { code, out: terminal.written, err: terminal.complained };
}

async function agentAndRun(t: TestContext): Promise<{ agent: FakeAgent; run: typeof run }> {
  const agent = await startFakeAgent(t);
  return { agent, run: (argv, setting) => run([...argv, '--socket', agent.socketPath], setting) };
}

function disk(path: string, over: Partial<Disk> = {}): Disk {
  return {
    path,
    devno: '8:16',
    sizeSectors: 524288,
    logicalBlockBytes: 512,
    superblock: {
      featureMap: 0,
      setUuid: arrayUuid,
      setName: 'host:0',
      ctimeSeconds: 1_700_000_000,
      level: 1,
      layout: 0,
      sizeSectors: 522240,
      chunkSectors: 0,
      raidDisks: 2,
      bitmapOffsetSectors: 0,
      dataOffsetSectors: 2048,
      dataSizeSectors: 522240,
      superOffsetSectors: 8,
      recoveryOffsetSectors: 0,
      devNumber: 0,
      deviceUuid: memberA,
      devFlags: 0,
      bblogShift: 9,
      bblogSizeSectors: 8,
      bblogOffsetSectors: 16,
      utimeSeconds: 1_700_000_100,
      events: 18,
      resyncOffsetSectors: null,
      roles: [0, 1],
      maxDev: 2,
      checksum: 0,
    },
    mesh: null,
    problem: null,
    holders: [],
    ...over,
  };
}

const verbs = [
  ...['agent', 'keygen', 'key', 'config', 'config check', 'create', 'adopt', 'release', 'assemble', 'stop', 'manage'],
  ...[
    'action',
    'sync-limit',
    'wait',
    'mdstat',
    'status',
    'nodes',
    'detail',
    'examine',
    'node',
    'node confirm-dead',
    'watch',
    'drop-writes',
  ],
];

for (const verb of ['', ...verbs]) {
  test(`mdmesh ${verb} --help shows usage and examples, with exit code 0`, async () => {
    const { code, out, err } = await run([...verb.split(' ').filter((word) => word !== ''), '--help']);
    assert.equal(code, 0);
    assert.equal(err, '');
    assert.match(out, /^Usage: mdmesh/);
    assert.match(out, /Examples:\n {2}\S*mdmesh |Examples:\n.*mdmesh/);
  });
}

test('the overall help names every command', async () => {
  const { out } = await run(['--help']);
  for (const verb of verbs) assert.ok(out.includes(`\n  ${verb.split(' ')[0]} `), verb);
});

test('wrong usage is exit code 2, says what is wrong on standard error, and prints nothing else', async () => {
  const wrong: [string[], RegExp][] = [
    [['bogus'], /^mdmesh: unknown command 'bogus'/],
    [['status', '--bogus'], /^mdmesh: unknown option '--bogus'/],
    [['create', 'md0', '/dev/a'], /^mdmesh: required option '-l, --level/],
    [['create', 'sda', '-l1', '-n1', '/dev/a'], /sda: not an md device; write it as md0/],
    [['create', 'md0', '-l7', '-n1', '/dev/a'], /7: not a level/],
    [['create', 'md0', '-l1', '-n0', '/dev/a'], /0: not a number from 1 on/],
    [['create', 'md0', '-l0', '-n1', '-c', '3', '/dev/a'], /3: not a chunk size/],
    [['create', 'md0', '-l1', '-n2', '/dev/a'], /1 of 2 devices given \(2 raid devices and 0 spares\)/],
    [['create', 'md0', '-l1', '-n2', '/dev/a', '/dev/a'], /\/dev\/a is given twice/],
    [['create', 'md0', '-l1', '-n2', '/dev/a', 'missing'], /"missing" is not supported/],
    [['create', 'md0', '-l10', '-n2', '-p', 'x9', '/dev/a', '/dev/b'], /x9: not a layout of raid10/],
    [['create', 'md0', '-l1', '-n1', '--access', 'shared', '--owner', '1', '/dev/a'], /a shared array has none/],
    [['create', 'md0', '-l1', '-n1', '--access', 'mine', '/dev/a'], /Allowed choices are shared, exclusive/],
    [['assemble'], /name one array, or give --scan/],
    [['assemble', 'md0', '--scan'], /name one array, or give --scan/],
    [['manage', 'md0'], /nothing to do/],
    [['manage', 'md0', '--with', '/dev/x'], /\/dev\/x: there is no --replace before it/],
    [['grow', 'md0'], /give --raid-devices, --size, --bitmap or --nodes/],
    [['grow', 'md0', '--size', 'huge'], /huge: not a size/],
    [['action', 'md0', 'resync'], /Allowed choices are check, repair, idle, frozen/],
    [['sync-limit', 'md0', '50MB'], /50MB: not a limit; use KiB a second, as 51200 or 50M, or none/],
    [['sync-limit', 'md0', '0'], /0: not a limit/],
    [['manage', 'md0', '--fail', 'missing'], /--fail missing: only --add and --re-add know this word/],
    [['watch', '--after', 'x'], /x: not a cursor/],
    [['node', 'confirm-dead', 'three'], /three: not a number/],
  ];
  for (const [argv, words] of wrong) {
    const { code, out, err } = await run([...argv, '--socket', '/nonexistent/sock']);
    assert.equal(code, 2, argv.join(' '));
    assert.equal(out, '', argv.join(' '));
    assert.match(err, words, argv.join(' '));
  }
});

test('without an agent the error names the socket and the remedy', async () => {
  for (const argv of [['status'], ['nodes'], ['detail', 'md0'], ['stop', 'md0'], ['watch']]) {
    const { code, err } = await run([...argv, '--socket', '/nonexistent/mesh.sock']);
    assert.equal(code, 1);
    assert.match(err, /^mdmesh: no agent answers on \/nonexistent\/mesh\.sock \(ENOENT\); start it with/);
  }
});

test('create takes mdadm’s forms and asks with everything in place', async (t) => {
  const { agent, run } = await agentAndRun(t);
  const members = ['/dev/sda', '/dev/sdb', '/dev/sdc', '/dev/sdd', '/dev/sde'];
  const { code, out } = await run([
    'create',
    '/dev/md/1',
    '-l10',
    '-n4',
    '-x',
    '1',
    '-c512K',
    '--layout=n2',
    ...members,
  ]);
  assert.equal(code, 0);
  assert.equal(out, 'create done\n');
  assert.deepEqual(agent.face.asked, [
    {
      verb: 'create',
      md: 'md1',
      level: 'raid10',
      raidDisks: 4,
      spares: 1,
      chunkKib: 512,
      layout: 0x102,
      access: 'shared',
      assumeClean: false,
      force: false,
      devices: members,
    },
  ]);
});

test('parity and owned arrays are exclusive, mirrors are shared, unless told otherwise', async (t) => {
  const { agent, run } = await agentAndRun(t);
  await run(['create', 'md0', '-l', '5', '-n', '3', '/dev/a', '/dev/b', '/dev/c']);
  await run(['create', 'md0', '--level=mirror', '--raid-devices=2', '--assume-clean', '/dev/a', '/dev/b']);
  await run(['create', 'md0', '-l1', '-n2', '--owner', '3', '--name', 'logs', '--force', '/dev/a', '/dev/b']);
  const asked = agent.face.asked.map((request) => JSON.parse(JSON.stringify(request)));
  assert.deepEqual([asked[0].access, asked[0].owner], ['exclusive', undefined]);
  assert.deepEqual([asked[1].access, asked[1].level, asked[1].assumeClean], ['shared', 'raid1', true]);
  assert.deepEqual([asked[2].access, asked[2].owner, asked[2].name, asked[2].force], ['exclusive', 3, 'logs', true]);
});

test('release, assemble and stop ask for what they say; a refusal is exit code 1 on standard error', async (t) => {
  const { agent, run } = await agentAndRun(t);
  assert.equal((await run(['assemble', '/dev/md0'])).code, 0);
  assert.equal((await run(['assemble', '--scan'])).code, 0);
  assert.equal((await run(['release', arrayUuid])).code, 0);
  assert.equal((await run(['assemble', '--force', 'md0'])).code, 0);
  const all = await run(['assemble', '--scan', '--force']);
  assert.deepEqual([all.code, /--force is for one array/.test(all.err)], [2, true]);
  agent.face.answer = () => ({ ok: false, text: 'md0: mounted on node 3; unmount it there' });
  assert.deepEqual(await run(['stop', 'md0']), {
    code: 1,
    out: '',
    err: 'mdmesh: md0: mounted on node 3; unmount it there\n',
  });
  const refused = await run(['stop', 'md0', '--json']);
  assert.equal(refused.code, 1);
  assert.deepEqual(JSON.parse(refused.out), { ok: false, text: 'md0: mounted on node 3; unmount it there' });
  assert.deepEqual(agent.face.asked.slice(0, 4), [
    { verb: 'assemble', array: 'md0' },
    { verb: 'assemble', array: null },
    { verb: 'release', array: arrayUuid },
    { verb: 'assemble', array: 'md0', force: true },
  ]);
});

test('adopt finds the array by device, by the md device that runs it, and by both forms of its UUID', async (t) => {
  const { agent, run } = await agentAndRun(t);
  agent.face.disks = [disk('/dev/null0', { superblock: null }), disk('/dev/sdy', { holders: ['md127'] })];
  const mdadmForm = arrayUuid.replaceAll('-', '').replace(/(.{8})(?=.)/g, '$1:');
  assert.equal((await run(['adopt', '/dev/sdy', '--as', 'md4'])).code, 0);
  assert.equal((await run(['adopt', '/dev/md127'])).code, 0);
  assert.equal((await run(['adopt', mdadmForm])).code, 0);
  assert.deepEqual(
    agent.face.asked.map((request) => ('md' in request ? request.md : '')),
    ['md4', 'md127', 'md127'],
  );
  assert.deepEqual(agent.face.asked[0], { verb: 'adopt', md: 'md4', uuid: arrayUuid, access: 'shared' });
  agent.face.disks = [disk('/dev/sdy')];
  await run(['adopt', '/dev/sdy']);
  assert.deepEqual(agent.face.asked.at(-1), { verb: 'adopt', md: 'md0', uuid: arrayUuid, access: 'shared' });
  const unknown = await run(['adopt', '/dev/sdz']);
  assert.deepEqual([unknown.code, agent.face.asked.length], [1, 4]);
  assert.match(unknown.err, /\/dev\/sdz: no disk of this node belongs to it/);
});

test('manage does its steps in the order written, across options', async (t) => {
  const { agent, run } = await agentAndRun(t);
  agent.face.answer = (request) => {
    if (request.verb === 'fail') agent.face.now = clusterStatus([arrayStatus(withFaulty(raid1(), memberB))]);
    return { ok: true, text: `${request.verb} done` };
  };
  const argv = [
    'manage',
    'md0',
    '-a',
    '/dev/ubdc',
    '--fail',
    '/dev/ubdb',
    '-r',
    '/dev/ubdb',
    '--add',
    '/dev/ubdd',
    '--force',
  ];
  const { code, out } = await run(argv);
  assert.equal(code, 0);
  assert.equal(out, 'add done\nfail done\nremove done\nadd done\n');
  assert.deepEqual(agent.face.asked, [
    { verb: 'add', array: 'md0', device: '/dev/ubdc', force: true },
    { verb: 'fail', array: 'md0', device: '/dev/ubdb' },
    { verb: 'remove', array: 'md0', device: '/dev/ubdb' },
    { verb: 'add', array: 'md0', device: '/dev/ubdd', force: true },
  ]);
});

test('a removal waits until the failure before it is committed, released and answered', async (t) => {
  const { agent, run } = await agentAndRun(t);
  const failed = arrayStatus(withFaulty(raid1(), memberB));
  const blocked = failed.local?.members.map((member) => ({ ...member, blocked: member.uuid === memberB })) ?? [];
  const stages = [
    clusterStatus(),
    clusterStatus([{ ...failed, released: raid1().version }]),
    clusterStatus([{ ...failed, local: failed.local && { ...failed.local, members: blocked } }]),
    clusterStatus([failed]),
  ];
  const seenAt: number[] = [];
  let next = 0;
  agent.face.answer = (request) => {
    seenAt.push(next - 1);
    return { ok: true, text: request.verb };
  };
  agent.face.status = () => {
    const now = stages[Math.min(next, stages.length - 1)];
    assert.ok(now);
    next += 1;
    return now;
  };
  assert.equal((await run(['manage', 'md0', '--fail', '/dev/ubdb', '--remove', '/dev/ubdb'])).code, 0);
  assert.deepEqual(seenAt, [-1, 3], 'the removal was asked for behind the last stage only');
});

test('manage replaces with what is named; grow adds, then grows', async (t) => {
  const { agent, run } = await agentAndRun(t);
  agent.face.answer = ({ verb }) => ({ ok: true, text: `${verb} done` });
  assert.equal((await run(['manage', 'md0', '--replace', '/dev/x', '--with', '/dev/y'])).code, 0);
  assert.equal((await run(['grow', 'md0', '-n', '3', '--add', '/dev/z'])).code, 0);
  const json = await run(['grow', 'md0', '--size', 'max', '--json']);
  assert.equal((await run(['grow', 'md0', '--nodes', '32'])).code, 0);
  assert.deepEqual(JSON.parse(json.out), { ok: true, text: 'grow-size done' });
  assert.deepEqual(agent.face.asked, [
    { verb: 'replace', array: 'md0', device: '/dev/x', with: '/dev/y' },
    { verb: 'add', array: 'md0', device: '/dev/z', force: false },
    { verb: 'grow-devices', array: 'md0', raidDisks: 3, force: false },
    { verb: 'grow-size', array: 'md0', sizeKib: null, assumeClean: false },
    { verb: 'grow-nodes', array: 'md0', nodes: 32 },
  ]);
});

test('manage stops at the first step that is refused, and says what was left', async (t) => {
  const { agent, run } = await agentAndRun(t);
  agent.face.answer = () => ({ ok: false, text: '/dev/ubda: the last good member' });
  const { code, err } = await run(['manage', 'md0', '--fail', '/dev/ubda', '--remove', '/dev/ubda']);
  assert.equal(code, 1);
  assert.equal(err, 'mdmesh: /dev/ubda: the last good member; 1 further step was not done\n');
  assert.equal(agent.face.asked.length, 1);
  const json = await run(['manage', 'md0', '--json', '--fail', '/dev/ubda', '--remove', '/dev/ubda']);
  assert.equal(json.code, 1);
  assert.deepEqual(
    JSON.parse(json.out).map(({ verb, ok }: { verb: string; ok: boolean }) => [verb, ok]),
    [['fail', false]],
  );
});

test('--remove faulty means every faulty member, by path or by UUID where the disk is gone', async (t) => {
  const { agent, run } = await agentAndRun(t);
  agent.face.now = clusterStatus([
    { ...arrayStatus(withFaulty(raid1(), memberA, memberB)), paths: { [memberA]: '/dev/ubda' } },
  ]);
  assert.equal((await run(['manage', 'md0', '--remove', 'faulty'])).code, 0);
  assert.deepEqual(
    agent.face.asked.map((request) => ('device' in request ? request.device : '')),
    ['/dev/ubda', memberB],
  );
});

test('status is plain tables without a terminal, and says who leads and who may write', async (t) => {
  const { agent, run } = await agentAndRun(t);
  const degraded = copying({ ...withFaulty(raid1(), memberB), syncLimitKib: 51_200 });
  agent.face.now = clusterStatus([
    {
      ...degraded,
      trouble: 'disk \u001b[31mgone',
    },
  ]);
  const { code, out } = await run(['status']);
  assert.equal(code, 0);
  assert.equal(
    out,
    [
      `Cluster demo (${clusterUuid}), mdmesh 0.1.0`,
      'Term 3, master is node 1; this is node 2 (follower), it may write',
      '',
      'NODE  ADDRESS   STATUS  CONNECTED  ELIGIBLE  WRITES  ROLE',
      '1     10.0.0.1  alive   yes        yes       yes     master',
      '2*    10.0.0.2  alive   -          yes       yes',
      '3     10.0.0.3  dead    no         no        ?',
      '',
      `ARRAY  LEVEL  STATE                 DISKS  COPY             ACCESS  WRITERS  VERSION  UUID`,
      `md0    raid1  degraded, recovering  [U_]   recovery 12.6 %  shared  1,2      3.8      ${arrayUuid}`,
      '',
      'md0: recovery [==>..................] 12.6 %, 32.7 MiB/s, finish in 127.5 min, by node 1, limit 50MiB/s',
      'md0: disk ?[31mgone',
      '',
    ].join('\n'),
  );
});

test('colour on a terminal only, and not against NO_COLOR', async (t) => {
  const { run } = await agentAndRun(t);
  assert.ok((await run(['status'], { tty: true })).out.includes('\u001b[32malive'));
  assert.ok(!(await run(['status'], { tty: true, env: { NO_COLOR: '1' } })).out.includes('\u001b'));
  assert.ok(!(await run(['status'])).out.includes('\u001b'));
  const plain = (await run(['nodes'])).out.split('\n');
  const painted = (await run(['nodes'], { tty: true })).out.split('\n');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes are what is taken away
  const uncoloured = painted.map((line) => line.replace(/\u001b\[[0-9]+m/g, '').trimEnd());
  assert.deepEqual(uncoloured, plain);
});

test('--json gives what the agent gave', async (t) => {
  const { agent, run } = await agentAndRun(t);
  const now = JSON.parse(JSON.stringify(agent.face.now));
  assert.deepEqual(JSON.parse((await run(['status', '--json'])).out), now);
  assert.deepEqual(JSON.parse((await run(['nodes', '--json'])).out), now.nodes);
  assert.deepEqual(JSON.parse((await run(['detail', 'md0', '--json'])).out), now.arrays[0]);
});

test('detail has mdadm’s layout, then the mesh’s own part; --test tells the condition by exit code', async (t) => {
  const { agent, run } = await agentAndRun(t);
  const whole = await run(['detail', '/dev/md0', '--test']);
  assert.equal(whole.code, 0);
  assert.match(whole.out, /^\/dev\/md0:\n {11}Version : 1\.2\n/);
  assert.match(whole.out, / {8}Mesh State : clean\n/);
  assert.match(whole.out, / {12}Bitmap : none\n/);
  const bitmap = { firstSector: 224, sectorsPerNode: 8, chunkSectors: 128 };
  const writerBoots = [{ node: 2, kernelBoot: memberA, bitmap: false }];
  agent.face.now = clusterStatus([arrayStatus({ ...raid1(), bitmap, writerBoots })]);
  assert.match(
    (await run(['detail', 'md0'])).out,
    /Bitmap : one for each node, 64KiB a bit; none on this node.*; a death of node 2 is followed by a full resync\n/,
  );
  agent.face.now = clusterStatus([arrayStatus(withFaulty(raid1(), memberB))]);
  assert.equal((await run(['detail', 'md0', '--test'])).code, 1);
  assert.equal((await run(['detail', 'md0'])).code, 0);
  agent.face.now = clusterStatus([arrayStatus(withFaulty(raid1(), memberA, memberB))]);
  assert.equal((await run(['detail', 'md0', '--test'])).code, 2);
  const unknown = await run(['detail', 'md9']);
  assert.deepEqual(unknown, { code: 1, out: '', err: 'mdmesh: array md9: not known here; known: md0\n' });
});

test('examine prints mdadm’s layout and the mesh area, and goes on behind a disk that has neither', async (t) => {
  const { agent, run } = await agentAndRun(t);
  const mesh = { clusterUuid, clusterName: 'demo', record: raid1(), nodeSlots: 8 };
  agent.face.disks = [disk('/dev/sdx', { superblock: null }), disk('/dev/sdy', { mesh })];
  const { code, out, err } = await run(['examine', '/dev/sdx', '/dev/sdy', '/dev/sdz']);
  assert.equal(code, 1);
  assert.match(out, /^\/dev\/sdy:\n {10}Magic : a92b4efc\n/);
  assert.match(out, / {3}Cluster Name : demo\n/);
  assert.match(out, / {9}Commit : term 3, index 7\n/);
  assert.match(err, /\/dev\/sdx: no md superblock/);
  assert.match(err, /\/dev\/sdz: the agent sees no such disk/);
  const json = await run(['examine', '--json', '/dev/sdy']);
  assert.equal(json.code, 0);
  assert.equal(JSON.parse(json.out)[0].mesh.clusterName, 'demo');
});

test('confirm-dead asks twice, and once wrong is not confirmed', async (t) => {
  const { agent, run } = await agentAndRun(t);
  for (const answers of [[], ['3'], ['3', 'yes'], ['2', '3']]) {
    const { code, err } = await run(['node', 'confirm-dead', '3'], { answers });
    assert.equal(code, 1);
    assert.match(err, /nothing was confirmed/);
  }
  assert.deepEqual(agent.face.asked, []);
  assert.equal((await run(['node', 'confirm-dead', '3'], { answers: ['3', ' 3 '] })).code, 0);
  assert.deepEqual(agent.face.asked, [{ verb: 'confirm-dead', node: 3 }]);
});

test('a script has to say confirm-dead twice as well', async (t) => {
  const { agent, run } = await agentAndRun(t);
  for (const flags of [[], ['--really'], ['--confirm', '3'], ['--confirm', '2', '--really']]) {
    assert.equal((await run(['node', 'confirm-dead', '3', ...flags])).code, 2, flags.join(' '));
  }
  assert.deepEqual(agent.face.asked, []);
  assert.equal((await run(['node', 'confirm-dead', '3', '--confirm', '3', '--really'])).code, 0);
  assert.equal(agent.face.asked.length, 1);
});

test('the socket comes from the configuration that is named; a bad one is named', async (t) => {
  const { agent } = await agentAndRun(t);
  const keyFile = join(agent.directory, 'key');
  const made = JSON.parse((await run(['keygen', '--json', '--out', keyFile, '--state-dir', agent.directory])).out);
  const file = join(agent.directory, 'mdmesh.yaml');
  const lines = [
    `cluster: { name: demo, uuid: ${clusterUuid} }`,
    `nodes: [{ id: 1, address: 127.0.0.1, peer_id: ${made.peerId} }]`,
    `key_file: ${keyFile}`,
    `socket: { path: ${agent.socketPath} }`,
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  assert.equal((await run(['nodes', '--config', file])).code, 0);
  assert.equal((await run(['nodes'], { env: { MDMESH_CONFIG: file } })).code, 0);
  const good = await run(['config', 'check', file]);
  assert.deepEqual([good.code, good.err], [0, '']);
  assert.match(good.out, /good/);

  writeFileSync(file, 'cluster: 7\n');
  const bad = await run(['config', 'check', '--config', file]);
  assert.deepEqual([bad.code, bad.out], [1, '']);
  assert.match(bad.err, /cluster/);
  const blind = await run(['nodes', '--config', file]);
  assert.equal(blind.code, 1);
  assert.match(blind.err, /problems?; see them with `mdmesh config check`/);
  assert.match((await run(['nodes', '--config', '/nonexistent.yaml'])).err, /\/nonexistent\.yaml: cannot be read/);
});

test('the program itself runs, and ends with the command’s code', async (t) => {
  const { agent } = await agentAndRun(t);
  const program = new URL('../../src/cli/mdmesh.ts', import.meta.url).pathname;
  const start = promisify(execFile);
  const { stdout } = await start(process.execPath, [program, 'nodes', '--socket', agent.socketPath]);
  assert.match(stdout, /^NODE {2}ADDRESS/);
  await assert.rejects(start(process.execPath, [program, 'bogus']), { code: 2 });
});

test('commands that only talk to the agent load no server, no libp2p and no schemas: they start fast', async (t) => {
  const { agent } = await agentAndRun(t);
  const program = new URL('../../src/cli/mdmesh.ts', import.meta.url).pathname;
  const hook = `import { registerHooks } from 'node:module';
    registerHooks({ resolve: (name, context, next) => {
      if (/^(fastify|zod|yaml|pino|libp2p|@libp2p)/.test(name)) process.stderr.write('loaded ' + name + ' for ' + context.parentURL + '\\n');
      return next(name, context);
    } });`;
  const preload = `data:text/javascript,${encodeURIComponent(hook)}`;
  for (const argv of [
    ['--help'],
    ['status'],
    ['action', 'md0', 'check'],
    ['stop', 'md0'],
    ['drop-writes', '--sys-block', agent.directory],
  ]) {
    const words = ['--import', preload, program, ...argv, '--socket', agent.socketPath];
    const { stderr } = await promisify(execFile)(process.execPath, words);
    assert.equal(stderr, '', argv.join(' '));
  }
});
