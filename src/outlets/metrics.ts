/**
 * `/metrics`: what this node sees, as numbers, put together when somebody asks; nothing is counted or kept for it meanwhile. Base
 * units. What node_exporter tells of this node's md (node_md_*) is not said again: arrays here are as the cluster committed them.
 */
import {
  Counter,
  Gauge,
  type OpenMetricsContentType,
  openMetricsContentType,
  type PrometheusContentType,
  Registry,
} from 'prom-client';
import type { Status } from './status.ts';

const SECTOR_BYTES = 512;

export interface Measured {
  status: Status;
  /** Who follows events or the status. */
  followers: number;
}

type AnyRegistry = Registry<PrometheusContentType> | Registry<OpenMetricsContentType>;

/** @returns the body and its whole content type */
export async function metricsText(measured: Measured, isOpenMetrics: boolean): Promise<{ text: string; type: string }> {
  const registry = isOpenMetrics ? openMetricsRegistry() : new Registry<PrometheusContentType>();
  fill(registry, measured);
  return { text: await registry.metrics(), type: registry.contentType };
}

function openMetricsRegistry(): Registry<OpenMetricsContentType> {
  const registry = new Registry<OpenMetricsContentType>();
  registry.setContentType(openMetricsContentType);
  return registry;
}

function fill(registry: AnyRegistry, { status, followers }: Measured): void {
  const registers = [registry];
  const gauge = (name: string, help: string, value: number) => new Gauge({ name, help, registers }).set(value);
  const counter = (name: string, help: string, value: number) => new Counter({ name, help, registers }).inc(value);
  const { lease, nodes, counters } = status;

  labelled('mdmesh_info', 'The cluster and this node of it.', ['cluster', 'node', 'version']).set(
    { cluster: status.cluster.name, node: String(status.self), version: status.version },
    1,
  );
  gauge('mdmesh_start_time_seconds', 'When this agent began, since the epoch.', Date.parse(status.startedAt) / 1000);
  gauge('mdmesh_master', '1: this node is the master.', Number(lease.role === 'master'));
  gauge('mdmesh_master_known', '1: this node knows who is the master.', Number(lease.master !== null));
  gauge('mdmesh_term', 'Term that this node follows.', lease.term);
  gauge('mdmesh_lease_remaining_seconds', 'Left of the lease, if this node is the master.', lease.leaseLeftMs / 1000);
  gauge('mdmesh_grant_remaining_seconds', 'Left of what lets this node write.', lease.grantLeftMs / 1000);

  const seen = labelled('mdmesh_nodes', 'Nodes of the list by the status that they have here.', ['status']);
  for (const is of ['alive', 'suspect', 'dead', 'left', 'unknown']) {
    seen.set({ status: is }, nodes.filter((node) => node.status === is).length);
  }
  gauge(
    'mdmesh_nodes_connected',
    'Nodes of the list that are connected to this one, itself among them.',
    nodes.filter((node) => node.connected).length,
  );

  const info = labelled('mdmesh_array_info', 'An array.', ['array', 'uuid', 'level', 'access']);
  const perArray = (name: string, help: string) => labelled(name, help, ['array']);
  const missing = perArray(
    'mdmesh_array_missing_members',
    'Slots without a member in sync, by the newest commit known here.',
  );
  const spares = perArray('mdmesh_array_spares', 'Spares, by the newest commit known here.');
  const writers = perArray('mdmesh_array_writers', 'Nodes that may write, by the newest commit known here.');
  const held = perArray(
    'mdmesh_array_writes_held',
    '1: no write passes on this node, or it has not assembled the array.',
  );
  const lost = perArray('mdmesh_array_lost_paths', 'Members to which this node has lost its path.');
  const troubled = perArray('mdmesh_array_trouble', '1: this node cannot bring the array to its committed state.');
  const copying = perArray(
    'mdmesh_array_copy_ratio',
    'How much of a resync, recovery, check or repair is done; 1: none is under way.',
  );
  const speed = perArray(
    'mdmesh_array_copy_bytes_per_second',
    'How fast that goes; 0: none is under way, or nothing is known.',
  );
  const differ = perArray(
    'mdmesh_array_mismatch_bytes',
    'In which copies differed, by the last check or repair that was committed.',
  );
  const checked = perArray('mdmesh_array_last_check_timestamp_seconds', 'When that was, since the epoch; 0: never.');
  for (const { record, local, sync, trouble } of status.arrays) {
    const array = record.md;
    const { members, lastCheck } = record;
    info.set({ array, uuid: record.uuid, level: record.level, access: record.access }, 1);
    missing.set({ array }, Math.max(0, record.raidDisks - members.filter(({ role }) => role === 'active').length));
    spares.set({ array }, members.filter(({ role }) => role === 'spare').length);
    writers.set({ array }, record.writers.length);
    held.set({ array }, Number(local === null || local.held || local.writePending));
    lost.set({ array }, local?.members.filter(({ path }) => path === 'lost' || path === 'failing').length ?? 0);
    troubled.set({ array }, Number(trouble !== null));
    copying.set({ array }, record.resync === null ? 1 : doneRatio(sync));
    speed.set({ array }, (sync?.kibPerSecond ?? 0) * 1024);
    differ.set({ array }, (lastCheck?.mismatchSectors ?? 0) * SECTOR_BYTES);
    checked.set({ array }, lastCheck?.atSeconds ?? 0);
  }

  const of = (name: string) => counters[name] ?? 0;
  counter(
    'mdmesh_journal_entries_total',
    'Entries in the journal of this node, also those that were rotated away.',
    status.journal.head,
  );
  counter('mdmesh_commits_total', 'Commits that this node made as the master.', of('commits'));
  counter(
    'mdmesh_messages_refused_total',
    'What came in and was refused: forged, malformed, of strangers.',
    of('refused'),
  );
  counter('mdmesh_stale_terms_total', 'Messages of terms that were over.', of('staleTerms'));
  counter('mdmesh_events_duplicate_total', 'Events that came once more.', of('duplicates'));
  counter('mdmesh_catchups_total', 'Times that another node was asked for events.', of('catchups'));
  const frames = new Counter({
    name: 'mdmesh_frames_total',
    help: 'Frames to and from other nodes.',
    labelNames: ['direction'],
    registers,
  });
  frames.inc({ direction: 'in' }, of('framesIn'));
  frames.inc({ direction: 'out' }, of('framesOut'));
  gauge('mdmesh_api_followers', 'Readers that follow events or the status.', followers);
  const { user, system } = process.cpuUsage();
  counter('process_cpu_seconds_total', 'Processor time of the agent.', (user + system) / 1e6);
  gauge('process_resident_memory_bytes', 'Memory of the agent.', process.memoryUsage.rss());

  function labelled<L extends string>(name: string, help: string, labelNames: L[]): Gauge<L> {
    return new Gauge({ name, help, labelNames, registers });
  }
}

function doneRatio(sync: Status['arrays'][number]['sync']): number {
  return sync === null || sync.totalSectors === 0 ? 0 : sync.doneSectors / sync.totalSectors;
}
