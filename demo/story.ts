/**
 * The story, step by step. Each step says what is done, waits until the cluster shows what it should, and says what was
 * measured. A step that never comes true ends the story with an error.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ArrayRecord, NodeId } from '../src/arrays/record.ts';
import { slotPicture } from '../src/cli/array_condition.ts';
import type { Status } from '../src/outlets/index.ts';
import { patient } from '../test/lab/guest/patience.ts';
import { localPicture, type Screen } from './screen.ts';
import type { Finding, Stage, WriterResult } from './stage.ts';

const MD = 'md0';
/** Between two looks while nothing is measured, and while something is. */
const LOOK_EVERY_MS = 200;
const LOOK_CLOSELY_MS = 20;
const PATIENCE_MS = 40_000;

export class Story {
  readonly #stage: Stage;
  readonly #screen: Screen;
  #seen: ReadonlyMap<NodeId, Status | null> = new Map();
  /** Of each node the newest answer: on a slow machine one that is well may not have given the next in time. */
  readonly #last = new Map<NodeId, Status>();
  #over = false;
  readonly #dead = new Set<NodeId>();
  /** Whoever was seen as master of a term: never more than one. */
  readonly #terms = new Map<number, Set<NodeId>>();
  readonly #findings: Finding[] = [];
  readonly #phases: { name: string; fromMs: number; toMs: number }[] = [];
  #commits = 0;

  constructor(stage: Stage, screen: Screen) {
    this.#stage = stage;
    this.#screen = screen;
    stage.onEventLine = (line) => screen.event(line);
  }

  /** Resolves with what was proved. @throws when a step did not come true */
  async tell(startAgents: () => Promise<void>): Promise<Finding[]> {
    const watching = this.#watch();
    try {
      await this.#formation(startAgents);
      await this.#creation();
      await this.#writing();
      await this.#screen.dwell();
      await this.#legFailure();
      await this.#screen.dwell();
      await this.#masterDeath();
      await this.#screen.dwell();
      await this.#return();
      await this.#screen.dwell();
      await this.#verification();
      return this.#findings;
    } finally {
      this.#over = true;
      await watching;
    }
  }

