/**
 * Faults with an aim: they wait for the moment in which a rule matters, or make up the story that it is there for. Drawn alone,
 * faults meet such a moment once in many hours.
 */
import type { NodeId } from '#src/arrays/record.ts';
import type { Request } from '#src/wire/messages.ts';
import {
  type Chance,
  CLOCK_PACES,
  crash,
  type Fault,
  failedByHand,
  heal,
  others,
  running,
  shuffled,
} from './faults.ts';
import { MOMENTS, type Moment } from './moments.ts';

/** R and L of the simulated cluster's profile. */
export const HOLDER_MS = 2000;
export const VOTER_MS = 3000;
/** Of a copy, after the windows that come before its limit counts. */
const COPIED_KIB = 1024;
/** Two rounds of md's daemon, and a bit. */
const BITS_REST_MS = 12_000;

export function isolate(
  { cluster }: Chance,
  node: NodeId,
  how: 'alone' | 'deaf' | 'mute' = 'alone',
): [NodeId, NodeId][] {
  const cuts = cluster.nodes.filter((other) => other !== node).map((other): [NodeId, NodeId] => [node, other]);
  for (const [, other] of cuts) {
    if (how !== 'deaf') cluster.hub.cutOneWay(node, other);
    if (how !== 'mute') cluster.hub.cutOneWay(other, node);
  }
  return cuts;
}

/** About as long as what may have been promised lasts, by clocks that differ. */
function aboutALease(chance: Chance): number {
  return HOLDER_MS * 0.6 + (1.3 * VOTER_MS - HOLDER_MS * 0.6) * chance.random();
}

export function killed(chance: Chance, node: NodeId, awayMs: number): void {
  chance.cluster.killAgent(node);
  chance.later(awayMs, () => void chance.cluster.startAgent(node));
}

/** Whether it was killed or, by then, fenced. */
function back({ cluster }: Chance, node: NodeId): void {
  void (cluster.isUp(node) ? cluster.startAgent(node) : cluster.powerOn(node));
}

/** A disk that this node's md has in sync. */
export function legOf(chance: Chance, node: NodeId): string | undefined {
  const members = chance.cluster.driver(node).observe('md0')?.members ?? [];
  return chance.pick(members.filter(({ slot, inSync, faulty }) => slot !== null && inSync && !faulty))?.device;
}

/** By whoever runs: or soon nothing would be left to fail. */
function givenBack(chance: Chance, disk: string): void {
  const node = chance.pick(running(chance));
  if (node === undefined) return;
  const device = `/dev/${disk}`;
  void chance.cluster
    .ask(node, { verb: 'remove', array: 'md0', device })
    .then(() => chance.cluster.ask(node, { verb: 'add', array: 'md0', device, force: false }));
}

export function still(chance: Chance, node: NodeId, what: 'machine' | 'process' | 'loop', lastsMs: number): void {
  chance.cluster.freeze(node, what);
  chance.later(lastsMs, () => chance.cluster.thaw(node));
}

/** Writes of all are on the other legs already when the power goes. @returns the way to end it before */
function allEndOnOneLeg(chance: Chance, disk: string, delayMs: number): () => void {
  const { cluster } = chance;
  const mend = cluster.storage.fault({ node: null, disk, kind: 'slow', delayMs });
  chance.later(400 + 2 * delayMs, () => {
    crash(chance, cluster.up(), () => chance.between(300, 3000));
    mend();
  });
  return mend;
}

/** What hits a node at the chosen moment. @returns in words */
const BLOWS: readonly ((chance: Chance, node: NodeId) => string)[] = [
  (chance, node) => {
    crash(chance, [node], () => chance.between(300, 9000));
    return 'loses its power';
  },
  (chance, node) => {
    killed(chance, node, chance.between(10, 4000));
    return 'its agent is killed';
  },
  ...(['machine', 'process', 'loop'] as const).map((what) => (chance: Chance, node: NodeId) => {
    still(chance, node, what, aboutALease(chance));
    return `its ${what} stands still`;
  }),
  ...(['alone', 'deaf', 'mute'] as const).map((how) => (chance: Chance, node: NodeId) => {
    const cuts = isolate(chance, node, how);
    chance.later(aboutALease(chance), () => heal(chance, cuts));
    return `is ${how} for about a lease`;
  }),
  (chance, node) => {
    const other = chance.pick(others(chance, node)) ?? node;
    const [from, to] = chance.random() < 0.5 ? [node, other] : [other, node];
    chance.cluster.hub.cutOneWay(from, to);
    chance.later(aboutALease(chance), () => heal(chance, [[from, to]]));
    return `node ${to} does not hear node ${from}`;
  },
];

