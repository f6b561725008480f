/** What proves a master, by votes and where disks decide, and what does not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Certificates } from '#src/agent/certificates.ts';
import { type Event, type EventBody, generateIdentity, open, publicKeyOfPeerId, seal } from '#src/wire/index.ts';

const CLUSTER = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001';
const identities = new Map([
  [1, await generateIdentity()],
  [2, await generateIdentity()],
  [3, await generateIdentity()],
  [4, await generateIdentity()],
  [5, await generateIdentity()],
]);
let sequence = 0;

async function sealed(origin: number, body: EventBody): Promise<string> {
  const identity = identities.get(origin) ?? assert.fail();
  sequence += 1;
  const event: Event = {
    cluster: CLUSTER,
    origin,
    boot: CLUSTER,
    bootNumber: 1,
    sequence,
    time: '2024-01-01T00:00:00.000Z',
    term: 1,
    body,
  };
  return Buffer.from(await seal(identity, event)).toString('base64');
}

function judge(byDisks: boolean, lists = [[1, 2]]): Certificates {
  const key = (node: number) => {
    const identity = identities.get(node);
    return identity === undefined ? [] : [publicKeyOfPeerId(identity.peerId)];
  };
  return new Certificates(lists, byDisks, (text) => open(Buffer.from(text, 'base64'), key, CLUSTER));
}

const word = (term: number): EventBody => ({
  type: 'disk-lease',
  term,
  set: { version: { term, index: 0 }, disks: [CLUSTER], former: null },
});

test("a holder's signed word proves its own term, where disks decide", async () => {
  const certificate = [await sealed(2, word(66))];
  assert.equal(await judge(true).refusal(66, 2, certificate), null);
  assert.match((await judge(false).refusal(66, 2, certificate)) ?? '', /vote is for something else/);
});

test("nobody's word proves another's term, nor another term", async () => {
  assert.match((await judge(true).refusal(66, 2, [await sealed(1, word(66))])) ?? '', /node 1 signed/);
  assert.match((await judge(true).refusal(66, 1, [await sealed(1, word(66))])) ?? '', /node 1 signed/);
  assert.match((await judge(true).refusal(130, 2, [await sealed(2, word(66))])) ?? '', /term 66/);
});

test('before disks decide, all nodes must have voted', async () => {
  const votes = await Promise.all([1, 2].map((voter) => sealed(voter, { type: 'vote', term: 65, candidate: 1 })));
  assert.equal(await judge(true).refusal(65, 1, votes), null);
  assert.match((await judge(true).refusal(65, 1, votes.slice(0, 1))) ?? '', /1 votes, 2 needed/);
});

test('a majority of any one list that counts is enough; votes of nodes that are not on it are not', async () => {
  const voted = (...voters: number[]) =>
    Promise.all(voters.map((voter) => sealed(voter, { type: 'vote', term: 7, candidate: 1 })));
  const lists = [
    [1, 2, 3],
    [1, 3, 4, 5],
  ];
  for (const voters of [
    [1, 2],
    [1, 3, 4],
  ])
    assert.equal(await judge(false, lists).refusal(7, 1, await voted(...voters)), null, `${voters}`);
  for (const voters of [[1], [1, 4], [2, 4, 5]])
    assert.match(
      (await judge(false, lists).refusal(7, 1, await voted(...voters))) ?? '',
      /votes, 2 needed/,
      `${voters}`,
    );
  assert.match((await judge(false, [[1, 2, 3]]).refusal(7, 1, await voted(1, 4, 5))) ?? '', /3 votes, 2 needed/);
  const after = judge(false, [[1, 2, 3]]);
  after.goBy([[1, 3, 4, 5]]);
  assert.match(
    (await after.refusal(7, 1, await voted(1, 2))) ?? '',
    /2 votes, 3 needed/,
    'the list before counts no more',
  );
});
