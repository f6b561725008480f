/** The most urgent difference between an array's record and what nodes report, or operators ask for: the next commit. */
import { changeFor } from './asked_changes.ts';
import {
  checked,
  checkpoint,
  copierFor,
  isBlind,
  marksAfter,
  mendedBefore,
  recoveryStart,
  scheduledCheck,
  withDoubt,
  withoutCopy,
  withResync,
} from './copies.ts';
import { admittedUnder, hasEnded } from './ended.ts';
import { allowed, failMember } from './failures.ts';
import { isDegradedParity, isWritten, mayTouch, rebuildingMembers, touches } from './levels.ts';
import type { AskedChange, MasterArray, MasterNode, MasterState, NextChange } from './master_state.ts';
import { type ArrayRecord, compareVersions, copyAnew, type MemberRecord, type NodeId } from './record.ts';
import { replacementOver } from './shape.ts';

export function without(nodes: readonly NodeId[], gone: readonly NodeId[]): NodeId[] {
  return nodes.filter((node) => !gone.includes(node));
}

function withWriters(record: ArrayRecord, writers: readonly NodeId[]): ArrayRecord {
  return {
    ...record,
    writers: [...writers],
    writerBoots: record.writerBoots.filter((boot) => writers.includes(boot.node)),
  };
}

/**
 * The nodes of `touching` that may be counted as not touching the array any more, and whether the legs may differ. `over`: those whose
 * boot under which they did is over; nobody waits for these.
 */
export function goneFrom(
  state: MasterState,
  record: ArrayRecord,
  touching: readonly NodeId[],
): { clean: NodeId[]; dirty: NodeId[]; over: NodeId[] } {
  const clean: NodeId[] = [];
  const dirty: NodeId[] = [];
  const over: NodeId[] = [];
  for (const id of touching) {
    const node = state.nodes.get(id);
    if (node === undefined || node.fencing === 'stopped') {
      dirty.push(id);
      over.push(id);
      continue;
    }
    if (node.kernelBoot === null) continue;
    if (record.writers.includes(id) && node.kernelBoot !== admittedUnder(record, id)) {
      (hasEnded(node.ended, record, id) ? clean : dirty).push(id);
      over.push(id);
      continue;
    }
    const report = node.reports.get(record.uuid);
    if (report === undefined || report.applied === null) continue;
    const current = compareVersions(report.applied, record.version) === 0;
    if (current && report.state === 'absent' && record.run === 'stopped') clean.push(id);
    else if (report.state === 'held' && (node.leaving || (current && isBlind(record, id)))) clean.push(id);
  }
  return { clean, dirty, over };
}

/** Exclusive arrays follow a living owner; the master takes over from one that is gone. */
function ownerAfter(state: MasterState, record: ArrayRecord, gone: readonly NodeId[]): NodeId | null {
  if (record.access === 'shared') return null;
  return record.owner === null || gone.includes(record.owner) ? state.self : record.owner;
}

/** The owner left without ever having been a writer of this record: nothing of it can be in flight. */
function ownerIsGone(state: MasterState, record: ArrayRecord, now: number): boolean {
  const { owner } = record;
  if (record.access === 'shared' || owner === null || touches(record, owner)) return false;
  const status = state.nodes.get(owner)?.status ?? 'dead';
  if (owner === state.self) return false;
  return status === 'dead' || status === 'left' || (status === 'unknown' && now - state.electedAtMs >= state.graceMs);
}

/** These nodes see everything again. */
function seeing({ blind = [], ...record }: ArrayRecord, nodes: readonly NodeId[]): ArrayRecord {
  const left = without(blind, nodes);
  return left.length === 0 ? record : { ...record, blind: left };
}

