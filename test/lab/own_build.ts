/** A build of this tree in a directory of its own below out/builds, so that its program can be another version, or be replaced under an agent. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';

const projectDir = join(import.meta.dirname, '..', '..');

/** @param version as MDMESH_BUILD has it: version, oldest and newest protocol; left out: this tree's. Returns the directory. */
export function ownBuild(name: string, version?: string): string {
  const directory = join(projectDir, 'out', 'builds', name);
  const words = ['scripts/bundle.ts', directory, 'native-addon/build/Release/mdmesh.node'];
  const env = version === undefined ? process.env : { ...process.env, MDMESH_BUILD: version };
  const { status, stderr } = spawnSync(process.execPath, words, { cwd: projectDir, env, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  const node = join(directory, 'node');
  rmSync(node, { force: true });
  symlinkSync(process.execPath, node);
  return directory;
}
