/** The rules of one node at its quorum disks, each alone. How nodes get on with them is told in test/transcripts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type DiskBlock,
  type LeaseEffect,
  type LeaseInput,
  leaseStart,
  leaseStep,
  leaseSummary,
  ownerOfTerm,
  type QuorumSet,
  type ReadBlock,
  type StoredVote,
} from '../../src/lease/index.ts';
import { isQuorum, isWorthChanging, quorumSinceMs } from '../../src/lease/quorum_set.ts';
import { ownTermAfter } from '../../src/lease/terms.ts';
import { NO_LIST } from '../../src/roster/index.ts';
import type { LeaseMessage } from '../../src/wire/messages.ts';

const R = 2000;
const L = 3000;
const ABW: QuorumSet = { version: { term: 1, index: 0 }, disks: ['A', 'B', 'W'], former: null };
const fresh: StoredVote = { term: 0, candidate: null, promise: { holder: null, untilMs: 0, kernelBoot: '' } };

const request = (term: number): LeaseMessage => {
  return { kind: 'vote-request', term, sentAtMs: 1, list: NO_LIST, voterMs: L };
};

interface Asked {
  id: number;
  block: DiskBlock | null;
}

/** One node, whose disks are the test. */
class Lone {
  readonly self: number;
  state;
  now = 10_000;
  effects: LeaseEffect[] = [];
  readonly all: LeaseEffect[] = [];
  readonly asked = new Map<string, Asked>();
  readonly blocks = new Map<string, Map<number, ReadBlock>>();

  constructor(self: number, vote: StoredVote, nodes = [1, 2], candidacyTimeoutMs = 600) {
    this.self = self;
    const timing = {
      holderMs: R,
      voterMs: L,
      renewMs: 400,
      failbackAfterMs: 10_000,
      settleMs: 0,
      candidacyTimeoutMs,
    };
    this.state = leaseStart({ self, nodes, ...timing, disks: { boot: 'now' } }, { vote, kernelBoot: '' }, this.now);
  }

  do(input: LeaseInput, afterMs = 0): LeaseEffect[] {
    this.now += afterMs;
    const { state, effects } = leaseStep(this.state, input, this.now);
    this.state = state;
    this.effects = effects;
    this.all.push(...effects);
    for (const effect of effects) {
      if (effect.type !== 'disk-read' && effect.type !== 'disk-write') continue;
      assert.ok(!this.asked.has(effect.disk), `two operations at once at disk ${effect.disk}`);
      this.asked.set(effect.disk, { id: effect.id, block: effect.type === 'disk-write' ? effect.block : null });
    }
    return effects;
  }

  tick(afterMs = 0): LeaseEffect[] {
    return this.do({ type: 'tick' }, afterMs);
  }

  see(...alive: number[]): void {
    this.do({ type: 'view', view: { alive: alive.map((node) => ({ node, eligible: true })) } });
  }

  on(disk: string): Map<number, ReadBlock> {
    const blocks = this.blocks.get(disk) ?? new Map<number, ReadBlock>();
    this.blocks.set(disk, blocks);
    return blocks;
  }

  put(node: number, said: Partial<DiskBlock>, ...disks: string[]): void {
    const block: DiskBlock = { node, boot: 'then', term: node, phase: 'holding', sequence: 1, set: ABW, ...said };
    for (const disk of disks) this.on(disk).set(node, block);
  }

  /** The operation under way at this disk ends. */
  answer(disk: string, works = true): LeaseEffect[] {
    const asked = this.asked.get(disk);
    if (asked === undefined) return [];
    this.asked.delete(disk);
    const { id, block } = asked;
    if (block === null) return this.do({ type: 'disk-read', disk, id, blocks: works ? new Map(this.on(disk)) : null });
    if (works) this.on(disk).set(this.self, block);
    return this.do({ type: 'disk-written', disk, id, done: works });
  }

  /** All operations at these disks end, and the ones that they lead to. */
  settle(...disks: string[]): void {
    for (let round = 0; round < 8; round++) for (const disk of disks) this.answer(disk);
  }

  count(type: LeaseEffect['type']): number {
    return this.all.filter((effect) => effect.type === type).length;
  }

  role(): string {
    return leaseSummary(this.state).role;
  }

  sealIfWon(): void {
    const won = this.all.findLast((effect) => effect.type === 'seal-disk-lease');
    if (won?.type === 'seal-disk-lease') this.do({ type: 'disk-lease-sealed', term: won.term, sealed: 'sealed' });
  }
}

