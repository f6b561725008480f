/** dist/mdmesh, as `make dist` made it: what it needs, what it says of itself, and that the same sources make the same bytes. */
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { VERSION } from '#src/version.ts';
import { OneAgent } from '../browser/one_agent.ts';

const project = join(import.meta.dirname, '../..');
const dist = join(project, 'dist');
const binary = join(dist, 'mdmesh');
const root = process.getuid?.() === 0;
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

function temporary(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'mdmesh-dist-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test('it is one file of at most 115 MB, and SHA256SUMS is true', () => {
  assert.ok(statSync(binary).size <= 115e6, `${statSync(binary).size} bytes`);
  const lines = readFileSync(join(dist, 'SHA256SUMS'), 'utf8').trim().split('\n');
  assert.deepEqual(
    lines.map((line) => line.split('  ')[1]),
    ['mdmesh', 'mdmesh.cdx.json', 'THIRD-PARTY-LICENCES.txt'],
  );
  for (const line of lines) assert.equal(line.split('  ')[0], sha256(join(dist, line.split('  ')[1] ?? '')));
});

test('it runs where there is nothing but the C library: no Node, no shell', {
  skip: root ? false : 'needs root, for chroot',
}, (t) => {
  const directory = temporary(t);
  const libraries = execFileSync('ldd', [binary], { encoding: 'utf8' }).match(/\/\S+(?= \(0x)/g) ?? [];
  assert.ok(libraries.length > 3);
  for (const path of libraries) {
    mkdirSync(join(directory, dirname(path)), { recursive: true });
    copyFileSync(path, join(directory, path));
  }
  mkdirSync(join(directory, 'tmp'));
  copyFileSync(binary, join(directory, 'mdmesh'));
  const run = (...words: string[]) =>
    spawnSync('/usr/sbin/chroot', [directory, '/mdmesh', ...words], { encoding: 'utf8', env: {} });
  const said = run('--version');
  assert.deepEqual([said.stdout, said.stderr, said.status], [`${VERSION}\n`, '', 0]);
  // The addon is loaded for this, out of the file itself, and nothing stays behind.
  const examined = run('examine', '/mdmesh');
  assert.equal(examined.stderr, 'mdmesh: /mdmesh is not a block device; name a disk or a partition\n');
  assert.deepEqual(readdirSync(join(directory, 'tmp')), []);
});

test('where /tmp may not be executed from, the addon comes from elsewhere, or it is said what to do', {
  skip: root ? false : 'needs root',
}, () => {
  const script = 'mount -t tmpfs -o noexec tmpfs /tmp && "$0" examine /etc/passwd';
  const said = spawnSync('unshare', ['--mount', 'sh', '-c', script, binary], { encoding: 'utf8' });
  assert.equal(said.stderr, 'mdmesh: /etc/passwd is not a block device; name a disk or a partition\n');
});

test('behind a link named mdadm it is mdadm, and finds the real one', (t) => {
  const directory = temporary(t);
  mkdirSync(join(directory, 'first'));
  mkdirSync(join(directory, 'second'));
  symlinkSync(binary, join(directory, 'first/mdadm'));
  writeFileSync(join(directory, 'second/mdadm'), '#!/bin/sh\necho "real: $*"; exit 3\n', { mode: 0o755 });
  const env = { PATH: `${join(directory, 'first')}:${join(directory, 'second')}:/usr/bin:/bin` };
  // By its path, and as the shell finds it.
  for (const command of [`${join(directory, 'first/mdadm')} --assemble --scan`, 'mdadm --assemble --scan']) {
    const said = spawnSync('/bin/sh', ['-c', command], { encoding: 'utf8', env });
    assert.deepEqual([said.stdout, said.status], ['real: --assemble --scan\n', 3], said.stderr);
  }
  // A name left in the environment by something else is not its own.
  const own = spawnSync(binary, ['--version'], { encoding: 'utf8', env: { MDMESH_CALLED_AS: '/sbin/mdadm' } });
  assert.equal(own.stdout, `${VERSION}\n`);
});

test('it carries the web page, and the screen of top', async (t) => {
  const agent = await OneAgent.start(t, binary);
  for (const [path, what] of [
    ['/', /<script type="module" src="\/page\.js">/],
    ['/page.js', /mdmesh-cursor/],
    ['/page.css', /prefers-color-scheme/],
  ] as const) {
    const response = await fetch(`${agent.origin}${path}`);
    assert.equal(response.status, 200, path);
    assert.match(await response.text(), what);
  }
  const command = `stty rows 24 cols 90; exec ${binary} --socket ${agent.socketPath} top`;
  const screen = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { PATH: process.env.PATH, TERM: 'xterm' },
  });
  t.after(() => screen.kill('SIGKILL'));
  let drawn = '';
  screen.stdout.setEncoding('utf8').on('data', (text) => {
    drawn += text;
  });
  while (!drawn.includes('q quit')) await once(screen.stdout, 'data');
  assert.match(drawn, /alone/);
  screen.stdin.write('q');
  const [code] = await once(screen, 'exit');
  assert.equal(code, 0);
});

