/** Agents of this machine hand over to their successors: real processes, real connections, no array. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { call } from '../unit/outlets_client.ts';
import { RealAgents } from './real_agents.ts';

test('a follower and the master hand over; for the others neither died nor left', { timeout: 240_000 }, async (t) => {
  const agents = await RealAgents.plan(t, 3);
  const successors: number[] = [];
  // Registered after the agents' own end, so run before it.
  t.after(() => {
    for (const pid of successors) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has handed over in its turn.
      }
    }
  });
  await Promise.all([1, 2, 3].map((node) => agents.start(node)));
  for (const node of [1, 2, 3]) await agents.until(node, ({ lease }) => lease.master === 1, 'node 1 leads');

  async function handOver(node: number): Promise<void> {
    const before = await agents.until(node, ({ lease }) => lease.grantLeftMs > 0, 'it has a grant');
    const { answer } = await call(agents.socket(node), '/v1/hand-over', { method: 'POST' });
    const { ok, text } = answer as { ok: boolean; text: string };
    assert.equal(ok, true, text);
    const pid = Number(/process (\d+) takes over/.exec(text)?.[1]);
    successors.push(pid);
    for (;;) {
      const now = await agents.status(node).catch(() => null);
      if (now !== null && now.startedAt !== before.startedAt) break;
      await sleep(20);
    }
    await agents.until(node, ({ lease }) => lease.grantLeftMs > 0, 'the successor has a grant');
    process.kill(pid, 0);
  }

  await handOver(3);
  await agents.until(2, ({ lease }) => lease.master === 1, 'node 1 leads on');
  // Once more, by the process that has taken over.
  await handOver(3);
  await handOver(1);
  await agents.until(2, ({ lease }) => lease.master !== null, 'somebody leads');
  await agents.until(2, ({ lease }) => lease.master === 1, 'node 1 leads again');
  const { answer } = await call(agents.socket(2), '/v1/events?limit=1000', {
    headers: { accept: 'application/cloudevents-batch+json' },
  });
  const types = (answer as { type: string }[]).map(({ type }) => type);
  assert.ok(types.length > 0);
  assert.deepEqual(
    types.filter((type) => /dead|left|evicted/i.test(type)),
    [],
  );
});
