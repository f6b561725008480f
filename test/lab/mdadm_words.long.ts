/**
 * mdadm's habits: the same command lines are typed at the real mdadm, for a plain array, and at `mdmesh mdadm` through a link of the name mdadm,
 * for an array of the cluster of the same shape. Output, messages and exit codes are held against each other, names and numbers aside.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { leads } from './lasting_writers.ts';
import { PATIENT } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, mdadm's words on real kernels: ${available.why}`);

interface Said {
  rc: number;
  out: string;
  err: string;
}

test('the same words, the same answers', {
  skip: available.ok ? false : available.why,
  timeout: 1_200_000,
}, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'mdadm-words',
    guests: 1,
    diskMib: [32, 32, 32, 32, 32, 32],
    devices: ['/dev/ubda', '/dev/ubdb', '/dev/ubdc'],
    config: PATIENT,
  });
  const chapter = chapters(t, cluster);
  await cluster.startAgent(1);
  await leads(cluster, 1);
  const guest = cluster.lab.guest(1);
  const link = '/tmp/link/mdadm';
  await guest.sh(`mkdir -p /tmp/link; ln -sf ${cluster.programOf(1)} ${link}`);
  const env = `MDMESH_CONFIG=${cluster.configFile(1)}`;
  const real = (words: string): Promise<Said> => guest.sh(`mdadm ${words}`, { timeoutMs: 60_000 });
  const ours = (words: string): Promise<Said> => guest.sh(`${env} ${link} ${words}`, { timeoutMs: 60_000 });
  /** The plain array is /dev/md9 over ubdd, ubde and ubdf; what is typed for md0 over ubda, ubdb and ubdc is typed for it, too. */
  const plain = (words: string) =>
    words
      .replaceAll('md0', 'md9')
      .replaceAll(/ubd([abc])/g, (_, letter: string) => `ubd${'def'['abc'.indexOf(letter)]}`);
  const both = async (words: string): Promise<[Said, Said]> => [await real(plain(words)), await ours(words)];

  await chapter('create', async () => {
    const line = '--create /dev/md0 --level=1 --raid-devices=2 --assume-clean';
    const plainly = await real(`${plain(line)} --run --name=demo:md9 --bitmap=none /dev/ubdd /dev/ubde`);
    assert.equal(plainly.rc, 0, plainly.err);
    const meshed = await ours(`${line} --name=demo:md0 --bitmap=clustered --nodes=2 /dev/ubda /dev/ubdb`);
    assert.equal(meshed.rc, 0, meshed.err);
    await cluster.open([1]);
  });

  await chapter('--create --bitmap=clustered that cannot be: exit codes as mdadm’s, and nothing is done', async () => {
    const few = await ours(
      '--create /dev/md1 --level=1 --raid-devices=2 --bitmap=clustered --nodes=0 /dev/ubdc missing',
    );
    assert.equal(few.rc, 2, few.err);
    const old = await ours('--create /dev/md1 -l1 -n1 -e 0.90 --bitmap=clustered /dev/ubdc');
    assert.equal(old.rc, 2);
    assert.match(old.err, /nothing was done/);
  });

  await chapter('--detail has the same fields in the same order, and the same exit codes with --test', async () => {
    const fields = (text: string) =>
      text
        .split('\n')
        .filter((line) => / : /.test(line))
        .map((line) => line.slice(0, line.indexOf(' : ') + 3));
    const [theirs, mine] = await both('--detail /dev/md0');
    assert.deepEqual([theirs.rc, mine.rc], [0, 0]);
    const own = mine.out.slice(0, mine.out.indexOf('Mesh State'));
    assert.deepEqual(fields(own), fields(theirs.out));
    const value = (text: string, name: string) => new RegExp(`^ *${name} : (.*)$`, 'm').exec(text)?.[1]?.trim();
    for (const name of [
      'Version',
      'Raid Level',
      'Raid Devices',
      'Total Devices',
      'Persistence',
      'State',
      'Active Devices',
      'Working Devices',
      'Failed Devices',
      'Spare Devices',
      'Consistency Policy',
    ]) {
      assert.equal(value(own, name), value(theirs.out, name), name);
    }
    for (const words of ['--detail --test /dev/md0', '-Dt /dev/md0', '--detail --test /dev/md77']) {
      const [a, b] = await both(words);
      assert.equal(b.rc, a.rc, words);
    }
  });

  /** Numbers, names and UUIDs aside. */
  const shape = (text: string) =>
    text
      .replaceAll(/[0-9a-f]{8}(:[0-9a-f]{8}){3}/g, 'UUID')
      .replaceAll(/ubd[a-f]|dm.[0-9]+|mapper\/\S+/g, 'DISK')
      .replaceAll(/md[09]\b/g, 'MD')
      .split('\n')
      .filter((line) => line !== '')
      .sort();

  await chapter('--detail --export, --brief and --scan', async () => {
    for (const words of ['--detail --export /dev/md0', '-DY /dev/md0', '--detail --brief /dev/md0']) {
      const [theirs, mine] = await both(words);
      assert.equal(mine.rc, theirs.rc, words);
      assert.deepEqual(shape(mine.out), shape(theirs.out), words);
    }
    const scan = await ours('--detail --scan');
    assert.equal(scan.rc, 0, scan.err);
    const lines = scan.out.trim().split('\n').sort();
    assert.equal(lines.length, 2, scan.out);
    assert.equal(new Set(shape(scan.out)).size, 1, `the cluster's array and the plain one look alike: ${scan.out}`);
  });

  await chapter(
    '--examine, --examine --export and --examine --scan are the real one’s: it reads our members',
    async () => {
      for (const words of ['--examine /dev/ubda', '--examine --export /dev/ubda', '-E --brief /dev/ubda']) {
        const [theirs, mine] = await both(words);
        assert.equal(mine.rc, theirs.rc, words);
        const names = (text: string) => shape(text).map((line) => line.split(/ : |=/)[0]);
        // What the owned bit and the mesh area change: the map of features, no clean bad-block log, the space behind.
        const apart = (line: string | undefined) => !/Bitmap|Unused|Bad Block|Internal|MD_FEATURES/.test(line ?? '');
        assert.deepEqual(names(mine.out).filter(apart), names(theirs.out).filter(apart), words);
      }
    },
  );

  await chapter('manage: messages on standard error, exit codes, and --test', async () => {
    for (const words of [
      '/dev/md0 --add /dev/ubdc',
      '/dev/md0 --fail /dev/ubdc',
      '/dev/md0 --remove /dev/ubdc',
      '/dev/md0 --remove /dev/ubdc',
      '/dev/md0 --fail /dev/nosuch',
      '/dev/md0 --remove detached',
      '/dev/md0 --remove --test detached',
      '/dev/md0 --test --remove detached',
    ]) {
      const [theirs, mine] = await both(words);
      const said = `${words}\nmdadm: ${theirs.err}\nmdmesh: ${mine.err}`;
      assert.equal(mine.rc, theirs.rc, said);
      assert.equal(mine.out, theirs.out, words);
      assert.equal(mine.err !== '', theirs.err !== '', said);
      await cluster.until('no copy is under way', 60_000, async () => (await cluster.array(1))?.record.resync === null);
    }
  });

  await chapter('--wait: 1 where nothing is to be waited for', async () => {
    for (const words of ['--wait /dev/md0', '-W /dev/md0']) {
      const [theirs, mine] = await both(words);
      assert.deepEqual([mine.rc, mine.out], [theirs.rc, theirs.out], words);
    }
  });

  await chapter('--zero-superblock leaves members alone, in use and stopped', async () => {
    const [theirs, mine] = await both('--zero-superblock /dev/ubda');
    assert.match(theirs.err, /not zeroing/);
    assert.match(mine.err, /not zeroing/);
    assert.equal(mine.rc, theirs.rc);
  });

  await chapter('--stop, and --assemble', async () => {
    for (const words of ['--stop /dev/md0', '--stop /dev/md77']) {
      const [theirs, mine] = await both(words);
      assert.equal(mine.rc, theirs.rc, `${words}: ${mine.err}`);
      assert.equal(mine.out, theirs.out);
    }
    const refused = await ours('--zero-superblock /dev/ubda');
    assert.equal(refused.rc, 2);
    assert.match(refused.err, /belongs to an array of a cluster - not zeroing/);
    for (const words of ['--assemble /dev/md0 /dev/ubda /dev/ubdb']) {
      const [theirs, mine] = await both(words);
      assert.equal(mine.rc, theirs.rc, mine.err);
      assert.deepEqual([theirs.out, mine.out], ['', '']);
    }
    await cluster.open([1]);
  });
});
