/**
 * `mdmesh monitor`: what people run under `mdadm --monitor`, for the cluster's arrays. Events of arrays in mdadm's words go to a
 * program, to mail, to syslog, or to standard output. It follows the agent; what must not miss anything is for `hooks` and `mail`
 * of the configuration, which the agent itself works through.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { DEFAULT_MAIL_COMMAND, DEFAULT_MAIL_FROM } from '../config/defaults.ts';
import { ownCommand } from '../one_binary.ts';
import { type Alert, mailAlert, programAlert } from '../outlets/alert.ts';
import { catalogue, type EventName } from '../outlets/catalogue.ts';
import { eventLine, printable } from '../outlets/cloud_event.ts';
import type { ArrayStatus, Status } from '../outlets/index.ts';
import type { CloudEvent } from '../outlets/told.ts';
import { conditionOf, slotPicture } from './array_condition.ts';
import type { Context } from './context.ts';
import { codeOf, Failure, textOf, UsageFailure } from './failure.ts';
import { followEvents } from './watch.ts';

export interface MonitorOptions {
  scan?: boolean;
  oneshot?: boolean;
  test?: boolean;
  program?: string;
  mail?: string;
  syslog?: boolean;
  increment?: number;
  daemonise?: boolean;
  pidFile?: string;
  /** Of mdadm's; events come as they happen here. */
  delay?: number;
}

/** mdadm's own, as far as mdmesh tells them. */
const MDADM_EVENTS = new Set<string>([
  'NewArray',
  'DegradedArray',
  'DeviceDisappeared',
  'Fail',
  'FailSpare',
  'SpareActive',
  'RebuildStarted',
  'Rebuild20',
  'Rebuild40',
  'Rebuild60',
  'Rebuild80',
  'RebuildFinished',
  'TestMessage',
] satisfies EventName[]);

/** What mdadm mails; everything goes to its program. */
const MAILED = new Set<string>(['Fail', 'FailSpare', 'DegradedArray', 'TestMessage'] satisfies EventName[]);

const CONF_FILES = ['/etc/mdadm/mdadm.conf', '/etc/mdadm.conf'];
const TIMEOUT_MS = 60_000;

type Tell = (event: CloudEvent) => Promise<void>;

/** @param arrays those that are looked at; none: all */
export async function monitor(context: Context, arrays: readonly string[], options: MonitorOptions): Promise<number> {
  if (options.daemonise) return daemonise(context, arrays, options);
  const agent = await context.agent();
  const tell = await tellers(context, options);
  const wants = (event: CloudEvent) => isWanted(event, arrays, options);
  if (options.pidFile !== undefined) writePid(options.pidFile, process.pid);
  try {
    const status = await agent.status();
    for (const array of status.arrays.filter(({ record }) => isNamed(arrays, record.md, record.uuid))) {
      if (options.test) await tell(madeUp('TestMessage', array, status));
      if (options.oneshot) await tell(madeUp('NewArray', array, status));
      // As mdadm does: of what was degraded before, too.
      if (conditionOf(array.record) === 'degraded') await tell(madeUp('DegradedArray', array, status));
    }
    if (options.oneshot) return 0;
    return await followEvents(context.terminal, agent, status.journal.head, async (_line, told) => {
      if ('specversion' in told && wants(told)) await tell(told);
    });
  } finally {
    if (options.pidFile !== undefined) removePid(options.pidFile);
  }
}

function isWanted(event: CloudEvent, arrays: readonly string[], { increment = 20 }: MonitorOptions): boolean {
  const { name, array } = event.data;
  if (!MDADM_EVENTS.has(name)) return false;
  if (!isNamed(arrays, event.subject, array)) return false;
  const [, percent] = /^Rebuild([0-9]+)$/.exec(name) ?? [];
  return percent === undefined || Number(percent) % increment === 0;
}

function isNamed(arrays: readonly string[], md: string, uuid: string | null): boolean {
  return arrays.length === 0 || arrays.some((wanted) => wanted === md || wanted === uuid);
}

/** An event that is in no journal: a test, or how an array stands. */
function madeUp(name: EventName, { record }: ArrayStatus, { cluster, self, lease }: Status): CloudEvent {
  const text = name === 'TestMessage' ? 'a test' : `${record.level} ${slotPicture(record)}`;
  return {
    specversion: '1.0',
    id: `monitor/${randomUUID()}`,
    source: `/mdmesh/${encodeURIComponent(cluster.name)}/node/${self}`,
    type: catalogue[name].type,
    subject: record.md,
    time: new Date().toISOString(),
    datacontenttype: 'application/json',
    sequence: '0',
    sequencetype: 'Integer',
    severity: catalogue[name].severity,
    data: {
      name,
      text,
      origin: self,
      term: lease.term,
      array: record.uuid,
      member: null,
      device: null,
      body: { type: 'notice', name, severity: catalogue[name].severity, subject: record.md, detail: {} },
    },
  };
}

