/** How long an event takes from its sealing on one node to the journals of all others. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseLine } from '../src/journal/chain.ts';
import { decodeUnverified } from '../src/wire/index.ts';
import { Cluster } from '../test/lab/cluster.ts';
import { Clocks } from './clocks.ts';
import type { Measured } from './figure.ts';
import { pause } from './guest_tools.ts';

const EVENTS_A_NODE = 30;

interface Journaled {
  key: string;
  origin: number;
  sealedAtMs: number;
  appendedAtMs: number;
  marked: boolean;
}

function journalOf(cluster: Cluster, node: number): Journaled[] {
  const lines = readFileSync(join(cluster.folder(node), 'state', 'journal.jsonl'), 'utf8').split('\n');
  return lines.flatMap((line) => {
    const link = line === '' ? null : parseLine(line);
    if (link === null) return [];
    const event = decodeUnverified(link.sealed);
    return {
      key: `${event.origin}/${event.bootNumber}/${event.sequence}`,
      origin: event.origin,
      sealedAtMs: Date.parse(event.time),
      appendedAtMs: Date.parse(link.appendedAt),
      marked: event.body.type === 'request' && event.body.request.verb === 'stop',
    };
  });
}

export async function eventPropagation(): Promise<Measured[]> {
  await using cluster = await Cluster.start({ name: 'bench-events', diskMib: [64, 64] });
  const clocks = await Clocks.of(cluster.lab);
  await pause(3000);
  for (let count = 0; count < EVENTS_A_NODE; count++) {
    for (const node of cluster.nodes) {
      // Sealed, gossiped and journaled as any other; the master then refuses it.
      await cluster.request(node, { verb: 'stop', array: 'no-such-array' });
      await pause(30);
    }
  }
  await pause(1000);
  await Promise.all(cluster.lab.guests.map((guest) => guest.must('sync')));
  const journals = new Map(cluster.nodes.map((node) => [node, journalOf(cluster, node)]));
  const samples: number[] = [];
  for (const origin of cluster.nodes) {
    for (const event of journals.get(origin) ?? []) {
      if (!event.marked || event.origin !== origin) continue;
      const arrivals = cluster.nodes
        .filter((node) => node !== origin)
        .map((node) => {
          const there = journals.get(node)?.find((candidate) => candidate.key === event.key);
          if (there === undefined) throw new Error(`event ${event.key} never came to the journal of node ${node}`);
          return clocks.hostMs(node, there.appendedAtMs);
        });
      samples.push(Math.max(...arrivals) - clocks.hostMs(origin, event.sealedAtMs));
    }
  }
  return [{ name: 'event_propagation_ms', unit: 'ms', samples, goal: { atMost: 5 } }];
}
