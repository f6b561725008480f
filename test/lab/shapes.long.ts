/**
 * Slots, size and members of a mirror on real kernels, changed as people do it, on whichever node, while three nodes write. No
 * write fails, every kernel shows the same array afterwards, and nothing that was acknowledged is lost.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, leads, legsOf, proveWhole, requestMirror } from './lasting_writers.ts';
import { slowSwitch } from './slow_switch.ts';
import { agentKilled, allBack, copyUnderWay, dies, granted } from './upsets.ts';
import { checkLegs, Writers } from './writers.ts';

const available = labAvailable();

const LETTERS = ['a', 'b', 'c', 'd', 'e', 'f'] as const;
type Letter = (typeof LETTERS)[number];
const DISK_MIB = 192;
const SECTORS_PER_MIB = 2048;
/** Each disk as it is at first, and after its volume was enlarged. */
const SMALL_SECTORS = 64 * SECTORS_PER_MIB;
const LARGE_SECTORS = DISK_MIB * SECTORS_PER_MIB;
/** So slow that something can happen in the middle of a copy; let go on at full speed afterwards. */
const LIMIT_KIB = 3 * 1024;

const path = (letter: Letter): string => `/dev/mapper/leg${letter}`;

test('slots, size and members', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'shapes',
    diskMib: LETTERS.map(() => DISK_MIB),
    devices: ['/dev/mapper/leg*'],
    config: 'timing: { failback_after: 4s }',
  });
  const { lab, nodes } = cluster;
  const seenSectors = new Map<Letter, number>(LETTERS.map((letter) => [letter, SMALL_SECTORS]));
  const sees = (node: NodeId, letter: Letter, sectors: number): Promise<void> =>
    lab.guest(node).tableDisk(`leg${letter}`, `0 ${sectors} linear /dev/ubd${letter} 0`);
  /** The last disk, which node 3 does not see at first. */
  let seenByAll = false;
  const wrapped = async (node: NodeId): Promise<void> => {
    for (const letter of LETTERS) {
      if (letter === 'd' && node === 3 && !seenByAll) continue;
      await lab.guest(node).wrapDisk(`/dev/ubd${letter}`);
      await sees(node, letter, seenSectors.get(letter) ?? 0);
    }
  };
  await Promise.all(nodes.map(wrapped));
  await Promise.all(nodes.map((node) => cluster.startAgent(node)));
  await cluster.master(nodes, 90_000);
  const chapter = chapters(t, cluster);
  slowSwitch(cluster);
  const writers = new LastingWriters(cluster);

  /** In every kernel's own words. */
  const shows = (picture: string): Promise<unknown> =>
    cluster.until(`/proc/mdstat shows ${picture} on all`, 60_000, async () => {
      const texts = await Promise.all(nodes.map((node) => lab.guest(node).readFile('/proc/mdstat')));
      return texts.every((text) => text.includes(picture));
    });
  const refused = async (node: NodeId, words: string): Promise<string> => {
    const { rc, err } = await cluster.mdmesh(node, words);
    assert.notEqual(rc, 0, words);
    return err;
  };

  await chapter('a disk is added and takes a third slot while all write', async () => {
    await requestMirror(cluster, { prefix: '/dev/mapper/leg' });
    await cluster.open();
    await writers.start();
    assert.match(await refused(2, 'grow md0 --raid-devices 3'), /needs 1 spare to avoid being degraded, and has 0/);
    const said = await cluster.must(2, `grow md0 --raid-devices 3 --add ${path('c')}`);
    assert.match(said, /added to md0 as a spare\nmd0 has 3 raid devices/);
    await shows('[3/3] [UUU]');
    const { componentSectors } = await cluster.open();
    await writers.goOn(nodes);
    await writers.stop();
    checkLegs(cluster, [0, 1, 2], writers.logs, componentSectors);
  });

  await chapter('in mdadm’s words one is given up again: refused as long as it is in use', async () => {
    await leads(cluster, 1);
    await writers.start();
    const tooMany = await refused(3, 'mdadm --grow /dev/md0 --raid-devices=2');
    assert.match(tooMany, /3 members are in use.*fail and remove 1 first/);
    await cluster.must(3, `mdadm /dev/md0 --fail ${path('a')} --remove failed`);
    await cluster.must(3, 'mdadm -G /dev/md0 -n2');
    await shows('[2/2] [UU]');
    assert.deepEqual(await legsOf(cluster, 2), [1, 2]);
    await proveWhole(cluster, writers);
  });

  const slow = (limitKib: number | null = LIMIT_KIB): Promise<void> =>
    granted(cluster, 1, { verb: 'sync-limit', array: 'md0', limitKib });

  await chapter('a member is replaced; it is in use until the other one is whole', async () => {
    await slow();
    await writers.start();
    await cluster.must(2, `manage md0 --re-add ${path('a')} --replace ${path('b')} --with ${path('a')}`);
    await copyUnderWay(cluster, 2, 10);
    for (const node of nodes) {
      const text = await lab.guest(node).readFile('/proc/mdstat');
      assert.match(text, /\[3\/2\] \[UU_\]/, `redundancy is kept on node ${node}: ${text}`);
    }
    await slow(null);
    await shows('[2/2] [UU]');
    await cluster.open();
    assert.deepEqual(await legsOf(cluster, 3), [0, 2]);
    await proveWhole(cluster, writers);
  });

  for (const [what, befall] of [
    ['the agent of the master is killed', () => agentKilled(cluster, 1)],
    ['another node loses its power', () => dies(cluster, writers, 2)],
  ] as const) {
    await chapter(`${what} in the middle of a replacement`, async () => {
      await leads(cluster, 1);
      await slow();
      await writers.start();
      const before = await legsOf(cluster, 3);
      await cluster.must(3, 'mdadm /dev/md0 --remove failed --re-add missing');
      const [old = 0] = before;
      await cluster.must(3, `mdadm /dev/md0 --replace leg${'abc'[old]}`.replace('leg', '/dev/mapper/leg'));
      await copyUnderWay(cluster, 3, 10);
      await befall();
      await allBack(cluster, writers, wrapped);
      await leads(cluster, 1);
      await slow(null);
      await shows('[2/2] [UU]');
      await cluster.open();
      const after = await legsOf(cluster, 3);
      assert.ok(!after.includes(old) && after.length === 2, `${before} became ${after}`);
      const back = nodes.filter((node) => !writers.runs(node));
      if (back.length > 0) await writers.start(back);
      await proveWhole(cluster, writers);
    });
  }

  await chapter('detached: a node whose disk is gone fails it and takes it out, by that word alone', async () => {
    await leads(cluster, 1);
    await writers.start();
    const [leg = 0] = await legsOf(cluster, 3);
    const gone = path(LETTERS[leg] ?? 'a');
    await lab.guest(3).must(`mv ${gone} /run/link`);
    await cluster.must(3, 'mdadm /dev/md0 --remove failed');
    await cluster.must(3, 'mdadm /dev/md0 --fail detached --remove detached');
    await shows('[2/1]');
    await lab.guest(3).must(`mv /run/link ${gone}`);
    await cluster.must(3, 'mdadm /dev/md0 --re-add missing');
    await shows('[2/2] [UU]');
    await proveWhole(cluster, writers);
    for (const { role, uuid } of (await cluster.array(2))?.record.members ?? [])
      if (role === 'spare') await granted(cluster, 2, { verb: 'remove', array: 'md0', device: uuid });
  });

  await chapter('--allow-missing: a node that does not see the new disk ceases to write, until it does', async () => {
    await leads(cluster, 1);
    await writers.start();
    assert.match(await refused(2, `manage md0 --add ${path('d')}`), /node 3 does not see the disk.*--allow-missing/);
    await cluster.must(2, `manage md0 --add ${path('d')} --allow-missing`);
    await writers.goOn(nodes);
    const [leg = 0] = await legsOf(cluster, 2);
    await cluster.must(2, `mdadm /dev/md0 --fail ${path(LETTERS[leg] ?? 'a')} --remove failed`);
    await cluster.open([1, 2]);
    assert.ok((await legsOf(cluster, 2)).includes(LETTERS.indexOf('d')));
    const array = await cluster.array(3);
    assert.deepEqual([array?.local?.held, array?.record.writers, array?.record.blind], [true, [1, 2], [3]]);
    assert.match(array?.trouble ?? '', /this node sees no disk with member/);
    await writers.goOn([1, 2]);
    seenByAll = true;
    await lab.guest(3).wrapDisk('/dev/ubdd');
    await sees(3, 'd', SMALL_SECTORS);
    await cluster.open();
    await writers.goOn(nodes);
    await proveWhole(cluster, writers);
  });

  await chapter('the disks grow, and a mirror with them when every node sees it', async () => {
    await leads(cluster, 1);
    const devices = [path('e'), path('f')];
    await granted(cluster, 3, { verb: 'create', md: 'md1', level: 'raid1', raidDisks: 2, access: 'shared', devices });
    const { componentSectors: before } = await cluster.open(nodes, 'md1');
    const small = await Writers.start(cluster, { name: 'small', md: 'md1' });
    for (const letter of ['e', 'f'] as const) seenSectors.set(letter, LARGE_SECTORS);
    for (const node of [1, 2]) for (const letter of ['e', 'f'] as const) await sees(node, letter, LARGE_SECTORS);
    const unseen = await refused(2, 'grow md1 --size max');
    assert.match(unseen, /node 3 sees \/dev\/mapper\/lege with room for \d+ KiB; enlarge/);
    for (const letter of ['e', 'f'] as const) await sees(3, letter, LARGE_SECTORS);
    await granted(cluster, 1, { verb: 'sync-limit', array: 'md1', limitKib: LIMIT_KIB });
    await cluster.must(3, 'mdadm --grow /dev/md1 --size=max');
    const grown = before + LARGE_SECTORS - SMALL_SECTORS;
    const isLarge = async (): Promise<void> => {
      for (const node of nodes)
        assert.equal(Number(await lab.guest(node).readFile('/sys/block/md1/size')), grown, `node ${node}`);
    };
    await isLarge();
    const { record } = (await cluster.array(2, 'md1')) ?? {};
    assert.ok((record?.resync?.fromSector ?? 0) >= before, 'what was in sync is not copied again');
    // In the new part, while it is being made equal.
    const large = await Writers.start(cluster, { name: 'large', md: 'md1', startBlock: Math.ceil(before / 8) });
    await granted(cluster, 1, { verb: 'sync-limit', array: 'md1', limitKib: null });
    const { componentSectors } = await cluster.open(nodes, 'md1');
    for (const each of [small, large]) {
      await each.goOn(20);
      await each.stop();
    }
    checkLegs(cluster, [4, 5], [...small.logs, ...large.logs], componentSectors);
    await isLarge();
  });
});
