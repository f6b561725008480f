/**
 * Sequential O_DIRECT writes to a mirror under mdmesh against the same mirror, on the same disks and in the same guest,
 * assembled by mdadm: released to it and adopted back in turns, so that the machine's moods fall on both alike.
 */
import { Cluster } from '../test/lab/cluster.ts';
import { ask, makeMirror } from './arrays.ts';
import { type Measured, median } from './figure.ts';
import { jsonLines } from './guest_tools.ts';

const TURNS = Number(process.env.ROUNDS ?? 5);
const SECONDS = 3;
const SIZES = [
  { name: '4k', bytes: '4k' },
  { name: '1m', bytes: '1m' },
] as const;

interface BenchLine {
  bytesPerSecond: number;
  errors: number;
}

async function mibPerSecond(cluster: Cluster, node: number, bytes: string): Promise<number> {
  const words = `bench --device /dev/md0 --bs ${bytes} --seconds ${SECONDS}`;
  const text = await cluster.lab.guest(node).must(`${cluster.lab.mdio} ${words}`, { timeoutMs: 60_000 });
  const [line] = jsonLines<BenchLine>(text);
  if (line === undefined || line.errors > 0) throw new Error(`mdio ${words}: ${text}`);
  return line.bytesPerSecond / 1024 ** 2;
}

export async function writeRatio(): Promise<Measured[]> {
  await using cluster = await Cluster.start({ name: 'bench-ratio', diskMib: [256, 256] });
  await makeMirror(cluster);
  const node = await cluster.master();
  const guest = cluster.lab.guest(node);
  const uuid = (await cluster.array(node))?.record.uuid ?? '';
  const ours = new Map<string, number[]>(SIZES.map(({ name }) => [name, []]));
  const plain = new Map<string, number[]>(SIZES.map(({ name }) => [name, []]));
  for (let turn = 0; turn < TURNS; turn++) {
    for (const { name, bytes } of SIZES) ours.get(name)?.push(await mibPerSecond(cluster, node, bytes));
    await ask(cluster, { verb: 'stop', array: 'md0' });
    await ask(cluster, { verb: 'release', array: 'md0' });
    await guest.must('mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb');
    for (const { name, bytes } of SIZES) plain.get(name)?.push(await mibPerSecond(cluster, node, bytes));
    await guest.must('mdadm --wait-clean /dev/md0; mdadm --stop /dev/md0');
    await ask(cluster, { verb: 'adopt', md: '/dev/md0', uuid, access: 'shared' });
    await cluster.open();
  }
  return SIZES.map(({ name }) => ({
    name: `write_ratio_${name}`,
    unit: 'MiB/s',
    samples: ours.get(name) ?? [],
    peer: median(plain.get(name) ?? []),
    goal: { ratioAtLeast: 0.97 },
  }));
}
