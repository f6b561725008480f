/** What a running agent may still do, as the kernel says of each of its threads. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { RealAgents } from './real_agents.ts';

const isRoot = process.getuid?.() === 0;
const needed = ['CAP_IPC_LOCK', 'CAP_SYS_ADMIN', 'CAP_SYS_MODULE', 'CAP_SYS_NICE', 'CAP_SYS_RAWIO'];
/** By their numbers in <linux/capability.h>. */
const numbers: Record<string, bigint> = {
  CAP_CHOWN: 0n,
  CAP_NET_BIND_SERVICE: 10n,
  CAP_IPC_LOCK: 14n,
  CAP_SYS_MODULE: 16n,
  CAP_SYS_RAWIO: 17n,
  CAP_SYS_ADMIN: 21n,
  CAP_SYS_NICE: 23n,
};
const setOf = (names: readonly string[]) => names.reduce((set, name) => set | (1n << (numbers[name] ?? 63n)), 0n);
const field = (status: string, name: string) => BigInt(`0x${new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(status)?.[1]}`);
const skip = isRoot ? false : 'root alone has capabilities to give up';

test('no thread of the agent keeps a capability that it does not need, nor a way to one', { skip }, async (t) => {
  const agents = await RealAgents.plan(t, 1);
  await agents.start(1);
  const status = await agents.until(1, ({ lease }) => lease.role === 'master', 'it leads alone');
  const threads = agents.threads(1);
  assert.ok(threads.length > 8, 'threads of Node and of the guard');
  const all = setOf(needed);
  // Where this machine gives root less than all, there is less to keep.
  const own = field(readFileSync('/proc/self/status', 'utf8'), 'CapPrm');
  for (const thread of threads) {
    for (const set of ['CapEff', 'CapPrm', 'CapBnd']) assert.equal(field(thread, set), all & own, `${set}\n${thread}`);
    assert.equal(field(thread, 'CapInh'), 0n);
    assert.match(thread, /^NoNewPrivs:\s+1$/m);
  }
  assert.deepEqual(
    [...(status.privileges?.effective ?? [])].sort(),
    needed.filter((name) => (own & setOf([name])) !== 0n),
  );
  assert.equal(status.privileges?.noNewPrivileges, true);
  // By CAP_SYS_RESOURCE, which not every machine gives to its root; test/lab/mirror.test.ts has a kernel that does.
  assert.equal(status.privileges?.ioFlusher, (own & (1n << 24n)) !== 0n);
});

test('an operator’s program gets what the agent was started with; the agent itself does without', {
  skip,
}, async (t) => {
  const out = mkdtempSync(join(tmpdir(), 'mdmesh-hook-'));
  t.after(() => rmSync(out, { recursive: true, force: true }));
  const program = join(out, 'hook');
  const said = join(out, 'said');
  writeFileSync(program, `#!/bin/sh\ngrep -e Cap -e NoNew /proc/self/status > ${said}.new && mv ${said}.new ${said}\n`);
  chmodSync(program, 0o755);
  const agents = await RealAgents.plan(
    t,
    1,
    `hooks:\n  - { name: h, program: [${program}], types: [MasterElected, WritesEnabled, NodeJoined] }`,
  );
  await agents.start(1);
  await agents.until(1, ({ lease }) => lease.role === 'master', 'it leads alone');
  for (let waited = 0; !existsSync(said); waited += 1) {
    assert(waited < 1200, 'the hook ran');
    await sleep(50);
  }
  const own = readFileSync('/proc/self/status', 'utf8');
  const hook = readFileSync(said, 'utf8');
  for (const set of ['CapPrm', 'CapEff', 'CapBnd']) assert.equal(field(hook, set), field(own, set), set);
  for (const thread of agents.threads(1)) {
    assert.equal(field(thread, 'CapEff'), setOf(needed) & field(own, 'CapPrm'));
    assert.equal(field(thread, 'CapPrm'), field(own, 'CapPrm'));
  }
});
