/**
 * How fast the net is: three nodes on loopback, two of them processes of their own. Prints figures; asserts nothing. Run:
 * `node test/net/measure.ts [rounds]`.
 */
import { createNet, type NetEvent } from '#src/net/index.ts';
import { generateIdentity, open, seal } from '#src/wire/index.ts';
import { AgentProcess, boot, cluster, plan } from './processes.ts';

const rounds = Number(process.argv[2] ?? 1000);
const nextTurn = () => new Promise((resolve) => setImmediate(resolve));
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function figures(what: string, taken: number[], unit = 'ms'): void {
  const sorted = [...taken].sort((a, b) => a - b);
  const at = (share: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN).toFixed(2);
  console.log(`${what}: p50 ${at(0.5)} ${unit}, p99 ${at(0.99)} ${unit}, worst ${at(1)} ${unit}, n = ${sorted.length}`);
}

const { nodes, identities } = await plan(3);
const [first, second, third] = identities;
if (first === undefined || second === undefined || third === undefined) throw new Error('plan made no nodes');
const agents = [new AgentProcess(2, 1, nodes, second), new AgentProcess(3, 1, nodes, third)];
while (!agents.every((agent) => agent.tells('started'))) await sleep(5);

const startMs = performance.now();
const options = { identity: first, cluster, self: 1, nodes, now: () => performance.now() };
let net = await createNet({ ...options, hello: { boot: boot(1), bootNumber: 1, version: 'measure' } });
const acks = new Map<number, (ms: number) => void>();
const listen = (event: NetEvent) => {
  if (event.type !== 'frame' || event.frame.room !== 'members' || event.frame.message.kind !== 'ack') return;
  acks.get(event.frame.message.sequence)?.(performance.now());
};
net.on(listen);
await net.start();
while (net.connected().length < 2) await nextTurn();
console.log(
  `start of a node → connected to both peers (code already loaded): ${(performance.now() - startMs).toFixed(0)} ms`,
);
await sleep(1500);

const trips: number[] = [];
for (let sequence = 1; sequence <= rounds; sequence += 1) {
  const sentMs = performance.now();
  const backMs = new Promise<number>((resolve) => acks.set(sequence, resolve));
  net.send(2, { room: 'members', message: { kind: 'ping', sequence, eligible: true, updates: [] } });
  trips.push((await backMs) - sentMs);
  await sleep(2);
}
figures('frame there and back', trips);

for (let sequence = 1; sequence <= rounds; sequence += 1) {
  // As long as a sealed event usually is.
  net.publish(Buffer.from(`${process.hrtime.bigint()} ${'x'.repeat(800)}`));
  await sleep(4);
}
await sleep(500);
figures(
  'publish → received by each of two',
  agents.flatMap((agent) => agent.lines.flatMap((line) => (line.type === 'gossip' ? [line.tookMs] : []))),
);

const reconnects: number[] = [];
for (let round = 2; round <= 9; round += 1) {
  await net.stop();
  await sleep(200);
  const againMs = performance.now();
  net = await createNet({ ...options, hello: { boot: boot(round), bootNumber: round, version: 'measure' } });
  await net.start();
  while (net.connected().length < 2) await nextTurn();
  reconnects.push(performance.now() - againMs);
}
figures('stopped and made anew → connected to both', reconnects);

const starts: number[] = [];
for (let round = 0; round < 5; round += 1) {
  const cold = await plan(3);
  const coldMs = performance.now();
  const nets = await Promise.all(
    cold.identities.map((identity, at) =>
      createNet({
        ...options,
        identity,
        self: at + 1,
        nodes: cold.nodes,
        hello: { boot: boot(900 + at), bootNumber: 1, version: 'measure' },
      }),
    ),
  );
  await Promise.all(nets.map((each) => each.start()));
  while (!nets.every((each) => each.connected().length === 2)) await nextTurn();
  starts.push(performance.now() - coldMs);
  await Promise.all(nets.map((each) => each.stop()));
}
figures('three made and started at once, in one process → all connected', starts);

const killedMs = performance.now();
await agents[0]?.kill();
while (net.connected().includes(2)) await nextTurn();
console.log(`kill -9 of a peer → noticed: ${(performance.now() - killedMs).toFixed(1)} ms`);

const identity = await generateIdentity();
const event = {
  cluster,
  origin: 1,
  boot: boot(1),
  bootNumber: 1,
  sequence: 1,
  time: '2026-01-02T03:04:05.678Z',
  term: 1,
  body: {
    type: 'notice' as const,
    name: 'NodeDead',
    severity: 'warning' as const,
    subject: 'node/3',
    detail: { text: 'x'.repeat(500) },
  },
};
const sealTimes: number[] = [];
const openTimes: number[] = [];
for (let round = 0; round < rounds; round += 1) {
  const sealMs = performance.now();
  const sealed = await seal(identity, event);
  const openMs = performance.now();
  await open(sealed, () => [identity.privateKey.publicKey], cluster);
  sealTimes.push((openMs - sealMs) * 1000);
  openTimes.push((performance.now() - openMs) * 1000);
}
figures('seal', sealTimes, 'µs');
figures('open', openTimes, 'µs');

await agents[1]?.kill();
await net.stop();
