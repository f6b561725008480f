/** What several nodes' reports mean together. Pure, but for the schema of what is read. */
import { z } from 'zod';
import type { Facts, Finding } from './index.ts';

/** Two reports of one node tell its clock's rate only over a while: what they are told at is read some milliseconds apart. */
const RATE_OVER_MS_LEAST = 10_000;
/** Lease and grant are safe while clocks run within a half of each other; a hundredth is far more than a sound clock is off. */
const RATE_WARNING = 0.01;
const RATE_CRITICAL = 0.2;

const Report = z.object({ facts: z.custom<Facts>((value) => isFacts(value), 'is no report of mdmesh doctor --json') });

function isFacts(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'form' in value && value.form === 1 && 'config' in value;
}

/** @throws Error that names the file */
export function readReports(files: readonly { path: string; text: string }[]): Facts[] {
  return files.map(({ path, text }) => {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      value = null;
    }
    const parsed = Report.safeParse(value);
    if (!parsed.success) throw new Error(`report ${path}: is no report; make it with mdmesh doctor --json > ${path}`);
    return parsed.data.facts;
  });
}

export function compare(reports: readonly Facts[]): Finding[] {
  const newest = new Map<string, Facts>();
  for (const report of reports) {
    const before = newest.get(nameOf(report));
    if (before === undefined || before.at <= report.at) newest.set(nameOf(report), report);
  }
  const nodes = [...newest.values()];
  return [
    ...absent(nodes),
    ...drift(nodes, 'config.drift', 'critical', 'configurations differ', (each) => each.config.digest ?? 'unreadable', {
      reason: 'nodes that count with other lists or times can choose two masters',
      remedy: 'copy one file to all nodes, and restart their agents one after the other',
    }),
    ...drift(nodes, 'version.drift', 'warning', 'versions differ', (each) => each.version, {
      reason: 'only an upgrade under way should look like that',
      remedy: 'install the same version everywhere',
    }),
    ...keys(nodes),
    ...sight(nodes),
    ...cacheViews(nodes),
    ...rates(reports),
  ];
}

function nameOf({ config, hostname }: Facts): string {
  return config.self === null ? hostname : `node ${config.self}`;
}

function absent(nodes: readonly Facts[]): Finding[] {
  const listed = new Set(nodes.flatMap(({ config }) => config.nodes.map(({ id }) => id)));
  const missing = [...listed].filter((id) => !nodes.some(({ config }) => config.self === id));
  return missing.map((id) => ({
    check: 'compare.absent',
    severity: 'info',
    text: `there is no report of node ${id}`,
    reason: 'nothing is said about it',
    remedy: `run mdmesh doctor --json on node ${id}, and name its report as well`,
  }));
}

function drift(
  nodes: readonly Facts[],
  check: string,
  severity: Finding['severity'],
  what: string,
  of: (facts: Facts) => string,
  words: Pick<Finding, 'reason' | 'remedy'>,
): Finding[] {
  const groups = Map.groupBy(nodes, of);
  if (groups.size < 2) return [];
  const sides = [...groups].map(([value, sharing]) => `${value.slice(0, 12)} on ${sharing.map(nameOf).join(', ')}`);
  return [{ check, severity, text: `${what}: ${sides.join('; ')}`, ...words }];
}

/** Who uses which key: each its own, and the one that the others' lists name. */
function keys(nodes: readonly Facts[]): Finding[] {
  const found: Finding[] = [];
  for (const [peerId, sharing] of Map.groupBy(nodes, ({ key }) => key.peerId ?? '')) {
    if (peerId === '' || sharing.length < 2) continue;
    found.push({
      check: 'key.shared',
      severity: 'critical',
      text: `${sharing.map(({ hostname }) => hostname).join(' and ')} have the same key, ${peerId}`,
      reason: 'two machines under one identity vote twice',
      remedy: 'stop one of them, make it a key of its own (mdmesh keygen), and write the new peer ID into every list',
    });
  }
  for (const { config, key } of nodes) {
    for (const other of nodes) {
      const listed = other.config.nodes.find(({ id }) => id === config.self);
      if (config.self === null || listed === undefined || key.peerId === null || listed.peerId === key.peerId) continue;
      found.push({
        check: 'key.drift',
        severity: 'critical',
        text: `node ${config.self} has key ${key.peerId}, and ${nameOf(other)} expects ${listed.peerId}`,
        reason: 'the one refuses the other',
        remedy: `write node ${config.self}'s peer ID (mdmesh key) into every list`,
      });
    }
  }
  return found;
}

