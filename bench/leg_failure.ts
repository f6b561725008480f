/**
 * A leg of a mirror fails on one node while all nodes write: when does the last node's md show it, and how long is the
 * longest write meanwhile? Each round has a new mirror. The failing node goes round, so that the master fails legs too.
 */
import { Cluster } from '../test/lab/cluster.ts';
import { mdMemberOn } from '../test/lab/md_members.ts';
import { makeMirror, unmakeMirror } from './arrays.ts';
import { Clocks } from './clocks.ts';
import type { Measured } from './figure.ts';
import { jsonLines, longestPauseMs, mdio, pause, type WriteSummary, writeSummary } from './guest_tools.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 12);
/** A write each 2 ms on each node; unlimited writers would measure how three kernels share two cores. */
const WRITES_A_SECOND = Number(process.env.RATE ?? 500);
const SETTLE_MS = 300;
const AFTER_MS = 500;

interface MemberLine {
  member: string;
  state: string;
  wallMs: number;
}

interface Round {
  lastNodeMs: number;
  pauseMs: number;
}

type Fail = (node: number, leg: string, clocks: Clocks) => Promise<number | null>;

async function round(cluster: Cluster, clocks: Clocks, node: number, leg: string, fail: Fail): Promise<Round> {
  const { nodes } = cluster;
  const watchers = await Promise.all(nodes.map((each) => mdio(cluster, each, ['watch', '--array', 'md0'])));
  const writers = await Promise.all(
    nodes.map((each) => {
      const range = ['--start-block', String(each * 1000), '--blocks', '1000', '--rate', String(WRITES_A_SECOND)];
      return mdio(cluster, each, [
        'write',
        '--device',
        '/dev/md0',
        '--node',
        String(each),
        '--pause-ms',
        '1',
        ...range,
      ]);
    }),
  );
  await pause(SETTLE_MS);
  const told = await fail(node, leg, clocks);
  await pause(AFTER_MS);
  const summaries = new Map<number, WriteSummary>();
  await Promise.all(
    writers.map(async (writer, index) => {
      const each = nodes[index] ?? 0;
      summaries.set(each, writeSummary(await writer.end(), each));
    }),
  );
  const seen = await Promise.all(
    watchers.map(async (watcher, index) => {
      const each = nodes[index] ?? 0;
      const lines = jsonLines<MemberLine>(await watcher.end());
      const faulty = lines.find((line) => line.state.includes('faulty'));
      if (faulty === undefined) throw new Error(`node ${each} never saw the leg faulty: ${JSON.stringify(lines)}`);
      return clocks.hostMs(each, faulty.wallMs);
    }),
  );
  // An I/O error has no caller whose clock could be asked: it begins when the first node's md shows it. That is one of the
  // others: the node that met the error keeps its I/O waiting, and its md is the last to hear.
  const beganMs = told ?? Math.min(...seen);
  return {
    lastNodeMs: Math.max(...seen) - beganMs,
    pauseMs: longestPauseMs(summaries, clocks, beganMs - 5, Math.max(...seen) + 200) ?? 1,
  };
}

async function rounds(cluster: Cluster, devices: readonly string[], fail: Fail): Promise<Round[]> {
  const clocks = await Clocks.of(cluster.lab);
  const all: Round[] = [];
  for (let count = 0; count < ROUNDS; count++) {
    await makeMirror(cluster, { devices });
    const node = cluster.nodes[count % cluster.nodes.length] ?? 1;
    const leg = devices[count % 2] ?? '';
    const result = await round(cluster, clocks, node, leg, fail);
    all.push(result);
    process.stderr.write(
      `round ${count + 1}, on node ${node}: last node ${result.lastNodeMs.toFixed(1)} ms, pause ${result.pauseMs.toFixed(1)} ms\n`,
    );
    await unmakeMirror(cluster);
  }
  return all;
}

export async function legFailureByIoctl(): Promise<Measured[]> {
  await using cluster = await Cluster.start({ name: 'bench-leg', diskMib: [64, 64] });
  const all = await rounds(cluster, ['/dev/ubda', '/dev/ubdb'], async (node, leg, clocks) => {
    const { name } = await mdMemberOn(cluster.lab.guest(node), 'md0', leg.replace('/dev/', ''));
    const failing = await mdio(cluster, node, ['fail', '--device', '/dev/md0', '--member', `/dev/${name}`]);
    const [line] = jsonLines<{ wallMs: number }>(await failing.ended());
    if (line === undefined) throw new Error(`mdio fail on node ${node} said nothing`);
    return clocks.hostMs(node, line.wallMs);
  });
  return [
    {
      name: 'leg_failure_last_node_ms',
      unit: 'ms',
      samples: all.map((each) => each.lastNodeMs),
      peer: 5.4,
      goal: { atMost: 15 },
    },
    {
      name: 'leg_failure_writer_pause_ms',
      unit: 'ms',
      samples: all.map((each) => each.pauseMs),
      peer: 10,
      goal: { atMost: 30 },
    },
  ];
}

export async function legFailureByIoError(): Promise<Measured[]> {
  const devices = ['/dev/mapper/lega', '/dev/mapper/legb'];
  const cluster = await Cluster.prepare({ name: 'bench-ioerror', diskMib: [64, 64], devices });
  try {
    for (const guest of cluster.lab.guests) {
      await guest.wrapDisk('/dev/ubda');
      await guest.wrapDisk('/dev/ubdb');
    }
    await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
    await cluster.master();
    const all = await rounds(cluster, devices, async (node, leg) => {
      const name = leg.replace('/dev/mapper/', '');
      const guest = cluster.lab.guest(node);
      await guest.failDisk(name);
      await pause(AFTER_MS);
      await guest.healDisk(name);
      return null;
    });
    return [
      {
        name: 'leg_failure_last_node_ms_io_error',
        unit: 'ms',
        samples: all.map((each) => each.lastNodeMs),
        goal: { atMost: 15 },
      },
      {
        name: 'leg_failure_writer_pause_ms_io_error',
        unit: 'ms',
        samples: all.map((each) => each.pauseMs),
        peer: 17,
        goal: { atMost: 30 },
      },
    ];
  } finally {
    await cluster.close();
  }
}
