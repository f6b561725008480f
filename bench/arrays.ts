/** Mirrors for the measurements: made quickly, and taken away again so that the next round begins with a whole one. */
import type { Cluster } from '../test/lab/cluster.ts';
import { pause } from './guest_tools.ts';

export interface MirrorOptions {
  md?: string;
  devices?: readonly string[];
  assumeClean?: boolean;
  /** The last of the devices. @default none */
  spares?: number;
  /** One for each node. @default none */
  bitmap?: 'internal';
}

const DEVICES = ['/dev/ubda', '/dev/ubdb'];

/** Asked again when the master changes meanwhile, as it may soon after the start, or a disk is only just being let go. */
export async function ask(cluster: Cluster, request: object): Promise<void> {
  for (let again = 3; ; again--) {
    const { ok, text } = await cluster.request(await cluster.master(), request);
    if (ok) return;
    if (again === 0 || !/master|in use|lease/.test(text)) throw new Error(`${JSON.stringify(request)}: ${text}`);
    await pause(500);
  }
}

/** A shared mirror. If its copies are not called equal, a resync is under way. */
export function askMirror(cluster: Cluster, options: MirrorOptions = {}): Promise<void> {
  const { md = 'md0', devices = DEVICES, assumeClean = true, spares = 0, bitmap } = options;
  return ask(cluster, {
    verb: 'create',
    md: `/dev/${md}`,
    level: 'raid1',
    raidDisks: devices.length - spares,
    access: 'shared',
    devices,
    spares,
    assumeClean,
    force: true,
    ...(bitmap && { bitmap }),
  });
}

/** As `askMirror`, and open for writes on all nodes, nothing being copied. */
export async function makeMirror(cluster: Cluster, options: MirrorOptions = {}): Promise<void> {
  const { md = 'md0' } = options;
  const asked = askMirror(cluster, options);
  await asked.catch(async (error: unknown) => {
    // A master that changed meanwhile may have made it, and could not say so.
    if ((await cluster.array(await cluster.master(), md)) === undefined) throw error;
  });
  await cluster.open(cluster.nodes, md);
}

export async function unmakeMirror(cluster: Cluster, md = 'md0'): Promise<void> {
  await ask(cluster, { verb: 'stop', array: md });
  await ask(cluster, { verb: 'release', array: md });
}
