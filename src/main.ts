/**
 * The composition root: reads the config, builds the rooms, joins them, and ends them in order.
 *
 *   config ─► identity ─► md driver ─► journal ─► net ─► agent ─► outlets
 *
 * In a process that takes over from an agent that runs (src/succession/) the same, in two parts: what touches nothing first.
 */
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import type pino from 'pino';
import { Agent, type AgentParts, DiskView, openStateFiles, type StateFiles, type Timers } from './agent/index.ts';
import { dropAll } from './cli/drop_writes.ts';
import { type Config, formatProblems, loadConfig, readToken } from './config/index.ts';
import { textOf } from './error_text.ts';
import { createFencing } from './fencing/index.ts';
import {
  type Cursor,
  type Journal,
  type JournalOptions,
  Notary,
  type OpenedJournal,
  openJournal,
  readAhead,
} from './journal/index.ts';
import { createLog, logForm } from './log.ts';
import type { MdDriver } from './md/driver.ts';
import type { NativeAddon } from './md/native.ts';
import { createNet, type Net } from './net/index.ts';
import { ownCommand, withAddon } from './one_binary.ts';
import { logEvents } from './outlets/event_log.ts';
import type { ApiLog } from './outlets/index.ts';
import { keptPrivileges } from './privileges.ts';
import { type Estate, type Offer, type Predecessor, predecessor, Successor, WATCHDOG_FD } from './succession/index.ts';
import { VERSION } from './version.ts';
import { decodeUnverified, type Identity, loadIdentity, publicKeyOfPeerId } from './wire/index.ts';

const API_PATIENCE_MS = 1000;
/** A majority is there: its arrays come to be open within that. */
const ARRAYS_PATIENCE_MS = 3000;
/** The grant that was taken over is running out: nothing is to be in the way of the next one. */
const GRANT_PATIENCE_MS = 2000;

const timers: Timers = {
  every(intervalMs, run) {
    const timer = setInterval(run, intervalMs);
    return () => clearInterval(timer);
  },
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
  wall: () => new Date(),
};

/** Until systemd knows who the agent is. It does so in milliseconds, and writes may come to be held meanwhile. */
const BARRIER_MS = 3000;
/** A guard that may begin to hold its arrays in so short a time does so before it ends. */
const DEADLINE_NEAR_MS = 100;
const DROP_MS = 5000;

/**
 * V8's threads compile and look for garbage. On a node of one processor that would be in the loop's way; below the processes that write
 * they cannot be, for the loop may come to wait for them.
 */
function isHelper(thread: string): boolean {
  return readFileSync(`/proc/self/task/${thread}/comm`, 'utf8').trim() === 'V8Worker';
}

/**
 * Before anything starts a thread, if it can be: while a member's failure is being agreed on, the writes of a whole cluster wait for
 * this loop, and the processes that write must not be served before it. Not permitted, the agent is only slower.
 */
function goFirst(): void {
  try {
    // The kernel keeps a priority for each thread, and calls them processes here.
    for (const thread of readdirSync('/proc/self/task')) {
      setPriority(
        Number(thread),
        isHelper(thread) ? constants.priority.PRIORITY_HIGH : constants.priority.PRIORITY_HIGHEST,
      );
    }
  } catch {
    // Not root, or no CAP_SYS_NICE.
  }
}

/**
 * What runs a few times a second is not worth a compiler between the quick one and the good one; a failure comes once a year, and by then
 * the engine has thrown away the code that answers it and would compile it anew. Set once the agent runs: from then on V8 takes no
 * code that was compiled before, Node's own neither, and until then most of it is loaded.
 */
function settle(): void {
  for (const flag of ['--no-maglev', '--no-minor-gc-task', '--no-flush-bytecode']) setFlagsFromString(flag);
}

async function buildDriver(config: Config, inherits: boolean): Promise<{ driver: MdDriver; native: NativeAddon }> {
  const { realDriver } = await import('./md/real.ts');
  const { loadNative } = await import('./md/native.ts');
  const native = withAddon(loadNative);
  timers.alarm = (rings) => native.alarm(rings);
  const driver = await realDriver({ deviceGlobs: config.arrays.devices, node: config.self, native, inherits });
  return { driver, native };
}

/** What has to be the same for one agent to follow another. */
function placeOf({
  self,
  cluster,
  stateDir,
  fencing,
}: Config): Pick<Offer, 'node' | 'cluster' | 'stateDir' | 'watchdog'> {
  return { node: self, cluster: cluster.uuid, stateDir, watchdog: fencing.watchdog?.device ?? null };
}

/** What an agent is built on. */
interface Ground {
  driver: MdDriver;
  native: NativeAddon;
  files: StateFiles;
  journal: OpenedJournal;
  boot: AgentParts['boot'];
  net: Net;
}

