/**
 * What may befall a cluster, each drawn from the seed: how hard, how long, and whom. Every fault ends; what it leaves behind (a
 * machine without power, a disk that the array gave up) is for the campaign to put right.
 */
import type { NodeId } from '#src/arrays/record.ts';
import type { SimCluster } from './cluster.ts';
import type { Moment } from './moments.ts';

/** What faults are made of. */
export interface Chance {
  readonly cluster: SimCluster;
  /** 0 ≤ x < 1 */
  random(): number;
  pick<T>(from: readonly T[]): T | undefined;
  /** Between two bounds, each order of magnitude as likely as another. */
  between(least: number, most: number): number;
  /** Once, after so many ms of the cluster's time. */
  later(delayMs: number, run: () => void): void;
  /** At the next such moment, with the node at which it comes. @returns the way to wait no longer */
  at(moment: Moment, run: (node: NodeId) => void): () => void;
  /** Each operation of this node's agent on md comes so many ms late; null: none does. */
  lateHands(node: NodeId, draw: (() => number) | null): void;
  /** Applications have nothing to write. @returns the way to let them all write again, in one instant */
  rest(): () => void;
  say(text: string): void;
}

export interface Fault {
  name: string;
  /** How often, beside the others. */
  weight: number;
  /** Null: there is nobody whom it could befall now. `end` is called when it has lasted long enough, or faults are over. */
  begin(chance: Chance): { text: string; lastsMs: number; end?: () => void } | null;
}

const DAY_MS = 86_400_000;
/** Of BOOTTIME: no two differ by more than L/R. */
const SLOWEST = 0.83;
const FASTEST = 1.2;

export function running({ cluster }: Chance): NodeId[] {
  return cluster.up().filter((node) => cluster.isRunning(node));
}

export function others({ cluster }: Chance, node: NodeId): NodeId[] {
  return cluster.nodes.filter((other) => other !== node);
}

export function pairs({ cluster }: Chance): [NodeId, NodeId][] {
  return cluster.nodes.flatMap((a) => cluster.nodes.flatMap((b): [NodeId, NodeId][] => (a < b ? [[a, b]] : [])));
}

/** Of machines that are off the net is cut as well, and stays so. */
export function heal({ cluster }: Chance, between: readonly (readonly [NodeId, NodeId])[]): void {
  for (const [a, b] of between) if (cluster.isUp(a) && cluster.isUp(b)) cluster.hub.heal(a, b);
}

export function crash(chance: Chance, nodes: readonly NodeId[], offMs: () => number): void {
  const { cluster } = chance;
  for (const node of nodes) {
    cluster.crash(node);
    chance.later(offMs(), () => {
      if (!cluster.isUp(node)) void cluster.powerOn(node);
    });
  }
}

/**
 * As a store to its `state` in sysfs does it: md of one node alone, which closes its gates.
 * @returns whether it was there, and not the last leg, and no write waited that would be told as done without it (README, "What is not there yet")
 */
export function failedByHand({ cluster }: Chance, node: NodeId, disk: string): boolean {
  const driver = cluster.driver(node);
  if (driver.observe('md0')?.members.some(({ device, faulty }) => device === disk && !faulty) !== true) return false;
  if (driver.waitForBits('md0') > 0) return false;
  try {
    driver.mdadmFail('md0', cluster.storage.pathOn(node, disk));
    return true;
  } catch {
    return false;
  }
}

