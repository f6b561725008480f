/**
 * Seeded rounds on real kernels, for `make soak` and for the dozen of `make test`. Three nodes write all over a mirror; in each
 * round something is done to it, and at a random moment something befalls a node. After it all nodes are back, no write has
 * failed or hangs, every acknowledged write is on both legs, the legs are equal and their superblocks tell the same.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from './cluster.ts';
import { account, DISKS, drawing, Keeper, PATIENCE_MS } from './keeper.ts';
import { LastingWriters, proveWhole } from './lasting_writers.ts';
import { agentKilled, allBack, standsStill } from './upsets.ts';

const CHECK_EVERY = 3;

export const DEEDS = [
  'a leg fails by command',
  'a leg fails by I/O error on one node',
  'a leg is taken out and rebuilt',
  'a leg fails and a spare takes over',
  'check',
  'repair',
  'a rebuilding is halted and goes on',
] as const;
export const UPSETS = [
  'nothing',
  'a node loses its power',
  'the master loses its power',
  'an agent is killed',
  'a guest stands still',
  'a node is cut off the network',
] as const;

/** Everything that is left to chance in a round, drawn before it begins. */
export interface Choices {
  deed: (typeof DEEDS)[number];
  upset: (typeof UPSETS)[number];
  /** Which of the legs, nodes and so on: taken modulo their number. */
  leg: number;
  at: number;
  victim: number;
  writesOnly: boolean;
  afterMs: number;
  lengthMs: number;
}

export interface Sizes {
  diskMib: number;
  /** Of 4 KiB, for each node; three of them nearly cover the array. */
  regionBlocks: number;
  /** A copy takes long enough to have a middle in which something can happen. */
  limitKib: number;
  /** The upset comes within this time. */
  afterMs: number;
  /** It lasts from the one to the other. */
  lengthMs: readonly [number, number];
}

export const LONG: Sizes = {
  diskMib: 96,
  regionBlocks: 7000,
  limitKib: 24 * 1024,
  afterMs: 4000,
  lengthMs: [1000, 5000],
};

/**
 * Deeds and upsets each in an order of the seed's own, round and round. Their numbers have no common divisor, so each is drawn in a
 * handful of rounds, and all pairs in as many rounds as there are.
 */
export function drawer(seed: number, sizes: Sizes): () => Choices {
  const { below, shuffled } = drawing(seed);
  const [deeds, upsets] = [shuffled(DEEDS), shuffled(UPSETS)];
  let round = 0;
  return () => {
    const [deed = DEEDS[0], upset = UPSETS[0]] = [deeds[round % deeds.length], upsets[round % upsets.length]];
    round += 1;
    const [least, most] = sizes.lengthMs;
    return {
      deed,
      upset,
      leg: below(2),
      at: below(3),
      victim: below(3),
      writesOnly: below(2) === 1,
      afterMs: below(sizes.afterMs),
      lengthMs: least + below(most - least),
    };
  };
}

/** @param say each line of the story, as it happens */
export async function soak(
  { seed, rounds, name, sizes }: { seed: number; rounds: number; name: string; sizes: Sizes },
  say: (line: string) => void,
): Promise<void> {
  await using cluster = await Cluster.prepare({
    name,
    diskMib: Array.from({ length: DISKS }, () => sizes.diskMib),
    devices: ['/dev/mapper/leg*'],
    bootTimeoutMs: 30_000,
    arrays: `path_loss: ${seed % 2 === 0 ? 'drop-node' : 'fail-member'}`,
    config: 'timing: { failback_after: 4s }',
  });
  const run = new Soak(cluster, sizes, say);
  const draw = drawer(seed, sizes);
  let round = 0;
  try {
    await run.begin();
    for (round = 1; round <= rounds; round++) {
      const choices = draw();
      run.story = [];
      run.tell(`--- round ${round} of ${rounds}: ${choices.deed}; ${choices.upset} after ${choices.afterMs} ms`);
      await run.round(choices, round % CHECK_EVERY === 0);
    }
  } catch (error) {
    throw new Error(`round ${round} of SEED=${seed} failed\n${await account(cluster, run.story, error)}`);
  }
}

class Soak {
  readonly #cluster: Cluster;
  readonly #keeper: Keeper;
  readonly #writers: LastingWriters;
  readonly #limitKib: number;
  readonly #say: (line: string) => void;
  readonly #began = Date.now();
  /** Since the round began. */
  story: string[] = [];

  constructor(cluster: Cluster, sizes: Sizes, say: (line: string) => void) {
    this.#cluster = cluster;
    this.#keeper = new Keeper(cluster, (text) => this.tell(text));
    this.#writers = new LastingWriters(cluster, sizes.regionBlocks);
    this.#limitKib = sizes.limitKib;
    this.#say = say;
  }

  tell(text: string): void {
    const line = `${((Date.now() - this.#began) / 1000).toFixed(1).padStart(7)} s  ${text}`;
    this.story.push(line);
    this.#say(line);
  }

