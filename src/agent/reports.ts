/** What this node tells the master of its arrays: of those that it has, and of those that only its journal remembers. */
import type { NodeArrays } from '../arrays/local_state.ts';
import type { Version } from '../arrays/record.ts';
import { reportOf } from '../arrays/report.ts';
import type { ArrayReport } from '../wire/messages.ts';

/** @param remembered array → its newest version, see StoredCommits */
export function reportsOf(local: NodeArrays, remembered: ReadonlyMap<string, Version>, now: number): ArrayReport[] {
  const looked = [...local.arrays.values()].filter(
    ({ observation, givenBack }) => observation !== undefined && !givenBack,
  );
  const absent = [...remembered].filter(([array]) => !local.arrays.has(array));
  return [
    ...looked.map((array) => reportOf(local, array, now)),
    ...absent.map(
      ([array, known]): ArrayReport => ({
        array,
        applied: null,
        known,
        state: 'absent',
        visible: [],
        bitmap: false,
        trouble: null,
        lost: [],
        fine: [],
      }),
    ),
  ];
}