export function nextChange(
  state: MasterState,
  array: MasterArray,
  now: number,
): NextChange | { refuse: AskedChange; text: string } | null {
  const { record } = array;
  if (record === null) {
    const first = array.asked[0];
    if (first === undefined || first.change.what !== 'introduce') return null;
    return {
      kind: first.change.kind,
      record: { ...first.change.record, version: { term: state.term, index: 0 } },
      detail: first.requestId === null ? {} : { requestId: first.requestId },
      fields: { asked: array.asked.slice(1) },
    };
  }
  // First of all: what has missed a commit must not miss another one, or nobody could go on from it after a power cut.
  const faulty = array.faults.find((uuid) => record.members.some((m) => m.uuid === uuid && m.role !== 'faulty'));
  if (faulty !== undefined && allowed(record, faulty)) {
    return {
      kind: 'fail',
      record: failMember(record, faulty),
      detail: { member: faulty },
      fields: { faults: array.faults.filter((uuid) => uuid !== faulty) },
    };
  }
  const gone = goneFrom(state, record, mayTouch(record));
  if (gone.dirty.length > 0) {
    const all = [...gone.dirty, ...gone.clean];
    const left: ArrayRecord = {
      ...withWriters(record, without(record.writers, all)),
      owner: ownerAfter(state, record, gone.dirty),
      events: record.events + 1,
    };
    const node = gone.dirty[0];
    const doubtful = isDegradedParity(left) && gone.dirty.some((id) => record.writers.includes(id));
    return {
      kind: 'evict',
      record: doubtful ? withDoubt(left) : withResync(left, copierFor(state, left), marksAfter(record, gone.dirty)),
      detail: node === undefined ? {} : { node },
      fields: { copied: false },
    };
  }
  const { keep } = array;
  if (keep !== null) {
    return {
      kind: 'path-lost',
      // Nothing changes, but that the member takes a write of the master's.
      record: { ...record, events: record.events + 1 },
      detail: keep,
      fields: { keep: null, paths: { ...array.paths, kept: [...array.paths.kept, keep] } },
    };
  }
  const mended = mendedBefore(state, array, record);
  if (mended !== null) return mended;
  if (array.copied && record.resync !== null) {
    const member = rebuildingMembers(record)[0]?.uuid;
    return {
      kind: 'resync-done',
      record: checked(state, withoutCopy(record, record.resync), record.resync, array.mismatchSectors),
      detail: member === undefined ? {} : { member },
      fields: { copied: false, progress: null },
    };
  }
  // A copier that is no writer leaves nothing that a commit could change: one would follow the other for ever.
  const [node] = gone.clean.filter((id) => record.writers.includes(id));
  if (node !== undefined) {
    const writers = without(record.writers, gone.clean);
    return {
      kind: 'leave',
      record: { ...withWriters(record, writers), events: record.events + (writers.length === 0 ? 1 : 0) },
      detail: { node },
      fields: {},
    };
  }
  const replaced = replacementOver(record);
  if (replaced !== null) {
    return { kind: 'replaced', record: replaced.record, detail: { member: replaced.member }, fields: {} };
  }
  const taken = array.marksTaken;
  if (taken !== null && record.resync?.since === taken.since) {
    const markedBy = taken.kept ? [record.resync.by] : null;
    return {
      kind: 'resync-marks',
      record: { ...record, resync: { ...record.resync, markedBy }, events: record.events + 1 },
      detail: {},
      fields: { marksTaken: null },
    };
  }
  const asked = array.asked[0];
  if (asked !== undefined) return changeFor(state, array, record, asked);
  if (ownerIsGone(state, record, now)) {
    return {
      kind: 'move',
      record: { ...record, owner: state.self, events: record.events + 1 },
      detail: { node: state.self },
      fields: {},
    };
  }
  if (record.resync !== null && record.resync.by !== copierFor(state, record)) {
    return {
      kind: 'resync-start',
      record: { ...record, resync: copyAnew(record, copierFor(state, record)) },
      detail: {},
      fields: { copied: false, progress: null },
    };
  }
  if (record.run === 'started') {
    const admitted = [...state.nodes].filter(([id, node]) => mayAdmit(state, record, id, node)).map(([id]) => id);
    if (admitted.length > 0) {
      const writers = [...record.writers, ...admitted].sort((a, b) => a - b);
      const node = admitted[0];
      const writerBoots = [...record.writerBoots];
      for (const id of admitted) {
        const kernelBoot = state.nodes.get(id)?.kernelBoot;
        const bitmap = state.nodes.get(id)?.reports.get(record.uuid)?.bitmap === true;
        if (kernelBoot != null) writerBoots.push({ node: id, kernelBoot, bitmap });
      }
      return {
        kind: 'admit',
        // The first writer makes the superblocks dirty; later ones change the mesh area only.
        record: {
          ...seeing(record, admitted),
          writers,
          writerBoots,
          events: record.events + (record.writers.length === 0 ? 1 : 0),
        },
        detail: node === undefined ? {} : { node },
        fields: {},
      };
    }
  }
  return (
    bitmapsKept(state, record) ??
    recoveryStart(state, record) ??
    checkpoint(state, array, record, now) ??
    scheduledCheck(state, array, record)
  );
}

/** Writers that have laid the record's bitmaps since they were admitted: what they write is marked from then on. */
function bitmapsKept(state: MasterState, record: ArrayRecord): NextChange | null {
  if (record.bitmap === null) return null;
  const writerBoots = record.writerBoots.map((boot) => {
    const { kernelBoot, reports } = state.nodes.get(boot.node) ?? {};
    const report = reports?.get(record.uuid);
    const current = report?.applied != null && compareVersions(report.applied, record.version) === 0;
    const keeps = current && report.bitmap && kernelBoot === boot.kernelBoot;
    return keeps && !boot.bitmap ? { ...boot, bitmap: true } : boot;
  });
  const node = writerBoots.find((boot, index) => boot !== record.writerBoots[index])?.node;
  return node === undefined
    ? null
    : { kind: 'bitmap-kept', record: { ...record, writerBoots }, detail: { node }, fields: {} };
}

function mayAdmit(state: MasterState, record: ArrayRecord, id: NodeId, node: MasterNode): boolean {
  if (record.writers.includes(id) || node.fencing !== 'no' || node.leaving || node.kernelBoot === null) return false;
  if (id !== state.self && node.status !== 'alive') return false;
  if (!state.admits.includes(id)) return false;
  if (record.access === 'exclusive' && record.owner !== id) return false;
  if (record.parityInDoubt === true) return false;
  const report = node.reports.get(record.uuid);
  if (report === undefined || report.applied === null || report.trouble !== null) return false;
  if (compareVersions(report.applied, record.version) !== 0 || report.state !== 'held') return false;
  const needs = (member: MemberRecord): boolean => {
    // What made it leave may be about to be written.
    const awaited = isBlind(record, id) && member.role === 'spare' && member.allowMissing === true;
    return isWritten(member) || awaited;
  };
  return record.members.every((member) => !needs(member) || report.visible.includes(member.uuid));
}
