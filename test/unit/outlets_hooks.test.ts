/** Hooks: what a program is called with, what becomes of its time and its place in the journal, and that no event becomes an option. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { CommandOutcome } from '#src/fencing/command.ts';
import { type Alert, mailAlert, mailOf, programAlert, programCall } from '#src/outlets/alert.ts';
import { printable } from '#src/outlets/cloud_event.ts';
import type { Hook } from '#src/outlets/hooks.ts';
import { cloudEvents, startHooks } from '#src/outlets/index.ts';
import type { CloudEvent } from '#src/outlets/told.ts';
import type { Event } from '#src/wire/messages.ts';
import { clusterStatus, event, FakeJournal, failCommit, memberB, namesIn, notice } from './outlets_fake_agent.ts';

const fine: CommandOutcome = { exitCode: 0, trouble: null, output: '' };

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'mdmesh-hooks-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function told(of: Event): CloudEvent {
  const [first] = cloudEvents(of, namesIn(clusterStatus), { cursor: 5, appendedAt: of.time });
  assert.ok(first);
  return first;
}

/** Waits for a condition that other turns of the loop bring about. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** A hook whose runs the test sees, and ends. */
class Scene {
  readonly journal = new FakeJournal();
  readonly runs: { event: CloudEvent; end(outcome?: Partial<CommandOutcome>): void }[] = [];
  readonly said: string[] = [];
  readonly dir: string;
  now = new Date('2026-01-01T13:00:00Z');
  #started: { close(): Promise<void> } | null = null;

  constructor(dir: string) {
    this.dir = dir;
  }

  readonly alert: Alert = (event, abort) =>
    new Promise((resolve) => {
      abort.addEventListener('abort', () => resolve({ exitCode: null, trouble: 'killed', output: '' }));
      this.runs.push({ event, end: (outcome = {}) => resolve({ ...fine, ...outcome }) });
    });

  async start(more: Partial<Hook> = {}, begin?: number): Promise<void> {
    const say = (_fields: object, text: string) => void this.said.push(text);
    this.#started = await startHooks({
      hooks: [
        {
          name: 'pager',
          filter: {},
          where: 'every-node',
          concurrency: 1,
          maxAgeMs: 86_400_000,
          alert: this.alert,
          ...more,
        },
      ],
      journal: this.journal,
      names: namesIn(clusterStatus),
      self: 2,
      stateDir: this.dir,
      ...(begin !== undefined && { begin }),
      now: () => this.now,
      log: { info: say, warn: say, error: say },
    });
  }

  async stop(): Promise<void> {
    await this.#started?.close();
  }

  stored(): number {
    const path = join(this.dir, 'hooks/pager');
    return existsSync(path) ? Number(readFileSync(path, 'utf8')) : -1;
  }

  names(): string[] {
    return this.runs.map(({ event }) => event.data.name);
  }
}

test('a program is called as mdadm calls its own, with the rest in its environment and on its standard input', async (t) => {
  const dir = directory(t);
  const program = join(dir, 'hook.sh');
  const script =
    '#!/bin/sh\nprintf "%s\\n" "$@" > "$0.argv"; env | sort > "$0.env"; cat > "$0.in"; echo said; exit 3\n';
  writeFileSync(program, script);
  chmodSync(program, 0o755);
  process.env.MDMESH_HOOK_SECRET = 'of the agent';
  t.after(() => delete process.env.MDMESH_HOOK_SECRET);
  const fail = told(failCommit());
  const outcome = await programAlert([program, '--fixed'], 10_000)(fail, new AbortController().signal);
  assert.deepEqual(outcome, { exitCode: 3, trouble: null, output: 'said' });
  assert.equal(readFileSync(`${program}.argv`, 'utf8'), '--fixed\nFail\n/dev/md0\n/dev/ubdb\n');
  assert.deepEqual(JSON.parse(readFileSync(`${program}.in`, 'utf8')), JSON.parse(JSON.stringify(fail)));
  const env = readFileSync(`${program}.env`, 'utf8');
  for (const line of [
    'MDMESH_EVENT=Fail',
    'MDMESH_DEVICE=/dev/md0',
    'MDMESH_COMPONENT=/dev/ubdb',
    `MDMESH_MEMBER=${memberB}`,
  ]) {
    assert.ok(env.includes(`${line}\n`), line);
  }
  assert.doesNotMatch(env, /SECRET/, 'nothing of the agent’s own');
});

