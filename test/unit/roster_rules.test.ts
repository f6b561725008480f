/** Which node list counts, rule by rule. How whole clusters fare is told in test/sim/reload.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  idsOf,
  isMajorityOfEach,
  mayStand,
  type NodeList,
  quorumOf,
  type RosterEffect,
  type RosterInput,
  type RosterState,
  type RosterWord,
  rosterStart,
  rosterStep,
  type StoredLists,
  waitsFor,
  whyNotAfter,
  whyNotByDisks,
} from '../../src/roster/index.ts';
import { isSound, wishedList } from '../../src/wire/node_list.ts';

const TIMES = { holderMs: 2000, voterMs: 3000 };
const LONGER = { holderMs: 4000, voterMs: 6000 };
const entries = (...ids: number[]) => ids.map((id) => ({ id, peerId: `key ${id}` }));
const wish = (ids: number[], times = TIMES) => wishedList(entries(...ids), times);

function list(ids: number[], term = 0, generation = 0, times = TIMES): NodeList {
  const { digest, nodes, holderMs, voterMs } = wish(ids, times);
  return { version: { term, generation, digest }, nodes: [...nodes], holderMs, voterMs, ended: [] };
}

const THREE = list([1, 2, 3]);
const FOUR = list([1, 2, 3, 4], 5, 1);

class Lone {
  state: RosterState;
  now = 10_000;
  effects: RosterEffect[] = [];

  constructor(
    self: number,
    asks: number[],
    stored: StoredLists | null = { agreed: THREE, pending: null, previous: null },
  ) {
    this.state = rosterStart(self, wish(asks), stored, this.now);
  }

  put(input: RosterInput, afterMs = 1): RosterEffect[] {
    this.now += afterMs;
    const { state, effects } = rosterStep(this.state, input, this.now);
    this.state = state;
    this.effects = effects;
    return effects;
  }

  /** A disk that is quick. */
  putStored(input: RosterInput): RosterEffect[] {
    const all = [...this.put(input)];
    while (this.state.storing !== null) all.push(...this.put({ type: 'stored' }));
    return all;
  }

  alive(...nodes: number[]): this {
    this.put({ type: 'alive', nodes });
    return this;
  }

  follow(node: number | null, term: number): this {
    this.put({ type: 'master', node, term });
    return this;
  }

  hear(from: number, word: Partial<RosterWord> & { asks?: number[] }): RosterEffect[] {
    const { asks, ...rest } = word;
    const said = { agreed: THREE, pending: null, wish: wish(asks ?? [1, 2, 3]).digest, master: null, term: 0, ...rest };
    return this.putStored({ type: 'word', from, word: said });
  }

  kinds(): string[] {
    return this.effects.map(({ type }) => type);
  }
}

/** Node 1 leads in term 5, its file asks for four nodes, all of them live and ask for the same. */
function proposing(): Lone {
  const one = new Lone(1, [1, 2, 3, 4]).alive(1, 2, 3, 4).follow(1, 5);
  for (const node of [2, 3]) one.hear(node, { asks: [1, 2, 3, 4], master: 1, term: 5 });
  one.hear(4, { agreed: list([1, 2, 3, 4]), asks: [1, 2, 3, 4] });
  return one;
}

/** As node `from` says when it has stored what is pending, and follows node 1 in term 5. */
const has = (pending: NodeList | null, master = 1, term = 5) => ({ asks: [1, 2, 3, 4], pending, master, term });

