/** Whole agents as processes of this machine, on loopback, with no array: for tests of what others may do to them. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freshVote } from '#src/cli/keygen.ts';
import type { PeerEntry } from '#src/net/index.ts';
import type { Status } from '#src/outlets/index.ts';
import { type Identity, saveIdentity } from '#src/wire/index.ts';
import { call } from '../unit/outlets_client.ts';
import { cluster, plan } from './processes.ts';

export class RealAgents {
  readonly nodes: PeerEntry[];
  readonly identities: Identity[];
  readonly #folder: string;
  readonly #more: string;
  readonly #children = new Map<number, ChildProcess>();

  private constructor(nodes: PeerEntry[], identities: Identity[], folder: string, more: string) {
    this.nodes = nodes;
    this.identities = identities;
    this.#folder = folder;
    this.#more = more;
  }

  /** @param more lines of the configuration; of `{folder}` each node has its own */
  static async plan(t: TestContext, count: number, more = ''): Promise<RealAgents> {
    const { nodes, identities } = await plan(count);
    const agents = new RealAgents(nodes, identities, mkdtempSync(join(tmpdir(), 'mdmesh-agents-')), more);
    t.after(async () => {
      for (const node of agents.#children.keys()) await agents.kill(node);
      rmSync(agents.#folder, { recursive: true, force: true });
    });
    return agents;
  }

  /** Resolves when its API answers. */
  async start(node: number): Promise<void> {
    const identity = this.identities[node - 1];
    assert(identity);
    const folder = this.folder(node);
    mkdirSync(join(folder, 'state'), { recursive: true });
    await saveIdentity(join(folder, 'key'), identity);
    // As keygen lays it: a node without one waits for the word of the whole list before it votes.
    const vote = join(folder, 'state', 'vote.json');
    if (!existsSync(vote)) writeFileSync(vote, `${JSON.stringify(freshVote)}\n`);
    const config = [
      `cluster: { name: alone, uuid: ${cluster} }`,
      'nodes:',
      ...this.nodes.map(
        ({ id, address, port, peerId }) => `  - { id: ${id}, address: ${address}, port: ${port}, peer_id: ${peerId} }`,
      ),
      `key_file: ${join(folder, 'key')}`,
      `state_dir: ${join(folder, 'state')}`,
      `socket: { path: ${this.socket(node)}, mode: "0600" }`,
      'fencing: { methods: [manual] }',
      'arrays: { auto_assemble: false, devices: [/dev/none] }',
      this.#more.replaceAll('{folder}', folder),
      '',
    ];
    writeFileSync(join(folder, 'mdmesh.yaml'), config.join('\n'));
    const program = fileURLToPath(new URL('../../src/cli/mdmesh.ts', import.meta.url));
    const child = spawn(
      process.execPath,
      ['--no-warnings', program, 'agent', '--config', join(folder, 'mdmesh.yaml')],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    this.#children.set(node, child);
    let log = '';
    child.stdout.setEncoding('utf8');
    await new Promise<void>((resolve, reject) => {
      child.stdout.on('data', (text: string) => {
        this.logBytes.set(node, (this.logBytes.get(node) ?? 0) + text.length);
        if (log.includes('API listens')) return;
        log += text;
        if (log.includes('API listens')) resolve();
      });
      child.once('exit', () => reject(new Error(`node ${node} ended: ${log}`)));
    });
  }

  /** What each has written to its log. */
  readonly logBytes = new Map<number, number>();

  folder(node: number): string {
    return join(this.#folder, `n${node}`);
  }

  socket(node: number): string {
    return join(this.folder(node), 'socket');
  }

  pid(node: number): number {
    return this.#children.get(node)?.pid ?? 0;
  }

  /** Each thread's /proc status. */
  threads(node: number): string[] {
    const tasks = `/proc/${this.pid(node)}/task`;
    return readdirSync(tasks).map((thread) => readFileSync(`${tasks}/${thread}/status`, 'utf8'));
  }

  async status(node: number): Promise<Status> {
    const { answer } = await call(this.socket(node), '/v1/status');
    // The API's own words, held against their schema elsewhere.
    return answer as Status;
  }

  async until(node: number, condition: (status: Status) => boolean, words: string): Promise<Status> {
    for (let waited = 0; ; waited += 1) {
      const status = await this.status(node);
      if (condition(status)) return status;
      assert(waited < 1200, `never: ${words}: ${JSON.stringify(status)}`);
      await sleep(50);
    }
  }

  async kill(node: number): Promise<void> {
    const child = this.#children.get(node);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }
}
