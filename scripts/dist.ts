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
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { inject } from 'postject';
import { billOfMaterials } from './bill_of_materials.ts';
import { bundle, bundleScreen, bundleStart, compiled, startFlags } from './bundling.ts';
import { licences, packagesIn } from './packages.ts';

/** Marks the place in Node's binary that says whether a blob was put in (Node's documentation, "Single executable applications"). */
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

const [directory, addon] = process.argv.slice(2);
if (directory === undefined || addon === undefined) throw new Error('usage: dist.ts DIRECTORY ADDON');

const parts = join(directory, 'parts');
rmSync(parts, { recursive: true, force: true });
mkdirSync(parts, { recursive: true });

const metafile = await bundle(join(parts, 'program.cjs'), { legalComments: 'none' });
const screen = await bundleScreen(join(parts, 'screen.cjs'));
await bundleStart(join(parts, 'mdmesh.cjs'));
writeFileSync(join(parts, 'program.code'), compiled(process.execPath, join(parts, 'program.cjs')));
// Each start unpacks the program: gzip's little window costs it least.
writeFileSync(join(parts, 'program.cjs.gz'), gzipSync(readFileSync(join(parts, 'program.cjs')), { level: 9 }));
writeFileSync(join(parts, 'screen.cjs.br'), brotliCompressSync(readFileSync(join(parts, 'screen.cjs'))));
copyFileSync(addon, join(parts, 'mdmesh.node'));
execFileSync('strip', ['--strip-unneeded', join(parts, 'mdmesh.node')]);

const assets = ['mdmesh.node', 'program.cjs.gz', 'program.code', 'screen.cjs.br'];
const settings = {
  main: 'mdmesh.cjs',
  output: 'blob',
  disableExperimentalSEAWarning: true,
  execArgv: startFlags(),
  // What stands in NODE_OPTIONS is for other programs of this machine.
  execArgvExtension: 'none',
  assets: Object.fromEntries(assets.map((name) => [name, name])),
};
writeFileSync(join(parts, 'settings.json'), JSON.stringify(settings));
// Relative names only: a path of the machine that builds would stand in the blob.
const made = spawnSync(process.execPath, ['--experimental-sea-config', 'settings.json'], {
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
