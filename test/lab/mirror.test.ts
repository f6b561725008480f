/**
 * A mirror's life under load: made by one node, written by all, and its legs lost in every way a leg can be lost. Each
 * failure must be one commit, pause the writers and fail none, and no node may read the lost leg once a write that missed
 * it was acknowledged. That last rule is made easy to break: all reads are steered to the leg that will be lost, and a
 * peer far from the others learns of it late.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { ArrayRecord, NodeId } from '../../src/arrays/record.ts';
import { Cluster, program } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { leads } from './lasting_writers.ts';
import { type MdMember, mdMembers } from './md_members.ts';
import { checkLegs, commits, examine, mustExamine, PATIENT, startInOrder, Writers } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, a mirror's life on real kernels: ${available.why}`);

const LEGS = 6;
const DISK_MIB = 40;
const legName = (index: number): string => `leg${'abcdefgh'[index]}`;
const legPath = (index: number): string => `/dev/mapper/${legName(index)}`;
const others = (index: number): number[] => Array.from({ length: LEGS }, (_, i) => i).filter((i) => i !== index);

suite('a mirror of six legs on three nodes', { skip: available.ok ? false : available.why, timeout: 1_200_000 }, () => {
  let cluster: Cluster;
  let master: NodeId;
  let record: ArrayRecord;
  const lost = new Set<number>();
  /** Kernel names of the legs. */
  const legDisks = new Map<NodeId, string[]>();
  const mdNames = new Map<NodeId, Map<string, MdMember>>();

  before(async () => {
    cluster = await Cluster.prepare({
      name: 'mirror',
      diskMib: Array.from({ length: LEGS + 1 }, () => DISK_MIB),
      devices: ['/dev/mapper/leg*'],
      config: PATIENT,
    });
    await Promise.all(
      cluster.lab.guests.map(async (guest) => {
        for (let index = 0; index <= LEGS; index += 1) await guest.wrapDisk(`/dev/ubd${'abcdefgh'[index]}`);
        const look = 'cd /sys/block; for leg in dm-*; do echo $(cat $leg/dm/name) $leg; done | sort';
        const disks = (await guest.must(look)).trim().split('\n');
        legDisks.set(
          guest.node,
          disks.map((line) => line.split(' ')[1] ?? ''),
        );
      }),
    );
    await startInOrder(cluster);
    master = await cluster.master();
  });
  after(async () => {
    await cluster?.close();
  });

  /** What md on a node calls a leg, and its number; asked while it has them all. */
  function mdDisk(node: NodeId, index: number): { name: string; number: number } {
    const member = mdNames.get(node)?.get(legDisks.get(node)?.[index] ?? '');
    assert.ok(member !== undefined, `md of node ${node} has leg ${index}`);
    const [major = 0, minor = 0] = member.devno.split(':').map(Number);
    return { name: member.name, number: major * 256 + minor };
  }

  /** All nodes read from this leg alone, as long as they believe in it. */
  async function steerReadsTo(index: number): Promise<void> {
    for (const node of cluster.nodes) {
      for (const leg of others(-1).filter((candidate) => !lost.has(candidate))) {
        const { name } = mdDisk(node, leg);
        const word = leg === index ? '-writemostly' : 'writemostly';
        await cluster.lab.guest(node).writeFile(`/sys/block/md0/md/dev-${name}/state`, word);
      }
    }
  }

  /** One failure under load, from the first acknowledged write to the legs' last byte. */
  async function loseLeg(name: string, index: number, fail: () => Promise<unknown>): Promise<void> {
    const survivors = others(index).filter((leg) => !lost.has(leg));
    const uuid = record.members.find((member) => member.slot === index)?.uuid;
    await steerReadsTo(index);
    // Few blocks, written over and over: a reader soon meets each of those that the lost leg missed.
    const hot = { blocksANode: 16, ratePerSecond: 400, readers: cluster.nodes };
    const writers = await Writers.start(cluster, { name, ...hot });
    await writers.goOn(50);
    master = await cluster.master();
    const before = mustExamine(cluster, index).events;
    const failures = async (): Promise<number> =>
      (await commits(cluster, 1)).filter(({ kind, member }) => kind === 'fail' && member === uuid).length;
    // The last to know.
    await cluster.lab.netem(cluster.nodes.length, 'delay 150ms');
    await fail();
    await cluster.until('the failure is in the record of every node', 20_000, async () => {
      const arrays = await Promise.all(cluster.nodes.map((node) => cluster.array(node)));
      return arrays.every((array) => array?.record.members.find((member) => member.uuid === uuid)?.role === 'faulty');
    });
    await cluster.lab.netem(cluster.nodes.length, '');
    await writers.goOn(50);
    lost.add(index);

    for (const node of cluster.nodes) {
      const array = await cluster.array(node);
      const leg = array?.local?.members.find((member) => member.uuid === uuid);
      assert.ok(leg === undefined || leg.faulty, `node ${node}'s md still uses the lost leg`);
      assert.equal(
        array?.local?.members.some((member) => member.blocked),
        false,
        `a gate is closed on node ${node}`,
      );
      assert.equal(array?.trouble, null);
      const mdstat = await cluster.lab.guest(node).readFile('/proc/mdstat');
      assert.match(mdstat, new RegExp(`\\[${LEGS}/${LEGS - lost.size}\\]`), `node ${node}: ${mdstat}`);
      if (leg !== undefined) assert.match(mdstat, new RegExp(`${mdDisk(node, index).name}\\[\\d+\\](\\(W\\))?\\(F\\)`));
    }
    for (const leg of survivors) {
      const seen = mustExamine(cluster, leg);
      assert.equal(seen.events, before + 2, `events of disk ${leg}: they rise by two, once`);
      assert.equal(seen.arrayState[index], '.', `disk ${leg} calls slot ${index} ${seen.arrayState}`);
    }
    assert.equal(await failures(), 1, 'a failure is one commit');
    assert.equal(mustExamine(cluster, index).events, before, 'the superblock of the lost leg is left alone');
    await writers.stop();
    checkLegs(cluster, survivors, writers.logs, record.componentSectors);
    record = await cluster.open();
  }

  const notMaster = (): NodeId => (master === 2 ? 1 : 2);

  test("no thread of an agent is given memory that others' writes would have to make room for", async () => {
    const waitsForNoWrite = 0x00080000 | 0x00100000; // PF_MEMALLOC_NOIO, PF_LOCAL_THROTTLE
    for (const node of cluster.nodes) {
      const { pid } = cluster.agent(node);
      const threads = await cluster.threads(node, pid);
      assert.ok(threads.length > 8, 'threads of Node and of the guard');
      for (const { name, flags } of threads)
        assert.equal(flags & waitsForNoWrite, waitsForNoWrite, `${name}: 0x${flags.toString(16)}`);
      const { privileges } = await cluster.status(node);
      assert.equal(privileges?.ioFlusher, true);
      assert.equal(privileges.effective.includes('CAP_SYS_RESOURCE'), false, 'what that took is given up');
    }
  });

  test('its loop goes before the processes that write, and before V8’s own threads', async () => {
    const { pid } = cluster.agent(1);
    const threads = await cluster.threads(1, pid);
    const niceOf = (name: string): number[] => threads.filter((each) => each.name === name).map(({ nice }) => nice);
    assert.deepEqual(niceOf('MainThread'), [-20], JSON.stringify(threads));
    assert.deepEqual([...new Set(niceOf('V8Worker'))], [-14]);
  });

  test('made by a node that is not the master, it is the same on every node', async () => {
    const paths = Array.from({ length: LEGS }, (_, index) => legPath(index)).join(' ');
    await leads(cluster, 1);
    const said = await cluster.must(3, `create md0 --level 1 --raid-devices ${LEGS} ${paths}`);
    assert.match(said, /md0 created \(UUID /);
    record = await cluster.open();
    for (const guest of cluster.lab.guests) mdNames.set(guest.node, await mdMembers(guest, 'md0'));
    for (const node of cluster.nodes) {
      const array = await cluster.array(node);
      assert.deepEqual(array?.record, record, `record on node ${node}`);
      assert.equal(array?.local?.resyncStartSector, null);
      assert.match(await cluster.lab.guest(node).readFile('/proc/mdstat'), /\[6\/6\] \[UUUUUU\]/);
    }
    assert.deepEqual(record.writers, cluster.nodes);
    assert.equal(examine(cluster, LEGS), null, 'the disk that was not named is not touched');
    checkLegs(cluster, others(-1), [], record.componentSectors);
  });

  test('status, nodes, detail, examine and watch tell of it on every node', async () => {
    for (const node of cluster.nodes) {
      const status = await cluster.must(node, 'status');
      assert.match(status, new RegExp(`master is node ${master}; this is node ${node} .*it may write`));
      assert.match(status, /md0 +raid1 +clean +\[UUUUUU\] +- +shared +1,2,3/);
    }
    const nodes = await cluster.must(2, 'nodes');
    assert.equal(nodes.match(/ alive /g)?.length, 3, nodes);
    const detail = await cluster.must(2, 'detail md0');
    assert.match(detail, /Raid Level : raid1/);
    assert.match(detail, /Active Devices : 6/);
    assert.match(detail, /Writers : node 1, node 2, node 3/);
    assert.equal(detail.match(/active sync/g)?.length, LEGS, detail);
    const examined = await cluster.must(2, `examine ${legPath(0)}`);
    assert.match(examined, /Magic : a92b4efc/);
    assert.match(examined, /Array State : AAAAAA/);
    assert.ok(examined.includes(record.name));
    const guest = cluster.lab.guest(2);
    const watchLog = join(guest.dir, 'watch');
    const argv = [program, '--config', cluster.configFile(2), 'watch', '--after', '0'];
    const watch = await guest.spawn(argv, { logFile: watchLog });
    await cluster.until('watch tells of the new array and its writers', 20_000, async () => {
      const told = readFileSync(watchLog, 'utf8');
      return /NewArray +md0/.test(told) && /WriterAdmitted +md0/.test(told);
    });
    await watch.signal('SIGINT');
    assert.equal((await watch.exited).code, 0);
  });

  test('stock mdadm touches nothing of it', async () => {
    const before = others(-1).map((index) => mustExamine(cluster, index).events);
    const guest = cluster.lab.guest(2);
    for (const words of [
      `--assemble /dev/md9 ${others(-1).map(legPath).join(' ')}`,
      `-I ${legPath(0)}`,
      '--assemble --scan',
      `/dev/md0 --add ${legPath(LEGS)}`,
      `/dev/md0 --fail ${legPath(0)}`,
    ]) {
      const { rc, out, err } = await guest.sh(`mdadm ${words}`);
      assert.notEqual(rc, 0, `mdadm ${words}: ${out}${err}`);
    }
    assert.deepEqual((await guest.must('ls /sys/block')).match(/md\d+/g), ['md0']);
    assert.deepEqual(
      others(-1).map((index) => mustExamine(cluster, index).events),
      before,
    );
  });

  test('a leg is failed by the SET_DISK_FAULTY ioctl on a node that is not the master', async () => {
    const node = notMaster();
    const { number } = mdDisk(node, 0);
    await loseLeg('ioctl', 0, () => ioctls(node, `ioctl($md, 0x929, ${number}) or die $!;`));
  });

  test('a leg is failed through sysfs on the master', async () => {
    const { name } = mdDisk(master, 1);
    await loseLeg('sysfs', 1, () =>
      cluster.lab.guest(master).writeFile(`/sys/block/md0/md/dev-${name}/state`, 'faulty'),
    );
  });

  test('a leg is failed by an I/O error that one node alone meets, the master does not', async () => {
    await loseLeg('error-peer', 2, () => cluster.lab.guest(notMaster()).failDisk(legName(2)));
  });

  test('a leg is failed and taken out in one go by ioctls', async () => {
    const node = notMaster();
    const { number } = mdDisk(node, 3);
    await loseLeg('hot-remove', 3, () =>
      ioctls(
        node,
        `ioctl($md, 0x929, ${number}) or die $!;
         for (1..500) { last if ioctl($md, 0x922, ${number}); die $! unless $!{EBUSY}; select(undef, undef, undef, 0.002) }`,
      ),
    );
  });

  test('a leg is failed by an I/O error that the master alone meets', async () => {
    await loseLeg('error-master', 4, () => cluster.lab.guest(master).failDisk(legName(4), 'writes'));
  });

  test('the last leg cannot be failed, and is still written by all', async () => {
    const refused = await cluster.mdmesh(3, `manage md0 --fail ${legPath(5)}`);
    assert.notEqual(refused.rc, 0);
    assert.match(refused.err, /holds the only copy of some data/);
    const writers = await Writers.start(cluster, { name: 'last' });
    await writers.goOn();
    await writers.stop();
    checkLegs(cluster, [5], writers.logs, record.componentSectors);
  });

  test('each failure was one commit', async () => {
    const kinds = (await commits(cluster, master)).map(({ kind }) => kind);
    assert.equal(kinds.filter((kind) => kind === 'fail').length, lost.size, kinds.join(' '));
    const detail = await cluster.mdmesh(1, 'detail --test md0');
    assert.equal(detail.rc, 1);
    assert.match(detail.out, /Failed Devices : 5/);
    assert.match(await cluster.must(2, 'status'), /md0 +raid1 +degraded +\[_____U\]/);
  });

  test('given back it is mdadm’s: an agent that has lost its journal, and hears the whole story again, assembles none of it', async () => {
    for (const verb of ['stop', 'release'])
      assert.deepEqual((await cluster.request(1, { verb, array: 'md0' })).ok, true, verb);
    const node = notMaster();
    await cluster.agent(node).signal('SIGKILL');
    await cluster.agent(node).exited;
    rmSync(join(cluster.folder(node), 'state', 'journal.jsonl'));
    await cluster.startAgent(node);
    await cluster.master();
    const { journal } = await cluster.status(1);
    const caughtUp = async () => (await cluster.status(node)).journal.head >= journal.head;
    await cluster.until('it has heard all of it', 30_000, caughtUp);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    for (const each of cluster.nodes) {
      assert.deepEqual((await cluster.status(each)).arrays, [], `node ${each}`);
      assert.doesNotMatch(await cluster.lab.guest(each).must('cat /proc/mdstat'), /^md/m, `node ${each}`);
    }
    const image = cluster.lab.diskImage(5);
    const { stdout } = spawnSync('mdadm', ['--examine', image], { encoding: 'utf8' });
    assert.match(stdout, /Feature Map : 0x[0-9a-f]*$/m);
    assert.equal(Number(/Feature Map : (0x[0-9a-f]+)/.exec(stdout)?.[1]) & 0x40000000, 0, 'the cluster’s bit is gone');
  });

  async function ioctls(node: NodeId, script: string): Promise<void> {
    await cluster.lab.guest(node).must(`perl -e 'use Errno; open my $md, "+<", "/dev/md0" or die $!; ${script}'`);
  }
});
