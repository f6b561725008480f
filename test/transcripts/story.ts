/**
 * Afternoons of small clusters, told by their own effects and compared line by line with the text beside this file.
 * `UPDATE=1` writes the texts anew: read the difference like a story before you keep it. Times are virtual.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { recorded } from '../model/replay.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';

const NOT_RECORDED: ReturnType<typeof recorded> = { save: () => undefined };

export function story(name: string, options: Partial<ClusterOptions>, tell: (cluster: Cluster) => void): void {
  test(name, () => {
    // The model is of votes.
    const { onFact, save } = options.disks === undefined ? recorded({ nodes: 3, ...options }) : NOT_RECORDED;
    const cluster = new Cluster({ nodes: 3, seed: 1, narrate: 'members', ...options, ...(onFact && { onFact }) });
    tell(cluster);
    save(name);
    const told = `${name}\n\n${cluster.lines.join('\n')}\n`;
    const file = new URL(`./${name.replaceAll(/:? /g, '-')}.txt`, import.meta.url);
    if (process.env.UPDATE) writeFileSync(file, told);
    assert.equal(told, readFileSync(file, 'utf8'));
  });
}

export function started(cluster: Cluster, ms = 3000): void {
  cluster.start(...cluster.ids);
  cluster.run(ms);
}
