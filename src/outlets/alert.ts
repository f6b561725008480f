/**
 * How one event is told to somebody: to a program, called as mdadm calls its PROGRAM (event, md device, component), or by mail, as
 * to its MAILADDR. No shell. What stands in an event came over the network, signed by some node: it never becomes an option of a
 * program, a header of a mail, or an escape in a log.
 */
import { hostname } from 'node:os';
import type { CommandOutcome } from '../fencing/command.ts';
import { printable } from './cloud_event.ts';
import type { CloudEvent } from './told.ts';

/** Never rejects. When aborted, the program and what it started is killed. */
export type Alert = (event: CloudEvent, abort: AbortSignal) => Promise<CommandOutcome>;

export interface ProgramCall {
  argv: string[];
  env: Record<string, string>;
  input: string;
}

export interface MailAddresses {
  to: string;
  from: string;
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** @param argv the program with the arguments of its own that go before the event's */
export function programAlert(argv: readonly string[], timeoutMs: number): Alert {
  return (event, abort) => runBounded(programCall(argv, event), timeoutMs, abort);
}

export function mailAlert(command: readonly string[], addresses: MailAddresses, timeoutMs: number): Alert {
  return (event, abort) =>
    runBounded({ argv: [...command], env: { PATH }, input: mailOf(event, addresses, new Date()) }, timeoutMs, abort);
}

async function runBounded(
  { argv, env, input }: ProgramCall,
  timeoutMs: number,
  abort: AbortSignal,
): Promise<CommandOutcome> {
  const { runCommand } = await import('../fencing/command.ts');
  const limit = AbortSignal.timeout(timeoutMs);
  const outcome = await runCommand(argv, input, AbortSignal.any([abort, limit]), { env, isUrgent: false });
  const trouble = limit.aborted ? `killed: it took longer than ${timeoutMs} ms` : outcome.trouble;
  return { ...outcome, trouble };
}

/** The words for a program: arguments, environment, and the whole event as JSON on its standard input. */
export function programCall(argv: readonly string[], event: CloudEvent): ProgramCall {
  const { data, subject } = event;
  const device = isMd(subject) ? `/dev/${subject}` : argument(subject);
  const component = data.device === null ? [] : [argument(data.device)];
  const env: Record<string, string> = {
    PATH,
    LANG: 'C.UTF-8',
    MDMESH_EVENT: argument(data.name),
    MDMESH_TYPE: event.type,
    MDMESH_SEVERITY: event.severity,
    MDMESH_SUBJECT: subject,
    MDMESH_ARRAY: data.array ?? '',
    MDMESH_DEVICE: isMd(subject) ? device : '',
    MDMESH_MEMBER: data.member ?? '',
    MDMESH_COMPONENT: data.device ?? '',
    MDMESH_ORIGIN: String(data.origin),
    MDMESH_TERM: String(data.term),
    MDMESH_TIME: event.time,
    MDMESH_ID: event.id,
    MDMESH_SOURCE: event.source,
    MDMESH_CURSOR: String(event.cursor ?? ''),
    MDMESH_TEXT: data.text,
  };
  for (const [name, value] of Object.entries(env)) env[name] = printable(value);
  return { argv: [...argv, argument(data.name), device, ...component], env, input: `${JSON.stringify(event)}\n` };
}

function isMd(subject: string): boolean {
  return /^md[0-9]{1,4}$/.test(subject);
}

/** Never empty, and never an option. */
function argument(text: string): string {
  const plain = printable(text).replace(/^-+/, '');
  return plain === '' ? '?' : plain;
}

/** A whole message (RFC 5322), for `sendmail -t`. */
export function mailOf(event: CloudEvent, { to, from }: MailAddresses, now: Date): string {
  const { data, subject } = event;
  const where = isMd(subject) ? `md device /dev/${subject}` : subject;
  const lines = [
    `From: ${header(from)}`,
    `To: ${header(to)}`,
    `Subject: ${header(`${data.name} event on ${isMd(subject) ? `/dev/${subject}` : subject}:${hostname()}`)}`,
    `Date: ${now.toUTCString().replace('GMT', '+0000')}`,
    `Message-ID: <${header(event.id).replace(/[^A-Za-z0-9.-]/g, '.')}.${now.getTime()}@${hostname()}>`,
    'Auto-Submitted: auto-generated',
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=utf-8',
    'Content-Transfer-Encoding: 8bit',
    '',
    `This is an automatically generated mail message from mdmesh on ${hostname()}.`,
    '',
    `A ${data.name} event has been told of ${where}: ${data.text}`,
    ...(data.device === null ? [] : ['', `It could be related to component device ${data.device}.`]),
    '',
    `severity  ${event.severity}`,
    `time      ${event.time}, by the clock of node ${data.origin}`,
    `from      ${event.source}, term ${data.term}`,
    `event     ${event.id}`,
    '',
    '`mdmesh mdstat` and `mdmesh status` tell how it stands.',
  ];
  return `${lines.map(printable).join('\n')}\n`;
}

/** Headers are ASCII, and end with their line. */
function header(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
}
