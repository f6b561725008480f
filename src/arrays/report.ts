/** What the master is told of an array here. */
import type { ArrayReport, LocalState } from '../wire/messages.ts';
import type { LocalArray, NodeArrays } from './local_state.ts';
import { mustHoldReads } from './may_pass.ts';
import type { MemberRecord } from './record.ts';
import { isHeldAtGate, keepsBitmap, lostHere, readsPass } from './seen_here.ts';

export function localState(array: LocalArray): LocalState {
  if (array.observation == null) return 'absent';
  return array.observation.held ? 'held' : 'open';
}

/** As the master hears it: who says that it holds what it was not waited for any more reads nothing either. */
function standing(state: NodeArrays, array: LocalArray, now: number): LocalState {
  const reads = array.observation != null && readsPass(array.observation);
  if (reads && mustHoldReads(state, array, now)) return 'open';
  return isHeldAtGate(state.self, array) ? 'held' : localState(array);
}

export function inShort(state: NodeArrays, array: LocalArray, now: number): string {
  return `${standing(state, array, now)} ${lostHere(array).join()}`;
}

export function reportOf(state: NodeArrays, array: LocalArray, now: number): ArrayReport {
  const usable = (uuid: string): boolean => state.paths.has(uuid) && state.keys?.usable.has(uuid) !== false;
  const isOpen = ({ uuid, role }: MemberRecord): boolean =>
    role === 'spare' && state.keys?.unreserved.has(uuid) === true;
  const ready = array.record.members.filter((member) => !isOpen(member));
  const visible = ready.map((member) => member.uuid).filter(usable);
  return {
    array: array.record.uuid,
    applied: array.applied,
    known: array.record.version,
    released: array.released?.version ?? null,
    state: standing(state, array, now),
    visible,
    bitmap: array.observation?.bitmap != null && keepsBitmap(array.record, array.observation, state.self),
    trouble: array.trouble,
    lost: lostHere(array),
    fine: [...array.fineAtMs.keys()],
    ...mended(array),
  };
}

function mended({ takenOver }: LocalArray): Pick<ArrayReport, 'mended'> {
  if (takenOver?.sectors == null || takenOver.sectors === 0) return {};
  return { mended: { since: takenOver.since, sectors: takenOver.sectors } };
}