/** All who are to be told. Of a test they are those of the configuration too: that is what is tested. */
async function tellers(context: Context, options: MonitorOptions): Promise<Tell> {
  const { terminal } = context;
  const conf = options.scan ? mdadmConf() : {};
  const program = options.program ?? conf.PROGRAM;
  const to = options.mail ?? conf.MAILADDR;
  const alerts: { name: string; alert: Alert; mails: boolean }[] = [];
  if (program !== undefined) {
    if (!program.startsWith('/'))
      throw new UsageFailure(`--program ${program}: is not an absolute path; write it in full`);
    alerts.push({ name: program, alert: programAlert([program], TIMEOUT_MS), mails: false });
  }
  if (to !== undefined) {
    if (!/^[A-Za-z0-9_.+][^\s,<>"]*$/.test(to)) throw new UsageFailure(`--mail ${to}: is not one mail address`);
    const from = conf.MAILFROM ?? DEFAULT_MAIL_FROM;
    alerts.push({
      name: `mail to ${to}`,
      alert: mailAlert(DEFAULT_MAIL_COMMAND, { to, from }, TIMEOUT_MS),
      mails: true,
    });
  }
  if (options.syslog) alerts.push({ name: 'syslog', alert: syslogAlert, mails: false });
  if (options.test && program === undefined && to === undefined) alerts.push(...(await configuredAlerts(context)));
  return async (event) => {
    if (alerts.length === 0) terminal.out(`${eventLine(event)}\n`);
    for (const { name, alert, mails } of alerts) {
      if (mails && !MAILED.has(event.data.name)) continue;
      const { exitCode, trouble, output } = await alert(event, new AbortController().signal);
      if (output !== '') terminal.err(`${printable(output)}\n`);
      if (exitCode === 0) continue;
      terminal.err(`mdmesh: ${name}: ${event.data.name} ${event.subject}: ${trouble ?? `exit ${exitCode}`}\n`);
    }
  };
}

async function configuredAlerts(context: Context): Promise<{ name: string; alert: Alert; mails: boolean }[]> {
  const [settings, { configuredHooks }] = await Promise.all([
    context.settings(),
    import('../outlets/configured_hooks.ts'),
  ]);
  return configuredHooks(settings).map(({ name, alert }) => ({ name: `hook ${name}`, alert, mails: false }));
}

/** The three words of mdadm.conf(5) that its monitor takes from there. */
function mdadmConf(): Partial<Record<'MAILADDR' | 'MAILFROM' | 'PROGRAM', string>> {
  for (const file of CONF_FILES) {
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch {
      continue;
    }
    return readMdadmConf(text);
  }
  return {};
}

/** Keywords in any case of letters, as for mdadm. The first of each counts. */
export function readMdadmConf(text: string): Partial<Record<'MAILADDR' | 'MAILFROM' | 'PROGRAM', string>> {
  const found: Partial<Record<'MAILADDR' | 'MAILFROM' | 'PROGRAM', string>> = {};
  for (const line of text.split('\n')) {
    const [, word = '', rest = ''] = /^([A-Za-z]+)\s+([^#]*)/.exec(line) ?? [];
    const value = rest.trim();
    if (value === '') continue;
    const upper = word.toUpperCase();
    if (upper === 'MAILADDR') found.MAILADDR ??= value;
    else if (upper === 'MAILFROM') found.MAILFROM ??= value;
    else if (upper === 'PROGRAM') found.PROGRAM ??= value;
  }
  return found;
}

const PRIORITIES = { info: 'daemon.info', notice: 'daemon.notice', warning: 'daemon.warning', critical: 'daemon.crit' };

const syslogAlert: Alert = async (event, abort) => {
  const { runCommand } = await import('../fencing/command.ts');
  const { name, device } = event.data;
  const component = device === null ? '' : `, component device ${device}`;
  const line = printable(`${name} event detected on md device /dev/${event.subject}${component}`);
  return runCommand(['/usr/bin/logger', '-t', 'mdmesh', '-p', PRIORITIES[event.severity], '--', line], '', abort);
};

/** As mdadm: the number of the process is printed (or stored), and the caller goes on. */
function daemonise(context: Context, arrays: readonly string[], options: MonitorOptions): number {
  if (
    !options.test &&
    !options.scan &&
    !options.syslog &&
    options.program === undefined &&
    options.mail === undefined
  ) {
    throw new UsageFailure('--daemonise: nobody would be told; add --program, --mail, --syslog or --scan');
  }
  const words = ['monitor', ...arrays];
  if (options.scan) words.push('--scan');
  if (options.oneshot) words.push('--oneshot');
  if (options.test) words.push('--test');
  if (options.syslog) words.push('--syslog');
  if (options.program !== undefined) words.push(`--program=${options.program}`);
  if (options.mail !== undefined) words.push(`--mail=${options.mail}`);
  if (options.increment !== undefined) words.push(`--increment=${options.increment}`);
  if (options.pidFile !== undefined) words.push(`--pid-file=${options.pidFile}`);
  const [command = '', ...before] = ownCommand();
  const child = spawn(command, [...before, ...context.globalWords(), ...words], { stdio: 'ignore', detached: true });
  if (child.pid === undefined) throw new Failure('the monitor could not be started in the background');
  child.unref();
  if (options.pidFile === undefined) context.terminal.out(`${child.pid}\n`);
  else writePid(options.pidFile, child.pid);
  return 0;
}

function writePid(file: string, pid: number): void {
  try {
    writeFileSync(file, `${pid}\n`);
  } catch (error) {
    throw new Failure(`pid file ${file}: ${textOf(error)}; name another with --pid-file`);
  }
}

/** Unless another one has taken it over. */
function removePid(file: string): void {
  try {
    if (readFileSync(file, 'utf8').trim() === String(process.pid)) unlinkSync(file);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}
