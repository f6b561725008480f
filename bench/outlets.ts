/**
 * Subscribers: how long from md's fault on one node to a subscriber's line on another, in the laboratory; how many events one
 * subscriber can be sent, and a thousand at once, on this machine itself.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { catalogue } from '../src/outlets/index.ts';
import { Cluster, SOCKET } from '../test/lab/cluster.ts';
import { mdMemberOn } from '../test/lab/md_members.ts';
import { makeMirror, unmakeMirror } from './arrays.ts';
import { Clocks } from './clocks.ts';
import type { Measured } from './figure.ts';
import { jsonLines, mdio } from './guest_tools.ts';
import type { Answer, Command } from './outlets_server.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 12);
const ENTRIES = 20_000;
const SUBSCRIBERS = 1000;
const PER_SECOND = 10;
const SECONDS = 10;

// --- on this machine --------------------------------------------------------------------------------------------------

export async function subscribersHere(): Promise<Measured[]> {
  const folder = mkdtempSync(join(tmpdir(), 'mdmesh-bench-outlets-'));
  const socketPath = join(folder, 's');
  const server = fork(join(import.meta.dirname, 'outlets_server.ts'), [socketPath], {
    execArgv: ['--no-warnings'],
  });
  try {
    await answered(server);
    await ordered(server, { do: 'fill', entries: ENTRIES });
    const rates: number[] = [];
    for (let round = 0; round < 5; round++) rates.push(await rateOfOne(socketPath));
    const { lagMs, cpuMs } = await crowd(server, socketPath);
    return [
      { name: 'subscriber_events_per_second', unit: 'events/s', samples: rates, goal: { atLeast: 10_000 } },
      { name: 'subscribers_1000_lag_ms', unit: 'ms', samples: lagMs },
      { name: 'subscribers_1000_cpu_ms_per_event', unit: 'ms', samples: [cpuMs] },
    ];
  } finally {
    server.disconnect();
    rmSync(folder, { recursive: true });
  }
}

async function rateOfOne(socketPath: string): Promise<number> {
  const fromMs = performance.now();
  const response = await subscribed(socketPath, '/v1/events?after=0');
  let lines = 0;
  for await (const chunk of response) {
    const bytes: Buffer = chunk;
    for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) lines += 1;
  }
  // A failed member is told twice: every entry is there at least once.
  if (lines < ENTRIES) throw new Error(`${lines} lines for ${ENTRIES} entries`);
  return (lines * 1000) / (performance.now() - fromMs);
}

/** The longest that each event took to any of them. Throws when one was slowed: missed something, or was moved on. */
async function crowd(server: ChildProcess, socketPath: string): Promise<{ lagMs: number[]; cpuMs: number }> {
  const lagMs = new Map<string, number>();
  const counts = new Array<number>(SUBSCRIBERS).fill(0);
  const responses = await Promise.all(
    counts.map(async (_, index) => {
      const response = await subscribed(socketPath, '/v1/events?follow=true');
      response.setEncoding('utf8');
      let rest = '';
      response.on('data', (text: string) => {
        const nowMs = Date.now();
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (line.startsWith('{"type":"missed"')) throw new Error(`subscriber ${index} was too slow: ${line}`);
          const [, id = '', time = ''] = /^\{"specversion":"1\.0","id":"([^"]+)".*?"time":"([^"]+)"/.exec(line) ?? [];
          if (id === '' || id.split('/').length > 3) continue;
          counts[index] = (counts[index] ?? 0) + 1;
          lagMs.set(id, Math.max(lagMs.get(id) ?? 0, nowMs - Date.parse(time)));
        }
      });
      return response;
    }),
  );
  const { appended, cpuMs } = await ordered(server, { do: 'tell', perSecond: PER_SECOND, seconds: SECONDS });
  for (const response of responses) response.destroy();
  const fewest = Math.min(...counts);
  if (fewest !== appended) throw new Error(`a subscriber heard ${fewest} of ${appended} events`);
  return { lagMs: [...lagMs.values()], cpuMs: cpuMs / appended };
}

async function subscribed(socketPath: string, path: string): Promise<IncomingMessage> {
  const call = request({ socketPath, path, agent: false });
  call.end();
  const [response]: IncomingMessage[] = await once(call, 'response');
  if (response === undefined) throw new Error('no response');
  return response;
}

async function answered(server: ChildProcess): Promise<Answer> {
  const [answer]: Answer[] = await once(server, 'message');
  if (answer === undefined) throw new Error('the server said nothing');
  return answer;
}

async function ordered(server: ChildProcess, command: Command): Promise<{ appended: number; cpuMs: number }> {
  const answer = answered(server);
  server.send(command);
  const told = await answer;
  if ('ready' in told) throw new Error('the server is only ready');
  return told;
}

// --- in the laboratory ------------------------------------------------------------------------------------------------

/** What a subscriber is told of a fault: that a node's md has it, at once; that the cluster has given the member up, once it has. */
const told = { FaultSeen: catalogue.FaultSeen, Fail: catalogue.Fail };
const names = ['FaultSeen', 'Fail'] as const satisfies readonly (keyof typeof told)[];

export async function eventToSubscriber(): Promise<Measured[]> {
  await using cluster = await Cluster.start({ name: 'bench-outlets', diskMib: [64, 64] });
  const clocks = await Clocks.of(cluster.lab);
  const samples: Record<keyof typeof told, number[]> = { FaultSeen: [], Fail: [] };
  for (let count = 0; count < ROUNDS; count++) {
    await makeMirror(cluster, { devices: ['/dev/ubda', '/dev/ubdb'] });
    const failing = cluster.nodes[count % cluster.nodes.length] ?? 1;
    const listening = cluster.nodes[(count + 1) % cluster.nodes.length] ?? 2;
    const path = `/v1/events?follow=true&type=${Object.keys(told).join(',')}`;
    const subscriber = await mdio(cluster, listening, ['subscribe', '--socket', SOCKET, '--path', path]);
    await cluster.until('the subscription', 30_000, async () => subscriber.output().includes('"listening"'));
    const { name } = await mdMemberOn(cluster.lab.guest(failing), 'md0', count % 2 === 0 ? 'ubda' : 'ubdb');
    const fail = await mdio(cluster, failing, ['fail', '--device', '/dev/md0', '--member', `/dev/${name}`]);
    const [line] = jsonLines<{ wallMs: number }>(await fail.ended());
    if (line === undefined) throw new Error(`mdio fail on node ${failing} said nothing`);
    const heard = await cluster.until('the lines', 30_000, async () => {
      const lines = jsonLines<{ type?: string; wallMs?: number }>(subscriber.output());
      const atMs = names.map((name) => lines.find(({ type }) => type === told[name].type)?.wallMs ?? null);
      return atMs.every((each) => each !== null) ? atMs : null;
    });
    await subscriber.end();
    names.forEach((name, index) => {
      const tookMs = clocks.hostMs(listening, heard[index] ?? Number.NaN) - clocks.hostMs(failing, line.wallMs);
      samples[name].push(tookMs);
      process.stderr.write(
        `round ${count + 1}, node ${failing} to node ${listening}: ${name} ${tookMs.toFixed(1)} ms\n`,
      );
    });
    await unmakeMirror(cluster);
  }
  return [
    { name: 'event_to_subscriber_ms', unit: 'ms', samples: samples.FaultSeen, goal: { atMost: 20 } },
    { name: 'failure_to_subscriber_ms', unit: 'ms', samples: samples.Fail },
  ];
}
