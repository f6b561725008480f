/** `mdmesh mdadm`, and the name mdadm: what goes to the agent, what to the real mdadm, and what is done in which order. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createContext } from '#src/cli/context.ts';
import { Failure, main } from '#src/cli/index.ts';
import { mdadm } from '#src/cli/mdadm.ts';
import { readMdadmLine } from '#src/cli/mdadm_line.ts';
import { findMdadm } from '#src/cli/mdadm_real.ts';
import type { Disk } from '#src/md/driver.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';
import {
  arrayStatus,
  arrayUuid,
  clusterStatus,
  copying,
  type FakeAgent,
  memberA,
  memberB,
  raid1,
  startFakeAgent,
  withFaulty,
} from './outlets_fake_agent.ts';

const project = resolve(import.meta.dirname, '../..');

function script(path: string, text: string): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

function temporary(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'mdmesh-mdadm-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

interface Host {
  agent: FakeAgent;
  /** As this machine's kernel has it. */
  array(md: string, metadata: string, state?: string): void;
  run(argv: string[]): Promise<{ code: number; out: string; err: string }>;
  /** What the real mdadm was called with. */
  real(): string[][];
  asked(): string[];
}

/** A machine with an agent that knows md0, and a real mdadm that notes its words and ends with code 7. */
async function host(t: TestContext): Promise<Host> {
  const agent = await startFakeAgent(t);
  const directory = temporary(t);
  const notes = join(directory, 'notes');
  script(
    join(directory, 'bin/mdadm'),
    `for word; do printf '%s\\n' "$word"; done >> '${notes}'; echo -- >> '${notes}'; exit 7`,
  );
  const sysBlock = join(directory, 'block');
  return {
    agent,
    array(md, metadata, state = 'active') {
      mkdirSync(join(sysBlock, md, 'md'), { recursive: true });
      writeFileSync(join(sysBlock, md, 'md/metadata_version'), `${metadata}\n`);
      writeFileSync(join(sysBlock, md, 'md/array_state'), `${state}\n`);
    },
    async run(argv) {
      const terminal = new FakeTerminal({ env: { PATH: join(directory, 'bin'), MDMESH_SOCKET: agent.socketPath } });
      const context = createContext(terminal, () => ({}));
      let code: number;
      try {
        code = await mdadm(context, argv, { sysBlock, systemDirs: [], settleMs: 0, wait: { pollMs: 1, dueMs: 0 } });
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        terminal.err(`mdmesh: ${error.message}\n`);
        code = error.exitCode;
      }
      return { code, out: terminal.written, err: terminal.complained };
    },
    real() {
      if (!existsSync(notes)) return [];
      const calls = readFileSync(notes, 'utf8').split('--\n').slice(0, -1);
      return calls.map((call) => call.split('\n').slice(0, -1));
    },
    asked: () =>
      agent.face.asked.map((request) =>
        [request.verb, 'array' in request ? request.array : '', 'device' in request ? request.device : ''].join(' '),
      ),
  };
}

test('every form in which mdadm’s users fail, remove and add is the same three steps', async (t) => {
  const forms = [
    '/dev/md0 --fail /dev/ubdb --remove /dev/ubdb --add /dev/ubdc',
    '/dev/md0 -f /dev/ubdb -r /dev/ubdb -a /dev/ubdc',
    '--manage /dev/md0 --set-faulty /dev/ubdb --rem /dev/ubdb --add /dev/ubdc',
    '--fail /dev/md0 /dev/ubdb -r /dev/ubdb -va /dev/ubdc',
    '-f /dev/md0 ubdb --remove ubdb --add /dev/ubdc --verbose',
    '--manage --verbose md0 --faulty /dev/ubdb -r /dev/ubdb -a /dev/ubdc',
  ];
  for (const form of forms) {
    const h = await host(t);
    h.array('md0', 'external:mdmesh');
    h.agent.face.answer = ({ verb }) => {
      if (verb === 'fail') h.agent.face.now = clusterStatus([arrayStatus(withFaulty(raid1(), memberB))]);
      return { ok: true, text: `${verb} done` };
    };
    const { code, out, err } = await h.run(form.split(' '));
    assert.deepEqual(h.asked(), ['fail md0 /dev/ubdb', 'remove md0 /dev/ubdb', 'add md0 /dev/ubdc'], form);
    assert.deepEqual([code, out, err], [0, '', 'mdmesh: fail done\nmdmesh: remove done\nmdmesh: add done\n'], form);
    assert.deepEqual(h.real(), [], form);
  }
});

