/** Runs an operator's program once: to fence a node, or to tell of an event. No shell: what stands in argv is what runs. */
import { spawn } from 'node:child_process';
import { constants, setPriority } from 'node:os';

export interface CommandOutcome {
  /** null: it was ended by a signal, or never ran. */
  exitCode: number | null;
  /** Words for what is not an exit code: the signal, or why it did not start. */
  trouble: string | null;
  /** What it printed on both outputs; cut to its last bytes. */
  output: string;
}

export interface CommandSetting {
  /** All that it finds there. @default the agent's own */
  env?: Readonly<Record<string, string>>;
  /** False: it does not go before other processes, as the agent does. @default true */
  isUrgent?: boolean;
}

export type RunCommand = (
  argv: readonly string[],
  input: string,
  abort: AbortSignal,
  setting?: CommandSetting,
) => Promise<CommandOutcome>;

/** Enough for the words of a fence agent; a chatty one must not fill the journal. */
const OUTPUT_CHARS_MAX = 2000;

const LAST_WORDS_MS = 200;

/** Never rejects. When aborted, the child and all that it started in its process group are killed. */
export const runCommand: RunCommand = ([program = '', ...args], input, abort, { env, isUrgent = true } = {}) =>
  new Promise((resolve) => {
    let output = '';
    let failure: Error | null = null;
    // A process group of its own: else what a script started would outlive it and go on fencing after its time.
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
      ...(env === undefined ? {} : { env: { ...env } }),
    });
    if (!isUrgent && child.pid !== undefined) takeItsTurn(child.pid);
    const kill = () => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // ended between the decision and here
      }
    };
    abort.addEventListener('abort', kill);
    if (abort.aborted) kill();
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output = (output + text).slice(-OUTPUT_CHARS_MAX);
      });
    }
    // A program that does not read its input closes the pipe: its exit code speaks for it.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.on('error', (error) => {
      failure = error;
    });
    const settle = (exitCode: number | null, signal: string | null) => {
      abort.removeEventListener('abort', kill);
      const trouble = signal === null ? (failure?.message ?? null) : `ended by ${signal}`;
      resolve({ exitCode, trouble, output: output.trim() });
    };
    // 'close' brings the last words; but a descendant that holds the pipes open must not keep the verdict back.
    child.on('close', settle);
    child.on('exit', (exitCode, signal) => setTimeout(settle, LAST_WORDS_MS, exitCode, signal));
    child.on('error', () => {
      if (child.pid === undefined) settle(null, null);
    });
  });

function takeItsTurn(pid: number): void {
  try {
    setPriority(pid, constants.priority.PRIORITY_NORMAL);
  } catch {
    // It has ended already, or is not ours to change.
  }
}
