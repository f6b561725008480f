/** Two nodes whose disks decide: as the stories beside this file, and told into texts in the same way. */
import assert from 'node:assert/strict';
import type { Cluster } from './cluster.ts';
import { started, story } from './story.ts';

const mirror = { nodes: 2, disks: ['A', 'B'] } as const;
const witnessed = { nodes: 2, disks: ['A', 'B', 'W'] } as const;

function mastersEver(cluster: Cluster): number[] {
  return cluster.elections.map(({ node }) => node);
}

story('disks: first election of two nodes', witnessed, (cluster) => {
  started(cluster);
  assert.deepEqual(cluster.masters(), [1], 'by both nodes, as long as nobody knows a quorum set');
  assert.deepEqual(cluster.sets, ['1.0: A, B, W']);
  cluster.crash(2);
  cluster.run(6000);
  assert.deepEqual(cluster.masters(), [1], 'and by the disks from then on: one node is enough');
});

story('disks: no set before both nodes agree', witnessed, (cluster) => {
  cluster.start(1);
  cluster.run(8000);
  assert.deepEqual(cluster.masters(), [], 'disks that nobody has agreed on decide nothing');
  cluster.start(2);
  cluster.run(1000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('disks: the master is killed', mirror, (cluster) => {
  started(cluster);
  cluster.crash(1);
  cluster.run(2500);
  assert.deepEqual(
    cluster.masters().filter((id) => id === 2),
    [],
    'its block still counts',
  );
  cluster.run(4000);
  assert.deepEqual(cluster.masters(), [2]);
  cluster.start(1);
  cluster.run(18_000);
  assert.deepEqual(cluster.masters(), [1], 'back, and handed over to');
});

story('disks: the network between two nodes is cut', mirror, (cluster) => {
  started(cluster);
  cluster.cut([1], [2]);
  cluster.run(12_000);
  assert.deepEqual(cluster.masters(), [1], 'who holds the disks goes on, and the other one stops writing');
  assert.deepEqual(
    cluster.ids.filter((id) => cluster.writes(id)),
    [1],
  );
  assert.deepEqual(mastersEver(cluster), [1]);
  cluster.heal();
  cluster.run(2000);
  assert.deepEqual(
    cluster.ids.filter((id) => cluster.writes(id)),
    [1, 2],
  );
});

story('disks: both start while the network is cut', mirror, (cluster) => {
  started(cluster);
  for (const id of cluster.ids) cluster.crash(id);
  cluster.run(1000);
  cluster.cut([1], [2]);
  cluster.start(1, 2);
  cluster.run(9000);
  assert.equal(cluster.masters().length, 1, 'both bid; exactly one goes on');
});

story('disks: the master loses its disks', witnessed, (cluster) => {
  started(cluster);
  cluster.loseDisk(1, 'A');
  cluster.loseDisk(1, 'B');
  cluster.run(9000);
  assert.deepEqual(cluster.masters(), [2], 'one of three is no majority');
  cluster.mendDisks();
  cluster.run(12_000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('disks: a cut in which each node keeps one disk', mirror, (cluster) => {
  started(cluster);
  cluster.cut([1], [2]);
  cluster.loseDisk(1, 'B');
  cluster.loseDisk(2, 'A');
  cluster.run(12_000);
  assert.deepEqual(cluster.masters(), [], 'a tie: nobody');
  cluster.heal();
  cluster.mendDisks();
  cluster.run(6000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('disks: the same tie with a witness', witnessed, (cluster) => {
  started(cluster);
  cluster.cut([1], [2]);
  cluster.loseDisk(1, 'B');
  cluster.loseDisk(2, 'A');
  cluster.run(9000);
  assert.deepEqual(cluster.masters(), [1], 'the witness decides');
});

story('disks: both lose one of two disks', mirror, (cluster) => {
  started(cluster);
  cluster.loseDisk(null, 'B');
  cluster.run(9000);
  assert.deepEqual(cluster.masters(), [], 'half is no majority, also if all that is left of the cluster agrees');
});

story('disks: both lose one of two disks and have a witness', witnessed, (cluster) => {
  started(cluster);
  cluster.loseDisk(null, 'B');
  cluster.run(9000);
  assert.deepEqual(mastersEver(cluster), [1]);
  assert.deepEqual(cluster.lapses, [], 'and nobody had to stop');
});

story('disks: a renewal takes longer than the lease', mirror, (cluster) => {
  started(cluster);
  cluster.slowDisk(1, 'B', 2500);
  cluster.run(2500);
  assert.deepEqual(cluster.masters(), [], 'what was written R ago says nothing');
  cluster.run(4500);
  assert.deepEqual(cluster.masters(), [2]);
});

story('disks: clocks twenty percent apart', { ...mirror, rates: { 1: 0.8, 2: 1.2 } }, (cluster) => {
  started(cluster, 3100);
  cluster.loseDisk(1, 'A');
  cluster.loseDisk(1, 'B');
  cluster.run(2050);
  assert.deepEqual(cluster.masters(), [1], 'its slow clock lets node 1 hold on');
  cluster.run(6000);
  assert.deepEqual(cluster.masters(), [2], 'and the fast clock of node 2 still waited longer');
});

story('disks: a node is started again', mirror, (cluster) => {
  started(cluster);
  cluster.crash(2);
  cluster.run(500);
  cluster.start(2);
  cluster.run(3500);
  assert.ok(cluster.writes(2));
  cluster.stop(1);
  cluster.run(1500);
  assert.deepEqual(cluster.masters(), [2], 'the release spares the wait');
});

story('disks: both machines lose power', witnessed, (cluster) => {
  started(cluster);
  for (const id of cluster.ids) {
    cluster.crash(id);
    cluster.reboot(id);
  }
  cluster.run(1000);
  cluster.start(2);
  cluster.run(5000);
  assert.deepEqual(cluster.masters(), [2], 'alone: the other one has said nothing for long enough');
  cluster.start(1);
  cluster.run(14_000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('disks: another set takes over', witnessed, (cluster) => {
  started(cluster);
  cluster.want('A', 'X', 'W');
  cluster.run(1000);
  assert.deepEqual(cluster.sets.at(-1), '1.2: A, X, W');
  cluster.loseDisk(null, 'B');
  cluster.loseDisk(null, 'A');
  cluster.run(5000);
  assert.deepEqual(cluster.masters(), [1], 'the new disks are enough');
  cluster.crash(1);
  cluster.run(7000);
  assert.deepEqual(cluster.masters(), [2]);
});

story('disks: a node that was off finds the newer set', witnessed, (cluster) => {
  started(cluster);
  cluster.crash(2);
  cluster.run(6000);
  cluster.want('A', 'X', 'W');
  cluster.run(1000);
  cluster.wanted = ['A', 'B', 'W'];
  cluster.cut([1], [2]);
  cluster.start(2);
  cluster.loseDisk(1, 'A');
  cluster.run(8000);
  assert.deepEqual(cluster.masters(), [1], 'by X and W; A and B are a majority no more, and A says so');
});
