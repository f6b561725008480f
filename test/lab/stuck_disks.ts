/**
 * Whether a guest's own disk driver has lost a request: User-Mode Linux's ubd does so now and then on a crowded machine. The
 * block layer shows it below md and below everything of ours: a disk with requests in flight that completes none.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Guest } from './guest/guest.ts';

type Asked = Pick<Guest, 'node' | 'running' | 'readFile'>;

const LOOK_MS = 4000;
const ANSWER_MS = 5000;

interface DiskAtWork {
  inFlight: number;
  /** Requests completed since boot. */
  completed: number;
}

async function diskAtWork(guest: Asked, name: string): Promise<DiskAtWork | null> {
  const read = (file: string): Promise<string> => guest.readFile(`/sys/block/${name}/${file}`);
  const late = sleep(ANSWER_MS, null, { ref: false });
  const texts = await Promise.race([Promise.all([read('inflight'), read('stat')]), late]).catch(() => null);
  if (texts === null) return null;
  const [inFlight = [], stat = []] = texts.map((text) => text.trim().split(/\s+/).map(Number));
  // Documentation/block/stat.rst: reads, writes, discards and flushes completed.
  const completed = [0, 4, 11, 15].reduce((sum, field) => sum + (stat[field] ?? 0), 0);
  return { inFlight: inFlight.reduce((sum, count) => sum + count, 0), completed };
}

/** Words for each disk that stands still; takes some seconds only if one has requests in flight. */
export async function stuckDisks(guests: readonly Asked[], disks: number): Promise<string[]> {
  const running = guests.filter((guest) => guest.running);
  const all = running.flatMap((guest) =>
    Array.from({ length: disks }, (_, index) => ({ guest, name: `ubd${String.fromCharCode(97 + index)}` })),
  );
  const look = () => Promise.all(all.map(({ guest, name }) => diskAtWork(guest, name)));
  const first = await look();
  if (!first.some((disk) => disk !== null && disk.inFlight > 0)) return [];
  await sleep(LOOK_MS);
  const second = await look();
  return all.flatMap(({ guest, name }, index) => {
    const [before, now] = [first[index], second[index]];
    if (before == null || now == null || before.inFlight === 0 || now.inFlight === 0) return [];
    if (now.completed !== before.completed) return [];
    return [`${name} of n${guest.node}: ${now.inFlight} requests in flight, none completed in ${LOOK_MS / 1000} s`];
  });
}
