/**
 * An agent makes way for another process of its program, on real kernels, while all nodes write: on a node that follows, on the master,
 * in the middle of a copy; and what becomes of it where one of the two dies, refuses or hangs, at each moment that matters. Successors that
 * do so are this program with a few lines before it, laid where the running one was started from.
 */
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { createMirror, LastingWriters, leads, proveWhole } from './lasting_writers.ts';
import { ownBuild } from './own_build.ts';
import { PATIENT, Writers } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, hand-overs on real kernels: ${available.why}`);

const REGION_BLOCKS = 2000;
const WATCHED_BLOCKS = 1000;

/** A build of its own for a node, so that its program can be replaced under its agent. */
function builtFor(node: NodeId): string {
  const directory = ownBuild(`hand-over-${node}`);
  copyFileSync(join(directory, 'mdmesh.cjs'), join(directory, 'sound.cjs'));
  return directory;
}

/** What a successor does when it is about to say a word, or has heard one, in the place of what it ought to do. */
const before = (word: string, act: string): string => `
  const send = process.send?.bind(process);
  process.send = (said, ...rest) => {
    const go = () => send(said, ...rest);
    if (said.word !== ${JSON.stringify(word)}) return go();
    ${act}
  };
  require('./sound.cjs');`;

/** What one does as soon as it knows what there is to take over. */
const atEstate = (act: string): string => `
  process.on('message', ({ word }) => {
    if (word === 'estate') ${act};
  });
  require('./sound.cjs');`;

test('an agent hands over to its successor', {
  skip: available.ok ? false : available.why,
  timeout: 1_200_000,
}, async (t) => {
  const directories = new Map([1, 2, 3].map((node) => [node, builtFor(node)]));
  await using cluster = await Cluster.prepare({
    name: 'hand-over',
    diskMib: [64, 64],
    config: PATIENT,
    // Whoever dies here comes back.
    fencing: () => '{ methods: [manual] }',
  });
  for (const [node, directory] of directories) cluster.install(node, join(directory, 'mdmesh'));
  const chapter = chapters(t, cluster);
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  const watched = 3 * REGION_BLOCKS;

  let laid = 0;
  /** From now on whoever is started on this node is that, as a package lays it. null: the program as it was built. */
  async function lay(node: NodeId, text: string | null): Promise<void> {
    const directory = directories.get(node) ?? '';
    laid += 1;
    const path = join(cluster.lab.workDir, `program-${laid}.mjs`);
    writeFileSync(path, text ?? readFileSync(join(directory, 'sound.cjs')));
    // By the guest: it would not see what the host puts in the place of a file that it has read.
    await cluster.lab.guest(node).must(`cd ${directory}; cp ${path} mdmesh.new; mv mdmesh.new mdmesh.cjs`);
  }

  async function handOver(node: NodeId): Promise<{ ok: boolean; text: string }> {
    return JSON.parse(await cluster.ask(node, '/v1/hand-over', { body: null, timeoutMs: 100_000 }));
  }

  /** By this node, and the process that is the agent afterwards. */
  async function handsOver(node: NodeId): Promise<number> {
    const { startedAt } = await cluster.status(node);
    const { ok, text } = await handOver(node);
    assert.ok(ok, text);
    await cluster.until(`the successor on node ${node} answers`, 30_000, async () => {
      return (await cluster.status(node)).startedAt !== startedAt;
    });
    return Number(/process (\d+)/.exec(text)?.[1]);
  }

  /** What writers in regions of their own, on all nodes, had to wait for at most while something was done. */
  async function underWatch(name: string, act: () => Promise<unknown>): Promise<void> {
    const options = { blocksANode: WATCHED_BLOCKS, startBlock: watched, ratePerSecond: 50, depth: 1 };
    const others = await Writers.start(cluster, { name: `watch-${watched}`, ...options });
    await act();
    await others.goOn(50);
    for (const { node, latency } of await others.stop())
      console.info(`${name}: node ${node}: longest write ${latency.maxMs} ms`);
  }

  await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
  await cluster.master();
  await createMirror(cluster);
  await leads(cluster, 1);
  await writers.start();

  await chapter('a node that follows', async () => {
    await underWatch('a node that follows', async () => {
      const said = await cluster.must(3, 'hand-over');
      assert.match(said, /^node 3: process \d+ takes over: mdmesh \S+ anew$/m);
    });
    const { resync, writers: listed } = await cluster.open();
    assert.deepEqual({ resync, listed }, { resync: null, listed: [1, 2, 3] });
    // Nobody took it for dead, or said that its writes were held.
    assert.doesNotMatch(cluster.agentLog(1), /NodeDead node\/3|NodeLeft node\/3/);
    assert.doesNotMatch(cluster.agentLog(3), /"event":"WritesDisabled"/);
  });

  await chapter('the master, whose mastership goes to the next and comes back', async () => {
    await underWatch('the master', () => handsOver(1));
    await cluster.open();
    await leads(cluster, 1);
  });

  await chapter('in the middle of a copy: a node that holds its windows, then the one that copies', async () => {
    await cluster.must(1, 'sync-limit md0 1M');
    await cluster.must(1, 'action md0 repair');
    const copies = async () => (await cluster.array(2))?.record.resync ?? null;
    await cluster.until('a repair is under way', 30_000, copies);
    await underWatch('in a copy, a node that follows', () => handsOver(3));
    assert.equal((await copies())?.kind, 'repair');
    await underWatch('in a copy, the one that copies', () => handsOver(1));
    await cluster.must(2, 'sync-limit md0 none');
    await cluster.open();
    await leads(cluster, 1);
    await writers.goOn(cluster.nodes);
  });

  /** It goes on as if nobody had asked. */
  async function refused(node: NodeId, wanted: RegExp): Promise<void> {
    const { startedAt } = await cluster.status(node);
    const { ok, text } = await handOver(node);
    assert.equal(ok, false);
    assert.match(text, wanted);
    assert.equal((await cluster.status(node)).startedAt, startedAt);
    await writers.goOn(cluster.nodes);
  }

  await chapter('a program or a configuration that is no good is refused, and nothing changes', async () => {
    await lay(3, "throw new Error('this is no program');");
    await refused(3, /the new agent .* ended with 1/);
    await lay(3, null);
    const file = cluster.configFile(3);
    const sound = readFileSync(file, 'utf8');
    writeFileSync(file, `${sound}\nno_such_key: 1\n`);
    await refused(3, /the new agent refuses: .*no_such_key/s);
    writeFileSync(file, sound.replace('cluster: { name: demo, uuid: 6f7f', 'cluster: { name: demo, uuid: 7f7f'));
    await refused(3, /cluster: the running agent has 6f7f.*restart the agent instead/);
    writeFileSync(file, sound);
  });

  const successorsOf = (node: NodeId): number[] =>
    [...cluster.agentLog(node).matchAll(/process (\d+) is ready to take over/g)].map(([, pid]) => Number(pid));

  /** Neither the agent nor its successor is there any more. */
  async function bothEnded(node: NodeId): Promise<void> {
    await cluster.until(`the agent of node ${node} has ended`, 30_000, async () => !cluster.agentRuns(node));
    const pid = successorsOf(node).at(-1) ?? 0;
    const alive = async () => (await cluster.lab.guest(node).sh(`kill -0 ${pid}`)).rc === 0;
    await cluster.until(`its successor (process ${pid}) has ended`, 30_000, async () => !(await alive()));
  }

  const held = async (node: NodeId): Promise<boolean> => {
    const read = (name: string) => cluster.lab.guest(node).must(`cat /sys/block/md0/${name}`);
    return (
      Number(await read('md/suspend_lo')) === 0 && Number(await read('md/suspend_hi')) >= Number(await read('size'))
    );
  };

  /** A new one, of the sound program, and all is as before. */
  async function startedAgain(node: NodeId): Promise<void> {
    await lay(node, null);
    await cluster.startAgent(node);
    await cluster.until(`the agent of node ${node} answers`, 60_000, () => cluster.status(node));
    await cluster.open();
    await writers.goOn(cluster.nodes);
  }

  /** As an agent whose end the laboratory notices: the process that it started itself. */
  async function restarted(node: NodeId): Promise<void> {
    const pid = successorsOf(node).at(-1);
    if (cluster.agentRuns(node)) await cluster.stopAgent(node);
    else await cluster.lab.guest(node).must(`kill -TERM ${pid}; while kill -0 ${pid} 2>/dev/null; do sleep 0.1; done`);
    await startedAgain(node);
  }

  for (const [what, program] of [
    ['dies when it is to take over', atEstate('process.exit(9)')],
    ['never says that it keeps the deadline', before('armed', 'return true;')],
  ] as const) {
    await chapter(`a successor that ${what}: the agent holds its writes and ends`, async () => {
      await restarted(3);
      await lay(3, program);
      await handOver(3);
      await bothEnded(3);
      assert.match(cluster.agentLog(3), /hand-over to process \d+ failed: .*writes are held until an agent is started/);
      assert.equal(await held(3), true);
      await startedAgain(3);
    });
  }

  await chapter('the deadline passes on the way: the writes are held, and go on under the successor', async () => {
    await lay(3, before('armed', 'setTimeout(go, 3500); return true;'));
    await handsOver(3);
    await cluster.open();
    await writers.goOn(cluster.nodes);
    await cluster.lab.guest(3).must(`kill -0 ${successorsOf(3).at(-1)}`);
  });

  for (const [what, program] of [
    ['has heard what there is to take over', atEstate("process.kill(process.ppid, 'SIGKILL')")],
    [
      'keeps the deadline, and waits for the word',
      before('armed', "process.kill(process.ppid, 'SIGKILL'); return go();"),
    ],
  ] as const) {
    await chapter(`an agent killed when its successor ${what}: that ends as well, and does nothing`, async () => {
      await lay(1, null);
      await restarted(1);
      await lay(1, program);
      await handOver(1).catch(() => undefined);
      await bothEnded(1);
      await lay(1, null);
      // The unit's ExecStopPost; systemd itself is in package.long.ts.
      await cluster.must(1, 'drop-writes');
      assert.equal(await held(1), true);
      await startedAgain(1);
      await leads(cluster, 1);
    });
  }

  await chapter('a successor killed after it has taken over is an agent that was killed', async () => {
    const pid = await handsOver(3);
    await cluster.lab.guest(3).must(`kill -9 ${pid}`);
    await cluster.must(3, 'drop-writes');
    await startedAgain(3);
  });

  await chapter(
    'a successor that cannot reach the others holds its writes when the grant ends that it took over',
    async () => {
      // It is cut off before it says that it keeps the deadline: from then on nobody but its guard can.
      await lay(3, before('armed', 'setTimeout(go, 1000); return true;'));
      await handOver(3);
      await cluster.lab.cut(3);
      await cluster.until('its writes are held', 30_000, () => held(3));
      await cluster.until('the successor answers', 30_000, () => cluster.status(3));
      await cluster.lab.guest(3).must(`kill -0 ${successorsOf(3).at(-1)}`);
      assert.equal(await held(3), true);
      await cluster.lab.heal(3);
      await cluster.open();
      await writers.goOn(cluster.nodes);
    },
  );

  await chapter('and every acknowledged write of all that stands on both legs', async () => {
    await proveWhole(cluster, writers);
  });
});
