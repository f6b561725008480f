/**
 * Judges what processes on several nodes have seen of registers that they share: blocks of an array, each a register of its own.
 *
 * The rule is Lamport's **regular register** ("On interprocess communication", 1986): a reading returns what the last write that was done
 * before it began has left, or what a write under way meanwhile is about to leave. That is what a disk promises, and a mirror without a
 * lock manager can promise no more: while a write stands on one leg and not yet on the other, one reading may meet the new value and the
 * next one the old. Linearizability would forbid that, and be wrong about every mirror; once a write is done, it asks for nothing else.
 * `wentBack` counts such pairs of readings.
 *
 * A write that nobody was told the end of (its node was killed) may or may not have happened, and may yet happen, until a time by which the
 * array was whole again. From then on it must be one or the other for good: if any reading shows it, none shows anything older.
 *
 * Each register has one writer at a time, as on any shared disk without locks; two at once would leave each leg with a winner of its own. A
 * history in which they are two is refused. Values are unique, so each reading tells which write it has met. All times are of one clock.
 */

export interface Write {
  register: number;
  /** Unique in the whole history; its process is all of it but the last number: `node.run.process.count`. */
  value: string;
  start: number;
  /** null: nobody was told. */
  end: number | null;
  /** Its process was told that it failed. */
  failed: boolean;
}

/** `blank`: nothing was ever written there. `torn`, `foreign`, `misplaced`: bytes that are no value, of no register, of another one. */
export type Bytes = 'blank' | 'torn' | 'foreign' | 'misplaced';

export interface Read {
  register: number;
  /** `node.run.process` */
  reader: string;
  start: number;
  end: number;
  /** With a value, when its write began, as the block itself says: the writer may have been killed before it told. */
  found: { value: string; writtenAt: number } | Bytes;
}

export interface History {
  writes: readonly Write[];
  reads: readonly Read[];
  /** Times by which no write of a process that was killed before could come any more. */
  settledAt: readonly number[];
  /** `node.run` of processes that were killed: what they told last may be missing. */
  cutShort: ReadonlySet<string>;
}

export interface Violation {
  kind: 'stale' | 'lost' | 'torn' | 'foreign' | 'misplaced' | 'from the future';
  read: Read;
  /** What the reading should have met, or something newer. null: no write at all is known to be right. */
  expected: Write | null;
}

export interface Verdict {
  violations: Violation[];
  registers: number;
  writes: number;
  reads: number;
  /** Writes that nobody was told the end of. */
  untold: number;
  /** Of those, the ones that were seen after all was settled. */
  untoldSeen: number;
  /** Readings older than one that had ended before they began, yet right: of a write under way. */
  wentBack: number;
}

interface Known extends Write {
  /** No effect of it comes later. */
  over: number;
  /** It has happened. */
  certain: boolean;
}

/** @throws if two writes of a register are under way at once: then the history proves nothing */
export function judge(history: History): Verdict {
  const verdict: Verdict = {
    violations: [],
    registers: 0,
    writes: 0,
    reads: history.reads.length,
    untold: 0,
    untoldSeen: 0,
    wentBack: 0,
  };
  const writes = Map.groupBy(history.writes, ({ register }) => register);
  const reads = Map.groupBy(history.reads, ({ register }) => register);
  const told = new Set(history.writes.map(({ value }) => value));
  const settled = history.settledAt.toSorted((a, b) => a - b);
  for (const register of new Set([...writes.keys(), ...reads.keys()])) {
    const ofRegister = reads.get(register) ?? [];
    const order = inOrder(
      [...(writes.get(register) ?? []), ...untold(register, ofRegister, told, history.cutShort)],
      settled,
    );
    seenAfterwards(order, ofRegister);
    judgeRegister(order, ofRegister, verdict);
    verdict.registers += 1;
    verdict.writes += order.length;
    const open = order.filter(({ end }) => end === null);
    verdict.untold += open.length;
    verdict.untoldSeen += open.filter(({ certain }) => certain).length;
  }
  verdict.violations.sort((a, b) => a.read.end - b.read.end);
  return verdict;
}

function runOf(process: string): string {
  return process.split('.', 2).join('.');
}

/** Writes of which only the block itself tells, as it may be of a process that was killed. */
function untold(
  register: number,
  reads: readonly Read[],
  told: ReadonlySet<string>,
  cutShort: ReadonlySet<string>,
): Write[] {
  const found = new Map<string, Write>();
  for (const read of reads) {
    if (typeof read.found === 'string') continue;
    const { value, writtenAt } = read.found;
    if (told.has(value) || !cutShort.has(runOf(value))) continue;
    found.set(value, { register, value, start: writtenAt, end: null, failed: false });
  }
  return [...found.values()];
}

function inOrder(writes: readonly Write[], settled: readonly number[]): Known[] {
  const order = writes
    .map((write): Known => {
      const over = write.end ?? settled.find((at) => at > write.start) ?? Number.POSITIVE_INFINITY;
      return { ...write, over, certain: write.end !== null && !write.failed };
    })
    .sort((a, b) => a.start - b.start);
  for (const [index, write] of order.entries()) {
    const before = order[index - 1];
    if (before !== undefined && before.over > write.start) {
      throw new Error(
        `register ${write.register}: ${write.value} is written from ${write.start} on, while ${before.value} is under way until ${before.over}`,
      );
    }
  }
  return order;
}