test('one option is for all devices behind it; -q is silent; --force goes with --add', async (t) => {
  const h = await host(t);
  const { code, err } = await h.run('/dev/md0 -q --force -a /dev/x /dev/y -f /dev/z'.split(' '));
  assert.deepEqual([code, err], [0, '']);
  assert.deepEqual(h.asked(), ['add md0 /dev/x', 'add md0 /dev/y', 'fail md0 /dev/z']);
  assert.deepEqual(h.agent.face.asked[0], { verb: 'add', array: 'md0', device: '/dev/x', force: true });
});

test('--remove failed sees the member that the step before it failed', async (t) => {
  const h = await host(t);
  h.agent.face.answer = ({ verb }) => {
    if (verb === 'fail') h.agent.face.now = clusterStatus([arrayStatus(withFaulty(raid1(), memberB))]);
    return { ok: true, text: verb };
  };
  assert.equal((await h.run('/dev/md0 --fail /dev/ubdb --remove failed'.split(' '))).code, 0);
  assert.deepEqual(h.asked(), ['fail md0 /dev/ubdb', 'remove md0 /dev/ubdb']);
});

test('--remove detached takes out the faulty members whose disk is gone, and no other', async (t) => {
  const h = await host(t);
  const here = join(temporary(t), 'disk');
  writeFileSync(here, '');
  const faulty = arrayStatus(withFaulty(raid1(), memberA, memberB));
  h.agent.face.now = clusterStatus([{ ...faulty, paths: { [memberA]: here } }]);
  assert.equal((await h.run('/dev/md0 --remove detached'.split(' '))).code, 0);
  assert.deepEqual(h.asked(), [`remove md0 ${memberB}`]);
  // An active member is failed first, by its name.
  h.agent.face.now = clusterStatus([{ ...arrayStatus(), paths: {} }]);
  assert.equal((await h.run('/dev/md0 --remove detached'.split(' '))).code, 0);
  assert.equal((await h.run('/dev/md0 --remove --test detached'.split(' '))).code, 2, '--test: nothing was changed');
  assert.equal(h.asked().length, 1);
});

test('--fail detached takes the members whose disk is gone, and --remove detached then takes them out', async (t) => {
  const h = await host(t);
  const here = join(temporary(t), 'disk');
  writeFileSync(here, '');
  h.agent.face.now = clusterStatus([{ ...arrayStatus(), paths: { [memberA]: here, [memberB]: '/nonexistent/gone' } }]);
  h.agent.face.answer = ({ verb }) => {
    const paths = { [memberA]: here };
    if (verb === 'fail') h.agent.face.now = clusterStatus([{ ...arrayStatus(withFaulty(raid1(), memberB)), paths }]);
    return { ok: true, text: verb };
  };
  assert.equal((await h.run('/dev/md0 --fail detached --remove detached'.split(' '))).code, 0);
  assert.deepEqual(h.asked(), ['fail md0 /nonexistent/gone', `remove md0 ${memberB}`]);
  // A node that has lost its path to the storage must not take the disks of all others away.
  h.agent.face.now = clusterStatus([{ ...arrayStatus(), paths: {} }]);
  const blind = await h.run('/dev/md0 --fail detached'.split(' '));
  assert.equal(blind.code, 1);
  assert.match(blind.err, /this node sees no disk of it at all/);
  assert.equal(h.asked().length, 2);
});

function memberDisk(path: string, setUuid: string | null, deviceUuid = memberB): Disk {
  const superblock = { setUuid, deviceUuid };
  return { path, superblock: setUuid === null ? null : superblock } as Disk;
}

test('--re-add takes what the metadata calls a member of the array, and nothing else', async (t) => {
  const h = await host(t);
  h.agent.face.disks = [
    memberDisk('/dev/ubdb', arrayUuid),
    memberDisk('/dev/ubdc', memberA),
    memberDisk('/dev/ubdd', null),
  ];
  assert.equal((await h.run('/dev/md0 --re-add /dev/ubdb'.split(' '))).code, 0);
  assert.deepEqual(h.asked(), ['add md0 /dev/ubdb']);
  for (const [device, words] of [
    ['/dev/ubdc', /--re-add for \/dev\/ubdc is not possible: its superblock is not one of this array; use --add/],
    ['/dev/ubdd', /its superblock is not one of this array/],
    ['/dev/ubde', /--re-add for \/dev\/ubde is not possible: this node sees no such disk/],
  ] as const) {
    const { code, err } = await h.run(['/dev/md0', '--re-add', device]);
    assert.equal(code, 1);
    assert.match(err, words);
  }
  assert.equal(h.asked().length, 1);
});

