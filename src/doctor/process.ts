/** `mdmesh doctor` in a process of its own: it waits for disks and ports that may not answer, which no agent may. */
import { execFile } from 'node:child_process';
import { constants, setPriority } from 'node:os';
import { promisify } from 'node:util';
import { textOf } from '../error_text.ts';

const WITHIN_MS = 25_000;
const OUTPUT_BYTES_MAX = 1024 * 1024;

/**
 * What it prints as JSON about this node.
 * @param command how this program is started, as `ownCommand` says
 * @throws Error with words: it was ended, or printed nothing
 */
export async function reportOfProcess(command: readonly string[], configFile: string): Promise<string> {
  const [program = '', ...before] = command;
  const words = [...before, '--config', configFile, 'doctor', '--json', '--local'];
  const running = promisify(execFile)(program, words, { timeout: WITHIN_MS, maxBuffer: OUTPUT_BYTES_MAX });
  const { pid } = running.child;
  try {
    // The agent goes before other processes; this need not.
    if (pid !== undefined) setPriority(pid, constants.priority.PRIORITY_NORMAL);
  } catch {
    // Not permitted, or ended already.
  }
  try {
    return (await running).stdout;
  } catch (error) {
    // It ends with 1 where something is wrong, which is what it is asked for.
    const printed = typeof error === 'object' && error !== null && 'stdout' in error ? String(error.stdout) : '';
    if (printed.startsWith('{')) return printed;
    throw new Error(
      `mdmesh doctor did not end within ${WITHIN_MS / 1000} s, or failed: ${textOf(error).slice(0, 500)}`,
    );
  }
}
