/**
 * `make bench`: the figures of mdmesh in the laboratory, three guests on whatever cores this machine has. ONLY=leg,rest
 * measures some of them, LONG=1 watches the agents at rest for ten minutes. Prints a table, writes out/bench.json.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg, setPriority } from 'node:os';
import { join } from 'node:path';
import { textOf } from '../src/error_text.ts';
import { labAvailable } from '../test/lab/lab.ts';
import { atRest } from './at_rest.ts';
import { atRestNative } from './at_rest_native.ts';
import { resyncLimits, resyncs, spareActivation } from './copies.ts';
import { eventPropagation } from './events.ts';
import { figureOf, type Measured, tableOf } from './figure.ts';
import { journalFigures } from './journal.ts';
import { legFailureByIoctl, legFailureByIoError } from './leg_failure.ts';
import { nativeStart } from './native_start.ts';
import { fencedFailover, masterFailover, nodeDeath } from './node_failure.ts';
import { oneBinary } from './one_binary.ts';
import { eventToSubscriber, subscribersHere } from './outlets.ts';
import { nodeReturn, startToActive } from './start.ts';
import { writeRatio } from './write_ratio.ts';

const measurements: Record<string, () => Promise<Measured[]>> = {
  leg: legFailureByIoctl,
  ioerror: legFailureByIoError,
  events: eventPropagation,
  failover: masterFailover,
  fenced: fencedFailover,
  death: nodeDeath,
  start: startToActive,
  connected: nativeStart,
  return: nodeReturn,
  rest: atRest,
  native: atRestNative,
  journal: journalFigures,
  subscribers: subscribersHere,
  subscription: eventToSubscriber,
  binary: oneBinary,
  ratio: writeRatio,
  resync: resyncs,
  limits: resyncLimits,
  spare: spareActivation,
};
/** Everything about copies, and what they follow; about subscribers. */
const groups: Record<string, readonly string[]> = {
  copies: ['resync', 'limits', 'death', 'return', 'spare'],
  outlets: ['subscribers', 'subscription'],
};

const asked = process.env.ONLY?.split(',').flatMap((name) => groups[name] ?? [name]) ?? Object.keys(measurements);
const unknown = asked.filter((name) => measurements[name] === undefined);
const available = labAvailable();
if (unknown.length > 0 || !available.ok) {
  const why = available.ok
    ? `ONLY=${unknown.join()}: choose from ${[...Object.keys(measurements), ...Object.keys(groups)].join(', ')}`
    : available.why;
  process.stderr.write(`bench: ${why}\n`);
  process.exit(2);
}

// The guests inherit it: what else runs on this machine is not what is measured.
setPriority(-15);

const all: Measured[] = [];
const failures: string[] = [];
for (const name of asked) {
  process.stderr.write(`--- ${name}\n`);
  try {
    all.push(...((await measurements[name]?.()) ?? []));
  } catch (error) {
    failures.push(`${name}: ${textOf(error)}`);
    process.stderr.write(`${failures.at(-1)}\n`);
  }
}
const out = join(import.meta.dirname, '..', 'out');
mkdirSync(out, { recursive: true });
writeFileSync(join(out, 'bench.json'), `${JSON.stringify(all.map(figureOf), null, 2)}\n`);
const load = loadavg()[0]?.toFixed(1);
process.stdout.write(`${tableOf(all)}\nthree guests, profile lan, ${availableParallelism()} cores, load ${load}\n`);
for (const failure of failures) process.stdout.write(`NOT MEASURED ${failure.split('\n')[0]}\n`);
process.exit(failures.length > 0 ? 1 : 0);
