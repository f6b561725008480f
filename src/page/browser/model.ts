/**
 * What the page knows, and how it changes: `step(state, action) → state`. No network, no document, no clock: the edge (main.ts,
 * link.ts) brings all of it in.
 */
import type { JournalState, Status } from '../../outlets/status.ts';
import type { CloudEvent } from '../../outlets/told.ts';

/** Kept in the page; older ones can be asked for. */
const EVENTS_MAX = 5000;
/** Ten minutes of one status a second. */
const SAMPLES_MAX = 600;
/** How many rows the timeline begins with, and how many more are shown each time. */
export const ROWS = 25;

/** connecting, live, or lost: no word from the agent; locked: it wants the token. */
export type Link = 'connecting' | 'live' | 'lost' | 'locked';

/** Empty: any. */
export interface Filter {
  severity: string;
  type: string;
  array: string;
  node: string;
}

/** One look at the status, for the plots. Seconds are Unix time of the browser's clock. */
export interface Sample {
  atSeconds: number;
  grantLeftMs: number;
  /** Of all copies under way; null: none, or not known yet. */
  copyMibPerSecond: number | null;
  /** In which this node holds its writes for a copy. */
  windowMib: number;
}

export interface Page {
  link: Link;
  /** Why it is locked or lost, for people. */
  why: string | null;
  status: Status | null;
  journal: JournalState | null;
  /** In the order of the journal. */
  events: readonly CloudEvent[];
  /** Entries that the agent left out because this page was too slow. */
  missed: number;
  samples: readonly Sample[];
  filter: Filter;
  rows: number;
  /** The newest thing that somebody who does not look should hear. */
  announced: string;
}

export type Action =
  | { type: 'link'; link: Link; why?: string }
  | { type: 'status'; status: Status; atSeconds: number }
  | { type: 'journal'; journal: JournalState }
  | { type: 'history'; events: CloudEvent[] }
  | { type: 'event'; event: CloudEvent }
  | { type: 'missed'; count: number }
  | { type: 'begun-anew' }
  | { type: 'filter'; filter: Partial<Filter> }
  | { type: 'more' };

export const noFilter: Filter = { severity: '', type: '', array: '', node: '' };

export const start: Page = {
  link: 'connecting',
  why: null,
  status: null,
  journal: null,
  events: [],
  missed: 0,
  samples: [],
  filter: noFilter,
  rows: ROWS,
  announced: '',
};

export function step(page: Page, action: Action): Page {
  switch (action.type) {
    case 'link':
      if (page.link === action.link && page.why === (action.why ?? null)) return page;
      return { ...page, link: action.link, why: action.why ?? null, announced: linkWords(action.link) };
    case 'status': {
      const { status, atSeconds } = action;
      const samples = [...page.samples, sampleOf(status, atSeconds)].slice(-SAMPLES_MAX);
      return { ...page, status, samples, link: 'live', why: null };
    }
    case 'journal':
      return { ...page, journal: action.journal };
    case 'history':
      return { ...page, events: merged(page.events, action.events) };
    case 'event': {
      const { event } = action;
      const isLoud = event.severity === 'warning' || event.severity === 'critical';
      const announced = isLoud ? `${event.subject}: ${event.data.name}, ${event.data.text}` : page.announced;
      return { ...page, events: merged(page.events, [event]), announced };
    }
    case 'missed':
      return { ...page, missed: page.missed + action.count };
    case 'begun-anew':
      return { ...page, events: [], missed: 0 };
    case 'filter':
      return { ...page, filter: { ...page.filter, ...action.filter }, rows: ROWS };
    case 'more':
      return { ...page, rows: page.rows + ROWS * 4 };
  }
}

/** Each once: what comes again after a reconnect is the same. */
function merged(known: readonly CloudEvent[], more: readonly CloudEvent[]): CloudEvent[] {
  const ids = new Set(known.map(({ id }) => id));
  const fresh = more.filter(({ id }) => !ids.has(id));
  if (fresh.length === 0) return [...known];
  return [...known, ...fresh].sort((a, b) => (a.cursor ?? 0) - (b.cursor ?? 0)).slice(-EVENTS_MAX);
}

function sampleOf({ lease, arrays }: Status, atSeconds: number): Sample {
  const speeds = arrays.flatMap(({ sync }) => (sync?.kibPerSecond == null ? [] : [sync.kibPerSecond]));
  const heldSectors = arrays.reduce((sum, { local }) => {
    const range = local?.suspended ?? null;
    return sum + (range === null ? 0 : Math.max(0, range.hiSector - range.loSector));
  }, 0);
  return {
    atSeconds,
    grantLeftMs: lease.grantLeftMs,
    copyMibPerSecond: speeds.length === 0 ? null : speeds.reduce((sum, kib) => sum + kib, 0) / 1024,
    windowMib: heldSectors / 2048,
  };
}

/** From the clock of the node where it happened to the clock of this node, when it was written here; null: it happened here. */
export function travelMs(event: CloudEvent, self: number): number | null {
  if (event.recordedtime === undefined || event.data.origin === self) return null;
  return Date.parse(event.recordedtime) - Date.parse(event.time);
}

export function linkWords(link: Link): string {
  return {
    connecting: 'Connecting',
    live: 'Live',
    lost: 'No connection to the agent; trying again',
    locked: 'The token is needed',
  }[link];
}
