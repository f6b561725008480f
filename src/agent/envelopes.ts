/** Opens what others have sealed, by the keys that count now. */
import type { PublicKey } from '@libp2p/interface';
import type { NodeId } from '../arrays/record.ts';
import { keep } from '../kept.ts';
import type { PeerEntry } from '../net/index.ts';
import type { EndedKey } from '../roster/index.ts';
import { open, openEnded, publicKeyOfPeerId } from '../wire/index.ts';
import type { Event } from '../wire/messages.ts';

/** They come by frame and by gossip: this many are remembered as verified. */
const VERIFIED_KEPT = 64;
/** Of many agents: what one of them has opened the others do within seconds, or catch up with much later. */
const OPENED_KEPT = 1024;

/** What agents of one process have opened: by the very bytes, with the keys that counted of the origin. */
export class OpenedEvents {
  readonly #opened = new Map<string, { event: Event; keys: readonly PublicKey[] }>();

  find(text: string, keysOf: (node: NodeId) => readonly PublicKey[]): Event | null {
    const known = this.#opened.get(text);
    if (known === undefined) return null;
    const keys = keysOf(known.event.origin);
    const same = keys.length === known.keys.length && keys.every((key, index) => known.keys[index]?.equals(key));
    return same ? known.event : null;
  }

  /** Nobody changes it from here on. */
  add(text: string, event: Event, keys: readonly PublicKey[]): void {
    keep(this.#opened, OPENED_KEPT, text, { event: frozen(event), keys });
  }
}

function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  for (const part of Object.values(value)) frozen(part);
  return Object.freeze(value);
}

export class Envelopes {
  readonly #cluster: string;
  readonly #opened: OpenedEvents | null;
  #keys: ReadonlyMap<NodeId, readonly PublicKey[]> = new Map();
  #ended: readonly EndedKey[] = [];
  /** The very same bytes again are the same event. */
  readonly #verified = new Map<string, Event>();
  readonly #publicKeys = new Map<string, PublicKey>();

  /** @param cluster its UUID: events of another are refused @param opened by other agents of that cluster in this process */
  constructor(cluster: string, opened: OpenedEvents | null = null) {
    this.#cluster = cluster;
    this.#opened = opened;
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
    const keysOf = (node: NodeId): readonly PublicKey[] => this.#keys.get(node) ?? [];
    const found = this.#opened?.find(text, keysOf) ?? null;
    const event = found ?? (await open(bytes, keysOf, this.#cluster));
    if (found === null) this.#opened?.add(text, event, keysOf(event.origin));
    keep(this.#verified, VERIFIED_KEPT, text, event);
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