const network: Fault[] = [
  {
    name: 'cut between two nodes',
    weight: 3,
    begin: (chance) => {
      const pair = chance.pick(pairs(chance));
      if (pair === undefined) return null;
      chance.cluster.hub.cut(...pair);
      return { text: pair.join(' | '), lastsMs: chance.between(200, 20_000), end: () => heal(chance, [pair]) };
    },
  },
  {
    name: 'one-way cut',
    weight: 3,
    begin: (chance) => {
      const pair = chance.pick(pairs(chance));
      if (pair === undefined) return null;
      const [from, to] = chance.random() < 0.5 ? pair : [pair[1], pair[0]];
      chance.cluster.hub.cutOneWay(from, to);
      return {
        text: `${from} is not heard by ${to}`,
        lastsMs: chance.between(200, 20_000),
        end: () => heal(chance, [pair]),
      };
    },
  },
  {
    name: 'isolation',
    weight: 4,
    begin: (chance) => {
      const { cluster } = chance;
      const node = chance.pick(cluster.up());
      if (node === undefined) return null;
      const how = chance.pick(['alone', 'deaf', 'mute'] as const) ?? 'alone';
      const cuts = others(chance, node).map((other) => [node, other] as const);
      for (const [, other] of cuts) {
        if (how !== 'deaf') cluster.hub.cutOneWay(node, other);
        if (how !== 'mute') cluster.hub.cutOneWay(other, node);
      }
      return { text: `node ${node} ${how}`, lastsMs: chance.between(200, 20_000), end: () => heal(chance, cuts) };
    },
  },
  {
    name: 'split',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const left = cluster.nodes.filter(() => chance.random() < 0.5);
      const cuts = pairs(chance).filter(([a, b]) => left.includes(a) !== left.includes(b));
      for (const [a, b] of cuts) cluster.hub.cut(a, b);
      return {
        text: `{${left.join(' ')}} from the rest`,
        lastsMs: chance.between(500, 15_000),
        end: () => heal(chance, cuts),
      };
    },
  },
  {
    name: 'loss',
    weight: 2,
    begin: (chance) => {
      const { hub } = chance.cluster;
      const all = pairs(chance).filter(() => chance.random() < 0.7);
      const fraction = chance.between(0.02, 0.5);
      for (const [a, b] of all) hub.lose(a, b, fraction);
      const end = () => {
        for (const [a, b] of all) hub.lose(a, b, 0);
      };
      return {
        text: `${Math.round(100 * fraction)} % on ${all.length} ways`,
        lastsMs: chance.between(1000, 30_000),
        end,
      };
    },
  },
  {
    name: 'delay and reordering',
    weight: 2,
    begin: (chance) => {
      const { hub } = chance.cluster;
      const all = pairs(chance).filter(() => chance.random() < 0.7);
      const delayMs = chance.between(0.5, 300);
      const jitterMs = delayMs * 3 * chance.random();
      for (const [a, b] of all) hub.delay(a, b, delayMs, jitterMs);
      const end = () => {
        for (const [a, b] of all) hub.delay(a, b, 0.2);
      };
      const text = `${delayMs.toFixed(1)} ms and up to ${jitterMs.toFixed(1)} more on ${all.length} ways`;
      return { text, lastsMs: chance.between(500, 20_000), end };
    },
  },
  {
    name: 'gossip told twice',
    weight: 1,
    begin: (chance) => {
      const { hub } = chance.cluster;
      for (const [a, b] of pairs(chance)) hub.repeat(a, b, 0.5);
      const end = () => {
        for (const [a, b] of pairs(chance)) hub.repeat(a, b, 0);
      };
      return { text: 'every second piece', lastsMs: chance.between(1000, 30_000), end };
    },
  },
];

