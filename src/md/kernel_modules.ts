/** Loading kernel modules by name. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { textOf } from '../error_text.ts';
import { MdError } from './driver.ts';

/** Those that are not loaded yet. @throws MdError ENOENT */
export async function loadKernelModules(names: readonly string[]): Promise<void> {
  const missing = names.filter((name) => !existsSync(`/sys/module/${name}`));
  if (missing.length === 0) return;
  try {
    await promisify(execFile)('/sbin/modprobe', ['-a', ...missing]);
  } catch (error) {
    throw new MdError('ENOENT', `kernel modules ${missing.join(', ')}: ${textOf(error).trim()}; install or load them`);
  }
}
