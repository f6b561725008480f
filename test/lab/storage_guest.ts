/**
 * A storage array for the other guests: one guest that exports LUNs by iSCSI (LIO, set up through configfs), with SCSI-3
 * persistent reservations, and the way of a node to them (open-iscsi). SAN traffic takes the control network, so that a node
 * that is cut off the data network still reaches its disks: that is the node which must be fenced by the storage. There may be several
 * portals, on addresses of their own: then multipathd makes one disk of each LUN's ways.
 */
import { join } from 'node:path';
import { nodeOfKey } from '../../src/fencing/keys.ts';
import { projectDir } from './guest/build.ts';
import type { Guest } from './lab.ts';

/** As clusters of the laboratory are named. */
export const CLUSTER = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001';
const TARGET = 'iqn.2026-01.lab:san';
const LETTERS = 'abcdefgh';
const CORE = '/sys/kernel/config/target/core';
const TPG = `/sys/kernel/config/target/iscsi/${TARGET}/tpgt_1`;

export interface LunBacking {
  /** A block device of the storage guest; or a file, which may be thin. */
  device?: string;
  file?: { path: string; bytes: number };
}

function backstore({ device, file }: LunBacking, lun: number): { name: string; control: string } {
  if (device !== undefined) return { name: `iblock_0/lun${lun}`, control: `udev_path=/dev/mapper/lun${lun}` };
  return { name: `fileio_0/lun${lun}`, control: `fd_dev_name=${file?.path},fd_dev_size=${file?.bytes}` };
}

export class StorageGuest {
  readonly guest: Guest;
  readonly luns: readonly LunBacking[];
  readonly portals: readonly string[];

  constructor(guest: Guest, luns: readonly LunBacking[], portals: number) {
    this.guest = guest;
    this.luns = luns;
    this.portals = Array.from({ length: portals }, (_, way) => `10.78.0.${100 * way + guest.node}`);
  }

  /** What all LUNs are called on a node, but for their last letter. */
  get prefix(): string {
    return this.portals.length > 1 ? '/dev/mapper/lun' : '/dev/sd';
  }

  /** All LUNs, on a node. */
  get devices(): string[] {
    return this.luns.map((_, lun) => `${this.prefix}${LETTERS[lun]}`);
  }

