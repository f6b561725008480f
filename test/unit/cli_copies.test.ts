/** Copies as people meet them: mdstat, detail, action, sync-limit and wait. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import type { ArrayRecord } from '#src/arrays/record.ts';
import { createContext } from '#src/cli/context.ts';
import { Failure, main } from '#src/cli/index.ts';
import { mdstatText } from '#src/cli/mdstat.ts';
import { wait } from '#src/cli/wait.ts';
import type { ArrayStatus } from '#src/outlets/index.ts';
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
  withRole,
} from './outlets_fake_agent.ts';

async function run(agent: FakeAgent, ...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const terminal = new FakeTerminal();
  const code = await main([...argv, '--socket', agent.socketPath], terminal);
  return { code, out: terminal.written, err: terminal.complained };
}

/** The lines of the one array, as they stand between the first and the last line. */
function mdstat(array: ArrayStatus): string {
  const text = mdstatText(clusterStatus([array]));
  const match = /^Personalities : (?:\[[a-z0-9]+\] )*\n([\s\S]*)unused devices: <none>\n$/.exec(text);
  assert.ok(match?.[1] !== undefined, text);
  return match[1];
}

/** What the kernel printed, by the name of the case. md lists members in the order in which they were bound, the last first: sorted here. */
const kernelText = new Map(
  readFileSync(new URL('../fixtures/mdstat.txt', import.meta.url), 'utf8')
    .split(/^### /m)
    .slice(1)
    .map((part): [string, string] => {
      const [name = '', ...lines] = part.split('\n');
      const sorted = lines
        .join('\n')
        .replace(/(?: ubd[a-d]\[\d\](?:\([FS]\))?)+$/m, (members) => members.split(' ').sort().join(' '));
      return [name, sorted.replace('super 1.2', 'super external:mdmesh')];
    }),
);

/** An array as the fixture's, of members in slots 0, 1, …; the letters are their roles. */
function fixtureArray(over: Partial<ArrayRecord>, roles: string): ArrayRecord {
  const [first] = raid1().members;
  assert.ok(first);
  const { componentSectors = 96_256 } = over;
  const roleOf = { U: 'active', S: 'spare', F: 'faulty', R: 'rebuilding' } as const;
  const members = [...roles].map((letter, index) => {
    const role = roleOf[letter as keyof typeof roleOf];
    const uuid = `dddddddd-0000-4000-8000-00000000000${index}`;
    return {
      ...first,
      uuid,
      devNumber: index,
      role,
      slot: role === 'spare' ? null : index,
      dataSizeSectors: componentSectors,
    };
  });
  return { ...raid1(), raidDisks: roles.length, ...over, componentSectors, members };
}

function named(array: ArrayStatus): ArrayStatus {
  const members = array.local?.members.map((member, index) => ({ ...member, device: `ubd${'abcd'[index]}` })) ?? [];
  return { ...array, local: { ...local(), members } };
}

test('mdstat: a mirror at rest, line for line as md_seq_show and raid1_status print it', () => {
  assert.equal(
    mdstatText(clusterStatus()),
    [
      'Personalities : [raid1] ',
      'md0 : active raid1 ubda[0] ubdb[1]',
      '      261120 blocks super external:mdmesh [2/2] [UU]',
      '      ',
      'unused devices: <none>',
      '',
    ].join('\n'),
  );
  assert.equal(mdstatText(clusterStatus([])), 'Personalities : \nunused devices: <none>\n');
});

test('mdstat: a recovery has the line of status_resync, on a node that does not copy too', () => {
  const rebuilding = copying(withRole(raid1(), memberB, 'rebuilding'));
  assert.equal(clusterStatus().self, 2, 'node 1 copies');
  assert.equal(
    mdstat(rebuilding),
    [
      'md0 : active raid1 ubda[0] ubdb[1]',
      '      261120 blocks super external:mdmesh [2/1] [U_]',
      '      [==>..................]  recovery = 12.6% (37043392/292945152) finish=127.5min speed=33440K/sec',
      '      ',
      '',
    ].join('\n'),
  );
});

test('mdstat: the numbers of a copy at its begin and at its end', () => {
  const line = (...args: Parameters<typeof copying>) => mdstat(copying(...args)).split('\n')[2];
  const told = { doneSectors: 0, totalSectors: 4096, kibPerSecond: 100 };
  assert.equal(
    line(raid1(), { kind: 'check' }, told),
    '      [>....................]  check =  0.0% (0/2048) finish=0.3min speed=100K/sec',
  );
  // 1 / (2^20 + 1) is missing to the whole: md's divisor is one more than the size, so that a copy under way never shows 100 %.
  const end = { doneSectors: 2 ** 30, totalSectors: 2 ** 30, kibPerSecond: 100 };
  assert.equal(
    line(raid1(), { kind: 'resync' }, end),
    '      [===================>.]  resync = 99.9% (536870912/536870912) finish=0.0min speed=100K/sec',
  );
  // No speed yet: db is 0, and so the divisor db/32+1 is 1: (6400 sectors) >> 5 = 200 s.
  const begun = { doneSectors: 0, totalSectors: 6400, kibPerSecond: null };
  assert.match(line(raid1(), {}, begun) ?? '', /finish=3\.3min speed=0K\/sec$/);
});

test('mdstat: a copy that is halted, or of which nothing was heard, is resync=PENDING behind a tab', () => {
  const pending = [
    copying(raid1(), { kind: 'resync' }, null),
    copying(raid1(), { halted: true }),
    // Word of the copy before this one.
    copying(raid1(), { since: 8 }, { since: 7 }),
  ];
  for (const array of pending) assert.equal(mdstat(array).split('\n')[2], '      \tresync=PENDING');
  assert.equal(mdstat(pending[0] ?? arrayStatus()).split('\n').length, 5);
});

test('mdstat: spares, faulty members and members without a disk here', () => {
  assert.match(mdstat(arrayStatus(withFaulty(raid1(), memberB))), / ubda\[0\] ubdb\[1\]\(F\)\n.* \[2\/1\] \[U_\]\n/);
  assert.match(
    mdstat(arrayStatus(withRole(raid1(), memberB, 'spare'))),
    / ubda\[0\] ubdb\[1\]\(S\)\n.* \[2\/1\] \[U_\]\n/,
  );
  const gone = { ...arrayStatus(), local: { ...local(), members: [] }, paths: { [memberA]: '/dev/sdq' } };
  assert.match(mdstat(gone), /^md0 : active raid1 sdq\[0\] missing\[1\]\n/);
});

test('mdstat is what the kernel prints of the same arrays, for each level and each kind of copy', () => {
  const chunked = { chunkSectors: 1024, componentSectors: 94_208 };
  const copied = { totalSectors: 96_256, doneSectors: 12_544 };
  const mirror = (roles: string) => fixtureArray({ raidDisks: 2 }, roles);
  const cases: [string, ArrayStatus][] = [
    ['raid1', arrayStatus(mirror('UU'))],
    ['raid10 near', arrayStatus(fixtureArray({ ...chunked, level: 'raid10', layout: 0x102 }, 'UUUU'))],
    ['raid10 far', arrayStatus(fixtureArray({ ...chunked, level: 'raid10', layout: 0x201 }, 'UUUU'))],
    ['raid10 offset', arrayStatus(fixtureArray({ ...chunked, level: 'raid10', layout: 0x10201 }, 'UUUU'))],
    ['raid10 of copies alone', arrayStatus(fixtureArray({ ...chunked, level: 'raid10', layout: 0x103 }, 'UUU'))],
    ['raid4', arrayStatus(fixtureArray({ ...chunked, level: 'raid4' }, 'UUUU'))],
    ['raid5', arrayStatus(fixtureArray({ ...chunked, level: 'raid5', layout: 2 }, 'UUUU'))],
    ['raid6', arrayStatus(fixtureArray({ ...chunked, level: 'raid6', layout: 2 }, 'UUUU'))],
    ['raid0', arrayStatus(fixtureArray({ ...chunked, level: 'raid0' }, 'UU'))],
    ['linear', arrayStatus(fixtureArray({ level: 'linear' }, 'UU'))],
    ['resync', copying(mirror('UUS'), { kind: 'resync' }, { ...copied, kibPerSecond: 2090 })],
    ['resync halted', copying(mirror('UUS'), { kind: 'resync', halted: true }, copied)],
    ['check', copying(mirror('UUS'), { kind: 'check' }, { ...copied, doneSectors: 10_496, kibPerSecond: 2624 })],
    ['repair', copying(mirror('UUS'), { kind: 'repair' }, { ...copied, kibPerSecond: 3200 })],
    ['recovery', copying(mirror('UFR'), {}, { ...copied, kibPerSecond: 2090 })],
  ];
  assert.deepEqual(cases.map(([name]) => name).sort(), [...kernelText.keys()].sort());
  for (const [name, array] of cases) assert.equal(mdstat(named(array)), kernelText.get(name), name);
  // Not in the fixture, mdadm makes none: raid10_status, far copies that stay within sets of devices.
  const inSets = arrayStatus(fixtureArray({ ...chunked, level: 'raid10', layout: 0x20201 }, 'UUUU'));
  assert.match(mdstat(named(inSets)), / 512K chunks 2 far-copies 2 devices per set \[4\/4\] \[UUUU\]\n/);
});

test('mdstat: stopped arrays are not there, one that does not run here is inactive, one that another node owns is active', () => {
  assert.equal(mdstat(arrayStatus({ ...raid1(), run: 'stopped' })), '');
  const away = { ...arrayStatus(), local: null };
  assert.equal(mdstat(away), 'md0 : inactive ubda[0] ubdb[1]\n      522240 blocks super external:mdmesh\n       \n');
  assert.match(mdstat({ ...away, record: { ...raid1(), access: 'exclusive', owner: 1 } }), /^md0 : active raid1 /);
  assert.match(mdstat({ ...away, record: { ...raid1(), access: 'exclusive', owner: 2 } }), /^md0 : inactive /);
  assert.match(
    mdstat({ ...arrayStatus(), local: { ...local(), arrayState: 'read-auto' } }),
    /active \(auto-read-only\) raid1 /,
  );
  const ten = mdstatText(
    clusterStatus([arrayStatus({ ...raid1(), md: 'md10' }), arrayStatus({ ...raid1(), md: 'md9' })]),
  );
  assert.ok(ten.indexOf('md9 :') < ten.indexOf('md10 :'), 'by number');
});

function local(): NonNullable<ArrayStatus['local']> {
  const { local: here } = arrayStatus();
  assert.ok(here);
  return here;
}

test('mdstat --json has the same in bytes', async (t) => {
  const agent = await startFakeAgent(t);
  agent.face.now = clusterStatus([copying({ ...withRole(raid1(), memberB, 'rebuilding'), syncLimitKib: 51_200 })]);
  const { code, out } = await run(agent, 'mdstat', '--json');
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(out), {
    arrays: [
      {
        md: 'md0',
        uuid: arrayUuid,
        active: true,
        level: 'raid1',
        sizeBytes: 522_240 * 512,
        raidDisks: 2,
        inSync: 1,
        slots: '[U_]',
        members: [
          { device: 'ubda', number: 0, role: 'active' },
          { device: 'ubdb', number: 1, role: 'rebuilding' },
        ],
        copy: {
          kind: 'recovery',
          by: 1,
          state: 'running',
          finishSeconds: 7652,
          percent: 12.6,
          doneBytes: 74_086_784 * 512,
          totalBytes: 585_890_304 * 512,
          bytesPerSecond: 33_440 * 1024,
          limitBytesPerSecond: 51_200 * 1024,
        },
        mismatchSectors: null,
      },
    ],
  });
});

