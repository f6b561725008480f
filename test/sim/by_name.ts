/**
 * Stories that are told where they are named, and never drawn: each makes up the one moment in which some rule matters, which others
 * meet once in a month. What is drawn stays as it is for every seed.
 */
import type { NodeId } from '#src/arrays/record.ts';
import { isolate, killed, legOf, still, VOTER_MS } from './aimed.ts';
import { type Chance, crash, type Fault, heal, others, shuffled } from './faults.ts';

/** Nobody is away, and no other such story goes on. @returns the master and the others, or null */
function whole(chance: Chance): { master: NodeId; rest: NodeId[] } | null {
  const { cluster } = chance;
  const [master] = cluster.masters();
  const inOrder = (node: NodeId): boolean => cluster.isRunning(node) && cluster.driver(node).guard.grantLive;
  const calm = cluster.powerSwitchWorks && cluster.nodes.every(inOrder);
  if (master === undefined || !calm) return null;
  return { master, rest: shuffled(chance, others(chance, master)) };
}

/** @param everyMs between two looks @returns the way to look no longer */
function asSoonAs(chance: Chance, everyMs: number, isSo: () => boolean, run: () => void): () => void {
  let over = false;
  const look = (): void => {
    if (over) return;
    if (isSo()) {
      over = true;
      run();
    } else chance.later(everyMs, look);
  };
  look();
  return () => {
    over = true;
  };
}

function recordOf({ cluster }: Chance, node: NodeId) {
  return cluster
    .agent(node)
    ?.records()
    .find(({ md }) => md === 'md0');
}

/** No master has it any more, but for this node. @returns the way to look no longer */
function asGivenBack(chance: Chance, but: NodeId, run: () => void): () => void {
  const isGone = (master: NodeId): boolean => master !== but && recordOf(chance, master) === undefined;
  return asSoonAs(chance, 20, () => chance.cluster.masters().some(isGone), run);
}

