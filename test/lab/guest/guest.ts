/**
 * One guest: a User-Mode Linux kernel with its own /proc, /sys, network and clock, this machine's files read-only under an overlay, and the
 * laboratory's directory shared. Methods act inside it by way of guestd; kill9, freeze and thaw act on its host processes.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { constants, getPriority } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { programPath } from './build.ts';
import type { Channel } from './channel.ts';
import { inNetns, macAddress } from './network.ts';
import { patient } from './patience.ts';
import { describeProcess, groupGone, groupMembers, type HostProcess, killGroup, processState } from './registry.ts';

const errnoNames = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]));

export class GuestErrno extends Error {
  readonly code: string;
  constructor(node: number, what: string, errno: number) {
    const code = errnoNames.get(errno) ?? `errno ${errno}`;
    super(`n${node}: ${what}: ${code}`);
    this.code = code;
  }
}

export interface ShellResult {
  rc: number;
  out: string;
  err: string;
}

/** `code` is null if a signal ended it; `lost` if its guest was killed or reset before it ended. */
export interface GuestExit {
  code: number | null;
  signal: number | null;
  lost: boolean;
}

export interface GuestProcess {
  pid: number;
  exited: Promise<GuestExit>;
  signal(name: NodeJS.Signals): Promise<void>;
}

export interface GuestSettings {
  node: number;
  netns: string;
  workDir: string;
  /** Another folder of the host's that the guest sees under the same path; null: none. */
  memoryDir: string | null;
  images: readonly string[];
  memMib: number;
  modules: readonly string[];
  bootTimeoutMs: number;
  /** Of this machine, the only one it runs on. */
  core: number;
  /** Pages of programs that are mapped as they start (prefault/prefault.cc); null: each when it is touched. */
  hotPages: string | null;
  /** Called with the guest's host process as soon as it exists. */
  onProcess(process: HostProcess): void;
}

const defaultTimeoutMs = 30_000;

export class Guest {
  readonly node: number;
  readonly address: string;
  /** Writable, the same path on the host and in every guest. */
  readonly dir: string;
  readonly #settings: GuestSettings;
  #channel: Channel | null = null;
  #process: HostProcess | null = null;
  #bootId = '';
  #boots = 0;
  #onUp: (() => void)[] = [];
  #wrapped = new Map<string, { device: string; sectors: number }>();

  constructor(settings: GuestSettings) {
    this.#settings = settings;
    this.node = settings.node;
    this.address = `10.77.0.${settings.node}`;
    this.dir = join(settings.workDir, `n${settings.node}`);
    mkdirSync(this.dir, { recursive: true });
  }

