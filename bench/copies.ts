/**
 * A resync by the cluster against plain md's own on the same disks in the same guest, in turns; and what it does to a writer
 * on another node that writes all over the array, so that it meets the windows.
 *
 * How long a copy took is what the copying kernel's log says. Both are unthrottled, and both have bitmaps.
 */
import { statfsSync } from 'node:fs';
import { freemem } from 'node:os';
import { Cluster } from '../test/lab/cluster.ts';
import { leads } from '../test/lab/lasting_writers.ts';
import { ask, askMirror, makeMirror, unmakeMirror } from './arrays.ts';
import { Clocks } from './clocks.ts';
import { type Measured, quantile } from './figure.ts';
import { allOver, longestPauseMs, pause, toldAtMs, victimOf, type WriteSummary, writeSummary } from './guest_tools.ts';
import { resyncSpan, type Span } from './kernel_log.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 5);
/** So large that windows have long settled when half is done, where the images' memory allows it: they lie in /dev/shm. */
const DISK_MIB = freeMib() >= 12 * 1024 ? 4096 : 1024;
const COPIER = 1;
/** What the images can have of it, and of the machine's memory. */
function freeMib(): number {
  const { bavail, bsize } = statfsSync('/dev/shm');
  return Math.min(bavail * bsize, freemem()) / 1024 ** 2;
}

/** Of md-cluster's figures: the limit in KiB a second, and its longest pause. */
const LIMITS = [
  { name: '200', limitKib: 200 * 1024, diskMib: 1024, peer: 541 },
  { name: '50', limitKib: 50 * 1024, diskMib: 256, peer: 1100 },
] as const;
/** A write each 2 ms: an unlimited writer would measure how the kernels share two cores. */
const WRITES_A_SECOND = 500;
const SETTLE_MS = 500;
/** After the commit that calls a disk active. */
const AROUND_MS = 1000;
const DEVICES = ['/dev/ubda', '/dev/ubdb'];
/** In any order of events: what one copy may take at the most. */
const COPY_TIMEOUT_MS = 60_000;

interface CopyRun {
  mibPerSecond: number;
  span: Span;
  /** Of the writer on another node, those that were under way during the copy. */
  writes: { longestMs: number; p99Ms: number } | null;
}

/** md's own word; asking the agents meanwhile would cost the cores on which they copy. */
async function untilCopied(cluster: Cluster): Promise<void> {
  const file = '/sys/block/md0/md/resync_start';
  await cluster.until('the end of the resync', COPY_TIMEOUT_MS, async () => {
    return (await cluster.lab.guest(COPIER).readFile(file)).trim() === 'none';
  });
}

function rate(sectors: number, { fromMs, toMs }: Span): number {
  return sectors / 2048 / ((toMs - fromMs) / 1000);
}

interface Halted {
  leftSectors: number;
}

/** On busy cores its copy may be over before it can be halted, or the lead be lost meanwhile: then another one. */
async function haltedMirror(cluster: Cluster, limitKib: number | null): Promise<Halted> {
  for (let again = 5; ; again--) {
    // The copies that are compared are made in the same guest.
    await leads(cluster, COPIER);
    await askMirror(cluster, { assumeClean: false, bitmap: 'internal' });
    const { ok, text } = await cluster.request(COPIER, { verb: 'action', array: 'md0', action: 'frozen' });
    if (ok && limitKib !== null) await ask(cluster, { verb: 'sync-limit', array: 'md0', limitKib });
    await pause(SETTLE_MS);
    const record = (await cluster.array(COPIER))?.record;
    const copy = record?.resync;
    if (record !== undefined && copy?.halted === true && copy.by === COPIER) {
      return { leftSectors: record.componentSectors - copy.fromSector };
    }
    if (again === 0) throw new Error(`the copy was not halted on node ${COPIER}: ${text} ${JSON.stringify(copy)}`);
    if (ok) await ask(cluster, { verb: 'action', array: 'md0', action: 'idle' });
    await cluster.open();
    await unmakeMirror(cluster);
  }
}

/** A new mirror is halted at once, and goes on when everything is quiet, or the writer at work. */
async function clusterResync(
  cluster: Cluster,
  options: { writer: boolean; limitKib?: number; round: number },
): Promise<CopyRun> {
  const { writer, limitKib = null, round } = options;
  const peer = victimOf(cluster, COPIER, round);
  const { leftSectors } = await haltedMirror(cluster, limitKib);
  // All its writes are told if there are few; a slow copy meets too many for that.
  const running = writer
    ? await allOver(cluster, peer, { rate: WRITES_A_SECOND, pauseMs: limitKib === null ? 0 : 2 })
    : null;
  await pause(SETTLE_MS);
  const clocks = await Clocks.of(cluster.lab);
  const sinceMs = Clocks.nowMs();
  await ask(cluster, { verb: 'action', array: 'md0', action: 'idle' });
  await untilCopied(cluster);
  await pause(100);
  const summary = running === null ? null : writeSummary(await running.end(), peer);
  const span = await resyncSpan(cluster.lab.guest(COPIER), 'md0', sinceMs);
  await cluster.open();
  await unmakeMirror(cluster);
  const mibPerSecond = rate(leftSectors, span);
  return { mibPerSecond, span, writes: summary === null ? null : writesIn(summary, peer, clocks, span) };
}

function writesIn(summary: WriteSummary, node: number, clocks: Clocks, { fromMs, toMs }: Span): CopyRun['writes'] {
  const lengths = summary.pauses.list
    .filter(({ wallMs, lengthMs }) => {
      const begunMs = clocks.hostMs(node, wallMs);
      return begunMs + lengthMs >= fromMs && begunMs <= toMs;
    })
    .map(({ lengthMs }) => lengthMs)
    .sort((a, b) => a - b);
  return {
    longestMs: longestPauseMs(new Map([[node, summary]]), clocks, fromMs, toMs) ?? 0,
    p99Ms: quantile(lengths, 0.99),
  };
}

