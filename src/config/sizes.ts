/** Sizes as people write them, with mdadm's letters. The one place that reads them: the file and the command line share it. */

const KIB_OF_LETTER: Readonly<Record<string, number>> = { K: 1, M: 1024, G: 1024 ** 2, T: 1024 ** 3 };

/**
 * `512K`, `64MiB`, `1.5G` → KiB; null for anything else, and for what is no whole number of KiB. A bare number is refused: its
 * unit would be a guess. So is `64MB`: some mean 64 000 000 by it.
 */
export function parseSizeKib(text: string): number | null {
  const parts = /^(\d{1,12}(?:\.\d{1,6})?)\s*([KMGT])(?:iB)?$/i.exec(text.trim());
  const factor = KIB_OF_LETTER[parts?.[2]?.toUpperCase() ?? ''];
  const sizeKib = Number(parts?.[1]) * (factor ?? Number.NaN);
  return Number.isSafeInteger(sizeKib) ? sizeKib : null;
}

/** The shortest text that parses to the same: 65536 → `64MiB`, 1500 → `1500KiB`. */
export function formatSizeKib(sizeKib: number): string {
  const letters = Object.entries(KIB_OF_LETTER).toReversed();
  const [letter, factor] = letters.find(([, each]) => sizeKib >= each && sizeKib % each === 0) ?? ['K', 1];
  return `${sizeKib / factor}${letter}iB`;
}
