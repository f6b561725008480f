/**
 * Lease certificates: the signed votes of a majority of the node list. Whoever holds one can show that a true master made
 * a commit; nobody believes a renewal or a commit without it.
 */
import type { NodeId } from '../arrays/record.ts';
import { isMajorityOfEach } from '../roster/index.ts';
import type { Event } from '../wire/messages.ts';

export class Certificates {
  /** term → holder, once proved. A term has one holder: two majorities share a voter, and a voter votes once. */
  readonly #proved = new Map<number, NodeId>();
  #lists: readonly (readonly NodeId[])[];
  readonly #open: (sealed: string) => Promise<Event>;

  constructor(lists: readonly (readonly NodeId[])[], open: (sealed: string) => Promise<Event>) {
    this.#lists = lists;
    this.#open = open;
  }

  /**
   * A majority of any of these is enough: while one list follows another, a master may have been elected over the old one, over both,
   * or over the new one before this node heard that it alone counts.
   */
  goBy(lists: readonly (readonly NodeId[])[]): void {
    this.#lists = lists;
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
    if (!this.#lists.some((list) => isMajorityOfEach([list], voters))) {
      const [list = []] = this.#lists;
      return `certificate of term ${term}: ${voters.size} votes, ${Math.floor(list.length / 2) + 1} needed`;
    }
    this.#proved.set(term, holder);
    for (const old of this.#proved.keys()) if (old < term - 1000) this.#proved.delete(old);
    return null;
  }
}
