/**
 * From the start of three agents to the moment at which each of them has said that it has both others, on this machine itself: what a
 * start costs where a page fault and a system call cost what they should. `dist/mdmesh`, its file in the cache.
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Measured } from './figure.ts';
import { NativeAgents } from './native_agents.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 10);
const PATIENCE_MS = 30_000;

/** Resolves once its log has told of so many other nodes. */
function hasAll(agent: ChildProcess, others: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`agent ${agent.pid} did not find the others`)), PATIENCE_MS);
    const joined = new Set<number>();
    if (agent.stdout === null) throw new Error('an agent whose log is not read');
    createInterface(agent.stdout).on('line', (line) => {
      const { event, detail }: { event?: string; detail?: { node: number } } = JSON.parse(line);
      // What another node tells of has no detail in the log.
      if (event !== 'NodeJoined' || detail === undefined) return;
      joined.add(detail.node);
      if (joined.size < others) return;
      clearTimeout(late);
      resolve();
    });
  });
}

export async function nativeStart(): Promise<Measured[]> {
  const binary = join(import.meta.dirname, '../dist/mdmesh');
  if (!existsSync(binary)) throw new Error(`no ${binary}; run make dist`);
  await using native = await NativeAgents.prepare();
  const samples: number[] = [];
  for (let count = 0; count < ROUNDS; count++) {
    const startedMs = performance.now();
    native.start(binary);
    await Promise.all(native.agents.map((agent, _, all) => hasAll(agent, all.length - 1)));
    samples.push(performance.now() - startedMs);
    process.stderr.write(`connected after ${samples.at(-1)?.toFixed(0)} ms\n`);
    await native.kill();
  }
  return [{ name: 'agent_start_connected_ms', unit: 'ms', samples, goal: { atMost: 600 } }];
}
