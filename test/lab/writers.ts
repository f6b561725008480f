/**
 * Applications on a cluster's nodes: writers that log what was acknowledged, in regions that do not meet, and readers that
 * check on every node what the logs of all claim. And what must be true of the legs once the writers have stopped.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeId } from '../../src/arrays/record.ts';
import type { Cluster } from './cluster.ts';
import type { GuestProcess } from './lab.ts';

/** For stories in which nobody should be taken for dead: this many kernels may share two slow cores. */
export const PATIENT = 'timing: { probe_interval: 900ms, probe_timeout: 700ms, settle: 2s }';

export interface WriterReport {
  node: number;
  acknowledged: number;
  failed: number;
  hanging: number;
  latency: Record<string, number>;
  errors: { text: string; unit: number }[];
}

interface ReaderReport {
  reads: number;
  units: number;
  lost: number;
  stale: number;
  torn: number;
  unreadable: number;
  examples: unknown[];
}

export interface WriterOptions {
  /** Part of the file names: unique among the runs of one cluster. */
  name: string;
  nodes?: readonly NodeId[];
  md?: string;
  blocksANode?: number;
  ratePerSecond?: number;
  /** Nodes on which a reader checks all logs meanwhile. @default none */
  readers?: readonly NodeId[];
  /** First block of all regions. @default 0 */
  startBlock?: number;
  /** Writes of a node that are under way at once. @default 2 */
  depth?: number;
}

interface Running {
  node: NodeId;
  process: GuestProcess;
  output: string;
}

export class Writers {
  readonly #cluster: Cluster;
  readonly #writers: Running[] = [];
  readonly #readers: Running[] = [];
  /** What was acknowledged, one log a node. */
  readonly logs: string[] = [];

  private constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  static async start(cluster: Cluster, options: WriterOptions): Promise<Writers> {
    const {
      name,
      nodes = cluster.nodes,
      md = 'md0',
      blocksANode = 512,
      ratePerSecond = 200,
      startBlock = 0,
      depth = 2,
    } = options;
    const writers = new Writers(cluster);
    const { mdio } = cluster.lab;
    const device = `/dev/${md}`;
    await Promise.all(
      nodes.map(async (node, index) => {
        const guest = cluster.lab.guest(node);
        const log = join(guest.dir, `${name}.acks`);
        const output = join(guest.dir, `${name}.writer`);
        writers.logs.push(log);
        const first = startBlock + index * blocksANode;
        const argv = `${mdio} write --device ${device} --log ${log} --node ${node} --start-block ${first} --blocks ${blocksANode} --rate ${ratePerSecond} --jobs ${depth} --random`;
        writers.#writers.push({ node, process: await guest.spawn(argv.split(' '), { logFile: output }), output });
      }),
    );
    await cluster.until('every writer has an acknowledged write', 30_000, async () =>
      writers.logs.every((log) => acknowledgedIn(log) > 0),
    );
    for (const node of options.readers ?? []) {
      const guest = cluster.lab.guest(node);
      const output = join(guest.dir, `${name}.reader`);
      const argv = [mdio, 'read-check', '--device', device, ...writers.logs.flatMap((log) => ['--log', log])];
      const process = await guest.spawn([...argv, '--rate', '1000'], { logFile: output });
      writers.#readers.push({ node, process, output });
    }
    return writers;
  }