test('a list is proposed when every living node asks for it, and stored before anybody hears of it', () => {
  const one = new Lone(1, [1, 2, 3, 4]).alive(1, 2, 3, 4).follow(1, 5);
  one.hear(2, { asks: [1, 2, 3, 4], master: 1, term: 5 });
  one.hear(4, { agreed: list([1, 2, 3, 4]), asks: [1, 2, 3, 4] });
  one.hear(3, { asks: [1, 2, 3], master: 1, term: 5 });
  assert.equal(one.state.pending, null);
  assert.match(waitsFor(one.state) ?? '', /node 3 has another list in its file/);
  one.put({
    type: 'word',
    from: 3,
    word: { agreed: THREE, pending: null, wish: wish([1, 2, 3, 4]).digest, master: 1, term: 5 },
  });
  assert.deepEqual(one.state.storing?.pending?.version, FOUR.version);
  const told = () => one.effects.filter((effect) => effect.type === 'send' && effect.word.pending !== null);
  assert.deepEqual(told(), [], 'not on the disk yet');
  assert.equal(one.state.pending, null, 'and counts for nothing');
  one.put({ type: 'stored' });
  assert.equal(told().length, 3);
});

test('a newcomer must be there, and a majority of both lists', () => {
  const one = new Lone(1, [1, 2, 3, 4]).alive(1, 2, 3).follow(1, 5);
  for (const node of [2, 3]) one.hear(node, { asks: [1, 2, 3, 4], master: 1, term: 5 });
  assert.match(waitsFor(one.state) ?? '', /node 4 is not there/);
  const alone = new Lone(1, [1], { agreed: list([1, 2]), pending: null, previous: null }).alive(1).follow(1, 5);
  assert.match(waitsFor(alone.state) ?? '', /a majority of each must be there/);
  assert.equal(alone.state.pending, null);
});

test('a node that may have writes in flight stays on the list', () => {
  const one = new Lone(1, [1, 2]).alive(1, 2, 3).follow(1, 5);
  one.putStored({ type: 'facts', writers: [1, 2, 3], ends: new Map() });
  one.hear(2, { asks: [1, 2], master: 1, term: 5 });
  assert.equal(one.state.pending, null);
  assert.match(waitsFor(one.state) ?? '', /node 3 may have writes in flight/);
  one.putStored({ type: 'facts', writers: [1, 2], ends: new Map() });
  assert.deepEqual(idsOf(one.state.pending ?? THREE), [1, 2]);
  // It was let in again by a master of before that knew nothing of the change.
  one.putStored({ type: 'facts', writers: [1, 2, 3], ends: new Map() });
  one.hear(2, { asks: [1, 2], pending: one.state.pending, master: 1, term: 5 });
  assert.equal(one.state.concluding, null);
});

test('rule 2: while a list is pending, a majority of both is needed, the shorter R and the longer L count', () => {
  const quorum = quorumOf({ agreed: THREE, pending: list([1, 2, 3, 4], 5, 1, LONGER), previous: null });
  assert.deepEqual(quorum.sets, [
    [1, 2, 3],
    [1, 2, 3, 4],
  ]);
  assert.deepEqual([quorum.holderMs, quorum.voterMs], [2000, 6000]);
  assert.equal(isMajorityOfEach(quorum.sets, [1, 2]), false);
  assert.equal(isMajorityOfEach(quorum.sets, [1, 4, 3]), true);
  assert.equal(isMajorityOfEach(quorum.sets, [1, 4]), false);
  const lowered = quorumOf({ agreed: THREE, pending: null, previous: list([1, 2, 3], 0, 0, LONGER) });
  assert.deepEqual([lowered.holderMs, lowered.voterMs], [2000, 6000], 'promises of before last as long as they did');
});

test('rule 3: it counts alone when a majority of both has it, and this lease is over, not before', () => {
  const one = proposing();
  one.hear(2, has(one.state.pending));
  one.hear(3, has(one.state.pending));
  assert.equal(one.state.concluding, null, 'node 4 lives, and is waited for');
  const effects = one.hear(4, has(one.state.pending));
  assert.deepEqual(
    effects.filter(({ type }) => type === 'hand-over'),
    [{ type: 'hand-over', term: 5 }],
  );
  assert.equal(quorumOf(one.state).sets.length, 2, 'the lease is not over');
  one.put({ type: 'lease-over', term: 4 });
  assert.equal(quorumOf(one.state).sets.length, 2, 'that was another one');
  one.put({ type: 'lease-over', term: 5 });
  assert.deepEqual(quorumOf(one.state).sets, [[1, 2, 3, 4]]);
  assert.ok(one.kinds().includes('agreed'));
});

