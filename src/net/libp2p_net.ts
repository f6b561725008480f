/**
 * The net over TCP: libp2p with Noise and yamux, its own judgement about peers switched off. Who may connect is the
 * node list's word, checked after Noise has proved the key and before the peer can say anything.
 */
import { type GossipSub, gossipsub } from '@chainsafe/libp2p-gossipsub';
import { identify } from '@libp2p/identify';
import type { Connection, MessageStream, Stream, StreamMuxerFactory } from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import * as lp from 'it-length-prefixed';
import { pipe } from 'it-pipe';
import { createLibp2p, type Libp2p } from 'libp2p';
import type { NodeId } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import { envelopeBytesMax } from '../wire/envelope.ts';
import type { Identity } from '../wire/identity.ts';
import type { CatchupPage, CatchupRequest, Frame } from '../wire/messages.ts';
import {
  decodePage,
  decodeRequest,
  encodePage,
  encodeRequest,
  inboundStreamsMax,
  pageBytesMax,
  requestBytesMax,
} from './catchup.ts';
import { tellOnlyWhoListens } from './fewer_events.ts';
import { noiseInOnePiece, openWindowRarely } from './fewer_packets.ts';
import { oversizedReason } from './frame_intake.ts';
import {
  gossipOptions,
  gossipStands,
  listenToGossip,
  settledAfterMs,
  watchAfterMs,
  watchIntervalMs,
  watchRarelyMs,
} from './gossip.ts';
import type { Net, NetCounters, NetEvent } from './index.ts';
import {
  catchupProtocol,
  frameBytesMax,
  framesProtocol,
  gossipTopic,
  type NetOptions,
  type PeerEntry,
  peerIdsOf,
  type Schedule,
} from './options.ts';
import type { PeerVersion } from './protocol.ts';
import { Switchboard, type Wire } from './switchboard.ts';
import { Throttle } from './throttle.ts';
import { TokenBucket } from './token_bucket.ts';

type Services = { gossip: GossipSub; identify: unknown };

/** Makes the node; nothing is listened on or dialled before `start`. @throws when this node is not in its own list */
export async function createNet(options: NetOptions): Promise<Net> {
  const net = new Libp2pNet(options);
  await net.prepare();
  return net;
}

class Libp2pNet implements Net {
  readonly #options: NetOptions;
  readonly #switchboard: Switchboard;
  readonly #topic: string;
  readonly #nodeOfPeer = new Map<string, NodeId>();
  readonly #entries = new Map<NodeId, PeerEntry>();
  readonly #wires = new Map<Connection, TcpWire>();
  /** Of a node with several keys, the one that answered last. */
  readonly #keyInUse = new Map<NodeId, string>();
  #identity: Identity;
  /** By peer ID. */
  readonly #throttles = new Map<string, Throttle>();
  readonly #peerOf = new WeakMap<MessageStream, string>();
  readonly #serving = new Map<NodeId, TokenBucket>();
  #libp2p: Libp2p<Services> | null = null;
  #watch: NodeJS.Timeout | null = null;
  #answer: ((from: NodeId, request: CatchupRequest) => Promise<CatchupPage>) | null = null;

