/**
 * What one peer may cost this node's loop, below everything that libp2p does with its bytes: decrypting, streams, gossip. Beyond it
 * nothing is read from the peer for a moment, so that TCP itself holds it back; nothing is lost, and a peer that keeps the measure
 * never notices. The allowance outlives connections.
 */
import type { MessageStream, MessageStreamEvents, TypedEventTarget } from '@libp2p/interface';
import { TokenBucket } from './token_bucket.ts';

type Raw = Pick<MessageStream, 'status' | 'pause' | 'resume'> & TypedEventTarget<MessageStreamEvents>;

/** A peer that broke a rate is not read from for so long. */
export const restMs = 100;

export class Throttle {
  readonly #bytes: TokenBucket;
  readonly #raws = new Map<Raw, NodeJS.Timeout | null>();

  constructor(bytesPerSecond: number, now: () => number) {
    this.#bytes = new TokenBucket(bytesPerSecond, now);
  }

  /** @param raw connection of the peer, before encryption */
  watch(raw: Raw): void {
    this.#raws.set(raw, null);
    raw.addEventListener('message', ({ data }) => {
      const waitMs = this.#bytes.spend(data.byteLength);
      if (waitMs > 0) this.#rest(raw, waitMs);
    });
    raw.addEventListener('close', () => {
      clearTimeout(this.#raws.get(raw) ?? undefined);
      this.#raws.delete(raw);
    });
  }

  rest(): void {
    for (const raw of this.#raws.keys()) this.#rest(raw, restMs);
  }

  #rest(raw: Raw, waitMs: number): void {
    if (this.#raws.get(raw) !== null || raw.status !== 'open') return;
    raw.pause();
    const resume = () => {
      this.#raws.set(raw, null);
      if (raw.status === 'open') raw.resume();
    };
    this.#raws.set(raw, setTimeout(resume, waitMs));
  }
}
