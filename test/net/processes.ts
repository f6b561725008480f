/** Agents as processes: start, listen to, kill and freeze. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { privateKeyToProtobuf } from '@libp2p/crypto/keys';
import type { PeerEntry } from '#src/net/index.ts';
import { generateIdentity, type Identity } from '#src/wire/index.ts';
import type { AgentLine, AgentSpec } from './agent.ts';
import { freePorts } from './free_ports.ts';

export const cluster = '11111111-1111-4111-8111-111111111111';
export const boot = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;

export async function plan(count: number): Promise<{ nodes: PeerEntry[]; identities: Identity[] }> {
  const identities = await Promise.all(Array.from({ length: count }, generateIdentity));
  const ports = await freePorts(count);
  const nodes = identities.map((identity, at) => ({
    id: at + 1,
    address: '127.0.0.1',
    port: ports[at] ?? 0,
    peerId: identity.peerId,
  }));
  return { nodes, identities };
}

export class AgentProcess {
  readonly lines: AgentLine[] = [];
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  constructor(node: number, bootNumber: number, nodes: PeerEntry[], identity: Identity) {
    const spec: AgentSpec = {
      key: Buffer.from(privateKeyToProtobuf(identity.privateKey)).toString('base64'),
      cluster,
      self: node,
      nodes,
      hello: { boot: boot(node * 1000 + bootNumber), bootNumber, version: 'test' },
    };
    const script = fileURLToPath(new URL('./agent.ts', import.meta.url));
    this.#child = spawn(process.execPath, [script, JSON.stringify(spec)], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#ended = new Promise((resolve) => this.#child.once('exit', () => resolve()));
    const { stdout } = this.#child;
    if (stdout !== null) createInterface({ input: stdout }).on('line', (line) => this.lines.push(JSON.parse(line)));
  }

  tells(type: AgentLine['type']): boolean {
    return this.lines.some((line) => line.type === type);
  }

  freeze(): void {
    this.#child.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child.kill('SIGCONT');
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}