test('rule 3: who follows another master, or this one in another term, is not counted', () => {
  for (const [master, term] of [
    [2, 5],
    [1, 4],
  ] as const) {
    const one = proposing();
    one.hear(2, has(one.state.pending, master, term));
    one.hear(3, has(one.state.pending, master, term));
    one.hear(4, has(one.state.pending));
    one.alive(1, 4);
    one.putStored({ type: 'tick' });
    assert.equal(one.state.concluding, null, `node ${master}, term ${term}`);
  }
});

test('rule 2: a node stores what its own master proposes, if its own file asks for it', () => {
  const word = { asks: [1, 2, 3, 4], pending: FOUR, master: 1, term: 5 };
  const willing = new Lone(2, [1, 2, 3, 4]).follow(1, 5);
  willing.hear(1, word);
  assert.deepEqual(willing.state.pending?.version, FOUR.version);
  const other = new Lone(2, [1, 2, 3]).follow(1, 5);
  other.hear(1, word);
  assert.equal(other.state.pending, null, 'its file asks for something else');
  const elsewhere = new Lone(2, [1, 2, 3, 4]).follow(3, 6);
  elsewhere.hear(1, word);
  assert.equal(elsewhere.state.pending, null, 'it follows another master by now');
  const late = new Lone(2, [1, 2, 3, 4]).follow(1, 6);
  late.hear(1, word);
  assert.equal(late.state.pending, null, 'a word of an earlier term');
  const unrelated = new Lone(3, [1, 2, 3], { agreed: list([1, 2, 4]), pending: null, previous: null }).follow(1, 5);
  unrelated.hear(1, { master: 1, term: 5 });
  assert.deepEqual(unrelated.state.agreed.version, THREE.version, 'a first file that was wrong is put right');
  const passed = new Lone(2, [1, 2, 3, 4]).follow(1, 5);
  passed.hear(3, word);
  assert.equal(passed.state.pending, null, 'not the master says so');
});

test('a newcomer learns from the proposal what the list was before', () => {
  const four = new Lone(4, [1, 2, 3, 4], null).follow(1, 5);
  four.hear(1, { asks: [1, 2, 3, 4], pending: FOUR, master: 1, term: 5 });
  assert.deepEqual(quorumOf(four.state).sets, [
    [1, 2, 3],
    [1, 2, 3, 4],
  ]);
});

test('a node that slept through a change takes the next one, and with it the one that it follows', () => {
  const next = list([1, 2, 3], 7, 2);
  const two = new Lone(2, [1, 2, 3]).follow(1, 7);
  two.hear(1, { agreed: FOUR, pending: next, master: 1, term: 7 });
  assert.deepEqual(two.state.pending?.version, next.version);
  assert.deepEqual(quorumOf(two.state).sets, [
    [1, 2, 3, 4],
    [1, 2, 3],
  ]);
});

test('rule 4: what is pending is dropped for the master of a later term without it, and for nobody else', () => {
  const stored = { agreed: THREE, pending: FOUR, previous: null };
  const two = new Lone(2, [1, 2, 3, 4], stored).follow(3, 5);
  two.hear(3, { master: 3, term: 5 });
  assert.deepEqual(two.state.pending?.version, FOUR.version, 'the term in which it was proposed');
  two.follow(3, 6);
  two.hear(1, { master: 1, term: 6 });
  assert.deepEqual(two.state.pending?.version, FOUR.version, 'not the master');
  two.hear(3, { master: 3, term: 6 });
  assert.equal(two.state.pending, null);
});

