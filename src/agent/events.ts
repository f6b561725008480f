/**
 * The sealed events, of which each node keeps all in its journal: own ones are sealed in order and spread, others' are verified, taken
 * once, and asked for where some are missing.
 *
 * In come bodies to seal, and bytes from frames, gossip and catch-up. Out go events that are news, before they are journaled; what was
 * refused is counted and told of.
 */
import type { PublicKey } from '@libp2p/interface';
import type { NodeId } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import type { PeerEntry } from '../net/index.ts';
import { TokenBuckets } from '../net/token_bucket.ts';
import type { EndedKey } from '../roster/index.ts';
import {
  type AcceptanceState,
  accept,
  cursorsOf,
  initialAcceptance,
  isAccepted,
  newestOf,
  seal,
  WireRefusal,
} from '../wire/index.ts';
import type { Event, EventBody, Frame } from '../wire/messages.ts';
import { type AgentState, masterOf, termOf } from './agent_state.ts';
import { Envelopes } from './envelopes.ts';
import type { AgentParts } from './parts.ts';
import { RefusalCount } from './refusal_count.ts';

const GOSSIP_AFTER_FRAMES_MS = 300;
/** In larger clusters events go by gossip alone: its neighbours pass them on. */
const TELL_ALL_NODES_MAX = 16;
/** In a cluster in which nothing is said, every so many turns: what gossip lost is found by then at the latest. */
const CATCHUP_RARELY_TURNS = 4;
/** What a node that is not the master may add to the others' journals: far more than one that is well ever says. */
const TOLD_BYTES_PER_SECOND = 32 * 1024;
const TOLD_BYTES_BURST = 1024 * 1024;
/** Of what a node that was away asks for, after a first great deal: a journal is as long as whoever answers says it is. */
const CATCHUP_BYTES_PER_SECOND = 256 * 1024;
const CATCHUP_BYTES_BURST = 64 * 1024 * 1024;

export interface SealedEvent {
  event: Event;
  sealed: string;
}

export type Via = 'gossip' | 'catchup' | 'frame';

/** What an event does to the agent. */
export interface EventsOptions {
  /** Told once or again: a commit sent again by the master acts again if it was only journaled before; records make that harmless. */
  commit(event: Event, via: Via): Promise<void>;
  /** Once, and not what catch-up brings. */
  observation(event: Event): void;
}

export class Events {
  readonly #parts: AgentParts;
  readonly #state: Readonly<AgentState>;
  readonly #options: EventsOptions;
  readonly #envelopes: Envelopes;
  readonly #refusals = new RefusalCount();
  readonly #toldBy: TokenBuckets<NodeId>;
  readonly #broughtBy: TokenBuckets<NodeId>;
  #acceptance: AcceptanceState;
  #sequence = 0;
  #sealing: Promise<unknown> = Promise.resolve();
  #inbox: Promise<unknown> = Promise.resolve();
  readonly #catchingUp = new Set<NodeId>();
  #turn = 0;
  /** How many turns have asked somebody. */
  #asked = 0;
  /** The journal's head at the newest of these. */
  #caughtUp = -1;
  #duplicates = 0;
  #catchups = 0;

  constructor(parts: AgentParts, state: Readonly<AgentState>, options: EventsOptions) {
    this.#parts = parts;
    this.#state = state;
    this.#options = options;
    this.#acceptance = initialAcceptance(parts.journal.vector());
    this.#envelopes = new Envelopes(parts.config.cluster.uuid, parts.opened);
    const now = (): number => parts.driver.now();
    this.#toldBy = new TokenBuckets(TOLD_BYTES_PER_SECOND, now, TOLD_BYTES_BURST);
    this.#broughtBy = new TokenBuckets(CATCHUP_BYTES_PER_SECOND, now, CATCHUP_BYTES_BURST);
  }

