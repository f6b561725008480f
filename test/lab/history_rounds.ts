/**
 * Rounds of random faults under processes that write and read the same registers on all nodes, for `make history`. In each round a few
 * faults, drawn from a seed, come at moments of their own and may meet. Then every node is brought back and the mirror made whole, the
 * processes go on and end, every register is read once more on every node, and the whole history since the first round is judged: see
 * register_history.ts for the rule, register_workload.ts for what it is made of. The legs are compared to the byte as well.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../src/arrays/record.ts';
import { Cluster } from './cluster.ts';
import { account, DISKS, drawing, Keeper } from './keeper.ts';
import { legsOf } from './lasting_writers.ts';
import { judge, type Mark, timeline, type Verdict } from './register_history.ts';
import { type RegisterSizes, RegisterWorkload } from './register_workload.ts';
import { agentKilled, allBack, standsStill } from './upsets.ts';
import { checkLegs } from './writers.ts';

export const FAULTS = [
  'a node is cut off the network',
  'two nodes lose each other',
  'a node is heard by nobody',
  'a node hears nobody',
  'a guest stands still',
  'an agent is killed',
  'a node loses its power',
  'all nodes lose their power',
  'a clock jumps',
  'a clock runs fast or slow',
  'a leg fails by I/O errors on one node',
  'a leg fails by command',
  'a leg is taken out and rebuilt',
  'a check begins',
] as const;

export interface Fault {
  kind: (typeof FAULTS)[number];
  /** After the begin of the round, ms. */
  atMs: number;
  lengthMs: number;
  node: NodeId;
  /** Another one. */
  other: NodeId;
  leg: number;
  writesOnly: boolean;
  /** A clock's jump, back or forth. */
  jumpSeconds: number;
  fast: boolean;
}

const NODES = 3;
/** The first fault of a round begins within this, the others so soon after it that they meet: what one alone does, the stories tell. */
const FIRST_WITHIN_MS = 4000;
const OTHERS_WITHIN_MS = 1500;
const LENGTH_MS = [500, 6000] as const;
const COPY_LIMIT_KIB = 4 * 1024;
const TOLD_VIOLATIONS = 3;

export const SIZES: RegisterSizes = { registers: 18, strideBlocks: 290, writers: 2, readers: 3, rate: 100 };

/** Two to four faults a round, each kind as often as the others: fourteen rounds have every one twice. */
export function faultDrawer(seed: number): () => Fault[] {
  const { below, shuffled } = drawing(seed);
  let deck: Fault['kind'][] = [];
  return () => {
    const firstMs = below(FIRST_WITHIN_MS);
    return Array.from({ length: 2 + below(3) }, (): Fault => {
      if (deck.length === 0) deck = shuffled(FAULTS);
      const node = 1 + below(NODES);
      const [least, most] = LENGTH_MS;
      return {
        kind: deck.shift() ?? FAULTS[0],
        atMs: firstMs + below(OTHERS_WITHIN_MS),
        lengthMs: least + below(most - least),
        node,
        other: 1 + ((node - 1 + 1 + below(NODES - 1)) % NODES),
        leg: below(2),
        writesOnly: below(2) === 1,
        jumpSeconds: (below(2) === 0 ? 1 : -1) * (1 + below(7200)),
        fast: below(2) === 0,
      };
    }).sort((a, b) => a.atMs - b.atMs);
  };
}

/** What differs from seed to seed of the cluster itself. */
interface Setting {
  pathLoss: 'drop-node' | 'fail-member';
  bitmap: boolean;
  /** Nodes are taken for dead later, so that most short faults pass without a fencing. */
  patient: boolean;
}

export function setting(seed: number): Setting {
  const bit = (of: number): boolean => Math.floor(seed / of) % 2 === 1;
  return { pathLoss: bit(1) ? 'fail-member' : 'drop-node', bitmap: bit(2), patient: bit(4) };
}

export interface HistoryOptions {
  seed: number;
  rounds: number;
  name: string;
}

/** @param say each line of the story, as it happens */
export async function history({ seed, rounds, name }: HistoryOptions, say: (line: string) => void): Promise<void> {
  await using run = await HistoryRounds.prepare(seed, name, say);
  const draw = faultDrawer(seed);
  let round = 0;
  try {
    await run.begin();
    for (round = 1; round <= rounds; round++) await run.round(round, draw());
  } catch (error) {
    throw new Error(`round ${round} of SEED=${seed} failed\n${await account(run.cluster, run.story, error)}`);
  }
}

