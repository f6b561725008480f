/** What a person sees of the demonstration: the tables say what the agents say, and the terminal is left as it was. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wholeCopy } from '#src/arrays/record.ts';
import type { Status } from '#src/outlets/index.ts';
import { frame, type Scene, Screen, tables } from '../../demo/screen.ts';

const uuids = ['a', 'b', 'c'].map((letter) => `00000000-0000-4000-8000-00000000000${letter}`);

/** Node `self` of three, in a cluster whose third leg has failed and that copies the others. */
function statusOf(self: number, master: number): Status {
  const members = uuids.map((uuid, slot) => ({
    uuid,
    devNumber: slot,
    role: slot === 2 ? ('faulty' as const) : ('active' as const),
    slot,
    dataOffsetSectors: 2048,
    dataSizeSectors: 4096,
  }));
  return {
    cluster: { name: 'demo', uuid: '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001' },
    self,
    version: 'test',
    protocol: { oldest: 1, newest: 1, level: 1 },
    startedAt: '2024-01-01T00:00:00.000Z',
    driver: 'simulated',
    lease: {
      role: self === master ? 'master' : 'follower',
      term: 7,
      master,
      leaseLeftMs: self === master ? 1700 : 0,
      grantLeftMs: 1400,
    },
    nodes: [1, 2, 3].map((node) => ({
      node,
      address: `10.77.0.${node}`,
      self: node === self,
      status: node === 1 ? ('dead' as const) : ('alive' as const),
      connected: node !== 1,
      version: 'test',
      refused: null,
      eligible: true,
      granted: null,
      clockRate: null,
    })),
    arrays: [
      {
        record: {
          uuid: uuids[0] ?? '',
          name: 'demo:md0',
          md: 'md0',
          level: 'raid1',
          layout: 0,
          chunkSectors: 0,
          raidDisks: 3,
          componentSectors: 4096,
          ctimeSeconds: 0,
          access: 'shared',
          owner: null,
          run: 'started',
          writers: [2, 3],
          writerBoots: [],
          resync: wholeCopy('resync', 2, 5),
          syncLimitKib: null,
          bitmap: null,
          lastCheck: null,
          events: 8,
          utimeSeconds: 0,
          members,
          version: { term: 7, index: 6 },
        },
        applied: null,
        released: null,
        local: {
          md: 'md0',
          arrayUuid: null,
          arrayState: 'active',
          writePending: false,
          held: self === 3,
          suspended: null,
          syncAction: 'resync',
          syncCompleted: null,
          resyncStartSector: 0,
          copyUnended: false,
          mismatchSectors: 0,
          degraded: 1,
          raidDisks: 2,
          sizeSectors: 2048,
          bitmap: null,
          members: members.map(({ uuid, slot }) => ({
            uuid,
            device: 'sda',
            slot,
            inSync: slot !== 2,
            rebuilding: false,
            faulty: slot === 2,
            blocked: false,
            path: 'up' as const,
          })),
        },
        paths: {},
        reports: [],
        sync:
          self === 2
            ? {
                since: 5,
                sequence: 1,
                kind: 'resync',
                by: 2,
                doneSectors: 1024,
                totalSectors: 4096,
                kibPerSecond: null,
                mismatchSectors: null,
              }
            : null,
        mismatchSectors: null,
        trouble: null,
      },
    ],
    list: { term: 0, generation: 0, digest: '', nodes: [1, 2, 3], pending: null, waitsFor: null },
    reservations: null,
    journal: { head: 0 },
    counters: {},
  };
}

function scene(over: Partial<Scene> = {}): Scene {
  return {
    title: 'three kernels, one mirror',
    elapsedMs: 12_300,
    nodes: [1, 2, 3],
    seen: new Map<number, Status | null>([
      [1, null],
      [2, statusOf(2, 2)],
      [3, statusOf(3, 2)],
    ]),
    writers: [
      { node: 1, acknowledged: 155, waitsMs: 0, lost: true },
      { node: 2, acknowledged: 458, waitsMs: 0, lost: false },
      { node: 3, acknowledged: 369, waitsMs: 1500, lost: false },
    ],
    step: 'The power of node 1 is cut.',
    lines: [],
    ...over,
  };
}

test('a dead master, the new one, a failed leg, a copy and a waiting application stand in the tables', () => {
  assert.deepEqual(tables(scene(), false), [
    'NODE    STATUS  ROLE       TERM  LEASE LEFT  GRANT LEFT  APPLICATION',
    'node 1  dead    no answer  -     -           -           155 acknowledged, then its power went',
    'node 2  alive   master     7     1.7 s       1.4 s       458 acknowledged',
    'node 3  alive   follower   7     -           1.4 s       369 acknowledged, waits for 1.5 s',
    '',
    'ARRAY          LEVEL  STATE   WRITES  DISKS HERE  COMMITTED  COMMIT  WRITERS  RESYNC',
    'md0 on node 2  raid1  active  open    [UU_]       [UU_]      7.6     2,3      node 2 copies 25 %',
    'md0 on node 3  raid1  active  held    [UU_]       [UU_]      7.6     2,3      node 2 copies',
  ]);
});

test('a frame never has more lines than the terminal, and shows the newest events', () => {
  const lines = Array.from({ length: 100 }, (_, index) => `event ${index}`);
  for (const rows of [1, 5, 14, 24, 60]) {
    const drawn = frame(scene({ lines }), rows);
    assert.ok(drawn.length <= rows, `${drawn.length} lines on ${rows} rows`);
  }
  assert.equal(frame(scene({ lines }), 24).at(-1), 'event 99');
});

/** A terminal, or a file, that keeps what was written to it. */
function output(isTTY: boolean): { stream: NodeJS.WriteStream; written: () => string } {
  const kept: string[] = [];
  const stream = Object.assign(Object.create(process.stdout), {
    isTTY,
    rows: 24,
    write: (text: string) => kept.push(text) > 0,
  });
  return { stream, written: () => kept.join('') };
}

test('where nobody watches, plain lines without a single escape; an event cannot bring its own', () => {
  const { stream, written } = output(false);
  const screen = new Screen(stream, 'title', [1, 2, 3]);
  screen.show({ seen: scene().seen, writers: scene().writers });
  screen.step('A disk breaks.');
  screen.event('n3  Fail  md0  \u001b[2Jmember\nsdc');
  screen.outcome('[UUU] became [UU_]');
  screen.tables();
  screen.close();
  assert.match(written(), /A disk breaks\.\n +n3 {2}Fail {2}md0 {2}\?\[2Jmember\?sdc\n +\[UUU\] became \[UU_\]\n/);
  assert.ok(!written().includes('\u001b'));
  assert.match(written(), /^ {4}node 2 {2}alive {3}master/m);
});

test('a terminal gets its own screen back, its cursor and its wrapping, and the story stays on it', () => {
  const { stream, written } = output(true);
  const screen = new Screen(stream, 'title', [1, 2, 3]);
  screen.step('A disk breaks.');
  screen.event('n3  Fail  md0');
  screen.outcome('[UUU] became [UU_]');
  screen.close();
  screen.close();
  const [drawn = '', after = ''] = written().split('\u001b[?25h\u001b[?7h\u001b[?1049l');
  assert.ok(drawn.startsWith('\u001b[?1049h\u001b[?7l\u001b[?25l'));
  assert.match(drawn, /n3 {2}Fail {2}md0/);
  assert.match(after, /^title\n +0\.0 s {2}A disk breaks\.\n +\[UUU\] became \[UU_\]\n$/);
});
