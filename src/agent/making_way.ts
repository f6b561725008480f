/** When an agent can make way for a successor: pure looks at what it has begun, and at how much time the successor would have. */
import { compareVersions } from '../arrays/record.ts';
import { type AgentState, masterOf } from './agent_state.ts';

/** So much of a grant is left just after a renewal. */
const FRESH_GRANT = 0.75;

/** Begun outside the cores. */
export interface Begun {
  /** Kernel names of arrays with an operation that was given up waiting for: it may still be under way in the kernel. */
  late: ReadonlySet<string>;
  /** How many are being written. */
  commits: number;
  atQuorumDisks: number;
  looksAtKeys: boolean;
}

/** What this agent has begun and does not know the end of; null: nothing. */
export function underWay({ local, lease }: Readonly<AgentState>, begun: Begun): string | null {
  for (const { busy, pathBusy, gateBusy, record } of local.arrays.values()) {
    const op = busy?.op ?? pathBusy?.op ?? (gateBusy ? 'answering gates' : null);
    if (op !== null) return `${record.md}: ${op}`;
  }
  const [late] = begun.late;
  if (late !== undefined) return `${late}: what did not end in time`;
  if (begun.commits > 0) return 'a commit';
  if (begun.atQuorumDisks > 0) return 'a look at a quorum disk';
  if (begun.looksAtKeys) return 'a look at reservations';
  return lease.pendingVote === null && lease.role.kind !== 'candidate' ? null : 'a vote';
}

/** Just after a renewal, with every record released: others wait for nothing then, and the successor has most time. */
export function isGoodMoment(state: Readonly<AgentState>, now: number): boolean {
  const { lease, local } = state;
  const released = [...local.arrays.values()].every(
    (array) => array.released !== null && compareVersions(array.released.version, array.record.version) >= 0,
  );
  return masterOf(state) !== null && released && local.grantUntilMs - now >= FRESH_GRANT * lease.config.holderMs;
}
