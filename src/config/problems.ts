import type { ConfigProblem } from './index.ts';

/** One line a problem, in the order of the file: `file:12: timing.holder = 2x: is not a time with its unit; write …`. */
export function formatProblems(problems: readonly ConfigProblem[]): string {
  return problems.map(formatProblem).join('\n');
}

function formatProblem(problem: ConfigProblem): string {
  const place = problem.line === null ? problem.file : `${problem.file}:${problem.line}`;
  const what = [problem.key, problem.value].filter((part) => part !== '').join(' = ');
  return `${place}: ${what === '' ? '' : `${what}: `}${problem.text}; ${problem.remedy}`;
}

export function sortProblems(problems: readonly ConfigProblem[]): ConfigProblem[] {
  return problems.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0));
}

/** A value as a reader of the file would know it again; long ones cut. */
export function showValue(value: unknown): string {
  if (value === undefined) return '';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

/** The known key that a mistyped one most likely means; null if none is near. */
export function nearestKey(typed: string, known: readonly string[]): string | null {
  const plain = (key: string) => key.toLowerCase().replaceAll(/[-_]/g, '');
  let best: { key: string; distance: number } | null = null;
  for (const key of known) {
    const distance = editDistance(plain(typed), plain(key));
    if (best === null || distance < best.distance) best = { key, distance };
  }
  return best !== null && best.distance <= Math.max(1, Math.floor(typed.length / 3)) ? best.key : null;
}

/** Damerau–Levenshtein (adjacent letters swapped count as one mistake), the restricted form. */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number) => rows[row]?.[column] ?? Number.POSITIVE_INFINITY;
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j++) {
      const change = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = swapped ? at(i - 2, j - 2) + 1 : Number.POSITIVE_INFINITY;
      row.push(Math.min(change, swap, at(i - 1, j) + 1, at(i, j - 1) + 1));
    }
  }
  return at(a.length, b.length);
}
