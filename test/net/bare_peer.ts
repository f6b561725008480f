/** libp2p with nothing of mdmesh in it: a peer that speaks only as far as a test makes it. */
import { noise } from '@libp2p/noise';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import type { Identity } from '#src/wire/index.ts';

/** Services are the test's own. */
export function barePeer({ privateKey }: Pick<Identity, 'privateKey'>) {
  return {
    privateKey,
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
    connectionGater: { denyDialMultiaddr: () => false },
  };
}
