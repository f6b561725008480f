/** The rules of one voter or holder, each alone. How they work together is told in test/transcripts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  certificate,
  grantMayLastUntilMs,
  type LeaseConfig,
  type LeaseEffect,
  type LeaseInput,
  type LeaseStart,
  leaseDueMs,
  leaseStart,
  leaseStep,
  leaseSummary,
  type StoredVote,
  storedVoteForStop,
} from '../../src/lease/index.ts';
import { NO_LIST } from '../../src/roster/index.ts';
import type { LeaseMessage } from '../../src/wire/messages.ts';

const BOOT = 'this boot';
const R = 2000;
const L = 3000;

const fresh: StoredVote = { term: 0, candidate: null, promise: { holder: null, untilMs: 0, kernelBoot: BOOT } };

class Lone {
  state;
  now = 10_000;
  effects: LeaseEffect[] = [];

  constructor(self: number, nodes: number, vote: StoredVote | null = fresh, more: Partial<LeaseStart> = {}) {
    const config: LeaseConfig = {
      self,
      nodes: Array.from({ length: nodes }, (_, index) => index + 1),
      holderMs: R,
      voterMs: L,
      renewMs: 400,
      failbackAfterMs: 10_000,
      settleMs: 2000,
      candidacyTimeoutMs: 600,
    };
    this.state = leaseStart(config, { vote, kernelBoot: BOOT, ...more }, this.now);
  }

  do(input: LeaseInput, afterMs = 0): LeaseEffect[] {
    this.now += afterMs;
    const { state, effects } = leaseStep(this.state, input, this.now);
    this.state = state;
    this.effects = effects;
    return effects;
  }

  hear(from: number, message: LeaseMessage, afterMs = 0): LeaseMessage[] {
    return sent(this.do({ type: 'message', from, message }, afterMs));
  }

  see(...alive: number[]): LeaseMessage[] {
    return sent(this.do({ type: 'view', view: { alive: alive.map((node) => ({ node, eligible: true })) } }));
  }

  stored(term: number, candidate: number, afterMs = 0): LeaseMessage[] {
    const sealed = `${this.state.config.self} for ${candidate}`;
    return sent(this.do({ type: 'vote-stored', term, candidate, sealed }, afterMs));
  }

  /** Node 1 of three, elected in term 1 by node 2's vote; its request was sent at 10 000. */
  static master(): Lone {
    const one = new Lone(1, 3);
    one.see(1, 2, 3);
    one.hear(2, { kind: 'vote-granted', term: 1, echoSentAtMs: 10_000, vote: '2 for 1' });
    one.stored(1, 1);
    return one;
  }
}

function sent(effects: readonly LeaseEffect[]): LeaseMessage[] {
  return effects.flatMap((effect) => (effect.type === 'send' ? [effect.message] : []));
}

function of(effects: readonly LeaseEffect[], type: LeaseEffect['type']): LeaseEffect[] {
  return effects.filter((effect) => effect.type === type);
}

const request = (term: number, sentAtMs = 77, list = NO_LIST, voterMs = L): LeaseMessage => {
  return { kind: 'vote-request', term, sentAtMs, list, voterMs };
};
const renew = (term: number, echoAckSentAtMs: number | null = null, grant = true): LeaseMessage => {
  return { kind: 'renew', term, sentAtMs: 500, echoAckSentAtMs, grant, certificate: [], holderMs: R, voterMs: L };
};
const reasons = (messages: readonly LeaseMessage[]) =>
  messages.map((message) => (message.kind === 'vote-refused' ? message.reason : message.kind));

test('invariant 1: a vote leaves only when it is on disk, and a second candidate of the term gets none', () => {
  const voter = new Lone(3, 3);
  assert.deepEqual(voter.hear(1, request(4)), []);
  assert.deepEqual(of(voter.effects, 'store-vote'), [
    { type: 'store-vote', vote: { term: 4, candidate: 1, promise: null }, shutOut: [] },
  ]);
  assert.deepEqual(reasons(voter.hear(2, request(4))), ['voted'], 'while the disk writes');
  assert.deepEqual(voter.stored(4, 1), [{ kind: 'vote-granted', term: 4, echoSentAtMs: 77, vote: '3 for 1' }]);
  assert.deepEqual(reasons(voter.hear(2, request(4))), ['voted']);
  assert.deepEqual(reasons(voter.hear(2, request(4), L + 1)), ['voted'], 'also when the promise is over');
  assert.deepEqual(reasons(voter.hear(2, request(3))), ['stale-term']);
  assert.deepEqual(reasons(voter.hear(1, request(4, 78))), ['vote-granted'], 'the same vote may be sent again');
});

test('invariant 1: the vote file of before a restart counts', () => {
  const voter = new Lone(3, 3, { term: 4, candidate: 1, promise: { holder: null, untilMs: 0, kernelBoot: BOOT } });
  assert.deepEqual(reasons(voter.hear(2, request(4))), ['voted']);
  assert.deepEqual(reasons(voter.hear(2, request(3))), ['stale-term']);
  voter.hear(1, request(4));
  assert.equal(of(voter.effects, 'store-vote').length, 1, 'its seal is lost: stored again, the same vote');
});

