/** An agent's API over a journal in memory, in a process of its own: what bench/outlets.ts subscribes to. Commands come by IPC. */

import { sampleEvent, samplesOf } from '../scripts/event_samples.ts';
import { memoryJournal } from '../src/journal/index.ts';
import { serveApi } from '../src/outlets/index.ts';
import type { Event } from '../src/wire/messages.ts';
import { clusterStatus, namesIn } from '../test/unit/outlets_fake_agent.ts';

export type Command =
  | { do: 'fill'; entries: number }
  /** `perSecond` for so long; each has in `time` when it was appended. */
  | { do: 'tell'; perSecond: number; seconds: number };

/** `cpuMs`: what telling them took of a core. */
export type Answer = { ready: true } | { appended: number; cpuMs: number };

const kinds = [
  ...samplesOf('Fail'),
  ...samplesOf('CopyCheckpoint'),
  ...samplesOf('WritesEnabled'),
  ...samplesOf('NodeDead'),
];
let sequence = 0;

function next(): Event {
  sequence += 1;
  const body = kinds[sequence % kinds.length]?.body ?? { type: 'leave', reason: '' };
  return { ...sampleEvent(body), sequence, time: new Date().toISOString() };
}

const [socketPath = ''] = process.argv.slice(2);
const journal = memoryJournal({ now: () => new Date() });
const log = { info() {}, warn() {}, error: (_fields: object, text: string) => process.stderr.write(`${text}\n`) };
await serveApi({
  face: {
    status: () => clusterStatus(),
    names: namesIn(clusterStatus),
    request: async () => ({ ok: false, text: '' }),
    scan: async () => [],
    reports: async () => [],
    reloadConfig: async () => ({ ok: false, text: '' }),
    handOver: async () => ({ ok: false, text: '' }),
  },
  journal,
  socketPath,
  modeOctal: 0o600,
  log,
});
const answer = (text: Answer) => void process.send?.(text);

process.on('message', (command: Command) => {
  if (command.do === 'fill') {
    for (let count = 0; count < command.entries; count++) journal.append(next(), '');
    answer({ appended: command.entries, cpuMs: 0 });
    return;
  }
  let left = command.perSecond * command.seconds;
  const before = process.cpuUsage();
  const tell = setInterval(() => {
    journal.append(next(), '');
    left -= 1;
    if (left > 0) return;
    clearInterval(tell);
    setTimeout(() => {
      const { user, system } = process.cpuUsage(before);
      answer({ appended: command.perSecond * command.seconds, cpuMs: (user + system) / 1000 });
    }, 2000);
  }, 1000 / command.perSecond);
});
process.on('disconnect', () => process.exit(0));
answer({ ready: true });
