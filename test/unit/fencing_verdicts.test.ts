import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { LAN } from '#src/config/index.ts';
import {
  type CommandOutcome,
  createFencing,
  type FencingMethod,
  type FencingNote,
  type FencingVerdict,
  runCommand,
} from '#src/fencing/index.ts';

const directory = mkdtempSync(join(tmpdir(), 'mdmesh-fencing-'));
after(() => rmSync(directory, { recursive: true }));

/** A clock that moves only when told, and calls back what was scheduled. */
class FakeTime {
  nowMs = 1000;
  readonly #timers = new Set<{ atMs: number; callback: () => void }>();
  schedule = (delayMs: number, callback: () => void) => {
    const timer = { atMs: this.nowMs + delayMs, callback };
    this.#timers.add(timer);
    return () => {
      this.#timers.delete(timer);
    };
  };
  async pass(ms: number): Promise<void> {
    const endMs = this.nowMs + ms;
    await settled();
    for (;;) {
      const due = [...this.#timers].filter((timer) => timer.atMs <= endMs).toSorted((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.nowMs = due.atMs;
      this.#timers.delete(due);
      due.callback();
      await settled();
    }
    this.nowMs = endMs;
  }
  pending(): number {
    return this.#timers.size;
  }
}

/** Promises that settle one after the other have. */
const quiet = async () => {
  for (let i = 0; i < 10; i++) await settled();
};
const settled = () => new Promise((resolve) => setImmediate(resolve));
const NODE = { node: 3, address: '10.77.0.3', lastGrantMs: 1000 };
/** max(L, R + W) + 1 s of the lan profile. */
const WATCHDOG_WAIT_MS = 8000;

function fencing(
  methods: FencingMethod[],
  options: { outcomes?: CommandOutcome[]; real?: string[]; acceptDataLoss?: boolean; timeoutMs?: number } = {},
) {
  const time = new FakeTime();
  const notes: FencingNote[] = [];
  const inputs: string[] = [];
  const aborts: AbortSignal[] = [];
  const fenced = createFencing({
    config: {
      cluster: { name: 'demo', uuid: '' },
      timing: LAN,
      fencing: {
        methods,
        command: {
          argv: options.real ?? ['/sbin/fence'],
          timeoutMs: options.timeoutMs ?? 30_000,
          options: {},
          nodeOptions: {},
        },
        watchdog: null,
        acceptDataLoss: options.acceptDataLoss ?? false,
      },
    },
    clock: () => time.nowMs,
    schedule: time.schedule,
    onEvent: (note) => notes.push(note),
    ...(options.real
      ? {}
      : {
          run: (_argv, input, abort) => {
            inputs.push(input);
            aborts.push(abort);
            const outcome = options.outcomes?.shift();
            // No outcome left: it hangs until it is killed.
            if (outcome !== undefined) return Promise.resolve(outcome);
            return new Promise((resolve) =>
              abort.addEventListener('abort', () =>
                resolve({ exitCode: null, trouble: 'ended by SIGKILL', output: '' }),
              ),
            );
          },
        }),
  });
  const watch = (verdict: Promise<FencingVerdict>) => {
    const seen: { verdict: FencingVerdict | null } = { verdict: null };
    void verdict.then((came) => {
      seen.verdict = came;
    });
    return () => seen.verdict;
  };
  return { fenced, time, notes, inputs, aborts, watch };
}

const failed: CommandOutcome = { exitCode: 1, trouble: null, output: 'switch unreachable' };
const off: CommandOutcome = { exitCode: 0, trouble: null, output: 'outlet 3 is off' };

test('a command that exits with 0 vouches; it is told all about the node on its input', async () => {
  const { fenced, inputs } = fencing(['command'], { outcomes: [off] });
  const verdict = await fenced.fence(NODE);
  assert.deepEqual(verdict, {
    node: 3,
    stopped: true,
    method: 'command',
    text: '/sbin/fence vouches that node 3 has stopped: outlet 3 is off',
  });
  assert.deepEqual(inputs, ['action=off\nnodeid=3\nnodename=node-3\naddress=10.77.0.3\ncluster=demo\n']);
});

test('a command that fails vouches for nothing, and is tried again every two seconds', async () => {
  const { fenced, time, notes, watch } = fencing(['command'], { outcomes: [failed, failed, off] });
  const seen = watch(fenced.fence(NODE));
  await time.pass(0);
  assert.equal(seen(), null);
  assert.match(notes.at(-1)?.text ?? '', /ended with exit code 1: switch unreachable; tried again in 2000 ms/);
  await time.pass(2000);
  assert.equal(seen(), null);
  await time.pass(1999);
  assert.equal(seen(), null);
  await time.pass(1);
  assert.equal(seen()?.method, 'command');
});

test('a command that hangs is killed at its timeout, and that is no success', async () => {
  const { fenced, time, notes, aborts, watch } = fencing(['command'], { timeoutMs: 5000 });
  const seen = watch(fenced.fence(NODE));
  await time.pass(4999);
  assert.equal(aborts[0]?.aborted, false);
  await time.pass(1);
  assert.equal(aborts[0]?.aborted, true);
  assert.equal(seen(), null);
  assert.match(notes.at(-1)?.text ?? '', /did not end within 5000 ms and was killed/);
});

test('an exit code of 0 that comes as the timeout kills does not count', async () => {
  const { time, watch } = fencing([]);
  const late = createFencing({
    config: {
      cluster: { name: 'demo', uuid: '' },
      timing: LAN,
      fencing: {
        methods: ['command'],
        command: { argv: ['/sbin/fence'], timeoutMs: 5000, options: {}, nodeOptions: {} },
        watchdog: null,
        acceptDataLoss: false,
      },
    },
    clock: () => time.nowMs,
    schedule: time.schedule,
    onEvent: () => {},
    run: (_argv, _input, abort) =>
      new Promise((resolve) =>
        abort.addEventListener('abort', () => resolve({ exitCode: 0, trouble: null, output: '' })),
      ),
  });
  const seen = watch(late.fence(NODE));
  await time.pass(5000);
  assert.equal(seen(), null);
});

test('the watchdog vouches once the silent node’s time is up, not a millisecond before', async () => {
  const { fenced, time, watch } = fencing(['watchdog']);
  const seen = watch(fenced.fence(NODE));
  await time.pass(WATCHDOG_WAIT_MS - 1);
  assert.equal(seen(), null);
  await time.pass(1);
  assert.deepEqual([seen()?.stopped, seen()?.method], [true, 'watchdog']);
});

test('time counts from the last grant, not from the asking', async () => {
  const { fenced, time, watch } = fencing(['watchdog']);
  time.nowMs = NODE.lastGrantMs + WATCHDOG_WAIT_MS;
  const seen = watch(fenced.fence(NODE));
  await settled();
  assert.equal(seen()?.method, 'watchdog');
});

test('a timer that fires early proves nothing: the clock does', async () => {
  const { fenced, time, watch } = fencing(['watchdog']);
  const seen = watch(fenced.fence(NODE));
  const clockStands = time.nowMs;
  await time.pass(WATCHDOG_WAIT_MS - 1);
  time.nowMs = clockStands;
  await time.pass(WATCHDOG_WAIT_MS - 1);
  assert.equal(seen(), null);
  await time.pass(1);
  assert.equal(seen()?.stopped, true);
});

test('asked again with a later grant, the wait is longer; with an earlier one it is not shorter', async () => {
  const { fenced, time, watch } = fencing(['watchdog']);
  const seen = watch(fenced.fence(NODE));
  await time.pass(5000);
  void fenced.fence({ ...NODE, lastGrantMs: NODE.lastGrantMs + 3000 });
  void fenced.fence({ ...NODE, lastGrantMs: 0 });
  await time.pass(WATCHDOG_WAIT_MS - 5000 + 2999);
  assert.equal(seen(), null);
  await time.pass(1);
  assert.equal(seen()?.stopped, true);
});

test('the command fails for good: the watchdog’s time counts from the beginning all the same', async () => {
  const { fenced, time, watch } = fencing(['command', 'watchdog'], {
    outcomes: Array.from({ length: 9 }, () => failed),
  });
  const seen = watch(fenced.fence(NODE));
  await time.pass(WATCHDOG_WAIT_MS);
  assert.equal(seen()?.method, 'watchdog');
  assert.equal(time.pending(), 0, 'nothing is tried any more');
});

test('the operator’s word counts at any time, and ends a command that is under way', async () => {
  const { fenced, time, aborts, watch } = fencing(['command', 'watchdog', 'manual']);
  const seen = watch(fenced.fence(NODE));
  await time.pass(10);
  assert.equal(fenced.confirm(3), null);
  await settled();
  assert.deepEqual([seen()?.stopped, seen()?.method], [true, 'manual']);
  assert.equal(aborts[0]?.aborted, true);
});

test('a word about a node that is not being fenced is not kept for another day', async () => {
  const { fenced, time, notes, watch } = fencing(['manual']);
  assert.equal(fenced.confirm(3), 'node 3 is not being fenced');
  assert.match(notes[0]?.text ?? '', /confirmation ignored: node 3 is not being fenced/);
  const seen = watch(fenced.fence(NODE));
  await time.pass(3_600_000);
  assert.equal(seen(), null);
  fenced.confirm(2);
  await settled();
  assert.equal(seen(), null);
});

test('where manual is not configured, nobody’s word counts', async () => {
  const { fenced, time, notes, watch } = fencing(['command'], { outcomes: [failed] });
  const seen = watch(fenced.fence(NODE));
  fenced.confirm(3);
  await time.pass(0);
  assert.equal(seen(), null);
  assert.ok(notes.some(({ text }) => /manual is not among fencing\.methods/.test(text)));
});

test('a node that answers again is let go: not stopped, nothing goes on', async () => {
  const { fenced, time, aborts, watch } = fencing(['command', 'watchdog', 'manual']);
  const seen = watch(fenced.fence(NODE));
  await time.pass(10);
  fenced.cancel(3);
  await settled();
  assert.deepEqual([seen()?.stopped, seen()?.method], [false, null]);
  assert.equal(aborts[0]?.aborted, true);
  await settled();
  assert.equal(time.pending(), 0);
  const again = watch(fenced.fence({ ...NODE, lastGrantMs: time.nowMs }));
  await time.pass(WATCHDOG_WAIT_MS - 1);
  assert.equal(again(), null, 'a new silence is a new wait');
});

test('without any method nobody vouches; accepted data loss waits and says so', async () => {
  const verdict = await fencing([]).fenced.fence(NODE);
  assert.equal(verdict.stopped, false);
  assert.match(verdict.text, /no fencing method is configured/);
  const { fenced, time, watch } = fencing([], { acceptDataLoss: true });
  const seen = watch(fenced.fence(NODE));
  await time.pass(WATCHDOG_WAIT_MS - 1);
  assert.equal(seen(), null);
  await time.pass(1);
  assert.deepEqual([seen()?.stopped, seen()?.method], [true, null]);
  assert.match(seen()?.text ?? '', /nobody vouches/);
});

// --- real programs ---------------------------------------------------------------------------------------------------

function script(name: string, body: string): string {
  const path = join(directory, name);
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
  return path;
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 1000, 'it never came');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test('a real program reads the node on its input, and its words come with the verdict', async () => {
  const fence = script('good.sh', 'cat; echo "$1 done" >&2; exit 0');
  const { fenced } = fencing(['command'], { real: [fence, '--outlet'] });
  const verdict = await fenced.fence(NODE);
  assert.equal(verdict.stopped, true);
  assert.match(verdict.text, /action=off\nnodeid=3\nnodename=node-3\naddress=10\.77\.0\.3\ncluster=demo/);
  assert.match(verdict.text, /--outlet done/);
});

test('a real program’s exit code, its absence, and its death by a signal all count as failures', async () => {
  const run = (argv: string[]) => runCommand(argv, 'x\n', new AbortController().signal);
  assert.deepEqual(await run([script('bad.sh', 'echo no power; exit 3')]), {
    exitCode: 3,
    trouble: null,
    output: 'no power',
  });
  assert.match((await run([join(directory, 'absent')])).trouble ?? '', /ENOENT/);
  assert.equal((await run([script('killed.sh', 'kill -9 $$')])).trouble, 'ended by SIGKILL');
  const deaf = script('deaf.sh', 'exec <&-; exit 0');
  assert.equal((await runCommand([deaf], 'x'.repeat(1_000_000), new AbortController().signal)).exitCode, 0);
});

test('a real program that hangs is killed with all that it started', async () => {
  const pids = join(directory, 'pids');
  const hang = script('hang.sh', `sleep 1000 & echo $$ $! > ${pids}.new; mv ${pids}.new ${pids}; wait`);
  const { fenced, time, notes } = fencing(['command'], { real: [hang], timeoutMs: 5000 });
  const verdict = fenced.fence(NODE);
  await until(() => existsSync(pids));
  const [shell = 0, sleeper = 0] = readFileSync(pids, 'utf8').trim().split(' ').map(Number);
  await time.pass(5000);
  await until(() => [shell, sleeper].every((pid) => !isAlive(pid)));
  await until(() => notes.some(({ text }) => /was killed/.test(text)));
  fenced.cancel(3);
  assert.equal((await verdict).stopped, false);
});

/** A zombie whose parent has not waited for it yet is dead. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

test('reservations vouch once every member has shut the node out, and not before the end of any grant that it may have', async () => {
  const { fenced, time, notes, watch } = fencing(['reservation']);
  let inTheWay: string | null = '/dev/sdb does not answer';
  let tries = 0;
  const shutOut = async () => {
    tries += 1;
    if (inTheWay !== null) throw new Error(inTheWay);
  };
  const seen = watch(fenced.fence({ ...NODE, shutOut }));
  await time.pass(NODE.lastGrantMs + 500 - time.nowMs - 1);
  assert.equal(tries, 0);
  await time.pass(1);
  assert.equal(tries, 1);
  await quiet();
  assert.equal(seen(), null);
  assert.match(notes.at(-1)?.text ?? '', /is not shut out of every member: \/dev\/sdb does not answer; tried again/);
  inTheWay = null;
  await time.pass(500);
  await quiet();
  assert.equal(seen()?.stopped, true);
  assert.equal(seen()?.method, 'reservation');
});

test('where a member has no reservations they vouch for nothing', async () => {
  const { fenced, time, notes, watch } = fencing(['reservation']);
  const seen = watch(fenced.fence(NODE));
  await time.pass(60_000);
  assert.equal(seen(), null);
  assert.ok(notes.some(({ text }) => /has no reservations \(mdmesh doctor names it\)/.test(text)));
});

test('a node that its disks shut out is not switched off; one that they do not is, when the command is listed behind', async () => {
  const clean = fencing(['reservation', 'command'], { outcomes: [off] });
  const seen = clean.watch(clean.fenced.fence({ ...NODE, shutOut: async () => undefined }));
  await clean.time.pass(10_000);
  assert.equal(seen()?.method, 'reservation');
  assert.deepEqual(clean.inputs, []);
  const stuck = fencing(['reservation', 'command'], { outcomes: [off] });
  const off3 = stuck.watch(stuck.fenced.fence({ ...NODE, shutOut: () => Promise.reject(new Error('no path')) }));
  await stuck.time.pass(10_000);
  await quiet();
  assert.equal(off3()?.method, 'command');
  const first = fencing(['command', 'reservation'], { outcomes: [off] });
  const atOnce = first.watch(first.fenced.fence({ ...NODE, shutOut: async () => undefined }));
  await first.time.pass(0);
  assert.equal(atOnce()?.method, 'command', 'listed first, it does not wait');
});

test('auto: the disks where they can, else the operator; a watchdog only where one is configured', async () => {
  const disks = fencing(['auto']);
  const byDisks = disks.watch(disks.fenced.fence({ ...NODE, shutOut: async () => undefined }));
  await disks.time.pass(10_000);
  assert.equal(byDisks()?.method, 'reservation');
  const people = fencing(['auto']);
  const byPeople = people.watch(people.fenced.fence(NODE));
  await people.time.pass(60_000);
  assert.equal(byPeople(), null, 'nobody said that there is a watchdog');
  assert.equal(people.fenced.confirm(3), null);
  await people.time.pass(0);
  assert.equal(byPeople()?.method, 'manual');
});

test('a fence agent is told in its own words, of all nodes and of this one; values are one line each', async () => {
  const agent = join(directory, 'fence_own');
  // As the fence agents read their standard input: name=value to its end, comments and empty lines aside.
  writeFileSync(
    agent,
    `#!/bin/sh
while IFS= read -r line; do case $line in ''|'#'*) ;; *=*) eval "opt_\${line%%=*}=\\\${line#*=}" ;; esac; done
[ "$opt_action" = off ] || exit 2
[ "$opt_ip" = 10.9.9.9 ] && [ "$opt_plug" = 7 ] || { echo "Failed: plug $opt_plug at $opt_ip"; exit 1; }
echo "Success: Powered OFF plug $opt_plug"
`,
    { mode: 0o755 },
  );
  const { fenced } = createFenced(agent, { ip: '10.9.9.9', username: 'fence' }, { 3: { plug: '7' } });
  const verdict = await fenced.fence(NODE);
  assert.equal(verdict.stopped, true);
  assert.match(verdict.text, /Success: Powered OFF plug 7/);
});

function createFenced(
  program: string,
  options: Record<string, string>,
  nodeOptions: Record<string, Record<string, string>>,
) {
  const time = new FakeTime();
  const fenced = createFencing({
    config: {
      cluster: { name: 'demo', uuid: '' },
      timing: LAN,
      fencing: {
        methods: ['command'],
        command: { argv: [program], timeoutMs: 30_000, options, nodeOptions },
        watchdog: null,
        acceptDataLoss: false,
      },
    },
    clock: () => time.nowMs,
    schedule: time.schedule,
    onEvent: () => undefined,
  });
  return { fenced };
}
