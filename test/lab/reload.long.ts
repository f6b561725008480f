/**
 * What of a cluster is changed while it writes, on real kernels: a node added and one taken off, a key changed, timings raised; and what is not
 * safe is refused with its reason, and changes nothing.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { NodeId } from '../../src/arrays/record.ts';
import { loadIdentity } from '../../src/wire/index.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { LastingWriters, oneMaster, proveWhole } from './lasting_writers.ts';
import { PATIENT } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, reload on real kernels: ${available.why}`);

const REGION_BLOCKS = 2000;
/** Four kernels on two cores. */
const SLOW = PATIENT.replace('{', '{ holder: 4s, voter: 6s,');

test('nodes, keys and timings of a cluster that writes', {
  skip: available.ok ? false : available.why,
  timeout: 1_200_000,
}, async (t) => {
  await using cluster = await Cluster.prepare({ name: 'reload', guests: 4, diskMib: [48, 48], config: SLOW });
  const chapter = chapters(t, cluster);
  const writers = new LastingWriters(cluster, REGION_BLOCKS);
  const three = [1, 2, 3];
  const whole = new Map(cluster.nodes.map((node) => [node, read(node)]));

  function read(node: NodeId): string {
    return readFileSync(cluster.configFile(node), 'utf8');
  }

  /** As an editor does: the line of node `of` in the lists of these nodes' files. */
  function edit(nodes: readonly NodeId[], change: (text: string) => string): void {
    for (const node of nodes) writeFileSync(cluster.configFile(node), change(read(node)));
  }

  const lineOf = (node: NodeId) => new RegExp(`^ {2}- \\{ id: ${node},.*\\n`, 'm');

  const list = async (node: NodeId) => (await cluster.status(node)).list;
  const counts = (on: readonly NodeId[], nodes: readonly NodeId[]) =>
    cluster.until(`the list of ${nodes.join(', ')} on ${on.join(', ')}`, 90_000, async () => {
      const seen = await Promise.all(on.map(list));
      return seen.every((each) => each.nodes.join() === nodes.join() && each.pending === null);
    });

  async function reload(nodes: readonly NodeId[]): Promise<string> {
    let said = '';
    for (const node of nodes) said = await cluster.must(node, 'reload');
    return said;
  }

  edit(three, (text) => text.replace(lineOf(4), ''));
  await Promise.all(three.map((node) => cluster.startAgent(node)));
  await cluster.master(three, 60_000);
  await requestMirrorOnThree();
  await writers.start(three);

  async function requestMirrorOnThree(): Promise<void> {
    const { ok, text } = await cluster.request(1, {
      verb: 'create',
      md: 'md0',
      level: 'raid1',
      raidDisks: 2,
      access: 'shared',
      devices: ['/dev/ubda', '/dev/ubdb'],
    });
    assert.ok(ok, text);
    await cluster.open(three);
  }

  await chapter('an unsafe change is refused, and nothing of its file is taken up', async () => {
    const before = read(1);
    edit([1], (text) => text.replace(lineOf(2), '').replace(lineOf(3), '').replace('demo,', 'other,'));
    const { rc, err } = await cluster.mdmesh(1, 'reload');
    assert.equal(rc, 1);
    assert.match(err, /goes on with what it had/);
    assert.match(err, /cluster: cannot change/);
    assert.match(err, /removes node 2, 3: change one node at a time/);
    writeFileSync(cluster.configFile(1), 'nodes: [');
    assert.match((await cluster.mdmesh(1, 'reload')).err, /has a problem; see them with .mdmesh config check/);
    writeFileSync(cluster.configFile(1), before);
    assert.match(await cluster.must(1, 'reload'), /nothing has changed; node list 0 counts/);
    await writers.goOn(three);
  });

  await chapter('a fourth node is added while three write, and writes too', async () => {
    for (const node of three) writeFileSync(cluster.configFile(node), whole.get(node) ?? '');
    await cluster.startAgent(4);
    await cluster.until('the agent of node 4 answers', 120_000, () => cluster.status(4));
    assert.match(await cluster.must(1, 'reload'), /node list 0 counts until the new one is agreed on: node /);
    await writers.goOn(three);
    await reload([2, 3]);
    await counts([1, 2, 3, 4], [1, 2, 3, 4]);
    await cluster.open(cluster.nodes);
    await writers.start([4]);
    await writers.goOn(cluster.nodes);
  });

  await chapter('a node’s key is changed, first both count, then the new one alone', async () => {
    const keyFile = join(cluster.folder(2), 'key');
    const made = await cluster.must(2, `keygen --next --out ${keyFile}`);
    const next = (await loadIdentity(`${keyFile}.next`)).peerId;
    assert.match(made, new RegExp(`next_peer_id: ${next}`));
    const old = (await loadIdentity(keyFile)).peerId;
    edit(cluster.nodes, (text) => text.replace(`peer_id: ${old} }`, `peer_id: ${old}, next_peer_id: ${next} }`));
    await reload(cluster.nodes);
    await cluster.until('both keys', 90_000, async () => (await list(2)).generation === 2);
    await cluster.must(2, `keygen --use-next --out ${keyFile}`);
    await cluster.must(2, 'reload');
    await cluster.until('node 2 is back', 90_000, async () => (await cluster.status(1)).nodes[1]?.connected === true);
    await writers.goOn(cluster.nodes);
    edit(cluster.nodes, (text) => text.replace(`peer_id: ${old}, next_peer_id: ${next} }`, `peer_id: ${next} }`));
    await reload(cluster.nodes);
    await cluster.until('the new key', 90_000, async () => (await list(2)).generation === 3);
    await oneMaster(cluster);
    await writers.goOn(cluster.nodes);
  });

  await chapter('R and L are raised by SIGHUP, one node after the other', async () => {
    edit(cluster.nodes, (text) => text.replace('holder: 4s, voter: 6s', 'holder: 8s, voter: 12s'));
    for (const node of cluster.nodes) await cluster.agent(node).signal('SIGHUP');
    await cluster.until('a longer lease', 90_000, async () => (await list(3)).generation === 4);
    await writers.goOn(cluster.nodes);
  });

  await chapter(
    'a node that writes is not taken off; once it has stopped it is, and its key is a stranger’s',
    async () => {
      edit(three, (text) => text.replace(lineOf(4), ''));
      assert.match(await reload(three), /node 4 may have writes in flight: stop its agent first/);
      await writers.goOn(cluster.nodes);
      const summaries = await proveWhole(cluster, writers);
      assert.equal(summaries.size, 4);
      await writers.start(three);
      await cluster.stopAgent(4);
      await counts(three, three);
      const refused = async () => (await cluster.status(1)).counters.dialsRefused ?? 0;
      const before = await refused();
      await cluster.startAgent(4);
      await cluster.until('the agent of node 4 answers', 120_000, () => cluster.status(4));
      await cluster.until('it is turned away', 30_000, async () => (await refused()) > before);
      assert.equal((await cluster.status(4)).lease.grantLeftMs, 0);
      await proveWhole(cluster, writers, three);
    },
  );

  await chapter(
    'journals of before, of a node that has left and under a key that was changed, are proved; what it signed since is not',
    async () => {
      for (const node of cluster.nodes) await cluster.stopAgent(node);
      const verified = (nodes: readonly NodeId[]) => {
        const places = nodes.map((node) => `${node}=${join(cluster.folder(node), 'state')}`).join(' ');
        return cluster.mdmesh(1, `audit verify ${places}`);
      };
      const { rc, out } = await verified(three);
      assert.notEqual(rc, 1, out);
      assert.doesNotMatch(out, /BROKEN/);
      const withLeft = await verified(cluster.nodes);
      assert.equal(withLeft.rc, 1);
      const broken = withLeft.out.split('\n').filter((line) => line.includes('BROKEN'));
      assert.ok(broken.length > 0, withLeft.out);
      for (const line of broken) assert.match(line, /event of node 4 \(boot 2, \d+\) signed after that key was taken/);
    },
  );
});
