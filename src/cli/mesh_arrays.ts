/** What this machine's kernel says about whose an array is. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** null: no such array runs here. `sysBlock`: /sys/block, or what a test put in its place. */
export function metadataHere(sysBlock: string, md: string): 'mesh' | 'other' | null {
  const metadata = attribute(join(sysBlock, md, 'md/metadata_version'));
  // A device node that was opened once leaves an array without anything in it.
  if (metadata === null || attribute(join(sysBlock, md, 'md/array_state')) === 'clear') return null;
  return isMesh(metadata) ? 'mesh' : 'other';
}

/** A dash (`external:-mdmesh`) is mdadm's mark for "leave it alone"; the array is ours all the same. */
export function isMesh(metadata: string): boolean {
  return /^external:-?mdmesh$/.test(metadata);
}

/** null: no such attribute, or it could not be read. */
export function attribute(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}
