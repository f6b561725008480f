/**
 * A power switch that takes its time. In that time a restarted agent may have answered: then the order was called off. A node
 * whose agent is on its way up is not switched off at all, however long that takes on a crowded machine: the order is refused,
 * and comes again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../src/arrays/record.ts';
import type { Cluster } from './cluster.ts';

const SWITCH_MS = 4000;
/** Below the time limit that the cluster's config sets to its fence command. */
const START_MS = 8000;

/** From now on the lab's fence server acts like that. Returns the list of nodes that it switches off, which grows. */
export function slowSwitch(cluster: Cluster): NodeId[] {
  const { lab } = cluster;
  const switchedOff: NodeId[] = [];
  lab.onFence = async (node) => {
    const orderedMs = Date.now();
    for (let starts = true; Date.now() < orderedMs + (starts ? START_MS : SWITCH_MS); await sleep(200)) {
      if (!lab.guest(node).running) return true;
      starts = cluster.agentRuns(node);
      const answers = await cluster.status(node).then(
        () => true,
        () => false,
      );
      if (answers) return false;
    }
    if (cluster.agentRuns(node)) return false;
    switchedOff.push(node);
    await lab.guest(node).kill9();
    return true;
  };
  return switchedOff;
}
