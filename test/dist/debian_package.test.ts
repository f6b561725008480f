/** The Debian package, apart from what it does on a node, which test/lab/package.long.ts tells. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { FEATURE_MESH_OWNED } from '#src/md/superblock.ts';
import { everyCommand, fullName, silentProgram } from '../../scripts/commands_doc.ts';

const project = join(import.meta.dirname, '../..');
const has = (program: string) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
/** A reason to skip, said aloud once. */
function without(program: string, what: string): string | false {
  if (has(program)) return false;
  console.warn(`SKIPPED, ${what}: no program ${program}; run make packages as root`);
  return `no program ${program}`;
}

suite('the Debian package', { skip: without('dh', 'the Debian package') }, () => {
  const folder = join(project, 'out/dist-package');
  const content = join(folder, 'content');
  let file: string;

  before(() => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    // In place of a hundred megabytes, which lintian and the compressor take a minute for.
    const script = join(folder, 'program');
    writeFileSync(script, '#!/bin/sh\nexec true\n', { mode: 0o755 });
    const words = [process.execPath, folder, script];
    file = execFileSync(join(project, 'scripts/deb.sh'), words, { encoding: 'utf8' }).trim();
    execFileSync('dpkg-deb', ['--extract', file, content]);
    execFileSync('dpkg-deb', ['--control', file, join(folder, 'control')]);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test('lintian finds nothing', { skip: without('lintian', 'lintian') }, () => {
    const { stdout, stderr } = spawnSync('lintian', ['--fail-on', 'error,warning', '--allow-root', file], {
      encoding: 'utf8',
    });
    assert.equal(stdout.replace(/^N: .*\n/gm, ''), '', stderr);
  });

  test('the unit is one that systemd understands', {
    skip: without('systemd-analyze', 'systemd-analyze verify'),
  }, () => {
    const unit = join(folder, 'mdmesh.service');
    // The program and its pages are not installed here.
    const text = readFileSync(join(content, 'lib/systemd/system/mdmesh.service'), 'utf8');
    writeFileSync(unit, text.replaceAll('/usr/bin/mdmesh', '/bin/true').replace(/^Documentation=.*\n/m, ''));
    const { stdout, stderr, status } = spawnSync('systemd-analyze', ['verify', unit], { encoding: 'utf8' });
    assert.deepEqual([status, stdout, stderr], [0, '', '']);
  });

  test('every script of the package is one that a POSIX shell reads', () => {
    const scripts = ['postinst', 'prerm', 'postrm'].map((name) => join(folder, 'control', name));
    scripts.push(join(content, 'usr/lib/mdmesh/is-member'), join(content, 'usr/share/initramfs-tools/hooks/mdmesh'));
    for (const path of scripts) execFileSync('sh', ['-n', path]);
  });

  test('both manual pages are there, and man has nothing to complain about', {
    skip: without('man', 'the manual pages'),
  }, () => {
    for (const [path, words] of [
      ['man8/mdmesh.8.gz', everyCommand(silentProgram()).map(fullName)],
      ['man5/mdmesh.yaml.5.gz', ['candidacy_timeout: 1s']],
    ] as const) {
      const page = join(content, 'usr/share/man', path);
      const env = { ...process.env, LC_ALL: 'C.UTF-8', MANWIDTH: '120' };
      const { stdout, stderr } = spawnSync('man', ['--warnings', '--local-file', page], { encoding: 'utf8', env });
      assert.equal(stderr, '');
      const text = stdout.replaceAll('‐', '-');
      for (const word of words.filter((each) => !['mdmesh', 'mdmesh config', 'mdmesh node'].includes(each))) {
        assert.ok(text.includes(word), `${path}: ${word}`);
      }
    }
  });

  test('bash completes commands, subcommands, options and their values', () => {
    const script = join(content, 'usr/share/bash-completion/completions/mdmesh');
    const complete = (...words: string[]): string[] => {
      const typed = words.map((word) => `'${word}'`).join(' ');
      const program = `. '${script}'; COMP_WORDS=(mdmesh ${typed}); COMP_CWORD=${words.length}; _mdmesh; printf '%s\\n' "\${COMPREPLY[@]}"`;
      return execFileSync('bash', ['-c', program], { encoding: 'utf8' })
        .split('\n')
        .filter((line) => line !== '');
    };
    assert.deepEqual(complete('sta'), ['status']);
    assert.deepEqual(complete('node', '').sort(), ['--help', '-h', 'confirm-dead', 'force-list']);
    assert.ok(complete('create', '--').includes('--raid-devices'));
    assert.deepEqual(complete('create', '--access', 's'), ['shared']);
    assert.ok(complete('action', 'md0', 're').includes('repair'));
  });

  test('zsh reads its completions', { skip: without('zsh', 'zsh completions') }, () => {
    execFileSync('zsh', ['-n', join(content, 'usr/share/zsh/vendor-completions/_mdmesh')]);
  });

  test('fish reads its completions', { skip: without('fish', 'fish completions') }, () => {
    execFileSync('fish', ['--no-execute', join(content, 'usr/share/fish/vendor_completions.d/mdmesh.fish')]);
  });

  test('is-member tells a member of a cluster from one of mdadm', () => {
    const isMember = join(content, 'usr/lib/mdmesh/is-member');
    const directory = mkdtempSync(join(tmpdir(), 'mdmesh-member-'));
    const answer = (name: string, features: number | null, magic = 0xa92b4efc): number | null => {
      const disk = Buffer.alloc(8192);
      if (features !== null) {
        disk.writeUInt32LE(magic, 4096);
        disk.writeUInt32LE(features, 4104);
      }
      writeFileSync(join(directory, name), disk);
      return spawnSync(isMember, [join(directory, name)]).status;
    };
    assert.equal(answer('owned', FEATURE_MESH_OWNED), 0);
    for (const more of [0x9, 0x20000000, 0x80000000]) assert.equal(answer('more', FEATURE_MESH_OWNED + more), 0);
    assert.equal(answer('plain', 0x9), 1);
    assert.equal(answer('high', 0x80000000), 1);
    assert.equal(answer('something-else', FEATURE_MESH_OWNED, 0x12345678), 1);
    assert.equal(answer('empty', null), 1);
    writeFileSync(join(directory, 'short'), 'x');
    assert.equal(spawnSync(isMember, [join(directory, 'short')]).status, 1);
    assert.equal(spawnSync(isMember, [join(directory, 'none')]).status, 1);
    rmSync(directory, { recursive: true });
  });

  test('the initramfs gets rule, script and od', () => {
    const hook = join(content, 'usr/share/initramfs-tools/hooks/mdmesh');
    assert.equal(execFileSync(hook, ['prereqs'], { encoding: 'utf8' }), 'udev\n');
    const text = readFileSync(hook, 'utf8');
    for (const path of ['63-mdmesh.rules', '/usr/lib/mdmesh/is-member', '/usr/bin/od']) assert.ok(text.includes(path));
    assert.ok(existsSync(join(content, 'lib/udev/rules.d/63-mdmesh.rules')));
    assert.deepEqual(readdirSync(join(content, 'usr/lib/mdmesh')), ['is-member']);
  });
});