export class HistoryRounds {
  readonly cluster: Cluster;
  readonly workload: RegisterWorkload;
  /** Since the round began. */
  story: string[] = [];
  readonly #keeper: Keeper;
  readonly #bitmap: boolean;
  readonly #say: (line: string) => void;
  readonly #told: { seconds: number; text: string }[] = [];

  private constructor(cluster: Cluster, bitmap: boolean, say: (line: string) => void) {
    this.cluster = cluster;
    this.workload = new RegisterWorkload(cluster, SIZES);
    this.#keeper = new Keeper(cluster, (text) => this.tell(text));
    this.#bitmap = bitmap;
    this.#say = say;
    cluster.lab.onFence = async (node) => {
      this.tell(`node ${node} is fenced: it loses its power`);
      await cluster.lab.guest(node).kill9();
      return true;
    };
  }

  static async prepare(seed: number, name: string, say: (line: string) => void): Promise<HistoryRounds> {
    const { pathLoss, bitmap, patient } = setting(seed);
    const cluster = await Cluster.prepare({
      name,
      guests: NODES,
      diskMib: Array.from({ length: DISKS }, () => 24),
      devices: ['/dev/mapper/leg*'],
      bootTimeoutMs: 30_000,
      arrays: `path_loss: ${pathLoss}`,
      config: `timing: { failback_after: 4s${patient ? ', probe_interval: 900ms, probe_timeout: 700ms, settle: 2s' : ''} }`,
    });
    try {
      const run = new HistoryRounds(cluster, bitmap, say);
      run.tell(`path_loss: ${pathLoss}; ${bitmap ? 'bitmaps' : 'no bitmaps'}; ${patient ? 'patient' : 'quick'} probes`);
      return run;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster.close();
  }

  tell(text: string): void {
    const seconds = (Date.now() - this.workload.beganMs) / 1000;
    this.#told.push({ seconds, text });
    const line = `${seconds.toFixed(1).padStart(7)} s  ${text}`;
    this.story.push(line);
    this.#say(line);
  }

  async begin(): Promise<void> {
    await this.#keeper.begin(this.#bitmap ? { bitmap: 'internal' } : {});
  }

  async round(number: number, faults: readonly Fault[]): Promise<void> {
    const { cluster, workload } = this;
    this.story = [];
    this.tell(`--- round ${number}: ${faults.map(({ kind }) => kind).join('; ')}`);
    await this.#keeper.limit(COPY_LIMIT_KIB);
    const legs = [await this.#keeper.leg(0), await this.#keeper.leg(1)];
    await workload.start(number);
    await Promise.all(
      faults.map(async (fault) => {
        await sleep(fault.atMs);
        // Where two meet, the one may leave nothing to do for the other.
        await this.#befall(fault, legs[fault.leg]?.letter ?? 'a').catch((error) => {
          const why = error instanceof Error ? (error.message.split('\n', 1)[0] ?? '') : String(error);
          this.tell(`${fault.kind}: not to the end: ${why}`);
        });
      }),
    );
    await this.#mended();
    workload.settled();
    this.tell('all nodes are back, and the mirror is whole');
    const gone = cluster.nodes.filter((node) => !workload.runs(node));
    if (gone.length > 0) await workload.start(number, gone);
    await workload.goOn();
    await workload.stop();
    await workload.readAll();
    const { violations, reads, writes, untold, untoldSeen, wentBack } = this.judged();
    if (violations.length > 0) throw new Error(this.#indictment(violations));
    const record = await cluster.open();
    checkLegs(cluster, await legsOf(cluster, 1), [], record.componentSectors);
    this.tell(
      `right: ${reads} readings and ${writes} writes so far; ${untold} writes were met whose process was killed before it told, and ${untoldSeen} of them stayed; ${wentBack} readings went back under a write`,
    );
  }

  judged(): Verdict {
    return judge(this.workload.history());
  }

  /** All nodes run and answer, and the mirror is whole. One may still be fenced for what befell it before. */
  async #mended(): Promise<void> {
    const { cluster } = this;
    const back = async (): Promise<void> => {
      await Promise.all(cluster.nodes.map((node) => cluster.lab.heal(node)));
      await allBack(cluster, this.workload, (node) => this.#keeper.prepare(node));
    };
    await back();
    await this.#keeper.limit(null);
    await this.#keeper.wholeAgain(back);
  }

  /** Violations as stories, the first few of them. */
  #indictment(violations: Verdict['violations']): string {
    const { seconds, at } = this.workload.scale();
    const marks: Mark[] = this.#told.map((told) => ({ at: at(told.seconds), text: `*** ${told.text}` }));
    const all = this.workload.history();
    const stories = violations
      .slice(0, TOLD_VIOLATIONS)
      .map((violation) => timeline(violation, all, marks, seconds).join('\n'));
    return [`${violations.length} readings are wrong; a value is node.run.process.count`, ...stories].join('\n\n');
  }

