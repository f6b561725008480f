/**
 * Starting an array from a record, without the kernel touching metadata, and ending it again.
 *
 * The order of the writes is the safety: the array is started `readonly`, frozen so that nothing is ever copied, suspended
 * so that no write passes, and only then made writable. A step that fails undoes all before it. One whose reads can be held has no
 * sectors until they are: md reads its bitmap from the members when it starts, so their paths cannot be held before.
 */
import { existsSync } from 'node:fs';
import { arraySectors, isRedundant, survives } from '../arrays/levels.ts';
import { fillsByMarks, isWhole } from '../arrays/missed.ts';
import { type ArrayRecord, type BitmapPlace, bitmapSector, type MemberRecord, type NodeId } from '../arrays/record.ts';
import { MdError, NAME_TAKEN } from './driver.ts';
import { loadKernelModules } from './kernel_modules.ts';
import { recoveryStartOf } from './metadata.ts';
import type { BlockDevice } from './real_disks.ts';
import type { MemberPaths } from './real_paths.ts';
import { arrayDirectory, type FileReader, METADATA_VERSION, memberDirectory, readArray } from './sysfs_array.ts';
import { comesTrue, type SysfsStore } from './sysfs_store.ts';

export interface PlannedMember {
  record: MemberRecord;
  device: BlockDevice;
}

export interface Place {
  slot: number;
  /** Of the component: what lies before is in sync. null: all of it is, on an array that does not run yet. */
  recoverySector: number | null;
  /** A recovery by this md copies only what its bitmap marks. */
  byMarks: boolean;
}

const MODULES: Record<ArrayRecord['level'], string> = {
  linear: 'linear',
  raid0: 'raid0',
  raid1: 'raid1',
  raid4: 'raid456',
  raid5: 'raid456',
  raid6: 'raid456',
  raid10: 'raid10',
};

const NEW_ARRAY = '/sys/module/md_mod/parameters/new_array';
/** md clears a bit two such times after the last write to its chunk. */
const BITMAP_CLEARS_SECONDS = '5';
const CLEAR_PATIENCE_MS = 2000;
const NODE_PATIENCE_MS = 5000;
/** md's own thread may just look whether there is something to copy. */
export const LOCATION_PATIENCE_MS = 2000;

/**
 * Who is to be attached where. Faulty members and those without a path are left out. Rebuilding ones hold no data.
 * @throws MdError EINVAL when too few are left, or a size cannot be said to sysfs
 */
export function planAssembly(record: ArrayRecord, devices: ReadonlyMap<string, BlockDevice>): PlannedMember[] {
  const planned: PlannedMember[] = [];
  for (const member of record.members) {
    const device = devices.get(member.uuid);
    if (device !== undefined && member.role !== 'faulty') planned.push({ record: member, device });
  }
  const slots = new Set<number>();
  for (const { record: member } of planned)
    if (member.role === 'active' && member.slot !== null) slots.add(member.slot);
  if (!survives(record, slots)) {
    const absent = record.members.filter((member) => member.role === 'active' && !devices.has(member.uuid));
    throw new MdError(
      'EINVAL',
      `${record.md}: ${slots.size} of ${record.raidDisks} members are too few for ${record.level}; ` +
        `attach ${absent.map((member) => member.uuid).join(', ') || 'more members'}`,
    );
  }
  if (record.componentSectors % 2 !== 0) {
    throw new MdError('EINVAL', `${record.md}: component size of ${record.componentSectors} sectors is not whole KiB`);
  }
  // One that lacks only what is marked comes in when the array runs: md would forget that of it (setup_conf, drivers/md/raid1.c).
  const comesLater = (member: MemberRecord): boolean => member.role === 'rebuilding' && fillsByMarks(record.resync);
  return planned.filter(
    ({ record: member }) => member.role === 'active' || (isRedundant(record.level) && !comesLater(member)),
  );
}

/** Loads what the level needs, once. @throws MdError ENOENT */
export async function loadModules(level: ArrayRecord['level']): Promise<void> {
  await loadKernelModules(['md_mod', MODULES[level]]);
}

/** Attaches one device, without a slot. */
export async function attach(store: SysfsStore, md: string, member: PlannedMember): Promise<void> {
  const step = `${md}: attaching member ${member.record.uuid} (${member.device.path})`;
  const directory = memberDirectory(md, member.device.name);
  await store.write(step, `${arrayDirectory(md)}/new_dev`, member.device.devno);
  // Offset before size: the kernel checks the size against what is left behind the offset.
  await store.write(step, `${directory}/offset`, String(member.record.dataOffsetSectors));
  await store.write(step, `${directory}/size`, String(Math.floor(member.record.dataSizeSectors / 2)));
  // A write that fails, and is no error of the path, is then a bad block that nobody has acknowledged: md calls the member blocked
  // and lets no such write end. Without it (kernels before 4.10) the first makes the member faulty, and others that fail after it
  // are told as done at once; if all members refuse them, as a fenced node's do, the array is broken (tried on 6.1).
  await store.write(step, `${directory}/state`, 'external_bbl').catch((error: unknown) => {
    if (!(error instanceof MdError) || error.code !== 'EINVAL') throw error;
  });
}