  constructor(options: NetOptions) {
    this.#options = options;
    this.#topic = gossipTopic(options.cluster);
    this.#identity = options.identity;
    this.#enter(options.nodes);
    const own = this.#entries.get(options.self);
    if (own === undefined) throw new Error(`node ${options.self} is not in its own node list; add it`);
    if (!peerIdsOf(own).includes(options.identity.peerId)) {
      throw new Error(
        `node ${options.self}: the list pins ${peerIdsOf(own).join(' and ')}, the key file holds ${options.identity.peerId}; correct one of them`,
      );
    }
    this.#switchboard = new Switchboard({
      net: options,
      schedule: realSchedule,
      random: Math.random,
      dial: (node, signal, done) => void this.#dial(node, signal).finally(done),
    });
    this.#measure();
  }

  async prepare(): Promise<void> {
    tellOnlyWhoListens();
    const { self, nodes } = this.#options;
    const { tuning } = this.#switchboard;
    const own = this.#entries.get(self);
    const libp2p = await createLibp2p<Services>({
      start: false,
      privateKey: this.#identity.privateKey,
      addresses: { listen: own === undefined ? [] : [addressOf(own).toString()] },
      // Who is silent is found by the members room. A timeout on each socket would be set anew with every packet.
      transports: [tcp({ inboundSocketInactivityTimeout: 0, outboundSocketInactivityTimeout: 0 })],
      connectionEncrypters: [
        noiseInOnePiece((peer, raw, encrypted) => {
          this.#throttles.get(peer.toString())?.watch(raw);
          this.#peerOf.set(encrypted, peer.toString());
        }),
      ],
      streamMuxers: [fewStreams(tuning.streamsPerSecond, (encrypted) => this.#tooManyStreams(encrypted))],
      connectionGater: this.#gater(),
      // Who is alive is decided by the probes of the members room.
      connectionMonitor: { enabled: false },
      connectionManager: {
        // Defaults let five connections a second in from one host, which two agents that start and race can come near. Each
        // costs a handshake, whoever it is.
        inboundConnectionThreshold: 50,
        maxIncomingPendingConnections: 200,
        maxParallelDials: 100,
        dialTimeout: tuning.dialTimeoutMs,
        addressDialTimeout: tuning.dialTimeoutMs,
        inboundUpgradeTimeout: tuning.dialTimeoutMs,
        inboundStreamProtocolNegotiationTimeout: tuning.dialTimeoutMs,
        // gossipsub opens its streams one after the other: a frozen peer must not keep the others waiting.
        outboundStreamProtocolNegotiationTimeout: tuning.dialTimeoutMs,
        reconnectRetries: 0,
      },
      services: {
        identify: identify(),
        gossip: gossipsub(gossipOptions(this.#topic, nodes.length)),
      },
    });
    this.#libp2p = libp2p;
    // Registered before the start, and synchronous: a connection is culled before any service opens a stream on it.
    libp2p.addEventListener('connection:open', (event) => this.#opened(event.detail));
    libp2p.addEventListener('connection:close', (event) => this.#closed(event.detail));
    await libp2p.handle(framesProtocol, (stream, connection) => this.#frames(stream, connection), {
      maxInboundStreams: 1,
      maxOutboundStreams: 1,
    });
    await libp2p.handle(catchupProtocol, (stream, connection) => this.#serve(stream, connection), {
      maxInboundStreams: inboundStreamsMax,
      maxOutboundStreams: inboundStreamsMax,
    });
  }

  async start(): Promise<void> {
    const libp2p = this.#started();
    const own = this.#entries.get(this.#options.self);
    try {
      await libp2p.start();
    } catch (error) {
      throw new Error(
        `cannot listen on ${own?.address} port ${own?.port} for node ${own?.id}: ${words(error)}; does another agent run here, is the address this machine's?`,
        { cause: error },
      );
    }
    listenToGossip(libp2p.services.gossip, {
      topic: this.#topic,
      admits: (peer) => {
        const node = this.#nodeOfPeer.get(peer);
        return node !== undefined && this.#switchboard.admitsGossip(node);
      },
      received: (peer, sealed) => {
        const node = this.#nodeOfPeer.get(peer);
        if (node !== undefined) this.#switchboard.gossiped(node, sealed);
      },
      refused: (peer, reason) => {
        const node = this.#nodeOfPeer.get(peer);
        if (node !== undefined) this.#switchboard.refused(node, reason);
      },
    });
    this.#switchboard.start();
    this.#watchGossipIn(watchIntervalMs);
  }

  async stop(): Promise<void> {
    if (this.#watch !== null) clearTimeout(this.#watch);
    this.#watch = null;
    this.#switchboard.stop();
    await this.#libp2p?.stop();
  }

  on(listener: (event: NetEvent) => void): void {
    this.#switchboard.on(listener);
  }

  send(to: NodeId, frame: Frame): boolean {
    return this.#switchboard.send(to, frame);
  }

  publish(sealed: Uint8Array): void {
    if (sealed.byteLength > envelopeBytesMax) {
      this.#options.log?.(`envelope of ${sealed.byteLength} bytes not gossiped, at most ${envelopeBytesMax} allowed`);
      return;
    }
    this.#switchboard.counts.gossipOut += 1;
    this.#started()
      .services.gossip.publish(this.#topic, sealed)
      // Nobody reached now: whoever missed it catches up.
      .catch((error: unknown) => this.#options.log?.(`gossip: ${words(error)}`));
  }

  async catchup(from: NodeId, request: CatchupRequest): Promise<CatchupPage> {
    const wire = this.#switchboard.wireOf(from);
    if (!(wire instanceof TcpWire)) throw new Error(`catch-up from node ${from}: not connected`);
    const signal = AbortSignal.timeout(this.#switchboard.tuning.catchupTimeoutMs);
    try {
      const stream = await wire.connection.newStream(catchupProtocol, { signal });
      return await withStream(stream, signal, async () => {
        stream.send(lp.encode.single(encodeRequest(request)));
        return decodePage(await readOne(stream, pageBytesMax));
      });
    } catch (error) {
      throw new Error(`catch-up from node ${from}: ${words(error)}`, { cause: error });
    }
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

  // --- connections ----------------------------------------------------------------------------------------------------

  #gater() {
    const denies = (peer: { toString(): string }) => {
      const id = peer.toString();
      if (this.#nodeOfPeer.has(id)) return false;
      this.#switchboard.refusedStranger(id, `peer ${id} is not in the node list`);
      return true;
    };
    return {
      denyDialMultiaddr: () => false,
      denyDialPeer: denies,
      denyInboundEncryptedConnection: denies,
      denyOutboundEncryptedConnection: denies,
    };
  }

  #enter(nodes: readonly PeerEntry[]): void {
    this.#entries.clear();
    this.#nodeOfPeer.clear();
    for (const entry of nodes) {
      this.#entries.set(entry.id, entry);
      if (entry.id === this.#options.self) continue;
      for (const peerId of peerIdsOf(entry)) this.#nodeOfPeer.set(peerId, entry.id);
    }
  }

  /** Kept over reconnects: a peer does not get a fresh allowance by dialling again. */
  #measure(): void {
    const { now } = this.#options;
    const { bytesPerSecond } = this.#switchboard.tuning;
    for (const [peer, node] of this.#nodeOfPeer) {
      if (!this.#throttles.has(peer)) this.#throttles.set(peer, new Throttle(bytesPerSecond, now));
      if (!this.#serving.has(node)) this.#serving.set(node, new TokenBucket(bytesPerSecond, now));
    }
    for (const peer of this.#throttles.keys()) if (!this.#nodeOfPeer.has(peer)) this.#throttles.delete(peer);
    for (const node of this.#serving.keys()) if (!this.#entries.has(node)) this.#serving.delete(node);
  }

  setPeers(nodes: readonly PeerEntry[]): void {
    const keys = new Set(nodes.flatMap(peerIdsOf));
    for (const [connection, wire] of this.#wires) {
      const peerId = connection.remotePeer.toString();
      if (keys.has(peerId)) continue;
      wire.abort('its key is in the node list no more');
      const node = this.#nodeOfPeer.get(peerId);
      if (node !== undefined) this.#switchboard.closed(node, wire);
    }
    this.#enter(nodes);
    this.#measure();
    this.#switchboard.setPeers(nodes);
  }

  async changeIdentity(identity: Identity): Promise<void> {
    await this.stop();
    this.#identity = identity;
    await this.prepare();
    await this.start();
  }

  async #dial(node: NodeId, stop: AbortSignal): Promise<void> {
    const entry = this.#entries.get(node);
    if (entry === undefined) return;
    const wanted = this.#keyInUse.get(node) ?? entry.peerId;
    const peerId = peerIdsOf(entry).includes(wanted) ? wanted : entry.peerId;
    try {
      // No timeout in this signal (libp2p's own dialTimeout ends the dial): it would fire on the finished connection.
      await this.#started().dial(addressOf({ ...entry, peerId }), { signal: stop });
    } catch (error) {
      if (stop.aborted) return;
      const text = words(error);
      const answered = /identity key (\S+) does not match/.exec(text)?.[1];
      if (answered === undefined) return;
      if (peerIdsOf(entry).includes(answered)) {
        this.#keyInUse.set(node, answered);
        return;
      }
      this.#switchboard.refused(
        node,
        answered === this.#identity.peerId
          ? `${entry.address} port ${entry.port}, node ${node} in the list, answers with this node's own key: a wrong address, or a second agent with this node's key`
          : `${entry.address} port ${entry.port}, node ${node} in the list, answers with key ${answered}; the list pins ${peerIdsOf(entry).join(' and ')}`,
      );
    }
  }

  #opened(connection: Connection): void {
    const node = this.#nodeOfPeer.get(connection.remotePeer.toString());
    if (node === undefined) {
      connection.abort(new Error('not in the node list'));
      return;
    }
    this.#keyInUse.set(node, connection.remotePeer.toString());
    const opener = connection.direction === 'outbound' ? this.#options.self : node;
    const throttle = this.#throttles.get(connection.remotePeer.toString());
    const { sendBufferBytes } = this.#switchboard.tuning;
    const wire = new TcpWire(connection, opener, this.#options.now(), sendBufferBytes, () => throttle?.rest());
    this.#wires.set(connection, wire);
    if (!this.#switchboard.opened(node, wire)) return;
    const signal = AbortSignal.timeout(this.#switchboard.tuning.helloTimeoutMs);
    connection.newStream(framesProtocol, { signal }).then(
      (stream) => {
        wire.stream = stream;
        // The peer never writes on this stream; its end is the end of what we can say, and so of the connection.
        stream.addEventListener('close', () => wire.abort('the frame stream ended'));
        this.#switchboard.writable(node, wire);
      },
      // Refused by the far side, or gone: the dialler goes on.
      (error: unknown) => wire.abort(`no frame stream: ${words(error)}`),
    );
  }

  #tooManyStreams(encrypted: MessageStream): void {
    if (encrypted.status !== 'open') return;
    const node = this.#nodeOfPeer.get(this.#peerOf.get(encrypted) ?? '');
    if (node !== undefined)
      this.#switchboard.refused(node, 'more streams a second than allowed; its connection is cut');
    encrypted.abort(new Error('more streams a second than allowed'));
  }

  #closed(connection: Connection): void {
    const wire = this.#wires.get(connection);
    this.#wires.delete(connection);
    const node = this.#nodeOfPeer.get(connection.remotePeer.toString());
    if (wire !== undefined && node !== undefined) this.#switchboard.closed(node, wire);
  }

  async #frames(stream: Stream, connection: Connection): Promise<void> {
    const wire = this.#wires.get(connection);
    const node = this.#nodeOfPeer.get(connection.remotePeer.toString());
    if (wire === undefined || node === undefined) {
      stream.abort(new Error('not a connection of the node list'));
      return;
    }
    openWindowRarely(stream);
    try {
      for await (const bytes of lp.decode(stream, { maxDataLength: frameBytesMax })) {
        this.#switchboard.received(node, wire, bytes.subarray());
      }
      wire.abort('the peer ended its frame stream');
    } catch (error) {
      // Nothing can be read after a length that is not believed.
      if (isLengthError(error)) this.#switchboard.broken(node, wire, oversizedReason(null));
      else wire.abort(`frame stream: ${words(error)}`);
    }
  }

  async #serve(stream: Stream, connection: Connection): Promise<void> {
    const node = this.#nodeOfPeer.get(connection.remotePeer.toString());
    const signal = AbortSignal.timeout(this.#switchboard.tuning.catchupTimeoutMs);
    try {
      if (node === undefined) throw new Error('not in the node list');
      await withStream(stream, signal, async () => {
        const request = decodeRequest(await readOne(stream, requestBytesMax));
        if (this.#answer === null) throw new Error('this node answers no catch-up yet');
        const page = encodePage(await Promise.race([this.#answer(node, request), rejectsWhen(signal)]));
        // Reading the journal costs more than asking for it.
        const waitMs = this.#serving.get(node)?.spend(pageCostBytes + page.byteLength) ?? 0;
        if (waitMs > 0)
          await Promise.race([new Promise((resolve) => setTimeout(resolve, waitMs)), rejectsWhen(signal)]);
        if (!stream.send(lp.encode.single(page))) await stream.onDrain({ signal });
      });
    } catch (error) {
      if (node !== undefined) this.#switchboard.refused(node, `catch-up: ${words(error)}`);
    }
  }

  #watchGossipIn(delayMs: number): void {
    this.#watch = setTimeout(() => this.#watchGossipIn(this.#watchGossip() ? watchRarelyMs : watchIntervalMs), delayMs);
  }

  /** @returns whether all stands well, for a while already */
  #watchGossip(): boolean {
    let settled = true;
    const nowMs = this.#options.now();
    for (const wire of this.#wires.values()) {
      const node = this.#nodeOfPeer.get(wire.connection.remotePeer.toString());
      if (node === undefined || this.#switchboard.wireOf(node) !== wire) continue;
      settled &&= nowMs - wire.openedAtMs > settledAfterMs;
      if (nowMs - wire.openedAtMs < watchAfterMs) continue;
      const stands = gossipStands(this.#started().services.gossip, this.#topic, wire.connection);
      wire.deafTimes = stands ? 0 : wire.deafTimes + 1;
      settled &&= stands;
      if (wire.deafTimes < 2) continue;
      this.#options.log?.(`node ${node}: gossip does not pass both ways on its connection; connecting anew`);
      this.#switchboard.reset(node);
    }
    return settled;
  }

  #started(): Libp2p<Services> {
    if (this.#libp2p === null) throw new Error('net is not prepared');
    return this.#libp2p;
  }
}

class TcpWire implements Wire {
  readonly connection: Connection;
  readonly opener: NodeId;
  readonly openedAtMs: number;
  readonly #bufferBytesMax: number;
  readonly rest: () => void;
  stream: Stream | null = null;
  /** Looks in a row at which gossip did not stand. */
  deafTimes = 0;

  constructor(connection: Connection, opener: NodeId, openedAtMs: number, bufferBytesMax: number, rest: () => void) {
    this.connection = connection;
    this.opener = opener;
    this.openedAtMs = openedAtMs;
    this.#bufferBytesMax = bufferBytesMax;
    this.rest = rest;
  }

  send(bytes: Uint8Array): boolean {
    const { stream } = this;
    if (stream === null || stream.status !== 'open') return false;
    if (stream.writeBufferLength + bytes.byteLength > this.#bufferBytesMax) return false;
    try {
      // False means that it waits for the peer's window, not that it was dropped.
      stream.send(lp.encode.single(bytes));
      return true;
    } catch {
      return false;
    }
  }

  abort(reason: string): void {
    try {
      this.connection.abort(new Error(reason));
    } catch {
      // Closed already, then.
    }
  }
}

/** Open at once from one peer: frames, catch-up, gossip, identify, and some that are being closed. */
const inboundStreamsOfAllMax = 32;
/** What an answer that holds nothing counts as. */
const pageCostBytes = 64 * 1024;

/** A muxer that tells of a peer that opens streams faster than that: each is negotiated before anything is known of it. */
function fewStreams(perSecond: number, tooMany: (encrypted: MessageStream) => void): () => StreamMuxerFactory {
  const make = yamux({ maxInboundStreams: inboundStreamsOfAllMax });
  return () => {
    const factory = make();
    const create = factory.createStreamMuxer.bind(factory);
    factory.createStreamMuxer = (connection) => {
      const muxer = create(connection);
      // No listener of ours: the muxer keeps early streams until somebody listens, and would hand them to us alone.
      const take: unknown = Reflect.get(muxer, 'onRemoteStream');
      if (typeof take !== 'function') return muxer;
      const rate = new TokenBucket(perSecond, () => performance.now());
      Reflect.set(muxer, 'onRemoteStream', (stream: Stream) => {
        if (!rate.take()) tooMany(connection);
        Reflect.apply(take, muxer, [stream]);
      });
      return muxer;
    };
    return factory;
  };
}

const realSchedule: Schedule = (delayMs, run) => {
  const timer = setTimeout(run, delayMs);
  return () => clearTimeout(timer);
};

/** With the pinned peer ID in it: Noise fails when another key answers there. */
function addressOf(entry: PeerEntry): Multiaddr {
  const family = entry.address.includes(':') ? 'ip6' : 'ip4';
  return multiaddr(`/${family}/${entry.address}/tcp/${entry.port}/p2p/${entry.peerId}`);
}

/** Runs `use`; the stream is aborted when the signal fires or `use` fails, and closed otherwise. */
async function withStream<T>(stream: Stream, signal: AbortSignal, use: () => Promise<T>): Promise<T> {
  const onAbort = () => stream.abort(new Error('took too long'));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const result = await use();
    await stream.close({ signal });
    return result;
  } catch (error) {
    stream.abort(error instanceof Error ? error : new Error(String(error)));
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function readOne(stream: Stream, bytesMax: number): Promise<Uint8Array> {
  return pipe(
    stream,
    (source) => lp.decode(source, { maxDataLength: bytesMax }),
    async (messages) => {
      for await (const bytes of messages) return bytes.subarray();
      throw new Error('the stream ended before a message');
    },
  );
}

function rejectsWhen(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(new Error('took too long')), { once: true });
  });
}

function isLengthError(error: unknown): boolean {
  return error instanceof Error && /^Invalid(DataLength|MessageLength|DataLengthLength)Error$/.test(error.name);
}

function words(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(words).join('; ');
  return textOf(error);
}