const machines: Fault[] = [
  {
    name: 'power loss of a node',
    weight: 4,
    begin: (chance) => {
      const node = chance.pick(chance.cluster.up());
      if (node === undefined) return null;
      crash(chance, [node], () => chance.between(300, 25_000));
      return { text: `node ${node}`, lastsMs: 0 };
    },
  },
  {
    name: 'power loss of the master',
    weight: 2,
    begin: (chance) => {
      const [node] = chance.cluster.masters();
      if (node === undefined) return null;
      crash(chance, [node], () => chance.between(300, 25_000));
      return { text: `node ${node}`, lastsMs: 0 };
    },
  },
  {
    name: 'power loss of all',
    weight: 2,
    begin: (chance) => {
      crash(chance, chance.cluster.up(), () => chance.between(300, 15_000));
      return { text: 'in one instant', lastsMs: 0 };
    },
  },
  {
    name: 'agent killed',
    weight: 3,
    begin: (chance) => {
      const node = chance.pick(running(chance));
      if (node === undefined) return null;
      chance.cluster.killAgent(node);
      const end = () => void chance.cluster.startAgent(node);
      return { text: `node ${node}`, lastsMs: chance.between(20, 8000), end };
    },
  },
  {
    name: 'agent stopped',
    weight: 2,
    begin: (chance) => {
      const node = chance.pick(running(chance));
      if (node === undefined) return null;
      const ended = chance.cluster.stopAgent(node);
      const end = () => void ended.then(() => chance.cluster.startAgent(node));
      return { text: `node ${node}`, lastsMs: chance.between(20, 8000), end };
    },
  },
  {
    name: 'agent hands over',
    weight: 3,
    begin: (chance) => {
      const node = chance.pick(running(chance));
      if (node === undefined) return null;
      const gapMs = chance.between(10, 4000);
      const bothDie = chance.random() < 0.2;
      void chance.cluster.handOver(node, gapMs, bothDie);
      const end = () => {
        if (bothDie) void chance.cluster.startAgent(node);
      };
      const text = `node ${node}, ${Math.round(gapMs)} ms${bothDie ? ', and both processes die' : ''}`;
      return { text, lastsMs: chance.between(500, 8000) + gapMs, end };
    },
  },
  {
    name: 'node stands still',
    weight: 4,
    begin: (chance) => {
      const node = chance.pick(running(chance));
      if (node === undefined) return null;
      const what = chance.pick(['machine', 'process', 'loop'] as const) ?? 'machine';
      chance.cluster.freeze(node, what);
      const lastsMs = chance.between(100, what === 'loop' ? 3000 : 12_000);
      return { text: `node ${node}: its ${what}`, lastsMs, end: () => chance.cluster.thaw(node) };
    },
  },
  {
    name: 'pace of a clock',
    weight: 1,
    begin: (chance) => {
      const node = chance.pick(chance.cluster.nodes);
      if (node === undefined) return null;
      const rate = SLOWEST + (FASTEST - SLOWEST) * chance.random();
      chance.cluster.paceClock(node, rate);
      return { text: `node ${node}: ${rate.toFixed(3)}`, lastsMs: 0 };
    },
  },
  {
    name: 'wall clock jumps',
    weight: 1,
    begin: (chance) => {
      const node = chance.pick(chance.cluster.nodes);
      if (node === undefined) return null;
      const offMs = (chance.random() - 0.5) * 40 * DAY_MS;
      chance.cluster.setWall(node, offMs);
      return { text: `node ${node}: ${(offMs / DAY_MS).toFixed(1)} days`, lastsMs: 0 };
    },
  },
];