test('missing means the disks of this array that are not in it, of --re-add and of --add', async (t) => {
  const h = await host(t);
  const [first] = raid1().members;
  assert.ok(first);
  h.agent.face.now = clusterStatus([arrayStatus({ ...raid1(), members: [first] })]);
  h.agent.face.disks = [
    memberDisk('/dev/ubda', arrayUuid, memberA),
    memberDisk('/dev/ubdb', arrayUuid, memberB),
    memberDisk('/dev/ubdc', null),
    memberDisk('/dev/ubdd', memberA, memberB),
  ];
  for (const option of ['--re-add', '--add']) assert.equal((await h.run(['/dev/md0', option, 'missing'])).code, 0);
  assert.deepEqual(h.asked(), ['add md0 /dev/ubdb', 'add md0 /dev/ubdb']);
  h.agent.face.disks = [];
  assert.equal((await h.run('/dev/md0 --re-add --test missing'.split(' '))).code, 2, '--test: nothing was changed');
});

test('--re-add faulty takes each faulty member out and adds it again, if its disk is there', async (t) => {
  const h = await host(t);
  const here = join(temporary(t), 'disk');
  writeFileSync(here, '');
  h.agent.face.now = clusterStatus([
    { ...arrayStatus(withFaulty(raid1(), memberA, memberB)), paths: { [memberA]: here } },
  ]);
  assert.equal((await h.run('/dev/md0 --re-add faulty'.split(' '))).code, 0);
  assert.deepEqual(h.asked(), [`remove md0 ${here}`, `add md0 ${here}`]);
  h.agent.face.answer = () => ({ ok: false, text: 'not now' });
  assert.equal((await h.run('/dev/md0 --re-add failed'.split(' '))).code, 1);
  assert.equal(h.asked().length, 3, 'what could not be taken out is not added');
});

test('--action asks the agent; what mdadm does not know goes to it, for it to say so', async (t) => {
  const h = await host(t);
  h.array('md0', 'external:mdmesh');
  h.array('md1', '1.2');
  for (const line of ['--misc --action=check /dev/md0', '--action repair md0', '--misc --action frozen -q /dev/md0']) {
    assert.equal((await h.run(line.split(' '))).code, 0, line);
  }
  assert.deepEqual(
    h.agent.face.asked.map((request) => ('action' in request ? [request.array, request.action] : [])),
    [
      ['md0', 'check'],
      ['md0', 'repair'],
      ['md0', 'frozen'],
    ],
  );
  assert.deepEqual(h.real(), []);
  const mixed = await h.run(['--action=idle', '/dev/md1', '/dev/md0']);
  assert.deepEqual([mixed.code, mixed.err], [7, 'mdmesh: action done\n']);
  for (const line of [
    ['--action=bogus', '/dev/md0'],
    ['--action=check', '--action=idle', '/dev/md0'],
    ['--action'],
    ['--manage', '/dev/md0', '--action=check'],
  ]) {
    assert.equal((await h.run(line)).code, 7, line.join(' '));
  }
  assert.deepEqual(h.real()[0], ['--action=idle', '/dev/md1']);
  assert.equal(h.asked().length, 4);
});

test('--wait: 0 when it waited, 1 when there was nothing to wait for, the real one’s for other arrays', async (t) => {
  const h = await host(t);
  h.array('md0', 'external:mdmesh');
  h.array('md1', '1.2');
  assert.deepEqual(await h.run(['--wait', '/dev/md0']), { code: 1, out: '', err: '' });
  let asked = 0;
  h.agent.face.status = () => {
    asked += 1;
    return clusterStatus([asked % 3 === 0 ? arrayStatus() : copying(raid1())]);
  };
  assert.deepEqual(await h.run(['-W', '/dev/md0']), { code: 0, out: '', err: '' });
  assert.equal(asked, 3);
  assert.equal((await h.run(['--misc', '--wait', '/dev/md1', '/dev/md0'])).code, 7);
  assert.deepEqual(h.real(), [['--misc', '--wait', '/dev/md1']]);
  const line = readMdadmLine('--action=check /dev/md0 --wait /dev/md0'.split(' '));
  assert.ok(line.mode === 'misc');
  assert.deepEqual(
    line.actions.map(({ verb }) => verb),
    ['action', 'wait'],
  );
});

