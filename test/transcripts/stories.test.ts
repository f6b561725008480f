/**
 * Afternoons of small clusters, told by their own effects and compared line by line with the text beside this file.
 */
import assert from 'node:assert/strict';
import { type Cluster, LAN } from './cluster.ts';
import { started, story } from './story.ts';

story('first election', {}, (cluster) => {
  started(cluster);
  assert.deepEqual(cluster.masters(), [1], 'node 1 leads without waiting for the settle time');
  assert.deepEqual(
    cluster.ids.filter((id) => cluster.writes(id)),
    [1, 2, 3],
  );
});

story('a lower node comes late', {}, (cluster) => {
  cluster.start(2, 3);
  cluster.run(1500);
  assert.deepEqual(cluster.masters(), [], 'node 2 waits for node 1 to show up');
  cluster.start(1);
  cluster.run(1000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('a node alone', { nodes: 1 }, (cluster) => {
  started(cluster);
  cluster.crash(1);
  cluster.run(1000);
  cluster.start(1);
  cluster.run(5000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('the master is killed', {}, (cluster) => {
  started(cluster);
  cluster.crash(1);
  cluster.run(5000);
  assert.deepEqual(cluster.masters(), [2]);
  cluster.start(1);
  cluster.run(8000);
  assert.deepEqual(cluster.masters(), [2], 'node 1 is back, and does not pre-empt');
  cluster.run(4000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('a killed master is shut out', { reservedMs: { min: 5, max: 30 } }, (cluster) => {
  started(cluster);
  cluster.crash(1);
  cluster.run(2400);
  assert.deepEqual(cluster.masters(), [2], 'before the promises to node 1 have ended');
  assert.deepEqual(cluster.elections.at(-1)?.shutOut, [1]);
  cluster.run(3000);
  cluster.start(1);
  cluster.run(4000);
  assert.deepEqual(cluster.masters(), [2]);
  assert.ok(cluster.writes(1));
});

story('a master is shut out that can still hear', { reservedMs: { min: 5, max: 30 } }, (cluster) => {
  started(cluster);
  for (const other of [2, 3]) cluster.cutOneWay(1, other);
  cluster.run(2600);
  assert.deepEqual(cluster.masters(), [2]);
  cluster.run(3000);
  cluster.heal();
  cluster.run(3000);
  assert.equal(cluster.summary(1).master, 2);
});

story('the master is cut off', {}, (cluster) => {
  started(cluster);
  cluster.cut([1], [2, 3]);
  cluster.run(2500);
  assert.deepEqual(cluster.masters(), [], 'the minority has dropped before the majority elects');
  cluster.run(2500);
  assert.deepEqual(cluster.masters(), [2]);
  cluster.heal();
  cluster.run(3000);
  assert.deepEqual(cluster.masters(), [2]);
  assert.equal(cluster.summary(1).master, 2);
});

story('an even split elects nobody', { nodes: 4 }, (cluster) => {
  started(cluster);
  cluster.cut([1, 2], [3, 4]);
  cluster.run(12_000);
  assert.deepEqual(cluster.masters(), []);
  assert.equal(cluster.elections.length, 1);
  cluster.heal();
  cluster.run(6000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('a flapping lower node', {}, (cluster) => {
  cluster.start(2, 3);
  cluster.run(4000);
  for (const upMs of [6000, 8000]) {
    cluster.start(1);
    cluster.run(upMs);
    cluster.crash(1);
    cluster.run(4000);
  }
  assert.deepEqual(cluster.masters(), [2], '6 s and 8 s are not 10 s without a break');
  cluster.start(1);
  cluster.run(12_000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('clocks twenty percent apart', { rates: { 1: 0.8, 2: 1.2, 3: 1.2 } }, (cluster) => {
  started(cluster, 3100);
  cluster.cut([1], [2, 3]);
  cluster.run(2050);
  assert.deepEqual(cluster.masters(), [1], 'its slow clock lets node 1 hold on for longer than 2 s');
  cluster.run(2950);
  assert.deepEqual(cluster.masters(), [2], 'and the fast clocks of its voters still waited longer');
});

/** Node 2 stands again and again from now on, as hasty as a node can be. */
function ambush(cluster: Cluster, ms: number): void {
  for (const endMs = cluster.trueMs + ms; cluster.trueMs < endMs; cluster.run(20)) cluster.rumour(2);
}

const slowMasterOfFastVoters = { rates: { 1: 0.8, 2: 1.2, 3: 1.2 }, narrate: 'lease' } as const;

story('answers come late', { ...slowMasterOfFastVoters, linksMs: { '2>1': 650, '3>1': 650 } }, (cluster) => {
  started(cluster, 6000);
  assert.deepEqual(cluster.masters(), [1]);
  cluster.cut([1], [2, 3]);
  ambush(cluster, 4000);
  assert.deepEqual(cluster.masters(), [2], 'elected as soon as the promises end; counted from the answers, too soon');
});

story('votes come late', { ...slowMasterOfFastVoters, linksMs: { '2>1': 580, '3>1': 580 } }, (cluster) => {
  cluster.start(1, 2, 3);
  while (cluster.elections.length === 0) cluster.run(10);
  cluster.cut([1], [2, 3]);
  ambush(cluster, 4000);
  assert.deepEqual(cluster.masters(), [2]);
});

story('a voter is killed after an orderly restart', { narrate: 'lease' }, (cluster) => {
  started(cluster);
  cluster.stop(3);
  cluster.run(500);
  cluster.start(3);
  cluster.cut([1], [2]);
  cluster.run(4000);
  assert.deepEqual(cluster.masters(), [1], 'by the word of node 3');
  cluster.crash(3);
  cluster.cut([1], [3]);
  cluster.start(3);
  ambush(cluster, 4000);
  assert.deepEqual(cluster.masters(), [2], 'only after node 3 has waited for what it cannot remember');
});

story('a vote file is lost', {}, (cluster) => {
  started(cluster);
  cluster.crash(3);
  cluster.loseVoteFile(3);
  cluster.run(1000);
  cluster.start(3);
  cluster.run(2500);
  assert.notEqual(cluster.summary(3).abstains, null);
  cluster.run(2000);
  assert.equal(cluster.summary(3).abstains, null);
  assert.ok(cluster.writes(3));
});

story('a vote file is lost and nobody answers', {}, (cluster) => {
  started(cluster);
  cluster.crash(1);
  cluster.crash(3);
  cluster.loseVoteFile(3);
  cluster.run(1000);
  cluster.start(3);
  cluster.run(9000);
  assert.deepEqual(cluster.masters(), [], 'node 3 cannot know whom it voted for, so two of three are no majority');
  assert.equal(cluster.summary(3).abstains?.answersMissing, 1);
  cluster.start(1);
  cluster.run(5000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('all are stopped and started in order', {}, (cluster) => {
  started(cluster);
  for (const id of [3, 2, 1]) {
    cluster.stop(id);
    cluster.run(200);
  }
  cluster.run(1000);
  cluster.start(1, 2, 3);
  cluster.run(2000);
  assert.deepEqual(cluster.masters(), [1], 'what their files prove spares them the wait');
});

story('all machines lose power', {}, (cluster) => {
  started(cluster);
  for (const id of cluster.ids) {
    cluster.crash(id);
    cluster.reboot(id);
  }
  cluster.run(1000);
  cluster.start(1, 2, 3);
  cluster.run(2900);
  assert.deepEqual(cluster.masters(), [], 'nobody can know what it promised');
  cluster.run(2000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('hand-over with no outage', {}, (cluster) => {
  cluster.start(2, 3);
  cluster.run(4000);
  cluster.start(1);
  cluster.run(15_000);
  assert.deepEqual(cluster.masters(), [1]);
  assert.deepEqual(cluster.lapses, [], 'no node had to stop writing');
});

story('the release never comes', { neverReleases: true }, (cluster) => {
  cluster.start(2, 3);
  cluster.run(4000);
  cluster.start(1);
  cluster.run(25_000);
  assert.deepEqual(cluster.masters(), [2], 'nothing breaks: node 2 leads on');
  assert.deepEqual(cluster.lapses, []);
});

story('the master leaves', {}, (cluster) => {
  started(cluster);
  cluster.stop(1);
  cluster.run(1500);
  assert.deepEqual(cluster.masters(), [2], 'no promise had to run out');
  assert.deepEqual(
    cluster.lapses.filter(({ node }) => node !== 1),
    [],
  );
});

story('the master cannot write its metadata', {}, (cluster) => {
  started(cluster);
  cluster.eligible(1, false);
  cluster.stepDown(1, 'metadata of md0 cannot be written');
  cluster.release(1, 1);
  cluster.run(1000);
  assert.deepEqual(cluster.masters(), [2]);
  assert.deepEqual(cluster.lapses, []);
  cluster.eligible(1, true);
  cluster.run(11_000);
  assert.deepEqual(cluster.masters(), [1]);
});

story('the master is suspended', {}, (cluster) => {
  started(cluster);
  cluster.freeze(1);
  cluster.run(8000);
  assert.deepEqual(cluster.masters(), [2]);
  cluster.thaw(1);
  cluster.run(1000);
  assert.deepEqual(cluster.masters(), [2]);
  assert.equal(cluster.summary(1).master, 2);
});

story('an evicted node gets no grant', {}, (cluster) => {
  started(cluster);
  cluster.grantable([1, 2]);
  cluster.run(LAN.holderMs + 1000);
  assert.deepEqual(
    cluster.ids.filter((id) => cluster.writes(id)),
    [1, 2],
  );
  cluster.grantable([1, 2, 3]);
  cluster.run(100);
  assert.ok(cluster.writes(3), 'two round trips, not a renewal interval');
});

story('two nodes with one ID are one vote', { nodes: 5 }, (cluster) => {
  cluster.cut([1], [3, 4, 5]);
  cluster.start(1);
  cluster.rumour(1);
  const asked = cluster.summary(1);
  assert.equal(asked.role, 'candidate');
  const sentAtMs = cluster.clockOf(1);
  for (const boot of ['one boot', 'another boot']) {
    cluster.say(`-- node 2 (${boot}) votes for node 1`);
    const vote = `vote/${asked.term}/1/2`;
    cluster.inject(1, 2, { kind: 'vote-granted', term: asked.term, echoSentAtMs: sentAtMs, vote });
  }
  cluster.run(500);
  assert.deepEqual(cluster.masters(), [], 'itself and node 2 are two of five, not three');
});
