/** A mirror under three nodes of which nobody switches one off: fencing is manual, and no operator speaks. Both disks are watched. */
import type { TestContext } from 'node:test';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { DiskWatch } from './disk_watch.ts';
import { createMirror, LastingWriters } from './lasting_writers.ts';

export async function unfencedMirror(t: TestContext, name: string) {
  const cluster = await Cluster.start({
    name,
    diskMib: [64, 64],
    fencing: () => '{ methods: [manual] }',
    config: 'timing: { failback_after: 4s }',
  });
  const watch = new DiskWatch(cluster.lab, [0, 1]);
  t.after(async () => {
    watch.end();
    await cluster.close();
  });
  await createMirror(cluster);
  return { cluster, lab: cluster.lab, watch, chapter: chapters(t, cluster), writers: new LastingWriters(cluster) };
}
