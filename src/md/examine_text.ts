/**
 * What `mdadm --examine` (4.2) prints of a v1.2 member: same fields, same order, same alignment, so that scripts which
 * read one read the other. What is ours (owned bit, mesh area) is not in here.
 */
import type { Disk, Superblock } from './driver.ts';
import {
  DEVFLAG_FAIL_FAST,
  DEVFLAG_WRITE_MOSTLY,
  encodeSuperblock,
  FEATURE_BAD_BLOCKS,
  FEATURE_BITMAP_OFFSET,
  FEATURE_RAID0_LAYOUT,
  FEATURE_RECOVERY_OFFSET,
  FEATURE_REPLACEMENT,
  levelName,
  ownRole,
  ROLE_FAULTY,
  ROLE_JOURNAL,
  SUPERBLOCK_MAGIC,
} from './superblock.ts';

/** Size in binary and in decimal units, hundredths of each, as mdadm rounds them; empty below 5000 KiB. */
export function humanSize(bytes: number): string {
  if (bytes < 5000 * 1024) return '';
  const units = [
    ['MiB', 'MB', 2 ** 20, 1e6],
    ['GiB', 'GB', 2 ** 30, 1e9],
    ['TiB', 'TB', 2 ** 40, 1e12],
  ] as const;
  const [binary, decimal, binaryUnit, decimalUnit] = units[bytes < 2 ** 31 ? 0 : bytes < 2 ** 41 ? 1 : 2];
  const hundredths = (value: bigint) => `${value / 100n}.${String(value % 100n).padStart(2, '0')}`;
  const exact = BigInt(bytes);
  const inBinary = ((exact * 200n) / BigInt(binaryUnit) + 1n) / 2n;
  const inDecimal = (exact / (BigInt(decimalUnit) / 200n) + 1n) / 2n;
  return ` (${hundredths(inBinary)} ${binary} ${hundredths(inDecimal)} ${decimal})`;
}

/** 32 hex digits in four groups of eight, as mdadm writes UUIDs. */
export function mdadmUuid(uuid: string): string {
  const hex = uuid.replaceAll('-', '');
  return `${hex.slice(0, 8)}:${hex.slice(8, 16)}:${hex.slice(16, 24)}:${hex.slice(24)}`;
}

/** ctime(3) in this process's time zone, which is mdadm's too. */
export function ctimeText(seconds: number): string {
  const time = new Date(seconds * 1000);
  const day = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'][time.getDay()];
  const month = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'][time.getMonth()];
  const two = (value: number) => String(value).padStart(2, '0');
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  return `${day} ${month} ${String(time.getDate()).padStart(2)} ${clock} ${time.getFullYear()}`;
}

const PARITY_LAYOUTS = [
  'left-asymmetric',
  'right-asymmetric',
  'left-symmetric',
  'right-symmetric',
  'parity-first',
  'parity-last',
];
const RAID0_LAYOUTS = ['dangerous', 'original', 'alternate'];

/** The text behind `Layout :`, leading blank included; null for a level that has none. */
export function layoutText(level: number, layout: number): string | null {
  if (level === 0) return ` ${RAID0_LAYOUTS[layout] ?? '-unknown-'}`;
  if (level === 5 || level === 6) return ` ${PARITY_LAYOUTS[layout] ?? '-unknown-'}`;
  if (level !== 10) return null;
  const near = layout & 0xff;
  const far = (layout >> 8) & 0xff;
  const parts: string[] = [];
  if (near !== 1) parts.push(` near=${near}`);
  if (far !== 1) parts.push(` ${layout & 0x10000 ? 'offset' : 'far'}=${far}`);
  return near * far === 1 ? 'NO REDUNDANCY' : parts.join(',');
}

/** Sectors that lie idle before and after the data. A bitmap whose size mdadm would look up counts up to the bad-block log behind it. */
function unusedSpace(sb: Superblock, deviceSectors: number): { before: number; after: number } | null {
  const used = sb.level <= 0 ? sb.dataSizeSectors : sb.sizeSectors;
  // 36 KiB behind the superblock is where the kernel, too, lets nothing begin.
  let earliest = sb.superOffsetSectors + (32 + 4) * 2;
  if (sb.bblogSizeSectors > 0 && sb.bblogOffsetSectors !== 0)
    earliest = Math.max(earliest, sb.superOffsetSectors + sb.bblogOffsetSectors + sb.bblogSizeSectors);
  const before = Math.max(0, sb.dataOffsetSectors - earliest);
  const after = deviceSectors - used - sb.dataOffsetSectors;
  // mdadm marks "no room at all" by after=1, and so hides a true 1 too.
  return (before === 0 && after === 0) || after === 1 ? null : { before, after };
}

function arrayBytes(sb: Superblock): number | null {
  const sizeBytes = BigInt(sb.sizeSectors) * 512n;
  const disks = BigInt(sb.raidDisks);
  let bytes: bigint;
  if (sb.level === 1) bytes = sizeBytes;
  else if (sb.level === 4 || sb.level === 5) bytes = sizeBytes * (disks - 1n);
  else if (sb.level === 6) bytes = sizeBytes * (disks - 2n);
  else if (sb.level === 10) {
    const copies = BigInt((sb.layout & 0xff) * ((sb.layout >> 8) & 0xff));
    if (copies === 0n) return null;
    bytes = (sizeBytes * disks) / copies;
  } else return null;
  return Number(bytes);
}

