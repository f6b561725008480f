/**
 * The same story without root: the same agents, gossip, lease and commits, in one process over a simulated md. It shows what
 * the cluster does; that real kernels do as the simulated one does is for the laboratory to show.
 */
import type { NodeId } from '../src/arrays/record.ts';
import { realTime } from '../src/md/simulated_time.ts';
import { eventLine, type Status } from '../src/outlets/index.ts';
import type { Request } from '../src/wire/messages.ts';
import { Application } from '../test/sim/application.ts';
import { SimCluster } from '../test/sim/cluster.ts';
import type { Finding, Stage, Writer, WriterResult } from './stage.ts';

const DISK_MIB = [32, 32, 32];
const BLOCKS_PER_NODE = 1000;

export class SimulatedStage implements Stage {
  readonly ground = 'three simulated kernels';
  readonly nodes: readonly NodeId[];
  readonly disks: readonly string[];
  readonly logs = null;
  onEventLine: (line: string) => void = () => undefined;
  readonly #cluster: SimCluster;
  readonly #applications: Application[] = [];
  readonly #lostAtMs = new Map<Application, number>();
  readonly #told = new Set<string>();

  private constructor(cluster: SimCluster) {
    this.#cluster = cluster;
    this.nodes = cluster.nodes;
    this.disks = cluster.storage.names().map((name) => `/dev/${name}`);
  }

  static async open(): Promise<SimulatedStage> {
    return new SimulatedStage(await SimCluster.create({ time: realTime(), diskMib: DISK_MIB, seed: Date.now() }));
  }

  async startAgents(): Promise<void> {
    for (const node of this.nodes) {
      this.#cluster.journal(node).onAppend(({ event }) => {
        const id = `${event.origin}/${event.bootNumber}/${event.sequence}`;
        if (this.#told.has(id)) return;
        this.#told.add(id);
        this.onEventLine(eventLine(event, this.#cluster.agent(node)?.names));
      });
    }
    await this.#cluster.boot(...this.nodes);
  }

  async look(): Promise<ReadonlyMap<NodeId, Status | null>> {
    return new Map(this.nodes.map((node) => [node, this.#cluster.status(node)]));
  }

  request(node: NodeId, request: Request): Promise<{ ok: boolean; text: string }> {
    return this.#cluster.request(node, request);
  }

  async startWriters(md: string, nodes: readonly NodeId[]): Promise<void> {
    for (const node of nodes) {
      const turn = this.#applications.filter((application) => application.node === node).length;
      // A region of its own each time: each application knows only its own writes.
      const firstBlock = (turn * this.nodes.length + node - 1) * BLOCKS_PER_NODE;
      const application = new Application(this.#cluster, { node, md, firstBlock, blocks: BLOCKS_PER_NODE });
      this.#applications.push(application);
      application.start();
    }
  }

  writers(): readonly Writer[] {
    const now = this.#cluster.time.clock();
    return this.nodes.flatMap((node) => {
      const own = this.#applications.filter((application) => application.node === node);
      const newest = own.at(-1);
      if (newest === undefined) return [];
      const lost = this.#lostAtMs.has(newest);
      const waitsMs = newest.begunMs === null || lost ? 0 : now - newest.begunMs;
      return [{ node, acknowledged: own.reduce((sum, { acknowledged }) => sum + acknowledged, 0), waitsMs, lost }];
    });
  }

  async stopWriters(): Promise<WriterResult[]> {
    const running = this.#applications.filter((application) => !this.#lostAtMs.has(application));
    await Promise.all(running.map((application) => application.stop()));
    const wallMinusClock = Date.now() - this.#cluster.time.clock();
    return this.#applications.map((application) => ({
      node: application.node,
      acknowledged: application.acknowledged,
      failed: application.failed,
      pauses: application.pauses.map(({ startMs, lengthMs }) => ({ startMs: startMs + wallMinusClock, lengthMs })),
      startedAtMs: application.startedAtMs + wallMinusClock,
      lostAtMs: this.#lostAtMs.get(application) ?? null,
    }));
  }

  async failLeg(node: NodeId, _md: string, disk: string): Promise<string> {
    this.#cluster.storage.fault({ node, disk: disk.replace('/dev/', ''), kind: 'all' });
    return `every request of node ${node} to ${disk} fails from now on`;
  }

  async powerOff(node: NodeId): Promise<void> {
    this.#cluster.crash(node);
    for (const application of this.#applications) {
      if (application.node !== node || this.#lostAtMs.has(application)) continue;
      application.abandon();
      this.#lostAtMs.set(application, Date.now());
    }
  }

  powerOn(node: NodeId): Promise<void> {
    return this.#cluster.boot(node);
  }

  fencings(): readonly NodeId[] {
    return this.#cluster.fenced.map(({ node }) => node);
  }

  async settle(): Promise<void> {
    await this.#cluster.pass(100);
  }

  async verify(legs: readonly { disk: string; dataOffsetBytes: number; dataBytes: number }[]): Promise<Finding[]> {
    const findings: Finding[] = [];
    const { storage } = this.#cluster;
    const areas: Buffer[] = [];
    for (const { disk, dataOffsetBytes, dataBytes } of legs) {
      const name = disk.replace('/dev/', '');
      const lost = this.#applications.map((application) => application.lost(name, dataOffsetBytes));
      const sectors = lost.reduce((sum, each) => sum + each.sectors, 0);
      const example = lost.find((each) => each.example !== null)?.example ?? null;
      const writes = this.#applications.reduce((sum, each) => sum + each.acknowledged, 0);
      findings.push({
        ok: sectors === 0 && writes > 0,
        text: `${disk}: ${writes} acknowledged writes looked for: ${sectors} sectors lost${example === null ? '' : `, e.g. ${example}`}`,
      });
      areas.push(Buffer.from(storage.peek(name, dataOffsetBytes, dataBytes)));
    }
    for (const [index, area] of areas.entries()) {
      if (index === 0) continue;
      const same = areas[0]?.compare(area) === 0;
      findings.push({
        ok: same,
        text: `${legs[0]?.disk} and ${legs[index]?.disk}: ${(area.length / 1024 / 1024).toFixed(0)} MiB of data ${same ? 'are the same, byte for byte' : 'DIFFER'}`,
      });
    }
    return findings;
  }

  async close(): Promise<void> {
    this.#cluster.close();
  }
}
