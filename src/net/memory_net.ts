/**
 * The net without sockets, for whole clusters in one process: the same Switchboard over connections of a hub that cuts,
 * delays and loses as it is told. Time and timers are the caller's, so a run depends on its seed alone; no promise is
 * involved, except in catch-up, which is one by contract.
 *
 * A cut is a partition as TCP sees it: nobody is told, what was written waits, and passes when the cut is healed unless
 * an end has given up meanwhile. A lost frame is a late one (TCP repeats it); a lost piece of gossip is lost.
 */
import { hash } from 'node:crypto';
import type { NodeId } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import { envelopeBytesMax } from '../wire/envelope.ts';
import type { Identity } from '../wire/identity.ts';
import type { CatchupPage, CatchupRequest, Frame } from '../wire/messages.ts';
import { decodePage, decodeRequest, encodePage, encodeRequest, inboundStreamsMax } from './catchup.ts';
import type { Net, NetCounters, NetEvent } from './index.ts';
import { type NetOptions, type PeerEntry, peerIdsOf, type Schedule } from './options.ts';
import type { PeerVersion } from './protocol.ts';
import { Switchboard, type Wire } from './switchboard.ts';

export interface MemoryHubOptions {
  now(): number;
  /** Equal delays must run in the order in which they were asked for. */
  schedule: Schedule;
  /** In [0, 1); default: 0.5 always. */
  random?(): number;
  /** One way, unless `delay` says otherwise for a pair. Default 0. */
  delayMs?: number;
}

export interface MemoryHub {
  cut(a: NodeId, b: NodeId): void;
  /** One way: what `to` sends still arrives, and no new connection comes to stand. */
  cutOneWay(from: NodeId, to: NodeId): void;
  /** Both ways. */
  heal(a: NodeId, b: NodeId): void;
  /** @param jitterMs at most so much is added by chance; gossip overtakes, a connection keeps its order. @default 0 */
  delay(a: NodeId, b: NodeId, delayMs: number, jitterMs?: number): void;
  /** Fraction in [0, 1]. */
  lose(a: NodeId, b: NodeId, fraction: number): void;
  /** Pieces of gossip that arrive twice, the second time up to a second later. Fraction in [0, 1]. */
  repeat(a: NodeId, b: NodeId, fraction: number): void;
  /** The node does not run: what arrives waits, in order, until it does again. */
  freeze(node: NodeId): void;
  thaw(node: NodeId): void;
  /** Connections that stand between two nodes, at both ends. */
  standing(a: NodeId, b: NodeId): number;
  /** For tests: a connection of someone who keeps none of the rules. Null: it was refused. */
  dialRaw(from: RawPeer, to: { address: string; port: number }): RawConnection | null;
}

export interface RawPeer {
  node: NodeId;
  peerId: string;
  received(bytes: Uint8Array): void;
  closed(): void;
}

export interface RawConnection {
  send(bytes: Uint8Array): void;
  close(): void;
}

export type MemoryNetOptions = Omit<NetOptions, 'identity' | 'now'> & {
  /** Of this node's own timers. @default the hub's */
  schedule?: Schedule;
};

/** What a repeat of TCP's costs. */
const repeatMs = 200;
/** A second telling of the same gossip comes at most so much later. */
const repeatedWithinMs = 1000;
/** Gossip remembered, so that it goes round once. */
const gossipSeenMax = 4096;

export function memoryHub(options: MemoryHubOptions): MemoryHub {
  return new Hub(options);
}

/** @param hub one that `memoryHub` made */
export function memoryNet(hub: MemoryHub, options: MemoryNetOptions): Net {
  if (!(hub instanceof Hub)) throw new Error('memoryNet needs a hub of memoryHub');
  return new MemoryNet(hub, options);
}

type Packet =
  | { kind: 'open' }
  | { kind: 'frame' | 'gossip'; bytes: Uint8Array }
  | { kind: 'catchup-request' | 'catchup-page'; id: number; bytes: Uint8Array }
  | { kind: 'catchup-refused'; id: number; reason: string }
  | { kind: 'close' };

interface Endpoint {
  readonly node: NodeId;
  readonly peerId: string;
  admits(peerId: string): boolean;
  opened(end: End): void;
}

