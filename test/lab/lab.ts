/**
 * The laboratory: real kernels for tests. `Lab.start` makes a network namespace, shared disks and a few User-Mode Linux guests that boot in a
 * second or two; the lab cuts their network, fails their disks, takes their power, and compares the disks afterwards. Whatever happens to
 * the test, what it started ends with it: at close(), at exit, on a signal, by the relay if the test was killed, by sweep() at last.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { binDir, buildPrograms, hotPages, programPath, projectDir } from './guest/build.ts';
import { Channel } from './guest/channel.ts';
import { Guest } from './guest/guest.ts';
import { createNetns, DataSwitch, inNetns, parseShape } from './guest/network.ts';
import { bootedIn } from './guest/patience.ts';
import {
  describeProcess,
  endLab,
  groupGone,
  type LabRecord,
  stateRoot,
  sweepDeadLabs,
  writeRecord,
} from './guest/registry.ts';
import { stuckDisks } from './stuck_disks.ts';

export type { GuestExit, GuestProcess, ShellResult } from './guest/guest.ts';
export { Guest, GuestErrno } from './guest/guest.ts';

const umlModules = '/usr/lib/uml/modules';

function inPath(program: string): boolean {
  const dirs = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return dirs.some((dir) => existsSync(join(dir, program)));
}

/** Whether this host can run the laboratory, and if not, what it lacks. */
export function labAvailable(): { ok: true } | { ok: false; why: string } {
  const no = (why: string) => ({ ok: false as const, why });
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return no(`needs Linux on x64, this is ${process.platform}`);
  if (process.getuid?.() !== 0) return no('needs root, for network namespaces and taps');
  for (const program of ['linux.uml', 'ip', 'nsenter', 'taskset', 'g++', 'mdadm', 'modprobe']) {
    if (!inPath(program)) {
      return no(`no program ${program}; install user-mode-linux, kmod, iproute2, util-linux, mdadm, g++`);
    }
  }
  try {
    accessSync('/dev/net/tun');
  } catch {
    return no('no device /dev/net/tun');
  }
  if (!existsSync(umlModules) || readdirSync(umlModules).length === 0)
    return no(`no guest modules under ${umlModules}`);
  return { ok: true };
}

export interface LabOptions {
  name: string;
  /** @default 3 */
  guests?: number;
  /** One shared disk each, /dev/ubda, /dev/ubdb, … in every guest. @default three of 256 MiB */
  diskMib?: readonly number[];
  /** Of each guest. @default 512 */
  memMib?: number;
  /** Not under /tmp, /run or /dev: the guests mount their own there. @default $MDMESH_LAB_DIR/name or out/lab/name */
  workDir?: string;
  /** `memory` keeps a flush of a guest from waiting for the host's own disk; `work` puts the images into workDir. @default memory */
  disksIn?: 'memory' | 'work';
  /** Loaded before a guest counts as up. Others load when the kernel asks for them, as ever. @default labModules */
  modules?: readonly string[];
  /** Nodes map what they are about to touch in bulk (prefault/prefault.cc): they start in half the time, and have some more memory. @default true */
  prefault?: boolean;
  /** @default 60 s */
  bootTimeoutMs?: number;
}

/** Every level of md, the layer under its members, and what failDisk needs. */
export const labModules = [
  'md_mod',
  'raid1',
  'raid10',
  'raid456',
  'raid0',
  'linear',
  'dm_mod',
  'dm_multipath',
  'dm_round_robin',
  'dm_flakey',
] as const;

export interface ImageDifference {
  offsetBytes: number;
}

export interface VerifyResult {
  blocks: number;
  lost: number;
  stale: number;
  torn: number;
  unreadable: number;
  examples: { what: string; unit: number; expected: string; seen: string }[];
}

type FenceHandler = (node: number) => Promise<boolean>;

/**
 * Each guest stays on one core of this machine, the first on one that is its own if there are two. A guest's kernel and its
 * processes are processes here that take turns at every system call and page fault; from core to core each turn costs ten
 * times as much (727 against 72 µs a fault on a virtual machine whose cores sleep in between). MDMESH_LAB_FIRST_CORE=N counts
 * from another core: for laboratories side by side.
 */
function coreOf(node: number): number {
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  const cores = list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
  const skipped = Number(process.env.MDMESH_LAB_FIRST_CORE ?? 0) % cores.length;
  const [own = 0, ...others] = [...cores.slice(skipped), ...cores.slice(0, skipped)];
  return node === 1 ? own : (others[(node - 2) % others.length] ?? own);
}

const openLabs = new Set<Lab>();
let watchingExit = false;

