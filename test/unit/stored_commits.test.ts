/** When a commit counts as stored on this node: whoever waits for that is told so, or why it is not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StoredCommits } from '#src/agent/stored_commits.ts';
import { VirtualTime } from '#src/md/simulated_time.ts';
import { FakeJournal, failCommit } from './outlets_fake_agent.ts';

function scene() {
  const time = new VirtualTime();
  const journal = new FakeJournal();
  const timers = {
    after: (delayMs: number, run: () => void) => time.schedule(time.clock() + delayMs, run),
    every: () => () => undefined,
    wall: () => new Date(0),
  };
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  const commits = new StoredCommits({ journal, timers, log }, { isWanted: () => false, stored: () => undefined });
  commits.start();
  const event = failCommit();
  assert.ok(event.body.type === 'commit');
  return { time, journal, commits, event, record: event.body.record };
}

test('a commit that is yet to be appended is waited for', async () => {
  const { time, journal, commits, event, record } = scene();
  const order: string[] = [];
  const durable = commits.durable(record).then(() => order.push('durable'));
  await time.pass(1000);
  order.push('appended');
  journal.append(event, 'x');
  await durable;
  assert.deepEqual(order, ['appended', 'durable']);
  await commits.durable(record);
});

test('one that the journal has no room for is not waited for longer than it can take: whoever waits says why', async () => {
  const { time, commits, record } = scene();
  const refused = assert.rejects(commits.durable(record), /it is not in this node's journal; make room for that/);
  await time.pass(5000);
  await refused;
});