const disks: Fault[] = [
  {
    name: 'path lost',
    weight: 4,
    begin: (chance) => {
      const { storage, nodes } = chance.cluster;
      const node = chance.pick(nodes);
      const disk = chance.pick(storage.names());
      const kind = chance.pick(['all', 'all', 'write', 'read'] as const);
      if (node === undefined || disk === undefined || kind === undefined) return null;
      const heal = storage.fault({ node, disk, kind });
      const lastsMs = chance.between(100, 15_000);
      const end = (): void => {
        heal();
        // What is back may be another nexus, which knows no key of this node's. By no draw of its own: seeds stay as they were elsewhere.
        if (kind !== 'all' || Math.floor(lastsMs) % 4 !== 0 || !storage.isReserved(disk)) return;
        storage.addWay(node, disk);
        chance.say(`node ${node} has one way more to ${disk}`);
      };
      return { text: `node ${node} to ${disk} (${kind})`, lastsMs, end };
    },
  },
  {
    name: 'disk fails',
    weight: 3,
    begin: (chance) => {
      const { storage } = chance.cluster;
      const disk = chance.pick(storage.names());
      const kind = chance.pick(['all', 'all', 'write', 'read'] as const);
      if (disk === undefined || kind === undefined) return null;
      const end = storage.fault({ node: null, disk, kind });
      return { text: `${disk} (${kind})`, lastsMs: chance.between(100, 15_000), end };
    },
  },
  {
    name: 'a leg failed by hand',
    weight: 1,
    begin: (chance) => {
      const node = chance.pick(running(chance));
      const disk = chance.pick(chance.cluster.disks());
      if (node === undefined || disk === undefined || !failedByHand(chance, node, disk)) return null;
      return { text: `${disk}, by mdadm on node ${node} alone`, lastsMs: 0 };
    },
  },
  {
    name: 'slow storage',
    weight: 2,
    begin: (chance) => {
      const { storage, nodes } = chance.cluster;
      const disk = chance.pick(storage.names());
      if (disk === undefined) return null;
      const node = chance.random() < 0.5 ? null : (chance.pick(nodes) ?? null);
      const delayMs = chance.between(2, 800);
      const end = storage.fault({ node, disk, kind: 'slow', delayMs });
      return {
        text: `${disk} from ${node ?? 'everywhere'}: ${delayMs.toFixed(0)} ms`,
        lastsMs: chance.between(500, 10_000),
        end,
      };
    },
  },
  {
    name: 'state disk',
    weight: 1,
    begin: (chance) => {
      const { cluster } = chance;
      const node = chance.pick(cluster.nodes);
      const state = chance.pick(['slow', 'broken'] as const);
      if (node === undefined || state === undefined) return null;
      cluster.stateDisk(node, state);
      return {
        text: `node ${node} ${state}`,
        lastsMs: chance.between(1000, 20_000),
        end: () => cluster.stateDisk(node, 'fine'),
      };
    },
  },
  {
    name: 'journal full',
    weight: 1,
    begin: (chance) => {
      const { cluster } = chance;
      const node = chance.pick(cluster.nodes);
      if (node === undefined) return null;
      cluster.journal(node).fill();
      return { text: `node ${node}`, lastsMs: chance.between(1000, 30_000), end: () => cluster.journal(node).empty() };
    },
  },
  {
    name: 'power switch out of order',
    weight: 1,
    begin: (chance) => {
      const { cluster } = chance;
      cluster.powerSwitchWorks = false;
      const end = () => {
        cluster.powerSwitchWorks = true;
      };
      return { text: 'no node can be fenced', lastsMs: chance.between(1000, 15_000), end };
    },
  },
];

