/** What docs/security.md says of the unit and of the rates is so. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { defaultTuning } from '#src/net/options.ts';
import { capabilitiesAtStart, capabilitiesKept } from '#src/privileges.ts';

const project = join(import.meta.dirname, '../..');
const doc = readFileSync(join(project, 'docs/security.md'), 'utf8');
const [, statedVersion = '', statedScore = ''] =
  /`systemd-analyze security` \(systemd (\d+)\) rates it (\d+\.\d)/.exec(doc) ?? [];

/** A reason to skip, said aloud once: other versions of systemd weigh differently. */
function otherSystemd(): string | false {
  const { stdout } = spawnSync('systemd-analyze', ['--version'], { encoding: 'utf8' });
  const version = /^systemd (\d+)/.exec(stdout ?? '')?.[1] ?? 'none';
  if (version === statedVersion) return false;
  const why = `the stated score is systemd ${statedVersion}'s; here is ${version}`;
  console.warn(`SKIPPED, the unit's score: ${why}`);
  return why;
}

test('the unit’s score is the one that is stated', { skip: otherSystemd() }, () => {
  const unit = join(project, 'config/mdmesh.service');
  const { stdout, stderr } = spawnSync('systemd-analyze', ['security', '--offline=true', unit], { encoding: 'utf8' });
  assert.equal(/Overall exposure level for mdmesh\.service: (\d+\.\d)/.exec(stdout)?.[1], statedScore, stderr);
});

test('each capability that an agent may keep or is started with stands in the table, and no other', () => {
  const rows = [...doc.matchAll(/^\| `(CAP_[A-Z_]+)` \| .+ \|$/gm)].map((row) => row[1]);
  assert.deepEqual(rows.toSorted(), [...capabilitiesKept, ...capabilitiesAtStart].sort());
});

test('the rates are those that are stated', () => {
  const { framesPerSecond, eventsPerSecond, eventsBurst, bytesPerSecond, streamsPerSecond } = defaultTuning;
  const stated = [
    `${bytesPerSecond / 1024 / 1024} MiB a second, below`,
    `${framesPerSecond} frames a second, and ${eventsPerSecond} sealed events`,
    `a burst of ${eventsBurst}`,
    `${streamsPerSecond} new streams a second`,
  ];
  for (const words of stated) assert.ok(doc.includes(words), words);
});

test('every package is pinned to one version', () => {
  const manifest: Record<string, Record<string, string>> = JSON.parse(
    readFileSync(join(project, 'package.json'), 'utf8'),
  );
  for (const group of ['dependencies', 'devDependencies', 'optionalDependencies']) {
    for (const [name, version] of Object.entries(manifest[group] ?? {})) {
      assert.match(version, /^(npm:@?[a-z0-9/-]+@)?\d+\.\d+\.\d+(-[a-z0-9.]+)?$/, name);
    }
  }
});