  /** Every writer has got `count` more acknowledgements than at the call. */
  async goOn(count = 100): Promise<void> {
    const before = this.logs.map(acknowledgedIn);
    await this.#cluster.until(`every writer goes on for ${count} writes`, 60_000, async () =>
      this.logs.every((log, index) => acknowledgedIn(log) >= (before[index] ?? 0) + count),
    );
  }

  /** Acknowledged writes by node, as far as the logs have come. */
  acknowledged(): number[] {
    return this.logs.map(acknowledgedIn);
  }

  /** Ends all. No write failed or hangs, and no reader has seen anything older than a claim. */
  async stop(): Promise<WriterReport[]> {
    for (const { process } of this.#readers) await process.signal('SIGTERM');
    for (const { node, process, output } of this.#readers) {
      await process.exited;
      const report: ReaderReport = JSON.parse(await this.#said(output));
      assert.ok(report.reads > 0, `the reader of node ${node} has read nothing`);
      const { lost, stale, torn, unreadable } = report;
      assert.deepEqual(
        { lost, stale, torn, unreadable },
        { lost: 0, stale: 0, torn: 0, unreadable: 0 },
        `what node ${node} read: ${JSON.stringify(report.examples)}`,
      );
    }
    const reports: WriterReport[] = [];
    for (const { process } of this.#writers) await process.signal('SIGTERM');
    for (const { node, process, output } of this.#writers) {
      const { lost } = await process.exited;
      assert.equal(lost, false, `the guest of node ${node} was lost; use abandon()`);
      const report: WriterReport = JSON.parse(await this.#said(output));
      assert.deepEqual(
        { failed: report.failed, hanging: report.hanging },
        { failed: 0, hanging: 0 },
        `writes of node ${node}: ${JSON.stringify(report.errors.slice(0, 5))}`,
      );
      assert.ok(report.acknowledged > 0, `no write of node ${node} was acknowledged`);
      reports.push(report);
    }
    return reports;
  }

  /** A summary is one line; the host may see it a little later than the end of the process. */
  async #said(output: string): Promise<string> {
    return this.#cluster.until(`a summary in ${output}`, 10_000, async () => {
      const text = readFileSync(output, 'utf8').trim();
      return text.endsWith('}') ? (text.split('\n').at(-1) ?? null) : null;
    });
  }
}

export function acknowledgedIn(log: string): number {
  try {
    return readFileSync(log, 'latin1').split('\nA ').length - 1;
  } catch {
    return 0;
  }
}

/** Agents started so that node 1 leads from the beginning: else it takes over ten seconds later, in the middle of a story. */
export async function startInOrder(cluster: Cluster): Promise<void> {
  await cluster.startAgent(1);
  await cluster.until('the agent of node 1 answers', 30_000, () => cluster.status(1));
  await Promise.all(cluster.nodes.slice(1).map((node) => cluster.startAgent(node)));
  await cluster.until('node 1 leads', 60_000, async () => (await cluster.master()) === 1);
}

/** What stock mdadm says of a member. `index`: the lab's disk. */
export interface Examined {
  events: number;
  role: string;
  arrayState: string;
  clean: boolean;
  dataOffsetBytes: number;
  arrayUuid: string;
  deviceUuid: string;
  hasBitmap: boolean;
}

/** `mdadm --examine` on the host; null: it finds no superblock. */
export function examine(cluster: Cluster, index: number): Examined | null {
  const { status, stdout } = spawnSync('mdadm', ['--examine', cluster.lab.diskImage(index)], { encoding: 'utf8' });
  if (status !== 0) return null;
  const field = (name: string): string => new RegExp(`^ *${name} : (.*)$`, 'm').exec(stdout)?.[1]?.trim() ?? '';
  assert.match(field('Checksum'), /correct/, `disk ${index}: ${stdout}`);
  return {
    events: Number(field('Events')),
    role: field('Device Role'),
    arrayState: field('Array State').replace(/ .*/, ''),
    clean: field('State') === 'clean',
    dataOffsetBytes: Number.parseInt(field('Data Offset'), 10) * 512,
    arrayUuid: field('Array UUID'),
    deviceUuid: field('Device UUID'),
    hasBitmap: /Internal Bitmap/.test(stdout),
  };
}

export function mustExamine(cluster: Cluster, index: number): Examined {
  const seen = examine(cluster, index);
  assert.ok(seen !== null, `mdadm finds no superblock on disk ${index}`);
  return seen;
}

