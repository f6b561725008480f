/** Builds the laboratory's C++ programs into out/lab-bin, once a change of their sources. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const labSources = dirname(dirname(fileURLToPath(import.meta.url)));
export const projectDir = dirname(dirname(labSources));
export const binDir = join(projectDir, 'out', 'lab-bin');

const programs = [
  { name: 'guestd', dir: 'guest', units: ['guestd.cc', 'init.cc', 'dm_table.cc'] },
  { name: 'labswitch', dir: 'guest', units: ['labswitch.cc'] },
  { name: 'prefault', dir: 'prefault', units: ['prefault.cc'], preloaded: true },
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
] as const satisfies readonly { name: string; dir: string; units: readonly string[]; preloaded?: true }[];

export type Program = (typeof programs)[number]['name'];

/** Static, because each library a guest must open and map costs milliseconds. */
const FLAGS = ['-static', '-pthread'];
const PRELOADED_FLAGS = ['-shared', '-fPIC', '-fno-exceptions', '-Wall', '-Wextra', '-Werror', '-Wl,--as-needed'];

export function programPath(name: Program): string {
  return join(binDir, name);
}

/** Throws with the compiler's words. */
export function buildPrograms(): void {
  mkdirSync(binDir, { recursive: true });
  for (const { name, dir, units, ...kind } of programs) {
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
      const flags = 'preloaded' in kind ? PRELOADED_FLAGS : FLAGS;
      execFileSync('g++', ['-std=c++20', '-O2', ...flags, '-o', fresh, ...sources], { stdio: 'pipe' });
    } catch (error) {
      rmSync(fresh, { force: true });
      throw new Error(`${name} does not compile: ${error instanceof Error ? error.message : error}`);
    }
    renameSync(fresh, programPath(name));
    writeFileSync(stamp, wanted);
  }
}

/** Which pages a start of the program has in use, as seen on this machine; see prefault/prefault.cc. Made again after each build. */
export function hotPages(): string {
  const list = join(binDir, 'hot-pages');
  const program = join(projectDir, 'out', 'mdmesh.cjs');
  const parts = [process.execPath, program, join(projectDir, 'out', 'program.cjs')].filter((path) => existsSync(path));
  const wanted = parts.map((path) => `${path} ${statSync(path).size} ${statSync(path).mtimeMs}`).join('\n');
  const stamp = `${list}.of`;
  if (existsSync(list) && existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return list;
  const fresh = `${list}.${process.pid}`;
  // An agent that finds no configuration has loaded nearly all.
  const words = existsSync(program) ? [program, 'agent', '--config', '/dev/null/mdmesh.yaml'] : ['-e', '0'];
  const seer = join(labSources, 'prefault', 'hot_pages.ts');
  const { stderr } = spawnSync(process.execPath, ['--no-warnings', '--import', seer, ...words], {
    env: { ...process.env, LAB_HOT_PAGES: fresh },
    encoding: 'utf8',
  });
  if (!existsSync(fresh)) throw new Error(`which pages a start has in use cannot be told: ${stderr}`);
  renameSync(fresh, list);
  writeFileSync(stamp, wanted);
  return list;
}
