/** What a measurement gives: its samples, what it should reach, and what others reach; as a table and as JSON. */

export interface Goal {
  /** `atMost` and `atLeast` are about the median, `ratioAtLeast` about the ratio to the peer. */
  atMost?: number;
  atLeast?: number;
  ratioAtLeast?: number;
}

export interface Measured {
  name: string;
  unit: string;
  samples: readonly number[];
  /** What the alternative reaches: md-cluster in the same kind of laboratory, or plain md in the same guest. */
  peer?: number;
  goal?: Goal;
}

export interface Figure {
  name: string;
  unit: string;
  median: number;
  p99: number;
  max: number;
  n: number;
  peer?: number;
  ratio?: number;
}

/** Of sorted samples, the nearest rank. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

const rounded = (value: number): number => Number(value.toPrecision(4));

export function figureOf({ name, unit, samples, peer }: Measured): Figure {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = median(sorted);
  return {
    name,
    unit,
    median: rounded(middle),
    p99: rounded(quantile(sorted, 0.99)),
    max: rounded(sorted.at(-1) ?? Number.NaN),
    n: sorted.length,
    ...(peer === undefined ? {} : { peer: rounded(peer), ratio: rounded(middle / peer) }),
  };
}

function verdict({ goal }: Measured, figure: Figure): string {
  if (goal === undefined) return '';
  if (goal.atMost !== undefined) return `${figure.median <= goal.atMost ? 'yes' : 'NO'} (≤ ${goal.atMost})`;
  if (goal.atLeast !== undefined) return `${figure.median >= goal.atLeast ? 'yes' : 'NO'} (≥ ${goal.atLeast})`;
  if (goal.ratioAtLeast === undefined || figure.ratio === undefined) return '';
  return `${figure.ratio >= goal.ratioAtLeast ? 'yes' : 'NO'} (ratio ≥ ${goal.ratioAtLeast})`;
}

export function tableOf(measured: readonly Measured[]): string {
  const rows = [['name', 'unit', 'median', 'p99', 'max', 'n', 'peer', 'ratio', 'target met']];
  for (const each of measured) {
    const figure = figureOf(each);
    const { name, unit, peer, ratio, n } = figure;
    const numbers = [figure.median, figure.p99, figure.max, n].map(String);
    rows.push([name, unit, ...numbers, String(peer ?? ''), String(ratio ?? ''), verdict(each, figure)]);
  }
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const lines = rows.map((row) =>
    row
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  '),
  );
  return lines.join('\n');
}
