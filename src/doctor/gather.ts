/** Asks this machine, its agent and the network, once. Nothing is changed but a file and an array of the probes, which are gone again. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  writeSync,
} from 'node:fs';
import { mkdtemp, open, rm, statfs } from 'node:fs/promises';
import { connect as connectTo } from 'node:net';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { type Config, loadConfig } from '../config/index.ts';
import { draft } from '../config/parse.ts';
import { LAN } from '../config/profiles.ts';
import { textOf } from '../error_text.ts';
import type { Disk } from '../md/driver.ts';
import type { Status } from '../outlets/index.ts';
import { VERSION } from '../version.ts';
import type { Facts, ModuleState } from './facts.ts';

/** What gather needs of the outside. Paths are absolute; a test may put another root before them. */
export interface Machine {
  /** null: missing or unreadable. */
  read(path: string): string | null;
  list(path: string): string[];
  /** null: it was taken, else why not. */
  write(path: string, value: string): string | null;
  /** Whether modprobe would find it. */
  loadable(module: string): Promise<boolean>;
  /** ms of one TCP handshake; throws. */
  connect(address: string, port: number): Promise<number>;
  /** ms of one durable write in a directory; throws. */
  sync(directory: string): Promise<number>;
  freeMib(directory: string): Promise<number>;
  /** What multipathd says; throws where it does not answer. */
  multipathd(...words: string[]): Promise<string>;
  /** major:minor and type of the file system that a directory is on. */
  mountOf(directory: string): { device: string; type: string } | null;
  modeOf(path: string): number | null;
  now(): Date;
  hostname(): string;
}

/** The agent's side: throws where it does not answer. */
export interface AgentView {
  status(): Promise<Status>;
  disks(): Promise<Disk[]>;
}

const MODULES = ['md_mod', 'raid0', 'raid1', 'raid10', 'raid456', 'dm_mod', 'dm_multipath', 'dm_round_robin'] as const;
const PROBE = 'md_mdmesh_probe';
const NEW_ARRAY = '/sys/module/md_mod/parameters/new_array';
/** What the driver uses before an array runs. */
const ATTRIBUTES = ['array_state', 'new_dev', 'resync_start', 'safe_mode_delay', 'consistency_policy'] as const;
const HANDSHAKES = 5;
const CONNECT_WITHIN_MS = 2000;
const MULTIPATHD_WITHIN_MS = 5000;

export async function gather(
  configFile: string,
  machine: Machine,
  agent: AgentView,
  peerIdOf: (keyFile: string) => Promise<string>,
): Promise<Facts> {
  const text = machine.read(configFile);
  const drafted = text === null ? null : draft(text, configFile, (path) => machine.read(path) ?? '');
  const loaded = await loadConfig(configFile, { peerIdOf });
  const config = 'config' in loaded ? loaded.config : null;
  const keyFile = config?.keyFile ?? drafted?.keyFile ?? '/etc/mdmesh/key';
  const [status, disks] = await asked(agent);
  const nodes = config?.nodes ?? drafted?.config?.nodes ?? [];
  const self = config?.self ?? null;
  const stateDir = config?.stateDir ?? drafted?.config?.stateDir ?? '/var/lib/mdmesh';
  const timing = config?.timing ?? drafted?.config?.timing ?? LAN;
  const mode = machine.modeOf(keyFile);
  const mds = status instanceof Error ? [] : status.arrays.map(({ record }) => record.md);
  return {
    form: 1,
    at: machine.now().toISOString(),
    version: VERSION,
    hostname: machine.hostname(),
    kernel: {
      release: machine.read('/proc/sys/kernel/osrelease') ?? '',
      modules: await modules(machine),
      mdTrouble: probe(machine),
      clocksource: machine.read('/sys/devices/system/clocksource/clocksource0/current_clocksource') ?? '',
    },
    config: {
      file: configFile,
      problems: 'problems' in loaded ? loaded.problems.map((each) => `${each.file}: ${each.key}: ${each.text}`) : [],
      digest: config === null ? null : digestOf(config),
      cluster: config?.cluster ?? drafted?.config?.cluster ?? null,
      self,
      nodes: nodes.map(({ id, address, port, peerId }) => ({ id, address, port, peerId })),
      probeTimeoutMs: timing.probeTimeoutMs,
      candidacyTimeoutMs: timing.candidacyTimeoutMs,
      watchdogSeconds: Math.ceil(timing.watchdogMs / 1000),
      methods: [...(config?.fencing.methods ?? drafted?.config?.fencing.methods ?? [])],
      quorum: config?.quorum.by ?? drafted?.config?.quorum.by ?? 'nodes',
      watchdogDevice: config?.fencing.watchdog?.device ?? drafted?.config?.fencing.watchdog?.device ?? null,
    },
    key: {
      file: keyFile,
      peerId: await peerIdOf(keyFile).catch(() => null),
      modeOctal: mode === null ? null : (mode & 0o777).toString(8).padStart(3, '0'),
    },
    autostart: autostart(machine),
    agent: {
      trouble: status instanceof Error ? status.message : null,
      version: status instanceof Error ? null : status.version,
      master: status instanceof Error ? null : status.lease.master,
      mayWrite: !(status instanceof Error) && status.lease.grantLeftMs > 0,
      nodes:
        status instanceof Error
          ? []
          : status.nodes.map(({ node, status: word, connected, clockRate }) => ({
              node,
              status: word,
              connected,
              clockRate,
            })),
      quorumDisks:
        status instanceof Error
          ? []
          : (status.quorum?.disks ?? [])
              .filter(({ decides }) => decides)
              .map(({ path, answers }) => ({ path, answers })),
      privileges: status instanceof Error ? null : (status.privileges ?? null),
    },
    arrays: status instanceof Error ? [] : status.arrays.map(arrayFacts),
    reservations: status instanceof Error ? null : status.reservations,
    disks: await Promise.all(
      disks.map(async (disk) => ({
        path: disk.path,
        uuid: disk.superblock?.deviceUuid ?? null,
        arrayUuid: disk.mesh === null ? null : (disk.superblock?.setUuid ?? null),
        writeCache: machine.read(`${queueOf(machine, disk.devno)}/write_cache`),
        fua: machine.read(`${queueOf(machine, disk.devno)}/fua`),
        multipath: await multipathOf(machine, disk.devno),
      })),
    ),
    watchdog: watchdogOf(machine, config?.fencing.watchdog?.device ?? '/dev/watchdog'),
    peers: await Promise.all(nodes.filter(({ id }) => id !== self).map((node) => peerFacts(machine, node))),
    swaps: swapFacts(machine, mds),
    journal: await journalFacts(machine, stateDir, mds),
  };
}

