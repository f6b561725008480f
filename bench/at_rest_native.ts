/**
 * What an agent costs at rest where a system call costs what it should: three of them on this machine itself, over loopback,
 * with no array (a host has no disks to share with itself). Told beside the figure from User-Mode Linux, not instead of it.
 */
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { program } from '../test/lab/cluster.ts';
import { cpuTicks, TICKS_A_SECOND } from './at_rest.ts';
import type { Measured } from './figure.ts';
import { pause } from './guest_tools.ts';
import { NativeAgents } from './native_agents.ts';

/** An election, and V8 compiles what runs often for a while. */
const SETTLE_MS = 30_000;
const SPAN_MS = 60_000;

function cpuSeconds({ pid }: ChildProcess): number {
  return cpuTicks(readFileSync(`/proc/${pid}/stat`, 'utf8')) / TICKS_A_SECOND;
}

export async function atRestNative(): Promise<Measured[]> {
  await using native = await NativeAgents.prepare();
  native.start(program);
  const { agents } = native;
  for (const agent of agents) agent.stdout?.resume();
  await pause(SETTLE_MS);
  const before = agents.map(cpuSeconds);
  const fromMs = performance.now();
  await pause(SPAN_MS);
  const seconds = (performance.now() - fromMs) / 1000;
  const samples = agents.map((agent, index) => (100 * (cpuSeconds(agent) - (before[index] ?? 0))) / seconds);
  return [{ name: 'idle_cpu_percent_native', unit: '% of a core', samples, goal: { atMost: 1 } }];
}
