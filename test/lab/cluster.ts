/**
 * A cluster of real agents on real kernels: keys, configs, one agent a guest, and short ways to ask them things.
 */
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { writeDurably } from '../../src/agent/state_files.ts';
import type { ArrayRecord, NodeId } from '../../src/arrays/record.ts';
import { freshVote } from '../../src/cli/keygen.ts';
import type { Status } from '../../src/outlets/index.ts';
import { generateIdentity, saveIdentity } from '../../src/wire/index.ts';
import { patient } from './guest/patience.ts';
import { type GuestProcess, Lab, type LabOptions, labModules } from './lab.ts';
import { type LunBacking, StorageGuest } from './storage_guest.ts';

const projectDir = join(import.meta.dirname, '..', '..');
const PORT = 7946;
export const SOCKET = '/run/mdmesh/mdmesh.sock';

export interface ClusterOptions extends LabOptions {
  /** YAML of the `fencing:` value. @default the lab's fence command */
  fencing?: (lab: Lab) => string;
  /** More YAML at top level. */
  config?: string;
  /** More YAML of `arrays:`, `key: value` pairs. */
  arrays?: string;
  /** YAML of `arrays.copy`. @default as the program has it */
  copy?: string;
  /** Devices that agents look at. @default the shared disks */
  devices?: readonly string[];
  /** @default $MDMESH_BIN or out/mdmesh */
  program?: string;
  /** One guest more, which is no node: it exports these to all, as /dev/sda, /dev/sdb, … */
  luns?: readonly LunBacking[];
  /** Ways from each node to those; of several the LUNs are /dev/mapper/luna, lunb, … @default 1 */
  portals?: number;
  /** Run there before it exports. */
  storageMounts?: string;
}

export interface Outcome {
  rc: number;
  out: string;
  err: string;
}

/** `make demo BIN=…` and packaging tests run another build of the same program. */
export const program = process.env.MDMESH_BIN ?? join(projectDir, 'out', 'mdmesh');

export class Cluster {
  readonly lab: Lab;
  readonly nodes: readonly NodeId[];
  readonly #agents = new Map<NodeId, GuestProcess>();
  readonly #program: string;
  /** Nodes that run another build. */
  readonly #programs = new Map<NodeId, string>();
  readonly #ended = new Set<GuestProcess>();

  readonly #san: StorageGuest | null;

  private constructor(lab: Lab, binary: string, luns: readonly LunBacking[], portals: number) {
    this.lab = lab;
    this.#program = binary;
    const nodes = lab.guests.map((_, index) => index + 1);
    const storage = luns.length === 0 ? undefined : nodes.pop();
    this.nodes = nodes;
    this.#san = storage === undefined ? null : new StorageGuest(lab.guest(storage), luns, portals);
  }

