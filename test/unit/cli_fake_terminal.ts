import type { Terminal } from '#src/cli/index.ts';

/** A terminal without a screen: keeps what was written, answers from a list, is interrupted by the test. */
export class FakeTerminal implements Terminal {
  written = '';
  complained = '';
  readonly env: Readonly<Record<string, string>>;
  readonly tty: boolean;
  readonly interactive: boolean;
  readonly #answers: string[];
  #interrupt: () => void = () => {};
  #changed: () => void = () => {};

  /** `answers`: what a person types; without it nobody can be asked. */
  constructor(setting: { tty?: boolean; env?: Record<string, string>; answers?: readonly string[] } = {}) {
    this.env = setting.env ?? {};
    this.tty = setting.tty ?? false;
    this.interactive = setting.answers !== undefined;
    this.#answers = [...(setting.answers ?? [])];
  }

  out(text: string): void {
    this.written += text;
    this.#changed();
  }

  err(text: string): void {
    this.complained += text;
    this.#changed();
  }

  async ask(): Promise<string | null> {
    return this.#answers.shift() ?? null;
  }

  onInterrupt(listener: () => void): () => void {
    this.#interrupt = listener;
    return () => {};
  }

  interrupt(): void {
    this.#interrupt();
  }

  /** Resolves once the text has been written, on either stream. */
  async until(text: string): Promise<void> {
    while (!this.written.includes(text) && !this.complained.includes(text)) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }
}
