/** Two nodes whose disks decide, under load: real agents, simulated md, from a seed. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findJournals } from '#src/audit/journals.ts';
import { verifyJournals } from '#src/audit/verify.ts';
import { ownerOfTerm } from '#src/lease/index.ts';
import { decodeNodeBlock } from '#src/md/node_block.ts';
import { seededRandom } from '#src/md/simulated_time.ts';
import { assertWhole, recordOn, startedOn, stopAll, watched, watchedPass, writersGoOn, writing } from './afternoon.ts';
import { nothingOldLands } from './checkers.ts';
import { CLUSTER_UUID, type SimCluster } from './cluster.ts';
import { writeJournals } from './journals_on_disk.ts';

/** More of them: MDMESH_SIM_SEEDS=3,4,5 */
const seeds = (process.env.MDMESH_SIM_SEEDS ?? '1').split(',').map(Number);

const MIRROR = { legs: 2, nodes: 2, quorum: { by: 'disks', witness: null } } as const;
/** The third disk, sdc, is the witness. */
const WITNESSED = { legs: 2, nodes: 2, quorum: { by: 'disks', witness: '/dev/sdc' } } as const;

function quorumOn(cluster: SimCluster, node: number): string[] {
  return [...(cluster.status(node)?.quorum?.set?.disks ?? [])];
}

async function formed(cluster: SimCluster, disks: number): Promise<void> {
  await watched(cluster, `${disks} quorum disks on both nodes`, () =>
    cluster.nodes.every((node) => quorumOn(cluster, node).length === disks && cluster.status(node)?.quorum?.quorate),
  );
}