/** It has read its disks, and stands alone. */
function alone(self = 1, candidacyTimeoutMs = 600): Lone {
  const lone = new Lone(self, { ...fresh, set: ABW }, [1, 2], candidacyTimeoutMs);
  lone.tick();
  lone.settle('A', 'B', 'W');
  return lone;
}

/** It holds the disks. */
function holder(): Lone {
  const lone = alone();
  lone.see(1);
  lone.settle('A', 'B', 'W');
  lone.sealIfWon();
  lone.settle('A', 'B', 'W');
  assert.equal(lone.role(), 'master');
  return lone;
}

test('a bid that stands on a majority, with nobody in its way there, is won; the lease counts from the bid', () => {
  const lone = alone();
  lone.see(1);
  const bidMs = lone.now;
  lone.now += 300;
  lone.settle('A');
  assert.equal(lone.count('seal-disk-lease'), 0, 'one of three');
  lone.settle('B');
  assert.equal(lone.count('seal-disk-lease'), 1);
  lone.now += 100;
  lone.sealIfWon();
  const elected = lone.effects.find((effect) => effect.type === 'elected');
  const news = { term: 65, certificate: ['sealed'], untilMs: bidMs + R, shutOut: [], lapsed: [] };
  assert.deepEqual(elected, { type: 'elected', ...news });
});

test('whose lease has run out without its word is told with the election; who has let go, or said so to the nodes, is not', () => {
  const lapsedAfter = (befall: (lone: Lone) => void): readonly number[] | undefined => {
    const lone = new Lone(1, { ...fresh, set: ABW }, [1, 2, 3]);
    lone.tick();
    lone.settle('A', 'B', 'W');
    lone.put(2, { phase: 'holding', term: 66, sequence: 5 }, 'A', 'B');
    lone.put(3, { phase: 'free', term: 67, sequence: 9 }, 'A');
    lone.put(3, { phase: 'holding', term: 67, sequence: 8 }, 'B', 'W');
    befall(lone);
    lone.see(1, 2, 3);
    for (let ms = 0; lone.count('elected') === 0 && ms < 3 * L; ms += 200) {
      lone.tick(200);
      lone.settle('A', 'B', 'W');
      lone.sealIfWon();
    }
    return lone.all.flatMap((effect) => (effect.type === 'elected' ? [effect.lapsed] : []))[0];
  };
  assert.deepEqual(
    lapsedAfter(() => undefined),
    [2],
  );
  assert.deepEqual(
    lapsedAfter((lone) => lone.put(2, { phase: 'standing', term: 66, sequence: 5 }, 'A', 'B')),
    [2],
    'a bid may have been won',
  );
  assert.deepEqual(
    lapsedAfter((lone) => lone.put(2, { phase: 'free', term: 66, sequence: 6 }, 'W')),
    [],
  );
  const release = { holder: 2, term: 66, to: null };
  assert.deepEqual(
    lapsedAfter((lone) => lone.do({ type: 'message', from: 2, message: { kind: 'released', event: '' }, release })),
    [],
  );
});

test('a certificate that is sealed R after its bid elects nobody', () => {
  const lone = alone(1, 2 * R);
  lone.see(1);
  lone.settle('A', 'B', 'W');
  lone.now += R;
  lone.sealIfWon();
  assert.equal(lone.count('elected'), 0);
});

test('a read that was begun before the bid stood there shows nothing', () => {
  const lone = alone();
  lone.tick(400);
  assert.ok(
    [...lone.asked.values()].every(({ block }) => block === null),
    'reads are under way',
  );
  lone.see(1);
  assert.equal(lone.role(), 'candidate');
  for (const disk of ['A', 'B', 'W']) lone.answer(disk);
  assert.equal(lone.count('seal-disk-lease'), 0);
  lone.settle('A', 'B', 'W');
  assert.equal(lone.count('seal-disk-lease'), 1);
});

test('a disk that does not show the bid that it took counts for nothing', () => {
  const lone = alone();
  lone.see(1);
  for (const disk of ['A', 'B', 'W']) lone.answer(disk);
  lone.on('A').delete(1);
  lone.on('B').delete(1);
  lone.settle('A', 'B', 'W');
  assert.equal(lone.count('seal-disk-lease'), 0);
});

