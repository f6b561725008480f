/**
 * Bad afternoons of clusters whose disks decide, drawn from seeds: as in safety.test.ts, and disks that are late by seconds, lost,
 * or no longer in the set. Every node bids as it likes, without a look. The cluster checks itself with every effect.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Cluster, dice } from './cluster.ts';

const SEEDS = Number(process.env.SEEDS ?? 100);
const FIRST_SEED = Number(process.env.FIRST_SEED ?? 1);
const WAR_MS = 30_000;
const DISKS = ['A', 'B', 'C', 'D', 'E'];

function afternoon(seed: number): Cluster {
  const random = dice(seed * 6151);
  const pick = <T>(all: readonly T[]): T => {
    const one = all[Math.floor(random() * all.length)];
    if (one === undefined) throw new Error('nothing to pick from');
    return one;
  };
  const nodes = pick([2, 2, 2, 3, 4]);
  const first = DISKS.slice(0, pick([1, 2, 2, 3, 3, 4, 5]));
  const extreme = random() < 0.5;
  const rates = Object.fromEntries(
    Array.from({ length: nodes }, (_, index) => [index + 1, extreme ? pick([0.8, 1.2]) : 0.8 + random() * 0.4]),
  );
  const cluster = new Cluster({
    nodes,
    seed,
    rates,
    disks: first,
    diskMs: { min: 1, max: pick([5, 300, 3000, 3000]) },
    views: random() < 0.8 ? 'lies' : 'members',
    delayMs: { min: 0.2, max: pick([5, 300, 3000]) },
    dropShare: pick([0, 0.05, 0.2]),
    fsyncMs: { min: 1, max: pick([10, 50, 900]) },
    unordered: random() < 0.5,
    neverReleases: random() < 0.2,
    narrate: process.env.FIRST_SEED === undefined ? 'none' : 'members',
  });
  const calmMs = pick([500, 1500, 3000]);
  cluster.start(...cluster.ids);
  const bidEveryMs = pick([20, 100, 400, 5000]);
  const bids = () => {
    if (cluster.trueMs >= WAR_MS) return;
    // All at once now and then: whoever was first, the others must find it.
    for (const id of random() < 0.3 ? cluster.ids : [pick(cluster.ids)]) cluster.bidBlindly(id);
    cluster.after(random() * 2 * bidEveryMs, bids);
  };
  cluster.run(3000);
  bids();
  while (cluster.trueMs < WAR_MS) {
    cluster.run(random() * calmMs);
    const node = pick(cluster.ids);
    const disk = pick(DISKS);
    const backMs = random() * 2500;
    const event = pick([
      'kill',
      'reset',
      'stop',
      'cut',
      'heal',
      'suspend',
      'lose',
      'lose',
      'slow',
      'mend',
      'mend',
      'want',
      'step-down',
    ]);
    if (event === 'kill' || event === 'reset') {
      cluster.crash(node);
      if (event === 'reset') cluster.reboot(node);
      cluster.after(backMs, () => cluster.start(node));
    } else if (event === 'stop') {
      cluster.stop(node);
      cluster.after(100 + backMs, () => cluster.start(node));
    } else if (event === 'cut') {
      const others = cluster.ids.filter((id) => id !== node);
      cluster.cut([node], others);
    } else if (event === 'heal') {
      cluster.heal();
    } else if (event === 'suspend') {
      cluster.freeze(node);
      cluster.after(backMs * 2, () => cluster.thaw(node));
    } else if (event === 'lose') {
      cluster.loseDisk(pick([node, node, null]), disk);
    } else if (event === 'slow') {
      cluster.slowDisk(node, disk, pick([500, 1900, 4000]));
    } else if (event === 'mend') {
      cluster.mendDisks();
    } else if (event === 'want') {
      cluster.want(...DISKS.filter(() => random() < 0.6));
    } else if (cluster.isUp(node)) {
      cluster.stepDown(node, 'the metadata could not be written');
    }
  }
  cluster.makePeace();
  // Operations of seconds end, blocks are seen to stand still, a hand-over may be under way.
  cluster.run(12_000);
  for (let patience = 0; patience < 30 && !agreed(cluster); patience++) cluster.run(500);
  return cluster;
}

function agreed(cluster: Cluster): boolean {
  const [master, ...rivals] = cluster.masters();
  return (
    master !== undefined && rivals.length === 0 && cluster.ids.every((id) => cluster.summary(id).master === master)
  );
}

test('no seed makes two masters by disks, or lets a grant outlive what its master allows for', () => {
  let elections = 0;
  let sets = 0;
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const cluster = afternoon(seed);
    if (process.env.FIRST_SEED !== undefined) console.log(cluster.lines.join('\n'));
    elections += cluster.elections.length;
    sets += new Set(cluster.sets.map((set) => set.split(': ')[1])).size;
    const followed = cluster.ids.map((id) => cluster.summary(id).master);
    assert.ok(
      agreed(cluster),
      `seed ${seed}: in peace nodes ${cluster.masters()} lead, and the nodes follow ${followed}`,
    );
  }
  // The afternoons were not so bad that nothing was ever at stake.
  assert.ok(elections > SEEDS * 2, `only ${elections} elections in ${SEEDS} afternoons`);
  assert.ok(sets > SEEDS * 1.5, `only ${sets} quorum sets in ${SEEDS} afternoons`);
});