test('what is meant for other programs of Node does not reach it; its own flags are inside', () => {
  const env = { NODE_OPTIONS: '--no-such-flag' };
  const { stderr, status } = spawnSync(binary, ['--version'], { encoding: 'utf8', env });
  assert.equal(status, 0, stderr);
  const flags = /^flags="([^"]+)"$/m.exec(readFileSync(join(project, 'scripts/launcher.sh'), 'utf8'))?.[1] ?? '';
  const packed = readFileSync(binary);
  for (const flag of flags.split(' ')) assert.ok(packed.lastIndexOf(flag) > packed.length - 16e6, flag);
});

test('the bill of materials names the runtime, every package in the bundle, and no tool of the build', () => {
  const bom: {
    bomFormat: string;
    specVersion: string;
    metadata: { component: { hashes: { content: string }[] } };
    components: { name: string; purl: string; licenses: unknown[]; hashes?: unknown[] }[];
  } = JSON.parse(readFileSync(join(dist, 'mdmesh.cdx.json'), 'utf8'));
  assert.deepEqual([bom.bomFormat, bom.specVersion], ['CycloneDX', '1.6']);
  assert.equal(bom.metadata.component.hashes[0]?.content, sha256(binary));
  const purls = bom.components.map(({ purl }) => purl.replace(/@[^@]+$/, ''));
  const manifest: { dependencies: Record<string, string> } = JSON.parse(
    readFileSync(join(project, 'package.json'), 'utf8'),
  );
  // The alias is listed by the name of what it stands for; what is types alone leaves nothing in the bundle.
  for (const name of Object.keys(manifest.dependencies).filter((each) => !each.includes('gossipsub'))) {
    assert.ok(purls.includes(`pkg:npm/${name.replace('@', '%40')}`), name);
  }
  for (const name of [`node-linux-${process.arch}`, '%40libp2p/gossipsub', 'node-addon-api'])
    assert.ok(purls.includes(`pkg:npm/${name}`), name);
  assert.ok(bom.components.some(({ purl }) => /^pkg:(deb\/debian|generic)\/libsodium(-dev)?@/.test(purl)));
  for (const name of ['esbuild', 'postject', 'typescript']) assert.ok(!purls.includes(`pkg:npm/${name}`), name);
  for (const { name, licenses, hashes } of bom.components)
    assert.ok(licenses.length > 0 && (hashes ?? []).length > 0, name);
  const licences = readFileSync(join(dist, 'THIRD-PARTY-LICENCES.txt'), 'utf8');
  assert.match(licences, /\nlibsodium \S+ \(ISC\)\n/);
  for (const { purl } of bom.components.filter(({ name }) => name !== 'libsodium')) {
    const [, name = '', version = ''] = /^pkg:npm\/(.+)@([^@]+)$/.exec(purl) ?? [];
    assert.ok(licences.includes(`\n${name.replace('%40', '@')} ${version} (`), purl);
  }
});

test('the same sources in another directory make the same bytes', { timeout: 300_000 }, (t) => {
  const again = join(project, 'out/dist-again');
  rmSync(again, { recursive: true, force: true });
  t.after(() => rmSync(again, { recursive: true, force: true }));
  mkdirSync(again, { recursive: true });
  const skipped = new Set(['node_modules', 'out', 'dist', '.git', 'build']);
  for (const name of readdirSync(project).filter((each) => !skipped.has(each))) {
    const filter = (path: string) => !skipped.has(basename(path));
    cpSync(join(project, name), join(again, name), { recursive: true, filter, preserveTimestamps: true });
  }
  linkTree(join(project, 'node_modules'), join(again, 'node_modules'));
  execFileSync('make', ['-C', again, 'dist'], {
    stdio: 'pipe',
    env: { ...process.env, TMPDIR: tmpdir(), LC_ALL: 'C' },
  });
  for (const name of readdirSync(join(again, 'dist'))) {
    assert.equal(sha256(join(again, 'dist', name)), sha256(join(dist, name)), `${name} differs`);
  }
  assert.ok(existsSync(join(again, 'dist/mdmesh')));
});

/** Hard links: the same files, without their bytes once more. */
function linkTree(from: string, to: string): void {
  mkdirSync(to);
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) linkTree(source, target);
    else if (entry.isFile()) linkSync(source, target);
  }
}
