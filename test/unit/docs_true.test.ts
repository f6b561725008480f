/** What README and docs say is so: commands, dependencies, version, and figures in their place. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { test } from 'node:test';
import type { Command } from 'commander';
import { readMdadmLine } from '#src/cli/mdadm_line.ts';
import { buildProgram } from '#src/cli/program.ts';
import { VERSION } from '#src/version.ts';
import { commandsDoc, commandsDocPath, everyCommand } from '../../scripts/commands_doc.ts';
import { figuresSection, withFigures } from '../../scripts/readme_figures.ts';
import { FakeTerminal } from './cli_fake_terminal.ts';

const project = resolve(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(project, path), 'utf8');
const manifest: Record<string, Record<string, string>> & { version: unknown } = JSON.parse(read('package.json'));
const pages = ['README.md', ...readdirSync(join(project, 'docs')).map((name) => `docs/${name}`)];
/** Written by hand, unlike docs/commands.md. */
const handwritten = pages.filter((page) => page !== 'docs/commands.md');

function blocks(text: string): string[] {
  return [...text.matchAll(/^```[a-z]*\n([\s\S]*?)^```$/gm)].map((match) => match[1] ?? '');
}

/** Each `mdmesh …` of a shell line, up to what the shell takes for itself. */
function commandsIn(line: string): string[][] {
  return line
    .split(/\s#\s|&&|\|\||[|;>]/)
    .map((part) => part.trim())
    .filter((part) => part.startsWith('mdmesh '))
    .map((part) => part.split(/\s+/).slice(1));
}

/** Parses with the program's own rules; nothing is done. null: it fits. */
async function complaint(argv: string[]): Promise<string | null> {
  if (argv[0] === 'mdadm') return readMdadmLine(argv.slice(1)).mode === 'other' ? 'not one for the agent' : null;
  const terminal = new FakeTerminal();
  const program = buildProgram(terminal, () => undefined);
  for (const command of everyCommand(program)) if (command.commands.length === 0) command.action(() => undefined);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return null;
  } catch (error) {
    return terminal.complained || String(error);
  }
}

/** Words in running text may leave arguments out; command and options must be there. */
function unknownWord(argv: string[]): string | null {
  if (argv[0] === 'mdadm') return null;
  let command: Command = buildProgram(new FakeTerminal(), () => undefined);
  const options = [...command.options];
  for (const word of argv) {
    const inner = command.commands.find((each) => each.name() === word);
    if (inner !== undefined) {
      command = inner;
      options.push(...inner.options);
    } else if (word.startsWith('-')) {
      const name = word.split('=')[0];
      if (!options.some(({ long, short }) => name === long || name === short)) return word;
    } else if (command.commands.length > 0) return word;
  }
  return null;
}

for (const page of handwritten) {
  test(`${page}: every mdmesh command in it is one`, async () => {
    const text = read(page);
    const shell = blocks(text).flatMap((block) => block.split('\n').flatMap(commandsIn));
    for (const argv of shell) assert.equal(await complaint(argv), null, `mdmesh ${argv.join(' ')}`);
    const inline = [...text.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/`(mdmesh [^`]+)`/g)];
    for (const [, words = ''] of inline) {
      const argv = words.replace(/\s*…$/, '').split(/\s+/).slice(1);
      assert.equal(unknownWord(argv), null, words);
    }
  });
}

test('the check of commands sees wrong ones', async () => {
  for (const line of [
    'mdmesh bogus',
    'mdmesh status --bogus',
    'mdmesh create md0 /dev/sdb',
    'mdmesh mdadm --assemble --scan',
  ]) {
    const [argv = []] = commandsIn(`${line}  # why`);
    assert.notEqual(await complaint(argv), null, line);
  }
  assert.equal(unknownWord(['node', 'bury']), 'bury');
  assert.equal(unknownWord(['stop', '--bogus']), '--bogus');
});

