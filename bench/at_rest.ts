/**
 * What an agent costs while nothing happens: one mirror, open on all nodes, nobody writing.
 *
 * The processor's time is that of the guest's processes on the host, less what the guest takes without an agent. What the
 * guest itself counts for the agent is told too: on a host with other work it counts the time in which the host did that.
 */
import { readFileSync } from 'node:fs';
import { Cluster } from '../test/lab/cluster.ts';
import { groupMembers } from '../test/lab/guest/registry.ts';
import { makeMirror } from './arrays.ts';
import type { Measured } from './figure.ts';
import { pause } from './guest_tools.ts';

const LONG = process.env.LONG === '1';
/** V8 compiles what runs often for a while. */
const SETTLE_MS = 20_000;
const BARE_MS = 10_000;
const SPAN_MS = LONG ? 600_000 : 30_000;
/** USER_HZ, in which /proc/PID/stat counts. */
export const TICKS_A_SECOND = 100;

interface Reading {
  host: HostTime;
  cpuSeconds: number;
  uptimeSeconds: number;
  rssMib: number;
}

interface HostTime {
  cpuSeconds: number;
  atSeconds: number;
}

function hostTime(cluster: Cluster, node: number): HostTime {
  let ticks = 0;
  for (const pid of groupMembers(cluster.lab.guest(node).hostPid)) {
    ticks += cpuTicks(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  }
  return { cpuSeconds: ticks / TICKS_A_SECOND, atSeconds: performance.now() / 1000 };
}

export function cpuTicks(stat: string): number {
  const fields = stat.replace(/^.*\) /s, '').split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

const percent = (from: HostTime, to: HostTime): number =>
  (100 * (to.cpuSeconds - from.cpuSeconds)) / (to.atSeconds - from.atSeconds);

async function read(cluster: Cluster, node: number): Promise<Reading> {
  const guest = cluster.lab.guest(node);
  const { pid } = cluster.agent(node);
  const [stat, status, uptime] = await Promise.all(
    [`/proc/${pid}/stat`, `/proc/${pid}/status`, '/proc/uptime'].map((path) => guest.readFile(path)),
  );
  return {
    host: hostTime(cluster, node),
    cpuSeconds: cpuTicks(stat ?? '') / TICKS_A_SECOND,
    uptimeSeconds: Number(uptime?.split(' ')[0]),
    rssMib: Number(/^VmRSS:\s+(\d+) kB$/m.exec(status ?? '')?.[1]) / 1024,
  };
}

export async function atRest(): Promise<Measured[]> {
  await using cluster = await Cluster.prepare({ name: 'bench-rest', diskMib: [64, 64], prefault: false });
  const hostTimes = (): HostTime[] => cluster.nodes.map((node) => hostTime(cluster, node));
  await pause(2000);
  const bareFrom = hostTimes();
  await pause(BARE_MS);
  const bare = hostTimes().map((time, index) => percent(bareFrom[index] ?? time, time));
  await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
  await cluster.master();
  await makeMirror(cluster);
  await pause(SETTLE_MS);
  const cpu: number[] = [];
  const counted: number[] = [];
  const rss: number[] = [];
  const growth: number[] = [];
  const before = await Promise.all(cluster.nodes.map((node) => read(cluster, node)));
  await pause(SPAN_MS);
  const after = await Promise.all(cluster.nodes.map((node) => read(cluster, node)));
  after.forEach((reading, index) => {
    const first = before[index];
    if (first === undefined) return;
    cpu.push(percent(first.host, reading.host) - (bare[index] ?? 0));
    counted.push((100 * (reading.cpuSeconds - first.cpuSeconds)) / (reading.uptimeSeconds - first.uptimeSeconds));
    rss.push(reading.rssMib);
    growth.push(reading.rssMib - first.rssMib);
  });
  return [
    { name: 'idle_cpu_percent', unit: '% of a core', samples: cpu, peer: 2.2, goal: { atMost: 1 } },
    { name: 'idle_cpu_percent_by_guest', unit: '% of a core', samples: counted },
    { name: 'rss_mib', unit: 'MiB', samples: rss, peer: 164, goal: { atMost: 120 } },
    { name: `rss_growth_mib_in_${SPAN_MS / 1000}_s`, unit: 'MiB', samples: growth },
  ];
}
