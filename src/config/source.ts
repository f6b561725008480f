import { isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import type { ConfigProblem } from './index.ts';
import { showValue } from './problems.ts';

export type KeyPath = readonly (string | number)[];

/** A YAML text together with where each of its keys stands, and the problems found in it so far. */
export class Source {
  readonly file: string;
  readonly settings: unknown;
  readonly problems: ConfigProblem[] = [];
  readonly #lines = new LineCounter();
  readonly #root: unknown;

  constructor(text: string, file: string) {
    this.file = file;
    const document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
    this.#root = document.contents;
    for (const error of document.errors) {
      this.problems.push({
        file,
        line: this.#lines.linePos(error.pos[0]).line,
        key: '',
        value: '',
        text: `is not valid YAML: ${error.message}`,
        remedy: 'correct the line; indent with spaces, and write each key once',
      });
    }
    this.settings = document.errors.length === 0 ? document.toJS() : null;
  }

  /** Line of the key at this path, or of the nearest one above it that is there; null for an empty file. */
  line(path: KeyPath): number | null {
    let node = this.#root;
    let offset = isScalar(node) || isMap(node) || isSeq(node) ? node.range?.[0] : undefined;
    for (const step of path) {
      if (isMap(node)) {
        const pair = node.items.find((item) => isScalar(item.key) && item.key.value === step);
        if (pair === undefined) break;
        offset = isScalar(pair.key) ? (pair.key.range?.[0] ?? offset) : offset;
        node = pair.value;
      } else if (isSeq(node) && typeof step === 'number') {
        const item: unknown = node.items[step];
        if (item === undefined) break;
        offset = isScalar(item) || isMap(item) || isSeq(item) ? (item.range?.[0] ?? offset) : offset;
        node = item;
      } else break;
    }
    return offset === undefined ? null : this.#lines.linePos(offset).line;
  }

  value(path: KeyPath): unknown {
    let value = this.settings;
    for (const step of path) {
      if (typeof value !== 'object' || value === null) return undefined;
      value = Object.entries(value).find(([key]) => key === String(step))?.[1];
    }
    return value;
  }

  problem(path: KeyPath, text: string, remedy: string): void {
    this.problems.push(this.notice(path, text, remedy));
  }

  /** Shaped like a problem, but not counted as one: advice. */
  notice(path: KeyPath, text: string, remedy: string): ConfigProblem {
    const key = path.reduce<string>(
      (above, step) => (typeof step === 'number' ? `${above}[${step}]` : above === '' ? step : `${above}.${step}`),
      '',
    );
    return { file: this.file, line: this.line(path), key, value: showValue(this.value(path)), text, remedy };
  }
}
