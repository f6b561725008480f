/** Stories on one cluster, told in order: each begins where the one before left the cluster, so after a failure no other is told. */
import type { TestContext } from 'node:test';
import type { Cluster } from './cluster.ts';

export function chapters(t: TestContext, cluster: Cluster): (name: string, tell: () => Promise<void>) => Promise<void> {
  let failed: string | null = null;
  return async (name, tell) => {
    const skip = failed === null ? false : `the cluster is as "${failed}" left it`;
    await t.test(name, { skip }, async (chapter) => {
      try {
        await tell();
      } catch (error) {
        failed = name;
        for (const node of cluster.nodes) chapter.diagnostic(`node ${node}: ${await standing(cluster, node)}`);
        throw error;
      }
    });
  };
}

/** How a node sees lease and arrays, in one line, for the reader of a failure. */
export async function standing(cluster: Cluster, node: number): Promise<string> {
  try {
    const { lease, nodes, arrays } = await cluster.status(node);
    const seen = arrays.map(({ record, applied, released, local, trouble, reports }) => {
      const { writers, resync, version } = record;
      return { writers, resync, version, applied, released, local, trouble, reports };
    });
    const members = nodes.map((each) => `${each.node}:${each.status}${each.granted === true ? '+' : ''}`).join(' ');
    return `${JSON.stringify(lease)} ${members} ${JSON.stringify(seen)}`;
  } catch (error) {
    return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
  }
}