/** What was uncertain has happened if it is met at a time at which nothing of it can come any more. */
function seenAfterwards(order: readonly Known[], reads: readonly Read[]): void {
  const uncertain = new Map(order.filter(({ certain }) => !certain).map((write) => [write.value, write]));
  for (const { found, start } of reads) {
    const write = typeof found === 'string' ? undefined : uncertain.get(found.value);
    if (write !== undefined && start >= write.over) write.certain = true;
  }
}

function judgeRegister(order: readonly Known[], reads: readonly Read[], verdict: Verdict): void {
  const places = new Map(order.map(({ value }, index) => [value, index]));
  const done = order.flatMap((write, index) => (write.certain ? [{ index, at: write.over }] : []));
  let newestDone = 0;
  let newestSeen = -1;
  let ended = 0;
  const byEnd = reads.toSorted((a, b) => a.end - b.end);
  for (const read of reads.toSorted((a, b) => a.start - b.start)) {
    for (; (done[newestDone]?.at ?? Number.POSITIVE_INFINITY) <= read.start; newestDone++);
    for (; (byEnd[ended]?.end ?? Number.POSITIVE_INFINITY) <= read.start; ended++) {
      newestSeen = Math.max(newestSeen, placeOf(byEnd[ended]?.found ?? 'torn', places) ?? -1);
    }
    const expectedPlace = newestDone === 0 ? -1 : (done[newestDone - 1]?.index ?? -1);
    const expected = order[expectedPlace] ?? null;
    const kind = whatIsWrong(read, order, places, expectedPlace);
    if (kind !== null) {
      verdict.violations.push({ kind, read, expected });
      continue;
    }
    const place = placeOf(read.found, places) ?? -1;
    if (place < newestSeen) verdict.wentBack += 1;
  }
}

/** Of the value that was met, in the order of the writes; -1: of the blank register. undefined: of none. */
function placeOf(found: Read['found'], places: ReadonlyMap<string, number>): number | undefined {
  if (found === 'blank') return -1;
  return typeof found === 'string' ? undefined : places.get(found.value);
}

function whatIsWrong(
  { found, end }: Read,
  order: readonly Known[],
  places: ReadonlyMap<string, number>,
  expectedPlace: number,
): Violation['kind'] | null {
  const place = placeOf(found, places);
  if (place === undefined) return typeof found === 'string' && found !== 'blank' ? found : 'foreign';
  if ((order[place]?.start ?? Number.NEGATIVE_INFINITY) > end) return 'from the future';
  if (place >= expectedPlace) return null;
  return found === 'blank' ? 'lost' : 'stale';
}

/** Something that happened meanwhile, for the timeline. */
export interface Mark {
  at: number;
  text: string;
}

const LINES_BEFORE = 12;

/**
 * A violation as a story: what was done with its register before, and what befell the cluster in the same time.
 * @param seconds a time of the history in seconds, as the marks are told
 */
export function timeline(
  { kind, read, expected }: Violation,
  history: History,
  marks: readonly Mark[],
  seconds: (at: number) => number,
): string[] {
  const at = (time: number | null): string => (time === null ? '(untold)' : seconds(time).toFixed(4));
  const told = (found: Read['found']): string => (typeof found === 'string' ? found : found.value);
  const events: { at: number; text: string }[] = [];
  for (const write of history.writes) {
    if (write.register !== read.register || write.start > read.end) continue;
    const outcome = write.failed ? ', failed' : '';
    events.push({ at: write.start, text: `write ${write.value} until ${at(write.end)} s${outcome}` });
  }
  for (const other of history.reads) {
    if (other.register !== read.register || other.start > read.end || other === read) continue;
    events.push({ at: other.start, text: `  ${other.reader} reads ${told(other.found)} until ${at(other.end)} s` });
  }
  events.sort((a, b) => a.at - b.at);
  // From the write that should have been met, and some lines before it; of many readings in between the last ones.
  const first = events.findIndex(({ text }) => expected !== null && text.startsWith(`write ${expected.value} `));
  const shown = [
    ...(first < 0 ? [] : events.slice(Math.max(0, first - 3), first + 1)),
    ...events.slice(Math.max(first + 1, events.length - LINES_BEFORE)),
  ];
  const since = shown[0]?.at ?? read.start;
  const lines = [...shown, ...marks.filter((mark) => mark.at >= since && mark.at <= read.end)]
    .toSorted((a, b) => a.at - b.at)
    .map(({ at: time, text }) => `${at(time)} s  ${text}`);
  const should = expected === null ? '' : `, but ${expected.value} was done by ${at(expected.end)} s`;
  return [
    `${kind}: register ${read.register}, ${read.reader} reads ${told(read.found)}${should}`,
    ...lines,
    `${at(read.start)} s  ${read.reader} reads ${told(read.found)} until ${at(read.end)} s: ${kind}`,
  ];
}