test('invariant 2: a vote binds the voter until L after it was sent', () => {
  const voter = new Lone(3, 3);
  voter.hear(1, request(1));
  voter.stored(1, 1, 700);
  assert.deepEqual(reasons(voter.hear(2, request(2), L - 1)), ['promised']);
  assert.deepEqual(reasons(voter.hear(2, request(2), 1)), []);
  assert.equal(of(voter.effects, 'store-vote').length, 1);
});

test('invariant 2: each renewal received binds for L more, also against a holder of a later term', () => {
  const voter = new Lone(4, 5);
  assert.deepEqual(reasons(voter.hear(1, renew(1))), [], 'first the file must lose its proof');
  assert.deepEqual(reasons(voter.stored(1, 1)), ['renew-ack']);
  assert.deepEqual(reasons(voter.hear(1, renew(1), 2900)), ['renew-ack']);
  assert.deepEqual(reasons(voter.hear(2, request(2), 2900)), ['promised']);
  assert.deepEqual(reasons(voter.hear(2, renew(2))), ['follow'], 'it asks for a grant, and promises nothing more');
  assert.deepEqual(reasons(voter.hear(2, renew(2), 100)), ['renew-ack']);
  assert.deepEqual(voter.hear(1, renew(1)), [{ kind: 'stale-term', knownTerm: 2 }]);
});

test('invariant 2: only the release of the holder itself, of that term, sets the voter free', () => {
  const release = (holder: number, term: number): LeaseInput => ({
    type: 'message',
    from: 1,
    message: { kind: 'released', event: 'sealed' },
    release: { holder, term, to: null },
  });
  const voter = new Lone(4, 5);
  voter.hear(1, renew(5));
  voter.stored(5, 1);
  const stillBound = () => assert.deepEqual(reasons(voter.hear(2, request(6))), ['promised']);
  voter.do({ type: 'message', from: 1, message: { kind: 'released', event: 'sealed' } });
  stillBound();
  voter.do(release(1, 3));
  stillBound();
  voter.do(release(2, 4));
  stillBound();
  voter.do(release(1, 5));
  assert.equal(leaseSummary(voter.state).promise, null);
  assert.deepEqual(reasons(voter.hear(1, renew(5))), ['stale-term'], 'a renewal that was overtaken binds nobody');
  assert.deepEqual(reasons(voter.hear(2, request(6))), []);
});

test('a request for a vote that comes after the release of its term binds nobody, whether the disk is writing by then or not', () => {
  const message = { kind: 'released', event: 'sealed' } as const;
  const released: LeaseInput = { type: 'message', from: 2, message, release: { holder: 1, term: 5, to: null } };
  const late = new Lone(3, 3);
  late.do(released);
  assert.deepEqual(reasons(late.hear(1, request(5))), ['stale-term']);
  assert.deepEqual(reasons(late.hear(2, request(6))), [], 'the next term is voted in');

  const writing = new Lone(3, 3);
  assert.deepEqual(writing.hear(1, request(5)), []);
  writing.do(released);
  assert.deepEqual([writing.stored(5, 1), leaseSummary(writing.state).promise], [[], null]);
});

test('a release of another holder than the one promised to changes nothing', () => {
  const voter = new Lone(4, 5);
  voter.hear(2, request(5));
  voter.stored(5, 2);
  const released = { kind: 'released', event: 'sealed' } as const;
  voter.do({ type: 'message', from: 1, message: released, release: { holder: 1, term: 5, to: null } });
  assert.equal(leaseSummary(voter.state).promise?.holder, 2);
});

test('a voter refuses a candidate while a lower eligible node lives', () => {
  const voter = new Lone(3, 3);
  voter.see(1, 2, 3);
  assert.deepEqual(reasons(voter.hear(2, request(1))), ['lower-alive']);
});

test('invariant 3: the lease counts from the request, then from the renewals that a majority answered', () => {
  const one = new Lone(1, 5);
  one.see(1, 2, 3, 4, 5);
  for (const node of [2, 3]) {
    one.hear(node, { kind: 'vote-granted', term: 1, echoSentAtMs: 10_000, vote: `${node} for 1` }, 100);
  }
  one.stored(1, 1, 300);
  assert.equal(leaseSummary(one.state).leaseUntilMs, 10_000 + R, 'not from the votes, nor from the disk');
  assert.deepEqual(certificate(one.state), ['1 for 1', '2 for 1', '3 for 1']);
  const renewedMs = one.now;
  const ack = (node: number, afterMs: number) =>
    one.hear(node, { kind: 'renew-ack', term: 1, echoSentAtMs: renewedMs, sentAtMs: 5 }, afterMs);
  ack(4, 200);
  assert.equal(leaseSummary(one.state).leaseUntilMs, 10_000 + R, 'two of five have answered the renewal');
  ack(4, 10);
  assert.equal(leaseSummary(one.state).leaseUntilMs, 10_000 + R, 'node 4 is still one node');
  ack(5, 50);
  assert.equal(leaseSummary(one.state).leaseUntilMs, renewedMs + R, 'from when it was sent');
  one.do({ type: 'tick' }, R - 261);
  assert.equal(leaseSummary(one.state).role, 'master');
  ack(3, 1);
  assert.equal(leaseSummary(one.state).leaseUntilMs, null, 'an ack at the end is too late');
  assert.equal(of(one.effects, 'lost').length, 1);
});