test('the first step that is refused ends the line, with its words and exit code 1', async (t) => {
  const h = await host(t);
  h.agent.face.answer = ({ verb }) => ({ ok: verb === 'add', text: `${verb}: so it is` });
  const { code, err } = await h.run('/dev/md0 -a /dev/x -f /dev/y -r /dev/y -a /dev/z --stop'.split(' '));
  assert.equal(code, 1);
  assert.equal(err, 'mdmesh: add: so it is\nmdmesh: fail: so it is; 2 further steps were not done\n');
  assert.deepEqual(h.asked(), ['add md0 /dev/x', 'fail md0 /dev/y']);
});

test('--grow asks for devices or size, after it has added what is to be added', async (t) => {
  const growths: [string, object[]][] = [
    ['--grow /dev/md0 --raid-devices=3', [{ verb: 'grow-devices', array: 'md0', raidDisks: 3, force: false }]],
    ['-G /dev/md0 -n3 -f', [{ verb: 'grow-devices', array: 'md0', raidDisks: 3, force: true }]],
    [
      '--grow --add /dev/md0 /dev/ubdc -n 3 --quiet',
      [
        { verb: 'add', array: 'md0', device: '/dev/ubdc', force: false },
        { verb: 'grow-devices', array: 'md0', raidDisks: 3, force: false },
      ],
    ],
    ['--grow /dev/md0 --size=max', [{ verb: 'grow-size', array: 'md0', sizeKib: null, assumeClean: false }]],
    ['-G md0 -b none', [{ verb: 'grow-bitmap', array: 'md0', bitmap: 'none' }]],
    [
      '--grow /dev/md0 --bitmap=internal --bitmap-chunk=64M',
      [{ verb: 'grow-bitmap', array: 'md0', bitmap: 'internal', chunkKib: 65536 }],
    ],
    ['-G md0 -z 1G --assume-clean', [{ verb: 'grow-size', array: 'md0', sizeKib: 1048576, assumeClean: true }]],
  ];
  for (const [line, asked] of growths) {
    const h = await host(t);
    h.array('md0', 'external:mdmesh');
    const { code, err } = await h.run(line.split(' '));
    assert.equal(code, 0, `${line}: ${err}`);
    assert.deepEqual(h.agent.face.asked, asked, line);
    assert.equal(err === '', line.includes('--quiet'), err);
  }
  const h = await host(t);
  h.array('md1', '1.2');
  assert.equal((await h.run(['--grow', '/dev/md1', '-n', '3'])).code, 7);
  assert.deepEqual(h.real(), [['--grow', '/dev/md1', '-n', '3']]);
  h.agent.face.answer = ({ verb }) => ({ ok: false, text: `${verb}: no` });
  const { code, err } = await h.run('--grow /dev/md0 -n 3 --add /dev/x'.split(' '));
  assert.deepEqual([code, err], [1, 'mdmesh: add: no\n']);
  assert.equal(h.asked().length, 1, 'nothing is grown behind a disk that was refused');
});

test('--replace and --with go together in the order written', async (t) => {
  const h = await host(t);
  h.array('md0', 'external:mdmesh');
  assert.equal((await h.run('/dev/md0 --replace /dev/x /dev/y --with /dev/v'.split(' '))).code, 0);
  assert.deepEqual(h.agent.face.asked, [
    { verb: 'replace', array: 'md0', device: '/dev/x', with: '/dev/v' },
    { verb: 'replace', array: 'md0', device: '/dev/y', with: null },
  ]);
});

