/** What was thrown may be anything: its words, and the errno name that the system gave it. */

export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The errno name of a system error; null for any other. */
export function codeOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
}