function watchExit(): void {
  if (watchingExit) return;
  watchingExit = true;
  process.on('exit', () => {
    for (const lab of openLabs) lab.endNow();
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      for (const lab of openLabs) lab.endNow();
      process.kill(process.pid, signal);
    });
  }
}

export class Lab {
  readonly name: string;
  readonly workDir: string;
  /**
   * For files that guests sync: on the host's own disk each sync would stop the whole guest, kernel and all, for as long as that takes.
   * The same path there and here, until the laboratory is closed. null: disks are not in memory either.
   */
  readonly memoryDir: string | null;
  readonly netns: string;
  readonly guests: readonly Guest[];
  /** What the fence server does with a request; a test may replace it by one that refuses or never answers. @default kills the node */
  onFence: FenceHandler = async (node) => {
    await this.guest(node).kill9();
    return true;
  };
  readonly #record: LabRecord;
  readonly #images: readonly string[];
  readonly #switch: DataSwitch;
  readonly #relay: ReturnType<typeof spawn>;
  readonly #relayAnswers = new Map<string, (line: string) => void>();
  readonly #servers: net.Server[] = [];
  #forwards = 0;

  /** Builds the programs if they changed, sweeps leftovers, boots all guests at once and resolves when all answer. */
  static async start(options: LabOptions): Promise<Lab> {
    const available = labAvailable();
    if (!available.ok) throw new Error(`laboratory: ${available.why}`);
    Lab.sweep();
    buildPrograms();
    const lab = new Lab(options);
    try {
      await lab.#serve();
      const beganMs = performance.now();
      await Promise.all(lab.guests.map((guest) => guest.boot()));
      bootedIn(performance.now() - beganMs);
    } catch (error) {
      await lab.close();
      throw error;
    }
    return lab;
  }

  /** Ends the laboratories of dead owners: only processes in their records whose start time still matches. Returns what it ended. */
  static sweep(): string[] {
    return sweepDeadLabs();
  }