class Hub implements MemoryHub {
  readonly now: () => number;
  readonly schedule: Schedule;
  readonly random: () => number;
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #cuts = new Set<string>();
  readonly #delays = new Map<string, { delayMs: number; jitterMs: number }>();
  readonly #losses = new Map<string, number>();
  readonly #repeats = new Map<string, number>();
  readonly #frozen = new Set<NodeId>();
  /** Of each connection the dialler's end, while it is open. */
  readonly #ends = new Set<End>();
  readonly #waiting = new Map<string, Set<End>>();
  readonly #delayMs: number;

  constructor(options: MemoryHubOptions) {
    this.now = options.now;
    this.schedule = options.schedule;
    this.random = options.random ?? (() => 0.5);
    this.#delayMs = options.delayMs ?? 0;
  }

  cut(a: NodeId, b: NodeId): void {
    this.cutOneWay(a, b);
    this.cutOneWay(b, a);
  }

  cutOneWay(from: NodeId, to: NodeId): void {
    this.#cuts.add(way(from, to));
  }

  heal(a: NodeId, b: NodeId): void {
    this.#cuts.delete(way(a, b));
    this.#cuts.delete(way(b, a));
    this.#resume(pair(a, b));
  }

  freeze(node: NodeId): void {
    this.#frozen.add(node);
  }

  thaw(node: NodeId): void {
    this.#frozen.delete(node);
    for (const key of [...this.#waiting.keys()]) if (key.split('-').includes(String(node))) this.#resume(key);
  }

  #resume(key: string): void {
    const waiting = this.#waiting.get(key) ?? new Set();
    this.#waiting.delete(key);
    for (const end of waiting) end.pump();
  }

  delay(a: NodeId, b: NodeId, delayMs: number, jitterMs = 0): void {
    this.#delays.set(pair(a, b), { delayMs, jitterMs });
  }

  lose(a: NodeId, b: NodeId, fraction: number): void {
    this.#losses.set(pair(a, b), fraction);
  }

  repeat(a: NodeId, b: NodeId, fraction: number): void {
    this.#repeats.set(pair(a, b), fraction);
  }

  /** What `from` sends does not get to `to` now. */
  isStopped(from: NodeId, to: NodeId): boolean {
    return this.#cuts.has(way(from, to)) || this.#frozen.has(to);
  }

  /** No connection comes to stand. */
  isCut(a: NodeId, b: NodeId): boolean {
    return this.isStopped(a, b) || this.isStopped(b, a);
  }

  loses(a: NodeId, b: NodeId): boolean {
    return this.#happens(this.#losses, a, b);
  }

  repeats(a: NodeId, b: NodeId): boolean {
    return this.#happens(this.#repeats, a, b);
  }

  #happens(fractions: ReadonlyMap<string, number>, a: NodeId, b: NodeId): boolean {
    const fraction = fractions.get(pair(a, b)) ?? 0;
    return fraction > 0 && this.random() < fraction;
  }

  delayOf(a: NodeId, b: NodeId): number {
    const { delayMs, jitterMs } = this.#delays.get(pair(a, b)) ?? { delayMs: this.#delayMs, jitterMs: 0 };
    return jitterMs === 0 ? delayMs : delayMs + jitterMs * this.random();
  }

  waitsForHeal(end: End): void {
    const key = pair(end.local.node, end.remote.node);
    const waiting = this.#waiting.get(key) ?? new Set();
    this.#waiting.set(key, waiting.add(end));
  }

  listen(entry: PeerEntry, endpoint: Endpoint): void {
    const key = place(entry);
    if (this.#endpoints.has(key)) {
      throw new Error(
        `cannot listen on ${entry.address} port ${entry.port} for node ${entry.id}: in use; does another agent run here?`,
      );
    }
    this.#endpoints.set(key, endpoint);
  }