function struck(moment: Moment): Fault {
  return {
    name: `struck as it ${moment}`,
    weight: 0.6,
    begin: (chance) => {
      const waitsMs = 8000;
      const blow = chance.pick(BLOWS);
      const whom = chance.random();
      const cancel = chance.at(moment, (node) => {
        const victim = whom < 0.6 ? node : chance.pick(others(chance, node));
        const afterMs = chance.random() < 0.4 ? 0 : chance.between(0.05, 5);
        // Not in the midst of what it is at: the instant after.
        chance.later(afterMs, () => {
          if (victim === undefined || blow === undefined || !chance.cluster.isRunning(victim)) return;
          chance.say(`as node ${node} ${moment}: node ${victim} ${blow(chance, victim)}`);
        });
      });
      return { text: 'waits for that', lastsMs: waitsMs, end: cancel };
    },
  };
}

const stories: Fault[] = [
  {
    name: 'a leg fails, and one node does not hear of it',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const [unlucky, deaf] = shuffled(chance, running(chance));
      const disk = unlucky === undefined ? undefined : legOf(chance, unlucky);
      if (unlucky === undefined || deaf === undefined || disk === undefined) return null;
      const byHand = chance.random() < 0.5 && failedByHand(chance, unlucky, disk);
      const kind = chance.random() < 0.7 ? 'all' : 'write';
      const mend = byHand ? () => undefined : cluster.storage.fault({ node: unlucky, disk, kind });
      const lastsMs = chance.between(3000, 9000);
      const cut: [NodeId, NodeId][] = [];
      const cancel = chance.at('fails a member', (master) => {
        if (master === deaf) return still(chance, chance.pick(others(chance, master)) ?? deaf, 'loop', 1000);
        for (const from of others(chance, deaf)) {
          cluster.hub.cutOneWay(from, deaf);
          cut.push([from, deaf]);
        }
        chance.later(400 + 1400 * chance.random(), () => heal(chance, cut));
      });
      const end = () => {
        cancel();
        mend();
        heal(chance, cut);
        givenBack(chance, disk);
      };
      return { text: `${disk} on node ${unlucky}${byHand ? ' by hand' : ''}, node ${deaf} will be deaf`, lastsMs, end };
    },
  },
  {
    name: 'a leg is failed by command as bits are written, and one node does not hear of it',
    weight: 1.5,
    begin: (chance) => {
      const { cluster } = chance;
      const [asker, deaf] = shuffled(chance, running(chance));
      const disk = asker === undefined ? undefined : legOf(chance, asker);
      if (asker === undefined || deaf === undefined || disk === undefined) return null;
      const delayMs = chance.between(60, 500);
      // Of a write that waits for its bits the legs are chosen already.
      const slow = cluster.disks().map((each) =>
        cluster.storage.fault({
          node: null,
          disk: each,
          kind: 'slow',
          delayMs: each === disk ? delayMs : delayMs / 2,
        }),
      );
      const cut: [NodeId, NodeId][] = [];
      const cancel = chance.at('fails a member', (master) => {
        if (master === deaf) return;
        for (const from of others(chance, deaf)) {
          cluster.hub.cutOneWay(from, deaf);
          cut.push([from, deaf]);
        }
        chance.later(400 + 1400 * chance.random(), () => heal(chance, cut));
      });
      chance.later(delayMs * 3, () => {
        void cluster.ask(asker, { verb: 'fail', array: 'md0', device: `/dev/${disk}` });
      });
      const end = () => {
        cancel();
        for (const mend of slow) mend();
        heal(chance, cut);
        givenBack(chance, disk);
      };
      return { text: `${disk} by node ${asker}, node ${deaf} will be deaf`, lastsMs: 3000 + 3 * delayMs, end };
    },
  },
  {
    name: 'a disk that was given up is back as the master ends',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const disk = chance.random() < 0.6 ? 'sda' : (chance.pick(cluster.disks()) ?? 'sda');
      const mend = cluster.storage.fault({ node: null, disk, kind: 'all' });
      const how = chance.random();
      const cancel = chance.at('fails a member', (master) => {
        chance.later(chance.between(30, 2500), () => {
          mend();
          if (how < 0.4) killed(chance, master, chance.between(500, 5000));
          else crash(chance, how < 0.7 ? [master] : cluster.up(), () => chance.between(300, 5000));
        });
      });
      const end = () => {
        cancel();
        mend();
        givenBack(chance, disk);
      };
      return { text: disk, lastsMs: 9000, end };
    },
  },
  {
    name: 'an agent out of reach is killed, and back at once',
    weight: 2,
    begin: (chance) => {
      const node = chance.pick(running(chance));
      if (node === undefined) return null;
      const cuts = isolate(chance, node);
      chance.later(chance.between(50, 2500), () => killed(chance, node, chance.between(5, 95)));
      return { text: `node ${node}`, lastsMs: chance.between(3500, 14_000), end: () => heal(chance, cuts) };
    },
  },
  {
    name: 'a node stands still, and no switch works',
    weight: 1.5,
    begin: (chance) => {
      const { cluster } = chance;
      const node = chance.pick(running(chance));
      if (node === undefined) return null;
      const lastsMs = chance.between(4000, 14_000);
      cluster.powerSwitchWorks = false;
      still(chance, node, 'process', lastsMs);
      const end = () => {
        cluster.powerSwitchWorks = true;
        cluster.thaw(node);
      };
      return { text: `node ${node}`, lastsMs, end };
    },
  },
  {
    name: 'votes are stored slowly as the master ends',
    weight: 1.5,
    begin: (chance) => {
      const { cluster } = chance;
      const [master] = cluster.masters();
      if (master === undefined) return null;
      const slow = cluster.nodes.filter(() => chance.random() < 0.6);
      for (const node of slow) cluster.stateDisk(node, 'slow');
      const cuts = chance.random() < 0.5 ? isolate(chance, master) : [];
      if (cuts.length === 0) crash(chance, [master], () => chance.between(300, 6000));
      const end = () => {
        for (const node of slow) cluster.stateDisk(node, 'fine');
        heal(chance, cuts);
      };
      return {
        text: `node ${master}; slow on ${slow.join(' ') || 'none'}`,
        lastsMs: chance.between(5000, 12_000),
        end,
      };
    },
  },
  {
    name: 'held back for about a lease',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const node = chance.random() < 0.6 ? cluster.masters()[0] : chance.pick(cluster.up());
      if (node === undefined) return null;
      const how = chance.pick(['deaf', 'mute', 'deaf'] as const) ?? 'deaf';
      const some = others(chance, node).filter(() => chance.random() < 0.8);
      let over = false;
      const again = (left: number): void => {
        if (over || left === 0) return;
        for (const other of some) {
          if (how === 'deaf') cluster.hub.cutOneWay(other, node);
          else cluster.hub.cutOneWay(node, other);
        }
        const forMs = chance.random() < 0.5 ? chance.between(150, 1900) : aboutALease(chance);
        chance.later(forMs, () => {
          heal(
            chance,
            some.map((other) => [node, other] as const),
          );
          chance.later(chance.between(1, 1500), () => again(left - 1));
        });
      };
      again(4);
      const end = () => {
        over = true;
      };
      return { text: `node ${node} ${how} to ${some.join(' ') || 'none'}`, lastsMs: chance.between(4000, 12_000), end };
    },
  },
  {
    name: 'the mastership goes round',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const [first] = cluster.masters();
      if (first === undefined) return null;
      const before = isolate(chance, first);
      // One that has ended brings nothing back of what it was about to send.
      const ends = chance.random() < 0.6;
      if (ends) cluster.killAgent(first);
      let after: [NodeId, NodeId][] = [];
      const cancel = chance.at('is elected', (second) => {
        chance.later(1.6 * VOTER_MS * chance.random(), () => {
          after = isolate(chance, second);
          const apart = chance.random() < 0.5 ? 1.3 * VOTER_MS * chance.random() : 0;
          // These two never meet: what the second has done the first learns of others only.
          chance.later(apart, () => {
            heal(
              chance,
              before.filter(([, other]) => other !== second),
            );
            back(chance, first);
            cluster.hub.cut(first, second);
          });
        });
      });
      const end = () => {
        cancel();
        back(chance, first);
        heal(chance, [...before, ...after]);
      };
      return { text: `away from node ${first}`, lastsMs: chance.between(13_000, 24_000), end };
    },
  },
  {
    name: 'a vote goes nowhere, and another stands in its term',
    weight: 1.5,
    begin: (chance) => {
      const { cluster } = chance;
      const [first] = cluster.masters();
      if (first === undefined) return null;
      const cuts = isolate(chance, first);
      // It comes back as one that has heard of no later term.
      cluster.killAgent(first);
      const cancel = chance.at('votes', (voter) => {
        const candidate = cluster.agent(voter)?.lease.pendingVote?.candidate ?? voter;
        cuts.push(...isolate(chance, candidate));
        chance.later(VOTER_MS * 1.5 * chance.random(), () => {
          heal(
            chance,
            others(chance, first).map((other) => [first, other] as const),
          );
          back(chance, first);
          cluster.hub.cut(first, candidate);
        });
      });
      const end = () => {
        cancel();
        back(chance, first);
        heal(chance, cuts);
      };
      return { text: `after node ${first}`, lastsMs: chance.between(13_000, 20_000), end };
    },
  },
  {
    name: 'clocks apart, as far as they may be',
    weight: 1,
    begin: (chance) => {
      const paces = chance.cluster.nodes.map((node) => {
        const pace = chance.random() < 0.5 ? CLOCK_PACES.slowest : CLOCK_PACES.fastest;
        chance.cluster.paceClock(node, pace);
        return `${node}: ${pace}`;
      });
      return { text: paces.join(', '), lastsMs: 0 };
    },
  },
  {
    name: 'late hands',
    weight: 2,
    begin: (chance) => {
      const nodes = chance.cluster.nodes.filter(() => chance.random() < 0.6);
      const mostMs = chance.between(3, 600);
      for (const node of nodes) chance.lateHands(node, () => mostMs * chance.random());
      const end = () => {
        for (const node of nodes) chance.lateHands(node, null);
      };
      return {
        text: `up to ${mostMs.toFixed(0)} ms on ${nodes.join(' ') || 'none'}`,
        lastsMs: chance.between(1000, 12_000),
        end,
      };
    },
  },
  {
    name: 'a second leg fails as gates are answered',
    weight: 1.5,
    begin: (chance) => {
      const node = chance.pick(running(chance));
      const first = node === undefined ? undefined : legOf(chance, node);
      if (node === undefined || first === undefined) return null;
      const failed = [first];
      if (!failedByHand(chance, node, first)) return null;
      // Just before the answer comes to md, when writes wait for it.
      const lateMs = chance.between(60, 300);
      chance.lateHands(node, () => lateMs);
      let cancel = (): void => undefined;
      const wait = (): void => {
        cancel = chance.at('answers its gates', (at) => {
          if (at !== node) return chance.later(0, wait);
          chance.later(lateMs - 1.5 * chance.random(), () => {
            const second = legOf(chance, node);
            if (second !== undefined && failedByHand(chance, node, second)) failed.push(second);
          });
        });
      };
      wait();
      const end = () => {
        cancel();
        chance.lateHands(node, null);
        for (const disk of failed) givenBack(chance, disk);
      };
      return { text: `${first} first, on node ${node}`, lastsMs: chance.between(2000, 7000), end };
    },
  },
  {
    name: 'an agent says goodbye, and comes back otherwise',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const [master] = cluster.masters();
      const node = chance.random() < 0.5 ? master : chance.pick(running(chance));
      if (node === undefined || !cluster.isRunning(node)) return null;
      const how = chance.pick(['power', 'killed', 'at once'] as const) ?? 'at once';
      void cluster.stopAgent(node).then(() => {
        if (how === 'power') return chance.later(chance.between(1, 2500), () => crash(chance, [node], () => 300));
        chance.later(chance.between(1, 2500), () => void cluster.startAgent(node));
        // It has followed by then, and has promised.
        if (how === 'killed')
          chance.later(2500 + chance.between(300, 6000), () => killed(chance, node, chance.between(10, 1500)));
      });
      return { text: `node ${node}: ${how}`, lastsMs: 0 };
    },
  },
  {
    name: 'all end in order, then lose their power',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const nodes = running(chance);
      const disk = chance.pick(cluster.disks());
      if (disk === undefined) return null;
      const again = chance.random() < 0.5 ? nodes : [];
      const apartMs = chance.between(1, 2000);
      const ends = nodes.map((node) => {
        const { promise, resolve } = Promise.withResolvers<void>();
        chance.later(apartMs * chance.random(), () => void cluster.stopAgent(node).then(resolve));
        return promise;
      });
      void Promise.all(ends).then(() => {
        for (const node of again) void cluster.startAgent(node);
        if (again.length > 0) chance.later(chance.between(1000, 8000), () => allEndOnOneLeg(chance, disk, 300));
        else crash(chance, cluster.up(), () => chance.between(300, 15_000));
      });
      const text = `nodes ${nodes.join(' ')}${again.length > 0 ? '; started once more before' : ''}`;
      return { text, lastsMs: 0 };
    },
  },
  {
    name: 'few voters are left, and one restarts',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const [master] = cluster.masters();
      const voters = shuffled(
        chance,
        running(chance).filter((node) => node !== master),
      );
      const needed = Math.floor(cluster.nodes.length / 2);
      if (master === undefined || voters.length < needed) return null;
      const away = voters.slice(needed);
      const [voter] = voters;
      const cuts = away.flatMap((node) => isolate(chance, node));
      chance.later(chance.between(100, 2000), () => {
        if (voter !== undefined && cluster.isRunning(voter)) killed(chance, voter, chance.between(5, 800));
      });
      // With one more that the master needs out of its reach, the others would do for another.
      const gone = chance.random() < 0.5 ? isolate(chance, master) : [];
      const end = () => heal(chance, [...cuts, ...gone]);
      if (gone.length > 0) chance.later(chance.between(200, 1500), () => heal(chance, cuts));
      return {
        text: `node ${voter}, as ${away.join(' ') || 'nobody'} is away`,
        lastsMs: chance.between(3000, 8000),
        end,
      };
    },
  },
  {
    name: 'a writer ends as a copy goes on',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const delayMs = chance.between(5, 400);
      const ends: (() => void)[] = [];
      let over = false;
      const cancel = chance.at('goes on with a copy', (copier) => {
        chance.later(chance.between(1, 1500), () => {
          const node = chance.pick(others(chance, copier).filter((other) => cluster.isUp(other)));
          if (node === undefined) return;
          crash(chance, [node], () => chance.between(300, 9000));
          if (chance.random() < 0.7 && !over)
            for (const disk of cluster.disks())
              ends.push(cluster.storage.fault({ node: copier, disk, kind: 'slow', delayMs }));
        });
      });
      const end = () => {
        over = true;
        cancel();
        for (const mend of ends) mend();
      };
      return { text: `then disks are slow by ${delayMs.toFixed(0)} ms`, lastsMs: chance.between(4000, 12_000), end };
    },
  },
  {
    name: 'a slow copy, and its copier goes',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const asker = chance.pick(running(chance));
      if (asker === undefined) return null;
      const ask = (request: Request) => cluster.ask(asker, request);
      const how = chance.pick(['stopped', 'isolated', 'killed', 'frozen', 'stays'] as const) ?? 'stays';
      const what = chance.pick(['repair', 'member'] as const) ?? 'repair';
      const device = `/dev/${chance.pick(cluster.disks())}`;
      const cuts: [NodeId, NodeId][] = [];
      void ask({ verb: 'sync-limit', array: 'md0', limitKib: Math.round(chance.between(150, 1500)) }).then(async () => {
        if (what === 'repair') return void (await ask({ verb: 'action', array: 'md0', action: 'repair' }));
        await ask({ verb: 'fail', array: 'md0', device });
        await ask({ verb: 'remove', array: 'md0', device });
        await ask({ verb: 'add', array: 'md0', device, force: false });
      });
      const cancel = chance.at('goes on with a copy', (copier) => {
        chance.later(chance.between(5, 3000), () => {
          if (!cluster.isRunning(copier)) return;
          if (how === 'isolated') cuts.push(...isolate(chance, copier));
          if (how === 'killed') killed(chance, copier, chance.between(5, 3000));
          if (how === 'frozen') still(chance, copier, 'process', aboutALease(chance));
          if (how === 'stopped')
            void cluster.stopAgent(copier).then(() => chance.later(500, () => void cluster.startAgent(copier)));
        });
      });
      const end = () => {
        cancel();
        heal(chance, cuts);
        void ask({ verb: 'sync-limit', array: 'md0', limitKib: null });
      };
      return { text: `${what} of ${device}: ${how}`, lastsMs: chance.between(5000, 20_000), end };
    },
  },
  {
    name: 'writers end one after the other',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const nodes = shuffled(chance, cluster.up()).slice(0, 2 + Math.floor(2 * chance.random()));
      const torn = cluster.disks().map((disk) => {
        const delayMs = chance.between(1, 300);
        return cluster.storage.fault({ node: null, disk, kind: 'slow', delayMs });
      });
      for (const node of nodes)
        chance.later(chance.between(50, 2500), () => {
          if (cluster.isUp(node)) crash(chance, [node], () => chance.between(300, 12_000));
        });
      const end = () => {
        for (const mend of torn) mend();
      };
      return { text: nodes.join(' '), lastsMs: 3000, end };
    },
  },
  {
    name: 'a writer ends with its writes on one leg',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const node = chance.pick(cluster.up());
      const disk = chance.pick(cluster.disks());
      if (node === undefined || disk === undefined) return null;
      const delayMs = chance.between(100, 900);
      const mend = cluster.storage.fault({ node, disk, kind: 'slow', delayMs });
      const limit = (limitKib: number | null) => void cluster.ask(node, { verb: 'sync-limit', array: 'md0', limitKib });
      // So that it takes a while until what is in doubt is made one.
      if (chance.random() < 0.6) limit(Math.round(chance.between(150, 1000)));
      chance.later(300 + delayMs * (1 + 2 * chance.random()), () => {
        if (cluster.isUp(node)) crash(chance, [node], () => chance.between(300, 12_000));
      });
      const end = () => {
        mend();
        limit(null);
      };
      return {
        text: `node ${node}, ${disk} is behind by ${delayMs.toFixed(0)} ms`,
        lastsMs: chance.between(3000, 8000),
        end,
      };
    },
  },
  {
    name: 'a writer ends with its writes on one leg as a copy is about to end',
    weight: 0.7,
    begin: (chance) => {
      const { cluster } = chance;
      const [master] = cluster.masters();
      const node = chance.pick(running(chance).filter((each) => each !== master));
      const disk = node === undefined ? undefined : legOf(chance, node);
      if (master === undefined || node === undefined || disk === undefined) return null;
      const limitKib = Math.round(chance.between(200, 600));
      const copyMs = (1000 * COPIED_KIB) / limitKib;
      const ends = [cluster.storage.fault({ node, disk, kind: 'slow', delayMs: chance.between(200, 900) })];
      const limit = (to: number | null) => cluster.ask(master, { verb: 'sync-limit', array: 'md0', limitKib: to });
      const delayMs = chance.between(100, 400);
      let over = false;
      // What the eviction writes takes its time, and the copy ends meanwhile.
      const cancel = chance.at('begins a copy', () =>
        chance.later(copyMs * (0.1 + 0.8 * chance.random()), () => {
          if (cluster.isUp(node)) crash(chance, [node], () => chance.between(50, 300));
          if (over) return;
          for (const each of cluster.disks())
            ends.push(cluster.storage.fault({ node: master, disk: each, kind: 'slow', delayMs }));
        }),
      );
      void limit(limitKib).then(() => cluster.ask(master, { verb: 'action', array: 'md0', action: 'repair' }));
      const end = () => {
        over = true;
        cancel();
        for (const mend of ends) mend();
        void limit(null);
      };
      return { text: `node ${node}, ${disk} is behind, ${limitKib} KiB/s`, lastsMs: copyMs + 3000, end };
    },
  },
  {
    name: 'a writer ends with its writes on one leg while a spare is rebuilt',
    weight: 0.7,
    begin: (chance) => {
      const { cluster } = chance;
      const [master] = cluster.masters();
      const node = chance.pick(running(chance).filter((each) => each !== master));
      const [given, behind] = shuffled(chance, cluster.disks());
      if (master === undefined || node === undefined || given === undefined || behind === undefined) return null;
      const limitKib = Math.round(chance.between(200, 500));
      const array = 'md0';
      const device = `/dev/${given}`;
      const limit = (to: number | null) => cluster.ask(master, { verb: 'sync-limit', array, limitKib: to });
      const mend = cluster.storage.fault({ node, disk: behind, kind: 'slow', delayMs: chance.between(200, 900) });
      const cancel = chance.at('begins a copy', () =>
        chance.later(chance.between(300, 2500), () => {
          if (cluster.isUp(node)) crash(chance, [node], () => chance.between(100, 2000));
          mend();
        }),
      );
      void limit(limitKib)
        .then(() => cluster.ask(master, { verb: 'fail', array, device }))
        .then(() => cluster.ask(master, { verb: 'remove', array, device }))
        .then(() => cluster.ask(master, { verb: 'add', array, device, force: false }));
      const end = () => {
        cancel();
        mend();
        void limit(null);
      };
      return { text: `node ${node}, ${behind} is behind, ${given} is rebuilt`, lastsMs: 7000, end };
    },
  },
  {
    name: 'all end with their writes on one leg',
    weight: 1.5,
    begin: (chance) => {
      const disk = chance.pick(chance.cluster.disks());
      if (disk === undefined) return null;
      const delayMs = chance.between(200, 900);
      const mend = allEndOnOneLeg(chance, disk, delayMs);
      return { text: `${disk} is behind by ${delayMs.toFixed(0)} ms`, lastsMs: 3000, end: mend };
    },
  },
  {
    name: 'bits are written as a leg is failed by command, and one node does not hear of it',
    weight: 0.7,
    begin: (chance) => {
      const { cluster } = chance;
      const [asker, deaf] = shuffled(chance, running(chance));
      const disk = asker === undefined ? undefined : legOf(chance, asker);
      if (asker === undefined || deaf === undefined || disk === undefined) return null;
      const delayMs = chance.between(20, 200);
      const wake = chance.rest();
      const ends: (() => void)[] = [wake];
      const cut: [NodeId, NodeId][] = [];
      let over = false;
      // By then all bits are cleared: each writer's next write has to set its own, and has chosen its legs before.
      chance.later(BITS_REST_MS, () => {
        if (over) return;
        ends.push(
          chance.at('fails a member', (master) => {
            for (const each of cluster.disks())
              ends.push(cluster.storage.fault({ node: null, disk: each, kind: 'slow', delayMs }));
            wake();
            if (master === deaf) return;
            for (const from of others(chance, deaf)) {
              cluster.hub.cutOneWay(from, deaf);
              cut.push([from, deaf]);
            }
            chance.later(400 + 1400 * chance.random(), () => heal(chance, cut));
          }),
        );
        void cluster.ask(asker, { verb: 'fail', array: 'md0', device: `/dev/${disk}` });
      });
      const end = () => {
        over = true;
        for (const each of ends) each();
        heal(chance, cut);
        givenBack(chance, disk);
      };
      const text = `${disk} by node ${asker}, disks slow by ${delayMs.toFixed(0)} ms, node ${deaf} will be deaf`;
      return { text, lastsMs: BITS_REST_MS + 3000, end };
    },
  },
  {
    name: 'a renewal comes after the release',
    weight: 1.5,
    begin: (chance) => {
      const { cluster } = chance;
      const [master] = cluster.masters();
      if (master === undefined || !cluster.isRunning(master)) return null;
      // The first is handed the mastership, and asks another for its vote as it says what it was handed: the rest hear of it by gossip.
      const [next, late] = others(chance, master).filter((node) => cluster.isRunning(node));
      if (next === undefined || late === undefined) return null;
      const held = [master, late] as const;
      cluster.hub.cutOneWay(...held);
      const asks = [next, late] as const;
      const cancel = chance.at('releases its lease', () => {
        cluster.hub.cutOneWay(...asks);
        chance.later(chance.between(5, 60), () => heal(chance, [held]));
        chance.later(chance.between(300, 1500), () => heal(chance, [asks]));
      });
      chance.later(300 + 1000 * chance.random(), () => {
        void cluster.stopAgent(master).then(() => chance.later(500, () => void cluster.startAgent(master)));
      });
      const end = () => {
        cancel();
        heal(chance, [held, asks]);
        void cluster.startAgent(master);
      };
      return { text: `from node ${master} to node ${late}; node ${next} is to lead`, lastsMs: 6000, end };
    },
  },
  {
    name: 'a crashed writer is back before its eviction is agreed on',
    weight: 0.7,
    begin: (chance) => {
      const { cluster } = chance;
      const [master] = cluster.masters();
      const [crashed, silent] = shuffled(
        chance,
        running(chance).filter((node) => node !== master),
      );
      const disk = chance.pick(cluster.disks());
      if (master === undefined || crashed === undefined || silent === undefined || disk === undefined) return null;
      const delayMs = chance.between(100, 900);
      const mend = cluster.storage.fault({ node: crashed, disk, kind: 'slow', delayMs });
      const silentMs = 16_000 + 4000 * chance.random();
      const first = chance.random() < 0.5;
      chance.later(300 + delayMs * (1 + chance.random()), () => {
        if (!cluster.isUp(crashed)) return mend();
        cluster.powerSwitchWorks = false;
        still(chance, silent, 'process', silentMs);
        // What waits for the silent one, so that the eviction has to wait for that.
        if (first) void cluster.ask(master, { verb: 'sync-limit', array: 'md0', limitKib: 5000 });
        chance.later(first ? 100 : 0, () => {
          if (cluster.isUp(crashed)) crash(chance, [crashed], () => chance.between(200, 900));
          mend();
        });
      });
      const end = () => {
        mend();
        cluster.thaw(silent);
        cluster.powerSwitchWorks = true;
        void cluster.ask(master, { verb: 'sync-limit', array: 'md0', limitKib: null });
      };
      const text = `node ${crashed}, ${disk} is behind by ${delayMs.toFixed(0)} ms, while node ${silent} stands still`;
      return { text, lastsMs: 300 + 2 * delayMs + silentMs, end };
    },
  },
  {
    name: 'legs are given up one after the other, also the last',
    weight: 1,
    begin: (chance) => {
      const { cluster } = chance;
      const node = chance.pick(running(chance));
      if (node === undefined) return null;
      const failed: string[] = [];
      const legs = shuffled(chance, cluster.disks());
      const next = (): void => {
        const disk = legs.pop();
        if (disk === undefined) return;
        void cluster.ask(node, { verb: 'fail', array: 'md0', device: `/dev/${disk}` }).then(({ ok }) => {
          if (ok) failed.push(disk);
          next();
        });
      };
      next();
      const end = () => {
        for (const disk of failed) givenBack(chance, disk);
      };
      return { text: `by node ${node}`, lastsMs: chance.between(1000, 4000), end };
    },
  },
  {
    name: 'one node alone knows of a failure, and comes back last',
    weight: 1,
    begin: (chance) => {
      const { cluster } = chance;
      const [knows] = cluster.masters();
      const [leg, other] = shuffled(chance, cluster.disks());
      if (knows === undefined || leg === undefined || other === undefined) return null;
      const forgetful = others(chance, knows);
      for (const node of forgetful) cluster.journal(node).fill();
      const mend = cluster.storage.fault({ node: null, disk: leg, kind: 'all' });
      let over = false;
      const empty = (): void => {
        for (const node of forgetful) cluster.journal(node).empty();
      };
      const cancel = chance.at('fails a member', () =>
        chance.later(chance.between(200, 2000), () => {
          if (over) return;
          const up = cluster.up();
          crash(
            chance,
            up.filter((node) => node !== knows),
            () => chance.between(300, 900),
          );
          crash(chance, [knows], () => chance.between(8000, 11_000));
          mend();
          empty();
          for (const node of forgetful) cluster.storage.hide(node, other);
        }),
      );
      const end = () => {
        over = true;
        cancel();
        mend();
        empty();
        for (const node of forgetful) cluster.storage.show(node, other);
      };
      return { text: `node ${knows}, of ${leg}; the others come back without ${other}`, lastsMs: 20_000, end };
    },
  },
  {
    name: 'a member is given up, and given back',
    weight: 2,
    begin: (chance) => {
      const { cluster } = chance;
      const disk = chance.pick(cluster.disks());
      const node = chance.pick(running(chance));
      if (disk === undefined || node === undefined) return null;
      const device = `/dev/${disk}`;
      const ask = (verb: 'fail' | 'remove' | 'add') =>
        cluster.ask(node, {
          array: 'md0',
          device,
          ...(verb === 'add' ? { verb, force: false } : { verb }),
        });
      void ask('fail')
        .then(() => ask('remove'))
        .then(() => ask('add'));
      return { text: disk, lastsMs: 0 };
    },
  },
];

export const AIMED: readonly Fault[] = [...MOMENTS.map(struck), ...stories];
