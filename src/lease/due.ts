/** When the state next changes by itself. */
import type { LeaseState } from './state.ts';

/**
 * BOOTTIME in ms of the next tick that has anything to do, for a master and for who follows one that is heard. Null: an
 * election is in the air, tick often.
 */
export function leaseDueMs(state: LeaseState): number | null {
  const { role, master, config, abstention, leaving, standAtOnce } = state;
  if (abstention !== null || leaving || standAtOnce || role.kind === 'candidate' || master === null) return null;
  if (role.kind === 'master') return Math.min(role.lastRenewMs + config.renewMs, role.leaseUntilMs);
  return master.heardMs + config.voterMs;
}