  get counters(): { refused: number; duplicates: number; catchups: number } {
    return { refused: this.#refusals.total, duplicates: this.#duplicates, catchups: this.#catchups };
  }

  /** Until it is called nobody's events are taken. Returns the keys that count of each node. */
  goBy(peers: readonly PeerEntry[], ended: readonly EndedKey[]): ReadonlyMap<NodeId, readonly PublicKey[]> {
    return this.#envelopes.goBy(peers, ended);
  }

  /** Where each node's events end, as far as they have come here. */
  newest(): ReturnType<typeof newestOf> {
    return newestOf(this.#acceptance);
  }

  /** Resolves when all that was to be sealed or taken by now is. */
  async ended(): Promise<void> {
    await this.#sealing;
    await this.#inbox;
  }

  // --- own events -----------------------------------------------------------------------------------------------------

  /**
   * Seals one event after the other, so that sequence numbers leave in order, and journals it.
   * @param act what others wait for: done before the journaling, which is for the record
   */
  seal(body: EventBody, act?: (sealed: SealedEvent) => void): Promise<SealedEvent> {
    const sealing = this.#sealing.then(async () => {
      const { config, identity, boot, timers, journal } = this.#parts;
      this.#sequence += 1;
      const event: Event = {
        cluster: config.cluster.uuid,
        origin: config.self,
        boot: boot.boot,
        bootNumber: boot.bootNumber,
        sequence: this.#sequence,
        time: timers.wall().toISOString(),
        term: termOf(this.#state),
        body,
      };
      const bytes = await seal(identity, event);
      const sealed = Buffer.from(bytes).toString('base64');
      this.#acceptance = accept(this.#acceptance, event).state;
      try {
        act?.({ event, sealed });
      } finally {
        journal.append(event, sealed);
      }
      return { event, sealed };
    });
    this.#sealing = sealing.catch(() => undefined);
    return sealing;
  }

  /** Seals an event and lets every node have it, for their journals. */
  tell(body: EventBody): void {
    this.seal(body).then(
      ({ sealed }) => this.spread(sealed),
      (error: unknown) => {
        const what = body.type === 'notice' ? body.name : body.type;
        this.#parts.log.error({ err: error }, `event ${what} could not be sealed`);
      },
    );
  }

  /** To every journal: at once to the nodes at hand, by gossip to whoever else. @param told has it already */
  spread(sealed: string, told: NodeId | null = null): void {
    if (this.#state.peers.length > TELL_ALL_NODES_MAX) {
      this.publish(sealed);
      return;
    }
    this.toAll({ room: 'arrays', message: { kind: 'event', event: sealed } }, told);
    this.publishLater(sealed);
  }

  /** By gossip. */
  publish(sealed: string): void {
    this.#parts.net.publish(Buffer.from(sealed, 'base64'));
  }

  /**
   * Gossip of what those who act on it have had by frame already: it waits, because writes are held until all have acted, and
   * each node's gossip would be in the way of that.
   */
  publishLater(sealed: string): void {
    this.#parts.timers.after(GOSSIP_AFTER_FRAMES_MS, () => {
      if (!this.#state.stopped) this.publish(sealed);
    });
  }

  /** A frame to every other node. */
  toAll(frame: Frame, but: NodeId | null = null): void {
    const { config, net } = this.#parts;
    for (const { id } of this.#state.peers) if (id !== config.self && id !== but) net.send(id, frame);
  }

  // --- others' --------------------------------------------------------------------------------------------------------

  /** What came is handled one at a time, in the order of arrival: a release must not overtake the commit that it is about. */
  inOrder(handle: () => Promise<void>): void {
    this.#inbox = this.#inbox.then(async () => {
      if (this.#state.stopped) return;
      try {
        await handle();
      } catch (error) {
        const reason = error instanceof WireRefusal ? error.reason : 'error';
        this.refused(`${reason}: ${textOf(error)}`, null, null);
      }
    });
  }

  receive(bytes: Uint8Array, via: 'gossip' | 'catchup'): void {
    this.inOrder(() => this.take(bytes, via));
  }

  /** Opens what was sealed, and does nothing else with it. @throws WireRefusal */
  open(sealed: string): Promise<Event> {
    return this.#envelopes.open(Buffer.from(sealed, 'base64'));
  }

