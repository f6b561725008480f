import type { Config } from '../config/index.ts';
import { textOf } from '../error_text.ts';
import { type CommandOutcome, type RunCommand, runCommand } from './command.ts';
import type { FenceRequest, Fencing, FencingMethod, FencingVerdict } from './index.ts';

/** Between two tries of a command that failed: a power switch that is rebooting answers soon. */
const COMMAND_RETRY_MS = 2000;
/** Between two tries to take a node's key off all members: a path that flaps is back soon. */
const RESERVATION_RETRY_MS = 500;
/** After the end of a node's last grant: its guard holds the arrays, and what was on its way to the disks gets there. */
const DRAIN_MARGIN_MS = 500;
/** On top of what the clocks were promised: the hardware's own time to pull the reset line. */
const RESET_MARGIN_MS = 1000;

export interface FencingOptions {
  config: Pick<Config, 'fencing' | 'timing' | 'cluster'>;
  /** @default runs the program */
  run?: RunCommand;
  /** BOOTTIME in ms: it counts through a suspend, as the silent node's watchdog does. */
  clock: () => number;
  /** Calls back after so many ms; the returned function calls it off. */
  schedule: (delayMs: number, callback: () => void) => () => void;
  /** For log and journal: each attempt, and why it failed. */
  onEvent: (event: FencingNote) => void;
}

export interface FencingNote {
  node: number;
  method: FencingMethod | null;
  severity: 'info' | 'warning';
  text: string;
}

type FencingCommand = NonNullable<Config['fencing']['command']>;

/** One node being fenced. */
interface Attempt {
  request: FenceRequest;
  verdict: Promise<FencingVerdict>;
  settle: (stopped: boolean, method: FencingMethod | null, text: string) => void;
  /** Ends when the attempt does: kills a child, calls timers off. */
  ended: AbortSignal;
}

/**
 * The methods run side by side, and the first that vouches ends the others: a power switch that hangs must not keep the
 * watchdog's word back. Nothing else vouches: a failed command, an unreachable node or a passing of time without a watchdog
 * say nothing about whether the node still writes.
 */