  unlisten(entry: PeerEntry, endpoint: Endpoint): void {
    if (this.#endpoints.get(place(entry)) === endpoint) this.#endpoints.delete(place(entry));
  }

  /** @param done null: connected; else the peer ID that answered and is not the wanted one, or why nobody did */
  dial(
    from: Endpoint,
    to: PeerEntry,
    signal: AbortSignal,
    timeoutMs: number,
    done: (other: string | null) => void,
  ): void {
    let over = false;
    const end = (other: string | null) => {
      if (over) return;
      over = true;
      cancelTimeout();
      signal.removeEventListener('abort', onAbort);
      done(other);
    };
    const onAbort = () => end('called off');
    const cancelTimeout = this.schedule(timeoutMs, () => end('no answer'));
    signal.addEventListener('abort', onAbort);
    this.schedule(2 * this.delayOf(from.node, to.id), () => {
      // A partition swallows the dial: only the timeout ends it.
      if (over || this.isCut(from.node, to.id)) return;
      const target = this.#endpoints.get(place(to));
      if (target === undefined) return end('nobody listens');
      if (!peerIdsOf(to).includes(target.peerId)) return end(target.peerId);
      if (!target.admits(from.peerId)) return end('refused');
      this.#join(from, target);
      end(null);
    });
  }

  dialRaw(from: RawPeer, to: { address: string; port: number }): RawConnection | null {
    const target = this.#endpoints.get(place(to));
    if (target === undefined || !target.admits(from.peerId)) return null;
    let own: End | null = null;
    this.#join(
      {
        node: from.node,
        peerId: from.peerId,
        admits: () => true,
        opened: (end) => {
          own = end;
          end.onPacket = (packet) => {
            if (packet.kind === 'frame') from.received(packet.bytes);
          };
          end.onClosed = () => from.closed();
        },
      },
      target,
    );
    const connection: End | null = own;
    if (connection === null) return null;
    const end: End = connection;
    return { send: (bytes) => void end.send(bytes), close: () => end.abort('closed') };
  }