function sight(nodes: readonly Facts[]): Finding[] {
  const seeing = new Map<string, Set<string>>();
  for (const node of nodes) {
    for (const { uuid } of node.disks) {
      if (uuid === null) continue;
      seeing.set(uuid, (seeing.get(uuid) ?? new Set()).add(nameOf(node)));
    }
  }
  return [...seeing].flatMap(([uuid, by]) => {
    const blind = nodes.map(nameOf).filter((name) => !by.has(name));
    if (blind.length === 0) return [];
    return [
      {
        check: 'members.everywhere',
        severity: 'critical',
        text: `member ${uuid}: ${[...by].join(', ')} see${by.size === 1 ? 's' : ''} it, ${blind.join(', ')} ${blind.length === 1 ? 'does' : 'do'} not`,
        reason: 'data goes straight from each node to each member',
        remedy: 'see to the path there (zoning, cables, iSCSI login), and that arrays.devices covers it',
      },
    ];
  });
}

/** One disk has one cache: a node that takes it for safe sends no flushes, and loses what it was told is written. */
function cacheViews(nodes: readonly Facts[]): Finding[] {
  const views = nodes.flatMap((node) =>
    node.disks.map(({ uuid, path, writeCache }) => ({ name: nameOf(node), uuid, path, writeCache })),
  );
  return [...Map.groupBy(views, ({ uuid }) => uuid ?? '')].flatMap(([uuid, of]) => {
    const known = of.filter(({ writeCache }) => writeCache !== null);
    if (uuid === '' || new Set(known.map(({ writeCache }) => writeCache)).size < 2) return [];
    return [
      {
        check: 'disk.cache',
        severity: 'critical',
        text: `member ${uuid}: its cache is ${known.map(({ name, path, writeCache }) => `"${writeCache}" on ${name} (${path})`).join(', ')}`,
        reason: 'where it says "write through" no flush is sent, and what was acknowledged is lost with the power',
        remedy:
          'write "write back" into queue/write_cache of that disk, and find what changed it (a udev rule, the path’s driver)',
      },
    ];
  });
}

function rates(reports: readonly Facts[]): Finding[] {
  const rated: { name: string; rate: number }[] = [];
  for (const [, of] of Map.groupBy(reports, (each) => `${nameOf(each)} ${each.kernelBoot}`)) {
    const sorted = of.toSorted((a, b) => a.bootMs - b.bootMs);
    const [first, last] = [sorted[0], sorted.at(-1)];
    if (first === undefined || last === undefined) continue;
    const wallMs = Date.parse(last.at) - Date.parse(first.at);
    if (wallMs < RATE_OVER_MS_LEAST) continue;
    rated.push({ name: nameOf(first), rate: (last.bootMs - first.bootMs) / wallMs });
  }
  const slow = rated.toSorted((a, b) => a.rate - b.rate)[0];
  const fast = rated.toSorted((a, b) => b.rate - a.rate)[0];
  if (slow === undefined || fast === undefined || rated.length < 2) return [];
  const apart = fast.rate / slow.rate - 1;
  if (apart < RATE_WARNING) return [];
  return [
    {
      check: 'clock.rates',
      severity: apart < RATE_CRITICAL ? 'warning' : 'critical',
      text: `the clock of ${fast.name} runs ${(apart * 100).toFixed(1)} % faster than that of ${slow.name}`,
      reason: 'two masters are ruled out only while clocks run within a half of each other (voter against holder)',
      remedy: 'find out which is wrong (chronyc tracking, dmesg about tsc), and whether a hypervisor stops one of them',
    },
  ];
}