  get san(): StorageGuest {
    if (this.#san === null) throw new Error('this cluster was made without luns');
    return this.#san;
  }

  /** Boots the guests and writes keys and configs; starts no agent yet. */
  static async prepare(options: ClusterOptions): Promise<Cluster> {
    const { luns = [], portals = 1 } = options;
    const guests = (options.guests ?? 3) + (luns.length === 0 ? 0 : 1);
    const lab = await Lab.start({
      modules: luns.length === 0 ? labModules : [...labModules, 'configfs'],
      ...options,
      guests,
    });
    const cluster = new Cluster(lab, options.program ?? program, luns, portals);
    if (luns.length > 0) {
      if (options.storageMounts !== undefined) await cluster.san.guest.must(options.storageMounts);
      await cluster.san.export();
      await Promise.all(cluster.nodes.map((node) => cluster.san.connect(lab.guest(node))));
    }
    const identities = await Promise.all(cluster.nodes.map(() => generateIdentity()));
    const list = identities.map(
      ({ peerId }, index) =>
        `  - { id: ${index + 1}, address: 10.77.0.${index + 1}, port: ${PORT}, peer_id: ${peerId} }`,
    );
    const fencing =
      options.fencing?.(lab) ??
      `{ methods: [command, manual], command: { argv: ["${lab.fenceScript()}"], timeout: 10s } }`;
    const letters = 'abcdefghij';
    const disks = (options.diskMib ?? [256, 256, 256]).map((_, index) => `/dev/ubd${letters[index]}`);
    const lunPaths = portals > 1 ? ['/dev/sd*', '/dev/mapper/*'] : luns.map((_, index) => `/dev/sd${letters[index]}`);
    const devices = options.devices ?? (luns.length === 0 ? disks : lunPaths);
    for (const node of cluster.nodes) {
      const folder = cluster.folder(node);
      mkdirSync(folder, { recursive: true });
      const state = lab.memoryDir === null ? join(folder, 'state') : join(lab.memoryDir, `node${node}`);
      mkdirSync(state);
      if (lab.memoryDir !== null) symlinkSync(state, join(folder, 'state'));
      const identity = identities[node - 1];
      if (identity !== undefined) await saveIdentity(join(folder, 'key'), identity);
      await writeDurably(join(folder, 'state', 'vote.json'), `${JSON.stringify(freshVote)}\n`);
      writeFileSync(
        join(folder, 'mdmesh.yaml'),
        [
          'cluster: { name: demo, uuid: 6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001 }',
          'nodes:',
          ...list,
          `key_file: ${join(folder, 'key')}`,
          `state_dir: ${join(folder, 'state')}`,
          `socket: { path: ${SOCKET}, mode: "0600" }`,
          `fencing: ${fencing}`,
          `arrays: { auto_assemble: true, ${options.arrays === undefined ? '' : `${options.arrays}, `}copy: ${options.copy ?? '{}'}, devices: [${devices.map((device) => `"${device}"`).join(', ')}] }`,
          `log: { level: ${process.env.MDMESH_LAB_LOG ?? 'info'} }`,
          options.config ?? '',
          '',
        ].join('\n'),
      );
    }
    return cluster;
  }

  /** All agents running and one master elected. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const cluster = await Cluster.prepare(options);
    try {
      await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
      await cluster.master();
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  folder(node: NodeId): string {
    return join(this.lab.workDir, `node${node}`);
  }

  configFile(node: NodeId): string {
    return join(this.folder(node), 'mdmesh.yaml');
  }

  /** From its next start on. */
  install(node: NodeId, binary: string): void {
    this.#programs.set(node, binary);
  }

  programOf(node: NodeId): string {
    return this.#programs.get(node) ?? this.#program;
  }

  async startAgent(node: NodeId): Promise<void> {
    const argv = [this.programOf(node), 'agent', '--config', this.configFile(node)];
    const agent = await this.lab.guest(node).spawn(argv, { logFile: join(this.folder(node), 'agent.log') });
    this.#agents.set(node, agent);
    void agent.exited.then(() => this.#ended.add(agent));
  }

  /** The agent that was last started there has not ended. */
  agentRuns(node: NodeId): boolean {
    return !this.#ended.has(this.agent(node));
  }

  agent(node: NodeId): GuestProcess {
    const agent = this.#agents.get(node);
    if (agent === undefined) throw new Error(`no agent was started on node ${node}`);
    return agent;
  }

  /** Orderly: SIGTERM, and wait for the end. */
  async stopAgent(node: NodeId): Promise<void> {
    const agent = this.agent(node);
    await agent.signal('SIGTERM');
    await agent.exited;
  }

  /** Of each thread of a process there (proc(5)); `flags`: PF_… of <linux/sched.h>. */
  async threads(node: NodeId, pid: number): Promise<{ name: string; flags: number; nice: number }[]> {
    const lines = await this.lab.guest(node).must(`cat /proc/${pid}/task/*/stat`);
    return lines
      .trim()
      .split('\n')
      .map((line) => {
        const [, name = '', rest = ''] = /^\d+ \((.*)\) (.*)$/.exec(line) ?? [];
        const fields = rest.split(' ');
        return { name, flags: Number(fields[6]), nice: Number(fields[16]) };
      });
  }

  agentLog(node: NodeId): string {
    try {
      return readFileSync(join(this.folder(node), 'agent.log'), 'utf8');
    } catch {
      return '';
    }
  }

  /**
   * What an agent's API answers, whatever its status code. Not by curl: starting it for each look costs a busy guest a second.
   * @param body sent as JSON by POST, null: a POST of nothing; without it, it is a GET
   */
  async ask(
    node: NodeId,
    path: string,
    { body, timeoutMs }: { body?: object | null; timeoutMs?: number } = {},
  ): Promise<string> {
    const said = body == null ? '' : JSON.stringify(body);
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    const head = [
      `${body === undefined ? 'GET' : 'POST'} ${path} HTTP/1.0`,
      'host: mdmesh',
      `content-length: ${Buffer.byteLength(said)}`,
      ...(said === '' ? [] : ['content-type: application/json']),
    ];
    const answer = (
      await this.lab
        .guest(node)
        .exchange(SOCKET, `${head.join('\r\n')}\r\n\r\n${said}`, { ...(timeoutMs !== undefined && { timeoutMs }) })
    ).toString();
    const end = answer.indexOf('\r\n\r\n');
    if (end < 0)
      throw new Error(
        `${path} on node ${node}: no answer but ${JSON.stringify(answer.slice(0, 200))}\n${this.tail(node)}`,
      );
    return answer.slice(end + 4);
  }

  status(node: NodeId): Promise<Status> {
    return this.ask(node, '/v1/status').then((answer) => JSON.parse(answer));
  }

  async array(node: NodeId, md = 'md0'): Promise<Status['arrays'][number] | undefined> {
    return (await this.status(node)).arrays.find((array) => array.record.md === md);
  }

  /** The mdmesh command on a node. */
  async mdmesh(node: NodeId, words: string, timeoutMs = 60_000): Promise<Outcome> {
    return this.lab.guest(node).sh(`${this.programOf(node)} --config ${this.configFile(node)} ${words}`, { timeoutMs });
  }

  /** As `mdmesh`, and it must succeed. */
  async must(node: NodeId, words: string, timeoutMs?: number): Promise<string> {
    const { rc, out, err } = await this.mdmesh(node, words, timeoutMs);
    if (rc !== 0) throw new Error(`mdmesh ${words} on node ${node} ended with ${rc}: ${err}${out}\n${this.tail(node)}`);
    return out;
  }

  /** Any request straight to the API: quicker than starting the command in a slow guest. */
  async request(node: NodeId, request: object): Promise<{ ok: boolean; text: string }> {
    return JSON.parse(await this.ask(node, '/v1/requests', { body: request, timeoutMs: 70_000 }));
  }

  /** Waits until a node that answers calls itself master, and every answering node of `nodes` follows it. */
  async master(nodes: readonly NodeId[] = this.nodes, timeoutMs = 30_000): Promise<NodeId> {
    return this.until(`one master among ${nodes.join(', ')}`, timeoutMs, async () => {
      const seen = await Promise.all(nodes.map((node) => this.status(node).catch(() => null)));
      const masters = new Set(seen.map((status) => status?.lease.master ?? null));
      const [master] = masters;
      if (masters.size !== 1 || master == null) return null;
      return seen.some((status) => status?.self === master && status.lease.role === 'master') ? master : null;
    });
  }

  /** Waits until the array is open for writes on these nodes and no copy is under way. */
  async open(nodes: readonly NodeId[] = this.nodes, md = 'md0', timeoutMs = 60_000): Promise<ArrayRecord> {
    return this.until(`${md} open on ${nodes.join(', ')}`, timeoutMs, () => this.opened(nodes, md));
  }

  /** Its record, if it is open there now. */
  async opened(nodes: readonly NodeId[] = this.nodes, md = 'md0'): Promise<ArrayRecord | null> {
    const arrays = await Promise.all(nodes.map((node) => this.array(node, md).catch(() => undefined)));
    const first = arrays[0]?.record;
    const settled = arrays.every(
      (array) =>
        array?.local != null &&
        !array.local.held &&
        array.record.resync === null &&
        array.trouble === null &&
        array.record.version.index === first?.version.index &&
        nodes.every((node) => array.record.writers.includes(node)),
    );
    return settled && first !== undefined ? first : null;
  }

  async until<T>(what: string, usualMs: number, look: () => Promise<T | null | undefined | false>): Promise<T> {
    const timeoutMs = patient(usualMs);
    const end = Date.now() + timeoutMs;
    let last = '';
    for (;;) {
      try {
        const seen = await look();
        if (seen !== null && seen !== undefined && seen !== false) return seen;
      } catch (error) {
        last = error instanceof Error ? error.message : String(error);
      }
      if (Date.now() > end) {
        const logs = this.nodes.map((node) => this.tail(node)).join('\n');
        throw new Error(`after ${timeoutMs / 1000} s still not: ${what} ${last}\n${logs}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  tail(node: NodeId, lines = 25): string {
    return `--- agent ${node} ---\n${this.agentLog(node).split('\n').slice(-lines).join('\n')}`;
  }

  async close(): Promise<void> {
    for (const node of this.nodes) this.#keepState(node);
    await this.lab.close();
  }

  /** For who looks at journals afterwards: what is in memory goes with the laboratory. */
  #keepState(node: NodeId): void {
    const state = join(this.folder(node), 'state');
    if (!existsSync(state) || !lstatSync(state).isSymbolicLink()) return;
    const kept = `${state}-kept`;
    cpSync(realpathSync(state), kept, { recursive: true });
    rmSync(state);
    renameSync(kept, state);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
