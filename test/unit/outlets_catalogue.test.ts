import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ArrayRecord } from '#src/arrays/record.ts';
import { catalogue, cloudEvents, eventLine, tellings } from '#src/outlets/index.ts';
import { CommitKind, type Request } from '#src/wire/messages.ts';
import {
  arrayUuid,
  clusterStatus,
  copying,
  event,
  failCommit,
  memberB,
  namesIn,
  notice,
  raid1,
  withFaulty,
} from './outlets_fake_agent.ts';

const names = namesIn(clusterStatus);

function commit(kind: CommitKind, record: ArrayRecord, detail: { member?: string; node?: number } = {}) {
  return event({ type: 'commit', kind, record, before: null, detail, certificate: [] });
}

const told = (kind: CommitKind, record: ArrayRecord, detail: { member?: string; node?: number } = {}) =>
  tellings(commit(kind, record, detail), names).map(({ name, subject }) => `${name} ${subject}`);

test('an array’s life is told in the words of mdadm --monitor', () => {
  const degraded = withFaulty(raid1(), memberB);
  const spare = raid1().members.map((member) => (member.uuid === memberB ? { ...member, slot: null } : member));
  assert.deepEqual(told('create', raid1()), ['NewArray md0']);
  assert.deepEqual(told('start', degraded), ['NewArray md0', 'DegradedArray md0']);
  assert.deepEqual(told('fail', degraded, { member: memberB }), ['Fail md0', 'DegradedArray md0']);
  assert.deepEqual(told('fail', { ...raid1(), members: spare }, { member: memberB }), ['FailSpare md0']);
  assert.deepEqual(told('stop', raid1()), ['DeviceDisappeared md0']);
});

test('what mdadm has no word for has the cluster’s own', () => {
  assert.deepEqual(told('admit', raid1(), { node: 2 }), ['WriterAdmitted md0']);
  assert.deepEqual(told('leave', raid1(), { node: 2 }), ['WriterLeft md0']);
  assert.deepEqual(told('evict', raid1(), { node: 3 }), ['WriterEvicted md0']);
  assert.deepEqual(told('new-term', raid1()), ['TermStarted md0']);
});

test('a copy is told in mdadm’s words by the master’s notices, once each; its commits have words of their own', () => {
  const { record } = copying(raid1(), { fromSector: 261_120, halted: true });
  for (const kind of ['resync-start', 'resync-checkpoint', 'resync-change', 'resync-done'] as const) {
    const [telling, ...more] = tellings(commit(kind, record, { member: memberB }), names);
    assert.deepEqual([telling.severity, more], ['info', []], kind);
    assert.match(telling.name, /^Copy(Ordered|Checkpoint|Changed|Ended)$/);
  }
  assert.equal(
    eventLine(commit('resync-change', record), names),
    '12:01:02.345  n2   CopyChanged        md0       recovery halted by node 1 from sector 261120',
  );
  const copy = (name: string, detail: Record<string, string | number | null>) =>
    tellings(event({ type: 'notice', name, severity: 'info', subject: 'md0', detail }), names)[0];
  const progress = copy('Rebuild40', { kind: 'recovery', percent: 40, by: 1, mismatchSectors: null });
  assert.deepEqual(
    [progress.name, progress.type, progress.text, progress.member],
    ['Rebuild40', 'io.mdmesh.array.rebuild-progress', 'recovery, 40 %, by node 1', null],
  );
  const checked = copy('RebuildFinished', { kind: 'check', percent: 100, by: 1, mismatchSectors: 128 });
  assert.equal(checked.text, 'check, 100 %, by node 1, 128 sectors differed');
  const active = copy('SpareActive', { kind: 'recovery', by: 1, member: memberB });
  assert.deepEqual(
    [active.type, active.member, active.text],
    ['io.mdmesh.array.spare-active', memberB, `recovery, by node 1, member ubdb (${memberB})`],
  );
});

test('names that mdadm’s monitor has are in the catalogue, with its idea of what is bad', () => {
  const critical = ['Fail', 'DegradedArray'] as const;
  const passing = ['RebuildStarted', 'Rebuild20', 'Rebuild40', 'Rebuild60', 'Rebuild80', 'RebuildFinished'] as const;
  for (const name of critical) assert.equal(catalogue[name].severity, 'critical', name);
  for (const name of [...passing, 'SpareActive'] as const)
    assert.match(catalogue[name].severity, /^(info|notice)$/, name);
});

test('every kind of commit has a name and a type of ours', () => {
  for (const kind of CommitKind.options) {
    for (const telling of tellings(commit(kind, raid1(), { member: memberB, node: 1 }))) {
      assert.match(telling.type, /^io\.mdmesh\.(array|node|cluster)\.[a-z-]+$/, kind);
    }
  }
});

test('observations name the array and the device as this node does; unknown ones keep their UUID', () => {
  const seen = event({
    type: 'observation',
    observation: { what: 'member-faulty', array: arrayUuid, member: memberB },
  });
  assert.match(eventLine(seen, names), /^12:01:02\.345 {2}n2 {3}FaultSeen {10}md0 {7}member ubdb \(dddd/);
  assert.match(eventLine(seen), new RegExp(`FaultSeen +${arrayUuid} +member ${memberB}`));
});

test('a notice is told under its own name, known or not', () => {
  assert.equal(tellings(notice('NodeDead'))[0].type, 'io.mdmesh.node.dead');
  assert.equal(tellings(notice('VoteRefused', 'demo'))[0].type, 'io.mdmesh.cluster.vote-refused');
  assert.equal(tellings(notice('ApplyFailed', 'md0'))[0].type, 'io.mdmesh.array.apply-failed');
  assert.match(eventLine(notice('NodeDead')), /NodeDead +node\/3 +reason=no ack$/);
});

test('an event line is the same from the wire event and from its CloudEvent', () => {
  const fail = failCommit();
  const line = `12:01:02.345  n2   Fail               md0       member ubdb (${memberB})`;
  assert.equal(eventLine(fail, names), line);
  assert.deepEqual(
    cloudEvents(fail, names, { cursor: 5, appendedAt: '2026-01-31T12:01:02.350Z' }).map((each) => eventLine(each)),
    [line, '12:01:02.345  n2   DegradedArray      md0       1 of 2 members active'],
  );
});

test('words from a peer cannot steer the terminal of whoever reads them', () => {
  const line = eventLine(event({ type: 'leave', reason: 'bye\u001b[2J\nforged line' }));
  assert.ok(!line.includes('\u001b') && !line.includes('\n'), line);
});

test('requests and votes are told too', () => {
  const request = { verb: 'fail', array: 'md0', device: '/dev/sdb' } as const;
  const asked = event({ type: 'request', requestId: arrayUuid, request, devices: [] });
  assert.match(eventLine(asked, names), /Requested +md0 +fail \/dev\/sdb$/);
  const line = (body: Request) =>
    eventLine(event({ type: 'request', requestId: arrayUuid, request: body, devices: [] }), names);
  assert.match(line({ verb: 'action', array: 'md0', action: 'check' }), /Requested +md0 +action check$/);
  assert.match(line({ verb: 'sync-limit', array: 'md0', limitKib: 51_200 }), /Requested +md0 +sync-limit 50MiB$/);
  assert.match(line({ verb: 'sync-limit', array: 'md0', limitKib: null }), /Requested +md0 +sync-limit none$/);
  assert.match(eventLine(event({ type: 'vote', term: 4, candidate: 1 }), names), /Voted +demo +for node 1 in term 4$/);
  assert.match(eventLine(event({ type: 'lease-release', term: 4, to: null }), names), /MasterReleased +demo +term 4$/);
});
