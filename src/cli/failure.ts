export { codeOf, textOf } from '../error_text.ts';

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