/** A mirror's legs after its writers have stopped: all that was acknowledged is on each, and they are equal. */
export function checkLegs(cluster: Cluster, inSync: readonly number[], logs: readonly string[], sectors: number): void {
  const [first, ...others] = inSync;
  assert.ok(first !== undefined);
  const { dataOffsetBytes, events } = mustExamine(cluster, first);
  for (const leg of inSync) {
    const seen = mustExamine(cluster, leg);
    assert.equal(seen.events, events, `events of disk ${leg}`);
    assert.match(seen.role, /Active device/, `role of disk ${leg}`);
    if (logs.length > 0) {
      const { lost, stale, torn, unreadable, blocks, examples } = cluster.lab.verifyImage(
        leg,
        seen.dataOffsetBytes,
        logs,
      );
      assert.ok(blocks > 0);
      assert.deepEqual(
        { lost, stale, torn, unreadable },
        { lost: 0, stale: 0, torn: 0, unreadable: 0 },
        `disk ${leg}: ${JSON.stringify(examples)}`,
      );
    }
  }
  for (const leg of others) {
    const difference = cluster.lab.compareImages(first, leg, dataOffsetBytes, sectors * 512);
    assert.equal(difference, null, `disks ${first} and ${leg} differ at byte ${difference?.offsetBytes}`);
  }
}

export interface Committed {
  kind: string;
  member: string | null;
  version: { term: number; index: number };
}

interface Body {
  type: string;
  kind?: string;
  name?: string;
  subject?: string;
  record?: { md: string; version: Committed['version'] };
  detail?: Record<string, unknown> & { member?: string };
}

/** What a node's journal holds, in the order in which the node learned of it. */
async function journal(cluster: Cluster, node: NodeId): Promise<{ origin: number; boot: string; body: Body }[]> {
  const entries = await cluster.ask(node, '/v1/events?after=0&follow=false', { timeoutMs: 20_000 });
  return entries
    .split('\n')
    .filter((line) => line !== '')
    .map((line): { id?: string; data?: { body?: Body } } => JSON.parse(line))
    .flatMap(({ id, data }) => {
      const [origin = '', boot = ''] = (id ?? '').split('/');
      return data?.body === undefined ? [] : [{ origin: Number(origin), boot, body: data.body }];
    });
}

/** The details of all notices of this name in a node's journal, each once as they came. */
export async function noticesNamed(cluster: Cluster, node: NodeId, name: string): Promise<Record<string, unknown>[]> {
  const all = await journal(cluster, node);
  return all.flatMap(({ body }) => (body.type === 'notice' && body.name === name ? [body.detail ?? {}] : []));
}

/** Names of all notices in a node's journal. */
export async function notices(cluster: Cluster, node: NodeId): Promise<string[]> {
  const all = await journal(cluster, node);
  return all.flatMap(({ body }) => (body.type === 'notice' && body.name !== undefined ? [body.name] : []));
}

/** Commits of an array in a node's journal, in their order, each once. */
export async function commits(cluster: Cluster, node: NodeId, md = 'md0'): Promise<Committed[]> {
  const found = new Map<string, Committed>();
  for (const { body } of await journal(cluster, node)) {
    if (body.type !== 'commit' || body.kind === undefined || body.record?.md !== md) continue;
    const { version } = body.record;
    found.set(JSON.stringify(version), { kind: body.kind, member: body.detail?.member ?? null, version });
  }
  return [...found.values()];
}

/**
 * The commits of an array that a node learned of since its agent's last start, and when it let writes pass itself: `WritesEnabled` stands
 * among them. An order of causes, not of clocks: those of guests may drift.
 */
export async function sinceStart(cluster: Cluster, node: NodeId, md: string): Promise<string[]> {
  const all = await journal(cluster, node);
  const boot = all.findLast(({ origin }) => origin === node)?.boot;
  const started = all.findIndex((entry) => entry.origin === node && entry.boot === boot);
  return all.slice(started).flatMap(({ origin, body }) => {
    if (body.type === 'commit' && body.record?.md === md) return [body.kind ?? ''];
    const enabled = body.type === 'notice' && body.name === 'WritesEnabled' && body.subject === md && origin === node;
    return enabled ? ['WritesEnabled'] : [];
  });
}
