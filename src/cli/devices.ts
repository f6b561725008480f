import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';

/** Whether two paths name one device here: /dev/disk/by-id/… is a link to /dev/sdb. */
export function sameDevice(a: string, b: string): boolean {
  return a === b || real(a) === real(b);
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    // A disk that is gone has a name and no file.
    return resolve(path);
  }
}