type Started = { config: Config; identity: Identity; log: pino.Logger };

function journalOptions({ config, log }: Started): JournalOptions {
  return {
    dir: config.stateDir,
    now: () => new Date(),
    decode: decodeUnverified,
    gatherMs: config.journal.fsyncAfterMs,
    rotateBytes: config.journal.rotateBytes,
    rotateMs: config.journal.rotateMs,
    keepSegments: config.journal.keepSegments,
    log: (level, text) => log[level](text),
  };
}

function netOf(
  { config, identity, log }: Started,
  driver: MdDriver,
  boot: Ground['boot'],
  takesOver: boolean,
): Promise<Net> {
  return createNet({
    identity,
    cluster: config.cluster.uuid,
    self: config.self,
    nodes: config.nodes,
    hello: { ...boot, version: VERSION },
    now: () => driver.now(),
    log: (text) => log.debug(text),
    // The others have tried while nobody listened, and wait before they do again.
    ...(takesOver ? { tuning: { headStartMs: 0 } } : {}),
  });
}

async function ground(started: Started): Promise<Ground> {
  const { config, log } = started;
  const files = await openStateFiles(config.stateDir);
  const [{ driver, native }, journal] = await Promise.all([
    buildDriver(config, false),
    openJournal(journalOptions(started)),
  ]);
  // Before the network is listened to; and before anything is written, so that a state directory of somebody else is noticed now.
  settleProcess(config, native, log);
  const own = journal.vector().filter((cursor) => cursor.origin === config.self);
  const bootNumber = await files.nextBootNumber(Math.max(0, ...own.map((cursor) => cursor.bootNumber)) + 1);
  const boot = { boot: randomUUID(), bootNumber };
  return { driver, native, files, journal, boot, net: await netOf(started, driver, boot, false) };
}

/**
 * The same from an agent that still runs. Everything that can be had meanwhile, and touches nothing, comes first; then what it leaves,
 * once this guard keeps its deadline. A process that cannot take over ends, and the agent has the reason.
 */
async function inheritedGround(
  started: Started,
  from: Predecessor,
): Promise<Ground & Pick<AgentParts, 'inherited' | 'disks'>> {
  const { config, log } = started;
  try {
    const refusal = from.whyNot({ ...placeOf(config), needs: keptPrivileges(config).capabilities });
    if (refusal !== null) throw new Error(refusal);
    const { driver, native } = await buildDriver(config, true);
    settleProcess(config, native, log);
    const disks = new DiskView(driver, config.cluster.uuid);
    await disks.refresh();
    const bootNumber = await (await openStateFiles(config.stateDir)).nextBootNumber(from.bootNumber + 1);
    const boot = { boot: randomUUID(), bootNumber };
    const net = await netOf(started, driver, boot, true);
    await import('./outlets/index.ts');
    const ahead = await readAhead(journalOptions(started));
    const inherited = await from.ready();
    goFirst();
    await driver.inherit(inherited.grantUntilMs);
    if (config.fencing.watchdog !== null) {
      const { device } = config.fencing.watchdog;
      await driver.startWatchdog(device, Math.ceil(config.timing.watchdogMs / 1000), WATCHDOG_FD);
    }
    await from.armed();
    // Only now is the vote file the other's last word.
    const files = await openStateFiles(config.stateDir);
    const journal = await openJournal(journalOptions(started), ahead);
    return { driver, native, files, journal, boot, net, disks, inherited };
  } catch (error) {
    log.error({ err: error }, `cannot take over: ${textOf(error)}`);
    await from.refuse(textOf(error));
    process.exit(1);
  }
}

interface Handed {
  to: Successor;
  estate: Estate;
}

/** The last that an agent does which has made way. Returns the exit code: 1 if its successor cannot go on, and all is held. */
async function handTo({ to, estate }: Handed, driver: MdDriver, log: ApiLog): Promise<number> {
  let closed = false;
  try {
    await to.pass(estate);
    driver.notify(`MAINPID=${to.pid}`);
    await driver.notifyBarrier(BARRIER_MS);
    // What its guard has begun is to be over: the other may take what is held for drained.
    if (driver.now() + DEADLINE_NEAR_MS >= estate.grantUntilMs) await within(DROP_MS, driver.guard.drop());
    closed = true;
    await driver.close();
    await to.go();
    return 0;
  } catch (error) {
    log.error(
      { err: error },
      `hand-over to process ${to.pid} failed: ${textOf(error)}; writes are held until an agent is started`,
    );
    to.end();
    try {
      if (closed) await dropAll('/sys/block', DROP_MS);
      else await within(DROP_MS, driver.guard.drop());
    } catch (failure) {
      log.error({ err: failure }, `writes are not held: ${textOf(failure)}; fence this node`);
    }
    return 1;
  }
}

