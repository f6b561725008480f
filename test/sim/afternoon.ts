/** What the stories of a simulated cluster have in common: how they begin, what is watched meanwhile, what must hold at the end. */
import assert from 'node:assert/strict';
import type { CheckSchedule } from '#src/arrays/check_schedule.ts';
import type { PathLossOptions } from '#src/arrays/path_loss.ts';
import type { NodeId } from '#src/arrays/record.ts';
import type { Config } from '#src/config/index.ts';
import type { FencingMethod } from '#src/fencing/index.ts';
import { VirtualTime } from '#src/md/simulated_time.ts';
import { Application } from './application.ts';
import { mirrorOf, SimCluster } from './cluster.ts';

const BLOCKS = 80;

export interface Setting {
  seed: number;
  legs: number;
  /** @default 0 */
  spares?: number;
  /** Of each disk. @default 4 */
  mib?: number;
  /** Of each writer. @default 80 */
  blocks?: number;
  /** False: the writers begin as soon as all nodes have the array, and the first copy is under way. @default true */
  whole?: boolean;
  /** False: no node keeps a bitmap. @default true */
  bitmap?: boolean;
  pathLoss?: PathLossOptions;
  check?: CheckSchedule;
  /** As the cluster's. @default 0 */
  spareMachines?: number;
  fencing?: FencingMethod[];
  /** Between two writes of an application. @default 3 */
  everyMs?: number;
  /** @default 3 */
  nodes?: number;
  quorum?: Config['quorum'];
}

/** A started cluster with a mirror over all disks, and an application on every node. */
export async function writing(
  setting: Setting,
  prepare: (cluster: SimCluster) => void = () => undefined,
): Promise<{ cluster: SimCluster; applications: Application[] }> {
  const { seed, legs, spares = 0, mib = 4, blocks = BLOCKS, whole = true, bitmap = true } = setting;
  const diskMib = Array(legs + spares).fill(mib);
  const { pathLoss, check, fencing, nodes, quorum, spareMachines = 0 } = setting;
  const witnessMib = quorum?.witness == null ? [] : [1];
  const cluster = await SimCluster.start({
    time: new VirtualTime(),
    seed,
    diskMib: [...diskMib, ...witnessMib],
    spareMachines,
    ...(nodes && { nodes }),
    ...(quorum && { quorum }),
    ...(pathLoss && { pathLoss }),
    ...(check && { check }),
    ...(fencing && { fencing }),
  });
  prepare(cluster);
  const devices = cluster.storage
    .names()
    .slice(0, legs + spares)
    .map((name) => `/dev/${name}`);
  const created = await cluster.request(2, mirrorOf(devices, { spares, ...(bitmap && { bitmap: 'internal' }) }));
  assert.equal(created.ok, true, created.text);
  if (whole) await cluster.open();
  else
    await cluster.until('md0 on all', () => cluster.up().every((node) => cluster.driver(node).observe('md0') !== null));
  return { cluster, applications: await startedOn(cluster, cluster.up(), 0, blocks, setting.everyMs) };
}

export async function startedOn(
  cluster: SimCluster,
  nodes: readonly NodeId[],
  region = 0,
  blocks = BLOCKS,
  everyMs = 3,
): Promise<Application[]> {
  const applications = nodes.map(
    (node) => new Application(cluster, { node, firstBlock: (region * 3 + node - 1) * blocks, blocks, everyMs }),
  );
  for (const application of applications) application.start();
  await watchedPass(cluster, 500);
  return applications;
}

/** As time passes, at no instant two nodes hold a live lease. */
export async function watched<T>(cluster: SimCluster, what: string, look: () => T | null | false): Promise<T> {
  return cluster.until(what, () => {
    const masters = cluster.masters();
    assert.ok(masters.length <= 1, `masters ${masters.join(' and ')} at once`);
    return look();
  });
}

export async function watchedPass(cluster: SimCluster, ms: number): Promise<void> {
  const endMs = cluster.time.clock() + ms;
  await watched(cluster, 'time', () => cluster.time.clock() >= endMs);
}

export function recordOn(cluster: SimCluster, node: NodeId) {
  const array = cluster.status(node)?.arrays[0];
  assert.ok(array !== undefined, `node ${node} knows no array`);
  return array;
}

