/** An agent for the outlets' and the command's tests: a face that remembers what it was asked, and a journal in memory. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type ArrayRecord, type Copy, wholeCopy } from '#src/arrays/record.ts';
import type { Journal, JournalEntry } from '#src/journal/index.ts';
import type { Disk } from '#src/md/driver.ts';
import {
  type AgentFace,
  type ApiOptions,
  type ArrayStatus,
  type Names,
  type NodeReport,
  type Status,
  serveApi,
} from '#src/outlets/index.ts';
import type { Event, EventBody, Request } from '#src/wire/messages.ts';
import { member, record } from '../compliance/records.ts';

export const clusterUuid = 'c1c1c1c1-0000-4000-8000-000000000001';
export const boot = 'b0b0b0b0-0000-4000-8000-000000000002';
export const arrayUuid = 'aaaaaaaa-0000-4000-8000-00000000000a';
export const memberA = 'dddddddd-0000-4000-8000-00000000000a';
export const memberB = 'dddddddd-0000-4000-8000-00000000000b';

export function raid1(): ArrayRecord {
  const componentSectors = 522240;
  return record({
    uuid: arrayUuid,
    componentSectors,
    writers: [1, 2],
    events: 18,
    ctimeSeconds: 1_700_000_000,
    utimeSeconds: 1_700_000_100,
    members: [memberA, memberB].map((uuid, index) => member(index, { uuid, dataSizeSectors: componentSectors })),
  });
}

export function withFaulty(record: ArrayRecord, ...uuids: string[]): ArrayRecord {
  const members = record.members.map((each) =>
    uuids.includes(each.uuid) ? { ...each, role: 'faulty' as const } : each,
  );
  return { ...record, members, version: { ...record.version, index: record.version.index + 1 } };
}

/** The same array while node 1 copies; `told`: what it says of its progress, by default a recovery of man mdstat's examples. */
export function copying(
  record: ArrayRecord,
  resync: Partial<NonNullable<ArrayRecord['resync']>> = {},
  told: Partial<NonNullable<ArrayStatus['sync']>> | null = {},
): ArrayStatus {
  const committed: Copy = { ...wholeCopy('recovery', 1, 7), ...resync };
  const sync = {
    since: committed.since,
    sequence: 9,
    kind: committed.kind,
    by: committed.by,
    doneSectors: 74_086_784,
    totalSectors: 585_890_304,
    kibPerSecond: 33_440,
    mismatchSectors: null,
  };
  return { ...arrayStatus({ ...record, resync: committed }), sync: told === null ? null : { ...sync, ...told } };
}

export function withRole(record: ArrayRecord, uuid: string, role: 'rebuilding' | 'spare'): ArrayRecord {
  const change = role === 'spare' ? { role, slot: null } : { role };
  return { ...record, members: record.members.map((each) => (each.uuid === uuid ? { ...each, ...change } : each)) };
}

export function arrayStatus(record: ArrayRecord = raid1()): ArrayStatus {
  return {
    record,
    applied: record.version,
    released: record.version,
    local: {
      md: record.md,
      arrayUuid: record.uuid,
      arrayState: 'active',
      writePending: false,
      held: false,
      suspended: null,
      syncAction: 'frozen',
      syncCompleted: null,
      resyncStartSector: null,
      copyUnended: false,
      mismatchSectors: 0,
      degraded: 0,
      raidDisks: 2,
      sizeSectors: 2048,
      bitmap: null,
      members: record.members.map(({ uuid, slot }, index) => ({
        uuid,
        device: `ubd${'ab'[index]}`,
        slot,
        inSync: true,
        rebuilding: false,
        faulty: false,
        blocked: false,
        path: 'up' as const,
      })),
    },
    paths: { [memberA]: '/dev/ubda', [memberB]: '/dev/ubdb' },
    reports: [],
    sync: null,
    mismatchSectors: null,
    trouble: null,
  };
}

export function clusterStatus(arrays: ArrayStatus[] = [arrayStatus()]): Status {
  const node = (id: number) => ({
    node: id,
    address: `10.0.0.${id}`,
    self: id === 2,
    status: id === 3 ? ('dead' as const) : ('alive' as const),
    connected: id !== 3,
    version: id === 3 ? null : '0.1.0',
    refused: null,
    eligible: id !== 3,
    granted: id === 3 ? null : true,
    clockRate: id === 1 ? 1.0001 : null,
  });
  return {
    cluster: { name: 'demo', uuid: clusterUuid },
    self: 2,
    version: '0.1.0',
    protocol: { oldest: 1, newest: 1, level: 1 },
    startedAt: '2026-01-01T12:00:00.000Z',
    driver: 'real',
    lease: { role: 'follower', term: 3, master: 1, leaseLeftMs: 0, grantLeftMs: 1800 },
    nodes: [node(1), node(2), node(3)],
    arrays,
    list: { term: 0, generation: 0, digest: '', nodes: [1, 2, 3], pending: null, waitsFor: null },
    reservations: null,
    journal: { head: 0 },
    counters: {},
  };
}

