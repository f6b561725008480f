/** What befell a simulated cluster, for people: one line each, the cluster's time first. Of a long run the end is kept. */
import type { NodeId } from '#src/arrays/record.ts';

const LINES_KEPT = 30_000;

export class Transcript {
  readonly #now: () => number;
  #lines: string[] = [];
  #dropped = 0;

  /** @param now the cluster's time in ms */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param who a node, or what else acts: `fault`, `operator`, `checker` */
  say(who: string, text: string): void {
    this.#lines.push(`${(this.#now() / 1000).toFixed(4).padStart(10)}  ${who.padEnd(8)}  ${text}`);
    if (this.#lines.length < 2 * LINES_KEPT) return;
    this.#dropped += this.#lines.length - LINES_KEPT;
    this.#lines = this.#lines.slice(-LINES_KEPT);
  }

  /** What an agent logs, with why. */
  heard(node: NodeId, level: string, text: string, fields: object): void {
    const { why: reason, detail } = fields as { why?: unknown; detail?: { why?: unknown } };
    const said = reason ?? detail?.why;
    const why = said === undefined ? '' : `: ${String(said)}`;
    this.say(`node ${node}`, `${level === 'info' ? '' : `${level}: `}${text}${why}`);
  }

  text(): string {
    const head = this.#dropped === 0 ? [] : [`(${this.#dropped} lines before these were not kept)`];
    return `${[...head, ...this.#lines].join('\n')}\n`;
  }
}