/** Every leg in sync has every acknowledged write, and all of them are one to the last byte. */
export function assertWhole(
  cluster: SimCluster,
  applications: readonly Application[],
  node: NodeId,
  legs: number,
): void {
  const { record, paths } = recordOn(cluster, node);
  const inSync = record.members.filter((member) => member.role === 'active');
  assert.equal(inSync.length, legs);
  assert.equal(record.resync, null);
  const areas = inSync.map((member) => {
    const disk = cluster.storage.at(node, paths[member.uuid] ?? '');
    for (const application of applications) {
      assert.ok(application.acknowledged > 0, `node ${application.node} never wrote`);
      const { sectors, example } = application.lost(disk, member.dataOffsetSectors * 512);
      assert.equal(sectors, 0, `${sectors} sectors lost: ${example}`);
    }
    return Buffer.from(cluster.storage.peek(disk, member.dataOffsetSectors * 512, record.componentSectors * 512));
  });
  for (const area of areas.slice(1)) assert.equal(areas[0]?.compare(area), 0, 'legs differ');
}

/** While any node would still read from the disk, it must hold everything that any node was told is written. */
export function assertReadersSeeAll(cluster: SimCluster, applications: readonly Application[], disk: string): void {
  const readers = cluster.nodes.filter((node) =>
    cluster
      .driver(node)
      .observe('md0')
      // A read that waits for a lost path reads nothing.
      ?.members.some(({ device, inSync, path }) => device === disk && inSync && path !== 'lost'),
  );
  if (readers.length === 0) return;
  const [member] = recordOn(cluster, 1).record.members;
  for (const application of applications) {
    const { sectors, example } = application.lost(disk, (member?.dataOffsetSectors ?? 0) * 512);
    assert.equal(sectors, 0, `nodes ${readers.join(', ')} could read a stale block: ${example}`);
  }
}

export async function stopAll(applications: readonly Application[]): Promise<void> {
  for (const application of applications) await application.stop();
  for (const { node, trouble } of applications) assert.equal(trouble, null, `a write failed on node ${node}`);
}

export interface Watch {
  /** How often md was let go on. */
  steps: number;
  /** Nodes that began a copy, in order. */
  copiers: { node: NodeId; kind: string; fromSector: number }[];
}

/** Looks at all other nodes whenever one lets its md go on. */
export function watchCopies(cluster: SimCluster): Watch {
  const watch: Watch = { steps: 0, copiers: [] };
  for (const node of cluster.nodes) {
    const driver = cluster.driver(node);
    const look = (md: string, fromSector: number, toSector: number | null): void => {
      watch.steps += 1;
      const end = toSector ?? recordOn(cluster, node).record.componentSectors;
      for (const other of cluster.up()) {
        const seen = other === node ? null : cluster.driver(other).observe(md);
        if (seen === null || seen.held || fromSector >= end) continue;
        const held = seen.suspended;
        const covered = held !== null && held.loSector <= fromSector && held.hiSector >= end;
        const text = held === null ? 'nothing' : `${held.loSector}..${held.hiSector}`;
        assert.ok(covered, `node ${node} may copy ${fromSector}..${end}, node ${other} holds ${text}`);
      }
    };
    const { startCopy, extendCopy } = driver;
    driver.startCopy = async (md, copy) => {
      look(md, copy.fromSector, copy.toSector);
      watch.copiers.push({ node, kind: copy.kind, fromSector: copy.fromSector });
      return startCopy.call(driver, md, copy);
    };
    driver.extendCopy = async (md, toSector) => {
      const copy = driver.observe(md)?.syncCompleted;
      // Of none that is under way it does nothing.
      if (copy != null) look(md, copy.doneSectors, toSector);
      return extendCopy.call(driver, md, toSector);
    };
  }
  return watch;
}

export function whole(cluster: SimCluster, node: NodeId, legs: number): boolean {
  const array = cluster.status(node)?.arrays[0];
  if (array === undefined) return false;
  const { record, local } = array;
  const active = record.members.filter(({ role }) => role === 'active').length;
  return record.resync === null && active === legs && local?.held === false;
}

export async function untilWhole(cluster: SimCluster, legs: number): Promise<void> {
  await watched(cluster, 'all legs in sync on every node', () =>
    cluster.up().every((node) => whole(cluster, node, legs)),
  );
}

export async function writersGoOn(cluster: SimCluster, applications: readonly Application[]): Promise<void> {
  const before = applications.map(({ acknowledged }) => acknowledged);
  await watchedPass(cluster, 1000);
  for (const [index, application] of applications.entries()) {
    assert.ok(application.acknowledged > (before[index] ?? 0), `node ${application.node} writes no more`);
  }
}
