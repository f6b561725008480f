/**
 * succession: an agent starts its successor on the same node, a newer program as a rule, and makes way for it while applications
 * write. In: the agent's config and what it has to leave. Out: a process that has taken over, or the reason why none has. It knows
 * who may do what in between, nothing of arrays or leases.
 *
 * ```
 *   old agent                                   its successor
 *   starts it, and says who it is   offer ───►  reads its configuration, loads all that takes time; touches nothing
 *                              ◄─── ready       (or refused, with the reason)
 *   gives up a mastership, halts, closes net,
 *   API and journal
 *   says until when writes may pass  estate ─►  its guard keeps that deadline too, over every array
 *                              ◄─── armed
 *   tells systemd who the agent is, waits until
 *   that is known; ends its guard       go ──►  opens journal and vote file, and is the agent
 *   ends
 * ```
 *
 * At each moment a guard keeps the deadline that the master gave, or the node is where the death of an agent leaves it:
 * - The old one dies before `go`: the successor, which without that word does nothing, ends at once. For systemd the main process
 *   has died (whichever it was by then), and ExecStopPost holds the arrays before an agent is started; elsewhere a watchdog, where
 *   there is one, resets the node.
 * - The successor dies before `estate`: the old one goes on as if nobody had asked.
 * - It dies, refuses or hangs between `estate` and `go`: the old one holds its arrays and ends with 1, to be started anew.
 * - It dies after `go`: an agent was killed, as any other.
 * - The deadline passes meanwhile: whichever guard is armed holds the arrays. An old one that was about to do so does it, to the end,
 *   before it says `go`: the successor may take what is held for drained.
 * - The watchdog is never closed: both have the same descriptor of it, and both pet.
 */
export { type Predecessor, predecessor } from './predecessor.ts';
export { Successor } from './successor.ts';
export { type Estate, type Offer, WATCHDOG_FD } from './words.ts';