  #portal(way: number): string {
    return this.portals[way] ?? '';
  }

  /** Exports all LUNs. After a boot of the guest nothing is left of what was registered before: as an array that lost its battery. */
  async export(): Promise<void> {
    for (const [lun, { device }] of this.luns.entries()) {
      if (device !== undefined) await this.guest.wrapDisk(device, `lun${lun}`);
    }
    const lines = [
      'set -e',
      'modprobe -a configfs target_core_mod target_core_iblock target_core_file iscsi_target_mod',
      'mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config',
      // Where LIO keeps registrations that are to outlive it (APTPL); without it each registration is refused.
      'mkdir -p /var/target/pr',
      `device=$(ip -o addr show to ${this.portals[0]}/32 | awk '{print $2}')`,
      ...this.portals.slice(1).map((portal) => `ip addr add ${portal}/24 dev $device`),
      ...this.portals.map((portal) => `mkdir -p ${TPG}/np/${portal}:3260`),
    ];
    this.luns.forEach((backing, lun) => {
      const { name, control } = backstore(backing, lun);
      const dir = `${CORE}/${name}`;
      lines.push(
        `mkdir -p ${dir}`,
        `printf %s '${control}' > ${dir}/control`,
        `printf 1 > ${dir}/enable`,
        `printf lab-lun-${lun} > ${dir}/wwn/vpd_unit_serial`,
        `mkdir -p ${TPG}/lun/lun_${lun}`,
        `ln -s ${dir} ${TPG}/lun/lun_${lun}/port`,
      );
    });
    lines.push(
      `printf 0 > ${TPG}/attrib/authentication`,
      `printf 1 > ${TPG}/attrib/generate_node_acls`,
      `printf 1 > ${TPG}/attrib/cache_dynamic_acls`,
      `printf 0 > ${TPG}/attrib/demo_mode_write_protect`,
      `printf 1 > ${TPG}/enable`,
    );
    await this.guest.must(lines.join('\n'));
  }

  /**
   * Logs a node in; its LUNs are /dev/sda, /dev/sdb, …, or of several ways /dev/mapper/luna, lunb, … A session that is lost is told to
   * the kernel within seconds.
   */
  async connect(node: Guest): Promise<void> {
    const set = (name: string, value: number | string): string =>
      `iscsiadm -m node -T ${TARGET} -o update -n ${name} -v ${value}`;
    if (this.portals.length > 1) await this.#startMultipath(node);
    await node.must(
      [
        'set -e',
        'modprobe -a iscsi_tcp sd_mod sg',
        `echo InitiatorName=iqn.2026-01.lab:n${node.node} > /etc/iscsi/initiatorname.iscsi`,
        'mkdir -p /run/lock/iscsi /var/lib/iscsi',
        'iscsid',
        `iscsiadm -m discovery -t sendtargets -p ${this.#portal(0)} > /dev/null`,
        set('node.session.timeo.replacement_timeout', 2),
        set('node.conn[0].timeo.noop_out_interval', 1),
        set('node.conn[0].timeo.noop_out_timeout', 1),
        set('node.session.initial_login_retry_max', 60),
        ...this.portals.map((portal) => `iscsiadm -m node -T ${TARGET} -p ${portal} --login > /dev/null`),
        `for i in $(seq 300); do [ -b ${this.devices.at(-1)} ] && exit 0; sleep 0.1; done; exit 1`,
      ].join('\n'),
    );
    if (this.portals.length > 1) await this.waysUp(node, this.portals.length);
  }

  /** As a distribution does it, with keys kept; the names are the same on all nodes. Queueing without a path would be LIO's default. */
  async #startMultipath(node: Guest): Promise<void> {
    const config = [
      'defaults {',
      'reservation_key file',
      'find_multipaths yes',
      'polling_interval 2',
      'max_polling_interval 2',
      '}',
      'overrides {',
      'no_path_retry fail',
      '}',
      'multipaths {',
      ...this.luns.flatMap((_, lun) => [
        'multipath {',
        // NAA of LIO's, and the hexadecimal digits of the serial number.
        `wwid ${`36001405ab${lun}`.padEnd(33, '0')}`,
        `alias lun${LETTERS[lun]}`,
        '}',
      ]),
      '}',
    ];
    await node.must(
      [
        'set -e',
        'modprobe -a dm-multipath dm-service-time',
        'mkdir -p /etc/multipath /run/udev',
        `printf '%s\\n' ${config.map((line) => `'${line}'`).join(' ')} > /etc/multipath.conf`,
        '/lib/systemd/systemd-udevd --daemon',
      ].join('\n'),
    );
    await node.spawn(['multipathd', '-d'], { logFile: join(node.dir, 'multipathd.log') });
  }

  /** Waits until multipath uses so many ways to each LUN. */
  async waysUp(node: Guest, count: number): Promise<void> {
    const each = this.luns.map((_, lun) => `lun${LETTERS[lun]}`).join(' ');
    const ways = `dmsetup status $map | grep -o '[0-9]*:[0-9]* A' | wc -l`;
    await node.must(
      `for map in ${each}; do for i in $(seq 600); do [ "$(${ways})" = ${count} ] && continue 2; sleep 0.1; done; dmsetup status; exit 1; done`,
    );
  }

  /** A node's way to the storage, and nothing else of it. */
  async cutPath(node: Guest, way = 0): Promise<void> {
    await node.must(`ip route add blackhole ${this.#portal(way)}/32`);
  }

  async healPath(node: Guest, way = 0): Promise<void> {
    await node.must(`ip route del blackhole ${this.#portal(way)}/32`);
  }

  /** The way is gone, and with it its nexus to the target; what comes back is another one. */
  async logout(node: Guest, way: number): Promise<void> {
    await node.must(`iscsiadm -m node -T ${TARGET} -p ${this.#portal(way)} --logout > /dev/null`);
  }

  async login(node: Guest, way: number): Promise<void> {
    await node.must(`iscsiadm -m node -T ${TARGET} -p ${this.#portal(way)} --login > /dev/null`);
  }

  /** Each request to the LUN takes so much longer; 0: as ever. Of a LUN on a device. */
  async slow(lun: number, delayMs: number): Promise<void> {
    const device = this.luns[lun]?.device ?? '';
    const sectors = Number(await this.guest.readFile(`/sys/class/block/${device.replace('/dev/', '')}/size`));
    if (delayMs === 0) await this.guest.healDisk(`lun${lun}`);
    else await this.guest.tableDisk(`lun${lun}`, `0 ${sectors} delay ${device} 0 ${delayMs}`);
  }

  /** LOGICAL UNIT RESET, sent by a node (SG_SCSI_RESET_DEVICE). */
  async reset(node: Guest, device: string): Promise<void> {
    const call = `import fcntl, os, struct; fcntl.ioctl(os.open('${device}', os.O_RDWR | os.O_NONBLOCK), 0x2284, struct.pack('i', 1))`;
    await node.must(`python3 -c "${call}"`);
  }

  /** The whole array loses its power and comes back; the nodes' sessions log in again by themselves. */
  async restart(): Promise<void> {
    await this.guest.kill9();
    await this.guest.boot();
    await this.export();
  }
}

/** What a disk says of its reservations, asked past the agent. */
export async function keysOn(
  guest: Guest,
  device: string,
): Promise<{ keys: string[]; holder: string | null; type: number }> {
  const script = `
    const addon = { exports: {} };
    process.dlopen(addon, '${join(projectDir, 'out', 'mdmesh.node')}');
    addon.exports.readReservations('${device}').then((found) => console.log(JSON.stringify(found)));`;
  return JSON.parse(await guest.must(`${process.execPath} -e "${script.replaceAll('\n', ' ')}"`));
}

/** Whose keys are on it, by this node's look: node IDs. */
export async function registeredOn(guest: Guest, device: string): Promise<number[]> {
  const { keys } = await keysOn(guest, device);
  return [...new Set(keys.map((key) => nodeOfKey(CLUSTER, key) ?? 0))].sort();
}

/** Writes zeros to the last block of a LUN, where no array has anything. Words of the kernel; empty: written. */
export async function rawWrite(guest: Guest, device: string): Promise<string> {
  const { rc, err } = await guest.sh(
    `blocks=$(($(cat /sys/class/block/${device.replace('/dev/', '')}/size) / 8)); dd if=/dev/zero of=${device} bs=4096 count=1 seek=$((blocks - 1)) oflag=direct conv=notrunc`,
  );
  return rc === 0 ? '' : err;
}