test('invariant 3: votes for an earlier request do not count', () => {
  const one = new Lone(1, 3);
  one.see(1, 2, 3);
  one.hear(2, { kind: 'vote-granted', term: 1, echoSentAtMs: 9000, vote: '2 for 1' });
  assert.deepEqual(one.effects, []);
});

test('invariant 3: a majority that comes after R elects nobody', () => {
  const one = new Lone(1, 3);
  one.see(1, 2, 3);
  one.hear(2, { kind: 'vote-granted', term: 1, echoSentAtMs: 10_000, vote: '2 for 1' });
  one.stored(1, 1, R);
  assert.equal(of(one.effects, 'elected').length, 0);
});

test('a holder votes for nobody else, and steps down when it learns of a later term', () => {
  const one = Lone.master();
  assert.deepEqual(reasons(one.hear(2, request(2))), ['promised']);
  one.hear(3, { kind: 'stale-term', knownTerm: 7 });
  assert.deepEqual(
    of(one.effects, 'lost').map((effect) => effect.type),
    ['lost'],
  );
  assert.equal(leaseSummary(one.state).term, 8, 'and stands again, after all terms it knows');
});

test('invariant 4: a grant ends R after the ack it answers was sent', () => {
  const node = new Lone(3, 3, null, {});
  node.do({ type: 'tick' }, L);
  for (const other of [1, 2]) node.hear(other, { kind: 'term-answer', knownTerm: 0, list: NO_LIST });
  node.hear(1, renew(1));
  const ackedMs = node.now;
  node.hear(1, renew(1, ackedMs), 900);
  assert.deepEqual(of(node.effects, 'grant'), [{ type: 'grant', term: 1, untilMs: ackedMs + R }]);
  node.hear(1, renew(1, ackedMs), 100);
  assert.deepEqual(of(node.effects, 'grant'), [], 'the same ack gives nothing new');
  node.hear(1, renew(1, ackedMs + 900, false), 100);
  assert.deepEqual(of(node.effects, 'grant'), [], 'the master says no');
  node.hear(1, renew(1, node.now - 50), 100);
  assert.deepEqual(of(node.effects, 'grant'), [], 'an ack that this start of the agent never sent');
});

test('the master counts L from the newest ack it granted on, and at least from its election', () => {
  const one = Lone.master();
  one.do({ type: 'grantable', nodes: [1, 2, 3] });
  assert.equal(grantMayLastUntilMs(one.state, 3), one.now + L, 'an earlier master may have granted just before');
  const echoSentAtMs = one.now;
  const answers = one.hear(3, { kind: 'renew-ack', term: 1, echoSentAtMs, sentAtMs: 123 }, 300);
  assert.deepEqual(
    answers.map((message) => message.kind === 'renew' && [message.grant, message.echoAckSentAtMs]),
    [[true, 123]],
    'answered at once',
  );
  assert.equal(grantMayLastUntilMs(one.state, 3), one.now + L);
  const countedMs = one.now + L;
  one.do({ type: 'tick' }, 500);
  assert.equal(grantMayLastUntilMs(one.state, 3), countedMs, 'renewals to a silent node do not move it');
});

test('a node that was not heard for a while is answered at once: its agent may have handed over, and the grant that it left may be about to end', () => {
  const one = Lone.master();
  one.do({ type: 'grantable', nodes: [1, 2, 3] });
  const acks = (afterMs: number): number => {
    const ack = { kind: 'renew-ack', term: 1, echoSentAtMs: 10_000, sentAtMs: one.now + afterMs } as const;
    return one.hear(2, ack, afterMs).filter(({ kind }) => kind === 'renew').length;
  };
  assert.equal(acks(10), 1, 'its first grant');
  assert.equal(acks(350), 0, 'as often as it ought to be');
  assert.equal(acks(900), 1);
  assert.equal(acks(50), 0);
});

test('invariant 5: without a vote file a voter abstains for L and until it knows the terms it may have voted in', () => {
  const voter = new Lone(3, 5, null);
  assert.deepEqual(reasons(voter.hear(1, request(9))), ['abstaining']);
  assert.deepEqual(reasons(voter.hear(1, renew(9))), ['follow'], 'an ack would be a promise');
  assert.equal(leaseSummary(voter.state).promise, null);
  voter.hear(1, { kind: 'term-answer', knownTerm: 9, list: NO_LIST });
  assert.deepEqual(
    reasons(sent(voter.do({ type: 'tick' }, L))),
    ['term-query', 'term-query', 'term-query', 'term-query'],
    'asked after L: an old vote may complete a majority until then',
  );
  voter.hear(1, { kind: 'term-answer', knownTerm: 9, list: NO_LIST });
  voter.hear(1, { kind: 'term-answer', knownTerm: 9, list: NO_LIST });
  voter.hear(2, { kind: 'term-answer', knownTerm: 3, list: NO_LIST });
  assert.deepEqual(leaseSummary(voter.state).abstains?.answersMissing, 1, 'three of the four others, each once');
  assert.equal(storedVoteForStop(voter.state, BOOT, voter.now), null, 'it cannot vouch for a new file');
  voter.hear(4, { kind: 'term-answer', knownTerm: 11, list: NO_LIST });
  assert.equal(leaseSummary(voter.state).abstains, null);
  assert.deepEqual(reasons(voter.hear(1, request(11))), ['voted']);
  assert.deepEqual(reasons(voter.hear(1, request(12))), []);
  assert.equal(of(voter.effects, 'store-vote').length, 1);
});

