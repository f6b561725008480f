/** `commands_doc.ts`: writes docs/commands.md, every command's help as `mdmesh … --help` prints it. A test says when to run it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { Terminal } from '../src/cli/index.ts';
import { buildProgram } from '../src/cli/program.ts';

export const commandsDocPath = join(import.meta.dirname, '../docs/commands.md');
const widthColumns = 110;

export function commandsDoc(): string {
  const sections = everyCommand(silentProgram()).map(
    (command) => `## ${fullName(command)}\n\n\`\`\`\n${helpOf(command)}\`\`\`\n`,
  );
  return [
    '# Commands\n',
    'Made from the program itself by `scripts/commands_doc.ts`: what stands here is what `--help` prints.\n',
    ...sections,
  ].join('\n');
}

/** The command definitions, for whatever is made from them. */
export function silentProgram(): Command {
  return buildProgram(silent, () => undefined);
}

/** The program itself, and all commands below it. */
export function everyCommand(program: Command): Command[] {
  return [program, ...program.commands.flatMap(everyCommand)];
}

/** As it is typed: `mdmesh node confirm-dead`. */
export function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}

/** What stands behind a command's options: explanations and examples. */
export function textsAfterHelp(command: Command): string {
  return helpOf(command).slice(command.helpInformation().length);
}

function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
    getOutHelpWidth: () => widthColumns,
    getOutHasColors: () => false,
  });
  command.outputHelp();
  return text.replace(/\n*$/, '\n');
}

const silent: Terminal = {
  out: () => undefined,
  err: () => undefined,
  env: {},
  tty: false,
  interactive: false,
  ask: async () => null,
  onInterrupt: () => () => undefined,
};

if (import.meta.main) writeFileSync(commandsDocPath, commandsDoc());
