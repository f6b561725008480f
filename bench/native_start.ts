/**
 * From an agent's start to the moment at which it has said that it has both others, on this machine itself: what a start costs where a page
 * fault and a system call cost what they should. One that joins two which run, as on a machine of its own; and three at once, which
 * share this one's cores. `dist/mdmesh`, its file in the cache.
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Measured } from './figure.ts';
import { NativeAgents } from './native_agents.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 10);
const PATIENCE_MS = 30_000;
const OTHERS = 2;
/** Those that run have elected, and are at rest. */
const SETTLE_MS = 4000;

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
  const joining: number[] = [];
  const together: number[] = [];
  const timed = async (nodes?: readonly number[]): Promise<number> => {
    const startedMs = performance.now();
    await Promise.all(native.start(binary, nodes).map((agent) => hasAll(agent, OTHERS)));
    return performance.now() - startedMs;
  };
  for (let count = 0; count < ROUNDS; count++) {
    together.push(await timed());
    await native.kill();
    const running = native.start(binary, [1, 2]).map((agent) => hasAll(agent, 1));
    await Promise.all(running);
    await sleep(SETTLE_MS);
    joining.push(await timed([3]));
    process.stderr.write(
      `one beside two: ${joining.at(-1)?.toFixed(0)} ms; three at once: ${together.at(-1)?.toFixed(0)} ms\n`,
    );
    await native.kill();
  }
  return [
    { name: 'agent_start_connected_ms', unit: 'ms', samples: joining, goal: { atMost: 600 } },
    { name: 'agents_start_connected_ms', unit: 'ms', samples: together },
  ];
}
