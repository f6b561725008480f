/** One input in, the next state and effects out. */
import type { NodeId } from '../arrays/record.ts';
import { compareLists, type ListVersion, sameList } from '../roster/list.ts';
import type { LeaseMessage } from '../wire/messages.ts';
import {
  askAgainIfDue,
  askForVotes,
  giveUpCandidacy,
  onShutOut,
  onVoteGranted,
  onVoteRefused,
  standIfDue,
  timeOutCandidacy,
} from './candidate.ts';
import {
  considerSet,
  onDiskLeaseSealed,
  onDiskRead,
  onDiskWritten,
  onSetStored,
  onWantedDisks,
  operate,
} from './disks.ts';
import type { LeaseConfig, LeaseEffect, LeaseInput, VerifiedRelease } from './index.ts';
import {
  handOverIfDue,
  handOverOnLeave,
  loseIfExpired,
  loseLease,
  onFollow,
  onGrantable,
  onReleased,
  onReleasing,
  onRenewAck,
  renewIfDue,
  renewWhoAppeared,
  watchLowerNodes,
} from './master.ts';
import { abstain, onTermAnswer } from './start.ts';
import {
  boundToOthers,
  change,
  knowTerm,
  type LeaseState,
  listOf,
  note,
  others,
  seen,
  send,
  setMaster,
  type Turn,
} from './state.ts';
import { onRelease, onRenew, onVoteNotStored, onVoteRequest, onVoteStored } from './voter.ts';

/**
 * `now`: BOOTTIME in ms, read when the input is taken up, before any effect of the step is performed. Throws when it goes
 * back: every promise rests on it.
 */
export function leaseStep(
  state: LeaseState,
  input: LeaseInput,
  now: number,
): { state: LeaseState; effects: LeaseEffect[] } {
  if (!(now >= state.lastNowMs)) {
    throw new Error(
      `lease: clock went from ${state.lastNowMs} ms to ${now} ms; BOOTTIME cannot, so stop this node's writes`,
    );
  }
  const turn: Turn = { state: { ...state, lastNowMs: now }, effects: [], now };
  // First of all, so that nothing below acts on a lease, promise or master of before a suspend.
  loseIfExpired(turn);
  forgetSilentMaster(turn);
  timeOutCandidacy(turn);
  take(turn, input);
  standIfDue(turn);
  return { state: turn.state, effects: turn.effects };
}

function take(turn: Turn, input: LeaseInput): void {
  switch (input.type) {
    case 'tick':
      abstain(turn);
      askAgainIfDue(turn);
      renewIfDue(turn);
      handOverIfDue(turn);
      considerSet(turn);
      operate(turn);
      return;
    case 'view': {
      const before = turn.state.view;
      change(turn, { view: { alive: input.view.alive.map((each) => ({ ...each })) } });
      forgetShutOuts(turn);
      const appeared = others(turn.state.config).filter((node) => seen(turn.state.view, node) && !seen(before, node));
      // What was sent before a voter could be reached is lost.
      askForVotes(turn, appeared);
      renewWhoAppeared(turn, appeared);
      watchLowerNodes(turn);
      return;
    }
    case 'message':
      takeMessage(turn, input.from, input.message, input.release);
      return;
    case 'vote-stored':
      onVoteStored(turn, input.term, input.candidate, input.sealed);
      return;
    case 'vote-not-stored':
      onVoteNotStored(turn, input.term, input.candidate);
      return;
    case 'may-shut-out':
      change(turn, { mayShutOut: input.may });
      return;
    case 'shut-out':
      onShutOut(turn, input.holder, input.id, input.done);
      return;
    case 'grantable':
      onGrantable(turn, input.nodes);
      return;
    case 'releasing':
      onReleasing(turn, input.term);
      return;
    case 'released':
      onReleased(turn, input.term, input.sealed);
      return;
    case 'config':
      reconfigure(turn, input.config);
      return;
    case 'leave':
      change(turn, { leaving: true });
      giveUpCandidacy(turn, 'this node leaves');
      handOverOnLeave(turn);
      return;
    case 'step-down':
      giveUpCandidacy(turn, input.reason);
      loseLease(turn, input.reason);
      // Who can lead no more is made ineligible by the agent; this only keeps a node that still can from insisting.
      change(turn, { standNotBeforeMs: turn.now + turn.state.config.voterMs });
      return;
    case 'quorum-disks':
      onWantedDisks(turn, input.disks, input.leaving ?? []);
      return;
    case 'disk-read':
      onDiskRead(turn, input.disk, input.id, input.blocks);
      return;
    case 'disk-written':
      onDiskWritten(turn, input.disk, input.id, input.done);
      return;
    case 'set-stored':
      onSetStored(turn);
      return;
    case 'disk-lease-sealed':
      onDiskLeaseSealed(turn, input.term, input.sealed);
      return;
  }
}