  #join(from: Endpoint, to: Endpoint): void {
    const near = new End(this, from, to, from.node);
    const far = new End(this, to, from, from.node);
    near.far = far;
    far.far = near;
    this.#ends.add(near);
    from.opened(near);
  }

  /** The dialler's side stands first; the other learns of it a trip later: so two dials at once do meet. */
  arrived(far: End): void {
    if ([...this.#endpoints.values()].includes(far.local)) far.local.opened(far);
    else far.abort('nobody listens any more');
  }

  standing(a: NodeId, b: NodeId): number {
    const between = [...this.#ends].filter((end) => pair(end.local.node, end.remote.node) === pair(a, b));
    return between.filter((end) => end.isOpen() && end.far?.isOpen() === true).length;
  }

  forget(end: End): void {
    this.#ends.delete(end);
  }
}

/** One end of a connection. */
class End implements Wire {
  readonly opener: NodeId;
  /** For the far end, a trip before it knows of the connection: clocks are not that exact either. */
  readonly openedAtMs: number;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  far: End | null = null;
  onPacket: (packet: Packet) => void = () => undefined;
  onClosed: () => void = () => undefined;
  readonly #hub: Hub;
  /** On their way to the other end, in order. */
  readonly #queue: Packet[] = [];
  /** Deliveries that fell due during a cut. */
  #held = 0;
  /** What is sent later on a stream arrives no sooner. */
  #arrivesMs = 0;
  #closed = false;

  constructor(hub: Hub, local: Endpoint, remote: Endpoint, opener: NodeId) {
    this.#hub = hub;
    this.local = local;
    this.remote = remote;
    this.opener = opener;
    this.openedAtMs = hub.now();
    if (opener === local.node) this.#enqueue({ kind: 'open' });
  }

  isOpen(): boolean {
    return !this.#closed;
  }

  send(bytes: Uint8Array): boolean {
    return this.post({ kind: 'frame', bytes });
  }

  post(packet: Packet): boolean {
    if (this.#closed) return false;
    this.#enqueue(packet);
    return true;
  }

  abort(_reason: string): void {
    if (this.#closed) return;
    this.#enqueue({ kind: 'close' });
    this.#close();
  }

  pump(): void {
    for (; this.#held > 0; this.#held -= 1) this.#hub.schedule(0, () => this.#deliver());
  }

  #enqueue(packet: Packet): void {
    const hub = this.#hub;
    const [from, to] = [this.local.node, this.remote.node];
    const lost = hub.loses(from, to);
    if (packet.kind === 'gossip') {
      // Each piece finds its own way.
      if (!lost) hub.schedule(hub.delayOf(from, to), () => this.#deliverGossip(packet));
      if (hub.repeats(from, to)) hub.schedule(hub.random() * repeatedWithinMs, () => this.#deliverGossip(packet));
      return;
    }
    this.#queue.push(packet);
    const now = hub.now();
    this.#arrivesMs = Math.max(this.#arrivesMs, now + hub.delayOf(from, to) + (lost ? repeatMs : 0));
    hub.schedule(this.#arrivesMs - now, () => this.#deliver());
  }

  #deliverGossip(packet: Packet): void {
    if (this.#hub.isStopped(this.local.node, this.remote.node)) this.#queue.push(packet);
    else this.#queue.unshift(packet);
    this.#deliver();
  }

  #deliver(): void {
    if (this.#hub.isStopped(this.local.node, this.remote.node)) {
      this.#held += 1;
      this.#hub.waitsForHeal(this);
      return;
    }
    const packet = this.#queue.shift();
    if (packet !== undefined) this.far?.arrive(packet);
  }

  arrive(packet: Packet): void {
    if (this.#closed) return;
    if (packet.kind === 'open') this.#hub.arrived(this);
    else if (packet.kind === 'close') this.#close();
    else this.onPacket(packet);
  }

  #close(): void {
    this.#closed = true;
    this.#hub.forget(this);
    this.onClosed();
  }
}

class MemoryNet implements Net, Endpoint {
  readonly node: NodeId;
  peerId: string;
  readonly #hub: Hub;
  #nodes: readonly PeerEntry[];
  readonly #own: PeerEntry;
  readonly #schedule: Schedule;
  readonly #switchboard: Switchboard;
  readonly #seen = new Set<string>();
  readonly #asked = new Map<number, { resolve(page: CatchupPage): void; reject(error: Error): void }>();
  readonly #answering = new Map<NodeId, number>();
  #nextId = 1;
  #answer: ((from: NodeId, request: CatchupRequest) => Promise<CatchupPage>) | null = null;

  constructor(hub: Hub, options: MemoryNetOptions) {
    const own = options.nodes.find((entry) => entry.id === options.self);
    if (own === undefined) throw new Error(`node ${options.self} is not in its own node list; add it`);
    this.#hub = hub;
    this.#nodes = options.nodes;
    this.#schedule = options.schedule ?? hub.schedule;
    this.#own = own;
    this.node = own.id;
    this.peerId = own.peerId;
    this.#switchboard = new Switchboard({
      net: { ...options, now: hub.now },
      schedule: this.#schedule,
      random: hub.random,
      dial: (node, signal, done) => {
        const entry = this.#nodes.find(({ id }) => id === node);
        if (entry !== undefined) hub.dial(this, entry, signal, this.#switchboard.tuning.dialTimeoutMs, done);
      },
    });
  }

  async start(): Promise<void> {
    this.#hub.listen(this.#own, this);
    this.#switchboard.start();
  }

  async stop(): Promise<void> {
    this.#hub.unlisten(this.#own, this);
    this.#switchboard.stop();
  }

  on(listener: (event: NetEvent) => void): void {
    this.#switchboard.on(listener);
  }

  send(to: NodeId, frame: Frame): boolean {
    return this.#switchboard.send(to, frame);
  }

  publish(sealed: Uint8Array): void {
    if (sealed.byteLength > envelopeBytesMax || !this.#firstSight(sealed)) return;
    this.#switchboard.counts.gossipOut += 1;
    this.#spread(sealed, null);
  }

  catchup(from: NodeId, request: CatchupRequest): Promise<CatchupPage> {
    return new Promise((resolve, reject) => {
      const wire = this.#switchboard.wireOf(from);
      const id = this.#nextId++;
      const fail = (why: string) => reject(new Error(`catch-up from node ${from}: ${why}`));
      if (!(wire instanceof End)) return fail('not connected');
      const cancelTimeout = this.#schedule(this.#switchboard.tuning.catchupTimeoutMs, () => {
        this.#asked.delete(id);
        fail('took too long');
      });
      this.#asked.set(id, {
        resolve: (page) => {
          cancelTimeout();
          resolve(page);
        },
        reject: (error) => {
          cancelTimeout();
          fail(error.message);
        },
      });
      wire.post({ kind: 'catchup-request', id, bytes: encodeRequest(request) });
    });
  }

  serveCatchup(handler: (from: NodeId, request: CatchupRequest) => Promise<CatchupPage>): void {
    this.#answer = handler;
  }

  connected(): NodeId[] {
    return this.#switchboard.connected();
  }

  versions(): ReadonlyMap<NodeId, PeerVersion> {
    return this.#switchboard.versions();
  }

  reset(node: NodeId): void {
    this.#switchboard.reset(node);
  }

  counters(): NetCounters {
    return { ...this.#switchboard.counts };
  }

  setPeers(nodes: readonly PeerEntry[]): void {
    const keys = new Set(nodes.flatMap(peerIdsOf));
    this.#nodes = nodes;
    for (const node of this.#switchboard.connected()) {
      const wire = this.#switchboard.wireOf(node);
      if (wire instanceof End && !keys.has(wire.remote.peerId)) this.#switchboard.reset(node);
    }
    this.#switchboard.setPeers(nodes);
  }

  async changeIdentity(identity: Identity): Promise<void> {
    await this.stop();
    this.peerId = identity.peerId;
    await this.start();
  }

  // --- Endpoint -------------------------------------------------------------------------------------------------------

  admits(peerId: string): boolean {
    if (this.#nodeOf(peerId) !== null) return true;
    this.#switchboard.refusedStranger(peerId, `peer ${peerId} is not in the node list`);
    return false;
  }

  opened(end: End): void {
    const node = this.#nodeOf(end.remote.peerId);
    if (node === null) {
      end.abort('not in the node list');
      return;
    }
    end.onPacket = (packet) => this.#arrived(node, end, packet);
    end.onClosed = () => this.#switchboard.closed(node, end);
    if (this.#switchboard.opened(node, end)) this.#switchboard.writable(node, end);
  }

  #nodeOf(peerId: string): NodeId | null {
    const entry = this.#nodes.find((one) => peerIdsOf(one).includes(peerId));
    return entry === undefined || entry.id === this.node ? null : entry.id;
  }

  #arrived(node: NodeId, end: End, packet: Packet): void {
    switch (packet.kind) {
      case 'frame':
        this.#switchboard.received(node, end, packet.bytes);
        return;
      case 'gossip':
        if (this.#firstSight(packet.bytes) && this.#switchboard.admitsGossip(node)) {
          this.#switchboard.gossiped(node, packet.bytes);
          this.#spread(packet.bytes, node);
        }
        return;
      case 'catchup-request':
        void this.#serve(node, end, packet.id, packet.bytes);
        return;
      case 'catchup-page':
        this.#settle(packet.id, (asked) => asked.resolve(decodePage(packet.bytes)));
        return;
      case 'catchup-refused':
        this.#settle(packet.id, (asked) => asked.reject(new Error(packet.reason)));
        return;
      default:
        return;
    }
  }

  #settle(id: number, how: (asked: { resolve(page: CatchupPage): void; reject(error: Error): void }) => void): void {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (asked === undefined) return;
    try {
      how(asked);
    } catch (error) {
      asked.reject(error instanceof Error ? error : new Error(String(error)));
    }
  }

  async #serve(node: NodeId, end: End, id: number, bytes: Uint8Array): Promise<void> {
    const running = this.#answering.get(node) ?? 0;
    if (running >= inboundStreamsMax) {
      end.post({ kind: 'catchup-refused', id, reason: 'too many requests at a time' });
      return;
    }
    this.#answering.set(node, running + 1);
    try {
      if (this.#answer === null) throw new Error('this node answers no catch-up yet');
      const page = await this.#answer(node, decodeRequest(bytes));
      end.post({ kind: 'catchup-page', id, bytes: encodePage(page) });
    } catch (error) {
      const reason = textOf(error);
      this.#switchboard.refused(node, `catch-up: ${reason}`);
      end.post({ kind: 'catchup-refused', id, reason: 'refused by the peer' });
    } finally {
      this.#answering.set(node, (this.#answering.get(node) ?? 1) - 1);
    }
  }

  #spread(sealed: Uint8Array, except: NodeId | null): void {
    for (const node of this.#switchboard.connected()) {
      const wire = node === except ? null : this.#switchboard.wireOf(node);
      if (wire instanceof End) wire.post({ kind: 'gossip', bytes: sealed });
    }
  }

  #firstSight(sealed: Uint8Array): boolean {
    const name = hash('sha256', sealed, 'base64');
    if (this.#seen.has(name)) return false;
    this.#seen.add(name);
    if (this.#seen.size > gossipSeenMax) {
      const [oldest] = this.#seen;
      if (oldest !== undefined) this.#seen.delete(oldest);
    }
    return true;
  }
}

function pair(a: NodeId, b: NodeId): string {
  return `${Math.min(a, b)}-${Math.max(a, b)}`;
}

function way(from: NodeId, to: NodeId): string {
  return `${from}>${to}`;
}

function place(entry: { address: string; port: number }): string {
  return `${entry.address} ${entry.port}`;
}
