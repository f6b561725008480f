/** The net over TCP, on this machine's loopback and its clock. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { identify } from '@libp2p/identify';
import { multiaddr } from '@multiformats/multiaddr';
import * as lp from 'it-length-prefixed';
import { createLibp2p } from 'libp2p';
import { createNet, type PeerEntry } from '#src/net/index.ts';
import type { Identity } from '#src/wire/index.ts';
import { barePeer } from '../net/bare_peer.ts';
import { standingConnections } from '../net/sockets.ts';
import { netCompliance, type Rogue } from './net.ts';

async function rogue(key: Identity, to: PeerEntry): Promise<Rogue | null> {
  const libp2p = await createLibp2p({
    ...barePeer(key),
    services: { identify: identify() },
  });
  const heard: string[] = [];
  await libp2p.handle('/mdmesh/frames/1', async (stream) => {
    try {
      for await (const bytes of lp.decode(stream)) heard.push(Buffer.from(bytes.subarray()).toString());
    } catch {
      // Cut off.
    }
  });
  try {
    const address = multiaddr(`/ip4/${to.address}/tcp/${to.port}/p2p/${to.peerId}`);
    const connection = await libp2p.dial(address, { signal: AbortSignal.timeout(5000) });
    const stream = await connection.newStream('/mdmesh/frames/1', { signal: AbortSignal.timeout(5000) });
    return {
      send: (bytes) => {
        try {
          stream.send(lp.encode.single(bytes));
        } catch {
          // Cut off.
        }
      },
      heard: () => heard,
      isOpen: () => connection.status === 'open',
      close: async () => libp2p.stop(),
    };
  } catch {
    await libp2p.stop();
    return null;
  }
}

netCompliance({
  name: 'over TCP',
  net: ({ tuning, ...spec }) => createNet({ ...spec, now: () => performance.now(), ...(tuning ? { tuning } : {}) }),
  rogue: (key, _as, to) => rogue(key, to),
  until: async (condition, words) => {
    for (let waited = 0; !condition(); waited += 1) {
      assert(waited < 3000, `never: ${words}`);
      await sleep(5);
    }
  },
  aWhile: () => sleep(150),
  connections: standingConnections,
});
