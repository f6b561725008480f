/**
 * Every level in the hands of one owner: it runs there and nowhere else, and when the owner's power goes it moves to the
 * master, after fencing, with all that was acknowledged; parity levels can lose a member right after that. If they then lose their owner as
 * well, it takes an operator.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { ArrayRecord, NodeId } from '../../src/arrays/record.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { commits, mustExamine, PATIENT, startInOrder, Writers } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, exclusive arrays on real kernels: ${available.why}`);

const letters = 'abcdefghijklmnop';
const wanted: { md: string; level: ArrayRecord['level']; raidDisks: number; owner: NodeId }[] = [
  { md: 'md0', level: 'raid0', raidDisks: 2, owner: 2 },
  { md: 'md1', level: 'raid1', raidDisks: 2, owner: 2 },
  { md: 'md5', level: 'raid5', raidDisks: 3, owner: 2 },
  { md: 'md6', level: 'raid6', raidDisks: 4, owner: 3 },
  { md: 'md10', level: 'raid10', raidDisks: 4, owner: 2 },
];
const diskCount = wanted.reduce((sum, { raidDisks }) => sum + raidDisks, 0);

suite('exclusive arrays', { skip: available.ok ? false : available.why, timeout: 1_200_000 }, () => {
  let cluster: Cluster;
  const logs = new Map<string, string[]>();
  const devices = new Map<string, string[]>();
  const writers = new Map<string, Writers>();

  before(async () => {
    cluster = await Cluster.prepare({
      name: 'arrays',
      diskMib: Array.from({ length: diskCount }, () => 16),
      devices: ['/dev/ubd*'],
      config: PATIENT,
    });
    await startInOrder(cluster);
    const disks = [...letters].slice(0, diskCount).map((letter) => `/dev/ubd${letter}`);
    for (const { md, raidDisks } of wanted) devices.set(md, disks.splice(0, raidDisks));
  });
  after(async () => {
    await cluster?.close();
  });

  function create(
    node: NodeId,
    { md, level, raidDisks, owner }: (typeof wanted)[number],
  ): Promise<{
    ok: boolean;
    text: string;
  }> {
    const request = { verb: 'create', md, level, raidDisks, access: 'exclusive', owner, devices: devices.get(md) };
    return cluster.request(node, { ...request, chunkKib: 64 });
  }

  async function runsOnlyOn(md: string, owner: NodeId, nodes: readonly NodeId[] = cluster.nodes): Promise<void> {
    for (const node of nodes) {
      const mdstat = await cluster.lab.guest(node).readFile('/proc/mdstat');
      assert.equal(new RegExp(`^${md} : active`, 'm').test(mdstat), node === owner, `node ${node}: ${mdstat}`);
      assert.equal((await cluster.array(node, md))?.record.owner, owner, `by node ${node}'s account`);
    }
  }

  async function readsAll(node: NodeId, md: string): Promise<void> {
    const claims = (logs.get(md) ?? []).map((log) => `--log ${log}`).join(' ');
    const { rc, out } = await cluster.lab.guest(node).sh(`${cluster.lab.mdio} verify --device /dev/${md} ${claims}`);
    assert.equal(rc, 0, `${md} on node ${node}: ${out}`);
  }

  async function write(md: string, owner: NodeId, startBlock: number): Promise<void> {
    const options = {
      name: `${md}-${startBlock}`,
      md,
      nodes: [owner],
      startBlock,
      blocksANode: 256,
      ratePerSecond: 60,
    };
    const started = await Writers.start(cluster, options);
    writers.set(md, started);
    logs.set(md, [...(logs.get(md) ?? []), ...started.logs]);
  }

  test('levels with parity are not shared, and an owner must be of the list', async () => {
    const raid5 = { verb: 'create', md: 'md5', level: 'raid5', raidDisks: 3, devices: devices.get('md5') };
    const shared = await cluster.request(2, { ...raid5, access: 'shared' });
    assert.deepEqual(shared, {
      ok: false,
      text: 'raid5 cannot be written by several nodes at once; use --access exclusive',
    });
    const stranger = await cluster.request(2, { ...raid5, access: 'exclusive', owner: 9 });
    assert.deepEqual(stranger, { ok: false, text: 'no node 9 in the list' });
  });

  for (const array of wanted) {
    test(`${array.level} runs on its owner and nowhere else`, async () => {
      const { ok, text } = await create(1, array);
      assert.ok(ok, text);
      const record = await cluster.open([array.owner], array.md);
      assert.deepEqual(record.writers, [array.owner]);
      await runsOnlyOn(array.md, array.owner);
      await write(array.md, array.owner, 0);
    });
  }

  test('the owner loses its power: its arrays move to the master with every acknowledged write', async () => {
    for (const writer of writers.values()) await writer.goOn(20);
    await cluster.lab.guest(2).kill9();
    for (const { md, owner } of wanted.filter((array) => array.owner === 2)) {
      const record = await cluster.open([1], md);
      assert.notEqual(record.owner, owner);
      await runsOnlyOn(md, 1, [1, 3]);
      await readsAll(1, md);
      const kinds = (await commits(cluster, 1, md)).map(({ kind }) => kind);
      assert.equal(kinds.filter((kind) => kind === 'evict').length, 1, `${md}: ${kinds.join(' ')}`);
    }
    await runsOnlyOn('md6', 3, [1, 3]);
    const raid6 = writers.get('md6');
    await raid6?.goOn(20);
    await raid6?.stop();
    await readsAll(3, 'md6');
  });

  test('their copies and parity are right: each redundant one loses a member, and all is still there', async () => {
    for (const { md, owner } of wanted.filter(({ level }) => level !== 'raid0')) {
      const now = owner === 2 ? 1 : owner;
      const device = devices.get(md)?.[0];
      const { ok, text } = await cluster.request(3, { verb: 'fail', array: md, device });
      assert.ok(ok, text);
      await readsAll(now, md);
      await write(md, now, 512);
      await writers.get(md)?.goOn(20);
      await writers.get(md)?.stop();
      await readsAll(now, md);
    }
    const last = await cluster.request(3, { verb: 'fail', array: 'md5', device: devices.get('md5')?.[1] });
    assert.match(last.text, /holds the only copy of some data; it cannot be failed/);
    const none = await cluster.request(3, { verb: 'fail', array: 'md0', device: devices.get('md0')?.[0] });
    assert.match(none.text, /holds the only copy of some data; it cannot be failed/);
  });

  test('the former owner comes back and runs nothing that is another’s', async () => {
    await cluster.lab.guest(2).boot();
    await cluster.startAgent(2);
    await cluster.until('node 2 knows every array', 30_000, async () => {
      const { arrays } = await cluster.status(2);
      return (
        arrays.length === wanted.length &&
        arrays.every(({ applied, record }) => applied?.index === record.version.index)
      );
    });
    for (const { md, owner } of wanted) await runsOnlyOn(md, owner === 2 ? 1 : owner);
  });

  test('an owner dies as it writes to a degraded raid5: nobody goes on with it before an operator says so', async () => {
    await write('md5', 1, 1024);
    await writers.get('md5')?.goOn(20);
    await cluster.lab.guest(1).kill9();
    const owner = await cluster.master([2, 3]);
    const array = await cluster.until('the raid5 is in doubt and held', 30_000, async () => {
      const seen = await cluster.array(owner, 'md5');
      return seen?.record.parityInDoubt === true && seen.local?.held === true && seen;
    });
    assert.deepEqual([array.record.owner, array.record.writers], [owner, []]);
    await cluster.open([owner], 'md1');
    const guest = cluster.lab.guest(owner);
    const reads = 'dd if=/dev/md5 of=/dev/null bs=4096 count=1 iflag=direct';
    const reader = await guest.spawn(reads.split(' '), { logFile: join(guest.dir, 'reader.log') });
    let isRead = false;
    const read = reader.exited.then(({ code }) => {
      isRead = code === 0;
    });
    const good = array.record.members.find(({ role }) => role === 'active');
    const device = array.paths[good?.uuid ?? ''] ?? '';
    assert.equal(
      mustExamine(cluster, letters.indexOf(device.slice(-1))).clean,
      false,
      'mdadm would ask for --force too',
    );
    for (const node of [2, 3]) assert.match(await cluster.must(node, 'status'), /md5: .*mdmesh assemble --force md5/);
    for (const words of ['assemble md5', 'assemble --scan']) {
      const refused = await cluster.mdmesh(owner, words);
      assert.deepEqual([refused.rc, /mdmesh assemble --force md5/.test(refused.err)], [1, true], refused.err);
    }
    assert.equal(isRead, false, 'what was begun before all that waits');
    await cluster.must(owner, 'assemble --force md5');
    await read;
    assert.equal(isRead, true);
    assert.deepEqual((await cluster.open([owner], 'md5')).writers, [owner]);
    await write('md5', owner, 1536);
    await writers.get('md5')?.goOn(20);
    await writers.get('md5')?.stop();
  });
});
