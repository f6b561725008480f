/** Opens what others have sealed, by the keys that count now. */
import type { PublicKey } from '@libp2p/interface';
import type { NodeId } from '../arrays/record.ts';
import type { PeerEntry } from '../net/index.ts';
import type { EndedKey } from '../roster/index.ts';
import { open, openEnded, publicKeyOfPeerId } from '../wire/index.ts';
import type { Event } from '../wire/messages.ts';

/** They come by frame and by gossip: this many are remembered as verified. */
const VERIFIED_KEPT = 64;

export class Envelopes {
  readonly #cluster: string;
  #keys: ReadonlyMap<NodeId, readonly PublicKey[]> = new Map();
  #ended: readonly EndedKey[] = [];
  /** The very same bytes again are the same event. */
  readonly #verified = new Map<string, Event>();
  readonly #publicKeys = new Map<string, PublicKey>();

  /** @param cluster its UUID: events of another are refused */
  constructor(cluster: string) {
    this.#cluster = cluster;
  }

  /** Until it is called nobody's events are taken. Returns the keys that count of each node. */
  goBy(peers: readonly PeerEntry[], ended: readonly EndedKey[]): ReadonlyMap<NodeId, readonly PublicKey[]> {
    this.#verified.clear();
    this.#ended = ended;
    this.#keys = new Map(
      peers.map(({ id, peerId, otherPeerIds = [] }) => [id, [peerId, ...otherPeerIds].map((each) => this.#key(each))]),
    );
    return this.#keys;
  }

  /** @throws WireRefusal */
  async open(bytes: Uint8Array): Promise<Event> {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
    const known = this.#verified.get(text);
    if (known !== undefined) return known;
    const event = await open(bytes, (node) => this.#keys.get(node) ?? [], this.#cluster);
    for (const oldest of this.#verified.keys()) {
      if (this.#verified.size < VERIFIED_KEPT) break;
      this.#verified.delete(oldest);
    }
    this.#verified.set(text, event);
    return event;
  }

  /**
   * History, as catch-up brings it, also has what was signed with keys that count no more: up to where they ended it is taken into the
   * journal. It can do nothing there; all that comes by other ways, or was signed later, is a stranger's. @throws WireRefusal
   */
  async openHistory(bytes: Uint8Array): Promise<Event> {
    try {
      return await this.open(bytes);
    } catch (error) {
      const event = openEnded(bytes, this.#ended, this.#cluster);
      if (event === null) throw error;
      return event;
    }
  }

  #key(peerId: string): PublicKey {
    const key = this.#publicKeys.get(peerId) ?? publicKeyOfPeerId(peerId);
    this.#publicKeys.set(peerId, key);
    return key;
  }
}
