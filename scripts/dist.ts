/**
 * `dist.ts DIRECTORY ADDON`: the program as one file that needs nothing installed, `DIRECTORY/mdmesh`, and what an administrator
 * who is to trust it asks for: checksums, a bill of materials (CycloneDX), the licences of everything inside.
 *
 * It is Node's "single executable application": the runtime of this architecture, stripped, with the bundle, the code that V8
 * compiled of it, and the native addon in a section of their own. The same sources make the same bytes.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { brotliCompressSync } from 'node:zlib';
import { inject } from 'postject';
import { billOfMaterials } from './bill_of_materials.ts';
import { bundle, bundleScreen } from './bundling.ts';
import { licences, packagesIn } from './packages.ts';

/** Marks the place in Node's binary that says whether a blob was put in (Node's documentation, "Single executable applications"). */
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

const [directory, addon] = process.argv.slice(2);
if (directory === undefined || addon === undefined) throw new Error('usage: dist.ts DIRECTORY ADDON');

const parts = join(directory, 'parts');
rmSync(parts, { recursive: true, force: true });
mkdirSync(parts, { recursive: true });

const metafile = await bundle(join(parts, 'mdmesh.cjs'), {
  format: 'cjs',
  legalComments: 'none',
  // Where an ES module finds its own place, the one file has none.
  define: { 'import.meta.dirname': 'undefined', 'import.meta.main': 'false', 'import.meta': '{}' },
});
const screen = await bundleScreen(join(parts, 'screen.cjs'));
for (const name of ['mdmesh.cjs', 'screen.cjs']) {
  writeFileSync(join(parts, `${name}.br`), brotliCompressSync(readFileSync(join(parts, name))));
}
copyFileSync(addon, join(parts, 'mdmesh.node'));
execFileSync('strip', ['--strip-unneeded', join(parts, 'mdmesh.node')]);

// V8 takes compiled code only under the flags that it was compiled with, so the blob is made under those of every start.
const flags = /^flags="([^"]+)"$/m.exec(readFileSync('scripts/launcher.sh', 'utf8'))?.[1]?.split(' ');
if (flags === undefined) throw new Error('scripts/launcher.sh has no line flags="…"');
const settings = {
  main: 'mdmesh.cjs',
  output: 'blob',
  disableExperimentalSEAWarning: true,
  useCodeCache: true,
  execArgv: flags,
  // What stands in NODE_OPTIONS is for other programs of this machine.
  execArgvExtension: 'none',
  // The bundle once more: a thread cannot be started from the code that the binary itself starts from.
  assets: { 'mdmesh.node': 'mdmesh.node', 'mdmesh.cjs.br': 'mdmesh.cjs.br', 'screen.cjs.br': 'screen.cjs.br' },
};
writeFileSync(join(parts, 'settings.json'), JSON.stringify(settings));
// The compiled code holds tables in the order of V8's hashes, which are random unless it is given where to begin. That flag
// alone does not count when compiled code is compared with a start's flags. Relative names only: a path of the machine that
// builds would stand in the blob.
const made = spawnSync(process.execPath, [...flags, '--random-seed=1', '--experimental-sea-config', 'settings.json'], {
  cwd: parts,
  env: {},
  encoding: 'utf8',
});
if (made.status !== 0) throw new Error(`node --experimental-sea-config: ${made.stderr}`);

const program = join(parts, 'mdmesh');
copyFileSync(process.execPath, program);
chmodSync(program, 0o755);
// Before the blob is put in: afterwards, strip would take it for something to throw away.
execFileSync('strip', [program]);
const { warn } = console;
// One line for each section of notes, whose names postject's reader of ELF files does not find and does not need.
console.warn = (text: string) => (/Can't find string offset for section name/.test(text) ? undefined : warn(text));
await inject(program, 'NODE_SEA_BLOB', readFileSync(join(parts, 'blob')), { sentinelFuse: FUSE });
console.warn = warn;

const packages = packagesIn({ ...metafile, inputs: { ...metafile.inputs, ...screen.inputs } });
const results = {
  mdmesh: program,
  'mdmesh.cdx.json': join(parts, 'mdmesh.cdx.json'),
  'THIRD-PARTY-LICENCES.txt': join(parts, 'THIRD-PARTY-LICENCES.txt'),
};
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
writeFileSync(results['mdmesh.cdx.json'], billOfMaterials(packages, sha256(program)));
writeFileSync(results['THIRD-PARTY-LICENCES.txt'], licences(packages));
const sums = Object.entries(results).map(([name, path]) => `${sha256(path)}  ${name}\n`);
// Renamed into place: a running agent has the old one mapped.
for (const [name, path] of Object.entries(results)) renameSync(path, join(directory, name));
writeFileSync(join(directory, 'SHA256SUMS'), sums.join(''));
rmSync(parts, { recursive: true });
process.stdout.write(`${resolve(directory)}: ${Object.keys(results).join(', ')}, SHA256SUMS\n`);
