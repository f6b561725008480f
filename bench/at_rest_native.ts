/**
 * What an agent costs at rest where a system call costs what it should: three of them on this machine itself, over loopback,
 * with no array (a host has no disks to share with itself). Told beside the figure from User-Mode Linux, not instead of it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateIdentity, saveIdentity } from '../src/wire/index.ts';
import { program } from '../test/lab/cluster.ts';
import { cpuTicks, TICKS_A_SECOND } from './at_rest.ts';
import type { Measured } from './figure.ts';
import { pause } from './guest_tools.ts';

const NODES = [1, 2, 3];
const FIRST_PORT = 17946;
/** An election, and V8 compiles what runs often for a while. */
const SETTLE_MS = 30_000;
const SPAN_MS = 60_000;

async function startAgents(folder: string): Promise<ChildProcess[]> {
  const identities = await Promise.all(NODES.map(() => generateIdentity()));
  const list = identities.map(
    ({ peerId }, index) =>
      `  - { id: ${index + 1}, address: 127.0.0.1, port: ${FIRST_PORT + index}, peer_id: ${peerId} }`,
  );
  return Promise.all(
    identities.map(async (identity, index) => {
      const own = join(folder, `node${index + 1}`);
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
      return spawn(program, ['agent', '--config', join(own, 'mdmesh.yaml')], { stdio: 'ignore' });
    }),
  );
}

function cpuSeconds({ pid }: ChildProcess): number {
  return cpuTicks(readFileSync(`/proc/${pid}/stat`, 'utf8')) / TICKS_A_SECOND;
}

export async function atRestNative(): Promise<Measured[]> {
  const folder = mkdtempSync(join(tmpdir(), 'mdmesh-rest-'));
  const agents = await startAgents(folder);
  try {
    await pause(SETTLE_MS);
    const before = agents.map(cpuSeconds);
    const fromMs = performance.now();
    await pause(SPAN_MS);
    const seconds = (performance.now() - fromMs) / 1000;
    const samples = agents.map((agent, index) => (100 * (cpuSeconds(agent) - (before[index] ?? 0))) / seconds);
    return [{ name: 'idle_cpu_percent_native', unit: '% of a core', samples, goal: { atMost: 1 } }];
  } finally {
    await Promise.all(
      agents.map((agent) => {
        const ended = new Promise((resolve) => agent.once('exit', resolve));
        agent.kill('SIGKILL');
        return ended;
      }),
    );
    rmSync(folder, { recursive: true });
  }
}
