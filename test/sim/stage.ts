/** What campaigns have in common: a cluster, chance, a transcript, and what puts machines right when faults are over. */
import type { ArrayRecord, NodeId } from '#src/arrays/record.ts';
import { NAME_TAKEN } from '#src/md/driver.ts';
import type { VirtualTime } from '#src/md/simulated_time.ts';
import type { Request } from '#src/wire/messages.ts';
import type { Application } from './application.ts';
import type { SimCluster } from './cluster.ts';
import type { Chance } from './faults.ts';
import type { Violation } from './ground.ts';
import { Hands } from './hands.ts';
import type { Moment, Moments } from './moments.ts';
import type { Transcript } from './transcript.ts';

/** An operator has looked for a process that has the array open, and found none that ends. */
const IN_USE_MS = 20_000;
/** What an agent stops by itself of arrays that are no more, which it looks for once a minute, is gone. */
const LEFT_OVER_MS = 120_000;
const ASK_AGAIN_MS = 1000;
/** No machine is back before what it had on its way has come to the disks, or never will. */
const BOOT_MS = 300;

export interface StageOptions {
  cluster: SimCluster;
  time: VirtualTime;
  random: () => number;
  transcript: Transcript;
  moments: Moments;
  applications: readonly Application[];
}

export abstract class Stage implements Chance {
  readonly cluster: SimCluster;
  readonly transcript: Transcript;
  readonly random: () => number;
  readonly time: VirtualTime;
  readonly #moments: Moments;
  readonly #applications: readonly Application[];
  readonly #hands: Hands;
  /** By node and trouble. */
  readonly #since = new Map<string, number>();

  /** @param crashed a machine has lost its power */
  constructor(options: StageOptions, crashed: (node: NodeId) => void = () => undefined) {
    const { cluster, time, random, transcript, moments, applications } = options;
    this.cluster = cluster;
    this.time = time;
    this.random = random;
    this.transcript = transcript;
    this.#moments = moments;
    this.#applications = applications;
    this.#hands = new Hands(cluster, moments);
    cluster.onStore = (node) => moments.tell('stores a vote', node);
    cluster.onCrash = (node) => {
      transcript.say(`node ${node}`, 'has lost its power');
      crashed(node);
      // Whoever was fenced, or reset by its watchdog, is switched on again.
      this.later(this.between(500, 20_000), () => {
        if (!cluster.isUp(node)) void cluster.powerOn(node);
      });
    };
  }

  /** The first rule that was broken; null: none. */
  abstract get violation(): Violation | null;
  /** A checker's answer. */
  abstract judge(checker: { name: string }, text: string | null): void;
  /** What is looked at after every step. */
  abstract step(): void;

  /** Lets time pass, and ends early when a rule was broken. */
  async pass(ms: number): Promise<void> {
    const endMs = this.time.clock() + ms;
    while (this.violation === null && (await this.time.step(endMs))) this.step();
    if (this.violation === null) await this.time.pass(endMs - this.time.clock());
  }

  /** @param checker what is broken when it is not so by then */
  async until(checker: { name: string }, what: string, withinMs: number, look: () => boolean): Promise<void> {
    const endMs = this.time.clock() + withinMs;
    while (this.violation === null && !look()) {
      if (this.time.clock() < endMs) await this.pass(50);
      else {
        const text = `after ${withinMs / 1000} s without faults still not: ${what}\n${this.cluster.account()}`;
        this.judge(checker, text);
      }
    }
  }

  // --- Chance ---------------------------------------------------------------------------------------------------------

  pick<T>(from: readonly T[]): T | undefined {
    return from[Math.floor(this.random() * from.length)];
  }

  between(least: number, most: number): number {
    return Math.exp(Math.log(least) + this.random() * (Math.log(most) - Math.log(least)));
  }

  later(delayMs: number, run: () => void): void {
    this.time.schedule(this.time.clock() + delayMs, run);
  }

