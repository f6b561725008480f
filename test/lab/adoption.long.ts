/**
 * In and out of the cluster: an array that mdadm made is adopted with its data, written by all nodes, released, and is
 * mdadm's again with all that was written. A leg that failed meanwhile stays out.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { checkLegs, mustExamine, PATIENT, startInOrder, Writers } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, adopting and releasing arrays on real kernels: ${available.why}`);

const disk = (index: number): string => `/dev/ubd${'abcd'[index]}`;

suite('adopt and release', { skip: available.ok ? false : available.why, timeout: 1_200_000 }, () => {
  let cluster: Cluster;
  const logs: string[] = [];

  before(async () => {
    cluster = await Cluster.prepare({ name: 'adoption', diskMib: [40, 40, 40, 40], config: PATIENT });
    await startInOrder(cluster);
  });
  after(async () => {
    await cluster?.close();
  });

  const digest = (index: number): string =>
    createHash('sha256')
      .update(readFileSync(cluster.lab.diskImage(index)))
      .digest('hex');

  /** Writes by one node alone, on an array of mdadm's. */
  async function writeNatively(node: NodeId, md: string, startBlock: number): Promise<void> {
    const guest = cluster.lab.guest(node);
    const log = join(guest.dir, `native-${startBlock}.acks`);
    const region = `--start-block ${startBlock} --blocks 256 --count 512`;
    await guest.must(`${cluster.lab.mdio} write --device /dev/${md} --log ${log} --node ${node} ${region}`);
    logs.push(log);
  }

  /** Everything acknowledged so far is what this node reads. */
  async function readsAll(node: NodeId, md: string): Promise<void> {
    const claims = logs.map((log) => `--log ${log}`).join(' ');
    const { rc, out } = await cluster.lab.guest(node).sh(`${cluster.lab.mdio} verify --device /dev/${md} ${claims}`);
    assert.equal(rc, 0, `node ${node}: ${out}`);
  }

  async function refused(node: NodeId, words: string): Promise<string> {
    const { rc, out, err } = await cluster.mdmesh(node, words);
    assert.equal(rc, 1, `mdmesh ${words} was not refused: ${out}${err}`);
    return err;
  }

  async function writeFromAll(name: string, md: string, startBlock: number): Promise<void> {
    const writers = await Writers.start(cluster, { name, md, startBlock, blocksANode: 256 });
    await writers.goOn(50);
    await writers.stop();
    logs.push(...writers.logs);
  }

  test('an array that runs on any node is not adopted', async () => {
    await cluster.lab
      .guest(1)
      .must(
        `mdadm --create /dev/md5 --run --level=1 --raid-devices=2 --bitmap=internal --metadata=1.2 ${disk(0)} ${disk(1)} 2>&1 && mdadm --wait /dev/md5 || true`,
      );
    await writeNatively(1, 'md5', 0);
    const here = await refused(2, `adopt ${disk(0)} --as md5`);
    assert.match(here, /\/dev\/ubd[ab].*in use by md5 on node 1; stop it first \(mdadm --stop/);
    await cluster.lab.guest(1).must('mdadm --stop /dev/md5');
    await cluster.lab.guest(3).must(`mdadm --assemble /dev/md5 ${disk(0)} ${disk(1)} 2>&1`);
    const there = await refused(2, `adopt ${disk(0)} --as md5`);
    assert.match(there, /node 3: .*in use by md5; stop it there first \(mdadm --stop/);
    await cluster.lab.guest(3).must('mdadm --stop /dev/md5');
  });

  test('a degraded array is not adopted, and nothing of it is written', async () => {
    const create = `mdadm --create /dev/md6 --run --level=1 --raid-devices=2 --metadata=1.2 ${disk(2)} missing`;
    await cluster.lab.guest(1).must(`${create} 2>&1 && mdadm --stop /dev/md6 2>&1`);
    const before = digest(2);
    const words = await refused(2, `adopt ${disk(2)} --as md6`);
    assert.match(words, /md6 is degraded \(1 of 2 members in sync\); make it whole with mdadm/);
    assert.equal(digest(2), before);
    assert.match(await refused(2, `adopt ${disk(3)} --as md6`), /ubdd/);
  });

  test('whole and stopped, it is adopted with its data, and its bitmap is believed no more', async () => {
    const before = mustExamine(cluster, 0);
    await cluster.must(3, `adopt ${disk(1)} --as md5`);
    const record = await cluster.open(cluster.nodes, 'md5');
    assert.equal(record.uuid.replaceAll('-', ''), before.arrayUuid.replaceAll(':', ''));
    for (const node of cluster.nodes) await readsAll(node, 'md5');
    const seen = mustExamine(cluster, 0);
    assert.ok(seen.events >= before.events + 2);
    assert.equal(seen.dataOffsetBytes, before.dataOffsetBytes);
    assert.equal(seen.hasBitmap, false);
    assert.equal(before.hasBitmap, true);
    await writeFromAll('adopted', 'md5', 1024);
    checkLegs(cluster, [0, 1], logs, record.componentSectors);
    const { rc } = await cluster.lab.guest(2).sh(`mdadm --assemble /dev/md7 ${disk(0)} ${disk(1)}`);
    assert.notEqual(rc, 0);
  });

  test('released, it is mdadm’s again with all that was written', async () => {
    assert.match(await refused(1, 'release md5'), /md5 is started; stop it first \(mdmesh stop md5\)/);
    await cluster.must(2, 'stop md5');
    assert.match(await cluster.must(3, 'release md5'), /md5 is a plain md array again/);
    for (const node of cluster.nodes) assert.equal(await cluster.array(node, 'md5'), undefined);
    const guest = cluster.lab.guest(2);
    await guest.must(`mdadm --assemble /dev/md5 ${disk(0)} ${disk(1)} 2>&1`);
    assert.match(await guest.must('mdadm --detail /dev/md5'), /State : clean *\n *Active Devices : 2/);
    await readsAll(2, 'md5');
    await writeNatively(2, 'md5', 512);
    await guest.must('mdadm --stop /dev/md5');
  });

  test('adopted again, nothing is lost; a leg that fails then stays out after the next release', async () => {
    await cluster.must(1, `adopt ${disk(0)} --as md5`);
    const { componentSectors } = await cluster.open(cluster.nodes, 'md5');
    for (const node of cluster.nodes) await readsAll(node, 'md5');
    checkLegs(cluster, [0, 1], logs, componentSectors);
    await cluster.must(3, `manage md5 --fail ${disk(0)}`);
    await writeFromAll('degraded', 'md5', 1024);
    await cluster.must(2, 'stop md5');
    await cluster.must(2, 'release md5');
    assert.ok(mustExamine(cluster, 1).events >= mustExamine(cluster, 0).events + 2);
    const guest = cluster.lab.guest(3);
    await guest.sh(`mdadm --assemble --run /dev/md5 ${disk(0)} ${disk(1)}`);
    assert.match(
      await guest.readFile('/proc/mdstat'),
      /md5 : active (\(auto-read-only\) )?raid1 ubdb\[\d\][^U]*\[2\/1\] \[_U\]/,
    );
    await readsAll(3, 'md5');
    await guest.must('mdadm --stop /dev/md5');
  });

  test('an array that mdmesh made is released to mdadm too', async () => {
    const devices = `${disk(2)} ${disk(3)}`;
    const refusal = await refused(2, `create md8 -l1 -n2 ${devices}`);
    assert.match(refusal, /ubdc carries a superblock of array .*; use --force to overwrite it/);
    await cluster.must(2, `create md8 -l1 -n2 --force ${devices}`);
    const { componentSectors } = await cluster.open(cluster.nodes, 'md8');
    logs.length = 0;
    await writeFromAll('made', 'md8', 0);
    checkLegs(cluster, [2, 3], logs, componentSectors);
    await cluster.must(1, 'stop md8');
    await cluster.must(1, 'release md8');
    const guest = cluster.lab.guest(1);
    await guest.must(`mdadm --assemble /dev/md8 ${devices} 2>&1`);
    assert.match(await guest.must('mdadm --detail /dev/md8'), /State : clean *\n *Active Devices : 2/);
    await readsAll(1, 'md8');
    await guest.must('mdadm --stop /dev/md8');
  });
});
