import { compareVersions, isEnd, type Version } from '../arrays/record.ts';
import type { Event } from '../wire/messages.ts';
import { originIn } from './checkpoint.ts';

/** An event and its envelope. */
export interface SealedEvent {
  event: Event;
  sealed: string;
}

/**
 * What must not be forgotten with old entries: the newest commit of each array, a floor under what a master may take from the
 * disks, and the newest checkpoint of each log, with which the next one has to agree.
 */
export class Landmarks {
  readonly #commits = new Map<string, SealedEvent>();
  /** Arrays that were given back, and by which commit: what came before it may come to this journal later. */
  readonly #ended = new Map<string, Version>();
  readonly #checkpoints = new Map<string, SealedEvent>();

  note(event: Event, sealed: string): void {
    const { body } = event;
    if (body.type === 'checkpoint') {
      const origin = originIn(body.note);
      const known = this.#checkpoints.get(origin)?.event;
      if (known === undefined || isLater(event, known)) this.#checkpoints.set(origin, { event, sealed });
      return;
    }
    if (body.type !== 'commit') return;
    const { uuid, version } = body.record;
    const ended = this.#ended.get(uuid);
    if (ended !== undefined && compareVersions(version, ended) <= 0) return;
    const known = this.#commits.get(uuid)?.event.body;
    if (isEnd(body.kind, body.record)) {
      this.#commits.delete(uuid);
      this.#ended.set(uuid, version);
    } else if (known?.type !== 'commit' || compareVersions(known.record.version, version) < 0) {
      this.#commits.set(uuid, { event, sealed });
    }
  }

  all(): SealedEvent[] {
    return [...this.#commits.values(), ...this.#checkpoints.values()];
  }
}

/** Of one origin: later starts of its agent have a greater number. */
export function isLater(a: Event, b: Event): boolean {
  return (a.bootNumber - b.bootNumber || a.sequence - b.sequence) > 0;
}
