/** What operators ask for, checked against the record: it becomes the next commit, or is refused in words. */
import type { CommitKind } from '../wire/messages.ts';
import { doubtText } from './commit_words.ts';
import { checked, copierFor, copyOf, furthered, unseenBy } from './copies.ts';
import { allowed, failMember } from './failures.ts';
import { activeMembers, canDiffer, isRedundant, isWritten } from './levels.ts';
import type { AskedChange, Change, MasterArray, MasterState, NextChange } from './master_state.ts';
import { type ArrayRecord, compares, copyAnew } from './record.ts';
import { changeBitmap, changeSize, changeSlots, startReplacement, withoutReplacement } from './shape.ts';

export function changeFor(
  state: MasterState,
  array: MasterArray,
  record: ArrayRecord,
  asked: AskedChange,
): NextChange | { refuse: AskedChange; text: string } {
  const { change, requestId } = asked;
  const detail = requestId === null ? {} : { requestId };
  const fields = { asked: array.asked.slice(1) };
  const refuse = (text: string): { refuse: AskedChange; text: string } => ({ refuse: asked, text });
  const next = (kind: CommitKind, fresh: ArrayRecord, more: Partial<MasterArray> = {}, told = {}): NextChange => ({
    kind,
    record: fresh,
    detail: { ...detail, ...told },
    fields: { ...fields, ...more },
  });
  switch (change.what) {
    case 'introduce':
      return refuse(`${record.md}: an array with UUID ${record.uuid} is known already`);
    case 'start': {
      const { parityInDoubt: _, ...sure } = record;
      const doubt = doubtText(record);
      if (doubt !== null && change.force !== true) return refuse(doubt);
      if (record.run === 'started' && doubt === null) return refuse(`${record.md} is started already`);
      return next(
        'start',
        { ...sure, run: 'started', resync: copyAnew(record), events: record.events + 1 },
        { copied: false, progress: null },
      );
    }
    case 'stop':
      if (record.run === 'stopped') return refuse(`${record.md} is stopped already`);
      return next('stop', { ...record, run: 'stopped' }, { stopRequest: requestId });
    case 'forget':
      if (record.run !== 'stopped' || record.writers.length > 0) return refuse(`${record.md} must be stopped first`);
      return next('release', { ...record, givenBack: true, events: record.events + 1 }, { releaseRequest: requestId });
    case 'fail': {
      const member = record.members.find((candidate) => candidate.uuid === change.member);
      if (member === undefined) return refuse(`${record.md} has no member ${change.member}`);
      if (member.role === 'faulty') return refuse(`${record.md}: member ${change.member} is faulty already`);
      if (!allowed(record, change.member)) {
        return refuse(`${record.md}: member ${change.member} holds the only copy of some data; it cannot be failed`);
      }
      const failed = failMember(record, change.member);
      if (failed.parityInDoubt === true && record.parityInDoubt !== true) {
        return refuse(
          `${record.md}: a node crashed as it wrote to it, and its parity is not right again yet; wait for that (mdmesh wait ${record.md})`,
        );
      }
      return next('fail', failed, {}, { member: change.member });
    }
    case 'remove': {
      const member = record.members.find((candidate) => candidate.uuid === change.member);
      if (member === undefined) return refuse(`${record.md} has no member ${change.member}`);
      if (isWritten(member)) return refuse(`${record.md}: member ${change.member} is in use; fail it first`);
      const left = member.replaces === undefined ? record : withoutReplacement(record);
      const members = left.members.filter((candidate) => candidate.uuid !== change.member);
      return next('remove', { ...left, members, events: record.events + 1 }, {}, { member: change.member });
    }
    case 'add': {
      if (record.members.some((candidate) => candidate.uuid === change.member.uuid)) {
        return refuse(`${record.md} has member ${change.member.uuid} already`);
      }
      // Another disk may have come in since this one's number was chosen.
      const taken = record.members.map((candidate) => candidate.devNumber);
      const devNumber = taken.includes(change.member.devNumber) ? Math.max(...taken) + 1 : change.member.devNumber;
      const members = [...record.members, { ...change.member, devNumber }];
      const told = { member: change.member.uuid, ...(change.why === undefined ? {} : { why: change.why }) };
      return next('add', { ...record, members, events: record.events + 1 }, {}, told);
    }
    case 'action':
      return actionFor(state, array, record, change.action, next, refuse);
    case 'sync-limit':
      return next('resync-change', { ...record, syncLimitKib: change.limitKib }, {});
    case 'slots': {
      const changed = changeSlots(record, change.raidDisks, change.force);
      return typeof changed === 'string' ? refuse(changed) : next('grow', changed);
    }
    case 'size': {
      const changed = changeSize(record, change, copierFor(state, record));
      return typeof changed === 'string' ? refuse(changed) : next('grow', changed, { copied: false, progress: null });
    }
    case 'bitmap': {
      const changed = changeBitmap(record, change.bitmap, change.nodeSlots);
      return typeof changed === 'string' ? refuse(changed) : next('bitmap', changed);
    }
    case 'blind':
      return next('blind', { ...record, blind: [...change.nodes] });
    case 'replace': {
      const unseen = (uuid: string) => unseenBy(state, record, uuid);
      const started = startReplacement(record, change.member, change.by, copierFor(state, record), unseen);
      if (typeof started === 'string') return refuse(started);
      return next('replace', started.record, { copied: false, progress: null }, { member: change.member });
    }
  }
}

function actionFor(
  state: MasterState,
  array: MasterArray,
  record: ArrayRecord,
  action: Extract<Change, { what: 'action' }>['action'],
  next: (kind: CommitKind, changed: ArrayRecord, fields: Partial<MasterArray>) => NextChange,
  refuse: (text: string) => { refuse: AskedChange; text: string },
): NextChange | { refuse: AskedChange; text: string } {
  const copy = record.resync;
  if (record.run !== 'started') return refuse(`${record.md} is stopped; assemble it first`);
  if (!isRedundant(record.level)) return refuse(`${record.md}: ${record.level} has no copies to compare or to make`);
  if (compares(action)) {
    if (copy !== null)
      return refuse(`${record.md}: a ${copy.kind} is under way; wait for it (mdmesh wait ${record.md})`);
    // md would end it at once, having looked at nothing, and it would be begun again for ever.
    if (!canDiffer(record)) {
      const inSync = activeMembers(record).length;
      return refuse(`${record.md} has ${inSync} of ${record.raidDisks} members in sync: there is nothing to compare`);
    }
    const started = { ...record, resync: copyOf(record, action, copierFor(state, record)) };
    return next('resync-start', started, { copied: false, progress: null, mismatchSectors: null });
  }
  if (copy === null) return refuse(`${record.md}: nothing is being copied`);
  const fields = { copied: false, progress: null };
  if (action === 'idle' && compares(copy.kind)) {
    return next('resync-done', checked(state, { ...record, resync: null }, copy, null), fields);
  }
  const halted = action === 'frozen';
  if (copy.halted === halted) {
    return refuse(`${record.md}: the ${copy.kind} is ${halted ? 'halted already' : 'under way'}`);
  }
  const changed = copyAnew({ ...record, resync: { ...furthered(array, copy), halted } });
  return next('resync-change', { ...record, resync: changed, events: record.events + 1 }, fields);
}
