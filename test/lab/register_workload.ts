/**
 * Processes on every node that write and read the same registers (blocks of /dev/md0, O_DIRECT), and the history of it for
 * register_history.ts to judge.
 *
 * **Who writes.** Each register belongs to one process of one node while a run lasts, and to another node's in the next round; anybody
 * reads any. A mirror on shared disks has no lock manager: of two nodes that write one block at once each leg may keep another's, as would
 * two hosts' writes to two disks. Whoever shares a disk keeps them apart (a cluster file system by its locks), and so does this.
 *
 * **By which clock.** The processor's counter (`rdtsc`), which the processes of a User-Mode Linux guest read as the host's do, with no kernel
 * in between: one clock for all guests, that none of them can set, and that goes on while a guest stands still. It is read before a request
 * and after its answer. `calibrate` refuses a machine whose cores disagree about it.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeId } from '../../src/arrays/record.ts';
import type { Cluster } from './cluster.ts';
import type { GuestProcess } from './lab.ts';
import type { Bytes, History, Read, Write } from './register_history.ts';

export interface RegisterSizes {
  registers: number;
  /** Blocks of 4 KiB from one register to the next. */
  strideBlocks: number;
  /** Processes of a node. */
  writers: number;
  readers: number;
  /** Operations of each process in a second, at most. */
  rate: number;
}

interface Run {
  node: NodeId;
  number: number;
  log: string;
  output: string;
  process: GuestProcess;
  ended: 'no' | 'told' | 'killed';
}

function counter(mdio: string, ...options: string[]): { ticks: bigint; wallMs: number; backwardsTicks: number } {
  const said = JSON.parse(execFileSync(mdio, ['clock', ...options], { encoding: 'utf8' }));
  return { ...said, ticks: BigInt(said.ticks) };
}

export class RegisterWorkload {
  readonly #cluster: Cluster;
  readonly #sizes: RegisterSizes;
  readonly #runs: Run[] = [];
  readonly #origin: { ticks: bigint; wallMs: number };
  readonly #settledAt: number[] = [];

  /** @throws if the processor's counter is not one clock on all cores of this machine */
  constructor(cluster: Cluster, sizes: RegisterSizes) {
    this.#cluster = cluster;
    this.#sizes = sizes;
    const { mdio } = cluster.lab;
    const { backwardsTicks } = counter(mdio, '--cores');
    assert.equal(
      backwardsTicks,
      0,
      `one core's counter lies ${backwardsTicks} ticks behind another's: no clock to compare guests by`,
    );
    this.#origin = counter(mdio);
  }

  /** Host's wall clock at time 0 of the history. */
  get beganMs(): number {
    return this.#origin.wallMs;
  }

