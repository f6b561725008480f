/** What every command costs before it does anything: `dist/mdmesh --version`, on this machine itself, the file in its cache. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Measured } from './figure.ts';

const ROUNDS = 50;

export async function oneBinary(): Promise<Measured[]> {
  const binary = join(import.meta.dirname, '../dist/mdmesh');
  if (!existsSync(binary)) throw new Error(`no ${binary}; run make dist`);
  execFileSync(binary, ['--version']);
  const samples: number[] = [];
  for (let count = 0; count < ROUNDS; count++) {
    const startedMs = performance.now();
    execFileSync(binary, ['--version']);
    samples.push(performance.now() - startedMs);
  }
  return [{ name: 'binary_version_ms', unit: 'ms', samples, goal: { atMost: 150 } }];
}
