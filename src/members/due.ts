/** When the state next changes by itself. */
import { buryMs, callMs } from './probe.ts';
import { isThere, type MembersState } from './state.ts';

/** BOOTTIME in ms of the next tick that has anything to do; may be past. */
export function membersDueMs(state: MembersState): number {
  const { lastTickMs, left, config } = state;
  if (lastTickMs === null) return Number.NEGATIVE_INFINITY;
  const probes = state.probes.map(({ askOthersMs, failsMs }) => Math.min(askOthersMs ?? failsMs, failsMs));
  const errands = state.errands.map(({ nackMs }) => nackMs);
  const members = [...state.members.values()].map((member) => {
    const turnMs = left ? Number.POSITIVE_INFINITY : isThere(member) ? member.probeMs : callMs(state, member);
    return Math.min(turnMs, buryMs(state, member));
  });
  // A node with no other in its list has nothing to wait for.
  return Math.min(
    lastTickMs + config.probeIntervalMs * config.suspicionMaxIntervals,
    ...probes,
    ...errands,
    ...members,
  );
}
