/** For each name in the catalogue an event that is told under it: examples for the documents, and for tests of every kind of event. */
import type { ArrayRecord } from '../src/arrays/record.ts';
import { catalogue, type EventName, type Names } from '../src/outlets/catalogue.ts';
import { DESCRIPTIONS, type Description } from '../src/outlets/event_descriptions.ts';
import { CommitKind, type Event, type EventBody, type Observation, type Request } from '../src/wire/messages.ts';

export const sampleArray = 'aaaaaaaa-0000-4000-8000-00000000000a';
const memberA = 'dddddddd-0000-4000-8000-00000000000a';
const memberB = 'dddddddd-0000-4000-8000-00000000000b';
const boot = 'b0b0b0b0-0000-4000-8000-000000000002';

export const sampleNames: Names = {
  cluster: 'demo',
  array: () => 'md0',
  arrayNamed: (md) => (md === 'md0' ? sampleArray : null),
  member: (uuid) => ({ [memberA]: '/dev/sdb', [memberB]: '/dev/sdc' })[uuid] ?? null,
};

/** An event for each place in the wire that a name of the catalogue comes from. */
export function samplesOf(name: EventName): Event[] {
  const { from, also }: Description = DESCRIPTIONS[name];
  return [from, ...(also === undefined ? [] : [also])].flatMap((origin) => {
    if ('commit' in origin) {
      const kinds = origin.also === undefined ? [origin.commit] : [origin.commit, origin.also];
      return kinds.map((kind) => sampleEvent(commitOf(kind, name)));
    }
    if ('observation' in origin)
      return [sampleEvent({ type: 'observation', observation: observationOf(origin.observation) })];
    if ('body' in origin) return [sampleEvent(bodyOf(origin.body))];
    const { type, severity } = catalogue[name];
    const subject = type.startsWith('io.mdmesh.array.')
      ? 'md0'
      : type.startsWith('io.mdmesh.node.')
        ? 'node/3'
        : 'demo';
    return [sampleEvent({ type: 'notice', name, severity, subject, detail: origin.example })];
  });
}

/** One of every kind of commit, and of everything else that two agents tell each other. */
export function everyBody(): EventBody[] {
  const observations: Observation['what'][] = ['member-faulty', 'resync-done', 'marks-taken'];
  const others = ['request', 'vote', 'disk-lease', 'lease-release', 'checkpoint', 'cosignature', 'leave'] as const;
  return [
    ...CommitKind.options.map((kind) => commitOf(kind, 'NewArray')),
    ...observations.map((what): EventBody => ({ type: 'observation', observation: observationOf(what) })),
    ...others.map(bodyOf),
  ];
}

export function sampleEvent(body: EventBody): Event {
  return {
    cluster: '5c9e6c1f-6f0d-4f0b-9a55-0d9b1a3c7e42',
    origin: 2,
    boot,
    bootNumber: 7,
    sequence: 41,
    time: '2026-01-31T12:01:02.345Z',
    term: 3,
    body,
  };
}

function commitOf(kind: CommitKind, name: EventName): EventBody {
  const role = kind === 'fail' ? ('faulty' as const) : ('active' as const);
  const record: ArrayRecord = {
    uuid: sampleArray,
    name: 'demo:md0',
    md: 'md0',
    level: 'raid1',
    layout: 0,
    chunkSectors: 0,
    raidDisks: 2,
    componentSectors: 522_240,
    ctimeSeconds: 1_767_225_600,
    access: 'shared',
    owner: null,
    run: kind === 'stop' ? 'stopped' : 'started',
    writers: [1, 2],
    writerBoots: [],
    resync: { kind: 'recovery', fromSector: 0, by: 1, since: 7, halted: false, markedBy: null },
    syncLimitKib: null,
    bitmap: null,
    lastCheck: null,
    events: 18,
    utimeSeconds: 1_769_860_862,
    members: [
      { uuid: memberA, devNumber: 0, role: 'active', slot: 0, dataOffsetSectors: 2048, dataSizeSectors: 522_240 },
      {
        uuid: memberB,
        devNumber: 1,
        role,
        slot: name === 'FailSpare' ? null : 1,
        dataOffsetSectors: 2048,
        dataSizeSectors: 522_240,
      },
    ],
    version: { term: 3, index: 8 },
  };
  const detail = { member: memberB, node: 2 };
  return { type: 'commit', kind, record, before: { term: 3, index: 7 }, detail, certificate: ['c2VhbGVk'] };
}

function observationOf(what: Observation['what']): Observation {
  switch (what) {
    case 'member-faulty':
      return { what, array: sampleArray, member: memberB };
    case 'resync-done':
      return { what, array: sampleArray, since: 7, mismatchSectors: null };
    case 'marks-taken':
      return { what, array: sampleArray, since: 7, kept: true };
  }
}

function bodyOf(type: Exclude<EventBody['type'], 'commit' | 'observation' | 'notice'>): EventBody {
  const origin = 'mdmesh/5c9e6c1f-6f0d-4f0b-9a55-0d9b1a3c7e42/node/2/00112233aabbccdd';
  const root = Buffer.alloc(32, 7).toString('base64');
  const request: Request = { verb: 'fail', array: 'md0', device: '/dev/sdc' };
  switch (type) {
    case 'request':
      return { type, requestId: 'eeeeeeee-0000-4000-8000-00000000000e', request, devices: [] };
    case 'vote':
      return { type, term: 4, candidate: 1 };
    case 'disk-lease':
      return {
        type,
        term: 4,
        set: { version: { term: 4, index: 0 }, disks: ['dddddddd-0000-4000-8000-00000000000b'], former: null },
      };
    case 'lease-release':
      return { type, term: 3, to: 1 };
    case 'checkpoint':
      return { type, note: `${origin}\n256\n${root}\n\n— ${origin} c2ln\n`, previous: 0, proof: [] };
    case 'cosignature':
      return { type, of: { origin, size: 256, root }, line: '— node/1 c2ln' };
    case 'node-list': {
      const version = { term: 3, generation: 1, digest: '0f3c' };
      const before = { version, nodes: nodesOf(1, 2, 3), holderMs: 2000, voterMs: 3000, ended: [] };
      const list = { ...before, version: { ...version, term: 4, generation: 2 }, nodes: nodesOf(1, 2, 3, 4) };
      return { type, list, before };
    }
    case 'leave':
      return { type, reason: 'SIGTERM' };
  }
}

function nodesOf(...ids: number[]): { id: number; peerId: string }[] {
  return ids.map((id) => ({ id, peerId: `12D3KooW…${id}` }));
}
