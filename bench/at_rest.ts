/** What an agent costs while nothing happens: one mirror, open on all nodes, nobody writing. */
import { Cluster } from '../test/lab/cluster.ts';
import { makeMirror } from './arrays.ts';
import type { Measured } from './figure.ts';
import { pause } from './guest_tools.ts';

const LONG = process.env.LONG === '1';
const SETTLE_MS = 10_000;
const SPAN_MS = LONG ? 600_000 : 30_000;
/** USER_HZ, in which /proc/PID/stat counts. */
const TICKS_A_SECOND = 100;

interface Reading {
  cpuSeconds: number;
  uptimeSeconds: number;
  rssMib: number;
}

async function read(cluster: Cluster, node: number): Promise<Reading> {
  const guest = cluster.lab.guest(node);
  const { pid } = cluster.agent(node);
  const [stat, status, uptime] = await Promise.all(
    [`/proc/${pid}/stat`, `/proc/${pid}/status`, '/proc/uptime'].map((path) => guest.readFile(path)),
  );
  const fields = stat?.replace(/^.*\) /, '').split(' ') ?? [];
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND,
    uptimeSeconds: Number(uptime?.split(' ')[0]),
    rssMib: Number(/^VmRSS:\s+(\d+) kB$/m.exec(status ?? '')?.[1]) / 1024,
  };
}

export async function atRest(): Promise<Measured[]> {
  await using cluster = await Cluster.start({ name: 'bench-rest', diskMib: [64, 64] });
  await makeMirror(cluster);
  await pause(SETTLE_MS);
  const cpu: number[] = [];
  const rss: number[] = [];
  const growth: number[] = [];
  const before = await Promise.all(cluster.nodes.map((node) => read(cluster, node)));
  await pause(SPAN_MS);
  const after = await Promise.all(cluster.nodes.map((node) => read(cluster, node)));
  after.forEach((reading, index) => {
    const first = before[index];
    if (first === undefined) return;
    cpu.push((100 * (reading.cpuSeconds - first.cpuSeconds)) / (reading.uptimeSeconds - first.uptimeSeconds));
    rss.push(reading.rssMib);
    growth.push(reading.rssMib - first.rssMib);
  });
  return [
    { name: 'idle_cpu_percent', unit: '% of a core', samples: cpu, peer: 2.2, goal: { atMost: 1 } },
    { name: 'rss_mib', unit: 'MiB', samples: rss, peer: 164, goal: { atMost: 120 } },
    { name: `rss_growth_mib_in_${SPAN_MS / 1000}_s`, unit: 'MiB', samples: growth },
  ];
}