  at(moment: Moment, run: (node: NodeId) => void): () => void {
    return this.#moments.next(moment, run);
  }

  lateHands(node: NodeId, draw: (() => number) | null): void {
    this.#hands.late(node, draw);
  }

  rest(): () => void {
    const wakes = this.#applications.map((application) => application.rest());
    return () => {
      for (const wake of wakes) wake();
    };
  }

  say(text: string): void {
    this.transcript.say('fault', text);
  }

  // --- people ---------------------------------------------------------------------------------------------------------

  async asks(node: NodeId, request: Request): Promise<{ ok: boolean; text: string }> {
    this.transcript.say('operator', `on node ${node}: ${JSON.stringify(request)}`);
    const answer = await this.cluster.ask(node, request);
    this.transcript.say('operator', `on node ${node}: ${request.verb}: ${answer.ok ? '' : 'refused: '}${answer.text}`);
    return answer;
  }

  /** For what is looked at again and again: asks node 1 for it, and not again within a second of the answer. @returns false */
  patientAsker(): (request: Request) => false {
    let asking = false;
    return (request) => {
      if (asking) return false;
      asking = true;
      void this.asks(1, request).finally(() =>
        this.later(ASK_AGAIN_MS, () => {
          asking = false;
        }),
      );
      return false;
    };
  }

  /** This record is every node's, and lets every one write, or its owner alone. */
  isOpenOnAll({ uuid, version, writers, access, owner }: ArrayRecord): boolean {
    const { cluster } = this;
    return cluster.nodes.every((node) => {
      const array = cluster.status(node)?.arrays.find(({ record }) => record.uuid === uuid);
      const { local, record: known } = array ?? { local: null, record: null };
      const isCurrent = known?.version.index === version.index;
      if (access === 'exclusive' && owner !== node) return isCurrent && local === null;
      // Reads that are held wait, and writes that need them.
      const passes = local !== null && !local.held && !local.writePending && local.suspended === null;
      const open = passes && local.members.every(({ path }) => path !== 'held');
      return open && isCurrent && writers.includes(node);
    });
  }

  /** Whether all follow one master. Machines are put right again and again: an order to fence may have been on its way. */
  oneMaster(): boolean {
    const { cluster } = this;
    this.#mends();
    const seen = new Set(cluster.nodes.map((node) => cluster.status(node)?.lease.master ?? null));
    const [master] = seen;
    return seen.size === 1 && master != null && cluster.masters().includes(master);
  }

  #mends(): void {
    const { cluster } = this;
    for (const node of cluster.nodes) {
      cluster.thaw(node);
      if (this.#wantsBoot(node)) cluster.crash(node);
      if (!cluster.isUp(node)) {
        if (cluster.offForMs(node) >= BOOT_MS) void cluster.powerOn(node);
      } else if (cluster.agent(node) === null) void cluster.startAgent(node);
    }
    for (const a of cluster.nodes) for (const b of cluster.nodes) if (a < b) cluster.hub.heal(a, b);
  }

  /**
   * Its agent says so, or that a process has an array open that nobody can end: what it reads is out of date, and waits. Or md has an array
   * by that name which nobody can stop, because of writes at its gate that may never pass.
   */
  #wantsBoot(node: NodeId): boolean {
    const said = this.cluster.status(node)?.arrays.map(({ trouble }) => trouble ?? '') ?? [];
    const now = this.time.clock();
    const saysFor = (words: string, ms: number): boolean => {
      const key = `${node} ${words}`;
      if (!said.some((trouble) => trouble.includes(words))) this.#since.delete(key);
      else if (!this.#since.has(key)) this.#since.set(key, now);
      return now - (this.#since.get(key) ?? now) > ms;
    };
    const [inUse, leftOver] = [saysFor('some process has it open', IN_USE_MS), saysFor(NAME_TAKEN, LEFT_OVER_MS)];
    return inUse || leftOver || said.some((trouble) => trouble.includes('held for good'));
  }
}
