/** Builds the laboratory's C++ programs into out/lab-bin, once a change of their sources. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const labSources = dirname(dirname(fileURLToPath(import.meta.url)));
export const projectDir = dirname(dirname(labSources));
export const binDir = join(projectDir, 'out', 'lab-bin');

const programs = [
  { name: 'guestd', dir: 'guest', units: ['guestd.cc', 'init.cc', 'dm_table.cc'] },
  { name: 'labswitch', dir: 'guest', units: ['labswitch.cc'] },
  {
    name: 'mdio',
    dir: 'disk_writer',
    units: [
      'mdio.cc',
      'write.cc',
      'verify.cc',
      'read_check.cc',
      'watch.cc',
      'fail.cc',
      'bench.cc',
      'latency.cc',
      'ack_log.cc',
      'line_log.cc',
      'registers.cc',
      'subscribe.cc',
      'clocks.cc',
    ],
  },
] as const;

export type Program = (typeof programs)[number]['name'];

export function programPath(name: Program): string {
  return join(binDir, name);
}

/** Static, because each library a guest must open and map costs milliseconds. Throws with the compiler's words. */
export function buildPrograms(): void {
  mkdirSync(binDir, { recursive: true });
  for (const { name, dir, units } of programs) {
    const sourceDir = join(labSources, dir);
    const digest = createHash('sha256');
    for (const file of readdirSync(sourceDir).sort()) {
      if (/\.(cc|h)$/.test(file)) digest.update(file).update(readFileSync(join(sourceDir, file)));
    }
    const wanted = digest.digest('hex');
    const stamp = join(binDir, `${name}.sources`);
    if (existsSync(programPath(name)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) continue;
    // Two test files may build at once: each makes its own and renames, whoever is last wins with the same bytes.
    const fresh = join(binDir, `.${name}.${process.pid}`);
    const sources = units.map((unit) => join(sourceDir, unit));
    try {
      execFileSync('g++', ['-std=c++20', '-O2', '-static', '-pthread', '-o', fresh, ...sources], { stdio: 'pipe' });
    } catch (error) {
      rmSync(fresh, { force: true });
      throw new Error(`${name} does not compile: ${error instanceof Error ? error.message : error}`);
    }
    renameSync(fresh, programPath(name));
    writeFileSync(stamp, wanted);
  }
}
