/**
 * When the next check of an array is due, so that copies which differ, or sectors that cannot be read any more, are found before
 * the other copy is needed. Two configured facts: how old the last check may get, and at what hours one may begin.
 *
 * The time of the last one stands in the record, so a new master goes on counting where the old one was.
 */
import { activeMembers, isRedundant } from './levels.ts';
import type { ArrayRecord } from './record.ts';

export interface CheckSchedule {
  /** null: never. */
  everySeconds: number | null;
  /** Minutes of the day, from and up to, not with; from after to: over midnight. Alike: at any time. */
  fromMinute: number;
  toMinute: number;
}

/** Debian's mdadm checks once a month, at night. */
export const CHECK_SCHEDULE: CheckSchedule = { everySeconds: 30 * 86_400, fromMinute: 60, toMinute: 5 * 60 };

/** The wall clock; wrong by hours it makes a check early or late, and nothing else. */
export interface WallTime {
  /** Unix time. */
  seconds: number;
  /** Local. */
  minuteOfDay: number;
}

function mayBegin({ fromMinute: from, toMinute: to }: CheckSchedule, minute: number): boolean {
  if (from === to) return true;
  return from < to ? minute >= from && minute < to : minute >= from || minute < to;
}

/** Whole, started, at rest, and its last check (or its beginning) is long enough ago. */
export function checkDue(record: ArrayRecord, schedule: CheckSchedule, wall: WallTime | null): boolean {
  const { everySeconds } = schedule;
  if (everySeconds === null || wall === null || !mayBegin(schedule, wall.minuteOfDay)) return false;
  if (record.run !== 'started' || record.writers.length === 0 || record.resync !== null) return false;
  if (!isRedundant(record.level) || activeMembers(record).length < record.raidDisks) return false;
  return wall.seconds - (record.lastCheck?.atSeconds ?? record.ctimeSeconds) >= everySeconds;
}
