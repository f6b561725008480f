/** What a node keeps on its own disk is lost, torn, or not its own. */
import assert from 'node:assert/strict';
import { appendFileSync, copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { agentLines } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { createMirror, LastingWriters, oneMaster, proveWhole } from './lasting_writers.ts';
import { slowSwitch } from './slow_switch.ts';

const available = labAvailable();

test('what a node keeps is lost', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.start({
    name: 'lost-state',
    diskMib: [64, 64],
    config: 'timing: { failback_after: 4s }',
  });
  const chapter = chapters(t, cluster);
  slowSwitch(cluster);
  await createMirror(cluster);
  const writers = new LastingWriters(cluster);
  const state = (node: number, file = ''): string => join(cluster.folder(node), 'state', file);
  const ready = (node: number, sinceMs: number): boolean =>
    agentLines(cluster, node, sinceMs).some((line) => line.msg.includes('abstained since the start'));

  for (const [what, damage] of [
    ['deleted', () => rmSync(state(3, 'vote.json'))],
    ['half a file', () => writeFileSync(state(3, 'vote.json'), '{"term":7,"cand')],
  ] as const) {
    await chapter(`the vote file of a node is ${what}: it abstains, the cluster goes on`, async () => {
      await writers.start([1, 2]);
      await cluster.stopAgent(3);
      damage();
      const since = Date.now();
      await cluster.startAgent(3);
      await cluster.until('node 3 votes again', 30_000, async () => ready(3, since - 1000));
      await cluster.open();
      await writers.start([3]);
      await proveWhole(cluster, writers);
    });
  }

  await chapter(
    'without its vote file a node helps nobody to a majority until the others have told their terms',
    async () => {
      for (const node of [3, 2, 1]) await cluster.stopAgent(node);
      rmSync(state(3, 'vote.json'));
      const since = Date.now();
      await Promise.all([2, 3].map((node) => cluster.startAgent(node)));
      await cluster.until('nodes 2 and 3 see each other', 20_000, async () => {
        const { nodes } = await cluster.status(3);
        return nodes.find(({ node }) => node === 2)?.status === 'alive';
      });
      await sleep(6000);
      for (const node of [2, 3]) assert.equal((await cluster.status(node)).lease.master, null);
      assert.equal(ready(3, since - 1000), false);
      await cluster.startAgent(1);
      await oneMaster(cluster);
      await cluster.open();
    },
  );

  await chapter('an agent is killed in the middle of a line of its journal: the line is set aside', async () => {
    await writers.start();
    await cluster.agent(2).signal('SIGKILL');
    await cluster.agent(2).exited;
    appendFileSync(state(2, 'journal.jsonl'), '{"cursor":99999,"at":"20');
    await cluster.startAgent(2);
    await cluster.open();
    assert.ok(readdirSync(state(2)).some((name) => name.startsWith('journal.torn-')));
    assert.match(cluster.agentLog(2), /was cut off by a crash/);
    await proveWhole(cluster, writers);
    const { rc, out, err } = await cluster.mdmesh(2, 'journal verify');
    t.diagnostic(`mdmesh journal verify: ${rc} ${out.trim()} ${err.trim().slice(0, 200)}`);
  });

  await chapter(
    'every leg bears an older record than the nodes know: held until an operator says what counts',
    async () => {
      await writers.start();
      await writers.goOn(cluster.nodes);
      const image = cluster.lab.diskImage(0);
      const [leg] = (await cluster.open()).members;
      const before = readFileSync(image).subarray(0, (leg?.dataOffsetSectors ?? 0) * 512);
      await cluster.must(2, 'manage md0 --fail /dev/ubdb');
      await writers.goOn(cluster.nodes);
      await cluster.lab.powerCut();
      for (const node of cluster.nodes) writers.forget(node);
      // As a disk that took very long over a former master's write, or somebody who put a backup of it back.
      writeFileSync(image, before, { flag: 'r+' });
      await cluster.lab.bootAll();
      const since = Date.now();
      await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
      await cluster.until('the array is held', 60_000, async () =>
        cluster.nodes.some((node) =>
          agentLines(cluster, node, since - 1000).some(({ event }) => event === 'ArrayHeld'),
        ),
      );
      const refused = await cluster.mdmesh(3, 'assemble md0');
      assert.notEqual(refused.rc, 0);
      assert.match(refused.err, /knows commit .* mdmesh assemble --force md0 writes again what is known/);
      assert.match(await cluster.must(3, 'assemble --force md0'), /md0 goes on from commit/);
      const { members } = await cluster.open();
      assert.deepEqual(
        members.map(({ role }) => role),
        ['active', 'faulty'],
      );
      await writers.start();
      await writers.goOn(cluster.nodes);
      await cluster.must(1, 'manage md0 --remove failed --add /dev/ubdb');
      await cluster.until('both legs are one again', 60_000, async () => {
        const record = await cluster.opened();
        return record?.resync === null && record.members.every(({ role }) => role === 'active');
      });
      await proveWhole(cluster, writers);
    },
  );

  await chapter("two machines with one node's key: both agents end and say why", async () => {
    // As a cloned machine has it: key and config of node 2, its address changed to the machine's own.
    await cluster.stopAgent(3);
    copyFileSync(join(cluster.folder(2), 'key'), join(cluster.folder(3), 'key'));
    const config = await cluster.lab.guest(3).readFile(cluster.configFile(2));
    const clone = config
      .replaceAll(cluster.folder(2), cluster.folder(3))
      .replace('10.77.0.3,', '10.77.0.99,')
      .replace('10.77.0.2,', '10.77.0.3,');
    writeFileSync(cluster.configFile(3), clone);
    await cluster.startAgent(3);
    const ended = Promise.all([cluster.agent(2).exited, cluster.agent(3).exited]);
    const exits = await Promise.race([ended, sleep(40_000, null, { ref: false })]);
    assert.ok(exits !== null, `they go on: ${cluster.tail(2, 6)}\n${cluster.tail(3, 6)}`);
    for (const [index, { code }] of exits.entries()) {
      assert.equal(code, 1, `exit code of the agent on machine ${index + 2}`);
      assert.match(cluster.agentLog(index + 2), /another agent runs as node 2/);
    }
  });
});