for (const page of pages) {
  test(`${page}: every link leads to a file`, () => {
    for (const [, target = ''] of read(page).matchAll(/\]\(([^)#\s]+)[^)]*\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      assert.ok(existsSync(join(project, dirname(page), target)), target);
    }
  });
}

test('docs/commands.md is what the commands’ help says', () => {
  assert.equal(
    readFileSync(commandsDocPath, 'utf8'),
    commandsDoc(),
    'out of date: run scripts/commands_doc.ts with the Node of this tree',
  );
});

test('README’s table of dependencies has each package once, and no other, with a reason', () => {
  const groups = ['dependencies', 'devDependencies', 'optionalDependencies'];
  const wanted = groups.flatMap((group) => Object.keys(manifest[group] ?? {})).sort();
  const section = read('README.md').split('## Dependencies')[1]?.split('\n## ')[0] ?? '';
  const packages = section.split('### System packages')[0] ?? '';
  const rows = [...packages.matchAll(/^\| (`.+?`) \| (.+) \|$/gm)];
  const named = rows.flatMap(([, names = '']) => [...names.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? ''));
  assert.deepEqual(named.sort(), wanted);
  for (const [, names, reason = ''] of rows) assert.ok(reason.length > 20, `${names}: ${reason}`);
});

test('README’s table of system packages is what scripts/system_packages.sh installs', () => {
  const wanted = /^wanted="([^"]+)"/m.exec(read('scripts/system_packages.sh'))?.[1] ?? '';
  const packages = wanted.split(' ').map((pair) => pair.split(':')[1] ?? '');
  const section = read('README.md').split('### System packages')[1]?.split('\n## ')[0] ?? '';
  const named = [...section.matchAll(/^\| (`.+?`) \|/gm)].flatMap(([, names = '']) =>
    [...names.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? ''),
  );
  assert.deepEqual(named.sort(), [...new Set(packages)].sort());
});

test('every package that src imports is a dependency', () => {
  const files = readdirSync(join(project, 'src'), { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('.ts'),
  );
  const imported = files.flatMap((file) =>
    [...read(`src/${file}`).matchAll(/(?:from|import\() ?'((?:@[^/']+\/)?[^./#'][^/']*)/g)].map(
      (match) => match[1] ?? '',
    ),
  );
  const packages = new Set(imported.filter((name) => !name.startsWith('node:')));
  for (const name of packages) assert.ok(name in (manifest.dependencies ?? {}), name);
  assert.ok(packages.size > 10, 'the search finds imports');
});

test('README’s list of rooms is src', () => {
  const rooms = readdirSync(join(project, 'src'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
  const layout = blocks(read('README.md')).find((block) => block.startsWith('src/\n')) ?? '';
  const named = [...layout.matchAll(/^ {2}([a-z]+)\/ /gm)].map((match) => match[1] ?? '');
  assert.deepEqual(named.sort(), rooms.sort());
});

test('one version everywhere', () => {
  assert.equal(VERSION, manifest.version);
});

test('figures go between the marks, and nothing else changes', () => {
  const machine = { day: '2026-01-02', kernel: '6.1.0', architecture: 'x64', cores: 2 };
  const figures = [{ name: 'a | b', unit: 'ms', median: 1.5, p99: 2, max: 3, n: 12, peer: 5.4, ratio: 0.28 }];
  const section = figuresSection(figures, machine);
  assert.match(section, /^Measured on 2026-01-02: .*Linux 6\.1\.0, x64, 2 cores/);
  assert.match(section, /\n\| a \\\| b \| ms \| 1\.5 \| 2 \| 3 \| 12 \| 5\.4 \| 0\.28 \|$/);
  const text = 'before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n';
  assert.equal(withFigures(text, 'new'), 'before\n<!-- bench -->\nnew\n<!-- /bench -->\nafter\n');
  assert.throws(() => withFigures('<!-- bench -->', 'new'), /there must be one/);
  const readme = read('README.md');
  assert.notEqual(withFigures(readme, section), readme);
});
