import type { Event } from '../wire/messages.ts';
import type { Journal } from './index.ts';
import { Ledger } from './ledger.ts';

/** A journal for simulated clusters: the same chain, index and cursors, and everything is forgotten at the end. */
export function memoryJournal(options: { now: () => Date }): Journal {
  const ledger = new Ledger({
    recentMax: Number.POSITIVE_INFINITY,
    older: () => null,
    listenerFailed: (error) => {
      throw error;
    },
  });
  return {
    append: (event: Event, sealed: string) => {
      const added = ledger.append(event, sealed, options.now());
      if (added === null) return null;
      ledger.tell(added.entry);
      return added.entry;
    },
    durable: () => Promise.resolve(),
    has: (origin, bootNumber, sequence) => ledger.has(origin, bootNumber, sequence),
    vector: () => ledger.vector(),
    missing: (have, limit) => ledger.missing(have, limit),
    landmarks: () => ledger.landmarks(),
    log: () => ledger.log(),
    read: (after, limit) => ledger.read(after, limit),
    head: () => ledger.head(),
    onAppend: (listener) => ledger.onAppend(listener),
    close: () => Promise.resolve(),
  };
}
