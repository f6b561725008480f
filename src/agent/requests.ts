/** Requests on their way to the master and back: who waits here for which answer, and whom the master has to answer. */
import type { NodeId } from '../arrays/record.ts';
import type { Timers } from './parts.ts';

const ANSWER_MS = 60_000;

export interface Answer {
  ok: boolean;
  text: string;
}

export class Requests {
  readonly #timers: Pick<Timers, 'after'>;
  readonly #waiting = new Map<string, (answer: Answer) => void>();
  readonly #askers = new Map<string, NodeId>();

  constructor(timers: Pick<Timers, 'after'>) {
    this.#timers = timers;
  }

  /** The answer to a request that goes to this master now; when none comes, words that say so. */
  answerFrom(master: NodeId, requestId: string): Promise<Answer> {
    return new Promise((resolve) => {
      const callOff = this.#timers.after(ANSWER_MS, () => {
        this.#waiting.delete(requestId);
        resolve({
          ok: false,
          text: `no answer from the master (node ${master}) within ${ANSWER_MS / 1000} s; see \`mdmesh status\` for what became of it`,
        });
      });
      this.#waiting.set(requestId, (answer) => {
        // Left running, it would keep the process from ending for as long.
        callOff();
        resolve(answer);
      });
    });
  }

  /** Of the node that waits here. */
  answered(requestId: string, answer: Answer): void {
    this.#waiting.get(requestId)?.(answer);
    this.#waiting.delete(requestId);
  }

  /** Nobody answers any more. @param text why */
  giveUp(text: string): void {
    for (const answer of this.#waiting.values()) answer({ ok: false, text });
    this.#waiting.clear();
  }

  /** At the master: a node has asked. */
  asked(requestId: string, by: NodeId): void {
    this.#askers.set(requestId, by);
  }

  /** At the master: who has asked, once. undefined: somebody on this node, or nobody. */
  takeAsker(requestId: string): NodeId | undefined {
    const asker = this.#askers.get(requestId);
    this.#askers.delete(requestId);
    return asker;
  }
}
