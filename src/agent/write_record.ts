/** A record on its members: which bytes go to which of them, and what the outcome of each write says. */
import type { ArrayRecord } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import type { MdDriver } from '../md/driver.ts';
import { forgettingWrites, releaseWrites, writesFor } from '../md/metadata.ts';
import { FEATURE_MESH_OWNED } from '../md/superblock.ts';
import type { DiskView } from './disk_view.ts';

export interface RecordWritten {
  /** On some active member. */
  written: boolean;
  /** Members that have not taken it, and have failed by that. */
  failed: string[];
  /** The guard let no more through. */
  leaseOver: boolean;
  /** For people: what went wrong; empty when nothing did. */
  text: string;
}

export function notWritten(error: unknown): RecordWritten {
  return { written: false, failed: [], leaseOver: false, text: textOf(error) };
}

/**
 * @param reserved members may be reserved: one that refuses this node's writes has not failed
 * @throws Error when the record cannot be laid out on its members
 */
export async function writeRecord(
  driver: Pick<MdDriver, 'writeMetadata'>,
  disks: DiskView,
  cluster: { uuid: string; name: string },
  record: ArrayRecord,
  reserved: boolean,
): Promise<RecordWritten> {
  const devices = pathsFor(record, disks);
  const reached = record.members.some(({ uuid, role }) => role === 'active' && devices.has(uuid));
  // Standing on other members alone it would be newer than what counts.
  if (!reached) return notWritten(new Error(`this node sees no active member of ${record.md}`));
  const writes = writesFor({
    record,
    clusterUuid: cluster.uuid,
    clusterName: cluster.name,
    devices,
    existing: disks.superblocks,
    meshSequence: record.version.index,
  });
  const results = await driver.writeMetadata(writes);
  return outcomeOf(record, devices, results, reserved);
}

/**
 * Takes the cluster's mark off the members of an array that has ended.
 * @returns what went wrong; null: none that this node sees has the mark. One that is not seen now is found when it is back.
 */
export async function giveBack(
  driver: Pick<MdDriver, 'writeMetadata'>,
  disks: DiskView,
  record: ArrayRecord,
): Promise<string | null> {
  const writes = releaseWrites(record, pathsFor(record, disks), disks.superblocks);
  const given = await driver.writeMetadata(writes);
  const failed = given.find(({ error }) => error !== null);
  if (failed !== undefined) return `${failed.path}: ${failed.error?.text}`;
  // Those that failed, or were taken out, would be found as an array of which the rest is missing. That one takes no write is to be expected.
  const written = new Set(writes.map(({ path }) => path));
  const others = disks.disks.filter(({ path, mesh }) => mesh?.record.uuid === record.uuid && !written.has(path));
  await driver.writeMetadata(others.flatMap(forgettingWrites));
  return null;
}

/** Of an array that is being given back, members that bear the cluster's mark still: the others may be mdadm's already. */
function pathsFor({ givenBack }: ArrayRecord, { paths, superblocks }: DiskView): ReadonlyMap<string, string> {
  if (givenBack !== true) return paths;
  return new Map([...paths].filter(([uuid]) => ((superblocks.get(uuid)?.featureMap ?? 0) & FEATURE_MESH_OWNED) !== 0));
}

function outcomeOf(
  { members }: ArrayRecord,
  devices: ReadonlyMap<string, string>,
  results: Awaited<ReturnType<MdDriver['writeMetadata']>>,
  reserved: boolean,
): RecordWritten {
  let written = false;
  let leaseOver = false;
  let refused = false;
  const failed: string[] = [];
  const words: string[] = [];
  for (const member of members) {
    if (member.role === 'faulty') continue;
    const path = devices.get(member.uuid);
    const errors = results.flatMap((result) => (result.path === path && result.error !== null ? [result.error] : []));
    if (errors.some(({ code }) => code === 'ELEASE')) {
      words.push('the lease has ended');
      leaseOver = true;
      break;
    }
    if (reserved && errors.some(({ code }) => code === 'EBADE')) {
      words.push(`${path}: reserved, and this node's key is not on it`);
      refused = true;
    } else if (path === undefined || errors.length > 0) {
      failed.push(member.uuid);
      words.push(`${path ?? member.uuid}: ${errors[0]?.text ?? 'no such disk on this node'}`);
    } else if (member.role === 'active') written = true;
  }
  const text = words.join('; ');
  // Some member took nothing of this node: tried again as a whole, and nothing is concluded from it.
  return refused ? { written: false, failed: [], leaseOver, text } : { written, failed, leaseOver, text };
}