  async begin(): Promise<void> {
    await this.#keeper.begin();
  }

  async round(choices: Choices, withCheck: boolean): Promise<void> {
    const cluster = this.#cluster;
    await this.#keeper.limit(this.#limitKib);
    await this.#writers.start();
    const upset = sleep(choices.afterMs).then(() => this.#befall(choices));
    const deed = this.#do(choices);
    // Whichever fails, the other is waited for: nothing of this round may go on into what is said about it.
    for (const outcome of await Promise.allSettled([deed, upset])) {
      if (outcome.status === 'rejected') throw outcome.reason;
    }
    const back = () => allBack(cluster, this.#writers, (node) => this.#keeper.prepare(node));
    await back();
    await this.#keeper.limit(null);
    await this.#keeper.wholeAgain(back);
    const gone = cluster.nodes.filter((node) => !this.#writers.runs(node));
    if (gone.length > 0) await this.#writers.start(gone);
    const summaries = await proveWhole(cluster, this.#writers);
    const longest = [...summaries.values()].flatMap(({ pauses }) => pauses.list.map(({ lengthMs }) => lengthMs));
    this.tell(`whole; the longest write ${(Math.max(0, ...longest) / 1000).toFixed(1)} s`);
    if (withCheck) await this.#check();
  }

  async #do({ deed, leg, at, writesOnly, afterMs, lengthMs }: Choices): Promise<void> {
    const cluster = this.#cluster;
    const { device, letter } = await this.#keeper.leg(leg);
    const node = cluster.nodes[at] ?? 1;
    this.tell(
      `${deed}: leg ${letter}, ${deed.includes('I/O') ? `node ${node}, ${writesOnly ? 'writes' : 'all I/O'}` : ''}`,
    );
    switch (deed) {
      case 'a leg fails by command':
        await this.#keeper.ask({ verb: 'fail', array: 'md0', device }, 'fault');
        return;
      case 'a leg fails by I/O error on one node': {
        const guest = cluster.lab.guest(node);
        await guest.failDisk(`leg${letter}`, writesOnly ? 'writes' : 'all').catch(() => this.tell('that node is down'));
        await sleep(lengthMs);
        if (guest.running)
          await guest.healDisk(`leg${letter}`).catch(() => this.tell('that node has booted meanwhile'));
        return;
      }
      case 'a leg is taken out and rebuilt':
        await this.#keeper.rebuild(device);
        return;
      case 'a leg fails and a spare takes over': {
        await this.#keeper.ask({ verb: 'add', array: 'md0', device: await this.#keeper.freeDisk() }, 'already|member');
        await this.#keeper.ask({ verb: 'fail', array: 'md0', device }, 'fault');
        return;
      }
      case 'check':
      case 'repair':
        await this.#keeper.ask({ verb: 'action', array: 'md0', action: deed }, 'under way');
        return;
      case 'a rebuilding is halted and goes on':
        await this.#keeper.rebuild(device);
        await sleep(afterMs / 4);
        // It may be over, or another copy may go first.
        await this.#keeper.ask({ verb: 'action', array: 'md0', action: 'frozen' }, 'halted|nothing is being copied');
        await sleep(lengthMs / 2);
        await this.#keeper.ask({ verb: 'action', array: 'md0', action: 'idle' }, 'under way|nothing is being copied');
    }
  }

  async #befall({ upset, victim, lengthMs }: Choices): Promise<void> {
    const cluster = this.#cluster;
    const { lab } = cluster;
    const chosen = cluster.nodes[victim] ?? 1;
    switch (upset) {
      case 'nothing':
        return;
      case 'a node loses its power':
      case 'the master loses its power': {
        const node = upset.startsWith('the master') ? await cluster.master().catch(() => chosen) : chosen;
        this.tell(`node ${node} loses its power`);
        await lab.guest(node).kill9();
        await sleep(lengthMs);
        return;
      }
      case 'an agent is killed':
        this.tell(`the agent of node ${chosen} is killed, and started again after ${lengthMs} ms`);
        await agentKilled(cluster, chosen, lengthMs);
        return;
      case 'a guest stands still':
        this.tell(`node ${chosen} stands still for ${lengthMs} ms`);
        await standsStill(cluster, chosen, lengthMs);
        return;
      case 'a node is cut off the network':
        this.tell(`node ${chosen} is cut off for ${lengthMs} ms`);
        await lab.cut(chosen);
        await sleep(lengthMs);
        await lab.heal(chosen);
    }
  }

  /** Nobody writes: what differs differs. */
  async #check(): Promise<void> {
    const cluster = this.#cluster;
    await this.#keeper.ask({ verb: 'action', array: 'md0', action: 'check' }, 'never');
    await cluster.open(cluster.nodes, 'md0', PATIENCE_MS);
    for (const node of cluster.nodes) {
      const found = (await cluster.array(node))?.mismatchSectors;
      assert.equal(found, 0, `a check finds ${found} sectors that differ, by the word of node ${node}`);
    }
    this.tell('a check finds no difference');
  }
}
