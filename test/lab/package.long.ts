/**
 * The Debian package on a node whose arrays are in use: installed under a systemd that runs, started, upgraded under a writer,
 * its agent killed and frozen, removed and purged. The other two nodes run the one binary as it is.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { Facts, Finding } from '../../src/doctor/index.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { leads } from './lasting_writers.ts';
import { SystemdGuest } from './systemd_guest.ts';
import { PATIENT, Writers } from './writers.ts';

const project = join(import.meta.dirname, '../..');
const binary = join(project, 'dist/mdmesh');
const folder = join(project, 'out/lab-package');

interface Report {
  findings: Finding[];
  facts: Facts;
  others: Facts[];
}

/** What this needs beyond the laboratory. */
function lacks(): string | false {
  const available = labAvailable();
  if (!available.ok) return available.why;
  if (!existsSync(binary)) return `no ${binary}; run make dist`;
  if (!existsSync('/lib/systemd/systemd')) return 'no systemd on this machine; install the package systemd';
  const found = spawnSync('sh', ['-c', 'command -v dh && command -v dpkg']).status === 0;
  return found ? false : 'no dh or dpkg; install debhelper';
}

const missing = lacks();
if (missing !== false) console.warn(`SKIPPED, the package on a real kernel: ${missing}`);

/** A hundred megabytes take a guest a minute to unpack: here a script runs the binary where it lies. All else is the package. */
function lightPackage(): string {
  mkdirSync(folder, { recursive: true });
  const script = join(folder, 'program');
  writeFileSync(script, `#!/bin/sh\nexec ${binary} "$@"\n`, { mode: 0o755 });
  const made = execFileSync(join(project, 'scripts/deb.sh'), [process.execPath, folder, script], { encoding: 'utf8' });
  return made.trim();
}