function isOtherAndNotOlder(list: ListVersion, own: ListVersion): boolean {
  return compareLists(list, own) >= 0 && !sameList(list, own);
}

/** Invariant 6: what was asked for, or is being voted for, by another list than counts now comes to nothing. */
function reconfigure(turn: Turn, config: LeaseConfig): void {
  const before = listOf(turn.state.config);
  const after = listOf(config);
  change(turn, { config });
  if (sameList(before.version, after.version) && before.sets.length === after.sets.length) return;
  change(turn, { listBehind: false });
  const { pendingVote, role } = turn.state;
  // It is stored, but not sent.
  if (pendingVote !== null) change(turn, { pendingVote: { ...pendingVote, theirSentAtMs: null } });
  if (role.kind !== 'candidate') return;
  giveUpCandidacy(turn, 'the node list has changed');
  change(turn, { standNotBeforeMs: turn.now });
}

function takeMessage(turn: Turn, from: NodeId, message: LeaseMessage, release: VerifiedRelease | undefined): void {
  const { config } = turn.state;
  if (from === config.self || !config.nodes.includes(from)) {
    note(turn, 'StrangerIgnored', `${message.kind} from node ${from}, who is not another node of the list`);
    return;
  }
  switch (message.kind) {
    case 'vote-request':
      onVoteRequest(turn, from, message);
      return;
    case 'vote-granted':
      onVoteGranted(turn, from, message);
      return;
    case 'vote-refused':
      onVoteRefused(turn, from, message);
      return;
    case 'renew':
      onRenew(turn, from, message);
      return;
    case 'renew-ack':
      onRenewAck(turn, from, message);
      return;
    case 'follow':
      onFollow(turn, from, message);
      return;
    case 'stale-term': {
      knowTerm(turn, message.knownTerm);
      const { role } = turn.state;
      if (role.kind === 'master' && message.knownTerm > role.term) {
        loseLease(turn, `node ${from} knows the later term ${message.knownTerm}`);
      }
      return;
    }
    case 'term-query':
      send(turn, from, { kind: 'term-answer', knownTerm: turn.state.knownTerm, list: listOf(config).version });
      return;
    case 'term-answer':
      knowTerm(turn, message.knownTerm);
      if (isOtherAndNotOlder(message.list, listOf(config).version)) change(turn, { listBehind: true });
      onTermAnswer(turn, from);
      return;
    case 'released':
      if (release !== undefined) onRelease(turn, release, message.event);
      return;
  }
}

/** Who is seen may have its key again; what this node has promised it since, it has not passed over. */
function forgetShutOuts(turn: Turn): void {
  const { shutOuts, view, config } = turn.state;
  const bound = new Set(boundToOthers(turn, config.self).map(({ holder }) => holder));
  const kept = [...shutOuts].filter(([holder]) => bound.has(holder) || !seen(view, holder));
  if (kept.length < shutOuts.size) change(turn, { shutOuts: new Map(kept) });
}

function forgetSilentMaster(turn: Turn): void {
  const { master, config } = turn.state;
  if (master !== null && master.node !== config.self && turn.now >= master.heardMs + config.voterMs)
    setMaster(turn, null);
}
