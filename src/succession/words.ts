/** What the two processes say to each other, over the channel of a process and its child: JSON. */
import { z } from 'zod';
import type { Inheritance } from '../arrays/estate.ts';

/** Of these words. Another one is refused: then the agent is restarted. */
const FORMAT = 1;
/** Where the successor finds the watchdog; 3 is the channel. */
export const WATCHDOG_FD = 4;

/** Who goes, for the successor to see whether it can take over just that. */
const Offer = z.object({
  word: z.literal('offer'),
  format: z.number(),
  version: z.string(),
  node: z.number(),
  cluster: z.string(),
  stateDir: z.string(),
  /** Of this start of the agent: the next one has a higher one. */
  bootNumber: z.number(),
  /** It has this armed, and passes it as `WATCHDOG_FD`. null: none. */
  watchdog: z.string().nullable(),
  /** Capabilities that its children can have; null: whatever it was started with. */
  keeps: z.array(z.string()).nullable(),
});
export type Offer = Omit<z.infer<typeof Offer>, 'word' | 'format'>;

/** `Inheritance` as JSON has it: no sets, and null for a look that never was. */
const Estate = z.object({
  word: z.literal('estate'),
  grantUntilMs: z.number(),
  keys: z
    .object({
      usable: z.array(z.string()),
      unreserved: z.array(z.string()).default([]),
      absent: z.array(z.string()).default([]),
      shutOut: z.boolean(),
      atMs: z.number().nullable(),
    })
    .nullable(),
  arrays: z.array(
    z.object({ array: z.string(), version: z.object({ term: z.number(), index: z.number() }), marksLeft: z.boolean() }),
  ),
});
export type Estate = Inheritance;

const Said = z.discriminatedUnion('word', [
  Offer,
  Estate,
  z.object({ word: z.literal('go') }),
  z.object({ word: z.literal('ready') }),
  z.object({ word: z.literal('armed') }),
  z.object({ word: z.literal('refused'), why: z.string() }),
]);
export type Said = z.infer<typeof Said>;

/** null: none of these words. */
export function saidIn(message: unknown): Said | null {
  const parsed = Said.safeParse(message);
  return parsed.success ? parsed.data : null;
}

export function offerOf(offer: Offer): Said {
  return { word: 'offer', format: FORMAT, ...offer };
}

export function estateOf({ grantUntilMs, keys, arrays }: Estate): Said {
  return {
    word: 'estate',
    grantUntilMs,
    keys: keys && {
      usable: [...keys.usable],
      unreserved: [...keys.unreserved],
      absent: [...keys.absent],
      shutOut: keys.shutOut,
      atMs: Number.isFinite(keys.atMs) ? keys.atMs : null,
    },
    arrays: [...arrays].map(([array, inherited]) => ({ array, ...inherited })),
  };
}

export function estateIn({ grantUntilMs, keys, arrays }: z.infer<typeof Estate>): Estate {
  return {
    grantUntilMs,
    keys: keys && {
      usable: new Set(keys.usable),
      unreserved: new Set(keys.unreserved),
      absent: new Set(keys.absent),
      shutOut: keys.shutOut,
      atMs: keys.atMs ?? Number.NEGATIVE_INFINITY,
    },
    arrays: new Map(arrays.map(({ array, version, marksLeft }) => [array, { version, marksLeft }])),
  };
}

/** What a successor is, by its own configuration. */
export type Own = Pick<Offer, 'node' | 'cluster' | 'stateDir' | 'watchdog'> & { needs: readonly string[] };

/** null: it can take over. Else why not, in words for whoever asked for it. */
export function whyNotTakenOver({ format, ...offer }: Omit<z.infer<typeof Offer>, 'word'>, own: Own): string | null {
  const differs = (what: string, theirs: string | number | null, mine: string | number | null) =>
    theirs === mine
      ? null
      : `${what}: the running agent has ${theirs ?? 'none'}, the configuration now says ${mine ?? 'none'}`;
  const lacking = offer.keeps === null ? [] : own.needs.filter((name) => offer.keeps?.includes(name) === false);
  const reasons = [
    format === FORMAT
      ? null
      : `the running agent (${offer.version}) hands over in another form (${format}, not ${FORMAT})`,
    differs('node', offer.node, own.node),
    differs('cluster', offer.cluster, own.cluster),
    differs('state_dir', offer.stateDir, own.stateDir),
    differs('fencing.watchdog', offer.watchdog, own.watchdog),
    lacking.length === 0 ? null : `the configuration now needs ${lacking.join(', ')}, which the running agent gave up`,
  ].filter((reason) => reason !== null);
  return reasons.length === 0 ? null : `${reasons.join('; ')}; restart the agent instead`;
}
