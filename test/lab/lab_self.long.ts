/** The laboratory tests itself: what the cluster's tests take for granted about their kernels, disks, network and power must be so. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeProcess, isAlive, writeRecord } from './guest/registry.ts';
import { GuestErrno, Lab, labAvailable } from './lab.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, the whole laboratory: ${available.why}`);
const skip = available.ok ? false : available.why;

interface WriterReport {
  acknowledged: number;
  failed: number;
  hanging: number;
  pauses: { count: number };
  errors: { text: string }[];
}

async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (await holds()) return;
    await sleep(25);
  }
  assert.fail(`it never came to be that ${what}`);
}

suite('laboratory', { skip, timeout: 120_000 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.start({ name: 'self', guests: 2, diskMib: [64, 64, 16], memMib: 256 });
  });
  after(async () => {
    await lab.close();
  });

  test('guests run commands side by side, tell errors by name, and survive a command that never ends', async () => {
    const n1 = lab.guest(1);
    assert.equal(await n1.must('hostname'), 'n1\n');
    assert.deepEqual(await n1.sh('echo out; echo err >&2; exit 7'), { rc: 7, out: 'out\n', err: 'err\n' });
    const slow = n1.sh('sleep 30', { timeoutMs: 300 });
    assert.equal(await lab.guest(2).must('hostname'), 'n2\n');
    assert.equal((await n1.sh('true')).rc, 0);
    await assert.rejects(slow, /not done within 300 ms/);
    const missing = (error: unknown) => error instanceof GuestErrno && error.code === 'ENOENT';
    await assert.rejects(n1.readFile('/no/such/file'), missing);
  });

  test('a process of a guest is logged on the host, takes signals, and its end is told', async () => {
    const n1 = lab.guest(1);
    const logFile = join(n1.dir, 'greeter.log');
    const greeter = await n1.spawn(['/bin/sh', '-c', 'echo $GREETING; exec sleep 60'], {
      logFile,
      env: { GREETING: 'hello' },
    });
    await eventually('the log is on the host', () => readFileSync(logFile, 'utf8') === 'hello\n');
    await greeter.signal('SIGTERM');
    assert.deepEqual(await greeter.exited, { code: null, signal: 15, lost: false });
  });

  test('what one guest writes past its cache, the other and the host read', async () => {
    const [n1, n2] = [lab.guest(1), lab.guest(2)];
    await n2.must('dd if=/dev/ubdc iflag=direct bs=4096 count=1 of=/tmp/before status=none');
    await n1.must('yes shared | dd of=/dev/ubdc oflag=direct bs=4096 count=1 iflag=fullblock status=none');
    const seen = await n2.must('dd if=/dev/ubdc iflag=direct bs=4096 count=1 status=none');
    assert.ok(seen.startsWith('shared\nshared\n'));
    assert.equal(readFileSync(lab.diskImage(2)).toString('latin1', 0, 4096), seen);
  });

  test('cuts take what they say and nothing else; the control network stays', async () => {
    const [n1, n2] = [lab.guest(1), lab.guest(2)];
    assert.notEqual(await n1.ping(2, { timeoutMs: 5000 }), null);
    await lab.cut(1);
    assert.equal(await n1.ping(2), null);
    assert.equal((await n1.sh('true')).rc, 0, 'a cut node still obeys the test');
    await lab.heal(1);
    assert.notEqual(await n1.ping(2, { timeoutMs: 5000 }), null);

    await lab.cutOneWay(1, 2);
    const heard = async () => Number(await n2.readFile('/sys/class/net/eth0/statistics/rx_packets'));
    const sent = async () => Number(await n2.readFile('/sys/class/net/eth0/statistics/tx_packets'));
    const [heardBefore, sentBefore] = [await heard(), await sent()];
    assert.equal(await n1.ping(2), null);
    assert.deepEqual([await heard(), await sent()], [heardBefore, sentBefore], 'nothing of n1 reached n2');
    const heardAtN1 = Number(await n1.readFile('/sys/class/net/eth0/statistics/rx_packets'));
    await n2.ping(1, { timeoutMs: 200 });
    const heardAtN1After = Number(await n1.readFile('/sys/class/net/eth0/statistics/rx_packets'));
    assert.ok(heardAtN1After > heardAtN1, 'frames of n2 still reach n1');
    await lab.healPair(1, 2);

    await lab.netem(1, 'delay 60ms');
    const delayed = await n1.ping(2, { timeoutMs: 5000 });
    assert.ok(delayed !== null && delayed >= 120, `a delay of 60 ms each way, round trip ${delayed} ms`);
    await lab.netem(1, '');
    await assert.rejects(lab.netem(1, 'delay soon'), /cannot read/);
  });

  test('a server in a guest is reached from the host by a socket, past the cuts or not, as asked', async () => {
    const n2 = lab.guest(2);
    const source = `require('node:http').createServer((_, answer) => answer.end('I am n2')).listen(8080)`;
    const server = await n2.spawn([process.execPath, '-e', source], { logFile: join(n2.dir, 'server.log') });
    const ask = (socketPath: string): Promise<string> =>
      new Promise((resolve) => {
        const request = http.get({ socketPath, path: '/', timeout: 1000 }, async (answer) => {
          let text = '';
          for await (const part of answer) text += part;
          resolve(text);
        });
        request.on('timeout', () => request.destroy()).on('error', () => resolve('silence'));
      });
    const [control, data] = [await lab.forward(2, 8080), await lab.forward(2, 8080, 'data')];
    await eventually('the server answers', async () => (await ask(control)) === 'I am n2');
    await eventually('it answers over the data network', async () => (await ask(data)) === 'I am n2');
    await lab.cut(2);
    assert.deepEqual([await ask(control), await ask(data)], ['I am n2', 'silence']);
    await lab.heal(2);
    await server.signal('SIGKILL');
    assert.equal((await server.exited).signal, 9);
  });

  test('a frozen guest does nothing while its BOOTTIME goes on', async () => {
    const n1 = lab.guest(1);
    const log = join(n1.dir, 'frozen-acks');
    const writer = await n1.spawn([lab.mdio, 'write', '--device', '/dev/ubdc', '--log', log, '--rate', '200'], {
      logFile: join(n1.dir, 'frozen-report'),
    });
    await n1.untilFile(log, '\nA ');
    const before = await n1.now();
    await n1.freeze();
    const [claims, image] = [statSync(log).size, readFileSync(lab.diskImage(2))];
    await assert.rejects(n1.sh('true', { timeoutMs: 1 }), /no answer/);
    assert.equal(statSync(log).size, claims, 'nothing was claimed in the freeze');
    assert.ok(image.equals(readFileSync(lab.diskImage(2))), 'nothing reached the disk in the freeze');
    await n1.thaw();
    await eventually('the writer goes on', () => statSync(log).size > claims);
    await writer.signal('SIGTERM');
    assert.equal((await writer.exited).code, 0);
    const after = await n1.now();
    assert.ok(
      after.bootMs - before.bootMs >= 2000,
      `frozen for 2 s, BOOTTIME went on by ${after.bootMs - before.bootMs} ms`,
    );
    assert.equal((await n1.sh('true')).rc, 0);
  });

  test('a mirror with a failing leg: every acknowledged write is on the legs, a lost one is found', async () => {
    const [n1, log] = [lab.guest(1), join(lab.guest(1).dir, 'acks')];
    const mdio = lab.mdio;
    const leg = await n1.wrapDisk('/dev/ubdb', 'legb');
    await n1.must(
      `mdadm --create /dev/md0 --run --metadata=1.2 --level=1 --raid-devices=2 --assume-clean --bitmap=none /dev/ubda ${leg}`,
    );
    const reportFile = join(n1.dir, 'report');
    const writer = await n1.spawn(
      [mdio, 'write', '--device', '/dev/md0', '--node', '1', '--blocks', '512', '--rate', '500', '--log', log],
      { logFile: reportFile },
    );
    await n1.untilFile(log, '\nA ');
    const check = n1.sh(`${mdio} read-check --device /dev/md0 --log ${log} --seconds 1`);
    assert.equal((await check).rc, 0, (await check).out);
    const offsetBytes = 512 * Number(await n1.readFile('/sys/block/md0/md/dev-ubda/offset'));

    await n1.failDisk('legb');
    await n1.untilFile('/sys/block/md0/md/degraded', '1');
    await sleep(300);
    await writer.signal('SIGTERM');
    assert.deepEqual(await writer.exited, { code: 0, signal: null, lost: false });
    await eventually('the report is on the host', () => readFileSync(reportFile, 'utf8').endsWith('\n'));
    const report: WriterReport = JSON.parse(readFileSync(reportFile, 'utf8'));
    assert.ok(
      report.acknowledged > 100 && report.failed === 0,
      `the mirror hid the failure: ${JSON.stringify(report.errors)}`,
    );

    assert.equal((await n1.sh(`${mdio} verify --device /dev/md0 --log ${log}`)).rc, 0);
    const good = lab.verifyImage(0, offsetBytes, [log]);
    assert.deepEqual([good.lost, good.stale, good.torn], [0, 0, 0]);
    // Writing on round the region, the failed leg must be older by now.
    assert.ok(good.blocks > 100);
    const failed = lab.verifyImage(1, offsetBytes, [log]);
    assert.ok(failed.lost + failed.stale > 0, 'the failed leg lacks writes');
    assert.notEqual(lab.compareImages(0, 1, offsetBytes, 512 * 4096), null);

    await n1.healDisk('legb');
    await n1.must(`mdadm /dev/md0 --remove ${leg} && mdadm /dev/md0 --add ${leg} && mdadm --wait /dev/md0 || true`);
    await n1.untilFile('/sys/block/md0/md/degraded', '0');
    assert.equal(lab.compareImages(0, 1, offsetBytes, 512 * 4096), null);
    await n1.must('mdadm --stop /dev/md0');
    const fd = openSync(lab.diskImage(0), 'r+');
    writeSync(fd, Buffer.from('!'), 0, 1, offsetBytes + 4096 + 1000);
    assert.deepEqual(lab.compareImages(0, 1, offsetBytes, 512 * 4096), { offsetBytes: offsetBytes + 4096 + 1000 });
    assert.equal(lab.verifyImage(0, offsetBytes, [log]).torn, 1);
  });

  test('writes of a node that loses power are on the disk as far as its log claims', async () => {
    const n1 = lab.guest(1);
    const log = join(n1.dir, 'acks2');
    const writer = await n1.spawn(
      [lab.mdio, 'write', '--device', '/dev/ubdc', '--node', '1', '--jobs', '2', '--log', log],
      { logFile: join(n1.dir, 'report2') },
    );
    await n1.untilFile(log, '\nA ');
    await sleep(500);
    const before = n1.boots;
    await n1.kill9();
    assert.deepEqual(await writer.exited, { code: null, signal: null, lost: true });
    await assert.rejects(n1.sh('true'), /not up/);
    const result = lab.verifyImage(2, 0, [log]);
    assert.ok(result.blocks > 50, `claims ${result.blocks}`);
    assert.deepEqual([result.lost, result.stale, result.torn, result.unreadable], [0, 0, 0, 0]);
    await n1.boot();
    assert.equal(n1.boots, before + 1);
    assert.equal(await n1.must('hostname'), 'n1\n');
  });

  test('a write that hangs is reported as hanging, a failing disk as errors', async () => {
    const n2 = lab.guest(2);
    const device = await n2.wrapDisk('/dev/ubdc', 'lone');
    await n2.hangDisk('lone');
    const command = `${lab.mdio} write --device ${device} --seconds 1 --count 3`;
    const hung = await n2.spawn(['/bin/sh', '-c', command], { logFile: join(n2.dir, 'hung') });
    await n2.untilFile(join(n2.dir, 'hung'), '"hanging":1');
    assert.match(readFileSync(join(n2.dir, 'hung'), 'utf8'), /"unfinished":true/);
    await n2.healDisk('lone');
    await hung.exited;
    await n2.failDisk('lone');
    const { rc, out } = await n2.sh(command);
    const report: WriterReport = JSON.parse(out);
    assert.deepEqual([rc, report.failed, report.errors[0]?.text], [1, 3, 'Input/output error']);
  });

  test('a guest fences the other and is believed only when it is gone', async () => {
    const [n1, n2] = [lab.guest(1), lab.guest(2)];
    const fence = lab.fenceScript();
    const honest = lab.onFence;
    lab.onFence = async () => false;
    assert.equal((await n1.sh(`echo nodeid=2 | ${fence}`)).rc, 1);
    assert.ok(n2.running, 'a fence device that refuses leaves the node alone');
    lab.onFence = honest;
    const group = n2.hostPid;
    await lab.cut(1);
    assert.equal((await n1.sh(`echo nodeid=2 | ${fence}`)).rc, 0, 'the fence works while the data network is cut');
    assert.ok(!n2.running);
    assert.ok(!existsSync(`/proc/${group}`));
    assert.equal((await n1.sh(`echo nodeid=2 | ${fence}`)).rc, 0, 'a node that is off already is fenced');
    await lab.heal(1);
    await n2.boot();
    assert.notEqual(await n1.ping(2, { timeoutMs: 5000 }), null);
  });

  test('a guest that resets itself comes back in the same host process', async () => {
    const n2 = lab.guest(2);
    const [pid, boots] = [n2.hostPid, n2.boots];
    await n2.writeFile('/proc/sysrq-trigger', 'b', { timeoutMs: 1000 }).catch(() => {});
    await n2.untilUp(30_000, boots);
    assert.equal(n2.hostPid, pid);
    assert.equal(await n2.must('hostname'), 'n2\n');
  });

  test('power is cut everywhere at once', async () => {
    await lab.powerCut();
    assert.deepEqual(
      lab.guests.map((guest) => guest.running),
      [false, false],
    );
  });
});

test('a test that is killed outright leaves no guest and no namespace', { skip, timeout: 60_000 }, async () => {
  const source = `import { Lab } from ${JSON.stringify(join(import.meta.dirname, 'lab.ts'))};
    const lab = await Lab.start({ name: 'orphan', guests: 1, diskMib: [8], memMib: 128 });
    console.log(lab.netns, lab.guest(1).hostPid); setInterval(() => {}, 1000);`;
  const owner = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(owner.stdout, 'data');
  const [netns = '', pid = ''] = String(line).trim().split(' ');
  assert.ok(existsSync(`/proc/${pid}`));
  owner.kill('SIGKILL');
  await eventually('the guest is gone', () => !existsSync(`/proc/${pid}`));
  await eventually('the namespace is gone', () => !existsSync(`/run/netns/${netns}`));
  await eventually('the record is gone', () => !existsSync(`/run/mdmesh-lab/${netns}`));
  assert.equal(spawnSync('pgrep', ['-f', netns]).status, 1, 'no process names the laboratory any more');
  assert.ok(!readdirSync('/run/mdmesh-lab').includes(netns));
});

test('sweep ends what a dead owner left, and nobody who merely has its number', { skip }, async () => {
  const [left, stranger] = [1, 2].map(() => spawn('sleep', ['60'], { detached: true, stdio: 'ignore' }));
  assert.ok(left?.pid !== undefined && stranger?.pid !== undefined);
  const [leftover, bystander] = [describeProcess(left.pid, 'leftover'), describeProcess(stranger.pid, 'bystander')];
  const netns = `mdlab-${process.pid}-swept`;
  const scratch = `/dev/shm/${netns}`;
  mkdirSync(scratch);
  const record = { netns, owner: describeProcess(process.pid, 'test'), processes: [leftover], scratchDirs: [scratch] };
  try {
    writeRecord({ ...record, processes: [leftover, { ...bystander, startTicks: '1' }] });
    assert.ok(!Lab.sweep().includes(netns), 'its owner lives');
    assert.ok(isAlive(leftover));
    const owner = { ...record.owner, startTicks: '1' };
    writeRecord({ ...record, owner, processes: [leftover, { ...bystander, startTicks: '1' }] });
    assert.ok(Lab.sweep().includes(netns));
    await eventually('the leftover is gone', () => !isAlive(leftover));
    assert.ok(isAlive(bystander));
    assert.ok(!existsSync(scratch));
  } finally {
    stranger.kill('SIGKILL');
    left.kill('SIGKILL');
  }
});
