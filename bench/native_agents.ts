/** Three agents on this machine itself, over loopback, with no array: a host has no disks to share with itself. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateIdentity, saveIdentity } from '../src/wire/index.ts';

const NODES = [1, 2, 3];
const FIRST_PORT = 17946;

export class NativeAgents implements AsyncDisposable {
  readonly #folder: string;
  agents: ChildProcess[] = [];

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Keys and configurations; no agent runs yet. */
  static async prepare(): Promise<NativeAgents> {
    const all = new NativeAgents(mkdtempSync(join(tmpdir(), 'mdmesh-native-')));
    const identities = await Promise.all(NODES.map(() => generateIdentity()));
    const list = identities.map(
      ({ peerId }, index) =>
        `  - { id: ${index + 1}, address: 127.0.0.1, port: ${FIRST_PORT + index}, peer_id: ${peerId} }`,
    );
    for (const [index, identity] of identities.entries()) {
      const own = all.#own(index + 1);
      mkdirSync(join(own, 'state'), { recursive: true });
      await saveIdentity(join(own, 'key'), identity);
      const config = [
        'cluster: { name: demo, uuid: 6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9002 }',
        'nodes:',
        ...list,
        `key_file: ${join(own, 'key')}`,
        `state_dir: ${join(own, 'state')}`,
        `socket: { path: ${join(own, 'socket')}, mode: "0600" }`,
        'fencing: { methods: [manual] }',
        'arrays: { auto_assemble: false, devices: [/dev/none] }',
        '',
      ];
      writeFileSync(join(own, 'mdmesh.yaml'), config.join('\n'));
    }
    return all;
  }

  /** All of them at once, or these. Their logs are to be read: `stdout` is a pipe. */
  start(program: string, nodes: readonly number[] = NODES): ChildProcess[] {
    const started = nodes.map((node) => {
      const words = ['agent', '--config', join(this.#own(node), 'mdmesh.yaml')];
      return spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'] });
    });
    this.agents.push(...started);
    return started;
  }

  async kill(): Promise<void> {
    await Promise.all(
      this.agents.splice(0).map((agent) => {
        const ended = new Promise((resolve) => agent.once('exit', resolve));
        return agent.kill('SIGKILL') && ended;
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true });
  }

  #own(node: number): string {
    return join(this.#folder, `node${node}`);
  }
}
