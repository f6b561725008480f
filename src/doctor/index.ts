/**
 * doctor: what would fail later, said now. `gather` asks this machine, its agent and the network once and returns plain facts; what
 * they mean is decided by `findings` (one node) and `compare` (several nodes' reports), which touch nothing.
 */
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

export { compare, readReport, reportsOfOthers } from './compare.ts';
export type { Facts, ModuleState } from './facts.ts';
export { findings, findingsThere, worstFirst } from './findings.ts';
export { gather, type Machine, machine } from './gather.ts';
