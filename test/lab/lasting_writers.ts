/**
 * Writers that outlast deaths: one on each node, in a region of its own, started again after its guest was killed. And the proof at the end
 * that the array is whole: one master by everybody's word, the same bytes on both legs, the same story in both superblocks, every
 * acknowledged write of every run on each leg, and no error seen by a writer that lived.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ArrayRecord, NodeId } from '../../src/arrays/record.ts';
import { calibrate, evicted } from './agent_log.ts';
import type { Cluster } from './cluster.ts';
import type { GuestProcess } from './lab.ts';
import { registeredOn } from './storage_guest.ts';
import { acknowledgedIn, checkLegs } from './writers.ts';

const REGION_BLOCKS = 4000;

export interface WriterSummary {
  acknowledged: number;
  failed: number;
  hanging: number;
  pauses: { count: number; totalMs: number; list: { wallMs: number; lengthMs: number }[] };
  errors: { wallMs: number; text: string }[];
}

interface Run {
  node: NodeId;
  process: GuestProcess;
  output: string;
}

/** A mirror that all nodes write. Its legs are the first two shared disks. The first copy may still be under way. */
export async function requestMirror(
  cluster: Cluster,
  fields: { spares?: number; prefix?: string; assumeClean?: boolean; force?: boolean; bitmap?: 'internal' } = {},
): Promise<void> {
  const { spares = 0, prefix = '/dev/ubd', assumeClean = false, force = false, bitmap } = fields;
  const letters = 'abcdefgh'.slice(0, 2 + spares);
  // A slow starter may still be handed the lead, and a request that is under way then is refused.
  await leads(cluster, 1);
  const { ok, text } = await cluster.request(cluster.nodes[0] ?? 1, {
    verb: 'create',
    md: 'md0',
    level: 'raid1',
    raidDisks: 2,
    access: 'shared',
    devices: [...letters].map((letter) => `${prefix}${letter}`),
    spares,
    assumeClean,
    force,
    ...(bitmap && { bitmap }),
  });
  // Three kernels with their first array on two busy cores may lose a lease; the array comes all the same.
  assert.ok(ok || /the master changed meanwhile/.test(text), text);
}

/** As `requestMirror`, of 64 MiB, and in sync. */
export async function createMirror(cluster: Cluster): Promise<ArrayRecord> {
  await requestMirror(cluster);
  return cluster.open();
}

/** The lab's disks that are in sync in this array. */
export async function legsOf(cluster: Cluster, node: NodeId): Promise<number[]> {
  const array = await cluster.array(node);
  const active = (array?.record.members ?? []).filter(({ role }) => role === 'active');
  return active.map(({ uuid }) => 'abcdefgh'.indexOf((array?.paths[uuid] ?? '').slice(-1))).sort((a, b) => a - b);
}

export class LastingWriters {
  readonly #cluster: Cluster;
  readonly #running = new Map<NodeId, Run>();
  readonly #logs = new Map<string, NodeId>();

  readonly #regionBlocks: number;

  /** @param regionBlocks of each node; together they should not be more than the array has */
  constructor(cluster: Cluster, regionBlocks = REGION_BLOCKS) {
    this.#cluster = cluster;
    this.#regionBlocks = regionBlocks;
  }