  private constructor(options: LabOptions) {
    const { name, guests = 3, diskMib = [256, 256, 256], memMib = 512, disksIn = 'memory', prefault = true } = options;
    if (!/^[a-z0-9-]{1,20}$/.test(name)) throw new Error(`laboratory name "${name}": use 1 to 20 of a–z, 0–9 and -`);
    this.name = name;
    this.workDir = options.workDir ?? join(process.env.MDMESH_LAB_DIR ?? join(projectDir, 'out', 'lab'), name);
    if (/^\/(tmp|run|dev|proc|sys)(\/|$)/.test(this.workDir)) {
      throw new Error(
        `laboratory directory ${this.workDir}: guests have their own /tmp, /run and /dev; use another place`,
      );
    }
    this.netns = `mdlab-${process.pid}-${name}`;
    rmSync(this.workDir, { recursive: true, force: true });
    mkdirSync(this.workDir, { recursive: true });
    // hostfs runs as the host user of the guest, root; the overlay's tmpfs does not reach here.
    chmodSync(this.workDir, 0o777);
    const diskDir = disksIn === 'memory' ? mkdtempSync('/dev/shm/mdlab-') : this.workDir;
    this.memoryDir = disksIn === 'memory' ? join(diskDir, 'files') : null;
    if (this.memoryDir !== null) mkdirSync(this.memoryDir);
    this.#images = diskMib.map((mib, i) => {
      const path = join(diskDir, `disk-${String.fromCharCode(97 + i)}.img`);
      const fd = openSync(path, 'w');
      ftruncateSync(fd, mib * 1024 * 1024);
      closeSync(fd);
      return path;
    });
    this.#record = {
      netns: this.netns,
      owner: describeProcess(process.pid, 'test'),
      processes: [],
      scratchDirs: disksIn === 'memory' ? [diskDir] : [],
    };
    writeRecord(this.#record);
    openLabs.add(this);
    watchExit();

    createNetns(this.netns, guests);
    this.#switch = new DataSwitch(this.netns, guests);
    this.#own(this.#switch.process.pid, 'data switch');
    const relay = join(import.meta.dirname, 'guest', 'relay.ts');
    const sockets = [`in 7000 ${this.#socketPath('channel')}`, `in 7001 ${this.#socketPath('fence')}`];
    const argv = [process.execPath, '--no-warnings', relay, this.netns, ...sockets];
    this.#relay = spawn('nsenter', inNetns(this.netns, argv), { detached: true, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#own(this.#relay.pid, 'relay');
    const { stdout } = this.#relay;
    if (stdout !== null) {
      createInterface({ input: stdout }).on('line', (line) => {
        const order = line.replace(/^(ok|error) /, '').replace(/: .*$/, '');
        this.#relayAnswers.get(order)?.(line);
      });
    }

    const hot = prefault ? hotPages() : null;
    this.guests = Array.from({ length: guests }, (_, i) => {
      return new Guest({
        node: i + 1,
        netns: this.netns,
        workDir: this.workDir,
        memoryDir: this.memoryDir,
        images: this.#images,
        memMib,
        modules: options.modules ?? labModules,
        bootTimeoutMs: options.bootTimeoutMs ?? 60_000,
        core: coreOf(i + 1),
        hotPages: hot,
        onProcess: (process) => this.#note(process),
      });
    });
  }

  /** Guests count from 1, as nodes do. */
  guest(node: number): Guest {
    const guest = this.guests[node - 1];
    if (guest === undefined)
      throw new Error(`laboratory ${this.name} has guests 1 to ${this.guests.length}, not ${node}`);
    return guest;
  }

  // ── network ──

  /** Takes a node off the data network, in both directions. The control network stays. */
  async cut(node: number): Promise<void> {
    await this.#linksOf(node, false);
  }

  /** Undoes every cut of this node, pair and one-way cuts too. Shapes stay. */
  async heal(node: number): Promise<void> {
    await this.#linksOf(node, true);
  }

  async cutPair(a: number, b: number): Promise<void> {
    await Promise.all([this.cutOneWay(a, b), this.cutOneWay(b, a)]);
  }

  async healPair(a: number, b: number): Promise<void> {
    await Promise.all([this.#switch.link(a, b, true), this.#switch.link(b, a, true)]);
  }

  /** Frames from one node do not reach the other; the way back works. */
  async cutOneWay(from: number, to: number): Promise<void> {
    this.guest(from);
    this.guest(to);
    await this.#switch.link(from, to, false);
  }

  /** Every frame this node sends or receives: `delay 20ms 5ms loss 1% rate 10mbit`; `` is plain again. A delay counts once each way. */
  async netem(node: number, text: string): Promise<void> {
    const shape = parseShape(text);
    this.guest(node);
    await Promise.all(
      this.#others(node).flatMap((other) => [
        this.#switch.shape(node, other, shape),
        this.#switch.shape(other, node, shape),
      ]),
    );
  }

  #others(node: number): number[] {
    return [0, ...this.guests.map((guest) => guest.node)].filter((other) => other !== node);
  }

  async #linksOf(node: number, up: boolean): Promise<void> {
    this.guest(node);
    const orders = this.#others(node).flatMap((other) => [
      this.#switch.link(node, other, up),
      this.#switch.link(other, node, up),
    ]);
    await Promise.all(orders);
  }

  /** A Unix socket on the host that leads to a TCP port of a guest, over the data network or past all cuts. */
  async forward(node: number, port: number, over: 'data' | 'control' = 'control'): Promise<string> {
    const socket = this.#socketPath(`forward${++this.#forwards}`);
    const host = over === 'data' ? this.guest(node).address : `10.78.0.${node}`;
    await this.#orderRelay(`out ${socket} ${host} ${port}`);
    return socket;
  }

  /** Runs a host program inside the laboratory's network namespace. Throws if it fails. Returns its standard output. */
  run(argv: readonly string[]): string {
    return execFileSync('nsenter', inNetns(this.netns, argv), { encoding: 'utf8' });
  }

  // ── power, disks ──

  /** All nodes lose power in the same instant. */
  async powerCut(): Promise<void> {
    for (const guest of this.guests) guest.killNow();
    const leaders = this.#record.processes.filter(({ what }) => what.startsWith('guest'));
    await Promise.all(leaders.map(({ pid }) => groupGone(pid)));
  }

  async bootAll(): Promise<void> {
    await Promise.all(this.guests.filter((guest) => !guest.running).map((guest) => guest.boot()));
  }

  /** The host file behind /dev/ubda (0), /dev/ubdb (1), … */
  diskImage(index: number): string {
    const image = this.#images[index];
    if (image === undefined)
      throw new Error(`laboratory ${this.name} has disks 0 to ${this.#images.length - 1}, not ${index}`);
    return image;
  }

  /** First byte at which two disks differ in the range, or null. Sees what the guests have handed to their disks, caches of theirs not. */
  compareImages(a: number, b: number, offsetBytes: number, lengthBytes: number): ImageDifference | null {
    const fdA = openSync(this.diskImage(a), 'r');
    const fdB = openSync(this.diskImage(b), 'r');
    const stepBytes = 4 * 1024 * 1024;
    const [bufferA, bufferB] = [Buffer.allocUnsafe(stepBytes), Buffer.allocUnsafe(stepBytes)];
    try {
      for (let at = 0; at < lengthBytes; at += stepBytes) {
        const wanted = Math.min(stepBytes, lengthBytes - at);
        for (const [fd, buffer] of [
          [fdA, bufferA],
          [fdB, bufferB],
        ] as const) {
          const got = readSync(fd, buffer, 0, wanted, offsetBytes + at);
          if (got !== wanted)
            throw new Error(`disk images ${a} and ${b} end before ${offsetBytes + lengthBytes} bytes`);
        }
        if (bufferA.compare(bufferB, 0, wanted, 0, wanted) === 0) continue;
        const first = bufferA.subarray(0, wanted).findIndex((byte, i) => byte !== bufferB[i]);
        return { offsetBytes: offsetBytes + at + first };
      }
      return null;
    } finally {
      closeSync(fdA);
      closeSync(fdB);
    }
  }

  /** Checks on the host that every write the logs claim is on one leg. `offsetBytes`: where the array's data begins on it. */
  verifyImage(index: number, offsetBytes: number, logs: readonly string[]): VerifyResult {
    const options = ['--image', this.diskImage(index), '--offset-bytes', String(offsetBytes)];
    const argv = ['verify', ...options, ...logs.flatMap((log) => ['--log', log])];
    // Exit 1 says that something was found: that is a result too.
    const { status, stdout, stderr } = spawnSync(this.mdio, argv, { encoding: 'utf8' });
    if (status !== 0 && status !== 1) throw new Error(`mdio ${argv.join(' ')}: ${stderr}`);
    return JSON.parse(stdout);
  }

  /** Path of the disk writer, on the host and in the guests alike: `mdio write | verify | read-check | bench`, see disk_writer/mdio.cc. */
  get mdio(): string {
    return programPath('mdio');
  }

  // ── fencing ──

  /** A program for a guest's agent to run: reads `nodeid=N` on standard input, exits 0 only once that node's processes are gone. */
  fenceScript(): string {
    const path = join(this.workDir, 'fence');
    // guestd is the interpreter: one exec instead of a shell and three.
    if (!existsSync(path)) writeFileSync(path, `#!${join(binDir, 'guestd')} fence\n`, { mode: 0o755 });
    return path;
  }

  async #serve(): Promise<void> {
    const listen = (name: string, onConnection: (socket: net.Socket) => void): Promise<void> => {
      const server = net.createServer(onConnection);
      this.#servers.push(server);
      return new Promise((resolve, reject) => {
        server.on('error', reject).listen(this.#socketPath(name), resolve);
      });
    };
    await listen('channel', (socket) => this.#greet(socket));
    await listen('fence', (socket) => this.#answerFence(socket));
    await this.#switch.ready;
  }

  #greet(socket: net.Socket): void {
    const channel = new Channel(socket);
    channel.hello.then(({ node, bootId }) => this.guest(node).attach(channel, bootId));
  }

  #answerFence(socket: net.Socket): void {
    socket.on('error', () => {});
    createInterface({ input: socket }).on('line', (line) => {
      const node = Number(/^fence (\d+)$/.exec(line)?.[1]);
      this.onFence(node).then(
        (gone) => socket.end(gone ? 'ok\n' : 'refused\n'),
        (error: Error) => socket.end(`${error.message}\n`),
      );
    });
  }

  #orderRelay(line: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#relayAnswers.set(line, (answer) => {
        this.#relayAnswers.delete(line);
        if (answer.startsWith('ok ')) resolve();
        else reject(new Error(`relay: ${answer}`));
      });
      this.#relay.stdin?.write(`${line}\n`);
    });
  }

  #socketPath(name: string): string {
    return join(stateRoot, this.netns, `${name}.sock`);
  }

  #own(pid: number | undefined, what: string): void {
    if (pid === undefined) throw new Error(`laboratory: the ${what} cannot be started`);
    this.#note(describeProcess(pid, what));
  }

  #note(process: LabRecord['processes'][number]): void {
    this.#record.processes.push(process);
    writeRecord(this.#record);
  }

  // ── end ──

  /**
   * Kills what was started and removes the namespace. Logs and consoles stay in workDir. Says on standard error when a
   * guest's own disk driver stands still (`LAB FAULT`): what failed then says nothing about what was tested.
   */
  async close(): Promise<void> {
    if (openLabs.has(this)) {
      const stuck = await stuckDisks(this.guests, this.#images.length);
      for (const words of stuck) process.stderr.write(`LAB FAULT ${this.name}: ${words}\n`);
    }
    this.endNow();
    await Promise.all(this.#record.processes.map(({ pid }) => groupGone(pid)));
  }

  /** As close, synchronous, without waiting: for the last moments of a process. */
  endNow(): void {
    if (!openLabs.delete(this)) return;
    for (const server of this.#servers) server.close();
    for (const guest of this.guests) guest.killNow();
    endLab(this.#record);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
