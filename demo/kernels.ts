/** The story on real kernels: three guests of the laboratory, real agents, md of an unmodified kernel. */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../src/arrays/record.ts';
import { AgentClient } from '../src/cli/agent_client.ts';
import { eventLine } from '../src/outlets/cloud_event.ts';
import type { CloudEvent, Status } from '../src/outlets/index.ts';
import type { Request } from '../src/wire/messages.ts';
import { Cluster, program, SOCKET } from '../test/lab/cluster.ts';
import { patient } from '../test/lab/guest/patience.ts';
import { stateRoot } from '../test/lab/guest/registry.ts';
import { type GuestProcess, Lab } from '../test/lab/lab.ts';
import { mdMemberOn } from '../test/lab/md_members.ts';
import type { Finding, Pause, Stage, Writer, WriterResult } from './stage.ts';

const DISK_MIB = [96, 96, 96];
const DOOR_PORT = 7947;
const ANSWER_WITHIN_MS = 800;
const WRITES_PER_SECOND = 100;
const BLOCKS_PER_NODE = 1500;
/** Guests mount their own there: a program that lies below is not in them. */
const HIDDEN_FROM_GUESTS = /^\/(tmp|run|dev|proc|sys)\//;

/** Follows the log of acknowledged writes of one writer. */
class AckLog {
  readonly path: string;
  acknowledged = 0;
  /** Wall clock of the newest; 0: none yet. */
  newestMs = 0;
  readonly pauses: Pause[] = [];
  #at = 0;
  #rest = '';

  constructor(path: string) {
    this.path = path;
  }

  follow(): void {
    if (!existsSync(this.path)) return;
    const fd = openSync(this.path, 'r');
    try {
      const buffer = Buffer.alloc(256 * 1024);
      for (let got = readSync(fd, buffer, 0, buffer.length, this.#at); got > 0; ) {
        this.#at += got;
        this.#take(buffer.toString('latin1', 0, got));
        got = readSync(fd, buffer, 0, buffer.length, this.#at);
      }
    } finally {
      closeSync(fd);
    }
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const wallNs = /^A \d+ \d+ \d+ (\d+)$/.exec(line)?.[1];
      if (wallNs === undefined) continue;
      const atMs = Number(wallNs) / 1e6;
      const lengthMs = atMs - this.newestMs;
      if (this.newestMs > 0 && lengthMs > 25) this.pauses.push({ startMs: this.newestMs, lengthMs });
      this.acknowledged += 1;
      this.newestMs = atMs;
    }
  }
}

interface RunningWriter {
  node: NodeId;
  process: GuestProcess;
  summaryFile: string;
  log: AckLog;
  startedAtMs: number;
  lostAtMs: number | null;
}

function isCloudEvent(value: unknown): value is CloudEvent {
  return typeof value === 'object' && value !== null && 'specversion' in value && 'data' in value && 'time' in value;
}

interface Summary {
  acknowledged: number;
  failed: number;
  hanging: number;
  pauses: { list: { wallMs: number; lengthMs: number }[] };
}

function isSummary(value: unknown): value is Summary {
  return (
    typeof value === 'object' && value !== null && 'acknowledged' in value && 'failed' in value && 'pauses' in value
  );
}

/** `demo`, unless another demonstration runs under that name on this machine: the logs lie where the name says. */
function freeName(): string {
  Lab.sweep();
  const running = existsSync(stateRoot) ? readdirSync(stateRoot) : [];
  for (let number = 1; ; number++) {
    const name = number === 1 ? 'demo' : `demo-${number}`;
    if (!running.some((netns) => netns.endsWith(`-${name}`))) return name;
  }
}

export class KernelStage implements Stage {
  readonly ground = 'three real Linux kernels';
  readonly nodes: readonly NodeId[];
  readonly disks = ['/dev/ubda', '/dev/ubdb', '/dev/ubdc'];
  readonly logs: string;
  onEventLine: (line: string) => void = () => undefined;
  readonly #cluster: Cluster;
  readonly #clients = new Map<NodeId, AgentClient>();
  readonly #writers: RunningWriter[] = [];
  readonly #told = new Set<string>();
  readonly #off = new Set<NodeId>();
  readonly #fencings: NodeId[] = [];
  readonly #ending = new AbortController();
  readonly #looking = new Set<NodeId>();

  private constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.nodes = cluster.nodes;
    this.logs = cluster.lab.workDir;
    cluster.lab.onFence = async (node) => {
      this.#fencings.push(node);
      await cluster.lab.guest(node).kill9();
      return true;
    };
  }

