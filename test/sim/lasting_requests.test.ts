/** Requests that take the master seconds, in which its lease ends and comes back: under virtual time and from a seed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VirtualTime } from '#src/md/simulated_time.ts';
import { assertWhole, startedOn, stopAll, watchedPass } from './afternoon.ts';
import { mirrorOf, SimCluster } from './cluster.ts';

const seeds = (process.env.MDMESH_SIM_SEEDS ?? '1,2').split(',').map(Number);

/** Of each disk the member that it says it is; null: none. */
async function labels(cluster: SimCluster, node: number): Promise<(string | null)[]> {
  const disks = await cluster.driven('a look at the disks', cluster.driver(node).scan());
  return disks.map(({ superblock }) => superblock?.deviceUuid ?? null);
}

for (const seed of seeds) {
  for (const [what, delayMs] of [
    ['the others say too late what they see', 0],
    ['one of the others does not say what it sees', 3000],
  ] as const) {
    test(`seed ${seed}: a master makes an array, and has another term before it is done, and ${what}: what it has made its own meanwhile stays`, async () => {
      const cluster = await SimCluster.start({ time: new VirtualTime(), seed, diskMib: [4, 4] });
      assert.equal(await cluster.master(), 1);
      for (const other of [2, 3]) cluster.hub.cut(1, other);
      const mends = cluster.storage
        .names()
        .map((disk) => cluster.storage.fault({ node: 3, disk, kind: 'slow', delayMs }));
      const asked = cluster.ask(1, mirrorOf(['/dev/sda', '/dev/sdb']));
      await cluster.until('the lease of node 1 has ended', () => !cluster.masters().includes(1));
      assert.ok(!(await labels(cluster, 1)).includes(null), 'laid down before that');
      for (const other of [2, 3]) cluster.hub.heal(1, other);
      const { ok, text } = await cluster.driven('an answer', asked);
      // As long as it waits to hear what others see.
      await cluster.pass(5000);
      for (const mend of mends) mend();
      assert.equal(ok, false);
      assert.match(text, /mdmesh status/);
      // What was laid down is an array that the master of the next term finds.
      await cluster.open();
      const members = cluster.status(1)?.arrays[0]?.record.members.map(({ uuid }) => uuid);
      assert.deepEqual(await labels(cluster, 2), members);
      const applications = await startedOn(cluster, cluster.nodes);
      await watchedPass(cluster, 500);
      await stopAll(applications);
      assertWhole(cluster, applications, 1, 2);
      cluster.close();
    });
  }
}