async function within<T>(limitMs: number, act: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${limitMs} ms`)), limitMs);
  });
  return Promise.race([act, late]).finally(() => clearTimeout(timer));
}

/** Tells the service manager that the loop turns; without one there is nobody to tell. Returns the way to stop it. */
function beating(driver: MdDriver): () => void {
  if (process.env.NOTIFY_SOCKET === undefined) return () => undefined;
  driver.notify('WATCHDOG=1');
  return timers.every(1000, () => driver.notify('WATCHDOG=1'));
}

/**
 * As a process is that others' writes wait for: no more privileges than it needs, and memory that waits for nobody's writes. Where it
 * fails, the agent is as it was started, and `mdmesh doctor` says so.
 */
function settleProcess(config: Config, native: NativeAddon, log: ApiLog): void {
  const { capabilities, forGood } = keptPrivileges(config);
  try {
    native.becomeIoFlusher();
  } catch (error) {
    log.info({ err: error }, 'memory of the agent may wait for I/O');
  }
  try {
    native.restrictPrivileges(capabilities, forGood);
  } catch (error) {
    log.warn({ err: error }, 'privileges that the agent does not need could not be given up');
  }
}

/** null: nobody is told anything; nothing is loaded for it either. */
async function hooksOf(
  config: Config,
  { journal, begin, agent, log }: { journal: Journal; begin: Cursor; agent: Agent; log: ApiLog },
): Promise<{ close(): Promise<void> } | null> {
  if (config.hooks.length === 0 && config.mail === null) return null;
  const { configuredHooks, startHooks } = await import('./outlets/index.ts');
  const { self, stateDir } = config;
  const hooks = configuredHooks(config);
  const now = () => timers.wall();
  return startHooks({ hooks, journal, names: agent.names, self, stateDir, begin, now, log });
}

/**
 * Runs the agent until a signal, a successor or a fatal finding ends it. Returns the exit code.
 * @param takesOver from an agent that runs here, and has started this process
 */
export async function runAgent(configFile: string, takesOver = false): Promise<number> {
  // Who takes over must not be in the way of the agent that still runs.
  if (!takesOver) goFirst();
  const before = takesOver ? await predecessor() : null;
  const loaded = await loadConfig(configFile, { peerIdOf: async (keyFile) => (await loadIdentity(keyFile)).peerId });
  if ('problems' in loaded) {
    process.stderr.write(`${formatProblems(loaded.problems)}\n`);
    await before?.refuse(formatProblems(loaded.problems));
    return 1;
  }
  const { config } = loaded;
  if (config.driver === 'simulated') {
    const remedy =
      'the simulated driver lives in one process only, as `make demo` shows; take `driver` out, or set it to real';
    process.stderr.write(`mdmesh: ${configFile}: driver: simulated: an agent of its own cannot use it: ${remedy}\n`);
    return 1;
  }
  const log = createLog({
    level: config.log.level,
    node: config.self,
    form: logForm(process.env, process.stdout.isTTY === true),
  });
  const identity = await loadIdentity(config.keyFile);
  const started = { config, identity, log };
  const { driver, native, files, journal, boot, net, ...left } = await (before === null
    ? { ...(await ground(started)), inherited: undefined, disks: undefined }
    : inheritedGround(started, before));
  // Who takes over is the main process of a service that is ready, and watched, already.
  let beat = before === null ? null : beating(driver);
  const fencing = createFencing({
    config,
    clock: () => driver.now(),
    schedule: (delayMs, run) => timers.after(delayMs, run),
    onEvent: ({ severity, text, ...fields }) => log[severity === 'info' ? 'info' : 'warn'](fields, `fencing: ${text}`),
  });
  const agent = await Agent.create({
    config,
    identity,
    driver,
    net,
    journal,
    fencing,
    files,
    boot,
    timers,
    uuid: () => randomUUID(),
    log,
    version: VERSION,
    privileges: native.privileges(),
    ...(left.inherited === undefined ? {} : { inherited: left.inherited }),
    ...(left.disks === undefined ? {} : { disks: left.disks }),
  });
  const notary = new Notary({
    journal,
    cluster: config.cluster.uuid,
    self: config.self,
    key: identity.privateKey,
    keys: new Map(config.nodes.map(({ id, peerId }) => [id, [publicKeyOfPeerId(peerId)]])),
    entries: config.journal.checkpointEntries,
    afterMs: config.journal.checkpointAfterMs,
    schedule: (delayMs, run) => timers.after(delayMs, run),
    wall: () => timers.wall(),
    tell: (body) => agent.tell(body),
    log: (level, text) => log[level](text),
  });
  agent.onKeys = (keys) => notary.goBy(keys, agent.parts.identity.privateKey);
  agent.onReload = async () => {
    const read = await loadConfig(configFile, { peerIdOf: async (keyFile) => (await loadIdentity(keyFile)).peerId });
    if ('problems' in read) return { ok: false, text: formatProblems(read.problems) };
    const outcome = await agent.reload(read.config, await loadIdentity(read.config.keyFile));
    if (outcome.ok) log.level = read.config.log.level;
    return outcome;
  };
  agent.onDoctor = async () => {
    const { reportOfProcess } = await import('./doctor/process.ts');
    return reportOfProcess(ownCommand(), configFile);
  };
  process.on('SIGHUP', () => void agent.onReload?.().catch((error: unknown) => log.error({ err: error }, 'reload')));
  const handing: { to: Successor | null; calledOff: boolean } = { to: null, calledOff: false };
  const ended = new Promise<string | Handed>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => {
        handing.calledOff = true;
        resolve(signal);
      });
    }
    let starting = false;
    agent.onHandOver = async () => {
      if (starting) return { ok: false, text: 'a hand-over is under way already' };
      starting = true;
      const command = [...ownCommand(), 'agent', '--config', configFile, '--take-over'];
      try {
        const kept = keptPrivileges(config);
        const offer = {
          ...placeOf(config),
          version: VERSION,
          bootNumber: boot.bootNumber,
          keeps: kept.forGood ? kept.capabilities : null,
        };
        const to = await Successor.start(command, offer, driver.watchdogFd());
        handing.to = to;
        log.info({ process: to.pid }, `process ${to.pid} is ready to take over; making way for it`);
        resolve({ to, estate: await agent.makeWay() });
        return { ok: true, text: `process ${to.pid} takes over` };
      } catch (error) {
        handing.to?.end();
        handing.to = null;
        starting = false;
        log.warn({ err: error }, `no hand-over: ${textOf(error)}`);
        return { ok: false, text: `${textOf(error)}\nThe agent goes on as before.` };
      }
    };
    // No goodbye: whoever cannot hold its writes must fall silent, so that it is fenced. An armed watchdog stays armed.
    agent.onFatal = (why) => {
      log.fatal({ why }, `node ${config.self} cannot go on: ${why}`);
      setTimeout(() => process.exit(1), 200);
    };
  });
  if (config.fencing.watchdog !== null && before === null) {
    await driver.startWatchdog(config.fencing.watchdog.device, Math.ceil(config.timing.watchdogMs / 1000));
  }
  notary.start();
  logEvents({ journal, self: config.self, names: agent.names, now: () => timers.wall(), log });
  const begin = journal.head();
  await agent.start();
  // Writes of a cluster wait for its agents, for a moment nobody for their API: to load it is a tenth of a start, and keeps the loop
  // from answering the other nodes.
  await (before === null
    ? agent.settled(API_PATIENCE_MS, ARRAYS_PATIENCE_MS)
    : agent.settled(GRANT_PATIENCE_MS, GRANT_PATIENCE_MS));
  const { serveApi } = await import('./outlets/index.ts');
  const api = await serveApi({
    face: agent,
    journal,
    socketPath: config.socket.path,
    modeOctal: config.socket.modeOctal,
    group: config.socket.group,
    tcp: config.api && {
      ...config.api,
      access: { token: config.api.tokenFile && (await readToken(config.api.tokenFile)) },
    },
    log,
  });
  const hooks = await hooksOf(config, { journal, begin, agent, log });
  for (const { what, text } of journal.found) {
    agent.notice('JournalDamaged', 'warning', `node/${config.self}`, { what, text: text.slice(0, 300) });
  }
  settle();
  driver.notify('READY=1');
  beat ??= beating(driver);
  log.info(
    { version: VERSION, cluster: config.cluster.name, bootNumber: boot.bootNumber },
    `node ${config.self} of ${config.cluster.name} runs`,
  );
  const why = await ended;
  if (typeof why !== 'string') {
    // Whoever asked for it gets the answer first.
    await new Promise((resolve) => setImmediate(resolve));
    notary.end();
    await hooks?.close();
    await api.close();
    await journal.close();
    // A signal was meant for whoever is the agent: all is held, and nobody takes over.
    if (handing.calledOff) why.to.end();
    const code = await handTo(why, driver, log);
    log.info({ process: why.to.pid }, code === 0 ? `process ${why.to.pid} is the agent from here on` : 'ending');
    process.exit(code);
  }
  log.info({ why }, 'ending');
  driver.notify('STOPPING=1');
  beat();
  handing.to?.end();
  await notary.stop();
  await agent.stop(why);
  await hooks?.close();
  await api.close();
  await driver.stopWatchdog();
  await journal.close();
  await driver.close();
  return 0;
}