  now(): number {
    return Number(counter(this.#cluster.lab.mdio).ticks - this.#origin.ticks);
  }

  /** Both ways between times of the history and seconds, by what the counter has done until now. */
  scale(): { seconds: (at: number) => number; at: (seconds: number) => number } {
    const { ticks, wallMs } = counter(this.#cluster.lab.mdio);
    const ticksASecond = Number(ticks - this.#origin.ticks) / ((wallMs - this.#origin.wallMs) / 1000);
    return { seconds: (at) => at / ticksASecond, at: (seconds) => seconds * ticksASecond };
  }

  /** The block of /dev/md0 that is this register. */
  block(register: number): number {
    return register * this.#sizes.strideBlocks;
  }

  /**
   * Starts the processes of these nodes.
   * @param round says whose a register is
   */
  async start(round: number, nodes: readonly NodeId[] = this.#cluster.nodes): Promise<void> {
    const { writers, readers, rate } = this.#sizes;
    await Promise.all(
      nodes.map((node) => {
        const own = ['--first-own', String((node + round) % this.#cluster.nodes.length)];
        const step = ['--step', String(this.#cluster.nodes.length)];
        return this.#spawn(node, [
          ...['--writers', String(writers), '--readers', String(readers), '--rate', String(rate)],
          ...[...own, ...step],
        ]);
      }),
    );
    await this.goOn(nodes);
  }

  async #spawn(node: NodeId, options: readonly string[]): Promise<Run> {
    const { lab } = this.#cluster;
    const number = this.#runs.length + 1;
    const log = join(this.#cluster.folder(node), `registers-${number}`);
    const output = join(this.#cluster.folder(node), `registers-${number}.said`);
    const { registers, strideBlocks } = this.#sizes;
    const argv = [
      ...[lab.mdio, 'registers', '--device', '/dev/md0', '--log', log, '--node', String(node), '--run', String(number)],
      ...['--registers', String(registers), '--stride-blocks', String(strideBlocks)],
      ...['--origin', String(this.#origin.ticks), ...options],
    ];
    // Its place is taken before anything is awaited: numbers are unique.
    const run: Run = { node, number, log, output, process: lostAtStart, ended: 'killed' };
    this.#runs.push(run);
    run.process = await lab.guest(node).spawn(argv, { logFile: output });
    run.ended = 'no';
    void run.process.exited.then(({ lost }) => {
      if (lost) run.ended = 'killed';
    });
    return run;
  }

  runs(node: NodeId): boolean {
    return this.#runs.some((run) => run.node === node && run.ended === 'no');
  }

  /** The guest was killed: what its processes told last may be missing. */
  forget(node: NodeId): void {
    for (const run of this.#runs) if (run.node === node && run.ended === 'no') run.ended = 'killed';
  }

  /** Every process of these nodes has ended some more operations than at the call. */
  async goOn(nodes: readonly NodeId[] = this.#cluster.nodes, timeoutMs = 60_000): Promise<void> {
    const count = (node: NodeId): Map<string, number> => {
      const done = new Map<string, number>();
      for (const { log, number, ended } of this.#runs.filter((run) => run.node === node)) {
        if (ended !== 'no') continue;
        for (const line of linesOf(log)) {
          const process = `${number} ${line.split(' ', 2).join(' ')}`;
          done.set(process, (done.get(process) ?? 0) + 1);
        }
      }
      return done;
    };
    const processes = this.#sizes.writers + this.#sizes.readers;
    const before = new Map(nodes.map((node) => [node, count(node)]));
    const goesOn = (node: NodeId): boolean => {
      const now = [...count(node)];
      return (
        now.length === processes && now.every(([process, done]) => done > (before.get(node)?.get(process) ?? 0) + 2)
      );
    };
    try {
      await this.#cluster.until(`reading and writing of ${nodes.join(', ')} goes on`, timeoutMs, async () =>
        nodes.every(goesOn),
      );
    } catch (error) {
      const stuck = nodes.filter((node) => !goesOn(node));
      const where = await Promise.all(stuck.map((node) => this.#whereStuck(node)));
      throw new Error(`${where.join('\n')}\n${error instanceof Error ? error.message : error}`);
    }
  }

  /** Where in the kernel each thread of a node's processes is. */
  async #whereStuck(node: NodeId): Promise<string> {
    const run = this.#runs.find((each) => each.node === node && each.ended === 'no');
    if (run === undefined) return `node ${node} runs no processes`;
    const look = `for t in /proc/${run.process.pid}/task/*; do echo "$t $(cat $t/syscall)"; cat $t/stack; done`;
    const { out, err } = await this.#cluster.lab.guest(node).sh(look);
    return `node ${node}, run ${run.number}, is stuck:\n${out}${err}`;
  }

  /** Ends all processes. None has failed, none hangs. */
  async stop(): Promise<void> {
    const running = this.#runs.filter(({ ended }) => ended === 'no');
    await Promise.all(running.map(({ process }) => process.signal('SIGTERM')));
    await Promise.all(running.map((run) => this.#ended(run)));
  }

  async #ended(run: Run): Promise<void> {
    const { lost } = await run.process.exited;
    assert.ok(!lost, `the guest of node ${run.node} ended under its processes`);
    const text = await this.#cluster.until(`the summary of node ${run.node}'s processes`, 10_000, async () => {
      const said = readFileSync(run.output, 'utf8').trim();
      return said.endsWith('}') ? said : null;
    });
    const { failed, hanging }: { failed: number; hanging: number } = JSON.parse(text);
    assert.deepEqual({ failed, hanging }, { failed: 0, hanging: 0 }, `operations of node ${run.node}, see ${run.log}`);
    run.ended = 'told';
  }

  /** Every register is read a few times on each node; nobody writes. */
  async readAll(): Promise<void> {
    const options = ['--readers', '2', '--times', String(2 * this.#sizes.registers)];
    const runs = await Promise.all(this.#cluster.nodes.map((node) => this.#spawn(node, options)));
    await Promise.all(runs.map((run) => this.#ended(run)));
  }

  /** The array is whole, and no killed node is among its writers any more: nothing of theirs can come. */
  settled(): void {
    this.#settledAt.push(this.now());
  }

  history(): History {
    const writes: Write[] = [];
    const reads: Read[] = [];
    for (const { node, number, log } of this.#runs) {
      for (const line of linesOf(log)) {
        const [verb, process, register, start, end, error, ...found] = line.split(' ');
        const operation = { register: Number(register), start: Number(start), end: Number(end) };
        const own = `${node}.${number}.${process}`;
        const [what = '', writtenAt] = found;
        if (verb === 'W') {
          const end = operation.end === 0 ? null : operation.end;
          writes.push({ ...operation, end, value: `${own}.${what}`, failed: error !== '0' });
        } else if (error === '0' && operation.end !== 0) {
          reads.push({ ...operation, reader: own, found: foundIn(what, writtenAt) });
        }
      }
    }
    const killed = this.#runs.filter(({ ended }) => ended === 'killed');
    const cutShort = new Set(killed.map(({ node, number }) => `${node}.${number}`));
    return { writes, reads, settledAt: this.#settledAt, cutShort };
  }
}

const lostAtStart: GuestProcess = {
  pid: 0,
  exited: Promise.resolve({ code: null, signal: null, lost: true }),
  signal: async () => {},
};

/** Whole lines: of a killed process the last may be a half one. */
function linesOf(log: string): string[] {
  try {
    return readFileSync(log, 'latin1').split('\n').slice(0, -1);
  } catch {
    return [];
  }
}

function foundIn(what: string, writtenAt: string | undefined): Read['found'] {
  if (writtenAt !== undefined) return { value: what, writtenAt: Number(writtenAt) };
  const bytes = (['blank', 'torn', 'foreign', 'misplaced'] as const satisfies Bytes[]).find((each) => each === what);
  assert.ok(bytes !== undefined, `a reading that found "${what}"`);
  return bytes;
}