async function asked(agent: AgentView): Promise<[Status | Error, Disk[]]> {
  try {
    const status = await agent.status();
    return [status, await agent.disks()];
  } catch (error) {
    return [error instanceof Error ? error : new Error(String(error)), []];
  }
}

async function modules(machine: Machine): Promise<Record<string, ModuleState>> {
  const states = await Promise.all(
    MODULES.map(async (name): Promise<[string, ModuleState]> => {
      // Built in, or loaded.
      if (machine.list(`/sys/module/${name}`).length > 0) return [name, 'loaded'];
      return [name, (await machine.loadable(name)) ? 'loadable' : 'missing'];
    }),
  );
  return Object.fromEntries(states);
}

/** Makes an array of nothing with external metadata, as the driver would, and takes it away. */
function probe(machine: Machine): string | null {
  // Not loaded yet: then the agent will load it, and there is nothing to be tried.
  if (machine.list('/sys/module/md_mod').length === 0) return null;
  const refused = machine.write(NEW_ARRAY, PROBE);
  if (refused !== null) return `${NEW_ARRAY}: ${refused}`;
  const md = `/sys/block/${PROBE}/md`;
  try {
    const unwilling = machine.write(`${md}/metadata_version`, 'external:probe');
    if (unwilling !== null) return `metadata_version = external: ${unwilling}`;
    const seen = machine.read(`${md}/metadata_version`);
    if (seen !== 'external:probe') return `metadata_version reads ${seen} after external was written`;
    const lacking = ATTRIBUTES.filter((name) => !machine.list(md).includes(name));
    return lacking.length === 0 ? null : `attributes ${lacking.join(', ')} are missing`;
  } finally {
    machine.write(`${md}/array_state`, 'clear');
  }
}

function digestOf({ cluster, nodes, timing, fencing, arrays, quorum }: Config): string {
  const same = {
    cluster,
    nodes: nodes.map(({ id, address, port, peerId }) => [id, address, port, peerId]),
    timing: Object.entries(timing).sort(),
    methods: fencing.methods,
    copy: Object.entries(arrays.copy).sort(),
    autoAssemble: arrays.autoAssemble,
    // Whether there is a witness, too; its path may differ.
    ...(quorum.by === 'disks' ? { quorum: [quorum.by, quorum.witness !== null] } : {}),
  };
  return createHash('sha256').update(JSON.stringify(same)).digest('hex');
}