test('invariant 5: after a crash, or on another boot of the kernel, a voter abstains for L and does not stand', () => {
  const ofAnotherBoot = { holder: 1, untilMs: 0, kernelBoot: 'an earlier boot' };
  for (const promise of [null, ofAnotherBoot]) {
    const voter = new Lone(1, 3, { term: 4, candidate: 2, promise });
    assert.deepEqual(voter.see(1, 2, 3), []);
    assert.deepEqual(sent(voter.do({ type: 'tick' }, L - 1)), []);
    assert.deepEqual(reasons(voter.hear(2, request(5))), ['abstaining']);
    assert.deepEqual(reasons(sent(voter.do({ type: 'tick' }, 1))), ['vote-request', 'vote-request']);
  }
});

test('invariant 5: a voter that abstains is granted writes all the same, by its own clock', () => {
  const voter = new Lone(3, 5, { term: 4, candidate: 2, promise: null });
  const [follow] = voter.hear(1, renew(6), 100);
  assert.deepEqual(follow, { kind: 'follow', term: 6, sentAtMs: voter.now });
  const followedMs = voter.now;
  voter.hear(1, renew(6, followedMs), 400);
  assert.deepEqual(of(voter.effects, 'grant'), [{ type: 'grant', term: 6, untilMs: followedMs + R }]);
  voter.hear(1, renew(6, followedMs - 1), 100);
  assert.deepEqual(of(voter.effects, 'grant'), [], 'nothing that this start of the agent did not ask for');
  assert.deepEqual(reasons(voter.hear(1, renew(3))), ['stale-term'], 'what it voted after is no master for it');
});

test('invariant 5: a voter that abstains does not keep a lease alive', () => {
  const one = Lone.master();
  one.do({ type: 'grantable', nodes: [1, 2, 3] });
  const { leaseUntilMs } = leaseSummary(one.state);
  const answers = one.hear(3, { kind: 'follow', term: 1, sentAtMs: 123 }, 300);
  assert.deepEqual(
    answers.map((message) => message.kind === 'renew' && [message.grant, message.echoAckSentAtMs]),
    [[true, 123]],
    'granted at once',
  );
  assert.equal(grantMayLastUntilMs(one.state, 3), one.now + L, 'and counted');
  assert.equal(leaseSummary(one.state).leaseUntilMs, leaseUntilMs);
  one.hear(3, { kind: 'follow', term: 1, sentAtMs: 900 }, 900);
  assert.equal(
    of(one.do({ type: 'tick' }, 800), 'lost').length,
    1,
    'two nodes of three, of which one promised nothing',
  );
});

test('a candidate asks again who has not voted, soon, and who appears at once; its lease still counts from the first asking', () => {
  const one = new Lone(1, 5);
  const asked = (effects: readonly LeaseEffect[]) =>
    effects.flatMap((each) => (each.type === 'send' && each.message.kind === 'vote-request' ? [each.to] : []));
  one.see(1, 2, 3);
  const sentAtMs = one.now;
  assert.deepEqual(asked(one.effects), [2, 3, 4, 5]);
  one.hear(2, { kind: 'vote-granted', term: 1, echoSentAtMs: sentAtMs, vote: '2 for 1' });
  one.hear(3, { kind: 'vote-refused', term: 1, reason: 'promised', knownTerm: 1 }, 50);
  assert.deepEqual(one.see(1, 2, 3, 4), [request(1, sentAtMs)]);
  assert.deepEqual(asked(one.effects), [4]);
  assert.deepEqual(asked(one.do({ type: 'tick' }, 149)), []);
  assert.deepEqual(asked(one.do({ type: 'tick' }, 1)), [3, 4, 5]);
  assert.deepEqual(asked(one.do({ type: 'tick' }, 50)), []);
  one.hear(3, { kind: 'vote-granted', term: 1, echoSentAtMs: sentAtMs, vote: '3 for 1' });
  one.stored(1, 1);
  assert.equal(leaseSummary(one.state).leaseUntilMs, sentAtMs + R);
});

test('a term in which a voter voted already is given up for the next one, at once', () => {
  const one = new Lone(1, 3);
  one.see(1, 2);
  one.hear(2, { kind: 'vote-refused', term: 1, reason: 'voted', knownTerm: 1 }, 10);
  assert.deepEqual(
    sent(one.effects).map((message) => message.kind === 'vote-request' && message.term),
    [2, 2],
  );
  one.hear(2, { kind: 'vote-refused', term: 2, reason: 'promised', knownTerm: 2 }, 10);
  assert.deepEqual(sent(one.effects), [], 'a promise to another takes its time in any term');
});

