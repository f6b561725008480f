/**
 * Two agents with one node ID (a cloned machine, a key copied by hand) would vote twice. A peer of theirs sees it first.
 *
 * A Hello of another boot alone proves nothing: that is what a restart looks like, and after `kill -9` the new agent may
 * say Hello before the old one's sockets are gone. Proof is an old boot that speaks after the new one did: boot A, then
 * boot B, then A again on a connection that was opened after B's Hello came in. Its handshake needs a living A; bytes of
 * A that were only late, or a connection of A that was only half closed, cannot make it. Nor can a Hello of B's that was late, as of
 * one that was killed on a slow line and started again at once as A: B's connection must be younger than A's first Hello, by more than
 * its handshake may be late.
 */
import type { NodeId } from '../arrays/record.ts';

interface Sighting {
  firstHelloMs: number;
  lastHelloMs: number;
  /** When the connection of the last Hello was opened. */
  openedMs: number;
}

/** What somebody has sent before its end may come so much later. */
export const lateMs = 2000;

/** How long each of the two is told so on its connections: both should hear it, a later restart should not. */
export const proofHoldsMs = 10_000;
/** A boot not heard of for this long is over. */
const sightingHoldsMs = 60_000;

export class BootWitness {
  readonly #sightings = new Map<NodeId, Map<string, Sighting>>();
  readonly #proofs = new Map<NodeId, { boots: string[]; atMs: number }>();

  /** @returns the boots that share the node ID, when there is proof of it that names this boot; else null */
  hello(node: NodeId, boot: string, connectionOpenedMs: number, nowMs: number): string[] | null {
    const boots = this.#sightings.get(node) ?? new Map<string, Sighting>();
    this.#sightings.set(node, boots);
    for (const [other, seen] of boots) if (nowMs - seen.lastHelloMs > sightingHoldsMs) boots.delete(other);
    const before = boots.get(boot);
    if (before !== undefined) {
      const rivals = [...boots].filter(
        ([other, seen]) =>
          other !== boot && seen.openedMs >= before.firstHelloMs + lateMs && seen.lastHelloMs < connectionOpenedMs,
      );
      if (rivals.length > 0) {
        const proven = [boot, ...rivals.map(([other]) => other)].slice(0, 8);
        this.#proofs.set(node, { boots: proven, atMs: nowMs });
      }
    }
    boots.set(boot, {
      firstHelloMs: before?.firstHelloMs ?? nowMs,
      lastHelloMs: nowMs,
      openedMs: connectionOpenedMs,
    });
    const proof = this.#proofs.get(node);
    if (proof === undefined || nowMs - proof.atMs > proofHoldsMs || !proof.boots.includes(boot)) return null;
    return proof.boots;
  }
}
