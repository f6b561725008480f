/**
 * One net in a process of its own, for tests that kill, freeze or time it. Started with an AgentSpec as its argument;
 * tells each event as a line of JSON; answers a ping with an ack, and gossip (a reading of the monotonic clock) with how
 * long it took.
 */
import { privateKeyFromProtobuf } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { createNet, type NetTuning, type PeerEntry } from '#src/net/index.ts';

export interface AgentSpec {
  /** base64 of the key's protobuf. */
  key: string;
  cluster: string;
  self: number;
  nodes: PeerEntry[];
  hello: { boot: string; bootNumber: number; version: string };
  tuning?: Partial<NetTuning>;
}

export type AgentLine =
  | { type: 'started' }
  | { type: 'connected' | 'disconnected'; node: number }
  | { type: 'refused'; reason: string }
  | { type: 'duplicate-id'; boots: string[] }
  | { type: 'gossip'; tookMs: number };

const spec: AgentSpec = JSON.parse(process.argv[2] ?? '');
const privateKey = privateKeyFromProtobuf(Buffer.from(spec.key, 'base64'));
if (privateKey.type !== 'Ed25519') throw new Error('agent needs an Ed25519 key');
const { key: _, ...rest } = spec;
const net = await createNet({
  ...rest,
  identity: { privateKey, peerId: peerIdFromPrivateKey(privateKey).toString() },
  now: () => performance.now(),
});
const tell = (line: AgentLine) => process.stdout.write(`${JSON.stringify(line)}\n`);
net.on((event) => {
  switch (event.type) {
    case 'frame':
      if (event.frame.room === 'members' && event.frame.message.kind === 'ping') {
        const { sequence } = event.frame.message;
        net.send(event.from, { room: 'members', message: { kind: 'ack', sequence, eligible: true, updates: [] } });
      }
      return;
    case 'gossip': {
      const sentNs = BigInt(Buffer.from(event.sealed).toString().split(' ')[0] ?? '0');
      tell({ type: 'gossip', tookMs: Number(process.hrtime.bigint() - sentNs) / 1e6 });
      return;
    }
    case 'version-refused':
    case 'refused':
      tell({ type: 'refused', reason: event.reason });
      return;
    default:
      tell(event);
  }
});
// Its parent is gone: so is its purpose.
process.stdin.resume().on('end', () => process.exit(0));
await net.start();
tell({ type: 'started' });