test('an event about no array has its subject in the device’s place, and no component', () => {
  assert.deepEqual(programCall(['/x'], told(notice('NodeDead'))).argv, ['/x', 'NodeDead', 'node/3']);
});

test('no word of an event becomes an option, a second header, or steers a terminal', () => {
  const evil = event({
    type: 'notice',
    name: '--exec=rm',
    severity: 'critical',
    subject: '-rf /\u0000\n\u001b[2J',
    detail: { why: 'x\nBcc: all@example.org\n\n.\nSubject: y' },
  });
  const { argv, env } = programCall(['/x', '--mine'], told(evil));
  assert.deepEqual(argv, ['/x', '--mine', 'exec=rm', 'rf /???[2J']);
  for (const value of Object.values(env)) assert.equal(value, printable(value));
  const mail = mailOf(told(evil), { to: 'root', from: 'root' }, new Date(0));
  const [head = '', body = ''] = mail.split('\n\n');
  assert.deepEqual(
    head.split('\n').map((line) => line.split(':')[0]),
    [
      'From',
      'To',
      'Subject',
      'Date',
      'Message-ID',
      'Auto-Submitted',
      'MIME-Version',
      'Content-Type',
      'Content-Transfer-Encoding',
    ],
  );
  assert.doesNotMatch(mail, /^(Bcc|\.)/m);
  assert.match(body, /mdmesh/);
});

test('a mail says what mdadm’s says, to sendmail on its standard input', async (t) => {
  const dir = directory(t);
  const sendmail = join(dir, 'sendmail');
  writeFileSync(sendmail, '#!/bin/sh\nprintf "%s " "$@" > "$0.argv"; cat > "$0.in"\n');
  chmodSync(sendmail, 0o755);
  const alert = mailAlert([sendmail, '-t', '-i'], { to: 'ops@example.org', from: 'root' }, 10_000);
  assert.equal((await alert(told(failCommit()), new AbortController().signal)).exitCode, 0);
  assert.equal(readFileSync(`${sendmail}.argv`, 'utf8'), '-t -i ');
  const mail = readFileSync(`${sendmail}.in`, 'utf8');
  assert.match(mail, /^From: root\nTo: ops@example\.org\nSubject: Fail event on \/dev\/md0:\S+\nDate: /);
  assert.match(mail, /\n\nThis is an automatically generated mail/);
  assert.match(mail, /A Fail event has been told of md device \/dev\/md0/);
  assert.match(mail, /component device \/dev\/ubdb\./);
});

