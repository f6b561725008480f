/** What an agent is built from. The simulation builds the same agent from simulated parts. */
import type { Inheritance } from '../arrays/estate.ts';
import type { Config } from '../config/index.ts';
import type { Fencing } from '../fencing/index.ts';
import type { Journal } from '../journal/index.ts';
import type { MdDriver } from '../md/driver.ts';
import type { Net } from '../net/index.ts';
import type { Status } from '../outlets/index.ts';
import type { Identity } from '../wire/identity.ts';
import type { DiskView } from './disk_view.ts';
import type { OpenedEvents } from './envelopes.ts';
import type { StateFiles } from './state_files.ts';

export interface Alarm {
  /** Rings once, a few milliseconds early at most; what was set before is forgotten. */
  set(delayMs: number): void;
  stop(): void;
}

export interface Timers {
  /** Calls again and again until the returned function is called. */
  every(intervalMs: number, run: () => void): () => void;
  after(delayMs: number, run: () => void): () => void;
  /** One timer that is moved often. Absent: made of `after`. */
  alarm?(rings: () => void): Alarm;
  /** Wall clock, for people only. */
  wall(): Date;
}

export interface AgentLog {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

export interface AgentParts {
  config: Config;
  identity: Identity;
  driver: MdDriver;
  net: Net;
  journal: Journal;
  fencing: Fencing;
  files: Omit<StateFiles, 'forgetLists'>;
  boot: { boot: string; bootNumber: number };
  timers: Timers;
  /** A random UUID. */
  uuid(): string;
  log: AgentLog;
  version: string;
  /** Of the agent before, in whose place it runs; its guard keeps that deadline already. Absent: what runs here is held first of all. */
  inherited?: Inheritance;
  /** What has been seen of the disks already. Absent: it looks before it speaks to anybody. */
  disks?: DiskView;
  /** What other agents of its cluster in this process, if there are any, have opened. */
  opened?: OpenedEvents;
  /** What its process may still do. Absent: a simulated one. */
  privileges?: NonNullable<Status['privileges']>;
}

/** Tells the cluster, the journal and the log of something. */
export type Notice = (
  name: string,
  severity: 'info' | 'notice' | 'warning' | 'critical',
  subject: string,
  detail: Record<string, string | number | boolean | null>,
) => void;