/**
 * Gives an attached device its slot. Never is a member that is being rebuilt in a slot with recovery_start `none`, not for a
 * moment on a running array: it would be read.
 */
export async function enterSlot(
  store: SysfsStore,
  md: string,
  device: string,
  { slot, recoverySector, byMarks }: Place,
  running: boolean,
): Promise<void> {
  const step = `${md}: giving ${device} slot ${slot}`;
  const directory = memberDirectory(md, device);
  const mark = () => store.write(step, `${directory}/recovery_start`, String(recoverySector));
  // A running array takes the mark from a member without a slot only; one that does not run calls in sync whatever gets a
  // slot (recovery_start_store and slot_store, drivers/md/md.c).
  if (running) await mark();
  // Only a member that gets its slot as one in sync does md fill by its bitmap (saved_raid_disk). It is not: slot_store takes the
  // word back before the member is in its slot.
  if (running && byMarks) await store.write(step, `${directory}/state`, 'insync');
  await store.write(step, `${directory}/slot`, String(slot));
  if (!running && recoverySector !== null) await mark();
}

/**
 * Frozen and held at the end: suspended as a whole, and without a sector (RealArray.appear), or, for levels without suspend, `readonly`.
 * @throws MdError naming the step, the file and the value; nothing of the array is left then
 */
export async function startArray(
  record: ArrayRecord,
  node: NodeId,
  members: readonly PlannedMember[],
  readFiles: FileReader,
  store: SysfsStore,
  paths: MemberPaths,
): Promise<void> {
  const { md } = record;
  await makeDevice(md, readFiles, store, paths);
  try {
    const attached = await Promise.all(members.map((member) => layered(record, member, paths)));
    await configure(record, attached, store);
    const bitmap = await configureBitmap(record, node, store);
    const keepsMarks = !isWhole(record) ? 'all' : record.resync?.by === node ? 'behind' : 'none';
    await run(record, attached, bitmap ? keepsMarks : 'behind', store);
  } catch (error) {
    await clearArray(md, readFiles, store).catch(() => undefined);
    await Promise.all(members.map((member) => paths.detach(member.record.uuid).catch(() => undefined)));
    throw error;
  }
}

/** Behind the layer that queues what its path fails; a level without gates has nothing to answer, and takes the disk itself. */
async function layered(record: ArrayRecord, member: PlannedMember, paths: MemberPaths): Promise<PlannedMember> {
  if (!isRedundant(record.level)) return member;
  try {
    return { ...member, device: await paths.attach(member.record.uuid, member.device) };
  } catch (error) {
    throw error instanceof MdError ? new MdError(error.code, `${record.md}: ${error.message}`) : error;
  }
}

/** A fresh md device; remains of an assembly that its agent did not live to end are cleared away. */
async function makeDevice(md: string, readFiles: FileReader, store: SysfsStore, paths: MemberPaths): Promise<void> {
  const before = readArray(md, readFiles);
  if (before !== null) {
    const remains = before.metadata === METADATA_VERSION && before.arrayState === 'inactive';
    if (!remains && before.arrayState !== 'clear') {
      const text = `${md} is there already (metadata ${before.metadata}, ${before.arrayState}): ${NAME_TAKEN}`;
      throw new MdError('EEXIST', text);
    }
    // Not used again: a cleared device goes away by itself as soon as nobody looks at it.
    await clearArray(md, readFiles, store);
    await paths.detachAll(before.members);
  }
  await store.writePatiently(`${md}: making the device`, NEW_ARRAY, md, CLEAR_PATIENCE_MS);
}

async function configure(record: ArrayRecord, members: readonly PlannedMember[], store: SysfsStore): Promise<void> {
  const { md } = record;
  const set = (name: string, value: string) =>
    store.write(`${md}: describing the array`, `${arrayDirectory(md)}/${name}`, value);
  await set('metadata_version', METADATA_VERSION);
  await set('level', record.level);
  await set('raid_disks', String(record.raidDisks));
  if (record.level !== 'raid1' && record.level !== 'linear') await set('layout', String(record.layout));
  if (record.chunkSectors > 0) await set('chunk_size', String(record.chunkSectors * 512));
  for (const member of members) {
    await attach(store, md, member);
    const { role, slot } = member.record;
    const recoverySector = role === 'rebuilding' ? recoveryStartOf(record) : null;
    if (role !== 'spare' && slot !== null)
      await enterSlot(store, md, member.device.name, { slot, recoverySector, byMarks: false }, false);
  }
  if (record.componentSectors > 0) await set('component_size', String(record.componentSectors / 2));
}