test('a program that takes too long is killed with all that it started, and said', async (t) => {
  const dir = directory(t);
  const program = join(dir, 'slow.sh');
  writeFileSync(program, '#!/bin/sh\nsleep 600 & echo $! > "$0.pid"; wait\n');
  chmodSync(program, 0o755);
  const outcome = await programAlert([program], 300)(told(failCommit()), new AbortController().signal);
  assert.equal(outcome.exitCode, null);
  assert.match(outcome.trouble ?? '', /killed: it took longer than 300 ms/);
  const pid = Number(readFileSync(`${program}.pid`, 'utf8'));
  await until(() => !existsSync(`/proc/${pid}`) || /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')));
});

test('a new hook begins with what happens from now on; its place moves when a run has ended, and outlives the agent', async (t) => {
  const scene = new Scene(directory(t));
  scene.journal.append(notice('NodeDead'), 'x');
  await scene.start();
  assert.equal(scene.stored(), 1);
  scene.journal.append(failCommit(), 'x');
  await until(() => scene.runs.length === 1);
  assert.equal(scene.stored(), 1, 'not while it runs');
  scene.runs[0]?.end();
  await until(() => scene.runs.length === 2);
  assert.deepEqual(scene.names(), ['Fail', 'DegradedArray'], 'both tellings, one after the other');
  scene.runs[1]?.end({ exitCode: 1 });
  await until(() => scene.stored() === 2);
  await scene.stop();
  scene.journal.append(notice('NodeSuspect'), 'x');
  await scene.start();
  await until(() => scene.runs.length === 3);
  assert.equal(scene.names()[2], 'NodeSuspect', 'told of what happened meanwhile, and of nothing twice');
  scene.runs[2]?.end();
  await until(() => scene.stored() === 3);
  await scene.stop();
  assert.ok(
    scene.said.some((line) => /hook pager: Fail md0: exit 0 after/.test(line)),
    scene.said.join('\n'),
  );
  assert.ok(scene.said.some((line) => /DegradedArray md0: exit 1 after/.test(line)));
});

test('a new hook hears what an agent has told before its hooks began, and one with a place goes on there', async (t) => {
  const scene = new Scene(directory(t));
  scene.journal.append(notice('NodeDead'), 'x');
  const begin = scene.journal.head();
  scene.journal.append(notice('NodeSuspect'), 'x');
  await scene.start({}, begin);
  await until(() => scene.runs.length === 1);
  assert.deepEqual(scene.names(), ['NodeSuspect']);
  scene.runs[0]?.end();
  await until(() => scene.stored() === 2);
  await scene.stop();
  await scene.start({}, begin);
  scene.journal.append(notice('NodeDead'), 'x');
  await until(() => scene.runs.length === 2);
  assert.deepEqual(scene.names(), ['NodeSuspect', 'NodeDead'], 'nothing twice');
  scene.runs[1]?.end();
  await scene.stop();
});

test('what was under way when the agent ended is told again', async (t) => {
  const scene = new Scene(directory(t));
  await scene.start({ concurrency: 2 });
  for (const name of ['NodeSuspect', 'NodeDead', 'NodeEvicted']) scene.journal.append(notice(name), 'x');
  await until(() => scene.runs.length === 2);
  assert.deepEqual(scene.names(), ['NodeSuspect', 'NodeDead'], 'as many at once as may be');
  scene.runs[1]?.end();
  await until(() => scene.runs.length === 3);
  await scene.stop();
  assert.equal(scene.stored(), 0, 'the first has not ended');
  await scene.start();
  await until(() => scene.runs.length === 4);
  assert.equal(scene.names()[3], 'NodeSuspect');
  await scene.stop();
});

test('exit 75 is tried again until it is another', async (t) => {
  const scene = new Scene(directory(t));
  await scene.start();
  scene.journal.append(notice('NodeDead'), 'x');
  await until(() => scene.runs.length === 1);
  scene.runs[0]?.end({ exitCode: 75 });
  await until(() => scene.runs.length === 2);
  assert.equal(scene.stored(), 0);
  assert.deepEqual(scene.names(), ['NodeDead', 'NodeDead']);
  scene.runs[1]?.end();
  await until(() => scene.stored() === 1);
  await scene.stop();
});

test('only what its filter lets through, and of its own node alone where it says so; nothing that is too old', async (t) => {
  const scene = new Scene(directory(t));
  await scene.start({ filter: { types: ['NodeDead', 'NodeEvicted'] }, where: 'origin', maxAgeMs: 3_600_000 });
  const dead = (origin: number, time: string) => {
    const { body } = notice('NodeDead');
    scene.journal.append({ ...event(body, origin), time }, 'x');
  };
  dead(1, '2026-01-01T12:30:00Z');
  scene.journal.append(notice('NodeSuspect'), 'x');
  dead(2, '2026-01-01T11:59:00Z');
  scene.journal.append({ ...notice('NodeEvicted'), time: '2026-01-01T12:30:00Z' }, 'x');
  await until(() => scene.runs.length === 1);
  assert.equal(scene.names()[0], 'NodeEvicted');
  scene.runs[0]?.end();
  await until(() => scene.stored() === 4);
  assert.ok(scene.said.some((line) => /1 events are too old/.test(line)));
  await scene.stop();
});

test('a journal that was lost does not let everything be told again', async (t) => {
  const scene = new Scene(directory(t));
  for (let count = 0; count < 5; count += 1) scene.journal.append(notice('NodeDead'), 'x');
  await scene.start();
  await scene.stop();
  scene.journal.entries.splice(2);
  await scene.start();
  assert.equal(scene.stored(), 2);
  scene.journal.append(notice('NodeEvicted'), 'x');
  await until(() => scene.runs.length === 1);
  assert.equal(scene.names()[0], 'NodeEvicted');
  assert.ok(scene.said.some((line) => /the journal is another one/.test(line)));
  await scene.stop();
});