  async #watch(): Promise<void> {
    while (!this.#over) {
      await this.#look();
      await sleep(LOOK_EVERY_MS);
    }
  }

  async #look(): Promise<void> {
    this.#seen = await this.#stage.look();
    for (const status of this.#seen.values()) {
      if (status === null) continue;
      this.#last.set(status.self, status);
      const { role, term } = status.lease;
      if (role === 'master') this.#terms.set(term, (this.#terms.get(term) ?? new Set()).add(status.self));
      for (const { record } of status.arrays) this.#commits = Math.max(this.#commits, record.version.index);
    }
    this.#screen.show({ seen: this.#seen, writers: this.#stage.writers() });
  }

  // --- steps ----------------------------------------------------------------------------------------------------------

  async #formation(startAgents: () => Promise<void>): Promise<void> {
    this.#screen.step(`One agent starts on each of ${this.#stage.ground}; they connect and elect the lowest node.`);
    await startAgents();
    const { value: master, tookMs } = await this.#until('one master that all nodes follow', () => this.#leader());
    this.#screen.outcome(
      `node ${master} is master of term ${this.#status(master).lease.term}, ${words(tookMs)} after the start`,
    );
  }

  async #creation(): Promise<void> {
    const { disks, nodes } = this.#stage;
    this.#screen.step(
      `Node 2 asks for a mirror over ${disks.join(', ')}; the master creates it, and all nodes run it at once.`,
    );
    const fromMs = performance.now();
    const { ok, text } = await this.#stage.request(2, {
      verb: 'create',
      md: MD,
      level: 'raid1',
      raidDisks: disks.length,
      access: 'shared',
      devices: [...disks],
      spares: 0,
      assumeClean: false,
      force: false,
    });
    if (!ok) throw new Error(`the array was not created: ${text}`);
    await this.#until(`${MD} open on all nodes`, () => this.#isOpen(nodes));
    this.#screen.outcome(
      `${slotPicture(this.#record())} is open for writes on nodes ${nodes.join(', ')} ${words(performance.now() - fromMs)} after the request`,
    );
    this.#screen.tables();
  }

  async #writing(): Promise<void> {
    this.#screen.step('One application on every node writes to the mirror, all at the same time.');
    await this.#stage.startWriters(MD, this.#stage.nodes);
    await this.#until('writes acknowledged on every node', () => this.#allWrite(this.#stage.nodes, 100));
  }

  async #legFailure(): Promise<void> {
    const { disks, nodes } = this.#stage;
    const disk = disks.at(-1) ?? '';
    const before = slotPicture(this.#record());
    this.#screen.step(
      `On node 3 alone the path to ${disk} breaks: the whole cluster must drop that leg before a write without it counts.`,
    );
    const fromMs = Date.now();
    const how = await this.#stage.failLeg(3, MD, disk);
    this.#screen.outcome(how);
    const { tookMs } = await this.#until(
      'the leg dropped on all nodes',
      () =>
        nodes.every((node) => {
          const array = this.#array(node);
          return array !== undefined && slotPicture(array.record) !== before && localPicture(array) !== before;
        }),
      fromMs,
    );
    await this.#until('writes open again', () => this.#isOpen(nodes));
    await this.#until('writes going on', () => this.#allWrite(nodes, 50));
    this.#phases.push({ name: 'while the leg failed', fromMs, toMs: Date.now() });
    this.#screen.outcome(
      `${before} became ${slotPicture(this.#record())} on every node within ${words(tookMs)}; the writers paused and go on`,
    );
    this.#screen.tables();
  }

  async #masterDeath(): Promise<void> {
    const { value: master } = await this.#until('a master that all nodes follow', () => this.#leader());
    const survivors = this.#stage.nodes.filter((node) => node !== master);
    this.#screen.step(
      `The power of node ${master}, the master, is cut under load: the others elect, fence it, make the legs equal, and go on.`,
    );
    const fromMs = Date.now();
    await this.#stage.powerOff(master);
    this.#dead.add(master);
    const elected = await this.#until('a new master', () => this.#leader(), fromMs);
    this.#screen.outcome(
      `node ${elected.value} is master of term ${this.#status(elected.value).lease.term}, ${words(elected.tookMs)} after the cut`,
    );
    const evicted = await this.#until(
      `node ${master} evicted`,
      () => survivors.every((node) => !(this.#array(node)?.record.writers.includes(master) ?? true)),
      fromMs,
    );
    if (!this.#stage.fencings().includes(master))
      throw new Error(`node ${master} was evicted, and nobody switched it off`);
    this.#screen.outcome(
      `node ${master} was switched off by the fencing command and evicted, ${words(evicted.tookMs)} after the cut`,
    );
    const whole = await this.#until('the legs equal again', () => this.#isOpen(survivors), fromMs);
    this.#screen.outcome(`the legs in sync were copied anew, ${words(whole.tookMs)} after the cut`);
    await this.#until('writes going on', () => this.#allWrite(survivors, 100));
    this.#phases.push({ name: 'while the master died', fromMs, toMs: Date.now() });
    this.#screen.outcome(`the applications on nodes ${survivors.join(' and ')} write again`);
    this.#screen.tables();
  }

  async #return(): Promise<void> {
    const [back] = this.#dead;
    if (back === undefined) return;
    this.#screen.step(
      `Node ${back} gets its power back: it must catch up before it may write, and leads again once it has proved steady.`,
    );
    const fromMs = Date.now();
    await this.#stage.powerOn(back);
    this.#dead.clear();
    const { nodes } = this.#stage;
    const open = await this.#until(`${MD} open on node ${back} too`, () => this.#isOpen(nodes), fromMs);
    this.#screen.outcome(
      `node ${back} has the array with the legs that count, ${slotPicture(this.#record())}, ${words(open.tookMs)} after its power came`,
    );
    await this.#stage.startWriters(MD, [back]);
    await this.#until('writes acknowledged on every node', () => this.#allWrite(nodes, 50));
    const handedMs = Date.now();
    const lowest = Math.min(...nodes);
    const { value: master } = await this.#until(`node ${lowest} is master`, () => this.#leader() === lowest && lowest);
    await this.#until('writes going on', () => this.#allWrite(nodes, 50));
    this.#phases.push({ name: 'while the mastership was handed over', fromMs: handedMs, toMs: Date.now() });
    this.#screen.outcome(
      `node ${master} was handed the mastership back in term ${this.#status(master).lease.term}, ${words(Date.now() - fromMs)} after its power came; all three write`,
    );
    this.#screen.tables();
  }

  async #verification(): Promise<void> {
    this.#screen.step('The writers end, the array and the agents are stopped in order, and every leg is read back.');
    // A busy node may not have answered a moment ago.
    const told = () => this.#array(this.#living()[0] ?? 1)?.paths ?? null;
    const { value: paths } = await this.#until('where the legs are', told);
    const record = this.#record();
    const results = await this.#stage.stopWriters();
    const stopped = await this.#stage.request(this.#living()[0] ?? 1, { verb: 'stop', array: MD });
    this.#findings.push({ ok: stopped.ok, text: `the array was stopped in order: ${stopped.text}` });
    // What the agents say while they end is not shown: the tables stay as they were.
    this.#over = true;
    await this.#stage.settle();
    this.#tellWriters(results);
    const legs = record.members
      .filter(({ role }) => role === 'active')
      .map(({ uuid, dataOffsetSectors }) => ({
        disk: paths[uuid] ?? '',
        dataOffsetBytes: dataOffsetSectors * 512,
        dataBytes: record.componentSectors * 512,
      }));
    this.#findings.push({
      ok: legs.length === this.#stage.disks.length - 1,
      text: `${legs.length} of ${this.#stage.disks.length} legs are in sync: ${legs.map(({ disk }) => disk).join(', ')}`,
    });
    this.#findings.push(...(await this.#stage.verify(legs)));
    const terms = [...this.#terms]
      .map(([term, masters]) => `term ${term}: node ${[...masters].join(' AND node ')}`)
      .join(', ');
    this.#findings.push({
      ok: this.#terms.size >= 2 && [...this.#terms.values()].every(({ size }) => size === 1),
      text: `${this.#terms.size} elections, one master in each term (${terms}); ${this.#commits} commits to ${MD}`,
    });
  }

  #tellWriters(results: readonly WriterResult[]): void {
    for (const { node, acknowledged, failed, pauses, startedAtMs, lostAtMs } of [...results].sort(
      (a, b) => a.node - b.node,
    )) {
      const longest = this.#phases
        .filter(({ fromMs, toMs }) => fromMs > startedAtMs && (lostAtMs === null || toMs < lostAtMs))
        .map(({ name, fromMs, toMs }) => {
          const within = pauses.filter(({ startMs, lengthMs }) => startMs + lengthMs >= fromMs && startMs <= toMs);
          return `${Math.round(Math.max(0, ...within.map(({ lengthMs }) => lengthMs)))} ms ${name}`;
        });
      const until = lostAtMs === null ? '' : ' until its power went';
      this.#findings.push({
        ok: failed === 0 && acknowledged > 0,
        text: `application on node ${node}${until}: ${acknowledged} writes acknowledged, ${failed} failed; longest pause ${longest.join(', ')}`,
      });
    }
  }

  // --- looking --------------------------------------------------------------------------------------------------------

  async #until<T>(
    what: string,
    look: () => T | null | false,
    sinceWallMs: number = Date.now(),
  ): Promise<{ value: T; tookMs: number }> {
    const patienceMs = patient(PATIENCE_MS);
    const endMs = performance.now() + patienceMs;
    for (;;) {
      const value = look();
      if (value !== null && value !== false) return { value, tookMs: Date.now() - sinceWallMs };
      if (performance.now() > endMs) throw new Error(`after ${patienceMs / 1000} s still not: ${what}`);
      await sleep(LOOK_CLOSELY_MS);
      await this.#look();
    }
  }

  #living(): NodeId[] {
    return this.#stage.nodes.filter((node) => !this.#dead.has(node));
  }

  #status(node: NodeId): Status {
    const status = this.#last.get(node);
    if (status === undefined) throw new Error(`node ${node} gives no answer`);
    return status;
  }

  #array(node: NodeId) {
    return mirrorIn(this.#seen.get(node));
  }

  #record(): ArrayRecord {
    const newest = [...this.#last.values()]
      .flatMap((status) => mirrorIn(status)?.record ?? [])
      .sort((a, b) => b.version.index - a.version.index)[0];
    if (newest === undefined) throw new Error(`no node knows ${MD}`);
    return newest;
  }

  /** The living node that all living nodes follow. */
  #leader(): NodeId | null {
    const living = this.#living();
    const named = new Set(living.map((node) => this.#seen.get(node)?.lease.master ?? null));
    const [master] = named;
    if (named.size !== 1 || master == null || !living.includes(master)) return null;
    return this.#seen.get(master)?.lease.role === 'master' ? master : null;
  }

  #isOpen(nodes: readonly NodeId[]): boolean {
    return nodes.every((node) => {
      const array = this.#array(node);
      if (array?.local == null || array.local.held || array.record.resync !== null) return false;
      return nodes.every((writer) => array.record.writers.includes(writer));
    });
  }

  #counts: { nodes: string; from: ReadonlyMap<NodeId, number> } | null = null;

  /** Every one of these nodes has had so many more writes acknowledged since it was first asked. */
  #allWrite(nodes: readonly NodeId[], count: number): boolean {
    const now = new Map(this.#stage.writers().map(({ node, acknowledged }) => [node, acknowledged]));
    this.#counts ??= { nodes: nodes.join(), from: now };
    const { from } = this.#counts;
    const done = nodes.every((node) => (now.get(node) ?? 0) >= (from.get(node) ?? 0) + count);
    if (done) this.#counts = null;
    return done;
  }
}

function words(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function mirrorIn(status: Status | null | undefined) {
  return status?.arrays.find(({ record }) => record.md === MD);
}
