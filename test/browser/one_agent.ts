/** The built program as an agent that is alone in its cluster, with no array, on this machine itself: in a process, on loopback. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { generateIdentity, saveIdentity } from '#src/wire/index.ts';
import { freePorts } from '../net/free_ports.ts';

export class OneAgent {
  readonly origin: string;
  readonly #folder: string;
  readonly #program: string;
  #process: ChildProcess | null = null;

  private constructor(program: string, folder: string, port: number) {
    this.#program = program;
    this.#folder = folder;
    this.origin = `http://127.0.0.1:${port}`;
  }

  static async start(t: TestContext, program: string, secret: string | null = null): Promise<OneAgent> {
    const folder = mkdtempSync(join(tmpdir(), 'mdmesh-page-'));
    const [port = 0, api = 0] = await freePorts(2);
    const identity = await generateIdentity();
    mkdirSync(join(folder, 'state'));
    await saveIdentity(join(folder, 'key'), identity);
    if (secret !== null) writeFileSync(join(folder, 'token'), `${secret}\n`, { mode: 0o600 });
    const tokenFile = secret === null ? '' : `, token_file: ${join(folder, 'token')}`;
    const config = [
      'cluster: { name: alone, uuid: 6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9003 }',
      'nodes:',
      `  - { id: 1, address: 127.0.0.1, port: ${port}, peer_id: ${identity.peerId} }`,
      `key_file: ${join(folder, 'key')}`,
      `state_dir: ${join(folder, 'state')}`,
      `socket: { path: ${join(folder, 'socket')}, mode: "0600" }`,
      `api: { listen: "127.0.0.1:${api}"${tokenFile} }`,
      'fencing: { methods: [manual] }',
      'arrays: { auto_assemble: false, devices: [/dev/none] }',
      '',
    ];
    writeFileSync(join(folder, 'mdmesh.yaml'), config.join('\n'));
    const agent = new OneAgent(program, folder, api);
    t.after(async () => {
      await agent.stop('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    });
    await agent.begin();
    return agent;
  }

  /** Resolves when the page can be had. */
  async begin(): Promise<void> {
    const child = spawn(this.#program, ['agent', '--config', join(this.#folder, 'mdmesh.yaml')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#process = child;
    let log = '';
    child.stdout.setEncoding('utf8');
    for await (const text of child.stdout) {
      log += text;
      if (log.includes('API listens, read-only')) break;
    }
    assert.match(log, /API listens, read-only/);
  }

  get socketPath(): string {
    return join(this.#folder, 'socket');
  }

  residentMib(): number {
    const [, kib = ''] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.#process?.pid}/status`, 'utf8')) ?? [];
    return Number(kib) / 1024;
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#process;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }
}
