/** What a guest's kernel says of its own, by the host's clock. Its stamps step by a tick of the guest, 10 ms. */
import type { Guest } from '../test/lab/guest/guest.ts';
import { Clocks } from './clocks.ts';

export interface KernelLine {
  atMs: number;
  text: string;
}

let marks = 0;

/** Lines since a moment, oldest first. */
export async function kernelLines(guest: Guest, sinceMs: number): Promise<KernelLine[]> {
  // The kernel's stamps have a zero of their own: a line of ours, written at a known time, tells where it is.
  const mark = `bench: mark ${marks++}`;
  const markedMs = Clocks.nowMs();
  await guest.writeFile('/dev/kmsg', `${mark}\n`);
  const lines = (await guest.must('dmesg --raw')).split('\n').flatMap((line) => {
    const [, seconds, text] = /^<\d+>\[ *([\d.]+)\] (.*)$/.exec(line) ?? [];
    return seconds === undefined || text === undefined ? [] : [{ atMs: Number(seconds) * 1000, text }];
  });
  const stamped = lines.findLast(({ text }) => text === mark);
  if (stamped === undefined) throw new Error(`n${guest.node}: its kernel log lacks "${mark}"`);
  const zeroMs = markedMs - stamped.atMs;
  return lines.map(({ atMs, text }) => ({ atMs: zeroMs + atMs, text })).filter(({ atMs }) => atMs >= sinceMs);
}

export interface Span {
  fromMs: number;
  toMs: number;
}

/** When md began a resync since a moment, and when it had done it. */
export async function resyncSpan(guest: Guest, md: string, sinceMs: number): Promise<Span> {
  const lines = await kernelLines(guest, sinceMs);
  const begun = lines.find(({ text }) => text === `md: resync of RAID array ${md}`);
  const done = lines.findLast(({ text }) => text === `md: ${md}: resync done.`);
  if (begun === undefined || done === undefined) {
    throw new Error(
      `n${guest.node}: no resync of ${md} in its kernel log: ${lines.map(({ text }) => text).join('; ')}`,
    );
  }
  return { fromMs: begun.atMs, toMs: done.atMs };
}
