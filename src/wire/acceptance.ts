/**
 * Replay protection: which sealed events are new. Pure; the signature has been verified before anything comes here.
 *
 * The sequence of an origin starts at 1 at each boot of its agent, boots are numbered, and gossip repeats and reorders
 * (its own memory of what it saw ends after two minutes). So for each origin and boot there is a contiguous cursor
 * (every sequence up to it was seen) and the set of sequences seen beyond it. Rules:
 *
 * 1. No (origin, boot number, sequence) is accepted twice.
 * 2. Within a boot, any order is accepted. One that leaves a hole before it is accepted as 'gap': ask for catch-up.
 * 3. By gossip, at most `windowEvents` ahead of the cursor ('too-far'): memory stays bounded whatever a faulty origin
 *    sends. Catch-up brings events oldest first, so a hole it leaves is one that the peer's journal no longer has: there
 *    the window moves up, and what it passes counts as seen.
 * 4. Events of a boot older than the origin's newest known one come by catch-up only ('stale-boot'): recorded gossip
 *    from before a restart must not act again.
 * 5. One boot number is one boot. A second boot UUID under it ('boot-conflict') means a copied state directory or two
 *    agents with one key; nothing of the second is accepted.
 */
import type { NodeId } from '../arrays/record.ts';
import type { CatchupRequest, Event } from './messages.ts';

export const windowEvents = 1024;
/** Boots remembered of each origin. Older ones are in the journal, or nowhere; their events are refused. */
export const bootsKept = 64;

export type AcceptanceVerdict = 'new' | 'gap' | 'duplicate' | 'stale-boot' | 'too-far' | 'boot-conflict';
export type Via = 'gossip' | 'catchup';

interface BootCursor {
  readonly bootNumber: number;
  /** Null: known from the journal's cursors, which carry only the number; the next event of the boot tells it. */
  readonly boot: string | null;
  /** Every sequence from 1 to this one was seen. */
  readonly contiguous: number;
  readonly beyond: ReadonlySet<number>;
}

export interface AcceptanceState {
  /** Boots of each origin, newest first. */
  readonly origins: ReadonlyMap<NodeId, readonly BootCursor[]>;
  readonly counters: Readonly<Record<AcceptanceVerdict, number>>;
}

export interface Acceptance {
  verdict: AcceptanceVerdict;
  state: AcceptanceState;
}

/** @param have the journal's cursors, so that a restart remembers what was seen before it */
export function initialAcceptance(have: CatchupRequest['have'] = []): AcceptanceState {
  const origins = new Map<NodeId, BootCursor[]>();
  for (const { origin, bootNumber, sequence } of have) {
    const boots = origins.get(origin) ?? [];
    boots.push({ bootNumber, boot: null, contiguous: sequence, beyond: new Set() });
    origins.set(origin, newestFirst(boots));
  }
  return {
    origins,
    counters: { new: 0, gap: 0, duplicate: 0, 'stale-boot': 0, 'too-far': 0, 'boot-conflict': 0 },
  };
}

/** Whether the event with this verdict may act: 'new' and 'gap'. */
export function isAccepted(verdict: AcceptanceVerdict): boolean {
  return verdict === 'new' || verdict === 'gap';
}

export function accept(state: AcceptanceState, event: Event, via: Via = 'gossip'): Acceptance {
  const boots = state.origins.get(event.origin) ?? [];
  const cursor = boots.find((boot) => boot.bootNumber === event.bootNumber) ?? {
    bootNumber: event.bootNumber,
    boot: null,
    contiguous: 0,
    beyond: new Set<number>(),
  };
  const { verdict, next } = judge(cursor, boots, event, via);
  const counters = { ...state.counters, [verdict]: state.counters[verdict] + 1 };
  if (next === null) return { verdict, state: { ...state, counters } };
  const others = boots.filter((boot) => boot.bootNumber !== event.bootNumber);
  const origins = new Map(state.origins).set(event.origin, newestFirst([next, ...others]));
  return { verdict, state: { origins, counters } };
}

/** What to ask a peer's catch-up with: the contiguous cursors, holes not counted as known. */
export function cursorsOf(state: AcceptanceState): CatchupRequest['have'] {
  return [...state.origins].flatMap(([origin, boots]) =>
    boots.map(({ bootNumber, contiguous }) => ({ origin, bootNumber, sequence: contiguous })),
  );
}

/** The newest event seen of each origin, whatever is missing before it. */
export function newestOf(state: AcceptanceState): Map<NodeId, { bootNumber: number; sequence: number }> {
  return new Map(
    [...state.origins].flatMap(([origin, [newest]]) =>
      newest === undefined
        ? []
        : [[origin, { bootNumber: newest.bootNumber, sequence: Math.max(newest.contiguous, ...newest.beyond) }]],
    ),
  );
}

/**
 * Whether a commit or a lease release was made in a term older than `knownTerm`. Such an event is history: it is
 * journaled, and it must not change anything any more. Other events do not act by their term and are never stale.
 */
export function staleTerm(event: Event, knownTerm: number): boolean {
  switch (event.body.type) {
    case 'commit':
      return event.body.record.version.term < knownTerm;
    case 'lease-release':
      return event.body.term < knownTerm;
    default:
      return false;
  }
}

function judge(
  cursor: BootCursor,
  boots: readonly BootCursor[],
  event: Event,
  via: Via,
): { verdict: AcceptanceVerdict; next: BootCursor | null } {
  const refused = (verdict: AcceptanceVerdict) => ({ verdict, next: null });
  const newest = boots[0]?.bootNumber ?? 0;
  const oldest = boots.at(-1)?.bootNumber ?? 0;
  if (event.bootNumber < newest && via === 'gossip') return refused('stale-boot');
  if (boots.length >= bootsKept && event.bootNumber < oldest) return refused('stale-boot');
  if (cursor.boot !== null && cursor.boot !== event.boot) return refused('boot-conflict');
  if (event.sequence <= cursor.contiguous || cursor.beyond.has(event.sequence)) return refused('duplicate');
  let contiguous = cursor.contiguous;
  if (event.sequence > contiguous + windowEvents) {
    if (via === 'gossip') return refused('too-far');
    contiguous = event.sequence - windowEvents;
  }
  const beyond = new Set([...cursor.beyond].filter((sequence) => sequence > contiguous)).add(event.sequence);
  while (beyond.delete(contiguous + 1)) contiguous += 1;
  return {
    verdict: event.sequence <= contiguous ? 'new' : 'gap',
    next: { bootNumber: cursor.bootNumber, boot: event.boot, contiguous, beyond },
  };
}

function newestFirst(boots: readonly BootCursor[]): BootCursor[] {
  return [...boots].sort((a, b) => b.bootNumber - a.bootNumber).slice(0, bootsKept);
}