/** As an agent of that status has them. */
export function namesIn(status: () => Status): Names {
  return {
    cluster: status().cluster.name,
    array: (uuid) => status().arrays.find(({ record }) => record.uuid === uuid)?.record.md ?? null,
    arrayNamed: (md) => status().arrays.find(({ record }) => record.md === md)?.record.uuid ?? null,
    member: (uuid) =>
      status()
        .arrays.map(({ paths }) => paths[uuid])
        .find((path) => path !== undefined) ?? null,
  };
}

export class FakeFace implements AgentFace {
  now: Status = clusterStatus();
  readonly names = namesIn(() => this.now);
  disks: Disk[] = [];
  readonly asked: Request[] = [];
  /** What it answers, and what it changes meanwhile. */
  answer: (request: Request) => { ok: boolean; text: string } = (request) => ({
    ok: true,
    text: `${request.verb} done`,
  });

  status(): Status {
    return this.now;
  }
  async request(request: Request): Promise<{ ok: boolean; text: string }> {
    this.asked.push(request);
    return this.answer(request);
  }
  handOvers = 0;
  async handOver(): Promise<{ ok: boolean; text: string }> {
    this.handOvers += 1;
    return { ok: true, text: 'process 4711 takes over' };
  }

  reloads = 0;
  async reloadConfig(): Promise<{ ok: boolean; text: string }> {
    this.reloads += 1;
    return { ok: true, text: 'nothing has changed; node list 0 counts' };
  }
  async scan(): Promise<Disk[]> {
    return this.disks;
  }
  others: NodeReport[] = [];
  async reports(): Promise<NodeReport[]> {
    return this.others;
  }
}

export class FakeJournal implements Journal {
  readonly entries: JournalEntry[] = [];
  /** Entries up to this cursor were rotated away. */
  rotatedTo = 0;
  readonly #listeners = new Set<(entry: JournalEntry) => void>();

  append(event: Event, sealed: string): JournalEntry {
    const entry = { cursor: this.entries.length + 1, hash: '', event, sealed, appendedAt: event.time };
    this.entries.push(entry);
    for (const listener of this.#listeners) listener(entry);
    return entry;
  }
  read(after: number, limit: number): { entries: JournalEntry[]; tooOld: boolean } {
    if (after < this.rotatedTo) return { entries: [], tooOld: true };
    return { entries: this.entries.slice(after, after + limit), tooOld: false };
  }
  head(): number {
    return this.entries.length;
  }
  onAppend(listener: (entry: JournalEntry) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
  listenerCount(): number {
    return this.#listeners.size;
  }
  async durable(): Promise<void> {}
  has(): boolean {
    return false;
  }
  vector(): [] {
    return [];
  }
  missing(): { sealed: string[]; more: boolean } {
    return { sealed: [], more: false };
  }
  landmarks(): [] {
    return [];
  }
  log(): null {
    return null;
  }
  async close(): Promise<void> {}
}

let sequence = 0;
export function event(body: EventBody, origin = 2): Event {
  sequence += 1;
  return {
    cluster: clusterUuid,
    origin,
    boot,
    bootNumber: 1,
    sequence,
    time: '2026-01-01T12:01:02.345Z',
    term: 3,
    body,
  };
}

export function notice(name: string, subject = 'node/3'): Event {
  return event({ type: 'notice', name, severity: 'warning', subject, detail: { reason: 'no ack' } });
}

export function failCommit(): Event {
  const record = withFaulty(raid1(), memberB);
  return event({
    type: 'commit',
    kind: 'fail',
    record,
    before: raid1().version,
    detail: { member: memberB },
    certificate: ['c2VhbGVk'],
  });
}

export const silentLog = { info() {}, warn() {}, error() {} };

export interface FakeAgent {
  face: FakeFace;
  journal: FakeJournal;
  directory: string;
  socketPath: string;
  port(): number;
  stop(): Promise<void>;
  start(): Promise<void>;
}

/** Serves the real API on a real socket in a directory of its own; ends with the test. */
export async function startFakeAgent(t: TestContext, more: Partial<ApiOptions> = {}): Promise<FakeAgent> {
  const directory = mkdtempSync(join(tmpdir(), 'mdmesh-outlets-'));
  const socketPath = join(directory, 'agent.sock');
  const face = new FakeFace();
  const journal = new FakeJournal();
  const serve = () => serveApi({ face, journal, socketPath, modeOctal: 0o600, log: silentLog, ...more });
  let served: Awaited<ReturnType<typeof serveApi>> | null = await serve();
  const agent: FakeAgent = {
    face,
    journal,
    directory,
    socketPath,
    port: () => served?.port ?? 0,
    async stop() {
      await served?.close();
      served = null;
    },
    async start() {
      served = await serve();
    },
  };
  t.after(async () => {
    await agent.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  return agent;
}