/** What alone is rare, together: where rules meet. */
const together: Fault[] = [
  {
    name: 'a leg fails as all lose power',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const [leg, other] = shuffled(chance, cluster.disks());
      if (leg === undefined || other === undefined) return null;
      const mend = cluster.storage.fault({ node: null, disk: leg, kind: 'all' });
      const afterMs = chance.between(1, 200);
      const blind = cluster.nodes.filter(() => chance.random() < 0.6);
      let over = false;
      chance.later(afterMs, () => {
        if (over) return void mend();
        crash(chance, cluster.up(), () => chance.between(300, 4000));
        mend();
        // At their return it is the other leg that they do not see.
        for (const node of blind) cluster.storage.hide(node, other);
      });
      const end = () => {
        over = true;
        for (const node of blind) cluster.storage.show(node, other);
      };
      const text = `${leg}, ${afterMs.toFixed(1)} ms; back without ${other} on ${blind.join(' ') || 'no node'}`;
      return { text, lastsMs: chance.between(5000, 25_000), end };
    },
  },
  {
    name: 'all lose power as a failure is agreed on',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const [leg, other] = shuffled(chance, cluster.disks());
      if (leg === undefined || other === undefined) return null;
      const mend = cluster.storage.fault({ node: null, disk: leg, kind: 'all' });
      const isFaulty = ({ members }: { members: readonly { role: string }[] }) =>
        members.some(({ role }) => role === 'faulty');
      const known = () => cluster.up().filter((node) => cluster.agent(node)?.records().some(isFaulty));
      const agreed = (): boolean =>
        known().some((node) =>
          cluster
            .status(node)
            ?.arrays.some(({ record, released }) => released?.index === record.version.index && isFaulty(record)),
        );
      const blind = cluster.nodes.filter(() => chance.random() < 0.8);
      let over = false;
      const look = (leftMs: number): void => {
        if (leftMs > 0 && !agreed()) {
          chance.later(0.2, () => look(leftMs - 0.2));
          return;
        }
        chance.later(chance.between(0.1, 4), () => {
          if (over) return void mend();
          crash(chance, cluster.up(), () => chance.between(300, 1500));
          mend();
          for (const node of blind) cluster.storage.hide(node, other);
        });
      };
      const waits = known().length === 0;
      const cancel = waits ? chance.at('fails a member', () => look(200)) : () => undefined;
      if (!waits) look(0);
      const end = () => {
        over = true;
        cancel();
        mend();
        for (const node of blind) cluster.storage.show(node, other);
      };
      const text = `${leg}; back without ${other} on ${blind.join(' ') || 'no node'}`;
      return { text, lastsMs: chance.between(12_000, 25_000), end };
    },
  },
  {
    name: 'a leg fails as a node loses power',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const disk = chance.pick(cluster.disks());
      const node = chance.pick(cluster.up());
      if (disk === undefined || node === undefined) return null;
      const where = chance.random() < 0.5 ? node : null;
      const end = cluster.storage.fault({ node: where, disk, kind: 'all' });
      const afterMs = chance.between(0.2, 100);
      chance.later(afterMs, () => crash(chance, [node], () => chance.between(300, 15_000)));
      return {
        text: `${disk} from ${where ?? 'everywhere'}, node ${node} ${afterMs.toFixed(1)} ms later`,
        lastsMs: chance.between(500, 10_000),
        end,
      };
    },
  },
  {
    name: 'a disk hidden at boot',
    weight: 1,
    begin: (chance) => {
      const { cluster } = chance;
      const node = chance.pick(cluster.up());
      const disk = chance.pick(cluster.disks());
      if (node === undefined || disk === undefined) return null;
      crash(chance, [node], () => chance.between(300, 4000));
      cluster.storage.hide(node, disk);
      return {
        text: `${disk} on node ${node}`,
        lastsMs: chance.between(3000, 20_000),
        end: () => cluster.storage.show(node, disk),
      };
    },
  },
  {
    name: 'the master is cut off and stands still',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const [node] = cluster.masters();
      if (node === undefined || !cluster.isRunning(node)) return null;
      const cuts = others(chance, node).map((other) => [node, other] as const);
      const stillMs = chance.between(500, 6000);
      const afterMs = chance.between(1, 3000);
      for (const [a, b] of cuts) cluster.hub.cut(a, b);
      chance.later(afterMs, () => cluster.freeze(node, chance.random() < 0.5 ? 'machine' : 'process'));
      chance.later(afterMs + stillMs, () => cluster.thaw(node));
      return {
        text: `node ${node} for ${stillMs.toFixed(0)} ms`,
        lastsMs: chance.between(1000, 12_000),
        end: () => heal(chance, cuts),
      };
    },
  },
  {
    name: 'a vote is given, and its voter restarts',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const [master] = cluster.masters();
      const voter = chance.pick(running(chance).filter((node) => node !== master));
      if (master === undefined || voter === undefined) return null;
      const cuts = others(chance, master).map((other) => [master, other] as const);
      for (const [a, b] of cuts) cluster.hub.cut(a, b);
      // About when the promises to the old master end.
      chance.later(2000 + 2500 * chance.random(), () => cluster.killAgent(voter));
      chance.later(2000 + 3500 * chance.random() + 500, () => void cluster.startAgent(voter));
      return {
        text: `node ${voter}, as node ${master} is cut off`,
        lastsMs: chance.between(4000, 12_000),
        end: () => heal(chance, cuts),
      };
    },
  },
];

export function shuffled<T>(chance: Chance, from: readonly T[]): T[] {
  return from
    .map((value) => ({ value, at: chance.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value);
}

/** Those without an aim; the others: aimed.ts. */
export const DRAWN: readonly Fault[] = [...network, ...machines, ...disks, ...together];
export const CLOCK_PACES = { slowest: SLOWEST, fastest: FASTEST };
