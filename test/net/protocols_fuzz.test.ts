/**
 * libp2p's own protocols, from a peer that is let in: what it says on each of them is changed at random. A net that hears it goes on
 * serving another peer: neither a listener of libp2p's nor one of ours may take the process down.
 */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { identify } from '@libp2p/identify';
import { multiaddr } from '@multiformats/multiaddr';
import fc from 'fast-check';
import * as lp from 'it-length-prefixed';
import { createLibp2p } from 'libp2p';
import { createNet, type NetEvent } from '#src/net/index.ts';
import type { Frame } from '#src/wire/messages.ts';
import { changed, changes, setting } from '../unit/fuzz_changes.ts';
import { barePeer } from './bare_peer.ts';
import { boot, cluster, plan } from './processes.ts';

const json = (value: unknown) => lp.encode.single(Buffer.from(JSON.stringify(value))).subarray();
const topic = Buffer.from(`mdmesh/${cluster}/events/1`);
/** gossipsub's RPC in protobuf: a subscription, and a message with data and topic. */
const field = (number: number, bytes: Uint8Array) =>
  Buffer.concat([Buffer.from([number * 8 + 2, bytes.length]), bytes]);
const rpc = Buffer.concat([
  field(1, Buffer.concat([Buffer.from([8, 1]), field(2, topic)])),
  field(2, Buffer.concat([field(2, Buffer.from('sealed')), field(4, topic)])),
]);
const hello = { protocol: 1, cluster, node: 2, boot: boot(2), bootNumber: 1, version: 'x' };
const said: [string, Uint8Array][] = [
  ['/mdmesh/frames/1', json({ room: 'hello', message: hello })],
  ['/mdmesh/catchup/1', json({ have: [{ origin: 1, bootNumber: 1, sequence: 1 }] })],
  ['/meshsub/1.2.0', lp.encode.single(rpc).subarray()],
  ['/meshsub/1.1.0', lp.encode.single(rpc).subarray()],
  ['/ipfs/id/1.0.0', Buffer.from([8, 1, 2, 3])],
  [
    '/ipfs/id/push/1.0.0',
    lp.encode.single(Buffer.concat([field(5, Buffer.from('x')), field(6, Buffer.from('y'))])).subarray(),
  ],
];
/** What a connection begins with: multistream-select. */
const greeting = Buffer.from('\u0013/multistream/1.0.0\n\u0007/noise\n');

test('whatever a peer says on any protocol, the other one is served on', { timeout: 120_000 }, async (t) => {
  const { nodes, identities } = await plan(3);
  const [to] = nodes;
  const bad = identities[1];
  assert(to && bad);
  const events: NetEvent[] = [];
  const nets = await Promise.all(
    [1, 3].map((self) => {
      const identity = identities[self - 1];
      assert(identity);
      const own = { boot: boot(self), bootNumber: 1, version: 'test' };
      return createNet({ identity, cluster, self, nodes, hello: own, now: () => performance.now() });
    }),
  );
  const [net, good] = nets;
  assert(net && good);
  net.on((event) => events.push(event));
  net.serveCatchup(async () => ({ events: [], more: false }));
  for (const each of nets) await each.start();
  const until = async (condition: () => boolean) => {
    for (let waited = 0; !condition(); waited += 1) {
      assert(waited < 2000, 'never');
      await sleep(5);
    }
  };
  await until(() => net.connected().includes(3) && good.connected().includes(1));
  const libp2p = await createLibp2p({
    ...barePeer(bad),
    services: { identify: identify() },
  });
  t.after(async () => {
    await libp2p.stop();
    for (const each of nets) await each.stop();
  });
  const address = multiaddr(`/ip4/${to.address}/tcp/${to.port}/p2p/${to.peerId}`);
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...said), changes, async ([protocol, bytes], all) => {
      try {
        const connection = await libp2p.dial(address, { signal: AbortSignal.timeout(2000) });
        const stream = await connection.newStream(protocol, { signal: AbortSignal.timeout(2000) });
        stream.send(changed(bytes, all));
        await stream.close({ signal: AbortSignal.timeout(200) });
      } catch {
        // Cut off, or a protocol that is not spoken: the next one dials anew.
      }
    }),
    { ...setting, numRuns: Math.min(setting.numRuns, 150) },
  );
  await fc.assert(
    fc.asyncProperty(changes, async (all) => {
      const socket = connect(to.port, to.address);
      socket.on('error', () => undefined);
      await new Promise((resolve) => socket.once('connect', resolve));
      await new Promise((resolve) => socket.end(Buffer.from(changed(greeting, all)), () => resolve(undefined)));
      socket.destroy();
    }),
    { ...setting, numRuns: Math.min(setting.numRuns, 40) },
  );
  const heard = events.length;
  const frame: Frame = { room: 'members', message: { kind: 'ping', sequence: 77, eligible: true, updates: [] } };
  assert(good.send(1, frame), 'the good peer is connected still');
  await until(() => events.slice(heard).some((event) => event.type === 'frame' && event.from === 3));
  await assert.doesNotReject(good.catchup(1, { have: [] }));
});
