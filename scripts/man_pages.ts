/**
 * `man_pages.ts DIRECTORY`: mdmesh.8 from the command definitions and mdmesh.yaml.5 from the annotated example: neither can say
 * something else than the program. man(7) macros, which every man understands.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { VERSION } from '../src/version.ts';
import { everyCommand, fullName, silentProgram, textsAfterHelp } from './commands_doc.ts';

export function commandsPage(): string {
  const program = silentProgram();
  const help = program.createHelp();
  const commands = everyCommand(program).filter((command) => command.parent !== null && command.commands.length === 0);
  return [
    heading('MDMESH', 8),
    '.SH NAME',
    `mdmesh \\- ${roff(program.description().replace(/\.$/, ''))}`,
    '.SH SYNOPSIS',
    '.B mdmesh',
    `.RI [ options ] " command " ...`,
    '.SH DESCRIPTION',
    roff(
      'One agent on each node makes the stock Linux md driver cluster-aware. The commands below speak to the agent of this node, unless they say that they need none.',
    ),
    '.SH OPTIONS',
    ...options(program),
    '.SH COMMANDS',
    ...commands.flatMap((command) => [
      `.SS ${roff(fullName(command))} ${roff(help.commandUsage(command).replace(`${fullName(command)} `, ''))}`,
      roff(`${capital(command.description())}.`),
      ...help
        .visibleArguments(command)
        .filter(({ description }) => description !== '')
        .flatMap((argument) => ['.TP', `.I ${roff(argument.name())}`, roff(help.argumentDescription(argument))]),
      ...options(command),
      ...verbatim(textsAfterHelp(command)),
    ]),
    '.SH EXIT STATUS',
    roff('0: done; 1: not done; 2: wrong usage. Errors go to standard error.'),
    '.SH FILES',
    ...['/etc/mdmesh/mdmesh.yaml', '/etc/mdmesh/key', '/var/lib/mdmesh', '/run/mdmesh/mdmesh.sock'].flatMap((path) => [
      '.TP',
      `.I ${roff(path)}`,
      roff(FILES[path] ?? ''),
    ]),
    '.SH SEE ALSO',
    '.BR mdmesh.yaml (5),',
    '.BR mdadm (8),',
    '.BR md (4)',
    '',
  ].join('\n');
}

const FILES: Readonly<Record<string, string>> = {
  '/etc/mdmesh/mdmesh.yaml': 'The configuration, the same on every node.',
  '/etc/mdmesh/key': "This node's identity. Never copied to another node.",
  '/var/lib/mdmesh': 'Vote file and journal.',
  '/run/mdmesh/mdmesh.sock': 'Where the commands reach the agent.',
};

/** @param example config/mdmesh.example.yaml */
export function configPage(example: string): string {
  return [
    heading('MDMESH.YAML', 5),
    '.SH NAME',
    'mdmesh.yaml \\- configuration of the mdmesh agent',
    '.SH DESCRIPTION',
    roff(
      'A YAML file, the same on every node of the cluster. Below stands every key, with its default and the reason for it; only cluster and nodes must be there. mdmesh config check names every mistake with its line.',
    ),
    '.SH KEYS',
    ...verbatim(example),
    '.SH SEE ALSO',
    '.BR mdmesh (8)',
    '',
  ].join('\n');
}

function heading(title: string, section: number): string {
  return `.TH ${title} ${section} "" "mdmesh ${VERSION}" "mdmesh"\n.nh\n.ad l`;
}

function options(command: Command): string[] {
  const help = command.createHelp();
  return help
    .visibleOptions(command)
    .filter(({ long }) => command.parent === null || long !== '--help')
    .flatMap((option) => ['.TP', `.B ${roff(help.optionTerm(option))}`, roff(help.optionDescription(option))]);
}

function verbatim(text: string): string[] {
  const lines = text.replace(/^\n+|\n+$/g, '');
  return lines === '' ? [] : ['.PP', '.nf', roff(lines), '.fi'];
}

/** Backslashes, hyphens that are to be typed as such, and signs that roff would take for its own at the start of a line. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('`', '\\(ga')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replace(/^\./gm, '\\&.');
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

if (import.meta.main) {
  const [directory] = process.argv.slice(2);
  if (directory === undefined) throw new Error('usage: man_pages.ts DIRECTORY');
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'mdmesh.8'), commandsPage());
  writeFileSync(join(directory, 'mdmesh.yaml.5'), configPage(readFileSync('config/mdmesh.example.yaml', 'utf8')));
}