test('whoever bids at the same time is in the way: the lower ID waits, the higher one takes its bid back', () => {
  const lower = alone(1);
  lower.see(1);
  lower.put(2, { phase: 'standing' }, 'B', 'W');
  lower.settle('A', 'B', 'W');
  assert.equal(lower.count('seal-disk-lease'), 0);
  assert.equal(lower.role(), 'candidate');
  lower.put(2, { phase: 'free', sequence: 2 }, 'B', 'W');
  lower.tick(60);
  lower.settle('A', 'B', 'W');
  assert.equal(lower.count('seal-disk-lease'), 1);

  const higher = alone(2);
  higher.see(2);
  higher.put(1, { phase: 'standing' }, 'B');
  higher.settle('A', 'B', 'W');
  assert.equal(higher.role(), 'follower');
  const own = higher.on('W').get(2);
  assert.ok(own !== undefined && own !== 'torn' && own.phase === 'free', 'and says so');
});

test('who holds the disks is in the way until its block was seen unchanged for L before the bid', () => {
  const lone = alone();
  lone.put(2, {}, 'A', 'B', 'W');
  lone.tick(400);
  lone.settle('A', 'B', 'W');
  const seenMs = lone.now;
  lone.see(1);
  while (lone.now < seenMs + L - 50) {
    lone.tick(50);
    lone.settle('A', 'B', 'W');
    assert.equal(lone.role(), 'follower', `${lone.now - seenMs} ms after it was seen`);
  }
  lone.tick(50);
  lone.settle('A', 'B', 'W');
  assert.equal(lone.count('seal-disk-lease'), 1);
});

test('what was in the way when the bid was made stays in its way, however long the bid takes', () => {
  const lone = alone();
  lone.put(2, { phase: 'standing' }, 'W');
  lone.tick(400);
  lone.settle('A', 'B', 'W');
  const seenMs = lone.now;
  while (lone.now < seenMs + L - 200) {
    lone.tick(200);
    lone.settle('A', 'B', 'W');
  }
  lone.see(1);
  assert.equal(lone.role(), 'candidate', 'A and B are clear');
  lone.put(2, { phase: 'standing', sequence: 2 }, 'A');
  lone.now += 250;
  lone.settle('A', 'W', 'B');
  assert.equal(
    lone.count('seal-disk-lease'),
    0,
    'the block on W is as old as L by now; when the bid was made it was not',
  );
});

test('a torn block may hide anything: its disk is clear only when its node has written again', () => {
  const lone = alone();
  lone.on('A').set(2, 'torn');
  lone.on('B').set(2, 'torn');
  lone.see(2);
  lone.tick(400);
  lone.settle('A', 'B', 'W');
  lone.see(1);
  for (let ms = 0; ms < 3 * L; ms += 200) {
    lone.tick(200);
    lone.settle('A', 'B', 'W');
  }
  assert.equal(lone.count('seal-disk-lease'), 0);
  lone.put(2, { phase: 'free' }, 'A');
  lone.tick(400);
  lone.settle('A', 'B', 'W');
  lone.tick(400);
  lone.settle('A', 'B', 'W');
  assert.equal(lone.count('seal-disk-lease'), 1);
});

test('a lease that was signed away is over, and no other', () => {
  const lone = new Lone(1, { ...fresh, set: ABW }, [1, 2, 3]);
  lone.put(2, { term: 66 }, 'A', 'B', 'W');
  lone.put(3, { term: 3 }, 'A', 'B', 'W');
  lone.tick();
  lone.settle('A', 'B', 'W');
  const release = { holder: 2, term: 66, to: 1 };
  lone.do({ type: 'message', from: 2, message: { kind: 'released', event: '' }, release });
  lone.see(1);
  assert.equal(lone.role(), 'follower', 'node 3 said something that nobody has taken back');
  lone.put(3, { term: 3, phase: 'free', sequence: 2 }, 'A', 'B', 'W');
  lone.tick(400);
  lone.settle('A', 'B', 'W');
  assert.equal(lone.count('seal-disk-lease'), 1, 'node 2 need not be waited for');
});

test('a holder renews by its blocks alone, counting from when it made them up', () => {
  const lone = holder();
  lone.tick(400);
  const madeMs = lone.now;
  lone.now += 700;
  lone.answer('A');
  assert.equal(leaseSummary(lone.state).leaseUntilMs, 10_000 + R, 'one of three');
  lone.answer('W');
  assert.equal(leaseSummary(lone.state).leaseUntilMs, madeMs + R);
  lone.do({ type: 'message', from: 2, message: { kind: 'renew-ack', term: 65, echoSentAtMs: lone.now, sentAtMs: 1 } });
  assert.equal(leaseSummary(lone.state).leaseUntilMs, madeMs + R, 'nobody is asked for a promise');
  lone.tick(madeMs + R - lone.now);
  assert.equal(lone.count('lost'), 1);
});