test('what is agreed on is taken from anybody, if it was pending here or the file asks for it', () => {
  const pending = new Lone(2, [1, 2, 3], { agreed: THREE, pending: FOUR, previous: null });
  pending.hear(3, { agreed: FOUR, asks: [1, 2, 3, 4] });
  assert.deepEqual(pending.state.agreed.version, FOUR.version);
  const asked = new Lone(2, [1, 2, 3, 4]);
  asked.hear(3, { agreed: FOUR, asks: [1, 2, 3, 4] });
  assert.deepEqual(asked.state.agreed.version, FOUR.version);
  const stale = new Lone(2, [1, 2, 3]);
  const effects = stale.hear(3, { agreed: FOUR, asks: [1, 2, 3, 4] });
  assert.deepEqual(stale.state.agreed.version, THREE.version);
  const told = effects.find((effect) => effect.type === 'notice');
  assert.match(String(told?.type === 'notice' && told.detail.why), /put it into the file here/);
  assert.equal(mayStand(stale.alive(2, 3).state), false, 'it would be refused by all, and be in the way as the lowest');
});

test('a change that was begun is ended by the next master that knows of it', () => {
  const two = new Lone(2, [1, 2, 3, 4], { agreed: THREE, pending: FOUR, previous: null }).alive(2, 3, 4).follow(2, 6);
  two.hear(3, has(FOUR, 2, 6));
  assert.equal(two.state.concluding, null);
  two.hear(4, has(FOUR, 2, 6));
  assert.equal(Object(two.state.concluding).term, 6);
});

test('a lease that ends by itself while the list is being concluded is over, too', () => {
  const one = proposing();
  for (const node of [2, 3]) one.hear(node, has(one.state.pending));
  one.put({
    type: 'word',
    from: 4,
    word: { agreed: THREE, wish: wish([1, 2, 3, 4]).digest, pending: one.state.pending, master: 1, term: 5 },
  });
  assert.ok(one.state.concluding !== null);
  one.put({ type: 'lease-over', term: 5 });
  assert.equal(quorumOf(one.state).sets.length, 2, 'it is not on the disk yet');
  one.put({ type: 'stored' });
  assert.deepEqual(quorumOf(one.state).sets, [[1, 2, 3, 4]]);
});

test('the list before is remembered for as long as promises of its time may last', () => {
  const one = new Lone(1, [1, 2, 3], { agreed: THREE, pending: null, previous: list([1, 2, 3], 0, 0, LONGER) });
  one.putStored({ type: 'tick' });
  assert.equal(quorumOf(one.state).voterMs, 6000);
  one.put({ type: 'tick' }, 12_000);
  one.put({ type: 'stored' });
  assert.equal(quorumOf(one.state).voterMs, 3000);
});

test('keys end at the last event that was known of them', () => {
  const one = new Lone(1, [1, 2]).alive(1, 2).follow(1, 5);
  one.putStored({ type: 'facts', writers: [1, 2], ends: new Map([[3, { bootNumber: 7, sequence: 12 }]]) });
  one.hear(2, { asks: [1, 2], master: 1, term: 5 });
  one.hear(2, { asks: [1, 2], pending: one.state.pending, master: 1, term: 5 });
  one.put({ type: 'lease-over', term: 5 });
  assert.deepEqual(one.state.agreed.ended, [{ node: 3, peerId: 'key 3', bootNumber: 7, sequence: 12 }]);
});

test('who stands: a list of its own at the same version is a fault of the fewer', () => {
  const odd = list([1, 2, 4]);
  const one = new Lone(1, [1, 2, 3]).alive(1, 2, 3);
  one.hear(2, {});
  one.hear(3, { agreed: odd });
  assert.equal(mayStand(one.state), true);
  one.hear(2, { agreed: odd });
  assert.equal(mayStand(one.state), false);
  const off = new Lone(4, [1, 2, 3, 4], { agreed: THREE, pending: null, previous: null });
  assert.equal(mayStand(off.state), false, 'not in the list that counts');
});

