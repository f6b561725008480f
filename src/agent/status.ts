/** What an agent tells outlets of itself, from the states of its cores. */
import { doubtText } from '../arrays/commit_words.ts';
import type { LocalArray, NodeArrays } from '../arrays/local_state.ts';
import type { ArrayRecord, NodeId } from '../arrays/record.ts';
import { reportOf } from '../arrays/report.ts';
import { clockRate, type DiskSummary, disksOf, leaseSummary, type PeerClock } from '../lease/index.ts';
import { statuses } from '../members/index.ts';
import { levelOf } from '../net/index.ts';
import type { ArrayStatus, Names, QuorumStatus, Status } from '../outlets/index.ts';
import { idsOf, waitsFor } from '../roster/index.ts';
import { PROTOCOL } from '../version.ts';
import type { AgentState } from './agent_state.ts';
import type { DiskView } from './disk_view.ts';
import type { MemberKeys } from './member_keys.ts';
import type { AgentParts } from './parts.ts';
import { type QuorumDisks, wireSet } from './quorum_disks.ts';

interface Looked {
  parts: AgentParts;
  state: Readonly<AgentState>;
  /** null: fencing does not ask for them. */
  keys: Pick<MemberKeys, 'states'> | null;
  quorum: QuorumDisks | null;
  disks: DiskView;
  startedAt: string;
  clocks: ReadonlyMap<NodeId, PeerClock>;
  counters: Readonly<Record<string, number>>;
}

export function statusOf(agent: Looked): Status {
  const { peers, members, roster, local, master } = agent.state;
  const { config, net, journal, driver, version, privileges } = agent.parts;
  const { self } = config;
  const now = driver.now();
  const lease = leaseSummary(agent.state.lease);
  const connected = net.connected();
  const seen = statuses(members);
  const versions = net.versions();
  const others = peers.filter(({ id }) => id !== self);
  return {
    cluster: config.cluster,
    self,
    version,
    protocol: {
      ...PROTOCOL,
      level: levelOf(
        PROTOCOL,
        others.map(({ id }) => versions.get(id)),
      ),
    },
    startedAt: agent.startedAt,
    driver: driver.kind,
    lease: {
      role: lease.role,
      term: lease.term,
      master: lease.master,
      leaseLeftMs: Math.max(0, Math.round((lease.leaseUntilMs ?? now) - now)),
      grantLeftMs: Math.max(0, Math.round((lease.grantUntilMs ?? now) - now)),
    },
    ...(lease.disks === null ? {} : { quorum: quorumStatus(lease.disks, agent.quorum) }),
    list: {
      ...roster.agreed.version,
      nodes: idsOf(roster.agreed),
      pending: roster.pending === null ? null : idsOf(roster.pending),
      waitsFor: waitsFor(roster),
    },
    nodes: peers.map((node) => {
      const member = seen.get(node.id);
      const isSelf = node.id === self;
      const clock = agent.clocks.get(node.id);
      return {
        node: node.id,
        address: node.address,
        self: isSelf,
        status: isSelf ? 'alive' : (member?.status ?? 'unknown'),
        connected: isSelf || connected.includes(node.id),
        version: isSelf ? version : (versions.get(node.id)?.version ?? null),
        refused: isSelf ? null : (versions.get(node.id)?.refused ?? null),
        eligible: member?.eligible ?? false,
        clockRate: clock === undefined ? null : clockRate(clock),
        granted: master.leading ? master.grantable.includes(node.id) : isSelf ? (lease.grantUntilMs ?? 0) > now : null,
      };
    }),
    reservations:
      agent.keys === null
        ? null
        : {
            used: local.keys !== null,
            shutOut: local.keys?.shutOut === true,
            members: Object.fromEntries(agent.keys.states),
          },
    arrays: [...local.arrays.values()].map((array) => arrayStatus(agent, array)),
    ...(privileges === undefined ? {} : { privileges }),
    journal: { head: journal.head() },
    counters: { ...agent.counters, ...net.counters() },
  };
}

export function namesOf({ parts, state, disks }: Pick<Looked, 'parts' | 'state' | 'disks'>): Names {
  return {
    cluster: parts.config.cluster.name,
    array: (uuid) => state.local.arrays.get(uuid)?.record.md ?? null,
    arrayNamed: (md) => [...state.local.arrays.values()].find(({ record }) => record.md === md)?.record.uuid ?? null,
    member: (uuid) => disks.paths.get(uuid) ?? null,
  };
}

function keysTrouble(local: NodeArrays, record: ArrayRecord): string | null {
  if (local.keys?.shutOut !== true) return null;
  return `${record.md}: this node was shut out (its reservation keys were taken off the members); its writes are held until the cluster takes it back`;
}

function quorumStatus({ set, quorate, disks }: DiskSummary, quorum: QuorumDisks | null): QuorumStatus {
  return {
    set: set === null ? null : wireSet(set),
    quorate,
    disks: disks.map(({ disk, answers, blocks }) => {
      const holder = [...blocks.values()].find((block) => block !== 'torn' && block.phase === 'holding');
      return {
        disk,
        path: quorum?.pathOf(disk) ?? disk,
        decides: set !== null && disksOf(set).includes(disk),
        answers,
        holder: holder === undefined || holder === 'torn' ? null : { node: holder.node, term: holder.term },
        torn: [...blocks].filter(([, block]) => block === 'torn').map(([node]) => node),
      };
    }),
  };
}

function arrayStatus({ disks, state: { local, master }, parts }: Looked, array: LocalArray): ArrayStatus {
  const { record } = array;
  const paths: Record<string, string> = {};
  for (const member of record.members) {
    const path = disks.paths.get(member.uuid);
    if (path !== undefined) paths[member.uuid] = path;
  }
  const reports: ArrayStatus['reports'] = [];
  if (master.leading) {
    for (const [node, { reports: of }] of master.nodes) {
      const report = of.get(record.uuid);
      if (report !== undefined) reports.push({ node, report });
    }
  } else reports.push({ node: local.self, report: reportOf(local, array, parts.driver.now()) });
  const sync = record.resync === null ? null : array.progress;
  return {
    record,
    applied: array.applied,
    released: array.released?.version ?? null,
    local: array.observation ?? null,
    paths,
    reports,
    sync,
    // The last word of a copier may come after the commit that ends its copy, or not at all.
    mismatchSectors: sync?.mismatchSectors ?? record.lastCheck?.mismatchSectors ?? null,
    trouble:
      array.trouble ??
      keysTrouble(local, record) ??
      doubtText(record) ??
      master.arrays.get(record.uuid)?.trouble ??
      null,
  };
}