test('a holder that reads of a later one stops at once', () => {
  const lone = holder();
  lone.put(2, { term: 130 }, 'W');
  lone.tick(400);
  lone.settle('W');
  lone.tick(400);
  lone.settle('W');
  assert.equal(lone.count('lost'), 1);
});

test('who knows a set votes no more, and bids only when what it promised by vote has run out', () => {
  const lone = new Lone(2, fresh);
  lone.see(1, 2);
  lone.do({ type: 'message', from: 1, message: request(65) });
  lone.do({ type: 'vote-stored', term: 65, candidate: 1, sealed: 'vote' });
  const promisedMs = lone.now;
  lone.do({ type: 'quorum-disks', disks: ['A', 'B', 'W'] });
  lone.put(1, { phase: 'free' }, 'A', 'B', 'W');
  lone.settle('A', 'B', 'W');
  assert.deepEqual(leaseSummary(lone.state).disks?.set, ABW);
  lone.do({ type: 'message', from: 1, message: request(129) });
  const [refused] = lone.effects;
  assert.ok(
    refused?.type === 'send' && refused.message.kind === 'vote-refused' && refused.message.reason === 'abstaining',
  );
  lone.see(2);
  while (lone.now < promisedMs + L - 100) {
    lone.tick(100);
    lone.settle('A', 'B', 'W');
    assert.equal(lone.role(), 'follower');
  }
  lone.tick(100);
  assert.equal(lone.role(), 'candidate');
});

test('after a start that knows nothing of the last one, no bid before L', () => {
  const lone = new Lone(1, { term: 1, candidate: 1, promise: null, set: ABW });
  lone.see(1);
  for (let ms = 0; ms < L; ms += 100) {
    lone.settle('A', 'B', 'W');
    assert.equal(lone.role(), 'follower', `${ms} ms after the start`);
    lone.tick(100);
  }
  assert.equal(lone.role(), 'candidate');
});

test('the first set is in the vote file before a disk hears of it, and from then on votes extend nothing', () => {
  const lone = new Lone(1, fresh);
  lone.see(1, 2);
  lone.do({
    type: 'message',
    from: 2,
    message: { kind: 'vote-granted', term: 1, echoSentAtMs: lone.now, vote: 'vote' },
  });
  lone.do({ type: 'vote-stored', term: 1, candidate: 1, sealed: 'own vote' });
  assert.equal(lone.role(), 'master');
  lone.do({ type: 'quorum-disks', disks: ['A', 'B', 'W'] });
  lone.settle('A', 'B', 'W');
  lone.tick(50);
  const stored = lone.effects.find((effect) => effect.type === 'store-set');
  assert.deepEqual(stored?.type === 'store-set' && stored.vote.set?.disks, ['A', 'B', 'W']);
  lone.tick(50);
  lone.settle('A', 'B', 'W');
  assert.equal(lone.count('disk-write'), 0);
  lone.do({ type: 'set-stored' });
  assert.equal(lone.count('disk-write'), 3);
  const before = leaseSummary(lone.state).leaseUntilMs;
  lone.do({ type: 'message', from: 2, message: { kind: 'renew-ack', term: 1, echoSentAtMs: lone.now, sentAtMs: 1 } });
  assert.equal(leaseSummary(lone.state).leaseUntilMs, before);
  lone.settle('A', 'B', 'W');
  assert.ok((leaseSummary(lone.state).leaseUntilMs ?? 0) > (before ?? 0), 'the disks do');
});

test('another set decides alone only when a majority of it and of the old one have it', () => {
  const lone = holder();
  const after = () =>
    lone.all
      .filter((effect) => effect.type === 'quorum-set')
      .map(({ set }) => [set.disks.join(''), set.former?.join('') ?? '']);
  lone.do({ type: 'quorum-disks', disks: ['C', 'D', 'E'] });
  lone.settle('A', 'B', 'W', 'C', 'D', 'E');
  lone.tick(50);
  assert.deepEqual(after().slice(1), [['CDE', 'ABW']]);
  lone.settle('A', 'B', 'W', 'C');
  assert.deepEqual(after().slice(1), [['CDE', 'ABW']], 'a majority of the old one, one of the new');
  lone.settle('D');
  assert.deepEqual(after().slice(1), [
    ['CDE', 'ABW'],
    ['CDE', ''],
  ]);
});