test('only lower IDs are waited for before standing', () => {
  const two = new Lone(2, 5);
  assert.deepEqual(two.see(2, 3, 4), [], 'node 1 may be on its way');
  const one = new Lone(1, 5);
  assert.deepEqual(one.see(1, 2), [], 'no majority');
  assert.equal(one.see(1, 2, 3).length, 4);
});

test('who appears hears of the master at once', () => {
  const one = Lone.master();
  one.see(1, 2);
  assert.deepEqual(reasons(one.see(1, 2, 3)), ['renew']);
});

test('invariant 5: a file that proves that nothing was promised proves it on any boot', () => {
  const promise = { holder: null, untilMs: 0, kernelBoot: 'an earlier boot' };
  const voter = new Lone(3, 3, { term: 4, candidate: 2, promise });
  voter.hear(1, request(5));
  assert.equal(of(voter.effects, 'store-vote').length, 1);
});

test('invariant 5: a proven promise is taken up as it stood', () => {
  const voter = new Lone(3, 3, { term: 4, candidate: 1, promise: { holder: 1, untilMs: 11_000, kernelBoot: BOOT } });
  assert.deepEqual(reasons(voter.hear(2, request(5), 999)), ['promised']);
  voter.hear(2, request(5), 1);
  assert.equal(of(voter.effects, 'store-vote').length, 1);
});

test('invariant 5: the proof is off the disk before a winner is followed, and the vote that a loser had is not given again', () => {
  const voter = new Lone(3, 3, { term: 4, candidate: 2, promise: { holder: 1, untilMs: 11_000, kernelBoot: BOOT } });
  assert.deepEqual(voter.hear(1, renew(4)), []);
  assert.deepEqual(of(voter.effects, 'store-vote'), [
    { type: 'store-vote', vote: { term: 4, candidate: 2, promise: null }, shutOut: null },
  ]);
  const effects = voter.do({ type: 'vote-stored', term: 4, candidate: 2, sealed: null }, 20);
  assert.deepEqual(reasons(sent(effects)), ['renew-ack']);
  assert.equal(leaseSummary(voter.state).promise?.holder, 1);
});

test('invariant 5: the proof is off the disk before anything new is promised', () => {
  const voter = new Lone(3, 3, { term: 4, candidate: 2, promise: { holder: null, untilMs: 0, kernelBoot: BOOT } });
  assert.deepEqual(voter.hear(1, renew(6)), []);
  assert.deepEqual(of(voter.effects, 'store-vote'), [
    { type: 'store-vote', vote: { term: 6, candidate: 1, promise: null }, shutOut: [] },
  ]);
  assert.equal(leaseSummary(voter.state).promise, null);
  assert.deepEqual(reasons(voter.stored(6, 1, 20)), ['renew-ack']);
  assert.deepEqual(reasons(voter.hear(1, renew(6), 400)), ['renew-ack']);
});

test('an orderly stop stores what is promised then', () => {
  const voter = new Lone(3, 3);
  voter.hear(1, renew(2));
  voter.stored(2, 1);
  const untilMs = voter.now + L;
  assert.deepEqual(storedVoteForStop(voter.state, BOOT, voter.now + 10), {
    term: 2,
    candidate: 1,
    promise: { holder: 1, untilMs, kernelBoot: BOOT },
  });
  assert.equal(storedVoteForStop(voter.state, BOOT, untilMs)?.promise?.holder, null);
  voter.hear(2, request(9), L);
  assert.equal(storedVoteForStop(voter.state, BOOT, voter.now)?.term, 9, 'the vote being written may be on disk');
});

test('a node alone counts its terms on from what its disks remember', () => {
  const one = new Lone(1, 1, null, { termFloor: 41 });
  one.see(1);
  one.do({ type: 'tick' }, L);
  assert.equal(leaseSummary(one.state).term, 42);
});

test('a clock that goes back stops the core', () => {
  const one = Lone.master();
  assert.throws(() => leaseStep(one.state, { type: 'tick' }, one.now - 1), /clock went from/);
});

test('timings that cannot be safe are refused', () => {
  const { config } = Lone.master().state;
  const start = { vote: fresh, kernelBoot: BOOT };
  assert.throws(() => leaseStart({ ...config, voterMs: R }, start, 0), /holderMs 2000 ≥ voterMs 2000/);
  assert.throws(() => leaseStart({ ...config, self: 9 }, start, 0), /node 9 with node list 1, 2, 3/);
});

test('ticks at the times it asks for are enough for a master to renew and for a follower to miss it', () => {
  const one = Lone.master();
  const begunMs = one.now;
  const renewals: number[] = [];
  while (renewals.length < 5) {
    one.now = leaseDueMs(one.state) ?? Number.NaN;
    for (const message of sent(one.do({ type: 'tick' }))) {
      if (message.kind !== 'renew') continue;
      if (renewals.at(-1) !== message.sentAtMs) renewals.push(message.sentAtMs);
      one.hear(2, { kind: 'renew-ack', term: 1, echoSentAtMs: message.sentAtMs, sentAtMs: 7 });
    }
  }
  assert.deepEqual(
    renewals.map((sentAtMs) => sentAtMs - begunMs),
    [400, 800, 1200, 1600, 2000],
  );
  const voter = new Lone(3, 3);
  assert.equal(leaseDueMs(voter.state), null, 'without a master: often');
  voter.hear(1, renew(1));
  voter.stored(1, 1);
  voter.now = leaseDueMs(voter.state) ?? Number.NaN;
  assert.equal(of(voter.do({ type: 'tick' }), 'master').length, 1, 'no master is known any more');
});

