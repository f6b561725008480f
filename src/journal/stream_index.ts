import type { NodeId } from '../arrays/record.ts';
import type { CatchupRequest } from '../wire/messages.ts';
import type { Cursor } from './index.ts';

/** 64 nodes with 16 boots each are the 1024 streams that a catch-up request may name (CatchupRequest in wire/messages.ts). */
const BOOTS_MAX = 16;

/** The events of one boot of one node's agent, by sequence. Two plain arrays of numbers: a million events fit in 16 MB. */
interface EventStream {
  origin: NodeId;
  bootNumber: number;
  /** Ascending, with holes where gossip has not brought an event yet, and without those that were rotated away. */
  sequences: number[];
  cursors: Cursor[];
  /** All of 1…contiguous are known. */
  contiguous: number;
}

/** Which events are known, by (origin, boot, sequence). */
export class StreamIndex {
  readonly #streams = new Map<string, EventStream>();

  add(origin: NodeId, bootNumber: number, sequence: number, cursor: Cursor): void {
    const stream = this.#stream(origin, bootNumber);
    const at = firstAbove(stream.sequences, sequence);
    stream.sequences.splice(at, 0, sequence);
    stream.cursors.splice(at, 0, cursor);
    for (let next = firstAbove(stream.sequences, stream.contiguous); ; next++) {
      if (stream.sequences[next] !== stream.contiguous + 1) break;
      stream.contiguous++;
    }
  }

  /** All up to `sequence` were known once; what is not here any more is not to be asked for again. */
  assume(origin: NodeId, bootNumber: number, sequence: number): void {
    const stream = this.#stream(origin, bootNumber);
    stream.contiguous = Math.max(stream.contiguous, sequence);
  }

  /** What lies up to this cursor cannot be given to anybody any more. It stays known. */
  forget(cursor: Cursor): void {
    for (const stream of this.#streams.values()) {
      const kept = stream.cursors.flatMap((at, index) => (at > cursor ? [index] : []));
      if (kept.length === stream.cursors.length) continue;
      stream.sequences = kept.map((index) => stream.sequences[index] ?? 0);
      stream.cursors = kept.map((index) => stream.cursors[index] ?? 0);
    }
  }

  #stream(origin: NodeId, bootNumber: number): EventStream {
    const key = `${origin}/${bootNumber}`;
    const stream = this.#streams.get(key) ?? { origin, bootNumber, sequences: [], cursors: [], contiguous: 0 };
    this.#streams.set(key, stream);
    return stream;
  }

  has(origin: NodeId, bootNumber: number, sequence: number): boolean {
    const stream = this.#streams.get(`${origin}/${bootNumber}`);
    if (stream === undefined) return false;
    if (sequence >= 1 && sequence <= stream.contiguous) return true;
    return stream.sequences[firstAbove(stream.sequences, sequence) - 1] === sequence;
  }

  /** Of each node the newest boots, as many as a request has room for. */
  vector(): CatchupRequest['have'] {
    const have: CatchupRequest['have'] = [];
    const named = new Map<NodeId, number>();
    for (const stream of [...this.#streams.values()].toSorted((a, b) => b.bootNumber - a.bootNumber)) {
      const boots = named.get(stream.origin) ?? 0;
      if (boots >= BOOTS_MAX) continue;
      named.set(stream.origin, boots + 1);
      have.push({ origin: stream.origin, bootNumber: stream.bootNumber, sequence: stream.contiguous });
    }
    return have;
  }

  /**
   * Cursors of what the asker lacks, oldest first, but each stream in the order of its sequences: so every page moves the
   * asker's contiguous mark on, even where this node learnt the events out of order.
   */
  missing(have: CatchupRequest['have'], limit: number): { cursors: Cursor[]; more: boolean } {
    const marks = new Map(have.map(({ origin, bootNumber, sequence }) => [`${origin}/${bootNumber}`, sequence]));
    const oldest = oldestBoots(have);
    const heads: { stream: EventStream; at: number; cursor: Cursor }[] = [];
    for (const [key, stream] of this.#streams) {
      if (stream.bootNumber < (oldest.get(stream.origin) ?? 0)) continue;
      const at = firstAbove(stream.sequences, marks.get(key) ?? 0);
      const cursor = stream.cursors[at];
      if (cursor !== undefined) heads.push({ stream, at, cursor });
    }
    const cursors: Cursor[] = [];
    while (heads.length > 0 && cursors.length < limit) {
      const head = heads.reduce((least, other) => (other.cursor < least.cursor ? other : least));
      cursors.push(head.cursor);
      const next = head.stream.cursors[++head.at];
      if (next === undefined) heads.splice(heads.indexOf(head), 1);
      else head.cursor = next;
    }
    return { cursors, more: heads.length > 0 };
  }
}

/** Where a vector names as many boots of a node as it can, it left out older ones: they must not be sent again and again. */
function oldestBoots(have: CatchupRequest['have']): Map<NodeId, number> {
  const boots = Map.groupBy(have, ({ origin }) => origin);
  const full = [...boots].filter(([, named]) => named.length >= BOOTS_MAX);
  return new Map(full.map(([origin, named]) => [origin, Math.min(...named.map(({ bootNumber }) => bootNumber))]));
}

/** Position of the first number above `value` in an ascending list. */
function firstAbove(ascending: readonly number[], value: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ascending[middle] ?? 0) > value) high = middle;
    else low = middle + 1;
  }
  return low;
}