export const BY_NAME: readonly Fault[] = [
  {
    name: 'one that is back is cut off before it is let in, and a leg fails',
    weight: 1,
    begin: (chance) => {
      const { cluster } = chance;
      const { master, rest: [node] = [] } = whole(chance) ?? {};
      const disk = master === undefined ? undefined : legOf(chance, master);
      if (master === undefined || node === undefined || disk === undefined) return null;
      crash(chance, [node], () => chance.between(300, 900));
      const cuts: [NodeId, NodeId][] = [];
      const isOutside = (): boolean => {
        if (!cluster.isRunning(node) || cluster.driver(node).observe('md0') === null) return false;
        return recordOf(chance, node)?.writers.includes(node) === false;
      };
      const cancel = asSoonAs(chance, 0.2, isOutside, () => {
        cuts.push(...isolate(chance, node));
        void cluster.ask(master, { verb: 'fail', array: 'md0', device: `/dev/${disk}` });
      });
      const end = () => {
        cancel();
        heal(chance, cuts);
      };
      return { text: `node ${node}, ${disk}`, lastsMs: 6000, end };
    },
  },
  {
    name: 'the master looks for a disk for longer than it leads, and leads again',
    weight: 1,
    begin: (chance) => {
      const { cluster } = chance;
      const { master } = whole(chance) ?? {};
      const disk = master === undefined ? undefined : legOf(chance, master);
      // Of those that stand at once the first leads.
      if (master === undefined || disk === undefined || master !== Math.min(...cluster.nodes)) return null;
      cluster.powerSwitchWorks = false;
      cluster.storage.hide(master, disk);
      const delayMs = chance.between(3000, 6000);
      const mends = cluster
        .disks()
        .map((each) => cluster.storage.fault({ node: master, disk: each, kind: 'slow', delayMs }));
      void cluster.ask(master, { verb: 'sync-limit', array: 'md0', limitKib: 5000 });
      let cuts: [NodeId, NodeId][] = [];
      const cancel = chance.at('is elected', (next) => {
        if (next === master) return;
        chance.later(chance.between(20, 300), () => {
          heal(chance, cuts);
          if (cluster.isRunning(next)) killed(chance, next, chance.between(VOTER_MS, 2 * VOTER_MS));
        });
      });
      let over = false;
      chance.later(100, () => {
        if (!over) cuts = isolate(chance, master);
      });
      const end = () => {
        over = true;
        cancel();
        for (const mend of mends) mend();
        heal(chance, cuts);
        cluster.powerSwitchWorks = true;
        cluster.storage.show(master, disk);
        void cluster.ask(master, { verb: 'sync-limit', array: 'md0', limitKib: null });
      };
      return { text: `node ${master}, ${disk}, slow by ${delayMs.toFixed(0)} ms`, lastsMs: 24_000, end };
    },
  },
  {
    name: 'who copies, and is no writer, stands still as the mastership goes round',
    weight: 1,
    begin: (chance) => {
      const { cluster } = chance;
      const { master } = whole(chance) ?? {};
      if (master === undefined) return null;
      const ends: (() => void)[] = [];
      let over = false;
      const limit = (limitKib: number | null) =>
        cluster.ask(cluster.masters()[0] ?? master, { verb: 'sync-limit', array: 'md0', limitKib });
      void limit(Math.round(chance.between(100, 300))).then(() => {
        if (over) return;
        crash(chance, cluster.up(), () => 300);
        ends.push(
          chance.at('begins a copy', (copier) => {
            if (recordOf(chance, copier)?.writers.includes(copier) !== false) return;
            cluster.powerSwitchWorks = false;
            chance.later(0, () => still(chance, copier, 'process', 16_000));
            ends.push(
              chance.at('is elected', (second) =>
                // It has taken over, and waits.
                chance.later(chance.between(30, 1000), () => crash(chance, [second], () => chance.between(5000, 8000))),
              ),
            );
          }),
        );
      });
      const end = () => {
        over = true;
        for (const each of ends) each();
        cluster.powerSwitchWorks = true;
        void limit(null);
      };
      return { text: `all lose power, node ${master} led`, lastsMs: 20_000, end };
    },
  },
  {
    name: 'one is away until the array is given back',
    weight: 1,
    begin: (chance) => {
      const { cluster } = chance;
      const { master, rest: [node] = [] } = whole(chance) ?? {};
      if (master === undefined || node === undefined) return null;
      if (cluster.driver(node).observe('md0') === null) return null;
      const cuts = isolate(chance, node);
      const dies = chance.random() < 0.5;
      const afterMs = chance.between(1, 300);
      const cancel = asGivenBack(chance, node, () => {
        if (dies) killed(chance, node, afterMs);
        chance.later(afterMs, () => heal(chance, cuts));
      });
      const end = () => {
        cancel();
        heal(chance, cuts);
      };
      return { text: `node ${node}${dies ? ', and its agent dies' : ''}`, lastsMs: 60_000, end };
    },
  },
  {
    name: 'who knows of an array that was given back comes as another is made',
    weight: 1,
    begin: (chance) => {
      const { cluster } = chance;
      const { master, rest: [node] = [] } = whole(chance) ?? {};
      const disk = chance.pick(cluster.disks());
      if (master === undefined || node === undefined || disk === undefined) return null;
      if (cluster.driver(node).observe('md0') === null) return null;
      const cuts = isolate(chance, node);
      const ends: (() => void)[] = [];
      let over = false;
      const made = (): void => {
        // The other disk has it soon, and this one will.
        const mend = cluster.storage.fault({ node: null, disk, kind: 'slow', delayMs: 7000 });
        chance.later(1, mend);
        heal(chance, cuts);
      };
      const givenBack = (): void => {
        // Its successor has given nothing back itself.
        for (const master of cluster.masters()) killed(chance, master, 300);
        chance.later(5000, () => {
          if (!over) ends.push(chance.at('writes metadata', made));
        });
      };
      ends.push(asGivenBack(chance, node, givenBack));
      const end = () => {
        over = true;
        for (const each of ends) each();
        heal(chance, cuts);
      };
      return { text: `node ${node}; ${disk} will be slow`, lastsMs: 90_000, end };
    },
  },
];
