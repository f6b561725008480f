/** Agents start, all at once or one that comes back: how long until the array is open for writes there? */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster } from '../test/lab/cluster.ts';
import { makeMirror } from './arrays.ts';
import { Clocks } from './clocks.ts';
import type { Measured } from './figure.ts';
import { bootAgain, pause, toldAtMs, untilEvicted, victimOf } from './guest_tools.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 5);

export async function startToActive(): Promise<Measured[]> {
  await using cluster = await Cluster.start({ name: 'bench-start', diskMib: [64, 64] });
  await makeMirror(cluster);
  const samples: number[] = [];
  for (let count = 0; count < ROUNDS; count++) {
    await Promise.all(cluster.nodes.map((node) => cluster.stopAgent(node)));
    await Promise.all(cluster.lab.guests.map((guest) => guest.must('sync')));
    await cluster.lab.powerCut();
    await cluster.lab.bootAll();
    for (const node of cluster.nodes) writeFileSync(join(cluster.folder(node), 'agent.log'), '');
    await pause(1500);
    const clocks = await Clocks.of(cluster.lab);
    const startedMs = Clocks.nowMs();
    await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
    // Not asked for its status meanwhile: that would cost the cores it starts on.
    await pause(2000);
    const open = await Promise.all(
      cluster.nodes.map((node) => toldAtMs(cluster, clocks, node, 'WritesEnabled', startedMs)),
    );
    samples.push(Math.max(...open) - startedMs);
    process.stderr.write(`open on all nodes after ${samples.at(-1)?.toFixed(0)} ms\n`);
    await cluster.open();
  }
  return [{ name: 'start_to_active_ms', unit: 'ms', samples, peer: 15_000, goal: { atMost: 3000 } }];
}

export async function nodeReturn(): Promise<Measured[]> {
  await using cluster = await Cluster.start({
    name: 'bench-return',
    diskMib: [64, 64],
    bootTimeoutMs: 20_000,
  });
  await makeMirror(cluster);
  const samples: number[] = [];
  for (let count = 0; count < ROUNDS; count++) {
    const master = await cluster.master();
    const victim = victimOf(cluster, master, count);
    const guest = cluster.lab.guest(victim);
    guest.killNow();
    await untilEvicted(cluster, master, victim);
    await bootAgain(guest);
    await pause(1500);
    const clocks = await Clocks.of(cluster.lab);
    const startedMs = Clocks.nowMs();
    await cluster.startAgent(victim);
    await pause(1500);
    samples.push((await toldAtMs(cluster, clocks, victim, 'WritesEnabled', startedMs)) - startedMs);
    process.stderr.write(`open on node ${victim} after ${samples.at(-1)?.toFixed(0)} ms\n`);
    await cluster.open();
  }
  return [{ name: 'node_return_active_ms', unit: 'ms', samples, goal: { atMost: 3000 } }];
}
