/**
 * config: the file, parsed and checked once, as a frozen value. All errors are found at once; each names file, line, key,
 * value and remedy. No other room reads a file of settings or knows a default.
 */
import type { CheckSchedule } from '../arrays/check_schedule.ts';
import type { PathLossOptions } from '../arrays/path_loss.ts';
import type { NodeId } from '../arrays/record.ts';
import type { FencingMethod } from '../fencing/index.ts';
import type { EventFilter } from '../outlets/event_filter.ts';

export interface NodeConfig {
  id: NodeId;
  /** IP address (v4 or v6); no names: a cluster must not depend on DNS to agree on its disks. */
  address: string;
  port: number;
  peerId: string;
  /** A second key that counts as well, while the node changes from one to the other. */
  nextPeerId?: string;
}

/** All in ms unless the name says otherwise. */
export interface Timing {
  probeIntervalMs: number;
  probeTimeoutMs: number;
  indirectProbes: number;
  renewMs: number;
  /** R */
  holderMs: number;
  /** L */
  voterMs: number;
  /** W */
  watchdogMs: number;
  failbackAfterMs: number;
  settleMs: number;
  candidacyTimeoutMs: number;
}

/** Which events are told, and how long that may take. */
export interface AlertConfig {
  filter: EventFilter;
  where: 'every-node' | 'origin';
  timeoutMs: number;
  /** Events that are older when the node learns of them are not told. */
  maxAgeMs: number;
}

export interface HookConfig extends AlertConfig {
  name: string;
  program: readonly string[];
  concurrency: number;
}

export interface Config {
  /** Path it was read from, for messages. */
  file: string;
  cluster: { name: string; uuid: string };
  self: NodeId;
  nodes: readonly NodeConfig[];
  keyFile: string;
  stateDir: string;
  /** `group`: null: as the directory gives it. */
  socket: { path: string; modeOctal: number; group: string | null };
  /** The read-only listener; null: none. `tokenFile` null: none is asked for, which loopback alone may do. */
  api: { address: string; port: number; tokenFile: string | null } | null;
  timing: Timing;
  profile: 'lan' | 'wan';
  /** Who decides on the lease. `witness`: a device of its own beside the members; null: none. */
  quorum: { by: 'nodes' | 'disks'; witness: string | null };
  fencing: {
    methods: readonly FencingMethod[];
    /**
     * Run with `name=value` lines on standard input: action=off, and either nodeid, nodename, address and cluster or, as a fence
     * agent wants them, `options` and the node's own; exit 0 = surely stopped.
     */
    command: {
      argv: readonly string[];
      timeoutMs: number;
      options: Readonly<Record<string, string>>;
      nodeOptions: Readonly<Record<string, Readonly<Record<string, string>>>>;
    } | null;
    watchdog: { device: string } | null;
    acceptDataLoss: boolean;
  };
  arrays: {
    /** Assemble every array of this cluster at start. */
    autoAssemble: boolean;
    /** Globs of devices that may be members. */
    devices: readonly string[];
    /** How old the last check of an array may get, and when one may begin. */
    check: CheckSchedule;
    /** What becomes of a member to which one node alone has lost its path. */
    pathLoss: PathLossOptions;
    /** How resync, recovery, check and repair are made: by one node, window by window. */
    copy: {
      /** What a copy may take, in KiB a second; null: what the disks give. An array's own limit goes before it. */
      limitKib: number | null;
      /** How long the copy of one window should take. */
      windowMs: number;
      windowMaxSectors: number;
      /** How often it is committed how far the copy is. */
      checkpointMs: number;
    };
  };
  /** Programs that events set off. */
  hooks: readonly HookConfig[];
  /** null: no mail. */
  mail: ({ to: string; from: string; command: readonly string[] } & AlertConfig) | null;
  driver: 'real' | 'simulated';
  log: { level: 'debug' | 'info' | 'warn' | 'error' };
  journal: {
    /** Entries are written and fsynced together, so long after the first of them. */
    fsyncAfterMs: number;
    /** A new file is begun once this one holds so much, or its first entry is so old. */
    rotateBytes: number;
    rotateMs: number;
    /** Files before the one that is written; null: all of them stay. */
    keepSegments: number | null;
    /** A checkpoint is signed when so many entries are under none, or one has been for so long. */
    checkpointEntries: number;
    checkpointAfterMs: number;
  };
}

export interface ConfigProblem {
  file: string;
  line: number | null;
  key: string;
  value: string;
  text: string;
  remedy: string;
}

export { checkConfig } from './check_config.ts';
export { MAIL_HOOK } from './checks.ts';
export { DEFAULT_FILE } from './defaults.ts';
export { type LoadOptions, loadConfig } from './load.ts';
export { type ParseOptions, type ParseResult, parseConfig } from './parse.ts';
export { formatProblems } from './problems.ts';
export { LAN, PROFILES, WAN } from './profiles.ts';
export { takenUp, usesReservations, whyNotReloaded } from './reload.ts';
export { readToken } from './token_file.ts';
