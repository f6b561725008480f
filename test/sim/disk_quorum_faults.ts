/** What is aimed at a lease by disks: each node for itself, and disks that one reaches and another does not. */
import type { NodeId } from '#src/arrays/record.ts';
import { type Chance, crash, type Fault, heal } from './faults.ts';

const HOLDER_MS = 2000;
const VOTER_MS = 3000;

/** No node hears another. @returns the way to heal that */
function allApart(chance: Chance): () => void {
  const { nodes, hub } = chance.cluster;
  const cut = nodes.flatMap((a) => nodes.flatMap((b): [NodeId, NodeId][] => (a < b ? [[a, b]] : [])));
  for (const [a, b] of cut) hub.cut(a, b);
  return () => heal(chance, cut);
}

export const AT_QUORUM_DISKS: readonly Fault[] = [
  {
    name: 'nobody reaches the disks, then all bid at once',
    weight: 4,
    begin: (chance) => {
      const { storage } = chance.cluster;
      const together = allApart(chance);
      const mends = storage.names().map((disk) => storage.fault({ node: null, disk, kind: 'all' }));
      const mend = (): void => {
        for (const each of mends.splice(0)) each();
      };
      const awayMs = 1.1 * HOLDER_MS + VOTER_MS * chance.random();
      chance.later(awayMs, mend);
      const end = (): void => {
        mend();
        together();
      };
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
      const together = allApart(chance);
      const mends = cluster.storage
        .names()
        .filter((disk) => disk !== kept)
        .map((disk) => cluster.storage.fault({ node: holder, disk, kind: 'all' }));
      const end = (): void => {
        for (const mend of mends) mend();
        together();
      };
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
      const together = allApart(chance);
      // Longer than a grant, fencing and an eviction.
      const aloneMs = 2 * VOTER_MS + 2 * VOTER_MS * chance.random();
      chance.later(aloneMs, () => crash(chance, [holder], () => chance.between(4000, 20_000)));
      return { text: `node ${holder} in ${aloneMs.toFixed(0)} ms`, lastsMs: aloneMs + 8000, end: together };
    },
  },
  {
    name: 'the holder’s disks are slow',
    weight: 3,
    begin: (chance) => {
      const { cluster } = chance;
      const [holder] = cluster.masters();
      if (holder === undefined) return null;
      const together = allApart(chance);
      const delayMs = chance.between(0.2 * HOLDER_MS, 1.5 * HOLDER_MS);
      const mends = cluster.storage
        .names()
        .map((disk) => cluster.storage.fault({ node: holder, disk, kind: 'slow', delayMs }));
      const end = (): void => {
        for (const mend of mends) mend();
        together();
      };
      return { text: `node ${holder}: ${delayMs.toFixed(0)} ms`, lastsMs: chance.between(VOTER_MS, 4 * VOTER_MS), end };
    },
  },
];
