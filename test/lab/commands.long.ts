/**
 * What operators ask for, under load: members taken out and added, arrays stopped and started. What is refused names the
 * node or the disk and the way out, and has changed nothing on any disk.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { after, before, suite, test } from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import type { Finding } from '../../src/doctor/index.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { checkLegs, examine, mustExamine, PATIENT, sinceStart, startInOrder, Writers } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, operators' commands on real kernels: ${available.why}`);

/** Disks by what they are for; each is /dev/mapper/leg followed by its letter. */
const disks = { a: 40, b: 40, blank: 40, unseen: 40, small: 24, full: 40, other: 32, another: 32 };
type Disk = keyof typeof disks;
const names = Object.keys(disks);
const indexOf = (disk: Disk): number => names.indexOf(disk);
const path = (disk: Disk): string => `/dev/mapper/leg${'abcdefgh'[indexOf(disk)]}`;

suite("operators' commands", { skip: available.ok ? false : available.why, timeout: 1_200_000 }, () => {
  let cluster: Cluster;
  let writers: Writers;

  before(async () => {
    cluster = await Cluster.prepare({
      name: 'commands',
      diskMib: Object.values(disks),
      devices: ['/dev/mapper/leg*'],
      config: PATIENT,
    });
    await Promise.all(
      cluster.lab.guests.map(async (guest) => {
        for (const [index, disk] of names.entries()) {
          if (disk !== 'unseen' || guest.node !== 3) await guest.wrapDisk(`/dev/ubd${'abcdefgh'[index]}`);
        }
      }),
    );
    await startInOrder(cluster);
    for (const [md, one, two] of [
      ['md0', 'a', 'b'],
      ['md1', 'other', 'another'],
    ] as const) {
      const devices = [path(one), path(two)];
      const create = { verb: 'create', md, level: 'raid1', raidDisks: 2, access: 'shared', devices, assumeClean: true };
      const { ok, text } = await cluster.request(2, create);
      assert.ok(ok, text);
      await cluster.open(cluster.nodes, md);
    }
  });
  after(async () => {
    await cluster?.close();
  });

  function digest(disk: Disk): string {
    return createHash('sha256')
      .update(readFileSync(cluster.lab.diskImage(indexOf(disk))))
      .digest('hex');
  }

  async function granted(node: NodeId, request: object): Promise<string> {
    const { ok, text } = await cluster.request(node, request);
    assert.ok(ok, `${JSON.stringify(request)}: ${text}`);
    return text;
  }

  /** The words of a refusal; no byte of the disks has changed. */
  async function refused(node: NodeId, request: object, untouched: readonly Disk[]): Promise<string> {
    const before = untouched.map(digest);
    const { ok, text } = await cluster.request(node, request);
    assert.equal(ok, false, `${JSON.stringify(request)} was not refused: ${text}`);
    assert.deepEqual(untouched.map(digest), before, `${JSON.stringify(request)} was refused, but has written`);
    return text;
  }

  const add = (disk: Disk, force = false): object => ({ verb: 'add', array: 'md0', device: path(disk), force });

  async function memberCount(count: number): Promise<void> {
    await cluster.until(`${count} members in every node's kernel`, 20_000, async () => {
      const arrays = await Promise.all(cluster.nodes.map((node) => cluster.array(node)));
      return arrays.every((array) => array?.local?.members.length === count && array.record.members.length === count);
    });
  }

  test('a member in use is not removed; a failed one is, on every node', async () => {
    writers = await Writers.start(cluster, { name: 'life', readers: cluster.nodes });
    assert.match(await refused(3, { verb: 'remove', array: 'md0', device: path('b') }, []), /in use; fail it first/);
    const said = await cluster.must(3, `manage md0 --fail ${path('b')} --remove ${path('b')}`);
    assert.match(said, /set faulty in md0/);
    assert.match(said, /removed from md0/);
    await memberCount(1);
    await writers.goOn(50);
    for (const guest of cluster.lab.guests) assert.match(await guest.readFile('/proc/mdstat'), /\[2\/1\] \[U_\]/);
  });

  test('a disk that does not fit is refused by name, with a way out, and is left as it was', async () => {
    const unseen = await refused(2, add('unseen'), ['unseen']);
    assert.match(unseen, /node 3 does not see/);
    assert.ok(unseen.includes(path('unseen')), unseen);
    assert.match(unseen, /check its path to the storage/);

    const small = await refused(2, add('small'), ['small']);
    assert.match(small, /too small for md0: \d+ sectors for data, \d+ needed/);
    assert.ok(small.includes(path('small')));

    const image = openSync(cluster.lab.diskImage(indexOf('full')), 'r+');
    writeSync(image, 'letters from home', 1024 * 1024);
    closeSync(image);
    const full = await refused(3, add('full'), ['full']);
    assert.match(full, /is not blank; wipe it \(wipefs -a\) or use --force/);
    assert.ok(full.includes(path('full')));

    for (const force of [false, true]) {
      const other = await refused(1, add('other', force), ['other', 'another']);
      assert.match(other, /md1/);
      assert.ok(other.includes(path('other')), other);
    }
    assert.match(await refused(2, add('a'), []), /md0/);
    assert.match(await refused(2, { ...add('blank'), array: 'md7' }, ['blank']), /no array md7 .*md0, md1/);
    assert.match(await refused(2, { ...add('blank'), device: '/dev/mapper/legz' }, []), /legz/);
    await writers.goOn(20);
  });

  test('a disk that one node has forgotten is refused even with force, and keeps what it carried', async () => {
    const image = openSync(cluster.lab.diskImage(indexOf('unseen')), 'r+');
    writeSync(image, 'more letters', 4096 + 100);
    closeSync(image);
    assert.match(await refused(1, add('unseen', true), ['unseen']), /node 3 does not see/);
  });

  test('a blank disk takes the free slot by itself, and is rebuilt for every node', async () => {
    assert.match(await granted(2, add('blank')), /added to md0 as a spare/);
    await memberCount(2);
    await cluster.until('it is in sync everywhere', 60_000, async () => {
      const arrays = await Promise.all(cluster.nodes.map((node) => cluster.array(node)));
      return arrays.every((array) => array?.local?.members.every(({ inSync }) => inSync) && array.local.degraded === 0);
    });
    for (const guest of cluster.lab.guests) assert.match(await guest.readFile('/proc/mdstat'), /\[2\/2\] \[UU\]/);
    const rebuilt = mustExamine(cluster, indexOf('blank'));
    assert.equal(rebuilt.role, 'Active device 1');
    assert.equal(rebuilt.events, mustExamine(cluster, indexOf('a')).events);
    assert.equal(rebuilt.arrayUuid, mustExamine(cluster, indexOf('a')).arrayUuid);
  });

  test('a former member comes back without force, a full disk with force, both in the same instant; they wait as spares', async () => {
    const before = mustExamine(cluster, indexOf('b')).deviceUuid;
    await Promise.all([granted(3, add('b')), granted(1, add('full', true))]);
    await memberCount(4);
    for (const disk of ['b', 'full'] as const) assert.equal(mustExamine(cluster, indexOf(disk)).role, 'spare');
    assert.notEqual(mustExamine(cluster, indexOf('b')).deviceUuid, before);
    const numbers = (await cluster.array(1))?.record.members.map((member) => member.devNumber) ?? [];
    assert.equal(new Set(numbers).size, 4, `device numbers ${numbers}`);
    for (const guest of cluster.lab.guests) {
      await cluster.until(`md has both on node ${guest.node}`, 20_000, async () =>
        /md0 : .*\(S\).*\(S\)/.test(await guest.readFile('/proc/mdstat')),
      );
    }
  });

  test('spares are removed again', async () => {
    for (const disk of ['full', 'b'] as const) {
      await granted(1, { verb: 'remove', array: 'md0', device: path(disk) });
    }
    await memberCount(2);
    const record = await cluster.open();
    await writers.goOn(20);
    await writers.stop();
    checkLegs(cluster, [indexOf('a'), indexOf('blank')], writers.logs, record.componentSectors);
  });

  test('an array that some node uses is not stopped, and stays open for all', async () => {
    const holder = await cluster.lab.guest(3).spawn(['/bin/sh', '-c', 'exec sleep 100 < /dev/md1'], {
      logFile: `${cluster.lab.guest(3).dir}/holder`,
    });
    const held = await refused(1, { verb: 'stop', array: 'md1' }, []);
    assert.match(held, /md1 cannot be stopped: node 3: .*in use.*end that first/);
    await cluster.open(cluster.nodes, 'md1');
    await holder.signal('SIGKILL');

    await cluster.lab.guest(2).must('mkfs.ext4 -q -F /dev/md1 && mkdir -p /tmp/mnt && mount -o ro /dev/md1 /tmp/mnt');
    const mounted = await refused(3, { verb: 'stop', array: 'md1' }, []);
    assert.match(mounted, /md1 cannot be stopped: node 2: .*mounted on \/tmp\/mnt/);
    await cluster.open(cluster.nodes, 'md1');
    await cluster.lab.guest(2).must('umount /tmp/mnt');
    const { componentSectors } = await cluster.open(cluster.nodes, 'md1');
    const again = await Writers.start(cluster, { name: 'after-refusal', md: 'md1' });
    await again.goOn(20);
    await again.stop();
    checkLegs(cluster, [indexOf('other'), indexOf('another')], again.logs, componentSectors);
    writers = again;
  });

  test('doctor on one node tells of all, and whose configuration is another', async () => {
    const doctor = async (node: NodeId): Promise<{ findings: Finding[]; others: { config: { self: NodeId } }[] }> =>
      JSON.parse((await cluster.mdmesh(node, 'doctor --json', 90_000)).out);
    const textsOf = ({ findings }: { findings: Finding[] }, check: string): string =>
      findings.flatMap((each) => (each.check === check ? [each.text] : [])).join('; ');
    const whole = await doctor(2);
    assert.deepEqual(whole.others.map(({ config }) => config.self).sort(), [1, 3]);
    for (const check of ['compare.absent', 'config.drift', 'key.drift', 'members.everywhere', 'clock.rates']) {
      assert.equal(textsOf(whole, check), '');
    }
    const file = cluster.configFile(3);
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.replace('auto_assemble: true', 'auto_assemble: false'));
    assert.match(
      textsOf(await doctor(2), 'config.drift'),
      /^configurations differ: \S+ on node 2, node 1; \S+ on node 3$/,
    );
    writeFileSync(file, text);
  });

  test('stopped, it is gone from every node, and stock mdadm still refuses it', async () => {
    assert.match(await cluster.must(2, 'stop md1'), /md1 stopped on all nodes/);
    const before = [digest('other'), digest('another')];
    assert.equal(mustExamine(cluster, indexOf('other')).clean, true);
    for (const guest of cluster.lab.guests) {
      assert.doesNotMatch(await guest.readFile('/proc/mdstat'), /md1 /);
      for (const words of [
        `--assemble /dev/md1 ${path('other')} ${path('another')}`,
        `--assemble --force /dev/md1 ${path('other')} ${path('another')}`,
        `-I ${path('other')}`,
        '--assemble --scan',
      ]) {
        const { rc, out, err } = await guest.sh(`mdadm ${words}`);
        assert.notEqual(rc, 0, `mdadm ${words}: ${out}${err}`);
        assert.doesNotMatch(await guest.readFile('/proc/mdstat'), /md(1|9|12\d) /, `mdadm ${words}`);
      }
    }
    assert.deepEqual([digest('other'), digest('another')], before);
    assert.match(await refused(1, { verb: 'stop', array: 'md1' }, []), /stopped already/);
    await cluster.open(cluster.nodes, 'md0');
  });

  test('assemble --scan starts it on every node, with what it held', async () => {
    await cluster.must(3, 'assemble --scan');
    const record = await cluster.open(cluster.nodes, 'md1');
    assert.match(await refused(1, { verb: 'assemble', array: 'md1' }, []), /started already/);
    const more = await Writers.start(cluster, { name: 'after-stop', md: 'md1', startBlock: 2048 });
    await more.goOn(20);
    await more.stop();
    const legs = [indexOf('other'), indexOf('another')];
    checkLegs(cluster, legs, [...writers.logs, ...more.logs], record.componentSectors);
    assert.equal(examine(cluster, indexOf('small')), null);
  });

  test('mdadm --stop typed on one node takes it from nobody: it is back there, and all write', async () => {
    const enabled = async (): Promise<number> =>
      (await sinceStart(cluster, 2, 'md1')).filter((what) => what === 'WritesEnabled').length;
    const { version } = await cluster.open(cluster.nodes, 'md1');
    const enabledBefore = await enabled();
    const { rc, out, err } = await cluster.lab.guest(2).sh('mdadm --stop /dev/md1');
    assert.equal(rc, 0, `${out}${err}`);
    await cluster.until('writes are enabled on node 2 anew', 20_000, async () => (await enabled()) > enabledBefore);
    const record = await cluster.open(cluster.nodes, 'md1');
    assert.equal(record.resync, null);
    assert.ok(record.version.index >= version.index);
    const more = await Writers.start(cluster, { name: 'after-mdadm', md: 'md1', startBlock: 4096 });
    await more.goOn(20);
    await more.stop();
    checkLegs(cluster, [indexOf('other'), indexOf('another')], more.logs, record.componentSectors);
  });
});