  static async open(): Promise<KernelStage> {
    if (!existsSync(program))
      throw new Error(`no program ${program}; run make build, or name another one: make demo BIN=path`);
    if (HIDDEN_FROM_GUESTS.test(resolve(program))) {
      throw new Error(`BIN=${program}: the guests have their own /tmp, /run and /dev; put the program elsewhere`);
    }
    return new KernelStage(await Cluster.prepare({ name: freeName(), diskMib: DISK_MIB }));
  }

  async startAgents(): Promise<void> {
    await Promise.all(this.nodes.map((node) => this.#startAgent(node)));
  }

  async #startAgent(node: NodeId): Promise<void> {
    const { lab } = this.#cluster;
    await this.#cluster.startAgent(node);
    const program = [process.execPath, '--no-warnings', join(import.meta.dirname, 'door.ts')];
    const logFile = join(this.#cluster.folder(node), 'door.log');
    await lab.guest(node).spawn([...program, String(DOOR_PORT), SOCKET], { logFile });
    const known = this.#clients.has(node);
    if (!known) this.#clients.set(node, new AgentClient(await lab.forward(node, DOOR_PORT)));
    this.#off.delete(node);
    void this.#listen(node, this.#cluster.lab.guest(node).boots);
  }

  #client(node: NodeId): AgentClient {
    const client = this.#clients.get(node);
    if (client === undefined) throw new Error(`no agent was started on node ${node}`);
    return client;
  }

  /** Events of one boot of a node, from the first on. */
  async #listen(node: NodeId, boot: number): Promise<void> {
    let cursor = 0;
    const ended = () =>
      this.#ending.signal.aborted || this.#off.has(node) || this.#cluster.lab.guest(node).boots !== boot;
    while (!ended()) {
      try {
        for await (const line of this.#client(node).events(cursor, this.#ending.signal)) {
          const told: unknown = JSON.parse(line);
          if (!isCloudEvent(told)) continue;
          cursor = told.cursor ?? cursor;
          if (this.#told.has(told.id)) continue;
          this.#told.add(told.id);
          this.onEventLine(eventLine(told));
        }
      } catch {
        // Not up yet, or gone: asked again until the end.
      }
      await sleep(300);
    }
  }

  async look(): Promise<ReadonlyMap<NodeId, Status | null>> {
    const seen = await Promise.all(this.nodes.map(async (node) => [node, await this.#ask(node)] as const));
    return new Map(seen);
  }

  async #ask(node: NodeId): Promise<Status | null> {
    const client = this.#clients.get(node);
    // One question at a time: who does not answer is not asked ever more often.
    if (client === undefined || this.#off.has(node) || this.#looking.has(node)) return null;
    this.#looking.add(node);
    const answer = client.status().then(
      (status) => status,
      () => null,
    );
    void answer.finally(() => this.#looking.delete(node));
    return Promise.race([answer, sleep(patient(ANSWER_WITHIN_MS), null, { ref: false })]);
  }

  request(node: NodeId, request: Request): Promise<{ ok: boolean; text: string }> {
    return this.#client(node).request(request);
  }

  async startWriters(md: string, nodes: readonly NodeId[]): Promise<void> {
    const { lab } = this.#cluster;
    await Promise.all(
      nodes.map(async (node) => {
        const turn = this.#writers.filter((writer) => writer.node === node).length + 1;
        const file = (name: string) => join(this.#cluster.folder(node), `${name}-${turn}`);
        const log = new AckLog(file('acknowledged'));
        const where = [
          '--start-block',
          String(node * BLOCKS_PER_NODE),
          '--blocks',
          String(BLOCKS_PER_NODE),
          '--random',
        ];
        const argv = ['write', '--device', `/dev/${md}`, '--log', log.path, '--node', String(node), ...where];
        const summaryFile = file('writer');
        const process = await lab
          .guest(node)
          .spawn([lab.mdio, ...argv, '--rate', String(WRITES_PER_SECOND)], { logFile: summaryFile });
        this.#writers.push({ node, process, summaryFile, log, startedAtMs: Date.now(), lostAtMs: null });
      }),
    );
  }

  writers(): readonly Writer[] {
    return this.nodes.flatMap((node) => {
      const own = this.#writers.filter((writer) => writer.node === node);
      const newest = own.at(-1);
      if (newest === undefined) return [];
      newest.log.follow();
      const lost = newest.lostAtMs !== null;
      const waitsMs = newest.log.newestMs === 0 || lost ? 0 : Math.max(0, Date.now() - newest.log.newestMs);
      return [{ node, acknowledged: own.reduce((sum, { log }) => sum + log.acknowledged, 0), waitsMs, lost }];
    });
  }

  async stopWriters(): Promise<WriterResult[]> {
    return Promise.all(this.#writers.map((writer) => this.#stopWriter(writer)));
  }

  async #stopWriter({ node, process, summaryFile, log, startedAtMs, lostAtMs }: RunningWriter): Promise<WriterResult> {
    if (lostAtMs !== null) {
      log.follow();
      return { node, acknowledged: log.acknowledged, failed: 0, pauses: log.pauses, startedAtMs, lostAtMs };
    }
    await process.signal('SIGTERM');
    await process.exited;
    const text = await this.#cluster.lab.guest(node).readFile(summaryFile);
    const summary: unknown = JSON.parse(text);
    if (!isSummary(summary)) throw new Error(`the writer on node ${node} ended with other words: ${text}`);
    return {
      node,
      acknowledged: summary.acknowledged,
      failed: summary.failed + summary.hanging,
      pauses: summary.pauses.list.map(({ wallMs, lengthMs }) => ({ startMs: wallMs, lengthMs })),
      startedAtMs,
      lostAtMs,
    };
  }

  async failLeg(node: NodeId, md: string, disk: string): Promise<string> {
    const guest = this.#cluster.lab.guest(node);
    const member = await mdMemberOn(guest, md, disk.replace('/dev/', ''));
    const state = `/sys/block/${md}/md/dev-${member.name}/state`;
    await guest.writeFile(state, 'faulty');
    return `md of node ${node} was told by ${state}`;
  }

  async powerOff(node: NodeId): Promise<void> {
    this.#off.add(node);
    for (const writer of this.#writers) if (writer.node === node) writer.lostAtMs ??= Date.now();
    await this.#cluster.lab.guest(node).kill9();
  }

  async powerOn(node: NodeId): Promise<void> {
    await this.#cluster.lab.guest(node).boot();
    await this.#startAgent(node);
  }

  fencings(): readonly NodeId[] {
    return this.#fencings;
  }

  async settle(): Promise<void> {
    const nodes = this.nodes.filter((node) => !this.#off.has(node));
    await Promise.all(nodes.map((node) => this.#cluster.stopAgent(node)));
    this.#ending.abort();
  }

  async verify(legs: readonly { disk: string; dataOffsetBytes: number; dataBytes: number }[]): Promise<Finding[]> {
    const { lab } = this.#cluster;
    const findings: Finding[] = [];
    const logs = this.#writers.map(({ log }) => log.path);
    const indexes = legs.map(({ disk }) => this.disks.indexOf(disk));
    for (const [at, leg] of legs.entries()) {
      const { blocks, lost, stale, torn, unreadable } = lab.verifyImage(indexes[at] ?? 0, leg.dataOffsetBytes, logs);
      findings.push({
        ok: blocks > 0 && lost + stale + torn + unreadable === 0,
        text: `${leg.disk}: ${blocks} blocks read back by their newest acknowledged write: ${lost} lost, ${stale} stale, ${torn} torn`,
      });
    }
    const [first, ...others] = legs;
    for (const [at, leg] of others.entries()) {
      const difference = lab.compareImages(indexes[0] ?? 0, indexes[at + 1] ?? 0, leg.dataOffsetBytes, leg.dataBytes);
      findings.push({
        ok: difference === null && first?.dataOffsetBytes === leg.dataOffsetBytes,
        text:
          difference === null
            ? `${first?.disk} and ${leg.disk}: ${(leg.dataBytes / 1024 / 1024).toFixed(0)} MiB of data are the same, byte for byte`
            : `${first?.disk} and ${leg.disk} differ from byte ${difference.offsetBytes} on`,
      });
    }
    findings.push(this.#examined(indexes));
    return findings;
  }

  /** Stock mdadm's own view of the superblocks. */
  #examined(indexes: readonly number[]): Finding {
    const seen = indexes.map((index) => {
      const { stdout } = spawnSync('mdadm', ['--examine', this.#cluster.lab.diskImage(index)], { encoding: 'utf8' });
      const field = (name: string) => new RegExp(`^ *${name} : (.*?) *$`, 'm').exec(stdout)?.[1] ?? '?';
      const checksum = /correct/.test(field('Checksum')) ? 'checksum correct' : 'checksum WRONG';
      return `events ${field('Events')}, ${field('State')}, ${field('Array State').replace(/ *\(.*/, '')}, ${checksum}`;
    });
    const same = new Set(seen).size === 1;
    const [first = ''] = seen;
    return {
      ok: same && /^events \d+, clean, \S+, checksum correct$/.test(first),
      text: `mdadm --examine of the legs in sync: ${same ? `all ${first}` : seen.join(' | ')}`,
    };
  }

  async close(): Promise<void> {
    this.#ending.abort();
    await this.#cluster.close();
  }
}
