/**
 * Lease certificates: the signed votes of a majority of the node list. Whoever holds one can show that a true master made
 * a commit; nobody believes a renewal or a commit without it. Where disks decide, the holder's signed word that it won them in
 * a term of its own (docs/quorum.md, "What is provable"), or, before the first set, the votes of all.
 */
import type { NodeId } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import { ownerOfTerm, votesLacking } from '../lease/index.ts';
import type { Event } from '../wire/messages.ts';

export class Certificates {
  /** term → holder, once proved. A term has one holder: two majorities share a voter, and a voter votes once. */
  readonly #proved = new Map<number, NodeId>();
  #lists: readonly (readonly NodeId[])[];
  readonly #byDisks: boolean;
  readonly #open: (sealed: string) => Promise<Event>;

  constructor(lists: readonly (readonly NodeId[])[], byDisks: boolean, open: (sealed: string) => Promise<Event>) {
    this.#lists = lists;
    this.#byDisks = byDisks;
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
        return `certificate of term ${term}: ${textOf(error)}`;
      }
      if (this.#byDisks && event.body.type === 'disk-lease') {
        if (event.body.term !== term || event.origin !== holder || ownerOfTerm(term) !== holder) {
          return `certificate of term ${term}: node ${event.origin} signed that it holds the disks in term ${event.body.term}`;
        }
        this.#prove(term, holder);
        return null;
      }
      if (event.body.type !== 'vote' || event.body.term !== term || event.body.candidate !== holder) {
        return `certificate of term ${term}: node ${event.origin}'s vote is for something else`;
      }
      voters.add(event.origin);
    }
    const needed = votesLacking(this.#lists, voters, this.#byDisks);
    if (needed !== null) return `certificate of term ${term}: ${voters.size} votes, ${needed} needed`;
    this.#prove(term, holder);
    return null;
  }

  #prove(term: number, holder: NodeId): void {
    this.#proved.set(term, holder);
    for (const old of this.#proved.keys()) if (old < term - 1000) this.#proved.delete(old);
  }
}
