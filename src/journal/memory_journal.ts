import type { Event } from '../wire/messages.ts';
import type { Journal } from './index.ts';
import { Ledger, readsOf } from './ledger.ts';

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
    ...readsOf(ledger),
    close: () => Promise.resolve(),
  };
}