const NEWER = { term: 3, generation: 1, digest: 'newer' };

test('invariant 6: no vote for a candidate whose list is older, or another of the same version', () => {
  const voter = new Lone(3, 3);
  voter.do({ type: 'config', config: { ...voter.state.config, list: { version: NEWER, sets: [[1, 2, 3]] } } });
  assert.deepEqual(reasons(voter.hear(1, request(4))), ['list'], 'older');
  const another = { ...NEWER, digest: 'another' };
  assert.deepEqual(reasons(voter.hear(1, request(4, 77, another))), ['list'], 'another');
  voter.hear(1, request(4, 77, NEWER));
  assert.equal(voter.state.pendingVote?.candidate, 1, 'the same');
  const behind = new Lone(3, 3);
  behind.hear(1, request(4, 77, NEWER));
  assert.equal(behind.state.pendingVote?.candidate, 1, 'newer than its own');
});

test('invariant 6: a vote that is being stored is not sent when another list counts meanwhile', () => {
  const voter = new Lone(3, 3);
  voter.hear(1, request(4));
  voter.do({ type: 'config', config: { ...voter.state.config, list: { version: NEWER, sets: [[1, 2, 3]] } } });
  assert.deepEqual(voter.stored(4, 1), []);
});

test('invariant 6: nobody promises less than candidate or holder counts on', () => {
  const voter = new Lone(3, 3);
  assert.deepEqual(reasons(voter.hear(1, request(4, 77, NO_LIST, L + 1))), ['list']);
  const longer = { ...renew(4), voterMs: L + 1 } as LeaseMessage;
  assert.deepEqual(reasons(voter.hear(1, longer)), ['follow'], 'it takes grants, and keeps no lease alive');
  voter.hear(1, renew(5));
  assert.deepEqual(reasons(voter.stored(5, 1)), ['renew-ack']);
});

test('invariant 4: a grant lasts no longer than the R of the master that gave it', () => {
  const voter = new Lone(3, 3);
  voter.hear(1, renew(4));
  voter.stored(4, 1);
  const ackSentMs = voter.now;
  const grant = { ...renew(4, ackSentMs), holderMs: R / 2 } as LeaseMessage;
  voter.hear(1, grant);
  assert.equal(leaseSummary(voter.state).grantUntilMs, ackSentMs + R / 2);
});

test('invariants 3 and 6: with two lists a lease, and an election, need a majority of both', () => {
  const both = {
    version: NEWER,
    sets: [
      [1, 2, 3],
      [1, 3, 4, 5],
    ],
  };
  const one = new Lone(1, 5);
  one.do({ type: 'config', config: { ...one.state.config, list: both } });
  one.see(1, 2, 3, 4, 5);
  const sentAtMs = one.state.role.kind === 'candidate' ? one.state.role.sentAtMs : Number.NaN;
  const term = one.state.knownTerm;
  const vote = (from: number) =>
    one.hear(from, { kind: 'vote-granted', term, echoSentAtMs: sentAtMs, vote: `${from} for 1` });
  vote(2);
  vote(4);
  assert.equal(one.state.pendingVote, null, 'two of three, but two of four');
  vote(5);
  one.stored(term, 1);
  assert.equal(leaseSummary(one.state).role, 'master');
  const until = () => leaseSummary(one.state).leaseUntilMs;
  const before = until();
  const ack = (from: number) => one.hear(from, { kind: 'renew-ack', term, echoSentAtMs: one.now, sentAtMs: 1 });
  one.now += 300;
  ack(4);
  ack(5);
  assert.equal(until(), before, 'no majority of the old list');
  ack(2);
  assert.ok((until() ?? 0) > (before ?? 0));
});

for (const [what, told] of [
  ['a newer one', NEWER],
  ['another one as old', { ...NO_LIST, digest: 'another' }],
] as const) {
  test(`invariant 5: a list that was lost with the votes must be back before this node votes again: ${what}`, () => {
    const voter = new Lone(2, 3, null);
    voter.do({ type: 'tick' }, L + 1);
    for (const from of [1, 3]) voter.hear(from, { kind: 'term-answer', knownTerm: 4, list: told });
    voter.do({ type: 'tick' });
    assert.ok(leaseSummary(voter.state).abstains !== null);
    voter.do({ type: 'config', config: { ...voter.state.config, list: { version: told, sets: [[1, 2, 3]] } } });
    voter.do({ type: 'tick' });
    assert.equal(leaseSummary(voter.state).abstains, null);
  });
}

