/** When the state next changes by itself. */
import { watchedDisks } from './disks.ts';
import { type LeaseState, seen } from './state.ts';

/**
 * BOOTTIME in ms of the next tick that has anything to do, for a master and for who follows one that is heard. Null: an
 * election is in the air, tick often.
 */
export function leaseDueMs(state: LeaseState): number | null {
  const { role, master, config, abstention, leaving, standAtOnce } = state;
  if (abstention !== null || leaving || standAtOnce || role.kind === 'candidate' || master === null) return null;
  const disksMs = diskDueMs(state);
  // Who could shut it out does not wait for the end of its promise.
  if (state.mayShutOut && !seen(state.view, master.node) && role.kind !== 'master') return null;
  if (role.kind === 'master') return Math.min(role.lastRenewMs + config.renewMs, role.leaseUntilMs, disksMs);
  return Math.min(master.heardMs + config.voterMs, disksMs);
}

function diskDueMs({ disks, config }: LeaseState): number {
  if (disks === null) return Number.POSITIVE_INFINITY;
  const dueMs = watchedDisks(disks).flatMap((disk) => {
    const sight = disks.sights.get(disk);
    return sight?.busy == null ? [(sight?.readTriedMs ?? Number.NEGATIVE_INFINITY) + config.renewMs] : [];
  });
  return Math.min(...dueMs, Number.POSITIVE_INFINITY);
}