function autostart(machine: Machine): Facts['autostart'] {
  const rule = (name: RegExp) =>
    ['/etc/udev/rules.d', '/usr/lib/udev/rules.d', '/lib/udev/rules.d'].some((directory) =>
      machine.list(directory).some((each) => name.test(each)),
    );
  const hook = (name: string) =>
    ['/etc/initramfs-tools/hooks', '/usr/share/initramfs-tools/hooks'].some((directory) =>
      machine.list(directory).includes(name),
    );
  const files = ['/etc/mdadm/mdadm.conf', '/etc/mdadm.conf'];
  return {
    mdadmRule: rule(/md-raid-assembly\.rules$/),
    ownRule: rule(/-mdmesh\.rules$/),
    // Without an initramfs to be made, a hook does nothing.
    mdadmInitramfs: hook('mdadm') && machine.list('/usr/sbin').includes('update-initramfs'),
    ownInitramfs: hook('mdmesh'),
    arrayLines: files.flatMap((file) =>
      (machine.read(file) ?? '').split('\n').flatMap((line, index) => {
        const hex = /^\s*ARRAY\b.*\bUUID=([0-9a-f:.-]+)/i
          .exec(line)?.[1]
          ?.replaceAll(/[^0-9a-f]/gi, '')
          .toLowerCase();
        if (hex?.length !== 32) return [];
        return [{ file, line: index + 1, uuid: hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5') }];
      }),
    ),
  };
}

function arrayFacts({ record, paths, local, trouble }: Status['arrays'][number]): Facts['arrays'][number] {
  return {
    uuid: record.uuid,
    md: record.md,
    members: record.members.map(({ uuid, role }) => ({ uuid, role, path: paths[uuid] ?? null })),
    direct: ['raid0', 'linear'].includes(record.level)
      ? []
      : (local?.members ?? []).filter(({ path }) => path === 'direct').map(({ device }) => device),
    trouble,
  };
}

/** A partition has its disk's queue. */
function queueOf(machine: Machine, devno: string): string {
  const own = `/sys/dev/block/${devno}`;
  return machine.list(`${own}/queue`).length > 0 ? `${own}/queue` : `${own}/../queue`;
}

/** Of a partition, of the map below it (kpartx names it so). */
async function multipathOf(machine: Machine, devno: string): Promise<Facts['disks'][number]['multipath']> {
  const [, part, isMap] = /^(part\d+-)?(mpath-)/.exec(machine.read(`/sys/dev/block/${devno}/dm/uuid`) ?? '') ?? [];
  if (isMap === undefined) return null;
  const below = `/sys/dev/block/${devno}/slaves`;
  const [slave] = part === undefined ? [] : machine.list(below);
  const map = machine.read(slave === undefined ? `/sys/dev/block/${devno}/dm/name` : `${below}/${slave}/dm/name`) ?? '';
  try {
    const queueing = /"queueing"\s*:\s*"([^"]*)"/.exec(await machine.multipathd('show', 'map', map, 'json'))?.[1];
    const key = /0x[0-9a-f]+/.exec(await machine.multipathd('getprkey', 'map', map))?.[0] ?? null;
    return { map, answers: true, queues: queueing === 'on', key };
  } catch {
    return { map, answers: false, queues: false, key: null };
  }
}

function watchdogOf(machine: Machine, device: string): Facts['watchdog'] {
  const name = basename(device) === 'watchdog' ? 'watchdog0' : basename(device);
  const timeout = machine.read(`/sys/class/watchdog/${name}/timeout`);
  return {
    identity: machine.read(`/sys/class/watchdog/${name}/identity`),
    timeoutSeconds: timeout === null ? null : Number(timeout),
    state: machine.read(`/sys/class/watchdog/${name}/state`),
  };
}

async function peerFacts(
  machine: Machine,
  { id, address, port }: { id: number; address: string; port: number },
): Promise<Facts['peers'][number]> {
  try {
    const samples: number[] = [];
    for (let count = 0; count < HANDSHAKES; count++) samples.push(await machine.connect(address, port));
    samples.sort((a, b) => a - b);
    return { node: id, address, port, roundTripMs: samples[Math.floor(HANDSHAKES / 2)] ?? null, trouble: null };
  } catch (error) {
    return { node: id, address, port, roundTripMs: null, trouble: textOf(error) };
  }
}

function swapFacts(machine: Machine, mds: readonly string[]): Facts['swaps'] {
  // proc_swaps(5); what is no word of a path is written in octal there.
  const lines = (machine.read('/proc/swaps') ?? '').split('\n').slice(1);
  return lines.flatMap((line) => {
    const [name = '', type] = line.split(/\s+/);
    const path = name.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (path === '') return [];
    const device =
      type === 'file'
        ? (machine.mountOf(dirname(path))?.device ?? null)
        : machine.read(`/sys/class/block/${basename(path)}/dev`);
    return [{ path, onArray: device === null ? null : arrayBelow(machine, device, mds) }];
  });
}

