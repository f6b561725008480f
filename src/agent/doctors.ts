/** `mdmesh doctor` on other nodes: each agent has it made on its own, when it is asked for, and passes its report on. */
import type { NodeId } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import type { Net } from '../net/index.ts';
import type { NodeReport } from '../outlets/index.ts';
import { DOCTOR_REPORT_MAX, type DoctorMessage } from '../wire/messages.ts';
import type { Timers } from './parts.ts';

/** A doctor asks disks and ports, some of which may not answer. */
const ANSWER_MS = 30_000;
/** Whoever asks more often gets the same again: each one is a process. */
const FRESH_MS = 2000;

interface DoctorParts {
  net: Pick<Net, 'send'>;
  timers: Pick<Timers, 'after'>;
  /** A random UUID. */
  uuid(): string;
}

export class Doctors {
  readonly #parts: DoctorParts;
  readonly #look: () => (() => Promise<string>) | null;
  readonly #waiting = new Map<string, { node: NodeId; done: (answer: Omit<NodeReport, 'node'>) => void }>();
  #made: Promise<string> | null = null;

  /** @param look has this node looked at, as the composition root knows how; null: it does not */
  constructor(parts: DoctorParts, look: () => (() => Promise<string>) | null) {
    this.#parts = parts;
    this.#look = look;
  }

  /** What each of these says of itself, or why it does not. */
  ask(nodes: readonly NodeId[]): Promise<NodeReport[]> {
    const { net, timers, uuid } = this.#parts;
    return Promise.all(
      nodes.map(async (node) => {
        const queryId = uuid();
        const answer = await new Promise<Omit<NodeReport, 'node'>>((resolve) => {
          const none = (trouble: string): void => resolve({ report: null, trouble });
          if (!net.send(node, { room: 'doctor', message: { kind: 'query', queryId } })) {
            none('not connected');
            return;
          }
          const callOff = timers.after(ANSWER_MS, () => none(`no answer within ${ANSWER_MS / 1000} s`));
          this.#waiting.set(queryId, {
            node,
            done: (given) => {
              callOff();
              resolve(given);
            },
          });
        });
        this.#waiting.delete(queryId);
        return { node, ...answer };
      }),
    );
  }

  receive(from: NodeId, message: DoctorMessage): void {
    if (message.kind === 'report') {
      const { queryId, report, trouble } = message;
      const waiting = this.#waiting.get(queryId);
      if (waiting?.node === from) waiting.done({ report, trouble });
      return;
    }
    const { queryId } = message;
    const answer = (report: string | null, trouble: string | null): void => {
      this.#parts.net.send(from, { room: 'doctor', message: { kind: 'report', queryId, report, trouble } });
    };
    this.#report().then(
      (report) =>
        report.length <= DOCTOR_REPORT_MAX
          ? answer(report, null)
          : answer(null, `its report has ${report.length} characters, at most ${DOCTOR_REPORT_MAX} are sent`),
      (error: unknown) => answer(null, textOf(error).slice(0, 1000)),
    );
  }

  #report(): Promise<string> {
    if (this.#made !== null) return this.#made;
    const look = this.#look();
    if (look === null) return Promise.reject(new Error('this agent has no doctor'));
    const made = look();
    this.#made = made;
    const forget = (): void => {
      this.#parts.timers.after(FRESH_MS, () => {
        this.#made = null;
      });
    };
    made.then(forget, forget);
    return made;
  }
}