  get hostPid(): number {
    if (this.#process === null) throw new Error(`n${this.node} is not running; boot() it first`);
    return this.#process.pid;
  }

  get hostProcess(): HostProcess | null {
    return this.#process;
  }

  get running(): boolean {
    return this.#process !== null;
  }

  /** Counts also the boots that the guest made by itself: a reset (tried with sysrq b) keeps the same host process. */
  get boots(): number {
    return this.#boots;
  }

  /** Starts the kernel and resolves when it answers. */
  async boot(): Promise<void> {
    if (this.#process !== null)
      throw new Error(`n${this.node} is already running as host process ${this.#process.pid}`);
    const { node, netns, workDir, memoryDir, images, memMib, modules, core, hotPages } = this.#settings;
    const argv = [
      'taskset',
      '--cpu-list',
      String(core),
      'linux.uml',
      `mem=${memMib}M`,
      `umid=n${node}`,
      `uml_dir=${join(workDir, 'umid')}`,
      'root=/dev/root',
      'rootfstype=hostfs',
      'rootflags=/',
      'ro',
      `init=${programPath('guestd')}`,
      ...images.map((image, i) => `ubd${i}c=${image}`),
      `eth0=tuntap,tap${node},${macAddress('data', node)},`,
      `eth1=tuntap,ctl${node},${macAddress('control', node)},`,
      'con=null',
      'con0=null,fd:1',
      'loglevel=5',
      `lab_node=${node}`,
      `lab_dir=${workDir}`,
      ...(memoryDir === null ? [] : [`lab_memory=${memoryDir}`]),
      ...(hotPages === null ? [] : [`lab_preload=${programPath('prefault')}`, `lab_hot_pages=${hotPages}`]),
      `lab_modules=${modules.join(',')}`,
      `lab_netns=${netns}`,
    ];
    const log = openSync(this.#consolePath, 'a');
    const child = spawn('nsenter', inNetns(netns, argv), { detached: true, stdio: ['ignore', log, log], cwd: '/' });
    closeSync(log);
    const started = child.pid === undefined ? null : describeProcess(child.pid, `guest n${node}`);
    if (started === null) throw new Error(`n${node}: nsenter cannot be started`);
    // The host's scheduler shares its processors out among sessions, and a guest is one: a priority counts inside it only.
    const priority = getPriority();
    if (priority !== 0 && existsSync('/proc/self/autogroup'))
      writeFileSync(`/proc/${started.pid}/autogroup`, `${priority}`);
    this.#process = started;
    this.#settings.onProcess(started);
    child.on('exit', () => {
      if (this.#process?.pid === started.pid) this.#dead('its host process ended');
    });
    await this.untilUp(this.#settings.bootTimeoutMs);
  }

  /** Resolves once the guest answers, at once if it does; with `afterBoot`, once it has booted more often than that. */
  async untilUp(usualMs = defaultTimeoutMs, afterBoot = 0): Promise<void> {
    const timeoutMs = patient(usualMs);
    const deadline = Date.now() + timeoutMs;
    while (this.#channel?.open !== true || this.#boots <= afterBoot) {
      const left = deadline - Date.now();
      if (left <= 0 || this.#process === null) {
        throw new Error(`n${this.node} did not come up within ${timeoutMs} ms; its console:\n${this.console()}`);
      }
      const up = new Promise<void>((resolve) => this.#onUp.push(resolve));
      await Promise.race([up, sleep(Math.min(left, 500), undefined, { ref: false })]);
    }
  }

  /** A guest has dialled in. */
  attach(channel: Channel, bootId: string): void {
    this.#channel?.close('the guest dialled anew');
    this.#channel = channel;
    if (bootId !== this.#bootId) {
      this.#boots++;
      this.#wrapped.clear();
    }
    this.#bootId = bootId;
    for (const resolve of this.#onUp.splice(0)) resolve();
  }

  // ── host side ──

  /** Power cut of this node. Resolves when nothing of it runs any more. Later writes of it cannot come. */
  async kill9(): Promise<void> {
    const process = this.#process;
    if (process === null) return;
    this.killNow();
    await groupGone(process.pid);
  }

  /** The kill alone, synchronous: for several guests in the same instant. */
  killNow(): void {
    if (this.#process === null) return;
    killGroup(this.#process, this.#settings.netns);
    this.#dead('the guest was killed');
  }

  /**
   * Stops every host process of the guest, its disk and network threads too: a write that was on its way lands at thaw(). The ones that the
   * guest's kernel traces (its user space) are left alone: they are stopped at their next system call, and a SIGSTOP of ours would look
   * to that kernel like a fault of the program.
   */
  async freeze(): Promise<void> {
    await this.#signalKernel('SIGSTOP', (state) => state === 'T');
  }

  async thaw(): Promise<void> {
    await this.#signalKernel('SIGCONT', (state) => state !== 'T');
  }

  async #signalKernel(signal: 'SIGSTOP' | 'SIGCONT', reached: (state: string) => boolean): Promise<void> {
    const leader = this.hostPid;
    const own = groupMembers(leader).filter((pid) => !isTraced(pid));
    // The kernel's own process first, so that it starts nothing new on the threads that follow.
    own.sort((a, b) => Number(b === leader) - Number(a === leader));
    for (const pid of own) process.kill(pid, signal);
    while (!own.every((pid) => reached(processState(pid)))) await sleep(1);
  }

  get #consolePath(): string {
    return join(this.dir, 'console');
  }

  console(lines = 40): string {
    try {
      return readFileSync(this.#consolePath, 'utf8').split('\n').slice(-lines).join('\n');
    } catch {
      return '';
    }
  }

  #dead(why: string): void {
    this.#process = null;
    this.#channel?.close(why);
    this.#channel = null;
  }

  // ── inside ──

  /** Runs `/bin/sh -c` there. A timeout throws: in the guest the shell is killed, if it can be. */
  async sh(command: string, options: { timeoutMs?: number } = {}): Promise<ShellResult> {
    const timeoutMs = patient(options.timeoutMs ?? defaultTimeoutMs);
    const request = ['sh', command, String(timeoutMs)];
    const { kind, fields } = await this.#open.ask(request, timeoutMs + 2000);
    if (kind !== 'done') throw new GuestErrno(this.node, `sh ${command}`, Number(fields[0]));
    const [rc, out = '', err = '', late] = fields.map(String);
    if (late === 'timeout') throw new Error(`n${this.node}: not done within ${timeoutMs} ms: ${command}\n${out}${err}`);
    return { rc: Number(rc), out, err };
  }

  /** As sh, and a failure throws with all it said. Returns its standard output. */
  async must(command: string, options: { timeoutMs?: number } = {}): Promise<string> {
    const { rc, out, err } = await this.sh(command, options);
    if (rc !== 0) throw new Error(`n${this.node}: exit ${rc} of: ${command}\n${out}${err}`);
    return out;
  }

  /** A long-lived process in a session of its own; standard output and error are appended to `logFile` (put it in `guest.dir`). */
  spawn(
    argv: readonly string[],
    { logFile, env = {} }: { logFile: string; env?: Record<string, string> },
  ): Promise<GuestProcess> {
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const request = ['spawn', logFile, String(variables.length), ...variables, ...argv];
    return new Promise((resolve, reject) => {
      const exited = Promise.withResolvers<GuestExit>();
      const stop = this.#open.follow(request, {
        onAnswer: ({ kind, fields }) => {
          const [first = '', second = ''] = fields.map(String);
          if (kind === 'pid') {
            const pid = Number(first);
            resolve({ pid, exited: exited.promise, signal: (name) => this.signal(pid, name) });
            return;
          }
          stop();
          if (kind === 'exit') {
            const asNumber = (text: string): number | null => (text === '' ? null : Number(text));
            exited.resolve({ code: asNumber(first), signal: asNumber(second), lost: false });
          } else {
            reject(new GuestErrno(this.node, `spawn ${argv.join(' ')}`, Number(first)));
          }
        },
        onClose: (error) => {
          reject(error);
          exited.resolve({ code: null, signal: null, lost: true });
        },
      });
    });
  }

  async signal(pid: number, name: NodeJS.Signals): Promise<void> {
    await this.#simple(['signal', String(pid), String(constants.signals[name])], `${name} to ${pid}`);
  }

  async readFile(path: string): Promise<string> {
    return (await this.readBytes(path)).toString();
  }

  async readBytes(path: string): Promise<Buffer> {
    return (await this.#simple(['read', path], `read ${path}`))[0] ?? Buffer.alloc(0);
  }

  /** One write() of the whole text, as a sysfs store wants it. `how`: an existing file as it is (default), created anew, or appended to. */
  async writeFile(
    path: string,
    text: string | Buffer,
    { how = 'store', timeoutMs }: { how?: 'store' | 'create' | 'append'; timeoutMs?: number } = {},
  ): Promise<void> {
    await this.#simple(['write', path, text, how], `write ${path}`, timeoutMs);
  }

  /** Waits, inside and every 2 ms, until the file holds the text; resolves with its content. */
  async untilFile(path: string, text: string, options: { timeoutMs?: number } = {}): Promise<string> {
    const timeoutMs = patient(options.timeoutMs ?? 10_000);
    const { kind, fields } = await this.#open.ask(['until', path, text, String(timeoutMs)], timeoutMs + 2000);
    const content = String(fields[0]);
    if (kind !== 'content') {
      throw new Error(`n${this.node}: ${path} does not hold "${text}" after ${timeoutMs} ms; last seen: ${content}`);
    }
    return content;
  }

  /** Says it to a unix socket there; what came back until the other end closed. */
  async exchange(socket: string, said: string, options: { timeoutMs?: number } = {}): Promise<Buffer> {
    const timeoutMs = patient(options.timeoutMs ?? 5000);
    const { kind, fields } = await this.#open.ask(['exchange', socket, said, String(timeoutMs)], timeoutMs + 2000);
    if (kind === 'error') throw new GuestErrno(this.node, `ask ${socket}`, Number(fields[0]));
    return fields[0] ?? Buffer.alloc(0);
  }

  /** The guest's clocks. */
  async now(): Promise<{ bootMs: number; wallMs: number }> {
    const [boot, wall] = await this.#simple(['now'], 'now');
    return { bootMs: Number(boot) / 1e6, wallMs: Number(wall) / 1e6 };
  }

  /** Milliseconds of one ICMP echo over the data network, or null if none came back. */
  async ping(node: number, { timeoutMs = 500 }: { timeoutMs?: number } = {}): Promise<number | null> {
    const answer = await this.#open.ask(['ping', `10.77.0.${node}`, String(timeoutMs)], timeoutMs + defaultTimeoutMs);
    return answer.kind === 'pong' ? Number(answer.fields[0]) / 1e6 : null;
  }

  // ── a disk of this node alone that can fail ──

  /** Puts a dm-linear over a device, seen by this node only: /dev/mapper/NAME. The failing starts with failDisk(name). */
  async wrapDisk(device: string, name = `leg${device.at(-1)}`): Promise<string> {
    const sectors = Number(await this.readFile(`/sys/class/block/${device.replace('/dev/', '')}/size`));
    this.#wrapped.set(name, { device, sectors });
    await this.#dm('create', name, `0 ${sectors} linear ${device} 0`);
    return `/dev/mapper/${name}`;
  }

  /** From now on: every request fails with EIO, or only writes do (dm-flakey, reads go on). */
  async failDisk(name: string, what: 'all' | 'writes' = 'all'): Promise<void> {
    const { device, sectors } = this.#disk(name);
    const flakey = `0 ${sectors} flakey ${device} 0 0 3600 1 error_writes`;
    await this.#dm('swap', name, what === 'all' ? `0 ${sectors} error` : flakey);
  }

  /** Requests neither succeed nor fail until healDisk(name). */
  async hangDisk(name: string): Promise<void> {
    await this.#dm('hang', name, '');
  }

  async healDisk(name: string): Promise<void> {
    const { device, sectors } = this.#disk(name);
    await this.#dm('swap', name, `0 ${sectors} linear ${device} 0`);
  }

  /** Any device-mapper table of one or more lines. */
  async tableDisk(name: string, table: string): Promise<void> {
    await this.#dm('swap', name, table);
  }

  #disk(name: string): { device: string; sectors: number } {
    const disk = this.#wrapped.get(name);
    if (disk === undefined)
      throw new Error(`n${this.node}: no disk wrapped as ${name} since its boot; call wrapDisk first`);
    return disk;
  }

  async #dm(verb: string, name: string, table: string): Promise<void> {
    await this.#simple(['dm', verb, name, table], `dm ${verb} ${name}`);
  }

  async #simple(request: (string | Buffer)[], what: string, waitMs = defaultTimeoutMs): Promise<Buffer[]> {
    const { kind, fields } = await this.#open.ask(request, patient(waitMs));
    if (kind === 'error') throw new GuestErrno(this.node, what, Number(fields[0]));
    return fields;
  }

  get #open(): Channel {
    if (this.#channel === null) throw new Error(`n${this.node} is not up; boot() it first`);
    return this.#channel;
  }
}

function isTraced(pid: number): boolean {
  try {
    return !/^TracerPid:\t0$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}
