/**
 * The composition root: reads the config, builds the rooms, joins them, and ends them in order.
 *
 *   config ─► identity ─► md driver ─► journal ─► net ─► agent ─► outlets
 */
import { randomUUID } from 'node:crypto';
import { constants, setPriority } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { Agent, openStateFiles, type Timers } from './agent/index.ts';
import { type Config, formatProblems, loadConfig, readToken } from './config/index.ts';
import { createFencing } from './fencing/index.ts';
import { type Journal, Notary, openJournal } from './journal/index.ts';
import { createLog, logForm } from './log.ts';
import type { MdDriver } from './md/driver.ts';
import type { NativeAddon } from './md/native.ts';
import { createNet } from './net/index.ts';
import { ownCommand, withAddon } from './one_binary.ts';
import { logEvents } from './outlets/event_log.ts';
import type { ApiLog } from './outlets/index.ts';
import { keptPrivileges } from './privileges.ts';
import { VERSION } from './version.ts';
import { decodeUnverified, loadIdentity, publicKeyOfPeerId } from './wire/index.ts';

const API_PATIENCE_MS = 1000;

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

/**
 * Before anything starts a thread: while a member's failure is being agreed on, the writes of a whole cluster wait for this
 * loop, and the processes that write must not be served before it. Not permitted, the agent is only slower.
 */
function goFirst(): void {
  try {
    setPriority(constants.priority.PRIORITY_HIGHEST);
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

async function buildDriver(config: Config): Promise<{ driver: MdDriver; native: NativeAddon }> {
  const { realDriver } = await import('./md/real.ts');
  const { loadNative } = await import('./md/native.ts');
  const native = withAddon(loadNative);
  timers.alarm = (rings) => native.alarm(rings);
  return { driver: await realDriver({ deviceGlobs: config.arrays.devices, node: config.self, native }), native };
}

/** Where it fails, the agent has what it was started with, and `mdmesh doctor` says so. */
function giveUpPrivileges(config: Config, native: NativeAddon, log: ApiLog): void {
  const { capabilities, forGood } = keptPrivileges(config);
  try {
    native.restrictPrivileges(capabilities, forGood);
  } catch (error) {
    log.warn({ err: error }, 'privileges that the agent does not need could not be given up');
  }
}

/** null: nobody is told anything; nothing is loaded for it either. */
async function hooksOf(
  config: Config,
  { journal, agent, log }: { journal: Journal; agent: Agent; log: ApiLog },
): Promise<{ close(): Promise<void> } | null> {
  if (config.hooks.length === 0 && config.mail === null) return null;
  const { configuredHooks, startHooks } = await import('./outlets/index.ts');
  const { self, stateDir } = config;
  const hooks = configuredHooks(config);
  return startHooks({ hooks, journal, status: () => agent.status(), self, stateDir, now: () => timers.wall(), log });
}

/** Runs the agent until a signal or a fatal finding ends it. Returns the exit code. */
export async function runAgent(configFile: string): Promise<number> {
  goFirst();
  const loaded = await loadConfig(configFile, { peerIdOf: async (keyFile) => (await loadIdentity(keyFile)).peerId });
  if ('problems' in loaded) {
    process.stderr.write(`${formatProblems(loaded.problems)}\n`);
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
  const files = await openStateFiles(config.stateDir);
  const [{ driver, native }, journal] = await Promise.all([
    buildDriver(config),
    openJournal({
      dir: config.stateDir,
      now: () => new Date(),
      decode: decodeUnverified,
      gatherMs: config.journal.fsyncAfterMs,
      rotateBytes: config.journal.rotateBytes,
      rotateMs: config.journal.rotateMs,
      keepSegments: config.journal.keepSegments,
      log: (level, text) => log[level](text),
    }),
  ]);
  // Before the network is listened to; and before anything is written, so that a state directory of somebody else is noticed now.
  giveUpPrivileges(config, native, log);
  const own = journal.vector().filter((cursor) => cursor.origin === config.self);
  const bootNumber = await files.nextBootNumber(Math.max(0, ...own.map((cursor) => cursor.bootNumber)) + 1);
  const boot = { boot: randomUUID(), bootNumber };
  const net = await createNet({
    identity,
    cluster: config.cluster.uuid,
    self: config.self,
    nodes: config.nodes,
    hello: { ...boot, version: VERSION },
    now: () => driver.now(),
    log: (text) => log.debug(text),
  });
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
  const ended = new Promise<string>((resolve) => {
    process.once('SIGTERM', () => resolve('SIGTERM'));
    process.once('SIGINT', () => resolve('SIGINT'));
    // No goodbye: whoever cannot hold its writes must fall silent, so that it is fenced. An armed watchdog stays armed.
    agent.onFatal = (why) => {
      log.fatal({ why }, `node ${config.self} cannot go on: ${why}`);
      setTimeout(() => process.exit(1), 200);
    };
  });
  if (config.fencing.watchdog !== null) {
    await driver.startWatchdog(config.fencing.watchdog.device, Math.ceil(config.timing.watchdogMs / 1000));
  }
  notary.start();
  logEvents({ journal, self: config.self, status: () => agent.status(), now: () => timers.wall(), log });
  await agent.start();
  // Writes of a cluster wait for its agents, for a moment nobody for their API: to load it is a tenth of a start, and keeps the loop
  // from answering the other nodes.
  await agent.settled(API_PATIENCE_MS);
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
  const hooks = await hooksOf(config, { journal, agent, log });
  for (const { what, text } of journal.found) {
    agent.notice('JournalDamaged', 'warning', `node/${config.self}`, { what, text: text.slice(0, 300) });
  }
  settle();
  driver.notify('READY=1');
  // Without a service manager there is nobody to tell.
  const isWatched = process.env.NOTIFY_SOCKET !== undefined;
  const beat = isWatched ? timers.every(1000, () => driver.notify('WATCHDOG=1')) : () => undefined;
  log.info(
    { version: VERSION, cluster: config.cluster.name, bootNumber },
    `node ${config.self} of ${config.cluster.name} runs`,
  );
  const why = await ended;
  log.info({ why }, 'ending');
  driver.notify('STOPPING=1');
  beat();
  await notary.stop();
  await agent.stop(why);
  await hooks?.close();
  await api.close();
  await driver.stopWatchdog();
  await journal.close();
  await driver.close();
  return 0;
}
