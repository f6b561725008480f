/** Requests on their way to the master and back: who waits here for which answer, and whom the master has to answer. */
import type { NodeId } from '../arrays/record.ts';
import type { Timers } from './parts.ts';

const ANSWER_MS = 60_000;
/** So long after the master has changed an answer of the former one may be on its way. */
const LATE_MS = 1000;

export interface Answer {
  ok: boolean;
  text: string;
}

/** `undone`: nothing of it was begun, so it may be asked of another master. */
export type MastersAnswer = Answer & { undone?: true | undefined };

export class Requests {
  readonly #timers: Pick<Timers, 'after'>;
  readonly #waiting = new Map<string, { master: NodeId; answer: (answer: MastersAnswer) => void }>();
  readonly #askers = new Map<string, NodeId>();
  #master: NodeId | null = null;

  constructor(timers: Pick<Timers, 'after'>) {
    this.#timers = timers;
  }

  /** The answer to a request that goes to this master now; when none comes, words that say so. */
  answerFrom(master: NodeId, requestId: string): Promise<MastersAnswer> {
    return new Promise((resolve) => {
      const callOff = this.#timers.after(ANSWER_MS, () => {
        this.#waiting.delete(requestId);
        resolve({
          ok: false,
          text: `no answer from the master (node ${master}) within ${ANSWER_MS / 1000} s; see \`mdmesh status\` for what became of it`,
        });
      });
      const answer = (given: MastersAnswer): void => {
        // Left running, it would keep the process from ending for as long.
        callOff();
        resolve(given);
      };
      this.#waiting.set(requestId, { master, answer });
    });
  }

  /** Of the node that waits here. */
  answered(requestId: string, answer: MastersAnswer): void {
    this.#waiting.get(requestId)?.answer(answer);
    this.#waiting.delete(requestId);
  }

  /** Another node leads, or none: who was asked before answers soon, if at all. */
  masterIs(node: NodeId | null): void {
    this.#master = node;
    if (this.#waiting.size === 0) return;
    this.#timers.after(LATE_MS, () => {
      const text = 'the master changed meanwhile; see `mdmesh status` for what became of it';
      for (const [requestId, { master }] of [...this.#waiting])
        if (master !== this.#master) this.answered(requestId, { ok: false, text });
    });
  }

  /** Nobody answers any more. @param text why */
  giveUp(text: string): void {
    for (const requestId of [...this.#waiting.keys()]) this.answered(requestId, { ok: false, text });
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