async function plainResync(cluster: Cluster): Promise<number> {
  const guest = cluster.lab.guest(COPIER);
  const sinceMs = Clocks.nowMs();
  await guest.must(
    `mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --bitmap=internal ${DEVICES.join(' ')} && for s in min max; do echo 10000000 > /sys/block/md0/md/sync_speed_$s; done`,
  );
  await untilCopied(cluster);
  await pause(100);
  const span = await resyncSpan(guest, 'md0', sinceMs);
  const sectors = 2 * Number(await guest.readFile('/sys/block/md0/md/component_size'));
  await guest.must(`mdadm --stop /dev/md0 && mdadm --zero-superblock ${DEVICES.join(' ')}`);
  return rate(sectors, span);
}

export async function resyncs(): Promise<Measured[]> {
  await using cluster = await Cluster.start({ name: 'bench-resync', diskMib: [DISK_MIB, DISK_MIB] });
  const alone: number[] = [];
  const beside: number[] = [];
  const plain: number[] = [];
  const longest: number[] = [];
  const p99: number[] = [];
  const guest = cluster.lab.guest(COPIER);
  // Creating would begin at md's default limit before the array's own can be set.
  await guest.must('for s in min max; do echo 10000000 > /proc/sys/dev/raid/speed_limit_$s; done');
  // The images' memory is handed out at the first write.
  await plainResync(cluster);
  for (let round = 0; round < ROUNDS; round++) {
    const own = await plainResync(cluster);
    const quiet = await clusterResync(cluster, { writer: false, round });
    const again = await plainResync(cluster);
    const busy = await clusterResync(cluster, { writer: true, round });
    plain.push(own, again);
    alone.push(quiet.mibPerSecond / own);
    beside.push(busy.mibPerSecond / again);
    if (busy.writes !== null) {
      longest.push(busy.writes.longestMs);
      p99.push(busy.writes.p99Ms);
    }
    const told = [own, quiet.mibPerSecond, again, busy.mibPerSecond].map((each) => each.toFixed(0));
    process.stderr.write(
      `plain ${told[0]}, cluster ${told[1]}, plain ${told[2]}, with a writer ${told[3]} MiB/s; its longest write ${busy.writes?.longestMs.toFixed(1)}, p99 ${busy.writes?.p99Ms.toFixed(1)} ms\n`,
    );
  }
  process.stderr.write(`plain md: ${plain.map((each) => each.toFixed(0)).join(', ')} MiB/s\n`);
  return [
    { name: 'resync_ratio', unit: 'of plain md', samples: alone, peer: 0.62, goal: { atLeast: 0.95 } },
    { name: 'resync_ratio_writer', unit: 'of plain md', samples: beside, goal: { atLeast: 0.8 } },
    { name: 'resync_writer_pause_ms', unit: 'ms', samples: longest, peer: 42, goal: { atMost: 50 } },
    { name: 'resync_writer_p99_ms', unit: 'ms', samples: p99, peer: 24, goal: { atMost: 10 } },
  ];
}

export async function resyncLimits(): Promise<Measured[]> {
  const measured: Measured[] = [];
  for (const { name, limitKib, diskMib, peer } of LIMITS) {
    await using cluster = await Cluster.start({
      name: `bench-limit${name}`,
      diskMib: [diskMib, diskMib],
    });
    const samples: number[] = [];
    for (let round = 0; round < Math.min(ROUNDS, 3); round++) {
      const { mibPerSecond, writes } = await clusterResync(cluster, { writer: true, limitKib, round });
      samples.push(writes?.longestMs ?? 0);
      process.stderr.write(`limit ${name}: ${mibPerSecond.toFixed(0)} MiB/s, longest write ${samples.at(-1)} ms\n`);
    }
    measured.push({ name: `resync_writer_pause_ms_limit${name}`, unit: 'ms', samples, peer, goal: { atMost: 100 } });
  }
  return measured;
}

/** A leg fails, the spare is rebuilt, and becomes one that is read: how long do the others' writes wait for that? */
export async function spareActivation(): Promise<Measured[]> {
  await using cluster = await Cluster.start({ name: 'bench-spare', diskMib: [64, 64, 64] });
  const devices = [...DEVICES, '/dev/ubdc'];
  const samples: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await makeMirror(cluster, { devices, spares: 1 });
    const master = await cluster.master();
    const peers = cluster.nodes.filter((node) => node !== master);
    const clocks = await Clocks.of(cluster.lab);
    const writers = await Promise.all(
      peers.map((node) => allOver(cluster, node, { rate: WRITES_A_SECOND, pauseMs: 1 })),
    );
    await pause(SETTLE_MS);
    const failedMs = Clocks.nowMs();
    await ask(cluster, { verb: 'fail', array: 'md0', device: DEVICES[1] });
    const activeMs = await toldAtMs(cluster, clocks, master, 'SpareActive', failedMs);
    await pause(AROUND_MS);
    const summaries = new Map<number, WriteSummary>();
    for (const [index, writer] of writers.entries()) {
      const node = peers[index] ?? 0;
      summaries.set(node, writeSummary(await writer.end(), node));
    }
    samples.push(longestPauseMs(summaries, clocks, activeMs, activeMs + AROUND_MS) ?? 1);
    process.stderr.write(`a spare is active: longest write of a peer ${samples.at(-1)?.toFixed(1)} ms\n`);
    await cluster.open();
    await unmakeMirror(cluster);
  }
  return [{ name: 'spare_activation_pause_ms', unit: 'ms', samples, goal: { atMost: 50 } }];
}
