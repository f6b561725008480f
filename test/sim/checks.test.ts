/** Checks that nobody asked for: when they begin, what is remembered of them, and by whom. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LAN } from '#src/config/index.ts';
import { VirtualTime } from '#src/md/simulated_time.ts';
import { recordOn, startedOn, stopAll, watchCopies, watched, watchedPass, writing } from './afternoon.ts';
import { mirrorOf, SimCluster } from './cluster.ts';

const EVERY_SECONDS = 90;

async function ask(cluster: SimCluster, words: Parameters<SimCluster['request']>[1]): Promise<void> {
  const { ok, text } = await cluster.request(2, words);
  assert.ok(ok, text);
}

test('a check begins by itself, its outcome stands in the record, and a new master counts on from there', async () => {
  const check = { everySeconds: EVERY_SECONDS, fromMinute: 0, toMinute: 0 };
  const { cluster, applications } = await writing({ seed: 5, legs: 2, everyMs: 10, check });
  await stopAll(applications);
  const [leg] = recordOn(cluster, 1).record.members;
  cluster.storage.poke('sdb', ((leg?.dataOffsetSectors ?? 0) + 4000) * 512, new Uint8Array(4096).fill(7));
  const first = await cluster.until('its first check', () => recordOn(cluster, 3).record.lastCheck, 300_000);
  assert.ok((first.mismatchSectors ?? 0) >= 8, 'what differs is found');
  await cluster.until('all are told of it', () => {
    const { entries } = cluster.journal(3).read(0, 100_000);
    return entries.some(({ event: { body } }) => body.type === 'notice' && body.name === 'MismatchesFound');
  });

  cluster.crash(1);
  const due = (first.atSeconds + EVERY_SECONDS) * 1000;
  const clockMs = (seconds: number) => seconds * 1000 - Date.UTC(2024, 0, 1);
  const next = await cluster.until(
    'its second check, under another master',
    () => {
      const { lastCheck, resync } = recordOn(cluster, 2).record;
      if (cluster.time.clock() < clockMs(due / 1000)) assert.notEqual(resync?.kind, 'check', 'too soon');
      return lastCheck !== null && lastCheck.atSeconds > first.atSeconds ? lastCheck : null;
    },
    400_000,
  );
  assert.ok(next.atSeconds - first.atSeconds >= EVERY_SECONDS);
  assert.notEqual(cluster.status(2)?.lease.master, 1);
  cluster.close();
});

const shapes = [
  { level: 'raid1', legs: 2 },
  { level: 'raid10', legs: 4, layout: 0x102, chunkKib: 256 },
] as const;
for (const { legs, ...shape } of shapes) {
  test(`${shape.level}: a check that another master goes on with tells what the first has found, and its own`, async () => {
    const cluster = await SimCluster.start({ time: new VirtualTime(), seed: 7, diskMib: Array(legs).fill(24) });
    const devices = cluster.storage.names().map((name) => `/dev/${name}`);
    const created = await cluster.request(2, mirrorOf(devices, { ...shape, bitmap: 'internal' }));
    assert.ok(created.ok, created.text);
    await cluster.open();
    const { members, componentSectors } = recordOn(cluster, 1).record;
    const dataOffset = members[0]?.dataOffsetSectors ?? 0;
    // One near its beginning, one near its end.
    for (const sector of [64, componentSectors - 64])
      cluster.storage.poke('sda', (dataOffset + sector) * 512, new Uint8Array(4096).fill(9));
    await ask(cluster, { verb: 'sync-limit', array: 'md0', limitKib: 1024 });
    const applications = await startedOn(cluster, [2, 3]);
    const watch = watchCopies(cluster);
    await ask(cluster, { verb: 'action', array: 'md0', action: 'check' });
    const halfway = () => (recordOn(cluster, 1).record.resync?.fromSector ?? 0) >= componentSectors / 4;
    await watched(cluster, 'a checkpoint in the middle', halfway);
    await cluster.driven('its master leaves', cluster.stopAgent(1));
    await watched(cluster, 'another is at it', () => watch.copiers.some(({ node }) => node !== 1));
    await ask(cluster, { verb: 'sync-limit', array: 'md0', limitKib: null });
    const outcome = await watched(cluster, 'its end', () => recordOn(cluster, 2).record.lastCheck);
    const found = outcome.mismatchSectors ?? 0;
    // Each difference is counted as the piece that it lies in; one may be looked at by both.
    assert.ok(found >= 2 * 128 && found <= 3 * 128, `${found} sectors`);
    assert.ok((watch.copiers.at(-1)?.fromSector ?? 0) > 0, 'what was looked at was not looked at again');
    await stopAll(applications);
    cluster.close();
  });
}

test('a repair in the middle of which the lead goes back tells all that was mended', async () => {
  const cluster = await SimCluster.start({ time: new VirtualTime(), seed: 11, diskMib: [24, 24] });
  const created = await cluster.request(2, mirrorOf(['/dev/sda', '/dev/sdb'], { bitmap: 'internal' }));
  assert.ok(created.ok, created.text);
  await cluster.open();
  const { members } = recordOn(cluster, 1).record;
  const dataOffset = members[0]?.dataOffsetSectors ?? 0;
  cluster.storage.poke('sda', (dataOffset + 64) * 512, new Uint8Array(4096).fill(9));
  await ask(cluster, { verb: 'sync-limit', array: 'md0', limitKib: 2048 });
  const applications = await startedOn(cluster, [2, 3], 0, 80, 10);
  const watch = watchCopies(cluster);
  await cluster.driven('its master leaves', cluster.stopAgent(1));
  await watched(cluster, 'another one', () => cluster.masters().some((node) => node === 2));
  await cluster.driven('it comes back', cluster.startAgent(1));
  const { failbackAfterMs } = LAN;
  await watchedPass(cluster, failbackAfterMs - 200);
  assert.deepEqual(cluster.masters(), [2], 'too late to begin');
  await ask(cluster, { verb: 'action', array: 'md0', action: 'repair' });
  await watched(cluster, 'the lead goes back', () => cluster.masters().some((node) => node === 1));
  const before = recordOn(cluster, 2).record.resync;
  assert.equal(before?.by, 2, 'the repair was over by then, or not begun');
  assert.equal(before?.foundSectors, undefined, 'it stands in a checkpoint already');
  const outcome = await watched(cluster, 'its end', () => recordOn(cluster, 2).record.lastCheck);
  assert.deepEqual([...new Set(watch.copiers.map(({ node }) => node))], [2, 1]);
  assert.equal(outcome.mismatchSectors, 128, 'the piece that it lies in');
  await stopAll(applications);
  cluster.close();
});
