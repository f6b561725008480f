/**
 * The agent's log on standard output: JSON, one line each, or on a terminal a line for people. Every line has `PRIORITY` as syslog(3)
 * counts it, and one that tells of an event the `MESSAGE_ID` of its kind, by journald's names. Behind journald the line also begins
 * with sd-daemon(3)'s mark, so that `journalctl -p warning` finds it. What could be a secret is blanked, whoever logs it.
 */
import { createHash } from 'node:crypto';
import { fstatSync } from 'node:fs';
import pino from 'pino';
import { printable } from './outlets/cloud_event.ts';

export interface LogOptions {
  level: 'debug' | 'info' | 'warn' | 'error';
  /** This node, in every line. */
  node: number;
  /** `people`: a terminal; `journald`: with the mark; else plain JSON. */
  form: LogForm;
  /** @default standard output, at once: a line that waits would be lost in a crash */
  write?: (text: string) => void;
}

export type LogForm = 'json' | 'journald' | 'people';

const PRIORITIES: Readonly<Record<string, number>> = { fatal: 2, error: 3, warn: 4, info: 6, debug: 7, trace: 7 };
const SECRETS = ['token', 'authorization', 'headers', 'key', 'privateKey', 'seed', 'password'];

export function createLog({ level, node, form, write }: LogOptions): pino.Logger {
  const stdout = write ?? standardOutput();
  const stream = {
    write(line: string): void {
      if (form === 'people') stdout(lineForPeople(line));
      else stdout(form === 'journald' ? `<${priorityOf(line)}>${line}` : line);
    },
  };
  return pino(
    {
      level,
      base: { node },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label, PRIORITY: String(PRIORITIES[label] ?? 6) }),
        log: (fields) =>
          typeof fields.event === 'string' ? { ...fields, MESSAGE_ID: messageId(fields.event) } : fields,
      },
      redact: { paths: SECRETS.flatMap((name) => [name, `*.${name}`]), censor: '(secret)' },
    },
    stream,
  );
}

/** What standard output is here. */
export function logForm(env: Readonly<Record<string, string | undefined>>, isTerminal: boolean): LogForm {
  if (isTerminal) return 'people';
  const { dev, ino } = fstatSync(1);
  // As systemd.exec(5) has it: else the variable is left over from somebody else's output.
  return env.JOURNAL_STREAM === `${dev}:${ino}` ? 'journald' : 'json';
}

/** journald's, of one kind of event: the same in every version and on every machine. */
export function messageId(event: string): string {
  return createHash('sha256').update(`mdmesh event ${event}`).digest('hex').slice(0, 32);
}

function standardOutput(): (text: string) => void {
  const stdout = pino.destination({ fd: 1, sync: true });
  return (text) => stdout.write(text);
}

function priorityOf(line: string): string {
  return /"PRIORITY":"([0-7])"/.exec(line)?.[1] ?? '6';
}

/** `12:01:02.345 warn  guard: grant-expired  md=md0`; the bare line if it is none of pino's. */
export function lineForPeople(line: string): string {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(line);
  } catch {
    return line;
  }
  const { time, level, msg, err, ...rest } = fields;
  const details = Object.entries(rest)
    .filter(([name, value]) => value !== null && !UNTOLD.has(name))
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const clock = String(time).slice(11, 23);
  // Words of other nodes and of programs stand in it: they must not steer the terminal.
  const text = printable([`${clock} ${String(level).padEnd(5)} ${String(msg)}`, ...details].join('  '));
  return `${text}\n${stackOf(err)}`;
}

/** In each line, or in the words already. */
const UNTOLD = new Set(['node', 'PRIORITY', 'MESSAGE_ID', 'event', 'subject']);

function stackOf(error: unknown): string {
  if (typeof error !== 'object' || error === null || !('stack' in error)) return '';
  const lines = String(error.stack).split('\n');
  return lines.map((line) => `    ${printable(line)}\n`).join('');
}
