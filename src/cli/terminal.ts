/** What a command sees of the outside: two streams, the environment, a person who may be there. Tests bring their own. */
import { createInterface } from 'node:readline/promises';

export interface Terminal {
  out(text: string): void;
  err(text: string): void;
  env: Readonly<Record<string, string | undefined>>;
  /** Standard output is a terminal. */
  tty: boolean;
  /** A person can be asked. */
  interactive: boolean;
  /** One line as an answer; null at the end of input. */
  ask(question: string): Promise<string | null>;
  /** Called at SIGINT and SIGTERM. Returns the way to stop that. */
  onInterrupt(listener: () => void): () => void;
}

/** Colour on a terminal alone, and never against NO_COLOR (https://no-color.org: any value but the empty one). */
export function wantsColour(terminal: Terminal): boolean {
  return terminal.tty && (terminal.env.NO_COLOR ?? '') === '' && terminal.env.TERM !== 'dumb';
}

export function processTerminal(): Terminal {
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    env: process.env,
    tty: process.stdout.isTTY === true,
    interactive: process.stdin.isTTY === true && process.stderr.isTTY === true,
    async ask(question) {
      const lines = createInterface({ input: process.stdin, output: process.stderr });
      try {
        const closed = new Promise<null>((resolve) => lines.once('close', () => resolve(null)));
        return await Promise.race([lines.question(question), closed]);
      } finally {
        lines.close();
      }
    },
    onInterrupt(listener) {
      process.once('SIGINT', listener);
      process.once('SIGTERM', listener);
      return () => {
        process.off('SIGINT', listener);
        process.off('SIGTERM', listener);
      };
    },
  };
}