  get logs(): string[] {
    return [...this.#logs.keys()];
  }

  /** On these nodes, and each has written by the end. */
  async start(nodes: readonly NodeId[] = this.#cluster.nodes): Promise<void> {
    await Promise.all(
      nodes.map(async (node) => {
        const number = this.#logs.size + 1;
        const log = join(this.#cluster.folder(node), `acknowledged-${number}`);
        const output = join(this.#cluster.folder(node), `writer-${number}`);
        this.#logs.set(log, node);
        const blocks = this.#regionBlocks;
        const region = ['--start-block', String((node - 1) * blocks), '--blocks', String(blocks)];
        const { lab } = this.#cluster;
        const argv = [lab.mdio, 'write', '--device', '/dev/md0', '--node', String(node), ...region, '--log', log];
        const process = await lab.guest(node).spawn([...argv, '--random', '--rate', '100', '--pause-ms', '50'], {
          logFile: output,
        });
        this.#running.set(node, { node, process, output });
      }),
    );
    await this.goOn(nodes);
  }

  /** On a SAN: its node is evicted, its keys are on no LUN, the others' are, and those go on. */
  async outlive(victim: NodeId, since: number): Promise<void> {
    const { lab, nodes, san } = this.#cluster;
    const others = nodes.filter((node) => node !== victim);
    await this.#cluster.until(`node ${victim} evicted`, 60_000, () => evicted(this.#cluster, victim, since));
    for (const device of san.devices) assert.deepEqual(await registeredOn(lab.guest(others[0] ?? 1), device), others);
    await this.goOn(others);
  }

  runs(node: NodeId): boolean {
    return this.#running.has(node);
  }

  /** The guest of this writer was killed: it has nothing to tell, but its log stands. */
  forget(node: NodeId): void {
    this.#running.delete(node);
  }

  /** Acknowledged writes of a node in all its runs, as far as the logs have come. */
  acknowledged(node: NodeId): number {
    let count = 0;
    for (const [log, of] of this.#logs) if (of === node) count += acknowledgedIn(log);
    return count;
  }

  /** Acknowledged writes of a node in a stretch of time (host's clock). */
  async acknowledgedBetween(node: NodeId, fromMs: number, toMs: number): Promise<number> {
    const fromWallMs = (await calibrate(this.#cluster)).get(node)?.fromWallMs ?? 0;
    let count = 0;
    for (const [log, of] of this.#logs) {
      if (of !== node) continue;
      for (const line of readFileSync(log, 'latin1').split('\n')) {
        const atMs = Number(line.split(' ')[4]) / 1e6 + fromWallMs;
        if (line.startsWith('A ') && atMs >= fromMs && atMs < toMs) count++;
      }
    }
    return count;
  }

  /** Waits until each of these nodes has had some more writes acknowledged. */
  async goOn(nodes: readonly NodeId[], timeoutMs = 30_000): Promise<void> {
    const before = new Map(nodes.map((node) => [node, this.acknowledged(node)]));
    await this.#cluster.until(`writes of ${nodes.join(', ')} go on`, timeoutMs, async () =>
      nodes.every((node) => this.acknowledged(node) > (before.get(node) ?? 0) + 5),
    );
  }

  async stop(): Promise<Map<NodeId, WriterSummary>> {
    const summaries = new Map<NodeId, WriterSummary>();
    await Promise.all(
      [...this.#running.values()].map(async ({ node, process, output }) => {
        await process.signal('SIGTERM');
        const { lost } = await process.exited;
        assert.ok(!lost, `the guest of node ${node} ended under its writer`);
        const text = await this.#cluster.until(`the summary of node ${node}'s writer`, 5000, async () => {
          const said = readFileSync(output, 'utf8').trim();
          return said.endsWith('}') ? said : null;
        });
        summaries.set(node, JSON.parse(text));
      }),
    );
    this.#running.clear();
    return summaries;
  }
}

/** Exactly one node calls itself master and all of `nodes` follow it, in one term. */
export async function oneMaster(cluster: Cluster, nodes: readonly NodeId[] = cluster.nodes): Promise<NodeId> {
  return cluster.until(`one master by the word of ${nodes.join(', ')}`, 30_000, async () => {
    const seen = await Promise.all(nodes.map((node) => cluster.status(node)));
    const masters = seen.filter((status) => status.lease.role === 'master').map((status) => status.self);
    const words = new Set(seen.map(({ lease }) => `${lease.master} ${lease.term}`));
    return masters.length === 1 && words.size === 1 && seen[0]?.lease.master === masters[0] ? masters[0] : null;
  });
}

/** Waits until this node leads by everybody's word. A chapter's beginning: all guests are up, so their clocks are read too. */
export async function leads(cluster: Cluster, node: NodeId): Promise<void> {
  await calibrate(cluster);
  await cluster.until(`node ${node} leads`, 40_000, async () => (await oneMaster(cluster)) === node);
}

/** Waits until `nodes` are all writers, stops the writers and looks at everything. Returns what the writers saw. */
export async function proveWhole(
  cluster: Cluster,
  writers: LastingWriters,
  nodes: readonly NodeId[] = cluster.nodes,
): Promise<Map<NodeId, WriterSummary>> {
  const record = await cluster.open(nodes);
  await oneMaster(cluster, nodes);
  await writers.goOn(nodes);
  const summaries = await writers.stop();
  for (const [node, { failed, hanging, errors }] of summaries) {
    assert.equal(failed, 0, `writes of node ${node} failed: ${JSON.stringify(errors.slice(0, 3))}`);
    assert.equal(hanging, 0, `a write of node ${node} hangs`);
  }
  const legs = await legsOf(cluster, nodes[0] ?? 1);
  assert.equal(legs.length, 2, `members: ${record.members.map(({ role }) => role).join(', ')}`);
  checkLegs(cluster, legs, writers.logs, record.componentSectors);
  return summaries;
}
