/**
 * doctor: what would fail later, said now. `gather` asks this machine, its agent and the network once and returns plain facts; what
 * they mean is decided by `findings` (one node) and `compare` (several nodes' reports), which touch nothing.
 */
import type { NodeId } from '../arrays/record.ts';
import type { Status } from '../outlets/index.ts';

/** `info`: good to know. `warning`: works now, and will not when something fails. `critical`: does not work, or endangers data. */
export type FindingSeverity = 'info' | 'warning' | 'critical';

export interface Finding {
  /** Stable, for scripts: `autostart.udev`. */
  check: string;
  severity: FindingSeverity;
  text: string;
  reason: string;
  remedy: string;
}

export type ModuleState = 'loaded' | 'loadable' | 'missing';

export interface MemberFacts {
  uuid: string;
  /** This node's device; null: this node does not see it. */
  path: string | null;
  role: string;
}

export interface Facts {
  form: 1;
  /** RFC 3339, and CLOCK_BOOTTIME at the same moment. */
  at: string;
  bootMs: number;
  kernelBoot: string;
  version: string;
  hostname: string;
  kernel: {
    release: string;
    modules: Record<string, ModuleState>;
    /** An array with external metadata was made and taken away; null: it was, else why not. */
    mdTrouble: string | null;
    clocksource: string;
  };
  config: {
    file: string;
    problems: string[];
    /** Of what has to be the same on all nodes; null: it does not parse. */
    digest: string | null;
    cluster: { name: string; uuid: string } | null;
    self: NodeId | null;
    nodes: { id: NodeId; address: string; port: number; peerId: string }[];
    probeTimeoutMs: number;
    candidacyTimeoutMs: number;
    watchdogSeconds: number;
    methods: string[];
    quorum: 'nodes' | 'disks';
    watchdogDevice: string | null;
  };
  key: { file: string; peerId: string | null; modeOctal: string | null };
  autostart: {
    /** Rules and hooks that would assemble members, and ours that keep them from it. */
    mdadmRule: boolean;
    ownRule: boolean;
    mdadmInitramfs: boolean;
    ownInitramfs: boolean;
    /** ARRAY lines of mdadm.conf. */
    arrayLines: { file: string; line: number; uuid: string }[];
  };
  agent: {
    trouble: string | null;
    version: string | null;
    master: NodeId | null;
    mayWrite: boolean;
    nodes: { node: NodeId; status: string; connected: boolean }[];
    /** Paths of the disks that decide, as far as a set of them is known. */
    quorumDisks: { path: string; answers: boolean }[];
    /** null: not known. */
    privileges: NonNullable<Status['privileges']> | null;
  };
  arrays: { uuid: string; md: string; members: MemberFacts[]; direct: string[]; trouble: string | null }[];
  /** As the agent sees them; null: fencing does not ask for them. */
  reservations: Status['reservations'];
  disks: {
    path: string;
    uuid: string | null;
    arrayUuid: string | null;
    writeCache: string | null;
    fua: string | null;
  }[];
  watchdog: { identity: string | null; timeoutSeconds: number | null; state: string | null };
  peers: { node: NodeId; address: string; port: number; roundTripMs: number | null; trouble: string | null }[];
  journal: {
    directory: string;
    fileSystem: string | null;
    freeMib: number | null;
    /** A write made durable. */
    syncMs: number | null;
    /** The md device of this cluster that it lies on. */
    onArray: string | null;
    trouble: string | null;
  };
}

export { compare, readReports } from './compare.ts';
export { findings } from './findings.ts';
export { gather, type Machine, machine } from './gather.ts';
