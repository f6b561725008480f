/** What `mdmesh top` knows and how keys change it: pure. Screen.ts draws it, top.ts brings news and keys. */
import { passes, SEVERITIES, type Severity } from '../../outlets/event_filter.ts';
import type { Status } from '../../outlets/index.ts';
import type { CloudEvent } from '../../outlets/told.ts';

/** Enough to scroll through; `mdmesh watch --after` has all. */
const EVENTS_MAX = 1000;

export interface Top {
  status: Status | null;
  /** In the order of the journal. */
  events: readonly CloudEvent[];
  /** Why the picture stands still; null: it does not. */
  lost: string | null;
  /** md name of the one array that is shown; null: all. */
  array: string | null;
  severity: Severity;
  /** Events that are scrolled past, from the newest on. */
  back: number;
}

export type TopInput =
  | { type: 'status'; status: Status }
  | { type: 'events'; events: readonly CloudEvent[] }
  | { type: 'lost'; why: string }
  | { type: 'key'; key: 'left' | 'right' | 'up' | 'down' | 'page-up' | 'page-down' | 'severity' };

export const emptyTop: Top = { status: null, events: [], lost: null, array: null, severity: 'info', back: 0 };

export function stepTop(top: Top, input: TopInput): Top {
  switch (input.type) {
    case 'status': {
      const isThere = input.status.arrays.some(({ record }) => record.md === top.array);
      return { ...top, status: input.status, lost: null, array: isThere ? top.array : null };
    }
    case 'events': {
      const known = new Set(top.events.map(({ id }) => id));
      const fresh = input.events.filter(({ id }) => !known.has(id));
      // Who has scrolled back goes on looking at the same ones.
      const moved = top.back === 0 ? 0 : top.back + fresh.filter((event) => passes(filterOf(top), event)).length;
      return { ...top, events: [...top.events, ...fresh].slice(-EVENTS_MAX), back: moved };
    }
    case 'lost':
      return { ...top, lost: input.why };
    case 'key':
      return keyed(top, input.key);
  }
}

type Key = Extract<TopInput, { type: 'key' }>['key'];

function keyed(top: Top, key: Key): Top {
  const arrays = [null, ...(top.status?.arrays ?? []).map(({ record }) => record.md)];
  const turned = (by: number) => arrays.at((arrays.indexOf(top.array) + by) % arrays.length) ?? null;
  const scrolled = (by: number) => Math.max(0, Math.min(top.back + by, fittingEvents(top).length - 1));
  const steps: Record<Key, () => Partial<Top>> = {
    left: () => ({ array: turned(-1), back: 0 }),
    right: () => ({ array: turned(1), back: 0 }),
    up: () => ({ back: scrolled(1) }),
    down: () => ({ back: scrolled(-1) }),
    'page-up': () => ({ back: scrolled(10) }),
    'page-down': () => ({ back: scrolled(-10) }),
    severity: () => ({
      severity: SEVERITIES[(SEVERITIES.indexOf(top.severity) + 1) % SEVERITIES.length] ?? 'info',
      back: 0,
    }),
  };
  return { ...top, ...steps[key]() };
}

function filterOf({ array, severity }: Top): Parameters<typeof passes>[0] {
  return { severity, ...(array === null ? {} : { arrays: [array] }) };
}

/** The newest last. */
export function fittingEvents(top: Top): CloudEvent[] {
  return top.events.filter((event) => passes(filterOf(top), event));
}