  async #befall(fault: Fault, letter: string): Promise<void> {
    const { lab } = this.cluster;
    const { kind, node, other, lengthMs, writesOnly, jumpSeconds, fast } = fault;
    const guest = lab.guest(node);
    const device = `/dev/mapper/leg${letter}`;
    const others = this.cluster.nodes.filter((each) => each !== node);
    switch (kind) {
      case 'a node is cut off the network':
        this.tell(`node ${node} is cut off for ${lengthMs} ms`);
        await lab.cut(node);
        await sleep(lengthMs);
        await lab.heal(node);
        return;
      case 'two nodes lose each other':
        this.tell(`nodes ${node} and ${other} lose each other for ${lengthMs} ms`);
        await lab.cutPair(node, other);
        await sleep(lengthMs);
        await lab.healPair(node, other);
        return;
      case 'a node is heard by nobody':
      case 'a node hears nobody': {
        this.tell(`node ${node} ${kind.replace('a node ', '')} for ${lengthMs} ms`);
        for (const each of others) await lab.cutOneWay(...direction(kind === 'a node hears nobody', node, each));
        await sleep(lengthMs);
        await lab.heal(node);
        return;
      }
      case 'a guest stands still':
        this.tell(`node ${node} stands still for ${lengthMs} ms`);
        await standsStill(this.cluster, node, lengthMs);
        return;
      case 'an agent is killed':
        this.tell(`the agent of node ${node} is killed, and started again after ${lengthMs} ms`);
        await agentKilled(this.cluster, node, lengthMs);
        return;
      case 'a node loses its power':
        this.tell(`node ${node} loses its power`);
        await guest.kill9();
        return;
      case 'all nodes lose their power':
        this.tell(kind);
        await lab.powerCut();
        return;
      case 'a clock jumps':
        this.tell(`the clock of node ${node} jumps by ${jumpSeconds} s`);
        await guest.must(`date -s "@$(($(date +%s) + ${jumpSeconds}))"`);
        return;
      case 'a clock runs fast or slow':
        this.tell(`the clocks of node ${node} run 10 % ${fast ? 'fast' : 'slow'} for ${lengthMs} ms`);
        await guest.must(`${lab.mdio} clock --tick ${fast ? 11_000 : 9000}`);
        await sleep(lengthMs);
        await guest.must(`${lab.mdio} clock --tick 10000`);
        return;
      case 'a leg fails by I/O errors on one node':
        this.tell(`node ${node} cannot ${writesOnly ? 'write' : 'use'} leg ${letter} for ${lengthMs} ms`);
        await guest.failDisk(`leg${letter}`, writesOnly ? 'writes' : 'all');
        await sleep(lengthMs);
        await guest.healDisk(`leg${letter}`);
        return;
      case 'a leg fails by command':
        await this.#request(node, { verb: 'fail', array: 'md0', device });
        return;
      case 'a leg is taken out and rebuilt':
        for (const verb of ['fail', 'remove', 'add']) await this.#request(node, { verb, array: 'md0', device });
        return;
      case 'a check begins':
        await this.#request(node, { verb: 'action', array: 'md0', action: 'check' });
    }
  }

  /** Whatever is answered: an operator in the middle of faults may be refused. */
  async #request(node: NodeId, words: { verb: string; [field: string]: unknown }): Promise<void> {
    const { text } = await this.cluster.request(node, words);
    this.tell(`${words.verb}, asked of node ${node}: ${text}`);
  }
}

function direction(reversed: boolean, node: NodeId, other: NodeId): [NodeId, NodeId] {
  return reversed ? [other, node] : [node, other];
}
