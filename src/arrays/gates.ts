/** Gates: md waits there for a word on members that have failed, before it tells writes as done. */
import type { LocalArray, NodeArrays } from './local_state.ts';
import type { ArrayRecord } from './record.ts';
import { diverged, gateClosed, goodIn } from './seen_here.ts';

/** Members seen here that the record which lets gates be answered does not take for good: their failure is agreed on. */
export function settledMembers(array: LocalArray): string[] {
  const { observation } = array;
  const good = goodIn(recordForGates(array));
  return (observation?.members ?? []).flatMap(({ uuid }) => (uuid === null || good.has(uuid) ? [] : [uuid]));
}

/** Where nothing is in flight no write waits for the answer, so nobody's release. */
function recordForGates({ observation, record, released }: LocalArray): ArrayRecord | null {
  return observation?.held === true ? record : released;
}

/** It is, or has not looked since it was without a grant: what it let begin might be refused. */
function mayBeShutOut({ keys, lapsedAtMs }: NodeArrays): boolean {
  return keys !== null && (keys.shutOut || keys.atMs < lapsedAtMs);
}

/** md goes by its marks, and was not told to. It calls itself frozen as soon as it is to end. */
function copiesUnasked({ record, observation, copying }: LocalArray): boolean {
  if (observation == null || observation.bitmap === null) return false;
  return observation.syncAction === 'resync' && copying !== record.resync?.since;
}

/** Whether the gates of this array may be answered now. */
export function gatesAnswerable(state: NodeArrays, array: LocalArray, now: number): boolean {
  const { observation, record } = array;
  const agreed = recordForGates(array);
  if (observation == null || agreed === null || !gateClosed(observation)) return false;
  // A record may fail a member while this node is out: with its gate closed for good it would not be let in again.
  if (array.refused || (mayBeShutOut(state) && !observation.held)) return false;
  if (state.leaving || now >= state.grantUntilMs || copiesUnasked(array)) return false;
  if (!agreed.writers.includes(state.self) && !observation.held) return false;
  return (
    diverged(observation, agreed, state.self).length === 0 && diverged(observation, record, state.self).length === 0
  );
}
