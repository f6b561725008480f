/** Nodes lose power: how soon there is a new master, and how soon the survivors' writes flow again. */
import { Cluster } from '../test/lab/cluster.ts';
import { startInOrder } from '../test/lab/writers.ts';
import { makeMirror } from './arrays.ts';
import { Clocks } from './clocks.ts';
import type { Measured } from './figure.ts';
import {
  allOver,
  bootAgain,
  longestPauseMs,
  pause,
  toldAtMs,
  untilEvicted,
  victimOf,
  type WriteSummary,
  writeSummary,
} from './guest_tools.ts';
import { resyncSpan } from './kernel_log.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 5);

async function back(cluster: Cluster, node: number): Promise<void> {
  await bootAgain(cluster.lab.guest(node));
  await cluster.startAgent(node);
  await cluster.open();
}

export async function masterFailover(): Promise<Measured[]> {
  await using cluster = await Cluster.start({ name: 'bench-failover', diskMib: [64, 64], bootTimeoutMs: 20_000 });
  await makeMirror(cluster);
  const samples: number[] = [];
  for (let count = 0; count < ROUNDS; count++) {
    const master = await cluster.master();
    const rest = cluster.nodes.filter((node) => node !== master);
    const clocks = await Clocks.of(cluster.lab);
    const killedMs = Clocks.nowMs();
    cluster.lab.guest(master).killNow();
    const next = await cluster.master(rest);
    samples.push((await toldAtMs(cluster, clocks, next, 'MasterElected', killedMs)) - killedMs);
    process.stderr.write(`master ${master} killed, ${next} elected: ${samples.at(-1)?.toFixed(0)} ms\n`);
    await back(cluster, master);
  }
  return [{ name: 'master_failover_ms', unit: 'ms', samples, goal: { atMost: 4000 } }];
}

/**
 * As `masterFailover`, on a SAN with reservations and under writers: until the last write that was held on a survivor is released. A write
 * that was under way when the next master was elected waits for it; who has none then has held nothing.
 */
export async function fencedFailover(): Promise<Measured[]> {
  await using cluster = await Cluster.prepare({
    name: 'bench-fenced',
    diskMib: [64, 64],
    bootTimeoutMs: 20_000,
    luns: [{ device: '/dev/ubda' }, { device: '/dev/ubdb' }],
    fencing: () => '{ methods: [reservation] }',
  });
  await startInOrder(cluster);
  await makeMirror(cluster, { devices: ['/dev/sda', '/dev/sdb'] });
  const samples: number[] = [];
  for (let count = 0; count < ROUNDS; count++) {
    const master = await cluster.master();
    const rest = cluster.nodes.filter((node) => node !== master);
    const clocks = await Clocks.of(cluster.lab);
    const writers = await Promise.all(rest.map((node) => allOver(cluster, node, { rate: 200, pauseMs: 2 })));
    // Until what keys are on the disks is known everywhere.
    await pause(3000);
    const killedMs = Clocks.nowMs();
    cluster.lab.guest(master).killNow();
    const next = await cluster.master(rest);
    const electedMs = await toldAtMs(cluster, clocks, next, 'MasterElected', killedMs);
    await untilEvicted(cluster, next, master);
    const ends = await Promise.all(
      writers.map(async (writer, index) => {
        const node = rest[index] ?? 0;
        const { pauses } = writeSummary(await writer.end(), node);
        const held = pauses.list.map(({ wallMs, lengthMs }) => ({ fromMs: clocks.hostMs(node, wallMs), lengthMs }));
        return held.flatMap(({ fromMs, lengthMs }) => {
          const isUnderWay = fromMs <= electedMs && fromMs + lengthMs >= electedMs;
          return isUnderWay ? [fromMs + lengthMs] : [];
        });
      }),
    );
    samples.push(Math.max(electedMs, ...ends.flat()) - killedMs);
    process.stderr.write(
      `master ${master} killed, ${next} elected after ${(electedMs - killedMs).toFixed(0)} ms, writes released after ${samples.at(-1)?.toFixed(0)} ms\n`,
    );
    await bootAgain(cluster.lab.guest(master));
    await cluster.san.connect(cluster.lab.guest(master));
    await cluster.startAgent(master);
    await cluster.open();
  }
  return [{ name: 'fenced_failover_ms', unit: 'ms', samples, goal: { atMost: 2500 } }];
}

/** A killed writer leaves copies that may differ: when does a survivor's md begin to make them equal, and what do the others' writers notice? */
export async function nodeDeath(): Promise<Measured[]> {
  await using cluster = await Cluster.start({ name: 'bench-death', diskMib: [64, 64], bootTimeoutMs: 20_000 });
  await makeMirror(cluster);
  const begun: number[] = [];
  const pauses: number[] = [];
  for (let count = 0; count < ROUNDS; count++) {
    const master = await cluster.master();
    const victim = victimOf(cluster, master, count);
    const rest = cluster.nodes.filter((node) => node !== victim);
    const clocks = await Clocks.of(cluster.lab);
    const writers = await Promise.all(cluster.nodes.map((node) => allOver(cluster, node, { rate: 200, pauseMs: 2 })));
    await pause(1000);
    const killedMs = Clocks.nowMs();
    cluster.lab.guest(victim).killNow();
    await untilEvicted(cluster, master, victim);
    await pause(500);
    const summaries = new Map<number, WriteSummary>();
    for (const node of rest) {
      const text = (await writers[cluster.nodes.indexOf(node)]?.end()) ?? '';
      summaries.set(node, writeSummary(text, node));
    }
    begun.push((await resyncSpan(cluster.lab.guest(master), 'md0', killedMs)).fromMs - killedMs);
    pauses.push(longestPauseMs(summaries, clocks, killedMs, Clocks.nowMs()) ?? 2);
    process.stderr.write(
      `node ${victim} killed: resync begun after ${begun.at(-1)?.toFixed(0)} ms, longest pause ${pauses.at(-1)?.toFixed(0)} ms\n`,
    );
    await back(cluster, victim);
  }
  return [
    { name: 'node_death_resync_start_ms', unit: 'ms', samples: begun, peer: 3900, goal: { atMost: 3500 } },
    { name: 'node_death_writer_pause_ms', unit: 'ms', samples: pauses, goal: { atMost: 40 } },
  ];
}
