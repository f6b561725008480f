/**
 * An agent makes way for another process of its program, on real kernels, while all nodes write: on a node that follows, on the master,
 * in the middle of a copy; and what becomes of it where one of the two dies, refuses or hangs, at each moment that matters. Successors that
 * do so are this program with a few lines before it, laid where the running one was started from.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { createMirror, LastingWriters, leads, proveWhole } from './lasting_writers.ts';
import { PATIENT, Writers } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, hand-overs on real kernels: ${available.why}`);

const projectDir = join(import.meta.dirname, '..', '..');
const REGION_BLOCKS = 2000;
const WATCHED_BLOCKS = 1000;

/** A build of its own for a node, so that its program can be replaced under its agent. */
function builtFor(node: NodeId): string {
  const directory = join(projectDir, 'out', 'builds', `hand-over-${node}`);
  const words = ['scripts/bundle.ts', directory, 'native-addon/build/Release/mdmesh.node'];
  const { status, stderr } = spawnSync(process.execPath, words, { cwd: projectDir, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  rmSync(join(directory, 'node'), { force: true });
  symlinkSync(process.execPath, join(directory, 'node'));
  copyFileSync(join(directory, 'mdmesh.mjs'), join(directory, 'sound.mjs'));
  return directory;
}

/** What a successor does when it is about to say a word, or has heard one, in the place of what it ought to do. */
const before = (word: string, act: string): string => `
  const send = process.send.bind(process);
  process.send = (said, ...rest) => {
    const go = () => send(said, ...rest);
    if (said.word !== ${JSON.stringify(word)}) return go();
    ${act}
  };
  await import('./sound.mjs');`;

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
  let watched = 3 * REGION_BLOCKS;

  /** From now on whoever is started on this node is that. null: the program as it was built. */
  function lay(node: NodeId, text: string | null): void {
    const path = join(directories.get(node) ?? '', 'mdmesh.mjs');
    const sound = readFileSync(join(directories.get(node) ?? '', 'sound.mjs'), 'utf8');
    // As a package does it.
    writeFileSync(`${path}.new`, text ?? sound);
    renameSync(`${path}.new`, path);
  }

  async function handOver(node: NodeId): Promise<{ ok: boolean; text: string }> {
    const ask = 'curl -s --max-time 90 -X POST --unix-socket /run/mdmesh/mdmesh.sock http://mdmesh/v1/hand-over';
    const { out, err } = await cluster.lab.guest(node).sh(ask, { timeoutMs: 100_000 });
    assert.notEqual(out, '', err);
    return JSON.parse(out);
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
    for (const { node, latency } of await others.stop()) t.diagnostic(`${name}: node ${node}: longest write ${latency.maxMs} ms`);
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
});
