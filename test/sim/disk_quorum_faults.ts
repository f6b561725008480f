/** What is aimed at a lease by disks: each node for itself, and disks that one reaches and another does not. */
import { HOLDER_MS, VOTER_MS } from './aimed.ts';
import { type Chance, crash, type Fault, heal, pairs } from './faults.ts';

/** No node hears another, and disks fail. @param mends what heals the disks @returns the way to heal all that is left of it */
function allApart(chance: Chance, mends: (() => void)[] = []): () => void {
  const cut = pairs(chance);
  for (const [a, b] of cut) chance.cluster.hub.cut(a, b);
  return () => {
    for (const mend of mends.splice(0)) mend();
    heal(chance, cut);
  };
}

export const AT_QUORUM_DISKS: readonly Fault[] = [
  {
    name: 'nobody reaches the disks, then all bid at once',
    weight: 4,
    begin: (chance) => {
      const { storage } = chance.cluster;
      const mends = storage.names().map((disk) => storage.fault({ node: null, disk, kind: 'all' }));
      const end = allApart(chance, mends);
      const awayMs = 1.1 * HOLDER_MS + VOTER_MS * chance.random();
      chance.later(awayMs, () => {
        for (const mend of mends.splice(0)) mend();
      });
      return { text: `for ${awayMs.toFixed(0)} ms`, lastsMs: awayMs + chance.between(1000, 8000), end };
    },
  },
  {
    name: 'the holder reaches one disk alone',
    weight: 4,
    begin: (chance) => {
      const { cluster } = chance;
      const [holder] = cluster.masters();
      const kept = chance.pick(cluster.storage.names());
      if (holder === undefined || kept === undefined) return null;
      const mends = cluster.storage
        .names()
        .filter((disk) => disk !== kept)
        .map((disk) => cluster.storage.fault({ node: holder, disk, kind: 'all' }));
      const end = allApart(chance, mends);
      return { text: `node ${holder}, ${kept}`, lastsMs: chance.between(VOTER_MS, 4 * VOTER_MS), end };
    },
  },
  {
    name: 'the holder has the others out, and dies',
    weight: 4,
    begin: (chance) => {
      const { cluster } = chance;
      const [holder] = cluster.masters();
      if (holder === undefined) return null;
      const end = allApart(chance);
      // Longer than a grant, fencing and an eviction.
      const aloneMs = 2 * VOTER_MS + 2 * VOTER_MS * chance.random();
      chance.later(aloneMs, () => crash(chance, [holder], () => chance.between(4000, 20_000)));
      return { text: `node ${holder} in ${aloneMs.toFixed(0)} ms`, lastsMs: aloneMs + 8000, end };
    },
  },
  {
    name: 'the holder’s disks are slow',
    weight: 3,
    begin: (chance) => {
      const { cluster } = chance;
      const [holder] = cluster.masters();
      if (holder === undefined) return null;
      const delayMs = chance.between(0.2 * HOLDER_MS, 1.5 * HOLDER_MS);
      const mends = cluster.storage
        .names()
        .map((disk) => cluster.storage.fault({ node: holder, disk, kind: 'slow', delayMs }));
      const end = allApart(chance, mends);
      return { text: `node ${holder}: ${delayMs.toFixed(0)} ms`, lastsMs: chance.between(VOTER_MS, 4 * VOTER_MS), end };
    },
  },
];