test('what mdmesh has no answer to is refused for an array of the cluster before anything is done', async (t) => {
  const h = await host(t);
  h.array('md0', 'external:mdmesh');
  const lines: [string, RegExp][] = [
    ['/dev/md0 --add-journal /dev/ubdb', /mdmesh has no --add-journal for it; nothing was done/],
    ['--grow /dev/md0 --level 5', /mdmesh cannot grow it by --level; nothing was done/],
    ['--grow /dev/md0 -n 3 --bitmap=none', /give --raid-devices, --size, --bitmap or --nodes, one of them at a time/],
    ['--grow /dev/md0 --bitmap=/var/bits', /\/var\/bits: not a bitmap; use internal or none/],
    ['--grow /dev/md0 -b none --bitmap-chunk=1M', /--bitmap-chunk goes with --bitmap internal/],
    ['--grow /dev/md0 -n three', /three: not a number from 1 on/],
    ['--grow /dev/md0 --size=-5', /-5: not a size; use KiB/],
    ['--grow /dev/md0 --add /dev/ubdc', /give --raid-devices, --size, --bitmap or --nodes, one of them at a time/],
    ['--grow /dev/md0 -n 3 -z max', /give --raid-devices, --size, --bitmap or --nodes, one of them at a time/],
    ['/dev/md0 --add --write-mostly /dev/x', /mdmesh has no --write-mostly/],
    ['--manage /dev/md0 -R', /mdmesh has no -R/],
    ['/dev/md0 --fail set-A', /"set-A" is not known here/],
    ['/dev/md0 --remove failed --fail failed', /--fail failed: only --remove and --re-add know this word/],
    ['/dev/md0 --remove missing', /--remove missing: only --add and --re-add know this word/],
    ['/dev/md0 --re-add detached', /--re-add detached: only --fail and --remove know this word/],
  ];
  for (const [line, words] of lines) {
    const { code, err } = await h.run(line.split(' '));
    assert.equal(code, 2, line);
    assert.match(err, words, line);
  }
  assert.deepEqual([h.asked(), h.real()], [[], []]);
});

test('an array that is not the cluster’s goes to the real mdadm with its words and exit code', async (t) => {
  const h = await host(t);
  h.array('md1', '1.2');
  h.array('md2', 'external:imsm');
  const lines = [
    ['/dev/md1', '--fail', '/dev/sdb', '--replace', 'a b', ''],
    ['--detail', '/dev/md1'],
    ['-S', '/dev/md2'],
    ['/dev/md7', '-f', '/dev/x'],
    ['--manage', '/dev/sda', '--add', '/dev/x'],
  ];
  for (const line of lines) assert.equal((await h.run(line)).code, 7);
  assert.deepEqual(h.real(), lines);
  assert.deepEqual(h.asked(), []);
});

test('a foreign array under the name of one of the cluster’s is left to the real mdadm', async (t) => {
  const h = await host(t);
  h.array('md0', '1.2');
  assert.equal((await h.run(['--stop', '/dev/md0'])).code, 7);
  assert.deepEqual(h.asked(), []);
  // An empty array, as opening a device node leaves it, is nobody's: the agent is asked.
  h.array('md0', 'none', 'clear');
  assert.equal((await h.run(['--stop', '/dev/md0'])).code, 0);
  assert.deepEqual(h.asked(), ['stop md0 ']);
});

test('all other modes and odd lines are the real mdadm’s, without asking anybody', async (t) => {
  const h = await host(t);
  await h.agent.stop();
  const lines = [
    ...['', '--help', '-V', '--assemble --scan', '-Ss', '-As', '/dev/md0', '--examine /dev/ubda'],
    ...[
      '--grow --scan',
      '--grow -D /dev/md0',
      '/dev/md0 --with /dev/x',
      '--raid-devices 3 --grow /dev/md0',
      '-C /dev/md0 -l1 -n2 a b',
      '-I /dev/ubda',
      '--zero-superblock /dev/x',
      '/dev/md0 /dev/x',
    ],
    ...['/dev/md0 --detail', '--misc --fail /dev/md0', '--bogus /dev/md0', '--monitor -f'],
  ].map((line) => line.split(' ').filter((word) => word !== ''));
  for (const line of lines) {
    h.array('md0', 'external:mdmesh');
    const { code, err } = await h.run(line);
    assert.deepEqual([code, err], [7, ''], line.join(' '));
  }
  assert.deepEqual(h.real(), lines);
});

