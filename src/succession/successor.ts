/** The old agent's end of the channel: a process that is to take its place. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setPriority } from 'node:os';
import { textOf } from '../error_text.ts';
import { type Estate, estateOf, type Offer, offerOf, type Said, saidIn } from './words.ts';

/** A start takes seconds on a slow machine, beside an agent that goes on. */
const READY_MS = 60_000;
/** Registering a few arrays. Writes may be held for it at last, and a restart does what this cannot. */
const ARMED_MS = 5000;
const HANGS_UP_MS = 200;

export class Successor {
  readonly #child: ChildProcess;
  readonly #said: Said[] = [];
  #ended: string | null = null;
  #heard: () => void = () => undefined;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (message) => {
      const said = saidIn(message);
      if (said !== null) this.#said.push(said);
      this.#heard();
    });
    const ended = (why: string): void => {
      this.#ended ??= why;
      this.#heard();
    };
    child.once('error', (error) => ended(textOf(error)));
    child.once('exit', (code, signal) => ended(`ended with ${signal ?? code}`));
    // Mostly the first that is seen of its end, which has more to tell.
    child.once('disconnect', () => setTimeout(() => ended('hung up'), HANGS_UP_MS).unref());
  }

  /**
   * Starts it and waits until it only needs the word.
   * @param command that ends in the words by which it knows what it is to do
   * @throws Error with its reason, or what became of it: nothing has changed then
   */
  static async start(command: readonly string[], offer: Offer, watchdogFd: number | null): Promise<Successor> {
    const [program = '', ...words] = command;
    const stdio = ['ignore', 'inherit', 'inherit', 'ipc', ...(watchdogFd === null ? [] : [watchdogFd])] as const;
    const successor = new Successor(spawn(program, words, { stdio: [...stdio] }));
    try {
      // What it reads and compiles can wait for this agent; it takes its place among the processes with the rest.
      if (successor.pid !== 0) setPriority(successor.pid, 0);
    } catch {
      // It is gone already, or may not be slowed down.
    }
    try {
      successor.#say(offerOf(offer));
      await successor.#hears('ready', READY_MS);
    } catch (error) {
      successor.end();
      throw error;
    }
    return successor;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Resolves when its guard keeps the deadline. @throws Error */
  async pass(estate: Estate): Promise<void> {
    this.#say(estateOf(estate));
    await this.#hears('armed', ARMED_MS);
  }

  /** From here on it is the agent. @throws Error it is gone */
  async go(): Promise<void> {
    if (this.#ended !== null) throw new Error(this.#whatBecameOfIt());
    await new Promise<void>((resolve, reject) => {
      this.#child.send({ word: 'go' } satisfies Said, (error) => (error === null ? resolve() : reject(error)));
    });
  }

  /** It has taken nothing over, and will not. */
  end(): void {
    this.#child.kill('SIGKILL');
  }

  #say(said: Said): void {
    // Who is gone does not hear it: that shows in what is waited for.
    this.#child.send(said, () => undefined);
  }

  async #hears(word: 'ready' | 'armed', withinMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), withinMs);
    });
    try {
      for (;;) {
        const next = new Promise<void>((resolve) => {
          this.#heard = resolve;
        });
        const said = this.#said.shift();
        if (said?.word === word) return;
        if (said?.word === 'refused') throw new Error(`the new agent refuses: ${said.why}`);
        if (said !== undefined) continue;
        if (this.#ended !== null) throw new Error(this.#whatBecameOfIt());
        if ((await Promise.race([next, late])) === 'late')
          throw new Error(`the new agent (process ${this.pid}) was not ${word} within ${withinMs / 1000} s`);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #whatBecameOfIt(): string {
    return `the new agent (${this.#child.spawnfile}) ${this.#ended}; its words are in the agent's log`;
  }
}
