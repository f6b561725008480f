import { z } from 'zod';

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `300ms`, `2s`, `1.5s`, `2m` → ms; null for anything else. A bare number is refused: its unit would be a guess. */
export function parseDuration(text: string): number | null {
  const parts = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h)$/.exec(text.trim());
  const unitMs = UNIT_MS[parts?.[2] ?? ''];
  return parts === null || unitMs === undefined ? null : Number(parts[1]) * unitMs;
}

/** The shortest text that parses to the same: 2000 → `2s`, 1500 → `1500ms`. */
export function formatDuration(durationMs: number): string {
  if (durationMs > 0 && durationMs % 60_000 === 0) return `${durationMs / 60_000}m`;
  return durationMs > 0 && durationMs % 1000 === 0 ? `${durationMs / 1000}s` : `${durationMs}ms`;
}

/** A day: nothing in mdmesh waits longer, and a timer of Node overflows after 24 of them. */
const LONGEST_MS = 86_400_000;

/** Schema of a duration: text with a unit in, whole ms out. */
export const Duration = z
  .custom<string>((value) => typeof value === 'string' && parseDuration(value) !== null, {
    error: 'is not a time with its unit; write a number and ms, s or m, for example 300ms or 2s',
  })
  .transform((text) => parseDuration(text) ?? 0)
  .refine((durationMs) => Number.isInteger(durationMs) && durationMs > 0 && durationMs <= LONGEST_MS, {
    error: 'is not a whole number of milliseconds between 1ms and 24h; write for example 300ms or 2s',
  });

/** The same with bounds of its own; `why` tells what lies behind them. */
export function durationBetween(leastMs: number, mostMs: number, why: string) {
  return Duration.refine((durationMs) => durationMs >= leastMs && durationMs <= mostMs, {
    error: `is not between ${formatDuration(leastMs)} and ${formatDuration(mostMs)}: ${why}; write a time within these`,
  });
}