test('a vote that the disk did not take is not given, and its node follows, votes and stands again', () => {
  const candidate = new Lone(1, 3);
  candidate.see(1, 2, 3);
  candidate.hear(2, { kind: 'vote-granted', term: 1, echoSentAtMs: 10_000, vote: '2 for 1' });
  candidate.do({ type: 'vote-not-stored', term: 1, candidate: 1 }, 10);
  assert.equal(leaseSummary(candidate.state).role, 'follower');
  candidate.see(1, 2, 3);
  const again = candidate.do({ type: 'tick' }, 1000);
  assert.ok(
    sent(again).some(({ kind }) => kind === 'vote-request'),
    'it stands in the next term',
  );

  const voter = new Lone(3, 3);
  voter.see(1, 2, 3);
  assert.deepEqual(voter.hear(1, request(1, 5)), []);
  voter.do({ type: 'vote-not-stored', term: 1, candidate: 1 }, 10);
  assert.deepEqual(voter.hear(1, request(1, 5)), [], 'asked again, it is stored first');
  assert.ok(voter.effects.some(({ type }) => type === 'store-vote'));
  assert.deepEqual(
    voter.stored(1, 1, 10).map(({ kind }) => kind),
    ['vote-granted'],
  );
});

/** Node 4 of five follows node 1 in term 1, and has heard it last now; the disks have reservations. */
function follower(): Lone {
  const voter = new Lone(4, 5);
  voter.do({ type: 'may-shut-out', may: true });
  voter.see(2, 3, 4, 5);
  voter.hear(1, renew(1));
  voter.stored(1, 1);
  voter.hear(1, renew(1));
  return voter;
}
const past = (term: number, ...shutOut: number[]): LeaseMessage => {
  return { kind: 'vote-request', term, sentAtMs: 77, list: NO_LIST, voterMs: L, shutOut };
};
const asked = (effects: readonly LeaseEffect[]) =>
  effects.flatMap((each) => (each.type === 'shut-out' ? [[each.holder, each.id]] : []));
const silentIn = (messages: readonly LeaseMessage[]) =>
  messages.map((message) => (message.kind === 'vote-refused' ? (message.silent ?? []) : message.kind));
const out = (holder: number, id: number, done = true): LeaseInput => ({ type: 'shut-out', holder, id, done });

test('invariant 11: a voter passes over a promise when it has itself shut the holder out, and says so in its vote', () => {
  const voter = follower();
  assert.deepEqual(silentIn(voter.hear(2, past(2, 1), R - 1)), [[]], 'within R a living holder may write');
  assert.deepEqual(asked(voter.effects), []);
  assert.deepEqual(silentIn(voter.hear(2, request(2), 1)), [[1]], 'it would');
  assert.deepEqual(asked(voter.effects), [], 'but not before the candidate has');
  assert.deepEqual(silentIn(voter.hear(2, past(2, 1))), [[1]]);
  assert.deepEqual(asked(voter.effects), [[1, 1]]);
  assert.deepEqual(reasons(voter.hear(2, past(2, 1))), ['promised'], 'it is on its way');
  voter.do(out(1, 1, false));
  assert.deepEqual(reasons(voter.hear(2, past(2, 1))), ['promised'], 'it has failed');
  voter.hear(2, past(2, 1), 200);
  assert.deepEqual(asked(voter.effects), [[1, 2]]);
  voter.do(out(1, 2));
  assert.deepEqual(of(voter.effects, 'store-vote'), [
    { type: 'store-vote', vote: { term: 2, candidate: 2, promise: null }, shutOut: [{ holder: 1, term: 1 }] },
  ]);
  assert.deepEqual(voter.stored(2, 2), [
    { kind: 'vote-granted', term: 2, echoSentAtMs: 77, vote: '4 for 2', shutOut: [1] },
  ]);
});

test('invariant 11: who follows the winner says as well what it passes over, where that is recorded as a vote', () => {
  const promise = { holder: 1, untilMs: 11_000, kernelBoot: BOOT };
  const voter = new Lone(4, 5, { term: 1, candidate: 1, promise });
  voter.do({ type: 'may-shut-out', may: true });
  voter.see(2, 3, 4, 5);
  assert.deepEqual(silentIn(voter.hear(3, past(2, 1))), [[1]]);
  voter.do(out(1, 1));
  assert.deepEqual(reasons(voter.hear(3, past(2, 1))), ['lower-alive']);
  assert.deepEqual(voter.hear(3, renew(2)), [], 'first the file must lose its proof');
  assert.deepEqual(of(voter.effects, 'store-vote'), [
    { type: 'store-vote', vote: { term: 2, candidate: 3, promise: null }, shutOut: [{ holder: 1, term: 1 }] },
  ]);
});

test('invariant 11: who is seen alive, or cannot be shut out of all, is waited for', () => {
  const seen = follower();
  seen.see(1, 2, 3, 4, 5);
  assert.deepEqual(silentIn(seen.hear(2, past(2, 1), R)), [[]]);
  assert.deepEqual(asked(seen.effects), []);
  const plain = follower();
  plain.do({ type: 'may-shut-out', may: false });
  assert.deepEqual(silentIn(plain.hear(2, past(2, 1), R)), [[]]);
  assert.deepEqual(asked(plain.effects), []);
  assert.deepEqual(reasons(plain.hear(2, past(2, 1), L - R)), [], 'the promise is over');
});

