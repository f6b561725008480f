/**
 * Journals of three real nodes: after a failed leg and a fail-over they prove all and agree; one of them is falsified, and
 * named. In the end a node that rewrites its own history is found out by the others while it runs.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import type { Verdict } from '../../src/audit/index.ts';
import { lineOf, makeLink, parseLine } from '../../src/journal/chain.ts';
import { GENESIS_HASH } from '../../src/journal/index.ts';
import { decodeUnverified } from '../../src/wire/index.ts';
import { evicted } from './agent_log.ts';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { createMirror, LastingWriters, leads, proveWhole } from './lasting_writers.ts';
import { slowSwitch } from './slow_switch.ts';

const available = labAvailable();

test('what journals prove', { skip: available.ok ? false : `no laboratory: ${available.why}` }, async (t) => {
  await using cluster = await Cluster.start({
    name: 'audit',
    diskMib: [64, 64, 64],
    config:
      'timing: { failback_after: 4s }\njournal: { checkpoint_entries: 16, checkpoint_after: 5s, rotate_size: 128KiB }',
  });
  const chapter = chapters(t, cluster);
  const { lab } = cluster;
  slowSwitch(cluster);
  await createMirror(cluster);
  const writers = new LastingWriters(cluster);
  const state = (node: number): string => join(cluster.folder(node), 'state');
  const copies = join(lab.workDir, 'copies');
  const copyOf = (node: number): string => join(copies, `node${node}`);

  /** Copies of the journals as they are now, at rest. */
  function copyAll(): void {
    rmSync(copies, { recursive: true, force: true });
    for (const node of cluster.nodes) {
      mkdirSync(copyOf(node), { recursive: true });
      for (const name of readdirSync(state(node)).filter((each) => /^journal[-0-9]*\.jsonl$/.test(each))) {
        cpSync(join(state(node), name), join(copyOf(node), name));
      }
    }
  }

  /** The command itself, on a node. */
  async function audit(words: string): Promise<{ rc: number; verdict: Verdict }> {
    const { rc, out, err } = await cluster.mdmesh(
      3,
      `audit verify --json ${words} ${cluster.nodes.map(copyOf).join(' ')}`,
      120_000,
    );
    assert.ok(out.startsWith('{'), `${rc} ${out} ${err}`);
    return { rc, verdict: JSON.parse(out) };
  }

  const worse = ({ findings }: Verdict) => findings.filter(({ severity }) => severity !== 'note');

  await chapter('a leg fails, the master loses its power and comes back, all under writers', async () => {
    await leads(cluster, 1);
    await writers.start();
    const { ok, text } = await cluster.request(2, { verb: 'fail', array: 'md0', device: '/dev/ubdb' });
    assert.ok(ok, text);
    const added = await cluster.request(2, { verb: 'add', array: 'md0', device: '/dev/ubdc' });
    assert.ok(added.ok, added.text);
    await writers.goOn(cluster.nodes);
    await cluster.open();
    const since = Date.now();
    await lab.guest(1).kill9();
    await cluster.until('node 1 evicted', 30_000, () => evicted(cluster, 1, since));
    writers.forget(1);
    await writers.goOn([2, 3]);
    await cluster.open([2, 3]);
    await lab.guest(1).boot();
    await cluster.startAgent(1);
    await cluster.open();
    await writers.start([1]);
    await writers.goOn(cluster.nodes);
    await proveWhole(cluster, writers);
  });

  await chapter('the journals of all three are proved, vouched for by each other, and agree', async () => {
    await cluster.until('every event is under a checkpoint that others cosigned', 60_000, async () => {
      copyAll();
      const { rc, verdict } = await audit('--peers');
      if (rc !== 0) throw new Error(JSON.stringify(worse(verdict)));
      assert.equal(verdict.outcome, 'proved');
      assert.ok(verdict.commits > 10);
      assert.ok(verdict.terms.length >= 2, JSON.stringify(verdict.terms));
      for (const { files, cosigners } of verdict.journals) {
        assert.ok(files.length > 1, 'the chain goes over several files');
        assert.equal(cosigners.length, 2);
      }
      return true;
    });
  });

  await chapter('one journal is falsified: it is named, and the entry', async () => {
    const file = join(copyOf(2), 'journal.jsonl');
    const before = readFileSync(file);
    const bytes = Buffer.from(before);
    const line = bytes
      .subarray(0, bytes.byteLength / 2)
      .toString('latin1')
      .split('\n').length;
    bytes[bytes.byteLength >> 1] = (bytes[bytes.byteLength >> 1] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    const { rc, verdict } = await audit('');
    assert.equal(rc, 1);
    const [first] = verdict.findings;
    assert.equal(first?.severity, 'broken');
    assert.equal(first?.journal, 'node 2');
    assert.equal(first?.file, file);
    assert.ok(first?.line === line || first?.line === line + 1, `line ${first?.line}, not ${line}: ${first?.text}`);
    assert.ok(verdict.findings.every(({ severity, journal }) => severity !== 'broken' || journal === 'node 2'));
    writeFileSync(file, before);
    assert.equal((await audit('')).rc, 0);
  });

  await chapter('a node whose history was rewritten, chain and all, is told of by the others', async () => {
    await cluster.stopAgent(3);
    const path = state(3);
    const names = readdirSync(path)
      .filter((each) => /^journal[-0-9]*\.jsonl$/.test(each))
      .sort();
    const links = names
      .flatMap((name) => readFileSync(join(path, name), 'utf8').trimEnd().split('\n'))
      .map(parseLine)
      .filter((link) => link !== null);
    const victim = links.findIndex(({ sealed }, index) => index > 5 && decodeUnverified(sealed).origin === 2);
    let prev = GENESIS_HASH;
    const changed = links.toSpliced(victim, 1).map(({ appendedAt, sealed }, index) => {
      const link = makeLink(index + 1, prev, appendedAt, sealed);
      prev = link.hash;
      return link;
    });
    for (const name of names) rmSync(join(path, name));
    writeFileSync(join(path, 'journal.jsonl'), changed.map(lineOf).join(''));
    await cluster.startAgent(3);
    await cluster.open();
    for (const node of [1, 2]) {
      await cluster.until(`node ${node} tells of it`, 60_000, async () => {
        const out = await cluster.must(node, `audit show --type JournalRewritten --json ${state(node)}`);
        return out.includes('"subject":"node/3"');
      });
    }
    copyAll();
    const { rc, verdict } = await audit('');
    assert.equal(rc, 1);
    const accused = verdict.findings.filter(({ severity, rule }) => severity === 'broken' && rule === 'checkpoint');
    assert.ok(
      accused.some(({ text }) => /node 3 signed .*: history was changed/.test(text)),
      JSON.stringify(worse(verdict)),
    );
  });
});
