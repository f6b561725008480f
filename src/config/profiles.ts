import type { Timing } from './index.ts';

/**
 * One switch or a campus SAN: round trips well below a millisecond.
 *
 * Each value may be overridden in `timing:`; the relations between them that safety rests on are checked in checks.ts.
 */
export const LAN: Readonly<Timing> = Object.freeze({
  // A dead node is suspected after one probe and its indirect tries: about half a second.
  probeIntervalMs: 300,
  // Far above a LAN's worst round trip, yet leaving room for the indirect probes within the interval.
  probeTimeoutMs: 200,
  // SWIM's k: with three, one lossy path seldom accuses a living node.
  indirectProbes: 3,
  // Five chances within R: one lost renewal, or four, cost nothing.
  renewMs: 400,
  // R: how long writers of a lost master can go on; also the longest pause of writes after its death, together with L.
  holderMs: 2000,
  // L: R times 1.5, so that holder and voter may disagree by half about how long a second is.
  voterMs: 3000,
  // W: longer than R, so that the guard's own drop comes first; whole seconds, because watchdog drivers count in them.
  watchdogMs: 5000,
  // A node that flaps must not make the mastership flap with it.
  failbackAfterMs: 10_000,
  // Two probe intervals and some: enough for a living lower ID to be heard before a starting node stands.
  settleMs: 800,
  // A vote is one fsync and one round trip; a second without a majority means that something is wrong.
  candidacyTimeoutMs: 1000,
});

/** Nodes on several sites: round trips up to some 200 ms, loss, and routers that take seconds to converge. */
export const WAN: Readonly<Timing> = Object.freeze({
  // Leaves a lost packet the time to be sent again by TCP.
  probeIntervalMs: 1500,
  // A round trip of 200 ms and one retransmission.
  probeTimeoutMs: 1000,
  indirectProbes: 3,
  // Five chances within R, as on a LAN.
  renewMs: 2000,
  // R: outlasts a route's change; a dead master is noticed that much later.
  holderMs: 10_000,
  // L: 1.5 times R.
  voterMs: 15_000,
  // W: longer than R.
  watchdogMs: 15_000,
  // A hand-over between sites is dearer than on a LAN.
  failbackAfterMs: 60_000,
  // Two probe intervals and some.
  settleMs: 4000,
  // An fsync and a slow round trip, sent again once or twice.
  candidacyTimeoutMs: 5000,
});

export const PROFILES: Readonly<Record<'lan' | 'wan', Readonly<Timing>>> = Object.freeze({ lan: LAN, wan: WAN });