test('invariant 11: a holder that was heard again must be shut out again', () => {
  const voter = follower();
  voter.hear(2, past(2, 1), R);
  voter.hear(1, renew(1));
  voter.do(out(1, 1));
  assert.deepEqual(
    reasons(voter.hear(2, past(3, 1))),
    ['promised'],
    'it may have put its key back before it said that',
  );
  voter.hear(2, past(3, 1), R);
  assert.deepEqual(asked(voter.effects), [[1, 2]]);
  voter.do(out(1, 2));
  assert.equal(of(voter.effects, 'store-vote').length, 1);
});

test('invariant 11: what was passed over binds on: against a third candidate, in the next vote, and in the file', () => {
  const voter = follower();
  voter.hear(2, past(2, 1), R);
  voter.do(out(1, 1));
  voter.stored(2, 2);
  const stored = storedVoteForStop(voter.state, BOOT, voter.now);
  assert.equal(stored?.promise, null, 'the file tells of one promise only: it proves nothing');
  voter.do({
    type: 'message',
    from: 2,
    message: { kind: 'released', event: 'sealed' },
    release: { holder: 2, term: 2, to: 3 },
  });
  voter.see(3, 4, 5);
  assert.deepEqual(reasons(voter.hear(3, request(3))), ['promised'], 'to node 1 still, which node 3 has not shut out');
  voter.hear(3, past(3, 1));
  assert.deepEqual(
    of(voter.effects, 'store-vote').map((each) => each.type === 'store-vote' && each.shutOut),
    [[{ holder: 1, term: 1 }]],
  );
  voter.stored(3, 3);
  assert.deepEqual(reasons(voter.hear(3, renew(3))), ['renew-ack']);
  assert.notEqual(storedVoteForStop(voter.state, BOOT, voter.now + L)?.promise, null);
});

test('invariant 11: a candidate shuts out what a majority has not heard either, and counts no vote past anybody else', () => {
  const two = new Lone(2, 5);
  two.do({ type: 'may-shut-out', may: true });
  two.see(2, 3, 4, 5);
  two.hear(1, renew(1));
  two.stored(1, 1);
  two.hear(1, renew(1));
  two.do({ type: 'tick' }, R - 1);
  assert.equal(two.state.role.kind, 'follower');
  two.do({ type: 'tick' }, 1);
  const sentAtMs = two.now;
  const refused = (silent: number[]): LeaseMessage => {
    return { kind: 'vote-refused', term: 2, reason: 'promised', knownTerm: 2, silent };
  };
  two.hear(3, refused([1]));
  assert.deepEqual(asked(two.effects), [], 'alone with one other of five');
  two.hear(4, refused([1, 5]));
  assert.deepEqual(asked(two.effects), [[1, 1]], 'node 5 is seen');
  two.hear(3, { kind: 'vote-granted', term: 2, echoSentAtMs: sentAtMs, vote: '3 for 2', shutOut: [1] });
  two.do(out(1, 1));
  assert.deepEqual(
    sent(two.effects).map((message) => message.kind === 'vote-request' && message.shutOut),
    [[1], [1], [1], [1]],
    'node 3 too, whose vote came before',
  );
  const grant = (from: number, shutOut: number[]) =>
    two.hear(from, { kind: 'vote-granted', term: 2, echoSentAtMs: sentAtMs, vote: `${from} for 2`, shutOut });
  grant(3, [1]);
  grant(4, [1, 5]);
  assert.equal(of(two.effects, 'store-vote').length, 0);
  grant(5, [1]);
  assert.deepEqual(
    of(two.effects, 'store-vote').map((each) => each.type === 'store-vote' && each.shutOut),
    [[{ holder: 1, term: 1 }]],
  );
  two.stored(2, 2);
  assert.deepEqual(
    two.effects.flatMap((each) => (each.type === 'elected' ? [each.shutOut] : [])),
    [[1]],
  );
  two.do({ type: 'grantable', nodes: [2, 3, 4, 5] });
  assert.equal(grantMayLastUntilMs(two.state, 1), two.now + L, 'it granted to itself');
  assert.equal(grantMayLastUntilMs(two.state, 3), two.now + 2 * L, 'by node 1, while its lease lives');
  two.hear(3, { kind: 'renew-ack', term: 2, echoSentAtMs: two.now, sentAtMs: 5 }, 100);
  assert.equal(grantMayLastUntilMs(two.state, 3), two.now + L, 'it has answered this master');
});

test('a lease whose release is being sealed is not extended by what is answered meanwhile', () => {
  const answered = (releasing: boolean): boolean => {
    const one = Lone.master();
    one.do({ type: 'tick' }, 500);
    if (releasing) one.do({ type: 'releasing', term: 1 });
    const ack = { kind: 'renew-ack', term: 1, sentAtMs: 0, echoSentAtMs: one.now } as const;
    return one.do({ type: 'message', from: 2, message: ack }, 10).some(({ type }) => type === 'lease-extended');
  };
  assert.equal(answered(false), true);
  assert.equal(answered(true), false);
});