  /**
   * Verifies, refuses what was seen, lets commits act, and journals: last, because writes may wait for what it does.
   * @param act what a frame is about beyond its record; also when gossip brought the event first
   * @throws WireRefusal, and what `act` throws
   */
  async take(bytes: Uint8Array, via: Via, act?: (event: Event) => void): Promise<void> {
    const event = await (via === 'catchup' ? this.#envelopes.openHistory(bytes) : this.#envelopes.open(bytes));
    const { verdict, state } = accept(this.#acceptance, event, via === 'catchup' ? 'catchup' : 'gossip');
    // What is new alone counts: else a third node could use up another's measure by saying again what that one said.
    if (isAccepted(verdict) && via !== 'catchup' && !this.#mayTell(event, bytes.byteLength)) {
      this.refused('flood: more events than a node may tell', event.origin, null);
      return;
    }
    this.#acceptance = state;
    if (verdict === 'duplicate') {
      this.#duplicates += 1;
      // Said again by the master, to one that may not have acted on it; by anybody else it is history.
      if (event.body.type === 'commit' && via === 'frame') await this.#options.commit(event, via);
      act?.(event);
      return;
    }
    if (!isAccepted(verdict)) {
      this.refused(`${verdict}: event ${event.origin}/${event.bootNumber}/${event.sequence}`, event.origin, null);
      return;
    }
    try {
      if (event.body.type === 'commit') await this.#options.commit(event, via);
      act?.(event);
      if (event.body.type === 'observation' && via !== 'catchup') this.#options.observation(event);
    } finally {
      this.#parts.journal.append(event, Buffer.from(bytes).toString('base64'));
      if (verdict === 'gap' && via === 'gossip') this.catchUpWith(event.origin);
    }
  }

  /** Commits of many arrays are the master's to tell; whoever else has so much to say fills the others' disks. */
  #mayTell({ origin }: Event, sizeBytes: number): boolean {
    if (origin === this.#parts.config.self || origin === masterOf(this.#state)) return true;
    return this.#toldBy.of(origin).take(sizeBytes);
  }

  /** @param from null: nobody of the list @param peer its name at the network, where only that is known */
  refused(reason: string, from: NodeId | null, peer: string | null): void {
    if (!this.#refusals.count(from, this.#parts.driver.now())) return;
    const { total } = this.#refusals;
    this.#parts.log.warn({ from, peer, total }, `refused: ${reason}`);
    this.seal({
      type: 'notice',
      name: 'MessageRefused',
      severity: 'warning',
      subject: from === null ? 'network' : `node/${from}`,
      detail: { reason: reason.slice(0, 300), peer, total },
    }).catch(() => undefined);
  }

  /** Asks one connected node after the other, for what was lost on the way. */
  catchUpInTurn(): void {
    const { journal, net } = this.#parts;
    const peers = net.connected();
    this.#turn += 1;
    const head = journal.head();
    if (head === this.#caughtUp && this.#turn % CATCHUP_RARELY_TURNS !== 0) return;
    this.#caughtUp = head;
    this.#asked += 1;
    const peer = peers[this.#asked % Math.max(1, peers.length)];
    if (peer !== undefined) this.catchUpWith(peer);
  }

  /** Asks a node for all that is missing here. */
  catchUpWith(node: NodeId): void {
    const { journal, log, net, timers } = this.#parts;
    if (this.#catchingUp.has(node) || !net.connected().includes(node)) return;
    this.#catchingUp.add(node);
    const loop = async (): Promise<void> => {
      for (;;) {
        const before = journal.head();
        const page = await net.catchup(node, { have: cursorsOf(this.#acceptance) });
        this.#catchups += 1;
        for (const sealed of page.events) this.receive(Buffer.from(sealed, 'base64'), 'catchup');
        await this.#inbox;
        const waitMs = this.#broughtBy.of(node).spend(page.events.reduce((sum, { length }) => sum + length, 0));
        if (waitMs > 0) await new Promise<void>((resolve) => timers.after(waitMs, resolve));
        // A page that brings nothing new would come again for ever: a hole that no journal can fill any more.
        if (!page.more || this.#state.stopped || journal.head() === before) return;
      }
    };
    loop()
      .catch((error: unknown) => log.debug({ err: error, node }, `catch-up with node ${node} failed`))
      .finally(() => this.#catchingUp.delete(node));
  }
}