/** Which of these arrays a device is, is part of, or lies on: through partitions, volumes of LVM, dm-crypt. */
function arrayBelow(machine: Machine, devno: string, mds: readonly string[]): string | null {
  const own = `/sys/dev/block/${devno}`;
  const md = mds.find((each) => machine.read(`/sys/block/${each}/dev`) === devno);
  if (md !== undefined) return md;
  const whole = machine.read(`${own}/partition`) === null ? null : machine.read(`${own}/../dev`);
  const below = machine.list(`${own}/slaves`).map((slave) => machine.read(`${own}/slaves/${slave}/dev`));
  for (const each of [whole, ...below]) {
    const found = each === null ? null : arrayBelow(machine, each, mds);
    if (found !== null) return found;
  }
  return null;
}

async function journalFacts(machine: Machine, directory: string, mds: readonly string[]): Promise<Facts['journal']> {
  const mount = machine.mountOf(directory);
  const onArray = mount === null ? null : arrayBelow(machine, mount.device, mds);
  const base = { directory, fileSystem: mount?.type ?? null, onArray };
  try {
    const freeMib = Math.floor(await machine.freeMib(directory));
    // Writing to an array that holds its writes would hang.
    return { ...base, freeMib, syncMs: onArray === null ? await machine.sync(directory) : null, trouble: null };
  } catch (error) {
    return { ...base, freeMib: null, syncMs: null, trouble: textOf(error) };
  }
}

/** @param root is put before every path: '' on a real machine */
export function machine(root = ''): Machine {
  return {
    read(path) {
      try {
        return readFileSync(root + path, 'utf8').trim();
      } catch {
        return null;
      }
    },
    list(path) {
      try {
        return readdirSync(root + path);
      } catch {
        return [];
      }
    },
    write(path, value) {
      try {
        // For writing alone: an attribute that cannot be read cannot be opened for both, not even by root.
        const file = openSync(root + path, constants.O_WRONLY);
        try {
          writeSync(file, value);
        } finally {
          closeSync(file);
        }
        return null;
      } catch (error) {
        return textOf(error);
      }
    },
    loadable: (module) =>
      promisify(execFile)('/sbin/modprobe', ['--dry-run', '--quiet', module]).then(
        () => true,
        () => false,
      ),
    multipathd: async (...words) =>
      (await promisify(execFile)('multipathd', words, { timeout: MULTIPATHD_WITHIN_MS })).stdout,
    connect: (address, port) =>
      new Promise((resolve, reject) => {
        const startedMs = performance.now();
        const socket = connectTo({ host: address, port, timeout: CONNECT_WITHIN_MS });
        socket.once('connect', () => {
          resolve(performance.now() - startedMs);
          socket.destroy();
        });
        socket.once('timeout', () => socket.destroy(new Error(`no answer within ${CONNECT_WITHIN_MS} ms`)));
        socket.once('error', reject);
      }),
    async sync(directory) {
      const inner = await mkdtemp(join(root + directory, '.doctor-'));
      try {
        const file = await open(join(inner, 'probe'), 'w');
        const startedMs = performance.now();
        await file.writeFile('probe');
        await file.sync();
        const syncMs = performance.now() - startedMs;
        await file.close();
        return syncMs;
      } finally {
        await rm(inner, { recursive: true });
      }
    },
    async freeMib(directory) {
      const { bavail, bsize } = await statfs(root + directory);
      return (bavail * bsize) / 1024 ** 2;
    },
    mountOf(directory) {
      const path = existsSync(root + directory) ? realpathSync(root + directory) : null;
      if (path === null) return null;
      // proc_pid_mountinfo(5): … major:minor root mountpoint options - type source options. The longest that contains it, the last of those.
      const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .flatMap((line) => {
          const [, device = '', at = '', type = ''] = /^\d+ \d+ (\S+) \S+ (\S+) .* - (\S+) /.exec(line) ?? [];
          return path === at || path.startsWith(at === '/' ? '/' : `${at}/`) ? [{ device, at, type }] : [];
        });
      return mounts.reduce<{ device: string; at: string; type: string } | null>(
        (best, each) => (each.at !== '' && each.at.length >= (best?.at.length ?? 0) ? each : best),
        null,
      );
    },
    modeOf: (path) => statSync(root + path, { throwIfNoEntry: false })?.mode ?? null,
    now: () => new Date(),
    hostname,
  };
}
