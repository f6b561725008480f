/** What several nodes' reports mean together. Pure, but for the schema of what is read. */
import { z } from 'zod';
import type { NodeId } from '../arrays/record.ts';
import { CLOCK_CRITICAL, CLOCK_WARNING } from '../lease/index.ts';
import type { NodeReport } from '../outlets/index.ts';
import { Facts } from './facts.ts';
import type { Finding } from './index.ts';

const Report = z.object({ facts: Facts });

/** What the agents of the other nodes have passed on: the facts, and of each node without any why there are none. */
export function reportsOfOthers(reports: readonly NodeReport[]): { facts: Facts[]; absent: Map<NodeId, string> } {
  const facts: Facts[] = [];
  const absent = new Map<NodeId, string>();
  for (const { node, report, trouble } of reports) {
    const read = report === null ? (trouble ?? 'no answer') : readReport(report);
    if (typeof read === 'string') absent.set(node, read);
    else if (read.config.self !== node) absent.set(node, `its report is that of node ${read.config.self}`);
    else facts.push(read);
  }
  return { facts, absent };
}

/** What `mdmesh doctor --json` has printed. Words: it is none, and why. */
export function readReport(text: string): Facts | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return 'not JSON';
  }
  const { success, data, error } = Report.safeParse(value);
  if (success) return data.facts;
  const [issue] = error.issues;
  return `${issue?.path.map(String).join('.') ?? 'it'}: ${issue?.message ?? 'does not fit'}`;
}

/** @param why of a node without a report: why it has none */
export function compare(reports: readonly Facts[], why: ReadonlyMap<NodeId, string> = new Map()): Finding[] {
  const newest = new Map<string, Facts>();
  for (const report of reports) {
    const before = newest.get(nameOf(report));
    if (before === undefined || before.at <= report.at) newest.set(nameOf(report), report);
  }
  const nodes = [...newest.values()];
  return [
    ...absent(nodes, why),
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
    ...clocks(nodes),
  ];
}

function nameOf({ config, hostname }: Facts): string {
  return config.self === null ? hostname : `node ${config.self}`;
}

function absent(nodes: readonly Facts[], why: ReadonlyMap<NodeId, string>): Finding[] {
  const listed = new Set(nodes.flatMap(({ config }) => config.nodes.map(({ id }) => id)));
  const missing = [...listed].filter((id) => !nodes.some(({ config }) => config.self === id));
  return missing.map((id) => ({
    check: 'compare.absent',
    severity: 'info',
    text: `there is no report of node ${id}${why.has(id) ? `: ${why.get(id)}` : ''}`,
    reason: 'nothing is said about it',
    remedy: `see that its agent runs and is connected; or run mdmesh doctor --json there, and compare the files with --compare`,
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

/** As each agent hears the others' clocks in what is said about the lease. */
function clocks(nodes: readonly Facts[]): Finding[] {
  return nodes.flatMap((seen) =>
    seen.agent.nodes.flatMap(({ node, clockRate }) => {
      const apart = Math.abs((clockRate ?? 1) - 1);
      if (clockRate === null || apart < CLOCK_WARNING) return [];
      const percent = `${(apart * 100).toFixed(1)} % ${clockRate > 1 ? 'faster' : 'slower'}`;
      return [
        {
          check: 'clock.rates',
          severity: apart < CLOCK_CRITICAL ? 'warning' : 'critical',
          text: `the clock of node ${node} runs ${percent} than that of ${nameOf(seen)}`,
          reason: 'two masters are ruled out only while clocks run within a half of each other (voter against holder)',
          remedy:
            'find out which is wrong (chronyc tracking, dmesg about tsc), and whether a hypervisor stops one of them',
        } as const,
      ];
    }),
  );
}
