/**
 * Lease certificates: the signed votes of a majority of the static list. Whoever holds one can show that a true master made
 * a commit; nobody believes a renewal or a commit without it.
 */
import type { NodeId } from '../arrays/record.ts';
import type { Event } from '../wire/messages.ts';

export class Certificates {
  /** term → holder, once proved. A term has one holder: two majorities share a voter, and a voter votes once. */
  readonly #proved = new Map<number, NodeId>();
  readonly #majority: number;
  readonly #open: (sealed: string) => Promise<Event>;

  constructor(nodes: number, open: (sealed: string) => Promise<Event>) {
    this.#majority = Math.floor(nodes / 2) + 1;
    this.#open = open;
  }

  /** Why the certificate does not prove that `holder` is master in `term`; null: it does. */
  async refusal(term: number, holder: NodeId, certificate: readonly string[]): Promise<string | null> {
    const proved = this.#proved.get(term);
    if (proved === holder) return null;
    if (proved !== undefined) return `term ${term} belongs to node ${proved}, not to node ${holder}`;
    const voters = new Set<NodeId>();
    for (const sealed of certificate) {
      let event: Event;
      try {
        event = await this.#open(sealed);
      } catch (error) {
        return `certificate of term ${term}: ${error instanceof Error ? error.message : String(error)}`;
      }
      if (event.body.type !== 'vote' || event.body.term !== term || event.body.candidate !== holder) {
        return `certificate of term ${term}: node ${event.origin}'s vote is for something else`;
      }
      voters.add(event.origin);
    }
    if (voters.size < this.#majority) {
      return `certificate of term ${term}: ${voters.size} votes, ${this.#majority} needed`;
    }
    this.#proved.set(term, holder);
    for (const old of this.#proved.keys()) if (old < term - 1000) this.#proved.delete(old);
    return null;
  }
}
