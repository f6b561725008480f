/** What is due for paths that are lost or held: let go, tried again, or read through. */
import { activeMembers, survivesWithout } from './levels.ts';
import type { LocalArray, LocalOp, NodeArrays } from './local_state.ts';
import { crashedSince, mayRead } from './may_pass.ts';
import type { ArrayRecord } from './record.ts';
import { goodIn } from './seen_here.ts';

/** What is due for a path that is lost or held; null: nothing yet. */
export function pathOp(state: NodeArrays, array: LocalArray, now: number): LocalOp | null {
  const { record, released, observation } = array;
  const { pathLoss } = state;
  if (mayRead(state, array, now)) return { op: 'let-read' };
  const waits = observation?.members.some(({ path, faulty }) => path === 'lost' || (path === 'held' && faulty));
  if (waits !== true) return null;
  const good = goodIn(record);
  const goodForOthers = goodIn(released);
  // Its bits alone are on their way, and keep it from saying that it has applied what fails the member.
  const writesNothing = observation?.held === true && !record.writers.includes(state.self);
  for (const { uuid, path, faulty } of observation?.members ?? []) {
    if (uuid === null) continue;
    // What waits at a member that has failed in md is read from another, which is held as well.
    if (path === 'held' && faulty && released !== null && !good.has(uuid) && !goodForOthers.has(uuid)) {
      return { op: 'release-path', member: uuid };
    }
    if (path !== 'lost') continue;
    if (lastCopy(record, uuid)) return { op: 'restore-path', member: uuid };
    // As long as this node has not said that it gave the member up, no other node has a write that the member misses.
    if (pathLoss === 'drop-node' && !faulty && good.has(uuid)) return { op: 'restore-path', member: uuid };
    const isAgreed = writesNothing || (released !== null && !goodForOthers.has(uuid));
    if (good.has(uuid) || !isAgreed) continue;
    return { op: faulty ? 'release-path' : 'set-faulty', member: uuid };
  }
  return null;
}

/** The master will not commit it as faulty. */
export function lastCopy(record: ArrayRecord, uuid: string): boolean {
  return activeMembers(record).some((member) => member.uuid === uuid) && !survivesWithout(record, uuid);
}

export function mayRestore(state: NodeArrays, { record, released }: LocalArray, now: number): boolean {
  const writer = released?.writers.includes(state.self) === true && record.writers.includes(state.self);
  return writer && !state.leaving && now < state.grantUntilMs && !crashedSince(state, record);
}