test('--detail and --stop of the cluster’s arrays are the agent’s; other arrays in the same line are not', async (t) => {
  const h = await host(t);
  h.array('md0', 'external:-mdmesh');
  h.array('md1', '1.2');
  const detail = await h.run(['-D', '/dev/md0']);
  assert.equal(detail.code, 0);
  assert.match(detail.out, /^\/dev\/md0:\n[\s\S]*Mesh State : clean/);
  h.agent.face.now = clusterStatus([arrayStatus(withFaulty(raid1(), memberB))]);
  assert.equal((await h.run(['-Dt', '/dev/md0'])).code, 1, '--test: degraded');
  const both = await h.run(['--stop', '-q', '/dev/md1', '/dev/md0']);
  assert.deepEqual([both.code, both.err], [7, '']);
  assert.deepEqual(h.real(), [['--stop', '-q', '/dev/md1']]);
  assert.deepEqual(h.asked(), ['stop md0 ']);
  assert.match((await h.run(['--manage', '/dev/md0', '--stop'])).err, /^mdmesh: stop done\n$/);
  h.agent.face.answer = () => ({ ok: false, text: 'md0 cannot be stopped: node 1: busy' });
  const busy = await h.run(['--stop', '/dev/md0', '/dev/md1']);
  assert.deepEqual([busy.code, busy.err], [7, 'mdmesh: md0 cannot be stopped: node 1: busy\n'], 'codes are or-ed');
  assert.equal(h.real().length, 2, 'the other array had its turn');
});

