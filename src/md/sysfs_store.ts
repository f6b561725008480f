/** Writing to md's sysfs files: each refusal becomes an MdError that names the step, the file, the value and what the kernel said. */
import { setTimeout as sleep } from 'node:timers/promises';
import { MdError } from './driver.ts';
import { errorCode } from './real_disks.ts';

/** Writes on a thread of its own (a store may drain I/O first). Rejects with an errno in `code`. */
export type FileWriter = (path: string, value: string) => Promise<void>;

const POLL_MS = 5;

export class SysfsStore {
  readonly #writeFile: FileWriter;

  constructor(writeFile: FileWriter) {
    this.#writeFile = writeFile;
  }

  async write(step: string, path: string, value: string): Promise<void> {
    try {
      await this.#writeFile(path, value);
    } catch (error) {
      const code = errorCode(error);
      throw new MdError(code, `${step}: writing '${value}' to ${path} gave ${code}; the kernel log may say why`);
    }
  }

  /** Again while EBUSY or EEXIST: md's thread, udev's short look at a device, or its deletion may need a moment. */
  async writePatiently(step: string, path: string, value: string, patienceMs: number): Promise<void> {
    const endMs = performance.now() + patienceMs;
    for (;;) {
      try {
        return await this.write(step, path, value);
      } catch (error) {
        if (!['EBUSY', 'EEXIST'].includes(errorCode(error)) || performance.now() >= endMs) throw error;
      }
      await sleep(POLL_MS);
    }
  }
}

/** Resolves with whether the condition came true in time. */
export async function comesTrue(
  condition: () => boolean | Promise<boolean>,
  patienceMs: number,
  everyMs = POLL_MS,
): Promise<boolean> {
  const endMs = performance.now() + patienceMs;
  while (!(await condition())) {
    if (performance.now() >= endMs) return false;
    await sleep(everyMs);
  }
  return true;
}