test('what is about to leave is taken out of the set, whatever number is left, as long as those can decide', () => {
  const lone = holder();
  const sets = () =>
    lone.all
      .filter((effect) => effect.type === 'quorum-set')
      .map(({ set }) => [set.disks.join(''), set.former?.join('') ?? '']);
  lone.do({ type: 'quorum-disks', disks: ['A', 'W'], leaving: [] });
  lone.settle('A', 'B', 'W');
  lone.tick(50);
  assert.equal(sets().length, 1, 'two are no better than three');
  lone.do({ type: 'quorum-disks', disks: ['A', 'W'], leaving: ['B'] });
  lone.settle('A', 'B', 'W');
  lone.tick(50);
  lone.settle('B');
  assert.deepEqual(sets().slice(1), [['AW', 'ABW']]);
  lone.settle('A', 'W');
  assert.deepEqual(sets().at(-1), ['AW', '']);
});

test('what is left has to answer, or nothing leaves the set', () => {
  const lone = holder();
  const isSilent = (ms: number): void => {
    for (let at = 0; at < ms; at += 100) {
      lone.tick(100);
      lone.settle('A', 'B');
    }
  };
  isSilent(L);
  lone.do({ type: 'quorum-disks', disks: ['A', 'B', 'W'], leaving: ['A', 'B'] });
  isSilent(L);
  assert.equal(lone.role(), 'master');
  assert.deepEqual(leaseSummary(lone.state).disks?.set?.disks, ['A', 'B', 'W']);
});

test('a change that another holder left half done is gone on with under the own term', () => {
  const lone = alone();
  const half: QuorumSet = { version: { term: 2, index: 1 }, disks: ['A', 'C', 'W'], former: ['A', 'B', 'W'] };
  lone.put(2, { phase: 'free', set: half }, 'W');
  lone.tick(400);
  lone.settle('A', 'B', 'W', 'C');
  lone.see(1);
  lone.settle('A', 'B', 'W', 'C');
  lone.sealIfWon();
  lone.settle('A', 'B', 'W', 'C');
  const sets = lone.all.flatMap((effect) => (effect.type === 'quorum-set' ? [effect.set] : []));
  assert.deepEqual(sets, [
    { ...half, version: { term: 65, index: 0 } },
    { version: { term: 65, index: 1 }, disks: half.disks, former: null },
  ]);
});

test('a majority is more than half, of each list that counts', () => {
  const has =
    (...there: string[]) =>
    (disk: string) =>
      there.includes(disk);
  const two: QuorumSet = { ...ABW, disks: ['A', 'B'] };
  assert.equal(isQuorum(two, has('A')), false);
  assert.equal(isQuorum(two, has('A', 'B')), true);
  const joint: QuorumSet = { ...ABW, former: ['X', 'Y', 'Z'] };
  assert.equal(isQuorum(joint, has('A', 'B', 'W', 'X')), false);
  assert.equal(isQuorum(joint, has('X', 'Y', 'Z', 'A')), false);
  assert.equal(isQuorum(joint, has('A', 'B', 'X', 'Y')), true);
  assert.equal(
    quorumSinceMs(two, (disk) => (disk === 'A' ? 5 : 3)),
    3,
  );
  assert.equal(
    quorumSinceMs(ABW, (disk) => (disk === 'A' ? 5 : disk === 'B' ? 3 : null)),
    3,
  );
  assert.equal(
    quorumSinceMs(joint, (disk) => (disk === 'X' ? null : 1)),
    1,
  );
  assert.equal(
    quorumSinceMs(joint, (disk) => ('ABWX'.includes(disk) ? 1 : null)),
    null,
  );
});

test('a set shrinks only to an odd number, and never to nothing', () => {
  assert.equal(isWorthChanging(ABW, []), false);
  assert.equal(isWorthChanging(ABW, ['A', 'W']), false, 'two of two are no better than two of three');
  assert.equal(isWorthChanging(ABW, ['W', 'B', 'A']), false);
  assert.equal(isWorthChanging(ABW, ['A', 'C', 'W']), true);
  assert.equal(isWorthChanging({ ...ABW, disks: ['A', 'B', 'C', 'D'] }, ['A', 'B', 'C']), true);
});

test('a term is of one node alone', () => {
  for (const node of [1, 2, 64]) {
    for (const term of [0, 1, 2, 63, 64, 65, 1000]) {
      const own = ownTermAfter(node, term);
      assert.ok(own > term && own <= term + 64 && ownerOfTerm(own) === node, `node ${node} after term ${term}: ${own}`);
    }
  }
});
