/**
 * A member turned bad: it has a key of the node list, and sends all that it can. The others, whole agents in processes of their own,
 * keep their lease, answer their operators, and write neither log nor journal full.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { privateKeyToProtobuf } from '@libp2p/crypto/keys';
import type { Status } from '#src/outlets/index.ts';
import { type Flood, type FloodKind, floodKinds } from './flooder.ts';
import { RealAgents } from './real_agents.ts';

const FLOOD_MS = 1200;
/** Slow enough that a machine that others use as well keeps it; a queue that grows loses it all the same. */
const timing = 'timing: { renew: 1s, holder: 8s, voter: 12s, watchdog: 13s }';

/** What shows that the flood has arrived, and met the rule that bounds it, where there is one. */
const met: Partial<Record<FloodKind, (counters: Status['counters'], before: Status['counters']) => boolean>> = {
  'events with a signature of nobody': (now, before) => (now.refused ?? 0) > (before.refused ?? 0) + 100,
  'large events, truly signed': (now, before) => (now.refused ?? 0) > (before.refused ?? 0) + 5,
  'frames that are no JSON': (now, before) => (now.framesRefused ?? 0) > (before.framesRefused ?? 0) + 100,
  'streams that say nothing': (now, before) => (now.framesRefused ?? 0) > (before.framesRefused ?? 0),
};

/** Bytes in journal and log of a node. */
function written(agents: RealAgents, node: number): { journal: number; log: number } {
  const state = join(agents.folder(node), 'state');
  const journal = readdirSync(state)
    .filter((name) => name.startsWith('journal'))
    .reduce((sum, name) => sum + statSync(join(state, name)).size, 0);
  return { journal, log: agents.logBytes.get(node) ?? 0 };
}

test('floods of a member: the lease is kept, operators are answered, disks are not filled', {
  timeout: 240_000,
}, async (t) => {
  const agents = await RealAgents.plan(t, 3, timing);
  await Promise.all([1, 2].map((node) => agents.start(node)));
  const before = await agents.until(1, ({ lease }) => lease.role === 'master', 'node 1 leads');
  await agents.until(2, ({ lease }) => lease.master === 1, 'node 2 follows');
  const identity = agents.identities[2];
  const to = agents.nodes[0];
  assert(identity && to);
  const key = Buffer.from(privateKeyToProtobuf(identity.privateKey)).toString('base64');
  const flood: Flood = { key, node: 3, bootNumber: 2, to };
  const script = fileURLToPath(new URL('./flooder.ts', import.meta.url));
  const bad = spawn(process.execPath, ['--no-warnings', script, JSON.stringify(flood)], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  t.after(async () => {
    const ended = once(bad, 'exit');
    bad.kill('SIGKILL');
    await ended;
  });
  await agents.until(1, ({ nodes }) => nodes[2]?.connected === true, 'the bad one is let in');
  for (const kind of floodKinds) {
    const start = written(agents, 1);
    const { counters } = await agents.status(1);
    bad.stdin.write(`${kind}\n`);
    const end = Date.now() + FLOOD_MS;
    let answers = 0;
    for (let seen = false; !seen || Date.now() < end; answers += 1) {
      const { lease, counters: now } = await agents.status(1);
      assert.equal(lease.role, 'master', kind);
      assert.equal(lease.term, before.lease.term, kind);
      seen ||= met[kind]?.(now, counters) ?? true;
      assert.ok(Date.now() < end + 30_000, `${kind}: never met what bounds it: ${JSON.stringify(now)}`);
      await sleep(20);
    }
    const now = written(agents, 1);
    const [journal, log] = [now.journal - start.journal, now.log - start.log];
    t.diagnostic(`${kind}: ${answers} answers, journal +${journal}, log +${log}`);
    assert.ok(journal < 3 * 1024 * 1024, `${kind}: journal grew by ${journal} bytes`);
    assert.ok(log < 1024 * 1024, `${kind}: log grew by ${log} bytes`);
  }
});
