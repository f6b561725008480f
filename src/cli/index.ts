/**
 * cli: the `mdmesh` command, with mdadm's habits. In come the words of a command line; out come text or JSON and an exit
 * code: 0 done, 1 not done, 2 asked wrongly. It talks to the agent over its socket and decides nothing.
 */
import { CommanderError } from 'commander';
import { createContext, type GlobalOptions } from './context.ts';
import { codeOf, Failure, textOf } from './failure.ts';
import { WordError } from './mdadm_words.ts';
import { buildProgram } from './program.ts';
import { harmless, processTerminal, type Terminal } from './terminal.ts';

export { Failure } from './failure.ts';
export { processTerminal, type Terminal } from './terminal.ts';

/**
 * @param argv the words behind the program's name
 * @param calledAs the program's name; as `mdadm` it is mdadm
 *
 * Resolves with the exit code; never rejects.
 */
export async function main(
  argv: readonly string[],
  given: Terminal = processTerminal(),
  calledAs = 'mdmesh',
): Promise<number> {
  const terminal = harmless(given);
  let exitCode = 0;
  try {
    const typed = mdadmWords(argv, calledAs);
    if (typed !== null) {
      const { mdadm } = await import('./mdadm.ts');
      return await mdadm(
        createContext(terminal, () => typed.options),
        typed.argv,
      );
    }
    const program = buildProgram(terminal, (code) => {
      exitCode = code;
    });
    await program.parseAsync(argv, { from: 'user' });
    return exitCode;
  } catch (error) {
    // Commander has said its words already, help and version included.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    terminal.err(`mdmesh: ${textOf(error)}\n`);
    if (error instanceof Failure) return error.exitCode;
    if (error instanceof WordError) return 2;
    // An error that nobody worded: its place in the code is what helps whoever gets the report.
    const isSystemError = codeOf(error) !== null;
    if (!isSystemError && error instanceof Error && error.stack !== undefined) terminal.err(`${error.stack}\n`);
    return 1;
  }
}

/** mdadm's words must reach it untouched: they are taken off before anything here reads options. null: another command. */
function mdadmWords(
  argv: readonly string[],
  calledAs: string,
): { argv: readonly string[]; options: GlobalOptions } | null {
  if (calledAs === 'mdadm') return { argv, options: {} };
  const options: GlobalOptions = {};
  let at = 0;
  for (; at < argv.length; at += 1) {
    const [name, value] = argv[at]?.split(/=(.*)/s) ?? [];
    if (name !== '--config' && name !== '--socket') break;
    const given = value ?? argv[++at];
    if (given !== undefined) options[name === '--config' ? 'config' : 'socket'] = given;
  }
  if (argv[at] !== 'mdadm') return null;
  const words = argv.slice(at + 1);
  return words.length === 1 && (words[0] === '--help' || words[0] === '-h') ? null : { argv: words, options };
}
