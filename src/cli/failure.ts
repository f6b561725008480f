/** Ends a command with words on standard error and an exit code. mdadm's codes: 1 it did not work, 2 it was asked wrongly. */
export class Failure extends Error {
  override name = 'Failure';
  readonly exitCode: number;

  constructor(text: string, exitCode = 1) {
    super(text);
    this.exitCode = exitCode;
  }
}

export class UsageFailure extends Failure {
  override name = 'UsageFailure';

  constructor(text: string) {
    super(text, 2);
  }
}

/** The words of anything thrown. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The errno name of a system error; null for any other. */
export function codeOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
}
