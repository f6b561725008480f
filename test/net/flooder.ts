/**
 * A member turned bad, in a process of its own: it has a key of the node list, and sends one kind of thing as fast as it is taken, until
 * the next line of its standard input names another. Started with a Flood as its argument.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { gossipsub } from '@chainsafe/libp2p-gossipsub';
import { privateKeyFromProtobuf } from '@libp2p/crypto/keys';
import { identify } from '@libp2p/identify';
import type { Connection, Stream } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import * as lp from 'it-length-prefixed';
import { createLibp2p } from 'libp2p';
import type { PeerEntry } from '#src/net/index.ts';
import { type Event, type Identity, seal } from '#src/wire/index.ts';
import { barePeer } from './bare_peer.ts';
import { cluster } from './processes.ts';

export interface Flood {
  /** base64 of the key's protobuf. */
  key: string;
  node: number;
  bootNumber: number;
  to: PeerEntry;
}

const frames = '/mdmesh/frames/1';
const catchup = '/mdmesh/catchup/1';
const topic = `mdmesh/${cluster}/events/1`;
const json = (value: unknown) => Buffer.from(JSON.stringify(value));

class BadMember {
  readonly #libp2p;
  readonly #identity: Identity;
  readonly #node: number;
  readonly #boot = randomUUID();
  readonly #bootNumber: number;
  #sequence = 0;
  #connection: Connection | null = null;
  #stream: Stream | null = null;

  private constructor(
    libp2p: Awaited<ReturnType<typeof BadMember.libp2p>>,
    identity: Identity,
    node: number,
    bootNumber: number,
  ) {
    this.#bootNumber = bootNumber;
    this.#libp2p = libp2p;
    this.#identity = identity;
    this.#node = node;
  }

  private static libp2p(identity: Identity) {
    return createLibp2p({
      ...barePeer(identity),
      services: {
        identify: identify(),
        gossip: gossipsub({
          globalSignaturePolicy: 'StrictNoSign',
          floodPublish: true,
          allowPublishToZeroTopicPeers: true,
        }),
      },
    });
  }

  static async make(identity: Identity, node: number, bootNumber: number): Promise<BadMember> {
    const libp2p = await BadMember.libp2p(identity);
    for (const protocol of [frames, catchup]) {
      await libp2p.handle(protocol, async (stream) => {
        try {
          for await (const _ of stream);
        } catch {
          // Cut off.
        }
      });
    }
    libp2p.services.gossip.subscribe(topic);
    return new BadMember(libp2p, identity, node, bootNumber);
  }

  async connect(to: PeerEntry): Promise<void> {
    this.#connection = await this.#libp2p.dial(multiaddr(`/ip4/${to.address}/tcp/${to.port}/p2p/${to.peerId}`));
    this.#stream = await this.#connection.newStream(frames);
    const message = {
      protocol: 1,
      cluster,
      node: this.#node,
      boot: this.#boot,
      bootNumber: this.#bootNumber,
      version: 'bad',
    };
    this.#stream.send(lp.encode.single(json({ room: 'hello', message })));
  }

  isOpen(): boolean {
    return this.#connection?.status === 'open' && this.#stream?.status === 'open';
  }

  /** As fast as the other side takes it. */
  async send(bytes: Uint8Array): Promise<void> {
    if (this.#stream?.status !== 'open') return;
    if (!this.#stream.send(lp.encode.single(bytes))) await this.#stream.onDrain({ signal: AbortSignal.timeout(1000) });
  }

  async open(protocol: string, bytes: Uint8Array | null): Promise<void> {
    const stream = await this.#connection?.newStream(protocol, { signal: AbortSignal.timeout(1000) });
    if (bytes !== null) stream?.send(lp.encode.single(bytes));
  }

  async gossip(bytes: Uint8Array): Promise<void> {
    await this.#libp2p.services.gossip.publish(topic, bytes);
  }

  /** True signature, true sender. */
  async event(body: Event['body']): Promise<Uint8Array> {
    this.#sequence += 1;
    const time = new Date().toISOString();
    return seal(this.#identity, {
      cluster,
      origin: this.#node,
      boot: this.#boot,
      bootNumber: this.#bootNumber,
      sequence: this.#sequence,
      time,
      term: 1,
      body,
    });
  }

  async stop(): Promise<void> {
    await this.#libp2p.stop();
  }
}

const notice = (text: string): Event['body'] => ({
  type: 'notice',
  name: 'NodeSuspect',
  severity: 'warning',
  subject: 'node/1',
  detail: { text },
});
const ping = json({ room: 'members', message: { kind: 'ping', sequence: 1, eligible: false, updates: [] } });
const submit = (sealed: Uint8Array) =>
  json({ room: 'arrays', message: { kind: 'event', event: Buffer.from(sealed).toString('base64') } });

const manyNumbers = json({ room: 'members', message: Array.from({ length: 60_000 }, (_, at) => at) });

const kinds = {
  'small frames': (bad: BadMember) => bad.send(ping),
  'frames that are no JSON': (bad: BadMember) => bad.send(randomBytes(400)),
  'frames of half a megabyte that are JSON, and nothing else': (bad: BadMember) => bad.send(manyNumbers),
  'events with a signature of nobody': (bad: BadMember) => bad.send(submit(randomBytes(300))),
  'events, truly signed': async (bad: BadMember, round: number) =>
    bad.send(submit(await bad.event(notice(`no ${round}`)))),
  'large events, truly signed': async (bad: BadMember) =>
    bad.send(submit(await bad.event(notice('x'.repeat(150_000))))),
  'gossip, truly signed': async (bad: BadMember, round: number) => bad.gossip(await bad.event(notice(`no ${round}`))),
  'streams that say nothing': (bad: BadMember, round: number) => bad.open(round % 2 === 0 ? catchup : frames, null),
  'requests for catch-up': (bad: BadMember) => bad.open(catchup, json({ have: [] })),
} as const;
export type FloodKind = keyof typeof kinds;
export const floodKinds = Object.keys(kinds).filter((kind): kind is FloodKind => Object.hasOwn(kinds, kind));

if (process.argv[2]?.startsWith('{')) {
  const flood: Flood = JSON.parse(process.argv[2]);
  const privateKey = privateKeyFromProtobuf(Buffer.from(flood.key, 'base64'));
  if (privateKey.type !== 'Ed25519') throw new Error('a flood needs an Ed25519 key');
  const identity = { privateKey, peerId: peerIdFromPrivateKey(privateKey).toString() };
  const bad = await BadMember.make(identity, flood.node, flood.bootNumber);
  let kind: FloodKind = 'small frames';
  // Its parent is gone: so is its purpose.
  createInterface({ input: process.stdin })
    .on('line', (line) => {
      kind = floodKinds.find((each) => each === line) ?? kind;
    })
    .on('close', () => process.exit(0));
  for (let round = 0; ; round += 1) {
    try {
      if (!bad.isOpen()) await bad.connect(flood.to);
      const once: (bad: BadMember, round: number) => Promise<void> = kinds[kind];
      await once(bad, round);
    } catch {
      // Refused, or cut off: more of it.
      await sleep(5);
    }
    if (round % 64 === 0) await sleep(0);
  }
}
