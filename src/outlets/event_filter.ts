/** Which events somebody wants: the same words for subscribers and for hooks. */
import type { CloudEvent } from './told.ts';

/** The worst last. */
export const SEVERITIES = ['info', 'notice', 'warning', 'critical'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** What is absent, or an empty list, lets all through; of a list one has to fit. */
export interface EventFilter {
  /** Names (`Fail`), CloudEvents types, or the beginning of types (`io.mdmesh.array.*`). */
  types?: readonly string[] | undefined;
  /** md names or UUIDs. */
  arrays?: readonly string[] | undefined;
  /** The node that it is about, or that it comes from. */
  nodes?: readonly number[] | undefined;
  /** At least so severe. */
  severity?: Severity | undefined;
}

export function passes(filter: EventFilter, { subject, type, severity, data }: CloudEvent): boolean {
  const { types = [], arrays = [], nodes = [], severity: least = 'info' } = filter;
  if (SEVERITIES.indexOf(severity) < SEVERITIES.indexOf(least)) return false;
  if (types.length > 0 && !types.some((word) => word === data.name || isOfType(type, word))) return false;
  if (arrays.length > 0 && !arrays.some((array) => array === subject || array === data.array)) return false;
  return nodes.length === 0 || nodes.some((node) => node === data.origin || subject === `node/${node}`);
}

/** Something that is neither a name nor a type is a typo, and would never let anything through. */
export function isTypeWord(word: string): boolean {
  return /^[A-Z][A-Za-z0-9]{0,59}$|^io\.mdmesh\.([a-z0-9-]+\.)*([a-z0-9-]+|\*)$/.test(word);
}

function isOfType(type: string, wanted: string): boolean {
  return wanted.endsWith('*') ? type.startsWith(wanted.slice(0, -1)) : type === wanted;
}