/** What breaks a rule in the journals of all nodes. */
async function broken(cluster: SimCluster, byDisks: boolean): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'mdmesh-quorum-'));
  try {
    const journals = await findJournals([...writeJournals(cluster, folder).values()]);
    const audited = { uuid: CLUSTER_UUID, peerIds: cluster.peerIds(), byDisks };
    const { findings } = await verifyJournals({ cluster: audited, journals });
    return findings.filter(({ severity }) => severity === 'broken').map(({ rule }) => rule);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

for (const seed of seeds) {
  for (const [what, befall] of [
    ['the master dies', (cluster: SimCluster) => cluster.crash(1)],
    [
      'the master loses the network and its disks',
      (cluster: SimCluster) => {
        cluster.hub.cut(1, 2);
        for (const disk of ['sda', 'sdb']) cluster.storage.fault({ node: 1, disk, kind: 'all' });
      },
    ],
  ] as const) {
    test(`seed ${seed}: two nodes, ${what}; the other one waits, fences it and writes on`, async () => {
      const { cluster, applications } = await writing({ seed, ...MIRROR });
      await formed(cluster, 2);
      assert.equal(await cluster.master(), 1);
      befall(cluster);
      await watched(cluster, 'node 2 is master', () => cluster.masters().includes(2));
      await watched(cluster, 'node 1 is out and the legs are one again', () => {
        const { record, local } = recordOn(cluster, 2);
        return !record.writers.includes(1) && record.resync === null && local?.held === false;
      });
      assert.deepEqual(
        cluster.fenced.map(({ by, node }) => [by, node]),
        [[2, 1]],
      );
      applications[0]?.abandon();
      await writersGoOn(cluster, applications.slice(1));
      await stopAll(applications.slice(1));
      assertWhole(cluster, applications, 2, 2);
      cluster.close();
    });
  }

  test(`seed ${seed}: two nodes, the network between them is cut; who holds the disks goes on and has the other switched off`, async () => {
    const { cluster, applications } = await writing({ seed, ...MIRROR });
    await formed(cluster, 2);
    cluster.hub.cut(1, 2);
    await watched(cluster, 'node 2 is fenced and out', () => {
      const { record, local } = recordOn(cluster, 1);
      return !record.writers.includes(2) && record.resync === null && local?.held === false;
    });
    assert.deepEqual(
      cluster.fenced.map(({ by, node }) => [by, node]),
      [[1, 2]],
    );
    applications[1]?.abandon();
    await writersGoOn(cluster, applications.slice(0, 1));
    await cluster.boot(2);
    await watched(cluster, 'node 2 writes again', () => recordOn(cluster, 1).record.writers.includes(2));
    await cluster.open();
    await stopAll(applications.slice(0, 1));
    assertWhole(cluster, applications, 1, 2);
    cluster.close();
  });

  test(`seed ${seed}: two nodes, one leg is lost; with a witness the other leg goes on, and a new disk takes its place in the quorum`, async () => {
    const { cluster, applications } = await writing({ seed, ...WITNESSED });
    await formed(cluster, 3);
    cluster.storage.fault({ node: null, disk: 'sdb', kind: 'all' });
    await watched(cluster, 'sdb is given up', () =>
      recordOn(cluster, 1).record.members.some(({ role }) => role === 'faulty'),
    );
    await writersGoOn(cluster, applications);
    assert.deepEqual(cluster.masters(), [1]);
    cluster.crash(1);
    await watched(cluster, 'node 2 is master, by one leg and the witness', () => cluster.masters().includes(2));
    applications[0]?.abandon();
    await watched(cluster, 'node 1 is out', () => !recordOn(cluster, 2).record.writers.includes(1));
    await writersGoOn(cluster, applications.slice(1));
    await stopAll(applications.slice(1));
    assertWhole(cluster, applications, 2, 1);
    cluster.close();
  });

  test(`seed ${seed}: two nodes, one leg is lost and there is no witness: nobody writes, and nothing is lost`, async () => {
    const { cluster, applications } = await writing({ seed, ...MIRROR });
    await formed(cluster, 2);
    const heal = cluster.storage.fault({ node: null, disk: 'sdb', kind: 'all' });
    await watched(cluster, 'no master', () => cluster.masters().length === 0);
    await watchedPass(cluster, 10_000);
    assert.deepEqual(cluster.masters(), []);
    heal();
    await watched(cluster, 'a master again', () => cluster.masters().length === 1);
    await writersGoOn(cluster, applications);
    await stopAll(applications);
    cluster.close();
  });

  test(`seed ${seed}: both lose power; the one that comes back leads, once fencing vouches for the other`, async () => {
    const { cluster, applications } = await writing({ seed, ...WITNESSED });
    await formed(cluster, 3);
    cluster.powerCut();
    for (const application of applications) application.abandon();
    await cluster.pass(300);
    await cluster.boot(2);
    await watched(cluster, 'node 2 is master', () => cluster.masters().includes(2));
    await watched(cluster, 'the array is open', () => {
      const array = cluster.status(2)?.arrays[0];
      return array?.local?.held === false && array.record.resync === null && !array.record.writers.includes(1);
    });
    const later = await startedOn(cluster, [2], 1);
    await stopAll(later);
    assert.deepEqual(await broken(cluster, true), [], "commits under the holder's own word are proved");
    assert.ok((await broken(cluster, false)).includes('certificate'), 'where nodes decide that word proves nothing');
    assertWhole(cluster, [...applications, ...later], 2, 2);
    cluster.close();
  });

  test(`seed ${seed}: a bad afternoon of two nodes and three quorum disks makes no two masters and loses nothing`, async () => {
    const { cluster, applications } = await writing({ seed, ...WITNESSED });
    await formed(cluster, 3);
    const random = seededRandom(seed * 77);
    const heals: (() => void)[] = [];
    const gone = new Set<number>();
    const isGone = (node: number): void => {
      gone.add(node);
      applications.find((application) => application.node === node)?.abandon();
    };
    for (let round = 0; round < 5; round++) {
      const node = random() < 0.5 ? 1 : 2;
      const choice = Math.floor(random() * 4);
      if (choice === 0) {
        cluster.hub.cut(1, 2);
        heals.push(() => cluster.hub.heal(1, 2));
      } else if (choice === 1 && cluster.isUp(node)) {
        cluster.crash(node);
        isGone(node);
      } else if (choice === 2) {
        heals.push(cluster.storage.fault({ node, disk: 'sdc', kind: 'all' }));
      } else {
        heals.push(cluster.storage.fault({ node, disk: 'sda', kind: 'slow', delayMs: 900 }));
      }
      await watchedPass(cluster, 1000 + random() * 5000);
      for (const heal of heals.splice(0)) heal();
      for (const each of cluster.nodes) {
        if (cluster.isUp(each)) continue;
        isGone(each);
        await cluster.boot(each);
      }
      await watchedPass(cluster, random() * 4000);
    }
    await watched(cluster, 'a master again', () => cluster.masters().length === 1);
    await cluster.open();
    await stopAll(applications.filter(({ node }) => !gone.has(node)));
    assertWhole(cluster, applications, 1, 2);
    cluster.close();
  });
}

for (const how of ['cut off', 'stands still'] as const) {
  test(`two nodes and reservations: a node that ${how} is shut out of the members; it leads when the other has died`, async () => {
    const { cluster, applications } = await writing({ seed: 3, ...WITNESSED, fencing: ['reservation'] });
    await formed(cluster, 3);
    assert.equal(await cluster.master(), 1);
    if (how === 'cut off') cluster.hub.cut(1, 2);
    else cluster.freeze(2, 'machine');
    await watched(cluster, 'node 2 is shut out', () => {
      const { record, local } = recordOn(cluster, 1);
      return !record.writers.includes(2) && record.resync === null && local?.held === false;
    });
    for (const disk of ['sda', 'sdb']) assert.equal(cluster.storage.mayWrite(2, disk), false, disk);
    await writersGoOn(cluster, applications.slice(0, 1));
    cluster.crash(1);
    applications[0]?.abandon();
    if (how === 'stands still') cluster.thaw(2);
    await watched(cluster, 'node 2 is master', () => cluster.masters().includes(2));
    await watched(cluster, 'node 1 is out', () => {
      const { record, local } = recordOn(cluster, 2);
      return (
        !record.writers.includes(1) && record.writers.includes(2) && record.resync === null && local?.held === false
      );
    });
    await writersGoOn(cluster, applications.slice(1));
    await stopAll(applications.slice(1));
    assertWhole(cluster, applications, 2, 2);
    cluster.close();
  });
}

test('two nodes and reservations: what the former master has on its way to slow disks never lands on the next one’s record', async () => {
  const { cluster, applications } = await writing({ seed: 5, ...MIRROR, fencing: ['reservation'], everyMs: 10 });
  await formed(cluster, 2);
  assert.equal(await cluster.master(), 1);
  const slow = ['sda', 'sdb'].map((disk) => cluster.storage.fault({ node: 1, disk, kind: 'slow', delayMs: 6000 }));
  cluster.hub.cut(1, 2);
  let late = 0;
  cluster.storage.onWrite = (write) => {
    assert.equal(nothingOldLands(cluster, write), null);
    if (write.stage === 'lands' && write.node === 1 && cluster.masters().includes(2)) late += 1;
  };
  void cluster.request(1, { verb: 'sync-limit', array: 'md0', limitKib: 1000 }).catch(() => undefined);
  await watched(cluster, 'node 2 is master', () => cluster.masters().includes(2));
  await watched(cluster, 'node 1 is out', () => !recordOn(cluster, 2).record.writers.includes(1));
  await watchedPass(cluster, 6000);
  assert.ok(late > 0, 'it has come to the disks');
  for (const mend of slow) mend();
  cluster.hub.heal(1, 2);
  // Its write was refused, for good.
  applications[0]?.abandon();
  await writersGoOn(cluster, applications.slice(1));
  await stopAll(applications.slice(1));
  assertWhole(cluster, applications, 2, 2);
  cluster.close();
});

test('a holder says that it has let go when all that it wrote has landed', async () => {
  const { cluster, applications } = await writing({ seed: 6, ...MIRROR, everyMs: 10 });
  await formed(cluster, 2);
  assert.equal(await cluster.master(), 1);
  const driver = cluster.driver(1);
  const { writeMetadata } = driver;
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
  driver.writeMetadata = async (writes) => {
    const results = await writeMetadata.call(driver, writes);
    await answered;
    return results;
  };
  void cluster.request(1, { verb: 'sync-limit', array: 'md0', limitKib: 1000 }).catch(() => undefined);
  await watchedPass(cluster, 50);
  const said: string[] = [];
  const { writeNodeBlock } = driver;
  driver.writeNodeBlock = (path, offset, bytes) => {
    const block = decodeNodeBlock(CLUSTER_UUID, 1, bytes);
    if (block !== null && block !== 'torn') said.push(block.phase);
    return writeNodeBlock.call(driver, path, offset, bytes);
  };
  const faults = ['sda', 'sdb'].map((disk) => cluster.storage.fault({ node: 1, disk, kind: 'all' }));
  await watched(cluster, 'node 1 has lost its lease', () => cluster.masters().length === 0);
  // Until it sees the disks again it does not stand.
  await watchedPass(cluster, 3000);
  for (const mend of faults) mend();
  await watchedPass(cluster, 2000);
  assert.equal(said.includes('free'), false);
  driver.writeMetadata = writeMetadata;
  answer();
  await watched(cluster, 'it says so', () => said.includes('free'));
  await writersGoOn(cluster, applications);
  await stopAll(applications);
  cluster.close();
});

for (const back of [[1], [2], [1, 2]]) {
  test(`two nodes and reservations: both lose power, and node ${back.join(' and ')} is back: its key of before is another boot’s`, async () => {
    const { cluster, applications } = await writing({ seed: 4, ...WITNESSED, fencing: ['reservation'] });
    await formed(cluster, 3);
    cluster.powerCut();
    for (const application of applications) application.abandon();
    await cluster.pass(300);
    await cluster.boot(...back);
    await watched(cluster, 'a master', () => cluster.masters().length === 1);
    await watched(cluster, 'the array is open', () =>
      back.every((node) => {
        const array = cluster.status(node)?.arrays[0];
        return (
          array?.local?.held === false && array.record.resync === null && array.record.writers.length === back.length
        );
      }),
    );
    const later = await startedOn(cluster, back, 1);
    await stopAll(later);
    assertWhole(cluster, [...applications, ...later], back[0] ?? 1, 2);
    cluster.close();
  });
}

test('where disks decide the node list stays as it is while agents run; the rest of a file is taken up', async () => {
  const { cluster, applications } = await writing({ seed: 1, ...MIRROR });
  await formed(cluster, 2);
  const [list, timing] = [cluster.file(1).nodes, cluster.file(1).timing];
  for (const change of [{ nodes: list.slice(0, 1) }, { timing: { ...timing, holderMs: 1500 } }]) {
    cluster.write([1], change);
    const { ok, text } = await cluster.reload(1);
    assert.equal(ok, false);
    assert.match(text, /cannot become .* while disks decide .* run mdmesh node force-list on each/s);
    cluster.write([1], { nodes: list, timing });
  }
  cluster.crash(1);
  applications[0]?.abandon();
  await watched(cluster, 'node 2 is master', () => cluster.masters().includes(2));
  await cluster.boot(1);
  cluster.write([1, 2], { timing: { ...timing, failbackAfterMs: 20_000 } });
  for (const node of [1, 2]) assert.match((await cluster.reload(node)).text, /^taken up: timing; node list 0 counts$/);
  await watched(cluster, 'node 1 is master again', () => cluster.masters().includes(1));
  assert.equal(ownerOfTerm(cluster.status(1)?.lease.term ?? 0), 1, 'by disks still: in a term of its own');
  await writersGoOn(cluster, applications.slice(1));
  await stopAll(applications.slice(1));
  cluster.close();
});