test('without an agent an array of the cluster is still shown by the kernel’s words, and nothing else is done to it', async (t) => {
  const h = await host(t);
  h.array('md0', 'external:mdmesh');
  await h.agent.stop();
  const detail = await h.run(['--detail', '/dev/md0']);
  assert.equal(detail.code, 7);
  assert.match(detail.err, /no agent answers on .*\n.*only what this node's kernel knows/);
  for (const line of [
    ['--stop', '/dev/md0'],
    ['/dev/md0', '--fail', '/dev/ubdb'],
  ]) {
    const { code, err } = await h.run(line);
    assert.equal(code, 1);
    assert.match(err, /no agent answers/);
  }
  assert.deepEqual(h.real(), [['--detail', '/dev/md0']]);
});

test('a link in /dev/md names the array it leads to', async (t) => {
  const h = await host(t);
  const link = join(temporary(t), 'demo:0');
  symlinkSync('/dev/md0', link);
  // Here the link leads nowhere (there is no such device): then only its own name could say what it means.
  assert.equal((await h.run([link, '--fail', '/dev/x'])).code, existsSync('/dev/md0') ? 0 : 7);
  assert.equal((await h.run(['/dev/md/0', '--fail', '/dev/x'])).code, 0);
});

test('the real mdadm is found behind mdmesh’s own links, in PATH first, and its absence is said', async (t) => {
  const directory = temporary(t);
  const own = script(join(directory, 'lib/mdmesh'), '');
  mkdirSync(join(directory, 'soft'));
  mkdirSync(join(directory, 'hard'));
  mkdirSync(join(directory, 'dir/mdadm'), { recursive: true });
  mkdirSync(join(directory, 'plain'));
  symlinkSync(own, join(directory, 'soft/mdadm'));
  linkSync(own, join(directory, 'hard/mdadm'));
  writeFileSync(join(directory, 'plain/mdadm'), '');
  const path = ['soft', 'hard', 'dir', 'plain', 'none', '../relative'].map((name) =>
    name.startsWith('.') ? name : join(directory, name),
  );
  assert.equal(findMdadm(path.join(':'), [own], []), null);
  const real = script(join(directory, 'sbin/mdadm'), '');
  assert.equal(findMdadm(path.join(':'), [own], [dirname(real)]), real);
  const sooner = script(join(directory, 'sooner/mdadm'), '');
  assert.equal(findMdadm([...path, dirname(sooner)].join(':'), [own], [dirname(real)]), sooner);
  const terminal = new FakeTerminal({ env: { PATH: path.join(':'), MDMESH_CALLED_AS: own } });
  await assert.rejects(
    mdadm(
      createContext(terminal, () => ({})),
      ['--version'],
      { systemDirs: [] },
    ),
    /there is no mdadm besides mdmesh itself in PATH \(.*; install the mdadm package/,
  );
});

test('a script named mdadm that calls mdmesh again does not go round for ever', async (t) => {
  const directory = temporary(t);
  const program = join(project, 'src/cli/mdmesh.ts');
  const rounds = join(directory, 'rounds');
  script(join(directory, 'mdadm'), `echo round >> '${rounds}'; exec '${process.execPath}' '${program}' mdadm "$@"`);
  const ran = spawnSync(process.execPath, [program, 'mdadm', '--assemble', '--scan'], {
    env: { PATH: directory, MDMESH_MDADM_ROUNDS: '2' },
    encoding: 'utf8',
  });
  assert.equal(ran.status, 1);
  assert.match(ran.stderr, /leads back to mdmesh/);
  assert.equal(readFileSync(rounds, 'utf8'), 'round\n'.repeat(2));
});

test('through its launcher the program is mdadm under that name, and mdmesh under its own', async (t) => {
  const directory = temporary(t);
  const launcher = join(directory, 'lib/mdmesh');
  // Flags of the runtime come before the program.
  const skip = 'until [ "$(basename "$1")" = mdmesh.cjs ]; do shift; done; shift;';
  script(join(directory, 'lib/node'), `${skip} echo "$MDMESH_CALLED_AS" "$@"`);
  copyFileSync(join(project, 'scripts/launcher.sh'), launcher);
  symlinkSync(launcher, join(directory, 'mdadm'));
  const said = (name: string) => execFileSync(name, ['a b', '--detail'], { encoding: 'utf8' });
  assert.equal(said(launcher), `${launcher} a b --detail\n`);
  assert.equal(said(join(directory, 'mdadm')), `${join(directory, 'mdadm')} a b --detail\n`);
});

test('the whole way: the name mdadm, the agent’s answer, the real one’s output and exit code', async (t) => {
  const h = await host(t);
  const directory = temporary(t);
  script(join(directory, 'bin/mdadm'), 'echo "real: $*, called as [$MDMESH_CALLED_AS]"; kill -TERM $$');
  const run = (calledAs: string, ...argv: string[]) =>
    spawnSync(process.execPath, [join(project, 'src/cli/mdmesh.ts'), ...argv], {
      env: { PATH: join(directory, 'bin'), MDMESH_SOCKET: h.agent.socketPath, MDMESH_CALLED_AS: calledAs },
      encoding: 'utf8',
    });
  const real = run('/usr/local/sbin/mdadm', '--help');
  assert.deepEqual([real.stdout, real.status], ['real: --help, called as []\n', 143]);
  const own = run('/usr/bin/mdmesh', 'mdadm', '--help');
  assert.match(own.stdout, /^Usage: mdmesh mdadm/);
  assert.equal(own.status, 0);
  const terminal = new FakeTerminal({ env: {} });
  assert.equal(await main(['--socket', h.agent.socketPath, 'mdadm', '/dev/md0', '-f', '/dev/ubdb'], terminal), 0);
  assert.equal(await main([`--socket=${h.agent.socketPath}`, 'mdadm', '/dev/md0', '-f', '/dev/ubdb'], terminal), 0);
  assert.deepEqual(h.asked(), ['fail md0 /dev/ubdb', 'fail md0 /dev/ubdb']);
});

test('a value of an option is taken neither for the array nor for a device', () => {
  const line = readMdadmLine('--manage --homehost md0 /dev/md5 -a /dev/x -c /dev/md1 /dev/y'.split(' '));
  assert.equal(line.mode, 'manage');
  assert.equal(line.array, '/dev/md5');
  assert.deepEqual(
    line.steps.map(({ device }) => device),
    ['/dev/x', '/dev/y'],
  );
  assert.deepEqual(line.unknown, ['--homehost', '-c']);
  assert.equal(readMdadmLine(['--fai', '/dev/md0', '/dev/x']).mode, 'other', 'fail, faulty or failfast');
  assert.equal(readMdadmLine(['/dev/md0', '--test', '--fail', '/dev/x']).mode, 'other', '--test sets no mode');
});

const clusterOfTwo = (h: Host) => {
  h.array('md0', 'external:mdmesh');
  h.array('md5', '1.2');
};

test('--detail --scan, --brief and --export: the cluster’s arrays in mdadm’s form, the others by the real one', async (t) => {
  const h = await host(t);
  clusterOfTwo(h);
  const uuid = `${arrayUuid.slice(0, 8)}:${arrayUuid.slice(9, 13)}${arrayUuid.slice(14, 18)}`;
  const scan = await h.run(['--detail', '--scan']);
  assert.match(scan.out, /^ARRAY \/dev\/md0 metadata=1\.2 (spares=[0-9]+ )?name=\S+ UUID=[0-9a-f:]{35}\n$/);
  assert.ok(scan.out.includes(uuid), scan.out);
  assert.deepEqual(h.real(), [['--detail', '--brief', '/dev/md5']]);
  const line = await h.run(['-Ds']);
  assert.equal(line.out, scan.out);
  const exported = await h.run(['--detail', '--export', '/dev/md0']);
  assert.match(exported.out, /^MD_LEVEL=raid1\nMD_DEVICES=2\nMD_METADATA=1\.2\nMD_UUID=/);
  assert.match(exported.out, /^MD_DEVICE_dev_ubdb_ROLE=[0-9]+\nMD_DEVICE_dev_ubdb_DEV=\/dev\/ubdb$/m);
  assert.equal(exported.code, 0);
});

test('--create --bitmap=clustered makes an array of the cluster; any other --create is the real mdadm’s', async (t) => {
  const h = await host(t);
  const made = await h.run(
    '--create /dev/md3 -l1 -n2 --bitmap=clustered --nodes=3 --assume-clean /dev/ubdx /dev/ubdy'.split(' '),
  );
  assert.equal(made.code, 0, made.err);
  const request = h.agent.face.asked[0];
  assert.ok(request?.verb === 'create');
  const { md, level, raidDisks, bitmap, assumeClean, devices } = request;
  assert.deepEqual(
    { md, level, raidDisks, bitmap, assumeClean, devices },
    {
      md: 'md3',
      level: 'raid1',
      raidDisks: 2,
      bitmap: 'internal',
      assumeClean: true,
      devices: ['/dev/ubdx', '/dev/ubdy'],
    },
  );
  for (const [line, why] of [
    ['--create /dev/md3 -l1 -n2 --bitmap=clustered --nodes=2 /dev/x /dev/y', /the cluster has 3 nodes/],
    ['--create /dev/md3 -l1 -n2 --bitmap=clustered --nodes=99 /dev/x /dev/y', /room for 16/],
    ['--create /dev/md3 -n2 --bitmap=clustered /dev/x /dev/y', /a RAID level is needed/],
    ['--create /dev/md3 -l1 -n2 -e 0.90 --bitmap=clustered /dev/x /dev/y', /metadata 0\.90/],
    ['--create /dev/md3 -l1 -n2 --bitmap=clustered --failfast /dev/x /dev/y', /--failfast; nothing was done/],
  ] as const) {
    const refused = await h.run(line.split(' '));
    assert.match(refused.err, why, line);
    assert.equal(refused.code, 2);
  }
  assert.equal(h.agent.face.asked.length, 1, 'nothing was asked for');
  assert.equal((await h.run('--create /dev/md3 -l1 -n2 --bitmap=internal /dev/x /dev/y'.split(' '))).code, 7);
  assert.equal(h.real().length, 1);
});

test('--assemble of an array of the cluster is the agent’s; --zero-superblock of its member is refused', async (t) => {
  const h = await host(t);
  clusterOfTwo(h);
  assert.equal((await h.run('--assemble /dev/md0 /dev/ubdb /dev/ubdc'.split(' '))).code, 0);
  assert.equal((await h.run('-A --force /dev/md0'.split(' '))).code, 0);
  assert.deepEqual(h.asked(), ['assemble md0 ', 'assemble md0 ']);
  assert.deepEqual(h.agent.face.asked, [
    { verb: 'assemble', array: 'md0' },
    { verb: 'assemble', array: 'md0', force: true },
  ]);
  assert.equal((await h.run(['--assemble', '--scan'])).code, 7);
  const member = join(temporary(t), 'member');
  const superblock = (feature: number) => {
    const bytes = Buffer.alloc(8192);
    bytes.writeUInt32LE(0xa92b4efc, 4096);
    bytes.writeUInt32LE(feature, 4096 + 8);
    writeFileSync(member, bytes);
  };
  superblock(0x40000000);
  const refused = await h.run(['--zero-superblock', member]);
  assert.match(refused.err, /belongs to an array of a cluster - not zeroing/);
  assert.equal(refused.code, 2);
  superblock(0x100);
  assert.equal((await h.run(['--zero-superblock', member])).code, 7, 'another one’s');
});
