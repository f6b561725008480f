/**
 * cli: the `mdmesh` command, with mdadm's habits. In come the words of a command line; out come text or JSON and an exit
 * code: 0 done, 1 not done, 2 asked wrongly. It talks to the agent over its socket and decides nothing.
 */
import { CommanderError } from 'commander';
import { codeOf, Failure, textOf } from './failure.ts';
import { WordError } from './mdadm_words.ts';
import { buildProgram } from './program.ts';
import { processTerminal, type Terminal } from './terminal.ts';

export type { Terminal } from './terminal.ts';

/** @param argv the words behind the program's name. Resolves with the exit code; never rejects. */
export async function main(argv: readonly string[], terminal: Terminal = processTerminal()): Promise<number> {
  let exitCode = 0;
  const program = buildProgram(terminal, (code) => {
    exitCode = code;
  });
  try {
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