/** One letter a slot: A active, . missing, R replacing; ? where two members claim it. */
function arrayStateText(sb: Superblock): { letters: string; inconsistent: boolean } {
  let letters = '';
  let inconsistent = sb.roles.some((role) => role < ROLE_JOURNAL && role > sb.raidDisks);
  for (let slot = 0; slot < sb.raidDisks; slot++) {
    const count = sb.roles.filter((role) => role === slot).length;
    if (count === 2 && sb.level > 0) letters += 'R';
    else if (count > 1) {
      letters += '?';
      inconsistent = true;
    } else letters += count === 1 ? 'A' : '.';
  }
  return { letters, inconsistent };
}

function deviceRoleText(sb: Superblock): string {
  const role = ownRole(sb);
  if (role >= ROLE_FAULTY) return 'spare';
  if (role === ROLE_JOURNAL) return 'Journal';
  return sb.featureMap & FEATURE_REPLACEMENT ? `Replacement device ${role}` : `Active device ${role}`;
}

/**
 * The text of `mdadm --examine PATH`, final newline included.
 * @param homehost as mdadm's --homehost: such a host's arrays are marked as local to it
 * @throws Error for a disk without a superblock
 */
export function examineText(
  disk: Pick<Disk, 'path' | 'sizeSectors' | 'superblock'>,
  homehost: string | null = null,
): string {
  const sb = disk.superblock;
  if (sb === null) throw new Error(`no md superblock on ${disk.path}; nothing to examine`);
  const lines: string[] = [`${disk.path}:`];
  const field = (name: string, value: string | number) => lines.push(`${name.padStart(15)} : ${value}`);

  const local = homehost !== null && homehost !== '' && sb.setName.startsWith(`${homehost}:`);
  const level = levelName(sb.level);
  field('Magic', SUPERBLOCK_MAGIC.toString(16));
  field('Version', '1.2');
  field('Feature Map', `0x${sb.featureMap.toString(16)}`);
  field('Array UUID', mdadmUuid(sb.setUuid));
  field('Name', local ? `${sb.setName}  (local to host ${homehost})` : sb.setName);
  field('Creation Time', ctimeText(sb.ctimeSeconds));
  field('Raid Level', level ?? '-unknown-');
  field('Raid Devices', sb.raidDisks);
  lines.push('');
  field('Avail Dev Size', `${sb.dataSizeSectors} sectors${humanSize(sb.dataSizeSectors * 512)}`);
  // mdadm reads the level unsigned here: linear (-1) counts as greater than 0.
  if (sb.level !== 0) {
    const bytes = arrayBytes(sb);
    if (bytes !== null) field('Array Size', `${Math.floor(bytes / 1024)} KiB${humanSize(bytes)}`);
    if (sb.sizeSectors !== sb.dataSizeSectors)
      field('Used Dev Size', `${sb.sizeSectors} sectors${humanSize(sb.sizeSectors * 512)}`);
  }
  if (sb.dataOffsetSectors !== 0) field('Data Offset', `${sb.dataOffsetSectors} sectors`);
  field('Super Offset', `${sb.superOffsetSectors} sectors`);
  if (sb.featureMap & FEATURE_RECOVERY_OFFSET) field('Recovery Offset', `${sb.recoveryOffsetSectors} sectors`);
  // A device smaller than its data shows as mdadm shows it: wrapped round.
  const unused = unusedSpace(sb, disk.sizeSectors);
  if (unused !== null)
    field('Unused Space', `before=${unused.before} sectors, after=${BigInt.asUintN(64, BigInt(unused.after))} sectors`);
  field('State', sb.resyncOffsetSectors === null ? 'clean' : 'active');
  field('Device UUID', mdadmUuid(sb.deviceUuid));
  lines.push('');
  if (sb.featureMap & FEATURE_BITMAP_OFFSET)
    field('Internal Bitmap', `${sb.bitmapOffsetSectors} sectors from superblock`);
  if (sb.devFlags !== 0) {
    const writeMostly = sb.devFlags & DEVFLAG_WRITE_MOSTLY ? ' write-mostly' : '';
    const failFast = sb.devFlags & DEVFLAG_FAIL_FAST ? ' failfast' : '';
    lines.push(`          Flags :${writeMostly}${failFast}`);
  }
  field('Update Time', ctimeText(sb.utimeSeconds));
  if (sb.bblogSizeSectors !== 0 && sb.bblogOffsetSectors !== 0) {
    const present = sb.featureMap & FEATURE_BAD_BLOCKS ? ' - bad blocks present.' : '';
    const entries = (sb.bblogSizeSectors * 512) / 8;
    field('Bad Block Log', `${entries} entries available at offset ${sb.bblogOffsetSectors} sectors${present}`);
  }
  const expected = new DataView(encodeSuperblock(sb).buffer).getUint32(216, true);
  const stored = sb.checksum.toString(16);
  field('Checksum', sb.checksum === expected ? `${stored} - correct` : `${stored} - expected ${expected.toString(16)}`);
  field('Events', sb.events);
  lines.push('');
  const layout = sb.level === 0 && !(sb.featureMap & FEATURE_RAID0_LAYOUT) ? null : layoutText(sb.level, sb.layout);
  if (layout !== null) lines.push(`         Layout :${layout}`);
  if (sb.level === -1) field('Rounding', `${Math.floor(sb.chunkSectors / 2)}K`);
  else if (sb.level !== 1) field('Chunk Size', `${Math.floor(sb.chunkSectors / 2)}K`);
  lines.push('');
  lines.push(`   Device Role : ${deviceRoleText(sb)}`);
  const { letters, inconsistent } = arrayStateText(sb);
  lines.push(`   Array State : ${letters} ('A' == active, '.' == missing, 'R' == replacing)`);
  if (inconsistent) {
    lines.push('WARNING Array state is inconsistent - each number should appear only once');
    lines.push(sb.roles.map((role, device) => ` ${device}:${role >= ROLE_FAULTY ? '-' : role}`).join(''));
  }
  return `${lines.join('\n')}\n`;
}
