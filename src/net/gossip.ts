/**
 * Gossip of sealed events with gossipsub, set up for a small closed cluster, and a watch over its streams.
 *
 * No signing of gossipsub's own (the events are sealed already), so a message is named by the hash of its bytes. No peer
 * exchange and no scores: members are pinned, and a score must not silence one of them.
 */
import {
  type GossipSub,
  type GossipsubMessage,
  type GossipsubOpts,
  TopicValidatorResult,
} from '@chainsafe/libp2p-gossipsub';
import type { Connection } from '@libp2p/interface';
import { envelopeBytesMax } from '../wire/envelope.ts';

/** Up to this many nodes, a publisher sends to every one itself: one hop, and a mesh that heals meanwhile costs nothing. */
const floodPublishNodesMax = 16;
export const watchIntervalMs = 250;
/** Once every connection carries gossip both ways and none is young. */
export const watchRarelyMs = 5000;
/** Streams of a young connection are still being opened. */
export const watchAfterMs = 1000;
/** A connection this old that carries gossip is not culled any more. */
export const settledAfterMs = 5000;

export function gossipOptions(topic: string, nodes: number): Partial<GossipsubOpts> {
  const floodPublish = nodes <= floodPublishNodesMax;
  // Where a publisher reaches everybody itself, a heartbeat mends what nobody waits for: let it wake nobody often.
  const heartbeatInterval = floodPublish ? 5000 : 300;
  return {
    globalSignaturePolicy: 'StrictNoSign',
    allowedTopics: [topic],
    emitSelf: false,
    fallbackToFloodsub: false,
    floodPublish,
    allowPublishToZeroTopicPeers: true,
    ignoreDuplicatePublishError: true,
    doPX: false,
    // Tags would start libp2p's own redial beside ours.
    tagMeshPeers: false,
    // A full mesh up to nine nodes; above, each has at least six neighbours.
    D: 8,
    Dlo: 6,
    Dhi: 12,
    Dscore: 4,
    Dout: 2,
    heartbeatInterval,
    // Heartbeats: five seconds of messages are offered again, ten can be asked for.
    mcacheLength: Math.ceil(10_000 / heartbeatInterval),
    mcacheGossip: Math.ceil(5000 / heartbeatInterval),
    scoreParams: { IPColocationFactorWeight: 0, behaviourPenaltyWeight: 0 },
    decodeRpcLimits: {
      maxSubscriptions: 8,
      maxMessages: 64,
      maxIhaveMessageIDs: 1024,
      maxIwantMessageIDs: 1024,
      maxIdontwantMessageIDs: 512,
      maxControlMessages: 64,
      maxPeerInfos: 0,
    },
    maxTopicBytesPerPeer: 8 * 1024,
    // Room for a few events in one RPC.
    maxInboundDataLength: 4 * 1024 * 1024,
    maxOutboundBufferSize: 8 * 1024 * 1024,
    maxInboundStreams: 2,
    maxOutboundStreams: 2,
  };
}

export interface GossipPort {
  topic: string;
  /** False: too much of it; it is neither taken nor passed on. */
  admits(peer: string): boolean;
  /** A message as it came; the envelope is not verified. */
  received(peer: string, sealed: Uint8Array): void;
  /** For people: gossip that is too long. */
  refused(peer: string, reason: string): void;
}

export function listenToGossip(gossip: GossipSub, port: GossipPort): void {
  gossip.topicValidators.set(port.topic, (peer, message) => {
    const bytes = message.data.byteLength;
    if (!port.admits(peer.toString())) return TopicValidatorResult.Ignore;
    if (bytes <= envelopeBytesMax) return TopicValidatorResult.Accept;
    port.refused(peer.toString(), `gossip of ${bytes} bytes, at most ${envelopeBytesMax} allowed`);
    return TopicValidatorResult.Ignore;
  });
  gossip.addEventListener('gossipsub:message', (event: CustomEvent<GossipsubMessage>) => {
    const { propagationSource, msg } = event.detail;
    if (msg.topic === port.topic) port.received(propagationSource.toString(), msg.data);
  });
  gossip.subscribe(port.topic);
}

/**
 * Whether gossip can pass both ways on this connection. A connection that was culled may have carried gossipsub's
 * outbound stream, which is not opened again on the one that stayed: then the peer is deaf, one way, for ever.
 */
export function gossipStands(gossip: GossipSub, topic: string, connection: Connection): boolean {
  const open = connection.streams.filter(
    (stream) => stream.protocol.startsWith('/meshsub/') && stream.status === 'open',
  );
  return (
    open.some((stream) => stream.direction === 'inbound') &&
    open.some((stream) => stream.direction === 'outbound') &&
    gossip.getSubscribers(topic).some((peer) => peer.equals(connection.remotePeer))
  );
}