/**
 * Before the start, and before anything is frozen: `location` is refused while a recovery flag is set, frozen included. False:
 * the record wants none, or this kernel shows no such files (of 6.18 on only once there is a bitmap; location_store and
 * md_bitmap_create, drivers/md/md-bitmap.c).
 */
async function configureBitmap({ md, bitmap }: ArrayRecord, node: NodeId, store: SysfsStore): Promise<boolean> {
  if (bitmap === null || !hasBitmapFiles(md)) return false;
  await layBitmap(md, bitmap, node, store);
  return true;
}

export function hasBitmapFiles(md: string): boolean {
  return existsSync(`${arrayDirectory(md)}/bitmap/location`);
}

/** While md has none. */
export async function layBitmap(md: string, bitmap: BitmapPlace, node: NodeId, store: SysfsStore): Promise<void> {
  const directory = `${arrayDirectory(md)}/bitmap`;
  const set = (name: string, value: string) =>
    store.write(`${md}: describing the bitmap`, `${directory}/${name}`, value);
  // These two first, or the array does not start.
  await set('time_base', BITMAP_CLEARS_SECONDS);
  await set('chunksize', String(bitmap.chunkSectors * 512));
  // No bitmap superblock: md writes bits there, and nothing else.
  await set('metadata', 'external');
  await set('space', String(bitmap.sectorsPerNode));
  await store.writePatiently(
    `${md}: describing the bitmap`,
    `${directory}/location`,
    `+${bitmapSector(bitmap, node)}`,
    LOCATION_PATIENCE_MS,
  );
}

async function run(
  record: ArrayRecord,
  members: readonly PlannedMember[],
  /**
   * Marks in the bitmap that an earlier boot left: those behind resync_start count for the resync to come; where the array is not
   * whole all do, for the recovery of a member that comes back; `none`: md drops them.
   */
  keepsMarks: 'behind' | 'all' | 'none',
  store: SysfsStore,
): Promise<void> {
  const { md } = record;
  const set = (name: string, value: string) =>
    store.write(`${md}: starting the array`, `${arrayDirectory(md)}/${name}`, value);
  const resyncStart = record.resync?.kind === 'resync' ? String(record.resync.fromSector) : 'none';
  const present = members.filter((member) => member.record.role === 'active').length;
  // A parity array that is both degraded and dirty does not start (raid5_run); it takes the mark once it is started and frozen.
  const unstartable = ['raid4', 'raid5', 'raid6'].includes(record.level) && present < record.raidDisks;
  // md_bitmap_load takes the marks at and past resync_start for what has to be copied, and lets go of them otherwise.
  const markAtStart = unstartable ? 'none' : { behind: resyncStart, all: '0', none: 'none' }[keepsMarks];
  if (isRedundant(record.level)) await set('array_size', '0');
  await set('resync_start', markAtStart);
  // The first state of an array whose data is there. Nothing is written, no copy starts.
  await set('array_state', 'readonly');
  if (isRedundant(record.level)) {
    await set('sync_action', 'frozen');
    if (markAtStart !== resyncStart) await set('resync_start', resyncStart);
    await set('suspend_lo', '0');
    await set('suspend_hi', String(arraySectors(record)));
    await set('array_state', 'active');
    // Else the array turns clean after each idle 200 ms, and its next write waits for an answer again.
    await set('safe_mode_delay', '0');
  }
  const node = `/dev/${md}`;
  if (!(await comesTrue(() => existsSync(node), NODE_PATIENCE_MS))) {
    throw new MdError(
      'ENOENT',
      `${md}: ${node} did not appear in ${NODE_PATIENCE_MS} ms; is devtmpfs mounted on /dev?`,
    );
  }
}

/** Ends an array and everything the kernel knows of it. @throws MdError EBUSY while it is open somewhere */
export async function clearArray(md: string, readFiles: FileReader, store: SysfsStore): Promise<void> {
  const state = `${arrayDirectory(md)}/array_state`;
  if (!existsSync(state)) return;
  await store.writePatiently(`${md}: stopping the array`, state, 'clear', CLEAR_PATIENCE_MS);
  // Its files refuse to be read before the kernel's worker has taken the device away (MD_DELETED, drivers/md/md.c).
  if (await comesTrue(() => !existsSync(`/sys/block/${md}`), CLEAR_PATIENCE_MS)) return;
  // A stopped array whose device somebody still looks at stays as `clear` until then.
  const seen = readArray(md, readFiles)?.arrayState ?? 'clear';
  if (seen !== 'clear') {
    throw new MdError('EBUSY', `${md}: stopped, but sysfs still shows it as ${seen}; close what holds /dev/${md}`);
  }
}
