/**
 * What the pages tell an administrator to type is typed here, on a cluster of real kernels, in the order of the pages: each block with a mark
 * `<!-- lab: NODE -->` before it. The disks are the laboratory's.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { chapters } from './chapters.ts';
import { Cluster } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { leads } from './lasting_writers.ts';
import { PATIENT, startInOrder } from './writers.ts';

const available = labAvailable();
if (!available.ok) console.warn(`SKIPPED, the pages' commands on real kernels: ${available.why}`);

const projectDir = join(import.meta.dirname, '..', '..');
/** Each begins where the one before left the cluster: the last one ends with the array. */
const PAGES = ['start', 'troubleshooting', 'tuning', 'operations'];

interface Block {
  node: number;
  lines: string[];
}

function marked(page: string): Block[] {
  const text = readFileSync(join(projectDir, 'docs', `${page}.md`), 'utf8');
  return [...text.matchAll(/<!-- lab: ([0-9]) -->\n```sh\n([\s\S]*?)```/g)].map(([, node, block = '']) => ({
    node: Number(node),
    lines: block.split('\n').filter((line) => line !== ''),
  }));
}

/** `wait` tells that there was nothing to wait for, `doctor` that there is something to mend: not that it went wrong. */
const mayEndWithOne = /^mdmesh (wait|doctor)\b/;

test('the pages’ commands', { skip: available.ok ? false : available.why, timeout: 1_200_000 }, async (t) => {
  await using cluster = await Cluster.prepare({ name: 'docs', diskMib: [32, 32, 32], config: PATIENT });
  const chapter = chapters(t, cluster);
  await startInOrder(cluster);
  await leads(cluster, 1);
  for (const page of PAGES) {
    const blocks = marked(page);
    assert.ok(blocks.length > 0, `${page}: nothing is marked`);
    for (const { node, lines } of blocks) {
      await chapter(`docs/${page}.md: ${lines[0]} …`, async () => {
        for (const line of lines) {
          const words = line
            .replace(/\s+#.*$/, '')
            .replaceAll(/\/dev\/sd([bcd])/g, (_, letter: string) => `/dev/ubd${'abc'['bcd'.indexOf(letter)]}`);
          assert.match(words, /^mdmesh /, `docs/${page}.md: ${line}`);
          const { rc, out, err } = await cluster.mdmesh(node, words.slice('mdmesh '.length), 120_000);
          const ended = rc === 0 || (rc === 1 && mayEndWithOne.test(words));
          assert.ok(ended, `docs/${page}.md: ${line}\nended with ${rc}: ${err}${out}`);
        }
      });
    }
  }
});