test('which list may follow which', () => {
  const before = { nodes: entries(1, 2, 3) };
  assert.equal(whyNotAfter(before, { nodes: entries(1, 2, 3, 4) }), null);
  assert.equal(whyNotAfter(before, { nodes: entries(1, 2) }), null);
  assert.match(
    whyNotAfter(before, { nodes: entries(1, 2, 3, 4, 5) }) ?? '',
    /adds node 4, 5: change one node at a time/,
  );
  assert.match(whyNotAfter(before, { nodes: entries(1, 2, 4) }) ?? '', /adds node 4 and removes node 3/);
  const both = { nodes: [{ id: 1, peerId: 'key 1', nextPeerId: 'new' }, ...entries(2, 3)] };
  const fresh = { nodes: [{ id: 1, peerId: 'new' }, ...entries(2, 3)] };
  assert.equal(whyNotAfter(before, both), null);
  assert.equal(whyNotAfter(both, fresh), null);
  assert.match(whyNotAfter(before, fresh) ?? '', /node 1's peer_id changes .* at once.* next_peer_id/);
});

test('a list is what its digest says: IDs, keys, R and L', () => {
  assert.equal(isSound(FOUR), true);
  assert.equal(isSound({ ...FOUR, nodes: entries(1, 2, 3) }), false);
  assert.equal(isSound({ ...FOUR, holderMs: 1 }), false);
  assert.equal(isSound({ ...FOUR, nodes: [...FOUR.nodes, ...entries(4)] }), false);
  assert.notEqual(wish([1, 2, 3]).digest, wish([1, 2, 3], LONGER).digest);
  assert.equal(wishedList(entries(3, 1, 2), TIMES).digest, wish([1, 2, 3]).digest);
});

test('a first list of its own is given up for the followed master’s alone: others with the same file may be as new', () => {
  const three = new Lone(3, [1, 2, 3, 4, 5]).follow(1, 5);
  const five = list([1, 2, 3, 4, 5]);
  for (const node of [4, 5]) three.hear(node, { agreed: five, asks: [1, 2, 3, 4, 5] });
  assert.deepEqual(three.state.agreed.version, THREE.version);
  const late = new Lone(4, [1, 2, 3, 4], { agreed: list([1, 2, 3, 4, 5]), pending: null, previous: null });
  late.hear(1, { asks: [1, 2, 3, 4], pending: FOUR, master: 1, term: 5 });
  assert.deepEqual(
    late.state.pending?.version,
    FOUR.version,
    'a newcomer whose file was another one at its first start',
  );
});

test('where disks decide no list follows another one, and what to do instead is said', () => {
  const begun = { agreed: THREE, pending: null, previous: null };
  const proposes = (byDisks: boolean) => {
    let state = rosterStart(1, wish([1, 2, 3, 4]), begun, 10_000, byDisks);
    const inputs: RosterInput[] = [
      { type: 'alive', nodes: [1, 2, 3, 4] },
      ...[2, 3, 4].map((from): RosterInput => {
        const word = { agreed: THREE, pending: null, wish: wish([1, 2, 3, 4]).digest, master: 1, term: 5 };
        return { type: 'word', from, word };
      }),
      { type: 'master', node: 1, term: 5 },
    ];
    for (const input of inputs) state = rosterStep(state, input, 10_001).state;
    return { stores: state.storing !== null, waits: waitsFor(state) ?? '' };
  };
  assert.equal(proposes(false).stores, true);
  const { stores, waits } = proposes(true);
  assert.equal(stores, false);
  assert.match(
    waits,
    /1 key 1, 2 key 2, 3 key 3, .* cannot become .*4 key 4, .* while disks decide .*force-list on each/,
  );
  assert.match(whyNotByDisks(THREE, wish([1, 2, 3], LONGER)) ?? '', /voter 3000 ms\) cannot become .*voter 6000 ms/);
  assert.equal(whyNotByDisks(THREE, wish([1, 2, 3])), null);
});

test('where disks decide no agent starts in the middle of a change of the list', () => {
  const amid = { agreed: THREE, pending: FOUR, previous: null };
  assert.throws(() => rosterStart(1, wish([1, 2, 3, 4]), amid, 10_000, true), /from 1 2 3 to 1 2 3 4.*quorum: nodes/);
  rosterStart(1, wish([1, 2, 3, 4]), amid, 10_000);
});
