/** Checks that nobody asked for: when they begin, what is remembered of them, and by whom. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recordOn, stopAll, writing } from './afternoon.ts';

const EVERY_SECONDS = 90;

test('a check begins by itself, its outcome stands in the record, and a new master counts on from there', async () => {
  const check = { everySeconds: EVERY_SECONDS, fromMinute: 0, toMinute: 0 };
  const { cluster, applications } = await writing({ seed: 5, legs: 2, check });
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
