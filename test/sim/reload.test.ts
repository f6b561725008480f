/** The node list, keys and timings of a running cluster are changed: nobody stops for it, and never do two lead. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/arrays/record.ts';
import { VirtualTime } from '#src/md/simulated_time.ts';
import { SimCluster } from './cluster.ts';

let cluster: SimCluster;

async function begun(nodes = 3, spareMachines = 1): Promise<SimCluster> {
  cluster = await SimCluster.start({ time: new VirtualTime(), nodes, spareMachines });
  return cluster;
}

const lists = (nodes: readonly NodeId[]) => nodes.map((node) => cluster.entry(node));

test('a fourth node is added while all run, and leads a majority of four', async () => {
  await begun();
  const grown = lists([1, 2, 3, 4]);
  cluster.write([1, 2, 3, 4], { nodes: grown });
  await cluster.boot(4);
  const said: string[] = [];
  for (const node of [1, 2, 3]) said.push((await cluster.reload(node)).text);
  await cluster.until('the list of four counts everywhere', () =>
    [1, 2, 3, 4].every((node) => cluster.status(node)?.list.nodes.length === 4),
  );
  await cluster.master();
});
