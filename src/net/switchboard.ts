/**
 * The rules of the net without its sockets: one connection a pair, Hello both ways before anything else, what is refused
 * and who is cut, who is told of a second agent with its ID. The TCP net and the in-memory net plug their connections in
 * here, so a simulated cluster is refused and reconnected by the code that a real one runs.
 */
import type { NodeId } from '../arrays/record.ts';
import type { Frame } from '../wire/messages.ts';
import { BootWitness } from './boot_witness.ts';
import { type Dial, Dialer } from './dialer.ts';
import { encodeFrame, FrameIntake, oversizedReason } from './frame_intake.ts';
import type { NetCounters, NetEvent } from './index.ts';
import { newcomerStays, type Opening } from './one_connection.ts';
import {
  defaultTuning,
  frameBytesMax,
  type NetOptions,
  type NetTuning,
  protocolVersion,
  type Schedule,
} from './options.ts';
import { Refusals } from './refusals.ts';
import { TokenBucket } from './token_bucket.ts';

/** One connection, already authenticated as the peer's. */
export interface Wire extends Opening {
  /** Bytes of one frame; false when the peer's buffer is full or the stream is gone. Never throws. */
  send(bytes: Uint8Array): boolean;
  /** At once; `closed` may be called from inside. Never throws. */
  abort(reason: string): void;
  /** The peer sends more than it may: nothing is read from it for a moment. */
  rest?(): void;
}

interface Link {
  wire: Wire;
  intake: FrameIntake;
  /** Our Hello is on its way: frames may follow it. */
  greeting: boolean;
  /** Boot in the peer's Hello. */
  boot: string | null;
  connected: boolean;
  cancelHelloTimeout: () => void;
}

export interface SwitchboardOptions {
  net: Omit<NetOptions, 'identity'>;
  schedule: Schedule;
  random(): number;
  dial: Dial;
}

export class Switchboard {
  readonly tuning: NetTuning;
  readonly counts: NetCounters = {
    framesIn: 0,
    framesOut: 0,
    framesRefused: 0,
    dialsRefused: 0,
    gossipIn: 0,
    gossipOut: 0,
  };
  readonly #net: Omit<NetOptions, 'identity'>;
  readonly #schedule: Schedule;
  readonly #links = new Map<NodeId, Link>();
  readonly #frameRates = new Map<NodeId, TokenBucket>();
  readonly #eventRates = new Map<NodeId, TokenBucket>();
  readonly #gossipRates = new Map<NodeId, TokenBucket>();
  readonly #listeners: ((event: NetEvent) => void)[] = [];
  readonly #witness = new BootWitness();
  readonly #refusals: Refusals;
  readonly #dialer: Dialer;
  #running = false;

