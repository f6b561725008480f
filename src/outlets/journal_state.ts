/** How far the journal is signed, looked up when somebody asks: nothing is kept for it. */
import { logOf, originOf, readCheckpoint } from '../journal/checkpoint.ts';
import type { Journal } from '../journal/index.ts';
import type { JournalState, Status } from './status.ts';

/** Entries behind a checkpoint in which its cosignatures are looked for. They come within seconds. */
const COSIGNED_WITHIN = 1024;

export function journalState(journal: Journal, { cluster, self }: Pick<Status, 'cluster' | 'self'>): JournalState {
  const head = journal.head();
  const log = journal.log();
  if (log === null) return { head, entries: 0, log: null, checkpoint: null };
  const origin = originOf(cluster.uuid, self, logOf(log.first));
  // Of each log there is one, the newest.
  const [newest] = journal.landmarks().flatMap(({ event }) => {
    if (event.body.type !== 'checkpoint') return [];
    const checkpoint = readCheckpoint(event.body.note);
    return checkpoint.origin === origin ? [{ entries: checkpoint.size, time: event.time }] : [];
  });
  if (newest === undefined) return { head, entries: log.size, log: origin, checkpoint: null };
  const { entries } = journal.read(head - (log.size - newest.entries), COSIGNED_WITHIN);
  const cosigners = entries.flatMap(({ event: { body, origin: from } }) =>
    body.type === 'cosignature' && body.of.origin === origin && body.of.size === newest.entries ? [from] : [],
  );
  return {
    head,
    entries: log.size,
    log: origin,
    checkpoint: { ...newest, cosigners: [...new Set(cosigners)].sort((a, b) => a - b) },
  };
}
