/** A power switch that takes its time. In that time a restarted agent may have answered: then the order was called off. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../src/arrays/record.ts';
import type { Cluster } from './cluster.ts';

const SWITCH_MS = 4000;

/** From now on the lab's fence server acts like that. Returns the list of nodes that it switches off, which grows. */
export function slowSwitch(cluster: Cluster): NodeId[] {
  const { lab } = cluster;
  const switchedOff: NodeId[] = [];
  lab.onFence = async (node) => {
    for (const endMs = Date.now() + SWITCH_MS; Date.now() < endMs; await sleep(200)) {
      if (!lab.guest(node).running) return true;
      const answers = await cluster.status(node).then(
        () => true,
        () => false,
      );
      if (answers) return false;
    }
    switchedOff.push(node);
    await lab.guest(node).kill9();
    return true;
  };
  return switchedOff;
}