export function createFencing(options: FencingOptions): Fencing {
  const { clock, schedule, onEvent } = options;
  let { config } = options;
  const isAuto = (): boolean => config.fencing.methods.includes('auto');
  const operatorVouches = (): boolean => isAuto() || config.fencing.methods.includes('manual');
  const run = options.run ?? runCommand;
  const attempts = new Map<number, Attempt>();
  const note = (attempt: Attempt, method: FencingMethod | null, severity: FencingNote['severity'], text: string) =>
    onEvent({ node: attempt.request.node, method, severity, text });

  function fence(request: FenceRequest): Promise<FencingVerdict> {
    const under = attempts.get(request.node);
    if (under !== undefined) {
      // Asked again: a later grant makes the wait longer, never shorter.
      const lastGrantMs = Math.max(under.request.lastGrantMs, request.lastGrantMs);
      under.request = { ...request, lastGrantMs };
      return under.verdict;
    }
    const attempt = begin(request);
    const { methods } = config.fencing;
    if (methods.length === 0 && !config.fencing.acceptDataLoss) {
      attempt.settle(false, null, `node ${request.node} may still be writing, and no fencing method is configured`);
    }
    const byStorage = methods.includes('reservation') || (isAuto() && request.shutOut !== undefined);
    const powerOff = methods.includes('command') ? () => void tryCommand(attempt) : () => undefined;
    // What is listed before it and does no harm goes first: a node that its disks shut out need not be switched off.
    const powerOffLater = byStorage && methods.indexOf('reservation') < methods.indexOf('command');
    if (byStorage) void tryReservation(attempt, powerOffLater ? powerOff : () => undefined);
    if (!powerOffLater) powerOff();
    if (methods.includes('watchdog') || (isAuto() && config.fencing.watchdog !== null)) awaitTime(attempt, 'watchdog');
    if (methods.length === 0) awaitTime(attempt, null);
    if (operatorVouches()) {
      const confirm = `make sure that node ${request.node} is off, then run mdmesh node confirm-dead ${request.node}`;
      note(attempt, 'manual', methods.length === 1 && !byStorage ? 'warning' : 'info', confirm);
    }
    return attempt.verdict;
  }

  function begin(request: FenceRequest): Attempt {
    const ending = new AbortController();
    const { promise, resolve } = Promise.withResolvers<FencingVerdict>();
    const settle: Attempt['settle'] = (stopped, method, text) => {
      if (ending.signal.aborted) return;
      attempts.delete(request.node);
      ending.abort();
      resolve({ node: request.node, stopped, method, text });
    };
    const attempt: Attempt = { request, verdict: promise, settle, ended: ending.signal };
    attempts.set(request.node, attempt);
    return attempt;
  }

  /**
   * Not before the node's last grant has ended by every clock: its own guard then holds what it would write, and a node that runs
   * never meets a disk that refuses it. Again and again until it works.
   */
  async function tryReservation(attempt: Attempt, failed: () => void): Promise<void> {
    const { node } = attempt.request;
    for (let tries = 0; !attempt.ended.aborted; ) {
      const leftMs = attempt.request.lastGrantMs + DRAIN_MARGIN_MS - clock();
      if (leftMs > 0) {
        await pause(attempt, leftMs);
        continue;
      }
      tries += 1;
      const why = await shutOut(attempt);
      if (attempt.ended.aborted) return;
      if (why === null) {
        attempt.settle(true, 'reservation', `no member of any array takes writes of node ${node} any more`);
        return;
      }
      if (tries === 1 || tries % 20 === 0) {
        note(attempt, 'reservation', 'warning', `node ${node} is not shut out of every member: ${why}; tried again`);
      }
      if (tries === 1) failed();
      await pause(attempt, RESERVATION_RETRY_MS);
    }
  }

  async function shutOut({ request }: Attempt): Promise<string | null> {
    if (request.shutOut === undefined) return 'some member of an array has no reservations (mdmesh doctor names it)';
    return request.shutOut().then(() => null, textOf);
  }

  async function tryCommand(attempt: Attempt): Promise<void> {
    const { command } = config.fencing;
    if (command === null) return;
    for (let tries = 1; !attempt.ended.aborted; tries++) {
      const { node, address } = attempt.request;
      note(
        attempt,
        'command',
        'info',
        `runs ${command.argv.join(' ')} to switch node ${node} (${address}) off, try ${tries}`,
      );
      const { outcome, timedOut } = await runOnce(attempt, command);
      const said = outcome.output === '' ? '' : `: ${outcome.output}`;
      if (attempt.ended.aborted) return;
      if (outcome.exitCode === 0 && !timedOut) {
        attempt.settle(true, 'command', `${command.argv[0]} vouches that node ${node} has stopped${said}`);
        return;
      }
      const why = timedOut
        ? `did not end within ${command.timeoutMs} ms and was killed`
        : (outcome.trouble ?? `ended with exit code ${outcome.exitCode}`);
      note(attempt, 'command', 'warning', `${command.argv[0]} ${why}${said}; tried again in ${COMMAND_RETRY_MS} ms`);
      await pause(attempt, COMMAND_RETRY_MS);
    }
  }

  /**
   * As fence agents read their options: `name=value` lines to the end of the input. Without options of the agent's own these say
   * which node it is; an agent would warn of names that it does not know.
   */
  function inputFor({ options, nodeOptions }: FencingCommand, node: number, address: string): string {
    const own = { ...options, ...nodeOptions[node] };
    const which = { nodeid: node, nodename: `node-${node}`, address, cluster: config.cluster.name };
    const lines = { action: 'off', ...(Object.keys(own).length === 0 ? which : own) };
    return Object.entries(lines)
      .map(([name, value]) => `${name}=${value}\n`)
      .join('');
  }

  async function runOnce(
    attempt: Attempt,
    command: FencingCommand,
  ): Promise<{ outcome: CommandOutcome; timedOut: boolean }> {
    const { node, address } = attempt.request;
    const timeout = new AbortController();
    const callOff = schedule(command.timeoutMs, () => timeout.abort());
    const input = inputFor(command, node, address);
    const outcome = await run(command.argv, input, AbortSignal.any([attempt.ended, timeout.signal])).catch(
      (error: unknown): CommandOutcome => ({ exitCode: null, trouble: String(error), output: '' }),
    );
    callOff();
    return { outcome, timedOut: timeout.signal.aborted };
  }

  function pause(attempt: Attempt, delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const callOff = schedule(delayMs, resolve);
      attempt.ended.addEventListener('abort', () => {
        callOff();
        resolve();
      });
    });
  }

  /**
   * The silent node stops by itself at the latest R after its last grant, or is reset W later. A voter's L is waited for as
   * well, so that no eviction can come before the end of a promise. Timers may fire early or late: only the clock counts.
   */
  function awaitTime(attempt: Attempt, method: 'watchdog' | null): void {
    const { holderMs, voterMs, watchdogMs } = config.timing;
    const waitMs = Math.max(voterMs, holderMs + watchdogMs) + RESET_MARGIN_MS;
    const look = () => {
      const leftMs = attempt.request.lastGrantMs + waitMs - clock();
      if (leftMs > 0) {
        attempt.ended.addEventListener('abort', schedule(leftMs, look), { once: true });
        return;
      }
      const passed = `${waitMs} ms have passed since the last grant of node ${attempt.request.node}`;
      if (method === 'watchdog') attempt.settle(true, method, `${passed}: its watchdog has reset it`);
      else
        attempt.settle(
          true,
          null,
          `${passed}; nobody vouches that it stopped, accept_data_loss lets the cluster go on`,
        );
    };
    look();
  }

  return {
    fence,
    confirm: (node) => {
      const attempt = attempts.get(node);
      if (attempt === undefined || !operatorVouches()) {
        const why = attempt === undefined ? `node ${node} is not being fenced` : 'manual is not among fencing.methods';
        onEvent({ node, method: 'manual', severity: 'warning', text: `confirmation ignored: ${why}` });
        return why;
      }
      attempt.settle(true, 'manual', `an operator confirmed that node ${node} has stopped`);
      return null;
    },
    configure: (next) => {
      config = next;
    },
    cancel: (node) => attempts.get(node)?.settle(false, null, `node ${node} answers again`),
  };
}