  constructor(options: SwitchboardOptions) {
    this.#net = options.net;
    this.#schedule = options.schedule;
    this.tuning = { ...defaultTuning, ...options.net.tuning };
    this.#refusals = new Refusals(this.tuning.refusalsPerSecond, options.net.now);
    const peers = options.net.nodes.map((node) => node.id).filter((id) => id !== options.net.self);
    for (const peer of peers) {
      // Kept over reconnects: a peer does not get a fresh allowance by dialling again.
      this.#frameRates.set(peer, new TokenBucket(this.tuning.framesPerSecond, options.net.now));
      const { eventsPerSecond, eventsBurst } = this.tuning;
      this.#eventRates.set(peer, new TokenBucket(eventsPerSecond, options.net.now, eventsBurst));
      this.#gossipRates.set(peer, new TokenBucket(eventsPerSecond, options.net.now, eventsBurst));
    }
    this.#dialer = new Dialer({
      self: options.net.self,
      peers,
      tuning: this.tuning,
      schedule: options.schedule,
      random: options.random,
      dial: options.dial,
    });
  }

  start(): void {
    this.#running = true;
    this.#dialer.start();
  }

  /** No event is told from here on. */
  stop(): void {
    this.#running = false;
    this.#dialer.stop();
    for (const link of [...this.#links.values()]) {
      link.cancelHelloTimeout();
      link.wire.abort('this node stops');
    }
    this.#links.clear();
  }

  on(listener: (event: NetEvent) => void): void {
    this.#listeners.push(listener);
  }

  // --- what the transport tells ---------------------------------------------------------------------------------------

  /** A connection stands. @returns false when it is the one to give up: it has been aborted. */
  opened(node: NodeId, wire: Wire): boolean {
    const rate = this.#frameRates.get(node);
    if (!this.#running || rate === undefined) {
      wire.abort('this node is not running, or does not know the peer');
      return false;
    }
    const existing = this.#links.get(node);
    if (existing !== undefined) {
      if (!newcomerStays(existing.wire, wire, Math.min(node, this.#net.self))) {
        wire.abort('a second connection between two nodes');
        return false;
      }
      this.#drop(node, existing);
      existing.wire.abort('a newer connection replaces this one');
    }
    const link: Link = {
      wire,
      intake: new FrameIntake(node, this.#net.cluster, rate),
      greeting: false,
      boot: null,
      connected: false,
      cancelHelloTimeout: this.#schedule(this.tuning.helloTimeoutMs, () => {
        if (!link.connected) this.broken(node, wire, `no Hello both ways within ${this.tuning.helloTimeoutMs} ms`);
      }),
    };
    this.#links.set(node, link);
    this.#dialer.connected(node, wire.opener === this.#net.self);
    return true;
  }

  /** Frames can be written on this connection from now on. */
  writable(node: NodeId, wire: Wire): void {
    const link = this.#linkOf(node, wire);
    if (link === null || link.greeting) return;
    const { boot, bootNumber, version } = this.#net.hello;
    const hello: Frame = {
      room: 'hello',
      message: {
        protocol: protocolVersion,
        cluster: this.#net.cluster,
        node: this.#net.self,
        boot,
        bootNumber,
        version,
      },
    };
    link.greeting = true;
    wire.send(encodeFrame(hello));
    this.#settle(node, link);
  }

  received(node: NodeId, wire: Wire, bytes: Uint8Array): void {
    const link = this.#linkOf(node, wire);
    if (link === null) return;
    const intake = link.intake.take(bytes);
    switch (intake.type) {
      case 'hello':
        link.boot = intake.hello.boot;
        this.#settle(node, link);
        return;
      case 'frame':
        this.#take(node, link, intake.frame);
        return;
      case 'refused':
        if (intake.cut) this.broken(node, wire, intake.reason);
        else this.refused(node, intake.reason);
        if (intake.tooMany) wire.rest?.();
    }
  }

  /** The peer broke a rule in a way that cannot be passed over: tell it, and cut the connection. */
  broken(node: NodeId, wire: Wire, reason: string): void {
    if (this.#linkOf(node, wire) === null) return;
    this.refused(node, `${reason}; its connection is cut`);
    wire.abort(reason);
    this.closed(node, wire);
  }

  closed(node: NodeId, wire: Wire): void {
    const link = this.#linkOf(node, wire);
    if (link === null) return;
    this.#drop(node, link);
    this.#dialer.lost(node, link.connected && this.#net.now() - wire.openedAtMs >= this.tuning.steadyAfterMs);
  }

  /** A frame, or a piece of gossip, of a pinned peer. */
  refused(node: NodeId, reason: string): void {
    this.counts.framesRefused += 1;
    const peer = this.#net.nodes.find(({ id }) => id === node)?.peerId ?? null;
    this.#tellRefused(`node ${node}`, node, peer, reason);
  }

  /** Someone who is not in the list. One allowance for all: they can have as many keys as they like. */
  refusedStranger(peer: string, reason: string): void {
    this.counts.dialsRefused += 1;
    this.#tellRefused('strangers', null, peer, reason);
  }

  /** Asked before a piece of gossip is looked at, or passed on. @returns false when it is refused: too much of it from this peer */
  admitsGossip(node: NodeId): boolean {
    if (this.#gossipRates.get(node)?.take() === true) return true;
    this.refused(node, 'more gossip a second than allowed');
    this.#links.get(node)?.wire.rest?.();
    return false;
  }

  gossiped(node: NodeId, sealed: Uint8Array): void {
    this.counts.gossipIn += 1;
    this.#tell({ type: 'gossip', from: node, sealed });
  }

  // --- what the owner asks --------------------------------------------------------------------------------------------

  send(to: NodeId, frame: Frame): boolean {
    const link = this.#links.get(to);
    if (link?.connected !== true) return false;
    const bytes = encodeFrame(frame);
    if (bytes.byteLength > frameBytesMax) {
      this.#net.log?.(`to node ${to}: ${oversizedReason(bytes.byteLength)}; room ${frame.room}, not sent`);
      return false;
    }
    if (!link.wire.send(bytes)) return false;
    this.counts.framesOut += 1;
    return true;
  }

  connected(): NodeId[] {
    return [...this.#links].filter(([, link]) => link.connected).map(([node]) => node);
  }

  wireOf(node: NodeId): Wire | null {
    const link = this.#links.get(node);
    return link?.connected === true ? link.wire : null;
  }

  reset(node: NodeId): void {
    const link = this.#links.get(node);
    if (link === undefined) return;
    link.wire.abort('this node cut the connection');
    this.closed(node, link.wire);
  }

  // --- inside ---------------------------------------------------------------------------------------------------------

  #linkOf(node: NodeId, wire: Wire): Link | null {
    const link = this.#links.get(node);
    return link?.wire === wire ? link : null;
  }

  #take(node: NodeId, link: Link, frame: Frame): void {
    this.counts.framesIn += 1;
    if (frame.room !== 'duplicate-id') {
      // Sent after the peer's Hello, but our own stream to it may not stand yet: `connected` must come first.
      if (!link.connected) this.refused(node, 'a frame before the Hellos had passed both ways');
      else if (isSealed(frame) && this.#eventRates.get(node)?.take() !== true) {
        this.refused(node, 'more sealed events a second than allowed');
        link.wire.rest?.();
      } else this.#tell({ type: 'frame', from: node, frame });
      return;
    }
    const { boots } = frame.message;
    if (boots.length > 1 && boots.includes(this.#net.hello.boot)) this.#tell({ type: 'duplicate-id', boots });
    else this.refused(node, 'a duplicate-id that does not name this boot and another');
  }

  #settle(node: NodeId, link: Link): void {
    if (link.connected || !link.greeting || link.boot === null) return;
    link.connected = true;
    link.cancelHelloTimeout();
    this.#tell({ type: 'connected', node });
    const boots = this.#witness.hello(node, link.boot, link.wire.openedAtMs, this.#net.now());
    if (boots === null) return;
    this.refused(node, `two agents run under node ID ${node}, boots ${boots.join(' and ')}; stop one of them`);
    link.wire.send(encodeFrame({ room: 'duplicate-id', message: { boots } }));
  }

  #drop(node: NodeId, link: Link): void {
    link.cancelHelloTimeout();
    this.#links.delete(node);
    if (link.connected) this.#tell({ type: 'disconnected', node });
  }

  #tellRefused(source: string, from: NodeId | null, peer: string | null, reason: string): void {
    const told = this.#refusals.admit(source, reason);
    if (told !== null) this.#tell({ type: 'refused', from, peer, reason: told });
  }

  #tell(event: NetEvent): void {
    if (!this.#running) return;
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        // A listener's fault must not be taken for the peer's: its frame would be lost and its connection cut.
        this.#net.log?.(
          `listener of net failed at ${event.type}: ${error instanceof Error ? error.stack : String(error)}`,
        );
      }
    }
  }
}

/** Whether somebody's signature has to be checked for it. */
function isSealed({ room, message }: Frame): boolean {
  if (room === 'arrays') return ['commit', 'event', 'submit'].includes(message.kind);
  return room === 'lease' && ['vote-granted', 'released', 'renew'].includes(message.kind);
}
