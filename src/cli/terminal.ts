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

/** Erases the line that the cursor is in, and goes back to its beginning. */
export const eraseLine = '\r\u001b[K';

/**
 * Words of other nodes, of disks and of programs stand in what a command says: none of them steers the terminal of who reads it. Colours
 * and erased lines, as commands themselves make them, pass; every other control character is written as JSON writes it, so that JSON
 * stays what it was.
 */
export function harmless(terminal: Terminal): Terminal {
  return {
    env: terminal.env,
    tty: terminal.tty,
    interactive: terminal.interactive,
    out: (text) => terminal.out(withoutControls(text)),
    err: (text) => terminal.err(withoutControls(text)),
    ask: (question) => terminal.ask(withoutControls(question)),
    onInterrupt: (listener) => terminal.onInterrupt(listener),
  };
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is searched for
const OWN_OR_CONTROL = /(\u001b\[(?:[012]|3[0-7])m|\r\u001b\[K)|[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

function withoutControls(text: string): string {
  return text.replace(OWN_OR_CONTROL, (found, own) =>
    own === undefined ? `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}` : found,
  );
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