suite('the Debian package, with an array in use', { skip: missing, timeout: 1_200_000 }, () => {
  let cluster: Cluster;
  let n1: SystemdGuest;
  let file: string;

  before(async () => {
    file = lightPackage();
    cluster = await Cluster.prepare({
      name: 'package',
      diskMib: [64, 64],
      config: PATIENT,
      // Whoever is killed or frozen here comes back by itself.
      fencing: () => '{ methods: [manual] }',
      program: binary,
    });
    // An image for containers forbids packages to start anything; no machine of a cluster has that.
    await cluster.lab.guest(1).must('rm -f /usr/sbin/policy-rc.d');
    n1 = await SystemdGuest.boot(cluster.lab.guest(1));
  });
  after(async () => {
    await cluster?.close();
  });

  // Triggers are other packages' business (man-db's index of all pages), and take a guest a minute.
  const install = () =>
    n1.must(`DEBIAN_FRONTEND=noninteractive dpkg --no-triggers --force-unsafe-io --install ${file}`, 300_000);

  test('installed, it waits for its configuration', async () => {
    const said = await install();
    assert.match(said, /mdmesh init/);
    assert.equal(await n1.property('ActiveState'), 'inactive');
    assert.equal(await n1.property('UnitFileState'), 'enabled');
    assert.equal(
      (await n1.must('stat -c "%a %U:%G" /etc/mdmesh /run/mdmesh')).trim(),
      '700 root:root\n2755 root:mdmesh',
    );
    await n1.must('udevadm control --version >/dev/null; test -x /usr/lib/mdmesh/is-member');
  });

  test('started, it tells systemd when it is ready; its socket has the group', async () => {
    await Promise.all([2, 3].map((node) => cluster.startAgent(node)));
    await n1.must(`cp ${cluster.configFile(1)} /etc/mdmesh/mdmesh.yaml`);
    // Frozen agents are to be noticed within this tale's time.
    await n1.must(
      'mkdir -p /run/systemd/system/mdmesh.service.d; printf "[Service]\\nWatchdogSec=4\\nReadWritePaths=%s\\n" ' +
        `${cluster.folder(1)} > /run/systemd/system/mdmesh.service.d/lab.conf; systemctl daemon-reload`,
    );
    await n1.must('systemctl start mdmesh.service', 120_000);
    assert.equal(await n1.property('ActiveState'), 'active');
    await cluster.master();
    assert.equal((await n1.must('stat -c %U:%G /run/mdmesh/mdmesh.sock')).trim(), 'root:mdmesh');
  });

  test('upgraded under a writer: no write fails, nobody resyncs, the agent is a new one', async (t) => {
    await leads(cluster, 1);
    await cluster.must(1, 'create md0 --level 1 --raid-devices 2 /dev/ubda /dev/ubdb');
    await cluster.open();
    const before_ = await n1.property('MainPID');
    const restarts = await n1.property('NRestarts');
    const writers = await Writers.start(cluster, { name: 'upgrade', ratePerSecond: 50, depth: 1 });
    await install();
    assert.notEqual(await n1.property('MainPID'), before_);
    assert.equal(await n1.property('ActiveState'), 'active');
    // It was handed over: the unit was neither stopped nor started, and systemd knows the new process.
    assert.equal(await n1.property('NRestarts'), restarts);
    const said = await n1.must('journalctl --no-pager --output cat --unit mdmesh.service');
    assert.match(said, new RegExp(`process ${await n1.property('MainPID')} is the agent from here on`));
    assert.doesNotMatch(said, /Stopping|"why":"SIGTERM"/);
    const record = await cluster.open();
    assert.equal(record.resync, null);
    const reports = await writers.stop();
    for (const { node, failed, hanging, acknowledged, latency } of reports) {
      assert.deepEqual({ node, failed, hanging }, { node, failed: 0, hanging: 0 });
      assert.ok(acknowledged > 0);
      t.diagnostic(`node ${node}: longest write ${latency.maxMs} ms`);
    }
  });

  test('doctor, on real kernels: nothing critical; what is taken away is missed', async () => {
    const reportOf = async (run: () => Promise<{ out: string; err: string }>): Promise<Report> => {
      const { out, err } = await run();
      assert.notEqual(out, '', err);
      return JSON.parse(out);
    };
    const own = () => reportOf(() => n1.run('mdmesh doctor --json'));
    const report = await own();
    assert.equal(report.facts.kernel.mdTrouble, null);
    // As the unit has given it, and as its successor inherits it.
    assert.equal(report.facts.agent.privileges?.ioFlusher, true);
    assert.deepEqual(
      // The other two have no udev rules of ours: they are no machines on which the package was installed.
      report.findings.filter(({ severity, text }) => severity === 'critical' && !/^node [23]: /.test(text)),
      [],
    );
    assert.equal(report.facts.disks.filter(({ arrayUuid }) => arrayUuid !== null).length, 2);
    assert.equal((await n1.run('test -e /sys/block/md_mdmesh_probe')).rc, 1);
    await n1.must('mv /lib/udev/rules.d/63-mdmesh.rules /root/');
    assert.ok((await own()).findings.some(({ check }) => check === 'autostart.udev'));
    await n1.must('mv /root/63-mdmesh.rules /lib/udev/rules.d/');
    // Together with the others', which come through the agents: all see both members, through the same caches, by the same configuration.
    const together = report.findings.filter(({ check }) => /^compare\.|\.(drift|everywhere|cache|rates)$/.test(check));
    assert.deepEqual([report.others.length, together], [2, []]);
  });

  test('killed, its writes are held by the unit itself, and it comes back', async () => {
    const pid = await n1.property('MainPID');
    await n1.must('systemctl kill --signal KILL --kill-whom main mdmesh.service');
    await n1.until(
      'systemctl show --property MainPID,ActiveState mdmesh.service',
      new RegExp(`^(?=[^]*ActiveState=active)(?![^]*MainPID=(${pid}|0)\\n)`),
      60_000,
    );
    assert.match(
      await n1.must('journalctl --no-pager --output cat --unit mdmesh.service'),
      /md0: (writes are held|is suspended already|its gate holds)/,
    );
    await cluster.open();
  });

  test('frozen, it is missed by the watchdog of systemd', async () => {
    const restarts = Number(await n1.property('NRestarts'));
    await n1.must('systemctl kill --signal STOP --kill-whom main mdmesh.service');
    await n1.until(
      'systemctl show --property NRestarts --value mdmesh.service',
      new RegExp(`^${restarts + 1}$`, 'm'),
      60_000,
    );
    assert.match(await n1.must('journalctl --no-pager --output cat'), /Watchdog timeout/);
    await n1.until('systemctl is-active mdmesh.service', /^active/, 60_000);
    await cluster.open();
  });

  test('udev does not take a member of the cluster for one of mdadm', async () => {
    assert.equal((await n1.run('/usr/lib/mdmesh/is-member /dev/ubda')).rc, 0);
    const words = await n1.must('udevadm test --action=add /sys/class/block/ubda 2>&1');
    assert.match(words, /ID_FS_TYPE=mdmesh_member/);
    assert.doesNotMatch(words, /mdadm --incremental/);
  });

  test('not removed while an array runs; removed and purged once it is stopped', async () => {
    const refused = await n1.run('dpkg --no-triggers --remove mdmesh');
    assert.notEqual(refused.rc, 0);
    assert.match(refused.err, /the cluster's arrays run on this machine: md0/);
    assert.equal(await n1.property('ActiveState'), 'active');
    await cluster.must(2, 'stop md0');
    await n1.must('dpkg --no-triggers --remove mdmesh', 300_000);
    assert.equal((await n1.run('pgrep -x mdmesh')).rc, 1);
    assert.equal((await n1.run('test -e /etc/mdmesh/mdmesh.yaml')).rc, 0);
    await n1.must('dpkg --no-triggers --purge mdmesh', 300_000);
    assert.equal((await n1.must('ls -d /etc/mdmesh /var/lib/mdmesh /run/mdmesh 2> /dev/null || true')).trim(), '');
  });
});