test('detail has mdadm’s lines for each kind of copy, whoever makes it, and the mesh’s own below', async (t) => {
  const agent = await startFakeAgent(t);
  const show = async (array: ArrayStatus) => {
    agent.face.now = clusterStatus([array]);
    return (await run(agent, 'detail', 'md0')).out;
  };
  const cases = [
    ['recovery', ', recovering ', '    Rebuild Status : 12% complete'],
    ['resync', ', resyncing ', '     Resync Status : 12% complete'],
    ['repair', ', resyncing ', '     Resync Status : 12% complete'],
    ['check', ', checking ', '      Check Status : 12% complete'],
  ] as const;
  for (const [kind, state, progress] of cases) {
    const text = await show(copying(raid1(), { kind }));
    assert.ok(text.includes(`             State : active${state}\n`), text);
    // mdadm: behind the policy, before the name, an empty line on both sides.
    assert.ok(text.includes(`Consistency Policy : resync\n\n${progress}\n\n              Name : demo:md0\n`), text);
    assert.match(text, / {14}Copy : .* 12\.6 %, 32\.7 MiB\/s, finish in 127\.5 min, by node 1\n/);
  }
  const halted = await show(copying(raid1(), { halted: true }));
  assert.match(halted, / {13}State : active, recovering \(PENDING\) \n/);
  assert.doesNotMatch(halted, /% complete/);
  assert.match(halted, /Copy : recovery halted \[==>.*12\.6 %, by node 1; `mdmesh action md0 idle` lets it go on\n/);
  assert.match(halted, /Mesh State : clean, recovering \(halted\)\n/);
  const checked = await show({ ...arrayStatus({ ...raid1(), syncLimitKib: 512 }), mismatchSectors: 128 });
  assert.match(checked, / {8}Copy Limit : 512KiB\/s\n {8}Mismatches : the newest check or repair found 128 sectors/);
  assert.doesNotMatch(await show({ ...arrayStatus(), mismatchSectors: 0 }), /Mismatches|Copy|Last Check/);
  const lastCheck = { atSeconds: 1_767_225_600, mismatchSectors: 8 };
  const last = await show(arrayStatus({ ...raid1(), lastCheck }));
  assert.match(last, / {8}Last Check : 2026-01-01T00:00:00Z, 8 sectors differed\n/);
  const off = await show(arrayStatus({ ...raid1(), lastCheck: { ...lastCheck, mismatchSectors: null } }));
  assert.match(off, /Last Check : 2026-01-01T00:00:00Z, called off\n/);
});

test('detail says which node waits for its path to which member', async (t) => {
  const agent = await startFakeAgent(t);
  const record = raid1();
  const report = {
    array: record.uuid,
    applied: null,
    known: null,
    state: 'open' as const,
    visible: [],
    bitmap: false,
    trouble: null,
  };
  const array = arrayStatus(record);
  const reports = [
    { node: 1, report: { ...report, lost: [], fine: [] } },
    { node: 3, report: { ...report, lost: [memberB], fine: [] } },
  ];
  agent.face.now = clusterStatus([{ ...array, reports }]);
  const { out } = await run(agent, 'detail', 'md0');
  assert.match(out, / Node 1 : open\n/);
  assert.match(out, / Node 3 : open, its I\/O waits for its path to \/dev\/ubdb\n/);
});

test('action and sync-limit ask for what they say, with mdadm’s sizes', async (t) => {
  const agent = await startFakeAgent(t);
  for (const action of ['check', 'repair', 'idle', 'frozen'])
    assert.equal((await run(agent, 'action', '/dev/md0', action)).code, 0);
  for (const limit of ['50M', '50MiB', '51200', '1G', 'none'])
    assert.equal((await run(agent, 'sync-limit', 'md0', limit)).code, 0);
  assert.deepEqual(agent.face.asked, [
    ...(['check', 'repair', 'idle', 'frozen'] as const).map((action) => ({ verb: 'action', array: 'md0', action })),
    ...[51_200, 51_200, 51_200, 1_048_576, null].map((limitKib) => ({ verb: 'sync-limit', array: 'md0', limitKib })),
  ]);
  agent.face.answer = () => ({ ok: false, text: 'md0: a recovery is under way' });
  assert.deepEqual(await run(agent, 'action', 'md0', 'check'), {
    code: 1,
    out: '',
    err: 'mdmesh: md0: a recovery is under way\n',
  });
});

/** Far longer than the pause between two questions. */
const awayMs = 50;

interface Waited {
  code: number;
  out: string;
  err: string;
}

/** What `wait` makes of an array that is asked about again and again; the last stage stays. */
async function waited(
  t: TestContext,
  stages: (ArrayStatus | null | 'absent')[],
  setting: { tty?: boolean; quiet?: boolean; json?: boolean } = {},
): Promise<Waited> {
  const agent = await startFakeAgent(t);
  let next = 0;
  const terminal = new FakeTerminal({ tty: setting.tty ?? false });
  const context = createContext(terminal, () => ({ socket: agent.socketPath }));
  agent.face.status = () => {
    const stage = stages[Math.min(next, stages.length - 1)];
    next += 1;
    // The answer is on its way: the agent ends behind it, and comes back.
    if (stages[next] === 'absent') {
      next += 1;
      setImmediate(() => void agent.stop().then(() => setTimeout(() => void agent.start(), awayMs)));
    }
    assert.ok(stage !== undefined && stage !== 'absent');
    return clusterStatus(stage === null ? [] : [stage]);
  };
  let code: number;
  try {
    code = await wait(context, 'md0', { ...setting, pollMs: 1, dueMs: 20 });
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    code = error.exitCode;
    terminal.err(error.message);
  }
  return { code, out: terminal.written, err: terminal.complained };
}

const at = (doneSectors: number) => copying(raid1(), {}, { doneSectors, totalSectors: 1_024_000 });

test('wait: 0 once the copy has ended, 1 when there was none, 2 when there is no such array', async (t) => {
  assert.equal((await waited(t, [at(0), at(512_000), arrayStatus()])).code, 0);
  assert.deepEqual(await waited(t, [arrayStatus()]), { code: 1, out: 'md0: no copy was under way\n', err: '' });
  assert.deepEqual(await waited(t, [null]), {
    code: 2,
    out: '',
    err: 'array md0: not known here; see `mdmesh status`',
  });
  assert.equal((await waited(t, [copying({ ...raid1(), run: 'stopped' })])).code, 1, 'a stopped array copies nothing');
  assert.equal((await waited(t, [at(0), null])).code, 0, 'it was released meanwhile');
});

test('wait: plain lines at each fifth where no terminal is, one line drawn over itself on a terminal', async (t) => {
  const stages = [at(0), at(102_400), at(307_200), at(307_300), arrayStatus()];
  const plain = await waited(t, stages);
  assert.match(
    plain.out,
    /^md0: recovery \[>\.{20}\] 0\.0 %, .*\nmd0: recovery \[=====>.*\] 29\.9 %, .*, by node 1\nmd0: no copy is under way any more\n$/,
  );
  const drawn = await waited(t, stages, { tty: true });
  assert.equal(drawn.out.split('\r\u001b[Kmd0: recovery [').length, 1 + 4);
  assert.ok(drawn.out.endsWith('\r\u001b[Kmd0: no copy is under way any more\n'), drawn.out);
  assert.equal((await waited(t, stages, { quiet: true })).out, '', 'mdadm says nothing');
  assert.deepEqual(JSON.parse((await waited(t, stages, { json: true, tty: true })).out), {
    array: 'md0',
    waited: true,
  });
});

test('wait: a copy that is about to begin is waited for, and not for ever', async (t) => {
  const spare = arrayStatus(withRole(raid1(), memberB, 'spare'));
  const filled = copying(withRole(raid1(), memberB, 'rebuilding'));
  assert.equal((await waited(t, [spare, spare, filled, arrayStatus()])).code, 0);
  assert.equal((await waited(t, [spare])).code, 1, 'nobody began it');
  const third = { ...raid1(), members: [...raid1().members, ...withRole(raid1(), memberB, 'spare').members.slice(1)] };
  assert.equal(
    (await waited(t, [arrayStatus(third), filled, arrayStatus()])).code,
    1,
    'no slot is free: nothing is due',
  );
});

test('wait: a halted copy is waited for too, and whoever waits is told what it waits for, once', async (t) => {
  const halted = copying(raid1(), { halted: true });
  const { code, err } = await waited(t, [halted, halted, at(0), arrayStatus()], { quiet: true });
  assert.equal(code, 0);
  assert.match(err, /^mdmesh: md0: recovery halted .*; `mdmesh action md0 idle` lets it go on\n$/);
});

test('wait: the agent may go away and come back meanwhile', async (t) => {
  assert.equal((await waited(t, [at(0), 'absent', at(512_000), arrayStatus()])).code, 0);
});
