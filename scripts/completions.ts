/**
 * `completions.ts DIRECTORY`: completions for bash (mdmesh), zsh (_mdmesh) and fish (mdmesh.fish), from the command definitions.
 * An argument that names an array is offered the md devices of this machine, one with choices those, any other one files.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command, Option } from 'commander';
import { everyCommand, silentProgram } from './commands_doc.ts';

interface Offer {
  /** Words behind `mdmesh`: `node confirm-dead`; '' for the program itself. */
  path: string;
  description: string;
  subcommands: { name: string; description: string }[];
  options: readonly Option[];
  arrays: boolean;
  files: boolean;
  choices: readonly string[];
}

function offers(): Offer[] {
  return everyCommand(silentProgram()).map((command) => {
    const choices = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
    const names = command.registeredArguments.map((argument) => argument.name());
    const help = command.createHelp();
    return {
      path: pathOf(command),
      description: command.description(),
      subcommands: command.commands.map((each) => ({ name: each.name(), description: each.description() })),
      options: help.visibleOptions(command),
      arrays: names.some((name) => name === 'array' || name === 'md'),
      files: names.some((name) => !['array', 'md', 'node', 'limit', 'action'].includes(name)),
      choices,
    };
  });
}

function pathOf(command: Command): string {
  if (command.parent === null) return '';
  return `${pathOf(command.parent)} ${command.name()}`.trim();
}

const names = ({ long, short }: Option): string[] => [long, short].filter((name) => name != null);
const takesValue = (option: Option): boolean => option.required || option.optional;
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

export function bash(): string {
  const cases = offers().map(({ path, subcommands, options, arrays, files, choices }) => {
    const words = [...subcommands.map(({ name }) => name), ...options.flatMap(names), ...choices].join(' ');
    return `    ${quoted(path)}) words=${quoted(words)} arrays=${arrays ? 1 : ''} files=${files ? 1 : ''} ;;`;
  });
  const values = offers().flatMap(({ path, options }) =>
    options.flatMap((option) => {
      const offered = option.argChoices ?? [];
      return takesValue(option) && !option.variadic
        ? [
            `    ${names(option)
              .map((name) => quoted(`${path}:${name}`))
              .join('|')}) values=${quoted(offered.join(' '))} valued=1 ;;`,
          ]
        : [];
    }),
  );
  const groups = offers()
    .filter(({ subcommands }) => subcommands.length > 0)
    .flatMap(({ path, subcommands }) => subcommands.map(({ name }) => quoted(`${path} ${name}`.trim())));
  return `# bash completion for mdmesh, made by scripts/completions.ts
_mdmesh() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} path= i next words= arrays= files= values= valued=
  for ((i = 1; i < COMP_CWORD; i++)); do
    next="\${path:+$path }\${COMP_WORDS[i]}"
    case $next in
    ${groups.join('|')}) path=$next ;;
    esac
  done
  case $path:$before in
${values.join('\n')}
  esac
  if [[ $valued ]]; then
    if [[ $values ]]; then mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word"); else mapfile -t COMPREPLY < <(compgen -f -- "$word"); fi
    return
  fi
  case $path in
${cases.join('\n')}
  esac
  [[ $arrays && $word != -* ]] && words+=" $(cd /sys/block 2> /dev/null && printf '%s ' md*)"
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  [[ $files && $word != -* ]] && mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$word")
  return 0
}
complete -o filenames -F _mdmesh mdmesh
`;
}

export function zsh(): string {
  // In _arguments, brackets and colons have a meaning.
  const plain = (text: string) => text.replace(/[[\]:\\]/g, (sign) => `\\${sign}`);
  const line = (option: Option): string[] =>
    names(option).map((name) => {
      const value = takesValue(option)
        ? `:${plain(option.attributeName())}:${option.argChoices === undefined ? '_files' : `(${option.argChoices.join(' ')})`}`
        : '';
      return quoted(`*${name}[${plain(option.description)}]${value}`);
    });
  const functions = offers().map(({ path, subcommands, options, arrays, files, choices }) => {
    const name = `_mdmesh${path === '' ? '' : `_${path.replace(/[ -]/g, '_')}`}`;
    const specs = options.flatMap(line);
    if (subcommands.length > 0) {
      const listed = subcommands.map((each) => quoted(`${plain(each.name)}:${plain(each.description)}`)).join(' ');
      const calls = subcommands.map((each) => `    ${each.name}) ${name}_${each.name.replaceAll('-', '_')} ;;`);
      return `${name}() {
  local state line
  local -a commands=(${listed})
  _arguments -C ${[...specs, quoted('1: :->command'), quoted('*:: :->rest')].join(' ')}
  case $state in
  command) _describe command commands ;;
  rest)
    case $line[1] in
${calls.join('\n')}
    esac ;;
  esac
}`;
    }
    const offered = [
      ...(choices.length > 0 ? [`compadd ${choices.join(' ')}`] : []),
      ...(arrays ? ['compadd /sys/block/md*(N:t)'] : []),
      ...(files ? ['_files'] : []),
    ];
    const rest = offered.length === 0 ? [] : [quoted(`*: :{ ${offered.join('; ')} }`)];
    return `${name}() {\n  _arguments ${[...specs, ...rest].join(' ')}\n}`;
  });
  return `#compdef mdmesh\n# Made by scripts/completions.ts\n\n${functions.join('\n\n')}\n\n_mdmesh "$@"\n`;
}

export function fish(): string {
  const all = offers();
  const lines = all.flatMap(({ path, subcommands, options, arrays, files, choices }) => {
    const inner = subcommands.map(({ name }) => name);
    const words = path.split(' ').filter((word) => word !== '');
    const seen = words.map((word) => `__fish_seen_subcommand_from ${word}`);
    const none = inner.length === 0 ? [] : [`not __fish_seen_subcommand_from ${inner.join(' ')}`];
    const when = [...seen, ...none].join('; and ');
    const start = `complete -c mdmesh${when === '' ? '' : ` -n ${quoted(when)}`}`;
    return [
      ...subcommands.map(({ name, description }) => `${start} -f -a ${name} -d ${quoted(description)}`),
      ...options.map((option) => {
        const flags = [
          ...(option.short == null ? [] : [`-s ${option.short.slice(1)}`]),
          ...(option.long == null ? [] : [`-l ${option.long.slice(2)}`]),
        ];
        const value = takesValue(option)
          ? option.argChoices === undefined
            ? ' -r'
            : ` -x -a ${quoted(option.argChoices.join(' '))}`
          : '';
        return `${start} ${flags.join(' ')}${value} -d ${quoted(option.description)}`;
      }),
      ...(arrays ? [`${start} -a '(path basename /sys/block/md* 2>/dev/null)'`] : []),
      ...(choices.length > 0 ? [`${start} -f -a ${quoted(choices.join(' '))}`] : []),
      ...(files || arrays || inner.length > 0 ? [] : [`${start} -f`]),
    ];
  });
  return `# fish completion for mdmesh, made by scripts/completions.ts\n${lines.join('\n')}\n`;
}

if (import.meta.main) {
  const [directory] = process.argv.slice(2);
  if (directory === undefined) throw new Error('usage: completions.ts DIRECTORY');
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'mdmesh'), bash());
  writeFileSync(join(directory, '_mdmesh'), zsh());
  writeFileSync(join(directory, 'mdmesh.fish'), fish());
}
